"""Enhanced multi-frame objects -> one data set per frame, with the tags that a file of its own would have.

An enhanced object (PS3.3, A.36 and C.7.6.16) says in functional groups what a classic file says in tags: in shared
groups what all frames have in common, in groups per frame what differs. Vendors put a group in either place. Legacy
converted objects (PS3.3, A.70) keep the classic tags in groups of unassigned attributes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Self

import pydicom
from pydicom.dataelem import DataElement
from pydicom.tag import BaseTag, Tag

from shared.dicom.decoding.encapsulation import frame_extents, put_frame
from shared.dicom.tags import tag_value, whole_number
from shared.runtime.errors import InputError
from shared.runtime.problems import counted

MAX_FRAMES: Final = 4096
MAX_OBJECT_PX: Final = 2**28

_SHARED, _PER_FRAME = Tag("SharedFunctionalGroupsSequence"), Tag("PerFrameFunctionalGroupsSequence")
# What is read of an enhanced object besides the tags that classic files have too.
FRAME_TAGS: Final = (
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "EchoPulseSequence",
    "EchoPlanarPulseSequence", "AcquisitionContrast", "ComplexImageComponent",
)  # fmt: skip
_UNASSIGNED: Final = ("EchoTime", "RepetitionTime", "InversionTime", "FlipAngle", "ScanningSequence", "ImageType")
# Functional group -> its attributes that are read. A later group outranks an earlier one.
_ATTRIBUTES: Final[Mapping[str, tuple[str, ...]]] = {
    "UnassignedSharedConvertedAttributesSequence": _UNASSIGNED,
    "UnassignedPerFrameConvertedAttributesSequence": _UNASSIGNED,
    "PlanePositionSequence": ("ImagePositionPatient",),
    "PlaneOrientationSequence": ("ImageOrientationPatient",),
    "PixelMeasuresSequence": ("PixelSpacing", "SliceThickness", "SpacingBetweenSlices"),
    "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept"),
    "FrameContentSequence": ("TemporalPositionIndex", "FrameAcquisitionNumber"),
    "FrameVOILUTSequence": ("WindowCenter", "WindowWidth"),
    "MRImageFrameTypeSequence": ("FrameType", "ComplexImageComponent", "AcquisitionContrast"),
    "MREchoSequence": ("EffectiveEchoTime",),
    "MRTimingAndRelatedParametersSequence": ("RepetitionTime", "FlipAngle"),
    "MRModifierSequence": ("InversionRecovery", "InversionTimes"),
    "MRDiffusionSequence": ("DiffusionBValue",),
}
# What decoding a frame needs.
PIXEL_TAGS: Final = (
    *FRAME_TAGS[:2], "NumberOfFrames", "Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation",
    "PlanarConfiguration", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "RescaleSlope",
    "RescaleIntercept", "ImagePositionPatient",
)  # fmt: skip
_COMPONENTS: Final = {"PHASE": "PHASE", "REAL": "R", "IMAGINARY": "I"}
_PULSES: Final = {"SPIN": ["SE"], "GRADIENT": ["GR"], "BOTH": ["SE", "GR"]}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FrameTable:
    """The frames of one file, and where it keeps their pixels, so that one is read without the others.

    Attributes:
      datasets: one per frame, without pixels.
      extents: offset and length of each frame's pixels in the file, in bytes.
    """

    datasets: tuple[pydicom.Dataset, ...]
    extents: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, path: Path, dataset: pydicom.Dataset, file: BinaryIO) -> Self:
        """The table of a parsed file that stands at its pixels. Raises `InputError` or `DicomFaultError`."""
        datasets = tuple(frames_of(path, dataset))
        return cls(datasets=datasets, extents=tuple(frame_extents(file, dataset, len(datasets))))

    def with_pixels(self, frame: int, file: BinaryIO) -> pydicom.Dataset:
        """A frame's data set with its pixels, which are read from the file."""
        dataset, (offset, length) = pydicom.Dataset(dict(self.datasets[frame].items())), self.extents[frame]
        dataset.file_meta = self.datasets[frame].file_meta
        file.seek(offset)
        put_frame(dataset, file.read(length))
        return dataset


def is_enhanced(dataset: pydicom.Dataset) -> bool:
    """Whether functional groups say where the frames lie. A single frame may have a classic place beside its groups."""
    if _PER_FRAME not in dataset and _SHARED not in dataset:
        return False
    return frame_count(dataset) != 1 or not tag_value(dataset, "ImagePositionPatient")


def frame_count(dataset: pydicom.Dataset) -> int:
    """NumberOfFrames, 1 where it is absent."""
    return whole_number(dataset, "NumberOfFrames") or 1


def frames_of(path: Path, dataset: pydicom.Dataset) -> Iterator[pydicom.Dataset]:
    """The frames of an enhanced object in the order of its file, each as the data set of a classic file without pixels.

    A frame without groups of its own may lack a position, which `header_of` then says.

    Raises:
      InputError: when the object has too many frames or pixels, or more groups than frames.
    """
    frames = _bounded_frames(path, dataset)
    own = _items(dataset, "PerFrameFunctionalGroupsSequence")
    if len(own) > frames:
        raise InputError(
            f"{path}: PerFrameFunctionalGroupsSequence describes {counted(len(own), 'frame')}, NumberOfFrames "
            f"says {frames}"
        )
    common = {tag: dataset.get_item(tag) for tag in dataset.keys() - {_SHARED, _PER_FRAME, Tag("NumberOfFrames")}}
    for item in _items(dataset, "SharedFunctionalGroupsSequence")[:1]:
        common |= _attributes(item)
    groups = [_attributes(item) for item in own] + [{}] * (frames - len(own))
    # Beside weighted frames, those without weight are no T2 images either.
    diffusion = any(_is_weighted(pydicom.Dataset(common | group)) for group in groups)
    for number, group in enumerate(groups, start=1):
        frame = pydicom.Dataset(common | group)
        frame.file_meta = dataset.file_meta
        _make_classic(frame, number, diffusion=diffusion)
        yield frame


def _bounded_frames(path: Path, dataset: pydicom.Dataset) -> int:
    frames = frame_count(dataset)
    rows, columns = (whole_number(dataset, keyword) for keyword in ("Rows", "Columns"))
    if not 0 < frames <= MAX_FRAMES or frames * rows * columns > MAX_OBJECT_PX:
        raise InputError(
            f"{path}: {counted(frames, 'frame')} of {rows} x {columns} pixels; expected at most {MAX_FRAMES} "
            "frames and "
            f"{MAX_OBJECT_PX} pixels in one file"
        )
    return frames


def _items(dataset: pydicom.Dataset, sequence: str) -> list[pydicom.Dataset]:
    return list(tag_value(dataset, sequence) or ())


def _attributes(groups: pydicom.Dataset) -> dict[BaseTag, Any]:
    """What the functional groups of one item say, as elements that keep the file's own spelling."""
    found: dict[BaseTag, Any] = {}
    for sequence, keywords in _ATTRIBUTES.items():
        for item in _items(groups, sequence)[:1]:
            elements = (item.get_item(Tag(keyword)) for keyword in keywords)
            found |= {element.tag: element for element in elements if element is not None}
    return found


def _is_weighted(frame: pydicom.Dataset) -> bool:
    return float(tag_value(frame, "DiffusionBValue") or 0) > 0 or _word(frame, "AcquisitionContrast") == "DIFFUSION"


def _make_classic(frame: pydicom.Dataset, number: int, *, diffusion: bool) -> None:
    """Adds the classic tags for what a frame says in enhanced ones. Its number becomes the instance number."""
    frame[Tag("InstanceNumber")] = DataElement("InstanceNumber", "IS", number)
    acquisition = tag_value(frame, "TemporalPositionIndex") or tag_value(frame, "FrameAcquisitionNumber")
    if acquisition:
        frame[Tag("AcquisitionNumber")] = DataElement("AcquisitionNumber", "IS", acquisition)
    for enhanced, classic in (("EffectiveEchoTime", "EchoTime"), ("InversionTimes", "InversionTime")):
        value = tag_value(frame, enhanced)
        if value is not None and value != "":
            first = value if isinstance(value, float) else next(iter(value), None)
            frame[Tag(classic)] = DataElement(classic, "FD", first)
    kind = _words(frame, "FrameType") or _words(frame, "ImageType")
    component = _COMPONENTS.get(_word(frame, "ComplexImageComponent"))
    kind += [*([component] if component else []), *(["DIFFUSION"] if diffusion else [])]
    sequence = _words(frame, "ScanningSequence") + _PULSES.get(_word(frame, "EchoPulseSequence"), [])
    sequence += ["IR"] if _word(frame, "InversionRecovery") == "YES" else []
    sequence += ["EP"] if _word(frame, "EchoPlanarPulseSequence") == "YES" else []
    for keyword, words in (("ImageType", kind), ("ScanningSequence", sequence)):
        if words:
            frame[Tag(keyword)] = DataElement(keyword, "CS", words, already_converted=True)


def _word(frame: pydicom.Dataset, keyword: str) -> str:
    return str(tag_value(frame, keyword) or "")


def _words(frame: pydicom.Dataset, keyword: str) -> list[str]:
    value = tag_value(frame, keyword)
    return [value] if isinstance(value, str) and value else [str(word) for word in value or ()]
