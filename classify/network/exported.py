"""A grader that another library than torch computes, called as `SeverityNet` is."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from classify.network.checkpoint import WEIGHTS_FILE
from shared.backends.backend import Backend
from shared.runtime.hardware.cores import usable_cores

# Where its tensors are, wherever the library computes.
HOST: Final = torch.device("cpu")


def load_exported(folder: Path, backend: Backend, place: str) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """The network that was exported from a fold's weights; raises `InputError` as `Backend.network`."""
    network = backend.network(folder / WEIGHTS_FILE, place=place, threads=usable_cores())

    def logits(x: Tensor, family: Tensor, level: Tensor) -> Tensor:
        return torch.from_numpy(network(x.numpy(), family.numpy(), level.numpy()))

    return logits
