"""Which files below a folder may be DICOM, and what becomes of the others."""

import io
import os
from pathlib import Path

import pydicom
import pytest

from pipelines.series import names_table
from shared.dicom.parsing import is_bare_dataset
from shared.dicom.scan import scan_folder
from tests.dicom_files import write_dicom


def bare(path: Path) -> bytes:
    """The data set of a file as some archives write it: without preamble and file meta information."""
    dataset = pydicom.dcmread(path)
    buffer = io.BytesIO()
    plain = pydicom.Dataset(dict(dataset.items()))
    pydicom.dcmwrite(buffer, plain, implicit_vr=True, little_endian=True, enforce_file_format=False)
    return buffer.getvalue()


def test_files_are_sorted_out(tmp_path: Path) -> None:
    image = write_dicom(tmp_path / "b" / "IM1")
    (tmp_path / "a.bin").write_bytes(bare(image))
    (tmp_path / "notes.txt").write_text("DICM is not at byte 128 here. " * 20)
    (tmp_path / "short").write_bytes(b"x")
    scan = scan_folder(tmp_path)
    assert sorted(scan.dicom) == [tmp_path / "a.bin", image]
    assert (scan.other, scan.closed) == (2, ())


def test_links_are_followed_once(tmp_path: Path) -> None:
    image = write_dicom(tmp_path / "elsewhere" / "1.dcm")
    study = tmp_path / "study"
    study.mkdir()
    (study / "series").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "loop").symlink_to(study)
    (study / "lost").symlink_to(tmp_path / "nowhere")
    scan = scan_folder(study)
    assert [p.resolve() for p in scan.dicom] == [image]
    assert scan.other == 1


def test_a_folder_that_is_nested_too_deeply_is_named(tmp_path: Path) -> None:
    write_dicom(tmp_path / "1.dcm")
    here = tmp_path
    for _ in range(1500):  # os.walk and Path.rglob give up at a thousand
        here /= "a"
        here.mkdir()
    try:
        scan = scan_folder(tmp_path)
        assert [path.name for path in scan.dicom] == ["1.dcm"]
        assert ["folders more than 64 deep" in str(error) for _, error in scan.closed] == [True]
        assert "hidden-ca978112ca  a\n" in f"{names_table(tmp_path)}\n"
    finally:
        while here != tmp_path:  # pytest's own clean-up calls itself for each level
            here.rmdir()
            here = here.parent


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open everything")
def test_what_cannot_be_opened_is_named(tmp_path: Path) -> None:
    write_dicom(tmp_path / "closed" / "1.dcm")
    image = write_dicom(tmp_path / "2.dcm")
    (tmp_path / "closed").chmod(0)
    image.chmod(0)
    try:
        scan = scan_folder(tmp_path)
        assert {path.name for path, _ in scan.closed} == {"closed", "2.dcm"}
        assert all("Permission denied" in str(error) for _, error in scan.closed)
    finally:
        (tmp_path / "closed").chmod(0o700)


def test_text_is_no_bare_data_set() -> None:
    assert not is_bare_dataset(b"study_id,series_id\n" * 20)
    assert not is_bare_dataset(b"\x89PNG\r\n\x1a\n" + bytes(200))
    assert not is_bare_dataset(bytes(132))
