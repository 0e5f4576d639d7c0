"""`lumbar blend`: means of submissions, and files that do not go together."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipelines.cli import main
from pipelines.ensembles.blend import blend
from pipelines.ensembles.weights import BlendWeights, Member, write_weights
from shared.labels import FINDINGS, SEVERITY_COLUMNS, SEVERITY_WEIGHTS, Condition
from shared.probabilities.files import read_submission
from shared.probabilities.table import class_weighted, unweighted

ROWS = arrays(np.float64, (2, 1, 25, 3), elements=st.floats(0.01, 1)).map(lambda a: a / a.sum(-1, keepdims=True))


def submission(path: Path, studies: tuple[str, ...], values: tuple[float, float, float], **changes: object) -> Path:
    ids = [f.row_id(s) for s in studies for f in FINDINGS]
    table = pd.DataFrame([(i, *values) for i in ids], columns=["row_id", *SEVERITY_COLUMNS])
    for column, value in changes.items():
        table[column] = [value, *table[column][1:]]
    table.to_csv(path, index=False)
    return path


@given(values=ROWS, weight=st.floats(0, 1))
def test_rows_are_probabilities_between_their_members(values: np.ndarray, weight: float) -> None:
    weights = np.repeat([[weight], [1 - weight]], 25, axis=1)
    for mean in ("arithmetic", "geometric"):
        result = blend(list(values), weights, mean)
        np.testing.assert_allclose(result.sum(-1), 1)
    plain, given_plain = unweighted(blend(list(values), weights, "arithmetic")), unweighted(values)
    assert (plain <= given_plain.max(0) + 1e-5).all()
    assert (plain >= given_plain.min(0) - 1e-5).all()
    np.testing.assert_allclose(plain, weight * given_plain[0] + (1 - weight) * given_plain[1], atol=1e-5)


@given(values=ROWS)
def test_the_geometric_mean_is_the_same_with_the_metrics_weights_and_without(values: np.ndarray) -> None:
    ones = np.ones((2, 25))
    with_weights = blend([class_weighted(v) for v in values], ones, "geometric")
    np.testing.assert_allclose(with_weights, class_weighted(blend(list(values), ones, "geometric")), atol=1e-5)


def test_a_blend_has_the_rows_of_the_first_file_in_its_order(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = submission(tmp_path / "one.csv", ("9", "7"), (0.6, 0.3, 0.1))
    two = submission(tmp_path / "two.csv", ("7", "9"), (0.2, 0.3, 0.5))
    out = tmp_path / "out.csv"
    assert main(["blend", str(one), str(two), "--out", str(out), "--weights", "3,1"]) == 0
    assert "arithmetic mean of 2 submissions, 2 studies, 50 rows" in capsys.readouterr().out
    assert list(pd.read_csv(out)["row_id"]) == list(pd.read_csv(one)["row_id"])
    first, second = (unweighted(np.array(v)) for v in ((0.6, 0.3, 0.1), (0.2, 0.3, 0.5)))
    expected = (0.75 * first + 0.25 * second) * SEVERITY_WEIGHTS
    written = read_submission(out).table.submission
    np.testing.assert_allclose(written, np.broadcast_to(expected / expected.sum(), written.shape), atol=1e-6)
    assert main(["blend", str(one), str(two), "--out", str(out)]) == 1
    assert "exists already" in capsys.readouterr().err
    assert main(["blend", str(one), str(two), "--out", str(out), "--overwrite", "--mean", "geometric"]) == 0


def test_weights_of_combine_count_family_by_family(tmp_path: Path) -> None:
    one = submission(tmp_path / "one.csv", ("9",), (0.6, 0.3, 0.1))
    two = submission(tmp_path / "two.csv", ("9",), (0.2, 0.3, 0.5))
    fitted = {Condition.CANAL: (1.0, 0.0), Condition.FORAMINAL: (0.0, 1.0), Condition.SUBARTICULAR: (0.5, 0.5)}
    members = (Member(name="a", digest="0"), Member(name="b", digest="1"))
    write_weights(tmp_path / "w.json", BlendWeights(members=members, weights=fitted), studies=1, data_fingerprint="f")
    words = ["blend", str(one), str(two), "--out", str(tmp_path / "out.csv"), "--weights", str(tmp_path / "w.json")]
    assert main(words) == 0
    written = read_submission(tmp_path / "out.csv").table.submission[0]
    np.testing.assert_allclose(written[0], (0.6, 0.3, 0.1), atol=1e-5)
    foraminal = next(f.index for f in FINDINGS if f.condition is Condition.FORAMINAL)
    np.testing.assert_allclose(written[foraminal], (0.2, 0.3, 0.5), atol=1e-5)


@pytest.mark.parametrize(
    ("studies", "values", "changes", "words", "message"),
    [
        (("9", "8"), (0.2, 0.3, 0.5), {}, [], "has other studies than"),
        (("9", "7"), (0.2, 0.3, 0.5), {"severe": 0.9}, [], "sum to"),
        (("9", "7"), (0.2, 0.3, 0.5), {"severe": "x"}, [], "two.csv"),
        (("9", "7"), (0.2, 0.3, 0.5), {"row_id": "9_nothing"}, [], "two.csv"),
        (("9", "7"), (0.2, 0.3, 0.5), {}, ["--weights", "1,2,3"], "expected 2 numbers"),
        (("9", "7"), (0.2, 0.3, 0.5), {}, ["--weights=-1,2"], "expected 2 numbers"),
        (("9", "7"), (0.2, 0.3, 0.5), {}, ["--weights", "nowhere.json"], "nowhere.json"),
    ],
)
def test_what_does_not_go_together_is_one_message(
    studies: tuple[str, ...], values: tuple[float, float, float], changes: dict[str, object], words: list[str],
    message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    one = submission(tmp_path / "one.csv", ("9", "7"), (0.6, 0.3, 0.1))
    two = submission(tmp_path / "two.csv", studies, values, **changes)
    assert main(["blend", str(one), str(two), "--out", str(tmp_path / "out.csv"), *words]) == 1
    told = capsys.readouterr().err
    assert message in told
    assert "Traceback" not in told
    assert not (tmp_path / "out.csv").exists()


def test_one_file_or_one_file_twice_is_no_blend(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = submission(tmp_path / "one.csv", ("9",), (0.6, 0.3, 0.1))
    assert main(["blend", str(one), "--out", str(tmp_path / "out.csv")]) == 1
    assert "two or more" in capsys.readouterr().err
    assert main(["blend", str(one), str(one), "--out", str(tmp_path / "out.csv")]) == 1
    assert "given twice" in capsys.readouterr().err
