"""Labels that the fold which never saw them finds very unlikely: read them again, or train without them.

A grade is flagged when the probability that the held-out fold gives it is below 1 - `THRESHOLD`, that is when
|one-hot - out-of-fold| exceeds `THRESHOLD`. The probabilities carry the metric's class weights, which spares rare
grades.
"""

from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from shared.data.challenge import Challenge
from shared.labels import FINDINGS, SEVERITY_COLUMNS, Finding, Severity
from shared.probabilities import ProbabilityTable
from shared.runtime.errors import InputError
from shared.runtime.files import read_csv, write_csv

NOISY_FILE: Final = "noisy_labels.csv"
THRESHOLD: Final = 0.8

Flags = frozenset[tuple[str, Finding]]


def write_noisy(path: Path, table: ProbabilityTable, grades: NDArray[np.int8]) -> int:
    """Writes the flagged grades, least likely first, and returns how many there are. # grades [n, 25]

    Columns: study_id, finding, grade, the three out-of-fold probabilities. Rows that only the prior answers do not
    count.
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
    """The flagged findings of a file that `write_noisy` wrote.

    Raises:
      InputError: for a missing or malformed file, or a study or grade that is not in `data`.
    """
    table = read_csv(
        path, {"study_id": "string", "finding": "string", "grade": "string"}, hint="written by `lumbar classify train`"
    )
    flags = []
    for line, (study_id, column, grade) in enumerate(table.itertuples(index=False, name=None), start=2):
        try:
            finding = Finding.from_column(column)
            known = data.grades_of([study_id])[0, finding.index]
        except InputError as error:
            raise InputError(f"{path} line {line}: {error}") from error
        if known < 0 or Severity(int(known)).column != grade:
            raise InputError(f"{path} line {line}: study {study_id} {column} is not graded {grade!r} in {data.root}")
        flags.append((str(study_id), finding))
    return frozenset(flags)
