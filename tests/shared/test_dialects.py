"""Tables in the dialects of spreadsheets and data frames: the same values, or one message that names the cell."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.data.challenge import Challenge, read_grades, read_points
from shared.labels import FINDINGS, Finding, Level, Severity, View
from shared.runtime.errors import InputError
from shared.runtime.tables import Kind, read_csv
from shared.splits import read_splits

quick = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
KINDS: dict[str, Kind] = {
    "study_id": "id", "series_id": "id", "words": "string", "number": "int64", "x_px": "float64",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How some program writes a table."""

    encoding: str
    separator: str
    newline: str
    decimal: str
    quoting: Literal[0, 1]
    header: Callable[[str], str]
    blanks: str
    index: bool
    extra: bool
    tail: str

    def write(self, path: Path, table: pd.DataFrame) -> None:
        table = table.copy()
        if self.extra:
            table.insert(1, "Remarks of the reader", 'née "x"; y,z' if self.encoding != "latin-1" else "née")
        text = table.rename(columns=self.header).map(
            lambda v: str(v).replace(".", self.decimal) if isinstance(v, float) else f"{self.blanks}{v}{self.blanks}"
        )
        written = text.to_csv(sep=self.separator, index=self.index, quoting=self.quoting, lineterminator=self.newline)
        path.write_bytes((written + self.tail.replace("\n", self.newline)).encode(self.encoding))


dialects = st.builds(
    Dialect,
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "latin-1"]),
    separator=st.sampled_from([",", ";", "\t"]),
    newline=st.sampled_from(["\n", "\r\n", "\r"]),
    decimal=st.sampled_from([".", ","]),
    quoting=st.sampled_from([0, 1]),
    header=st.sampled_from([str, str.upper, str.title, " {} ".format, lambda name: name.replace("_", " ").title()]),
    blanks=st.sampled_from(["", " "]),
    index=st.booleans(),
    extra=st.booleans(),
    tail=st.sampled_from(["", "\n", "\n \n"]),
)
# A leading zero makes every decimal sign certain.
rows = st.lists(
    st.tuples(
        st.from_regex(r"0{0,2}[1-9][0-9]{0,11}", fullmatch=True),
        st.from_regex(r"1(\.[1-9][0-9]{0,3}){3,6}|[A-Za-z][0-9A-Za-z_-]{0,8}x", fullmatch=True),
        st.sampled_from(["Sagittal T2/STIR", "Normal/Mild", "two words"]),
        st.integers(-(10**6), 10**6),
        st.floats(-1000, 1000).map(lambda v: round(v, 4)),
    ),
    min_size=1,
    max_size=5,
).map(lambda some: [*some, ("1", "a", "b", 1, 0.25)])


@quick
@given(dialects, rows)
def test_every_dialect_gives_the_same_values(tmp_path: Path, dialect: Dialect, rows: list[tuple[object, ...]]) -> None:
    wanted = pd.DataFrame(rows, columns=list(KINDS))
    dialect.write(tmp_path / "t.csv", wanted)
    table = read_csv(tmp_path / "t.csv", KINDS)
    assert list(table.columns) == list(KINDS)
    assert list(table.index) == list(range(2, len(rows) + 2))
    for name in KINDS:
        assert table[name].tolist() == wanted[name].tolist(), name


@quick
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
def test_numbers_are_those_that_pandas_reads(tmp_path: Path, numbers: list[float]) -> None:
    """Fingerprints of data sets rest on the last bit."""
    pd.DataFrame({"x": numbers, "y": "0"}).to_csv(tmp_path / "t.csv", index=False)
    expected = pd.read_csv(tmp_path / "t.csv")["x"].astype("float64")
    assert read_csv(tmp_path / "t.csv", {"x": "float64"})["x"].tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,x\n7.0,1\n", r"line 2: id '7.0' is a decimal number"),
        ("id,x\n1.0E+09,1\n", "is a rounded number"),
        ("id,x\n1E+09,1\n", "is a rounded number"),
        ('id,x\n"4,003,253",1\n', "is not an identifier"),
        ("id,x\n7,1\n,2\n", "line 3: id is empty"),
        ("id,x\n7,1.5\n\n8,x\n", "line 4: x is 'x'; expected a number"),
        ("id,x\n7,1e999\n", "expected a number"),
        ('id,x\n7,"1,234.5"\n', "separators of thousands"),
        ('id,x\n7,"1,234,567"\n', "separators of thousands"),
        ("id;x\n7;1.234,5\n", "separators of thousands"),
        ("id;x\n7;1,234\n8;2,500\n", "may be 1234 or 1.234"),
        ("id;x\n7;0,25\n8;2.5\n", r"line 2: x is '0,25', and line 3 has '2.5'; expected one decimal sign"),
        ("id,X,x \n7,1,2\n", "'X' and 'x' may both be x"),
        ("id,x,x\n7,1,2\n", "may both be x"),
        ("id|x\n7|1\n", "column 'id' is missing"),
        ("id,x\n7,1\n8\n", "line 3: has 1 cells; expected 2.*cut off"),
        ("id,x\n7,1,5\n", "cannot be read as CSV"),
        ('id,x\n7,"1\n', "cannot be read as CSV"),
        ("", r"is empty; expected columns \['id', 'x'\]"),
        ("PK\3\4\0\0", "is a spreadsheet or an archive"),
    ],
)
def test_what_has_no_single_reading_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_csv(tmp_path / "t.csv", {"id": "id", "x": "float64"})
    assert str(caught.value).startswith(f"{tmp_path / 't.csv'}")


@pytest.mark.parametrize(("text", "number"), [("3", 3), ("3.0", 3), ("-3,00", -3)])
def test_whole_numbers(tmp_path: Path, text: str, number: int) -> None:
    (tmp_path / "t.csv").write_text(f"id;n\n7;{text}\n")
    assert read_csv(tmp_path / "t.csv", {"n": "int64"})["n"].tolist() == [number]
    for bad in ("3.5", "3.000", "1,234", "", "1e3", "three"):
        (tmp_path / "t.csv").write_text(f"id;n\n7;{bad}\n")
        with pytest.raises(InputError, match=r"line 2: n is .*; expected a whole number"):
            read_csv(tmp_path / "t.csv", {"n": "int64"})


cases = st.sampled_from([str, str.lower, str.upper, str.title])


@given(st.sampled_from(FINDINGS), cases, st.sampled_from([" ", "_", "-", "  "]), st.sampled_from("/-_ "))
def test_words_in_any_usual_spelling(finding: Finding, case: Callable[[str], str], blank: str, slash: str) -> None:
    condition = case(finding.condition_display).replace(" ", blank)
    level = case(finding.level.display).replace("/", slash)
    assert Finding.from_display(condition, level) is finding
    assert Severity.from_text(case("Normal / Mild")) is Severity.NORMAL_MILD
    assert all(View.from_text(case(view.value)) is view for view in View)


@pytest.mark.parametrize("text", ["L5/1", "L4/L6", "L3/L5", "4/5", "L45", "", "L4/L5/S1"])
def test_levels_that_are_none(text: str) -> None:
    with pytest.raises(InputError, match="unknown level"):
        Level.from_text(text)
    assert Level.from_text("L4/5") is Level.L4_L5


def write_tables(root: Path, *, series_study: str = "{}", points_study: str = "{}") -> Path:
    """Three studies without images; the templates say how a table spells the ids."""
    root.mkdir()
    ids = ["1001", "1002", "1003"]
    grades = pd.DataFrame({"study_id": ids} | {f.column: "Normal/Mild" for f in FINDINGS})
    grades.to_csv(root / "train.csv", index=False)
    series = [(series_study.format(s), f"{s}{n}", view.value) for s in ids for n, view in enumerate(View)]
    columns = ["study_id", "series_id", "series_description"]
    pd.DataFrame(series, columns=columns).to_csv(root / "train_series_descriptions.csv", index=False)
    points = [(points_study.format(s), f"{s}1", 3, "Spinal Canal Stenosis", "L1/L2", 1.5, 2.5) for s in ids]
    columns = ["study_id", "series_id", "instance_number", "condition", "level", "x", "y"]
    pd.DataFrame(points, columns=columns).to_csv(root / "train_label_coordinates.csv", index=False)
    return root


@pytest.mark.parametrize(
    ("spelling", "message"),
    [
        ("{}.0", "decimal number"),
        ("{}e+09", "rounded number"),
        ("00{}", "'1001' is written '001001' in train_series_descriptions.csv"),
        ("x{}", "names no study of"),
    ],
)
def test_no_study_is_invented(tmp_path: Path, spelling: str, message: str) -> None:
    assert len(Challenge.open(write_tables(tmp_path / "right")).study_ids) == 3
    with pytest.raises(InputError, match=message):
        Challenge.open(write_tables(tmp_path / "series", series_study=spelling))
    with pytest.raises(InputError, match=r"decimal number|rounded number|is written|names no study of"):
        Challenge.open(write_tables(tmp_path / "points", points_study=spelling))


def test_blanks_quotes_and_zeros_of_ids(tmp_path: Path) -> None:
    root = write_tables(tmp_path / "data", series_study=" {} ")
    path = root / "train.csv"
    path.write_text(path.read_text().replace("1001", '" 1001 "'))
    assert Challenge.open(root).study_ids == ("1001", "1002", "1003")
    zeros = write_tables(tmp_path / "zeros", series_study="00{}", points_study="00{}")
    path = zeros / "train.csv"
    path.write_text(path.read_text().replace("\n100", "\n00100"))
    assert Challenge.open(zeros).study_ids == ("001001", "001002", "001003")


def test_repeated_rows(tmp_path: Path) -> None:
    root = write_tables(tmp_path / "data")
    once = Challenge.open(root).fingerprint
    for path in root.glob("*.csv"):
        lines = path.read_text().splitlines()
        path.write_text("\n".join([*lines, lines[-1]]))
    assert Challenge.open(root).fingerprint == once
    path = root / "train.csv"
    path.write_text(path.read_text().rpartition("Normal/Mild")[0] + "severe")
    with pytest.raises(InputError, match="line 5: study 1003 is listed twice, with other grades"):
        read_grades(path)
    path = root / "train_series_descriptions.csv"
    path.write_text(path.read_text().strip().rpartition("Axial T2")[0] + "Sagittal T1")
    with pytest.raises(InputError, match="listed twice, as Axial T2 and Sagittal T1"):
        Challenge.open(root)


def test_a_table_from_a_european_spreadsheet(tmp_path: Path) -> None:
    root = write_tables(tmp_path / "data")
    path = root / "train_label_coordinates.csv"
    before = read_points(path)
    path.write_text(
        path.read_text()
        .replace(".", ";")
        .replace(",", "|")
        .replace(";", ",")
        .replace("|", ";")
        .replace("L1/L2", "L1-L2"),
        encoding="utf-16",
    )
    assert read_points(path) == before


@pytest.mark.parametrize(
    ("folds", "message"),
    [
        ('[["1.0"], ["2"]]', "fold 0: study id '1.0' is a decimal number"),
        ("[[1.0], [2]]", "fold 0: study id '1.0' is a decimal number"),
        ('["12", "34"]', r"folds\.0: expected a list, got '12'"),
        ("[[true], [2]]", r"folds\.0\.0\.str: expected a string, got true"),
        ('[[1, "1 "], [2]]', "more than one fold|listed twice|held out by"),
    ],
)
def test_splits_that_are_none(tmp_path: Path, folds: str, message: str) -> None:
    path = tmp_path / "s.json"
    path.write_text(f'{{"version": 1, "seed": 0, "folds": {folds}}}')
    with pytest.raises(InputError, match=message):
        read_splits(path)
    path.write_text('{"version": 1, "seed": 0, "folds": [[1, " 3"], ["2"]]}', encoding="utf-8-sig")
    assert read_splits(path).folds == (("1", "3"), ("2",))


def test_infinite_and_missing_numbers(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id,x\n7,NA\n8, \n")
    assert np.isnan(read_csv(tmp_path / "t.csv", {"x": "float64"})["x"]).all()
    (tmp_path / "t.csv").write_text("id,x\n7,inf\n")
    with pytest.raises(InputError, match="x is 'inf'"):
        read_csv(tmp_path / "t.csv", {"x": "float64"})
