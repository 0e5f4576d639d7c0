"""Whole studies decoded: sides by geometry, axial slices in order, missing series."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localize.config import LocalizeConfig
from localize.decoding.axial import AxialSlice, assign_levels, describe_series
from localize.decoding.decode import decode_study
from localize.decoding.prior import ChainPrior
from localize.measures import evaluate, measure_jitter, study_errors
from shared.detections import Detection, Source
from shared.labels import FINDINGS, Condition, Level, View
from tests.localize import spine_phantom
from tests.localize.spine_phantom import model_study, perfect_detections, sagittal_series, truth_of

CONFIG = LocalizeConfig()


@pytest.mark.parametrize("mirrored", [False, True])
def test_every_finding_is_found_on_its_side(prior: ChainPrior, mirrored: bool) -> None:
    study = model_study(mirrored=mirrored)
    localized = decode_study(study, perfect_detections(study), prior, CONFIG).localizations
    assert set(localized) == set(FINDINGS)
    errors = study_errors(study, truth_of(study), localized)
    assert all(e.distance_mm is not None and e.distance_mm < 2.5 and not e.wrong_side for e in errors)
    assert all(e.nearest_level is e.finding.level and e.slices == 0 for e in errors)
    assert {loc.source for loc in localized.values()} == {Source.DETECTED}


@pytest.mark.parametrize("missing", list(View))
def test_a_missing_series_takes_only_its_own_findings(prior: ChainPrior, missing: View) -> None:
    study = model_study(views=[v for v in View if v is not missing])
    localized = decode_study(study, perfect_detections(study), prior, CONFIG).localizations
    assert set(localized) == {f for f in FINDINGS if f.view is not missing}
    errors = study_errors(study, truth_of(study), localized)
    assert all(e.distance_mm is not None and e.distance_mm < 6 and not e.wrong_side for e in errors)


def test_axial_alone_is_read_by_appearance(prior: ChainPrior) -> None:
    study = model_study(views=[View.AXIAL_T2])
    localized = decode_study(study, perfect_detections(study), prior, CONFIG).localizations
    assert {f.condition for f in localized} == {Condition.SUBARTICULAR}
    assert all(e.slices is not None and abs(e.slices) <= 1 for e in study_errors(study, truth_of(study), localized))


def test_without_axial_boxes_the_points_are_carried_over_and_say_so(prior: ChainPrior) -> None:
    study = model_study()
    sagittal = [d for d in perfect_detections(study) if d.view is not View.AXIAL_T2]
    localized = decode_study(study, sagittal, prior, CONFIG).localizations
    axial = {f: loc for f, loc in localized.items() if f.view is View.AXIAL_T2}
    assert len(axial) == 10
    assert {loc.source for loc in axial.values()} == {Source.PROJECTED}
    errors = study_errors(study, truth_of(study), localized)
    assert all(e.distance_mm is not None and e.distance_mm < 6 for e in errors)


def test_the_midline_follows_a_bent_spine(prior: ChainPrior, monkeypatch: pytest.MonkeyPatch) -> None:
    bend = {level: np.array([x, 0.0, 0.0]) for level, x in zip(Level, (0.0, 8.0, 17.0, 8.0, 0.0), strict=True)}
    bent = {level: point + bend[level] for level, point in spine_phantom.CANAL_MM.items()}
    monkeypatch.setattr(spine_phantom, "CANAL_MM", bent)
    study = model_study()
    decoded = decode_study(study, perfect_detections(study, reach_mm=11.0), prior, CONFIG)
    assert decoded.spine is not None
    for level, point in decoded.spine.point_mm.items():
        assert abs(point[0] - bent[level][0]) < 2
    errors = study_errors(study, truth_of(study), decoded.localizations)
    assert all(e.slices == 0 and not e.wrong_side for e in errors if e.finding.condition is Condition.CANAL)


def test_a_series_far_away_neither_moves_the_spine_nor_takes_memory(prior: ChainPrior) -> None:
    study = model_study()
    stray = sagittal_series(View.SAGITTAL_T2, series_id="9")
    moved = tuple(
        replace(item, plane=replace(item.plane, origin_mm=(1e8, *item.plane.origin_mm[1:]))) for item in stray.slices
    )
    crowded = replace(study, series=(*study.series, replace(stray, slices=moved)))
    boxes = perfect_detections(study)
    copies = [replace(d, series_id="9", score=0.5) for d in boxes if d.series_id == "2"]
    localized = decode_study(crowded, [*boxes, *copies], prior, CONFIG).localizations
    errors = study_errors(study, truth_of(study), localized)
    assert all(e.distance_mm is not None and e.distance_mm < 2.5 for e in errors)


def test_no_detection_at_all_gives_no_localization(prior: ChainPrior) -> None:
    assert decode_study(model_study(), [], prior, CONFIG).localizations == {}


def test_geometry_overrules_a_detector_that_calls_every_axial_slice_one_level_off(prior: ChainPrior) -> None:
    study = model_study()
    detections = [
        replace(d, level=Level(max(0, d.level - 1)), score=0.5) if d.view is View.AXIAL_T2 else d
        for d in perfect_detections(study)
    ]
    errors = study_errors(study, truth_of(study), decode_study(study, detections, prior, CONFIG).localizations)
    assert all(e.nearest_level is e.finding.level for e in errors)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.floats(0, 1), min_size=5, max_size=5), min_size=1, max_size=20),
    st.booleans(),
    st.integers(0, 99),
)
def test_assigned_levels_never_go_up(appearance: list[list[float]], geometry: bool, seed: int) -> None:
    study = model_study(views=[View.AXIAL_T2])
    (series,) = study.series
    rng = np.random.default_rng(seed)
    slices = [
        AxialSlice(series=series, item=series.slices[0], appearance=np.array(row), boxes={},
                   distance_mm=rng.normal(0, 40, (5, 2)) if geometry else None)
        for row in appearance
    ]  # fmt: skip
    levels = [level for level in assign_levels(slices, CONFIG) if level is not None]
    assert all(a <= b for a, b in pairwise(levels))


def test_the_best_box_of_each_level_describes_a_slice(prior: ChainPrior) -> None:
    study = model_study(views=[View.AXIAL_T2])
    boxes = perfect_detections(study)
    weaker = [replace(d, score=0.2, box_xyxy_px=(1.0, 1.0, 9.0, 9.0)) for d in boxes]
    described = describe_series(study.series[0], [*weaker, *boxes], None, prior)
    assert all(item.appearance.max() == 0.9 and item.distance_mm is None for item in described)


def test_measures_count_a_lost_finding_and_give_the_jitter(prior: ChainPrior) -> None:
    study = model_study()
    truth = truth_of(study)
    localized = dict(truth)
    lost = localized.pop(FINDINGS[0])
    moved = truth[FINDINGS[1]]
    localized[FINDINGS[1]] = replace(moved, point_mm=(moved.point_mm[0], moved.point_mm[1] + 9.0, moved.point_mm[2]))
    errors = study_errors(study, truth, localized)
    measures = evaluate(errors)["overall"]
    assert (measures["expected"], measures["found"]) == (25, 24)
    assert (measures["within_5_mm"], measures["within_8_mm"], measures["within_10_mm"]) == (23 / 25, 23 / 25, 24 / 25)
    assert lost.finding.condition is Condition.CANAL
    jitter = measure_jitter(errors)
    assert set(jitter) == set(Condition)
    assert jitter[Condition.FORAMINAL].slice_offsets == {0: 1.0}


def test_the_order_of_detections_does_not_matter(prior: ChainPrior) -> None:
    study = model_study()
    boxes: list[Detection] = perfect_detections(study)
    assert (
        decode_study(study, boxes, prior, CONFIG).localizations
        == decode_study(study, list(reversed(boxes)), prior, CONFIG).localizations
    )
