"""Pixels of hostile files are refused, or decoded where they can do no harm."""

import contextlib
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.encaps import encapsulate
from rle.utils import encode_pixel_data

from shared.dicom.decoding.encapsulation import encapsulated_frame
from shared.dicom.decoding.rle import decode_rle
from shared.dicom.parsing import foreign
from shared.dicom.reader import read_pixels
from shared.dicom.tags import DicomFaultError
from shared.runtime.errors import InputError
from tests.dicom_files import write_dicom

SHAPE = (40, 60)
PIXELS = np.random.default_rng(0).integers(0, 3000, SHAPE, dtype=np.uint16)
PIXELS[10:20] = 5


def rle_frame(pixels: np.ndarray) -> bytes:
    header = pydicom.Dataset()
    header.Rows, header.Columns = pixels.shape
    header.SamplesPerPixel, header.BitsAllocated, header.PixelRepresentation = 1, 8 * pixels.itemsize, 0
    header.PhotometricInterpretation, header.NumberOfFrames = "MONOCHROME2", 1
    return bytes(encode_pixel_data(pixels.tobytes(), header, "<"))


RLE = rle_frame(PIXELS)


def write_encoded(path: Path, frame: bytes, syntax: str, pixels: np.ndarray = PIXELS, **tags: Any) -> Path:
    """A file that says of itself what `pixels` are, and holds the frame."""
    dataset = pydicom.dcmread(write_dicom(path, pixels, **tags))
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path)
    return path


class Panic(BaseException):
    """As pyo3 raises it: no Exception."""


def test_a_panic_of_foreign_code_is_an_input_error_and_an_interrupt_is_not() -> None:
    with pytest.raises(InputError, match=r"a\.dcm: cannot be read"), foreign("a.dcm", "cannot be read"):
        raise Panic
    for kind in (KeyboardInterrupt, SystemExit, GeneratorExit):
        with pytest.raises(kind), foreign("a.dcm", "cannot be read"):
            raise kind


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32])
def test_rle_of_every_depth_is_read(dtype: type) -> None:
    pixels = PIXELS.astype(dtype)
    np.testing.assert_array_equal(decode_rle(rle_frame(pixels), SHAPE, pixels.itemsize), pixels)


def test_rle_is_read_without_the_wheel_that_decodes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.dicom.decoding.rle.decode_segment", None)
    np.testing.assert_array_equal(decode_rle(RLE, SHAPE, 2), PIXELS)


@given(st.lists(st.tuples(st.integers(0, len(RLE) - 1), st.integers(0, 255)), max_size=4), st.integers(0, len(RLE)))
def test_damaged_rle_never_panics(changes: list[tuple[int, int]], end: int) -> None:
    frame = bytearray(RLE)
    for at, value in changes:
        frame[at] = value
    for content in (bytes(frame), bytes(frame[:end])):
        with contextlib.suppress(DicomFaultError):
            assert decode_rle(content, SHAPE, 2).shape == SHAPE


def test_a_file_whose_rle_made_the_decoder_panic_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    longer = RLE[:64] + b"\x81\x01" * 200 + RLE[64:]
    path = write_encoded(tmp_path / "longer.dcm", longer, pydicom.uid.RLELossless)
    with pytest.raises(InputError, match=r"longer\.dcm: pixels cannot be decoded \(an RLE segment"):
        read_pixels(path)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("segment", "shape"),
    [(b"\x81\x00" * 2**19, (8, 8)), (b"\x81\x00" * 2**20, (1024, 1024)), (b"\x80" * 2**22, (8, 8))],
    ids=["small image", "large image", "no content"],
)
def test_rle_that_expands_is_refused_before_it_fills_memory(segment: bytes, shape: tuple[int, int]) -> None:
    frame = struct.pack("<16I", 1, 64, *[0] * 14) + segment
    tracemalloc.start()
    with pytest.raises(DicomFaultError, match="RLE segment"):
        decode_rle(frame, shape, 1)
    assert tracemalloc.get_traced_memory()[1] < len(segment) + 64 * 2**20
    tracemalloc.stop()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        bytes.fromhex("feff00e000000000"),
        bytes.fromhex("feff00e0ffffff7f"),
        bytes.fromhex("feff00e000000000 feff00e0ffffffff"),
        bytes.fromhex("feff00e000000000") * 10_000,
    ],
    ids=["nothing", "no fragment", "offsets beyond the end", "fragment beyond the end", "empty fragments"],
)
def test_fragments_that_are_none_are_refused(content: bytes) -> None:
    with pytest.raises(DicomFaultError):
        encapsulated_frame(content)
