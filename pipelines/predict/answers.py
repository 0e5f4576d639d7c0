"""Who answers the studies of a prediction: this process, or several side by side."""

import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from pipelines.grader import Grader
from pipelines.predict.request import MOST_ON_GPU, PredictRequest
from pipelines.predict.study import StudyAnswer, StudyJob, Work, WorkerTask, warm
from shared.data.source import StudySource
from shared.out_of_fold import FoldModels
from shared.runtime import pool
from shared.runtime.bulk.engine import Engine
from shared.runtime.problems import counted
from shared.runtime.progress import log
from shared.study import LoadedStudy

# What worker processes need and what takes long to import; their server imports it once for all of them.
_PRELOADED = (
    "pipelines.predict.study",
    "classify.predict",
    "classify.network.model",
    "localize.detector.yolo.preloaded",
)


class Answers(Protocol):
    """Answers studies in their order. `ready` loads the models, or raises `InputError` where that is impossible.

    `out_of_fold` says whether each study is answered only by the models of one fold.
    """

    @property
    def out_of_fold(self) -> bool: ...

    def ready(self, source: StudySource) -> None: ...

    def of(self, source: StudySource, work: Work) -> Iterator[StudyAnswer]: ...


@dataclass(frozen=True, slots=True)
class Here:
    """Answers in this process, each study with the models that `grader_for` gives for it."""

    grader_for: Callable[[str], Grader]
    out_of_fold: bool = False
    # Studies whose headers were read while the models were loaded.
    _read: dict[str, LoadedStudy] = field(default_factory=dict)

    def ready(self, source: StudySource) -> None:
        log("loading the models")
        for study_id in source.study_ids[:1]:
            if source.remote is not None:
                self.grader_for(study_id)
                continue
            with ThreadPoolExecutor(1) as beside:
                reading = beside.submit(source.load, study_id)
                self.grader_for(study_id)
                self._read[study_id] = reading.result()

    def of(self, source: StudySource, work: Work) -> Iterator[StudyAnswer]:
        for study_id in source.study_ids:
            read = self._read.pop(study_id, None)
            yield work.study(source, study_id, partial(self.grader_for, study_id), read=read)


@dataclass(frozen=True, slots=True, kw_only=True)
class SideBySide:
    """Answers in several processes, each with models of its own and its share of the cores.

    On a CPU this beats threads within one network, which wait for each other, and lets one study's headers, pixels and
    pictures be worked on while another one is in the networks (docs/adr/0039).
    """

    spread: pool.Spread
    processes: int
    models: FoldModels[Grader]
    key: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def out_of_fold(self) -> bool:
        return self.models.out_of_fold

    def ready(self, source: StudySource) -> None:
        log(f"loading the models in {counted(self.processes, 'process')}")
        folds = [self.models.fold_of(study_id) for study_id in source.study_ids[:1]] * self.processes
        for _ in self.spread(partial(warm, self.key, self.models.load), folds):
            pass

    def of(self, source: StudySource, work: Work) -> Iterator[StudyAnswer]:
        task = WorkerTask(key=self.key, work=work, load=self.models.load)
        yield from self.spread(
            task, (StudyJob(source=source.only(s), fold=self.models.fold_of(s)) for s in source.study_ids),
            lost=task.given_up,
        )  # fmt: skip


@contextmanager
def answering(request: PredictRequest, studies: Sequence[str], models: FoldModels[Grader]) -> Iterator[Answers]:
    """Whoever answers so many studies; worker processes end with the block."""
    if request.engine is Engine.RAY:
        with _on_cluster(request, models) as answers:
            yield answers
        return
    if request.may_spread(len(studies)):
        pool.begin(*_PRELOADED)  # its imports run while this process does its own
    count = request.processes(len(studies))
    if count == 1:
        yield Here(models, models.out_of_fold)
        return
    with pool.processes(count, advice="continue with --resume and fewer --workers") as spread:
        yield SideBySide(spread=spread, processes=count, models=models)


@contextmanager
def _on_cluster(request: PredictRequest, models: FoldModels[Grader]) -> Iterator[SideBySide]:
    from shared.runtime.bulk.crew import crew_of, need_of
    from shared.runtime.bulk.ray_cluster import connected

    with connected():
        need = need_of(request.device, gpus=1 / MOST_ON_GPU)
        with crew_of(need, advice="continue with --resume") as crew:
            yield SideBySide(spread=crew, processes=max(crew.places(), 1), models=models)
