"""Write course_utils/data/features.safetensors: what the two offline towers say of every embedded picture.

    python data_scripts/build_features.py            builds the file and its manifest entry, then measures it
    python data_scripts/build_features.py --compare  measures, and writes nothing: grounds, and 8 bits against float

The file is the same, byte for byte, on the same machine with the same versions.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from packing import DATA, note_in_manifest, require_disk
from safetensors.numpy import save

from course_utils import metrics, stamps, towers

CLASSES = 10  # likeliest ImageNet classes kept for a picture
PENALTY = 1.0  # of the ridge map that the measurement fits; lesson 00 uses the same


def image_rows(tower: towers.ImageTower, part: str, ground: int = towers.GROUND) -> tuple[np.ndarray, np.ndarray]:
    """Features (N,1280) and class logits (N,1000) of all pictures of `part`, on `ground`."""
    from tqdm import tqdm

    column, rows = stamps.load(part)["picture"], []
    with torch.no_grad():
        for start in tqdm(range(0, len(column), 16), desc=f"{part} on {ground}", unit="batch"):
            pictures = [stamps.picture(content) for content in column.iloc[start : start + 16]]
            rows.append(tower(tower.preprocess(pictures, ground=ground)))
        features = torch.cat(rows)  # (N,1280)
        return features.numpy(), tower.classify(features).numpy()


def likeliest(logits: np.ndarray, keep: int = CLASSES) -> tuple[np.ndarray, np.ndarray]:
    """Logits (N,1000) -> the `keep` likeliest classes (N,keep) int16 and their softmax probabilities float16."""
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    odds /= odds.sum(axis=1, keepdims=True)
    classes = np.argsort(-odds, axis=1, kind="stable")[:, :keep]
    return classes.astype(np.int16), np.take_along_axis(odds, classes, axis=1).astype(np.float16)


def pack(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows (N,D) float -> whole numbers (N,D) and scales (N,1) float16; uint8 where nothing is negative, else int8."""
    kind, steps = (np.uint8, 255) if rows.min() >= 0 else (np.int8, 127)
    scale = np.maximum(np.abs(rows).max(axis=1, keepdims=True) / steps, 1e-6).astype(np.float16)  # (N,1)
    return np.clip(np.rint(rows / scale.astype(np.float32)), -127, steps).astype(kind), scale


def class_names() -> list[str]:
    """ImageNet's 1,000 class names in order, as torchvision publishes them with its weights."""
    from torchvision.models import EfficientNet_B0_Weights

    return list(EfficientNet_B0_Weights.IMAGENET1K_V1.meta["categories"])


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def place(image: np.ndarray, text: np.ndarray, bridge: np.ndarray, seen: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Lesson 00's place of the rows `new` among sentences (N',384): the bridge, and a map fitted on the rows `seen`."""
    mean_image, mean_text = image[seen].mean(axis=0), text[seen].mean(axis=0)
    x, y = image[seen] - mean_image, text[seen] - mean_text  # (M,1280), (M,384)
    weights = np.linalg.solve(x.T @ x + PENALTY * np.eye(x.shape[1], dtype=x.dtype), x.T @ y)  # (1280,384)
    return unit(unit((image[new] - mean_image) @ weights) + bridge[new])


def recall(words: np.ndarray, placed: np.ndarray, captions: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Recall@1 of each stamp's caption (N,) among the stamps of its fold; any picture of the same caption is right."""
    hits = np.zeros(len(captions))
    for k in np.unique(fold):
        inside = fold == k
        right = captions[inside][:, None] == captions[inside][None]
        hits[inside] = metrics.recall_at_k(unit(words[inside]) @ unit(placed[inside]).T, right, 1)
    return hits


def measure(name: str, hits: np.ndarray, group: np.ndarray, rival: np.ndarray | None = None) -> None:
    """Print a mean with its interval, clustered by look-alikes, and the paired difference to `rival`."""
    low, high = metrics.bootstrap_interval(hits, group)
    text = f"{name:44s} recall@1 {hits.mean():.3f} ({low:.3f} to {high:.3f})"
    if rival is not None:
        low, high = metrics.bootstrap_interval(hits - rival, group)
        text += f", difference {(hits - rival).mean():+.4f} ({low:+.4f} to {high:+.4f})"
    print(text)


def searches(
    read: Callable[[str], np.ndarray], named: dict[str, tuple[np.ndarray, np.ndarray]]
) -> dict[str, np.ndarray]:
    """Hits (N,) of every stamp's caption in its test set, for the searches that lesson 00 compares.

    `read` gives the float rows of "stamps/image" and so on, `named` the likeliest classes of a part.
    """
    table = stamps.load()
    captions, fold, n = table["caption"].to_numpy(), table["fold"].to_numpy(), len(table)
    image = unit(np.concatenate([read("stamps/image"), read("pictures/image")]))
    text = np.concatenate([read("stamps/text"), read("pictures/text")])
    bridges = [np.einsum("nt,ntd->nd", odds.astype(np.float32), read("class_text")[classes])
               for classes, odds in (named["stamps"], named["pictures"])]  # fmt: skip
    bridge = np.concatenate(bridges)
    bridge = unit(bridge - bridge.mean(axis=0))
    words, rows, of_stamps = text[:n] - text[:n].mean(axis=0), np.arange(len(text)), np.zeros((n, text.shape[1]))
    for k in np.unique(fold):
        new = np.flatnonzero(fold == k)
        of_stamps[new] = place(image, text, bridge, np.flatnonzero(fold != k), new)
    of_pictures = place(image, text, bridge, rows[n:], rows[:n])
    placed = {"bridge alone": bridge[:n], "map of pictures": of_pictures, "map of stamps": of_stamps}
    return {name: recall(words, where, captions, fold) for name, where in placed.items()}


def compare(rows: dict, packed: dict, tower: towers.ImageTower, every: bool) -> None:
    """Does search lose anything to eight bits? With `every`, also: which ground is best behind the stamps?"""
    group = stamps.load()["group"].to_numpy()
    named = {part: (packed[f"{part}/classes"], packed[f"{part}/likelihoods"]) for part in stamps.PARTS}
    exact = searches(rows.__getitem__, named)
    eight = searches(lambda key: towers.unpack(packed[key], packed[key + "/scale"]), named)
    for name, hits in exact.items():
        measure(f"{name}, float", hits, group)
        measure(f"{name}, 8 bits", eight[name], group, hits)
    for ground in (128, 0) if every else ():
        image, logits = image_rows(tower, "stamps", ground)
        other = searches((rows | {"stamps/image": image}).__getitem__, named | {"stamps": likeliest(logits)})
        for name, hits in other.items():
            measure(f"{name}, ground {ground}", hits, group, exact[name])


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--compare", action="store_true", help="only measure; write nothing")
    options.add_argument("--threads", type=int, default=1, help="threads of torch (default 1)")
    options.add_argument("--out", type=Path, default=DATA / "features.safetensors", help="the file to write")
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    require_disk(chosen.out.parent, 20_000_000)
    started = time.perf_counter()
    image_tower, text_tower = towers.load_image_tower(), towers.load_text_tower()
    rows = {"class_text": towers.embed(text_tower, class_names())}
    packed = {}
    for part in stamps.PARTS:
        if not (DATA / f"{part}.parquet").exists():
            raise SystemExit(f"{part}.parquet is not in {DATA}: build it first, with data_scripts/build_{part}.py")
        rows[f"{part}/image"], logits = image_rows(image_tower, part)
        rows[f"{part}/text"] = towers.embed(text_tower, list(stamps.load(part)["caption"]), progress=True)
        packed[f"{part}/classes"], packed[f"{part}/likelihoods"] = likeliest(logits)
    for key, values in rows.items():
        packed[key], packed[key + "/scale"] = pack(values)
    compare(rows, packed, image_tower, chosen.compare)
    if chosen.compare:
        return
    about = {"class_names": class_names(), "ground": towers.GROUND, "towers": ["efficientnet_lite0", "minilm"]}
    draft = chosen.out.with_suffix(".draft")
    try:
        draft.write_bytes(save(packed, metadata={"about": json.dumps(about)}))
        os.replace(draft, chosen.out)
    finally:
        draft.unlink(missing_ok=True)
    if chosen.out.parent == DATA:
        note_in_manifest(chosen.out)
    print(f"{chosen.out.name}: {chosen.out.stat().st_size / 1e6:.1f} MB in {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
