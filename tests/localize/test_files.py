"""Files and folders: data sets, run folders, the command line; nothing here trains for long."""

import argparse
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from localize.cli import add_parsers
from localize.config import AugmentConfig, LocalizeConfig
from localize.decoding.prior import fit_prior, read_prior, write_prior
from localize.detector.augment import Augmenter, Boxes
from localize.detector.canvas import fit_canvas, render
from localize.detector.export import ExportRequest, LabelledImages, export_view, read_images
from localize.detector.yolo.feed import Feed, Share
from localize.evaluate import EvaluateRequest, evaluate_run
from localize.localizer import Localizer
from localize.predict import predict_studies
from localize.train.command import main
from localize.train.request import TrainingResources, TrainRequest
from localize.train.run import train
from shared.data.challenge import Challenge
from shared.data.source import challenge_source
from shared.detections import read_detections, read_localizations
from shared.jitter import read_jitter
from shared.labels import Condition, View
from shared.out_of_fold import OutOfFold
from shared.runtime.errors import InputError
from shared.runtime.run_folder import read_run, sha256_of
from shared.splits import Splits
from tests.localize.spine_phantom import jittered_truths, sagittal_series

CONFIGS = Path(__file__).parents[2] / "configs" / "localize"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda p: p.stem)
def test_shipped_configs_parse_and_survive_saving(path: Path, tmp_path: Path) -> None:
    config = LocalizeConfig.load(path)
    config.save(tmp_path / "config.toml")
    assert LocalizeConfig.load(tmp_path / "config.toml") == config
    assert "Command:" in path.read_text()


def test_the_full_config_is_the_default() -> None:
    assert LocalizeConfig.load(CONFIGS / "full.toml") == LocalizeConfig()


def test_a_slice_on_its_canvas_and_back() -> None:
    item = sagittal_series(View.SAGITTAL_T2, series_id="2").slices[0]
    for crop, shape in ((True, (96, 64)), (False, (192, 160))):
        canvas = fit_canvas(item, 1.4, (96, 64), crop=crop, center_px=(70.0, 20.0))
        assert canvas.shape == shape
        points = np.array([[0.0, 0.0], [50.5, 60.25], [95.0, 127.0]])
        np.testing.assert_allclose(canvas.to_slice(canvas.to_canvas(points)), points, atol=1e-9)
    image = np.zeros(item.shape, np.uint8)
    image[60:64, 48:52] = 255
    peak = cv2.moments(render(image, canvas))
    center = canvas.to_canvas(np.array([[49.5, 61.5]]))[0]
    np.testing.assert_allclose((peak["m10"] / peak["m00"], peak["m01"] / peak["m00"]), center, atol=0.1)


def test_augmentation_moves_boxes_with_their_picture() -> None:
    image, count = np.zeros((96, 96), np.uint8), 40
    cv2.circle(image, (60, 40), 4, 255, -1)
    calm = AugmentConfig(gamma=0, gain=0, bias=0, noise=0, blur_px=0.5, crop=0, tone=0, shading=0)
    boxes = Boxes(xyxy=np.tile([[50.0, 30.0, 70.0, 50.0]], (count, 1)), image=np.arange(count))
    augmenter = Augmenter(calm, image.shape, torch.device("cpu"))
    moved, found, _ = augmenter(torch.from_numpy(np.stack([image] * count)), boxes, np.random.default_rng(0))
    compared = 0
    for box, of in zip(found.xyxy, found.image, strict=True):
        if (box > 0).all() and (box < 95).all():
            blob = cv2.moments(moved[of].numpy())
            center = (box[:2] + box[2:]) / 2
            np.testing.assert_allclose(center, (blob["m10"] / blob["m00"], blob["m01"] / blob["m00"]), atol=0.6)
            compared += 1
    assert compared > count / 2


def test_augmentation_stays_in_range_and_drops_what_nobody_sees() -> None:
    images = torch.full((200, 64, 96), 128, dtype=torch.uint8)
    boxes = Boxes(xyxy=np.tile([[1.0, 1.0, 9.0, 9.0]], (200, 1)), image=np.arange(200))
    values, found, keep = Augmenter(AugmentConfig(), (64, 96), torch.device("cpu"))(
        images, boxes, np.random.default_rng(1)
    )
    assert values.shape == images.shape
    assert values.min() == 0
    assert 0.9 < values.max() <= 1
    assert len({float(v.std()) for v in values}) == len(values)
    assert (found.image == np.flatnonzero(keep)).all()
    assert 20 < keep.sum() < 180
    assert (found.xyxy[:, 2:] > found.xyxy[:, :2]).all()


def test_a_batch_depends_on_its_epoch_and_place_alone() -> None:
    pixels = np.arange(10, dtype=np.uint8)[:, None, None] * np.ones((1, 64, 64), np.uint8)
    boxes = [np.array([[10.0, 20.0, 30.0, 40.0]])] * 10
    images = LabelledImages(pixels=pixels, boxes_xyxy=boxes, levels=[np.array([i % 5]) for i in range(10)])
    plain = Feed(images, 4, torch.device("cpu"))
    (first, second, third) = plain
    assert [len(batch["img"]) for batch in (first, second, third)] == [4, 4, 2]
    torch.testing.assert_close(second["img"][:, 0, 0, 0] * 255, torch.arange(4.0, 8.0))
    torch.testing.assert_close(first["bboxes"][0] * 64, torch.tensor([20.5, 30.5, 20.0, 20.0]))
    assert third["batch_idx"].tolist() == [0, 1]
    augmenter = Augmenter(AugmentConfig(), (64, 64), torch.device("cpu"))
    ours, again = (Feed(images, 4, torch.device("cpu"), augmenter=augmenter, seed=3) for _ in range(2))
    epochs = []
    for epoch in range(2):
        ours.set_epoch(epoch)
        epochs.append(list(ours))
    again.set_epoch(1)
    for one, other in zip(epochs[1], again, strict=True):
        assert all(torch.equal(one[key], other[key]) for key in one)
    assert not torch.equal(epochs[0][0]["img"], epochs[1][0]["img"])
    shares = [Feed(images, 3, torch.device("cpu"), share=Share(rank=k, of=2)) for k in range(2)]
    seen = [round(float(v) * 255) for feed in shares for batch in feed for v in batch["img"][:, 0, 0, 0]]
    assert sorted(seen) == list(range(10))


def test_data_set_has_safe_names_our_yaml_and_boxes_inside(
    challenge: Challenge, tiny_config: LocalizeConfig, tmp_path: Path
) -> None:
    folder = tmp_path / 'odd "name'
    request = ExportRequest(
        data=challenge, view=View.SAGITTAL_T2, config=tiny_config, train=["100", "101"], val=["102"]
    )  # fmt: skip
    counts = export_view(request, folder)
    images = sorted((folder / "images" / "train").iterdir())
    assert [p.name for p in images] == [f"{i:06d}.png" for i in range(counts.train)]
    assert all(cv2.imread(str(p), cv2.IMREAD_UNCHANGED).shape == (96, 64) for p in images)
    assert "download" not in (folder / "data.yaml").read_text()
    for text in ((folder / "labels" / "train" / f"{p.stem}.txt").read_text() for p in images):
        for line in text.splitlines():
            level, x, y, w, h = (float(v) for v in line.split())
            assert level in range(5)
            assert min(x - w / 2, y - h / 2) >= -1e-6
            assert max(x + w / 2, y + h / 2) <= 1 + 1e-6
    for _ in range(2):  # the second time from the file that the first has kept
        read = read_images(folder, "train")
        assert read.pixels.shape == (counts.train, 96, 64)
        assert (read.pixels[-1] == cv2.imread(str(images[-1]), cv2.IMREAD_UNCHANGED)).all()
        assert [len(boxes) for boxes in read.boxes_xyxy] == [len(levels) for levels in read.levels]


def test_prior_survives_its_file_and_bad_files_are_named(tmp_path: Path) -> None:
    prior = fit_prior(jittered_truths(5))
    write_prior(tmp_path / "chain.json", prior)
    again = read_prior(tmp_path / "chain.json")
    np.testing.assert_allclose(again.gap_mean, prior.gap_mean, atol=1e-3)
    value = json.loads((tmp_path / "chain.json").read_text())
    value["gap_mean_yz_mm"] = value["gap_mean_yz_mm"][:2]
    (tmp_path / "chain.json").write_text(json.dumps(value))
    with pytest.raises(InputError, match=r"chain\.json"):
        read_prior(tmp_path / "chain.json")
    assert fit_prior([]).studies == 0


def test_a_run_holds_exactly_its_files(run: Path, challenge: Challenge) -> None:
    files = sorted(str(p.relative_to(run)) for p in run.rglob("*") if p.is_file())
    models = [f"fold0/{view.slug}.safetensors" for view in View]
    names = (
        "calibration.json",
        "chain.json",
        "detections.csv",
        "failures.csv",
        "localizations.csv",
        "log.csv",
        "metrics.json",
        "numbering.csv",
    )
    tables = [f"fold0/{name}" for name in names]
    top = ["config.toml", "errors.json", "localizations.csv", "run.json", "splits.json", "state.json"]
    assert files == sorted([*models, *tables, *top, "fold0/.lumbar"])
    manifest = read_run(run, expected_kind="localize")
    for view in View:
        path = run / "fold0" / f"{view.slug}.safetensors"
        assert manifest["folds"]["0"]["models"][view.slug] == sha256_of(path)
        assert str(challenge.root).encode() not in path.read_bytes()
        assert str(run).encode() not in path.read_bytes()
    assert manifest["localizations_sha256"] == sha256_of(run / "localizations.csv")
    assert manifest["unmirror"] is True
    assert OutOfFold(run).localizations == read_localizations(run / "localizations.csv")
    metrics = json.loads((run / "fold0" / "metrics.json").read_text())
    assert set(metrics["map"]) == {view.slug for view in View}
    assert metrics["overall"]["expected"] == 50
    assert set(read_jitter(run / "errors.json")) <= set(Condition)
    assert set(read_localizations(run / "localizations.csv")) <= {"100", "101"}
    read_detections(run / "fold0" / "detections.csv")


def test_prediction_reports_bad_slices_and_goes_on(run: Path, challenge: Challenge, tmp_path: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(challenge.root, root)
    (root / "train_images" / "102" / "2" / "7.dcm").write_bytes(b"no DICOM")
    broken = root / "train_images" / "103" / "1" / "3.dcm"
    broken.write_bytes(broken.read_bytes()[:-500])
    localizer = Localizer.load(run, device="cpu")
    predictions = predict_studies(lambda _: localizer, challenge_source(Challenge.open(root)), ["102", "103"])
    assert set(predictions.localizations) == {"102", "103"}
    assert len(predictions.problems) == 2
    again = predict_studies(lambda _: localizer, challenge_source(Challenge.open(root)), ["102", "103"])
    assert again == predictions


def test_a_changed_model_file_is_refused(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    with (copy / "fold0" / "axial_t2.safetensors").open("ab") as file:
        file.write(b"x")
    with pytest.raises(InputError, match="SHA-256"):
        Localizer.load(copy, device="cpu")
    with pytest.raises(InputError, match="fold 3"):
        Localizer.load(run, folds=[3], device="cpu")


@pytest.mark.parametrize("content", [None, "{}", '{"kind": "classify"}'])
def test_a_bad_run_folder_is_one_clear_error(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(InputError):
        Localizer.load(tmp_path, device="cpu")


def test_resuming_a_finished_run_changes_nothing_and_other_settings_are_refused(
    run: Path, challenge: Challenge, tiny_config: LocalizeConfig, splits: Splits, tmp_path: Path
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    request = TrainRequest(data=challenge, config=tiny_config, splits=splits, folds=(0,))
    again = TrainingResources(device="cpu", resume=True)
    train(request, copy, again)
    for name in ("localizations.csv", "fold0/axial_t2.safetensors"):
        assert (copy / name).read_bytes() == (run / name).read_bytes()
    with pytest.raises(InputError, match="config"):
        train(replace(request, config=LocalizeConfig()), copy, again)
    with pytest.raises(InputError, match="differ in"):
        replace(request, splits=Splits(seed=0, folds=(("1",), ("2",))))


def test_report_is_one_page_without_links(run: Path, challenge: Challenge, tmp_path: Path) -> None:
    page = evaluate_run(EvaluateRequest(data=challenge.root, run=run, device="cpu"), tmp_path)
    text = page.read_text()
    assert "data:image/png;base64" in text
    assert 'src="http' not in text
    assert json.loads((tmp_path / "report.json").read_text())["studies"] == 2


def test_command_line_errors_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none"), str(tmp_path / "run")]) == 1
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert message.count("\n") == 1


def test_parsers_explain_every_flag() -> None:
    parser = argparse.ArgumentParser()
    subparsers = parser.add_subparsers()
    add_parsers(subparsers)
    assert set(subparsers.choices) == {"train", "predict", "evaluate", "convert"}
    for name, sub in subparsers.choices.items():
        assert all(action.help for action in sub._actions), name
    args = parser.parse_args(["train", "DATA", "RUN", "--fold", "2", "--view", "axial_t2", "--set", "optim.lr=0.1"])
    assert (args.fold, args.view, args.overrides) == (["2"], ["axial_t2"], ["optim.lr=0.1"])


def test_importing_the_command_line_is_light() -> None:
    code = "import sys, localize.cli; print([m for m in ('torch', 'ultralytics', 'cv2', 'pandas') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
