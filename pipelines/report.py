"""The report of `lumbar evaluate`, and the list of the reports of a demo."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipelines.result import StudyResult
from shared.agreement import describe
from shared.figures.report import Link, Report
from shared.figures.score_report import add_agreement, add_scores, add_verdict, verdict
from shared.metric import TERMS, study_losses
from shared.probabilities.table import ProbabilityTable
from shared.runtime.documents import read_document
from shared.runtime.files import write_text
from shared.runtime.problems import counted
from shared.scores import Comparison

_COSTLIEST: Final = 5


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
        f"Competition metric on {counted(comparison.studies, 'study')} "
        f"({counted(comparison.graded_rows, 'graded row')}), lower is better. "
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
    report.table(
        ["report", "what it shows", "in short"],
        [
            [Link(text="Evaluation", href="evaluation/report.html"), "both stages on unseen studies", lines[0]],
            [Link(text="Localizer", href="localize/report.html"), "stage 1 on unseen studies",
             verdict_on_points(points)[0][0]],
            [Link(text="Classifier", href="classify/report.html"), "stage 2 on the studies that its fold held out",
             verdict(grader["comparison"], SUBJECT)[0][0]],
            [Link(text="Prediction", href="../prediction/index.html"), "the unseen studies, finding by finding",
             counted(scores["studies"], "study")],
        ],
    )  # fmt: skip
    path = reports / "index.html"
    write_text(path, report.page())
    return path
