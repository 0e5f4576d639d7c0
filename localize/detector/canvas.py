"""Slices resampled onto a canvas of fixed mm per pixel, as the detectors see them, and the way back to slice pixels."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from shared.geometry import FloatArray
from shared.study import Slice

# Canvas sides are multiples of the detector's coarsest grid.
STRIDE_PX = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Canvas:
    """The position of a resampled slice on its canvas.

    Attributes:
      shape: rows and columns of the canvas.
      resized: rows and columns of the resampled slice, before it is padded or cropped.
      scale_xy: canvas pixels per slice pixel.
      offset_xy: canvas position of the resampled slice's top-left pixel; negative where it is cropped.
    """

    shape: tuple[int, int]
    resized: tuple[int, int]
    scale_xy: tuple[float, float]
    offset_xy: tuple[int, int]

    def to_canvas(self, points_px: ArrayLike) -> FloatArray:
        """Converts slice pixels (x, y) to canvas pixels, (n, 2) -> (n, 2)."""
        return (np.asarray(points_px, np.float64) + 0.5) * self.scale_xy - 0.5 + self.offset_xy

    def to_slice(self, points: ArrayLike) -> FloatArray:
        """Converts canvas pixels (x, y) to slice pixels, (n, 2) -> (n, 2)."""
        return (np.asarray(points, np.float64) - self.offset_xy + 0.5) / self.scale_xy - 0.5

    def boxes_to_canvas(self, boxes_xyxy: ArrayLike) -> FloatArray:
        """(n, 4) -> (n, 4)."""
        return self.to_canvas(np.asarray(boxes_xyxy, np.float64).reshape(-1, 2)).reshape(-1, 4)

    def boxes_to_slice(self, boxes_xyxy: ArrayLike) -> FloatArray:
        """(n, 4) -> (n, 4)."""
        return self.to_slice(np.asarray(boxes_xyxy, np.float64).reshape(-1, 2)).reshape(-1, 4)


def fit_canvas(
    item: Slice,
    mm_per_px: float,
    image_px: tuple[int, int],
    *,
    crop: bool,
    center_px: tuple[float, float] | None = None,
) -> Canvas:
    """The canvas for a slice.

    With `crop` the canvas has `image_px` rows and columns, and a larger slice is cropped around `center_px`, by default
    its own centre. Without `crop` the canvas grows to hold the whole slice.
    """
    (rows, columns), (dy, dx) = item.shape, item.plane.spacing_mm
    resized = (max(1, round(rows * dy / mm_per_px)), max(1, round(columns * dx / mm_per_px)))
    scale_xy = (resized[1] / columns, resized[0] / rows)
    grown = (max(image_px[0], _grown(resized[0])), max(image_px[1], _grown(resized[1])))
    shape = image_px if crop else grown
    center = center_px or ((columns - 1) / 2, (rows - 1) / 2)

    def offset(size: int, inner: int, middle: float) -> int:
        if inner <= size:
            return (size - inner) // 2
        return int(np.clip(round(size / 2 - middle), size - inner, 0))

    offset_xy = (
        offset(shape[1], resized[1], (center[0] + 0.5) * scale_xy[0]),
        offset(shape[0], resized[0], (center[1] + 0.5) * scale_xy[1]),
    )
    return Canvas(shape=shape, resized=resized, scale_xy=scale_xy, offset_xy=offset_xy)


def _grown(side: int) -> int:
    return -(-side // STRIDE_PX) * STRIDE_PX


def render(pixels: NDArray[np.uint8], canvas: Canvas) -> NDArray[np.uint8]:  # canvas.shape
    """Resamples a slice onto its canvas, which is black outside the slice."""
    rows, columns = canvas.resized
    shrinks = rows < pixels.shape[0]
    resampled = cv2.resize(pixels, (columns, rows), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    image = np.zeros(canvas.shape, np.uint8)
    left, top = canvas.offset_xy
    target = image[max(top, 0) : top + rows, max(left, 0) : left + columns]
    target[:] = resampled[max(-top, 0) :, max(-left, 0) :][: target.shape[0], : target.shape[1]]
    return image
