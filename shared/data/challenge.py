"""Reads the challenge's directory and CSV files into typed tables and studies.

train_images/<study_id>/<series_id>/<instance_number>.dcm      (or test_images/)
train.csv                        study_id + the 25 grades of `FINDINGS`
train_label_coordinates.csv      study_id, series_id, instance_number, condition, level, x, y
train_series_descriptions.csv    study_id, series_id, series_description
sample_submission.csv            row_id, normal_mild, moderate, severe
"""

import hashlib
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal, TypeVar

import numpy as np
import pandas as pd

from shared.data.contradictions import Content, contradictions
from shared.data.store import Store
from shared.dicom.header import Header
from shared.dicom.reader import HeaderReading, read_headers
from shared.labels import FINDINGS, SEVERITY_COLUMNS, Finding, Severity, View, parse_row_id
from shared.runtime.errors import InputError
from shared.runtime.files import write_csv
from shared.runtime.names import hide_names, name_of
from shared.runtime.problems import counted, folded
from shared.runtime.tables import Kind, cell_error, check_identifier, read_csv
from shared.study import REPEATED_NUMBERS, LoadedStudy, Series, Slice, Study, number_uniquely, order_slices

Part = Literal["train", "test"]
PARTS: Final[tuple[Part, ...]] = ("train", "test")
MISSING: Final = -1
# Digits in groups of three, as some spreadsheets show a number.
_GROUPED: Final = re.compile(r"[0-9]{1,3}(\.[0-9]{3})+")

# The columns that are read of each table.
_SERIES: Final[Mapping[str, Kind]] = {"study_id": "id", "series_id": "id", "series_description": "string"}
_GRADES: Final[Mapping[str, Kind]] = {"study_id": "id", **{f.column: "string" for f in FINDINGS}}
_POINTS: Final[Mapping[str, Kind]] = {
    "study_id": "id", "series_id": "id", "instance_number": "int64", "condition": "string", "level": "string",
    "x": "float64", "y": "float64",
}  # fmt: skip
_SUBMISSION: Final[Mapping[str, Kind]] = {"row_id": "string", **dict.fromkeys(SEVERITY_COLUMNS, "string")}

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One annotated point of `*_label_coordinates.csv`, in pixel coordinates of its slice."""

    study_id: str
    series_id: str
    instance_number: int
    finding: Finding
    x_px: float
    y_px: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """One part (train or test) of a challenge directory, with validated tables; `load_study` reads the images.

    The directory may be a prepared store of one (`shared.data.store`); then only the place of the pixels differs.

    Attributes:
      study_ids: sorted.
      series: study id -> (series id, view).
      grades: [n studies, 25] severity values in `FINDINGS` order, -1 where not graded; None without a label file.
      points: study id -> annotated points; empty without a coordinates file.
      submission_row_ids: rows in the order of the sample submission; None for the training part.
    """

    root: Path
    part: Part
    study_ids: tuple[str, ...]
    series: Mapping[str, tuple[tuple[str, View], ...]]
    grades: np.ndarray | None
    points: Mapping[str, tuple[Point, ...]] = field(default_factory=dict)
    submission_row_ids: tuple[str, ...] | None = None
    store: Store | None = None

    @classmethod
    def open(cls, root: Path, part: Part = "train") -> "Challenge":
        """Reads the CSV files of one part.

        Raises:
          InputError: naming the file, what was expected and what was found.
        """
        if not root.is_dir():
            raise InputError(
                f"{root}: no such folder; expected a challenge directory with {part}_images/ and {part}.csv"
            )
        store = Store.find(root)
        if store is not None and store.kind == "challenge" and part not in store.records:
            raise InputError(
                f"{root}: this store holds no {part} part, only {', '.join(store.records)}; add it with "
                f"`lumbar prepare DATA {root} --part {part} --resume`"
            )
        if store is None:
            hide_names(root, numbers=True)
        series_path, grades_path = root / f"{part}_series_descriptions.csv", root / f"{part}.csv"
        series = _read_series(series_path)
        labelled = read_grades(grades_path) if grades_path.is_file() else None
        _check_same_ids("study", (series_path, series), (grades_path, labelled or ()))
        submission_path = root / "sample_submission.csv"
        row_ids = _read_row_ids(submission_path) if part == "test" and submission_path.is_file() else None
        # A study that only the sample submission names still needs its rows.
        in_sample = {parse_row_id(r)[0] for r in row_ids or ()}
        _check_same_ids("study", (series_path, series), (submission_path, in_sample), overlap=False)
        study_ids = tuple(sorted(set(series) | set(labelled or {}) | in_sample))
        grades = None
        if labelled is not None:
            unlabelled = np.full(len(FINDINGS), MISSING, np.int8)
            grades = (
                np.stack([labelled.get(s, unlabelled) for s in study_ids]) if study_ids else np.empty((0, 25), np.int8)
            )
        elif part == "train":
            raise InputError(f"{grades_path}: no such file; expected study_id and the 25 grade columns")
        points_path = root / f"{part}_label_coordinates.csv"
        points = read_points(points_path) if points_path.is_file() else {}
        _check_same_ids("study", (series_path, series), (points_path, points))
        _check_same_ids(
            "series", (series_path, {s for of_study in series.values() for s, _ in of_study}),
            (points_path, {p.series_id for of_study in points.values() for p in of_study}),
        )  # fmt: skip
        return cls(
            root=root, part=part, study_ids=study_ids, series=series, grades=grades, points=points,
            submission_row_ids=row_ids, store=store,
        )  # fmt: skip

    def only(self, study_id: str) -> "Challenge":
        """The images and points of one study, small enough to travel to a worker process."""
        return replace(
            self, study_ids=(study_id,), grades=None, submission_row_ids=None,
            series={study_id: self.series[study_id]} if study_id in self.series else {},
            points={study_id: self.points[study_id]} if study_id in self.points else {},
        )  # fmt: skip

    def moved_to(self, root: Path) -> "Challenge":
        """The same tables, with the images of this part, or the records of the store, below another folder."""
        if self.store is None:
            hide_names(root, numbers=True)
        return replace(self, root=root, store=None if self.store is None else replace(self.store, root=root))

    @property
    def images(self) -> Path:
        """The folder of the DICOM files; for a store, what stands for it in paths."""
        return (self.root.absolute() if self.store is None else self.store.data) / f"{self.part}_images"

    @property
    def fingerprint(self) -> str:
        """Digest of series, grades and points, by which a run recognises its data."""
        digest = hashlib.sha256()
        for study_id in self.study_ids:
            digest.update(repr((study_id, sorted((s, v.value) for s, v in self.series.get(study_id, ())))).encode())
            points = [
                (p.series_id, p.instance_number, p.finding.column, p.x_px, p.y_px)
                for p in self.points.get(study_id, ())
            ]
            digest.update(repr(points).encode())
        if self.grades is not None:
            digest.update(self.grades.tobytes())
        return digest.hexdigest()

    def has_images(self, study_id: str) -> bool:
        """Whether the study has a folder."""
        if self.store is None:
            return (self.images / study_id).is_dir()
        return study_id in self.store.records[self.part] and self.store.study(self.part, study_id).exists

    def grades_of(self, study_ids: tuple[str, ...] | list[str]) -> np.ndarray:  # [n, 25]
        """Grades in the order of the given studies, -1 where missing."""
        if self.grades is None:
            raise InputError(f"{self.root}: {self.part}.csv is missing, so there are no grades to use")
        index = {s: i for i, s in enumerate(self.study_ids)}
        unknown = [s for s in study_ids if s not in index]
        if unknown:
            raise InputError(f"study {unknown[0]} is not in {self.root / f'{self.part}.csv'}")
        return self.grades[[index[s] for s in study_ids]]

    def load_study(self, study_id: str) -> LoadedStudy:
        """Reads the headers of one study. Unreadable files and empty series become problems and do not raise.

        Raises:
          InputError: when this part has no image folder, or a prepared store is damaged.
        """
        if self.store is None and not self.images.is_dir():
            raise InputError(f"{self.images}: no such folder; expected <study>/<series>/<instance>.dcm below it")
        readings_of = self._reader(study_id)
        problems: list[str] = []
        series = []
        contents: dict[str, Content] = {}
        for series_id, view in self.series.get(study_id, ()):
            where, slices, errors = f"study {study_id} series {series_id}", list[Slice](), list[InputError]()
            readings = readings_of(series_id)
            for path, header in readings:
                if isinstance(header, InputError):
                    errors.append(header)
                    continue
                item = header.to_slice()
                # The challenge's coordinates name slices by file name, which is its instance number.
                number = number_of(path)
                slices.append(item if number is None else replace(item, instance_number=number))
            problems += folded(where, errors, f"of {counted(len(readings), 'file')} cannot be used")
            contents[series_id] = frozenset((h.series_uid, h.plane) for _, h in readings if isinstance(h, Header))
            if slices:
                ordered = order_slices(slices, view)
                numbered = number_uniquely(ordered)
                if numbered is not ordered:
                    problems.append(f"{where}: {REPEATED_NUMBERS}")
                series.append(Series(series_id=series_id, view=view, slices=numbered))
            else:
                folder = name_of(self.images / study_id / series_id)
                problems.append(f"{where} ({view.value}): no readable slice in {folder}")
        lost = {view for _, view in self.series.get(study_id, ())} - {s.view for s in series}
        study = Study(study_id=study_id, series=tuple(series), unreadable=frozenset(lost))
        return LoadedStudy(study=study, problems=(*problems, *contradictions(study, contents)))

    def _reader(self, study_id: str) -> Callable[[str], list[HeaderReading]]:
        """Series id -> the headers of its files."""
        if self.store is None or study_id not in self.series:
            return lambda series_id: read_headers(series_files(self.images / study_id / series_id))
        record = self.store.study(self.part, study_id)
        unknown = [s for s, _ in self.series[study_id] if s not in record.series]
        if unknown:
            raise InputError(
                f"{self.root}: study {study_id} was prepared without its series {unknown[0]}, so a table was changed "
                "since; run `lumbar prepare` again with --resume"
            )
        return record.of_series


def listed_parts(root: Path) -> tuple[Part, ...]:
    """Parts that have series descriptions, training first; none for a plain folder.

    Raises:
      InputError: when there are image folders but no tables.
    """
    parts = tuple(part for part in PARTS if (root / f"{part}_series_descriptions.csv").is_file())
    images = [root / f"{part}_images" for part in PARTS if (root / f"{part}_images").is_dir()]
    if images and not parts:
        raise InputError(
            f"{root}: has images but no *_series_descriptions.csv; restore it from the challenge's archive, or name "
            f"{images[-1]} to read it as a plain folder of DICOM files"
        )
    return parts


def table_columns(part: Part) -> dict[str, tuple[str, ...]]:
    """File name of each table of a part -> the columns that are read of it."""
    tables = {
        f"{part}_series_descriptions.csv": _SERIES,
        f"{part}.csv": _GRADES,
        f"{part}_label_coordinates.csv": _POINTS,
        **({"sample_submission.csv": _SUBMISSION} if part == "test" else {}),
    }
    return {name: tuple(columns) for name, columns in tables.items()}


def number_of(path: Path) -> int | None:
    """The instance number in a file's name, by which the tables name slices; None for any other name."""
    return int(path.stem) if path.stem.isdecimal() and len(path.stem) < 10 else None


def series_files(folder: Path) -> list[Path]:
    """The DICOM files of one series in a challenge directory; empty without the folder."""
    return sorted(filter(is_slice_file, folder.iterdir())) if folder.is_dir() else []


def is_slice_file(path: Path) -> bool:
    """Whether a challenge directory calls a file a slice: by its suffix, which some copies write in capitals."""
    return path.suffix.lower() == ".dcm"


def read_grades(path: Path) -> dict[str, np.ndarray]:
    """Reads a table like `train.csv`: study id -> [25] severity values, -1 where empty. Raises `InputError`."""
    table = read_csv(path, _GRADES)
    values = np.full((len(table), len(FINDINGS)), MISSING, np.int8)
    for finding in FINDINGS:
        codes = _read_each(path, table[finding.column], Severity.from_text)
        values[:, finding.index] = table[finding.column].map(codes).fillna(MISSING).astype(np.int8)
    grades: dict[str, np.ndarray] = {}
    for line, study_id, row in zip(table.index, table["study_id"], values, strict=True):
        if not np.array_equal(grades.setdefault(str(study_id), row), row):
            raise InputError(
                f"{path} line {line}: study {study_id} is listed twice, with other grades; keep the right row"
            )
    return grades


def _read_each(path: Path, cells: pd.Series, read: Callable[[str], T]) -> dict[str, T]:
    """Distinct value of a column -> what it means; empty cells are left out. Raises `InputError` naming the line."""
    meanings: dict[str, T] = {}
    for value in cells.dropna().unique():
        try:
            meanings[value] = read(value)
        except InputError as error:
            raise InputError(f"{path} line {cells.index[cells.eq(value)][0]}: {cells.name}: {error}") from error
    return meanings


def write_grades(path: Path, grades: Mapping[str, np.ndarray]) -> None:
    """Writes grades as `read_grades` reads them."""
    rows = [
        [s, *(Severity(int(row[f.index])).display if row[f.index] >= 0 else "" for f in FINDINGS)]
        for s, row in grades.items()
    ]
    write_csv(path, pd.DataFrame(rows, columns=["study_id", *(f.column for f in FINDINGS)]))


def read_points(path: Path) -> dict[str, tuple[Point, ...]]:
    """Reads `*_label_coordinates.csv`, grouped by study in file order; rows that repeat another one are left out.

    Raises:
      InputError: for a missing file or column, or a row that breaks a rule.
    """
    table = read_csv(path, _POINTS).drop_duplicates()
    for column in ("x", "y"):
        if table[column].isna().any():
            raise cell_error(path, table.index[table[column].isna()][0], column, "", "a pixel coordinate")
    # The pair of words, not each word, names a finding.
    words = table["condition"].fillna("").str.cat(table["level"].fillna(""), sep="|").rename("condition and level")
    findings = _read_each(path, words, lambda text: Finding.from_display(*text.split("|", 1)))
    points: dict[str, list[Point]] = {}
    rows = zip(*(table[c].tolist() for c in _POINTS if c not in ("condition", "level")), words.tolist(), strict=True)
    for study_id, series_id, number, x, y, word in rows:
        point = Point(
            study_id=study_id, series_id=series_id, instance_number=number, finding=findings[word], x_px=x, y_px=y
        )  # fmt: skip
        points.setdefault(study_id, []).append(point)
    return {s: tuple(p) for s, p in points.items()}


def _read_series(path: Path) -> dict[str, tuple[tuple[str, View], ...]]:
    table = read_csv(path, _SERIES, hint="is this the challenge's directory?").fillna({"series_description": ""})
    views = _read_each(path, table["series_description"], View.from_text)
    series: dict[str, dict[str, View]] = {}
    for line, study_id, series_id, description in table.itertuples(name=None):
        of_study, view = series.setdefault(study_id, {}), views[description]
        if of_study.setdefault(series_id, view) is not view:
            raise InputError(
                f"{path} line {line}: study {study_id} series {series_id} is listed twice, as {of_study[series_id]} "
                f"and {view}; keep the right row"
            )
    return {s: tuple(v.items()) for s, v in series.items()}


def _read_row_ids(path: Path) -> tuple[str, ...]:
    table = read_csv(path, _SUBMISSION)
    rows: dict[str, int] = {}
    for line, text in table["row_id"].fillna("").to_frame().itertuples(name=None):
        try:
            study_id, finding = parse_row_id(text)
        except InputError as error:
            raise InputError(f"{path} line {line}: {error}") from error
        row_id = finding.row_id(check_identifier(f"{path} line {line}: study id", study_id))
        if rows.setdefault(row_id, line) != line:
            raise InputError(f"{path} line {line}: {row_id} is listed twice, first in line {rows[row_id]}")
    return tuple(rows)


def _check_same_ids(
    kind: str, listed: tuple[Path, Collection[str]], named: tuple[Path, Collection[str]], *, overlap: bool = True
) -> None:
    """Refuses tables that spell one id in two ways, which would make two studies of one.

    Args:
      kind: "study" or "series".
      listed: the series descriptions and their ids.
      named: another table and its ids.
      overlap: whether the two must have an id in common.
    """
    (first, ids), (second, others) = listed, named
    alone = {_plain(i): i for i in set(ids) - set(others)}
    for other in sorted(set(others) - set(ids)):
        if _plain(other) in alone:
            raise InputError(
                f"{second}: {kind} {other!r} is written {alone[_plain(other)]!r} in {first.name}; expected one "
                "spelling in all tables, write it as the folder is named"
            )
    if overlap and ids and others and not set(ids) & set(others):
        raise InputError(
            f"{second}: names no {kind} of {first.name}, for example {min(others)!r} and {min(ids)!r}; are the two "
            "files of one data set?"
        )


def _plain(identifier: str) -> str:
    """What the spellings of an id have in common: no case, no groups of digits, no leading zeros."""
    text = identifier.casefold()
    text = text.replace(".", "") if _GROUPED.fullmatch(text) else text
    return text.lstrip("0") if text.isdigit() else text
