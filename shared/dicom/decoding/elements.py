"""The elements of a usual file, found in one pass; pydicom, which takes ten times as long, parses every other file.

Usual is what scanners, PACS and the challenge write: file meta information, an explicit little-endian transfer syntax,
ascending tags, whole values, and pixels at the end. One doubt, and `usual_dataset` returns None. What it returns holds
the same elements as pydicom's own data set, which the tests compare.
"""

import functools
import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

import pydicom
from pydicom.dataelem import DataElement, RawDataElement, empty_value_for_VR
from pydicom.dataset import FileMetaDataset
from pydicom.tag import BaseTag, Tag
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    JPEG2000TransferSyntaxes,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    RLELossless,
)
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32, STANDARD_VR

_ENCAPSULATED: Final = frozenset(
    (RLELossless, *JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes, *JPEG2000TransferSyntaxes)
)
_SYNTAXES: Final = _ENCAPSULATED | {ExplicitVRLittleEndian}
_ELEMENT, _LENGTH, _ITEM = struct.Struct("<HH2sH"), struct.Struct("<I"), struct.Struct("<II")
_HEADER_BYTES: Final = 12  # of the longest kind of element
# Value representation as bytes -> as text, and whether its length takes four bytes.
_VRS: Final = {vr.encode("ascii"): (vr.value, vr in EXPLICIT_VR_LENGTH_32) for vr in STANDARD_VR}
_META_VRS: Final = frozenset({b"UL", b"UI", b"SH", b"AE"})
_SOP_CLASS, _SYNTAX = 0x0002, 0x0010  # elements of the meta group
_UID: Final = re.compile(rb"([0-9.]{1,64})\0?")
_CHARACTER_SET: Final = 0x00080005
# pydicom looks these up and converts them without a warning.
_CHARACTER_SETS: Final = frozenset({b"", b"ISO_IR 6", b"ISO_IR 100", b"ISO_IR 192"})
_META_END, _ITEMS_BEGIN = 0x0002FFFF, 0xFFFE0000
_PIXEL_DATA: Final = 0x7FE00010
_PIXELS: Final = frozenset({0x7FE00008, 0x7FE00009, _PIXEL_DATA})
_UNDEFINED_LENGTH: Final = 0xFFFFFFFF
_FRAGMENT, _DELIMITER = 0xE000FFFE, 0xE0DDFFFE
# A usual file has a hundred elements and a few fragments. With more, pydicom's parser is watched for time.
_MOST: Final = 2**12

_Elements: TypeAlias = dict[BaseTag, DataElement | RawDataElement]


@dataclass(frozen=True, slots=True, kw_only=True)
class UsualMeta:
    """What file meta information says, and where it ends."""

    syntax: str
    sop_class: str
    end: int


def usual_meta(content: bytes, at: int) -> UsualMeta | None:
    """Reads file meta information as everybody writes it; None where pydicom has to read it."""
    found = {_SYNTAX: "", _SOP_CLASS: ""}
    while at + _HEADER_BYTES <= len(content):
        group, element, vr, length = _ELEMENT.unpack_from(content, at)
        if group != 2:
            sop_class, syntax = found[_SOP_CLASS], found[_SYNTAX]
            return UsualMeta(syntax=syntax, sop_class=sop_class, end=at) if syntax else None
        at += _ELEMENT.size
        if vr == b"OB":
            (length,) = _LENGTH.unpack_from(content, at)
            at += _LENGTH.size
        elif vr not in _META_VRS:
            return None
        if element in found:
            value = _UID.fullmatch(content, at, at + length)
            if found[element] or vr != b"UI" or value is None:
                return None
            found[element] = value[1].decode("ascii")
        at += length
    return None


def usual_dataset(
    content: bytes, meta: UsualMeta, *, stop_before_pixels: bool, tags: Iterable[str] | None = None
) -> tuple[pydicom.Dataset, int] | None:
    """The data set of a usual file, and where its parser stopped; None where pydicom has to parse it.

    Args:
      content: of the file; enough if it reaches into the pixels when the parser stops before them.
      stop_before_pixels, tags: as `pydicom.dcmread` takes them.
    """
    if meta.syntax not in _SYNTAXES:
        return None
    found = _elements(
        content, meta, stop_before_pixels=stop_before_pixels, wanted=None if tags is None else _numbers(tuple(tags))
    )
    if found is None:
        return None
    elements, end = found
    named = elements.get(BaseTag(_CHARACTER_SET))
    if named is not None and bytes(named.value or b"").rstrip(b" ") not in _CHARACTER_SETS:
        return None
    dataset = pydicom.Dataset(elements)
    dataset.set_original_encoding(False, True)
    dataset.file_meta = _file_meta(meta.syntax, meta.sop_class)
    return dataset, end


def _elements(
    content: bytes, meta: UsualMeta, *, stop_before_pixels: bool, wanted: frozenset[int] | None
) -> tuple[_Elements, int] | None:
    elements: _Elements = {}
    at, last, seen, whole = meta.end, _META_END, 0, False
    while at + _HEADER_BYTES <= len(content):
        group, number, code, length = _ELEMENT.unpack_from(content, at)
        tag = group << 16 | number
        seen += 1
        if code not in _VRS or not last < tag < _ITEMS_BEGIN or seen > _MOST:
            return None
        if tag in _PIXELS and stop_before_pixels:
            return elements, at
        (vr, is_long), start, last = _VRS[code], at + _ELEMENT.size, tag
        if is_long:
            (length,) = _LENGTH.unpack_from(content, start)
            start += _LENGTH.size
        if length == _UNDEFINED_LENGTH:
            end = _end_of_fragments(content, start) if tag == _PIXEL_DATA and meta.syntax in _ENCAPSULATED else None
            if end is None:
                return None
            at = end + _ITEM.size
        else:
            end = at = start + length
        if end > len(content):
            return None
        whole = whole or tag == _PIXEL_DATA
        if wanted is None or tag in wanted:
            value = content[start:end] if length else empty_value_for_VR(vr, raw=True)
            key = BaseTag(tag)
            elements[key] = RawDataElement(key, vr, length, value, start, False, True)  # type: ignore[arg-type]
    return (elements, at) if whole and at == len(content) else None


def _end_of_fragments(content: bytes, at: int) -> int | None:
    """Where the delimiter behind encapsulated pixels stands."""
    for _ in range(_MOST):
        if at + _ITEM.size > len(content):
            return None
        kind, length = _ITEM.unpack_from(content, at)
        if kind == _DELIMITER:
            return None if length else at
        if kind != _FRAGMENT:
            return None
        at += _ITEM.size + length
    return None


@functools.lru_cache(maxsize=64)
def _numbers(keywords: tuple[str, ...]) -> frozenset[int]:
    """The tags that pydicom returns when it is asked for some: it always needs the character set."""
    return frozenset({_CHARACTER_SET, *map(Tag, keywords)})


@functools.lru_cache(maxsize=64)
def _file_meta(syntax: str, sop_class: str) -> FileMetaDataset:
    """What is read of file meta information. Nobody writes to it, so the slices of a series share it."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = UID(syntax)
    if sop_class:
        meta.MediaStorageSOPClassUID = UID(sop_class)
    return meta
