"""What to train: a checked request, and the resources to train it with."""

from collections.abc import Mapping
from dataclasses import dataclass

from classify.config import ClassifyConfig
from classify.device import pick_device
from classify.noisy_labels import Flags
from classify.train.processes import ALONE, Processes
from shared.data.challenge import Challenge
from shared.jitter import Jitter
from shared.labels import Condition
from shared.out_of_fold import OutOfFold
from shared.runtime.errors import InputError
from shared.runtime.problems import counted
from shared.splits import Splits
from shared.tracking.tracker import UNTRACKED, Tracking


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRequest:
    """Everything that decides the result of a training run. A request that exists is free of leaks.

    Attributes:
      folds: the folds to train.
      splits: which studies each fold holds out.
      points: points of stage 1, found out of fold under the same splits or by detectors that saw none of the studies.
        Held-out studies are scored at these points alone; training crops without one lie at annotated points. None
        means annotated points everywhere.
      jitter: localization error to train with, instead of the error measured for `points`.
      conditions: families to train; the others get the prior.
      without: grades to leave out of training. They still count when scoring.

    Raises:
      InputError: for splits that do not cover the data, an unknown fold, points of other data or other splits, or a
        fold whose held-out studies have no points.
      TypeError: for points that are not `OutOfFold`.
    """

    data: Challenge
    config: ClassifyConfig
    folds: tuple[int, ...]
    splits: Splits
    points: OutOfFold | None = None
    jitter: Mapping[Condition, Jitter] | None = None
    conditions: tuple[Condition, ...] = tuple(Condition)
    without: Flags = frozenset()

    def __post_init__(self) -> None:
        if not (self.points is None or isinstance(self.points, OutOfFold)):
            raise TypeError(
                f"points: expected OutOfFold or None, got {type(self.points).__name__}; other localizations may come "
                "from a detector that was trained on a study which validates the classifier"
            )
        self.splits.check_covers(self.data.study_ids)
        held_out = {k: self.splits.held_out(k) for k in self.folds}
        if self.points is None:
            return
        self.points.check_fits(self.data, self.splits)
        for k, study_ids in held_out.items():
            if not any(self.points.localizations.get(s) for s in study_ids):
                advice = (
                    "the detectors that ship found no point in any of them; train a localizer on these data"
                    if self.points.splits is None
                    else f"train fold {k} of stage 1 first (`lumbar localize train DATA RUN --fold {k} --resume`)"
                )
                raise InputError(
                    f"fold {k}: none of its {counted(len(study_ids), 'held-out study')} has localizations; {advice}"
                )

    @property
    def unmirror(self) -> bool:
        """Whether crops of mirrored axial series show what the pictures show: as `points` were found, or True."""
        return self.points is None or self.points.unmirror

    @property
    def held_out_points(self) -> str:
        """Where held-out studies are scored: at "localized" or "annotated" points."""
        return "annotated" if self.points is None else "localized"

    @property
    def measured(self) -> Mapping[Condition, Jitter]:
        """The given or measured localization error; the config's assumption holds for conditions without one."""
        if self.jitter is not None:
            return self.jitter
        return {} if self.points is None else self.points.jitter


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingResources:
    """What a run computes with. Nothing here changes the results.

    Attributes:
      device: any form of `--device`, kept under torch's name.
      workers: processes that decode images.
      resume: continue a run of the same request and keep its finished folds.
      keep_cache: leave the cached crops in the run folder for another call.
      processes: all processes that train this run together; this one trains its share of the folds or of each batch.
      tracking: where curves go, beside the log of each fold.

    Raises:
      InputError: for a device that is not there.
    """

    device: str = "auto"
    workers: int = 1
    resume: bool = False
    keep_cache: bool = False
    processes: Processes = ALONE
    tracking: Tracking = UNTRACKED

    def __post_init__(self) -> None:
        object.__setattr__(self, "device", str(pick_device(self.processes.device(self.device))))
