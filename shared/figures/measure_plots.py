"""Plots of measures: confusion matrices, reliability curves, score intervals and training curves.

Each function returns a matplotlib figure of panels. Every panel names its axes, and every cell, bin and dot says how
many cases it stands for. Text that comes from data is never read as markup.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import ArrayLike

from shared.figures.plots import BLUE, NAVY, RUST, panels
from shared.metric import Interval, share_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Bins with fewer cases are drawn hollow: their observed share may be far off by chance.
FEW_CASES: Final = 20
_MANY_EPOCHS: Final = 30  # from here on, dots would touch each other
_DARK: Final = 0.55  # share from which white text is easier to read on a cell


def confusion_matrices(
    counts: Mapping[str, ArrayLike], names: Sequence[str], *, xlabel: str, ylabel: str, share: str
) -> "Figure":
    """One [k, k] matrix of counts per panel; each cell has its count and, as its shade, its share of the row.

    Args:
      share: what the shade means, for the colour bar.
    """
    k = len(names)
    figure, axes = panels(1, len(counts), (3.75 * len(counts) + 0.6, 3.7))
    image: Any = None
    for ax, (title, values) in zip(axes[0], counts.items(), strict=True):
        table = np.asarray(values)
        shares = table / np.maximum(table.sum(1, keepdims=True), 1)
        image = ax.imshow(shares, vmin=0, vmax=1, cmap="Blues")
        for (row, column), count in np.ndenumerate(table):
            color = "white" if shares[row, column] > _DARK else "black"
            ax.text(column, row, f"{int(count)}", ha="center", va="center", color=color, fontsize=9)
        ax.set(title=f"{title} (n = {int(table.sum()):,})", xlabel=xlabel)
        ax.set_xticks(range(k), names)
        ax.set_yticks(range(k), [f"{n}\n({int(row.sum()):,})" for n, row in zip(names, table, strict=True)])
        ax.tick_params(length=0)
    axes[0, 0].set_ylabel(ylabel)
    if image is not None:
        figure.colorbar(image, ax=axes[0, -1], shrink=0.8, label=share, format="{x:.0%}").ax.tick_params(labelsize=8)
    return figure


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A reliability curve: edges, mean prediction, observed share and number of cases of each bin, all [n]."""

    low: Sequence[float]
    high: Sequence[float]
    predicted: Sequence[float]
    observed: Sequence[float]
    count: Sequence[int]

    @property
    def few(self) -> list[bool]:
        """Whether a bin has fewer than `FEW_CASES` cases."""
        return [n < FEW_CASES for n in self.count]

    @property
    def interval(self) -> list[Interval]:
        """The 95% interval of each bin's observed share."""
        return [share_interval(round(o * n), n) for o, n in zip(self.observed, self.count, strict=True)]


def reliability_grid(rows: Mapping[str, Mapping[str, Curve]], colors: Sequence[str]) -> "Figure":
    """Observed share against prediction: rows of panels by name, one column and colour for each name within."""
    columns = list(next(iter(rows.values())))
    figure, axes = panels(len(rows), len(columns), (11, 3.1 * len(rows)), sharex=True, sharey=True)
    for line, (row, named) in zip(axes, rows.items(), strict=True):
        for ax, color, (name, curve) in zip(line, colors, named.items(), strict=True):
            _reliability(ax, curve, color)
            ax.set_title(f"{row}: {name} (n = {sum(curve.count):,})")
        line[0].set_ylabel("observed share")
    for ax in axes[-1]:
        ax.set_xlabel("predicted probability")
    return figure


def reliability_row(curves: Mapping[str, Curve], *, xlabel: str, ylabel: str, low: float = 0.0) -> "Figure":
    """Observed share against prediction, one panel per name; axes run from `low` to 1."""
    figure, axes = panels(1, len(curves), (4.6 * len(curves), 4.0), sharey=True)
    for ax, (name, curve) in zip(axes[0], curves.items(), strict=True):
        _reliability(ax, curve, BLUE, low=low, number_bins=False)
        ax.set(title=f"{name} (n = {sum(curve.count):,})", xlabel=xlabel)
    axes[0, 0].set_ylabel(ylabel)
    return figure


def _reliability(ax: "Axes", curve: Curve, color: str, *, low: float = 0.0, number_bins: bool = True) -> None:
    """One panel: dots with intervals, hollow where cases are few, and the cases of each bin along the bottom."""
    ax.plot([low, 1], [low, 1], color="0.6", lw=1, ls="--")
    ax.plot(curve.predicted, curve.observed, color=color, lw=1)
    bounds = curve.interval
    ax.vlines(curve.predicted, [b.low for b in bounds], [b.high for b in bounds], color=color, lw=1.1, alpha=0.55)
    fills = ["white" if few else color for few in curve.few]
    ax.scatter(curve.predicted, curve.observed, s=36, edgecolors=color, c=fills, clip_on=False, zorder=3)
    floor = low
    if number_bins:
        floor = low - 0.13
        ax.axhspan(floor, low, color="0.94", lw=0)
        for left, right, n in zip(curve.low, curve.high, curve.count, strict=True):
            shade = "0.45" if n < FEW_CASES else "black"
            ax.text((left + right) / 2, low - 0.065, f"{n}", ha="center", va="center", fontsize=6.5, color=shade)
    ax.set(xlim=(low, 1), ylim=(floor, 1.01))
    ticks = np.linspace(low, 1, 6)
    ax.set_yticks(ticks, [f"{t:.2g}" for t in ticks])


def score_intervals(
    scores: Mapping[str, tuple[float, float, float]], *, xlabel: str, reference: float | None = None
) -> "Figure":
    """Score, low and high end of the interval by name, top to bottom; a dotted line at the reference."""
    figure, axes = panels(1, 1, (8, 0.5 * len(scores) + 0.9))
    ax = axes[0, 0]
    at = np.arange(len(scores))[::-1]
    for y, (score, low, high) in zip(at, scores.values(), strict=True):
        ax.plot([low, high], [y, y], color=BLUE, lw=3, solid_capstyle="round")
        ax.plot(score, y, "o", color=NAVY)
        ax.annotate(f"{score:.3f}", (score, y), (0, 7), textcoords="offset points", ha="center", fontsize=9)
    ax.set_yticks(at, list(scores), parse_math=False)
    ax.set(xlabel=xlabel, ylim=(-0.6, len(scores) - 0.3))
    if reference is not None:
        ax.axvline(reference, color="#999", lw=1, ls=":")
    return figure


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """Losses by epoch, [n] each; None for an epoch in which a loss was not measured, or was no number."""

    epoch: Sequence[int]
    train: Sequence[float | None]
    held_out: Sequence[float | None]


def training_curves(named: Mapping[str, Sequence[Losses]]) -> "Figure":
    """Losses by epoch, one panel per name and a pair of lines for each network of it (one per fold)."""
    figure, axes = panels(1, len(named), (max(3.7 * len(named), 6), 3.3))
    for ax, (title, curves) in zip(axes[0], named.items(), strict=True):
        for i, curve in enumerate(curves):
            known = [(e, v) for e, v in zip(curve.epoch, curve.held_out, strict=True) if v is not None]
            train, dots = np.array(curve.train, float), "." if len(curve.epoch) < _MANY_EPOCHS else None
            ax.plot(curve.epoch, train, "--", marker=dots, color=BLUE, lw=1.3, label=None if i else "training")
            if known:
                ax.plot(*zip(*known, strict=True), "-o", ms=3.5, color=RUST, lw=1.5, label=None if i else "held out")
        ax.set(title=title, xlabel="epoch")
        ax.set_ylim(bottom=0)
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.legend(fontsize=8, frameon=False)
    axes[0, 0].set_ylabel("loss")
    return figure
