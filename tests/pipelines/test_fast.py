"""`--fast` from the command line: whose answer is given, who is refused, and what a pack of it holds."""

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from pipelines.api import load
from pipelines.cli import main
from pipelines.ensembles.members import Members
from pipelines.pack import PackRequest, pack
from shared.data.source import open_source
from shared.probabilities.files import read_probabilities
from shared.runtime.documents import read_json
from shared.runtime.errors import InputError
from shared.runtime.run_folder import trained_digest
from tests.fast_run import add_fast
from tests.schemas import assert_documented


@pytest.fixture(scope="module")
def classifier(tiny_demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return add_fast(shutil.copytree(tiny_demo / "classifier", tmp_path_factory.mktemp("fast") / "classifier"))


def test_the_fast_grader_answers_and_run_json_says_so(tiny_demo: Path, classifier: Path, tmp_path: Path) -> None:
    words = ["predict", str(tiny_demo / "data"), str(tmp_path / "out"), "--localizer", str(tiny_demo / "localizer")]
    words += ["--classifier", str(classifier), "--device", "cpu", "--no-pages"]
    assert main([*words, "--fast"]) == 0
    # This fast grader is the network of the only fold, rounded to half precision.
    answers = [
        read_probabilities(folder / "probabilities.csv") for folder in (tmp_path / "out", tiny_demo / "prediction")
    ]
    difference = np.abs(answers[0].submission - answers[1].submission)
    assert 0 < difference.max() < 0.01
    facts = read_json(tmp_path / "out" / "run.json")
    assert facts["fast"] is True
    assert facts["classifiers"][0]["models_sha256"] == trained_digest(classifier, fast=True)
    assert "run-predict-1" in assert_documented(tmp_path / "out")
    assert main([*words, "--resume"]) == 1  # by the folds: another classifier


def test_it_is_refused_for_studies_that_it_learned_from_and_for_runs_without_one(
    tiny_demo: Path, classifier: Path
) -> None:
    localizers = (tiny_demo / "localizer",)
    members = Members(localizers=localizers, classifiers=(classifier,), fast=True)
    with pytest.raises(InputError, match=r"has learned from all studies.*leave --fast out"):
        members.teams(open_source(tiny_demo / "data", "train"))
    with pytest.raises(InputError, match="has no fast grader; make it with `lumbar classify distill DATA"):
        Members(localizers=localizers, classifiers=(classifier, tiny_demo / "classifier"), fast=True)


def test_a_pack_holds_it_beside_the_folds_or_alone(tiny_demo: Path, classifier: Path, tmp_path: Path) -> None:
    runs = (tiny_demo / "localizer", classifier)
    names = {}
    for fast in (False, True):
        pack(PackRequest(runs=runs, fast=fast), tmp_path / f"{fast}.zip")
        with zipfile.ZipFile(tmp_path / f"{fast}.zip") as archive:
            names[fast] = {n.removeprefix("classifier/") for n in archive.namelist() if n.startswith("classifier/")}
            archive.extractall(tmp_path / str(fast))
    alone = {"config.toml", "run.json", "fast/model.json", "fast/model.safetensors"}
    assert names[True] == alone
    assert names[False] == alone | {"fold0/model.json", "fold0/model.safetensors"}
    packed = tmp_path / "True" / "classifier"
    study = next((tiny_demo / "data" / "test_images").iterdir())
    answers = [
        load(tiny_demo / "localizer", run, device="cpu", fast=True).predict(study) for run in (packed, classifier)
    ]
    np.testing.assert_array_equal(answers[0].submission, answers[1].submission)
    with pytest.raises(InputError, match="holds only the fast grader of the run, not its folds; give --fast"):
        load(tiny_demo / "localizer", packed, device="cpu")
