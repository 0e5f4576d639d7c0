"""Grades that the held-out prediction finds very unlikely, to be read again or left out of training.

A grade is flagged when the out-of-fold submission gives it less than 1 - `THRESHOLD`. A submission carries the metric's
weights, so rare grades are flagged less often than by their probabilities.
"""

from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from shared.data.challenge import Challenge
from shared.labels import FINDINGS, SEVERITY_COLUMNS, Finding, Severity
from shared.probabilities.files import PROBABILITY_COLUMNS
from shared.probabilities.table import ProbabilityTable, unweighted
from shared.runtime.errors import InputError, quoted
from shared.runtime.files import write_csv
from shared.runtime.tables import Kind, read_csv

NOISY_FILE: Final = "noisy_labels.csv"
THRESHOLD: Final = 0.8

Flags = frozenset[tuple[str, Finding]]


def write_noisy(path: Path, table: ProbabilityTable, grades: NDArray[np.int8]) -> int:
    """Writes the flagged grades, least likely first, and returns their number.

    Columns are study_id, finding, grade, what the submission gives the grade, and the probabilities of all three. Prior
    rows are never flagged.

    Args:
      grades: [studies, 25] grades of the table's studies, -1 where not graded.
    """
    true = grades.clip(min=0).astype(np.intp)
    given = np.take_along_axis(table.submission, true[..., None], axis=-1)[..., 0]
    flagged = (grades >= 0) & table.from_model & (1 - given > THRESHOLD)
    places = np.argwhere(flagged)
    places = places[np.argsort(given[flagged], kind="stable")]
    probabilities = table.probabilities
    rows = [
        (table.study_ids[s], FINDINGS[f].column, Severity(int(grades[s, f])).column, given[s, f], *probabilities[s, f])
        for s, f in places
    ]
    write_csv(path, pd.DataFrame(rows, columns=["study_id", "finding", "grade", "submission", *PROBABILITY_COLUMNS]))
    return len(rows)


def read_probabilities_of_noisy(path: Path) -> pd.DataFrame:
    """The table of `write_noisy`, as it is shown: study_id, finding, grade and the probabilities of the three grades.

    Files of earlier versions hold the submission of the three grades instead; it is turned into probabilities.
    """
    columns: dict[str, Kind] = {"study_id": "id", "finding": "string", "grade": "string"}
    either: dict[str, Kind] = dict.fromkeys((*PROBABILITY_COLUMNS, *SEVERITY_COLUMNS), "float64")
    table = read_csv(path, columns, optional=either)
    older = table[list(PROBABILITY_COLUMNS)].isna().all(axis=None)
    if older:
        table[list(PROBABILITY_COLUMNS)] = unweighted(table[list(SEVERITY_COLUMNS)].to_numpy())
    return table.drop(columns=list(SEVERITY_COLUMNS))


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
