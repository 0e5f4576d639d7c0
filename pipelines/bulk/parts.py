"""What `lumbar merge` was given: folders that must be all shards of one command, each once, and finished."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from shared.runtime.bulk.shards import Shard
from shared.runtime.errors import InputError
from shared.runtime.problems import counted

_LISTED: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One folder.

    Attributes:
      facts: what all shards have in common, by the names under which a refusal mentions them.
      finished: whether its command has ended.
    """

    folder: Path
    command: str
    shard: Shard
    facts: Mapping[str, Any]
    finished: bool


def all_parts(folders: Sequence[Path], read: Callable[[Path], Part]) -> list[Part]:
    """The parts in the order of their numbers.

    Raises:
      InputError: when one is unfinished, missing or there twice, or when they are not of one command on one input.
    """
    parts = [read(folder) for folder in folders]
    first = parts[0]
    unfinished = next((part for part in parts if not part.finished), None)
    if unfinished is not None:
        raise InputError(
            f"{unfinished.folder}: shard {unfinished.shard} is unfinished; go on with its command and --resume"
        )
    for part in parts:
        _check_alike(first, part)
    by_number: dict[int, Part] = {}
    for part in parts:
        other = by_number.setdefault(part.shard.number, part)
        if other is not part:
            raise InputError(f"{other.folder} and {part.folder} are both shard {part.shard}; give each shard once")
    missing = [n for n in range(1, first.shard.of + 1) if n not in by_number]
    if missing:
        named = ", ".join(map(str, missing[:_LISTED])) + (", ..." if len(missing) > _LISTED else "")
        raise InputError(
            f"{counted(len(missing), 'shard')} of {first.shard.of} missing: {named}; make them with `lumbar "
            f"{first.command} ... --shard K/{first.shard.of}` and give all"
        )
    return [by_number[n] for n in sorted(by_number)]


def _check_alike(first: Part, part: Part) -> None:
    if part.command != first.command:
        raise InputError(
            f"{part.folder} is a shard of `lumbar {part.command}`, {first.folder} of `lumbar {first.command}`; merge "
            "the shards of one command"
        )
    if part.shard.of != first.shard.of:
        raise InputError(
            f"{part.folder} is shard {part.shard}, {first.folder} is shard {first.shard}; merge shards of one number"
        )
    names = [name for name in (*first.facts, *part.facts) if first.facts.get(name) != part.facts.get(name)]
    if names:
        differing = " and ".join(dict.fromkeys(names))
        raise InputError(
            f"{part.folder}: was made with other {differing} than {first.folder}; make all shards with one command "
            "that differs in --shard alone"
        )
