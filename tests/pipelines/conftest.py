"""Both stages trained once per test run, on very few studies and for one epoch each."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.demo import DemoOptions, demo

CONFIGS = Path(__file__).parents[1] / "configs"


@pytest.fixture(scope="session")
def tiny_options() -> DemoOptions:
    return DemoOptions(
        studies=10, test_studies=3, seed=5, device="cpu", workers=2,
        localize_config=CONFIGS / "localize.toml", classify_config=CONFIGS / "classify.toml",
    )  # fmt: skip


@pytest.fixture(scope="session")
def tiny_demo(made_once: Callable[[str, Callable[[Path], object]], Path], tiny_options: DemoOptions) -> Path:
    """The output folder of a finished demo."""
    return made_once("demo", lambda out: demo(out, tiny_options))
