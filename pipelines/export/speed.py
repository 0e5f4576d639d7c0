"""Which library computes a run's networks fastest on this machine: torch and the others in turn, round after round."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from numpy.typing import NDArray

from pipelines.export.networks import TorchNetwork
from shared.backends.exported import Library, Measured, Name, Speed
from shared.backends.sessions import Network
from shared.runtime.hardware.cores import processor_name

# As `lumbar predict` computes many studies: in a process for each core.
THREADS: Final = 1
# A library that wins by less may lose the next time.
_CLEARLY: Final = 0.97


@dataclass(slots=True)
class Stopwatch:
    """Collects the times of a run's networks.

    Attributes:
      rounds: how often each library computes each network, after one call that is not counted.
    """

    rounds: int
    _speeds: list[Speed] = field(default_factory=list)
    _totals: dict[Name, list[float]] = field(default_factory=dict)

    def time(self, network: TorchNetwork, others: Mapping[Library, Network]) -> None:
        """Times a network with all libraries in turn, so that whatever else the machine does meets all alike."""
        shape = network.shapes[-1]
        arrays = network.arrays(shape)
        calls: dict[Name, Network] = {"torch": network.as_predicted(THREADS)}
        for name, call in others.items():
            calls[name] = call
        for compute in calls.values():
            compute(*arrays)
        times: dict[Name, list[float]] = {name: [] for name in calls}
        for _ in range(self.rounds):
            for backend, compute in calls.items():
                times[backend].append(_seconds(compute, arrays))
        for backend, found in times.items():
            totals = self._totals.setdefault(backend, [0.0] * self.rounds)
            self._totals[backend] = [a + b for a, b in zip(totals, found, strict=True)]
        self._speeds.append(Speed(
            network=network.name, shape=list(shape),
            seconds={name: statistics.median(found) for name, found in times.items()},
            of_torch={name: _share(found, times["torch"]) for name, found in times.items() if name != "torch"},
        ))  # fmt: skip

    def result(self) -> Measured | None:
        """The times of all networks; None where nothing was timed."""
        if not self._speeds:
            return None
        shares = {n: _share(found, self._totals["torch"]) for n, found in self._totals.items() if n != "torch"}
        best = min(shares, key=lambda name: shares[name])
        return Measured(
            processor=processor_name(), threads=THREADS, rounds=self.rounds, of_torch=shares,
            fastest=best if shares[best] < _CLEARLY else "torch", networks=self._speeds,
        )  # fmt: skip


def _seconds(call: Callable[..., Any], arrays: tuple[NDArray[Any], ...]) -> float:
    started = time.perf_counter()
    call(*arrays)
    return max(time.perf_counter() - started, 1e-9)


def _share(found: list[float], of_torch: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(found, of_torch, strict=True))
