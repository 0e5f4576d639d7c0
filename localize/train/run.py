"""Training: one detector a view and fold, the chain prior, and out-of-fold localizations of the held-out studies.

RUN/config.toml  splits.json  run.json           run.json is written last: a run without it is unfinished
RUN/fold<K>/{sagittal_t1,sagittal_t2,axial_t2}.pt  chain.json  calibration.json  metrics.json
RUN/fold<K>/{detections,localizations,numbering}.csv  of the held-out studies
RUN/localizations.csv                            out-of-fold, pooled over the trained folds
RUN/errors.json                                  their measured error, which stage 2 trains on
RUN/work                                         data sets and unfinished detectors; gone when the fold is finished

Several processes may train folds of one run side by side: each touches its own folds, and whoever finishes pools them.
"""

import math
import shutil
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from localize.calibrate import Calibration, fit_calibration, write_calibration
from localize.config import LocalizeConfig
from localize.decoding.prior import fit_prior, read_prior, write_prior
from localize.detector.export import export_view
from localize.device import first_device, resolve_device
from localize.evaluate import FindingError, collect_errors, evaluate, measure_jitter
from localize.predict import CALIBRATION_FILE, KIND, Localizer, predict_studies, write_predictions
from shared.annotations import annotated_localizations
from shared.data.challenge import Challenge
from shared.detections import Localization, read_localizations, write_localizations
from shared.jitter import write_jitter
from shared.labels import Finding, View
from shared.runtime.errors import InputError
from shared.runtime.files import read_json, write_json
from shared.runtime.progress import log
from shared.runtime.run import RUN_FILE, read_run, sha256_of, write_run
from shared.splits import Splits, read_splits, write_splits

_WORK = "work"
_ORIGIN = "data.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Context:
    """What every fold shares."""

    data: Challenge
    run: Path
    config: LocalizeConfig
    splits: Splits
    views: tuple[View, ...]
    device: str
    workers: int
    resume: bool


def train(
    data: Challenge,
    run: Path,
    config: LocalizeConfig,
    *,
    folds: Sequence[int],
    splits: Splits,
    views: Sequence[View] = tuple(View),
    device: str = "auto",
    workers: int = 1,
    resume: bool = False,
) -> None:
    """Trains the given folds into `run`, an existing folder that is empty or, with `resume`, holds an earlier try.

    With `resume` finished folds and detectors are kept, an unfinished detector continues after its last epoch, and
    further folds or views may be added to a finished run; a fold with a new view is localized and measured again.

    Raises:
      InputError: when the splits do not fit the data, the data has no points, a resumed run began otherwise, or the
        device or the starting weights cannot be had.
    """
    from localize.detector.yolo import starting_weights

    started = time.time()
    check_inputs(data, splits, folds, device=device)
    context = _Context(
        data=data, run=run, config=config, splits=splits, views=tuple(views),
        device=resolve_device(device, several=True), workers=workers, resume=resume,
    )  # fmt: skip
    _write_or_check_origin(context)
    maps = {fold: _measured_maps(run / f"fold{fold}") for fold in sorted(set(folds))}
    jobs = [(fold, view) for fold in maps for view in _missing(context, fold, maps[fold])]
    if jobs:
        starting_weights(config.model)  # fails, or downloads, once and now
    unfinished = sorted({fold for fold, _ in jobs})
    for fold in unfinished:
        truths = _truths(data, splits.training(fold))
        write_prior(run / f"fold{fold}" / "chain.json", fit_prior(truths))
    for (fold, view), measured in _train_detectors(context, jobs).items():
        maps[fold][view.slug] = measured
    for fold in maps:
        if fold in unfinished:
            _measure_fold(context, fold, maps[fold])
        shutil.rmtree(run / _WORK / f"fold{fold}", ignore_errors=True)
    _finish(context, started)


def check_inputs(data: Challenge, splits: Splits, folds: Sequence[int], *, device: str) -> None:
    """Raises `InputError` when the splits do not fit the data, a fold is unknown, or points or device are missing."""
    splits.check_covers(data.study_ids)
    for fold in folds:
        splits.held_out(fold)
    if not data.points:
        raise InputError(
            f"{data.root}: {data.part}_label_coordinates.csv is missing or empty; the localizer trains on its points"
        )
    resolve_device(device, several=True)


def _write_or_check_origin(context: _Context) -> None:
    """A run describes one config, one set of splits and one data set; continuing it with others is an error, and so is
    continuing what is no run."""
    run = context.run
    fingerprint = context.data.fingerprint
    config_path, splits_path, origin_path = run / "config.toml", run / "splits.json", run / _ORIGIN
    if context.resume and origin_path.is_file():
        if read_json(origin_path).get("data_fingerprint") != fingerprint:
            raise InputError(f"{run}: was trained on other data than {context.data.root}; use --overwrite")
        if config_path.is_file() and LocalizeConfig.load(config_path) != context.config:
            raise InputError(f"{config_path}: differs from the given config; resume with the same, or use --overwrite")
        if splits_path.is_file() and read_splits(splits_path) != context.splits:
            raise InputError(f"{splits_path}: differs from the given splits; resume with the same, or use --overwrite")
    elif context.resume and any(run.iterdir()):
        raise InputError(f"{run}: cannot resume, this is no run of `localize train`; choose another folder")
    write_json(origin_path, {"data_fingerprint": fingerprint})
    context.config.save(config_path)
    write_splits(splits_path, context.splits)


def _measured_maps(folder: Path) -> dict[str, Any]:
    """mAP by view of the detectors that a fold was last measured with; empty for an unfinished fold."""
    path = folder / "metrics.json"
    maps = read_json(path)["map"] if path.is_file() else {}
    return {slug: measured for slug, measured in maps.items() if (folder / f"{slug}.pt").is_file()}


def _missing(context: _Context, fold: int, maps: Mapping[str, Any]) -> list[View]:
    """Views to train or measure: the wanted ones, and those whose detector an interrupted call left unmeasured."""
    folder = context.run / f"fold{fold}"
    there = [view for view in View if view in context.views or (folder / f"{view.slug}.pt").is_file()]
    return [view for view in there if view.slug not in maps]


def _train_detectors(context: _Context, jobs: Sequence[tuple[int, View]]) -> dict[tuple[int, View], dict[str, Any]]:
    """Trains a detector for each fold and view; returns their mAP.

    On CPU a detector trains on one thread and `workers` of them side by side: a small network gains little from
    threads, and a thread that waits for a busy core costs many times what it gains. Results do not depend on `workers`.
    """
    if context.device == "cpu" and context.workers > 1 and len(jobs) > 1:
        alone = replace(context, workers=1)
        # The longest first, so that no core is idle while the last one trains.
        queue = sorted(jobs, key=lambda job: -_expected_cost(context, job[1]))
        with ProcessPoolExecutor(min(context.workers, len(jobs)), mp_context=get_context("spawn")) as pool:
            results = pool.map(_train_view, repeat(alone), *zip(*queue, strict=True))
            return dict(zip(queue, results, strict=True))
    return {(fold, view): _train_view(context, fold, view) for fold, view in jobs}


def _expected_cost(context: _Context, view: View) -> float:
    """Pixels that training a view's detector looks at, about: annotated slices with their neighbours and negatives."""
    section = context.config.of_view(view)
    annotated = {
        (p.study_id, p.series_id, p.instance_number)
        for points in context.data.points.values()
        for p in points
        if p.finding.view is view
    }
    images = len(annotated) * (2 * section.neighbours + 1) * (1 + section.negatives)
    return images * section.epochs * math.prod(section.image_px)


def _truths(data: Challenge, study_ids: Sequence[str]) -> list[dict[Finding, Localization]]:
    truths = []
    for study_id in study_ids:
        if study_id in data.points:
            truths.append(annotated_localizations(data.load_study(study_id).study, data.points[study_id]))
    return truths


def _train_view(context: _Context, fold: int, view: View) -> dict[str, Any]:
    """Trains one detector unless it is there already; returns its mAP on the held-out studies."""
    from localize.detector.yolo import TrainJob, measure_map, train_detector

    work = context.run / _WORK / f"fold{fold}" / view.slug
    target = context.run / f"fold{fold}" / f"{view.slug}.pt"
    if target.is_file() and (work / "map.json").is_file():
        return dict(read_json(work / "map.json"))
    counts = export_view(
        context.data, view, work / "dataset", context.config,
        train=context.splits.training(fold), val=context.splits.held_out(fold), workers=context.workers,
    )  # fmt: skip
    for problem in counts.problems[:5]:
        log(f"warning: {problem}")
    name = f"fold {fold} {view.slug}"
    log(f"{name}: {counts.train_images} training and {counts.val_images} held-out slices")
    job = TrainJob(
        data_yaml=work / "dataset" / "data.yaml",
        folder=work,
        name=name,
        view=context.config.of_view(view),
        config=context.config,
        device=context.device,
        workers=context.workers,
        resume=context.resume,
    )
    train_detector(job, target)
    measured = measure_map(target, job.data_yaml, job.view, first_device(context.device))
    log(f"{name}: mAP50 {measured['map50']:.3f}, mAP50-95 {measured['map50_95']:.3f}")
    write_json(work / "map.json", measured)
    return measured


def _measure_fold(context: _Context, fold: int, maps: Mapping[str, Any]) -> None:
    """Localizes the held-out studies with the detectors in `maps`; metrics.json is written last and ends the fold."""
    folder, held_out = context.run / f"fold{fold}", context.splits.held_out(fold)
    views = [view for view in View if view.slug in maps]
    paths = {view: [folder / f"{view.slug}.pt"] for view in views}
    prior, device = read_prior(folder / "chain.json"), first_device(context.device)
    localizer = Localizer.from_paths(paths, prior, context.config, device=device)
    predictions = predict_studies(localizer, context.data, held_out, name=f"fold {fold}: localizing held-out studies")
    points = {s: context.data.points[s] for s in held_out if s in context.data.points}
    calibration = _fit_calibration(collect_errors(context.data, points, predictions.localizations))
    write_calibration(folder / CALIBRATION_FILE, calibration)
    predictions = predictions.calibrated(calibration)
    write_predictions(folder, predictions)
    errors = collect_errors(context.data, points, predictions.localizations)
    measures = evaluate(errors, own_calibration=True)
    ordered = {view.slug: maps[view.slug] for view in views}
    write_json(folder / "metrics.json", {"map": ordered, **measures, "problems": list(predictions.problems)})
    overall = measures["overall"]
    if overall["expected"]:
        log(f"fold {fold}: {overall['within_10_mm']:.1%} of {overall['expected']} findings within 10 mm")


def _fit_calibration(errors: Sequence[FindingError]) -> Calibration:
    found = [(e.raw_score, e.right) for e in errors if e.raw_score is not None]
    return fit_calibration([score for score, _ in found], [right for _, right in found])


def _finish(context: _Context, started: float) -> None:
    """Pools the trained folds and writes run.json, which ends the run.

    Another process may finish another fold meanwhile, so this goes on until what it has pooled is all there is.
    """
    run = context.run
    earlier = read_run(run, expected_kind=KIND) if (run / RUN_FILE).is_file() else {}
    pooled: dict[str, Any] | None = None
    while pooled != (folds := _trained_folds(context)):
        _pool(context, [int(fold) for fold in folds])
        write_run(
            run,
            command="localize train",
            started=started,
            kind=KIND,
            data_fingerprint=context.data.fingerprint,
            seeds={"splits": context.splits.seed, "training": context.config.optim.seed},
            device=context.device,
            earlier_seconds=round(earlier.get("earlier_seconds", 0.0) + earlier.get("seconds", 0.0), 1),
            folds=folds,
        )
        pooled = folds
    with suppress(OSError):  # not empty while another fold trains
        (run / _WORK).rmdir()


def _trained_folds(context: _Context) -> dict[str, Any]:
    """The finished folds with the SHA-256 of the detectors they were measured with."""
    folders = {str(k): context.run / f"fold{k}" for k in range(len(context.splits.folds))}
    return {
        fold: {"models": {slug: sha256_of(folder / f"{slug}.pt") for slug in _measured_maps(folder)}}
        for fold, folder in folders.items()
        if (folder / "metrics.json").is_file()
    }


def _pool(context: _Context, folds: Sequence[int]) -> None:
    """Writes the out-of-fold localizations of the folds and their measured error."""
    run = context.run
    pooled: dict[str, dict[Finding, Localization]] = {}
    for fold in folds:
        of_fold = read_localizations(run / f"fold{fold}" / "localizations.csv")
        stray = sorted(set(of_fold) - set(context.splits.held_out(fold)))
        if stray:
            raise InputError(f"{run / f'fold{fold}'}: localizes study {stray[0]}, which fold {fold} does not hold out")
        pooled |= of_fold
    write_localizations(run / "localizations.csv", pooled)
    held_out = {s for fold in folds for s in context.splits.held_out(fold)}
    points = {s: p for s, p in context.data.points.items() if s in held_out}
    write_jitter(run / "errors.json", measure_jitter(collect_errors(context.data, points, pooled)))
