"""One study of a store whose DATA or STORE is an address of an object store, on whichever machine decodes it.

The study's files are fetched into a scratch folder and decoded there, and its pixels and then its record are uploaded.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from pipelines.prepare.study import Job, Outcome, prepare_study, unprepared
from shared.data.challenge import Challenge
from shared.data.identity import files_key, objects_key
from shared.data.remote import RemoteData
from shared.data.store import STUDIES, Unit
from shared.data.unpack import Input
from shared.runtime.unfinished import Results
from shared.storage.objects import StoredObject
from shared.storage.output import RESULTS, RemoteOutput
from shared.storage.scratch import study_folder
from shared.storage.tries import StorageError

_DATA: Final = "data"
_STORE: Final = "store"
_KEPT: Final = "kept"


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """What is at an address, and what of it the studies of one part need.

    Attributes:
      given: where the tables are, and the files too if they are on a disk.
      data: the tables of the part.
      remote: fetches the files; None where they are on a disk.
      root: the store, where it is a path.
      output: the store at an address; None for a path.
      token: names the scratch folders.
    """

    given: Input
    data: Challenge
    remote: RemoteData | None
    root: Path
    output: RemoteOutput | None
    token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FarJob:
    """One unit of the data, whose files are not known yet where they are at an address."""

    places: Places
    unit: Unit

    @property
    def name(self) -> str:
        """Of its record among those of all parts."""
        return f"{self.unit.part}-{self.unit.name}"


def far_jobs(places: Places, units: Sequence[Unit]) -> list[FarJob]:
    """Jobs small enough to travel to worker processes."""
    return [FarJob(places=replace(places, data=places.data.only(unit.name)), unit=unit) for unit in units]


def prepare_far(job: FarJob) -> Outcome:
    """Brings one record up to date, as `pipelines.prepare.study.prepare_study` does.

    A study that cannot be fetched gets a record without slices, and a further run tries it again.

    Raises:
      InputError: when the store cannot be written, or another command writes to it.
    """
    places = job.places
    with study_folder(places.token) as scratch:
        done = _done(job, scratch)
        here = _near(job, scratch)
        try:
            unit, key, objects = _found(job)
            kept = None if done is None else done.read(job.name, key)
            if kept is not None:
                return kept
            here = replace(here, unit=unit)
            if places.remote is not None:
                places.remote.fetch(places.data, objects, here.source)
            outcome = prepare_study(here)
        except StorageError as error:
            return _upload(job, scratch, unprepared(here, f"cannot be fetched ({error})"), None)
        return _upload(job, scratch, outcome, key)


def unprepared_far(job: FarJob, reason: str) -> Outcome:
    """As `pipelines.prepare.study.unprepared`."""
    with study_folder(job.places.token) as scratch:
        return _upload(job, scratch, unprepared(_near(job, scratch), reason), None)


def _near(job: FarJob, scratch: Path) -> Job:
    """The job on this machine's disk."""
    places = job.places
    source = places.given.folder if places.remote is None else scratch / _DATA
    return Job(root=places.root if places.output is None else scratch / _STORE, source=source, unit=job.unit)


def _done(job: FarJob, scratch: Path) -> Results[Outcome] | None:
    """Where the outcome of an interrupted call lies, if it uploaded the study; a store on a disk keeps none."""
    if job.places.output is None:
        return None
    results = Results(folder=scratch / _KEPT, kind=Outcome)
    job.places.output.fetch_record(job.name, results.folder)
    return results


def _found(job: FarJob) -> tuple[Unit, str, tuple[StoredObject, ...]]:
    """The unit with its files, the digest of their versions, and the objects that hold them."""
    places, unit = job.places, job.unit
    if places.remote is None:
        paths = [places.given.folder / unit.folder / name for name in unit.files]
        return unit, files_key(paths, places.given), ()
    objects = places.remote.objects_of(places.data, unit.name)
    names = sorted(entry.key.removeprefix(f"{unit.folder}/") for entry in objects)
    files = tuple(name for series in unit.series for name in names if name.partition("/")[0] == series)
    exists = bool(objects) or places.remote.has_study(places.data, unit.name)
    return replace(unit, files=files, exists=exists), objects_key(objects), objects


def _upload(job: FarJob, scratch: Path, outcome: Outcome, key: str | None) -> Outcome:
    """Puts the pixels of a study, its record, and last what a resumed call takes for done; without a key nothing is."""
    output = job.places.output
    if output is None:
        return outcome
    if key is not None:
        Results(folder=scratch / _STORE / RESULTS, kind=Outcome).write(job.name, key, outcome)
    output.add_study(scratch / _STORE, last=f"{STUDIES}/{job.unit.part}/{job.unit.name}.json")
    return outcome
