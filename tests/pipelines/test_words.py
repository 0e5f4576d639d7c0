"""The words of the command line: one vocabulary, and an answer to every kind of mistyped word."""

import argparse
from collections.abc import Iterator

import pytest

from pipelines.cli import build_parser, main
from shared.runtime.arguments import meant

# Every name of a value, and what it stands for everywhere.
NAMES = {
    "DATA": "studies", "RUN": "run folder", "STORE": "prepared store", "OUT": "folder to write to",
    "OUT.png": "picture to write", "OUT.json": "file to write", "SUBMISSION": "submission.csv", "STUDY_ID": "one study",
    "SERIES_ID": "one series", "VIEW=SERIES_ID": "a series for a view", "LEVEL": "one level", "CSV": "a table",
    "NAME=CSV": "a table and its name", "JSON": "a JSON file", "FILE": "any other file", "DIR": "a folder to read",
    "K|all": "folds", "N": "a whole number", "PX": "pixels", "DEVICE": "where to compute",
    "WEIGHTS": "to start from, or of a blend",
    "OUT.csv": "table to write", "OUT.zip": "archive to write",
    "SHARD": "what one shard wrote", "K/N": "a shard", "SECONDS": "a time",
    "W,W,...|FILE": "weights of submissions", "tensorboard|mlflow": "a tracker",
    "KEY=VALUE": "a value of the config", "COMMAND": "a command",
}  # fmt: skip
# Options whose value differs between commands, with the reason.
TWO_NAMES = {"--series": "show draws one of a study's series; elsewhere a view is needed too"}


def commands(
    parser: argparse.ArgumentParser | None = None, name: str = ""
) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every command with its words."""
    parser = build_parser() if parser is None else parser
    inner = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    if not inner:
        yield name, parser
    for action in inner:
        for word, below in action.choices.items():
            yield from commands(below, f"{name} {word}".strip())


COMMANDS = dict(commands())


def options(parser: argparse.ArgumentParser) -> list[str]:
    return [word for action in parser._actions for word in action.option_strings]


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    return capsys.readouterr().err.strip().splitlines()[-1]


def typos(word: str) -> Iterator[str]:
    """A letter left out, two letters swapped, a letter typed twice and a wrong one; the first letter is right."""
    body = word.lstrip("-")
    dashes = word[: len(word) - len(body)]
    middle = max(1, len(body) // 2)
    yield dashes + body[:middle] + body[middle + 1 :]
    yield dashes + body[: middle - 1] + body[middle : middle + 1] + body[middle - 1] + body[middle + 1 :]
    yield dashes + body[:middle] + body[middle - 1] + body[middle:]
    yield dashes + body[:middle] + "x" + body[middle + 1 :]


def test_names_of_values_come_from_one_list() -> None:
    given = {a.metavar for p in COMMANDS.values() for a in p._actions if isinstance(a.metavar, str)}
    assert given <= NAMES.keys()


def test_an_option_has_one_name_of_its_value_everywhere() -> None:
    names: dict[str, set[object]] = {}
    for parser in COMMANDS.values():
        for action in parser._actions:
            for word in action.option_strings:
                names.setdefault(word, set()).add((action.metavar, action.nargs, str(action.choices)))
    assert {word: found for word, found in names.items() if len(found) > 1}.keys() == TWO_NAMES.keys()


def test_every_option_and_value_is_explained() -> None:
    silent = [(n, a.dest) for n, p in COMMANDS.items() for a in p._actions if not (a.help or "").strip()]
    assert silent == []


@pytest.mark.parametrize("name", COMMANDS, ids=str)
def test_a_mistyped_option_is_answered_with_the_right_one(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The options take turns with the ways to mistype one; each way falls on some in every command."""
    known = options(COMMANDS[name])
    for number, word in enumerate(w for w in known if w.startswith("--") and len(w) > 4):
        ways = [typo for typo in typos(word) if not any(k.startswith(typo) for k in known)]  # or it abbreviates one
        typo = ways[number % len(ways)]
        told = refused([*name.split(), "a", typo, "b"], capsys)
        assert f"there is no option {typo}" in told
        assert "did you mean --" in told
        assert f"did you mean {word}?" in told or meant(typo, known) != "", (typo, told)


def test_a_mistyped_command_is_answered_with_the_right_one(capsys: pytest.CaptureFixture[str]) -> None:
    for name in COMMANDS:
        *before, word = name.split()
        for typo in typos(word):
            if typo not in [n.split()[-1] for n in COMMANDS]:
                assert f"did you mean {word}?" in refused([*before, typo], capsys), typo
    assert "did you mean localize train or classify train?" in refused(["train", "data", "run"], capsys)
    assert "choose from demo, synth" in refused(["xyz"], capsys)


def test_a_mistyped_value_is_answered_with_the_right_one(capsys: pytest.CaptureFixture[str]) -> None:
    for name, parser in COMMANDS.items():
        for action in parser._actions:
            for choice in (choices := list(action.choices or ())):
                told = refused([*name.split(), action.option_strings[0], f"{choice}x"], capsys)
                assert f"expected {' or '.join(choices)}"[:12] in told
                assert f"did you mean {choice}?" in told
    words = ["predict", "data", "out", "--classifier", "run", "--device"]
    assert "did you mean cuda?" in refused([*words, "gpu"], capsys)
    assert "did you mean cpu?" in refused([*words, "cpuu"], capsys)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("demo out --workers 0", "at least 1, got '0'"),
        ("demo out --studies -3", "at least 1, got '-3'"),
        ("synth out --seed x", "at least 0, got 'x'"),
        ("splits data out.json --folds 1", "at least 2, got '1'"),
        ("localize train data run --fold one", "all or the number of a fold, got 'one'"),
        ("localize train data run --device 0,0", "N or 0,1 to train on several, got '0,0'"),
        ("classify train data run --device 0,1", "cuda:N or N, got '0,1'"),
        ("localize evaluate data run out --resume", "there is no option --resume ("),
        ("info --\x1b[31m", r"there is no option --\x1b[31m"),
    ],
)
def test_words_that_cannot_be_right(words: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert told in refused(words.split(), capsys)


def test_a_number_below_zero_and_a_text_with_blanks_are_no_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert "required" in refused(["predict", "-1", "- a folder"], capsys)
    assert "there is no option -x" in refused(["info", "-x"], capsys)
    assert build_parser().parse_args(["series", "--", "--data"]).data.name == "--data"
