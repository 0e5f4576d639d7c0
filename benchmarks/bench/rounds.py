"""Jobs that are timed in turn, round after round, and the lines of the report that they give."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

Times = dict[str, list[float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One ratio of the report.

    Attributes:
      what, against: what is measured, and its reference.
      ratio: median over the rounds; `low` and `high` are their range.
      target: what was asked for, in words; empty where nothing was.
      note: the measured values in words.
    """

    what: str
    against: str
    ratio: float
    low: float
    high: float
    rounds: int
    target: str = ""
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def in_turn(jobs: Mapping[str, Callable[[], object]], rounds: int) -> Times:
    """Runs each job once in every round: name -> seconds, so that a busy moment meets all of them."""
    times: Times = {name: [] for name in jobs}
    for _ in range(rounds):
        for name, job in jobs.items():
            started = time.perf_counter()
            job()
            times[name].append(time.perf_counter() - started)
    return times


def line(
    what: str, against: str, over: Sequence[float], under: Sequence[float], *, target: str = "", note: str = ""
) -> Line:
    """The ratio `over / under` of each round."""
    ratios = sorted(a / b for a, b in zip(over, under, strict=True))
    return Line(
        what=what, against=against, ratio=statistics.median(ratios), low=ratios[0], high=ratios[-1],
        rounds=len(ratios), target=target, note=note,
    )  # fmt: skip
