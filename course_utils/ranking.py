"""Every retrieval measure from ranks: several right answers, and expected values where scores tie.

A `Ranking` says where the right answers of each query stand in its pool; `counting` makes one from scores or from
embeddings. Each measure gives one value a query, ready for `intervals.bootstrap`. Where scores tie, it is the
expectation over all ways to break the ties (McSherry and Najork 2008): a scorer that knows nothing gets chance.
"""

from __future__ import annotations

import numbers
from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class Ranking:
    """Where each right answer of Q queries stands among `pool` items. P: most right answers of any query.

    All arrays are (Q,P), each query's best right answer first; `right` is False where a query has fewer than P.
    above: items with a larger score. tied: items with an equal score, the right answer itself included.
    right_above, right_tied: how many of those are right. Rank 1 is first: `above` = 0 and `tied` = 1.
    """

    above: np.ndarray
    tied: np.ndarray
    right_above: np.ndarray
    right_tied: np.ndarray
    right: np.ndarray
    pool: int

    def __len__(self) -> int:
        return len(self.right)

    @cached_property
    def relevant(self) -> np.ndarray:
        """(Q,) how many right answers each query has."""
        return self.right.sum(axis=1)

    def hit_rate(self, k: int) -> np.ndarray:
        """(Q,) chance that at least one right answer is among the first `k`. "Recall@k" in image-text papers.

        The mean is what Karpathy and Fei-Fei (2015) report. Raises ValueError for `k` outside 1..pool.
        """
        above, wrong, right = self._first()
        places = np.clip(self._checked(k) - above, 0, wrong + right)  # places of the first k that fall into the tie
        if not wrong.any():  # no tie with a wrong answer
            return (places > 0).astype(np.float64)
        missed = np.ones(len(self))  # C(wrong, places) / C(wrong + right, places): no right answer among those drawn
        for i in range(1, int(right.max()) + 1):
            missed *= np.where(i <= right, np.maximum(wrong - places + i, 0) / (wrong + i), 1.0)
        return 1.0 - missed

    def true_recall(self, k: int) -> np.ndarray:
        """(Q,) share of a query's right answers among the first `k`: recall as information retrieval defines it.

        With five right answers it cannot pass k / 5. Raises ValueError for `k` outside 1..pool.
        """
        inside = np.clip(self._checked(k) - self.above, 0, self.tied) / self.tied  # (Q,P)
        return self._over_right(inside)

    def precision(self, k: int) -> np.ndarray:
        """(Q,) share of the first `k` that is right. Raises ValueError for `k` outside 1..pool."""
        return self.true_recall(k) * self.relevant / k

    def first_rank(self) -> np.ndarray:
        """(Q,) rank of the best right answer, 1 is first. Its median and mean are what papers call median rank."""
        above, wrong, right = self._first()
        return 1.0 + above + wrong / (right + 1)

    def reciprocal_rank(self) -> np.ndarray:
        """(Q,) one over the rank of the best right answer; the mean is MRR."""
        above, wrong, right = self._first()
        harmonic = self._harmonic
        values = (harmonic[above + wrong + 1] - harmonic[above]) / (wrong + 1)  # one right answer among the tied
        several = (right > 1) & (wrong > 0)
        if several.any():  # many queries tie alike: each kind of tie is worked out once
            kinds, index = np.unique(np.stack([above, wrong, right])[:, several], axis=1, return_inverse=True)
            values[several] = np.array([_tied_reciprocal(*kind) for kind in kinds.T.tolist()])[index.ravel()]
        return np.where(wrong == 0, 1.0 / (above + 1), values)

    def average_precision(self) -> np.ndarray:
        """(Q,) precision at each right answer's rank, averaged over right answers; the mean is mAP."""
        return self._precision_down_to(np.full(len(self), self.pool))

    def average_precision_at_r(self) -> np.ndarray:
        """(Q,) the same over the first R places alone, R being the query's number of right answers; the mean is mAP@R.

        1 if and only if all R right answers come first (Musgrave, Belongie and Lim 2020).
        """
        return self._precision_down_to(self.relevant)

    def ndcg(self, k: int | None = None) -> np.ndarray:
        """(Q,) discounted cumulative gain of the first `k` (None: all) over the best possible, gains 0 and 1.

        The item at rank r counts 1 / log2(r + 1) (Jarvelin and Kekalainen 2002). Raises ValueError for `k` outside
        1..pool.
        """
        k = self.pool if k is None else self._checked(k)
        gain = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(2, self.pool + 2)))])  # (pool+1,) of first ranks
        inside = (gain[np.minimum(self.above + self.tied, k)] - gain[np.minimum(self.above, k)]) / self.tied
        return np.where(self.right, inside, 0.0).sum(axis=1) / gain[np.minimum(self.relevant, k)]

    def measures(self, ks: tuple[int, ...] = (1, 5, 10)) -> dict[str, np.ndarray]:
        """The full table, one (Q,) array a measure; `k` beyond the pool raises ValueError."""
        found = {f"hit_rate_at_{k}": self.hit_rate(k) for k in ks}
        found |= {f"true_recall_at_{k}": self.true_recall(k) for k in ks}
        found |= {"first_rank": self.first_rank(), "reciprocal_rank": self.reciprocal_rank()}
        found |= {"average_precision": self.average_precision()}
        return found | {"average_precision_at_r": self.average_precision_at_r(), "ndcg": self.ndcg()}

    def summary(self, ks: tuple[int, ...] = (1, 5, 10)) -> dict[str, float]:
        """Means of `measures`, and the median rank."""
        found = self.measures(ks)
        return {name: float(values.mean()) for name, values in found.items()} | {
            "median_rank": float(np.median(found["first_rank"]))
        }

    def _checked(self, k: int) -> int:
        if not isinstance(k, numbers.Integral) or not 1 <= k <= self.pool:
            raise ValueError(f"k={k!r} is outside the pool of {self.pool} items; choose 1 <= k <= {self.pool}.")
        return int(k)

    def _first(self):
        """(above, wrong tied, right tied) of each query's best right answer, (Q,) each."""
        return self.above[:, 0], self.tied[:, 0] - self.right_tied[:, 0], self.right_tied[:, 0]

    def _over_right(self, values):
        return np.where(self.right, values, 0.0).sum(axis=1) / self.relevant

    @cached_property
    def _harmonic(self):
        """(pool+1,) 1 + 1/2 + ... + 1/n."""
        return np.concatenate([[0.0], np.cumsum(1 / np.arange(1, self.pool + 1))])

    def _precision_down_to(self, last):
        """Average precision over places 1..last (Q,).

        A right answer in a tie is equally likely at each of the tie's places. At place p of the tie, `above` + p items
        were seen, and of the p - 1 tied ones among them a share (right_tied - 1) / (tied - 1) is right.
        """
        harmonic = self._harmonic
        places = np.clip(last[:, None] - self.above, 0, self.tied)  # (Q,P) places of the tie that count
        inverse = harmonic[self.above + places] - harmonic[self.above]  # (Q,P) sum of 1 / (above + p)
        share = (self.right_tied - 1) / np.maximum(self.tied - 1, 1)
        precision = (self.right_above + 1) * inverse + share * (places - (self.above + 1) * inverse)
        return self._over_right(precision / self.tied)


def _tied_reciprocal(above: int, wrong: int, right: int) -> float:
    """E[1 / rank] of the first of `right` right answers shuffled among `wrong` wrong ones, after `above` items."""
    place = np.arange(wrong + 1)
    left = wrong + right - place  # tied items not yet drawn
    none_before = np.concatenate([[1.0], np.cumprod((wrong - place[:-1]) / left[:-1])])
    return float((none_before * right / left / (above + place + 1)).sum())
