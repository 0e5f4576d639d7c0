"""The order in which a file stores rows and columns changes nothing: the same places in the patient are found."""

from pathlib import Path

import numpy as np
import pydicom
import pytest

from localize.localizer import Localizer
from localize.predict import predict_studies
from shared.data.challenge import Challenge
from shared.data.source import challenge_source


def store_differently(path: Path, target: Path, *, transpose: bool, flip_rows: bool, flip_columns: bool) -> None:
    """The same picture with its axes in another order, and a header that says so."""
    dataset = pydicom.dcmread(path)
    pixels = dataset.pixel_array
    origin = np.array(dataset.ImagePositionPatient, float)
    row, column = np.array(dataset.ImageOrientationPatient, float).reshape(2, 3)
    dy, dx = (float(v) for v in dataset.PixelSpacing)
    if flip_rows:
        origin, column, pixels = origin + column * dy * (pixels.shape[0] - 1), -column, pixels[::-1]
    if flip_columns:
        origin, row, pixels = origin + row * dx * (pixels.shape[1] - 1), -row, pixels[:, ::-1]
    if transpose:
        row, column, dy, dx, pixels = column, row, dx, dy, pixels.T
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.ImagePositionPatient = [f"{v:.5f}" for v in origin]
    dataset.ImageOrientationPatient = [float(v) for v in (*row, *column)]
    dataset.PixelSpacing = [dy, dx]
    dataset.PixelData = np.ascontiguousarray(pixels).tobytes()
    target.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(target, enforce_file_format=True)


@pytest.mark.parametrize(
    ("transpose", "flip_rows", "flip_columns"),
    [(False, True, False), (True, True, True)],  # tests/shared/test_orientation.py has all eight
)
def test_points_are_the_same_however_a_study_is_stored(
    run: Path, challenge: Challenge, tmp_path: Path, transpose: bool, flip_rows: bool, flip_columns: bool
) -> None:
    for path in challenge.root.glob("*.csv"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    study_id = challenge.study_ids[0]
    for path in (challenge.images / study_id).rglob("*.dcm"):
        target = tmp_path / "train_images" / path.relative_to(challenge.images)
        store_differently(path, target, transpose=transpose, flip_rows=flip_rows, flip_columns=flip_columns)
    localizer = Localizer.load(run, device="cpu")
    usual, other = (
        predict_studies(lambda _: localizer, challenge_source(data), [study_id])
        for data in (challenge, Challenge.open(tmp_path))
    )
    assert usual.detections
    assert len(other.detections) == len(usual.detections)
    assert other.localizations[study_id].keys() == usual.localizations[study_id].keys()
    study = Challenge.open(tmp_path).load_study(study_id).study
    for finding, point in usual.localizations[study_id].items():
        found = other.localizations[study_id][finding]
        np.testing.assert_allclose(found.point_mm, point.point_mm, atol=0.01)
        # The pixel is one of the file, whose own plane puts it at that place.
        item = study.get(found.series_id).by_instance(found.instance_number)
        np.testing.assert_allclose(item.plane.to_patient((found.x_px, found.y_px)), point.point_mm, atol=0.01)
