"""Figures of the audit's page. Text from the data never enters a figure, where it would be read as markup."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from shared.figures.study_picture import SEVERITY_COLORS
from shared.labels import FINDINGS, Condition, Level, Severity, Side, View

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Json = Mapping[str, Any]

_VIEWS: Final = ("#4a7ba6", "#12364f", "#c2703d")
_LEVELS: Final = ("#440154", "#3b528b", "#21918c", "#5ec962", "#d9b90c")
_MOST_POINTS: Final = 1500
_COLUMNS: Final = tuple((c, s) for c in Condition for s in c.sides)


def column_title(condition: Condition, side: Side | None) -> str:
    return condition.display if side is None else f"{condition.display}, {side.value}"


def prevalence_figure(findings: Json) -> "Figure":
    """Moderate and severe per level, one panel a condition and side, with the challenge's shares as ticks."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    figure = Figure(figsize=(11, 3.2), layout="constrained")
    panels = figure.subplots(1, len(_COLUMNS), sharey=True)
    for axes, (condition, side) in zip(panels, _COLUMNS, strict=True):
        rows = [findings[f.column] for f in FINDINGS if (f.condition, f.side) == (condition, side)]
        moderate = np.array([100 * (row["share"][1] or 0) for row in rows])
        severe = np.array([100 * (row["share"][2] or 0) for row in rows])
        where = np.arange(len(Level))
        axes.bar(where, severe, color=SEVERITY_COLORS[Severity.SEVERE], width=0.7)
        axes.bar(where, moderate, bottom=severe, color=SEVERITY_COLORS[Severity.MODERATE], width=0.7)
        for x, row in zip(where, rows, strict=True):
            _, known_moderate, known_severe = row["challenge_share"]
            for height in (known_severe, known_severe + known_moderate):
                axes.plot([x - 0.42, x + 0.42], [100 * height] * 2, color="#222", lw=1.2)
        axes.set_title(column_title(condition, side), fontsize=9)
        axes.set_xticks(where, [level.display for level in Level], rotation=60, fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("% of graded findings")
    handles = [
        Patch(color=SEVERITY_COLORS[Severity.MODERATE], label="Moderate"),
        Patch(color=SEVERITY_COLORS[Severity.SEVERE], label="Severe"),
        Line2D([], [], color="#222", lw=1.2, label="challenge"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    return figure


def correlation_figure(spearman: Sequence[Sequence[float | None]]) -> "Figure":
    """All 25 findings against each other."""
    from matplotlib.figure import Figure

    values = np.array([[np.nan if v is None else v for v in row] for row in spearman])
    figure = Figure(figsize=(7.6, 6.6), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(values, vmin=-1, vmax=1, cmap="RdBu_r")
    axes.set_facecolor("#dddddd")
    count = len(Level)
    names = [column_title(condition, side) for condition, side in _COLUMNS]
    middles = [k * count + (count - 1) / 2 for k in range(len(names))]
    for edge in range(count, len(FINDINGS), count):
        axes.axhline(edge - 0.5, color="white", lw=1.5)
        axes.axvline(edge - 0.5, color="white", lw=1.5)
    axes.set_xticks(middles, [name.replace(", ", ",\n") for name in names], fontsize=8)
    axes.set_yticks(middles, [name.replace(", ", ",\n") for name in names], fontsize=8)
    axes.tick_params(length=0)
    figure.colorbar(image, ax=axes, shrink=0.75, label="Spearman's correlation of the grades")
    return figure


def image_figure(images: Json) -> "Figure":
    """Slices a series, distances, pixel sizes and fields of view, by view."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.0), layout="constrained")
    panels = figure.subplots(1, 4)
    quantities = (
        ("slices", "slices a series"), ("gap_mm", "distance of slices (mm)"), ("spacing_mm", "pixel size (mm)"),
        ("field_height_mm", "height of the picture (mm)"),
    )  # fmt: skip
    for axes, (key, label) in zip(panels, quantities, strict=True):
        values = [images[view.slug]["values"][key] for view in View]
        together = np.concatenate([np.asarray(v, dtype=float) for v in values])
        axes.hist(values, bins=_bins(together, whole=key == "slices"), stacked=True, color=_VIEWS)
        axes.set_xlabel(label)
        axes.spines[["top", "right"]].set_visible(False)
        axes.yaxis.get_major_locator().set_params(integer=True)
    panels[0].set_ylabel("series")
    _legend(figure, [view.value for view in View], _VIEWS)
    return figure


def _bins(values: "np.ndarray[Any, Any]", *, whole: bool) -> "np.ndarray[Any, Any]":
    """Twenty bins between the extremes, but none narrower than one where values are counts."""
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    if whole:
        step = max(1, round((high - low) / 20))
        return np.arange(low - 0.5, high + step + 0.5, step)
    margin = max((high - low) * 0.02, abs(high) * 0.02, 1e-3)
    return np.linspace(low - margin, high + margin, 21)


def points_figure(points: Json) -> "Figure":
    """Where on the image points lie, by condition and side; y runs down as in the image."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.4), layout="constrained")
    panels = figure.subplots(1, len(_COLUMNS), sharex=True, sharey=True)
    for axes, (condition, side) in zip(panels, _COLUMNS, strict=True):
        key = condition.short if side is None else f"{side.value} {condition.short}"
        for level in Level:
            of_level = points[key][level.slug]
            step = max(1, len(of_level["x"]) // _MOST_POINTS)
            axes.scatter(of_level["x"][::step], of_level["y"][::step], s=5, alpha=0.55, lw=0, color=_LEVELS[level])
            x, y = of_level["challenge_median"]
            axes.plot(x, y, "+", color="#111", ms=7, mew=1.1)
        axes.set_title(column_title(condition, side), fontsize=9)
        axes.set_aspect("equal")
        axes.set_xlabel("x / width", fontsize=8)
        axes.tick_params(labelsize=8)
    panels[0].set_xlim(0, 1)
    panels[0].set_ylim(1, 0)
    panels[0].set_xticks([0, 0.5, 1])
    panels[0].set_ylabel("y / height", fontsize=8)
    _legend(figure, [level.display for level in Level], _LEVELS)
    return figure


def heat_figure(points: Json) -> "Figure":
    """Density of the points of each condition on the image."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.2), layout="constrained")
    panels = figure.subplots(1, len(Condition), sharey=True)
    for axes, condition in zip(panels, Condition, strict=True):
        keys = [condition.short if s is None else f"{s.value} {condition.short}" for s in condition.sides]
        x = np.concatenate([np.asarray(points[k][v.slug]["x"], dtype=float) for k in keys for v in Level])
        y = np.concatenate([np.asarray(points[k][v.slug]["y"], dtype=float) for k in keys for v in Level])
        density, _, _ = np.histogram2d(y, x, bins=40, range=[[0, 1], [0, 1]])
        axes.imshow(density, extent=(0, 1, 1, 0), cmap="magma")
        axes.set_title(f"{condition.display} (n = {len(x):,})", fontsize=9)
        axes.set_xticks([0, 0.5, 1])
        axes.set_xlabel("x / width", fontsize=8)
        axes.tick_params(labelsize=8)
    panels[0].set_ylabel("y / height", fontsize=8)
    return figure


def order_figure(order: Json) -> "Figure":
    """How instance numbers run, by view."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 1.9), layout="constrained")
    axes: Axes = figure.subplots()
    names = {"along": "right to left, head to foot", "against": "left to right, foot to head", "neither": "neither"}
    colours = ("#4a7ba6", "#c2703d", "#aaaaaa")
    left = np.zeros(len(View))
    for kind, colour in zip(names, colours, strict=True):
        counts = np.array([order[view.slug][kind] for view in View], dtype=float)
        total = np.array([max(1, sum(order[view.slug].values())) for view in View], dtype=float)
        share = 100 * counts / total
        axes.barh(np.arange(len(View)), share, left=left, color=colour, height=0.65)
        left = left + share
    axes.set_yticks(np.arange(len(View)), [view.value for view in View])
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("% of series, by the way their instance numbers run")
    axes.spines[["top", "right"]].set_visible(False)
    _legend(figure, list(names.values()), colours)
    return figure


def _legend(figure: "Figure", names: Sequence[str], colours: Sequence[str]) -> None:
    from matplotlib.patches import Patch

    handles = [Patch(color=colour, label=name) for name, colour in zip(names, colours, strict=True)]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(names), fontsize=8, frameon=False)
