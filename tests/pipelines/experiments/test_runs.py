"""`lumbar runs`: every run with what it changed, sorted by score; foreign and damaged folders are told."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from classify.config import ClassifyConfig
from localize.config import LocalizeConfig
from pipelines.cli import main
from pipelines.experiments.runs import find_runs
from shared.runtime.errors import InputError
from shared.runtime.files import write_json
from shared.runtime.run_folder import write_run
from shared.splits import Splits, write_splits
from tests.schemas import assert_fits


def classify_run(folder: Path, score: float | None = 0.5, *overrides: str, finished: bool = True) -> Path:
    config = ClassifyConfig.load(None, overrides)
    write_json(folder / "state.json", {"config": config.model_dump(mode="json"), "crops": "1", "splits": []})
    config.save(folder / "config.toml")
    write_splits(folder / "splits.json", Splits(seed=0, folds=(("1",), ("2",), ("3",))))
    for k in (0, 1):
        write_json(folder / f"fold{k}" / "model.json", {})
    if finished:
        facts: dict[str, Any] = {
            "kind": "classify",
            "data_fingerprint": "f",
            "seed": config.train.seed,
            "folds": [0, 1],
        }
        if score is not None:
            facts["score"] = {
                "of": "competition metric, out of fold", "lower_is_better": True, "value": score, "low": score - 0.1,
                "high": score + 0.1, "studies": 3,
            }  # fmt: skip
        write_run(folder, command="classify train", started=time.time(), earlier_seconds=3600.0, **facts)
    return folder


def localize_run(folder: Path, score: float) -> Path:
    LocalizeConfig().save(folder / "config.toml")
    write_splits(folder / "splits.json", Splits(seed=0, folds=(("1",), ("2",))))
    write_run(
        folder, command="localize train", started=0.0, kind="localize", data_fingerprint="f",
        folds={"0": {"models": {}}}, seeds={"splits": 0, "training": 7},
        score={"of": "right", "lower_is_better": False, "value": score, "low": 0.1, "high": 0.9, "studies": 3},
    )  # fmt: skip
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    root = tmp_path / "runs"
    classify_run(root / "worse", 0.6, "train.epochs=3", "crop.slices=3")
    classify_run(root / "deep" / "better", 0.4, "train.epochs=7", "crop.slices=3", "train.seed=5")
    classify_run(root / "older", None, "crop.slices=3")
    classify_run(root / "going", finished=False)
    localize_run(root / "l1", 0.7)
    localize_run(root / "l2", 0.8)
    (root / "data" / "train_images" / "1").mkdir(parents=True)
    (root / "data" / "train_images" / "1" / "run.json").write_text("not looked at")
    write_run(root / "prediction", command="predict", started=0.0, kind="predict")
    return root


def test_runs_are_sorted_by_stage_and_score(runs: Path) -> None:
    found, problems = find_runs(runs)
    assert [r.path for r in found] == ["l2", "l1", "deep/better", "worse", "going", "older"]
    assert problems == []
    best = found[2]
    assert (best.seed, best.folds, best.of_folds, best.finished) == (5, 2, 3, True)
    assert best.hours == pytest.approx(1, abs=0.1)
    assert best.settings == {"crop.slices": 3, "train.epochs": 7}
    assert (found[0].seed, found[0].settings) == (7, {})
    assert (found[4].finished, found[4].folds) == (False, 2)


def test_the_table_names_shared_settings_once(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", str(runs)]) == 0
    table = capsys.readouterr().out
    assert "deep/better  finished    2/3    5     0.4000  [0.3000, 0.5000]  1.0" in table
    assert "lower is better" in table
    assert "higher is better" in table
    (going,) = [line for line in table.splitlines() if line.startswith("going")]
    assert "unfinished" in going
    (worse,) = [line for line in table.splitlines() if line.startswith("worse")]
    assert "train.epochs=3" in worse
    assert main(["runs", str(runs / "deep")]) == 0
    assert "crop.slices=3, train.epochs=7" in capsys.readouterr().out


def test_csv_and_json_hold_all_settings(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "table.csv"
    assert main(["runs", str(runs), "--csv", str(out), "--json"]) == 0
    printed = capsys.readouterr().out
    assert_fits("runs-1", printed)
    whole = json.loads(printed)
    assert whole["version"] == 1
    assert whole["runs"][2]["settings"] == {"crop.slices": 3, "train.epochs": 7}
    table = pd.read_csv(out)
    assert list(table["path"]) == [run["path"] for run in whole["runs"]]
    assert table.loc[2, "score_value"] == 0.4
    assert main(["runs", str(runs), "--csv", str(out)]) == 1
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("run.json", "{", "cannot be read as JSON"),
        ("run.json", '{"mine": 1}', "kind"),
        ("run.json", '{"kind": "classify"}', "data_fingerprint"),
        ("config.toml", "[train]\nepochs = -1", "train.epochs"),
        ("splits.json", "[]", "splits.json"),
    ],
)
def test_foreign_and_damaged_folders_are_told_and_stop_nothing(
    runs: Path, name: str, text: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (runs / "worse" / name).write_text(text)
    assert main(["runs", str(runs)]) == 0
    printed = capsys.readouterr()
    assert "worse" not in printed.out
    (warning,) = [line for line in printed.err.splitlines() if line.startswith("warning")]
    assert told in warning
    assert "worse" in warning


def test_a_folder_without_runs_is_said_to_have_none(tmp_path: Path) -> None:
    assert main(["runs", str(tmp_path)]) == 1
    with pytest.raises(InputError, match="no such folder"):
        find_runs(tmp_path / "nowhere")


def test_no_model_library_is_loaded(runs: Path) -> None:
    code = (
        "import sys; from pipelines.cli import main; main(['runs', sys.argv[1]]);"
        "sys.exit(', '.join({'torch', 'ultralytics', 'matplotlib'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(runs)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
