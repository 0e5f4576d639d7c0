"""`lumbar evaluate`: submission files and true grades in, a printed score table and a report out."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipelines.report import evaluation_report
from shared.data.challenge import MISSING, Part, read_grades
from shared.probabilities.files import read_submission
from shared.probabilities.table import ProbabilityTable
from shared.runtime.errors import InputError
from shared.runtime.files import prepare_output
from shared.scores import ORACLE, Comparison, as_text, baselines, compare, read_oracle

OURS: Final = "submission"


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateOptions:
    """Which grades to score against and what to compare with; see `lumbar evaluate --help`."""

    part: Part | None = None
    train: Path | None = None
    against: tuple[str, ...] = ()
    oracle: Path | None = None


def evaluate(
    submission: Path, data: Path, out: Path, options: EvaluateOptions | None = None, *, overwrite: bool = False
) -> str:
    """Scores a submission.csv and writes OUT/report.{html,json}; returns the table as text.

    Raises:
      InputError: as `score_files`, or for an OUT that is not empty.
    """
    options = options or EvaluateOptions()
    comparison, ours, grades = score_files(submission, data, options)
    others = [Path(item.partition("=")[2]) for item in options.against]
    prepare_output(out, overwrite=overwrite, inputs=[submission, data, options.train, options.oracle, *others])
    evaluation_report(out, comparison, OURS, ours, grades)
    return as_text(comparison)


def score_files(
    submission: Path, data: Path, options: EvaluateOptions
) -> tuple[Comparison, ProbabilityTable, NDArray[np.int8]]:
    """Scores a submission.csv beside the baselines.

    Returns:
      The scores, the submission's rows of the graded studies, and their grades. # [n, 25]

    Raises:
      InputError: for a missing or malformed file, or a submission that lacks a graded study.
    """
    truth = read_grades(_grades_file(data, options.part))
    # Studies without a single grade (as in the hidden part of a split) cannot be scored and are left out.
    study_ids = [s for s, row in truth.items() if (row != MISSING).any()]
    if not study_ids:
        raise InputError(f"{data}: no graded row to score against; expected at least one grade")
    grades = np.stack([truth[s] for s in study_ids])
    paths = {OURS: submission}
    for item in options.against:
        name, separator, path = item.partition("=")
        if not separator:
            raise InputError(f"--against {item!r}: expected NAME=CSV")
        paths[name] = Path(path)
    read = {name: read_submission(path) for name, path in paths.items()}
    tables = {name: item.table for name, item in read.items()}
    training = np.stack(list(read_grades(options.train / "train.csv").values())) if options.train else grades
    submissions = baselines(study_ids, training) | tables
    if options.oracle is not None:
        submissions[ORACLE] = read_oracle(options.oracle)
    notes = [f"{name}: {item.note}." for name, item in read.items() if item.note]
    unscored = len(set(tables[OURS].study_ids) - set(study_ids))
    if unscored:
        notes.append(f"{OURS}: {unscored} of its studies have no grade here and are not scored.")
    comparison = replace(compare(submissions, study_ids, grades), notes=tuple(notes))
    return comparison, tables[OURS].select(study_ids), grades


def _grades_file(data: Path, part: Part | None) -> Path:
    names = [f"{part}.csv"] if part else ["test.csv", "train.csv"]
    for name in names:
        if (data / name).is_file():
            return data / name
    raise InputError(f"{data}: expected true grades in {' or '.join(names)}")
