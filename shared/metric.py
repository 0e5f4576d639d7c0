"""The competition metric, with study-level bootstrap intervals.

score = mean(canal, foraminal, subarticular, any severe). Each family's term is sum(w * -log p_true) / sum(w) over all
its graded rows, sides and levels pooled, with w = 1, 2, 4 by the true class. The any-severe term is a binary log loss
per study over its graded canal rows: label = any Severe, prediction = the largest predicted severe, weight = the
largest row weight.

This module also defines what the challenge's own code leaves open:

- Rows must sum to 1; otherwise it raises, where scikit-learn only warns. `shared.probabilities.files.read_submission`
  normalises rows that were rounded when they were written.
- Probabilities are clipped to [eps, 1 - eps] of float64, so p = 0 costs 36.04.
- Ungraded rows never count.
- The any-severe term needs one study with a graded canal row, even if all or none of them is severe.
- A family without graded rows has no term; the score is the mean of the existing terms.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared.labels import SEVERITY_WEIGHTS, Condition, Severity, findings_of
from shared.probabilities.table import SUM_TOLERANCE
from shared.runtime.errors import InputError

TERMS: Final = (*(c.short for c in Condition), "any_severe")
_NORMAL_95: Final = 1.959964  # 97.5th percentile of the standard normal distribution
# With fewer studies a bootstrap interval is itself uncertain.
FEW_STUDIES: Final = 30
_EPS: Final = float(np.finfo(np.float64).eps)
_SLICES: Final = {c: [f.index for f in findings_of(c)] for c in Condition}


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """The metric and its terms; a term without graded rows is None and left out of the mean."""

    score: float
    terms: dict[str, float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """The lower and upper end of an interval."""

    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyLosses:
    """Weighted loss and weight of every term, per study; the metric is the ratio of their sums."""

    losses: NDArray[np.float64]  # [n, 4]
    weights: NDArray[np.float64]  # [n, 4]


def study_losses(probabilities: NDArray[np.float64], grades: NDArray[np.int8]) -> StudyLosses:
    """Weighted losses of [n, 25, 3] probabilities against [n, 25] grades (-1: not graded).

    Raises:
      InputError: when the shapes disagree or a graded row is not a probability distribution.
    """
    if probabilities.shape != (*grades.shape, 3):
        raise InputError(
            f"metric: probabilities {probabilities.shape} do not fit grades {grades.shape}; expected [n, 25, 3]"
        )
    graded = grades >= 0
    if not graded.any():
        raise InputError("metric: no graded row to score; expected at least one grade")
    sums = probabilities[graded].sum(-1)
    if not np.isfinite(sums).all() or (probabilities[graded] < 0).any() or (np.abs(sums - 1) > SUM_TOLERANCE).any():
        raise InputError("metric: a row of probabilities does not sum to 1; normalise the submission first")
    true = np.where(graded, grades, 0).astype(np.intp)
    p_true = np.take_along_axis(probabilities, true[..., None], axis=-1)[..., 0]
    weight = np.where(graded, np.asarray(SEVERITY_WEIGHTS)[true], 0.0)  # [n, 25]
    loss = np.where(graded, -np.log(_clip(p_true)), 0.0) * weight
    losses = [loss[:, _SLICES[c]].sum(1) for c in Condition]
    weights = [weight[:, _SLICES[c]].sum(1) for c in Condition]

    canal = _SLICES[Condition.CANAL]
    severe = np.where(graded[:, canal], probabilities[:, canal, Severity.SEVERE], 0.0).max(1)
    label = (grades[:, canal] == Severity.SEVERE).any(1)
    any_weight = weight[:, canal].max(1)
    losses.append(any_weight * -np.log(_clip(np.where(label, severe, 1 - severe))))
    weights.append(any_weight)
    return StudyLosses(losses=np.stack(losses, 1), weights=np.stack(weights, 1))


def score(probabilities: NDArray[np.float64], grades: NDArray[np.int8]) -> Score:
    """The competition metric; raises `InputError` as `study_losses` does."""
    parts = study_losses(probabilities, grades)
    loss, weight = parts.losses.sum(0), parts.weights.sum(0)
    terms = {t: float(loss[i] / weight[i]) if weight[i] > 0 else None for i, t in enumerate(TERMS)}
    return Score(score=float(np.mean([v for v in terms.values() if v is not None])), terms=terms)


def weighted_log_loss(probabilities: NDArray[np.float64], grades: NDArray[np.int8]) -> float:
    """A family's term over rows of any kind, [n, 3] and [n] (-1: not graded); NaN when none is graded."""
    graded = grades >= 0
    if not graded.any():
        return float("nan")
    true = grades[graded].astype(np.intp)
    weight = np.asarray(SEVERITY_WEIGHTS)[true]
    p = probabilities[graded][np.arange(len(true)), true]
    return float((weight * -np.log(np.clip(p, 1e-15, 1))).sum() / weight.sum())


def bootstrap(losses: StudyLosses, *, resamples: int = 2000, seed: int = 0) -> NDArray[np.float64]:
    """Scores of studies drawn with replacement, one per resample.

    The same seed draws the same studies, so the differences between two calls are paired.
    """
    n = len(losses.losses)
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples)  # [resamples, n]
    loss, weight = counts @ losses.losses, counts @ losses.weights
    terms = np.divide(loss, weight, out=np.full_like(loss, np.nan), where=weight > 0)
    present = (losses.weights.sum(0) > 0)[None]
    return np.asarray(np.nanmean(np.where(present, terms, np.nan), axis=1))


def interval(samples: NDArray[np.float64], level: float = 0.95) -> Interval:
    """Percentile interval of bootstrap samples."""
    low, high = np.quantile(samples, [(1 - level) / 2, (1 + level) / 2])
    return Interval(low=float(low), high=float(high))


def share_interval(hits: int, cases: int) -> Interval:
    """The 95% interval of a share of cases that are independent of each other (Wilson 1927); 0 to 1 without any."""
    if cases == 0:
        return Interval(low=0.0, high=1.0)
    share, z2 = hits / cases, _NORMAL_95**2
    middle = (share + z2 / (2 * cases)) / (1 + z2 / cases)
    half = _NORMAL_95 / (1 + z2 / cases) * math.sqrt(share * (1 - share) / cases + z2 / (4 * cases**2))
    return Interval(low=max(middle - half, 0.0), high=min(middle + half, 1.0))


def _clip(p: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.clip(p, _EPS, 1 - _EPS)
