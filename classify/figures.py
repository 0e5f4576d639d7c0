"""Parts of a report on graded rows that need no model: the table per condition and level, confusion, reliability."""

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from shared.figures.report import Report
from shared.labels import Severity

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SEVERITY_COLORS: Final = ("#3b7dd8", "#d89a2b", "#c23b4b")


def add_details(report: Report, figures: dict[str, Any], *, remark: str = "") -> None:
    """Adds the table per condition and level, and both plots, from the figures of `classify.evaluate.describe`."""
    add_levels(report, figures)
    report.heading("Confusion and calibration")
    report.text(
        "Grades are the likeliest ones after the metric's weights are divided out; calibration compares those "
        f"probabilities with observed shares. {remark}".strip()
    )
    report.figure(
        confusion_figure(figures["conditions"]), "Confusion by condition: rows are true grades, shares of each row."
    )
    report.figure(
        reliability_figure(figures["conditions"]), "Reliability: predicted probability against observed share."
    )
    add_confidence(report, figures)


def add_levels(report: Report, figures: dict[str, Any]) -> None:
    """The table per condition and level."""
    report.heading("By condition and level")
    columns = [
        "condition",
        "level",
        "n",
        "moderate",
        "severe",
        "weighted log loss",
        "AUC severe",
        "AP severe",
        "kappa",
        "ECE",
        "ECE by chance",
    ]

    def line(condition: str, level: str, row: dict[str, Any]) -> list[object]:
        if not row["n"]:
            return [condition, level, 0, *[None] * 8]
        keys = ("weighted_log_loss", "auc_severe", "ap_severe", "kappa_quadratic", "ece", "ece_if_calibrated")
        return [condition, level, row["n"], *row["prevalence"][1:], *(row[k] for k in keys)]

    rows = [line(c, "all", row) for c, row in figures["conditions"].items()]
    rows += [line(row["condition"], row["level"], row) for row in figures["levels"]]
    report.table(
        columns,
        rows,
        "Sides pooled. A dash: not defined, because only one class occurs. Kappa is quadratic. ECE by chance: what a "
        "perfectly calibrated model would show on as many rows with these predictions.",
    )


def add_confidence(report: Report, figures: dict[str, Any]) -> None:
    """The table of how right the surest rows of each condition are."""
    rows = [
        [condition, f"{point['coverage']:.0%}", point["n"], point["least_confidence"], point["right"],
         point["severe_as_normal"]]
        for condition, row in figures["conditions"].items()
        for point in row["by_confidence"]
    ]  # fmt: skip
    report.table(
        ["condition", "surest", "n", "likeliest grade at least", "right", "severe called normal"],
        rows,
        "Does the model know when it is right: the surest quarter, half, three quarters and all rows.",
    )


def confusion_figure(conditions: dict[str, Any]) -> "Figure":
    """One confusion matrix per condition, with counts."""
    figure, axes = panels(len(conditions), 3.4, 3.2)
    names = [s.display for s in Severity]
    for axis, (condition, row) in zip(axes, conditions.items(), strict=True):
        counts = np.array(row.get("confusion", np.zeros((3, 3))), dtype=float)
        share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        axis.imshow(share, vmin=0, vmax=1, cmap="Blues")
        for i, j in np.ndindex(3, 3):
            axis.text(
                j, i, f"{int(counts[i, j])}", ha="center", va="center", color="white" if share[i, j] > 0.5 else "black"
            )
        axis.set(title=condition, xticks=range(3), yticks=range(3), xlabel="predicted")
        axis.set_xticklabels(names, fontsize=8)
        axis.set_yticklabels(names if axis is axes[0] else [], fontsize=8)
    axes[0].set_ylabel("true")
    figure.tight_layout()
    return figure


def reliability_figure(conditions: dict[str, Any]) -> "Figure":
    """One reliability diagram per condition, a curve per severity; marker area grows with the rows in the bin."""
    figure, axes = panels(len(conditions), 3.4, 3.2, share_y=True)
    for axis, (condition, row) in zip(axes, conditions.items(), strict=True):
        axis.plot([0, 1], [0, 1], color="0.7", linewidth=1)
        for severity, color in zip(Severity, _SEVERITY_COLORS, strict=True):
            points = row.get("reliability", {}).get(severity.column, [])
            x, y = [p["predicted"] for p in points], [p["observed"] for p in points]
            axis.plot(x, y, color=color, linewidth=1, label=severity.display)
            axis.scatter(x, y, s=[4 + 3 * p["n"] ** 0.5 for p in points], color=color)
        axis.set(title=condition, xlabel="predicted", xlim=(0, 1), ylim=(0, 1))
    axes[0].set_ylabel("observed")
    axes[0].legend(fontsize=8)
    figure.tight_layout()
    return figure


def panels(count: int, width_in: float, height_in: float, *, share_y: bool = False) -> "tuple[Figure, list[Any]]":
    """A figure of `count` panels in a row, drawn without a display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_in * count, height_in))
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(1, count, squeeze=False, sharey=share_y)[0])
