"""Everything that the steps of an epoch read besides patches, on the device before the first step.

Random numbers depend on seed, fold and epoch alone: they are drawn for whole steps, and each process takes its share.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from classify.config import TrainConfig
from classify.network.augment import Augmenter, Draw, PlacedDraw, on_device
from classify.network.model import CANAL
from classify.samples import FAMILY_OF, LEVEL_OF, Crops
from classify.train.batches import Rows, divided, plain_batches, study_batches
from classify.train.processes import ALONE, Processes
from shared.runtime.errors import InputError
from shared.runtime.problems import counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """What this process sends through the network at once, b crops.

    Attributes:
      rows: [b] of the training crops.
      draw: their augmentation.
      family, level, label, weight: [b] as the network and the loss take them.
      share: these rows over all rows of the step, in all its passes and processes.
      canal: [c] places of the graded canal rows.
      study: [c] which study each of those belongs to, from 0 to `studies` - 1.
      place: [b] places of the crops in the batch that all processes pass together.
      batch: size of that batch.
      last: whether it is the last of its step.
      seed: of all that is drawn while that batch is computed; the same in all processes.
    """

    rows: Rows
    draw: PlacedDraw
    family: Tensor
    level: Tensor
    label: Tensor
    weight: Tensor
    share: float
    canal: Tensor
    study: Tensor
    studies: int
    place: Tensor
    batch: int
    last: bool
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Planner:
    """Plans epochs.

    Attributes:
      weights: [n] of the rows in the loss.
      whole_studies: keeps the canal crops of a study together in one pass.
    """

    crops: Crops
    config: TrainConfig
    augmenter: Augmenter
    weights: NDArray[np.float32]
    whole_studies: bool

    def epoch(self, rng: np.random.Generator, device: torch.device, team: Processes = ALONE) -> list[list[Pass]]:
        """The passes of each step of an epoch.

        Raises:
          InputError: when a batch has fewer crops than there are processes.
        """
        compose = study_batches if self.whole_studies else plain_batches
        steps = compose(self.crops, self.config.batch * self.config.accumulate, rng)
        shares = [list(self._shares(rows, rng, team)) for rows in steps]
        passes = self._placed([share for of_step in shares for share in of_step], device)
        return [[next(passes) for _ in of_step] for of_step in shares]

    def _shares(self, rows: Rows, rng: np.random.Generator, team: Processes) -> Iterator["_Share"]:
        """This process's share of each pass of a step."""
        drawn = self.augmenter.draw(rng, self.crops.finding[rows], self.crops.annotated[rows])
        wholes = [whole for whole in self._divided(rows, self.config.accumulate) if len(whole)]
        for number, whole in enumerate(wholes, start=1):
            places = self._divided(rows[whole], team.world)
            if not all(map(len, places)):
                raise InputError(
                    f"a batch of {counted(len(whole), 'crop')} cannot be shared by {counted(team.world, 'process')}; "
                    "start fewer, or raise train.batch"
                )
            own = whole[places[team.rank]]
            yield _Share(
                rows=rows[own], draw=drawn if len(own) == len(rows) else drawn.part(own), place=places[team.rank],
                batch=len(whole), step=len(rows), last=number == len(wholes), seed=_seed(drawn.noise_seed, number),
            )  # fmt: skip

    def _divided(self, rows: Rows, parts: int) -> list[Rows]:
        return divided(self.crops, rows, parts, whole_studies=self.whole_studies)

    def _placed(self, shares: Sequence["_Share"], device: torch.device) -> Iterator[Pass]:
        """The shares on the device: each column of all of them travels there at once."""
        crops, draws = self.crops, self.augmenter.place([s.draw for s in shares], device)
        canal = [np.flatnonzero((crops.family[s.rows] == CANAL) & (crops.label[s.rows] >= 0)) for s in shares]
        studies = [np.unique(crops.study[s.rows[c]], return_inverse=True) for s, c in zip(shares, canal, strict=True)]
        columns: dict[str, Sequence[NDArray[np.generic]]] = {
            "family": [FAMILY_OF[crops.finding[s.rows]] for s in shares],
            "level": [LEVEL_OF[crops.finding[s.rows]] for s in shares],
            "label": [crops.label[s.rows].astype(np.int64) for s in shares],
            "weight": [self.weights[s.rows] for s in shares],
            "canal": canal,
            "study": [inverse for _, inverse in studies],
            "place": [s.place for s in shares],
        }
        moved = {name: on_device(arrays, device) for name, arrays in columns.items()}
        for i, share in enumerate(shares):
            own = {name: tensors[i] for name, tensors in moved.items()}
            yield Pass(
                rows=share.rows, draw=draws[i], share=len(share.rows) / share.step, studies=len(studies[i][0]),
                batch=share.batch, last=share.last, seed=share.seed, **own,
            )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class _Share:
    """A `Pass` before it is on the device; `step` is the number of rows in its step."""

    rows: Rows
    draw: Draw
    place: Rows
    batch: int
    step: int
    last: bool
    seed: int


def _seed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
