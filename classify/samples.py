"""Rows to train on or to predict: crops of a cache, each of a study and a finding, with its grade."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from classify.network.model import FAMILIES
from shared.labels import FINDINGS

FAMILY_OF = np.array([FAMILIES.index(f.condition) for f in FINDINGS], dtype=np.intp)
LEVEL_OF = np.array([f.level.value for f in FINDINGS], dtype=np.intp)


@dataclass(frozen=True, slots=True, kw_only=True)
class Crops:
    """Rows to train on or to predict.

    Attributes:
      patches: [studies, 25, slices, px, px] cached patches, in memory or memory-mapped.
      study: first index into `patches`. # [n]
      finding: second index, into `FINDINGS`. # [n]
      label: severity, -1 where not graded. # [n]
      annotated: whether the crop lies at an annotated point. # [n]
    """

    patches: NDArray[np.uint8]
    study: NDArray[np.intp]
    finding: NDArray[np.intp]
    label: NDArray[np.int8]
    annotated: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.study)

    @property
    def family(self) -> NDArray[np.intp]:
        return FAMILY_OF[self.finding]

    def read(self, rows: NDArray[np.intp]) -> NDArray[np.uint8]:
        """Patches of the given rows, copied. # [b, channels, px, px]"""
        out = np.empty((len(rows), *self.patches.shape[2:]), np.uint8)
        for i, row in enumerate(rows):
            out[i] = self.patches[self.study[row], self.finding[row]]
        return out


def family_and_level(findings: NDArray[np.intp], device: torch.device) -> tuple[Tensor, Tensor]:
    """Indices of family and level of indices into `FINDINGS`, as the network takes them. # [b] -> [b], [b]"""
    return torch.from_numpy(FAMILY_OF[findings]).to(device), torch.from_numpy(LEVEL_OF[findings]).to(device)
