"""What is wrong with a command line is told before torch is loaded, and nothing is written."""

import json
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.pipelines.test_words import COMMANDS

_SCRIPT = """
import contextlib, io, json, sys
from pipelines.cli import main
answers = []
for words in json.load(sys.stdin):
    told = io.StringIO()
    with contextlib.redirect_stderr(told):
        try:
            code = main(words)
        except SystemExit as end:
            code = end.code
    heavy = [name for name in ("torch", "torchvision", "ultralytics") if name in sys.modules]
    answers.append([code, told.getvalue().strip().splitlines()[-1], heavy])
print(json.dumps(answers))
"""


def _answers(lines: list[list[str]], folder: Path) -> list[tuple[int, str, list[str]]]:
    """Exit code, last line and heavy modules after each command line, all in one process."""
    words = [sys.executable, "-c", _SCRIPT]
    done = subprocess.run(words, input=json.dumps(lines), capture_output=True, text=True, check=True, cwd=folder)
    answers: list[tuple[int, str, list[str]]] = json.loads(done.stdout.splitlines()[-1])
    return answers


def _cases(demo: Path, here: Path) -> list[tuple[str, str]]:
    """Command lines that a stranger may type, and what the answer must say."""
    (here / "png").mkdir()
    for number in range(2):
        cv2.imwrite(str(here / "png" / f"{number}.png"), np.zeros((4, 4), np.uint8))
    (here / "full").mkdir()
    (here / "full" / "thesis.txt").write_text("x")
    (here / "text.pt").write_text("x")
    d, one, two, points = (
        f"{demo}/data",
        f"{demo}/localizer",
        f"{demo}/classifier",
        f"{demo}/localizer/localizations.csv",
    )
    return [
        (f"predict {d} o --classifier {one}", "is what `lumbar localize train` wrote; expected the run folder"),
        (f"predict {d} o --classifier {two} --localizer {two}", "is what `lumbar classify train` wrote"),
        (f"predict {d} o --classifier {two}/fold0", f"is one fold of a run; give the run itself, {two}"),
        (f"predict {d} o --classifier {demo}", f"perhaps {two}"),
        (f"predict {d} o --classifier {two}/out_of_fold.csv", f"is a file; expected the run folder of a finished "
         f"`lumbar classify train`, perhaps {two}"),
        (f"predict {d} o --classifier full", "is no run (it holds no run.json)"),
        (f"predict {d} full --classifier {two}", "no command of lumbar made it"),
        (f"predict png o --classifier {two}", "holds 2 PNG pictures, not DICOM files"),
        (f"predict png/0.png o --classifier {two}", "is a PNG picture, not DICOM"),
        (f"predict {d} o --classifier {two} --series axial=1", "--series"),
        (f"localize predict {d} {one}/fold0 o", f"is one fold of a run; give the run itself, {one}"),
        (f"localize predict {d} {one} full", "no command of lumbar made it"),
        (f"localize predict {d} {one} o --fold 7", "fold 7 was not trained"),
        (f"localize predict {d} {one} o --set slice.focused=false", "expected a key of chain, axial, slices"),
        (f"localize predict {d} {one} o --set slices.focussed=false", "did you mean 'slices.focused'?"),
        ("localize predict png o", "holds 2 PNG pictures, not DICOM files"),
        (f"localize evaluate {d} {two} o", "is what `lumbar classify train` wrote"),
        (f"localize evaluate {d} {one} o --set chain.min_score=0.1", "pass --truth"),
        (f"localize convert {two} o", "is what `lumbar classify train` wrote"),
        (f"localize train {d} r --set model.backbone=resnet18", "key 'model.backbone'; [model] has "
         "architecture"),
        (f"localize train {d} r --weights none.pt", "starting weights 'none.pt': no such file"),
        (f"localize train {d} r --weights text.pt", "the file holds no weights"),
        (f"localize train {d} r --weights text.pt --resume", "the file holds no weights"),
        (f"localize train {d} r --fold 9", "expected all or a number from 0 to 4"),
        ("localize train png r", "challenge"),
        (f"localize train {d} r --splits full/thesis.txt", "thesis.txt"),
        (f"classify train {d} r --set model.architecture=yolo11n.yaml", "key 'model.architecture'; "
         "[model] has"),
        (f"classify train {d} r --weights none.pt", "starting weights 'none.pt': no such file"),
        (f"classify train {d} r --weights text.pt", "the file holds no weights"),
        (f"classify train {d} r --weights text.pt --resume", "the file holds no weights"),
        (f"classify train {d} r --localizations {demo}/submission.csv", "expected RUN/localizations.csv"),
        (f"classify train {d} r --localizations {one}/fold0/localizations.csv", f"give the run itself, {one}"),
        (f"classify train {d} r --localizations {demo}/prediction/localizations.csv", "is what `lumbar predict` wrote"),
        (f"classify train {d} r --errors {one}/run.json", "run.json"),
        (f"classify predict {d} {one} o --localizations {points}", "is what `lumbar localize train` wrote"),
        (f"classify predict {d} {two} o --localizations {points}", "none of the 3 test studies"),
        (f"classify predict {d} {two} o --localizations {demo}/submission.csv", "submission.csv"),
        (f"classify evaluate {d} {one} o", "is what `lumbar localize train` wrote"),
        (f"classify evaluate {d} {two} full", "no command of lumbar made it"),
        (f"evaluate {points} {demo}/truth o", "localizations.csv"),
        (f"evaluate {demo}/submission.csv png o", "test.csv"),
        ("audit png o", "2 PNG pictures"),
        ("series png", "holds 2 PNG pictures, not DICOM files"),
        ("prepare png o", "holds 2 PNG pictures, not DICOM files"),
        ("show png o.png", "holds 2 PNG pictures, not DICOM files"),
        (f"show {d} 12 o.png", "no study '12'"),
        (f"demo o --localize-config {two}/config.toml", "unknown key"),
        ("demo o --studies 3", "at least 10 training"),
        (f"splits {d} full", "exists already"),
    ]  # fmt: skip


def test_what_is_wrong_is_told_before_torch_is_loaded(tiny_demo: Path, tmp_path: Path) -> None:
    cases = _cases(tiny_demo, tmp_path)
    before = sorted(tmp_path.rglob("*"))
    for (line, told), (code, last, heavy) in zip(cases, _answers([c[0].split() for c in cases], tmp_path), strict=True):
        assert code == 1, (line, last)
        assert last.startswith("error: "), (line, last)
        assert told in last, line
        assert heavy == [], line
    assert sorted(tmp_path.rglob("*")) == before


def _seconds_to_first_line(words: list[str], folder: Path) -> tuple[float, str]:
    started = time.monotonic()
    with subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, cwd=folder) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        seconds = time.monotonic() - started
        process.kill()
    return seconds, line


def _least_words(name: str) -> list[str]:
    """The shortest command line that passes the checks before anything is read."""
    words = name.split()
    for action in COMMANDS[name]._actions:
        if action.required:
            words += [*action.option_strings[:1], {"out": "out", "run": "run", "store": "store"}.get(action.dest, "in")]
    return words if name not in ("localize train", "classify train") else [w if w != "run" else "new" for w in words]


@pytest.mark.parametrize("name", COMMANDS, ids=str)
def test_a_command_says_at_once_that_it_begins(name: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "run").mkdir()
    own, _ = _seconds_to_first_line(
        [sys.executable, "-c", "import argparse, tqdm, sys; sys.stderr.write('x')"], tmp_path
    )
    seconds, line = _seconds_to_first_line([sys.executable, "-m", "pipelines.cli", *_least_words(name)], tmp_path)
    assert line.startswith(f"lumbar {name}"), line
    assert seconds < 8 * own + 0.5
