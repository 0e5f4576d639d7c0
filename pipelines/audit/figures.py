"""What the plots of the audit's page are made of. No text from the data enters a plot."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from shared.figures import plots
from shared.figures.marks import SEVERITY_COLORS
from shared.labels import FINDINGS, Condition, Level, Severity, Side, View

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Json = Mapping[str, Any]

COLUMNS: Final = tuple((c, s) for c in Condition for s in c.sides)
LEVEL_NAMES: Final = tuple(level.display for level in Level)
IMAGE_MEASURES: Final = {
    "slices": "slices per series", "gap_mm": "distance of slices (mm)", "spacing_mm": "pixel size (mm)",
    "field_height_mm": "height of the image (mm)", "field_width_mm": "width of the image (mm)",
}  # fmt: skip
ORDERS: Final = {"along": "right to left, head to foot", "against": "left to right, foot to head", "neither": "neither"}
_MOST_POINTS: Final = 1500


def column_title(condition: Condition, side: Side | None) -> str:
    return condition.display if side is None else f"{condition.display}, {side.value}"


def point_key(condition: Condition, side: Side | None) -> str:
    """The name of a condition and side among the audit's points."""
    return condition.short if side is None else f"{side.value} {condition.short}"


def prevalence_figure(findings: Json) -> "Figure":
    """Shares of moderate and severe grades per level, one panel per condition and side; black: the challenge's."""
    grades = (Severity.SEVERE, Severity.MODERATE)
    bars, known = {}, {}
    for condition, side in COLUMNS:
        rows = [findings[f.column] for f in FINDINGS if (f.condition, f.side) == (condition, side)]
        title = column_title(condition, side)
        bars[title] = {g.display: [100 * (row["share"][g] or 0) for row in rows] for g in grades}
        known[title] = np.cumsum([[100 * row["challenge_share"][g] for row in rows] for g in grades], axis=0)
    colors = [SEVERITY_COLORS[g] for g in grades]
    return plots.stacked_bars(bars, LEVEL_NAMES, colors, ylabel="% of graded findings", known=("challenge", known))


def correlation_figure(spearman: Sequence[Sequence[float | None]]) -> "Figure":
    """All 25 findings against each other."""
    values = [[np.nan if v is None else v for v in row] for row in spearman]
    names = [column_title(*column) for column in COLUMNS]
    return plots.correlation(values, names, LEVEL_NAMES, label="Spearman's correlation of the grades")


def image_figure(images: Json) -> "Figure":
    """Slices per series, distances, pixel sizes and heights, stacked by view."""
    row = []
    for key in ("slices", "gap_mm", "spacing_mm", "field_height_mm"):
        values = [np.asarray(images[view.slug]["values"][key], dtype=float) for view in View]
        edges = _edges(np.concatenate(values), whole=key == "slices")
        row.append(plots.Histogram(values=values, edges=edges, xlabel=IMAGE_MEASURES[key], whole=key == "slices"))
    return plots.histograms([row], ylabel="series", names=[view.value for view in View])


def _edges(values: "np.ndarray[Any, Any]", *, whole: bool) -> "np.ndarray[Any, Any]":
    """Twenty bins between the extremes, but none narrower than one where values are counts."""
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    if whole:
        step = max(1, round((high - low) / 20))
        return np.arange(low - 0.5, high + step + 0.5, step)
    margin = max((high - low) * 0.02, abs(high) * 0.02, 1e-3)
    return np.linspace(low - margin, high + margin, 21)


def points_figure(points: Json) -> "Figure":
    """Where on the image points lie, by condition and side."""
    panels, crosses = {}, {}
    for condition, side in COLUMNS:
        levels = [points[point_key(condition, side)][level.slug] for level in Level]
        named = {n: (np.array(of["x"]), np.array(of["y"])) for n, of in zip(LEVEL_NAMES, levels, strict=True)}
        medians = np.array([of["challenge_median"] for of in levels])
        panels[column_title(condition, side)] = named
        crosses[column_title(condition, side)] = medians[:, 0], medians[:, 1]
    return plots.scatter(panels, crosses, plots.LEVELS, most=_MOST_POINTS)


def density_figure(points: Json) -> "Figure":
    """Density of the points of each condition on the image."""
    panels = {}
    for condition in Condition:
        levels = [points[point_key(condition, side)][level.slug] for side in condition.sides for level in Level]
        x, y = (np.concatenate([np.array(of[k], dtype=float) for of in levels]) for k in "xy")
        panels[condition.display] = x, y
    return plots.density(panels)


def order_figure(order: Json) -> "Figure":
    """How instance numbers run, by view."""
    shares = {
        name: [100 * order[v.slug][kind] / max(1, sum(order[v.slug].values())) for v in View]
        for kind, name in ORDERS.items()
    }
    colors = (plots.BLUE, plots.RUST, "#aaaaaa")
    return plots.stacked_bars({"": shares}, [view.value for view in View], colors, ylabel="% of series")
