"""The localizer: the models of a trained run, applied to one study."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import numpy as np
from numpy.typing import NDArray

from localize.anatomy import (
    LUMBAR_SIZES,
    OTHER_SIZES,
    enlarged,
    look_at,
    sacrum_room_mm,
    why_no_sacrum,
    why_other_size,
    why_unanchored,
)
from localize.calibrate import IDENTITY, Calibration, mean_calibration, read_calibration
from localize.config import LocalizeConfig
from localize.decoding.decode import StudyDecoding, decode_study
from localize.decoding.lift import lift
from localize.decoding.prior import ChainPrior, mean_prior, read_prior
from localize.decoding.slice_selection import SliceSelection, first_slices, further_slices, is_conclusive, is_settled
from localize.detector.canvas import Canvas, fit_canvas, render
from shared.backends.backend import TORCH, Backend
from shared.detections import Detection, Localization
from shared.dicom.pixels import slice_pixels
from shared.labels import Finding, Level, View
from shared.numbering import Numbering
from shared.orientation import AS_STORED
from shared.runtime.errors import InputError
from shared.runtime.problems import counted, folded
from shared.runtime.run_folder import RUN_FILE, read_run, sha256_of, trained_folds
from shared.study import Series, Slice, Study

if TYPE_CHECKING:
    from localize.detector.yolo.inference import Detector

KIND: Final = "localize"
CONFIG_FILE: Final = "config.toml"
PRIOR_FILE: Final = "chain.json"
CALIBRATION_FILE: Final = "calibration.json"
LOG_FILE: Final = "log.csv"
# A finished run whose detectors ship with the package. Without splits and points: it has nothing to say of its studies.
SHIPPED_RUN: Path = Path(__file__).parent / "weights"
# Sections of the config that prediction alone reads.
PREDICTION_SECTIONS: Final = ("chain", "axial", "slices")
# A localizer whose held-out points are right less often than this cannot tell anatomies apart.
_LEAST_RIGHT: Final = 0.7


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
    unreadable: dict[str, list[InputError]] = field(default_factory=dict)

    def problems(self, study: Study) -> list[str]:
        """The slices of each series that could not be read."""
        found = []
        for series in study.series:
            errors, slices = self.unreadable.get(series.series_id, ()), len(series.slices)
            where = f"study {study.study_id} series {series.series_id}"
            found += folded(where, errors, f"of {counted(slices, 'slice')} cannot be read")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldFiles:
    """What one trained fold contributes to prediction: its model files, fitted prior and calibration."""

    models: Mapping[View, Path]
    prior: ChainPrior
    calibration: Calibration


def run_or_shipped(run: Path | None) -> Path:
    """The given run, or that of the detectors that ship with the package.

    Raises:
      InputError: for None, when the package lacks some of the files.
    """
    if run is not None:
        return run
    missing = [name for name in _shipped_files() if not (SHIPPED_RUN / name).is_file()]
    if missing:
        raise InputError(
            f"{SHIPPED_RUN}: the detectors that ship with the package are not there ({', '.join(missing)} missing); "
            "install the package or check it out again, or give a run of `lumbar localize train`"
        )
    return SHIPPED_RUN


def is_shipped(run: Path) -> bool:
    """Whether a run is the one that ships. It has seen no study of the user's, so all its folds answer any study."""
    return run.resolve() == SHIPPED_RUN.resolve()


def _shipped_files() -> list[str]:
    """What prediction reads of the shipped run; only run.json where that is missing, because it names the rest."""
    if not (SHIPPED_RUN / RUN_FILE).is_file():
        return [RUN_FILE]
    files = [CONFIG_FILE]
    for name, fold in read_run(SHIPPED_RUN, expected_kind=KIND)["folds"].items():
        models = [detector_file(Path(), View.from_slug(slug)).name for slug in fold["models"]]
        files += [f"fold{name}/{file}" for file in (*models, PRIOR_FILE, CALIBRATION_FILE)]
    return files


def chosen_folds(run: Path, folds: Collection[int] | None = None) -> list[int]:
    """The given folds of a finished run, or all trained ones, ascending; raises `InputError` for an untrained fold."""
    trained = trained_folds(run, read_run(run, expected_kind=KIND))
    wanted = trained if folds is None else sorted(set(folds))
    missing = [k for k in wanted if k not in trained]
    if missing or not wanted:
        raise InputError(f"{run}: fold {missing[0] if missing else '(none)'} was not trained; trained folds: {trained}")
    return wanted


def detector_file(fold: Path, view: View) -> Path:
    """Where a fold keeps the detector of a view."""
    return fold / f"{view.slug}.safetensors"


def shipped_detector(view: View) -> Path:
    """The detector of a view that ships with the package; raises `InputError` where it is missing."""
    run = run_or_shipped(None)
    return detector_file(next(run / f"fold{name}" for name in read_run(run, expected_kind=KIND)["folds"]), view)


def check_format(run: Path) -> None:
    """Raises `InputError` for a run of an earlier release, whose detectors are pickles."""
    if any(run.glob("fold[0-9]*/*.pt")):
        raise InputError(
            f"{run}: its detectors are .pt files, as earlier releases wrote them; convert the run with "
            f"`lumbar localize convert {run} OUT`"
        )


def read_folds(run: Path, folds: Collection[int] | None = None) -> dict[int, FoldFiles]:
    """Reads what the given folds of a finished run, or all trained ones, contribute to prediction.

    Raises:
      InputError: when the run is missing or unfinished, a fold was not trained, a file is damaged, or a model is not
        the one that the run's manifest names.
    """
    manifest = read_run(run, expected_kind=KIND)
    check_format(run)
    read = {}
    for fold in chosen_folds(run, folds):
        folder = run / f"fold{fold}"
        models = {}
        for slug, digest in manifest["folds"][str(fold)]["models"].items():
            view = View.from_slug(slug)
            models[view] = detector_file(folder, view)
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
    return LocalizeConfig.load(run / CONFIG_FILE, tuple(overrides))


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
        cls, run: Path, *, folds: Collection[int] | None = None, overrides: Sequence[str] = (), device: str = "auto",
        backend: Backend = TORCH,
    ) -> Self:  # fmt: skip
        """Loads a finished run. The outputs of the given folds, or of all trained ones, are averaged.

        Args:
          overrides: changes to how detections are made and decoded, for example `slices.focused=false`.
          backend: what computes the detectors.

        Raises:
          InputError: as `read_folds`, `read_config` and `Backend.network`, or for a device that is not there.
        """
        files, config = list(read_folds(run, folds).values()), read_config(run, overrides)
        return cls.of_folds(files, config, device=device, backend=backend)

    @classmethod
    def of_folds(
        cls, folds: Sequence[FoldFiles], config: LocalizeConfig, *, device: str = "auto", backend: Backend = TORCH
    ) -> Self:
        """Loads the models of the given folds, whose outputs are averaged."""
        from localize.detector.yolo.inference import Detector
        from localize.detector.yolo.library import torch_device

        place = backend.place(device, torch_device(device))
        lowest = min(config.chain.min_score, config.axial.min_score)
        views = dict.fromkeys(view for fold in folds for view in fold.models)
        detectors = {
            v: Detector([fold.models[v] for fold in folds if v in fold.models], place, lowest, backend) for v in views
        }
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
        room_mm = np.inf if decoding.spine is None else sacrum_room_mm(study, decoding.spine)
        not_lumbar = self._why_not_lumbar(study, room_mm, sure=conclusive is not None)
        problems, unanchored = seen.problems(study), why_unanchored(room_mm, decoding.numbering)
        if unanchored and not not_lumbar:
            problems.append(f"study {study.study_id}: {unanchored}")
        # From here on pixels are those of the files again.
        return StudyLocalization(
            detections=tuple(_stored_detection(study, d) for d in seen.detections),
            localizations={f: _stored_localization(study, x) for f, x in decoding.localizations.items()},
            numbering=decoding.numbering, problems=tuple(problems), slices=len(seen.slices),
            not_lumbar=not_lumbar,
        )  # fmt: skip

    def _why_not_lumbar(self, study: Study, room_mm: float, *, sure: bool) -> str:
        """A localizer that errs too often cannot answer. Sizes are compared only where there is a doubt."""
        if self._calibration.share_right < _LEAST_RIGHT:
            return ""
        no_sacrum = why_no_sacrum(room_mm)
        # Where the detectors are sure of all levels, the last disc itself must lie outside.
        if no_sacrum and (room_mm < 0 or not sure):
            return no_sacrum
        if (sure and not no_sacrum) or not study.of_view(View.SAGITTAL_T2):
            return ""
        suspicion = no_sacrum or ("the header names another region" if study.other_region else "")
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
            detections, errors = self._detect(study.study_id, series, new)
            seen.detections.extend(detections)
            seen.unreadable.setdefault(series.series_id, []).extend(errors)

    def _detect(
        self, study_id: str, series: Series, slices: Sequence[Slice]
    ) -> tuple[list[Detection], list[InputError]]:
        section = self.config.of_view(series.view)
        unreadable: list[InputError] = []
        groups: dict[tuple[int, int], list[tuple[int, Canvas, NDArray[np.uint8]]]] = {}
        for item in slices:
            try:
                pixels = slice_pixels(item)
            except InputError as error:
                unreadable.append(error)
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
        return detections, unreadable


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
