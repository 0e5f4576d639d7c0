"""Writes minimal DICOM files for tests."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

SAGITTAL = [0, 1, 0, 0, 0, -1]
AXIAL = [1, 0, 0, 0, 1, 0]
CORONAL = [1, 0, 0, 0, 0, -1]
ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"
# Tag of a classic file -> functional group and attribute of an enhanced one.
GROUPS = {
    "ImagePositionPatient": ("PlanePositionSequence", "ImagePositionPatient"),
    "ImageOrientationPatient": ("PlaneOrientationSequence", "ImageOrientationPatient"),
    "PixelSpacing": ("PixelMeasuresSequence", "PixelSpacing"),
    "RescaleSlope": ("PixelValueTransformationSequence", "RescaleSlope"),
    "RescaleIntercept": ("PixelValueTransformationSequence", "RescaleIntercept"),
    "EchoTime": ("MREchoSequence", "EffectiveEchoTime"),
    "RepetitionTime": ("MRTimingAndRelatedParametersSequence", "RepetitionTime"),
    "FlipAngle": ("MRTimingAndRelatedParametersSequence", "FlipAngle"),
    "InversionTime": ("MRModifierSequence", "InversionTimes"),
    "ImageType": ("MRImageFrameTypeSequence", "FrameType"),
    "ComplexImageComponent": ("MRImageFrameTypeSequence", "ComplexImageComponent"),
    "AcquisitionNumber": ("FrameContentSequence", "TemporalPositionIndex"),
    "DiffusionBValue": ("MRDiffusionSequence", "DiffusionBValue"),
}


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


def write_multiframe(
    path: Path, frames: Sequence[Mapping[str, Any]], pixels: np.ndarray, *, shared: Sequence[str] = (), **tags: Any
) -> Path:
    """One Enhanced MR object.

    Args:
      frames: what a classic file of each frame would say; `GROUPS` names the tags and their functional groups.
      pixels: [frames, rows, columns].
      shared: the tags that are written once for all frames, with the value of the first.
      tags: replace or (with None) remove what `write_dicom` writes outside the groups.
    """
    lone = dict.fromkeys(("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"))
    first = {name: frames[0][name] for name in shared}
    own = [{name: value for name, value in frame.items() if name not in shared} for frame in frames]
    values = {
        "SOPClassUID": ENHANCED_MR, "NumberOfFrames": len(frames),
        "SharedFunctionalGroupsSequence": [_groups(first)],
        "PerFrameFunctionalGroupsSequence": [_groups(frame) for frame in own],
        "PixelData": pixels.tobytes(),
    }  # fmt: skip
    return write_dicom(path, pixels[0], sop_class=ENHANCED_MR, **(lone | values | tags))


def _groups(values: Mapping[str, Any]) -> Dataset:
    item = Dataset()
    for name, value in values.items():
        sequence, keyword = GROUPS[name]
        if sequence not in item:
            setattr(item, sequence, [Dataset()])
        setattr(getattr(item, sequence)[0], keyword, value)
    return item
