"""The passes of a step side by side on a CPU, each on a thread of its own.

torch's own threads share the work of single operations and meet after each of some thousand. Where crops are small, two
of them make a network a third faster, not twice as fast (docs/adr/0034). Passes meet once a step.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from types import TracebackType
from typing import Final, Self, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.ops import StochasticDepth

from classify.network.model import SeverityNet
from shared.runtime.hardware.cores import usable_cores

P = TypeVar("P")
# So many networks at most: each holds the activations of a batch and gradients of its own.
_MOST: Final = 4


class Beside:
    """Networks that share their weights, and the threads that send passes through them. Its block ends the threads.

    A step learns what its passes would teach one after another, except for rounding: gradients add up, and running
    statistics take in the passes in their order.
    """

    def __init__(self, model: SeverityNet, count: int) -> None:
        """`count` networks, of which `model` is the first."""
        self._networks = [model, *(_sharing_weights(model) for _ in range(count - 1))]
        self._statistics = [_Statistics(network) for network in self._networks]
        self._before = torch.get_num_threads()
        each = max(usable_cores() // count, 1)
        self._threads = ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(each,))

    @classmethod
    def of(cls, model: SeverityNet, passes: int) -> "Beside | None":
        """For steps of so many passes; None where there is one core, or nothing to share."""
        count = min(passes, usable_cores(), _MOST)
        return cls(model, count) if count > 1 and not _draws_while_it_computes(model) else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown()
        torch.set_num_threads(self._before)  # else threads that are yet to come would have the number of these

    def __call__(self, learn: Callable[[SeverityNet, P], Tensor], passes: Sequence[P]) -> list[Tensor]:
        """What `learn` returns for each pass, after it has left a gradient in the network that it is given."""
        networks = self._networks
        for network in networks[1:]:
            network.train(networks[0].training)
        start = self._statistics[0].copied()

        def share(which: int) -> list[tuple[Tensor, list[Tensor]]]:
            done, statistics = [], self._statistics[which]
            for one in passes[which :: len(networks)]:
                statistics.set(start)
                done.append((learn(networks[which], one), statistics.copied()))
            return done

        shares = list(self._threads.map(share, range(len(networks))))
        done = [shares[k % len(networks)][k // len(networks)] for k in range(len(passes))]
        self._statistics[0].take(start, [found for _, found in done])
        for network in networks[1:]:
            _add_gradients(networks[0], network)
        return [result for result, _ in done]


class _Statistics:
    """The running statistics of a network's normalisations, [channels] each."""

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._tensors: list[Tensor] = []
        self._kept: list[float] = []  # what a pass keeps of each; the counters of passes add up
        for norm in (m for m in network.modules() if isinstance(m, _BatchNorm)):
            for tensor in norm.buffers(recurse=False):
                self._tensors.append(tensor)
                self._kept.append(1 - (norm.momentum or 0.0) if tensor.is_floating_point() else 1)

    def copied(self) -> list[Tensor]:
        return [t.clone() for t in self._tensors]

    def set(self, values: Sequence[Tensor]) -> None:
        for own, value in zip(self._tensors, values, strict=True):
            own.copy_(value)

    def take(self, start: Sequence[Tensor], found: Sequence[Sequence[Tensor]]) -> None:
        """Becomes what one pass after another would have made of `start`, from what each made of it alone."""
        if not self._network.training:
            return
        for place, (own, kept) in enumerate(zip(self._tensors, self._kept, strict=True)):
            own.copy_(start[place])
            for one in found:
                own.mul_(kept).add_(one[place] - kept * start[place])


def _sharing_weights(model: SeverityNet) -> SeverityNet:
    network = deepcopy(model)
    for own, shared in zip(network.parameters(), model.parameters(), strict=True):
        own.data = shared.data
    return network


def _add_gradients(network: nn.Module, other: nn.Module) -> None:
    """Adds the gradients of another network, which loses them."""
    for own, its in zip(network.parameters(), other.parameters(), strict=True):
        if own.grad is None:
            own.grad = its.grad
        elif its.grad is not None:
            own.grad += its.grad
        its.grad = None


def _draws_while_it_computes(model: SeverityNet) -> bool:
    """Whether the trunk draws random numbers: threads would draw them in any order."""
    return any(isinstance(m, (nn.Dropout, StochasticDepth)) and m.p > 0 for m in model.trunk.modules())
