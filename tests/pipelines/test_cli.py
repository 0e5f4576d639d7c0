import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.cli import build_parser, main

COMMANDS = [
    [], ["demo"], ["synth"], ["audit"], ["prepare"], ["show"], ["series"], ["splits"],
    ["predict"], ["evaluate"], ["info"], ["localize"], ["localize", "train"],
    ["localize", "predict"], ["localize", "evaluate"], ["classify"], ["classify", "train"], ["classify", "predict"],
    ["classify", "evaluate"],
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*command, "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert "usage: lumbar" in text
    assert "None" not in text


def test_the_command_line_loads_nothing_heavy() -> None:
    code = (
        "import sys; from pipelines.cli import build_parser; build_parser();"
        "heavy = ('torch', 'ultralytics', 'pandas', 'numpy', 'cv2', 'pydicom', 'matplotlib');"
        "print([m for m in heavy if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_bad_usage_exits_2(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["nonsense"], [], ["predict", "only-data"], ["synth", "out", "--preset", "huge"]):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2
    assert "usage" in capsys.readouterr().err


def bad_inputs(tmp_path: Path) -> list[tuple[list[str], str]]:
    nowhere, empty, full = tmp_path / "nowhere", tmp_path / "empty", tmp_path / "full"
    empty.mkdir()
    full.mkdir()
    (full / "x").write_text("x")
    no_run = ["--localizer", str(nowhere), "--classifier", str(nowhere)]
    empty_run = ["--localizer", str(empty), "--classifier", str(empty)]
    return [
        (["splits", str(nowhere), str(tmp_path / "s.json")], "no such folder"),
        (["splits", str(empty), str(tmp_path / "s.json")], "series_descriptions.csv"),
        (["splits", str(empty), str(full)], "exists already"),
        (["synth", str(full)], "not empty"),
        (["demo", str(full)], "not empty"),
        (["demo", str(tmp_path / "d"), "--studies", "3"], "at least 10"),
        (["predict", str(empty), str(tmp_path / "o"), *no_run], "--localizer RUN: run folder"),
        (["predict", str(empty), str(tmp_path / "o"), *empty_run], "is an empty folder; expected the run folder"),
        (["evaluate", str(nowhere), str(empty), str(tmp_path / "o")], "expected SUBMISSION: submission.csv"),
        (["localize", "train", str(nowhere), str(tmp_path / "r")], "no such folder"),
        (["localize", "predict", str(empty), str(empty), str(tmp_path / "o")], "no readable DICOM image"),
        (["classify", "train", str(nowhere), str(tmp_path / "r")], "no such folder"),
        (["classify", "train", str(empty), str(tmp_path / "r"), "--set", "train.epoch=3"], "did you mean"),
    ]  # fmt: skip


def test_bad_input_exits_1_with_one_line_of_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, message in bad_inputs(tmp_path):
        assert main(arguments) == 1, arguments
        *begun, error = capsys.readouterr().err.strip().splitlines()
        assert error.startswith("error: "), (arguments, error)
        assert message in error, (arguments, error)
        assert len(begun) <= 1, begun
        assert "Traceback" not in error
    assert not (tmp_path / "o").exists()
    assert not (tmp_path / "r").exists()


def test_info_for_people_and_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "--json"]) == 0
    info = json.loads(capsys.readouterr().out)
    assert len(info["findings"]) == 25
    assert info["packages"]["torch"]
    assert main(["info"]) == 0
    assert "25 findings" in capsys.readouterr().out


def test_info_names_what_the_package_needs_and_does_not_find(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    needed = ["numpy>=1.0", "numpy>=99", "no-such-package>=1; extra == 'dev'", "no-such-package>=2"]
    monkeypatch.setattr("importlib.metadata.requires", lambda name: needed)
    assert main(["info"]) == 0
    told = [line for line in capsys.readouterr().out.splitlines() if "unmet" in line]
    assert told[0].startswith("  unmet: numpy>=99, found ")
    assert told[1:] == ["  unmet: no-such-package>=2, found none"]


def test_info_imports_no_torch() -> None:
    code = "import sys; from pipelines.cli import main; main(['info']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        build_parser().parse_args(["--version"])
    assert caught.value.code == 0
    assert "lumbar-severity" in capsys.readouterr().out
