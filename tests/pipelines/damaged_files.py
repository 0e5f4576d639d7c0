"""Seeded damage to tables and JSON files, for tests."""

import json
from collections.abc import Iterator
from typing import Any, Final

import numpy as np

# Cells and values that a table or a JSON file of ours must not choke on.
CELLS: Final = (
    b"", b"0", b"-1", b"nan", b"inf", b"-Infinity", b"1e400", b"1e-400", b"9" * 20, b"9" * 5000, b"0x10", b"1_000",
    b"1,5", b"1.5.5", b"NULL", b"\xff\xfe", b"\x00", "\u202e".encode(), "\U0001d7d9".encode(), "\u00b2".encode(),
    b"a" * 200_000, b'"', b'""', b'"a', b"a\nb", b"\r", b"=1+1", b"../..", b"True", b"1e5", b"1E+05", b"12345678901234",
    b"1.0", b"+1", b" ", b";", b"\t", b"|", b"%s", b"{}", b"100000000000000000000.5", b"NaN", b"1" + b"0" * 310,
)  # fmt: skip


def damaged_table(content: bytes, rng: np.random.Generator) -> bytes:
    """The table with one random fault, or with two."""
    for _ in range(int(rng.integers(1, 3))):
        content = _WAYS[int(rng.integers(len(_WAYS)))](content, rng)
    return content


def _truncated(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: int(rng.integers(len(content) + 1))]


def _bytes(content: bytes, rng: np.random.Generator) -> bytes:
    out = bytearray(content)
    for place in rng.integers(0, max(len(out), 1), 1 + int(rng.integers(4))) if out else ():
        out[place] = int(rng.integers(256))
    return bytes(out)


def _inserted(content: bytes, rng: np.random.Generator) -> bytes:
    place = int(rng.integers(len(content) + 1))
    return content[:place] + CELLS[int(rng.integers(len(CELLS)))] + content[place:]


def _cell(content: bytes, rng: np.random.Generator) -> bytes:
    """One cell, of the header or below, replaced; of a whole column now and then."""
    lines = [line.split(b",") for line in content.split(b"\n")]
    row, new = int(rng.integers(len(lines))), CELLS[int(rng.integers(len(CELLS)))]
    column = int(rng.integers(len(lines[row])))
    for cells in lines[1:] if rng.random() < 0.2 and len(new) < 100 else (lines[row],):
        if column < len(cells):
            cells[column] = new
    return b"\n".join(b",".join(cells) for cells in lines)


def _columns(content: bytes, rng: np.random.Generator) -> bytes:
    """A column twice, dropped, or moved."""
    lines = [line.split(b",") for line in content.split(b"\n")]
    at, to = (int(n) for n in rng.integers(0, max(len(lines[0]), 1), 2))
    way = int(rng.integers(3))
    for cells in lines:
        if at < len(cells) > 1:
            cell = cells[at] if way == 0 else cells.pop(at)
            if way != 1:
                cells.insert(to, cell)
    return b"\n".join(b",".join(cells) for cells in lines)


def _rows(content: bytes, rng: np.random.Generator) -> bytes:
    """Rows shuffled, repeated or left out."""
    head, *rows = content.split(b"\n")
    chosen = rng.integers(0, len(rows), int(rng.integers(len(rows) + 3))) if rows else ()
    return b"\n".join([head, *(rows[n] for n in chosen)])


def _encoded(content: bytes, rng: np.random.Generator) -> bytes:
    text = content.decode("utf-8", errors="replace")
    return text.encode(("utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-7")[int(rng.integers(6))])


def _separated(content: bytes, rng: np.random.Generator) -> bytes:
    return content.replace(b",", (b";", b"\t", b"|", b",,", b" , ", b"\0", b'","')[int(rng.integers(7))])


def _large(content: bytes, rng: np.random.Generator) -> bytes:
    """Many columns, one very long line, or many quotes."""
    ways = (
        lambda: content.replace(b"\n", b"," * 20_000 + b"\n", 1),
        lambda: b",".join(b"c%d" % n for n in range(20_000)) + content,
        lambda: content + b"x" * 200_000,
        lambda: content + b'"' + b"y\n" * 1000,
        lambda: content + b'""' * 5000,
        lambda: content + b"\n" * 2000,
    )
    return ways[int(rng.integers(len(ways)))]()


_WAYS: Final = (
    _truncated, _bytes, _bytes, _inserted, _inserted, _cell, _cell, _cell, _columns, _rows, _encoded, _separated,
    _large,
)  # fmt: skip

# What every value of a JSON file is replaced by: JSON texts, some of which no JSON writer of ours produces.
VALUES: Final = (
    "null", "true", "0", "-1", "1e9", "1.5", "NaN", "Infinity", "-Infinity", "1e400", "9" * 20, "9" * 5000, '""', '"x"',
    "[]", "{}", "[" * 40 + "]" * 40, "[" * 3000 + "]" * 3000, '"\\ud800"', '"' + "x" * 100_000 + '"', '"../../x"',
    '"\\u0000"',
)  # fmt: skip


def damaged_documents(text: str) -> Iterator[tuple[str, str]]:
    """Every key of a JSON file deleted, repeated, renamed and replaced, and the file as a whole; with what was done."""
    value = json.loads(text)
    for where in _places(value):
        mark = "@@@"
        for kind in ("deleted", "renamed", "repeated"):
            if isinstance(where[-1], str):
                yield f"{_name(where)} {kind}", _edited(value, where, kind)
        whole = json.dumps(_replaced(value, where, mark))
        for new in VALUES:
            yield f"{_name(where)} = {new[:20]}", whole.replace(f'"{mark}"', new)
    for new in (*VALUES, "", "{", "\0", "\ufeff" + text, text[: len(text) // 2], text[:-3], text + text):
        yield f"all = {new[:20]!r}", new


def _name(where: tuple[str | int, ...]) -> str:
    return ".".join(map(str, where))


def _places(value: Any, where: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The keys of a value, and of lists the first and last place."""
    if isinstance(value, dict):
        members = list(value.items())
        members = members if len(members) <= 12 else [*members[:2], members[-1]]
    else:
        members = [(n, value[n]) for n in sorted({0, len(value) - 1})] if isinstance(value, list) and value else []
    for key, member in members:
        yield (*where, key)
        yield from _places(member, (*where, key))


def _replaced(value: Any, where: tuple[str | int, ...], new: object) -> Any:
    if not where:
        return new
    copy = value.copy()
    copy[where[0]] = _replaced(copy[where[0]], where[1:], new)
    return copy


def _edited(value: Any, where: tuple[str | int, ...], kind: str) -> str:
    if len(where) > 1:
        inner = json.loads(_edited(value[where[0]], where[1:], "deleted" if kind == "deleted" else "renamed"))
        return json.dumps(_replaced(value, where[:1], inner))
    if kind == "repeated":
        first = json.dumps({where[0]: value[where[0]]})
        return first[:-1] + ", " + json.dumps(value)[1:]
    kept = {k: v for k, v in value.items() if k != where[0]}
    return json.dumps(kept if kind == "deleted" else kept | {"unknown": value[where[0]]})
