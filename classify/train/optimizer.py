"""What a step does with gradients: learning rate, clipping, AdamW and the averaged network."""

import math
from collections.abc import Iterable

import torch
from torch import nn

from classify.config import TrainConfig


def learning_rate(config: TrainConfig, step: int, steps_per_epoch: int) -> float:
    """Learning rate of a step: linear warm-up, then cosine decay to zero at the end of training."""
    warmup = config.warmup_epochs * steps_per_epoch
    if step < warmup:
        return config.learning_rate * (step + 1) / (warmup + 1)
    total = config.epochs * steps_per_epoch
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(total - warmup, 1)))


def adamw(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW without weight decay on biases, normalisation gains and the prior."""
    free_names = ("level_bias", "attention.position_bias")
    named = list(model.named_parameters())
    decayed = [p for name, p in named if p.ndim > 1 and name not in free_names]
    free = [p for name, p in named if p.ndim <= 1 or name in free_names]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": free, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)


def clip_gradients(parameters: Iterable[nn.Parameter], most: float) -> None:
    """Scales gradients down to a norm of `most` if theirs is larger, as `torch.nn.utils.clip_grad_norm_` does."""
    own = [p for p in parameters if p.grad is not None]
    norm = nn.utils.get_total_norm([p.grad for p in own if p.grad is not None])
    # On a CPU, to look at the norm costs nothing and spares another pass over all gradients. A GPU would have to wait.
    if norm.device.type == "cpu" and float(norm) + 1e-6 <= most:
        return
    nn.utils.clip_grads_with_norm_(own, most, norm)


class Average:
    """Keeps one network at the exponential moving average of another."""

    def __init__(self, averaged: nn.Module, model: nn.Module, decay: float) -> None:
        pairs = list(zip(averaged.state_dict().values(), model.state_dict().values(), strict=True))
        floating = [pair for pair in pairs if pair[0].dtype.is_floating_point]
        self._kept, self._new = [kept for kept, _ in floating], [new for _, new in floating]
        self._counters = [pair for pair in pairs if not pair[0].dtype.is_floating_point]
        self._decay = decay

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Takes the weights after a step, counted over all epochs, into the average."""
        # The average forgets faster at first; otherwise the random start would weigh on it for a long time.
        decay = min(self._decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self._kept, self._new, 1 - decay)
        for kept, new in self._counters:
            kept.copy_(new)
