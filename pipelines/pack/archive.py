"""Zip archives with the same bytes for the same files: sorted names, one time, no compression.

Compressors differ between versions of zlib, and weights do not shrink.
"""

import hashlib
import zipfile
from collections.abc import Mapping
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import BinaryIO, Final

from shared.runtime.errors import InputError

_TIME: Final = (1980, 1, 1, 0, 0, 0)
_MODE: Final = 0o100644
_UNIX: Final = 3
_CHUNK: Final = 2**20

Content = bytes | Path


def write_archive(out: Path | BinaryIO, files: Mapping[str, Content], digests: Mapping[str, str] | None = None) -> None:
    """Writes the files under their names.

    Args:
      files: contents, or where they lie.
      digests: SHA-256 of those that were looked at before.

    Raises:
      InputError: when a file was changed since then.
    """
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, content in sorted(files.items()):
            info = zipfile.ZipInfo(name, _TIME)
            info.external_attr, info.create_system = _MODE << 16, _UNIX
            info.file_size = len(content) if isinstance(content, bytes) else content.stat().st_size
            digest = hashlib.sha256()
            with _opened(content) as source, archive.open(info, "w") as target:
                while chunk := source.read(_CHUNK):
                    digest.update(chunk)
                    target.write(chunk)
            if digest.hexdigest() != (digests or {}).get(name, digest.hexdigest()):
                raise InputError(f"{content if isinstance(content, Path) else name}: was changed while it was packed")


def digest_of(content: Content) -> str:
    """SHA-256 of a file's bytes, in hexadecimal digits."""
    with _opened(content) as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def _opened(content: Content) -> BytesIO | BufferedReader:
    return BytesIO(content) if isinstance(content, bytes) else content.open("rb")
