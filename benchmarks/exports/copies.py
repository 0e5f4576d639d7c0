"""Copies of a study that hold the same slices, exported in another way."""

import hashlib
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from benchmarks.exports.multiframe import enhanced
from shared.dicom.scan import scan_folder
from shared.dicom.vocabulary import Term, terms_in

_MR_IMAGE: Final = "1.2.840.10008.5.1.4.1.1.4"
_DESCRIPTIONS: Final = (
    "SeriesDescription", "StudyDescription", "ProtocolName", "BodyPartExamined", "PerformedProcedureStepDescription",
)  # fmt: skip
# What a Polish department calls a series.
_POLISH: Final[Mapping[Term, str]] = {
    Term.T1: "T1", Term.T2: "T2", Term.STIR: "STIR", Term.PROTON_DENSITY: "gęstość protonowa",
    Term.LOCALIZER: "lokalizator", Term.FAT_SUPPRESSED: "saturacja tłuszczu", Term.CONTRAST_AGENT: "po kontraście",
    Term.LUMBAR: "odcinek lędźwiowy",
}  # fmt: skip
# Files of a challenge lack what every scanner writes: echo and repetition time in ms by weighting.
_TIMES: Final = {Term.T1: (10.0, 600.0), Term.T2: (100.0, 3500.0)}


# Writes a copy of a study's folder into an empty one, and says what to read.
Copy: TypeAlias = Callable[[Path, Path], Path]


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One slice of a study that is copied.

    Attributes:
      series: number of its series in the study, from 0.
      index: of the slice in its series, in the order of the files' names.
    """

    dataset: Dataset
    series: int
    index: int


def items_of(study: Path) -> Iterator[Item]:
    """The slices of a study one by one, uncompressed, with the tags that scanners write."""
    numbers: dict[str, int] = {}
    counts: dict[str, int] = defaultdict(int)
    for n, path in enumerate(scan_folder(study).dicom):
        dataset = pydicom.dcmread(path)
        if "PixelData" not in dataset:
            continue
        _decompress(dataset)
        uid = str(dataset.SeriesInstanceUID)
        yield Item(dataset=_dressed(dataset, n), series=numbers.setdefault(uid, len(numbers)), index=counts[uid])
        counts[uid] += 1


def _decompress(dataset: Dataset) -> None:
    pixels = dataset.pixel_array
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OW"
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian


def _dressed(dataset: Dataset, number: int) -> Dataset:
    """The data set with what every scanner writes and a challenge's files lack."""
    said = terms_in(str(dataset.get("SeriesDescription", "")))
    echo, repetition = next((times for term, times in _TIMES.items() if term in said), (None, None))
    for name, value in {
        "Modality": "MR", "SOPClassUID": _MR_IMAGE, "SOPInstanceUID": f"1.2.3.{number}", "EchoTime": echo,
        "RepetitionTime": repetition, "FrameOfReferenceUID": "1.2.3",
    }.items():  # fmt: skip
        if not dataset.get(name) and value is not None:
            setattr(dataset, name, value)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    return dataset


def _each(change: Callable[[Item], None], name: Callable[[Item], str] | None = None) -> Copy:
    """A copy that changes one slice at a time."""

    def copy(study: Path, out: Path) -> Path:
        for item in items_of(study):
            change(item)
            path = out / (name(item) if name else f"{item.series}/{item.index}.dcm")
            path.parent.mkdir(parents=True, exist_ok=True)
            _save(item.dataset, path)
        return out

    return copy


def _save(dataset: Dataset, path: Path) -> None:
    if dataset.file_meta.TransferSyntaxUID != ExplicitVRBigEndian:
        dataset.save_as(path, enforce_file_format=True)
        return
    decoded = Dataset()  # a file's own data set cannot change its byte order
    for element in dataset:
        decoded.add(element)
    decoded.file_meta = dataset.file_meta
    pydicom.dcmwrite(path, decoded, implicit_vr=False, little_endian=False, enforce_file_format=True)


def _split(item: Item) -> None:
    item.dataset.SeriesInstanceUID += f".{1 + item.index % 3}"


def _join(item: Item) -> None:
    item.dataset.SeriesInstanceUID = "1.2.3.4"


def _uid_per_slice(item: Item) -> None:
    item.dataset.SeriesInstanceUID = f"1.2.3.{item.series}.{item.index}"


def _undescribe(item: Item) -> None:
    for name in _DESCRIPTIONS:
        if name in item.dataset:
            delattr(item.dataset, name)


def _translate(item: Item) -> None:
    said = terms_in(str(item.dataset.get("SeriesDescription", "")))
    _undescribe(item)
    item.dataset.SpecificCharacterSet = "ISO_IR 101"
    item.dataset.SeriesDescription = " ".join(word for term, word in _POLISH.items() if term in said)
    item.dataset.ProtocolName = "Kręgosłup lędźwiowy"


def _anonymous_name(item: Item) -> str:
    return hashlib.sha256(f"{item.series} {item.index}".encode()).hexdigest()[:10]


def _reencode(item: Item) -> None:
    """Four encodings in turn."""
    dataset = item.dataset
    syntax = (RLELossless, JPEGLSLossless, JPEG2000Lossless, ExplicitVRBigEndian)[item.index % 4]
    if syntax.is_compressed:
        dataset.compress(syntax, generate_instance_uid=False)
        return
    dataset.PixelData = dataset.pixel_array.astype(">u2" if dataset.PixelRepresentation == 0 else ">i2").tobytes()
    dataset.file_meta.TransferSyntaxUID = syntax


def _turn(item: Item) -> None:
    """Rows and columns swapped or in reverse order, each series in another way; the header says so."""
    dataset, way = item.dataset, 1 + item.series % 7
    pixels = dataset.pixel_array
    origin = np.array(dataset.ImagePositionPatient, float)
    row_dir, col_dir = np.array(dataset.ImageOrientationPatient, float).reshape(2, 3)
    between_rows, between_columns = map(float, dataset.PixelSpacing)
    if way & 1:  # the last column first
        origin, row_dir, pixels = origin + row_dir * between_columns * (pixels.shape[1] - 1), -row_dir, pixels[:, ::-1]
    if way & 2:  # the last row first
        origin, col_dir, pixels = origin + col_dir * between_rows * (pixels.shape[0] - 1), -col_dir, pixels[::-1]
    if way & 4:
        row_dir, col_dir, between_rows, between_columns = col_dir, row_dir, between_columns, between_rows
        pixels = pixels.T
    dataset.ImagePositionPatient = [round(float(v), 6) for v in origin]
    dataset.ImageOrientationPatient = [round(float(v), 6) for v in (*row_dir, *col_dir)]
    dataset.PixelSpacing = [between_rows, between_columns]
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.PixelData = np.ascontiguousarray(pixels).tobytes()


def _zip(study: Path, out: Path) -> Path:
    _each(_nothing)(study, out / "files")
    with zipfile.ZipFile(out / "study.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted((out / "files").rglob("*.dcm")):
            archive.write(path, path.relative_to(out / "files"))
    return out / "study.zip"


def _multiframe(study: Path, out: Path) -> Path:
    """One Enhanced MR object for each series (PS3.3 A.36), its frames in the order of the files."""
    series: dict[tuple[object, ...], list[Dataset]] = defaultdict(list)
    for item in items_of(study):
        series[item.series, item.dataset.Rows, item.dataset.Columns].append(item.dataset)
    out.mkdir(parents=True, exist_ok=True)
    for n, slices in enumerate(series.values()):
        enhanced(slices).save_as(out / f"{n}.dcm", enforce_file_format=True)
    return out


def _nothing(item: Item) -> None:
    pass


COPIES: Final[Mapping[str, Copy]] = {
    "zip": _zip,
    "multi-frame": _multiframe,
    "each series split into three UIDs": _each(_split),
    "all series joined under one UID": _each(_join),
    "renamed, in one folder": _each(_nothing, _anonymous_name),
    "re-encoded": _each(_reencode),
    "flipped and transposed": _each(_turn),
    "no descriptions": _each(_undescribe),
    "foreign descriptions": _each(_translate),
    "a UID per slice": _each(_uid_per_slice),
}
