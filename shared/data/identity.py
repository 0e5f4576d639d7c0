"""What a study's result depends on, as a digest: whether the study is still the one that was read before.

Of files, names, sizes and times of change are taken, not contents: a result is only kept between a kill and the call
that resumes, and reading all pixels twice would cost more than it saves. Writing into a file changes its times, even
where a program sets the time of modification back. A file that was copied or restored has new times, so its study is
read again, which costs time and never a wrong result. Slices of a prepared store carry checksums, which are taken
instead; files of an archive are unpacked anew for each call, so the archive's own times are. Of what was fetched from
an object store, the versions of its listing are taken.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

from shared.data.unpack import Input
from shared.runtime.unfinished import digest_of
from shared.storage.objects import StoredObject
from shared.study import LoadedStudy, Slice


def study_key(loaded: LoadedStudy, given: Input) -> str:
    """Digest of a study's headers as they were read, of the state of its files, and of what could not be read.

    Args:
      given: the input that the study was found in.
    """
    study = loaded.study
    series = [
        [s.series_id, s.view.slug, [_slice(item, given) for item in s.slices]]
        for s in study.series
    ]  # fmt: skip
    about = [study.study_id, sorted(v.slug for v in study.unreadable), study.other_region, loaded.problems]
    return digest_of(about, series, _archive(given))


def files_key(paths: Iterable[Path], given: Input) -> str:
    """Digest of the state of some files below an input."""
    return digest_of([_file(path, given) for path in paths], _archive(given))


def objects_key(objects: Sequence[StoredObject]) -> str:
    """Digest of the versions of a study's objects in an object store; none of them is fetched for it."""
    return digest_of([[entry.key, entry.size, entry.version] for entry in objects])


def _slice(item: Slice, given: Input) -> list[Any]:
    header = [item.frame, item.instance_number, item.shape, astuple(item.plane)]
    if item.stored is None:
        return [*header, _file(item.path, given)]
    return [*header, item.path.name, item.stored.offset, item.stored.crc32, item.stored.problem]


def _file(path: Path, given: Input) -> list[Any]:
    name = os.path.relpath(path, given.folder)
    try:
        found = path.stat()
    except OSError as error:
        return [name, error.errno]
    if given.archive is not None or given.fetched:
        return [name, found.st_size]
    return [name, found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def _archive(given: Input) -> list[int | str]:
    if given.fetched:
        return [given.fetched]
    if given.archive is None:
        return []
    found = given.archive.stat()
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns]
