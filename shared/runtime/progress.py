"""Progress of long work: a bar on a terminal, plain lines elsewhere, and never a long silence."""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import Final, TypeVar

from tqdm import tqdm

from shared.runtime.errors import printable, shown

T = TypeVar("T")
# The longest silence: short at first, for somebody who waits, and longer in work of hours, whose log somebody keeps.
_FIRST_SECONDS: Final = 5.0
_MOST_SECONDS: Final = 60.0
_SHARE: Final = 0.1
_LISTENERS: Final[list[Callable[[str, int, int | None], None]]] = []


def log(message: str) -> None:
    """Writes one line to standard error without disturbing a progress bar."""
    with _VOICE.lock:
        _VOICE.write(message)
        if not message.startswith("warning: "):
            _VOICE.about(message)


def track(items: Iterable[T], description: str, *, total: int | None = None) -> Iterator[T]:
    """Yields the items and shows the progress."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    if sys.stderr.isatty() and not _VOICE.silent:
        for done, item in enumerate(tqdm(items, desc=description, total=total, leave=False), 1):
            yield item
            _hear(description, done, total)
        return
    started, done = _clock(), 0

    def told() -> str:
        return f"{description}: {done}/{total if total is not None else '?'} ({_clock() - started:.0f} s)"

    with _VOICE.telling(told):
        for item in items:
            yield item
            done += 1
            _hear(description, done, total)
            _VOICE.speak_if_due()


def speak_no_more() -> None:
    """Says nothing of this process's progress from now on: another process speaks for both."""
    _VOICE.silent = True


@contextmanager
def heard(hear: Callable[[str, int, int | None], None]) -> Iterator[None]:
    """While the block runs, `hear` gets description, finished items and total of what this process tracks."""
    _LISTENERS.append(hear)
    try:
        yield
    finally:
        _LISTENERS.remove(hear)


def _hear(description: str, done: int, total: int | None) -> None:
    for hear in _LISTENERS:
        hear(description, done, total)


@contextmanager
def reported(begins: str) -> Iterator[None]:
    """Says that a command begins, and while its block says nothing, every few seconds what it is still doing.

    A thread does that, because a library may be loaded, or a large file read, in one call.
    """
    _VOICE.started = _clock()
    log(begins)
    over = threading.Event()

    def remind() -> None:
        while not over.wait(max(_VOICE.due() - _clock(), 0.05)):
            _VOICE.speak_if_due()

    reminder = threading.Thread(target=remind, name="progress", daemon=True)
    reminder.start()
    try:
        yield
    finally:
        over.set()
        reminder.join()


@contextmanager
def at_rest() -> Iterator[None]:
    """Says nothing while the block waits for something outside: a command without work owes no sign of life."""
    _VOICE.resting = True
    try:
        yield
    finally:
        _VOICE.resting = False


def longest_silence(elapsed_seconds: float) -> float:
    """How many seconds a command that has run for so long may say nothing."""
    return min(_MOST_SECONDS, max(_FIRST_SECONDS, _SHARE * elapsed_seconds))


def _clock() -> float:
    return time.monotonic()


class _Voice:
    """What this process has said last, and what it would say next."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.started = self._said = self._since = _clock()
        self.resting = self.silent = False
        self._now = ""
        self._telling: list[Callable[[], str]] = []

    def write(self, message: str) -> None:
        self._said = _clock()
        if self.silent:
            return
        tqdm.write(printable(shown(message)), file=sys.stderr)
        sys.stderr.flush()

    def about(self, message: str) -> None:
        """Takes a message for what the process is doing from now on."""
        self._now, self._since = message, self._said

    @contextmanager
    def telling(self, told: Callable[[], str]) -> Iterator[None]:
        """Reminders say what `told` returns while the block runs."""
        self._telling.append(told)
        try:
            yield
        finally:
            self._telling.remove(told)

    def due(self) -> float:
        """When the silence has lasted long enough."""
        return self._said + longest_silence(self._said - self.started)

    def speak_if_due(self) -> None:
        with self.lock:
            now = _clock()
            if now < self.due():
                return
            if self.resting:
                self._said = now
                return
            with tqdm.get_lock():  # type: ignore[no-untyped-call]  # another thread may be about to add a bar
                bars = [bar for bar in getattr(tqdm, "_instances", ()) if not bar.disable]
            if bars:  # their clocks go on
                for bar in bars:
                    bar.refresh()
                self._said = now
            elif self._telling:
                self.write(self._telling[-1]())
            else:
                self.write(f"{self._now} ... {now - self._since:.0f} s")


_VOICE: Final = _Voice()
if hasattr(os, "register_at_fork"):  # torch's loaders fork: a child must not begin with the lock of a thread it lacks
    os.register_at_fork(
        before=_VOICE.lock.acquire, after_in_parent=_VOICE.lock.release, after_in_child=_VOICE.lock.release
    )
