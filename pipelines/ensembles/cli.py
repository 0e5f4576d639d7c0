"""`lumbar blend`, `lumbar combine`, and the options of `lumbar predict` that name its runs."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from shared.runtime import arguments as args
from shared.runtime.errors import InputError
from shared.storage.address import Address

if TYPE_CHECKING:
    from pipelines.ensembles.members import Members

WEIGHTS = "weights.json of `lumbar combine`"


def add_parsers(commands: args.Commands) -> None:
    """Adds the two commands."""
    _add_blend(commands)
    _add_combine(commands)


def _add_blend(commands: args.Commands) -> None:
    p = args.add_command(
        commands, "blend", "blend several submissions into one",
        "Writes the mean of submissions with the same rows. The arithmetic mean is of probabilities, with the "
        "metric's weights divided out and put back; the geometric mean is the same either way. Every row sums to 1.",
    )  # fmt: skip
    args.add_several_paths(p, "submissions", "SUBMISSION", "submission.csv; two or more")
    args.add_path(p, "--out", "CSV", "file to write", required=True)
    p.add_argument(
        "--weights", metavar="WEIGHTS", help="one number per submission, such as 2,1,1, or "
        f"{WEIGHTS}, whose members are in their order (default: equal weights)",
    )  # fmt: skip
    p.add_argument(
        "--mean", choices=("arithmetic", "geometric"), default="arithmetic",
        help="in the geometric mean, a submission that is sure against a grade weighs more (default: %(default)s)",
    )  # fmt: skip
    p.add_argument("--overwrite", action="store_true", help="replace CSV if it is there")
    p.set_defaults(func=_blend)


def _blend(a: argparse.Namespace) -> int:
    from pipelines.ensembles.blend import BlendRequest, blend_files

    request = BlendRequest(submissions=tuple(a.submissions), weights=a.weights, mean=a.mean)
    sys.stdout.write(blend_files(request, a.out, overwrite=a.overwrite) + "\n")
    return 0


def _add_combine(commands: args.Commands) -> None:
    p = args.add_command(
        commands, "combine", "fit how much each of several classifiers should count",
        "Fits weights per condition family on the out-of-fold probabilities of runs that were trained on DATA, by the "
        "competition metric. The score of the blend is cross-fitted: the weights of each study are fitted without its "
        "fold. Writes OUT/weights.json, out_of_fold.csv, report.json and run.json.",
    )  # fmt: skip
    args.add_paths(p, data=args.CHALLENGE)
    args.add_several_paths(p, "runs", "RUN", f"{args.CLASSIFIER}; two or more")
    args.add_paths(p, out="folder to write to")
    args.add_output(p)
    p.set_defaults(func=_combine)


def _combine(a: argparse.Namespace) -> int:
    from pipelines.ensembles.combine import CombineRequest, combine_runs
    from shared.data.challenge import Challenge

    request = CombineRequest(data=Challenge.open(a.data), runs=tuple(a.runs))
    sys.stdout.write(combine_runs(request, a.out, overwrite=a.overwrite) + "\n")
    return 0


def add_members(p: argparse.ArgumentParser) -> None:
    """Adds `--localizer` and `--classifier`, which may be repeated, and what concerns several of them."""
    args.add_runs(
        p, "--localizer", f"{args.LOCALIZER}, its address in an object store, or the word shipped for the detectors "
        "that ship with the package; may be repeated: points that agree are averaged, and of chains that do not, the "
        "best supported is followed (default: shipped)", none="shipped",
    )  # fmt: skip
    args.add_runs(
        p, "--classifier", f"{args.CLASSIFIER}, or its address; may be repeated: the answer is the mean of their "
        "probabilities", required=True,
    )  # fmt: skip
    args.add_path(
        p, "--blend", "FILE", f"{WEIGHTS} for these classifiers: how much each counts (default: all alike)"
    )  # fmt: skip
    p.add_argument("--fast", action="store_true", help=args.FAST)
    p.add_argument(
        "--mixed-data", action="store_true", help="allow runs that were trained on different data. Whether a run has "
        "seen a study is then told by the study's id alone: a study that it knows under another id is graded by models "
        "that were trained on it, and its score looks too good",
    )  # fmt: skip


def members_of(a: argparse.Namespace) -> "Members":
    """The runs that these options name."""
    from localize.localizer import run_or_shipped
    from pipelines.ensembles.members import Members

    localizers = [_on_this_machine(run, a) for run in a.localizer or [None]]
    return Members(
        localizers=tuple(map(run_or_shipped, localizers)),
        classifiers=tuple(run for given in a.classifier if (run := _on_this_machine(given, a)) is not None),
        mixed_data=a.mixed_data, weights=a.blend, fast=a.fast,
    )  # fmt: skip


def _on_this_machine(run: Path | Address | None, a: argparse.Namespace) -> Path | None:
    """A run as a folder of this machine, fetched if it is an address."""
    if not isinstance(run, Address):
        return run
    if a.engine != "local":
        raise InputError(f"{run}: not with --engine {a.engine}; give the run's path on a disk that all nodes share")
    from shared.data.remote import fetched_folder

    return fetched_folder(run)
