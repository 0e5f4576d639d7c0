"""A tiny run in the place of the detectors that ship with the package."""

import shutil
from pathlib import Path

import pytest

from localize.localizer import CALIBRATION_FILE, CONFIG_FILE, PRIOR_FILE
from shared.runtime.documents import read_json
from shared.runtime.files import write_json
from shared.runtime.run_folder import RUN_FILE


def pack_as_shipped(run: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copies what ships of a run of fold 0, lets it have been trained on other data, and puts it in the place."""
    (out / "fold0").mkdir(parents=True)
    detectors = [f"fold0/{path.name}" for path in (run / "fold0").glob("*.safetensors")]
    for name in (CONFIG_FILE, f"fold0/{PRIOR_FILE}", f"fold0/{CALIBRATION_FILE}", *detectors):
        shutil.copyfile(run / name, out / name)
    write_json(out / RUN_FILE, {**read_json(run / RUN_FILE), "data_fingerprint": "of synthetic studies"})
    monkeypatch.setattr("localize.localizer.SHIPPED_RUN", out)
    return out
