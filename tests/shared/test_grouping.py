"""Files of any exporter -> the studies and series that they are, told by their headers."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.dicom.discover import discover_studies
from shared.dicom.grouping.dealing import folder_name
from shared.labels import View
from tests.dicom_files import AXIAL, CORONAL, SAGITTAL, write_dicom


def export(folder: Path, slices: int = 6, axis: int = 0, **tags: Any) -> None:
    """One series; slices 4 mm apart along a patient axis. Tags that end in `_of` give each slice its own value."""
    for i in range(slices):
        own: dict[str, Any] = {
            name.removesuffix("_of"): value(i) if name.endswith("_of") else value for name, value in tags.items()
        }
        place = [4.0 * i if k == axis else 0.0 for k in range(3)]
        values: dict[str, Any] = {"InstanceNumber": i + 1, "ImagePositionPatient": place} | own
        write_dicom(folder / f"IM{i}", **values)


def test_a_uid_per_slice_is_one_series(tmp_path: Path) -> None:
    export(tmp_path / "t2", SeriesInstanceUID_of=lambda i: f"1.5.{i}")
    export(tmp_path / "t1", SeriesInstanceUID_of=lambda i: f"1.6.{i}", SeriesDescription="SAG T1")
    (found,) = discover_studies(tmp_path).studies
    assert sorted((s.view, len(s.slices)) for s in found.study.series) == [(View.SAGITTAL_T1, 6), (View.SAGITTAL_T2, 6)]
    assert sum("put together" in problem for problem in found.problems) == 2


def test_blocks_of_their_own_are_one_axial_series(tmp_path: Path) -> None:
    for block in range(5):
        angle = np.radians(5 + 4 * block)
        tilt = [1, 0, 0, 0, float(np.cos(angle)), float(-np.sin(angle))]
        export(
            tmp_path / str(block), slices=3, axis=2, SeriesInstanceUID=f"1.7.{block}", SeriesDescription="AX T2",
            ImageOrientationPatient=tilt, ImagePositionPatient_of=lambda i, b=block: [0, 0, 40.0 * b + 4 * i],
        )  # fmt: skip
    (found,) = discover_studies(tmp_path).studies
    (series,) = found.study.series
    assert (series.view, len(series.slices)) == (View.AXIAL_T2, 15)


def test_two_patients_under_one_uid_are_two_studies(tmp_path: Path) -> None:
    for n in (1, 2):
        export(
            tmp_path / str(n), SeriesInstanceUID=f"1.5.{n}", PatientID=f"P{n}", FrameOfReferenceUID=f"1.9.{n}",
            ImagePositionPatient_of=lambda i: [4.0 * i, 0, 0],
        )  # fmt: skip
    first, second = discover_studies(tmp_path).studies
    assert (first.study.study_id, second.study.study_id) == ("1.2-1", "1.2-2")
    assert all("covers 2 patients" in found.problems[0] for found in (first, second))


def test_one_patient_with_two_frames_of_reference_is_one_study(tmp_path: Path) -> None:
    for n in (1, 2):
        export(tmp_path / str(n), SeriesInstanceUID=f"1.5.{n}", PatientID="P1", FrameOfReferenceUID=f"1.9.{n}")
    (found,) = discover_studies(tmp_path).studies
    assert len(found.series) == 2


def test_a_stray_slice_is_left_out_and_named(tmp_path: Path) -> None:
    export(tmp_path, SeriesInstanceUID="1.5")
    write_dicom(
        tmp_path / "IM99", SeriesInstanceUID="1.5", InstanceNumber=99, ImageOrientationPatient=AXIAL,
        ImagePositionPatient=[0, 0, 0],
    )  # fmt: skip
    discovery = discover_studies(tmp_path)
    (series,) = discovery.studies[0].study.series
    assert len(series.slices) == 6
    assert any("IM99" in problem for problem in discovery.studies[0].problems)
    assert (discovery.files.used, discovery.files.not_needed) == (6, 1)


def test_a_steep_block_stays_in_its_axial_series(tmp_path: Path) -> None:
    steep = [1, 0, 0, 0, 0.6, -0.8]  # its normal is 53 degrees off the patient's axis, nearer to coronal
    export(tmp_path / "a", slices=10, axis=2, SeriesInstanceUID="1.5", SeriesDescription="AX T2",
           ImageOrientationPatient_of=lambda i: steep if i > 6 else AXIAL)  # fmt: skip
    (found,) = discover_studies(tmp_path).studies
    assert [len(series.slices) for series in found.study.series] == [10]


def test_two_echoes_are_told_apart(tmp_path: Path) -> None:
    for n, echo in enumerate((20.0, 100.0)):
        export(
            tmp_path / str(n), SeriesInstanceUID="1.5", SeriesDescription="PD/T2 sag", EchoTime=echo,
            RepetitionTime=3000.0, InstanceNumber_of=lambda i, n=n: 6 * n + i + 1,
        )  # fmt: skip
    (found,) = discover_studies(tmp_path).studies
    (series,) = found.study.series
    assert (series.view, len(series.slices)) == (View.SAGITTAL_T2, 6)


def test_a_wide_field_is_used_only_without_a_better_series(tmp_path: Path) -> None:
    wide = np.ones((60, 60), np.uint16)
    export(tmp_path / "wide", SeriesInstanceUID="1.6", PixelSpacing=[8, 8], pixels=wide)
    (found,) = discover_studies(tmp_path).studies
    assert [series.series_id for series in found.study.series] == ["1.6"]
    export(tmp_path / "usual", SeriesInstanceUID="1.5")
    (found,) = discover_studies(tmp_path).studies
    assert [series.series_id for series in found.study.series] == ["1.5"]
    assert any("field of 480 mm" in problem for problem in found.problems)


def test_every_file_is_accounted_for(tmp_path: Path) -> None:
    export(tmp_path / "t2", SeriesInstanceUID="1.5")
    export(tmp_path / "loc", SeriesInstanceUID="1.6", SeriesDescription="localizer")
    (tmp_path / "t2" / "broken").write_bytes(b"\0" * 128 + b"DICM" + b"\1" * 50)
    (tmp_path / "notes.txt").write_text("x")
    files = discover_studies(tmp_path).files
    assert (files.used, files.not_needed, files.unreadable, files.not_dicom) == (6, 6, 1, 1)


def test_directions_that_were_made_orthonormal_are_named(tmp_path: Path) -> None:
    export(tmp_path, SeriesInstanceUID="1.5", ImageOrientationPatient=[0.01, 1, 0, 0, 0.01, -1])
    (found,) = discover_studies(tmp_path).studies
    assert len(found.study.series[0].slices) == 6
    assert "ImageOrientationPatient of 6 slices" in found.problems[0]
    assert "accepted: 0.02" in found.problems[0]


DEALT = {
    "odd and even": lambda i: i % 2,
    "halves": lambda i: i // 6,
    "unequal": lambda i: int(i > 8),
    "thirds": lambda i: i % 3,
    "at random": lambda i: [0, 1, 1, 0, 0, 0, 1, 0, 1, 1, 0, 1][i],
}


@pytest.mark.parametrize("lot", DEALT.values(), ids=DEALT)
def test_slices_dealt_to_several_series_are_one(tmp_path: Path, lot: Callable[[int], int]) -> None:
    tags: dict[str, Any] = {"FrameOfReferenceUID": "1.9", "SliceThickness": 3.6}
    export(tmp_path, slices=12, SeriesInstanceUID_of=lambda i: f"1.5.{lot(i)}", **tags)
    (found,) = discover_studies(tmp_path).studies
    assert [len(series.slices) for series in found.study.series] == [12]
    assert any("of one acquisition were put together" in problem for problem in found.problems)


@pytest.mark.parametrize("lot", DEALT.values(), ids=DEALT)
def test_slices_dealt_to_several_studies_are_one(tmp_path: Path, lot: Callable[[int], int]) -> None:
    shared: dict[str, Any] = {"FrameOfReferenceUID": "1.9", "PatientID": "P"}
    study_of: dict[str, Any] = {"StudyInstanceUID_of": lambda i: f"1.2.{lot(i)}"}
    export(tmp_path / "t2", slices=12, SeriesInstanceUID="1.5", **shared, **study_of)
    export(tmp_path / "t1", slices=12, SeriesInstanceUID_of=lambda i: f"1.6.{lot(i)}", SeriesDescription="SAG T1",
           **shared, **study_of)  # fmt: skip
    (found,) = discover_studies(tmp_path).studies
    assert found.study.study_id == "1.2.0"
    assert [len(series.slices) for series in found.study.series] == [12, 12]
    assert "StudyInstanceUIDs, which were joined" in found.problems[0]


@pytest.mark.parametrize("differs", ["PatientID", "FrameOfReferenceUID", "SeriesDescription"])
def test_only_what_belongs_together_is_joined(tmp_path: Path, differs: str) -> None:
    for n in (0, 1):
        tags: dict[str, Any] = {"FrameOfReferenceUID": "1.9", "PatientID": "P", "SeriesDescription": "SAG T2"}
        tags[differs] += f" {n}" if differs != "FrameOfReferenceUID" else str(n)
        export(
            tmp_path / str(n), StudyInstanceUID=f"1.2.{n}", SeriesInstanceUID=f"1.5.{n}",
            ImagePositionPatient_of=lambda i, n=n: [8.0 * i + 4 * n, 0, 0], **tags,
        )  # fmt: skip
    assert len(discover_studies(tmp_path).studies) == 2


@pytest.mark.parametrize("offset_mm", [0.0, 0.8, 1.3, 2.0])
def test_a_repeat_stays_apart(tmp_path: Path, offset_mm: float) -> None:
    for n in (0, 1):
        export(
            tmp_path / str(n), SeriesInstanceUID=f"1.5.{n}", FrameOfReferenceUID="1.9", SliceThickness=3.6,
            ImagePositionPatient_of=lambda i, n=n: [4.0 * i + n * offset_mm, 0, 0],
        )  # fmt: skip
    (found,) = discover_studies(tmp_path).studies
    assert [series.slices for series in found.series] == [6, 6]


@pytest.mark.parametrize("tag", ["AcquisitionNumber", "ImageType"])
def test_repeats_within_one_series_are_told_apart(tmp_path: Path, tag: str) -> None:
    for n in (1, 2):
        value: Any = n if tag == "AcquisitionNumber" else ["DERIVED", "PRIMARY", "WATER" if n == 1 else "FAT"]
        export(tmp_path / str(n), SeriesInstanceUID="1.5", **{tag: value})
    (found,) = discover_studies(tmp_path).studies
    assert [(series.series_id, series.slices) for series in found.series] == [("1.5.1", 6), ("1.5.2", 6)]
    assert "of the same slices, which were told apart" in found.series[0].remarks[0]


def test_slices_at_one_position_are_no_volume(tmp_path: Path) -> None:
    export(tmp_path, SeriesInstanceUID="1.5", ImagePositionPatient=[0, 0, 0])
    (found,) = discover_studies(tmp_path).studies
    assert found.study.series == ()
    assert "all its 6 slices lie at one position" in found.problems[0]


def test_a_position_that_occurs_twice_is_kept_once(tmp_path: Path) -> None:
    export(tmp_path, SeriesInstanceUID="1.5", AcquisitionTime="101010")
    write_dicom(tmp_path / "AA", SeriesInstanceUID="1.5", InstanceNumber=9, ImagePositionPatient=[4, 0, 0],
                AcquisitionTime="101500.5")  # fmt: skip
    discovery = discover_studies(tmp_path)
    (found,) = discovery.studies
    assert sorted(item.instance_number for item in found.study.series[0].slices) == [1, 3, 4, 5, 6, 9]
    assert "1 slice(s) at the position of another one were left out" in found.problems[0]
    assert (discovery.files.used, discovery.files.not_needed) == (6, 1)


def test_a_folder_and_its_copy_count_once(tmp_path: Path) -> None:
    export(tmp_path / "a", SeriesInstanceUID="1.5", SOPInstanceUID_of=lambda i: f"1.8.{i}")
    shutil.copytree(tmp_path / "a", tmp_path / "b" / "copy")
    (found,) = discover_studies(tmp_path).studies
    assert [len(series.slices) for series in found.study.series] == [6]
    assert "6 slices left out, which repeat others" in found.problems[0]


def test_one_sop_uid_for_all_files_makes_no_copies(tmp_path: Path) -> None:
    export(tmp_path, SeriesInstanceUID="1.5", SOPInstanceUID="1.8")
    (found,) = discover_studies(tmp_path).studies
    assert [len(series.slices) for series in found.study.series] == [6]
    assert found.problems == ()


def test_parallel_blocks_dealt_to_several_series_are_one(tmp_path: Path) -> None:
    places = [*(5.0 * i for i in range(5)), *(45.0 + 5 * i for i in range(5)), *(83.0 + 5 * i for i in range(5))]
    export(
        tmp_path, slices=15, SeriesInstanceUID_of=lambda i: f"1.5.{i % 3}", SeriesDescription="AX T2", SliceThickness=4,
        ImageOrientationPatient=AXIAL, ImagePositionPatient_of=lambda i: [0, 0, places[i]],
    )  # fmt: skip
    (found,) = discover_studies(tmp_path).studies
    assert [(s.view, len(s.slices)) for s in found.study.series] == [(View.AXIAL_T2, 15)]


def test_series_joined_under_one_uid_are_told_apart_by_acquisition_and_plane(tmp_path: Path) -> None:
    kinds: dict[str, dict[str, Any]] = {
        "t1": {"EchoTime": 10, "RepetitionTime": 600}, "t2": {"EchoTime": 100, "RepetitionTime": 3500},
        "axial": {"EchoTime": 101, "RepetitionTime": 3600, "axis": 2, "ImageOrientationPatient": AXIAL},
        "localizer": {"EchoTime": 4, "RepetitionTime": 9, "slices": 3},
    }  # fmt: skip
    for n, (name, tags) in enumerate(kinds.items()):
        export(tmp_path / name, SeriesInstanceUID="1.5", SeriesDescription=None,
               SOPInstanceUID_of=lambda i, n=n: f"1.5.{n}.{i}", **tags)  # fmt: skip
    (found,) = discover_studies(tmp_path).studies
    got = {item.path.parent.name: (s.view, len(s.slices)) for s in found.study.series for item in s.slices}
    assert got == {"t1": (View.SAGITTAL_T1, 6), "t2": (View.SAGITTAL_T2, 6), "axial": (View.AXIAL_T2, 6)}


@pytest.mark.parametrize("own_uids", [False, True])
def test_three_planes_of_one_acquisition_are_a_localizer(tmp_path: Path, own_uids: bool) -> None:
    for axis, facing in enumerate((SAGITTAL, CORONAL, AXIAL)):
        export(
            tmp_path / str(axis), axis=axis, SeriesInstanceUID=f"1.5.{axis}" if own_uids else "1.5", EchoTime=90,
            RepetitionTime=1200, ImageOrientationPatient=facing, SOPInstanceUID_of=lambda i, axis=axis: f"1.{axis}.{i}",
        )  # fmt: skip
    (found,) = discover_studies(tmp_path).studies
    assert not found.study.series
    assert "several planes" in "".join(found.problems)


AXIAL_T2: dict[str, Any] = {"axis": 2, "ImageOrientationPatient": AXIAL, "SeriesDescription": "AX T2"}


def test_planes_of_one_examination_dealt_to_studies_are_joined(tmp_path: Path) -> None:
    def deal(root: Path, frames: list[str], patients: list[str]) -> int:
        for n, (frame, patient) in enumerate(zip(frames, patients, strict=True)):
            axial: dict[str, Any] = AXIAL_T2 if n else {}
            export(
                root / str(n), StudyInstanceUID=f"1.3.{n}", SeriesInstanceUID=f"1.4.{n}", FrameOfReferenceUID=frame,
                PatientID=patient, SOPInstanceUID_of=lambda i, n=n: f"1.5.{n}.{i}", **axial,
            )  # fmt: skip
        return len(discover_studies(root).studies)

    assert deal(tmp_path / "one", ["1.9", "1.9"], ["P1", "P1"]) == 1
    assert deal(tmp_path / "two", ["1.9", "1.8"], ["P1", "P1"]) == 2
    assert deal(tmp_path / "strangers", ["1.9", "1.9"], ["P1", "P2"]) == 2
    # Two whole examinations in one frame of reference stay two.
    for n in (1, 2):
        for k, plane in enumerate(({}, AXIAL_T2)):
            export(
                tmp_path / "exams" / f"{n}{k}", StudyInstanceUID=f"1.3.{n}", SeriesInstanceUID=f"1.4.{n}.{k}",
                FrameOfReferenceUID="1.9", PatientID="P1", SOPInstanceUID_of=lambda i, n=n, k=k: f"1.5.{n}.{k}.{i}",
                **plane,
            )  # fmt: skip
    assert len(discover_studies(tmp_path / "exams").studies) == 2


def test_patients_without_a_frame_of_reference_are_not_mixed(tmp_path: Path) -> None:
    for n in (1, 2):
        export(
            tmp_path / str(n), SeriesInstanceUID="1.5", PatientID=f"P{n}", SOPInstanceUID_of=lambda i, n=n: f"1.{n}.{i}"
        )
    assert len(discover_studies(tmp_path).studies) == 2


@pytest.mark.parametrize(
    "odd", [{"Modality": "CT"}, {"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, {"SamplesPerPixel": 3}]
)
def test_pictures_of_another_kind_do_not_decide_on_their_series(tmp_path: Path, odd: dict[str, Any]) -> None:
    export(tmp_path, InstanceNumber_of=lambda i: i + 1)
    write_dicom(tmp_path / "IM99", InstanceNumber=0, ImagePositionPatient=[-4, 0, 0], **odd)
    (found,) = discover_studies(tmp_path).studies
    assert [len(s.slices) for s in found.study.series] == [6]
    assert "1 slice(s) were left out (IM99)" in found.problems[0]


def test_diffusion_beside_slices_without_weight_is_no_t2(tmp_path: Path) -> None:
    export(tmp_path / "a")
    export(tmp_path / "b", ImageType=["DERIVED", "PRIMARY", "DIFFUSION", "ADC"], InstanceNumber_of=lambda i: 10 + i)
    (found,) = discover_studies(tmp_path).studies
    assert not found.study.series
    assert "diffusion" in found.problems[0]


def test_a_description_of_another_plane_is_a_named_doubt(tmp_path: Path) -> None:
    export(tmp_path, axis=2, ImageOrientationPatient=AXIAL, SeriesDescription="SAG T2")
    (found,) = discover_studies(tmp_path).studies
    assert "description says sagittal, but ImageOrientationPatient axial" in found.problems[0]


def test_a_slice_at_a_placeholder_of_a_position_is_left_out(tmp_path: Path) -> None:
    export(tmp_path, slices=12, ImagePositionPatient_of=lambda i: [0, 0, 0] if i == 5 else [4.0 * i, -150, 200])
    (found,) = discover_studies(tmp_path).studies
    assert [len(s.slices) for s in found.study.series] == [11]
    assert "1 slice(s) that lie beside all others or are of another size were left out (IM5)" in found.problems[0]


def test_one_slice_of_a_wide_field_does_not_make_its_series_doubtful(tmp_path: Path) -> None:
    export(tmp_path, PixelSpacing_of=lambda i: [40, 40] if i == 2 else [8, 8])
    (found,) = discover_studies(tmp_path).studies
    assert [len(s.slices) for s in found.study.series] == [5]
    assert not any("in spite of doubts" in problem for problem in found.problems)


def test_a_deep_folder_has_a_name_that_files_can_have() -> None:
    root, names = Path("/data"), [f"IMAGES_{n}" for n in range(40)]
    deep = [folder_name(root, root.joinpath(*names, last)) for last in ("SE1", "SE2")]
    assert all(len(name) <= 128 for name in deep)
    assert deep[0] != deep[1]
    assert folder_name(root, root / "ST1" / "SE1") == "ST1-SE1"
