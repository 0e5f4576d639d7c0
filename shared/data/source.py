"""Where studies come from: a part of a challenge directory, or DICOM files in a folder, an archive or by themselves."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

from shared.data.challenge import Challenge, Part, listed_parts
from shared.data.remote import RemoteData, open_place
from shared.data.store import Store
from shared.data.unpack import Input, open_input
from shared.dicom.discover import NO_CHOICE, Discovery, FileCounts, FoundStudy, discover_studies, group_studies
from shared.labels import View, parse_row_id
from shared.runtime.bulk.shards import Shard
from shared.runtime.errors import InputError
from shared.runtime.problems import counted
from shared.storage.address import Address
from shared.study import LoadedStudy


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """Which part of its studies a source was cut to.

    Attributes:
      studies: how many all shards have.
      rows: study -> places of its rows in the sample submission.
    """

    shard: Shard
    studies: int
    rows: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class StudySource:
    """Studies to predict.

    Attributes:
      given: what the studies were found in.
      fingerprint: of a challenge part's tables; equals a run's fingerprint if the run was trained on these data.
      load: reads the headers of one study.
      row_ids: rows in the order of the sample submission, if there is one.
      challenge: the tables of a challenge part; None for a folder.
      files: what became of every file of a folder; None for a challenge part or a prepared store.
      found: every series of a folder, used or not; None for a challenge part.
      share: which part of the studies this is; None for all.
      remote: fetches the files of one study from an object store; `load` then finds none. None for files on a disk.
    """

    kind: Literal["challenge", "folder"]
    given: Input
    fingerprint: str | None = None
    study_ids: tuple[str, ...]
    load: Callable[[str], LoadedStudy]
    row_ids: tuple[str, ...] | None = None
    challenge: Challenge | None = None
    files: FileCounts | None = None
    found: tuple[FoundStudy, ...] | None = None
    share: Share | None = None
    remote: RemoteData | None = None

    def cut_to(self, shard: Shard) -> "StudySource":
        """The studies of one shard."""
        study_ids = tuple(shard.share(self.study_ids))
        rows: dict[str, list[int]] = {study_id: [] for study_id in study_ids}
        row_ids = []
        for place, row_id in enumerate(self.row_ids or ()):
            of_study = rows.get(parse_row_id(row_id)[0])
            if of_study is not None:
                of_study.append(place)
                row_ids.append(row_id)
        share = Share(shard=shard, studies=len(self.study_ids), rows={s: tuple(found) for s, found in rows.items()})
        return replace(self, study_ids=study_ids, row_ids=tuple(row_ids) if self.row_ids else None, share=share)

    def only(self, study_id: str) -> "StudySource":
        """A source of one study, small enough to travel to a worker process. The headers are read there."""
        if self.challenge is None:
            load = {study_id: self.load(study_id)}.__getitem__
            return replace(self, study_ids=(study_id,), load=load, row_ids=None, files=None, found=None, share=None)
        data = self.challenge.only(study_id)
        return replace(self, study_ids=(study_id,), load=data.load_study, row_ids=None, challenge=data, share=None)


def open_source(path: Path | Address, part: Part | None = None, chosen: Mapping[str, View] = NO_CHOICE) -> StudySource:
    """Opens one part of a challenge directory (by default the test part if there is one), or a folder of DICOM files.

    Takes a prepared store of either in its place, or whatever else `shared.data.remote.open_place` takes.

    Args:
      chosen: series id -> the view that the user wants it for; only for a folder of DICOM files.

    Raises:
      InputError: when the input is missing, of a broken layout, or holds no study, or a chosen series is not there.
    """
    opened, remote = open_place(path)
    folder = opened.folder
    parts = (part,) if part is not None else listed_parts(folder)
    if not parts:
        store = Store.find(folder)
        if store is not None:
            return _folder_source(opened, group_studies(store.data, store.folder_readings(), chosen))
        found = discover_studies(folder, chosen)
        if opened.lone and not any(study.study.series for study in found.studies):
            raise InputError(_lone_file(path, found))
        return replace(_folder_source(opened, found.studies), files=found.files)
    if chosen:
        raise InputError(f"{path}: the tables of a challenge directory say the views; leave out --series, or edit them")
    data = Challenge.open(folder, parts[-1])
    has_images = data.has_images if remote is None else partial(remote.has_study, data)
    if data.study_ids and not any(map(has_images, data.study_ids)):
        raise InputError(f"{data.images}: none of the {counted(len(data.study_ids), 'study')} has a folder here")
    return replace(challenge_source(data), given=opened, remote=remote)


def challenge_source(data: Challenge) -> StudySource:
    """The studies of a part of a challenge directory that is open already."""
    return StudySource(
        kind="challenge", given=open_input(data.root), fingerprint=data.fingerprint, study_ids=data.study_ids,
        load=data.load_study, row_ids=data.submission_row_ids, challenge=data,
    )  # fmt: skip


def open_parts(path: Path, part: Part | None = None, chosen: Mapping[str, View] = NO_CHOICE) -> list[StudySource]:
    """The existing parts of a challenge directory, training first; for anything else what `open_source` opens.

    Raises:
      InputError: as `open_source` does, when nothing can be opened.
    """
    parts = listed_parts(open_input(path).folder)
    if part is not None or len(parts) < 2:
        return [open_source(path, part, chosen)]
    opened, errors = [], []
    for each in parts:
        try:
            opened.append(open_source(path, each, chosen))
        except InputError as error:  # perhaps only one part was unpacked
            errors.append(error)
    if not opened:
        raise errors[0]
    return opened


def _lone_file(path: Path | Address, found: Discovery) -> str:
    """Why a single DICOM file is no study."""
    reasons = "; ".join(reason for study in found.studies for reason in study.unused.values())
    return (
        f"{path}: this file alone is no series that can be used ({reasons}); give the folder with the study's sagittal "
        "T1, sagittal T2 or STIR, and axial T2 series"
    )


def _folder_source(given: Input, studies_found: Sequence[FoundStudy]) -> StudySource:
    studies = {found.study.study_id: found.loaded for found in studies_found}
    return StudySource(
        kind="folder", given=given, study_ids=tuple(studies), load=studies.__getitem__, found=tuple(studies_found)
    )
