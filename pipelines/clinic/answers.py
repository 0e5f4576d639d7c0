"""OUT/answers/<study>/: one finished prediction per study, replaced as a whole when the study has new files."""

import ctypes
import hashlib
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from shared.runtime.documents import Document, read_document
from shared.runtime.errors import InputError
from shared.runtime.files import inside, remove, write_json

FOLDER: Final = "answers"
_FILE: Final = "watched.json"
_EXCHANGE: Final = 2  # RENAME_EXCHANGE of renameat2(2)
_HERE: Final = -100  # AT_FDCWD


class _Watched(Document):
    """The files that an answer was made of, as digests of their names, sizes and times: names may be a patient's."""

    files: list[str]


def answer_folder(out: Path, study_id: str) -> Path:
    """Where the answer of a study lies."""
    return inside(out / FOLDER, study_id)


def digests_of(folder: Path, files: Mapping[Path, tuple[int, int]]) -> frozenset[str]:
    """What tells whether files are the same as before: path from `folder`, size and time of modification."""
    return frozenset(
        hashlib.sha256(os.fsencode(f"{path.relative_to(folder)}\0{size}\0{changed_ns}")).hexdigest()[:16]
        for path, (size, changed_ns) in files.items()
    )


def is_answered(folder: Path, files: frozenset[str]) -> bool:
    """Whether an answer was made of these files, and perhaps of others that have gone since."""
    try:
        return files <= set(read_document(folder / _FILE, _Watched).files)
    except InputError:  # none yet, or damaged
        return False


@contextmanager
def replaced(folder: Path, files: frozenset[str]) -> Iterator[Path]:
    """Yields a new folder beside `folder` and puts it in its place if the block succeeds.

    Whoever reads sees the whole old answer or the whole new one.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    new = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    remove(new)
    try:
        yield new
        write_json(new / _FILE, {"files": sorted(files)})
        if not folder.exists():
            new.rename(folder)
        elif not _exchanged(new, folder):
            old = folder.with_name(f".{folder.name}.old.{os.getpid()}.tmp")
            folder.rename(old)
            new.rename(folder)
            remove(old)
    finally:
        remove(new)


def _exchanged(one: Path, other: Path) -> bool:
    """Swaps two folders in one step, where the system can."""
    if not sys.platform.startswith("linux"):
        return False
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    names = os.fsencode(one), os.fsencode(other)
    return rename is not None and rename(_HERE, names[0], _HERE, names[1], ctypes.c_uint(_EXCHANGE)) == 0
