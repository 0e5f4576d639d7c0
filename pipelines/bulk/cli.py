"""`lumbar merge`. Light to import."""

import argparse
import sys

from shared.runtime import arguments as args


def add_parsers(commands: args.Commands) -> None:
    """Adds the command."""
    p = args.add_command(
        commands, "merge", "join the shards of predict, prepare or audit",
        "Joins what all shards of one command wrote into what the command would have written without --shard: the same "
        "tables, pages and studies, byte for byte. Refuses shards that are missing, unfinished, given twice, or made "
        "with other models, data or options. docs/scaling.md shows it on a Slurm cluster.",
    )  # fmt: skip
    args.add_places(p, out="folder to write to")
    args.add_several_places(p, "shards", "SHARD", "OUT or STORE of each `--shard K/N`; all of them, in any order")
    args.add_output(p)
    p.set_defaults(func=_merge)


def _merge(a: argparse.Namespace) -> int:
    from pipelines.bulk.merge import merge
    from shared.data.remote import fetched_folder
    from shared.data.store import STORE_FILE
    from shared.runtime.problems import code_of
    from shared.runtime.run_folder import STATE_FILE
    from shared.storage.address import Address
    from shared.storage.output import output_folder

    shards = [fetched_folder(shard) if isinstance(shard, Address) else shard for shard in a.shards]
    state_file = STORE_FILE if (shards[0] / STORE_FILE).is_file() else STATE_FILE
    with output_folder(
        a.out, overwrite=a.overwrite, resume=False, inputs=a.shards, state_file=state_file
    ) as (out, remote):  # fmt: skip
        said = merge(shards, out, overwrite=a.overwrite, remote=remote)
        sys.stdout.write(said + "\n")
        return code_of(out)
