"""Selects the slices that the detectors look at, and decides whether these are enough.

The first look is at the sagittal T2 slices near the middle of their series. The spine found there tells which T1 slices
pass through the foramina and which axial slices pass through a level. If any doubt is left, all slices of the study are
looked at.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from localize.config import LocalizeConfig
from localize.decoding.axial import expected_points
from localize.decoding.decode import StudyDecoding
from localize.decoding.numbering import ladder
from localize.decoding.prior import ChainPrior
from localize.decoding.sagittal import Spine
from localize.detector.boxes import slice_gap_mm
from shared.detections import Source
from shared.geometry import FloatArray
from shared.labels import Condition, Level, View, findings_of
from shared.study import Series, Slice, Study

SliceSelection = Mapping[str, Sequence[Slice]]  # series id -> slices
# Of a series this short all slices are looked at.
_FEW_SLICES: Final = 5


def first_slices(study: Study, config: LocalizeConfig) -> SliceSelection:
    """Selects the middle of every sagittal T2 series; nothing in a study without one."""
    reach = config.slices.midline_mm
    return {series.series_id: _middle(series, reach) for series in study.of_view(View.SAGITTAL_T2)}


def _middle(series: Series, reach_mm: float) -> list[Slice]:
    if len(series.slices) <= _FEW_SLICES:
        return list(series.slices)
    x_mm = np.array([item.plane.center_mm(item.shape)[0] for item in series.slices])
    middle = (x_mm.min() + x_mm.max()) / 2
    return [item for item, x in zip(series.slices, x_mm, strict=True) if abs(x - middle) <= reach_mm]


def further_slices(study: Study, spine: Spine, prior: ChainPrior, config: LocalizeConfig) -> SliceSelection:
    """Selects T1 slices through a foramen and axial slices through a level or a disc beyond the chain's ends."""
    chosen: dict[str, Sequence[Slice]] = {}
    foramina = np.array([
        spine.point_mm[f.level] + prior.offset_mean[f] for f in findings_of(Condition.FORAMINAL)
    ])  # fmt: skip
    for series in study.of_view(View.SAGITTAL_T1):
        reach = config.slices.foramen_mm + slice_gap_mm(series)
        chosen[series.series_id] = _passing(series, foramina, reach)
    levels = np.vstack([expected_points(spine, prior).reshape(-1, 3), _beyond(spine, prior)])
    for series in study.of_view(View.AXIAL_T2):
        reach = config.slices.level_mm + slice_gap_mm(series)
        chosen[series.series_id] = _passing(series, levels, reach)
    return chosen


def _beyond(spine: Spine, prior: ChainPrior) -> FloatArray:  # [2, 3]
    """One point above the chain and one below: axial slices there can show that its numbering is wrong."""
    points = np.array([spine.point_mm[level] for level in Level])
    ends = ladder(points[:, 1:], prior)[[0, -1]]
    return np.column_stack([points[[0, -1], 0], ends])


def _passing(series: Series, points_mm: FloatArray, reach_mm: float) -> list[Slice]:
    if len(series.slices) <= _FEW_SLICES:
        return list(series.slices)
    return [item for item in series.slices if np.abs(item.plane.distance_mm(points_mm)).min() <= reach_mm]


def is_settled(study: Study, spine: Spine | None, looked_at: SliceSelection, config: LocalizeConfig) -> bool:
    """Whether the first look found all five levels, with the midline well inside the slices looked at."""
    if spine is None or not all(_is_sure(spine, level, config) for level in Level):
        return False
    x_mm = [point[0] for point in spine.point_mm.values()]
    return any(
        _encloses(series, looked_at.get(series.series_id, ()), x_mm) for series in study.of_view(View.SAGITTAL_T2)
    )


def _is_sure(spine: Spine, level: Level, config: LocalizeConfig) -> bool:
    found = spine.chain[level]
    return found.source is Source.DETECTED and found.score >= config.slices.min_score


def _encloses(series: Series, looked_at: Sequence[Slice], x_mm: Sequence[float]) -> bool:
    """Whether the midline is closer to an inner slice than to the outermost ones looked at, unless those are all."""
    if len(looked_at) == len(series.slices):
        return True
    seen = [float(item.plane.center_mm(item.shape)[0]) for item in looked_at]
    inside = slice_gap_mm(series) / 2
    return bool(seen) and min(seen) + inside <= min(x_mm) and max(x_mm) <= max(seen) - inside


def is_conclusive(first: Spine, decoded: StudyDecoding, config: LocalizeConfig) -> bool:
    """Whether all selected slices together agree with the first look and show every finding."""
    spine, numbering = decoded.spine, decoded.numbering
    if spine is None or numbering is None or not numbering.certain:
        return False
    moved = [float(np.linalg.norm(first.point_mm[k] - spine.point_mm[k])) for k in Level]
    return (
        max(moved) <= config.chain.merge_mm
        and all(_is_sure(spine, level, config) for level in Level)
        and all(item.source is Source.DETECTED for item in decoded.localizations.values())
    )
