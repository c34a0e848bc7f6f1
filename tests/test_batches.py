"""Batches: the pictures and words of the scenes, in an order that the seed alone decides."""

from collections import Counter, defaultdict

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


# Questions ------------------------------------------------------------------------------------------------------------

MANY = SceneConfig(size=32, objects=("apple", "boat", "pig", "owl", "duck", "mug", "drum", "bus"), counts=(3, 4))


@pytest.fixture(scope="module")
def asked():
    tokenizer = text.word_tokenizer(vocabulary(MANY, with_questions=True))
    return batches.SceneQuestions(Scenes(0, "train", MANY), 400, tokenizer)


def test_every_row_is_a_question_of_its_scene(asked):
    rows = defaultdict(list)
    for q in range(len(asked)):
        question = (asked.texts[q], asked.classes[asked.answers[q]], asked.kinds[q])
        rows[int(asked.image_ids[q])].append(question)
    for i in range(400):
        scene = asked.scenes[i]
        possible = [(question.text, question.answer, question.kind) for question in scene.questions()]
        assert set(rows[i]) <= set(possible)
        assert len(rows[i]) == len(set(rows[i]))
        of_kind, all_of_kind = Counter(kind for *_, kind in rows[i]), Counter(kind for *_, kind in possible)
        most = {"relation": 4 if len(scene.objects) == 4 else 0, "larger": 2, "count": 1, "exists": 2}
        assert of_kind == Counter({kind: min(most[kind], all_of_kind[kind]) for kind in batches.KINDS})
        assert {answer for _, answer, kind in rows[i] if kind == "exists"} == {"yes", "no"}
        names = {one.name for one in scene.objects}
        assert {noun for noun, there in zip(asked.scenes.nouns, asked.present[i]) if there} == names
    assert len(asked) == len(asked.texts) == len(asked.tokens) == len(asked.kinds) == len(asked.image_ids)
    assert (asked.tokens != 1).all()  # no unknown word, and so no question mark


def test_words_name_the_objects_that_the_masks_show(asked):
    seen = Counter()
    for q in range(len(asked)):
        scene = asked.scenes[int(asked.image_ids[q])]
        names, words = [one.name for one in scene.objects], asked.texts[q].strip("?").replace(",", "").split()
        expected = [names.index(word) if word in names else -1 for word in words]
        assert asked.owners[q].tolist() == expected + [-1] * (asked.tokens.shape[1] - len(words))
        answer = asked.classes[asked.answers[q]]
        assert asked.answer_object[q] == (names.index(answer) if answer in names else -1)
        seen[asked.kinds[q], sum(k >= 0 for k in expected)] += 1
    assert set(seen) == {("relation", 1), ("larger", 2), ("count", 0), ("exists", 1), ("exists", 0)}
    assert asked.masks.shape == (400, 4, 32, 32)
    for i in range(0, 400, 37):
        masks = asked.scenes[i].masks
        assert np.array_equal(asked.masks[i, : len(masks)], masks)
        assert not asked.masks[i, len(masks) :].any()


def test_a_noun_of_two_words_is_one_object():
    few = SceneConfig(size=32, objects=("apple", "boat", "pig", "owl", "animals/birds/duck"), counts=(4, 4))
    source = Scenes(0, "train", few)
    source.objects[4] = ("mandarin duck", source.objects[4][1])
    source.objects[3] = ("duck", source.objects[3][1])
    source.nouns[3:] = ["duck", "mandarin duck"]
    words = [*vocabulary(few, with_questions=True), "mandarin", "duck"]
    questions = batches.SceneQuestions(source, 60, text.word_tokenizer(words))
    both = 0
    for line, owner, i in zip(questions.texts, questions.owners, questions.image_ids.tolist()):
        names, words = [one.name for one in source[i].objects], line.strip("?").replace(",", "").split()
        if "mandarin" in words and "mandarin duck" in names:
            k = words.index("mandarin")
            assert owner[k] == owner[k + 1] == names.index("mandarin duck")
            assert line.count("duck") == 1 or names.index("duck") in owner
            both += line.count("duck") == 2
    assert both > 3


def test_question_words_alone_tell_little():
    """Most frequent answer, and the best guess from the text: half where two answers are possible, else near chance."""
    tokenizer = text.word_tokenizer(vocabulary(MANY, with_questions=True))
    asked = batches.SceneQuestions(Scenes(1, "train", MANY), 6_000, tokenizer)
    half = len(asked.tokens) // 2  # told on one half, tried on the other
    bars = {"relation": 0.2, "larger": 0.56, "count": 0.53, "exists": 0.53}
    for kind, bar in bars.items():
        told, right = defaultdict(Counter), []
        for q in np.flatnonzero(asked.kinds == kind):
            line, answer = asked.texts[q], int(asked.answers[q])
            if q < half:
                told[line][answer] += 1
            else:
                right.append(bool(told[line]) and told[line].most_common(1)[0][0] == answer)
        assert len(right) > 1_000
        assert np.mean(right) < bar, kind
    larger = np.flatnonzero(asked.kinds == "larger")
    first = [asked.texts[q].split()[4] == asked.classes[asked.answers[q]] for q in larger]
    assert 0.47 < np.mean(first) < 0.53  # the larger one is named first in one of two


def test_questions_are_drawn_fairly_within_a_kind(asked):
    """Every object is asked about as often as another, and every direction as often."""
    relation, larger = (np.flatnonzero(asked.kinds == kind) for kind in ("relation", "larger"))
    named = np.bincount(asked.owners[relation].max(axis=1), minlength=4)
    assert named.min() > 0.8 * len(relation) / 4
    directions = Counter(asked.texts[q].partition(" the ")[0] for q in relation)
    assert len(directions) == 4
    assert min(directions.values()) > 0.8 * len(relation) / 4
    last = asked.masks[:, 3].any(axis=(1, 2))[asked.image_ids[larger]]  # scenes of four
    shares = [(asked.owners[larger][last] == k).any(axis=1).mean() for k in range(4)]
    assert min(shares) > 0.4  # two of the four are named in each


def test_questions_depend_on_their_scene_alone(asked):
    tokenizer = text.word_tokenizer(vocabulary(MANY, with_questions=True))
    fewer = batches.SceneQuestions(Scenes(0, "train", MANY), 40, tokenizer)
    assert fewer.texts == asked.texts[: len(fewer)]
    assert fewer.classes == asked.classes
    other = batches.SceneQuestions(Scenes(1, "train", MANY), 40, tokenizer)
    assert other.texts[:20] != fewer.texts[:20]
    assert other.classes == asked.classes


def test_a_batch_of_questions(asked):
    chosen = [3, 200, 11, 3]
    batch = asked.batch(chosen)
    assert {name: value.dtype for name, value in batch.items()} == {
        "images": torch.float32, "tokens": torch.int64, "token_mask": torch.bool,
        "image_ids": torch.int64, "answers": torch.int64,
    }  # fmt: skip
    pictures = np.stack([asked.scenes[int(asked.image_ids[q])].image for q in chosen]) / 255  # (B,H,W,3)
    np.testing.assert_allclose(batch["images"].permute(0, 2, 3, 1), pictures, atol=1e-7)
    assert torch.equal(batch["answers"], asked.answers[chosen])
    short = asked.batch(np.flatnonzero(asked.kinds == "exists"))
    assert short["tokens"].shape[1] == 4 < asked.tokens.shape[1]
    assert short["token_mask"].all()


def test_patches_take_the_place_of_pictures(asked):
    patches = torch.arange(400).half()[:, None, None].expand(400, 5, 2)  # (N,P,D), its scene in every number
    seen = asked.with_patches(patches)
    batch = next(batches.shuffled(seen, 32, 1, seed=0))
    assert batch["patches"].dtype == torch.float32
    assert batch["patches"].shape == (32, 5, 2)
    assert torch.equal(batch["patches"][:, 0, 0].long(), batch["image_ids"])
    assert "images" not in batch
    assert "images" in asked.batch([0])  # the questions that it came from stay as they were
    plain = next(batches.shuffled(asked, 32, 1, seed=0))
    assert all(torch.equal(plain[name], batch[name]) for name in ("tokens", "image_ids", "answers"))
    with pytest.raises(ValueError, match="399 rows of patches for 400 scenes"):
        asked.with_patches(patches[1:])


def test_questions_that_cannot_be_asked_are_refused(tokenizer):
    with pytest.raises(ValueError, match="count=0; at least one scene"):
        batches.SceneQuestions(Scenes(0, "train", MANY), 0, tokenizer)
    with pytest.raises(ValueError, match="with_questions=True"):
        batches.SceneQuestions(Scenes(0, "train", MANY), 3, text.word_tokenizer(vocabulary(MANY)))
