"""Classic slices -> one Enhanced MR object (PS3.3 A.36)."""

import io
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import UID

_ENHANCED_MR: Final = UID("1.2.840.10008.5.1.4.1.1.4.1")
# What an enhanced object says once, as a classic file does.
_COMMON: Final = (
    "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID", "PatientID", "Modality",
    "SeriesDescription", "ProtocolName", "SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
)  # fmt: skip


def enhanced(slices: Sequence[Dataset]) -> Dataset:
    """The slices of one series, uncompressed and of one shape, as frames in their order."""
    first = slices[0]
    made = pydicom.FileDataset(io.BytesIO(), {}, file_meta=first.file_meta, preamble=b"\0" * 128)
    for name in _COMMON:
        if name in first:
            setattr(made, name, first[name].value)
    pulses = {"SE": "SPIN", "GR": "GRADIENT"}
    said = {pulses[s] for s in np.atleast_1d(first.get("ScanningSequence") or []) if s in pulses}
    if said:
        made.EchoPulseSequence = said.pop() if len(said) == 1 else "BOTH"
    made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = _ENHANCED_MR
    made.ImageType = [*(first.get("ImageType") or ("ORIGINAL", "PRIMARY"))]
    made.NumberOfFrames, made.InstanceNumber = len(slices), 1
    made.SharedFunctionalGroupsSequence = [_shared_groups(first)]
    made.PerFrameFunctionalGroupsSequence = [_frame_groups(s) for s in slices]
    made.PixelData = b"".join(s.PixelData for s in slices)
    made["PixelData"].VR = "OW"
    return made


def _shared_groups(dataset: Dataset) -> Dataset:
    inversion = dataset.get("InversionTime")
    return _groups({
        "PixelMeasuresSequence": {
            "PixelSpacing": dataset.PixelSpacing, "SliceThickness": dataset.get("SliceThickness")},
        "MREchoSequence": {"EffectiveEchoTime": dataset.get("EchoTime")},
        "MRTimingAndRelatedParametersSequence": {
            "RepetitionTime": dataset.get("RepetitionTime"), "FlipAngle": dataset.get("FlipAngle")},
        "MRModifierSequence": {"InversionTimes": inversion or None, "InversionRecovery": "YES" if inversion else "NO"},
    })  # fmt: skip


def _frame_groups(dataset: Dataset) -> Dataset:
    return _groups({
        "PlanePositionSequence": {"ImagePositionPatient": dataset.ImagePositionPatient},
        "PlaneOrientationSequence": {"ImageOrientationPatient": dataset.ImageOrientationPatient},
        "PixelValueTransformationSequence": {
            "RescaleSlope": dataset.get("RescaleSlope"), "RescaleIntercept": dataset.get("RescaleIntercept")},
    })  # fmt: skip


def _groups(values: Mapping[str, Mapping[str, Any]]) -> Dataset:
    groups = Dataset()
    for sequence, attributes in values.items():
        known = {name: value for name, value in attributes.items() if value is not None}
        if known:
            group = Dataset()
            for name, value in known.items():
                setattr(group, name, value)
            setattr(groups, sequence, [group])
    return groups
