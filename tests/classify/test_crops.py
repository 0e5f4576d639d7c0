"""The cropper against hand-computed positions: mm in, pixels out, whatever the storage order."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classify.crops import CropSpec, canonical_axes, channel_slices, crop
from shared.detections import Localization, Source
from shared.geometry import Plane
from shared.labels import Condition, Finding, Level, Side, View
from shared.runtime.errors import InputError
from shared.study import Series, Slice, Study, order_slices

SPEC = CropSpec(size_px=41, slices=3, mm_per_px=1.0)
CENTER = 20
SHAPE = (96, 80)
CENTER_MM = np.array([3.0, -5.0, 10.0])

CANAL = Finding(condition=Condition.CANAL, side=None, level=Level.L3_L4)
FORAMEN = {s: Finding(condition=Condition.FORAMINAL, side=s, level=Level.L3_L4) for s in Side}
RECESS = {s: Finding(condition=Condition.SUBARTICULAR, side=s, level=Level.L3_L4) for s in Side}

SAGITTAL = ((0.0, 1.0, 0.0), (0.0, 0.0, -1.0))
AXIAL = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))


def flipped(axes: tuple, row_sign: float, col_sign: float, *, swap: bool) -> tuple:
    row, col = (tuple(sign * v for v in axis) for sign, axis in zip((row_sign, col_sign), axes, strict=True))
    return (col, row) if swap else (row, col)


def build(
    view: View, axes: tuple, dot_mm: np.ndarray, *, spacing_mm: float = 1.0, step_mm: float = 4.0, count: int = 5
):
    """A study of one series whose slices are black but for a 3 x 3 dot at a patient position; and its slice reader."""
    normal = np.array([1.0, 0, 0]) if view.is_sagittal else np.array([0, 0, 1.0])
    slices, images = [], {}
    for k in range(count):
        center = CENTER_MM + np.array([k - count // 2]) * step_mm * normal
        rows, cols = SHAPE
        origin = center - spacing_mm * ((cols - 1) / 2 * np.array(axes[0]) + (rows - 1) / 2 * np.array(axes[1]))
        plane = Plane.from_arrays(
            origin_mm=origin, row_dir=axes[0], col_dir=axes[1], spacing_mm=(spacing_mm, spacing_mm)
        )
        image = np.zeros(SHAPE, np.uint8)
        if abs(plane.distance_mm(dot_mm)) < step_mm / 2:
            x, y = np.rint(plane.to_pixel(dot_mm)).astype(int)
            image[y - 1 : y + 2, x - 1 : x + 2] = 255
        path = Path(f"{k}.dcm")
        images[path] = image
        slices.append(Slice(path=path, instance_number=k + 1, plane=plane, shape=SHAPE))
    series = Series(series_id="9", view=view, slices=order_slices(slices, view))
    return Study(study_id="1", series=(series,)), lambda item: images[item.path]


def localize(study: Study, finding: Finding, point_mm: np.ndarray = CENTER_MM) -> Localization:
    series = study.series[0]
    nearest = min(series.slices, key=lambda s: abs(float(s.plane.distance_mm(point_mm))))
    x, y = nearest.plane.to_pixel(point_mm)
    return Localization(
        study_id="1", finding=finding, series_id="9", instance_number=nearest.instance_number, x_px=float(x),
        y_px=float(y), point_mm=tuple(point_mm), source=Source.ANNOTATED, score=1.0,
    )  # fmt: skip


def brightest(crops: np.ndarray) -> tuple[int, float, float]:
    """Channel and centre (x, y) of the dot."""
    channel = int(crops.reshape(len(crops), -1).sum(1).argmax())
    y, x = np.nonzero(crops[channel] > 100)
    return channel, float(x.mean()), float(y.mean())


# offset of the dot from the point (LPS mm) -> channel, x, y in the crop
CASES = [
    (CANAL, SAGITTAL, (0, 7, 0), (1, CENTER + 7, CENTER)),  # posterior is to the right
    (CANAL, SAGITTAL, (0, 0, -9), (1, CENTER, CENTER + 9)),  # foot is down
    (CANAL, SAGITTAL, (4, 0, 0), (2, CENTER, CENTER)),  # patient left comes last
    (FORAMEN[Side.LEFT], SAGITTAL, (4, 5, 0), (2, CENTER + 5, CENTER)),  # lateral comes last
    (FORAMEN[Side.RIGHT], SAGITTAL, (-4, 5, 0), (2, CENTER + 5, CENTER)),  # on the other side, too
    (RECESS[Side.LEFT], AXIAL, (8, 3, 0), (1, CENTER + 8, CENTER + 3)),  # lateral is to the right
    (RECESS[Side.RIGHT], AXIAL, (-8, 3, 0), (1, CENTER + 8, CENTER + 3)),
    (RECESS[Side.LEFT], AXIAL, (0, 0, 4), (0, CENTER, CENTER)),  # head comes first
    (RECESS[Side.RIGHT], AXIAL, (0, 0, -4), (2, CENTER, CENTER)),
]


@pytest.mark.parametrize(("finding", "axes", "offset_mm", "expected"), CASES)
@pytest.mark.parametrize("row_sign", [1.0, -1.0])
@pytest.mark.parametrize("col_sign", [1.0, -1.0])
@pytest.mark.parametrize("swap", [False, True])
def test_dot_lands_where_it_should_in_every_storage_order(finding, axes, offset_mm, expected, row_sign, col_sign, swap):
    study, read = build(finding.view, flipped(axes, row_sign, col_sign, swap=swap), CENTER_MM + offset_mm)
    channel, x, y = brightest(crop(study, localize(study, finding), SPEC, read))
    assert channel == expected[0]
    assert (x, y) == pytest.approx(expected[1:], abs=0.51)  # the dot was drawn at a whole pixel


@pytest.mark.parametrize("spacing_mm", [0.5, 1.0, 1.7])
def test_mm_are_kept_whatever_the_pixel_spacing(spacing_mm):
    study, read = build(View.SAGITTAL_T2, SAGITTAL, CENTER_MM + np.array([0, 10, -6]), spacing_mm=spacing_mm)
    _, x, y = brightest(crop(study, localize(study, CANAL), SPEC, read))
    assert (x, y) == pytest.approx((CENTER + 10, CENTER + 6), abs=0.6 * spacing_mm + 0.3)


@settings(max_examples=30, deadline=None)
@given(
    x=st.floats(-10, 10), y=st.floats(-10, 10), side=st.sampled_from(list(Side)),
    tilt=st.floats(-0.4, 0.4),
)  # fmt: skip
def test_a_right_side_is_the_mirror_image_of_a_left_one(x, y, side, tilt):
    """Mirroring patient and side together gives the same crop."""

    def cut(sign: float, of: Side) -> np.ndarray:
        tilted = ((sign * 1.0, 0.0, 0.0), (0.0, float(np.cos(tilt)), float(np.sin(tilt))))
        center = CENTER_MM * (sign, 1, 1)
        rng = np.random.default_rng(0)
        image = rng.integers(0, 255, SHAPE).astype(np.uint8)
        origin = center - (SHAPE[1] - 1) / 2 * np.array(tilted[0]) - (SHAPE[0] - 1) / 2 * np.array(tilted[1])
        plane = Plane.from_arrays(origin_mm=origin, row_dir=tilted[0], col_dir=tilted[1], spacing_mm=(1.0, 1.0))
        item = Slice(path=Path("0.dcm"), instance_number=1, plane=plane, shape=SHAPE)
        study = Study(study_id="1", series=(Series(series_id="9", view=View.AXIAL_T2, slices=(item,)),))
        point = plane.to_patient([(SHAPE[1] - 1) / 2 + x, (SHAPE[0] - 1) / 2 + y])
        return crop(study, localize(study, RECESS[of], point), SPEC, lambda _: image)

    assert np.array_equal(cut(1.0, side), cut(-1.0, side.opposite))


@pytest.mark.parametrize("side", list(Side))
def test_without_mirroring_both_sides_are_seen_as_they_lie(side):
    plain = replace(SPEC, mirror=False)
    study, read = build(View.AXIAL_T2, AXIAL, CENTER_MM + np.array([8, 3, 0]))
    assert brightest(crop(study, localize(study, RECESS[side]), plain, read)) == pytest.approx((1, 28, 23), abs=0.51)
    study, read = build(View.SAGITTAL_T1, SAGITTAL, CENTER_MM + np.array([4, 5, 0]))
    assert brightest(crop(study, localize(study, FORAMEN[side]), plain, read)) == pytest.approx((2, 25, 20), abs=0.51)


def test_stack_ends_are_repeated_and_outside_is_black():
    study, read = build(View.SAGITTAL_T2, SAGITTAL, CENTER_MM)
    end = localize(study, CANAL, CENTER_MM + np.array([8, 0, 0]))
    numbers = [s.instance_number for s in channel_slices(study.series[0], end.instance_number, 5, CANAL.view)]
    assert numbers == [3, 4, 5, 5, 5]
    corner = localize(study, CANAL, CENTER_MM + np.array([0, 300, 0]))
    assert not crop(study, corner, SPEC, read).any()


def test_a_position_stored_twice_counts_once():
    study, _ = build(View.SAGITTAL_T2, SAGITTAL, CENTER_MM)
    series = study.series[0]
    twin = Slice(path=Path("t.dcm"), instance_number=99, plane=series.slices[1].plane, shape=SHAPE)
    doubled = Series(series_id="9", view=series.view, slices=order_slices([*series.slices, twin], series.view))
    numbers = [
        s.instance_number for s in channel_slices(doubled, localize(study, CANAL).instance_number, 5, CANAL.view)
    ]
    assert numbers == [1, 2, 3, 4, 5]


def test_neighbours_come_from_the_same_block():
    """Two axial blocks of one tilt, 24 mm apart: the last slice of the upper one has no neighbour below."""
    upper, _ = build(View.AXIAL_T2, AXIAL, CENTER_MM)  # numbered from foot to head, 1 at z 2 mm to 5 at z 18 mm
    lower, _ = build(View.AXIAL_T2, AXIAL, CENTER_MM)
    below = [
        replace(s, instance_number=s.instance_number + 10, plane=replace(s.plane, origin_mm=tuple(
            np.asarray(s.plane.origin_mm) - [0, 0, 40]))) for s in lower.series[0].slices
    ]  # fmt: skip
    both = order_slices([*upper.series[0].slices, *below], View.AXIAL_T2)
    study = Study(study_id="1", series=(Series(series_id="9", view=View.AXIAL_T2, slices=both),))
    assert len(study.series[0].stacks) == 1

    def numbers(z_mm: float) -> list[int]:
        point = localize(study, RECESS[Side.LEFT], CENTER_MM + np.array([0, 0, z_mm]))
        return [s.instance_number for s in channel_slices(study.series[0], point.instance_number, 5, View.AXIAL_T2)]

    assert numbers(-8) == [3, 2, 1, 1, 1]
    assert numbers(-32) == [15, 15, 15, 14, 13]
    assert numbers(0) == [5, 4, 3, 2, 1]


def test_coarse_crops_are_low_passed():
    """A pixel checkerboard becomes grey, not a pattern."""
    study, _ = build(View.SAGITTAL_T2, SAGITTAL, CENTER_MM)
    board = (np.indices(SHAPE).sum(0) % 2 * 255).astype(np.uint8)
    coarse = crop(study, localize(study, CANAL), CropSpec(size_px=11, slices=1, mm_per_px=3.0), lambda _: board)
    assert coarse.std() < 25
    assert coarse.mean() == pytest.approx(127, abs=10)


def test_foreign_localizations_and_planes_are_named():
    study, read = build(View.SAGITTAL_T2, SAGITTAL, CENTER_MM)
    good = localize(study, CANAL)
    for change in ({"series_id": "8"}, {"instance_number": 77}):
        fields = {name: getattr(good, name) for name in Localization.__slots__} | change
        with pytest.raises(InputError, match="belong to other data"):
            crop(study, Localization(**fields), SPEC, read)
    with pytest.raises(InputError, match="is no Axial T2 plane"):
        canonical_axes(study.series[0].slices[0].plane, View.AXIAL_T2)
