"""Occlusion maps (Zeiler and Fergus, ECCV 2014) show which parts of a crop the prediction depends on.

They work for any network. Class activation maps of a ResNet50 on a 64 px crop would have only four cells.
"""

from typing import Final

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from classify.network.augment import standardise
from classify.network.checkpoint import ModelCard
from classify.network.model import SeverityNet
from classify.samples import family_and_level
from shared.labels import FINDINGS, Severity
from shared.probabilities.table import unweighted

_CELLS: Final = 8  # positions along each axis
_COVER: Final = 2  # cells that one patch covers along each axis
_BATCH: Final = 32


@torch.no_grad()
def occlusion_map(card: ModelCard, model: SeverityNet, crop: NDArray[np.uint8], finding: int) -> NDArray[np.float64]:
    """How much the probability of Severe falls when a patch is covered with the mean of the crop.

    The patch is covered in all slices of the finding's own view. Probabilities are calibrated and unweighted.

    Args:
      crop: [channels, px, px] 8-bit.
      finding: index into `FINDINGS`.

    Returns:
      [px, px] drop in probability.
    """
    size = crop.shape[1]
    edges = np.linspace(0, size, _CELLS + 1).round().astype(int)
    windows = [
        (edges[i], edges[i + _COVER], edges[j], edges[j + _COVER])
        for i in range(_CELLS - _COVER + 1)
        for j in range(_CELLS - _COVER + 1)
    ]
    covered = np.repeat(crop[None], len(windows) + 1, axis=0)
    own = card.config.crop.slices
    for k, (top, bottom, left, right) in enumerate(windows):
        covered[k, :own, top:bottom, left:right] = round(float(crop[:own].mean()))
    device = next(model.parameters()).device
    family, level = family_and_level(np.full(_BATCH, finding), device)
    logits = []
    for start in range(0, len(covered), _BATCH):
        x = torch.from_numpy(covered[start : start + _BATCH]).to(device).float() / 255
        x = standardise(x, card.config.crop.channel_groups)
        x = x.contiguous(memory_format=torch.channels_last)
        logits.append(model(x, family[: len(x)], level[: len(x)]).double().cpu().numpy())
    severe = unweighted(card.calibration[FINDINGS[finding].condition](np.concatenate(logits)))[:, Severity.SEVERE]
    drop = (severe[-1] - severe[:-1]).reshape(_CELLS - _COVER + 1, -1)
    return np.asarray(cv2.resize(drop, (size, size), interpolation=cv2.INTER_CUBIC), dtype=np.float64)
