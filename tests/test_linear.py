"""Ridge against scikit-learn; CCA against scikit-learn, the generalised eigenvalue problem and a known correlation."""

import numpy as np
import pytest
from scipy.linalg import eigh
from sklearn.cross_decomposition import CCA
from sklearn.linear_model import LinearRegression, Ridge

from course_utils import linear


def views(seed=0, count=200, wide=(6, 4), shared=3, noise=0.5):
    """Two views of the same hidden numbers, neither centred, columns of unlike sizes."""
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(count, shared))
    make = [hidden @ rng.normal(size=(shared, width)) + noise * rng.normal(size=(count, width)) for width in wide]
    return [view * rng.uniform(0.5, 4, view.shape[1]) + rng.normal(size=view.shape[1]) for view in make]


@pytest.mark.parametrize(("count", "wide"), [(200, (6, 4)), (20, (50, 7)), (30, (30, 2))], ids=str)
@pytest.mark.parametrize("strength", [0.1, 10.0, 1e4])
def test_ridge_equals_scikit_learn(count, wide, strength):
    x, y = views(1, count, wide)
    unseen = views(2, 9, wide)[0]
    theirs, ours = Ridge(alpha=strength).fit(x, y), linear.ridge(x, y, strength)
    np.testing.assert_allclose(ours.weight, theirs.coef_.T, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(ours(unseen), theirs.predict(unseen), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("count", [40, 5])
def test_ridge_without_strength_is_least_squares_with_the_smallest_weights(count):
    x, y = views(3, count, (9, 2))
    np.testing.assert_allclose(linear.ridge(x, y, 0.0).weight, LinearRegression().fit(x, y).coef_.T, atol=1e-8)


def test_ridge_gradient_vanishes_at_the_solution():
    x, y = views(4, 15, (20, 3))
    mapped = linear.ridge(x, y, 2.0)
    residual = mapped(x) - y
    slope = (x - x.mean(axis=0)).T @ residual + 2.0 * mapped.weight
    np.testing.assert_allclose(slope, 0, atol=1e-9)
    np.testing.assert_allclose(residual.mean(axis=0), 0, atol=1e-9)  # the offset is free


def test_float32_tensors_and_lists_are_taken_as_they_come():
    import torch

    x, y = views(5)
    wanted = linear.ridge(x, y, 1.0).weight
    np.testing.assert_allclose(linear.ridge(torch.tensor(x), torch.tensor(y), 1.0).weight, wanted, atol=1e-20)
    np.testing.assert_allclose(linear.ridge(x.astype(np.float32), y.tolist(), 1.0).weight, wanted, atol=1e-4)


def standard(scores):
    """Columns of mean 0 and variance 1, sign such that the largest entry is positive."""
    scores = (scores - scores.mean(axis=0)) / scores.std(axis=0)
    return scores * np.sign(scores[np.abs(scores).argmax(axis=0), np.arange(scores.shape[1])])


@pytest.mark.parametrize(("seed", "wide", "dims"), [(6, (6, 4), 4), (7, (3, 8), 3), (8, (5, 5), 2)])
def test_cca_equals_scikit_learn_up_to_sign(seed, wide, dims):
    x, y = views(seed, 200, wide, shared=5)
    theirs = CCA(n_components=dims, max_iter=100_000, tol=1e-20).fit(x, y)
    ours = linear.cca(x, y, dims)
    for mine, other in zip((ours.map_x(x), ours.map_y(y)), theirs.transform(x, y)):
        np.testing.assert_allclose(standard(mine), standard(other), atol=1e-4)
    correlations = [np.corrcoef(a, b)[0, 1] for a, b in zip(*(scores.T for scores in theirs.transform(x, y)))]
    np.testing.assert_allclose(ours.correlations, correlations, atol=1e-4)


def test_cca_scores_are_white_and_correlate_as_stated():
    x, y = views(9)
    fit = linear.cca(x, y, 4)
    scores = np.hstack([fit.map_x(x), fit.map_y(y)])
    across = np.diag(fit.correlations)
    np.testing.assert_allclose(np.cov(scores.T), np.block([[np.eye(4), across], [across, np.eye(4)]]), atol=1e-10)
    assert (np.diff(fit.correlations) <= 0).all() and scores.mean(axis=0) == pytest.approx(0, abs=1e-10)


@pytest.mark.parametrize(("count", "wide"), [(200, (6, 4)), (12, (30, 20))], ids=str)
def test_strength_solves_the_regularised_eigenvalue_problem(count, wide):
    x, y = views(10, count, wide)
    fit, strength = linear.cca(x, y, 3, 5.0), 5.0
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    left, right = (v.T @ v + strength * np.eye(v.shape[1]) for v in (x, y))
    inside = x.T @ y @ np.linalg.solve(right, y.T @ x)  # (Dx,Dx)
    values, vectors = eigh(inside, left)
    np.testing.assert_allclose(fit.correlations, np.sqrt(values[::-1][:3]), atol=1e-8)
    cosines = (fit.map_x.weight.T @ left @ vectors[:, ::-1][:, :3]) / np.sqrt(count - 1)
    np.testing.assert_allclose(np.abs(cosines), np.eye(3), atol=1e-6)  # the same directions up to sign


def test_cca_finds_a_correlation_that_is_known():
    rng = np.random.default_rng(11)
    hidden, other = rng.normal(size=(2, 20_000))
    x = np.stack([hidden, rng.normal(size=20_000)], axis=1) @ rng.normal(size=(2, 2))
    y = np.stack([0.6 * hidden + 0.8 * other, rng.normal(size=20_000)], axis=1) @ rng.normal(size=(2, 2))
    np.testing.assert_allclose(linear.cca(x, y, 2).correlations, [0.6, 0.0], atol=0.03)


def test_too_few_rows_correlate_perfectly_until_strength_is_given():
    x, y = np.random.default_rng(12).normal(size=(2, 20, 40))  # unrelated
    assert linear.cca(x, y, 5).correlations == pytest.approx(1.0)
    assert linear.cca(x, y, 5, 50.0).correlations.max() < 0.6


def test_a_column_said_twice_changes_nothing():
    x, y = views(13)
    once, twice = linear.cca(x, y, 4), linear.cca(np.hstack([x, x[:, :1]]), y, 4)
    np.testing.assert_allclose(once.correlations, twice.correlations, atol=1e-10)


GOOD = np.random.default_rng(0).normal(size=(9, 3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: linear.ridge(GOOD, GOOD[:5], 1.0), r"same N > 1 rows; got \(9, 3\) and \(5, 3\)"),
        (lambda: linear.ridge(GOOD, GOOD[:, 0], 1.0), r"got \(9, 3\) and \(9,\)"),
        (lambda: linear.cca(GOOD[:1], GOOD[:1], 1), "N > 1"),
        (lambda: linear.ridge(GOOD, GOOD / 0 * 0, 1.0), "NaN or infinity; drop the rows that lack a modality"),
        (lambda: linear.ridge(GOOD, GOOD, -1.0), "strength=-1.0"),
        (lambda: linear.cca(GOOD, GOOD, 1, np.nan), "strength=nan"),
        (lambda: linear.cca(GOOD, GOOD, 4), "dims=4 is outside 1..3"),
        (lambda: linear.cca(GOOD, GOOD, 0), "dims=0"),
        (lambda: linear.cca(GOOD, np.ones((9, 2)), 1), "outside 1..0, the rank of the weaker side"),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_bad_input_is_one_clear_error(call, message):
    with pytest.raises(ValueError, match=message):
        call()
