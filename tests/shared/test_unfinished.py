"""What is kept of an interrupted command: believed only where it is whole and of the same input."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.labels import FINDINGS, Finding
from shared.runtime.errors import InputError
from shared.runtime.files import prepare_output, sweep_temporary, written_beside
from shared.runtime.ownership import MARKER, outputs_released
from shared.runtime.run_folder import RunFolder
from shared.runtime.unfinished import Results, ResumableOutput


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    value: float
    finding: Finding
    pairs: tuple[tuple[str, float], ...] = ()
    name: str | None = None


ANSWER = Answer(value=0.1 + 0.2, finding=FINDINGS[7], pairs=(("a", 1e-300), ("b", -0.0)), name="ä")


@pytest.fixture
def kept(tmp_path: Path) -> Results[Answer]:
    results = Results(folder=tmp_path, kind=Answer)
    results.write("1.2", "key", ANSWER)
    return results


def never() -> Answer:
    raise AssertionError("was made again")


@given(value=st.floats(allow_nan=False), name=st.text())
def test_what_is_read_back_is_what_was_kept(value: float, name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    answer = Answer(value=value, finding=FINDINGS[0], pairs=((name, value),), name=name)
    results = Results(folder=tmp_path_factory.getbasetemp() / "kept", kind=Answer)
    assert results.fetch("1", name, lambda: answer) == answer
    results.folder.joinpath("1.jsonl").unlink()


def test_a_number_that_is_none_is_kept(kept: Results[Answer]) -> None:
    made = kept.fetch("2", "", lambda: Answer(value=math.nan, finding=FINDINGS[0]))
    assert math.isnan(made.value)


def test_a_result_of_another_input_is_made_again(kept: Results[Answer]) -> None:
    assert kept.fetch("1.2", "key", never) == ANSWER
    assert kept.read("1.2", "other") is None
    assert kept.read("1.3", "key") is None


def test_a_damaged_result_is_made_again(kept: Results[Answer], tmp_path: Path) -> None:
    path = tmp_path / "1.2.jsonl"
    whole = path.read_bytes()
    head, body = whole.split(b"\n")
    damaged: list[bytes] = [
        b"",
        b"{}",
        b"\xff" * 40,
        head,
        body,
        b"[" * 10**5,
        whole.replace(b"0.3", b"0.4"),
        whole + b" ",
    ]
    damaged += [whole[:cut] for cut in range(0, len(whole), 7)]
    for content in damaged:
        path.write_bytes(content)
        assert kept.read("1.2", "key") is None, content[:80]
    path.write_bytes(whole)
    assert kept.read("1.2", "key") == ANSWER


def test_a_result_of_another_kind_is_made_again(kept: Results[Answer]) -> None:
    @dataclass(frozen=True)
    class Other:
        count: int

    assert Results(folder=kept.folder, kind=Other).read("1.2", "key") is None


def test_names_cannot_lead_out_of_the_folder(kept: Results[Answer]) -> None:
    with pytest.raises(InputError, match="unsafe name"):
        kept.write("../1", "", ANSWER)


def begin(out: Path, **state: Any) -> bool:
    return ResumableOutput(path=out, command="predict").begin(state, overwrite=False, resume=True, inputs=[])


def test_an_output_is_resumed_only_as_it_was_begun(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert not begin(out, data="a", tta=False)
    assert not begin(out, data="a", tta=False)
    with pytest.raises(InputError, match="cannot resume, data and tta changed since the run began"):
        begin(out, data="b", tta=True)
    with pytest.raises(InputError, match="is not empty"):
        ResumableOutput(path=out, command="predict").begin({}, overwrite=False, resume=False, inputs=[])
    ResumableOutput(path=out, command="predict").finish()
    assert begin(out, data="a", tta=False)
    assert "finished already" in capsys.readouterr().err
    with pytest.raises(InputError, match="cannot resume, command changed"):
        ResumableOutput(path=out, command="audit").begin({}, overwrite=False, resume=True, inputs=[])
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").touch()
    with pytest.raises(InputError, match="nothing in it can be resumed"):
        begin(foreign)
    own = prepare_output(tmp_path / "own")
    (own / "splits.json").touch()
    with pytest.raises(InputError, match="this is not a run of `lumbar predict`"):
        begin(own)


def test_what_a_killed_process_left_is_swept_and_hinders_nobody(tmp_path: Path) -> None:
    prepare_output(tmp_path)
    with written_beside(tmp_path / "own.json") as own:
        own.touch()
        dead = own.with_name(own.name.replace(str(own.name.split(".")[-2]), "999999999"))
        folder = dead.with_name(dead.name.replace("own", "folder"))
        dead.touch()
        folder.mkdir()
        (folder / "weights").touch()
        assert not begin(tmp_path)
        assert own.exists()
        assert not dead.exists()
        assert not folder.exists()
    (tmp_path / ".mine.tmp").touch()
    sweep_temporary(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"own.json", ".mine.tmp", "state.json", MARKER}


@outputs_released()
def test_only_a_locked_fold_is_swept_of_a_run_that_processes_share(tmp_path: Path) -> None:
    """A process of another machine that trains another fold looks as if it were not running."""
    run = RunFolder(path=tmp_path, kind="classify", last_file="model.json")
    left = [tmp_path / ".config.toml.999999999.tmp", *(run.fold(k) / ".a.json.999999999.tmp" for k in (0, 1))]
    for path in left:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    run.claim({}, resume=False)
    run.claim({}, resume=True)
    assert [path.exists() for path in left] == [False, True, True]
    run.claim_fold(0)
    assert [path.exists() for path in left] == [False, False, True]
