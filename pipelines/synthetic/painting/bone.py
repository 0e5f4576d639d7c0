"""What the painters of bone share: smooth noise, marrow, cortex, and the wall behind the canal."""

from typing import Final

import numpy as np

from pipelines.synthetic.anatomy.spine import Float32Array
from pipelines.synthetic.painting.canvas import Region
from pipelines.synthetic.painting.contrast import Tissue

_CORTEX_MM: Final = 0.95
_CORTEX_SPREAD_MM: Final = 0.3
# Forward fall of the canal's back wall per mm to the side.
_ROOF_SLOPE: Final = 0.75


def smoothstep(x: Float32Array) -> Float32Array:
    """0 below 0, 1 above 1, smooth in between."""
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def join(a: Float32Array, b: Float32Array, round_mm: float) -> Float32Array:
    """Signed distance to two bones grown together, the angle between them filled over about `round_mm`."""
    fill = np.clip(1 - np.abs(a - b) * np.float32(1 / round_mm), 0, 1)
    return np.maximum(a, b) + np.float32(0.25 * round_mm) * fill * fill


def paint_bone(r: Region, distance: Float32Array, cover: Float32Array | float = 1.0) -> None:
    """A bone: marrow within a dark cortex, which is nowhere equally thick."""
    some = np.flatnonzero(distance > -r.soft)
    if not len(some):
        return
    r, distance = r.take(some), distance[some]
    cover = cover if isinstance(cover, float) else cover[some]
    cortex = _CORTEX_MM + _CORTEX_SPREAD_MM * r.coarse + 0.12 * r.fine
    r.paint(r.inside(distance) * cover, r.palette[Tissue.CORTEX])
    r.paint(r.inside(distance - cortex, r.soft + 0.6) * cover, marrow(r))


def marrow(r: Region) -> Float32Array:  # [C, n]
    """Marrow signal with its mottling."""
    mottle = r.get("marrow") * (1 + 0.06 * r.fine + 0.08 * r.coarse)
    return r.palette[Tissue.MARROW] * mottle.astype(np.float32)


def back_wall(r: Region) -> Float32Array:  # [n]
    """Where the canal ends behind: laminae and flavum meet in a roof."""
    return r.get("canal_back") - _ROOF_SLOPE * np.maximum(r.a - 1.5, 0)
