"""The one DICOM reader.

It treats every file as hostile: it bounds sizes before it allocates, refuses deflated files (200 KB can expand to 650
MB before the first tag is seen), never prints or iterates data sets, and turns whatever pydicom or a decoder raises
into one `InputError` that names the file. It never reads patient tags.
"""

import functools
import hashlib
import io
import re
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
from pydicom.uid import UID

from shared.dicom.intensity import scale_by_table, scale_to_8bit
from shared.dicom.stored_pixels import stored_pixels
from shared.dicom.tags import tag_value
from shared.geometry import Plane
from shared.runtime.errors import InputError
from shared.study import Slice, StoredPixels

# Raise it with any change to the headers, pixels or messages read from a file, so that prepared stores are remade.
READER_VERSION: Final = 1
MAX_FILE_BYTES: Final = 256 * 2**20
MAX_SIDE_PX: Final = 4096
# Limits of plausible geometry: pixel size, field of view, distance from the isocentre.
SPACING_MM: Final = (0.05, 10.0)
MAX_FIELD_MM: Final = 1500.0
MAX_ORIGIN_MM: Final = 5000.0

_UID = re.compile(r"[0-9.]{1,64}")
_DEFLATED: Final = frozenset({"1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.95"})
_HEADER_TAGS: Final = [
    "SeriesInstanceUID", "StudyInstanceUID", "InstanceNumber", "SeriesDescription", "ProtocolName",
    "Rows", "Columns", "NumberOfFrames", "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient",
    "RepetitionTime", "EchoTime", "InversionTime", "SpacingBetweenSlices", "SliceThickness",
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The header of one file; absent optional tags are None or empty. `stored` is set if a prepared store holds it."""

    path: Path
    study_uid: str | None
    series_uid: str | None
    instance_number: int
    plane: Plane
    shape: tuple[int, int]
    description: str
    repetition_time_ms: float | None
    echo_time_ms: float | None
    inversion_time_ms: float | None
    stored: StoredPixels | None = None

    def to_slice(self) -> Slice:
        return Slice(
            path=self.path, instance_number=self.instance_number, plane=self.plane, shape=self.shape, stored=self.stored
        )


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


class NoPlaneError(InputError):
    """The file is a DICOM image, but its header gives the slice no usable place in the patient."""


class NoImageError(InputError):
    """The file is a DICOM object of a kind without pixels: DICOMDIR, report, presentation state, PDF."""


def is_dicom(path: Path) -> bool:
    """Whether the file has the DICOM preamble; a cheap test that opens nothing else."""
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def read_header(path: Path) -> Header:
    """Reads one file's header without its pixels.

    Raises:
      InputError: when the file is no DICOM image of one frame with a plane, or its sizes are out of bounds.
    """
    return read_header_and_tags(path)[0]


def read_header_and_tags(path: Path, tags: Sequence[str] = ()) -> tuple[Header, pydicom.Dataset]:
    """Reads one file's header, and a data set that holds the elements named in `tags` where the file has them.

    The file is read to its end only when "PixelData" is among the tags; the pixels are not decoded.

    Raises:
      InputError: as `read_header` does; a file that ends within its encapsulated pixels too when those are asked for.
    """
    dataset = _dataset(path, stop_before_pixels="PixelData" not in tags, tags=[*_HEADER_TAGS, *tags])
    return _header_of(path, dataset), dataset


def read_headers(paths: Iterable[Path]) -> list[HeaderReading]:
    """The header of each file, or the error in its place."""
    return [(path, _attempt(functools.partial(read_header, path))) for path in paths]


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


def read_file(path: Path) -> FileReading:
    """Reads, hashes and parses one file once for both header and pixels. Never raises for a bad file."""
    content = _attempt(lambda: _content(path))
    if isinstance(content, InputError):
        return FileReading(path=path, sha256="", header=content, pixels=content)
    whole = _attempt(lambda: _parse(path, content, stop_before_pixels=False))
    header = whole if isinstance(whole, InputError) else _attempt(lambda: _header_of(path, whole))
    if isinstance(header, InputError):
        # The fault may lie behind the header: pydicom returns nothing of a file that ends within its pixels.
        header = _attempt(lambda: _header_of(path, _parse(path, content, stop_before_pixels=True, tags=_HEADER_TAGS)))
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
    _bounded_shape(path, dataset)
    pixels = stored_pixels(dataset)
    if pixels.ndim != 2:
        raise InputError(f"{path}: expected one grey image [rows, columns], got shape {pixels.shape}")
    return pixels


def _in_units(stored: NDArray[Any], dataset: pydicom.Dataset) -> NDArray[np.float32]:
    pixels = np.asarray(apply_rescale(stored, dataset), dtype=np.float32)
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
        if content[128:132] != b"DICM":
            raise InputError(f"{path}: not a DICOM file (no DICM prefix)")
        file = io.BytesIO(content)
        if _transfer_syntax(file) in _DEFLATED:
            raise InputError(f"{path}: deflated transfer syntax is refused; convert it, for example with dcmconv")
        file.seek(0)
        wanted = None if tags is None else list(tags)
        return pydicom.dcmread(file, stop_before_pixels=stop_before_pixels, specific_tags=wanted)


def _transfer_syntax(content: io.BytesIO) -> str:
    """Read from the file meta group alone, which is never compressed."""
    content.seek(132)
    meta = read_dataset(content, is_implicit_VR=False, is_little_endian=True, stop_when=lambda tag, *_: tag.group != 2)
    return str(meta.get("TransferSyntaxUID", ""))


def _header_of(path: Path, dataset: pydicom.Dataset) -> Header:
    with _foreign(path, "unusable DICOM header"):  # values of any shape hide behind any tag
        return _header(path, dataset)


def _header(path: Path, dataset: pydicom.Dataset) -> Header:
    missing = [
        t for t in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing") if not tag_value(dataset, t)
    ]
    if missing:
        kind = NoPlaneError if _may_be_image(dataset) else NoImageError
        raise kind(f"{path}: tag {missing[0]} is missing; without it the slice has no place in the patient")
    orientation = [float(v) for v in tag_value(dataset, "ImageOrientationPatient")]
    row_dir, col_dir = np.array(orientation[:3]), np.array(orientation[3:])
    try:
        plane = Plane.from_arrays(
            origin_mm=[float(v) for v in tag_value(dataset, "ImagePositionPatient")],
            row_dir=row_dir, col_dir=col_dir,
            spacing_mm=[float(v) for v in tag_value(dataset, "PixelSpacing")],
        )  # fmt: skip
    except ValueError as error:
        raise NoPlaneError(f"{path}: {error}") from error
    shape = _bounded_shape(path, dataset)
    field_mm = max(n * s for n, s in zip(shape, plane.spacing_mm, strict=True))
    small, large = min(plane.spacing_mm), max(plane.spacing_mm)
    if small < SPACING_MM[0] or large > SPACING_MM[1] or field_mm > MAX_FIELD_MM:
        raise InputError(
            f"{path}: PixelSpacing {plane.spacing_mm} mm for {shape} pixels; no scanner makes such an image"
        )
    if np.abs(plane.origin_mm).max() > MAX_ORIGIN_MM:
        raise InputError(f"{path}: ImagePositionPatient {plane.origin_mm} mm lies outside any scanner")
    description = " ".join(str(tag_value(dataset, tag) or "") for tag in ("SeriesDescription", "ProtocolName")).strip()
    return Header(
        path=path,
        study_uid=_uid(path, tag_value(dataset, "StudyInstanceUID")),
        series_uid=_uid(path, tag_value(dataset, "SeriesInstanceUID")),
        instance_number=int(tag_value(dataset, "InstanceNumber") or 0),
        plane=plane,
        shape=shape,
        description=description,
        repetition_time_ms=_number(tag_value(dataset, "RepetitionTime")),
        echo_time_ms=_number(tag_value(dataset, "EchoTime")),
        inversion_time_ms=_number(tag_value(dataset, "InversionTime")),
    )


def _may_be_image(dataset: pydicom.Dataset) -> bool:
    """False for an object without rows whose SOP class is not an image. A truncated image still has an image class."""
    kind = dataset.file_meta.get("MediaStorageSOPClassUID")
    return not kind or "Image" in UID(kind).name or bool(tag_value(dataset, "Rows"))


def _bounded_shape(path: Path, dataset: pydicom.Dataset) -> tuple[int, int]:
    rows, columns = int(tag_value(dataset, "Rows") or 0), int(tag_value(dataset, "Columns") or 0)
    frames = int(tag_value(dataset, "NumberOfFrames") or 1)
    if frames != 1:
        raise InputError(f"{path}: {frames} frames; expected one frame per file (split it, for example with dcm2dcm)")
    if not (0 < rows <= MAX_SIDE_PX and 0 < columns <= MAX_SIDE_PX):
        raise InputError(f"{path}: image of {rows} x {columns} pixels; expected 1 to {MAX_SIDE_PX} a side")
    return rows, columns


def _uid(path: Path, value: object) -> str | None:
    if value is None or str(value) == "":
        return None
    if not _UID.fullmatch(str(value)):
        raise InputError(f"{path}: malformed UID; expected digits and dots, at most 64 characters")
    return str(value)


def _number(value: Any) -> float | None:
    try:
        return None if value is None or value == "" else float(value)
    except (TypeError, ValueError):
        return None


def _short(error: Exception) -> str:
    return str(error).splitlines()[0][:160] if str(error) else "no message"
