"""Folders on this machine's disk for the files of one study of an object store, for as long as they are needed."""

import functools
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_TOKEN: Final = re.compile(r"[0-9a-f]{12}")


def new_token() -> str:
    """What names the scratch folders of one command, on all machines that work for it."""
    return uuid.uuid4().hex[:12]


@contextmanager
def study_folder(token: str) -> Iterator[Path]:
    """A private, empty folder, which goes with the block. In one process its path is always the same.

    Registers of masked names therefore do not grow with the studies.
    """
    folder = Path(tempfile.gettempdir()).resolve() / f"lumbar-{token}-{_name_in(os.getpid())}"
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sweep(token: str) -> None:
    """Deletes what killed processes of this machine left of their folders."""
    if not _TOKEN.fullmatch(token):  # it may have been read from an object store
        return
    for folder in Path(tempfile.gettempdir()).resolve().glob(f"lumbar-{token}-*"):
        shutil.rmtree(folder, ignore_errors=True)


@functools.lru_cache(maxsize=1)
def _name_in(process: int) -> str:
    return f"{process}-{uuid.uuid4().hex[:8]}"
