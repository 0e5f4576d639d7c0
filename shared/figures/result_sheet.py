"""Pictures of results: a graded study, and the examples and worst misses of the localizer."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from shared.detections import Localization
from shared.figures.marks import NO_GRADE, PREDICTED, LegendEntry, Marks, PointMark, box_marks, legend, point_marks
from shared.figures.sheet import Section, Sheet, Tile, tile_size
from shared.figures.tiles import Window, image_left, middle_px
from shared.geometry import FloatArray
from shared.labels import FINDINGS, Condition, Finding, Level, View, findings_of
from shared.study import Series, Slice, Study

PAGE_PX: Final = 1500
# Wide enough for the five lumbar discs and their neighbours.
SPINE_FIELD_MM: Final = 210.0
AXIAL_FIELD_MM: Final = 90.0
# Half the side of a miss: enough to count the discs around it.
_MISS_MM: Final = 55.0
_MISS_COLUMNS: Final = 4
_EDGE: Final = "The letter at the left edge is the patient direction it faces."


def graded_sheet(study: Study, marks: Marks) -> Sheet:
    """One sagittal slice per condition and side, and one axial slice per level, with all predicted findings on them.

    A slice is the middle one of those that its findings were localized on; they are projected onto it. `marks` needs
    localizations and probabilities; with grades the true grade stands in brackets.
    """
    sagittal = {Condition.CANAL.display: findings_of(Condition.CANAL)}
    for side in ("right", "left"):
        name = f"{Condition.FORAMINAL.display}, {side}"
        sagittal[name] = tuple(f for f in findings_of(Condition.FORAMINAL) if f.side == side)
    axial = {
        level.display: tuple(f for f in findings_of(Condition.SUBARTICULAR) if f.level is level) for level in Level
    }
    return Sheet(
        title=f"Study {study.study_id}",
        subtitle=f"{len(marks.localizations)} of {len(FINDINGS)} findings localized.  {_EDGE}",
        sections=(
            _graded_section(study, marks, "Sagittal: spinal canal and neural foramina", sagittal, SPINE_FIELD_MM),
            _graded_section(study, marks, "Axial: subarticular zones", axial, AXIAL_FIELD_MM),
        ),
        legend=legend(marks),
    )


def _graded_section(
    study: Study, marks: Marks, title: str, groups: dict[str, tuple[Finding, ...]], field_mm: float
) -> Section:
    columns, width = tile_size(len(groups), width_px=PAGE_PX, most=len(groups), largest_px=PAGE_PX)
    tiles, absent = [], []
    for name, findings in groups.items():
        found = [x for x in marks.localizations if x.finding in findings]
        place = _common_slice(study, found)
        if place is None:
            absent.append(name)
            continue
        series, item = place
        here = tuple(_projected(study, x, series, item) for x in found)
        center = np.mean([(x.x_px, x.y_px) for x in here], axis=0)
        shown = replace(marks, points=(), localizations=here, detections=())
        tiles.append(_tile(series, item, shown, _window(center, width, field_mm), name))
    missing = f".  Not localized: {'; '.join(absent)}" if absent else ""
    return Section(title=title, detail=f"each {field_mm:.0f} mm wide{missing}", tiles=tuple(tiles), columns=columns)


def _common_slice(study: Study, found: Sequence[Localization]) -> tuple[Series, Slice] | None:
    """The slice in the middle of those that the findings lie on."""
    ordered = sorted(found, key=lambda x: (x.series_id, x.instance_number))
    return _slice_of(study, ordered[len(ordered) // 2]) if ordered else None


def _slice_of(study: Study, place: Localization) -> tuple[Series, Slice] | None:
    series = study.get(place.series_id)
    item = series.by_instance(place.instance_number) if series else None
    return None if series is None or item is None else (series, item)


def _projected(study: Study, found: Localization, series: Series, item: Slice) -> Localization:
    """The localization carried over to another slice, with the planes of the study that is drawn."""
    place = _slice_of(study, found)
    at_mm = found.point_mm if place is None else place[1].plane.to_patient((found.x_px, found.y_px))
    x, y = item.plane.to_pixel(at_mm)
    return replace(
        found, series_id=series.series_id, instance_number=item.instance_number, x_px=float(x), y_px=float(y)
    )


def _window(center_px: FloatArray | tuple[float, float], size_px: int, field_mm: float) -> Window:
    x, y = (float(v) for v in center_px)
    return Window(center_px=(x, y), size_px=(size_px, size_px), px_per_mm=size_px / field_mm)


def _tile(series: Series, item: Slice, marks: Marks, window: Window, title: str) -> Tile:
    # A label does not repeat the level that the title names.
    points = [replace(p, label=p.label.removeprefix(f"{title} ")) for p in point_marks(series, item, marks)]
    return Tile(
        item=item,
        window=window,
        title=title,
        note=f"slice {item.instance_number}",
        side="",
        edge=image_left(item.plane),
        points=tuple(points),
        boxes=box_marks(series, item, marks),
    )


def example_sheet(study: Study, marks: Marks, truth: Sequence[Localization]) -> Sheet:
    """The slice of each view with the most true points, with all that `marks` holds on it."""
    columns, width = tile_size(len(View), width_px=PAGE_PX, most=len(View), largest_px=PAGE_PX)
    tiles, absent = [], []
    for view in View:
        places = sorted((x.series_id, x.instance_number) for x in truth if x.finding.view is view)
        busiest = max(places, key=places.count, default=None)
        true = [x for x in truth if (x.series_id, x.instance_number) == busiest]
        place = _slice_of(study, true[0]) if true else None
        if place is None:
            absent.append(view.value)
            continue
        series, item = place
        middle = np.mean([(x.x_px, x.y_px) for x in true], axis=0) if view.is_sagittal else middle_px(item)
        tiles.append(_tile(series, item, marks, _window(middle, width, SPINE_FIELD_MM), view.value))
    missing = f".  Without a true point: {', '.join(absent)}" if absent else ""
    section = Section(
        title="The slice of each view with the most true points",
        detail=f"each {SPINE_FIELD_MM:.0f} mm wide{missing}",
        tiles=tuple(tiles),
        columns=columns,
    )
    return Sheet(title=f"Study {study.study_id}", subtitle=_EDGE, sections=(section,), legend=legend(marks))


@dataclass(frozen=True, slots=True, kw_only=True)
class Miss:
    """A localization far from its true point, with a text for the slice of each."""

    study: Study
    true: Localization
    found: Localization
    true_text: str
    found_text: str


def misses_sheet(misses: Sequence[Miss]) -> Sheet:
    """Two tiles per miss: the true slice and the slice that was found, with both points on each."""
    _, width = tile_size(_MISS_COLUMNS, width_px=PAGE_PX, most=_MISS_COLUMNS, largest_px=PAGE_PX)
    tiles = []
    for miss in misses:
        pair = ((miss.true, miss.true_text), (miss.found, miss.found_text))
        for place, text in pair:
            _, item = _slice_of(miss.study, place) or (None, None)
            if item is None:
                continue
            ends = item.plane.to_pixel([miss.true.point_mm, miss.found.point_mm])
            apart_mm = float(np.linalg.norm(np.subtract(miss.true.point_mm, miss.found.point_mm)))
            marks = [
                PointMark(x_px=float(x), y_px=float(y), color=NO_GRADE if k == 0 else PREDICTED, predicted=k == 1)
                for k, (x, y) in enumerate(ends)
            ]
            tiles.append(
                Tile(
                    item=item,
                    window=_window(ends.mean(0), width, 2 * max(_MISS_MM, 0.7 * apart_mm)),
                    title=f"{text}\nslice {item.instance_number}",
                    note="",
                    side="",
                    edge=image_left(item.plane),
                    points=tuple(marks),
                    linked=True,
                )
            )
    section = Section(
        title="Largest errors", detail="pairs of the true slice and the slice that was found",
        tiles=tuple(tiles), columns=_MISS_COLUMNS,
    )  # fmt: skip
    entries = (
        LegendEntry(kind="ring", color=NO_GRADE, label="true point"),
        LegendEntry(kind="diamond", color=PREDICTED, label="localized point"),
    )
    return Sheet(title="Worst cases", subtitle=_EDGE, sections=(section,), legend=entries)
