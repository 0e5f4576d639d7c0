"""`lumbar evaluate`: submission files and true grades in, a printed table and a report out."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from pipelines.evaluate import ORACLE, as_text, baselines, compare
from pipelines.report import evaluation_report
from shared.data.challenge import MISSING, Part, read_grades
from shared.probabilities import ProbabilityTable, class_weighted, read_submission
from shared.runtime.errors import InputError
from shared.runtime.files import prepare_output

OURS: Final = "submission"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoringOptions:
    """Which grades to score against and what to compare with; see `lumbar evaluate --help`."""

    part: Part | None = None
    train: Path | None = None
    against: tuple[str, ...] = ()
    oracle: Path | None = None


def evaluate_files(
    submission: Path, data: Path, out: Path, options: ScoringOptions | None = None, *, overwrite: bool = False
) -> str:
    """Scores a submission.csv and writes OUT/report.{html,json}; returns the table as text.

    Raises:
      InputError: for a missing or malformed file, or a submission that lacks a graded study.
    """
    options = options or ScoringOptions()
    truth = read_grades(_grades_file(data, options.part))
    # Studies without a single grade (as in the hidden part of a split) cannot be scored and are left out.
    study_ids = [s for s, row in truth.items() if (row != MISSING).any()]
    if not study_ids:
        raise InputError(f"{data}: not one graded row to score against")
    grades = np.stack([truth[s] for s in study_ids])
    tables = {OURS: read_submission(submission)}
    for item in options.against:
        name, separator, path = item.partition("=")
        if not separator:
            raise InputError(f"--against {item!r}: expected NAME=CSV")
        tables[name] = read_submission(Path(path))
    training = np.stack(list(read_grades(options.train / "train.csv").values())) if options.train else grades
    lines = baselines(study_ids, training) | tables
    if options.oracle is not None:
        lines[ORACLE] = read_oracle(options.oracle)
    prepare_output(out, overwrite=overwrite, inputs=[submission, data, options.train, options.oracle])
    comparison = compare(lines, study_ids, grades)
    evaluation_report(comparison, tables[OURS], study_ids, grades, out, name=OURS)
    return as_text(comparison)


def read_oracle(path: Path) -> ProbabilityTable:
    """True probabilities as the best submission under the metric: each times its class weight, renormalised."""
    table = read_submission(path)
    return ProbabilityTable(study_ids=table.study_ids, values=class_weighted(table.values), from_model=table.from_model)


def _grades_file(data: Path, part: Part | None) -> Path:
    names = [f"{part}.csv"] if part else ["test.csv", "train.csv"]
    for name in names:
        if (data / name).is_file():
            return data / name
    raise InputError(f"{data}: expected true grades in {' or '.join(names)}")
