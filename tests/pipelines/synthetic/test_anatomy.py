"""Anatomy that models must not find too regular: sides differ, joints are joints, and fields of view vary."""

import numpy as np
import pytest

from pipelines.synthetic.anatomy.patient import Case, draw_case
from pipelines.synthetic.anatomy.spine import FIRST_DISC
from pipelines.synthetic.painting.contrast import Weighting, draw_palette
from pipelines.synthetic.scanner.render import render
from pipelines.synthetic.scanner.stack import Stack, sagittal_stack
from shared.geometry import Plane
from shared.labels import Condition, Finding, Level, View

PATIENTS = 60
OPEN = np.full(25, -1.0)


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return [draw_case(OPEN, 0.0, np.random.default_rng([8, n])) for n in range(PATIENTS)]


def test_all_five_discs_are_in_the_sagittal_field(cases: list[Case]) -> None:
    """12 mm above L1/L2 and below L5/S1 at least; L3/L4 near .54 of the height, as annotated in the challenge."""
    middle = []
    for n, case in enumerate(cases):
        stack = sagittal_stack(case.spine, np.random.default_rng([9, n]), "demo")
        rows = stack.shape[0]
        plane = stack.planes[len(stack.planes) // 2]
        margin = 12.0 / plane.spacing_mm[0]
        for level in Level:
            depth = float(case.spine.segments.depth[FIRST_DISC + level])
            center = case.spine.to_patient(case.spine.segments.level_s(level), 0.0, -depth / 2)
            row = float(plane.to_pixel(center)[1])
            assert margin - 0.6 < row < rows - margin + 0.6
            if level is Level.L3_L4:
                middle.append(row / rows)
    assert np.median(middle) == pytest.approx(0.54, abs=0.04)
    assert np.std(middle) > 0.05


def test_canal_points_lie_where_the_challenges_do() -> None:
    """Medians of the challenge's annotated points in shares of width and height: the numbering is learnt from them."""
    places = np.empty((200, len(Level), 2))
    for n in range(len(places)):
        case = draw_case(OPEN, 0.0, np.random.default_rng([10, n]))
        stack = sagittal_stack(case.spine, np.random.default_rng([11, n]), "demo")
        plane = stack.planes[len(stack.planes) // 2]
        for level in Level:
            point = case.point_mm(Finding(condition=Condition.CANAL, side=None, level=level))
            places[n, level] = plane.to_pixel(point) / np.array(stack.shape[::-1])
    x, y = np.median(places, axis=0).T
    np.testing.assert_allclose(x, (0.57, 0.55, 0.53, 0.54, 0.57), atol=0.02)
    np.testing.assert_allclose(y, (0.30, 0.42, 0.54, 0.65, 0.74), atol=0.03)
    # Gaps vary less than the field's place does.
    np.testing.assert_allclose(np.median(np.diff(places[..., 1]), axis=0), (0.12, 0.12, 0.11, 0.09), atol=0.012)


def test_left_and_right_differ_a_little(cases: list[Case]) -> None:
    size = np.stack([c.patient.facet_size for c in cases])
    turn = np.stack([c.patient.facet_deg for c in cases])
    lamina = np.stack([c.patient.lamina_mm for c in cases])
    assert 0.03 < np.abs(size[:, 0] - size[:, 1]).mean() < 0.2
    assert 3 < np.abs(turn[:, 0] - turn[:, 1]).mean() < 10
    assert 0.1 < np.abs(lamina[:, 0] - lamina[:, 1]).mean() < 0.6
    psoas = np.array([c.build.psoas for c in cases])
    muscle = np.array([c.build.back_muscle for c in cases])
    assert (psoas[:, 0] != psoas[:, 1]).all()
    assert (muscle[:, 0] != muscle[:, 1]).all()
    assert 0.5 < np.std([c.patient.spinous_aside_mm for c in cases]) < 4


def test_a_facet_joint_is_bright_between_dark_surfaces(cases: list[Case]) -> None:
    """Along the joint's normal: cortex, cartilage, cortex."""
    for case in cases[:3]:
        spine, profiles = case.spine, case.profiles
        s = spine.segments.level_s(Level.L3_L4)
        i = int(np.argmin(np.abs(spine.s - s)))
        cos, sin = float(profiles["facet_cos"][0, i]), float(profiles["facet_sin"][0, i])
        grown = float(profiles["recess"][0, i] * profiles["at_disc"][i])
        middle = spine.to_patient(s, 15.8 - 0.9 * grown + 1.3 * sin, 15.0 - 0.8 * grown - 1.3 * cos)
        tilt = spine.heading_rad(s)
        back = np.array([0.0, np.cos(tilt), -np.sin(tilt)])
        left = np.array([1.0, 0.0, 0.0])
        row_dir, col_dir = left * sin - back * cos, left * cos + back * sin
        plane = Plane.from_arrays(
            origin_mm=middle - 5 * row_dir - 0.5 * col_dir, row_dir=row_dir, col_dir=col_dir, spacing_mm=(0.5, 0.5)
        )
        stack = Stack(view=View.AXIAL_T2, planes=(plane,), shape=(4, 21), thickness_mm=1.0, gap_mm=1.0)
        rng = np.random.default_rng(0)
        (image,) = render(stack, case, draw_palette(rng, (Weighting.T2,), case.patient.age), rng)[0]
        profile = image.mean(axis=0)
        peak = profile[8:13].max()
        assert profile[4:10].min() < 0.6 * peak
        assert profile[11:17].min() < 0.6 * peak
