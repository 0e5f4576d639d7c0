"""A tiny challenge directory with crude phantoms, and a grader trained on it once per session."""

from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

from classify.config import ClassifyConfig
from classify.train.run import train
from shared.data.challenge import Challenge, write_grades
from shared.labels import FINDINGS, Side, View
from shared.splits import Splits, make_splits

STUDIES = 12
SIZE_PX = 48
SPACING_MM = 2.0
# Rows and columns of each view's images in patient space, in the usual storage order.
AXES = {True: ((0.0, 1.0, 0.0), (0.0, 0.0, -1.0)), False: ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))}
SLICES = {View.SAGITTAL_T1: 5, View.SAGITTAL_T2: 3, View.AXIAL_T2: 5}


def write_dicom(path: Path, pixels: np.ndarray, origin_mm: tuple[float, float, float], view: View, number: int) -> None:
    """One minimal, uncompressed slice."""
    dataset = pydicom.Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = MRImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.{number}"
    dataset.InstanceNumber = number
    dataset.ImagePositionPatient = list(origin_mm)
    dataset.ImageOrientationPatient = [v for axis in AXES[view.is_sagittal] for v in axis]
    dataset.PixelSpacing = [SPACING_MM, SPACING_MM]
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.PixelData = pixels.astype("<u2").tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)


def slice_of(view: View, side: Side | None, level: int) -> int:
    """Index of the slice that shows a finding: sagittal slices run right to left, axial ones head to foot."""
    if view is View.AXIAL_T2:
        return level
    middle = SLICES[view] // 2
    return middle + {Side.LEFT: 1, Side.RIGHT: -1, None: 0}[side]


def point_px(view: View, side: Side | None, level: int) -> tuple[float, float]:
    if view is View.AXIAL_T2:
        return (30.0 if side is Side.LEFT else 18.0), 24.0
    return 24.0, 6.0 + 9 * level


def _write_study(root: Path, study: int, grades: np.ndarray, rng: np.random.Generator) -> tuple[list, list]:
    """Every finding is a dot whose brightness tells the grade."""
    series_rows, point_rows = [], []
    for v, view in enumerate(View):
        series = f"{study}{v}"
        series_rows.append((str(study), series, view.value))
        stack = rng.integers(80, 120, (SLICES[view], SIZE_PX, SIZE_PX))
        for f in (x for x in FINDINGS if x.view is view):
            k, (x, y) = slice_of(view, f.side, f.level), point_px(view, f.side, f.level)
            bright = 400 + 800 * max(int(grades[f.index]), 0)
            stack[k, int(y) - 2 : int(y) + 3, int(x) - 2 : int(x) + 3] = bright
            point_rows.append((str(study), series, k + 1, f.condition_display, f.level.display, x, y))
        for k in range(SLICES[view]):
            origin = (4.0 * k, -48.0, 48.0) if view.is_sagittal else (-48.0, -48.0, -4.0 * k)
            path = root / "train_images" / str(study) / series / f"{k + 1}.dcm"
            write_dicom(path, stack[k], origin, view, k + 1)
    return series_rows, point_rows


@pytest.fixture(scope="session")
def challenge(tmp_path_factory: pytest.TempPathFactory) -> Challenge:
    root = tmp_path_factory.mktemp("challenge")
    rng = np.random.default_rng(0)
    grades = {
        str(100 + s): rng.choice(3, size=len(FINDINGS), p=[0.5, 0.3, 0.2]).astype(np.int8) for s in range(STUDIES)
    }
    grades["101"][3] = -1
    series, points = [], []
    for study, row in grades.items():
        more_series, more_points = _write_study(root, int(study), row, rng)
        series += more_series
        points += more_points
    write_grades(root / "train.csv", grades)
    names = ["study_id", "series_id", "series_description"]
    pd.DataFrame(series, columns=names).to_csv(root / "train_series_descriptions.csv", index=False)
    names = ["study_id", "series_id", "instance_number", "condition", "level", "x", "y"]
    pd.DataFrame(points, columns=names).to_csv(root / "train_label_coordinates.csv", index=False)
    return Challenge.open(root)


@pytest.fixture(scope="session")
def tiny_config() -> ClassifyConfig:
    overrides = (
        "crop.size_px=32", "crop.slices=3", "crop.margin_px=4", "crop.margin_slices=1",
        "crop.mm_per_px={canal=1.0, foraminal=1.0, subarticular=1.0}",
        "train.epochs=2", "train.batch=100", "train.ema_decay=0.5", "train.amp='none'",
    )  # fmt: skip
    return ClassifyConfig.load(None, overrides)


@pytest.fixture(scope="session")
def splits(challenge: Challenge) -> Splits:
    return make_splits(challenge.study_ids, challenge.grades, folds=3)


@pytest.fixture(scope="session")
def run(challenge, tiny_config, splits, tmp_path_factory) -> Path:
    """Folds 0 and 1, trained at annotated points without interruption; the cache is kept."""
    folder = tmp_path_factory.mktemp("run")
    train(challenge, folder, tiny_config, folds=[0, 1], splits=splits, device="cpu", keep_cache=True)
    return folder
