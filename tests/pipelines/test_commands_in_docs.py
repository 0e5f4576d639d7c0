"""Every command of README and docs is right: each is parsed, and the blocks of the pages below are run in order.

Trainings are answered with the run that the demo of these tests has trained on the same data; STAND_INS names all such.
"""

import argparse
import contextlib
import io
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.cli import build_parser, main
from tests.pipelines.test_words import COMMANDS

ROOT = Path(__file__).parents[2]
PAGES = sorted(p for p in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")] if p.name != "CHANGELOG.md")
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", flags=re.S | re.M)
_INLINE = re.compile(r"`(lumbar [^`]+)`")

# Pages whose blocks are run, and what of an earlier page they begin with.
RUN: dict[str, tuple[str, ...]] = {
    "README.md": (),
    "docs/tutorials/submission.md": (),
    "docs/tutorials/own-scans.md": (),
    "docs/tutorials/outputs.md": (),
    "docs/tutorials/own-grades.md": (),
    "docs/tutorials/series-kind.md": (),
    "docs/show.md": ("prediction", "points.csv"),
}
# Lines that are not run here, with the reason. Commands of lumbar among them are parsed all the same.
NOT_RUN = {
    r"make (demo|test)\b": "the tests themselves; CI runs both",
    r"\. \.venv/bin/activate": "changes the shell",
    r"pip install": "needs the network",
    r"lumbar localize evaluate|lumbar classify evaluate": "minutes of drawing; both stages test theirs",
    r"lumbar localize predict DATA points": "all training studies; tests/localize runs it",
}
# Commands that are answered with a finished folder of the demo, with the reason.
STAND_INS = {
    "lumbar localize train": ("localizer", "trains for a minute"),
    "lumbar classify train": ("classifier", "trains for a minute"),
    "lumbar predict DATA": ("prediction", "test_end_to_end.py makes it with the same command"),
}
# Commands that several pages have, with the same inputs: each is run once, and its output is copied from then on.
SHARED = (
    "lumbar localize predict scans/ points",
    "lumbar predict scans/ prediction --classifier demo/classifier",
    "lumbar synth example --studies 2 --test-studies 0",
)


def words_of(line: str) -> list[str]:
    return shlex.split(line, comments=True)


def blocks(page: Path, kind: str = "") -> list[str]:
    return [body for language, body in _BLOCK.findall(page.read_text(encoding="utf-8")) if language == kind]


def lines_of(page: Path) -> Iterator[str]:
    """The command lines of a page, with continued lines joined; grammars in brackets and sessions with `$` are none."""
    for body in blocks(page):
        for line in re.sub(r"\\\n\s*", "", body).splitlines():
            if re.match(r"(lumbar|make|pip|python|torchrun|\.) ", line) and not re.search(r" \[-|\.\.\.|[<>]", line):
                yield line


def checked(words: list[str], *, whole: bool) -> None:
    """Raises `AssertionError` unless the words are a command with options that it has; `whole` lines have all paths."""
    name = " ".join(words[1:3]) if " ".join(words[1:3]) in COMMANDS else " ".join(words[1:2])
    if whole or name not in COMMANDS:
        told, code = io.StringIO(), 0
        try:
            with contextlib.redirect_stderr(told), contextlib.redirect_stdout(io.StringIO()):
                build_parser().parse_args(words[1:])
        except SystemExit as end:
            code = int(end.code or 0)
        assert code == 0, told.getvalue().splitlines()[-1]
        return
    known = {option for action in COMMANDS[name]._actions for option in action.option_strings}
    assert {w.partition("=")[0] for w in words if w.startswith("--")} <= known, words


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_command_of_a_page_is_one_that_there_is(page: Path) -> None:
    for line in lines_of(page):
        if line.startswith("lumbar "):
            checked(words_of(line), whole=True)
    prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    for text in _INLINE.findall(prose):
        if not re.search(r"\.\.\.| / |\||[\[(<*]", text):
            words = text.split()
            groups = {n.split()[0] for n in COMMANDS if " " in n}
            if len(words) > 2 or words[1] not in groups:
                checked(words, whole=False)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_option_that_a_page_names_exists(page: Path) -> None:
    ours = {o for p in COMMANDS.values() for a in p._actions for o in a.option_strings} | {"--version"}
    theirs = {
        "--nproc-per-node",
        "--replay",
        "--format",
        "--no-images",
        "--build-arg",
    }  # torchrun, benchmarks/, docker
    if "adr" in page.parts or page.name in ("reliability.md", "performance.md", "scaling.md", "CONTRIBUTING.md"):
        pytest.skip("names options of scripts and of earlier versions")
    prose = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.S | re.M))
    named = {o for text in prose if text.startswith("--") for o in re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)}
    assert named - ours - theirs == set()


class Scratch:
    """A folder in which the commands of one page are run, one after another."""

    def __init__(self, folder: Path, demo: Path, shared: Path) -> None:
        self.folder, self.demo, self.shared = folder, demo, shared
        study = min((demo / "data" / "test_images").iterdir())
        self.study = study.name
        (folder / "scans").mkdir()
        (folder / "scans" / "patient_1").symlink_to(study)
        for name, target in (
            ("DATA", demo / "data"),
            ("STORE", demo / "data"),
            ("demo", demo),
            ("configs", ROOT / "configs"),
        ):
            (folder / name).symlink_to(target)
        headers = next(p for p in study.rglob("*.dcm"))
        self.uids = _uids(headers)

    def give(self, name: str) -> None:
        """What the page takes from an earlier one."""
        if name.endswith(".csv"):
            shutil.copy(self.demo / "prediction" / "localizations.csv", self.folder / name)
        else:
            shutil.copytree(self.demo / name, self.folder / name)

    def run(self, line: str) -> str:
        """Runs a line of a page as it is written, with real ids; returns what it was answered with."""
        reason = next((why for pattern, why in NOT_RUN.items() if re.match(pattern, line)), None)
        words = self.with_ids(words_of(line))
        a = build_parser().parse_args(words[1:]) if words[0] == "lumbar" else argparse.Namespace()
        if reason is not None:
            return "not run"
        for begin, (name, _) in STAND_INS.items():
            if line.startswith(begin):
                shutil.copytree(self.demo / name, getattr(a, "run", None) or a.out)
                return name
        if words[:2] == ["lumbar", "prepare"]:
            (self.folder / "STORE").unlink()
        kept = self.shared / " ".join(words).replace("/", "_")
        if kept.is_dir():
            shutil.copytree(kept, a.out)
            return "run"
        told = io.StringIO()
        with contextlib.redirect_stderr(told), contextlib.redirect_stdout(io.StringIO()):
            code = main(words[1:])
        assert code == 0, (line, told.getvalue()[-600:])
        if " ".join(words) in SHARED:
            shutil.copytree(a.out, kept)
        return "run"

    def with_ids(self, words: list[str]) -> list[str]:
        """Puts the study's ids where the page has a name for them or those of an example."""
        of_folder = "scans/" in words
        study = self.uids["StudyInstanceUID"] if of_folder else self.study
        predicted = {"--prediction", "--localizations"} & set(words)
        annotated = min(p.name for p in (self.demo / "data" / "train_images").iterdir())
        example = self.study if predicted else annotated
        examples = {"STUDY_ID": study, "4003253": example, "4096": self.study}
        words = [examples.get(word, word) for word in words]
        words = [w.replace("data/data", "DATA").replace("data/truth", "demo/truth") for w in words]
        if "702807833" in words:
            series = (self.demo / "data" / "train_images" / annotated).iterdir()
            words[words.index("702807833")] = min(p.name for p in series)
        return [re.sub(r"(\w+)=SERIES_ID", lambda m: f"{m[1]}={self.uids[m[1]]}", word) for word in words]


def _uids(file: Path) -> dict[str, str]:
    """The study's UID, and one series of each view."""
    import pydicom

    from shared.data.source import open_source

    found = open_source(file.parents[1])
    uids = {s.view.slug: s.series_id for s in found.load(found.study_ids[0]).study.series}
    return {"StudyInstanceUID": str(pydicom.dcmread(file, stop_before_pixels=True).StudyInstanceUID), **uids}


@pytest.fixture(scope="module")
def shared_outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared")


@pytest.fixture
def scratch(tiny_demo: Path, shared_outputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scratch:
    monkeypatch.chdir(tmp_path)
    return Scratch(tmp_path, tiny_demo, shared_outputs)


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("name", RUN)
def test_the_commands_of_a_page_run_in_order(name: str, scratch: Scratch) -> None:
    for given in RUN[name]:
        scratch.give(given)
    answered = {line: scratch.run(line) for line in lines_of(ROOT / name)}
    assert "run" in answered.values()


def test_every_reason_not_to_run_a_line_is_still_needed() -> None:
    lines = [line for name in RUN for line in lines_of(ROOT / name)]
    for pattern in NOT_RUN:
        assert pattern == "pip install" or any(re.match(pattern, line) for line in lines), pattern
    for begin in STAND_INS:
        assert any(line.startswith(begin) for line in lines), begin
    for shared in SHARED:
        assert sum(" ".join(words_of(line)) == shared for line in lines) > 1, shared


def test_the_python_of_the_tutorial_runs(scratch: Scratch, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = blocks(ROOT / "docs/tutorials/own-scans.md", "python")
    exec(compile(code, "own-scans.md", "exec"), {})
    assert "spinal_canal_stenosis_l1_l2" in capsys.readouterr().out
    assert (scratch.folder / "patient_1.html").stat().st_size > 10_000
