"""Command-line arguments that several commands share, so that one option reads the same everywhere. Light to import."""

import argparse
from pathlib import Path
from typing import Final, TypeAlias

from shared.runtime.hardware.cores import usable_cores
from shared.runtime.hardware.device import HELP as DEVICE_HELP

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # argparse has no public name for it

EPILOG: Final = "Exit codes: 0 done, 1 bad input or data, 2 bad usage. Research software, not a medical device."
CHALLENGE: Final = "challenge directory (with train.csv and train_images/), or a prepared store of one"
ANY_STUDIES: Final = (
    "challenge directory, prepared store, or DICOM files: any folder, zip or tar archive, DICOMDIR or single file"
)
LOCALIZER: Final = "run folder of `lumbar localize train`"
SHIPPED: Final = "default: the detectors that ship with the package"
CLASSIFIER: Final = "run folder of `lumbar classify train`"
FOLD: Final = "number of the fold to train, or all (default: %(default)s)"
TTA: Final = "test-time augmentation: average over shifted, rotated and scaled copies of each crop (10 times slower)"


def add_command(commands: Commands, name: str, text: str, description: str = "") -> argparse.ArgumentParser:
    """Adds a command: `text` is its line in the list of commands, `description` opens its own help."""
    return commands.add_parser(
        name, help=text, description=description or f"{text[:1].upper()}{text[1:]}.", epilog=EPILOG
    )


def add_paths(parser: argparse.ArgumentParser, **helps: str) -> None:
    """Adds required paths in the given order; the help shows their names in capitals."""
    for name, text in helps.items():
        parser.add_argument(name, type=Path, metavar=name.upper(), help=text)


def add_path(parser: argparse.ArgumentParser, flag: str, metavar: str, text: str, *, required: bool = False) -> None:
    """Adds an option that names a file or folder."""
    parser.add_argument(flag, type=Path, metavar=metavar, required=required, help=text)


def add_part(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "--part", choices=("train", "test"), help=f"part of a challenge directory to use (default: {default})"
    )


def add_device(parser: argparse.ArgumentParser, more: str = "") -> None:
    parser.add_argument("--device", default="auto", metavar="DEVICE", help=DEVICE_HELP + more)


def add_workers(parser: argparse.ArgumentParser, what: str = "number of worker processes") -> None:
    parser.add_argument(
        "--workers", type=int, default=usable_cores(), metavar="N", help=f"{what} (default: all usable cores)"
    )


def add_seed(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument("--seed", type=int, default=0, metavar="N", help=f"{text} (default: %(default)s)")


def add_config(parser: argparse.ArgumentParser, example: str) -> None:
    add_path(parser, "--config", "FILE", "TOML config (default: the built-in config of the full run)")
    add_overrides(parser, f"override a value of the config, for example {example}; may be repeated")


def add_overrides(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help=text)


def add_splits(parser: argparse.ArgumentParser) -> None:
    add_path(
        parser, "--splits", "FILE", "splits.json of `lumbar splits`; give both stages the same one (default: with "
        "--resume the one in RUN, otherwise five folds of DATA with a fixed seed)",
    )  # fmt: skip


KEPT: Final = "continue an interrupted call of the same command, and keep the studies that it finished"


def add_output(parser: argparse.ArgumentParser, name: str = "OUT", *, resume: str = "") -> None:
    """Adds `--overwrite`, and also `--resume` if its help text `resume` is given."""
    parser.set_defaults(output=name.lower())
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--overwrite", action="store_true", help=f"first delete what an earlier command wrote to {name}")
    if resume:
        group.add_argument("--resume", action="store_true", help=resume)


def check_output_of(a: argparse.Namespace) -> None:
    """Refuses the output folder of a command, if it has one, before anything is read.

    No path that any argument names may lie in a folder that --overwrite empties.

    Raises:
      InputError: as `shared.runtime.files.check_output` does.
    """
    from shared.runtime.files import check_output

    if "output" in a:
        inputs = [path for name, path in vars(a).items() if isinstance(path, Path) and name != a.output]
        check_output(getattr(a, a.output), overwrite=a.overwrite, resume="resume" in a and a.resume, inputs=inputs)
