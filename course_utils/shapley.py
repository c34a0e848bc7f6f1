"""Shapley values: what each player contributes to a score, averaged over all orders in which players may come.

A game is a function `value`: present (S,n) bool, a row for each set of players -> (S,) scores. What an absent player
leaves behind is the game's business (see `absence`). Coalitions are numbered by their bits: player i is in coalition k
where bit i of k is set. Source: Shapley 1953; for interactions, Grabisch and Roubens 1999.

The score of a two-tower model is a product, z_img . z_txt, in which regions change one factor and words the other. So
2**n_img pictures and 2**n_txt sentences are all there is to encode for every coalition of regions and words together;
and since a Shapley weight asks only how many players are there, not even the table of 2**(n_img + n_txt) scores is
needed: `joint` works on sums of embeddings over coalitions of equal size.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable
from dataclasses import dataclass
from math import comb

import numpy as np

_MOST = 20  # players whose coalitions are enumerated: about a million


@dataclass(frozen=True)
class Estimate:
    """Sampled values (n,), and the standard error of each, over pairs of orders."""

    values: np.ndarray
    error: np.ndarray


@dataclass(frozen=True)
class Joint:
    """Exact Shapley values of a two-tower score. Leading dimensions, if any, are cases.

    picture (...,n_img) and words (...,n_txt): values, in units of the score. interactions (...,n_img,n_txt): what a
    region and a word are worth together beyond what each is worth alone. empty, full (...): the score with no player
    and with all.
    """

    picture: np.ndarray
    words: np.ndarray
    interactions: np.ndarray
    empty: np.ndarray
    full: np.ndarray

    @property
    def share_of_words(self) -> np.ndarray:
        """(...) in [0, 1]: the words' part of all credit, whatever its sign: T-SHAP of Parcalabescu and Frank 2023.

        NaN where nobody gets any credit.
        """
        words, picture = np.abs(self.words).sum(axis=-1), np.abs(self.picture).sum(axis=-1)
        with np.errstate(invalid="ignore"):
            return words / (words + picture)

    @property
    def gap(self) -> np.ndarray:
        """(...) by how much the values miss full - empty, in units of the score: rounding, if all is well."""
        return np.abs(self.picture.sum(axis=-1) + self.words.sum(axis=-1) - (self.full - self.empty))


def coalitions(n: int) -> np.ndarray:
    """(2**n, n) bool: every set of n players, first nobody, last everybody. Raises ValueError beyond 20 players."""
    if not isinstance(n, numbers.Integral) or not 1 <= n <= _MOST:
        raise ValueError(f"coalitions: n={n}; 1 to {_MOST} players, or there are too many sets. Sample orders instead.")
    return (np.arange(2**n)[:, None] >> np.arange(n) & 1).astype(bool)  # (2**n,1) >> (n,) -> (2**n,n)


def values_of(table) -> np.ndarray:
    """Shapley values from the scores of all coalitions: (...,2**n), in the order of `coalitions` -> (...,n).

    Raises ValueError for a length that is no power of two, or scores that are not finite.
    """
    table, n = _table(table)
    index, sizes, weight = *_without(n), _weights(n)
    gains = [table[..., at + (1 << i)] - table[..., at] for i, at in enumerate(index)]  # n times (...,2**(n-1))
    return np.stack([gain @ weight[size] for gain, size in zip(gains, sizes)], axis=-1)


def interactions_of(table) -> np.ndarray:
    """Shapley interaction index of each two players: (...,2**n) scores of all coalitions -> (...,n,n), zero diagonal.

    Positive where two players are worth more together than alone. Raises as `values_of` does.
    """
    table, n = _table(table)
    found = np.zeros((*table.shape[:-1], n, n))
    if n == 1:
        return found
    weight = _weights(n - 1)
    for i in range(n):
        for j in range(i):
            at = np.flatnonzero((np.arange(2**n) >> i | np.arange(2**n) >> j) & 1 == 0)  # neither is there
            gain = table[..., at + (1 << i) + (1 << j)] - table[..., at + (1 << i)]
            gain = gain - table[..., at + (1 << j)] + table[..., at]
            found[..., i, j] = found[..., j, i] = gain @ weight[_sizes(at)]
    return found


def exact(value: Callable, n: int, batch: int = 1024) -> np.ndarray:
    """Shapley values by asking the game for all 2**n coalitions, `batch` at a time -> (n,).

    Raises ValueError beyond 20 players, for scores that are not finite or not (S,), and for a game that answers the
    same question in two ways, as a model in training mode does.
    """
    return values_of(_ask(value, coalitions(n), batch))


def by_permutations(value: Callable, n: int, pairs: int, seed: int = 0, batch: int = 1024) -> Estimate:
    """Shapley values from random orders: what each player adds when it comes, averaged.

    pairs: orders that are drawn, each used forwards and backwards, which costs 2 * n questions a pair and cancels much
    of the noise (Mitchell et al. 2022). Values add up exactly, however few. Raises ValueError as `exact` does, or for
    fewer than two pairs: one has no error.
    """
    if not all(isinstance(one, numbers.Integral) for one in (pairs, n)) or pairs < 2 or n < 1:
        raise ValueError(f"by_permutations: pairs={pairs}, n={n}; at least two pairs and one player, please.")
    rng = np.random.default_rng(seed)
    orders = np.stack([rng.permutation(n) for _ in range(pairs)])
    orders = np.concatenate([orders, orders[:, ::-1]])  # (2*pairs,n)
    place = orders.argsort(axis=1)  # (2*pairs,n) when each player comes
    present = place[:, None, :] < np.arange(n + 1)[None, :, None]  # (2*pairs,n+1,n) the first 0, 1, ... n players
    inner = _ask(value, np.concatenate([present[0, [0, -1]], present[:, 1:-1].reshape(-1, n)]), batch)
    ends = np.broadcast_to(inner[:2], (2 * pairs, 2))  # nobody and everybody: the same in every order
    scores = np.concatenate([ends[:, :1], inner[2:].reshape(2 * pairs, n - 1), ends[:, 1:]], axis=1)  # (2*pairs,n+1)
    gains = np.take_along_axis(np.diff(scores, axis=1), place, axis=1)  # (2*pairs,n) by player
    paired = (gains[:pairs] + gains[pairs:]) / 2  # (pairs,n)
    return Estimate(paired.mean(axis=0), paired.std(axis=0, ddof=1) / np.sqrt(pairs))


def leave_one_out(value: Callable, n: int) -> np.ndarray:
    """What the score loses without each player while all others stay -> (n,). n + 1 questions; no credit is shared.

    Raises ValueError as `exact` does.
    """
    scores = _ask(value, np.concatenate([np.ones((1, n), dtype=bool), ~np.eye(n, dtype=bool)]), n + 1)
    return scores[0] - scores[1:]


def joint(z_img, z_txt) -> Joint:
    """Exact Shapley values of regions and words together, for the score z_img . z_txt.

    z_img (...,2**n_img,E): embeddings of the picture with each coalition of its regions; z_txt (...,2**n_txt,E): of the
    sentence with each coalition of its words; both in the order of `coalitions`. Leading dimensions are broadcast: one
    picture with many sentences, or many pairs. Multiply by 1 / tau for logits. Computed in fp64.

    Raises ValueError for shapes that do not fit, or embeddings that are not finite.
    """
    (z_img, n_img), (z_txt, n_txt) = _embeddings(z_img, "z_img"), _embeddings(z_txt, "z_txt")
    if z_img.shape[-1] != z_txt.shape[-1]:
        raise ValueError(f"joint: z_img {z_img.shape} and z_txt {z_txt.shape} do not share a space E.")
    n = n_img + n_txt
    all_img, all_txt = _by_size(z_img, n_img), _by_size(z_txt, n_txt)  # (...,n_img+1,E), (...,n_txt+1,E)
    gain_img, gain_txt = _gains(z_img, n_img), _gains(z_txt, n_txt)  # (...,n_img,n_img,E), (...,n_txt,n_txt,E)
    alone, both = _weights(n), _weights(n - 1)
    return Joint(
        _weighted(gain_img, all_txt[..., None, :, :], alone)[..., 0],
        _weighted(gain_txt, all_img[..., None, :, :], alone)[..., 0],
        _weighted(gain_img, gain_txt, both),
        (z_img[..., 0, :] * z_txt[..., 0, :]).sum(axis=-1),
        (z_img[..., -1, :] * z_txt[..., -1, :]).sum(axis=-1),
    )


def _weighted(a, b, weight) -> np.ndarray:
    """sum over sizes s, t of weight[s + t] a[i,s] . b[j,t]: a (...,I,S,E), b (...,J,T,E) -> (...,I,J)."""
    weight = weight[np.arange(a.shape[-2])[:, None] + np.arange(b.shape[-2])]  # (S,T)
    spread = np.swapaxes(weight, 0, 1) @ a  # (T,S) @ (...,I,S,E) -> (...,I,T,E)
    flat_a, flat_b = spread.reshape(*spread.shape[:-2], -1), b.reshape(*b.shape[:-2], -1)  # (...,I,T*E), (...,J,T*E)
    return flat_a @ np.swapaxes(flat_b, -1, -2)


def _by_size(z, n: int) -> np.ndarray:
    """Sums of embeddings over coalitions of equal size: (...,2**n,E) -> (...,n+1,E)."""
    return (_sizes(np.arange(2**n)) == np.arange(n + 1)[:, None]) @ z  # (n+1,2**n) @ (...,2**n,E)


def _gains(z, n: int) -> np.ndarray:
    """What player i changes, summed over coalitions of s others: (...,2**n,E) -> (...,n,n,E), by i and s."""
    index, sizes = _without(n)
    some = [(size == np.arange(n)[:, None]) @ (z[..., at + (1 << i), :] - z[..., at, :])
            for i, (at, size) in enumerate(zip(index, sizes))]  # fmt: skip
    return np.stack(some, axis=-3)


def _weights(n: int) -> np.ndarray:
    """(n,): the weight of each coalition of s others, s!(n-s-1)!/n!."""
    return np.array([1 / (n * comb(n - 1, s)) for s in range(n)])


def _without(n: int):
    """For each player, the numbers of the coalitions without it, and their sizes: two lists of n arrays (2**(n-1),)."""
    index = [np.flatnonzero(np.arange(2**n) >> i & 1 == 0) for i in range(n)]
    return index, [_sizes(at) for at in index]


def _sizes(index) -> np.ndarray:
    return (index[:, None] >> np.arange(_MOST) & 1).sum(axis=1)  # (N,1) >> (M,) -> (N,)


def _table(table):
    table = np.asarray(table, dtype=np.float64)
    n = table.shape[-1].bit_length() - 1 if table.ndim else 0
    if n < 1 or table.shape[-1] != 2**n:
        raise ValueError(f"the scores of all coalitions are (...,2**n); got {table.shape}.")
    if not np.isfinite(table).all():
        raise ValueError("scores hold NaN or infinity: a sentence of padding only, a zero row, fp16?")
    return table, n


def _embeddings(z, name: str):
    z = np.asarray(z, dtype=np.float64)
    n = z.shape[-2].bit_length() - 1 if z.ndim >= 2 else 0
    if n < 1 or z.shape[-2] != 2**n:
        raise ValueError(f"joint: {name} must be (...,2**n,E), a row for each coalition; got {z.shape}.")
    if not np.isfinite(z).all():
        raise ValueError(f"joint: {name} holds NaN or infinity: a sentence of padding only, a zero row, fp16?")
    return z, n


def _ask(value: Callable, present, batch: int) -> np.ndarray:
    """(S,) scores of the game; everybody is asked for twice more, to see whether the answer stays."""
    if batch < 1:
        raise ValueError(f"batch={batch}: the game must be asked of one coalition at a time, or more.")
    everybody = np.ones((1, present.shape[1]), dtype=bool)
    chunks = [*(present[i : i + batch] for i in range(0, len(present), batch)), everybody, np.repeat(everybody, 2, 0)]
    parts = [np.asarray(value(chunk), dtype=np.float64) for chunk in chunks]
    for chunk, part in zip(chunks, parts):
        if part.shape != (len(chunk),):
            raise ValueError(f"value must give (S,) scores for present (S,n); got {part.shape} for {chunk.shape}.")
        if not np.isfinite(part).all():
            raise ValueError("scores hold NaN or infinity: a sentence of padding only, a zero row, fp16?")
    once, again = parts[-2][0], parts[-1][0]
    if abs(once - again) > 1e-3 * max(abs(once), abs(again)):
        raise ValueError(
            f"value says {once:.6g} and then {again:.6g} of the same players; is a model in training mode? model.eval()"
        )
    return np.concatenate(parts[:-2])
