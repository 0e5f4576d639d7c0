"""Shared by all tests: no network, the real DICOM samples where they lie beside the checkout, and one tiny data set."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before numpy or torch load: two threads, as on the smallest machine that must pass.
os.environ.setdefault("OMP_NUM_THREADS", "2")

REAL_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(autouse=True, scope="session")
def no_network() -> Iterator[None]:
    """Any attempt to resolve a name or to connect anywhere but a local socket fails the test that made it."""
    patch = pytest.MonkeyPatch()
    connect = socket.socket.connect

    def refuse_connect(self: socket.socket, address: object) -> None:
        if self.family == socket.AF_UNIX:
            return connect(self, address)  # type: ignore[arg-type]
        raise AssertionError(f"network attempt: connect to {address!r}")

    def refuse_lookup(*arguments: object, **_: object) -> None:
        raise AssertionError(f"network attempt: look-up of {arguments[0]!r}")

    patch.setattr(socket.socket, "connect", refuse_connect)
    patch.setattr(socket.socket, "connect_ex", refuse_connect)
    patch.setattr(socket, "getaddrinfo", refuse_lookup)
    patch.setattr(socket, "gethostbyname", refuse_lookup)
    patch.setattr(socket, "create_connection", refuse_lookup)
    yield
    patch.undo()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real DICOM samples; skips where a user's clone has none."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"real DICOM samples are not at {REAL_DATA}")
    return REAL_DATA
