"""Run folders: what a resumed run must agree with."""

from pathlib import Path

import pytest

from shared.runtime.errors import InputError
from shared.runtime.run_folder import STATE_FILE, RunFolder, read_run, trained_folds, write_run


def test_a_damaged_state_is_bad_input(tmp_path: Path) -> None:
    run = RunFolder(path=tmp_path, kind="classify", last_file="model.json")
    run.claim({"data": "a"}, resume=False)
    run.claim({"data": "a"}, resume=True)
    with pytest.raises(InputError, match="cannot resume, data changed"):
        run.claim({"data": "b"}, resume=True)
    (tmp_path / STATE_FILE).write_text("[]")
    with pytest.raises(InputError, match="expected an object, got a list of 0"):
        run.claim({"data": "a"}, resume=True)


@pytest.mark.parametrize("folds", [None, [0], {"x": {"models": {}}}, {"01": {"models": {}}}, {"0": {"models": [1]}}])
def test_damaged_folds_are_bad_input(tmp_path: Path, folds: object) -> None:
    facts = {"data_fingerprint": "a", "folds": {"1": {"models": {}}, "0": {"models": {"axial_t2": "0" * 64}}}}
    write_run(tmp_path, command="x", started=0.0, kind="localize", **facts)
    assert trained_folds(tmp_path, read_run(tmp_path, expected_kind="localize")) == [0, 1]
    write_run(tmp_path, command="x", started=0.0, kind="localize", **facts | {"folds": folds})
    with pytest.raises(InputError, match=r"run\.json: folds.*; restore the file or train again"):
        read_run(tmp_path, expected_kind="localize")
