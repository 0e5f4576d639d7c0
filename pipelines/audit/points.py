"""Checks annotated points against the images they name and against each other, in patient space.

Without images `check_points_without_images` checks what it can in pixels, from the tables alone.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from pipelines.audit.issues import Code, Issue, name_findings
from pipelines.audit.levels import check_levels
from shared.data.challenge import Point
from shared.geometry import LEFT, FloatArray
from shared.labels import Condition, Finding, Level, Side, View
from shared.runtime.problems import counted
from shared.study import Slice, Study

# A point this near to two borders was never placed: those of the challenge lie near pixel (5, 5).
CORNER_PX: Final = 8.0
_CORNER_SHARE: Final = 0.02
# Left and right of one level are some 20 to 50 mm apart; a step this small to the wrong side is mere inaccuracy.
_SIDE_MARGIN_MM: Final = 2.0
# A point without its twin is compared with the midline, which is itself uncertain.
_LONE_MARGIN_MM: Final = 5.0
_WHOLE_SERIES: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedPoint:
    """A point on its slice; `mm` is its position in the patient, shape [3]."""

    point: Point
    view: View
    item: Slice
    mm: FloatArray

    @property
    def finding(self) -> Finding:
        return self.point.finding

    @property
    def relative(self) -> tuple[float, float]:
        """x and y as shares of the upright image's width and height."""
        upright = self.item.upright()
        point_px = (self.point.x_px, self.point.y_px)
        x, y = (float(v) for v in upright.orientation.to_upright(point_px, upright.stored_shape))
        return x / upright.shape[1], y / upright.shape[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Points of one study: those that lie on a slice, and what is wrong with the others."""

    placed: tuple[PlacedPoint, ...]
    issues: tuple[Issue, ...]


def place_points(study: Study, points: Sequence[Point], unread: Iterable[str] = ()) -> Placement:
    """Lifts points to patient space.

    Args:
      unread: ids of series with unreadable files, which may explain a missing slice.
    """
    placed, issues, unread = [], [], set(unread)
    for point in points:
        series = study.get(point.series_id)
        if series is None:
            reason = f"{name_findings(point.finding)} names series {point.series_id}, which has no slices here"
            issues.append(_issue(Code.POINT_WITHOUT_SERIES, point, reason))
            continue
        item = series.by_instance(point.instance_number)
        if item is None:
            numbers = [s.instance_number for s in series.slices]
            reason = (
                f"{name_findings(point.finding)} names instance {point.instance_number}; the series has "
                f"{counted(len(numbers), 'slice')}, {min(numbers)} to {max(numbers)}"
                + (", and files that cannot be read" if point.series_id in unread else "")
            )
            issues.append(_issue(Code.POINT_WITHOUT_SLICE, point, reason))
            continue
        size = f"image of {item.shape[1]} x {item.shape[0]} pixels (width x height)"
        where = f"{name_findings(point.finding)} at x {point.x_px:.1f}, y {point.y_px:.1f}"
        if not item.contains((point.x_px, point.y_px)):
            issues.append(_issue(Code.POINT_OUTSIDE, point, f"{where} of an {size}"))
        elif in_corner(point, item.shape):
            issues.append(_issue(Code.POINT_IN_CORNER, point, f"{where} of an {size}"))
        else:
            mm = item.plane.to_patient([point.x_px, point.y_px])
            placed.append(PlacedPoint(point=point, view=series.view, item=item, mm=mm))
    return Placement(placed=tuple(placed), issues=tuple(issues))


def in_corner(point: Point, shape: tuple[int, int] | None) -> bool:
    """Whether a point lies in a corner of its image; without `shape` only the top left corner is known."""
    if shape is None:
        return 0 <= point.x_px <= CORNER_PX and 0 <= point.y_px <= CORNER_PX
    x = min(point.x_px, shape[1] - 1 - point.x_px)
    y = min(point.y_px, shape[0] - 1 - point.y_px)
    return x <= max(CORNER_PX, _CORNER_SHARE * shape[1]) and y <= max(CORNER_PX, _CORNER_SHARE * shape[0])


def check_points(placed: Sequence[PlacedPoint]) -> list[Issue]:
    """Views, sides and levels of the points of one study."""
    first = {p.finding: p for p in reversed(placed)}
    issues = _repeated([p.point for p in placed])
    issues += _views([(p.point, p.view) for p in placed])
    issues += _one_slice([p.point for p in first.values()])
    issues += _sides(first)
    issues += check_levels({finding: p.mm for finding, p in first.items()})
    return issues


def check_points_without_images(points: Sequence[Point], views: dict[str, View]) -> list[Issue]:
    """What tables alone show: unknown series, corners, views, one slice for both sides, sides and order in pixels."""
    issues, kept = [], []
    for point in points:
        where = f"{name_findings(point.finding)} at x {point.x_px:.1f}, y {point.y_px:.1f}"
        if point.series_id not in views:
            reason = f"{name_findings(point.finding)} names series {point.series_id}, which no table lists"
            issues.append(_issue(Code.POINT_WITHOUT_SERIES, point, reason))
        elif point.x_px < -0.5 or point.y_px < -0.5:
            issues.append(_issue(Code.POINT_OUTSIDE, point, where))
        elif in_corner(point, None):
            issues.append(_issue(Code.POINT_IN_CORNER, point, where))
        else:
            kept.append(point)
    first = {p.finding: p for p in reversed(kept)}
    issues += _repeated(kept)
    issues += _views([(p, views[p.series_id]) for p in kept])
    issues += _one_slice(list(first.values()))
    return issues + _sides_and_order_px(first, views)


def _sides_and_order_px(points: dict[Finding, Point], views: dict[str, View]) -> list[Issue]:
    """Left against right on axial slices, each level against the next on sagittal ones, within one series."""
    issues = []
    for finding, point in points.items():
        sagittal = views[point.series_id].is_sagittal
        other = _next(finding) if sagittal else _opposite(finding)
        twin = None if other is None else points.get(other)
        if twin is None or twin.series_id != point.series_id:
            continue
        if sagittal and twin.y_px <= point.y_px:
            reason = (
                f"{name_findings(finding)} at y {point.y_px:.1f}, {twin.finding.level.display} at y {twin.y_px:.1f}"
            )
            issues.append(_issue(Code.LEVEL_ORDER, point, f"{reason}; expected y to rise from head to foot"))
        # Axial pictures show the patient's left at larger x in all but one of the challenge's 8,770 pairs.
        if not sagittal and finding.side is Side.LEFT and point.x_px < twin.x_px:
            reason = f"{name_findings(finding)} at x {point.x_px:.1f}, right at x {twin.x_px:.1f}"
            issues.append(_issue(Code.SIDES_SWAPPED, point, f"{reason}; expected left at larger x"))
    return issues


def _opposite(finding: Finding) -> Finding | None:
    if finding.side is None:
        return None
    return Finding(condition=finding.condition, side=finding.side.opposite, level=finding.level)


def _next(finding: Finding) -> Finding | None:
    """The finding one level further down."""
    if finding.level is Level.L5_S1:
        return None
    return Finding(condition=finding.condition, side=finding.side, level=Level(finding.level + 1))


def _issue(code: Code, point: Point, reason: str) -> Issue:
    return Issue(code=code, series_id=point.series_id, instance_number=point.instance_number, reason=reason)


def _repeated(points: Sequence[Point]) -> list[Issue]:
    seen: set[Finding] = set()
    issues = []
    for point in points:
        if point.finding in seen:
            issues.append(_issue(Code.POINT_REPEATED, point, f"{name_findings(point.finding)} has a further point"))
        seen.add(point.finding)
    return issues


def _views(points: Sequence[tuple[Point, View]]) -> list[Issue]:
    """Points on a series of the wrong view; one issue per series and condition."""
    groups: dict[tuple[str, Condition], list[tuple[Point, View]]] = {}
    for point, view in points:
        if view is not point.finding.view:
            groups.setdefault((point.series_id, point.finding.condition), []).append((point, view))
    return [
        Issue(
            code=Code.VIEW_OF_POINTS, series_id=series_id,
            reason=f"{len(wrong)} {condition.short} points on a {wrong[0][1].value} series; expected "
            f"{condition.view.value}",
        )
        for (series_id, condition), wrong in groups.items()
    ]  # fmt: skip


def _pairs(findings: Iterable[Finding]) -> list[tuple[Finding, Finding]]:
    """(left, right) of the same condition and level, where both exist."""
    known = set(findings)
    pairs = []
    for finding in sorted(known, key=lambda f: f.index):
        right = _opposite(finding)
        if finding.side is Side.LEFT and right is not None and right in known:
            pairs.append((finding, right))
    return pairs


def _one_slice(points: Sequence[Point]) -> list[Issue]:
    by_finding = {p.finding: p for p in points if p.finding.condition is Condition.FORAMINAL}
    issues = []
    for left, right in _pairs(by_finding):
        a, b = by_finding[left], by_finding[right]
        if (a.series_id, a.instance_number) == (b.series_id, b.instance_number):
            reason = f"left and right {left.condition.short} {left.level.display} on one slice; expected two"
            issues.append(_issue(Code.FORAMINA_ON_ONE_SLICE, a, reason))
    return issues


def _sides(placed: dict[Finding, PlacedPoint]) -> list[Issue]:
    """Points on the wrong side: the patient's left is +x, so left points lie at larger x than right ones."""
    issues, pairs_of, wrong_of = [], dict[str, int](), dict[str, list[PlacedPoint]]()
    for left, right in _pairs(placed):
        a, b = placed[left], placed[right]
        step = float((a.mm - b.mm) @ LEFT)
        series_id = a.point.series_id
        pairs_of[series_id] = pairs_of.get(series_id, 0) + 1
        if step < -_SIDE_MARGIN_MM:
            wrong_of.setdefault(series_id, []).append(a)
            reason = (
                f"left {left.condition.short} {left.level.display} lies {-step:.1f} mm to the right of the right one"
            )
            issues.append(_issue(Code.SIDES_SWAPPED, a.point, reason))
    paired = {finding for pair in _pairs(placed) for finding in pair}
    for finding in set(placed) - paired:
        middle = _midline(finding.level, placed)
        if finding.side is None or middle is None:
            continue
        step = float(placed[finding].mm @ LEFT) - middle
        step = step if finding.side is Side.LEFT else -step
        if step < -_LONE_MARGIN_MM:
            reason = f"{name_findings(finding)} lies {-step:.1f} mm beyond the midline, on the other side"
            issues.append(_issue(Code.SIDES_SWAPPED, placed[finding].point, reason))
    for series_id, wrong in wrong_of.items():
        if wrong[0].view is View.AXIAL_T2 and len(wrong) == pairs_of[series_id] >= _WHOLE_SERIES:
            levels = {(w.finding.condition, w.finding.level) for w in wrong}
            issues = [i for i in issues if i.code is not Code.SIDES_SWAPPED or i.series_id != series_id]
            reason = f"left lies to the right of right at all {counted(len(levels), 'level')} with both points"
            issues.append(Issue(code=Code.AXIAL_MIRRORED, series_id=series_id, reason=reason))
    return issues


def _midline(level: Level, placed: dict[Finding, PlacedPoint]) -> float | None:
    """x in mm of the level's canal point, else the middle between a pair that is the right way round."""
    canal = placed.get(Finding(condition=Condition.CANAL, side=None, level=level))
    if canal is not None:
        return float(canal.mm @ LEFT)
    for left, right in _pairs(placed):
        if left.level is level and (placed[left].mm - placed[right].mm) @ LEFT > 0:
            return float((placed[left].mm + placed[right].mm) @ LEFT) / 2
    return None
