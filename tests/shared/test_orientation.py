"""Upright pictures: the same patient gives the same picture, whatever order its rows and columns were stored in."""

from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from shared.geometry import Plane
from shared.orientation import AS_STORED, Orientation
from shared.study import Slice

SHAPE, SPACING = (40, 56), (1.3, 0.7)
# Columns: where x, y and the normal of an upright picture point in the patient.
SAGITTAL = np.array([[0, 1, 0], [0, 0, -1], [-1, 0, 0]], float).T
AXIAL = np.eye(3)


def upright_plane(frame: np.ndarray) -> Plane:
    return Plane.from_arrays(origin_mm=(-30, 12, 55), row_dir=frame[:, 0], col_dir=frame[:, 1], spacing_mm=SPACING)


def picture(plane: Plane, shape: tuple[int, int]) -> np.ndarray:
    """A picture of the patient: its values depend on the place in mm alone."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    mm = plane.to_patient(np.stack([x.ravel(), y.ravel()], axis=1))
    return np.round(mm @ [3.0, 0.7, 1.9], 6).reshape(shape)


def stored(plane: Plane, turn: Orientation) -> tuple[Plane, tuple[int, int]]:
    """The plane and shape of a file whose picture `turn` would make upright."""
    shape = turn.shape(SHAPE)
    x_dir = np.asarray(plane.row_dir) * (-1 if turn.flipped_x else 1)
    y_dir = np.asarray(plane.col_dir) * (-1 if turn.flipped_y else 1)
    dy, dx = plane.spacing_mm
    # Where the file's first pixel lies in the upright picture.
    corner = turn.to_upright((0.0, 0.0), shape)
    row, column, spacing = (y_dir, x_dir, (dx, dy)) if turn.transposed else (x_dir, y_dir, (dy, dx))
    origin = plane.to_patient(corner)
    return Plane.from_arrays(origin_mm=origin, row_dir=row, col_dir=column, spacing_mm=spacing), shape


TURNS = [Orientation(transposed=t, flipped_x=x, flipped_y=y) for t, x, y in product((False, True), repeat=3)]


@pytest.mark.parametrize("frame", [SAGITTAL, AXIAL], ids=["sagittal", "axial"])
@pytest.mark.parametrize("turn", TURNS, ids=str)
@given(angles=st.tuples(*[st.floats(-25, 25)] * 3))
def test_every_stored_order_gives_one_picture(
    frame: np.ndarray, turn: Orientation, angles: tuple[float, float, float]
) -> None:
    oblique = Rotation.from_euler("xyz", np.array(angles) / 3, degrees=True).as_matrix() @ frame
    wanted = upright_plane(oblique)
    plane, shape = stored(wanted, turn)
    item = Slice(path=Path("1.dcm"), instance_number=1, plane=plane, shape=shape)
    upright = item.upright()
    assert (upright.orientation, upright.shape, upright.stored_shape) == (turn, SHAPE, shape)
    np.testing.assert_allclose(upright.orientation.turn(picture(plane, shape)), picture(wanted, SHAPE), atol=1e-5)
    np.testing.assert_allclose(upright.plane.to_patient((5, 9)), wanted.to_patient((5, 9)), atol=1e-9)
    # A point found in the upright picture is the same place in the file's.
    np.testing.assert_allclose(plane.to_patient(upright.to_stored((5, 9))), wanted.to_patient((5, 9)), atol=1e-9)
    np.testing.assert_allclose(turn.to_upright(turn.to_stored((5, 9), shape), shape), (5, 9))


def test_all_48_orders_of_the_axes_become_upright() -> None:
    """Rows, columns and slices along any patient axis, either way: sagittal and axial ones become one picture each."""
    seen = 0
    for order, signs in product(permutations(range(3)), product((1.0, -1.0), repeat=3)):
        axes = np.eye(3)[list(order)] * np.array(signs)[:, None]
        plane = Plane.from_arrays(origin_mm=(0, 0, 0), row_dir=axes[0], col_dir=axes[1], spacing_mm=(1.0, 2.0))
        seen += 1
        if abs(axes[2][1]) == 1:  # coronal: no view of ours
            continue
        upright = Slice(path=Path("1.dcm"), instance_number=1, plane=plane, shape=(4, 6)).upright()
        wanted = SAGITTAL if abs(axes[2][0]) == 1 else AXIAL
        np.testing.assert_array_equal(upright.plane.row_dir, wanted[:, 0])
        np.testing.assert_array_equal(upright.plane.col_dir, wanted[:, 1])
    assert seen == 48


def test_an_upright_slice_is_left_alone() -> None:
    item = Slice(path=Path("1.dcm"), instance_number=1, plane=upright_plane(SAGITTAL), shape=SHAPE)
    assert item.upright() is item
    assert item.orientation == AS_STORED
