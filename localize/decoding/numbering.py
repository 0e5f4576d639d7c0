"""Decides how probable it is that the whole chain is one disc too high or too low.

The chain's five points, and one more extrapolated at each end, are the rungs of a ladder. In a chain as named each
level is on its own rung. In a chain one disc higher or lower each level is on the next rung up or down, so that one of
its ends falls on an extra rung, where there may or may not be a place. The weights of the three sets of chains are
summed and compared.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.special import softmax

from localize.config import ChainConfig
from localize.decoding.paths import Steps, log_weight
from localize.decoding.prior import ChainPrior
from shared.geometry import FloatArray
from shared.labels import Level
from shared.numbering import Numbering

# A place farther than this share of a gap from every rung is on none of them.
_NEAR_RUNG: Final = 0.45
_SHIFTS: Final = (0, -1, 1)  # as named, one higher, one lower


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Places with their evidence.

    Attributes:
      yz_mm: position in the sagittal plane.
      unary: log evidence of each place for each level, over all views.
      seen: evidence in [0, 1] that a place is a disc of any level.
    """

    yz_mm: FloatArray  # [p, 2]
    unary: FloatArray  # [p, 5]
    seen: FloatArray  # [p]


def ladder(points: FloatArray, prior: ChainPrior) -> FloatArray:
    """The chain's points (y, z) with one more above and one below, (5, 2) -> (7, 2).

    The spine keeps bending: the outer gaps change by as much as the two mean gaps before them. Their length is scaled
    to the patient's size.
    """
    gaps = prior.gap_mean
    size = float(np.linalg.norm(points[-1] - points[0]) / np.linalg.norm(gaps.sum(0)))
    above = points[0] - size * (2 * gaps[0] - gaps[1])
    below = points[-1] + size * (2 * gaps[-1] - gaps[-2])
    return np.vstack([above, points, below])


def weigh_shifts(
    places: Places, points: FloatArray, missing: FloatArray, prior: ChainPrior, config: ChainConfig
) -> Numbering:
    """Weighs the chain as named against the chains one disc higher and lower.

    Args:
      points: the chain's points (y, z), [5, 2].
      missing: probability that each level is missing, [5].
    """
    rungs = ladder(points, prior)
    distance = np.linalg.norm(places.yz_mm[:, None] - rungs[None], axis=2)  # [p, 7]
    reach = _NEAR_RUNG * float(np.linalg.norm(np.diff(points, axis=0), axis=1).mean())
    rung_of = np.where(distance.min(1) <= reach, distance.argmin(1), -1)
    steps = Steps(places.yz_mm, prior, config.gap_inflation)
    # A detector misnumbers the whole spine or nothing, so its five names are not independent evidence.
    naming = config.naming_weight * places.unary
    weights = np.array([
        log_weight(np.where(_allowed(rung_of, shift), naming, -np.inf), steps, config.missing_penalty)
        for shift in _SHIFTS
    ])  # fmt: skip
    if not np.isfinite(weights).any():  # no place is on a rung, so nothing tells the numberings apart
        weights = np.zeros(len(_SHIFTS))
    prior_of = np.array([1 - 2 * config.shift_prior, config.shift_prior, config.shift_prior])
    with np.errstate(divide="ignore"):
        as_named, higher, lower = (float(v) for v in softmax(weights + np.log(prior_of)))
    return Numbering(
        as_named=as_named, one_higher=higher, one_lower=lower,
        disc_above=float(places.seen[rung_of == 0].max(initial=0.0)),
        disc_below=float(places.seen[rung_of == len(rungs) - 1].max(initial=0.0)),
        missing={level: float(missing[level]) for level in Level},
    )  # fmt: skip


def _allowed(rung_of: np.ndarray, shift: int) -> np.ndarray:  # [p, 5]
    """Which levels a place may have when each level is `shift` rungs below its own."""
    return rung_of[:, None] == np.arange(1, 1 + len(Level))[None] + shift
