"""The sampled labels have the data set's prevalence and correlations."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import spearmanr

from pipelines.synthetic import Labels, grade_probabilities, sample_labels
from pipelines.synthetic.grades import MISSING, prevalence
from shared.labels import FINDINGS, SEVERITY_WEIGHTS, Condition, Finding, Level, Severity, Side

STUDIES = 2000


@pytest.fixture(scope="module")
def labels() -> Labels:
    return sample_labels(STUDIES, 7)


def _column(condition: Condition, side: Side | None, level: Level) -> int:
    return Finding(condition=condition, side=side, level=level).index


@pytest.mark.parametrize("finding", FINDINGS, ids=lambda f: f.column)
def test_prevalence_is_the_data_sets(labels: Labels, finding: Finding) -> None:
    grade = labels.grade[:, finding.index]
    graded = grade[grade != MISSING]
    for severity, share in zip(Severity, prevalence(finding), strict=True):
        # Four standard errors of a share over the graded studies.
        error = 4 * np.sqrt(share * (1 - share) / len(graded))
        assert (graded == severity).mean() == pytest.approx(share, abs=error + 1e-3)


def test_left_equals_right_about_as_often_as_in_the_data(labels: Labels) -> None:
    for condition, share in ((Condition.FORAMINAL, 0.76), (Condition.SUBARTICULAR, 0.74)):
        left, right = (
            labels.grade[:, [_column(condition, side, level) for level in Level]] for side in (Side.LEFT, Side.RIGHT)
        )
        both = (left != MISSING) & (right != MISSING)
        assert (left == right)[both].mean() == pytest.approx(share, abs=0.04)


def test_canal_goes_with_the_worse_subarticular_side(labels: Labels) -> None:
    found = []
    for level in Level:
        canal = labels.grade[:, _column(Condition.CANAL, None, level)]
        sides = [labels.grade[:, _column(Condition.SUBARTICULAR, side, level)] for side in (Side.LEFT, Side.RIGHT)]
        graded = (canal != MISSING) & (sides[0] != MISSING) & (sides[1] != MISSING)
        found.append(spearmanr(canal[graded], np.maximum(*sides)[graded])[0])
    # .51 to .58 in the data, .24 at L5/S1; the rare grades of L1/L2 spread over .46 to .62 in samples of this size.
    assert all(0.43 < rho < 0.66 for rho in found[:4])
    assert found[4] == pytest.approx(0.24, abs=0.08)


def test_neighbouring_canal_levels_go_together(labels: Labels) -> None:
    canal = [labels.grade[:, _column(Condition.CANAL, None, level)] for level in Level]
    found = [spearmanr(a, b)[0] for a, b in pairwise(canal)]
    # .18 to .45 in the data.
    assert all(0.13 < rho < 0.5 for rho in found)


def test_share_of_studies_with_severe_findings(labels: Labels) -> None:
    severe = labels.grade == Severity.SEVERE
    canal = [_column(Condition.CANAL, None, level) for level in Level]
    assert severe[:, canal].any(axis=1).mean() == pytest.approx(0.185, abs=0.035)
    assert 1 - severe.any(axis=1).mean() == pytest.approx(0.504, abs=0.06)


def test_missing_grades_are_rare_and_mostly_subarticular(labels: Labels) -> None:
    missing = labels.grade == MISSING
    subarticular = np.array([f.condition is Condition.SUBARTICULAR for f in FINDINGS])
    assert missing.mean() == pytest.approx(572 / 49375, abs=0.004)
    assert missing[:, subarticular].sum() / missing.sum() > 0.8
    assert missing.any(axis=1).mean() == pytest.approx(185 / 1975, abs=0.03)


def test_oracle_scores_as_designed() -> None:
    labels = sample_labels(20_000, 8)
    weights = np.array(SEVERITY_WEIGHTS)
    tilted = grade_probabilities(labels.latent) * weights
    tilted /= tilted.sum(axis=-1, keepdims=True)
    terms = []
    for condition in Condition:
        columns = [f.index for f in FINDINGS if f.condition is condition]
        grade, predicted = labels.grade[:, columns], tilted[:, columns]
        graded = grade != MISSING
        picked = np.take_along_axis(predicted, np.maximum(grade, 0)[..., None], axis=-1)[..., 0]
        weight = weights[grade] * graded
        terms.append((weight * -np.log(picked)).sum() / weight.sum())
    assert np.mean(terms) == pytest.approx(0.33, abs=0.04)


def test_same_seed_same_labels() -> None:
    a, b, c = sample_labels(5, 1), sample_labels(5, 1), sample_labels(5, 2)
    assert np.array_equal(a.latent, b.latent)
    assert np.array_equal(a.grade, b.grade)
    assert not np.array_equal(a.latent, c.latent)
