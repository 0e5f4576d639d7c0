"""One study of a prediction whose DATA or OUT is an address of an object store, on whichever machine answers it.

The study's files are fetched into a scratch folder, answered there, and what is written is uploaded; then the folder
goes. The record of a study comes last and holds all that the tables need, so a resumed call fetches no image of a study
that is done.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from pipelines.grader import Grader
from pipelines.pages.index_page import StudyRow
from pipelines.predict.study import StudyAnswer, StudyWork, Work
from pipelines.record import StudyRecord
from shared.data.identity import objects_key, study_key
from shared.data.remote import unfetched
from shared.data.source import StudySource
from shared.runtime.unfinished import Results
from shared.storage.output import RESULTS, RemoteOutput
from shared.storage.scratch import new_token, study_folder, sweep
from shared.storage.tries import StorageError
from shared.study import LoadedStudy, Study

# Within the scratch folder of a study.
_DATA: Final = "data"
_OUT: Final = "out"
_KEPT: Final = "kept"
_UNUSED: Final = "unused"


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerRecord:
    """What is kept of a study that is done, with all its files written.

    Attributes:
      row: its line of the index; None without pages.
    """

    record: StudyRecord
    row: StudyRow | None

    @classmethod
    def of(cls, answer: StudyAnswer) -> "AnswerRecord":
        return cls(record=StudyRecord.of(answer.result), row=answer.row)

    def answer(self, study_id: str) -> StudyAnswer:
        """The answer that this is a record of."""
        result = self.record.result(LoadedStudy(study=Study(study_id=study_id, series=())))
        return StudyAnswer(result=result, failure=result.failure, row=self.row)


@dataclass(frozen=True, slots=True, kw_only=True)
class FarWork:
    """What is done of each study, as `StudyWork` does it where all files are on a disk.

    Attributes:
      work: what is done once the study's files are here; its output folder counts where OUT is a path.
      output: OUT at an address; None for a path.
      token: names the scratch folders.
    """

    work: StudyWork
    output: RemoteOutput | None
    token: str

    def study(
        self, source: StudySource, study_id: str, grader: Callable[[], Grader], *, read: LoadedStudy | None = None
    ) -> StudyAnswer:
        """Answers a study, unless an interrupted call has, and writes its files.

        A study that cannot be fetched is answered by the prior, and tried again by a resumed call.

        Raises:
          InputError: when OUT cannot be written, or another command writes to it.
        """
        with study_folder(self.token) as scratch:
            done = self._done(scratch, study_id)
            key: str | None = None
            try:
                if source.remote is None or source.challenge is None:
                    loaded = read or source.load(study_id)
                    key = study_key(loaded, source.given)
                    kept = done.read(study_id, key)
                else:
                    objects = source.remote.objects_of(source.challenge, study_id)
                    kept = done.read(study_id, objects_key(objects))
                    if kept is None:
                        loaded = source.remote.fetched(source.challenge, study_id, objects, scratch / _DATA)
                        key = objects_key(objects)
            except StorageError as error:
                loaded, kept = unfetched(source.challenge, study_id, error), None
            if kept is not None:
                return kept.answer(study_id)
            return self._write(scratch, lambda work: work.answer(loaded, grader), key)

    def given_up(self, study_id: str, grader: Callable[[], Grader], reason: str) -> StudyAnswer:
        """As `StudyWork.given_up`."""
        with study_folder(self.token) as scratch:
            return self._write(scratch, lambda work: work.given_up(study_id, grader, reason), None)

    def _done(self, scratch: Path, study_id: str) -> Results[AnswerRecord]:
        """Where the record of the study lies, if it is done."""
        if self.output is None:
            return self._records(self.work.out)
        records = self._records(scratch / _KEPT)
        self.output.fetch_record(study_id, records.folder)
        return records

    @staticmethod
    def _records(out: Path) -> Results[AnswerRecord]:
        return Results(folder=out / RESULTS, kind=AnswerRecord)

    def _write(self, scratch: Path, answer: Callable[[StudyWork], StudyAnswer], key: str | None) -> StudyAnswer:
        """Writes the files of a study, and its record last; without a key the study has none."""
        out = self.work.out if self.output is None else scratch / _OUT
        unused = replace(self.work.records, folder=scratch / _UNUSED)
        answered = answer(replace(self.work, out=out, records=unused))
        if key is not None:
            self._records(out).write(answered.result.study_id, key, AnswerRecord.of(answered))
        if self.output is not None:
            self.output.add_study(out)
        return answered


@contextmanager
def work_on(near: StudyWork, source: StudySource, remote: RemoteOutput | None) -> Iterator[Work]:
    """What is done of each study of a source: by `near` itself where all files are on a disk."""
    if remote is None and source.remote is None:
        yield near
        return
    token = new_token() if remote is None else remote.token
    try:
        yield FarWork(work=near, output=remote, token=token)
    finally:
        sweep(token)
