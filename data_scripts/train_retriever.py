"""Train a retriever on a prepared set: alone, or on many GPUs, with the same settings as the lesson.

    python data_scripts/train_retriever.py --config lite0+minilm --data data/scenes --out artifacts/lite0
    python data_scripts/train_retriever.py --config lite0+minilm --data data/scenes --out artifacts/lite0 --resume
    accelerate launch --num_processes 4 data_scripts/train_retriever.py --config resnet50+bert --data data/flickr30k ...

DATA is a folder that data_scripts/prepare_flickr30k.py has prepared. OUT receives checkpoints (the last and the best by
mean recall on the validation split), TensorBoard's curves, and card.json: data, seed, settings, commit, and recall in
both directions with 95 % intervals, with --test on the test split too. `course_utils.recipes.load(OUT)` reads the best
again. Interrupted or killed, the same command with --resume goes on to the same result. A batch is what all processes
share: two processes train like one. (On CPUs use torchrun --nproc_per_node 2 in its place: accelerate starts several
processes on GPUs only.) Before the first step its memory is counted; where it will not fit, it is said what would.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path

from course_utils import env  # first: how threads wait must be said before torch is imported

# isort: split
import torch
from accelerate import PartialState

from course_utils import checkpoints, locks, memory, recipes, retrieval, training
from course_utils.captioned import Feed
from course_utils.flickr30k import Flickr30k, read_manifest
from course_utils.towers import MissingWeights

ROOT = Path(__file__).resolve().parent.parent
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
JUDGE = "mean_recall"


def chosen(options, dtype: torch.dtype) -> recipes.Recipe:
    """The recipe as the command line changes it."""
    recipe = recipes.RECIPES[options.config]
    train = replace(recipe.train, dtype=DTYPES.get(options.dtype, dtype), chunk=options.chunk)
    if options.steps:
        share = options.steps / train.steps  # the stages keep their proportions
        train = replace(train, steps=options.steps, warmup=int(train.warmup * share), frozen=int(train.frozen * share))
    if train.chunk:
        train = replace(train, still_norms=True)
    changes = {"batch_size": options.batch_size, "captions": options.captions}
    return replace(recipe, train=train, **{name: value for name, value in changes.items() if value})


def evaluator(feed: Feed, dtype: torch.dtype):
    """(model) -> recall on this split. Towers compute in `dtype`, scores in fp32."""

    def evaluate(model):
        device = next(model.parameters()).device.type
        with torch.autocast(device, dtype, enabled=dtype != torch.float32):
            z_img, z_txt = retrieval.encode(model, feed)
        return retrieval.recalls(z_img, z_txt, feed.owners)

    return evaluate


def counted(model, feed: Feed, recipe: recipes.Recipe, state: PartialState) -> str:
    """What a step will take on this device, as text. Raises MemoryError where it is more than there is."""
    model = model.to(state.device)
    few = next(iter(feed.batches(min(4, len(feed)), 1, 0)))
    few = {name: value.to(state.device) for name, value in few.items()}
    alone = lambda pairs, batch: recipes.contrast(pairs, batch, gather=lambda rows: rows)  # noqa: E731
    found = memory.estimate(model, few, alone, recipe.train.dtype, recipe.train.chunk)
    rows = recipe.batch_size // state.num_processes
    most = found.largest_batch()
    if rows > most:
        what = f"a step with {rows} pictures would take about {found.total(rows) / 1e9:.2f} GB, more than there is."
        if not most:
            raise MemoryError(f"{what} Not even one fits: take a smaller config, or another machine.")
        raise MemoryError(
            f"{what} At most {most} fit: --batch-size {most * state.num_processes}, or --chunk {max(1, most // 2)} "
            "(the same gradient, one more forward pass), or --dtype bf16 or fp16 on a GPU."
        )
    return f"A step with {rows} pictures will take about {found.total(rows) / 1e9:.2f} GB; at most {most:,} would fit."


def commit() -> str | None:
    """The checkout's commit, "+" where files were changed; None without git."""
    try:
        head, changed = (subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout
                         for words in (["rev-parse", "HEAD"], ["status", "--porcelain", "-uno"]))  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.strip() + ("+" if changed.strip() else "")


def card(options, recipe: recipes.Recipe, state: PartialState, held_out: dict[str, Feed]) -> dict:
    """What was trained, on what, how and how well: the best checkpoint, measured on the splits held out."""
    retriever = recipes.load(options.out)
    model, measured = retriever.model.to(state.device), {}
    for split, feed in held_out.items():
        with torch.autocast(state.device.type, recipe.train.dtype, enabled=recipe.train.dtype != torch.float32):
            z_img, z_txt = retrieval.encode(model, feed)
        measured[split] = retrieval.facts(z_img, z_txt, feed.owners)
    manifest = read_manifest(options.data)
    about = checkpoints.read(options.out).about
    plain = asdict(recipe)
    plain["train"]["dtype"] = str(recipe.train.dtype)
    return {
        "config": options.config,
        "recipe": plain,
        "weights": "random" if options.random_weights else "pretrained" if recipe.image != "conv" else "from scratch",
        "data": {key: manifest[key] for key in ("dataset", "side", "pictures", "captions")}
        | {"captions_sha256": manifest["files"]["captions.json"]["sha256"]},
        "seed": options.seed,
        "commit": commit(),
        "processes": state.num_processes,
        "device": torch.cuda.get_device_name() if state.device.type == "cuda" else "CPU",
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("torch", "transformers", "accelerate", "course_utils")},
        "steps": len(about["history"]),
        "seconds": about.get("seconds"),  # all starts of a resumed training together
        "best_step": about["best"]["step"],
        "split": "val",
        "records": measured["val"],
        "test": measured.get("test"),
    }


def train(options, state: PartialState) -> dict | None:
    """Train, and return the card (on the main process)."""
    if options.resume is False and checkpoints.exists(options.out):
        raise ValueError(f"{options.out} holds a training already: pass --resume to go on, or another --out.")
    dtype = env.start("train_retriever", "auto", options.seed).dtype
    recipe = chosen(options, dtype)
    name = read_manifest(options.data)["dataset"]
    counts = read_manifest(options.data)["splits"]
    counts = None if name == "flickr30k" else {split: stop - start for split, (start, stop) in counts.items()}
    splits = ("train", "val", "test") if options.test else ("train", "val")
    sets = {split: Flickr30k(options.data, split, name, counts) for split in splits}
    retriever = recipes.build(recipe, sets["train"].texts, not options.random_weights)
    if options.random_weights and state.is_main_process:
        print(f"The towers of {recipe.name} have random weights: shapes and speed are right, recall will not be.")
    feeds = {split: Feed(one, retriever.tokenize, recipe.size, recipe.captions if split == "train" else 1)
             for split, one in sets.items()}  # fmt: skip
    said = counted(retriever.model, feeds["train"], recipe, state)
    if state.is_main_process:
        print(f"{sets['train']}; {recipe.batch_size} pictures a step.\n{said}")
        if not checkpoints.exists(options.out):  # else they are compared first, and nothing is written over
            with locks.alone(options.out):
                recipes.save(retriever, options.out)
    torch.manual_seed(options.seed)
    share = (state.process_index, state.num_processes)
    batches = feeds["train"].batches(recipe.batch_size, recipe.train.steps, options.seed, share)
    run = training.Run(options.out, options.every, evaluator(feeds["val"], recipe.train.dtype), JUDGE,
                       options.tensorboard, options.resume)  # fmt: skip
    training.fit(retriever.model, batches, recipes.contrast, recipe.train, recipe.name, run)
    if not state.is_main_process:
        return None
    found = card(options, recipe, state, {split: feeds[split] for split in splits[1:]})
    draft = options.out / "card.json.part"
    draft.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    os.replace(draft, options.out / "card.json")
    return found


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument(
        "--config", required=True, choices=recipes.RECIPES, help="which retriever (course_utils/recipes.py)"
    )
    made.add_argument("--data", required=True, type=Path, help="a prepared folder")
    made.add_argument("--out", required=True, type=Path, help="folder for checkpoints, curves and the card")
    made.add_argument("--resume", action="store_true", help="go on from the last checkpoint in OUT, where there is one")
    made.add_argument("--random-weights", action="store_true", help="build the towers without pretrained weights")
    made.add_argument("--steps", type=int, default=0, help="optimiser steps, instead of the config's")
    made.add_argument("--batch-size", type=int, default=0, help="pictures in a step, over all processes")
    made.add_argument("--captions", type=int, default=0, help="captions of each picture in a step")
    made.add_argument("--chunk", type=int, default=0, help="GradCache: pictures whose activations are held at once")
    made.add_argument("--dtype", choices=("auto", *DTYPES), default="auto", help="what towers compute in")
    made.add_argument("--every", type=int, default=100, help="steps between checkpoints (default 100)")
    made.add_argument("--seed", type=int, default=0, help="of weights, order and augmentation (default 0)")
    made.add_argument("--test", action="store_true", help="at the end, measure the best on the test split too")
    made.add_argument("--no-tensorboard", dest="tensorboard", action="store_false", help="write no curves")
    return made


def main(arguments: list[str] | None = None) -> int:
    """Returns 0, 2 after an error that it has explained, 130 when stopped."""
    options = parser().parse_args(arguments)
    try:
        state = PartialState(cpu=not torch.cuda.is_available())
        found = train(options, state)
    except (ImportError, OSError, ValueError, RuntimeError, MemoryError, FloatingPointError) as error:
        if isinstance(error, RuntimeError) and not isinstance(error, MissingWeights) and "CUDA" not in str(error):
            raise  # a fault of the program's own: its trace is wanted
        print(f"train_retriever: {error}", file=sys.stderr)
        if isinstance(error, MissingWeights):
            print("Here: --random-weights builds the same shapes without them.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nStopped. The same command with --resume goes on.", file=sys.stderr)
        return 130
    if found:
        for split, records in (("val", found["records"]), ("test", found["test"] or [])):
            for one in records:
                low, high = one["interval"]
                figures = f"{one['value']:.3f} ({low:.3f} to {high:.3f}; chance {one['chance']:.3f})"
                print(f"{split} {one['name']} {figures}")
        print(f"{options.out / 'card.json'}: best of {found['steps']} steps was {found['best_step']}.")
    state.wait_for_everyone()  # a process that leaves early takes the others down
    state.destroy_process_group()
    return 0


if __name__ == "__main__":
    sys.exit(main())
