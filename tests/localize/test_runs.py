"""Runs that grow by folds and views, their own studies out of fold, devices, and what training starts from."""

import argparse
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from localize.cli import add_parsers
from localize.config import LocalizeConfig, ModelConfig
from localize.detector.yolo.continuation import save_state
from localize.detector.yolo.training import starting_weights
from localize.evaluate import EvaluateRequest, evaluate_run
from localize.localizer import SHIPPED_RUN, Localizer, detector_file
from localize.predict import PredictRequest, predict, predict_studies
from localize.train.command import main
from localize.train.request import TrainingResources, TrainRequest
from localize.train.run import train
from shared.data.challenge import Challenge
from shared.data.source import challenge_source
from shared.detections import write_localizations
from shared.figures.training import read_curves
from shared.labels import View
from shared.runtime.documents import read_json
from shared.runtime.errors import InputError, exit_code
from shared.runtime.files import write_json
from shared.runtime.hardware.cores import usable_cores
from shared.runtime.ownership import MARKER
from shared.splits import Splits, write_splits
from tests.tracked import curves_of, tracking_of

AGAIN = TrainingResources(device="cpu", resume=True)


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "run"))


def test_finishing_a_fold_leaves_the_others_work_alone(
    copy: Path, challenge: Challenge, tiny_config: LocalizeConfig, splits: Splits
) -> None:
    own, other = copy / "work" / "fold0" / "old", copy / "work" / "fold1" / "axial_t2" / "dataset"
    own.mkdir(parents=True)
    other.mkdir(parents=True)
    write_json(copy / "run.json", {**read_json(copy / "run.json"), "seconds": 20.0, "earlier_seconds": 100.0})
    request = TrainRequest(data=challenge, config=tiny_config, splits=splits, folds=(0,))
    train(request, copy, AGAIN)
    assert other.is_dir()
    assert not own.exists()
    assert read_json(copy / "run.json")["earlier_seconds"] == 120.0
    shutil.rmtree(copy / "work" / "fold1")
    train(request, copy, AGAIN)
    assert not (copy / "work").exists()


def test_a_view_added_later_is_trained_and_the_fold_measured_with_all(
    run: Path, copy: Path, challenge: Challenge, tiny_config: LocalizeConfig, splits: Splits
) -> None:
    (copy / "fold0" / "axial_t2.safetensors").unlink()
    metrics = read_json(copy / "fold0" / "metrics.json")
    del metrics["map"]["axial_t2"]
    write_json(copy / "fold0" / "metrics.json", {**metrics, "overall": {}})
    request = TrainRequest(data=challenge, config=tiny_config, splits=splits, folds=(0,), views=(View.AXIAL_T2,))
    train(request, copy, AGAIN)
    for name in ("metrics.json", "localizations.csv", "log.csv", *(f"{view.slug}.safetensors" for view in View)):
        assert (copy / "fold0" / name).read_bytes() == (run / "fold0" / name).read_bytes(), name
    assert read_json(copy / "run.json")["folds"] == read_json(run / "run.json")["folds"]


def test_an_interrupted_detector_continues_to_the_same_bytes(
    run: Path, challenge: Challenge, tiny_config: LocalizeConfig, splits: Splits, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    view = View.AXIAL_T2
    request = TrainRequest(data=challenge, config=tiny_config, splits=splits, folds=(0,), views=(view,))

    def interrupt(trainer: Any, path: Path) -> None:
        save_state(trainer, path)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("localize.detector.yolo.training.save_state", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(request, tmp_path, TrainingResources(device="cpu"))
    state = tmp_path / "work" / "fold0" / view.slug / "yolo" / "state.pt"
    state.with_name(".state.pt.999999999.tmp").write_bytes(b"half written")
    # As on a machine of another number of cores.
    monkeypatch.setattr("localize.detector.yolo.halves.usable_cores", lambda: 3 - min(usable_cores(), 2))
    train(request, tmp_path, replace(AGAIN, tracking=tracking_of(tmp_path)))
    assert detector_file(tmp_path / "fold0", view).read_bytes() == detector_file(run / "fold0", view).read_bytes()
    assert not (tmp_path / "work").exists()
    (own,) = read_curves({0: tmp_path / "fold0"})
    assert own in read_curves({0: run / "fold0"})
    assert own.losses.epoch == [1, 2]
    # Our curves change no weight, and the library's own loggers are off although the package is there.
    curves = curves_of(tmp_path, f"fold0/{view.slug}")
    assert curves is None or {tuple(epochs) for epochs in curves.values()} == {(2,)}
    # It imports a logger's module only to use it, whatever the user's settings were.
    assert not {f"ultralytics.utils.callbacks.{name}" for name in ("tensorboard", "mlflow")} & sys.modules.keys()
    assert all(loss is not None and loss > 0 for loss in (*own.losses.train, *own.losses.held_out))


def test_resume_keeps_the_splits_of_the_run(copy: Path, challenge: Challenge) -> None:
    common = [str(challenge.root), str(copy), "--fold", "0", "--config", str(copy / "config.toml"), "--device", "cpu"]
    assert main([*common, "--resume"]) == 0


def test_studies_that_were_lost_and_slices_that_cannot_be_shown_stay_in_the_report(
    copy: Path, challenge: Challenge, tmp_path: Path
) -> None:
    root = Path(shutil.copytree(challenge.root, tmp_path / "data"))
    for path in (root / "train_images" / "100").rglob("*.dcm"):
        path.write_bytes(path.read_bytes()[:-500])
    write_localizations(copy / "localizations.csv", {})
    out = tmp_path / "out"
    out.mkdir()
    evaluate_run(EvaluateRequest(data=root, run=copy, folds=[0], device="cpu"), out)
    report = json.loads((out / "report.json").read_text())
    assert report["studies"] == 2
    assert (report["overall"]["expected"], report["overall"]["found"]) == (50, 0)
    with pytest.raises(InputError, match="fold 1 was not trained"):
        evaluate_run(EvaluateRequest(data=root, run=copy, folds=[1], device="cpu"), out)


def test_a_runs_own_studies_are_localized_by_the_fold_that_held_them_out(
    run: Path, challenge: Challenge, capsys: pytest.CaptureFixture[str]
) -> None:
    own = predict(PredictRequest(run=run, source=challenge_source(challenge), device="cpu"))
    assert "2 of 4 studies" in capsys.readouterr().err
    localizer = Localizer.load(run, folds=[0], device="cpu")
    assert own == predict_studies(lambda _: localizer, challenge_source(challenge), ["100", "101"])
    others = replace(challenge, points={}, study_ids=("102",))
    request = PredictRequest(run=run, source=challenge_source(others), device="cpu")
    assert set(predict(request).localizations) == {"102"}


def _no_network(_: str) -> str:
    raise ConnectionError("no network")


def test_what_training_starts_from_is_checked_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    bad = tmp_path / "bad.pt"
    bad.write_bytes(b"no weights")
    state = tmp_path / "state.pt"
    torch.save({"model": {"weight": torch.zeros(1)}}, state)
    assert starting_weights(ModelConfig()) is None
    monkeypatch.setattr("ultralytics.utils.downloads.attempt_download_asset", _no_network)
    for weights in ("coco", "imagenet", str(bad), str(state), str(tmp_path / "none.pt")):
        with pytest.raises(InputError, match=f"starting weights {weights!r}"):
            starting_weights(ModelConfig(weights=weights))


def test_each_view_goes_on_from_its_own_detector_that_ships(
    challenge: Challenge, tiny_config: LocalizeConfig, splits: Splits
) -> None:
    def request(architecture: str) -> TrainRequest:
        model = ModelConfig(architecture=architecture, weights="shipped")
        config = tiny_config.model_copy(update={"model": model})
        return TrainRequest(data=challenge, config=config, splits=splits, folds=(0,))

    starts = {view: starting_weights(request("yolo11n.yaml").config_of(view).model) for view in View}
    assert starts == {view: detector_file(SHIPPED_RUN / "fold0", view) for view in View}
    with pytest.raises(InputError, match=r"is a detector of yolo11n\.yaml; expected yolo11s\.yaml"):
        starting_weights(request("yolo11s.yaml").config_of(View.AXIAL_T2).model)


@pytest.mark.parametrize("flag", ["--overwrite", "--resume"])
def test_bad_starting_weights_leave_no_run_behind(
    challenge: Challenge, splits: Splits, tmp_path: Path, capsys: pytest.CaptureFixture[str], flag: str
) -> None:
    write_splits(tmp_path / "splits.json", splits)
    run, text, other = tmp_path / "run", tmp_path / "text.pt", tmp_path / "other.pt"
    text.write_text("no weights")
    torch.save({"model": {"weight": torch.zeros(1)}}, other)
    for weights, told in ((text, "holds no weights"), (other, "starting weights"), ("cocoo", "did you mean coco")):
        words = [str(challenge.root), str(run), "--splits", str(tmp_path / "splits.json"), "--device", "cpu", flag]
        assert main([*words, "--weights", str(weights)]) == 1
        assert told in capsys.readouterr().err
        assert not run.exists()


def test_nothing_is_emptied_before_the_inputs_are_known_to_be_right(
    run: Path, challenge: Challenge, splits: Splits, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "out" / "report.html"
    kept.parent.mkdir()
    kept.touch()
    (kept.parent / MARKER).touch()
    data, out = str(challenge.root), str(kept.parent)
    write_splits(tmp_path / "other.json", Splits(seed=0, folds=(("100",), ("1",))))
    write_splits(tmp_path / "splits.json", splits)
    parser = argparse.ArgumentParser()
    add_parsers(parser.add_subparsers())

    def refused(*words: str) -> str:
        args = parser.parse_args([*words, "--overwrite"])
        assert exit_code(lambda: args.func(args)) == 1
        assert kept.exists(), words
        return capsys.readouterr().err

    train_words = ["train", data, out, "--splits", str(tmp_path / "splits.json")]
    assert "--device cuda:99" in refused(*train_words, "--device", "cuda:99")
    assert "splits and data differ" in refused(*train_words[:-1], str(tmp_path / "other.json"))
    refused(*train_words, "--fold", "9")
    assert "starting weights 'nothing.pt': no such file" in refused(*train_words, "--weights", "nothing.pt")
    for verb in ("predict", "evaluate"):
        words = [verb, data, str(run), out, "--device", "cpu"]
        assert "fold 1 was not trained" in refused(*words, "--fold", "1")
        assert "--set" in refused(*words, "--set", "optim.lr=1")
    assert "--device 99" in refused("predict", data, str(run), out, "--device", "99")


def test_a_foreign_folder_is_not_resumed(
    challenge: Challenge, tiny_config: LocalizeConfig, splits: Splits, tmp_path: Path
) -> None:
    (tmp_path / "config.toml").write_text("mine = true\n")
    with pytest.raises(InputError, match="cannot resume"):
        train(TrainRequest(data=challenge, config=tiny_config, splits=splits, folds=(0,)), tmp_path, AGAIN)
    assert [p.name for p in tmp_path.iterdir()] == ["config.toml"]
    assert (tmp_path / "config.toml").read_text() == "mine = true\n"
