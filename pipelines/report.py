"""The pages of the whole pipeline: what was predicted for each study, and scores beside the baselines."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipelines.result import StudyResult
from shared.agreement import describe
from shared.figures.report import Link, Report
from shared.figures.score_report import add_agreement, add_scores, add_verdict, verdict
from shared.labels import Condition, findings_of
from shared.metric import TERMS, study_losses
from shared.probabilities import PriorReason, ProbabilityTable
from shared.runtime.documents import read_document
from shared.runtime.files import write_text
from shared.runtime.problems import counted
from shared.scores import Comparison

MAX_PICTURES: Final = 8
_COSTLIEST: Final = 5


def prediction_report(results: Sequence[StudyResult], out: Path) -> Path:
    """Writes OUT/report.html: pictures of the first studies, and what could not be graded in each."""
    rows = sum(r.from_model.size for r in results)
    prior_rows = sum(len(r.reasons) for r in results)
    report = Report(
        "Prediction",
        f"{counted(len(results), 'study', 'studies')}, {rows} rows, {prior_rows} of them from the training prior. Each "
        "mark has the colour of the most probable grade and that grade's probability beside it.",
        data={"schema": "prediction-report-1", "studies": [r.to_json() for r in results]},
    )
    for result in results[:MAX_PICTURES]:
        report.heading(f"Study {result.study_id}")
        report.image(result.picture(), "The patient's right is on the left of axial slices.")
        numbering = result.numbering
        if numbering is not None and not numbering.certain:
            report.text(
                f"The numbering of the levels is uncertain: as named {numbering.as_named:.0%}, all one disc higher "
                f"{numbering.one_higher:.0%}, all one disc lower {numbering.one_lower:.0%}."
            )
        for text in (*_prior_texts(result), *result.problems):
            report.text(text)
    if len(results) > MAX_PICTURES:
        report.text(f"{len(results) - MAX_PICTURES} more studies are in studies/ and probabilities.csv.")
    return report.save(out)


def _prior_texts(result: StudyResult) -> list[str]:
    """For each reason, one sentence on the findings that the prior answers."""
    texts = []
    for reason in PriorReason:
        counts = {c: [result.reasons.get(f) for f in findings_of(c)].count(reason) for c in Condition}
        named = ", ".join(f"{n} of {c.value}" for c, n in counts.items() if n)
        if named:
            texts.append(f"From the training prior, because {reason.text}: {named}.")
    return texts


def evaluation_report(
    out: Path,
    comparison: Comparison,
    name: str,
    table: ProbabilityTable,
    grades: NDArray[np.int8],
    pictures: Sequence[StudyResult] = (),
) -> Path:
    """Writes report.html and report.json: the score table, and one submission in detail.

    Args:
      name: of the submission in detail.
      table: its probabilities for the scored studies.
      grades: [n, 25] in the order of the table's studies, -1 where not graded.
      pictures: studies to draw.
    """
    details = describe(table, grades)
    scores = comparison.to_json()
    report = Report(
        "Evaluation",
        f"Competition metric on {counted(comparison.studies, 'study', 'studies')} ({comparison.graded_rows} graded "
        "rows), lower is better. "
        f"Everything below the score table describes: {name}.",
        data={"schema": "evaluation-report-1", "comparison": scores, "detail_of": name, "details": details},
    )
    add_verdict(report, scores, name)
    add_scores(report, scores)
    add_agreement(report, details)
    _costliest(report, table, grades)
    for result in pictures:
        report.heading(f"Study {result.study_id}")
        picture = result.picture(grades[table.study_ids.index(result.study_id)])
        report.image(picture, "Each mark: the most probable grade with its probability, the true grade in brackets.")
    return report.save(out)


def _costliest(report: Report, table: ProbabilityTable, grades: NDArray[np.int8]) -> None:
    losses = study_losses(table.submission, grades)
    share = losses.losses / losses.weights.sum(0).clip(min=1e-9)
    order = np.argsort(-share.sum(1))[:_COSTLIEST]
    terms = max(int((losses.weights.sum(0) > 0).sum()), 1)  # a family without a grade has no term
    report.heading("Costliest studies")
    report.table(
        ["study", "part of the score", *(t.replace("_", " ") for t in TERMS)],
        [[table.study_ids[i], float(share[i].sum() / terms), *(float(v) / terms for v in share[i])] for i in order],
        "What each study contributes to the score, in total and by term.",
    )


def demo_index(reports: Path, scores: Mapping[str, Any], name: str) -> Path:
    """Writes REPORTS/index.html: what the demo's pages show and what each comes to in one line.

    Args:
      reports: the folder of the demo's reports, beside the folder of its prediction.
      scores: of `shared.scores.Comparison.to_json`.
      name: of the pipeline's own submission among them.
    """
    from classify.report import SUBJECT
    from localize.verdict import verdict as verdict_on_points

    lines, tone = verdict(scores, name)
    report = Report("Demo", "Both stages trained on synthetic studies, and tried on studies that they have not seen.")
    report.verdict(lines, tone)
    points = read_document(reports / "localize" / "report.json", dict[str, Any])
    grader = read_document(reports / "classify" / "report.json", dict[str, Any])
    pages = [reports.parent / "prediction" / name for name in ("index.html", "report.html")]
    prediction = next(f"../prediction/{page.name}" for page in pages if page.is_file())
    report.table(
        ["report", "what it shows", "in short"],
        [
            [Link(text="Evaluation", href="evaluation/report.html"), "both stages on unseen studies", lines[0]],
            [Link(text="Localizer", href="localize/report.html"), "stage 1 on unseen studies",
             verdict_on_points(points)[0][0]],
            [Link(text="Classifier", href="classify/report.html"), "stage 2 on the studies that its fold held out",
             verdict(grader["comparison"], SUBJECT)[0][0]],
            [Link(text="Prediction", href=prediction), "the unseen studies, finding by finding",
             counted(scores["studies"], "study", "studies")],
        ],
    )  # fmt: skip
    path = reports / "index.html"
    write_text(path, report.page())
    return path
