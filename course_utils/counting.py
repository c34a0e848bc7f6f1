"""Ranks of right answers counted, never sorted: both directions from one similarity matrix or from embeddings.

A rank needs no sorted list: it is one plus the number of items that score higher. Counting goes through the matrix in
blocks that fit a core's cache, and from embeddings the matrix never exists as a whole, so Flickr30k's 31,783 pictures
and 158,915 captions rank in a few hundred megabytes.
"""

from __future__ import annotations

import numpy as np

from course_utils.ranking import Ranking

DIRECTIONS = ("image_to_text", "text_to_image")
ROUNDING = 2.0**-20  # scores of unit rows in float32 that are closer than this cannot be told apart
_CACHE = 1 << 19  # scores compared at a time: 2 MB of float32
_SORT_FROM = 48  # from so many right answers a query on, sorting its row is cheaper than comparing it with each


def positives_by_id(query_ids, item_ids) -> np.ndarray:
    """Which items are right for each query: those of the same image id. (Q,), (N,) -> (Q,P) item indices, -1 for none.

    Both ways round: image ids against the captions' image ids, or the reverse. Raises ValueError for a query whose id
    no item has, as a picture without captions.
    """
    query_ids, item_ids = np.asarray(query_ids), np.asarray(item_ids)
    if query_ids.ndim != 1 or item_ids.ndim != 1 or 0 in (query_ids.size, item_ids.size):
        raise ValueError(
            f"ids must be (Q,) and (N,), neither empty; got shapes {query_ids.shape} and {item_ids.shape}."
        )
    order = np.argsort(item_ids, kind="stable")
    first = np.searchsorted(item_ids, query_ids, "left", sorter=order)
    count = np.searchsorted(item_ids, query_ids, "right", sorter=order) - first  # (Q,)
    if count.min() == 0:
        lost = int(np.argmin(count))
        raise ValueError(
            f"id {query_ids[lost].item()!r} of query {lost} has no item in the pool "
            f"({int((count == 0).sum())} of {len(count)} queries): "
            "a picture without captions, or ids of two kinds? Drop it or mend the ids."
        )
    place = np.arange(count.max())  # (P,)
    inside = place < count[:, None]  # (Q,P)
    return np.where(inside, order[np.where(inside, first[:, None] + place, 0)], -1)


def rank(scores, positives, tolerance: float = 0.0) -> Ranking:
    """Ranks of all right answers, one direction. scores (Q,N): larger is better.

    positives: (Q,) index of the one right item, (Q,P) indices with -1 for none, or (Q,N) True at right items.
    tolerance: scores no further apart count as tied. Raises ValueError for scores that are empty or not finite, shapes
    or ids that do not match, and a query without any right item.
    """
    scores = _matrix(scores)
    index = _indices(positives, scores.shape)
    found = _Counts(index, scores.shape[1])
    step = max(1, _CACHE // scores.shape[1])
    for begin in range(0, len(scores), step):
        rows = slice(begin, begin + step)
        block = np.ascontiguousarray(scores[rows])
        _finite(block)
        found.thresholds[rows] = np.take_along_axis(block, np.maximum(index[rows], 0), axis=1)
        found.add_rows(block, rows, tolerance)
    return found.ranking(tolerance)


def rank_both(scores, image_ids, owners, tolerance: float = 0.0) -> dict[str, Ranking]:
    """Both directions from one matrix. scores (N,M): pictures by captions. -> {"image_to_text", "text_to_image"}.

    image_ids (N,); owners (M,): the image id of each caption. Right is what has the same id. tolerance and errors as
    `rank`.
    """
    scores, image_ids, owners = _matrix(scores), np.asarray(image_ids), np.asarray(owners)
    if (len(image_ids), len(owners)) != scores.shape:
        raise ValueError(f"{len(image_ids)} image ids and {len(owners)} owners do not fit scores {scores.shape}.")
    captions = _Counts(positives_by_id(image_ids, owners), scores.shape[1])
    images = _Counts(positives_by_id(owners, image_ids), scores.shape[0])
    images.thresholds[:] = scores[np.maximum(images.index, 0), np.arange(len(owners))[:, None]]
    step = max(1, _CACHE // scores.shape[1])
    for begin in range(0, len(scores), step):
        rows = slice(begin, begin + step)
        block = np.ascontiguousarray(scores[rows])
        _finite(block)
        captions.thresholds[rows] = np.take_along_axis(block, np.maximum(captions.index[rows], 0), axis=1)
        captions.add_rows(block, rows, tolerance)
        images.add_columns(block, begin, tolerance)
    return dict(zip(DIRECTIONS, (captions.ranking(tolerance), images.ranking(tolerance))))


def rank_embeddings(z_img, z_txt, image_ids, owners, tolerance: float = ROUNDING, rows: int = 128):
    """Both directions from embeddings, without the whole matrix: like `rank_both(z_img @ z_txt.T, image_ids, owners)`.

    z_img (N,E), z_txt (M,E), unit rows; arrays, or tensors on the CPU. Scores are computed in float32, `rows` pictures
    at a time. Scores within `tolerance` count as tied: a pair may round differently in another block, and a model whose
    rows are all alike shall get chance. Raises ValueError for widths that differ, rows of length 0, and as `rank`.
    """
    z_img, z_txt = _unit(z_img, "z_img"), _unit(z_txt, "z_txt")
    image_ids, owners = np.asarray(image_ids), np.asarray(owners)
    if z_img.shape[1] != z_txt.shape[1]:
        raise ValueError(f"z_img {z_img.shape} and z_txt {z_txt.shape} must have the same width.")
    if (len(image_ids), len(owners)) != (len(z_img), len(z_txt)):
        raise ValueError(
            f"{len(image_ids)} image ids for {len(z_img)} pictures, {len(owners)} owners for {len(z_txt)} captions."
        )
    captions = _Counts(positives_by_id(image_ids, owners), len(z_txt))
    images = _Counts(positives_by_id(owners, image_ids), len(z_img))
    captions.dots(z_img, z_txt)
    images.dots(z_txt, z_img)
    some = min(rows, len(z_img))
    whole, step = np.empty((some, len(z_txt)), dtype=np.float32), max(1, _CACHE // len(z_txt))
    columns = z_txt.T  # (E,M)
    for first in range(0, len(z_img), some):
        pictures = z_img[first : first + some]
        product = np.matmul(pictures, columns, out=whole[: len(pictures)])  # (rows,E) @ (E,M) -> (rows,M)
        for begin in range(0, len(product), step):
            block = product[begin : begin + step]
            captions.add_rows(block, slice(first + begin, first + begin + len(block)), tolerance)
            images.add_columns(block, first + begin, tolerance)
    return dict(zip(DIRECTIONS, (captions.ranking(tolerance), images.ranking(tolerance))))


class _Counts:
    """Items above and level with each right answer's score, added up block by block. index (Q,P): right items, or -1.

    Most blocks hold no tie but the right answers with themselves; one count over the block tells.
    """

    def __init__(self, index: np.ndarray, pool: int):
        self.index, self.pool, self.right = index, pool, index >= 0
        self.thresholds = np.empty(index.shape, dtype=np.float64)  # (Q,P) scores of the right answers
        self.above, self.level = np.zeros(index.shape, dtype=np.int64), np.zeros(index.shape, dtype=np.int64)
        self._flags, self._limits = np.zeros((0, 0), dtype=bool), None

    def dots(self, queries, items):
        """Fills `thresholds` with products of unit rows, a few queries at a time."""
        step = max(1, 4096 // self.index.shape[1])
        for begin in range(0, len(queries), step):
            rows = slice(begin, begin + step)
            self.thresholds[rows] = np.einsum("qe,qpe->qp", queries[rows], items[np.maximum(self.index[rows], 0)])

    def limits(self, rows, tolerance, dtype):
        """(strictly above this, not below this), (q,P) each, in the block's own type so that equal stays equal."""
        thresholds = np.where(self.right[rows], self.thresholds[rows], np.inf)
        return (thresholds + tolerance).astype(dtype), (thresholds - tolerance).astype(dtype)

    def add_rows(self, block, rows, tolerance):
        """block (q,N): whole rows of queries `rows`."""
        above, not_below = self.limits(rows, tolerance, block.dtype)
        if above.shape[1] >= _SORT_FROM:
            for query, line in enumerate(np.sort(block, axis=1)):
                first = np.searchsorted(line, above[query], "right")
                self.above[rows][query] = len(line) - first
                self.level[rows][query] = first - np.searchsorted(line, not_below[query], "left")
            return
        flags = self._space(block.shape)
        here, equal = flags[:, : block.shape[1]], 0
        for p in range(above.shape[1]):
            if not tolerance:
                np.equal(block, above[:, p : p + 1], out=here)
                equal += np.count_nonzero(flags)
            np.greater(block, above[:, p : p + 1], out=here)
            self.above[rows, p] = _count(flags)
        self.level[rows] = 1  # a right item is level with itself, and most often with nothing else
        if tolerance or equal != np.count_nonzero(self.right[rows]):
            for p in range(above.shape[1]):
                np.greater_equal(block, not_below[:, p : p + 1], out=here)
                self.level[rows, p] = _count(flags) - self.above[rows, p]

    def add_columns(self, block, begin, tolerance):
        """block (b,Q): items begin, begin + 1, ... against all queries, which are its columns."""
        if self._limits is None:  # the same for all blocks
            self._limits = self.limits(slice(None), tolerance, block.dtype)
            self._flags = np.empty((255, block.shape[1]), dtype=bool)  # 255 of them still fit a byte
        above, not_below = self._limits
        for first in range(0, len(block), 255):
            some = block[first : first + 255]
            flags, last = self._flags[: len(some)], begin + first + len(some)
            for p in range(above.shape[1]):
                own = (self.index[:, p] >= begin + first) & (self.index[:, p] < last)  # (Q,) right items of this piece
                if tolerance:
                    np.logical_and(np.less_equal(some, above[:, p], out=flags), some >= not_below[:, p], out=flags)
                else:
                    np.equal(some, above[:, p], out=flags)
                level = tolerance or np.count_nonzero(flags) != np.count_nonzero(own)
                self.level[:, p] += _down(flags) if level else own
                self.above[:, p] += _down(np.greater(some, above[:, p], out=flags))

    def _space(self, shape):
        """Flags for a block (b,N), in rows that `_count` can read; what lies beyond N stays False."""
        width = 8 * -(-shape[1] // 8)
        parts = -(-width // (8 * 255))
        width = 8 * parts * -(-width // (8 * parts))
        if self._flags.shape[1] != width or len(self._flags) < shape[0]:
            self._flags = np.zeros((shape[0], width), dtype=bool)
        return self._flags[: shape[0]]

    def ranking(self, tolerance) -> Ranking:
        """The finished counts, each query's best right answer first."""
        scores = np.where(self.right, self.thresholds, -np.inf)
        order = np.argsort(-scores, axis=1, kind="stable")
        scores, right, above, level = (
            np.take_along_axis(one, order, axis=1) for one in (scores, self.right, self.above, self.level)
        )
        right_above, right_tied = _among_right(scores, right, tolerance)
        right_tied = np.where(right, right_tied, 1)
        tied = np.where(right, np.maximum(level, right_tied), 1)
        return Ranking(above, tied, np.where(right, right_above, 0), right_tied, right, self.pool)


def _among_right(scores, right, tolerance):
    """(right answers above, right answers tied), (Q,P) each, for scores (Q,P) in falling order, -inf where none is."""
    above, tied = np.zeros(scores.shape, dtype=np.int64), np.zeros(scores.shape, dtype=np.int64)
    if not tolerance:  # equal scores stand side by side: above is where their run begins
        place, width = np.arange(scores.shape[1]), scores.shape[1]
        new = np.concatenate([np.ones((len(scores), 1), dtype=bool), scores[:, 1:] != scores[:, :-1]], axis=1)
        above = np.maximum.accumulate(np.where(new, place, 0), axis=1)
        after = np.concatenate([np.where(new, place, width)[:, 1:], np.full((len(scores), 1), width)], axis=1)
        return above, np.minimum.accumulate(after[:, ::-1], axis=1)[:, ::-1] - above
    for p in range(scores.shape[1]):
        other = scores[:, p : p + 1]  # (Q,1)
        above += other > scores + tolerance
        tied += (other <= scores + tolerance) & (other >= scores - tolerance) & right[:, p : p + 1]
    return above, tied


def _count(flags):
    """How many of each row are True, (b, 8 w) -> (b,): eight flags are added at once, at most 255 times a byte."""
    words = flags.view(np.uint64)  # (b,w)
    parts = -(-words.shape[1] // 255)
    sums = np.add.reduce(words.reshape(len(flags), parts, -1), axis=2)  # (b,parts)
    return np.add.reduce(sums.view(np.uint8), axis=1, dtype=np.int64)


def _down(flags):
    """How many of each column are True, (b,Q) -> (Q,), b at most 255."""
    return np.add.reduce(flags.view(np.uint8), axis=0, dtype=np.uint8)


def _matrix(scores):
    scores = np.asarray(scores)
    if scores.ndim != 2 or 0 in scores.shape:
        raise ValueError(f"scores must be (Q,N), queries by items, neither empty; got shape {scores.shape}.")
    if scores.dtype not in (np.float32, np.float64):
        scores = scores.astype(np.float32 if scores.dtype == np.float16 else np.float64)
    return scores


def _finite(block):
    """Raises ValueError for NaN or infinity; a dot product is the cheapest way to see that there is none."""
    flat = block.ravel()
    if not np.isfinite(flat @ flat) and not np.isfinite(flat).all():
        raise ValueError(
            "scores hold NaN or infinity; look at the embeddings (a zero row, a diverged run, float16 overflow: "
            "compute scores in float32)."
        )


def _indices(positives, shape):
    """(Q,P) indices, -1 for none, from any of the three forms."""
    positives = np.asarray(positives)
    if positives.dtype == bool and positives.shape == shape:
        count = positives.sum(axis=1)
        index = np.full((shape[0], max(1, count.max())), -1)
        query, item = np.nonzero(positives)
        index[query, np.arange(len(query)) - (np.cumsum(count) - count)[query]] = item
    elif np.issubdtype(positives.dtype, np.integer) and positives.ndim in (1, 2) and len(positives) == shape[0]:
        index = positives.reshape(shape[0], -1)
        if index.size and index.max() >= shape[1] or index.size and index.min() < (-1 if positives.ndim == 2 else 0):
            raise ValueError(f"positives name items outside 0..{shape[1] - 1}; do the ids match the pool?")
        again = np.sort(index, axis=1)
        if ((again[:, 1:] == again[:, :-1]) & (again[:, 1:] >= 0)).any():
            raise ValueError("positives name an item twice for one query; each right item counts once.")
    else:
        raise ValueError(
            f"positives must be (Q,) or (Q,P) item indices or (Q,N) booleans for scores {shape}; "
            f"got shape {positives.shape} of {positives.dtype}."
        )
    none = ~(index >= 0).any(axis=1)
    if none.any():
        raise ValueError(f"query {int(np.argmax(none))} has no right item in the pool; drop it or mend the ids.")
    return index


def _unit(rows, name):
    """(n,E) float32 unit rows, contiguous; ValueError for what cannot be one."""
    given = np.asarray(rows)
    if given.ndim != 2 or 0 in given.shape:
        raise ValueError(f"{name} must be (n,E), neither empty; got shape {given.shape}.")
    rows = np.ascontiguousarray(given, dtype=np.float32)
    if not np.isfinite(rows).all():
        why = "float16 overflow?" if given.dtype == np.float16 else "a diverged run, or a row divided by its length 0?"
        raise ValueError(f"{name} holds NaN or infinity in row {int(np.argmin(np.isfinite(rows).all(axis=1)))}: {why}")
    length = np.linalg.norm(rows, axis=1)
    if abs(length - 1).max() > 0.01:
        odd = int(np.argmax(abs(length - 1)))
        raise ValueError(
            f"{name}: row {odd} has length {length[odd]:.3g}, not 1; divide each row by its length first "
            "(F.normalize(z, dim=-1)), or pass scores to rank_both."
        )
    return rows
