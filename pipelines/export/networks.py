"""The networks of a run as they are exported: what torch computes, from which inputs, and what their outputs mean."""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from classify.device import use_bf16
from classify.network.checkpoint import MODEL_FILE, WEIGHTS_FILE, ModelCard, load_card
from classify.network.fast import load_fast_card
from classify.network.model import SeverityNet, with_bf16_kernels
from classify.predict import load_predicting
from localize.detector.canvas import STRIDE_PX
from localize.detector.yolo.inference import load_fused
from localize.detector.yolo.library import threads
from localize.localizer import read_config, read_folds
from shared.backends.exported import Difference, Stage
from shared.backends.sessions import Network
from shared.labels import FINDINGS, Condition
from shared.runtime.run_folder import FAST_FOLDER, read_run, trained_folds

Arrays = tuple[NDArray[Any], ...]

# Batches that are compared. One image is its own case in many libraries; the last is that of a study.
_BATCHES: Final = (1, 2)
_DETECTOR_BATCH: Final = 16
_GRADER_BATCH: Final = len(FINDINGS)
# Coarseness of the noise in the inputs: it varies as slowly as anatomy does.
_BLUR_PX: Final = 8
_CPU: Final = torch.device("cpu")


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchNetwork:
    """One network that is to be exported.

    Attributes:
      name: fold<K>/<name> or fast/<name>, without a suffix.
      weights: its file in the run.
      module: maps tensors to one tensor; in evaluation mode, on the CPU.
      inputs: the name of each input with the names of its axes; a number is a size that never changes.
      output: the same of the output.
      shapes: of the first input, to compare; the last is that of real work.
      is_detector: otherwise it grades crops.
      bf16: whether torch predicts in bf16 on this machine; the comparison is always in single precision.
    """

    name: str
    weights: Path
    module: nn.Module
    inputs: dict[str, tuple[int | str, ...]]
    output: tuple[str, tuple[int | str, ...]]
    shapes: tuple[tuple[int, ...], ...]
    is_detector: bool
    bf16: bool = False

    def arrays(self, shape: tuple[int, ...]) -> Arrays:
        """Inputs of a given shape of the first one: smooth noise, of each family and level in turn; always the same."""
        rng = np.random.default_rng(shape[0])
        batch, channels, rows, columns = shape
        coarse = rng.random((batch * channels, -(-rows // _BLUR_PX), -(-columns // _BLUR_PX)), np.float32)
        images = np.stack([cv2.resize(image, (columns, rows)) for image in coarse]).reshape(shape)
        if self.is_detector:
            return (images,)
        crops = (images - images.mean((1, 2, 3), keepdims=True)) / images.std((1, 2, 3), keepdims=True)
        order = np.arange(batch, dtype=np.int64)
        return crops, order % len(Condition), order % 5

    def compute(self, *arrays: NDArray[Any]) -> NDArray[np.float32]:
        """What torch answers, in single precision."""
        with torch.inference_mode():
            return np.asarray(self.module(*map(torch.from_numpy, arrays)).numpy())

    def as_predicted(self, count: int) -> Network:
        """The same as fast as prediction does it, with so many threads: its memory layout and precision."""
        module: Any = with_bf16_kernels(deepcopy(cast(SeverityNet, self.module))) if self.bf16 else self.module

        def compute(*arrays: NDArray[Any]) -> NDArray[np.float32]:
            tensors = [torch.from_numpy(array) for array in arrays]
            if not self.is_detector:
                tensors[0] = tensors[0].contiguous(memory_format=torch.channels_last)
            with threads(count), torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
                return np.asarray(module(*tensors).float().numpy())

        return compute

    def difference(self, one: NDArray[np.float32], other: NDArray[np.float32]) -> Difference:
        """The largest difference of two outputs."""
        if one.shape != other.shape or not np.isfinite(other).all():
            return Difference(probability=float(np.finfo(np.float32).max))
        a, b = one.astype(np.float64), other.astype(np.float64)
        if self.is_detector:
            by_channel = np.abs(a - b).max((0, 2))
            return Difference(probability=float(by_channel[4:].max()), box_px=float(by_channel[:4].max()))
        return Difference(probability=float(np.abs(_softmax(a) - _softmax(b)).max()))


def networks_of(run: Path, stage: Stage) -> Iterator[TorchNetwork]:
    """The networks of a finished run, fold by fold and then the fast grader; each is loaded when it is its turn.

    Raises:
      InputError: for a fast grader that was made of other folds, and as `localize.localizer.read_folds` and
        `classify.predict.load_predicting`.
    """
    yield from _detectors(run) if stage == "localize" else _graders(run)


def count_networks(run: Path, stage: Stage) -> int:
    """How many `networks_of` gives."""
    if stage == "localize":
        return sum(len(fold.models) for fold in read_folds(run).values())
    return len(_cards(run))


class _RawOutput(nn.Module):
    """A detector that returns nothing but its raw output."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """Raw output [b, 4 + levels, anchors] of images [b, 1, rows, columns] in [0, 1]."""
        raw: Tensor = self.network(image)[0]
        return raw


def _detectors(run: Path) -> Iterator[TorchNetwork]:
    config = read_config(run)
    for number, fold in read_folds(run).items():
        for view, path in fold.models.items():
            rows, columns = config.of_view(view).image_px
            usual = [(batch, 1, rows, columns) for batch in (*_BATCHES, _DETECTOR_BATCH)]
            larger = (3, 1, rows + STRIDE_PX, columns + 2 * STRIDE_PX)  # the canvas of a larger slice
            yield TorchNetwork(
                name=f"fold{number}/{path.stem}", weights=path, module=_RawOutput(load_fused(path, "cpu")).eval(),
                inputs={"image": ("batch", 1, "rows", "columns")}, output=("raw", ("batch", 9, "anchors")),
                shapes=(larger, *usual), is_detector=True,
            )  # fmt: skip


def _graders(run: Path) -> Iterator[TorchNetwork]:
    for folder, card in _cards(run):
        crop = card.config.crop
        sizes: tuple[int | str, ...] = ("batch", crop.channels, crop.size_px, crop.size_px)
        yield TorchNetwork(
            name=f"{folder.name}/{Path(WEIGHTS_FILE).stem}", weights=folder / WEIGHTS_FILE,
            module=load_predicting(folder, card, _CPU),
            inputs={"crops": sizes, "family": ("batch",), "level": ("batch",)}, output=("logits", ("batch", 3)),
            shapes=tuple((b, crop.channels, crop.size_px, crop.size_px) for b in (*_BATCHES, _GRADER_BATCH)),
            is_detector=False, bf16=use_bf16(card.config.train.amp, _CPU),
        )  # fmt: skip


def _cards(run: Path) -> list[tuple[Path, ModelCard]]:
    """The folder and card of each fold, and of the fast grader if there is one."""
    folders = [run / f"fold{number}" for number in trained_folds(run, read_run(run, expected_kind="classify"))]
    cards = [(folder, load_card(folder)) for folder in folders]
    fast = run / FAST_FOLDER
    return [*cards, (fast, load_fast_card(run).network)] if (fast / MODEL_FILE).is_file() else cards


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(powers / powers.sum(-1, keepdims=True))
