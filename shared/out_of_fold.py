"""Which model may see which study: a training study is predicted only by the fold that held it out.

Localizations reach the grader's training only as `OutOfFold`, which can be built only from a localizer's run, or from
what the detectors that ship with the package found: they have seen none of the user's studies.
`FoldModels` is the only way to predict training studies.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Generic, Self, TypeVar

from shared.data.challenge import Challenge
from shared.detections import Localizations, read_localizations
from shared.jitter import Jitter, read_jitter
from shared.labels import Condition
from shared.runtime.documents import read_json
from shared.runtime.errors import InputError
from shared.runtime.run_folder import PREDICTED_POINTS, STATE_FILE, read_run, sha256_of, trained_folds
from shared.splits import Splits, read_splits

LOCALIZATIONS_FILE: Final = "localizations.csv"
ERRORS_FILE: Final = "errors.json"

M = TypeVar("M")


@dataclass(frozen=True, slots=True)
class OutOfFold:
    """Points of training studies, each found by detectors that had not seen the study.

    They are a localizer run's points of its own studies, each found by the fold that held the study out, or the points
    that `lumbar localize predict` found with the detectors that ship.

    Attributes:
      run: folder of `lumbar localize train`, or of `lumbar localize predict`; the only argument.
      localizations: the run's pooled out-of-fold points.
      splits: the folds under which they were found; None where the detectors saw none of the studies.
      data_fingerprint: fingerprint of the studies' tables.
      jitter: the points' measured error per condition.
      unmirror: whether mirrored axial series were corrected.

    Raises:
      InputError: when the folder is no finished run of either command, when its points or splits were changed
        afterwards, when no trained fold held one of their studies out, or when the detectors may have seen them.
    """

    run: Path
    localizations: Localizations = field(init=False, repr=False)
    splits: Splits | None = field(init=False, repr=False)
    data_fingerprint: str = field(init=False)
    jitter: Mapping[Condition, Jitter] = field(init=False, repr=False)
    unmirror: bool = field(init=False)

    def __post_init__(self) -> None:
        facts = read_run(self.run, expected_kind="localize", or_kind=PREDICTED_POINTS)
        path = self.run / LOCALIZATIONS_FILE
        localizations = read_localizations(path)
        # Runs of release 0.1.0 have neither a state nor the digest.
        digest = sha256_of(path)
        if facts.get("localizations_sha256", None if (self.run / STATE_FILE).is_file() else digest) != digest:
            raise InputError(
                f"{path}: SHA-256 differs from the one in {self.run / 'run.json'}; the file was changed or replaced, "
                "restore it or make it again"
            )
        loaded: dict[str, Any] = {
            "localizations": localizations,
            "splits": self._splits(facts, localizations),
            "data_fingerprint": str(facts.get("data_fingerprint")),
            "jitter": read_jitter(errors) if (errors := self.run / ERRORS_FILE).is_file() else {},
            "unmirror": bool(facts.get("unmirror", True)),
        }
        for name, value in loaded.items():
            object.__setattr__(self, name, value)

    def _splits(self, facts: Mapping[str, Any], localizations: Localizations) -> Splits | None:
        """The folds under which the points were found; raises `InputError` where a detector may have seen a study."""
        if facts["kind"] == PREDICTED_POINTS:
            if not facts["shipped"] or facts["trained_on"] == facts["data_fingerprint"]:
                raise InputError(
                    f"{self.run}: its points were found by detectors that may have been trained on these studies; "
                    f"expected those that ship with the package, or {LOCALIZATIONS_FILE} of the run that was trained"
                )
            return None
        splits, state = read_splits(self.run / "splits.json"), self.run / STATE_FILE
        folds = [list(fold) for fold in splits.folds]
        began = read_json(state) if state.is_file() else {"splits": folds}
        if not isinstance(began, dict) or began.get("splits") != folds:
            raise InputError(
                f"{self.run / 'splits.json'}: differs from {state}, with which the run began; the file was changed or "
                "replaced, restore it or train the localizer again"
            )
        stray = sorted(set(localizations) - set(fold_by_study(splits, trained_folds(self.run, facts))))
        if stray:
            raise InputError(
                f"{self.run / LOCALIZATIONS_FILE}: no trained fold of {self.run} held out study {stray[0]}"
            )
        return splits

    @classmethod
    def of_file(cls, path: Path) -> Self:
        """Opens the run that `--localizations RUN/localizations.csv` names.

        Raises:
          InputError: as for the class; also for a file of another name.
        """
        try:
            if path.name != LOCALIZATIONS_FILE:
                raise InputError(f"got {path.name}")
            return cls(run=path.parent)
        except InputError as error:
            raise InputError(
                f"--localizations {path}: expected RUN/{LOCALIZATIONS_FILE} of `lumbar localize train`, or "
                f"OUT/{LOCALIZATIONS_FILE} of `lumbar localize predict` with the detectors that ship ({error})"
            ) from error

    def only(self, study_ids: Collection[str]) -> Self:
        """The same points, restricted to the given studies."""
        kept = copy(self)
        object.__setattr__(kept, "localizations", {s: x for s, x in self.localizations.items() if s in study_ids})
        return kept

    def check_fits(self, data: Challenge, splits: Splits) -> None:
        """Raises `InputError` unless the points belong to these data and were found under these splits."""
        if self.data_fingerprint != data.fingerprint:
            if self.splits is None:
                raise InputError(
                    f"--localizations {self.run / LOCALIZATIONS_FILE}: its points are of other data than the "
                    f"{data.part} part of {data.root}; localize that with `lumbar localize predict --part {data.part}`"
                )
            raise InputError(
                f"--localizations {self.run / LOCALIZATIONS_FILE}: its localizer was trained on other data than "
                f"{data.root}; use RUN/{LOCALIZATIONS_FILE} of a `lumbar localize train` on that folder"
            )
        if self.splits is not None and self.splits.folds != splits.folds:
            raise InputError(
                f"--localizations {self.run / LOCALIZATIONS_FILE}: its localizer used other folds than this "
                "run, so a detector may have trained on a study that validates the grader; use the "
                f"splits of both, as in `lumbar classify train --splits {self.run / 'splits.json'}`"
            )


def fold_by_study(splits: Splits, folds: Collection[int]) -> dict[str, int]:
    """Study id -> the fold that holds it out, for the studies of the given folds, fold by fold."""
    return {study_id: fold for fold in sorted(set(folds)) for study_id in splits.held_out(fold)}


class FoldModels(Generic[M]):
    """The models that may predict a study. Loads them on demand and keeps them until another fold is needed.

    Attributes:
      load: loads the models of the given folds, or of all trained folds for None.

    Args:
      fold_of: the fold of each training study; None for new studies, which all folds predict together.
    """

    def __init__(self, load: Callable[[Sequence[int] | None], M], fold_of: Mapping[str, int] | None = None) -> None:
        self.load, self._fold_of = load, fold_of
        self._loaded: tuple[int | None, M] | None = None

    @property
    def out_of_fold(self) -> bool:
        """Whether each study is answered only by the models of one fold."""
        return self._fold_of is not None

    def fold_of(self, study_id: str) -> int | None:
        """The one fold that may see a study; None where all folds may."""
        return None if self._fold_of is None else self._fold_of[study_id]

    def __call__(self, study_id: str) -> M:
        fold = self.fold_of(study_id)
        if self._loaded is None or self._loaded[0] != fold:
            self._loaded = None  # frees its memory before the next one is loaded
            self._loaded = (fold, self.load(None if fold is None else [fold]))
        return self._loaded[1]
