"""A fast grader of a run without any training: the network of one of its folds, stored as a fast grader is."""

from dataclasses import replace
from pathlib import Path

import torch

from classify.config import DistillConfig
from classify.network.checkpoint import WEIGHTS_FILE, load_card, load_model, run_folder
from classify.network.fast import Distillation, FastCard, save_fast
from shared.runtime.run_folder import FAST_FOLDER, sha256_of


def add_fast(run: Path) -> Path:
    """Gives a run the network of its first fold as its fast grader; returns the run."""
    folder = run_folder(run)
    folds = folder.finished_folds()
    card = load_card(folder.fold(folds[0]))
    network = load_model(folder.fold(folds[0]), card, torch.device("cpu"))
    distilled = Distillation(
        teachers={str(k): sha256_of(folder.fold(k) / WEIGHTS_FILE) for k in folds}, recipe=DistillConfig(),
        start=folds[0], crops=1, divergence=0.0, half_precision=0.0,
    )  # fmt: skip
    (run / FAST_FOLDER).mkdir()
    save_fast(run / FAST_FOLDER, FastCard(network=replace(card, fold=None), distilled=distilled), network.state_dict())
    return run
