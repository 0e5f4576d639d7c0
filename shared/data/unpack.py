"""Whatever holds DICOM files -> a folder of them: an archive is unpacked, a DICOMDIR stands for its folder.

Archives are hostile input: what they claim about themselves is not believed. Names are checked, links and devices are
refused, and entries and bytes are counted while they are unpacked. The folder is private and goes with the process.
"""

import bz2
import functools
import gzip
import io
import lzma
import shutil
import stat
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO, Final, cast

from shared.dicom.parsing import begins_like_dicom, is_dicomdir
from shared.dicom.scan import converted_kind
from shared.runtime.errors import InputError, show_as
from shared.runtime.files import room_bytes
from shared.runtime.names import masked_path

MAX_ENTRIES: Final = 250_000
MAX_BYTES: Final = 64 * 2**30
# DICOM files rarely shrink to a tenth; small archives may hold empty pictures.
MAX_RATIO: Final = 100
_FREE_OF_RATIO: Final = 64 * 2**20
_CHUNK: Final = 2**20
_EXPECTED: Final = "expected a challenge directory, a folder of DICOM files, a zip or tar archive, or a DICOM file"
# Each level is a folder to make, which costs an archive two bytes.
MAX_DEPTH: Final = 64
# Folders that file managers add to archives.
_IGNORED: Final = "__MACOSX"
# What marks a challenge directory and a prepared store.
_TABLES: Final = ("*_series_descriptions.csv", "store.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """Where to read what the user named.

    Attributes:
      folder: the folder that holds the files now.
      origin: what paths below `folder` are named after: the folder itself, or the archive.
      lone: whether the user named a single DICOM file.
      archive: the archive that was unpacked into `folder`.
      fetched: digest of the listing of what was fetched from an object store into `folder`; otherwise empty.
    """

    folder: Path
    origin: Path
    lone: bool = False
    archive: Path | None = None
    fetched: str = ""


def open_input(path: Path) -> Input:
    """The folder behind a folder, a zip or tar archive, a DICOMDIR or another DICOM file. Unpacks an archive once.

    Messages name files by their paths from there, with telling names hidden (`shared.runtime.names`).

    Raises:
      InputError: when there is no such thing, or the archive is damaged, encrypted, too large, or holds links, devices
        or names that lead out of it.
    """
    if path.is_dir():
        return Input(folder=path.absolute(), origin=path)
    if not path.is_file():
        raise InputError(f"{path}: no such folder or file; {_EXPECTED}")
    found = path.stat()
    return _opened(path.absolute(), path, found.st_size, found.st_mtime_ns)


@functools.lru_cache(maxsize=4)
def _opened(path: Path, named: Path, size: int, changed_ns: int) -> Input:
    if not begins_like_dicom(path):
        return _unpacked(path, named, size)
    if is_dicomdir(path):
        return Input(folder=path.parent, origin=path.parent)
    # A folder of its own, so that nothing beside the file is read.
    folder = private_folder()
    (folder / path.name).symlink_to(path)
    show_as(folder / path.name, str(named))
    show_as(folder, str(named))
    return Input(folder=folder, origin=path.parent, lone=True)


# Removed when the process ends, after an error too.
_FOLDERS: Final[list["tempfile.TemporaryDirectory[str]"]] = []


def private_folder() -> Path:
    """A folder of this process alone, which is deleted when the process ends."""
    made = tempfile.TemporaryDirectory(prefix="lumbar-")
    _FOLDERS.append(made)
    return Path(made.name)


def _unpacked(path: Path, named: Path, size: int) -> Input:
    folder = private_folder()
    show_as(folder, str(named), join=":")
    budget = _Budget(name=str(named), most_bytes=min(MAX_BYTES, room_bytes(folder), MAX_RATIO * size + _FREE_OF_RATIO))
    try:
        unpack = _unpack_zip if zipfile.is_zipfile(path) else _unpack_tar
        unpack(path, folder, budget)
        if not budget.files:
            raise InputError(f"{named}: holds no file; {_EXPECTED}")
    except Exception as error:  # foreign archives raise anything
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, InputError):
            raise
        if isinstance(error, OSError) and error.errno:  # a full disk, a name that is too long
            raise InputError(f"{named}: cannot be unpacked into {tempfile.gettempdir()} ({error.strerror})") from error
        kind = converted_kind(path)
        if kind:
            raise InputError(f"{named}: is a {kind}, not DICOM; {_EXPECTED}") from error
        raise InputError(f"{named}: is no complete zip or tar archive ({type(error).__name__}); {_EXPECTED}") from error
    top = _top(folder)
    return Input(folder=top, origin=path / top.relative_to(folder), archive=path)


def _top(folder: Path) -> Path:
    """The challenge directory or store that is packed with its own folder, or else everything unpacked."""
    top = folder
    while len(inner := [p for p in top.iterdir() if p.name != _IGNORED]) == 1 and inner[0].is_dir():
        top = inner[0]
    return top if any(p.match(pattern) for p in top.iterdir() for pattern in _TABLES) else folder


@dataclass(slots=True, kw_only=True)
class _Budget:
    """How much of an archive may still be unpacked. Raises `InputError` when it is spent."""

    name: str
    most_bytes: int
    entries: int = 0
    files: int = 0
    unpacked_bytes: int = 0

    def entry(self) -> None:
        self.entries += 1
        if self.entries > MAX_ENTRIES:
            raise InputError(f"{self.name}: holds more than {MAX_ENTRIES} entries; unpack it and give the folder")

    def spend(self, count: int) -> None:
        self.unpacked_bytes += count
        if self.unpacked_bytes > self.most_bytes:
            raise InputError(
                f"{self.name}: unpacks to more than {self.most_bytes} bytes; expected at most {MAX_RATIO} times its "
                "own size, and room on the disk for temporary files (TMPDIR). Unpack it and give the folder"
            )

    def write(self, source: "IO[bytes] | _Counted", folder: Path, member: str) -> None:
        """Unpacks one file."""
        parts = PurePosixPath(member.replace("\\", "/")).parts
        if not parts or any(p in ("/", "//", "..") or "\0" in p or p.endswith(":") for p in parts):
            raise InputError(
                f"{self.name}: member {self._told(member)} has a name that may lead out of the archive; "
                "unpack it and give the folder"
            )
        if len(parts) > MAX_DEPTH:
            self.refuse(member, f"nested more than {MAX_DEPTH} folders deep")
        target = folder.joinpath(*parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with target.open("xb") as file:
                shutil.copyfileobj(source, file, _CHUNK)
        except FileExistsError as error:
            raise InputError(f"{self.name}: member {self._told(member)} is there twice") from error
        self.files += 1

    def _told(self, member: str) -> str:
        return f"{self.entries} ({masked_path(PurePosixPath(member))})"

    def refuse(self, member: str, what: str) -> None:
        raise InputError(f"{self.name}: member {self._told(member)} is {what}, which is refused; pack plain files only")


class _Counted(io.RawIOBase):
    """A stream whose bytes are counted as they are read."""

    def __init__(self, stream: "IO[bytes] | io.BufferedIOBase", budget: _Budget) -> None:
        self._stream, self._budget = stream, budget

    def read(self, size: int = -1, /) -> bytes:
        content = self._stream.read(size)
        self._budget.spend(len(content))
        return content


def _unpack_zip(path: Path, folder: Path, budget: _Budget) -> None:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            budget.entry()
            mode = info.external_attr >> 16
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                budget.refuse(info.filename, "a link or device")
            if info.is_dir() or info.filename.endswith("\\"):  # as Windows tools write folders
                continue
            if info.flag_bits & 1:
                raise InputError(f"{budget.name}: is encrypted; unpack it with its password and give the folder")
            with archive.open(info) as source:
                budget.write(_Counted(source, budget), folder, info.filename)


def _unpack_tar(path: Path, folder: Path, budget: _Budget) -> None:
    # Read as a stream, so that long headers are counted too.
    with (
        path.open("rb") as file,
        _decompressed(file) as plain,
        tarfile.open(fileobj=cast("BinaryIO", _Counted(plain, budget)), mode="r|") as archive,
    ):
        for member in archive:
            budget.entry()
            if member.isdir():
                continue
            source = archive.extractfile(member) if member.isreg() and not member.issparse() else None
            if source is None:
                budget.refuse(member.name, "a link, device or sparse file")
            else:
                budget.write(source, folder, member.name)


def _decompressed(file: BinaryIO) -> "BinaryIO | io.BufferedIOBase":
    head = file.read(6)
    file.seek(0)
    if head.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=file)
    if head.startswith(b"BZh"):
        return bz2.BZ2File(file)
    return lzma.LZMAFile(file) if head == b"\xfd7zXZ\0" else file
