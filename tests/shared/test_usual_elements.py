"""The short parser of usual files: what it returns is what pydicom returns, and what it doubts is pydicom's."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataelem import DataElement
from pydicom.encaps import encapsulate
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless
from rle.utils import encode_pixel_data

from shared.dicom.decoding.elements import usual_dataset, usual_meta
from shared.dicom.reader import read_header, read_pixels
from tests.dicom_files import write_dicom, write_multiframe

PIXELS = np.arange(12 * 16, dtype=np.uint16).reshape(12, 16)
TAGS = ("Rows", "PixelSpacing", "SeriesDescription", "PixelData")


def rle_file(path: Path) -> Path:
    write_dicom(path, PIXELS)
    dataset = pydicom.dcmread(path)
    frame = encode_pixel_data(
        dataset.PixelData, rows=12, columns=16, samples_per_pixel=1, bits_allocated=16, byteorder="<"
    )
    dataset.file_meta.TransferSyntaxUID = RLELossless
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path)
    return path


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Usual files: plain, RLE, with sequences of known length, with private and empty elements."""
    folder = tmp_path_factory.mktemp("usual")
    frames = [{"ImagePositionPatient": [0, 0, z], "PixelSpacing": [0.5, 0.5]} for z in range(2)]
    private = pydicom.dcmread(
        write_dicom(folder / "private.dcm", SeriesDescription="", SpecificCharacterSet="ISO_IR 100")
    )
    private.private_block(0x0019, "VENDOR", create=True).add_new(0x01, "OB", b"12")
    private.save_as(folder / "private.dcm")
    paths = (
        write_dicom(folder / "plain.dcm"), rle_file(folder / "rle.dcm"), folder / "private.dcm",
        write_multiframe(folder / "frames.dcm", frames, np.stack([PIXELS] * 2), shared=["PixelSpacing"]),
    )  # fmt: skip
    return [path.read_bytes() for path in paths]


def usual(content: bytes, *, stop: bool, tags: tuple[str, ...] | None) -> tuple[pydicom.Dataset, int] | None:
    meta = usual_meta(content, 132) if content[128:132] == b"DICM" else None
    return None if meta is None else usual_dataset(content, meta, stop_before_pixels=stop, tags=tags)


def agrees(content: bytes, *, stop: bool, tags: tuple[str, ...] | None) -> bool:
    """Whether the short parser took the content; fails where it found anything else than pydicom."""
    found = usual(content, stop=stop, tags=tags)
    if found is None:
        return False
    file = io.BytesIO(content)
    expected = pydicom.dcmread(file, stop_before_pixels=stop, specific_tags=None if tags is None else list(tags))
    dataset, end = found
    assert end == file.tell()
    assert dataset.original_encoding == expected.original_encoding
    assert dataset.file_meta.TransferSyntaxUID == expected.file_meta.TransferSyntaxUID
    assert dataset.keys() == expected.keys()
    for tag in list(expected.keys()):
        mine: Any = dataset.get_item(tag)
        theirs: Any = expected.get_item(tag)
        if isinstance(theirs, DataElement):  # pydicom has converted the character set
            assert dataset[tag].value == theirs.value
        else:
            assert (mine.tag, mine.VR, mine.length, mine.value) == (theirs.tag, theirs.VR, theirs.length, theirs.value)
    return True


@pytest.mark.parametrize("tags", [None, TAGS])
@pytest.mark.parametrize("stop", [False, True])
def test_usual_files_are_parsed_as_pydicom_parses_them(
    contents: list[bytes], stop: bool, tags: tuple[str, ...] | None
) -> None:
    assert [agrees(content, stop=stop, tags=tags) for content in contents] == [True] * len(contents)


@given(which=st.integers(0, 3), changes=st.lists(st.tuples(st.integers(132, 900), st.integers(0, 255)), max_size=4),
       end=st.integers(140, 2000), stop=st.booleans())  # fmt: skip
def test_a_damaged_file_is_parsed_as_pydicom_parses_it_or_left_to_it(
    contents: list[bytes], which: int, changes: list[tuple[int, int]], end: int, stop: bool
) -> None:
    content = bytearray(contents[which])
    for at, value in changes:
        if at < len(content):
            content[at] = value
    agrees(bytes(content[:end]), stop=stop, tags=TAGS)


def test_what_is_not_usual_is_left_to_pydicom(tmp_path: Path, contents: list[bytes]) -> None:
    plain = contents[0]
    at = plain.index(b"\xe0\x7f\x10\x00")
    unusual = {
        "trailing bytes": plain + b"\0", "cut off": plain[:-1], "no pixels": plain[:at], "no meta": plain[132:],
        "out of order": plain[:at] + b"\x08\0\x60\0CS\x02\0MR" + plain[at:],
        "another character set": plain.replace(b"\x08\0", b"\x08\0\x05\0CS\x0a\0ISO_IR 144\x08\0", 1),
    }  # fmt: skip
    for name, syntax in (("implicit", ImplicitVRLittleEndian), ("deflated", DeflatedExplicitVRLittleEndian)):
        dataset = pydicom.dcmread(io.BytesIO(plain))
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.save_as(tmp_path / name, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=True)
        unusual[name] = (tmp_path / name).read_bytes()
    undefined = pydicom.dcmread(io.BytesIO(contents[3]))
    for element in undefined:
        element.is_undefined_length = element.VR == "SQ"
    undefined.save_as(tmp_path / "undefined")
    unusual["a sequence of undefined length"] = (tmp_path / "undefined").read_bytes()
    assert {name for name, content in unusual.items() if usual(content, stop=False, tags=None)} == set()


def test_a_header_is_read_from_the_beginning_of_a_long_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_dicom(tmp_path / "1.dcm", np.arange(256 * 256, dtype=np.uint16).reshape(256, 256))
    content, expected = path.read_bytes(), read_header(path)
    path.write_bytes(content[: 2**14])  # a reader of the whole file would call it cut off or take what is left
    assert read_header(path) == expected
    path.write_bytes(content)
    monkeypatch.setattr("shared.dicom.parsing.usual_dataset", lambda *_, **__: None)
    assert read_header(path) == expected
    assert read_pixels(path).shape == (256, 256)
