"""Contact sheets of a study for `lumbar show`: which slices, how large, and what is written on them."""

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np

from shared.data.challenge import Point
from shared.detections import Localization
from shared.figures.marks import Marks, box_marks, legend, point_marks
from shared.figures.sheet import Section, Sheet, Tile, tile_size
from shared.figures.tiles import Window, field_mm, image_left, middle_px, position_mm, side_letter
from shared.geometry import FloatArray
from shared.labels import Condition, Level, Side, View
from shared.runtime.errors import InputError
from shared.runtime.problems import counted
from shared.study import Series, Slice, Study, gaps_mm

PAGE_PX: Final = 2200
LEVEL_FIELD_MM: Final = 90.0
_LARGEST_PX: Final = {"overview": 420, "series": 720, "level": 520}
# Most columns for up to so many slices.
_COLUMNS: Final = {"overview": ((21, 7), (45, 9), (96, 12), (10**9, 16)), "series": ((24, 4), (60, 5), (10**9, 8))}


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
    """The slices at one level and their neighbours, cropped around the level and drawn large.

    These are the slices with a point of the level, annotated or predicted; in a series without one, the slice nearest
    to the level.

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
        own = [(p, at) for p, at in spots if p.series_id == series.series_id]
        slices = _around(series, {p.instance_number for p, _ in own}, anchor_mm)
        columns, width = tile_size(len(slices), width_px=PAGE_PX, most=4, largest_px=_LARGEST_PX["level"])
        scale = width / LEVEL_FIELD_MM
        center_mm = np.mean([at for _, at in own], axis=0) if own else anchor_mm
        tiles = []
        for item in slices:
            x, y = (float(v) for v in item.plane.to_pixel(center_mm))
            tiles.append((item, Window(center_px=(x, y), size_px=(width, width), px_per_mm=scale)))
        if any(item.contains(window.center_px) for item, window in tiles):
            sections.append(_section(study, series, marks, tiles, columns, level))
    return _sheet(study, marks, sections, f"Study {study.study_id}, {level.display}")


_Spot = tuple[Point | Localization, FloatArray]  # a point and where it lies in patient mm, [3]


def _spots(study: Study, marks: Marks, level: Level | None = None) -> list[_Spot]:
    """The points that lie on a slice of the study; the predicted ones only where nothing is annotated."""

    def found(points: Iterable[Point | Localization]) -> list[_Spot]:
        return [
            (point, item.plane.to_patient([point.x_px, point.y_px]))
            for point in points
            if (item := _slice_of(study, point)) is not None and level in (None, point.finding.level)
        ]

    return found(marks.points) or found(marks.localizations)


def _slice_of(study: Study, point: Point | Localization) -> Slice | None:
    """The slice that a point lies on; None when it lies on no slice of the study."""
    series = study.get(point.series_id)
    item = series.by_instance(point.instance_number) if series else None
    return item if item is not None and item.contains((point.x_px, point.y_px)) else None


def _middle_of(spots: Sequence[_Spot]) -> FloatArray:
    """The middle of the spine in patient mm, [3]: at the canal's points, else between those of both sides."""
    canal = [at for point, at in spots if point.finding.condition is Condition.CANAL]
    if canal:
        return np.asarray(np.median(canal, axis=0))
    sides = [[at for point, at in spots if point.finding.side is side] for side in Side]
    return np.asarray(np.mean([np.mean(points, axis=0) for points in sides if points], axis=0))


def _around(series: Series, numbers: set[int], anchor_mm: FloatArray) -> list[Slice]:
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
    """The tiles of one series with everything written on them; marks of one level only, when given."""
    sagittal = series.view.is_sagittal
    midline_mm, source = _midline(study, marks, series, level)
    gaps = [float(np.median(gaps_mm(stack))) for stack in series.stacks if len(stack) > 1]
    tolerance = float(np.median(gaps)) / 2 if gaps else 0.0
    drawn = tuple(
        Tile(
            item=item,
            window=window,
            title=str(item.instance_number),
            note=_minus(f"{'x' if sagittal else 'z'} {position_mm(item, series.view):z.1f} mm"),
            side=side_letter(item, midline_mm, tolerance) if sagittal else "",
            edge=image_left(item.plane),
            points=point_marks(series, item, marks, level),
            boxes=box_marks(series, item, marks, level),
        )
        for item, window in tiles
    )
    order = f"right to left, midline at x = {midline_mm:z.0f} mm ({source})" if sagittal else "head to foot"
    return Section(
        title=f"{series.view.value}   series {series.series_id}",
        detail=_minus(f"{_matrix(series)},  gap {_span(gaps, '.1f') if gaps else '-'} mm,  {order}"),
        tiles=drawn,
        columns=columns,
    )


def _minus(text: str) -> str:
    return text.replace("-", "\N{MINUS SIGN}")


def _midline(study: Study, marks: Marks, series: Series, level: Level | None) -> tuple[float, str]:
    """Patient x of the midline, at one level when given, and where that comes from."""
    spots = _spots(study, marks, level)
    if spots:
        kind = "annotated" if isinstance(spots[0][0], Point) else "predicted"
        return float(_middle_of(spots)[0]), f"{kind} points"
    return float(np.mean([position_mm(s, View.SAGITTAL_T1) for s in series.slices])), "middle of the series"


def _matrix(series: Series) -> str:
    shapes = list(dict.fromkeys(f"{rows} x {columns}" for rows, columns in (s.shape for s in series.slices)))
    spacings = list(dict.fromkeys(f"{s.plane.spacing_mm[0]:.3g} x {s.plane.spacing_mm[1]:.3g}" for s in series.slices))
    stacks = len(series.stacks)
    count = f"{counted(len(series.slices), 'slice')}" + (f" in {counted(stacks, 'stack')}" if stacks > 1 else "")
    return f"{count},  {_listed(shapes)} pixels (rows x columns),  {_listed(spacings)} mm"


def _listed(texts: Sequence[str]) -> str:
    return " and ".join(texts[:2]) + (f" and {len(texts) - 2} more" if len(texts) > 2 else "")


def _span(values: Sequence[float], form: str) -> str:
    low, high = f"{min(values):{form}}", f"{max(values):{form}}"
    return low if low == high else f"{low} to {high}"


def _sheet(study: Study, marks: Marks, sections: Sequence[Section], title: str) -> Sheet:
    texts = [f"{len(study.series)} series, {counted(sum(len(s.slices) for s in study.series), 'slice')}"]
    if marks.points:
        off = sum(_slice_of(study, p) is None for p in marks.points)
        texts.append(
            f"{counted(len(marks.points), 'annotated point')}"
            + (f" ({off} lie on no slice of the study)" if off else "")
        )
    if marks.localizations:
        texts.append(f"{counted(len(marks.localizations), 'predicted point')}")
    return Sheet(
        title=title,
        subtitle=",  ".join(texts) + ".  Corner: side of a sagittal slice (R, M, L).  Left edge: direction it faces.",
        sections=tuple(sections),
        legend=legend(marks),
    )
