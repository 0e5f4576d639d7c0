"""Joins the tables of shards line by line: the lines stay as they are, and the memory that it takes does not grow."""

import csv
import heapq
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path
from typing import IO, Any, Final

from shared.runtime.errors import InputError, quoted
from shared.runtime.files import written_beside

# A line of ours holds some numbers and at most a few messages.
_LONGEST_LINE: Final = 1 << 16
_AGAIN: Final = "was it changed? Predict the shard again with --overwrite"

# The lines of one study, with its id.
Group = tuple[str, list[str]]


class Table:
    """A table of one shard, which is read once, study by study."""

    def __init__(self, path: Path, files: ExitStack) -> None:
        if path.is_symlink() or not path.is_file():
            raise InputError(f"{path}: no such file; {_AGAIN}")
        self.path = path
        self._file: IO[str] = files.enter_context(
            path.open(encoding="utf-8", errors="surrogateescape", newline="\n")
        )  # fmt: skip
        self.header = self._line()

    def lines(self) -> Iterator[str]:
        """All lines below the header."""
        while line := self._line():
            yield line

    def groups(self) -> Iterator[Group]:
        """Studies with their lines."""
        for study_id, lines in groupby(self.lines(), key=self.first):
            yield study_id, list(lines)

    def first(self, line: str) -> str:
        """The first cell of a line."""
        if not line.startswith('"'):
            return line.partition(",")[0]
        try:
            return next(csv.reader([line], strict=True))[0]
        except (csv.Error, StopIteration) as error:
            raise InputError(f"{self.path}: {quoted(line)} is no line of a table; {_AGAIN}") from error

    def _line(self) -> str:
        line = self._file.readline(_LONGEST_LINE)
        if line and not line.endswith("\n"):
            raise InputError(f"{self.path}: ends within a line, or holds a very long one; {_AGAIN}")
        return line


def join_in_order(out: Path, tables: Sequence[Table], order: Iterable[tuple[int, str]], *, lines_each: int) -> None:
    """Writes the lines of studies in their order.

    Args:
      order: the shard of each study, counted from 0, and the study.
      lines_each: how many lines every study has; 0 for any number, none included.
    """
    groups = [table.groups() for table in tables]
    due: list[Group | None] = [next(of_shard, None) for of_shard in groups]

    def joined() -> Iterator[str]:
        for shard, study_id in order:
            group = due[shard]
            if group is not None and group[0] == study_id:
                _check_count(tables[shard], group, lines_each)
                yield from group[1]
                due[shard] = next(groups[shard], None)
            elif lines_each:
                raise InputError(f"{tables[shard].path}: study {study_id} is missing, or not in its place; {_AGAIN}")
        left = next((n for n, group in enumerate(due) if group is not None), None)
        if left is not None:
            raise InputError(f"{tables[left].path}: holds studies that are none of its shard; {_AGAIN}")

    _write(out, tables, joined())


def _check_count(table: Table, group: Group, lines_each: int) -> None:
    if lines_each and len(group[1]) != lines_each:
        raise InputError(
            f"{table.path}: study {group[0]} has {len(group[1])} lines, expected {lines_each}; {_AGAIN}"
        )  # fmt: skip


def join_sorted(out: Path, tables: Sequence[Table]) -> None:
    """Writes the lines of tables that are sorted by study."""
    merged = heapq.merge(*(table.groups() for table in tables), key=lambda group: group[0])
    _write(out, tables, (line for _, lines in merged for line in lines))


def join_submission(out: Path, tables: Sequence[Table], places: Mapping[str, Iterable[int]]) -> None:
    """Writes submission.csv: first the rows of the sample submission in its order, then all others by row_id.

    Args:
      places: study -> places of its rows in the sample submission.

    Raises:
      InputError: when two shards hold the same row.
    """
    # A shard lists its rows of the sample in the sample's order too.
    left = {study_id: deque(sorted(of_study)) for study_id, of_study in places.items()}

    def keyed(table: Table) -> Iterator[tuple[tuple[int, int, str], str]]:
        for line in table.lines():
            row_id = table.first(line)
            study_places = left.get(study_of(row_id))
            yield ((0, study_places.popleft(), "") if study_places else (1, 0, row_id)), line

    def joined() -> Iterator[str]:
        last: Any = None
        for key, line in heapq.merge(*map(keyed, tables), key=lambda item: item[0]):
            if key == last:
                raise InputError(f"{out}: two shards hold the same row; merge each study once")
            last = key
            yield line

    _write(out, tables, joined())


def study_of(row_id: str) -> str:
    """The study of a row."""
    from shared.labels import parse_row_id

    return parse_row_id(row_id)[0]


def _write(out: Path, tables: Sequence[Table], lines: Iterable[str]) -> None:
    other = next((table for table in tables if table.header != tables[0].header), None)
    if other is not None:
        raise InputError(f"{other.path}: has other columns than {tables[0].path}; {_AGAIN}")
    with (
        written_beside(out) as temporary,
        temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="\n") as file,
    ):
        file.write(tables[0].header)
        file.writelines(lines)


def opened(shards: Sequence[Path], name: str, files: ExitStack) -> list[Table]:
    """The table of this name of each shard."""
    return [Table(shard / name, files) for shard in shards]
