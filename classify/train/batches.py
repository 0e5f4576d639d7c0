"""Divides an epoch into batches, and a batch into parts."""

import numpy as np
from numpy.typing import NDArray

from classify.network.model import CANAL
from classify.samples import Crops

Rows = NDArray[np.intp]


def step_count(rows: int, batch: int) -> int:
    """Number of batches in an epoch. Rows that do not fill a batch are skipped in that epoch."""
    return max(rows // batch, 1)


def plain_batches(crops: Crops, batch: int, rng: np.random.Generator) -> list[Rows]:
    """Batches of rows in random order."""
    order = rng.permutation(len(crops))
    return [order[i * batch : (i + 1) * batch] for i in range(step_count(len(crops), batch))]


def study_batches(crops: Crops, batch: int, rng: np.random.Generator) -> list[Rows]:
    """Batches that hold all canal crops of their studies, so that the loss can use a study's worst canal level.

    Studies are dealt to the batches in turn, so that every batch has about the same share of canal crops. Other crops
    fill the batches at random. If only the canal family is trained, batch sizes vary by one study.
    """
    steps = step_count(len(crops), batch)
    together = canal_groups(crops)
    together = [together[i] for i in rng.permutation(len(together))]
    others = rng.permutation(np.flatnonzero(crops.family != CANAL))
    batches, start = [], 0
    for step in range(steps):
        dealt = together[step::steps]
        end = start + max(batch - sum(map(len, dealt)), 0)
        batches.append(np.concatenate([*dealt, others[start:end]]).astype(np.intp))
        start = end
    return [rows for rows in batches if len(rows)]


def canal_groups(crops: Crops) -> list[Rows]:
    """Canal rows of each study that has any."""
    rows = np.flatnonzero(crops.family == CANAL)
    rows = rows[np.argsort(crops.study[rows], kind="stable")]
    starts = np.flatnonzero(np.diff(crops.study[rows])) + 1
    return np.split(rows, starts) if len(rows) else []


def divided(crops: Crops, rows: Rows, parts: int, *, whole_studies: bool = False) -> list[Rows]:
    """Divides a batch into parts of about the same size.

    Args:
      rows: [b] of `crops`.
      whole_studies: keeps the canal crops of a study together.

    Returns:
      For each part the places [p] of its rows in `rows`. Each place occurs once.
    """
    places = np.arange(len(rows))
    if parts == 1 or not whole_studies:
        return np.array_split(places, parts)
    canal = np.flatnonzero(crops.family[rows] == CANAL)
    canal = canal[np.argsort(crops.study[rows[canal]], kind="stable")]
    together = np.split(canal, np.flatnonzero(np.diff(crops.study[rows[canal]])) + 1)
    others, start = np.setdiff1d(places, canal), 0
    out = []
    for part, size in enumerate(map(len, np.array_split(places, parts))):
        dealt = together[part::parts]
        end = start + max(size - sum(map(len, dealt)), 0)
        out.append(np.concatenate([*dealt, others[start:end]]).astype(np.intp))
        start = end
    return out
