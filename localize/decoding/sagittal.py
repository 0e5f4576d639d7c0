"""Across the sagittal slices: the midline of every level, then canal and foraminal points on their slices.

The side of a foramen follows only from its position relative to the midline in patient x (left is +x).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from localize.decoding.chain import Chain
from localize.decoding.lift import LiftedDetection, near_place
from localize.decoding.prior import ChainPrior
from shared.detections import Localization, Source
from shared.geometry import FloatArray, Planes
from shared.labels import Condition, Finding, Level, Side, View
from shared.study import Series, Slice, Study

# Boxes within this distance of a level in the sagittal plane belong to it.
NEAR_MM: Final = 9.0
_GRID_MM: Final = 1.0
_KERNEL_MM: Final = 3.5
# How far the midline moves from level to level. A smaller value would flatten the bends of scoliosis (docs/adr/0010).
_DRIFT_SD_MM: Final = 14.0
# Weight of each view's vote for the midline. Axial boxes measure it in their own plane, T2 boxes only to within a few
# slices, and each T1 box votes twice because it may be of either foramen.
_VIEW_WEIGHT: Final = {View.AXIAL_T2: 2.0, View.SAGITTAL_T2: 1.0, View.SAGITTAL_T1: 0.5}
_VOTE_FLOOR: Final = 0.02
# A foramen is never closer to the midline than this.
_MIN_LATERAL_MM: Final = 3.0
# The midline is searched up to this far from the middle of the boxes; a stray series may be anywhere.
_REACH_MM: Final = 150.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Spine:
    """Where the five levels are in patient space.

    Attributes:
      point_mm: the canal point of each level (x, y, z).
      chain: the chain that the points come from.
    """

    point_mm: Mapping[Level, FloatArray]
    chain: Chain


def locate_spine(chain: Chain, lifted: Sequence[LiftedDetection], prior: ChainPrior) -> Spine | None:
    """Adds the midline's x to each level of the chain; None for an empty chain."""
    if not chain:
        return None
    near = {level: _near(lifted, chain, level) for level in Level}
    grid = _midline_grid([item for items in near.values() for item in items] or lifted)
    votes = np.stack([_midline_votes(grid, near[level], level, prior) for level in Level])
    unary = np.log(_VOTE_FLOOR + votes)
    drift = -0.5 * ((grid[:, None] - grid[None]) / _DRIFT_SD_MM) ** 2
    best, back = unary[0], []
    for level in list(Level)[1:]:
        through = best[:, None] + drift
        back.append(through.argmax(0))
        best = through.max(0) + unary[level]
    index = int(best.argmax())
    path = [index]
    for pointer in reversed(back):
        path.append(int(pointer[path[-1]]))
    middle = dict(zip(Level, (float(grid[i]) for i in reversed(path)), strict=True))
    return Spine(point_mm={k: np.array([middle[k], *chain[k].yz_mm]) for k in Level}, chain=chain)


def _midline_grid(boxes: Sequence[LiftedDetection]) -> FloatArray:  # [g]
    """The x at which the midline may be: the range of the boxes, up to `_REACH_MM` from their weighted median."""
    ordered = sorted((float(item.point_mm[0]), item.detection.score) for item in boxes)
    xs, scores = np.array(ordered).T
    below = scores.cumsum()
    middle = float(xs[np.searchsorted(below, below[-1] / 2)])
    low, high = max(xs[0], middle - _REACH_MM), min(xs[-1], middle + _REACH_MM)
    return np.arange(low - 5.0, high + 5.0 + _GRID_MM, _GRID_MM)


def _near(lifted: Sequence[LiftedDetection], chain: Chain, level: Level) -> list[LiftedDetection]:
    """Boxes at the level's place, whatever level the detector gave them."""
    return near_place(lifted, chain[level].yz_mm, NEAR_MM)


def _midline_votes(
    grid: FloatArray, near: Sequence[LiftedDetection], level: Level, prior: ChainPrior
) -> FloatArray:  # [g]
    """Weighted mean of the views' votes, however many boxes each view has; zero without a box."""
    of_view = {view: [item for item in near if item.detection.view is view] for view in _VIEW_WEIGHT}
    there = [(_VIEW_WEIGHT[view], boxes) for view, boxes in of_view.items() if boxes]
    votes = sum((weight * _vote(grid, boxes, level, prior) for weight, boxes in there), start=np.zeros(len(grid)))
    return votes / max(sum(weight for weight, _ in there), 1e-9)


def _vote(grid: FloatArray, boxes: Sequence[LiftedDetection], level: Level, prior: ChainPrior) -> FloatArray:
    """Canal and axial boxes vote for their own x, foraminal boxes for what a left and a right foramen would imply."""
    votes = np.zeros(len(grid))
    for item in boxes:
        sides = Side if item.detection.view is View.SAGITTAL_T1 else ()
        for shift in [float(_offset(prior, side, level)[0]) for side in sides] or [0.0]:
            votes += item.detection.score * np.exp(-0.5 * ((grid - (item.point_mm[0] - shift)) / _KERNEL_MM) ** 2)
    return votes / max(sum(item.detection.score for item in boxes), 1e-9)


def _offset(prior: ChainPrior, side: Side, level: Level) -> FloatArray:
    return prior.offset_mean[Finding(condition=Condition.FORAMINAL, side=side, level=level)]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Target:
    """A finding to look for on the slices of a sagittal series."""

    finding: Finding
    point_mm: FloatArray  # where the chain expects it
    x_sd_mm: float
    midline_mm: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stack:
    """A series with the planes and the last pixels (x, y) of its slices, [n, 2]."""

    series: Series
    planes: Planes
    last_px: FloatArray

    @classmethod
    def of(cls, series: Series) -> "_Stack":
        shapes = np.array([item.shape for item in series.slices], np.float64).reshape(-1, 2)
        return cls(series=series, planes=Planes.of(item.plane for item in series.slices), last_px=shapes[:, ::-1] - 1)

    def showing(self, point_mm: FloatArray) -> tuple[list[Slice], FloatArray]:
        """The slices onto whose pictures a point projects, and the patient x of each projection."""
        at_px = self.planes.to_pixel(point_mm)
        inside = ((at_px >= -0.5) & (at_px <= self.last_px + 0.5)).all(axis=1)
        slices = [self.series.slices[k] for k in np.flatnonzero(inside)]
        return slices, self.planes.to_patient(at_px)[inside, 0]


def localize_sagittal(
    study: Study, spine: Spine, lifted: Sequence[LiftedDetection], prior: ChainPrior
) -> dict[Finding, Localization]:
    """Finds canal points on sagittal T2 and foraminal points on sagittal T1."""
    found: dict[Finding, Localization] = {}
    stacks = {view: [_Stack.of(series) for series in study.of_view(view)] for view in View if view.is_sagittal}
    for level in Level:
        point = spine.point_mm[level]
        targets = [
            _Target(finding=Finding(condition=Condition.CANAL, side=None, level=level), point_mm=point,
                    x_sd_mm=3.0, midline_mm=float(point[0]))
        ]  # fmt: skip
        for side in Side:
            finding = Finding(condition=Condition.FORAMINAL, side=side, level=level)
            targets.append(
                _Target(finding=finding, point_mm=point + prior.offset_mean[finding],
                        x_sd_mm=float(prior.offset_sd[finding][0]) + 2.0, midline_mm=float(point[0]))
            )  # fmt: skip
        near = _near(lifted, spine.chain, level)
        for target in targets:
            options = [_on_series(study.study_id, stack, target, near, spine) for stack in stacks[target.finding.view]]
            best = max((o for o in options if o is not None), key=lambda o: o.score, default=None)
            if best is not None:
                found[target.finding] = best
    return found


def _on_series(
    study_id: str, stack: _Stack, target: _Target, near: Sequence[LiftedDetection], spine: Spine
) -> Localization | None:
    """Places the target on the best slice of a series; None when no slice shows its position."""
    series, (slices, x_mm) = stack.series, stack.showing(target.point_mm)
    allowed = _right_side(x_mm, target)
    if not allowed.any():
        return None
    own = [item for item in near if item.detection.series_id == series.series_id]
    support = _support(x_mm, own, target.finding.level)
    value = np.log(_VOTE_FLOOR + support) - 0.5 * ((x_mm - target.point_mm[0]) / target.x_sd_mm) ** 2
    chosen = int(np.where(allowed, value, -np.inf).argmax())
    level = spine.chain[target.finding.level]
    seen = [item for item in own if abs(item.point_mm[0] - x_mm[chosen]) <= 6.0]
    yz, strength = target.point_mm[1:], 0.0
    if seen:
        yz = _weighted_yz(seen, float(x_mm[chosen]), target.finding.level)
        strength = max(item.detection.score for item in seen)
    source = Source.DETECTED if seen else Source.PROJECTED
    if level.source is Source.INTERPOLATED:
        source = Source.INTERPOLATED
    x_px, y_px = _pixel(slices[chosen], np.array([x_mm[chosen], *yz]))
    item = slices[chosen]
    return Localization(
        study_id=study_id, finding=target.finding, series_id=series.series_id, instance_number=item.instance_number,
        x_px=x_px, y_px=y_px, source=source, score=float(np.clip(level.score * (0.7 + 0.3 * strength), 0, 1)),
        point_mm=tuple(float(v) for v in item.plane.to_patient([x_px, y_px])),  # type: ignore[arg-type]
    )  # fmt: skip


def _pixel(item: Slice, point_mm: FloatArray) -> tuple[float, float]:
    x, y = item.plane.to_pixel(point_mm)
    return float(x), float(y)


def _right_side(x_mm: FloatArray, target: _Target) -> np.ndarray:
    if target.finding.side is None:
        return np.ones(len(x_mm), bool)
    lateral = x_mm - target.midline_mm
    return lateral >= _MIN_LATERAL_MM if target.finding.side is Side.LEFT else lateral <= -_MIN_LATERAL_MM


def _support(x_mm: FloatArray, own: Sequence[LiftedDetection], level: Level) -> FloatArray:
    """Detector scores smoothed over neighbouring slices, so that the middle slice of several wins."""
    support = np.zeros(len(x_mm))
    for item in own:
        trust = 1.0 if item.detection.level is level else 0.5
        support += trust * item.detection.score * np.exp(-0.5 * ((x_mm - item.point_mm[0]) / _KERNEL_MM) ** 2)
    return support


def _weighted_yz(seen: Sequence[LiftedDetection], x_mm: float, level: Level) -> FloatArray:
    """Mean box centre (y, z). Boxes on the slice itself and of the right level count most."""
    own = [item for item in seen if item.detection.level is level] or list(seen)
    weights = [item.detection.score**2 * np.exp(-0.5 * ((item.point_mm[0] - x_mm) / 2.0) ** 2) for item in own]
    return np.asarray(np.average([item.point_mm[1:] for item in own], axis=0, weights=weights))
