"""What to distill: a finished run, the studies and the points that it was trained with, and the recipe."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from classify.config import ClassifyConfig, DistillConfig
from classify.crop_cache import CacheJob
from classify.network.checkpoint import WEIGHTS_FILE, ModelCard, load_card, run_folder
from classify.noisy_labels import Flags
from shared.data.challenge import Challenge
from shared.detections import Localizations
from shared.jitter import Jitter
from shared.labels import Condition, Finding
from shared.runtime.documents import OpenDocument, read_document
from shared.runtime.errors import InputError
from shared.runtime.problems import counted
from shared.runtime.run_folder import STATE_FILE, sha256_of

_LEAST_FOLDS: Final = 2


class _RunState(OpenDocument):
    """What is read of the state of a run of stage 2: its crops, their jitter and the grades that it left out."""

    crops: str
    jitter: dict[
        Literal["canal", "foraminal", "subarticular"],
        tuple[float, Annotated[list[tuple[int, float]], Field(min_length=1)]],
    ]
    left_out: list[str] = Field(alias="left out labels")


@dataclass(frozen=True, slots=True, kw_only=True)
class DistillRequest:
    """A run whose folds teach one network.

    The network sees every study of the data, so no study is left to choose anything by. Crops, augmentation, jitter and
    left out grades are those of the run.

    Attributes:
      data: the data that the run was trained on.
      run: of `lumbar classify train`, with at least two trained folds.
      localizations: the points that the run was trained at; None for a run that was trained at annotated points.
      recipe: how the network learns.

    Raises:
      InputError: for an unfinished run, one of other data or points, or one with fewer than two folds.
    """

    data: Challenge
    run: Path
    localizations: Localizations | None = None
    recipe: DistillConfig = field(default_factory=DistillConfig)
    cards: Mapping[int, ModelCard] = field(init=False, repr=False)
    jitter: Mapping[Condition, Jitter] = field(init=False, repr=False)
    without: Flags = field(init=False, repr=False)

    def __post_init__(self) -> None:
        folder = run_folder(self.run)
        facts = folder.facts()
        if facts["data_fingerprint"] != self.data.fingerprint:
            raise InputError(
                f"{self.run}: was trained on other data than {self.data.root}; pass the data that it was trained on"
            )
        folds = folder.finished_folds()
        if len(folds) < _LEAST_FOLDS:
            raise InputError(
                f"{self.run}: has {counted(len(folds), 'trained fold')}; expected at least {_LEAST_FOLDS} to learn "
                "from. A run of one fold answers as fast as a fast grader"
            )
        object.__setattr__(self, "cards", {k: load_card(folder.fold(k)) for k in folds})
        state = read_document(self.run / STATE_FILE, _RunState, advice="train the run again")
        object.__setattr__(self, "jitter", _jitter(state, self.run / STATE_FILE))
        object.__setattr__(self, "without", frozenset(map(_flag, state.left_out)))
        self._check_points(state)

    def _check_points(self, state: _RunState) -> None:
        """Raises `InputError` unless the crops will be those that the run was trained on."""
        localized = self.points == "localized"
        if localized and self.localizations is None:
            raise InputError(
                f"{self.run}: was trained at points of stage 1; give them with --localizations CSV, as for "
                "`lumbar classify train`"
            )
        if not localized and self.localizations is not None:
            raise InputError(f"--localizations: {self.run} was trained at annotated points; leave it out")
        if self.job.key != state.crops:
            why = (
                "--localizations: are not the points that {0} was trained at; give the same file"
                if localized
                else "{0}: its crops were made by another version or of other points; train it again"
            )
            raise InputError(why.format(self.run))

    @property
    def config(self) -> ClassifyConfig:
        """The run's config, with the length and rate of the recipe."""
        config = self._first.config
        train = config.train.model_copy(
            update={
                "epochs": max(round(self.recipe.length * config.train.epochs), 1),
                "learning_rate": self.recipe.rate * config.train.learning_rate,
                # The folds' answers hold what the any-severe term taught them. No study is held out to stop by.
                "any_severe": 0.0,
                "keep": "last",
                "patience": 0,
            }
        )
        return config.model_copy(update={"train": train})

    @property
    def points(self) -> str:
        """Where the run held its studies out: at "localized" or "annotated" points."""
        return self._first.held_out_points

    @property
    def job(self) -> CacheJob:
        """The crops of the run."""
        return CacheJob(
            data=self.data, config=self._first.config.crop, localizations=self.localizations,
            conditions=self._first.families, unmirror=self._first.unmirror,
        )  # fmt: skip

    @property
    def teachers(self) -> dict[str, str]:
        """Number of each fold -> SHA-256 of its weights."""
        folder = run_folder(self.run)
        return {str(k): sha256_of(folder.fold(k) / WEIGHTS_FILE) for k in self.cards}

    @property
    def state(self) -> dict[str, Any]:
        """What a resumed call must agree with."""
        return {"recipe": self.recipe.model_dump(mode="json"), "teachers": self.teachers, "crops": self.job.key}

    @property
    def _first(self) -> ModelCard:
        return next(iter(self.cards.values()))


def _jitter(state: _RunState, path: Path) -> dict[Condition, Jitter]:
    by_name = {c.short: c for c in Condition}
    try:
        return {
            by_name[name]: Jitter(in_plane_sd_mm=deviation, slice_offsets=dict(offsets))
            for name, (deviation, offsets) in state.jitter.items()
        }
    except ValueError as error:
        raise InputError(f"{path}: jitter: {error}; train the run again") from error


def _flag(text: str) -> tuple[str, Finding]:
    study_id, _, column = text.rpartition(" ")
    return study_id, Finding.from_column(column)
