"""Trains one detector, offline, with our augmentation instead of the library's."""

import math
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from localize.config import STARTS, LocalizeConfig, ModelConfig, ViewConfig
from localize.detector.augment import Augmenter
from localize.detector.export import read_images
from localize.detector.weights_file import write_detector
from localize.detector.yolo.continuation import averaged_weights, begin_epoch, load_state, restore, save_state
from localize.detector.yolo.curve import curve_file, record_epoch
from localize.detector.yolo.feed import Feed, Share
from localize.detector.yolo.halves import Halves
from localize.detector.yolo.library import threads, ultralytics
from localize.detector.yolo.network import architecture_yaml, load_donor
from shared.runtime.errors import InputError
from shared.runtime.progress import log
from shared.tracking.tracker import UNTRACKED, Log, Tracking

_PRETRAINED: Final = ("coco", "imagenet")
_LOG_EVERY_SECONDS: Final = 15.0
_TRAINING_THREADS: Final = 1
# Running statistics of normalisation forget at the rate that torch has. At .03, the library's, they lag behind the
# weights of a short training, and prediction sees other statistics than the last steps did.
_STATISTICS_MOMENTUM: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainJob:
    """One detector to train: its data set, the folder for the unfinished state, and how to train."""

    data_yaml: Path
    folder: Path
    name: str
    view: ViewConfig
    config: LocalizeConfig
    device: str = "cpu"
    resume: bool = False
    tracking: Tracking = UNTRACKED

    @property
    def state(self) -> Path:
        """The state after the latest epoch, which training resumes from."""
        return self.folder / "yolo" / "state.pt"


def train_detector(job: TrainJob, target: Path) -> None:
    """Trains one detector and writes its weights to `target`, free of paths and times.

    The moving average of the weights after the last epoch is kept: the held-out studies select nothing.

    Raises:
      InputError: as `starting_weights`.
    """
    ultralytics()
    state = load_state(job.state) if job.resume else None
    done = 0 if state is None else state["epoch"] + 1
    if done < job.view.epochs:
        if done:
            log(f"{job.name}: resuming after epoch {done} of {job.view.epochs}")
        else:
            shutil.rmtree(job.folder / "yolo", ignore_errors=True)
        weights = None if done else starting_weights(job.config.model)
        name, settings = f"{job.folder.parent.name}/{job.folder.name}", job.config.model_dump(mode="json")
        with threads(_TRAINING_THREADS), job.tracking.curves(name, settings) as curves:
            _trainer_class(job, weights, state, curves)(overrides=_overrides(job)).train()
        state = load_state(job.state)
    if state is None:
        raise InputError(f"{job.state}: the trained state is gone; train again with --resume")
    write_detector(target, job.config.model.architecture, averaged_weights(state))


def _overrides(job: TrainJob) -> dict[str, Any]:
    optim = job.config.optim
    off = ("mosaic", "mixup", "cutmix", "copy_paste", "degrees", "translate", "scale", "shear", "perspective",
           "fliplr", "flipud", "hsv_h", "hsv_s", "hsv_v", "erasing", "bgr", "close_mosaic")  # fmt: skip
    return {
        "task": "detect", "mode": "train", "model": job.config.model.architecture, "data": str(job.data_yaml.resolve()),
        "imgsz": max(job.view.image_px), "epochs": job.view.epochs, "batch": job.view.batch, "nbs": job.view.batch,
        "optimizer": optim.optimizer, "lr0": optim.lr, "lrf": optim.final_lr_fraction, "cos_lr": True,
        "weight_decay": optim.weight_decay, "warmup_epochs": optim.warmup_epochs, "warmup_bias_lr": optim.lr,
        "momentum": 0.9, "seed": optim.seed, "amp": False, "cache": False,
        # On a CPU, operations on one thread are deterministic anyway; the switch would also fill each new tensor.
        "deterministic": job.device != "cpu",
        "device": job.device, "workers": 0, "pretrained": False, "patience": 0,
        # Ultralytics would put a relative project below a folder of its own.
        "project": str(job.folder.resolve()), "name": "yolo", "exist_ok": True, "plots": False, "val": False,
        "verbose": False,
        **dict.fromkeys(off, 0),
    }  # fmt: skip


@cache
def starting_weights(model: ModelConfig) -> Path | None:
    """The file that training starts from, downloaded if the config says so; None to start from scratch.

    Raises:
      InputError: for weights that do not exist, cannot be downloaded or read, or do not fit the architecture.
    """
    name = model.weights
    if name == "none":
        return None
    path = _downloaded(model) if name in _PRETRAINED else Path(name)
    if not path.is_file():
        raise InputError(
            f"starting weights {name!r}: no such file; expected {', '.join(STARTS)}, or a .pt or .safetensors file"
        )
    try:
        load_donor(path, model.architecture)
    except InputError as error:
        raise InputError(f"starting weights {name!r}: {error}") from error
    return path


def _downloaded(model: ModelConfig) -> Path:
    ultralytics()
    from ultralytics.utils.downloads import attempt_download_asset

    stem = Path(model.architecture).stem + ("-cls" if model.weights == "imagenet" else "")
    path = Path.home() / ".cache" / "lumbar-severity" / f"{stem}.pt"
    try:
        attempt_download_asset(str(path))
    except OSError as error:  # no network, no such file there, no room here
        log(f"{stem}.pt: {error}")
    if not path.is_file():
        raise InputError(
            f"starting weights {model.weights!r}: {stem}.pt could not be downloaded; give the path of a file that you "
            "have, or none"
        )
    return path


def _start_near_target(head: Any, view: ViewConfig) -> None:
    """Initializes an untrained head to boxes of the expected size and frequency.

    All our boxes have about the same size, and a slice shows only a few. The library starts from boxes of some fifteen
    strides on images of 640 pixels, and a short training would spend its first epochs on unlearning that.
    """
    import torch

    if head.reg_max <= 1:
        return
    bins = torch.arange(head.reg_max, dtype=torch.float32)
    rows, columns = view.image_px
    with torch.no_grad():
        for box, level, stride in zip(head.cv2, head.cv3, head.stride.tolist(), strict=True):
            box[-1].bias.copy_((-0.5 * (bins - view.box_mm / view.mm_per_px / 2 / stride) ** 2).repeat(4))
            level[-1].bias.fill_(-math.log(rows * columns / stride**2))


class _Batches:
    """What our trainer does about batches and their networks instead of the library's."""

    job: TrainJob
    device: Any
    world_size: int
    model: Any
    halves: Halves | None = None

    def get_dataloader(self, dataset_path: str, batch_size: int = 16, rank: int = 0, mode: str = "train") -> Feed:
        from ultralytics.utils import RANK

        share = Share(rank=max(RANK, 0), of=max(self.world_size, 1)) if mode == "train" else Share()
        return _feed(self.job, mode, batch_size, self.device, share)

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        return batch  # the feed gives it as the network takes it

    def build_optimizer(self, *args: Any, **kwargs: Any) -> Any:
        optimizer = super().build_optimizer(*args, **kwargs)  # type: ignore[misc]
        for group in optimizer.param_groups:
            if "fused" in group:  # one call for all weights, also on a CPU
                group.update(fused=True, foreach=False)
        return optimizer

    def begin_halves(self) -> None:
        """On a CPU, computes the halves of each batch side by side from now on."""
        if self.job.device == "cpu":
            self.halves = Halves(self.model)

    def begin_epoch(self) -> None:
        begin_epoch(self)
        if self.halves is not None:
            self.halves.begin_epoch()

    def final_eval(self) -> None:
        if self.halves is not None:
            self.halves.close()


def _trainer_class(job: TrainJob, start: Path | None, state: dict[str, Any] | None, curves: Log) -> Any:
    """A detection trainer with our batches instead of the library's, and an occasional line of progress.

    It reads the weights that it starts from as data, and continues from a state of ours: the library rounds its own.
    """
    import torch
    from ultralytics.models.yolo.detect import DetectionTrainer

    name, view = job.name, job.view

    class MrTrainer(_Batches, DetectionTrainer):
        def get_model(self, cfg: Any = None, weights: Any = None, verbose: bool = True) -> Any:
            model = super().get_model(architecture_yaml(job.config.model.architecture), weights, verbose)
            if start is not None:
                model.load(load_donor(start, job.config.model.architecture), verbose=False)
            elif weights is None:
                _start_near_target(model.model[-1], view)
            for module in model.modules():
                if isinstance(module, torch.nn.BatchNorm2d):
                    module.momentum = _STATISTICS_MOMENTUM
            return model.to(memory_format=torch.channels_last)  # a quarter faster, on a CPU too

        def validate(self) -> tuple[dict[str, float], float]:
            return dict(self.metrics or {}), 0.0  # the held-out studies are measured once, after training

        def _setup_train(self) -> None:
            super()._setup_train()  # type: ignore[no-untyped-call]
            torch.set_num_threads(_TRAINING_THREADS)  # the library changed it
            self.add_callback("on_train_epoch_start", MrTrainer.begin_epoch)
            if state is not None:
                restore(self, state)
            self.begin_halves()
            self.log_time = time.monotonic()

        def save_model(self) -> bool:
            save_state(self, job.state)
            return True

        def _handle_nan_recovery(self, epoch: int) -> bool:
            loss: Any = self.loss
            if loss is not None and not loss.isfinite():
                raise InputError(
                    f"{name}: training diverged in epoch {epoch + 1}; lower optim.lr (now {job.config.optim.lr:g}) "
                    "and begin anew with --overwrite"
                )
            return False

        def save_metrics(self, metrics: Mapping[str, Any]) -> None:
            super().save_metrics(metrics)  # type: ignore[no-untyped-call]
            held_out = record_epoch(self, curve_file(job.folder))
            done, now = self.epoch + 1, time.monotonic()
            curves(done, {key: float(value) for key, value in {**metrics, "held_out/loss": held_out}.items()})
            if done in (1, self.epochs) or now - self.log_time > _LOG_EVERY_SECONDS:
                self.log_time = now
                log(f"{name}: epoch {done}/{self.epochs} {_losses(self.tloss or {})}")

    MrTrainer.job = job
    return MrTrainer


def _feed(job: TrainJob, mode: str, batch: int, device: Any, share: Share) -> Feed:
    images = read_images(job.data_yaml.parent, mode)
    if mode != "train":
        return Feed(images, batch, device)
    options, shape = job.config.augment.scaled(job.view.augment_share), images.pixels.shape[1:]
    augmenter = Augmenter(options, shape, device)
    return Feed(images, batch, device, augmenter=augmenter, seed=job.config.optim.seed, share=share)


def _losses(running: Mapping[str, Any]) -> str:
    return " ".join(f"{key.split('/')[-1]} {float(value):.3f}" for key, value in running.items())
