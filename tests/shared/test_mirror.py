"""Mirrored axial series are seen where they cut the sagittal ones."""

from pathlib import Path

import numpy as np
import pydicom
import pytest

from shared.challenge import Challenge
from shared.labels import View
from shared.mirror import unmirrored
from shared.study import Study
from shared.synthetic import generate


@pytest.fixture
def study(tmp_path: Path) -> Study:
    generate(tmp_path, studies=1, test_studies=0, seed=12)
    data = Challenge.open(tmp_path / "data")
    return data.load_study(data.study_ids[0]).study


def _mirror_pixels(study: Study) -> None:
    for item in study.of_view(View.AXIAL_T2)[0].slices:
        dataset = pydicom.dcmread(item.path)
        pixels = np.ascontiguousarray(dataset.pixel_array[:, ::-1])
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        dataset.PixelData = pixels.tobytes()
        dataset.save_as(item.path)


def test_a_sound_study_stays_as_it_is(study: Study) -> None:
    assert unmirrored(study) == (study, ())


def test_a_mirrored_series_gets_the_plane_of_what_it_shows(study: Study) -> None:
    _mirror_pixels(study)
    axial = study.of_view(View.AXIAL_T2)[0]
    corrected, turned = unmirrored(study)
    assert turned == (axial.series_id,)
    for old, new in zip(axial.slices, corrected.of_view(View.AXIAL_T2)[0].slices, strict=True):
        first, last = new.plane.to_patient((0, 3)), old.plane.to_patient((old.shape[1] - 1, 3))
        assert first == pytest.approx(last)
        assert new.plane.to_patient((old.shape[1] - 1, 3)) == pytest.approx(old.plane.to_patient((0, 3)))
    assert corrected.of_view(View.SAGITTAL_T2) == study.of_view(View.SAGITTAL_T2)


def test_without_sagittal_slices_nothing_is_known(study: Study) -> None:
    _mirror_pixels(study)
    alone = Study(study_id=study.study_id, series=study.of_view(View.AXIAL_T2))
    assert unmirrored(alone) == (alone, ())
