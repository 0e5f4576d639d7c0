"""Trains one network: loop, schedule, averaged weights, resume. Knows arrays and tensors, not folders of studies."""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from classify.augment import Augmenter, center, standardise
from classify.checkpoint import load_progress, save_progress
from classify.config import ClassifyConfig, CropConfig, TrainConfig
from classify.device import use_bf16
from classify.model import FAMILIES, SeverityNet, row_weights, weighted_loss
from shared.errors import InputError
from shared.labels import FINDINGS
from shared.progress import log, track

_FAMILY_OF = np.array([FAMILIES.index(f.condition) for f in FINDINGS], dtype=np.intp)
_LEVEL_OF = np.array([f.level.value for f in FINDINGS], dtype=np.intp)
_EVALUATION_BATCH = 128
_BATCHES_AHEAD = 4


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
        return _FAMILY_OF[self.finding]

    def read(self, rows: NDArray[np.intp]) -> NDArray[np.uint8]:
        """Patches of the given rows, copied. # [b, slices, px, px]"""
        out = np.empty((len(rows), *self.patches.shape[2:]), np.uint8)
        for i, row in enumerate(rows):
            out[i] = self.patches[self.study[row], self.finding[row]]
        return out


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochResult:
    """One line of a fold's log: losses are weighted as in `row_weights`, on training crops and on held-out ones."""

    epoch: int
    train_loss: float
    held_out_loss: float
    learning_rate: float
    seconds: float


Evaluate = Callable[[SeverityNet], float]


def fit(
    model: SeverityNet,
    crops: Crops,
    config: ClassifyConfig,
    augmenter: Augmenter,
    evaluate: Evaluate,
    *,
    fold: int,
    progress: Path,
    device: torch.device,
) -> tuple[SeverityNet, list[EpochResult]]:
    """Trains `model` and returns the network to keep and the log; continues from `progress` when something is there.

    `evaluate` gives the held-out loss of a network. A run that was killed and continued gives the weights of one that
    was not: every epoch draws from its own seed. `progress` stays; the caller deletes it once the network is kept.

    Raises:
      InputError: when training diverges.
    """
    trainer = _Trainer(model, crops, config, augmenter, fold=fold, device=device)
    history = trainer.resume(progress)
    for epoch in range(len(history), config.train.epochs):
        started = time.monotonic()
        train_loss, rate = trainer.run_epoch(epoch)
        if not math.isfinite(train_loss):
            raise InputError(
                f"fold {fold} epoch {epoch + 1}: training diverged, its loss is {train_loss}; "
                f"lower train.learning_rate (now {config.train.learning_rate:g}) and start again with --overwrite"
            )
        held_out_loss = evaluate(trainer.averaged)
        result = EpochResult(
            epoch=epoch + 1, train_loss=train_loss, held_out_loss=held_out_loss, learning_rate=rate,
            seconds=time.monotonic() - started,
        )  # fmt: skip
        history.append(result)
        trainer.remember_best(history)
        log(
            f"fold {fold} epoch {result.epoch}/{config.train.epochs}: loss {train_loss:.4f}, "
            f"held out {held_out_loss:.4f} ({result.seconds:.0f} s)"
        )
        trainer.save(progress, history)
    return trainer.kept(), history


class _Trainer:
    """Network, averaged network and optimizer of one fold."""

    def __init__(
        self,
        model: SeverityNet,
        crops: Crops,
        config: ClassifyConfig,
        augmenter: Augmenter,
        *,
        fold: int,
        device: torch.device,
    ) -> None:
        train = config.train
        layout = torch.channels_last if train.channels_last else torch.contiguous_format
        self.model = model.to(device, memory_format=layout)  # type: ignore[call-overload]  # torch's stub lacks this form
        self.averaged = SeverityNet(slices=config.crop.slices, dropout=config.model.dropout)
        self.averaged.load_state_dict(model.state_dict())
        self.averaged = self.averaged.to(device, memory_format=layout).eval()  # type: ignore[call-overload]
        self.best: dict[str, Tensor] | None = None
        self.crops, self.config, self.augmenter, self.fold, self.device = crops, train, augmenter, fold, device
        self.bf16 = use_bf16(train.amp, device)
        self.weights = row_weights(
            crops.label, crops.family, balance=train.balance, canal_emphasis=train.canal_emphasis
        )
        self.steps = max(len(crops) // train.batch, 1)
        self.optimizer = _optimizer(self.model, train)

    def run_epoch(self, epoch: int) -> tuple[float, float]:
        """One pass; returns the mean loss and the last learning rate."""
        rng = np.random.default_rng([self.config.seed, self.fold, epoch])
        torch.manual_seed(int(rng.integers(2**31)))
        order = rng.permutation(len(self.crops))
        batches = [order[i * self.config.batch : (i + 1) * self.config.batch] for i in range(self.steps)]
        self.model.train()
        total, rate = 0.0, 0.0
        stream = track(_prefetched(self.crops, batches), f"epoch {epoch + 1}", total=len(batches))
        for step, (rows, patches) in enumerate(stream):
            rate = learning_rate(self.config, epoch * self.steps + step, self.steps)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            total += self._step(rows, patches, rng, epoch * self.steps + step)
        return total / len(batches), rate

    def _step(self, rows: NDArray[np.intp], patches: NDArray[np.uint8], rng: np.random.Generator, step: int) -> float:
        crops = self.crops
        draw = self.augmenter.draw(rng, crops.finding[rows], crops.annotated[rows])
        x = standardise(self.augmenter.apply(torch.from_numpy(patches).to(self.device, non_blocking=True), draw))
        if self.config.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        family, level = family_and_level(crops.finding[rows], self.device)
        label = torch.from_numpy(crops.label[rows].astype(np.int64)).to(self.device)
        weight = torch.from_numpy(self.weights[rows]).to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            logits = self.model(x, family, level)
        loss = weighted_loss(logits, label, weight, label_smoothing=self.config.label_smoothing)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.config.gradient_clip > 0:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.gradient_clip)
        self.optimizer.step()
        self._average(step)
        return float(loss.detach())

    @torch.no_grad()
    def _average(self, step: int) -> None:
        # The average forgets faster at first, or the random start would weigh on it for long.
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
        """The network to keep, as `TrainConfig.keep` says."""
        if self.best is not None:
            self.averaged.load_state_dict(self.best)
        return self.averaged

    def save(self, folder: Path, history: list[EpochResult]) -> None:
        tensors = {"model": self.model.state_dict(), "averaged": self.averaged.state_dict()}
        if self.best is not None:
            tensors["best"] = self.best
        state: dict[str, Any] = {
            "optimizer": self.optimizer.state_dict(),
            "history": [[h.epoch, h.train_loss, h.held_out_loss, h.learning_rate, h.seconds] for h in history],
        }
        save_progress(folder, len(history), tensors, state)

    def resume(self, folder: Path) -> list[EpochResult]:
        loaded = load_progress(folder)
        if loaded is None:
            return []
        epoch, tensors, state = loaded
        self.model.load_state_dict(tensors["model"])
        self.averaged.load_state_dict(tensors["averaged"])
        self.best = {k: v.to(self.device) for k, v in tensors["best"].items()} if "best" in tensors else None
        self.optimizer.load_state_dict(state["optimizer"])
        log(f"fold {self.fold}: continues after epoch {epoch}")
        names = ("epoch", "train_loss", "held_out_loss", "learning_rate", "seconds")
        return [EpochResult(**dict(zip(names, values, strict=True))) for values in state["history"]]


def learning_rate(config: TrainConfig, step: int, steps_per_epoch: int) -> float:
    """Rate of a step: linear warm-up, then a cosine to zero at the end of training."""
    warmup = config.warmup_epochs * steps_per_epoch
    if step < warmup:
        return config.learning_rate * (step + 1) / (warmup + 1)
    total = config.epochs * steps_per_epoch
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(total - warmup, 1)))


def _optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW; biases, normalisation gains and the prior are not decayed."""
    named = list(model.named_parameters())
    decayed = [p for name, p in named if p.ndim > 1 and name != "level_bias"]
    free = [p for name, p in named if p.ndim <= 1 or name == "level_bias"]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": free, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)


@torch.no_grad()
def predict_logits(
    model: SeverityNet,
    crops: Crops,
    crop: CropConfig,
    *,
    device: torch.device,
    bf16: bool,
    augmenter: Augmenter | None = None,
) -> NDArray[np.float64]:
    """Logits of every row before temperature, at the crop's centre or as `augmenter` draws it from seed 0. # [n, 3]"""
    model.eval()
    rng = np.random.default_rng(0)
    out = np.zeros((len(crops), 3))
    for start in range(0, len(crops), _EVALUATION_BATCH):
        rows = np.arange(start, min(start + _EVALUATION_BATCH, len(crops)))
        patches = torch.from_numpy(crops.read(rows)).to(device)
        if augmenter is None:
            x = center(patches, crop)
        else:
            x = augmenter.apply(patches, augmenter.draw(rng, crops.finding[rows], crops.annotated[rows]))
        x = standardise(x).contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            logits = model(x, *family_and_level(crops.finding[rows], device))
        out[rows] = logits.double().cpu().numpy()
    return out


def family_and_level(findings: NDArray[np.intp], device: torch.device) -> tuple[Tensor, Tensor]:
    """Indices of family and level of indices into `FINDINGS`, as the network takes them. # [b] -> [b], [b]"""
    return torch.from_numpy(_FAMILY_OF[findings]).to(device), torch.from_numpy(_LEVEL_OF[findings]).to(device)


def _prefetched(crops: Crops, batches: list[NDArray[np.intp]]) -> Iterator[tuple[NDArray[np.intp], NDArray[np.uint8]]]:
    """Reads batches ahead in a thread, so that a slow disk does not hold up the network."""
    with ThreadPoolExecutor(1) as pool:
        ahead: deque[tuple[NDArray[np.intp], Future[NDArray[np.uint8]]]] = deque()
        for rows in batches:
            ahead.append((rows, pool.submit(crops.read, rows)))
            if len(ahead) > _BATCHES_AHEAD:
                first, patches = ahead.popleft()
                yield first, patches.result()
        for first, patches in ahead:
            yield first, patches.result()
