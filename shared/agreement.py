"""How well probabilities agree with grades, per condition and level: log loss, AUC, kappa, confusion, calibration.

Log loss, AUC and average precision are those of the submission. The predicted grade is the most probable one, and
calibration is measured on the probabilities, without the metric's weights.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, cohen_kappa_score, roc_auc_score

from shared.labels import Condition, Level, Severity, findings_of
from shared.metric import weighted_log_loss
from shared.probabilities.table import ProbabilityTable, unweighted

CALIBRATION_BINS: Final = 10
COVERAGES: Final = (0.25, 0.5, 0.75, 1.0)
Grades = NDArray[np.int8]
Probabilities = NDArray[np.float64]


def describe(table: ProbabilityTable, truth: Grades) -> dict[str, Any]:
    """Measures per condition, and per condition and level, as JSON-ready values; both sides are pooled.

    Args:
      truth: [n, 25] severity values in the order of the table's studies, -1 where not graded.
    """
    return {
        "conditions": {c.short: _condition_measures(table, truth, c) for c in Condition},
        "levels": [
            {"condition": c.short, "level": level.display, **row_measures(*_rows(table, truth, c, level))}
            for c in Condition
            for level in Level
        ],
    }


def _rows(
    table: ProbabilityTable, truth: Grades, condition: Condition, level: Level | None = None
) -> tuple[Probabilities, Grades]:
    """Submission [n, 3] and grades [n] of a condition's graded rows, both sides pooled."""
    columns = [f.index for f in findings_of(condition) if level is None or f.level is level]
    graded = truth[:, columns] >= 0
    return table.submission[:, columns][graded], truth[:, columns][graded]


def row_measures(submission: Probabilities, grades: Grades) -> dict[str, Any]:
    """Measures of graded rows; None where one is not defined because only one class occurs.

    Args:
      submission: [n, 3], with the metric's weights.
      grades: [n] severity values.
    """
    n = len(grades)
    if n == 0:
        return {"n": 0}
    severe = grades == Severity.SEVERE
    one_class = severe.all() or not severe.any()
    plain = unweighted(submission)
    predicted = plain.argmax(-1).astype(np.int8)
    constant = len(np.unique(np.concatenate([grades, predicted]))) < 2
    return {
        "n": n,
        "prevalence": [float((grades == s).mean()) for s in Severity],
        "weighted_log_loss": weighted_log_loss(submission, grades),
        "auc_severe": None if one_class else float(roc_auc_score(severe, submission[:, Severity.SEVERE])),
        "ap_severe": None if one_class else float(average_precision_score(severe, submission[:, Severity.SEVERE])),
        "kappa_quadratic": None
        if constant
        else float(cohen_kappa_score(grades, predicted, weights="quadratic", labels=[0, 1, 2])),
        "ece": calibration_error(plain, grades),
        "ece_if_calibrated": error_if_calibrated(plain),
        "confusion": confusion(grades, predicted).tolist(),
    }


def _condition_measures(table: ProbabilityTable, truth: Grades, condition: Condition) -> dict[str, Any]:
    """`row_measures` of a whole condition, its reliability curves, and its accuracy by confidence."""
    submission, grades = _rows(table, truth, condition)
    plain = unweighted(submission)
    return {
        **row_measures(submission, grades),
        "reliability": {s.column: _bins(plain[:, s], grades == s) for s in Severity},
        "by_confidence": by_confidence(plain, grades),
    }


def by_confidence(probabilities: Probabilities, grades: Grades) -> list[dict[str, Any]]:
    """Accuracy of the most confident rows: of a quarter, half, three quarters and all of them.

    Confidence is the probability of the most probable grade. `severe` counts the severe rows among them, and
    `severe_as_normal` is the share of these that are called Normal/Mild, None without any.

    Args:
      probabilities: [n, 3], without the metric's weights.
      grades: [n] severity values.
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
                "severe": int(severe.sum()),
                "severe_as_normal": float((predicted[severe] == Severity.NORMAL_MILD).mean()) if severe.any() else None,
            }
        )
    return rows


def confusion(grades: Grades, predicted: Grades) -> NDArray[np.int64]:
    """Counts by true grade (rows) and predicted grade (columns), [n] and [n] -> [3, 3]."""
    counts = np.bincount(grades.astype(np.intp) * 3 + predicted, minlength=9)
    return counts.reshape(3, 3).astype(np.int64)


def calibration_error(probabilities: Probabilities, grades: Grades) -> float:
    """Expected calibration error of [n, 3] and [n]: mean over the three one-vs-rest problems, equal-width bins."""
    total = 0.0
    for s in Severity:
        for point in _bins(probabilities[:, s], grades == s):
            total += point["n"] / len(grades) * abs(point["predicted"] - point["observed"])
    return total / len(Severity)


def error_if_calibrated(probabilities: Probabilities, *, draws: int = 50) -> float:
    """Mean `calibration_error` of grades drawn from the [n, 3] probabilities themselves: what chance alone leaves.

    A small sample never has an error of zero; one near this value is no sign of miscalibration (consistency
    resampling, Bröcker and Smith 2007).
    """
    rng = np.random.default_rng(0)
    edges = probabilities.cumsum(1)[:, :2]
    errors = []
    for _ in range(draws):
        drawn = (rng.random(len(edges))[:, None] > edges).sum(1).astype(np.int8)
        errors.append(calibration_error(probabilities, drawn))
    return float(np.mean(errors))


def _bins(predicted: NDArray[np.float64], happened: NDArray[np.bool_]) -> list[dict[str, float]]:
    """Mean prediction, observed share and number of rows of each bin that has any."""
    index = np.minimum((predicted * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    inside = [index == b for b in np.unique(index)]
    return [
        {"predicted": float(predicted[i].mean()), "observed": float(happened[i].mean()), "n": int(i.sum())}
        for i in inside
    ]
