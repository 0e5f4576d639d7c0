"""The prepared store: a data set whose DICOM files were all decoded once, so that it can be read without DICOM.

    STORE/
      store.json                         format, digest of the data's path, which studies are here; `finished` or not
      *.csv                              the challenge's tables, of which only the columns that are read
      studies/<part>/<name>.json         one record per study: each slice's header and pixel offset, or its problem
      studies/<part>/<name>.<digest>.u8  the study's slices one after another: 8 bit, rows first, no padding

`<part>` is train, test or folder (for any other folder of DICOM files, with one record per folder). A record names its
pixel file by the digest of everything it was made from, so renaming the record commits both. A store gives the same
studies and messages as the DICOM files. It keeps no path of the data and no telling name of a file.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from shared.data.record import RecordFile
from shared.dicom.header import MAX_SIDE_PX, Header, Moment
from shared.dicom.reader import READER_VERSION, FileReading, HeaderReading
from shared.dicom.views import NOT_DESCRIBED, Acquisition
from shared.geometry import Plane
from shared.runtime.documents import Document, fitted, json_text, kind_of, parsed, read_json
from shared.runtime.errors import InputError, first_line, shown
from shared.runtime.files import inside, write_json, write_text
from shared.runtime.names import hide_names, masked, masked_path, order_of
from shared.storage.address import Address
from shared.study import StoredPixels

FORMAT: Final = 4
STORE_FILE: Final = "store.json"
STUDIES: Final = "studies"
MAX_JSON_BYTES: Final = 256 * 2**20
AGAIN: Final = "run `lumbar prepare` again with --resume"
_DELETE: Final = f"delete it and {AGAIN}"
_ANEW: Final = "make it anew with `lumbar prepare` and --overwrite"

Kind = Literal["challenge", "folder"]


class IndexFile(Document):
    """store.json."""

    checksum: str
    format: int
    reader: int
    kind: Kind
    made_from: str
    finished: bool
    png_size: Annotated[int, Field(ge=0, le=MAX_SIDE_PX)] | None
    records: dict[Literal["train", "test", "folder"], list[str]]
    shard: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """What one record is made from.

    Attributes:
      part: train, test or folder.
      name: name of the record, safe as a file name.
      folder: path relative to the data, with slashes.
      series: series that the tables list, as sub-folders of `folder`; empty for a plain folder.
      files: every file to decode, relative to `folder`, in reading order.
      exists: whether `folder` exists.
    """

    part: str
    name: str
    folder: str
    series: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    exists: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyRecord:
    """A record as read back from the store; `readings` follow the order of the unit's files and of their frames."""

    exists: bool
    series: tuple[str, ...]
    readings: tuple[HeaderReading, ...]
    digest: str
    pixels: Path

    def of_series(self, series_id: str) -> list[HeaderReading]:
        """The readings of one series' folder."""
        return [(path, header) for path, header in self.readings if path.parent.name == series_id]

    @property
    def problems(self) -> tuple[str, ...]:
        """Messages for everything that could not be read."""
        found = [
            str(h) if isinstance(h, InputError) else h.stored.problem if h.stored else "" for _, h in self.readings
        ]
        return tuple(text for text in found if text)

    @property
    def slices(self) -> int:
        """Number of slices with both a header and pixels."""
        return len(self.readings) - len(self.problems)


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """The index of a store.

    Attributes:
      made_from: digest of the path of the data from which it was made, as `digest_of` gives it.
      records: part -> names of its records.
      png_size: None without PNGs, 0 for the slices' own size, else the side of a square in pixels.
      current: whether this version of the DICOM reader made its records.
      shard: which part of the data it holds, such as 3/16; None for a whole store.
    """

    root: Path
    made_from: str
    kind: Kind
    records: Mapping[str, tuple[str, ...]]
    png_size: int | None = None
    current: bool = True
    shard: str | None = None

    def __post_init__(self) -> None:
        hide_names(self.data, numbers=self.kind == "challenge")

    @classmethod
    def find(cls, root: Path) -> "Store | None":
        """The finished store in `root`, or None if it holds no store.

        Raises:
          InputError: when it is unfinished, damaged, of another version, or one shard of a store.
        """
        if not is_store(root):
            return None
        store, finished = cls.open_any(root)
        if store.shard is not None:
            raise InputError(f"{root}: is shard {store.shard} of a store; join all shards with `lumbar merge`")
        if not finished:
            raise InputError(f"{root}: this store is unfinished; {AGAIN}")
        return store

    @classmethod
    def open_any(cls, root: Path, *, any_reader: bool = False) -> "tuple[Store, bool]":
        """The store in `root` and whether it is finished; `any_reader` also accepts outdated records."""
        path = root / STORE_FILE
        text = json_text(path, advice=_ANEW, most_bytes=MAX_JSON_BYTES)
        index = parsed(path, text, advice=_ANEW)
        found = index.get("format") if isinstance(index, dict) else None
        if found != FORMAT:
            raise InputError(f"{path}: expected a prepared store of format {FORMAT}, got {kind_of(found)}; {_ANEW}")
        if index.pop("checksum", None) != _checksum(index):
            raise InputError(f"{path}: is damaged or was changed by hand; {_ANEW}")
        file = fitted(path, text, IndexFile, advice=_ANEW)
        if file.reader != READER_VERSION and not any_reader:
            raise InputError(
                f"{path}: its slices were read by version {file.reader} of the DICOM reader, this is version "
                f"{READER_VERSION}; {AGAIN}"
            )
        store = cls(
            root=root, made_from=file.made_from, kind=file.kind, png_size=file.png_size,
            records={part: tuple(names) for part, names in file.records.items()},
            current=file.reader == READER_VERSION, shard=file.shard,
        )  # fmt: skip
        return store, file.finished

    @property
    def data(self) -> Path:
        """Stands for the folder of the data in paths and messages; nothing lies there."""
        return self.root.absolute() / ".data"

    def write(self, *, finished: bool) -> None:
        """Writes the index."""
        body = {
            "format": FORMAT,
            "reader": READER_VERSION,
            "kind": self.kind,
            "made_from": self.made_from,
            "finished": finished,
            "png_size": self.png_size,
            "records": {part: list(names) for part, names in self.records.items()},
            **({} if self.shard is None else {"shard": self.shard}),
        }
        write_json(self.root / STORE_FILE, {"checksum": _checksum(body), **body})

    def study(self, part: str, name: str) -> StudyRecord:
        """Reads one record.

        Raises:
          InputError: when the store has no such record, or when the record or its pixel file is damaged.
        """
        if name not in self.records.get(part, ()):
            raise InputError(f"{self.root}: this store has no {part} study {name}; {AGAIN}")
        return read_record(record_path(self.root, part, name), self.data)

    def folder_readings(self) -> list[HeaderReading]:
        """The header of every slice of a plain DICOM folder, ordered by path and frame."""
        readings = [r for name in self.records.get("folder", ()) for r in self.study("folder", name).readings]
        return sorted(readings, key=lambda reading: order_of(reading[0]))


def digest_of(data: Path | Address) -> str:
    """By which a store recognises its data; their path may name a patient."""
    named = str(data).encode() if isinstance(data, Address) else os.fsencode(data.resolve())
    return hashlib.sha256(named).hexdigest()


def is_store(root: Path) -> bool:
    """Whether the folder holds a store of any version, even a damaged one. Other programs' store.json do not count."""
    path = root / STORE_FILE
    if not path.is_file():
        return False
    index = read_json(path, advice=_ANEW, most_bytes=MAX_JSON_BYTES)
    return isinstance(index, dict) and index.keys() >= {"format", "checksum"}


def record_path(root: Path, part: str, name: str) -> Path:
    """The path of a record; raises `InputError` for a name that would leave the store."""
    return inside(inside(root / STUDIES, part), f"{name}.json")


def pixel_path(record: Path, digest: str) -> Path:
    """The pixel file of a record."""
    return record.with_name(f"{record.stem}.{digest[:16]}.u8")


def unit_digest(unit: Unit, file_digests: list[str]) -> str:
    """Digest of everything a record depends on: versions, names and file contents."""
    content = [FORMAT, READER_VERSION, unit.folder, unit.exists, unit.series, unit.files, file_digests]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def file_entry(reading: FileReading, unit: Unit, name: str, place: StoredPixels) -> dict[str, Any]:
    """One slice of a record. Problems are stored without their leading path, telling names as digests."""
    header, name = reading.header, _masked_file(unit, name)
    if isinstance(header, InputError):
        return {"name": name, "problem": _without_path(str(header), reading.path)}
    plane = header.plane
    return {
        "name": name,
        "frame": header.frame,
        "instance_number": header.instance_number,
        "study_uid": header.study_uid,
        "series_uid": header.series_uid,
        "acquisition": header.acquisition.to_json(),
        "compared": [header.frame_of_reference, header.sop_uid, header.description, header.patient],
        "moment": [header.moment.time_s, header.moment.series_number, header.moment.acquisition_number],
        "thickness_mm": header.thickness_mm,
        "direction_error": header.direction_error,
        "plane": [*plane.origin_mm, *plane.row_dir, *plane.col_dir, *plane.spacing_mm],
        "shape": list(header.shape),
        "pixels": [place.offset, place.crc32, _without_path(place.problem, reading.path)],
    }


def _without_path(problem: str, path: Path) -> str:
    return problem and problem.removeprefix(shown(str(path)))


def _masked_file(unit: Unit, name: str) -> str:
    """A file's path below the unit's folder. A challenge's tables name the folders above it."""
    if unit.part == "folder":
        return masked_path(PurePosixPath(name))
    series, _, file = name.rpartition("/")
    return f"{series}/{masked(file, numbers=True)}"


def write_record(path: Path, unit: Unit, digest: str, entries: list[dict[str, Any]], pixel_bytes: int) -> None:
    """Writes a record beside its pixel file, with a checksum over itself."""
    folder = masked_path(PurePosixPath(unit.folder)) if unit.part == "folder" else unit.folder
    body = {
        "folder": folder, "exists": unit.exists, "series": list(unit.series), "digest": digest,
        "pixel_bytes": pixel_bytes,
    }  # fmt: skip
    checksum = _checksum({**body, "files": entries})
    head = json.dumps({"checksum": checksum, **body}).removesuffix("}")
    # One line per slice.
    files = ",\n".join(json.dumps(entry) for entry in entries)
    write_text(path, f'{head}, "files": [\n{files}\n]}}\n')


def read_record(path: Path, data: Path) -> StudyRecord:
    """Reads a record and checks its values, its checksum and the size of its pixel file.

    Raises:
      InputError: naming the file that is missing or damaged.
    """
    text = json_text(path, advice=_DELETE, most_bytes=MAX_JSON_BYTES)
    try:
        body = json.loads(text)  # without the checks of `parsed`, which cost more than all the rest of reading
    except (ValueError, RecursionError, MemoryError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({first_line(error)}); {_DELETE}") from error
    # What `write_record` summed, without encoding it anew.
    summed = "{" + text.replace(",\n", ", ").replace("\n", "").partition(", ")[2]
    if not isinstance(body, dict) or body.get("checksum") != hashlib.sha256(summed.encode()).hexdigest():
        raise InputError(f"{path}: is damaged or was changed by hand; {_DELETE}")
    fitted(path, text, RecordFile, advice=_DELETE)
    try:
        pixels = pixel_path(path, str(body["digest"]))
        folder, size = data / body["folder"], int(body["pixel_bytes"])
        record = StudyRecord(
            exists=bool(body["exists"]),
            series=tuple(map(str, body["series"])),
            readings=tuple(_readings(body["files"], folder, pixels, size)),
            digest=str(body["digest"]),
            pixels=pixels,
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(f"{path}: is damaged ({type(error).__name__}: {first_line(error)}); {_DELETE}") from error
    found = pixels.stat().st_size if pixels.is_file() else None
    if found != size:
        what = "is missing" if found is None else f"holds {found} bytes"
        raise InputError(f"{pixels}: {what}; expected {size} bytes of pixels; {AGAIN}")
    return record


def _readings(entries: list[dict[str, Any]], folder: Path, pixels: Path, size: int) -> Iterator[HeaderReading]:
    last: Any = None
    acquisition = NOT_DESCRIBED
    for entry in entries:
        path = folder / entry["name"]
        if "problem" in entry:
            yield path, InputError(f"{path}{entry['problem']}")
            continue
        if entry["acquisition"] != last:  # the slices of a series share one
            last, acquisition = entry["acquisition"], Acquisition.from_json(entry["acquisition"])
        yield path, _header(entry, path, acquisition, pixels, size)


def _header(entry: dict[str, Any], path: Path, acquisition: Acquisition, pixels: Path, size: int) -> Header:
    offset, crc32, problem = entry["pixels"]
    rows, columns = entry["shape"]
    length = 0 if problem else rows * columns
    if not (0 < rows <= MAX_SIDE_PX and 0 < columns <= MAX_SIDE_PX and 0 <= offset <= size - length):
        raise ValueError(f"{entry['name']} lies outside its pixel file")
    plane = [float(v) for v in entry["plane"]]
    (x, y, z), (rx, ry, rz), (cx, cy, cz), (dy, dx) = plane[0:3], plane[3:6], plane[6:9], plane[9:]
    frame_of_reference, sop_uid, description, patient = entry["compared"]
    time_s, series_number, acquisition_number = entry["moment"]
    return Header(
        path=path, frame=int(entry["frame"]), study_uid=entry["study_uid"], series_uid=entry["series_uid"],
        instance_number=int(entry["instance_number"]), shape=(int(rows), int(columns)),
        plane=Plane(origin_mm=(x, y, z), row_dir=(rx, ry, rz), col_dir=(cx, cy, cz), spacing_mm=(dy, dx)),
        acquisition=acquisition,
        frame_of_reference=frame_of_reference, sop_uid=sop_uid, description=description, patient=patient,
        moment=Moment(time_s=time_s, series_number=series_number, acquisition_number=acquisition_number),
        thickness_mm=entry["thickness_mm"],
        direction_error=float(entry["direction_error"]),
        stored=StoredPixels(path=pixels, offset=offset, crc32=crc32, problem=f"{path}{problem}" if problem else ""),
    )  # fmt: skip


def _checksum(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body).encode()).hexdigest()
