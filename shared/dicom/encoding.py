"""How a file stores its pixels, as its header tags say: what a reader must handle, without any patient tags.

Read in one pass with the header. `shared.dicom.reader` decodes.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import pydicom
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from shared.dicom.header import Header
from shared.dicom.parsing import attempt
from shared.dicom.reader import read_header_and_tags, read_slices_and_tags
from shared.runtime.errors import InputError

# Tags that code written for other data may rely on; this project needs none of them.
EXPECTED_TAGS: Final = (
    "WindowCenter", "WindowWidth", "SliceThickness", "SpacingBetweenSlices", "PatientPosition", "SeriesDescription",
)  # fmt: skip
_TAGS: Final = (
    *EXPECTED_TAGS, "PhotometricInterpretation", "SamplesPerPixel", "BitsAllocated", "BitsStored",
    "PixelRepresentation", "RescaleSlope", "RescaleIntercept", "LossyImageCompression", "FrameOfReferenceUID",
    "Manufacturer", "MagneticFieldStrength",
)  # fmt: skip
# Readable without a decoder, or the challenge's own RLE.
PLAIN_SYNTAXES: Final = frozenset({ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless})
# Lossy by definition: JPEG baseline and extended with their relatives, near-lossless JPEG-LS. General JPEG 2000 may be
# either; LossyImageCompression tells.
_LOSSY_SYNTAXES: Final = frozenset(f"1.2.840.10008.1.2.4.{n}" for n in ("50", "51", "52", "53", "54", "55", "56", "81"))
_TEXT_LIMIT: Final = 48
_CUT_OFF: Final = "the header is complete, but the pixel data are missing or truncated"

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """The encoding of one file; absent tags are None or empty.

    Attributes:
      syntax: name of the transfer syntax, or its UID where it has none.
      plain: uncompressed little endian or RLE Lossless.
      lossy: the pixels went through a lossy encoder, by syntax or by LossyImageCompression.
      windows: number of window centres.
      absent: those of `EXPECTED_TAGS` that the file lacks.
      damage: why the pixel data must be incomplete, judged without decoding; None if nothing indicates it.
    """

    syntax: str
    plain: bool
    lossy: bool
    photometric: str
    bits_stored: int | None
    signed: bool
    rescale: tuple[float, float] | None
    windows: int
    absent: tuple[str, ...]
    frame_of_reference: str
    manufacturer: str
    field_strength_t: float | None
    damage: str | None


def read_encoded_header(path: Path) -> tuple[Header, Encoding]:
    """Reads header and encoding of a file with one slice. Checks the size of the pixel data without decoding them.

    Raises:
      InputError: as `shared.dicom.reader.read_header` does. Damaged pixels do not raise, see `Encoding.damage`.
    """
    (header, dataset), damage = _read_tags(lambda tags: read_header_and_tags(path, tags))
    return header, _encoding(path, dataset, damage or _missing_bytes(dataset))


def read_encoded_slices(path: Path) -> list[tuple[Header, Encoding] | InputError]:
    """Does the same for every frame of a file. A frame that cannot be read is an error in its place.

    Raises:
      InputError: when the file cannot be read.
    """
    slices, damage = _read_tags(lambda tags: read_slices_and_tags(path, tags))
    damage = damage or _missing_bytes(slices[0][1], frames=len(slices))

    def encoded(header: Header | InputError, dataset: pydicom.Dataset) -> tuple[Header, Encoding]:
        if isinstance(header, InputError):
            raise header
        return header, _encoding(path, dataset, damage)

    return [attempt(partial(encoded, header, dataset)) for header, dataset in slices]


def _read_tags(read: Callable[[Sequence[str]], T]) -> tuple[T, str | None]:
    """What `read` gives with the tags of the encoding, and what is wrong with the pixels."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what pydicom warns about is reported as damage
            return read((*_TAGS, "PixelData")), None
    except InputError:
        return read(_TAGS), _CUT_OFF  # raises again unless the fault lies in the pixels


def _missing_bytes(dataset: pydicom.Dataset, *, frames: int = 1) -> str | None:
    pixels = dataset.get("PixelData")
    if not pixels:
        return _CUT_OFF
    syntax = _syntax(dataset)
    if syntax is not None and syntax.is_compressed:
        return None
    samples = int(dataset.get("SamplesPerPixel") or 1)
    bits = int(dataset.Rows) * int(dataset.Columns) * samples * int(dataset.get("BitsAllocated") or 16)
    expected = frames * bits // 8
    return None if len(pixels) >= expected else f"it holds {len(pixels)} bytes of pixels, expected {expected}"


def _encoding(path: Path, dataset: pydicom.Dataset, damage: str | None) -> Encoding:
    try:
        return _encoding_of(dataset, damage)
    except Exception as error:  # a foreign file: values of any shape hide behind any tag
        raise InputError(f"{path}: unusable DICOM header ({type(error).__name__} in the encoding's tags)") from error


def _encoding_of(dataset: pydicom.Dataset, damage: str | None) -> Encoding:
    syntax = _syntax(dataset)
    slope, intercept = _float(dataset.get("RescaleSlope")), _float(dataset.get("RescaleIntercept"))
    return Encoding(
        syntax=_text(syntax.name) if syntax is not None else "none",
        plain=syntax in PLAIN_SYNTAXES,
        lossy=syntax in _LOSSY_SYNTAXES or str(dataset.get("LossyImageCompression") or "") == "01",
        photometric=_text(dataset.get("PhotometricInterpretation")),
        bits_stored=int(dataset.BitsStored) if dataset.get("BitsStored") else None,
        signed=dataset.get("PixelRepresentation") == 1,
        rescale=None if slope is None and intercept is None else (1.0 if slope is None else slope, intercept or 0.0),
        windows=_count(dataset.get("WindowCenter")),
        absent=tuple(tag for tag in EXPECTED_TAGS if dataset.get(tag) in (None, "")),
        frame_of_reference=_text(dataset.get("FrameOfReferenceUID"), 64),
        manufacturer=_text(dataset.get("Manufacturer")),
        field_strength_t=_float(dataset.get("MagneticFieldStrength")),
        damage=damage,
    )


def _syntax(dataset: pydicom.Dataset) -> UID | None:
    meta = getattr(dataset, "file_meta", None)
    return None if meta is None else meta.get("TransferSyntaxUID")


def _count(value: Any) -> int:
    if value is None or value == "":
        return 0
    return len(value) if isinstance(value, Sequence) and not isinstance(value, str) else 1


def _float(value: Any) -> float | None:
    try:
        return None if value is None or value == "" else float(value)
    except (TypeError, ValueError):
        return None


def _text(value: Any, limit: int = _TEXT_LIMIT) -> str:
    """Printable characters of a foreign string, cut to a length that fits a table."""
    return "".join(c for c in str(value or "") if c.isprintable())[:limit].strip()
