"""The parts of a report that score severity probabilities, for one stage and for the whole pipeline alike."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from shared.agreement import CALIBRATION_BINS
from shared.figures import measure_plots, plots
from shared.figures.report import Report, Tone
from shared.labels import Severity
from shared.metric import FEW_STUDIES, TERMS
from shared.runtime.problems import counted

_MEASURES: Final = {
    "weighted log loss": "weighted_log_loss", "AUC severe": "auc_severe", "AP severe": "ap_severe",
    "kappa": "kappa_quadratic", "ECE": "ece", "ECE by chance": "ece_if_calibrated",
}  # fmt: skip


def add_verdict(report: Report, comparison: Mapping[str, Any], name: str) -> None:
    """States whether the submission of that name is better than the prior, by how much, and how sure that is."""
    lines, tone = verdict(comparison, name)
    report.verdict(lines, tone)


def verdict(comparison: Mapping[str, Any], name: str) -> tuple[list[str], Tone]:
    """The verdict on one submission in plain words, from `shared.scores.Comparison.to_json`.

    Better or worse than the prior means that the 95% interval of the gain lies on one side of zero.
    """
    found = {line["name"]: line for line in comparison["lines"]}
    line, prior = found[name], found.get(comparison["reference"])
    score, gain, bounds = line["score"]["score"], line["gain"], line["gain_interval"]
    tone: Tone = "open"
    if prior is None or gain is None:
        texts = [f"Score {score:.3f}, 95% interval {_range(line['interval'])}; lower is better."]
    else:
        against = f"score {score:.3f} against {prior['score']['score']:.3f}, lower is better"
        size = f"by {abs(gain):.3f} (95% interval of the gain {_range(bounds, '+.3f')})"
        if bounds["low"] > 0:
            tone, words = "good", f"Better than the prior {size}: {against}."
        elif bounds["high"] < 0:
            tone, words = "poor", f"Worse than the prior {size}: {against}."
        else:
            chance = f"the gain of {gain:+.3f} may be chance (95% interval {_range(bounds, '+.3f')})"
            words = f"Not shown to differ from the prior: {against}; {chance}."
        texts = [words, _by_term(line["score"]["terms"], prior["score"]["terms"])]
    if line["gap_closed"] is not None:
        texts.append(f"That closes {line['gap_closed']:.0%} of the gap between the prior and the best possible score.")
    if comparison["studies"] < FEW_STUDIES:
        texts.append(f"Only {counted(comparison['studies'], 'study')}: the interval itself is rough.")
    texts.append("The prior gives every study the same probabilities, from how often each grade occurs.")
    return texts, tone


def _by_term(ours: Mapping[str, float | None], prior: Mapping[str, float | None]) -> str:
    """In which parts of the metric a submission is better than the prior, and in which not."""
    parts: dict[bool, list[str]] = {True: [], False: []}
    for term in TERMS:
        own, other = ours[term], prior[term]
        if own is not None and other is not None:
            parts[own < other].append(f"{term.replace('_', ' ')} ({own:.3f} against {other:.3f})")
    named = [f"{word} in {', '.join(of)}" for word, of in (("better", parts[True]), ("not better", parts[False])) if of]
    return f"By part of the metric: {'; '.join(named)}."


def add_scores(report: Report, comparison: Mapping[str, Any]) -> None:
    """Adds the score table and its plot, from `shared.scores.Comparison.to_json`."""
    lines, reference = comparison["lines"], comparison["reference"]
    report.heading("Competition metric")
    caption = (
        f"Lower is better. {counted(comparison['studies'], 'study')}, "
        f"{counted(comparison['graded_rows'], 'graded row')}; intervals are 95% "
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
        measure_plots.score_intervals(scores, xlabel="competition metric (lower is better)", reference=at),
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
        "The predicted grade is the most probable one. Calibration compares probabilities, without the metric's "
        f"weights, with observed frequencies. {remark}".strip()
    )
    report.figure(
        measure_plots.confusion_matrices(
            {name: row.get("confusion", np.zeros((3, 3))) for name, row in conditions.items()},
            [s.display for s in Severity], xlabel="predicted grade", ylabel="true grade (rows)",
            share="share of the true grade",
        ),
        "Confusion matrices by condition. Cells hold numbers of rows, shaded by their share of the true grade.",
    )  # fmt: skip
    if any(row.get("reliability") for row in conditions.values()):
        _reliability(report, conditions)
    report.table(
        [
            "condition",
            "most confident",
            "n",
            "confidence at least",
            "accuracy",
            "severe",
            "of these called normal/mild",
        ],
        [
            [
                name,
                f"{p['coverage']:.0%}",
                p["n"],
                *(p[key] for key in ("least_confidence", "right", "severe", "severe_as_normal")),
            ]
            for name, row in conditions.items()
            for p in row["by_confidence"]
        ],
        "Accuracy of the most confident quarter, half, three quarters and all rows. Confidence is the probability of "
        "the predicted grade.",
    )


def _row(condition: str, level: str, row: Mapping[str, Any]) -> list[object]:
    shares = row["prevalence"][1:] if row["n"] else (None, None)
    return [condition, level, row["n"], *shares, *(row.get(key) for key in _MEASURES.values())]


def _reliability(report: Report, conditions: Mapping[str, Any]) -> None:
    grid = {name: {s.display: _curve(row, s) for s in Severity} for name, row in conditions.items()}
    curves = [curve for named in grid.values() for curve in named.values()]
    few, bins = sum(sum(curve.few) for curve in curves), sum(len(curve.count) for curve in curves)
    report.figure(
        measure_plots.reliability_grid(grid, plots.GRADES),
        "Reliability: how often each grade was true, by its predicted probability; on the dashed line they agree. Bars "
        "are 95% intervals, taking rows as independent. The grey band gives the number of rows in each bin. Hollow "
        f"dots stand for bins with fewer than {measure_plots.FEW_CASES} rows ({few} of {bins}), which show little.",
    )


def _curve(row: Mapping[str, Any], severity: Severity) -> measure_plots.Curve:
    points = row.get("reliability", {}).get(severity.column, ())
    bins = [min(int(p["predicted"] * CALIBRATION_BINS), CALIBRATION_BINS - 1) for p in points]
    return measure_plots.Curve(
        low=[b / CALIBRATION_BINS for b in bins],
        high=[(b + 1) / CALIBRATION_BINS for b in bins],
        predicted=[p["predicted"] for p in points],
        observed=[p["observed"] for p in points],
        count=[p["n"] for p in points],
    )
