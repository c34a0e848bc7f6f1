"""Batches: the pictures and words of the scenes, in an order that the seed alone decides."""

import numpy as np
import pytest
import torch

from course_utils import batches, text
from course_utils.scenes import SceneConfig, Scenes, vocabulary

COUNT = 60
FEW = SceneConfig(size=32, objects=("apple", "boat", "pig"))  # few objects, so that many twins are there


@pytest.fixture(scope="module")
def tokenizer():
    return text.word_tokenizer(vocabulary(FEW))


@pytest.fixture(scope="module")
def scenes():
    return Scenes(0, "train", FEW)


@pytest.fixture(scope="module")
def pairs(scenes, tokenizer):
    return batches.ScenePairs(scenes, COUNT, tokenizer)


def test_a_batch_holds_the_pictures_and_words_of_its_scenes(scenes, pairs, tokenizer):
    chosen = [7, 3, 41, 3]
    batch = pairs.batch(chosen)
    assert {name: value.dtype for name, value in batch.items()} == {
        "images": torch.float32, "tokens": torch.int64, "token_mask": torch.bool, "image_ids": torch.int64
    }  # fmt: skip
    pictures = np.stack([scenes[i].image for i in chosen]) / 255  # (B,H,W,3)
    np.testing.assert_allclose(batch["images"].permute(0, 2, 3, 1), pictures, atol=1e-7)
    assert 0 <= batch["images"].min() < 0.5 < batch["images"].max() <= 1
    assert batch["image_ids"].tolist() == chosen
    said = [tokenizer.decode(row[mask].tolist()) for row, mask in zip(batch["tokens"], batch["token_mask"])]
    assert said == [scenes[i].captions[0].text for i in chosen]
    assert len(pairs) == COUNT


def test_padding_ends_at_the_longest_caption_of_the_batch(pairs):
    lengths = (pairs.tokens != 0).sum(dim=1)
    short = pairs.batch(torch.nonzero(lengths == lengths.min()).flatten())
    assert short["tokens"].shape[1] == lengths.min() < lengths.max() == pairs.batch(range(COUNT))["tokens"].shape[1]
    assert short["token_mask"].all()


def test_no_word_of_any_caption_or_foil_is_unknown():
    tokenizer, scenes = text.word_tokenizer(vocabulary()), Scenes(1, "val")
    sentences = [caption for k in range(5) for caption in scenes.captions(range(200), k)]
    sentences += [
        foil for kind in ("relation", "swapped", "size", "replaced") for foil in scenes.foils(range(99), kind)
    ]
    tokens, _ = text.encode(tokenizer, sentences)
    assert (tokens != 1).all()


# Twins ----------------------------------------------------------------------------------------------------------------


def claim(scene):
    """What a scene shows, from its objects and not from its words: (left or upper thing, axis, the other thing)."""
    (subject, relation, of), (first, second) = scene.relations[0], [(one.name, one.size) for one in scene.objects]
    assert (subject, of) == (0, 1)
    if relation in ("left of", "above"):
        return first, relation, second
    return second, {"right of": "left of", "below": "above"}[relation], first


def test_a_twin_shows_the_same_things_the_other_way_round(scenes, pairs):
    claims = [claim(scenes[i]) for i in range(COUNT)]
    for i, (first, axis, second) in enumerate(claims):
        others = [j for j, other in enumerate(claims) if other == (second, axis, first)]
        assert pairs.twins[i] in (others or [-1])
    assert 10 < (pairs.twins >= 0).sum() < COUNT  # both cases occurred
    np.testing.assert_array_equal(batches.twins(scenes, COUNT), pairs.twins)


def test_twins_take_the_second_half_of_a_batch(pairs):
    found = 0
    plain = list(batches.shuffled(pairs, 15, 8, seed=3))
    paired = list(batches.shuffled(pairs, 15, 8, seed=3, with_twins=True))
    for without, with_twins in zip(plain, paired):
        ids, usual = with_twins["image_ids"].tolist(), without["image_ids"].tolist()
        assert ids[:7] == usual[:7]
        expected = [twin if twin >= 0 else other for twin, other in zip(pairs.twins[ids[:7]], usual[7:])]
        assert ids[7:] == [*expected, usual[14]]
        torch.testing.assert_close(with_twins["tokens"], pairs.batch(ids)["tokens"])
        found += ids != usual
    assert found == 8


# Order ----------------------------------------------------------------------------------------------------------------


def order(pairs, seed, batch_size=16, steps=10):
    return [batch["image_ids"].tolist() for batch in batches.shuffled(pairs, batch_size, steps, seed)]


def test_the_order_depends_on_the_seed_alone(pairs):
    first = order(pairs, seed=5)
    torch.manual_seed(99)
    np.random.seed(99)
    assert order(pairs, seed=5) == first
    assert order(pairs, seed=6) != first
    assert order(pairs, seed=5, steps=3) == first[:3]  # a shorter run is the beginning of the longer one


def test_nothing_comes_twice_in_a_round(pairs):
    seen = order(pairs, seed=0, batch_size=16, steps=9)  # 60 pairs: three batches a round, twelve pairs dropped
    rounds = [sum(seen[i : i + 3], []) for i in (0, 3, 6)]
    for one in rounds:
        assert len(one) == len(set(one)) == 48
    assert set(rounds[0]) != set(rounds[1])  # other pairs are dropped in the next round
    assert set().union(*rounds) == set(range(COUNT))
    assert sorted(order(pairs, seed=0, batch_size=COUNT, steps=1)[0]) == list(range(COUNT))


def test_as_many_batches_as_asked_for(pairs):
    assert [len(ids) for ids in order(pairs, seed=0, batch_size=50, steps=5)] == [50] * 5
    assert order(pairs, seed=0, steps=0) == []


@pytest.mark.parametrize("batch_size", [0, COUNT + 1])
def test_a_batch_that_cannot_be_filled_is_refused(pairs, batch_size):
    with pytest.raises(ValueError, match=rf"batch_size={batch_size} is outside 1..{COUNT} pairs"):
        next(batches.shuffled(pairs, batch_size, 1, seed=0))


def test_no_scenes_are_refused(scenes, tokenizer):
    with pytest.raises(ValueError, match="count=0; at least one scene"):
        batches.ScenePairs(scenes, 0, tokenizer)


def test_a_scene_that_was_not_drawn_is_refused(pairs):
    with pytest.raises(IndexError):
        pairs.batch([COUNT])
