"""The table of series, before any model is loaded."""

import json
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from pipelines.cli import main
from pipelines.series import parse_choices
from shared.labels import View
from shared.runtime.errors import InputError
from tests.dicom_files import AXIAL, write_dicom


def export(folder: Path, uid: str, **tags: object) -> None:
    for i in range(6):
        place = [4 * i, 0, 0] if "ImageOrientationPatient" not in tags else [0, 0, 4 * i]
        write_dicom(folder / f"{uid}-{i}", **{"SeriesInstanceUID": uid, "ImagePositionPatient": place, **tags})  # type: ignore[arg-type]


def test_what_is_used_and_what_not_is_told_with_reasons(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export(tmp_path, "1.5", EchoTime=110, RepetitionTime=3000)
    export(tmp_path, "1.6", SeriesDescription="AX T2", ImageOrientationPatient=AXIAL)
    export(tmp_path, "1.7", Modality="CT")
    assert main(["series", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "Sagittal T2/STIR      6 1.5: it is sagittal and T2; its description and TE 110 ms, TR 3000 ms agree" in text
    assert "not used              6 1.7: its modality is CT, not MR" in text
    assert text.splitlines()[-1] == "12 files used, 6 not needed, 0 unreadable, 0 not DICOM"
    assert main(["series", str(tmp_path), "--json"]) == 0
    (study,) = json.loads(capsys.readouterr().out)["studies"]
    assert {s["series_id"]: s["view"] for s in study["series"] if s["used"]} == {
        "1.5": "sagittal_t2", "1.6": "axial_t2",
    }  # fmt: skip


def test_values_of_a_header_never_reach_the_console(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for i in range(6):
            path = tmp_path / f"{i}"
            write_dicom(path, StudyInstanceUID="DOE.JANE.1970", ImagePositionPatient=[4 * i, 0, 0])
    # In a process of its own, because pytest shows warnings in its own way.
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.cli", "series", str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert "Sagittal T2/STIR" in done.stdout
    assert "DOE" not in done.stdout + done.stderr


def test_a_challenge_directory_is_listed_by_its_tables(tiny_demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["series", str(tiny_demo / "data")]) == 0
    text = capsys.readouterr().out
    assert text.count("study ") == 13
    assert text.count("Axial T2") >= 13


def test_the_user_chooses_and_a_dry_run_shows_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export(tmp_path / "data", "1.5", EchoTime=110, RepetitionTime=3000)
    export(tmp_path / "data", "1.6", EchoTime=110, RepetitionTime=3000, PixelSpacing=[0.9, 0.9])
    assert main(["series", str(tmp_path / "data")]) == 0
    usual = capsys.readouterr().out
    assert "Sagittal T2/STIR      6 1.5" in usual
    assert "rank 2 for Sagittal T2/STIR, score " in usual
    chosen = [str(tmp_path / "data"), "--series", "sagittal_t2=1.6"]
    assert main(["series", *chosen]) == 0
    table = capsys.readouterr().out
    assert "Sagittal T2/STIR      6 1.6" in table
    assert "not needed            6 1.5" in table
    runs = ["--localizer", str(Path(__file__)), "--classifier", str(Path(__file__)), "--dry-run"]
    assert main(["predict", *chosen, str(tmp_path / "out"), *runs]) == 0
    assert capsys.readouterr().out == table
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_choice_for_a_challenge_directory_is_refused(tiny_demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["series", str(tiny_demo / "data"), "--series", "axial_t2=1.5"]) == 1
    assert "the tables of a challenge directory say the views" in capsys.readouterr().err


def test_a_store_of_a_folder_tells_the_same_as_the_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export(tmp_path / "data", "1.5", EchoTime=110, SliceThickness=3.6, SOPInstanceUID="1.8", AcquisitionTime="1010")
    export(tmp_path / "data", "1.6", EchoTime=110, SliceThickness=3.6, SOPInstanceUID="1.8", AcquisitionTime="1012")
    assert main(["series", str(tmp_path / "data")]) == 0
    listed = capsys.readouterr().out
    assert "a later repeat" in listed
    assert main(["prepare", str(tmp_path / "data"), str(tmp_path / "store")]) == 0
    capsys.readouterr()
    assert main(["series", str(tmp_path / "store")]) == 0
    assert capsys.readouterr().out.splitlines() == listed.splitlines()[:-1]  # a store does not count files


def test_choices_are_written_as_view_and_uid() -> None:
    assert parse_choices(["axial_t2=1.5", "Sagittal_T1 = 1.6"]) == {"1.5": View.AXIAL_T2, "1.6": View.SAGITTAL_T1}
    for text, message in [
        ("1.5", "expected VIEW=UID"), ("axial_t2=", "expected VIEW=UID"), ("coronal=1.5", "unknown view 'coronal'"),
    ]:  # fmt: skip
        with pytest.raises(InputError, match=message):
            parse_choices([text])
    with pytest.raises(InputError, match="two views"):
        parse_choices(["axial_t2=1.5", "sagittal_t1=1.5"])
