"""Finds and corrects axial series whose pixels are mirrored against their headers.

This needs no points, so it works on unlabelled data too (see `shared.mirror.fit`). Both stages read a study as
`as_shown` returns it (docs/adr/0009).
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from shared.detections import Localization
from shared.dicom.pixels import slice_pixels
from shared.geometry import LEFT, Plane
from shared.labels import View
from shared.mirror.fit import Fit, Picture, Pictures, fit_series
from shared.mirror.overlap import far_series
from shared.runtime.errors import InputError
from shared.study import Series, Slice, Study

# A quick look reads this many slices of each series.
_QUICK_AXIAL: Final = 12
_QUICK_SAGITTAL: Final = 7
_DISPLACED: Final = (
    "lies {:.0f} mm to the patient's {} of where the sagittal series put it; it was moved back to find and grade levels"
)
_APART: Final = (
    "lies {:.0f} mm away from all other series, outside their pictures (another frame of reference, or another part of "
    "the body); it was left out"
)
_MIRRORED: Final = (
    "is mirrored against the sagittal series; its sides are taken from what it shows, not from its header"
)


def corrected(study: Study) -> "OrientedStudy":
    """The study with the planes of axial series put where the sagittal ones show that they lie.

    Mirrored series are flipped, so that left is left again; displaced ones are moved sideways. Reads only some slices
    of each series. Series that cannot be read or compared stay as they are.
    """
    read: dict[str, Pictures] = {}

    def pictures(series: Series) -> Pictures:
        if series.series_id not in read:
            read[series.series_id] = _pictures(series)
        return read[series.series_id]

    fits = {s.series_id: fit_study(study, s, pictures) for s in study.of_view(View.AXIAL_T2)}
    turned = tuple(series_id for series_id, fit in fits.items() if fit.is_surely_mirrored)
    moved = {k: fit.displacement_mm for k, fit in fits.items() if k not in turned and fit.displacement_mm}
    return OrientedStudy(given=study, study=with_moved(with_turned(study, turned), moved), turned=turned, moved=moved)


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
    if not series_ids:
        return study
    return replace(study, series=tuple(_turned(s) if s.series_id in series_ids else s for s in study.series))


def with_moved(study: Study, displacement_mm: Mapping[str, float]) -> Study:
    """The study with the given series moved back to the patient's right by their displacement."""
    if not displacement_mm:
        return study

    def moved(item: Slice, series_id: str) -> Slice:
        origin_mm = np.asarray(item.plane.origin_mm) - displacement_mm[series_id] * LEFT
        x, y, z = (float(v) for v in origin_mm)
        return replace(item, plane=replace(item.plane, origin_mm=(x, y, z)))

    series = (
        replace(s, slices=tuple(moved(item, s.series_id) for item in s.slices)) if s.series_id in displacement_mm else s
        for s in study.series
    )
    return replace(study, series=tuple(series))


@dataclass(frozen=True, slots=True, kw_only=True)
class OrientedStudy:
    """A study whose axial series lie where its pixels show them.

    Attributes:
      given: the study according to its headers.
      study: the study for both stages, with the planes of mirrored axial series flipped and of displaced ones moved.
      turned: ids of the mirrored series.
      moved: displacement of the displaced ones towards the patient's left, in mm.
      apart: distance in mm of the series that lie apart from all others and were left out.
    """

    given: Study
    study: Study
    turned: tuple[str, ...] = ()
    moved: Mapping[str, float] = field(default_factory=dict)
    apart: Mapping[str, float] = field(default_factory=dict)

    @property
    def problems(self) -> tuple[str, ...]:
        study = f"study {self.given.study_id}"
        return (
            *(f"{study} series {s}: {_MIRRORED}" for s in self.turned),
            *(
                f"{study} series {s}: {_DISPLACED.format(abs(mm), 'left' if mm > 0 else 'right')}"
                for s, mm in self.moved.items()
            ),
            *(f"{study} series {s}: {_APART.format(mm)}" for s, mm in self.apart.items()),
        )

    def as_given(self, item: Localization) -> Localization:
        """The same pixel at the header's position in millimetres, which is what output files hold."""
        series = self.given.get(item.series_id) if {item.series_id} & {*self.turned, *self.moved} else None
        found = series.by_instance(item.instance_number) if series else None
        if found is None:
            return item
        x, y, z = (float(v) for v in found.plane.to_patient((item.x_px, item.y_px)))
        return replace(item, point_mm=(x, y, z))


def as_shown(study: Study, *, look: bool = True) -> OrientedStudy:
    """The study without series that lie apart, its sides as its pixels show them, or without `look` as headers say."""
    apart = far_series(study)
    near = replace(study, series=tuple(s for s in study.series if s.series_id not in apart)) if apart else study
    shown = corrected(near) if look else OrientedStudy(given=near, study=near)
    return replace(shown, given=study, apart=apart)


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
            item = series.slices[k].upright()  # left and right are then along its rows
            result.append((item, slice_pixels(item)))
        except InputError:  # reported where the slice is used
            continue
    return result
