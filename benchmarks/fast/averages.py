"""Means of the weights of a run's folds: as they are, and with the statistics of batches measured anew."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from classify.calibrate import IDENTITY
from classify.crop_cache import cut_crops
from classify.crops import CropSpec
from classify.network.augment import center, standardise
from classify.network.checkpoint import ModelCard, load_card, load_model, run_folder
from classify.network.model import SeverityNet
from classify.predict import Classifier
from classify.samples import family_and_level
from shared.annotations import annotated_localizations
from shared.data.challenge import Challenge
from shared.labels import Condition
from shared.mirror.correct import as_shown

# So many training studies tell the statistics of a batch; each has 25 crops.
_STUDIES: Final = 40

Batch = tuple[Tensor, Tensor, Tensor]


def averaged(run: Path, data: Challenge, device: torch.device) -> dict[str, Classifier]:
    """Both graders by name."""
    folder = run_folder(run)
    members = [(load_card(folder.fold(k)), folder.fold(k)) for k in folder.finished_folds()]
    states = [load_model(path, card, device).state_dict() for card, path in members]
    first = members[0][0]
    card = replace(
        first, fold=None, prior=np.mean([c.prior for c, _ in members], axis=0),
        calibration=dict.fromkeys(Condition, IDENTITY),
    )  # fmt: skip
    mean = {
        name: torch.stack([s[name] for s in states]).mean(0) if tensor.is_floating_point() else tensor
        for name, tensor in states[0].items()
    }
    graders = {}
    for name in ("mean of weights", "mean of weights, statistics measured anew"):
        model = load_model(members[0][1], first, device)
        model.load_state_dict(mean)
        if name != "mean of weights":
            _measure_statistics(model, _batches(data, first, device))
        graders[name] = Classifier([(card, model)], device)
    return graders


@torch.no_grad()
def _measure_statistics(model: SeverityNet, batches: Iterator[Batch]) -> None:
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches
    model.train()
    for batch in batches:
        model(*batch)
    model.eval()


def _batches(data: Challenge, card: ModelCard, device: torch.device) -> Iterator[Batch]:
    """Crops of four training studies at a time."""
    crop = card.config.crop
    crops: list[np.ndarray] = []
    findings: list[int] = []
    for n, study_id in enumerate(data.study_ids[:_STUDIES], start=1):
        study = as_shown(data.load_study(study_id).study, look=card.unmirror).study
        points = annotated_localizations(study, data.points.get(study_id, ()))
        cut = cut_crops(study, points, lambda finding: CropSpec.cached(crop, finding)).crops
        crops += cut.values()
        findings += [finding.index for finding in cut]
        if n % 4 == 0:
            x = center(torch.from_numpy(np.stack(crops)).to(device), crop)
            x = standardise(x, crop.channel_groups).contiguous(memory_format=torch.channels_last)
            yield (x, *family_and_level(np.array(findings, dtype=np.intp), device))
            crops, findings = [], []
