"""Stores that are prepared from and to object stores, and shards that are merged there."""

import json
from pathlib import Path

import pytest

from pipelines.cli import main
from pipelines.prepare.prepare import PrepareOptions, prepare
from shared.runtime.bulk.shards import Shard
from tests.object_store import DATA, MemoryStore, contents, upload
from tests.pipelines.bulk.case import request_of, shards_of, stand_in, write_studies

STORE = "memory://bucket/store"


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.storage.tries._pause", lambda seconds: None)


def on_disk(out: Path) -> dict[str, bytes]:
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*") if p.is_file()}


def told(files: dict[str, bytes]) -> dict[str, bytes | dict[str, object]]:
    """What of the files does not depend on the moment, or on the name of the data."""
    told: dict[str, bytes | dict[str, object]] = {**files}
    for name, own in {
        "store.json": ("checksum", "made_from"), "run.json": ("started", "seconds", "git_commit", "merged_shards"),
    }.items():  # fmt: skip
        if name in files:
            told[name] = {key: value for key, value in json.loads(files[name]).items() if key not in own}
    return told


def prepared(data: str | Path, store: str | Path, *options: str) -> int:
    return main(["prepare", str(data), str(store), "--workers", "1", *options])


def test_stores_at_addresses_are_those_of_paths(
    part: Path, tmp_path: Path, memory: MemoryStore, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    assert prepared(part, tmp_path / "near") == 3
    expected = told(on_disk(tmp_path / "near"))
    assert "studies/test/5.json" in expected
    assert prepared(DATA, tmp_path / "from") == 3
    assert told(on_disk(tmp_path / "from")) == expected
    assert prepared(part, STORE) == 3
    assert told(contents(STORE)) == expected
    memory.calls.clear()
    capsys.readouterr()
    assert prepared(DATA, STORE, "--overwrite") == 3
    assert capsys.readouterr().out.startswith(f"{STORE}: 3 studies (3 new, 0 changed, 0 unchanged, 0 removed)")
    assert told(contents(STORE)) == expected
    order = [path for path in memory.of("put_file") if path.startswith("/bucket/store/")]
    record = order.index("/bucket/store/studies/test/5.json")
    assert order[record - 1].endswith(".u8")
    assert order[record + 1] == "/bucket/store/unfinished/results/test-5.jsonl"
    assert order[-1] == "/bucket/store/store.json"
    assert prepared(DATA, tmp_path / "from", "--resume") == 3
    assert "3 unchanged" in capsys.readouterr().out


def test_an_interrupted_store_goes_on(part: Path, tmp_path: Path, memory: MemoryStore) -> None:
    prepared(part, tmp_path / "near")

    def killed(operation: str, path: str) -> None:
        if operation == "put_file" and path.endswith("test/7.json"):
            raise KeyboardInterrupt

    memory.fault = killed
    assert prepared(DATA, STORE) == 130
    memory.fault = lambda operation, path: None
    memory.calls.clear()
    assert prepared(DATA, STORE, "--resume") == 3
    assert not any("images/5/" in path for path in memory.of("get_file"))
    assert told(contents(STORE)) == told(on_disk(tmp_path / "near"))


def test_a_store_is_brought_up_to_date(
    part: Path, memory: MemoryStore, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    prepared(DATA, STORE)
    table = part / "test_series_descriptions.csv"
    table.write_text("\n".join(line for line in table.read_text().splitlines() if not line.startswith("7,")) + "\n")
    upload(part, DATA)
    assert prepared(DATA, STORE, "--resume") == 3
    assert {name for name in contents(STORE) if name.endswith(".json")} == {
        "store.json", "run.json", "studies/test/5.json", "studies/test/6.json"
    }  # fmt: skip
    assert prepared(DATA, STORE, "--png", "--overwrite") == 1
    assert f"--png: not with {STORE}" in capsys.readouterr().err


def test_a_study_that_cannot_be_fetched_has_no_slices_until_it_can(
    part: Path, tmp_path: Path, memory: MemoryStore
) -> None:
    prepared(part, tmp_path / "near")

    def refused(operation: str, path: str) -> None:
        if operation == "get_file" and "images/5/" in path:
            raise PermissionError

    memory.fault = refused
    assert prepared(DATA, tmp_path / "far") == 3
    assert "study 5: cannot be fetched" in (tmp_path / "far" / "run.json").read_text()
    assert (tmp_path / "far" / "failures.csv").read_text().count("series_unreadable") == 2
    memory.fault = lambda operation, path: None
    assert prepared(DATA, tmp_path / "far", "--resume") == 3
    near, far = told(on_disk(tmp_path / "near")), told(on_disk(tmp_path / "far"))
    assert {**far, "run.json": None} == {**near, "run.json": None}


def test_shards_are_merged_at_addresses(tmp_path: Path, memory: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch)
    data = write_studies(tmp_path / "data")
    shards = shards_of(request_of(data), tmp_path, 2)
    stores = [tmp_path / f"store{n}" for n in (1, 2)]
    for number, store in enumerate(stores, 1):
        prepare(data, store, PrepareOptions(shard=Shard(number=number, of=2)))
    for kind, folders in {"prediction": shards, "store": stores}.items():
        near, far = tmp_path / kind, f"memory://bucket/{kind}"
        assert main(["merge", str(near), *map(str, folders)]) == main(
            ["merge", str(near), "--overwrite", *map(str, folders)]
        )
        for number, folder in enumerate(folders):
            upload(folder, f"memory://bucket/{kind}-{number}")
        main(["merge", far, *(f"memory://bucket/{kind}-{number}" for number in range(len(folders)))])
        assert told(contents(far)) == told(on_disk(near))


@pytest.mark.usefixtures("undrawn")
def test_an_audit_reads_an_address(part: Path, tmp_path: Path, memory: MemoryStore) -> None:
    (part / "test_images" / "5" / "unknown").mkdir()
    (part / "test_images" / "5" / "unknown" / "1.dcm").write_bytes(b"x")
    (part / "test_images" / "8" / "81").mkdir(parents=True)
    (part / "test_images" / "8" / "81" / "1.dcm").write_bytes(b"x")
    (part / "test_images" / "7" / "71" / "notes.txt").write_bytes(b"x")
    upload(part, DATA)
    options = ["--workers", "1", "--pixels", "all"]
    code = main(["audit", str(part), str(tmp_path / "near"), *options])

    def killed(operation: str, path: str) -> None:
        if operation == "get_file" and "images/7/" in path:
            raise KeyboardInterrupt

    memory.fault = killed
    assert main(["audit", DATA, str(tmp_path / "far"), *options]) == 130
    memory.fault = lambda operation, path: None
    memory.calls.clear()
    assert main(["audit", DATA, str(tmp_path / "far"), *options, "--resume"]) == code
    assert not any("images/5/" in path for path in memory.of("get_file"))
    near, far = on_disk(tmp_path / "near"), on_disk(tmp_path / "far")
    assert near.keys() == far.keys()
    assert near["findings.csv"] == far["findings.csv"]
    assert near["report.json"] == far["report.json"]
    assert b"folder-unlisted" in far["findings.csv"]
    memory.fault = lambda operation, path: _refuse(operation == "get_file" and "images/5/" in path)
    assert main(["audit", DATA, str(tmp_path / "refused"), *options]) == 3
    assert "its files cannot be fetched" in (tmp_path / "refused" / "findings.csv").read_text()


def _refuse(wanted: bool) -> None:
    if wanted:
        raise PermissionError
