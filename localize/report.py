"""The page of `lumbar localize evaluate`: measures, figures and example studies in report.json and report.html."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from localize.measures import (
    FindingError,
    by_study_group,
    collect,
    evaluate,
    missing_series_groups,
    numbering_measures,
    trap_groups,
)
from shared.annotations import annotated_localizations
from shared.data.challenge import Challenge
from shared.detections import Detection, Localizations
from shared.dicom.pixels import slice_pixels
from shared.figures import plots
from shared.figures.marks import Marks
from shared.figures.report import Report
from shared.figures.result_sheet import Miss, example_sheet, misses_sheet
from shared.figures.sheet import draw_sheet
from shared.labels import Condition, Level, View
from shared.numbering import Numbering
from shared.runtime.problems import counted

_EXAMPLES = 2
_WORST = 10
_WORST_PER_STUDY = 3
_LISTED = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What a report is made of.

    Attributes:
      data: the studies; its points are the true ones, and a study without any is not measured.
      localizations: the points to measure.
      detections: boxes to draw.
      maps: mAP of the detectors: fold -> view -> measures.
      how: what was measured, for the page's first line.
      numbering: how certain the levels' names are, per study.
      traps: the studies that carry each planted trap; empty without a manifest.
      own_calibration: whether the scores were calibrated on these same studies.
    """

    data: Challenge
    localizations: Localizations
    detections: Sequence[Detection]
    maps: Mapping[str, Any]
    how: str
    numbering: Mapping[str, Numbering] = field(default_factory=dict)
    traps: Mapping[str, Collection[str]] = field(default_factory=dict)
    own_calibration: bool = False


def write_report(folder: Path, evaluation: Evaluation) -> Path:
    """Writes report.json and report.html; returns the page's path."""
    collected = collect(evaluation.data, evaluation.localizations)
    errors = collected.errors
    measures = evaluate(errors, own_calibration=evaluation.own_calibration)
    measures["by_missing_series"] = by_study_group(errors, missing_series_groups(collected.views))
    if evaluation.traps:
        measures["by_trap"] = by_study_group(errors, trap_groups(list(evaluation.data.points), evaluation.traps))
    measures["numbering"] = numbering_measures(errors, evaluation.numbering)
    overall = measures["overall"]
    studies = counted(measures["studies"], "study", "studies")
    summary = f"{evaluation.how}: {overall['expected']} findings with a true point in {studies}."
    if overall["expected"]:
        summary += f" {overall['within_8_mm']:.1%} are localized within 8 mm in 3-D."
    report = Report(title="Localizer", summary=summary, data={**measures, "map": evaluation.maps})
    _coverage(report, measures)
    _detectors(report, evaluation.maps)
    _errors(report, errors, measures["level_confusion_by_view"])
    _groups(report, measures)
    _confidence(report, measures["reliability"])
    _numbering(report, measures["numbering"])
    _examples(report, evaluation)
    _worst_cases(report, evaluation, errors)
    return report.save(folder)


_COLUMNS: Final = {
    "findings": "expected", "≤ 5 mm": "within_5_mm", "≤ 8 mm": "within_8_mm", "≤ 10 mm": "within_10_mm",
    "median mm": "in_plane_median_mm", "95% mm": "in_plane_p95_mm", "slice exact": "slice_exact",
    "±1 slice": "slice_exact_or_next", "level off": "level_off_by_one", "side wrong": "wrong_side",
}  # fmt: skip


def _row(measures: Mapping[str, Any]) -> list[object]:
    return [measures[key] for key in _COLUMNS.values()]


def _coverage(report: Report, measures: Mapping[str, Any]) -> None:
    report.heading("Coverage and errors")
    views = [[View.from_slug(v).value, *_row(m)] for v, m in measures["by_view"].items()]
    report.table(
        ["view", *_COLUMNS],
        [["all", *_row(measures["overall"])], *views],
        "Shares of the findings with a true point whose localized point lies within 5, 8 and 10 mm in 3-D; median and "
        "95th percentile of the in-plane error; shares on the exact slice, and on it or a neighbour. Level off: share "
        "nearest to the true point of a neighbouring level. Side wrong: count nearest to that of the other side.",
    )
    levels = measures["by_level"]
    report.table(["level", *_COLUMNS], [[level.display, *_row(levels[level.slug])] for level in Level])
    cells = measures["by_condition_and_level"]
    report.table(
        ["view and level", *_COLUMNS],
        [
            [f"{condition.view.value}, {level.display}", *_row(cells[condition.short][level.slug])]
            for condition in Condition
            for level in Level
        ],
    )


def _detectors(report: Report, maps: Mapping[str, Any]) -> None:
    report.heading("Detectors")
    for key, name in (("map50", "mAP50"), ("map50_95", "mAP50-95")):
        report.table(
            ["fold", "view", name, *(level.display for level in Level)],
            [
                [fold, View.from_slug(view).value, m[key],
                 *(m.get("levels", {}).get(level.slug, {}).get(key) for level in Level)]
                for fold, views in maps.items()
                for view, m in views.items()
            ],
            f"{name} over all levels and per level, on slices selected as for training.",
        )  # fmt: skip


def _errors(report: Report, errors: Sequence[FindingError], confusion: Mapping[str, Any]) -> None:
    report.heading("Errors")
    of_view = {view: [e for e in errors if e.finding.view is view] for view in View}
    in_plane = [
        plots.Histogram(
            values=[[e.in_plane_mm for e in found if e.in_plane_mm is not None]],
            edges=np.arange(0, 15.5, 0.5), xlabel="in-plane error (mm)", title=view.value,
        )
        for view, found in of_view.items()
    ]  # fmt: skip
    slices = [
        plots.Histogram(
            values=[[e.slices for e in found if e.slices is not None]],
            edges=np.arange(-5.5, 6.5), xlabel="slice error (slices)",
        )
        for found in of_view.values()
    ]  # fmt: skip
    report.figure(
        plots.histograms([in_plane, slices], ylabel="findings"),
        "In-plane error and slice error by view; the outermost bars hold everything beyond.",
    )
    report.figure(
        plots.confusion_matrices(
            {View.from_slug(view).value: counts for view, counts in confusion.items()},
            [level.display for level in Level], xlabel="level of the nearest true point", ylabel="level of the finding",
        ),
        "Level confusion by view: counts, shaded by the share of each row.",
    )  # fmt: skip


def _groups(report: Report, measures: Mapping[str, Any]) -> None:
    """Sources, missing series and planted traps, with the same columns."""
    expected = measures["overall"]["expected"]
    report.heading("Sources of points")
    report.table(
        ["source", "share", *_COLUMNS],
        [[n, m["expected"] / expected, *_row(m)] for n, m in measures["by_source"].items() if m["expected"]],
        "Detected on the series itself, projected from another series, or interpolated between levels.",
    )
    report.heading("Missing series")
    report.table(
        ["without", "studies", *_COLUMNS],
        [
            [n if n == "none" else View.from_slug(n).value, m["studies"], *_row(m)]
            for n, m in measures["by_missing_series"].items()
        ],
        "Findings that the remaining series can show. None: studies with all three views.",
    )
    if "by_trap" not in measures:
        return
    report.heading("Planted traps")
    report.table(
        ["trap", "studies", *_COLUMNS],
        [[n, m["studies"], *_row(m)] for n, m in measures["by_trap"].items()],
        "A study may carry several traps. Traps in the tables (off_by_one_level, swapped_sides, corner_point, "
        "foramina_on_one_slice and similar ones) make the true points wrong, not the localized ones.",
    )


_STAGES: Final = {"before calibration": "raw", "after calibration": "calibrated"}


def _confidence(report: Report, measured: Mapping[str, Any]) -> None:
    report.heading("Confidence")
    report.table(
        ["score", "ECE", "Brier score"],
        [[name, measured[key]["ece"], measured[key]["brier"]] for name, key in _STAGES.items()],
        f"A score should be the probability that a point is right: {measured['target']}. The calibration was "
        f"{measured['calibration']}.",
    )
    curves = {
        name: plots.Curve(
            predicted=[b["mean_score"] for b in measured[key]["bins"]],
            observed=[b["right"] for b in measured[key]["bins"]],
            count=[b["count"] for b in measured[key]["bins"]],
        )
        for name, key in _STAGES.items()
    }
    lowest = min((v for c in curves.values() for v in (*c.predicted, *c.observed)), default=0.0)
    report.figure(
        plots.reliability_curves(
            {name: {name: curve} for name, curve in curves.items()},
            xlabel="mean score", ylabel="share right", low=max(0.0, 0.9 * lowest - 0.05),
        ),
        "Reliability curves; each dot shows its number of findings.",
    )  # fmt: skip


def _numbering(report: Report, measures: Mapping[str, Any]) -> None:
    report.heading("Numbering")
    report.text(
        f"In {measures['uncertain']} of {measures['studies']} studies the numbering of the levels is uncertain (less "
        f"than {measures['certain_from']:.0%} sure). In {measures['shifted']} the chain is off by a whole level; "
        f"{measures['shifted_and_uncertain']} of these were marked uncertain."
    )
    report.table(
        ["numbering", "studies", "all points at the right level"],
        [[name, group["studies"], group["all_levels_right"]] for name, group in measures["by_certainty"].items()],
    )
    if measures["listed"]:
        parts = ("as_named", "one_higher", "one_lower", "disc_above", "disc_below")
        report.table(
            ["study", "true levels", *(p.replace("_", " ") for p in parts)],
            [[row["study_id"], row["true_levels"], *(row[p] for p in parts)] for row in measures["listed"][:_LISTED]],
        )


def _examples(report: Report, evaluation: Evaluation) -> None:
    report.heading("Examples")
    for study_id in sorted(evaluation.data.points)[:_EXAMPLES]:
        study, points = evaluation.data.load_study(study_id).study, evaluation.data.points[study_id]
        marks = Marks(
            points=tuple(points),
            localizations=tuple(evaluation.localizations.get(study_id, {}).values()),
            detections=tuple(d for d in evaluation.detections if d.study_id == study_id),
        )
        sheet = example_sheet(study, marks, list(annotated_localizations(study, points).values()))
        report.image(draw_sheet(sheet, slice_pixels)[0], "Annotated and localized points, and detector boxes.")


def _worst_cases(report: Report, evaluation: Evaluation, errors: Sequence[FindingError]) -> None:
    report.heading("Worst cases")
    misses = [_miss(evaluation, error) for error in _worst(errors)]
    if misses:
        report.image(
            draw_sheet(misses_sheet(misses), slice_pixels)[0],
            f"The largest 3-D errors, at most {_WORST_PER_STUDY} per study.",
        )
    lost = [e for e in errors if not e.found]
    if lost:
        report.table(
            ["not localized", "finding"],
            [[e.study_id, e.finding.column] for e in lost[:_LISTED]],
            f"{len(lost)} findings with a true point were not localized; at most {_LISTED} are listed.",
        )


def _worst(errors: Sequence[FindingError]) -> list[FindingError]:
    """The largest errors, few per study: one misread study must not fill the page."""
    far: list[FindingError] = []
    for error in sorted((e for e in errors if e.distance_mm is not None), key=lambda e: -(e.distance_mm or 0.0)):
        if len(far) < _WORST and sum(e.study_id == error.study_id for e in far) < _WORST_PER_STUDY:
            far.append(error)
    return far


def _miss(evaluation: Evaluation, error: FindingError) -> Miss:
    study, finding = evaluation.data.load_study(error.study_id).study, error.finding
    found = evaluation.localizations[error.study_id][finding]
    side = "" if finding.side is None else f"{finding.side.value} "
    return Miss(
        study=study,
        true=annotated_localizations(study, evaluation.data.points[error.study_id])[finding],
        found=found,
        true_text=f"{error.study_id}\n{finding.condition.short}, {side}{finding.level.display}",
        found_text=f"{error.distance_mm:.1f} mm off, {error.slices:+d} slices\n{found.source.value}, "
        f"score {found.score:.2f}",
    )
