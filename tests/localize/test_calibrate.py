"""Calibrated scores: what a fit may and may not do with few failures, and its file."""

import json
from pathlib import Path

import numpy as np
import pytest

from localize.calibrate import (
    IDENTITY,
    Calibration,
    cross_fitted,
    fit_calibration,
    mean_calibration,
    read_calibration,
    reliability,
    write_calibration,
)
from shared.runtime.errors import InputError


def test_reliability_by_hand() -> None:
    result = reliability([0.95, 0.96, 0.1, 0.5], [True, False, False, True])
    # Bins: [.95, .98) mean .955, half right; [0, .2) mean .1, none; [.4, .6) mean .5, all.
    assert result["ece"] == pytest.approx((2 * 0.455 + 0.1 + 0.5) / 4)
    assert result["brier"] == pytest.approx((0.05**2 + 0.96**2 + 0.1**2 + 0.5**2) / 4)
    assert [row["count"] for row in result["bins"]] == [1, 1, 2]
    assert reliability([], []) == {"ece": None, "brier": None, "bins": []}
    assert reliability([1.0], [True])["ece"] == 0


def test_calibration_mends_scores_that_are_too_low() -> None:
    rng = np.random.default_rng(0)
    truth = rng.uniform(0.6, 1.0, 2000)
    right = rng.random(2000) < truth
    odds = truth / (1 - truth) / 6
    scores = odds / (1 + odds)
    calibration = fit_calibration(scores.tolist(), right.tolist())
    before, after = (reliability(s.tolist(), right.tolist())["ece"] for s in (scores, calibration.apply(scores)))
    assert before > 0.15
    assert after < 0.03
    assert calibration.failures == int((~right).sum())


def test_without_failures_a_low_score_stays_low() -> None:
    calibration = fit_calibration([0.8, 0.85, 0.9] * 100, [True] * 300)
    assert calibration.apply(0.85) > 0.97
    assert calibration.apply(0.02) < 0.6
    assert (np.diff(calibration.apply(np.linspace(0, 1, 50))) >= 0).all()


def test_too_few_samples_leave_scores_as_they_are() -> None:
    calibration = fit_calibration([0.8] * 49, [True] * 49)
    assert calibration == IDENTITY
    np.testing.assert_array_equal(calibration.apply([0.0, 0.3, 1.0]), [0.0, 0.3, 1.0])


def test_scores_that_say_nothing_get_the_share_that_is_right() -> None:
    calibration = fit_calibration([0.1, 0.9] * 500, [True, True, False, False] * 250)
    assert calibration.apply(0.1) == pytest.approx(0.5, abs=0.1)
    assert calibration.slope >= 0


def test_scores_far_below_those_of_the_fit_stay_low() -> None:
    rng = np.random.default_rng(0)
    calibration = fit_calibration(rng.uniform(0.7, 0.95, 1000).tolist(), [True] * 996 + [False] * 4)
    assert calibration.support == pytest.approx(0.7, abs=0.01)
    assert calibration.apply(0.8) > 0.97
    assert calibration.apply(0.04) < 0.07
    assert calibration.apply(0.0) == 0
    assert (np.diff(calibration.apply(np.linspace(0, 1, 200))) >= 0).all()


def test_calibration_survives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    fitted = fit_calibration([0.8, 0.4] * 100, [True, False] * 100)
    write_calibration(path, fitted)
    assert read_calibration(path).apply(0.7) == pytest.approx(float(fitted.apply(0.7)), abs=1e-4)
    write_calibration(path, IDENTITY)
    assert json.loads(path.read_text())["method"] == "none"
    assert read_calibration(path) == IDENTITY
    path.write_text('{"version": 1, "slope": -2, "intercept": 0, "samples": 100, "failures": 0}')
    with pytest.raises(InputError, match=r"calibration\.json"):
        read_calibration(path)


def test_folds_average_what_was_fitted() -> None:
    a, b = Calibration(slope=1.0, intercept=1.0, samples=60), Calibration(slope=2.0, intercept=3.0, samples=90)
    mean = mean_calibration([a, IDENTITY, b])
    assert (mean.slope, mean.intercept, mean.samples) == (1.5, 2.0, 150)
    assert mean_calibration([IDENTITY]) == IDENTITY


def test_what_is_measured_on_the_fitted_studies_is_refitted_without_them() -> None:
    """Scores that say nothing: a fit on the same studies sees a pattern in the noise, other studies' do not."""
    rng = np.random.default_rng(3)
    studies = [str(k // 20) for k in range(200)]
    scores, right = rng.uniform(0.5, 0.99, 200), np.array([int(s) % 2 == 0 for s in studies])
    own = fit_calibration(scores.tolist(), right.tolist()).apply(scores)
    refitted = cross_fitted(scores.tolist(), right.tolist(), studies)
    assert ((refitted - right) ** 2).mean() > ((own - right) ** 2).mean()
    assert cross_fitted([], [], []).shape == (0,)
