"""Calibration: what it recovers, that cross-fitting looks away, and what chance alone makes of an error."""

import numpy as np
import pytest

from classify.calibrate import (
    IDENTITY,
    Calibration,
    _groups,
    cross_fitted,
    fit_calibration,
    fit_where_it_helps,
    softmax,
)
from shared.agreement import by_confidence, calibration_error, error_if_calibrated
from shared.probabilities.table import unweighted


def drawn(seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose softmax is the weighted-optimal answer, and grades drawn from the probabilities behind it."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, 3)) * 1.5
    truth = unweighted(softmax(logits))
    return logits, (rng.random(n)[:, None] > truth.cumsum(1)[:, :2]).sum(1).astype(np.int8)


def test_a_temperature_undoes_overconfidence():
    logits, label = drawn(0, 6000)
    sharp = np.log(Calibration(temperature=0.6)(logits))
    found = fit_calibration(sharp, label)
    assert found(sharp) == pytest.approx(softmax(logits), abs=0.04)
    error = calibration_error(unweighted(found(sharp)), label)
    assert error < 0.03
    assert error < 0.5 * calibration_error(unweighted(softmax(sharp)), label)


def test_without_severe_cases_nothing_becomes_surer():
    """A held-out fold of normal discs asks for ever sharper probabilities; the first severe one would cost dearly."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(60, 3)) + np.array([2.0, 0.0, 0.0])
    assert fit_calibration(logits, np.zeros(60, np.int8)) == Calibration()
    softened = fit_calibration(np.where(np.arange(60)[:, None] < 30, 4, -4) * logits, np.zeros(60, np.int8))
    assert softened.temperature > 1


def test_undoing_a_calibration_gives_logits_that_it_maps_back():
    logits, _ = drawn(1, 50)
    calibration = Calibration(temperature=1.7)
    p = calibration(logits)
    assert calibration(calibration.undo(p)) == pytest.approx(p)


def test_a_studys_own_grades_do_not_calibrate_it():
    logits, label = drawn(2, 400)
    study = np.repeat(np.arange(20), 20)
    changed = label.copy()
    changed[study == 3] = 2 - changed[study == 3]
    before, after = (cross_fitted(1.5 * logits, y, study) for y in (label, changed))
    assert np.array_equal(before[study == 3], after[study == 3])
    assert not np.array_equal(before, after)


def test_a_calibration_is_kept_only_where_it_helps_other_studies():
    study = np.repeat(np.arange(40), 10)
    kept = {"too sure": 0, "sound": 0}
    for seed in range(20):
        logits, label = drawn(seed, 400)
        kept["too sure"] += fit_where_it_helps(2.5 * logits, label, study) != IDENTITY
        kept["sound"] += fit_where_it_helps(logits, label, study) != IDENTITY
    assert kept["too sure"] == 20
    assert kept["sound"] <= 2  # chance alone passes two standard errors in one of forty cases
    logits, label = drawn(0, 60)
    assert fit_where_it_helps(2.5 * logits, label, np.zeros(60, np.intp)) == IDENTITY


def test_a_few_severe_studies_in_one_group_do_not_let_the_rest_be_sharpened():
    """Five severe rows, all of studies that are left out together: no fit without them knows what missing one costs."""
    logits, label = drawn(5, 1000)
    label = np.minimum(label, 1).astype(np.int8)
    study = np.repeat(np.arange(50), 20)
    group = next(own for own in _groups(study) if own[0])
    label[np.flatnonzero(group)[:5]] = 2
    found = fit_where_it_helps(0.5 * logits, label, study)
    assert found.temperature >= 1


def test_chance_alone_leaves_an_error_that_falls_with_more_rows():
    logits, label = drawn(3, 4000)
    p = unweighted(softmax(logits))
    few, many = error_if_calibrated(p[:120]), error_if_calibrated(p)
    assert 0.02 < few < 0.08
    assert many < few / 3
    assert calibration_error(p, label) == pytest.approx(many, abs=0.01)
    assert error_if_calibrated(np.eye(3)[label[:30]]) == 0


def test_surest_rows_by_hand():
    p = np.array([[0.9, 0.05, 0.05], [0.8, 0.1, 0.1], [0.3, 0.6, 0.1], [0.3, 0.3, 0.4]])
    quarter, half, _, every = by_confidence(p, np.array([0, 2, 1, 2], np.int8))
    assert (quarter["n"], quarter["right"], quarter["severe_as_normal"]) == (1, 1.0, None)
    assert (half["right"], half["severe_as_normal"], half["least_confidence"]) == (0.5, 1.0, 0.8)
    assert (every["right"], every["severe"], every["severe_as_normal"]) == (0.75, 2, 0.5)
    assert by_confidence(np.zeros((0, 3)), np.zeros(0, np.int8)) == []
