"""The lock pins everything, and what running needs has licences that fit AGPL-3.0-only."""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

from benchmarks.supply_chain.licenses import fits, license_of
from benchmarks.supply_chain.lock import Pin, direct_requirements, faults, read_lock, run_time

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def pins() -> tuple[Pin, ...]:
    return read_lock(ROOT / "requirements.lock")


def test_every_package_has_one_version_and_digests_and_meets_our_requirements(pins: tuple[Pin, ...]) -> None:
    needed, developing = direct_requirements(ROOT / "pyproject.toml")
    assert len(pins) > 100
    assert faults(pins, [*needed, *developing]) == []
    assert {"torch", "numpy", "safetensors"} <= run_time(pins, needed)
    assert not {"pytest", "ruff", "mkdocs"} & run_time(pins, needed)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("pydicom==3.0.2 \\", "pydicom==2.0.0 \\", "pydicom>=3.0.1: is locked as 2.0.0"),
        ("pydicom==3.0.2 \\", "pydicm==3.0.2 \\", "pydicom>=3.0.1: is locked as None"),
        ("pydicom==3.0.2 \\", "pydicom>=3.0.2 \\", "line"),
        ("pydicom==3.0.2 \\", "pydicom @ git+ssh://elsewhere/pydicom \\", "line"),
    ],
)
def test_a_changed_lock_is_told(tmp_path: Path, old: str, new: str, told: str) -> None:
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert old in text
    (tmp_path / "changed.lock").write_text(text.replace(old, new), encoding="utf-8")
    needed, developing = direct_requirements(ROOT / "pyproject.toml")
    try:
        found = faults(read_lock(tmp_path / "changed.lock"), [*needed, *developing])
    except ValueError as error:
        found = [str(error)]
    assert any(told in text for text in found)


def test_a_package_without_digests_is_told() -> None:
    pin = Pin(name="a", version="1", marker="", hashes=(), parents=())
    assert faults([pin, pin], []) == ["a 1: has no digest"] * 2 + ["a: has several versions for one environment"]


def test_licences_of_what_running_needs_fit(pins: tuple[Pin, ...]) -> None:
    running = run_time(pins, direct_requirements(ROOT / "pyproject.toml")[0])
    licences = {}
    for pin in pins:
        if pin.applies and pin.name in running:
            try:
                licences[pin.name] = license_of(distribution(pin.name))
            except PackageNotFoundError:  # a CPU build of torch has none of the CUDA libraries
                continue
    assert {"torch", "ultralytics", "pydicom"} <= licences.keys()
    assert {name: text for name, text in licences.items() if not fits(text)} == {}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("MIT", True),
        ("MPL-2.0 AND MIT", True),
        ("MIT OR GPL-2.0-only", True),
        ("GPL-2.0-only", False),
        ("MIT AND GPL-2.0-only", False),
        ("none given", False),
        ("Proprietary", False),
        ("", False),
    ],
)
def test_which_licences_fit(text: str, expected: bool) -> None:
    assert fits(text) is expected
