"""One tile of a sheet: a part of a slice at a given scale, and what geometry says about its place.

Tiles show slices upright (`shared.orientation`), in the proportions of the patient. `Window` turns pixels and marks
alike, so all that draws a slice gives points and boxes in pixels of the file.
"""

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from shared.geometry import LEFT, FloatArray, Plane
from shared.labels import View
from shared.orientation import Orientation
from shared.study import Slice

# Letters of DICOM's patient orientation along +x, +y, +z of LPS, and against them.
_TOWARDS: Final = ("L", "P", "H")
_AGAINST: Final = ("R", "A", "F")
RIGHT, MIDLINE, LEFT_SIDE = "R", "M", "L"
_BARS_MM: Final = (5, 10, 20, 50, 100)


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The part of a slice that a tile shows, and its scale.

    Attributes:
      center_px: pixel (x, y) of the slice in the middle of the tile.
      size_px: width and height of the tile in pixels of the sheet.
      px_per_mm: pixels of the sheet per mm of the patient, the same along x and y.
    """

    center_px: tuple[float, float]
    size_px: tuple[int, int]
    px_per_mm: float

    def to_tile(self, plane: Plane, points_px: NDArray[np.float64]) -> NDArray[np.float64]:
        """Pixel points (x, y) of the slice to pixels of the tile, (n, 2) -> (n, 2) or (2,) -> (2,)."""
        middle = (np.asarray(self.size_px) - 1) / 2
        return (np.asarray(points_px) - np.asarray(self.center_px)) @ self._matrix(plane).T + middle

    def render(self, pixels: NDArray[np.uint8], plane: Plane) -> NDArray[np.uint8]:
        """Grey values of the tile, [rows, columns] -> [height, width]; black outside the slice."""
        zoom = self._zoom(plane)
        # The slice is finer than the tile: low-pass it first, against aliasing.
        sigma = 0.5 * np.sqrt(np.clip((1 / zoom) ** 2 - 1, 0, None))
        if sigma.max() > 0.1:
            x, y = (max(float(s), 1e-3) for s in sigma)
            pixels = np.asarray(cv2.GaussianBlur(pixels, (0, 0), sigmaX=x, sigmaY=y), dtype=np.uint8)
        matrix = np.column_stack([self._matrix(plane), self.to_tile(plane, np.zeros(2))])
        method = cv2.INTER_LINEAR if zoom.min() < 1 else cv2.INTER_CUBIC
        return np.asarray(cv2.warpAffine(pixels, matrix, self.size_px, flags=method), dtype=np.uint8)

    def _matrix(self, plane: Plane) -> NDArray[np.float64]:
        """Pixels of the sheet for a step (x, y) in the slice, [2, 2]."""
        return Orientation.upright(plane).matrix * self._zoom(plane)

    def _zoom(self, plane: Plane) -> NDArray[np.float64]:
        """Pixels of the sheet per pixel of the slice, along x and y, [2]."""
        dy, dx = plane.spacing_mm
        return np.array([dx, dy]) * self.px_per_mm


def scale_bar_mm(per_mm: float, longest: float) -> int:
    """Length of a scale bar: the longest round one that fits, or else the shortest.

    Args:
      per_mm: units of the picture for a millimetre of the patient.
      longest: what the bar may take, in the same units.
    """
    return max((bar for bar in _BARS_MM if bar * per_mm <= longest), default=_BARS_MM[0])


def field_mm(item: Slice) -> tuple[float, float]:
    """Width and height of a slice in mm, once it is upright."""
    dy, dx = item.plane.spacing_mm
    width, height = item.shape[1] * dx, item.shape[0] * dy
    return (height, width) if Orientation.upright(item.plane).transposed else (width, height)


def middle_px(item: Slice) -> tuple[float, float]:
    """Pixel (x, y) of the middle of a slice."""
    return (item.shape[1] - 1) / 2, (item.shape[0] - 1) / 2


def toward(direction: FloatArray) -> str:
    """The letter of the patient direction (LPS) nearest to a vector: L, R, P, A, H or F."""
    axis = int(np.argmax(np.abs(direction)))
    return _TOWARDS[axis] if direction[axis] > 0 else _AGAINST[axis]


def image_left(plane: Plane) -> str:
    """The patient direction that the upright picture's left edge faces: R on an axial slice, A on a sagittal one."""
    along_x = Orientation.upright(plane).matrix[0]
    return toward(-along_x @ np.array([plane.row_dir, plane.col_dir]))


def position_mm(item: Slice, view: View) -> float:
    """Where the middle of a slice lies: patient x of a sagittal slice, patient z of an axial one (LPS)."""
    return float(item.plane.center_mm(item.shape)[0 if view.is_sagittal else 2])


def side_letter(item: Slice, midline_mm: float, tolerance_mm: float) -> str:
    """Which side of the midline (patient x) a sagittal slice lies on: R, L, or M within the tolerance."""
    offset = float(item.plane.center_mm(item.shape) @ LEFT) - midline_mm
    if abs(offset) <= tolerance_mm:
        return MIDLINE
    return LEFT_SIDE if offset > 0 else RIGHT
