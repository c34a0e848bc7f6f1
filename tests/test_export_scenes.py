"""Scenes in Flickr30k's format: true to their scenes, the same twice, read and prepared like Flickr30k itself."""

import json
import threading

import numpy as np
import pytest
from PIL import Image

from course_utils.flickr30k import Flickr30k
from course_utils.scenes import SceneConfig, Scenes

FEW = {"train": 30, "val": 6, "test": 12}


@pytest.fixture()
def program(script):
    return script("data_scripts/export_scenes.py")


def files(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_same_arguments_give_the_same_bytes_and_a_longer_export_goes_on(program, tmp_path):
    config = SceneConfig(size=64, counts=(1, 4))
    program.export(tmp_path / "one", FEW, config, seed=3)
    program.export(tmp_path / "two", FEW, config, seed=3)
    assert files(tmp_path / "one") == files(tmp_path / "two")
    program.export(tmp_path / "more", {"train": 40, "val": 6, "test": 12}, config, seed=3)
    pictures = {name: content for name, content in files(tmp_path / "one").items() if name.startswith("images/")}
    assert pictures.items() <= files(tmp_path / "more").items()
    program.export(tmp_path / "other", FEW, config, seed=4)
    assert files(tmp_path / "other") != files(tmp_path / "one")


def test_pictures_and_captions_are_those_of_the_scenes(program, tmp_path):
    config = SceneConfig(size=224, counts=(1, 4))
    content = json.loads(program.export(tmp_path, FEW, config).read_text())
    assert content["dataset"] == "scenes" and len(content["images"]) == sum(FEW.values())
    numbers, counts = [], set()
    for k, one in enumerate(content["images"]):
        scene = Scenes(0, one["split"], config)[one["scene"]]
        assert one["imgid"] == k and one["sentids"] == list(range(5 * k, 5 * k + 5))
        assert [(s["raw"], tuple(s["tokens"])) for s in one["sentences"]] == [(c.text, c.words) for c in scene.captions]
        assert [s["sentid"] for s in one["sentences"]] == one["sentids"] and {s["imgid"] for s in one["sentences"]} == {
            k
        }
        with Image.open(tmp_path / "images" / one["filename"]) as picture:
            assert picture.size == (224, 224)
            difference = np.abs(np.asarray(picture, np.float32) - scene.image)
        assert difference.mean() < 2.5
        numbers.append(one["sentences"][0]["raw"])
        counts.add(len(scene.objects))
    assert counts == {1, 2, 3, 4} and len(set(numbers)) == len(numbers)


def test_no_scene_comes_twice_and_too_many_are_refused(program):
    singles = Scenes(0, "test", SceneConfig(counts=(1, 1)))
    assert list(program.chosen(singles, 40)) == list(range(40))
    with pytest.raises(program.BuildError, match="only 40 different test scenes of that kind, not 41"):
        list(program.chosen(singles, 41))
    mixed = Scenes(0, "test", SceneConfig(counts=(1, 2)))
    some = list(program.chosen(mixed, 400))
    told = [frozenset(mixed.captions([i], k)[0] for k in (0, 1)) for i in some]
    assert len(set(told)) == 400 and some[-1] > 399


def test_an_interrupted_export_goes_on(program, tmp_path, monkeypatch):
    config = SceneConfig(size=64, counts=(1, 4))
    wanted = program.export(tmp_path / "whole", FEW, config)
    draw, drawn = program._picture, []

    def stops(*arguments):
        drawn.append(1)
        if len(drawn) in (20, 41):
            raise KeyboardInterrupt
        draw(*arguments)

    monkeypatch.setattr(program, "_picture", stops)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            program.export(tmp_path / "parts", FEW, config)
        assert not (tmp_path / "parts" / wanted.name).exists()
    program.export(tmp_path / "parts", FEW, config)
    assert len(drawn) == sum(FEW.values()) + 2  # nothing was drawn twice
    program.export(tmp_path / "parts", FEW, config)
    assert len(drawn) == sum(FEW.values()) + 2
    assert files(tmp_path / "parts") == files(tmp_path / "whole")
    with pytest.raises(program.BuildError, match="holds other pictures"):
        program.export(tmp_path / "parts", FEW, SceneConfig(size=65, counts=(1, 4)))


def test_four_runs_at_once_draw_each_picture_once(program, tmp_path, monkeypatch):
    config, drawn, draw = SceneConfig(size=64, counts=(1, 4)), [], program._picture
    monkeypatch.setattr(program, "_picture", lambda *some: (drawn.append(1), draw(*some)))
    runs = [threading.Thread(target=program.export, args=(tmp_path / "many", FEW, config)) for _ in range(4)]
    for run in runs:
        run.start()
    for run in runs:
        run.join(60)
    assert len(drawn) == sum(FEW.values()) and not (tmp_path / "many/.lock").exists()
    program.export(tmp_path / "one", FEW, config)
    assert files(tmp_path / "many") == files(tmp_path / "one")


def test_the_same_reader_and_the_same_preparation(program, script, tmp_path, capsys):
    raw, ready = tmp_path / "raw", tmp_path / "ready"
    numbers = [word for split, count in FEW.items() for word in (f"--{split}", str(count))]
    assert program.main([*numbers, "--size", "96", "--out", str(raw)]) == 0
    assert "48 scenes" in capsys.readouterr().out
    prepare = script("data_scripts/prepare_flickr30k.py")
    assert (
        prepare.main(["--source", str(raw), "--out", str(ready), "--set", "scenes", "--side", "96"]) == 0
    )  # nobody asks
    for split, count in FEW.items():
        one, two = Flickr30k(raw, split, "scenes"), Flickr30k(ready, split, "scenes")
        assert len(one) == len(two) == count and one.texts == two.texts and one.filenames == two.filenames
        assert np.array_equal(one.picture(2), two.pixels[2])  # 96 px as they were: not encoded again
    with pytest.raises(ValueError, match="declare the set 'scenes', but 'flickr30k' was asked for"):
        Flickr30k(ready)


def test_bad_arguments(program, tmp_path, capsys):
    for wrong in (["--train", "0"], ["--counts", "3", "9"], ["--size", "8"]):
        assert program.main([*wrong, "--out", str(tmp_path)]) == 2
        assert capsys.readouterr().err.startswith("export_scenes: ")
