"""What stands where something is absent: against torchvision and plain loops, and what is refused."""

import numpy as np
import pytest
import torch
from torchvision.transforms.functional import gaussian_blur

from course_utils import absence
from course_utils.models import TransformerWords

IMAGES = torch.rand(2, 3, 24, 32, generator=torch.Generator().manual_seed(0))
TOKENS, MASK = torch.tensor([101, 7, 8, 9, 5, 102, 0, 0]), torch.tensor([True] * 6 + [False] * 2)
PLAYERS = [-1, 0, 0, 1, 2, -1, -1, -1]  # the first word has two tokens
UNKNOWN = 1


def test_stand_ins():
    assert (absence.stand_in(IMAGES) == 0.5).all()
    mean = absence.stand_in(IMAGES, "mean")
    assert mean.shape == IMAGES.shape
    torch.testing.assert_close(mean[1, 2], IMAGES[1, 2].mean().expand(24, 32))
    blurred = absence.stand_in(IMAGES, "blur")  # deviation 24 / 8 = 3, so 9 pixels each way
    torch.testing.assert_close(blurred, gaussian_blur(IMAGES, [19, 19], [3.0, 3.0]), rtol=1e-5, atol=1e-6)
    assert blurred.std() < IMAGES.std() / 4


def test_regions_are_numbered_like_words_on_a_page():
    regions = absence.grid_regions(4, 6, 2, 3)
    assert regions.tolist() == [[0, 0, 1, 1, 2, 2]] * 2 + [[3, 3, 4, 4, 5, 5]] * 2
    sizes = np.bincount(absence.grid_regions(64, 64, 3, 3).ravel())
    assert (len(sizes), sizes.min(), sizes.max()) == (9, 21 * 21, 22 * 22)


def test_pixels_are_kept_by_region_and_others_replaced():
    rng = np.random.default_rng(1)
    regions, present = rng.integers(-1, 4, (24, 32)), rng.random((5, 4)) < 0.5
    kept = absence.kept_pixels(regions, present)
    wanted = [[[regions[y, x] < 0 or row[regions[y, x]] for x in range(32)] for y in range(24)] for row in present]
    np.testing.assert_array_equal(kept, wanted)
    instead = absence.stand_in(IMAGES)[0]
    hidden = absence.hide_pixels(IMAGES[0], kept, instead)
    assert hidden.shape == (5, 3, 24, 32)
    for picture, mask in zip(hidden, torch.from_numpy(kept)):
        assert torch.equal(picture[:, mask], IMAGES[0][:, mask])
        assert (picture[:, ~mask] == 0.5).all()
    everything = absence.hide_pixels(IMAGES[0], np.ones((1, 24, 32), dtype=bool), instead)
    assert torch.equal(everything[0], IMAGES[0])


PRESENT = np.array([[True, True, True], [False, True, True], [True, False, False], [False, False, False]])


def test_words_are_replaced_by_a_token():
    tokens, mask = absence.hide_words(TOKENS, MASK, PLAYERS, PRESENT, UNKNOWN)
    assert tokens.tolist() == [
        [101, 7, 8, 9, 5, 102, 0, 0],
        [101, 1, 1, 9, 5, 102, 0, 0],
        [101, 7, 8, 1, 1, 102, 0, 0],
        [101, 1, 1, 1, 1, 102, 0, 0],
    ]
    assert torch.equal(mask, MASK.expand(4, -1))


def test_or_by_those_of_another_sentence():
    other = torch.tensor([101, 7, 8, 19, 15, 102, 0, 0])
    tokens, mask = absence.hide_words(TOKENS, MASK, PLAYERS, PRESENT, other)
    assert tokens[2].tolist() == [101, 7, 8, 19, 15, 102, 0, 0]
    assert torch.equal(tokens[0], TOKENS)
    assert torch.equal(mask, MASK.expand(4, -1))


def test_or_dropped_so_that_those_behind_move_up():
    tokens, mask = absence.hide_words(TOKENS, MASK, PLAYERS, PRESENT, UNKNOWN, drop=True)
    assert tokens.tolist() == [
        [101, 7, 8, 9, 5, 102],
        [101, 9, 5, 102, 0, 0],
        [101, 7, 8, 102, 0, 0],
        [101, 102, 0, 0, 0, 0],
    ]
    assert torch.equal(mask, tokens > 0)
    tokens, mask = absence.hide_words(TOKENS[1:5], MASK[1:5], PLAYERS[1:5], PRESENT, UNKNOWN, drop=True)
    assert tokens.tolist() == [[7, 8, 9, 5], [9, 5, 0, 0], [7, 8, 0, 0], [1, 0, 0, 0]]  # nothing is left but a stand-in
    assert torch.equal(mask, tokens > 0)
    tokens, mask = absence.hide_words(TOKENS[1:5], MASK[1:5], PLAYERS[1:5], PRESENT[3:], UNKNOWN, drop=True)
    assert (tokens.tolist(), mask.tolist()) == ([[1]], [[True]])


def test_a_dropped_word_is_as_if_it_had_never_been_there():
    torch.manual_seed(0)
    tower = TransformerWords(200, 8, width=16, layers=1, heads=2).eval()
    tokens, mask = absence.hide_words(TOKENS, MASK, PLAYERS, PRESENT, UNKNOWN, drop=True)
    short = torch.tensor([[101, 9, 5, 102]])
    with torch.no_grad():
        torch.testing.assert_close(tower(tokens, mask)[1:2], tower(short, short > 0))
        assert torch.isfinite(tower(tokens, mask)).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: absence.stand_in(IMAGES, "black"), "'black' one of"),
        (lambda: absence.stand_in(IMAGES[0]), r"images \(3, 24, 32\) must be"),
        (lambda: absence.grid_regions(24, 32, 25, 4), "24x32 pixels do not make 25x4"),
        (lambda: absence.kept_pixels(np.full((4, 4), 3), PRESENT), "regions 3 to 3 for 3 players"),
        (lambda: absence.kept_pixels(np.zeros((4, 4)), PRESENT), r"must be \(H,W\) integers; got \(4, 4\) of float64"),
        (lambda: absence.kept_pixels(np.zeros((4, 4), int), PRESENT[0]), r"present must be \(S,n\) bool.*got \(3,\)"),
        (lambda: absence.kept_pixels(np.zeros((4, 4), int), PRESENT * 1), "of int64"),
        (lambda: absence.hide_pixels(IMAGES[0], np.ones((2, 24, 31), bool), IMAGES[1]), r"kept \(2, 24, 31\)"),
        (lambda: absence.hide_pixels(IMAGES[0], np.ones((2, 24, 32)), IMAGES[1]), "kept must be bool"),
        (lambda: absence.hide_pixels(IMAGES[0], np.ones((2, 24, 32), bool), IMAGES), "of one size"),
        (lambda: absence.hide_words(TOKENS, MASK & False, PLAYERS, PRESENT, 1), "padding only"),
        (lambda: absence.hide_words(TOKENS[None], MASK[None], PLAYERS, PRESENT, 1), "one sentence at a time"),
        (lambda: absence.hide_words(TOKENS, MASK, PLAYERS[1:], PRESENT, 1), r"players \(7,\)"),
        (lambda: absence.hide_words(TOKENS, MASK, PLAYERS, PRESENT, TOKENS, drop=True), "token must be one id"),
        (lambda: absence.hide_words(TOKENS, MASK, PLAYERS, PRESENT, TOKENS[1:]), r"token must be one id, or \(8,\)"),
        (lambda: absence.hide_words(TOKENS, MASK, PLAYERS, PRESENT[:, :2], 1), "players -1 to 2 for 2 columns"),
    ],
)  # fmt: skip
def test_what_cannot_be_taken_away_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
