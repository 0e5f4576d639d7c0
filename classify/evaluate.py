"""`lumbar classify evaluate`: scores a run's out-of-fold probabilities and writes report.json and report.html."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from classify.calibrate import cross_calibrated
from classify.gallery import Gallery
from classify.network.checkpoint import load_card, run_folder
from classify.report import SUBJECT, write_report
from shared.agreement import describe
from shared.data.challenge import Challenge
from shared.detections import Localizations
from shared.metric import score
from shared.probabilities.files import read_probabilities
from shared.probabilities.table import ProbabilityTable
from shared.runtime.errors import InputError
from shared.runtime.problems import counted
from shared.runtime.progress import log
from shared.scores import PRIOR, compare, out_of_fold_baselines
from shared.splits import Splits, read_splits

OURS: Final = SUBJECT
AS_WRITTEN: Final = "model, calibration fitted on these studies"


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateRequest:
    """A run to score.

    Attributes:
      data: what the run was trained on.
      run: of `lumbar classify train`.
      localizations: where the crops lay, for the pictures of a run that was trained at localized points.
      points: whether the run was trained at "localized" or "annotated" points.

    Raises:
      InputError: when the run is unfinished or was trained on other data.
    """

    data: Challenge
    run: Path
    localizations: Localizations | None = None
    points: str = field(init=False)

    def __post_init__(self) -> None:
        facts = run_folder(self.run).facts()
        if facts.get("data_fingerprint") != self.data.fingerprint:
            raise InputError(
                f"{self.run}: was trained on other data than {self.data.root}; pass the data that it was trained on"
            )
        object.__setattr__(self, "points", str(facts.get("points")))


def evaluate_run(request: EvaluateRequest, out: Path) -> str:
    """Scores a run's out-of-fold probabilities, writes OUT/report.{html,json} and returns a one-line summary."""
    data, run = request.data, request.run
    table, written = held_out_table(request)
    splits = read_splits(run / "splits.json")
    grades = dict(zip(data.study_ids, data.grades_of(data.study_ids), strict=True))
    truth = data.grades_of(table.study_ids)
    cards = {k: load_card(run / f"fold{k}") for k in run_folder(run).finished_folds()}
    log(f"scoring {counted(len(table.study_ids), 'study')} of {counted(len(cards), 'fold')}")
    measures = evaluate(table, grades, splits, written=written)
    measures["folds_trained"] = list(cards)
    measures["points"] = request.points
    measures["calibration"] = {
        str(k): {c.short: asdict(card.calibration[c]) for c in card.families} for k, card in cards.items()
    }
    gallery = Gallery(table=table, truth=truth, data=data, run=run, splits=splits, localizations=request.localizations)
    log("drawing the report and its gallery")
    write_report(out, measures, gallery)
    scores = {line["name"]: line for line in measures["comparison"]["lines"]}
    model, prior = scores[OURS], scores[PRIOR]
    return (
        f"out of fold, {counted(measures['studies'], 'study')}: {model['score']['score']:.4f} "
        f"[{model['interval']['low']:.4f}, {model['interval']['high']:.4f}], "
        f"weighted prior {prior['score']['score']:.4f} -> {out / 'report.html'}"
    )


def held_out_table(request: EvaluateRequest) -> tuple[ProbabilityTable, ProbabilityTable | None]:
    """A run's out-of-fold probabilities with a calibration that the studies' own grades had no part in.

    Returns:
      That table, and the table as it was written; None in place of that where both are the same.
    """
    run = request.run
    written = read_probabilities(run / "out_of_fold.csv")
    if request.points != "localized":
        return written, None
    truth, splits = request.data.grades_of(written.study_ids), read_splits(run / "splits.json")
    calibrations = {k: load_card(run / f"fold{k}").calibration for k in run_folder(run).finished_folds()}
    return cross_calibrated(written, truth, splits, calibrations), written


def evaluate(
    table: ProbabilityTable,
    grades: Mapping[str, NDArray[np.int8]],
    splits: Splits,
    *,
    written: ProbabilityTable | None = None,
) -> dict[str, Any]:
    """Everything the report shows, as JSON-ready values; None where a number is not defined.

    Args:
      table: out-of-fold probabilities of the held-out studies of one or more folds.
      grades: [25] severity values of every study in `splits`, -1 where not graded.
      splits: tells which studies each fold held out and trained on.
      written: the same before the calibration was cross-fitted, to be scored beside it.

    Raises:
      InputError: when a study of the table has no grades or is in no fold.
    """
    unknown = [s for s in table.study_ids if s not in grades]
    if unknown:
        raise InputError(f"study {unknown[0]} has predictions but no grades ({len(unknown)} such)")
    truth = np.stack([grades[s] for s in table.study_ids])
    submissions = out_of_fold_baselines(table.study_ids, grades, splits) | {OURS: table}
    if written is not None:
        submissions[AS_WRITTEN] = written
    folds = _per_fold(table, truth, splits)
    return {
        "studies": len(table.study_ids),
        "graded_rows": int((truth >= 0).sum()),
        "prior_rows": int((~table.from_model).sum()),
        "comparison": compare(submissions, table.study_ids, truth).to_json(),
        "folds": folds,
        "fold_spread": float(np.std([f["score"] for f in folds], ddof=1)) if len(folds) > 1 else None,
        **describe(table, truth),
    }


def _per_fold(table: ProbabilityTable, truth: NDArray[np.int8], splits: Splits) -> list[dict[str, Any]]:
    fold = np.array([splits.fold_of(s) for s in table.study_ids])
    rows = []
    for k in np.unique(fold):
        result = score(table.submission[fold == k], truth[fold == k])
        rows.append({"fold": int(k), "studies": int((fold == k).sum()), "score": result.score, "terms": result.terms})
    return rows
