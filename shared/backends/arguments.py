"""`--backend` and `--exported`. Light to import: numpy and the libraries are loaded when the work starts."""

import argparse
from typing import TYPE_CHECKING, Final

from shared.runtime import arguments as args

if TYPE_CHECKING:
    from shared.backends.backend import Backend

_CHOICES: Final = ("torch", "onnx", "openvino")


def add_backend(parser: argparse.ArgumentParser) -> None:
    """Adds both options."""
    parser.add_argument(
        "--backend", choices=_CHOICES, default="torch", help="library that computes the networks: torch, or onnx "
        "(ONNX Runtime) or openvino, each with the extra of its name, from the files of `lumbar export`, which tells "
        "the fastest on this machine (default: %(default)s)",
    )  # fmt: skip
    args.add_several(
        parser, "--exported", "DIR", "OUT of `lumbar export`, for --backend onnx or openvino; may be repeated "
        "(default: the folder export within each run)",
    )  # fmt: skip


def backend_of(a: argparse.Namespace) -> "Backend":
    """The backend that these options name; raises `InputError` as `Backend`."""
    from shared.backends.backend import Backend

    return Backend(name=a.backend, exported=tuple(a.exported))
