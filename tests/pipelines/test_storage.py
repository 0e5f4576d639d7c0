"""Predictions from and to object stores: the same bytes as on a disk, whatever fails and whenever it is interrupted."""

from pathlib import Path

import pytest

from pipelines.cli import main
from pipelines.predict import predict_source
from pipelines.predict.answers import Here
from pipelines.prepare.prepare import prepare
from pipelines.result import StudyResult
from shared.data.source import StudySource, open_source
from shared.runtime.documents import read_json
from shared.runtime.errors import InputError
from shared.runtime.files import write_json
from shared.runtime.ownership import MARKER, claim, outputs_released
from shared.storage.address import Address
from shared.storage.output import RemoteOutput
from shared.storage.tries import StorageError
from tests.object_store import DATA, MemoryStore, contents, upload
from tests.pipelines.stand_ins import stand_ins

OUT = "memory://bucket/out"


@pytest.fixture(autouse=True)
def scratch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where temporary folders lie; and no pause between tries."""
    monkeypatch.setattr("shared.storage.tries._pause", lambda seconds: None)
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    return tmp_path / "scratch"


def files_of(out: Path) -> dict[str, bytes]:
    files = {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*") if p.is_file()}
    return {name: content for name, content in files.items() if not name.startswith("unfinished/")}


def predicted(data: Path | Address, out: Path) -> list[StudyResult]:
    return predict_source(open_source(data), Here(stand_ins), out)


def predicted_far(source: StudySource, folder: Path, *, resume: bool = False) -> None:
    """What `lumbar predict` does at an address, without models."""
    remote = RemoteOutput.checked(Address(OUT), overwrite=False, resume=resume)
    with outputs_released():
        claim(folder)
        write_json(folder / "state.json", {"finished": False})
        remote.begin(folder)
        predict_source(source, Here(stand_ins), folder, remote=remote)
        write_json(folder / "state.json", {"finished": True})
        remote.finish(folder)


def uploaded() -> dict[str, bytes]:
    return {name: content for name, content in contents(OUT).items() if name not in (MARKER, "state.json")}


@pytest.mark.parametrize("stored", [False, True])
def test_addresses_give_the_bytes_of_paths(
    part: Path, tmp_path: Path, memory: MemoryStore, stored: bool
) -> None:  # fmt: skip
    if stored:
        prepare(part, tmp_path / "store")
        part = tmp_path / "store"
        upload(part, "memory://bucket/store")
    address = Address("memory://bucket/store" if stored else DATA)
    predicted(part, tmp_path / "local")
    expected = files_of(tmp_path / "local")
    assert len(expected) == 5 + 1 + 3 * 2
    predicted(address, tmp_path / "from")
    assert files_of(tmp_path / "from") == expected
    predicted_far(open_source(part), tmp_path / "to")
    assert uploaded() == expected
    memory.calls.clear()
    predicted_far_again(open_source(address), tmp_path / "both")
    assert uploaded() == expected
    order = memory.of("put_file")
    for study in "567":
        assert order.index(f"/bucket/out/studies/{study}.html") < order.index(
            f"/bucket/out/unfinished/results/{study}.jsonl"
        )
    assert order[-1] == "/bucket/out/state.json"
    assert not any(tmp_path.glob("both/studies/*"))


def predicted_far_again(source: StudySource, folder: Path) -> None:
    remote = RemoteOutput.checked(Address(OUT), overwrite=True, resume=False)
    assert "studies" in remote.replaced
    remote.begin(_begun(folder))
    assert contents(OUT).keys() == {MARKER, "state.json", "unfinished/writer/token"}
    predict_source(source, Here(stand_ins), folder, remote=remote)
    remote.finish(folder)


def _begun(folder: Path) -> Path:
    folder.mkdir()
    (folder / MARKER).write_bytes(b"")
    write_json(folder / "state.json", {"finished": True})
    return folder


def test_a_killed_prediction_is_resumed_without_reading_a_study_twice(
    part: Path, tmp_path: Path, memory: MemoryStore, scratch: Path
) -> None:
    predicted(part, tmp_path / "local")

    def killed(operation: str, path: str) -> None:
        if operation == "put_file" and path.endswith("studies/6.json"):
            raise KeyboardInterrupt

    memory.fault = killed
    with pytest.raises(KeyboardInterrupt):
        predicted_far(open_source(Address(DATA)), tmp_path / "first")
    assert "unfinished/results/5.jsonl" in contents(OUT)
    memory.fault = lambda operation, path: None
    memory.calls.clear()
    left = scratch / f"lumbar-{contents(OUT)['unfinished/writer/token'].decode()}-9-1"  # by a kill that is not heard
    left.mkdir()
    predicted_far(open_source(Address(DATA)), tmp_path / "second", resume=True)
    assert not left.exists()
    assert uploaded() == files_of(tmp_path / "local")
    fetched = memory.of("get_file")
    assert not any("test_images/5/" in path for path in fetched)
    assert any("test_images/7/" in path for path in fetched)
    tables_alone = [path.name for path in scratch.rglob("*") if path.is_file()]
    assert tables_alone == ["test_series_descriptions.csv"] * 2  # of two processes that have not ended


def test_a_study_that_changed_is_answered_again(part: Path, tmp_path: Path, memory: MemoryStore) -> None:
    predicted(Address(DATA), tmp_path / "out")
    first = next((part / "test_images" / "5").rglob("*.dcm"))
    upload(part, DATA)  # the same bytes, at another time
    memory.calls.clear()
    predicted(Address(DATA), tmp_path / "out")
    assert any(path.endswith(first.relative_to(part).as_posix()) for path in memory.of("get_file"))
    memory.calls.clear()
    predicted(Address(DATA), tmp_path / "out")
    assert not any("test_images" in path for path in memory.of("get_file"))


@pytest.mark.parametrize("operation", ["ls", "get_file"])
@pytest.mark.parametrize("error", [PermissionError, ConnectionResetError])
def test_a_study_that_cannot_be_fetched_fails_alone(
    part: Path, tmp_path: Path, memory: MemoryStore, operation: str, error: type[OSError]
) -> None:  # fmt: skip
    source = open_source(Address(DATA))

    def refused(name: str, path: str) -> None:
        if name == operation and "test_images/5" in path:
            raise error("AKIA")

    memory.fault = refused
    results = predict_source(source, Here(stand_ins), tmp_path / "out")
    five, _, seven = results
    assert five.failure is not None
    assert "study 5: its files cannot be fetched: memory://bucket/data/test_images/5" in five.problems[0]
    assert "AKIA" not in five.problems[0]
    assert seven.from_model.any()
    assert (tmp_path / "out" / "failures.csv").read_text().count("series_unreadable") == 2  # study 6 has no files
    memory.fault = lambda name, path: None
    again = predict_source(source, Here(stand_ins), tmp_path / "out")
    assert again[0].from_model.any()


def test_a_fault_that_passes_changes_nothing(part: Path, tmp_path: Path, memory: MemoryStore) -> None:
    predicted(part, tmp_path / "local")
    seen: set[tuple[str, str]] = set()

    def once(operation: str, path: str) -> None:
        if (operation, path) not in seen:
            seen.add((operation, path))
            raise ConnectionResetError

    memory.fault = once
    predicted_far(open_source(Address(DATA)), tmp_path / "far")
    memory.fault = lambda operation, path: None
    assert uploaded() == files_of(tmp_path / "local")
    assert len(seen) > 30


def test_an_upload_that_fails_for_good_ends_the_command(part: Path, tmp_path: Path, memory: MemoryStore) -> None:
    def full(operation: str, path: str) -> None:
        if operation == "put_file" and path.endswith("studies/7.json"):
            raise PermissionError

    memory.fault = full
    with pytest.raises(StorageError, match=r"memory://bucket/out/studies/7\.json: access is denied"):
        predicted_far(open_source(Address(DATA)), tmp_path / "far")
    assert "unfinished/results/5.jsonl" in contents(OUT)


def test_hostile_keys_harm_no_other_study(part: Path, tmp_path: Path, memory: MemoryStore) -> None:
    from fsspec.implementations.memory import MemoryFileSystem

    expected = predicted(part, tmp_path / "local")
    fs = MemoryFileSystem()
    base = "/bucket/data/test_images"
    for key in (f"{base}/7/71/{'x' * 300}.dcm", f"{base}/5/../../../../escaped.dcm", f"{base}/5/51/deep/er.dcm"):
        fs.store[key] = fs.store[next(path for path in fs.store if path.endswith(".dcm"))]
    five, _, seven = predicted(Address(DATA), tmp_path / "far")
    assert five.problems == expected[0].problems
    assert "nested too deep, too long, or may lead out of its folder" in seven.problems[0]
    assert not list(tmp_path.rglob("escaped.dcm"))


def test_data_that_is_not_there_is_one_message(part: Path, memory: MemoryStore) -> None:
    with pytest.raises(InputError, match="memory://bucket/nothing: there is nothing"):
        open_source(Address("memory://bucket/nothing"))
    from fsspec.implementations.memory import MemoryFileSystem

    MemoryFileSystem().rm("/bucket/data/test_images", recursive=True)
    with pytest.raises(InputError, match="none of the 3 studies has a folder here"):
        open_source(Address(DATA))


def test_other_data_is_fetched_as_a_whole(part: Path, tmp_path: Path, memory: MemoryStore) -> None:
    images = part / "test_images"
    upload(images, "memory://bucket/plain")
    found = open_source(Address("memory://bucket/plain"))
    assert found.remote is None
    assert found.study_ids == open_source(images).study_ids
    assert found.files == open_source(images).files
    predicted(Address("memory://bucket/plain"), tmp_path / "far")
    predicted(images, tmp_path / "local")
    assert files_of(tmp_path / "far") == files_of(tmp_path / "local")


def test_the_command_predicts_from_and_to_a_bucket(
    tiny_demo: Path, bucket: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    for name in ("test_images", "test_series_descriptions.csv", "sample_submission.csv"):
        given = tiny_demo / "data" / name
        if given.is_dir():
            upload(given, f"{bucket}/data/{name}")
        else:
            (tmp_path / "tables").mkdir(exist_ok=True)
            (tmp_path / "tables" / name).write_bytes(given.read_bytes())
    upload(tmp_path / "tables", f"{bucket}/data")
    upload(tiny_demo / "localizer", f"{bucket}/run")  # the smaller one
    runs = ["--localizer", f"{bucket}/run", "--classifier", str(tiny_demo / "classifier"), "--device", "cpu"]
    command = ["predict", f"{bucket}/data", f"{bucket}/out", *runs, "--workers", "1"]
    assert main(command) == 0
    far, near = contents(f"{bucket}/out"), files_of(tiny_demo / "prediction")
    own = {"run.json", "state.json", MARKER}
    assert far.keys() - own == near.keys() - own
    assert {name: far[name] for name in near.keys() - own} == {name: near[name] for name in near.keys() - own}
    said = capfd.readouterr().err
    assert f"{bucket}/data -> {bucket}/out" in said
    assert "/lumbar-" not in said
    assert main(command) == 1
    assert f"{bucket}/out: is not empty; choose another folder" in capfd.readouterr().err
    assert main([*command, "--resume"]) == 0
    assert f"{bucket}/out: finished already" in capfd.readouterr().err
    assert main([*command, "--resume", "--tta"]) == 1
    assert "cannot resume, tta changed" in capfd.readouterr().err
    run = read_json(_written(tmp_path, far["run.json"]))
    assert "lumbar-" not in str(run)


def _written(folder: Path, content: bytes) -> Path:
    path = folder / "run.json"
    path.write_bytes(content)
    return path
