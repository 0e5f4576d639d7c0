"""Both stages where no localizer is named: the detectors that ship go with any classifier, which keeps its rules."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from classify.predict import Classifier
from localize.localizer import SHIPPED_RUN
from pipelines.api import load
from pipelines.cli import main
from shared.probabilities.files import read_probabilities
from shared.runtime.documents import read_json
from shared.runtime.errors import InputError
from shared.runtime.run_folder import RUN_FILE
from tests.shipped_run import pack_as_shipped

CPU = ("--device", "cpu")


@pytest.fixture
def shipped(tiny_demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The demo's detectors as if they were those that ship, trained on other data than the demo's classifier."""
    return pack_as_shipped(tiny_demo / "localizer", tmp_path / "weights", monkeypatch)


def run(*words: object) -> int:
    return main([str(word) for word in words])


def test_unseen_studies_are_graded_without_a_localizer(tiny_demo: Path, shipped: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run("predict", tiny_demo / "data", out, "--classifier", tiny_demo / "classifier", *CPU) == 0
    assert (out / "submission.csv").read_bytes() == (tiny_demo / "submission.csv").read_bytes()
    facts = read_json(out / RUN_FILE)
    assert (facts["shipped_localizer"], facts["out_of_fold"]) == (True, False)


def test_the_classifiers_own_studies_are_graded_by_the_fold_that_held_them_out(
    tiny_demo: Path, shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[Any] = []
    real = Classifier.load
    monkeypatch.setattr(Classifier, "load", lambda *a, **k: loaded.append(k["folds"]) or real(*a, **k))
    words = ("predict", tiny_demo / "data", tmp_path / "out", "--classifier", tiny_demo / "classifier")
    assert run(*words, "--part", "train", *CPU) == 0
    held_out = read_json(tiny_demo / "splits.json")["folds"][0]
    assert sorted(read_probabilities(tmp_path / "out" / "probabilities.csv").study_ids) == sorted(held_out)
    assert loaded == [[0]]
    assert read_json(tmp_path / "out" / RUN_FILE)["out_of_fold"] is True


def test_only_the_shipped_run_goes_with_a_classifier_of_other_data(
    tiny_demo: Path, shipped: Path, tmp_path: Path
) -> None:
    other = shutil.copytree(shipped, tmp_path / "other")
    with pytest.raises(InputError, match="trained on different data"):
        load(other, tiny_demo / "classifier", device="cpu")
    for named in (None, shipped):
        assert load(named, tiny_demo / "classifier", device="cpu").localizer.unmirror


def test_mirrored_series_are_still_read_alike_by_both_stages(tiny_demo: Path, shipped: Path) -> None:
    with (shipped / "config.toml").open("r+") as file:
        text = file.read()
        assert text.count("unmirror = true") == 1
        file.seek(0)
        file.write(text.replace("unmirror = true", "unmirror = false"))
    with pytest.raises(InputError, match="unmirror = False"):
        load(None, tiny_demo / "classifier", device="cpu")


@pytest.mark.parametrize("packed", [False, True])
def test_any_dicom_files_are_localized(tiny_demo: Path, shipped: Path, tmp_path: Path, packed: bool) -> None:
    study = sorted((tiny_demo / "data" / "test_images").iterdir())[0]
    given = study
    if packed:
        given = Path(shutil.make_archive(str(tmp_path / "export"), "zip", study))
    assert run("localize", "predict", given, tmp_path / "out", *CPU) == 0
    rows = pd.read_csv(tmp_path / "out" / "localizations.csv", dtype=str)
    places = ["instance_number", "x_px", "y_px", "score"]
    known = pd.read_csv(tiny_demo / "prediction" / "localizations.csv", dtype=str)
    expected = known.loc[known["study_id"] == study.name, places]
    assert len(expected) > 0
    np.testing.assert_allclose(rows[places].astype(float), expected.astype(float), atol=1e-4)
    facts = read_json(tmp_path / "out" / RUN_FILE)
    assert facts["data_fingerprint"] == ""
    assert not (tmp_path / "out" / "errors.json").exists()
    words = ("classify", "train", tiny_demo / "data", tmp_path / "run")
    assert run(*words, "--localizations", tmp_path / "out" / "localizations.csv") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(
    not (SHIPPED_RUN / RUN_FILE).is_file(), reason="this checkout holds no detectors in localize/weights"
)
def test_the_wheel_carries_the_detectors(wheel_site: Path) -> None:
    files = {path.relative_to(SHIPPED_RUN) for path in SHIPPED_RUN.rglob("*.*") if path.is_file()}
    there = {path.relative_to(wheel_site / "localize" / "weights") for path in (wheel_site / "localize").rglob("*.*")
             if path.is_relative_to(wheel_site / "localize" / "weights") and path.is_file()}  # fmt: skip
    assert files <= there
