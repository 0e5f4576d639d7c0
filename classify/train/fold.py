"""Trains one fold: its network, its calibration and the probabilities of the studies that it holds out."""

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from classify.crop_cache import CropCache
from classify.network.augment import Augmenter
from classify.network.checkpoint import WEIGHTS_FILE, ModelCard, save_card, save_weights
from classify.network.model import SeverityNet, build_model
from classify.samples import select_crops
from classify.train.feed import Feed
from classify.train.held_out import family_mean_loss, fit_calibrations, held_out_table, predict_logits
from classify.train.loop import Trainer, fit
from classify.train.request import TrainingResources, TrainRequest
from shared.labels import Condition
from shared.probabilities.files import write_probabilities
from shared.probabilities.table import weighted_prior
from shared.runtime.errors import InputError
from shared.runtime.files import write_csv

PROBABILITIES_FILE: Final = "probabilities.csv"
_PROGRESS: Final = "progress"


def train_fold(request: TrainRequest, k: int, cache: CropCache, folder: Path, how: TrainingResources) -> None:
    """Trains fold `k` into `folder`, continuing from an earlier, interrupted call.

    All processes of a team call this. They train the fold together, and the first of them writes.

    Raises:
      InputError: when there is nothing to train on, or training diverges.
    """
    data, config, held_out_ids = request.data, request.config, request.splits.held_out(k)
    training_ids, localized = request.splits.training(k), request.points is not None
    prior = weighted_prior(data.grades_of(training_ids))
    training = select_crops(cache, data, training_ids, graded_only=True, without=request.without)
    held_out = select_crops(cache, data, held_out_ids, localized_only=localized)
    if not len(training):
        raise InputError(f"fold {k}: no graded crop to train on; are the grades of {data.root} empty?")
    torch.manual_seed(config.train.seed * 1000 + k)
    model = build_model(config.model, slices=config.crop.channels, prior=prior)
    augmenter, device = _augmenter(request), torch.device(how.device)
    trainer, team = Trainer(model, training, config, augmenter, fold=k, device=device), how.processes.team
    trainer.join(team)
    feed = Feed.of(held_out, device)

    def logits_of(network: SeverityNet, jitter: Augmenter | None = None) -> NDArray[np.float64]:
        logits = predict_logits(network, feed, config.crop, bf16=trainer.bf16, augmenter=jitter, team=team)
        if not np.isfinite(logits).all():  # the last step's loss was finite, and the weights after it are not
            raise InputError(
                f"fold {k}: training diverged, the network's answers are not finite; lower train.learning_rate (now "
                f"{config.train.learning_rate:g}) and restart with --overwrite"
            )
        return logits

    answers = []

    def held_out_loss(network: SeverityNet) -> float:
        answers.append(logits_of(network))
        return family_mean_loss(answers[-1], held_out)

    with how.tracking.curves(folder.name, config.model_dump(mode="json")) as curves:
        network, history = fit(trainer, held_out_loss, folder / _PROGRESS, curves)
    # The last epoch's network has just answered, unless that was before an interruption.
    logits = answers[-1] if answers and config.train.keep == "last" else logits_of(network)
    # Prediction has no true points, so the calibration is fitted at points with stage 1's error.
    off_center = logits if localized else logits_of(network, augmenter.only_jitter())
    if not team.writes:
        return
    calibration = fit_calibrations(off_center, held_out)
    rows = cache.rows_of(held_out_ids)
    table = held_out_table(logits, held_out, calibration, prior, study_ids=held_out_ids, rows=rows)
    write_probabilities(folder / PROBABILITIES_FILE, table)
    write_csv(folder / "log.csv", pd.DataFrame([asdict(h) for h in history]).drop(columns="seconds"))
    save_weights(folder / WEIGHTS_FILE, network.state_dict())
    card = ModelCard(
        config=config, unmirror=request.unmirror, families=request.conditions, prior=prior, calibration=calibration,
        fold=k, data_fingerprint=data.fingerprint, held_out_points=request.held_out_points,
    )  # fmt: skip
    save_card(folder, card)
    drop_progress(folder)


def drop_progress(folder: Path) -> None:
    """Deletes the state that an unfinished fold continues from."""
    shutil.rmtree(folder / _PROGRESS, ignore_errors=True)


def _augmenter(request: TrainRequest) -> Augmenter:
    config, measured = request.config, request.measured
    return Augmenter(
        crop=config.crop,
        augment=config.augment,
        jitter={c: config.jitter.of_annotated(c, measured.get(c)) for c in Condition},
        detected_share={c: config.jitter.share_of_detected(c, measured.get(c)) for c in Condition},
    )
