"""The loop that a user would write with the same weights: slice after slice, crop after crop, fold after fold.

pydicom reads each file, Ultralytics' own `predict` looks at each slice, and torchvision's ResNet50 at each crop. What
nobody would write for himself is called from this project: the canvas of a slice, the chain of levels, the cut of a
crop, the heads and the calibration. The boxes that Ultralytics keeps are not quite ours (one class a box), and every
slice is looked at instead of those that matter, so the answers differ a little; the difference is told.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import torch
from numpy.typing import NDArray

from classify.device import use_all_cores
from classify.network.checkpoint import ModelCard, load_card, load_model
from classify.predict import Classifier
from localize.detector.nms import RawBoxes
from localize.detector.yolo.library import ultralytics
from localize.detector.yolo.network import load_network
from localize.localizer import Localizer, chosen_folds, read_config, read_folds
from pipelines.grader import Grader
from shared.dicom import pixels as dicom_pixels
from shared.dicom.intensity import scale_to_8bit
from shared.labels import View
from shared.runtime.run_folder import trained_folds
from shared.study import LoadedStudy


class StockDetector:
    """Ultralytics' `predict` on each slice by itself; several folds' boxes are simply put together."""

    def __init__(self, paths: Sequence[Path], scratch: Path) -> None:
        ultralytics()
        from ultralytics.models import YOLO

        self._models: list[Any] = []
        for path in paths:
            network = load_network(path)
            file = scratch / f"{path.parent.name}-{path.stem}.pt"
            network.args = {"imgsz": 640, "task": "detect"}
            torch.save({"model": network, "train_args": {}, "epoch": -1}, file)
            self._models.append(YOLO(str(file)))

    def detect(self, images: Sequence[NDArray[np.uint8]], batch: int = 1) -> list[RawBoxes]:
        found = []
        for image in images:
            parts = []
            for model in self._models:
                results: Any = model.predict(
                    image[..., None], imgsz=list(image.shape), conf=0.03, iou=0.5, max_det=60, verbose=False,
                    device="cpu", rect=True,
                )  # fmt: skip
                parts.append(np.asarray(results[0].boxes.data, np.float64))
            boxes = np.concatenate(parts)
            found.append(RawBoxes(xyxy=boxes[:, :4] - 0.5, level=boxes[:, 5].astype(np.int64), score=boxes[:, 4]))
        return found


class OneByOne(Classifier):
    """torchvision's network with our heads, called for each crop by itself, in single precision."""

    @classmethod
    def open(cls, run: Path) -> "OneByOne":
        folders = [run / f"fold{k}" for k in trained_folds(run, _facts(run))]
        cards = [(folder, load_card(folder)) for folder in folders]
        use_all_cores()
        members: list[tuple[ModelCard, Any]] = [(c, load_model(f, c, torch.device("cpu"))) for f, c in cards]
        return cls(members, torch.device("cpu"))

    def _predict(self, crops: NDArray[np.uint8], findings: NDArray[np.intp]) -> NDArray[np.float64]:
        answers = [super(OneByOne, self)._predict(crops[k : k + 1], findings[k : k + 1]) for k in range(len(crops))]
        return np.concatenate(answers)


def naive_grader(localizer: Path, classifier: Path, scratch: Path) -> Grader:
    """Both stages as a notebook would run them."""
    folds = read_folds(localizer, chosen_folds(localizer))
    views = dict.fromkeys(view for fold in folds.values() for view in fold.models)
    loaded = Localizer.load(localizer, device="cpu", overrides=("slices.focused=false",))
    stock: Mapping[View, Any] = {
        view: StockDetector([fold.models[view] for fold in folds.values() if view in fold.models], scratch)
        for view in views
    }
    plain = Localizer(stock, loaded._prior, read_config(localizer, ("slices.focused=false",)), loaded._calibration)
    return Grader(localizer=plain, classifier=OneByOne.open(classifier))


def predict_naively(grader: Grader, loaded: LoadedStudy) -> NDArray[np.float64]:
    """The submission of a study. [25, 3]"""
    with dicom_pixels.kept_pixels():
        for series in loaded.study.series:
            for item in series.slices:
                pixels = pydicom.dcmread(item.path).pixel_array
                dicom_pixels._KEPT[item.path, item.frame] = scale_to_8bit(pixels)
        return grader.predict(loaded).submission


def _facts(run: Path) -> Mapping[str, Any]:
    from shared.runtime.run_folder import read_run

    return read_run(run, expected_kind="classify")
