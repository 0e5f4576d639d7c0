"""Fixtures of stage 1's tests; the crude studies themselves are in spine_phantom.py."""

from collections.abc import Callable
from pathlib import Path

import pytest

from localize.config import LocalizeConfig
from localize.decoding.prior import ChainPrior, fit_prior
from localize.train.request import TrainingResources, TrainRequest
from localize.train.run import train
from shared.data.challenge import Challenge
from shared.splits import Splits
from tests.localize.spine_phantom import jittered_truths, write_challenge

Make = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="session")
def prior() -> ChainPrior:
    return fit_prior(jittered_truths())


@pytest.fixture(scope="session")
def challenge(made_once: Make) -> Challenge:
    return Challenge.open(made_once("localize_challenge", lambda root: write_challenge(root, 4)))


@pytest.fixture(scope="session")
def tiny_config() -> LocalizeConfig:
    view = "{mm_per_px=2.5, image_px=[96, 64], epochs=2, neighbours=0, batch=8}"
    overrides = [f"{name}={view}" for name in ("sagittal_t1", "sagittal_t2", "axial_t2")]
    return LocalizeConfig.load(None, ('model.architecture="yolo11n.yaml"', *overrides))


@pytest.fixture(scope="session")
def splits() -> Splits:
    return Splits(seed=0, folds=(("100", "101"), ("102", "103")))


@pytest.fixture(scope="session")
def run(made_once: Make, challenge: Challenge, tiny_config: LocalizeConfig, splits: Splits) -> Path:
    """One trained fold, under a relative path as users give it; two epochs teach nothing, but every file is there."""

    def make(folder: Path) -> None:
        folder.mkdir()
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder.parent)
            request = TrainRequest(data=challenge, config=tiny_config, splits=splits, folds=(0,))
            train(request, Path(folder.name), TrainingResources(device="cpu"))

    return made_once("localize_run", make)
