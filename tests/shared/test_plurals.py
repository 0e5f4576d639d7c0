"""No message says "1 studies"."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.runtime.problems import counted

ROOT = Path(__file__).parents[2]
NOUNS = (
    "studies", "series", "rows", "findings", "slices", "files", "points", "grades", "folds", "levels", "crops",
    "errors", "problems", "frames", "patients", "stacks", "pairs", "orientations", "processes", "devices",
)  # fmt: skip
_COUNTS = re.compile(rf" (?:[a-z]+(?:-[a-z]+)? )?({'|'.join(n for n in NOUNS if n != 'series')})\b")
# What stands before such a noun and is no count (names, shares, lists), or is one that is never 1.
_OTHER = re.compile(
    r".*\.(short|value|part)|kind|measures\['points'\]|_percent\(.*\)|counted\(.*\)|sizes"
    r"|count|len\(points\)|len\(readings\)|counts\[.*|(\w+\.)?_?[A-Z][A-Z0-9_]+|len\(_?[A-Z]\w*\)|len\(info\['findings'\]\)|folds|self\.test_studies|max\(.*"
)


@pytest.mark.parametrize(
    ("count", "noun", "text"),
    [(1, "study", "1 study"), (0, "study", "0 studies"), (2, "held-out study", "2 held-out studies"),
     (2, "day", "2 days"), (1, "series", "1 series"), (3, "series", "3 series"),
     (2, "box", "2 boxes"), (2, "class", "2 classes"), (-1, "row", "-1 rows"), (2, "branch", "2 branches")],
)  # fmt: skip
def test_a_number_with_its_noun(count: int, noun: str, text: str) -> None:
    assert counted(count, noun) == text


def _plain_plurals(path: Path) -> Iterator[str]:
    """Numbers that are put before a plural whatever they are."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        for value, text in zip(node.values, node.values[1:], strict=False) if isinstance(node, ast.JoinedStr) else ():
            if (
                isinstance(value, ast.FormattedValue)
                and value.format_spec is None
                and isinstance(text, ast.Constant)
                and _COUNTS.match(str(text.value))
                and not _OTHER.fullmatch(ast.unparse(value.value))
            ):
                yield f"{path.name}:{value.lineno} {{{ast.unparse(value.value)}}}{text.value!s}"


@pytest.mark.parametrize("package", ["shared", "localize", "classify", "pipelines"])
def test_every_number_of_things_has_its_plural_from_the_helper(package: str) -> None:
    assert [found for path in sorted((ROOT / package).rglob("*.py")) for found in _plain_plurals(path)] == []
