"""Cached crops: each needed slice is decoded once, and training reads patches from one file.

The cache holds one 8-bit patch per study and finding. A patch is larger than the network's crop by a margin in pixels
and slices, so that jitter, rotation and scale need no second decoding. An interrupted build continues where it stopped.
A cache belongs to one data set, crop config and set of localizations, and is rebuilt for any other. Processes that
train folds of one run at the same time share it: one builds it, the last one deletes it.
"""

import functools
import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from classify.config import CropConfig
from classify.crops import CropSpec, ReadPixels, WrongPlaneError, crop, second_crop
from shared.annotations import annotated_localizations
from shared.data.challenge import Challenge
from shared.detections import Localization, Localizations, Source
from shared.dicom.pixels import slice_pixels
from shared.labels import FINDINGS, Condition, Finding
from shared.mirror.correct import as_shown
from shared.probabilities.reasons import PriorReason
from shared.runtime.documents import fitted, read_json
from shared.runtime.errors import InputError, first_line
from shared.runtime.files import sweep_temporary, write_json
from shared.runtime.ownership import take_lock
from shared.runtime.pool import processes
from shared.runtime.problems import counted, folded
from shared.runtime.progress import log, track
from shared.study import Slice, Study

VERSION: Final = 3
_ANEW: Final = "delete RUN/cache and go on with --resume"


@dataclass(frozen=True, slots=True, kw_only=True)
class CropCache:
    """Patches of some studies.

    Attributes:
      study_ids: one per first index of the arrays.
      patches: [n, 25, cached channels, cached px, cached px] 8-bit, zero where there is no crop; memory-mapped.
      present: [n, 25] whether there is a crop.
      annotated: [n, 25] whether it lies at an annotated point, rather than at one that stage 1 found.
      problems: one message for each thing that could not be read.
    """

    study_ids: tuple[str, ...]
    patches: NDArray[np.uint8]
    present: NDArray[np.bool_]
    annotated: NDArray[np.bool_]
    problems: tuple[str, ...]

    def rows_of(self, study_ids: Iterable[str]) -> NDArray[np.intp]:
        """First index [n] of each study."""
        index = {s: i for i, s in enumerate(self.study_ids)}
        return np.array([index[s] for s in study_ids], dtype=np.intp)


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheJob:
    """What to cache. A finding's crop lies at its localization or, without one, at its annotated point.

    Attributes:
      localizations: points of stage 1; None for annotated points only.
      conditions: families to cut crops for.
      unmirror: whether crops of mirrored axial series show what the pictures show, not what the headers say.
    """

    data: Challenge
    config: CropConfig
    localizations: Localizations | None
    conditions: tuple[Condition, ...]
    unmirror: bool = True

    @property
    def shape(self) -> tuple[int, ...]:
        size = self.config.cached_px
        return (len(self.data.study_ids), len(FINDINGS), self.config.cached_channels, size, size)

    @property
    def looks(self) -> bool:
        """Whether to look for mirrored axial series. Crops of sagittal series do not depend on it."""
        return self.unmirror and any(map(self.config.sees_axial, self.conditions))

    @property
    def key(self) -> str:
        """Digest of everything that the patches depend on."""
        head = f"{VERSION} {self.data.fingerprint} {self.config!r} {self.unmirror} {self.conditions}"
        digest = hashlib.sha256(head.encode())
        for study_id, of_study in sorted((self.localizations or {}).items()):
            for finding in sorted(of_study, key=lambda f: f.index):
                point = of_study[finding]
                place = (point.series_id, point.instance_number, point.x_px, point.y_px, point.source.value)
                digest.update(repr((study_id, finding.column, place)).encode())
        return digest.hexdigest()

    def points(self, study: Study) -> dict[Finding, Localization]:
        """Where this study's crops lie."""
        found = annotated_localizations(study, self.data.points.get(study.study_id, ()))
        found.update((self.localizations or {}).get(study.study_id, {}))
        return {f: point for f, point in found.items() if f.condition in self.conditions}

    def of_study(self, study_id: str) -> "CacheJob":
        """The part of the job that concerns one study, small enough to travel to a worker process."""
        found = self.localizations
        localizations = None if found is None else {study_id: found[study_id]} if study_id in found else {}
        return replace(self, data=self.data.only(study_id), localizations=localizations)


@dataclass(frozen=True, slots=True, kw_only=True)
class _StudyTask:
    """One study to cache: its index in the patches of `folder`, and its part of the job."""

    folder: Path
    index: int
    job: CacheJob


_Bit = Annotated[int, Field(ge=0, le=1)]
PerFinding = Annotated[list[_Bit], Field(min_length=len(FINDINGS), max_length=len(FINDINGS))]


@dataclass(frozen=True, slots=True, kw_only=True)
class _StudyRecord:
    """One line of the build's log: a study that is in the cache."""

    study_id: str
    present: PerFinding
    annotated: PerFinding
    problems: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class CutCrops:
    """The crops of one study.

    Attributes:
      crops: [channels, size, size] of each finding that could be cut.
      uncut: why the others could not.
      problems: a message for each of those, and for every other slice or view that could not be read.
    """

    crops: Mapping[Finding, NDArray[np.uint8]]
    uncut: Mapping[Finding, PriorReason]
    problems: tuple[str, ...]


def cut_crops(
    study: Study,
    points: Mapping[Finding, Localization],
    spec: Callable[[Finding], CropSpec],
    read: ReadPixels = slice_pixels,
) -> CutCrops:
    """Cuts the crops of one study. Never raises for a bad series or slice.

    A second view that cannot be read is black.

    Args:
      points: where the crops lie.
      spec: the shape of a finding's crop.
      read: decodes a slice; each slice is decoded once.
    """
    failures: list[InputError] = []

    @functools.cache
    def read_once(item: Slice) -> NDArray[np.uint8] | InputError:
        try:
            return read(item)
        except InputError as error:
            failures.append(error)
            return error

    def pixels_of(item: Slice) -> NDArray[np.uint8]:
        found = read_once(item)
        if isinstance(found, InputError):
            raise found
        return found

    crops: dict[Finding, NDArray[np.uint8]] = {}
    uncut: dict[Finding, PriorReason] = {}
    problems: list[str] = []
    without_crop: dict[str, list[str]] = {}
    for finding in sorted(points, key=lambda f: f.index):
        point, shape = points[finding], spec(finding)
        try:
            crops[finding] = crop(study, point, shape, pixels_of)
        except InputError as error:
            wrong_plane = isinstance(error, WrongPlaneError)
            uncut[finding] = PriorReason.WRONG_PLANE if wrong_plane else PriorReason.SLICE_DAMAGED
            without_crop.setdefault(point.series_id, []).append(f"{finding.column}: {error}")
            continue
        if shape.second is None:
            continue
        try:
            second = second_crop(study, point, shape.second, shape, pixels_of)
        except InputError as error:
            problems.append(f"study {study.study_id} {finding.column}, {shape.second.value} left out: {error}")
            second = np.zeros_like(crops[finding])
        crops[finding] = np.concatenate([crops[finding], second])
    told = [*problems, *(text for texts in without_crop.values() for text in texts)]
    replaced = [
        f"{e}; the next slice towards the middle stands in" for e in failures if not any(str(e) in t for t in told)
    ]
    for series_id, texts in without_crop.items():
        problems += folded(f"study {study.study_id} series {series_id}", texts, "findings cannot be graded")
    problems += folded(f"study {study.study_id}", replaced, "more slices cannot be read")
    return CutCrops(crops=crops, uncut=uncut, problems=tuple(problems))


@contextmanager
def using_cache(folder: Path, *, lock: Path, keep: bool) -> Iterator[None]:
    """Protects the cache in `folder` from deletion by other processes, and deletes it when the block ends well.

    Args:
      lock: a file that outlives the cache.
      keep: leaves the cache in place. It also stays while another process uses it.
    """
    with lock.open("r+") as file:
        take_lock(file.fileno(), lock, shared=True, wait=True)
        yield
        if not keep and take_lock(file.fileno(), lock):
            shutil.rmtree(folder, ignore_errors=True)


def build_cache(job: CacheJob, folder: Path, *, workers: int = 1) -> CropCache:
    """Builds the cache in `folder`, continues an unfinished one, or opens a finished one.

    If another process is building it, this waits for that process.

    Raises:
      InputError: when no crop could be cut, the disk has no room, or a worker process died.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        take_lock(file.fileno(), folder / "lock", wait=True)
        sweep_temporary(folder)
        return _build(job, folder, workers)


def _build(job: CacheJob, folder: Path, workers: int) -> CropCache:
    head, key = folder / "cache.json", job.key
    stored = read_json(head, advice=_ANEW) if head.is_file() else None
    if not isinstance(stored, dict) or stored.get("key") != key:
        for name in ("cache.json", "done.jsonl", "patches.npy"):
            (folder / name).unlink(missing_ok=True)
        np.lib.format.open_memmap(folder / "patches.npy", mode="w+", dtype=np.uint8, shape=job.shape).flush()
        write_json(head, {"version": VERSION, "key": key, "shape": list(job.shape)})
    _mapped(folder / "patches.npy", job.shape)
    done = {record.study_id: record for record in _read_log(folder / "done.jsonl")}
    todo = [i for i, s in enumerate(job.data.study_ids) if s not in done]
    findings = sum(f.condition in job.conditions for f in FINDINGS)
    _check_space(folder, len(todo) * findings * int(np.prod(job.shape[2:])))
    tasks = (_StudyTask(folder=folder, index=i, job=job.of_study(job.data.study_ids[i])) for i in todo)
    count = min(workers, len(todo)) if len(todo) >= 4 else 1
    with (
        (folder / "done.jsonl").open("a", encoding="utf-8") as file,
        processes(count, advice="try again with --resume and fewer --workers") as spread,
    ):
        if done and todo:
            file.write("\n")  # a line that an interruption cut short must not run into the next one
        for record in track(spread(_cache_study, tasks, chunk=2), "crops", total=len(todo)):
            done[record.study_id] = record
            file.write(json.dumps({name: getattr(record, name) for name in _StudyRecord.__slots__}) + "\n")
            file.flush()
    return _open(job, folder, done)


def _check_space(folder: Path, needed: int) -> None:
    # The file is sparse and written through memory: a full disk would kill the process instead of raising.
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise InputError(
            f"{folder}: the cached crops need {needed / 2**30:.1f} GiB of disk, {free / 2**30:.1f} GiB are free; "
            "free some space or choose a RUN on another disk"
        )


def _open(job: CacheJob, folder: Path, done: Mapping[str, _StudyRecord]) -> CropCache:
    ordered, mapped = [done[s] for s in job.data.study_ids], _mapped(folder / "patches.npy", job.shape)
    cache = CropCache(
        study_ids=job.data.study_ids,
        patches=mapped,
        present=np.array([d.present for d in ordered], bool).reshape(-1, len(FINDINGS)),
        annotated=np.array([d.annotated for d in ordered], bool).reshape(-1, len(FINDINGS)),
        problems=tuple(p for d in ordered for p in d.problems),
    )
    for problem in cache.problems[:5]:
        log(f"warning: {problem}")
    if len(cache.problems) > 5:
        log(f"warning: {counted(len(cache.problems) - 5, 'more problem')}; run.json lists all of them")
    if not cache.present.any():
        where = "localizations" if job.localizations is not None else f"{job.data.part}_label_coordinates.csv"
        raise InputError(
            f"{job.data.root}: no crop could be cut from {counted(len(job.data.study_ids), 'study')}; check {where}"
        )
    return cache


def _mapped(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """The cached crops on disk; raises `InputError` for a file of other content."""
    try:
        patches: NDArray[np.uint8] = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: cannot be read ({first_line(error)}); {_ANEW}") from error
    if patches.shape != shape or patches.dtype != np.uint8:
        raise InputError(
            f"{path}: expected bytes of shape {shape}, got {patches.dtype} of shape {patches.shape}; {_ANEW}"
        )
    return patches


def _read_log(path: Path) -> Iterator[_StudyRecord]:
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []:
        try:
            yield fitted(path, line, _StudyRecord)
        except InputError:  # the line was cut short by an interruption; its study is cached again
            continue


def _cache_study(task: _StudyTask) -> _StudyRecord:
    job = task.job
    loaded = job.data.load_study(job.data.study_ids[0])
    shown = as_shown(loaded.study, look=job.looks)
    points = job.points(shown.study)
    cut = cut_crops(shown.study, points, lambda f: CropSpec.cached(job.config, f))
    patches = np.load(task.folder / "patches.npy", mmap_mode="r+")
    present, annotated = [0] * len(FINDINGS), [0] * len(FINDINGS)
    for finding, pixels in cut.crops.items():
        patches[task.index, finding.index] = pixels
        present[finding.index] = 1
        annotated[finding.index] = int(points[finding].source is Source.ANNOTATED)
    patches.flush()
    return _StudyRecord(
        study_id=loaded.study.study_id, present=present, annotated=annotated,
        problems=[*loaded.problems, *shown.problems, *cut.problems],
    )  # fmt: skip
