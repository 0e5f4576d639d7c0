"""The steps of the demo: numbered headings, the seconds of each, and how long the rest will take.

What a step costs is known from a measured run, in seconds of that machine. How fast this machine is, is known from what
it has done so far: first from the synthetic studies, which are counted, and then from every step that it has finished.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from shared.runtime.documents import read_document
from shared.runtime.files import write_json
from shared.runtime.problems import counted
from shared.runtime.progress import heard, log

AGAIN: Final = "restore the file, or begin anew with --overwrite"
_FIRST_SECONDS: Final = 10.0
_EVERY_SECONDS: Final = 30.0
# Less than this of a step says little about its speed.
_TELLING_SHARE: Final = 0.04
_LEAST_LEFT: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of the demo.

    Attributes:
      title: what the heading says.
      seconds: what it took on the machine that was measured.
      share: how much of the step a progress bar of the given name means to be done, 0 to 1, when it has the given
        share; None for a bar that says nothing of the whole.
    """

    title: str
    seconds: float
    share: Callable[[str, float], float | None] = lambda name, done: None


class TimeLeft:
    """How long the steps will still take."""

    def __init__(self, steps: Sequence[Step], clock: Callable[[], float] = time.monotonic) -> None:
        self._steps, self._clock = steps, clock
        self._at, self._since, self._share = -1, 0.0, 0.0
        self._spent = self._worth = 0.0

    def begin(self, at: int) -> None:
        """The step of that number begins, and the one before has ended."""
        self.end()
        self._at, self._since, self._share = at, self._clock(), 0.0

    def end(self, *, worked: bool = True) -> None:
        """The step has ended; one that found its work done says nothing about the machine."""
        if self._at >= 0 and worked:
            self._spent += self._clock() - self._since
            self._worth += self._steps[self._at].seconds
        self._at = -1

    def hear(self, name: str, done: int, total: int | None) -> None:
        """Takes the progress of a bar."""
        if self._at >= 0 and total:
            share = self._steps[self._at].share(name, done / total)
            self._share = max(self._share, share or 0.0)

    def seconds(self) -> float | None:
        """Seconds that are left; None before anything is known of this machine."""
        if self._at < 0:
            return None
        step, spent = self._steps[self._at], self._clock() - self._since
        later = sum(s.seconds for s in self._steps[self._at + 1 :])
        told = self._share >= _TELLING_SHARE
        worth = self._worth + (self._share * step.seconds if told else 0.0)
        if not worth:
            return None
        pace = (self._spent + (spent if told else 0.0)) / worth
        expected = spent / self._share if told else pace * step.seconds
        return max(expected - spent, _LEAST_LEFT * expected) + pace * later


def in_words(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"about {counted(minutes, 'minute')} left" if minutes else "less than a minute left"


class Steps:
    """Logs numbered headings with the time that is left, and records the seconds of each step over resumed calls."""

    def __init__(self, path: Path, steps: Sequence[Step]) -> None:
        self._path, self._steps, self.left = path, steps, TimeLeft(steps)
        self._seconds: dict[str, float] = read_document(path, dict[str, float], advice=AGAIN) if path.is_file() else {}
        self._told, self._told_at = "", time.monotonic()

    @contextmanager
    def running(self) -> Iterator["Steps"]:
        """Says every now and then how long the rest will take, while the block runs."""
        over = threading.Event()

        def tell() -> None:
            while not over.wait(1.0):
                self._tell()

        teller = threading.Thread(target=tell, name="time left", daemon=True)
        teller.start()
        try:
            with heard(self.left.hear):
                yield self
        finally:
            over.set()
            teller.join()

    @contextmanager
    def step(self, number: int, *, done: bool = False) -> Iterator[None]:
        """One step, from 0.

        Args:
          done: whether an interrupted demo has finished it.
        """
        step, since = self._steps[number], time.monotonic()
        self.left.begin(number)
        left = self.left.seconds()
        self._told_at, self._told = time.monotonic(), "" if left is None else in_words(left)
        log(f"[{number + 1}/{len(self._steps)}] {step.title}{f' ({self._told})' if self._told else ''}")
        yield
        self.left.end(worked=not done)
        self._seconds[step.title] = round(self._seconds.get(step.title, 0.0) + time.monotonic() - since, 1)
        write_json(self._path, self._seconds)

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds of all finished steps."""
        return dict(self._seconds)

    def _tell(self) -> None:
        waited = time.monotonic() - self._told_at
        left = self.left.seconds()
        if left is None or waited < (_EVERY_SECONDS if self._told else _FIRST_SECONDS):
            return
        words = in_words(left)
        if words != self._told:
            self._told, self._told_at = words, time.monotonic()
            log(words)
