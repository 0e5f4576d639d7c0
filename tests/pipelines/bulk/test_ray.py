"""A prediction on a Ray cluster of two nodes on this machine, of which one is killed in the middle of it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from shared.runtime.documents import read_json
from tests.pipelines.bulk.case import predicted, request_of, stand_in, write_studies
from tests.pipelines.bulk.test_merge import assert_same

pytest.importorskip("ray", reason="needs the extra cluster")
ROOT = Path(__file__).parents[3]
TOO_BUSY = 77  # of two_nodes.py, which is not imported here, because only a process of its own may start Ray


def test_a_node_that_is_killed_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a study that kills its process again and again fails alone."""
    data = write_studies(tmp_path / "data", 8)
    words = [sys.executable, "-m", "tests.pipelines.bulk.two_nodes", str(data), str(tmp_path)]
    done = subprocess.run(
        words, cwd=ROOT, capture_output=True, text=True, timeout=300,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}", "LUMBAR_LOOPBACK_PORT": "any"},
    )  # fmt: skip
    if done.returncode == TOO_BUSY:
        pytest.skip("this machine is too busy to start Ray in the time that Ray gives itself")
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["killed_after"] < 8
    assert told["squares"] == [n * n if n != 3 else "given up: ended 4 processes" for n in range(6)]
    stand_in(monkeypatch)
    assert_same(predicted(request_of(data), tmp_path / "here"), tmp_path / "ray")
    failures = (tmp_path / "killer" / "failures.csv").read_text()
    assert '104,localize,stage_failed,"study 104: it ended 2 processes' in failures
    assert read_json(tmp_path / "killer" / "run.json")["studies"] == 8
    assert (tmp_path / "killer" / "studies" / "104.html").is_file()
