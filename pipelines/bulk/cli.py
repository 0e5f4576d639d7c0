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
    args.add_paths(p, out="folder to write to")
    args.add_several_paths(p, "shards", "SHARD", "OUT or STORE of each `--shard K/N`; all of them, in any order")
    args.add_output(p)
    p.set_defaults(func=_merge)


def _merge(a: argparse.Namespace) -> int:
    from pipelines.bulk.merge import merge
    from shared.runtime.problems import code_of

    sys.stdout.write(merge(a.shards, a.out, overwrite=a.overwrite) + "\n")
    return code_of(a.out)
