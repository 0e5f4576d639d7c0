"""Where the processes of `lumbar prepare` come from."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shared.runtime.errors import InputError
from shared.runtime.pool import processes

ROOT = Path(__file__).parents[2]
PROGRAM = """
from shared.runtime import pool
pool.begin("stranger")
with pool.processes(2) as spread:
    print(list(spread(abs, [-1, 2])))
"""


def run_in(folder: Path, **environment: str) -> str:
    """What the program prints; -P keeps the folder out of its own path, as for the installed command."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM], cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    return done.stdout.strip()


def test_nothing_is_imported_from_the_current_folder(tmp_path: Path) -> None:
    (tmp_path / "stranger.py").write_text("import pathlib; pathlib.Path('imported').touch()")
    assert run_in(tmp_path) == "[1, 2]"
    assert not (tmp_path / "imported").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked by a server on Linux only")
def test_a_path_too_long_for_a_socket_is_no_obstacle(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    assert run_in(tmp_path, TMPDIR=str(long)) == "[1, 2]"


def test_a_dead_worker_is_one_clear_error() -> None:
    with (
        pytest.raises(InputError, match=r"a worker process died .*; look there"),
        processes(2, advice="look there") as spread,
    ):
        list(spread(os._exit, [1, 1]))
