"""Folders and archives with damaged DICOM files, as `predict`, `series` and `audit` find studies in them."""

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Final

import pydicom
from pydicom.dataset import FileDataset
from pydicom.fileset import FileSet
from pydicom.uid import UID

from benchmarks.exports.multiframe import enhanced
from benchmarks.fuzz.inputs.dicom import saved, slice_dataset
from benchmarks.fuzz.inputs.sound import Sound
from benchmarks.fuzz.inputs.world import made
from pipelines.audit.pixels import Pixels
from pipelines.audit.run import AuditOptions, inspect
from pipelines.series import SeriesRequest, series_table
from shared.data.source import open_source

_AXIAL: Final = [1, 0, 0, 0, 1, 0]
_SCANS: Final = "scans"
_MADE: Final = (2024, 1, 1, 0, 0, 0)


@cache
def _study() -> Mapping[str, bytes]:
    """Three views of five slices each; the axial one is an enhanced object."""
    files = {}
    for n in range(1, 6):
        for series, (echo, repetition, name) in enumerate(((10.0, 600.0, "SAG T1"), (100.0, 3500.0, "SAG T2"))):
            made_slice = slice_dataset(
                n, SeriesInstanceUID=f"1.2.{series}", SOPInstanceUID=f"1.2.{series}.{n}", EchoTime=echo,
                RepetitionTime=repetition, SeriesDescription=name, SeriesNumber=series + 1,
            )  # fmt: skip
            files[f"{_SCANS}/{series}/{n}.dcm"] = saved(made_slice)
    axial = [_axial(n) for n in range(1, 6)]
    files[f"{_SCANS}/axial.dcm"] = saved(enhanced(axial))
    return files


def _axial(n: int) -> FileDataset:
    return slice_dataset(
        n, SeriesInstanceUID="1.2.7", SOPInstanceUID=f"1.2.7.{n}", ImageOrientationPatient=_AXIAL,
        ImagePositionPatient=[-80.0, -90.0, -8.0 * n], SeriesDescription="AX T2", SeriesNumber=7,
    )  # fmt: skip


def sound_folders() -> Iterator[Sound]:
    """A folder with one or more damaged files, beside the index of a medium."""
    files = dict(_study())
    yield Sound(kind="folder", name="folder", files=files, targets=dict.fromkeys(files, "dicom"), read=_series)
    yield Sound(
        kind="folder", name="folder, audited", files=files, targets=dict.fromkeys(files, "dicom"), read=_audited
    )
    index = made(_medium)
    targets = {name: "dicom" for name in index if name.endswith("DICOMDIR")}
    yield Sound(kind="folder", name="medium", files=index, targets=targets, read=_medium_read)  # type: ignore[arg-type]


def sound_archives() -> Iterator[Sound]:
    """The same study packed."""
    for name, make in _ARCHIVES.items():
        yield Sound(
            kind="archive",
            name=name,
            files={name: make()},
            targets={name: "zip" if name.endswith("zip") else "binary"},
            read=partial(_archived, name),
        )


def _archived(name: str, folder: Path) -> list[str]:
    return _found(folder / name)


def _zip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for n, (name, content) in enumerate(_study().items()):
            info = zipfile.ZipInfo(name, _MADE)
            info.compress_type = zipfile.ZIP_DEFLATED if n % 2 else zipfile.ZIP_STORED
            archive.writestr(info, content)
    return file.getvalue()


def _tar(compress: Callable[[bytes], bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in _study().items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return compress(file.getvalue())


_ARCHIVES: Final[Mapping[str, Callable[[], bytes]]] = {
    "study.zip": _zip,
    "study.tar": lambda: _tar(bytes),
    "study.tar.gz": lambda: _tar(lambda content: gzip.compress(content, mtime=0)),
    "study.tar.bz2": lambda: _tar(bz2.compress),
    "study.tar.xz": lambda: _tar(lzma.compress),
}


def _medium(root: Path) -> None:
    files = FileSet()
    files.UID = UID("1.2.3.4")
    for content in list(_study().values())[:4]:
        dataset = pydicom.dcmread(io.BytesIO(content))
        dataset.PatientName, dataset.StudyID, dataset.StudyDate = "P1", "1", "20240101"
        dataset.StudyTime, dataset.PatientID = "101112", "P1"
        files.add(dataset)
    files.write(root / "medium")


def _medium_read(folder: Path) -> list[str]:
    return _found(folder / "medium" / "DICOMDIR")


def _series(folder: Path) -> list[str]:
    series_table(SeriesRequest(data=folder / _SCANS), as_json=True)
    return _found(folder / _SCANS)


def _found(path: Path) -> list[str]:
    source = open_source(path)
    said = [str(p) for s in source.study_ids for p in source.load(s).problems]
    return said + [str(error) for study in source.found or () for error in study.unreadable]


def _audited(folder: Path) -> list[str]:
    result = inspect(folder / _SCANS, AuditOptions(pixels=Pixels.ALL))
    return [str(issue.reason) for issue in result.issues]
