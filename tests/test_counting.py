"""Counted ranks against sorted ones: both directions, blocks, sorting, tolerance, embeddings; what is refused."""

import numpy as np
import pytest
import torch
from scipy import stats

from course_utils import counting, retrieval

RNG = np.random.default_rng(0)
FIELDS = ("above", "tied", "right_above", "right_tied", "right")


def same(one, other):
    assert one.pool == other.pool
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


def slow(scores, right):
    """[(above, tied, right above, right tied) of each right item, best first] a query, by comparing all with all."""
    found = []
    for line, is_right in zip(scores, right):
        some, mine = line[is_right], []
        for score in sorted(some, reverse=True):
            items = (line > score).sum(), (line == score).sum()
            mine.append((*items, (some > score).sum(), (some == score).sum()))
        found.append(mine)
    return found


def agrees(ranking, scores, right):
    for query, expected in enumerate(slow(scores, right)):
        many = len(expected)
        assert ranking.right[query].tolist() == [True] * many + [False] * (ranking.right.shape[1] - many)
        found = np.stack([getattr(ranking, name)[query, :many] for name in FIELDS[:4]], axis=1)
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64])
@pytest.mark.parametrize("items", [1, 7, 8, 41])
def test_counts_are_those_of_comparing_all_with_all(items, dtype):
    scores = RNG.integers(-3, 3, (23, items)).astype(dtype)
    right = RNG.random((23, items)) < 0.3
    right[np.arange(23), RNG.integers(0, items, 23)] = True
    agrees(counting.rank(scores, right), scores, right)


def test_many_right_answers_are_counted_by_sorting():
    scores = RNG.integers(0, 30, (9, 300)).astype(np.float32)
    right = RNG.random((9, 300)) < 0.3
    assert right.sum(axis=1).max() >= counting._SORT_FROM
    agrees(counting.rank(scores, right), scores, right)


@pytest.mark.parametrize("cache", [1, 100, 5000, 1 << 19])
def test_blocks_of_any_size_count_the_same(monkeypatch, cache):
    ids = RNG.permutation(40)
    owners = RNG.permutation(np.concatenate([ids, RNG.choice(ids, 90)]))  # one to several captions, in any order
    scores = RNG.integers(0, 60, (40, 130)).astype(np.float32)
    whole = counting.rank_both(scores, ids, owners)
    monkeypatch.setattr(counting, "_CACHE", cache)
    pieces = counting.rank_both(scores, ids, owners)
    right = ids[:, None] == owners
    for direction, s, r in (("image_to_text", scores, right), ("text_to_image", scores.T, right.T)):
        same(whole[direction], pieces[direction])
        same(whole[direction], counting.rank(s, r))
        agrees(whole[direction], s, r)


def test_columns_are_counted_beyond_a_byte():
    """A thousand pictures above a caption's own do not fit into the byte in which flags are added."""
    scores = np.ones((1000, 3000), dtype=np.float32)
    owners = np.repeat(np.arange(1000), 3)
    scores[np.arange(1000).repeat(3), np.arange(3000)] = 0
    found = counting.rank_both(scores, np.arange(1000), owners)
    assert (found["text_to_image"].above == 999).all()
    assert (found["image_to_text"].above == 2997).all()


def test_without_ties_ranks_are_scipys():
    scores, right = RNG.normal(size=(30, 2500)), RNG.integers(0, 2500, 30)
    ranks = counting.rank(scores, right).first_rank()
    np.testing.assert_array_equal(ranks, stats.rankdata(-scores, axis=1)[np.arange(30), right])


def test_three_ways_to_name_right_items_are_one():
    scores, index = RNG.normal(size=(5, 9)), np.array([[3, -1], [0, 8], [-1, 2], [5, 6], [1, -1]])
    right = np.zeros((5, 9), dtype=bool)
    right[np.repeat(np.arange(5), 2)[index.ravel() >= 0], index[index >= 0]] = True
    same(counting.rank(scores, index), counting.rank(scores, right))
    same(counting.rank(scores, index[:, 0] % 9), counting.rank(scores, np.eye(9, dtype=bool)[index[:, 0] % 9]))


def test_scores_within_the_tolerance_are_tied():
    scores = np.array([[0.5, 0.5001, 0.4, 0.7]])
    assert counting.rank(scores, [0]).above.item() == 2
    loose = counting.rank(scores, [0], tolerance=0.001)
    assert (loose.above.item(), loose.tied.item()) == (1, 2)


# Embeddings -----------------------------------------------------------------------------------------------------------


def unit(*shape):
    rows = RNG.normal(size=shape)
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def test_embeddings_rank_as_their_scores_do():
    """Scores that differ by whole thousandths leave no doubt about ties: counts are equal to the last one."""
    z_img, ids = np.zeros((30, 8), dtype=np.float32), RNG.permutation(30)
    angle = RNG.permutation(30) / 100
    z_img[:, 0], z_img[:, 1] = np.cos(angle), np.sin(angle)
    owners = RNG.permutation(np.repeat(ids, 4))
    turned = RNG.choice([-0.305, 0, 0.305], 120) + np.array([angle[np.flatnonzero(ids == one)[0]] for one in owners])
    z_txt = np.zeros((120, 8), dtype=np.float32)
    z_txt[:, 0], z_txt[:, 1] = np.cos(turned), np.sin(turned)
    exact = counting.rank_both(np.round(z_img.astype(np.float64) @ z_txt.T, 6), ids, owners)
    for rows in (1, 7, 128):
        found = counting.rank_embeddings(z_img, z_txt, ids, owners, rows=rows)
        for direction in counting.DIRECTIONS:
            same(found[direction], exact[direction])


def test_rounding_moves_only_what_lies_within_the_tolerance():
    z_img, ids = unit(300, 64), np.arange(300)
    owners = np.repeat(ids, 5)
    z_txt = unit(1500, 64)
    exact = counting.rank_both(z_img.astype(np.float64) @ z_txt.T.astype(np.float64), ids, owners)
    found = counting.rank_embeddings(z_img, z_txt, ids, owners)
    for direction in counting.DIRECTIONS:
        ours, theirs = found[direction], exact[direction]
        assert (ours.above <= theirs.above).all()
        assert (ours.above + ours.tied >= theirs.above + theirs.tied).all()
        for name, value in theirs.summary().items():
            assert ours.summary()[name] == pytest.approx(value, abs=2e-3 if "rank" not in name else 0.5), name


@pytest.mark.parametrize("rows", [1, 17, 100])
def test_a_collapsed_model_gets_chance(rows):
    """All rows alike up to rounding, as after a diverged run: no block's rounding may turn into a rank."""
    z = unit(1, 192).repeat(101, axis=0)
    noise = RNG.normal(size=(101, 192)).astype(np.float32) * 1e-9
    found = counting.rank_embeddings(
        z + noise, z.repeat(5, axis=0), np.arange(101), np.arange(101).repeat(5), rows=rows
    )
    np.testing.assert_allclose(found["text_to_image"].first_rank(), 51)
    np.testing.assert_allclose(found["image_to_text"].hit_rate(1), 5 / 505)


def test_tensors_are_taken_and_agree_with_retrieval():
    z_img, z_txt = torch.from_numpy(unit(50, 16)), torch.from_numpy(unit(250, 16))
    owners = np.repeat(np.arange(50), 5)
    found = counting.rank_embeddings(z_img, z_txt, np.arange(50), owners)
    for k in (1, 10):
        for direction, (hits, _) in retrieval.hits(z_img, z_txt, owners, k).items():
            np.testing.assert_allclose(found[direction].hit_rate(k), hits)


# What is refused ------------------------------------------------------------------------------------------------------

GOOD = np.eye(3)
IDS = np.arange(3)
UNIT = np.eye(3, dtype=np.float32)


def half(rows):
    with np.errstate(over="ignore"):
        return (rows * 70_000).astype(np.float16)


@pytest.mark.parametrize(
    ("scores", "positives", "message"),
    [
        (np.where(GOOD > 0, np.nan, 0), IDS, "NaN or infinity"),
        (np.where(GOOD > 0, -np.inf, 0), IDS, "NaN or infinity"),
        (half(GOOD), IDS, "float16 overflow"),
        (np.empty((0, 3)), np.empty(0, int), "neither empty"),
        (np.empty((3, 0)), IDS, "neither empty"),
        (np.ones(3), IDS, r"must be \(Q,N\)"),
        (GOOD, [0, 1, 3], r"outside 0\.\.2"),
        (GOOD, [0, 1, -1], r"outside 0\.\.2"),
        (GOOD, [[0, 1], [1, -2], [2, -1]], r"outside 0\.\.2"),
        (GOOD, [[0, 0], [1, -1], [2, -1]], "twice"),
        (GOOD, [[0, -1], [-1, -1], [2, 1]], "query 1 has no right item"),
        (GOOD, [0, 1], "positives must be"),
        (GOOD, [0.0, 1.0, 2.0], "positives must be"),
        (GOOD, np.ones((3, 2), dtype=bool), "positives must be"),
        (GOOD, np.zeros((3, 3), dtype=bool), "query 0 has no right item"),
    ],
)
def test_bad_scores_and_positives_are_refused(scores, positives, message):
    with pytest.raises(ValueError, match=message):
        counting.rank(scores, positives)


@pytest.mark.parametrize(
    ("image_ids", "owners", "message"),
    [
        (IDS, [0, 1, 1], "id 2 of query 2 has no item.*a picture without captions"),
        (IDS, [0, 1, 7], "id 2 of query 2 has no item"),
        ([0, 1, 1], [0, 1, 2], "id 2 of query 2 has no item"),
        (["a.jpg", "b.jpg", "c.jpg"], ["a", "b", "c"], r"id 'a\.jpg' of query 0.*\(3 of 3 queries\).*two kinds"),
        ([0, 1], IDS, "2 image ids and 3 owners do not fit"),
        (IDS[:, None], IDS, "ids must be"),
    ],
)
def test_ids_that_do_not_match_are_refused(image_ids, owners, message):
    with pytest.raises(ValueError, match=message):
        counting.rank_both(GOOD, image_ids, owners)
    if "do not fit" not in message:
        with pytest.raises(ValueError, match=message):
            counting.rank_embeddings(UNIT, UNIT, image_ids, owners)


@pytest.mark.parametrize(
    ("z_img", "z_txt", "message"),
    [
        (np.where(UNIT > 0, np.nan, 0), UNIT, "z_img holds NaN or infinity in row 0"),
        (UNIT, half(UNIT), "z_txt holds NaN or infinity in row 0: float16 overflow"),
        (UNIT * [[1], [0], [1]], UNIT, "z_img: row 1 has length 0"),
        (UNIT, 2 * UNIT, "z_txt: row 0 has length 2, not 1; divide"),
        (UNIT, np.eye(3, 4), "same width"),
        (UNIT[:0], UNIT, "z_img must be"),
        (UNIT[0], UNIT, "z_img must be"),
        (UNIT[:2], UNIT, "3 image ids for 2 pictures"),
    ],
)
def test_bad_embeddings_are_refused(z_img, z_txt, message):
    with pytest.raises(ValueError, match=message):
        counting.rank_embeddings(z_img, z_txt, IDS, IDS)
