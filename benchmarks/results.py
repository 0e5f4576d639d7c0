"""What the scripts of benchmarks/ share: their command line, and the head and the form of the files in results/."""

import argparse
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shared.runtime.files import write_json
from shared.runtime.hardware.cores import processor_name
from shared.runtime.run_folder import git_commit


def parser(doc: str | None) -> argparse.ArgumentParser:
    """A command line whose help shows a module's docstring as it is written."""
    return argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)


def header(command: str, *, device: str | None = None) -> dict[str, Any]:
    """What every file in results/ begins with: command, commit and hardware."""
    return {"command": command, "commit": git_commit(), "hardware": hardware(device)}


def hardware(device: str | None = None) -> str:
    """The processor, and the GPU that a resolved device names; without a device, no word about GPUs."""
    cores = f"{os.cpu_count()} cores of {processor_name()}"
    if device is None:
        return cores
    if not device.startswith("cuda"):
        return f"{cores}, {'no GPU' if device == 'cpu' else device}"
    import torch

    return f"{cores}, {torch.cuda.get_device_name(device) if torch.cuda.is_available() else device}"


def save(path: Path, result: Mapping[str, Any]) -> None:
    """Writes the result and prints it."""
    write_json(path, result)
    print(json.dumps(result, indent=1))
