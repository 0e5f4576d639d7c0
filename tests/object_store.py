"""Object stores for tests: fsspec's one in memory, whose calls are counted and may fail, and an S3 server."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

# Behind it lies the test part of the fixture `part`.
DATA = "memory://bucket/data"
OPERATIONS = ("ls", "info", "get_file", "put_file", "cat_file", "pipe_file", "rm")


@dataclass
class MemoryStore:
    """Every call as its name and path; `fault` may raise in its place."""

    calls: list[tuple[str, str]] = field(default_factory=list)
    fault: Callable[[str, str], None] = lambda operation, path: None
    depth: int = 0

    def heard(self, operation: str, path: str) -> None:
        self.calls.append((operation, path))
        self.fault(operation, path)

    def of(self, operation: str) -> list[str]:
        return [path for name, path in self.calls if name == operation]


@contextmanager
def memory_store() -> Iterator[MemoryStore]:
    """fsspec's store behind memory://, emptied before and after."""
    memory = pytest.importorskip("fsspec.implementations.memory", reason="the extra `storage` is not installed")
    kind, heard, patch = memory.MemoryFileSystem, MemoryStore(), pytest.MonkeyPatch()

    def wrapped(name: str) -> Callable[..., Any]:
        original = getattr(kind, name)

        def call(self: Any, path: Any, *rest: Any, **options: Any) -> Any:
            if heard.depth == 0:  # calls that a call makes are its own
                heard.heard(name, str(rest[0] if name == "put_file" else path))
            heard.depth += 1
            try:
                return original(self, path, *rest, **options)
            finally:
                heard.depth -= 1

        return call

    for name in OPERATIONS:
        patch.setattr(kind, name, wrapped(name))
    patch.setattr("shared.storage.objects._AT_ONCE", 1)
    kind.store.clear()
    kind.pseudo_dirs[:] = [""]
    try:
        yield heard
    finally:
        patch.undo()
        kind.store.clear()


def upload(folder: Path, address: str) -> None:
    """Puts a folder's files into the store behind an address."""
    from fsspec.core import url_to_fs

    fs, root = url_to_fs(address)
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        fs.pipe_file(f"{root}/{path.relative_to(folder).as_posix()}", path.read_bytes())


def contents(address: str) -> dict[str, bytes]:
    """Key below the address -> content."""
    from fsspec.core import url_to_fs

    fs, root = url_to_fs(address)
    return {str(path).removeprefix(f"{root}/"): fs.cat_file(path) for path in fs.find(root)}


@contextmanager
def s3_server() -> Iterator[str]:
    """An S3 server on a free port of this machine; gives its URL."""
    server_of = pytest.importorskip("moto.server", reason="the extra `storage` and moto are not installed")
    pytest.importorskip("s3fs", reason="the extra `storage` is not installed")
    server = server_of.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LUMBAR_LOOPBACK_PORT", "any")
        server.start()
        _, port = server.get_host_and_port()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.stop()


@contextmanager
def s3_bucket(url: str, name: str) -> Iterator[str]:
    """A bucket of a server that botocore finds in the environment; gives its address."""
    settings = {
        "LUMBAR_LOOPBACK_PORT": "any", "AWS_ENDPOINT_URL": url, "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull, "AWS_EC2_METADATA_DISABLED": "true", "AWS_MAX_ATTEMPTS": "1",
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        for key, value in settings.items():
            patch.setenv(key, value)
        import boto3

        boto3.client("s3").create_bucket(Bucket=name)
        yield f"s3://{name}"
