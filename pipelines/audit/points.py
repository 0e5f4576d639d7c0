"""Annotated points against the images they name and against each other, in patient space.

Without images the same questions are asked of the tables alone, in pixels; see `check_points_without_images`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from pipelines.audit.findings import Code, Issue, finding_name
from pipelines.audit.levels import check_levels
from shared.data.challenge import Point
from shared.geometry import LEFT, FloatArray
from shared.labels import Condition, Finding, Level, Side, View
from shared.study import Slice, Study

# A point this near to two borders was never placed; the challenge's forgotten ones lie near pixel (5, 5).
CORNER_PX: Final = 8.0
_CORNER_SHARE: Final = 0.02
# Left and right of one level are some 20 to 50 mm apart: a smaller step to the wrong side is a reader's inaccuracy.
_SIDE_MARGIN_MM: Final = 2.0
# A lone point is held against a midline that is itself uncertain.
_LONE_MARGIN_MM: Final = 5.0
_WHOLE_SERIES: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A point on its slice. `mm` is its place in the patient. # [3]"""

    point: Point
    view: View
    item: Slice
    mm: FloatArray

    @property
    def finding(self) -> Finding:
        return self.point.finding

    @property
    def relative(self) -> tuple[float, float]:
        """x and y as shares of the image's width and height."""
        return self.point.x_px / self.item.shape[1], self.point.y_px / self.item.shape[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Points of one study: those that can be trusted to lie somewhere, and what is wrong with the others."""

    placed: tuple[Placed, ...]
    issues: tuple[Issue, ...]


def place_points(part: str, study: Study, points: Sequence[Point], unread: Iterable[str] = ()) -> Placement:
    """Lifts points to patient space. `unread`: series with files that cannot be read, which explains a lost slice."""
    placed, issues, unread = [], [], set(unread)
    for point in points:
        series = study.get(point.series_id)
        if series is None:
            reason = f"{finding_name(point.finding)} names series {point.series_id}, which has no slices here"
            issues.append(_issue(Code.POINT_WITHOUT_SERIES, part, point, reason))
            continue
        item = series.by_instance(point.instance_number)
        if item is None:
            numbers = [s.instance_number for s in series.slices]
            reason = (
                f"{finding_name(point.finding)} names instance {point.instance_number}; the series has "
                f"{len(numbers)} slices, {min(numbers)} to {max(numbers)}"
                + (", and files that cannot be read" if point.series_id in unread else "")
            )
            issues.append(_issue(Code.POINT_WITHOUT_SLICE, part, point, reason))
            continue
        size = f"image of {item.shape[1]} x {item.shape[0]} pixels (width x height)"
        where = f"{finding_name(point.finding)} at x {point.x_px:.1f}, y {point.y_px:.1f}"
        if not item.contains((point.x_px, point.y_px)):
            issues.append(_issue(Code.POINT_OUTSIDE, part, point, f"{where} of an {size}"))
        elif in_corner(point, item.shape):
            issues.append(_issue(Code.POINT_IN_CORNER, part, point, f"{where} of an {size}"))
        else:
            mm = item.plane.to_patient([point.x_px, point.y_px])
            placed.append(Placed(point=point, view=series.view, item=item, mm=mm))
    return Placement(placed=tuple(placed), issues=tuple(issues))


def in_corner(point: Point, shape: tuple[int, int] | None) -> bool:
    """Whether a point lies in a corner of its image; of an image of unknown `shape` only the first corner is known."""
    if shape is None:
        return 0 <= point.x_px <= CORNER_PX and 0 <= point.y_px <= CORNER_PX
    x = min(point.x_px, shape[1] - 1 - point.x_px)
    y = min(point.y_px, shape[0] - 1 - point.y_px)
    return x <= max(CORNER_PX, _CORNER_SHARE * shape[1]) and y <= max(CORNER_PX, _CORNER_SHARE * shape[0])


def check_points(part: str, study_id: str, placed: Sequence[Placed]) -> list[Issue]:
    """Views, sides and levels of the points of one study."""
    first = _first_of_each(placed)
    issues = _repeated(part, [p.point for p in placed])
    issues += _views(part, [(p.point, p.view) for p in placed])
    issues += _one_slice(part, [p.point for p in first.values()])
    issues += _sides(part, first)
    issues += check_levels(part, study_id, {finding: p.mm for finding, p in first.items()})
    return issues


def check_points_without_images(part: str, points: Sequence[Point], views: dict[str, View]) -> list[Issue]:
    """What tables alone show: unknown series, corners, views, one slice for both sides, sides and order in pixels."""
    issues, kept = [], []
    for point in points:
        if point.series_id not in views:
            reason = f"{finding_name(point.finding)} names series {point.series_id}, which no table lists"
            issues.append(_issue(Code.POINT_WITHOUT_SERIES, part, point, reason))
        elif point.x_px < -0.5 or point.y_px < -0.5:
            reason = f"{finding_name(point.finding)} at x {point.x_px:.1f}, y {point.y_px:.1f}"
            issues.append(_issue(Code.POINT_OUTSIDE, part, point, reason))
        elif in_corner(point, None):
            reason = f"{finding_name(point.finding)} at x {point.x_px:.1f}, y {point.y_px:.1f}"
            issues.append(_issue(Code.POINT_IN_CORNER, part, point, reason))
        else:
            kept.append(point)
    issues += _repeated(part, kept)
    issues += _views(part, [(p, views[p.series_id]) for p in kept])
    first = {p.finding: p for p in reversed(kept)}
    issues += _one_slice(part, list(first.values()))
    for finding, point in first.items():
        opposite, lower = _opposite(finding), _next(finding)
        twin = None if opposite is None else first.get(opposite)
        same = twin is not None and twin.series_id == point.series_id and not views[point.series_id].is_sagittal
        # Axial pictures show the patient's left at larger x in all but one of the challenge's 8,770 pairs.
        if twin is not None and same and finding.side is Side.LEFT and point.x_px < twin.x_px:
            reason = (
                f"{finding_name(finding)} at x {point.x_px:.1f}, right at x {twin.x_px:.1f}; expected left at larger x"
            )
            issues.append(_issue(Code.SIDES_SWAPPED, part, point, reason))
        below = None if lower is None else first.get(lower)
        if below is None or below.series_id != point.series_id or not views[point.series_id].is_sagittal:
            continue
        if below.y_px <= point.y_px:
            reason = (
                f"{finding_name(finding)} at y {point.y_px:.1f}, {below.finding.level.display} at y {below.y_px:.1f}"
            )
            issues.append(_issue(Code.LEVEL_ORDER, part, point, f"{reason}; expected y to rise from head to foot"))
    return issues


def _first_of_each(placed: Sequence[Placed]) -> dict[Finding, Placed]:
    return {p.finding: p for p in reversed(placed)}


def _opposite(finding: Finding) -> Finding | None:
    if finding.side is None:
        return None
    return Finding(condition=finding.condition, side=finding.side.opposite, level=finding.level)


def _next(finding: Finding) -> Finding | None:
    """The finding one level further down."""
    if finding.level is Level.L5_S1:
        return None
    return Finding(condition=finding.condition, side=finding.side, level=Level(finding.level + 1))


def _issue(code: Code, part: str, point: Point, reason: str) -> Issue:
    return Issue(
        code=code, part=part, study_id=point.study_id, series_id=point.series_id,
        instance_number=point.instance_number, reason=reason,
    )  # fmt: skip


def _repeated(part: str, points: Sequence[Point]) -> list[Issue]:
    seen: set[Finding] = set()
    issues = []
    for point in points:
        if point.finding in seen:
            issues.append(
                _issue(Code.POINT_REPEATED, part, point, f"{finding_name(point.finding)} has a further point")
            )
        seen.add(point.finding)
    return issues


def _views(part: str, points: Sequence[tuple[Point, View]]) -> list[Issue]:
    """One issue a series and condition."""
    groups: dict[tuple[str, Condition], list[tuple[Point, View]]] = {}
    for point, view in points:
        if view is not point.finding.view:
            groups.setdefault((point.series_id, point.finding.condition), []).append((point, view))
    return [
        Issue(
            code=Code.VIEW_OF_POINTS, part=part, study_id=wrong[0][0].study_id, series_id=series_id,
            reason=f"{len(wrong)} {condition.short} points on a {wrong[0][1].value} series; expected "
            f"{condition.view.value}",
        )
        for (series_id, condition), wrong in groups.items()
    ]  # fmt: skip


def _pairs(findings: Iterable[Finding]) -> list[tuple[Finding, Finding]]:
    """(left, right) of the same condition and level, where both are there."""
    known = set(findings)
    pairs = []
    for finding in sorted(known, key=lambda f: f.index):
        right = _opposite(finding)
        if finding.side is Side.LEFT and right is not None and right in known:
            pairs.append((finding, right))
    return pairs


def _one_slice(part: str, points: Sequence[Point]) -> list[Issue]:
    by_finding = {p.finding: p for p in points if p.finding.condition is Condition.FORAMINAL}
    issues = []
    for left, right in _pairs(by_finding):
        a, b = by_finding[left], by_finding[right]
        if (a.series_id, a.instance_number) == (b.series_id, b.instance_number):
            reason = f"left and right {left.condition.short} {left.level.display} on one slice; expected two"
            issues.append(_issue(Code.FORAMINA_ON_ONE_SLICE, part, a, reason))
    return issues


def _sides(part: str, placed: dict[Finding, Placed]) -> list[Issue]:
    """The patient's left is +x: left points must lie to the left of right ones, or of the midline."""
    issues, pairs_of, wrong_of = [], dict[str, int](), dict[str, list[Placed]]()
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
            issues.append(_issue(Code.SIDES_SWAPPED, part, a.point, reason))
    paired = {finding for pair in _pairs(placed) for finding in pair}
    for finding in set(placed) - paired:
        middle = _midline(finding.level, placed)
        if finding.side is None or middle is None:
            continue
        step = float(placed[finding].mm @ LEFT) - middle
        step = step if finding.side is Side.LEFT else -step
        if step < -_LONE_MARGIN_MM:
            reason = f"{finding_name(finding)} lies {-step:.1f} mm beyond the midline, on the other side"
            issues.append(_issue(Code.SIDES_SWAPPED, part, placed[finding].point, reason))
    for series_id, wrong in wrong_of.items():
        if wrong[0].view is View.AXIAL_T2 and len(wrong) == pairs_of[series_id] >= _WHOLE_SERIES:
            levels = {(w.finding.condition, w.finding.level) for w in wrong}
            issues = [
                i
                for i in issues
                if i.code is not Code.SIDES_SWAPPED or i.series_id != series_id
            ]  # fmt: skip
            reason = f"left lies to the right of right at all {len(levels)} levels with both points"
            point = wrong[0].point
            issues.append(
                Issue(code=Code.AXIAL_MIRRORED, part=part, study_id=point.study_id, series_id=series_id, reason=reason)
            )
    return issues


def _midline(level: Level, placed: dict[Finding, Placed]) -> float | None:
    """x of the canal point of the level in mm, else the middle between a pair that is the right way round."""
    canal = placed.get(Finding(condition=Condition.CANAL, side=None, level=level))
    if canal is not None:
        return float(canal.mm @ LEFT)
    for left, right in _pairs(placed):
        if left.level is level and (placed[left].mm - placed[right].mm) @ LEFT > 0:
            return float((placed[left].mm + placed[right].mm) @ LEFT) / 2
    return None
