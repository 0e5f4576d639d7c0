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
from localize.pictures import add_examples, add_worst_cases
from localize.verdict import by_study, verdict
from shared.data.challenge import Challenge
from shared.detections import Detection, Localizations
from shared.figures import measure_plots, plots
from shared.figures.report import Report
from shared.figures.training import Curve, add_training
from shared.labels import Condition, Level, View
from shared.numbering import Numbering
from shared.runtime.problems import counted

_LISTED: Final = 20


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
      curves: losses of the detectors by epoch.
    """

    data: Challenge
    localizations: Localizations
    detections: Sequence[Detection]
    maps: Mapping[str, Any]
    how: str
    numbering: Mapping[str, Numbering] = field(default_factory=dict)
    traps: Mapping[str, Collection[str]] = field(default_factory=dict)
    own_calibration: bool = False
    curves: Sequence[Curve] = ()


def write_report(folder: Path, evaluation: Evaluation) -> Path:
    """Writes report.json and report.html; returns the page's path."""
    collected = collect(evaluation.data, evaluation.localizations)
    errors = collected.errors
    measures = evaluate(errors, own_calibration=evaluation.own_calibration)
    measures["by_missing_series"] = by_study_group(errors, missing_series_groups(collected.views))
    if evaluation.traps:
        measures["by_trap"] = by_study_group(errors, trap_groups(list(evaluation.data.points), evaluation.traps))
    measures["numbering"] = numbering_measures(errors, evaluation.numbering)
    measures["by_study"] = by_study(errors, evaluation.numbering)
    studies = counted(measures["studies"], "study")
    summary = f"{evaluation.how}: {measures['overall']['expected']:,} findings with a true point in {studies}."
    content = {"schema": "localizer-report-1", **measures, "map": evaluation.maps}
    report = Report(title="Localizer", summary=summary, data=content)
    report.verdict(*verdict(measures))
    _coverage(report, measures)
    _detectors(report, evaluation.maps)
    add_training(
        report,
        evaluation.curves,
        names={view.slug: view.value for view in View},
        about="The loss of boxes and levels. Training slices are augmented, held-out ones are not. The held-out loss "
        "is measured in at most ten epochs, and selects nothing.",
    )
    _errors(report, errors, measures["level_confusion_by_view"])
    _groups(report, measures)
    _confidence(report, measures["reliability"])
    _numbering(report, measures["numbering"])
    add_examples(report, evaluation.data, evaluation.localizations, evaluation.detections)
    add_worst_cases(report, evaluation.data, evaluation.localizations, errors)
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
        measure_plots.confusion_matrices(
            {View.from_slug(view).value: counts for view, counts in confusion.items()},
            [level.display for level in Level], xlabel="level of the nearest true point",
            ylabel="level of the finding (rows)", share="share of the row",
        ),
        "Level confusion by view. Cells hold numbers of findings, shaded by their share of the row.",
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
    curves = {name: _curve(measured[key]["bins"]) for name, key in _STAGES.items()}
    if not any(curve.count for curve in curves.values()):
        return
    lowest = min(v for c in curves.values() for v in (*c.predicted, *(at.low for at in c.interval)))
    report.figure(
        measure_plots.reliability_row(
            curves, xlabel="mean score", ylabel="share right", low=max(0.0, np.floor(10 * lowest) / 10)
        ),
        "Reliability: how often a point was right, by its score; on the dashed line they agree. Bars are 95% "
        f"intervals. Hollow dots stand for bins with fewer than {measure_plots.FEW_CASES} findings, which show little.",
    )
    report.table(
        ["score", "from", "to", "findings", "mean score", "share right", "95% interval", ""],
        [
            [name, f"{low:.2f}", f"{high:.2f}", n, predicted, observed, f"{at.low:.3f} to {at.high:.3f}",
             "few findings" if few else ""]
            for name, c in curves.items()
            for low, high, n, predicted, observed, at, few in zip(
                c.low, c.high, c.count, c.predicted, c.observed, c.interval, c.few, strict=True
            )
        ],
        "The same, by bin.",
    )  # fmt: skip


def _curve(bins: Sequence[Mapping[str, Any]]) -> measure_plots.Curve:
    return measure_plots.Curve(
        low=[b["score_from"] for b in bins],
        high=[b["score_to"] for b in bins],
        predicted=[b["mean_score"] for b in bins],
        observed=[b["right"] for b in bins],
        count=[b["count"] for b in bins],
    )


def _numbering(report: Report, measures: Mapping[str, Any]) -> None:
    report.heading("Numbering")
    report.text(
        f"In {measures['uncertain']} of {counted(measures['studies'], 'study')} the numbering of the levels is "
        "uncertain (less "
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
