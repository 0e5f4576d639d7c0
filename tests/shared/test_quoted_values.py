"""Messages name a tag and what was expected, never its value: any tag may hold a patient's name."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.dicom.encoding import read_encoded_header
from shared.dicom.header import DESCRIBING_TAGS, HEADER_TAGS
from shared.dicom.parsing import attempt
from shared.dicom.reader import read_file, read_raw_pixels
from shared.runtime.errors import InputError
from tests.dicom_files import write_dicom
from tests.planted import plant

_PIXEL_TAGS = (
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PhotometricInterpretation", "RescaleSlope",
    "RescaleIntercept", "WindowCenter", "MagneticFieldStrength", "Manufacturer", "TransferSyntaxUID",
)  # fmt: skip


@pytest.mark.parametrize("keyword", sorted({*HEADER_TAGS, *DESCRIBING_TAGS, *_PIXEL_TAGS}))
def test_no_message_quotes_a_value(tmp_path: Path, keyword: str, capfd: pytest.CaptureFixture[str]) -> None:
    logging.getLogger("pydicom").setLevel(logging.DEBUG)
    names = (b"DOE^JANE", b"DOE^JANE\\DOE^JANE\\DOE^JANE", b"DOE^JANE^1970")
    values: list[tuple[str, bytes] | bytes] = [*names, *((vr, name) for vr in ("LO", "UN") for name in names)]
    for n, value in enumerate(values):
        path = plant(write_dicom(tmp_path / f"{n}.dcm"), {keyword: value})
        readers: tuple[Callable[[Path], object], ...] = (
            lambda path: read_file(path, described=True).header, lambda path: read_file(path).pixels,
            read_encoded_header, read_raw_pixels,
        )  # fmt: skip
        for read in readers:
            found = attempt(lambda read=read, path=path: read(path))  # type: ignore[misc]
            assert "DOE" not in (str(found) if isinstance(found, InputError) else repr(found)), value
        assert "DOE" not in "".join(capfd.readouterr())


def test_a_message_names_the_tag_and_what_it_holds(tmp_path: Path) -> None:
    path = plant(write_dicom(tmp_path / "1.dcm"), {"PixelSpacing": b"DOE^JANE"})
    assert str(read_file(path).header) == (f"{path}: PixelSpacing: expected a decimal number, got something else")
