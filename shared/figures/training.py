"""The part of a report that shows how training went: the loss by epoch that a fold's log holds, for both stages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from shared.figures.measure_plots import Losses, training_curves
from shared.figures.report import Report
from shared.runtime.tables import Kind, read_csv

LOG_FILE: Final = "log.csv"
_COLUMNS: Final[Mapping[str, Kind]] = {"epoch": "int64", "train_loss": "float64", "held_out_loss": "float64"}
# A last held-out loss above the lowest by more than this share says that training went on for too long.
_RISEN: Final = 0.05
# A fall by more than this share since the measurement before says that it could have gone on.
_FALLING: Final = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """The training of one network.

    Attributes:
      fold: that it belongs to.
      network: what it sees, where a fold has several (a view); empty for the only one.
    """

    fold: int
    network: str
    losses: Losses

    def to_json(self) -> dict[str, Any]:
        return {
            "fold": self.fold, "network": self.network, "epoch": list(self.losses.epoch),
            "train_loss": list(self.losses.train), "held_out_loss": list(self.losses.held_out),
        }  # fmt: skip


def read_curves(folders: Mapping[int, Path]) -> list[Curve]:
    """Reads the logs of folds, given by their folders; a fold of an earlier version may have none.

    Raises:
      InputError: for a log that is damaged.
    """
    curves = []
    for fold, folder in folders.items():
        path = folder / LOG_FILE
        if not path.is_file():
            continue
        table = read_csv(path, _COLUMNS, optional={"view": "string"}, hint="restore it or train the fold again")
        for name, rows in table.groupby(table["view"].fillna(""), sort=False):
            train, held_out = ([None if v != v else float(v) for v in rows[f"{k}_loss"]] for k in ("train", "held_out"))
            losses = Losses(epoch=rows["epoch"].tolist(), train=train, held_out=held_out)
            curves.append(Curve(fold=fold, network=str(name), losses=losses))
    return curves


def add_training(report: Report, curves: Sequence[Curve], *, names: Mapping[str, str], about: str) -> None:
    """Adds the curves as a plot and a table; `names` are the titles of networks, `about` says what the losses are."""
    report.heading("Training")
    report.data["training"] = [curve.to_json() for curve in curves]
    if not curves:
        report.text("This run holds no losses by epoch: an earlier version has trained it.")
        return
    panels: dict[str, list[Losses]] = {title: [] for title in names.values()}
    for curve in curves:
        panels[names[curve.network]].append(curve.losses)
    report.figure(
        training_curves({title: of for title, of in panels.items() if of}),
        f"Loss by epoch of each fold's network. {about}",
        alt="Loss by epoch, on the training part and on the held-out studies; the table below has the last values.",
    )
    report.table(
        ["fold", "network", "epochs", "last training loss", "last held-out loss", "lowest held-out loss", "in epoch",
         "held-out loss"],
        [
            [str(c.fold), names[c.network], len(c.losses.epoch), c.losses.train[-1], *_held_out(c.losses)]
            for c in curves
        ],
    )  # fmt: skip


def _held_out(losses: Losses) -> list[object]:
    """The last and the lowest held-out loss, the epoch of the latter, and what that says."""
    known = [(v, e) for e, v in zip(losses.epoch, losses.held_out, strict=True) if v is not None]
    if not known:
        return [None, None, None, "not measured"]
    last, (lowest, epoch) = known[-1][0], min(known)
    if len(known) == 1:
        word = "measured once"
    elif last > lowest * (1 + _RISEN):
        word = "has risen again: fewer epochs may do"
    elif last < known[-2][0] * (1 - _FALLING):
        word = "was still falling: more epochs may help"
    else:
        word = "has levelled off"
    return [last, lowest, epoch, word]
