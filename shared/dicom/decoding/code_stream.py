"""What a compressed frame says of itself, compared with the header before a decoder allocates memory for it."""

import struct
from dataclasses import dataclass, replace
from typing import Final

from shared.dicom.tags import DicomFaultError

_JP2: Final = b"\x00\x00\x00\x0cjP  "
# Tiles of fewer pixels a side cost more memory than the image.
_LEAST_TILE_PX: Final = 32
_MOST_SEGMENTS: Final = 1024
# Frame headers of JPEG (ISO 10918-1, B.2.2) that GDCM decodes, and of JPEG-LS (ISO 14495-1, C.2.2).
JPEG_FRAMES: Final = frozenset({0xC0, 0xC1, 0xC2, 0xC3})
JPEG_LOSSLESS: Final = 0xC3
JPEG_LS: Final = 0xF7
_JPEG_LS_EXTENSION, _OVERSIZE = 0xF8, 4
_ANY_FRAME: Final = frozenset({*range(0xC0, 0xD0), 0xDE, 0xF7}) - {0xC4, 0xC8, 0xCC}
_SCAN, _END = 0xDA, 0xD9


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeStream:
    """The one grey image in a code stream.

    Attributes:
      shape: rows and columns.
      bits: bits of a sample.
      signed: whether the samples have a sign; JPEG and JPEG-LS do not say.
      kind: the marker of a JPEG frame; 0 for JPEG 2000.
      preset: whether JPEG-LS coding parameters come with it (ISO 14495-1, C.2.4.1).
    """

    shape: tuple[int, int]
    bits: int
    signed: bool = False
    kind: int = 0
    preset: bool = False

    def check(self, shape: tuple[int, int], bits_allocated: int) -> None:
        """Raises `DicomFaultError` when the image is not the one that the header announces."""
        if self.shape != shape:
            got, expected = (" x ".join(map(str, each)) for each in (self.shape, shape))
            raise DicomFaultError(f"the compressed image has {got} pixels, expected {expected}")
        if not 2 <= self.bits <= bits_allocated and self.bits != 1:
            raise DicomFaultError(
                f"the compressed image has {self.bits} bits a pixel, expected at most {bits_allocated}"
            )


def jpeg_2000(content: bytes) -> CodeStream:
    """Reads the size segment (ISO 15444-1, A.5.1), also from the boxes of a JP2 file. Raises `DicomFaultError`."""
    at = _code_stream_in_boxes(content) if content.startswith(_JP2) else 0
    if content[at : at + 4] != b"\xff\x4f\xff\x51" or len(content) < at + 45:
        raise DicomFaultError("no JPEG 2000 code stream")
    right, bottom, left, top, tile_w, tile_h, tile_x, tile_y, components = struct.unpack_from(">8IH", content, at + 8)
    depth, step_x, step_y = content[at + 42 : at + 45]
    if components != 1 or (step_x, step_y) != (1, 1):
        raise DicomFaultError(f"the compressed image has {components} components, expected one, not subsampled")
    columns, rows = right - left, bottom - top
    if columns <= 0 or rows <= 0:
        raise DicomFaultError("the compressed image has no area")
    if not (tile_x <= left < tile_x + tile_w and tile_y <= top < tile_y + tile_h):
        raise DicomFaultError("the tiles do not cover the compressed image")
    tiles = -(-(right - tile_x) // tile_w) * -(-(bottom - tile_y) // tile_h)
    most = (columns // _LEAST_TILE_PX + 2) * (rows // _LEAST_TILE_PX + 2)
    if tiles > most:
        raise DicomFaultError(f"the compressed image has {tiles} tiles, expected at most {most}")
    return CodeStream(shape=(rows, columns), bits=(depth & 0x7F) + 1, signed=depth > 0x7F)


def _code_stream_in_boxes(content: bytes) -> int:
    at = 0
    for _ in range(_MOST_SEGMENTS):
        if at + 8 > len(content):
            break
        length, kind = struct.unpack_from(">I4s", content, at)
        if kind == b"jp2c":
            return at + (16 if length == 1 else 8)
        if length < 8:
            break
        if kind == b"jp2h":
            _check_image_header(content[at + 8 : at + length])
        at += length
    raise DicomFaultError("no code stream in the boxes of a JP2 file")


def _check_image_header(boxes: bytes) -> None:
    """Boxes beside the image header ask decoders for palettes and other components, which grey slices have none of."""
    at = 0
    while at + 8 <= len(boxes):
        length, kind = struct.unpack_from(">I4s", boxes, at)
        if kind not in (b"ihdr", b"colr", b"res ", b"bpcc") or length < 8:
            raise DicomFaultError("a JP2 file with more than a grey image")
        if kind == b"ihdr" and boxes[at + 16 : at + 18] != b"\x00\x01":
            raise DicomFaultError("a JP2 file of several components, expected one")
        at += length


def jpeg(content: bytes) -> CodeStream:
    """Reads the one frame header before the first scan of JPEG or JPEG-LS. Raises `DicomFaultError`."""
    if content[:2] != b"\xff\xd8":
        raise DicomFaultError("no JPEG code stream")
    found: CodeStream | None = None
    preset = False
    at = 2
    for _ in range(_MOST_SEGMENTS):
        if at + 4 > len(content) or content[at] != 0xFF:
            break
        marker = content[at + 1]
        if marker == 0xFF:  # padding before a marker
            at += 1
            continue
        (length,) = struct.unpack_from(">H", content, at + 2)
        if marker == _JPEG_LS_EXTENSION and content[at + 4 : at + 5] == bytes([_OVERSIZE]):
            raise DicomFaultError("JPEG-LS of an oversize image")
        preset |= marker == _JPEG_LS_EXTENSION
        if marker in _ANY_FRAME:
            if found is not None or marker not in {*JPEG_FRAMES, JPEG_LS}:
                raise DicomFaultError("several JPEG frames, or frames of an unknown kind")
            found = _jpeg_frame(content[at + 4 : at + 2 + length], marker)
        if marker in (_SCAN, _END):
            break
        at += 2 + length
    if found is None:
        raise DicomFaultError("no JPEG frame before the first scan")
    return replace(found, preset=preset)


def _jpeg_frame(content: bytes, marker: int) -> CodeStream:
    if len(content) < 9:
        raise DicomFaultError("a JPEG frame header that is cut off")
    bits, rows, columns, components = struct.unpack_from(">BHHB", content)
    if components != 1:
        raise DicomFaultError(f"the compressed image has {components} components, expected one")
    return CodeStream(shape=(rows, columns), bits=bits, kind=marker)
