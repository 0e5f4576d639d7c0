"""Processes that work for `lumbar prepare`; light to import, so that the first of them starts while the rest loads."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import forkserver, get_context
from multiprocessing.context import BaseContext
from typing import Protocol, TypeVar

from shared.runtime.errors import InputError

J = TypeVar("J")
R = TypeVar("R")


class Spread(Protocol):
    """Runs jobs on the processes there are; results in the jobs' order."""

    def __call__(self, work: Callable[[J], R], jobs: Iterable[J], /) -> Iterator[R]: ...


def begin(*modules: str) -> None:
    """Starts the server that forks the processes, which imports the modules while this program goes on."""
    forkserver.set_forkserver_preload(list(modules))
    _context()


@contextmanager
def processes(workers: int) -> Iterator[Spread]:
    """One set of processes for all steps of a run; with one worker everything runs in this process."""
    if workers <= 1:
        yield map
        return
    with ProcessPoolExecutor(workers, mp_context=_context()) as pool:

        def spread(work: Callable[[J], R], jobs: Iterable[J], /) -> Iterator[R]:
            try:
                yield from pool.map(work, jobs)
            except BrokenProcessPool as error:
                raise InputError(
                    "a decoding process died (out of memory, a decoder crashed on a damaged file, or what is printed "
                    "above); what is done is kept, go on with --resume --workers 1 to see where"
                ) from error

        yield spread


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
