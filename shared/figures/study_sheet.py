"""What a contact sheet of a study shows: which slices, how large, and the points, boxes and grades on them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared.data.challenge import MISSING, Point
from shared.detections import Detection, Localization
from shared.figures.sheet import BoxMark, LegendEntry, PointMark, Section, Sheet, Tile, tile_size
from shared.figures.study_picture import SEVERITY_COLORS, likely_grade
from shared.figures.tiles import Window, field_mm, gap_mm, image_left, middle_px, position_mm, side_letter
from shared.labels import Condition, Finding, Level, Severity, Side, View
from shared.runtime.errors import InputError
from shared.study import Series, Slice, Study

PAGE_PX: Final = 2200
# Boxes of lower score are the detector's doubts; they would bury the picture.
SHOWN_SCORE: Final = 0.25
LEVEL_FIELD_MM: Final = 90.0
_LARGEST_PX: Final = {"overview": 420, "series": 720, "level": 520}
# Most columns for up to so many slices.
_COLUMNS: Final = {"overview": ((21, 7), (45, 9), (96, 12), (10**9, 16)), "series": ((24, 4), (60, 5), (10**9, 8))}
_NO_GRADE, _PREDICTED, _BOX = "#ffffff", "#c792ea", "#8fd19e"


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """What is known of a study besides its pixels; any part may be missing.

    Attributes:
      points: annotated points, as they stand in the table.
      grades: severity values in `FINDINGS` order, -1 where not graded. # [25]
      localizations: predicted points.
      detections: predicted boxes.
      values: submitted probabilities in `FINDINGS` order. # [25, 3]
    """

    points: tuple[Point, ...] = ()
    grades: NDArray[np.int8] | None = None
    localizations: tuple[Localization, ...] = ()
    detections: tuple[Detection, ...] = ()
    values: NDArray[np.float64] | None = field(default=None)

    def grade(self, finding: Finding) -> Severity | None:
        value = MISSING if self.grades is None else int(self.grades[finding.index])
        return None if value == MISSING else Severity(value)


def overview_sheet(study: Study, marks: Marks, series_id: str | None = None) -> Sheet:
    """Every slice of every series in anatomical order; one series alone is drawn larger.

    Raises:
      InputError: when the study has no readable series or none of that id.
    """
    mode = "overview" if series_id is None else "series"
    sections = []
    for series in _chosen(study, series_id):
        most = next(columns for limit, columns in _COLUMNS[mode] if len(series.slices) <= limit)
        columns, width = tile_size(len(series.slices), width_px=PAGE_PX, most=most, largest_px=_LARGEST_PX[mode])
        width_mm, height_mm = np.max([field_mm(s) for s in series.slices], axis=0)
        scale = width / width_mm
        size = (width, max(round(height_mm * scale), 1))
        tiles = [(item, Window(center_px=middle_px(item), size_px=size, px_per_mm=scale)) for item in series.slices]
        sections.append(_section(study, series, marks, tiles, columns))
    return _sheet(study, marks, sections, f"Study {study.study_id}")


def level_sheet(study: Study, marks: Marks, level: Level, series_id: str | None = None) -> Sheet:
    """The slices at one level and their neighbours, cropped around it and drawn large.

    Slices are those that hold a point of the level, annotated or predicted; in a series without one, the slice nearest
    to the level's place in the patient.

    Raises:
      InputError: when no point says where the level is, or there is no series of that id.
    """
    spots = _spots(study, marks, level)
    if not spots:
        raise InputError(
            f"study {study.study_id}: no annotated point at {level.display}; "
            "give predicted ones with --localizations or --prediction"
        )
    anchor_mm = _middle_of(spots)
    sections = []
    for series in _chosen(study, series_id):
        own = [s for s in spots if s.series_id == series.series_id]
        slices = _around(series, {s.instance_number for s in own}, anchor_mm)
        columns, width = tile_size(len(slices), width_px=PAGE_PX, most=4, largest_px=_LARGEST_PX["level"])
        scale = width / LEVEL_FIELD_MM
        center_mm = np.mean([s.point_mm for s in own], axis=0) if own else anchor_mm
        tiles = []
        for item in slices:
            x, y = (float(v) for v in item.plane.to_pixel(center_mm))
            tiles.append((item, Window(center_px=(x, y), size_px=(width, width), px_per_mm=scale)))
        if any(item.contains(window.center_px) for item, window in tiles):
            sections.append(_section(study, series, marks, tiles, columns, level))
    return _sheet(study, marks, sections, f"Study {study.study_id}, {level.display}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Spot:
    """A point of one finding, annotated or predicted, in patient mm."""

    series_id: str
    instance_number: int
    finding: Finding
    point_mm: NDArray[np.float64]
    annotated: bool


def _spots(study: Study, marks: Marks, level: Level | None = None) -> list[_Spot]:
    """The study's points that lie on a slice; the predicted ones only where nothing is annotated."""
    for candidates in (marks.points, marks.localizations):
        found = []
        for point in candidates:
            series = study.get(point.series_id)
            item = series.by_instance(point.instance_number) if series else None
            if item is None or not item.contains((point.x_px, point.y_px)):
                continue
            if level is None or point.finding.level is level:
                at = item.plane.to_patient([point.x_px, point.y_px])
                found.append(
                    _Spot(
                        series_id=point.series_id,
                        instance_number=point.instance_number,
                        finding=point.finding,
                        point_mm=at,
                        annotated=isinstance(point, Point),
                    )
                )
        if found:
            return found
    return []


def _middle_of(spots: Sequence[_Spot]) -> NDArray[np.float64]:
    """Where the spine's middle is: at the canal's points, else between those of both sides. # [3]"""
    canal = [s.point_mm for s in spots if s.finding.condition is Condition.CANAL]
    if canal:
        return np.asarray(np.median(canal, axis=0))
    sides = [[s.point_mm for s in spots if s.finding.side is side] for side in Side]
    return np.asarray(np.mean([np.mean(points, axis=0) for points in sides if points], axis=0))


def _around(series: Series, numbers: set[int], anchor_mm: NDArray[np.float64]) -> list[Slice]:
    """The numbered slices, or the one nearest to the anchor, with their neighbours in the stack; in series order."""
    if not numbers:
        nearest = min(series.slices, key=lambda s: abs(float(s.plane.distance_mm(anchor_mm))))
        numbers = {nearest.instance_number}
    kept = set()
    for stack in series.stacks:
        for i, item in enumerate(stack):
            if item.instance_number in numbers:
                kept |= {s.instance_number for s in stack[max(i - 1, 0) : i + 2]}
    return [s for s in series.slices if s.instance_number in kept]


def _by_view(study: Study) -> list[Series]:
    return [s for view in (View.SAGITTAL_T2, View.SAGITTAL_T1, View.AXIAL_T2) for s in study.of_view(view)]


def _chosen(study: Study, series_id: str | None) -> list[Series]:
    """The series to draw: all of them, or the one of that id; raises `InputError` when there is none."""
    known = _by_view(study)
    if not known:
        raise InputError(
            f"study {study.study_id}: no readable slice of a lumbar sagittal T1, sagittal T2 or axial T2 series"
        )
    chosen = [s for s in known if series_id in (None, s.series_id)]
    if not chosen:
        names = ", ".join(f"{s.series_id} ({s.view.value})" for s in known)
        raise InputError(f"study {study.study_id}: no readable series {series_id}; expected one of {names}")
    return chosen


def _section(
    study: Study,
    series: Series,
    marks: Marks,
    tiles: Sequence[tuple[Slice, Window]],
    columns: int,
    level: Level | None = None,
) -> Section:
    """One series' tiles with everything written on them; marks of one level only, when given."""
    midline_mm, source = _midline(study, marks, series, level)
    gaps = [g for stack in series.stacks if (g := gap_mm(stack)) is not None]
    tolerance = float(np.median(gaps)) / 2 if gaps else 0.0
    drawn = []
    for item, window in tiles:
        sagittal = series.view.is_sagittal
        side = side_letter(item, midline_mm, tolerance) if sagittal else ""
        drawn.append(
            Tile(
                item=item,
                window=window,
                number=str(item.instance_number),
                place=f"{'x' if sagittal else 'z'} {position_mm(item, series.view):.1f} mm".replace(
                    "-", "\N{MINUS SIGN}"
                ),
                side=side,
                edge=image_left(item.plane),
                points=point_marks(series, item, marks, level),
                boxes=_box_marks(series, item, marks, level),
            )
        )
    order = (
        f"right to left, midline at x = {midline_mm:.0f} mm ({source})" if series.view.is_sagittal else "head to foot"
    )
    return Section(
        title=f"{series.view.value}   series {series.series_id}",
        detail=f"{_matrix(series)},  gap {_span(gaps, '.1f') if gaps else '-'} mm,  {order}".replace(
            "-", "\N{MINUS SIGN}"
        ),
        tiles=tuple(drawn),
        columns=columns,
    )


def _midline(study: Study, marks: Marks, series: Series, level: Level | None) -> tuple[float, str]:
    """Patient x of the midline, at one level when given, and where that comes from."""
    spots = _spots(study, marks, level)
    if spots:
        kind = "annotated" if spots[0].annotated else "predicted"
        return float(_middle_of(spots)[0]), f"{kind} points"
    return float(np.mean([position_mm(s, View.SAGITTAL_T1) for s in series.slices])), "middle of the series"


def _matrix(series: Series) -> str:
    shapes = list(dict.fromkeys(f"{rows} x {columns}" for rows, columns in (s.shape for s in series.slices)))
    spacings = list(dict.fromkeys(f"{s.plane.spacing_mm[0]:.3g} x {s.plane.spacing_mm[1]:.3g}" for s in series.slices))
    stacks = len(series.stacks)
    count = f"{len(series.slices)} slices" + (f" in {stacks} stacks" if stacks > 1 else "")
    return f"{count},  {_listed(shapes)} pixels (rows x columns),  {_listed(spacings)} mm"


def _listed(texts: Sequence[str]) -> str:
    return " and ".join(texts[:2]) + (f" and {len(texts) - 2} more" if len(texts) > 2 else "")


def _span(values: Sequence[float], form: str) -> str:
    low, high = f"{min(values):{form}}", f"{max(values):{form}}"
    return low if low == high else f"{low} to {high}"


def _name(finding: Finding, view: View) -> str:
    """A finding beside its mark; the condition is named where the view is not its own."""
    side = "" if finding.side is None else f" {finding.side.value[0].upper()}"
    return f"{finding.level.display}{side}" + ("" if finding.view is view else f" {finding.condition.short}")


def point_marks(series: Series, item: Slice, marks: Marks, level: Level | None) -> tuple[PointMark, ...]:
    """Annotated points first, then predicted ones."""

    def here(points: Iterable[Point | Localization]) -> list[Point | Localization]:
        return [
            p
            for p in points
            if (p.series_id, p.instance_number) == (series.series_id, item.instance_number)
            and level in (None, p.finding.level)
            and item.contains((p.x_px, p.y_px))
        ]

    def labelled_left(point: Point | Localization, *, otherwise: bool) -> bool:
        """Outwards on an axial slice, else annotated and predicted points to different sides."""
        side = point.finding.side
        return otherwise if series.view.is_sagittal or side is None else image_left(item.plane) == side.value[0].upper()

    result = []
    annotated = here(marks.points)
    for point in annotated:
        color = grade_color(marks.grade(point.finding))
        result.append(
            PointMark(
                x_px=point.x_px,
                y_px=point.y_px,
                color=color,
                label=_name(point.finding, series.view),
                label_left=labelled_left(point, otherwise=False),
            )
        )
    named = {p.finding for p in annotated}
    for point in here(marks.localizations):
        row = None if marks.values is None else marks.values[point.finding.index]
        texts = [] if point.finding in named else [_name(point.finding, series.view)]
        if row is not None:
            texts.append(f"{row[Severity.SEVERE]:.2f}")
        result.append(
            PointMark(
                x_px=point.x_px,
                y_px=point.y_px,
                color=_PREDICTED if row is None else SEVERITY_COLORS[likely_grade(row)],
                label=" ".join(texts),
                predicted=True,
                label_left=labelled_left(point, otherwise=True),
            )
        )
    return tuple(result)


def grade_color(grade: Severity | None) -> str:
    """The colour of an annotated point; white without a grade."""
    return _NO_GRADE if grade is None else SEVERITY_COLORS[grade]


def _box_marks(series: Series, item: Slice, marks: Marks, level: Level | None) -> tuple[BoxMark, ...]:
    """The best box of each level on this slice."""
    best: dict[Level, Detection] = {}
    for box in marks.detections:
        if (box.series_id, box.instance_number) != (series.series_id, item.instance_number):
            continue
        if box.score >= SHOWN_SCORE and level in (None, box.level):
            best[box.level] = max(best.get(box.level, box), box, key=lambda b: b.score)
    return tuple(
        BoxMark(box_xyxy_px=b.box_xyxy_px, color=_BOX, label=f"{b.level.display} {b.score:.2f}") for b in best.values()
    )


def _sheet(study: Study, marks: Marks, sections: Sequence[Section], title: str) -> Sheet:
    slices = sum(len(s.slices) for s in study.series)
    texts = [f"{len(study.series)} series, {slices} slices"]
    if marks.points:
        off = sum(not _lies_on_a_slice(study, p) for p in marks.points)
        texts.append(
            f"{len(marks.points)} annotated points" + (f" ({off} lie on no slice of the study)" if off else "")
        )
    if marks.localizations:
        texts.append(f"{len(marks.localizations)} predicted points")
    return Sheet(
        title=title,
        subtitle=",  ".join(texts) + ".  Corner: side of a sagittal slice (R, M, L).  Left edge: where it faces.",
        sections=tuple(sections),
        legend=_legend(marks),
    )


def _lies_on_a_slice(study: Study, point: Point) -> bool:
    series = study.get(point.series_id)
    item = series.by_instance(point.instance_number) if series else None
    return item is not None and item.contains((point.x_px, point.y_px))


def _legend(marks: Marks) -> tuple[LegendEntry, ...]:
    """The entries that this study's marks need."""
    entries = []
    if marks.points or marks.values is not None:
        kind = "ring" if marks.points else "diamond"
        entries += [LegendEntry(kind=kind, color=c, label=s.display) for s, c in SEVERITY_COLORS.items()]
    if any(marks.grade(p.finding) is None for p in marks.points):
        entries.append(LegendEntry(kind="ring", color=_NO_GRADE, label="annotated, no grade"))
    if marks.localizations:
        text = (
            "predicted" if marks.values is None else "predicted: colour of the most probable grade, submitted P(Severe)"
        )
        color = _PREDICTED if marks.values is None else _NO_GRADE
        entries.append(LegendEntry(kind="diamond", color=color, label=text))
    if marks.detections:
        label = f"detector's best box of a level with its score, from {SHOWN_SCORE}"
        entries.append(LegendEntry(kind="box", color=_BOX, label=label))
    return tuple(entries)
