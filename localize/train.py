"""Training: one detector a view and fold, the chain prior, and out-of-fold localizations of the held-out studies.

RUN/config.toml  splits.json  run.json           run.json is written last: a run without it is unfinished
RUN/fold<K>/{sagittal_t1,sagittal_t2,axial_t2}.pt  chain.json  detections.csv  localizations.csv  metrics.json
RUN/localizations.csv                            out-of-fold, pooled over the trained folds
RUN/errors.json                                  their measured error, which stage 2 trains on
RUN/work/                                        data sets and unfinished detectors; gone when the run is finished
"""

import shutil
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from localize.config import LocalizeConfig
from localize.evaluate import collect_errors, evaluate, measure_jitter
from localize.export import export_view
from localize.predict import KIND, Localizer, predict_studies, write_predictions
from localize.prior import fit_prior, read_prior, write_prior
from shared.annotations import annotated_localizations
from shared.challenge import Challenge
from shared.detections import Localization, read_localizations, write_localizations
from shared.errors import InputError
from shared.files import read_json, write_json
from shared.jitter import write_jitter
from shared.labels import Finding, View
from shared.manifest import RUN_FILE, data_fingerprint, read_run, sha256_of, write_run
from shared.progress import log
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
    further folds may be added to a finished run.

    Raises:
      InputError: when the splits do not fit the data, the data has no points, or a resumed run began otherwise.
    """
    from localize.yolo import resolve_device

    started = time.time()
    splits.check_covers(data.study_ids)
    for fold in folds:
        splits.held_out(fold)
    if not data.points:
        raise InputError(
            f"{data.root}: {data.part}_label_coordinates.csv is missing or empty; the localizer trains on its points"
        )
    context = _Context(
        data=data, run=run, config=config, splits=splits, views=tuple(views), device=resolve_device(device),
        workers=workers, resume=resume,
    )  # fmt: skip
    _write_or_check_origin(context)
    unfinished = [fold for fold in sorted(set(folds)) if not (run / f"fold{fold}" / "metrics.json").is_file()]
    for fold in unfinished:
        truths = _truths(data, splits.training(fold))
        write_prior(run / f"fold{fold}" / "chain.json", fit_prior(truths))
    maps = _train_detectors(context, unfinished)
    for fold in unfinished:
        _measure_fold(context, fold, maps[fold])
        shutil.rmtree(run / _WORK / f"fold{fold}", ignore_errors=True)
    _finish(context, started)


def _write_or_check_origin(context: _Context) -> None:
    """A run describes one config, one set of splits and one data set; continuing it with others is an error."""
    run = context.run
    fingerprint = data_fingerprint(context.data)
    config_path, splits_path, origin_path = run / "config.toml", run / "splits.json", run / _ORIGIN
    if context.resume and config_path.is_file() and splits_path.is_file() and origin_path.is_file():
        if LocalizeConfig.load(config_path) != context.config:
            raise InputError(f"{config_path}: differs from the given config; resume with the same, or use --overwrite")
        if read_splits(splits_path) != context.splits:
            raise InputError(f"{splits_path}: differs from the given splits; resume with the same, or use --overwrite")
        if read_json(origin_path).get("data_fingerprint") != fingerprint:
            raise InputError(f"{run}: was trained on other data than {context.data.root}; use --overwrite")
        return
    context.config.save(config_path)
    write_splits(splits_path, context.splits)
    write_json(origin_path, {"data_fingerprint": fingerprint})


def _train_detectors(context: _Context, folds: Sequence[int]) -> dict[int, dict[str, Any]]:
    """Trains every detector of the folds; returns their mAP by fold and view.

    On CPU a detector trains on one thread and `workers` of them side by side: a small network gains little from
    threads, and a thread that waits for a busy core costs many times what it gains. Results do not depend on `workers`.
    """
    jobs = [(fold, view) for fold in folds for view in context.views]
    if context.device == "cpu" and context.workers > 1 and len(jobs) > 1:
        alone = replace(context, workers=1)
        with ProcessPoolExecutor(min(context.workers, len(jobs)), mp_context=get_context("spawn")) as pool:
            results = list(pool.map(_train_view, repeat(alone), *zip(*jobs, strict=True)))
    else:
        results = [_train_view(context, fold, view) for fold, view in jobs]
    maps: dict[int, dict[str, Any]] = {fold: {} for fold in folds}
    for (fold, view), measured in zip(jobs, results, strict=True):
        maps[fold][view.slug] = measured
    return maps


def _truths(data: Challenge, study_ids: Sequence[str]) -> list[dict[Finding, Localization]]:
    truths = []
    for study_id in study_ids:
        if study_id in data.points:
            truths.append(annotated_localizations(data.load_study(study_id).study, data.points[study_id]))
    return truths


def _train_view(context: _Context, fold: int, view: View) -> dict[str, Any]:
    """Trains one detector unless it is there already; returns its mAP on the held-out studies."""
    from localize.yolo import TrainJob, measure_map, train_detector

    work = context.run / _WORK / f"fold{fold}" / view.slug
    target = context.run / f"fold{fold}" / f"{view.slug}.pt"
    if target.is_file() and (work / "map.json").is_file():
        return dict(read_json(work / "map.json"))
    counts = export_view(
        context.data, view, work / "dataset", context.config,
        train=context.splits.training(fold), val=context.splits.held_out(fold), workers=context.workers,
    )  # fmt: skip
    for problem in counts.problems[:5]:
        log(f"skipped: {problem}")
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
    measured = measure_map(target, job.data_yaml, job.view, context.device)
    log(f"{name}: mAP50 {measured['map50']:.3f}, mAP50-95 {measured['map50_95']:.3f}")
    write_json(work / "map.json", measured)
    return measured


def _measure_fold(context: _Context, fold: int, maps: dict[str, Any]) -> None:
    folder, held_out = context.run / f"fold{fold}", context.splits.held_out(fold)
    paths = {view: [folder / f"{view.slug}.pt"] for view in context.views}
    localizer = Localizer.from_paths(paths, read_prior(folder / "chain.json"), context.config, device=context.device)
    predictions = predict_studies(localizer, context.data, held_out, name=f"fold {fold}: localizing held-out studies")
    write_predictions(folder, predictions)
    points = {s: context.data.points[s] for s in held_out if s in context.data.points}
    measures = evaluate(collect_errors(context.data, points, predictions.localizations))
    write_json(folder / "metrics.json", {"map": maps, **measures, "problems": list(predictions.problems)})
    overall = measures["overall"]
    if overall["expected"]:
        log(f"fold {fold}: {overall['within_10_mm']:.1%} of {overall['expected']} findings within 10 mm")


def _finish(context: _Context, started: float) -> None:
    """Pools the trained folds and writes run.json, which ends the run."""
    run = context.run
    folds = sorted(k for k in range(len(context.splits.folds)) if (run / f"fold{k}" / "metrics.json").is_file())
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
    earlier = float(read_run(run, expected_kind=KIND)["seconds"]) if (run / RUN_FILE).is_file() else 0.0
    models = {
        str(fold): {
            "models": {v.slug: sha256_of(p) for v in View if (p := run / f"fold{fold}" / f"{v.slug}.pt").is_file()}
        }
        for fold in folds
    }
    write_run(
        run,
        command="localize train",
        started=started,
        kind=KIND,
        data_fingerprint=data_fingerprint(context.data),
        seeds={"splits": context.splits.seed, "training": context.config.optim.seed},
        device=context.device,
        earlier_seconds=earlier,
        folds=models,
    )
    shutil.rmtree(run / _WORK, ignore_errors=True)


if __name__ == "__main__":
    from localize.cli import main_train

    sys.exit(main_train(sys.argv[1:]))
