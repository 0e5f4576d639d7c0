from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.geometry import Plane, dominant_axis
from shared.labels import View
from shared.study import Series, Slice, order_slices

# Hand-computed: sagittal image, rows run to posterior (+y), columns run to the feet (-z), 0.5 mm rows, 0.25 mm columns.
SAGITTAL = Plane(origin_mm=(10, -20, 30), row_dir=(0, 1, 0), col_dir=(0, 0, -1), spacing_mm=(0.5, 0.25))


@pytest.mark.parametrize(
    ("pixel", "patient"),
    [((0, 0), (10, -20, 30)), ((4, 0), (10, -19, 30)), ((0, 4), (10, -20, 28)), ((8, 2), (10, -18, 29))],
)
def test_pixel_to_patient_by_hand(pixel: tuple[float, float], patient: tuple[float, float, float]) -> None:
    assert SAGITTAL.to_patient(pixel) == pytest.approx(patient)
    assert SAGITTAL.to_pixel(patient) == pytest.approx(pixel)


def test_normal_distance_and_center() -> None:
    assert SAGITTAL.normal == pytest.approx((-1, 0, 0))  # to the patient's right
    assert SAGITTAL.distance_mm([[13, 5, 5], [10, 0, 0]]) == pytest.approx([-3, 0])
    assert SAGITTAL.center_mm((5, 9)) == pytest.approx((10, -19, 29))
    assert dominant_axis(SAGITTAL) == 0


def rotation(angles: tuple[float, float, float]) -> np.ndarray:
    a, b, c = angles
    rx = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    ry = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    rz = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return rx @ ry @ rz


angle = st.floats(-3, 3)
coordinate = st.floats(-500, 500)
spacing = st.floats(0.1, 5)


@given(
    st.tuples(angle, angle, angle), st.tuples(coordinate, coordinate, coordinate), st.tuples(spacing, spacing),
    st.lists(st.tuples(coordinate, coordinate), min_size=1, max_size=5),
)  # fmt: skip
def test_pixel_patient_round_trip(angles, origin, spacings, points) -> None:  # type: ignore[no-untyped-def]
    turned = rotation(angles)
    plane = Plane.from_arrays(origin_mm=origin, row_dir=turned[0], col_dir=turned[1], spacing_mm=spacings)
    patient = plane.to_patient(points)
    assert patient.shape == (len(points), 3)
    np.testing.assert_allclose(plane.to_pixel(patient), points, atol=1e-6)
    np.testing.assert_allclose(plane.distance_mm(patient), 0, atol=1e-6)


@pytest.mark.parametrize(
    "change",
    [
        {"row_dir": (0, 2, 0)},
        {"col_dir": (1, 0, 0)},
        {"spacing_mm": (0, 1)},
        {"origin_mm": (float("nan"), 0, 0)},
        {"spacing_mm": (1, 1, 1)},
    ],
)
def test_impossible_planes_are_refused(change: dict[str, object]) -> None:
    good = {"origin_mm": (0, 0, 0), "row_dir": (1, 0, 0), "col_dir": (0, 1, 0), "spacing_mm": (1, 1)}
    with pytest.raises(ValueError, match=r"orthonormal|positive|finite"):
        Plane(**(good | change))  # type: ignore[arg-type]


def axial_slice(number: int, z: float, tilt: float = 0.0) -> Slice:
    plane = Plane.from_arrays(
        origin_mm=(-80, -80, z), row_dir=(1, 0, 0), col_dir=(0, np.cos(tilt), np.sin(tilt)), spacing_mm=(1, 1)
    )
    return Slice(path=Path(f"{number}.dcm"), instance_number=number, plane=plane, shape=(160, 160))


def sagittal_slice(number: int, x: float) -> Slice:
    plane = Plane(origin_mm=(x, -100, 100), row_dir=(0, 1, 0), col_dir=(0, 0, -1), spacing_mm=(1, 1))
    return Slice(path=Path(f"{number}.dcm"), instance_number=number, plane=plane, shape=(200, 200))


@given(st.permutations(range(8)))
def test_slice_order_comes_from_positions_not_instance_numbers(numbers: list[int]) -> None:
    axial = order_slices([axial_slice(n, z=-10.0 * i) for i, n in enumerate(numbers)], View.AXIAL_T2)
    assert [s.plane.origin_mm[2] for s in axial] == [-10.0 * i for i in range(8)]  # head to foot
    sagittal = order_slices([sagittal_slice(n, x=4.0 * i) for i, n in enumerate(numbers)], View.SAGITTAL_T1)
    assert [s.plane.origin_mm[0] for s in sagittal] == [4.0 * i for i in range(8)]  # right to left


def test_stacks_of_different_tilt_stay_together() -> None:
    upper = [axial_slice(i, z=50 - 4 * i, tilt=0.1) for i in range(3)]
    lower = [axial_slice(10 + i, z=-50 - 4 * i, tilt=-0.4) for i in range(3)]
    slices = order_slices([*lower, *upper], View.AXIAL_T2)
    series = Series(series_id="1", view=View.AXIAL_T2, slices=slices)
    assert [[s.instance_number for s in stack] for stack in series.stacks] == [[0, 1, 2], [10, 11, 12]]
    assert series.by_instance(11) is lower[1]
    assert series.by_instance(99) is None


def test_a_point_outside_the_image() -> None:
    item = sagittal_slice(1, 0)
    assert item.contains((0, 0))
    assert item.contains((199, 199))
    assert not item.contains((200, 5))
    assert not item.contains((5, -1))
