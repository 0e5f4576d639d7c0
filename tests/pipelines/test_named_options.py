"""No message names an option that the command which prints it does not have."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.runtime.errors import exit_code
from tests.pipelines.test_words import COMMANDS

ROOT = Path(__file__).parents[2]
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
# Options of other programs.
_OTHERS = {"--nproc-per-node", "--query-gpu", "--format", "--porcelain", "--untracked-files", "--head"}
# Modules whose commands alone print what is in them: an option there is one of each of these commands.
_OF_ONE = {
    "pipelines/show.py": ["show"], "pipelines/demo/": ["demo"], "pipelines/prepare/": ["prepare"],
    "pipelines/audit/run.py": ["audit"], "localize/train/": ["localize train"], "classify/train/": ["classify train"],
    "localize/evaluate.py": ["localize evaluate"], "classify/predict.py": ["classify predict"],
    "shared/figures/sheet.py": ["show"], "shared/figures/study_sheet.py": ["show"],
    "pipelines/series.py": ["series", "predict"], "shared/dicom/choice.py": ["series", "predict"],
    "pipelines/ensembles/blend.py": ["blend"],
}  # fmt: skip


def _texts(path: Path) -> Iterator[str]:
    """Every text of a module but its docstrings; what an f-string inserts is left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    plain = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}
    inner = {id(v) for n in ast.walk(tree) if isinstance(n, ast.JoinedStr) for v in n.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(v.value) if isinstance(v, ast.Constant) else "X" for v in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner | plain:
            yield node.value


def _options(name: str) -> set[str]:
    return {option for action in COMMANDS[name]._actions for option in action.option_strings}


EVERY = set().union(*map(_options, COMMANDS))
MODULES = [p for folder in ("shared", "localize", "classify", "pipelines") for p in (ROOT / folder).rglob("*.py")]


def test_a_command_in_a_message_has_the_options_that_are_named_with_it() -> None:
    seen = 0
    for text in (text for path in MODULES for text in _texts(path)):
        for words, after in re.findall(r"`lumbar ([^`]+)`([^`;.,(]*)", text):
            names = [n for n in COMMANDS if re.match(rf"{n}\b", words)]
            for option in _OPTION.findall(words + after) if names else ():
                assert option in _options(max(names, key=len)), text
                seen += 1
    assert seen >= 10


def test_every_option_in_a_message_is_one_of_ours() -> None:
    named = {option for path in MODULES for text in _texts(path) for option in _OPTION.findall(text)}
    assert {o for o in named if not o.endswith("-")} - EVERY - _OTHERS - {"--version"} == set()


@pytest.mark.parametrize("place", _OF_ONE, ids=str)
def test_messages_of_a_command_name_its_own_options(place: str) -> None:
    found = [p for p in MODULES if p.relative_to(ROOT).as_posix().startswith(place)]
    assert found
    for text in (text for path in found for text in _texts(path)):
        for option in set(_OPTION.findall(re.sub(r"`[^`]*`[^;]*", "", text))) - _OTHERS:
            assert all(option in _options(name) for name in _OF_ONE[place]), text


@pytest.mark.parametrize(("spread", "told"), [(True, "fewer --workers"), (False, "give it more\n")])
def test_only_commands_with_workers_advise_fewer(spread: bool, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    def exhausted() -> int:
        raise MemoryError

    assert exit_code(exhausted, spread=spread) == 1
    assert told in capsys.readouterr().err
