"""Progress: nobody waits long for a line."""

import os
import re
import threading
from itertools import pairwise

import pytest

from shared.runtime import progress
from shared.runtime.progress import log, longest_silence, reported, track


class Clock:
    """Time that passes when told to; everything written is noted with its time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.lines: list[tuple[float, str]] = []

    def work(self, seconds: float) -> None:
        """Lets time pass in small steps, as it does while a library computes; the reminder may speak at each."""
        for _ in range(int(seconds / 0.5)):
            self.now += 0.5
            progress._VOICE.speak_if_due()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    fake = Clock()
    monkeypatch.setattr(progress, "_clock", lambda: fake.now)
    monkeypatch.setattr("shared.runtime.progress.tqdm.write", lambda text, file: fake.lines.append((fake.now, text)))
    monkeypatch.setattr(progress, "_VOICE", progress._Voice())
    return fake


def longest_gap(clock: Clock) -> float:
    times = [0.0, *(at for at, _ in clock.lines), clock.now]
    return max(b - a for a, b in pairwise(times))


def test_there_is_no_long_silence_between_or_within_items(clock: Clock) -> None:
    log("lumbar predict: data -> out")
    log("loading the models")
    clock.work(12)
    for seconds in track([1.0, 2.0, 40.0, 0.5, 3.0], "predict"):
        clock.work(seconds)
    assert longest_gap(clock) <= 6
    texts = [text for _, text in clock.lines]
    assert texts[:4] == ["lumbar predict: data -> out", "loading the models", "loading the models ... 5 s",
                         "loading the models ... 10 s"]  # fmt: skip
    assert "predict: 2/5 (18 s)" in texts
    assert all(re.fullmatch(r"predict: \d/5 \(\d+ s\)", text) for text in texts[4:])


def test_a_log_of_hours_stays_short(clock: Clock) -> None:
    log("lumbar classify train: data -> run")
    clock.work(4 * 3600)
    assert longest_gap(clock) <= 61
    assert len(clock.lines) < 300
    assert [longest_silence(s) for s in (0, 50, 100, 600, 1e6)] == [5, 5, 10, 60, 60]


def test_warnings_are_not_what_the_command_is_doing(clock: Clock) -> None:
    log("reading the headers")
    log("warning: study 1: a slice is damaged")
    clock.work(5)
    assert clock.lines[-1][1] == "reading the headers ... 5 s"


def test_the_reminder_speaks_while_one_call_takes_long(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "_FIRST_SECONDS", 0.02)
    with reported("lumbar audit: data -> out"):
        threading.Event().wait(0.5)  # says nothing
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "lumbar audit: data -> out"
    assert len(lines) >= 3
    assert "progress" not in [thread.name for thread in threading.enumerate()]


def test_a_child_of_fork_can_speak(capfd: pytest.CaptureFixture[str]) -> None:
    with reported("begins"):
        child = os.fork()
        if child == 0:
            log("the child speaks")
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    assert "the child speaks" in capfd.readouterr().err
