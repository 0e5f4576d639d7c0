"""Detection with trained detectors, and their mAP."""

import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from localize.config import ViewConfig
from localize.detector.nms import RawBoxes, choose_boxes
from localize.detector.yolo.library import inference_threads, threads, ultralytics
from localize.detector.yolo.network import load_network
from shared.backends.backend import TORCH, Backend
from shared.labels import Level
from shared.runtime.hardware.cores import usable_cores

_MAP_KEYS: Final = ("map50", "map50_95")


class Detector:
    """One view's detector. The raw outputs of several models (folds) are averaged before boxes are chosen."""

    def __init__(
        self, paths: Sequence[Path], device: str = "cpu", min_score: float = 0.03, backend: Backend = TORCH
    ) -> None:
        """Loads the models; raises `InputError` for a file that is not a detector of the five levels.

        Args:
          paths: files of the run, also where another library computes what was exported from them.
          device: of `Backend.place`.
        """
        self._device, self._min_score = device if backend.is_torch else "cpu", min_score
        self._models = [
            load_fused(path, device) if backend.is_torch else _load_exported(path, device, backend) for path in paths
        ]
        # The library keeps the places of boxes for the last images' shape, which another thread may just change.
        self._one_at_a_time = threading.Lock()

    def detect(self, images: Sequence[NDArray[np.uint8]], batch: int = 16) -> list[RawBoxes]:
        """Detects boxes on grey images, each [rows, columns]: all of one shape, with sides that are multiples of 32."""
        import torch

        found: list[RawBoxes] = []
        if not images:
            return found
        rows, columns = images[0].shape
        with self._one_at_a_time, threads(inference_threads((rows, columns))), torch.inference_mode():
            for start in range(0, len(images), batch):
                stack = np.stack(images[start : start + batch])[:, None]
                tensor = torch.from_numpy(stack).to(self._device).float() / 255
                raw = torch.stack([model(tensor)[0] for model in self._models]).mean(0)
                found.extend(choose_boxes(image, self._min_score) for image in raw)
        return found


def load_fused(path: Path, device: str) -> Any:
    """A detector's network, ready to compute: maps [b, 1, rows, columns] to a tuple that begins with the raw output.

    The input is in [0, 1]. The raw output is [b, 4 + levels, anchors]; see `localize.detector.nms.choose_boxes`.
    """
    import torch

    model = load_network(path).eval().to(device)
    model.requires_grad_(False)
    with torch.inference_mode():
        model.fuse(verbose=False)  # which would first measure the network's speed, unasked
        # A CPU is up to a third faster that way.
        return model.to(memory_format=torch.channels_last) if torch.device(device).type == "cpu" else model


def _load_exported(path: Path, place: str, backend: Backend) -> Any:
    """The same of an exported network, on tensors of the CPU."""
    import torch

    network = backend.network(path, place=place, threads=usable_cores())
    return lambda images: (torch.from_numpy(network(images.numpy())),)


def measure_map(weights: Path, data_yaml: Path, view: ViewConfig, device: str) -> dict[str, Any]:
    """Measures a detector's mAP on a data set's held-out slices, per level and as the mean of the levels that occur."""
    ultralytics()
    from ultralytics.models.yolo.detect import DetectionValidator

    with tempfile.TemporaryDirectory(prefix="lumbar-val-") as scratch, threads(inference_threads(view.image_px)):
        args = {
            "task": "detect", "mode": "val", "model": str(weights), "data": str(data_yaml), "imgsz": max(view.image_px),
            "batch": view.batch, "device": device, "workers": 0, "plots": False, "verbose": False, "save_json": False,
            "project": scratch, "name": "val", "exist_ok": True, "split": "val", "rect": False,
        }  # fmt: skip
        validator = DetectionValidator(args=args, save_dir=Path(scratch) / "val")
        validator(model=load_network(weights))
        box = validator.metrics.box
        per_level = {
            Level(int(c)).slug: {"map50": float(box.ap50[i]), "map50_95": float(box.ap[i])}
            for i, c in enumerate(box.ap_class_index)
        }
    means = {key: float(np.mean([v[key] for v in per_level.values()])) if per_level else None for key in _MAP_KEYS}
    return {**means, "levels": per_level}
