"""The objects below an address: listed within bounds, fetched and put with tries, deleted.

Keys are foreign: one that could lead out of the folder that it is fetched into is refused before anything is written.
"""

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from shared.runtime.errors import InputError, first_line
from shared.runtime.files import room_bytes
from shared.runtime.names import masked_path, named_below
from shared.storage.address import Address
from shared.storage.tries import MissingError, StorageError, tried

EXTRA: Final = "install the extra `storage`: pip install 'lumbar-severity[storage]', or fsspec and s3fs themselves"
MOST_OBJECTS: Final = 250_000
MOST_DEPTH: Final = 64
_LONGEST_NAME_BYTES: Final = 255
_AT_ONCE: Final = 16
# Stores whose listings fsspec would keep for the time of the process, while others add objects.
_LISTING_STORES: Final = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss")
# What tells that an object is still the same.
_VERSIONS: Final = ("ETag", "etag", "md5Hash", "content_md5", "LastModified", "mtime", "updated", "created")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObject:
    """An object as it was listed.

    Attributes:
      key: from the address that was listed, with slashes.
      version: differs where its content does: its ETag, or the time of its last change.
    """

    key: str
    size: int
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Objects:
    """The objects below an address. Picklable: each process connects by itself.

    Attributes:
      foreign: whether keys are a data set's names of files, which messages mask.
    """

    address: Address
    foreign: bool = True

    def listed(self, below: str = "", *, most: int = MOST_OBJECTS) -> list[StoredObject]:
        """All objects below a folder, by their keys from there, sorted; empty where nothing is there.

        Raises:
          StorageError: when there are more than `most`, or the store fails.
        """
        found = self._bounded(below, most, deep=True)
        return sorted((entry for entry, is_folder in found if not is_folder), key=lambda entry: entry.key)

    def holds(self, below: str) -> bool:
        """Whether there is any object below a folder."""
        return bool(self._entries(below, 1, deep=True))

    def top(self, *, most: int = MOST_OBJECTS) -> dict[str, bool]:
        """Names directly below the address -> whether each is a folder."""
        return {entry.key: is_folder for entry, is_folder in self._bounded("", most, deep=False)}

    def is_object(self) -> bool:
        """Whether the address names one object and no folder."""
        fs, root = filesystem(self.address)
        return bool(tried(lambda: fs.isfile(root), str(self.address)))

    def described(self, key: str = "") -> StoredObject:
        """One object; the address itself for an empty key.

        Raises:
          MissingError: when it is not there.
        """
        fs, path = self._path(key)
        return _object(tried(lambda: fs.info(path), self._named(key)), key)

    def read(self, key: str, *, most_bytes: int) -> bytes | None:
        """The content of an object; None where it is not there.

        Raises:
          StorageError: when it is larger than that.
        """
        fs, path = self._path(key)
        try:
            found = self.described(key)
            if found.size > most_bytes:
                raise StorageError(f"{self._named(key)}: holds {found.size} bytes; expected at most {most_bytes}")
            content: bytes = tried(lambda: fs.cat_file(path), self._named(key))
        except MissingError:
            return None
        return content

    def fetch(self, objects: Sequence[StoredObject], folder: Path, *, below: str = "") -> None:
        """Writes objects into a folder, under their keys.

        Raises:
          StorageError: when a key may lead out of the folder, an object is gone or changed, or the disk has no room.
        """
        targets = [self._target(folder, entry.key) for entry in objects]
        folder.mkdir(parents=True, exist_ok=True)
        needed, room = sum(entry.size for entry in objects), room_bytes(folder)
        if needed > room:
            raise StorageError(
                f"{self._named(below)}: {needed} bytes are to be fetched, and there is room for {room} as temporary "
                "files; set TMPDIR to a folder on a larger disk"
            )
        for parent in {target.parent for target in targets}:
            parent.mkdir(parents=True, exist_ok=True)
        prefix = f"{below}/" if below else ""

        def fetch_one(entry: StoredObject, target: Path) -> None:
            fs, path = self._path(prefix + entry.key)
            tried(lambda: fs.get_file(path, str(target)), self._named(prefix + entry.key))
            if target.stat().st_size != entry.size:
                raise StorageError(f"{self._named(prefix + entry.key)}: was changed while it was read; try again")

        _all_of(fetch_one, objects, targets)

    def put(self, folder: Path, keys: Sequence[str]) -> None:
        """Uploads files of a folder under the same keys. Each appears at once and whole, where the store has puts."""

        def put_one(key: str) -> None:
            fs, path = self._path(key)
            tried(lambda: fs.put_file(str(folder / key), path), self._named(key))

        _all_of(put_one, keys)

    def write(self, key: str, content: bytes) -> None:
        """Writes one small object."""
        fs, path = self._path(key)
        tried(lambda: fs.pipe_file(path, content), self._named(key))

    def delete(self, names: Iterable[str]) -> None:
        """Deletes what lies directly below the address under some names, with all below; never the address itself."""
        for name in names:
            fs, path = self._path(name)
            try:
                tried(functools.partial(fs.rm, path, recursive=True), self._named(name))
            except MissingError:
                continue

    def _bounded(self, below: str, most: int, *, deep: bool) -> list[tuple[StoredObject, bool]]:
        found = self._entries(below, most, deep=deep)
        if len(found) > most:
            raise StorageError(
                f"{self._named(below)}: holds more than {most} objects, which is refused; give a smaller folder"
            )
        return found

    def _entries(self, below: str, most: int, *, deep: bool) -> list[tuple[StoredObject, bool]]:
        fs, path = self._path(below)
        found = tried(lambda: _listing(fs, path, most, deep=deep), self._named(below))
        prefix = f"{path.rstrip('/')}/"
        entries = ((str(info["name"]), info) for info in found)
        return [
            (_object(info, name.removeprefix(prefix).rstrip("/")), info["type"] == "directory" or name.endswith("/"))
            for name, info in entries
            if name.startswith(prefix) and name.rstrip("/") != path.rstrip("/")
        ]

    def _target(self, folder: Path, key: str) -> Path:
        parts = key.split("/")
        unsafe = any(
            p in ("", ".", "..") or "\0" in p or "\\" in p or len(p.encode("utf-8", "replace")) > _LONGEST_NAME_BYTES
            for p in parts
        )
        if unsafe or len(parts) > MOST_DEPTH:
            raise StorageError(
                f"{self.address}: the key {masked_path(PurePosixPath(key))[:200]} is no path of a file (it is nested "
                "too deep, too long, or may lead out of its folder); rename the object"
            )
        return folder.joinpath(*parts)

    def _path(self, key: str) -> tuple[Any, str]:
        fs, root = filesystem(self.address)
        return fs, f"{root.rstrip('/')}/{key}" if key else root

    def _named(self, key: str) -> str:
        return f"{self.address}/{named_below(key, numbers=True) if self.foreign else key}" if key else str(self.address)


def _all_of(call: Callable[..., None], *arguments: Sequence[Any]) -> None:
    """Makes calls side by side, since each waits for the store most of the time; raises the first error of any."""
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        for _ in threads.map(call, *arguments):
            pass


def _object(info: dict[str, Any], key: str) -> StoredObject:
    version = next((str(info[name]) for name in _VERSIONS if info.get(name) is not None), "")
    return StoredObject(key=key, size=int(info.get("size") or 0), version=version)


def _listing(fs: Any, path: str, most: int, *, deep: bool) -> list[dict[str, Any]]:
    """What lies below a path, at most one more than `most` where the store can stop there.

    Raises:
      FileNotFoundError: for a bucket that is not there, where the store tells it from an empty folder.
    """
    bounded = getattr(fs, "_lsdir", None)
    if bounded is not None and {"max_items", "delimiter"} <= inspect.signature(bounded).parameters.keys():
        from fsspec.asyn import sync

        found: list[dict[str, Any]] = sync(fs.loop, bounded, path, max_items=most + 1, delimiter="" if deep else "/")
        return found
    # Not by fsspec's `walk`, which leaves out folders that it fails to list.
    entries: list[dict[str, Any]] = []
    folders = [path]
    while folders and len(entries) <= most:
        here, listed = folders.pop(), list[dict[str, Any]]()
        with suppress(FileNotFoundError):  # without objects there is no folder
            listed = fs.ls(here, detail=True)
        for info in listed:
            is_below = deep and info["type"] == "directory" and str(info["name"]).rstrip("/") != here.rstrip("/")
            if is_below:
                folders.append(str(info["name"]))
            else:
                entries.append(info)
    return entries


@functools.lru_cache(maxsize=8)
def filesystem(address: Address) -> tuple[Any, str]:
    """fsspec's file system behind an address, and the path of the address in it.

    Raises:
      InputError: when a package is missing, or there is no such protocol.
    """
    try:
        from fsspec.core import url_to_fs
    except ModuleNotFoundError as error:
        raise InputError(
            f"{address}: is an address of an object store, and fsspec is not installed; {EXTRA}"
        ) from error
    options = {"use_listings_cache": False} if address.protocol in _LISTING_STORES else {}
    try:
        fs, root = url_to_fs(str(address), **options)
    except ImportError as error:
        advice = EXTRA if address.protocol in ("s3", "s3a") else "install the package that it needs"
        raise InputError(f"{address}: {advice} (fsspec says: {first_line(error)})") from error
    except ValueError as error:
        raise InputError(
            f"{address}: fsspec knows no protocol {address.protocol}; expected s3://, gs:// or the like"
        ) from error
    return fs, str(root)
