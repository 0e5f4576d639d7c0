"""The chain prior: what a few misplaced points may not do to it."""

from dataclasses import replace

import numpy as np
from spine_phantom import jittered_truths

from localize.prior import fit_prior
from shared.labels import FINDINGS, Condition, Level


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
