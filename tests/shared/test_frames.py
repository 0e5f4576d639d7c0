"""Enhanced multi-frame objects: their frames are the slices that classic files of the same scan would be."""

import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.audit.files import read_known_study
from pipelines.prepare.prepare import prepare
from shared.data.source import open_source
from shared.dicom import frames as frames_module
from shared.dicom import parsing, reader
from shared.dicom.discover import discover_studies
from shared.dicom.pixels import slice_pixels
from shared.dicom.reader import read_file_slices, read_header, read_pixels, read_raw_pixels, read_slice_headers
from shared.labels import View
from shared.runtime.errors import InputError
from tests.dicom_files import AXIAL, CORONAL, ENHANCED_MR, SAGITTAL, write_dicom, write_multiframe
from tests.planted import plant

SHAREABLE = ("ImageOrientationPatient", "PixelSpacing", "EchoTime", "RepetitionTime", "FlipAngle", "ImageType")
ORIENTATIONS = [SAGITTAL, AXIAL, [0, -1, 0, 0, 0, -1], [0, 0.6, -0.8, 1, 0, 0]]
ORIGINAL = ["ORIGINAL", "PRIMARY", "OTHER", "NONE"]


def frame(n: int, **tags: Any) -> dict[str, Any]:
    return {
        "ImagePositionPatient": [4.0 * n - 10, 1.5, 4.0 * n], "ImageOrientationPatient": SAGITTAL,
        "PixelSpacing": [0.5, 0.5], "EchoTime": 110.0, "RepetitionTime": 3000.0, "FlipAngle": 150.0,
        "ImageType": ORIGINAL,
    } | tags  # fmt: skip


def stack(frames: int, shape: tuple[int, int] = (12, 16)) -> np.ndarray:
    return np.random.default_rng(frames).integers(0, 4000, (frames, *shape)).astype(np.uint16)


@st.composite
def scans(draw: st.DrawFn) -> tuple[list[dict[str, Any]], np.ndarray, list[str], bool]:
    """The frames of one scan, their pixels, what its object shares, and whether it is compressed."""
    places = draw(st.permutations(range(draw(st.integers(5, 8)))))
    scale = {"RescaleSlope": draw(st.sampled_from([1, 2.5])), "RescaleIntercept": draw(st.sampled_from([0, -7]))}
    varied = draw(st.booleans())
    same = {
        "ImageOrientationPatient": draw(st.sampled_from(ORIENTATIONS)),
        "PixelSpacing": [draw(st.sampled_from([0.5, 0.625])), 0.75],
        "EchoTime": draw(st.sampled_from([12.0, 95.0, 0.1 + 0.2])),
    }  # fmt: skip
    frames = [frame(n, **same, **(scale if varied and n % 2 else {})) for n in places]
    shared = draw(st.lists(st.sampled_from(SHAREABLE), unique=True))
    return frames, stack(len(frames)), shared, draw(st.booleans())


@settings(max_examples=20, deadline=None)
@given(scans())
def test_an_object_gives_the_slices_and_pixels_of_classic_files(
    scan: tuple[list[dict[str, Any]], np.ndarray, list[str], bool],
) -> None:
    frames, pixels, shared, compressed = scan
    with tempfile.TemporaryDirectory() as folder:
        single, several = Path(folder) / "single", Path(folder) / "several"
        path = write_multiframe(several / "1", frames, pixels, shared=shared)
        if compressed:
            compress(path)
        for n, tags in enumerate(frames):
            write_dicom(single / f"{n}", pixels[n], SOPClassUID=ENHANCED_MR, **tags, InstanceNumber=n + 1)
        (one,), (other,) = (discover_studies(f).studies for f in (single, several))
        assert [s.verdict for s in one.series] == [s.verdict for s in other.series]
        for a, b in zip(one.study.series, other.study.series, strict=True):
            assert [replace(x, path=path, frame=0) for x in a.slices] == [replace(x, frame=0) for x in b.slices]
            for x, y in zip(a.slices, b.slices, strict=True):
                np.testing.assert_array_equal(slice_pixels(x), slice_pixels(y))
        for file, (_, header) in zip(sorted(single.iterdir()), read_slice_headers([path]), strict=True):
            assert not isinstance(header, InputError)
            assert replace(read_header(file, described=True), path=path) == replace(header, frame=0)


def compress(path: Path) -> None:
    dataset = pydicom.dcmread(path)
    dataset.compress(pydicom.uid.RLELossless, encoding_plugin="pylibjpeg", generate_instance_uid=False)
    dataset.save_as(path)


def test_a_store_gives_the_same_slices(tmp_path: Path) -> None:
    path = write_multiframe(tmp_path / "data" / "1", [frame(n) for n in range(6)], stack(6))
    prepare(tmp_path / "data", tmp_path / "store")
    direct, stored = (open_source(tmp_path / name).load("1.2").study.series[0].slices for name in ("data", "store"))
    assert [replace(item, path=path) for item in direct] == [replace(item, path=path) for item in stored]
    for a, b in zip(direct, stored, strict=True):
        np.testing.assert_array_equal(slice_pixels(a), slice_pixels(b))


def test_one_reading_gives_every_frame(tmp_path: Path) -> None:
    path = write_multiframe(tmp_path / "1", [frame(n) for n in range(6)], stack(6))
    readings = list(read_file_slices(path))
    assert [r.header for r in readings] == [h for _, h in read_slice_headers([path])]
    for n, reading in enumerate(readings):
        assert isinstance(reading.pixels, np.ndarray)
        np.testing.assert_array_equal(reading.pixels, read_pixels(path, n))


def test_the_times_of_a_frame_come_from_its_groups(tmp_path: Path) -> None:
    tags = {"EchoTime": 35.0, "InversionTime": [160.0], "RepetitionTime": 4000.0}
    path = write_multiframe(
        tmp_path / "1", [frame(n, **tags) for n in range(5)], stack(5), EchoPulseSequence="SPIN",
        SeriesDescription="仙椎 STIR", SpecificCharacterSet="ISO_IR 192", AcquisitionContrast="STIR",
    )  # fmt: skip
    (_, header), *_ = read_slice_headers([path])
    assert not isinstance(header, InputError)
    made = header.acquisition
    assert (made.echo_ms, made.repetition_ms, made.inversion_ms, made.flip_deg) == (35, 4000, 160, 150)
    assert made.sequence == {"SE"}
    assert {t.name for t in made.terms} >= {"STIR"}
    assert {t.name for t in made.protocol_terms} == {"STIR"}
    assert (header.frame, header.instance_number) == (0, 1)


def test_legacy_converted_objects_keep_classic_tags_in_their_groups(tmp_path: Path) -> None:
    times = pydicom.Dataset()
    times.EchoTime, times.RepetitionTime, times.ScanningSequence = "102", "3500", ["SE", "IR"]
    path = write_multiframe(tmp_path / "1", [frame(n, EchoTime=0.0) for n in range(5)], stack(5))
    dataset = pydicom.dcmread(path)
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.4.4"
    for item in dataset.PerFrameFunctionalGroupsSequence:
        del item.MREchoSequence, item.MRTimingAndRelatedParametersSequence
    dataset.SharedFunctionalGroupsSequence[0].UnassignedSharedConvertedAttributesSequence = [times]
    dataset.save_as(path)
    (study,) = discover_studies(tmp_path).studies
    assert [s.view for s in study.study.series] == [View.SAGITTAL_T2]
    (_, header), *_ = read_slice_headers([path])
    assert not isinstance(header, InputError)
    assert (header.acquisition.echo_ms, header.acquisition.sequence) == (102, {"SE", "IR"})


def stacks(*changes: dict[str, Any]) -> list[dict[str, Any]]:
    return [frame(n, **change) for change in changes for n in range(5)]


@pytest.mark.parametrize(
    ("frames", "used"),
    [
        (stacks({"EchoTime": 12.0, "RepetitionTime": 600.0}, {"EchoTime": 90.0}), [View.SAGITTAL_T1, View.SAGITTAL_T2]),
        (stacks({}, {"ComplexImageComponent": "PHASE"}), [View.SAGITTAL_T2]),
        (stacks({}, {"ImageType": ["DERIVED", "PRIMARY", "DIXON", "FAT"]}), [View.SAGITTAL_T2]),
        (stacks({}, {"ImageOrientationPatient": AXIAL}), [View.SAGITTAL_T2, View.AXIAL_T2]),
        (stacks({}, {"ImageOrientationPatient": CORONAL}), [View.SAGITTAL_T2]),
        (stacks({"AcquisitionNumber": 1}, {"AcquisitionNumber": 2}), [View.SAGITTAL_T2]),  # the best of the two
        (stacks({"DiffusionBValue": 0.0}, {"DiffusionBValue": 800.0}), []),
    ],
    ids=["echoes", "phase", "Dixon", "stacks", "coronal stack", "dynamics", "diffusion"],
)
def test_several_series_in_one_object_come_apart(
    tmp_path: Path, frames: list[dict[str, Any]], used: list[View]
) -> None:
    write_multiframe(tmp_path / "1", frames, stack(len(frames)), SeriesDescription=None)
    found = discover_studies(tmp_path)
    (study,) = found.studies
    assert sorted(s.view for s in study.study.series) == sorted(used)
    assert all(len(s.slices) == 5 for s in study.study.series)
    assert found.files.used + found.files.not_needed == 1


def test_a_bad_frame_is_a_problem_of_its_own(tmp_path: Path) -> None:
    frames = [frame(n) for n in range(7)]
    del frames[2]["ImagePositionPatient"]
    path = write_multiframe(tmp_path / "1.dcm", frames, stack(7))
    content = path.read_bytes()
    path.write_bytes(content[: -12 * 16 * 2 - 5])  # the last frame is gone, and some bytes of the one before
    (study,) = discover_studies(tmp_path).studies
    assert study.problems == (
        "1.dcm frame 3: tag ImagePositionPatient is missing; without it the slice has no place in the patient",
    )
    slices = {item.frame: item for item in study.study.series[0].slices}
    assert [slice_pixels(slices[n]).shape for n in (0, 1, 3, 4)] == [(12, 16)] * 4
    for n in (5, 6):
        with pytest.raises(InputError, match=rf"1\.dcm frame {n + 1}: pixels cannot be decoded"):
            slice_pixels(slices[n])
    assert [isinstance(r.pixels, InputError) for r in read_file_slices(path)] == [False] * 5 + [True] * 2


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"NumberOfFrames": 4}, "describes 6 frames, NumberOfFrames says 4"),
        ({"NumberOfFrames": 100_000}, "100000 frames"),
        ({"Rows": 60000, "Columns": 60000}, "60000 x 60000"),
        ({"PerFrameFunctionalGroupsSequence": None, "SharedFunctionalGroupsSequence": None}, "6 frames; expected one"),
    ],
)
def test_objects_out_of_bounds_are_refused_whole(tmp_path: Path, tags: dict[str, Any], message: str) -> None:
    path = write_multiframe(tmp_path / "1.dcm", [frame(n) for n in range(6)], stack(6), **tags)
    ((_, error),) = read_slice_headers([path])
    assert isinstance(error, InputError)
    assert message in str(error)


@pytest.mark.parametrize(
    "keyword", ["NumberOfFrames", "Rows", "ImagePositionPatient", "SharedFunctionalGroupsSequence"]
)
def test_a_tag_of_the_whole_object_that_holds_text_is_one_message(tmp_path: Path, keyword: str) -> None:
    path = write_multiframe(tmp_path / "1.dcm", [frame(n) for n in range(6)], stack(6))
    plant(path, {keyword: ("LO", b"text")})
    readings = [error for _, error in read_slice_headers([path])]
    readings += [reading.header for reading in read_file_slices(path)]
    assert all(isinstance(error, InputError) for error in readings) or keyword == "ImagePositionPatient"
    with suppress(InputError):
        read_pixels(path, 1)


def test_a_challenge_directory_keeps_one_frame_per_file(tmp_path: Path) -> None:
    path = write_multiframe(tmp_path / "1.dcm", [frame(n) for n in range(6)], stack(6))
    with pytest.raises(InputError, match="6 frames; expected one frame per file"):
        read_header(path)
    alone = write_multiframe(tmp_path / "2.dcm", [frame(3)], stack(1))
    assert read_header(alone).plane == read_header(write_dicom(tmp_path / "3.dcm", stack(1)[0], **frame(3))).plane


def test_a_frame_is_read_without_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_multiframe(tmp_path / "1.dcm", [frame(n) for n in range(40)], stack(40))
    whole = []
    content = parsing.file_content
    monkeypatch.setattr(reader, "file_content", lambda p: whole.append(p) or content(p))
    pictures = [read_raw_pixels(path, n) for n in range(1, 40)]
    np.testing.assert_array_equal(pictures, stack(40)[1:])
    assert len(whole) == 1
    monkeypatch.setattr(frames_module, "MAX_OBJECT_PX", 40 * 12 * 16 - 1)
    path.touch()
    with pytest.raises(InputError, match="40 frames of 12 x 16 pixels"):
        read_raw_pixels(path, 1)


def test_the_audit_reads_every_frame(tmp_path: Path) -> None:
    path = write_multiframe(
        tmp_path / "1.dcm", [frame(n, RescaleSlope=2, RescaleIntercept=1) for n in range(6)], stack(6)
    )
    (found,) = discover_studies(tmp_path).studies
    read = read_known_study(tmp_path, found.study)
    assert read.issues == ()
    assert [f.slice for f in read.series[0].files] == list(found.study.series[0].slices)
    assert {f.encoding.rescale for f in read.series[0].files} == {(2.0, 1.0)}
    path.write_bytes(path.read_bytes()[:-100])
    (issue,) = read_known_study(tmp_path, found.study).issues
    assert issue.file == "1.dcm"
