"""Damage to encapsulated pixels: offset tables, fragments, RLE headers and the markers of code streams."""

import struct
from collections.abc import Mapping, Sequence
from random import Random
from typing import Final

from benchmarks.fuzz.damage.anywhere import EDGES, Damage

_ITEM: Final = b"\xfe\xff\x00\xe0"
_END: Final = b"\xfe\xff\xdd\xe0"
# Start and size of image, tiles, coding and quantisation style, scans and tables of JPEG, JPEG-LS and JPEG 2000.
_MARKERS: Final = (
    b"\xff\xc0", b"\xff\xc1", b"\xff\xc3", b"\xff\xc4", b"\xff\xda", b"\xff\xdb", b"\xff\xdd", b"\xff\xf7", b"\xff\xf8",
    b"\xff\x51", b"\xff\x52", b"\xff\x53", b"\xff\x5c", b"\xff\x5d", b"\xff\x5e", b"\xff\x5f", b"\xff\x50", b"\xff\x90",
    b"\xff\x93",
)  # fmt: skip


def _items(content: bytes) -> list[tuple[int, int]]:
    """Start and length of the values of all items behind the pixel data's tag."""
    at = content.rfind(b"\xe0\x7f\x10\x00")
    found = []
    while at >= 0 and (at := content.find(_ITEM, at)) >= 0 and at + 8 <= len(content):
        length = struct.unpack_from("<I", content, at + 4)[0]
        found.append((at + 8, length))
        at += 8 + (length if at + 8 + length <= len(content) else 0)
    return found


def _replaced(content: bytes, at: int, new: bytes) -> bytes:
    return content[:at] + new + content[at + len(new) :]


def _fragment_length(content: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    items = _items(content)
    if not items:
        return content
    start, length = rng.choice(items)
    wanted = rng.choice((*EDGES, length + 2, max(length - 2, 0), length // 2, len(content)))
    return _replaced(content, start - 4, struct.pack("<I", wanted % 2**32))


def _offset_table(content: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    items = _items(content)
    if not items:
        return content
    start, length = items[0]
    count = rng.choice((0, 1, 2, 3, length // 4, 1000))
    table = b"".join(struct.pack("<I", rng.choice((*EDGES, rng.getrandbits(12)))) for _ in range(count))
    return content[: start - 4] + struct.pack("<I", len(table)) + table + content[start + length :]


def _fragments(content: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    """Fragments lost, repeated, emptied, cut in two, or never closed."""
    items = [(start, length) for start, length in _items(content) if start + length <= len(content)]
    if len(items) < 2:
        return content
    start, length = rng.choice(items[1:])
    whole = content[start - 8 : start + length]
    half = length // 4 * 2
    parts = (content[start : start + half], content[start + half : start + length])
    cut = b"".join(_ITEM + struct.pack("<I", len(part)) + part for part in parts)
    new = rng.choice((b"", whole * 2, whole * 50, _ITEM + bytes(4), cut, whole + _END + bytes(4)))
    return content[: start - 8] + new + content[start + length :]


def _rle_header(content: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    items = _items(content)
    start, length = rng.choice(items[1:]) if len(items) > 1 else (0, 0)
    if not start:
        return content
    changed = content
    for _ in range(rng.choice((1, 1, 2, 8))):
        value = rng.choice((*EDGES, 64, 63, 65, length, length + 1, length - 1, rng.randrange(2048)))
        changed = _replaced(changed, start + 4 * rng.randrange(16), struct.pack("<I", value % 2**32))
    return changed


def _marker_field(content: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    """A number in the segment of one of the markers that decoders act on."""
    places = [at for at in _marked(content) if at + 4 < len(content)]
    if not places:
        return content
    at = rng.choice(places)
    offset = at + 2 + rng.choice((0, 2, 3, 5, 7, 8, rng.randrange(40)))
    form, bits = rng.choice((("B", 8), ("H", 16), ("I", 32)))
    value = rng.choice((*EDGES, rng.getrandbits(bits))) % 2**bits
    return _replaced(content, offset, struct.pack(">" + form, value))


def _marker(content: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    """A marker becomes another one, or its segment is lost or repeated."""
    places = _marked(content)
    if not places:
        return content
    at = rng.choice(places)
    length = 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    segment = content[at : at + length]
    new = rng.choice((b"", segment * 2, segment * 40, rng.choice(_MARKERS) + segment[2:]))
    return content[:at] + new + content[at + length :]


def _marked(content: bytes) -> list[int]:
    begin = content.rfind(b"\xe0\x7f\x10\x00")
    places: list[int] = []
    for marker in _MARKERS:
        at = begin
        while at >= 0 and (at := content.find(marker, at + 1)) >= 0 and len(places) < 500:
            places.append(at)
    return sorted(places)


STREAMS: Final[Mapping[str, Damage]] = {
    "fragment's length": _fragment_length,
    "offset table": _offset_table,
    "fragments": _fragments,
    "RLE header": _rle_header,
    "number in a code stream": _marker_field,
    "marker in a code stream": _marker,
}
