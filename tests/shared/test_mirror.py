"""Mirrored axial series are seen where they cut the sagittal ones."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import rankdata

from shared.data.challenge import Challenge
from shared.dicom.pixels import slice_pixels
from shared.geometry import Plane
from shared.labels import View
from shared.mirror.correct import OrientedStudy, as_shown, corrected, fit_study, with_moved
from shared.mirror.fit import Fit, Pictures, _ranks, fit_series
from shared.study import Series, Slice, Study


@pytest.fixture
def study(few_studies: Path, tmp_path: Path) -> Study:
    data = Challenge.open(Path(shutil.copytree(few_studies / "data", tmp_path / "data")))
    return data.load_study(data.study_ids[0]).study


def _mirror_pixels(study: Study) -> None:
    for item in study.of_view(View.AXIAL_T2)[0].slices:
        dataset = pydicom.dcmread(item.path)
        pixels = np.ascontiguousarray(dataset.pixel_array[:, ::-1])
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        dataset.PixelData = pixels.tobytes()
        dataset.save_as(item.path)


def test_a_sound_study_stays_as_it_is(study: Study) -> None:
    assert corrected(study) == OrientedStudy(given=study, study=study)


def test_a_mirrored_series_gets_the_plane_of_what_it_shows(study: Study) -> None:
    _mirror_pixels(study)
    axial = study.of_view(View.AXIAL_T2)[0]
    shown = corrected(study)
    assert shown.turned == (axial.series_id,)
    for old, new in zip(axial.slices, shown.study.of_view(View.AXIAL_T2)[0].slices, strict=True):
        first, last = new.plane.to_patient((0, 3)), old.plane.to_patient((old.shape[1] - 1, 3))
        assert first == pytest.approx(last)
        assert new.plane.to_patient((old.shape[1] - 1, 3)) == pytest.approx(old.plane.to_patient((0, 3)))
    assert shown.study.of_view(View.SAGITTAL_T2) == study.of_view(View.SAGITTAL_T2)


def test_without_sagittal_slices_nothing_is_known(study: Study) -> None:
    _mirror_pixels(study)
    alone = Study(study_id=study.study_id, series=study.of_view(View.AXIAL_T2))
    assert corrected(alone).study is alone


@pytest.mark.parametrize("shift_mm", [12.0, -14.0])
def test_a_displaced_axial_series_is_moved_back(study: Study, shift_mm: float) -> None:
    axial = study.of_view(View.AXIAL_T2)[0]
    displaced = with_moved(study, {axial.series_id: -shift_mm})
    shown = corrected(displaced)
    assert shown.moved[axial.series_id] == pytest.approx(shift_mm, abs=4)
    side = "left" if shift_mm > 0 else "right"
    assert f"to the patient's {side}" in shown.problems[0]
    back = shown.study.of_view(View.AXIAL_T2)[0].slices[0].plane.origin_mm
    assert back == pytest.approx(axial.slices[0].plane.origin_mm, abs=4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Blobs:
    """A body of soft round blobs. centers_mm: # [n, 3], values: # [n]"""

    centers_mm: NDArray[np.float64]
    values: NDArray[np.float64]

    @classmethod
    def draw(cls, *, symmetric: bool = False) -> Self:
        rng = np.random.default_rng(3)
        centers = rng.uniform((-45, -60, -70), (45, 60, 70), (500, 3))
        values = rng.normal(0, 1, 500)
        if symmetric:
            centers, values = np.concatenate([centers, centers * (-1, 1, 1)]), np.tile(values, 2)
        return cls(centers_mm=centers, values=values)

    def seen(self, plane: Plane) -> tuple[Slice, NDArray[np.uint8]]:
        # A blob's value at a distance is the product of one factor for each axis of the plane.
        across = self.values * _soft(plane.distance_mm(self.centers_mm))
        from_blob = np.arange(_PIXELS)[:, None, None] - plane.to_pixel(self.centers_mm)
        rows, columns = _soft(from_blob[..., 1] * _PIXEL_MM), _soft(from_blob[..., 0] * _PIXEL_MM)
        values = 128 + 60 * (across * rows) @ columns.T
        item = Slice(path=Path("none"), instance_number=1, plane=plane, shape=(_PIXELS, _PIXELS))
        return item, np.clip(values, 0, 255).astype(np.uint8)

    def axial(self, *, moved_mm: float = 0.0, count: int = 6) -> Pictures:
        """Axial slices; between them and the sagittal ones the patient moved to the left."""
        shown = []
        for z in np.linspace(-50, 50, count):
            corner = (-_PIXELS + 1 - moved_mm, -_PIXELS + 1, z)
            item, picture = self.seen(_plane(corner, (1, 0, 0), (0, 1, 0)))
            where = _plane((-_PIXELS + 1, -_PIXELS + 1, z), (1, 0, 0), (0, 1, 0))
            shown.append((replace(item, plane=where), picture))
        return shown

    def sagittal(self) -> Pictures:
        corner = (-_PIXELS + 1, _PIXELS - 1)
        return [self.seen(_plane((x, *corner), (0, 1, 0), (0, 0, -1))) for x in np.linspace(-24, 24, 7)]


_PIXELS, _PIXEL_MM = 64, 2.0


def _soft(distance_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.exp(-((distance_mm / 8.5) ** 2))


def _plane(origin: tuple[float, ...], row: tuple[float, ...], column: tuple[float, ...]) -> Plane:
    return Plane.from_arrays(origin_mm=origin, row_dir=row, col_dir=column, spacing_mm=(_PIXEL_MM, _PIXEL_MM))


def _changed(pictures: Pictures, change: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]) -> Pictures:
    return [(item, np.ascontiguousarray(change(picture))) for item, picture in pictures]


def _mirrored(pictures: Pictures) -> Pictures:
    return _changed(pictures, lambda p: p[:, ::-1])


def _verdict(fit: Fit) -> tuple[bool, bool, bool]:
    return fit.is_surely_direct, fit.is_mirrored, fit.is_surely_mirrored


DIRECT, UNKNOWN, MIRRORED = (True, False, False), (False, False, False), (False, True, True)


@pytest.mark.parametrize("moved_mm", [0.0, 8.0, -8.0])
@pytest.mark.parametrize("contrast", ["alike", "dark is bright", "both ends are bright"])
def test_neither_another_contrast_nor_a_patient_who_moved_hides_the_sides(moved_mm: float, contrast: str) -> None:
    change = {
        "alike": lambda p: p,
        "dark is bright": lambda p: 255 - p,
        "both ends are bright": lambda p: (2 * np.abs(p.astype(float) - 110)).clip(0, 255).astype(np.uint8),
    }[contrast]
    body = Blobs.draw()
    axial, sagittal = body.axial(moved_mm=moved_mm), _changed(body.sagittal(), change)
    assert _verdict(fit_series(axial, sagittal)) == DIRECT
    assert _verdict(fit_series(_mirrored(axial), sagittal)) == MIRRORED


@pytest.mark.parametrize("moved_mm", [0.0, 8.0])
def test_a_symmetric_patient_has_no_sides_wherever_he_lies(moved_mm: float) -> None:
    body = Blobs.draw(symmetric=True)
    axial, sagittal = body.axial(moved_mm=moved_mm), body.sagittal()
    for pictures in (axial, _mirrored(axial)):
        assert _verdict(fit_series(pictures, sagittal)) == UNKNOWN


def test_shading_from_side_to_side_is_no_evidence() -> None:
    shade = np.linspace(0.3, 1, _PIXELS)
    axial = _changed(Blobs.draw(symmetric=True).axial(), lambda p: (p * shade).astype(np.uint8))
    assert _verdict(fit_series(_mirrored(axial), Blobs.draw(symmetric=True).sagittal())) == UNKNOWN


def test_a_second_contrast_tells_where_the_first_does_not() -> None:
    noise = np.random.default_rng(1)
    body = Blobs.draw()
    axial, sagittal = _mirrored(body.axial()), body.sagittal()
    empty = _changed(sagittal, lambda p: noise.integers(0, 255, p.shape).astype(np.uint8))
    assert _verdict(fit_series(axial, empty)) == UNKNOWN
    assert _verdict(fit_series(axial, empty, sagittal)) == MIRRORED


def test_small_pixels_change_nothing() -> None:
    def fine(pictures: Pictures) -> Pictures:
        def plane(old: Plane) -> Plane:
            return replace(old, origin_mm=tuple(old.to_patient((-0.375, -0.375))), spacing_mm=(0.5, 0.5))

        shape = (4 * _PIXELS, 4 * _PIXELS)
        return [(replace(s, plane=plane(s.plane), shape=shape), p.repeat(4, 0).repeat(4, 1)) for s, p in pictures]

    body = Blobs.draw()
    assert _verdict(fit_series(fine(body.axial()), fine(body.sagittal()))) == DIRECT
    assert _verdict(fit_series(_mirrored(fine(body.axial())), fine(body.sagittal()))) == MIRRORED


def test_too_few_slices_tell_nothing() -> None:
    body = Blobs.draw()
    fit = fit_series(_mirrored(body.axial(count=4)), body.sagittal())
    assert len(fit.mirrored) == 4
    assert _verdict(fit) == UNKNOWN
    assert _verdict(fit_series((), body.sagittal())) == UNKNOWN


def test_slices_of_another_region_are_not_compared() -> None:
    body = Blobs.draw()
    far = [(replace(s, plane=replace(s.plane, origin_mm=(0, 0, 900))), p) for s, p in body.sagittal()]
    assert not len(fit_series(body.axial(), far).direct)


def test_fewer_slices_must_differ_by_more() -> None:
    def fit(count: int, gain: float) -> Fit:
        return Fit(direct=np.full(count, 0.4), mirrored=np.full(count, 0.4 + gain))

    assert fit(12, 0.05).is_surely_mirrored
    assert not fit(6, 0.05).is_surely_mirrored
    assert fit(6, 0.05).is_mirrored
    assert not fit(12, -0.05).is_mirrored


def test_t1_is_read_where_t2_leaves_a_doubt(study: Study) -> None:
    read: list[View] = []

    def pictures(series: Series) -> Pictures:
        read.append(series.view)
        return [(s, slice_pixels(s)) for s in series.slices[::2]]

    (axial,) = study.of_view(View.AXIAL_T2)
    assert fit_study(study, axial, pictures).is_surely_direct
    assert View.SAGITTAL_T1 not in read
    _mirror_pixels(study)
    assert fit_study(study, axial, pictures).is_surely_mirrored
    assert View.SAGITTAL_T1 in read


def box_series(series_id: str, view: View, origin_mm: tuple[float, float, float]) -> Series:
    """Six slices of 100 x 100 mm, 4 mm apart, whose first corner is at `origin_mm`."""
    row, col, step = ((0, 1, 0), (0, 0, -1), (4, 0, 0)) if view.is_sagittal else ((1, 0, 0), (0, 1, 0), (0, 0, -4))
    slices = tuple(
        Slice(
            path=Path(f"{series_id}-{k}"), instance_number=k, shape=(101, 101),
            plane=Plane.from_arrays(
                origin_mm=np.array(origin_mm) + k * np.array(step), row_dir=row, col_dir=col, spacing_mm=(1, 1)
            ),
        )
        for k in range(6)
    )  # fmt: skip
    return Series(series_id=series_id, view=view, slices=slices)


def test_a_series_that_lies_apart_from_all_others_is_left_out_and_named() -> None:
    t1, axial = box_series("1", View.SAGITTAL_T1, (0, 0, 0)), box_series("3", View.AXIAL_T2, (-50, 0, -40))
    near, far = box_series("2", View.SAGITTAL_T2, (2, 5, -3)), box_series("2", View.SAGITTAL_T2, (300, 50, -80))
    sound = Study(study_id="1", series=(t1, near, axial))
    assert as_shown(sound, look=False).study == sound
    shown = as_shown(replace(sound, series=(t1, far, axial)), look=False)
    assert [s.series_id for s in shown.study.series] == ["1", "3"]
    (problem,) = shown.problems
    assert "study 1 series 2: lies 251 mm away" in problem  # 250 mm to the left of the axial box and 20 mm below it
    # Of two series nobody can tell which one is wrong.
    two = Study(study_id="1", series=(t1, far))
    assert as_shown(two, look=False).study == two


@given(st.lists(st.integers(0, 9), min_size=1, max_size=60))
def test_ranks_are_those_of_scipy(values: list[int]) -> None:
    assert np.array_equal(_ranks(np.array(values, np.float32)), rankdata(values))
