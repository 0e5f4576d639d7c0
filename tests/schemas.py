"""Checks that every JSON file of an output folder is documented: it fits its type, and the committed JSON Schema."""

import json
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from pipelines.schemas.registry import SCHEMAS, UNNAMED
from shared.runtime.documents import adapter_of

FOLDER = Path(__file__).parents[1] / "docs" / "schemas"
# Only a later call of the same command reads these (`pipelines.schemas`).
INTERNAL = ("state.json", "steps.json", "demo.json", "*unfinished/*", "*cache/*", "*work/*", "*progress/*", "*png/*")


def json_files(folder: Path, *, store: bool = False) -> Iterator[Path]:
    internal = (*INTERNAL, "studies/*") if store else INTERNAL
    for path in sorted(folder.rglob("*.json")):
        name = path.relative_to(folder).as_posix()
        if not any(fnmatch(name, pattern) or fnmatch(path.name, pattern) for pattern in internal):
            yield path


def schema_of(path: Path, content: dict[str, Any]) -> str:
    """The name that the file gives, or that its place gives to files that earlier versions read too."""
    if "schema" in content:
        return str(content["schema"])
    found = [name for name, place in UNNAMED.items() if path.match(place.replace("fold<K>", "fold*"))]
    assert found, f"{path}: names no schema"
    return found[0]


@cache
def validator(name: str) -> Any:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    schema = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def assert_fits(name: str, text: str) -> None:
    """Fits the type, which knows every key, and the published schema."""
    adapter_of(SCHEMAS[name]).validate_json(text)
    validator(name).validate(json.loads(text))


def assert_documented(folder: Path, *, store: bool = False) -> set[str]:
    """Checks all JSON files below a folder; returns the names of their schemas."""
    names = set()
    for path in json_files(folder, store=store):
        text = path.read_text(encoding="utf-8")
        name = schema_of(path, json.loads(text))
        try:
            assert_fits(name, text)
        except ValueError as error:
            raise AssertionError(f"{path.relative_to(folder)}: {error}") from error
        names.add(name)
    return names
