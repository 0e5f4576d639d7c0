"""What is drawn on a slice: annotated and predicted points, boxes, their colours, and the legend that explains them."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from shared.data.challenge import MISSING, Point
from shared.detections import Detection, Localization
from shared.figures.tiles import image_left
from shared.labels import Finding, Level, Severity, View
from shared.study import Series, Slice

# Colour-blind safe on grey images: blue, yellow, vermilion.
SEVERITY_COLORS: Final = {
    Severity.NORMAL_MILD: "#56b4e9",
    Severity.MODERATE: "#f0e442",
    Severity.SEVERE: "#ff5a1f",
}
NO_GRADE, PREDICTED, BOX = "#ffffff", "#c792ea", "#8fd19e"
# Boxes with a lower score would bury the picture.
SHOWN_SCORE: Final = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class PointMark:
    """A ring (annotated) or a diamond (predicted) around pixel (x, y) of the tile's slice, its label beside it."""

    x_px: float
    y_px: float
    color: str
    label: str = ""
    predicted: bool = False
    label_left: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxMark:
    """A box (left, top, right, bottom) of the detector in pixels of the tile's slice."""

    box_xyxy_px: tuple[float, float, float, float]
    color: str
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LegendEntry:
    """One entry of the legend."""

    kind: Literal["ring", "diamond", "box"]
    color: str
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """What is known of a study besides its pixels; any part may be missing.

    Attributes:
      points: annotated points, as they stand in the table.
      grades: [25] severity values in `FINDINGS` order, -1 where not graded.
      localizations: predicted points.
      detections: predicted boxes.
      probabilities: [25, 3] of the grades in `FINDINGS` order, without the metric's weights.
    """

    points: tuple[Point, ...] = ()
    grades: NDArray[np.int8] | None = None
    localizations: tuple[Localization, ...] = ()
    detections: tuple[Detection, ...] = ()
    probabilities: NDArray[np.float64] | None = None

    def grade(self, finding: Finding) -> Severity | None:
        value = MISSING if self.grades is None else int(self.grades[finding.index])
        return None if value == MISSING else Severity(value)


def likely_grade(probabilities: NDArray[np.float64]) -> Severity:
    """The most probable grade of a row of `Marks.probabilities`. [3]"""
    return Severity(int(np.argmax(probabilities)))


def point_marks(series: Series, item: Slice, marks: Marks, level: Level | None = None) -> tuple[PointMark, ...]:
    """The points on a slice, at one level when given: annotated ones first, then predicted ones.

    A point has the colour of its grade. A predicted point has the colour of its most probable grade and shows that
    grade's probability and, where nothing is annotated at it, its name and the true grade in brackets.
    """

    def here(points: Iterable[Point | Localization]) -> list[Point | Localization]:
        return [
            p
            for p in points
            if (p.series_id, p.instance_number) == (series.series_id, item.instance_number)
            and level in (None, p.finding.level)
            and item.contains((p.x_px, p.y_px))
        ]

    def mark(point: Point | Localization, color: str, label: str, *, predicted: bool = False) -> PointMark:
        # Outwards on an axial slice, else annotated and predicted labels of one finding to different sides.
        side = point.finding.side
        left = predicted and point.finding in named
        if side is not None and not series.view.is_sagittal:
            left = image_left(item.plane) == side.value[0].upper()
        return PointMark(
            x_px=point.x_px, y_px=point.y_px, color=color, label=label, predicted=predicted, label_left=left
        )

    annotated = here(marks.points)
    named = {p.finding for p in annotated}
    result = [mark(p, _grade_color(marks.grade(p.finding)), _name(p.finding, series.view)) for p in annotated]
    for point in here(marks.localizations):
        row = None if marks.probabilities is None else marks.probabilities[point.finding.index]
        texts = [] if point.finding in named else [_name(point.finding, series.view)]
        if row is not None:
            texts.append(f"{row.max():.2f}")
        grade = None if point.finding in named else marks.grade(point.finding)
        label = " ".join(texts) + (f"\n({grade.display})" if grade is not None else "")
        color = PREDICTED if row is None else SEVERITY_COLORS[likely_grade(row)]
        result.append(mark(point, color, label, predicted=True))
    return tuple(result)


def _name(finding: Finding, view: View) -> str:
    """A finding beside its mark; the condition is named where the view is not its own."""
    side = "" if finding.side is None else f" {finding.side.value[0].upper()}"
    return f"{finding.level.display}{side}" + ("" if finding.view is view else f" {finding.condition.short}")


def _grade_color(grade: Severity | None) -> str:
    return NO_GRADE if grade is None else SEVERITY_COLORS[grade]


def box_marks(series: Series, item: Slice, marks: Marks, level: Level | None = None) -> tuple[BoxMark, ...]:
    """The best box of each level on a slice."""
    best: dict[Level, Detection] = {}
    for box in marks.detections:
        if (box.series_id, box.instance_number) != (series.series_id, item.instance_number):
            continue
        if box.score >= SHOWN_SCORE and level in (None, box.level):
            best[box.level] = max(best.get(box.level, box), box, key=lambda b: b.score)
    return tuple(
        BoxMark(box_xyxy_px=b.box_xyxy_px, color=BOX, label=f"{b.level.display} {b.score:.2f}") for b in best.values()
    )


def legend(marks: Marks) -> tuple[LegendEntry, ...]:
    """The entries that these marks need."""
    entries = []
    if (marks.points and marks.grades is not None) or marks.probabilities is not None:
        kind: Literal["ring", "diamond"] = "ring" if marks.points else "diamond"
        entries += [LegendEntry(kind=kind, color=c, label=s.display) for s, c in SEVERITY_COLORS.items()]
    if any(marks.grade(p.finding) is None for p in marks.points):
        entries.append(LegendEntry(kind="ring", color=NO_GRADE, label="annotated, no grade"))
    if marks.localizations and marks.probabilities is None:
        entries.append(LegendEntry(kind="diamond", color=PREDICTED, label="predicted"))
    elif marks.localizations:
        text = "predicted: colour of the most probable grade, and its probability"
        text += "" if marks.grades is None else ", (true grade)"
        entries.append(LegendEntry(kind="diamond", color=NO_GRADE, label=text))
    if marks.detections:
        label = f"best detector box per level with its score, from {SHOWN_SCORE}"
        entries.append(LegendEntry(kind="box", color=BOX, label=label))
    return tuple(entries)
