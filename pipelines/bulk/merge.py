"""`lumbar merge`: joins the shards of one command into what it would have written without --shard."""

from collections.abc import Sequence
from pathlib import Path

from pipelines.bulk.audits import join_audits, read_audit_part
from pipelines.bulk.parts import Part, all_parts
from pipelines.bulk.predictions import join_predictions, read_part
from pipelines.bulk.stores import join_stores, read_store_part
from shared.data.store import is_store
from shared.runtime.errors import InputError
from shared.runtime.files import prepare_output
from shared.runtime.problems import counted


def merge(shards: Sequence[Path], out: Path, *, overwrite: bool = False) -> str:
    """Joins shards into OUT and returns a line on it.

    Raises:
      InputError: when a shard is missing, there twice, unfinished or damaged, or made with other models, data or
        options than the others.
    """
    parts = all_parts(shards, _read)
    prepare_output(out, overwrite=overwrite, inputs=shards)
    joined = counted(len(parts), "shard")
    if is_store(parts[0].folder):
        return f"{out}: {counted(join_stores(parts, out), 'record')} of {joined}"
    if parts[0].command == "audit":
        kept = join_audits(parts, out)
        return (
            f"{out}: {counted(kept, 'study')} of {joined}; write the report with the same `lumbar audit`, without "
            "--shard and with --resume"
        )
    return f"{out}: {counted(join_predictions(parts, out), 'study')} of {joined}"


def _read(folder: Path) -> Part:
    if not folder.is_dir():
        raise InputError(f"{folder}: is no folder; expected what a command with --shard K/N wrote")
    if is_store(folder):
        return read_store_part(folder)
    part = read_part(folder)
    return read_audit_part(part) if part.command == "audit" else part
