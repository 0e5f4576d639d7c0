"""What a training run of stage 1 is asked for. Both types are checked at construction, before anything is written."""

from dataclasses import dataclass, replace
from typing import Any

from localize.config import SHIPPED, LocalizeConfig
from localize.detector.yolo.library import torch_device
from localize.localizer import shipped_detector
from shared.data.challenge import Challenge
from shared.labels import View
from shared.runtime.bulk.engine import Engine
from shared.runtime.errors import InputError
from shared.splits import Splits
from shared.tracking.tracker import UNTRACKED, Tracking


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRequest:
    """What to train, and on which studies. Everything here changes the results.

    Attributes:
      data: studies with annotated points.
      config: the resolved config.
      splits: the studies that each fold holds out.
      folds: the folds to train.
      views: the views whose detectors are trained; a fold also keeps the detectors that it already has.

    Raises:
      InputError: when the splits do not cover the data, a fold is unknown, or the data has no points.
    """

    data: Challenge
    config: LocalizeConfig
    splits: Splits
    folds: tuple[int, ...]
    views: tuple[View, ...] = tuple(View)

    def __post_init__(self) -> None:
        self.splits.check_covers(self.data.study_ids)
        for fold in self.folds:
            self.splits.held_out(fold)
        if not self.data.points:
            raise InputError(
                f"{self.data.root}: {self.data.part}_label_coordinates.csv is missing or empty; the localizer trains "
                "on its points"
            )

    def config_of(self, view: View) -> LocalizeConfig:
        """The config of one view's training: starting weights that every view has of its own are named by their file.

        Raises:
          InputError: when the package lacks the detectors that ship with it.
        """
        model = self.config.model
        if model.weights == SHIPPED:
            model = model.model_copy(update={"weights": str(shipped_detector(view))})
        return self.config.model_copy(update={"model": model})


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingResources:
    """What a run computes with. Nothing here changes the results.

    Attributes:
      device: any form of `--device`, kept under torch's name; several GPUs (`0,1`) train each detector together.
      workers: processes that read data; on a CPU also the number of detectors that train side by side.
      resume: continue the run in the folder, or add folds or views to it.
      tracking: where curves go.
      engine: what trains the detectors. Over Ray, `device` stays as it was given, because each node has its own.

    Raises:
      InputError: for a device that is not there.
    """

    device: str = "auto"
    workers: int = 1
    resume: bool = False
    tracking: Tracking = UNTRACKED
    engine: Engine = Engine.LOCAL

    def __post_init__(self) -> None:
        if self.engine is Engine.LOCAL:
            object.__setattr__(self, "device", torch_device(self.device, several=True))

    def here(self, **changes: Any) -> "TrainingResources":
        """The same for the machine that asks."""
        return replace(self, engine=Engine.LOCAL, **changes)
