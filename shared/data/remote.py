"""DATA at an address of an object store: tables are fetched at once, the files of a study when it is worked on.

A challenge directory and a prepared store of one are read study by study, on whichever machine does a study, and the
study's files are deleted after it. Whatever else lies at an address has to be searched as a whole, and is fetched as a
whole: a folder of DICOM files, a prepared store of one, or an archive.
"""

import json
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from shared.data.challenge import PARTS, Challenge, is_slice_file, table_columns
from shared.data.identity import objects_key
from shared.data.store import MAX_JSON_BYTES, STORE_FILE, STUDIES
from shared.data.unpack import Input, open_input, private_folder
from shared.runtime.errors import InputError, show_as
from shared.runtime.files import inside
from shared.runtime.names import hide_names
from shared.runtime.problems import counted
from shared.runtime.progress import log, track
from shared.storage.address import Address
from shared.storage.objects import Objects, StoredObject
from shared.storage.tries import MissingError
from shared.study import LoadedStudy, Study

# Of all tables together; those of 100,000 studies have some 200 MB.
_MOST_TABLE_BYTES: Final = 8 << 30
_MOST_OF_STUDY: Final = 50_000
_MOST_STUDIES: Final = 20_000_000
_CHUNK: Final = 256
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteData:
    """A challenge directory at an address, or a prepared store of one. Picklable: it travels to worker processes."""

    address: Address

    @property
    def _store(self) -> Objects:
        return Objects(address=self.address)

    def has_study(self, data: Challenge, study_id: str) -> bool:
        """Whether there are files of a study."""
        if data.store is not None:
            return study_id in data.store.records.get(data.part, ())
        return self._store.holds(f"{data.images.name}/{study_id}")

    def objects_of(self, data: Challenge, study_id: str) -> tuple[StoredObject, ...]:
        """The objects that hold a study, by their keys from the address; nothing is fetched but a store's record.

        Raises:
          StorageError: when they cannot be listed.
        """
        if data.store is not None:
            return self._of_store(data.part, study_id)
        folder = f"{data.images.name}/{study_id}"
        series = {series_id for series_id, _ in data.series.get(study_id, ())}
        found = self._store.listed(folder, most=_MOST_OF_STUDY) if series else []
        keys = ((entry, entry.key.split("/")) for entry in found)
        return tuple(
            replace(entry, key=f"{folder}/{entry.key}")
            for entry, parts in keys
            if len(parts) == 2 and parts[0] in series and is_slice_file(Path(parts[1]))
        )

    def studies_of(self, part: str) -> list[str]:
        """What lies directly in the folder of a part's images, as names without a way out of it."""
        names = Objects(address=self.address / f"{part}_images").top(most=_MOST_STUDIES)
        return [name for name in names if name not in ("", ".", "..") and "\0" not in name]

    def all_of(self, part: str, study_id: str) -> tuple[StoredObject, ...]:
        """Every object of a study of a challenge directory, whether a table names it or not."""
        folder = f"{part}_images/{study_id}"
        found = self._store.listed(folder, most=_MOST_OF_STUDY)
        return tuple(replace(entry, key=f"{folder}/{entry.key}") for entry in found)

    def fetch_files(self, part: str, objects: tuple[StoredObject, ...], folder: Path) -> None:
        """Fetches objects into a folder that then looks like the challenge directory; messages name it so.

        Raises:
          StorageError: when they cannot be fetched.
        """
        hide_names(folder, numbers=True)
        show_as(folder, str(self.address))
        (folder / f"{part}_images").mkdir(parents=True, exist_ok=True)
        self._store.fetch(objects, folder)

    def _of_store(self, part: str, study_id: str) -> tuple[StoredObject, ...]:
        """A record, and the pixel file whose name follows from its digest."""
        record = f"{STUDIES}/{part}/{study_id}.json"
        content = self._store.read(record, most_bytes=MAX_JSON_BYTES)
        if content is None:
            return ()
        try:
            digest = str(json.loads(content)["digest"])
        except (ValueError, RecursionError, KeyError, TypeError):
            digest = ""
        names = [record, *([f"{STUDIES}/{part}/{study_id}.{digest[:16]}.u8"] if _DIGEST.fullmatch(digest) else [])]
        found = []
        for name in names:
            try:
                found.append(self._store.described(name))
            except MissingError:  # as in a store on a disk, reading the record tells what is missing
                continue
        return tuple(found)

    def fetched(
        self, data: Challenge, study_id: str, objects: tuple[StoredObject, ...], folder: Path
    ) -> LoadedStudy:  # fmt: skip
        """Fetches the objects of a study into a folder and reads the headers of the study there.

        Raises:
          StorageError: when they cannot be fetched.
          InputError: as `Challenge.load_study` does.
        """
        return self.fetch(data, objects, folder).load_study(study_id)

    def fetch(self, data: Challenge, objects: tuple[StoredObject, ...], folder: Path) -> Challenge:
        """Fetches the objects of a study into a folder; returns the data as they are there.

        Raises:
          StorageError: when they cannot be fetched.
        """
        here = data.moved_to(folder)
        show_as(folder, str(self.address))
        (here.images if data.store is None else folder).mkdir(parents=True, exist_ok=True)
        self._store.fetch(objects, folder)
        return here


def check_reach(place: Path | Address, remote: RemoteData | None, *, everywhere: bool) -> None:
    """Refuses data that only this machine has fetched where other machines are to read them.

    Raises:
      InputError: as said.
    """
    if everywhere and isinstance(place, Address) and remote is None:
        raise InputError(
            f"{place}: is no challenge directory or prepared store of one, so it is fetched as a whole, and only to "
            "this machine; leave out --engine ray, or give its path on a disk that all nodes share"
        )


def unfetched(data: Challenge | None, study_id: str, error: InputError) -> LoadedStudy:
    """A study whose objects could not be fetched, as one whose files cannot be read."""
    views = frozenset(view for _, view in (data.series.get(study_id, ()) if data is not None else ()))
    return LoadedStudy(
        study=Study(study_id=study_id, series=(), unreadable=views),
        problems=(f"study {study_id}: its files cannot be fetched: {error}",),
    )


def open_place(place: Path | Address) -> tuple[Input, RemoteData | None]:
    """The folder behind a path, as `shared.data.unpack.open_input` gives it, or behind an address.

    For an address that is read study by study, the folder holds only tables, and what fetches the rest is returned too.

    Raises:
      InputError: as `open_input` does; when there is nothing at the address, or too much for this machine's disk.
    """
    if isinstance(place, Path):
        return open_input(place), None
    store = Objects(address=place)
    if store.is_object():
        return _fetched_whole(store, place, [replace(store.described(), key="")]), None
    top = store.top()
    if not top:
        raise InputError(f"{place}: there is nothing; expected a challenge directory, a store or DICOM files")
    known = {name for part in PARTS for name in table_columns(part)} | {STORE_FILE}
    tables = [name for name, is_folder in top.items() if name in known and not is_folder]
    if (STORE_FILE in tables and _kind_of_store(store) == "folder") or not tables:
        log(f"{place}: is searched as a whole, so it is fetched as a whole")
        return _fetched_whole(store, place, store.listed()), None
    folder = _private_folder(place)
    found = [store.described(name) for name in tables]
    if sum(entry.size for entry in found) > _MOST_TABLE_BYTES:
        raise InputError(
            f"{place}: its tables hold more than {_MOST_TABLE_BYTES} bytes; is this a challenge directory?"
        )
    store.fetch(found, folder)
    for name in (f"{part}_images" for part in PARTS):
        if top.get(name):
            (folder / name).mkdir()
    return Input(folder=folder, origin=folder), RemoteData(address=place)


def _kind_of_store(store: Objects) -> str:
    content = store.read(STORE_FILE, most_bytes=MAX_JSON_BYTES)
    try:
        return str(json.loads(content or b"")["kind"])
    except (ValueError, RecursionError, KeyError, TypeError):
        return ""  # the message is that of a store on a disk


def _fetched_whole(store: Objects, place: Address, objects: list[StoredObject]) -> Input:
    """Everything at an address, or the one object that it names, on this machine's disk."""
    folder = _private_folder(place)
    total = sum(entry.size for entry in objects)
    if total > shutil.disk_usage(folder).free // 2:
        raise InputError(
            f"{place}: {counted(len(objects), 'object')} of {total} bytes would fill more than half of what is free "
            "for temporary files (TMPDIR); challenge directories, and stores of them, are read study by study"
        )
    if [entry.key for entry in objects] == [""]:
        return _fetched_file(store, place, folder)
    chunks = [objects[n : n + _CHUNK] for n in range(0, len(objects), _CHUNK)]
    for chunk in track(chunks, f"fetching {counted(len(objects), 'object')}"):
        store.fetch(chunk, folder)
    return Input(folder=folder, origin=folder, fetched=objects_key(objects))


def _fetched_file(store: Objects, place: Address, folder: Path) -> Input:
    above, _, name = str(place).rpartition("/")
    found = replace(store.described(), key=name)
    Objects(address=Address(above)).fetch([found], folder)
    opened = open_input(inside(folder, name))
    show_as(folder, above)
    return replace(opened, fetched=objects_key([found]))


def fetched_folder(place: Address) -> Path:
    """A small folder at an address, such as a trained run, on this machine's disk until the process ends.

    Raises:
      InputError: when there is nothing, or too much for the disk.
    """
    store = Objects(address=place)
    objects = store.listed()
    if not objects:
        raise InputError(f"{place}: there is nothing; expected a folder that a command of lumbar wrote")
    log(f"fetching {place}")
    return _fetched_whole(store, place, objects).folder


def _private_folder(place: Address) -> Path:
    folder = private_folder().resolve()
    show_as(folder, str(place))
    return folder
