"""Dynamic programmes over chains: assignments of places to levels, head to foot, in which any level may be missing.

A chain's log weight is the evidence of its places plus the log prior of each step between neighbouring places, minus a
penalty for each missing level. `unary` is always the log evidence of each place for each level, [p, 5].
"""

import numpy as np
from scipy.special import logsumexp

from localize.decoding.prior import ChainPrior
from shared.geometry import FloatArray
from shared.labels import Level


class Steps:
    """Log prior of the steps from a place at one level to a place at a lower level."""

    def __init__(self, places: FloatArray, prior: ChainPrior, gap_inflation: float) -> None:
        self._delta = places[None] - places[:, None]  # [from, to, 2]
        self._mean, self._cov = prior.gap_mean, prior.gap_cov * gap_inflation**2

    def log_prior(self, upper: int, lower: int) -> FloatArray:
        """Relative to the density at the mean gap, [from, to]; steps up are impossible."""
        mean = self._mean[upper:lower].sum(0)
        inverse = np.linalg.inv(self._cov[upper:lower].sum(0))
        off = self._delta - mean
        score = -0.5 * np.einsum("ijk,kl,ijl->ij", off, inverse, off)
        return np.where(self._delta[..., 1] < 0, score, -np.inf)


def best_path(unary: FloatArray, steps: Steps, penalty: float) -> dict[Level, int]:
    """The best chain: level -> index of its place, for the levels that have one."""
    count = len(Level)
    best = unary.T - penalty * np.arange(count)[:, None]  # [level, p]: the chain starts here
    back: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for lower in range(count):
        upper_of = np.full(unary.shape[0], -1)
        place_of = np.full(unary.shape[0], -1)
        for upper in range(lower):
            through = best[upper][:, None] + steps.log_prior(upper, lower) - penalty * (lower - upper - 1)
            candidate = through.max(0) + unary[:, lower]
            better = candidate > best[lower]
            best[lower] = np.where(better, candidate, best[lower])
            upper_of[better] = upper
            place_of[better] = through.argmax(0)[better]
        back[lower] = (upper_of, place_of)
    final = best - penalty * (count - 1 - np.arange(count))[:, None]
    level, place = (int(i) for i in np.unravel_index(int(final.argmax()), final.shape))
    path = {}
    while level >= 0:
        path[Level(level)] = place
        level, place = int(back[level][0][place]), int(back[level][1][place])
    return path


def _forward(unary: FloatArray, steps: Steps, penalty: float) -> FloatArray:  # [5, p]
    """Log of the summed weight of all chains that end at each place at each level."""
    count = len(Level)
    forward = unary.T - penalty * np.arange(count)[:, None]
    for lower in range(count):
        ways = [forward[lower]]
        for upper in range(lower):
            step = steps.log_prior(upper, lower) - penalty * (lower - upper - 1)
            ways.append(logsumexp(forward[upper][:, None] + step, axis=0) + unary[:, lower])
        forward[lower] = logsumexp(ways, axis=0)
    return forward


def log_weight(unary: FloatArray, steps: Steps, penalty: float) -> float:
    """Log of the summed weight of all chains with at least one level; evidence of -inf forbids a place for a level."""
    ends = _forward(unary, steps, penalty) - penalty * (len(Level) - 1 - np.arange(len(Level)))[:, None]
    return float(logsumexp(ends))


def posterior(unary: FloatArray, steps: Steps, penalty: float) -> FloatArray:  # [p, 5]
    """Probability that each place is each level, over all chains (forward times backward).

    One minus the sum of a level's column is the probability that the level is missing.
    """
    count = len(Level)
    forward = _forward(unary, steps, penalty)
    backward = np.repeat(-penalty * (count - 1 - np.arange(count))[:, None], len(unary), axis=1)
    for upper in reversed(range(count)):
        ways = [backward[upper]]
        for lower in range(upper + 1, count):
            step = steps.log_prior(upper, lower) - penalty * (lower - upper - 1)
            ways.append(logsumexp(step + (backward[lower] + unary[:, lower])[None], axis=1))
        backward[upper] = logsumexp(ways, axis=0)
    ends = forward - penalty * (count - 1 - np.arange(count))[:, None]
    # The chain without any level is an alternative too.
    total = logsumexp([*ends.ravel(), -penalty * count])
    return np.asarray(np.exp(forward + backward - total).T)
