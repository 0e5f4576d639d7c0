"""A tiny challenge directory with crude phantoms, and a grader trained on it once per test run."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage

from classify.config import ClassifyConfig
from classify.train.request import TrainingResources, TrainRequest
from classify.train.run import train
from shared.annotations import annotated_localizations
from shared.data.challenge import Challenge, write_grades
from shared.detections import Source, write_localizations
from shared.jitter import Jitter, write_jitter
from shared.labels import FINDINGS, Condition, Side, View
from shared.runtime.documents import read_json
from shared.runtime.files import write_json
from shared.runtime.run_folder import PREDICTED_POINTS, RUN_FILE, sha256_of, write_run
from shared.splits import Splits, make_splits, write_splits

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
    dataset.file_meta.MediaStorageSOPInstanceUID = UID(f"1.2.{number}")
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


Make = Callable[[str, Callable[[Path], object]], Path]


def _write_challenge(root: Path) -> None:
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


@pytest.fixture(scope="session")
def challenge(made_once: Make) -> Challenge:
    return Challenge.open(made_once("classify_challenge", _write_challenge))


@pytest.fixture(scope="session")
def tiny_config() -> ClassifyConfig:
    """The smallest trunk; `tests/pipelines` trains and stores the one of 50 layers."""
    overrides = (
        "model.backbone='resnet18'",
        "crop.size_px=32", "crop.slices=3", "crop.margin_px=4", "crop.margin_slices=1",
        "crop.mm_per_px={canal=1.0, foraminal=1.0, subarticular=1.0}",
        "train.epochs=2", "train.batch=100", "train.ema_decay=0.5", "train.amp='none'",
    )  # fmt: skip
    return ClassifyConfig.load(None, overrides)


@pytest.fixture(scope="session")
def splits(challenge: Challenge) -> Splits:
    return make_splits(challenge.study_ids, challenge.grades_of(challenge.study_ids), folds=3)


@pytest.fixture(scope="session")
def one_fold(challenge, tiny_config, splits) -> TrainRequest:
    """Fold 0 at annotated points."""
    return TrainRequest(data=challenge, config=tiny_config, folds=(0,), splits=splits)


@pytest.fixture(scope="session")
def run(one_fold: TrainRequest, made_once: Make) -> Path:
    """Folds 0 and 1, trained at annotated points without interruption; the cache is kept."""

    def make(folder: Path) -> None:
        folder.mkdir()
        train(replace(one_fold, folds=(0, 1)), folder, TrainingResources(device="cpu", keep_cache=True))

    return made_once("classify_run", make)


@pytest.fixture(scope="session")
def points_of(challenge) -> Callable[[], dict]:
    """A fresh copy of the true points, as if stage 1 had detected them."""

    def points() -> dict:
        lifted = {s: annotated_localizations(challenge.load_study(s).study, p) for s, p in challenge.points.items()}
        return {
            s: {f: replace(x, source=Source.DETECTED) for f, x in of_study.items()} for s, of_study in lifted.items()
        }

    return points


@pytest.fixture
def write_localizer(challenge, splits) -> Callable[..., Path]:
    """Writes what `lumbar localize train` leaves: out-of-fold points and their error, the splits, run.json."""

    def write(folder: Path, points: dict, *, unmirror: bool = True) -> Path:
        write_localizations(folder / "localizations.csv", points)
        write_jitter(folder / "errors.json", {c: Jitter(in_plane_sd_mm=1.5, slice_offsets={0: 1.0}) for c in Condition})
        write_splits(folder / "splits.json", splits)
        write_run(
            folder, command="localize train", started=0, kind="localize", data_fingerprint=challenge.fingerprint,
            folds={str(k): {"models": {}} for k in range(3)}, unmirror=unmirror,
            localizations_sha256=sha256_of(folder / "localizations.csv"),
        )  # fmt: skip
        return folder

    return write


@pytest.fixture
def localizer(write_localizer, points_of, tmp_path) -> Path:
    """A finished localizer's run folder."""
    return write_localizer(tmp_path / "localizer", points_of())


@pytest.fixture
def predicted(localizer: Path) -> Path:
    """What `lumbar localize predict` with the detectors that ship leaves of the training studies."""
    (localizer / "splits.json").unlink()
    facts = read_json(localizer / RUN_FILE)
    write_json(localizer / RUN_FILE, facts | {"kind": PREDICTED_POINTS, "shipped": True, "trained_on": "other studies"})
    return localizer
