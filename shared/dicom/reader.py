"""The one DICOM reader: headers and pixels of the slices in a file.

A file holds one slice, or as many as an enhanced object has frames. Whatever pydicom or a decoder raises becomes one
`InputError` that names the file.
"""

import functools
import hashlib
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeAlias

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.pixels.processing import apply_rescale
from pydicom.tag import Tag

from shared.dicom.decoding.stored_pixels import stored_pixels
from shared.dicom.frames import FRAME_TAGS, PIXEL_TAGS, FrameTable, frame_count, frames_of, is_enhanced
from shared.dicom.header import DESCRIBING_TAGS, HEADER_TAGS, Header, bounded_shape, header_of, slice_name
from shared.dicom.intensity import scale_by_table, scale_to_8bit
from shared.dicom.parsing import attempt, file_content, file_dataset, file_header, foreign, parse
from shared.dicom.tags import DicomFaultError, tag_value
from shared.runtime.errors import InputError

_PIXELS: Final = frozenset(map(Tag, ("PixelData", "FloatPixelData", "DoubleFloatPixelData")))
_DESCRIBED_TAGS: Final = (*HEADER_TAGS, *FRAME_TAGS, *DESCRIBING_TAGS)
# Raise it with any change to the headers, pixels or messages read from a file, so that prepared stores are remade.
READER_VERSION: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class FileReading:
    """Everything read of one slice when its file is read once; an error stands for what could not be read.

    Attributes:
      sha256: hex digest of the file's bytes; empty if it cannot be opened or is too large.
      header: as `read_header` or `read_slice_headers` returns it.
      pixels: as `read_pixels` returns them, [rows, columns].
    """

    path: Path
    sha256: str
    header: Header | InputError
    pixels: NDArray[np.uint8] | InputError


# A file with the header of its slice, or of one of its slices, or with what is wrong with it.
HeaderReading: TypeAlias = tuple[Path, Header | InputError]


def read_header(path: Path, *, described: bool = False) -> Header:
    """Reads the header of a file with one slice, without its pixels.

    Raises:
      InputError: when the file is no DICOM image of one frame with a plane, or its sizes are out of bounds.
    """
    return read_header_and_tags(path, described=described)[0]


def read_header_and_tags(
    path: Path, tags: Sequence[str] = (), *, described: bool = False
) -> tuple[Header, pydicom.Dataset]:
    """Reads one slice's header, and a data set that holds the elements named in `tags` where the file has them.

    The file is read to its end only when "PixelData" is among the tags; the pixels are not decoded.

    Raises:
      InputError: as `read_header` does; a file that ends within its encapsulated pixels too when those are asked for.
    """
    dataset = _only_slice(path, _tagged(path, tags, described=described))
    return _header_of(path, dataset, described=described), dataset


def read_slices_and_tags(path: Path, tags: Sequence[str] = ()) -> list[tuple[Header | InputError, pydicom.Dataset]]:
    """Does the same for every frame of a file, all with the pixels of the whole file.

    Raises:
      InputError: when the file cannot be read. A bad frame does not raise; its error is in the header's place.
    """
    slices = _slices(path, _tagged(path, tags))
    return [(attempt(functools.partial(_header_of, path, each, frame=n)), each) for n, each in slices]


def read_headers(paths: Iterable[Path], *, described: bool = False) -> list[HeaderReading]:
    """The header of each file, or the error in its place. A file with several frames is an error."""
    return [(path, attempt(functools.partial(read_header, path, described=described))) for path in paths]


def read_slice_headers(paths: Iterable[Path]) -> list[HeaderReading]:
    """The described headers of each file's frames, most often one; or errors in their places."""
    readings: list[HeaderReading] = []
    for path in paths:
        found = attempt(functools.partial(_described_slices, path))
        if isinstance(found, InputError):
            readings.append((path, found))
            continue
        slices, pixels = found
        for n, each in slices:
            header = attempt(functools.partial(_header_of, path, each, described=True, frame=n))
            readings.append((path, header if pixels else _without_pixels(header)))
    return readings


def _described_slices(path: Path) -> tuple[list[tuple[int | None, pydicom.Dataset]], bool]:
    """The slices, and whether anything follows their header."""
    dataset, pixels = file_header(path, tags=_DESCRIBED_TAGS)
    return _slices(path, dataset), pixels


def _without_pixels(header: Header | InputError) -> InputError:
    """What is wrong with a file that ends with its header: it must not count as a slice that is better than others."""
    return (
        header if isinstance(header, InputError) else InputError(f"{header.path}: its header is not followed by pixels")
    )


def read_pixels(path: Path, frame: int = 0) -> NDArray[np.uint8]:  # [rows, columns]
    """Reads one slice's pixels, scaled to 8 bit: rescale, MONOCHROME1 inverted, percentile window.

    Raises:
      InputError: when the pixels cannot be decoded or their size is out of bounds.
    """
    return _scaled_pixels(*_with_pixels(path, frame))


def read_raw_pixels(path: Path, frame: int = 0) -> NDArray[np.float32]:  # [rows, columns]
    """Reads one slice's rescaled pixels in the file's own units, MONOCHROME1 inverted."""
    name, dataset = _with_pixels(path, frame)
    with foreign(name, "pixels cannot be decoded"):
        return _in_units(_decoded(name, dataset), dataset)


def read_file(path: Path, *, described: bool = False) -> FileReading:
    """Reads, hashes and parses a file of one slice once for header and pixels. Never raises for a bad file."""
    content = attempt(lambda: file_content(path))
    if isinstance(content, InputError):
        return FileReading(path=path, sha256="", header=content, pixels=content)
    return _whole_reading(path, content, described=described)


def read_file_slices(path: Path) -> Iterator[FileReading]:
    """Does the same with a file of any number of frames, one after another, with described headers."""
    content = attempt(lambda: file_content(path))
    if isinstance(content, InputError):
        yield FileReading(path=path, sha256="", header=content, pixels=content)
        return
    file = io.BytesIO(content)
    head = attempt(lambda: parse(path, file, stop_before_pixels=True, tags=PIXEL_TAGS))
    if isinstance(head, InputError) or attempt(lambda: _has_several(path, head)) is not True:
        yield _whole_reading(path, content, described=True)
        return
    table = attempt(lambda: _table(path, head, file))
    digest = hashlib.sha256(content).hexdigest()
    slices = attempt(lambda: _slices(path, parse(path, io.BytesIO(content), stop_before_pixels=True)))
    if isinstance(slices, InputError):
        yield FileReading(path=path, sha256=digest, header=slices, pixels=slices)
        return
    for n, each in slices:
        header = attempt(functools.partial(_header_of, path, each, described=True, frame=n))
        pixels = attempt(functools.partial(_frame_pixels, path, table, n or 0, file))
        yield FileReading(path=path, sha256=digest, header=header, pixels=pixels)


def _whole_reading(path: Path, content: bytes, *, described: bool) -> FileReading:
    whole = attempt(lambda: _only_slice(path, parse(path, io.BytesIO(content), stop_before_pixels=False)))
    header = whole if isinstance(whole, InputError) else attempt(lambda: _header_of(path, whole, described=described))
    if described and not isinstance(whole, InputError) and _PIXELS.isdisjoint(whole.keys()):
        header = _without_pixels(header)
    elif isinstance(header, InputError):
        # The fault may lie behind the header: pydicom returns nothing of a file that ends within its pixels.
        header = attempt(lambda: _header_before_pixels(path, content, described=described))
    return FileReading(
        path=path,
        sha256=hashlib.sha256(content).hexdigest(),
        header=header,
        pixels=whole if isinstance(whole, InputError) else attempt(lambda: _scaled_pixels(str(path), whole)),
    )


def _header_before_pixels(path: Path, content: bytes, *, described: bool) -> Header:
    dataset = parse(path, io.BytesIO(content), stop_before_pixels=True)
    return _header_of(path, _only_slice(path, dataset), described=described)


def file_digest(path: Path) -> str:
    """`FileReading.sha256` alone."""
    content = attempt(lambda: file_content(path))
    return "" if isinstance(content, InputError) else hashlib.sha256(content).hexdigest()


def _has_several(path: Path, dataset: pydicom.Dataset) -> bool:
    """Whether a file holds several frames that can be told apart. Raises `InputError` where it does not say."""
    with foreign(str(path), "unusable functional groups"):
        return is_enhanced(dataset) and frame_count(dataset) > 1


def _slices(path: Path, dataset: pydicom.Dataset) -> list[tuple[int | None, pydicom.Dataset]]:
    """The data set of each slice in a file, with the index of its frame where there are several."""
    if not _has_several(path, dataset):
        return [(None, _only_slice(path, dataset))]
    with foreign(str(path), "unusable functional groups"):
        return list(enumerate(frames_of(path, dataset)))


def _only_slice(path: Path, dataset: pydicom.Dataset) -> pydicom.Dataset:
    """The data set of a file with one slice. Raises `InputError` where there are several."""
    with foreign(str(path), "unusable functional groups"):
        if not is_enhanced(dataset):
            return dataset
        bounded_shape(str(path), dataset)
        return next(frames_of(path, dataset))


def _with_pixels(path: Path, frame: int) -> tuple[str, pydicom.Dataset]:
    """A slice's name for messages, and its data set with pixels."""
    if frame == 0:
        whole = attempt(lambda: file_dataset(path, stop_before_pixels=False))
        if isinstance(whole, InputError):
            if isinstance(_frame_table(path), InputError):  # or the fault lies behind the first frame
                raise whole
        elif not _has_several(path, whole):
            return str(path), _only_slice(path, whole)
    table = _frame_table(path)
    if isinstance(table, InputError):
        raise InputError(str(table))
    name = slice_name(path, frame)
    with foreign(name, "pixels cannot be decoded"), path.open("rb") as file:
        return name, table.with_pixels(frame, file)


def _frame_pixels(path: Path, table: FrameTable | InputError, frame: int, file: BinaryIO) -> NDArray[np.uint8]:
    name = slice_name(path, frame)
    if isinstance(table, InputError):
        raise InputError(str(table))
    with foreign(name, "pixels cannot be decoded"):
        return _scaled_pixels(name, table.with_pixels(frame, file))


def _frame_table(path: Path) -> FrameTable | InputError:
    with foreign(str(path), "cannot be read as DICOM"):
        found = path.stat()
    return _known_table(path, found.st_size, found.st_mtime_ns)


@functools.lru_cache(maxsize=16)
def _known_table(path: Path, size: int, changed_ns: int) -> FrameTable | InputError:
    def read() -> FrameTable:
        file = io.BytesIO(file_content(path))
        return _table(path, parse(path, file, stop_before_pixels=True, tags=PIXEL_TAGS), file)

    return attempt(read)


def _table(path: Path, dataset: pydicom.Dataset, file: BinaryIO) -> FrameTable:
    if not _has_several(path, dataset):
        raise InputError(f"{path}: holds one slice, expected several frames")
    with foreign(str(path), "pixels cannot be decoded"):
        return FrameTable.of(path, dataset, file)


def _scaled_pixels(name: str, dataset: pydicom.Dataset) -> NDArray[np.uint8]:
    with foreign(name, "pixels cannot be decoded"):
        stored = _decoded(name, dataset)
        # Two pixels that differ spare a look at all the others.
        if stored[0, 0] == stored[len(stored) // 2, len(stored[0]) // 2] and stored.min() == stored.max():
            raise InputError(f"{name}: all its pixels have the value {stored[0, 0]}, so it shows nothing")
        if stored.dtype.kind in "ui" and stored.dtype.itemsize <= 2:
            return scale_by_table(stored, lambda values: _in_units(values, dataset))
        return scale_to_8bit(_in_units(stored, dataset))


def _decoded(name: str, dataset: pydicom.Dataset) -> NDArray[Any]:  # [rows, columns]
    """The pixels as stored."""
    if not dataset:  # all that pydicom returns of a file that ends within its encapsulated pixels
        raise InputError(f"{name}: is cut off, it ends within its pixels")
    bounded_shape(name, dataset)
    pixels = stored_pixels(dataset)
    if pixels.ndim != 2:
        raise InputError(f"{name}: expected one grey image [rows, columns], got shape {pixels.shape}")
    return pixels


def _in_units(stored: NDArray[Any], dataset: pydicom.Dataset) -> NDArray[np.float32]:
    # A slope of 0 would turn every slice black; it stands for a rescaling that nobody filled in.
    rescaled = stored if tag_value(dataset, "RescaleSlope") == 0 else apply_rescale(stored, dataset)
    with np.errstate(over="ignore"):
        pixels = np.asarray(rescaled, dtype=np.float32)
    if not np.isfinite(pixels).all():
        raise DicomFaultError("RescaleSlope and RescaleIntercept leave values that are not finite")
    return pixels.max() - pixels if tag_value(dataset, "PhotometricInterpretation") == "MONOCHROME1" else pixels


def _tagged(path: Path, tags: Sequence[str], *, described: bool = False) -> pydicom.Dataset:
    """The elements that headers need, and those named in `tags`."""
    wanted = [*HEADER_TAGS, *FRAME_TAGS, *(DESCRIBING_TAGS if described else ()), *tags]
    return file_dataset(path, stop_before_pixels="PixelData" not in tags, tags=wanted)


def _header_of(path: Path, dataset: pydicom.Dataset, *, described: bool = False, frame: int | None = None) -> Header:
    with foreign(slice_name(path, frame), "unusable DICOM header"):  # values of any shape hide behind any tag
        return header_of(path, dataset, described=described, frame=frame)
