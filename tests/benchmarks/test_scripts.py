"""The measuring scripts start, and what they share does what it says."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.demo_folder import demo_command, score_line
from benchmarks.results import header
from shared.metric import score
from shared.probabilities import ProbabilityTable

FOLDER = Path(__file__).parents[2] / "benchmarks"
SCRIPTS = sorted(path for path in FOLDER.glob("*.py") if '__name__ == "__main__"' in path.read_text())


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_every_script_explains_itself(
    script: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [str(script), "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(script), run_name="__main__")
    assert ended.value.code == 0
    assert "usage: " in capsys.readouterr().out


def test_a_line_of_several_networks_is_the_mean_of_theirs() -> None:
    rng = np.random.default_rng(0)
    grades = rng.integers(0, 3, (6, 25)).astype(np.int8)
    tables = [
        ProbabilityTable(
            study_ids=tuple("abcdef"), values=rng.dirichlet((3, 1, 1), (6, 25)), from_model=np.ones((6, 25), bool)
        )
        for _ in range(2)
    ]
    line = score_line(tables, grades)
    assert line["of_each_seed"] == [score(t.values, grades).score for t in tables]
    assert line["score"] == pytest.approx(np.mean(line["of_each_seed"]))
    assert line["low"] < line["score"] < line["high"]


def test_results_name_their_command_and_hardware() -> None:
    head = header("make bench", device="cpu")
    assert list(head) == ["command", "commit", "hardware"]
    assert head["hardware"].endswith("no GPU")
    run = {"studies": 240, "test_studies": 24, "preset": "demo", "seed": 0, "fold": "0"}
    configs = {f"{stage}_config": f"configs/{stage}/demo.toml" for stage in ("localize", "classify")}
    assert demo_command(run | configs) == "make demo"
    assert demo_command(run | configs | {"fold": "all"}) == "lumbar demo DEMO --fold all"
