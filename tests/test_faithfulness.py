"""Measures of maps: against plain loops over pixels, with ties in expectation, on known games; and what is refused."""

import numpy as np
import pytest

from course_utils.faithfulness import (
    centre_prior,
    deletion,
    energy_inside,
    insertion,
    iou_at,
    pointing_game,
    random_maps,
)


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


# Energy, overlap, curves and controls ---------------------------------------------------------------------------------


def large(saliency, masks):
    """Maps at the pixels of their masks."""
    return np.kron(saliency, np.ones([1, masks.shape[1] // saliency.shape[1], masks.shape[2] // saliency.shape[2]]))


@pytest.mark.parametrize("cells", [(4, 4), (8, 12), (2, 3), (1, 1), (16, 24)])
def test_energy_and_overlap_equal_loops_over_pixels(cells):
    rng = np.random.default_rng(5)
    masks, saliency = rng.random((20, 16, 24)) < 0.3, rng.random((20, *cells))
    pixels = large(saliency, masks)
    energy = [one[mask].sum() / one.sum() for one, mask in zip(pixels, masks)]
    np.testing.assert_allclose(energy_inside(saliency, masks), energy)
    for threshold in (0.2, 0.5, 1.0):
        regions = [one >= threshold * one.max() for one in pixels]
        overlap = [(region & mask).sum() / (region | mask).sum() for region, mask in zip(regions, masks)]
        np.testing.assert_allclose(iou_at(saliency, masks, threshold), overlap)


def test_the_mask_itself_is_perfect_and_a_flat_map_scores_the_area():
    masks = np.random.default_rng(6).random((9, 6, 6)) < 0.4
    for measure in (pointing_game, energy_inside, iou_at):
        np.testing.assert_allclose(measure(masks, masks), 1)
    for flat in (0.0, 0.3):
        np.testing.assert_allclose(energy_inside(np.full((9, 3, 3), flat), masks), masks.mean(axis=(1, 2)))
    np.testing.assert_allclose(iou_at(np.full((9, 3, 3), 0.3), masks), masks.mean(axis=(1, 2)))
    np.testing.assert_allclose(iou_at(np.zeros((9, 3, 3)), masks), 0)
    np.testing.assert_allclose(iou_at(-np.ones((9, 3, 3)), masks), 0)


def game(weights):
    """Each pixel is worth its weight; gone, it is worth nothing."""
    return lambda kept: (kept * weights).sum(axis=(1, 2))


def test_curves_equal_a_loop_over_cells():
    rng = np.random.default_rng(7)
    weights, saliency = rng.random((8, 12)), rng.random((4, 6))
    order = [divmod(cell, 6) for cell in np.argsort(-saliency, axis=None)]
    kept, scores = np.ones((8, 12)), []
    for y, x in [(0, 0), *order]:
        if scores:
            kept[2 * y : 2 * y + 2, 2 * x : 2 * x + 2] = 0
        scores.append((kept * weights).sum())
    np.testing.assert_allclose(deletion(game(weights), saliency, (8, 12), steps=24), scores)
    np.testing.assert_allclose(deletion(game(weights), saliency, (8, 12), steps=8), scores[::3])
    gone = deletion(game(weights), saliency, (8, 12), steps=6)
    np.testing.assert_allclose(insertion(game(weights), saliency, (8, 12), steps=6), weights.sum() - gone)


def test_deleting_nothing_costs_nothing_and_the_truth_falls_fastest():
    rng = np.random.default_rng(8)
    weights = rng.random((8, 8)) ** 4
    best = deletion(game(weights), weights, (8, 8))
    assert best[0] == pytest.approx(weights.sum())
    assert best[-1] == 0
    for maps in random_maps(20, 8, 8, seed=9):
        assert (deletion(game(weights), maps, (8, 8)) >= best - 1e-9).all()
        assert (insertion(game(weights), maps, (8, 8)) <= insertion(game(weights), weights, (8, 8)) + 1e-9).all()


def test_ties_go_in_an_order_that_the_seed_decides():
    weights = np.random.default_rng(10).random((8, 8))
    flat = [deletion(game(weights), np.zeros((8, 8)), (8, 8), seed=seed) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(flat[0], flat[1])
    assert not np.allclose(flat[0], flat[2])
    many = [deletion(game(weights), np.zeros((8, 8)), (8, 8), seed=seed) for seed in range(300)]
    np.testing.assert_allclose(np.mean(many, axis=0), weights.sum() * np.linspace(1, 0, 17), atol=0.5)


def test_controls():
    maps = random_maps(3, 4, 5, seed=1)
    assert maps.shape == (3, 4, 5)
    assert 0 <= maps.min() < maps.max() < 1
    np.testing.assert_array_equal(maps, random_maps(3, 4, 5, seed=1))
    assert not np.allclose(maps, random_maps(3, 4, 5, seed=2))
    prior = centre_prior(6, 8)
    assert prior.shape == (6, 8)
    assert prior.max() == prior[2, 3] == prior[3, 4]
    np.testing.assert_allclose(prior, prior[::-1, ::-1])
    assert prior[0, 0] == prior.min() < prior[0, 4] < prior[2, 4]


ONE = np.zeros((4, 4))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: energy_inside(MAPS - 1, MASKS), r"negative values; pass maps.clip\(min=0\) or abs\(maps\)"),
        (lambda: energy_inside(MAPS * np.nan, MASKS), "energy_inside: a map holds NaN"),
        (lambda: energy_inside(MAPS, MASKS[:, :7]), "energy_inside: 7x8 pixels do not divide into 4x4 cells"),
        (lambda: iou_at(MAPS, EMPTY), "iou_at: mask 1 is empty"),
        (lambda: iou_at(MAPS, MASKS[:, :7]), "iou_at: 7x8 pixels do not divide into 4x4 cells"),
        (lambda: iou_at(MAPS * np.nan, MASKS), "iou_at: a map holds NaN"),
        (lambda: iou_at(MAPS, MASKS, 0.0), "threshold=0.0 is a share of the largest value"),
        (lambda: iou_at(MAPS, MASKS, 40), "threshold=40 is a share"),
        (lambda: deletion(game(1), ONE, (8, 9)), r"deletion: .* 8x9 pixels does not divide into cells \(4, 4\)"),
        (lambda: insertion(game(1), MAPS, (8, 8)), r"insertion: .* cells \(3, 4, 4\)"),
        (lambda: deletion(game(1), ONE * np.nan, (8, 8)), "its cells have no order"),
        (lambda: deletion(game(1), ONE, (8, 8), steps=17), "steps=17 for 16 cells"),
        (lambda: deletion(game(np.nan), ONE, (8, 8)), "deletion: a score is NaN or infinite"),
        (lambda: insertion(game(np.nan), ONE, (8, 8)), "insertion: a score is NaN or infinite"),
        (lambda: deletion(lambda kept: kept, ONE, (8, 8)), r"must give \(S,\) scores .* got \(17, 8, 8\)"),
    ],
)  # fmt: skip
def test_what_cannot_be_measured_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
