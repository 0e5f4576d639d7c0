"""Writes the PNG tree that notebooks for this challenge read, from a prepared store.

    STORE/png/<study>/<Sagittal_T1|Sagittal_T2_STIR|Axial_T2>/<series>_<position>_<instance>.png
    STORE/png/<study>/prepared.json       written with the folder: a study's folder is complete or absent

`<position>` counts the slices of a series from 000 in anatomical order (right to left, head to foot), so sorted names
are in order; `<instance>` is the number that the challenge's coordinates use. Pixels stay as they are stored, never
turned upright, because those coordinates refer to them.
"""

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2

from shared.dicom.pixels import slice_pixels
from shared.labels import View
from shared.runtime.documents import read_json
from shared.runtime.errors import InputError
from shared.runtime.files import inside, write_json, written_beside
from shared.study import Series, Slice, Study

PNG_FOLDER: Final = "png"
MARK: Final = "prepared.json"
_VERSION: Final = 1
MAX_SIZE_PX: Final = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class PngJob:
    """One study's PNGs below `root`; `size` 0 keeps the slices' own size, any other squeezes them to a square."""

    root: Path
    study: Study
    size: int


def view_folder(view: View) -> str:
    """The view's folder name, as the notebooks spell it."""
    return view.value.replace("/", "_").replace(" ", "_")


def png_name(series: Series, position: int, item: Slice) -> str:
    """A slice's file name."""
    return f"{series.series_id}_{position:03d}_{item.instance_number}.png"


def write_pngs(job: PngJob) -> str:
    """Writes one study's folder unless it is up to date; returns an error message, or "" on success.

    Skips slices that cannot be decoded; the store's record names them.

    Raises:
      OSError: when a file cannot be written, for example on a full disk.
    """
    try:
        folder = inside(job.root / PNG_FOLDER, job.study.study_id)
    except InputError as error:
        return f"study {job.study.study_id}: no PNGs ({error})"
    key = _key(job)
    if _is_current(folder, key):
        return ""
    with written_beside(folder) as temporary:
        shutil.rmtree(temporary, ignore_errors=True)
        images = sum(_write_series(temporary, series, job.size) for series in job.study.series)
        write_json(temporary / MARK, {"key": key, "images": images})
        if folder.is_dir():
            shutil.rmtree(folder)
    return ""


def _write_series(folder: Path, series: Series, size: int) -> int:
    target = folder / view_folder(series.view)
    target.mkdir(parents=True, exist_ok=True)
    written = 0
    for position, item in enumerate(series.slices):
        try:
            image = slice_pixels(item)
        except InputError:
            continue
        if size:
            image = cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR).astype(image.dtype)
        # Encoded in memory and written at once: OpenCV's many small writes take longer than the compression.
        _, content = cv2.imencode(".png", image)
        (target / png_name(series, position, item)).write_bytes(content.tobytes())
        written += 1
    return written


def is_png_folder(path: Path) -> bool:
    """Whether we made this folder, for a study."""
    return (path / MARK).is_file() and not path.is_symlink()


def _key(job: PngJob) -> str:
    """Digest of everything the folder depends on; the names of pixel files carry the digest of their contents."""
    content: list[Any] = [_VERSION, job.size]
    for series in job.study.series:
        content += [series.series_id, series.view.value]
        content += [(s.instance_number, s.stored and (s.stored.path.name, s.stored.offset)) for s in series.slices]
    return hashlib.sha256(repr(content).encode()).hexdigest()


def _is_current(folder: Path, key: str) -> bool:
    try:
        mark = read_json(folder / MARK) if (folder / MARK).is_file() else None
    except InputError:
        return False
    return isinstance(mark, dict) and mark.get("key") == key and mark.get("images") == len(list(folder.rglob("*.png")))
