"""Exports as six vendors' scanners and ten languages write them: headers only, drawn from a seed.

An export holds a study's three views and decoys that must not pass for them. Times and fields are drawn from the ranges
of spine protocols, so that no rule can be fitted to single numbers. Where the ranges, names and values of ImageType
come from is told in docs/vocabulary.md.
"""

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from pydicom.charset import convert_encodings
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element, write_file_meta_info
from pydicom.tag import Tag
from pydicom.uid import UID, ExplicitVRLittleEndian

from shared.labels import View
from tests.dicom_files import AXIAL, CORONAL, SAGITTAL
from tests.shared.export_names import LANGUAGES, VENDORS, Language, Vendor, local_name, vendor_name

Range = tuple[float, float]

MR, CT, CAPTURE = (f"1.2.840.10008.5.1.4.1.1.{n}" for n in ("4", "2", "7"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of series: its times in ms and field in mm as ranges, and what its name says.

    Attributes:
      name: key of the words in `export_names`; the weighting comes first.
      view: what the series table must say; None where the series must not be used beside the three views.
      either: the series has the view, but may give way to a better one.
      told: only its name tells what it is, so it is not drawn where exports have no names.
    """

    name: str
    plane: str
    tr: Range = (0, 0)
    te: Range = (0, 0)
    ti: Range | None = None
    flip: Range = (90, 180)
    field_mm: Range = (240, 340)
    slices: int = 6
    sequence: tuple[str, ...] = ("SE",)
    image: str = "original"
    view: View | None = None
    either: bool = False
    told: bool = False
    tags: Mapping[str, Any] = field(default_factory=dict)


_T1: Final[dict[str, Any]] = {"tr": (380, 950), "te": (7, 22)}
_T2: Final[dict[str, Any]] = {"tr": (2200, 6500), "te": (78, 140)}
_STIR: Final[dict[str, Any]] = {"tr": (2300, 7000), "te": (28, 100), "ti": (85, 250), "sequence": ("SE", "IR")}
_PD: Final[dict[str, Any]] = {"tr": (1800, 4500), "te": (9, 48)}
_SCOUT: Final[dict[str, Any]] = {
    "tr": (3, 30), "te": (1.4, 7), "flip": (15, 70), "field_mm": (350, 500), "sequence": ("GR",),
}  # fmt: skip

VIEWS: Final = (
    Kind(name="T1", plane="sag", view=View.SAGITTAL_T1, **_T1),
    Kind(name="T2", plane="sag", view=View.SAGITTAL_T2, **_T2),
    Kind(name="T2", plane="ax", view=View.AXIAL_T2, field_mm=(160, 240), slices=9, **_T2),
)
# Each takes the place of the view's usual series.
VARIANTS: Final = (
    Kind(name="STIR", plane="sag", view=View.SAGITTAL_T2, **_STIR),
    Kind(name="T1 FLAIR", plane="sag", view=View.SAGITTAL_T1, tr=(1700, 2700), te=(8, 32), ti=(650, 1050),
         sequence=("SE", "IR")),
    Kind(name="T2 DIXON W", plane="sag", view=View.SAGITTAL_T2, image="water", **_T2),
)  # fmt: skip

DECOYS: Final = (
    Kind(name="LOC", plane="planes", slices=9, **_SCOUT),
    Kind(name="LOC", plane="planes", slices=21, **_SCOUT),
    Kind(name="LOC", plane="planes", slices=15, tr=(800, 1600), te=(60, 100), field_mm=(380, 500)),
    Kind(name="PD", plane="sag", **_PD),
    Kind(name="PD FS", plane="sag", tags={"ScanOptions": "FS"}, **_PD),
    Kind(name="DWI", plane="sag", tr=(2500, 8000), te=(55, 110), sequence=("EP",), image="diffusion"),
    Kind(name="ADC", plane="ax", tr=(2500, 8000), te=(55, 110), sequence=("EP",), image="adc"),
    Kind(name="CT", plane="sag", tags={"Modality": "CT"}),
    Kind(name="MYELO", plane="cor", tr=(4000, 9000), te=(450, 1200), slices=7),
    Kind(name="MYELO", plane="sag", tr=(4000, 9000), te=(450, 1200), slices=7),
    Kind(name="MIP", plane="sag", tr=(1500, 6000), te=(150, 700), slices=9, image="projection"),
    Kind(name="STIR", plane="cor", **_STIR),
    Kind(name="T1 FS GD", plane="sag",
         tags={"ScanOptions": "FS", "ContrastBolusAgent": "GADOLINIUM"}, **_T1),
    Kind(name="T1", plane="ax", field_mm=(160, 240), slices=9, **_T1),
    Kind(name="T1 FS GD", plane="ax", field_mm=(160, 240), slices=9,
         tags={"ScanOptions": "FS", "ContrastBolusAgent": "GADOLINIUM"}, **_T1),
    Kind(name="T2 MPR", plane="sag", tr=(1200, 2500), te=(90, 250), image="reformation"),
    Kind(name="T2 CERVICAL", plane="sag", field_mm=(200, 260), told=True, **_T2),
    Kind(name="T1 CERVICAL", plane="sag", field_mm=(200, 260), told=True, **_T1),
    Kind(name="T2 DIXON F", plane="sag", image="fat", **_T2),
    Kind(name="T2 DIXON OP", plane="sag", image="opposed", **_T2),
    Kind(name="T2 PHASE", plane="ax", field_mm=(160, 240), image="phase", **_T2),
    Kind(name="T1 SUB", plane="sag", image="subtraction", **_T1),
    Kind(name="T2", plane="sag", tags={"Modality": "OT"}, image="capture", **_T2),
    Kind(name="T2 SPINE", plane="sag", field_mm=(430, 900), **_T2),
    Kind(name="T1 SPINE", plane="sag", field_mm=(430, 900), **_T1),
)  # fmt: skip
DUAL_ECHO: Final = Kind(name="PD T2", plane="sag", view=View.SAGITTAL_T2, either=True, **_T2)
_EARLY_ECHO: Final = Kind(name="PD T2", plane="sag", **_PD)


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """One study.

    Attributes:
      files: file name -> content.
      truth: file name -> the views that the series table may give it, None for not used.
    """

    title: str
    files: Mapping[str, bytes]
    truth: Mapping[str, frozenset[View | None]]


def exports(seed: int) -> Iterator[Export]:
    """Sixty exports: every vendor in every language, a fifth of them without any description."""
    for v, vendor in enumerate(VENDORS):
        for n, language in enumerate(LANGUAGES):
            rng = np.random.default_rng((seed, v, n))
            spelling = ("local", "plain capitals", "vendor's", "none", "local")[(v + n) % 5]
            title = f"{vendor.name}, {language.name}, {spelling} names"
            files: dict[str, bytes] = {}
            truth: dict[str, frozenset[View | None]] = {}
            for number, kind in enumerate(_kinds(rng, vendor, named=spelling != "none"), start=1):
                series = _Series(number=number, vendor=vendor, language=language, spelling=spelling)
                echoes = [_EARLY_ECHO, kind] if kind is DUAL_ECHO else [kind]
                for echo, of_echo in enumerate(echoes):
                    own = series.files(of_echo, rng, echo=echo)
                    files |= own
                    truth |= dict.fromkeys(own, _allowed(of_echo))
            yield Export(title=title, files=files, truth=truth)


def _allowed(kind: Kind) -> frozenset[View | None]:
    return frozenset({kind.view, None} if kind.either else {kind.view})


def _kinds(rng: np.random.Generator, vendor: Vendor, *, named: bool) -> list[Kind]:
    """The series of one export: three views, some of them in a variant, and two to five decoys."""
    views, known = list(VIEWS), {*vendor.image_types, "capture"}
    if rng.random() < 0.5:
        variant = VARIANTS[rng.integers(len(VARIANTS))]
        if named or variant.image in known:
            views = [variant if v.plane == variant.plane and v.view is variant.view else v for v in views]
    usable = [d for d in DECOYS if named or (not d.told and (d.image in known or "EP" in d.sequence))]
    chosen = rng.choice(len(usable), size=rng.integers(2, 6), replace=False)
    if rng.random() < 0.15:
        views = [replace(v, either=v.view is View.SAGITTAL_T2) for v in views] + [DUAL_ECHO]
    kinds = [*views, *(usable[i] for i in chosen)]
    return [kinds[i] for i in rng.permutation(len(kinds))]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Series:
    number: int
    vendor: Vendor
    language: Language
    spelling: str

    def files(self, kind: Kind, rng: np.random.Generator, *, echo: int) -> dict[str, bytes]:
        """File name -> content of each slice."""
        common, blocks = self._common(kind, rng), self._blocks(kind, rng)
        return {
            f"{self.number:02}{echo}{i:03}": _file({
                **common, **plane, "SeriesInstanceUID": f"1.2.{self.number}" + (f".{blocks[i]}" if blocks else ""),
                "InstanceNumber": i + 1 + 100 * echo, "SOPInstanceUID": f"1.2.{self.number}.{echo}.{i + 1}",
            })
            for i, plane in enumerate(_planes(kind, rng))
        }  # fmt: skip

    def _common(self, kind: Kind, rng: np.random.Generator) -> dict[str, Any]:
        def drawn(span: Range) -> float:
            return round(float(rng.uniform(*span)), 2)

        tags: dict[str, Any] = {
            "Modality": "MR", "SOPClassUID": MR, "StudyInstanceUID": "1.2",
            "ImageType": self.vendor.image_type(kind.image, kind.sequence),
            "Manufacturer": self.vendor.manufacturer, "SpecificCharacterSet": self.language.characters,
            "ScanningSequence": list(kind.sequence), "SeriesNumber": self.number,
            "RepetitionTime": drawn(kind.tr), "EchoTime": drawn(kind.te), "FlipAngle": drawn(kind.flip),
            "InversionTime": drawn(kind.ti) if kind.ti else None, "FrameOfReferenceUID": "1.2.9", "PatientID": "P1",
            "SliceThickness": 4,
            "Rows": 256, "Columns": 256, "PixelSpacing": [round(drawn(kind.field_mm) / 256, 4)] * 2,
            "SeriesDescription": self._name(kind, rng), "ProtocolName": self._protocol(rng),
        } | dict(kind.tags)  # fmt: skip
        if tags["Modality"] == "CT":
            tags |= {"SOPClassUID": CT, "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"]}
            tags |= dict.fromkeys(("ScanningSequence", "RepetitionTime", "EchoTime", "FlipAngle"))
        if kind.image == "capture":
            tags |= {"SOPClassUID": CAPTURE}
        return tags

    def _name(self, kind: Kind, rng: np.random.Generator) -> str | None:
        if self.spelling == "none":
            return None
        if self.spelling == "vendor's":
            return vendor_name(self.vendor, kind.name, kind.plane, rng)
        return local_name(self.language, kind.name, kind.plane, rng, plain=self.spelling != "local")

    def _protocol(self, rng: np.random.Generator) -> str | None:
        """The exam's name, which many scanners write into every series."""
        return None if self.spelling == "none" else str(rng.choice(self.language.exams))

    def _blocks(self, kind: Kind, rng: np.random.Generator) -> list[int]:
        """A part of the UID for each slice, where the exporter gives a series several."""
        if self.vendor.uid_per_slice:
            return list(range(1, kind.slices + 1))
        split = self.vendor.uid_per_block and kind.plane == "ax" and rng.random() < 0.5
        return [1 + i // 3 for i in range(kind.slices)] if split else []


def _planes(kind: Kind, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    """Position and direction of each slice; axial ones in blocks of three that follow their discs."""
    for i in range(kind.slices):
        if kind.plane == "planes":
            axis, place = 3 * i // kind.slices, 10.0 * (i % (kind.slices // 3))
            yield {
                "ImageOrientationPatient": (SAGITTAL, CORONAL, AXIAL)[axis],
                "ImagePositionPatient": [place if k == axis else 0.0 for k in range(3)],
            }
        elif kind.plane == "ax":
            tilt = np.radians(5.0 * (i // 3))
            yield {
                "ImageOrientationPatient": [1, 0, 0, 0, round(float(np.cos(tilt)), 6), round(-float(np.sin(tilt)), 6)],
                "ImagePositionPatient": [0, 0, -12.0 * i],
            }
        else:
            axis = 0 if kind.plane == "sag" else 1
            yield {
                "ImageOrientationPatient": SAGITTAL if axis == 0 else CORONAL,
                "ImagePositionPatient": [4.4 * (i - kind.slices / 2) if k == axis else 0.0 for k in range(3)],
            }


def _file(tags: Mapping[str, Any]) -> bytes:
    """A DICOM file that ends before its pixels."""
    characters = tags["SpecificCharacterSet"]
    elements = [
        _element(name, tuple(value) if isinstance(value, list) else value, tuple(np.atleast_1d(characters)))
        for name, value in tags.items()
        if value is not None
    ]
    return _file_meta(tags["SOPClassUID"]) + b"".join(content for _, content in sorted(elements))


# Most elements are the same in all slices of a series.
@functools.lru_cache(maxsize=1024)
def _element(name: str, value: Any, characters: tuple[str, ...]) -> tuple[int, bytes]:
    dataset = Dataset()
    setattr(dataset, name, list(value) if isinstance(value, tuple) else value)
    file = DicomBytesIO()
    file.is_little_endian, file.is_implicit_VR = True, False
    write_data_element(file, dataset[name], convert_encodings(list(characters)))
    return int(Tag(name)), file.getvalue()


@functools.cache
def _file_meta(sop_class: str) -> bytes:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = UID(sop_class), UID("1.2.3")
    file = DicomBytesIO()
    file.is_little_endian, file.is_implicit_VR = True, False
    write_file_meta_info(file, meta)
    return b"\0" * 128 + b"DICM" + file.getvalue()
