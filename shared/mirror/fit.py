"""How well an axial series fits the sagittal ones, as stored and mirrored, where their slices intersect.

Along the line of intersection both series show the same tissue, though with different grey values. The measure is the
share of the axial variance that the sagittal values explain, by any smooth curve of their ranks. Both readings may
slide to where they fit best, so that an off-centre spine or a moving patient is not evidence by itself; sliding costs a
little.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from shared.geometry import Plane
from shared.study import Slice

Picture = NDArray[Any]  # [rows, columns]
Pictures = Sequence[tuple[Slice, Picture]]

_PIXEL_MM: Final = 1.0
_BLUR_MM: Final = 1.0
# Grey values are taken relative to those within this distance, which removes coil shading and broad differences between
# left and right.
_LOCAL_MM: Final = 20.0
_LEAST_CONTRAST: Final = 0.3
_STEP_MM: Final = 3.5
_MIN_SAMPLES: Final = 100
# The series slides from side to side as a whole; each slice slides a little further, and up and down.
_SLIDES_MM: Final = np.arange(-26.0, 27.0, 2.0)
_RISES_MM: Final = np.array([-4.0, -2.0, 0.0, 2.0, 4.0])
_SLIDE_COST: Final = 0.1
_SLIDE_SCALE_MM: Final = 12.0
_RISE_COST: Final = 0.02
_DRIFT_COST: Final = 0.01
# Number of knots of the curves.
_KNOTS: Final = 5
# Slices of two sagittal series nearer than this show the same plane.
_SAME_PLANE_MM: Final = 3.0
_PARALLEL: Final = 0.999

# Of the comparable slices, the share that must fit better the other way, and by how much on average for twelve slices;
# fewer slices must differ by more.
_MIN_SLICES: Final = 5
_SHARE: Final = 0.6
_GAIN: Final = 0.02
_SURE_GAIN: Final = 0.04
_USUAL_SLICES: Final = 12
# A series that fits this much better this far to the side was not scanned where its header says, or the patient moved.
_LEAST_SLIDE_MM: Final = 6.0
_SURE_SLIDE_GAIN: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """Share of the axial variance that the sagittal series explain, minus the cost of sliding, for each slice.

    Each reading lies where it fits best.

    Attributes:
      slide_mm: how far the direct reading slides for that, towards the patient's left.
      slide_gain: how much more it explains there than without a slide.
    """

    direct: NDArray[np.float64]  # [slices]
    mirrored: NDArray[np.float64]  # [slices]
    slide_mm: float = 0.0
    slide_gain: float = 0.0

    @property
    def displacement_mm(self) -> float:
        """How far the axial series lies to the patient's left of where the sagittal ones put it; 0 if in doubt."""
        sure = self.is_enough and abs(self.slide_mm) >= _LEAST_SLIDE_MM and self.slide_gain >= _SURE_SLIDE_GAIN
        return self.slide_mm if sure else 0.0

    @property
    def is_enough(self) -> bool:
        """Whether enough slices could be compared."""
        return len(self.direct) >= _MIN_SLICES

    @property
    def is_mirrored(self) -> bool:
        """Whether the series looks mirrored, which deserves a warning."""
        return _differ(self.mirrored - self.direct, _GAIN)

    @property
    def is_surely_mirrored(self) -> bool:
        """Whether to trust the pixels over the header. Mirrored series are rare, and a mistake swaps sides."""
        return _differ(self.mirrored - self.direct, _SURE_GAIN)

    @property
    def is_surely_direct(self) -> bool:
        """Whether the series is clearly not mirrored."""
        return _differ(self.direct - self.mirrored, _SURE_GAIN)


def _differ(gain: NDArray[np.float64], least: float) -> bool:
    """Whether enough slices favour a reading, and by more than `least` on average."""
    if len(gain) < _MIN_SLICES or (gain > 0).mean() < _SHARE:
        return False
    return bool(gain.mean() > least * np.sqrt(_USUAL_SLICES / len(gain)))


def fit_series(axial: Pictures, sagittal: Pictures, second: Pictures = ()) -> Fit:
    """Compares every axial slice with the sagittal ones that it intersects; skips slices with too short intersections.

    Args:
      second: a sagittal series of another contrast, which explains more; used if it shows the same planes.
    """
    explained = _explained_shares(axial, sagittal, second)
    if not len(explained):
        return Fit(direct=np.empty(0), mirrored=np.empty(0))
    slid = _best_rise_and_drift(explained)
    slid -= _SLIDE_COST * _SLIDES_MM**2 / (_SLIDES_MM**2 + _SLIDE_SCALE_MM**2)
    mean = slid.mean(axis=0)  # [2, slides]
    best = mean.argmax(axis=1)
    gain = float(mean[0, best[0]] - mean[0, len(_SLIDES_MM) // 2])
    return Fit(
        direct=slid[:, 0, best[0]], mirrored=slid[:, 1, best[1]], slide_mm=float(_SLIDES_MM[best[0]]), slide_gain=gain
    )


def _explained_shares(axial: Pictures, sagittal: Pictures, second: Pictures = ()) -> NDArray[np.float64]:
    """Explained share of each slice's variance, as stored and mirrored, at each rise and slide.

    Returns:
      [n, 2, rises, slides].
    """
    planes = _with_mates(sagittal, second)
    result = []
    for item, picture in (_local(item, picture) for item, picture in axial):
        lines = [line for plane in planes if len((line := _line(item, plane))[0])]
        if sum(len(points) for points, _ in lines) < _MIN_SAMPLES:
            continue
        points, values = np.concatenate([p for p, _ in lines]), np.concatenate([v for _, v in lines], axis=1)
        curves = _curves(values)
        if curves.shape[1]:
            result.append(_explained(_slid(item, picture, points), curves))
    return np.array(result)


def _best_rise_and_drift(explained: NDArray[np.float64]) -> NDArray[np.float64]:  # [n, 2, slides]
    """The share at the best rise of each slice and its best drift by one slide to either side."""
    risen = (explained - _RISE_COST * (_RISES_MM / _RISES_MM.max())[:, None] ** 2).max(axis=2)
    beside = np.pad(risen, ((0, 0), (0, 0), (1, 1)), mode="edge")
    return np.asarray(np.maximum(risen, np.maximum(beside[..., :-2], beside[..., 2:]) - _DRIFT_COST))


def _with_mates(sagittal: Pictures, second: Pictures) -> list[Pictures]:
    """Each sagittal slice, paired with the slice of the second series in its plane if every slice has one."""
    mates = [_mate(item, second) for item, _ in sagittal]
    used = [m for m in mates if m is not None]
    pairs: list[Pictures] = [[s, m] for s, m in zip(sagittal, used, strict=False)]
    chosen = pairs if len(used) == len(sagittal) else [[s] for s in sagittal]
    return [[_local(item, picture) for item, picture in group] for group in chosen]


def _mate(item: Slice, others: Pictures) -> tuple[Slice, Picture] | None:
    center = item.plane.center_mm(item.shape)
    near = [
        (gap, k)
        for k, (other, _) in enumerate(others)
        if (gap := abs(float(other.plane.distance_mm(center)))) < _SAME_PLANE_MM
        and abs(other.plane.normal @ item.plane.normal) > _PARALLEL
    ]
    return others[min(near)[1]] if near else None


def _local(item: Slice, picture: Picture) -> tuple[Slice, NDArray[np.float32]]:
    """Ranks of grey values relative to their neighbourhood, in units of its contrast; small pixels are merged."""
    item, picture = _shrunk(item, picture)
    counts = cv2.calcHist([picture], [0], None, [256], [0, 256]).ravel().astype(np.float64)
    ranks = cv2.LUT(picture, ((np.cumsum(counts) - counts / 2) / picture.size).astype(np.float32))
    spacing = float(np.mean(item.plane.spacing_mm))
    smooth = cv2.GaussianBlur(ranks, (0, 0), _BLUR_MM / spacing)
    width = 2 * int(_LOCAL_MM / spacing / 2) + 1

    def mean(values: Picture) -> Picture:
        return np.asarray(cv2.blur(values, (width, width)))

    above = smooth - mean(mean(smooth))
    contrast = np.sqrt(mean(above**2))
    return item, np.asarray(above / (contrast + _LEAST_CONTRAST * contrast.mean() + 1e-6))


def _shrunk(item: Slice, picture: Picture) -> tuple[Slice, Picture]:
    """The slice averaged over blocks of small pixels; drops a remainder at the right and lower edge."""
    factor = round(_PIXEL_MM / item.plane.spacing_mm[0])
    rows, columns = (n // max(1, factor) for n in item.shape)
    if factor < 2 or min(rows, columns) < 1:
        return item, picture
    small = cv2.resize(picture[: rows * factor, : columns * factor], (columns, rows), interpolation=cv2.INTER_AREA)
    plane = Plane.from_arrays(
        origin_mm=item.plane.to_patient(((factor - 1) / 2, (factor - 1) / 2)),
        row_dir=item.plane.row_dir,
        col_dir=item.plane.col_dir,
        spacing_mm=np.multiply(item.plane.spacing_mm, factor),
    )
    return replace(item, plane=plane, shape=(rows, columns)), np.asarray(small)


def _line(axial: Slice, plane: Pictures) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Axial points (x, y) of the line where two slices intersect, and the sagittal values there.

    Returns:
      [n, 2] points and [series, n] values.
    """
    sagittal = plane[0][0]
    step = max(1, round(_STEP_MM / axial.plane.spacing_mm[0]))
    rows = np.arange(0, axial.shape[0], step, dtype=np.float64)
    along = float(np.asarray(axial.plane.row_dir) @ sagittal.plane.normal) * axial.plane.spacing_mm[1]
    if abs(along) < 1e-6:  # the planes are parallel
        return np.empty((0, 2)), np.empty((len(plane), 0), np.float32)
    start = axial.plane.to_patient(np.stack([np.zeros_like(rows), rows], axis=1))
    here = np.stack([-sagittal.plane.distance_mm(start) / along, rows], axis=1)
    places = axial.plane.to_patient(here)
    there = [other.plane.to_pixel(places) for other, _ in plane]
    inside = _inside(here, axial.shape)
    for points, (other, _) in zip(there, plane, strict=True):
        inside &= _inside(points, other.shape)
    values = [_sample(picture, points[inside]) for points, (_, picture) in zip(there, plane, strict=True)]
    return here[inside], np.stack(values)


def _inside(points_px: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.bool_]:
    x, y = points_px[:, 0], points_px[:, 1]
    return (x >= 0) & (x <= shape[1] - 1) & (y >= 0) & (y <= shape[0] - 1)


def _sample(picture: Picture, points_px: NDArray[np.float64]) -> NDArray[np.float32]:
    """Values at points (x, y), (..., 2) -> (...); beyond the edge those of the edge."""
    if not points_px.size:
        return np.empty(points_px.shape[:-1], np.float32)
    points = points_px.astype(np.float32).reshape(-1, *points_px.shape[-2:])  # OpenCV's rows end at 32767
    seen = cv2.remap(picture, points, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload]
    return np.asarray(seen, dtype=np.float32).reshape(points_px.shape[:-1])


def _slid(item: Slice, picture: Picture, points_px: NDArray[np.float64]) -> NDArray[np.float32]:
    """Values of the picture and of its mirror image at the points, for each rise and slide.

    Returns:
      [2, rises, slides, n].
    """
    slides, rises = np.meshgrid(_SLIDES_MM / item.plane.spacing_mm[1], _RISES_MM / item.plane.spacing_mm[0])
    direct = points_px + np.stack([slides, rises], axis=-1)[:, :, None, :]
    mirrored = np.stack([item.shape[1] - 1 - direct[..., 0], direct[..., 1]], axis=-1)
    return np.stack([_sample(picture, direct), _sample(picture, mirrored)])


def _curves(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Orthonormal basis of curves of the values' ranks and, for two series, their product: (series, n) -> (n, m)."""
    ranks = np.stack([_ranks(v) / len(v) for v in values if np.ptp(v) > 0] or [np.empty(0)])
    if not ranks.size:
        return np.empty((values.shape[1], 0))
    knots = np.arange(1, _KNOTS)
    hats = [np.clip(1 - np.abs(r[:, None] * (_KNOTS - 1) - knots), 0, 1) for r in ranks]
    products = [np.prod(ranks - 0.5, axis=0)[:, None]] if len(ranks) > 1 else []
    base = np.concatenate([*hats, *products], axis=1)
    # Not QR, which would keep directions of rounding noise for dependent columns.
    directions, sizes, _ = np.linalg.svd(base - base.mean(axis=0), full_matrices=False)
    return np.asarray(directions[:, sizes > 1e-6 * sizes[0]])


def _ranks(values: NDArray[np.float32]) -> NDArray[np.float64]:  # [n]
    """Ranks from 1; equal values share their mean. scipy has `rankdata`, but importing it takes half a second."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[place])


def _explained(seen: NDArray[np.float32], curves: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of the variance of `seen` that the best curve explains, (..., n), (n, m) -> (...)."""
    seen = seen - seen.mean(axis=-1, keepdims=True)
    found = seen @ curves.astype(np.float32)
    return np.asarray((found**2).sum(axis=-1) / ((seen**2).sum(axis=-1) + 1e-9), dtype=np.float64)
