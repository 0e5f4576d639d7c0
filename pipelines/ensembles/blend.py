"""`lumbar blend`: one submission out of several."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipelines.ensembles.weights import read_weights_file
from shared.labels import FINDINGS
from shared.probabilities.files import read_submission, write_submission
from shared.probabilities.table import ProbabilityTable, class_weighted, floored, unweighted
from shared.runtime.errors import InputError, quoted
from shared.runtime.problems import counted
from shared.runtime.progress import log
from shared.runtime.tables import read_csv

Mean = Literal["arithmetic", "geometric"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BlendRequest:
    """Submissions to blend.

    Attributes:
      submissions: two or more files with the same rows, in any order.
      weights: weights.json of `lumbar combine`, or one number per submission separated by commas; equal without it.
      mean: arithmetic mean of the probabilities, or geometric mean.

    Raises:
      InputError: for fewer than two files, one that is given twice, or weights that do not fit.
    """

    submissions: tuple[Path, ...]
    weights: str | None = None
    mean: Mean = "arithmetic"

    def __post_init__(self) -> None:
        if len(self.submissions) < 2:
            raise InputError("a blend needs two or more submissions")
        twice = [
            p for n, p in enumerate(self.submissions) if p.resolve() in {q.resolve() for q in self.submissions[:n]}
        ]
        if twice:
            raise InputError(f"{twice[0]}: is given twice; give it a larger weight with --weights instead")
        self.per_finding()

    def per_finding(self) -> NDArray[np.float64]:
        """Weights of the submissions for each finding. [submissions, 25]"""
        count = len(self.submissions)
        if self.weights is None:
            return np.ones((count, len(FINDINGS)))
        numbers = _numbers(self.weights)
        if numbers is None:
            path = Path(self.weights)
            if self.mean != "arithmetic":
                raise InputError(f"--weights {path}: were fitted for the arithmetic mean; leave --mean geometric out")
            fitted = read_weights_file(path)
            if len(fitted.members) != count:
                raise InputError(
                    f"--weights {path}: is for {len(fitted.members)} submissions ({fitted.names}, in this order), "
                    f"got {count}"
                )
            return fitted.per_finding()
        if len(numbers) != count or min(numbers) < 0 or sum(numbers) <= 0:
            raise InputError(
                f"--weights {self.weights}: expected {count} numbers that are not negative, one per submission"
            )
        return np.repeat(np.array(numbers)[:, None], len(FINDINGS), axis=1)


def blend_files(request: BlendRequest, out: Path, *, overwrite: bool = False) -> str:
    """Writes the blend, in the order of rows of the first submission, and returns one line on it.

    Raises:
      InputError: for a file that is no submission, submissions of different rows, or an OUT that exists.
    """
    if out.exists() and not overwrite:
        raise InputError(f"{out}: exists already; choose another name, or replace it with --overwrite")
    if out.resolve() in {path.resolve() for path in request.submissions}:
        raise InputError(f"{out}: is one of the submissions; choose another name")
    first = request.submissions[0]
    read = [read_submission(path) for path in request.submissions]
    for path, item in zip(request.submissions, read, strict=True):
        if item.note:
            log(f"{path}: {item.note}.")
    tables = _same_rows(request.submissions, [item.table for item in read])
    blended = blend([t.submission for t in tables], request.per_finding(), request.mean)
    table = ProbabilityTable(study_ids=tables[0].study_ids, submission=blended, from_model=tables[0].from_model)
    order = read_csv(first, {"row_id": "string"})["row_id"].tolist()
    write_submission(out, table, order)
    studies = counted(len(table.study_ids), "study")
    return f"{out}: {request.mean} mean of {len(tables)} submissions, {studies}, {counted(len(order), 'row')}"


def blend(submissions: Sequence[NDArray[np.float64]], weights: NDArray[np.float64], mean: Mean) -> NDArray[np.float64]:
    """The submission of the mean of several.

    The arithmetic mean is taken of the probabilities, without the metric's weights. The geometric mean is the same with
    them and without.

    Args:
      submissions: of each member. # [n, 25, 3]
      weights: [members, 25], not negative; only their ratios count.

    Returns:
      [n, 25, 3]
    """
    share = (weights / weights.sum(0))[:, None, :, None]  # [members, 1, 25, 1]
    stacked = floored(np.stack(submissions))
    if mean == "arithmetic":
        return floored(class_weighted((unweighted(stacked) * share).sum(0)))
    logs = (np.log(stacked) * share).sum(0)
    powers = np.exp(logs - logs.max(-1, keepdims=True))
    return floored(powers / powers.sum(-1, keepdims=True))


def _same_rows(paths: Sequence[Path], tables: Sequence[ProbabilityTable]) -> list[ProbabilityTable]:
    """The tables with their studies in the order of the first one."""
    wanted = set(tables[0].study_ids)
    for path, table in zip(paths[1:], tables[1:], strict=True):
        different = sorted(wanted ^ set(table.study_ids))
        if different:
            only = paths[0] if different[0] in wanted else path
            raise InputError(
                f"{path}: has other studies than {paths[0]} ({len(different)} differ): {quoted(different[0])} "
                f"is only in {only}; blend submissions of the same studies"
            )
    return [table.select(tables[0].study_ids) for table in tables]


def _numbers(text: str) -> list[float] | None:
    """Numbers separated by commas, or None for anything else, such as the name of a file."""
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        return None
    return values if all(math.isfinite(v) for v in values) else None
