"""The table of what fits against the judge of test_scenes, which reads captions and measures pictures by itself."""

import numpy as np
import pytest
from test_scenes import judge

from course_utils import fits, grammar
from course_utils.scenes import SceneConfig, Scenes

CONFIG = SceneConfig(counts=(1, 4), size=64, objects=("pig", "boat", "owl", "cat", "drum", "bus"))


@pytest.fixture(scope="module")
def small():
    """Scenes of six nouns, so that many captions fit several, with their captions and foils."""
    scenes = Scenes(3, "test", CONFIG)
    texts = [caption.text for i in range(60) for caption in scenes[i].captions]
    return scenes, texts, fits.table(texts, scenes, range(60))


def test_the_judge_of_the_pictures_agrees(small):
    scenes, texts, right = small
    some = np.random.default_rng(0).integers(0, (60, len(texts)), (1500, 2)).tolist()
    some += np.argwhere(right)[::5].tolist()
    verdicts = {True: 0, False: 0, None: 0}
    for i, j in some:
        verdict = judge(texts[j], scenes[i])
        verdicts[verdict] += 1
        assert right[i, j] == (verdict is True), (texts[j], scenes[i])  # too close to call is no fit
    assert min(verdicts[True], verdicts[False]) > 100


def test_every_caption_fits_its_own_scene_and_no_foil_does(small):
    scenes, _, right = small
    assert right[np.arange(60).repeat(5), np.arange(300)].all()
    assert right.sum() > 2 * 300  # and many fit others as well
    two = Scenes(0, "val", SceneConfig(counts=(2, 4)))
    for kind in grammar.FOILS:
        assert not fits.table(two.foils(range(80), kind), two, range(80)).diagonal().any()


def test_full_captions_of_two_object_scenes_without_medium_things_fit_one_scene():
    """Seeds never repeat a pair's full caption, so what fits several leaves something out: a size, or a relation."""
    scenes = Scenes(0, "test")
    texts = scenes.captions(range(400))
    right = fits.table(texts, scenes, range(400))
    for text, fitting in zip(texts, right.T):
        if all(size for _, size in fits.claims(text).things):
            assert fitting.sum() == 1, text
    loose = fits.table(scenes.captions(range(400), 4), scenes, range(400))  # without relations
    assert loose.sum() > right.sum() > 400


@pytest.mark.parametrize(
    ("text", "things", "relations"),
    [
        ("a small pig", {"pig": "small"}, []),
        ("there is an owl", {"owl": None}, []),
        ("one big boat", {"boat": "big"}, []),
        ("a small pig left of a boat", {"pig": "small", "boat": None}, [("pig", "left of", "boat")]),
        (
            "a pig above a big boat and the boat right of an owl",
            {"pig": None, "boat": "big", "owl": None},
            [("pig", "above", "boat"), ("boat", "right of", "owl")],
        ),
        (
            "below a big boat there is a small pig and left of an owl there is the boat",
            {"boat": "big", "pig": "small", "owl": None},
            [("pig", "below", "boat"), ("boat", "left of", "owl")],
        ),
        ("the pig is above the fire truck", {"pig": None, "fire truck": None}, [("pig", "above", "fire truck")]),
        ("a small pig and a bunch of grapes and an owl", {"pig": "small", "bunch of grapes": None, "owl": None}, []),
    ],
)
def test_captions_are_taken_apart(text, things, relations):
    found = fits.claims(text)
    assert dict(found.things) == things
    assert list(found.relations) == relations


def test_bad_input_gets_one_clear_error(small):
    scenes, texts, _ = small
    for call, message in (
        (lambda: fits.claims("  "), "empty"),
        (lambda: fits.table([], scenes, [0]), "0 captions and 1 scenes"),
        (lambda: fits.table(texts, scenes, []), "0 scenes"),
        (lambda: fits.table(["a unicorn"], scenes, [0]), "'unicorn', which is no object"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
