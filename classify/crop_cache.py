"""Cached crops: every needed slice is decoded once, and training reads patches from one file.

The cache keeps one 8-bit patch per study and finding, larger than the network's crop by a margin in pixels and
slices, so that jitter, rotation and scale need no second decoding. A killed build continues where it stopped. A cache
belongs to one data set, crop config and set of localizations; for any other it is built anew. Processes that train
folds of one run at the same time share it: one builds, the last one deletes.
"""

import fcntl
import functools
import hashlib
import json
import multiprocessing
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from classify.config import CropConfig
from classify.crops import CropSpec, ReadPixels, crop, second_crop
from shared.annotations import annotated_localizations
from shared.data.challenge import Challenge
from shared.detections import Localization, Localizations, Source
from shared.dicom.pixels import slice_pixels
from shared.labels import FINDINGS, Condition, Finding
from shared.mirror.correct import as_shown
from shared.runtime.errors import InputError
from shared.runtime.files import read_json, write_json
from shared.runtime.progress import log, track
from shared.study import Study

VERSION: Final = 3
# A cache up to this size is read into memory once; a larger one stays on disk and is read through the page cache.
IN_MEMORY_BYTES: Final = 4 * 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class CropCache:
    """Patches of some studies.

    Attributes:
      study_ids: one per first index of the arrays.
      patches: [n, 25, cached channels, cached px, cached px] 8-bit, zero where there is no crop.
      present: [n, 25] whether there is a crop.
      annotated: [n, 25] whether it lies at an annotated point (else at one that stage 1 found).
      problems: what could not be read, one message each.
    """

    study_ids: tuple[str, ...]
    patches: NDArray[np.uint8]
    present: NDArray[np.bool_]
    annotated: NDArray[np.bool_]
    problems: tuple[str, ...]

    def rows_of(self, study_ids: Iterable[str]) -> NDArray[np.intp]:
        """First index of each study. # [n]"""
        index = {s: i for i, s in enumerate(self.study_ids)}
        return np.array([index[s] for s in study_ids], dtype=np.intp)


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheJob:
    """What to cache: a challenge part, the crop config, where the points come from, and for which conditions.

    A finding's crop lies at its localization; without one, at its annotated point.
    """

    data: Challenge
    config: CropConfig
    localizations: Localizations | None
    conditions: tuple[Condition, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        size = self.config.cached_px
        return (len(self.data.study_ids), len(FINDINGS), self.config.cached_channels, size, size)

    @property
    def looks(self) -> bool:
        """Whether mirrored axial series are looked for; no other crop depends on it."""
        return self.config.unmirror and any(map(self.config.sees_axial, self.conditions))

    @property
    def key(self) -> str:
        """Digest of everything that the patches depend on."""
        digest = hashlib.sha256(f"{VERSION} {self.data.fingerprint} {self.config!r} {self.conditions}".encode())
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _StudyDone:
    """One line of the build's log."""

    study_id: str
    present: list[int]
    annotated: list[int]
    problems: list[str]


def remembering(read: ReadPixels = slice_pixels) -> ReadPixels:
    """A slice reader that decodes each file once; use one per study and drop it."""
    return functools.cache(read)


def cut_crops(
    study: Study,
    points: Mapping[Finding, Localization],
    spec: Callable[[Finding], CropSpec],
    read: ReadPixels = slice_pixels,
) -> tuple[dict[Finding, NDArray[np.uint8]], list[str]]:
    """Crops of one study, and a message for each that could not be cut. # [slices, or twice as many, size, size]

    A second view that cannot be read is black, with a message. Never raises for a bad series or slice.
    """
    read = remembering(read)
    crops: dict[Finding, NDArray[np.uint8]] = {}
    problems: list[str] = []
    for finding in sorted(points, key=lambda f: f.index):
        point, shape = points[finding], spec(finding)
        try:
            crops[finding] = crop(study, point, shape, read)
        except InputError as error:
            problems.append(f"study {study.study_id} {finding.column}: {error}")
            continue
        if shape.second is None:
            continue
        try:
            second = second_crop(study, point, shape.second, shape, read)
        except InputError as error:
            problems.append(f"study {study.study_id} {finding.column}, {shape.second.value} left out: {error}")
            second = np.zeros_like(crops[finding])
        crops[finding] = np.concatenate([crops[finding], second])
    return crops, problems


@contextmanager
def using_cache(folder: Path, *, lock: Path, keep: bool) -> Iterator[None]:
    """Keeps other processes from deleting the cache in `folder` during the block, and deletes it after one that ended
    well, unless `keep` or another process uses it. `lock` is a file that outlives the cache."""
    with lock.open("r+") as file:
        _locked(file, fcntl.LOCK_SH)
        yield
        if not keep and _locked(file, fcntl.LOCK_EX | fcntl.LOCK_NB):
            shutil.rmtree(folder, ignore_errors=True)


def _locked(file: IO[str], operation: int) -> bool:
    """Takes a lock until the file is closed; False when it was not to wait and another process holds one."""
    try:
        fcntl.flock(file, operation)
    except BlockingIOError:
        return False
    except OSError as error:
        log(f"warning: {file.name}: cannot be locked ({error}); let only one process train this run at a time")
    return True


def build_cache(job: CacheJob, folder: Path, *, workers: int = 1) -> CropCache:
    """Builds the cache in `folder`, or opens it when it is already there; continues an unfinished one.

    A second process waits for the first to end.

    Raises:
      InputError: when not one crop could be cut, or the disk has no room.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        _locked(file, fcntl.LOCK_EX)
        return _build(job, folder, workers)


def _build(job: CacheJob, folder: Path, workers: int) -> CropCache:
    head, key = folder / "cache.json", job.key
    stored = read_json(head) if head.is_file() else None
    if not isinstance(stored, dict) or stored.get("key") != key:
        for name in ("cache.json", "done.jsonl", "patches.npy"):
            (folder / name).unlink(missing_ok=True)
        np.lib.format.open_memmap(folder / "patches.npy", mode="w+", dtype=np.uint8, shape=job.shape).flush()
        write_json(head, {"version": VERSION, "key": key, "shape": list(job.shape)})
    done = {d.study_id: d for d in _read_log(folder / "done.jsonl")}
    todo = [i for i, s in enumerate(job.data.study_ids) if s not in done]
    findings = sum(f.condition in job.conditions for f in FINDINGS)
    _check_space(folder, len(todo) * findings * int(np.prod(job.shape[2:])))
    with (folder / "done.jsonl").open("a", encoding="utf-8") as file:
        if done and todo:
            file.write("\n")  # a line cut short by a kill must not swallow the next one
        for item in track(_work(job, folder, todo, workers), "crops", total=len(todo)):
            done[item.study_id] = item
            file.write(json.dumps({name: getattr(item, name) for name in _StudyDone.__slots__}) + "\n")
            file.flush()
    return _open(job, folder, done)


def _check_space(folder: Path, needed: int) -> None:
    # The file is sparse and written through memory: a full disk would kill the process instead of raising.
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise InputError(
            f"{folder}: the cached crops need {needed / 2**30:.1f} GiB of disk, {free / 2**30:.1f} GiB are free; "
            "make room or choose a RUN on another disk"
        )


def _open(job: CacheJob, folder: Path, done: Mapping[str, _StudyDone]) -> CropCache:
    ordered = [done[s] for s in job.data.study_ids]
    cache = CropCache(
        study_ids=job.data.study_ids,
        patches=np.load(folder / "patches.npy", mmap_mode=None if np.prod(job.shape) <= IN_MEMORY_BYTES else "r"),
        present=np.array([d.present for d in ordered], bool).reshape(-1, len(FINDINGS)),
        annotated=np.array([d.annotated for d in ordered], bool).reshape(-1, len(FINDINGS)),
        problems=tuple(p for d in ordered for p in d.problems),
    )
    for problem in cache.problems[:5]:
        log(f"warning: {problem}")
    if len(cache.problems) > 5:
        log(f"warning: {len(cache.problems) - 5} more problems, all in run.json")
    if not cache.present.any():
        where = "localizations" if job.localizations is not None else f"{job.data.part}_label_coordinates.csv"
        raise InputError(f"{job.data.root}: no crop could be cut from {len(job.data.study_ids)} studies; check {where}")
    return cache


def _read_log(path: Path) -> Iterator[_StudyDone]:
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            yield _StudyDone(**json.loads(line))
        except (ValueError, TypeError):  # the line that a kill cut short: its study is cut again
            continue


def _work(job: CacheJob, folder: Path, todo: list[int], workers: int) -> Iterator[_StudyDone]:
    if workers <= 1 or len(todo) < 4:
        yield from (_cache_study(job, folder, i) for i in todo)
        return
    # Fresh processes: a fork would inherit torch's threads in an undefined state.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        min(workers, len(todo)), mp_context=context, initializer=_set_job, initargs=(job, folder)
    ) as pool:
        yield from pool.map(_cache_in_worker, todo, chunksize=2)


_worker_job: list[tuple[CacheJob, Path]] = []  # set once per worker process, so that the tables travel once


def _set_job(job: CacheJob, folder: Path) -> None:
    cv2.setNumThreads(1)  # the processes share the cores
    _worker_job[:] = [(job, folder)]


def _cache_in_worker(index: int) -> _StudyDone:
    return _cache_study(*_worker_job[0], index)


def _cache_study(job: CacheJob, folder: Path, index: int) -> _StudyDone:
    loaded = job.data.load_study(job.data.study_ids[index])
    shown = as_shown(loaded.study, look=job.looks)
    points = job.points(shown.study)
    crops, problems = cut_crops(shown.study, points, lambda f: CropSpec.cached(job.config, f))
    patches = np.load(folder / "patches.npy", mmap_mode="r+")
    present, annotated = [0] * len(FINDINGS), [0] * len(FINDINGS)
    for finding, pixels in crops.items():
        patches[index, finding.index] = pixels
        present[finding.index] = 1
        annotated[finding.index] = int(points[finding].source is Source.ANNOTATED)
    patches.flush()
    return _StudyDone(
        study_id=loaded.study.study_id, present=present, annotated=annotated,
        problems=[*loaded.problems, *shown.problems, *problems],
    )  # fmt: skip
