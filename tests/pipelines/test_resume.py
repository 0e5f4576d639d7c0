"""Interrupted commands over many studies keep what they finished, and end in the bytes of one that ran through."""

import filecmp
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from pipelines.cli import main
from pipelines.demo import DemoOptions, grade_unseen
from shared.runtime.documents import read_json
from shared.runtime.unfinished import Results

# Of run.json only the times may differ, and the commit where somebody commits meanwhile.
TIMES = ("started", "seconds", "git_commit")
KEEPS = 2


def interrupted_at(count: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Interrupts the command as it keeps its third study; returns the list of studies that were kept since."""
    kept: list[str] = []
    write = Results.write

    def interrupt(self: Results[Any], name: str, key: str, result: Any) -> None:
        if len(kept) == count:
            raise KeyboardInterrupt
        write(self, name, key, result)
        kept.append(name)

    monkeypatch.setattr(Results, "write", interrupt)
    return kept


def same_bytes(one: Path, other: Path) -> None:
    trees = [sorted(str(p.relative_to(root)) for p in root.rglob("*")) for root in (one, other)]
    assert trees[0] == trees[1]
    for name in trees[0]:
        if (one / name).is_file() and name != "run.json":
            assert filecmp.cmp(one / name, other / name, shallow=False), name
    if (one / "run.json").is_file():
        runs = [{k: v for k, v in read_json(root / "run.json").items() if k not in TIMES} for root in (one, other)]
        assert runs[0] == runs[1]


@pytest.fixture(scope="module")
def words(tiny_demo: Path) -> dict[str, list[str]]:
    """Each command, with `{out}` for its output folder."""
    data, localizer, classifier = (str(tiny_demo / name) for name in ("data", "localizer", "classifier"))
    points = str(tiny_demo / "prediction" / "localizations.csv")
    device = ["--device", "cpu"]
    return {
        "predict": ["predict", data, "{out}", "--localizer", localizer, "--classifier", classifier, *device],
        "localize predict": ["localize", "predict", data, localizer, "{out}", *device],
        "classify predict": ["classify", "predict", data, classifier, "{out}", "--localizations", points, *device],
        "audit": ["audit", data, "{out}", "--part", "test", "--workers", "1"],
    }


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("command", ["predict", "localize predict", "classify predict", "audit"])
def test_an_interrupted_command_ends_in_the_same_bytes(
    command: str, tiny_demo: Path, words: dict[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def run(out: Path, *flags: str) -> int:
        return main([word.format(out=out) for word in words[command]] + list(flags))

    whole, broken = tmp_path / "whole", tmp_path / "broken"
    if command == "predict":
        whole = tiny_demo / "prediction"  # made by a demo that nobody interrupted
    else:
        assert run(whole) == 0
    with monkeypatch.context() as patch:
        assert len(interrupted_at(KEEPS, patch)) == 0
        assert run(broken) == 130
        assert "go on with --resume" in capsys.readouterr().err
    assert len(list((broken / "unfinished" / "results").iterdir())) == KEEPS
    with monkeypatch.context() as patch:
        again = interrupted_at(99, patch)
        assert run(broken, "--resume") == 0
        assert len(again) == 1
    same_bytes(whole, broken)
    changed = {p: p.stat().st_mtime_ns for p in broken.rglob("*")}
    assert run(broken, "--resume") == 0
    assert {p: p.stat().st_mtime_ns for p in broken.rglob("*")} == changed
    assert main([word.format(out=broken) for word in words["audit" if command != "audit" else "predict"]]) == 1


def test_an_interrupted_demo_keeps_the_studies_that_it_has_graded(
    tiny_demo: Path, tiny_options: DemoOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("data", "localizer", "classifier"):
        (tmp_path / name).symlink_to(tiny_demo / name)
    with monkeypatch.context() as patch:
        interrupted_at(KEEPS, patch)
        with pytest.raises(KeyboardInterrupt):
            grade_unseen(tmp_path, tiny_options)
    again = interrupted_at(99, monkeypatch)
    results = grade_unseen(tmp_path, tiny_options)
    assert len(again) == 1
    assert all(result.study.series for result in results)
    assert filecmp.cmp(tmp_path / "submission.csv", tiny_demo / "submission.csv", shallow=False)


def test_studies_whose_files_changed_are_graded_again(
    tiny_demo: Path, words: dict[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = Path(shutil.copytree(tiny_demo / "data", tmp_path / "data"))
    out = str(tmp_path / "out")
    audit = ["audit", str(data), out, "--part", "test", "--workers", "1", "--pixels", "none"]
    with monkeypatch.context() as patch:
        interrupted_at(KEEPS, patch)
        assert main(audit) == 130
    first = sorted((data / "test_images").iterdir())[0]
    victim = sorted(first.rglob("*.dcm"))[0]
    before = victim.stat()
    victim.write_bytes(b"x" * before.st_size)
    os.utime(victim, ns=(before.st_atime_ns, before.st_mtime_ns))  # its size and date do not tell
    again = interrupted_at(99, monkeypatch)
    assert main([*audit, "--resume"]) == 0
    assert sorted(again) == sorted(f"test-{p.name}" for p in (first, sorted((data / "test_images").iterdir())[2]))
    assert "file-unreadable" in (tmp_path / "out" / "findings.csv").read_text()


def test_a_resumed_command_is_the_same_command(
    words: dict[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    audit = [word.format(out=out) for word in words["audit"]]
    interrupted_at(1, monkeypatch)
    assert main(audit) == 130
    capsys.readouterr()
    assert main([*audit, "--resume", "--pixels", "none"]) == 1
    assert "cannot resume, pixels changed since the run began" in capsys.readouterr().err
    assert main([word.format(out=out) for word in words["localize predict"]] + ["--resume"]) == 1
    assert "cannot resume, command" in capsys.readouterr().err
    assert main(audit) == 1
    assert "is not empty" in capsys.readouterr().err
