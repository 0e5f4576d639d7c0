"""Where the processes of `lumbar prepare` come from."""

import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from shared.runtime.errors import InputError
from shared.runtime.files import sweep_temporary
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


@pytest.mark.parametrize(("most", "apart"), [(16, False), (resource.RLIM_INFINITY, True)])
def test_few_open_files_keep_the_work_in_this_process(monkeypatch: pytest.MonkeyPatch, most: int, apart: bool) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (most, most))
    with processes(2) as spread:
        assert (os.getpid() not in spread(_process, [0])) is apart


def _process(_: int) -> int:
    return os.getpid()


def test_a_dead_worker_is_one_clear_error() -> None:
    with (
        pytest.raises(InputError, match=r"a worker process died .*; look there"),
        processes(2, advice="look there") as spread,
    ):
        list(spread(os._exit, [1, 1]))


BUSY = """
import sys
from pathlib import Path
from shared.runtime.errors import exit_code
from shared.runtime.files import written_beside
from shared.runtime.pool import processes

def work(number):
    with written_beside(Path(sys.argv[1]) / str(number)) as temporary:
        temporary.write_text("half")
        Path(sys.argv[1], f"begun{number}").touch()
        if number:
            sum(range(10**12))  # in compiled code, with the lock that all threads of Python wait for
        while True:
            pass

def command():
    with processes(2) as spread:
        list(spread(work, [0, 1]))
    return 0

if __name__ == "__main__":
    sys.exit(exit_code(command, resumable=True))
"""


def of_session(session: int) -> list[str]:
    """The processes of a session that still run."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, of = stat.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(of) == session and state != "Z":
            found.append((stat.parent / "cmdline").read_text())
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize(
    ("number", "long"),
    [(signal.SIGTERM, False), (signal.SIGKILL, False), (signal.SIGKILL, True), (signal.SIGHUP, True)],
    ids=["TERM", "KILL", "KILL spawn", "HUP spawn"],
)
def test_no_process_outlives_its_parent(tmp_path: Path, number: signal.Signals, long: bool) -> None:
    program, folder, temporary = tmp_path / "busy.py", tmp_path / "out", tmp_path / ("t" * 100 if long else "t")
    program.write_text(BUSY)
    folder.mkdir()
    temporary.mkdir()
    parent = subprocess.Popen(
        [sys.executable, str(program), str(folder)], stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(temporary)},
        # A suite that was started with `nohup` ignores it, and so would its children.
        preexec_fn=partial(signal.signal, signal.SIGHUP, signal.SIG_DFL),
    )  # fmt: skip
    try:
        until = time.monotonic() + 30
        while not ((folder / "begun0").exists() and (folder / "begun1").exists()):
            assert time.monotonic() < until
            assert parent.poll() is None
            time.sleep(0.02)
        parent.send_signal(number)
        _, error = parent.communicate(timeout=30)
        until = time.monotonic() + 3
        while left := of_session(parent.pid):
            assert time.monotonic() < until, left
            time.sleep(0.02)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(parent.pid, signal.SIGKILL)
    # The alarm ends a command whose pool cannot be ended in order, which a busy machine has shown once.
    if number != signal.SIGKILL and parent.returncode != -signal.SIGALRM:
        assert parent.returncode == 128 + number
        assert error == "terminated; finished parts are kept, go on with --resume\n"
        assert not list(folder.glob(".0.*.tmp"))  # the process that was busy in Python has left its blocks
    sweep_temporary(folder)
    assert {p.name for p in folder.iterdir()} == {"begun0", "begun1"}


PAYLOADS = ("pickle", "json", "numpy", "torch", "cv2", "sitecustomize", "encodings", "multiprocessing", "ctypes",
            "shared", "pipelines", "concurrent", "logging", "signal", "tempfile")  # fmt: skip


@pytest.mark.parametrize("environment", [{"PYTHONPATH": ""}, {"TMPDIR": "t" * 100}], ids=["server", "spawn"])
def test_no_code_of_the_current_folder_runs(tmp_path: Path, environment: dict[str, str]) -> None:
    for name in PAYLOADS:
        folder = tmp_path / name if name in ("shared", "pipelines", "encodings") else None
        if folder is not None:
            folder.mkdir()
        (folder / "__init__.py" if folder else tmp_path / f"{name}.py").write_text(
            f"open({str(tmp_path / 'payload')!r}, 'a').write({name!r})\n"
        )
    (tmp_path / ("t" * 100)).mkdir()
    if "TMPDIR" in environment:
        environment = {"TMPDIR": str(tmp_path / environment["TMPDIR"])}
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n" + PROGRAM.replace('pool.begin("stranger")', "")
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | environment,
    )  # fmt: skip
    assert done.stdout.strip() == "[1, 2]"
    assert not (tmp_path / "payload").exists()
