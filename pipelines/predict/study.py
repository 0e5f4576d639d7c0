"""All that is done of one study, in this process or in one of several: its answer, its JSON, its page."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from pipelines.grader import Grader
from pipelines.pages.folder import PageFolder
from pipelines.pages.index_page import StudyRow
from pipelines.record import StudyRecord
from pipelines.result import StudyResult
from shared.data.identity import study_key
from shared.data.source import StudySource
from shared.data.unpack import Input
from shared.dicom.pixels import kept_pixels
from shared.labels import FINDINGS
from shared.probabilities.reasons import PriorReason
from shared.runtime.files import inside, write_json
from shared.runtime.problems import Failure
from shared.runtime.unfinished import Results
from shared.study import LoadedStudy, Study

if TYPE_CHECKING:
    from pipelines.clinic.export import DicomExport

# Loads the models of a fold, or of all folds for None.
Load = Callable[[Sequence[int] | None], Grader]


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyAnswer:
    """What the tables over all studies need of one.

    Attributes:
      result: without its slices, since those of very many studies would fill the memory.
      failure: why nothing of the study could be graded.
      row: its line of the index; None without pages.
    """

    result: StudyResult
    failure: Failure | None
    row: StudyRow | None


class Work(Protocol):
    """What is done of each study: `StudyWork`, or `pipelines.predict.far.FarWork` around it."""

    def study(
        self, source: StudySource, study_id: str, grader: Callable[[], Grader], *, read: LoadedStudy | None = None
    ) -> StudyAnswer: ...

    def given_up(self, study_id: str, grader: Callable[[], Grader], reason: str) -> StudyAnswer: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyWork:
    """What is done of each study of one prediction.

    Attributes:
      out: of the prediction.
      given: the input that the studies were found in.
      records: answers that an interrupted call has kept; the others are added.
      export: writes each result as DICOM objects.
      pages: whether to write a page per study.
    """

    out: Path
    given: Input
    records: Results[StudyRecord]
    export: "DicomExport | None" = None
    pages: bool = True

    def study(
        self, source: StudySource, study_id: str, grader: Callable[[], Grader], *, read: LoadedStudy | None = None
    ) -> StudyAnswer:
        """Answers a study of a source; `read` are its headers where they have been read already."""
        return self.answer(read or source.load(study_id), grader)

    def answer(self, loaded: LoadedStudy, grader: Callable[[], Grader]) -> StudyAnswer:
        """Answers a study, unless an interrupted call has, and writes its files."""
        pages, study_id = PageFolder(self.out, wanted=self.pages), loaded.study.study_id

        def predicted() -> StudyRecord:
            pages.forget(study_id)
            return StudyRecord.of(grader().predict(loaded))

        with kept_pixels():
            record = self.records.fetch(study_id, study_key(loaded, self.given), predicted)
            result = record.result(loaded)
            failure = result.failure
            if self.export is not None:
                result = self.export.write(result, self.out)
            write_json(inside(self.out / "studies", f"{study_id}.json"), result.to_json())
            row = pages.add(result)
        return StudyAnswer(result=replace(result, study=replace(loaded.study, series=())), failure=failure, row=row)

    def given_up(self, study_id: str, grader: Callable[[], Grader], reason: str) -> StudyAnswer:
        """The answer to a study at which every process died: the prior. Nothing of its files is read again.

        Args:
          reason: continues a sentence that begins with the study.
        """
        result = StudyResult(
            study=Study(study_id=study_id, series=()), submission=grader().classifier.prior.copy(), localizations={},
            detections=(), reasons=dict.fromkeys(FINDINGS, PriorReason.STAGE_FAILED),
            problems=(f"study {study_id}: it {reason}",), numbering=None,
        )  # fmt: skip
        write_json(inside(self.out / "studies", f"{study_id}.json"), result.to_json())
        pages = PageFolder(self.out, wanted=self.pages)
        pages.forget(study_id)
        return StudyAnswer(result=result, failure=result.failure, row=pages.add(result))


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyJob:
    """One study for a worker process: a source of this study alone, and the fold that may see it."""

    source: StudySource
    fold: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerTask:
    """What a worker process does of each job. It loads the models once and keeps them until another fold is needed.

    Attributes:
      key: differs between predictions, so that a process that served another one does not keep its models.
    """

    key: str
    work: Work
    load: Load

    def __call__(self, job: StudyJob) -> StudyAnswer:
        [study_id] = job.source.study_ids
        return self.work.study(job.source, study_id, partial(_grader, self.key, self.load, job.fold))

    def given_up(self, job: StudyJob, reason: str) -> StudyAnswer:
        """The answer to a study at which every process died; `reason` continues a sentence that begins with it."""
        [study_id] = job.source.study_ids
        return self.work.given_up(study_id, partial(_grader, self.key, self.load, job.fold), reason)


def warm(key: str, load: Load, fold: int | None) -> None:
    """Loads the models of a fold, or of all folds for None, in a worker process."""
    _grader(key, load, fold)


# The models of this worker process, and what they are of.
_KEPT: Final[dict[tuple[str, int | None], Grader]] = {}


def _grader(key: str, load: Load, fold: int | None) -> Grader:
    wanted = (key, fold)
    if wanted not in _KEPT:
        _KEPT.clear()  # frees their memory before others are loaded
        _KEPT[wanted] = load(None if fold is None else [fold])
    return _KEPT[wanted]
