"""Which model may see which study: folds by study, and models loaded for the fold that held a study out."""

from collections.abc import Sequence

import pytest

from shared.out_of_fold import FoldModels, doubts_of, fold_by_study
from shared.runtime.errors import InputError
from shared.splits import Splits

SPLITS = Splits(seed=0, folds=(("b", "a"), ("d",), ("c", "e")))


def test_every_study_of_the_chosen_folds_has_its_fold():
    assert list(fold_by_study(SPLITS, [2, 0, 2]).items()) == [("b", 0), ("a", 0), ("c", 2), ("e", 2)]
    assert fold_by_study(SPLITS, []) == {}
    with pytest.raises(InputError, match="fold 3"):
        fold_by_study(SPLITS, [3])


def test_training_studies_get_the_fold_that_held_them_out_loaded_once():
    loads: list[Sequence[int] | None] = []

    def load(folds: Sequence[int] | None) -> str:
        loads.append(folds)
        return f"models of {folds}"

    fold_of = fold_by_study(SPLITS, [0, 1, 2])
    models = FoldModels(load, fold_of)
    assert {s: models(s) for s in fold_of} == {s: f"models of {[k]}" for s, k in fold_of.items()}
    assert loads == [[0], [1], [2]]
    with pytest.raises(KeyError):
        models("new")


def test_new_studies_get_all_folds_together_loaded_once():
    loads: list[Sequence[int] | None] = []
    models = FoldModels(loads.append)
    for study_id in ("x", "y"):
        models(study_id)
    assert loads == [None]


def fold_with(expected: int, found: int, right: int) -> dict[str, object]:
    return {"models": {}, "held_out": {"expected": expected, "found": found, "right": right}}


def test_a_poor_localizer_is_doubted_with_its_figures():
    facts = {"folds": {"0": fold_with(250, 250, 103), "1": fold_with(100, 60, 59), "2": fold_with(100, 100, 81)}}
    doubts = doubts_of(facts)
    assert "only 41% of 250 held-out points (fold 0) are within 8 mm of the true point" in doubts
    assert "only 60% of 100 held-out findings (fold 1) have a point" in doubts
    assert "fold 2" not in doubts
    assert doubts_of(facts, [2]) == ""
    assert "fold 0" not in doubts_of(facts, [1])


@pytest.mark.parametrize(
    "folds", [{"0": fold_with(0, 0, 0)}, {"0": fold_with(50, 50, 40)}, {"0": {"models": {}}}, {}, [0, 1], None]
)
def test_good_localizers_and_those_without_figures_are_not_doubted(folds):
    assert doubts_of({"folds": folds}) == ""
    assert doubts_of({}) == ""


def test_a_localizer_that_finds_nothing_is_doubted():
    assert "only 0% of 50 held-out findings (fold 0) have a point" in doubts_of({"folds": {"0": fold_with(50, 0, 0)}})
