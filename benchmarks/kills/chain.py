"""One output folder: the command is killed several times, resumed each time, and at last runs through."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.kills.commands import differing, program

# How long processes may take to end by themselves, once their parent is gone.
_GRACE_SECONDS: Final = 10.0
_SHARE_OF_TERM: Final = 0.2
_SHARE_OF_GROUP: Final = 0.5
_MOST_KILLS: Final = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """When and how a call is killed; `group` kills its children with it."""

    after_seconds: float
    signal: signal.Signals
    group: bool


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What became of one chain.

    Attributes:
      kills: those that hit a living process.
      seconds: of all calls together.
      processes_left: how many outlived a killed parent by more than `_GRACE_SECONDS`.
      temporary_files: how many a killed process left in the folder of temporary files.
      error: the end of what a call printed that failed by itself.
    """

    kills: list[Kill] = field(default_factory=list)
    calls: int = 0
    seconds: float = 0.0
    processes_left: int = 0
    temporary_files: int = 0
    differing: list[str] = field(default_factory=list)
    error: str = ""

    @property
    def identical(self) -> bool:
        return not self.differing and not self.error


def draw_kills(rng: np.random.Generator, seconds: float) -> list[Kill]:
    """The kills of one chain: in the first second, at the end of a run that nobody kills, or anywhere between."""
    kills = []
    for _ in range(int(rng.integers(1, _MOST_KILLS + 1))):
        moments = (rng.uniform(0, 1), rng.uniform(0, seconds), rng.uniform(0.85 * seconds, seconds))
        after = moments[rng.choice(3, p=(0.2, 0.6, 0.2))]
        sign = signal.SIGTERM if rng.random() < _SHARE_OF_TERM else signal.SIGKILL
        kills.append(Kill(after_seconds=float(after), signal=sign, group=bool(rng.random() < _SHARE_OF_GROUP)))
    return kills


def run_chain(words: list[str], out: Path, kills: list[Kill], environment: Mapping[str, str]) -> Outcome:
    """Runs a command into `out`, kills it as planned, and resumes until it is finished."""
    outcome = Outcome()
    planned = list(kills)
    while True:
        kill = planned.pop(0) if planned else None
        code, printed = _call([*words, *(["--resume"] if outcome.calls else [])], kill, outcome, environment)
        if kill is not None and kill in outcome.kills[-1:] and code != 0:
            continue
        if code != 0:
            outcome.error = f"exit code {code}: {printed[-500:]}"
        return outcome


def _call(words: list[str], kill: Kill | None, outcome: Outcome, environment: Mapping[str, str]) -> tuple[int, str]:
    """One call of the command; returns its exit code and what it printed."""
    log = Path(environment["TMPDIR"]).with_name("printed.txt")
    started = time.monotonic()
    with log.open("wb") as printed:
        process = subprocess.Popen(
            program(words), env=dict(environment), stdout=printed, stderr=printed, start_new_session=True
        )
        if kill is not None:
            _kill(process, kill, outcome)
        code = process.wait()
    outcome.calls += 1
    outcome.seconds += time.monotonic() - started
    outcome.processes_left += _end_session(process.pid)
    outcome.temporary_files += _clear(Path(environment["TMPDIR"]))
    return code, log.read_text(errors="replace")


def _kill(process: "subprocess.Popen[bytes]", kill: Kill, outcome: Outcome) -> None:
    """Kills a call at the planned moment, unless it has ended before."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=kill.after_seconds)
        return
    (os.killpg if kill.group else os.kill)(process.pid, kill.signal)
    outcome.kills.append(kill)


def _end_session(session: int) -> int:
    """Waits for the processes of a session to end; kills and counts those that do not."""
    deadline = time.monotonic() + _GRACE_SECONDS
    while (left := _members(session)) and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    return len(left)


def _members(session: int) -> list[int]:
    """Living processes of a session, as Linux lists them."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, of_session = path.read_text().rpartition(")")[2].split()[:4]
        except (OSError, ValueError):  # it has ended meanwhile
            continue
        if int(of_session) == session and state != "Z":
            found.append(int(path.parent.name))
    return found


def _clear(folder: Path) -> int:
    entries = list(folder.iterdir())
    for entry in entries:
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)
    return len(entries)


def compare(outcome: Outcome, reference: Path, out: Path) -> None:
    """Notes what differs from a run that nobody killed."""
    outcome.differing = differing(reference, out)
