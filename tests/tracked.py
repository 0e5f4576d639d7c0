"""Curves of trainings that tests run: written where the package for it is installed."""

import importlib.util
from pathlib import Path

from shared.tracking.tracker import Tracking


def tracking_of(run: Path) -> Tracking:
    """TensorBoard's curves, or none without the extra."""
    return Tracking(kinds=("tensorboard",) if importlib.util.find_spec("tensorboard") else (), run=run)


def curves_of(run: Path, name: str) -> dict[str, list[int]] | None:
    """The epochs of each curve that TensorBoard reads; None without the extra."""
    if not importlib.util.find_spec("tensorboard"):
        return None
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(run / "tracking" / "tensorboard" / name))
    read.Reload()
    return {tag: [event.step for event in read.Scalars(tag)] for tag in read.Tags()["scalars"]}
