"""The chain prior: what a few misplaced points may not do to it, and the pose that fits a patient."""

from dataclasses import replace

import numpy as np
import pytest

from localize.config import ChainConfig
from localize.decoding.chain import _fitting_pose
from localize.decoding.numbering import Places
from localize.decoding.prior import ChainPrior, fit_prior
from shared.labels import FINDINGS, Condition, Level
from tests.localize.spine_phantom import CANAL_MM, jittered_truths


def test_a_few_points_in_the_corner_of_their_image_change_little() -> None:
    truths = jittered_truths(60)
    clean = fit_prior(truths)
    for k, level in ((3, Level.L1_L2), (17, Level.L3_L4), (31, Level.L3_L4), (44, Level.L5_S1)):
        for finding in (f for f in FINDINGS if f.level is level and f.condition is Condition.CANAL):
            truths[k][finding] = replace(truths[k][finding], point_mm=(0.0, -80.0, 90.0))
    planted = fit_prior(truths)
    np.testing.assert_allclose(planted.gap_mean, clean.gap_mean, atol=0.5)
    np.testing.assert_allclose(planted.gap_cov, clean.gap_cov, atol=2.0)
    for finding, mean in clean.offset_mean.items():
        np.testing.assert_allclose(planted.offset_mean[finding], mean, atol=0.5)
        np.testing.assert_allclose(planted.offset_sd[finding], clean.offset_sd[finding], atol=0.5)


def test_equal_samples_are_all_kept() -> None:
    truths = jittered_truths(1) * 5
    assert np.allclose(fit_prior(truths).gap_mean, fit_prior(truths[:3]).gap_mean)


def test_the_average_pose_changes_nothing(prior: ChainPrior) -> None:
    posed = prior.posed(1.0, 0.0)
    np.testing.assert_allclose(posed.gap_mean, prior.gap_mean)
    np.testing.assert_allclose(posed.gap_cov, prior.gap_cov)


def test_who_leans_forward_has_the_first_disc_in_front(prior: ChainPrior) -> None:
    """L1/L2 as seen from L5/S1: anterior is negative y, and no gap changes its length."""
    upright, leaning = (-prior.posed(1.0, lean).gap_mean.sum(0) for lean in (0.0, 10.0))
    assert leaning[0] < upright[0] - 10
    assert np.linalg.norm(leaning) == pytest.approx(np.linalg.norm(upright))


@pytest.mark.parametrize(("scale", "low", "high"), [(1.0, 0.95, 1.05), (1.25, 1.1, 1.3), (0.8, 0.75, 0.92)])
def test_a_spine_gets_the_size_that_fits_it(prior: ChainPrior, scale: float, low: float, high: float) -> None:
    points = scale * np.array([CANAL_MM[level][1:] for level in Level])
    places = Places(yz_mm=points, unary=4.0 * np.eye(len(Level)), seen=np.ones(len(Level)))
    fitting, _ = _fitting_pose(places, prior, ChainConfig())
    size = np.linalg.norm(fitting.gap_mean.sum(0)) / np.linalg.norm(prior.gap_mean.sum(0))
    assert low < size < high
