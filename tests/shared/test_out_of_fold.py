"""Which model may see which study: folds by study, and models loaded for the fold that held a study out."""

from collections.abc import Sequence

import pytest

from shared.out_of_fold import FoldModels, fold_by_study
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
