"""Retrieval metrics against enumeration, scikit-learn and SciPy; intervals against SciPy and against known truth."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import label_ranking_average_precision_score, top_k_accuracy_score

from course_utils import metrics


def over_all_tie_breakings(scores, right):
    """(expected rank of the first right item, [expected hit in the first k for k = 1..N]) by enumeration, one query."""
    n = len(scores)
    firsts = []
    for lots in itertools.permutations(range(n)):  # every order in which ties may fall, each as likely as the others
        order = sorted(range(n), key=lambda item: (-scores[item], lots[item]))
        firsts.append(1 + min(place for place, item in enumerate(order) if right[item]))
    return np.mean(firsts), [np.mean([first <= k for first in firsts]) for k in range(1, n + 1)]


@pytest.mark.parametrize("levels", [1, 2, 3], ids=["constant", "two levels", "three levels"])
def test_equal_to_enumerating_every_tie_breaking(levels):
    rng = np.random.default_rng(levels)
    scores = rng.integers(0, levels, size=(12, 5)).astype(float)
    right = rng.random((12, 5)) < 0.4
    right[np.arange(12), rng.integers(0, 5, 12)] = True  # one right answer at least, often several
    expected = [over_all_tie_breakings(*query) for query in zip(scores, right)]
    np.testing.assert_allclose(metrics.ranks(scores, right), [rank for rank, _ in expected], atol=1e-12)
    for k in range(1, 6):
        hits = [hits[k - 1] for _, hits in expected]
        np.testing.assert_allclose(metrics.recall_at_k(scores, right, k), hits, atol=1e-12)


def test_equal_to_scikit_learn_and_scipy_without_ties():
    rng = np.random.default_rng(0)
    scores, right = rng.normal(size=(60, 25)), rng.integers(0, 25, 60)
    one_hot = np.eye(25, dtype=bool)[right]
    for k in (1, 5, 10, 25):
        theirs = top_k_accuracy_score(right, scores, k=k, labels=range(25)) if k < 25 else 1.0
        assert metrics.recall_at_k(scores, right, k).mean() == pytest.approx(theirs, abs=1e-12)
    ranks = metrics.ranks(scores, right)
    np.testing.assert_array_equal(ranks, stats.rankdata(-scores, axis=1)[one_hot])
    assert (1 / ranks).mean() == pytest.approx(label_ranking_average_precision_score(one_hot, scores), abs=1e-12)
    np.testing.assert_array_equal(ranks, metrics.ranks(scores, one_hot))  # indices and booleans are one question


def test_one_right_item_shares_the_mean_rank_of_its_ties():
    rng = np.random.default_rng(1)
    scores, right = rng.integers(0, 4, (50, 12)), rng.integers(0, 12, 50)
    theirs = stats.rankdata(-scores, axis=1, method="average")[np.arange(50), right]
    np.testing.assert_allclose(metrics.ranks(scores, right), theirs)


@pytest.mark.parametrize(("n", "k", "right"), [(1000, 1, 1), (1000, 10, 1), (148, 5, 1), (5000, 10, 5), (7, 7, 2)])
def test_a_constant_scorer_gets_exactly_chance(n, k, right):
    positives = np.zeros((3, n), dtype=bool)
    positives[:, :right] = True  # first in the pool: strict comparison would call them all found
    chance = 1 - math.comb(n - right, k) / math.comb(n, k)
    np.testing.assert_allclose(metrics.recall_at_k(np.full((3, n), 0.5), positives, k), chance, rtol=1e-12)
    np.testing.assert_allclose(metrics.ranks(np.zeros((3, n)), positives), (n + 1) / (right + 1))


def test_random_scores_get_chance_and_perfect_scores_get_one():
    rng = np.random.default_rng(2)
    hits = metrics.recall_at_k(rng.normal(size=(4000, 20)), rng.integers(0, 20, 4000), k=5)
    assert hits.mean() == pytest.approx(0.25, abs=4 * math.sqrt(0.25 * 0.75 / 4000))
    assert metrics.recall_at_k(np.eye(6), np.arange(6)).tolist() == [1.0] * 6
    assert metrics.ranks(-np.eye(6), np.arange(6)).tolist() == [6.0] * 6


GOOD = np.eye(3)


@pytest.mark.parametrize(
    ("scores", "positives", "k", "message"),
    [
        (GOOD, [0, 1, 2], 4, "k=4 is outside the pool of 3"),
        (GOOD, [0, 1, 2], 0, "k=0 is outside"),
        (np.where(GOOD > 0, np.nan, 0), [0, 1, 2], 1, "NaN or infinity"),
        (np.where(GOOD > 0, np.inf, 0), [0, 1, 2], 1, "NaN or infinity"),
        (np.empty((0, 3)), np.empty(0, int), 1, "neither empty"),
        (np.empty((3, 0)), [0, 0, 0], 1, "neither empty"),
        (np.ones(3), [0, 1, 2], 1, r"must be \(Q,N\)"),
        (GOOD, [0, 1, 3], 1, "outside 0..2"),
        (GOOD, [0, 1, -1], 1, "outside 0..2"),
        (GOOD, [0, 1], 1, "positives must be"),
        (GOOD, [0.0, 1.0, 2.0], 1, "positives must be"),
        (GOOD, np.ones((3, 2), dtype=bool), 1, "positives must be"),
        (GOOD, np.array([[1, 0, 0], [0, 0, 0], [0, 0, 1]], dtype=bool), 1, "query 1 has no right item"),
    ],
)
def test_bad_scores_are_refused(scores, positives, k, message):
    with pytest.raises(ValueError, match=message):
        metrics.recall_at_k(scores, positives, k)
    if "outside the pool" not in message and not message.startswith("k="):
        with pytest.raises(ValueError, match=message):
            metrics.ranks(scores, positives)


# Intervals ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [0.95, 0.8])
def test_bootstrap_equals_scipy_for_one_value_a_group(level):
    values = np.random.default_rng(3).exponential(size=40)  # skewed, so a symmetric interval would not do
    ours = metrics.bootstrap_interval(values, seed=1, level=level, draws=20_000)
    theirs = stats.bootstrap(
        (values,), np.mean, confidence_level=level, n_resamples=20_000, method="percentile", rng=2
    ).confidence_interval
    error = values.std(ddof=1) / math.sqrt(40)
    np.testing.assert_allclose(ours, theirs, atol=0.12 * error)  # five standard errors of the Monte Carlo quantiles


def test_bootstrap_equals_drawing_groups_of_unequal_size_by_hand():
    rng = np.random.default_rng(4)
    sizes = rng.integers(1, 9, 30)
    groups = np.repeat(rng.permutation(1000)[:30], sizes)  # ids need not be 0..G-1
    values = np.repeat(rng.normal(size=30) + sizes / 4, sizes)
    members = [values[groups == name] for name in np.unique(groups)]
    means = [np.concatenate([members[i] for i in rng.integers(0, 30, 30)]).mean() for _ in range(8000)]
    low, high = np.quantile(means, [0.025, 0.975])
    order = rng.permutation(len(values))  # nor need a group's values stand together
    ours = metrics.bootstrap_interval(values[order], groups[order], draws=8000)
    np.testing.assert_allclose(ours, (low, high), atol=0.04 * (high - low))


def test_repeating_a_value_inside_its_group_is_no_new_evidence():
    values = np.random.default_rng(5).normal(size=100)
    five, ids = np.repeat(values, 5), np.repeat(np.arange(100), 5)
    alone = metrics.bootstrap_interval(values)
    np.testing.assert_allclose(metrics.bootstrap_interval(five, ids), alone, atol=1e-12)
    careless = metrics.bootstrap_interval(five)
    assert np.diff(alone) / np.diff(careless) == pytest.approx(math.sqrt(5), rel=0.1)


def test_bootstrap_covers_the_truth_as_often_as_it_says():
    """600 sets of 120 pictures with 3 captions that rise and fall together; the true mean is 0."""
    rng = np.random.default_rng(6)
    ids = np.repeat(np.arange(120), 3)
    grouped, careless = [], []
    for trial in range(600):
        values = np.repeat(rng.normal(size=120), 3) + 0.5 * rng.normal(size=360)
        low, high = metrics.bootstrap_interval(values, ids, seed=trial, draws=400)
        grouped.append(low <= 0 <= high)
        if trial < 150:
            low, high = metrics.bootstrap_interval(values, seed=trial, draws=200)
            careless.append(low <= 0 <= high)
    assert 0.93 <= np.mean(grouped) <= 0.97
    assert np.mean(careless) < 0.9  # captions drawn one by one promise too much


def test_bootstrap_depends_on_its_seed_alone():
    values = np.random.default_rng(7).normal(size=50)
    assert metrics.bootstrap_interval(values, seed=3) == metrics.bootstrap_interval(values, seed=3)
    assert metrics.bootstrap_interval(values, seed=3) != metrics.bootstrap_interval(values, seed=4)


@pytest.mark.parametrize("level", [0.95, 0.9])
def test_seed_interval_equals_scipy(level):
    values = [0.91, 0.93, 0.90, 0.95, 0.92]
    theirs = stats.ttest_1samp(values, 0).confidence_interval(level)
    np.testing.assert_allclose(metrics.seed_interval(values, level), theirs, rtol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.bootstrap_interval([]), "Q > 0"),
        (lambda: metrics.bootstrap_interval([1.0, np.nan]), "finite"),
        (lambda: metrics.bootstrap_interval([[1.0, 2.0]]), "shape"),
        (lambda: metrics.bootstrap_interval([1.0, 2.0], groups=[0]), "one id a value"),
        (lambda: metrics.bootstrap_interval([1.0, 2.0], level=95), "between 0 and 1"),
        (lambda: metrics.seed_interval([1.0]), "two finite runs"),
        (lambda: metrics.seed_interval([1.0, np.inf]), "two finite runs"),
        (lambda: metrics.seed_interval([1.0, 2.0], level=95), "between 0 and 1"),
    ],
)
def test_bad_values_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
