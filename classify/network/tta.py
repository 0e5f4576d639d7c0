"""Test-time augmentation: variants of a crop that are shifted, rotated, scaled and, for the canal, mirrored."""

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from classify.config import CropConfig
from classify.network.augment import Augmenter, Draw, center, standardise
from classify.network.model import CANAL
from classify.samples import FAMILY_OF

_SHIFT: Final = 0.05  # as a fraction of the crop's side
_TURN_DEG: Final = 6.0
_SCALE: Final = 1.07

# Shift x, shift y (fractions of the side), rotation in degrees, scale, mirrored.
_VARIANTS: Final = (
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
    """Network inputs whose probabilities are to be averaged.

    The mirrored variant reverses the slices of canal crops, because a mirrored patient has the same grade. Crops of a
    side have no such mirror image, so their last variant is the unchanged crop.

    Args:
      patches: [b, cached channels, cached px, cached px] 8-bit.
      findings: [b] indices into `FINDINGS`.

    Returns:
      [b, channels, size, size] for the centre crop or, with `tta`, for each variant.
    """
    if not tta:
        return [_ready(center(patches, crop), crop)]
    still = Augmenter.still(crop)
    return [_ready(still.apply(patches, draw), crop) for draw in _draws(findings, crop)]


def _draws(findings: NDArray[np.intp], crop: CropConfig) -> list[Draw]:
    b = len(findings)
    canal = FAMILY_OF[findings] == CANAL
    draws = []
    for x, y, degrees, scale, mirrored in _VARIANTS:
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
    return standardise(x, crop.channel_groups).contiguous(memory_format=torch.channels_last)
