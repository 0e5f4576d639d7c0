"""The rules of the house that no linter keeps: small rooms, small functions, and no way back up."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("shared", "localize", "classify", "pipelines")
MOST_MODULES, MOST_PARAMETERS, MOST_LINES = 14, 6, 60


def sources(*folders: str) -> Iterator[tuple[str, Path]]:
    """Dotted names and files of all modules; a package is named without its `__init__`."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"), path


@cache
def syntax(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def test_no_package_shows_more_modules_than_a_reader_can_hold() -> None:
    shown: dict[Path, list[str]] = {}
    for _, path in sources(*PACKAGES, "benchmarks"):
        if not path.stem.startswith("__"):
            shown.setdefault(path.parent, []).append(path.stem)
    assert [f"{folder.relative_to(ROOT)}: {len(n)}" for folder, n in shown.items() if len(n) > MOST_MODULES] == []


def test_no_function_takes_many_parameters_or_runs_over_a_screen() -> None:
    offenders = []
    for name, path in sources(*PACKAGES, "benchmarks"):
        for node in ast.walk(syntax(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                a = node.args
                given = [x.arg for x in (*a.posonlyargs, *a.args, *a.kwonlyargs) if x.arg not in ("self", "cls")]
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if len(given) > MOST_PARAMETERS or lines > MOST_LINES:
                    offenders.append(f"{name}.{node.name}: {len(given)} parameters, {lines} lines")
    assert offenders == []


def test_no_modules_import_each_other_in_a_circle_not_even_lazily() -> None:
    names = {name for name, _ in sources(*PACKAGES)}
    imports: dict[str, set[str]] = {}
    for name, path in sources(*PACKAGES):
        imports[name] = set(_imported(syntax(path), names)) - {name}
    while leaves := {name for name, needed in imports.items() if not needed & imports.keys()}:
        for name in leaves:
            del imports[name]
    assert sorted(imports) == []


def _imported(tree: ast.Module, names: set[str]) -> Iterator[str]:
    """Our modules that a module imports anywhere, type checking aside."""
    typing_only = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                if inner in names:
                    yield inner
                elif node.module in names:
                    yield node.module
