"""The one pool of processes behind every `--workers`; light to import, so that its server starts while the rest loads.

A process inherits nothing of the caller but its jobs, keeps to one thread, imports nothing from the current folder, and
ends when the program that it works for does.
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

J = TypeVar("J")
R = TypeVar("R")


class Spread(Protocol):
    """Runs jobs on the processes there are; results in the jobs' order."""

    def __call__(self, work: Callable[[J], R], jobs: Iterable[J], /, *, chunk: int = 1) -> Iterator[R]: ...


def begin(*modules: str) -> None:
    """Starts the server that forks the processes, which imports the modules while this program goes on."""
    forkserver.set_forkserver_preload(list(modules))
    _context()


@contextmanager
def processes(workers: int, *, advice: str = "try again with --workers 1 to see where") -> Iterator[Spread]:
    """One set of processes for all steps of a run; with one worker everything runs in this process.

    Args:
      workers: how many processes there are.
      advice: what a user can do when a process is lost, the end of that error's message.

    Raises:
      InputError: when a process dies: out of memory, a decoder that crashed on a damaged file, a kill.
    """
    if workers <= 1:
        yield _in_turn
        return
    with ProcessPoolExecutor(workers, mp_context=_context(), initializer=_settle) as pool:

        def spread(work: Callable[[J], R], jobs: Iterable[J], /, *, chunk: int = 1) -> Iterator[R]:
            try:
                yield from pool.map(work, jobs, chunksize=chunk)
            except BrokenProcessPool as error:
                raise InputError(
                    "a worker process died (out of memory, a decoder crashed on a damaged file, or what is printed "
                    f"above); {advice}"
                ) from error

        yield spread


def _in_turn(work: Callable[[J], R], jobs: Iterable[J], /, *, chunk: int = 1) -> Iterator[R]:
    return map(work, jobs)


def _settle() -> None:
    """Begins a process: one thread, because the pool already fills the cores, and an end when its parent ends."""
    import cv2

    cv2.setNumThreads(1)
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)  # nobody is left to hear of an orderly end


def _context() -> BaseContext:
    """Processes that inherit nothing of the caller, whose threads a plain fork would copy in an undefined state.

    On Linux a running server forks them with its modules loaded. Elsewhere (libraries of macOS do not survive a fork),
    and where its socket cannot be had (a path over 107 bytes in a long TMPDIR), each starts fresh.
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
