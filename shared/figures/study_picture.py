"""One picture of a graded study: the graded slices, every finding marked where it was seen, in its grade's colour."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from shared.detections import Localization
from shared.dicom.pixels import slice_pixels
from shared.labels import Condition, Finding, Level, Severity, Side, findings_of
from shared.probabilities import unweighted
from shared.study import Slice, Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Colour-blind safe on grey images: blue, yellow, vermilion.
SEVERITY_COLORS: Final = {
    Severity.NORMAL_MILD: "#56b4e9",
    Severity.MODERATE: "#f0e442",
    Severity.SEVERE: "#ff5a1f",
}
AXIAL_FIELD_MM: Final = 90.0


def study_picture(
    study: Study,
    localizations: Mapping[Finding, Localization],
    values: NDArray[np.float64],
    grades: NDArray[np.int8] | None = None,
) -> "Figure":
    """Draws sagittal T2, both foraminal T1 slices and one axial slice per level.

    `values` are the 25 x 3 probabilities; the marked grade is the most probable one after undoing the metric's class
    weights. With `grades` (-1: none) the true grade stands behind the predicted one.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 7.6), facecolor="black", layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=[1.45, 1])  # type: ignore[misc]  # an array of two
    for part in (top, bottom):
        part.set_facecolor("black")
    sagittal = top.subplots(1, 3)
    panels = [(Condition.CANAL, None), (Condition.FORAMINAL, Side.RIGHT), (Condition.FORAMINAL, Side.LEFT)]
    for axes, (condition, side) in zip(sagittal, panels, strict=True):
        found = {f: localizations[f] for f in findings_of(condition) if f.side is side and f in localizations}
        title = condition.display if side is None else f"{condition.display}, {side.value}"
        _panel(axes, study, found, values, grades, title)
    for axes, level in zip(bottom.subplots(1, len(Level)), Level, strict=True):
        found = {
            f: localizations[f] for f in findings_of(Condition.SUBARTICULAR) if f.level is level and f in localizations
        }
        _panel(axes, study, found, values, grades, f"Axial {level.display}", field_mm=AXIAL_FIELD_MM)
    handles = [axes_handle(color=color, label=severity.display) for severity, color in SEVERITY_COLORS.items()]
    legend = figure.legend(handles=handles, loc="upper right", facecolor="black", edgecolor="#555", fontsize=9)
    for text in legend.get_texts():
        text.set_color("white")
    return figure


def axes_handle(*, color: str, label: str) -> Any:
    """A legend entry: a ring in the grade's colour."""
    from matplotlib.lines import Line2D

    return Line2D([], [], marker="o", linestyle="", markerfacecolor="none", markeredgecolor=color, label=label)


def likely_grade(probabilities: NDArray[np.float64]) -> Severity:
    """The most probable grade once the metric's class weights, which the submission carries, are divided out. [3]"""
    return Severity(int(np.argmax(unweighted(probabilities))))


def _panel(
    axes: Any,
    study: Study,
    found: Mapping[Finding, Localization],
    values: NDArray[np.float64],
    grades: NDArray[np.int8] | None,
    title: str,
    field_mm: float | None = None,
) -> None:
    from matplotlib.patheffects import withStroke

    axes.set_axis_off()
    axes.set_title(title, color="white", fontsize=10)
    item = _common_slice(study, found)
    if item is None:
        axes.text(0.5, 0.5, "not localized", color="#999", ha="center", va="center", transform=axes.transAxes)
        return
    dy, dx = item.plane.spacing_mm
    axes.imshow(slice_pixels(item), cmap="gray", vmin=0, vmax=255, aspect=dy / dx)
    points = {f: item.plane.to_pixel(x.point_mm) for f, x in found.items()}
    for finding, (x, y) in points.items():
        grade = likely_grade(values[finding.index])
        axes.plot(x, y, "o", ms=11, mfc="none", mec=SEVERITY_COLORS[grade], mew=1.6)
        offset, align = (-9, "right") if finding.side is Side.RIGHT and field_mm else (9, "left")
        axes.annotate(
            _label(finding, values, grades), (x, y), (offset, 0), textcoords="offset points", ha=align, va="center",
            color=SEVERITY_COLORS[grade], fontsize=8, path_effects=[withStroke(linewidth=2, foreground="black")],
        )  # fmt: skip
    if field_mm is not None:
        center = np.mean(list(points.values()), axis=0)
        axes.set_xlim(center[0] - field_mm / 2 / dx, center[0] + field_mm / 2 / dx)
        axes.set_ylim(center[1] + field_mm / 2 / dy, center[1] - field_mm / 2 / dy)


def _common_slice(study: Study, found: Mapping[Finding, Localization]) -> Slice | None:
    """The slice in the middle of those the findings lie on."""
    if not found:
        return None
    middle = sorted(found.values(), key=lambda x: (x.series_id, x.instance_number))[len(found) // 2]
    series = study.get(middle.series_id)
    return series.by_instance(middle.instance_number) if series else None


def _label(finding: Finding, values: NDArray[np.float64], grades: NDArray[np.int8] | None) -> str:
    name = finding.level.display if finding.condition is not Condition.SUBARTICULAR else str(finding.side)[0].upper()
    text = f"{name} {values[finding.index][Severity.SEVERE]:.2f}"
    if grades is not None and grades[finding.index] >= 0:
        text += f" ({Severity(int(grades[finding.index])).display})"
    return text
