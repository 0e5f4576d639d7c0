import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import Field

from shared.figures.report import Report
from shared.runtime.config import Config
from shared.runtime.documents import read_json
from shared.runtime.errors import InputError, exit_code
from shared.runtime.files import inside, prepare_output, write_json, written_beside
from shared.runtime.run_folder import read_run, write_run


class Train(Config):
    epochs: int = Field(default=3, ge=1)
    rate: float = 0.5


class Example(Config):
    seed: int = 0
    train: Train = Train()
    other: Train = Train(epochs=7, rate=0.125)


def test_config_file_overrides_and_round_trip(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("seed = 4\n[train]\nepochs = 9\n")
    config = Example.load(tmp_path / "c.toml", ("train.rate=0.25", "seed=5"))
    assert (config.seed, config.train.epochs, config.train.rate) == (5, 9, 0.25)
    config.save(tmp_path / "resolved.toml")
    assert Example.load(tmp_path / "resolved.toml") == config


def test_a_partial_section_keeps_the_section_s_other_defaults() -> None:
    assert Example.load(None, ("other.epochs=8",)).other == Train(epochs=8, rate=0.125)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epoch=3", "did you mean 'train.epochs'"),
        ("train.epochs=0", "train.epochs = 0"),
        ("train.epochs=many", "train.epochs = 'many'"),
        ("nonsense", "expected key=value"),
        ("seed.deep.er=3", "seed"),
    ],
)
def test_bad_config_values_say_where(override: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Example.load(None, (override,))


def test_config_file_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.toml"):
        Example.load(tmp_path / "none.toml")


def test_output_folder_rules(tmp_path: Path) -> None:
    out = prepare_output(tmp_path / "out")
    write_json(out / "run.json", {})
    with pytest.raises(InputError, match="--overwrite"):
        prepare_output(out)
    assert (prepare_output(out, resume=True) / "run.json").exists()
    assert not (prepare_output(out, overwrite=True) / "run.json").exists()
    (out / "data").mkdir()
    with pytest.raises(InputError, match="would delete"):
        prepare_output(out, overwrite=True, inputs=[out / "data"])
    with pytest.raises(InputError, match="would delete"):
        prepare_output(Path.cwd(), overwrite=True)
    assert (out / "data").is_dir()
    (tmp_path / "file").write_text("x")
    for target in ("file", "link"):
        (tmp_path / "link").unlink(missing_ok=True)
        (tmp_path / "link").symlink_to(out)
        with pytest.raises(InputError, match="is a file or a link"):
            prepare_output(tmp_path / target, overwrite=True)


def test_an_interrupted_command_names_resume_only_where_it_has_it(capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> int:
        raise KeyboardInterrupt

    assert exit_code(interrupted) == 130
    assert "--resume" not in capsys.readouterr().err
    assert exit_code(interrupted, resumable=True) == 130
    assert "--resume" in capsys.readouterr().err


def test_a_full_disk_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.csv"

    def full() -> int:
        with written_beside(path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # as a write does: without the name

    assert exit_code(full, resumable=True) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {path}: No space left on device; free some space")
    assert error.endswith("go on with --resume\n")
    assert exit_code(full) == 1
    assert "--resume" not in capsys.readouterr().err


def test_a_lack_of_memory_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def lacking() -> int:
        raise ImportError("libtorch.so: failed to map segment from shared object")

    assert exit_code(lacking) == 1
    assert "no more memory" in capsys.readouterr().err
    with pytest.raises(ImportError, match="other"):
        exit_code(lambda: (_ for _ in ()).throw(ImportError("other")))


def test_a_newline_in_a_path_makes_no_second_line() -> None:
    assert str(InputError("a\nb/c: is bad")) == "a\\nb/c: is bad"


def test_nothing_half_written(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(UnicodeEncodeError), written_beside(path) as temporary:
        temporary.write_text("half" + chr(0xD800), encoding="utf-8")
    assert read_json(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", "."])
def test_names_from_data_stay_inside(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="unsafe"):
        inside(tmp_path, name)


def test_run_folder_rules(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such run folder"):
        read_run(tmp_path / "nowhere", expected_kind="localize")
    with pytest.raises(InputError, match="is an empty folder; expected the run folder"):
        read_run(tmp_path, expected_kind="localize")
    write_run(tmp_path, command="x", started=0.0, kind="classify", data_fingerprint="a", folds=[0])
    with pytest.raises(
        InputError, match="is what `lumbar classify train` wrote; expected the run folder of `lumbar localize train`"
    ):
        read_run(tmp_path, expected_kind="localize")
    assert read_run(tmp_path, expected_kind="classify")["command"] == "x"


def test_report_is_one_file_and_escapes(tmp_path: Path) -> None:
    report = Report("<b>title</b>", "summary", data={"n": 1})
    report.table(["a"], [[1.23456], [None], ["<script>"]])
    page = report.save(tmp_path).read_text()
    assert "1.235" in page
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "Not a medical device" in page
    assert read_json(tmp_path / "report.json") == {"n": 1}


def test_overwrite_needs_no_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    (prepare_output(tmp_path / "out") / "run.json").touch()
    assert not (prepare_output(tmp_path / "out", overwrite=True) / "run.json").exists()


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_no_file_takes_the_place_of_a_closed_stream(tmp_path: Path, closed: str) -> None:
    program = (
        "import os, subprocess, sys; from shared.runtime.errors import exit_code\n"
        "def command():\n"
        "    with open(sys.argv[1], 'w') as file:\n"
        "        sys.stdout.write('printed'); sys.stderr.write('printed')\n"
        "        os.system('echo printed; echo printed >&2')\n"
        "        file.write('kept')\n"
        "    return 3\n"
        "sys.exit(exit_code(command))"
    )
    shell = ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-c", program, str(tmp_path / "file")]
    root = Path(__file__).parents[2]
    done = subprocess.run(shell, env={**os.environ, "PYTHONPATH": str(root)}, capture_output=True, check=False)
    assert done.returncode == 3
    assert (tmp_path / "file").read_text() == "kept"
