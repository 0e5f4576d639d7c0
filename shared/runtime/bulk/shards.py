"""Shards: equal parts of one work, each done by a command of its own, on any machine and at any time."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Final, Self, TypeVar

from shared.runtime.errors import InputError, quoted

T = TypeVar("T")

MOST_SHARDS: Final = 100_000
_FORM: Final = re.compile(r"([1-9][0-9]{0,5})/([1-9][0-9]{0,5})")
_GAP: Final[Any] = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One of `of` shards, counted from 1. It takes every `of`-th item, so that all shards take about equally long.

    Raises:
      InputError: when there is no such shard.
    """

    number: int
    of: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.of <= MOST_SHARDS:
            raise InputError(
                f"shard {self.number}/{self.of}: expected K/N with K from 1 to N, and N at most {MOST_SHARDS}"
            )

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Reads "3/16"; raises `InputError` for anything else."""
        found = _FORM.fullmatch(text)
        if found is None:
            raise InputError(f"expected K/N, such as 3/16, got {quoted(text)}")
        return cls(number=int(found[1]), of=int(found[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def share(self, items: Sequence[T]) -> list[T]:
        """The items of this shard, in their order."""
        return list(items[self.number - 1 :: self.of])


def whole(parts: Iterable[Iterable[T]]) -> Iterator[T]:
    """The items of all shards, 1 to N, in the order that they had before they were shared out.

    Raises:
      ValueError: when the parts are not the shares of one sequence, because one is too long or too short.
    """
    ended = False
    for row in zip_longest(*parts, fillvalue=_GAP):
        for item in row:
            if ended and item is not _GAP:
                raise ValueError("a shard holds more or fewer items than its share")
            ended = ended or item is _GAP
            if not ended:
                yield item
