"""Fixtures of stage 1's tests; the crude studies themselves are in spine_phantom.py."""

from pathlib import Path

import pytest

from localize.config import LocalizeConfig
from localize.decoding.prior import ChainPrior, fit_prior
from localize.train.request import TrainingResources, TrainRequest
from localize.train.run import train
from shared.data.challenge import Challenge
from shared.splits import Splits
from tests.localize.spine_phantom import jittered_truths, write_challenge


@pytest.fixture(scope="session")
def prior() -> ChainPrior:
    return fit_prior(jittered_truths())


@pytest.fixture(scope="session")
def challenge(tmp_path_factory: pytest.TempPathFactory) -> Challenge:
    root = tmp_path_factory.mktemp("challenge")
    write_challenge(root, 4)
    return Challenge.open(root)


@pytest.fixture(scope="session")
def tiny_config() -> LocalizeConfig:
    view = "{mm_per_px=2.5, image_px=[96, 64], epochs=2, neighbours=0, batch=8}"
    overrides = [f"{name}={view}" for name in ("sagittal_t1", "sagittal_t2", "axial_t2")]
    return LocalizeConfig.load(None, ('model.architecture="yolo11n.yaml"', *overrides))


@pytest.fixture(scope="session")
def splits() -> Splits:
    return Splits(seed=0, folds=(("100", "101"), ("102", "103")))


@pytest.fixture(scope="session")
def run(
    tmp_path_factory: pytest.TempPathFactory, challenge: Challenge, tiny_config: LocalizeConfig, splits: Splits
) -> Path:
    """One trained fold, under a relative path as users give it; two epochs teach nothing, but every file is there."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder.parent)
        request = TrainRequest(data=challenge, config=tiny_config, splits=splits, folds=(0,))
        train(request, Path(folder.name), TrainingResources(device="cpu"))
    return folder
