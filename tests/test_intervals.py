"""Intervals against SciPy and against known truth; p-values against SciPy; Holm against statsmodels' numbers."""

import math

import numpy as np
import pytest
from scipy import stats

from course_utils import intervals, metrics


def clustered(seed, images=150, measures=1, spread=1.0):
    """values (Q,T) with true mean 0, groups (Q,): 2 to 7 captions an image, which share most of what they are."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(images), rng.integers(2, 8, images))
    shared = rng.normal(size=(images, measures)) * spread
    return shared[groups] + 0.5 * rng.normal(size=(len(groups), measures)), groups


def hits(seed, images=300, measures=1):
    """The same for skewed data, a hit or none, with true mean 0.9: an image's captions share their chance of a hit."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(images), 5)
    chance = rng.beta(1.8, 0.2, (images, measures))
    return (rng.random((len(groups), measures)) < chance[groups]).astype(float), groups


@pytest.mark.parametrize("method", ["percentile", "bca"])
@pytest.mark.parametrize("level", [0.95, 0.8])
def test_equal_to_scipy(method, level):
    values = np.random.default_rng(3).exponential(size=60)  # skewed, so BCa and percentile differ
    ours = intervals.bootstrap(values, draws=40_000, level=level, method=method)
    name = {"percentile": "percentile", "bca": "BCa"}[method]
    theirs = stats.bootstrap(
        (values,), np.mean, confidence_level=level, n_resamples=40_000, method=name, batch=1000, rng=2
    ).confidence_interval
    error = values.std(ddof=1) / math.sqrt(60)
    assert ours.mean.item() == pytest.approx(values.mean())
    np.testing.assert_allclose((ours.low.item(), ours.high.item()), theirs, atol=0.06 * error)


def test_groups_of_unequal_size_equal_scipys_ratio_of_sums():
    values, groups = clustered(0, images=40)
    sums, counts = np.bincount(groups, weights=values[:, 0]), np.bincount(groups).astype(float)
    for method, name in (("percentile", "percentile"), ("bca", "BCa")):
        ours = intervals.bootstrap(values, groups, draws=40_000, method=method)
        theirs = stats.bootstrap(
            (sums, counts),
            lambda s, c, axis=-1: s.sum(axis) / c.sum(axis),
            paired=True,
            vectorized=True,
            n_resamples=40_000,
            method=name,
            batch=1000,
            rng=1,
        ).confidence_interval
        width = theirs.high - theirs.low
        np.testing.assert_allclose((ours.low.item(), ours.high.item()), theirs, atol=0.02 * width)


def test_many_measures_at_once_are_each_alone_and_ids_are_only_names():
    values, groups = clustered(1, measures=4)
    together = intervals.bootstrap(values, groups, seed=5)
    for k in range(4):
        alone = intervals.bootstrap(values[:, k], groups, seed=5)
        assert (alone.low.item(), alone.high.item()) == (
            pytest.approx(together.low[k]),
            pytest.approx(together.high[k]),
        )
    names = np.array([f"{one:05d}.jpg" for one in groups])
    order = np.random.default_rng(0).permutation(len(groups))
    mixed = intervals.bootstrap(values[order], names[order], seed=5)
    np.testing.assert_allclose(mixed.low, together.low)
    np.testing.assert_allclose(mixed.mean, values.mean(axis=0))


def test_the_percentile_interval_is_the_one_of_earlier_lessons():
    values, groups = clustered(2)
    ours = intervals.bootstrap(values, groups, draws=20_000, method="percentile")
    theirs = metrics.bootstrap_interval(values[:, 0], groups, draws=20_000)
    width = theirs[1] - theirs[0]
    np.testing.assert_allclose((ours.low.item(), ours.high.item()), theirs, atol=0.03 * width)


def test_pieces_of_any_size_draw_alike(monkeypatch):
    values, groups = clustered(3)
    whole = intervals.bootstrap(values, groups, draws=500)
    monkeypatch.setattr(intervals, "_CELLS", 10)
    pieces = intervals.bootstrap(values, groups, draws=500)
    np.testing.assert_allclose((pieces.low, pieces.high), (whole.low, whole.high), rtol=1e-12)


@pytest.mark.parametrize("method", ["percentile", "bca"])
@pytest.mark.parametrize(("data", "truth"), [(clustered, 0.0), (hits, 0.9)], ids=["clustered", "hits"])
def test_intervals_cover_the_truth_as_often_as_they_say(data, truth, method):
    """3,000 sets whose true mean is known: the interval must hold it in 93 to 97 of 100."""
    held, careless = [], []
    for seed in range(60):
        values, groups = data(seed, measures=50)
        found = intervals.bootstrap(values, groups, seed=seed, method=method)
        held.append((found.low <= truth) & (truth <= found.high))
        if seed < 6:
            alone = intervals.bootstrap(values, seed=seed, method=method)
            careless.append((alone.low <= truth) & (truth <= alone.high))
    assert 0.93 <= np.mean(held) <= 0.97, np.mean(held)
    assert np.mean(careless) < 0.9  # captions drawn one by one promise too much


def test_differences_cover_the_truth_and_p_values_are_honest():
    """1,200 pairs of models of which one is better by 0.3; the same with the models alike."""
    held, found, false = [], [], []
    for seed in range(1200):
        values, groups = clustered(seed, images=200)
        base = np.random.default_rng(seed + 1).normal(size=len(groups)) * 5  # hard and easy queries, for both alike
        better = intervals.paired(base + values[:, 0] + 0.3, base, groups, draws=400, seed=seed)
        held.append(better.low <= 0.3 <= better.high)
        found.append(better.p < 0.05)
        false.append(intervals.paired(base + values[:, 0], base, groups, draws=400, seed=seed).p < 0.05)
    assert 0.93 <= np.mean(held) <= 0.97, np.mean(held)
    assert 0.03 <= np.mean(false) <= 0.07, np.mean(false)
    assert np.mean(found) > 0.9  # though the queries' own spread is five times the difference's


def test_intervals_of_rare_differences_hold_as_well():
    """Of 200 queries four differ, two each way: BCa would hold in 90 of 100 worlds."""
    held = []
    for seed in range(1000):
        one = np.random.default_rng(seed).random(200)
        found = intervals.paired((one < 0.01) * 1.0, (one > 0.99) * 1.0, draws=400, seed=seed)
        held.append(found.low <= 0 <= found.high)
    assert 0.93 <= np.mean(held) <= 0.98, np.mean(held)


def test_p_is_scipys_permutation_test_and_near_the_t_test():
    rng = np.random.default_rng(0)
    a = rng.normal(size=60)
    b = a + 0.15 * rng.normal(size=60) - 0.045
    ours = intervals.paired(a, b, draws=20_000)
    theirs = stats.permutation_test(
        (a, b), lambda x, y, axis: (x - y).mean(axis), permutation_type="samples", vectorized=True, n_resamples=20_000
    )
    assert ours.p == pytest.approx(theirs.pvalue, abs=0.006)
    assert ours.p == pytest.approx(stats.ttest_rel(a, b).pvalue, abs=0.01)
    assert ours.mean == pytest.approx((a - b).mean())


def test_p_never_says_more_than_its_draws_can():
    assert intervals.paired(np.arange(50) + 100.0, np.arange(50), draws=400).p == 1 / 401
    assert intervals.paired(np.ones(9), np.ones(9), draws=400).p == 1


def test_pairing_finds_what_two_intervals_hide():
    rng = np.random.default_rng(0)
    base = rng.random(500)
    a, b = base + 0.02 + 0.05 * rng.normal(size=500), base
    one, other = intervals.bootstrap(a), intervals.bootstrap(b)
    assert one.low < other.high  # they overlap
    assert intervals.paired(a, b).low > 0


@pytest.mark.parametrize(("effect", "power", "level", "theirs"), [(0.1, 0.8, 0.95, 786.8), (0.05, 0.9, 0.99, 5955.1)])
def test_groups_needed_is_the_t_tests_sample_size(effect, power, level, theirs):
    """theirs: statsmodels 0.15.0, TTestPower().solve_power; a t test wants two to four cases more than a normal one."""
    pilot = np.random.default_rng(0).normal(size=400)
    pilot /= pilot.std(ddof=1)
    assert theirs - 5 <= intervals.groups_needed(pilot, None, effect, power, level) <= theirs + 1


def test_so_many_groups_find_the_effect_as_often_as_asked():
    pilot, groups = clustered(0, images=2000)
    needed = intervals.groups_needed(pilot[:, 0], groups, effect=0.25)
    found = []
    for seed in range(300):
        values, some = clustered(seed + 1, images=needed)
        z = intervals.bootstrap(values + 0.25, some, seed=seed)
        found.append(z.low.item() > 0 or z.high.item() < 0)
    assert 0.72 <= np.mean(found) <= 0.88
    assert needed > intervals.groups_needed(pilot[:, 0], None, effect=0.25) / 4.5  # captions are not fresh evidence


def test_holm_gives_the_numbers_of_statsmodels():
    p_values = [0.01, 0.04, 0.03, 0.005, 0.55, 0.03]
    theirs = [0.05, 0.12, 0.12, 0.03, 0.55, 0.12]  # 0.15.0, multipletests(p_values, method="holm")
    np.testing.assert_allclose(intervals.holm(p_values), theirs)
    assert intervals.holm([0.2]).tolist() == [0.2]


def test_holm_keeps_the_chance_of_any_false_finding():
    rng = np.random.default_rng(0)
    p_values = rng.random((4000, 8))  # eight comparisons, nothing to find in any
    assert np.mean(p_values.min(axis=1) < 0.05) > 0.3  # uncorrected: one in three tables "finds" something
    assert np.mean([intervals.holm(row).min() < 0.05 for row in p_values]) < 0.06


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: intervals.bootstrap([]), "not empty"),
        (lambda: intervals.bootstrap([1.0, np.nan]), "finite"),
        (lambda: intervals.bootstrap(np.ones((2, 2, 2))), "got shape"),
        (lambda: intervals.bootstrap([1.0, 2.0], groups=[0]), "one id a query"),
        (lambda: intervals.bootstrap([1.0, 2.0], groups=[3, 3]), "one group"),
        (lambda: intervals.bootstrap([1.0, 2.0], level=95), "between 0 and 1"),
        (lambda: intervals.bootstrap([1.0, 2.0], draws=10), "100 or more"),
        (lambda: intervals.bootstrap([1.0, 2.0], method="basic"), "known: percentile, bca"),
        (lambda: intervals.paired([1.0, 2.0], [1.0]), "the same queries"),
        (lambda: intervals.groups_needed([1.0, 2.0], effect=0), "must not be 0"),
        (lambda: intervals.groups_needed([1.0, 1.0]), "all alike"),
        (lambda: intervals.holm([]), "T > 0"),
        (lambda: intervals.holm([0.1, 1.2]), r"0\.\.1"),
    ],
)
def test_bad_values_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_values_that_never_vary_have_an_interval_of_no_width():
    found = intervals.bootstrap(np.ones((50, 2)))
    assert found.low.tolist() == found.high.tolist() == [1, 1]
