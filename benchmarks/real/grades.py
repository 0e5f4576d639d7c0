"""Foraminal grades on real held-out studies: several answers, beside the weighted prior and paired with the first.

    python -m benchmarks.real.grades DATA NAME=PROBABILITIES.csv... [--out OUT.json]

DATA is a challenge directory with real sagittal T1 slices and foraminal grades. Each probabilities.csv comes from a
fold of `lumbar classify train --condition foraminal` or from `lumbar classify predict`. All must answer the same
studies. The prior is that of all other studies of DATA. No pixel is kept.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from benchmarks.results import header, parser, save
from shared.agreement import row_measures
from shared.data.challenge import Challenge
from shared.labels import Condition, Severity, findings_of
from shared.metric import StudyLosses, bootstrap, interval, study_losses
from shared.probabilities.files import read_probabilities
from shared.probabilities.table import weighted_prior

_COLUMNS = [finding.index for finding in findings_of(Condition.FORAMINAL)]


def measure(data: Challenge, answers: Mapping[str, Path]) -> dict[str, Any]:
    """The measures of each answer and of the prior, and the difference of each from the first answer."""
    tables = {name: read_probabilities(path) for name, path in answers.items()}
    studies = sorted(next(iter(tables.values())).study_ids)
    held_out = set(studies)
    grades = _foraminal(data.grades_of(studies))
    prior = weighted_prior(_foraminal(data.grades_of([s for s in data.study_ids if s not in held_out])))
    values = {"weighted prior": np.repeat(prior[None], len(studies), axis=0)}
    values |= {name: table.select(studies).submission for name, table in tables.items()}
    losses = {name: _term(study_losses(of, grades)) for name, of in values.items()}
    first = bootstrap(losses[next(iter(tables))])
    return {
        "studies": len(studies), "grades": int((grades >= 0).sum()),
        "answers": {name: _measured(values[name], grades, losses[name], first) for name in values},
    }  # fmt: skip


def _foraminal(grades: NDArray[np.int8]) -> NDArray[np.int8]:  # [n, 25], -1 where another condition is graded
    kept = np.full_like(grades, -1)
    kept[:, _COLUMNS] = grades[:, _COLUMNS]
    return kept


def _term(losses: StudyLosses) -> StudyLosses:
    """The foraminal term alone."""
    one = list(Condition).index(Condition.FORAMINAL)
    return StudyLosses(losses=losses.losses[:, [one]], weights=losses.weights[:, [one]])


def _measured(
    values: NDArray[np.float64], grades: NDArray[np.int8], losses: StudyLosses, first: NDArray[np.float64]
) -> dict[str, Any]:
    samples = bootstrap(losses)
    graded = grades >= 0
    rows, true = values[graded], grades[graded]
    measures = row_measures(rows, true)
    spread, difference = interval(samples), interval(samples - first)
    return {
        "weighted_log_loss": round(float(losses.losses.sum() / losses.weights.sum()), 4),
        "interval": [round(spread.low, 4), round(spread.high, 4)],
        "minus_first": [round(v, 4) for v in (float((samples - first).mean()), difference.low, difference.high)],
        "auc_moderate_or_severe": round(float(roc_auc_score(true > 0, 1 - rows[:, Severity.NORMAL_MILD])), 4),
        "auc_severe": round(measures["auc_severe"], 4),
        "kappa_quadratic": round(measures["kappa_quadratic"] or 0.0, 4),
    }


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("data", type=Path, metavar="DATA")
    arguments.add_argument("answers", nargs="+", metavar="NAME=CSV")
    arguments.add_argument("--out", type=Path, default=Path("results/real_foramina.json"))
    a = arguments.parse_args()
    answers = {name: Path(path) for name, _, path in (answer.partition("=") for answer in a.answers)}
    about = {"data": "real sagittal T1 slices of RSNA studies; all answers are of held-out studies"}
    command = "python -m benchmarks.real.grades DATA NAME=CSV..."
    save(a.out, header(command, device="cpu") | about | measure(Challenge.open(a.data), answers))


if __name__ == "__main__":
    main()
