"""All use of Ultralytics: training, loading, detection and mAP, offline and without side effects on the user.

The library (as read in its source, 8.4) must be isolated. The offline switch and the settings folder must be set before
the import. Without a font in that folder it tries a download. Integrations start as soon as they are installed. The
import and the CPU trainer change thread counts. This module takes care of all that once, at the first use.
"""

import atexit
import math
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from localize.config import AugmentConfig, LocalizeConfig, ModelConfig, ViewConfig
from localize.detector.augment import augment
from localize.detector.nms import RawBoxes, choose_boxes
from shared.labels import Level
from shared.runtime.device import resolve_device
from shared.runtime.errors import InputError
from shared.runtime.files import written_beside
from shared.runtime.progress import log

_INTEGRATIONS = ("clearml", "comet", "dvc", "hub", "mlflow", "neptune", "raytune", "tensorboard", "wandb", "sync")
_PRETRAINED = ("coco", "imagenet")
_LOG_EVERY_SECONDS = 15.0
_MAP_KEYS = ("map50", "map50_95")
_SMALL_PX = 256
_TRAINING_THREADS = 1


@cache
def _ultralytics() -> Any:
    """Imports the library with its settings in a private folder that is deleted when the process ends."""
    import matplotlib
    import torch

    folder = Path(tempfile.mkdtemp(prefix="lumbar-yolo-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    settings = folder / "Ultralytics"
    settings.mkdir()
    # Any TrueType file under this name prevents a download.
    shutil.copy(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", settings / "Arial.ttf")
    os.environ |= {
        "YOLO_OFFLINE": "1",
        "YOLO_AUTOINSTALL": "0",
        "YOLO_VERBOSE": "0",
        "YOLO_CONFIG_DIR": str(folder),
        "ULTRALYTICS_SAFE_LOAD": "1",
    }
    threads, cv2_threads, omp = torch.get_num_threads(), cv2.getNumThreads(), os.environ.get("OMP_NUM_THREADS")
    import ultralytics
    from ultralytics.utils import SETTINGS

    off = {key: False for key in _INTEGRATIONS if key in SETTINGS}
    SETTINGS.update(off)  # type: ignore[no-untyped-call]
    torch.set_num_threads(threads)
    cv2.setNumThreads(cv2_threads)
    if omp is None:
        os.environ.pop("OMP_NUM_THREADS", None)
    return ultralytics


def torch_device(text: str, *, several: bool = False) -> str:
    """torch's name of the device that `--device` names, among those that torch sees; see `resolve_device`."""
    import torch

    mps = torch.backends.mps.is_available()
    return resolve_device(text, gpus=torch.cuda.device_count(), mps=mps, several=several)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Lets torch use `count` threads while the block runs, whatever the library sets."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _inference_threads(shape: tuple[int, int]) -> int:
    """All cores for large images; one for small images, where threads would mostly wait for each other."""
    return 1 if max(shape) <= _SMALL_PX else (os.cpu_count() or 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainJob:
    """One detector to train: its data set, the folder for the unfinished state, and how to train."""

    data_yaml: Path
    folder: Path
    name: str
    view: ViewConfig
    config: LocalizeConfig
    device: str = "cpu"
    workers: int = 0
    resume: bool = False

    @property
    def last(self) -> Path:
        """The state after the latest epoch, which training resumes from."""
        return self.folder / "yolo" / "weights" / "last.pt"


def train_detector(job: TrainJob, target: Path) -> None:
    """Trains one detector and writes its weights to `target`, free of paths and times.

    The moving average of the weights after the last epoch is kept: the held-out studies select nothing.

    Raises:
      InputError: as `starting_weights`.
    """
    _ultralytics()
    done = _epochs_done(job.last) if job.resume else 0
    if done >= job.view.epochs:
        save_weights(job.last, target)
        return
    overrides = _overrides(job)
    weights = None if done else starting_weights(job.config.model)
    if done:
        log(f"{job.name}: resuming after epoch {done} of {job.view.epochs}")
        overrides |= {"resume": str(job.last), "model": str(job.last), "save_dir": str(job.folder.resolve() / "yolo")}
    else:
        shutil.rmtree(job.folder / "yolo", ignore_errors=True)
    with _threads(_TRAINING_THREADS):
        trainer = _trainer_class(job)(overrides=overrides)
        if weights is not None:
            trainer.args.pretrained = str(weights)
        trainer.train()
    save_weights(job.last, target)


def _overrides(job: TrainJob) -> dict[str, Any]:
    optim = job.config.optim
    off = ("mosaic", "mixup", "cutmix", "copy_paste", "degrees", "translate", "scale", "shear", "perspective",
           "fliplr", "flipud", "hsv_h", "hsv_s", "hsv_v", "erasing", "bgr", "close_mosaic")  # fmt: skip
    return {
        "task": "detect", "mode": "train", "model": job.config.model.architecture, "data": str(job.data_yaml.resolve()),
        "imgsz": max(job.view.image_px), "epochs": job.view.epochs, "batch": job.view.batch, "nbs": job.view.batch,
        "optimizer": optim.optimizer, "lr0": optim.lr, "lrf": optim.final_lr_fraction, "cos_lr": True,
        "weight_decay": optim.weight_decay, "warmup_epochs": optim.warmup_epochs, "warmup_bias_lr": optim.lr,
        "momentum": 0.9, "seed": optim.seed, "deterministic": True, "amp": False, "cache": False,
        "device": job.device, "workers": job.workers, "pretrained": False, "patience": 0,
        # Ultralytics would put a relative project below a folder of its own.
        "project": str(job.folder.resolve()), "name": "yolo", "exist_ok": True, "plots": False, "val": False,
        "verbose": False,
        **dict.fromkeys(off, 0),
    }  # fmt: skip


@cache
def starting_weights(model: ModelConfig) -> Path | None:
    """The file that training starts from, downloaded if the config says so; None to start from scratch.

    Raises:
      InputError: for an unknown architecture, or weights that do not exist or cannot be downloaded or loaded.
    """
    _ultralytics()
    from torch.nn import Module
    from ultralytics.nn.tasks import yaml_model_load

    try:
        yaml_model_load(model.architecture)  # type: ignore[no-untyped-call]
    except FileNotFoundError as error:
        raise InputError(
            f"--set model.architecture={model.architecture}: Ultralytics has no such model; try yolo11s.yaml"
        ) from error
    name = model.weights
    if name == "none":
        return None
    path = _downloaded(model) if name in _PRETRAINED else Path(name)
    if not path.is_file():
        raise InputError(f"--weights {name}: no such file; expected none, {', '.join(_PRETRAINED)} or a .pt file")
    try:
        checkpoint = _load_checkpoint(path)
    except InputError as error:
        raise InputError(f"--weights {name}: {error}") from error
    if not isinstance(checkpoint.get("ema") or checkpoint.get("model"), Module):
        raise InputError(f"--weights {name}: {path} holds no Ultralytics model")
    return path


def _downloaded(model: ModelConfig) -> Path:
    from ultralytics.utils.downloads import attempt_download_asset

    stem = Path(model.architecture).stem + ("-cls" if model.weights == "imagenet" else "")
    path = Path.home() / ".cache" / "lumbar-severity" / f"{stem}.pt"
    try:
        attempt_download_asset(str(path))
    except OSError as error:  # no network, no such file there, no room here
        log(f"{stem}.pt: {error}")
    if not path.is_file():
        raise InputError(
            f"--weights {model.weights}: {stem}.pt could not be downloaded; give its path, or use --weights none"
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


def _trainer_class(job: TrainJob) -> Any:
    """A detection trainer with our augmentation instead of the library's, and an occasional line of progress."""
    import torch
    from ultralytics.data.augment import Compose
    from ultralytics.models.yolo.detect import DetectionTrainer

    options, name, view = job.config.augment.scaled(job.view.augment_share), job.name, job.view

    class MrTrainer(DetectionTrainer):
        def build_dataset(self, img_path: str, mode: str = "train", batch: int | None = None) -> Any:
            dataset = super().build_dataset(img_path, mode, batch)
            if mode == "train":
                steps = [_Augment(options), dataset.transforms.transforms[-1]]
                dataset.transforms = Compose(steps)  # type: ignore[no-untyped-call]
            return dataset

        def get_model(self, cfg: Any = None, weights: Any = None, verbose: bool = True) -> Any:
            model = super().get_model(cfg, weights, verbose)
            if weights is None:
                _start_near_target(model.model[-1], view)
            return model

        def validate(self) -> tuple[dict[str, float], float]:
            return dict(self.metrics or {}), 0.0  # the held-out studies are measured once, after training

        def final_eval(self) -> None:
            return None

        def _setup_train(self) -> None:
            super()._setup_train()  # type: ignore[no-untyped-call]
            torch.set_num_threads(_TRAINING_THREADS)  # the library changed it
            self.log_time = time.monotonic()

        def save_metrics(self, metrics: Mapping[str, Any]) -> None:
            super().save_metrics(metrics)  # type: ignore[no-untyped-call]
            done, now = self.epoch + 1, time.monotonic()
            if done in (1, self.epochs) or now - self.log_time > _LOG_EVERY_SECONDS:
                self.log_time = now
                running: dict[str, Any] = dict(self.tloss or {})
                losses = " ".join(f"{key.split('/')[-1]} {float(value):.3f}" for key, value in running.items())
                log(f"{name}: epoch {done}/{self.epochs} {losses}")

    return MrTrainer


class _Augment:
    """`localize.detector.augment` as a step of the library's pipeline."""

    def __init__(self, options: AugmentConfig) -> None:
        self.options = options

    def __call__(self, labels: dict[str, Any]) -> dict[str, Any]:
        from ultralytics.utils.instance import Instances

        image = labels["img"]
        rows, columns = image.shape[:2]
        instances = labels.pop("instances")
        instances.convert_bbox("xyxy")
        instances.denormalize(columns, rows)
        # The library seeds numpy's global state in each of its loader processes.
        rng = np.random.default_rng(np.random.randint(0, 2**31))
        boxes = np.asarray(instances.bboxes, np.float64).reshape(-1, 4)
        grey, boxes, keep = augment(np.ascontiguousarray(image.reshape(rows, columns)), boxes, self.options, rng)
        labels["img"] = grey[..., None]
        labels["cls"] = labels["cls"][keep]
        labels["instances"] = Instances(boxes.astype(np.float32), bbox_format="xyxy", normalized=False)
        return labels


def _epochs_done(path: Path) -> int:
    """Finished epochs of a saved state; 0 when there is none, or only a damaged one."""
    if not path.is_file():
        return 0
    try:
        return int(_load_checkpoint(path).get("epoch", -1)) + 1
    except InputError:
        log(f"warning: {path} is damaged; training of this detector starts again")
        return 0


def _load_checkpoint(path: Path) -> dict[str, Any]:
    _ultralytics()
    from ultralytics.nn.tasks import torch_safe_load

    try:
        checkpoint, _ = torch_safe_load(str(path))  # type: ignore[no-untyped-call]
    except Exception as error:  # a foreign file: unpickling raises anything
        raise InputError(f"{path}: cannot be loaded as a detector ({type(error).__name__})") from error
    return dict(checkpoint)


def save_weights(checkpoint_path: Path, target: Path) -> None:
    """Writes a checkpoint's model without optimizer, paths or times, so that the same training gives the same bytes."""
    import torch

    checkpoint = _load_checkpoint(checkpoint_path)
    model = (checkpoint.get("ema") or checkpoint["model"]).float().half()
    kept = {"task": "detect", "imgsz": int(checkpoint["train_args"]["imgsz"])}
    model.args = kept
    model.criterion = None
    for name in ("pt_path", "yaml_file"):
        if hasattr(model, name):
            delattr(model, name)
    if isinstance(model.yaml, dict):
        model.yaml["yaml_file"] = Path(str(model.yaml.get("yaml_file", ""))).name
    for parameter in model.parameters():
        parameter.requires_grad = False
    clean = {
        "epoch": -1, "model": model, "ema": None, "train_args": kept, "version": checkpoint.get("version"),
        "date": None,
    }  # fmt: skip
    with written_beside(target) as temporary, temporary.open("wb") as file:
        torch.save(clean, file)


class Detector:
    """One view's detector. The raw outputs of several models (folds) are averaged before boxes are chosen."""

    def __init__(self, paths: Sequence[Path], device: str = "cpu", min_score: float = 0.03) -> None:
        """Loads the models; raises `InputError` for a file that is not a detector of the five levels."""
        self._device, self._min_score = device, min_score
        self._models = [_load_model(path, device) for path in paths]

    def detect(self, images: Sequence[NDArray[np.uint8]], batch: int = 16) -> list[RawBoxes]:
        """Detects boxes on grey images, each [rows, columns]: all of one shape, with sides that are multiples of 32."""
        import torch

        found: list[RawBoxes] = []
        if not images:
            return found
        rows, columns = images[0].shape
        with _threads(_inference_threads((rows, columns))), torch.inference_mode():
            for start in range(0, len(images), batch):
                stack = np.stack(images[start : start + batch])[:, None]
                tensor = torch.from_numpy(stack).to(self._device).float() / 255
                raw = torch.stack([model(tensor)[0] for model in self._models]).mean(0)
                found.extend(choose_boxes(image, self._min_score) for image in raw)
        return found


def _load_model(path: Path, device: str) -> Any:
    import torch

    checkpoint = _load_checkpoint(path)
    model = checkpoint.get("model")
    if model is None or len(getattr(model, "names", ())) != len(Level):
        raise InputError(f"{path}: expected a detector of {len(Level)} levels")
    model = model.float().eval().to(device)
    model.requires_grad_(False)
    with torch.inference_mode():
        model.fuse()
    return model


def measure_map(weights: Path, data_yaml: Path, view: ViewConfig, device: str) -> dict[str, Any]:
    """Measures a detector's mAP on a data set's held-out slices, per level and as the mean of the levels that occur."""
    _ultralytics()
    from ultralytics.models.yolo.detect import DetectionValidator

    with tempfile.TemporaryDirectory(prefix="lumbar-val-") as scratch, _threads(_inference_threads(view.image_px)):
        args = {
            "task": "detect", "mode": "val", "model": str(weights), "data": str(data_yaml), "imgsz": max(view.image_px),
            "batch": view.batch, "device": device, "workers": 0, "plots": False, "verbose": False, "save_json": False,
            "project": scratch, "name": "val", "exist_ok": True, "split": "val", "rect": False,
        }  # fmt: skip
        validator = DetectionValidator(args=args, save_dir=Path(scratch) / "val")
        validator(model=str(weights))
        box = validator.metrics.box
        per_level = {
            Level(int(c)).slug: {"map50": float(box.ap50[i]), "map50_95": float(box.ap[i])}
            for i, c in enumerate(box.ap_class_index)
        }
    means = {key: float(np.mean([v[key] for v in per_level.values()])) if per_level else None for key in _MAP_KEYS}
    return {**means, "levels": per_level}
