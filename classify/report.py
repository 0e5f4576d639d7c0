"""The classifier's report: figures of `classify.evaluate` as HTML and JSON, plots, and the worst mistakes' crops."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from classify.crops import CropSpec
from classify.data import CacheJob, cut_crops
from classify.evaluate import evaluate, worst_mistakes
from classify.predict import trained_folds
from shared.challenge import Challenge
from shared.detections import Localizations
from shared.errors import InputError
from shared.labels import FINDINGS, Condition, Severity
from shared.manifest import data_fingerprint, read_run
from shared.probabilities import ProbabilityTable, read_probabilities
from shared.report import Report
from shared.splits import read_splits

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GALLERY: Final = 6
_SEVERITY_COLORS: Final = ("#3b7dd8", "#d89a2b", "#c23b4b")


def evaluate_run(data: Challenge, run: Path, out: Path, *, localizations: Localizations | None = None) -> str:
    """Scores a run's out-of-fold probabilities, writes OUT/report.{html,json} and returns a one-line summary.

    Raises:
      InputError: when the run is unfinished or was trained on other data.
    """
    facts = read_run(run, expected_kind="classify")
    if facts.get("data_fingerprint") != data_fingerprint(data):
        raise InputError(f"{run}: was trained on other data than {data.root}; evaluate it on its own")
    table = read_probabilities(run / "out_of_fold.csv")
    splits = read_splits(run / "splits.json")
    grades = dict(zip(data.study_ids, data.grades_of(data.study_ids), strict=True))
    figures = evaluate(table, grades, splits)
    figures["folds_trained"] = trained_folds(run)
    figures["points"] = facts.get("points")
    write_report(out, figures, table=table, data=data, run=run, localizations=localizations)
    model, prior = figures["scores"]["model"], figures["scores"]["weighted prior"]
    return (
        f"out of fold, {figures['studies']} studies: {model['score']:.4f} [{model['low']:.4f}, {model['high']:.4f}], "
        f"weighted prior {prior['score']:.4f} -> {out / 'report.html'}"
    )


def write_report(
    out: Path,
    figures: dict[str, Any],
    *,
    table: ProbabilityTable,
    data: Challenge,
    run: Path,
    localizations: Localizations | None,
) -> None:
    """Writes OUT/report.html and report.json from the figures of `evaluate`."""
    folds = ", ".join(map(str, figures["folds_trained"]))
    report = Report(
        title="Classifier, out of fold",
        summary=f"{figures['studies']} held-out studies of fold {folds}, {figures['graded_rows']} graded rows, "
        f"{figures['prior_rows']} rows from the training prior. Crops lie at {figures['points']} points.",
        data=figures,
    )
    _scores(report, figures)
    _levels(report, figures)
    report.heading("Confusion and calibration")
    report.text(
        "Grades are the likeliest ones after the metric's weights are divided out. Calibration compares those "
        "probabilities with observed shares; a temperature per condition was fitted on these same studies, so both are "
        "slightly optimistic. Unseen studies give the honest figure."
    )
    report.figure(
        confusion_figure(figures["conditions"]), "Confusion by condition: rows are true grades, shares of each row."
    )
    report.figure(
        reliability_figure(figures["conditions"]), "Reliability: predicted probability against observed share."
    )
    _gallery(report, table, data, run, localizations)
    report.save(out)


def _scores(report: Report, figures: dict[str, Any]) -> None:
    report.heading("Competition metric")
    columns = ["", "score", "95% low", "95% high", "canal", "foraminal", "subarticular", "any severe"]
    rows = [
        [
            name,
            s["score"],
            s["low"],
            s["high"],
            *(s["terms"][t] for t in ("canal", "foraminal", "subarticular", "any_severe")),
        ]
        for name, s in figures["scores"].items()
    ]
    report.table(columns, rows, "Lower is better. Intervals: 2,000 bootstrap samples of whole studies.")
    gain = figures["gain_over_prior"]
    report.text(
        f"Gain over the weighted prior: {gain['mean']:.3f}, paired 95% interval {gain['low']:.3f} to "
        f"{gain['high']:.3f}."
    )
    report.table(["fold", "studies", "score"], [[str(f["fold"]), f["studies"], f["score"]] for f in figures["folds"]])


def _levels(report: Report, figures: dict[str, Any]) -> None:
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
    ]

    def line(condition: str, level: str, row: dict[str, Any]) -> list[object]:
        if not row["n"]:
            return [condition, level, 0, *[None] * 7]
        keys = ("weighted_log_loss", "auc_severe", "ap_severe", "kappa_quadratic", "ece")
        return [condition, level, row["n"], *row["prevalence"][1:], *(row[k] for k in keys)]

    rows = [line(c, "all", row) for c, row in figures["conditions"].items()]
    rows += [line(row["condition"], row["level"], row) for row in figures["levels"]]
    report.table(columns, rows, "Sides pooled. A dash: not defined, because only one class occurs. Kappa is quadratic.")


def confusion_figure(conditions: dict[str, Any]) -> "Figure":
    """One confusion matrix per condition, with counts."""
    figure, axes = _panels(len(conditions), 3.4, 3.2)
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
    figure, axes = _panels(len(conditions), 3.4, 3.2, share_y=True)
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


def _gallery(
    report: Report, table: ProbabilityTable, data: Challenge, run: Path, localizations: Localizations | None
) -> None:
    report.heading("Worst mistakes")
    truth = data.grades_of(list(table.study_ids))
    for condition in Condition:
        places = worst_mistakes(table, truth, count=GALLERY, condition=condition)
        figure = gallery_figure(places, table, truth, data, run, localizations)
        if figure is not None:
            report.figure(figure, f"{condition.display}: the costliest rows, middle slice as the network sees it.")


def gallery_figure(
    places: list[tuple[int, int]],
    table: ProbabilityTable,
    truth: "np.ndarray",
    data: Challenge,
    run: Path,
    localizations: Localizations | None,
) -> "Figure | None":
    """Crops of (study, finding) places with their true and predicted grades; None when none can be cut."""
    from classify.checkpoint import load_card

    card = load_card(run / f"fold{trained_folds(run)[0]}")
    job = CacheJob(data=data, config=card.config.crop, localizations=localizations, conditions=tuple(Condition))
    tiles = []
    for s, f in places:
        finding, study = FINDINGS[f], data.load_study(table.study_ids[s]).study
        point = job.points(study).get(finding)
        crops, _ = cut_crops(study, {finding: point} if point else {}, lambda x: CropSpec.final(card.config.crop, x))
        if finding in crops:
            p = table.values[s, f]
            title = f"{finding.side or ''} {finding.level.display}\n{study.study_id}"
            grade = f"true {Severity(int(truth[s, f])).display}\n" + " / ".join(f"{v:.2f}" for v in p)
            tiles.append((crops[finding][card.config.crop.slices // 2], title.strip(), grade))
    if not tiles:
        return None
    figure, axes = _panels(len(tiles), 1.9, 2.7)
    for axis, (pixels, title, grade) in zip(axes, tiles, strict=True):
        axis.imshow(pixels, cmap="gray", vmin=0, vmax=255)
        axis.set_title(title, fontsize=7)
        axis.set_xlabel(grade, fontsize=7)
        axis.set(xticks=[], yticks=[])
    figure.tight_layout()
    return figure


def _panels(count: int, width_in: float, height_in: float, *, share_y: bool = False) -> "tuple[Figure, list[Any]]":
    """A figure of `count` panels in a row, drawn without a display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_in * count, height_in))
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(1, count, squeeze=False, sharey=share_y)[0])
