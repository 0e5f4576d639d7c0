"""Small files that ask for much: each is refused at once, and without the memory it asks for."""

import re
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import jpeg_ls  # type: ignore[import-untyped]
import numpy as np
import pytest
from openjpeg.utils import encode_array
from pydicom.uid import HTJ2K, JPEG2000, JPEGBaseline8Bit, JPEGLosslessSV1, JPEGLSLossless, RLELossless

from shared.dicom.reader import read_file
from shared.runtime.errors import InputError
from tests.dicom_files import write_dicom
from tests.shared.test_decoding import PIXELS, RLE, write_encoded

J2K, JP2 = bytes(encode_array(PIXELS)), bytes(encode_array(PIXELS, codec_format=1))
JLS = bytes(jpeg_ls.encode_array(PIXELS))
Write = Callable[[Path], Path]


def encoded(frame: bytes, syntax: str) -> Write:
    return lambda path: write_encoded(path, frame, syntax)


def patched(frame: bytes, at: int, layout: str, *values: int) -> bytes:
    return frame[:at] + struct.pack(layout, *values) + frame[at + struct.calcsize(layout) :]


def jpeg(*segments: bytes) -> bytes:
    return b"\xff\xd8" + b"".join(segments) + b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00" + bytes(50) + b"\xff\xd9"


def frame_header(marker: int, rows: int, columns: int, *, bits: int = 8, components: int = 1) -> bytes:
    body = struct.pack(">BHHB", bits, rows, columns, components) + b"\x01\x11\x00" * components
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def tags(**values: Any) -> Write:
    return lambda path: write_dicom(path, **values)


def before_pixels(content: bytes, **values: Any) -> Write:
    """Elements behind all others, in explicit little endian."""

    def write(path: Path) -> Path:
        whole = write_dicom(path, **values).read_bytes()
        at = whole.index(struct.pack("<HH", 0x7FE0, 0x0010))
        path.write_bytes(whole[:at] + content + whole[at:])
        return path

    return write


def sequence(group: int, element: int) -> bytes:
    return struct.pack("<HH2sHI", group, element, b"SQ", 0, 0xFFFFFFFF)


ITEM, ITEM_END = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF), struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
HUGE = 65500
AT_JLS = JLS.index(b"\xff\xf7") + 5
AT_JP2 = JP2.index(b"\xff\x4f\xff\x51") + 8
BOMBS: dict[str, Write] = {
    **{
        f"jpeg 2000, {name}, {syntax.name}": encoded(frame, syntax)
        for syntax in (JPEG2000, HTJ2K)
        for name, frame in {
            "huge": patched(J2K, 8, ">II", HUGE, HUGE),
            "huge with offset": patched(J2K, 8, ">4I", 2**32 - 1, 2**32 - 1, 1, 1),
            "larger by one": patched(J2K, 8, ">II", 61, 40),
            "one tile a pixel": patched(J2K, 24, ">II", 1, 1),
            "no tile": patched(J2K, 24, ">II", 0, 0),
            "tiles beside the image": patched(J2K, 32, ">II", 2**31, 2**31),
            "16384 components": patched(J2K, 40, ">H", 16384),
            "38 bits": patched(J2K, 42, ">B", 37),
            "subsampled": patched(J2K, 43, ">BB", 255, 255),
            "huge in JP2": patched(JP2, AT_JP2, ">II", HUGE, HUGE),
            "box without end": JP2[:12] + struct.pack(">I4s", 1, b"junk") + JP2[12:],
            "boxes without code stream": JP2[:12] + struct.pack(">I4s", 8, b"free") * 5000,
        }.items()
    },
    "jpeg-ls, huge": encoded(patched(JLS, AT_JLS, ">HH", HUGE, HUGE), JPEGLSLossless),
    "jpeg-ls, tall": encoded(patched(JLS, AT_JLS, ">H", HUGE), JPEGLSLossless),
    "jpeg-ls, 255 components": encoded(patched(JLS, AT_JLS + 4, ">B", 255), JPEGLSLossless),
    "jpeg-ls, oversize": encoded(JLS[:2] + b"\xff\xf8\x00\x0c\x04\x03" + b"\xff" * 6 + JLS[2:], JPEGLSLossless),
    "jpeg lossless, huge": encoded(jpeg(frame_header(0xC3, HUGE, HUGE, bits=16)), JPEGLosslessSV1),
    "jpeg lossless, two frames": encoded(
        jpeg(frame_header(0xC3, *PIXELS.shape, bits=16), frame_header(0xC3, HUGE, HUGE)), JPEGLosslessSV1
    ),
    "jpeg, huge": encoded(jpeg(frame_header(0xC0, HUGE, HUGE)), JPEGBaseline8Bit),
    "jpeg, progressive and huge": encoded(jpeg(frame_header(0xC2, HUGE, HUGE)), JPEGBaseline8Bit),
    "jpeg, hierarchical": encoded(jpeg(frame_header(0xDE, HUGE, HUGE)), JPEGBaseline8Bit),
    "jpeg, lines told later": encoded(jpeg(frame_header(0xC0, 0, PIXELS.shape[1])), JPEGBaseline8Bit),
    "jpeg, 4 components": encoded(jpeg(frame_header(0xC0, *PIXELS.shape, components=4)), JPEGBaseline8Bit),
    "jpeg, comments without end": encoded(jpeg(b"\xff\xfe\x00\x02" * 100_000), JPEGBaseline8Bit),
    "rle, longer segment": encoded(RLE[:64] + b"\x81\x01" * 2000 + RLE[64:], RLELossless),
    "rle, 15 segments": encoded(patched(RLE, 0, "<I", 15), RLELossless),
    "rle, 4 billion segments": encoded(patched(RLE, 0, "<I", 2**32 - 1), RLELossless),
    "rle, offset beyond the end": encoded(patched(RLE, 8, "<I", 2**32 - 1), RLELossless),
    "rle, a megabyte of runs": encoded(patched(RLE, 8, "<I", 65) + b"\x81\x00" * 2**19, RLELossless),
    "header, huge image": tags(Rows=HUGE, Columns=HUGE),
    "header, a billion frames": tags(NumberOfFrames=10**9),
    "header, 64 bits": tags(BitsAllocated=64, BitsStored=64, HighBit=63),
    "header, 65535 bits": tags(BitsAllocated=65535),
    "header, 65535 samples": tags(SamplesPerPixel=65535, PlanarConfiguration=0),
    "header, infinite slope": tags(RescaleSlope="1e308", RescaleIntercept="-1e308"),
    "pixels of 500 frames": tags(PixelData=bytes(12 * 16 * 2 * 500)),
    "deep sequences": before_pixels((sequence(0x0009, 0x1001) + ITEM) * 50_000),
    "many items": before_pixels(sequence(0x5200, 0x9230) + (ITEM + ITEM_END) * 100_000),
    "zeros in a sequence": before_pixels(sequence(0x0009, 0x1001) + bytes(2**22)),
    "many character sets": before_pixels(struct.pack("<HH2sHI", 8, 5, b"UN", 0, 2**22) + b"a\\" * 2**21),
    "many character sets of a frame": before_pixels(
        struct.pack("<HH2sHIHHI", 0x5200, 0x9230, b"SQ", 0, 2**22 + 20, 0xFFFE, 0xE000, 2**22 + 12)
        + struct.pack("<HH2sHI", 8, 5, b"UN", 0, 2**22)
        + b"a\\" * 2**21,
        NumberOfFrames=2,
    ),
    "element beyond the end": before_pixels(struct.pack("<HH2sHI", 9, 0x1001, b"OB", 0, 2**32 - 2)),
}


def test_there_are_enough_bombs() -> None:
    assert len(BOMBS) >= 37


@pytest.mark.parametrize("name", BOMBS)
@pytest.mark.filterwarnings("ignore")
def test_a_bomb_is_refused_at_once(name: str, tmp_path: Path) -> None:
    path = BOMBS[name](tmp_path / "bomb.dcm")
    before, started = peak_from_now_kib(), time.thread_time()
    reading = read_file(path)
    assert isinstance(reading.pixels, InputError)
    assert str(path) in str(reading.pixels)
    assert time.thread_time() - started < 2
    assert peak_kib() - before < 64 * 1024


def peak_kib() -> int:
    """The largest memory of this process; 0 where the system does not tell."""
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s+([0-9]+) kB", status.read_text()) if status.is_file() else None
    return int(found[1]) if found else 0


def peak_from_now_kib() -> int:
    """Makes the present memory the largest: an earlier peak would hide a later one."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return peak_kib()


def test_the_files_that_bombs_are_made_of_are_read(tmp_path: Path) -> None:
    for number, (frame, syntax) in enumerate(
        ((J2K, JPEG2000), (JP2, JPEG2000), (JLS, JPEGLSLossless), (RLE, RLELossless))
    ):
        reading = read_file(write_encoded(tmp_path / f"{number}.dcm", frame, syntax))
        assert isinstance(reading.pixels, np.ndarray)
