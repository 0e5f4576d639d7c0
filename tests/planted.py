"""Plants names into DICOM files byte by byte, also where no DICOM library would write them."""

import base64
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

from pydicom.datadict import dictionary_VR
from pydicom.tag import Tag

_HEAD = 132
_LONG = frozenset((b"OB", b"OW", b"OF", b"OD", b"OL", b"SQ", b"UC", b"UN", b"UR", b"UT"))
_PIXELS = (0x7FE0, 0x0010)
Element = tuple[tuple[int, int], bytes, bytes]


def elements(content: bytes) -> tuple[list[Element], bytes]:
    """The elements (tag, value representation, value) of an explicit little-endian file, and its pixels as they are."""
    found: list[Element] = []
    at = _HEAD
    while at < len(content):
        group, element, vr = struct.unpack_from("<HH2s", content, at)
        if (group, element) == _PIXELS:
            break
        size = (
            struct.unpack_from("<I", content, at + 8)[0]
            if vr in _LONG
            else struct.unpack_from("<H", content, at + 6)[0]
        )
        start = at + (12 if vr in _LONG else 8)
        found.append(((group, element), vr, content[start : start + size]))
        at = start + size
    return found, content[at:]


def encoded(tag: tuple[int, int], vr: bytes, value: bytes) -> bytes:
    """One element, explicit little endian, its value padded to even length."""
    value += b" " * (len(value) % 2)
    length = b"\0\0" + struct.pack("<I", len(value)) if vr in _LONG else struct.pack("<H", len(value))
    return struct.pack("<HH", *tag) + vr + length + value


def plant(path: Path, values: Mapping[str | int, tuple[str, bytes] | bytes], *, preamble: bytes = b"") -> Path:
    """Replaces or adds elements of a file in place.

    Args:
      values: keyword or number of a tag -> its bytes, in the tag's usual value representation or in the one given.
      preamble: the first bytes of the file.
    """
    content = path.read_bytes()
    found, pixels = elements(content)
    by_tag = {tag: (vr, value) for tag, vr, value in found}
    for key, planted in values.items():
        tag = Tag(key)
        vr, value = planted if isinstance(planted, tuple) else (dictionary_VR(tag)[:2], planted)
        by_tag[tag.group, tag.element] = vr.encode(), value
    by_tag.pop((2, 0), None)
    body = dict(sorted(by_tag.items()))
    meta = b"".join(encoded(tag, *value) for tag, value in body.items() if tag[0] == 2)
    rest = b"".join(encoded(tag, *value) for tag, value in body.items() if tag[0] != 2)
    size = encoded((2, 0), b"UL", struct.pack("<I", len(meta)))
    path.write_bytes(preamble[:128].ljust(128, b"\0") + b"DICM" + size + meta + rest + pixels)
    return path


def spellings(name: str) -> Iterator[bytes]:
    """Every form in which a name might lie in a file, in lower case."""
    for text in {name, name.replace("^", " "), name.replace("^", "_")}:
        for codec in ("utf-8", "utf-16-le", "utf-16-be"):
            yield text.lower().encode(codec)
        yield quote(text).lower().encode()
    raw = name.encode()
    for lead in range(3):  # base64 depends on where the name begins
        whole = base64.b64encode(b"\0" * lead + raw)
        yield whole[4 if lead else 0 : len(whole) // 4 * 4 - 4].lower()
