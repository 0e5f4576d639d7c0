from pathlib import Path
from typing import Any

import pytest

from shared.dicom import discover
from shared.dicom.discover import discover_studies
from shared.labels import View
from shared.runtime.errors import InputError
from tests.dicom_files import AXIAL, CORONAL, SAGITTAL, write_dicom


def write_series(folder: Path, uid: str, slices: int = 6, **tags: Any) -> None:
    for i in range(slices):
        write_dicom(
            folder / f"{uid}-{i}",
            SeriesInstanceUID=uid,
            InstanceNumber=i + 1,
            ImagePositionPatient=[i * 4, 0, i * 4],
            **tags,
        )


@pytest.mark.parametrize(
    ("tags", "view"),
    [
        ({"SeriesDescription": "SAG T1 TSE"}, View.SAGITTAL_T1),
        ({"SeriesDescription": "t2_tse_sag"}, View.SAGITTAL_T2),
        ({"SeriesDescription": "Sag STIR"}, View.SAGITTAL_T2),
        ({"SeriesDescription": "AX T2", "ImageOrientationPatient": AXIAL}, View.AXIAL_T2),
        ({"SeriesDescription": None, "EchoTime": "11"}, View.SAGITTAL_T1),
        ({"SeriesDescription": None, "EchoTime": "110"}, View.SAGITTAL_T2),
        ({"SeriesDescription": None, "EchoTime": "40", "InversionTime": "160"}, View.SAGITTAL_T2),
        ({"SeriesDescription": "SAG PD"}, None),
        ({"SeriesDescription": "3 plane loc T2"}, None),
        ({"SeriesDescription": "COR T2", "ImageOrientationPatient": CORONAL}, None),
        ({"SeriesDescription": "series 4"}, None),
    ],
)
def test_view_from_description_orientation_and_echo_time(
    tmp_path: Path, tags: dict[str, Any], view: View | None
) -> None:
    write_series(tmp_path, "1.5", **tags)
    (loaded,) = discover_studies(tmp_path).studies
    assert [s.view for s in loaded.study.series] == ([view] if view else [])
    assert bool(loaded.problems) == (view is None)


def test_studies_and_series_come_from_headers_not_folders(tmp_path: Path) -> None:
    write_series(tmp_path / "a", "1.5", StudyInstanceUID="1.1", ImageOrientationPatient=SAGITTAL)
    write_series(tmp_path / "a", "1.6", StudyInstanceUID="1.2", ImageOrientationPatient=SAGITTAL)
    write_series(tmp_path / "b", "1.7", StudyInstanceUID="1.1", SeriesDescription="sag t1")
    (tmp_path / "a" / "junk.txt").write_text("junk")
    (tmp_path / "a" / "IM9").write_bytes(b"\0" * 128 + b"DICM" + b"\1" * 50)
    first, second = discover_studies(tmp_path).studies
    assert [s.series_id for s in first.study.series] == ["1.5", "1.7"]
    assert [s.series_id for s in second.study.series] == ["1.6"]
    assert any("IM9" in p for p in first.problems)


def test_missing_uids_never_merge_folders_and_missing_numbers_are_given(tmp_path: Path) -> None:
    for patient in ("IM1", "IM2"):
        for i in range(6):
            write_dicom(
                tmp_path / patient / "t2" / f"{i}", StudyInstanceUID=None, SeriesInstanceUID=None, InstanceNumber=None,
                ImagePositionPatient=[4 * i, 0, 0],
            )  # fmt: skip
    first, second = discover_studies(tmp_path).studies
    assert [s.study.study_id for s in (first, second)] == ["IM1", "IM2"]
    assert [item.instance_number for item in first.study.series[0].slices] == [1, 2, 3, 4, 5, 6]
    assert "instance numbers repeat" in first.problems[0]


def test_an_unreadable_series_of_its_own_is_reported(tmp_path: Path) -> None:
    write_series(tmp_path / "a" / "good", "1.5")
    write_series(tmp_path / "a" / "multi", "1.6", slices=1, NumberOfFrames=20)
    (loaded,) = discover_studies(tmp_path).studies
    assert any("20 frames" in problem for problem in loaded.problems)


def test_folders_without_any_study(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        discover_studies(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no readable DICOM"):
        discover_studies(tmp_path)


def test_a_real_export(real_data: Path) -> None:
    (loaded,) = discover_studies(real_data / "lumbar_study").studies
    assert {(s.view, len(s.slices)) for s in loaded.study.series} == {
        (View.SAGITTAL_T1, 12), (View.SAGITTAL_T2, 12), (View.AXIAL_T2, 26),
    }  # fmt: skip
    assert len(loaded.problems) == 3  # two localizers and a proton-density series


def test_unreadable_files_are_placed_once_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_series(tmp_path / "a", "1.5", StudyInstanceUID="1.1")
    write_series(tmp_path / "b", "1.6", StudyInstanceUID="1.2")
    for n in range(20):
        (tmp_path / "a" / f"broken{n}").write_bytes(b"\0" * 128 + b"DICM" + b"\1" * 50)
    compared = []
    common = discover._common
    monkeypatch.setattr(discover, "_common", lambda a, b: compared.append(a) or common(a, b))
    first, second = discover_studies(tmp_path).studies
    assert (len(first.problems), len(second.problems)) == (20, 0)
    assert len(compared) == 2  # one folder of broken files, two of studies


def test_a_series_without_pixels_takes_no_place(tmp_path: Path) -> None:
    write_series(tmp_path / "good", "1.5")
    write_series(tmp_path / "empty", "1.6", PixelSpacing=[0.3, 0.3], PixelData=None)
    (found,) = discover_studies(tmp_path).studies
    assert [s.series_id for s in found.study.series] == ["1.5"]
    assert sum("not followed by pixels" in str(error) for error in found.unreadable) == 6
