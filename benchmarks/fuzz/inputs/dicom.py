"""One slice in every encoding that exporters use, enhanced objects, and all the ways in which a file is read."""

import io
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import gdcm
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from benchmarks.exports.multiframe import enhanced
from benchmarks.fuzz.inputs.sound import Sound, collected
from shared.dicom.encoding import read_encoded_slices
from shared.dicom.reader import read_file_slices, read_header, read_pixels, read_slice_headers
from shared.runtime.errors import InputError

_MR: Final = UID("1.2.840.10008.5.1.4.1.1.4")
_NAME: Final = "slice.dcm"
_FRAMES: Final = 3
# The style of a block coder of high throughput, in the style that follows the COD marker's fixed fields (T.814, A.4).
_COD: Final = b"\xff\x52"
_BLOCK_STYLE_AT: Final = 12
_HIGH_THROUGHPUT: Final = 0x40


def slice_dataset(number: int = 1, shape: tuple[int, int] = (48, 40), **tags: Any) -> FileDataset:
    """One synthetic MR slice, uncompressed; `tags` replace the usual ones."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = _MR, UID(f"1.2.3.{number}")
    dataset = FileDataset(io.BytesIO(), Dataset(), file_meta=meta, preamble=b"\0" * 128)
    values: dict[str, Any] = {
        "SpecificCharacterSet": "ISO_IR 100", "SOPClassUID": _MR, "SOPInstanceUID": f"1.2.3.{number}",
        "Modality": "MR", "StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.2.3", "InstanceNumber": number,
        "ImageType": ["ORIGINAL", "PRIMARY"], "SeriesDescription": "SAG T2", "PatientID": "P1",
        "ScanningSequence": ["SE"], "EchoTime": 100.0, "RepetitionTime": 3500.0, "FlipAngle": 150.0,
        "FrameOfReferenceUID": "1.2.9", "AcquisitionTime": "101112.5", "SeriesNumber": 2, "SliceThickness": 4.0,
        "ImagePositionPatient": [4.0 * number, -90.0, 120.0], "ImageOrientationPatient": [0, 1, 0, 0, 0, -1],
        "PixelSpacing": [4.0, 4.0], "Rows": shape[0], "Columns": shape[1], "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2", "BitsAllocated": 16, "BitsStored": 12, "HighBit": 11,
        "PixelRepresentation": 0, "WindowCenter": 600, "WindowWidth": 1200, "RescaleSlope": 1.0,
        "RescaleIntercept": 0.0, "PixelData": _pixels(number, shape).tobytes(),
    }  # fmt: skip
    for name, value in (values | tags).items():
        setattr(dataset, name, value)
    return dataset


def _pixels(number: int, shape: tuple[int, int]) -> NDArray[np.uint16]:
    """A smooth picture with some noise, 12 bit."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    noise = np.random.default_rng(number).integers(0, 60, shape)
    return (1500 + 1200 * np.sin(x / 7 + number) * np.cos(y / 9) + noise).astype(np.uint16)


def saved(dataset: Dataset, **how: Any) -> bytes:
    """The bytes of a file."""
    file = io.BytesIO()
    pydicom.dcmwrite(file, dataset, **({"enforce_file_format": True} | how))
    return file.getvalue()


def _eight_bit(number: int = 1, **tags: Any) -> FileDataset:
    grey = (_pixels(number, (48, 40)) >> 4).astype(np.uint8)
    usual: dict[str, Any] = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "PixelData": grey.tobytes()}
    return slice_dataset(number, **(usual | tags))


def _compressed(dataset: FileDataset, syntax: UID, **how: Any) -> FileDataset:
    dataset.compress(syntax, generate_instance_uid=False, **how)
    return dataset


def _by_gdcm(dataset: FileDataset, syntax: str) -> bytes:
    """The file with its pixels as GDCM encodes them; it has encoders for JPEG that pydicom lacks."""
    with tempfile.TemporaryDirectory() as folder:
        plain, encoded = Path(folder) / "plain", Path(folder) / "encoded"
        plain.write_bytes(saved(dataset))
        reader = gdcm.ImageReader()
        reader.SetFileName(str(plain))
        change = gdcm.ImageChangeTransferSyntax()
        change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, syntax)))
        writer = gdcm.ImageWriter()
        writer.SetFileName(str(encoded))
        if not reader.Read():
            raise RuntimeError("GDCM cannot read its input")
        change.SetInput(reader.GetImage())
        if not change.Change():
            raise RuntimeError(f"GDCM cannot encode {syntax}")
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        if not writer.Write():
            raise RuntimeError(f"GDCM cannot write {syntax}")
        made = pydicom.dcmread(encoded)  # with tags of its own, and UIDs that differ from call to call
    dataset.PixelData, dataset.file_meta.TransferSyntaxUID = made.PixelData, made.file_meta.TransferSyntaxUID
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    return saved(dataset)


def _big_endian() -> bytes:
    dataset = slice_dataset()
    dataset.PixelData = _pixels(1, (48, 40)).astype(">u2").tobytes()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    return saved(dataset)


def _bare() -> bytes:
    """A data set alone, as some archives keep it: no preamble, no file meta information."""
    return (
        saved(slice_dataset(), implicit_vr=False, little_endian=True, enforce_file_format=False)[132:]
        .partition(b"\x08\x00\x05\x00CS")[2]
        .join((b"\x08\x00\x05\x00CS", b""))
    )


def _high_throughput() -> bytes:
    """JPEG 2000 marked as HTJ2K, for which there is no encoder here: its blocks reach the right decoder as noise."""
    content = saved(_compressed(slice_dataset(), JPEG2000Lossless))
    at = content.rfind(_COD) + _BLOCK_STYLE_AT
    content = content[:at] + bytes([content[at] | _HIGH_THROUGHPUT]) + content[at + 1 :]
    dataset = pydicom.dcmread(io.BytesIO(content))
    dataset.file_meta.TransferSyntaxUID = HTJ2KLossless
    return saved(dataset)


def _syntax(uid: UID) -> bytes:
    dataset = slice_dataset()
    dataset.file_meta.TransferSyntaxUID = uid
    return saved(dataset)


def _enhanced(syntax: UID | None = None) -> bytes:
    made = enhanced([slice_dataset(n) for n in range(1, _FRAMES + 1)])
    whole = pydicom.dcmread(io.BytesIO(saved(made)))
    return saved(whole if syntax is None else _compressed(whole, syntax))


def _colour() -> bytes:
    grey = (_pixels(1, (48, 40)) >> 4).astype(np.uint8)
    tags: dict[str, Any] = {"SamplesPerPixel": 3, "PlanarConfiguration": 0, "PhotometricInterpretation": "RGB"}
    return saved(_eight_bit(**tags, PixelData=np.stack([grey] * 3, axis=-1).tobytes()))


_ENCODINGS: Final[Mapping[str, Callable[[], bytes]]] = {
    "explicit little endian": lambda: saved(slice_dataset()),
    "implicit little endian": partial(_syntax, ImplicitVRLittleEndian),
    "explicit big endian": _big_endian,
    "bare data set": _bare,
    "deflated": partial(_syntax, DeflatedExplicitVRLittleEndian),
    "RLE": lambda: saved(_compressed(slice_dataset(), RLELossless, encoding_plugin="pylibjpeg")),
    "RLE, 256 x 256": lambda: saved(
        _compressed(slice_dataset(shape=(256, 256), PixelSpacing=[1.0, 1.0]), RLELossless, encoding_plugin="pylibjpeg")
    ),
    "RLE, 8 bit": lambda: saved(_compressed(_eight_bit(), RLELossless, encoding_plugin="pylibjpeg")),
    "JPEG baseline": lambda: _by_gdcm(_eight_bit(), "JPEGBaselineProcess1"),
    "JPEG extended": lambda: _by_gdcm(slice_dataset(), "JPEGExtendedProcess2_4"),
    "JPEG extended, 8 bit": lambda: _by_gdcm(_eight_bit(), "JPEGExtendedProcess2_4"),
    "JPEG lossless": lambda: _by_gdcm(slice_dataset(), "JPEGLosslessProcess14"),
    "JPEG lossless, first order": lambda: _by_gdcm(slice_dataset(), "JPEGLosslessProcess14_1"),
    "JPEG-LS": lambda: saved(_compressed(slice_dataset(), JPEGLSLossless)),
    "JPEG-LS near lossless": lambda: saved(_compressed(slice_dataset(), JPEGLSNearLossless, jls_error=2)),
    "JPEG 2000 lossless": lambda: saved(_compressed(slice_dataset(), JPEG2000Lossless)),
    "JPEG 2000": lambda: saved(_compressed(slice_dataset(), JPEG2000, j2k_cr=[4])),
    "HTJ2K": _high_throughput,
    "enhanced": _enhanced,
    "enhanced, RLE": partial(_enhanced, RLELossless),
    "enhanced, JPEG 2000": partial(_enhanced, JPEG2000Lossless),
    "8 bit": lambda: saved(_eight_bit()),
    "signed, inverted": lambda: saved(
        slice_dataset(PixelRepresentation=1, PhotometricInterpretation="MONOCHROME1", RescaleIntercept=-1000.0)
    ),
    "colour": _colour,
}


def sound_files() -> Iterator[Sound]:
    """A file in every encoding."""
    for name, make in _ENCODINGS.items():
        content = make()
        yield Sound(kind="dicom", name=name, files={_NAME: content}, targets={_NAME: "dicom"}, read=read_slice)


def read_slice(folder: Path) -> list[str]:
    """Reads a file as the commands do: for grouping, for audit, for prediction, for a store."""
    path = folder / _NAME
    headers = [header for _, header in read_slice_headers([path])]
    said = [str(header) for header in headers if isinstance(header, InputError)]
    for reading in read_file_slices(path):
        said += [str(part) for part in (reading.header, reading.pixels) if isinstance(part, InputError)]
    frames = range(1, min(len(headers), _FRAMES))
    calls: list[Callable[[], Any]] = [] if frames else [partial(read_header, path)]
    calls += [partial(_audited, path), partial(read_pixels, path), *(partial(read_pixels, path, n) for n in frames)]
    return said + collected(calls)


def _audited(path: Path) -> None:
    for reading in read_encoded_slices(path):
        if isinstance(reading, InputError):
            raise reading
