"""Processes that work for `lumbar prepare`; light to import, so that the first of them starts while the rest loads."""

import multiprocessing
import multiprocessing.forkserver
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Final, Protocol, TypeVar

from shared.errors import InputError

# A server forks them: they inherit what it has imported and nothing of whoever calls, whose threads a plain fork would
# copy in an undefined state.
_CONTEXT: Final = multiprocessing.get_context("forkserver")

J = TypeVar("J")
R = TypeVar("R")


class Spread(Protocol):
    """Runs jobs on the processes there are; results in the jobs' order."""

    def __call__(self, work: Callable[[J], R], jobs: Iterable[J], /) -> Iterator[R]: ...


def begin(*modules: str) -> None:
    """Starts the server that forks the processes, which imports the modules while this program goes on."""
    _CONTEXT.set_forkserver_preload(list(modules))
    multiprocessing.forkserver.ensure_running()


@contextmanager
def processes(workers: int) -> Iterator[Spread]:
    """One set of processes for all steps of a run; with one worker everything runs in this process."""
    if workers <= 1:
        yield map
        return
    with ProcessPoolExecutor(workers, mp_context=_CONTEXT) as pool:

        def spread(work: Callable[[J], R], jobs: Iterable[J], /) -> Iterator[R]:
            try:
                yield from pool.map(work, jobs)
            except BrokenProcessPool as error:
                raise InputError(
                    "a decoding process died (out of memory, or a decoder crashed on a damaged file); what is done is "
                    "kept, go on with --resume --workers 1 to see where"
                ) from error

        yield spread
