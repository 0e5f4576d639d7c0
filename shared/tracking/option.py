"""The option `--track`. Light to import."""

import argparse
from typing import Final

KINDS: Final = ("tensorboard", "mlflow")


def add_tracking(parser: argparse.ArgumentParser) -> None:
    """Adds `--track`."""
    parser.add_argument(
        "--track", action="append", choices=KINDS, default=[],
        help="also write curves for TensorBoard or MLflow to RUN/tracking, which changes no result and uses no "
        "network. Each needs the extra of its name; may be repeated",
    )  # fmt: skip
