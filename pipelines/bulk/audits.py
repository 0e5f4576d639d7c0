"""Joins the shards of `lumbar audit` into a folder that the same command, resumed, makes the report of."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipelines.audit.run import READ
from pipelines.bulk.files import link_or_copy
from pipelines.bulk.parts import Part
from shared.runtime.documents import read_document
from shared.runtime.files import write_json
from shared.runtime.progress import track
from shared.runtime.run_folder import STATE_FILE
from shared.runtime.unfinished import UNFINISHED


def read_audit_part(part: Part) -> Part:
    """The same part; a shard of an audit is finished when its studies are read."""
    facts = {name: value for name, value in part.facts.items() if name != READ}
    return replace(part, facts=facts, finished=READ in part.facts)


def join_audits(parts: Sequence[Part], out: Path) -> int:
    """Takes over what the shards read of each study; returns the number of studies."""
    kept = 0
    for part in track(parts, "merging"):
        for path in sorted((part.folder / UNFINISHED / "results").glob("*.jsonl")):
            if path.is_file() and not path.is_symlink():
                link_or_copy(path, out / UNFINISHED / "results" / path.name)
                kept += 1
    state = read_document(parts[0].folder / STATE_FILE, dict[str, Any])
    state.pop(READ, None)
    write_json(out / STATE_FILE, state | {"shard": None})
    return kept
