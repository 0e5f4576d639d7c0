"""A training step on a CPU as two halves of the batch, each on a thread of its own.

torch's own threads share the work of single operations, and a small network has thousands of small ones: two threads
that wait for each other after each cost more than they gain. Two halves meet once a step. A batch is always halved,
whatever the number of cores, so the weights do not depend on it.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from shared.runtime.hardware.cores import usable_cores

Batch = Mapping[str, Any]


class Halves:
    """Takes the place of a network's `loss`: computes it and its gradient for both halves of a batch at once.

    The second half is computed by a copy that shares the weights. Each half is normalised by its own statistics, as on
    two GPUs, and the running ones are the mean of both.
    """

    def __init__(self, network: Any) -> None:
        """Takes the place at once, until `close`."""
        self._networks = (network, deepcopy(network))
        for own, shared in zip(self._networks[1].parameters(), network.parameters(), strict=True):
            own.data = shared.data
        self._losses = [type(net).loss.__get__(net) for net in self._networks]
        self._running = [[b for b in net.buffers() if b.is_floating_point()] for net in self._networks]
        self._threads = ThreadPoolExecutor(min(2, usable_cores()))
        network.loss = self

    def __call__(self, batch: Batch, predictions: Any = None) -> tuple[Tensor, dict[str, Tensor]]:
        """The batch's loss, whose gradient the network already has, and its parts; as the library's `loss`."""
        count = len(batch["img"])
        halves = [_cut(batch, 0, -(-count // 2)), _cut(batch, -(-count // 2), count)]
        halves = halves if count > 1 else halves[:1]
        computed = list(self._threads.map(self._with_gradient, range(len(halves)), halves))
        self._gather(len(halves) > 1)
        loss = torch.stack([loss for loss, _ in computed]).sum()
        shares = torch.tensor([len(half["img"]) / count for half in halves])
        parts = {name: shares @ torch.stack([own[name] for _, own in computed]) for name in computed[0][1]}
        # A leaf, so that the trainer's own way back ends here.
        return loss.requires_grad_(), parts

    def _with_gradient(self, which: int, half: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        loss, parts = self._losses[which](half)
        loss = loss.sum()
        loss.backward()
        return loss.detach(), parts

    @torch.no_grad()
    def _gather(self, both: bool) -> None:
        """Adds the copy's gradient to the network's, and gives both the mean of their running statistics."""
        if not both:
            torch._foreach_copy_(self._running[1], self._running[0])
            return
        ours, theirs = [], []
        for own, other in zip(*(net.parameters() for net in self._networks), strict=True):
            if other.grad is not None and own.grad is not None:
                ours.append(own.grad)
                theirs.append(other.grad)
            other.grad = None
        torch._foreach_add_(ours, theirs)
        torch._foreach_lerp_(self._running[0], self._running[1], 0.5)
        torch._foreach_copy_(self._running[1], self._running[0])

    def begin_epoch(self) -> None:
        """Gives the copy what the library has changed between epochs: the state of the loss and running statistics."""
        network, copy = self._networks
        criterion = getattr(network, "criterion", None)
        if criterion is not None:
            copy.criterion = deepcopy(criterion)
        copy.train(network.training)
        torch._foreach_copy_(self._running[1], self._running[0])

    def close(self) -> None:
        """Ends the threads and gives the network its own loss back."""
        del self._networks[0].loss
        self._threads.shutdown()


def _cut(batch: Batch, start: int, stop: int) -> dict[str, Any]:
    chosen = (batch["batch_idx"] >= start) & (batch["batch_idx"] < stop)
    return {
        "img": batch["img"][start:stop],
        "cls": batch["cls"][chosen],
        "bboxes": batch["bboxes"][chosen],
        "batch_idx": batch["batch_idx"][chosen] - start,
    }
