"""Turns a network's raw output into boxes with a level and a score."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from shared.geometry import FloatArray

if TYPE_CHECKING:
    from torch import Tensor

_IOU: Final = 0.5
_MAX_BOXES: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class RawBoxes:
    """Boxes of one image, best first.

    Attributes:
      xyxy: in image pixels, whole numbers at pixel centres.
      level: class of each box.
      score: in [0, 1].
    """

    xyxy: FloatArray  # [n, 4]
    level: NDArray[np.int64]  # [n]
    score: FloatArray  # [n]


def choose_boxes(raw: "Tensor", min_score: float) -> RawBoxes:
    """Applies non-maximum suppression per level: a place may keep several levels, because the chain decides later.

    Ultralytics' own function has a time limit, so its result may differ on a busy machine.

    Args:
      raw: [4 + levels, anchors], centre, size and a score per level.
    """
    import torch
    from torchvision.ops import batched_nms

    scores, anchors = raw[4:].T, raw[:4].T
    anchor, level = (scores > min_score).nonzero(as_tuple=True)
    score, center, size = scores[anchor, level], anchors[anchor, :2], anchors[anchor, 2:]
    xyxy = torch.cat([center - size / 2, center + size / 2], dim=1)
    kept = batched_nms(xyxy, score, level, _IOU)[:_MAX_BOXES]
    return RawBoxes(
        xyxy=xyxy[kept].cpu().double().numpy() - 0.5,
        level=level[kept].cpu().numpy(),
        score=np.clip(score[kept].cpu().double().numpy(), 0, 1),
    )
