"""The page of `lumbar classify evaluate`: scores, measures per condition and level, and crops of the worst mistakes."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from classify.calibrate import IDENTITY
from classify.gallery import Gallery, crops_figure, occlusion_figure
from classify.noisy_labels import NOISY_FILE, THRESHOLD, read_probabilities_of_noisy
from shared.figures.report import Report
from shared.figures.score_report import add_agreement, add_scores, add_verdict
from shared.figures.training import add_training, read_curves
from shared.labels import Condition, Severity
from shared.runtime.problems import counted

SUBJECT: Final = "model"  # the line of the score table that the page is about
GALLERY: Final = 6
OCCLUSIONS: Final = 4
_NOISY_ROWS: Final = 12
# As published for radiologists on lumbar MRI.
READER_AGREEMENT: Final = {Condition.CANAL: "kappa 0.74 to 0.86", Condition.FORAMINAL: "AC1 0.58 to 0.71"}


def write_report(out: Path, measures: dict[str, Any], gallery: Gallery) -> None:
    """Writes OUT/report.html and report.json from the measures of `classify.evaluate.evaluate`."""
    folds = measures["folds_trained"]
    report = Report(
        title="Classifier, out of fold",
        summary=f"{counted(measures['studies'], 'held-out study')} of fold{'s' * (len(folds) > 1)} "
        f"{', '.join(map(str, folds))}, {counted(measures['graded_rows'], 'graded row')}, "
        f"{counted(measures['prior_rows'], 'row')} from the "
        f"training prior. Crops are centred on {measures['points']} points.",
        data={"schema": "classifier-report-1", **measures},
    )
    add_verdict(report, measures["comparison"], SUBJECT)
    add_scores(report, measures["comparison"])
    _folds(report, measures)
    add_training(
        report,
        read_curves({k: gallery.run / f"fold{k}" for k in folds}),
        names={"": "all conditions"},
        about="The training loss counts augmented crops with the loss's own weights; the held-out loss is the metric's "
        "mean over the condition families. Compare their courses, not their heights.",
    )
    add_agreement(
        report,
        measures,
        remark="For each study, the calibration was refitted without it."
        if measures["points"] == "localized"
        else "The calibration was fitted on these same studies, so both are slightly optimistic; unseen studies give "
        "an unbiased estimate.",
    )
    _readers(report, measures)
    _noisy(report, gallery.run)
    _crops(report, gallery)
    report.save(out)


def _folds(report: Report, measures: Mapping[str, Any]) -> None:
    if measures["fold_spread"] is not None:
        report.text(f"Standard deviation between folds: {measures['fold_spread']:.3f}.")
    calibration = measures["calibration"]
    report.table(
        ["fold", "studies", "score", *(f"temperature, {c.short}" for c in Condition)],
        [
            [
                str(f["fold"]),
                f["studies"],
                f["score"],
                *(_temperature(calibration[str(f["fold"])], c) for c in Condition),
            ]
            for f in measures["folds"]
        ],
        "Temperature: above 1 the network was overconfident, below 1 underconfident; none where scaling did not help "
        "on studies that it was not fitted on.",
    )


def _temperature(calibration: Mapping[str, Any], condition: Condition) -> str:
    own = calibration.get(condition.short)
    if own is None:
        return "not trained"
    if own == asdict(IDENTITY):
        return "none"
    return f"{own['temperature']:.2f}"


def _readers(report: Report, measures: Mapping[str, Any]) -> None:
    report.heading("Agreement beside human readers")
    report.table(
        ["condition", "model, quadratic kappa", "between two readers, published"],
        [
            [c.display, measures["conditions"][c.short].get("kappa_quadratic"), READER_AGREEMENT.get(c, "none known")]
            for c in Condition
        ],
        "The model's kappa is against one reading of these studies, with levels and sides pooled. The published values "
        "come from other studies and partly from other statistics: take them as an order of magnitude.",
    )


def _noisy(report: Report, run: Path) -> None:
    path = run / NOISY_FILE
    if not path.is_file():
        return
    table = read_probabilities_of_noisy(path)
    report.heading("Labels to review")
    report.text(
        f"The out-of-fold submission gives {counted(len(table), 'grade')} less than {1 - THRESHOLD:.1f} (all are in "
        f"{path.name}): either the model or the label is wrong. The least likely ones, with the probabilities of the "
        "three grades:"
    )
    rows = [list(row) for row in table.head(_NOISY_ROWS).itertuples(index=False, name=None)]
    report.table(["study", "finding", "grade", *(s.display for s in Severity)], rows)


def _crops(report: Report, gallery: Gallery) -> None:
    report.heading("Worst mistakes")
    if report.data["points"] == "localized" and gallery.localizations is None:
        report.text("Not shown: the crops of this run are centred on localized points; pass --localizations CSV.")
        return
    for condition in Condition:
        figure = crops_figure(gallery, gallery.worst_mistakes(condition, GALLERY))
        if figure is not None:
            report.figure(
                figure,
                f"{condition.display}: the rows with the largest weighted log loss. Middle slice as the network sees "
                "it, with the probabilities of the three grades.",
            )
    report.heading("What the network looks at")
    report.text(
        "Occlusion maps of the most confident Severe predictions. Red: covering a patch there lowers the probability "
        "of Severe; blue: it raises it."
    )
    for condition in Condition:
        figure = occlusion_figure(gallery, gallery.surest_severe(condition, OCCLUSIONS))
        if figure is not None:
            report.figure(figure, f"{condition.display}: occlusion maps.")
