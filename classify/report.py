"""The classifier's report: figures of `classify.evaluate` as HTML and JSON, plots, and the worst mistakes' crops."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from classify.crops import CropSpec
from classify.data import CacheJob, cut_crops
from classify.evaluate import evaluate, worst_mistakes
from classify.figures import add_details, panels
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
    add_details(
        report,
        figures,
        remark="A temperature per condition was fitted on these same studies, so both are slightly optimistic; unseen "
        "studies give the honest figure.",
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


def _gallery(
    report: Report, table: ProbabilityTable, data: Challenge, run: Path, localizations: Localizations | None
) -> None:
    report.heading("Worst mistakes")
    if report.data["points"] == "localized" and localizations is None:
        report.text("Not shown: this run's crops lie at localizations; pass their CSV, --localizations.")
        return
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
    figure, axes = panels(len(tiles), 1.9, 2.7)
    for axis, (pixels, title, grade) in zip(axes, tiles, strict=True):
        axis.imshow(pixels, cmap="gray", vmin=0, vmax=255)
        axis.set_title(title, fontsize=7)
        axis.set_xlabel(grade, fontsize=7)
        axis.set(xticks=[], yticks=[])
    figure.tight_layout()
    return figure
