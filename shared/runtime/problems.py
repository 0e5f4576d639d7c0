"""Messages on what of a study could not be used: a fault of many slices fills one line.

A study for which nothing could be done, because of an error, is a failure: OUT/failures.csv lists it and the command
ends with `SOME_FAILED`. A study of which something is missing is none; docs/output.md says where the line is.
"""

import re
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Final

# Exit code of a command that has done its work, but could do nothing for some studies.
SOME_FAILED: Final = 3
FAILURES_FILE: Final = "failures.csv"

# So many messages of one place are given one by one.
_EACH: Final = 2


def folded(where: str, errors: Sequence[object], what: str) -> list[str]:
    """A message for each error, or one for all if there are more than two.

    Args:
      where: what the messages begin with, for example "study 1 series 2".
      errors: what is wrong, in the order of the slices.
      what: follows the number of errors, for example "of 15 slices cannot be read".
    """
    if len(errors) <= _EACH:
        return [f"{where}: {error}" for error in errors]
    return [f"{where}: {len(errors)} {what}, first: {errors[0]}"]


def counted(count: int, noun: str) -> str:
    """A number with its noun: "1 study", "2 studies", "1 series", "0 boxes"."""
    return f"{count} {noun if count == 1 else _plural(noun)}"


def _plural(noun: str) -> str:
    if noun.endswith("series"):
        return noun
    if re.search(r"[^aeiou]y$", noun):
        return f"{noun[:-1]}ies"
    return f"{noun}es" if re.search(r"(s|x|ch|sh)$", noun) else f"{noun}s"


class Stage(StrEnum):
    """Where the work on a study ended."""

    READ = "read"
    LOCALIZE = "localize"
    CLASSIFY = "classify"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A study for which nothing could be done, because of an error.

    Attributes:
      reason: one word for programs; docs/output.md lists them.
      message: what happened, without the values of tags and under masked names of files.
      what_to_do: the next step.
    """

    study_id: str
    stage: Stage
    reason: str
    message: str
    what_to_do: str


UNREADABLE: Final = "series_unreadable"
STOPPED: Final = "stage_failed"


def unreadable(study_id: str, what: str = "no slice of its series can be read; run.json lists why") -> Failure:
    """The failure of a study of whose pictures none can be read."""
    return Failure(
        study_id=study_id, stage=Stage.READ, reason=UNREADABLE, message=what,
        what_to_do="restore the files from their source (`lumbar audit` names what is wrong with each), then run again "
        "with --overwrite",
    )  # fmt: skip


def stopped(study_id: str, stage: Stage, message: str) -> Failure:
    """The failure of a study at which a stage stopped with an error."""
    return Failure(
        study_id=study_id, stage=stage, reason=STOPPED, message=message,
        what_to_do="correct what the message names, then run again with --overwrite",
    )  # fmt: skip


def write_failures(out: Path, failures: Sequence[Failure]) -> None:
    """Writes OUT/failures.csv, which has no rows where nothing failed."""
    import pandas as pd  # here, because the command line counts things before any work begins

    from shared.runtime.files import write_csv

    columns = [field.name for field in fields(Failure)]
    write_csv(out / FAILURES_FILE, pd.DataFrame([astuple(f) for f in failures], columns=columns))


def code_of(out: Path) -> int:
    """The exit code of a command that has finished OUT, and a warning where it is `SOME_FAILED`.

    Folders that earlier versions have finished have no list of failures; their code is 0.
    """
    from shared.runtime.progress import log
    from shared.runtime.tables import read_csv

    path = out / FAILURES_FILE
    if not path.is_file():
        return 0
    failed = len(read_csv(path, {"study_id": "string"}))
    if failed:
        log(f"warning: nothing could be done for {counted(failed, 'study')}, because of errors; see {path}")
    return SOME_FAILED if failed else 0
