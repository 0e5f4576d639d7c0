"""Reads CSV tables as people have them, where only one reading is possible; everything else is refused.

UTF-8 with or without a mark, UTF-16 with one; commas, semicolons or tabs between the cells; decimal points or commas;
any case, blanks and order of the column names; further columns; blanks around values; empty lines.
"""

import csv
import io
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from shared.runtime.documents import file_bytes
from shared.runtime.errors import InputError, first_line, quoted

if TYPE_CHECKING:
    import pandas as pd

# What a column holds; `id` is text that is safe as the name of a folder.
Kind = Literal["string", "id", "int64", "float64"]

IDENTIFIER: Final = re.compile(r"(?!\.+$)[0-9A-Za-z._-]{1,64}")
# An id that was read as a float and written back, and one whose last digits a spreadsheet has dropped.
_FLOAT_ID: Final = re.compile(r"[0-9]+\.0+")
_ROUNDED_ID: Final = re.compile(r"[0-9]+(\.[0-9]+)?[eE][+-][0-9]+|[0-9]+\.[0-9]+[eE][0-9]+")
_SEPARATORS: Final = (",", ";", "\t")
_MOST_BYTES: Final = 256 << 20  # the challenge's largest table has 4 MB
_LONGEST_HEADER: Final = 100_000
_MOST_COLUMNS: Final = 1000
_MOST_NAMED: Final = 30
# Empty cells as pandas, R, databases and spreadsheets write them, in lower case.
_EMPTY: Final = ("", "na", "n/a", "#n/a", "<na>", "nan", "null", "none")
_LONGEST_EMPTY: Final = max(map(len, _EMPTY))
_WHOLE: Final = re.compile(r"[+-]?[0-9]{1,15}([.,]0{1,2})?")  # 3.000 may be three thousand
_COMMA: Final = re.compile(r"[+-]?([0-9]+,?[0-9]*|,[0-9]+)([eE][+-]?[0-9]+)?")
_PERHAPS_THOUSANDS: Final = re.compile(r"[+-]?[1-9][0-9]{0,2},[0-9]{3}")
_LINES_BEFORE: Final = re.compile(r"(?:[^\S\n]*\n)*")
_NUMBER: Final = "a number like 12.5, without separators of thousands"


def read_csv(
    path: Path, columns: Mapping[str, Kind], *, optional: Mapping[str, Kind] | None = None, hint: str = ""
) -> "pd.DataFrame":
    """Reads the named columns; an absent optional column becomes all missing.

    Returns:
      The columns under the given names, in the given order; the index is the line in the file. Text has no blanks
      around it. An empty cell is missing.

    Raises:
      InputError: when the file is missing, unreadable or cut off, lacks a column, or when a cell does not hold what its
        column should or can be read in two ways. Cells of `string` and `float64` may be empty.
    """
    import pandas as pd  # here, so that processes that decode images need not load it

    text = _text(path, hint)
    start = _LINES_BEFORE.match(text).end()  # type: ignore[union-attr]  # it matches the empty string too
    separator, header = _header(path, text[start:], list(columns))
    wanted = dict(columns) | dict(optional or {})
    places = _places(path, header, wanted)
    missing = [name for name in columns if name not in places]
    if missing:
        raise InputError(f"{path}: column {missing[0]!r} is missing; expected {list(columns)}, got {_named(header)}")
    table = _cells(path, text[start:], separator, header)
    table.index += text[:start].count("\n") + 1
    table.index.name = "line"
    table = pd.DataFrame({name: table[place] for name, place in places.items()}, index=table.index)
    return _typed(path, table, wanted)


def cell_error(path: Path, line: int, column: str, value: object, expected: str) -> InputError:
    """The error of one cell that does not hold what is expected."""
    text = str(value)
    shown = "empty" if text.casefold() in _EMPTY else quoted(text)
    return InputError(f"{path} line {line}: {column} is {shown}; expected {expected}")


def check_identifier(where: str, value: object) -> str:
    """Returns an id without the blanks around it.

    Args:
      where: what the message begins with.

    Raises:
      InputError: when it is not safe as the name of a folder, or was written as a decimal or a rounded number.
    """
    text = str(value).strip()
    if _FLOAT_ID.fullmatch(text):
        raise InputError(
            f"{where} {quoted(text)} is a decimal number; a spreadsheet or a data frame with empty cells wrote it "
            "so, restore the file or write the ids as whole numbers"
        )
    if _ROUNDED_ID.fullmatch(text):
        raise InputError(
            f"{where} {quoted(text)} is a rounded number; a spreadsheet dropped its last digits, restore the file"
        )
    if text.casefold() in _EMPTY:
        raise InputError(f"{where} is empty; expected an identifier, restore the file or delete the row")
    if not IDENTIFIER.fullmatch(text):
        raise InputError(
            f"{where} {quoted(text)} is not an identifier of letters, digits, '.', '_', '-'; write it as the "
            "folder is named"
        )
    return text


def only_columns(path: Path, wanted: Iterable[str]) -> bytes:
    """A table without the columns that nobody asked for, which may name patients; else as it is, byte for byte.

    Raises:
      InputError: when the file cannot be read as CSV.
    """
    names = list(wanted)
    text = _text(path, "")
    separator, header = _header(path, text, names)
    places = sorted(_places(path, header, names).values())
    if len(places) == len(header):
        return path.read_bytes()
    out = io.StringIO()
    writer = csv.writer(out, delimiter=separator, lineterminator="\n")
    try:
        for row in csv.reader(io.StringIO(text), delimiter=separator, skipinitialspace=True):
            writer.writerow([row[n] for n in places if n < len(row)])
    except csv.Error as error:
        raise InputError(f"{path}: cannot be read as CSV; expected columns {names}") from error
    return out.getvalue().encode()


def to_numbers(path: Path, texts: "pd.DataFrame", *, strict: bool = True) -> "pd.DataFrame":
    """Turns columns of text into numbers; all of them use one decimal sign.

    Args:
      texts: cells without blanks around them; missing where empty; the index is the line.
      strict: raise for a cell that is no finite number, instead of leaving it missing.

    Raises:
      InputError: for a cell that is no number, or when the decimal sign is not certain.
    """
    import pandas as pd

    def parsed(cells: "pd.DataFrame") -> "pd.DataFrame":
        read = {name: pd.to_numeric(cells[name], errors="coerce") for name in cells}
        numbers = pd.DataFrame(read, index=cells.index).astype("float64")
        return numbers.where(numbers.abs() < float("inf"))

    numbers = parsed(texts)
    bad = texts.notna() & numbers.isna()
    if not bad.to_numpy().any():
        return numbers
    commas = [cell for cell in _listed(texts.where(bad)) if _COMMA.fullmatch(cell[2])]
    if commas:
        _check_commas(path, texts, commas)
        numbers = numbers.where(~bad, parsed(texts.where(bad).replace(",", ".", regex=True)))
        # A second comma survives the replacement as a second point, which is no number.
        bad = texts.notna() & numbers.isna()
    for line, column, value in _listed(texts.where(bad)) if strict else ():
        raise cell_error(path, line, column, value, _NUMBER)
    return numbers


def _listed(cells: "pd.DataFrame") -> list[tuple[int, str, str]]:
    """Line, column and text of each cell that is not missing."""
    return [
        (line, column, text)
        for line, *texts in cells.itertuples(name=None)
        for column, text in zip(map(str, cells), texts, strict=True)
        if isinstance(text, str)
    ]


def _check_commas(path: Path, texts: "pd.DataFrame", commas: list[tuple[int, str, str]]) -> None:
    """Raises `InputError` where commas may separate thousands, or the table also has decimal points."""
    line, column, value = commas[0]
    for other, _, point in _listed(texts):
        if "." in point:
            raise InputError(
                f"{path} line {line}: {column} is {quoted(value)}, and line {other} has {quoted(point)}; expected one "
                "decimal sign, write all numbers with decimal points and no separators of thousands"
            )
    if all(_PERHAPS_THOUSANDS.fullmatch(text) for _, _, text in commas):
        raise InputError(
            f"{path} line {line}: {column} is {quoted(value)}, which may be {value.replace(',', '')} or "
            f"{value.replace(',', '.')}; write numbers with decimal points and no separators of thousands"
        )


def _text(path: Path, hint: str) -> str:
    """The decoded file, with line feeds alone between its lines."""
    content = file_bytes(path, what="CSV", most_bytes=_MOST_BYTES, advice=hint)
    try:
        marked = content.startswith((b"\xff\xfe", b"\xfe\xff"))
        text = content.decode("utf-16" if marked else "utf-8-sig")
    except UnicodeDecodeError:
        # Every valid value is ASCII. In a column that is not used, it does not matter what a byte means.
        text = content.decode("latin-1")
    if "\0" in text:
        what = "a spreadsheet or an archive" if content.startswith(b"PK") else "not text"
        raise InputError(f"{path}: is {what}; expected a table, save it as CSV in UTF-8")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _header(path: Path, text: str, required: list[str]) -> tuple[str, list[str]]:
    """The separator and the column names. The separator is the one that yields the most of the required columns."""
    first = text.partition("\n")[0]
    if not first.strip():
        raise InputError(f"{path}: is empty; expected columns {required}")
    if len(first) > _LONGEST_HEADER:
        raise InputError(
            f"{path}: its first line has {len(first)} characters; expected the names of its columns, {required}"
        )
    readings = {s: next(csv.reader([first], delimiter=s, skipinitialspace=True)) for s in _SEPARATORS}
    keys = {_key(name) for name in required}
    found = {s: len(keys & {_key(name) for name in header}) for s, header in readings.items()}
    if max(map(len, readings.values())) > _MOST_COLUMNS:
        raise InputError(f"{path}: has more than {_MOST_COLUMNS} columns; expected {required}")
    best = max(readings, key=lambda s: (found[s], len(readings[s])))
    rivals = [s for s in readings if found[s] == len(keys) and readings[s] != readings[best]]
    if rivals and found[best] == len(keys):
        raise InputError(f"{path}: may be separated by {best!r} or {rivals[0]!r}; expected columns {required} by one")
    return best, [name.strip() for name in readings[best]]


def _named(header: list[str]) -> str:
    """The beginning of a foreign list of column names, for a message."""
    shown = ", ".join(map(quoted, header[:_MOST_NAMED]))
    return f"[{shown}]" if len(header) <= _MOST_NAMED else f"[{shown} and {len(header) - _MOST_NAMED} more]"


def _key(name: str) -> str:
    """What spellings of a column's name have in common."""
    return "".join(c for c in name.casefold() if c.isalnum())


def _places(path: Path, header: list[str], wanted: Iterable[str]) -> dict[str, int]:
    """Wanted column -> its position in the header, for those that are there."""
    places: dict[str, int] = {}
    keys = [_key(given) for given in header]
    for name in wanted:
        key = _key(name)
        found = [n for n, given in enumerate(keys) if given == key]
        if len(found) > 1:
            raise InputError(
                f"{path}: columns {quoted(header[found[0]])} and {quoted(header[found[1]])} may both be {name}; delete "
                "or rename one"
            )
        if found:
            places[name] = found[0]
    return places


def _cells(path: Path, text: str, separator: str, header: list[str]) -> "pd.DataFrame":
    """All cells below the header as stripped text, missing where empty, without empty lines; columns are numbered."""
    import pandas as pd

    try:
        table = pd.read_csv(
            io.StringIO(text), sep=separator, header=None, dtype="string", keep_default_na=False, na_filter=False,
            skip_blank_lines=False, skipinitialspace=True,
        )  # fmt: skip
    except ValueError as error:
        raise InputError(f"{path}: cannot be read as CSV ({first_line(error)})") from error
    table = pd.DataFrame({name: _stripped(table[name].iloc[1:]) for name in table})
    table = table[table.notna().any(axis=1)]
    if table.shape[1] > 1 and table.iloc[:, -1].isna().any():
        _check_widths(path, text, separator, len(header))
    return table


def _stripped(cells: "pd.Series") -> "pd.Series":
    import pandas as pd

    # Plain Python is four times as fast here as the string methods of a series.
    stripped = [cell.strip() for cell in cells.tolist()]
    filled = [None if len(cell) <= _LONGEST_EMPTY and cell.casefold() in _EMPTY else cell for cell in stripped]
    return pd.Series(filled, index=cells.index, dtype="string")


def _check_widths(path: Path, text: str, separator: str, width: int) -> None:
    """Raises `InputError` for a row that ends before its last column, as in a file that was cut off."""
    rows = csv.reader(io.StringIO(text), delimiter=separator, skipinitialspace=True)
    try:
        for row in rows:
            if len(row) != width and any(cell.strip() for cell in row):
                raise InputError(
                    f"{path} line {rows.line_num}: has {len(row)} cells; expected {width} as in the header; is the "
                    "file cut off?"
                )
    except csv.Error as error:
        raise InputError(f"{path} line {rows.line_num}: cannot be read as CSV ({error})") from error


def _typed(path: Path, table: "pd.DataFrame", wanted: Mapping[str, Kind]) -> "pd.DataFrame":
    """Columns of text turned into what they should hold; absent ones are added."""
    import pandas as pd

    there = [name for name in wanted if name in table]
    floats = [name for name in there if wanted[name] == "float64"]
    if floats:
        table[floats] = to_numbers(path, table[floats])
    for name in [name for name in there if wanted[name] == "id"]:
        for value in table[name].fillna("").unique().tolist():
            if not (value.isascii() and value.isdigit() and len(value) <= 64):
                line = table.index[table[name].fillna("").eq(value)][0]
                check_identifier(f"{path} line {line}: {name}", value)
    for name in [name for name in there if wanted[name] == "int64"]:
        table[name] = _whole(path, table[name])
    for name in [name for name in wanted if name not in there]:
        empty = pd.Series(pd.NA, index=table.index, dtype="string")
        table[name] = empty.astype("float64") if wanted[name] == "float64" else empty
    return table[list(wanted)]


def _whole(path: Path, cells: "pd.Series") -> "pd.Series":
    import pandas as pd

    numbers = []
    for line, text in zip(cells.index.tolist(), cells.fillna("").tolist(), strict=True):
        if not _WHOLE.fullmatch(text):
            raise cell_error(path, line, str(cells.name), text, "a whole number")
        numbers.append(int(text.replace(",", ".").partition(".")[0]))
    return pd.Series(numbers, index=cells.index, dtype="int64")
