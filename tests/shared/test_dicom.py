import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

sys.path.insert(0, str(Path(__file__).parents[1]))
from dicom_files import AXIAL, write_dicom

from shared.dicom import read_header, read_pixels, read_raw_pixels, scale_to_8bit
from shared.errors import InputError


def test_header_of_a_file_without_optional_tags(tmp_path: Path) -> None:
    path = write_dicom(
        tmp_path / "a.dcm", SeriesDescription=None, SeriesInstanceUID=None, ImageOrientationPatient=AXIAL
    )
    header = read_header(path)
    assert header.shape == (12, 16)
    assert header.series_uid is None
    assert header.description == ""
    assert header.plane.spacing_mm == (0.5, 0.5)
    assert header.plane.normal == pytest.approx((0, 0, 1))


def test_rescale_and_monochrome1(tmp_path: Path) -> None:
    pixels = np.arange(20, dtype=np.uint16).reshape(4, 5)
    rescaled = write_dicom(tmp_path / "a.dcm", pixels, RescaleSlope="2", RescaleIntercept="-10")
    np.testing.assert_array_equal(read_raw_pixels(rescaled), pixels * 2.0 - 10)
    inverted = write_dicom(tmp_path / "b.dcm", pixels, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(read_raw_pixels(inverted), 19.0 - pixels)


def test_signed_pixels_and_multivalued_windows_do_not_matter(tmp_path: Path) -> None:
    pixels = (np.arange(400, dtype=np.int16) - 200).reshape(20, 20)
    signed = write_dicom(tmp_path / "a.dcm", pixels, WindowCenter=["40", "50"], WindowWidth=["400", "100"])
    unsigned = write_dicom(tmp_path / "b.dcm", (pixels + 200).astype(np.uint16))
    np.testing.assert_array_equal(read_pixels(signed), read_pixels(unsigned))


@given(hnp.arrays(np.uint16, (9, 9), elements=st.integers(0, 4095)), st.floats(0.5, 20), st.floats(-500, 500))
def test_scaling_ignores_gain_and_offset(pixels: np.ndarray, gain: float, offset: float) -> None:
    assume(np.ptp(np.percentile(pixels, (1, 99.5))) > 64)
    scaled = scale_to_8bit(pixels)
    assert scaled.dtype == np.uint8
    again = scale_to_8bit(pixels.astype(np.float64) * gain + offset)
    assert np.abs(scaled.astype(int) - again.astype(int)).max() <= 1


def test_a_flat_image_is_black() -> None:
    assert not scale_to_8bit(np.full((4, 4), 7)).any()


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"Rows": 60000, "Columns": 60000}, "60000 x 60000"),
        ({"NumberOfFrames": 3}, "3 frames"),
        ({"PixelSpacing": None}, "PixelSpacing is missing"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "not orthonormal"),
        ({"PixelSpacing": [0, 1]}, "positive"),
        ({"PixelSpacing": [1000, 1000]}, "PixelSpacing"),
        ({"ImagePositionPatient": [1e5, 0, 0]}, "ImagePositionPatient"),
        ({"SeriesInstanceUID": "../../etc/passwd"}, "malformed UID"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_bad_headers_name_the_file(tmp_path: Path, tags: dict[str, object], message: str) -> None:
    path = write_dicom(tmp_path / "bad.dcm", **tags)
    with pytest.raises(InputError, match=message) as caught:
        read_header(path)
    assert "bad.dcm" in str(caught.value)
    assert "Doe" not in str(caught.value)


def test_files_that_are_no_dicom(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("not DICOM at all")
    with pytest.raises(InputError, match="not a DICOM file"):
        read_header(text)
    with pytest.raises(InputError, match="cannot be read"):
        read_header(tmp_path / "missing.dcm")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("keep", [140, 200, 400, 600, 700])
def test_truncated_files_become_input_errors(tmp_path: Path, keep: int) -> None:
    whole = write_dicom(tmp_path / "a.dcm").read_bytes()
    cut = tmp_path / "cut.dcm"
    cut.write_bytes(whole[:keep])
    with pytest.raises(InputError, match=r"cut\.dcm"):
        read_pixels(cut)


def test_deflated_files_are_refused_before_they_expand(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm")
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    dataset.save_as(tmp_path / "deflated.dcm", enforce_file_format=True)
    with pytest.raises(InputError, match="deflated"):
        read_header(tmp_path / "deflated.dcm")


def test_lossless_encodings_of_one_slice_agree(real_data: Path) -> None:
    folder = real_data / "transfer_syntaxes"
    plain = read_raw_pixels(folder / "MR1_UNC.dcm")
    assert plain.shape == (512, 512)
    for name in ("MR1_RLE", "MR1_J2KR", "MR1_JLSL", "MR1_JPLL"):
        np.testing.assert_array_equal(read_raw_pixels(folder / f"{name}.dcm"), plain, err_msg=name)
    np.testing.assert_array_equal(plain, pydicom.dcmread(folder / "MR1_UNC.dcm").pixel_array)
