"""Runs cases in children of a warmed process: a death, a hang or an exception of one case is the answer, not the end.

Fork, not spawn: importing numpy and pydicom costs more than a hundred cases. A process may only be forked while it has
one thread, so nothing is read before the fork, and the thread pools of numeric libraries are switched off.
"""

import atexit
import json
import os
import re
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

from benchmarks.fuzz.case import Case
from benchmarks.fuzz.inputs.sound import Kind, Sound
from shared.runtime.errors import InputError

MEMORY_BYTES: Final = 2 * 2**30
SECONDS: Final = 10.0
_PATIENCE: Final = 6
_DEEPEST_PLACE: Final = 6

Outcome = Literal["read", "told", "exception", "signal", "timeout"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of one case.

    Attributes:
      said: the messages it was told with, or the exception and its place.
      peak_mib: largest resident memory of the child or of one of its own children, beyond what its parent held.
    """

    number: int
    kind: Kind
    name: str
    damage: tuple[str, ...]
    outcome: Outcome
    said: tuple[str, ...] = ()
    seconds: float
    peak_mib: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def run_sound(sound: Sound) -> Result:
    """Reads a sound input as a case does, to compare with."""
    return run_case(Case(number=-1, sound=sound, damage=(), changed={}))


def run_case(case: Case) -> Result:
    """Runs a case within its limits of memory and time; once more, with more time, where the machine may be busy."""
    result = _run_once(case, SECONDS)
    return _run_once(case, _PATIENCE * SECONDS) if result.outcome == "timeout" else result


def _run_once(case: Case, seconds_most: float) -> Result:
    folder = Path(tempfile.mkdtemp(prefix="lumbar-fuzz-"))
    try:
        case.sound.write(folder, case.changed)
        begun = time.monotonic()
        ended = _in_child(lambda: _read(case.sound, folder), seconds_most)
        seconds = time.monotonic() - begun
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    outcome, said = _judged(ended)
    return Result(
        number=case.number, kind=case.sound.kind, name=case.sound.name, damage=case.damage, outcome=outcome, said=said,
        seconds=round(seconds, 3), peak_mib=round(ended.peak_mib, 1),
    )  # fmt: skip


def _read(sound: Sound, folder: Path) -> tuple[Outcome, list[str]]:
    tempfile.tempdir = str(folder)  # a case leaves nothing behind
    try:
        said = list(sound.read(folder))
    except InputError as error:
        said = [str(error)]
    except BaseException as error:  # noqa: BLE001 - a panic is no Exception, and is what is looked for
        return "exception", [_placed(error)]
    return ("told" if said else "read"), [text.replace(str(folder), "<folder>") for text in said]


def _placed(error: BaseException) -> str:
    """An exception and the innermost places that it passed."""
    frames = traceback.extract_tb(error.__traceback__)[-_DEEPEST_PLACE:]
    places = " > ".join(f"{Path(f.filename).stem}.{f.name}:{f.lineno}" for f in frames)
    return f"{type(error).__name__}: {str(error)[:200]} [{places}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ended:
    """How a child ended.

    Attributes:
      status: as `os.wait` gives it; None where it was killed for its time.
      answer: what it wrote; empty where it died before.
      peak_mib: its largest resident memory, and that of the largest of its own children.
    """

    status: int | None
    answer: Any
    peak_mib: float


def _judged(ended: _Ended) -> tuple[Outcome, tuple[str, ...]]:
    if ended.status is None:
        return "timeout", ()
    if os.WIFSIGNALED(ended.status):
        return "signal", (signal.Signals(os.WTERMSIG(ended.status)).name,)
    if ended.answer is None:
        return "exception", (f"exit code {os.waitstatus_to_exitcode(ended.status)} without an answer",)
    outcome, said = ended.answer
    return outcome, tuple(said)


def _in_child(read: Callable[[], Any], seconds_most: float) -> _Ended:
    receive, send = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(receive)
        _limit_own()
        answer = read()
        children = _largest_child_kib()
        with os.fdopen(send, "wb") as pipe:
            pipe.write(json.dumps([answer, children]).encode("utf-8", "backslashreplace"))
        os._exit(0)
    os.close(send)
    watched = os.pidfd_open(pid)
    try:
        ready = select.select([receive, watched], [], [], seconds_most)[0]
        if receive not in ready:  # it hangs, or it died: then its own children may still hold the pipe
            _kill_group(pid)
        written = _all_of(receive)
    finally:
        os.close(receive)
        os.close(watched)
    _, status, used = os.wait4(pid, 0)
    _kill_group(pid)  # what it started and left behind
    answer, children = json.loads(written) if written else (None, 0)
    peak_mib = (used.ru_maxrss + children) / 1024
    return _Ended(status=status if ready else None, answer=answer, peak_mib=peak_mib)


def _all_of(pipe: int) -> bytes:
    chunks = []
    while chunk := os.read(pipe, 2**16):
        chunks.append(chunk)
    return b"".join(chunks)


def _largest_child_kib() -> int:
    """Ends the children of this process, such as the decoder, and returns the peak memory of the largest one."""
    running: list[str] = []
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):  # a thread that has just ended
            running += (task / "children").read_text(encoding="ascii").split()
    peaks = [_peak_kib(Path("/proc", pid)) for pid in running]
    atexit._run_exitfuncs()
    own, ended = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    # Between fork and exec a child counts as large as its parent, so less than that says nothing of those that died.
    return max([*peaks, ended if ended > own else 0])


def _peak_kib(process: Path) -> int:
    with suppress(OSError):  # a child that has just ended
        found = re.search(r"VmHWM:\s+([0-9]+) kB", (process / "status").read_text(encoding="utf-8"))
        return int(found[1]) if found else 0
    return 0


def _limit_own() -> None:
    """Sets the limits of the child that calls it, and silences it."""
    os.setpgid(0, 0)
    resource.setrlimit(resource.RLIMIT_AS, (_address_space() + MEMORY_BYTES,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        os.dup2(nowhere, stream.fileno())


def _address_space() -> int:
    """What this process takes by its imports alone, in bytes."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return
