"""Detections and localizations of studies, from the models of a trained run."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from localize.anatomy import LUMBAR_SIZES, OTHER_SIZES, enlarged, look_at, why_endless, why_other_size
from localize.calibrate import IDENTITY, Calibration, calibrated, mean_calibration, read_calibration
from localize.config import LocalizeConfig
from localize.decoding.decode import StudyDecoding, decode_study
from localize.decoding.lift import lift
from localize.decoding.prior import ChainPrior, mean_prior, read_prior
from localize.decoding.sagittal import Spine
from localize.decoding.slice_selection import SliceSelection, first_slices, further_slices, is_conclusive, is_settled
from localize.detector.canvas import Canvas, fit_canvas, render
from shared.data.challenge import Challenge
from shared.detections import Detection, Localization, write_detections, write_localizations
from shared.dicom.pixels import slice_pixels
from shared.labels import Finding, Level, View
from shared.mirror.correct import as_shown
from shared.numbering import Numbering, write_numbering
from shared.orientation import AS_STORED
from shared.out_of_fold import LOCALIZATIONS_FILE, FoldModels, fold_by_study
from shared.runtime.errors import InputError
from shared.runtime.progress import log, track
from shared.runtime.run_folder import read_run, sha256_of, trained_folds
from shared.splits import read_splits
from shared.study import Series, Slice, Study

if TYPE_CHECKING:
    from localize.detector.yolo import Detector

KIND = "localize"
PREDICTION_SECTIONS = ("chain", "axial", "slices")
PRIOR_FILE = "chain.json"
CALIBRATION_FILE = "calibration.json"
DETECTIONS_FILE = "detections.csv"
NUMBERING_FILE = "numbering.csv"
# A localizer whose held-out points are right less often than this cannot tell anatomies apart.
_LEAST_RIGHT = 0.7


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyLocalization:
    """Stage 1's result for one study.

    Attributes:
      detections: every box above the lowest score, all views.
      localizations: a point for each finding whose series is there and shows its level.
      numbering: how certain the levels' names are; None when nothing was detected.
      problems: slices that could not be read.
      slices: number of slices that the detectors looked at.
      not_lumbar: why the study cannot show a lumbar spine; empty where it may. Nothing of such a study is graded.
    """

    detections: tuple[Detection, ...]
    localizations: dict[Finding, Localization]
    numbering: Numbering | None = None
    problems: tuple[str, ...] = ()
    slices: int = 0
    not_lumbar: str = ""


@dataclass(slots=True)
class _Observations:
    """The slices of a study that the detectors have looked at (series id, instance number), and what they saw."""

    slices: set[tuple[str, int]] = field(default_factory=set)
    detections: list[Detection] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictions:
    """Stage 1's results for many studies; `slices` is the number of slices that the detectors looked at."""

    detections: tuple[Detection, ...]
    localizations: dict[str, dict[Finding, Localization]]
    numbering: dict[str, Numbering]
    problems: tuple[str, ...]
    slices: int = 0

    @property
    def uncertain(self) -> list[str]:
        """Studies whose levels may all be one off."""
        return sorted(study_id for study_id, n in self.numbering.items() if not n.certain)

    def calibrated(self, calibration: Calibration) -> "Predictions":
        """The same predictions with the scores of all points calibrated."""
        found = {
            study_id: {finding: calibrated(item, calibration) for finding, item in of_study.items()}
            for study_id, of_study in self.localizations.items()
        }
        return replace(self, localizations=found)


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldFiles:
    """What one trained fold contributes to prediction: its model files, fitted prior and calibration."""

    models: Mapping[View, Path]
    prior: ChainPrior
    calibration: Calibration


def chosen_folds(run: Path, folds: Collection[int] | None = None) -> list[int]:
    """The given folds of a finished run, or all trained ones, ascending; raises `InputError` for an untrained fold."""
    trained = trained_folds(run, read_run(run, expected_kind=KIND))
    wanted = trained if folds is None else sorted(set(folds))
    missing = [k for k in wanted if k not in trained]
    if missing or not wanted:
        raise InputError(f"{run}: fold {missing[0] if missing else '(none)'} was not trained; trained folds: {trained}")
    return wanted


def read_folds(run: Path, folds: Collection[int] | None = None) -> dict[int, FoldFiles]:
    """Reads what the given folds of a finished run, or all trained ones, contribute to prediction.

    Raises:
      InputError: when the run is missing or unfinished, a fold was not trained, a file is damaged, or a model is not
        the one that the run's manifest names.
    """
    manifest = read_run(run, expected_kind=KIND)
    read = {}
    for fold in chosen_folds(run, folds):
        folder = run / f"fold{fold}"
        models = {}
        for slug, digest in manifest["folds"][str(fold)]["models"].items():
            view = View.from_slug(slug)
            models[view] = folder / f"{view.slug}.pt"
            if sha256_of(models[view]) != digest:
                raise InputError(
                    f"{models[view]}: SHA-256 differs from {run / 'run.json'}; the file was changed or replaced"
                )
        prior, calibration = read_prior(folder / PRIOR_FILE), read_calibration(folder / CALIBRATION_FILE)
        read[fold] = FoldFiles(models=models, prior=prior, calibration=calibration)
    return read


def read_config(run: Path, overrides: Sequence[str] = ()) -> LocalizeConfig:
    """The config of a run with the given changes; raises `InputError` for a change that concerns training."""
    for override in overrides:
        if override.partition(".")[0].strip() not in PREDICTION_SECTIONS:
            raise InputError(
                f"--set {override!r}: expected a key of {', '.join(PREDICTION_SECTIONS)}; the others belong to training"
            )
    return LocalizeConfig.load(run / "config.toml", tuple(overrides))


class Localizer:
    """The detectors of one or more folds with the chain prior and the calibration that were fitted beside them."""

    def __init__(
        self,
        detectors: "Mapping[View, Detector]",
        prior: ChainPrior,
        config: LocalizeConfig,
        calibration: Calibration = IDENTITY,
    ) -> None:
        self._detectors, self._prior, self.config, self._calibration = detectors, prior, config, calibration

    @classmethod
    def load(
        cls, run: Path, *, folds: Collection[int] | None = None, overrides: Sequence[str] = (), device: str = "auto"
    ) -> Self:
        """Loads a finished run. The outputs of the given folds, or of all trained ones, are averaged.

        Args:
          overrides: changes to how detections are made and decoded, for example `slices.focused=false`.

        Raises:
          InputError: as `read_folds` and `read_config`, or for a device that is not there.
        """
        return cls.of_folds(list(read_folds(run, folds).values()), read_config(run, overrides), device=device)

    @classmethod
    def of_folds(cls, folds: Sequence[FoldFiles], config: LocalizeConfig, *, device: str = "auto") -> Self:
        """Loads the models of the given folds, whose outputs are averaged."""
        from localize.detector.yolo import Detector, torch_device

        place, lowest = torch_device(device), min(config.chain.min_score, config.axial.min_score)
        views = dict.fromkeys(view for fold in folds for view in fold.models)
        detectors = {v: Detector([fold.models[v] for fold in folds if v in fold.models], place, lowest) for v in views}
        prior, calibration = mean_prior(f.prior for f in folds), mean_calibration(f.calibration for f in folds)
        return cls(detectors, prior, config, calibration)

    @property
    def unmirror(self) -> bool:
        """Whether mirrored axial series are localized as their pixels show them rather than as their headers say."""
        return self.config.axial.unmirror

    def localize(self, study: Study) -> StudyLocalization:
        """Detects on the slices that matter, or on all of them, and decodes a point for each finding.

        The planes of `study` are trusted: unless `unmirror` is off, it must come from `shared.mirror.correct.as_shown`.
        """
        study, seen = study.upright(), _Observations()
        conclusive = self._localize_focused(study, seen) if self.config.slices.focused else None
        if conclusive is None:
            self._look(study, {series.series_id: series.slices for series in study.series}, seen)
        decoding = conclusive or self._decode(study, seen)
        not_lumbar = self._why_not_lumbar(study, decoding.spine, sure=conclusive is not None)
        # From here on pixels are those of the files again.
        return StudyLocalization(
            detections=tuple(_stored_detection(study, d) for d in seen.detections),
            localizations={f: _stored_localization(study, x) for f, x in decoding.localizations.items()},
            numbering=decoding.numbering, problems=tuple(seen.problems), slices=len(seen.slices), not_lumbar=not_lumbar,
        )  # fmt: skip

    def _why_not_lumbar(self, study: Study, spine: Spine | None, *, sure: bool) -> str:
        """A localizer that errs too often cannot answer. Sizes are compared only where there is a doubt."""
        if self._calibration.share_right < _LEAST_RIGHT:
            return ""
        endless = why_endless(study, spine, sure=False)
        if why_endless(study, spine, sure=sure):
            return endless
        if (sure and not endless) or not study.of_view(View.SAGITTAL_T2):
            return ""
        suspicion = endless or ("the header names another region" if study.other_region else "")
        looks = []
        for factor in (*LUMBAR_SIZES, *OTHER_SIZES):
            larger, seen = enlarged(study, factor), _Observations()
            self._look(larger, {series.series_id: series.slices for series in larger.series}, seen)
            looks.append(look_at(lift(larger, seen.detections, self._prior), factor, self._prior, self.config.chain))
        return why_other_size(looks, self._prior, suspicion=suspicion)

    def _localize_focused(self, study: Study, seen: _Observations) -> StudyDecoding | None:
        """Looks at the slices that matter; None when they leave a doubt."""
        first = first_slices(study, self.config)
        self._look(study, first, seen)
        spine = self._decode(study, seen).spine
        if spine is None or not is_settled(study, spine, first, self.config):
            return None
        self._look(study, further_slices(study, spine, self._prior, self.config), seen)
        decoding = self._decode(study, seen)
        return decoding if is_conclusive(spine, decoding, self.config) else None

    def _decode(self, study: Study, seen: _Observations) -> StudyDecoding:
        return decode_study(study, seen.detections, self._prior, self.config, self._calibration)

    def _look(self, study: Study, selection: SliceSelection, seen: _Observations) -> None:
        """Runs the detectors on those of the selected slices that they have not looked at yet."""
        for series in study.series:
            if series.view not in self._detectors:
                continue
            wanted = selection.get(series.series_id, ())
            new = [item for item in wanted if (series.series_id, item.instance_number) not in seen.slices]
            seen.slices.update((series.series_id, item.instance_number) for item in new)
            detections, problems = self._detect(study.study_id, series, new)
            seen.detections.extend(detections)
            seen.problems.extend(problems)

    def _detect(self, study_id: str, series: Series, slices: Sequence[Slice]) -> tuple[list[Detection], list[str]]:
        section = self.config.of_view(series.view)
        problems: list[str] = []
        groups: dict[tuple[int, int], list[tuple[int, Canvas, NDArray[np.uint8]]]] = {}
        for item in slices:
            try:
                pixels = slice_pixels(item)
            except InputError as error:
                problems.append(f"study {study_id} series {series.series_id}: {error}")
                continue
            canvas = fit_canvas(item, section.mm_per_px, section.image_px, crop=False)
            groups.setdefault(canvas.shape, []).append((item.instance_number, canvas, render(pixels, canvas)))
        detections: list[Detection] = []
        for members in groups.values():
            results = self._detectors[series.view].detect([image for _, _, image in members])
            for (number, canvas, _), boxes in zip(members, results, strict=True):
                xyxy = canvas.boxes_to_slice(boxes.xyxy)
                for (left, top, right, bottom), level, score in zip(xyxy, boxes.level, boxes.score, strict=True):
                    if not (left < right and top < bottom):
                        continue
                    detections.append(Detection(
                        study_id=study_id, series_id=series.series_id, instance_number=number, view=series.view,
                        level=Level(int(level)), box_xyxy_px=(float(left), float(top), float(right), float(bottom)),
                        score=float(score),
                    ))  # fmt: skip
        return detections, problems


def _slice_of(study: Study, place: Detection | Localization) -> Slice | None:
    series = study.get(place.series_id)
    return None if series is None else series.by_instance(place.instance_number)


def _stored_detection(study: Study, detection: Detection) -> Detection:
    """The detection with its box in pixels of the file, given the upright study that it was found in."""
    item = _slice_of(study, detection)
    if item is None or item.orientation == AS_STORED:
        return detection
    corners = item.to_stored(np.reshape(detection.box_xyxy_px, (2, 2)))
    left, top, right, bottom = (float(v) for v in (*corners.min(axis=0), *corners.max(axis=0)))
    return replace(detection, box_xyxy_px=(left, top, right, bottom))


def _stored_localization(study: Study, point: Localization) -> Localization:
    """The point in pixels of the file, given the upright study that it was found in."""
    item = _slice_of(study, point)
    if item is None or item.orientation == AS_STORED:
        return point
    x_px, y_px = (float(v) for v in item.to_stored((point.x_px, point.y_px)))
    return replace(point, x_px=x_px, y_px=y_px)


def predict_studies(
    localizer_of: Callable[[str], Localizer], data: Challenge, study_ids: Iterable[str], *, name: str = "localizing"
) -> Predictions:
    """Localizes studies one after another. A study that fails becomes a problem, and the others go on.

    The points are where the headers place their pixels, in a mirrored axial series too: there the patient's left has
    the smaller x.

    Args:
      localizer_of: gives the localizer that may see a study, by study id.
      name: what the progress is called.
    """
    detections: list[Detection] = []
    localizations: dict[str, dict[Finding, Localization]] = {}
    numbering: dict[str, Numbering] = {}
    problems: list[str] = []
    slices = 0
    for study_id in track(list(study_ids), name):
        localizer, loaded = localizer_of(study_id), data.load_study(study_id)
        shown = as_shown(loaded.study, look=localizer.unmirror)
        problems += (*loaded.problems, *shown.problems)
        try:
            result = localizer.localize(shown.study)
        except InputError as error:
            problems.append(f"study {study_id}: {error}")
            continue
        finally:
            del localizer  # so that one fold's models are freed before the next fold's are loaded
        detections += result.detections
        localizations[study_id] = {f: shown.as_given(x) for f, x in result.localizations.items()}
        if result.numbering is not None:
            numbering[study_id] = result.numbering
        problems += result.problems
        if result.not_lumbar:
            problems.append(f"study {study_id}: no lumbar spine was seen: {result.not_lumbar}")
        slices += result.slices
    return Predictions(
        detections=tuple(detections), localizations=localizations, numbering=numbering, problems=tuple(problems),
        slices=slices,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictRequest:
    """Studies to localize with a run. Everything is read and checked at construction, before any folder is emptied.

    Attributes:
      run: folder of a finished `lumbar localize train`.
      data: the studies.
      folds: the trained folds to use; all of them by default.
      overrides: changes to how detections are made and decoded, for example `slices.focused=false`.
      device: any form of `--device`.
      config: the run's config with the overrides.
      files: what each of the folds contributes.
      fold_of: the fold that held each study out, when the data are those that the run was trained on; otherwise None.

    Raises:
      InputError: as `Localizer.load`, or when the run's splits do not cover its training data.
    """

    run: Path
    data: Challenge
    folds: Collection[int] | None = None
    overrides: Sequence[str] = ()
    device: str = "auto"
    config: LocalizeConfig = field(init=False, repr=False)
    files: Mapping[int, FoldFiles] = field(init=False, repr=False)
    fold_of: Mapping[str, int] | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        from localize.detector.yolo import torch_device

        checked: dict[str, Any] = {
            "config": read_config(self.run, self.overrides),
            "files": read_folds(self.run, self.folds),
            "fold_of": None,
            "device": torch_device(self.device),
        }
        if self.data.fingerprint == read_run(self.run, expected_kind=KIND).get("data_fingerprint"):
            splits = read_splits(self.run / "splits.json")
            splits.check_covers(self.data.study_ids)
            checked["fold_of"] = fold_by_study(splits, checked["files"])
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    def load(self, folds: Sequence[int] | None) -> Localizer:
        """The localizer of the given folds; of all that are used for None."""
        files = [self.files[k] for k in (self.files if folds is None else folds)]
        return Localizer.of_folds(files, self.config, device=self.device)


def predict(request: PredictRequest) -> Predictions:
    """Localizes the studies: those that the run was trained on out of fold, all others with its folds averaged.

    Training studies that none of the folds held out are left out.
    """
    study_ids, fold_of = request.data.study_ids, request.fold_of
    if fold_of is not None and len(fold_of) < len(study_ids):
        left_out = len(study_ids) - len(fold_of)
        log(f"left out: {left_out} of {len(study_ids)} studies, which no chosen fold of {request.run} held out")
    return predict_studies(FoldModels(request.load, fold_of), request.data, study_ids if fold_of is None else fold_of)


def write_predictions(folder: Path, predictions: Predictions) -> None:
    """Writes detections.csv, localizations.csv and numbering.csv."""
    write_detections(folder / DETECTIONS_FILE, predictions.detections)
    write_numbering(folder / NUMBERING_FILE, predictions.numbering)
    write_localizations(folder / LOCALIZATIONS_FILE, predictions.localizations)
