"""The level chain on made-up detections: complete, missing, noisy, shifted and swapped."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localize.config import ChainConfig
from localize.decoding.chain import decode_chain, fill_missing
from localize.decoding.lift import find_places, lift
from localize.decoding.prior import ChainPrior
from shared.detections import Detection, Source
from shared.labels import Level, View
from tests.localize.spine_phantom import CANAL_MM, model_study, perfect_detections

CONFIG = ChainConfig()
SAGITTAL = (View.SAGITTAL_T1, View.SAGITTAL_T2)
STUDY = model_study(views=SAGITTAL)


def decode(detections: list[Detection], prior: ChainPrior) -> dict[Level, tuple[np.ndarray, Source, float]]:
    chain = decode_chain(lift(STUDY, detections, prior), prior, CONFIG).levels
    return {level: (np.array(item.yz_mm), item.source, item.score) for level, item in chain.items()}


def check_positions(chain: dict[Level, tuple[np.ndarray, Source, float]], within_mm: float) -> None:
    for level in Level:
        assert np.linalg.norm(chain[level][0] - CANAL_MM[level][1:]) <= within_mm, level


def test_faultless_detections_give_every_level_with_confidence(prior: ChainPrior) -> None:
    chain = decode(perfect_detections(STUDY), prior)
    check_positions(chain, 1.0)
    assert all(source is Source.DETECTED and score > 0.95 for _, source, score in chain.values())


@pytest.mark.parametrize("view", SAGITTAL)
def test_one_sagittal_view_is_enough(prior: ChainPrior, view: View) -> None:
    check_positions(decode([d for d in perfect_detections(STUDY) if d.view is view], prior), 1.5)


@pytest.mark.parametrize("lost", [(Level.L3_L4,), (Level.L1_L2,), (Level.L5_S1,), (Level.L2_L3, Level.L3_L4)])
def test_lost_levels_are_placed_by_the_gaps_and_marked(prior: ChainPrior, lost: tuple[Level, ...]) -> None:
    chain = decode([d for d in perfect_detections(STUDY) if d.level not in lost], prior)
    check_positions(chain, 5.0)
    assert {level for level in Level if chain[level][1] is Source.INTERPOLATED} == set(lost)
    assert all(chain[level][2] <= 0.5 for level in lost)


def test_strong_false_boxes_off_the_spine_are_left_out(prior: ChainPrior) -> None:
    false = [
        replace(d, box_xyxy_px=(2.0, 2.0, 16.0, 16.0), score=0.95)
        for d in perfect_detections(STUDY)
        if d.level is Level.L4_L5 and d.view is View.SAGITTAL_T2
    ]
    check_positions(decode([*perfect_detections(STUDY, score=0.6), *false], prior), 2.0)


def test_one_level_called_by_its_neighbours_name_is_put_right(prior: ChainPrior) -> None:
    swapped = {Level.L3_L4: Level.L4_L5, Level.L4_L5: Level.L3_L4}
    detections = [replace(d, level=swapped.get(d.level, d.level)) for d in perfect_detections(STUDY)]
    # The detector also keeps a little of its score for the right name, as real ones do.
    detections += perfect_detections(STUDY, score=0.1)
    check_positions(decode(detections, prior), 3.0)


def test_a_sixth_disc_below_does_not_shift_the_chain(prior: ChainPrior) -> None:
    shift_px = 17.0
    below = []
    for d in perfect_detections(STUDY):
        if d.level is Level.L5_S1:
            left, top, right, bottom = d.box_xyxy_px
            below.append(replace(d, score=0.5, box_xyxy_px=(left, top + shift_px, right, bottom + shift_px)))
    check_positions(decode([*perfect_detections(STUDY, score=0.6), *below], prior), 2.0)


def test_no_detection_gives_no_chain(prior: ChainPrior) -> None:
    assert decode([], prior) == {}
    assert decode(perfect_detections(STUDY, score=0.01), prior) == {}


def test_places_keep_apart(prior: ChainPrior) -> None:
    places = find_places(lift(STUDY, perfect_detections(STUDY), prior), CONFIG.merge_mm)
    assert len(places) == len(Level)


@st.composite
def any_detections(draw: st.DrawFn) -> list[Detection]:
    slices = [(s, item) for s in STUDY.series for item in s.slices]
    found = []
    for _ in range(draw(st.integers(1, 25))):
        series, item = draw(st.sampled_from(slices))
        x, y = draw(st.floats(8, 88)), draw(st.floats(8, 120))
        found.append(
            Detection(
                study_id="100",
                series_id=series.series_id,
                instance_number=item.instance_number,
                view=series.view,
                level=draw(st.sampled_from(list(Level))),
                box_xyxy_px=(x - 7, y - 7, x + 7, y + 7),
                score=draw(st.floats(0.0, 1.0)),
            )
        )
    return found


@settings(max_examples=60, deadline=None)
@given(any_detections())
def test_any_chain_is_complete_ordered_head_to_foot_and_finite(prior: ChainPrior, detections: list[Detection]) -> None:
    chain = decode(detections, prior)
    if not chain:
        assert all(d.score < CONFIG.min_score for d in detections)
        return
    assert list(chain) == list(Level)
    detected = [point[1] for point, source, _ in chain.values() if source is Source.DETECTED]
    assert detected
    assert all(a > b for a, b in pairwise(detected))
    assert all(np.isfinite(point).all() and 0 <= score <= 1 for point, _, score in chain.values())


def test_interpolation_keeps_the_proportions_of_the_mean_gaps(prior: ChainPrior) -> None:
    chain = decode_chain(lift(STUDY, perfect_detections(STUDY), prior), prior, CONFIG).levels
    ends = {level: chain[level] for level in (Level.L1_L2, Level.L5_S1)}
    filled = fill_missing(ends, prior)
    z = [filled[level].yz_mm[1] for level in Level]
    np.testing.assert_allclose(
        np.diff(z) / (z[-1] - z[0]), prior.gap_mean[:, 1] / prior.gap_mean[:, 1].sum(), atol=0.02
    )
