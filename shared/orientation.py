"""Turns stored pictures upright, whatever the order of their rows and columns.

An upright sagittal slice has anterior on the left and the head at the top. An upright axial slice has the patient's
right on the left and anterior at the top. Detectors and figures show every picture turned this way, so a study that
was exported upside down, transposed or mirrored, with headers that say so, looks like any other.

Files keep the stored pixels: coordinates in CSV and JSON files, and the PNG tree of `lumbar prepare`, because the
annotated coordinates of the challenge refer to them.
"""

from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shared.geometry import HEAD, LEFT, POSTERIOR, FloatArray, Plane, dominant_axis


@dataclass(frozen=True, slots=True, kw_only=True)
class Orientation:
    """The turn from a stored picture to the upright one: first the axes change places, then each may be reversed."""

    transposed: bool = False
    flipped_x: bool = False
    flipped_y: bool = False

    @classmethod
    def upright(cls, plane: Plane) -> Self:
        """The turn for a slice of this plane; an oblique plane is treated as the view it is closest to."""
        # Where the upright picture's x and y point in the patient.
        x_wish, y_wish = (POSTERIOR, -HEAD) if dominant_axis(plane) == 0 else (LEFT, POSTERIOR)
        row, column = np.asarray(plane.row_dir), np.asarray(plane.col_dir)
        transposed = abs(row @ x_wish) + abs(column @ y_wish) < abs(column @ x_wish) + abs(row @ y_wish)
        x_dir, y_dir = (column, row) if transposed else (row, column)
        return cls(transposed=bool(transposed), flipped_x=bool(x_dir @ x_wish < 0), flipped_y=bool(y_dir @ y_wish < 0))

    @property
    def matrix(self) -> FloatArray:
        """What the turn makes of a step (x, y) in the stored picture, [2, 2]."""
        axes = np.eye(2)[::-1] if self.transposed else np.eye(2)
        return self._signs()[:, None] * axes

    def turn(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """The upright picture, contiguous in memory.

        Args:
          pixels: the stored picture. # [rows, columns]
        """
        turned = pixels.T if self.transposed else pixels
        return np.ascontiguousarray(turned[:: -1 if self.flipped_y else 1, :: -1 if self.flipped_x else 1])

    def shape(self, stored: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of the upright picture from those of the stored one. It is its own inverse."""
        return (stored[1], stored[0]) if self.transposed else stored

    def plane(self, stored: Plane, stored_shape: tuple[int, int]) -> Plane:
        """The plane of the upright picture: every pixel stays where it is in the patient."""
        x_dir, y_dir = np.asarray(stored.row_dir), np.asarray(stored.col_dir)
        (dy, dx), (corner_x, corner_y) = stored.spacing_mm, self.to_stored((0.0, 0.0), stored_shape)
        if self.transposed:
            x_dir, y_dir, dx, dy = y_dir, x_dir, dy, dx
        return Plane.from_arrays(
            origin_mm=stored.to_patient((corner_x, corner_y)),
            row_dir=-x_dir if self.flipped_x else x_dir,
            col_dir=-y_dir if self.flipped_y else y_dir,
            spacing_mm=(dy, dx),
        )

    def to_upright(self, points_px: ArrayLike, stored_shape: tuple[int, int]) -> FloatArray:
        """Pixels (x, y) of the stored picture to pixels of the upright one, (n, 2) -> (n, 2) or (2,) -> (2,)."""
        points = np.asarray(points_px, np.float64)
        return self._flipped(points[..., ::-1] if self.transposed else points, self.shape(stored_shape))

    def to_stored(self, points_px: ArrayLike, stored_shape: tuple[int, int]) -> FloatArray:
        """Pixels (x, y) of the upright picture to pixels of the stored one, (n, 2) -> (n, 2) or (2,) -> (2,)."""
        points = self._flipped(np.asarray(points_px, np.float64), self.shape(stored_shape))
        return points[..., ::-1] if self.transposed else points

    def _flipped(self, points: FloatArray, shape: tuple[int, int]) -> FloatArray:
        rows, columns = shape
        start = np.array([columns - 1.0 if self.flipped_x else 0.0, rows - 1.0 if self.flipped_y else 0.0])
        return start + self._signs() * points

    def _signs(self) -> FloatArray:
        return np.array([-1.0 if self.flipped_x else 1.0, -1.0 if self.flipped_y else 1.0])


AS_STORED: Final = Orientation()
