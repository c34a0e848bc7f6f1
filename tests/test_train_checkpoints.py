"""The program that makes shipped retrievers: the same bytes again, measured as stored, on scenes nobody saw."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from course_utils import models, recipes, shipped, training


@pytest.fixture()
def program(script, monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "data"))
    found = script("data_scripts/train_checkpoints.py")
    for name, value in {"PAIRS": 60, "TEST": 30, "QUICK": 10}.items():
        monkeypatch.setattr(found, name, value)

    def small(name, work):
        """A model of a few steps."""
        recipe = recipes.Recipe(name, "conv", "words", training.TrainConfig(4), size=32, shared=16, batch_size=16)
        return found._of_pairs(recipe, True, lambda: models.ConvTower(32))

    monkeypatch.setattr(found, "MAKERS", {"small": small})
    return found


def test_made_stored_measured_and_made_again(program, tmp_path, capsys):
    for out in ("one", "two"):
        assert program.main(["--out", str(tmp_path / out), "--work", str(tmp_path / "work")]) == 0
    assert "small: " in capsys.readouterr().out
    for part in ("model.safetensors", "retriever.json", "tokenizer.json"):
        assert (tmp_path / "one/small" / part).read_bytes() == (tmp_path / "two/small" / part).read_bytes()
    card = shipped.card("small", tmp_path / "one")
    assert card["what"] == "A model of a few steps." and card["parameters"] == sum(
        value.numel() for value in shipped.load("small", tmp_path / "one").model.parameters()
    )
    names = {f"{way}/recall_at_{k}" for way in ("image_to_text", "text_to_image") for k in (1, 5, 10)}
    names |= {f"told_apart/{kind}" for kind in ("relation", "swapped", "size", "replaced")}
    for records, chance in ((card["records"], 1 / 30), (card["quick"]["records"], 1 / 10)):
        assert {one["name"] for one in records} == names
        assert records[0]["chance"] == pytest.approx(chance)
        assert all(one["interval"][0] <= one["value"] <= one["interval"][1] for one in records)
    assert not (tmp_path / "work/draft/small").exists()


def test_check_finds_what_the_card_does_not_say(program, tmp_path, capsys):
    out = tmp_path / "out"
    assert program.main(["small", "--out", str(out), "--work", str(tmp_path / "work")]) == 0
    assert program.main(["--check", "--out", str(out)]) == 0
    path = out / "small" / "card.json"
    card = json.loads(path.read_text())
    card["records"][0]["value"] += 0.2
    path.write_text(json.dumps(card))
    capsys.readouterr()
    assert program.main(["--check", "--out", str(out)]) == 1
    assert "image_to_text/recall_at_1: 0." in capsys.readouterr().out


def test_an_unknown_name(program, capsys):
    with pytest.raises(SystemExit):
        program.main(["resnet"])
    assert "no retriever 'resnet'; there are small" in capsys.readouterr().err


def test_held_out_scenes_are_the_cards(program):
    about = {"held_out": {"seed": 0, "size": 32, "counts": [1, 3], "captions": 5}}
    found = program.drawn(about, 12)
    assert found.pixels.shape == (12, 32, 32, 3) and len(found.texts) == 60
    assert found.owners.tolist() == [row for row in range(12) for _ in range(5)]
    assert len(set(found.texts[::5])) == 12
    assert set(found.foils) == {"relation", "swapped", "size", "replaced"}
    assert len(found.foils["relation"]) < len(found.foils["size"]) == 12  # a single object has no relation
    assert all(found.texts[5 * row] != caption for lines in found.foils.values() for row, caption in lines.items())


def test_rows_keep_a_picture_and_its_captions_together(program):
    owners = torch.arange(10).repeat_interleave(5)
    image, sentence = torch.arange(10.0)[:, None], owners[:, None] + torch.arange(5).repeat(10)[:, None] / 10
    recipe = replace(recipes.RECIPES["lite0+minilm"], train=training.TrainConfig(7), batch_size=4, captions=3)
    series = list(program.rows_of(image, sentence, owners, recipe, seed=1))
    assert len(series) == 7
    for batch in series:
        shown = batch["images"][batch["owners"], 0]  # (B,)
        np.testing.assert_array_equal(shown, batch["tokens"][:, 0].floor())
        assert len(shown) == 12 and len(batch["images"].unique()) == 4
    seen = torch.cat([batch["images"][:, 0] for batch in series[:2]])
    assert len(seen.unique()) == 8  # no picture twice in a round
