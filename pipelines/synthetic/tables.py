"""Tables of a synthetic data set, in the challenge's formats."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipelines.synthetic.grades import Labels, grade_probabilities, severity_text
from pipelines.synthetic.simulate import StudyRecord
from shared.labels import FINDINGS, SEVERITY_COLUMNS


def _points_table(records: Iterable[StudyRecord]) -> pd.DataFrame:
    columns = ["study_id", "series_id", "instance_number", "condition", "level", "x", "y"]
    points = [(r.study_id, p, p.finding) for r in records for p in r.points]
    rows = [
        (s, p.series_id, p.instance_number, f.condition_display, f.level.display, p.x_px, p.y_px) for s, p, f in points
    ]
    return pd.DataFrame(rows, columns=columns)


def _series_table(records: Iterable[StudyRecord]) -> pd.DataFrame:
    rows = [(r.study_id, series_id, view.value) for r in records for series_id, view in r.series]
    return pd.DataFrame(rows, columns=["study_id", "series_id", "series_description"])


def _grades_table(records: Sequence[StudyRecord]) -> pd.DataFrame:
    return wide_grades([r.study_id for r in records], [[severity_text(int(g)) for g in r.grade] for r in records])


def write_data(data: Path, records: Sequence[StudyRecord], studies: int) -> None:
    """Writes the tables of a challenge directory; the first `studies` records are its training part."""
    train, test = slice(0, studies), slice(studies, None)
    write_csv(_grades_table(records[train]), data / "train.csv")
    write_csv(_points_table(records[train]), data / "train_label_coordinates.csv")
    write_csv(_series_table(records[train]), data / "train_series_descriptions.csv")
    write_csv(_series_table(records[test]), data / "test_series_descriptions.csv")
    test_ids = [r.study_id for r in records[test]]
    uniform = np.full((len(test_ids), len(FINDINGS), 3), 1 / 3)
    write_csv(probability_rows(test_ids, uniform), data / "sample_submission.csv")


def write_truth(truth: Path, labels: Labels, records: Sequence[StudyRecord], studies: int) -> None:
    """Writes what a participant of the challenge never sees: test grades and points, latents and the oracle."""
    test = slice(studies, None)
    write_csv(_grades_table(records[test]), truth / "test.csv")
    write_csv(_points_table(records[test]), truth / "test_label_coordinates.csv")
    ids = [r.study_id for r in records]
    write_csv(probability_rows(ids, grade_probabilities(labels.latent)), truth / "oracle.csv")
    rows = [
        (study, f.column, labels.latent[n, f.index], severity_text(int(labels.grade[n, f.index])))
        for n, study in enumerate(ids)
        for f in FINDINGS
    ]
    write_csv(pd.DataFrame(rows, columns=["study_id", "finding", "latent", "grade"]), truth / "latents.csv")


def wide_grades(study_ids: Sequence[str], texts: Sequence[Sequence[str]]) -> pd.DataFrame:
    """`train.csv`: one row per study, one column per finding."""
    table = pd.DataFrame(list(texts), columns=[f.column for f in FINDINGS])
    table.insert(0, "study_id", list(study_ids))
    return table


def probability_rows(study_ids: Sequence[str], probabilities: NDArray[np.float64]) -> pd.DataFrame:  # [n, 25, 3]
    """Submission format, sorted by row_id. probabilities:"""
    row_ids = [f.row_id(study) for study in study_ids for f in FINDINGS]
    table = pd.DataFrame(probabilities.reshape(-1, 3), columns=list(SEVERITY_COLUMNS))
    table.insert(0, "row_id", row_ids)
    return table.sort_values("row_id", ignore_index=True)


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """CSV with enough digits to round-trip, and the same bytes everywhere."""
    table.to_csv(path, index=False, float_format="%.10g", lineterminator="\n")
