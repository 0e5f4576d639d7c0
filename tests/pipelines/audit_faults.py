"""Ways to spoil the case of `audit_case`, one fault each, and the codes that an audit must give for it."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pydicom

from shared.labels import FINDINGS, View
from tests.dicom_files import AXIAL
from tests.pipelines.audit_case import (
    SERIES,
    STUDY,
    edit_points,
    edit_table,
    edit_tags,
    folder_of,
    picture,
    write_axial,
    write_sagittal,
    write_slice,
)

T1, T2, AX = View.SAGITTAL_T1, View.SAGITTAL_T2, View.AXIAL_T2
Spoil = Callable[[Path], object]


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


def add_series(view: View, series_id: str, **tags: Any) -> Spoil:
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


def second_part(root: Path) -> None:
    shutil.copytree(root / "train_images", root / "test_images")
    shutil.copy(root / "train_series_descriptions.csv", root / "test_series_descriptions.csv")


def odd_submission(root: Path) -> None:
    """Names one of the 25 rows of a test study, and a study that is none."""
    edit_table(root / "train_series_descriptions.csv", lambda t: t.assign(study_id="300"))
    (root / "train_series_descriptions.csv").rename(root / "test_series_descriptions.csv")
    (root / "train_images" / STUDY).rename(root / "train_images" / "300")
    (root / "train_images").rename(root / "test_images")
    rows = [FINDINGS[0].row_id("300"), FINDINGS[0].row_id("400")]
    pd.DataFrame({"row_id": rows}).to_csv(root / "sample_submission.csv", index=False)


def mirror_axial(root: Path) -> None:
    for k in range(19):
        pixels = picture([-100, -100, 90 - 10 * k], AXIAL)[:, ::-1]
        write_slice(folder_of(root, AX), k + 1, [-100, -100, 90 - 10 * k], AXIAL, pixels=np.ascontiguousarray(pixels))


def compress(root: Path) -> None:
    path = folder_of(root, T1) / "1.dcm"
    dataset = pydicom.dcmread(path)
    dataset.compress(pydicom.uid.JPEGLSLossless, encoding_plugin="pyjpegls")
    dataset.save_as(path, enforce_file_format=True)


def names_without_numbers(root: Path) -> None:
    for path in folder_of(root, AX).glob("*.dcm"):
        path.rename(path.with_name(f"IM{path.name}"))
    for path in folder_of(root, AX).glob("IM[12].dcm"):
        dataset = pydicom.dcmread(path)
        dataset.InstanceNumber = 1
        dataset.save_as(path, enforce_file_format=True)
    edit_points(root, lambda t: t[t["series_id"] != SERIES[AX]])


def report_among_slices(root: Path) -> None:
    write_slice(
        folder_of(root, T1), 99, [0, 0, 0], AXIAL, sop_class="1.2.840.10008.5.1.4.1.1.88.11",
        **dict.fromkeys(("Rows", "Columns", "PixelData", "PixelSpacing", "ImagePositionPatient")),
    )  # fmt: skip


def plain_folder_with_a_proton_density(root: Path) -> None:
    for path in root.glob("*.csv"):
        path.unlink()
    (root / "train_images").rename(root / "export")
    edit_tags(root / "export" / STUDY / SERIES[T1], SeriesDescription="SAG PD")
    edit_tags(root / "export" / STUDY / SERIES[AX], SeriesDescription="AX T2")


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
    "suffix in capitals": (
        lambda root: [p.rename(p.with_suffix(".DCM")) for p in folder_of(root, T1).glob("*.dcm")], []
    ),
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
    # Parts, and what needs more than the edit of one thing.
    "study in both parts": (second_part, ["study-in-both-parts"]),
    "odd submission": (odd_submission, ["submission-rows"] * 2),
    "JPEG-LS": (compress, ["transfer-syntax"]),
    "repeated numbers": (names_without_numbers, ["grade-without-point", "numbers-repeated"]),
    "report": (report_among_slices, ["no-image"]),
    "plain folder": (plain_folder_with_a_proton_density, ["series-unused", "view-missing"]),
    "few slices": (
        lambda root: (
            [(folder_of(root, T1) / f"{n}.dcm").unlink() for n in (1, 2, 7)],
            edit_points(root, lambda t: t[t["series_id"] != SERIES[T1]]),
        ),
        ["few-slices", "grade-without-point"],
    ),
    "another plane": (
        lambda root: (
            [write_slice(folder_of(root, T1), n, [-100, -100, 90 - 9 * n], AXIAL) for n in range(1, 8)],
            edit_points(root, lambda t: t[t["series_id"] != SERIES[T1]]),
        ),
        ["field-differs", "grade-without-point", "view-wrong"],
    ),
    "mirrored pixels": (
        lambda root: (mirror_axial(root), edit_points(root, lambda t: t.iloc[:0])),
        ["pixels-mirrored", "study-without-points"],
    ),
}  # fmt: skip
