"""The one DICOM reader and the one intensity scaling.

Foreign files are hostile until read: sizes are bounded before anything is allocated, deflated files are refused (a
200 KB file can expand to 650 MB before a single tag is seen), datasets are never printed or iterated, and whatever
pydicom or a decoder raises becomes one `InputError` naming the file. Patient tags are never read.
"""

import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.filereader import read_dataset
from pydicom.pixels.processing import apply_rescale
from pydicom.pixels.utils import pixel_array

from shared.errors import InputError
from shared.geometry import Plane
from shared.study import Slice

MAX_FILE_BYTES: Final = 256 * 2**20
MAX_SIDE_PX: Final = 4096
# Geometry beyond these is an error of the file, not a patient: pixel size, field of view, distance from the isocentre.
SPACING_MM: Final = (0.05, 10.0)
MAX_FIELD_MM: Final = 1500.0
MAX_ORIGIN_MM: Final = 5000.0
# Intensities between these percentiles of a slice are spread over 0..255. The foot is fixed at the darkest 1% (air and
# cortical bone); the head leaves the brightest fat near a surface coil saturated, as a reader's window would.
WINDOW_PERCENTILES: Final = (1.0, 99.5)

_UID = re.compile(r"[0-9.]{1,64}")
_DEFLATED: Final = frozenset({"1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.95"})
_HEADER_TAGS: Final = [
    "SeriesInstanceUID", "StudyInstanceUID", "InstanceNumber", "SeriesDescription", "ProtocolName",
    "Rows", "Columns", "NumberOfFrames", "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient",
    "RepetitionTime", "EchoTime", "InversionTime", "SpacingBetweenSlices", "SliceThickness",
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a file says of itself; optional tags are None or empty where absent. Times in ms, thickness in mm."""

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

    def to_slice(self) -> Slice:
        return Slice(path=self.path, instance_number=self.instance_number, plane=self.plane, shape=self.shape)


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
    dataset = _dataset(path, stop_before_pixels=True)
    try:
        return _header(path, dataset)
    except InputError:
        raise
    except Exception as error:  # a foreign file: values of any shape hide behind any tag
        raise InputError(f"{path}: unusable DICOM header ({type(error).__name__}: {_short(error)})") from error


def read_pixels(path: Path) -> NDArray[np.uint8]:
    """Reads one file's pixels, scaled to 8 bit: rescale, MONOCHROME1 inverted, percentile window. # [rows, columns]

    Raises:
      InputError: when the pixels cannot be decoded or their size is out of bounds.
    """
    return scale_to_8bit(read_raw_pixels(path))


def read_raw_pixels(path: Path) -> NDArray[np.float32]:
    """Reads one file's rescaled pixels in the file's own units, MONOCHROME1 inverted. # [rows, columns]"""
    dataset = _dataset(path, stop_before_pixels=False)
    try:
        _bounded_shape(path, dataset)
        pixels = np.asarray(apply_rescale(pixel_array(dataset), dataset), dtype=np.float32)
        if dataset.get("PhotometricInterpretation") == "MONOCHROME1":
            pixels = pixels.max() - pixels
    except InputError:
        raise
    except Exception as error:  # decoders raise anything, including MemoryError
        raise InputError(f"{path}: pixels cannot be decoded ({type(error).__name__}: {_short(error)})") from error
    if pixels.ndim != 2:
        raise InputError(f"{path}: expected one grey image [rows, columns], got shape {pixels.shape}")
    return pixels


def scale_to_8bit(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Spreads the intensities between two percentiles of the slice over 0..255; a flat image becomes black."""
    low, high = np.percentile(pixels, WINDOW_PERCENTILES)
    if not np.isfinite([low, high]).all() or high <= low:
        return np.zeros(pixels.shape, np.uint8)
    scaled = (pixels.astype(np.float32) - np.float32(low)) * np.float32(255.0 / (high - low))
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


def _dataset(path: Path, *, stop_before_pixels: bool) -> pydicom.Dataset:
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise InputError(f"{path}: {size} bytes; expected at most {MAX_FILE_BYTES}")
        # One read of the whole file: pydicom's many small ones cost more than the parsing.
        content = io.BytesIO(path.read_bytes())
        if content.getvalue()[128:132] != b"DICM":
            raise InputError(f"{path}: not a DICOM file (no DICM prefix)")
        if _transfer_syntax(content) in _DEFLATED:
            raise InputError(f"{path}: deflated transfer syntax is refused; convert it, for example with dcmconv")
        content.seek(0)
        tags = list(_HEADER_TAGS) if stop_before_pixels else None
        return pydicom.dcmread(content, stop_before_pixels=stop_before_pixels, specific_tags=tags)
    except InputError:
        raise
    except Exception as error:  # pydicom's errors on damaged files have no common base
        raise InputError(f"{path}: cannot be read as DICOM ({type(error).__name__}: {_short(error)})") from error


def _transfer_syntax(content: io.BytesIO) -> str:
    """From the file meta group alone, which is never compressed."""
    content.seek(132)
    meta = read_dataset(content, is_implicit_VR=False, is_little_endian=True, stop_when=lambda tag, *_: tag.group != 2)
    return str(meta.get("TransferSyntaxUID", ""))


def _header(path: Path, dataset: pydicom.Dataset) -> Header:
    missing = [t for t in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing") if not dataset.get(t)]
    if missing:
        raise InputError(f"{path}: tag {missing[0]} is missing; without it the slice has no place in the patient")
    orientation = [float(v) for v in dataset.ImageOrientationPatient]
    row_dir, col_dir = np.array(orientation[:3]), np.array(orientation[3:])
    try:
        plane = Plane.from_arrays(
            origin_mm=[float(v) for v in dataset.ImagePositionPatient],
            row_dir=row_dir, col_dir=col_dir,
            spacing_mm=[float(v) for v in dataset.PixelSpacing],
        )  # fmt: skip
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error
    shape = _bounded_shape(path, dataset)
    field_mm = max(n * s for n, s in zip(shape, plane.spacing_mm, strict=True))
    small, large = min(plane.spacing_mm), max(plane.spacing_mm)
    if small < SPACING_MM[0] or large > SPACING_MM[1] or field_mm > MAX_FIELD_MM:
        raise InputError(
            f"{path}: PixelSpacing {plane.spacing_mm} mm for {shape} pixels; no scanner makes such an image"
        )
    if np.abs(plane.origin_mm).max() > MAX_ORIGIN_MM:
        raise InputError(f"{path}: ImagePositionPatient {plane.origin_mm} mm lies outside any scanner")
    description = " ".join(str(dataset.get(tag) or "") for tag in ("SeriesDescription", "ProtocolName")).strip()
    return Header(
        path=path,
        study_uid=_uid(path, dataset.get("StudyInstanceUID")),
        series_uid=_uid(path, dataset.get("SeriesInstanceUID")),
        instance_number=int(dataset.get("InstanceNumber") or 0),
        plane=plane,
        shape=shape,
        description=description,
        repetition_time_ms=_number(dataset.get("RepetitionTime")),
        echo_time_ms=_number(dataset.get("EchoTime")),
        inversion_time_ms=_number(dataset.get("InversionTime")),
    )


def _bounded_shape(path: Path, dataset: pydicom.Dataset) -> tuple[int, int]:
    rows, columns = int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)
    frames = int(dataset.get("NumberOfFrames") or 1)
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
