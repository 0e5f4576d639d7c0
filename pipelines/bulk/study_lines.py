"""OUT/shard.jsonl: what a shard of a prediction leaves for `lumbar merge`, beside the files that every prediction has.

The first line says which shard it is. Each further line is one study, in the order of the prediction.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated, Final, TypeVar

from pydantic import Field, ValidationError

from pipelines.pages.index_page import StudyRow
from pipelines.result import StudyResult
from shared.data.source import Share
from shared.runtime.bulk.shards import MOST_SHARDS, Shard
from shared.runtime.documents import adapter_of, explained
from shared.runtime.errors import InputError
from shared.runtime.files import written_beside

SHARD_FILE: Final = "shard.jsonl"
_SCHEMA: Final = "shard-1"
_AGAIN: Final = "predict the shard again with --overwrite"
# Some hundred messages of one study.
_LONGEST_LINE: Final = 1 << 20

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardHead:
    """The first line.

    Attributes:
      number, of: the shard.
      studies: how many this shard has.
      total: how many all shards have.
    """

    schema: str
    number: Annotated[int, Field(ge=1, le=MOST_SHARDS)]
    of: Annotated[int, Field(ge=1, le=MOST_SHARDS)]
    studies: Annotated[int, Field(ge=0)]
    total: Annotated[int, Field(ge=0)]

    @property
    def shard(self) -> Shard:
        return Shard(number=self.number, of=self.of)


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyLine:
    """One study.

    Attributes:
      certain: whether its levels are surely named correctly.
      rows: places of its rows in the sample submission, ascending; empty where there is none.
      page: its row of the index; None without pages.
    """

    study_id: str
    certain: bool
    problems: tuple[str, ...]
    rows: tuple[int, ...]
    page: StudyRow | None


def write_study_lines(out: Path, share: Share, answered: Sequence[tuple[StudyResult, StudyRow | None]]) -> None:
    """Writes the file: each result, with its row of the index where there are pages."""
    shard = share.shard
    head = ShardHead(schema=_SCHEMA, number=shard.number, of=shard.of, studies=len(answered), total=share.studies)
    lines = (
        StudyLine(
            study_id=result.study_id, certain=result.numbering is None or result.numbering.certain,
            problems=result.problems, rows=share.rows[result.study_id], page=row,
        )
        for result, row in answered
    )  # fmt: skip
    with written_beside(out / SHARD_FILE) as temporary, temporary.open("w", encoding="utf-8") as file:
        for line in (head, *lines):
            file.write(json.dumps(adapter_of(type(line)).dump_python(line, mode="json")) + "\n")


@contextmanager
def study_lines(folder: Path) -> Iterator[tuple[ShardHead, Iterator[StudyLine]]]:
    """The first line and all others, which are read as they are asked for.

    Raises:
      InputError: when the file is missing or damaged.
    """
    path = folder / SHARD_FILE
    if path.is_symlink() or not path.is_file():
        raise InputError(f"{folder}: holds no {SHARD_FILE}; expected what `lumbar predict ... --shard K/N` wrote")
    with path.open(encoding="utf-8", errors="backslashreplace", newline="\n") as file:
        head = _read(path, 1, _line(file), ShardHead)
        if head.schema != _SCHEMA or head.number > head.of or head.studies > head.total:
            raise InputError(f"{path}: expected the file of a shard in format {_SCHEMA}; {_AGAIN}")
        yield head, _studies(path, file, head.studies)


def _studies(path: Path, file: IO[str], count: int) -> Iterator[StudyLine]:
    for number in range(2, count + 2):
        yield _read(path, number, _line(file), StudyLine)
    if file.read(1):
        raise InputError(f"{path}: holds more than {count} studies; {_AGAIN}")


def _line(file: IO[str]) -> str:
    return file.readline(_LONGEST_LINE)


def _read(path: Path, number: int, text: str, kind: type[T]) -> T:
    try:
        if not text.endswith("\n"):
            raise InputError(f"{path} line {number}: the file ends too early, or the line is too long; {_AGAIN}")
        line: T = adapter_of(kind).validate_json(text, strict=True)
    except ValidationError as error:
        raise InputError(f"{path} line {number}: {explained(error)}; {_AGAIN}") from error
    return line
