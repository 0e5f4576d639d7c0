"""A tiny clean challenge directory with hand-computed geometry, and ways to spoil it.

Sagittal slices lie at x = -24, -16, ... 24 mm, axial ones at z = 90, 80, ... -90 mm. Pictures are 100 x 100 pixels of
2 mm around the origin, so sagittal pixel (x, y) is the patient's (., 2x - 100, 100 - 2y). Discs lie every 35 mm from
z = 70 mm.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pydicom

from shared.data.challenge import write_grades
from shared.labels import FINDINGS, Condition, Level, Side, View
from tests.dicom_files import AXIAL, SAGITTAL, write_dicom

STUDY = "100"
SERIES = {View.SAGITTAL_T1: "11", View.SAGITTAL_T2: "12", View.AXIAL_T2: "13"}
DISC_Z_MM = {level: 70 - 35 * level for level in Level}
TAGS = {
    "WindowCenter": "300", "WindowWidth": "600", "SliceThickness": "4", "SpacingBetweenSlices": "8",
    "PatientPosition": "HFS", "FrameOfReferenceUID": "1.9", "PixelSpacing": [2.0, 2.0],
}  # fmt: skip


def tissue(points_mm: np.ndarray) -> np.ndarray:
    """Brightness of a body without left-right symmetry. points_mm: # [..., 3]"""
    x, y, z = np.moveaxis(points_mm, -1, 0)
    waves = np.sin(x / 17 + 0.4) + np.sin(y / 23) * np.cos(x / 31) + np.sin(z / 29 + y / 41)
    waves += np.sin(y / 5 + (x + 70) ** 2 / 900)  # unlike its mirror image, however that is slid
    return (300 + 70 * waves).astype(np.uint16)


def picture(origin: Sequence[float], orientation: Sequence[float]) -> np.ndarray:
    rows, columns = np.mgrid[0:100, 0:100]
    row_dir, col_dir = np.array(orientation[:3]), np.array(orientation[3:])
    return tissue(np.array(origin) + 2 * columns[..., None] * row_dir + 2 * rows[..., None] * col_dir)


def write_slice(folder: Path, number: int, origin: list[float], orientation: Sequence[float], **tags: Any) -> Path:
    pixels = tags.pop("pixels", None)
    return write_dicom(
        folder / f"{number}.dcm", picture(origin, orientation) if pixels is None else pixels,
        **{
            **TAGS, "InstanceNumber": number, "ImagePositionPatient": origin, "ImageOrientationPatient": orientation,
            "SeriesInstanceUID": f"1.{folder.name}", **tags,
        },
    )  # fmt: skip


def write_sagittal(folder: Path, *, lift_mm: float = 0, **tags: Any) -> None:
    for k in range(7):
        write_slice(folder, k + 1, [-24 + 8 * k, -100, 100 + lift_mm], SAGITTAL, **tags)


def write_axial(folder: Path, **tags: Any) -> None:
    for k in range(19):
        write_slice(folder, k + 1, [-100, -100, 90 - 10 * k], AXIAL, **tags)


def point_rows() -> list[tuple[str, str, int, str, str, float, float]]:
    rows = []
    for f in FINDINGS:
        z = DISC_Z_MM[f.level]
        side = {None: 0, Side.LEFT: 1, Side.RIGHT: -1}[f.side]
        number, x, y = 4 + 2 * side, 50.0, (100 - z) / 2
        if f.condition is Condition.SUBARTICULAR:
            number, x, y = 1 + round((90 - z) / 10), 50.0 + 7 * side, 50.0
        rows.append((STUDY, SERIES[f.view], number, f.condition_display, f.level.display, x, y))
    return rows


def write_case(root: Path) -> Path:
    """A clean training part of one study."""
    folder = root / "train_images" / STUDY
    write_sagittal(folder / SERIES[View.SAGITTAL_T1], SeriesDescription="T1")
    write_sagittal(folder / SERIES[View.SAGITTAL_T2])
    write_axial(folder / SERIES[View.AXIAL_T2])
    write_grades(root / "train.csv", {STUDY: np.zeros(25, np.int8)})
    columns = ["study_id", "series_id", "instance_number", "condition", "level", "x", "y"]
    pd.DataFrame(point_rows(), columns=columns).to_csv(root / "train_label_coordinates.csv", index=False)
    table = pd.DataFrame([(STUDY, s, v.value) for v, s in SERIES.items()])
    table.to_csv(
        root / "train_series_descriptions.csv", index=False, header=["study_id", "series_id", "series_description"]
    )
    return root


def folder_of(root: Path, view: View) -> Path:
    return root / "train_images" / STUDY / SERIES[view]


def edit_points(root: Path, change: Callable[[pd.DataFrame], pd.DataFrame | None]) -> None:
    """`change` edits the table in place or returns another."""
    edit_table(root / "train_label_coordinates.csv", change)


def edit_table(path: Path, change: Callable[[pd.DataFrame], pd.DataFrame | None]) -> None:
    table = pd.read_csv(path, dtype=object, keep_default_na=False)
    changed = change(table)
    (table if changed is None else changed).to_csv(path, index=False)


def edit_tags(folder: Path, *numbers: int, **tags: Any) -> None:
    """Changes elements of the named slices, of all where none is named."""
    paths = [folder / f"{n}.dcm" for n in numbers] or sorted(folder.glob("*.dcm"))
    for path in paths:
        dataset = pydicom.dcmread(path)
        for name, value in tags.items():
            if value is None:
                del dataset[name]
            else:
                setattr(dataset, name, value)
        dataset.save_as(path, enforce_file_format=True)
