import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss

from pipelines.evaluate import EvaluateOptions, evaluate, score_files
from shared.data.challenge import read_grades, write_grades
from shared.labels import FINDINGS, SEVERITY_COLUMNS, SEVERITY_WEIGHTS, Condition, findings_of
from shared.metric import score
from shared.probabilities.files import read_submission, write_submission
from shared.probabilities.table import ProbabilityTable, class_weighted
from shared.runtime.errors import InputError
from shared.scores import ORACLE, PRIOR, UNIFORM, as_text, baselines, compare, read_oracle

STUDIES = [str(i) for i in range(60)]


def world(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """True probabilities and grades drawn from them."""
    rng = np.random.default_rng(seed)
    truth = rng.dirichlet([2, 0.6, 0.4], size=(60, 25))
    grades = (rng.random((60, 25, 1)) > truth.cumsum(-1)).sum(-1).clip(max=2).astype(np.int8)
    return truth, grades


def table(values: np.ndarray) -> ProbabilityTable:
    return ProbabilityTable(study_ids=tuple(STUDIES), submission=values, from_model=np.ones(values.shape[:2], bool))


def test_the_ladder_of_baselines() -> None:
    truth, grades = world()
    lines = baselines(STUDIES, grades) | {"blurred": table(class_weighted(0.5 * truth + 1 / 6))}
    comparison = compare(lines | {ORACLE: table(class_weighted(truth))}, STUDIES, grades)
    scores = {line.name: line.score.score for line in comparison.lines}
    assert scores[ORACLE] < scores["blurred"] < scores[PRIOR] < scores[UNIFORM]
    oracle, prior = comparison.line(ORACLE), comparison.line(PRIOR)
    assert oracle.gap_closed == pytest.approx(1)
    assert prior.gap_closed == pytest.approx(0)
    assert prior.gain is None
    assert oracle.gain is not None
    assert oracle.gain_interval is not None
    assert oracle.gain_interval.low < oracle.gain < oracle.gain_interval.high
    assert oracle.gain_interval.low > 0
    assert comparison.line(PRIOR).prior_rows == 60 * 25
    text = as_text(comparison)
    assert all(name in text for name in scores)


def write_files(tmp_path: Path) -> tuple[Path, Path]:
    truth, grades = world()
    write_submission(tmp_path / "submission.csv", table(class_weighted(truth)))
    write_submission(tmp_path / "oracle.csv", table(truth))
    data = tmp_path / "truth"
    grades[0] = -1  # a study nobody graded cannot be scored
    write_grades(data / "test.csv", dict(zip(STUDIES, grades, strict=True)))
    return tmp_path / "submission.csv", data


def test_files_in_report_out(tmp_path: Path) -> None:
    submission, data = write_files(tmp_path)
    options = EvaluateOptions(oracle=tmp_path / "oracle.csv", against=(f"again={submission}",))
    text = evaluate(submission, data, tmp_path / "out", options)
    assert "again" in text
    assert "59 studies" in text
    assert {p.name for p in (tmp_path / "out").iterdir()} == {".lumbar", "report.html", "report.json"}
    notes = json.loads((tmp_path / "out" / "report.json").read_text())["comparison"]["notes"]
    assert notes == ["submission: 1 of its studies have no grade here and are not scored."]
    assert notes[0] in text
    assert read_oracle(tmp_path / "oracle.csv").submission.shape == (60, 25, 3)
    with pytest.raises(InputError, match="not empty"):
        evaluate(submission, data, tmp_path / "out")


def rewrite(path: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    change(pd.read_csv(path)).to_csv(path, index=False)


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(2, 4), st.integers(0, 1000))
def test_rounded_rows_are_normalised_with_a_word(tmp_path: Path, decimals: int, seed: int) -> None:
    values = np.random.default_rng(seed).dirichlet([0.5, 0.5, 0.5], size=(60, 25))
    path = tmp_path / "s.csv"
    write_submission(path, table(values))
    rewrite(path, lambda t: t.round(decimals))
    read = read_submission(path)
    np.testing.assert_allclose(read.table.select(STUDIES).submission, values, atol=2 * 10.0**-decimals)
    assert f"the rounding of {decimals} decimals" in read.note
    rewrite(path, lambda t: t.assign(severe=t["severe"] + 2 * 10.0**-decimals))
    with pytest.raises(InputError, match=r"s\.csv line \d+: .*(sum to|is '1\.)"):
        read_submission(path)


def test_a_submission_of_three_decimals_scores_as_the_official_metric_does(tmp_path: Path) -> None:
    submission, data = write_files(tmp_path)
    exact = read_submission(submission).table.select(STUDIES[1:])
    rewrite(
        submission, lambda t: t.round(3).sample(frac=1, random_state=0)[["severe", "row_id", "moderate", "normal_mild"]]
    )
    comparison, _, _ = score_files(submission, data, EvaluateOptions())
    text = as_text(comparison)
    assert any("3 decimals" in note and note in text for note in comparison.notes)
    grades = np.stack([read_grades(data / "test.csv")[s] for s in STUDIES[1:]])
    ours = comparison.line("submission").score
    assert ours.score == pytest.approx(score(exact.submission, grades).score, abs=2e-3)
    rows = pd.read_csv(submission).set_index("row_id")
    for condition in Condition:
        cells = [(s, f) for s in STUDIES[1:] for f in findings_of(condition)]
        true = [grades[STUDIES.index(s) - 1, f.index] for s, f in cells]
        written = rows.loc[[f.row_id(s) for s, f in cells], list(SEVERITY_COLUMNS)].to_numpy()
        with pytest.warns(UserWarning, match="do not sum to one"):
            official = log_loss(true, written, labels=[0, 1, 2], sample_weight=[SEVERITY_WEIGHTS[g] for g in true])
        assert ours.terms[condition.short] == pytest.approx(official, abs=5e-4)


def test_certain_probabilities_are_read(tmp_path: Path) -> None:
    values = np.eye(3)[np.random.default_rng(0).integers(3, size=(60, 25))]
    rows = pd.DataFrame(values.reshape(-1, 3).astype(int), columns=list(SEVERITY_COLUMNS))
    rows.insert(0, "row_id", [f.row_id(s) for s in STUDIES for f in FINDINGS])
    rows.to_csv(tmp_path / "s.csv", index=False)
    read = read_submission(tmp_path / "s.csv")
    np.testing.assert_array_equal(read.table.submission, values)
    assert read.note == ""


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            "0.5,0.4,0.3",
            r"line 2: 0_left_neural_foraminal_narrowing_l1_l2: 0\.5, 0\.4, 0\.3 sum to 1\.2; expected 1 within",
        ),
        ("55.5,24.5,20", r"normal_mild is '55\.5'; expected a probability from 0 to 1; divide percentages by 100"),
        ("3.1,-2,0.2", r"normal_mild is '3\.1'; expected a probability from 0 to 1$"),
        ("1.1,-0.2,0.1", "normal_mild is '1.1'"),
        ("0.9,-0.1,0.2", "moderate is '-0.1'; expected a probability"),
        ("0.5,,0.5", "moderate is empty; expected a probability"),
        ("0.5,nan,0.5", "moderate is empty; expected a probability"),
        ("0.5,inf,0.5", "moderate is 'inf'; expected a number"),
        ("0.5,low,0.5", "moderate is 'low'; expected a number"),
    ],
)
def test_rows_that_are_no_probabilities(tmp_path: Path, row: str, message: str) -> None:
    submission, data = write_files(tmp_path)
    header, first, *lines = submission.read_text().splitlines()
    submission.write_text("\n".join([header, f"{first.split(',')[0]},{row}", *lines]))
    with pytest.raises(InputError, match=message):
        evaluate(submission, data, tmp_path / "out")


def test_bad_input_to_evaluate(tmp_path: Path) -> None:
    submission, data = write_files(tmp_path)
    with pytest.raises(InputError, match="expected true grades"):
        evaluate(submission, tmp_path, tmp_path / "out")
    with pytest.raises(InputError, match="NAME=CSV"):
        evaluate(submission, data, tmp_path / "out", EvaluateOptions(against=("nonsense",)))
    lines = submission.read_text().splitlines()
    short = [line for line in lines if not line.startswith("3_")]
    submission.write_text("\n".join(short))
    with pytest.raises(InputError, match="study 3 has no probabilities"):
        evaluate(submission, data, tmp_path / "out")
