"""`lumbar localize predict`: detections and localizations of many studies, from the models of a trained run.

OUT/detections.csv  localizations.csv  numbering.csv
OUT/errors.json     their measured error, from which stage 2 draws its jitter; only for data with annotated points
OUT/failures.csv    studies that could not be read, or at which the stage stopped
OUT/run.json        which detectors found which data's points, and all problems
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from localize.calibrate import Calibration, calibrated
from localize.config import LocalizeConfig
from localize.localizer import KIND, FoldFiles, Localizer, is_shipped, read_config, read_folds
from localize.measures import collect, measure_jitter
from shared.backends.backend import TORCH, Backend
from shared.data.identity import study_key
from shared.data.source import StudySource
from shared.detections import Detection, Localization, write_detections, write_localizations
from shared.dicom.pixels import unreadable_views
from shared.jitter import write_jitter
from shared.labels import Finding
from shared.mirror.correct import as_shown
from shared.numbering import Numbering, write_numbering
from shared.out_of_fold import ERRORS_FILE, LOCALIZATIONS_FILE, FoldModels, fold_by_study
from shared.runtime.errors import InputError
from shared.runtime.problems import Failure, Stage, counted, stopped, unreadable, write_failures
from shared.runtime.progress import log, track
from shared.runtime.run_folder import PREDICTED_POINTS, RUN_FILE, read_run, sha256_of, trained_digest, write_run
from shared.runtime.unfinished import Results, digest_of
from shared.splits import read_splits
from shared.study import LoadedStudy, Study

DETECTIONS_FILE: Final = "detections.csv"
NUMBERING_FILE: Final = "numbering.csv"


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictions:
    """Stage 1's results for many studies; `slices` is the number of slices that the detectors looked at."""

    detections: tuple[Detection, ...]
    localizations: dict[str, dict[Finding, Localization]]
    numbering: dict[str, Numbering]
    problems: tuple[str, ...]
    slices: int = 0
    failures: tuple[Failure, ...] = ()

    @property
    def uncertain(self) -> list[str]:
        """Studies whose levels may all be one off."""
        return sorted(study_id for study_id, n in self.numbering.items() if not n.certain)

    @classmethod
    def joined(cls, parts: Sequence["Predictions"]) -> "Predictions":
        """The results of several parts of the studies, in their order."""
        return cls(
            detections=tuple(d for p in parts for d in p.detections),
            localizations={study_id: found for p in parts for study_id, found in p.localizations.items()},
            numbering={study_id: n for p in parts for study_id, n in p.numbering.items()},
            problems=tuple(text for p in parts for text in p.problems),
            slices=sum(p.slices for p in parts),
            failures=tuple(f for p in parts for f in p.failures),
        )

    def calibrated(self, calibration: Calibration) -> "Predictions":
        """The same predictions with the scores of all points calibrated."""
        found = {
            study_id: {finding: calibrated(item, calibration) for finding, item in of_study.items()}
            for study_id, of_study in self.localizations.items()
        }
        return replace(self, localizations=found)


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyPrediction:
    """Stage 1's result for one study; `localizations` is None where it failed."""

    detections: tuple[Detection, ...] = ()
    localizations: tuple[Localization, ...] | None = None
    numbering: Numbering | None = None
    problems: tuple[str, ...] = ()
    slices: int = 0
    failure: Failure | None = None


def predict_studies(
    localizer_of: Callable[[str], Localizer], source: StudySource, study_ids: Iterable[str], *,
    name: str = "localizing", kept: Results[StudyPrediction] | None = None,
) -> Predictions:  # fmt: skip
    """Localizes studies one after another. A study that fails becomes a problem, and the others go on.

    The points are where the headers place their pixels, in a mirrored axial series too: there the patient's left has
    the smaller x.

    Args:
      localizer_of: gives the localizer that may see a study, by study id.
      name: what the progress is called.
      kept: studies that an interrupted call has localized; all others are added.
    """
    found: dict[str, StudyPrediction] = {}
    for study_id in track(list(study_ids), name):
        loaded = source.load(study_id)
        localize = partial(_localized, localizer_of, loaded)
        found[study_id] = (
            localize() if kept is None else kept.fetch(study_id, study_key(loaded, source.given), localize)
        )
    return Predictions(
        detections=tuple(d for p in found.values() for d in p.detections),
        localizations={
            study_id: {x.finding: x for x in p.localizations}
            for study_id, p in found.items()
            if p.localizations is not None
        },
        numbering={study_id: p.numbering for study_id, p in found.items() if p.numbering is not None},
        problems=tuple(text for p in found.values() for text in p.problems),
        slices=sum(p.slices for p in found.values()),
        failures=tuple(p.failure for p in found.values() if p.failure is not None),
    )


def _localized(localizer_of: Callable[[str], Localizer], loaded: LoadedStudy) -> StudyPrediction:
    study_id = loaded.study.study_id
    localizer = localizer_of(study_id)
    shown = as_shown(loaded.study, look=localizer.unmirror)
    problems = [*loaded.problems, *shown.problems]
    try:
        result = localizer.localize(shown.study)
    except InputError as error:
        message = f"study {study_id}: {error}"
        return StudyPrediction(problems=(*problems, message), failure=stopped(study_id, Stage.LOCALIZE, message))
    problems += result.problems
    if result.not_lumbar:
        problems.append(f"study {study_id}: no lumbar spine was seen: {result.not_lumbar}")
    return StudyPrediction(
        detections=result.detections,
        localizations=tuple(shown.as_given(x) for x in result.localizations.values()),
        numbering=result.numbering,
        problems=tuple(problems),
        slices=result.slices,
        failure=None if result.localizations or result.not_lumbar else _why_nothing(loaded.study),
    )


def _why_nothing(study: Study) -> Failure | None:
    """Why a study has no point, if files that cannot be read are the reason."""
    return unreadable(study.study_id) if unreadable_views(study) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictRequest:
    """Studies to localize with a run. Everything is read and checked at construction, before any folder is emptied.

    Attributes:
      run: folder of a finished `lumbar localize train`, or the one that ships (`localize.localizer.run_or_shipped`).
      source: the studies.
      folds: the trained folds to use; all of them by default.
      overrides: changes to how detections are made and decoded, for example `slices.focused=false`.
      device: any form of `--device`.
      backend: what computes the detectors.
      config: the run's config with the overrides.
      files: what each of the folds contributes.
      fold_of: the fold that held each study out, when the studies are those that the run was trained on; otherwise
        None, as always for the run that ships.

    Raises:
      InputError: as `Localizer.load`, or when the run's splits do not cover its training data.
    """

    run: Path
    source: StudySource
    folds: Collection[int] | None = None
    overrides: Sequence[str] = ()
    device: str = "auto"
    backend: Backend = TORCH
    config: LocalizeConfig = field(init=False, repr=False)
    files: Mapping[int, FoldFiles] = field(init=False, repr=False)
    fold_of: Mapping[str, int] | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        from localize.detector.yolo.library import torch_device

        checked: dict[str, Any] = {
            "files": read_folds(self.run, self.folds),
            "config": read_config(self.run, self.overrides),
            "fold_of": None,
        }
        if self.source.fingerprint == self.trained_on and not is_shipped(self.run):
            splits = read_splits(self.run / "splits.json")
            splits.check_covers(self.source.study_ids)
            checked["fold_of"] = fold_by_study(splits, checked["files"])
        checked["device"] = torch_device(self.device)  # loads torch, so it comes last
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @property
    def trained_on(self) -> str:
        """Fingerprint of the data that the run was trained on."""
        return str(read_run(self.run, expected_kind=KIND)["data_fingerprint"])

    @property
    def study_ids(self) -> tuple[str, ...]:
        """The studies to localize: of those that the run was trained on, the ones that the used folds held out."""
        return self.source.study_ids if self.fold_of is None else tuple(self.fold_of)

    @property
    def state(self) -> dict[str, Any]:
        """What a resumed call must agree with. The files of each study are compared one by one."""
        return {
            "data": digest_of(self.source.kind, self.study_ids, self.source.fingerprint),
            "localizer": trained_digest(self.run),
            "folds": list(self.files),
            "config": self.config.model_dump(mode="json"),
            "device": self.device,
            "backend": self.backend.name,
        }

    def load(self, folds: Sequence[int] | None) -> Localizer:
        """The localizer of the given folds; of all that are used for None."""
        log("loading the detectors" + ("" if folds is None else f" of fold {', '.join(map(str, folds))}"))
        files = [self.files[k] for k in (self.files if folds is None else folds)]
        return Localizer.of_folds(files, self.config, device=self.device, backend=self.backend)


def predict(request: PredictRequest, kept: Results[StudyPrediction] | None = None) -> Predictions:
    """Localizes the studies: those that the run was trained on out of fold, all others with its folds averaged.

    Training studies that none of the folds held out are left out.

    Args:
      kept: studies that an interrupted call has localized; all others are added.
    """
    if len(request.study_ids) < len(request.source.study_ids):
        every = len(request.source.study_ids)
        left_out = every - len(request.study_ids)
        log(f"left out: {left_out} of {counted(every, 'study')}, which no chosen fold of {request.run} held out")
    return predict_studies(FoldModels(request.load, request.fold_of), request.source, request.study_ids, kept=kept)


def write_predictions(folder: Path, predictions: Predictions) -> None:
    """Writes detections.csv, localizations.csv, numbering.csv and failures.csv."""
    write_failures(folder, predictions.failures)
    write_detections(folder / DETECTIONS_FILE, predictions.detections)
    write_numbering(folder / NUMBERING_FILE, predictions.numbering)
    write_localizations(folder / LOCALIZATIONS_FILE, predictions.localizations)


def write_prediction_run(
    folder: Path, request: PredictRequest, predictions: Predictions, *, started: float
) -> None:  # fmt: skip
    """Writes errors.json, where the data have annotated points, and run.json; the points must be written already."""
    data = request.source.challenge
    chosen = set(request.study_ids)
    points = {} if data is None else {s: p for s, p in data.points.items() if s in chosen}
    if data is not None and points:
        errors = collect(replace(data, points=points), predictions.localizations).errors
        write_jitter(folder / ERRORS_FILE, measure_jitter(errors))
    write_run(
        folder, command="localize predict", started=started, kind=PREDICTED_POINTS,
        studies=len(request.study_ids), data_fingerprint=request.source.fingerprint or "",
        localizer=sha256_of(request.run / RUN_FILE), shipped=is_shipped(request.run), trained_on=request.trained_on,
        out_of_fold=request.fold_of is not None, unmirror=request.config.axial.unmirror, device=request.device,
        backend=request.backend.name,
        localizations_sha256=sha256_of(folder / LOCALIZATIONS_FILE), numbering_uncertain=predictions.uncertain,
        problems=list(predictions.problems),
    )  # fmt: skip
