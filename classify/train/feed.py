"""Patches on the device that computes with them: all at once where they fit, otherwise read ahead from the cache.

Both ways give the same bytes, so results do not depend on memory.
"""

import math
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from classify.network.augment import on_device
from classify.samples import Crops
from classify.train.batches import Rows
from classify.train.processes import Processes
from shared.runtime.hardware.memory import free_memory_bytes

# Of the device's free memory. The rest is for the network and, on a CPU, for the pages of the cache itself.
RESIDENT_SHARE: Final = 0.5
_CHUNK: Final = 2048
_BATCHES_AHEAD: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """The patches of some rows, for one device.

    Attributes:
      resident: [n, channels, px, px] 8-bit patches of all rows, on the device; None where they do not fit.
    """

    crops: Crops
    device: torch.device
    resident: Tensor | None

    @classmethod
    def of(cls, crops: Crops, device: torch.device, *, processes: int | None = None) -> "Feed":
        """Keeps the patches on the device if they take at most `RESIDENT_SHARE` of its free memory.

        Args:
          processes: number of processes on this machine that do the same at this time; by default those of the launch.
        """
        count = processes or Processes.of_environment().local_world
        needed = len(crops) * math.prod(crops.patches.shape[2:])
        share = RESIDENT_SHARE / (count if device.type == "cpu" else 1)
        resident = _resident(crops, device) if 0 < needed <= share * _free_bytes(device) else None
        return cls(crops=crops, device=device, resident=resident)

    def patches(self, batches: Sequence[Rows]) -> Generator[Tensor]:
        """The patches [b, channels, px, px] of each batch of rows."""
        if self.resident is None:
            yield from self._read_ahead(batches)
        elif batches:
            for rows in on_device(batches, self.device):
                yield self.resident[rows]

    def _read_ahead(self, batches: Sequence[Rows]) -> Generator[Tensor]:
        """Reads in a thread, so that a slow disk does not stall the network."""
        with ThreadPoolExecutor(1) as pool:
            ahead: deque[Future[Tensor]] = deque()
            for rows in batches:
                ahead.append(pool.submit(self._read, rows))
                if len(ahead) > _BATCHES_AHEAD:
                    yield ahead.popleft().result().to(self.device, non_blocking=True)
            for batch in ahead:
                yield batch.result().to(self.device, non_blocking=True)

    def _read(self, rows: Rows) -> Tensor:
        patches = torch.from_numpy(self.crops.read(rows))
        return patches.pin_memory() if self.device.type == "cuda" else patches


def _resident(crops: Crops, device: torch.device) -> Tensor | None:
    """All patches on the device; None if it has too little memory after all."""
    try:
        whole = torch.empty((len(crops), *crops.patches.shape[2:]), dtype=torch.uint8, device=device)
        for start in range(0, len(crops), _CHUNK):
            rows = np.arange(start, min(start + _CHUNK, len(crops)))
            whole[start : start + len(rows)] = torch.from_numpy(crops.read(rows))
    except (torch.OutOfMemoryError, MemoryError):
        return None
    return whole


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
    return free_memory_bytes()
