"""Trains the classifier fold by fold into a run folder.

RUN/config.toml  splits.json  run.json           what was trained, and with which result
RUN/state.json                                   what a resumed run must agree with
RUN/out_of_fold.csv  noisy_labels.csv            held-out probabilities, and the grades that they contradict
RUN/fold<K>/{model.safetensors, model.json, log.csv, probabilities.csv}
RUN/cache/  RUN/fold<K>/progress/                crops and unfinished folds; deleted at the end
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch

from classify.crop_cache import CacheJob, build_cache, using_cache
from classify.device import use_all_cores, use_deterministic
from classify.network.checkpoint import run_folder
from classify.noisy_labels import NOISY_FILE, write_noisy
from classify.train.fold import PROBABILITIES_FILE, drop_progress, train_fold
from classify.train.request import TrainingResources, TrainRequest
from classify.train.together import leave
from shared.probabilities.files import read_probabilities, write_probabilities
from shared.probabilities.table import ProbabilityTable
from shared.runtime.errors import InputError
from shared.runtime.problems import counted
from shared.runtime.progress import log
from shared.runtime.run_folder import RUN_FILE, STATE_FILE, RunFolder
from shared.scores import run_score
from shared.splits import Splits, write_splits

OUT_OF_FOLD_FILE: Final = "out_of_fold.csv"


def train(request: TrainRequest, run: Path, how: TrainingResources | None = None) -> None:
    """Trains the requested folds into `run`, a folder that exists (see `shared.runtime.files.prepare_output`).

    Raises:
      InputError: for a run of another request, a full disk, or training that diverges.
    """
    started, how, folder = time.time(), how or TrainingResources(), run_folder(run)
    device = torch.device(how.device)
    use_all_cores(how.processes.local_world)
    use_deterministic(device)
    job = _cache_job(request)
    with how.processes.first_alone():
        _claim(folder, request, job, resume=how.resume or how.processes.rank > 0)
    _log_coverage(request)
    folds = how.processes.share(request.folds)
    finished = [k for k in folds if how.resume and k in folder.finished_folds()]
    problems = list(folder.facts().get("problems", ())) if (run / RUN_FILE).is_file() else []
    with using_cache(run / "cache", lock=run / STATE_FILE, keep=how.keep_cache):
        if len(finished) < len(folds):
            cache = build_cache(job, run / "cache", workers=how.workers)
            problems += [text for text in cache.problems if text not in problems]
            for k in (k for k in folds if k not in finished):
                if how.processes.writes:
                    folder.claim_fold(k)
                train_fold(request, k, cache, folder.fold(k), how)
    if not how.processes.writes:  # the first of the team does the rest
        leave()
        return
    if finished:
        log(f"fold {', '.join(map(str, finished))}: already finished, kept")
    for k in finished:  # an interruption between the model card and this may have left it behind
        drop_progress(folder.fold(k))
    _finish(folder, request, started=started, device=str(device), problems=problems)
    leave()


def begin(request: TrainRequest, run: Path, *, resume: bool) -> None:
    """Writes what the run is, for processes that train its folds with `resume`; raises `InputError` as `train` does."""
    _claim(run_folder(run), request, _cache_job(request), resume=resume)


def _cache_job(request: TrainRequest) -> CacheJob:
    points = request.points
    return CacheJob(
        data=request.data, config=request.config.crop, localizations=None if points is None else points.localizations,
        conditions=request.conditions, unmirror=request.unmirror,
    )  # fmt: skip


def _claim(folder: RunFolder, request: TrainRequest, job: CacheJob, *, resume: bool) -> None:
    """Writes what the run is, or checks that a resumed run is the same; raises `InputError` if it is not."""
    jitter = request.measured
    state = {
        "config": request.config.model_dump(mode="json"),
        "crops": job.key,
        "splits": [list(f) for f in request.splits.folds],
        "jitter": {c.short: [j.in_plane_sd_mm, sorted(j.slice_offsets.items())] for c, j in jitter.items()},
        "left out labels": sorted(f"{study_id} {finding.column}" for study_id, finding in request.without),
    }
    folder.claim(state, resume=resume)
    request.config.save(folder.path / "config.toml")
    write_splits(folder.path / "splits.json", request.splits)


def _log_coverage(request: TrainRequest) -> None:
    """Logs for each fold how many of its studies stage 1 localized, unless it localized all of them."""
    if request.points is None:
        return
    for k in request.folds:
        parts = request.splits.held_out(k), request.splits.training(k)
        held_out, training = (sum(bool(request.points.localizations.get(s)) for s in part) for part in parts)
        if held_out < len(parts[0]) or training < len(parts[1]):
            log(
                f"fold {k}: {held_out} of {len(parts[0])} held-out and {training} of "
                f"{counted(len(parts[1]), 'training study')} "
                "have localizations; held-out studies without them get the prior, training studies use annotated points"
            )


def _finish(folder: RunFolder, request: TrainRequest, *, started: float, device: str, problems: Sequence[str]) -> None:
    """Pools the finished folds and writes run.json. Repeats if another process finishes a fold meanwhile."""
    trained: list[int] = []
    while trained != folder.finished_folds():
        trained = folder.finished_folds()
        table = pool_folds(folder, request.splits, trained)
        write_probabilities(folder.path / OUT_OF_FOLD_FILE, table)
        grades = request.data.grades_of(table.study_ids)
        noisy, score = write_noisy(folder.path / NOISY_FILE, table, grades), run_score(table.submission, grades)
        fast = folder.facts().get("fast") if (folder.path / RUN_FILE).is_file() else None
        folder.record(
            started=started, data_fingerprint=request.data.fingerprint, seed=request.config.train.seed, device=device,
            folds=trained, families=[c.short for c in request.conditions], points=request.held_out_points,
            unmirror=request.unmirror, noisy_labels=noisy, left_out_labels=len(request.without),
            problems=list(problems), score=None if score is None else score.model_dump(),
            # A fast grader that was made of fewer folds is not used any more.
            **({"fast": fast} if fast and fast["folds"] == trained else {}),
        )  # fmt: skip


def pool_folds(folder: RunFolder, splits: Splits, folds: Sequence[int]) -> ProbabilityTable:
    """Held-out probabilities of the given folds, one entry per study.

    Raises:
      InputError: when a fold's file is missing or holds other studies than the fold holds out.
    """
    tables = []
    for k in folds:
        path = folder.fold(k) / PROBABILITIES_FILE
        table = read_probabilities(path)
        if sorted(table.study_ids) != sorted(splits.held_out(k)):
            raise InputError(f"{path}: its studies differ from those that fold {k} of the splits holds out")
        tables.append(table)
    return ProbabilityTable(
        study_ids=tuple(s for t in tables for s in t.study_ids),
        submission=np.concatenate([t.submission for t in tables]),
        from_model=np.concatenate([t.from_model for t in tables]),
    )
