"""Suppression of overlapping boxes is torchvision's, although its package is not imported."""

import pytest
import torch
from torchvision.ops import batched_nms

from localize.detector import nms


@pytest.mark.parametrize("count", [0, 1, 200, 999, 1500])
def test_boxes_are_suppressed_as_torchvision_does(count: int) -> None:
    random = torch.Generator().manual_seed(count)
    corner, size = torch.rand(count, 2, generator=random) * 200, torch.rand(count, 2, generator=random) * 90
    xyxy = torch.cat([corner, corner + size], dim=1)
    score, level = torch.rand(count, generator=random), torch.randint(5, (count,), generator=random)
    kept = nms._batched_nms(xyxy, score, level)
    assert kept.tolist() == batched_nms(xyxy, score, level, 0.5).tolist()
    assert 0 < len(kept) < count or count < 2
