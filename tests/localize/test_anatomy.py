"""Other anatomy than the lumbar spine is told by size and by what lies below the last disc."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from localize.anatomy import (
    LUMBAR_SIZES,
    OTHER_SIZES,
    SACRUM_MM,
    Look,
    enlarged,
    sacrum_room_mm,
    why_no_sacrum,
    why_other_size,
    why_unanchored,
)
from localize.calibrate import Calibration
from localize.config import LocalizeConfig
from localize.decoding.chain import ChainLevel
from localize.decoding.prior import ChainPrior
from localize.decoding.sagittal import Spine
from localize.localizer import Localizer
from shared.detections import Detection, Source
from shared.labels import Level, View
from shared.numbering import Numbering
from shared.runtime.errors import InputError
from shared.study import Series, Slice, Study
from tests.localize.spine_phantom import CANAL_MM, model_study, perfect_detections

RELIABLE = Calibration(samples=1000, failures=5)


class SizeBound(Localizer):
    """Detectors that recognise discs only where neighbouring ones are about as far apart as in the model spine."""

    def __init__(self, prior: ChainPrior, disc_gap_mm: float, calibration: Calibration = RELIABLE) -> None:
        super().__init__(dict.fromkeys(View), prior, LocalizeConfig(), calibration)  # type: ignore[arg-type]
        self.disc_gap_mm = disc_gap_mm

    def _detect(
        self, study_id: str, series: Series, slices: Sequence[Slice]
    ) -> tuple[list[Detection], list[InputError]]:
        found = []
        for item in slices:
            pixel_mm = item.plane.spacing_mm[0]
            shown_gap_mm = self.disc_gap_mm * pixel_mm / 2.0  # the model study has pixels of 2 mm
            sure = float(np.exp(-(((shown_gap_mm - 34.0) / 8.0) ** 2)))
            for level in Level:
                y, x = 20.0 + level * self.disc_gap_mm / 2.0, 48.0 + 1.5 * level
                half = 14.0 / pixel_mm
                if sure > 0.05:
                    found.append(Detection(
                        study_id=study_id, series_id=series.series_id, instance_number=item.instance_number,
                        view=series.view, level=level, box_xyxy_px=(x - half, y - half, x + half, y + half),
                        score=0.9 * sure,
                    ))  # fmt: skip
        return found, []


SAGITTAL_T2 = model_study(views=[View.SAGITTAL_T2])


@pytest.mark.parametrize("gap_mm", [15.0, 17.0, 19.0])
def test_discs_of_half_the_size_are_told(prior: ChainPrior, gap_mm: float) -> None:
    told = SizeBound(prior, gap_mm).localize(SAGITTAL_T2).not_lumbar
    assert "recognised only when enlarged" in told
    spacing = float(told.split("about ")[1].split(" mm")[0])
    assert spacing == pytest.approx(gap_mm, abs=4)


@pytest.mark.parametrize("gap_mm", [28.0, 31.0, 34.0, 37.0, 41.0])
def test_lumbar_discs_of_any_size_are_not_accused(prior: ChainPrior, gap_mm: float) -> None:
    assert SizeBound(prior, gap_mm).localize(SAGITTAL_T2).not_lumbar == ""


def test_a_localizer_that_errs_often_accuses_nobody(prior: ChainPrior) -> None:
    assert SizeBound(prior, 17.0, Calibration(samples=100, failures=40)).localize(SAGITTAL_T2).not_lumbar == ""


def looks(lumbar: float, other: float) -> list[Look]:
    sizes = {**dict.fromkeys(LUMBAR_SIZES, lumbar), **dict.fromkeys(OTHER_SIZES, other)}
    return [Look(enlargement=size, weight=weight, spacing_mm=17.0) for size, weight in sizes.items()]


def test_a_suspicion_decides_only_where_the_sizes_leave_a_doubt(prior: ChainPrior) -> None:
    slight, clear, against = looks(8.0, 9.0), looks(5.0, 9.0), looks(12.0, 9.0)
    named = "the header names another region"
    assert why_other_size(slight, prior) == ""
    assert why_other_size(slight, prior, suspicion=named).endswith(named)
    assert why_other_size(clear, prior)
    assert why_other_size(against, prior, suspicion=named) == ""


def test_nothing_recognised_at_any_size_accuses_nobody(prior: ChainPrior) -> None:
    assert why_other_size(looks(-5.0, 1.0), prior, suspicion="a knee") == ""


def test_enlarging_keeps_the_pixels_and_scales_the_patient() -> None:
    larger = enlarged(model_study(), 2.0)
    assert [s.view for s in larger.series] == [View.SAGITTAL_T2]
    for item in larger.series[0].slices:
        same = SAGITTAL_T2.series[0].by_instance(item.instance_number)
        assert same is not None
        assert same.shape == item.shape
        assert item.plane.to_patient([10.0, 20.0]) == pytest.approx(2 * same.plane.to_patient([10.0, 20.0]))


def spine_at(shift_mm: float) -> Spine:
    points = {level: CANAL_MM[level] + [0, 0, shift_mm] for level in Level}
    chain = {k: ChainLevel(yz_mm=(p[1], p[2]), source=Source.DETECTED, score=0.9) for k, p in points.items()}
    return Spine(point_mm=points, chain=chain)


def test_a_chain_that_reaches_the_lower_edge_leaves_no_room_for_a_sacrum() -> None:
    # The picture's lower edge is at z = 60 - 127.5 * 2 = -195; L5/S1 of the model spine at -136.
    for shift_mm, room_mm in ((0.0, 59.0), (-40.0, 19.0), (-50.0, 9.0), (-70.0, -11.0)):
        room = sacrum_room_mm(SAGITTAL_T2, spine_at(shift_mm))
        assert room == pytest.approx(room_mm)
        assert bool(why_no_sacrum(room)) is (room_mm < SACRUM_MM)
    assert sacrum_room_mm(model_study(views=[View.AXIAL_T2]), spine_at(-70.0)) == np.inf


def test_a_second_series_with_a_larger_field_shows_the_sacrum() -> None:
    series = SAGITTAL_T2.series[0]

    def lowered(item: Slice) -> Slice:
        x_mm, y_mm, _ = item.plane.origin_mm
        return replace(item, plane=replace(item.plane, origin_mm=(x_mm, y_mm, 0.0)))

    lower = replace(series, series_id="9", slices=tuple(map(lowered, series.slices)))
    both: Study = replace(SAGITTAL_T2, series=(series, lower))
    assert sacrum_room_mm(both, spine_at(-60.0)) > sacrum_room_mm(SAGITTAL_T2, spine_at(-60.0))


def test_perfect_detections_of_the_model_spine_are_lumbar(prior: ChainPrior) -> None:
    class Perfect(SizeBound):
        def _detect(
            self, study_id: str, series: Series, slices: Sequence[Slice]
        ) -> tuple[list[Detection], list[InputError]]:
            numbers = {item.instance_number for item in slices}
            return [d for d in perfect_detections(model_study()) if d.series_id == series.series_id
                    and d.instance_number in numbers], []  # fmt: skip

    assert Perfect(prior, 34.0).localize(model_study()).not_lumbar == ""


@pytest.mark.parametrize(("room_mm", "above", "said"), [(40, 0.0, False), (5, 0.9, False), (5, 0.05, True)])
def test_levels_that_nothing_anchors_are_told(room_mm: float, above: float, said: bool) -> None:
    numbering = Numbering(
        as_named=0.99, one_higher=0.01, one_lower=0.0, disc_above=above, disc_below=0.0,
        missing=dict.fromkeys(Level, 0.0),
    )  # fmt: skip
    assert bool(why_unanchored(room_mm, numbering)) is said
    assert why_unanchored(room_mm, None) == ""
