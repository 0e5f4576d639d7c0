"""Code streams that break decoders, or would fill the memory of a program that believes them."""

import base64
import struct
from typing import Final

import numpy as np

_BOMB_SIDE_PX: Final = 65_500
# Streams of a valid image with a few bytes changed: the first fails an assertion of OpenJPEG 2.5, the second one of
# CharLS 2.4.
_J2K_ABORT: Final = base64.b64decode(
    "/0//UQApAAAAAAAgAAAAIAAAAAAAAAAAAAAAIAAAACAAAAAAAAAAAAAB/wEB/1IADAAAAAEABQQEAAH/XAATQICIiJCIiJCIiJCIiJCIiJD/"
    "ZAAlAAFDcmVhdGVkIGJ5IE9wZW5KUEVHIA=="
)
_JLS_ABORT: Final = base64.b64decode("/9j/9wALhAAIAAgBAREA//gADQH//wASAEMBFAD//9oACAEBAAAAAKJMSYkx")


def rle_panic(rows: int, columns: int) -> bytes:
    """RLE segments of which the second holds two bytes too many: pylibjpeg-rle 2.2 panics on it."""
    first, second = _run(rows * columns), _run(rows * columns + 2)
    return struct.pack("<16I", 2, 64, 64 + len(first), *[0] * 13) + first + second


def _run(count: int) -> bytes:
    """Runs of zeros (PS3.5, G.3)."""
    whole, rest = divmod(count, 128)
    return b"\x81\0" * whole + (bytes([rest - 1]) + bytes(rest) if rest else b"")


def noise(rows: int, columns: int) -> bytes:
    """Bytes that are no code stream."""
    return np.random.default_rng(rows * columns).bytes(200)


def jpeg_2000_abort(rows: int, columns: int) -> bytes:
    """A stream that ends the process of OpenJPEG 2.5, declared as large as the image."""
    del rows, columns
    return _J2K_ABORT


def jpeg_ls_abort(rows: int, columns: int) -> bytes:
    """A stream that ends the process of CharLS, declared as large as the image."""
    del rows, columns
    return _JLS_ABORT


def jpeg_2000_bomb(rows: int, columns: int) -> bytes:
    """The head of a small stream whose size marker declares one tile of 65,500 x 65,500 pixels (ISO 15444-1, A.5.1)."""
    del rows, columns
    side = struct.pack(">I", _BOMB_SIDE_PX)
    return _J2K_ABORT[:8] + 2 * side + bytes(8) + 2 * side + _J2K_ABORT[32:]


def jpeg_ls_bomb(rows: int, columns: int) -> bytes:
    """A frame header of 65,500 x 65,500 pixels (ISO 14495-1, C.2.2) before one byte of data."""
    del rows, columns
    frame = struct.pack(">HHBHHBBBB", 0xFFF7, 11, 16, _BOMB_SIDE_PX, _BOMB_SIDE_PX, 1, 1, 0x11, 0)
    scan = struct.pack(">HHBBBBBB", 0xFFDA, 8, 1, 1, 0, 0, 0, 0)
    return b"\xff\xd8" + frame + scan + b"\x00\xff\xd9"
