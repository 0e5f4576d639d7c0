"""Distills the folds of a run into RUN/fast.

RUN/fast/model.safetensors  model.json   the fast grader; see `classify.network.fast`
RUN/fast/log.csv                         its epochs
RUN/fast/state.json  progress/           what a resumed call must agree with; the latter is deleted at the end
"""

import shutil
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from classify.calibrate import IDENTITY
from classify.crop_cache import CropCache, build_cache, using_cache
from classify.device import use_all_cores, use_deterministic
from classify.distill.request import DistillRequest
from classify.distill.student import Comparison, Student, Teachers
from classify.network.augment import Augmenter
from classify.network.checkpoint import MODEL_FILE, halved, load_model, run_folder
from classify.network.fast import Distillation, FastCard, load_fast_card, save_fast
from classify.network.model import SeverityNet, build_model, empty_model
from classify.samples import select_crops
from classify.train.loop import EpochResult, fit
from classify.train.request import TrainingResources
from shared.labels import Condition
from shared.probabilities.table import floored
from shared.runtime.errors import InputError
from shared.runtime.files import sweep_temporary, write_csv, write_json
from shared.runtime.problems import counted
from shared.runtime.progress import log
from shared.runtime.run_folder import FAST_FOLDER, RUN_FILE, STATE_FILE, FastRecord, claim_folder, trained_digest, utc
from shared.runtime.tables import read_csv

_PROGRESS: Final = "progress"


def distill(request: DistillRequest, how: TrainingResources) -> FastCard:
    """Trains the fast grader into RUN/fast, a folder that exists, and names it in RUN/run.json.

    Raises:
      InputError: for a folder that was begun otherwise, a full disk, or training that diverges.
    """
    started, run, device = time.time(), request.run, torch.device(how.device)
    use_all_cores()
    use_deterministic(device)
    folder = run / FAST_FOLDER
    claim_folder(folder, request.state, command="classify distill", resume=how.resume)
    sweep_temporary(folder)
    if how.resume and (folder / MODEL_FILE).is_file():
        log(f"{folder}: already finished, kept")
        card = load_fast_card(run)
    else:
        with using_cache(run / "cache", lock=run / STATE_FILE, keep=how.keep_cache):
            cache = build_cache(request.job, run / "cache", workers=how.workers)
            card = _train(request, cache, how)
        _record(request, started=started, device=str(device))
    shutil.rmtree(folder / _PROGRESS, ignore_errors=True)
    return card


def _train(request: DistillRequest, cache: CropCache, how: TrainingResources) -> FastCard:
    data, config, device = request.data, request.config, torch.device(how.device)
    folder, runs = request.run / FAST_FOLDER, run_folder(request.run)
    crops = select_crops(cache, data, data.study_ids, graded_only=True, without=request.without)
    if not len(crops):
        raise InputError(f"{data.root}: no graded crop to learn from; are its grades empty?")
    log(f"loading {counted(len(request.cards), 'fold')} to learn from")
    members = [(card, load_model(runs.fold(k), card, device)) for k, card in request.cards.items()]
    teachers = Teachers(members, request.recipe, device)
    prior = floored(np.mean([card.prior for card in request.cards.values()], axis=0))  # the folds' own, [25, 3]
    torch.manual_seed(config.train.seed)
    model = build_model(config.model, slices=config.crop.channels, prior=prior)
    start = best_fold(request) if request.recipe.start == "best" else None
    if start is not None:
        log(f"starting with the weights of fold {start}")
        model.load_state_dict(members[list(request.cards).index(start)][1].state_dict())
    student = Student(model, crops, config, _augmenter(request), teachers=teachers, device=device)
    comparison = Comparison(crops, teachers, config, device)
    with how.tracking.curves(FAST_FOLDER, config.model_dump(mode="json")) as curves:
        network, history = fit(student, comparison.divergence, folder / _PROGRESS, curves)
    stored = _as_stored(network, request)
    card = FastCard(
        network=replace(
            next(iter(request.cards.values())), prior=prior, fold=None, calibration=dict.fromkeys(Condition, IDENTITY)
        ),
        distilled=Distillation(
            teachers=request.teachers, recipe=request.recipe, start=start, crops=len(crops),
            divergence=comparison.divergence(stored), half_precision=comparison.largest_change(network, stored),
        ),
    )  # fmt: skip
    _write(folder, card, stored.state_dict(), history)
    return card


def best_fold(request: DistillRequest) -> int:
    """The fold whose weights had the lowest loss on the studies that it held out."""
    folder = run_folder(request.run)
    losses = {k: _held_out_loss(folder.fold(k), request.cards[k].config.train.keep) for k in request.cards}
    return min(losses, key=lambda k: (losses[k], k))


def _held_out_loss(fold: Path, keep: str) -> float:
    column = read_csv(fold / "log.csv", {"held_out_loss": "float64"})["held_out_loss"].dropna()
    if column.empty:
        return float("inf")
    return float(column.min() if keep == "best" else column.iloc[-1])


def _augmenter(request: DistillRequest) -> Augmenter:
    config, measured = request.config, request.jitter
    return Augmenter(
        crop=config.crop,
        augment=config.augment,
        jitter={c: config.jitter.of_annotated(c, measured.get(c)) for c in Condition},
        detected_share={c: config.jitter.share_of_detected(c, measured.get(c)) for c in Condition},
    )


def _as_stored(network: SeverityNet, request: DistillRequest) -> SeverityNet:
    """The network as it will be read back: with kernels and matrices rounded to half precision.

    Raises:
      InputError: when a weight is too large for it.
    """
    state = halved(network.state_dict())
    wide = next((name for name, tensor in state.items() if not torch.isfinite(tensor).all()), None)
    if wide is not None:
        raise InputError(f"{request.run}: {wide} cannot be stored in half precision; lower rate with --set rate=0.25")
    copy = empty_model(request.config.model, slices=request.config.crop.channels)
    copy.load_state_dict(state)
    return copy.to(next(network.parameters()).device).eval()


def _write(folder: Path, card: FastCard, state: Mapping[str, Tensor], history: list[EpochResult]) -> None:
    rows = [
        {"epoch": h.epoch, "train_loss": h.train_loss, "divergence": h.held_out_loss, "learning_rate": h.learning_rate}
        for h in history
    ]
    write_csv(folder / "log.csv", pd.DataFrame(rows))
    save_fast(folder, card, state)


def _record(request: DistillRequest, *, started: float, device: str) -> None:
    """Names the fast grader in RUN/run.json."""
    record = FastRecord(
        started=utc(started), seconds=round(time.time() - started, 1), folds=list(request.cards), device=device,
        sha256=trained_digest(request.run, fast=True),
    )  # fmt: skip
    facts = run_folder(request.run).facts()
    write_json(request.run / RUN_FILE, {**facts, "fast": record.model_dump(mode="json")})
