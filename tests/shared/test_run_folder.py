"""Run folders: what a resumed run must agree with."""

from pathlib import Path

import pytest

from shared.runtime.errors import InputError
from shared.runtime.run_folder import STATE_FILE, RunFolder, trained_folds


def test_a_damaged_state_is_bad_input(tmp_path: Path) -> None:
    run = RunFolder(path=tmp_path, kind="classify", last_file="model.json")
    run.claim({"data": "a"}, resume=False)
    run.claim({"data": "a"}, resume=True)
    with pytest.raises(InputError, match="cannot resume, data changed"):
        run.claim({"data": "b"}, resume=True)
    (tmp_path / STATE_FILE).write_text("[]")
    with pytest.raises(InputError, match="expected a JSON object, got list"):
        run.claim({"data": "a"}, resume=True)


@pytest.mark.parametrize("facts", [{}, {"folds": None}, {"folds": {"x": {}}}, {"folds": [[]]}])
def test_damaged_folds_are_bad_input(tmp_path: Path, facts: dict[str, object]) -> None:
    assert trained_folds(tmp_path, {"folds": {"1": {}, "0": {}}}) == [0, 1]
    with pytest.raises(InputError, match="numbers of the trained folds"):
        trained_folds(tmp_path, facts)
