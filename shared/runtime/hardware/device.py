"""Resolves `--device`. This module does not import torch: the stages tell it which devices torch sees."""

import re

from shared.runtime.errors import InputError
from shared.runtime.problems import counted

HELP = "device to compute on: auto, cpu, mps, cuda, cuda:N or a GPU's number N (default: auto)"


def resolve_device(text: str, *, gpus: int, mps: bool = False, several: bool = False) -> str:
    """Returns torch's name of a device. `auto` is the first GPU or else the CPU; `1` and `cuda:1` are the second GPU.

    Args:
      text: auto, cpu, mps, cuda, cuda:N or N.
      gpus: number of CUDA devices that torch sees.
      mps: whether torch sees an Apple GPU, which must be named explicitly.
      several: whether to allow a list such as `0,1`; it is returned as it is, for Ultralytics to train on all of them.

    Raises:
      InputError: for any other text, and for a device that does not exist.
    """
    if text == "auto":
        return "cuda:0" if gpus else "cpu"
    if text == "cpu" or (text == "mps" and mps):
        return text
    check_form(text, several=several)
    indices = ["0"] if text == "cuda" else text.removeprefix("cuda:").split(",")
    if all(index.isdecimal() and int(index) < gpus for index in indices):
        if len(indices) == 1:
            return f"cuda:{int(indices[0])}"
        if several and len({int(index) for index in indices}) == len(indices):
            return ",".join(indices)
    there = "an Apple GPU" if mps else counted(gpus, "CUDA device") if gpus else "no GPU"
    raise InputError(f"--device {text}: there is no such device, torch sees {there} here; choose another, or auto")


def check_form(text: str, *, several: bool = False) -> None:
    """Raises `InputError` for what cannot be the name of a device on any machine; see `resolve_device`."""
    one = re.fullmatch(r"auto|cpu|mps|cuda|cuda:\d{1,4}|\d{1,4}", text)
    listed = re.fullmatch(r"(?:cuda:)?(\d{1,4}(?:,\d{1,4})+)", text)
    indices = [int(index) for index in listed[1].split(",")] if listed else []
    if one or (several and indices and len(set(indices)) == len(indices)):
        return
    forms = "auto, cpu, mps, cuda, cuda:N" + (", N or 0,1 to train on several" if several else " or N")
    raise InputError(f"--device {text}: expected {forms}")


def first_device(device: str) -> str:
    """The device itself, or the first of several: evaluation uses one."""
    return f"cuda:{device.split(',')[0]}" if "," in device else device
