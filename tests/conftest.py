"""Shared by all tests: no network, the real DICOM samples where they lie beside the checkout."""

import fcntl
import hashlib
import os
import runpy
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from shared.runtime.hardware.cores import let_threads_sleep
from tests.object_store import MemoryStore, memory_store, s3_bucket, s3_server

# The same examples everywhere, and no stopwatch: these machines are noisy.
settings.register_profile("suite", deadline=None, derandomize=True)
settings.load_profile("suite")

# Before torch is loaded: the suite's processes share the cores, and spinning threads would take them from each other.
let_threads_sleep()

REAL_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
GUARD = Path(__file__).parent / "network_guard"


@pytest.fixture(autouse=True, scope="session")
def no_network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Refuses every network attempt, here and in child processes, and fails the session when there was one."""
    record = tmp_path_factory.mktemp("network") / "attempts.txt"
    patch = pytest.MonkeyPatch()
    patch.setenv("LUMBAR_NETWORK_LOG", str(record))
    paths = [str(GUARD), *filter(None, [os.environ.get("PYTHONPATH")])]
    patch.setenv("PYTHONPATH", os.pathsep.join(paths))
    runpy.run_path(str(GUARD / "sitecustomize.py"))
    yield
    patch.undo()
    assert not record.exists(), record.read_text()


@pytest.fixture
def memory() -> Iterator[MemoryStore]:
    """The object store behind memory://."""
    with memory_store() as store:
        yield store


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The URL of an S3 server."""
    with s3_server() as url:
        yield url


@pytest.fixture
def bucket(server: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of an empty bucket."""
    with s3_bucket(server, hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:16]) as address:
        yield address


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], object]], Path]:
    """Makes a folder at its first use, for all processes of the run; it is only read from then on."""
    base = tmp_path_factory.getbasetemp()
    root = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def folder(name: str, make: Callable[[Path], object]) -> Path:
        made = root / f"{name}.made"
        with (root / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not made.exists():
                make(root / name)
                made.touch()
        return root / name

    return folder


@pytest.fixture(scope="session")
def few_studies(made_once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """Two training studies and an unseen one, as the generator writes them; they are only read."""
    from pipelines.synthetic import SynthOptions, generate

    return made_once("few_studies", lambda out: generate(out, SynthOptions(studies=2, test_studies=1, seed=4)))


@pytest.fixture(scope="session")
def trapped_studies(made_once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """Two training studies that share all traps of the generator; they are only read."""
    from pipelines.synthetic import SynthOptions, generate

    options = SynthOptions(studies=2, test_studies=0, seed=21, traps=True)
    return made_once("trapped_studies", lambda out: generate(out, options))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real DICOM samples; skips where a user's clone has none."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"real DICOM samples are not at {REAL_DATA}")
    return REAL_DATA
