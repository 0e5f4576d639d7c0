"""The loss of a detector by epoch, on its training slices and on the held-out ones; it selects nothing."""

import math
from collections.abc import Hashable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import pandas as pd
import torch

from shared.runtime.files import write_csv
from shared.runtime.hardware.cores import usable_cores
from shared.runtime.tables import Kind, read_csv

_COLUMNS: Final[Mapping[str, Kind]] = {
    "epoch": "int64", "train_loss": "float64", "held_out_loss": "float64", "learning_rate": "float64",
}  # fmt: skip
# The held-out loss is measured so often at most, and on so many slices: it must not lengthen training noticeably.
_MEASUREMENTS: Final = 10
_SLICES: Final = 256


def curve_file(folder: Path) -> Path:
    """Where a detector that trains in `folder` records its epochs."""
    return folder / "yolo" / "curve.csv"


def read_curve(path: Path) -> pd.DataFrame:
    """The recorded epochs; empty without a file."""
    if path.is_file():
        return read_csv(path, _COLUMNS, hint="delete it, and train this detector again")
    return pd.DataFrame(columns=list(_COLUMNS))


def record_epoch(trainer: Any, path: Path) -> float:
    """Adds a trainer's finished epoch and returns its held-out loss, NaN where that is not measured.

    An epoch that a resumed training repeats replaces the earlier line.
    """
    done = trainer.epoch + 1
    measured = done == trainer.epochs or done % -(-trainer.epochs // _MEASUREMENTS) == 0
    held_out = held_out_loss(trainer) if measured else math.nan
    row = {
        "epoch": done,
        "train_loss": _total(trainer.tloss or {}),
        "held_out_loss": held_out,
        "learning_rate": float(trainer.optimizer.param_groups[0]["lr"]),
    }
    earlier = [line for line in read_curve(path).to_dict("records") if line["epoch"] < done]
    write_csv(path, pd.DataFrame([*earlier, row], columns=list(_COLUMNS)))
    return held_out


def held_out_loss(trainer: Any) -> float:
    """The loss of the averaged weights on evenly spaced held-out slices, which are not augmented; NaN without any.

    Draws no random number, so that a training gives the same weights whether or not it is measured.
    """
    feed, threads = trainer.test_loader, min(2, usable_cores())
    chosen = range(0, len(feed.dataset), max(-(-len(feed.dataset) // _SLICES), 1))
    batches = -(-len(chosen) // trainer.batch_size)
    network, criterion = trainer.ema.ema.eval(), getattr(trainer.model, "module", trainer.model).criterion

    @torch.no_grad()
    def answered(k: int) -> tuple[dict[str, Any], Any]:
        # Neighbours come into different batches: the loss is divided by the boxes of a batch, and many have none.
        batch = feed.batch(chosen[k::batches])
        return batch, network(batch["img"])

    total = 0.0
    with ThreadPoolExecutor(threads) as pool, torch.no_grad():
        for first in range(0, batches, threads):
            for batch, answer in pool.map(answered, range(first, min(first + threads, batches))):
                total += _total(criterion(answer, batch)[1]) * len(batch["img"])
    return total / len(chosen) if len(chosen) else math.nan


def write_log(path: Path, curves: Mapping[str, Path]) -> None:
    """Writes the recorded epochs of a fold's detectors, by view; one without a record keeps its lines of before."""
    earlier = read_csv(path, {"view": "string", **_COLUMNS}) if path.is_file() else None
    lines: list[dict[Hashable, Any]] = []
    for view, curve in curves.items():
        if curve.is_file():
            lines += [{"view": view, **line} for line in read_curve(curve).to_dict("records")]
        elif earlier is not None:
            lines += earlier[earlier["view"] == view].to_dict("records")
    write_csv(path, pd.DataFrame(lines, columns=["view", *_COLUMNS]))


def _total(parts: Mapping[str, Any]) -> float:
    return float(sum(float(value) for value in parts.values()))
