"""The pointing game: against a plain loop, with ties in expectation, and what it refuses."""

import numpy as np
import pytest

from course_utils.faithfulness import pointing_game


def by_hand(saliency, mask):
    """One map at the pixels of its mask: every pixel that is strongest, drawn with equal chance."""
    size = [n // m for n, m in zip(mask.shape, saliency.shape)]
    pixels = np.kron(saliency, np.ones(size))
    hits = [mask[y, x] for y in range(len(mask)) for x in range(mask.shape[1]) if pixels[y, x] == pixels.max()]
    return sum(hits) / len(hits)


@pytest.mark.parametrize("cells", [(4, 4), (8, 12), (2, 3), (1, 1), (16, 24)])
def test_it_equals_a_loop(cells):
    rng = np.random.default_rng(0)
    masks = rng.random((20, 16, 24)) < 0.3
    for saliency in (rng.random((20, *cells)), rng.integers(0, 3, (20, *cells))):  # the second has many ties
        hits = pointing_game(saliency, masks)
        assert hits.shape == (20,)
        np.testing.assert_allclose(hits, [by_hand(*pair) for pair in zip(saliency, masks)])


def test_a_flat_map_scores_exactly_the_area():
    masks = np.random.default_rng(1).random((7, 16, 16)) < 0.2
    for value in (0.0, 1 / 64, -3.0):
        np.testing.assert_allclose(pointing_game(np.full((7, 8, 8), value), masks), masks.mean(axis=(1, 2)))


def test_random_maps_score_the_area_on_average():
    rng = np.random.default_rng(2)
    masks = rng.random((4000, 8, 8)) < 0.25
    masks[:, 0, 0] = True
    hits = pointing_game(rng.random((4000, 8, 8)), masks)
    assert set(np.unique(hits)) == {0.0, 1.0}  # one pixel a cell: a hit or none
    assert hits.mean() == pytest.approx(masks.mean(), abs=0.03)


def test_the_mask_itself_always_hits_and_its_negative_never():
    masks = np.random.default_rng(3).random((9, 6, 6)) < 0.4
    assert (pointing_game(masks, masks) == 1).all()
    assert (pointing_game(~masks, masks) == 0).all()


def test_only_the_order_of_a_maps_values_matters():
    rng = np.random.default_rng(4)
    saliency, masks = rng.random((9, 4, 4)), rng.random((9, 8, 8)) < 0.5
    masks[:, 0, 0] = True
    kept = saliency.copy()
    hits = pointing_game(saliency, masks)
    np.testing.assert_array_equal(pointing_game(7 * saliency**3 - 2, masks), hits)
    np.testing.assert_array_equal(saliency, kept)
    np.testing.assert_array_equal(pointing_game(saliency.tolist(), masks.tolist()), hits)


MAPS, MASKS = np.zeros((3, 4, 4)), np.ones((3, 8, 8), dtype=bool)
EMPTY = MASKS & (np.arange(3) != 1)[:, None, None]


@pytest.mark.parametrize(
    ("saliency", "masks", "message"),
    [
        (MAPS + np.nan, MASKS, "NaN or infinity"),
        (MAPS + np.inf, MASKS, "NaN or infinity"),
        (MAPS, EMPTY, "mask 1 is empty; leave out what is not in the picture"),
        (MAPS, MASKS.astype(float), "masks must be bool, True on the object; got float64"),
        (MAPS, MASKS[:, :7], "7x8 pixels do not divide into 4x4 cells"),
        (np.zeros((3, 16, 16)), MASKS, "8x8 pixels do not divide into 16x16 cells"),
        (MAPS[:2], MASKS, r"saliency \(2, 4, 4\), masks \(3, 8, 8\)"),
        (MAPS[0], MASKS[0], r"saliency \(4, 4\), masks \(8, 8\)"),
        (MAPS[:0], MASKS[:0], r"saliency \(0, 4, 4\)"),
    ],
)
def test_what_cannot_be_judged_is_refused(saliency, masks, message):
    with pytest.raises(ValueError, match=message):
        pointing_game(saliency, masks)
