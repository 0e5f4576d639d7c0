"""The detectors that ship with the package: used where no run is named, and held out for every study of the user's."""

import argparse
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from classify.config import ClassifyConfig
from classify.train.request import TrainRequest
from localize.cli import add_parsers
from localize.localizer import CALIBRATION_FILE, CONFIG_FILE, PRIOR_FILE, SHIPPED_RUN, Localizer, run_or_shipped
from localize.measures import collect, measure_jitter
from shared.data.challenge import Challenge
from shared.data.source import open_source
from shared.detections import read_localizations
from shared.jitter import read_jitter
from shared.labels import Level, View
from shared.out_of_fold import OutOfFold
from shared.runtime.documents import read_json
from shared.runtime.errors import InputError, exit_code
from shared.runtime.files import write_json
from shared.runtime.run_folder import RUN_FILE
from shared.splits import Splits
from tests.shipped_run import pack_as_shipped

NOT_HERE = "this checkout holds no detectors in localize/weights"


@pytest.fixture
def shipped(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny run as if it were the one that ships."""
    return pack_as_shipped(run, tmp_path / "weights", monkeypatch)


def command(*words: object) -> int:
    parser = argparse.ArgumentParser()
    add_parsers(parser.add_subparsers())
    args = parser.parse_args([str(word) for word in words])
    return exit_code(lambda: args.func(args))


def test_without_a_run_the_shipped_detectors_answer_every_study(
    shipped: Path, challenge: Challenge, splits: Splits, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert command("predict", challenge.root, out, "--device", "cpu") == 0
    points = read_localizations(out / "localizations.csv")
    assert set(points) == set(challenge.study_ids)  # the run itself would answer only those that it held out
    facts = read_json(out / RUN_FILE)
    assert (facts["shipped"], facts["out_of_fold"], facts["studies"]) == (True, False, 4)
    assert read_jitter(out / "errors.json") == measure_jitter(collect(challenge, points).errors)
    found = OutOfFold.of_file(out / "localizations.csv")
    assert found.localizations == points
    for folds in (splits.folds, (("100", "102"), ("101", "103"))):  # a grader may hold out any of the studies
        wanted = Splits(seed=1, folds=folds)
        request = TrainRequest(data=challenge, config=ClassifyConfig(), splits=wanted, folds=(0, 1), points=found)
        assert request.held_out_points == "localized"
        assert request.measured == read_jitter(out / "errors.json")
    write_json(out / RUN_FILE, facts | {"data_fingerprint": "0"})
    with pytest.raises(InputError, match="points are of other data than the train part"):
        OutOfFold(out).check_fits(challenge, splits)
    (out / "localizations.csv").write_text((out / "localizations.csv").read_text() + "\n")
    with pytest.raises(InputError, match="the file was changed"):
        OutOfFold(out)


def test_points_of_detectors_that_may_have_seen_the_studies_are_refused(
    run: Path, shipped: Path, challenge: Challenge, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert command("predict", challenge.root, run, out, "--device", "cpu") == 0
    facts = read_json(out / RUN_FILE)
    assert (facts["shipped"], facts["out_of_fold"], facts["studies"]) == (False, True, 2)
    assert facts["trained_on"] == challenge.fingerprint
    for seen in (facts, facts | {"trained_on": "other data"}, facts | {"shipped": True}):
        write_json(out / RUN_FILE, seen)
        with pytest.raises(InputError, match="may have been trained on these studies"):
            OutOfFold.of_file(out / "localizations.csv")


@pytest.mark.parametrize("name", [RUN_FILE, CONFIG_FILE, f"fold0/{PRIOR_FILE}", "fold0/axial_t2.safetensors"])
def test_missing_files_are_named(
    shipped: Path, challenge: Challenge, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (shipped / name).unlink()
    assert command("predict", challenge.root, tmp_path / "out") == 1
    error = capsys.readouterr().err
    assert f"({name} missing)" in error
    assert "give a run of `lumbar localize train`" in error
    assert run_or_shipped(tmp_path) == tmp_path
    assert not (tmp_path / "out").exists()


def test_a_forgotten_out_does_not_turn_the_run_into_it(
    shipped: Path, run: Path, challenge: Challenge, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(run.rglob("*"))
    for words in ((), ("--overwrite",), ("--device", "cpu", "out")):
        with pytest.raises(SystemExit) as caught:
            command("predict", challenge.root, run, *words)
        assert caught.value.code == 2
        assert "is a run of a training, not a folder to write to" in capsys.readouterr().err
    assert sorted(run.rglob("*")) == before


@pytest.mark.skipif(not (SHIPPED_RUN / RUN_FILE).is_file(), reason=NOT_HERE)
def test_the_real_ones_are_complete_and_small() -> None:
    files = [path for path in SHIPPED_RUN.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 12e6
    assert not [path for path in files if path.suffix == ".pt"]
    Localizer.load(run_or_shipped(None), device="cpu")
    folds = json.loads((SHIPPED_RUN / RUN_FILE).read_text())["folds"]
    for fold, models in ((SHIPPED_RUN / f"fold{k}", item["models"]) for k, item in folds.items()):
        assert {path.name for path in fold.glob("*.safetensors")} == {f"{slug}.safetensors" for slug in models}
        assert (fold / CALIBRATION_FILE).is_file()


@pytest.mark.skipif(not (SHIPPED_RUN / RUN_FILE).is_file(), reason=NOT_HERE)
def test_threads_may_share_a_detector() -> None:
    detector = Localizer.load(SHIPPED_RUN, device="cpu")._detectors[View.AXIAL_T2]
    detector._min_score = 0.0  # type: ignore[attr-defined]  # there is nothing to see
    rng = np.random.default_rng(0)
    shapes = [(96, 128), (128, 96), (160, 160), (64, 64)]
    pictures = [np.kron(rng.integers(0, 256, (r // 8, c // 8)), np.ones((8, 8))).astype(np.uint8) for r, c in shapes]
    alone = [detector.detect([picture]) for picture in pictures]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda n: detector.detect([pictures[n % 4]]), range(40)))
    for n, [found] in enumerate(together):
        [expected] = alone[n % 4]
        np.testing.assert_allclose(found.xyxy, expected.xyxy, atol=1e-3)
    assert all(len(found.xyxy) for [found] in alone)


@pytest.mark.skipif(not (SHIPPED_RUN / RUN_FILE).is_file(), reason=NOT_HERE)
def test_the_real_ones_find_five_levels_on_a_real_scan(real_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert command("predict", real_data / "lumbar_study", out, "--device", "cpu") == 0
    points = read_localizations(out / "localizations.csv")
    assert set(points) == set(open_source(real_data / "lumbar_study").study_ids)
    assert all({finding.level for finding in found} == set(Level) for found in points.values())
