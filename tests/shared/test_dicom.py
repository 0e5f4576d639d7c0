import os
import re
import stat
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from rle.utils import encode_pixel_data

from shared.dicom import parsing
from shared.dicom.decoding.stored_pixels import stored_pixels
from shared.dicom.header import NoImageError, NoPlaneError
from shared.dicom.intensity import scale_by_table, scale_to_8bit
from shared.dicom.reader import file_digest, read_file, read_header, read_pixels, read_raw_pixels
from shared.dicom.views import Acquisition
from shared.dicom.vocabulary import Term
from shared.runtime.errors import InputError
from tests.dicom_files import AXIAL, write_dicom


def test_header_of_a_file_without_optional_tags(tmp_path: Path) -> None:
    path = write_dicom(
        tmp_path / "a.dcm", SeriesDescription=None, SeriesInstanceUID=None, ImageOrientationPatient=AXIAL
    )
    header = read_header(path)
    assert header.shape == (12, 16)
    assert header.series_uid is None
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


@pytest.mark.filterwarnings("ignore")
def test_a_uid_is_compared_and_never_names_a_path(tmp_path: Path) -> None:
    paths = [
        write_dicom(tmp_path / f"{n}.dcm", SeriesInstanceUID=uid) for n, uid in enumerate(("../../etc/passwd", ".."))
    ]
    first, second = (read_header(path).series_uid for path in paths)
    assert first != second
    for uid in (first, second):
        assert re.fullmatch(r"uid-[0-9a-f]{16}", str(uid))


@pytest.mark.filterwarnings("ignore")
def test_values_that_exporters_write_are_read(tmp_path: Path) -> None:
    usual = read_header(write_dicom(tmp_path / "1.dcm", ImageOrientationPatient=[0, 1, 0, 0, 0, -1]))
    rounded = read_header(write_dicom(tmp_path / "2.dcm", ImageOrientationPatient=[0.01, 1.0, 0, 0, 0.01, -1.0]))
    row, column = np.array(rounded.plane.row_dir), np.array(rounded.plane.col_dir)
    assert row @ column == pytest.approx(0, abs=1e-12)
    assert (usual.direction_error, 0.005 < rounded.direction_error < 0.02) == (0, True)
    assert row @ np.array(usual.plane.row_dir) == pytest.approx(1, abs=1e-3)
    assert read_header(write_dicom(tmp_path / "3.dcm", InstanceNumber=None)).instance_number == 0
    plain = read_pixels(write_dicom(tmp_path / "4.dcm"))
    np.testing.assert_array_equal(
        read_pixels(write_dicom(tmp_path / "5.dcm", RescaleSlope=0, RescaleIntercept=0)), plain
    )


def test_a_described_header_keeps_terms_and_digests_but_no_text(tmp_path: Path) -> None:
    path = write_dicom(
        tmp_path / "1.dcm", Modality="MR", ImageType=["ORIGINAL", "PRIMARY", "DOE JANE"], EchoTime=110,
        PatientID="4711", SeriesDescription="T2 sag Doe", ProtocolName="L-SPINE",
    )  # fmt: skip
    assert read_header(path).acquisition == Acquisition()
    header = read_header(path, described=True)
    assert header.acquisition.terms == {Term.T2, Term.SAGITTAL}
    assert header.acquisition.protocol_terms == {Term.LUMBAR}
    assert header.acquisition.image_type == ("ORIGINAL", "PRIMARY")
    assert header.acquisition.echo_ms == 110
    assert not any(secret in repr(header) for secret in ("4711", "Doe", "DOE"))
    assert Acquisition.from_json(header.acquisition.to_json()) == header.acquisition


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
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_bad_headers_name_the_file(tmp_path: Path, tags: dict[str, Any], message: str) -> None:
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


@pytest.mark.parametrize("vr", [b"LO", b"PN", b"ST", b"UI"])
def test_a_deflated_syntax_cannot_hide_behind_an_escape(vr: bytes, tmp_path: Path) -> None:
    """pydicom drops `ESC ( B` while it decodes text, so the UID need not lie in the file in one piece."""
    hidden = {b"UI": b"1.2.840.10008.1.2.1.99"}.get(vr, b"1.2.840.10008.1.2.1\x1b(B.99 ")
    element = b"\x02\x00\x10\x00" + vr + len(hidden).to_bytes(2, "little") + hidden
    packed = zlib.compressobj(wbits=-15)
    (tmp_path / "a.dcm").write_bytes(bytes(128) + b"DICM" + element + packed.compress(bytes(10**6)) + packed.flush())
    with pytest.raises(InputError, match="deflated"):
        read_header(tmp_path / "a.dcm")


def test_lossless_encodings_of_one_slice_agree(real_data: Path) -> None:
    folder = real_data / "transfer_syntaxes"
    plain = read_raw_pixels(folder / "MR1_UNC.dcm")
    assert plain.shape == (512, 512)
    for name in ("MR1_RLE", "MR1_J2KR", "MR1_JLSL", "MR1_JPLL"):
        np.testing.assert_array_equal(read_raw_pixels(folder / f"{name}.dcm"), plain, err_msg=name)
    np.testing.assert_array_equal(plain, pydicom.dcmread(folder / "MR1_UNC.dcm").pixel_array)


@given(
    st.sampled_from(["u1", "i1", "<u2", ">u2", "<i2", ">i2"]).flatmap(
        lambda name: hnp.arrays(np.dtype(name), hnp.array_shapes(min_dims=2, max_dims=2, max_side=12))
    ),
    st.sampled_from([1.0, -1.0, 0.5, 3.7, 1e-3, 1e38]),
    st.sampled_from([0.0, -1024.0, 0.1]),
    st.booleans(),
)
@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid")
def test_scaling_by_table_gives_the_same_bytes(
    stored: np.ndarray, slope: float, intercept: float, inverted: bool
) -> None:
    def in_units(values: np.ndarray) -> np.ndarray:
        units = (values.astype(np.float64) * slope + intercept).astype(np.float32)
        return units.max() - units if inverted else units

    expected = scale_to_8bit(in_units(stored))
    got = scale_by_table(stored, in_units)
    assert (got.dtype, got.shape) == (np.uint8, stored.shape)
    np.testing.assert_array_equal(got, expected)


def test_one_reading_gives_what_header_and_pixels_give_apart(tmp_path: Path) -> None:
    whole = write_dicom(tmp_path / "whole.dcm", RescaleSlope="2", RescaleIntercept="-10")
    no_plane = write_dicom(tmp_path / "no_plane.dcm", PixelSpacing=None)
    no_pixels = write_dicom(tmp_path / "no_pixels.dcm", PixelData=None)
    cut, junk, missing = (tmp_path / f"{name}.dcm" for name in ("cut", "junk", "missing"))
    cut.write_bytes(whole.read_bytes()[:-100])
    encoded = write_dicom(tmp_path / "encoded.dcm")
    dataset = pydicom.dcmread(encoded)
    dataset.compress(pydicom.uid.RLELossless, encoding_plugin="pylibjpeg")
    dataset.save_as(encoded)
    encoded.write_bytes(encoded.read_bytes()[:-60])  # its header is whole, its pixels are not
    junk.write_bytes(b"junk")
    for path in (whole, no_plane, no_pixels, cut, encoded, junk, missing):
        reading = read_file(path)
        for got, read in ((reading.header, read_header), (reading.pixels, read_pixels)):
            if isinstance(got, InputError):
                with pytest.raises(InputError) as caught:
                    read(path)
                assert str(got) == str(caught.value)
            else:
                np.testing.assert_equal(got, read(path))
        assert reading.sha256 == file_digest(path)
        assert bool(reading.sha256) == path.exists()


def test_pixels_are_pydicoms_own(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 4096, (40, 30), dtype=np.uint16)
    for number, compressed in enumerate((False, True)):
        path = write_dicom(tmp_path / f"{number}.dcm", pixels)
        dataset = pydicom.dcmread(path)
        if compressed:
            dataset.compress(pydicom.uid.RLELossless, encoding_plugin="pylibjpeg")
            dataset.save_as(path)
        np.testing.assert_array_equal(read_raw_pixels(path), pydicom.dcmread(path).pixel_array)
        np.testing.assert_array_equal(read_pixels(path), scale_to_8bit(pydicom.dcmread(path).pixel_array))


@given(
    hnp.arrays(np.uint16, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9)),
    st.integers(8, 16),
    st.sampled_from([0, 1]),
    st.booleans(),
)
def test_stored_pixels_are_pydicoms_whatever_lies_in_the_unused_bits(
    pixels: np.ndarray, bits: int, signed: int, compressed: bool
) -> None:
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, bits, bits - 1
    dataset.PixelRepresentation = signed
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OW"
    if compressed:
        dataset.PixelData = pydicom.encaps.encapsulate([encode_pixel_data(dataset.PixelData, dataset, "<")])
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.RLELossless
    got, expected = stored_pixels(dataset), dataset.pixel_array
    assert got.dtype == expected.dtype
    np.testing.assert_array_equal(got, expected)


def test_a_pipe_or_device_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "1.dcm")
    (tmp_path / "2.dcm").symlink_to("/dev/zero")
    for name in ("1.dcm", "2.dcm"):
        with pytest.raises(InputError, match="no regular file"):
            read_header(tmp_path / name)


def test_a_file_that_grows_is_read_to_the_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_dicom(tmp_path / "1.dcm")
    monkeypatch.setattr(parsing, "MAX_FILE_BYTES", path.stat().st_size - 1)
    with pytest.raises(InputError, match="expected at most"):
        read_header(path)
    monkeypatch.setattr(stat, "S_ISREG", lambda mode: True)
    with pytest.raises(InputError, match="expected at most"):
        read_header(Path("/dev/zero"))


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("1.2.840.10008.1.3.10", NoImageError),  # DICOMDIR
        ("1.2.840.10008.5.1.4.1.1.88.11", NoImageError),  # report
        ("1.2.840.10008.5.1.4.1.1.104.1", NoImageError),  # PDF
        ("1.2.840.10008.5.1.4.1.1.4", NoPlaneError),  # an MR image that lost its tags
    ],
)
def test_objects_without_pixels_are_told_from_images_without_a_plane(tmp_path: Path, kind: str, error: type) -> None:
    bare = dict.fromkeys(("Rows", "Columns", "PixelData", "PixelSpacing", "ImagePositionPatient"))
    with pytest.raises(error):
        read_header(write_dicom(tmp_path / "1", sop_class=kind, **bare))


def test_stored_bits_at_the_top_are_the_same_picture(tmp_path: Path) -> None:
    pixels = np.arange(12 * 16, dtype=np.uint16).reshape(12, 16)
    low = write_dicom(tmp_path / "low", pixels, BitsStored=12, HighBit=11)
    high = write_dicom(tmp_path / "high", pixels << 4, BitsStored=12, HighBit=15)
    np.testing.assert_array_equal(read_pixels(low), read_pixels(high))


@pytest.mark.parametrize(
    ("value", "tags", "reason"),
    [(7, {}, "have the value 7"), (None, {"RescaleSlope": "1e38", "RescaleIntercept": "-1e38"}, "not finite")],
)
def test_a_picture_that_shows_nothing_is_an_error(
    tmp_path: Path, value: int | None, tags: dict[str, Any], reason: str
) -> None:
    pixels = (
        np.arange(12 * 16, dtype=np.uint16).reshape(12, 16) if value is None else np.full((12, 16), value, np.uint16)
    )
    with pytest.raises(InputError, match=reason):
        read_pixels(write_dicom(tmp_path / "1.dcm", pixels, **tags))


def test_messages_are_printable_whatever_files_are_called(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"M\xfcller\x1b[31m")
    path.write_bytes(b"no DICOM")
    with pytest.raises(InputError) as raised:
        read_pixels(path)
    assert str(raised.value).isprintable()
