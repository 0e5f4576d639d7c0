"""RLE Lossless (PS3.5, annex G), the challenge's encoding: decoded in this process, because it must be fast.

The decoder is written in Rust, so hostile bytes cannot break memory, but they can make it panic or fill memory. Each
segment is therefore checked against the header before it is decoded, and decoded by itself. Where its wheel is not
installed, Python decodes the same bytes.
"""

import struct
from itertools import pairwise
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from shared.dicom.tags import DicomFaultError

try:
    from rle.rle import decode_segment  # type: ignore[import-not-found]  # compiled, without stubs
except ImportError:
    decode_segment = None

_HEADER_BYTES: Final = 64
_LONGEST_RUN: Final = 128
# A run of 128 equal bytes takes two. Segments that could at most grow to this much are decoded without a look inside.
_MAX_GROWTH: Final = _LONGEST_RUN // 2
_HARMLESS_BYTES: Final = 60 * 2**20
# Bytes that the worst encoder spends on a pixel: a run of one.
_LARGEST_SHARE: Final = 2


def decode_rle(frame: bytes | memoryview, shape: tuple[int, int], itemsize: int) -> NDArray[Any]:
    """The samples of one grey frame, unsigned and little endian.

    Args:
      frame: the RLE header and its segments.
      shape: rows and columns of the image.
      itemsize: bytes of a sample, 1, 2 or 4; there is one segment for each, the highest first.

    Raises:
      DicomFaultError: when the segments do not hold these pixels.
    """
    count = shape[0] * shape[1]
    planes = [
        np.frombuffer(_decoded(bytes(frame[start:end]), count), np.uint8, count).reshape(shape)
        for start, end in pairwise(_bounds(frame, itemsize))
    ]
    samples = np.ascontiguousarray(cv2.merge(planes[::-1])).reshape(shape[0], -1)
    return samples.view(f"<u{itemsize}")


def _bounds(frame: bytes | memoryview, segments: int) -> list[int]:
    """Where the segments begin, and where the last one ends."""
    if len(frame) < _HEADER_BYTES:
        raise DicomFaultError(f"RLE data of {len(frame)} bytes, expected a header of {_HEADER_BYTES}")
    said, *offsets = struct.unpack_from("<16I", frame)
    if said != segments:
        raise DicomFaultError(f"{said} RLE segments, expected {segments}")
    bounds = [*offsets[:segments], len(frame)]
    if bounds[0] < _HEADER_BYTES or any(a >= b for a, b in pairwise(bounds)):
        raise DicomFaultError(f"the RLE segments do not follow each other within {len(frame)} bytes")
    return bounds


def _decoded(segment: bytes, count: int) -> bytes:
    """At least `count` bytes. Up to one run more is taken for padding, as some encoders write it."""
    if len(segment) > _LARGEST_SHARE * count + _LONGEST_RUN:
        raise DicomFaultError(f"an RLE segment of {len(segment)} bytes for {count} pixels")
    if decode_segment is None or len(segment) * _MAX_GROWTH > _HARMLESS_BYTES + count:
        return _decoded_slowly(segment, count)
    try:
        decoded: bytes = decode_segment(segment)
    except ValueError:  # it ends within a run
        return _decoded_slowly(segment, count)
    return _complete(decoded, count)


def _decoded_slowly(segment: bytes, count: int) -> bytes:
    """The same run by run, so that it never grows far beyond `count`; a last run that is cut off is taken as it is."""
    decoded = bytearray()
    at = 0
    while at < len(segment) and len(decoded) <= count + _LONGEST_RUN:
        head = segment[at]
        at += 1
        if head < _LONGEST_RUN:
            decoded += segment[at : at + head + 1]
            at += head + 1
        elif head > _LONGEST_RUN:
            decoded += segment[at : at + 1] * (257 - head)
            at += 1
    return _complete(bytes(decoded), count)


def _complete(decoded: bytes, count: int) -> bytes:
    if len(decoded) < count:
        raise DicomFaultError(f"an RLE segment holds {len(decoded)} pixels, expected {count}")
    if len(decoded) > count + _LONGEST_RUN:
        raise DicomFaultError(f"an RLE segment holds more than the expected {count} pixels")
    return decoded
