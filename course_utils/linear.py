"""Two maps in closed form: ridge, which predicts one view from another, and CCA, which takes both to a shared space."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class LinearMap:
    """x (N,Dx) -> (x - mean_x) @ weight + mean_y, (N,Dy); weight (Dx,Dy), mean_x (Dx,), mean_y (Dy,)."""

    weight: np.ndarray
    mean_x: np.ndarray
    mean_y: np.ndarray

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return (np.asarray(x) - self.mean_x) @ self.weight + self.mean_y  # (N,Dx) @ (Dx,Dy) -> (N,Dy)


@dataclass(frozen=True)
class Cca:
    """Two maps into one space, x (N,Dx) -> (N,E) and y (N,Dy) -> (N,E), and the correlations (E,), largest first."""

    map_x: LinearMap
    map_y: LinearMap
    correlations: np.ndarray


def ridge(x: np.ndarray, y: np.ndarray, strength: float) -> LinearMap:
    """The linear map from x (N,Dx) to y (N,Dy) with the least squared error plus `strength` times its squared weights.

    With both centred the weights are (x'x + strength I)^-1 x'y, which equals x' (xx' + strength I)^-1 y; the smaller
    system is solved (Hoerl and Kennard 1970). The offset costs nothing. strength 0 is least squares and, where that
    leaves a choice, the smallest weights. Raises ValueError for shapes that do not fit, values that are not finite
    or a negative strength.
    """
    x, y = _paired(x, y, strength, "ridge")
    mean_x, mean_y = x.mean(axis=0), y.mean(axis=0)
    x, y = x - mean_x, y - mean_y
    if strength == 0:
        weight = np.linalg.lstsq(x, y, rcond=None)[0]
    elif x.shape[0] < x.shape[1]:
        weight = x.T @ np.linalg.solve(x @ x.T + strength * np.eye(len(x)), y)  # (Dx,N) @ (N,Dy) -> (Dx,Dy)
    else:
        weight = np.linalg.solve(x.T @ x + strength * np.eye(x.shape[1]), x.T @ y)  # (Dx,Dy)
    return LinearMap(weight, mean_x, mean_y)


def cca(x: np.ndarray, y: np.ndarray, dims: int, strength: float = 0.0) -> Cca:
    """Canonical correlation analysis of x (N,Dx) and y (N,Dy): `dims` directions a side that correlate most.

    Both sides are centred and whitened, and the singular vectors of their product are the directions (Hotelling 1936;
    Bjorck and Golub 1973). Without `strength`, the columns of map_x(x) have variance 1, are uncorrelated, and column i
    correlates with column i of map_y(y) by correlations[i]. With it, strength * I is added to x'x and to y'y before
    whitening, on the scale of `ridge`, and correlations are those that are left; without it, N below Dx or Dy makes
    everything correlate. Raises ValueError as `ridge` does, and for `dims` outside 1..rank of the weaker side.
    """
    x, y = _paired(x, y, strength, "cca")
    mean_x, mean_y = x.mean(axis=0), y.mean(axis=0)
    (white_x, back_x), (white_y, back_y) = _whitened(x - mean_x, strength), _whitened(y - mean_y, strength)
    most = min(white_x.shape[1], white_y.shape[1])
    if not 1 <= dims <= most:
        raise ValueError(f"cca: dims={dims} is outside 1..{most}, the rank of the weaker side.")
    left, correlations, right = np.linalg.svd(white_x.T @ white_y, full_matrices=False)  # (Rx,Ry)
    scale, zero = np.sqrt(len(x) - 1), np.zeros(dims)  # variance 1 instead of length 1
    return Cca(
        LinearMap(back_x @ left[:, :dims] * scale, mean_x, zero),  # (Dx,R) @ (R,E) -> (Dx,E)
        LinearMap(back_y @ right[:dims].T * scale, mean_y, zero),
        correlations[:dims],
    )


def _whitened(x: np.ndarray, strength: float) -> tuple[np.ndarray, np.ndarray]:
    """Centred x (N,D) of rank R -> white (N,R) and back (D,R) with x @ back = white."""
    left, size, right = np.linalg.svd(x, full_matrices=False)
    rank = int((size > size.max() * max(x.shape) * np.finfo(float).eps).sum())  # NumPy's own rule for a rank
    left, size, right = left[:, :rank], size[:rank], right[:rank]
    root = np.sqrt(size**2 + strength)
    return left * (size / root), right.T / root


def _paired(x: np.ndarray, y: np.ndarray, strength: float, name: str) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if x.ndim != 2 or y.ndim != 2 or len(x) != len(y) or len(x) < 2:
        raise ValueError(f"{name}: x (N,Dx) and y (N,Dy) need the same N > 1 rows; got {x.shape} and {y.shape}.")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError(f"{name}: x or y holds NaN or infinity; drop the rows that lack a modality first.")
    if not 0 <= strength < np.inf:
        raise ValueError(f"{name}: strength={strength} must be 0 or a positive number.")
    return x, y
