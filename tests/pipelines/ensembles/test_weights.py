"""Fitted weights: they minimise the metric, a useless member gets none, and a study's own grades never count for it."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.ensembles.blend import blend
from pipelines.ensembles.combine import cross_fit, groups_of
from pipelines.ensembles.weights import BlendWeights, Member, fit_weights, read_weights_file, write_weights
from shared.labels import Condition, findings_of
from shared.metric import score
from shared.probabilities.table import class_weighted, floored
from shared.runtime.errors import InputError
from shared.splits import Splits

STUDIES = 80


def world(seed: int, noises: list[float], studies: int = STUDIES) -> tuple[np.ndarray, np.ndarray]:
    """Grades drawn from true probabilities, and members that see those through noise of their own."""
    rng = np.random.default_rng(seed)
    logits = rng.normal((2.0, 0.0, -1.0), 1.5, (studies, 25, 3))
    true = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    grades = (rng.random((studies, 25, 1)) > true.cumsum(-1)).sum(-1).clip(max=2).astype(np.int8)
    grades[rng.random(grades.shape) < 0.05] = -1
    seen = [np.exp(logits + rng.normal(0, noise, logits.shape)) for noise in noises]
    return np.stack([floored(class_weighted(p / p.sum(-1, keepdims=True))) for p in seen]), grades


def of_family(weights: np.ndarray, condition: Condition) -> np.ndarray:
    return weights[..., findings_of(condition)[0].index]


def blended(members: np.ndarray, weights: np.ndarray) -> float:
    return score(blend(list(members), weights, "arithmetic"), grades=WORLD[1]).score


WORLD = world(0, [0.8, 0.8, 0.8])


def test_no_weights_on_a_grid_score_better() -> None:
    members, _ = WORLD
    fitted = fit_weights(members, WORLD[1])
    np.testing.assert_allclose(fitted.sum(0), 1)
    assert (fitted >= 0).all()
    best = blended(members, fitted)
    for condition in Condition:
        columns = [f.index for f in findings_of(condition)]
        for a in np.linspace(0, 1, 9):
            for b in np.linspace(0, 1 - a, 5):
                other = fitted.copy()
                other[:, columns] = np.array([a, b, 1 - a - b])[:, None]
                assert best <= blended(members, other) + 2e-4


def test_a_useless_member_gets_no_weight_and_the_same_members_share() -> None:
    members, grades = world(1, [0.15, 0.15, 9.0], studies=200)
    for condition in Condition:
        first, second, useless = of_family(fit_weights(members, grades), condition)
        assert useless < 0.02
        assert min(first, second) > 0.2
    twins = fit_weights(np.stack([members[0]] * 3), grades)
    np.testing.assert_allclose(twins, 1 / 3, atol=1e-3)


def test_each_family_follows_its_own_best_member() -> None:
    good, grades = world(2, [0.2, 6.0])
    members = good.copy()
    foraminal = [f.index for f in findings_of(Condition.FORAMINAL)]
    members[:, :, foraminal] = good[::-1][:, :, foraminal]
    fitted = fit_weights(members, grades)
    assert of_family(fitted, Condition.CANAL)[0] > 0.9
    assert of_family(fitted, Condition.FORAMINAL)[1] > 0.9


def test_a_family_without_grades_gets_equal_weights() -> None:
    members, grades = world(3, [0.5, 2.0])
    grades[:, [f.index for f in findings_of(Condition.CANAL)]] = -1
    np.testing.assert_array_equal(of_family(fit_weights(members, grades), Condition.CANAL), 0.5)


@settings(max_examples=6)
@given(study=st.integers(0, 29), changed=st.lists(st.integers(-1, 2), min_size=25, max_size=25))
def test_a_studys_own_grades_never_change_its_weights(study: int, changed: list[int]) -> None:
    members, grades = world(4, [0.5, 1.5], studies=30)
    groups = np.arange(30) % 3
    before = cross_fit(members, grades, groups)
    other = grades.copy()
    other[study] = changed
    after = cross_fit(members, other, groups)
    np.testing.assert_array_equal(after[groups == groups[study]], before[groups == groups[study]])


def test_folds_are_the_groups_and_a_single_fold_is_dealt_into_five() -> None:
    splits = Splits(seed=0, folds=(tuple(f"a{n}" for n in range(20)), tuple(f"b{n}" for n in range(20))))
    assert groups_of(["b1", "a2", "a3"], splits).tolist() == [1, 0, 0]
    alone = groups_of(splits.folds[0], splits)
    assert np.bincount(alone).tolist() == [4] * 5
    # The order of the studies does not matter.
    assert dict(zip(splits.folds[0], alone, strict=True)) == dict(
        zip(splits.folds[0][::-1], groups_of(splits.folds[0][::-1], splits), strict=True)
    )


def weights_of(values: tuple[float, ...]) -> BlendWeights:
    members = tuple(Member(name=f"run{n}", digest="0" * 64) for n in range(len(values)))
    return BlendWeights(members=members, weights=dict.fromkeys(Condition, values))


def test_weights_come_back_from_their_file_and_a_changed_file_is_refused(tmp_path: Path) -> None:
    path, blend_weights = tmp_path / "weights.json", weights_of((0.25, 0.75))
    write_weights(path, blend_weights, studies=3, data_fingerprint="f")
    assert read_weights_file(path) == blend_weights
    text = path.read_text()
    for old, new in (("0.25", "-0.25"), ("0.75", "0.9"), ('"version": 1', '"version": 2'), ('"canal"', '"cnal"')):
        path.write_text(text.replace(old, new, 1))
        with pytest.raises(InputError, match=r"weights\.json: .*lumbar combine"):
            read_weights_file(path)
    with pytest.raises(ValueError, match="2 weights"):
        BlendWeights(members=blend_weights.members, weights=dict.fromkeys(Condition, (1.0,)))
