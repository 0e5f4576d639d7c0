"""Assigns levels to axial slices and places the subarticular points on them.

Two sources tell which level a slice shows: the distance of the level's 3-D points from the slice's own plane, and the
axial detector's scores. Both are decoded together along each stack from head to foot, where levels can only go down and
slices between two levels show none. Sides come from the plane's geometry.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from localize.config import LocalizeConfig
from localize.decoding.prior import ChainPrior
from localize.decoding.sagittal import Spine
from localize.detector.boxes import side_points_px
from shared.detections import Detection, Localization, Source
from shared.geometry import FloatArray
from shared.labels import Condition, Finding, Level, Side, View
from shared.study import Series, Slice, Study

# Log evidence for a level at the slice; its geometry outweighs "no level" up to about 1.7 standard deviations.
_AT_LEVEL: Final = 1.5
# Level k is state 2 k + 1. The even states 0 to 10 are above, between and below the levels.
_STATES: Final = 2 * len(Level) + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class AxialSlice:
    """The evidence for what a slice shows.

    Attributes:
      appearance: the detector's best score for each level.
      boxes: the detector's best box for each level that it saw.
      distance_mm: signed distance from the plane to the points where the chain expects each level, right and left; None
        without a chain.
    """

    series: Series
    item: Slice
    appearance: FloatArray  # [5]
    boxes: Mapping[Level, Detection]
    distance_mm: FloatArray | None  # [5, 2]


_SIDES: Final = (Side.RIGHT, Side.LEFT)


def describe_series(
    series: Series, detections: Sequence[Detection], spine: Spine | None, prior: ChainPrior
) -> list[AxialSlice]:
    """Collects the evidence for every slice of a series, in its order."""
    by_slice: dict[int, dict[Level, Detection]] = {}
    for detection in detections:
        if detection.series_id == series.series_id:
            boxes = by_slice.setdefault(detection.instance_number, {})
            if detection.level not in boxes or detection.score > boxes[detection.level].score:
                boxes[detection.level] = detection
    targets = None if spine is None else expected_points(spine, prior)
    described = []
    for item in series.slices:
        boxes = by_slice.get(item.instance_number, {})
        described.append(
            AxialSlice(
                series=series,
                item=item,
                appearance=np.array([boxes[k].score if k in boxes else 0.0 for k in Level]),
                boxes=boxes,
                distance_mm=None if targets is None else item.plane.distance_mm(targets.reshape(-1, 3)).reshape(-1, 2),
            )
        )
    return described


def expected_points(spine: Spine, prior: ChainPrior) -> FloatArray:  # [5, 2, 3]
    """Where the chain expects the subarticular points of each level, right and left, in patient mm."""
    return np.stack(
        [
            [spine.point_mm[level] + prior.offset_mean[_finding(side, level)] for side in _SIDES]
            for level in Level
        ]
    )  # fmt: skip


def _finding(side: Side, level: Level) -> Finding:
    return Finding(condition=Condition.SUBARTICULAR, side=side, level=level)


def assign_levels(slices: Sequence[AxialSlice], config: LocalizeConfig) -> list[Level | None]:
    """Assigns a level, or None between levels, to each slice from head to foot. The levels never go up."""
    axial = config.axial
    gain = np.zeros((len(slices), _STATES))
    for i, item in enumerate(slices):
        appearance = np.log((axial.evidence_floor + item.appearance) / axial.evidence_floor)
        gain[i, 1::2] = axial.appearance_weight * appearance
        if item.distance_mm is None:
            # Without geometry a faint score does not outweigh "no level".
            gain[i, 1::2] -= _AT_LEVEL
        else:
            off = np.abs(item.distance_mm).min(axis=1) / axial.plane_sd_mm
            gain[i, 1::2] += _AT_LEVEL - 0.5 * off**2
    return [None if state % 2 == 0 else Level(state // 2) for state in _monotone_path(gain)]


def _monotone_path(gain: FloatArray) -> list[int]:
    """The non-decreasing sequence of states with the largest total gain; `gain` is [slices, states]."""
    if not len(gain):
        return []
    best = gain[0].copy()
    back = np.zeros(gain.shape, np.int64)
    for i in range(1, len(gain)):
        # The best predecessor is one of the states up to each one.
        upto = np.maximum.accumulate(best)
        back[i] = np.maximum.accumulate(np.where(best >= upto, np.arange(len(best)), 0))
        best = upto + gain[i]
    path = [int(best.argmax())]
    for i in range(len(gain) - 1, 0, -1):
        path.append(int(back[i][path[-1]]))
    return path[::-1]


def localize_axial(
    study: Study, detections: Sequence[Detection], spine: Spine | None, prior: ChainPrior, config: LocalizeConfig
) -> dict[Finding, Localization]:
    """Finds the subarticular point of every level and side that an axial slice shows."""
    found: dict[Finding, list[Localization]] = {}
    axial = [d for d in detections if d.view is View.AXIAL_T2 and d.score >= config.axial.min_score]
    for series in study.of_view(View.AXIAL_T2):
        guide = spine if config.axial.geometry else None
        slices = describe_series(series, axial, guide, prior)
        levels: list[Level | None] = []
        # Stacks of different tilt may cross, so each is decoded separately; without a chain only their order is left.
        start = 0
        for length in [len(slices)] if guide is None else [len(stack) for stack in series.stacks]:
            levels += assign_levels(slices[start : start + length], config)
            start += length
        for level in Level:
            shown = [item for item, assigned in zip(slices, levels, strict=True) if assigned is level]
            for index, side in enumerate(_SIDES):
                chosen = _choose(shown, slices, level, index, config)
                if chosen is not None:
                    finding = _finding(side, level)
                    localization = _place(study.study_id, chosen, finding, spine, prior, config)
                    if localization is not None:
                        found.setdefault(finding, []).append(localization)
    return {finding: max(options, key=lambda o: (o.score, o.series_id)) for finding, options in found.items()}


def _choose(
    shown: Sequence[AxialSlice], every: Sequence[AxialSlice], level: Level, side_index: int, config: LocalizeConfig
) -> AxialSlice | None:
    """The best slice for one level and side: of those that show the level, otherwise the nearest one within reach."""
    axial = config.axial

    def value(item: AxialSlice) -> float:
        score = axial.appearance_weight * float(np.log(axial.evidence_floor + item.appearance[level]))
        if item.distance_mm is not None:
            score -= 0.5 * float(item.distance_mm[level, side_index] / axial.plane_sd_mm) ** 2
        return score

    if shown:
        return max(shown, key=value)
    near = [i for i in every if i.distance_mm is not None and abs(i.distance_mm[level, side_index]) <= axial.reach_mm]
    return min(near, key=lambda i: abs(i.distance_mm[level, side_index]), default=None)  # type: ignore[index]


def _place(
    study_id: str,
    chosen: AxialSlice,
    finding: Finding,
    spine: Spine | None,
    prior: ChainPrior,
    config: LocalizeConfig,
) -> Localization | None:
    """Places the point on its slice: from the slice's box, otherwise projected from the chain."""
    plane, box = chosen.item.plane, _box(chosen, finding.level)
    trust = 1.0 if spine is None else spine.chain[finding.level].score
    if box is not None:
        points_px = side_points_px(plane, box.box_xyxy_px, config.axial_t2.margin_mm)
        x_px, y_px = points_px[Side.LEFT if finding.side is Side.LEFT else Side.RIGHT]
        source, strength = Source.DETECTED, box.score
    elif spine is not None:
        expected_mm = spine.point_mm[finding.level] + prior.offset_mean[finding]
        x_px, y_px = (float(v) for v in plane.to_pixel(expected_mm))
        source, strength = Source.PROJECTED, 0.0
        if not chosen.item.contains((x_px, y_px)):
            return None
    else:
        return None
    return Localization(
        study_id=study_id, finding=finding, series_id=chosen.series.series_id,
        instance_number=chosen.item.instance_number, x_px=x_px, y_px=y_px, source=source,
        point_mm=tuple(float(v) for v in plane.to_patient([x_px, y_px])),  # type: ignore[arg-type]
        score=float(np.clip(trust * (0.7 + 0.3 * strength), 0, 1)),
    )  # fmt: skip


def _box(chosen: AxialSlice, level: Level) -> Detection | None:
    """The slice's box of this level, otherwise its best box: the decoded level overrules the detector's."""
    if level in chosen.boxes:
        return chosen.boxes[level]
    return max(chosen.boxes.values(), key=lambda d: d.score, default=None)
