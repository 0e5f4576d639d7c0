"""The HTML and JSON reports of the whole pipeline: a prediction's pictures, and scores against the baselines."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from classify.evaluate import describe
from classify.figures import add_details
from pipelines.evaluate import Comparison
from pipelines.grader import StudyResult
from shared.figures.report import Report
from shared.metric import TERMS, Interval, study_losses
from shared.probabilities import ProbabilityTable
from shared.runtime.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_PICTURES: Final = 8


def prediction_report(results: Sequence[StudyResult], out: Path) -> Path:
    """Writes OUT/report.html: what was found in each study (pictures of the first few) and what could not be graded."""
    rows = sum(r.from_model.size for r in results)
    prior_rows = rows - sum(int(r.from_model.sum()) for r in results)
    report = Report(
        "Prediction",
        f"{len(results)} studies, {rows} rows, {prior_rows} of them from the training prior. The number beside a "
        "mark is the submitted probability of Severe; its colour is the most probable grade.",
        data={"studies": [r.to_json() for r in results]},
    )
    for result in results[:MAX_PICTURES]:
        report.heading(f"Study {result.study_id}")
        try:
            report.figure(result.figure(), "Right is on the left.")
        except InputError as error:
            report.text(f"No picture: {error}")
        numbering = result.numbering
        if numbering is not None and not numbering.certain:
            report.text(
                f"The numbering of the levels is uncertain: as named {numbering.as_named:.0%}, all one disc higher "
                f"{numbering.one_higher:.0%}, all one disc lower {numbering.one_lower:.0%}."
            )
        for problem in result.problems:
            report.text(problem)
    if len(results) > MAX_PICTURES:
        report.text(f"{len(results) - MAX_PICTURES} more studies are in studies/ and probabilities.csv.")
    return report.save(out)


def evaluation_report(
    comparison: Comparison,
    ours: ProbabilityTable,
    study_ids: Sequence[str],
    grades: NDArray[np.int8],
    out: Path,
    *,
    name: str,
    pictures: Sequence[StudyResult] = (),
) -> Path:
    """Writes report.html and report.json: all scores with intervals, and the named submission in detail."""
    report = Report(
        "Evaluation",
        f"Competition metric on {comparison.studies} studies ({comparison.graded_rows} graded rows), lower is better. "
        "Intervals are 95% bootstrap intervals over studies.",
        data={"comparison": comparison.to_json(), "detail_of": name},
    )
    report.table(
        ["submission", "score", "95% interval", f"gain over {comparison.reference}", "paired interval", "gap closed",
         *TERMS, "prior rows"],
        [
            [
                line.name, line.score.score, _range(line.interval), line.gain, _range(line.gain_interval, "+.3f"),
                None if line.gap_closed is None else f"{line.gap_closed:.0%}",
                *(line.score.terms[t] for t in TERMS), line.prior_rows,
            ]
            for line in comparison.lines
        ],
        "Gap closed: share of the distance from the weighted prior to the oracle, the best score that the generator's "
        "own reader noise allows.",
    )  # fmt: skip
    report.figure(_score_figure(comparison), "Scores with 95% intervals; the line marks the reference.")
    table = ours.select(study_ids)
    details = describe(table, grades)
    report.data["details"] = details
    report.text(f"Below: {name}.")
    add_details(report, details)
    _worst(report, table.values, study_ids, grades)
    for result in pictures:
        report.heading(f"Study {result.study_id}")
        figure = result.figure(grades[list(study_ids).index(result.study_id)])
        report.figure(figure, "Submitted probability of Severe and, in brackets, the true grade.")
    return report.save(out)


def _range(bounds: Interval | None, form: str = ".3f") -> str | None:
    return None if bounds is None else f"{bounds.low:{form}} to {bounds.high:{form}}"


def _worst(report: Report, values: NDArray[np.float64], study_ids: Sequence[str], grades: NDArray[np.int8]) -> None:
    losses = study_losses(values, grades)
    share = losses.losses / losses.weights.sum(0).clip(min=1e-9)
    order = np.argsort(-share.sum(1))[:5]
    terms = max(int((losses.weights.sum(0) > 0).sum()), 1)  # a family without a grade has no term
    report.heading("Studies that cost most")
    report.table(
        ["study", "share of the score", *TERMS],
        [[study_ids[i], float(share[i].sum() / terms), *(float(v) / terms for v in share[i])] for i in order],
        "What each study adds to the score.",
    )


def _score_figure(comparison: Comparison) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 0.5 * len(comparison.lines) + 0.9), layout="constrained")
    axes = figure.subplots()
    for y, line in enumerate(reversed(comparison.lines)):
        axes.plot([line.interval.low, line.interval.high], [y, y], color="#4a7ba6", lw=3, solid_capstyle="round")
        axes.plot(line.score.score, y, "o", color="#12364f")
        axes.annotate(f"{line.score.score:.3f}", (line.score.score, y), (0, 7), textcoords="offset points", ha="center")
    names = [line.name for line in reversed(comparison.lines)]
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(-0.6, len(names) - 0.3)
    if comparison.reference in names:
        axes.axvline(comparison.line(comparison.reference).score.score, color="#999", lw=1, ls=":")
    axes.set_xlabel("competition metric")
    axes.spines[["top", "right"]].set_visible(False)
    return figure
