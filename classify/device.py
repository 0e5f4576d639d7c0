"""Where torch computes, and in which precision."""

import os

import torch

from shared.runtime.errors import InputError


def pick_device(name: str) -> torch.device:
    """`auto` takes the first CUDA device, else the CPU, and a number N is cuda:N.

    Raises:
      InputError: for a device that is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(f"cuda:{name}" if name.isdigit() else name)
    except RuntimeError as error:
        raise InputError(f"--device {name!r}: expected auto, cpu, cuda, cuda:N or N") from error
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        raise InputError(
            f"--device {name!r}: this machine has {torch.cuda.device_count()} CUDA devices; use --device cpu"
        )
    return device


def use_all_cores(processes: int = 1) -> None:
    """Gives torch the cores this process may use, shared by `processes`; other libraries set it to one on import."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    torch.set_num_threads(max(cores // processes, 1))


def use_deterministic(device: torch.device) -> None:
    """Makes a GPU give the same results again, where it has an algorithm for that; a CPU does with as many threads."""
    if device.type != "cuda":
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS is first used
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False


def use_bf16(amp: str, device: torch.device) -> bool:
    """Whether bf16 autocast pays: where the device has native bf16 arithmetic (emulated, it is slower)."""
    if amp != "auto":
        return amp == "bf16"
    if device.type == "cuda":
        with torch.cuda.device(device):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(torch.cpu._is_avx512_bf16_supported())
