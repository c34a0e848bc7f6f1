"""Recipes build what they say, with weights or without, and what was saved comes back."""

from dataclasses import replace

import pytest
import torch

from course_utils import checkpoints, recipes, towers, training
from course_utils.models import ConvTower

TEXTS = ["a dog runs over the grass .", "two pigs left of a boat", "A big boot."]
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}


def batch(retriever, rows=3):
    tokens, token_mask = retriever.tokenize(TEXTS)
    size = retriever.recipe.size
    return {"images": torch.rand(rows, 3, size, size), "tokens": tokens, "token_mask": token_mask,
            "image_ids": torch.arange(rows)}  # fmt: skip


def test_four_recipes_and_their_towers():
    assert list(recipes.RECIPES) == ["resnet50+bert", "clip-vit-b16", "lite0+minilm", "tiny"]
    for name, recipe in recipes.RECIPES.items():
        assert recipe.name == name
        assert recipe.image in {*towers.IMAGE_TOWERS, "conv"} and recipe.text in {*towers.TEXT_TOWERS, "words"}
    assert recipes.RECIPES["resnet50+bert"].shared == 256


def test_the_small_one_learns_a_step_and_comes_back(tmp_path):
    torch.manual_seed(0)
    recipe = replace(recipes.RECIPES["tiny"], train=training.TrainConfig(2))
    retriever = recipes.build(recipe, TEXTS)
    assert isinstance(retriever.model.image_tower, ConvTower)
    recipes.save(retriever, tmp_path)
    data = batch(retriever)
    training.fit(retriever.model, [data] * 2, recipes.contrast, recipe.train, run=training.Run(tmp_path))
    again = recipes.load(tmp_path)
    assert again.recipe == recipe
    with torch.no_grad():
        for one, other in zip(again.model(data), retriever.model(data)):
            assert torch.equal(one, other)
    torch.manual_seed(0)
    assert again.tokenize(["two boots ."])[0].tolist() == retriever.tokenize(["two boots ."])[0].tolist()
    assert again.tokenize(["a " * 100])[0].shape == (1, 64)  # longer ones are cut
    (tmp_path / "retriever.json").write_text("{}")
    with pytest.raises(checkpoints.CheckpointError, match="retriever.json or tokenizer.json beside it is damaged"):
        recipes.load(tmp_path)
    with pytest.raises(FileNotFoundError, match="holds no checkpoints"):
        recipes.load(tmp_path / "nowhere")


def test_a_reader_of_words_needs_captions_to_take_them_from():
    with pytest.raises(ValueError, match="'tiny' knows the words of its captions alone; pass captions=train.texts"):
        recipes.build(recipes.RECIPES["tiny"])


def test_the_pretrained_pair_sees_pictures_as_its_tower_does():
    retriever = recipes.build(recipes.RECIPES["lite0+minilm"])
    tower = towers.load_image_tower()
    images = torch.rand(2, 3, 224, 224)
    with torch.no_grad():
        expected = tower((images - 0.5) / 0.5)
        torch.testing.assert_close(retriever.model.image_tower.eval()(images), expected)
    assert not any("classifier" in name or "tower.head" in name for name in retriever.model.state_dict())
    assert len(retriever.tokenize(TEXTS)[0]) == 3


def test_missing_weights_say_which_where_and_what_instead(monkeypatch):
    for name, value in OFFLINE.items():
        monkeypatch.setenv(name, value)
    for name, which in (("resnet50+bert", "resnet50|bert-base-uncased"), ("clip-vit-b16", "clip-vit-base-patch16")):
        with pytest.raises(towers.MissingWeights, match=f"({which}).*cannot be fetched from.*[Uu]se"):
            recipes.build(recipes.RECIPES[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet50+bert", "clip-vit-b16"])
def test_the_large_ones_can_be_built_and_saved_without_their_weights(name, tmp_path):
    retriever = recipes.build(recipes.RECIPES[name], pretrained=False)
    retriever.model.eval()
    data = batch(retriever)
    with torch.no_grad():
        found = retriever.model(data)
        assert found.z_img.shape == (3, retriever.recipe.shared)
        assert recipes.contrast(found, data).isfinite()
        if name.startswith("clip"):  # heads that change nothing at first
            seen = torch.nn.functional.normalize(retriever.model.image_tower(data["images"]), dim=-1)
            torch.testing.assert_close(found.z_img, seen)
            assert found.tau.item() == pytest.approx(0.01, rel=1e-3)
    recipes.save(retriever, tmp_path)
    checkpoints.write(
        tmp_path, {"model": {k: v.contiguous() for k, v in retriever.model.state_dict().items()}}, {"step": 1}
    )
    again = recipes.load(tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(again.model(data).z_txt, found.z_txt)
        torch.testing.assert_close(again.model(data).z_img, found.z_img, atol=1e-5, rtol=1e-4)
