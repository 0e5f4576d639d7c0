"""The audit of one study whose files lie at an address of an object store: fetched, read, and deleted again."""

from dataclasses import dataclass, replace
from functools import partial

from pipelines.audit.issues import Code, Issue
from pipelines.audit.study import Job, StudyAudit, audit_study
from shared.data.identity import objects_key
from shared.data.remote import RemoteData
from shared.runtime.errors import InputError
from shared.runtime.unfinished import Results, digest_of
from shared.storage.scratch import study_folder
from shared.storage.tries import StorageError


@dataclass(frozen=True, slots=True, kw_only=True)
class FarAudit:
    """Does what `KeptAudit` does for files on a disk. Picklable.

    Attributes:
      token: names the scratch folders.
    """

    remote: RemoteData
    results: Results[StudyAudit]
    token: str

    def __call__(self, job: Job) -> StudyAudit:
        if not job.images:
            return audit_study(job)
        with study_folder(self.token) as scratch:
            try:
                objects = self.remote.all_of(job.part, job.study_id)
                key = digest_of(objects_key(objects), repr(job.listed), repr(job.points))
                kept = self.results.read(job.name, key)
                if kept is not None:
                    return kept
                self.remote.fetch_files(job.part, objects, scratch)
            except StorageError as error:
                return unfetched(job, error)
            return self.results.fetch(job.name, key, partial(audit_study, replace(job, root=scratch)))


def unfetched(job: Job, error: InputError) -> StudyAudit:
    """The audit of a study whose files cannot be fetched."""
    issue = Issue(
        code=Code.FILE_UNREADABLE, part=job.part, study_id=job.study_id, reason=f"its files cannot be fetched: {error}"
    )
    return StudyAudit(study_id=job.study_id, issues=(issue,))
