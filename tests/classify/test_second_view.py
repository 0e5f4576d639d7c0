"""A second view: the same point of the patient in another kind of series, as further channels."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from classify.augment import UNCHANGED, Augmenter, center, standardise
from classify.config import CropConfig
from classify.crops import CropSpec, crop
from classify.predict import predict_out_of_fold
from classify.train import train
from shared.annotations import annotated_localizations
from shared.detections import Localization, Source
from shared.geometry import Plane
from shared.labels import FINDINGS, Condition, Finding, Level, Side, View
from shared.probabilities import read_probabilities
from shared.study import Series, Slice, Study, order_slices

SHAPE = (64, 80)
MIDDLE_MM = np.array([3.0, -5.0, 10.0])
ALONG = {
    View.SAGITTAL_T1: ((0.0, 1.0, 0.0), (0.0, 0.0, -1.0)),
    View.SAGITTAL_T2: ((0.0, 1.0, 0.0), (0.0, 0.0, -1.0)),
    View.AXIAL_T2: ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)),
}
DOT_MM = MIDDLE_MM + np.array([4.0, 6.0, 4.0])  # left, behind and above: one slice off in either view


def finding(condition: Condition, side: Side | None = None) -> Finding:
    return Finding(condition=condition, side=side, level=Level.L3_L4)


def series(view: View) -> Series:
    """Five slices, 4 mm apart, 1 mm pixels."""
    row, col = (np.array(v) for v in ALONG[view])
    slices = []
    for k in range(5):
        at = MIDDLE_MM + 4.0 * (k - 2) * np.abs(np.cross(row, col))
        origin = at - (SHAPE[1] - 1) / 2 * row - (SHAPE[0] - 1) / 2 * col
        plane = Plane.from_arrays(origin_mm=origin, row_dir=row, col_dir=col, spacing_mm=(1.0, 1.0))
        slices.append(Slice(path=Path(f"{view.slug}{k}.dcm"), instance_number=k + 1, plane=plane, shape=SHAPE))
    return Series(series_id=view.slug, view=view, slices=order_slices(slices, view))


def dot(item: Slice) -> np.ndarray:
    """A slice that is black but for the dot, on the slice that it lies in."""
    image = np.zeros(SHAPE, np.uint8)
    if abs(float(item.plane.distance_mm(DOT_MM))) < 2:
        x, y = np.rint(item.plane.to_pixel(DOT_MM)).astype(int)
        image[y - 1 : y + 2, x - 1 : x + 2] = 255
    return image


def cut(of: Finding, *views: View, mirror: bool = True) -> np.ndarray:
    study = Study(study_id="1", series=tuple(series(v) for v in views))
    own = study.of_view(of.view)[0]
    x, y = own.slices[2].plane.to_pixel(MIDDLE_MM)
    point = Localization(
        study_id="1", finding=of, series_id=own.series_id, instance_number=own.slices[2].instance_number, x_px=float(x),
        y_px=float(y), point_mm=tuple(MIDDLE_MM), source=Source.DETECTED, score=1.0,
    )  # fmt: skip
    config = CropConfig(size_px=33, slices=3, second_view=True, mirror_right=mirror)
    spec = replace(CropSpec.final(config, of), mm_per_px=1.0)
    return crop(study, point, spec, dot)


def place(channels: np.ndarray) -> tuple[int, float, float]:
    """Channel of the dot, and how far it lies from the crop's centre (x, y)."""
    channel = int(channels.reshape(len(channels), -1).sum(1).argmax())
    y, x = np.nonzero(channels[channel] > 100)
    return channel, float(x.mean()) - 16, float(y.mean()) - 16


@pytest.mark.parametrize(
    ("of", "second", "expected"),
    [
        (finding(Condition.CANAL), View.AXIAL_T2, ((2, 6, -4), (0, 4, 6))),
        (finding(Condition.FORAMINAL, Side.LEFT), View.SAGITTAL_T2, ((2, 6, -4), (2, 6, -4))),
        (finding(Condition.FORAMINAL, Side.RIGHT), View.SAGITTAL_T2, ((0, 6, -4), (0, 6, -4))),
        (finding(Condition.SUBARTICULAR, Side.LEFT), View.SAGITTAL_T2, ((0, 4, 6), (2, 6, -4))),
        (finding(Condition.SUBARTICULAR, Side.RIGHT), View.SAGITTAL_T2, ((0, -4, 6), (0, 6, -4))),
    ],
)
def test_both_views_show_the_same_place_the_same_way_round(of, second, expected):
    channels = cut(of, *View)
    assert channels.shape == (6, 33, 33)
    for part, (channel, x, y) in zip((channels[:3], channels[3:]), expected, strict=True):
        assert place(part) == (channel, pytest.approx(x, abs=0.51), pytest.approx(y, abs=0.51))
    # The second view is never the first one's own series.
    assert second is not of.view


def test_a_study_without_the_view_shows_black():
    channels = cut(finding(Condition.CANAL), View.SAGITTAL_T2)
    assert channels[:3].any()
    assert not channels[3:].any()
    assert torch.isfinite(standardise(torch.from_numpy(channels[None]).float() / 255, views=2)).all()


def test_a_mirrored_patient_is_mirrored_in_both_views():
    config = CropConfig(size_px=32, slices=3, margin_px=4, margin_slices=1, second_view=True)
    mirroring = Augmenter(
        crop=config, augment=UNCHANGED.model_copy(update={"mirror_canal": True}), jitter={}, detected_share=0.0
    )
    rng = np.random.default_rng(0)
    patches = torch.from_numpy(rng.integers(0, 256, (40, 10, 40, 40)).astype(np.uint8))
    canal = finding(Condition.CANAL).index
    draw = mirroring.draw(rng, np.full(40, canal), np.ones(40, bool))
    out, plain = mirroring.apply(patches, draw), center(patches, config)
    assert plain.shape == (40, 6, 32, 32)
    assert torch.equal(plain[:, 3:], patches[:, 6:9, 4:36, 4:36].float() / 255)
    flipped = torch.from_numpy(draw.mirror)
    assert 0 < flipped.sum() < 40
    assert torch.allclose(out[~flipped], plain[~flipped], atol=1e-4)
    assert torch.allclose(out[flipped, :3], plain[flipped, :3].flip(1), atol=1e-4)
    assert torch.allclose(out[flipped, 3:], plain[flipped, 3:].flip(3), atol=1e-4)


def test_each_view_is_standardised_by_itself():
    x = torch.rand(4, 6, 8, 8) * torch.tensor([1.0, 1, 1, 9, 9, 9])[None, :, None, None]
    out = standardise(x, views=2)
    assert torch.allclose(out[:, :3], standardise(x[:, :3]))
    assert torch.allclose(out[:, 3:], standardise(x[:, 3:]))


def test_training_and_prediction_see_the_same_two_views(challenge, tiny_config, splits, tmp_path):
    crop_config = tiny_config.crop.model_copy(update={"second_view": True})
    one_epoch = tiny_config.train.model_copy(update={"epochs": 1})
    config = tiny_config.model_copy(update={"crop": crop_config, "train": one_epoch})
    train(challenge, tmp_path, config, folds=[0], splits=splits, device="cpu")
    points = {
        s: annotated_localizations(challenge.load_study(s).study, challenge.points[s]) for s in challenge.study_ids
    }
    table, problems = predict_out_of_fold(tmp_path, challenge, points, device="cpu")
    assert problems == ()
    assert table.values.shape[1] == len(FINDINGS)
    written = read_probabilities(tmp_path / "out_of_fold.csv").select(table.study_ids)
    assert np.allclose(table.values, written.values, atol=1e-6)
