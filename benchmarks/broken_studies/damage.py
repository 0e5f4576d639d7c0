"""Ways to break a study: each does one kind of damage to all files, or to the whole, of a study on disk.

Each names the words that `lumbar predict` must say of the study. A damage to nothing that the software reads must
change nothing: the study then gets the answer of its sound twin.
"""

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
import pydicom
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from benchmarks.broken_studies import streams
from shared.labels import View

_ENHANCED_MR: Final = "1.2.840.10008.5.1.4.1.1.4.1"
_BYTES_OVER_THE_LIMIT: Final = 2**28 + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """A copy of a sound study, with ids of its own.

    Attributes:
      folder: of its images.
      rows: series id and view, as the series descriptions will list them; a damage may change them.
    """

    folder: Path
    rows: list[tuple[str, View]]

    def series(self, view: View) -> Path:
        return next(self.folder / series_id for series_id, v in self.rows if v is view)

    def files(self) -> list[Path]:
        return sorted(self.folder.glob("*/*.dcm"), key=lambda path: (path.parent.name, int(path.stem)))


Spoil: TypeAlias = Callable[[Planted], None]
Change: TypeAlias = Callable[[Dataset], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """One way to break a study.

    Attributes:
      spoil: breaks it.
      told: pattern of what `lumbar predict` says of the study; empty if it need say nothing, because each slice is
        sound; None if nothing that is read was damaged, so that the study must get the answer of its sound twin.
    """

    spoil: Spoil
    told: str | None


def each_file(change: Callable[[Path], object]) -> Spoil:
    def spoil(study: Planted) -> None:
        for path in study.files():
            change(path)

    return spoil


def content(change: Callable[[bytes], bytes]) -> Spoil:
    return each_file(lambda path: path.write_bytes(change(path.read_bytes())))


def instead_of_file(make: Callable[[Path], object]) -> Spoil:
    def change(path: Path) -> None:
        path.unlink()
        make(path)

    return each_file(change)


def header(*changes: Change) -> Spoil:
    def change(path: Path) -> None:
        dataset = pydicom.dcmread(path)
        for step in changes:
            step(dataset)
        dataset.save_as(path, enforce_file_format=True)

    return each_file(change)


def raw(keyword: str, value: bytes) -> Change:
    """Writes a value as it is, whatever the standard says of it."""
    tag = Tag(keyword)
    vr = pydicom.datadict.dictionary_VR(tag)
    even = value + b" " * (len(value) % 2)

    def change(dataset: Dataset) -> None:
        dataset[tag] = RawDataElement(tag, vr, len(even), even, 0, False, True)

    return change


def without(keyword: str) -> Change:
    return lambda dataset: dataset.__delattr__(keyword)


def plain(dataset: Dataset) -> None:
    """Decodes the pixels."""
    pixels = dataset.pixel_array
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OW"
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian


def deflated(dataset: Dataset) -> None:
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian


def encoded(syntax: str, stream: Callable[[int, int], bytes]) -> Change:
    """Replaces the pixels by a code stream of rows and columns."""

    def change(dataset: Dataset) -> None:
        dataset.PixelData = pydicom.encaps.encapsulate([stream(dataset.Rows, dataset.Columns)])
        dataset["PixelData"].is_undefined_length = True
        dataset.file_meta.TransferSyntaxUID = UID(syntax)

    return change


def of_size(rows: int, columns: int) -> Change:
    def change(dataset: Dataset) -> None:
        dataset.Rows, dataset.Columns = rows, columns

    return change


def constant(dataset: Dataset) -> None:
    plain(dataset)
    dataset.PixelData = np.full((dataset.Rows, dataset.Columns), 7, np.uint16).tobytes()


def nested(whole: bytes) -> bytes:
    """A thousand sequences, each within the one before, ahead of the patient's group."""
    begin = bytes.fromhex("0800 4011 5351 0000 ffffffff feff 00e0 ffffffff")
    end = bytes.fromhex("feff 0de0 00000000 feff dde0 00000000")
    at = whole.index(b"\x10\0\x20\0LO")
    return whole[:at] + 1000 * begin + 1000 * end + whole[at:]


def colour(dataset: Dataset) -> None:
    """Two frames in colour."""
    plain(dataset)
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
    dataset.NumberOfFrames, dataset.PixelData = 2, 6 * dataset.PixelData


def broken_groups(dataset: Dataset) -> None:
    """An enhanced object whose functional groups are empty."""
    dataset.SOPClassUID = _ENHANCED_MR
    dataset.NumberOfFrames = 1
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        delattr(dataset, name)
    dataset.SharedFunctionalGroupsSequence = [Dataset()]
    dataset.PerFrameFunctionalGroupsSequence = [Dataset()]


def renamed(pattern: str) -> Spoil:
    """Gives the files of each series other names, with their number from 0."""

    def spoil(study: Planted) -> None:
        count: Counter[str] = Counter()
        for path in study.files():
            path.rename(path.with_name(f"{pattern.format(count[path.parent.name])}.dcm"))
            count[path.parent.name] += 1

    return spoil


def both(first: Spoil, second: Spoil) -> Spoil:
    def spoil(study: Planted) -> None:
        first(study)
        second(study)

    return spoil


def every_other(change: Change) -> Spoil:
    def spoil(study: Planted) -> None:
        for path in study.files()[::2]:
            dataset = pydicom.dcmread(path)
            change(dataset)
            dataset.save_as(path, enforce_file_format=True)

    return spoil


def upper_half(dataset: Dataset) -> None:
    plain(dataset)
    dataset.PixelData = dataset.PixelData[: len(dataset.PixelData) // 2]
    dataset.Rows //= 2


def mixed_planes(study: Planted) -> None:
    """Half of the sagittal T2 slices change places with axial ones."""
    pairs = zip(_half(study, View.SAGITTAL_T2), _half(study, View.AXIAL_T2), strict=False)
    for a, b in pairs:
        first, second = a.read_bytes(), b.read_bytes()
        a.write_bytes(second)
        b.write_bytes(first)


def _half(study: Planted, view: View) -> Iterable[Path]:
    return sorted(study.series(view).glob("*.dcm"))[::2]


def one_slice(study: Planted) -> None:
    """Leaves the middle slice of each series."""
    for series_id, _ in study.rows:
        paths = sorted((study.folder / series_id).glob("*.dcm"), key=lambda path: int(path.stem))
        for path in paths[: len(paths) // 2] + paths[len(paths) // 2 + 1 :]:
            path.unlink()


def lacking(view: View) -> Spoil:
    def spoil(study: Planted) -> None:
        shutil.rmtree(study.series(view))
        study.rows[:] = [(s, v) for s, v in study.rows if v is not view]

    return spoil


def other_views(study: Planted) -> None:
    """Lists the axial series as sagittal T1 and the other way round."""
    swapped = {View.SAGITTAL_T1: View.AXIAL_T2, View.AXIAL_T2: View.SAGITTAL_T1}
    study.rows[:] = [(s, swapped.get(v, v)) for s, v in study.rows]


def one_series_twice(study: Planted) -> None:
    """The folder of the sagittal T2 series holds the files of the T1 series."""
    t1, t2 = study.series(View.SAGITTAL_T1), study.series(View.SAGITTAL_T2)
    shutil.rmtree(t2)
    shutil.copytree(t1, t2)


def for_folder(make: Callable[[Path], object]) -> Spoil:
    def spoil(study: Planted) -> None:
        shutil.rmtree(study.folder)
        make(study.folder)

    return spoil


def for_series(make: Callable[[Path], object]) -> Spoil:
    def spoil(study: Planted) -> None:
        for series_id, _ in study.rows:
            shutil.rmtree(study.folder / series_id)
            make(study.folder / series_id)

    return spoil


def _circle(path: Path) -> None:
    path.symlink_to(path.name)


def _damages(told: str | None, **spoils: Spoil) -> dict[str, Damage]:
    return {name.replace("_", " "): Damage(spoil=spoil, told=told) for name, spoil in spoils.items()}


UNREADABLE: Final = "no readable slice"
FILES: Final[Mapping[str, Damage]] = {
    **_damages(
        UNREADABLE,
        files_of_no_bytes=content(lambda _: b""),
        text_files=content(lambda _: b"This was a slice of a spine. " * 20),
        files_cut_in_the_header=content(lambda whole: whole[:420]),
        folders_for_files=instead_of_file(Path.mkdir),
        pipes_for_files=instead_of_file(os.mkfifo),
        links_to_nowhere=instead_of_file(lambda path: path.symlink_to("nowhere")),
        links_in_a_circle=instead_of_file(_circle),
        files_over_the_limit=each_file(lambda path: os.truncate(path, _BYTES_OVER_THE_LIMIT)),
        deflated_files=header(plain, deflated),
        big_endian_in_name=content(lambda whole: whole.replace(b"1.2.840.10008.1.2.5", b"1.2.840.10008.1.2.2", 1)),
        nested_sequences=content(nested),
    ),
}
PIXELS: Final[Mapping[str, Damage]] = {
    **_damages(
        "cannot be decoded|shows nothing|is cut off",
        files_cut_in_the_pixels=content(lambda whole: whole[: 2 * len(whole) // 3]),
        no_pixels=header(without("PixelData")),
        constant_pixels=header(constant),
        an_RLE_stream_that_panics=header(encoded("1.2.840.10008.1.2.5", streams.rle_panic)),
        a_JPEG_2000_stream_that_aborts=header(encoded("1.2.840.10008.1.2.4.90", streams.jpeg_2000_abort)),
        a_JPEG_LS_stream_that_aborts=header(encoded("1.2.840.10008.1.2.4.80", streams.jpeg_ls_abort)),
        a_JPEG_2000_bomb=header(encoded("1.2.840.10008.1.2.4.90", streams.jpeg_2000_bomb)),
        a_JPEG_LS_bomb=header(encoded("1.2.840.10008.1.2.4.80", streams.jpeg_ls_bomb)),
        an_encoding_without_decoder=header(encoded("1.2.840.10008.1.2.4.51", streams.noise)),
        more_rows_than_pixels=header(of_size(400, 400)),
        an_infinite_slope=header(raw("RescaleSlope", b"inf"), raw("RescaleIntercept", b"0")),
        an_overflowing_slope=header(raw("RescaleSlope", b"1e308"), raw("RescaleIntercept", b"0")),
        no_bits=header(without("BitsAllocated")),
    ),
}
HEADERS: Final[Mapping[str, Damage]] = {
    **_damages(
        UNREADABLE,
        an_orientation_of_NaN=header(raw("ImageOrientationPatient", b"nan\\nan\\nan\\nan\\nan\\nan")),
        an_orientation_of_zeros=header(raw("ImageOrientationPatient", b"0\\0\\0\\0\\0\\0")),
        an_infinite_position=header(raw("ImagePositionPatient", b"1e999\\0\\0")),
        a_spacing_of_0=header(raw("PixelSpacing", b"0\\0")),
        words_for_spacing=header(raw("PixelSpacing", b"half\\half")),
        huge_rows=header(of_size(65_535, 65_535)),
        frames_in_colour=header(colour),
        empty_functional_groups=header(broken_groups),
    ),
    # Files without a number in their name take it from the header.
    **_damages(
        "instance numbers repeat",
        one_number_for_all=both(header(raw("InstanceNumber", b"1")), renamed("slice{}")),
        numbers_of_20_digits=both(
            header(raw("InstanceNumber", b"12345678901234567890")), renamed("1234567890123456{:04}")
        ),
        words_for_numbers=both(header(raw("InstanceNumber", b"three")), renamed("slice{}")),
    ),
    # The folders name studies and series here, and the files' names the slices; pixels of no said sign are unsigned.
    **_damages(
        None,
        paths_for_UIDs=header(raw("StudyInstanceUID", b"../../../etc"), raw("SeriesInstanceUID", b"/etc/passwd")),
        words_in_the_number_tag=header(raw("InstanceNumber", b"three")),
        no_sign=header(without("PixelRepresentation")),
        window_of_NaN=header(raw("WindowCenter", b"nan"), raw("WindowWidth", b"-inf")),
    ),
}
STUDIES: Final[Mapping[str, Damage]] = {
    **_damages("Sagittal T1", no_T1=lacking(View.SAGITTAL_T1)),
    **_damages("Sagittal T2", no_T2=lacking(View.SAGITTAL_T2)),
    **_damages("Axial T2", no_axial=lacking(View.AXIAL_T2)),
    **_damages(
        UNREADABLE,
        no_folder=for_folder(lambda _: None),
        a_file_for_the_folder=for_folder(Path.touch),
        a_link_in_a_circle=for_folder(_circle),
        files_for_series=for_series(Path.touch),
        empty_series=for_series(Path.mkdir),
        series_in_a_circle=for_series(_circle),
    ),
    **_damages("is listed as", other_views=other_views),
    **_damages("has the UID and the planes of series", one_series_twice=one_series_twice),
    **_damages("is no .* plane|is listed as", mixed_planes=mixed_planes),
    **_damages("lie at one position", one_position_for_all=header(raw("ImagePositionPatient", b"0\\0\\0"))),
    # Odd, but each slice is sound: the audit alone speaks of it.
    **_damages("", mixed_sizes=every_other(upper_half), one_slice_a_series=one_slice),
}
DAMAGES: Final[Mapping[str, Damage]] = {**FILES, **PIXELS, **HEADERS, **STUDIES}
