"""The `lumbar` command. Parsers are built without heavy imports, so `--help` answers at once."""

import argparse
import json
import sys
from collections.abc import Sequence

from classify.cli import add_parsers as add_classify
from localize.cli import add_parsers as add_localize
from pipelines.bulk.cli import add_parsers as add_bulk
from pipelines.commands.data import add_parsers as add_data
from pipelines.commands.predict import add_parser as add_predict
from pipelines.commands.synthetic import add_parsers as add_synthetic
from pipelines.ensembles.cli import add_parsers as add_ensembles
from pipelines.experiments.cli import add_parsers as add_experiments
from pipelines.export.cli import add_parser as add_export
from shared.runtime import arguments as args
from shared.runtime.errors import exit_code
from shared.runtime.hardware.cores import let_threads_sleep
from shared.runtime.ownership import outputs_released


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the console script; returns the exit code."""
    let_threads_sleep()
    arguments = build_parser().parse_args(argv)
    with outputs_released():
        return exit_code(lambda: _run(arguments), resumable="resume" in arguments, spread="workers" in arguments)


def _run(arguments: argparse.Namespace) -> int:
    with args.begin(arguments):
        code: int = arguments.func(arguments)
    return code


def build_parser() -> args.Parser:
    """The whole command line."""
    parser = args.Parser(
        prog="lumbar",
        description="Two-stage grading of degenerative lumbar spine MRI (RSNA 2024 format).",
        epilog=args.EPILOG,
    )
    parser.add_argument("--version", action=_Version, help="print the version and exit")
    commands = args.add_commands(parser)
    add_synthetic(commands)
    add_data(commands)
    localize = args.add_command(commands, "localize", "stage 1: find the five disc levels")
    add_localize(args.add_commands(localize))
    classify = args.add_command(commands, "classify", "stage 2: grade the crops")
    add_classify(args.add_commands(classify))
    add_predict(commands)
    _add_evaluate(commands)
    add_bulk(commands)
    add_ensembles(commands)
    add_experiments(commands)
    _add_pack(commands)
    add_export(commands)
    _add_info(commands)
    return parser


class _Version(argparse.Action):
    def __init__(self, option_strings: Sequence[str], dest: str, **options: object) -> None:
        super().__init__(option_strings, dest, nargs=0, help=str(options.get("help")))

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        sys.stdout.write(f"lumbar-severity {version('lumbar-severity')}\n")
        parser.exit()


def _add_evaluate(commands: args.Commands) -> None:
    p = args.add_command(
        commands, "evaluate", "score a submission: competition metric, baselines, bootstrap intervals, report",
        "Scores a submission with the competition metric, beside baselines and with bootstrap intervals. Writes "
        "OUT/report.html and report.json.",
    )  # fmt: skip
    args.add_paths(
        p, submission="submission.csv to score", data="folder with the true grades: train.csv or test.csv",
        out="folder to write to",
    )  # fmt: skip
    args.add_part(p, "test if DATA has a test.csv, otherwise train")
    args.add_path(
        p, "--train", "DATA", "challenge directory whose train.csv gives the prior baseline (default: the grades of "
        "the scored studies themselves, which make the prior look too good)",
    )  # fmt: skip
    p.add_argument(
        "--against",
        action="append",
        default=[],
        metavar="NAME=CSV",
        help="another submission to compare with, and its name in the report; may be repeated",
    )
    args.add_path(
        p, "--oracle", "CSV", "OUT/truth/oracle.csv of `lumbar synth`: the true probabilities of its test studies"
    )
    args.add_output(p)
    p.set_defaults(func=_evaluate)


def _evaluate(a: argparse.Namespace) -> int:
    from pipelines.evaluate import EvaluateOptions, evaluate

    options = EvaluateOptions(part=a.part, train=a.train, against=tuple(a.against), oracle=a.oracle)
    sys.stdout.write(evaluate(a.submission, a.data, a.out, options, overwrite=a.overwrite) + "\n")
    return 0


def _add_pack(commands: args.Commands) -> None:
    p = args.add_command(
        commands, "pack", "put trained runs and the program into one archive, to predict without a network",
        "Packs what prediction needs: weights and configs of the runs, this program as a wheel, the licence, and a "
        "manifest with the SHA-256 of each file. Training tables, splits and study ids stay out. docs/kaggle.md tells "
        "how a Kaggle notebook predicts from it.",
    )  # fmt: skip
    args.add_several_paths(
        p, "runs", "RUN", "finished runs that were trained on the same data: of `lumbar classify train`, and of "
        f"`lumbar localize train` ({args.SHIPPED}); several of a stage answer together",
    )  # fmt: skip
    p.add_argument("out", type=args.local, metavar="OUT.zip", help="file to write")
    args.add_path(
        p, "--wheels", "DIR", "folder with wheels of other packages to pack too, as `pip download` leaves them"
    )
    p.add_argument(
        "--fast", action="store_true", help="pack only the fast grader of each classifier, a tenth of five folds, to "
        "predict with --fast (default: the folds, and the fast grader where there is one)",
    )  # fmt: skip
    p.add_argument("--overwrite", action="store_true", help="replace OUT.zip if it is a pack")
    p.set_defaults(func=_pack)


def _pack(a: argparse.Namespace) -> int:
    from pipelines.pack import PackRequest, pack

    request = PackRequest(runs=tuple(a.runs), wheels=a.wheels, fast=a.fast)
    sys.stdout.write(pack(request, a.out, overwrite=a.overwrite) + "\n")
    return 0


def _add_info(commands: args.Commands) -> None:
    p = args.add_command(commands, "info", "show versions, devices and labels")
    p.add_argument("--json", action="store_true", help="print JSON, for programs")
    p.set_defaults(func=_info)


def _info(a: argparse.Namespace) -> int:
    from pipelines.info import as_text, collect

    info = collect()
    sys.stdout.write((json.dumps(info, indent=2) if a.json else as_text(info)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
