"""A study's slices with what is known of places on them, and the panels that show them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

import numpy as np

from pipelines.pages.listing import series_names
from pipelines.pages.panels import Box, Frame, Label, Margin, Panel, apart, grade_lines, level_labels, tone_of
from pipelines.pages.pictures import Picture, PicturedSeries, pictured
from pipelines.pages.readings import Reading
from shared.geometry import FloatArray
from shared.labels import Condition, Level, Side
from shared.mirror.correct import with_turned

if TYPE_CHECKING:
    from pipelines.result import StudyResult

_SPINE: Final = Frame(width=480, height=440, left=60, right=108)
_SPINE_MM: Final = 145.0  # the five lumbar discs and their neighbours in height
_SAGITTAL: Final = Frame(width=400, height=290, right=108)
_AXIAL: Final = Frame(width=400, height=290, left=88, right=88)
_CLOSE_MM: Final = 75.0
_SAGITTAL_VIEWER: Final = Frame(width=520, height=380, left=60, right=108)
_AXIAL_VIEWER: Final = Frame(width=520, height=380, left=88, right=88)
_RING: Final = 9.0
# An axial slice further from a level's point than this does not show the level.
_NEAR_MM: Final = 8.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewer:
    """All slices of a series to scroll through.

    Attributes:
      name: of the series, unique on the page.
      panels: one per slice, in anatomical order.
      start: index of the slice that is shown first: the middle one of those that were graded on.
      whole: how many slices the series has; more than there are panels where there are very many.
    """

    name: str
    panels: tuple[Panel, ...]
    start: int
    whole: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """The pictures of a study.

    Attributes:
      series: as the patient is, also where a series is mirrored against its header.
      names: series id -> its name on the page.
      readings: those that have a point.
      levels_mm: the middle of each level that was found, in the patient.
    """

    series: tuple[PicturedSeries, ...]
    names: Mapping[str, str]
    readings: tuple[Reading, ...]
    levels_mm: Mapping[Level, FloatArray]

    @classmethod
    def of(cls, result: "StudyResult", readings: Sequence[Reading]) -> Self:
        """Reads the slices."""
        places = {(r.place.series_id, r.place.instance_number) for r in readings if r.place}
        series = pictured(with_turned(result.study, result.turned), places)
        placed = tuple(r for r in readings if r.place and _slice_of(series, r))
        return cls(
            series=series, names=series_names({s.series.series_id: s.series.view for s in series}), readings=placed,
            levels_mm=_level_points(series, placed),
        )  # fmt: skip

    def spine(self) -> Panel | None:
        """The sagittal slice on which most canals were graded, or else a middle one, with the names of the levels."""
        canals = [r for r in self.readings if r.finding.condition is Condition.CANAL]
        found = self._middle(canals)
        if found is None:
            sagittal = [s for s in self.series if s.series.view.is_sagittal and s.pictures]
            if not sagittal:
                return None
            found = sagittal[0], sagittal[0].pictures[len(sagittal[0].pictures) // 2]
        series, picture = found
        shown = [picture.project(point) for point in self.levels_mm.values()]
        if not shown:
            return self._panel(series, picture, _SPINE, _SPINE.whole(picture), ())
        middle = np.mean(shown, axis=0)
        crop = _SPINE.around((float(middle[0]), float(middle[1])), _SPINE_MM)
        return self._panel(series, picture, _SPINE, crop, canals, levels=True)

    def of_level(self, level: Level) -> list[Panel]:
        """The slices of one level, each part of the spine on its own; what has no point has no panel."""
        here = [r for r in self.readings if r.finding.level is level]
        groups = [[r for r in here if r.finding.condition is Condition.CANAL]]
        groups.append([r for r in here if r.finding.condition is Condition.SUBARTICULAR])
        for side in (Side.RIGHT, Side.LEFT):
            groups.append([r for r in here if r.finding.condition is Condition.FORAMINAL and r.finding.side is side])
        panels = []
        for group in groups:
            found = self._middle(group)
            if found is None:
                continue
            series, picture = found
            frame = _SAGITTAL if series.series.view.is_sagittal else _AXIAL
            middle = np.mean([self._on(picture, r) for r in group], axis=0)
            crop = frame.around((float(middle[0]), float(middle[1])), _CLOSE_MM)
            panels.append(self._panel(series, picture, frame, crop, group))
        return panels

    def viewers(self) -> list[Viewer]:
        """Every series with a readable slice."""
        viewers = []
        for series in self.series:
            if not any(p.jpeg for p in series.pictures):
                continue
            frame = _SAGITTAL_VIEWER if series.series.view.is_sagittal else _AXIAL_VIEWER
            panels, graded = [], []
            for k, picture in enumerate(series.pictures):
                here = [r for r in self.readings if _slice_of(self.series, r) == (series, picture)]
                graded += [k] if here else []
                panels.append(
                    self._panel(series, picture, frame, frame.whole(picture), here,
                                levels=series.series.view.is_sagittal)
                )  # fmt: skip
            viewers.append(
                Viewer(
                    name=self.names[series.series.series_id],
                    panels=tuple(panels),
                    whole=series.whole,
                    start=graded[len(graded) // 2] if graded else len(panels) // 2,
                )
            )
        return viewers

    def _middle(self, group: Sequence[Reading]) -> tuple[PicturedSeries, Picture] | None:
        """The slice in the middle of those that the findings lie on."""
        ordered = sorted(group, key=lambda r: (r.place.series_id, r.place.instance_number) if r.place else ("", 0))
        return _slice_of(self.series, ordered[len(ordered) // 2]) if ordered else None

    def _on(self, picture: Picture, reading: Reading) -> tuple[float, float]:
        """The point of a finding on a slice, onto which it is projected if it lies on another one."""
        found = _slice_of(self.series, reading)
        if found is None or reading.place is None:
            raise ValueError(f"{reading.name} has no slice")
        at_px = (reading.place.x_px, reading.place.y_px)
        return picture.to_mm(at_px) if found[1] is picture else picture.project(found[1].to_patient(at_px))

    def _panel(
        self, series: PicturedSeries, picture: Picture, frame: Frame, crop: Box, readings: Sequence[Reading], *,
        levels: bool = False,
    ) -> Panel:  # fmt: skip
        """A panel with the given findings, and with the names of the levels in its left margin if asked for."""
        sagittal = series.series.view.is_sagittal
        labels = []
        for reading in readings:
            x, y = frame.at(self._on(picture, reading), crop)
            margin: Margin = "right"
            if not sagittal and reading.finding.side is not None:
                margin = "left" if picture.edges["left"] == reading.finding.side.value[0].upper() else "right"
            name = reading.finding.level.display if frame is _AXIAL_VIEWER else ""
            labels.append(
                Label(
                    lines=grade_lines(reading, name, narrow=not sagittal),
                    tone=tone_of(reading),
                    margin=margin,
                    y=y,
                    target=(x, y),
                    radius=_RING,
                    doubtful=bool(reading.doubts) or reading.grade is None,
                )
            )
        if levels:
            heights = [(level, frame.at(picture.project(point), crop)[1]) for level, point in self.levels_mm.items()]
            labels += level_labels(heights, frame)
        return Panel(
            picture=picture, frame=frame, crop=crop, labels=apart(labels, frame),
            series=self.names[series.series.series_id], readings=tuple(readings),
            level=None if sagittal else self._level_near(picture),
        )  # fmt: skip

    def _level_near(self, picture: Picture) -> Level | None:
        """The level that an axial slice passes through."""
        away = {
            level: abs(float(picture.item.plane.distance_mm(point))) for level, point in self.levels_mm.items()
        }  # fmt: skip
        nearest = min(away, key=lambda level: away[level], default=None)
        return nearest if nearest is not None and away[nearest] <= _NEAR_MM else None


def _slice_of(series: Sequence[PicturedSeries], reading: Reading) -> tuple[PicturedSeries, Picture] | None:
    """The slice that a finding was graded on."""
    place = reading.place
    for each in series:
        if place is not None and each.series.series_id == place.series_id:
            picture = each.by_instance(place.instance_number)
            return None if picture is None else (each, picture)
    return None


def _level_points(series: Sequence[PicturedSeries], readings: Sequence[Reading]) -> dict[Level, FloatArray]:
    """The canal's point of each level, or else the mean of its other points, in the patient."""
    points: dict[Level, FloatArray] = {}
    for level in Level:
        for condition in Condition:
            found = [
                picture[1].to_patient((r.place.x_px, r.place.y_px))
                for r in readings
                if r.finding.level is level and r.finding.condition is condition and r.place
                if (picture := _slice_of(series, r))
            ]
            if found and level not in points:
                points[level] = np.mean(found, axis=0)
    return points
