"""Addresses of object stores, calls to them that fail, and what may be fetched from them and written to them."""

import argparse
import errno
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pipelines.cli import build_parser
from shared.runtime.arguments import ADDRESS
from shared.runtime.errors import InputError
from shared.runtime.ownership import MARKER, claim, foreign_entries, foreign_keys, outputs_released
from shared.storage.address import Address, place_of
from shared.storage.objects import Objects, StoredObject, filesystem
from shared.storage.output import RemoteOutput, output_folder
from shared.storage.tries import MOST_TRIES, MissingError, StorageError, tried
from tests.object_store import MemoryStore, contents, upload

BUCKET = "memory://bucket"


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    waited: list[float] = []
    monkeypatch.setattr("shared.storage.tries._pause", waited.append)
    return waited


def test_words_are_paths_or_addresses() -> None:
    assert place_of("data/x") == Path("data/x")
    assert place_of("C:/data") == Path("C:/data")
    assert place_of("file:///data/a%20b") == Path("/data/a b")
    assert place_of("S3://Bucket/a/b/") == Address("s3://Bucket/a/b")
    assert str(Address("gs://b") / "c") == "gs://b/c"
    assert Address("s3://b/a/x").is_within(Address("s3://b/a"))
    assert not Address("s3://b/ab").is_within(Address("s3://b/a"))


@pytest.mark.parametrize("text", ["s3://", "s3:///", "a::s3://b", "s3://b/*", "s3://b/[x]", "s3://b/a?versionId=1"])
def test_what_is_no_address_of_one_folder_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="expected"):
        Address(text)


def test_a_password_is_refused_and_not_repeated() -> None:
    with pytest.raises(InputError) as caught:
        Address("ftp://me:hunter2@host/folder")
    assert "hunter2" not in str(caught.value)


class AnsweredError(Exception):
    """As botocore and aiohttp tell the status of an answer."""

    def __init__(self, status: int) -> None:
        super().__init__("secret-of-the-request")
        self.response = {"ResponseMetadata": {"HTTPStatusCode": status}}


class EndpointConnectionError(Exception):
    """As botocore names it."""


class NoCredentialsError(Exception):
    """As botocore names it."""


def failing(*errors: Exception) -> Callable[[], str]:
    left = list(errors)

    def call() -> str:
        if left:
            raise left.pop(0)
        return "done"

    return call


def caused(error: OSError, cause: Exception) -> OSError:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError(), TimeoutError(), OSError(errno.EBUSY, "SlowDown"), AnsweredError(503),
        AnsweredError(429),
        EndpointConnectionError(), caused(OSError(errno.EIO, "?"), AnsweredError(500)),
        caused(TimeoutError("RequestTimeout"), AnsweredError(400)),
    ],
)  # fmt: skip
def test_what_passes_is_tried_again(error: Exception, pauses: list[float]) -> None:
    assert tried(failing(error, error), "s3://b/x") == "done"
    assert 0.5 <= pauses[0] <= 1.0 <= pauses[1] <= 2.0  # longer each time, and not the same for all processes
    with pytest.raises(StorageError, match=r"s3://b/x: .* after 5 tries") as caught:
        tried(failing(*[error] * MOST_TRIES), "s3://b/x")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (FileNotFoundError(), MissingError, "no such bucket"),
        (caused(OSError(errno.EIO, "?"), AnsweredError(404)), MissingError, "no such bucket"),
        (PermissionError("AKIA123"), StorageError, "access is denied"),
        (AnsweredError(403), StorageError, "access is denied"),
        (AnsweredError(412), StorageError, "refuses"),
        (NoCredentialsError(), StorageError, "no credentials are found"),
    ],
)
def test_what_does_not_pass_is_one_message(
    error: Exception, kind: type[StorageError], message: str, pauses: list[float]
) -> None:
    with pytest.raises(kind, match=f"s3://b/x: .*{message}") as caught:
        tried(failing(error), "s3://b/x")
    assert not pauses
    assert "AKIA" not in str(caught.value)


def test_errors_of_this_program_and_full_disks_are_left_alone() -> None:
    for error in (ZeroDivisionError(), OSError(errno.ENOSPC, "No space left on device"), InputError("ours")):
        with pytest.raises(type(error)) as caught:
            tried(failing(error), "s3://b/x")
        assert caught.value is error


def test_objects_come_and_go(memory: MemoryStore, tmp_path: Path) -> None:
    store = Objects(address=Address(f"{BUCKET}/data"))
    assert store.listed() == []
    assert store.read("a", most_bytes=9) is None
    (tmp_path / "in" / "x").mkdir(parents=True)
    (tmp_path / "in" / "x" / "a[1]*").write_bytes(b"abc")
    (tmp_path / "in" / "b").write_bytes(b"")
    store.put(tmp_path / "in", ["x/a[1]*", "b"])
    found = store.listed()
    assert [(entry.key, entry.size) for entry in found] == [("b", 0), ("x/a[1]*", 3)]
    assert store.top() == {"b": False, "x": True}
    store.fetch(found, tmp_path / "out")
    assert (tmp_path / "out" / "x" / "a[1]*").read_bytes() == b"abc"
    assert [entry.key for entry in store.listed("x")] == ["a[1]*"]
    with pytest.raises(StorageError, match="holds 3 bytes; expected at most 2"):
        store.read("x/a[1]*", most_bytes=2)
    store.delete(["x", "gone"])
    assert [entry.key for entry in store.listed()] == ["b"]


def test_a_listing_is_bounded(memory: MemoryStore) -> None:
    store = Objects(address=Address(f"{BUCKET}/data"))
    for n in range(5):
        store.write(f"{n}/x", b"")
    assert len(store.listed(most=5)) == 5
    with pytest.raises(StorageError, match="memory://bucket/data: holds more than 3 objects"):
        store.listed(most=3)
    assert len(memory.of("ls")) < 2 * (1 + 5)  # the second listing stopped early


def test_more_than_the_disk_holds_is_not_fetched(memory: MemoryStore, tmp_path: Path) -> None:
    entry = StoredObject(key="x", size=1 << 60, version="")
    with pytest.raises(StorageError, match="bytes are to be fetched, and there is room for"):
        Objects(address=Address(BUCKET)).fetch([entry], tmp_path)
    assert not memory.calls


def test_an_object_that_changes_while_it_is_read_is_told(memory: MemoryStore, tmp_path: Path) -> None:
    store = Objects(address=Address(BUCKET))
    store.write("x", b"1234")
    with pytest.raises(StorageError, match="was changed while it was read"):
        store.fetch([StoredObject(key="x", size=3, version="")], tmp_path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(
    st.lists(st.one_of(st.sampled_from(["..", ".", "", "a", "\0", "a\\b", "x" * 300]), st.text(max_size=9)), max_size=9)
)
@example([".."])
@example(["", "etc", "passwd"])
@example(["a"] * 100)
def test_no_key_leads_out_of_its_folder(tmp_path: Path, parts: list[str]) -> None:
    folder = tmp_path / "here"
    try:
        target = Objects(address=Address(BUCKET))._target(folder, "/".join(parts))
    except StorageError:
        return
    assert target.is_relative_to(folder)
    assert target != folder
    assert ".." not in target.parts
    assert "\0" not in str(target)


_NAMES = ["studies", "a.json", "a.html", "thesis.doc", "run.json", "dicom", "x", ".DS_Store"]


@given(st.sets(st.lists(st.sampled_from(_NAMES), min_size=1, max_size=3).map("/".join)))
def test_keys_are_foreign_as_files_are(tmp_path_factory: pytest.TempPathFactory, keys: set[str]) -> None:
    keys = {key for key in keys if not any(other.startswith(f"{key}/") for other in keys)}
    folder = tmp_path_factory.mktemp("keys")
    for key in keys:
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / key).touch()
    assert foreign_keys(keys) == foreign_entries(folder)


@pytest.fixture
def marked(memory: MemoryStore, tmp_path: Path) -> str:
    """An output folder of ours."""
    with outputs_released():
        claim(tmp_path / "ours")
    (tmp_path / "ours" / "state.json").write_text("{}")
    upload(tmp_path / "ours", f"{BUCKET}/out")
    return f"{BUCKET}/out"


def checked(
    address: str, *, overwrite: bool = False, resume: bool = False, inputs: tuple[Address, ...] = ()
) -> RemoteOutput:
    return RemoteOutput.checked(Address(address), overwrite=overwrite, resume=resume, inputs=inputs)


def test_output_addresses_keep_the_rules_of_output_folders(marked: str) -> None:
    assert checked(f"{BUCKET}/new").replaced == ()
    with pytest.raises(InputError, match="is not empty; choose another folder, or replace"):
        checked(marked)
    assert set(checked(marked, overwrite=True).replaced) == {MARKER, "state.json"}
    assert checked(marked, resume=True).resumed
    with pytest.raises(InputError, match=r"cannot resume, it holds no store\.json"):
        RemoteOutput.checked(Address(marked), overwrite=False, resume=True, state_file="store.json")
    assert not checked(f"{BUCKET}/new", resume=True).resumed
    with pytest.raises(InputError, match="would delete memory://bucket/out/data"):
        checked(marked, overwrite=True, inputs=(Address(f"{marked}/data"),))
    with pytest.raises(InputError, match="lies among the images"):
        checked(f"{marked}/test_images/new", inputs=(Address(marked),))
    Objects(address=Address(marked)).write("thesis.doc", b"")
    with pytest.raises(InputError, match=r"holds 'thesis.doc', which no command of lumbar wrote"):
        checked(marked, overwrite=True)


def test_what_is_not_ours_is_neither_deleted_nor_resumed(memory: MemoryStore) -> None:
    Objects(address=Address(f"{BUCKET}/other")).write("run.json", b"{}")
    with pytest.raises(InputError, match="no command of lumbar made it, so --overwrite"):
        checked(f"{BUCKET}/other", overwrite=True)
    with pytest.raises(InputError, match="nothing in it can be resumed"):
        checked(f"{BUCKET}/other", resume=True)


def test_the_second_of_two_writers_goes_on_and_the_first_stops(memory: MemoryStore, tmp_path: Path) -> None:
    for name in (MARKER, "state.json"):
        (tmp_path / name).write_text("{}")
    first, second = checked(f"{BUCKET}/out"), checked(f"{BUCKET}/out")
    first.begin(tmp_path)
    first.add_study(tmp_path)
    second.begin(tmp_path)
    with pytest.raises(InputError, match="another command has begun to write to this address"):
        first.add_study(tmp_path)
    second.finish(tmp_path)
    assert contents(f"{BUCKET}/out").keys() == {MARKER, "state.json"}


def test_a_path_is_its_own_output_folder(tmp_path: Path) -> None:
    with output_folder(tmp_path, overwrite=False, resume=False, inputs=[], read_again=[]) as (folder, remote):
        assert (folder, remote) == (tmp_path, None)


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="fsspec knows no protocol nonsense"):
        filesystem(Address("nonsense://b"))
    monkeypatch.delitem(
        sys.modules["fsspec.registry"]._registry, "s3", raising=False
    )  # where another test has loaded it
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(InputError, match=r"install the extra `storage`: pip install"):
        filesystem(Address("s3://not-installed"))
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(InputError, match="fsspec is not installed; install the extra `storage`"):
        filesystem(Address("s3://nothing-installed"))


def _arguments(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    inner = [p for a in parser._actions if isinstance(a, argparse._SubParsersAction) for p in a.choices.values()]
    return [*parser._actions, *(action for p in inner for action in _arguments(p))]


def test_every_path_of_the_command_line_refuses_an_address_or_takes_it() -> None:
    taken = []
    for action in _arguments(build_parser()):
        assert action.type is not Path
        if callable(action.type) and isinstance(action.metavar, str):
            try:
                value = action.type("s3://bucket/x")
            except argparse.ArgumentTypeError:
                continue
            except (ValueError, TypeError):
                continue
            if isinstance(value, Address):
                taken.append(action)
            assert not isinstance(value, Path)
    assert taken
    assert all("address" in str(action.help) or ADDRESS in str(action.help) for action in taken)


def test_a_server_lists_within_bounds_and_tells_what_is_missing(bucket: str, tmp_path: Path) -> None:
    store = Objects(address=Address(f"{bucket}/listing"))
    assert not store.holds("a")
    for key in ("a/b c", "a/ü", "d"):
        store.write(key, key.encode())
    found = store.listed()
    assert [entry.key for entry in found] == ["a/b c", "a/ü", "d"]
    assert all(entry.version for entry in found)
    assert store.top() == {"a": True, "d": False}
    assert store.holds("a")
    store.fetch(found, tmp_path)
    assert (tmp_path / "a" / "ü").read_text() == "a/ü"
    with pytest.raises(StorageError, match="holds more than 2 objects"):
        store.listed(most=2)
    assert Objects(address=Address(f"{bucket}/listing/d")).is_object()
    assert not store.is_object()
    with pytest.raises(MissingError, match="s3://no-such-bucket/x: no such bucket"):
        Objects(address=Address("s3://no-such-bucket/x")).listed()
    with pytest.raises(MissingError, match="s3://no-such-bucket/x: no such bucket"):
        Objects(address=Address("s3://no-such-bucket/x")).described()
    store.delete(["a", "d"])
    assert store.listed() == []
