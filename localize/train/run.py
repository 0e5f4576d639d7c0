"""Trains one detector per fold and view, fits the chain prior, and localizes the held-out studies out of fold.

RUN/config.toml  splits.json  state.json         what a resumed run must agree with
RUN/run.json                                     written last: a run without it is unfinished
RUN/fold<K>/{sagittal_t1,sagittal_t2,axial_t2}.safetensors  chain.json  calibration.json  metrics.json
RUN/fold<K>/log.csv                              loss of each detector by epoch
RUN/fold<K>/{detections,localizations,numbering}.csv  of the held-out studies
RUN/localizations.csv                            out-of-fold points, pooled over the trained folds
RUN/errors.json                                  their measured error, from which stage 2 draws its jitter
RUN/work                                         data sets and unfinished detectors; deleted when a fold is finished

Several processes may train different folds of one run side by side. Each touches only its own folds, and every process
that finishes pools all finished folds.
"""

import math
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from localize.calibrate import IDENTITY, Calibration, fit_calibration, write_calibration
from localize.decoding.prior import fit_prior, read_prior, write_prior
from localize.detector.export import ExportRequest, export_view
from localize.detector.yolo.curve import curve_file, write_log
from localize.detector.yolo.inference import measure_map
from localize.detector.yolo.training import TrainJob, starting_weights, train_detector
from localize.localizer import (
    CALIBRATION_FILE,
    KIND,
    LOG_FILE,
    PRIOR_FILE,
    FoldFiles,
    Localizer,
    check_format,
    detector_file,
)
from localize.measures import FindingError, collect, evaluate, measure_jitter, read_map, read_maps, run_score
from localize.predict import Predictions, predict_studies, write_predictions
from localize.train.request import TrainingResources, TrainRequest
from shared.annotations import annotated_localizations
from shared.data.challenge import Challenge
from shared.data.source import challenge_source
from shared.detections import Localization, read_localizations, write_localizations
from shared.jitter import write_jitter
from shared.labels import Finding, View
from shared.out_of_fold import ERRORS_FILE, LOCALIZATIONS_FILE
from shared.runtime.bulk.engine import Engine
from shared.runtime.errors import InputError
from shared.runtime.files import sweep_temporary, write_json
from shared.runtime.hardware.device import first_device
from shared.runtime.pool import Spread, processes
from shared.runtime.problems import counted
from shared.runtime.progress import log
from shared.runtime.run_folder import RunFolder, sha256_of
from shared.splits import write_splits

_METRICS_FILE = "metrics.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class _TrainingRun:
    """What every fold shares."""

    request: TrainRequest
    folder: RunFolder
    resources: TrainingResources

    def work(self, fold: int) -> Path:
        """Where a fold keeps what is deleted when it is finished."""
        return self.folder.path / "work" / f"fold{fold}"

    def measured(self, study_ids: Sequence[str]) -> Challenge:
        """The data with the points of the given studies alone."""
        points = self.request.data.points
        return replace(self.request.data, points={s: points[s] for s in study_ids if s in points})


def train(request: TrainRequest, run: Path, resources: TrainingResources) -> None:
    """Trains the requested folds into `run`, an existing folder that is empty or, to resume, holds an earlier run.

    A resumed run keeps its finished folds and detectors and continues an unfinished detector after its last epoch.
    Folds and views may be added to a finished run; a fold with a new view is localized and measured again.

    Raises:
      InputError: when a resumed run was begun with another config, data or splits, the starting weights cannot be had,
        or a fold has no slice to train or measure on.
    """
    started = time.time()
    training = _TrainingRun(
        request=request, folder=RunFolder(path=run, kind=KIND, last_file=_METRICS_FILE), resources=resources
    )
    _claim(training)
    maps = {fold: _measured_maps(training.folder.fold(fold)) for fold in sorted(set(request.folds))}
    jobs = [(fold, view) for fold in maps for view in _missing(training, fold, maps[fold])]
    for _, view in jobs:
        starting_weights(request.config_of(view).model)  # fails, or downloads, before any process starts
    unfinished = sorted({fold for fold, _ in jobs})
    for fold in unfinished:
        training.folder.claim_fold(fold)
        sweep_temporary(training.work(fold))
        truths = _truths(request.data, request.splits.training(fold))
        write_prior(training.folder.fold(fold) / PRIOR_FILE, fit_prior(truths))
    if resources.engine is Engine.RAY and jobs:
        _train_on_cluster(training, jobs, maps)
    else:
        side_by_side = min(resources.workers, max(len(jobs), 1)) if resources.device == "cpu" else 1
        with processes(side_by_side, advice="continue with --resume and fewer --workers") as spread:
            for (fold, view), measured in _train_detectors(training, jobs, spread, side_by_side).items():
                maps[fold][view.slug] = measured
            for fold in unfinished:
                _measure_fold(training, fold, maps[fold], spread, side_by_side)
    for fold in maps:
        shutil.rmtree(training.work(fold), ignore_errors=True)
    _finish(training, started)


def _claim(training: _TrainingRun) -> None:
    """Makes sure that a run describes one config, one set of splits and one data set."""
    request, run = training.request, training.folder.path
    state = {
        "config": request.config.model_dump(mode="json"),
        "data": request.data.fingerprint,
        "splits": request.splits.folds,
    }
    training.folder.claim(state, resume=training.resources.resume)
    check_format(run)
    request.config.save(run / "config.toml")
    write_splits(run / "splits.json", request.splits)


def _measured_maps(folder: Path) -> dict[str, Any]:
    """mAP per view of the detectors that a fold was last measured with; empty for an unfinished fold."""
    path = folder / _METRICS_FILE
    maps = read_maps(path) if path.is_file() else {}
    return {slug: measured for slug, measured in maps.items() if detector_file(folder, View.from_slug(slug)).is_file()}


def _missing(training: _TrainingRun, fold: int, maps: Mapping[str, Any]) -> list[View]:
    """Views to train or measure: the requested ones, and those that an interrupted run trained but did not measure."""
    folder = training.folder.fold(fold)
    there = [view for view in View if view in training.request.views or detector_file(folder, view).is_file()]
    return [view for view in there if view.slug not in maps]


def _train_detectors(
    training: _TrainingRun, jobs: Sequence[tuple[int, View]], spread: Spread, side_by_side: int
) -> dict[tuple[int, View], dict[str, Any]]:
    """Trains a detector for each fold and view; returns their mAP.

    On a CPU `workers` of them train side by side, each on two threads, so that the last one still uses two cores. The
    results depend neither on `workers` nor on the cores.
    """
    if side_by_side > 1:
        training = replace(training, resources=replace(training.resources, workers=1))
    # The longest jobs come first, so that no core is idle while the last one trains.
    queue = sorted(jobs, key=lambda job: -_expected_cost(training.request, job[1]))
    return dict(zip(queue, spread(partial(_train_view, training), queue), strict=True))


def _train_on_cluster(
    training: _TrainingRun, jobs: Sequence[tuple[int, View]], maps: dict[int, dict[str, Any]]
) -> None:  # fmt: skip
    """Trains each detector, and then measures each fold, as a job of the Ray cluster; adds the detectors' mAP."""
    from shared.runtime.bulk.crew import crew_of, need_of
    from shared.runtime.bulk.ray_cluster import connected

    queue = sorted(jobs, key=lambda job: -_expected_cost(training.request, job[1]))
    folds = sorted({fold for fold, _ in jobs})
    with (
        connected(tell=True),
        crew_of(need_of(training.resources.device), advice="continue with --resume", tell=True) as crew,
    ):
        for (fold, view), measured in zip(queue, crew(partial(_train_on_node, training), queue), strict=True):
            maps[fold][view.slug] = measured
        for _ in crew(partial(_measure_on_node, training), [(fold, maps[fold]) for fold in folds]):
            pass


def _on_node(training: _TrainingRun) -> _TrainingRun:
    """The run as a node works on it: with its own device, and from where a node that died left it."""
    return replace(training, resources=training.resources.here(workers=1, resume=True))


def _train_on_node(training: _TrainingRun, job: tuple[int, View]) -> dict[str, Any]:
    return _train_view(_on_node(training), job)


def _measure_on_node(training: _TrainingRun, job: tuple[int, Mapping[str, Any]]) -> None:
    with processes(1) as spread:
        _measure_fold(_on_node(training), *job, spread, 1)


def _expected_cost(request: TrainRequest, view: View) -> float:
    """Roughly the number of pixels that a view's training sees: annotated slices, their neighbours and negatives."""
    section = request.config.of_view(view)
    points = [p for of_study in request.data.points.values() for p in of_study if p.finding.view is view]
    annotated = {(p.study_id, p.series_id, p.instance_number) for p in points}
    images = len(annotated) * (2 * section.neighbours + 1) * (1 + section.negatives)
    return images * section.epochs * math.prod(section.image_px)


def _truths(data: Challenge, study_ids: Sequence[str]) -> list[dict[Finding, Localization]]:
    return [annotated_localizations(data.load_study(s).study, data.points[s]) for s in study_ids if s in data.points]


def _train_view(training: _TrainingRun, job: tuple[int, View]) -> dict[str, Any]:
    """Trains one detector unless it is there already; returns its mAP on the held-out studies."""
    (fold, view), request, resources = job, training.request, training.resources
    work = training.work(fold) / view.slug
    target = detector_file(training.folder.fold(fold), view)
    if target.is_file() and (work / "map.json").is_file():
        return read_map(work / "map.json")
    export = ExportRequest(
        data=request.data, view=view, config=request.config,
        train=request.splits.training(fold), val=request.splits.held_out(fold),
    )  # fmt: skip
    counts = export_view(export, work / "dataset", workers=resources.workers)
    for problem in counts.problems[:5]:
        log(f"warning: {problem}")
    name = f"fold {fold} {view.slug}"
    log(f"{name}: {counts.train} training and {counted(counts.val, 'held-out slice')}")
    detector = TrainJob(
        data_yaml=work / "dataset" / "data.yaml", folder=work, name=name, view=request.config.of_view(view),
        config=request.config_of(view), device=resources.device, resume=resources.resume, tracking=resources.tracking,
    )  # fmt: skip
    train_detector(detector, target)
    measured = measure_map(target, detector.data_yaml, detector.view, first_device(resources.device))
    log(f"{name}: mAP50 {measured['map50']:.3f}, mAP50-95 {measured['map50_95']:.3f}")
    write_json(work / "map.json", measured)
    return measured


def _measure_fold(
    training: _TrainingRun, fold: int, maps: Mapping[str, Any], spread: Spread, side_by_side: int
) -> None:
    """Localizes the held-out studies with the detectors in `maps`; writing metrics.json finishes the fold."""
    request, folder = training.request, training.folder.fold(fold)
    held_out, views = request.splits.held_out(fold), [view for view in View if view.slug in maps]
    size = max(-(-len(held_out) // side_by_side), 1)
    parts = [held_out[start : start + size] for start in range(0, len(held_out), size)]
    predictions = Predictions.joined(list(spread(partial(_localize, training, fold, views), parts)))
    measured = training.measured(held_out)
    calibration = _fit_calibration(collect(measured, predictions.localizations).errors)
    write_calibration(folder / CALIBRATION_FILE, calibration)
    predictions = predictions.calibrated(calibration)
    write_predictions(folder, predictions)
    measures = evaluate(collect(measured, predictions.localizations).errors, own_calibration=True)
    write_log(folder / LOG_FILE, {v.slug: curve_file(training.work(fold) / v.slug) for v in views})
    ordered = {view.slug: maps[view.slug] for view in views}
    metrics = {"map": ordered, **measures, "problems": list(predictions.problems)}
    write_json(folder / _METRICS_FILE, {"schema": "localizer-metrics-1", **metrics})
    overall = measures["overall"]
    if overall["expected"]:
        log(f"fold {fold}: {overall['within_10_mm']:.1%} of {counted(overall['expected'], 'finding')} within 10 mm")


def _localize(training: _TrainingRun, fold: int, views: Sequence[View], study_ids: Sequence[str]) -> Predictions:
    """What a fold's detectors of the given views find in some of its held-out studies, with raw scores."""
    folder, config = training.folder.fold(fold), training.request.config
    files = FoldFiles(
        models={view: detector_file(folder, view) for view in views},
        prior=read_prior(folder / PRIOR_FILE),
        calibration=IDENTITY,
    )
    localizer = Localizer.of_folds([files], config, device=first_device(training.resources.device))
    source = challenge_source(training.request.data)
    return predict_studies(lambda _: localizer, source, study_ids, name=f"fold {fold}: localizing held-out studies")


def _fit_calibration(errors: Sequence[FindingError]) -> Calibration:
    found = [(e.raw_score, e.right) for e in errors if e.raw_score is not None]
    return fit_calibration([score for score, _ in found], [right for _, right in found])


def _finish(training: _TrainingRun, started: float) -> None:
    """Pools the finished folds and writes run.json, which finishes the run.

    Another process may finish another fold meanwhile, so this repeats until it has pooled every finished fold.
    """
    request, run = training.request, training.folder
    pooled: dict[str, Any] | None = None
    while pooled != (folds := _trained_folds(run)):
        score = run_score(_pool(training, [int(fold) for fold in folds]))
        run.record(
            started=started, data_fingerprint=request.data.fingerprint,
            seeds={"splits": request.splits.seed, "training": request.config.optim.seed},
            device=training.resources.device, unmirror=request.config.axial.unmirror,
            localizations_sha256=sha256_of(run.path / LOCALIZATIONS_FILE), folds=folds,
            score=None if score is None else score.model_dump(),
        )  # fmt: skip
        pooled = folds
    with suppress(OSError):  # not empty while another fold trains
        (run.path / "work").rmdir()


def _trained_folds(run: RunFolder) -> dict[str, Any]:
    """The finished folds with the SHA-256 of the detectors that they were measured with."""

    def models(folder: Path) -> dict[str, str]:
        return {slug: sha256_of(detector_file(folder, View.from_slug(slug))) for slug in _measured_maps(folder)}

    return {str(fold): {"models": models(run.fold(fold))} for fold in run.finished_folds()}


def _pool(training: _TrainingRun, folds: Sequence[int]) -> Sequence[FindingError]:
    """Writes the out-of-fold localizations of the folds and their measured error; returns the errors one by one."""
    splits, run = training.request.splits, training.folder
    pooled: dict[str, dict[Finding, Localization]] = {}
    for fold in folds:
        path = run.fold(fold) / LOCALIZATIONS_FILE
        of_fold = read_localizations(path)
        stray = sorted(set(of_fold) - set(splits.held_out(fold)))
        if stray:
            raise InputError(
                f"{path}: has points of study {stray[0]}, which fold {fold} does not hold out; was the file changed?"
            )
        pooled |= of_fold
    write_localizations(run.path / LOCALIZATIONS_FILE, pooled)
    measured = training.measured([s for fold in folds for s in splits.held_out(fold)])
    errors = collect(measured, pooled).errors
    write_jitter(run.path / ERRORS_FILE, measure_jitter(errors))
    return errors
