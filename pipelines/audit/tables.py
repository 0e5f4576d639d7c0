"""The challenge's CSV files, read row by row: a bad row becomes an issue and is skipped, the others are used.

`shared.data.challenge` refuses a table with a bad row, which is right for training; an audit has to name every one.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipelines.audit.issues import Code, Issue, name_findings
from shared.data.challenge import MISSING, Part, Point
from shared.labels import FINDINGS, Finding, Severity, View, parse_row_id
from shared.runtime.errors import InputError, quoted
from shared.runtime.problems import counted
from shared.runtime.tables import IDENTIFIER, check_identifier, read_csv, to_numbers

Grades = NDArray[np.int8]

_VIEWS: Final = [view.value for view in View]
_GRADES: Final = [severity.display for severity in Severity]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """The usable rows of one part's tables.

    Attributes:
      series: study -> (series id, view), in file order.
      grades: study -> [25] severity values, -1 where not graded; None where the part has no grades.
      points: study -> annotated points.
      issues: what is wrong within and between the tables.
    """

    part: Part
    series: dict[str, tuple[tuple[str, View], ...]]
    grades: dict[str, Grades] | None
    points: dict[str, tuple[Point, ...]] = field(default_factory=dict)
    issues: tuple[Issue, ...] = ()

    @property
    def study_ids(self) -> tuple[str, ...]:
        """Every study that the series or the grades name, sorted."""
        return tuple(sorted({*self.series, *(self.grades or {})}))


def read_tables(root: Path, part: Part) -> Tables:
    """Reads one part's tables.

    Raises:
      InputError: when the series descriptions, from which everything else hangs, cannot be read at all.
    """
    issues: list[Issue] = []
    tables = Tables(
        part=part,
        series=_read_series(root / f"{part}_series_descriptions.csv", issues),
        grades=_read_grades(root / f"{part}.csv", part, issues),
        points=_read_points(root / f"{part}_label_coordinates.csv", part, issues),
    )
    issues += _studies(tables) + _labels(tables)
    if part == "test" and (root / "sample_submission.csv").is_file():
        issues += _submission(root / "sample_submission.csv", tables)
    return replace(tables, issues=tuple(replace(issue, part=part) for issue in issues))


def _read(path: Path, columns: tuple[str, ...], part: Part, issues: list[Issue]) -> pd.DataFrame | None:
    """The named columns as text; an unreadable table is an issue, a missing one of the test part is not."""
    if part == "test" and not path.is_file():
        return None
    try:
        return read_csv(path, dict.fromkeys(columns, "string")).fillna("")
    except InputError as error:
        reason = str(error).removeprefix(f"{path}: ")
        issues.append(Issue(code=Code.TABLE_UNUSABLE, file=path.name, reason=f"{path.name}: {reason}"))
        return None


def _bad_rows(table: pd.DataFrame, bad: "pd.Series[bool]", column: str, expected: str, path: Path) -> list[Issue]:
    """One issue per bad cell, naming the line of the file."""
    ids = _understood(table["study_id"], _identifier).fillna("")
    return [
        Issue(
            code=Code.CELL_INVALID, study_id=ids[n], file=path.name,
            reason=f"{path.name} line {n}: {column} is {quoted(str(table.loc[n, column]))}; expected {expected}",
        )
        for n in table.index[bad]
    ]  # fmt: skip


def _understood(cells: pd.Series, read: Callable[[str], object]) -> pd.Series:
    """What each cell means; missing where `read` refuses it."""
    meanings = {}
    for value in cells.unique():
        with suppress(InputError):
            meanings[value] = read(value)
    return pd.Series([meanings.get(value) for value in cells.tolist()], index=cells.index, dtype=object)


def _identifier(text: str) -> str:
    return check_identifier("id", text)


def _with_ids(table: pd.DataFrame, columns: tuple[str, ...], path: Path, issues: list[Issue]) -> pd.DataFrame:
    """Rows whose identifiers are safe to look up on disk."""
    good = pd.Series(True, index=table.index)
    for column in columns:
        bad = good & _understood(table[column], _identifier).isna()
        issues += _bad_rows(table, bad, column, "letters, digits, '.', '_', '-', and no decimal number", path)
        good &= ~bad
    return table[good]


def _read_series(path: Path, issues: list[Issue]) -> dict[str, tuple[tuple[str, View], ...]]:
    table = read_csv(path, dict.fromkeys(("study_id", "series_id", "series_description"), "string")).fillna("")
    table = _with_ids(table, ("study_id", "series_id"), path, issues)
    views = _understood(table["series_description"], View.from_text)
    issues += _bad_rows(table, views.isna(), "series_description", f"one of {_VIEWS}", path)
    table = table.assign(series_description=views)[views.notna()]
    again = table.duplicated(["study_id", "series_id"])
    for n in table.index[again]:
        study_id, series_id = str(table.loc[n, "study_id"]), str(table.loc[n, "series_id"])
        reason = f"{path.name} line {n}: series {series_id} of study {study_id} is listed twice"
        issues.append(
            Issue(code=Code.ROW_REPEATED, study_id=study_id, series_id=series_id, file=path.name,
                  reason=reason)
        )  # fmt: skip
    series: dict[str, list[tuple[str, View]]] = {}
    for study_id, series_id, view in table[~again].itertuples(index=False, name=None):
        series.setdefault(study_id, []).append((series_id, view))
    return {study_id: tuple(rows) for study_id, rows in series.items()}


def _read_grades(path: Path, part: Part, issues: list[Issue]) -> dict[str, Grades] | None:
    table = _read(path, ("study_id", *(f.column for f in FINDINGS)), part, issues)
    if table is None:
        return None
    table = _with_ids(table, ("study_id",), path, issues)
    again = table.duplicated("study_id")
    for n in table.index[again]:
        study_id = str(table.loc[n, "study_id"])
        reason = f"{path.name} line {n}: study {study_id} is listed twice"
        issues.append(Issue(code=Code.ROW_REPEATED, study_id=study_id, file=path.name, reason=reason))
    table = table[~again]
    values = np.full((len(table), len(FINDINGS)), MISSING, np.int8)
    for finding in FINDINGS:
        codes = _understood(table[finding.column], lambda text: Severity.from_text(text) if text else MISSING)
        issues += _bad_rows(table, codes.isna(), finding.column, f"one of {_GRADES} or nothing", path)
        values[:, finding.index] = codes.fillna(MISSING).astype(np.int8)
    return dict(zip(table["study_id"].tolist(), values, strict=True))


def _read_points(path: Path, part: Part, issues: list[Issue]) -> dict[str, tuple[Point, ...]]:
    columns = ("study_id", "series_id", "instance_number", "condition", "level", "x", "y")
    table = _read(path, columns, part, issues)
    if table is None:
        return {}
    table = _with_ids(table, ("study_id", "series_id"), path, issues)
    try:
        points = to_numbers(path, table[["x", "y"]].replace("", pd.NA), strict=False)
    except InputError as error:
        issues.append(Issue(code=Code.TABLE_UNUSABLE, file=path.name, reason=str(error)))
        return {}
    whole = pd.to_numeric(table["instance_number"], errors="coerce").astype("float64")
    points["instance_number"] = whole.where((whole % 1 == 0) & (whole.abs() < 10**15))
    good = pd.Series(True, index=table.index)
    for column, expected in (("instance_number", "a whole number"), ("x", "a number"), ("y", "a number")):
        bad = good & points[column].isna()
        issues += _bad_rows(table, bad, column, expected, path)
        good &= ~bad
    table = table.assign(**{column: points[column] for column in ("instance_number", "x", "y")})[good]
    findings = _understood(
        table["condition"] + "|" + table["level"], lambda text: Finding.from_display(*text.split("|", 1))
    )
    expected = f"for example {FINDINGS[0].condition_display!r} with level {FINDINGS[0].level.display!r}"
    issues += _bad_rows(table, findings.isna(), "condition", expected, path)
    table = table.assign(finding=findings)[findings.notna()]
    by_study: dict[str, list[Point]] = {}
    wanted = ["study_id", "series_id", "instance_number", "finding", "x", "y"]
    for study_id, series_id, number, finding, x, y in table[wanted].itertuples(index=False, name=None):
        by_study.setdefault(study_id, []).append(
            Point(study_id=study_id, series_id=series_id, instance_number=int(number), finding=finding, x_px=x, y_px=y)
        )
    return {study_id: tuple(rows) for study_id, rows in by_study.items()}


def _studies(tables: Tables) -> list[Issue]:
    """Studies that one table names and another does not."""
    issues = []
    graded = tables.grades
    for study_id in sorted({*(graded or {}), *tables.points} - set(tables.series)):
        reason = f"{tables.part}_series_descriptions.csv has no row of study {study_id}"
        issues.append(Issue(code=Code.STUDY_WITHOUT_SERIES, study_id=study_id, reason=reason))
    if graded is not None:
        for study_id in sorted({*tables.series, *tables.points} - set(graded)):
            reason = f"{tables.part}.csv has no row of study {study_id}"
            issues.append(Issue(code=Code.STUDY_WITHOUT_GRADES, study_id=study_id, reason=reason))
    for study_id, series in sorted(tables.series.items()):
        counts = Counter(view for _, view in series)
        issues += [replace(issue, study_id=study_id) for issue in check_views(counts)]
    return issues


def check_views(counts: Mapping[View, int]) -> list[Issue]:
    """Views that a study lacks or has several series of, given its number of series per view."""
    issues = []
    for view in View:
        count = counts.get(view, 0)
        if count == 0:
            reason = f"expected a series of each view, got no {view.value}"
            issues.append(Issue(code=Code.VIEW_MISSING, reason=reason))
        elif count > 1:
            reason = f"{count} {view.value} series"
            issues.append(Issue(code=Code.SEVERAL_SERIES, reason=reason))
    return issues


def _labels(tables: Tables) -> list[Issue]:
    """Missing grades, grades without points and points without grades; one issue per study and code."""
    issues: list[Issue] = []
    if tables.grades is None:
        return issues

    def issue(code: Code, study_id: str, reason: str) -> None:
        issues.append(Issue(code=code, study_id=study_id, reason=reason))

    for study_id, grades in sorted(tables.grades.items()):
        pointed = {p.finding for p in tables.points.get(study_id, ())}
        missing = [f for f in FINDINGS if grades[f.index] == MISSING]
        graded = [f for f in FINDINGS if grades[f.index] != MISSING]
        if missing:
            issue(Code.GRADE_MISSING, study_id, f"{len(missing)} of 25 findings: {name_findings(*missing)}")
        if graded and not pointed:
            issue(Code.STUDY_WITHOUT_POINTS, study_id, f"{counted(len(graded), 'graded finding')}, no point")
        elif bare := [f for f in graded if f not in pointed]:
            issue(Code.GRADE_WITHOUT_POINT, study_id, f"{counted(len(bare), 'graded finding')}: {name_findings(*bare)}")
        if extra := [f for f in missing if f in pointed]:
            issue(Code.POINT_WITHOUT_GRADE, study_id, f"{counted(len(extra), 'finding')}: {name_findings(*extra)}")
    return issues


def _submission(path: Path, tables: Tables) -> list[Issue]:
    try:
        rows = [parse_row_id(str(r)) for r in read_csv(path, {"row_id": "string"})["row_id"].fillna("")]
    except InputError as error:
        reason = str(error).removeprefix(f"{path}: ")
        return [Issue(code=Code.SUBMISSION_ROWS, file=path.name, reason=reason)]
    named = Counter(study_id for study_id, _ in set(rows))
    listed = set(tables.series)
    issues = []
    for study_id in sorted(set(named) | listed):
        if study_id not in listed:
            reason = "the sample submission names this study, the series descriptions do not"
        elif named[study_id] != len(FINDINGS):
            reason = f"expected {len(FINDINGS)} rows in the sample submission, got {named[study_id]}"
        else:
            continue
        safe = study_id if IDENTIFIER.fullmatch(study_id) else ""
        issues.append(Issue(code=Code.SUBMISSION_ROWS, study_id=safe, file=path.name, reason=reason))
    return issues


def check_parts(tables: Mapping[Part, Tables]) -> list[Issue]:
    """Studies that are in both parts."""
    if len(tables) < 2:
        return []
    both = set(tables["train"].study_ids) & set(tables["test"].study_ids)
    reason = "expected a study in one part, got it in train and test"
    return [Issue(code=Code.STUDY_IN_BOTH_PARTS, study_id=study_id, reason=reason) for study_id in sorted(both)]
