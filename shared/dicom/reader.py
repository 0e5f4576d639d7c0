"""The one DICOM reader.

It treats every file as hostile: it bounds sizes before it allocates, refuses deflated files (200 KB can expand to 650
MB before the first tag is seen), never prints or iterates data sets, and turns whatever pydicom or a decoder raises
into one `InputError` that names the file.
"""

import functools
import hashlib
import io
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.filereader import read_dataset
from pydicom.pixels.processing import apply_rescale
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from shared.dicom.header import DESCRIBING_TAGS, HEADER_TAGS, Header, bounded_shape, header_of
from shared.dicom.intensity import scale_by_table, scale_to_8bit
from shared.dicom.scan import is_bare_dataset
from shared.dicom.stored_pixels import stored_pixels
from shared.runtime.errors import InputError

# Raise it with any change to the headers, pixels or messages read from a file, so that prepared stores are remade.
READER_VERSION: Final = 3
MAX_FILE_BYTES: Final = 256 * 2**20
_DEFLATED: Final = frozenset({"1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.95"})


@dataclass(frozen=True, slots=True, kw_only=True)
class FileReading:
    """Everything read from one file in one pass; an error stands for what could not be read.

    Attributes:
      sha256: hex digest of the file's bytes; empty if it cannot be opened or is too large.
      header: as `read_header` returns it.
      pixels: as `read_pixels` returns them, [rows, columns].
    """

    path: Path
    sha256: str
    header: Header | InputError
    pixels: NDArray[np.uint8] | InputError


# A file with its header, or with what is wrong with it.
HeaderReading: TypeAlias = tuple[Path, Header | InputError]


def read_header(path: Path, *, described: bool = False) -> Header:
    """Reads one file's header without its pixels.

    Raises:
      InputError: when the file is no DICOM image of one frame with a plane, or its sizes are out of bounds.
    """
    return read_header_and_tags(path, described=described)[0]


def read_header_and_tags(
    path: Path, tags: Sequence[str] = (), *, described: bool = False
) -> tuple[Header, pydicom.Dataset]:
    """Reads one file's header, and a data set that holds the elements named in `tags` where the file has them.

    The file is read to its end only when "PixelData" is among the tags; the pixels are not decoded.

    Raises:
      InputError: as `read_header` does; a file that ends within its encapsulated pixels too when those are asked for.
    """
    wanted = [*HEADER_TAGS, *(DESCRIBING_TAGS if described else ()), *tags]
    dataset = _dataset(path, stop_before_pixels="PixelData" not in tags, tags=wanted)
    return _header_of(path, dataset, described=described), dataset


def read_headers(paths: Iterable[Path], *, described: bool = False) -> list[HeaderReading]:
    """The header of each file, or the error in its place."""
    return [(path, _attempt(functools.partial(read_header, path, described=described))) for path in paths]


def read_pixels(path: Path) -> NDArray[np.uint8]:  # [rows, columns]
    """Reads one file's pixels, scaled to 8 bit: rescale, MONOCHROME1 inverted, percentile window.

    Raises:
      InputError: when the pixels cannot be decoded or their size is out of bounds.
    """
    return _scaled_pixels(path, _dataset(path, stop_before_pixels=False))


def read_raw_pixels(path: Path) -> NDArray[np.float32]:  # [rows, columns]
    """Reads one file's rescaled pixels in the file's own units, MONOCHROME1 inverted."""
    dataset = _dataset(path, stop_before_pixels=False)
    with _foreign(path, "pixels cannot be decoded"):
        return _in_units(_decoded(path, dataset), dataset)


def read_file(path: Path, *, described: bool = False) -> FileReading:
    """Reads, hashes and parses one file once for both header and pixels. Never raises for a bad file."""
    content = _attempt(lambda: _content(path))
    if isinstance(content, InputError):
        return FileReading(path=path, sha256="", header=content, pixels=content)
    whole = _attempt(lambda: _parse(path, content, stop_before_pixels=False))
    header = whole if isinstance(whole, InputError) else _attempt(lambda: _header_of(path, whole, described=described))
    if isinstance(header, InputError):
        # The fault may lie behind the header: pydicom returns nothing of a file that ends within its pixels.
        header = _attempt(lambda: _header_of(path, _parse(path, content, stop_before_pixels=True), described=described))
    return FileReading(
        path=path,
        sha256=hashlib.sha256(content).hexdigest(),
        header=header,
        pixels=whole if isinstance(whole, InputError) else _attempt(lambda: _scaled_pixels(path, whole)),
    )


def file_digest(path: Path) -> str:
    """`FileReading.sha256` alone."""
    content = _attempt(lambda: _content(path))
    return "" if isinstance(content, InputError) else hashlib.sha256(content).hexdigest()


def _scaled_pixels(path: Path, dataset: pydicom.Dataset) -> NDArray[np.uint8]:
    with _foreign(path, "pixels cannot be decoded"):
        stored = _decoded(path, dataset)
        if stored.dtype.kind in "ui" and stored.dtype.itemsize <= 2:
            return scale_by_table(stored, lambda values: _in_units(values, dataset))
        return scale_to_8bit(_in_units(stored, dataset))


def _decoded(path: Path, dataset: pydicom.Dataset) -> NDArray[Any]:  # [rows, columns]
    """The pixels as stored."""
    bounded_shape(path, dataset)
    pixels = stored_pixels(dataset)
    if pixels.ndim != 2:
        raise InputError(f"{path}: expected one grey image [rows, columns], got shape {pixels.shape}")
    return pixels


def _in_units(stored: NDArray[Any], dataset: pydicom.Dataset) -> NDArray[np.float32]:
    # A slope of 0 would turn every slice black; it stands for a rescaling that nobody filled in.
    rescaled = stored if dataset.get("RescaleSlope") == 0 else apply_rescale(stored, dataset)
    pixels = np.asarray(rescaled, dtype=np.float32)
    return pixels.max() - pixels if dataset.get("PhotometricInterpretation") == "MONOCHROME1" else pixels


T = TypeVar("T")


def _attempt(read: Callable[[], T]) -> T | InputError:
    try:
        return read()
    except InputError as error:
        return error


@contextmanager
def _foreign(path: Path, fault: str) -> Iterator[None]:
    """Turns any exception into `InputError`: parsers and decoders raise anything, even MemoryError."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{path}: {fault} ({type(error).__name__}: {_short(error)})") from error


def _content(path: Path) -> bytes:
    with _foreign(path, "cannot be read as DICOM"):
        found = path.stat()
        # A pipe would block and a device never end. Opening a folder fails by itself.
        if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
            raise InputError(f"{path}: is no regular file")
        if found.st_size > MAX_FILE_BYTES:
            raise InputError(f"{path}: {found.st_size} bytes; expected at most {MAX_FILE_BYTES}")
        # One read of the whole file: pydicom's many small reads cost more than the parsing.
        with path.open("rb") as file:
            content = file.read(found.st_size + 1)
            if len(content) > found.st_size:  # it grew, or its size is unknown
                content += file.read(MAX_FILE_BYTES + 1 - len(content))
        if len(content) > MAX_FILE_BYTES:
            raise InputError(f"{path}: {len(content)} bytes; expected at most {MAX_FILE_BYTES}")
        return content


def _dataset(path: Path, *, stop_before_pixels: bool, tags: Sequence[str] | None = None) -> pydicom.Dataset:
    """The whole data set, or only the named elements."""
    return _parse(path, _content(path), stop_before_pixels=stop_before_pixels, tags=tags)


def _parse(
    path: Path, content: bytes, *, stop_before_pixels: bool, tags: Sequence[str] | None = None
) -> pydicom.Dataset:
    with _foreign(path, "cannot be read as DICOM"):
        bare = content[128:132] != b"DICM"
        if bare and not is_bare_dataset(content[:132]):
            raise InputError(f"{path}: not a DICOM file (no DICM prefix)")
        file = io.BytesIO(content)
        if _transfer_syntax(file, start=0 if bare else 132) in _DEFLATED:
            raise InputError(f"{path}: deflated transfer syntax is refused; convert it, for example with dcmconv")
        file.seek(0)
        wanted = None if tags is None else list(tags)
        # Forced only for what begins like a data set: pydicom would take any text for one.
        dataset = pydicom.dcmread(file, stop_before_pixels=stop_before_pixels, specific_tags=wanted, force=bare)
        if bare and "TransferSyntaxUID" not in dataset.file_meta:  # decoders ask for it; a bare data set is not encoded
            implicit = dataset.original_encoding[0]
            dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
        return dataset


def _transfer_syntax(content: io.BytesIO, *, start: int) -> str:
    """Read from the file meta group alone, which is never compressed."""
    content.seek(start)
    meta = read_dataset(content, is_implicit_VR=False, is_little_endian=True, stop_when=lambda tag, *_: tag.group != 2)
    return str(meta.get("TransferSyntaxUID", ""))


def _header_of(path: Path, dataset: pydicom.Dataset, *, described: bool = False) -> Header:
    with _foreign(path, "unusable DICOM header"):  # values of any shape hide behind any tag
        return header_of(path, dataset, described=described)


def _short(error: Exception) -> str:
    return str(error).splitlines()[0][:160] if str(error) else "no message"
