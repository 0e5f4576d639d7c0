"""A trained run -> detections and localizations of new studies."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from localize.axial import localize_axial
from localize.canvas import Canvas, fit_canvas, render
from localize.config import LocalizeConfig
from localize.device import resolve_device
from localize.lateral import localize_sagittal, locate_spine
from localize.levels import decode_chain, lift
from localize.prior import ChainPrior, mean_prior, read_prior
from shared.challenge import Challenge
from shared.detections import Detection, Localization, write_detections, write_localizations
from shared.dicom import read_pixels
from shared.errors import InputError
from shared.labels import Finding, Level, View
from shared.manifest import data_fingerprint, read_run, sha256_of
from shared.progress import log, track
from shared.splits import read_splits
from shared.study import Series, Study

if TYPE_CHECKING:
    from localize.yolo import Detector

KIND = "localize"


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyLocalization:
    """What stage 1 says of one study.

    Attributes:
      detections: every box above the lowest score, all views.
      localizations: a point for each finding whose view is there and shows its level.
      problems: slices that could not be read.
    """

    detections: tuple[Detection, ...]
    localizations: dict[Finding, Localization]
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictions:
    """What stage 1 says of many studies."""

    detections: tuple[Detection, ...]
    localizations: dict[str, dict[Finding, Localization]]
    problems: tuple[str, ...]


def chosen_folds(run: Path, folds: Sequence[int] | None = None) -> list[int]:
    """The given folds of a finished run, or all that were trained, ascending; `InputError` for one that was not."""
    trained = sorted(int(k) for k in read_run(run, expected_kind=KIND).get("folds", {}))
    wanted = trained if folds is None else sorted(set(folds))
    missing = [k for k in wanted if k not in trained]
    if missing or not wanted:
        raise InputError(f"{run}: fold {missing[0] if missing else '(none)'} was not trained; it has {trained}")
    return wanted


class Localizer:
    """The detectors of one or more folds, with the chain prior fitted beside them."""

    def __init__(self, detectors: "Mapping[View, Detector]", prior: ChainPrior, config: LocalizeConfig) -> None:
        self._detectors, self._prior, self.config = detectors, prior, config

    @classmethod
    def load(cls, run: Path, *, folds: Sequence[int] | None = None, device: str = "auto") -> "Localizer":
        """Loads a finished run; without `folds` all that were trained, whose outputs are then averaged.

        Raises:
          InputError: when the run is missing or unfinished, a fold was not trained, or a model file is not the one
            the run's manifest names.
        """
        wanted = chosen_folds(run, folds)
        trained = read_run(run, expected_kind=KIND)["folds"]
        config = LocalizeConfig.load(run / "config.toml")
        paths: dict[View, list[Path]] = {}
        for fold in wanted:
            for slug, digest in trained[str(fold)]["models"].items():
                path = run / f"fold{fold}" / f"{View.from_slug(slug).slug}.pt"
                if sha256_of(path) != digest:
                    raise InputError(
                        f"{path}: SHA-256 differs from {run / 'run.json'}; the file was changed or replaced"
                    )
                paths.setdefault(View.from_slug(slug), []).append(path)
        prior = mean_prior(read_prior(run / f"fold{fold}" / "chain.json") for fold in wanted)
        return cls.from_paths(paths, prior, config, device=device)

    @classmethod
    def from_paths(
        cls, paths: Mapping[View, Sequence[Path]], prior: ChainPrior, config: LocalizeConfig, *, device: str = "auto"
    ) -> "Localizer":
        """From model files whose origin the caller answers for."""
        from localize.yolo import Detector

        place = resolve_device(device)
        lowest = min(config.chain.min_score, config.axial.min_score)
        return cls({view: Detector(files, place, lowest) for view, files in paths.items()}, prior, config)

    def localize(self, study: Study) -> StudyLocalization:
        """Detects on every slice of the study and decodes the findings' points."""
        detections: list[Detection] = []
        problems: list[str] = []
        for series in study.series:
            if series.view in self._detectors:
                found, unread = self._detect(study.study_id, series)
                detections.extend(found)
                problems.extend(unread)
        localizations = decode_study(study, detections, self._prior, self.config)
        return StudyLocalization(detections=tuple(detections), localizations=localizations, problems=tuple(problems))

    def _detect(self, study_id: str, series: Series) -> tuple[list[Detection], list[str]]:
        section = self.config.of_view(series.view)
        problems: list[str] = []
        groups: dict[tuple[int, int], list[tuple[int, Canvas, NDArray[np.uint8]]]] = {}
        for item in series.slices:
            try:
                pixels = read_pixels(item.path)
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


def decode_study(
    study: Study, detections: Sequence[Detection], prior: ChainPrior, config: LocalizeConfig
) -> dict[Finding, Localization]:
    """Detections of all views -> a point for each finding that can be placed, in canonical order.

    The order of the detections does not matter.
    """
    detections = sorted(
        detections, key=lambda d: (d.view, d.series_id, d.instance_number, d.level, -d.score, d.box_xyxy_px)
    )
    lifted = lift(study, detections, prior)
    chain = decode_chain(lifted, prior, config.chain)
    spine = locate_spine(chain, lifted, prior)
    found = {} if spine is None else localize_sagittal(study, spine, lifted, prior)
    found |= localize_axial(study, detections, spine, prior, config)
    return dict(sorted(found.items(), key=lambda item: item[0].index))


def predict_studies(
    localizer: Localizer, data: Challenge, study_ids: Iterable[str], *, name: str = "localizing"
) -> Predictions:
    """Localizes studies one after another; one that fails is a problem and the others go on."""
    detections: list[Detection] = []
    localizations: dict[str, dict[Finding, Localization]] = {}
    problems: list[str] = []
    for study_id in track(list(study_ids), name):
        loaded = data.load_study(study_id)
        problems.extend(loaded.problems)
        try:
            result = localizer.localize(loaded.study)
        except InputError as error:
            problems.append(f"study {study_id}: {error}")
            continue
        problems.extend(result.problems)
        detections.extend(result.detections)
        localizations[study_id] = result.localizations
    return Predictions(detections=tuple(detections), localizations=localizations, problems=tuple(problems))


def predict_data(
    run: Path, data: Challenge, *, folds: Sequence[int] | None = None, device: str = "auto"
) -> Predictions:
    """Localizes every study of `data`: the run's own training studies out of fold, others with its folds averaged."""
    if data_fingerprint(data) == read_run(run, expected_kind=KIND).get("data_fingerprint"):
        return predict_out_of_fold(run, data, folds=folds, device=device)
    return predict_studies(Localizer.load(run, folds=folds, device=device), data, data.study_ids)


def predict_out_of_fold(
    run: Path, data: Challenge, *, folds: Sequence[int] | None = None, device: str = "auto"
) -> Predictions:
    """Localizes training studies, each with the fold that held it out; studies of other folds are left out.

    Raises:
      InputError: when the run's splits are not of these data, or as `Localizer.load`.
    """
    splits = read_splits(run / "splits.json")
    splits.check_covers(data.study_ids)
    detections: list[Detection] = []
    localizations: dict[str, dict[Finding, Localization]] = {}
    problems: list[str] = []
    wanted = chosen_folds(run, folds)
    for fold in wanted:
        localizer = Localizer.load(run, folds=[fold], device=device)
        of_fold = predict_studies(localizer, data, splits.held_out(fold), name=f"fold {fold}: localizing")
        detections.extend(of_fold.detections)
        localizations |= of_fold.localizations
        problems.extend(of_fold.problems)
    left_out = len(data.study_ids) - sum(len(splits.held_out(fold)) for fold in wanted)
    if left_out:
        log(f"left out: {left_out} of {len(data.study_ids)} studies, which no chosen fold of {run} held out")
    return Predictions(detections=tuple(detections), localizations=localizations, problems=tuple(problems))


def write_predictions(folder: Path, predictions: Predictions) -> None:
    """Writes detections.csv and localizations.csv."""
    write_detections(folder / "detections.csv", predictions.detections)
    write_localizations(folder / "localizations.csv", predictions.localizations)
