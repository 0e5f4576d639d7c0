"""The image's recipe, as far as it can be tested without building it: files, commands and parts of the lock."""

import fnmatch
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.supply_chain.lock import direct_requirements, faults, read_lock
from benchmarks.supply_chain.subset import PURPOSES, lines_of, needed_for

ROOT = Path(__file__).parents[1]
RECIPE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
INSTRUCTIONS = re.sub(r"^\s*#.*\n", "", RECIPE, flags=re.M).replace("\\\n", " ")


def copied() -> list[str]:
    """What the recipe takes from the checkout."""
    copies = re.findall(r"^COPY (?!--from)(.*) \S+$", INSTRUCTIONS, flags=re.M)
    return [source for words in copies for source in words.split()]


def ignored(path: str) -> bool:
    """Whether .dockerignore keeps a file of the checkout away from the build; the last pattern that fits counts."""
    kept = True
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        pattern = line.lstrip("!")
        fits = (
            fnmatch.fnmatch(path, pattern.removeprefix("**/"))
            or path.startswith(f"{pattern}/")
            or (pattern.startswith("**/") and fnmatch.fnmatch(Path(path).name, pattern[3:]))
        )
        if line and not line.startswith("#") and fits:
            kept = line.startswith("!")
    return not kept


def test_what_is_copied_is_there_and_is_sent() -> None:
    assert {"requirements.lock", "pyproject.toml"} <= set(copied())
    for source in copied():
        assert (ROOT / source).exists()
        assert source == "." or not ignored(f"{source}/x" if (ROOT / source).is_dir() else source)


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        ("localize/weights/fold0/axial_t2.safetensors", True),
        ("configs/classify/full.toml", True),
        ("LICENSE", True),
        ("README.md", True),
        ("benchmarks/supply_chain/lock.py", True),
        ("localize/best.pt", False),
        ("demo/data/test_images/1/2/3.dcm", False),
        ("runs/classifier/splits.json", False),
        ("tests/conftest.py", False),
        (".git/config", False),
        ("shared/__pycache__/labels.cpython-311.pyc", False),
    ],
)
def test_the_build_sees_the_program_and_nothing_else(path: str, sent: bool) -> None:
    assert ignored(path) is not sent


def test_it_installs_as_the_makefile_does() -> None:
    made = (ROOT / "Makefile").read_text(encoding="utf-8")
    for flags in ("--require-hashes", "--no-deps --no-build-isolation"):
        assert flags in made
        assert flags in INSTRUCTIONS
    for command in re.findall(r"-m pip install [^&|;\n]*", INSTRUCTIONS):
        assert "--require-hashes" in command or command.rstrip().endswith(".whl")
    modules = re.findall(r"-m benchmarks\.supply_chain\.subset (\S+)", INSTRUCTIONS)
    assert sorted(modules) == sorted(PURPOSES)


def test_it_runs_as_a_plain_user_with_a_supported_python() -> None:
    last = INSTRUCTIONS.rpartition("\nFROM ")[2]
    assert re.search(r"^USER [1-9]\d*$", last, flags=re.M)
    assert 'ENTRYPOINT ["lumbar"]' in last
    versions = set(re.findall(r"^FROM python:(\d\.\d+)", INSTRUCTIONS, flags=re.M))
    assert versions == {"3.11"}


def test_each_part_of_the_lock_is_whole_and_pinned(tmp_path: Path) -> None:
    lock = ROOT / "requirements.lock"
    running, developing = direct_requirements(ROOT / "pyproject.toml")
    parts = {}
    for purpose in PURPOSES:
        part = tmp_path / f"{purpose}.lock"
        part.write_text("\n".join(lines_of(lock, needed_for(purpose, read_lock(lock), running))), encoding="utf-8")
        parts[purpose] = {pin.name for pin in read_lock(part)}
        direct = [r for r in (*running, *developing) if re.split(r"[\[=<>]", r)[0] in parts[purpose]]
        assert faults(read_lock(part), direct) == []
    assert faults(read_lock(tmp_path / "running.lock"), running) == []
    without_torch = [r for r in running if not r.startswith("torch")]
    assert faults(read_lock(tmp_path / "running-cpu.lock"), without_torch) == []
    assert not {"pytest", "ruff", "hatchling"} & parts["running"]
    assert {name for name in parts["running-cpu"] if name.startswith(("nvidia-cu", "cuda", "triton", "torch"))} == set()
    assert {"hatchling", "editables", "uv", "pathspec"} <= parts["tools"]


def test_the_command_prints_its_part(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "benchmarks.supply_chain.subset"]
    done = subprocess.run([*words, "tools"], cwd=ROOT, capture_output=True, text=True, check=True)
    (tmp_path / "tools.lock").write_text(done.stdout, encoding="utf-8")
    assert all(pin.hashes for pin in read_lock(tmp_path / "tools.lock"))
    assert subprocess.run([*words, "other"], cwd=ROOT, capture_output=True, check=False).returncode == 2


def test_the_linter_has_nothing_to_say() -> None:
    linter = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if linter is None:
        pytest.skip("hadolint is not installed")
    done = subprocess.run([linter, str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
