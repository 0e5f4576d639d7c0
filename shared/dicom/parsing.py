"""The bytes of a foreign file -> a data set; whatever goes wrong becomes one `InputError` that names the file.

It treats every file as hostile: it bounds sizes before it allocates, refuses deflated files (200 KB can expand to 650
MB before the first tag is seen), and never prints or iterates data sets.
"""

import io
import logging
import stat
import struct
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

import pydicom
from pydicom.filereader import read_dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from shared.dicom.decoding.elements import usual_dataset, usual_meta
from shared.dicom.tags import CHARACTER_SET, LONGEST_CHARACTER_SET, DicomFaultError
from shared.runtime.errors import InputError

MAX_FILE_BYTES: Final = 256 * 2**20
_DEFLATED: Final = frozenset({"1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.95"})
_DICOMDIR: Final = "1.2.840.10008.1.3.10"
MAX_ITEMS: Final = 2**16
_ITEMS: Final = (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00")  # little and big endian
_LARGE_BYTES: Final = 2**18  # a smaller file is parsed in a second, whatever it holds
_PARSE_SECONDS: Final = 2.0
_READS_PER_CHECK: Final = 256
_HEADER_BYTES: Final = 8  # of an element or item
_NO_HEADERS: Final = bytes(2**16)  # more than the padding behind some data sets
_META_BYTES: Final = 2**16
_HEAD_BYTES: Final = 132
# Headers are shorter, so that of a large file only its beginning is read.
_FIRST_BYTES: Final = 2**14
# A data set without the preamble begins with file meta information or with the identifying group.
_FIRST_GROUPS: Final = (0x0002, 0x0008)
_LONGEST_FIRST_VALUE: Final = 256
# pydicom's warnings quote values, which may be of a patient. What matters of them becomes a message of ours.
warnings.filterwarnings("ignore", category=UserWarning, module=r"pydicom\.")
logging.getLogger("pydicom").propagate = False

T = TypeVar("T")


def attempt(read: Callable[[], T]) -> T | InputError:
    """What `read` returns, or the `InputError` that it raises."""
    try:
        return read()
    except InputError as error:
        return error


class _PatientBytes(io.BytesIO):
    """A file's content that ends the patience with its parser: zeros where items should be took minutes."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self._reads = 0
        self._end_s = time.thread_time() + _PARSE_SECONDS

    def read(self, size: int | None = -1, /) -> bytes:
        self._reads += 1
        if self._reads % _READS_PER_CHECK == 0:
            if time.thread_time() > self._end_s:
                raise DicomFaultError(f"it takes over {_PARSE_SECONDS:.0f} s to parse")
            if size == _HEADER_BYTES and self.getvalue().startswith(_NO_HEADERS, self.tell()):
                raise DicomFaultError("zeros stand where elements should")
        if size is not None and size > LONGEST_CHARACTER_SET and self._is_character_set():
            raise DicomFaultError.of_value("SpecificCharacterSet")
        return super().read(size)

    def _is_character_set(self) -> bool:
        """Whether the value that follows is SpecificCharacterSet's, by the 8 or 12 bytes of its header."""
        at = self.tell()
        with self.getbuffer() as content:
            return any(CHARACTER_SET.match(content, at - size) for size in (8, 12) if at >= size)


@contextmanager
def foreign(name: str, fault: str) -> Iterator[None]:
    """Turns any exception into `InputError`: parsers and decoders raise anything, even MemoryError.

    Of a foreign error only the type is told: its text may quote the file, and so name a patient.
    A panic of a decoder written in Rust is no `Exception`. What ends this process is let through.
    """
    try:
        yield
    except (InputError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        raise InputError(f"{name}: {fault} ({told(error)})") from error


def told(error: BaseException) -> str:
    """A foreign error for one of our messages: its own words only where we wrote them, or the system did."""
    if isinstance(error, DicomFaultError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__


def file_content(path: Path, *, most_bytes: int = MAX_FILE_BYTES + 1) -> bytes:
    """The bytes of a regular file of at most `MAX_FILE_BYTES`; of a longer one than `most_bytes` only the first.

    Raises:
      InputError: for any other file, or one that cannot be read.
    """
    with foreign(str(path), "cannot be read as DICOM"):
        found = path.stat()
        # A pipe would block and a device never end. Opening a folder fails by itself.
        if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
            raise InputError(f"{path}: is no regular file")
        if found.st_size > MAX_FILE_BYTES:
            raise InputError(f"{path}: {found.st_size} bytes; expected at most {MAX_FILE_BYTES}")
        # One read of the whole file: pydicom's many small reads cost more than the parsing.
        with path.open("rb") as file:
            content = file.read(min(found.st_size + 1, most_bytes))
            if found.st_size < len(content) < most_bytes:  # it grew, or its size is unknown
                content += file.read(most_bytes - len(content))
        if len(content) > MAX_FILE_BYTES:
            raise InputError(f"{path}: {len(content)} bytes; expected at most {MAX_FILE_BYTES}")
        return content


def file_dataset(path: Path, *, stop_before_pixels: bool, tags: Sequence[str] | None = None) -> pydicom.Dataset:
    """The whole data set of a file, or only the named elements. Raises `InputError`."""
    if stop_before_pixels:
        return file_header(path, tags=tags)[0]
    return parse(path, io.BytesIO(file_content(path)), stop_before_pixels=False, tags=tags)


def file_header(path: Path, *, tags: Sequence[str] | None = None) -> tuple[pydicom.Dataset, bool]:
    """The elements before the pixels, and whether anything follows them. Raises `InputError`."""
    first = file_content(path, most_bytes=_FIRST_BYTES)
    if len(first) == _FIRST_BYTES and first[128:_HEAD_BYTES] == b"DICM":
        with foreign(str(path), "cannot be read as DICOM"):
            meta = usual_meta(first, _HEAD_BYTES)
            usual = None if meta is None else usual_dataset(first, meta, stop_before_pixels=True, tags=tags)
        if usual is not None:
            return usual[0], True
    file = io.BytesIO(file_content(path))
    return parse(path, file, stop_before_pixels=True, tags=tags), bool(file.read(1))


def parse(
    path: Path, file: io.BytesIO, *, stop_before_pixels: bool, tags: Sequence[str] | None = None
) -> pydicom.Dataset:
    """Parses a file's content, which then stands at its pixels if the parser stopped there. Raises `InputError`."""
    with foreign(str(path), "cannot be read as DICOM"):
        content = file.getvalue()
        head = content[:_HEAD_BYTES]
        bare = head[128:] != b"DICM"
        if bare and not is_bare_dataset(head):
            raise InputError(f"{path}: not a DICOM file (no DICM prefix)")
        start = 0 if bare else _HEAD_BYTES
        meta = usual_meta(content, start)
        if (_transfer_syntax(file, start=start) if meta is None else meta.syntax) in _DEFLATED:
            raise InputError(f"{path}: deflated transfer syntax is refused; convert it, for example with dcmconv")
        _refuse_many_items(path, content)
        if meta is not None and not bare:
            usual = usual_dataset(content, meta, stop_before_pixels=stop_before_pixels, tags=tags)
            if usual is not None:
                file.seek(usual[1])
                return usual[0]
        file.seek(0)
        wanted = None if tags is None else list(tags)
        # Forced only for what begins like a data set: pydicom would take any text for one.
        source = _PatientBytes(content) if len(content) >= _LARGE_BYTES else file
        dataset = pydicom.dcmread(source, stop_before_pixels=stop_before_pixels, specific_tags=wanted, force=bare)
        file.seek(source.tell())
        if bare and "TransferSyntaxUID" not in dataset.file_meta:  # decoders ask for it; a bare data set is not encoded
            implicit = dataset.original_encoding[0]
            dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
        return dataset


def _refuse_many_items(path: Path, content: bytes) -> None:
    """pydicom makes a data set of each item of a sequence, wanted or not: 4 MB of empty ones took it 20 s."""
    if len(content) >= 8 * MAX_ITEMS and sum(map(content.count, _ITEMS)) > MAX_ITEMS:
        raise InputError(f"{path}: more than {MAX_ITEMS} items in its sequences")


def begins_like_dicom(path: Path) -> bool:
    """Whether a regular file begins like DICOM; raises `OSError` when it cannot be opened."""
    if not path.is_file():  # a pipe would block, and a link may lead nowhere
        return False
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    return head[128:] == b"DICM" or is_bare_dataset(head)


def is_bare_dataset(head: bytes) -> bool:
    """Whether bytes begin a little-endian data set without preamble, as some archives write it."""
    if len(head) < _HEAD_BYTES:
        return False
    group, _, first = struct.unpack_from("<HHI", head)
    if group not in _FIRST_GROUPS:
        return False
    explicit = head[4:6].isalpha() and head[4:6].isupper()
    return explicit or first <= _LONGEST_FIRST_VALUE


def is_dicomdir(path: Path) -> bool:
    """Whether a DICOM file is the index of a medium. Raises `InputError` when it cannot be read."""
    with foreign(str(path), "cannot be read as DICOM"), path.open("rb") as file:
        head = file.read(_META_BYTES)
        return head[128:132] == b"DICM" and (
            _meta(io.BytesIO(head), start=_HEAD_BYTES).get("MediaStorageSOPClassUID") == _DICOMDIR
        )


def _transfer_syntax(content: io.BytesIO, *, start: int) -> str:
    return str(_meta(content, start=start).get("TransferSyntaxUID", ""))


def _meta(content: io.BytesIO, *, start: int) -> pydicom.Dataset:
    """The file meta group alone, which is never compressed."""
    content.seek(start)
    return read_dataset(content, is_implicit_VR=False, is_little_endian=True, stop_when=lambda tag, *_: tag.group != 2)
