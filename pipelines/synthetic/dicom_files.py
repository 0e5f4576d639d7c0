"""Writes the series of a synthetic study as DICOM files that look like the challenge's."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
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

from pipelines.synthetic.scanner.series import StoredSeries, StoredSlice
from shared.labels import View

_ENCODERS: Final[Mapping[str, str]] = {
    RLELossless: "pylibjpeg",
    JPEG2000Lossless: "pylibjpeg",
    JPEGLSLossless: "pyjpegls",
}


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
