"""Tables that cross stages: what is written is read back, what breaks a rule is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.detections import (
    Detection,
    Localization,
    Source,
    read_detections,
    read_localizations,
    write_detections,
    write_localizations,
)
from shared.jitter import Jitter, read_jitter, write_jitter
from shared.labels import FINDINGS, Condition, Level, View
from shared.probabilities.files import read_probabilities, read_submission, write_probabilities, write_submission
from shared.probabilities.reasons import PriorReason
from shared.probabilities.table import ProbabilityTable
from shared.runtime.errors import InputError
from shared.splits import Splits, make_splits, read_splits, write_splits


def six(value: float) -> float:
    """Six significant digits: what a CSV keeps exactly."""
    return float(f"{value:.6g}")


number = st.floats(-1000, 1000, allow_nan=False).map(six)
unit = st.floats(0, 1).map(six)
quick = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


@quick
@given(st.lists(st.tuples(number, number, unit, st.sampled_from(Level), st.sampled_from(View)), max_size=6))
def test_detections_round_trip(tmp_path: Path, rows: list[tuple[float, float, float, Level, View]]) -> None:
    detections = [
        Detection(
            study_id="1", series_id="2", instance_number=i, view=view, level=level,
            box_xyxy_px=(x, y, six(x + 8), six(y + 8)), score=score,
        )
        for i, (x, y, score, level, view) in enumerate(rows)
    ]  # fmt: skip
    write_detections(tmp_path / "d.csv", detections)
    assert read_detections(tmp_path / "d.csv") == detections


@quick
@given(st.lists(st.tuples(number, number, unit), min_size=1, max_size=5))
def test_localizations_round_trip(tmp_path: Path, rows: list[tuple[float, float, float]]) -> None:
    localizations = {
        "5": {
            finding: Localization(
                study_id="5", finding=finding, series_id="6", instance_number=3, x_px=x, y_px=y,
                point_mm=(x, y, 1.5), source=Source.DETECTED, score=score,
            )
            for finding, (x, y, score) in zip(FINDINGS, rows, strict=False)
        }
    }  # fmt: skip
    write_localizations(tmp_path / "l.csv", localizations)
    assert read_localizations(tmp_path / "l.csv") == localizations


def test_bad_rows_name_file_and_line(tmp_path: Path) -> None:
    detection = Detection(
        study_id="1", series_id="2", instance_number=1, view=View.AXIAL_T2, level=Level.L1_L2,
        box_xyxy_px=(0, 0, 5, 5), score=0.5,
    )  # fmt: skip
    write_detections(tmp_path / "d.csv", [detection])
    text = (tmp_path / "d.csv").read_text()
    for old, new in (("l1_l2", "l9"), ("0.5", "7"), ("axial_t2", "oblique")):
        (tmp_path / "d.csv").write_text(text.replace(old, new))
        with pytest.raises(InputError, match=r"d\.csv line 2"):
            read_detections(tmp_path / "d.csv")
    with pytest.raises(ValueError, match="empty box"):
        Detection(
            study_id="1", series_id="2", instance_number=1, view=View.AXIAL_T2, level=Level.L1_L2,
            box_xyxy_px=(5, 0, 5, 5), score=0.5,
        )  # fmt: skip


def random_table(seed: int, studies: int = 3) -> ProbabilityTable:
    rng = np.random.default_rng(seed)
    study_ids, from_model = tuple(str(100 + i) for i in range(studies)), rng.random((studies, 25)) < 0.8
    from_model[:, -1] = False
    return ProbabilityTable(
        study_ids=study_ids, submission=rng.dirichlet([0.3, 0.3, 0.3], size=(studies, 25)), from_model=from_model,
        reasons={
            s: {f: PriorReason(rng.choice(list(PriorReason))) for f in FINDINGS if not row[f.index]}
            for s, row in zip(study_ids, from_model, strict=True)
        },
    )  # fmt: skip


@quick
@given(st.integers(0, 10_000))
def test_probabilities_and_submission_round_trip(tmp_path: Path, seed: int) -> None:
    table = random_table(seed)
    write_probabilities(tmp_path / "p.csv", table)
    again = read_probabilities(tmp_path / "p.csv")
    np.testing.assert_allclose(again.submission, table.submission, atol=1e-8)
    np.testing.assert_array_equal(again.from_model, table.from_model)
    assert again.reasons == table.reasons
    assert again.select(table.study_ids[:1]).reasons.keys() == {table.study_ids[0]}
    write_submission(tmp_path / "s.csv", table)
    rows = pd.read_csv(tmp_path / "s.csv")
    assert list(rows.columns) == ["row_id", "normal_mild", "moderate", "severe"]
    assert list(rows["row_id"]) == sorted(rows["row_id"])
    assert (rows[["normal_mild", "moderate", "severe"]].sum(axis=1) - 1).abs().max() < 2e-9
    assert (rows[["normal_mild", "moderate", "severe"]] >= 0).all().all()
    again = read_submission(tmp_path / "s.csv").table.select(table.study_ids)
    np.testing.assert_allclose(again.submission, table.submission, atol=3e-6)


def test_submission_follows_the_sample_and_refuses_a_wrong_one(tmp_path: Path) -> None:
    table = random_table(0, studies=2)
    row_ids = [f.row_id(s) for s in reversed(table.study_ids) for f in FINDINGS]
    write_submission(tmp_path / "s.csv", table, row_ids)
    assert list(pd.read_csv(tmp_path / "s.csv")["row_id"]) == row_ids
    write_submission(tmp_path / "s.csv", table, row_ids[25:])
    assert list(pd.read_csv(tmp_path / "s.csv")["row_id"]) == [*row_ids[25:], *sorted(row_ids[:25])]
    with pytest.raises(InputError, match="sample submission"):
        write_submission(tmp_path / "s.csv", table, [*row_ids, FINDINGS[0].row_id("999")])
    with pytest.raises(InputError, match="sample submission"):
        write_submission(tmp_path / "s.csv", table, [*row_ids, row_ids[0]])


def test_no_submitted_probability_is_zero(tmp_path: Path) -> None:
    values = np.tile([1.0, 0.0, 0.0], (1, 25, 1))
    table = ProbabilityTable(study_ids=("1",), submission=values, from_model=np.ones((1, 25), bool))
    write_submission(tmp_path / "s.csv", table)
    assert read_submission(tmp_path / "s.csv").table.submission.min() >= 9e-7


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [("100_spinal_canal_stenosis_l1_l2", "101_spinal_canal_stenosis_l1_l2", "twice"), ("_l1_l2,", "_l7,", "malformed")],
)
def test_broken_submissions(tmp_path: Path, old: str, new: str, message: str) -> None:
    write_submission(tmp_path / "s.csv", random_table(0))
    text = (tmp_path / "s.csv").read_text()
    (tmp_path / "s.csv").write_text(text.replace(old, new, 1))
    with pytest.raises(InputError, match=message):
        read_submission(tmp_path / "s.csv")
    (tmp_path / "s.csv").write_text("\n".join(text.splitlines()[:-1]))
    with pytest.raises(InputError, match="expected 25 each"):
        read_submission(tmp_path / "s.csv")


def test_probabilities_that_are_none() -> None:
    values = np.full((1, 25, 3), 0.5)
    with pytest.raises(ValueError, match="not probabilities"):
        ProbabilityTable(study_ids=("1",), submission=values, from_model=np.ones((1, 25), bool))
    with pytest.raises(InputError, match="study 9 has no"):
        random_table(0).select(["9"])


def test_reasons_belong_to_prior_rows_alone(tmp_path: Path) -> None:
    table = random_table(0, studies=1)
    (study_id,), one = table.study_ids, PriorReason.LEVEL_NOT_SEEN
    model = next(f for f in FINDINGS if table.from_model[0, f.index])
    for reasons in ({}, {**table.reasons[study_id], model: one}):
        with pytest.raises(ValueError, match="a reason for each prior row"):
            replace(table, reasons={study_id: reasons})
    path = tmp_path / "p.csv"
    write_probabilities(path, table)
    rows = pd.read_csv(path, dtype=str)
    rows.assign(reason=rows["reason"].str.upper()).to_csv(path, index=False)
    with pytest.raises(InputError, match="is not a valid PriorReason"):
        read_probabilities(path)
    rows.assign(p_severe="0.9", p_moderate="0.9").to_csv(path, index=False)
    with pytest.raises(InputError, match=r"p\.csv line 2: .* sum to .*; expected 1"):
        read_probabilities(path)
    rows.drop(columns="reason").to_csv(path, index=False)  # as version 0.1.0 wrote it
    again = read_probabilities(path)
    assert not again.reasons
    assert again.prior_summary == f"{table.prior_rows} rows from the prior"


def test_jitter_round_trip_and_rules(tmp_path: Path) -> None:
    jitter = {c: Jitter(in_plane_sd_mm=1.5, slice_offsets={-1: 0.25, 0: 0.5, 1: 0.25}) for c in Condition}
    write_jitter(tmp_path / "j.json", jitter)
    assert read_jitter(tmp_path / "j.json") == jitter
    with pytest.raises(ValueError, match="sum to 1"):
        Jitter(in_plane_sd_mm=1, slice_offsets={0: 0.5})
    (tmp_path / "j.json").write_text('{"canal": {}}')
    with pytest.raises(InputError, match=r"canal\.in_plane_sd_mm: is missing"):
        read_jitter(tmp_path / "j.json")


@given(st.integers(0, 1000), st.integers(2, 6))
@settings(max_examples=20)
def test_every_study_is_held_out_once_and_strata_are_spread(seed: int, folds: int) -> None:
    rng = np.random.default_rng(seed)
    grades = rng.choice(3, size=(90, 25), p=[0.8, 0.15, 0.05]).astype(np.int8)
    ids = [str(i) for i in rng.permutation(90)]
    splits = make_splits(ids, grades, folds=folds, seed=seed)
    assert splits.study_ids == tuple(sorted(ids))
    for k in range(folds):
        assert not set(splits.held_out(k)) & set(splits.training(k))
        assert all(splits.fold_of(s) == k for s in splits.held_out(k))
    severe = dict(zip(ids, (grades[:, :5] == 2).any(1), strict=True))
    counts = [sum(severe[s] for s in fold) for fold in splits.folds]
    assert max(counts) - min(counts) <= 3


def test_splits_do_not_depend_on_the_order_of_studies() -> None:
    grades = np.random.default_rng(0).choice(3, size=(40, 25)).astype(np.int8)
    ids = [str(i) for i in range(40)]
    order = np.random.default_rng(1).permutation(40)
    assert make_splits(ids, grades) == make_splits([ids[i] for i in order], grades[order])


def test_splits_file_rules(tmp_path: Path) -> None:
    splits = Splits(seed=1, folds=(("a", "b"), ("c",)))
    write_splits(tmp_path / "s.json", splits)
    assert read_splits(tmp_path / "s.json") == splits
    with pytest.raises(ValueError, match="more than one fold"):
        Splits(seed=1, folds=(("a",), ("a",)))
    with pytest.raises(InputError, match="only in the data"):
        splits.check_covers(["a", "b", "c", "d"])
    with pytest.raises(InputError, match="expected 0 to 1"):
        splits.held_out(2)
    with pytest.raises(InputError, match="no fold"):
        splits.fold_of("z")
    (tmp_path / "s.json").write_text('{"version": 1, "seed": 0, "folds": [["a"], ["a"]]}')
    with pytest.raises(InputError, match="more than one fold"):
        read_splits(tmp_path / "s.json")
