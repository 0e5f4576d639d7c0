"""Classifier checkpoints, without pickle: safetensors for weights, JSON for everything needed to use them."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from classify.calibrate import Calibration
from classify.config import ClassifyConfig
from shared.labels import Condition
from shared.probabilities.files import prior_from_json, prior_to_json
from shared.runtime.documents import Document, fitted, kind_of, read_document
from shared.runtime.errors import InputError, first_line
from shared.runtime.files import write_json, written_beside
from shared.runtime.run_folder import RunFolder
from shared.runtime.weights import TensorKind, check_finite, read_weights

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from classify.network.model import SeverityNet

VERSION: Final = 3
_AGAIN: Final = "restore the file or train again with this release"
WEIGHTS_FILE: Final = "model.safetensors"
MODEL_FILE: Final = "model.json"
# How pixels become network input. It changes whenever the cropper or the normalisation does.
PREPROCESSING: Final = {
    "intensity": "8 bit per slice between percentiles (shared.dicom), then zero mean and unit deviation per crop",
    "sagittal": "x to posterior, y to foot, slices medial to lateral; the canal's right to left",
    "axial": "x to the finding's side, y to posterior, slices head to foot; never across a gap between blocks",
    "version": 2,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """Contents of model.json.

    Attributes:
      unmirror: whether crops of mirrored axial series show what the pictures show, not what the headers say.
      families: condition families that the model was trained for; the others get the prior.
      prior: [25, 3] weighted prior of the training studies.
      calibration: temperature per family.
      fold: the fold that the network was trained in; None for the fast grader of a run.
      held_out_points: whether the held-out studies were scored at "localized" or "annotated" points.
    """

    config: ClassifyConfig
    unmirror: bool = True
    families: tuple[Condition, ...]
    prior: NDArray[np.float64]
    calibration: dict[Condition, Calibration]
    fold: int | None
    data_fingerprint: str
    held_out_points: str


Points = Literal["localized", "annotated"]
_Family = Literal["canal", "foraminal", "subarticular"]


class _CalibrationFile(Document):
    temperature: Annotated[float, Field(gt=0, le=1000)]


class NetworkFile(Document):
    """What is needed to use a trained network; `config` bounds the size of the network that is built from it.

    `prior` is a submission: it carries the metric's weights.
    """

    preprocessing: dict[str, str | int]
    config: ClassifyConfig
    unmirror: bool
    families: Annotated[list[_Family], Field(min_length=1)]
    prior: dict[str, list[float]]
    calibration: dict[_Family, _CalibrationFile]
    data_fingerprint: Annotated[str, Field(min_length=1)]


class CardFile(NetworkFile):
    """model.json of this version."""

    version: Literal[3]
    fold: Annotated[int, Field(ge=0)]
    held_out_points: Points


def run_folder(path: Path) -> RunFolder:
    """The folder of a training run of stage 2. A fold is finished once it has its model card."""
    return RunFolder(path=path, kind="classify", last_file=MODEL_FILE)


def save_weights(path: Path, state: "dict[str, Tensor]") -> None:
    """Writes a state dict as safetensors, completely or not at all."""
    from safetensors.torch import save_file

    with written_beside(path) as temporary:
        save_file({k: v.detach().cpu().contiguous() for k, v in state.items()}, temporary)


def halved(state: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
    """A state dict with kernels and matrices in half precision.

    Vectors stay as they are. They are a thousandth of the weights, and a variance can leave the range of half
    precision.
    """
    return {k: v.half() if v.ndim > 1 and v.is_floating_point() else v for k, v in state.items()}


def save_card(folder: Path, card: ModelCard) -> None:
    """Writes model.json, the last file of a fold."""
    own = {"version": VERSION, "fold": card.fold, "held_out_points": card.held_out_points}
    write_json(folder / MODEL_FILE, own | network_to_json(card))


def network_to_json(card: ModelCard) -> dict[str, Any]:
    """The part of a model card that `NetworkFile` describes."""
    return {
        "config": card.config.model_dump(mode="json"),
        "unmirror": card.unmirror,
        "preprocessing": PREPROCESSING,
        "families": [c.short for c in card.families],
        "prior": prior_to_json(card.prior),
        "calibration": {c.short: asdict(x) for c, x in card.calibration.items()},
        "data_fingerprint": card.data_fingerprint,
    }


def load_card(folder: Path) -> ModelCard:
    """Reads model.json; raises `InputError` when it is missing, malformed or of another version."""
    path = folder / MODEL_FILE
    value = read_document(path, dict[str, Any], advice=_AGAIN)
    if value.get("version") == 2:
        value = _from_version_2(path, value)
    if value.get("version") != VERSION or value.get("preprocessing") != PREPROCESSING:
        raise InputError(
            f"{path}: expected version {VERSION} and its preprocessing, got {kind_of(value.get('version'))}; {_AGAIN}"
        )
    file = fitted(path, json.dumps(value), CardFile, advice=_AGAIN)
    return card_of(path, file, fold=file.fold, points=file.held_out_points)


def card_of(path: Path, file: NetworkFile, *, fold: int | None, points: str) -> ModelCard:
    """The card of a file; raises `InputError` where parts of it do not agree.

    Args:
      path: of the file, for messages.
    """
    by_name = {c.short: c for c in Condition}
    missing = [name for name in file.families if name not in file.calibration]
    if missing:
        raise InputError(f"{path}: calibration: is missing for {missing[0]}; {_AGAIN}")
    return ModelCard(
        config=file.config,
        unmirror=file.unmirror,
        families=tuple(by_name[name] for name in file.families),
        prior=prior_from_json(path, file.prior),
        calibration={by_name[name]: Calibration(temperature=x.temperature) for name, x in file.calibration.items()},
        fold=fold,
        data_fingerprint=file.data_fingerprint,
        held_out_points=points,
    )


def _from_version_2(path: Path, value: dict[str, Any]) -> dict[str, Any]:
    """The content of a model.json of release 0.1.0, with today's keys."""
    try:
        crop, model, train = (dict(value["config"][name]) for name in ("crop", "model", "train"))
        model["weights"] = model.pop("pretrained")
        train.pop("channels_last", None)
        unmirror = crop.pop("unmirror")
        calibration = {name: dict(own) for name, own in value["calibration"].items()}
        biased = any(any(own.pop("bias", ())) for own in calibration.values())
        kept = {name: value["config"][name] for name in ("augment", "jitter")}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: malformed ({type(error).__name__}: {first_line(error)}); {_AGAIN}") from error
    if biased:
        raise InputError(f"{path}: is calibrated by vector scaling, which is gone; {_AGAIN}")
    config = {"crop": crop, "model": model, "train": train, **kept}
    return value | {"version": VERSION, "config": config, "unmirror": unmirror, "calibration": calibration}


def load_model(folder: Path, card: ModelCard, device: "torch.device") -> "SeverityNet":
    """Loads a fold's network, or a run's fast grader, for prediction. It computes in single precision.

    Raises:
      InputError: when its weights are missing or do not fit.
    """
    from classify.network.model import unfilled_model

    path = folder / WEIGHTS_FILE
    model = unfilled_model(card.config.model, slices=card.config.crop.channels)
    state = load_state(path, model, halves=card.fold is None)
    model.load_state_dict({k: t.float() if t.is_floating_point() else t for k, t in state.items()}, assign=True)
    return model.to(device).eval()


def load_state(path: Path, model: "nn.Module", *, halves: bool = False) -> "dict[str, Tensor]":
    """A state dict that fits the network.

    Args:
      halves: whether it is stored as `halved` makes it.

    Raises:
      InputError: as `shared.runtime.weights.read_weights` does.
    """
    import torch

    state = model.state_dict()
    kinds = {
        name: TensorKind(shape=tuple(t.shape), dtype=str(t.dtype).removeprefix("torch."))
        for name, t in (halved(state) if halves else state).items()
    }
    return {name: torch.from_numpy(array) for name, array in read_weights(path, kinds, advice=_AGAIN).items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """State of an unfinished fold: finished epochs, steps of the next one, tensors by network, and optimizer state."""

    epoch: int
    step: int
    tensors: "dict[str, dict[str, Tensor]]"
    state: dict[str, Any]


def save_progress(folder: Path, progress: Progress) -> None:
    """Replaces the saved state by renaming a folder into place, so that a kill leaves the previous one."""
    import torch
    from safetensors.torch import save_file

    with written_beside(folder / f"epoch-{progress.epoch:04d}-step-{progress.step:06d}") as temporary:
        temporary.mkdir()
        for name, tensors in progress.tensors.items():
            save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, temporary / f"{name}.safetensors")
        torch.save(progress.state, temporary / "optimizer.pt")
    for old in _saved(folder)[:-1]:
        shutil.rmtree(old)


def load_progress(folder: Path) -> Progress | None:
    """The newest saved state, or None; raises `InputError` when it cannot be read."""
    saved = _saved(folder)
    if not saved:
        return None
    import torch
    from safetensors.torch import load_file

    newest = saved[-1]
    try:
        tensors = {p.stem: load_file(p) for p in sorted(newest.glob("*.safetensors"))}
        state = torch.load(newest / "optimizer.pt", map_location="cpu", weights_only=True)
        _, epoch, _, step = newest.name.split("-")
        progress = Progress(epoch=int(epoch), step=int(step), tensors=tensors, state=state)
    except Exception as error:  # missing, truncated or foreign; safetensors and torch share no base class of errors
        raise InputError(f"{newest}: {unusable(error)}") from error
    for name, found in tensors.items():
        arrays = {k: v.float().numpy() for k, v in found.items()}
        check_finite(newest / f"{name}.safetensors", arrays, advice="delete its folder to restart the fold")
    return progress


def unusable(error: Exception) -> str:
    """What a message says about a saved state that cannot be continued from."""
    return f"cannot be resumed from ({type(error).__name__}: {first_line(error)}); delete it to restart the fold"


def _saved(folder: Path) -> list[Path]:
    """Saved states, oldest first; names sort by epoch, then by step."""
    return sorted(folder.glob("epoch-[0-9]*-step-[0-9]*")) if folder.is_dir() else []
