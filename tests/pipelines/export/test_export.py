"""`lumbar export` and what is computed from it: the same boxes and grades as torch's, or a clear refusal."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from classify.calibrate import IDENTITY
from classify.config import ClassifyConfig
from classify.network.checkpoint import WEIGHTS_FILE, ModelCard, save_card, save_weights
from classify.network.model import FAMILIES, empty_model
from classify.predict import Classifier
from localize.localizer import SHIPPED_RUN, Localizer
from pipelines.cli import main
from pipelines.export.export import ExportRequest, export
from shared.backends.backend import Backend
from shared.backends.exported import Difference, Library, read_export
from shared.backends.sessions import installed_libraries
from shared.labels import FINDINGS, View
from shared.runtime.documents import read_json
from shared.runtime.errors import InputError
from shared.runtime.files import write_json
from shared.runtime.run_folder import write_run
from tests.schemas import assert_fits

LIBRARIES = installed_libraries()
pytestmark = pytest.mark.skipif(not LIBRARIES, reason="the extras onnx and openvino are not installed")
Made = Callable[[str, Callable[[Path], object]], Path]


def write_classifier(folder: Path) -> None:
    """A run of a small, untrained grader whose answers differ from crop to crop."""
    config = ClassifyConfig.load(
        None, ("model.backbone=resnet18", "model.slices_as=attention", "crop.slices=3", "crop.size_px=32")
    )
    card = ModelCard(
        config=config, families=FAMILIES, prior=np.full((25, 3), 1 / 3),
        calibration=dict.fromkeys(FAMILIES, IDENTITY), fold=0, data_fingerprint="0", held_out_points="annotated",
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = empty_model(config.model, slices=3)
        for weight in (*model.heads.parameters(), model.level_bias, *model.attention.parameters()):
            torch.nn.init.normal_(weight, std=0.2)
    (folder / "fold0").mkdir(parents=True)
    save_weights(folder / "fold0" / WEIGHTS_FILE, model.state_dict())
    save_card(folder / "fold0", card)
    write_run(folder, command="classify train", started=0, kind="classify", folds=[0], data_fingerprint="0")


def write_localizer(folder: Path) -> None:
    """The smallest of the detectors that ship, as a run of its own."""
    shutil.copytree(SHIPPED_RUN, folder, ignore=shutil.ignore_patterns("sagittal*", "README.md"))
    facts = read_json(folder / "run.json")
    models = {"axial_t2": facts["folds"]["0"]["models"]["axial_t2"]}
    write_json(folder / "run.json", facts | {"folds": {"0": {"models": models}}})


@pytest.fixture(scope="session")
def classifier(made_once: Made) -> Path:
    def make(folder: Path) -> None:
        write_classifier(folder)
        assert main(["export", str(folder), "--rounds", "1"]) == 0

    return made_once("exported_classifier", make)


@pytest.fixture(scope="session")
def localizer(made_once: Made) -> Path:
    def make(folder: Path) -> None:
        write_localizer(folder)
        assert main(["export", str(folder), "--rounds", "0"]) == 0

    return made_once("exported_localizer", make)


@pytest.mark.parametrize("library", LIBRARIES)
def test_grades_are_those_of_torch(library: Library, classifier: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    findings = np.arange(len(FINDINGS)).repeat(2)[:37]
    ours = Classifier.load(classifier, device="cpu", backend=Backend(name=library))
    monkeypatch.setattr("classify.predict.use_bf16", lambda *_: False)
    theirs = Classifier.load(classifier, device="cpu")
    crops = rng.integers(0, 256, (len(findings), 3, 32, 32), dtype=np.uint8)
    expected = theirs._predict(crops, findings)
    assert np.ptp(expected, axis=0).min() > 0.01
    np.testing.assert_allclose(ours._predict(crops, findings), expected, atol=1e-4)
    np.testing.assert_allclose(ours._predict(crops[5:6], findings[5:6]), expected[5:6], atol=1e-4)


@pytest.mark.parametrize("library", LIBRARIES)
def test_boxes_are_those_of_torch(library: Library, localizer: Path) -> None:
    ours = Localizer.load(localizer, device="cpu", backend=Backend(name=library))._detectors[View.AXIAL_T2]
    theirs = Localizer.load(localizer, device="cpu")._detectors[View.AXIAL_T2]
    rng = np.random.default_rng(1)
    for shape, count in (((128, 128), 5), ((160, 192), 2)):
        coarse = rng.integers(0, 256, (count, *(side // 16 for side in shape))).astype(np.uint8)
        images = np.kron(coarse, np.ones((1, 16, 16), np.uint8))
        batch = torch.from_numpy(images[:, None]).float() / 255
        mine, other = (np.asarray(detector._models[0](batch)[0]) for detector in (ours, theirs))
        np.testing.assert_allclose(mine[:, 4:], other[:, 4:], atol=1e-4)
        np.testing.assert_allclose(mine[:, :4], other[:, :4], atol=1e-2)
        assert np.ptp(other[:, 4:]) > 1e-4
        found = ours.detect(list(images), batch=4)
        assert [len(f.score) for f in found] == [len(f.score) for f in theirs.detect(list(images))]


def test_the_export_tells_what_it_is(classifier: Path, localizer: Path) -> None:
    for run in (classifier, localizer):
        text = (run / "export" / "export.json").read_text(encoding="utf-8")
        assert_fits("export-1", text)
    file = read_export(classifier / "export")
    assert [network.file for network in file.networks] == ["fold0/model.onnx"]
    assert set(file.networks[0].differences) == set(LIBRARIES)
    assert set(file.speed.of_torch) == set(LIBRARIES)
    assert {shape[0] for shape in file.networks[0].shapes_tried} == {1, 2, 25}
    assert max(d.probability for d in file.networks[0].differences.values()) <= 1e-4
    assert read_export(localizer / "export").speed is None


def test_a_network_that_answers_otherwise_is_no_export(
    classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.export.export.TOLERANCE", Difference(probability=0.0, box_px=0.0))
    with pytest.raises(InputError, match=r"answers otherwise than torch, by .* in probability"):
        export(ExportRequest(run=classifier, rounds=0), tmp_path / "out")
    assert read_export(tmp_path / "out") is None


def test_the_same_run_gives_the_same_file(classifier: Path, tmp_path: Path) -> None:
    export(ExportRequest(run=classifier, rounds=0), tmp_path / "out")
    names = ["fold0/model.onnx"]
    assert [(tmp_path / "out" / n).read_bytes() for n in names] == [
        (classifier / "export" / n).read_bytes() for n in names
    ]


def test_the_command_says_what_is_wrong(
    classifier: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["export", str(classifier)]) == 1
    assert "is not empty" in capsys.readouterr().err
    assert main(["export", str(tmp_path), str(tmp_path / "out")]) == 1
    assert "expected the run folder of a finished `lumbar localize train`" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["export", "shipped"])
    assert "OUT: name a folder to write to" in capsys.readouterr().err
    monkeypatch.setattr("pipelines.export.export.installed_libraries", list)
    assert main(["export", str(classifier), str(tmp_path / "out")]) == 1
    assert "install an extra" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_run_that_was_trained_again_needs_another_export(classifier: Path, tmp_path: Path) -> None:
    run = shutil.copytree(classifier, tmp_path / "run")
    backend = Backend(name=LIBRARIES[0])
    Classifier.load(run, device="cpu", backend=backend)
    with (run / "fold0" / WEIGHTS_FILE).open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x01")
    with pytest.raises(InputError, match="export the run again"):
        Classifier.load(run, device="cpu", backend=backend)
