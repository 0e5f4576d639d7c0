"""Dynamic programmes over chains: assignments of places to levels, head to foot, in which any level may be missing.

A chain's log weight is the evidence of its places plus the log prior of each step between neighbouring places, minus a
penalty for each missing level. `unary` is always the log evidence of each place for each level, [p, 5].
"""

import numpy as np

from localize.decoding.prior import ChainPrior
from shared.geometry import FloatArray
from shared.labels import Level


class Steps:
    """Log prior of the steps from a place at one level to a place at a lower level.

    Args:
      poses: [..., 2, 2] turns and scales of the prior, as `prior.pose` gives them, to weigh many patients at once. What
        is said of one pose below has the leading axes of this array.
    """

    def __init__(
        self, places: FloatArray, prior: ChainPrior, gap_inflation: float, poses: FloatArray | None = None
    ) -> None:
        delta = places[None] - places[:, None]  # [from, to, 2]
        self._down = delta[..., 1] < 0
        # Posing the patient is the same as posing the places the other way round.
        posed = np.linalg.inv(np.eye(2) if poses is None else poses)[..., None, None, :, :] @ delta[..., None]
        self._delta_y, self._delta_z = posed[..., 0, 0], posed[..., 1, 0]  # [..., from, to]
        self._mean, self._cov = prior.gap_mean, prior.gap_cov * gap_inflation**2

    def log_prior(self, upper: int, lower: int) -> FloatArray:
        """Relative to the density at the mean gap, [from, to]; steps up are impossible."""
        mean = self._mean[upper:lower].sum(0)
        inverse = np.linalg.inv(self._cov[upper:lower].sum(0))
        y, z = self._delta_y - mean[0], self._delta_z - mean[1]
        score = -0.5 * (inverse[0, 0] * y * y + 2 * inverse[0, 1] * y * z + inverse[1, 1] * z * z)
        return np.where(self._down, score, -np.inf)


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


def _forward(unary: FloatArray, steps: Steps, penalty: float) -> list[FloatArray]:  # 5 of [p]
    """Log of the summed weight of all chains that end at each place at each level."""
    forward: list[FloatArray] = []
    for lower in range(len(Level)):
        ends = unary[:, lower] - penalty * lower  # the chain starts here
        for upper in range(lower):
            step = steps.log_prior(upper, lower) - penalty * (lower - upper - 1)
            through = np.logaddexp.reduce(forward[upper][..., None] + step, axis=-2)
            ends = np.logaddexp(ends, through + unary[:, lower])
        forward.append(ends)
    return forward


def log_weight(unary: FloatArray, steps: Steps, penalty: float) -> FloatArray:  # a number for each pose
    """Log of the summed weight of all chains with at least one level; evidence of -inf forbids a place for a level."""
    ends = [
        np.logaddexp.reduce(forward, axis=-1) - penalty * (len(Level) - 1 - level)
        for level, forward in enumerate(_forward(unary, steps, penalty))
    ]
    return np.logaddexp.reduce(np.stack(np.broadcast_arrays(*ends)), axis=0)


def posterior(unary: FloatArray, steps: Steps, penalty: float) -> FloatArray:  # [p, 5]
    """Probability that each place is each level, over all chains of one pose (forward times backward).

    One minus the sum of a level's column is the probability that the level is missing.
    """
    count = len(Level)
    forward = np.stack(_forward(unary, steps, penalty))
    backward = np.repeat(-penalty * (count - 1 - np.arange(count))[:, None], len(unary), axis=1)
    for upper in reversed(range(count)):
        for lower in range(upper + 1, count):
            step = steps.log_prior(upper, lower) - penalty * (lower - upper - 1)
            through = np.logaddexp.reduce(step + (backward[lower] + unary[:, lower])[None], axis=1)
            backward[upper] = np.logaddexp(backward[upper], through)
    ends = forward - penalty * (count - 1 - np.arange(count))[:, None]
    # The chain without any level is an alternative too.
    total = np.logaddexp(np.logaddexp.reduce(ends, axis=None), -penalty * count)
    return np.asarray(np.exp(forward + backward - total).T)
