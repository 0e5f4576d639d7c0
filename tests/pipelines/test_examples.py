"""The examples run as they are written, and the README's Python does too."""

import re
import runpy
import sys
from pathlib import Path

import cv2
import pytest

ROOT = Path(__file__).parents[2]


def run(example: str, *arguments: object) -> None:
    """Runs it as a program, but here, where what it imports is loaded."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [example, *map(str, arguments)])
        runpy.run_path(str(ROOT / "examples" / example), run_name="__main__")


def first_study(demo: Path, part: str) -> str:
    return sorted(p.name for p in (demo / "data" / f"{part}_images").iterdir())[0]


def test_a_study_is_graded(tiny_demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tiny_demo / "data" / "test_images" / first_study(tiny_demo, "test")
    run("grade_study.py", folder, tiny_demo / "localizer", tiny_demo / "classifier", tmp_path / "out.png")
    assert len(capsys.readouterr().out.splitlines()) >= 11
    assert cv2.imread(str(tmp_path / "out.png")) is not None


def test_data_are_explored(tiny_demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("explore_data.py", tiny_demo / "data")
    text = capsys.readouterr().out
    assert "10 studies" in text
    assert "Spinal canal" in text
    assert "Axial T2: " in text


def test_crops_are_shown(tiny_demo: Path, tmp_path: Path) -> None:
    run("show_crops.py", tiny_demo / "data", first_study(tiny_demo, "train"), tmp_path / "out.png")
    picture = cv2.imread(str(tmp_path / "out.png"), cv2.IMREAD_GRAYSCALE)
    assert picture is not None
    assert picture.shape == (5 * 128, 5 * 128)
    assert picture.std() > 5


def test_the_readmes_python_runs(
    tiny_demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(code.strip().splitlines()) <= 10
    (tmp_path / "demo").symlink_to(tiny_demo)
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "patient_1").symlink_to(tiny_demo / "data" / "test_images" / first_study(tiny_demo, "test"))
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    assert "spinal_canal_stenosis_l1_l2" in capsys.readouterr().out
    assert (tmp_path / "patient_1.html").is_file()
