"""Train the small retrievers that come with the package, or measure those that are there.

    python data_scripts/train_checkpoints.py                        # all of them, on one thread
    python data_scripts/train_checkpoints.py scenes_foils tiny      # some
    python data_scripts/train_checkpoints.py --check                # the stored ones against their cards

Each is trained from its seed alone, stored as `course_utils/shipped.py` describes, read back, and measured as stored,
on scenes of the part "test", which none of them saw. The same machine makes the same bytes again; another processor
adds up in another order and lands close by. Exported scenes, for `tiny` and `lite0+minilm`, are kept in --work.
"""

import argparse
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import islice
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # sums in one order: the same weights again

from course_utils import env  # how threads wait must be said before torch is imported

# isort: split
import numpy as np
import torch
from packing import BuildError
from safetensors.torch import load_file, save
from torch import nn
from train_retriever import commit

from course_utils import batches, metrics, models, recipes, retrieval, scenes, shipped, text, training
from course_utils.captioned import Feed
from course_utils.flickr30k import Flickr30k, read_manifest
from course_utils.towers import MissingWeights

SEED, TEST, QUICK = 0, 1_000, 100  # QUICK: held-out scenes that a test has time for
PAIRS = 22_000  # training scenes of two stamps, as in lesson 02
SPLITS = {"train": 5_000, "val": 500, "test": 1_000}  # of the exported scenes
EXPORTED = {"size": 224, "counts": [1, 4]}
BLOCK = 250  # sentences encoded at once


@dataclass(frozen=True)
class Made:
    """A trained retriever, what its card says of its making, and which of its tensors are stored."""

    retriever: recipes.Retriever
    about: dict
    stored: tuple[str, ...] = ("",)


@dataclass(frozen=True)
class Drawn:
    """Held-out scenes as `captioned.Feed` takes pictures. foils: kind -> {row: a false caption}."""

    pixels: np.ndarray
    image_ids: np.ndarray
    texts: tuple[str, ...]
    owners: np.ndarray
    foils: dict[str, dict[int, str]]


class Given(nn.Module):
    """A tower for what is encoded already."""

    def __init__(self, width: int):
        super().__init__()
        self.width = width

    def forward(self, rows, mask=None):
        return rows


class Raw(nn.Module):
    """The towers of a retriever without its heads, for `retrieval.encode`."""

    def __init__(self, model):
        super().__init__()
        self.encode_image, self.encode_text = model.image_tower, model.text_tower


def drawn(about: dict, count: int) -> Drawn:
    """The first `count` scenes of part "test" that say different things, of the kind that a card speaks of."""
    from export_scenes import chosen

    held_out = about["held_out"]
    config = scenes.SceneConfig(size=held_out["size"], counts=tuple(held_out["counts"]))
    source = scenes.Scenes(held_out["seed"], "test", config)
    rows = list(islice(chosen(source, count), count))
    said = [source.captions(rows, k) for k in range(held_out["captions"])]
    foils = {}
    for row, index in enumerate(rows):
        for kind, caption in source[index].foils().items():  # a single object has no relation
            foils.setdefault(kind, {})[row] = caption.text
    texts = tuple(one for of_scene in zip(*said) for one in of_scene)
    return Drawn(source.images(rows), np.array(rows), texts, np.repeat(np.arange(count), len(said)), foils)


@torch.no_grad()
def measured(retriever: recipes.Retriever, about: dict, count: int) -> list[dict]:
    """Records on `count` held-out scenes: recall both ways, and true captions told from false ones."""
    pictures, model = drawn(about, count), retriever.model
    feed = Feed(pictures, retriever.tokenize, retriever.recipe.size)
    z_img, z_txt = retrieval.encode(model, feed)
    found = retrieval.facts(z_img, z_txt, feed.owners)
    for kind, lines in pictures.foils.items():
        rows, said = torch.tensor(list(lines)), list(lines.values())
        parts = (retriever.tokenize(said[i : i + BLOCK]) for i in range(0, len(said), BLOCK))
        z_foil = torch.cat([model.encode_text(*part) for part in parts])  # (n,E)
        true = z_txt[torch.from_numpy(feed.first)[rows]]  # (n,E), caption 0
        gap = (z_img[rows] * (true - z_foil)).sum(dim=1).numpy()
        told = (gap > 0) + 0.5 * (gap == 0)
        found.append({"name": f"told_apart/{kind}", "value": float(told.mean()),
                      "interval": list(metrics.bootstrap_interval(told)), "chance": 0.5})  # fmt: skip
    return found


def conv_pairs(name: str, work: Path) -> Made:
    """Lesson 02's model in its cpu profile: the same towers, scenes, batches and steps."""
    train = training.TrainConfig(1_000, dtype=_dtype())
    recipe = recipes.Recipe(name, "conv", "words", train, size=64, shared=128)
    return _of_pairs(recipe, name == "scenes_foils", lambda: models.ConvTower(recipe.size))


def patches(name: str, work: Path) -> Made:
    """The task of scenes_foils, twins in the batch, with a tower of patches: a class token, or the patches' mean."""
    train = training.TrainConfig(1_500, 1e-3, dtype=_dtype())
    recipe = recipes.Recipe(name, "patches", "words", train, size=64, shared=128)
    pool = "mean" if name == "patches_mean" else "class"
    return _of_pairs(recipe, True, lambda: models.PatchTower(recipe.size, 8, width=128, depth=4, heads=4, pool=pool))


def tiny(name: str, work: Path) -> Made:
    """The recipe of that name, by the course's own program, with all five captions of a picture."""
    import train_retriever

    folder, out = _exported(work), work / name
    options = ["--config", name, "--data", str(folder), "--out", str(out), "--captions", "5", "--seed", str(SEED)]
    if train_retriever.main([*options, "--no-tensorboard", "--resume"]):
        raise SystemExit(2)
    return Made(recipes.load(out), _about_exported(folder))


def projections(name: str, work: Path) -> Made:
    """Only the two projections of a recipe, over towers that stay as they are: a picture is encoded once, for good."""
    retriever = recipes.build(recipes.RECIPES[name])
    image, sentence, owners = features(work, "train")
    train = training.TrainConfig(1_000, 1e-3, weight_decay=0.01, schedule="cosine", warmup=50)
    recipe = replace(retriever.recipe, train=train, batch_size=256, captions=5)
    torch.manual_seed(SEED)
    heads = models.DualEncoder(Given(image.shape[1]), Given(sentence.shape[1]), recipe.shared, recipe.tau)
    training.fit(heads, rows_of(image, sentence, owners, recipe, SEED), recipes.contrast, train, name)
    retriever.model.load_state_dict(heads.state_dict(), strict=False)
    retriever = replace(retriever, recipe=recipe)
    return Made(retriever, _about_exported(_exported(work)), ("image_head.", "text_head.", "log_scale"))


def features(work: Path, split: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What the towers that come as packages say of exported scenes: image (N,1280), sentence (M,384), owners (M,).

    Made once, then kept in `work`: 5,000 pictures and their captions take three minutes.
    """
    folder, kept = _exported(work), work / f"features_{split}.safetensors"
    if not kept.is_file():
        counts = {name: stop - start for name, (start, stop) in read_manifest(folder)["splits"].items()}
        retriever = recipes.build(recipes.RECIPES["lite0+minilm"])
        feed = Feed(Flickr30k(folder, split, "scenes", counts), retriever.tokenize, retriever.recipe.size)
        image, sentence = retrieval.encode(Raw(retriever.model).eval(), feed)
        found = {"image": image, "sentence": sentence, "owners": torch.from_numpy(feed.owners)}
        draft = kept.with_suffix(".part")
        draft.write_bytes(save(found))
        draft.replace(kept)
    found = load_file(kept)
    return found["image"], found["sentence"], found["owners"]


def rows_of(image, sentence, owners, recipe: recipes.Recipe, seed: int):
    """Batches of features for `training.fit`: pictures in random order, each with recipe.captions captions."""
    rng, order = np.random.default_rng(seed), np.empty(0, np.int64)
    first = torch.searchsorted(owners, torch.arange(len(image)))  # (N,)
    for _ in range(recipe.train.steps):
        if len(order) < recipe.batch_size:
            order = rng.permutation(len(image))
        chosen, order = torch.from_numpy(order[: recipe.batch_size]), order[recipe.batch_size :]
        captions = (first[chosen][:, None] + torch.arange(recipe.captions)).flatten()  # (P,) -> (P * K,)
        owner = torch.arange(len(chosen)).repeat_interleave(recipe.captions)
        yield {"images": image[chosen], "owners": owner, "image_ids": owner, "tokens": sentence[captions],
               "token_mask": torch.ones(len(captions), 1, dtype=torch.bool)}  # fmt: skip


def _of_pairs(recipe: recipes.Recipe, with_twins: bool, tower: Callable) -> Made:
    config = scenes.SceneConfig(size=recipe.size)
    words = text.word_tokenizer(scenes.vocabulary(config))
    pairs = batches.ScenePairs(scenes.Scenes(SEED, "train", config), PAIRS, words)
    torch.manual_seed(SEED)
    read = models.TransformerWords(words.get_vocab_size(), pairs.tokens.shape[1])
    model = models.DualEncoder(tower(), read, recipe.shared, recipe.tau)
    series = batches.shuffled(pairs, recipe.batch_size, recipe.train.steps, SEED, with_twins)
    training.fit(model, series, recipes.contrast, recipe.train, recipe.name)
    retriever = recipes.Retriever(recipe, model, words, lambda sentences: text.encode(words, sentences))
    held_out = {"part": "test", "seed": SEED, "size": recipe.size, "counts": [2, 2], "captions": 1}
    data = {"kind": "scenes of two stamps, caption 0", "part": "train", "seed": SEED, "scenes": PAIRS,
            "twins_in_the_batch": with_twins}  # fmt: skip
    return Made(retriever, {"data": data, "held_out": held_out})


def _about_exported(folder: Path) -> dict:
    manifest = read_manifest(folder)
    data = {"kind": "scenes of one to four stamps, exported, five captions", "splits": SPLITS, "seed": SEED}
    data["captions_sha256"] = manifest["files"]["captions.json"]["sha256"]
    return {"data": data, "held_out": {"part": "test", "seed": SEED, **EXPORTED, "captions": 5}}


def _exported(work: Path) -> Path:
    """The prepared folder of exported scenes; made where it is not there yet."""
    from export_scenes import export
    from prepare_flickr30k import Job, prepare

    raw, ready = work / "scenes_raw", work / "scenes"
    if not (ready / "manifest.json").is_file():
        export(raw, SPLITS, scenes.SceneConfig(size=EXPORTED["size"], counts=tuple(EXPORTED["counts"])), SEED)
        prepare(Job(str(raw), ready, "scenes", side=EXPORTED["size"], workers=1, accept=True, counts=SPLITS))
    return ready


def _dtype() -> torch.dtype:
    return env.start("train_checkpoints", "auto", SEED).dtype


MAKERS = {
    "scenes_plain": conv_pairs,
    "scenes_foils": conv_pairs,
    "patches": patches,
    "patches_mean": patches,
    "tiny": tiny,
    "lite0+minilm": projections,
}


def make(name: str, work: Path, out: Path) -> dict:
    """Train one, store it below `out`, measure what was stored, and return its card."""
    started = time.perf_counter()
    made = MAKERS[name](name, work)
    about = {"name": name, "what": MAKERS[name].__doc__, **made.about, "seed": SEED, "commit": commit()}
    about |= {"seconds": round(time.perf_counter() - started, 1), "threads": torch.get_num_threads()}
    about["parameters"] = sum(value.numel() for key, value in made.retriever.model.named_parameters()
                              if key.startswith(made.stored))  # fmt: skip
    about["versions"] = {"python": platform.python_version()}
    about["versions"] |= {package: version(package) for package in ("torch", "accelerate", "course_utils")}
    draft = work / "draft"
    shipped.write(made.retriever, {**about, "records": [], "quick": []}, draft / name, made.stored)
    stored = shipped.load(name, draft)
    about["records"] = measured(stored, about, TEST)
    about["quick"] = {"scenes": QUICK, "records": measured(stored, about, QUICK)}
    shipped.write(made.retriever, about, draft / name, made.stored)
    new, old = out / f".{name}.new", out / f".{name}.old"
    for left in (new, old):  # by a run that was killed
        shutil.rmtree(left, ignore_errors=True)
    shutil.copytree(draft / name, new)  # may be another disk: only what is whole takes the name
    if (out / name).exists():
        (out / name).rename(old)
    new.rename(out / name)
    shutil.rmtree(old, ignore_errors=True)
    shutil.rmtree(draft / name)
    return shipped.card(name, out)


def check(name: str, out: Path, quick: bool = False) -> list[str]:
    """Measure a stored retriever again; what lies outside the intervals of its card, or moved by more than 0.01."""
    card = shipped.card(name, out)
    expected = card["quick"]["records"] if quick else card["records"]
    found = measured(shipped.load(name, out), card, QUICK if quick else TEST)
    wrong = []
    for old, new in zip(expected, found, strict=True):
        low, high = old["interval"]
        if old["name"] != new["name"] or not low <= new["value"] <= high or abs(new["value"] - old["value"]) > 0.01:
            wrong.append(f"{name} {new['name']}: {new['value']:.3f}, the card says {old['value']:.3f}")
    return wrong


def main(arguments: list[str] | None = None) -> int:
    """Command line: see the top of this file.

    Returns 0, 1 where --check found something wrong, 2 after an error that it has explained, 130 when stopped.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(MAKERS)} (default: all)")
    parser.add_argument("--check", action="store_true", help="measure the stored ones instead of training")
    parser.add_argument("--work", type=Path, default=Path("artifacts/checkpoints"), help="exported scenes and runs")
    parser.add_argument("--out", type=Path, default=shipped.FOLDER, help="where they are stored (the package)")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in MAKERS]
    if unknown:
        parser.error(f"no retriever {unknown[0]!r}; there are {', '.join(MAKERS)}")
    wrong = []
    try:
        for name in options.names or MAKERS:
            started = time.perf_counter()
            if options.check:
                wrong += check(name, options.out)
                records = shipped.card(name, options.out)["records"]
            else:
                records = make(name, options.work.resolve(), options.out)["records"]
            print(f"{name}: {time.perf_counter() - started:.0f} s")
            for one in records:
                low, high = one["interval"]
                print(f"  {one['name']} {one['value']:.3f} ({low:.3f} to {high:.3f}; chance {one['chance']:.3f})")
    except (BuildError, OSError, ValueError, MissingWeights, FloatingPointError) as error:
        print(f"train_checkpoints: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nStopped. What is stored is as it was; the same command goes on from here.", file=sys.stderr)
        return 130
    size = sum(path.stat().st_size for path in options.out.rglob("*") if path.is_file())
    print("\n".join([*wrong, f"{size / 1e6:.2f} MB in {options.out}"]))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
