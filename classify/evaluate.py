"""Scores out-of-fold probabilities: the competition metric, and what a reader wants to know per condition and level.

Pure functions of probabilities and grades; `classify.report` reads and writes the files.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, cohen_kappa_score, roc_auc_score

from classify.calibrate import weighted_log_loss
from shared.labels import FINDINGS, SEVERITY_WEIGHTS, Condition, Level, Severity, findings_of
from shared.metric import StudyLosses, bootstrap, interval, score, study_losses
from shared.probabilities import ProbabilityTable, unweighted, weighted_prior
from shared.runtime.errors import InputError
from shared.splits import Splits

CALIBRATION_BINS: Final = 10
COVERAGES: Final = (0.25, 0.5, 0.75, 1.0)
Grades = NDArray[np.int8]
Probabilities = NDArray[np.float64]


def evaluate(
    table: ProbabilityTable, grades: Mapping[str, Grades], splits: Splits, *, written: ProbabilityTable | None = None
) -> dict[str, Any]:
    """Everything the report shows, as JSON-ready values; None where a number is not defined.

    Args:
      table: out-of-fold probabilities of the held-out studies of one or more folds.
      written: the same before the calibration was cross-fitted, to be scored beside it.
      grades: [25] severity values per study, of at least all studies of `splits` (-1: not graded).
      splits: tells which studies each fold held out and trained on (for the prior baseline).

    Raises:
      InputError: when a study of the table has no grades or is in no fold.
    """
    unknown = [s for s in table.study_ids if s not in grades]
    if unknown:
        raise InputError(f"study {unknown[0]} has predictions but no grades ({len(unknown)} such)")
    truth = np.stack([grades[s] for s in table.study_ids])
    baselines = {
        "uniform": np.full(table.values.shape, 1 / 3),
        "weighted prior": fold_priors(table.study_ids, grades, splits),
        "model": table.values,
    }
    if written is not None:
        baselines["model, calibration fitted on these studies"] = written.select(table.study_ids).values
    losses = {name: study_losses(values, truth) for name, values in baselines.items()}
    return {
        "studies": len(table.study_ids),
        "graded_rows": int((truth >= 0).sum()),
        "prior_rows": int((~table.from_model).sum()),
        "scores": (scores := {name: _score(values, truth, losses[name]) for name, values in baselines.items()}),
        "gain_over_prior": _gain(scores["weighted prior"], scores["model"], losses),
        "folds": (folds := _per_fold(table, truth, splits)),
        "fold_spread": float(np.std([f["score"] for f in folds], ddof=1)) if len(folds) > 1 else None,
        **describe(table, truth),
    }


def describe(table: ProbabilityTable, truth: Grades) -> dict[str, Any]:
    """Figures per condition, and per condition and level with sides pooled. # truth [n, 25], -1 not graded"""
    return {
        "conditions": {c.short: condition_figures(table, truth, c) for c in Condition},
        "levels": [
            {"condition": c.short, "level": level.display, **row_figures(*_rows(table, truth, c, level))}
            for c in Condition
            for level in Level
        ],
    }


def fold_priors(study_ids: Sequence[str], grades: Mapping[str, Grades], splits: Splits) -> Probabilities:
    """The weighted prior of the studies each study's fold trained on. # [n, 25, 3]"""
    priors = {}
    for k in sorted({splits.fold_of(s) for s in study_ids}):
        priors[k] = weighted_prior(np.stack([grades[s] for s in splits.training(k)]))
    return np.stack([priors[splits.fold_of(s)] for s in study_ids])


def _score(values: Probabilities, truth: Grades, losses: StudyLosses) -> dict[str, Any]:
    result = score(values, truth)
    low_high = interval(bootstrap(losses))
    return {"score": result.score, "low": low_high.low, "high": low_high.high, "terms": result.terms}


def _gain(before: Mapping[str, Any], after: Mapping[str, Any], losses: Mapping[str, StudyLosses]) -> dict[str, float]:
    """How much lower the model's score is than the prior's, with its paired bootstrap interval."""
    low_high = interval(bootstrap(losses["weighted prior"]) - bootstrap(losses["model"]))
    return {"gain": before["score"] - after["score"], "low": low_high.low, "high": low_high.high}


def _per_fold(table: ProbabilityTable, truth: Grades, splits: Splits) -> list[dict[str, Any]]:
    fold = np.array([splits.fold_of(s) for s in table.study_ids])
    rows = []
    for k in np.unique(fold):
        result = score(table.values[fold == k], truth[fold == k])
        rows.append({"fold": int(k), "studies": int((fold == k).sum()), "score": result.score, "terms": result.terms})
    return rows


def _rows(
    table: ProbabilityTable, truth: Grades, condition: Condition, level: Level | None = None
) -> tuple[Probabilities, Grades]:
    """Graded rows of a condition, sides pooled. # [n, 3], [n]"""
    columns = [f.index for f in findings_of(condition) if level is None or f.level is level]
    graded = truth[:, columns] >= 0
    return table.values[:, columns][graded], truth[:, columns][graded]


def row_figures(probabilities: Probabilities, grades: Grades) -> dict[str, Any]:
    """Figures of a set of graded rows. # [n, 3], [n]"""
    n = len(grades)
    if n == 0:
        return {"n": 0}
    severe = grades == Severity.SEVERE
    one_class = severe.all() or not severe.any()
    predicted = hard_grade(probabilities)
    constant = len(np.unique(np.concatenate([grades, predicted]))) < 2
    return {
        "n": n,
        "prevalence": [float((grades == s).mean()) for s in Severity],
        "weighted_log_loss": weighted_log_loss(probabilities, grades),
        "auc_severe": None if one_class else float(roc_auc_score(severe, probabilities[:, Severity.SEVERE])),
        "ap_severe": None if one_class else float(average_precision_score(severe, probabilities[:, Severity.SEVERE])),
        "kappa_quadratic": None
        if constant
        else float(cohen_kappa_score(grades, predicted, weights="quadratic", labels=[0, 1, 2])),
        "ece": calibration_error(unweighted(probabilities), grades),
        "ece_if_calibrated": error_if_calibrated(unweighted(probabilities)),
        "confusion": confusion(grades, predicted).tolist(),
    }


def condition_figures(table: ProbabilityTable, truth: Grades, condition: Condition) -> dict[str, Any]:
    """`row_figures` of a whole condition, with its reliability curve and how right its surest rows are."""
    probabilities, grades = _rows(table, truth, condition)
    plain = unweighted(probabilities)
    return {
        **row_figures(probabilities, grades),
        "reliability": reliability(plain, grades),
        "by_confidence": by_confidence(plain, grades),
    }


def by_confidence(probabilities: Probabilities, grades: Grades) -> list[dict[str, Any]]:
    """Of the surest shares of all rows, how many have the right likeliest grade, and how many severe ones are missed.

    Sureness is the probability of the likeliest grade. `severe_as_normal` is a share of the severe rows among them,
    None without any. # [n, 3], [n]
    """
    order = np.argsort(-probabilities.max(1), kind="stable")
    rows = []
    for coverage in COVERAGES if len(grades) else ():
        kept = order[: max(round(coverage * len(order)), 1)]
        predicted, true = probabilities[kept].argmax(1), grades[kept]
        severe = true == Severity.SEVERE
        rows.append(
            {
                "coverage": coverage,
                "n": len(kept),
                "least_confidence": float(probabilities[kept].max(1).min()),
                "right": float((predicted == true).mean()),
                "severe_as_normal": float((predicted[severe] == Severity.NORMAL_MILD).mean()) if severe.any() else None,
            }
        )
    return rows


def hard_grade(probabilities: Probabilities) -> Grades:
    """The likeliest grade after `unweighted`. # [n, 3] -> [n]"""
    return np.asarray(unweighted(probabilities).argmax(-1), dtype=np.int8)


def confusion(grades: Grades, predicted: Grades) -> NDArray[np.int64]:
    """Counts by true grade (rows) and predicted grade (columns). # [3, 3]"""
    counts = np.bincount(grades.astype(np.intp) * 3 + predicted, minlength=9)
    return counts.reshape(3, 3).astype(np.int64)


def calibration_error(probabilities: Probabilities, grades: Grades) -> float:
    """Expected calibration error, mean over the three one-vs-rest problems, equal-width bins. # [n, 3], [n]"""
    total = 0.0
    for s in Severity:
        for point in _bins(probabilities[:, s], grades == s):
            total += point["n"] / len(grades) * abs(point["predicted"] - point["observed"])
    return total / len(Severity)


def error_if_calibrated(probabilities: Probabilities, *, draws: int = 50) -> float:
    """Mean `calibration_error` of grades drawn from the probabilities themselves: what chance alone leaves.

    A small sample never shows an error of zero; one near this value is no sign of miscalibration (consistency
    resampling, Bröcker and Smith 2007). # [n, 3]
    """
    rng = np.random.default_rng(0)
    edges = probabilities.cumsum(1)[:, :2]
    errors = []
    for _ in range(draws):
        drawn = (rng.random(len(edges))[:, None] > edges).sum(1).astype(np.int8)
        errors.append(calibration_error(probabilities, drawn))
    return float(np.mean(errors))


def reliability(probabilities: Probabilities, grades: Grades) -> dict[str, list[dict[str, float]]]:
    """Per severity the bins' mean prediction and observed share. # [n, 3], [n]"""
    return {s.column: _bins(probabilities[:, s], grades == s) for s in Severity}


def _bins(predicted: NDArray[np.float64], happened: NDArray[np.bool_]) -> list[dict[str, float]]:
    index = np.minimum((predicted * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    points = []
    for b in np.unique(index):
        inside = index == b
        points.append(
            {
                "predicted": float(predicted[inside].mean()),
                "observed": float(happened[inside].mean()),
                "n": int(inside.sum()),
            }
        )
    return points


def worst_mistakes(
    table: ProbabilityTable, truth: Grades, *, count: int, condition: Condition | None = None
) -> list[tuple[int, int]]:
    """(study, finding) indices of the model's graded rows with the largest weighted log loss, worst first."""
    true = np.where(truth >= 0, truth, 0).astype(np.intp)
    p_true = np.take_along_axis(table.values, true[..., None], axis=-1)[..., 0]
    loss = np.asarray(SEVERITY_WEIGHTS)[true] * -np.log(np.clip(p_true, 1e-15, 1))
    loss[(truth < 0) | ~table.from_model] = -1
    if condition is not None:
        loss[:, [f.index for f in FINDINGS if f.condition is not condition]] = -1
    order = np.argsort(-loss, axis=None, kind="stable")[:count]
    places = [(int(i) // len(FINDINGS), int(i) % len(FINDINGS)) for i in order]
    return [place for place in places if loss[place] >= 0]
