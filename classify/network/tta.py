"""Test-time augmentation: the same crop seen slightly shifted, turned, scaled and, for the canal, mirrored."""

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from classify.config import CropConfig
from classify.network.augment import Augmenter, Draw, center, standardise
from classify.samples import FAMILY_OF
from classify.train.batches import CANAL

_SHIFT: Final = 0.05  # of the crop's side
_TURN_DEG: Final = 6.0
_SCALE: Final = 1.07

# Shift x, shift y (shares of the side), rotation in degrees, scale, mirrored.
_VIEWS: Final = (
    (0.0, 0.0, 0.0, 1.0, False),
    (_SHIFT, 0.0, 0.0, 1.0, False),
    (-_SHIFT, 0.0, 0.0, 1.0, False),
    (0.0, _SHIFT, 0.0, 1.0, False),
    (0.0, -_SHIFT, 0.0, 1.0, False),
    (0.0, 0.0, _TURN_DEG, 1.0, False),
    (0.0, 0.0, -_TURN_DEG, 1.0, False),
    (0.0, 0.0, 0.0, _SCALE, False),
    (0.0, 0.0, 0.0, 1 / _SCALE, False),
    (0.0, 0.0, 0.0, 1.0, True),
)


def network_inputs(patches: Tensor, findings: NDArray[np.intp], crop: CropConfig, *, tta: bool) -> list[Tensor]:
    """Inputs whose probabilities are to be averaged: the centre alone, or every view of it.

    Mirroring reverses the slices of canal crops: the mirrored patient has the same grade. A side's crop has no such
    mirror image, so it is seen from the centre once more. # [b, cached channels, cached px, cached px] 8-bit, [b]
    """
    if not tta:
        return [_ready(center(patches, crop), crop)]
    still = Augmenter.still(crop)
    return [_ready(still.apply(patches, draw), crop) for draw in _draws(findings, crop)]


def _draws(findings: NDArray[np.intp], crop: CropConfig) -> list[Draw]:
    b = len(findings)
    canal = FAMILY_OF[findings] == CANAL
    draws = []
    for x, y, degrees, scale, mirrored in _VIEWS:
        shift = np.array([x, y]) * crop.size_px
        draws.append(
            Draw.unchanged(
                b,
                shift_px=np.tile(shift.clip(-crop.margin_px, crop.margin_px), (b, 1)).astype(np.float32),
                rotation_rad=np.full(b, np.radians(degrees), np.float32),
                scale=np.full(b, scale, np.float32),
                mirror=canal & mirrored,
            )
        )
    return draws


def _ready(x: Tensor, crop: CropConfig) -> Tensor:
    return standardise(x, crop.views).contiguous(memory_format=torch.channels_last)
