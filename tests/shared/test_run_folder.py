"""Run folders: what a resumed run must agree with."""

from pathlib import Path

import pytest

from shared.runtime.errors import InputError
from shared.runtime.run_folder import STATE_FILE, RunFolder


def test_a_damaged_state_is_bad_input(tmp_path: Path) -> None:
    run = RunFolder(path=tmp_path, kind="classify", last_file="model.json")
    run.claim({"data": "a"}, resume=False)
    run.claim({"data": "a"}, resume=True)
    with pytest.raises(InputError, match="cannot resume, data changed"):
        run.claim({"data": "b"}, resume=True)
    (tmp_path / STATE_FILE).write_text("[]")
    with pytest.raises(InputError, match="expected a JSON object, got list"):
        run.claim({"data": "a"}, resume=True)
