"""Calibration per condition family: temperature scaling or vector scaling (Guo et al., ICML 2017).

Fitted for the metric's weighted log loss, whose best answer is the true probability times the class weight: what is
submitted carries the weights, and after `shared.probabilities.unweighted` it is calibrated in the usual sense. That is
where calibration is measured.

Fitted on the fold's own held-out studies: at localizations, or at annotated points with the jitter of training, because
prediction will not have true points. It is kept only where it helps studies that it was not fitted on
(`fit_where_it_helps`): networks that are sure enough already are left alone. That fold's own score is slightly
optimistic all the same, so reports refit it without each study (`cross_fitted`). Unseen test studies give the honest
figure.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from shared.labels import SEVERITY_WEIGHTS

BOUNDS: Final = (0.4, 2.5)
# Fewer graded rows than this say too little about a temperature.
MIN_ROWS: Final = 20
# Fewer rows than this of a grade say too little about missing it.
MIN_CASES: Final = 5
_BIAS_BOUNDS: Final = (-2.0, 2.0)
# Held to the identity by this weight on squares of log temperature and biases, in rows: a held-out fold can be small.
_RIDGE: Final = 1.0
_GROUPS: Final = 5

Method = Literal["none", "temperature", "vector"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """logits / temperature + bias; the bias of Normal/Mild is 0."""

    temperature: float = 1.0
    bias: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        if not (np.isfinite([self.temperature, *self.bias]).all() and self.temperature > 0):
            raise ValueError(f"{self}: expected a positive temperature and finite biases")

    def __call__(self, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probabilities of logits. # [..., 3] -> [..., 3]"""
        return softmax(logits / self.temperature + np.asarray(self.bias))

    def undo(self, probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
        """Logits, up to a constant per row, that give these probabilities. # [..., 3] -> [..., 3]"""
        return (np.log(np.clip(probabilities, 1e-15, 1)) - np.asarray(self.bias)) * self.temperature


IDENTITY: Final = Calibration()


def calibration_from_json(value: Mapping[str, Any]) -> Calibration:
    """Raises `KeyError`, `TypeError` or `ValueError` for anything but a temperature and three biases."""
    first, second, third = (float(v) for v in value["bias"])
    return Calibration(temperature=float(value["temperature"]), bias=(first, second, third))


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Along the last axis. # [..., 3] -> [..., 3]"""
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(-1, keepdims=True))


def weighted_log_loss(probabilities: NDArray[np.float64], label: NDArray[np.int8]) -> float:
    """The metric's term over graded rows, NaN when there is none. # [n, 3], [n]"""
    graded = label >= 0
    if not graded.any():
        return float("nan")
    true = label[graded].astype(np.intp)
    weight = np.asarray(SEVERITY_WEIGHTS)[true]
    p = probabilities[graded][np.arange(len(true)), true]
    return float((weight * -np.log(np.clip(p, 1e-15, 1))).sum() / weight.sum())


def fit_calibration(
    logits: NDArray[np.float64], label: NDArray[np.int8], method: Method, *, rare: bool = False
) -> Calibration:
    """The calibration with the lowest weighted log loss; the identity for few rows or when nothing is better.

    Where a grade has hardly been seen, nothing is known of the cost of missing it: then a temperature may soften the
    probabilities, not sharpen them, and there is no bias; `rare` says so of rows that hide it. # [n, 3], [n], -1 not
    graded
    """
    counts = _counts(label)
    if method == "none" or counts.sum() < MIN_ROWS:
        return IDENTITY
    rare = rare or counts.min() < MIN_CASES
    biased = method == "vector" and not rare

    def calibration(x: NDArray[np.float64]) -> Calibration:
        bias = (0.0, float(x[1]), float(x[2])) if biased else IDENTITY.bias
        return Calibration(temperature=float(np.exp(x[0])), bias=bias)

    def loss(x: NDArray[np.float64]) -> float:
        return weighted_log_loss(calibration(x)(logits), label) + _RIDGE * float(x @ x) / counts.sum()

    low, high = np.log(1.0 if rare else BOUNDS[0]), np.log(BOUNDS[1])
    bounds = [(low, high), *([_BIAS_BOUNDS] * 2 if biased else [])]
    found = minimize(loss, np.zeros(len(bounds)), bounds=bounds, method="L-BFGS-B")
    return calibration(found.x) if found.fun < loss(np.zeros(len(bounds))) else IDENTITY


def fit_where_it_helps(
    logits: NDArray[np.float64], label: NDArray[np.int8], study: NDArray[np.intp], method: Method
) -> Calibration:
    """`fit_calibration`, or the identity unless it surely lowers the loss of studies that it was not fitted on: by more
    than two standard errors of that gain over studies. # [n, 3], [n], [n]
    """
    # One kind of fit throughout: where a group of studies holds nearly all rows of a grade, the fit without it could
    # not tell what missing them costs.
    rare = any(_counts(label[~own]).min() < MIN_CASES for own in _groups(study))
    fitted = fit_calibration(logits, label, method, rare=rare)
    if fitted == IDENTITY:
        return IDENTITY
    others = _refitted(logits, label, study, lambda x, y, _: fit_calibration(x, y, method, rare=rare))
    graded = label >= 0
    true, rows = label[graded].astype(np.intp), np.flatnonzero(graded)
    weight = np.asarray(SEVERITY_WEIGHTS)[true]
    gain = weight * np.log(others[rows, true] / softmax(logits)[rows, true])
    per_study = np.bincount(np.unique(study[graded], return_inverse=True)[1], gain)
    error = float(per_study.std(ddof=1) * np.sqrt(len(per_study))) if len(per_study) > 1 else np.inf
    return fitted if per_study.sum() > 2 * error else IDENTITY


def cross_fitted(
    logits: NDArray[np.float64], label: NDArray[np.int8], study: NDArray[np.intp], method: Method
) -> NDArray[np.float64]:
    """Probabilities of each row under a calibration that has not seen its study. # [n, 3], [n], [n] -> [n, 3]"""
    return _refitted(logits, label, study, lambda x, y, of: fit_where_it_helps(x, y, of, method))


def _refitted(
    logits: NDArray[np.float64],
    label: NDArray[np.int8],
    study: NDArray[np.intp],
    fit: Callable[[NDArray[np.float64], NDArray[np.int8], NDArray[np.intp]], Calibration],
) -> NDArray[np.float64]:
    """Probabilities under what `fit` makes of the other studies: five groups of them, dealt from seed 0."""
    out = np.empty_like(logits)
    for own in _groups(study):
        out[own] = fit(logits[~own], label[~own], study[~own])(logits[own])
    return out


def _groups(study: NDArray[np.intp]) -> list[NDArray[np.bool_]]:
    """The rows of each group of studies. # [n] -> up to five of [n]"""
    studies = np.unique(study)
    order = np.random.default_rng(0).permutation(len(studies))
    group = (order % min(_GROUPS, max(len(studies), 1)))[np.searchsorted(studies, study)]
    return [group == g for g in np.unique(group)]


def _counts(label: NDArray[np.int8]) -> NDArray[np.intp]:
    """Rows of each grade."""
    return np.bincount(label[label >= 0].astype(np.intp), minlength=len(SEVERITY_WEIGHTS))
