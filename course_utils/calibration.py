"""Does a model that says "80 %" have 80 % right? Reliability, calibration errors, Brier score, temperature.

Probabilities and labels in, numbers out; no model. Confidence is the probability of the answer given, the largest one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import optimize, special


@dataclass(frozen=True)
class Reliability:
    """Cases sorted into bins by confidence; empty bins are left out. All arrays are (bins,).

    confidence, accuracy: means of a bin; count: its cases; low, high: its edges, cases lie in (low, high].
    """

    confidence: np.ndarray
    accuracy: np.ndarray
    count: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @property
    def expected_error(self) -> float:
        """ECE: |accuracy - confidence|, averaged over cases (Naeini, Cooper and Hauskrecht 2015). 0 is best."""
        return float(np.average(abs(self.accuracy - self.confidence), weights=self.count))

    @property
    def largest_error(self) -> float:
        """MCE: the same in the worst bin; with few cases a bin it is mostly noise."""
        return float(abs(self.accuracy - self.confidence).max())


def reliability(confidence, right, bins: int = 15, equal_counts: bool = False) -> Reliability:
    """Confidence against accuracy, bin by bin. confidence: (N,) in 0..1; right: (N,) booleans or 0 and 1.

    Bins are equally wide, or hold equally many cases with equal_counts=True. For one class, give its probability and
    whether a case belongs to it. Raises ValueError for values outside 0..1, shapes that differ, no cases, bins < 1.
    """
    confidence, right = _checked(confidence, right)
    if bins < 1:
        raise ValueError(f"bins={bins}: give 1 or more.")
    shares = np.linspace(0, 1, bins + 1)
    edges = np.unique(np.percentile(confidence, 100 * shares)) if equal_counts else shares
    if len(edges) == 1:  # all cases alike
        edges = np.array([edges[0], edges[0]])
    index = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, len(edges) - 2)  # (low, high]
    count = np.bincount(index, minlength=len(edges) - 1)
    some = count > 0
    sums = [np.bincount(index, weights=w, minlength=len(count))[some] for w in (confidence, right)]
    return Reliability(sums[0] / count[some], sums[1] / count[some], count[some], edges[:-1][some], edges[1:][some])


def brier(probabilities, truth) -> float:
    """Mean squared distance of the probabilities (N,C) from the one-hot truth (N,), summed over classes: 0 to 2.

    Brier 1950. For two classes it is twice scikit-learn's brier_score_loss of one class. Raises ValueError for rows
    that are no probabilities, or labels outside 0..C-1.
    """
    probabilities, truth = _distributions(probabilities, truth)
    return float(((probabilities - np.eye(probabilities.shape[1])[truth]) ** 2).sum(axis=1).mean())


def temperature(logits, truth) -> float:
    """The temperature T > 0 for which softmax(logits / T) gives the truth most probability (Guo et al. 2017).

    logits: (N,C); truth: (N,) labels. Fit it on a validation split, never on the test split. No answer changes, only
    confidence: T > 1 where the model was too sure. Raises ValueError for logits that are not finite, or labels outside
    0..C-1, and where every case is right, since then no T is large or small enough.
    """
    logits, truth = np.asarray(logits, dtype=np.float64), np.asarray(truth)
    if logits.ndim != 2 or 0 in logits.shape or not np.isfinite(logits).all():
        raise ValueError(f"logits must be (N,C), finite and not empty; got shape {logits.shape}.")
    truth = _labels(truth, logits)
    if (logits[np.arange(len(truth)), truth] >= logits.max(axis=1)).all():
        raise ValueError("every case is right: no temperature is the best one; fit on a split with some errors.")

    def loss(log_t):
        scaled = logits / np.exp(log_t)
        return (special.logsumexp(scaled, axis=1) - scaled[np.arange(len(truth)), truth]).mean()

    return float(np.exp(optimize.minimize_scalar(loss, bounds=(-7, 7), method="bounded", options={"xatol": 1e-8}).x))


def _checked(confidence, right):
    confidence, right = np.asarray(confidence, dtype=np.float64), np.asarray(right, dtype=np.float64)
    if confidence.ndim != 1 or confidence.shape != right.shape or confidence.size == 0:
        raise ValueError(f"confidence {confidence.shape} and right {right.shape} must be the same (N,), N > 0.")
    if not ((confidence >= 0) & (confidence <= 1)).all():
        raise ValueError("confidence must lie in 0..1 and be no NaN: probabilities, not logits or percent.")
    if not np.isin(right, (0, 1)).all():
        raise ValueError("right must be True or False (or 1 and 0) for each case: was the answer right?")
    return confidence, right


def _distributions(probabilities, truth):
    probabilities = np.asarray(probabilities, dtype=np.float64)
    if probabilities.ndim != 2 or 0 in probabilities.shape:
        raise ValueError(f"probabilities must be (N,C), not empty; got shape {probabilities.shape}.")
    if not (probabilities >= 0).all() or abs(probabilities.sum(axis=1) - 1).max() > 1e-3:
        raise ValueError("each row of probabilities must be 0 or more and add up to 1: softmax the logits first.")
    return probabilities, _labels(truth, probabilities)


def _labels(truth, rows):
    truth = np.asarray(truth)
    if truth.shape != (len(rows),) or not np.issubdtype(truth.dtype, np.integer):
        raise ValueError(f"truth must be (N,) whole numbers for N={len(rows)}; got {truth.shape} of {truth.dtype}.")
    if truth.min() < 0 or truth.max() >= rows.shape[1]:
        raise ValueError(f"truth names classes outside 0..{rows.shape[1] - 1}.")
    return truth
