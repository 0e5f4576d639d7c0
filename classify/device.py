"""Where torch computes, in which precision, and how to make its results repeatable."""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from shared.runtime.errors import InputError, first_line
from shared.runtime.hardware.cores import usable_cores
from shared.runtime.hardware.device import resolve_device
from shared.runtime.progress import log

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


def pick_device(text: str) -> "torch.device":
    """The device that `--device` names; raises `InputError` as `shared.runtime.hardware.device.resolve_device`."""
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return torch.device(resolve_device(text, gpus=gpus, mps=torch.backends.mps.is_available()))


def use_all_cores(processes: int = 1) -> None:
    """Divides the usable cores among `processes`. Needed because other libraries limit torch to one on import."""
    import torch

    torch.set_num_threads(max(usable_cores() // processes, 1))


def use_deterministic(device: "torch.device") -> None:
    """Asks a GPU for deterministic algorithms where it has them. A CPU is deterministic for a fixed thread count."""
    if device.type != "cuda":
        return
    import torch

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS is first used
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False


def use_bf16(amp: str, device: "torch.device") -> bool:
    """Whether to autocast to bf16. "auto" does so on devices with native bf16 arithmetic; emulated bf16 is slower."""
    if amp != "auto":
        return amp == "bf16"
    import torch

    if device.type == "cuda":
        with torch.cuda.device(device):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(torch.cpu._is_avx512_bf16_supported())


def compiled(network: "nn.Module", mode: str, device: "torch.device") -> Callable[..., "Tensor"]:
    """The network, translated by `torch.compile` at its first call if `TrainConfig.compile` says so.

    Raises:
      InputError: at the first call, where "on" asks for it and it is not possible.
    """
    if mode == "off" or (mode == "auto" and device.type != "cuda"):
        return network
    import torch
    from torch._dynamo.exc import TorchDynamoException

    current: list[Callable[..., Any]] = [torch.compile(network)]

    def call(*inputs: "Tensor") -> "Tensor":
        try:
            return current[0](*inputs)
        except TorchDynamoException as error:
            if mode == "on":
                raise InputError(
                    f"train.compile: torch cannot compile the network here ({first_line(error)}); does it find a "
                    'compiler? Set train.compile = "off"'
                ) from error
            log(f"warning: torch cannot compile the network here ({first_line(error)}); training goes on without")
            current[0] = network
            return network(*inputs)

    return call
