import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import log_loss

from shared.labels import FINDINGS, Condition, Finding, Level
from shared.metric import bootstrap, interval, score, study_losses
from shared.probabilities.table import class_weighted, constant_table, shrunk, unweighted, weighted_prior
from shared.runtime.errors import InputError

WEIGHTS = np.array([1.0, 2.0, 4.0])


def random_case(seed: int, n: int = 12, missing: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    grades = rng.choice(3, size=(n, 25), p=[0.7, 0.2, 0.1]).astype(np.int8)
    grades[rng.random(grades.shape) < missing] = -1
    values = rng.dirichlet([1, 1, 1], size=(n, 25))
    return values, grades


def challenge_metric(values: np.ndarray, grades: np.ndarray) -> float:
    """The challenge's definition, term by term with scikit-learn's weighted log loss."""
    terms = []
    for condition in Condition:
        columns = [f.index for f in FINDINGS if f.condition is condition]
        g, p = grades[:, columns].ravel(), values[:, columns].reshape(-1, 3)
        terms.append(log_loss(g[g >= 0], p[g >= 0], sample_weight=WEIGHTS[g[g >= 0]], labels=[0, 1, 2]))
    truth, guess, weight = [], [], []
    for g, p in zip(grades[:, :5], values[:, :5], strict=True):
        if (g >= 0).any():
            truth.append((g == 2).any())
            guess.append(p[g >= 0, 2].max())
            weight.append(WEIGHTS[g[g >= 0]].max())
    terms.append(log_loss(truth, guess, sample_weight=weight, labels=[False, True]))
    return float(np.mean(terms))


@given(st.integers(0, 10_000))
@settings(max_examples=25)
def test_equals_the_challenge_definition(seed: int) -> None:
    values, grades = random_case(seed)
    assert score(values, grades).score == pytest.approx(challenge_metric(values, grades), abs=1e-12)


def test_uniform_on_hand_counted_grades() -> None:
    grades = np.full((2, 25), -1, np.int8)
    grades[0, 0], grades[1, 1] = 2, 1  # canal: one Severe, one Moderate
    grades[:, 5], grades[:, 15] = 0, 0
    result = score(np.full((2, 25, 3), 1 / 3), grades)
    assert result.terms["canal"] == pytest.approx(np.log(3))
    assert result.terms["foraminal"] == pytest.approx(np.log(3))
    # Study 0: severe, weight 4, loss ln 3. Study 1: worst Moderate, weight 2, loss -ln(2/3).
    assert result.terms["any_severe"] == pytest.approx((4 * np.log(3) + 2 * np.log(1.5)) / 6)


def test_zero_probability_costs_the_float64_clip() -> None:
    grades = np.full((1, 25), -1, np.int8)
    grades[0, 5] = 2
    values = np.tile([1.0, 0.0, 0.0], (1, 25, 1))
    assert score(values, grades).score == pytest.approx(36.04, abs=0.01)


@pytest.mark.parametrize("severe", [0, 2])
def test_the_any_severe_term_is_defined_for_one_sided_splits(severe: int) -> None:
    grades = np.full((3, 25), severe, np.int8)
    result = score(np.full((3, 25, 3), 1 / 3), grades)
    assert result.terms["any_severe"] == pytest.approx(np.log(3) if severe else np.log(1.5))


def test_a_family_without_grades_has_no_term() -> None:
    grades = np.full((3, 25), -1, np.int8)
    grades[:, 0] = 1
    result = score(np.full((3, 25, 3), 1 / 3), grades)
    assert result.terms["subarticular"] is None
    assert result.score == pytest.approx(np.mean([np.log(3), np.log(1.5)]))
    with pytest.raises(InputError, match="no graded row"):
        score(np.full((1, 25, 3), 1 / 3), np.full((1, 25), -1, np.int8))


def test_rows_that_do_not_sum_to_one_raise() -> None:
    values, grades = random_case(0)
    with pytest.raises(InputError, match="sum to 1"):
        score(values * 1.01, grades)
    with pytest.raises(InputError, match="do not fit"):
        score(values[:3], grades)


@given(st.integers(0, 1000), st.permutations(range(12)))
@settings(max_examples=20)
def test_the_order_of_studies_does_not_matter(seed: int, order: list[int]) -> None:
    values, grades = random_case(seed)
    assert score(values[order], grades[order]).score == pytest.approx(score(values, grades).score)


@given(st.integers(0, 1000), st.floats(0.01, 0.2))
@settings(max_examples=20)
def test_the_weighted_prior_is_the_best_constant(seed: int, step: float) -> None:
    _, grades = random_case(seed, n=60)
    studies = [str(i) for i in range(60)]
    family = [f.index for f in FINDINGS if f.condition is Condition.FORAMINAL]
    best = weighted_prior(grades, smoothing=0.0)
    other = best.copy()
    other[family] = (best[family] + step) / (1 + 3 * step)

    def loss(prior: np.ndarray) -> float:
        parts = study_losses(constant_table(studies, prior).submission, grades)
        return float(parts.losses[:, 1].sum())

    assert loss(best) <= loss(other) + 1e-9


def test_class_weighting_beats_the_true_probabilities_under_the_metric() -> None:
    rng = np.random.default_rng(0)
    truth = rng.dirichlet([4, 1, 0.5], size=(400, 25))
    grades = (rng.random((400, 25, 1)) > truth.cumsum(-1)).sum(-1).clip(max=2).astype(np.int8)
    terms = [c.short for c in Condition]
    weighted, plain = score(class_weighted(truth), grades).terms, score(truth, grades).terms
    assert all(weighted[t] < plain[t] for t in terms)  # type: ignore[operator]


def test_bootstrap_is_paired_seeded_and_covers_the_score() -> None:
    values, grades = random_case(1, n=80)
    parts = study_losses(values, grades)
    first, second = bootstrap(parts, seed=3), bootstrap(parts, seed=3)
    np.testing.assert_array_equal(first, second)
    bounds = interval(first)
    assert bounds.low < score(values, grades).score < bounds.high
    # The same draw for a submission that is worse by a constant: the paired difference has no spread.
    assert np.ptp(bootstrap(study_losses(values, grades), seed=3) - first) == 0


def test_levels_and_sides_are_pooled_within_a_family() -> None:
    grades = np.full((1, 25), -1, np.int8)
    left = Finding.from_column("left_subarticular_stenosis_l1_l2").index
    right = Finding.from_column("right_subarticular_stenosis_l5_s1").index
    grades[0, [left, right]] = [0, 2]
    values = np.full((1, 25, 3), 1 / 3)
    values[0, left] = [0.5, 0.25, 0.25]
    expected = (1 * np.log(2) + 4 * np.log(3)) / 5
    assert score(values, grades).terms["subarticular"] == pytest.approx(expected)
    assert Level.L5_S1 == 4


@given(
    value=hnp.arrays(np.float64, 3, elements=st.floats(0.01, 1)),
    prior=hnp.arrays(np.float64, 3, elements=st.floats(0.01, 1)),
    certainty=st.floats(0, 1),
)
def test_a_shrunk_submission_lies_between_itself_and_the_prior(
    value: np.ndarray, prior: np.ndarray, certainty: float
) -> None:
    value, prior = value / value.sum(), prior / prior.sum()
    mixed = shrunk(value, prior, np.asarray(certainty))
    assert mixed.sum() == pytest.approx(1)
    plain, ends = unweighted(mixed), np.stack([unweighted(value), unweighted(prior)])
    assert (plain >= ends.min(0) - 1e-9).all()
    assert (plain <= ends.max(0) + 1e-9).all()
    np.testing.assert_allclose(shrunk(value, prior, np.asarray(1.0)), value)
    np.testing.assert_allclose(shrunk(value, prior, np.asarray(0.0)), prior)
