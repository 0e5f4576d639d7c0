from pathlib import Path

import numpy as np
import pytest

from pipelines.evaluate import EvaluateOptions, evaluate
from shared.data.challenge import write_grades
from shared.probabilities import ProbabilityTable, class_weighted, write_submission
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
    return ProbabilityTable(study_ids=tuple(STUDIES), values=values, from_model=np.ones(values.shape[:2], bool))


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
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"report.html", "report.json"}
    assert read_oracle(tmp_path / "oracle.csv").values.shape == (60, 25, 3)
    with pytest.raises(InputError, match="not empty"):
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
