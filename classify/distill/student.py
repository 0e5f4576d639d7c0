"""The fast grader while it learns: the folds say what each augmented crop shows, and it learns to say the same.

The answers of the folds are probabilities that already carry the metric's weights, so the loss does not apply those
weights to them again. Rows weigh as in the training of the folds, which tells where an error costs much; it does not
move the answer that is best for a crop.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from classify.config import DistillConfig
from classify.device import use_bf16
from classify.network.augment import center, standardise
from classify.network.checkpoint import ModelCard
from classify.network.model import FAMILIES, SeverityNet
from classify.samples import Crops, family_and_level
from classify.train.loop import Network, Trainer
from classify.train.plan import Pass

if TYPE_CHECKING:
    from classify.config import ClassifyConfig
    from classify.network.augment import Augmenter

# So many crops are compared after each epoch.
_COMPARED: Final = 384
_BATCH: Final = 64


class Teachers:
    """The folds of a run, each with its calibration, and how they teach."""

    def __init__(
        self, members: Sequence[tuple[ModelCard, SeverityNet]], recipe: DistillConfig, device: torch.device
    ) -> None:
        self.recipe: DistillConfig = recipe
        layout = torch.channels_last
        self._networks = [network.to(device=device, memory_format=layout).eval() for _, network in members]  # type: ignore[call-overload]  # torch's stub lacks this form
        temperatures = [[card.calibration[c].temperature for c in FAMILIES] for card, _ in members]
        self._temperatures = torch.tensor(temperatures, device=device)  # [folds, families]
        self._bf16 = use_bf16(members[0][0].config.train.amp, device)

    def __len__(self) -> int:
        return len(self._networks)

    @torch.no_grad()
    def __call__(self, x: Tensor, family: Tensor, level: Tensor, *, asked: Sequence[int] | None = None) -> Tensor:
        """The mean of the folds' probabilities, [b, 3], as `classify.predict.Classifier` submits them.

        Args:
          x: [b, channels, size, size].
          family, level: [b] indices.
          asked: places of the folds to ask; all by default.
        """
        total = torch.zeros(len(x), 3, device=x.device)
        places = range(len(self)) if asked is None else asked
        for place in places:
            with torch.autocast(x.device.type, torch.bfloat16, enabled=self._bf16):
                logits = self._networks[place](x, family, level)
            total += torch.softmax(logits.float() / self._temperatures[place][family][:, None], dim=1)
        return total / len(places)


class Student(Trainer):
    """The trainer of a fast grader."""

    evaluated = "divergence from the folds"

    def __init__(
        self, model: SeverityNet, crops: Crops, config: "ClassifyConfig", augmenter: "Augmenter", *,
        teachers: Teachers, device: torch.device,
    ) -> None:  # fmt: skip
        # No fold has this number, so no fold's random numbers come again.
        super().__init__(model, crops, config, augmenter, fold=10_000, device=device)
        self._teachers, self._recipe = teachers, teachers.recipe

    @property
    def name(self) -> str:
        return "fast"

    def loss(self, network: Network, x: Tensor, one: Pass) -> Tensor:
        """Cross-entropy with the folds' answers to the same input, mixed with the grades themselves."""
        share = self._recipe.label_share
        target = (1 - share) * self._teachers(x, one.family, one.level, asked=self._asked(one))
        target = target + share * functional.one_hot(one.label, 3)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            logits = network(x, one.family, one.level)
        return (one.weight * functional.cross_entropy(logits, target, reduction="none")).mean()

    def _asked(self, one: Pass) -> list[int] | None:
        count = self._recipe.teachers
        if not 0 < count < len(self._teachers):
            return None
        chosen: list[int] = np.random.default_rng(one.seed).permutation(len(self._teachers))[:count].tolist()
        return chosen


class Comparison:
    """Some of the training crops, with what the folds say of them, to follow how far the student has come."""

    def __init__(self, crops: Crops, teachers: Teachers, config: "ClassifyConfig", device: torch.device) -> None:
        rows = np.random.default_rng(0).permutation(len(crops))[:_COMPARED]
        self._batches = [
            (
                _centred(crops, part, config, device),
                *family_and_level(crops.finding[part], device),
            )
            for part in np.array_split(rows, max(len(rows) // _BATCH, 1))
        ]
        self._answers = [teachers(*batch) for batch in self._batches]
        self._bf16 = use_bf16(config.train.amp, device)

    @torch.no_grad()
    def log_probabilities(self, network: SeverityNet) -> list[Tensor]:
        """What a network says of the crops, [b, 3] of each batch."""
        network.eval()
        said = []
        for x, family, level in self._batches:
            with torch.autocast(x.device.type, torch.bfloat16, enabled=self._bf16):
                logits = network(x, family, level)
            said.append(torch.log_softmax(logits.float(), dim=1))
        return said

    def divergence(self, network: SeverityNet) -> float:
        """Mean Kullback-Leibler divergence of a network's answers from those of the folds, in nats."""
        each = [
            functional.kl_div(said, answer, reduction="none").sum(1)
            for said, answer in zip(self.log_probabilities(network), self._answers, strict=True)
        ]
        return float(torch.cat(each).mean().clamp_min(0))

    def largest_change(self, network: SeverityNet, other: SeverityNet) -> float:
        """The largest difference between two networks in the probability of a grade."""
        pairs = zip(self.log_probabilities(network), self.log_probabilities(other), strict=True)
        return max(float((a.exp() - b.exp()).abs().max()) for a, b in pairs)


def _centred(crops: Crops, rows: NDArray[np.intp], config: "ClassifyConfig", device: torch.device) -> Tensor:
    x = center(torch.from_numpy(crops.read(rows)).to(device), config.crop)
    return standardise(x, config.crop.channel_groups).contiguous(memory_format=torch.channels_last)
