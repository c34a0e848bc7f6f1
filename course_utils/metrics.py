"""Retrieval metrics that cannot flatter: several right answers, ties in expectation, intervals over images."""

from __future__ import annotations

import numbers

import numpy as np


def recall_at_k(scores, positives, k: int = 1) -> np.ndarray:
    """For each query, the chance that a right answer stands among the first `k` items.

    scores: (Q,N) similarities, larger is better. positives: (Q,) index of the one right item, or (Q,N) True at each
    right item. Returns (Q,) values in [0, 1]; their mean is recall@k. A value between 0 and 1 appears only where right
    and wrong items tie at the edge: it is the expectation over random tie breaking, so a constant scorer gets exactly
    chance. Hit rate, not "true recall": one right item in the first `k` is enough, as in the image-text literature
    (Karpathy and Fei-Fei 2015).

    Raises ValueError for scores that are not finite, shapes that do not fit, `k` outside 1..N, or a query without
    any right item.
    """
    scores, right = _validated(scores, positives)
    if not isinstance(k, numbers.Integral) or not 1 <= k <= scores.shape[1]:
        raise ValueError(f"recall_at_k: k={k!r} is outside the pool of {scores.shape[1]} items; choose 1 <= k <= N.")
    best = np.where(right, scores, -np.inf).max(axis=1, keepdims=True)  # (Q,1) score of the best right item
    above = (scores > best).sum(axis=1)  # (Q,) wrong items strictly above it
    tied_wrong = ((scores == best) & ~right).sum(axis=1)
    tied_right = ((scores == best) & right).sum(axis=1)
    places = np.minimum(k - above, tied_wrong + tied_right)  # places left in the first k for the tied block
    return np.where(places <= 0, 0.0, 1.0 - _none_drawn(tied_wrong, tied_right, np.maximum(places, 0)))


def ranks(scores, positives) -> np.ndarray:
    """Rank of each query's best right item, 1 is first; among ties its expectation over random tie breaking.

    scores: (Q,N); positives: (Q,) indices or (Q,N) booleans. Returns (Q,) floats. Raises as `recall_at_k` does. One
    right item tied with w wrong ones has w / 2 of them before it; r right items leave w / (r + 1) before the first.
    """
    scores, right = _validated(scores, positives)
    best = np.where(right, scores, -np.inf).max(axis=1, keepdims=True)
    tied = scores == best
    return 1.0 + (scores > best).sum(axis=1) + (tied & ~right).sum(axis=1) / (1 + (tied & right).sum(axis=1))


def bootstrap_interval(values, groups=None, seed: int = 0, level: float = 0.95, draws: int = 2000):
    """Percentile interval of a mean, resampling whole groups (images), not single values.

    values: (Q,) one number a query. groups: (Q,) id of the image a query belongs to; None means one group a value.
    Five captions of one picture rise and fall together, so they are drawn together (cluster bootstrap, Efron and
    Tibshirani 1993). Returns (low, high). Raises ValueError for empty or not finite values or ids that do not match.
    """
    values = _numbers(values, "bootstrap_interval: values")
    if values.ndim != 1 or values.size == 0 or not np.isfinite(values).all():
        raise ValueError(f"bootstrap_interval: values must be (Q,) finite numbers, Q > 0; got shape {values.shape}.")
    if groups is None:
        groups = np.arange(values.size)
    groups = np.asarray(groups)
    if groups.shape != values.shape:
        raise ValueError(
            f"bootstrap_interval: {values.size} values but groups of shape {groups.shape}; one id a value."
        )
    if not 0 < level < 1:
        raise ValueError(f"bootstrap_interval: level={level} must lie between 0 and 1, for example 0.95.")
    if not isinstance(draws, numbers.Integral) or draws < 1:
        raise ValueError(f"bootstrap_interval: draws={draws!r} must be a whole number, 1 or more, for example 2000.")
    _, index = np.unique(groups, return_inverse=True)
    sums = np.bincount(index, weights=values)  # (G,) total of each group
    counts = np.bincount(index).astype(np.float64)  # (G,)
    n = len(sums)
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(n, np.full(n, 1.0 / n), size=draws)  # (draws,G) how often each group is drawn
    means = (weights @ sums) / (weights @ counts)  # (draws,G) @ (G,) -> (draws,)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def seed_interval(values, level: float = 0.95):
    """Student's t interval of a mean over a few independent runs (seeds). values: (S,), S >= 2. Returns (low, high).

    Raises ValueError for fewer than two values, or values that are not finite.
    """
    from scipy import stats

    values = _numbers(values, "seed_interval: values")
    if values.ndim != 1 or values.size < 2 or not np.isfinite(values).all():
        raise ValueError(f"seed_interval: needs at least two finite runs, got shape {values.shape}.")
    if not 0 < level < 1:
        raise ValueError(f"seed_interval: level={level} must lie between 0 and 1, for example 0.95.")
    half = stats.t.ppf((1 + level) / 2, values.size - 1) * values.std(ddof=1) / np.sqrt(values.size)
    return float(values.mean() - half), float(values.mean() + half)


def _validated(scores, positives):
    scores = _numbers(scores, "scores")
    if scores.ndim != 2 or 0 in scores.shape:
        raise ValueError(f"scores must be (Q,N), queries by items, neither empty; got shape {scores.shape}.")
    if not np.isfinite(scores).all():
        raise ValueError("scores hold NaN or infinity; look at the embeddings (a zero row, a diverged run, fp16).")
    positives = np.asarray(positives)
    if positives.dtype == bool and positives.shape == scores.shape:
        right = positives
    elif positives.ndim == 1 and len(positives) == len(scores) and np.issubdtype(positives.dtype, np.integer):
        if positives.min() < 0 or positives.max() >= scores.shape[1]:
            raise ValueError(f"positives name items outside 0..{scores.shape[1] - 1}; do the ids match the pool?")
        right = np.arange(scores.shape[1])[None] == positives[:, None]
    else:
        raise ValueError(
            f"positives must be (Q,) item indices or (Q,N) booleans for scores {scores.shape}; "
            f"got shape {positives.shape} of {positives.dtype}."
        )
    if not right.any(axis=1).all():
        raise ValueError(
            f"query {int(np.argmin(right.any(axis=1)))} has no right item in the pool; drop it or mend the ids."
        )
    return scores, right


def _numbers(given, what: str) -> np.ndarray:
    """float64; what cannot be that (text, rows of unequal length, a bfloat16 or tracked tensor) is one clear error."""
    try:
        return np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"{what} cannot be read as numbers ({error}); of a tensor pass tensor.detach().float().cpu()."
        ) from error


def _none_drawn(wrong, right, places):
    """Chance that `places` draws without return from wrong + right items hold no right one (hypergeometric)."""
    chance = np.ones(len(wrong))  # C(wrong, places) / C(wrong + right, places), one factor a right item
    for i in range(1, right.max() + 1):
        chance *= np.where(i <= right, (wrong - places + i) / (wrong + i), 1.0)
    return chance
