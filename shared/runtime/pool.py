"""The one pool of processes behind every `--workers`. Light to import, so that its server can start while others load.

A worker process inherits nothing from the caller but its jobs, uses one thread, imports nothing from the current
folder, and ends when its parent ends.
"""

import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import forkserver, get_context, parent_process
from multiprocessing.connection import wait
from multiprocessing.context import BaseContext
from typing import Protocol, TypeVar

from shared.runtime.errors import InputError
from shared.runtime.names import hide_again, hiding

J = TypeVar("J")
R = TypeVar("R")


class Spread(Protocol):
    """Runs jobs on the pool and yields their results in order."""

    def __call__(self, work: Callable[[J], R], jobs: Iterable[J], /, *, chunk: int = 1) -> Iterator[R]: ...


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
    with ProcessPoolExecutor(workers, mp_context=_context(), initializer=_settle, initargs=(hiding(),)) as pool:

        def spread(work: Callable[[J], R], jobs: Iterable[J], /, *, chunk: int = 1) -> Iterator[R]:
            try:
                yield from pool.map(work, jobs, chunksize=chunk)
            except BrokenProcessPool as error:
                raise InputError(
                    "a worker process died (possible causes: out of memory, a damaged file that crashed the decoder, "
                    f"or an error printed above); {advice}"
                ) from error

        yield spread


def _in_turn(work: Callable[[J], R], jobs: Iterable[J], /, *, chunk: int = 1) -> Iterator[R]:
    return map(work, jobs)


def _settle(roots: dict[str, bool]) -> None:
    """Sets up a process: one thread, because the pool already fills the cores. It ends when its parent ends."""
    import cv2

    cv2.setNumThreads(1)
    hide_again(roots)
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


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
    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"  # the server must not import what lies in the current folder
    try:
        forkserver.ensure_running()
    except OSError:
        return get_context("spawn")
    finally:
        if before is None:
            del os.environ["PYTHONSAFEPATH"]
        else:
            os.environ["PYTHONSAFEPATH"] = before
    return get_context("forkserver")
