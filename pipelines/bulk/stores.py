"""Joins the shards of `lumbar prepare` into one store. Its pixels are linked, not copied, where the disk allows it."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from pipelines.bulk.files import link_or_copy
from pipelines.bulk.parts import Part
from shared.data.store import STUDIES, Store
from shared.dicom.discover import group_studies
from shared.dicom.pixels import is_unreadable
from shared.runtime.bulk.shards import Shard, whole
from shared.runtime.documents import OpenDocument, read_document
from shared.runtime.errors import InputError
from shared.runtime.files import inside, write_json
from shared.runtime.problems import FAILURES_FILE, unreadable, write_failures
from shared.runtime.progress import track
from shared.runtime.run_folder import RUN_FILE, sha256_of
from shared.runtime.tables import read_csv

_SUMS: Final = ("decoded", "unchanged", "removed", "slices", "pixel_bytes")
# The record of a study, or its pixels.
_RECORD: Final = re.compile(r"([^.][^/]*?)\.(?:json|[0-9a-f]{16}\.u8)", re.DOTALL)


class _ShardRun(OpenDocument):
    """The run.json of a shard, as far as it is summed up."""

    started: str
    seconds: float
    decoded: int
    unchanged: int
    removed: int
    slices: int
    pixel_bytes: int
    problems: list[str]


def read_store_part(folder: Path) -> Part:
    """A folder that `lumbar prepare --shard` wrote; raises `InputError` when it is none."""
    store, finished = Store.open_any(folder)
    if store.shard is None:
        raise InputError(f"{folder}: is a whole store; expected what `lumbar prepare ... --shard K/N` wrote")
    tables = {path.name: sha256_of(path) for path in sorted(folder.glob("*.csv")) if path.name != FAILURES_FILE}
    facts: dict[str, Any] = {"data": [store.kind, store.made_from, sorted(store.records)], "tables": tables}
    finished = finished and (folder / RUN_FILE).is_file()
    if finished:
        run = read_document(folder / RUN_FILE, dict[str, Any])
        facts |= {"version": run.get("version"), "studies": run.get("studies_digest")}
    return Part(
        folder=folder, command="prepare", shard=Shard.from_text(store.shard), facts=facts, finished=finished
    )  # fmt: skip


def join_stores(parts: Sequence[Part], out: Path) -> int:
    """Writes the store that one call without --shard would have made; returns the number of its records.

    Raises:
      InputError: when a record of a shard is missing, or no slice of a plain folder can be read.
    """
    stores = [Store.open_any(part.folder)[0] for part in parts]
    first = stores[0]
    records = {name: _names([store.records[name] for store in stores], parts) for name in first.records}
    joined = Store(root=out, made_from=first.made_from, kind=first.kind, records=records)
    joined.write(finished=False)
    for part, store in track(list(zip(parts, stores, strict=True)), "merging"):
        _link_records(part.folder, store, out)
    for path in sorted(parts[0].folder.glob("*.csv")):
        if path.name != FAILURES_FILE:
            link_or_copy(path, out / path.name)
    write_failures(out, [unreadable(study_id) for study_id in _lost(joined, parts)])
    _write_run(parts, out)
    joined.write(finished=True)
    return sum(map(len, records.values()))


def _names(shares: Sequence[Sequence[str]], parts: Sequence[Part]) -> tuple[str, ...]:
    try:
        return tuple(whole(shares))
    except ValueError as error:
        raise InputError(f"{parts[0].folder} and the other shards: {error}; prepare them again") from error


def _link_records(folder: Path, store: Store, out: Path) -> None:
    for part, names in store.records.items():
        wanted, found = set(names), set()
        for path in sorted((folder / STUDIES / part).iterdir()) if names else ():
            record = _RECORD.fullmatch(path.name)
            if record and record[1] in wanted and path.is_file() and not path.is_symlink():
                found.add(record[1])
                link_or_copy(path, inside(out / STUDIES / part, path.name))
        if wanted - found:
            raise InputError(f"{folder}: has lost its {part} record {min(wanted - found)}; prepare the shard again")


def _lost(joined: Store, parts: Sequence[Part]) -> list[str]:
    """Studies of which no slice can be read, in the order of the records."""
    if joined.kind == "folder":  # one study may lie in several folders, and so in several shards
        found = group_studies(joined.data, joined.folder_readings())
        return [study.study.study_id for study in found if is_unreadable(study.study)]
    of_shards = [read_csv(part.folder / FAILURES_FILE, {"study_id": "string"})["study_id"] for part in parts]
    lost = {str(study_id) for column in of_shards for study_id in column}
    return [name for names in joined.records.values() for name in names if name in lost]


def _write_run(parts: Sequence[Part], out: Path) -> None:
    """Writes run.json of all shards together; its seconds are their sum."""
    runs = [read_document(part.folder / RUN_FILE, _ShardRun) for part in parts]
    first = read_document(parts[0].folder / RUN_FILE, dict[str, Any])
    for key in ("shard", "studies_digest"):
        first.pop(key, None)
    together = {name: sum(getattr(run, name) for run in runs) for name in _SUMS} | {
        "problems": [text for run in runs for text in run.problems],
        "started": min(run.started for run in runs), "seconds": round(sum(run.seconds for run in runs), 1),
    }  # fmt: skip
    write_json(out / RUN_FILE, {**first, **together, "merged_shards": len(parts)})
