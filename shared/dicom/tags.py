"""The value of one tag of a parsed file, as pydicom gives it but faster in the usual case."""

import functools
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, Self

import pydicom
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.tag import BaseTag, Tag

# The usual spellings; pydicom handles all others, and all other value representations.
_DECIMALS: Final = re.compile(rb"[0-9+\-.eE]{1,16}(?:\\[0-9+\-.eE]{1,16})* ?")
_INTEGER: Final = re.compile(rb"[+-]?[0-9]{1,9} ?")
_UID: Final = re.compile(rb"[0-9.]{1,64}\0?")
_CODE: Final = re.compile(rb"[A-Z0-9_]{1,16} ?")
_LONG_VRS: Final = frozenset({"SQ", "OB or OW", "OB", "OW", "OF", "OD"})
_BYTE_VRS: Final = frozenset({"OB", "OW"})
_LONGEST_BYTES: Final = 2**16
# pydicom looks up each name in SpecificCharacterSet before any other tag is read: two million names took it 36 s.
LONGEST_CHARACTER_SET: Final = 2**10
CHARACTER_SET: Final = re.compile(rb"\x08\0\x05\0|\0\x08\0\x05")  # its tag, in either byte order
# What the value representations of the tags we read hold, in words.
_HOLDS: Final[Mapping[str, str]] = {
    "IS": "a whole number", "US": "a whole number", "DS": "a decimal number", "FD": "a decimal number",
    "UI": "a UID", "SQ": "a sequence",
}  # fmt: skip


class DicomFaultError(ValueError):
    """What is wrong with a foreign file, in words that quote nothing of it: any tag may hold a patient's name."""

    @classmethod
    def of_value(cls, keyword: str) -> Self:
        """A tag whose value cannot be used; its keyword is public, its value is not."""
        return cls(f"{keyword}: expected {_HOLDS.get(_tag(keyword)[1], 'a valid value')}, got something else")


def tag_value(dataset: pydicom.Dataset, keyword: str) -> Any:
    """`dataset.get(keyword)`, whose conversions cost more than parsing the file.

    Returns numbers, UIDs and codes as plain float, int and str, and several decimals as a list.

    Raises:
      DicomFaultError: when the value is not of the tag's kind.
    """
    tag, usual_vr = _tag(keyword)
    element: Any = dataset.get_item(tag)  # its stub says Dataset too
    if element is None:
        return None
    if isinstance(element, RawDataElement) and usual_vr == element.VR and element.value:
        value = _USUAL[usual_vr](element) if usual_vr in _USUAL else None
        if value is not None:
            return value
    if isinstance(element, RawDataElement) and element.VR in _BYTE_VRS and isinstance(element.value, bytes):
        return element.value
    # What stands in these tags is short. pydicom takes seconds for a million values.
    if isinstance(element, RawDataElement) and usual_vr not in _LONG_VRS and len(element.value or b"") > _LONGEST_BYTES:
        raise DicomFaultError.of_value(keyword)
    if isinstance(element, RawDataElement) and usual_vr == "SQ" and _has_long_character_set(element.value or b""):
        raise DicomFaultError.of_value("SpecificCharacterSet")
    try:
        return dataset[tag].value
    except Exception as error:  # pydicom's converters raise anything, and quote the value
        raise DicomFaultError.of_value(keyword) from error


def _has_long_character_set(content: bytes) -> bool:
    """Whether a sequence that is not parsed yet holds an element that would keep pydicom busy."""
    for found in CHARACTER_SET.finditer(content) if len(content) > LONGEST_CHARACTER_SET else ():
        order: Literal["little", "big"] = "little" if found[0][0] else "big"
        after = content[found.end() : found.end() + 8]
        # A value representation with a length of 2 bytes, one with a length of 4 bytes, none.
        parts = (after[2:4], after[4:8]) if after[:2].isalpha() else (after[:4],)
        if any(int.from_bytes(part, order) > LONGEST_CHARACTER_SET for part in parts):
            return True
    return False


def whole_number(dataset: pydicom.Dataset, keyword: str) -> int:
    """A tag's whole number; 0 where it is absent or empty. Raises `DicomFaultError`."""
    value = tag_value(dataset, keyword)
    try:
        return int(value or 0)
    except (TypeError, ValueError, OverflowError) as error:
        raise DicomFaultError.of_value(keyword) from error


def decimal_numbers(dataset: pydicom.Dataset, keyword: str) -> list[float]:
    """Several decimals, also from a tag that was written as text: backslashes between them, commas for points.

    Raises:
      DicomFaultError: when one of them is no number.
    """
    value = tag_value(dataset, keyword)
    try:
        parts = value.split("\\") if isinstance(value, str) else value
        return [float(part.replace(",", ".") if isinstance(part, str) else part) for part in parts]
    except (TypeError, ValueError, OverflowError) as error:
        raise DicomFaultError.of_value(keyword) from error


@functools.cache
def _tag(keyword: str) -> tuple[BaseTag, str]:
    """The tag, and the value representation that the standard gives it."""
    tag = Tag(keyword)
    return tag, dictionary_VR(tag)


def _decimals(element: RawDataElement) -> float | list[float] | None:
    content = element.value or b""
    if not _DECIMALS.fullmatch(content):
        return None
    try:
        values = [float(part) for part in content.split(b"\\")]
    except ValueError:
        return None
    return values if len(values) > 1 else values[0]


def _integer(element: RawDataElement) -> int | None:
    content = element.value or b""
    return int(content) if _INTEGER.fullmatch(content) else None


def _short(element: RawDataElement) -> int | None:
    content = element.value or b""
    return int.from_bytes(content, "little" if element.is_little_endian else "big") if len(content) == 2 else None


def _uid(element: RawDataElement) -> str | None:
    content = element.value or b""
    return content.rstrip(b"\0").decode("ascii") if _UID.fullmatch(content) else None


def _code(element: RawDataElement) -> str | None:
    content = element.value or b""
    return content.rstrip(b" ").decode("ascii") if _CODE.fullmatch(content) else None


_USUAL: Final[Mapping[str, Callable[[RawDataElement], Any]]] = {
    "DS": _decimals, "IS": _integer, "US": _short, "UI": _uid, "CS": _code,
}  # fmt: skip
