"""Chooses one chain of five levels in patient space from the places that the detections of all views agree on.

The chain is the best assignment of places to levels, head to foot: the evidence of the places plus the fitted prior on
the gaps between them, with a penalty for a level that has no place. Such a level is interpolated between its neighbours
or extrapolated beyond the last one. `localize.decoding.numbering` weighs the chains one disc higher and lower.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from localize.config import ChainConfig
from localize.decoding.lift import LiftedDetection, evidence, find_places, near_place
from localize.decoding.numbering import Places, weigh_shifts
from localize.decoding.paths import Steps, best_path, log_weight, posterior
from localize.decoding.prior import ChainPrior, pose
from shared.detections import Source
from shared.geometry import FloatArray
from shared.labels import Level, View
from shared.numbering import Numbering

# Sizes and leans of the patient to try, in standard deviations.
_POSE_SD: Final = (0.0, -1.0, 1.0, -2.0, 2.0)
_TIE: Final = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainLevel:
    """One level of the chain: the canal point in the sagittal plane, (y, z) in mm.

    `score` is the probability, under the chain model, that the level is at this place.
    """

    yz_mm: tuple[float, float]
    source: Source
    score: float


Chain = Mapping[Level, ChainLevel]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainDecoding:
    """The best chain and how certain its names are; empty and None without any detection."""

    levels: dict[Level, ChainLevel]
    numbering: Numbering | None


def decode_chain(lifted: Sequence[LiftedDetection], prior: ChainPrior, config: ChainConfig) -> ChainDecoding:
    """Finds the best chain and weighs it against the chains one disc higher and lower."""
    usable = [item for item in lifted if item.detection.score >= config.min_score]
    yz_mm = find_places(usable, config.merge_mm)
    if not len(yz_mm):
        return ChainDecoding(levels={}, numbering=None)
    places = _weigh_places(usable, yz_mm, config)
    prior, _ = _fitting_pose(places, prior, config)
    steps = Steps(yz_mm, prior, config.gap_inflation)
    chosen = best_path(places.unary, steps, config.missing_penalty)
    belief = posterior(places.unary, steps, config.missing_penalty)
    near = np.linalg.norm(yz_mm[:, None] - yz_mm[None], axis=2) <= config.merge_mm
    found = {
        level: ChainLevel(
            yz_mm=_refined(usable, yz_mm[place], level, config.merge_mm),
            source=Source.DETECTED,
            score=float(np.clip(belief[near[place], level].sum(), 0, 1)),
        )
        for level, place in chosen.items()
    }
    levels = fill_missing(found, prior)
    points = np.array([levels[level].yz_mm for level in Level])
    numbering = weigh_shifts(places, points, np.clip(1 - belief.sum(0), 0, 1), prior, config)
    # A level's name cannot be more certain than the numbering of the whole chain.
    named = {level: replace(item, score=item.score * numbering.as_named) for level, item in levels.items()}
    return ChainDecoding(levels=named, numbering=numbering)


def chain_weight(lifted: Sequence[LiftedDetection], prior: ChainPrior, config: ChainConfig) -> float:
    """Log evidence of all chains together, for the size and lean of the patient that explain the detections best."""
    usable = [item for item in lifted if item.detection.score >= config.min_score]
    yz_mm = find_places(usable, config.merge_mm)
    if not len(yz_mm):
        return -config.missing_penalty * len(Level)
    return _fitting_pose(_weigh_places(usable, yz_mm, config), prior, config)[1]


def _fitting_pose(places: Places, prior: ChainPrior, config: ChainConfig) -> tuple[ChainPrior, float]:
    """The prior for the size and lean of the patient that explain the places best, and its log weight.

    A larger patient's wider spread lowers the density at the mean gap by size squared per gap. `Steps` leaves that
    density out, so it is subtracted here.
    """
    sizes = _POSE_SD if config.size_sd else (0.0,)
    leans = _POSE_SD if config.lean_sd_deg else (0.0,)
    tried = [(size, lean) for size in sizes for lean in leans]
    poses = [(float(np.exp(size * config.size_sd)), lean * config.lean_sd_deg) for size, lean in tried]
    steps = Steps(places.yz_mm, prior, config.gap_inflation, np.array([pose(*p) for p in poses]))
    weight = log_weight(places.unary, steps, config.missing_penalty)
    size_sd, lean_sd = np.array(tried).T
    weight = weight - (size_sd**2 + lean_sd**2) / 2 - 2 * (len(Level) - 1) * size_sd * config.size_sd
    best = int(np.argmax(weight > weight.max() - _TIE))  # of equal poses the one nearest to the mean
    return prior.posed(*poses[best]), float(weight[best])


def _weigh_places(usable: Sequence[LiftedDetection], yz_mm: FloatArray, config: ChainConfig) -> Places:
    weights = {View.SAGITTAL_T2: 1.0, View.SAGITTAL_T1: config.t1_weight, View.AXIAL_T2: config.axial_weight}
    unary, seen = np.zeros((len(yz_mm), len(Level))), np.zeros(len(yz_mm))
    for view, scores in evidence(usable, yz_mm, config.merge_mm).items():
        unary += weights[view] * (np.log(config.evidence_floor + scores) - np.log(config.evidence_floor))
        seen = np.maximum(seen, scores.max(1))
    return Places(yz_mm=yz_mm, unary=unary, seen=seen)


def _refined(
    lifted: Sequence[LiftedDetection], place: FloatArray, level: Level, merge_mm: float
) -> tuple[float, float]:
    """Mean position of the boxes at a place; boxes of the level itself and of sagittal T2 are preferred."""
    near = near_place(lifted, place, merge_mm)
    own = [item for item in near if item.detection.level is level] or near
    canal = [item for item in own if item.detection.view is View.SAGITTAL_T2]
    canal = canal or [item for item in own if item.detection.view.is_sagittal] or own
    weights = [item.detection.score**2 for item in canal]
    y, z = np.average([item.canal_yz_mm for item in canal], axis=0, weights=weights)
    return float(y), float(z)


def fill_missing(found: Chain, prior: ChainPrior) -> dict[Level, ChainLevel]:
    """Places the levels without evidence by the mean gaps, stretched to fit between the neighbours that were found."""
    known = sorted(found)
    filled = dict(found)
    for level in Level:
        if level in found:
            continue
        above = [k for k in known if k < level]
        below = [k for k in known if k > level]
        score = 0.5 * min(found[k].score for k in (above[-1:] + below[:1]))
        if above and below:
            a, b = above[-1], below[0]
            start, end = np.array(found[a].yz_mm), np.array(found[b].yz_mm)
            mean = prior.gap_mean[a:b].sum(0)
            expected = prior.gap_mean[a:level].sum(0)
            share = float(expected @ mean / (mean @ mean))
            # The difference between the actual and the mean gap is spread evenly.
            point = start + expected + share * (end - start - mean)
        elif above:
            point = np.array(found[above[-1]].yz_mm) + prior.gap_mean[above[-1] : level].sum(0)
        else:
            point = np.array(found[below[0]].yz_mm) - prior.gap_mean[level : below[0]].sum(0)
        filled[level] = ChainLevel(yz_mm=(float(point[0]), float(point[1])), source=Source.INTERPOLATED, score=score)
    return dict(sorted(filled.items()))
