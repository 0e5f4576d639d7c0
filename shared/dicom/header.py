"""A DICOM data set -> the header of one slice: its plane in patient space, its identifiers and how it was acquired.

Values of any shape hide behind any tag, so whatever is read here is checked before it is used. Free text leaves only as
known terms and digests. Of the patient only PatientID is read, and four digits of its digest are kept: enough to tell
two patients under one study UID apart, too few to find a patient by.
"""

import functools
import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pydicom
from pydicom.uid import UID

from shared.dicom.tags import DicomFaultError, decimal_numbers, tag_value, whole_number
from shared.dicom.views import COLOURED, IMAGE_TYPES, NOT_DESCRIBED, SEQUENCES, Acquisition
from shared.dicom.vocabulary import Term, terms_in
from shared.geometry import ORIENTATION_TOLERANCE, Plane
from shared.runtime.errors import InputError
from shared.runtime.problems import counted
from shared.study import Slice, StoredPixels

MAX_SIDE_PX: Final = 4096
# Limits of plausible geometry: pixel size (less is cm or m), field of view, distance from the isocentre.
SPACING_MM: Final = (0.1, 10.0)
MAX_FIELD_MM: Final = 1500.0
MAX_ORIGIN_MM: Final = 5000.0

# Scanners write directions with about six decimals, some exporters with two. Up to here they are made orthonormal.
DIRECTION_TOLERANCE: Final = 0.02

# Up to rounding; what is nearer to the tolerance is judged again, by the arithmetic that mends it.
_SURELY_ORTHONORMAL: Final = 0.999 * ORIENTATION_TOLERANCE

# ManufacturerModelName of the objects that this project makes (pipelines.clinic).
OUR_MODEL_NAME: Final = "lumbar-severity"

_UID = re.compile(r"[0-9.]{1,64}")
_TIME = re.compile(r"([0-9]{2}):?([0-9]{2})?:?([0-9]{2}(?:\.[0-9]{1,6})?)?")
# All slices of a series have the same words.
_terms_in = functools.lru_cache(maxsize=256)(terms_in)
# Defined terms of Modality (PS3.3 C.7.3.1.1.1) that a folder of images may hold; any other value may be a name.
_MODALITIES: Final = """
    AU BI BMD CR CT DG DOC DX ECG EEG EPS ES FID GM HC HD IO IVOCT IVUS KER KO LS MG MR NM OAM OCT OP OPT OPV PLAN
    POS PR PT PX REG RESP RF RG RTDOSE RTIMAGE RTPLAN RTRECORD RTSTRUCT RWV SEG SM SMR SR SRF STAIN TG US VA XA XC"""

HEADER_TAGS: Final = [
    "SeriesInstanceUID", "StudyInstanceUID", "InstanceNumber",
    "Rows", "Columns", "NumberOfFrames", "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient",
    "ManufacturerModelName",
]  # fmt: skip
# What tells the series of a plain folder apart; a challenge's tables say it.
DESCRIBING_TAGS: Final = [
    "Modality", "SOPClassUID", "ImageType", "ScanningSequence", "RepetitionTime", "EchoTime", "InversionTime",
    "FlipAngle", "SeriesDescription", "ProtocolName", "BodyPartExamined", "FrameOfReferenceUID", "PatientID",
    "SOPInstanceUID", "SliceThickness", "AcquisitionTime", "SeriesTime", "SeriesNumber", "AcquisitionNumber",
    "ScanOptions", "ContrastBolusAgent", "SamplesPerPixel",
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """When a slice was acquired, to tell a repeat from the first try; None where its header does not say.

    Attributes:
      time_s: seconds since midnight. No date is read.
    """

    time_s: float | None = None
    series_number: int | None = None
    acquisition_number: int | None = None


UNKNOWN_MOMENT: Final = Moment()


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The header of one slice: of a file, or of one frame of a multi-frame file.

    Attributes:
      frame: index of the frame in its file, from 0.
      study_uid, series_uid: None where absent; those that are no DICOM UIDs are replaced by a digest.
      acquisition, frame_of_reference, sop_uid, thickness_mm, moment, description, patient: only when the header was
        read with `described`; the last two are digests of SeriesDescription and PatientID, for comparison.
      direction_error: how far ImageOrientationPatient was from orthonormal, where it was made so; else 0.
      stored: set if a prepared store holds the file.
    """

    path: Path
    frame: int = 0
    study_uid: str | None
    series_uid: str | None
    instance_number: int
    plane: Plane
    shape: tuple[int, int]
    acquisition: Acquisition = NOT_DESCRIBED
    frame_of_reference: str | None = None
    sop_uid: str | None = None
    thickness_mm: float | None = None
    moment: Moment = UNKNOWN_MOMENT
    description: str = ""
    patient: str = ""
    direction_error: float = 0.0
    stored: StoredPixels | None = None

    def to_slice(self) -> Slice:
        return Slice(
            path=self.path, frame=self.frame, instance_number=self.instance_number, plane=self.plane, shape=self.shape,
            stored=self.stored,
        )  # fmt: skip


class NoPlaneError(InputError):
    """The file is a DICOM image, but its header gives the slice no usable place in the patient."""


class NoImageError(InputError):
    """The file is no slice: DICOMDIR, report, presentation state, PDF, or a picture that this project made."""


def slice_name(path: Path, frame: int | None = None) -> str:
    """How messages name a slice: by its file, and by the number of its frame where the file has several."""
    return str(path) if frame is None else f"{path} frame {frame + 1}"


def header_of(path: Path, dataset: pydicom.Dataset, *, described: bool, frame: int | None = None) -> Header:
    """The header of a parsed file; `described` also fills what tells the series of a plain folder apart.

    Args:
      dataset: a classic file, or one frame of an enhanced one as `shared.dicom.frames.frames_of` gives it.
      frame: index of that frame.

    Raises:
      InputError: for several frames, no plane, or values out of bounds. Foreign values may raise anything else.
    """
    name = slice_name(path, frame)
    missing = [
        t for t in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing") if not tag_value(dataset, t)
    ]
    if missing:
        if tag_value(dataset, "NumberOfFrames") not in (None, 1):
            bounded_shape(name, dataset)  # says that there are several frames, whose places lie elsewhere
        kind = NoPlaneError if _may_be_image(dataset) else NoImageError
        raise kind(f"{name}: tag {missing[0]} is missing; without it the slice has no place in the patient")
    row_dir, col_dir, direction_error = _directions(decimal_numbers(dataset, "ImageOrientationPatient"))
    try:
        plane = Plane(
            origin_mm=tuple(decimal_numbers(dataset, "ImagePositionPatient")),  # type: ignore[arg-type]  # lengths are
            row_dir=row_dir, col_dir=col_dir,  # type: ignore[arg-type]  # checked at construction
            spacing_mm=tuple(decimal_numbers(dataset, "PixelSpacing")),  # type: ignore[arg-type]
        )  # fmt: skip
    except ValueError as error:
        raise NoPlaneError(f"{name}: {error}") from error
    shape = bounded_shape(name, dataset)
    field_mm = max(n * s for n, s in zip(shape, plane.spacing_mm, strict=True))
    small, large = min(plane.spacing_mm), max(plane.spacing_mm)
    if small < SPACING_MM[0] or large > SPACING_MM[1] or field_mm > MAX_FIELD_MM:
        raise InputError(
            f"{name}: PixelSpacing {plane.spacing_mm} mm for {shape} pixels; no scanner makes such an image"
        )
    if max(map(abs, plane.origin_mm)) > MAX_ORIGIN_MM:
        raise InputError(f"{name}: ImagePositionPatient {plane.origin_mm} mm lies outside any scanner")
    return Header(
        path=path,
        frame=frame or 0,
        study_uid=uid_or_digest(tag_value(dataset, "StudyInstanceUID")),
        series_uid=uid_or_digest(tag_value(dataset, "SeriesInstanceUID")),
        instance_number=_integer(tag_value(dataset, "InstanceNumber")),
        plane=plane,
        shape=shape,
        direction_error=direction_error,
        **(_description(dataset) if described else {}),
    )


def _description(dataset: pydicom.Dataset) -> dict[str, Any]:
    """What a described header holds besides. Free text leaves only as known terms and digests."""
    text, protocol, region, patient = (
        str(tag_value(dataset, tag) or "")
        for tag in ("SeriesDescription", "ProtocolName", "BodyPartExamined", "PatientID")
    )
    contrast = str(tag_value(dataset, "AcquisitionContrast") or "")
    modality = str(tag_value(dataset, "Modality") or "")
    coloured = (COLOURED,) if tag_value(dataset, "SamplesPerPixel") not in (None, 1) else ()
    return {
        "acquisition": Acquisition(
            modality=modality if modality in _MODALITIES.split() else "unknown" if modality else "",
            sop_class=uid_or_digest(tag_value(dataset, "SOPClassUID")) or "",
            image_type=tuple(word for word in _words(dataset, "ImageType") if word in IMAGE_TYPES) + coloured,
            sequence=frozenset(_words(dataset, "ScanningSequence")) & SEQUENCES,
            repetition_ms=_number(tag_value(dataset, "RepetitionTime")),
            echo_ms=_number(tag_value(dataset, "EchoTime")),
            inversion_ms=_number(tag_value(dataset, "InversionTime")),
            flip_deg=_number(tag_value(dataset, "FlipAngle")),
            terms=_terms_in(text) | _told_outright(dataset),
            protocol_terms=_terms_in(f"{protocol} {region} {contrast}"),
        ),
        "frame_of_reference": uid_or_digest(tag_value(dataset, "FrameOfReferenceUID")),
        "sop_uid": uid_or_digest(tag_value(dataset, "SOPInstanceUID")),
        "thickness_mm": _number(tag_value(dataset, "SliceThickness")),
        "moment": Moment(
            time_s=_seconds(tag_value(dataset, "AcquisitionTime") or tag_value(dataset, "SeriesTime")),
            series_number=_integer(tag_value(dataset, "SeriesNumber")) or None,
            acquisition_number=_integer(tag_value(dataset, "AcquisitionNumber")) or None,
        ),
        "description": _digest(text, 4),
        "patient": _digest(patient.strip().casefold(), 4),
    }


def _told_outright(dataset: pydicom.Dataset) -> frozenset[Term]:
    """What tags of their own say: fat suppression (ScanOptions FS, PS3.3 C.8.3.1) and contrast agent."""
    told = {Term.FAT_SUPPRESSED} if "FS" in _words(dataset, "ScanOptions") else set()
    return frozenset(told | ({Term.CONTRAST_AGENT} if tag_value(dataset, "ContrastBolusAgent") else set()))


def _words(dataset: pydicom.Dataset, keyword: str) -> list[str]:
    value = tag_value(dataset, keyword)
    return [str(v).strip().upper() for v in ([value] if isinstance(value, str) else value or ())]


def _directions(values: Sequence[float]) -> tuple[tuple[float, ...], tuple[float, ...], float]:
    """Row and column direction, made orthonormal up to `DIRECTION_TOLERANCE`, and the error that was mended."""
    along, down = tuple(values[:3]), tuple(values[3:])
    if len(along) == len(down) == 3 and _off(along, down) < _SURELY_ORTHONORMAL:
        return along, down, 0.0
    row, column = np.array(along), np.array(down)
    off = max(abs(np.linalg.norm(row) - 1), abs(np.linalg.norm(column) - 1), abs(row @ column))
    if not ORIENTATION_TOLERANCE < off <= DIRECTION_TOLERANCE:
        return along, down, 0.0
    row = row / np.linalg.norm(row)
    column = column - (column @ row) * row
    return tuple(row.tolist()), tuple((column / np.linalg.norm(column)).tolist()), float(off)


def _off(row: Sequence[float], column: Sequence[float]) -> float:
    """How far two directions are from orthonormal; plain Python, since every file comes by."""
    product = sum(r * c for r, c in zip(row, column, strict=True))
    return max(abs(math.hypot(*row) - 1), abs(math.hypot(*column) - 1), abs(product))


def _integer(value: Any) -> int:
    """A whole number of at most nine digits, 0 for anything else: slices are then numbered by position."""
    text = str(value).strip()
    return int(text) if re.fullmatch(r"-?[0-9]{1,9}", text) else 0


def _seconds(value: Any) -> float | None:
    """Seconds since midnight of a DICOM time, hhmmss.ffffff."""
    found = _TIME.match(str(value))
    return (
        sum(float(part or 0) * unit for part, unit in zip(found.groups(), (3600, 60, 1), strict=True))
        if found
        else None
    )


def _digest(text: str, digits: int) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:digits] if text else ""


def _may_be_image(dataset: pydicom.Dataset) -> bool:
    """False for an object without rows whose SOP class is not an image, and for one of ours.

    A truncated image still has an image class.
    """
    if is_ours(dataset):
        return False
    kind = dataset.file_meta.get("MediaStorageSOPClassUID")
    return not kind or "Image" in UID(kind).name or bool(tag_value(dataset, "Rows"))


def is_ours(dataset: pydicom.Dataset) -> bool:
    """Whether a data set is an object that this project made, which comes back with its study when that is fetched."""
    try:
        return bool(tag_value(dataset, "ManufacturerModelName") == OUR_MODEL_NAME)
    except DicomFaultError:
        return False


def bounded_shape(name: str, dataset: pydicom.Dataset) -> tuple[int, int]:
    """Rows and columns of the one frame; raises `InputError` for several frames or sizes out of bounds."""
    rows, columns = whole_number(dataset, "Rows"), whole_number(dataset, "Columns")
    frames = whole_number(dataset, "NumberOfFrames") or 1
    if frames != 1:
        raise InputError(
            f"{name}: {counted(frames, 'frame')}; expected one frame per file (split it, for example with dcm2dcm)"
        )
    if not (0 < rows <= MAX_SIDE_PX and 0 < columns <= MAX_SIDE_PX):
        raise InputError(f"{name}: image of {rows} x {columns} pixels; expected 1 to {MAX_SIDE_PX} a side")
    return rows, columns


def uid_or_digest(value: object) -> str | None:
    """A UID is only compared and named: one with letters becomes a digest, which no path or name can hide in."""
    if value is None or str(value) == "":
        return None
    text = str(value)
    return text if _UID.fullmatch(text) and text.strip(".") else f"uid-{_digest(text, 16)}"


def _number(value: Any) -> float | None:
    try:
        number = math.nan if value is None or value == "" else float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
