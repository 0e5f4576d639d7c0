"""`lumbar merge`: joins the shards of one command into what it would have written without --shard."""

from collections.abc import Sequence
from pathlib import Path

from pipelines.bulk.audits import join_audits, read_audit_part
from pipelines.bulk.parts import Part, all_parts
from pipelines.bulk.predictions import join_predictions, read_part
from pipelines.bulk.stores import join_stores, read_store_part
from shared.data.store import is_store
from shared.runtime.errors import InputError, shown
from shared.runtime.files import prepare_output
from shared.runtime.problems import counted
from shared.storage.output import RemoteOutput


def merge(
    shards: Sequence[Path], out: Path, *, overwrite: bool = False, remote: RemoteOutput | None = None
) -> str:  # fmt: skip
    """Joins shards into OUT and returns a line on it.

    Args:
      remote: the address that OUT stands for, where it does (`shared.storage.output.output_folder`).

    Raises:
      InputError: when a shard is missing, there twice, unfinished or damaged, or made with other models, data or
        options than the others.
    """
    parts = all_parts(shards, _read)
    command, joined = parts[0].command, counted(len(parts), "shard")
    if remote is not None and command == "audit":
        raise InputError(
            f"{remote.address}: shards of an audit are joined on a disk, where the report is made; give a path"
        )
    prepare_output(out, overwrite=overwrite, inputs=shards)
    if is_store(parts[0].folder):
        said = f"{counted(join_stores(parts, out), 'record')} of {joined}"
    elif command == "audit":
        said = (
            f"{counted(join_audits(parts, out), 'study')} of {joined}; write the report with the same `lumbar audit`, "
            "without --shard and with --resume"
        )
    else:
        said = f"{counted(join_predictions(parts, out), 'study')} of {joined}"
    if remote is not None:
        remote.begin(out, resumable=False)
        remote.finish(out)
    return shown(f"{out}: {said}")


def _read(folder: Path) -> Part:
    if not folder.is_dir():
        raise InputError(f"{folder}: is no folder; expected what a command with --shard K/N wrote")
    if is_store(folder):
        return read_store_part(folder)
    part = read_part(folder)
    return read_audit_part(part) if part.command == "audit" else part
