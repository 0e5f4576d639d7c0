"""Reads our own JSON and TOML files, which may have been damaged or made by somebody else: bounded, finite and typed.

A schema is a frozen model derived from `Document` (or any type that pydantic knows) and stands beside the writer of its
file. What does not fit is one `InputError` that names the file, the key, what was expected and what to do.
"""

import json
import math
import stat
import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from shared.runtime.errors import InputError, first_line, quoted

MOST_JSON_BYTES: Final = 64 << 20
MOST_TOML_BYTES: Final = 64 << 10
MOST_DEPTH: Final = 50
# The time that tomllib needs for a dotted key grows with the square of its length.
_MOST_TOML_LINE: Final = 2000
_INT64: Final = range(-(2**63), 2**63)
# What pydantic says, and what a user of ours would say.
_WORDS: Final = {
    "Value error, ": "", "Input should be": "expected", "a valid integer": "a whole number", "a valid array": "a list",
    "a valid dictionary": "an object", "a valid ": "a ",
}  # fmt: skip
_RESTORE: Final = "restore the file"

T = TypeVar("T")


class Document(BaseModel):
    """Base of the schemas: immutable; no value is converted to another type, infinite, or under an unknown key."""

    # A schema is built when it is first needed: no command reads every kind of file.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, defer_build=True)


class OpenDocument(Document):
    """Base of the schemas of files that hold more than is read back; keys that are not named here are ignored."""

    model_config = ConfigDict(extra="ignore")


def read_document(path: Path, schema: type[T], *, advice: str = _RESTORE, most_bytes: int = MOST_JSON_BYTES) -> T:
    """Reads a JSON file that must fit a schema.

    Args:
      schema: a `Document`, or another type that pydantic knows.
      advice: what a message tells the user to do.

    Raises:
      InputError: as `read_json`, and for a key that is missing, unknown, or holds what it should not.
    """
    text = json_text(path, advice=advice, most_bytes=most_bytes)
    parsed(path, text, advice=advice)
    return fitted(path, text, schema, advice=advice)


def read_json(path: Path, *, advice: str = _RESTORE, most_bytes: int = MOST_JSON_BYTES) -> Any:
    """Reads a JSON file of any content.

    Raises:
      InputError: when the file is missing, too large, nested too deeply or not JSON, repeats a key, or holds a number
        that is not finite or a whole number of more than 64 bits.
    """
    return parsed(path, json_text(path, advice=advice, most_bytes=most_bytes), advice=advice)


def fitted(path: Path, text: str, schema: type[T], *, advice: str = _RESTORE) -> T:
    """The value of a JSON text that must fit a schema; of a repeated key the last value counts.

    Raises:
      InputError: naming the first key that does not fit.
    """
    try:
        value: T = adapter_of(schema).validate_json(text)
    except ValidationError as error:
        raise InputError(f"{path}: {explained(error)}; {advice}") from error
    return value


def adapter_of(schema: Any) -> TypeAdapter[Any]:
    """What reads and writes a schema; made once, because that takes longer than to read a short text."""
    return _adapter(schema)


@cache
def _adapter(schema: Any) -> TypeAdapter[Any]:
    return TypeAdapter(schema)


def explained(error: ValidationError) -> str:
    """What is wrong with the first of the keys that do not fit, and how many more there are."""
    first, *others = error.errors(include_url=False)
    key = ".".join(quoted(str(part), marks=False) for part in first["loc"])
    wrong = {"missing": "is missing", "extra_forbidden": "is not a known key"}.get(first["type"], "")
    if not wrong:
        text = first["msg"]
        for theirs, ours in _WORDS.items():
            text = text.replace(theirs, ours)
        wrong = f"{first_line(ValueError(text))}, got {kind_of(first['input'])}"
    more = f" (and {len(others)} more)" if others else ""
    return f"{key}: {wrong}{more}" if key else f"{wrong}{more}"


def kind_of(value: object) -> str:
    """A foreign value for a message: a short text or number as it is, of all else the kind alone."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return f"{len(value)} keys"
    if isinstance(value, list | tuple | set | frozenset):
        return f"a list of {len(value)}"
    return quoted(value)


def read_toml(path: Path) -> dict[str, Any]:
    """Reads a TOML file.

    Raises:
      InputError: when the file is missing, too large, nested too deeply or not TOML, or holds a number that is not
        finite or a whole number of more than 64 bits.
    """
    content = file_bytes(path, what="TOML", most_bytes=MOST_TOML_BYTES)
    try:
        return parse_toml(content.decode())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read as TOML ({first_line(error)})") from error


def parse_toml(text: str) -> dict[str, Any]:
    """Raises `ValueError` or `RecursionError` for what `read_toml` refuses."""
    if len(text) > MOST_TOML_BYTES or any(len(line) > _MOST_TOML_LINE for line in text.splitlines()):
        raise ValueError(f"expected lines of at most {_MOST_TOML_LINE} characters")
    values = tomllib.loads(text)
    _check(values, ())
    return values


def file_bytes(path: Path, *, what: str, most_bytes: int, advice: str = "") -> bytes:
    """The content of a regular file.

    Args:
      what: what the file should be, for messages.

    Raises:
      InputError: when the file is missing, larger than `most_bytes` or cannot be read. A pipe or a device, which may
        never end, is refused unopened.
    """
    end = f"; {advice}" if advice else ""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise InputError(f"{path}: cannot be read as {what} (it is not a regular file){end}")
        with path.open("rb") as file:
            content = file.read(most_bytes + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else first_line(error)
        raise InputError(f"{path}: cannot be read as {what} ({reason}){end}") from error
    if len(content) > most_bytes:
        raise InputError(f"{path}: is larger than {most_bytes >> 10} KiB, too large for {what}{end}")
    return content


def json_text(path: Path, *, advice: str = _RESTORE, most_bytes: int = MOST_JSON_BYTES) -> str:
    """The text of a JSON file, for `fitted`; raises `InputError` when it is missing, too large or not UTF-8."""
    content = file_bytes(path, what="JSON", most_bytes=most_bytes, advice=advice)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: cannot be read as JSON (it is not UTF-8); {advice}") from error


def parsed(path: Path, text: str, *, advice: str = _RESTORE) -> Any:
    """The value of a JSON text; raises `InputError` as `read_json` does."""
    try:
        value = json.loads(text, object_pairs_hook=_unique)
        _check(value, ())
    except (ValueError, RecursionError, MemoryError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({first_line(error)}); {advice}") from error
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        seen: set[str] = set()
        repeated = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {quoted(repeated)} stands there twice")
    return values


def _check(value: Any, where: tuple[str | int, ...]) -> None:
    """Raises `ValueError` for numbers that nothing of ours writes, and for deep nesting."""
    if isinstance(value, dict | list):
        if len(where) >= MOST_DEPTH:
            raise ValueError(f"nested more than {MOST_DEPTH} deep")
        members: Iterable[tuple[str | int, Any]] = value.items() if isinstance(value, dict) else enumerate(value)
        for key, member in members:
            _check(member, (*where, key))
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{_key(where)}: expected a finite number, got {value}")
    elif isinstance(value, int) and value not in _INT64:
        raise ValueError(f"{_key(where)}: expected a whole number of at most 64 bits")


def _key(where: tuple[str | int, ...]) -> str:
    return ".".join(quoted(str(part), marks=False) for part in where)
