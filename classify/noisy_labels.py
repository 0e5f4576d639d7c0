"""Grades that the held-out prediction finds very unlikely, to be read again or left out of training.

A grade is flagged when its out-of-fold probability is below 1 - `THRESHOLD`. The probabilities carry the metric's class
weights, so rare grades are flagged less often.
"""

from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from shared.data.challenge import Challenge
from shared.labels import FINDINGS, SEVERITY_COLUMNS, Finding, Severity
from shared.probabilities import ProbabilityTable
from shared.runtime.errors import InputError, quoted
from shared.runtime.files import write_csv
from shared.runtime.tables import read_csv

NOISY_FILE: Final = "noisy_labels.csv"
THRESHOLD: Final = 0.8

Flags = frozenset[tuple[str, Finding]]


def write_noisy(path: Path, table: ProbabilityTable, grades: NDArray[np.int8]) -> int:
    """Writes the flagged grades, least likely first, and returns their number.

    Columns are study_id, finding, grade and the three out-of-fold probabilities. Prior rows are never flagged.

    Args:
      grades: [studies, 25] grades of the table's studies, -1 where not graded.
    """
    true = grades.clip(min=0).astype(np.intp)
    p_true = np.take_along_axis(table.values, true[..., None], axis=-1)[..., 0]
    flagged = (grades >= 0) & table.from_model & (1 - p_true > THRESHOLD)
    places = np.argwhere(flagged)
    places = places[np.argsort(p_true[flagged], kind="stable")]
    rows = [
        (table.study_ids[s], FINDINGS[f].column, Severity(int(grades[s, f])).column, *table.values[s, f])
        for s, f in places
    ]
    write_csv(path, pd.DataFrame(rows, columns=["study_id", "finding", "grade", *SEVERITY_COLUMNS]))
    return len(rows)


def read_noisy(path: Path, data: Challenge) -> Flags:
    """Reads the findings that `write_noisy` flagged.

    Raises:
      InputError: for a missing or malformed file, or a study or grade that is not in `data`.
    """
    table = read_csv(
        path, {"study_id": "id", "finding": "string", "grade": "string"}, hint="written by `lumbar classify train`"
    )
    flags = []
    for line, study_id, column, grade in table.fillna("").itertuples(name=None):
        try:
            finding = Finding.from_column(str(column))
            known = data.grades_of([study_id])[0, finding.index]
        except InputError as error:
            raise InputError(f"{path} line {line}: {error}") from error
        if known < 0 or Severity(int(known)).column != grade:
            raise InputError(
                f"{path} line {line}: study {study_id} {column} is not graded {quoted(grade)} in {data.root}"
            )
        flags.append((str(study_id), finding))
    return frozenset(flags)
