"""Ultralytics, offline and without side effects on the user, and torch's threads and devices around it.

The library (as read in its source, 8.4) must be isolated. The offline switch and the settings folder must be set before
the import. Without a font in that folder it tries a download. Integrations start as soon as they are installed. The
import and the CPU trainer change thread counts. This module takes care of all that once, at the first use.
"""

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final

import cv2

from shared.runtime.hardware.cores import usable_cores
from shared.runtime.hardware.device import resolve_device

_INTEGRATIONS: Final = (
    "clearml",
    "comet",
    "dvc",
    "hub",
    "mlflow",
    "neptune",
    "raytune",
    "tensorboard",
    "wandb",
    "sync",
)
_SMALL_PX: Final = 256


@cache
def ultralytics() -> Any:
    """Imports the library with its settings in a private folder that is deleted when the process ends."""
    import matplotlib
    import torch

    folder = Path(tempfile.mkdtemp(prefix="lumbar-yolo-"))
    atexit.register(_remove, folder, os.getpid())
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
    cv2.setNumThreads(min(cv2_threads, usable_cores()))
    if omp is None:
        os.environ.pop("OMP_NUM_THREADS", None)
    return ultralytics


def _remove(folder: Path, owner: int) -> None:
    """Deletes the settings when the process ends that made them, not one of those that were forked from it."""
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)


def torch_device(text: str, *, several: bool = False) -> str:
    """torch's name of the device that `--device` names, among those that torch sees; see `resolve_device`."""
    import torch

    mps = torch.backends.mps.is_available()
    return resolve_device(text, gpus=torch.cuda.device_count(), mps=mps, several=several)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Lets torch use `count` threads while the block runs, whatever the library sets."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def inference_threads(shape: tuple[int, int]) -> int:
    """All usable cores for large images; one for small images, where threads would mostly wait for each other."""
    return 1 if max(shape) <= _SMALL_PX else usable_cores()
