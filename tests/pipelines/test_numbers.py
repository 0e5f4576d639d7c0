"""Numbers agree with colours and names: whatever people read holds probabilities, only submissions the weights."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from classify.noisy_labels import read_probabilities_of_noisy, write_noisy
from pipelines.predict import to_table
from pipelines.result import StudyResult
from shared.detections import Localization, Source
from shared.figures.marks import SEVERITY_COLORS
from shared.figures.result_sheet import graded_sheet
from shared.geometry import Plane
from shared.labels import FINDINGS, SEVERITY_WEIGHTS, Severity, View
from shared.probabilities.files import (
    PROBABILITY_COLUMNS,
    read_probabilities,
    read_submission,
    write_probabilities,
    write_submission,
)
from shared.probabilities.table import class_weighted, unweighted
from shared.runtime.errors import InputError
from shared.study import Series, Slice, Study

DIRECTIONS = {view: ((0, 1, 0), (0, 0, -1)) if view.is_sagittal else ((1, 0, 0), (0, 1, 0)) for view in View}
# Of rows near a tie and of very sure ones alike.
rows = st.tuples(*[st.floats(1e-6, 1.0)] * 3).map(lambda row: np.array(row) / sum(row))
tables = st.lists(rows, min_size=25, max_size=25).map(np.array)


def result_of(submission: NDArray[np.float64]) -> StudyResult:
    """Of a study with one slice per view, on which every finding has a point."""
    series = tuple(
        Series(series_id=f"{n}", view=view, slices=(Slice(
            path=Path("a.dcm"), instance_number=1, shape=(60, 60),
            plane=Plane(origin_mm=(0, 0, 0), row_dir=row, col_dir=col, spacing_mm=(1.0, 1.0)),
        ),))
        for n, (view, (row, col)) in enumerate(DIRECTIONS.items())
    )  # fmt: skip
    points = {
        f: Localization(
            study_id="1", finding=f, series_id=f"{list(View).index(f.view)}", instance_number=1,
            x_px=10.0 + f.index, y_px=20.0, point_mm=(0, 0, 0), source=Source.DETECTED, score=0.9,
        )
        for f in FINDINGS
    }  # fmt: skip
    return StudyResult(
        study=Study(study_id="1", series=series), submission=submission, reasons={}, localizations=points,
        detections=(), problems=(),
    )  # fmt: skip


def drawn(result: StudyResult) -> Iterator[tuple[Severity, float]]:
    """Grade by colour, and the number beside it, of every predicted point of the graded sheet."""
    grade_of = {color: grade for grade, color in SEVERITY_COLORS.items()}
    for section in graded_sheet(result.study, result.marks()).sections:
        for mark in (m for tile in section.tiles for m in tile.points):
            number = re.search(r"[01]\.[0-9]{2}", mark.label)
            assert number is not None, mark
            yield grade_of[mark.color], float(number[0])


@settings(max_examples=25, deadline=None)
@given(submission=tables)
def test_the_grade_is_the_largest_of_the_numbers_beside_it(submission: NDArray[np.float64]) -> None:
    result = result_of(submission)
    likely = result.probabilities.argmax(1)
    table = result.table()
    assert np.array_equal(table[list(PROBABILITY_COLUMNS)].to_numpy().argmax(1), likely)
    for row, found in zip(result.probabilities, result.to_json()["findings"], strict=True):
        assert list(found["probabilities"].values()) == list(row)
        assert found["submission"] != found["probabilities"] or np.isclose(row.max(), 1)
    marks = list(drawn(result))
    sure = result.probabilities.max(1)
    expected = sorted((Severity(int(g)), float(p)) for g, p in zip(likely, sure, strict=True))
    assert len(marks) == len(FINDINGS)
    for (grade, number), (wanted, probability) in zip(sorted(marks), expected, strict=True):
        assert grade is wanted
        assert number == pytest.approx(probability, abs=0.011)
        assert number >= 0.33  # the largest of three


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(submission=tables)
def test_files_hold_the_numbers_of_their_name(tmp_path: Path, submission: NDArray[np.float64]) -> None:
    table = to_table([result_of(submission)])
    write_probabilities(tmp_path / "p.csv", table)
    write_submission(tmp_path / "s.csv", table)
    found = pd.read_csv(tmp_path / "p.csv")
    submitted = read_submission(tmp_path / "s.csv").table.submission[0]
    np.testing.assert_allclose(submitted, submission, atol=3e-6)
    by_hand = submission / np.array(SEVERITY_WEIGHTS)
    by_hand /= by_hand.sum(1, keepdims=True)
    np.testing.assert_allclose(found[list(PROBABILITY_COLUMNS)], by_hand, atol=1e-8)
    assert "severe" not in found.columns
    np.testing.assert_allclose(read_probabilities(tmp_path / "p.csv").submission[0], submission, rtol=1e-6)


@given(row=rows)
def test_weights_and_their_removal_are_inverse(row: NDArray[np.float64]) -> None:
    np.testing.assert_allclose(unweighted(class_weighted(row)), row, rtol=1e-9)
    np.testing.assert_allclose(class_weighted(unweighted(row)), row, rtol=1e-9)


def test_an_older_table_is_read_as_the_submission_that_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    submission = np.random.default_rng(0).dirichlet([1, 1, 1], size=25)
    path, table = tmp_path / "p.csv", to_table([result_of(submission)])
    write_probabilities(path, table)
    newer = pd.read_csv(path)
    older = newer.rename(columns={c: c.removeprefix("p_") for c in PROBABILITY_COLUMNS})
    older[[c.removeprefix("p_") for c in PROBABILITY_COLUMNS]] = submission
    older.to_csv(path, index=False)
    read = read_probabilities(path)
    np.testing.assert_allclose(read.submission[0], submission, atol=1e-12)
    np.testing.assert_allclose(read.probabilities, table.probabilities, atol=1e-8)
    assert "carry the metric's weights" in capsys.readouterr().err
    newer.drop(columns="p_moderate").to_csv(path, index=False)
    with pytest.raises(InputError, match="column 'p_moderate' is missing or empty"):
        read_probabilities(path)


def test_flagged_grades_are_listed_with_their_probabilities(tmp_path: Path) -> None:
    path, table = tmp_path / "noisy.csv", to_table([result_of(np.full((25, 3), (0.85, 0.05, 0.1)))])
    assert write_noisy(path, table, np.full((1, 25), Severity.SEVERE, np.int8)) == 25
    assert pd.read_csv(path)["submission"].unique() == pytest.approx([0.1])
    shown = read_probabilities_of_noisy(path)
    np.testing.assert_allclose(shown[list(PROBABILITY_COLUMNS)], table.probabilities[0], atol=1e-8)
    pd.read_csv(path).drop(columns=list(PROBABILITY_COLUMNS)).assign(
        normal_mild=0.85, moderate=0.05, severe=0.1
    ).to_csv(path, index=False)
    np.testing.assert_allclose(read_probabilities_of_noisy(path)[list(PROBABILITY_COLUMNS)], table.probabilities[0])
