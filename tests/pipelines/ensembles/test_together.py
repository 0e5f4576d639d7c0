"""Several trained runs of a demo through the API and the commands."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from pipelines.api import load
from pipelines.cli import main
from shared.probabilities.files import read_probabilities
from shared.runtime.documents import read_json
from tests.schemas import assert_documented


def another(run: Path, place: Path) -> Path:
    """The same models under another digest."""
    copy = Path(shutil.copytree(run, place / f"{run.name}_again"))
    with (copy / "config.toml").open("a") as file:
        file.write("\n# trained again\n")
    return copy


@pytest.fixture(scope="module")
def twins(tiny_demo: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    place = tmp_path_factory.mktemp("twins")
    return {name: [tiny_demo / name, another(tiny_demo / name, place)] for name in ("localizer", "classifier")}


def test_runs_that_say_the_same_answer_as_one_of_them(tiny_demo: Path, twins: dict[str, list[Path]]) -> None:
    grader = load(twins["localizer"], twins["classifier"], device="cpu")
    study = sorted((tiny_demo / "data" / "test_images").iterdir())[0]
    alone = read_probabilities(tiny_demo / "prediction" / "probabilities.csv").select([study.name])
    np.testing.assert_allclose(grader.predict(study).submission, alone.submission[0], atol=2e-3)


def test_weights_are_fitted_used_and_compared_on_resume(
    tiny_demo: Path, twins: dict[str, list[Path]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, runs = str(tiny_demo / "data"), [str(run) for run in twins["classifier"]]
    assert main(["combine", data, *runs, str(tmp_path / "blend")]) == 0
    assert assert_documented(tmp_path / "blend") == {"run-combine-1", "combine-report-1", "combine-weights-1"}
    assert {p.name for p in (tmp_path / "blend").iterdir()} == {
        ".lumbar", "weights.json", "out_of_fold.csv", "report.json", "run.json"
    }  # fmt: skip
    printed = capsys.readouterr().out
    assert "plain mean" in printed
    assert "take the plain mean" in printed
    weights = read_json(tmp_path / "blend" / "weights.json")
    assert [m["name"] for m in weights["members"]] == ["classifier", "classifier_again"]
    assert weights["weights"]["canal"] == pytest.approx([0.5, 0.5], abs=0.01)
    lines = {line["name"]: line for line in read_json(tmp_path / "blend" / "report.json")["comparison"]["lines"]}
    assert lines["plain mean"]["score"]["score"] == pytest.approx(lines["classifier"]["score"]["score"], abs=1e-4)

    words = ["predict", data, str(tmp_path / "out"), "--device", "cpu", "--part", "train"]
    words += ["--localizer", str(twins["localizer"][0]), *(w for run in runs for w in ("--classifier", run))]
    blend = ["--blend", str(tmp_path / "blend" / "weights.json")]
    assert main([*words, *blend]) == 0
    facts = read_json(tmp_path / "out" / "run.json")
    assert facts["out_of_fold"] is True
    assert [len(facts[stage]) for stage in ("localizers", "classifiers")] == [1, 2]
    held_out = read_json(tiny_demo / "splits.json")["folds"][0]
    assert sorted(read_probabilities(tmp_path / "out" / "probabilities.csv").study_ids) == sorted(held_out)
    capsys.readouterr()
    assert main([*words, "--resume"]) == 1
    assert "cannot resume, blend changed" in capsys.readouterr().err
    assert main([*words, *blend, "--resume"]) == 0
    assert main([*words[:-2], *blend, "--resume"]) == 1
    assert "was fitted for the classifiers" in capsys.readouterr().err
