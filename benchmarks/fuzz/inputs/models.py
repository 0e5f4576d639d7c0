"""Checkpoints and finished runs: the inputs whose readers need torch."""

import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import numpy as np
import torch
from safetensors.torch import save

from benchmarks.fuzz.inputs.sound import Form, Sound
from benchmarks.fuzz.inputs.world import CLASSIFIER, DATA, LOCALIZER, images, made, world
from classify.calibrate import Calibration
from classify.config import ClassifyConfig, ModelConfig
from classify.evaluate import EvaluateRequest as ClassifyRequest
from classify.evaluate import evaluate_run as evaluate_classifier
from classify.network.checkpoint import (
    MODEL_FILE,
    WEIGHTS_FILE,
    ModelCard,
    Progress,
    load_card,
    load_model,
    load_progress,
    save_card,
    save_progress,
)
from classify.network.model import check_starting_weights, empty_model
from localize.config import ModelConfig as DetectorConfig
from localize.detector.weights_file import SUFFIX, write_detector
from localize.detector.yolo.network import build_network, load_network
from localize.detector.yolo.training import starting_weights
from localize.evaluate import EvaluateRequest as LocalizeRequest
from localize.evaluate import evaluate_run as evaluate_localizer
from shared.data.challenge import Challenge
from shared.figures.report import Report
from shared.labels import Condition

_DETECTOR: Final = "yolo11n.yaml"
_LOCALIZER_FILES: Final[Mapping[str, Form]] = {
    "run.json": "json", "splits.json": "json", "localizations.csv": "csv", "fold0/metrics.json": "json",
    "fold0/detections.csv": "csv", "fold0/numbering.csv": "csv",
}  # fmt: skip
_CLASSIFIER_FILES: Final[Mapping[str, Form]] = {
    "run.json": "json", "splits.json": "json", "out_of_fold.csv": "csv", "noisy_labels.csv": "csv",
    "fold0/model.json": "json",
}  # fmt: skip


def sound_runs() -> Iterator[Sound]:
    """A finished run of each stage, measured."""
    files = {**world(), **images(), **{f"{CLASSIFIER}/fold{k}/{MODEL_FILE}": _card(k) for k in (0, 1)}}
    yield _run("localize evaluate", files, LOCALIZER, _LOCALIZER_FILES, _evaluate_localizer)
    yield _run("classify evaluate", files, CLASSIFIER, _CLASSIFIER_FILES, _evaluate_classifier)


def _run(
    name: str, files: Mapping[str, bytes], run: str, own: Mapping[str, Form], read: Callable[[Path], list[str]]
) -> Sound:
    needed = {path: content for path, content in files.items() if path.partition("/")[0] in (run, DATA)}
    targets: dict[str, Form] = {f"{run}/{path}": form for path, form in own.items()}
    targets |= {path: "json" for path in needed if path == f"{DATA}/manifest.json" and run == LOCALIZER}
    return Sound(kind="run", name=name, files=needed, targets=targets, read=read)


def _evaluate_localizer(folder: Path) -> list[str]:
    with _undrawn():
        return _measured_localizer(folder)


@contextmanager
def _undrawn() -> Iterator[None]:
    """Leaves charts undrawn while the block runs: they take most of a report's time, and read no file."""
    with patch.object(Report, "figure"):
        yield


def _measured_localizer(folder: Path) -> list[str]:
    request = LocalizeRequest(data=folder / DATA, run=folder / LOCALIZER, manifest=folder / DATA / "manifest.json")
    return [] if evaluate_localizer(request, folder / "out").is_file() else ["no report"]


def _evaluate_classifier(folder: Path) -> list[str]:
    (folder / "out").mkdir()
    request = ClassifyRequest(data=Challenge.open(folder / DATA), run=folder / CLASSIFIER)
    with _undrawn():
        return [] if evaluate_classifier(request, folder / "out") else ["no summary"]


def sound_checkpoints() -> Iterator[Sound]:
    """The weights of both stages, the state of unfinished training, and weights to start from."""
    yield _checkpoint("model card", {MODEL_FILE: _card(0)}, {MODEL_FILE: "json"}, load_card)
    files = {MODEL_FILE: _card(0), WEIGHTS_FILE: save(_network())}
    yield _checkpoint("grader", files, {WEIGHTS_FILE: "tensors"}, _grader)
    yield _checkpoint("foreign tensors", files | {WEIGHTS_FILE: _small()}, {WEIGHTS_FILE: "tensors"}, _grader)
    unfinished = made(_unfinished)
    forms: dict[str, Form] = {name: "zip" if name.endswith(".pt") else "tensors" for name in unfinished}
    yield _checkpoint("unfinished fold", unfinished, forms, load_progress)
    yield _checkpoint("start.safetensors", {"start.safetensors": _small()}, {"start.safetensors": "tensors"}, _start)
    yield _checkpoint("start.pt", {"start.pt": _pickled(_tensors())}, {"start.pt": "zip"}, _start)
    network = build_network(_DETECTOR, {})
    detector = made(lambda folder: write_detector(folder / "start.safetensors", _DETECTOR, network.state_dict()))
    yield _checkpoint("detector", detector, {"start.safetensors": "tensors"}, _detector)
    trained = {"start.pt": _pickled({"epoch": -1, "model": network.half()})}
    yield _checkpoint("detector's checkpoint", trained, {"start.pt": "zip"}, _detector)


def _checkpoint(
    name: str, files: Mapping[str, bytes], targets: Mapping[str, Form], read: Callable[[Path], object]
) -> Sound:
    return Sound(kind="checkpoint", name=name, files=files, targets=targets, read=partial(_nothing, read))


def _nothing(read: Callable[[Path], object], folder: Path) -> list[str]:
    read(folder)
    return []


def _detector(folder: Path) -> object:
    """Weights to start from; those of a run too, where they are of our own form."""
    (path,) = folder.glob("start.*")
    return starting_weights(DetectorConfig(architecture=_DETECTOR, weights=str(path))), load_network(
        path
    ) if path.suffix == SUFFIX else None


def _start(folder: Path) -> None:
    (path,) = folder.glob("start.*")
    check_starting_weights(ModelConfig(weights=str(path)))


def _grader(folder: Path) -> object:
    return load_model(folder, load_card(folder), torch.device("cpu"))


def _card(fold: int) -> bytes:
    card = ModelCard(
        config=ClassifyConfig(), families=tuple(Condition), prior=np.full((25, 3), 1 / 3),
        calibration=dict.fromkeys(Condition, Calibration(temperature=1.2)), fold=fold, data_fingerprint="0" * 64,
        held_out_points="annotated",
    )  # fmt: skip
    return made(lambda folder: save_card(folder, card))[MODEL_FILE]


@cache
def _network() -> dict[str, torch.Tensor]:
    config = ClassifyConfig()
    torch.manual_seed(0)
    return {k: v.contiguous() for k, v in empty_model(config.model, slices=config.crop.channels).state_dict().items()}


def _tensors() -> dict[str, torch.Tensor]:
    return {"conv1.weight": torch.arange(27.0).reshape(1, 3, 3, 3), "fc.bias": torch.ones(4)}


def _small() -> bytes:
    return save(_tensors())


def _pickled(value: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def _unfinished(folder: Path) -> None:
    state: dict[str, Any] = {"step": 3, "groups": [{"lr": 0.1}], "moments": _tensors()}
    save_progress(folder, Progress(epoch=1, step=2, tensors={"model": _tensors(), "average": _tensors()}, state=state))
