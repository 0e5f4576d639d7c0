"""Where torch computes, and in which precision."""

import os

import torch

from shared.errors import InputError


def pick_device(name: str) -> torch.device:
    """`auto` takes the first CUDA device, else the CPU; raises `InputError` for a device that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"--device {name!r}: expected auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        raise InputError(
            f"--device {name!r}: this machine has {torch.cuda.device_count()} CUDA devices; use --device cpu"
        )
    return device


def use_all_cores() -> None:
    """Gives torch the cores this process may use; other libraries set it to one on import."""
    torch.set_num_threads(
        max(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, 1)
    )


def use_bf16(amp: str, device: torch.device) -> bool:
    """Whether bf16 autocast pays: on CUDA, and on CPUs with native bf16 arithmetic (emulated, it is slower)."""
    if amp != "auto":
        return amp == "bf16"
    return device.type == "cuda" or bool(torch.cpu._is_avx512_bf16_supported())
