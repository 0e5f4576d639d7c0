"""Axial series whose pixels are mirrored against their header, seen where axial and sagittal slices cut.

There both pictures show the same tissue along a line. Along all these lines of an axial slice the grey values must
agree better than those of the mirrored picture do: vessels, scoliosis and a spine beside the picture's middle are not
symmetric. It takes no points, so it finds mirrored series in unlabelled data too. Both stages read a study as
`as_shown` gives it (docs/adr/0009).
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from shared.detections import Localization
from shared.errors import InputError
from shared.geometry import Plane
from shared.labels import View
from shared.pixels import slice_pixels
from shared.study import Series, Slice, Study

Picture = NDArray[Any]  # [rows, columns]

_BLUR_PX: Final = 1.0
_EVERY_ROW: Final = 2
_MIN_SAMPLES: Final = 200
_MIN_SLICES: Final = 5
# Of the slices that can be compared: share that fits better mirrored, and by how much rank correlation on average.
_MIRRORED_SHARE: Final = 0.8
_MIRRORED_MARGIN: Final = 0.02
_SURE_SHARE: Final = 0.9
_SURE_MARGIN: Final = 0.025
# A quick look takes this many slices of each series.
_QUICK_AXIAL: Final = 12
_QUICK_SAGITTAL: Final = 7
_MIRRORED: Final = (
    "is mirrored against the sagittal series; its sides are taken from what it shows, not from its header"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """How well the slices of an axial series fit the sagittal ones, as they are and mirrored. # [n] each"""

    direct: NDArray[np.float64]
    mirrored: NDArray[np.float64]

    @property
    def is_mirrored(self) -> bool:
        """Whether the series looks mirrored: worth a warning."""
        return self._better_mirrored(_MIRRORED_SHARE, _MIRRORED_MARGIN)

    @property
    def is_surely_mirrored(self) -> bool:
        """Whether to believe the pixels rather than the header: mirrored series are rare, and a mistake swaps sides."""
        return self._better_mirrored(_SURE_SHARE, _SURE_MARGIN)

    def _better_mirrored(self, share: float, margin: float) -> bool:
        gain = self.mirrored - self.direct
        return len(gain) >= _MIN_SLICES and bool((gain > 0).mean() >= share and gain.mean() > margin)


def fit_series(axial: Sequence[tuple[Slice, Picture]], sagittal: Sequence[tuple[Slice, Picture]]) -> Fit:
    """Compares every axial slice with the sagittal ones that it cuts; slices with too short a cut are left out."""
    smooth = [(item, _blur(picture)) for item, picture in sagittal]
    direct, mirrored = [], []
    for item, picture in axial:
        picture = _blur(picture)
        pair = [_correlation(item, seen, smooth) for seen in (picture, np.ascontiguousarray(picture[:, ::-1]))]
        if pair[0] is not None and pair[1] is not None:
            direct.append(pair[0])
            mirrored.append(pair[1])
    return Fit(direct=np.array(direct), mirrored=np.array(mirrored))


def unmirrored(study: Study) -> tuple[Study, tuple[str, ...]]:
    """The study with the planes of mirrored axial series turned, so that left is left again, and the ids of those.

    A quick look at some slices of each series; what cannot be read or compared stays as it is.
    """
    sagittal = next(iter((*study.of_view(View.SAGITTAL_T2), *study.of_view(View.SAGITTAL_T1))), None)
    if sagittal is None or not study.of_view(View.AXIAL_T2):
        return study, ()
    seen = _pictures(sagittal)
    turned = [s.series_id for s in study.of_view(View.AXIAL_T2) if fit_series(_pictures(s), seen).is_surely_mirrored]
    if not turned:
        return study, ()
    return with_turned(study, turned), tuple(turned)


def with_turned(study: Study, series_ids: Collection[str]) -> Study:
    """The study with the planes of the given series turned, so that left and right change places."""
    return replace(study, series=tuple(_turned(s) if s.series_id in series_ids else s for s in study.series))


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A study as its pictures show it.

    Attributes:
      given: as its headers say.
      study: what both stages work on; mirrored axial series have the plane of what they show.
      turned: ids of those series.
    """

    given: Study
    study: Study
    turned: tuple[str, ...] = ()

    @property
    def problems(self) -> tuple[str, ...]:
        return tuple(f"study {self.given.study_id} series {s}: {_MIRRORED}" for s in self.turned)

    def as_given(self, item: Localization) -> Localization:
        """The same pixel at the place that the header gives it: files hold the header's millimetres."""
        series = self.given.get(item.series_id) if item.series_id in self.turned else None
        found = series.by_instance(item.instance_number) if series else None
        if found is None:
            return item
        x, y, z = (float(v) for v in found.plane.to_patient((item.x_px, item.y_px)))
        return replace(item, point_mm=(x, y, z))


def as_shown(study: Study, *, look: bool = True) -> Shown:
    """The study as its pictures show it; without `look` as its headers say."""
    corrected, turned = unmirrored(study) if look else (study, ())
    return Shown(given=study, study=corrected, turned=turned)


def _turned(series: Series) -> Series:
    def plane(item: Slice) -> Plane:
        return Plane.from_arrays(
            origin_mm=item.plane.to_patient((item.shape[1] - 1, 0)),
            row_dir=-np.asarray(item.plane.row_dir),
            col_dir=item.plane.col_dir,
            spacing_mm=item.plane.spacing_mm,
        )

    return replace(series, slices=tuple(replace(item, plane=plane(item)) for item in series.slices))


def quick_look(count: int, view: View) -> list[int]:
    """Which of a series' `count` slices are enough to see whether it is mirrored: evenly spread indices."""
    wanted = min(count, _QUICK_SAGITTAL if view.is_sagittal else _QUICK_AXIAL)
    return [int(k) for k in np.unique(np.linspace(0, count - 1, wanted).round())]


def _pictures(series: Series) -> list[tuple[Slice, Picture]]:
    """Some slices with their pixels."""
    result: list[tuple[Slice, Picture]] = []
    for k in quick_look(len(series.slices), series.view):
        try:
            result.append((series.slices[k], slice_pixels(series.slices[k])))
        except InputError:  # reported where the slice is needed
            continue
    return result


def _blur(picture: Picture) -> Picture:
    return np.asarray(cv2.GaussianBlur(picture.astype(np.float32), (0, 0), _BLUR_PX), dtype=np.float32)


def _correlation(item: Slice, picture: Picture, sagittal: Sequence[tuple[Slice, Picture]]) -> float | None:
    """Spearman's correlation of the grey values along the lines where a picture cuts the sagittal ones."""
    ours, theirs = [], []
    for other, other_picture in sagittal:
        here, there = cut(item, other)
        ours.append(_sample(picture, here))
        theirs.append(_sample(other_picture, there))
    a = np.concatenate(ours) if ours else np.empty(0)
    b = np.concatenate(theirs) if theirs else np.empty(0)
    if len(a) < _MIN_SAMPLES or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(np.corrcoef(rankdata(a), rankdata(b))[0, 1])


def cut(axial: Slice, sagittal: Slice) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Pixel points (x, y) of the line where two slices cut, in either picture. # [n, 2] each"""
    plane = axial.plane
    rows = np.arange(0, axial.shape[0], _EVERY_ROW, dtype=np.float64)
    along = float(np.asarray(plane.row_dir) @ sagittal.plane.normal) * plane.spacing_mm[1]
    if abs(along) < 1e-6:  # the planes are parallel
        return np.empty((0, 2), np.float32), np.empty((0, 2), np.float32)
    start = plane.to_patient(np.stack([np.zeros_like(rows), rows], axis=1))
    here = np.stack([-sagittal.plane.distance_mm(start) / along, rows], axis=1)
    there = sagittal.plane.to_pixel(plane.to_patient(here))
    inside = _inside(here, axial.shape) & _inside(there, sagittal.shape)
    return here[inside].astype(np.float32), there[inside].astype(np.float32)


def _inside(points_px: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.bool_]:
    x, y = points_px[:, 0], points_px[:, 1]
    return (x >= 0) & (x <= shape[1] - 1) & (y >= 0) & (y <= shape[0] - 1)


def _sample(picture: Picture, points_px: NDArray[np.float32]) -> Picture:
    if not len(points_px):
        return np.empty(0, np.float32)
    x, y = points_px[None, :, 0], points_px[None, :, 1]
    return np.asarray(cv2.remap(picture, x, y, cv2.INTER_LINEAR)[0], dtype=np.float32)
