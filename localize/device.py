"""Where the detectors compute: what `--device` means."""

from shared.runtime.errors import InputError


def resolve_device(device: str, *, several: bool = False) -> str:
    """torch's name of a device: `auto` is the first GPU where there is one, `1` and `cuda:1` are the second.

    Args:
      device: auto, cpu, mps, cuda, cuda:N or N.
      several: whether a list such as `0,1` is allowed; it stays a list, which is how Ultralytics trains on all of them.

    Raises:
      InputError: for anything else, and for a device that torch does not see.
    """
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "auto":
        return "cuda:0" if count else "cpu"
    if device == "cpu" or (device == "mps" and torch.backends.mps.is_available()):
        return device
    indices = ["0"] if device == "cuda" else device.removeprefix("cuda:").split(",")
    if all(index.isdecimal() and int(index) < count for index in indices):
        if len(indices) == 1:
            return f"cuda:{int(indices[0])}"
        if several and len({int(index) for index in indices}) == len(indices):
            return ",".join(indices)
    listed = ", or 0,1 to train on several" if several else ""
    raise InputError(
        f"--device {device}: expected auto, cpu, mps, cuda, cuda:N or N{listed}, of a device that is there; "
        f"torch sees {count} CUDA devices here"
    )


def first_device(device: str) -> str:
    """The device itself, or the first of several: measuring uses one."""
    return f"cuda:{device.split(',')[0]}" if "," in device else device
