"""Pixel <-> patient geometry of single slices.

Conventions (DICOM PS3.3 C.7.6.2.1.1): patient coordinates are LPS in mm (x to the patient's left, y to posterior,
z to the head). Pixel coordinates are (x, y) = (column, row), zero-based, and (0, 0) is the centre of the top-left
pixel. Every slice has its own plane: an axial series may hold stacks of different tilt.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]

# Unit length and orthogonality of ImageOrientationPatient; scanners write about six decimals.
ORIENTATION_TOLERANCE: Final = 1e-3
LEFT: Final = np.array([1.0, 0.0, 0.0])
POSTERIOR: Final = np.array([0.0, 1.0, 0.0])
HEAD: Final = np.array([0.0, 0.0, 1.0])
# What a slice is called whose normal lies along patient x, y or z.
PLANE_NAMES: Final = ("sagittal", "coronal", "axial")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plane:
    """The plane of one slice.

    Attributes:
      origin_mm: centre of the top-left pixel (ImagePositionPatient).
      row_dir: unit direction of increasing x, along a row (first triple of ImageOrientationPatient).
      col_dir: unit direction of increasing y, down a column (second triple).
      spacing_mm: distance between rows (y) and between columns (x), the order of PixelSpacing.
    """

    origin_mm: tuple[float, float, float]
    row_dir: tuple[float, float, float]
    col_dir: tuple[float, float, float]
    spacing_mm: tuple[float, float]

    def __post_init__(self) -> None:
        row, col = self.row_dir, self.col_dir
        values = (*self.origin_mm, *row, *col, *self.spacing_mm)
        # Plain Python is four times as fast here as NumPy, and every slice of a store comes by.
        if len(values) != 11 or not all(map(math.isfinite, values)):
            raise ValueError("a plane needs 3 + 3 + 3 + 2 finite numbers")
        product = sum(r * c for r, c in zip(row, col, strict=True))
        if max(abs(math.hypot(*row) - 1), abs(math.hypot(*col) - 1), abs(product)) > ORIENTATION_TOLERANCE:
            raise ValueError(f"row and column directions are not orthonormal: {self.row_dir}, {self.col_dir}")
        if min(self.spacing_mm) <= 0:
            raise ValueError(f"spacing must be positive, got {self.spacing_mm}")

    @classmethod
    def from_arrays(
        cls, *, origin_mm: ArrayLike, row_dir: ArrayLike, col_dir: ArrayLike, spacing_mm: ArrayLike
    ) -> Self:
        """From array-likes of length 3, 3, 3 and 2."""

        def floats(values: ArrayLike) -> tuple[float, ...]:
            return tuple(float(v) for v in np.asarray(values).ravel())

        return cls(
            origin_mm=floats(origin_mm),  # type: ignore[arg-type]  # lengths are checked at construction
            row_dir=floats(row_dir),  # type: ignore[arg-type]
            col_dir=floats(col_dir),  # type: ignore[arg-type]
            spacing_mm=floats(spacing_mm),  # type: ignore[arg-type]
        )

    @property
    def normal(self) -> FloatArray:  # [3]
        """Unit normal, row_dir x col_dir."""
        (ax, ay, az), (bx, by, bz) = self.row_dir, self.col_dir  # np.cross takes ten times as long
        return np.array([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx])

    def to_patient(self, points_px: ArrayLike) -> FloatArray:
        """Pixel points (x, y) to patient mm, (n, 2) -> (n, 3) or (2,) -> (3,)."""
        points = np.asarray(points_px, dtype=np.float64)
        x, y = points[..., 0:1], points[..., 1:2]
        dy, dx = self.spacing_mm
        return np.asarray(self.origin_mm) + x * dx * np.asarray(self.row_dir) + y * dy * np.asarray(self.col_dir)

    def to_pixel(self, points_mm: ArrayLike) -> FloatArray:
        """Orthogonal projection of patient points to pixel (x, y), (n, 3) -> (n, 2) or (3,) -> (2,)."""
        offset = np.asarray(points_mm, dtype=np.float64) - np.asarray(self.origin_mm)
        dy, dx = self.spacing_mm
        return np.stack([offset @ np.asarray(self.row_dir) / dx, offset @ np.asarray(self.col_dir) / dy], axis=-1)

    def distance_mm(self, points_mm: ArrayLike) -> FloatArray:
        """Signed distance of patient points from the plane along its normal, (n, 3) -> (n,)."""
        return (np.asarray(points_mm, dtype=np.float64) - np.asarray(self.origin_mm)) @ self.normal

    def center_mm(self, shape: tuple[int, int]) -> FloatArray:  # [3]
        """Patient position of the centre of an image of `shape` (rows, columns)."""
        return self.to_patient([(shape[1] - 1) / 2, (shape[0] - 1) / 2])


@dataclass(frozen=True, slots=True)
class Planes:
    """Several planes, whose conversions are computed together: some thirty times as fast as one by one.

    Attributes:
      origin_mm, row_dir, col_dir: as those of `Plane`; [n, 3].
      spacing_mm: as that of `Plane`; [n, 2].
    """

    origin_mm: FloatArray
    row_dir: FloatArray
    col_dir: FloatArray
    spacing_mm: FloatArray

    @classmethod
    def of(cls, planes: Iterable[Plane]) -> Self:
        """The given planes, in their order."""
        rows = [(*p.origin_mm, *p.row_dir, *p.col_dir, *p.spacing_mm) for p in planes]
        return cls(*np.split(np.array(rows, np.float64).reshape(-1, 11), (3, 6, 9), axis=1))

    def to_patient(self, points_px: FloatArray) -> FloatArray:
        """A pixel point (x, y) of each plane to patient mm, (n, 2) -> (n, 3)."""
        step = points_px * self.spacing_mm[:, ::-1]
        return self.origin_mm + step[:, :1] * self.row_dir + step[:, 1:] * self.col_dir

    def to_pixel(self, point_mm: FloatArray) -> FloatArray:
        """Orthogonal projections of one patient point to pixel (x, y) of each plane, (3,) -> (n, 2)."""
        offset = point_mm - self.origin_mm
        along = np.stack([(offset * self.row_dir).sum(1), (offset * self.col_dir).sum(1)], axis=1)
        return along / self.spacing_mm[:, ::-1]


def dominant_axis(plane: Plane) -> int:
    """Index of the patient axis nearest to the plane's normal: 0 sagittal, 1 coronal, 2 axial (`PLANE_NAMES`)."""
    return int(np.argmax(np.abs(plane.normal)))
