"""Calibration against scikit-learn, torchmetrics and data whose calibration is known."""

import numpy as np
import pytest
from scipy import special
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss

from course_utils import calibration


def answers(seed=0, n=4000, classes=5, sharpen=1.0):
    """logits (N,C) and labels drawn from their own softmax; sharpen > 1 makes the model too sure of itself."""
    rng = np.random.default_rng(seed)
    logits = 1.5 * rng.normal(size=(n, classes))
    truth = (special.softmax(logits, axis=1).cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)
    return logits * sharpen, truth


def confident(logits, truth):
    probabilities = special.softmax(logits, axis=1)
    return probabilities.max(axis=1), probabilities.argmax(axis=1) == truth


@pytest.mark.parametrize("equal_counts", [False, True])
@pytest.mark.parametrize("bins", [5, 15])
def test_the_curve_is_scikit_learns(bins, equal_counts):
    confidence, right = confident(*answers())
    strategy = "quantile" if equal_counts else "uniform"
    accuracy, mean = calibration_curve(right, confidence, n_bins=bins, strategy=strategy)
    ours = calibration.reliability(confidence, right, bins, equal_counts)
    np.testing.assert_allclose(ours.accuracy, accuracy)
    np.testing.assert_allclose(ours.confidence, mean)
    assert ours.count.sum() == len(right)
    assert ((ours.low < ours.confidence) & (ours.confidence <= ours.high)).all()


@pytest.mark.parametrize("bins", [10, 15])
def test_the_errors_are_torchmetrics(bins):
    torchmetrics = pytest.importorskip("torchmetrics")
    torch = pytest.importorskip("torch")
    logits, truth = answers(sharpen=2)
    probabilities = torch.from_numpy(special.softmax(logits, axis=1))
    ours = calibration.reliability(*confident(logits, truth), bins)
    for norm, value in (("l1", ours.expected_error), ("max", ours.largest_error)):
        theirs = torchmetrics.CalibrationError("multiclass", num_classes=5, n_bins=bins, norm=norm)
        assert value == pytest.approx(theirs(probabilities, torch.from_numpy(truth)).item(), abs=1e-6)


def test_a_calibrated_model_has_a_small_error_and_a_boaster_a_large_one():
    honest = calibration.reliability(*confident(*answers(n=20_000)))
    boaster = calibration.reliability(*confident(*answers(n=20_000, sharpen=3)))
    assert honest.expected_error < 0.02
    assert boaster.expected_error > 0.1
    assert (boaster.confidence > boaster.accuracy)[-5:].all()


def test_brier_is_scikit_learns():
    logits, truth = answers()
    probabilities = special.softmax(logits, axis=1)
    assert calibration.brier(probabilities, truth) == pytest.approx(brier_score_loss(truth, probabilities))
    two = np.stack([1 - probabilities[:, 0], probabilities[:, 0]], axis=1)
    is_first = (truth == 0).astype(int)
    assert calibration.brier(two, is_first) == pytest.approx(2 * brier_score_loss(is_first, two[:, 1]))
    assert calibration.brier(np.eye(5)[truth], truth) == 0
    assert calibration.brier(np.eye(2), [1, 0]) == 2


@pytest.mark.parametrize("sharpen", [0.4, 1.0, 2.5])
def test_temperature_finds_by_how_much_the_model_boasts(sharpen):
    logits, truth = answers(n=20_000, sharpen=sharpen)
    found = calibration.temperature(logits, truth)
    assert found == pytest.approx(sharpen, rel=0.05)
    losses = [log_loss(truth, special.softmax(logits / t, axis=1)) for t in (0.97 * found, found, 1.03 * found)]
    assert min(losses) == losses[1]


def test_bins_of_equal_counts_survive_cases_that_are_all_alike():
    ours = calibration.reliability([0.5] * 8, [True, False] * 4, equal_counts=True)
    assert (ours.count.tolist(), ours.expected_error) == ([8], 0)
    edge = calibration.reliability([0.0, 1.0, 1.0], [0, 1, 1], bins=4)
    assert (edge.count.tolist(), edge.expected_error) == ([1, 2], 0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: calibration.reliability([0.5], [True, False]), "must be the same"),
        (lambda: calibration.reliability([], []), "N > 0"),
        (lambda: calibration.reliability([1.5], [True]), r"0\.\.1"),
        (lambda: calibration.reliability([np.nan], [True]), "no NaN"),
        (lambda: calibration.reliability([0.5], [3]), "True or False"),
        (lambda: calibration.reliability([0.5], [True], bins=0), "1 or more"),
        (lambda: calibration.brier([0.5, 0.5], [0, 1]), r"must be \(N,C\)"),
        (lambda: calibration.brier([[0.5, 0.9]], [0]), "add up to 1"),
        (lambda: calibration.brier([[0.5, 0.5]], [2]), r"outside 0\.\.1"),
        (lambda: calibration.brier([[0.5, 0.5]], [0.0]), "whole numbers"),
        (lambda: calibration.temperature([[np.inf, 0.0]], [0]), "finite"),
        (lambda: calibration.temperature([[1.0, 0.0]], [0]), "every case is right"),
        (lambda: calibration.temperature([[1.0, 0.0]], [0, 1]), "N=1"),
    ],
)
def test_bad_input_gets_one_clear_error(call, message):
    with pytest.raises(ValueError, match=message):
        call()
