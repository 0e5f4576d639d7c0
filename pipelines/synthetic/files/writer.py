"""Files of a synthetic study: DICOM slices as the challenge's look, and tables in its formats."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    UID,
    EnhancedMRImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from shared.geometry import Plane
from shared.labels import FINDINGS, SEVERITY_COLUMNS, View

_ENCODERS: Final[Mapping[str, str]] = {
    RLELossless: "pylibjpeg",
    JPEG2000Lossless: "pylibjpeg",
    JPEGLSLossless: "pyjpegls",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSlice:
    """One image as it goes to disk. pixels: # [rows, columns]"""

    instance_number: int
    plane: Plane
    pixels: NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSeries:
    """One series as it goes to disk.

    Attributes:
      header: further or changed elements of every slice, keyword -> value; None leaves the element out.
      syntax: transfer syntax UID.
      damaged: instance numbers of files that are cut off in the middle.
    """

    study_id: str
    series_id: str
    view: View
    slices: tuple[StoredSlice, ...]
    thickness_mm: float
    gap_mm: float
    window: tuple[float, float]
    header: Mapping[str, Any] = field(default_factory=dict)
    syntax: str = str(RLELossless)
    damaged: frozenset[int] = frozenset()


def pseudo_uid(rng: np.random.Generator) -> str:
    """Two numbers and a dot, like the challenge's de-identified UIDs."""
    return f"{rng.integers(10**9, 2**31)}.{rng.integers(10**8, 10**9)}"


def write_series(series: StoredSeries, folder: Path, rng: np.random.Generator) -> None:
    """Writes `<instance>.dcm` files into `folder`, which it makes."""
    folder.mkdir(parents=True)
    frame, study_uid, series_uid = pseudo_uid(rng), f"{series.study_id}.1", f"{series.study_id}.{series.series_id}"
    for item in series.slices:
        ds = _dataset(series, item)
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = study_uid, series_uid, frame
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = UID(pseudo_uid(rng))
        for keyword, value in series.header.items():
            if value is None:
                ds.pop(keyword, None)
            else:
                setattr(ds, keyword, value)
        path = folder / f"{item.instance_number}.dcm"
        _save(ds, path, series.syntax)
        if item.instance_number in series.damaged:
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])


def _save(ds: Dataset, path: Path, syntax: str) -> None:
    if syntax == ExplicitVRBigEndian:
        ds.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
        ds.PixelData = np.frombuffer(ds.PixelData, dtype="<u2").astype(">u2").tobytes()
    elif syntax != ExplicitVRLittleEndian:
        ds.compress(syntax, encoding_plugin=_ENCODERS[syntax], generate_instance_uid=False)
    ds.save_as(path, enforce_file_format=True)


def _number(value: float) -> str:
    """Decimal string of at most 16 characters."""
    return f"{value:.6f}".rstrip("0").rstrip(".") or "0"


def _dataset(series: StoredSeries, item: StoredSlice) -> Dataset:
    """One slice, without the identifiers. The challenge's files have no Modality and no SOPClassUID."""
    plane, pixels = item.plane, item.pixels
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    ds.file_meta.ImplementationClassUID = UID("1.2.3.4")
    ds.SeriesDescription = {View.SAGITTAL_T1: "T1", View.SAGITTAL_T2: "T2", View.AXIAL_T2: "T2"}[series.view]
    ds.PatientID = series.study_id
    ds.SliceThickness = _number(series.thickness_mm)
    ds.SpacingBetweenSlices = _number(series.gap_mm)
    ds.PatientPosition = "HFS"
    ds.InstanceNumber = item.instance_number
    ds.ImagePositionPatient = [_number(v) for v in plane.origin_mm]
    ds.ImageOrientationPatient = [_number(v) for v in (*plane.row_dir, *plane.col_dir)]
    ds.PixelSpacing = [_number(v) for v in plane.spacing_mm]
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows, ds.Columns = pixels.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 12, 11
    ds.PixelRepresentation = int(pixels.dtype.kind == "i")
    ds.WindowCenter, ds.WindowWidth = (_number(v) for v in series.window)
    ds.PixelData = pixels.tobytes()
    return ds


def wide_grades(study_ids: Sequence[str], texts: Sequence[Sequence[str]]) -> pd.DataFrame:
    """`train.csv`: one row per study, one column per finding."""
    table = pd.DataFrame(list(texts), columns=[f.column for f in FINDINGS])
    table.insert(0, "study_id", list(study_ids))
    return table


def probability_rows(study_ids: Sequence[str], probabilities: NDArray[np.float64]) -> pd.DataFrame:
    """Submission format, sorted by row_id. probabilities: # [n, 25, 3]"""
    row_ids = [f.row_id(study) for study in study_ids for f in FINDINGS]
    table = pd.DataFrame(probabilities.reshape(-1, 3), columns=list(SEVERITY_COLUMNS))
    table.insert(0, "row_id", row_ids)
    return table.sort_values("row_id", ignore_index=True)


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """CSV with enough digits to round-trip, and the same bytes everywhere."""
    table.to_csv(path, index=False, float_format="%.10g", lineterminator="\n")
