"""Command-line arguments that several commands share, so that one option reads the same everywhere. Light to import.

Names of values are the same everywhere too: DATA, RUN, STORE, OUT, SHARD, STUDY_ID, SERIES_ID, VIEW, FILE, DIR, CSV,
JSON, N.
"""

import argparse
import difflib
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeAlias

from shared.runtime.errors import InputError, printable, quoted
from shared.runtime.hardware.cores import usable_cores
from shared.runtime.hardware.device import HELP as DEVICE_HELP
from shared.runtime.hardware.device import check_form
from shared.storage.address import Address, place_of

if TYPE_CHECKING:
    from shared.runtime.bulk.engine import Engine
    from shared.runtime.bulk.shards import Shard

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # argparse has no public name for it

EPILOG: Final = (
    "Exit codes: 0 done, 1 bad input or data, 2 bad usage, 3 done, but nothing could be done for the studies that "
    "OUT/failures.csv lists. Research software, not a medical device."
)
CHALLENGE: Final = "challenge directory (with train.csv and train_images/), or a prepared store of one"
ANY_STUDIES: Final = (
    "challenge directory, prepared store, or DICOM files: any folder, zip or tar archive, DICOMDIR or single file"
)
LOCALIZER: Final = "run folder of `lumbar localize train`"
SHIPPED: Final = "default: the detectors that ship with the package"
CLASSIFIER: Final = "run folder of `lumbar classify train`"
ADDRESS: Final = "an address of an object store, such as s3://bucket/folder (extra `storage`)"
SOME_ADDRESSES: Final = "addresses of object stores"
FOLD: Final = "number of the fold to train, or all"
TTA: Final = "test-time augmentation: average over shifted, rotated and scaled copies of each crop (10 times slower)"
FAST: Final = (
    "grade with the one network that `lumbar classify distill` made of each classifier's folds, in place of them; not "
    "for studies that the classifier was trained on"
)


# A word of a command line that argparse takes for a number or a text, not for an option.
_NO_OPTION: Final = re.compile(r"-|-\d+|-\d*\.\d+|.* .*|[^-].*|", flags=re.DOTALL)
# How alike two words must be for one to be taken for the other, mistyped.
_ALIKE: Final = 0.6


class Parser(argparse.ArgumentParser):
    """A parser that answers a mistyped command, option or value with the one that was probably meant."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse does, but a mistyped option is told before whatever else it makes look wrong."""
        if args is not None:
            self._check_options(list(args))
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Writes a short usage and one line of error, and exits with 2."""
        super().error(f"{printable(message)} (`{self.prog} --help` explains all)")

    def _check_options(self, words: Sequence[str]) -> None:
        known = [option for action in self._actions for option in action.option_strings]
        for word in words:
            if word == "--":
                return
            if _NO_OPTION.fullmatch(word):
                if self._commands() is not None:  # the rest are words of that command
                    return
                continue
            name = word.partition("=")[0]
            if name in known or (name.startswith("--") and any(option.startswith(name) for option in known)):
                continue
            if not name.startswith("--") and name[:2] in known:  # letters of one word: -hv
                continue
            self.error(f"there is no option {name}{meant(name, known)}")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        choices = [str(choice) for choice in action.choices]
        if isinstance(action, argparse._SubParsersAction):
            below = [f"{name} {inner}" for name, inner in _inner_commands(action) if inner == value]
            hint = f"; did you mean {' or '.join(below)}?" if below else meant(str(value), choices)
            text = f"there is no command {quoted(value)}{hint or '; choose from ' + ', '.join(choices)}"
            raise argparse.ArgumentError(None, text)
        raise argparse.ArgumentError(action, f"{expected(choices, value)}{meant(str(value), choices)}")

    def _commands(self) -> "argparse._SubParsersAction[Any] | None":
        return next((a for a in self._actions if isinstance(a, argparse._SubParsersAction)), None)


def _inner_commands(action: "argparse._SubParsersAction[Any]") -> Iterator[tuple[str, str]]:
    for name, parser in action.choices.items():
        inner = parser._commands() if isinstance(parser, Parser) else None
        yield from ((name, command) for command in (inner.choices if inner is not None else ()))


def expected(choices: Sequence[str], value: object) -> str:
    """What was expected and what was given, for a message."""
    return f"expected {', '.join(choices[:-1])}{' or ' if len(choices) > 1 else ''}{choices[-1]}, got {quoted(value)}"


def meant(word: str, known: Collection[str]) -> str:
    """The end of a message that names the known word which is most like a mistyped one, if any is."""
    names = {name.lstrip("-"): name for name in known}  # all options are alike in their dashes
    near = difflib.get_close_matches(word.lstrip("-").lower(), names, n=1, cutoff=_ALIKE)
    if word == "gpu" and "cuda" in names:
        near = ["cuda"]
    return f"; did you mean {names[near[0]]}?" if near else ""


def add_commands(parser: argparse.ArgumentParser) -> Commands:
    """Adds the room for the commands of a parser."""
    return parser.add_subparsers(required=True, metavar="COMMAND", title="commands", parser_class=Parser)


def add_command(commands: Commands, name: str, text: str, description: str = "") -> argparse.ArgumentParser:
    """Adds a command: `text` is its line in the list of commands, `description` opens its own help."""
    parser = commands.add_parser(
        name, help=text, description=description or f"{text[:1].upper()}{text[1:]}.", epilog=EPILOG
    )
    parser.set_defaults(command=parser.prog)
    return parser


def local(text: str) -> Path:
    """The type of an argument that is a path: refuses an address of an object store, which is none."""
    place = place_or_address(text)
    if isinstance(place, Address):
        raise argparse.ArgumentTypeError(
            f"expected a path, got the address {quoted(text)}; addresses of object stores are only for DATA, RUN "
            "and OUT of `lumbar predict`, `prepare` and `merge`, and DATA of `audit`. Copy the files to a disk"
        )
    return place


def place_or_address(text: str) -> Path | Address:
    """The type of an argument that is a path, or an address of an object store."""
    try:
        return place_of(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def on_disk(place: Path | Address, option: str) -> Path:
    """A path that an option needs where a command also takes addresses.

    Raises:
      InputError: for an address.
    """
    if isinstance(place, Address):
        raise InputError(f"{option}: not with {place}, an address of an object store; give a path")
    return place


def add_paths(parser: argparse.ArgumentParser, **helps: str) -> None:
    """Adds required paths in the given order; the help shows their names in capitals."""
    for name, text in helps.items():
        parser.add_argument(name, type=local, metavar=name.upper(), help=text)
        _explain(parser, name, f"{name.upper()}: {text}")


def add_places(parser: argparse.ArgumentParser, **helps: str) -> None:
    """Does the same for arguments that may be addresses, too."""
    for name, text in helps.items():
        text = f"{text}; or {ADDRESS}"
        parser.add_argument(name, type=place_or_address, metavar=name.upper(), help=text)
        _explain(parser, name, f"{name.upper()}: {text}")


def add_several_paths(parser: argparse.ArgumentParser, name: str, metavar: str, text: str) -> None:
    """Adds a list of required paths, one or more."""
    parser.add_argument(name, type=local, nargs="+", metavar=metavar, help=text)
    _explain(parser, name, f"{metavar}: {text}")


def add_several_places(parser: argparse.ArgumentParser, name: str, metavar: str, text: str) -> None:
    """Does the same for paths that may be addresses, too."""
    parser.add_argument(name, type=place_or_address, nargs="+", metavar=metavar, help=f"{text}; or {SOME_ADDRESSES}")
    _explain(parser, name, f"{metavar}: {text}")


def add_path(parser: argparse.ArgumentParser, flag: str, metavar: str, text: str, *, required: bool = False) -> None:
    """Adds an option that names a file or folder."""
    added = parser.add_argument(flag, type=local, metavar=metavar, required=required, help=text)
    _explain(parser, added.dest, f"{flag} {metavar}: {text}")


def add_several(parser: argparse.ArgumentParser, flag: str, metavar: str, text: str) -> None:
    """Adds an option that names a file or folder and may be repeated."""
    added = parser.add_argument(flag, type=local, metavar=metavar, action="append", default=[], help=text)
    _explain(parser, added.dest, f"{flag} {metavar}: {text}")


def add_runs(
    parser: argparse.ArgumentParser, flag: str, text: str, *, required: bool = False, none: str | None = None
) -> None:
    """Adds an option that names a run's folder, or the address of one, and may be repeated.

    The word `none`, if given, stands for None.
    """

    def run(word: str) -> Path | Address | None:
        return None if word == none else place_or_address(word)

    added = parser.add_argument(flag, type=run, action="append", metavar="RUN", required=required, help=text)
    _explain(parser, added.dest, f"{flag} RUN: {text}")


def _explain(parser: argparse.ArgumentParser, name: str, text: str) -> None:
    """Keeps what a path is, to be told where it is missing."""
    parser.set_defaults(explained={**(parser.get_default("explained") or {}), name: text})


def add_part(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "--part", choices=("train", "test"), help=f"part of a challenge directory to use (default: {default})"
    )


def add_device(parser: argparse.ArgumentParser, more: str = "", *, several: bool = False) -> None:
    def device(text: str) -> str:
        try:
            check_form(text, several=several)
        except InputError as error:
            hint = meant(text, ("auto", "cpu", "mps", "cuda"))
            raise argparse.ArgumentTypeError(f"{str(error).partition(': ')[2]}, got {quoted(text)}{hint}") from error
        return text

    parser.add_argument("--device", type=device, default="auto", metavar="DEVICE", help=DEVICE_HELP + more)


def whole(least: int) -> Callable[[str], int]:
    """The type of an option that is a whole number, and not a smaller one than `least`."""

    def number(text: str) -> int:
        if not re.fullmatch(r"[+-]?\d{1,18}", text) or int(text) < least:
            raise argparse.ArgumentTypeError(f"expected a whole number of at least {least}, got {quoted(text)}")
        return int(text)

    return number


def add_workers(parser: argparse.ArgumentParser, what: str = "number of worker processes") -> None:
    parser.add_argument(
        "--workers", type=whole(1), default=usable_cores(), metavar="N", help=f"{what} (default: all usable cores)"
    )


def add_engine(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--engine", choices=("local", "ray"), default="local", help="what does the work: processes of this machine, or "
        "the Ray cluster that RAY_ADDRESS names, without it one on this machine. All nodes must see the same files "
        "under the same paths. Needs the extra `cluster` (default: %(default)s)",
    )  # fmt: skip


def engine_of(a: argparse.Namespace) -> "Engine":
    """The engine that `--engine` names; for one on other machines, all paths of the arguments become absolute."""
    from shared.runtime.bulk.engine import Engine

    engine = Engine(a.engine)
    if engine is not Engine.LOCAL:
        for key, value in vars(a).items():
            if isinstance(value, Path):
                setattr(a, key, value.absolute())
    return engine


def add_shard(parser: argparse.ArgumentParser, rest: str) -> None:
    """Adds `--shard`, whose values `shared.runtime.bulk.shards.Shard` reads; `rest` ends its help."""

    def shard(text: str) -> "Shard":
        from shared.runtime.bulk.shards import Shard

        try:
            return Shard.from_text(text)
        except InputError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    parser.add_argument(
        "--shard", type=shard, metavar="K/N", help=f"do only the K-th of N equal parts of the studies; {rest}"
    )


def add_seed(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument("--seed", type=whole(0), default=0, metavar="N", help=f"{text} (default: %(default)s)")


def add_folds(parser: argparse.ArgumentParser, text: str, default: str = "all") -> None:
    """Adds `--fold`, whose values `shared.splits.parse_folds` reads."""

    def fold(value: str) -> str:
        if value != "all" and not re.fullmatch(r"\d{1,4}", value):
            raise argparse.ArgumentTypeError(f"expected all or the number of a fold, got {quoted(value)}")
        return value

    parser.add_argument(
        "--fold", type=fold, action="append", metavar="K|all", help=f"{text}; may be repeated (default: {default})"
    )


def chosen_folds(given: Sequence[str] | None) -> list[int] | None:
    """The folds that `--fold` names; None for all."""
    return None if given is None or "all" in given else [int(fold) for fold in given]


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


def begin(a: argparse.Namespace) -> AbstractContextManager[None]:
    """Makes the checks that need no reading, then says that the command begins; nothing heavy is imported before.

    Every file or folder that an argument names must exist. The output folder must be empty, or one that may be
    emptied or resumed, and no input may lie in a folder that --overwrite empties.

    Returns:
      A block in which the command shows that it still works (`shared.runtime.progress.reported`).

    Raises:
      InputError: as said, or as `shared.runtime.files.check_output` does.
    """
    from shared.runtime.files import check_output
    from shared.runtime.progress import reported

    output = getattr(a, "output", "out")
    inputs = [(key, place) for key, value in vars(a).items() if key != output for place in _places(value)]
    for key, place in inputs:
        if isinstance(place, Path) and not place.exists():
            raise InputError(f"{place}: no such folder or file; expected {a.explained.get(key, key)}")
    written = getattr(a, output, None)
    if "output" in a and isinstance(written, Path):
        given = [place for _, place in inputs if isinstance(place, Path)]
        check_output(written, overwrite=a.overwrite, resume="resume" in a and a.resume, inputs=given)
    places = [str(place) for key, place in inputs if key in a.explained][:1] + ([f"-> {written}"] if written else [])
    return reported(": ".join(filter(None, [a.command, " ".join(places)])))


def _places(value: object) -> list[Path | Address]:
    """The paths and addresses of an argument, which may be given several times."""
    return [each for each in (value if isinstance(value, list) else [value]) if isinstance(each, Path | Address)]
