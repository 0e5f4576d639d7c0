"""Both stages trained once per test run, on very few studies and for one epoch each; and a part in an object store."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from pipelines.demo import DemoOptions
from shared.runtime.run_folder import sha256_of
from tests.object_store import DATA, MemoryStore, upload
from tests.pipelines.stand_ins import write_test_part

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "tests" / "configs"


@pytest.fixture(scope="session")
def tiny_options() -> DemoOptions:
    return DemoOptions(
        studies=10, test_studies=3, seed=5, device="cpu", workers=2,
        localize_config=CONFIGS / "localize.toml", classify_config=CONFIGS / "classify.toml",
    )  # fmt: skip


@pytest.fixture(scope="session")
def wheel_site(made_once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """The wheel of this checkout, installed into a folder; what it depends on comes from the environment."""
    words = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    return made_once(
        "site",
        lambda out: subprocess.run([*words, "--no-build-isolation", "--target", str(out), str(ROOT)], check=True),
    )


@pytest.fixture(scope="session")
def tiny_demo(
    made_once: Callable[[str, Callable[[Path], object]], Path], tiny_options: DemoOptions, wheel_site: Path
) -> Path:
    """The output folder of a finished demo, made by the installed wheel outside the checkout."""
    o = tiny_options
    flags = {
        "--studies": o.studies, "--test-studies": o.test_studies, "--seed": o.seed, "--device": o.device,
        "--workers": o.workers, "--localize-config": o.localize_config, "--classify-config": o.classify_config,
    }  # fmt: skip
    code = (
        "import sys, shared; from pathlib import Path; from pipelines.cli import main;"
        "sys.exit(main(sys.argv[2:]) if Path(shared.__file__).is_relative_to(sys.argv[1]) else 'not the wheel')"
    )
    paths = os.pathsep.join([str(wheel_site), *filter(None, [os.environ.get("PYTHONPATH")])])

    def make(out: Path) -> None:
        words = [sys.executable, "-P", "-c", code, str(wheel_site), "demo", str(out)]
        words += [str(word) for flag in flags.items() for word in flag]
        subprocess.run(words, check=True, cwd=out.parent, env={**os.environ, "PYTHONPATH": paths})

    return made_once("demo", make)


@pytest.fixture(autouse=True, scope="session")
def built_once() -> Iterator[None]:
    """A detector of the same bytes is built once in a process, and copied: each command builds three."""
    inference: Any = import_module("localize.detector.yolo.inference")
    build, built = inference.load_fused, dict[tuple[str, str], Any]()

    def load_fused(path: Path, device: str) -> Any:
        key = sha256_of(path) if path.is_file() else "", device
        if key not in built:
            built[key] = build(path, device)
        return deepcopy(built[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inference, "load_fused", load_fused)
        yield


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves the charts of reports undrawn, for tests of something else: they take most of a report's time."""
    monkeypatch.setattr("shared.figures.report.Report.figure", lambda *_, **__: None)


@pytest.fixture
def part(tmp_path: Path, memory: MemoryStore) -> Path:
    """A test part on the disk and in an object store, at DATA."""
    (tmp_path / "data").mkdir()
    write_test_part(tmp_path / "data")
    upload(tmp_path / "data", DATA)
    return tmp_path / "data"
