"""Damage to the structure of DICOM files: elements, their lengths, representations and values, items and sequences."""

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from pydicom.datadict import dictionary_VR, tag_for_keyword

from benchmarks.fuzz.damage.anywhere import EDGES, Damage

_LONG: Final = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
_SHORT: Final = frozenset(
    {b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FL", b"FD", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL", b"SS",
     b"ST", b"TM", b"UI", b"UL", b"US"}
)  # fmt: skip
_UNDEFINED: Final = 0xFFFFFFFF
_ITEM: Final = (0xFFFE, 0xE000)
_DEEPEST: Final = 8
_BIG_ENDIAN: Final = b"1.2.840.10008.1.2.2"
# The elements whose values decide what a reader does next.
_DECISIVE: Final = (
    "Rows", "Columns", "NumberOfFrames", "BitsAllocated", "BitsStored", "HighBit", "SamplesPerPixel",
    "PixelRepresentation", "PlanarConfiguration", "PhotometricInterpretation", "RescaleSlope", "RescaleIntercept",
    "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient", "InstanceNumber", "SeriesInstanceUID",
    "StudyInstanceUID", "SpecificCharacterSet", "TransferSyntaxUID", "MediaStorageSOPClassUID", "SOPClassUID",
    "PixelData",
)  # fmt: skip
_DECISIVE_TAGS: Final = frozenset(divmod(tag_for_keyword(keyword) or 0, 0x10000) for keyword in _DECISIVE)
_SYNTAXES: Final = tuple(
    f"1.2.840.10008.1.2{end}"
    for end in ("", ".1", ".1.99", ".2", ".5", ".4.50", ".4.51", ".4.57", ".4.70", ".4.80", ".4.81", ".4.90", ".4.91",
                ".4.100", ".4.201", ".4.203", ".4.999")
)  # fmt: skip
_TEXTS: Final = (
    "", " ", "\\", "\\\\\\", "0", "-1", "1e400", "1e-400", "nan", "inf", "-inf", "9" * 20, "9" * 400, "0x10", "1_000",
    "1,5", "1.2.3", "../../x", "\0", "\x1b[2J", "\\".join("1" * 300), "MONOCHROME1", "RGB", "YBR_FULL_422",
    "PALETTE COLOR", "ISO_IR 100", "ISO 2022 IR 87", "1\\0\\0\\0\\1\\0", "0\\0\\0\\0\\0\\0", "A" * 70000, *_SYNTAXES,
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class _Element:
    """Where an element lies in a file: its start, its length field, its value and what follows."""

    tag: tuple[int, int]
    vr: bytes
    start: int
    length_at: int
    length_bytes: int
    value_at: int
    end: int

    def lengthened(self, content: bytes, value: bytes, order: str) -> bytes:
        """The content with another value in the element's place, and its length."""
        length = struct.pack(
            order + ("H" if self.length_bytes == 2 else "I"), len(value) % 2 ** (8 * self.length_bytes)
        )
        return content[: self.length_at] + length + value + content[self.end :]


def _elements(content: bytes) -> tuple[list[_Element], str]:
    """The elements that a file seems to hold, nested ones after their sequence; and the byte order of its data set."""
    start = 132 if content[128:132] == b"DICM" else 0
    order = ">" if _BIG_ENDIAN + b"\0" in content[:1024] else "<"
    return list(_walk(content, start, len(content), order, 0)), order


def _walk(content: bytes, start: int, stop: int, order: str, depth: int) -> Iterator[_Element]:
    at = start
    while at + 8 <= stop:
        own = "<" if content[at : at + 2] == b"\x02\0" else order
        tag = struct.unpack_from(own + "HH", content, at)
        vr = content[at + 4 : at + 6]
        if tag[0] == 0xFFFE or (vr not in _LONG and vr not in _SHORT):  # an item, or no representation is written
            vr, length_at, size = _known_vr(tag), at + 4, 4
        else:
            length_at, size = (at + 8, 4) if vr in _LONG else (at + 6, 2)
        value_at = length_at + size
        if value_at > stop:
            return
        length = struct.unpack_from(own + ("H" if size == 2 else "I"), content, length_at)[0]
        undefined = length == _UNDEFINED
        end = value_at if undefined else min(value_at + length, stop)
        yield _Element(
            tag=tag, vr=vr, start=at, length_at=length_at, length_bytes=size, value_at=value_at, end=end
        )  # fmt: skip
        if not undefined and vr in (b"SQ", b"IT") and depth < _DEEPEST:
            yield from _walk(content, value_at, end, order, depth + 1)
        at = end


def _known_vr(tag: tuple[int, int]) -> bytes:
    if tag == _ITEM:
        return b"IT"
    try:
        return dictionary_VR(tag).encode()[:2]
    except KeyError:
        return b"UN"


def _chosen(content: bytes, rng: Random) -> tuple[_Element, str] | None:
    """One element; half of the time one whose value decides what happens next."""
    found, order = _elements(content)
    decisive = [e for e in found if e.tag in _DECISIVE_TAGS]
    pool = decisive if decisive and rng.random() < 0.5 else found
    if not pool:
        return None
    element = rng.choice(pool)
    return element, "<" if element.tag[0] == 2 else order


def _set_length(content: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    picked = _chosen(content, rng)
    if picked is None:
        return content
    element, order = picked
    length = element.end - element.value_at
    wanted = rng.choice((*EDGES, length + 1, length - 1, length + 2, length * 2, len(content), _UNDEFINED))
    form = order + ("H" if element.length_bytes == 2 else "I")
    field = struct.pack(form, wanted % 2 ** (8 * element.length_bytes))
    return content[: element.length_at] + field + content[element.value_at :]


def _set_representation(content: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    picked = _chosen(content, rng)
    if picked is None:
        return content
    at = picked[0].start + 4
    vr = rng.choice((*sorted(_LONG | _SHORT), b"ZZ", b"\0\0", b"??"))
    return content[:at] + vr + content[at + 2 :]


def _set_tag(content: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    picked = _chosen(content, rng)
    if picked is None:
        return content
    element, order = picked
    tag = rng.choice((*sorted(_DECISIVE_TAGS), _ITEM, (0xFFFE, 0xE0DD), (0x0009, 0x0010), (0, 0), (0xFFFF, 0xFFFF)))
    return content[: element.start] + struct.pack(order + "HH", *tag) + content[element.start + 4 :]


def _set_value(content: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    picked = _chosen(content, rng)
    if picked is None:
        return content
    element, order = picked
    return element.lengthened(content, _value(element.vr, order, rng), order)


def _value(vr: bytes, order: str, rng: Random) -> bytes:
    forms = {b"US": "H", b"SS": "h", b"UL": "I", b"SL": "i", b"FL": "f", b"FD": "d"}
    if vr in forms and rng.random() < 0.8:
        count = rng.choice((1, 1, 1, 0, 2, 100))
        return b"".join(_number(forms[vr], order, rng) for _ in range(count))
    text = rng.choice(_TEXTS).encode()
    return text + b" " * (len(text) % 2) if rng.random() < 0.9 else rng.randbytes(rng.randint(0, 64))


def _number(form: str, order: str, rng: Random) -> bytes:
    if form in "fd":
        return struct.pack(order + form, rng.choice((0.0, -1.0, 1e30, float("nan"), float("inf"), 1e-30)))
    size = struct.calcsize(form)
    value = rng.choice((*EDGES, 8, 12, 16, 32, 512, 4096, 4097, rng.getrandbits(16))) % 2 ** (8 * size)
    return struct.pack(order + form.upper(), value)


def _drop_element(content: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    picked = _chosen(content, rng)
    return content if picked is None else content[: picked[0].start] + content[picked[0].end :]


def _repeat_element(content: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    picked = _chosen(content, rng)
    if picked is None:
        return content
    own = content[picked[0].start : picked[0].end]
    return content[: picked[0].end] + own * rng.choice((1, 2, 100)) + content[picked[0].end :]


def _move_element(content: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    picked, target = _chosen(content, rng), _chosen(content, rng)
    if picked is None or target is None:
        return content
    own, at = content[picked[0].start : picked[0].end], target[0].start
    return content[:at] + own + content[at:]


def _borrow_element(content: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    """An element of another file, perhaps in another encoding."""
    other = rng.choice(others) if others else content
    picked, target = _chosen(other, rng), _chosen(content, rng)
    if picked is None or target is None:
        return content
    own = other[picked[0].start : picked[0].end]
    return content[: target[0].start] + own + content[target[0].end if rng.random() < 0.5 else target[0].start :]


def _nest(content: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    """Sequences within sequences, open or closed, before some element."""
    picked = _chosen(content, rng)
    if picked is None:
        return content
    order, depth = picked[1], rng.choice((2, 50, 400, 2000))
    head = struct.pack(order + "HH2sHI", 0x0008, 0x1140, b"SQ", 0, _UNDEFINED)
    item = struct.pack(order + "HHI", *_ITEM, _UNDEFINED)
    ends = struct.pack(order + "HHI", 0xFFFE, 0xE00D, 0) + struct.pack(order + "HHI", 0xFFFE, 0xE0DD, 0)
    nested = (head + item) * depth + (ends * depth if rng.random() < 0.5 else b"")
    return content[: picked[0].start] + nested + content[picked[0].start :]


ELEMENTS: Final[Mapping[str, Damage]] = {
    "element's length": _set_length,
    "element's representation": _set_representation,
    "element's tag": _set_tag,
    "element's value": _set_value,
    "element lost": _drop_element,
    "element repeated": _repeat_element,
    "element out of order": _move_element,
    "element of another file": _borrow_element,
    "nested sequences": _nest,
}
