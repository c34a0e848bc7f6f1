"""The shape of a shared space in three numbers: alignment, uniformity, the modality gap. Unit rows in, a float out."""

from __future__ import annotations

import numpy as np


def alignment(z_a: np.ndarray, z_b: np.ndarray) -> float:
    """Mean squared distance of right pairs, rows i of z_a and z_b (N,E): 0 where they coincide, 2 where unrelated.

    Wang and Isola 2020, with alpha = 2; for unit rows it is 2 - 2 cos. Raises ValueError for rows that are not of
    length 1, or shapes that differ.
    """
    z_a, z_b = _unit_rows(z_a, "alignment"), _unit_rows(z_b, "alignment")
    if z_a.shape != z_b.shape:
        raise ValueError(f"alignment: row i of both sides is one pair, but the shapes are {z_a.shape} and {z_b.shape}.")
    return float(((z_a - z_b) ** 2).sum(axis=1).mean())


def uniformity(z: np.ndarray, t: float = 2.0) -> float:
    """Logarithm of the mean over pairs i != j of exp(-t |z_i - z_j|^2), z (N,E): 0 for one point, less when spread.

    Wang and Isola 2020. With t = 2, rows drawn evenly from a sphere of many dimensions come near -4; as N grows, no
    arrangement goes below what that even draw tends to. Raises ValueError for rows that are not of length 1, or N < 2.
    """
    z = _unit_rows(z, "uniformity")
    if len(z) < 2:
        raise ValueError("uniformity: two rows at least make a pair; got 1.")
    i, j = np.triu_indices(len(z), k=1)
    squared = np.clip(2 - 2 * (z @ z.T)[i, j], 0, None)  # (N(N-1)/2,)
    return float(np.log(np.exp(-t * squared).mean()))


def modality_gap(z_a: np.ndarray, z_b: np.ndarray) -> float:
    """Distance between the mean of z_a (N,E) and the mean of z_b (M,E): 0 where both lie around one place, at most 2.

    Liang et al. 2022. Raises ValueError for rows that are not of length 1, or widths that differ.
    """
    z_a, z_b = _unit_rows(z_a, "modality_gap"), _unit_rows(z_b, "modality_gap")
    if z_a.shape[1] != z_b.shape[1]:
        raise ValueError(f"modality_gap: both sides need one width E; got {z_a.shape[1]} and {z_b.shape[1]}.")
    return float(np.linalg.norm(z_a.mean(axis=0) - z_b.mean(axis=0)))


def _unit_rows(z: np.ndarray, name: str) -> np.ndarray:
    z = np.asarray(z, dtype=np.float64)
    if z.ndim != 2 or 0 in z.shape:
        raise ValueError(f"{name}: rows must be (N,E), N > 0; got shape {z.shape}.")
    lengths = np.linalg.norm(z, axis=1)  # (N,)
    if not (np.abs(lengths - 1) < 1e-3).all():  # also catches NaN
        raise ValueError(
            f"{name}: rows must have length 1; yours reach from {lengths.min():.3g} to {lengths.max():.3g}."
        )
    return z
