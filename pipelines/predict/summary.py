"""What a prediction says of all its studies together: the table, run.json, and the lines at the end."""

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from pipelines.result import StudyResult
from shared.labels import FINDINGS
from shared.probabilities.table import ProbabilityTable
from shared.runtime.problems import counted
from shared.runtime.progress import log
from shared.runtime.run_folder import write_run

PROBABILITIES_FILE: Final = "probabilities.csv"
_LISTED_PROBLEMS: Final = 20
_LISTED_STUDIES: Final = 5


def to_table(results: Sequence[StudyResult]) -> ProbabilityTable:
    """The probabilities of all studies in one table."""
    return ProbabilityTable(
        study_ids=tuple(r.study_id for r in results),
        submission=np.array([r.submission for r in results]).reshape(-1, len(FINDINGS), 3),
        from_model=np.array([r.from_model for r in results], dtype=bool).reshape(-1, len(FINDINGS)),
        reasons={r.study_id: r.reasons for r in results},
    )


def write_prediction_run(out: Path, results: Sequence[StudyResult], *, started: float, **facts: Any) -> None:
    """Writes run.json: counts of rows, prior rows with their reasons and localization sources, and all problems."""
    table = to_table(results)
    sources = Counter(x.source.value for r in results for x in r.localizations.values())
    write_run(
        out, command="predict", started=started, kind="predict", studies=len(results),
        rows=table.from_model.size, prior_rows=table.prior_rows, prior_reasons=table.reason_counts,
        localization_sources=dict(sorted(sources.items())), numbering_uncertain=_uncertain(results),
        problems=[text for r in results for text in r.problems], **facts,
    )  # fmt: skip


def _uncertain(results: Sequence[StudyResult]) -> list[str]:
    """Studies whose levels may all be one disc off."""
    return [r.study_id for r in results if r.numbering is not None and not r.numbering.certain]


def summarize(results: Sequence[StudyResult], started: float) -> None:
    """Says on standard error what was predicted and what could not be."""
    problems = [text for r in results for text in r.problems]
    for text in problems[:_LISTED_PROBLEMS]:
        log(f"warning: {text}")
    if len(problems) > _LISTED_PROBLEMS:
        log(f"warning: {counted(len(problems) - _LISTED_PROBLEMS, 'more problem')}: see run.json")
    uncertain = _uncertain(results)
    if uncertain:
        named = ", ".join(uncertain[:_LISTED_STUDIES]) + (", ..." if len(uncertain) > _LISTED_STUDIES else "")
        studies = counted(len(uncertain), "study")
        log(f"warning: the numbering of the levels is uncertain in {studies}: {named}; see studies/")
    table = to_table(results)
    log(f"{counted(len(results), 'study')}, {counted(table.from_model.size, 'row')} in {time.time() - started:.0f} s")
    log(table.prior_summary)
