"""What the pages say about the code is still so: modules, commands, links and the version."""

import argparse
import re
import tomllib
from pathlib import Path

import pytest

from pipelines.cli import build_parser

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
_NAME = re.compile(r"(?<![\w/])((?:shared|localize|classify|pipelines|benchmarks)(?:[./]\w+)+)")


def _prose_and_current_paths(page: Path) -> str:
    """Inline code, and the call paths of today: blocks that follow a line "Now:"."""
    text = page.read_text(encoding="utf-8")
    prose = re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)
    return "\n".join(re.findall(r"`([^`]+)`", prose) + re.findall(r"^Now:\n\n```(.*?)^```", text, flags=re.S | re.M))


def _exists(name: str) -> bool:
    """Whether `a/b.py` or `a.b.attribute` is there; an attribute counts when its module names it."""
    if name == "shared/configs":  # in the wheel
        return True
    if "/" in name:
        return (ROOT / re.sub(r"\.py$", "", name)).with_suffix(".py").is_file() or (ROOT / name).is_dir()
    place, attributes = ROOT, name.split(".")
    while attributes and (place / attributes[0]).is_dir():
        place /= attributes.pop(0)
    if attributes and (place / f"{attributes[0]}.py").is_file():
        place = place / f"{attributes.pop(0)}.py"
    source = "".join(p.read_text(encoding="utf-8") for p in (sorted(place.glob("*.py")) if place.is_dir() else [place]))
    return all(re.search(rf"\b{attribute}\b", source) for attribute in attributes)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_modules_that_a_page_names_exist(page: Path) -> None:
    if page.name == "CHANGELOG.md":  # names of their time
        pytest.skip("history")
    missing = sorted({name for name in _NAME.findall(_prose_and_current_paths(page)) if not _exists(name)})
    assert not missing


@pytest.mark.parametrize("package", ["shared", "localize", "classify", "pipelines"])
def test_architecture_says_what_every_module_and_room_is_for(package: str) -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    section = re.search(rf"^### `{package}`.*?(?=^##)", page, flags=re.S | re.M)
    assert section is not None
    rooms = {f"{path.parent.name}/" for path in (ROOT / package).glob("*/__init__.py")}
    modules = {path.stem for path in (ROOT / package).glob("*.py") if path.stem != "__init__"}
    assert (rooms | modules) - set(re.findall(r"`([^`]+)`", section[0])) == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert not [link for link in links if "://" not in link and not (page.parent / link).exists()]


def test_readme_lists_the_commands_that_there_are() -> None:
    listed = set(re.findall(r"^\| `lumbar (\w+)", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.M))
    (commands,) = (a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    assert listed == set(commands.choices)


def test_version_is_the_same_everywhere() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    newest = re.search(
        r"^## (\S+) \(\d{4}-\d\d-\d\d\)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.M
    )
    assert newest is not None
    assert newest[1] == version
