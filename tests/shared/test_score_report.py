"""What reports say of scores: the verdict agrees with the numbers, and small counts are marked."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.agreement import describe
from shared.figures.measure_plots import FEW_CASES, Curve, Losses
from shared.figures.report import Report
from shared.figures.score_report import add_agreement, add_scores, add_verdict, verdict
from shared.figures.training import Curve as Training
from shared.figures.training import add_training, read_curves
from shared.metric import share_interval
from shared.probabilities.table import ProbabilityTable, class_weighted
from shared.scores import baselines, compare
from tests.shared.test_pages import Structure

RNG = np.random.default_rng(0)
IDS = [str(i) for i in range(40)]
GRADES = RNG.choice(3, p=[0.6, 0.25, 0.15], size=(40, 25)).astype(np.int8)


def _table(skill: float) -> ProbabilityTable:
    """Right with that share of certainty; wrong for a negative one."""
    likely = GRADES if skill > 0 else (GRADES + 1) % 3
    values = np.eye(3)[likely] * abs(skill) + (1 - abs(skill)) / 3
    return ProbabilityTable(study_ids=tuple(IDS), submission=class_weighted(values), from_model=np.ones((40, 25), bool))


@pytest.mark.parametrize(
    ("skill", "words", "tone"),
    [(0.8, "Better than the prior by ", "good"), (-0.8, "Worse than the prior by ", "poor")],
)
def test_the_verdict_agrees_with_the_numbers(skill: float, words: str, tone: str, tmp_path: Path) -> None:
    comparison = compare(baselines(IDS, GRADES) | {"ours": _table(skill)}, IDS, GRADES).to_json()
    report = Report("Scores", "s", data={"comparison": comparison})
    add_verdict(report, comparison, "ours")
    add_scores(report, comparison)
    page = report.save(tmp_path).read_text()
    written = json.loads((tmp_path / "report.json").read_text())["comparison"]
    line = next(line for line in written["lines"] if line["name"] == "ours")
    assert f"{words}{abs(line['gain']):.3f}" in page
    assert f"{line['gain_interval']['low']:+.3f} to {line['gain_interval']['high']:+.3f}" in page
    assert f'class="verdict {tone}"' in page
    assert all(len(set(rows)) == 1 for rows in Structure(page).tables)


def test_a_gain_that_may_be_chance_is_called_so() -> None:
    comparison = compare(baselines(IDS, GRADES) | {"ours": _table(0.8)}, IDS, GRADES).to_json()
    line = next(line for line in comparison["lines"] if line["name"] == "ours")
    line["gain_interval"] = {"low": -0.01, "high": line["gain"] + 0.1}
    lines, tone = verdict(comparison, "ours")
    assert lines[0].startswith("Not shown to differ from the prior")
    assert "may be chance" in lines[0]
    assert tone == "open"
    assert not any("Only" in text for text in lines)
    assert any("Only 12 studies" in text for text in verdict({**comparison, "studies": 12}, "ours")[0])


def test_small_bins_are_counted_and_marked(tmp_path: Path) -> None:
    measures = describe(_table(0.8), GRADES)
    bins = [b for c in measures["conditions"].values() for of in c["reliability"].values() for b in of]
    few = sum(b["n"] < FEW_CASES for b in bins)
    report = Report("Agreement", "s")
    add_agreement(report, measures)
    page = report.save(tmp_path).read_text()
    assert f"fewer than {FEW_CASES} rows ({few} of {len(bins)})" in page
    structure = Structure(page)
    assert all(len(set(rows)) == 1 for rows in structure.tables)
    assert all(picture["alt"] for picture in structure.of("img"))


def test_a_bins_interval_is_wide_where_cases_are_few() -> None:
    curve = Curve(low=[0, 0.9], high=[0.1, 1], predicted=[0.05, 0.95], observed=[0.5, 0.5], count=[4, 400])
    assert curve.few == [True, False]
    few, many = curve.interval
    assert few.high - few.low > 0.6 > 0.12 > many.high - many.low


@given(st.integers(0, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_an_interval_holds_its_share(case: tuple[int, int]) -> None:
    hits, cases = case
    at = share_interval(hits, cases)
    assert 0 <= at.low < at.high <= 1
    if cases:
        assert at.low - 1e-12 <= hits / cases <= at.high + 1e-12
        other = share_interval(cases - hits, cases)
        assert (other.low, other.high) == pytest.approx((1 - at.high, 1 - at.low))


def test_training_curves_come_from_the_logs_of_both_stages(tmp_path: Path) -> None:
    for fold, text in enumerate((
        "epoch,train_loss,held_out_loss,learning_rate\n1,0.9,0.8,0.1\n2,0.6,0.5,0.1\n3,0.4,0.9,0.1\n",
        "view,epoch,train_loss,held_out_loss,learning_rate\naxial_t2,1,3.5,,0.1\naxial_t2,2,3.1,2.5,0.1\n",
        "epoch,train_loss,held_out_loss,learning_rate\n1,0.9,0.8,0.1\n2,,0.5,0.1\n",
        "epoch,train_loss,held_out_loss,learning_rate\n1,0.9,0.500,0.1\n2,0.6,0.499,0.1\n",
    )):  # fmt: skip
        (tmp_path / f"fold{fold}").mkdir()
        (tmp_path / f"fold{fold}" / "log.csv").write_text(text)
    curves = read_curves({fold: tmp_path / f"fold{fold}" for fold in range(5)})
    second = Losses(epoch=[1, 2], train=[3.5, 3.1], held_out=[None, 2.5])
    assert [(c.fold, c.network) for c in curves] == [(0, ""), (1, "axial_t2"), (2, ""), (3, "")]
    assert curves[1] == Training(fold=1, network="axial_t2", losses=second)
    report = Report("Run", "s")
    add_training(report, curves, names={"": "all", "axial_t2": "Axial T2"}, about="About.")
    page = report.save(tmp_path).read_text()
    for word in ("has risen again", "measured once", "was still falling", "has levelled off"):
        assert page.count(word) == 1, word
    assert json.loads((tmp_path / "report.json").read_text())["training"][1]["held_out_loss"] == [None, 2.5]
    old = Report("Old run", "s")
    add_training(old, [], names={}, about="")
    assert "earlier version" in old.save(tmp_path).read_text()
