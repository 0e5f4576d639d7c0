"""The one pool of processes behind every `--workers`. Light to import, so that its server can start while others load.

A worker process inherits nothing from the caller but its jobs, uses one thread, imports nothing from the current
folder, and ends when its parent ends.
"""

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing import forkserver, get_context, parent_process
from multiprocessing.connection import wait
from multiprocessing.context import BaseContext
from typing import Any, Final, Protocol, TypeVar

from shared.runtime.errors import Ended, InputError
from shared.runtime.hardware.cores import take_share, usable_cores
from shared.runtime.names import hide_again, hiding
from shared.runtime.progress import log

_PR_SET_PDEATHSIG: Final = 1
# Options of glibc's mallopt, and the largest block that it may keep.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT_BYTES: Final = 2**25
_GRACE_SECONDS: Final = 1.5
_FEWEST_FILES: Final = 64
# Not empty while this worker process does a job.
_BUSY: Final[list[bool]] = []

J = TypeVar("J")
R = TypeVar("R")


class Spread(Protocol):
    """Runs jobs on the pool and yields their results in order.

    `lost` makes the result of a job that ended every process it was given to, where the pool can tell which one it was:
    over Ray. Without `lost`, or on this machine, such a job ends the command.
    """

    def __call__(
        self, work: Callable[[J], R], jobs: Iterable[J], /, *, chunk: int = 1,
        lost: Callable[[J, str], R] | None = None,
    ) -> Iterator[R]: ...  # fmt: skip


def begin(*modules: str) -> None:
    """Starts the server that forks the processes; it imports the modules while this program continues."""
    forkserver.set_forkserver_preload(list(modules))
    _context()


@contextmanager
def processes(workers: int, *, advice: str = "try again with --workers 1 to see where") -> Iterator[Spread]:
    """One set of processes for all steps of a run. With one worker everything runs in this process.

    Args:
      workers: number of processes.
      advice: what the user can do when a process dies; ends the error message.

    Raises:
      InputError: when a process dies because it was killed, ran out of memory, or a decoder crashed on a damaged file.
    """
    if workers <= 1:
        yield _in_turn
        return
    if _few_open_files():
        log("warning: too few open files are allowed for worker processes (ulimit -n); everything runs in this one")
        yield _in_turn
        return
    with _safe_path():
        try:
            share = max(usable_cores() // workers, 1)
            pool = ProcessPoolExecutor(workers, mp_context=_context(), initializer=_settle, initargs=(hiding(), share))
        except OSError as error:  # no /dev/shm, or no room for semaphores in it
            log(f"warning: no worker processes can be started ({error.strerror}); everything runs in this one")
            yield _in_turn
            return

        def spread(
            work: Callable[[J], R], jobs: Iterable[J], /, *, chunk: int = 1,
            lost: Callable[[J, str], R] | None = None,
        ) -> Iterator[R]:  # fmt: skip
            try:
                yield from pool.map(partial(_in_order, work), jobs, chunksize=chunk)
            except (BrokenProcessPool, EOFError) as error:  # EOFError: the server itself could not start a process
                raise InputError(
                    "a worker process died (possible causes: out of memory, a damaged file that crashed the decoder, "
                    f"or an error printed above); {advice}"
                ) from error

        try:
            yield spread
        except BaseException:
            _end(pool)
            raise
        finally:
            pool.shutdown()


def _few_open_files() -> bool:
    """Whether so few files may be open that Python's process server would fail, with a traceback of its own."""
    try:
        import resource
    except ImportError:  # not on this system
        return False
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return most != resource.RLIM_INFINITY and most < _FEWEST_FILES


def _end(pool: ProcessPoolExecutor) -> None:
    """Ends the processes of a pool whose results nobody waits for: they leave their blocks, or are killed."""
    workers = list((pool._processes or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for worker in workers:
        worker.terminate()
    until = time.monotonic() + _GRACE_SECONDS
    for worker in workers:
        worker.join(max(0.0, until - time.monotonic()))
        worker.kill()


def _in_turn(
    work: Callable[[J], R], jobs: Iterable[J], /, *, chunk: int = 1, lost: Callable[[J, str], R] | None = None
) -> Iterator[R]:
    return map(work, jobs)


def _in_order(work: Callable[[J], R], job: J) -> R:
    """Does one job in a process; one that is asked to end removes its temporary files first."""
    _BUSY.append(True)
    try:
        return work(job)
    except Ended:
        os._exit(1)
    finally:
        _BUSY.clear()


def _asked_to_end(number: int, _frame: object) -> None:
    if not _BUSY:
        os._exit(1)
    raise Ended(number)


def _settle(roots: dict[str, bool], cores: int) -> None:
    """Sets up a process: its share of the cores, because the pool fills them all. It ends when its parent ends."""
    import cv2

    take_share(cores)

    cv2.setNumThreads(1)
    keep_memory()
    hide_again(roots)
    # The parent decides: Ctrl-C and a closed terminal reach the whole group.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _asked_to_end)
    _end_with_parent()
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def keep_memory() -> None:
    """Tells glibc to keep freed blocks of some megabytes: new pages took a fifth of the time of a slice."""
    if sys.platform == "linux":
        with suppress(AttributeError, OSError):
            library = ctypes.CDLL(None)
            library.mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)
            library.mallopt(_M_TRIM_THRESHOLD, 2 * _KEPT_BYTES)


def _end_with_parent() -> None:
    """Asks the system to kill this process when its parent ends, however busy it is; a thread may be kept waiting.

    The parent of a forked process is the server, which ends once nobody holds its pipe: the command, and every process
    that could start others through it. So this process lets go of the pipe.
    """
    server: Any = forkserver._forkserver
    if server._forkserver_alive_fd is not None:
        with suppress(OSError):
            os.close(server._forkserver_alive_fd)
        server._forkserver_alive_fd = None
    _die_with_parent()
    if hasattr(os, "register_at_fork"):  # what this process forks, as torch's loaders do, inherits nothing of this
        os.register_at_fork(after_in_child=_die_with_parent)


def _die_with_parent() -> None:
    if sys.platform == "linux":
        with suppress(AttributeError, OSError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)  # nobody is left to notice an orderly exit


def _context() -> BaseContext:
    """The start method. Never plain fork, which would copy the caller's threads in an undefined state.

    On Linux a server forks the processes with its modules loaded. Each process starts afresh on other systems, because
    macOS libraries do not survive a fork, and where the server's socket path would exceed 107 bytes (a long TMPDIR).
    """
    if sys.platform != "linux":
        return get_context("spawn")
    try:
        with _safe_path():
            forkserver.ensure_running()
    except OSError:
        return get_context("spawn")
    return get_context("forkserver")


@contextmanager
def _safe_path() -> Iterator[None]:
    """Processes started in this block do not import what lies in the current folder, not even while they start."""
    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop("PYTHONSAFEPATH", None)
        else:
            os.environ["PYTHONSAFEPATH"] = before
