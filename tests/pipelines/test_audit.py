"""The audit on hand-made data: one fault each, and nothing but that fault found."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))
from audit_case import (
    SERIES,
    STUDY,
    edit_points,
    edit_table,
    edit_tags,
    folder_of,
    picture,
    write_axial,
    write_case,
    write_sagittal,
    write_slice,
)
from dicom_files import AXIAL, SAGITTAL, write_dicom

from pipelines.audit import AuditOptions, inspect
from pipelines.audit.findings import Code, Gravity
from pipelines.audit.pixels import Pixels
from pipelines.cli import main
from shared.errors import InputError
from shared.labels import FINDINGS, View

T1, T2, AX = View.SAGITTAL_T1, View.SAGITTAL_T2, View.AXIAL_T2
Spoil = Callable[[Path], object]


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_case(tmp_path_factory.mktemp("audit") / "data")


@pytest.fixture
def case(clean: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(clean, tmp_path / "data"))


def codes(root: Path, **options: object) -> list[str]:
    return [i.code.slug for i in inspect(root, AuditOptions(**options)).issues]  # type: ignore[arg-type]


def rows_where(table: pd.DataFrame, condition: str, level: str = "") -> pd.Series:
    return table["condition"].str.contains(condition) & table["level"].str.contains(level)


def set_points(condition: str, level: str, /, **values: object) -> Spoil:
    def change(table: pd.DataFrame) -> None:
        table.loc[rows_where(table, condition, level), list(values)] = [str(v) for v in values.values()]

    return lambda root: edit_points(root, change)


def swap_sides(condition: str, level: str = "") -> Spoil:
    def change(table: pd.DataFrame) -> None:
        rows = rows_where(table, condition, level)
        swapped = {"Left": "Right", "Right": "Left"}
        table.loc[rows, "condition"] = [
            " ".join([swapped[t.split()[0]], *t.split()[1:]]) for t in table[rows].condition
        ]

    return lambda root: edit_points(root, change)


def shift_canal(root: Path) -> None:
    def change(table: pd.DataFrame) -> None:
        rows = rows_where(table, "Canal")
        table.loc[rows, "y"] = [str(float(y) + 17.5) for y in table.loc[rows, "y"]]

    edit_points(root, change)


def swap_levels(root: Path) -> None:
    def change(table: pd.DataFrame) -> None:
        rows = rows_where(table, "Canal", "L[12]/")
        table.loc[rows, "level"] = list(reversed(table.loc[rows, "level"]))

    edit_points(root, change)


def drop_rows(condition: str, level: str = "") -> Spoil:
    return lambda root: edit_points(root, lambda t: t[~rows_where(t, condition, level)])


def repeat_point(root: Path) -> None:
    edit_points(root, lambda t: pd.concat([t, t.iloc[[0]]]))


def grade(column: str, value: str) -> Spoil:
    def change(table: pd.DataFrame) -> None:
        table[column] = value

    return lambda root: edit_table(root / "train.csv", change)


def add_series(view: View, series_id: str, **tags: object) -> Spoil:
    def spoil(root: Path) -> None:
        folder = root / "train_images" / STUDY / series_id
        (write_axial if view is AX else write_sagittal)(folder, **tags)
        row = pd.DataFrame([(STUDY, series_id, view.value)], columns=["study_id", "series_id", "series_description"])
        edit_table(root / "train_series_descriptions.csv", lambda t: pd.concat([t, row]))

    return spoil


def cut_off(root: Path) -> None:
    path = folder_of(root, AX) / "3.dcm"
    path.write_bytes(path.read_bytes()[:9000])


def split_axial(root: Path) -> None:
    second = root / "train_images" / STUDY / "14"
    second.mkdir()
    for n in range(10, 20):
        (folder_of(root, AX) / f"{n}.dcm").rename(second / f"{n}.dcm")
    edit_tags(second, SeriesInstanceUID="1.14")
    row = pd.DataFrame([(STUDY, "14", AX.value)], columns=["study_id", "series_id", "series_description"])
    edit_table(root / "train_series_descriptions.csv", lambda t: pd.concat([t, row]))

    def change(table: pd.DataFrame) -> None:
        moved = (table["series_id"] == SERIES[AX]) & (table["instance_number"].astype(int) >= 10)
        table.loc[moved, "series_id"] = "14"

    edit_points(root, change)


def renumber(root: Path, view: View, number: Callable[[int], int]) -> None:
    folder = folder_of(root, view)
    files = {int(p.stem): p.rename(p.with_suffix(".old")) for p in folder.glob("*.dcm")}
    for old, path in files.items():
        path.rename(folder / f"{number(old)}.dcm")
        edit_tags(folder, number(old), InstanceNumber=number(old))

    def change(table: pd.DataFrame) -> None:
        rows = table["series_id"] == SERIES[view]
        table.loc[rows, "instance_number"] = [str(number(int(n))) for n in table.loc[rows, "instance_number"]]

    edit_points(root, change)


def tilted(root: Path) -> None:
    for k in range(3):
        write_slice(
            folder_of(root, AX), 20 + k, [-100, -100, 40 - 10 * k], [1, 0, 0, 0, 0.9848, 0.1736], pixels=noise()
        )  # fmt: skip


def noise(shape: tuple[int, int] = (100, 100)) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 900, shape).astype(np.uint16)


def one_series_less(view: View) -> Spoil:
    def spoil(root: Path) -> None:
        edit_table(root / "train_series_descriptions.csv", lambda t: t[t["series_description"] != view.value])
        edit_points(root, lambda t: t[t["series_id"] != SERIES[view]])
        shutil.rmtree(folder_of(root, view))

    return spoil


def unlisted(root: Path) -> None:
    (root / "train_images" / STUDY / "99").mkdir()
    (root / "train_images" / "200").mkdir()


def other_study(name: str) -> Spoil:
    """A further study in one table only."""

    def spoil(root: Path) -> None:
        def change(table: pd.DataFrame) -> pd.DataFrame:
            row = table.iloc[[0]].assign(study_id="200")
            return pd.concat([table, row])

        edit_table(root / name, change)

    return spoil


PLAIN = "1.2.840.10008.1.2"
CASES: dict[str, tuple[Spoil, list[str]]] = {
    "nothing": (lambda root: None, []),
    # Tables.
    "unknown grade": (grade(FINDINGS[0].column, "Mild"), ["cell-invalid", "grade-missing", "point-without-grade"]),
    "unknown condition": (set_points("Canal", "L1/L2", condition="Scoliosis"), ["cell-invalid", "grade-without-point"]),
    "x is text": (set_points("Canal", "L1/L2", x="middle"), ["cell-invalid", "grade-without-point"]),
    "unsafe id": (set_points("Canal", "L1/L2", series_id="../x"), ["cell-invalid", "grade-without-point"]),
    "no points file": (
        lambda root: (root / "train_label_coordinates.csv").unlink(), ["table-unusable", "study-without-points"]
    ),
    "study only graded": (other_study("train.csv"), ["study-without-series", "study-without-points"]),
    "study only listed": (
        other_study("train_series_descriptions.csv"), ["images-missing", "study-without-grades", *["view-missing"] * 2]
    ),
    "study twice": (
        lambda root: edit_table(root / "train.csv", lambda t: pd.concat([t, t])), ["row-repeated"],
    ),
    "missing grade": (grade(FINDINGS[7].column, ""), ["grade-missing", "point-without-grade"]),
    "no canal points": (drop_rows("Canal"), ["grade-without-point"]),
    "no points": (lambda root: edit_points(root, lambda t: t.iloc[:0]), ["study-without-points"]),
    # Files and folders.
    "unlisted folders": (unlisted, ["folder-unlisted"] * 2),
    "no images": (lambda root: shutil.rmtree(root / "train_images"), ["images-missing"]),
    "junk file": (lambda root: (folder_of(root, T1) / "a.txt").write_text("x"), ["file-unexpected"]),
    "not DICOM": (lambda root: (folder_of(root, T1) / "1.dcm").write_text("x"), ["file-unreadable"]),
    "no plane": (lambda root: edit_tags(folder_of(root, T1), 1, ImagePositionPatient=None), ["no-plane"]),
    "cut off": (cut_off, ["pixels-unreadable"]),
    "black": (lambda root: edit_tags(folder_of(root, AX), 10, PixelData=bytes(20000)), ["pixels-flat"]),
    "two uids": (lambda root: edit_tags(folder_of(root, AX), 1, SeriesInstanceUID="1.77"), ["series-mixed"]),
    "tag and name differ": (lambda root: edit_tags(folder_of(root, AX), 1, InstanceNumber=7), ["number-differs"]),
    "series without files": (
        lambda root: [p.unlink() for p in folder_of(root, T1).glob("*.dcm")],
        ["series-empty", *["point-without-series"] * 10],
    ),
    # Encoding.
    "monochrome1": (
        lambda root: edit_tags(folder_of(root, T1), PhotometricInterpretation="MONOCHROME1"), ["monochrome1"]
    ),
    "signed": (lambda root: edit_tags(folder_of(root, T1), PixelRepresentation=1), ["signed-pixels"]),
    "rescaled": (lambda root: edit_tags(folder_of(root, T1), RescaleSlope="2", RescaleIntercept="-5"), ["rescaled"]),
    "rescaled by 1 and 0": (lambda root: edit_tags(folder_of(root, T1), RescaleSlope="1", RescaleIntercept="0"), []),
    "lossy": (lambda root: edit_tags(folder_of(root, T1), LossyImageCompression="01"), ["lossy"]),
    "windows": (lambda root: edit_tags(folder_of(root, T1), WindowCenter=["1", "2"]), ["several-windows"]),
    "lost tags": (lambda root: edit_tags(folder_of(root, T1), SliceThickness=None), ["tags-missing"]),
    "frames": (lambda root: edit_tags(folder_of(root, T1), FrameOfReferenceUID="1.8"), ["frame-of-reference"]),
    # Series.
    "no T1": (one_series_less(T1), ["grade-without-point", "view-missing"]),
    "two T1": (add_series(T1, "21"), ["several-series"]),
    "neck": (add_series(T2, "22", lift_mm=400), ["foreign-anatomy", "several-series"]),
    "neck without T1": (
        lambda root: (one_series_less(T1)(root), add_series(T2, "22", lift_mm=400)(root)),
        ["foreign-anatomy", "grade-without-point", "view-missing", "several-series"],
    ),
    "small field": (
        add_series(T2, "22", PixelSpacing=[1.0, 1.0], lift_mm=-50), ["field-differs", "several-series"]
    ),
    "split axial": (split_axial, ["several-series", "levels-split"]),
    "feet first": (lambda root: renumber(root, AX, lambda n: 20 - n), ["feet-first"]),
    "left first": (lambda root: renumber(root, T1, lambda n: 8 - n), []),
    "huge numbers": (lambda root: renumber(root, AX, lambda n: n + 5000), ["numbers-huge"]),
    "interleaved": (lambda root: renumber(root, AX, lambda n: n * 7 % 20), ["numbers-unordered"]),
    "tilted stack": (tilted, ["tilts-mixed"]),
    "other size": (
        lambda root: write_slice(folder_of(root, AX), 20, [-100, -100, -100], AXIAL, pixels=noise((90, 90))),
        ["sizes-mixed"],
    ),
    "other pixels": (lambda root: edit_tags(folder_of(root, AX), 1, PixelSpacing=[1.9, 1.9]), ["spacing-mixed"]),
    "position twice": (
        lambda root: write_slice(folder_of(root, AX), 20, [-100, -100, -90], AXIAL), ["positions-repeated"]
    ),
    "lost slices": (
        lambda root: [(folder_of(root, T1) / f"{n}.dcm").unlink() for n in (3, 4)], ["slices-lacking"]
    ),
    # Points.
    "unknown series": (set_points("Canal", "L1/L2", series_id="77"), ["point-without-series"]),
    "unknown slice": (set_points("Canal", "L1/L2", instance_number=77), ["point-without-slice"]),
    "outside": (set_points("Canal", "L1/L2", x=150), ["point-outside"]),
    "corner": (set_points("Canal", "L1/L2", x=5, y=5), ["point-in-corner"]),
    "far": (set_points("Canal", "L3/L4", x=90), ["point-far"]),
    "twice": (repeat_point, ["point-repeated"]),
    "canal on T1": (set_points("Canal", "", series_id=SERIES[T1]), ["view-of-points"]),
    "swapped pair": (swap_sides("Foraminal", "L4/L5"), ["sides-swapped"]),
    "swapped lone point": (
        lambda root: (drop_rows("Left Sub", "L1/L2")(root), set_points("Right Sub", "L1/L2", x=57)(root)),
        ["sides-swapped", "grade-without-point"],
    ),
    "mirrored axial": (swap_sides("Subarticular"), ["axial-mirrored"]),
    "one slice": (set_points("Right Neural", "L2/L3", instance_number=6), ["foramina-on-one-slice"]),
    "off by one": (shift_canal, ["levels-shifted", "point-outside"]),
    "levels swapped": (swap_levels, ["level-order", *["level-apart"] * 2]),
    "one level apart": (set_points("Canal", "L5/S1", y=70), ["level-apart"]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_one_fault_is_found_and_nothing_else(case: Path, name: str) -> None:
    spoil, expected = CASES[name]
    spoil(case)
    assert sorted(codes(case)) == sorted(expected)


def test_every_code_has_a_case() -> None:
    """What is found elsewhere in this file or needs real files."""
    elsewhere = {
        "study-in-both-parts", "submission-rows", "series-unused", "transfer-syntax", "few-slices", "numbers-repeated",
        "pixels-mirrored", "view-wrong",
    }  # fmt: skip
    assert {slug for _, expected in CASES.values() for slug in expected} | elsewhere == {c.slug for c in Code}


def test_mirrored_pixels_are_seen_without_points(case: Path) -> None:
    edit_points(case, lambda t: t.iloc[:0])
    assert codes(case, pixels=Pixels.ALL) == ["study-without-points"]
    for k in range(19):
        pixels = picture([-100, -100, 90 - 10 * k], AXIAL)[:, ::-1]
        write_slice(folder_of(case, AX), k + 1, [-100, -100, 90 - 10 * k], AXIAL, pixels=np.ascontiguousarray(pixels))
    assert codes(case, pixels=Pixels.ALL) == ["study-without-points", "pixels-mirrored"]
    assert codes(case, pixels=Pixels.SAMPLE) == ["study-without-points"]


def test_tables_alone(case: Path) -> None:
    shutil.rmtree(case / "train_images")
    assert codes(case, images=False) == []
    set_points("Canal", "L1/L2", x=5, y=5)(case)
    swap_sides("Subarticular", "L5/S1")(case)
    set_points("Right Neural", "L2/L3", instance_number=6)(case)
    set_points("Left Neural", "L4/L5", y=5)(case)
    found = set(codes(case, images=False))
    assert found == {"point-in-corner", "sides-swapped", "foramina-on-one-slice", "level-order"}


def test_a_study_in_both_parts_and_an_odd_sample_submission(case: Path) -> None:
    shutil.copytree(case / "train_images", case / "test_images")
    shutil.copy(case / "train_series_descriptions.csv", case / "test_series_descriptions.csv")
    rows = [FINDINGS[0].row_id(STUDY), FINDINGS[0].row_id("300")]
    pd.DataFrame({"row_id": rows}).to_csv(case / "sample_submission.csv", index=False)
    assert sorted(codes(case)) == ["study-in-both-parts", "submission-rows", "submission-rows"]
    assert codes(case, part="train") == []


def test_a_plain_folder(tmp_path: Path) -> None:
    for n in range(6):
        write_dicom(tmp_path / "a" / str(n), ImagePositionPatient=[4 * n, 0, 0], InstanceNumber=1)
    for n in range(2):
        write_dicom(tmp_path / "b" / str(n), SeriesInstanceUID="1.5", ImagePositionPatient=[4 * n, 0, 0])
    (tmp_path / "b" / "broken").write_bytes(b"\0" * 128 + b"DICM" + b"\1" * 50)
    found = set(codes(tmp_path))
    assert found >= {"file-unreadable", "series-unused", "numbers-repeated", "view-missing"}
    with pytest.raises(InputError, match="without images"):
        inspect(tmp_path, AuditOptions(images=False))


def test_too_few_slices(case: Path) -> None:
    for n in (1, 5, 7):
        (folder_of(case, T1) / f"{n}.dcm").unlink()
    assert "few-slices" in codes(case)


def test_output_is_exactly_three_files_that_name_no_one(case: Path, tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>$x^{"
    edit_tags(folder_of(case, T1), Manufacturer=hostile)
    set_points("Canal", "L1/L2", condition=hostile)(case)
    out = tmp_path / "out"
    assert main(["audit", str(case), str(out), "--workers", "1"]) == 0
    assert {p.name for p in out.iterdir()} == {"report.html", "report.json", "findings.csv"}
    page = (out / "report.html").read_text()
    assert "<script" not in page
    assert "&lt;script" in page
    assert 'src="http' not in page
    assert "href=" not in page
    for path in out.iterdir():
        text = path.read_text()
        assert "Doe" not in text, path.name
        assert str(tmp_path) not in text, path.name
    report = json.loads((out / "report.json").read_text())
    assert report["codes"]["cell-invalid"] == {"severity": "error", "findings": 1, "studies": 1}
    table = pd.read_csv(out / "findings.csv", dtype={"study_id": str})
    assert list(table["code"]) == ["cell-invalid", "grade-without-point"]
    assert table["study_id"].tolist() == [STUDY, STUDY]
    assert report["findings"] == {"error": 1, "warning": 1, "note": 0}


def test_the_same_result_whatever_the_workers(case: Path) -> None:
    cut_off(case)
    other_study("train_series_descriptions.csv")(case)
    alone, together = (inspect(case, AuditOptions(workers=n)) for n in (1, 2))
    assert alone == together


def test_strict_exits_1_after_writing(case: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", str(case), str(tmp_path / "a"), "--strict", "--workers", "1"]) == 0
    cut_off(case)
    assert main(["audit", str(case), str(tmp_path / "b"), "--strict", "--workers", "1"]) == 1
    assert "1 error" in capsys.readouterr().err
    assert (tmp_path / "b" / "findings.csv").is_file()


def test_a_series_in_another_plane(case: Path) -> None:
    for n in range(1, 8):
        write_slice(folder_of(case, T1), n, [-100, -100, 90 - 9 * n], AXIAL)
    assert "view-wrong" in codes(case)


def test_bad_calls(case: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("x")
    store = tmp_path / "store"
    store.mkdir()
    (store / "store.json").write_text("{}")
    images_only = tmp_path / "images"
    (images_only / "train_images").mkdir(parents=True)
    for arguments, message in [
        ([str(tmp_path / "nowhere"), str(tmp_path / "o")], "no such folder"),
        ([str(case), str(tmp_path / "full")], "not empty"),
        ([str(case), str(case / "o")], "within the audited data"),
        ([str(case), str(tmp_path / "o"), "--part", "test"], "test_series_descriptions.csv"),
        ([str(store), str(tmp_path / "o")], "prepared store"),
        ([str(images_only), str(tmp_path / "o")], "series_descriptions.csv"),
    ]:
        assert main(["audit", *arguments]) == 1
        assert message in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_gravities_are_sorted_errors_first(case: Path) -> None:
    cut_off(case)
    one_series_less(T2)(case)
    renumber(case, AX, lambda n: n + 5000)
    order = [i.code.gravity for i in inspect(case, AuditOptions()).issues]
    assert order == sorted(order, key=list(Gravity).index)
    assert set(order) == set(Gravity)


def test_sagittal_directions_are_counted(case: Path) -> None:
    renumber(case, T1, lambda n: 8 - n)
    order = inspect(case, AuditOptions()).facts["order"]
    assert order["sagittal_t1"] == {"along": 0, "against": 1, "neither": 0}
    assert order["sagittal_t2"] == {"along": 1, "against": 0, "neither": 0}
    assert SAGITTAL
