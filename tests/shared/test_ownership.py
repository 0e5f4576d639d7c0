"""Only folders of ours are emptied, and one process writes to a folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shared.runtime.errors import InputError
from shared.runtime.files import empty_folder, prepare_output, write_json
from shared.runtime.ownership import MARKER, is_empty, is_ours, outputs_released
from shared.runtime.run_folder import RunFolder, write_run

ROOT = Path(__file__).parents[2]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("flag", ["", "overwrite", "resume"])
@pytest.mark.parametrize("name", ["thesis.docx", ".bashrc", "run.json", "report.json", "store.json", MARKER])
def test_a_folder_of_somebody_else_is_refused(tmp_path: Path, name: str, flag: str) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_text('{"kind": "marathon", "command": "run", "version": 3}')
    with pytest.raises(InputError, match="no command of lumbar made it"):
        prepare_output(out, overwrite=flag == "overwrite", resume=flag == "resume")
    assert [p.name for p in out.iterdir()] == [name]


def test_folders_of_earlier_versions_are_known_by_their_content(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_run(out, command="predict", started=0.0, kind="predict")
    assert is_ours(out)
    assert is_empty(prepare_output(out, overwrite=True))
    write_json(out / "state.json", {"config": {}, "data": "", "splits": []})
    (out / MARKER).unlink()
    assert prepare_output(out, resume=True)


def test_what_a_user_has_put_into_our_folder_stays(tmp_path: Path) -> None:
    out = prepare_output(tmp_path / "out")
    write_json(out / "run.json", {})
    (out / "results.xlsx").write_text("mine")
    with pytest.raises(InputError, match=r"holds 'results.xlsx', which no command"):
        prepare_output(out, overwrite=True)
    assert (out / "results.xlsx").read_text() == "mine"
    assert (out / "run.json").exists()


@pytest.mark.parametrize(
    "mine",
    ["data/thesis.tex", "reports/chapter.docx", "data/anna/IM0001.dcm", "studies/notes.txt", "prediction/data/cv.pdf",
     "work/thesis.csv", "png/scan.tif", "truth/of/life.csv"],
)  # fmt: skip
def test_what_a_user_keeps_under_one_of_our_names_stays(tmp_path: Path, mine: str) -> None:
    out = prepare_output(tmp_path / "out")
    write_json(out / "run.json", {})
    (out / mine).parent.mkdir(parents=True)
    (out / mine).write_text("mine")
    with pytest.raises(InputError, match=f"holds '{mine}', which no command"):
        prepare_output(out, overwrite=True)
    assert contents(out).keys() == {MARKER, "run.json", mine}


def test_links_are_removed_and_never_followed(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis").write_text("x")
    out = prepare_output(tmp_path / "out")
    (out / "studies").symlink_to(mine)
    (out / "work").mkdir()
    (out / "work" / "inner").symlink_to(mine)
    assert is_empty(prepare_output(out, overwrite=True))
    (tmp_path / "parent").symlink_to(mine)
    assert is_empty(prepare_output(tmp_path / "parent" / "new"))
    assert contents(mine).keys() == {"thesis", f"new/{MARKER}"}
    (mine / MARKER).symlink_to(out / MARKER)
    with pytest.raises(InputError, match="no command of lumbar"):
        prepare_output(mine, overwrite=True)


def test_a_kill_while_a_folder_is_emptied_leaves_it_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    write_run(out, command="predict", kind="predict", started=0.0)
    write_json(out / "studies" / "1.json", {})

    def killed(path: Path) -> None:
        (out / "run.json").unlink(missing_ok=True)
        raise KeyboardInterrupt

    monkeypatch.setattr("shared.runtime.files.remove", killed)
    with pytest.raises(KeyboardInterrupt):
        prepare_output(out, overwrite=True)
    monkeypatch.undo()
    assert is_empty(prepare_output(out, overwrite=True))


def test_outputs_do_not_lie_among_the_images(tmp_path: Path) -> None:
    images = tmp_path / "train_images"
    images.mkdir()
    with pytest.raises(InputError, match="among the images"):
        prepare_output(images / "new", inputs=[tmp_path])
    assert list(images.iterdir()) == []
    empty_folder(tmp_path / "none")


def test_one_process_writes_to_a_folder(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from shared.runtime.files import prepare_output\n"
        "out = prepare_output(Path(sys.argv[1]), shared=bool(sys.argv[2])); print('held', flush=True); sys.stdin.read()"
    )

    def other(folder: Path, *, shared: bool = False) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", program, str(folder), "yes" if shared else ""]
        process = subprocess.Popen(
            command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        return process

    out, run = tmp_path / "out", tmp_path / "run"
    alone, trains = other(out), other(run, shared=True)
    try:
        for overwrite in (False, True):
            with pytest.raises(InputError, match="another process is writing"), outputs_released():
                prepare_output(out, overwrite=overwrite, resume=not overwrite, shared=not overwrite)
        with pytest.raises(InputError, match="another process is writing"), outputs_released():
            prepare_output(run, overwrite=True)
        with outputs_released():
            prepare_output(run, resume=True, shared=True)
    finally:
        for process in (alone, trains):
            process.kill()
            process.communicate()
    with outputs_released():
        prepare_output(out, resume=True)


def test_the_lock_of_a_fold_is_its_own(tmp_path: Path) -> None:
    with outputs_released():
        RunFolder(path=tmp_path / "run", kind="localize", last_file="metrics.json").claim_fold(1)
        assert is_ours(tmp_path / "run" / "fold1")
