"""Results as DICOM objects: they belong to the patient's study, are legal, and read back as what was graded."""

import copy
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

import pipelines.predict.request

pytest.importorskip("highdicom", reason="the extra `dicom` is not installed")

from pipelines.cli import main
from pipelines.clinic.export import DicomExport
from pipelines.clinic.maker import Maker
from pipelines.clinic.origin import origin_of
from pipelines.clinic.picture import secondary_capture
from pipelines.clinic.reading import Report, differences, read_report
from pipelines.clinic.report import measurement_report
from pipelines.prepare.prepare import PrepareOptions, prepare
from pipelines.result import StudyResult
from shared.labels import FINDINGS, Condition, View
from shared.probabilities.reasons import ProbabilitySource
from shared.runtime.errors import InputError
from tests.dicom_files import write_multiframe
from tests.pipelines.clinic_case import IDENTITY, ROOT, STUDY_UID, result_of, stand_in, write_runs, write_study


@pytest.fixture(autouse=True)
def small_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than all else; the fixture `objects`, which is made before, has the real picture."""
    monkeypatch.setattr(StudyResult, "picture", lambda self: np.zeros((48, 64, 3), np.uint8))


@pytest.fixture(scope="module")
def maker(tmp_path_factory: pytest.TempPathFactory) -> Maker:
    localizer, classifier = write_runs(tmp_path_factory.mktemp("runs"))
    return Maker.of_runs([localizer], [classifier])


@pytest.fixture(scope="module")
def graded(tmp_path_factory: pytest.TempPathFactory) -> StudyResult:
    return result_of(write_study(tmp_path_factory.mktemp("study")))


@pytest.fixture(scope="module")
def objects(graded: StudyResult, maker: Maker, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the report and the picture of the study."""
    out = tmp_path_factory.mktemp("out")
    assert DicomExport(maker=maker).write(graded, out).problems == graded.problems
    return out / "dicom" / graded.study_id


@pytest.fixture(scope="module")
def report(objects: Path) -> Report:
    return read_report(objects / "report.dcm")


def test_a_report_reads_back_as_the_findings_that_were_graded(report: Report, graded: StudyResult) -> None:
    assert report.study_uid == STUDY_UID
    assert tuple(f.finding for f in report.findings) == FINDINGS
    assert differences(report, graded.to_json()) == []
    for found in report.findings:
        if found.finding.condition is Condition.CANAL:
            assert found.source is ProbabilitySource.MODEL
            assert found.grade == np.argmax(graded.probabilities[found.finding.index])
            assert found.sop_uid == f"{STUDY_UID}.1.1"
            assert found.point_mm == pytest.approx((0, 0, 0))
            assert (found.doubts != ()) is (max(found.probabilities) < 0.6)
            assert found.frame_of_reference == f"{STUDY_UID}.9"
        else:
            assert found.source is ProbabilitySource.PRIOR
            assert found.grade is None
            assert found.sop_uid is None
            assert found.reason is graded.reasons[found.finding]


@pytest.mark.parametrize("what", ["probabilities", "source", "reason", "score", "point"])
def test_a_difference_from_the_json_is_named(report: Report, graded: StudyResult, what: str) -> None:
    answer = copy.deepcopy(graded.to_json())
    told = answer["findings"][2]
    changes: dict[str, Any] = {
        "probabilities": lambda: told["probabilities"].update(severe=0.9),
        "source": lambda: told.update(source="prior"),
        "reason": lambda: told.update(reason="no_series"),
        "score": lambda: told["localization"].update(score=0.5),
        "point": lambda: told["localization"].update(point_mm=[0, 0, 1]),
    }
    changes[what]()
    assert differences(report, answer) == [f"{FINDINGS[2].column}: {what}"]


@pytest.mark.parametrize("name", ["report.dcm", "picture.dcm"])
def test_the_objects_belong_to_the_patients_study(objects: Path, name: str) -> None:
    dataset = pydicom.dcmread(objects / name)
    assert {tag: str(dataset[tag].value) for tag in IDENTITY} == IDENTITY
    assert dataset.StudyInstanceUID == STUDY_UID
    assert dataset.SeriesInstanceUID not in (f"{STUDY_UID}.1", f"{STUDY_UID}.2")
    assert dataset.ContentQualification == "RESEARCH"
    assert (dataset.ContentDate, dataset.ContentTime[:6]) == ("20260503", "101112")  # the study is newer than the runs
    if name == "report.dcm":
        assert (dataset.CompletionFlag, dataset.VerificationFlag) == ("COMPLETE", "UNVERIFIED")
        assert dataset.CodingSchemeIdentificationSequence[0].CodingSchemeDesignator == "99LUMBAR"
        written = (objects / name).read_bytes()
        assert b"Not a medical device" in written
        assert b"Device Observer UID" in written
        assert b"Person Observer" not in written
    else:
        assert dataset.pixel_array.shape == (dataset.Rows, dataset.Columns, 3)
        assert "Not a medical device" in dataset.ImageComments


def test_a_repeated_run_writes_the_same_bytes_and_other_models_other_objects(
    objects: Path, graded: StudyResult, maker: Maker, tmp_path: Path
) -> None:
    other = replace(maker, models=(("classifier", "0" * 64),))
    origin, report = origin_of(graded.study), pydicom.dcmread(objects / "report.dcm")
    for made, same in ((maker, True), (other, False)):
        again = measurement_report(graded, origin, made)
        again.save_as(tmp_path / "again.dcm", enforce_file_format=True)
        assert ((tmp_path / "again.dcm").read_bytes() == (objects / "report.dcm").read_bytes()) is same
        assert (again.SOPInstanceUID == report.SOPInstanceUID) is same
    pictures = [secondary_capture(graded, origin, made) for made in (maker, maker, other)]
    assert pictures[0] == pictures[1]
    assert pictures[0].SOPInstanceUID != pictures[2].SOPInstanceUID
    chosen = tuple(replace(s, view=View.SAGITTAL_T1) if s.view.is_sagittal else s for s in graded.study.series)
    assert maker.uid(origin_of(replace(graded.study, series=chosen)), "report") != report.SOPInstanceUID


def test_objects_of_an_interrupted_run_go_when_there_can_be_none(maker: Maker, tmp_path: Path) -> None:
    export = DicomExport(maker=maker)
    result = result_of(write_study(tmp_path / "study"))
    export.write(result, tmp_path)
    assert list((tmp_path / "dicom").rglob("*.dcm"))
    write_study(tmp_path / "study", files=2, PatientID="B-2")
    assert "name 2 patients" in export.write(result, tmp_path).problems[0]
    assert not list((tmp_path / "dicom").rglob("*.dcm"))


def enhanced(root: Path) -> Path:
    """One sagittal T2 series as a single file with five frames."""
    frames = [{"ImagePositionPatient": [4 * k, 0, 0], "ImageOrientationPatient": [0, 1, 0, 0, 0, -1],
               "PixelSpacing": [8, 8], "EchoTime": 100, "RepetitionTime": 3000} for k in range(5)]  # fmt: skip
    uids = {"StudyInstanceUID": STUDY_UID, "SeriesInstanceUID": f"{STUDY_UID}.1", "SOPInstanceUID": f"{STUDY_UID}.1.1",
            "FrameOfReferenceUID": f"{STUDY_UID}.9", "Modality": "MR"}  # fmt: skip
    pixels = np.random.default_rng(0).integers(0, 900, (5, 24, 24)).astype(np.uint16)
    write_multiframe(root / "series.dcm", frames, pixels, **(IDENTITY | uids))
    return root


NAMELESS: dict[str, Any] = dict.fromkeys([*IDENTITY, "Modality"]) | {"PatientID": "1234"}
STUDIES: dict[str, Callable[[Path], Path]] = {
    "a study": write_study,
    "as the challenge has them": lambda root: write_study(root, **NAMELESS),
    "illegal values": lambda root: write_study(root, PatientSex="0000", StudyTime="10:11"),
    "enhanced": enhanced,
}


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (dicom3tools) is not installed")
@pytest.mark.parametrize("kind", STUDIES)
def test_dciodvfy_finds_no_error(kind: str, maker: Maker, tmp_path: Path) -> None:
    result = result_of(STUDIES[kind](tmp_path / "study"))
    written = DicomExport(maker=maker).write(result, tmp_path)
    folder = tmp_path / "dicom" / result.study_id
    for name in ("report.dcm", "picture.dcm"):
        told = subprocess.run(["dciodvfy", "-new", folder / name], capture_output=True, text=True, check=False)
        lines = (told.stdout + told.stderr).splitlines()
        assert any(line in ("Comprehensive3DSR", "SCImage") for line in lines)
        assert [line for line in lines if line.startswith("Error")] == []
    report = read_report(folder / "report.dcm")
    assert differences(report, result.to_json()) == []
    assert report.findings[0].frame == (1 if kind == "enhanced" else None)
    emptied = [p for p in written.problems if "is left empty" in p]
    assert [p.split()[2] for p in emptied] == (["PatientSex", "StudyTime"] if kind == "illegal values" else [])


@pytest.mark.parametrize(
    ("terms", "name", "make"),
    [("ISO_IR 100", "Müller^Jörg", secondary_capture), ("ISO_IR 192", "Ελένη^Ω", secondary_capture),
     ("ISO_IR 144", "Люкceмбypг", secondary_capture),
     ("ISO 2022 IR 13\\ISO 2022 IR 87", "Yamada^Tarou=山田^太郎", secondary_capture),
     ("ISO 2022 IR 13\\ISO 2022 IR 87", "Yamada^Tarou=山田^太郎", measurement_report)],
)  # fmt: skip
def test_names_in_any_character_set_arrive(
    terms: str, name: str, make: Callable[..., pydicom.Dataset], maker: Maker, tmp_path: Path
) -> None:
    write_study(tmp_path / "study", SpecificCharacterSet=terms.split("\\"), PatientName=name)
    result = result_of(tmp_path / "study")
    make(result, origin_of(result.study), maker).save_as(tmp_path / "made.dcm", enforce_file_format=True)
    assert str(pydicom.dcmread(tmp_path / "made.dcm").PatientName) == name


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "no study": ({"StudyInstanceUID": "not.a.uid"}, "have no valid StudyInstanceUID"),
    "no images": ({"SOPInstanceUID": None}, "cannot refer to it"),
    "one UID for all": ({"SOPInstanceUID": f"{ROOT}.5"}, "cannot refer to it"),
    "characters": ({"SpecificCharacterSet": "EBCDIC"}, "SpecificCharacterSet of its files is not one of DICOM"),
}


@pytest.mark.parametrize("what", [*BROKEN, "two patients", "two studies"])
def test_a_study_of_doubtful_identity_gets_no_objects(what: str, maker: Maker, tmp_path: Path) -> None:
    tags, message = BROKEN.get(what) or ({}, f"its files name 2 {what.removeprefix('two ')}")
    other: dict[str, Any] = {"PatientID": "B-2"} if what == "two patients" else {}
    result = result_of(write_study(tmp_path / "study", **tags))
    if what.startswith("two"):
        write_study(tmp_path / "study", files=2, **other)
        if what == "two studies":
            for path in (tmp_path / "study").glob("1-2-*"):
                dataset = pydicom.dcmread(path)
                dataset.StudyInstanceUID = f"{ROOT}.77"
                dataset.save_as(path)
    written = DicomExport(maker=maker).write(result, tmp_path)
    assert message in written.problems[0]
    assert written.problems[1:] == result.problems  # the last one says why a study has failed
    assert not (tmp_path / "dicom").exists()
    assert not any(value in str(written.problems) for value in [*IDENTITY.values(), "Quisquilia", "Ottilie"])


def test_other_files_are_no_reports(objects: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is no Comprehensive 3D SR"):
        read_report(objects / "picture.dcm")
    dataset = pydicom.dcmread(objects / "report.dcm")
    del dataset.ContentSequence[-3:]
    dataset.save_as(tmp_path / "cut.dcm")
    with pytest.raises(InputError, match=r"with 25 findings"):
        read_report(tmp_path / "cut.dcm")


@pytest.mark.parametrize(
    ("tag", "value"),
    [("PatientName", ["Doe^A", "Doe^B"]), ("PatientID", ["1", "2"]), ("PatientBirthDate", "19511332"),
     ("StudyDate", "20260101-20260201"), ("StudyTime", "99"), ("AccessionNumber", "x" * 40), ("PatientSex", "female")],
)  # fmt: skip
def test_what_is_no_legal_value_is_left_empty(tag: str, value: Any, tmp_path: Path) -> None:
    write_study(tmp_path, **{tag: value})
    origin = origin_of(result_of(tmp_path).study)
    assert str(origin.about[tag].value or "") == ""
    assert [problem.split()[2] for problem in origin.problems] == [tag]
    assert str(value) not in str(origin.problems)


def test_names_that_are_no_text_in_their_character_set_are_left_empty(tmp_path: Path) -> None:
    write_study(tmp_path, PatientName="Name^Here", SpecificCharacterSet="ISO_IR 192")
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes().replace(b"Name^Here", b"N\xffme^Here"))
    assert origin_of(result_of(tmp_path).study).about.PatientName in (None, "")


def test_the_patients_identity_stays_in_the_objects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pipelines.predict.request, "load_grader", lambda *_: stand_in())
    localizer, classifier = write_runs(tmp_path / "runs")
    words = ["predict", write_study(tmp_path / "study"), tmp_path / "out", "--localizer", localizer]
    assert main([*map(str, [*words, "--classifier", classifier]), "--dicom", "--device", "cpu"]) == 0
    telling = [word for value in IDENTITY.values() for word in value.split("^") if len(word) > 3]
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    holding = {path.name for path in files if any(word.encode() in path.read_bytes() for word in telling)}
    assert holding == {"report.dcm", "picture.dcm"}
    told = capsys.readouterr()
    assert not any(word in told.out + told.err for word in telling)


def test_a_prepared_store_has_no_patient(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    localizer, classifier = write_runs(tmp_path / "runs")
    prepare(write_study(tmp_path / "study"), tmp_path / "store", PrepareOptions(workers=1))
    words = ["predict", tmp_path / "store", tmp_path / "out", "--localizer", localizer, "--classifier", classifier]
    assert main([*map(str, words), "--dicom"]) == 1
    assert "is a prepared store, which keeps no patient" in capsys.readouterr().err


def test_without_highdicom_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    localizer, classifier = write_runs(tmp_path / "runs")
    for name in ("export", "picture", "report"):
        monkeypatch.delitem(sys.modules, f"pipelines.clinic.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "highdicom", None)
    words = ["predict", write_study(tmp_path / "study"), tmp_path / "out", "--localizer", localizer]
    assert main([*map(str, [*words, "--classifier", classifier]), "--dicom"]) == 1
    assert "pip install 'lumbar-severity[dicom]'" in capsys.readouterr().err
