"""Training loop of one network: schedule, averaged weights and resume. Works on arrays, not on folders of studies."""

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from classify.config import ClassifyConfig, TrainConfig
from classify.device import use_bf16
from classify.network.augment import Augmenter, standardise
from classify.network.checkpoint import Progress, load_progress, save_progress, unusable
from classify.network.model import CANAL, SeverityNet, any_severe_loss, empty_model, row_weights, weighted_loss
from classify.samples import Crops, family_and_level
from classify.train.batches import canal_groups, plain_batches, prefetched, step_count, study_batches
from shared.labels import SEVERITY_WEIGHTS
from shared.runtime.errors import InputError
from shared.runtime.progress import log, track
from shared.tracking.tracker import Log

# Longer epochs are also saved on the way, so that a kill loses no more work than this.
SAVE_EVERY_SECONDS: Final = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochResult:
    """One line of a fold's log.

    Attributes:
      train_loss: mean of the minimised loss over the epoch's steps: on augmented crops, weighted as in `row_weights`,
        with label smoothing and, where it is on, the any-severe term. It is not comparable with `held_out_loss`.
      held_out_loss: result of `fit`'s `evaluate` for the averaged weights.
    """

    epoch: int
    train_loss: float
    held_out_loss: float
    learning_rate: float
    seconds: float

    @property
    def curves(self) -> dict[str, float]:
        """The values by the names of their curves."""
        return {
            "loss/training": self.train_loss, "loss/held_out": self.held_out_loss, "learning_rate": self.learning_rate,
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class PartialEpoch:
    """State in the middle of an epoch: finished steps, their summed loss, and both random number generators."""

    step: int
    total: float
    numpy_state: str
    torch_state: list[Tensor]


Evaluate = Callable[[SeverityNet], float]


def fit(
    trainer: "Trainer", evaluate: Evaluate, progress: Path, curves: Log | None = None
) -> tuple[SeverityNet, list[EpochResult]]:  # fmt: skip
    """Trains a network, continuing from `progress` if a state is saved there.

    A run that was killed and continued, even within an epoch, gives the same weights as one that was not, on one device
    and with the same number of threads (on a GPU as far as torch has deterministic algorithms).

    Args:
      evaluate: returns the held-out loss of a network.
      progress: folder for the state of an unfinished run. It is left in place, to be deleted once the network is saved.
      curves: takes the results of each epoch.

    Returns:
      The network to keep, and the log.

    Raises:
      InputError: when training diverges.
    """
    config = trainer.config
    history, partial = trainer.resume(progress)
    while len(history) < config.epochs and not stops_early(history, config.patience):
        started, epoch = time.monotonic(), len(history)
        train_loss, rate = trainer.run_epoch(
            epoch, partial=partial, save=lambda state: trainer.save(progress, history, state)
        )
        partial = None
        if not math.isfinite(train_loss):
            raise InputError(
                f"{trainer.name} epoch {epoch + 1}: training diverged with loss {train_loss}; "
                f"lower train.learning_rate (now {config.learning_rate:g}) and restart with --overwrite"
            )
        held_out_loss = evaluate(trainer.averaged)
        result = EpochResult(
            epoch=epoch + 1, train_loss=train_loss, held_out_loss=held_out_loss, learning_rate=rate,
            seconds=time.monotonic() - started,
        )  # fmt: skip
        history.append(result)
        if curves is not None:
            curves(result.epoch, result.curves)
        trainer.remember_best(history)
        log(
            f"{trainer.name} epoch {result.epoch}/{config.epochs}: loss {train_loss:.4f}, "
            f"{trainer.evaluated} {held_out_loss:.4f} ({result.seconds:.0f} s)"
        )
        trainer.save(progress, history)
    return trainer.kept(), history


def stops_early(history: list[EpochResult], patience: int) -> bool:
    """Whether the last `patience` epochs did not lower the held-out loss; never for 0."""
    if not patience or len(history) <= patience:
        return False
    losses = [h.held_out_loss for h in history]
    return min(losses[-patience:]) >= min(losses[:-patience])


class Trainer:
    """Network, averaged network and optimizer of one fold."""

    # What messages call the loss that `fit`'s `evaluate` returns.
    evaluated = "held out"

    def __init__(
        self, model: SeverityNet, crops: Crops, config: ClassifyConfig, augmenter: Augmenter, *,
        fold: int, device: torch.device,
    ) -> None:  # fmt: skip
        train = config.train
        layout = {"device": device, "memory_format": torch.channels_last}
        self.model = model.to(**layout)  # type: ignore[call-overload]  # torch's stub lacks this form
        self.averaged = empty_model(config.model, slices=config.crop.channels)
        self.averaged.load_state_dict(model.state_dict())
        self.averaged = self.averaged.to(**layout).eval()  # type: ignore[call-overload]
        self.best: dict[str, Tensor] | None = None
        self.crops, self.config, self.augmenter, self.fold, self.device = crops, train, augmenter, fold, device
        self.channel_groups = config.crop.channel_groups
        self.bf16 = use_bf16(train.amp, device)
        self.weights = row_weights(
            crops.label, crops.family, balance=train.balance, canal_emphasis=train.canal_emphasis
        )
        self.steps = step_count(len(crops), train.batch)
        self.any_scale = _any_severe_scale(crops, self.weights, train, self.steps)
        self.optimizer = _optimizer(self.model, train)

    @property
    def name(self) -> str:
        """What messages call the network."""
        return f"fold {self.fold}"

    def run_epoch(
        self, epoch: int, *, partial: PartialEpoch | None = None, save: Callable[[PartialEpoch], None] | None = None
    ) -> tuple[float, float]:
        """Runs one epoch, or the rest of a partial one; returns the mean loss and the last learning rate.

        `save` is called every `SAVE_EVERY_SECONDS` with the state to continue from.
        """
        rng = np.random.default_rng([self.config.seed, self.fold, epoch])
        torch.manual_seed(int(rng.integers(2**31)))
        compose = study_batches if self.any_scale > 0 else plain_batches
        batches = compose(self.crops, self.config.batch, rng)
        # The sum stays on the device, because reading each loss would make a GPU wait. Apple GPUs have no float64.
        exact = torch.float32 if self.device.type == "mps" else torch.float64
        total, rate, first = torch.zeros((), dtype=exact, device=self.device), 0.0, 0
        if partial is not None:
            first, total = partial.step, total + partial.total
            rng.bit_generator.state = json.loads(partial.numpy_state)
            self._set_torch_state(partial.torch_state)
        self.model.train()
        saved = time.monotonic()
        stream = track(prefetched(self.crops, batches[first:]), f"epoch {epoch + 1}", total=len(batches) - first)
        for step, (rows, patches) in enumerate(stream, start=first):
            rate = learning_rate(self.config, epoch * self.steps + step, self.steps)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            total = total + self.update(self.prepare(rows, patches, rng), rows, epoch * self.steps + step)
            if save is not None and time.monotonic() - saved > SAVE_EVERY_SECONDS and step + 1 < len(batches):
                state = json.dumps(rng.bit_generator.state)
                save(
                    PartialEpoch(step=step + 1, total=float(total), numpy_state=state, torch_state=self._torch_state())
                )
                saved = time.monotonic()
        return float(total) / len(batches), rate

    def prepare(self, rows: NDArray[np.intp], patches: NDArray[np.uint8], rng: np.random.Generator) -> Tensor:
        """The network's input [b, channels, size, size] for some rows, augmented on the device."""
        draw = self.augmenter.draw(rng, self.crops.finding[rows], self.crops.annotated[rows])
        x = self.augmenter.apply(torch.from_numpy(patches).to(self.device, non_blocking=True), draw)
        return standardise(x, self.channel_groups).contiguous(memory_format=torch.channels_last)

    def update(self, x: Tensor, rows: NDArray[np.intp], step: int) -> Tensor:
        """Runs one step of the optimizer on prepared input and returns the loss; `step` counts over all epochs."""
        loss = self.loss(x, rows)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.config.gradient_clip > 0:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.gradient_clip)
        self.optimizer.step()
        self._average(step)
        return loss.detach()

    def loss(self, x: Tensor, rows: NDArray[np.intp]) -> Tensor:
        """The loss to minimise, a scalar, of prepared input [b, channels, size, size] of some rows [b]."""
        crops = self.crops
        family, level = family_and_level(crops.finding[rows], self.device)
        label = torch.from_numpy(crops.label[rows].astype(np.int64)).to(self.device)
        weight = torch.from_numpy(self.weights[rows]).to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            logits = self.model(x, family, level)
        loss = weighted_loss(logits, label, weight, label_smoothing=self.config.label_smoothing)
        canal = (family == CANAL) & (label >= 0)
        if self.any_scale > 0 and canal.any():
            study = torch.from_numpy(crops.study[rows]).to(self.device)
            loss = loss + self.any_scale * any_severe_loss(logits[canal], label[canal], study[canal])[0].sum()
        return loss

    @torch.no_grad()
    def _average(self, step: int) -> None:
        # The average forgets faster at first; otherwise the random start would weigh on it for a long time.
        decay = min(self.config.ema_decay, (1 + step) / (10 + step))
        for kept, new in zip(self.averaged.state_dict().values(), self.model.state_dict().values(), strict=True):
            if kept.dtype.is_floating_point:
                kept.lerp_(new, 1 - decay)
            else:
                kept.copy_(new)

    def remember_best(self, history: list[EpochResult]) -> None:
        if self.config.keep == "best" and history[-1].held_out_loss <= min(h.held_out_loss for h in history):
            self.best = {k: v.detach().clone() for k, v in self.averaged.state_dict().items()}

    def kept(self) -> SeverityNet:
        """The network to keep, according to `TrainConfig.keep`."""
        if self.best is not None:
            self.averaged.load_state_dict(self.best)
        return self.averaged

    def save(self, folder: Path, history: list[EpochResult], partial: PartialEpoch | None = None) -> None:
        """Saves the state to continue from, after whole epochs or within one."""
        tensors = {"model": self.model.state_dict(), "averaged": self.averaged.state_dict()}
        if self.best is not None:
            tensors["best"] = self.best
        state: dict[str, Any] = {
            "optimizer": self.optimizer.state_dict(),
            "history": [asdict(h) for h in history],
            "partial": None if partial is None else asdict(partial),
        }
        step = 0 if partial is None else partial.step
        save_progress(folder, Progress(epoch=len(history), step=step, tensors=tensors, state=state))

    def resume(self, folder: Path) -> tuple[list[EpochResult], PartialEpoch | None]:
        """Loads a saved state, if there is one; returns the finished epochs and the started one."""
        loaded = load_progress(folder)
        if loaded is None:
            return [], None
        tensors, state = loaded.tensors, loaded.state
        try:
            self.model.load_state_dict(tensors["model"])
            self.averaged.load_state_dict(tensors["averaged"])
            self.best = {k: v.to(self.device) for k, v in tensors["best"].items()} if "best" in tensors else None
            self.optimizer.load_state_dict(state["optimizer"])
            history = [EpochResult(**values) for values in state["history"]]
            partial = None if state["partial"] is None else PartialEpoch(**state["partial"])
        except Exception as error:  # of another network or version; torch has no class of errors for this
            raise InputError(f"{folder}: {unusable(error)}") from error
        log(f"{self.name}: continuing after epoch {loaded.epoch}{f', step {loaded.step}' if loaded.step else ''}")
        return history, partial

    def _torch_state(self) -> list[Tensor]:
        states = [torch.get_rng_state()]
        return [*states, torch.cuda.get_rng_state(self.device)] if self.device.type == "cuda" else states

    def _set_torch_state(self, states: list[Tensor]) -> None:
        torch.set_rng_state(states[0])
        if self.device.type == "cuda" and len(states) > 1:
            torch.cuda.set_rng_state(states[1], self.device)


def _any_severe_scale(crops: Crops, weights: NDArray[np.float32], config: TrainConfig, steps: int) -> float:
    """Factor on a batch's summed any-severe losses, chosen so that `any_severe` 1 counts the term like one family.

    The metric's term is an epoch's sum of weighted study losses divided by their weights. A family's share of the row
    loss is its share of the row weights.
    """
    if config.any_severe == 0:
        return 0.0
    study_weight = 0.0
    for rows in canal_groups(crops):
        study_weight += max((SEVERITY_WEIGHTS[int(v)] for v in crops.label[rows] if v >= 0), default=0.0)
    if study_weight == 0:
        return 0.0
    share = float(weights[crops.family == CANAL].sum() / len(crops)) / config.canal_emphasis
    return config.any_severe * share * steps / study_weight


def learning_rate(config: TrainConfig, step: int, steps_per_epoch: int) -> float:
    """Learning rate of a step: linear warm-up, then cosine decay to zero at the end of training."""
    warmup = config.warmup_epochs * steps_per_epoch
    if step < warmup:
        return config.learning_rate * (step + 1) / (warmup + 1)
    total = config.epochs * steps_per_epoch
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(total - warmup, 1)))


def _optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW without weight decay on biases, normalisation gains and the prior."""
    free_names = ("level_bias", "attention.position_bias")
    named = list(model.named_parameters())
    decayed = [p for name, p in named if p.ndim > 1 and name not in free_names]
    free = [p for name, p in named if p.ndim <= 1 or name in free_names]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": free, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)
