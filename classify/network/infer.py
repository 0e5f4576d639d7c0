"""Logits of many rows, batch by batch."""

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from classify.config import CropConfig
from classify.network.augment import Augmenter, center, standardise
from classify.network.model import SeverityNet
from classify.samples import Crops, family_and_level

_BATCH: Final = 128


@torch.no_grad()
def predict_logits(
    model: SeverityNet,
    crops: Crops,
    crop: CropConfig,
    *,
    device: torch.device,
    bf16: bool,
    augmenter: Augmenter | None = None,
) -> NDArray[np.float64]:
    """Logits of every row before calibration, at the crop's centre or as `augmenter` draws it from seed 0. # [n, 3]"""
    model.eval()
    rng = np.random.default_rng(0)
    out = np.zeros((len(crops), 3))
    for start in range(0, len(crops), _BATCH):
        rows = np.arange(start, min(start + _BATCH, len(crops)))
        patches = torch.from_numpy(crops.read(rows)).to(device)
        if augmenter is None:
            x = center(patches, crop)
        else:
            x = augmenter.apply(patches, augmenter.draw(rng, crops.finding[rows], crops.annotated[rows]))
        x = standardise(x, crop.views).contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            logits = model(x, *family_and_level(crops.finding[rows], device))
        out[rows] = logits.double().cpu().numpy()
    return out
