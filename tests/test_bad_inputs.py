"""Bad inputs that once ended deep inside, or in a wrong answer that nobody noticed: each has one clear error now.

A row names the input, the call, and what the error must say: what is wrong, where, and how to mend it. Errors of one
module alone stand in that module's own test; here are those that a clumsy user meets anywhere in the house.
"""

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from course_utils import (
    absence,
    captioned,
    checkpoints,
    entities,
    env,
    explain,
    faithfulness,
    flickr30k,
    metrics,
    ranking,
    recipes,
    records,
    runs,
    scenes,
    shapley,
    stamps,
    text,
    towers,
    training,
    uploads,
)

ROOT = Path(__file__).resolve().parent.parent
PICTURE = np.zeros((20, 30, 3), np.uint8)
SCORES, RIGHT = np.eye(3), np.arange(3)


def record(*given, **more):
    session = SimpleNamespace(lesson="98", profile="smoke", seed=0, device=None, started=0.0)
    return records.Recorder(session)(*given, **more)


@pytest.fixture(scope="module")
def readers():
    """The two offline towers with random weights: what they refuse does not depend on weights."""
    return SimpleNamespace(see=towers.load_image_tower(pretrained=False), read=towers.load_text_tower(pretrained=False))


def pairs(**changes):
    """A set of two pictures for `captioned.Feed`."""
    pixels = np.zeros((2, 8, 8, 3), np.uint8)
    words = text.word_tokenizer(["a", "b"])
    source = SimpleNamespace(pixels=pixels, image_ids=[0, 1], texts=["a", "b"], owners=[0, 1])
    return captioned.Feed(source, lambda sentences: text.encode(words, sentences), **{"size": 8, **changes})


WORDS = text.word_tokenizer(["a", "red", "bird"])
CALLS = {
    # a session and its facts
    "a seed as text": (lambda: env.start("98", "smoke", seed="3"), "seed is '3'.*whole number from 0 to 4,294,967,295"),
    "a seed below zero": (lambda: env.start("98", "smoke", seed=-1), "seed is -1: SEED, or --seed, must be"),
    "a fact that is a vector": (lambda: record("a", torch.ones(2)), "'a': its value is tensor.*not one number"),
    "a fact that is text": (lambda: record("a", "many"), "'a': its value is 'many', which is not one number"),
    "a fact without a name": (lambda: record(5, 1.0), "Record 5: use lower-case words"),
    "an interval of three": (lambda: record("a", 0.5, (0.4, 0.6, 0.7)), "'a': the interval .* does not contain"),
    "an interval without end": (lambda: record("a", 0.5, (0, math.inf)), "interval is inf, and only a finite"),
    "an interval that is a number": (lambda: record("a", 0.5, 0.4), r"interval is 0.4; give numbers in brackets"),
    "a chance that is NaN": (lambda: record("a", 0.5, chance=math.nan), "'a': chance is nan, and only a finite number"),
    "one rival without brackets": (
        lambda: record("a", 0.5, excludes=0.3),
        r"excludes is 0.3; give numbers in brackets",
    ),
    # pictures, words, towers
    "a row's number for the row": (lambda: stamps.picture(3), r"stamps.load\(\).iloc\[3\], not int"),
    "the whole table for a row": (lambda: stamps.picture(stamps.load()), r"iloc\[3\], not DataFrame"),
    "a picture of no pixels": (lambda: stamps.picture(stamps.load().iloc[0], 0), "size=0: .* 1 to 4,096"),
    "a picture of a billion": (
        lambda: stamps.picture(stamps.load().iloc[0], 10**9),
        "size=1000000000: give the longer",
    ),
    "no language at all": (lambda: stamps.captions(None), "no captions in None. There are: en, ar"),
    "a caption nobody wrote": (
        lambda: text.encode(WORDS, ["a", math.nan]),
        "sentence 1 is nan, which is no text; drop",
    ),
    "half a character": (lambda: text.encode(WORDS, ["a \ud800"]), "sentence 0 holds half a character.*UTF-8"),
    "words that are numbers": (lambda: text.word_tokenizer(["a", 2]), "word 1 is 2, which is no text"),
    "two and a half tokens": (lambda: text.encode(WORDS, ["a"], 2.5), "length=2.5 must be a whole number"),
    # metrics and explanations
    "the first two and a half": (lambda: metrics.recall_at_k(SCORES, RIGHT, 2.5), "k=2.5 is outside the pool of 3"),
    "scores in bfloat16": (
        lambda: metrics.recall_at_k(torch.eye(3, dtype=torch.bfloat16), RIGHT),
        r"scores cannot be read as numbers .*tensor.detach\(\).float\(\).cpu\(\)",
    ),
    "scores of unequal rows": (lambda: metrics.recall_at_k([[1, 2], [1]], [0, 1]), "scores cannot be read as numbers"),
    "an interval from no draws": (lambda: metrics.bootstrap_interval([1.0, 2.0], draws=0), "draws=0 must be a whole"),
    "half a place": (lambda: ranking.Ranking(*[np.ones((1, 1), int)] * 5, pool=3).hit_rate(1.5), "k=1.5 is outside"),
    "a game asked of nobody": (
        lambda: shapley.exact(lambda s: s.sum(1), 2, batch=0),
        "batch=0: the game must be asked",
    ),
    "two and a half players": (
        lambda: shapley.by_permutations(lambda s: s.sum(1), 2.5, 4),
        "n=2.5; at least two pairs",
    ),
    "a picture without pixels": (
        lambda: faithfulness.deletion(lambda kept: kept.mean((1, 2)), np.ones((2, 2)), (0, 0)),
        r"picture of 0x0 pixels does not divide into cells \(2, 2\)",
    ),
    "gradients of whole numbers": (
        lambda: explain.integrated_gradients(lambda x: x.sum(1), torch.ones(2, 3).long(), torch.zeros(2, 3).long()),
        "torch.int64 has no gradient; for tokens see word_attribution",
    ),
    "a score without a graph": (
        lambda: explain.integrated_gradients(lambda x: x.sum(1).detach(), torch.ones(2, 3), torch.zeros(2, 3)),
        r"no gradient reaches the score; is it under torch.no_grad",
    ),
    "no rows to explain": (
        lambda: explain.integrated_gradients(lambda x: x.sum(1), torch.ones(0, 3), torch.ones(0, 3)),
        "equal shapes, a row and a step at least",
    ),
    "masks of no side": (
        lambda: entities.square_masks(entities.Annotated((4, 4), (), (), {}), 0),
        "side=0; give the side of the square in pixels",
    ),
    # scenes and batches
    "a canvas that is NaN": (
        lambda: scenes.SceneConfig(size=math.nan),
        "size=nan: a whole number of pixels, 32 or more",
    ),
    "a canvas of gigabytes": (lambda: scenes.SceneConfig(size=100_000), "size=100000: .*4096 or less"),
    "a count for counts": (lambda: scenes.SceneConfig(counts=(2,)), r"counts=\(2,\): give \(fewest, most\)"),
    "one count alone": (lambda: scenes.SceneConfig(counts=2), r"counts=2: give \(fewest, most\)"),
    "one object without brackets": (lambda: scenes.SceneConfig(objects="apple"), r"also of one: \('apple',\)"),
    "a seed with a fraction": (lambda: scenes.Scenes(1.7), "seed=1.7: give a whole number, 0 or more"),
    "a batch of half a step": (lambda: pairs().batches(2, 1.5, 0), "steps=1.5 .*must be whole numbers, 0 or more"),
    "a feed with a seed below zero": (lambda: pairs().batches(2, 1, -1), "seed=-1 must be whole numbers, 0 or more"),
    "a feed of no size": (lambda: pairs(size="8"), "size='8' and captions=1 must be whole numbers"),
    "pixels from 0 to 1": (
        lambda: captioned.Feed(SimpleNamespace(pixels=np.zeros((2, 8, 8, 3)), texts=["a"]), None, 8),
        "pixels must be uint8, 0 to 255; got float64",  # every picture was black
    ),
    "a series before its beginning": (lambda: pairs().batches(2, 2, 0).skip(-1), "count=-1; a series begins with"),
    "bytes that something stands for": (
        lambda: absence.stand_in(torch.zeros(1, 3, 4, 4, dtype=torch.uint8)),
        "floats in .* got torch.uint8. Divide bytes by 255",  # grey was black
    ),
    # trainings
    "two and a half steps": (
        lambda: training.TrainConfig(2.5),
        "steps, warmup, frozen and chunk must be whole numbers",
    ),
    "weights that grow by themselves": (lambda: training.TrainConfig(3, weight_decay=-1.0), "weight_decay 0 or more"),
    "a checkpoint every step and a half": (lambda: runs.Run("x", every=1.5), "every must be at least 1"),
    "one caption for captions": (
        lambda: recipes.build(recipes.RECIPES["tiny"], "a red bird"),
        "'tiny' knows the words of its captions alone",  # and learned their letters
    ),
    # files
    "an upload that has gone": (lambda: uploads.open_picture("no/such/file.png"), "no such file. Was it moved"),
    "a name that no file has": (lambda: uploads.open_picture("a\0b"), "no such file"),
    "an upload of nothing": (lambda: uploads.open_picture(None), "file's path or its bytes, not as NoneType"),
    "the worst checkpoint": (lambda: checkpoints.read("x", "worst"), "which='worst'; there are 'last' and 'best'"),
}


@pytest.mark.parametrize(("call", "says"), CALLS.values(), ids=CALLS)
def test_a_bad_input_is_one_clear_error(call, says):
    with pytest.raises(ValueError, match=says) as caught:
        call()
    assert "\n" not in str(caught.value).strip()


@pytest.mark.parametrize(
    ("item", "error", "says"),
    [
        (1.5, TypeError, "item 1.5: give a whole number; for several use images"),
        (slice(0, 3), TypeError, "item slice.*for several use images, captions, foils"),
        (1 << 50, IndexError, r"repeat beyond 2\*\*48"),  # it would be an item of another seed
    ],
)
def test_a_scene_is_asked_for_by_a_whole_number(item, error, says):
    with pytest.raises(error, match=says):
        _ = scenes.Scenes(0)[item]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda on: towers.embed(on.read, "a red bird"), r"give a list, also of one: \['a red bird'\]"),  # ten letters
        (lambda on: on.read.preprocess("a red bird"), "give a list"),
        (lambda on: on.read.preprocess([]), "no sentences given"),
        (lambda on: on.read.preprocess(["a", None]), "sentence 1 is None: no text, drop it"),
        (lambda on: on.see.preprocess(PICTURE), r"give a list, also of one: .*\[picture\]"),  # twenty rows of pixels
        (lambda on: towers.embed(on.see, PICTURE), "give a list"),
        (lambda on: on.see.preprocess([]), "no pictures given"),
        (lambda on: on.see.preprocess([PICTURE / 255]), r"in uint8, 0 to 255, .*got \(20, 30, 3\) of float64"),
        (lambda on: on.see.preprocess([PICTURE.transpose(2, 0, 1)]), r"is \(H,W,3\) .*got \(3, 20, 30\) of uint8"),
        (lambda on: on.see.preprocess([torch.zeros(3, 9, 9)]), r"got \(3, 9, 9\) of torch.float32"),
        (lambda on: on.see.preprocess([PICTURE[:0]]), r"got \(0, 30, 3\)"),
        (lambda on: on.see.preprocess(["frog.png"]), r"or Pillow's; got \(\) of str"),
        (lambda on: towers.embed(on.read, ["a"], batch_size=-1), "batch_size=-1: at least one"),  # gave zeros
    ],
)
def test_a_tower_takes_lists_of_its_own_kind(readers, call, says):
    with pytest.raises(ValueError, match=says):
        call(readers)


# Files that were cut, changed or are something else ----------------------------------------------------------------


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Eight scenes, exported and prepared, in folders whose names have spaces and other scripts in them."""
    folder = tmp_path_factory.mktemp("mit Leerzeichen ü 日本")
    raw, ready = folder / "roh", folder / "fertig"
    sys.path.insert(0, str(ROOT / "data_scripts"))
    import export_scenes
    import prepare_flickr30k

    export_scenes.export(raw, {"train": 6, "val": 1, "test": 1}, scenes.SceneConfig(size=64, counts=(1, 2)))
    prepare_flickr30k.prepare(prepare_flickr30k.Job(str(raw), ready, "scenes", side=64, workers=1, accept=True))
    return SimpleNamespace(raw=raw, ready=ready)


@pytest.fixture()
def prepared(exported, tmp_path):
    """A copy of the prepared folder, to be spoilt."""
    return shutil.copytree(exported.ready, tmp_path / "ready")


def note(folder, change):
    """Change a folder's manifest."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    change(manifest)
    path.write_text(json.dumps(manifest), encoding="utf-8")


@pytest.mark.parametrize(
    "change",
    [
        lambda about: about.pop("dataset"),
        lambda about: about.pop("splits"),
        lambda about: about.update(files=[]),
        lambda about: about.update(files={"captions.json": {}}),
        lambda about: about["files"].pop("pixels.npy"),
        lambda about: about.update(side="64"),
        lambda about: about["splits"].update(train=[0, 3]),
    ],
)
def test_a_manifest_that_lacks_something_is_named(prepared, change):
    note(prepared, change)
    with pytest.raises(ValueError, match=r"ready.manifest.json is damaged \(.*\). Delete it and prepare again"):
        flickr30k.read_manifest(prepared)


def test_a_manifest_that_is_no_text_is_named(prepared):
    (prepared / "manifest.json").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="manifest.json is damaged .*Delete it and prepare again"):
        flickr30k.read_manifest(prepared)


@pytest.mark.parametrize("kind", ["zeros", "other shape", "pickled"])
def test_pixels_that_are_something_else_are_named(prepared, kind):
    path = prepared / "pixels.npy"
    if kind == "zeros":
        path.write_bytes(bytes(path.stat().st_size))
    else:
        np.save(path, np.zeros((8, 32, 32, 3), np.uint8) if kind == "other shape" else np.array([{}]))
    note(prepared, lambda about: about["files"]["pixels.npy"].update(bytes=path.stat().st_size))
    says = r"pixels.npy holds .*, not \(8, 64, 64, 3\) of uint8. Delete it and .*manifest.json, and prepare again"
    with pytest.raises(ValueError, match=says):
        _ = flickr30k.Flickr30k(prepared, "train", "scenes").pixels


def test_captions_of_fewer_pictures_than_the_manifest_speaks_of(prepared):
    path = prepared / "captions.json"
    captions = json.loads(path.read_text(encoding="utf-8"))
    captions["images"] = captions["images"][:3]
    path.write_text(json.dumps(captions), encoding="utf-8")
    note(prepared, lambda about: about["files"]["captions.json"].update(bytes=path.stat().st_size))
    with pytest.raises(ValueError, match="captions of 3 pictures, its manifest speaks of 8. Delete .*prepare again"):
        flickr30k.Flickr30k(prepared, "train", "scenes")


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"cells": 3}', "\ud83d"])
def test_a_notebook_that_is_none_is_named(tmp_path, content):
    (tmp_path / "02.ipynb").write_text(content, encoding="utf-8", errors="surrogatepass")
    with pytest.raises(ValueError, match="02.ipynb is no whole notebook .*Build or execute it again"):
        records.read_notebook(tmp_path / "02.ipynb")


@pytest.mark.parametrize(
    "content", ["[02\n", "a = 1\n", '["02".cpu.x]\nlow = "a"\nhigh = 1\nexcludes = []\nvalues = []\nseeds = []']
)
def test_a_band_file_that_is_none_is_named(tmp_path, content):
    (tmp_path / "bands.toml").write_text(content)
    with pytest.raises(ValueError, match="bands.toml"):
        records.bands(tmp_path / "bands.toml")


@pytest.mark.parametrize("content", ["[", "[x]\nbytes = 1\n", "x = 1\n"])
def test_a_manifest_of_the_data_that_is_none_is_named(tmp_path, content):
    (tmp_path / "x").write_text("data")
    (tmp_path / "manifest.toml").write_text(content)
    with pytest.raises((ValueError, FileNotFoundError), match="manifest.toml .*Install the package again"):
        stamps.verified("x", tmp_path)


def test_sentences_of_entities_in_another_script_are_named(tmp_path):
    for folder, name in (("Sentences", "7.txt"), ("Annotations", "7.xml")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_bytes(b"\xe9t\xe9")
    with pytest.raises(ValueError, match="7.txt is not UTF-8 text .*Fetch it again"):
        entities.read_entities(tmp_path, "7.jpg")


# Programs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "given", "says"),
    [
        ("export_scenes", ["--out", "FILE"], "File exists"),
        ("export_scenes", ["--out", "FILE/below"], "Mend this, then run the same command"),
        ("export_scenes", ["--size", "100000"], "--size 100000 must lie between 32 and 1024"),
        ("export_scenes", ["--seed", "-1"], "--seed -1 must be 0 or more"),
        ("prepare_flickr30k", ["--source", ""], "is a variable of your shell not set"),
        ("prepare_flickr30k", ["--source", "x", "--set", "../x"], "--set is a name of letters"),
        ("prepare_flickr30k", ["--source", "x", "--set", ""], "--set is a name of letters"),
        ("prepare_flickr30k", ["--source", "x", "--workers", "-3"], "--workers and --shards must be 0 or more"),
        ("prepare_flickr30k", ["--source", "x", "--out", "FILE"], "Mend this"),
        ("train_retriever", ["--config", "tiny", "--data", "FILE", "--out", "OUT"], "FILE is no folder. Make it"),
        ("train_retriever", ["--config", "tiny", "--data", "READY", "--out", "OUT", "--seed", "-1"], "seed is -1"),
        ("train_retriever", ["--config", "tiny", "--data", "BROKEN", "--out", "OUT"], "is damaged"),
        ("train_checkpoints", ["--check", "tiny", "--out", "OUT"], "no shipped retriever is called 'tiny'"),
        ("train_checkpoints", ["tiny", "--work", "FILE", "--out", "OUT"], "Not a directory"),
        ("measure_bands", ["55", "--profile", "smoke"], "no lesson 55; there are 00_start_here"),
        ("measure_bands", ["0", "--profile", "smoke"], "lessons; name one: 00_start_here"),
        ("measure_bands", ["02", "--profile", "smoke", "--seeds", "0", "1", "2", "3", "3"], "seeds must differ"),
    ],
)  # fmt: skip
def test_a_program_says_what_is_wrong_in_a_line(script, exported, tmp_path, monkeypatch, capsys, name, given, says):
    """Status 2, one line on stderr (argparse puts its usage before it), and no file more than before."""
    (tmp_path / "FILE").write_text("the user's")
    shutil.copytree(exported.ready, tmp_path / "BROKEN")
    note(tmp_path / "BROKEN", lambda about: about.pop("dataset"))
    words = {"READY": exported.ready, **{word: tmp_path / word for word in ("FILE", "FILE/below", "OUT", "BROKEN")}}
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "data"))
    before = sorted(tmp_path.rglob("*"))
    given = [str(words.get(word, word)) for word in given]
    monkeypatch.setattr(sys, "argv", [name, *given])
    try:
        if name == "measure_bands":
            status = script(f"data_scripts/{name}.py").main()
        else:
            status = script(f"data_scripts/{name}.py").main(given)
    except SystemExit as ended:
        status = ended.code
    error = capsys.readouterr().err
    assert status == 2
    assert says.replace("FILE", str(tmp_path / "FILE")) in error.splitlines()[-1]
    assert error.splitlines()[-1].startswith(name) and "Traceback" not in error
    made = {path.name for path in tmp_path.rglob("*") if path not in before}
    assert made <= {"artifacts", "data"}
    assert (tmp_path / "FILE").read_text() == "the user's"


@pytest.mark.parametrize("name", ["export_scenes", "prepare_flickr30k"])
def test_a_variable_that_is_nobodys_home_is_said(script, monkeypatch, capsys, name):
    monkeypatch.setenv("COURSE_DATA", "~nobody_is_called_so/data")
    assert script(f"data_scripts/{name}.py").main([]) == 2
    assert capsys.readouterr().err.strip().endswith("which is nobody's home: name another folder.")


def test_a_profile_of_a_machine_that_is_not_there_is_said(script, exported, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COURSE_PROFILE", "gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    given = ["--config", "tiny", "--data", str(exported.ready), "--out", str(tmp_path / "out")]
    assert script("data_scripts/train_retriever.py").main(given) == 2
    assert "Profile 'gpu' needs CUDA, and torch sees none" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A small course: one lesson, built, with the programs of the real one."""
    folder = tmp_path_factory.mktemp("course")
    programs = [str(path.relative_to(ROOT)) for path in (ROOT / "notebooks").glob("*.py")]
    for part in (*programs, "notebooks/src/_setup.py", "pyproject.toml", "data_scripts/write_readme.py", "Makefile"):
        (folder / part).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / part, folder / part)
    shutil.copy(ROOT / "tests/lessons/98_mini.py", folder / "notebooks/src/98_mini.py")
    markers = [f"<!-- {name}: begin -->\n<!-- {name}: end -->\n" for name in ("lessons", "claims", "ladder", "proofs")]
    (folder / "README.md").write_text("Mine.\n" + "".join(markers))
    assert run(folder, "notebooks/build.py")[0] == 0
    return folder


@pytest.fixture()
def checkout(built, tmp_path):
    """A copy of it, to be spoilt."""
    return shutil.copytree(built, tmp_path / "course")


def run(folder, *words):
    """A program of that folder, by this Python: (status, what it said on stderr)."""
    ended = subprocess.run([sys.executable, *words], cwd=folder, capture_output=True, text=True, timeout=60,
                           env={**os.environ, "PYTHONPATH": str(ROOT)})  # fmt: skip
    return ended.returncode, ended.stderr


@pytest.mark.parametrize(
    ("part", "content", "says"),
    [
        ("notebooks/98_mini.ipynb", b"", "98_mini.ipynb is no whole notebook"),
        ("notebooks/98_mini.ipynb", b"\xff\xfe\0", "Keep what you need, delete it, build again"),
        ("notebooks/solutions/98_mini.ipynb", b"{}", "98_mini.ipynb is no whole notebook"),
        ("notebooks/solutions/98_mini.ipynb", b"[]", "98_mini.ipynb is no whole notebook"),
        ("notebooks/src/98_mini.py", b"# %% [markdown]\n# \xe9", "98_mini: 98_mini.py is not UTF-8 text"),
        ("pyproject.toml", b"[", "98_mini: pyproject.toml is damaged, or lacks an entry"),
        ("pyproject.toml", b"[project]\n", "lacks an entry ('urls')"),
    ],
)
@pytest.mark.parametrize("words", [[], ["--check"]], ids=["build", "check"])
def test_a_damaged_lesson_is_said_and_stays_as_it_is(script, checkout, monkeypatch, capsys, part, content, says, words):
    build = script("notebooks/build.py")
    monkeypatch.setattr(build, "HERE", checkout / "notebooks")
    (checkout / part).write_bytes(content)
    before = files(checkout)
    assert build.main(words) == 1
    error = capsys.readouterr().err
    assert says in error and len(error.splitlines()) == 1
    assert files(checkout) == before


@pytest.mark.parametrize(
    ("part", "content", "words", "says"),
    [
        ("FILE", b"", ["notebooks/build.py", "--nbgrader", "FILE"], "build.py: "),
        ("FILE", b"", ["notebooks/build.py", "98", "55"], "no lesson 55; there are 98_mini"),
        ("README.md", b"no markers\n", ["data_scripts/write_readme.py"], "needs one line <!-- lessons: begin -->"),
        ("FILE", b"", ["data_scripts/write_readme.py"], "98_mini.ipynb holds no records: run notebooks/build.py"),
        ("notebooks/solutions/98_mini.ipynb", b"{", ["data_scripts/write_readme.py"], "README.md is as it was"),
    ],
)
def test_a_program_of_the_course_ends_in_one_line(checkout, part, content, words, says):
    (checkout / part).write_bytes(content)
    before = files(checkout)
    status, error = run(checkout, *words)
    assert status == 1 and says in error and "Traceback" not in error and len(error.strip().splitlines()) == 1
    assert files(checkout) == before


def files(folder):
    """Every file below with its bytes."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"}


@pytest.mark.skipif(shutil.which("make") is None, reason="no make")
def test_make_says_what_is_wrong_with_python_or_its_environment(checkout):
    def make(*words):
        ended = subprocess.run(["make", *words], cwd=checkout, capture_output=True, text=True, timeout=60)
        return ended.returncode, ended.stderr

    old = checkout / "python 3.9"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    for python in ("no-such-python", f"'{old}'"):
        status, error = make("lab", f"PYTHON={python}")
        assert status == 2 and "needs Python 3.11 or newer: make lab PYTHON=/path/to/python3.11" in error
    assert not (checkout / ".venv").exists()
    (checkout / ".venv/bin").mkdir(parents=True)
    for name in ("pip", "jupyter"):
        (checkout / f".venv/bin/{name}").write_text("#!/moved/away/.venv/bin/python\n")
        (checkout / f".venv/bin/{name}").chmod(0o755)
    (checkout / ".venv/.has-lab").touch()
    status, error = make("lab")
    assert status == 2 and ".venv was moved, or its Python is gone: make clean, then make lab again" in error
