"""Lifts detections to patient space and finds the places in the sagittal plane that they agree on.

Each detection is lifted to patient mm and moved to where it implies that its level's canal point is. Detections close
to one another in the sagittal plane (y, z) form a place. A place has evidence for each level from each view.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from localize.decoding.prior import ChainPrior
from shared.detections import Detection
from shared.geometry import FloatArray, Planes
from shared.labels import Condition, Finding, Level, Side, View
from shared.study import Study

_MAX_PLACES: Final = 48
# Slices of a view that usually show a level: the midline, or two foramina, with their neighbours; one axial slice.
_SLICES_PER_LEVEL: Final = {View.SAGITTAL_T2: 3, View.SAGITTAL_T1: 5, View.AXIAL_T2: 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class LiftedDetection:
    """A detection in patient space.

    Attributes:
      point_mm: centre of its box.
      canal_yz_mm: the canal point of its level that the box implies, in the sagittal plane.
    """

    detection: Detection
    point_mm: FloatArray  # [3]
    canal_yz_mm: FloatArray  # [2]


def lift(study: Study, detections: Iterable[Detection], prior: ChainPrior) -> list[LiftedDetection]:
    """Lifts detections to patient space."""
    planes = {(s.series_id, item.instance_number): item.plane for s in study.series for item in s.slices}
    shifts = {(view, level): _canal_shift(prior, view, level) for view in View for level in Level}
    found = list(detections)
    if not found:
        return []
    points = Planes.of(planes[d.series_id, d.instance_number] for d in found).to_patient(
        np.array([d.center_px for d in found])
    )
    canals = points[:, 1:] - np.array([shifts[d.view, d.level] for d in found])
    return [
        LiftedDetection(detection=detection, point_mm=point, canal_yz_mm=canal)
        for detection, point, canal in zip(found, points, canals, strict=True)
    ]


def near_place(lifted: Sequence[LiftedDetection], place: ArrayLike, reach_mm: float) -> list[LiftedDetection]:
    """Detections whose canal point lies within reach of a place (y, z), whatever their level."""
    if not lifted:
        return []
    away_mm = np.linalg.norm(np.array([item.canal_yz_mm for item in lifted]) - np.asarray(place), axis=1)
    return [item for item, mm in zip(lifted, away_mm.tolist(), strict=True) if mm <= reach_mm]


def _canal_shift(prior: ChainPrior, view: View, level: Level) -> FloatArray:
    """Mean offset (y, z) of a view's box from the canal point.

    On T1 the mean over both foramina, because the side that a slice shows is not known yet; on axial slices that of the
    midpoint between the subarticular points.
    """
    if view is View.SAGITTAL_T2:
        return np.zeros(2)
    condition = Condition.FORAMINAL if view is View.SAGITTAL_T1 else Condition.SUBARTICULAR
    sides = [prior.offset_mean[Finding(condition=condition, side=side, level=level)][1:] for side in Side]
    return np.asarray((sides[0] + sides[1]) / 2)


def find_places(lifted: Sequence[LiftedDetection], merge_mm: float) -> FloatArray:  # [p, 2]
    """Finds the places (y, z) in the sagittal plane, starting from the strongest detections."""
    if not lifted:
        return np.empty((0, 2))
    order = sorted(range(len(lifted)), key=lambda i: (-lifted[i].detection.score, i))
    points = np.array([lifted[i].canal_yz_mm for i in order])
    weights = np.array([lifted[i].detection.score for i in order])
    free = np.ones(len(order), bool)
    places: list[FloatArray] = []
    for i in range(len(order)):
        if not free[i] or len(places) == _MAX_PLACES:
            continue
        near = np.linalg.norm(points - points[i], axis=1) <= merge_mm
        places.append(np.average(points[near], axis=0, weights=weights[near]))
        free &= ~near
    return np.array(places)


def evidence(lifted: Sequence[LiftedDetection], places: FloatArray, reach_mm: float) -> dict[View, FloatArray]:
    """Mean score of each level at each place, per view.

    A slice counts once per place and level, with its best box there. The mean is over as many slices as usually show a
    level, so a lone box on one slice counts for less.

    Returns:
      [places, 5] for each view with a detection.
    """
    result = {}
    for view, usual in _SLICES_PER_LEVEL.items():
        items = [item for item in lifted if item.detection.view is view]
        if not items:
            continue
        best: dict[tuple[str, int], FloatArray] = {}
        away_mm = np.linalg.norm(places - np.array([item.canal_yz_mm for item in items])[:, None], axis=2)
        for item, near in zip(items, away_mm <= reach_mm, strict=True):
            key = (item.detection.series_id, item.detection.instance_number)
            scores = best.setdefault(key, np.zeros((len(places), len(Level))))
            scores[near, item.detection.level] = np.maximum(scores[near, item.detection.level], item.detection.score)
        stack = np.sort(np.stack(list(best.values())), axis=0)[::-1][:usual]
        result[view] = stack.sum(0) / usual
    return result
