"""How far is a set of generated pictures from a set of real ones? Over any features: no network in here.

Frechet distance and Inception score are biased where samples are few: both look at estimated covariances or means.
`extrapolated` shows by how much; `kernel_distance` has no such bias.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Extrapolation:
    """A measure at several sample sizes (S,), its means (S,), and `limit`: the straight line in 1 / size, at 0."""

    sizes: np.ndarray
    values: np.ndarray
    limit: float


def frechet(x, y) -> float:
    """Squared Frechet distance of two sets of features, each taken as a Gaussian; "FID" over Inception's features.

    x (N,D), y (M,D). |mean difference|^2 + tr(Cx + Cy - 2 (Cx Cy)^1/2) (Heusel et al. 2017). With centred rows A and B,
    the last trace is the sum of singular values of A B' / sqrt((N - 1) (M - 1)): no D x D root, and no larger matrix
    than N x M or D x D, whichever is smaller. Raises ValueError for fewer than two rows, widths that differ, and NaN or
    infinity, float16 overflow included.
    """
    x, y = _features(x, "x"), _features(y, "y")
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"x {x.shape} and y {y.shape} must have the same width: features of one network.")
    apart = x.mean(axis=0) - y.mean(axis=0)
    x, y = ((rows - rows.mean(axis=0)) / np.sqrt(len(rows) - 1) for rows in (x, y))
    spread = (x**2).sum() + (y**2).sum()
    shared = np.linalg.svd(_short(x) @ _short(y).T, compute_uv=False).sum()
    return float(max(apart @ apart + spread - 2 * shared, 0.0))  # rounding may leave -1e-16 for equal sets


def kernel_distance(x, y) -> float:
    """Squared maximum mean discrepancy under the kernel (a'b / D + 1)^3, unbiased: "KID" (Binkowski et al. 2018).

    x (N,D), y (M,D). Its expectation is 0 where both come from one source, at any size, so it may be a little below 0.
    Raises ValueError as `frechet`.
    """
    x, y = _features(x, "x"), _features(y, "y")
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"x {x.shape} and y {y.shape} must have the same width: features of one network.")
    total = -2 * ((x @ y.T / x.shape[1] + 1) ** 3).mean()
    for rows in (x, y):
        kernel = (rows @ rows.T / x.shape[1] + 1) ** 3  # (N,N)
        total += (kernel.sum() - kernel.trace()) / (len(rows) * (len(rows) - 1))
    return float(total)


def inception_score(probabilities) -> float:
    """exp of how much a picture tells about its class: sure on each picture, varied over all. 1 to C.

    probabilities: (N,C) rows of a classifier over the generated pictures. exp(mean KL(row || mean row)), Salimans et
    al. (2016). It sees no real picture: one perfect picture a class has the best score. Raises ValueError for rows
    that are no probabilities.
    """
    rows = np.asarray(probabilities, dtype=np.float64)
    if rows.ndim != 2 or 0 in rows.shape or not (rows >= 0).all() or abs(rows.sum(axis=1) - 1).max() > 1e-3:
        raise ValueError(f"probabilities must be (N,C), each row 0 or more and adding up to 1; got shape {rows.shape}.")
    entropy = [-(p * np.log(np.where(p > 0, p, 1))).sum() for p in (rows.mean(axis=0), rows)]  # 0 log 0 is 0
    return float(np.exp(entropy[0] - entropy[1] / len(rows)))


def extrapolated(
    measure: Callable[[np.ndarray], float], count: int, sizes, repeats: int = 5, seed: int = 0
) -> Extrapolation:
    """A biased measure at several sample sizes and, by a line in 1 / size, without end (Chong and Forsyth 2020).

    measure: function of row numbers (n,) out of `count`, as `lambda rows: frechet(x[rows], y)`. Each size is drawn
    `repeats` times without return. Raises ValueError for fewer than two sizes, or sizes outside 2..count.
    """
    sizes = np.asarray(sizes, dtype=int)
    if sizes.ndim != 1 or len(np.unique(sizes)) < 2 or sizes.min() < 2 or sizes.max() > count:
        raise ValueError(f"sizes must be two different ones or more, in 2..{count}; got {sizes}.")
    rng = np.random.default_rng(seed)
    values = np.array([np.mean([measure(rng.permutation(count)[:n]) for _ in range(repeats)]) for n in sizes])
    return Extrapolation(sizes, values, float(np.polyfit(1 / sizes, values, 1)[1]))


def _short(rows):
    """A matrix with the same inner products of columns and no more rows than columns."""
    return np.linalg.qr(rows, mode="r") if len(rows) > rows.shape[1] else rows


def _features(rows, name):
    given = np.asarray(rows)
    if given.ndim != 2 or len(given) < 2 or given.shape[1] == 0:
        raise ValueError(f"{name} must be (N,D) features, two rows or more; got shape {given.shape}.")
    rows = given.astype(np.float64)
    if not np.isfinite(rows).all():
        why = "float16 overflow?" if given.dtype == np.float16 else "look at the network's outputs."
        raise ValueError(f"{name} holds NaN or infinity: {why}")
    return rows
