"""Smooth irregularity of one patient: no vertebra is a perfect cylinder and no canal a perfect tube.

A few random waves displace the spine's coordinates. They depend on the place in the patient alone, so every series
shows the same irregular anatomy and the true place of a point stays known.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_WAVES: Final = 4
_LENGTHS_MM: Final = (13.0, 45.0)


class Warp:
    """Displacement (ds, du, dv) as a sum of waves over (s, u, v); all in mm."""

    def __init__(self, seed: int, amplitude_mm: float) -> None:
        rng = np.random.default_rng(seed)
        low, high = np.log(_LENGTHS_MM)
        length = np.exp(rng.uniform(low, high, (3, _WAVES, 1)))
        direction = rng.standard_normal((3, _WAVES, 3))
        direction /= np.linalg.norm(direction, axis=2, keepdims=True)
        self._waves = (2 * np.pi * direction / length).astype(np.float32)
        self._phase = rng.uniform(0, 2 * np.pi, (3, _WAVES)).astype(np.float32)
        # A long wave may displace more than a short one without folding the tissue.
        share = np.sqrt(length[..., 0] / length.mean())
        self._amplitude = (amplitude_mm * np.sqrt(2 / _WAVES) * share).astype(np.float32)

    def offsets(self, s: NDArray[Any], u: NDArray[Any], v: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        """ds, du, dv at some places, each of the places' shape."""
        result = []
        for waves, phase, amplitude in zip(self._waves, self._phase, self._amplitude, strict=True):
            total = np.zeros_like(s)
            for (ks, ku, kv), shift, size in zip(waves, phase, amplitude, strict=True):
                total += size * np.sin(ks * s + ku * u + kv * v + shift)
            result.append(total)
        return tuple(result)

    def undo(self, s: float, u: float, v: float) -> tuple[float, float, float]:
        """The place that is displaced to (s, u, v)."""
        at = np.array([s, u, v])
        for _ in range(8):
            at = np.array([s, u, v]) - np.array([float(d) for d in self.offsets(*at)])
        return float(at[0]), float(at[1]), float(at[2])
