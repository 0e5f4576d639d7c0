"""Where a file keeps the pixels of its frames, and how compressed ones are wrapped (PS3.5, A.4)."""

import math
import struct
from itertools import pairwise
from typing import BinaryIO, Final, TypeVar

import pydicom
from pydicom.encaps import parse_basic_offsets, parse_fragments
from pydicom.uid import UID

from shared.dicom.tags import DicomFaultError, tag_value
from shared.runtime.problems import counted

# Of a view, the result is a view too, without a copy.
ReadOnly = TypeVar("ReadOnly", bytes, memoryview)

_UNDEFINED_LENGTH: Final = 0xFFFFFFFF
_PIXEL_DATA: Final = (0x7FE0, 0x0010)
_ITEM, _DELIMITER = 0xE000FFFE, 0xE0DDFFFE
# An empty offset table: the item before the fragments of encapsulated pixels.
_NO_OFFSETS: Final = bytes.fromhex("feff00e000000000")
# Encoders that split a frame write parts of some kilobytes; a stream of empty items only costs time.
_MAX_FRAGMENTS: Final = 2**12


def encapsulated_frame(content: ReadOnly) -> ReadOnly:
    """The one frame in encapsulated pixels: their fragments without the offset table. Raises `DicomFaultError`."""
    fragments: list[ReadOnly] = []
    at = 0
    while at + 8 <= len(content):
        tag, length = struct.unpack_from("<II", content, at)
        at += 8
        if tag == _DELIMITER:
            break
        if tag != _ITEM or at + length > len(content):
            raise DicomFaultError("the pixels are not wrapped in whole fragments")
        fragments.append(content[at : at + length])
        at += length
        if len(fragments) > _MAX_FRAGMENTS + 1:
            raise DicomFaultError(f"more than {_MAX_FRAGMENTS} fragments for one frame")
    if len(fragments) < 2:
        raise DicomFaultError("no fragment follows the offset table")
    if len(fragments) == 2:
        return fragments[1]
    joined = b"".join(fragments[1:])
    return joined if isinstance(content, bytes) else memoryview(joined)


def frame_extents(file: BinaryIO, dataset: pydicom.Dataset, frames: int) -> list[tuple[int, int]]:
    """Where each frame's pixels lie in a file that stands at its pixel data: offset and length in bytes.

    The extents of frames that a damaged file lacks are too short.

    Raises:
      DicomFaultError: when the frames cannot be told apart.
    """
    implicit, little = dataset.original_encoding
    end = "<" if little else ">"
    group, element = struct.unpack(f"{end}HH", file.read(4))
    if (group, element) != _PIXEL_DATA:
        raise DicomFaultError("no pixel data of whole numbers")
    if not implicit:
        file.read(4)  # value representation, reserved bytes
    (length,) = struct.unpack(f"{end}I", file.read(4))
    start = file.tell()
    size = file.seek(0, 2)
    file.seek(start)
    if length == _UNDEFINED_LENGTH:
        bounds = _fragment_bounds(file, frames)
    else:
        size = min(size, start + length)
        tags = ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated")
        bits = math.prod(int(tag_value(dataset, tag) or 0) for tag in tags)
        if bits % 8:
            raise DicomFaultError("frames do not begin at whole bytes")
        bounds = [start + n * bits // 8 for n in range(frames + 1)]
    return [(min(a, size), max(min(b, size) - min(a, size), 0)) for a, b in pairwise(bounds)]


def _fragment_bounds(file: BinaryIO, frames: int) -> list[int]:
    """Where the encapsulated frames begin, and where the last one ends."""
    offsets = parse_basic_offsets(file)
    first = file.tell()
    count, starts = parse_fragments(file)
    if not starts:
        raise DicomFaultError("no encapsulated frame")
    file.seek(starts[-1] + 4)
    end = starts[-1] + 8 + struct.unpack("<I", file.read(4))[0]
    if count == frames:
        return [*starts, end]
    begins = [first + offset for offset in offsets]
    if len(begins) != frames or not set(begins) <= {*starts, end} or begins != sorted(begins):
        raise DicomFaultError(f"{count} fragments and {len(offsets)} offsets for {counted(frames, 'frame')}")
    return [*begins, end]


def put_frame(dataset: pydicom.Dataset, content: bytes) -> None:
    """Makes the bytes of one frame the pixels of its data set, as in a file of its own."""
    encapsulated = UID(dataset.file_meta.TransferSyntaxUID).is_encapsulated
    dataset.add_new("PixelData", "OB" if encapsulated else "OW", _NO_OFFSETS + content if encapsulated else content)
    dataset["PixelData"].is_undefined_length = encapsulated
