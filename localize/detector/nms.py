"""Turns a network's raw output into boxes with a level and a score."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from shared.geometry import FloatArray

if TYPE_CHECKING:
    from torch import Tensor

_IOU: Final = 0.5
_MAX_BOXES: Final = 60
# With more, torchvision goes level by level.
_FEW_BOXES: Final = 1000


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

    scores, anchors = raw[4:].T, raw[:4].T
    anchor, level = (scores > min_score).nonzero(as_tuple=True)
    score, center, size = scores[anchor, level], anchors[anchor, :2], anchors[anchor, 2:]
    xyxy = torch.cat([center - size / 2, center + size / 2], dim=1)
    kept = _batched_nms(xyxy, score, level)[:_MAX_BOXES]
    return RawBoxes(
        xyxy=xyxy[kept].cpu().double().numpy() - 0.5,
        level=level[kept].cpu().numpy(),
        score=np.clip(score[kept].cpu().double().numpy(), 0, 1),
    )


def _batched_nms(xyxy: "Tensor", score: "Tensor", level: "Tensor") -> "Tensor":
    """`torchvision.ops.batched_nms`, most often without importing torchvision."""
    if len(xyxy) > _FEW_BOXES:
        from torchvision.ops import batched_nms

        kept: Tensor = batched_nms(xyxy, score, level, _IOU)
        return kept
    if not len(xyxy):
        return level
    # As torchvision does it: boxes of different levels are moved apart, so that they do not overlap.
    apart = level.to(xyxy) * (xyxy.max() + 1)
    return _suppression()(xyxy + apart[:, None], score, _IOU)


@functools.cache
def _suppression() -> "Callable[[Tensor, Tensor, float], Tensor]":
    """torchvision's compiled function alone: to import the package takes as long as to import torch."""
    import torch

    package = find_spec("torchvision")
    for library in Path(package.origin).parent.glob("_C*.so") if package is not None and package.origin else ():
        try:
            torch.ops.load_library(str(library))  # type: ignore[no-untyped-call]
            alone: Callable[[Tensor, Tensor, float], Tensor] = torch.ops.torchvision.nms
            return alone
        except (OSError, AttributeError):  # another layout than today's
            continue
    from torchvision.ops import nms

    whole: Callable[[Tensor, Tensor, float], Tensor] = nms
    return whole
