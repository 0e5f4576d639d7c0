"""`lumbar runs`."""

import argparse
import sys

from shared.runtime import arguments as args
from shared.runtime.errors import InputError
from shared.runtime.progress import log


def add_parsers(commands: args.Commands) -> None:
    """Adds `lumbar runs`."""
    p = args.add_command(
        commands, "runs", "list the trained runs below a folder: settings, scores, times",
        "Lists every run of `lumbar localize train` and `lumbar classify train` below DIR, best first, "
        "with its seed, its interval, the settings that differ from the default, time and commit. Folders that cannot "
        "be read are named on standard error.",
    )  # fmt: skip
    args.add_paths(p, dir="folder in which the runs lie, at any depth")
    p.add_argument(
        "--csv",
        dest="out",
        type=args.local,
        metavar="FILE",
        help="also write the table, with all columns, to this CSV file",
    )
    p.add_argument("--overwrite", action="store_true", help="replace FILE if it is there")
    p.add_argument("--json", action="store_true", help="print JSON, for programs")
    p.set_defaults(func=_runs)


def _runs(a: argparse.Namespace) -> int:
    from pipelines.experiments.runs import as_json, as_text, find_runs, write_table

    runs, problems = find_runs(a.dir)
    for problem in problems:
        log(f"warning: {problem}")
    if not runs:
        raise InputError(f"{a.dir}: holds no run of `lumbar localize train` or `lumbar classify train`")
    if a.out is not None:
        write_table(a.out, runs, overwrite=a.overwrite)
    sys.stdout.write((as_json(runs, problems) if a.json else as_text(runs)) + "\n")
    return 0
