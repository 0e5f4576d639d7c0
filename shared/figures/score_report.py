"""The parts of a report that score severity probabilities, for one stage and for the whole pipeline alike."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from shared.figures import plots
from shared.figures.report import Report
from shared.labels import Severity
from shared.metric import TERMS
from shared.runtime.problems import counted

_MEASURES: Final = {
    "weighted log loss": "weighted_log_loss", "AUC severe": "auc_severe", "AP severe": "ap_severe",
    "kappa": "kappa_quadratic", "ECE": "ece", "ECE by chance": "ece_if_calibrated",
}  # fmt: skip


def add_scores(report: Report, comparison: Mapping[str, Any]) -> None:
    """Adds the score table and its plot, from `shared.scores.Comparison.to_json`."""
    lines, reference = comparison["lines"], comparison["reference"]
    report.heading("Competition metric")
    caption = (
        f"Lower is better. {counted(comparison['studies'], 'study', 'studies')}, {comparison['graded_rows']} graded "
        "rows; intervals are 95% "
        f"bootstrap intervals over studies. Gain: over the {reference}, with its paired interval."
    )
    columns = ["submission", "score", "95% interval", "gain", "95% interval", *(t.replace("_", " ") for t in TERMS),
               "prior rows"]  # fmt: skip
    rows = [
        [line["name"], line["score"]["score"], _range(line["interval"]), line["gain"],
         _range(line["gain_interval"], "+.3f"), *(line["score"]["terms"][t] for t in TERMS), line["prior_rows"]]
        for line in lines
    ]  # fmt: skip
    if any(line["gap_closed"] is not None for line in lines):
        columns.append("gap closed")
        rows = [[*row, f"{line['gap_closed']:.0%}"] for row, line in zip(rows, lines, strict=True)]
        caption += (
            " Gap closed: share of the distance from the weighted prior to the oracle, the best score that the reader "
            "noise of synthetic data allows."
        )
    report.table(columns, rows, caption)
    for note in comparison.get("notes", ()):
        report.text(note)
    scores = {li["name"]: (li["score"]["score"], li["interval"]["low"], li["interval"]["high"]) for li in lines}
    at = scores[reference][0] if reference in scores else None
    report.figure(
        plots.score_intervals(scores, xlabel="competition metric", reference=at),
        f"Scores with 95% intervals; the dotted line marks the {reference}.",
    )


def _range(bounds: Mapping[str, float] | None, form: str = ".3f") -> str | None:
    return None if bounds is None else f"{bounds['low']:{form}} to {bounds['high']:{form}}"


def add_agreement(report: Report, measures: Mapping[str, Any], *, remark: str = "") -> None:
    """Adds measures per condition and level, confusion and calibration, from `shared.agreement.describe`."""
    conditions = measures["conditions"]
    report.heading("By condition and level")
    rows = [_row(name, "all levels", row) for name, row in conditions.items()]
    rows += [_row(row["condition"], row["level"], row) for row in measures["levels"]]
    report.table(
        ["condition", "level", "n", "moderate", "severe", *_MEASURES],
        rows,
        "Both sides pooled; moderate and severe are shares of the graded rows. AUC: area under the ROC curve; AP: "
        "average precision; kappa: quadratically weighted; ECE: expected calibration error. ECE by chance: that of a "
        "perfectly calibrated model on as many rows. A dash: not defined, because only one class occurs.",
    )
    report.heading("Confusion and calibration")
    report.text(
        "The metric's class weights are divided out: the predicted grade is the most probable one, and calibration "
        f"compares these probabilities with observed frequencies. {remark}".strip()
    )
    report.figure(
        plots.confusion_matrices(
            {name: row.get("confusion", np.zeros((3, 3))) for name, row in conditions.items()},
            [s.display for s in Severity], xlabel="predicted grade", ylabel="true grade",
        ),
        "Confusion matrices by condition: counts, shaded by the share of each true grade.",
    )  # fmt: skip
    report.figure(
        plots.reliability_curves(
            {name: {s.display: _curve(row, s) for s in Severity} for name, row in conditions.items()},
            xlabel="predicted probability", ylabel="observed frequency",
        ),
        "Reliability curves by condition; larger dots hold more rows.",
    )  # fmt: skip
    report.table(
        ["condition", "most confident", "n", "confidence at least", "accuracy", "severe called normal/mild"],
        [
            [name, f"{p['coverage']:.0%}", p["n"], p["least_confidence"], p["right"], p["severe_as_normal"]]
            for name, row in conditions.items()
            for p in row["by_confidence"]
        ],
        "Accuracy of the most confident quarter, half, three quarters and all rows. Confidence is the probability of "
        "the predicted grade.",
    )


def _row(condition: str, level: str, row: Mapping[str, Any]) -> list[object]:
    shares = row["prevalence"][1:] if row["n"] else (None, None)
    return [condition, level, row["n"], *shares, *(row.get(key) for key in _MEASURES.values())]


def _curve(row: Mapping[str, Any], severity: Severity) -> plots.Curve:
    points = row.get("reliability", {}).get(severity.column, ())
    return plots.Curve(
        predicted=[p["predicted"] for p in points],
        observed=[p["observed"] for p in points],
        count=[p["n"] for p in points],
    )
