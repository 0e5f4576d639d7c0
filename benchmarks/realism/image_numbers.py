"""Simple numbers of MR images that tell real from synthetic: noise, contrast, detail, signal of tissues."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from shared.dicom.intensity import scale_to_8bit
from shared.geometry import FloatArray
from shared.labels import Level
from shared.study import Slice

# Bright signal: this percentile of a slice. Tissue: all above this share of it.
BRIGHT_PERCENTILE: Final = 99.0
TISSUE_SHARE: Final = 0.10
_BLOCK_PX: Final = 12
# Spatial frequencies compared, cycles per mm; scanners resolve up to about .5 / spacing.
FREQUENCIES: Final = np.arange(0.05, 0.65, 0.05)
_FINE: Final = 0.25
_ANTERIOR_MM: Final = 24.0
_SPOT_MM: Final = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageNumbers:
    """Means over some slices of one series; None where the images hold nothing to measure.

    Attributes:
      background_noise: Rayleigh estimate in the darkest blocks over bright signal; 0 where a scanner blanks the air.
      grain: noise within tissue in 8-bit steps (Immerkaer, CVIU 1996, with the median for the mean).
      tissue_share: share of pixels above a tenth of bright signal.
      bright_to_median, median_to_dark: 90th over 50th and 50th over 10th percentile of tissue.
      fine_power: share of the spectral power between .05 and .6 cycles/mm that lies above .25.
    """

    background_noise: float | None
    grain: float | None
    tissue_share: float
    bright_to_median: float | None
    median_to_dark: float | None
    fine_power: float


def measure(raw: Sequence[tuple[NDArray[np.float32], tuple[float, float]]]) -> ImageNumbers:
    """Numbers of images in the scanner's own units with their spacing in mm (rows, columns). At least one image."""
    single = [_measure_one(pixels, spacing) for pixels, spacing in raw]

    def mean(values: Sequence[float | None]) -> float | None:
        known = [v for v in values if v is not None]
        return float(np.mean(known)) if known else None

    return ImageNumbers(
        background_noise=mean([s.background_noise for s in single]),
        grain=mean([s.grain for s in single]),
        tissue_share=float(np.mean([s.tissue_share for s in single])),
        bright_to_median=mean([s.bright_to_median for s in single]),
        median_to_dark=mean([s.median_to_dark for s in single]),
        fine_power=float(np.mean([s.fine_power for s in single])),
    )


def _measure_one(pixels: NDArray[np.float32], spacing_mm: tuple[float, float]) -> ImageNumbers:
    bright = float(np.percentile(pixels, BRIGHT_PERCENTILE))
    tissue = pixels > TISSUE_SHARE * bright
    low, middle, high = np.percentile(pixels[tissue], (10, 50, 90)) if tissue.any() else (0.0, 0.0, 0.0)
    power = spectrum(scale_to_8bit(pixels), spacing_mm)
    return ImageNumbers(
        background_noise=_background(pixels) / bright if bright > 0 else None,
        grain=_grain(scale_to_8bit(pixels), tissue),
        tissue_share=float(tissue.mean()),
        bright_to_median=float(high / middle) if middle > 0 else None,
        median_to_dark=float(middle / low) if low > 0 else None,
        fine_power=float(power[FREQUENCIES >= _FINE].sum() / max(power.sum(), 1e-12)),
    )


def _background(pixels: NDArray[np.float32]) -> float:
    """Noise of the darkest 2% of blocks: magnitude noise without signal is Rayleigh, its mean square 2 sigma^2."""
    rows, columns = (n // _BLOCK_PX * _BLOCK_PX for n in pixels.shape)
    if not rows or not columns:
        return 0.0
    blocks = pixels[:rows, :columns].reshape(rows // _BLOCK_PX, _BLOCK_PX, columns // _BLOCK_PX, _BLOCK_PX)
    squares = (blocks.astype(np.float64) ** 2).mean(axis=(1, 3)).ravel()
    darkest = np.sort(squares)[: max(len(squares) // 50, 1)]
    return float(np.sqrt(darkest.mean() / 2))


def _grain(image: NDArray[np.uint8], tissue: NDArray[np.bool_]) -> float | None:
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], dtype=np.float32)
    response = np.abs(cv2.filter2D(image.astype(np.float32), -1, kernel))
    # Saturated pixels have no noise.
    inside = tissue & (image > 0) & (image < 255)
    return float(np.median(response[inside]) / 0.6745 / 6) if inside.any() else None


def spectrum(image: NDArray[np.uint8], spacing_mm: tuple[float, float]) -> FloatArray:  # [12]
    """Power by spatial frequency, mean over directions, summing to 1 over `FREQUENCIES`.

    Frequencies beyond what the pixels hold have none.
    """
    rows, columns = image.shape
    window = np.outer(np.hanning(rows), np.hanning(columns))
    centred = (image - image.mean()) * window
    power = np.abs(np.fft.rfft2(centred)) ** 2
    frequency = np.hypot(np.fft.fftfreq(rows, spacing_mm[0])[:, None], np.fft.rfftfreq(columns, spacing_mm[1])[None])
    half = (FREQUENCIES[1] - FREQUENCIES[0]) / 2
    bins = [np.abs(frequency - f) <= half for f in FREQUENCIES]
    means = np.array([power[at].mean() if at.any() else 0.0 for at in bins])
    total = means.sum()
    return means / total if total > 0 else means


def tissue_signals(
    pixels: NDArray[np.float32], item: Slice, canal_mm: Mapping[Level, FloatArray]
) -> dict[str, float] | None:
    """Signal of CSF and disc over that of marrow, on a midline sagittal slice.

    CSF is read at the canal's points, disc in front of them, marrow in front of the middle between two neighbours.
    None without two neighbouring levels or where a spot lies outside the picture.
    """
    pairs = [(a, b) for a, b in zip(Level, list(Level)[1:], strict=False) if a in canal_mm and b in canal_mm]
    values: dict[str, list[float]] = {"csf": [], "disc": [], "marrow": []}
    for above, below in pairs:
        down = np.asarray(canal_mm[below]) - np.asarray(canal_mm[above])
        forward = np.array([0.0, down[2], -down[1]])
        forward = forward / max(float(np.linalg.norm(forward)), 1e-9) * _ANTERIOR_MM
        between = (np.asarray(canal_mm[above]) + np.asarray(canal_mm[below])) / 2
        spots = {"csf": canal_mm[above], "disc": canal_mm[above] + forward, "marrow": between + forward}
        for name, spot in spots.items():
            value = _spot(pixels, item, spot)
            if value is not None:
                values[name].append(value)
    if not all(values.values()) or np.median(values["marrow"]) <= 0:
        return None
    marrow = float(np.median(values["marrow"]))
    return {"csf_to_marrow": float(np.median(values["csf"])) / marrow,
            "disc_to_marrow": float(np.median(values["disc"])) / marrow}  # fmt: skip


def _spot(pixels: NDArray[np.float32], item: Slice, point_mm: FloatArray) -> float | None:
    """Median signal within a few mm of a point's projection."""
    x, y = item.plane.to_pixel(point_mm)
    dy, dx = item.plane.spacing_mm
    rows, columns = np.mgrid[: pixels.shape[0], : pixels.shape[1]]
    near = np.hypot((columns - x) * dx, (rows - y) * dy) <= _SPOT_MM
    return float(np.median(pixels[near])) if near.any() else None
