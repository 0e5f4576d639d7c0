"""What a fold's network says of the studies that it held out: logits, loss, calibration and probabilities."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from classify.calibrate import Calibration, fit_where_it_helps, softmax
from classify.config import CropConfig
from classify.network.augment import Augmenter, center, standardise
from classify.network.model import FAMILIES, SeverityNet
from classify.samples import Crops, family_and_level
from classify.train.feed import Feed
from classify.train.processes import ALONE, Processes
from classify.train.together import added_up
from shared.labels import FINDINGS, Condition
from shared.metric import weighted_log_loss
from shared.probabilities.table import ProbabilityTable, constant_table, floored

_BATCH: Final = 128


@torch.no_grad()
def predict_logits(
    model: SeverityNet, feed: Feed, crop: CropConfig, *,
    bf16: bool, augmenter: Augmenter | None = None, team: Processes = ALONE,
) -> NDArray[np.float64]:  # fmt: skip
    """Logits [n, 3] of every row before calibration, at the crop's centre or as `augmenter` draws it from seed 0.

    The processes of a team compute some batches each, and all of them get all logits.
    """
    model.eval()
    rng, crops, device = np.random.default_rng(0), feed.crops, feed.device
    batches = [np.arange(start, min(start + _BATCH, len(crops))) for start in range(0, len(crops), _BATCH)]
    out = torch.zeros(len(crops), 3, device=device)
    # Each process makes all draws, so that a crop's does not depend on the number of processes.
    draws = [augmenter.draw(rng, crops.finding[rows], crops.annotated[rows]) for rows in batches if augmenter]
    mine = range(team.rank, len(batches), team.world)
    for i, patches in zip(mine, feed.patches([batches[i] for i in mine]), strict=True):
        rows, x = batches[i], augmenter.apply(patches, draws[i]) if augmenter else center(patches, crop)
        x = standardise(x, crop.channel_groups).contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            out[rows[0] : rows[-1] + 1] = model(x, *family_and_level(crops.finding[rows], device))
    return added_up(out, team).cpu().double().numpy()


def family_mean_loss(logits: NDArray[np.float64], crops: Crops) -> float:
    """Mean over families of the weighted log loss of logits [n, 3]; NaN when nothing is graded."""
    probabilities = softmax(logits)
    losses = [
        weighted_log_loss(probabilities[crops.family == c], crops.label[crops.family == c])
        for c in range(len(FAMILIES))
    ]
    present = [v for v in losses if not np.isnan(v)]
    return float(np.mean(present)) if present else float("nan")


def fit_calibrations(logits: NDArray[np.float64], crops: Crops) -> dict[Condition, Calibration]:
    """The calibration of each family, fitted on logits [n, 3]."""
    families = {condition: crops.family == c for c, condition in enumerate(FAMILIES)}
    return {c: fit_where_it_helps(logits[own], crops.label[own], crops.study[own]) for c, own in families.items()}


def held_out_table(
    logits: NDArray[np.float64], crops: Crops, calibration: Mapping[Condition, Calibration],
    prior: NDArray[np.float64], *, study_ids: Sequence[str], rows: NDArray[np.intp],
) -> ProbabilityTable:  # fmt: skip
    """Probabilities of the held-out studies: the model's where there is a crop, the prior elsewhere.

    Args:
      logits: [n, 3] of `crops`.
      prior: [25, 3].
      rows: [studies] value of `crops.study` for each of `study_ids`.
    """
    table = constant_table(study_ids, prior)
    values, from_model = table.submission.copy(), table.from_model.copy()
    position = {int(row): i for i, row in enumerate(rows)}
    for i, (study, finding) in enumerate(zip(crops.study, crops.finding, strict=True)):
        place = (position[int(study)], int(finding))
        values[place] = calibration[FINDINGS[finding].condition](logits[i])
        from_model[place] = True
    return ProbabilityTable(study_ids=table.study_ids, submission=floored(values), from_model=from_model)
