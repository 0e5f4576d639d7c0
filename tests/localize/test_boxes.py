"""Boxes from points, computed by hand."""

import numpy as np
import pytest

from localize.config import ViewConfig
from localize.detector.boxes import Role, label_series, side_points_px
from shared.geometry import Plane
from shared.labels import Condition, Finding, Level, Side, View
from tests.localize.spine_phantom import axial_series, model_study, sagittal_series, true_point, truth_of

CONFIG = ViewConfig(box_mm=30.0, margin_mm=10.0, neighbours=1)


def test_sagittal_box_is_centred_on_the_point_and_sized_in_mm() -> None:
    series = sagittal_series(View.SAGITTAL_T2, series_id="2")
    truth = truth_of(model_study())
    middle = label_series(series, truth, CONFIG)[6]
    assert middle.role is Role.POSITIVE
    assert [box.level for box in middle.boxes] == list(Level)
    # L1/L2 lies at y 0, z 0: column (0 + 84) / 2, row (60 - 0) / 2; 30 mm are 15 pixels of 2 mm.
    np.testing.assert_allclose(middle.boxes[0].box_xyxy_px, (42 - 7.5, 30 - 7.5, 42 + 7.5, 30 + 7.5))


def test_neighbouring_slices_are_positive_the_next_unclear_the_rest_negative() -> None:
    roles = [
        s.role for s in label_series(sagittal_series(View.SAGITTAL_T2, series_id="2"), truth_of(model_study()), CONFIG)
    ]
    assert roles == [Role.NEGATIVE] * 4 + [Role.UNCLEAR] + [Role.POSITIVE] * 3 + [Role.UNCLEAR] + [Role.NEGATIVE] * 4


def test_a_series_without_points_is_never_called_empty() -> None:
    labelled = label_series(sagittal_series(View.SAGITTAL_T1, series_id="1"), {}, CONFIG)
    assert {s.role for s in labelled} == {Role.UNCLEAR}


def test_slices_through_an_unannotated_level_are_unclear() -> None:
    truth = truth_of(model_study())
    for side in Side:
        del truth[Finding(condition=Condition.SUBARTICULAR, side=side, level=Level.L3_L4)]
    roles = [s.role for s in label_series(axial_series(), truth, CONFIG)]
    assert roles == [Role.POSITIVE] * 6 + [Role.UNCLEAR] * 3 + [Role.POSITIVE] * 6


@pytest.mark.parametrize("mirrored", [False, True])
def test_axial_box_spans_both_sides_and_gives_them_back_by_geometry(mirrored: bool) -> None:
    series = axial_series(mirrored=mirrored)
    labelled = label_series(series, truth_of(model_study(mirrored=mirrored)), CONFIG)[1]
    (box,) = labelled.boxes
    left, top, right, bottom = box.box_xyxy_px
    assert (right - left, bottom - top) == pytest.approx(((18 + 20) / 2, 30 / 2))
    points = side_points_px(labelled.item.plane, box.box_xyxy_px, CONFIG.margin_mm)
    for side in Side:
        expected = true_point(Finding(condition=Condition.SUBARTICULAR, side=side, level=Level.L1_L2))
        np.testing.assert_allclose(labelled.item.plane.to_patient(points[side]), expected, atol=1e-9)


def test_a_box_narrower_than_its_margins_gives_its_centre_twice() -> None:
    plane = Plane(origin_mm=(0, 0, 0), row_dir=(1, 0, 0), col_dir=(0, 1, 0), spacing_mm=(1, 1))
    assert set(side_points_px(plane, (10, 10, 16, 20), 10.0).values()) == {(13.0, 15.0)}


def test_slice_gap_ignores_the_jump_between_blocks() -> None:
    assert axial_series(levels=(Level.L1_L2,)).gap_mm == pytest.approx(4.0)
    assert sagittal_series(View.SAGITTAL_T1, series_id="1", step_mm=4.5).gap_mm == pytest.approx(4.5)
