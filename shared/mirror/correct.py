"""Finds and corrects axial series whose pixels are mirrored against their headers.

This needs no points, so it works on unlabelled data too (see `shared.mirror.fit`). Both stages read a study as
`as_shown` returns it (docs/adr/0009).
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from shared.detections import Localization
from shared.dicom.pixels import slice_pixels
from shared.geometry import LEFT, Plane
from shared.labels import View
from shared.mirror.fit import Fit, Picture, Pictures, fit_series
from shared.runtime.errors import InputError
from shared.study import Series, Slice, Study

# A quick look reads this many slices of each series.
_QUICK_AXIAL: Final = 12
_QUICK_SAGITTAL: Final = 7
_MIRRORED: Final = (
    "is mirrored against the sagittal series; its sides are taken from what it shows, not from its header"
)


def unmirrored(study: Study) -> tuple[Study, tuple[str, ...]]:
    """The study with the planes of mirrored axial series flipped, so that left is left again, and their ids.

    Reads only some slices of each series. Series that cannot be read or compared stay as they are.
    """
    read: dict[str, Pictures] = {}

    def pictures(series: Series) -> Pictures:
        if series.series_id not in read:
            read[series.series_id] = _pictures(series)
        return read[series.series_id]

    turned = [s.series_id for s in study.of_view(View.AXIAL_T2) if fit_study(study, s, pictures).is_surely_mirrored]
    return (with_turned(study, turned), tuple(turned)) if turned else (study, ())


def fit_study(study: Study, axial: Series, pictures: Callable[[Series], Pictures]) -> Fit:
    """Compares an axial series with the study's sagittal ones; `pictures` returns some slices of a series.

    Uses T2 alone if it is decisive, else T2 and T1 together, or T1 alone without T2.
    """
    t2, t1 = study.of_view(View.SAGITTAL_T2), study.of_view(View.SAGITTAL_T1)
    fit = fit_series((), ())
    for first in (*t2, *t1):
        fit = fit_series(pictures(axial), pictures(first))
        if not fit.is_enough:  # too little overlap
            continue
        if fit.is_surely_direct or first.view is View.SAGITTAL_T1 or not t1:
            return fit
        both = fit_series(pictures(axial), pictures(first), [p for second in t1 for p in pictures(second)])
        return both if both.is_enough else fit
    return fit


def with_turned(study: Study, series_ids: Collection[str]) -> Study:
    """The study with the planes of the given series flipped, so that left and right change places."""
    return replace(study, series=tuple(_turned(s) if s.series_id in series_ids else s for s in study.series))


@dataclass(frozen=True, slots=True, kw_only=True)
class OrientedStudy:
    """A study whose sides follow its pixels.

    Attributes:
      given: the study according to its headers.
      study: the study for both stages, with the planes of mirrored axial series flipped.
      turned: ids of those series.
    """

    given: Study
    study: Study
    turned: tuple[str, ...] = ()

    @property
    def problems(self) -> tuple[str, ...]:
        return tuple(f"study {self.given.study_id} series {s}: {_MIRRORED}" for s in self.turned)

    def as_given(self, item: Localization) -> Localization:
        """The same pixel at the header's position in millimetres, which is what output files hold."""
        series = self.given.get(item.series_id) if item.series_id in self.turned else None
        found = series.by_instance(item.instance_number) if series else None
        if found is None:
            return item
        x, y, z = (float(v) for v in found.plane.to_patient((item.x_px, item.y_px)))
        return replace(item, point_mm=(x, y, z))


def as_shown(study: Study, *, look: bool = True) -> OrientedStudy:
    """The study with its sides as its pixels show them, or without `look` as its headers say."""
    corrected, turned = unmirrored(study) if look else (study, ())
    return OrientedStudy(given=study, study=corrected, turned=turned)


def _turned(series: Series) -> Series:
    def plane(item: Slice) -> Plane:
        row, column, last = np.asarray(item.plane.row_dir), np.asarray(item.plane.col_dir), item.shape
        along_rows = abs(row @ LEFT) >= abs(column @ LEFT)  # a transposed picture has left and right in its columns
        return Plane.from_arrays(
            origin_mm=item.plane.to_patient((last[1] - 1, 0) if along_rows else (0, last[0] - 1)),
            row_dir=-row if along_rows else row,
            col_dir=column if along_rows else -column,
            spacing_mm=item.plane.spacing_mm,
        )

    return replace(series, slices=tuple(replace(item, plane=plane(item)) for item in series.slices))


def quick_look(count: int, view: View) -> list[int]:
    """Evenly spread indices of the slices, out of `count`, that suffice to see whether a series is mirrored."""
    wanted = min(count, _QUICK_SAGITTAL if view.is_sagittal else _QUICK_AXIAL)
    return [int(k) for k in np.unique(np.linspace(0, count - 1, wanted).round())]


def _pictures(series: Series) -> Pictures:
    """Some slices with their pixels."""
    result: list[tuple[Slice, Picture]] = []
    for k in quick_look(len(series.slices), series.view):
        try:
            result.append((series.slices[k], slice_pixels(series.slices[k])))
        except InputError:  # reported where the slice is used
            continue
    return result
