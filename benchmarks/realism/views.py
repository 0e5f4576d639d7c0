"""Which slices of a study stand for which place in the body, so that real and synthetic can lie side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from shared.figures.tiles import Window, middle_px, position_mm
from shared.geometry import FloatArray
from shared.labels import Level, View
from shared.study import Series, Slice, Study

DETAIL_MM: Final = 90.0
# From the middle of a disc to the pedicles of the vertebra below it.
_DISC_TO_PEDICLE: Final = 0.42
# Half the distance of two discs, for series whose levels are unknown.
_HALF_LEVEL_MM: Final = 18.0
# A slice within this distance shows a place, however close the slices lie.
_REACH_MM: Final = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One study on the page. `canal_mm`: where the canal passes each disc, as far as known."""

    name: str
    real: bool
    study: Study
    canal_mm: Mapping[Level, FloatArray]  # [3] each

    def series(self, view: View) -> Series:
        """The longest series of a view."""
        return max(self.study.of_view(view), key=lambda s: len(s.slices))


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A row of the page: sagittal at `offset_mm` from the midline (+ to the patient's left), axial at or below a disc.

    Attributes:
      level: disc of an axial place.
      below: share of the way from that disc to the next one.
      blind_mm: distance below the middle of the series that stands for it where levels are unknown.
    """

    name: str
    offset_mm: float = 0.0
    level: Level | None = None
    below: float = 0.0
    blind_mm: float = 0.0


def places(view: View) -> tuple[Place, ...]:
    """The rows of a view, right to left or head to foot."""
    if view.is_sagittal:
        return (
            Place(name="right parasagittal, 17 mm off the midline", offset_mm=-17.0),
            Place(name="right of the midline by 9 mm", offset_mm=-9.0),
            Place(name="midline", offset_mm=0.0),
            Place(name="left parasagittal, 17 mm off the midline", offset_mm=17.0),
        )
    rows = []
    for n, level in enumerate((Level.L2_L3, Level.L3_L4, Level.L4_L5, Level.L5_S1)):
        blind = (2 * n - 2) * _HALF_LEVEL_MM
        rows.append(Place(name=f"disc {level.display}", level=level, blind_mm=blind))
        if level is not Level.L5_S1:
            below = level.display.split("/")[1]
            rows.append(
                Place(name=f"pedicles of {below}", level=level, below=_DISC_TO_PEDICLE, blind_mm=blind + _HALF_LEVEL_MM)
            )
    return tuple(rows)


def slice_at(subject: Subject, view: View, place: Place) -> Slice | None:
    """The slice at a place; None where the nearest one is more than the series' gap away."""
    series = subject.series(view)
    at = None if view.is_sagittal else _axial_point(subject, place)
    if at is not None:
        distances = [abs(float(s.plane.distance_mm(at))) for s in series.slices]
    else:
        positions = [position_mm(s, view) for s in series.slices]
        target = _sagittal_mm(subject, positions) + place.offset_mm
        if not view.is_sagittal:
            target = (max(positions) + min(positions)) / 2 - place.blind_mm
        distances = [abs(p - target) for p in positions]
    nearest = int(np.argmin(distances))
    reach = max(series.gap_mm or 0.0, _REACH_MM)
    return series.slices[nearest] if distances[nearest] <= reach else None


def _sagittal_mm(subject: Subject, positions: Sequence[float]) -> float:
    """Patient x of the midline: at the canal, else in the middle of the slices."""
    known = [float(p[0]) for p in subject.canal_mm.values()]
    return float(np.median(known)) if known else float(np.mean(positions))


def _axial_point(subject: Subject, place: Place) -> FloatArray | None:  # [3]
    """Where the canal passes an axial place; None where the study's levels are unknown."""
    if place.level is None or place.level not in subject.canal_mm:
        return None
    start = subject.canal_mm[place.level]
    if place.below == 0:
        return start
    following = subject.canal_mm.get(Level(place.level + 1))
    return None if following is None else start + place.below * (following - start)


def whole_window(item: Slice, size_px: tuple[int, int], px_per_mm: float) -> Window:
    """The whole slice, its middle in the middle."""
    return Window(center_px=middle_px(item), size_px=size_px, px_per_mm=px_per_mm)


def detail_window(subject: Subject, view: View, item: Slice, size_px: tuple[int, int], px_per_mm: float) -> Window:
    """Around the canal: at L4/L5 on a sagittal slice, at the slice's own height on an axial one."""
    if subject.canal_mm:
        known = subject.canal_mm
        if view.is_sagittal:
            at = known.get(Level.L4_L5, next(iter(known.values())))
        else:
            at = min(known.values(), key=lambda p: abs(float(item.plane.distance_mm(p))))
        x, y = (float(v) for v in item.plane.to_pixel(at))
    else:
        x, y = middle_px(item)
    return Window(center_px=(x, y), size_px=size_px, px_per_mm=px_per_mm)
