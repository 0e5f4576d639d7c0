"""Plots of plain data: histograms, bars, correlations, scatter, density and crops.

Each function returns a matplotlib figure of panels side by side; most take their panels as a mapping from title to
values. Text that comes from data (names of submissions, study ids) is never read as markup.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE: Final = "#4a7ba6"
NAVY: Final = "#12364f"
RUST: Final = "#c2703d"
CYCLE: Final = (BLUE, NAVY, RUST)
# Lines and dots of grades on white, from mild to severe: blue, amber and vermilion, apart in hue and in lightness.
GRADES: Final = ("#1f77b4", "#c79a00", "#b83a0b")
LEVELS: Final = ("#440154", "#3b528b", "#21918c", "#5ec962", "#d9b90c")


def panels(
    rows: int, columns: int, size_in: tuple[float, float], *, sharex: bool = False, sharey: bool = False
) -> "tuple[Figure, Any]":
    """A figure and its array of axes, [rows, columns], without top and right edges; needs no display."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size_in, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharex=sharex, sharey=sharey)
    for ax in axes.flat:
        ax.spines[["top", "right"]].set_visible(False)
        ax.title.set_fontsize(10)
        ax.tick_params(labelsize=8)
    return figure, axes


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """One panel of `histograms`; several arrays of values are stacked.

    Attributes:
      edges: of the bins; values beyond the outer ones count in the outermost bins.
      whole: whether the values are counts.
    """

    values: Sequence[ArrayLike]
    edges: ArrayLike
    xlabel: str
    title: str = ""
    whole: bool = False


def histograms(rows: Sequence[Sequence[Histogram]], *, ylabel: str, names: Sequence[str] = ()) -> "Figure":
    """Rows of histograms; `names` label stacked values."""
    columns = len(rows[0])
    figure, axes = panels(len(rows), columns, (11, 2.5 * len(rows) + (0.4 if names else 0)))
    for ax, histogram in zip(axes.flat, [h for row in rows for h in row], strict=True):
        edges = np.asarray(histogram.edges, dtype=float)
        inside = ((edges[0] + edges[1]) / 2, (edges[-2] + edges[-1]) / 2)
        values = [np.clip(np.asarray(v, dtype=float), *inside) for v in histogram.values]
        ax.hist(values, bins=edges, stacked=True, color=CYCLE[: len(values)], rwidth=0.92)
        ax.set(title=histogram.title, xlabel=histogram.xlabel)
        ax.yaxis.get_major_locator().set_params(integer=True)
        if histogram.whole:
            ax.xaxis.get_major_locator().set_params(integer=True)
    for ax in axes[:, 0]:
        ax.set_ylabel(ylabel)
    if names:
        _legend(figure, names, CYCLE)
    return figure


def stacked_bars(
    bars: Mapping[str, Mapping[str, ArrayLike]],
    ticks: Sequence[str],
    colors: Sequence[str],
    *,
    ylabel: str,
    known: tuple[str, Mapping[str, ArrayLike]] | None = None,
) -> "Figure":
    """Panels of bars.

    Args:
      bars: panel title -> name of a part -> one height per tick, from the bottom up; the same names in every panel.
      known: name and heights per panel, [marks, ticks], drawn as black lines across the bars for comparison.
    """
    from matplotlib.lines import Line2D

    figure, axes = panels(1, len(bars), (11, 3.2), sharey=True)
    at = np.arange(len(ticks))
    for ax, (title, parts) in zip(axes[0], bars.items(), strict=True):
        bottom = np.zeros(len(ticks))
        for heights, color in zip(parts.values(), colors, strict=True):
            ax.bar(at, heights, bottom=bottom, color=color, width=0.7)
            bottom = bottom + np.asarray(heights, dtype=float)
        for heights in np.asarray(known[1][title], dtype=float) if known else ():
            ax.hlines(heights, at - 0.42, at + 0.42, color="#222", lw=1.2)
        ax.set(title=title)
        ax.set_xticks(at, ticks, rotation=60 if len(bars) > 1 else 0)
    axes[0, 0].set_ylabel(ylabel)
    extra = [Line2D([], [], color="#222", lw=1.2, label=known[0])] if known else []
    _legend(figure, list(next(iter(bars.values()))), colors, extra)
    return figure


def correlation(values: ArrayLike, names: Sequence[str], within: Sequence[str], *, label: str) -> "Figure":
    """An [n, n] matrix from -1 to 1 in equal blocks, one per name, each of rows named in `within`; NaN is grey."""
    figure, axes = panels(1, 1, (8.4, 7.4))
    ax, table = axes[0, 0], np.asarray(values, dtype=float)
    image = ax.imshow(table, vmin=-1, vmax=1, cmap="RdBu_r")
    ax.set_facecolor("#dddddd")
    block = len(table) // len(names)
    for edge in range(block, len(table), block):
        ax.axhline(edge - 0.5, color="white", lw=1.5)
        ax.axvline(edge - 0.5, color="white", lw=1.5)
    middles = [k * block + (block - 1) / 2 for k in range(len(names))]
    broken = [name.replace(", ", ",\n") for name in names]
    ax.set_xticks(range(len(table)), list(within) * len(names), rotation=90, minor=True)
    ax.set_yticks(range(len(table)), list(within) * len(names), minor=True)
    ax.set_xticks(middles, broken)
    ax.set_yticks(middles, broken)
    ax.tick_params(which="minor", length=0, labelsize=5.5)
    ax.tick_params(which="major", length=0, pad=26)
    figure.colorbar(image, ax=ax, shrink=0.75, label=label)
    return figure


Points = tuple[NDArray[np.float64], NDArray[np.float64]]  # x and y, [n] each


def scatter(
    points: Mapping[str, Mapping[str, Points]], crosses: Mapping[str, Points], colors: Sequence[str], *, most: int
) -> "Figure":
    """Points (x, y) in the unit square, y downwards, by panel and name: at most `most` of each, and black crosses."""
    figure, axes = panels(1, len(points), (11, 3.4), sharex=True, sharey=True)
    for ax, (title, named) in zip(axes[0], points.items(), strict=True):
        for (x, y), color in zip(named.values(), colors, strict=True):
            step = max(1, len(x) // most)
            ax.scatter(x[::step], y[::step], s=5, alpha=0.55, lw=0, color=color)
        ax.plot(*crosses[title], "+", color="#111", ms=7, mew=1.1)
        _unit_square(ax, title)
    axes[0, 0].set_ylabel("y / height", fontsize=8)
    _legend(figure, list(next(iter(points.values()))), colors)
    return figure


def density(points: Mapping[str, Points]) -> "Figure":
    """Density of points (x, y) in the unit square, y downwards, by panel, each with the scale of its shades."""
    figure, axes = panels(1, len(points), (11, 3.2), sharey=True)
    for ax, (title, (x, y)) in zip(axes[0], points.items(), strict=True):
        counts, _, _ = np.histogram2d(y, x, bins=40, range=[[0, 1], [0, 1]])
        image = ax.imshow(counts, extent=(0, 1, 1, 0), cmap="magma", vmin=0, vmax=max(counts.max(), 1))
        bar = figure.colorbar(image, ax=ax, shrink=0.8, label="points per cell")
        bar.ax.yaxis.get_major_locator().set_params(integer=True)  # type: ignore[call-arg]  # of MaxNLocator
        bar.ax.tick_params(labelsize=7)
        _unit_square(ax, f"{title} (n = {len(x):,})")
    axes[0, 0].set_ylabel("y / height", fontsize=8)
    return figure


def _unit_square(ax: "Axes", title: str) -> None:
    ax.set(title=title, xlim=(0, 1), ylim=(1, 0), xticks=[0, 0.5, 1], aspect="equal")
    ax.set_xlabel("x / width", fontsize=8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Crop:
    """A picture with text above and below.

    Attributes:
      picture: grey values, [px, px].
      overlay: signed values laid over it, [px, px]: red where positive, blue where negative.
    """

    picture: NDArray[np.uint8]
    title: str
    caption: str
    overlay: NDArray[np.float64] | None = None


# Overlay values below this stay pale.
_FAINT: Final = 0.1


def crops(row: Sequence[Crop]) -> "Figure":
    """Pictures side by side."""
    figure, axes = panels(1, len(row), (2.0 * len(row), 2.8))
    for ax, crop in zip(axes[0], row, strict=True):
        ax.imshow(crop.picture, cmap="gray", vmin=0, vmax=255)
        if crop.overlay is not None:
            limit = max(float(np.abs(crop.overlay).max()), _FAINT)
            ax.imshow(crop.overlay, cmap="coolwarm", vmin=-limit, vmax=limit, alpha=0.45)
        ax.set_title(crop.title, fontsize=7, parse_math=False)
        ax.set_xlabel(crop.caption, fontsize=7)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    return figure


def _legend(figure: "Figure", names: Sequence[str], colors: Sequence[str], extra: Sequence[Any] = ()) -> None:
    """Below the panels."""
    from matplotlib.patches import Patch

    handles = [Patch(color=color, label=name) for name, color in zip(names, colors, strict=True)]
    handles += extra
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=8, frameon=False)
