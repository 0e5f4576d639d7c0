"""`lumbar export` on the command line. Light to import."""

import argparse
import sys
from typing import Any, Final

from shared.runtime import arguments as args

_SHIPPED: Final = "shipped"
_ROUNDS: Final = 7
# As `shared.backends.exported.EXPORT_FOLDER`.
_FOLDER: Final = "export"


def add_parser(commands: args.Commands) -> None:
    """Adds the command."""
    p = args.add_command(
        commands, "export", "export a run's networks as ONNX, for ONNX Runtime or OpenVINO in place of torch",
        "Writes every network of a run as an ONNX file, and OUT/export.json last. Each is compared with torch on "
        "several batches and sizes with the libraries that are installed (extras `onnx` and `openvino`), and the "
        "command fails if an answer differs by more than 1e-4 in probability. Then torch and the libraries are timed "
        "in turn, to tell which is the fastest on this machine. `lumbar predict --backend` uses the files.",
    )  # fmt: skip
    run = p.add_argument(
        "run", type=lambda word: None if word == _SHIPPED else args.local(word), metavar="RUN",
        help="run folder of `lumbar localize train` or `lumbar classify train`, or the word shipped for the detectors "
        "that ship with the package",
    )  # fmt: skip
    p.set_defaults(explained={"run": f"RUN: {run.help}"})
    p.add_argument(
        "out", type=args.local, nargs="?", action=_Output, metavar="OUT", help="folder to write to (default: the "
        "folder export within RUN, where `lumbar predict` finds it)",
    )  # fmt: skip
    p.add_argument(
        "--rounds", type=args.whole(0), default=_ROUNDS, metavar="N",
        help="how often each network is timed with each library; 0 for not at all (default: %(default)s)",
    )  # fmt: skip
    args.add_output(p)
    p.set_defaults(func=run_export)


class _Output(argparse.Action):
    """OUT, which may be left out for a run of the user's own; argparse then calls this with nothing."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, _: str | None = None
    ) -> None:
        if values is None and namespace.run is None:
            parser.error("OUT: name a folder to write to; the detectors that ship lie in the installed package")
        setattr(namespace, self.dest, namespace.run / _FOLDER if values is None else values)


def run_export(a: argparse.Namespace) -> int:
    """Handler of the command."""
    from localize.localizer import run_or_shipped
    from pipelines.export.export import ExportRequest, export

    request = ExportRequest(run=run_or_shipped(a.run), rounds=a.rounds)
    sys.stdout.write(export(request, a.out, overwrite=a.overwrite) + "\n")
    return 0
