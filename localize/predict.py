"""A trained run -> detections and localizations of new studies."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from localize.calibrate import IDENTITY, Calibration, calibrated, mean_calibration, read_calibration
from localize.config import LocalizeConfig
from localize.decoding.decode import Decoded, decode_study
from localize.decoding.prior import ChainPrior, mean_prior, read_prior
from localize.decoding.slice_selection import Chosen, first_slices, further_slices, is_conclusive, is_settled
from localize.detector.canvas import Canvas, fit_canvas, render
from localize.device import resolve_device
from shared.data.challenge import Challenge
from shared.detections import Detection, Localization, write_detections, write_localizations
from shared.dicom.pixels import slice_pixels
from shared.labels import Finding, Level, View
from shared.mirror.correct import as_shown
from shared.numbering import Numbering, write_numbering
from shared.runtime.errors import InputError
from shared.runtime.progress import log, track
from shared.runtime.run import read_run, sha256_of
from shared.splits import read_splits
from shared.study import Series, Slice, Study

if TYPE_CHECKING:
    from localize.detector.yolo import Detector

KIND = "localize"
PREDICTION_SECTIONS = ("chain", "axial", "slices")
CALIBRATION_FILE = "calibration.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyLocalization:
    """What stage 1 says of one study.

    Attributes:
      detections: every box above the lowest score, all views.
      localizations: a point for each finding whose view is there and shows its level.
      numbering: how sure the levels' names are; None where nothing was detected.
      problems: slices that could not be read.
      slices: how many the detectors looked at.
    """

    detections: tuple[Detection, ...]
    localizations: dict[Finding, Localization]
    numbering: Numbering | None = None
    problems: tuple[str, ...] = ()
    slices: int = 0


@dataclass(slots=True)
class _Looked:
    """What the detectors have looked at so far (series id, instance number), and what they saw."""

    slices: set[tuple[str, int]] = field(default_factory=set)
    detections: list[Detection] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictions:
    """What stage 1 says of many studies; `slices` is how many the detectors looked at."""

    detections: tuple[Detection, ...]
    localizations: dict[str, dict[Finding, Localization]]
    numbering: dict[str, Numbering]
    problems: tuple[str, ...]
    slices: int = 0

    @property
    def uncertain(self) -> list[str]:
        """Studies whose levels may be one off."""
        return sorted(study_id for study_id, n in self.numbering.items() if not n.certain)

    def calibrated(self, calibration: Calibration) -> "Predictions":
        """The same with the scores of all points calibrated."""
        found = {
            study_id: {finding: calibrated(item, calibration) for finding, item in of_study.items()}
            for study_id, of_study in self.localizations.items()
        }
        return replace(self, localizations=found)


def pooled(parts: Iterable[Predictions]) -> Predictions:
    """The predictions of several sets of studies together."""
    every = list(parts)
    return Predictions(
        detections=tuple(d for p in every for d in p.detections),
        localizations={s: found for p in every for s, found in p.localizations.items()},
        numbering={s: n for p in every for s, n in p.numbering.items()},
        problems=tuple(text for p in every for text in p.problems),
        slices=sum(p.slices for p in every),
    )


def chosen_folds(run: Path, folds: Sequence[int] | None = None) -> list[int]:
    """The given folds of a finished run, or all that were trained, ascending; `InputError` for one that was not."""
    trained = sorted(int(k) for k in read_run(run, expected_kind=KIND).get("folds", {}))
    wanted = trained if folds is None else sorted(set(folds))
    missing = [k for k in wanted if k not in trained]
    if missing or not wanted:
        raise InputError(f"{run}: fold {missing[0] if missing else '(none)'} was not trained; it has {trained}")
    return wanted


def check_run(
    run: Path, data: Challenge, *, folds: Sequence[int] | None = None, overrides: Sequence[str] = (), device: str
) -> None:
    """What `predict_data` would stumble over, before any folder is emptied for its output.

    Raises:
      InputError: as `Localizer.load` and `predict_out_of_fold`, or for a device that is not there.
    """
    facts = read_run(run, expected_kind=KIND)
    _overridden(run / "config.toml", overrides)
    for fold in chosen_folds(run, folds):
        _models(run, fold)
        read_prior(run / f"fold{fold}" / "chain.json")
        read_calibration(run / f"fold{fold}" / CALIBRATION_FILE)
    if data.fingerprint == facts.get("data_fingerprint"):
        read_splits(run / "splits.json").check_covers(data.study_ids)
    resolve_device(device)


def _models(run: Path, fold: int) -> dict[View, Path]:
    """A trained fold's model files; `InputError` for one that is not what the run's manifest names."""
    models = {}
    for slug, digest in read_run(run, expected_kind=KIND)["folds"][str(fold)]["models"].items():
        view = View.from_slug(slug)
        models[view] = run / f"fold{fold}" / f"{view.slug}.pt"
        if sha256_of(models[view]) != digest:
            raise InputError(
                f"{models[view]}: SHA-256 differs from {run / 'run.json'}; the file was changed or replaced"
            )
    return models


def _overridden(path: Path, overrides: Sequence[str]) -> LocalizeConfig:
    for override in overrides:
        if override.partition(".")[0].strip() not in PREDICTION_SECTIONS:
            raise InputError(
                f"--set {override!r}: expected a key of {', '.join(PREDICTION_SECTIONS)}; the others belong to training"
            )
    return LocalizeConfig.load(path, tuple(overrides))


class Localizer:
    """The detectors of one or more folds, with the chain prior and the calibration fitted beside them."""

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
        cls, run: Path, *, folds: Sequence[int] | None = None, overrides: Sequence[str] = (), device: str = "auto"
    ) -> "Localizer":
        """Loads a finished run; without `folds` all that were trained, whose outputs are then averaged.

        `overrides` change how the run's detections are made and decoded, for example `slices.focused=false`.

        Raises:
          InputError: when the run is missing or unfinished, a fold was not trained, a model file is not the one the
            run's manifest names, or an override concerns training.
        """
        wanted = chosen_folds(run, folds)
        config = _overridden(run / "config.toml", overrides)
        paths: dict[View, list[Path]] = {}
        for fold in wanted:
            for view, path in _models(run, fold).items():
                paths.setdefault(view, []).append(path)
        folders = [run / f"fold{fold}" for fold in wanted]
        prior = mean_prior(read_prior(folder / "chain.json") for folder in folders)
        calibration = mean_calibration(read_calibration(folder / CALIBRATION_FILE) for folder in folders)
        return cls.from_paths(paths, prior, config, calibration=calibration, device=device)

    @classmethod
    def from_paths(
        cls,
        paths: Mapping[View, Sequence[Path]],
        prior: ChainPrior,
        config: LocalizeConfig,
        *,
        calibration: Calibration = IDENTITY,
        device: str = "auto",
    ) -> "Localizer":
        """From model files whose origin the caller answers for."""
        from localize.detector.yolo import Detector

        place = resolve_device(device)
        lowest = min(config.chain.min_score, config.axial.min_score)
        return cls({view: Detector(files, place, lowest) for view, files in paths.items()}, prior, config, calibration)

    @property
    def unmirror(self) -> bool:
        """Whether studies are localized as their pictures show them, or as their headers say."""
        return self.config.axial.unmirror

    def localize(self, study: Study) -> StudyLocalization:
        """Detects on the slices that matter, or on all, and decodes the findings' points.

        It believes the planes of `study`: give it one from `shared.mirror.correct.as_shown`, unless `unmirror` is off.
        """
        looked = _Looked()
        decoded = self._focused(study, looked) if self.config.slices.focused else None
        if decoded is None:
            self._look(study, {series.series_id: series.slices for series in study.series}, looked)
            decoded = self._decode(study, looked)
        return StudyLocalization(
            detections=tuple(looked.detections),
            localizations=decoded.localizations,
            numbering=decoded.numbering,
            problems=tuple(looked.problems),
            slices=len(looked.slices),
        )

    def _focused(self, study: Study, looked: "_Looked") -> Decoded | None:
        """Looks at the slices that matter; None when they leave a doubt."""
        first = first_slices(study, self.config)
        self._look(study, first, looked)
        spine = self._decode(study, looked).spine
        if spine is None or not is_settled(study, spine, first, self.config):
            return None
        self._look(study, further_slices(study, spine, self._prior, self.config), looked)
        decoded = self._decode(study, looked)
        settled = is_conclusive(spine, decoded, self.config)
        return decoded if settled else None

    def _decode(self, study: Study, looked: "_Looked") -> Decoded:
        return decode_study(study, looked.detections, self._prior, self.config, self._calibration)

    def _look(self, study: Study, chosen: Chosen, looked: "_Looked") -> None:
        """Runs the detectors on those of the chosen slices that they have not seen yet."""
        for series in study.series:
            if series.view not in self._detectors:
                continue
            new = [
                s
                for s in chosen.get(series.series_id, ())
                if (series.series_id, s.instance_number) not in looked.slices
            ]
            looked.slices.update((series.series_id, item.instance_number) for item in new)
            detections, problems = self._detect(study.study_id, series, new)
            looked.detections.extend(detections)
            looked.problems.extend(problems)

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
                    detections.append(
                        Detection(
                            study_id=study_id,
                            series_id=series.series_id,
                            instance_number=number,
                            view=series.view,
                            level=Level(int(level)),
                            box_xyxy_px=(float(left), float(top), float(right), float(bottom)),
                            score=float(score),
                        )
                    )
        return detections, problems


def predict_studies(
    localizer: Localizer, data: Challenge, study_ids: Iterable[str], *, name: str = "localizing"
) -> Predictions:
    """Localizes studies one after another; one that fails is a problem and the others go on.

    Points lie where the headers put their pixels, also in a mirrored axial series, whose left is then at negative x.
    """
    parts = []
    for study_id in track(list(study_ids), name):
        loaded = data.load_study(study_id)
        shown = as_shown(loaded.study, look=localizer.unmirror)
        try:
            result = localizer.localize(shown.study)
        except InputError as error:
            problems = (*loaded.problems, *shown.problems, f"study {study_id}: {error}")
            parts.append(Predictions(detections=(), localizations={}, numbering={}, problems=problems))
            continue
        parts.append(
            Predictions(
                detections=result.detections,
                localizations={study_id: {f: shown.as_given(x) for f, x in result.localizations.items()}},
                numbering={} if result.numbering is None else {study_id: result.numbering},
                problems=(*loaded.problems, *shown.problems, *result.problems),
                slices=result.slices,
            )
        )
    return pooled(parts)


def predict_data(
    run: Path,
    data: Challenge,
    *,
    folds: Sequence[int] | None = None,
    overrides: Sequence[str] = (),
    device: str = "auto",
) -> Predictions:
    """Localizes every study of `data`: the run's own training studies out of fold, others with its folds averaged."""
    if data.fingerprint == read_run(run, expected_kind=KIND).get("data_fingerprint"):
        return predict_out_of_fold(run, data, folds=folds, overrides=overrides, device=device)
    localizer = Localizer.load(run, folds=folds, overrides=overrides, device=device)
    return predict_studies(localizer, data, data.study_ids)


def predict_out_of_fold(
    run: Path,
    data: Challenge,
    *,
    folds: Sequence[int] | None = None,
    overrides: Sequence[str] = (),
    device: str = "auto",
) -> Predictions:
    """Localizes training studies, each with the fold that held it out; studies of other folds are left out.

    Raises:
      InputError: when the run's splits are not of these data, or as `Localizer.load`.
    """
    splits = read_splits(run / "splits.json")
    splits.check_covers(data.study_ids)
    wanted = chosen_folds(run, folds)
    parts = []
    for fold in wanted:
        localizer = Localizer.load(run, folds=[fold], overrides=overrides, device=device)
        parts.append(predict_studies(localizer, data, splits.held_out(fold), name=f"fold {fold}: localizing"))
    left_out = len(data.study_ids) - sum(len(splits.held_out(fold)) for fold in wanted)
    if left_out:
        log(f"left out: {left_out} of {len(data.study_ids)} studies, which no chosen fold of {run} held out")
    return pooled(parts)


def write_predictions(folder: Path, predictions: Predictions) -> None:
    """Writes detections.csv, localizations.csv and numbering.csv."""
    write_detections(folder / "detections.csv", predictions.detections)
    write_numbering(folder / "numbering.csv", predictions.numbering)
    write_localizations(folder / "localizations.csv", predictions.localizations)
