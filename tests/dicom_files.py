"""Writes minimal DICOM files for tests."""

from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

SAGITTAL = [0, 1, 0, 0, 0, -1]
AXIAL = [1, 0, 0, 0, 1, 0]
CORONAL = [1, 0, 0, 0, 0, -1]


def write_dicom(
    path: Path, pixels: np.ndarray | None = None, *, sop_class: str = "1.2.840.10008.5.1.4.1.1.4", **tags: Any
) -> Path:
    """One MR slice; `tags` replace or (with None) remove the defaults."""
    pixels = np.arange(12 * 16, dtype=np.uint16).reshape(12, 16) if pixels is None else pixels
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = UID(sop_class)
    meta.MediaStorageSOPInstanceUID = UID("1.2.3")
    dataset = FileDataset(str(path), Dataset(), file_meta=meta, preamble=b"\0" * 128)
    values: dict[str, Any] = {
        "StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.2.3", "InstanceNumber": 1, "SeriesDescription": "SAG T2",
        "ImagePositionPatient": [0, 0, 0], "ImageOrientationPatient": SAGITTAL, "PixelSpacing": [0.5, 0.5],
        "Rows": pixels.shape[0], "Columns": pixels.shape[1], "SamplesPerPixel": 1, "BitsAllocated": 16,
        "BitsStored": 16, "HighBit": 15, "PixelRepresentation": int(pixels.dtype.kind == "i"),
        "PhotometricInterpretation": "MONOCHROME2",
        "PixelData": pixels.tobytes(), "PatientName": "Doe^Jane",
    }  # fmt: skip
    for name, value in (values | tags).items():
        if value is not None:
            setattr(dataset, name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path
