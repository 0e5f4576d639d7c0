"""What a scanner does to a picture: coil shading, blur, ringing, ghosts and noise."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from pipelines.synthetic.anatomy.spine import Float32Array
from pipelines.synthetic.scanner.stack import Stack


@dataclass(frozen=True, slots=True, kw_only=True)
class Artefacts:
    """What a scanner does to a series.

    Attributes:
      noise: Rician noise relative to bright signal.
      coil_mm: decay length of the surface coil's sensitivity away from the back; large means corrected.
      blur_px: in-plane blur.
      gibbs: strength of ringing by truncated k-space, 0..1.
      ghost: strength of a motion ghost.
      bias: amplitude of slow shading.
      saturation: whether a band in front of the spine darkens the abdomen.
      level: digital value of bright signal.
      interpolated: whether the scanner stores a finer matrix than it measured, which makes noise smooth.
    """

    noise: float
    coil_mm: float
    blur_px: float
    gibbs: float
    ghost: float
    bias: float
    saturation: bool
    level: float
    interpolated: bool


def draw_artefacts(rng: np.random.Generator) -> Artefacts:
    """The state of a random scanner."""
    return Artefacts(
        noise=float(rng.uniform(0.004, 0.03)),
        coil_mm=float(rng.choice([rng.uniform(55, 110), rng.uniform(110, 200), 600.0], p=[0.45, 0.35, 0.2])),
        blur_px=float(rng.uniform(0.25, 0.75)),
        gibbs=float(rng.uniform(0.2, 0.8)) if rng.random() < 0.3 else 0.0,
        ghost=float(rng.uniform(0.02, 0.08)) if rng.random() < 0.08 else 0.0,
        bias=float(rng.uniform(0.03, 0.2)),
        saturation=bool(rng.random() < 0.4),
        level=float(rng.choice([rng.uniform(250, 700), rng.uniform(700, 2500)])),
        interpolated=bool(rng.random() < 0.4),
    )


def acquire(
    signal: Float32Array, stack: Stack, artefacts: Artefacts, back_mm: float, rng: np.random.Generator
) -> NDArray[np.uint16]:  # [slices, rows, columns]
    """Magnitude images as stored: 12 bits."""
    rows, columns = stack.shape
    out = np.empty(signal.shape, dtype=np.uint16)
    shading = cv2.resize(
        gaussian_filter(rng.standard_normal((8, 8)), 1.2).astype(np.float32) * 3,
        (columns, rows),
        interpolation=cv2.INTER_CUBIC,
    )
    for k, plane in enumerate(stack.planes):
        image = signal[k]
        y = plane.origin_mm[1] + np.arange(columns) * plane.spacing_mm[1] * plane.row_dir[1]
        if not stack.view.is_sagittal:
            y = (plane.origin_mm[1] + np.arange(rows) * plane.spacing_mm[0] * plane.col_dir[1])[:, None]
        depth = np.clip(back_mm + 35 - y, 0, None).astype(np.float32)
        gain = 0.25 + 1.5 * np.exp(-depth / artefacts.coil_mm)
        if artefacts.saturation:
            gain = gain * (0.3 + 0.7 / (1 + np.exp((depth - 150) / 6)))
        image = image * gain * np.exp(artefacts.bias * shading)
        image = cv2.GaussianBlur(image, (0, 0), artefacts.blur_px)
        if artefacts.gibbs:
            image = _truncate(image, artefacts.gibbs)
        if artefacts.ghost:
            axis, shift = (1, columns // 5) if not stack.view.is_sagittal else (0, rows // 6)
            image = image + artefacts.ghost * (np.roll(image, shift, axis) + np.roll(image, -shift, axis))
        noise = rng.standard_normal((2, rows, columns), dtype=np.float32) * np.float32(artefacts.noise)
        image = np.hypot(image + noise[0], noise[1])
        if artefacts.interpolated:
            image = cv2.GaussianBlur(image, (0, 0), 0.7)
        out[k] = np.clip(image * artefacts.level, 0, 4095)
    return out


def _truncate(image: Float32Array, strength: float) -> Float32Array:
    """Ringing along the phase direction: the outer k-space lines were not measured."""
    k_space = np.fft.rfft(image, axis=0)
    k_space[int(len(k_space) * (0.92 - 0.3 * strength)) :] = 0
    result: Float32Array = np.abs(np.fft.irfft(k_space, n=image.shape[0], axis=0)).astype(np.float32)
    return result
