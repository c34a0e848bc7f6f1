"""Scenes are what they say.

Captions, foils and questions are judged by a parser of our own that only measures boxes and masks; pictures are
composed a second time from the stamps themselves, with Pillow and in floating point.
"""

import dataclasses
import json
import os
import pickle
import re
import subprocess
import sys
import zlib
from collections import Counter
from functools import lru_cache

import numpy as np
import pytest
from PIL import Image

from course_utils import combinations, composing, scenes, stamps
from course_utils.scenes import DEFAULT_OBJECTS, SceneConfig, Scenes

AXIS = {"left of": (0, -1), "right of": (0, 1), "above": (1, -1), "below": (1, 1)}  # picture rows count downwards
RELATION = "left of|right of|above|below"
PHRASE = r"(?:(a|an|one|the) )?(?:(small|big) )?(.+?)"
COUNTS = ((1, 1), (2, 2), (3, 3), (4, 4))


# The independent reader ----------------------------------------------------------------------------------------------


def locate(phrase, scene):
    """(index of the object that a phrase means or None, whether its size word is right), measured in the picture."""
    determiner, size, noun = re.fullmatch(PHRASE, phrase).groups()
    if determiner in ("a", "an"):
        vowel = re.match("[aeiou](?!uro|niv)", size or noun)  # a European bear, a university
        assert (determiner == "an") == bool(vowel), phrase
    found = [k for k, one in enumerate(scene.objects) if one.name == noun]
    assert len(found) <= 1, "nouns of a scene are distinct"
    if not found:
        return None, False
    x0, y0, x1, y1 = scene.objects[found[0]].box
    share = max(x1 - x0, y1 - y0) / scene.image.shape[0]
    measured = "small" if share < 0.30 else "medium" if share < 0.415 else "big"
    return found[0], size is None or size == measured


def centre_of(mask):
    y, x = np.nonzero(mask)
    return x.mean(), y.mean()


def related(scene, k, relation, j):
    """True, False or None (too close to call): from boxes by a clear margin, and masks must agree on the direction."""
    axis, sign = AXIS[relation]
    boxes = [np.array([(b[0] + b[2]) / 2, (b[1] + b[3]) / 2]) for b in (scene.objects[k].box, scene.objects[j].box)]
    step = (boxes[0] - boxes[1]) / scene.image.shape[0]
    masks = sign * (centre_of(scene.masks[k])[axis] - centre_of(scene.masks[j])[axis])
    if sign * step[axis] >= 0.25 and abs(step[axis]) >= 2 * abs(step[1 - axis]) and masks > 0:
        return True
    return False if sign * step[axis] <= 0 or abs(step[1 - axis]) >= 2 * abs(step[axis]) else None


def judge(text, scene):
    """Is the sentence true of the scene? True, False, or None where a measurement is too close to call."""
    verdicts = []
    patterns = (
        rf"(?P<a>.+?) is (?P<r>{RELATION}) (?P<b>.+)",
        rf"(?P<r>{RELATION}) (?P<b>.+) there is (?P<a>.+)",
        r"there is (?P<a>.+)",
        rf"(?P<a>.+?) (?P<r>{RELATION}) (?P<b>.+)",
        r"(?P<a>.+)",
    )
    for clause in text.split(" and "):
        match = next(found for pattern in patterns if (found := re.fullmatch(pattern, clause)))
        parts = match.groupdict()
        ends = [locate(parts[end], scene) for end in ("a", "b") if parts.get(end)]
        verdicts += [k is not None and right for k, right in ends]
        if parts.get("r") and all(k is not None for k, _ in ends):
            verdicts.append(related(scene, ends[0][0], parts["r"], ends[1][0]))
    return False if False in verdicts else None if None in verdicts else True


def answer_to(text, scene):
    """The answers that a question allows, measured in the picture."""
    if match := re.fullmatch(rf"what is directly ({RELATION}) the (.+)\?", text):
        k, _ = locate(match[2], scene)
        others = [j for j in range(len(scene.objects)) if j != k]  # what lies askew is not directly there
        return [scene.objects[j].name for j in others if related(scene, j, match[1], k)]
    if match := re.fullmatch(r"which is larger, the (.+) or the (.+)\?", text):
        sides = [
            max(b[2] - b[0], b[3] - b[1]) for b in (scene.objects[locate(n, scene)[0]].box for n in match.groups())
        ]
        assert max(sides) > 1.25 * min(sides)
        return [match[1 + int(np.argmax(sides))]]
    if text == "how many things are there?":
        return [{1: "one", 2: "two", 3: "three", 4: "four"}[sum(mask.any() for mask in scene.masks)]]
    return ["no" if locate(re.fullmatch(r"is there (an? .+)\?", text)[1], scene)[0] is None else "yes"]


@pytest.fixture(scope="module")
def some():
    """Some scenes of every count, read as single items."""
    every = []
    for k, counts in enumerate(COUNTS):
        source = Scenes(k, ("train", "val", "test", "train")[k], SceneConfig(counts=counts, size=(64, 64, 96, 80)[k]))
        every += [source[i] for i in range(250)]
    return every


# Words ---------------------------------------------------------------------------------------------------------------


def test_the_reader_itself_tells_true_from_false(some):
    scene = some[250]  # two objects
    (a, relation, b), names = scene.relations[0], [one.name for one in scene.objects]
    assert judge(f"the {names[a]} is {relation} the {names[b]}", scene) is True
    assert judge(f"the {names[b]} is {relation} the {names[a]}", scene) is False
    assert judge("there is a unicorn".replace(" a ", " the "), scene) is False


def test_captions_are_true_and_foils_false(some):
    for scene in some:
        assert len(scene.captions) == 5
        assert len({caption.text for caption in scene.captions}) >= (5 if len(scene.objects) > 1 else 3)
        for caption in scene.captions:
            assert judge(caption.text, scene) is True, (caption.text, scene.objects)
        kinds = {"size", "replaced"} | ({"relation", "swapped"} if len(scene.objects) > 1 else set())
        foils = scene.foils()
        assert set(foils) == kinds
        for foil in foils.values():
            assert judge(foil.text, scene) is False, (foil.text, scene.objects)


def test_foils_change_what_their_kind_says(some):
    for scene in some:
        full, foils, names = scene.captions[0], scene.foils(), {one.name for one in scene.objects}
        opposite = {"left": "right", "right": "left", "above": "below", "below": "above"}
        if "relation" in foils:
            changed = [(a, b) for a, b in zip(full.words, foils["relation"].words, strict=True) if a != b]
            assert len(changed) == 1
            assert opposite[changed[0][0]] == changed[0][1]
        if len(scene.objects) == 2:
            assert Counter(foils["swapped"].words) == Counter(full.words)
        assert set(foils["size"].words) - set(full.words) <= {"small", "big", "a"}
        spare = {foils["replaced"].words[-1]} | set(foils["replaced"].words)
        assert len((spare & set(DEFAULT_OBJECTS)) - names) == 1


def test_every_word_belongs_to_its_object(some):
    for scene in some:
        for caption in (*scene.captions, *scene.foils().values()):
            assert caption.text == " ".join(caption.words)
            assert len(caption.words) == len(caption.owner)
            for word, owner in zip(caption.words, caption.owner):
                if owner >= 0:
                    allowed = {"a", "an", "one", "the", "small", "big", scene.objects[owner].name}
                    assert word in allowed
                if word in {one.name for one in scene.objects}:
                    assert scene.objects[owner].name == word
                if word in {"left", "right", "of", "above", "below", "and", "there", "is"}:
                    assert owner == -1


def test_questions_have_the_one_right_answer(some):
    kinds = Counter()
    for scene in some:
        for question in scene.questions():
            assert answer_to(question.text, scene) == [question.answer], (question, scene.objects)
            kinds[question.kind, question.answer if question.kind == "exists" else ""] += 1
            if question.kind in ("relation", "larger"):
                assert scene.objects[question.objects[0]].name == question.answer
    assert min(kinds.values()) > 200
    assert {kind for kind, _ in kinds} == {"relation", "larger", "count", "exists"}
    assert kinds["exists", "yes"] == kinds["exists", "no"]


def test_of_four_objects_the_direction_alone_tells_nothing(some):
    """Two objects have one directly left of them, two directly above, and so on; only the named one tells which."""
    pairs = {2: 2, 3: 4, 4: 8}  # two ends of one relation, of two in a corner, of four around a square
    for scene in some:
        asked = [question for question in scene.questions() if question.kind == "relation"]
        assert len(asked) == pairs.get(len(scene.objects), 0)
        if len(scene.objects) == 4:
            by_direction = Counter(question.text.partition(" the ")[0] for question in asked)
            assert by_direction == {f"what is directly {relation}": 2 for relation in AXIS}
            assert len({question.text for question in asked}) == 8
            assert all(Counter(question.answer for question in asked)[one.name] == 2 for one in scene.objects)


def test_the_vocabulary_holds_every_word(some):
    spoken, asked = set(scenes.vocabulary()), set(scenes.vocabulary(with_questions=True))
    for scene in some:
        for caption in (*scene.captions, *scene.foils().values()):
            assert set(caption.words) <= spoken
        for question in scene.questions():
            assert set(re.findall(r"\w+", f"{question.text} {question.answer}")) <= asked
    used = {word for scene in some for caption in scene.captions for word in caption.words}
    assert spoken - used == set()
    assert list(scenes.vocabulary()) == sorted(spoken)


# Pictures and masks --------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def table_by_name():
    return stamps.load().set_index("name", drop=False)


def layer(one, size):
    """(canvas of colours, canvas of alpha in 0..1) of one object, from the stamp by way of Pillow and floats."""
    row = table_by_name().loc[one.stamp]
    pixels = stamps.picture(row)
    rows, columns = np.flatnonzero(stamps.mask(row).any(1)), np.flatnonzero(stamps.mask(row).any(0))
    pixels = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    x0, y0, x1, y1 = one.box
    small = Image.fromarray(pixels).convert("RGBa").resize((x1 - x0, y1 - y0), Image.Resampling.LANCZOS)
    small = np.asarray(small, dtype=float)
    colour, alpha = np.zeros((size, size, 3)), np.zeros((size, size))
    colour[y0:y1, x0:x1], alpha[y0:y1, x0:x1] = np.minimum(small[..., :3], small[..., 3:]), small[..., 3] / 255
    return colour, alpha


@pytest.mark.parametrize("counts", COUNTS)
def test_pictures_and_masks_equal_a_second_composition(counts):
    source = Scenes(3, "val", SceneConfig(counts=counts, size=72))
    for i in range(25):
        scene = source[i]
        canvas = np.zeros((72, 72, 3), dtype=np.uint8)
        composing.paint(canvas, scene._layout.ground, "shaded", [], [])
        canvas, owner = canvas.astype(float), np.full((72, 72), -1)
        for k, one in enumerate(scene.objects):
            colour, alpha = layer(one, 72)
            canvas = colour + canvas * (1 - alpha[..., None])
            owner[alpha > 0.5] = k
        assert np.abs(canvas - scene.image).max() <= 3  # integers against floats, up to four layers
        for k, mask in enumerate(scene.masks):
            assert np.array_equal(mask, owner == k)
        assert scene.masks.sum(0).max() == 1  # disjoint
        assert scene.masks.shape == (len(scene.objects), 72, 72)


def test_what_lies_in_front_hides_what_lies_behind():
    tiles = [composing.tile(DEFAULT_OBJECTS[noun], side) for noun, side in (("apple", 30), ("owl", 24), ("mug", 16))]
    places = [(4, 6), (10, 8), (14, 16)]  # all three overlap, far more than in any scene
    masks, owner = composing.visible(48, tiles, places), np.full((48, 48), -1)
    alpha = np.zeros((3, 48, 48))
    for k, (one, (x, y)) in enumerate(zip(tiles, places)):
        h, w = one.solid.shape
        alpha[k, y : y + h, x : x + w] = 1 - one.keep[..., 0] / 256
        owner[alpha[k] > 0.5] = k
    assert np.array_equal(masks, owner == np.arange(3)[:, None, None])
    assert 0 < masks[0].sum() < (alpha[0] > 0.5).sum()
    assert 0 < masks[1].sum() < (alpha[1] > 0.5).sum()
    canvas, alone = np.zeros((2, 48, 48, 3), dtype=np.uint8)
    composing.paint(canvas, (0, 0), "plain", tiles, places)
    composing.paint(alone, (0, 0), "plain", tiles[2:], places[2:])
    opaque = alpha[2] == 1
    assert opaque.sum() > 50
    assert np.array_equal(canvas[opaque], alone[opaque])  # nothing shines through the front one


def test_objects_lie_inside_stay_visible_and_stand_out(some):
    for scene in some:
        size = len(scene.image)
        for one, mask in zip(scene.objects, scene.masks):
            x0, y0, x1, y1 = one.box
            assert 0 <= x0 < x1 <= size
            assert 0 <= y0 < y1 <= size
            hidden = 1 - mask.sum() / (layer(one, size)[1] > 0.5).sum() if len(scene.objects) == 2 else 0
            assert hidden <= 0.35
            assert mask.sum() >= 35
            ground = np.zeros_like(scene.image)
            composing.paint(ground, scene._layout.ground, "shaded", [], [])
            difference = scene.image[mask].astype(float) - ground[mask]
            assert np.abs(difference).max(-1).mean() > 25


def test_backgrounds():
    for background in scenes.BACKGROUNDS:
        source = Scenes(0, "train", SceneConfig(background=background))
        spread = []
        for i in range(20):
            scene = source[i]
            clear = np.ones(scene.image.shape[:2], dtype=bool)
            for x0, y0, x1, y1 in (one.box for one in scene.objects):
                clear[y0:y1, x0:x1] = False
            spread.append(np.ptp(scene.image[clear].astype(int), axis=0).max())
            steps = np.abs(np.diff(scene.image.astype(int), axis=1)).max(-1)[clear[:, 1:] & clear[:, :-1]]
            assert steps.max() <= 3  # no noise
        assert max(spread) == 0 if background == "plain" else min(spread) > 10
    assert len({Scenes(0)[i].image[-1, -1].tobytes() for i in range(50)}) > 20


# Items, parts, held-out objects --------------------------------------------------------------------------------------


def test_fast_paths_equal_single_items():
    source, indices = Scenes(5, "test", SceneConfig(counts=(2, 4), size=48)), [3, 0, 1_000_000, 17, 3]
    single = [source[i] for i in indices]
    assert np.array_equal(source.images(indices), np.stack([scene.image for scene in single]))
    assert source.images(indices).dtype == np.uint8
    for k in range(5):
        assert source.captions(indices, k) == [scene.captions[k].text for scene in single]
    for kind in ("relation", "swapped", "size", "replaced"):
        assert source.foils(np.array(indices), kind) == [scene.foils()[kind].text for scene in single]
    assert source.images([]).shape == (0, 48, 48, 3)


PROGRAM = """
import json, sys, zlib
from course_utils.scenes import SceneConfig, Scenes
config = SceneConfig(counts=(1, 4))
out = []
for i in json.loads(sys.argv[1]):
    scene = Scenes(11, "val", config)[i]
    words = [c.text for c in scene.captions] + [f.text for f in scene.foils().values()] + [repr(scene.questions())]
    out.append([zlib.crc32(scene.image.tobytes()), zlib.crc32(scene.masks.tobytes()), words])
print(json.dumps(out))
"""


def test_an_item_depends_on_seed_part_and_index_alone(root):
    indices = [40, 2, 7, 0, 39]
    source = Scenes(11, "val", SceneConfig(counts=(1, 4)))
    source.images(range(30))  # what was read before does not matter
    here = []
    for i in indices:
        scene = source[i]
        words = [c.text for c in scene.captions] + [f.text for f in scene.foils().values()] + [repr(scene.questions())]
        here.append([zlib.crc32(scene.image.tobytes()), zlib.crc32(scene.masks.tobytes()), words])
    environment = {**os.environ, "PYTHONHASHSEED": "77"}
    command = [sys.executable, "-c", PROGRAM, json.dumps(indices[::-1])]
    there = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=True)
    assert json.loads(there.stdout)[::-1] == here
    copied = pickle.loads(pickle.dumps(source))
    assert np.array_equal(copied[40].image, source[40].image)


def test_words_are_the_same_on_every_machine():
    """Written down once: a change here changes every lesson's data, and needs every band measured again."""
    assert Scenes(0, "train").captions([0, 1]) == ["a small boat below a small snowman", "an owl below a small kite"]
    assert Scenes(0, "test").captions([0, 1]) == ["a small zebra above a penguin", "a small toadstool below a lemon"]
    three = Scenes(0, "val", SceneConfig(counts=(3, 3))).captions([5])
    assert three == ["a mug right of a drum and the drum above a small cupcake"]


def test_seeds_and_parts_differ():
    base = Scenes(0, "train").captions(range(50))
    assert base != Scenes(1, "train").captions(range(50))
    assert not set(base) & set(Scenes(0, "val").captions(range(50)))


def statement(source, i):
    """What a scene shows, in a form that does not depend on which object is named first."""
    scene = source._layout(i)
    things = [(source.nouns[k], size) for k, size in zip(scene.objects, scene.sizes)]
    flipped = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
    there = (tuple(things), scene.relations)
    back = (tuple(things[::-1]), tuple(flipped[relation] for relation in scene.relations[::-1]))
    return min(there, back)


@pytest.mark.parametrize(("counts", "items"), [((1, 1), 200), ((2, 2), 12_000), ((3, 4), 1_500)])
def test_parts_share_words_but_no_scene(counts, items):
    said, words = {}, {}
    for part in scenes.PARTS:
        said[part], words[part] = set(), set()
        for seed in (0, 1):
            source = Scenes(seed, part, SceneConfig(counts=counts))
            some = range(items if part == "train" and seed == 0 else min(items, 3_000))
            texts = [source.captions(some, k) for k in (0, 1, 2)]
            said[part].update(*texts)
            words[part].update(" ".join(texts[0]).split())
        words[part] -= {"a", "an"}
    assert not said["train"] & said["val"]
    assert not said["train"] & said["test"]
    assert not said["val"] & said["test"]
    assert words["train"] == words["val"] == words["test"]
    assert set(DEFAULT_OBJECTS) | {"small", "big"} <= words["train"]


def test_part_does_not_depend_on_the_list_of_objects():
    few = tuple(DEFAULT_OBJECTS)[5:17]
    small, large = Scenes(0, "test", SceneConfig(objects=few)), Scenes(9, "test")
    of_large = {statement(large, i) for i in range(large.distinct)}
    assert {statement(small, i) for i in range(small.distinct)} <= of_large


def test_every_scene_comes_once_before_one_comes_again():
    for part, share in (("train", 0.8), ("val", 0.1), ("test", 0.1)):
        source = Scenes(2, part)
        every = [statement(source, i) for i in range(source.distinct)]
        assert len(set(every)) == source.distinct
        assert source.distinct == pytest.approx(share * 40 * 39 * 2 * 9, rel=0.03)
        assert statement(source, source.distinct) == every[0]
    assert len(set(Scenes(0, "test").captions(range(1_000)))) == 1_000  # a pool for retrieval without ties


def test_combinations_are_drawn_evenly():
    source = Scenes(4)
    layouts = [source._layout(i) for i in range(6_000)]
    sizes = Counter(size for layout in layouts for size in layout.sizes)
    relations = Counter(layout.relations[0] for layout in layouts)
    objects = Counter(k for layout in layouts for k in layout.objects)
    assert min(sizes.values()) > 0.95 * 4_000
    assert min(relations.values()) > 0.9 * 1_500
    assert len(objects) == 40
    assert min(objects.values()) > 0.75 * 300
    counts = Counter(len(Scenes(4, "train", SceneConfig(counts=(1, 4)))._layout(i).objects) for i in range(2_000))
    assert min(counts[k] for k in (1, 2, 3, 4)) > 400


def test_held_out_objects_come_in_val_and_test_only():
    held_out = ("owl", "tractor", "zebra")
    config = SceneConfig(held_out=held_out)
    train = Scenes(0, "train", config)
    texts = train.captions(range(train.distinct)) + train.foils(range(5_000), "replaced")
    texts += [question.text for i in range(300) for question in train[i].questions()]
    assert not any(word in held_out for text in texts for word in text.replace("?", "").split())
    for part in ("val", "test"):
        held, plain = Scenes(0, part, config), Scenes(0, part)
        assert all(any(f" {noun}" in text for text in held.captions(range(400))) for noun in held_out)
        assert np.array_equal(held.images(range(20)), plain.images(range(20)))  # the same exam for both trainings


def test_other_stamps_can_be_objects():
    table = stamps.load()
    good = table[table.noun.notna() & ~table.noun.duplicated(keep=False)]
    names = [name for name, noun in zip(good.name, good.noun) if not {"big", "small", "and"} & set(noun.split())]
    source = Scenes(0, "val", SceneConfig(objects=tuple(names[::5]), counts=(2, 3)))
    assert len(source.objects) > 60
    assert any(" " in noun for noun in source.nouns)
    for i in range(60):
        scene = source[i]
        assert judge(scene.captions[3].text, scene) is True
        assert judge(scene.foils()["swapped"].text, scene) is False
        assert set(scene.captions[0].words) <= set(scenes.vocabulary(source.config))


def test_default_objects_are_distinct_stamps_of_both_kinds():
    table = stamps.load().set_index("name")
    chosen = table.loc[list(DEFAULT_OBJECTS.values())]
    assert len(DEFAULT_OBJECTS) == 40
    assert chosen.index.is_unique
    assert chosen.group.is_unique  # no look-alikes
    assert chosen.medium.value_counts().min() >= 12
    assert all(re.fullmatch("[a-z]+", noun) for noun in DEFAULT_OBJECTS)
    for stamp in chosen.index:
        assert composing.tile(stamp, 20).solid.sum() >= 60  # enough pixels to be recognised


# Mistakes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 16}, "size=16.*32 or more"),
        ({"counts": (0, 2)}, r"counts=\(0, 2\).*1 <= fewest"),
        ({"counts": (3, 2)}, "fewest <= most"),
        ({"counts": (2, 5)}, "most <= 4"),
        ({"background": "starry"}, "unknown background 'starry'; known: shaded, plain"),
        ({"held_out": ("dragon",)}, "held_out names 'dragon'"),
        ({"objects": ("pig", "owl")}, "scenes of 2 need 3 objects or more"),
        ({"held_out": tuple(DEFAULT_OBJECTS)[:38]}, "beside those held out"),
    ],
)
def test_configs_that_cannot_be_drawn_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SceneConfig(), **change)


def test_other_mistakes_are_named(monkeypatch):
    with pytest.raises(ValueError, match="unknown object 'dragon'; known: apple, "):
        Scenes(0, "train", SceneConfig(objects=("pig", "owl", "dragon")))
    with pytest.raises(ValueError, match="two objects are called 'pig'"):
        Scenes(0, "train", SceneConfig(objects=("pig", "owl", "animals/mammals/pig")))
    eared = composing.rows() | {"food/fruit/grapes": {"noun": "big eared rabbit"}}  # no stamp is called so today
    monkeypatch.setattr(composing, "rows", lambda: eared)
    with pytest.raises(ValueError, match="'food/fruit/grapes'.*a word that captions use"):
        Scenes(0, "train", SceneConfig(objects=("pig", "owl", "food/fruit/grapes")))
    with pytest.raises(ValueError, match="'household/globe' has no noun"):
        Scenes(0, "train", SceneConfig(objects=("pig", "owl", "household/globe")))
    with pytest.raises(ValueError, match="unknown part 'dev'; known: train, val, test"):
        Scenes(0, "dev")
    with pytest.raises(ValueError, match="seed=-1"):
        Scenes(-1)
    with pytest.raises(IndexError, match="item -1"):
        Scenes(0)[-1]
    with pytest.raises(TypeError, match="no end"):
        list(Scenes(0))
    with pytest.raises(ValueError, match="k=5"):
        Scenes(0).captions([0], k=5)
    with pytest.raises(ValueError, match="unknown foil 'colour'; known: relation"):
        Scenes(0).foils([0], "colour")
    with pytest.raises(ValueError, match="need two objects"):
        Scenes(0, "train", SceneConfig(counts=(1, 2))).foils([0], "relation")
    with pytest.raises(ValueError, match="three and four objects"):
        _ = Scenes(0, "train", SceneConfig(counts=(3, 3))).distinct


def test_a_stamp_without_a_mask_is_refused(monkeypatch):
    row = dict(composing.rows()["animals/birds/owl"], name="owl without mask")
    pixels = stamps.picture(row)
    pixels[..., 3] = 255
    monkeypatch.setattr(stamps, "picture", lambda row, size=None: pixels)
    composing.cut_out.cache_clear()
    with pytest.raises(ValueError, match="no mask"):
        Scenes(0, "train", SceneConfig(objects=("owl", "pig", "duck")))
    composing.cut_out.cache_clear()


def test_the_hash_is_the_same_for_numbers_and_arrays():
    numbers = [0, 1, 2**63, 2**64 - 1, zlib.crc32(b"pig")]
    assert combinations.mix(np.array(numbers, dtype=np.uint64)).tolist() == [combinations.mix(n) for n in numbers]
    assert combinations.mix(1) == 0x5692161D100B05E5  # splitmix64's finaliser, from its published C code
    fates = np.arange(10)
    assert combinations.part_index(fates).tolist() == [combinations.part_index(int(f)) for f in fates]
