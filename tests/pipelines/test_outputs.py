"""Every command refuses an output folder that is not ours. The commands come from the parser, so none is forgotten."""

import argparse
from collections.abc import Iterator
from pathlib import Path

import pytest

from classify.train import command as classify_train
from localize.train import command as localize_train
from pipelines.cli import build_parser, main
from pipelines.evaluate import EvaluateOptions, evaluate
from pipelines.show import ShowOptions, show
from shared.runtime.arguments import local, place_or_address
from shared.runtime.errors import InputError
from shared.runtime.files import prepare_output

Parser = argparse.ArgumentParser


def leaves(parser: Parser, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Parser]]:
    inner = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    for action in inner:
        for name, command in action.choices.items():
            yield from leaves(command, (*words, name))
    if not inner:
        yield words, parser


COMMANDS = dict(leaves(build_parser()))
WRITING = [words for words, parser in COMMANDS.items() if parser.get_default("output")]
CASES = [
    (words, flag)
    for words in WRITING
    for flag in ("", "--overwrite", "--resume")
    if not flag or any(flag in a.option_strings for a in COMMANDS[words]._actions)
]


def is_path(action: argparse.Action) -> bool:
    return action.type in (Path, local, place_or_address) or action.metavar == "RUN"


def arguments(words: tuple[str, ...], out: Path, given: tuple[str, Path] | None = None) -> list[str]:
    """A complete command line, whose inputs exist but are not what they should be. `given` names one of them."""
    line: list[str] = []
    for action in COMMANDS[words]._actions:
        is_out = action.dest == COMMANDS[words].get_default("output")
        value = str(out) if is_out else __file__ if is_path(action) else "nowhere"
        if given is not None and action.dest == given[0]:
            value = str(given[1])
        if not action.option_strings:
            line.append(value)
        elif action.required or (given is not None and action.dest == given[0]):
            line += [action.option_strings[0], value]
    return line


def test_every_folder_that_a_command_writes_is_known() -> None:
    for words, parser in COMMANDS.items():
        if any(a.metavar in ("OUT", "STORE") for a in parser._actions if not a.option_strings):
            assert words in WRITING, words
    assert {("demo",), ("synth",), ("prepare",), ("localize", "train"), ("classify", "evaluate")} < set(WRITING)


INPUTS = [
    (words, action)
    for words, flag in CASES
    for action in COMMANDS[words]._actions
    if flag == "--overwrite" and action.dest != COMMANDS[words].get_default("output")
    if is_path(action)
]


@pytest.mark.parametrize(("words", "action"), INPUTS, ids=[" ".join((*w, a.dest)) for w, a in INPUTS])
def test_no_input_lies_in_a_folder_that_is_emptied(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], action: argparse.Action
) -> None:
    out = prepare_output(tmp_path / "out")
    (out / "submission.csv").write_text("mine")
    line = arguments(words, out, (action.dest, out / "submission.csv"))
    assert main([*words, *line, "--overwrite"]) == 1
    assert "--overwrite would delete" in capsys.readouterr().err
    assert (out / "submission.csv").read_text() == "mine"


def test_what_a_submission_is_compared_with_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = prepare_output(tmp_path / "out")
    (out / "submission.csv").write_text("mine")
    monkeypatch.setattr("pipelines.evaluate.score_files", lambda *_: (None, None, None))
    options = EvaluateOptions(against=(f"before={out / 'submission.csv'}",))
    with pytest.raises(InputError, match="would delete"):
        evaluate(tmp_path / "new.csv", tmp_path / "data", out, options, overwrite=True)
    assert (out / "submission.csv").read_text() == "mine"


@pytest.mark.parametrize("where", ["itself", "behind a link", "a link", "a user's run.json"])
@pytest.mark.parametrize(("words", "flag"), CASES, ids=[" ".join((*w, f)).strip() for w, f in CASES])
def test_a_folder_of_somebody_else_keeps_its_contents(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], flag: str, where: str
) -> None:
    mine = tmp_path / "home" / "mine"
    (mine / "chapters").mkdir(parents=True)
    kept = {"thesis.tex": "ten years", ".bashrc": "alias l=ls", "chapters/1.tex": "one"}
    if where == "a user's run.json":
        kept["run.json"] = '{"kind": "marathon", "command": "run", "version": 3}'
    for name, text in kept.items():
        (mine / name).write_text(text)
    (tmp_path / "link").symlink_to(mine if where == "a link" else mine.parent)
    out = {"behind a link": tmp_path / "link" / "mine", "a link": tmp_path / "link"}.get(where, mine)
    line = [*arguments(words, out), *([flag] if flag else [])]
    training = {("localize", "train"): localize_train.main, ("classify", "train"): classify_train.main}
    for run in (
        (lambda: main([*words, *line]), lambda: training[words](line))
        if words in training
        else (lambda: main([*words, *line]),)
    ):
        assert run() == 1
        error = capsys.readouterr().err
        assert error.startswith(f"error: {out}: ")
        assert "no command of lumbar made it" in error or "is a file or a link" in error
        assert {str(p.relative_to(mine)): p.read_text() for p in mine.rglob("*") if p.is_file()} == kept


def test_show_replaces_only_pictures(tmp_path: Path) -> None:
    mine, link = tmp_path / "mine.png", tmp_path / "link.png"
    mine.write_text("no picture")
    link.symlink_to(mine)
    for out, expected in ((mine, "is no PNG picture"), (link, "a folder or a link")):
        with pytest.raises(InputError, match=expected):
            show(tmp_path, "1", out, ShowOptions(), overwrite=True)
    assert mine.read_text() == "no picture"
