"""Command-line arguments that several commands share, so that one option reads the same everywhere. Light to import."""

import argparse
import os
from pathlib import Path
from typing import Final, TypeAlias

from shared.runtime.device import HELP as DEVICE_HELP

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # argparse has no public name for it

EPILOG: Final = "Exit codes: 0 done, 1 bad input or data, 2 bad usage. Research software, not a medical device."
CHALLENGE: Final = "challenge directory (train_images/, train.csv, ...) or a prepared store of one"
ANY_STUDIES: Final = "challenge directory, prepared store, or any folder of DICOM files"
LOCALIZER: Final = "run folder of `lumbar localize train`"
CLASSIFIER: Final = "run folder of `lumbar classify train`"
TTA: Final = "average over shifted, turned and scaled copies of each crop (10 times slower)"


def add_command(commands: Commands, name: str, text: str, description: str = "") -> argparse.ArgumentParser:
    """A command: `text` is its line in the list of commands, `description` more about it."""
    return commands.add_parser(
        name, help=text, description=description or f"{text[:1].upper()}{text[1:]}.", epilog=EPILOG
    )


def add_paths(parser: argparse.ArgumentParser, **helps: str) -> None:
    """Required paths in the given order; a name becomes its metavar in capitals."""
    for name, text in helps.items():
        parser.add_argument(name, type=Path, metavar=name.upper(), help=text)


def add_path(parser: argparse.ArgumentParser, flag: str, metavar: str, text: str, *, required: bool = False) -> None:
    """An option that names a file or folder."""
    parser.add_argument(flag, type=Path, metavar=metavar, required=required, help=text)


def add_part(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument("--part", choices=("train", "test"), help=f"part of a challenge directory (default: {default})")


def add_device(parser: argparse.ArgumentParser, more: str = "") -> None:
    parser.add_argument("--device", default="auto", metavar="DEVICE", help=DEVICE_HELP + more)


def add_workers(parser: argparse.ArgumentParser, what: str = "processes") -> None:
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, metavar="N", help=f"{what} (default: all cores)"
    )


def add_seed(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument("--seed", type=int, default=0, metavar="N", help=f"{text} (default: %(default)s)")


def add_config(parser: argparse.ArgumentParser, example: str) -> None:
    add_path(parser, "--config", "FILE", "TOML config (default: built in, the full run)")
    add_overrides(parser, f"override a config value, for example {example}; may be repeated")


def add_overrides(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help=text)


def add_splits(parser: argparse.ArgumentParser) -> None:
    add_path(
        parser, "--splits", "FILE", "splits.json that both stages share (default: RUN's own with --resume, otherwise "
        "five seeded folds of DATA)",
    )  # fmt: skip


def add_output(parser: argparse.ArgumentParser, name: str = "OUT", *, resume: str = "") -> None:
    """`--overwrite` and, where `resume` says what it does, `--resume`."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--overwrite", action="store_true", help=f"empty {name} first if it is not empty")
    if resume:
        group.add_argument("--resume", action="store_true", help=resume)
