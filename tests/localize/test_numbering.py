"""Chains that may be one disc off: made-up spines with a disc more, a disc less, or names that waver."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from localize.config import ChainConfig
from localize.decoding.chain import ChainDecoding, decode_chain
from localize.decoding.lift import lift
from localize.decoding.numbering import Places, ladder, weigh_shifts
from localize.decoding.prior import ChainPrior
from shared.detections import Detection, Source
from shared.labels import Level, View
from shared.numbering import Numbering, read_numbering, write_numbering
from shared.runtime.errors import InputError
from tests.localize.spine_phantom import CANAL_MM, model_study, perfect_detections

STUDY = model_study()
BOXES = perfect_detections(STUDY)


def decode(detections: list[Detection], prior: ChainPrior, config: ChainConfig | None = None) -> ChainDecoding:
    return decode_chain(lift(STUDY, detections, prior), prior, config or ChainConfig())


def numbering(detections: list[Detection], prior: ChainPrior, config: ChainConfig | None = None) -> Numbering:
    result = decode(detections, prior, config).numbering
    assert result is not None
    return result


def renamed(detections: list[Detection], step: int, score: float) -> list[Detection]:
    """The same boxes under the name of the level `step` lower; those that would leave the five are dropped."""
    return [
        replace(d, level=Level(d.level + step), score=score)
        for d in detections
        if 0 <= d.level + step < len(Level)
    ]  # fmt: skip


def beyond(level: Level, step: int, score: float) -> list[Detection]:
    """Boxes at the disc above or below the model spine, which carry the name of the end level."""
    gap = CANAL_MM[Level.L2_L3] - CANAL_MM[Level.L1_L2]
    planes = {(s.series_id, item.instance_number): item.plane for s in STUDY.series for item in s.slices}
    found = []
    for d in BOXES:
        plane = planes[d.series_id, d.instance_number]
        if d.level is level and d.view is not View.AXIAL_T2:
            left, top, right, bottom = d.box_xyxy_px
            dx, dy = plane.to_pixel(plane.to_patient([0, 0]) + step * gap)
            found.append(replace(d, score=score, box_xyxy_px=(left + dx, top + dy, right + dx, bottom + dy)))
    return found


def test_faultless_detections_leave_no_doubt(prior: ChainPrior) -> None:
    result = numbering(BOXES, prior)
    assert result.as_named > 0.99
    assert result.certain
    assert max(result.missing.values()) < 0.01
    assert result.disc_above == result.disc_below == 0


@pytest.mark.parametrize("step", [1, -1])
def test_a_detector_that_wavers_between_two_countings_makes_the_numbering_uncertain(
    prior: ChainPrior, step: int
) -> None:
    """Each disc is called by its own and, nearly as often, by its neighbour's name; a sixth disc is in view."""
    end = Level.L1_L2 if step == 1 else Level.L5_S1
    names = [*renamed(BOXES, 0, 0.5), *renamed(BOXES, step, 0.48), *beyond(end, -step, 0.45)]
    result = numbering(names, prior)
    # Names of the next level down mean that the disc of each name lies one disc higher.
    shifted, other = (result.one_higher, result.one_lower) if step == 1 else (result.one_lower, result.one_higher)
    assert shifted > 0.01 > other
    assert result.as_named + result.one_higher + result.one_lower == pytest.approx(1)
    assert not result.certain


@pytest.mark.parametrize(("end", "step"), [(Level.L1_L2, -1), (Level.L5_S1, 1)])
def test_a_disc_beyond_the_chain_is_reported_and_keeps_the_names(prior: ChainPrior, end: Level, step: int) -> None:
    result = numbering([*BOXES, *beyond(end, step, 0.4)], prior)
    above, below = (result.disc_above, result.disc_below) if step == -1 else (result.disc_below, result.disc_above)
    assert above == pytest.approx(0.4, abs=0.1)
    assert below == 0
    assert result.certain


def test_four_visible_discs_leave_one_missing(prior: ChainPrior) -> None:
    """A field of view that ends below L4/L5, or a last disc fused away."""
    decoded = decode([d for d in BOXES if d.level is not Level.L5_S1], prior)
    assert decoded.numbering is not None
    assert decoded.numbering.missing[Level.L5_S1] > 0.9
    assert max(decoded.numbering.missing[k] for k in Level if k is not Level.L5_S1) < 0.1
    assert decoded.levels[Level.L5_S1].source is Source.INTERPOLATED


def test_more_prior_doubt_gives_more_doubt_and_lower_scores(prior: ChainPrior) -> None:
    names = [*renamed(BOXES, 0, 0.5), *renamed(BOXES, 1, 0.4)]
    doubts, scores = [], []
    for shift_prior in (0.0, 0.05, 0.3):
        decoded = decode(names, prior, ChainConfig(shift_prior=shift_prior))
        assert decoded.numbering is not None
        doubts.append(1 - decoded.numbering.as_named)
        scores.append(decoded.levels[Level.L3_L4].score)
    assert doubts[0] == pytest.approx(0)
    assert doubts == sorted(doubts)
    assert scores == sorted(scores, reverse=True)


def test_places_on_no_rung_leave_the_prior_alone(prior: ChainPrior) -> None:
    far = Places(yz_mm=np.array([[500.0, 0.0]]), unary=np.full((1, len(Level)), 3.0), seen=np.array([0.9]))
    points = np.array([CANAL_MM[level][1:] for level in Level])
    result = weigh_shifts(far, points, np.zeros(len(Level)), prior, ChainConfig(shift_prior=0.2))
    assert (result.as_named, result.one_higher, result.one_lower) == pytest.approx((0.6, 0.2, 0.2))
    assert result.disc_above == result.disc_below == 0


def test_the_ladder_goes_on_as_the_spine_bends(prior: ChainPrior) -> None:
    points = np.array([CANAL_MM[level][1:] for level in Level])
    rungs = ladder(points, prior)
    np.testing.assert_allclose(rungs[1:-1], points)
    # The model spine's gaps are all (3, -34).
    np.testing.assert_allclose(rungs[[0, -1]], [[-3.0, 34.0], [15.0, -170.0]], atol=2.5)


def test_numbering_survives_its_file_and_bad_ones_are_named(tmp_path: Path, prior: ChainPrior) -> None:
    path = tmp_path / "numbering.csv"
    first = numbering(BOXES, prior)
    write_numbering(path, {"2": first, "1": first})
    again = read_numbering(path)
    assert list(again) == ["1", "2"]
    assert again["1"].as_named == pytest.approx(first.as_named)
    json.dumps(first.to_json(), allow_nan=False)
    path.write_text(path.read_text().replace("\n1,", "\n1,2"))
    with pytest.raises(InputError, match="line 2"):
        read_numbering(path)
    with pytest.raises(ValueError, match="sum to 1"):
        replace(first, one_lower=0.7)
