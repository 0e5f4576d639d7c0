"""How a file stores its pixels, as its header tags say: what a reader must handle, without any patient tags.

Read in one pass with the header. `shared.dicom.reader` decodes.
"""

import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import pydicom
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from shared.dicom.header import Header, uid_or_digest
from shared.dicom.parsing import attempt, foreign
from shared.dicom.reader import read_header_and_tags, read_slices_and_tags
from shared.dicom.tags import whole_number
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
# Free text and coded values are shown only where they are among these.
_PHOTOMETRIC: Final = frozenset(
    ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_422",
     "YBR_PARTIAL_420", "YBR_ICT", "YBR_RCT", "XYB", "HSV", "ARGB", "CMYK")
)  # fmt: skip
_VENDORS: Final = {
    "siemens": "Siemens", "philips": "Philips", "ge med": "GE", "ge health": "GE", "ge$": "GE", "toshiba": "Toshiba",
    "canon": "Canon", "hitachi": "Hitachi", "fuji": "Fujifilm", "uih": "United Imaging", "united im": "United Imaging",
    "esaote": "Esaote", "paramed": "Paramed", "fonar": "Fonar", "picker": "Picker", "marconi": "Marconi",
    "shimadzu": "Shimadzu", "neusoft": "Neusoft", "bruker": "Bruker", "hyperfine": "Hyperfine", "samsung": "Samsung",
    "xingaoyi": "Xingaoyi", "alltech": "Alltech", "wandong": "Wandong", "time medical": "Time Medical", "asg": "ASG",
}  # fmt: skip
_OTHER: Final = "another"
_CUT_OFF: Final = "the header is complete, but the pixel data are missing or truncated"

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """The encoding of one file; absent tags are None or empty.

    Attributes:
      syntax: name of the transfer syntax, or its UID where it has none.
      photometric, manufacturer: where known, else "another".
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
    return header, _encoding(path, dataset, damage or _missing_bytes(path, dataset))


def read_encoded_slices(path: Path) -> list[tuple[Header, Encoding] | InputError]:
    """Does the same for every frame of a file. A frame that cannot be read is an error in its place.

    Raises:
      InputError: when the file cannot be read.
    """
    slices, damage = _read_tags(lambda tags: read_slices_and_tags(path, tags))
    damage = damage or _missing_bytes(path, slices[0][1], frames=len(slices))

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


def _missing_bytes(path: Path, dataset: pydicom.Dataset, *, frames: int = 1) -> str | None:
    with foreign(str(path), "unusable DICOM header"):
        pixels = dataset.get("PixelData")
        if not pixels:
            return _CUT_OFF
        syntax = _syntax(dataset)
        if syntax is not None and syntax.is_compressed:
            return None
        samples, bits = whole_number(dataset, "SamplesPerPixel") or 1, whole_number(dataset, "BitsAllocated") or 16
        expected = frames * whole_number(dataset, "Rows") * whole_number(dataset, "Columns") * samples * bits // 8
        return None if len(pixels) >= expected else f"it holds {len(pixels)} bytes of pixels, expected {expected}"


def _encoding(path: Path, dataset: pydicom.Dataset, damage: str | None) -> Encoding:
    with foreign(str(path), "unusable DICOM header"):  # values of any shape hide behind any tag
        return _encoding_of(dataset, damage)


def _encoding_of(dataset: pydicom.Dataset, damage: str | None) -> Encoding:
    syntax = _syntax(dataset)
    slope, intercept = _float(dataset.get("RescaleSlope")), _float(dataset.get("RescaleIntercept"))
    return Encoding(
        syntax=_name_of(syntax),
        plain=syntax in PLAIN_SYNTAXES,
        lossy=syntax in _LOSSY_SYNTAXES or str(dataset.get("LossyImageCompression") or "") == "01",
        photometric=_photometric(dataset.get("PhotometricInterpretation")),
        bits_stored=whole_number(dataset, "BitsStored") or None,
        signed=dataset.get("PixelRepresentation") == 1,
        rescale=None if slope is None and intercept is None else (1.0 if slope is None else slope, intercept or 0.0),
        windows=_count(dataset.get("WindowCenter")),
        absent=tuple(tag for tag in EXPECTED_TAGS if dataset.get(tag) in (None, "")),
        frame_of_reference=uid_or_digest(dataset.get("FrameOfReferenceUID")) or "",
        manufacturer=_vendor(dataset.get("Manufacturer")),
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


def _name_of(syntax: UID | None) -> str:
    """A transfer syntax in words; what DICOM does not know may be anything, so it is shown as a UID."""
    if syntax is None:
        return "none"
    return syntax.name if syntax.name != str(syntax) else uid_or_digest(syntax) or "none"


def _photometric(value: Any) -> str:
    text = str(value or "").strip()
    return text if text in _PHOTOMETRIC or not text else _OTHER


def _vendor(value: Any) -> str:
    """The vendor that a manufacturer's name mentions: some sites write their own into this tag."""
    text = str(value or "").casefold()
    return next((name for word, name in _VENDORS.items() if re.search(rf"\b{word}", text)), _OTHER if text else "")
