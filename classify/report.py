"""The classifier's report: figures of `classify.evaluate` as HTML and JSON, plots, and the worst mistakes' crops."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from classify.calibrate import IDENTITY, cross_calibrated
from classify.evaluate import evaluate, worst_mistakes
from classify.figures import add_details
from classify.gallery import Held, gallery_figure, occlusion_figure, surest_severe
from classify.network.checkpoint import load_card, run_folder
from classify.noisy_labels import NOISY_FILE, THRESHOLD
from shared.data.challenge import Challenge
from shared.detections import Localizations
from shared.figures.report import Report
from shared.labels import SEVERITY_COLUMNS, Condition, Severity
from shared.probabilities import read_probabilities
from shared.runtime.errors import InputError
from shared.runtime.files import read_csv
from shared.runtime.run import read_run
from shared.splits import read_splits

GALLERY: Final = 6
OCCLUSIONS: Final = 4
_NOISY_ROWS: Final = 12
# As published for radiologists on lumbar MRI.
READER_AGREEMENT: Final = {Condition.CANAL: "kappa 0.74 to 0.86", Condition.FORAMINAL: "AC1 0.58 to 0.71"}


def check_run(data: Challenge, run: Path) -> Mapping[str, Any]:
    """The run's facts; raises `InputError` when it is unfinished or was trained on other data."""
    facts = read_run(run, expected_kind="classify")
    if facts.get("data_fingerprint") != data.fingerprint:
        raise InputError(f"{run}: was trained on other data than {data.root}; evaluate it on its own")
    return facts


def evaluate_run(data: Challenge, run: Path, out: Path, *, localizations: Localizations | None = None) -> str:
    """Scores a run's out-of-fold probabilities, writes OUT/report.{html,json} and returns a one-line summary.

    Raises:
      InputError: as `check_run`.
    """
    facts = check_run(data, run)
    table = read_probabilities(run / "out_of_fold.csv")
    splits = read_splits(run / "splits.json")
    grades = dict(zip(data.study_ids, data.grades_of(data.study_ids), strict=True))
    truth = data.grades_of(table.study_ids)
    written = table
    cards = {k: load_card(run / f"fold{k}") for k in run_folder(run).finished_folds()}
    if facts.get("points") == "localized":
        table = cross_calibrated(table, truth, splits, {k: card.calibration for k, card in cards.items()})
    figures = evaluate(table, grades, splits, written=None if written is table else written)
    figures["folds_trained"] = list(cards)
    figures["points"] = facts.get("points")
    figures["calibration"] = {
        str(k): {c.short: asdict(card.calibration[c]) for c in card.families} for k, card in cards.items()
    }
    held = Held(table=table, truth=truth, data=data, run=run, splits=splits, localizations=localizations)
    write_report(out, figures, held)
    model, prior = figures["scores"]["model"], figures["scores"]["weighted prior"]
    return (
        f"out of fold, {figures['studies']} studies: {model['score']:.4f} [{model['low']:.4f}, {model['high']:.4f}], "
        f"weighted prior {prior['score']:.4f} -> {out / 'report.html'}"
    )


def write_report(out: Path, figures: dict[str, Any], held: Held) -> None:
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
        remark="The calibration was refitted without each study it is measured on."
        if figures["points"] == "localized"
        else "The calibration was fitted on these same studies, so both are slightly optimistic; unseen studies give "
        "the honest figure.",
    )
    _agreement(report, figures)
    _noisy(report, held.run)
    _gallery(report, held)
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
        f"Gain over the weighted prior: {gain['gain']:.3f}, paired 95% interval {gain['low']:.3f} to "
        f"{gain['high']:.3f}."
    )
    spread = figures["fold_spread"]
    if spread is not None:
        report.text(f"Standard deviation between folds: {spread:.3f}.")
    calibration = figures["calibration"]
    report.table(
        ["fold", "studies", "score", *(f"temperature {c.short}" for c in Condition)],
        [
            [
                str(f["fold"]),
                f["studies"],
                f["score"],
                *(_temperature(calibration[str(f["fold"])], c) for c in Condition),
            ]
            for f in figures["folds"]
        ],
        "Temperature: above 1 the network was too sure, below 1 too unsure; none where it did not help studies that it "
        "was not fitted on.",
    )


def _temperature(calibration: Mapping[str, Any], condition: Condition) -> str:
    own = calibration.get(condition.short)
    if own is None:
        return "not trained"
    if own == asdict(IDENTITY):
        return "none"
    return f"{own['temperature']:.2f}"


def _agreement(report: Report, figures: dict[str, Any]) -> None:
    report.heading("Beside human readers")
    rows = [
        [c.display, figures["conditions"][c.short].get("kappa_quadratic"), READER_AGREEMENT.get(c, "none at hand")]
        for c in Condition
    ]
    report.table(
        ["condition", "model, quadratic kappa", "two readers, published"],
        rows,
        "The model's kappa is against one reading of these studies, on grades pooled over levels and sides; published "
        "figures are of other studies and partly other statistics. They say what order of agreement to expect.",
    )


def _noisy(report: Report, run: Path) -> None:
    path = run / NOISY_FILE
    if not path.is_file():
        return
    table = read_csv(
        path,
        {"study_id": "string", "finding": "string", "grade": "string"} | dict.fromkeys(SEVERITY_COLUMNS, "float64"),
    )
    report.heading("Labels to read again")
    report.text(
        f"{len(table)} grades have an out-of-fold probability below {1 - THRESHOLD:.1f} (all in {path.name}): either "
        "the model or the label is wrong. The least likely ones:"
    )
    rows = [list(row) for row in table.head(_NOISY_ROWS).itertuples(index=False, name=None)]
    report.table(["study", "finding", "grade", *(s.display for s in Severity)], rows)


def _gallery(report: Report, held: Held) -> None:
    report.heading("Worst mistakes")
    if report.data["points"] == "localized" and held.localizations is None:
        report.text("Not shown: this run's crops lie at localizations; pass their CSV, --localizations.")
        return
    for condition in Condition:
        places = worst_mistakes(held.table, held.truth, count=GALLERY, condition=condition)
        figure = gallery_figure(held, places)
        if figure is not None:
            report.figure(
                figure,
                f"{condition.display}: the costliest rows, middle slice as the network sees it, with the probabilities "
                "of the grades (the metric's weights divided out).",
            )
    report.heading("What the network looks at")
    report.text(
        "Surest Severe of each condition. Red: covering a patch there lowers the probability of Severe; blue: it "
        "raises it."
    )
    for condition in Condition:
        figure = occlusion_figure(held, surest_severe(held, condition, OCCLUSIONS))
        if figure is not None:
            report.figure(figure, f"{condition.display}: occlusion.")
