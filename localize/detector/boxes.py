"""Annotated points -> boxes of fixed size in mm on every slice that shows them.

A level's point is known in patient space, so it can be drawn on the neighbouring slices too. A class is a level and
never a side: on sagittal slices left and right foramina look alike, and on axial slices one box spans both subarticular
points, its left and right edge lying a fixed margin outside them. Which edge is the patient's left follows from the
slice's plane.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from itertools import pairwise

import numpy as np

from localize.config import ViewConfig
from shared.detections import Localization
from shared.geometry import FloatArray, Plane
from shared.labels import Condition, Finding, Level, Side, View
from shared.study import Series, Slice


class Role(Enum):
    """What a slice is to training."""

    POSITIVE = auto()  # shows at least one level
    NEGATIVE = auto()  # shows none
    UNCLEAR = auto()  # too near to a level to be called empty: not used


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelBox:
    """A true box on a slice, in slice pixels (left, top, right, bottom)."""

    level: Level
    box_xyxy_px: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledSlice:
    """A slice with its true boxes."""

    item: Slice
    role: Role
    boxes: tuple[LevelBox, ...]


VIEW_CONDITION = {condition.view: condition for condition in Condition}


def label_series(
    series: Series, truth: Mapping[Finding, Localization], config: ViewConfig
) -> tuple[LabelledSlice, ...]:
    """Role and true boxes of every slice of a series, in the series' order.

    Points of the same view count wherever they were annotated: a second axial series shows the same discs. Without any
    point nothing can be said of the series, so all its slices are unclear.
    """
    spots = level_spots(truth, series.view)
    if not spots:
        return tuple(LabelledSlice(item=item, role=Role.UNCLEAR, boxes=()) for item in series.slices)
    gap_mm, boxless = slice_gap_mm(series), _boxless_points(truth, {level for level, _ in spots})
    labelled = []
    for item in series.slices:
        result = _label_slice(item, spots, gap_mm, series.view, config)
        if result.role is Role.NEGATIVE and _is_near(item, boxless, (config.neighbours + 1.5) * gap_mm):
            result = LabelledSlice(item=item, role=Role.UNCLEAR, boxes=())
        labelled.append(result)
    return tuple(labelled)


def _boxless_points(truth: Mapping[Finding, Localization], boxed: set[Level]) -> FloatArray:
    """Points of levels that this view does not annotate: slices through them are not empty. # [n, 3]"""
    points = [loc.point_mm for f, loc in truth.items() if f.level not in boxed]
    return np.array(points, np.float64).reshape(-1, 3)


def _is_near(item: Slice, points_mm: FloatArray, reach_mm: float) -> bool:
    return len(points_mm) > 0 and float(np.abs(item.plane.distance_mm(points_mm)).min()) <= reach_mm


def level_spots(truth: Mapping[Finding, Localization], view: View) -> list[tuple[Level, FloatArray]]:
    """What a box is drawn around: a level and its points in patient mm, [1, 3] sagittal or [2, 3] (left, right) axial.

    An axial level with one annotated side only is left out, because its box cannot be drawn.
    """
    condition = VIEW_CONDITION[view]
    points = {f: np.array(loc.point_mm) for f, loc in truth.items() if f.condition is condition}
    if view is not View.AXIAL_T2:
        return [(f.level, p[None]) for f, p in sorted(points.items(), key=lambda item: item[0].index)]
    spots = []
    for level in Level:
        sides = [points.get(Finding(condition=condition, side=side, level=level)) for side in (Side.LEFT, Side.RIGHT)]
        if sides[0] is not None and sides[1] is not None:
            spots.append((level, np.stack([sides[0], sides[1]])))
    return spots


def slice_gap_mm(series: Series) -> float:
    """Median distance between neighbouring slices of a stack; 4 mm when every stack has one slice."""
    gaps = [
        abs(float(a.plane.distance_mm(np.asarray(b.plane.origin_mm))))
        for stack in series.stacks
        for a, b in pairwise(stack)
    ]
    gaps = [gap for gap in gaps if gap > 0.1]
    return float(np.median(gaps)) if gaps else 4.0


def _label_slice(
    item: Slice, spots: Sequence[tuple[Level, FloatArray]], gap_mm: float, view: View, config: ViewConfig
) -> LabelledSlice:
    distances = [float(np.abs(item.plane.distance_mm(points)).min()) for _, points in spots]
    reach = (config.neighbours + 0.5) * gap_mm
    nearest = min(distances)
    if nearest > reach + gap_mm:
        return LabelledSlice(item=item, role=Role.NEGATIVE, boxes=())
    if nearest > reach:
        return LabelledSlice(item=item, role=Role.UNCLEAR, boxes=())
    if view is View.AXIAL_T2:
        chosen = [spots[int(np.argmin(distances))]]
    else:
        # A slice that shows one level shows the others too, unless the spine bends away from it.
        chosen = [spot for spot, d in zip(spots, distances, strict=True) if d <= reach + gap_mm]
    boxes = [LevelBox(level=level, box_xyxy_px=_box(item.plane, points, config)) for level, points in chosen]
    inside = tuple(box for box in boxes if item.contains(_center(box)))
    return LabelledSlice(item=item, role=Role.POSITIVE if inside else Role.UNCLEAR, boxes=inside)


def _center(box: LevelBox) -> tuple[float, float]:
    left, top, right, bottom = box.box_xyxy_px
    return (left + right) / 2, (top + bottom) / 2


def _box(plane: Plane, points_mm: FloatArray, config: ViewConfig) -> tuple[float, float, float, float]:
    """Box around one point, or around a left and a right one with a margin on each side."""
    dy, dx = plane.spacing_mm
    points_px = plane.to_pixel(points_mm)
    half_height = config.box_mm / 2 / dy
    half_width = (config.box_mm / 2 if len(points_mm) == 1 else config.margin_mm) / dx
    y = float(points_px[:, 1].mean())
    left, right = float(points_px[:, 0].min()) - half_width, float(points_px[:, 0].max()) + half_width
    return left, y - half_height, right, y + half_height


def side_points_px(
    plane: Plane, box_xyxy_px: tuple[float, float, float, float], margin_mm: float
) -> dict[Side, tuple[float, float]]:
    """The two subarticular points of an axial box, by side: the patient's left is the one with the larger x in mm.

    The inverse of the axial box: the points lie `margin_mm` inside the left and right edge, at half height. A box
    narrower than two margins gives its centre twice.
    """
    left, top, right, bottom = box_xyxy_px
    inset = min(margin_mm / plane.spacing_mm[1], (right - left) / 2)
    y = (top + bottom) / 2
    ends = [(left + inset, y), (right - inset, y)]
    if plane.row_dir[0] < 0:
        ends.reverse()
    return {Side.RIGHT: ends[0], Side.LEFT: ends[1]}
