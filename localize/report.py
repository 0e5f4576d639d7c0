"""The page of `lumbar localize evaluate`: measures, figures and example studies in report.json and report.html."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from localize.figures import WorstCase, confusion, distributions, reliability_curves, study_figure, worst_figure
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
from shared.figures.report import Report
from shared.labels import Condition, Level, View
from shared.numbering import Numbering

_EXAMPLES = 2
_WORST = 9
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
    summary = f"{evaluation.how}: {overall['expected']} findings with a true point in {measures['studies']} studies."
    if overall["expected"]:
        summary += f" {overall['within_8_mm']:.1%} are localized within 8 mm in 3-D."
    report = Report(title="Localizer", summary=summary, data={**measures, "map": evaluation.maps})
    _coverage(report, measures)
    _detectors(report, evaluation.maps)
    report.heading("Errors")
    report.figure(distributions(errors), "In-plane and slice error by view; the last bar holds everything beyond.")
    report.figure(confusion(measures["level_confusion_by_view"]), "Wanted level against the one truly nearest.")
    _groups(report, measures)
    _confidence(report, measures)
    _numbering(report, measures["numbering"])
    _pictures(report, evaluation, errors)
    return report.save(folder)


_COLUMNS: Final = {
    "findings": "expected", "≤ 5 mm": "within_5_mm", "≤ 8 mm": "within_8_mm", "≤ 10 mm": "within_10_mm",
    "median mm": "in_plane_median_mm", "95% mm": "in_plane_p95_mm", "slice exact": "slice_exact",
    "or next": "slice_exact_or_next", "level off": "level_off_by_one", "side wrong": "wrong_side",
}  # fmt: skip


def _row(name: str, measures: Mapping[str, Any]) -> list[object]:
    return [name, *(measures[key] for key in _COLUMNS.values())]


def _coverage(report: Report, measures: Mapping[str, Any]) -> None:
    report.heading("Coverage and errors")
    views = [_row(View.from_slug(v).value, m) for v, m in measures["by_view"].items()]
    report.table(
        ["view", *_COLUMNS], [_row("all", measures["overall"]), *views],
        caption="Shares of the findings with a true point by 3-D distance; median and 95% of the in-plane error; level "
        "off: nearest to the next level's true point.",
    )  # fmt: skip
    levels = measures["by_level"]
    report.table(["level", *_COLUMNS], [_row(level.display, levels[level.slug]) for level in Level])
    cells = measures["by_condition_and_level"]
    report.table(
        ["view and level", *_COLUMNS],
        [
            _row(f"{condition.view.value}, {level.display}", cells[condition.short][level.slug])
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
                [fold, View.from_slug(view).value, m[key], *(_level_map(m, level, key) for level in Level)]
                for fold, views in maps.items()
                for view, m in views.items()
            ],
            caption=f"{name} on the slices that training would have used, over all levels and of each.",
        )


def _level_map(measured: Mapping[str, Any], level: Level, key: str) -> float | None:
    return measured.get("levels", {}).get(level.slug, {}).get(key)


def _groups(report: Report, measures: Mapping[str, Any]) -> None:
    """Sources, missing series and planted traps: the same columns for each."""
    expected = measures["overall"]["expected"]
    sources = [(name, m) for name, m in measures["by_source"].items() if m["expected"]]
    report.heading("Where points come from")
    report.table(
        ["source", "share", *_COLUMNS], [[n, m["expected"] / expected, *_row(n, m)[1:]] for n, m in sources],
        caption="Detected on the series itself, projected from another series, or interpolated between levels.",
    )  # fmt: skip
    report.heading("Missing series")
    report.table(
        ["without", "studies", *_COLUMNS],
        [
            [n if n == "none" else View.from_slug(n).value, m["studies"], *_row(n, m)[1:]]
            for n, m in measures["by_missing_series"].items()
        ],
        caption="Findings that the remaining series can show; none: the studies with all three views.",
    )
    if "by_trap" not in measures:
        return
    report.heading("Planted traps")
    report.table(
        ["trap", "studies", *_COLUMNS], [[n, m["studies"], *_row(n, m)[1:]] for n, m in measures["by_trap"].items()],
        caption="A study may carry several. Traps in the tables (off_by_one_level, swapped_sides, corner_point, "
        "foramina_on_one_slice and the like) make the true points wrong, not the localized ones.",
    )  # fmt: skip


def _confidence(report: Report, measures: Mapping[str, Any]) -> None:
    report.heading("Confidence")
    measured = measures["reliability"]
    report.table(
        ["score", "ECE", "Brier"],
        [[name, measured[key]["ece"], measured[key]["brier"]] for name, key in _STAGES],
        caption=f"A score is meant to be the probability of: {measured['target']}. The calibration was "
        f"{measured['calibration']}.",
    )
    report.figure(reliability_curves(measured), "Share right against mean score; a dot's area is its count.")


_STAGES: Final = (("before calibration", "raw"), ("after calibration", "calibrated"))


def _numbering(report: Report, measures: Mapping[str, Any]) -> None:
    report.heading("Numbering")
    report.text(
        f"In {measures['uncertain']} of {measures['studies']} studies the names of all levels together are less than "
        f"{measures['certain_from']:.0%} sure. In {measures['shifted']} the chain is a whole level off; "
        f"{measures['shifted_and_uncertain']} of these were marked uncertain."
    )
    if measures["listed"]:
        parts = ("as_named", "one_higher", "one_lower", "disc_above", "disc_below")
        report.table(
            ["study", "truly", *(p.replace("_", " ") for p in parts)],
            [[row["study_id"], row["true_levels"], *(row[p] for p in parts)] for row in measures["listed"][:_LISTED]],
        )


def _pictures(report: Report, evaluation: Evaluation, errors: Sequence[FindingError]) -> None:
    report.heading("Examples")
    for study_id in sorted(evaluation.data.points)[:_EXAMPLES]:
        study = evaluation.data.load_study(study_id).study
        report.figure(
            study_figure(
                study, annotated_localizations(study, evaluation.data.points[study_id]),
                evaluation.localizations.get(study_id, {}),
                [d for d in evaluation.detections if d.study_id == study_id],
            ),
            f"Study {study_id}: boxes with their scores, true points (circles) and localized points (crosses).",
        )  # fmt: skip
    cases = _worst(evaluation, errors)
    if cases:
        report.heading("Worst cases")
        report.figure(
            worst_figure(cases),
            "The largest distances in 3-D, at most three of a study: true point (circle) and localized point (cross) "
            "on the true slice, and on the slice that was found.",
        )
    lost = [e for e in errors if not e.found]
    if lost:
        report.table(
            ["not localized", "finding"], [[e.study_id, e.finding.column] for e in lost[:_LISTED]],
            caption=f"{len(lost)} findings with a true point have no localization; the first {_LISTED} at most.",
        )  # fmt: skip


def _worst(evaluation: Evaluation, errors: Sequence[FindingError]) -> list[WorstCase]:
    far: list[FindingError] = []
    for error in sorted((e for e in errors if e.distance_mm is not None), key=lambda e: -(e.distance_mm or 0.0)):
        # One misread study must not fill the page.
        if len(far) < _WORST and sum(e.study_id == error.study_id for e in far) < _WORST_PER_STUDY:
            far.append(error)
    cases = []
    for error in far:
        study = evaluation.data.load_study(error.study_id).study
        true = annotated_localizations(study, evaluation.data.points[error.study_id])[error.finding]
        cases.append((study, error, true, evaluation.localizations[error.study_id][error.finding]))
    return cases
