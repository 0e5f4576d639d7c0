"""Processes of a Ray cluster that do the jobs of a run: hired where there is room, replaced where they die.

Each process is an actor that does one batch of jobs after another, so what it has loaded serves all of them. A batch
whose process died, with its node or alone, is given to another process, job by job. A job that ended as many processes
as `MOST_ENDED` is given up.
"""

import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, Generic, TypeAlias, TypeVar

from shared.runtime.bulk.ray_cluster import connected, load_ray, without_proxy
from shared.runtime.errors import InputError
from shared.runtime.hardware.cores import let_threads_sleep, take_share
from shared.runtime.names import hide_again, hiding
from shared.runtime.ownership import outputs_released
from shared.runtime.problems import counted
from shared.runtime.progress import log

J = TypeVar("J")
R = TypeVar("R")
# Some jobs, each with its number.
Batch: TypeAlias = list[tuple[int, J]]

# So many processes may die at one job. A node may take a process with it that could not help it.
MOST_ENDED: Final = 4
# Batches begun beyond the one whose results are due next, for each process: what bounds the results that wait.
_AHEAD: Final = 4
_LOOK_SECONDS: Final = 1.0
_PATIENCE_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What one process of the cluster takes of its node. Several may share a GPU."""

    cpus: int = 1
    gpus: float = 0.0

    def __str__(self) -> str:
        return counted(self.cpus, "core") + (f" and {self.gpus:g} GPU" if self.gpus else "")

    def places(self, resources: dict[str, float]) -> int:
        """How many processes a node with these resources has room for."""
        places = resources.get("CPU", 0.0) / self.cpus
        if self.gpus:
            places = min(places, resources.get("GPU", 0.0) / self.gpus)
        return math.floor(places)


def need_of(device: str, *, cpus: int = 1, gpus: float = 1.0) -> Need:
    """What a process of the connected cluster needs for a value of `--device`.

    Args:
      cpus: cores that it is to have, as far as a node can give them to as many processes as its GPUs serve.
      gpus: how much of a GPU, where the cluster has any and `device` allows it.

    Raises:
      InputError: for a certain GPU, since the cluster gives them out, or where it has none and one is asked for.
    """
    if device not in ("auto", "cuda", "cpu"):
        raise InputError(f"--device {device}: not with --engine ray, which gives out the GPUs; give auto, cuda or cpu")
    nodes = [node["Resources"] for node in load_ray().nodes() if node["Alive"]]
    with_gpus = [node for node in nodes if node.get("GPU", 0.0) >= gpus] if device != "cpu" else []
    if device == "cuda" and not with_gpus:
        raise InputError("--device cuda: no node of the Ray cluster has a GPU; give --device cpu")
    if not with_gpus:
        most = max((node.get("CPU", 0.0) for node in nodes), default=0.0)
        return Need(cpus=max(min(cpus, int(most)), 1))
    each = max(node.get("CPU", 0.0) * gpus / node["GPU"] for node in with_gpus)
    return Need(cpus=max(min(cpus, int(each)), 1), gpus=gpus)


@contextmanager
def crew_of(need: Need, *, advice: str, tell: bool = False) -> Iterator["Crew"]:
    """Processes of the cluster for the time of a block, with one connection for all of them.

    Args:
      need: of each process.
      advice: what the user can do when a job is given up for which nothing else stands in; ends the error message.
      tell: as in `shared.runtime.bulk.ray_cluster.connected`.

    Raises:
      InputError: as `connected` does.
    """
    with connected(tell=tell):
        crew = Crew(need=need, advice=advice)
        try:
            yield crew
        finally:
            crew.dismiss()


class _Process:
    """The actor: one process of the cluster."""

    def __init__(self, cores: int) -> None:
        import cv2

        without_proxy()
        let_threads_sleep()
        take_share(cores)
        cv2.setNumThreads(1)

    def is_there(self) -> None:
        """Returns, unless the process is gone."""

    def do(self, work: Callable[[Any], Any], batch: Sequence[Any], roots: dict[str, bool]) -> list[Any]:
        hide_again(roots)
        with outputs_released():
            return [work(job) for job in batch]


@dataclass(slots=True, kw_only=True)
class Crew:
    """A pool of processes on the connected cluster, to be used as a `shared.runtime.pool.Spread`.

    Work and jobs name files by absolute paths, which are the same on all nodes.
    """

    need: Need
    advice: str
    _ray: Any = field(default_factory=load_ray)
    # What Ray has not answered yet, and of which process: that it began, or that it is still there.
    _hiring: dict[Any, tuple[Any, bool]] = field(default_factory=dict)
    _idle: list[Any] = field(default_factory=list)
    _stillborn: int = 0
    _room: int = 0

    def __call__(
        self, work: Callable[[J], R], jobs: Iterable[J], /, *, chunk: int = 1,
        lost: Callable[[J, str], R] | None = None,
    ) -> Iterator[R]:  # fmt: skip
        """Does the jobs and yields their results in order.

        Raises:
          InputError: what a job raises, or when one is given up without `lost`, or processes die before they begin.
        """
        task = _Task(crew=self, work=work, batches=_batches(jobs, chunk), chunk=chunk, lost=lost)
        try:
            yield from task.results()
        finally:
            task.drop()

    def places(self) -> int:
        """How many processes the nodes have room for at this moment, whoever takes it."""
        return sum(self.need.places(node["Resources"]) for node in self._ray.nodes() if node["Alive"])

    def dismiss(self) -> None:
        """Ends all processes."""
        for actor in (*(actor for actor, _ in self._hiring.values()), *self._idle):
            self.end(actor)
        self._hiring.clear()
        self._idle.clear()

    def end(self, actor: Any) -> None:
        with suppress(Exception):  # the cluster may be gone
            self._ray.kill(actor)

    def hire(self, jobs: int, busy: int) -> int:
        """Asks for a process for each place that there is, as far as there are jobs; returns the number of places."""
        room = self.places()
        if room != self._room:
            log(f"{counted(room, 'process')} of {self.need} each")
            self._room = room
        for _ in range(min(max(room, 1), jobs) - len(self._hiring) - busy - len(self._idle)):
            # Deaths are counted where it is known which job a process was doing, so Ray restarts nothing by itself.
            kind = self._ray.remote(max_restarts=0, max_task_retries=0)(_Process)
            actor = kind.options(num_cpus=self.need.cpus, num_gpus=self.need.gpus).remote(self.need.cpus)
            self._hiring[actor.is_there.remote()] = actor, True
        return room

    def outcome(self, ref: Any, actor: Any) -> list[Any] | None:
        """What a call returned, or None where its process died. Raises what the call raised."""
        errors = self._ray.exceptions
        try:
            return self._ray.get(ref) or []
        except errors.RayTaskError as error:
            raise error.cause from None
        except errors.RayError:
            self.end(actor)
            # Others may have gone with the same node; no job is to pay for that.
            self._hiring |= {idle.is_there.remote(): (idle, False) for idle in self._idle}
            self._idle.clear()
            return None


def _batches(jobs: Iterable[J], chunk: int) -> Iterator[Batch[J]]:
    numbered = enumerate(jobs)
    while batch := list(islice(numbered, chunk)):
        yield batch


@dataclass(slots=True, kw_only=True)
class _Task(Generic[J, R]):
    """Jobs that a crew does. They are asked for as they are needed, because there may be millions."""

    crew: Crew
    work: Callable[[J], R]
    batches: Iterator[Batch[J]]
    chunk: int
    lost: Callable[[J, str], R] | None
    _queue: deque[Batch[J]] = field(default_factory=deque)
    _busy: dict[Any, tuple[Any, Batch[J]]] = field(default_factory=dict)
    _done: dict[int, R] = field(default_factory=dict)
    _ended: Counter[int] = field(default_factory=Counter)
    _heard: float = field(default_factory=time.monotonic)

    def results(self) -> Iterator[R]:
        due, places = 0, self.crew.places()
        while True:
            self._queue.extend(islice(self.batches, max(_AHEAD * max(places, 1) - len(self._queue), 0)))
            if not (self._queue or self._busy or self._done):
                return
            places = self.crew.hire(len(self._queue) + len(self._busy), len(self._busy))
            self._assign(due + _AHEAD * self.chunk * max(places, 1))
            self._look()
            while due in self._done:
                yield self._done.pop(due)
                due += 1

    def drop(self) -> None:
        """Ends the processes whose results nobody waits for."""
        for actor, _ in self._busy.values():
            self.crew.end(actor)

    def _assign(self, most: int) -> None:
        while self.crew._idle and self._queue and self._queue[0][0][0] < most:
            actor, batch = self.crew._idle.pop(), self._queue.popleft()
            self._busy[actor.do.remote(self.work, [job for _, job in batch], hiding())] = actor, batch

    def _look(self) -> None:
        """Waits a moment for a process to be ready, to finish a batch, or to die."""
        waiting = [*self.crew._hiring, *self._busy]
        told = self.crew._ray.wait(waiting, num_returns=1, timeout=_LOOK_SECONDS)[0] if waiting else []
        now = time.monotonic()
        if told or self._busy:
            self._heard = now
        elif now - self._heard > _PATIENCE_SECONDS:
            log(f"waiting for a node of the cluster with {self.crew.need} to spare")
            self._heard = now
        for ref in told:
            if ref in self._busy:
                self._finished(ref)
            else:
                self._begun(ref)

    def _begun(self, ref: Any) -> None:
        crew = self.crew
        actor, is_new = crew._hiring.pop(ref)
        if crew.outcome(ref, actor) is not None:
            crew._stillborn = 0
            crew._idle.append(actor)
            return
        crew._stillborn += is_new
        if crew._stillborn >= MOST_ENDED and not (crew._idle or self._busy):
            raise InputError(
                f"{MOST_ENDED} processes of the cluster died before they began; is this package installed on all nodes "
                "in the same version, and is there enough memory? Ray's logs on the nodes tell more"
            )

    def _finished(self, ref: Any) -> None:
        actor, batch = self._busy.pop(ref)
        outcome = self.crew.outcome(ref, actor)
        if outcome is not None:
            self.crew._idle.append(actor)
            self._done.update(zip((n for n, _ in batch), outcome, strict=True))
            return
        log("warning: a process of the cluster died; what it was doing is done again")
        for n, job in reversed(batch):
            self._ended[n] += 1
            if self._ended[n] < MOST_ENDED:
                self._queue.appendleft([(n, job)])
            else:
                self._done[n] = self._given_up(job)

    def _given_up(self, job: J) -> R:
        reason = f"ended {MOST_ENDED} processes of the cluster, one after another (out of memory, or a crash)"
        if self.lost is None:
            raise InputError(f"a job {reason}; {self.crew.advice}")
        return self.lost(job, reason)
