"""Precision, recall and F1 from counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Report:
    """What a confusion matrix of C classes says.

    precision, recall, f1 (C,) fractions; support (C,) cases of each class; accuracy; macro (3,): precision, recall and
    F1 averaged over classes, each class alike; weighted (3,): the same, each class counting as often as it occurs.
    Micro averages, from counts pooled over classes, are all accuracy where each case has one label and one answer.
    """

    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    support: np.ndarray
    accuracy: float
    macro: np.ndarray
    weighted: np.ndarray

    @property
    def micro(self) -> np.ndarray:
        """(3,) precision, recall and F1 of counts pooled over classes: accuracy three times."""
        return np.full(3, self.accuracy)

    def table(self, names: Sequence[str]) -> pd.DataFrame:
        """One row a class, named, then a row of macro averages. Raises ValueError where names do not fit."""
        if len(names) != len(self.support):
            raise ValueError(f"Report.table: {len(names)} names for {len(self.support)} classes.")
        rows = np.stack([self.precision, self.recall, self.f1], axis=1)  # (C,3)
        table = pd.DataFrame(np.vstack([rows, self.macro]), columns=["precision", "recall", "f1"])
        table["support"] = [*self.support, self.support.sum()]
        table.index = [*names, "macro average"]
        return table


def confusion(truth, predicted, classes: int) -> np.ndarray:
    """How often each class was taken for each: (C,C) counts, rows are the truth, columns the answers.

    truth, predicted: (N,) class ids in 0..classes-1. Raises ValueError for other ids or lengths that differ.
    """
    truth, predicted = np.asarray(truth), np.asarray(predicted)
    if truth.shape != predicted.shape or truth.ndim != 1:
        raise ValueError(f"confusion: truth {truth.shape} and predicted {predicted.shape} must be the same (N,).")
    ids = np.concatenate([truth, predicted])
    if ids.size and (not np.issubdtype(ids.dtype, np.integer) or ids.min() < 0 or ids.max() >= classes):
        raise ValueError(f"confusion: class ids must be whole numbers in 0..{classes - 1}.")
    return np.bincount(truth.astype(int) * classes + predicted.astype(int), minlength=classes**2).reshape(classes, -1)


def report(counts) -> Report:
    """Precision, recall and F1 of each class and over all, from a confusion matrix (C,C) with the truth in rows.

    A quotient of nothing by nothing, as the precision of a class that was never answered, is 0.0. The same numbers as
    scikit-learn's precision_recall_fscore_support with zero_division=0. Raises ValueError for a matrix that is not
    square, negative, or empty.
    """
    counts = np.asarray(counts)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or counts.sum() == 0 or counts.min() < 0:
        raise ValueError(f"report: counts must be (C,C), at least one case, none negative; got shape {counts.shape}.")
    right, answered, support = counts.diagonal(), counts.sum(axis=0), counts.sum(axis=1)  # (C,) each
    precision, recall = _quotient(right, answered), _quotient(right, support)
    f1 = _quotient(2 * right, answered + support)  # 2PR / (P + R), multiplied out
    each = np.stack([precision, recall, f1])  # (3,C)
    macro, weighted = each.mean(axis=1), each @ support / counts.sum()
    return Report(precision, recall, f1, support, float(right.sum() / counts.sum()), macro, weighted)


def _quotient(above, below):
    return np.divide(above, below, out=np.zeros(len(above)), where=below > 0)
