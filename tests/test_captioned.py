"""The feed against pictures cut by hand: crops, mirrors, captions, an order that resumes and that processes share."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from course_utils import captioned, text

N, SIDE, K = 10, 12, 3
WORDS = "a dog runs over the green grass on its left right upright leftover leftmost".split()


def captions():
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(WORDS[:8], rng.integers(1, 9))) for _ in range(N * K)]


def pictures(texts=None):
    """Pixels that name their place: red the row, green the column, blue the picture."""
    pixels = np.zeros((N, SIDE, SIDE, 3), np.uint8)
    pixels[..., 0] = np.arange(SIDE)[:, None] * 10
    pixels[..., 1] = np.arange(SIDE) * 10
    pixels[..., 2] = np.arange(N)[:, None, None]
    owners = np.repeat(np.arange(N), K)
    return SimpleNamespace(pixels=pixels, image_ids=100 + np.arange(N), texts=texts or captions(), owners=owners)


@pytest.fixture(scope="module")
def tokenizer():
    return text.word_tokenizer(WORDS)


@pytest.fixture()
def make(tokenizer):
    def made(size=8, texts=None, **settings):
        return captioned.Feed(pictures(texts), lambda sentences: text.encode(tokenizer, sentences), size, **settings)

    return made


def which(batch):
    """Rows of the set, read from the pixels."""
    return (batch["images"][:, 2, 0, 0] * 255).round().int().tolist()


@pytest.mark.parametrize("captions_each", [1, 2, 3])
def test_a_batch_holds_each_picture_once_with_its_own_captions(make, tokenizer, captions_each):
    some = make(captions=captions_each)
    for batch in some.batches(4, 6, seed=0):
        rows = which(batch)
        assert batch["images"].shape == (4, 3, 8, 8) and batch["images"].dtype == torch.float32
        assert batch["images"].is_contiguous(memory_format=torch.channels_last)
        assert len(set(rows)) == 4
        assert batch["owners"].tolist() == np.repeat(range(4), captions_each).tolist()
        assert batch["image_ids"].tolist() == [100 + row for row in np.repeat(rows, captions_each)]
        assert batch["token_mask"].any(dim=0).all()  # padding ends at the longest
        said = [tokenizer.decode(row[mask].tolist()) for row, mask in zip(batch["tokens"], batch["token_mask"])]
        for k, row in enumerate(rows):
            own = some.pictures.texts[row * K : row * K + K]
            mine = said[k * captions_each : (k + 1) * captions_each]
            assert all(mine.count(one) <= own.count(one) for one in mine)  # none twice


def test_crops_and_mirrors_are_those_of_the_pixels(make):
    some, seen = make(), set()
    for batch in some.batches(5, 100, seed=1):
        image = (batch["images"] * 255).round().int()
        for picture in image:
            top, left = picture[0, 0, 0] // 10, picture[1, 0, :].min() // 10
            turned = bool(picture[1, 0, 0] > picture[1, 0, -1])
            expected = torch.arange(8) * 10 + left * 10
            assert picture[1, 3].tolist() == (expected.flip(0) if turned else expected).tolist()
            assert picture[0, :, 2].tolist() == (torch.arange(8) * 10 + top * 10).tolist()
            seen.add((int(top), int(left), turned))
    assert len(seen) == 5 * 5 * 2  # every corner, mirrored and not


def test_without_instructions_the_middle_is_cut(make):
    images = make().images([3, 1])
    assert (images[0, 0, 0, 0] * 255).round() == 20 and (images[1, 1, 0, 0] * 255).round() == 20


def test_a_small_size_averages_squares_of_pixels(make):
    some = make(size=5)  # 12 // 5 = 2: crops of 10
    assert some.factor == 2 and some.slack == 2
    image = some.images([4])[0]
    by_hand = pictures().pixels[4, 1:11, 1:11].reshape(5, 2, 5, 2, 3).astype(float).mean(axis=(1, 3)) / 255
    np.testing.assert_allclose(image.permute(1, 2, 0).numpy(), by_hand, atol=1e-6)


@pytest.mark.parametrize(
    ("caption", "mirrored"),
    [
        ("a dog on its left", False),
        ("Right of the dog", False),
        ("the leftmost dog", False),
        ("left-hand side", False),
        ("an upright dog", True),
        ("a leftover", True),
    ],
)
def test_no_picture_is_mirrored_beside_a_caption_that_names_a_side(make, caption, mirrored):
    some = make(texts=[caption] * (N * K))
    turned = [
        one for batch in some.batches(10, 8, 0) for one in (batch["images"][:, 1, 0, 0] > batch["images"][:, 1, 0, -1])
    ]
    assert any(turned) == mirrored


def test_only_captions_that_are_in_the_batch_forbid_a_mirror(make):
    texts = ["a dog", "the dog on its left", "a dog"] * N
    some = make(texts=texts, captions=1)
    turned = sided = 0
    for batch in some.batches(10, 30, 0):
        sides = (batch["token_mask"].sum(dim=1) > 2).tolist()
        flips = (batch["images"][:, 1, 0, 0] > batch["images"][:, 1, 0, -1]).tolist()
        assert not any(side and flip for side, flip in zip(sides, flips))
        turned, sided = turned + sum(flips), sided + sum(sides)
    assert 60 < turned < 140 and 60 < sided < 140  # about half of two thirds; about a third
    assert not any(batch["images"][0, 1, 0, 0] > batch["images"][0, 1, 0, -1]
                   for batch in make(flip=False).batches(10, 9, 0))  # fmt: skip


def test_a_round_holds_every_picture_once_and_the_seed_decides(make):
    some = make()
    rounds = [sum((which(batch) for batch in some.batches(5, 2, seed)), []) for seed in (0, 1)]
    assert sorted(rounds[0]) == sorted(rounds[1]) == list(range(N)) and rounds[0] != rounds[1]
    dropped = [which(batch) for batch in some.batches(4, 4, 0)]  # two batches a round, two pictures left over
    assert len(set(dropped[0] + dropped[1])) == len(set(dropped[2] + dropped[3])) == 8


def same(batches, others):
    batches, others = list(batches), list(others)
    assert len(batches) == len(others)
    return all(torch.equal(one[name], other[name]) for one, other in zip(batches, others) for name in one)


def test_skipping_gives_the_batches_that_would_have_come(make):
    series = make(captions=2).batches(4, 9, seed=3)
    whole = list(series)
    for count in (0, 1, 2, 5, 9):
        assert same(series.skip(count), whole[count:])
    assert same(series.skip(3).skip(2), whole[5:])
    known = {"pictures": 10, "size": 8, "captions": 2, "flip": True, "batch_size": 4, "seed": 3}
    assert series.about == known | {"texts": series.about["texts"]}


def test_a_set_of_the_same_size_with_other_captions_is_another_set(make):
    texts = captions()
    one, same_texts, other = (make(texts=some).batches(4, 9, 3).about for some in (texts, list(texts), texts[::-1]))
    assert one == same_texts and one["texts"] != other["texts"] and one["pictures"] == other["pictures"]


def test_processes_share_the_batch_of_one(make):
    some = make(captions=2)
    whole = some.batches(4, 5, seed=3)
    parts = zip(*(some.batches(4, 5, 3, share=(rank, 2)) for rank in (0, 1)))
    for batch, (first, second) in zip(whole, parts):
        for name in ("images", "image_ids"):
            assert torch.equal(batch[name], torch.cat([first[name], second[name]]))
        words = [
            row[mask].tolist() for part in (first, second) for row, mask in zip(part["tokens"], part["token_mask"])
        ]
        assert words == [row[mask].tolist() for row, mask in zip(batch["tokens"], batch["token_mask"])]
        assert first["owners"].tolist() == second["owners"].tolist() == [0, 0, 1, 1]


def test_what_cannot_be_is_refused(make):
    with pytest.raises(ValueError, match="size=13 is outside 1..12"):
        make(size=13)
    with pytest.raises(ValueError, match="captions=4, but picture 0 has 3; use 1 to 3"):
        make(captions=4)
    with pytest.raises(ValueError, match=r"share=\(2, 2\) is \(rank, processes\)"):
        make().batches(4, 1, 0, (2, 2))
    with pytest.raises(ValueError, match=r"batch_size=11 must lie in 1..10"):
        make().batches(11, 1, 0)
    with pytest.raises(ValueError, match="divide among 2 processes"):
        make().batches(5, 1, 0, (0, 2))


@pytest.mark.parametrize("change", ["shuffled", "cut", "empty", "gap"])
def test_captions_that_would_meet_wrong_pictures_are_refused(tokenizer, change):
    some = pictures()
    if change == "shuffled":
        some.owners = np.tile(np.arange(N), K)
    elif change == "cut":
        some.owners = some.owners[:-1]
    elif change == "empty":
        some.image_ids, some.texts, some.owners = some.image_ids[:0], [], some.owners[:0]
    else:
        some.owners = np.where(some.owners == 4, 5, some.owners)
    says = "picture 4 has 0; leave it out" if change == "gap" else "must name the row of each of .*and never fall"
    with pytest.raises(ValueError, match=says):
        captioned.Feed(some, lambda sentences: text.encode(tokenizer, sentences), 8)
