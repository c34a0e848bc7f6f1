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
    than N x M or D x D, whichever is smaller. Good to about 1e-7 of its value; features in float32, as networks give
    them, are multiplied so where that is enough. Raises ValueError for fewer than two rows, widths that differ, and NaN
    or infinity, float16 overflow included.
    """
    x, y = _features(x, "x"), _features(y, "y")
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"x {x.shape} and y {y.shape} must have the same width: features of one network.")
    wide = max(len(x), len(y)) <= x.shape[1]  # else rows are shortened first, which wants all digits
    kinds = (np.float32, np.float64) if wide and x.dtype == y.dtype == np.float32 else (np.float64,)
    scale = np.sqrt((len(x) - 1) * (len(y) - 1))
    for kind in kinds:
        (a, a_mean, a_spread), (b, b_mean, b_spread) = _centred(x, kind), _centred(y, kind)
        fixed = ((a_mean - b_mean) ** 2).sum() + a_spread / (len(x) - 1) + b_spread / (len(y) - 1)
        shared = np.matmul(_short(a), _short(b).T).astype(np.float64, copy=False)  # (N,D) @ (D,M) -> (N,M)
        noise = np.finfo(kind).eps * np.sqrt(a_spread * b_spread / min(shared.shape))
        total, doubt = _singular_sum(shared, noise)
        if doubt <= 1e-7 * abs(fixed * scale - 2 * total):
            break
    else:  # near zero, say for equal sets: the exact and slower way
        total = np.linalg.svd(shared, compute_uv=False).sum()
    return float(max(fixed - 2 * total / scale, 0.0))  # rounding may leave -1e-16 for equal sets


def kernel_distance(x, y) -> float:
    """Squared maximum mean discrepancy under the kernel (a'b / D + 1)^3, unbiased: "KID" (Binkowski et al. 2018).

    x (N,D), y (M,D). Its expectation is 0 where both come from one source, at any size, so it may be a little below 0.
    Raises ValueError as `frechet`.
    """
    x, y = (rows.astype(np.float64, copy=False) for rows in (_features(x, "x"), _features(y, "y")))
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


def _singular_sum(matrix, noise):
    """(sum of singular values, how far off it may be), from the eigenvalues of matrix @ matrix.T: twice as fast.

    Two roundings count. The matrix itself is off by a random one of largest singular value `noise`, which moves the sum
    by about `noise`, and lifts values that are smaller than it. Squaring hides values below 1e-8 of the largest.
    """
    matrix = matrix if len(matrix) <= matrix.shape[1] else matrix.T
    squares = np.maximum(np.linalg.eigvalsh(matrix @ matrix.T), 0.0)
    values, tiny = np.sqrt(squares), np.finfo(float).tiny
    slack = 4 * np.sqrt(matrix.shape[1]) * np.finfo(float).eps * squares[-1]
    doubt = (slack / np.maximum(values, np.sqrt(slack) + tiny)).sum()
    return values.sum(), doubt + 2 * noise + (noise**2 / np.maximum(values, noise + tiny)).sum()


def _centred(rows, kind):
    """(rows minus their mean as `kind`, the mean, the sum of squares); sums in float64, a few rows at a time."""
    mean, spread = rows.mean(axis=0, dtype=np.float64), 0.0
    centred = np.empty(rows.shape, dtype=kind)
    for begin in range(0, len(rows), 64):
        part = rows[begin : begin + 64] - mean
        spread += np.vdot(part, part)
        centred[begin : begin + 64] = part
    return centred, mean, spread


def _short(rows):
    """A matrix with the same inner products of columns and no more rows than columns."""
    return np.linalg.qr(rows, mode="r") if len(rows) > rows.shape[1] else rows


def _features(rows, name):
    given = np.asarray(rows)
    if given.ndim != 2 or len(given) < 2 or given.shape[1] == 0:
        raise ValueError(f"{name} must be (N,D) features, two rows or more; got shape {given.shape}.")
    if given.dtype not in (np.float32, np.float64):
        given = given.astype(np.float64)
    if not np.isfinite(given.sum()) and not np.isfinite(given).all():
        why = "float16 overflow?" if np.asarray(rows).dtype == np.float16 else "look at the network's outputs."
        raise ValueError(f"{name} holds NaN or infinity: {why}")
    return given
