"""The table of series, before any model is loaded."""

import json
from pathlib import Path

import pytest

from pipelines.cli import main
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


def test_a_challenge_directory_is_listed_by_its_tables(tiny_demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["series", str(tiny_demo / "data")]) == 0
    text = capsys.readouterr().out
    assert text.count("study ") == 13
    assert text.count("Axial T2") >= 13
