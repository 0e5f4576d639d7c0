"""What `--device` means. Knows nothing of torch: the stages say how many GPUs it sees."""

from shared.runtime.errors import InputError

HELP = "auto, cpu, mps, cuda, cuda:N or the GPU's number N (default: auto)"


def resolve_device(text: str, *, gpus: int, mps: bool = False, several: bool = False) -> str:
    """torch's name of a device: `auto` is the first GPU where there is one, `1` and `cuda:1` are the second.

    Args:
      text: auto, cpu, mps, cuda, cuda:N or N.
      gpus: CUDA devices that torch sees.
      mps: whether torch sees an Apple GPU, which must be asked for by name.
      several: whether a list such as `0,1` is allowed; it stays a list, which is how Ultralytics trains on all of them.

    Raises:
      InputError: for anything else, and for a device that is not there.
    """
    if text == "auto":
        return "cuda:0" if gpus else "cpu"
    if text == "cpu" or (text == "mps" and mps):
        return text
    indices = ["0"] if text == "cuda" else text.removeprefix("cuda:").split(",")
    if all(index.isdecimal() and int(index) < gpus for index in indices):
        if len(indices) == 1:
            return f"cuda:{int(indices[0])}"
        if several and len({int(index) for index in indices}) == len(indices):
            return ",".join(indices)
    listed = ", or 0,1 to train on several" if several else ""
    raise InputError(
        f"--device {text}: expected auto, cpu, mps, cuda, cuda:N or N{listed}, of a device that is there; "
        f"torch sees {gpus} CUDA devices here"
    )


def first_device(device: str) -> str:
    """The device itself, or the first of several: measuring uses one."""
    return f"cuda:{device.split(',')[0]}" if "," in device else device
