"""Both stages trained once per test run, on very few studies and for one epoch each; and a part in an object store."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.demo import DemoOptions
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


@pytest.fixture
def part(tmp_path: Path, memory: MemoryStore) -> Path:
    """A test part on the disk and in an object store, at DATA."""
    (tmp_path / "data").mkdir()
    write_test_part(tmp_path / "data")
    upload(tmp_path / "data", DATA)
    return tmp_path / "data"
