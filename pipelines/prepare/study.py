"""Prepares one study of a store: decodes it if it is new or its files changed, and keeps it otherwise.

Worker processes of `lumbar prepare` run this. It is separate from the command so that they import little.
"""

import os
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from shared.data.store import (
    StudyRecord,
    Unit,
    file_entry,
    pixel_path,
    read_record,
    record_path,
    unit_digest,
    write_record,
)
from shared.dicom.reader import FileReading, file_digest, read_file, read_file_slices
from shared.runtime.errors import InputError
from shared.runtime.files import written_beside
from shared.study import StoredPixels

State = Literal["new", "changed", "unchanged"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One unit of the data in `source`, to prepare in the store at `root`."""

    root: Path
    source: Path
    unit: Unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The result for one unit: its two files in the store, its number of slices, and what could not be read."""

    state: State
    files: tuple[str, str]
    slices: int
    pixel_bytes: int
    problems: tuple[str, ...]


def prepare_study(job: Job) -> Outcome:
    """Brings one record up to date. Unreadable files become problems of the record.

    Raises:
      InputError: when the record's name would leave the store.
      OSError: when the store cannot be written, for example on a full disk.
    """
    path = record_path(job.root, job.unit.part, job.unit.name)
    state: State = "changed" if path.is_file() else "new"
    old = _sound_record(path, job.source)
    folder = job.source / job.unit.folder
    # Contents decide, not times: a restored archive has new times, a patched file may have old ones.
    if old is not None and old.digest == unit_digest(job.unit, [file_digest(folder / f) for f in job.unit.files]):
        return Outcome(
            state="unchanged", files=(path.name, old.pixels.name), slices=old.slices,
            pixel_bytes=old.pixels.stat().st_size, problems=old.problems,
        )  # fmt: skip
    outcome = _decode(job, path, state)
    if old is not None and old.pixels.name not in outcome.files:
        old.pixels.unlink(missing_ok=True)
    return outcome


def unprepared(job: Job, reason: str) -> Outcome:
    """Writes a record without slices, for a study at which every process died; a further run tries it again.

    Args:
      reason: continues a sentence that begins with the study.
    """
    path, folder = record_path(job.root, job.unit.part, job.unit.name), job.source / job.unit.folder
    digest = unit_digest(job.unit, [reason])  # of no contents of files
    pixels = pixel_path(path, digest)
    with written_beside(pixels) as temporary:
        temporary.touch()
    files = [(name, folder / name) for name in job.unit.files]
    readings = [
        (name, FileReading(path=f, sha256="", header=error, pixels=error))
        for name, f in files
        for error in [InputError(f"{f}: is of a study that {reason}")]
    ]
    nowhere = StoredPixels(path=pixels, offset=0, crc32=0, problem="")
    write_record(
        path, job.unit, digest, [file_entry(reading, job.unit, name, nowhere) for name, reading in readings], 0
    )
    return Outcome(
        state="new", files=(path.name, pixels.name), slices=0, pixel_bytes=0,
        problems=(f"study {job.unit.name}: {reason}",),
    )  # fmt: skip


def _sound_record(path: Path, source: Path) -> StudyRecord | None:
    try:
        return read_record(path, source) if path.is_file() else None
    except InputError:
        return None  # damaged: decode it again


def _decode(job: Job, path: Path, state: State) -> Outcome:
    """Writes the pixel file, then the record that names it, each by renaming a temporary file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp")
    entries: list[dict[str, Any]] = []
    digests, problems = [], []
    written = 0
    try:
        with temporary.open("wb") as file:
            for name in job.unit.files:
                for reading in _readings(job, name):
                    content, problem = _content(reading)
                    place = StoredPixels(path=temporary, offset=written, crc32=zlib.crc32(content), problem=problem)
                    written += file.write(content)
                    entries.append(file_entry(reading, job.unit, name, place))
                    problems.append(str(reading.header) if isinstance(reading.header, InputError) else problem)
                digests.append(reading.sha256)
        digest = unit_digest(job.unit, digests)
        pixels = pixel_path(path, digest)
        temporary.replace(pixels)
    finally:
        temporary.unlink(missing_ok=True)
    write_record(path, job.unit, digest, entries, written)
    found = tuple(text for text in problems if text)
    return Outcome(
        state=state, files=(path.name, pixels.name), slices=len(entries) - len(found), pixel_bytes=written,
        problems=found,
    )  # fmt: skip


def _readings(job: Job, name: str) -> Iterable[FileReading]:
    """The slices of one file. In a challenge's directory each file is one slice."""
    path = job.source / job.unit.folder / name
    return read_file_slices(path) if job.unit.part == "folder" else [read_file(path)]


def _content(reading: FileReading) -> tuple[memoryview, str]:
    """The slice's bytes and "", or no bytes and the reason."""
    if isinstance(reading.header, InputError):
        return memoryview(b""), ""  # the record names the header's problem
    if isinstance(reading.pixels, InputError):
        return memoryview(b""), str(reading.pixels)
    if reading.pixels.shape != reading.header.shape:
        return memoryview(b""), f"{reading.path}: pixels {reading.pixels.shape}, header says {reading.header.shape}"
    return np.ascontiguousarray(reading.pixels).data.cast("B"), ""
