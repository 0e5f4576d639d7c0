"""Calibrates scores: the probability that a localization is within 8 mm of the true point and on the right level.

Platt scaling (Platt 1999), sigmoid(slope * logit(score) + intercept), is fitted on held-out studies. A good localizer
fails in only a few of them, and a plain fit would then be certain everywhere. Normal priors therefore keep the slope
near 1 and the intercept near 0, and the targets are smoothed as Platt proposed.

A fit says nothing of scores lower than those it has seen: a neck, a phantom or a foreign scanner may give them. Below
the lowest scores of the fit the probability falls to zero in proportion to the score.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field
from scipy.special import expit, logit

from shared.detections import Localization
from shared.geometry import FloatArray
from shared.runtime.documents import Document, read_document
from shared.runtime.errors import InputError
from shared.runtime.files import write_json

VERSION: Final = 1
_AGAIN: Final = "restore the file or train the localizer again"
# Far beyond what the priors of the fit allow.
_MOST: Final = 1000.0
MIN_SAMPLES: Final = 50
# Scores are kept this far from 0 and 1, whose logits are infinite.
_EDGE: Final = 1e-3
_SLOPE_SD: Final = 0.5
_INTERCEPT_SD: Final = 3.0
_GROUPS: Final = 5
# Of the fitted scores this share lies below what the fit answers for.
_UNSEEN_SHARE: Final = 0.01
# Bins of scores, finer towards 1, where nearly all scores are.
_EDGES: Final = (0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 0.98, 0.99, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """A fitted calibration; the default leaves scores as they are.

    Attributes:
      slope: at least 0, so that the order of scores is kept.
      samples: number of localizations that it was fitted on; 0 when there were too few.
      failures: how many of these were not right.
      support: lowest score that the fit answers for.
    """

    slope: float = 1.0
    intercept: float = 0.0
    samples: int = 0
    failures: int = 0
    support: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.slope <= _MOST and abs(self.intercept) <= _MOST):
            raise ValueError(
                f"slope {self.slope}, intercept {self.intercept}: expected numbers up to {_MOST:g}, slope >= 0"
            )
        if not 0 <= self.failures <= self.samples:
            raise ValueError(f"failures {self.failures}: expected at most as many as samples, {self.samples}")
        if not 0 <= self.support <= 1:
            raise ValueError(f"support {self.support}: expected a score from 0 to 1")

    @property
    def share_right(self) -> float:
        """Share of the localizations of the fit that were right; 0 without a fit, for nothing is known then."""
        return 1 - self.failures / self.samples if self.samples else 0.0

    def apply(self, scores: ArrayLike) -> FloatArray:
        """Turns scores in [0, 1] into probabilities of the same shape."""
        values = np.asarray(scores, np.float64)
        if not self.samples:
            return values
        fitted = expit(self.slope * _logit(np.maximum(values, self.support)) + self.intercept)
        return np.asarray(fitted * np.minimum(values / self.support, 1) if self.support else fitted)


IDENTITY: Final = Calibration()


def fit_calibration(scores: Sequence[float], right: Sequence[bool]) -> Calibration:
    """Fits on localizations of known truth; returns the identity for fewer than `MIN_SAMPLES`."""
    if len(scores) < MIN_SAMPLES:
        return IDENTITY
    x, hits = _logit(np.asarray(scores, np.float64)), np.asarray(right, bool)
    good, bad = int(hits.sum()), int((~hits).sum())
    target = np.where(hits, (good + 1) / (good + 2), 1 / (bad + 2))

    def cost(parameters: FloatArray) -> float:
        slope, intercept = parameters
        z = slope * x + intercept
        likelihood = target @ np.logaddexp(0, -z) + (1 - target) @ np.logaddexp(0, z)
        return float(likelihood + 0.5 * ((slope - 1) / _SLOPE_SD) ** 2 + 0.5 * (intercept / _INTERCEPT_SD) ** 2)

    from scipy.optimize import minimize  # only fitting needs it

    fitted = minimize(cost, np.array([1.0, 0.0]), method="L-BFGS-B", bounds=[(0.0, None), (None, None)])
    slope, intercept = (float(v) for v in fitted.x)
    support = float(np.quantile(scores, _UNSEEN_SHARE))
    return Calibration(slope=slope, intercept=intercept, samples=len(x), failures=bad, support=support)


def cross_fitted(scores: Sequence[float], right: Sequence[bool], study_ids: Sequence[str]) -> FloatArray:  # [n]
    """Calibrates each score with a calibration fitted on other studies, in five groups of studies drawn with seed 0."""
    studies = sorted(set(study_ids))
    order = np.random.default_rng(0).permutation(len(studies))
    group_of = {study: int(k) % _GROUPS for study, k in zip(studies, order, strict=True)}
    group, values, hits = np.array([group_of[s] for s in study_ids]), np.asarray(scores), np.asarray(right, bool)
    out = np.empty(len(values))
    for g in set(group_of.values()):
        own = group == g
        out[own] = fit_calibration(values[~own].tolist(), hits[~own].tolist()).apply(values[own])
    return out


def reliability(scores: Sequence[float], right: Sequence[bool]) -> dict[str, Any]:
    """Measures how well scores agree with the share that is right.

    Returns:
      `ece`, the mean of |mean score - share right| over all scores' bins (Naeini et al., AAAI 2015), `brier`, the mean
      squared difference, both None without any score, and the bins.
    """
    values, hits = np.asarray(scores, np.float64), np.asarray(right, np.float64)
    rows = []
    for low, high in pairwise(_EDGES):
        inside = (values >= low) & ((values < high) | (high == 1.0))
        if inside.any():
            rows.append({
                "score_from": low, "score_to": high, "count": int(inside.sum()),
                "mean_score": float(values[inside].mean()), "right": float(hits[inside].mean()),
            })  # fmt: skip
    gaps = [row["count"] * abs(row["mean_score"] - row["right"]) for row in rows]
    return {
        "ece": float(sum(gaps) / len(values)) if len(values) else None,
        "brier": float(((values - hits) ** 2).mean()) if len(values) else None,
        "bins": rows,
    }


def calibrated(item: Localization, calibration: Calibration) -> Localization:
    """Returns the localization with its raw score calibrated."""
    raw = item.score if item.raw_score is None else item.raw_score
    return replace(item, score=float(calibration.apply(raw)), raw_score=raw)


def _logit(scores: FloatArray) -> FloatArray:
    return np.asarray(logit(np.clip(scores, _EDGE, 1 - _EDGE)))


def mean_calibration(calibrations: Iterable[Calibration]) -> Calibration:
    """Averages the calibrations of several folds, for their averaged detectors; unfitted ones are left out."""
    fitted = [c for c in calibrations if c.samples]
    if not fitted:
        return IDENTITY
    return Calibration(
        slope=float(np.mean([c.slope for c in fitted])),
        intercept=float(np.mean([c.intercept for c in fitted])),
        samples=sum(c.samples for c in fitted),
        failures=sum(c.failures for c in fitted),
        support=float(np.mean([c.support for c in fitted])),
    )


class CalibrationFile(Document):
    """calibration.json of a fold: scores become probabilities by logistic(slope * logit(score) + intercept)."""

    version: Literal[1]
    method: str
    target: str
    slope: float
    intercept: float
    samples: Annotated[int, Field(ge=0)]
    failures: Annotated[int, Field(ge=0)]
    support: float = 0.0  # runs of 0.1.0 have none


def write_calibration(path: Path, calibration: Calibration) -> None:
    """Writes a calibration as JSON."""
    write_json(
        path,
        {
            "version": VERSION,
            "method": "platt" if calibration.samples else "none",
            "target": "within 8 mm of the true point and nearest to the right level",
            **{name: round(number, 6) for name, number in asdict(calibration).items()},
        },
    )


def read_calibration(path: Path) -> Calibration:
    """Reads a fold's calibration; raises `InputError` for a file that `write_calibration` did not write."""
    file = read_document(path, CalibrationFile, advice=_AGAIN)
    try:
        return Calibration(
            slope=file.slope, intercept=file.intercept, samples=file.samples, failures=file.failures,
            support=file.support,
        )  # fmt: skip
    except ValueError as error:
        raise InputError(f"{path}: {error}; {_AGAIN}") from error
