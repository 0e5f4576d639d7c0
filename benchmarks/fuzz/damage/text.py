"""Damage to tables, JSON and TOML that keeps their form: cells, rows, columns, keys and values."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, MutableMapping, MutableSequence, Sequence
from random import Random
from typing import Any, Final

from benchmarks.fuzz.damage.anywhere import Damage

_WORDS: Final = (
    "", " ", "nan", "NaN", "inf", "-Infinity", "1e400", "1e-400", "-1", "0", "1", "0.5", "1.0E+09", "4003253.0",
    "9" * 20, "9" * 5000, "1,234", "1.234,5", "½", "１２", "0x10", "1_000", "None", "null", "true", "'", '"', '"open',
    "=1+1", "../../etc", "..", ".", "/", "C:\\x", "a/b", "\0", "\x1b[31m", "\ufeff", "\ud7ff", "ä", "x" * 100_000,
    "L4/L5", "Severe", "l5_s1", "Sagittal T1", "canal", "1;2", "1\t2", "a\nb", "{}", "[]",
)  # fmt: skip


def _edited(content: bytes, change: Callable[[list[str]], None]) -> bytes:
    """The content with its lines changed; bytes that are no text survive."""
    lines = content.decode("utf-8", "surrogateescape").split("\n")
    change(lines)
    return "\n".join(lines).encode("utf-8", "surrogateescape")


def _cell(content: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    def change(lines: list[str]) -> None:
        row = rng.randrange(len(lines))
        cells = lines[row].split(",")
        for _ in range(rng.choice((1, 1, 3))):
            cells[rng.randrange(len(cells))] = rng.choice(_WORDS)
        lines[row] = ",".join(cells)

    return _edited(content, change)


def _column(content: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    """A column is lost, repeated, moved, filled with one word, or called something else."""
    rows = [line.split(",") for line in content.decode("utf-8", "surrogateescape").split("\n")]
    place, other, way, word = rng.randrange(len(rows[0])), rng.randrange(len(rows[0])), rng.randrange(5), _word(rng)
    for n, row in enumerate(rows):
        if place >= len(row):
            continue
        if way == 0:
            del row[place]
        elif way == 1:
            row.insert(place, row[place])
        elif way == 2:
            row.insert(min(other, len(row)), row.pop(place))
        elif (way == 3) == (n > 0):
            row[place] = word
    return "\n".join(",".join(row) for row in rows).encode("utf-8", "surrogateescape")


def _word(rng: Random) -> str:
    return rng.choice(_WORDS)


def _row(content: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    def change(lines: list[str]) -> None:
        row, way = rng.randrange(len(lines)), rng.randrange(6)
        if way == 0:
            del lines[row]
        elif way == 1:
            lines.insert(row, lines[row])
        elif way == 2:
            lines.insert(rng.randrange(len(lines)), lines.pop(row))
        elif way == 3:
            lines[row] += "," * rng.choice((1, 2, 10_000))
        elif way == 4:
            lines[row] = lines[row].replace(",", rng.choice(";\t ,"), rng.choice((1, -1)))
        else:
            del lines[1:]

    return _edited(content, change)


def _another_encoding(content: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    text = content.decode("utf-8", "replace")
    return text.encode(rng.choice(("utf-16", "utf-16-le", "utf-32", "utf-8-sig", "utf-7", "cp037")), "replace")


def _separators(content: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    old, new = rng.choice(((b",", b";"), (b",", b"\t"), (b"\n", b"\r"), (b"\n", b"\r\n"), (b"\n", b"\n\n"),
                           (b".", b","), (b",", b'","'), (b"\n", b"")))  # fmt: skip
    return content.replace(old, new)


CSV: Final[Mapping[str, Damage]] = {
    "cell": _cell, "column": _column, "row": _row, "text encoding": _another_encoding, "separators": _separators,
}  # fmt: skip

_NUMBERS: Final = (0, -1, 1, 2, 0.5, 1e308, -1e308, 1e-320, 2**31, 2**63, 2**64, 10**20, 10**400, -(10**400))
_FOREIGN: Final[tuple[Any, ...]] = (
    None,
    True,
    False,
    "",
    "x",
    "../../x",
    "\0",
    "9" * 20,
    [],
    {},
    [[]],
    [None],
    {"x": 1},
    "x" * 70_000,
)
_HUGE: Final = "1" + "0" * 5000  # more digits than Python turns into a number
# What json writes with allow_nan, and numbers that it cannot write.
_RAW: Final = (
    "NaN",
    "Infinity",
    "-Infinity",
    "1e999",
    _HUGE,
    "-0",
    "[" * 100_000,
    '{"a":' * 100_000,
    "[" * 2000 + "]" * 2000,
)
_PLACEHOLDER: Final = "\ue000raw\ue000"


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container of a JSON value with a key or an index of it."""
    if isinstance(value, dict):
        for key in value:
            yield value, key
            yield from _places(value[key])
    elif isinstance(value, list):
        for index in range(len(value)):
            yield value, index
            yield from _places(value[index])


def _of_json(change: Callable[[Any, list[tuple[Any, Any]], Random], str | None]) -> Damage:
    """Damage to the value of a JSON file. The change may ask for raw text in the place of its placeholder."""

    def damage(content: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
        try:
            value = json.loads(content)
            places = list(_places(value))
            raw = change(value, places, rng) if places else None
            text = json.dumps(value)
        except (ValueError, RecursionError):
            return content
        return (text if raw is None else text.replace(json.dumps(_PLACEHOLDER), raw, 1)).encode()

    return damage


def _json_value(value: Any, places: list[tuple[Any, Any]], rng: Random) -> str | None:
    container, key = rng.choice(places)
    if rng.random() < 0.25:
        container[key] = _PLACEHOLDER
        return rng.choice(_RAW)
    container[key] = rng.choice((*_NUMBERS, *_FOREIGN, *_WORDS, _similar(container[key], rng)))
    return None


def _similar(value: Any, rng: Random) -> Any:
    """Another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return rng.choice((-value, value * 10, value + 1, str(value), [value], float(value), int(value)))
    if isinstance(value, str):
        return rng.choice((value[:-1], value + "x", value.upper(), value * 2, [value], {value: value}))
    if isinstance(value, list):
        return rng.choice((value[:-1], value * 2, value[::-1], [value], [*value, None], dict(enumerate(value))))
    return [value]


def _json_key(value: Any, places: list[tuple[Any, Any]], rng: Random) -> str | None:
    container, key = rng.choice(places)
    own = container[key]
    if isinstance(container, MutableSequence):
        del container[key]
    elif isinstance(container, MutableMapping):
        way = rng.randrange(3)
        if way < 2:
            del container[key]
        if way > 0:
            container[rng.choice((key + "x", key.upper(), "", "0", "-1", "1e3", "٣", "x" * 1000, "__class__"))] = own
    return None


def _json_swap(value: Any, places: list[tuple[Any, Any]], rng: Random) -> str | None:
    (a, i), (b, k) = rng.choice(places), rng.choice(places)
    own = json.loads(json.dumps(a[i]))  # a copy, lest a value holds itself
    a[i] = json.loads(json.dumps(b[k]))
    if isinstance(b, dict | list) and (k in b if isinstance(b, dict) else k < len(b)):
        b[k] = own
    return None


def _json_whole(content: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    """Another value in the place of the whole file, or something before or behind it."""
    whole = (
        b"", b"null", b"0", b"[]", b"{}", b'"x"', b"[" * 50_000, b'{"a":' * 50_000, content + content,
        b"[" + content + b"]", content + b"\n{", b"\xef\xbb\xbf" + content, b"NaN", b"1" * 6000, *others[:1],
    )  # fmt: skip
    return rng.choice(whole)


def _json_repeated_key(content: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    pairs = list(re.finditer(rb'"[^"]*"\s*:\s*("[^"]*"|[-0-9.eE]+|true|false|null)', content))
    if not pairs:
        return content
    at = rng.choice(pairs)
    value = rng.choice((b"1", b"null", b'"x"', b"[]", b"-1e5"))
    return content[: at.end()] + b"," + at.group().partition(b":")[0] + b":" + value + content[at.end() :]


JSON: Final[Mapping[str, Damage]] = {
    "value": _of_json(_json_value), "key": _of_json(_json_key), "values swapped": _of_json(_json_swap),
    "whole file": _json_whole, "repeated key": _json_repeated_key,
}  # fmt: skip


def _summed(damage: Damage) -> Damage:
    """The same damage to a file with a checksum of itself, which is made good as an attacker would."""

    def again(content: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
        try:
            damaged = json.loads(damage(content, rng, others))
            damaged.pop("checksum", None)
            body = json.dumps(damaged)
        except (ValueError, AttributeError, TypeError, RecursionError):
            return content
        return json.dumps({"checksum": hashlib.sha256(body.encode()).hexdigest(), **damaged}).encode()

    return again


SUMMED: Final[Mapping[str, Damage]] = {f"{name}, checksum made good": _summed(JSON[name]) for name in JSON}

_TOML_VALUES: Final = (
    "0", "-1", "1e400", "nan", "inf", "-inf", "true", '""', '"x"', "[]", "{}", "[1, 2]", "{ a = 1 }", "1979-05-27",
    "07:32:00", "9" * 20, _HUGE, "0x10", "[" * 5000 + "]" * 5000, "[" * 100_000, "{a=" * 500 + "1" + "}" * 500,
    '"\\ud800"',
    "'''", '"""', '"' + "x" * 100_000 + '"', "'../../x'", '"sha256:0"', "0.5", "2", "1000000000000",
)  # fmt: skip


def _toml_value(content: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    def change(lines: list[str]) -> None:
        places = [n for n, line in enumerate(lines) if "=" in line]
        if places:
            n = rng.choice(places)
            lines[n] = f"{lines[n].partition('=')[0]}= {rng.choice(_TOML_VALUES)}"

    return _edited(content, change)


def _toml_key(content: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    def change(lines: list[str]) -> None:
        places = [n for n, line in enumerate(lines) if "=" in line or line.startswith("[")]
        if not places:
            return
        n = rng.choice(places)
        key, _, value = lines[n].partition("=")
        if lines[n].startswith("["):
            lines[n] = rng.choice(("", "[x]", "[[x]]", lines[n] * 2, f"[{lines[n]}]", "[" + "a." * 3000 + "a]", "[]"))
            return
        new = rng.choice(
            (key.strip() + "x", key.strip() + ".x", "a." * 3000 + "a", '""', "ä", "a b", key + "= 1\n" + key)
        )
        lines[n] = f"{new} ={value}"

    return _edited(content, change)


def _toml_line(content: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    def change(lines: list[str]) -> None:
        n, way = rng.randrange(len(lines)), rng.randrange(3)
        if way == 0:
            del lines[n]
        elif way == 1:
            lines.insert(rng.randrange(len(lines)), lines[n])
        else:
            lines.insert(
                n,
                rng.choice(("=", "[", "x", "x = ", "#" + "x" * 100_000, "\0", "\u2028", "[a]\n[a]", "a.b = 1\na = 2")),
            )

    return _edited(content, change)


TOML: Final[Mapping[str, Damage]] = {"value": _toml_value, "key": _toml_key, "line": _toml_line}
