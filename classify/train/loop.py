"""Training loop of one network: schedule, averaged weights and resume. Works on arrays, not on folders of studies."""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from classify.config import ClassifyConfig, TrainConfig
from classify.device import compiled, use_bf16
from classify.network.augment import Augmenter, PlacedDraw, standardise
from classify.network.checkpoint import Progress, load_progress, save_progress, unusable
from classify.network.dropout import DealtDropout
from classify.network.model import CANAL, SeverityNet, any_severe_loss, empty_model, row_weights, weighted_loss
from classify.samples import Crops
from classify.train.batches import canal_groups, step_count
from classify.train.beside import Beside
from classify.train.feed import Feed
from classify.train.optimizer import Average, adamw, clip_gradients, learning_rate
from classify.train.plan import Pass, Planner
from classify.train.processes import ALONE, Processes
from classify.train.together import Shared, added_up, shared_by, sharing
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
    """State in the middle of an epoch: finished steps, their summed loss, and torch's random number generators."""

    step: int
    total: float
    torch_state: list[Tensor]


Evaluate = Callable[[SeverityNet], float]
# What maps crops, families and levels to logits: `SeverityNet`, or what stands in front of it.
Network = Callable[[Tensor, Tensor, Tensor], Tensor]


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
        model.dropout = DealtDropout(model.dropout.p)
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
        self.steps = step_count(len(crops), train.batch * train.accumulate)
        self.any_scale = _any_severe_scale(crops, self.weights, train, self.steps)
        self.optimizer = adamw(self.model, train)
        self._average = Average(self.averaged, self.model, train.ema_decay)
        self.feed = Feed.of(crops, device)
        # What learns: `model` itself, translated or shared with other processes.
        self.network = compiled(self.model, train.compile, device)
        self.team = ALONE
        self._shared: Shared | None = None
        self._beside: Beside | None = None

    def join(self, team: Processes) -> None:
        """From now on, trains together with the other processes of a team, each with its part of every batch."""
        if team.world > 1:
            self.team, self._shared = team, shared_by(team, self.model, self.device)
            self.network = compiled(self._shared, self.config.compile, self.device)

    @property
    def name(self) -> str:
        """What messages call the network."""
        return f"fold {self.fold}"

    def plan(self, epoch: int) -> list[list[Pass]]:
        """What the steps of an epoch read besides patches. Seeds torch for that epoch."""
        rng = np.random.default_rng([self.config.seed, self.fold, epoch])
        torch.manual_seed(int(rng.integers(2**31)))
        planner = Planner(
            crops=self.crops, config=self.config, augmenter=self.augmenter, weights=self.weights,
            whole_studies=self.any_scale > 0,
        )  # fmt: skip
        return planner.epoch(rng, self.device, self.team)

    def run_epoch(
        self, epoch: int, *, partial: PartialEpoch | None = None, save: Callable[[PartialEpoch], None] | None = None
    ) -> tuple[float, float]:
        """Runs one epoch, or the rest of a partial one; returns the mean loss and the last learning rate.

        `save` is called every `SAVE_EVERY_SECONDS` with the state to continue from.
        """
        plan = self.plan(epoch)
        # The sum stays on the device, because reading each loss would make a GPU wait. Apple GPUs have no float64.
        exact = torch.float32 if self.device.type == "mps" else torch.float64
        total, rate, first = torch.zeros((), dtype=exact, device=self.device), 0.0, 0
        if partial is not None:
            first, total = partial.step, total + partial.total
            self._set_torch_state(partial.torch_state)
        self.model.train()
        saved, todo = time.monotonic(), plan[first:]
        with self.side_by_side(), closing(self.feed.patches([p.rows for passes in todo for p in passes])) as patches:
            for step, passes in enumerate(track(todo, f"epoch {epoch + 1}"), start=first):
                rate = learning_rate(self.config, epoch * self.steps + step, self.steps)
                for group in self.optimizer.param_groups:
                    group["lr"] = rate
                inputs = ((self.prepare(next(patches), one.draw), one) for one in passes)
                total = total + self.update(inputs, epoch * self.steps + step)
                if save is not None and time.monotonic() - saved > SAVE_EVERY_SECONDS and step + 1 < len(plan):
                    save(PartialEpoch(step=step + 1, total=float(total), torch_state=self._torch_state()))
                    saved = time.monotonic()
        return float(total) / len(plan), rate

    def prepare(self, patches: Tensor, draw: PlacedDraw) -> Tensor:
        """The network's input [b, channels, size, size], augmented on the device."""
        x = self.augmenter.apply(patches, draw)
        return standardise(x, self.channel_groups).contiguous(memory_format=torch.channels_last)

    def update(self, inputs: Iterable[tuple[Tensor, Pass]], step: int) -> Tensor:
        """Runs one step of the optimizer and returns its loss.

        Args:
          inputs: prepared input [b, channels, size, size] of each pass.
          step: counts over all epochs.
        """
        self.optimizer.zero_grad(set_to_none=True)
        if self._beside is None:
            losses = [self._learn(self.network, each) for each in inputs]
        else:
            losses = self._beside(self._learn, list(inputs))
        total = torch.stack(losses).sum()
        if self.config.gradient_clip > 0:
            clip_gradients(self.model.parameters(), self.config.gradient_clip)
        self.optimizer.step()
        self._average.update(step)
        return added_up(total, self.team)

    @contextmanager
    def side_by_side(self) -> Iterator[None]:
        """Within this block a CPU computes the passes of a step side by side, if each step has several."""
        alone = self.device.type == "cpu" and self.team.world == 1 and self.network is self.model
        self._beside = Beside.of(self.model, self.config.accumulate) if alone else None
        try:
            with self._beside or nullcontext():
                yield
        finally:
            self._beside = None

    def _learn(self, network: Network, given: tuple[Tensor, Pass]) -> Tensor:
        """Adds the gradient of one pass, and returns its share of the step's loss."""
        x, one = given
        dropout: Any = (network if isinstance(network, SeverityNet) else self.model).dropout
        dropout.deal(seed=one.seed, batch=one.batch, place=one.place)
        with sharing(self._shared, one):
            loss = self.loss(network, x, one) * one.share
            (loss * self.team.world).backward()  # type: ignore[no-untyped-call]  # averaged over the team
        return loss.detach()

    def loss(self, network: Network, x: Tensor, one: Pass) -> Tensor:
        """The loss to minimise, a scalar, of prepared input [b, channels, size, size]: a mean over its rows."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            logits = network(x, one.family, one.level)
        loss = weighted_loss(logits, one.label, one.weight, label_smoothing=self.config.label_smoothing)
        if self.any_scale > 0 and one.studies:
            worst, _ = any_severe_loss(logits[one.canal], one.label[one.canal], one.study, one.studies)
            loss = loss + self.any_scale / one.share * worst.sum()  # a sum over the step, not a mean
        return loss

    def remember_best(self, history: list[EpochResult]) -> None:
        if self.config.keep == "best" and history[-1].held_out_loss <= min(h.held_out_loss for h in history):
            self.best = {k: v.detach().clone() for k, v in self.averaged.state_dict().items()}

    def kept(self) -> SeverityNet:
        """The network to keep, according to `TrainConfig.keep`."""
        if self.best is not None:
            self.averaged.load_state_dict(self.best)
        return self.averaged

    def save(self, folder: Path, history: list[EpochResult], partial: PartialEpoch | None = None) -> None:
        """Saves the state to continue from, after whole epochs or within one. Of a team, the first process does."""
        if not self.team.writes:
            return
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
