"""The stored pixels of one slice, decoded as pydicom does but faster in the usual case, and where a file keeps them."""

import math
import struct
from itertools import pairwise
from typing import Any, BinaryIO, Final

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.encaps import get_frame, parse_basic_offsets, parse_fragments
from pydicom.pixels.utils import pixel_array
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless
from rle.utils import decode_pixel_data

from shared.dicom.tags import DicomFaultError, tag_value

_BITS: Final = 16
_UNDEFINED_LENGTH: Final = 0xFFFFFFFF
_PIXEL_DATA: Final = (0x7FE0, 0x0010)
# An empty offset table: the item before the fragments of encapsulated pixels (PS3.5, A.4).
_NO_OFFSETS: Final = bytes.fromhex("feff00e000000000")


def stored_pixels(dataset: pydicom.Dataset) -> NDArray[Any]:
    """`pydicom.pixels.pixel_array` with a shorter path for 16-bit grey slices, uncompressed or RLE encoded.

    The challenge's slices are of this kind. pydicom handles every other slice and raises all errors.
    """
    pixels = _plain_or_rle(dataset)
    return pixel_array(dataset) if pixels is None else pixels


def _plain_or_rle(dataset: pydicom.Dataset) -> NDArray[Any] | None:  # [rows, columns]
    """The pixels of a usual file, None for any other."""
    bits, signed = tag_value(dataset, "BitsStored"), tag_value(dataset, "PixelRepresentation")
    high = tag_value(dataset, "HighBit")
    usual = (
        tag_value(dataset, "BitsAllocated") == _BITS
        and tag_value(dataset, "SamplesPerPixel") == 1
        and str(tag_value(dataset, "PhotometricInterpretation")).startswith("MONOCHROME")
        and tag_value(dataset, "NumberOfFrames") in (None, 1)
        and isinstance(bits, int)
        and 1 <= bits <= _BITS
        and signed in (0, 1)
        and "FloatPixelData" not in dataset
        and "DoubleFloatPixelData" not in dataset
    )
    content = tag_value(dataset, "PixelData") if usual else None
    if not isinstance(content, bytes):
        return None
    shape = (tag_value(dataset, "Rows"), tag_value(dataset, "Columns"))
    frame = _frame(dataset, content, shape)
    if frame is None or len(frame) != shape[0] * shape[1] * _BITS // 8:
        return None
    values = np.frombuffer(frame, "<i2" if signed else "<u2").reshape(shape)
    # Bits above the stored ones do not belong to the image (PS3.5, 8.1.1); the highest stored bit is the sign.
    # Some old files keep the stored bits at the top.
    above = _BITS - 1 - high if isinstance(high, int) and bits <= high < _BITS else _BITS - bits
    return values if bits == _BITS else (values << above) >> (_BITS - bits)


def _frame(dataset: pydicom.Dataset, content: bytes, shape: tuple[int, int]) -> bytes | None:
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian):
        return content
    if syntax != RLELossless or tag_value(dataset, "ExtendedOffsetTable"):
        return None
    try:
        frame = get_frame(content, 0, number_of_frames=1)
        return bytes(decode_pixel_data(frame, version=2, rows=shape[0], columns=shape[1], bits_allocated=_BITS))
    except Exception:  # noqa: BLE001 - a foreign file; pydicom then says what is wrong
        return None


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
        raise DicomFaultError(f"{count} fragments and {len(offsets)} offsets for {frames} frames")
    return [*begins, end]


def put_frame(dataset: pydicom.Dataset, content: bytes) -> None:
    """Makes the bytes of one frame the pixels of its data set, as in a file of its own."""
    encapsulated = UID(dataset.file_meta.TransferSyntaxUID).is_encapsulated
    dataset.add_new("PixelData", "OB" if encapsulated else "OW", _NO_OFFSETS + content if encapsulated else content)
    dataset["PixelData"].is_undefined_length = encapsulated
