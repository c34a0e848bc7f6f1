"""How sure is a measured figure? Bootstrap by image, paired differences, queries needed, several comparisons at once.

Values come one a query; queries of one image rise and fall together, so whole images are drawn (cluster bootstrap,
Davison and Hinkley 1997). One product of drawn counts with the images' sums gives all draws of all measures at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

METHODS = ("percentile", "bca")
_CELLS = 1 << 16  # counts drawn at a time: 0.5 MB, so that they are still in the cache when they are used


@dataclass(frozen=True)
class Interval:
    """Means of T measures (T,), and the interval's ends low, high (T,), at `level`."""

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    level: float


@dataclass(frozen=True)
class Difference:
    """Model A minus model B on the same queries: mean, its interval, and the p-value of "no difference"."""

    mean: float
    low: float
    high: float
    p: float


def bootstrap(values, groups=None, draws: int = 1000, level: float = 0.95, method: str = "bca", seed: int = 0):
    """Intervals of the means of T measures over queries, drawing whole groups (images) with return. -> Interval.

    values: (Q,) or (Q,T), one row a query. groups: (Q,) image of each query; None: each query by itself. "percentile"
    takes the quantiles of the drawn means; "bca" corrects them for bias and skew (Efron 1987) and costs hardly more,
    since the jackknife of a mean has a closed form. The same draws serve all measures, so that they can be compared.
    No method makes up for what was hardly seen: with two misses in 200 queries, a 95 % interval holds in 86 of 100.
    Raises ValueError for empty or not finite values, ids that do not match, fewer than two groups, unknown methods.
    """
    values, index, counts = _grouped(values, groups)
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; known: {', '.join(METHODS)}")
    if not 0 < level < 1 or draws < 100:
        raise ValueError(f"level={level} must lie between 0 and 1, for example 0.95, and draws={draws} be 100 or more.")
    sums = _sums(values, index, len(counts))  # (G,T)
    means = _drawn_means(sums, counts, draws, seed)  # (draws,T)
    tails = np.array([(1 - level) / 2, (1 + level) / 2])
    mean = sums.sum(axis=0) / counts.sum()
    if method == "percentile":
        low, high = np.quantile(means, tails, axis=0)
    else:
        low, high = _corrected(means, mean, sums, counts, tails)
    return Interval(mean, low, high, level)


def paired(a, b, groups=None, draws: int = 1000, level: float = 0.95, seed: int = 0) -> Difference:
    """Is model A better than B on the same queries? a, b: (Q,) one measure of each; groups as in `bootstrap`.

    The interval is the percentile one: where few queries differ, each a win or a loss, BCa corrects a skew that is mere
    chance and holds too seldom. p is that of a permutation test: if the models were alike, each image's difference
    could as well have the other sign; p = (1 + as large or larger) / (1 + draws), both sides, so it is never below
    1 / (1 + draws). Raises ValueError as `bootstrap`, and for a and b of different lengths.
    """
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"a {a.shape} and b {b.shape} must be (Q,), the same queries in the same order.")
    found = bootstrap(a - b, groups, draws, level, "percentile", seed)
    values, index, counts = _grouped(a - b, groups)
    sums = _sums(values, index, len(counts))[:, 0]  # (G,)
    rng, as_large, observed = np.random.default_rng([seed, 1]), 0, abs(sums.sum())
    step = max(1, _CELLS // len(sums))
    for begin in range(0, draws, step):
        signs = rng.integers(0, 2, (min(step, draws - begin), len(sums)), dtype=np.int8) * 2.0 - 1  # (step,G)
        as_large += int((abs(signs @ sums) >= observed * (1 - 1e-12)).sum())
    p = (1 + as_large) / (1 + draws)
    return Difference(float(found.mean[0]), float(found.low[0]), float(found.high[0]), p)


def groups_needed(differences, groups=None, effect: float = 0.01, power: float = 0.8, level: float = 0.95) -> int:
    """How many groups (images) until a true difference of `effect` is found with probability `power`.

    differences: (Q,) A minus B on a pilot set, groups as in `bootstrap`. Two-sided test at `level`, normal
    approximation: n = ((z_level + z_power) * s / effect)^2, s the spread of the images' parts (Cohen 1988). Raises
    ValueError as `bootstrap`, for an effect of 0, and where the pilot differences are all alike.
    """
    values, index, counts = _grouped(differences, groups)
    if not (effect and 0 < power < 1 and 0 < level < 1):
        raise ValueError(f"effect={effect} must not be 0; power={power} and level={level} lie between 0 and 1.")
    sums = _sums(values, index, len(counts))[:, 0]
    mean = sums.sum() / counts.sum()
    parts = (sums - mean * counts) / counts.mean()  # (G,) linearised mean of a ratio, unequal groups included
    spread = np.sqrt((parts**2).sum() / (len(parts) - 1))
    if spread == 0:
        raise ValueError("the pilot differences are all alike, so nothing says how they vary; take a larger pilot set.")
    return int(np.ceil(((special.ndtri((1 + level) / 2) + special.ndtri(power)) * spread / effect) ** 2))


def holm(p_values) -> np.ndarray:
    """p-values of several comparisons, adjusted so that the chance of any false finding stays at the level (Holm 1979).

    (T,) -> (T,) in the same order: the smallest times T, the next times T - 1, and so on, never falling, at most 1.
    Raises ValueError for an empty list or values outside 0..1.
    """
    p_values = np.asarray(p_values, dtype=np.float64)
    if p_values.ndim != 1 or p_values.size == 0 or not ((p_values >= 0) & (p_values <= 1)).all():
        raise ValueError(f"p_values must be (T,) in 0..1, T > 0; got {p_values}.")
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.minimum(np.maximum.accumulate(p_values[order] * np.arange(len(order), 0, -1)), 1)
    return adjusted


def _grouped(values, groups):
    """values (Q,T), index (Q,) of each query's group, counts (G,) of queries."""
    values = np.asarray(values, dtype=np.float64)
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2 or values.size == 0 or not np.isfinite(values).all():
        raise ValueError(f"values must be (Q,) or (Q,T) finite numbers, not empty; got shape {values.shape}.")
    groups = np.arange(len(values)) if groups is None else np.asarray(groups)
    if groups.shape != (len(values),):
        raise ValueError(f"{len(values)} queries but groups of shape {groups.shape}; one id a query.")
    index = np.unique(groups, return_inverse=True)[1]
    counts = np.bincount(index).astype(np.float64)
    if len(counts) < 2:
        raise ValueError("all queries belong to one group: nothing can be drawn; give the image of each query.")
    return values, index, counts


def _sums(values, index, groups):
    return np.stack([np.bincount(index, weights=column, minlength=groups) for column in values.T], axis=1)  # (G,T)


def _drawn_means(sums, counts, draws, seed):
    """(draws,T): how often each group was drawn (a multinomial row a draw), times the groups' sums and counts."""
    groups, rng = len(counts), np.random.default_rng(seed)
    both = np.concatenate([sums, counts[:, None]], axis=1)  # (G,T+1)
    totals, step = np.empty((draws, both.shape[1])), max(1, _CELLS // groups)
    for begin in range(0, draws, step):
        some = min(step, draws - begin)
        drawn = rng.integers(0, groups, (some, groups)) + groups * np.arange(some)[:, None]  # (some,G)
        times = np.bincount(drawn.ravel(), minlength=some * groups).reshape(some, groups)  # (some,G)
        totals[begin : begin + some] = times.astype(np.float64) @ both
    return totals[:, :-1] / totals[:, -1:]


def _corrected(means, mean, sums, counts, tails):
    """BCa quantiles of each column: tails shifted by bias z0 and acceleration a, from the jackknife over groups."""
    draws = len(means)
    below = ((means < mean).sum(axis=0) + (means <= mean).sum(axis=0)) / (2 * draws)  # (T,) ties count half
    bias = special.ndtri(np.clip(below, 0.5 / draws, 1 - 0.5 / draws))
    left_out = (sums.sum(axis=0) - sums) / (counts.sum() - counts)[:, None]  # (G,T)
    away = left_out.mean(axis=0) - left_out
    spread = (away**2).sum(axis=0) ** 1.5
    skew = np.divide((away**3).sum(axis=0), 6 * spread, out=np.zeros_like(mean), where=spread > 0)
    shifted = bias + special.ndtri(tails)[:, None]  # (2,T)
    at = special.ndtr(bias + shifted / (1 - skew * shifted))
    place = at * (draws - 1)  # (2,T) between which of the ordered draws the ends lie
    under = np.minimum(place.astype(int), draws - 2)
    ordered, column = np.sort(means, axis=0), np.arange(means.shape[1])
    low, high = ordered[under, column], ordered[under + 1, column]
    return low + (place - under) * (high - low)
