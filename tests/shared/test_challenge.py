from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from shared.annotations import annotated_localizations
from shared.data.challenge import Challenge, number_of, read_grades, write_grades
from shared.labels import FINDINGS, View
from shared.runtime.errors import InputError
from tests.dicom_files import write_dicom


def write_challenge(root: Path) -> Path:
    grades = {"study_id": ["7", "12"]} | {f.column: ["Normal/Mild", "Severe"] for f in FINDINGS}
    grades["left_subarticular_stenosis_l1_l2"] = ["", "Moderate"]
    root.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(grades).to_csv(root / "train.csv", index=False)
    pd.DataFrame(
        [("7", "71", "Sagittal T2/STIR"), ("7", "72", "Sagittal T1"), ("12", "121", "Axial T2")],
        columns=["study_id", "series_id", "series_description"],
    ).to_csv(root / "train_series_descriptions.csv", index=False)
    pd.DataFrame(
        [
            ("7", "71", 3, "Spinal Canal Stenosis", "L1/L2", 4.0, 5.0),
            ("7", "71", 3, "Spinal Canal Stenosis", "L2/L3", 400.0, 5.0),  # outside the image
            ("7", "72", 1, "Spinal Canal Stenosis", "L3/L4", 4.0, 5.0),  # canal point on a T1 series
            ("7", "72", 9, "Left Neural Foraminal Narrowing", "L3/L4", 4.0, 5.0),  # no such slice
        ],
        columns=["study_id", "series_id", "instance_number", "condition", "level", "x", "y"],
    ).to_csv(root / "train_label_coordinates.csv", index=False)
    for number in (3, 1, 2):
        write_dicom(
            root / "train_images/7/71" / f"{number}.dcm",
            InstanceNumber=number,
            ImagePositionPatient=[10 - number, 0, 0],
        )
    write_dicom(root / "train_images/7/72/1.dcm")
    return root


def test_tables_are_read_and_typed(tmp_path: Path) -> None:
    data = Challenge.open(write_challenge(tmp_path))
    assert data.study_ids == ("12", "7")
    assert data.series["7"] == (("71", View.SAGITTAL_T2), ("72", View.SAGITTAL_T1))
    grades = data.grades_of(["7", "12"])
    assert grades.shape == (2, 25)
    assert grades[0, 15] == -1  # empty is missing, never Normal
    assert grades[1, 15] == 1
    assert grades[1, 0] == 2
    with pytest.raises(InputError, match="study 99"):
        data.grades_of(["99"])


def test_a_study_is_loaded_in_anatomical_order_and_says_what_is_missing(tmp_path: Path) -> None:
    data = Challenge.open(write_challenge(tmp_path))
    (tmp_path / "train_images/7/71/8.dcm").write_bytes(b"junk")
    loaded = data.load_study("7")
    assert [s.instance_number for s in loaded.study.series[0].slices] == [3, 2, 1]
    assert len(loaded.problems) == 1
    assert "series 71" in loaded.problems[0]
    empty = data.load_study("12")
    assert "no readable slice" in empty.problems[0]
    assert empty.study.unreadable == {view for _, view in data.series["12"]}
    assert not loaded.study.unreadable


def test_points_that_cannot_be_true_are_left_out(tmp_path: Path) -> None:
    data = Challenge.open(write_challenge(tmp_path))
    found = annotated_localizations(data.load_study("7").study, data.points["7"])
    assert [f.column for f in found] == ["spinal_canal_stenosis_l1_l2"]
    assert next(iter(found.values())).point_mm == pytest.approx((7, 2, -2.5))


def test_grades_round_trip(tmp_path: Path) -> None:
    grades = read_grades(write_challenge(tmp_path) / "train.csv")
    write_grades(tmp_path / "again.csv", grades)
    again = read_grades(tmp_path / "again.csv")
    assert set(again) == set(grades)
    for study_id, row in grades.items():
        np.testing.assert_array_equal(again[study_id], row)


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("train.csv", "Severe", "Terrible", "'Terrible'"),
        ("train.csv", "spinal_canal_stenosis_l1_l2", "canal_l1", "spinal_canal_stenosis_l1_l2' is missing"),
        ("train_series_descriptions.csv", "Axial T2", "Axial T1", "'Axial T1'"),
        ("train_series_descriptions.csv", "12,", "../../x,", "not an identifier"),
        ("train_label_coordinates.csv", "L1/L2", "L6/L7", "line 2: condition and level: unknown level"),
        ("train_label_coordinates.csv", "5.0", "far", "line 2: y is 'far'; expected a number"),
        ("train_label_coordinates.csv", "5.0", "", "line 2: y is empty; expected a pixel"),
    ],
)
def test_broken_tables_name_file_expected_and_got(tmp_path: Path, file: str, old: str, new: str, message: str) -> None:
    root = write_challenge(tmp_path)
    path = root / file
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(InputError, match=message) as caught:
        Challenge.open(root)
    assert file in str(caught.value)


def test_missing_folders_and_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        Challenge.open(tmp_path / "nowhere")
    with pytest.raises(InputError, match="challenge's directory"):
        Challenge.open(tmp_path)
    root = write_challenge(tmp_path / "data")
    (root / "train.csv").unlink()
    with pytest.raises(InputError, match=r"train\.csv"):
        Challenge.open(root)


def test_the_fingerprint_follows_grades_and_points(tmp_path: Path) -> None:
    root = write_challenge(tmp_path)
    before = Challenge.open(root).fingerprint
    assert before == Challenge.open(root).fingerprint
    path = root / "train_label_coordinates.csv"
    path.write_text(path.read_text().replace("4.0", "4.5"))
    assert before != Challenge.open(root).fingerprint


@pytest.mark.parametrize(
    ("name", "number"),
    [("7.dcm", 7), ("0012.dcm", 12), ("\N{SUPERSCRIPT TWO}.dcm", None), ("a1.dcm", None), ("1234567890.dcm", None)],
)
def test_a_file_name_gives_a_number_or_none(tmp_path: Path, name: str, number: int | None) -> None:
    assert number_of(Path(name)) == number
    root = write_challenge(tmp_path)
    write_dicom(root / "train_images/12/121" / name, InstanceNumber=55)
    (series,) = Challenge.open(root).load_study("12").study.series
    assert [item.instance_number for item in series.slices] == [55 if number is None else number]
