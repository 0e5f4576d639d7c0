"""How long the demo says that it will still take."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.demo import DemoOptions
from pipelines.demo.plan import planned
from pipelines.demo.steps import Step, TimeLeft, in_words


class Machine:
    """A clock, and a machine that needs `slower` times the seconds that the steps say."""

    def __init__(self, steps: tuple[Step, ...], slower: float) -> None:
        self.now, self.slower, self.steps = 100.0, slower, steps
        self.left = TimeLeft(steps, clock=lambda: self.now)

    def work(self, seconds: float) -> None:
        self.now += self.slower * seconds


STEPS = (
    Step(title="counted", seconds=100, share=lambda name, done: done if name == "studies" else None),
    Step(title="silent", seconds=300),
    Step(title="last", seconds=50),
)


@given(slower=st.floats(0.1, 20), share=st.floats(0.05, 0.9))
def test_a_machine_that_keeps_its_speed_is_told_exactly(slower: float, share: float) -> None:
    machine = Machine(STEPS, slower)
    machine.left.begin(0)
    machine.left.hear("studies", 1, 100)
    assert machine.left.seconds() is None
    machine.work(100 * share)
    machine.left.hear("other", 1, 1)
    assert machine.left.seconds() is None
    machine.left.hear("studies", round(1000 * share), 1000)
    assert machine.left.seconds() == pytest.approx(slower * (450 - 100 * share), rel=0.05)
    machine.work(100 * (1 - share))
    machine.left.begin(1)
    assert machine.left.seconds() == pytest.approx(slower * 350)
    machine.work(200)
    assert machine.left.seconds() == pytest.approx(slower * 150)
    machine.work(100)
    machine.left.begin(2)
    machine.work(49)
    assert 0 < (machine.left.seconds() or 0) < slower * 3
    machine.work(1000)
    assert (machine.left.seconds() or 0) > 0


def test_a_step_that_was_done_before_says_nothing_about_the_machine() -> None:
    machine = Machine(STEPS, 2.0)
    machine.left.begin(0)
    machine.left.end(worked=False)
    machine.left.begin(1)
    machine.work(10)
    assert machine.left.seconds() is None
    machine.work(290)
    machine.left.begin(2)
    assert machine.left.seconds() == pytest.approx(100)


def test_the_plan_of_the_demo_follows_its_size() -> None:
    small, large = planned(DemoOptions()), planned(DemoOptions(studies=480, fold="all", preset="full"))
    assert [s.title for s in small[1:]] == [s.title for s in large[1:]]
    assert all(a.seconds < b.seconds for a, b in zip(small[:3], large[:3], strict=True))
    assert sum(s.seconds for s in small) < 7 * 60
    detectors, grader = small[1:3]
    shares = [grader.share(f"epoch {k}", done) or 0 for k in (1, 2, 3) for done in (0.0, 0.5)]
    assert shares == sorted(set(shares))
    assert 0 < shares[-1] <= 1
    assert (grader.share("crops", 0.5) or 0) < shares[0]
    assert grader.share("grading", 0.5) is None
    assert large[2].share("epoch 1", 0.5) is None
    assert (detectors.share("fold 0: localizing held-out studies", 0.5) or 0) > 0.5


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(12, "less than a minute left"), (40, "about 1 minute left"), (331, "about 6 minutes left")],
)
def test_minutes_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words
