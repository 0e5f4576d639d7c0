"""Shards, joined, are what one process writes; whatever is no full set of shards of one command is refused."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.audit import AuditOptions, audit, audit_shard
from pipelines.prepare.prepare import PrepareOptions, prepare
from shared.data.source import open_source
from shared.data.store import Store
from shared.labels import FINDINGS
from shared.runtime.bulk.shards import Shard, whole
from shared.runtime.documents import read_json
from shared.runtime.errors import InputError
from shared.runtime.files import write_json
from shared.runtime.ownership import outputs_released
from tests.pipelines.bulk.case import (
    StandInMembers,
    merged,
    predicted,
    request_of,
    shards_of,
    stand_in,
    write_studies,
)

ROOT = Path(__file__).parents[3]
# What tells of the run itself, not of the studies.
OWN = ("started", "seconds", "git_commit", "merged_shards")


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def assert_same(one: Path, other: Path) -> None:
    """The same files with the same bytes; of run.json all but what it says of the run itself."""
    trees = tree(one), tree(other)
    assert trees[0].keys() == trees[1].keys()
    assert [n for n in trees[0] if n not in ("run.json", ".lumbar") and trees[0][n] != trees[1][n]] == []
    if (one / "run.json").is_file():
        runs = [{k: v for k, v in read_json(folder / "run.json").items() if k not in OWN} for folder in (one, other)]
        assert list(runs[0].items()) == list(runs[1].items())


@given(items=st.lists(st.integers()), count=st.integers(1, 9))
def test_shards_share_out_everything_once_and_their_order_can_be_found_again(items: list[int], count: int) -> None:
    shares = [Shard(number=n, of=count).share(items) for n in range(1, count + 1)]
    assert list(whole(shares)) == items
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "1/0", "-1/3", "1/999999", "a/b", "1/3/5", "٣/٣"])
def test_what_is_no_shard(text: str) -> None:
    with pytest.raises(InputError, match="expected K/N"):
        Shard.from_text(text)


@pytest.mark.parametrize("count", [1, 2, 3, 7])
@pytest.mark.parametrize("sample", [False, True])
def test_merged_shards_are_what_one_process_writes(
    count: int, sample: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch)
    data = write_studies(tmp_path / "data")
    if sample:  # in an order of its own, without two rows, and with a study that has no images
        row_ids = [f.row_id(s) for f in FINDINGS for s in ("103", "999", "100", "102", "101", "104")][2:]
        pd.DataFrame({"row_id": row_ids, "normal_mild": 1 / 3, "moderate": 1 / 3, "severe": 1 / 3}).to_csv(
            data / "sample_submission.csv", index=False
        )
    request = request_of(data)
    whole_out = predicted(request, tmp_path / "whole")
    joined = merged(shards_of(request, tmp_path, count), tmp_path / "joined")
    assert_same(whole_out, joined)
    assert read_json(joined / "run.json")["merged_shards"] == count
    # A merged prediction is a finished one.
    before = tree(joined)
    predicted(request, joined, resume=True)
    assert tree(joined) == before


def test_shards_without_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch)
    request = request_of(write_studies(tmp_path / "data"), pages=False)
    joined = merged(shards_of(request, tmp_path, 2), tmp_path / "joined")
    assert_same(predicted(request, tmp_path / "whole"), joined)
    assert not (joined / "index.html").exists()


def _forget(shards: list[Path]) -> list[Path]:
    return [shards[0], shards[2]]


def _twice(shards: list[Path]) -> list[Path]:
    return [*shards, shards[0]]


def _unfinished(shards: list[Path]) -> list[Path]:
    state = shards[1] / "state.json"
    write_json(state, {k: v for k, v in read_json(state).items() if k != "finished"})
    return shards


def _longer(shards: list[Path]) -> list[Path]:
    path = shards[1] / "probabilities.csv"
    path.write_text(path.read_text() + "999,x,1,0,0,model,\n")
    return shards


def _shorter(shards: list[Path]) -> list[Path]:
    path = shards[0] / "probabilities.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    return shards


def _linked(shards: list[Path]) -> list[Path]:
    page = next((shards[0] / "studies").glob("*.json"))
    page.unlink()
    page.symlink_to("/etc/passwd")
    return shards


def _leading_out(shards: list[Path]) -> list[Path]:
    path = shards[0] / "shard.jsonl"
    first = next((shards[0] / "studies").glob("*.json")).stem
    path.write_text(path.read_text().replace(f'"study_id": "{first}"', '"study_id": "../../../victim"'))
    return shards


def _foreign(shards: list[Path]) -> list[Path]:
    return [*shards[:2], Path(shutil.copytree(shards[2].parent / "data", shards[2].parent / "other"))]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_forget, r"1 shard of 3 missing: 3; "),
        (_twice, r"shard2 and .*shard2 are both shard 2/3"),
        (_unfinished, r"shard 3/3 is unfinished; go on with its command and --resume"),
        (_longer, "studies that are none of its shard|not in its place"),
        (_shorter, "has 24 lines, expected 25"),
        (_linked, "outside its folder"),
        (_leading_out, "outside its folder"),
        (_foreign, "state.json"),
    ],
)
def test_what_is_no_full_set_of_shards_is_refused(
    damage: Callable[[list[Path]], list[Path]], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch)
    request = request_of(write_studies(tmp_path / "data"), pages=False)
    shards = damage(shards_of(request, tmp_path, 3))
    with pytest.raises(InputError, match=message):
        merged(shards, tmp_path / "joined")


@pytest.mark.parametrize("what", ["classifier", "tta", "data", "number", "whole"])
def test_shards_of_different_commands_are_refused(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch)
    request = request_of(write_studies(tmp_path / "data"), pages=False)
    one, other = replace(request, shard=Shard(number=1, of=2)), replace(request, shard=Shard(number=2, of=2))
    if what == "classifier":
        other = replace(other, members=StandInMembers("two"))  # type: ignore[arg-type]
    elif what == "tta":
        other = replace(other, tta=True)
    elif what == "data":
        other = replace(other, data=write_studies(tmp_path / "more", 6))
    elif what == "number":
        other = replace(other, shard=Shard(number=2, of=3))
    else:
        other = replace(other, shard=None)
    shards = [predicted(one, tmp_path / "one"), predicted(other, tmp_path / "other")]
    expected = {"number": "merge shards of one number", "whole": "is no shard", "classifier": "other .*classifier"}
    with pytest.raises(InputError, match=expected.get(what, f"was made with other .*{what}")):
        merged(shards, tmp_path / "joined")
    assert not (tmp_path / "joined").exists()


@pytest.mark.parametrize("kind", ["challenge", "folder"])
def test_stores_of_shards_are_joined(kind: str, tmp_path: Path) -> None:
    data = write_studies(tmp_path / "data")
    if kind == "folder":
        data = data / "test_images"
    shards = []
    for n in (2, 1, 3):
        shards.append(tmp_path / f"shard{n}")
        prepare(data, shards[-1], PrepareOptions(shard=Shard(number=n, of=3)))
    with pytest.raises(InputError, match="is shard 2/3 of a store; join all shards with `lumbar merge`"):
        Store.find(shards[0])
    prepare(data, tmp_path / "whole")
    joined = merged(shards, tmp_path / "joined")
    theirs, ours = (read_json(folder / "run.json") for folder in (tmp_path / "whole", joined))
    assert sorted(theirs["problems"]) == sorted(ours["problems"])
    for folder, run in ((tmp_path / "whole", theirs), (joined, ours)):
        write_json(folder / "run.json", run | {"problems": []})
    assert_same(tmp_path / "whole", joined)
    assert open_source(joined).study_ids == open_source(data).study_ids
    with pytest.raises(InputError, match="1 shard of 3 missing: 2"):
        merged(shards[1:], tmp_path / "again")


def test_an_audit_is_shared_out_too(tmp_path: Path) -> None:
    data = write_studies(tmp_path / "data")
    shards = []
    for n in (1, 2):
        shards.append(tmp_path / f"shard{n}")
        with outputs_released():
            read = audit_shard(data, shards[-1], AuditOptions(shard=Shard(number=n, of=2)))
        assert read == 4 - n
    joined = merged(shards, tmp_path / "joined")
    with outputs_released():
        audit(data, joined, resume=True)
    with outputs_released():
        audit(data, tmp_path / "whole")
    assert_same(tmp_path / "whole", joined)


def test_the_array_job_of_the_examples_predicts_and_merges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two tasks of the array, then the job that depends on them; `lumbar` answers by stand-ins."""
    data, out = write_studies(tmp_path / "data"), tmp_path / "out"
    command = tmp_path / "bin" / "lumbar"
    command.parent.mkdir()
    command.write_text(
        f"#!{sys.executable}\nimport sys\nfrom tests.pipelines.bulk.case import lumbar\nsys.exit(lumbar())"
    )
    command.chmod(0o755)
    plain = {k: v for k, v in os.environ.items() if not k.startswith("SLURM")}
    paths = {"PATH": f"{command.parent}:{plain['PATH']}", "PYTHONPATH": f"{ROOT}:{plain.get('PYTHONPATH', '')}"}

    def job(**slurm: str) -> None:
        script = [str(ROOT / "examples" / "predict_array.sh"), str(data), str(tmp_path), str(out)]
        subprocess.run(script, check=True, cwd=tmp_path, env={**plain, **paths, **slurm})

    for task in ("1", "2"):
        job(SLURM_ARRAY_TASK_ID=task, SLURM_ARRAY_TASK_COUNT="2", SLURM_CPUS_PER_TASK="1")
    with pytest.raises(subprocess.CalledProcessError, match="exit status 3"):  # of one study no slice can be read
        job()
    stand_in(monkeypatch)
    request = request_of(data, pages=False, device="auto")
    assert_same(predicted(request, tmp_path / "whole"), out / "prediction")
