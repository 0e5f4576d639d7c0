"""Damaged and hostile JSON and TOML files are one clear message each."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from shared.runtime.config import Config
from shared.runtime.documents import Document, OpenDocument, read_document, read_json, read_toml
from shared.runtime.errors import InputError


class _Fold(Document):
    models: dict[str, str]
    sd_mm: Annotated[float, Field(gt=0)] = 1.0
    place: tuple[int, int] = (0, 0)


class _Run(Document):
    folds: dict[int, _Fold]


class _Open(OpenDocument):
    kind: str


class _Settings(Config):
    rate: float = 0.5
    count: int = 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"folds": {"0": {"models": {"t1": 3}}}}', r"folds\.0\.models\.t1: expected a string, got 3; restore"),
        ('{"folds": {"0": {"models": {}, "sd_mm": "1"}}}', r"folds\.0\.sd_mm: expected a number, got '1'"),
        ('{"folds": {"0": {"models": {}, "sd_mm": true}}}', r"folds\.0\.sd_mm: expected a number, got true"),
        ('{"folds": {"0": {"models": {}, "sd_mm": -1}}}', r"folds\.0\.sd_mm: expected greater than 0, got -1"),
        ('{"folds": {"0": {"models": {}, "sd_mm": 1e400}}}', r"folds\.0\.sd_mm: expected a finite number, got inf"),
        ('{"folds": {"0": {"models": {}, "sd_mm": NaN}}}', r"folds\.0\.sd_mm: expected a finite number, got nan"),
        ('{"folds": {"0": {"models": {}, "place": [1, 12345678901234567890]}}}', r"place\.1: .* at most 64 bits"),
        ('{"folds": {"0": {"models": {}, "place": [1, 2.0]}}}', r"place\.1: expected a whole number, got 2\.0"),
        ('{"folds": {"0": {}}}', r"folds\.0\.models: is missing"),
        ('{"folds": {"x": {"models": {}}}}', r"folds\.x\.\[key\]: expected a whole number"),
        ('{"folds": {}, "more": 1}', "more: is not a known key"),
        ('{"folds": {"0": {"models": {"t1": "a", "t1": "b"}}}}', "the key 't1' stands there twice"),
        ('{"folds": []}', "folds: expected an object, got a list of 0"),
        ("[]", "expected an object, got a list of 0"),
        ("null", "expected an object, got null"),
        ("", "cannot be read as JSON"),
        ('{"folds"', "cannot be read as JSON"),
        ("[" * 100_000, "cannot be read as JSON .*(recursion|deep)"),
        ("[" * 60 + "]" * 60, "nested more than 50 deep"),
        ("1" * 5000, "cannot be read as JSON .*digits"),
        ('{"folds": "' + "x" * 5000 + '"}', r"folds: .*got 'x{37}\.\.\.'"),
        ('{"folds": {}, "' + "k" * 5000 + '": 1}', r"k{37}\.\.\."),
    ],
)
def test_json_that_does_not_fit_names_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    (path := tmp_path / "run.json").write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_document(path, _Run, advice="restore the file or train again")
    assert str(caught.value).startswith(f"{path}: ")
    assert str(caught.value).endswith("; restore the file or train again")
    assert len(str(caught.value)) < len(str(path)) + 300


def test_json_that_fits_is_typed(tmp_path: Path) -> None:
    (path := tmp_path / "run.json").write_text('\ufeff{"folds": {"2": {"models": {}, "sd_mm": 2, "place": [3, 4]}}}')
    assert read_document(path, _Run).folds == {2: _Fold(models={}, sd_mm=2.0, place=(3, 4))}
    path.write_text('{"kind": "localize", "device": "cpu"}')
    assert read_document(path, _Open).kind == "localize"
    path.write_bytes(b'{"kind": "\xff"}')
    with pytest.raises(InputError, match="not UTF-8"):
        read_document(path, _Open)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(JSON)
def test_json_is_read_back_equal_or_refused(tmp_path_factory: pytest.TempPathFactory, value: object) -> None:
    path = tmp_path_factory.getbasetemp() / "value.json"
    path.write_text(json.dumps(value))
    try:
        read = read_json(path)
    except InputError as error:
        message = str(error)
    else:
        message = "" if read == value else f"got {read}"
    assert not message or re.search("finite number|64 bits", message)


def test_files_that_never_end_or_are_too_large_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "run.json")
    for path in (tmp_path / "run.json", Path("/dev/zero"), tmp_path, tmp_path / "none", Path("a\0b")):
        with pytest.raises(InputError, match="cannot be read as JSON"):
            read_json(path)
        with pytest.raises(InputError, match="cannot be read as TOML"):
            read_toml(path)
    with (path := tmp_path / "large").open("wb") as file:
        file.truncate(1 << 30)
    readers: list[Callable[[Path], object]] = [read_json, read_toml]
    for read in readers:
        with pytest.raises(InputError, match="too large"):
            read(path)


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 5000,
        "rate = " + "[" * 60 + "]" * 60,
        ".".join("a" * 900) + " = 1",
        ".".join("a" * 30_000) + " = 1",
        "count = " + "1" * 5000,
        "count = 12345678901234567890",
        "count = 0x" + "f" * 1000,
        "rate = nan",
        "rate = -inf",
        "rate = 1e400",
        "rate = 'x'",
        "count = true\ncount = 2",
        "count = 1\ncount = 2",
        "[rate]\nx = 1",
        "count = \ud800",
        "x" * 70_000,
        "\0",
        "".join(f"k{n} = 1\n" for n in range(5000)),
    ],
)
def test_toml_that_is_no_config_is_one_short_message(tmp_path: Path, text: str) -> None:
    (path := tmp_path / "c.toml").write_text(text, errors="surrogatepass")
    with pytest.raises(InputError, match=r"c\.toml") as caught:
        _Settings.load(path)
    assert len(str(caught.value)) < len(str(path)) + 500


@pytest.mark.parametrize(
    "value", ["[" * 5000, "1" * 5000, "12345678901234567890", "nan", "inf", "1e400", "{a = 1", "x" * 90_000]
)
def test_overrides_that_are_no_values_are_one_short_message(value: str) -> None:
    with pytest.raises(InputError, match=r"rate|--set") as caught:
        _Settings.load(None, (f"rate={value}",))
    with pytest.raises(InputError, match="--set"):
        _Settings.load(None, (".".join("a" * 5000) + f"={value[:5]}",))
    assert len(str(caught.value)) < 300
