"""The files of probabilities.csv and submission.csv, and the prior as it is stored in JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from shared.labels import FINDINGS, SEVERITY_COLUMNS, Finding, parse_row_id
from shared.probabilities.reasons import PriorReason, ProbabilitySource
from shared.probabilities.table import SUM_TOLERANCE, ProbabilityTable, class_weighted, floored
from shared.runtime.errors import InputError
from shared.runtime.files import write_csv
from shared.runtime.problems import counted
from shared.runtime.progress import log
from shared.runtime.tables import Kind, cell_error, check_identifier, read_csv, to_numbers

# Probabilities have names of their own in every table, so that they cannot be taken for the columns of a submission.
PROBABILITY_COLUMNS: Final = tuple(f"p_{column}" for column in SEVERITY_COLUMNS)
# With one decimal alone, a sum of .9 may be rounding or a mistake.
_LEAST_DECIMALS: Final = 2
_PERCENT_ROUNDING: Final = 2.0


def write_probabilities(path: Path, table: ProbabilityTable) -> None:
    """Writes probabilities.csv, with each study in `FINDINGS` order.

    Its columns are study_id, finding, `PROBABILITY_COLUMNS` (without the metric's weights), source and the reason of
    each prior row.
    """
    rows = _rows(table, PROBABILITY_COLUMNS, table.probabilities)
    columns = ["study_id", "finding", *PROBABILITY_COLUMNS, "source", "reason"]
    write_csv(path, rows[columns])


def read_probabilities(path: Path) -> ProbabilityTable:
    """Reads probabilities.csv.

    Files of earlier versions hold submissions, in columns with the names of a submission's, and the earliest have no
    reasons. They are read as what they are, and standard error says so.

    Raises:
      InputError: unless every study has its 25 findings exactly once with valid probabilities, and either no reasons or
        one for each prior row.
    """
    columns: dict[str, Kind] = {"study_id": "id", "finding": "string", "source": "string"}
    either: dict[str, Kind] = dict.fromkeys((*PROBABILITY_COLUMNS, *SEVERITY_COLUMNS), "float64")
    rows = read_csv(path, columns, optional=either | {"reason": "string"})
    sources = [source.value for source in ProbabilitySource]
    unknown = rows.index[~rows["source"].isin(sources)]
    if len(unknown):
        raise cell_error(path, unknown[0], "source", rows["source"].fillna("")[unknown[0]], f"one of {sources}")
    row_ids = rows["study_id"] + "_" + rows["finding"].fillna("")
    from_model = (rows["source"] == ProbabilitySource.MODEL.value).to_numpy()
    table = _table(path, row_ids, _submission(path, rows), from_model)
    reasons: dict[str, dict[Finding, PriorReason]] = {}
    try:
        for study_id, finding, reason in rows.loc[rows["reason"].notna(), ["study_id", "finding", "reason"]].to_numpy():
            reasons.setdefault(study_id, {})[Finding.from_column(finding)] = PriorReason(reason)
        return replace(table, reasons=reasons)
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error


def _submission(path: Path, rows: pd.DataFrame) -> NDArray[np.float64]:  # [n, 3]
    """The submission of the rows of a probabilities.csv, whichever version wrote it."""
    absent = [c for c in PROBABILITY_COLUMNS if rows[c].isna().all()]
    older = rows[list(SEVERITY_COLUMNS)].notna().any(axis=None)
    if len(absent) == len(PROBABILITY_COLUMNS) and older:
        log(
            f"{path}: columns {', '.join(SEVERITY_COLUMNS)} were written by an earlier version and carry the metric's "
            f"weights; they are read so. Newer files hold probabilities, as {', '.join(PROBABILITY_COLUMNS)}"
        )
        return rows[list(SEVERITY_COLUMNS)].to_numpy()
    if absent and len(rows):
        raise InputError(
            f"{path}: column {absent[0]!r} is missing or empty; expected {list(PROBABILITY_COLUMNS)}, as "
            "`lumbar predict` and `lumbar classify train` write them"
        )
    plain = rows[list(PROBABILITY_COLUMNS)].to_numpy()
    off = np.flatnonzero(~(np.abs(plain.sum(1) - 1) <= SUM_TOLERANCE))
    if len(off):  # weighting would hide it
        raise InputError(
            f"{path} line {rows.index[off[0]]}: {', '.join(PROBABILITY_COLUMNS)} sum to {plain[off[0]].sum():.6g}; "
            "expected 1; restore the file"
        )
    return class_weighted(plain)


def write_submission(path: Path, table: ProbabilityTable, row_ids: Sequence[str] | None = None) -> None:
    """Writes submission.csv, with the metric's weights.

    Rows are in the order of `row_ids`, followed by all others, sorted by row_id.

    Raises:
      InputError: when `row_ids` repeat or name a row that the table does not have.
    """
    rows = _rows(table, SEVERITY_COLUMNS, table.submission).set_index("row_id")[list(SEVERITY_COLUMNS)]
    # Rounding must not push a row's sum off 1: the largest column takes the remainder.
    rounded = np.round(floored(rows.to_numpy()), 7)
    rounded[np.arange(len(rounded)), rounded.argmax(1)] += 1 - rounded.sum(1)
    rows[:] = np.round(rounded, 7)
    given = list(row_ids or ())
    missing = sorted(set(given) - set(rows.index))
    if missing or len(set(given)) != len(given):
        raise InputError(
            f"{path}: the sample submission has repeated or unknown rows, such as {(missing or given)[0]!r}"
        )
    order = [*given, *sorted(set(rows.index) - set(given))]
    write_csv(path, rows.loc[order].reset_index())


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A submission as it was read.

    Attributes:
      table: its rows; each sums to 1.
      note: one sentence about rows that were normalised, because they summed to 1 only within the rounding of the
        decimals written; empty when there were none.
    """

    table: ProbabilityTable
    note: str = ""


def read_submission(path: Path) -> Submission:
    """Reads a submission.csv with its rows and columns in any order.

    Raises:
      InputError: unless every study has its 25 rows exactly once, with probabilities that sum to 1 within the rounding
        of the decimals that the file is written with.
    """
    texts = read_csv(path, {"row_id": "string", **dict.fromkeys(SEVERITY_COLUMNS, "string")})
    values, note = _normalised(path, texts)
    return Submission(table=_table(path, texts["row_id"].fillna(""), values, np.ones(len(texts), bool)), note=note)


def _normalised(path: Path, rows: pd.DataFrame) -> tuple[NDArray[np.float64], str]:
    """Probabilities that sum to 1, and a sentence about the rows that only rounding kept from it. # [n, 3]"""
    texts = rows[list(SEVERITY_COLUMNS)]
    numbers = to_numbers(path, texts)
    for column in SEVERITY_COLUMNS:
        bad = numbers.index[~numbers[column].between(0, 1 + SUM_TOLERANCE)]
        if len(bad):
            percent = abs(numbers.loc[bad[0]].sum() - 100) < _PERCENT_ROUNDING
            expected = "a probability from 0 to 1" + ("; divide percentages by 100" if percent else "")
            raise cell_error(path, bad[0], column, texts[column].fillna("")[bad[0]], expected)
    values = numbers.to_numpy(copy=True)
    sums = values.sum(1)
    off = np.abs(sums - 1)
    rounded = off > SUM_TOLERANCE
    if not rounded.any():
        return values, ""
    decimals = max(_decimals(text) for column in texts for text in texts[column])
    # Three values, each off by at most half of the last decimal.
    allowed = max(1.5 * 10.0**-decimals + 1e-9, SUM_TOLERANCE) if decimals >= _LEAST_DECIMALS else SUM_TOLERANCE
    if (off > allowed).any():
        worst = int(np.argmax(off > allowed))
        raise InputError(
            f"{path} line {numbers.index[worst]}: {rows['row_id'].iloc[worst]}: {', '.join(texts.iloc[worst])} sum to "
            f"{sums[worst]:.6g}; expected 1 within {allowed:.2g} for {decimals} decimals; divide each row by its sum"
        )
    values[rounded] /= sums[rounded, None]
    return values, (
        f"{int(rounded.sum())} of {counted(len(values), 'row')} sum to 1 only within the rounding of {decimals} "
        "decimals (up to "
        f"{off.max():.2g} off) and were normalised"
    )


def _decimals(text: str) -> int:
    """Number of decimals of a number, without zeros at its end."""
    exponent = Decimal(text.replace(",", ".")).normalize().as_tuple().exponent
    return max(-int(exponent), 0)


def _rows(table: ProbabilityTable, columns: Sequence[str], values: NDArray[np.float64]) -> pd.DataFrame:
    names = [
        (study_id, finding.column, finding.row_id(study_id)) for study_id in table.study_ids for finding in FINDINGS
    ]
    rows = pd.DataFrame(names, columns=["study_id", "finding", "row_id"])
    rows[list(columns)] = values.reshape(-1, 3)
    rows["source"] = np.where(table.from_model.ravel(), ProbabilitySource.MODEL.value, ProbabilitySource.PRIOR.value)
    rows["reason"] = [table.reasons.get(s, {}).get(f, "") for s in table.study_ids for f in FINDINGS]
    return rows


def _table(path: Path, row_ids: pd.Series, values: NDArray[np.float64], model: NDArray[np.bool_]) -> ProbabilityTable:
    studies: dict[str, int] = {}
    positions: dict[tuple[int, int], int] = {}  # study and finding -> line
    for line, row_id in row_ids.to_frame().itertuples(name=None):
        try:
            study_id, finding = parse_row_id(str(row_id))
        except InputError as error:
            raise InputError(f"{path} line {line}: {error}") from error
        if study_id not in studies:
            check_identifier(f"{path} line {line}: study id", study_id)
        place = studies.setdefault(study_id, len(studies)), finding.index
        if positions.setdefault(place, line) != line:
            raise InputError(f"{path} line {line}: {row_id} is listed twice, first in line {positions[place]}")
    if len(positions) != len(studies) * len(FINDINGS):
        lost = next(f.row_id(s) for s, n in studies.items() for f in FINDINGS if (n, f.index) not in positions)
        raise InputError(
            f"{path}: {counted(len(positions), 'row')} for {counted(len(studies), 'study')}; expected "
            f"{len(FINDINGS)} each, "
            f"{lost} is missing"
        )
    out = np.zeros((len(studies), len(FINDINGS), 3))
    source = np.zeros((len(studies), len(FINDINGS)), bool)
    if positions:
        index = tuple(np.array(list(positions)).T)
        out[index], source[index] = values, model
    try:
        return ProbabilityTable(study_ids=tuple(studies), submission=out, from_model=source)
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error


PriorTable = Mapping[str, Sequence[float]]  # Finding.column -> three probabilities, as stored in JSON


def prior_to_json(prior: NDArray[np.float64]) -> dict[str, list[float]]:
    return {f.column: [float(v) for v in prior[f.index]] for f in FINDINGS}


def prior_from_json(path: Path, prior: PriorTable) -> NDArray[np.float64]:
    """The prior [25, 3], a submission, stored in a file; raises `InputError` unless it is complete."""
    for finding in FINDINGS:
        values = prior.get(finding.column, ())
        if len(values) != 3 or not (min(values) >= 0 and abs(sum(values) - 1) <= SUM_TOLERANCE):
            raise InputError(
                f"{path}: prior.{finding.column}: expected three probabilities that sum to 1; restore the file or "
                "train again"
            )
    return np.array([prior[f.column] for f in FINDINGS], dtype=np.float64)
