"""The pixels of a slice, from its DICOM file or from a prepared store."""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared.dicom.reader import read_pixels
from shared.labels import View
from shared.runtime.errors import InputError
from shared.study import Slice, StoredPixels, Study

# Of one study: some 400 slices of 512 x 512. What comes after that is decoded again.
_MOST_KEPT_BYTES: Final = 100 << 20
# File and frame -> decoded pixels, while a `kept_pixels` lasts.
_KEPT: dict[tuple[Path, int], NDArray[np.uint8]] = {}
_KEEPING: list[bool] = []


@contextmanager
def kept_pixels() -> Iterator[None]:
    """Within this block, each slice of a file is decoded once: both stages and the page of a study read the same."""
    _KEEPING.append(True)
    try:
        yield
    finally:
        _KEEPING.pop()
        _KEPT.clear()


def slice_pixels(item: Slice) -> NDArray[np.uint8]:  # [rows, columns]
    """The slice's pixels in 8 bit, the same bytes from file and store.

    Raises:
      InputError: when the file cannot be decoded (now, or when the store was made), or the store is damaged.
    """
    pixels = _file_pixels(item) if item.stored is None else _stored_pixels(item.stored, item.stored_shape)
    return item.orientation.turn(pixels)


def has_readable_slice(study: Study, view: View) -> bool:
    """Whether the pixels of at least one slice of a view can be read; decodes slices until one can."""
    for item in (item for series in study.of_view(view) for item in series.slices):
        try:
            slice_pixels(item)
        except InputError:
            continue
        return True
    return False


def unreadable_views(study: Study) -> frozenset[View]:
    """The views that have a series, but no slice whose pixels can be read."""
    given = {series.view for series in study.series}
    return study.unreadable | {view for view in given if not has_readable_slice(study, view)}


def is_unreadable(study: Study) -> bool:
    """Whether a study has series, and none of them has a slice whose pixels can be read."""
    lost = unreadable_views(study)
    return bool(lost) and all(series.view in lost for series in study.series)


def _file_pixels(item: Slice) -> NDArray[np.uint8]:
    if not _KEEPING:
        return read_pixels(item.path, item.frame)
    key = (item.path, item.frame)
    pixels = _KEPT.get(key)
    if pixels is None:
        pixels = read_pixels(*key)
        if sum(kept.nbytes for kept in _KEPT.values()) + pixels.nbytes > _MOST_KEPT_BYTES:
            return pixels
        _KEPT[key] = pixels
    return pixels.copy()  # callers may write to theirs


def _stored_pixels(stored: StoredPixels, shape: tuple[int, int]) -> NDArray[np.uint8]:
    if stored.problem:
        raise InputError(stored.problem)
    # Read, not mapped: truncating a mapped file kills the process, while a short read is only an error.
    try:
        pixels = np.fromfile(stored.path, np.uint8, shape[0] * shape[1], offset=stored.offset)
    except OSError as error:
        raise InputError(f"{stored.path}: cannot be read ({error.strerror or error})") from error
    if pixels.size != shape[0] * shape[1] or zlib.crc32(pixels.data) != stored.crc32:
        raise InputError(
            f"{stored.path}: is damaged (the slice at byte {stored.offset} has changed); delete this file "
            "and run `lumbar prepare` again with --resume"
        )
    return pixels.reshape(shape)
