"""Rows to train on or to grade: crops selected from the cache, each with its study, finding and grade."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from classify.crop_cache import CropCache
from classify.network.model import FAMILIES
from classify.noisy_labels import Flags
from shared.data.challenge import Challenge
from shared.labels import FINDINGS

FAMILY_OF = np.array([FAMILIES.index(f.condition) for f in FINDINGS], dtype=np.intp)
LEVEL_OF = np.array([f.level.value for f in FINDINGS], dtype=np.intp)


@dataclass(frozen=True, slots=True, kw_only=True)
class Crops:
    """Rows to train on or to grade.

    Attributes:
      patches: [studies, 25, channels, px, px] cached patches, memory-mapped.
      study: [n] first index into `patches`.
      finding: [n] second index, into `FINDINGS`.
      label: [n] severity, -1 where not graded.
      annotated: [n] whether the crop lies at an annotated point.
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
        """Index [n] of each row's condition family."""
        return FAMILY_OF[self.finding]

    def read(self, rows: NDArray[np.intp]) -> NDArray[np.uint8]:
        """Copies the patches [b, channels, px, px] of the given rows [b]."""
        out = np.empty((len(rows), *self.patches.shape[2:]), np.uint8)
        for i, row in enumerate(rows):
            out[i] = self.patches[self.study[row], self.finding[row]]
        return out


def select_crops(
    cache: CropCache, data: Challenge, study_ids: Sequence[str], *,
    graded_only: bool = False, localized_only: bool = False, without: Flags = frozenset(),
) -> Crops:  # fmt: skip
    """Crops of some studies.

    Args:
      graded_only: leaves out findings without a grade.
      localized_only: leaves out crops at annotated points.
      without: findings to leave out.
    """
    rows = cache.rows_of(study_ids)
    grades = data.grades_of(list(study_ids))
    wanted = cache.present[rows].copy()
    if graded_only:
        wanted &= grades >= 0
    if localized_only:
        wanted &= ~cache.annotated[rows]
    position_of = {study_id: i for i, study_id in enumerate(study_ids)}
    for study_id, finding in without:
        if study_id in position_of:
            wanted[position_of[study_id], finding.index] = False
    position, place = np.nonzero(wanted)
    return Crops(
        patches=cache.patches, study=rows[position], finding=place, label=grades[position, place],
        annotated=cache.annotated[rows][position, place],
    )  # fmt: skip


def family_and_level(findings: NDArray[np.intp], device: torch.device) -> tuple[Tensor, Tensor]:
    """Family and level indices [b], as the network takes them, of indices [b] into `FINDINGS`."""
    return torch.from_numpy(FAMILY_OF[findings]).to(device), torch.from_numpy(LEVEL_OF[findings]).to(device)
