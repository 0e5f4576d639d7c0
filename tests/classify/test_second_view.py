"""A second view: the same point of the patient in another kind of series, as further channels."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from classify.config import AugmentConfig, CropConfig, PerFamily
from classify.crop_cache import cut_crops
from classify.crops import CropSpec, _slice_at
from classify.network.augment import UNCHANGED, Augmenter, center, standardise
from classify.predict import PredictRequest, predict_studies
from classify.train.request import TrainingResources
from classify.train.run import train
from shared.detections import Localization, Source
from shared.geometry import Plane
from shared.labels import FINDINGS, Condition, Finding, Level, Side, View
from shared.out_of_fold import OutOfFold
from shared.probabilities.files import read_probabilities
from shared.runtime.errors import InputError
from shared.study import Series, Slice, Study, order_slices

SHAPE = (64, 80)
MIDDLE_MM = np.array([3.0, -5.0, 10.0])
ALONG = {
    View.SAGITTAL_T1: ((0.0, 1.0, 0.0), (0.0, 0.0, -1.0)),
    View.SAGITTAL_T2: ((0.0, 1.0, 0.0), (0.0, 0.0, -1.0)),
    View.AXIAL_T2: ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)),
}
BRIGHTNESS = {View.SAGITTAL_T1: 150, View.SAGITTAL_T2: 200, View.AXIAL_T2: 250}
EVEN = PerFamily(canal=1.0, foraminal=1.0, subarticular=1.0)
DOT_MM = MIDDLE_MM + np.array([4.0, 6.0, 4.0])  # left, behind and above: one slice off in either view


def finding(condition: Condition, side: Side | None = None) -> Finding:
    return Finding(condition=condition, side=side, level=Level.L3_L4)


def series(view: View, *, shift_mm: tuple[float, float, float] = (0, 0, 0), name: str = "") -> Series:
    """Five slices, 4 mm apart, 1 mm pixels."""
    row, col = (np.array(v) for v in ALONG[view])
    slices = []
    for k in range(5):
        at = MIDDLE_MM + np.array(shift_mm) + 4.0 * (k - 2) * np.abs(np.cross(row, col))
        origin = at - (SHAPE[1] - 1) / 2 * row - (SHAPE[0] - 1) / 2 * col
        plane = Plane.from_arrays(origin_mm=origin, row_dir=row, col_dir=col, spacing_mm=(1.0, 1.0))
        slices.append(Slice(path=Path(f"{view.slug}{k}.dcm"), instance_number=k + 1, plane=plane, shape=SHAPE))
    return Series(series_id=name or view.slug, view=view, slices=order_slices(slices, view))


def dot(item: Slice) -> np.ndarray:
    """A slice that is black but for the dot, on the slice that it lies in; each view has its own brightness."""
    image = np.zeros(SHAPE, np.uint8)
    if abs(float(item.plane.distance_mm(DOT_MM))) < 2:
        x, y = np.rint(item.plane.to_pixel(DOT_MM)).astype(int)
        image[y - 1 : y + 2, x - 1 : x + 2] = BRIGHTNESS[View.from_slug(item.path.stem[:-1])]
    return image


def cut(of: Finding, *shown: Series, mirror: bool = True, bad: View | None = None) -> tuple[np.ndarray, list[str]]:
    """The crop of a finding at the middle, and what could not be read; slices of the view `bad` cannot."""

    def read(item: Slice) -> np.ndarray:
        if bad is not None and item.path.stem.startswith(bad.slug):
            raise InputError(f"{item.path}: damaged")
        return dot(item)

    study = Study(study_id="1", series=shown)
    own = study.of_view(of.view)[0]
    x, y = own.slices[2].plane.to_pixel(MIDDLE_MM)
    point = Localization(
        study_id="1", finding=of, series_id=own.series_id, instance_number=own.slices[2].instance_number, x_px=float(x),
        y_px=float(y), point_mm=tuple(MIDDLE_MM), source=Source.DETECTED, score=1.0,
    )  # fmt: skip
    config = CropConfig(size_px=33, slices=3, second_view=True, mirror_right=mirror)
    spec = replace(CropSpec.final(config, of), mm_per_px=1.0)
    crops = cut_crops(study, {of: point}, lambda _: spec, read)
    return crops.crops[of], list(crops.problems)


def place(channels: np.ndarray) -> tuple[int, float, float]:
    """Channel of the dot, and how far it lies from the crop's centre (x, y)."""
    channel = int(channels.reshape(len(channels), -1).sum(1).argmax())
    y, x = np.nonzero(channels[channel] > 100)
    return channel, float(x.mean()) - 16, float(y.mean()) - 16


CANAL, LEFT, RIGHT = finding(Condition.CANAL), Side.LEFT, Side.RIGHT
CASES = [  # channel, x, y in the own view and in the second one
    (CANAL, View.AXIAL_T2, True, ((2, 6, -4), (0, 4, 6))),
    (finding(Condition.FORAMINAL, LEFT), View.SAGITTAL_T2, True, ((2, 6, -4), (2, 6, -4))),
    (finding(Condition.FORAMINAL, RIGHT), View.SAGITTAL_T2, True, ((0, 6, -4), (0, 6, -4))),
    (finding(Condition.FORAMINAL, RIGHT), View.SAGITTAL_T2, False, ((2, 6, -4), (2, 6, -4))),
    (finding(Condition.SUBARTICULAR, LEFT), View.SAGITTAL_T2, True, ((0, 4, 6), (2, 6, -4))),
    (finding(Condition.SUBARTICULAR, RIGHT), View.SAGITTAL_T2, True, ((0, -4, 6), (0, 6, -4))),
    (finding(Condition.SUBARTICULAR, RIGHT), View.SAGITTAL_T2, False, ((0, 4, 6), (2, 6, -4))),
]


@pytest.mark.parametrize(("of", "second", "mirror", "expected"), CASES)
def test_both_views_show_the_same_place_the_same_way_round(of, second, mirror, expected):
    channels, problems = cut(of, *map(series, View), mirror=mirror)
    assert (channels.shape, problems) == ((6, 33, 33), [])
    for part, view, (channel, x, y) in zip((channels[:3], channels[3:]), (of.view, second), expected, strict=True):
        assert place(part) == (channel, pytest.approx(x, abs=0.51), pytest.approx(y, abs=0.51))
        assert part.max() == BRIGHTNESS[view]


def test_where_the_view_shows_nothing_of_the_place_it_is_black():
    away = series(View.AXIAL_T2, shift_mm=(0, 0, 14.1))  # its nearest slice lies 6 mm above
    beside = series(View.AXIAL_T2, shift_mm=(60, 0, 0))
    for others in ([], [away], [beside]):
        channels, problems = cut(CANAL, series(View.SAGITTAL_T2), *others)
        assert channels[:3].any()
        assert not channels[3:].any()
        assert problems == []
    assert torch.isfinite(standardise(torch.from_numpy(channels[None]).float() / 255, groups=2)).all()


def test_of_two_series_the_first_that_is_near_enough_is_taken():
    t1 = series(View.SAGITTAL_T1)
    near, nearly, far = (series(View.SAGITTAL_T2, shift_mm=(x, 0, 0), name=f"at {x}") for x in (0.0, 0.9, 1.9))
    left = finding(Condition.FORAMINAL, LEFT)

    def seen(*others: Series) -> int:
        return place(cut(left, t1, *others)[0][3:])[0] if others else -1

    assert _slice_at(Study(study_id="1", series=(nearly, near)), View.SAGITTAL_T2, MIDDLE_MM)[0] is nearly
    assert _slice_at(Study(study_id="1", series=(far, near)), View.SAGITTAL_T2, MIDDLE_MM)[0] is near
    assert seen(near) == 2


@pytest.mark.parametrize("how", ["damaged", "no such plane"])
def test_a_second_view_that_cannot_be_read_leaves_the_first(how):
    axial = series(View.AXIAL_T2)
    if how == "no such plane":  # a sagittal series under an axial name
        axial = replace(series(View.SAGITTAL_T2), view=View.AXIAL_T2, series_id="x")
    channels, problems = cut(CANAL, series(View.SAGITTAL_T2), axial, bad=View.AXIAL_T2 if how == "damaged" else None)
    assert place(channels[:3])[0] == 2
    assert not channels[3:].any()
    assert len(problems) == 1
    assert "Axial T2 left out" in problems[0]


def test_a_mirrored_patient_is_mirrored_in_both_views():
    config = CropConfig(size_px=32, slices=3, margin_px=4, margin_slices=1, second_view=True)
    mirroring = Augmenter(
        crop=config, augment=UNCHANGED.model_copy(update={"mirror_canal": True}), jitter={}, detected_share={}
    )
    rng = np.random.default_rng(0)
    patches = torch.from_numpy(rng.integers(0, 256, (40, 10, 40, 40)).astype(np.uint8))
    draw = mirroring.draw(rng, np.full(40, CANAL.index), np.ones(40, bool))
    out, plain = mirroring.apply(patches, draw), center(patches, config)
    assert plain.shape == (40, 6, 32, 32)
    assert torch.equal(plain[:, 3:], patches[:, 6:9, 4:36, 4:36].float() / 255)
    flipped = torch.from_numpy(draw.mirror)
    assert 0 < flipped.sum() < 40
    assert torch.allclose(out[~flipped], plain[~flipped], atol=1e-4)
    assert torch.allclose(out[flipped, :3], plain[flipped, :3].flip(1), atol=1e-4)
    assert torch.allclose(out[flipped, 3:], plain[flipped, 3:].flip(3), atol=1e-4)


def test_a_displaced_point_moves_both_views_alike():
    """What jitter shows of a point is what the cropper cuts when the point itself lies there."""
    config = CropConfig(size_px=32, slices=1, margin_px=12, margin_slices=1, second_view=True, mm_per_px=EVEN)
    augmenter = Augmenter(crop=config, augment=UNCHANGED, jitter={}, detected_share={})
    # 3 px in x, 4 px in y, and a slice, 4 mm, across. Canal: x to posterior, y to foot, across to left; in axial T2 x
    # to left, y to posterior, across to foot. Subarticular: the other way round.
    for of, moved_px in ((CANAL, (4, 3)), (finding(Condition.SUBARTICULAR, LEFT), (4, 4))):
        second_px, across = augmenter._in_second_view(np.array([of.index]), np.array([[3.0, 4.0]]), np.array([1]))
        assert tuple(second_px[0]) == moved_px
        assert across[0] == 1  # 4 mm to the foot, or 3 mm to the side, is one slice


def test_a_view_that_is_not_there_stays_black_in_training():
    config = CropConfig(size_px=32, slices=3, margin_px=4, margin_slices=1, second_view=True)
    changing = Augmenter(crop=config, augment=AugmentConfig(noise=0.2, brightness=0.5), jitter={}, detected_share={})
    rng = np.random.default_rng(0)
    patches = torch.from_numpy(rng.integers(0, 256, (8, 10, 40, 40)).astype(np.uint8))
    patches[:4, 5:] = 0
    x = standardise(changing.apply(patches, changing.draw(rng, np.full(8, CANAL.index), np.ones(8, bool))), groups=2)
    assert not x[:4, 3:].any()
    assert x[4:, 3:].flatten(1).any(1).all()
    assert x[:, :3].flatten(1).any(1).all()


def test_each_view_is_standardised_by_itself():
    x = torch.rand(4, 6, 8, 8) * torch.tensor([1.0, 1, 1, 9, 9, 9])[None, :, None, None]
    out = standardise(x, groups=2)
    assert torch.allclose(out[:, :3], standardise(x[:, :3]))
    assert torch.allclose(out[:, 3:], standardise(x[:, 3:]))


def test_training_and_prediction_see_the_same_two_views(challenge, tiny_config, one_fold, localizer, tmp_path):
    crop_config = tiny_config.crop.model_copy(update={"second_view": True})
    one_epoch = tiny_config.train.model_copy(update={"epochs": 1})
    config = tiny_config.model_copy(update={"crop": crop_config, "train": one_epoch})
    run = tmp_path / "run"
    run.mkdir()
    train(replace(one_fold, config=config), run, TrainingResources(device="cpu"))
    request = PredictRequest(data=challenge, run=run, points=OutOfFold(localizer), device="cpu")
    table, problems = predict_studies(request.models(), challenge, request.study_ids, request.localizations)
    assert problems == ()
    assert table.submission.shape[1] == len(FINDINGS)
    written = read_probabilities(run / "out_of_fold.csv").select(table.study_ids)
    assert np.allclose(table.submission, written.submission, atol=1e-6)
