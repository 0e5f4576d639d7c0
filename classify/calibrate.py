"""Temperature scaling per condition family (Guo et al., ICML 2017).

The temperature minimises the metric's weighted log loss. The best answer to that loss is the true probability times the
class weight, so submitted probabilities carry the weights. After `shared.probabilities.table.unweighted` they are
calibrated in the usual sense, which is where calibration is measured.

Each fold fits its temperature on its own held-out studies, at localizations or at annotated points that are jittered as
in training, because prediction has no true points. The temperature is kept only where it helps studies that it was not
fitted on (`fit_where_it_helps`), so a network that is already well calibrated is left alone. The fold's own score is
still slightly optimistic. Reports therefore refit the temperature without each study (`cross_calibrated`), and unseen
test studies give the unbiased figure.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared.labels import SEVERITY_WEIGHTS, Condition, findings_of
from shared.metric import weighted_log_loss
from shared.probabilities.table import ProbabilityTable, floored
from shared.splits import Splits

BOUNDS: Final = (0.4, 2.5)
# Fewer graded rows say too little about a temperature.
MIN_ROWS: Final = 20
# Fewer rows of a grade say too little about the cost of missing it.
MIN_CASES: Final = 5
# Penalty on the squared log temperature, in rows. It keeps small held-out folds near the identity.
_RIDGE: Final = 1.0
_GROUPS: Final = 5

Fit = Callable[[NDArray[np.float64], NDArray[np.int8], NDArray[np.intp]], "Calibration"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Divides logits by a temperature; above 1 softens the probabilities, below 1 sharpens them."""

    temperature: float = 1.0

    def __post_init__(self) -> None:
        if not (np.isfinite(self.temperature) and self.temperature > 0):
            raise ValueError(f"temperature {self.temperature}: expected a positive number")

    def __call__(self, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probabilities of logits, both [..., 3]."""
        return softmax(logits / self.temperature)

    def undo(self, probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
        """Logits that give these probabilities, up to a constant per row; both [..., 3]."""
        return np.log(np.clip(probabilities, 1e-15, 1)) * self.temperature


IDENTITY: Final = Calibration()


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Softmax along the last axis."""
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(-1, keepdims=True))


def fit_calibration(logits: NDArray[np.float64], label: NDArray[np.int8], *, rare: bool = False) -> Calibration:
    """The temperature with the lowest weighted log loss; the identity for few rows or when nothing is better.

    When a grade is rare, the cost of missing it cannot be estimated. The temperature may then soften the probabilities
    but not sharpen them.

    Args:
      logits: [n, 3].
      label: [n] grades, -1 where not graded.
      rare: treats a grade as rare even where these rows do not show it.
    """
    counts = _counts(label)
    if counts.sum() < MIN_ROWS:
        return IDENTITY
    rare = rare or counts.min() < MIN_CASES

    def calibration(x: NDArray[np.float64]) -> Calibration:
        return Calibration(temperature=float(np.exp(x[0])))

    def loss(x: NDArray[np.float64]) -> float:
        return weighted_log_loss(calibration(x)(logits), label) + _RIDGE * float(x @ x) / counts.sum()

    bounds = [(np.log(1.0 if rare else BOUNDS[0]), np.log(BOUNDS[1]))]
    from scipy.optimize import minimize  # only fitting needs it

    found = minimize(loss, np.zeros(1), bounds=bounds, method="L-BFGS-B")
    return calibration(found.x) if found.fun < loss(np.zeros(1)) else IDENTITY


def fit_where_it_helps(logits: NDArray[np.float64], label: NDArray[np.int8], study: NDArray[np.intp]) -> Calibration:
    """`fit_calibration`, or the identity unless the gain on studies left out of the fit exceeds two standard errors.

    Args:
      logits: [n, 3].
      label: [n] grades, -1 where not graded.
      study: [n] which study each row belongs to.
    """
    # All fits follow one rule: if one group of studies holds nearly all rows of a grade, a fit without that group could
    # not tell what missing them costs.
    rare = any(_counts(label[~own]).min() < MIN_CASES for own in _groups(study))
    fitted = fit_calibration(logits, label, rare=rare)
    if fitted == IDENTITY:
        return IDENTITY
    others = _refitted(logits, label, study, lambda x, y, _: fit_calibration(x, y, rare=rare))
    graded = label >= 0
    true, rows = label[graded].astype(np.intp), np.flatnonzero(graded)
    weight = np.asarray(SEVERITY_WEIGHTS)[true]
    gain = weight * np.log(others[rows, true] / softmax(logits)[rows, true])
    per_study = np.bincount(np.unique(study[graded], return_inverse=True)[1], gain)
    error = float(per_study.std(ddof=1) * np.sqrt(len(per_study))) if len(per_study) > 1 else np.inf
    return fitted if per_study.sum() > 2 * error else IDENTITY


def cross_fitted(logits: NDArray[np.float64], label: NDArray[np.int8], study: NDArray[np.intp]) -> NDArray[np.float64]:
    """Probabilities [n, 3] of each row under a calibration fitted without its study; arguments as above."""
    return _refitted(logits, label, study, fit_where_it_helps)


def cross_calibrated(
    table: ProbabilityTable,
    truth: NDArray[np.int8],
    splits: Splits,
    calibrations: Mapping[int, Mapping[Condition, Calibration]],
) -> ProbabilityTable:
    """The table with each fold's calibration undone and refitted without each study. Prior rows stay as they are.

    Use it only for runs that held out studies at localizations. At annotated points the calibration was fitted on
    jittered crops, which are not those of the table.

    Args:
      table: out-of-fold probabilities.
      truth: [studies, 25] grades, -1 where not graded.
      splits: of the run.
      calibrations: of each fold in the table.
    """
    values = table.submission.copy()
    fold = np.array([splits.fold_of(s) for s in table.study_ids])
    for k in np.unique(fold):
        for condition in Condition:
            columns = np.array([f.index for f in findings_of(condition)])
            study, place = np.nonzero((fold == k)[:, None] & table.from_model[:, columns])
            if len(study):
                rows = (study, columns[place])
                values[rows] = cross_fitted(calibrations[int(k)][condition].undo(values[rows]), truth[rows], study)
    return replace(table, submission=floored(values))


def _refitted(
    logits: NDArray[np.float64], label: NDArray[np.int8], study: NDArray[np.intp], fit: Fit
) -> NDArray[np.float64]:
    """Probabilities under what `fit` makes of the other studies, in five groups dealt from seed 0."""
    out = np.empty_like(logits)
    for own in _groups(study):
        out[own] = fit(logits[~own], label[~own], study[~own])(logits[own])
    return out


def _groups(study: NDArray[np.intp]) -> list[NDArray[np.bool_]]:
    """A mask [n] of the rows of each of up to five groups of studies."""
    studies = np.unique(study)
    order = np.random.default_rng(0).permutation(len(studies))
    group = (order % min(_GROUPS, max(len(studies), 1)))[np.searchsorted(studies, study)]
    return [group == g for g in np.unique(group)]


def _counts(label: NDArray[np.int8]) -> NDArray[np.intp]:
    """Number of rows with each grade."""
    return np.bincount(label[label >= 0].astype(np.intp), minlength=len(SEVERITY_WEIGHTS))
