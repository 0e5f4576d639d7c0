"""Which way round crops of a mirrored axial series lie: in the training cache and in prediction."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from classify import predict as predict_module
from classify.config import CropConfig
from classify.crop_cache import CacheJob, build_cache, cut_crops
from classify.crops import CropSpec
from shared.annotations import annotated_localizations
from shared.data.challenge import Challenge, Point
from shared.detections import Localization
from shared.labels import FINDINGS, Condition, Finding, View
from shared.mirror.correct import as_shown
from shared.probabilities.reasons import PriorReason
from shared.study import Study

CROP = CropConfig(size_px=48, slices=1, margin_px=0, margin_slices=0)
RECESSES = (Condition.SUBARTICULAR,)


def _one_study(root: Path) -> Challenge:
    data = Challenge.open(root)
    (study_id, *_), grades = data.study_ids, data.grades
    assert grades is not None
    return replace(data, study_ids=(study_id,), grades=grades[:1], points={study_id: data.points[study_id]})


@pytest.fixture(scope="module")
def sound(few_studies: Path) -> Challenge:
    return _one_study(few_studies / "data")


@pytest.fixture(scope="module")
def mirrored(few_studies: Path, tmp_path_factory: pytest.TempPathFactory) -> Challenge:
    """The same study, its axial pixels mirrored against the header; the points follow the picture."""
    root = tmp_path_factory.mktemp("mirrored") / "data"
    data = _one_study(Path(shutil.copytree(few_studies / "data", root)))
    width = 0
    for series in data.load_study(data.study_ids[0]).study.of_view(View.AXIAL_T2):
        for item in series.slices:
            dataset = pydicom.dcmread(item.path)
            pixels = np.ascontiguousarray(dataset.pixel_array[:, ::-1])
            width = pixels.shape[1]
            dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
            dataset.PixelData = pixels.tobytes()
            dataset.save_as(item.path)

    def moved(p: Point) -> Point:
        x_px = width - 1 - p.x_px if p.finding.view is View.AXIAL_T2 else p.x_px
        return Point(study_id=p.study_id, series_id=p.series_id, instance_number=p.instance_number,
                     finding=p.finding, x_px=x_px, y_px=p.y_px)  # fmt: skip

    for study_id, points in data.points.items():
        data.points[study_id] = tuple(moved(p) for p in points)  # type: ignore[index]
    return data


def _cut(study: Study, points: dict[Finding, Localization]) -> dict[Finding, np.ndarray]:
    wanted = {f: p for f, p in points.items() if f.condition in RECESSES}
    return dict(cut_crops(study, wanted, lambda f: CropSpec.final(CROP, f)).crops)


def _alike(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.ravel().astype(float), b.ravel().astype(float))[0, 1])


def test_crops_of_a_mirrored_series_lie_the_right_way_round(sound: Challenge, mirrored: Challenge) -> None:
    study_id = sound.study_ids[0]
    good, given = (c.load_study(study_id).study for c in (sound, mirrored))
    wanted = _cut(good, annotated_localizations(good, sound.points[study_id]))
    points = annotated_localizations(given, mirrored.points[study_id])
    shown, believed = _cut(as_shown(given).study, points), _cut(given, points)
    assert len(wanted) > 4
    for finding, crop in wanted.items():
        assert _alike(shown[finding], crop) > 0.99
        assert _alike(believed[finding], crop) < 0.95


@pytest.mark.parametrize("unmirror", [True, False])
def test_the_cache_follows_the_switch(sound: Challenge, mirrored: Challenge, tmp_path: Path, unmirror: bool) -> None:
    jobs = [
        CacheJob(data=c, config=CROP, localizations=None, conditions=RECESSES, unmirror=unmirror)
        for c in (sound, mirrored)
    ]
    cached = [build_cache(job, tmp_path / str(k)) for k, job in enumerate(jobs)]
    assert jobs[0].key != replace(jobs[0], unmirror=not unmirror).key
    alike = [_alike(cached[0].patches[0, f], cached[1].patches[0, f]) for f in np.flatnonzero(cached[0].present[0])]
    assert (min(alike) > 0.99) is unmirror
    assert any("is mirrored" in p for p in cached[1].problems) is unmirror


@pytest.mark.parametrize("unmirror", [True, False])
def test_prediction_grades_the_study_as_shown(mirrored: Challenge, unmirror: bool) -> None:
    class Seen:
        def __init__(self) -> None:
            self.unmirror, self.studies = unmirror, []

        def grade(self, study: Study, points: dict) -> predict_module.StudyGrades:
            self.studies.append(study)
            return predict_module.StudyGrades(
                submission=np.full((25, 3), 1 / 3), reasons=dict.fromkeys(FINDINGS, PriorReason.NOT_TRAINED)
            )

    classifier: Any = Seen()
    _, problems = predict_module.predict_studies(lambda _: classifier, mirrored, mirrored.study_ids, {})
    given = mirrored.load_study(mirrored.study_ids[0]).study
    assert (classifier.studies[0] != given) is unmirror
    assert any("is mirrored" in text for text in problems) is unmirror
