"""Write course_utils/data/features.safetensors: what the two offline towers say of every embedded picture.

    python data_scripts/build_features.py            builds the file and its manifest entry, then measures it
    python data_scripts/build_features.py --compare  measures, and writes nothing: grounds, and 8 bits against float

The file is the same, byte for byte, on the same machine with the same versions.
"""

import argparse
import json
import os
import time
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


def searchable(image: np.ndarray, text: np.ndarray, bridge: np.ndarray, fold: np.ndarray, penalty: float = PENALTY):
    """Lesson 00's place of each picture among sentences (N,384), and the sentences' mean (N,384) to take from words.

    Row i comes from a straight-line map fitted on the other folds only: picture i and its look-alikes were not seen.
    """
    image = unit(image)
    placed, centre = np.zeros_like(text), np.zeros_like(text)
    for k in np.unique(fold):
        seen, new = fold != k, fold == k
        mean_image, mean_text = image[seen].mean(axis=0), text[seen].mean(axis=0)
        x, y = image[seen] - mean_image, text[seen] - mean_text  # (M,1280), (M,384)
        weights = np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1], dtype=x.dtype), x.T @ y)  # (1280,384)
        ridge = unit((image[new] - mean_image) @ weights)
        placed[new] = ridge + 0.5 * unit(bridge[new] - bridge[seen].mean(axis=0))
        centre[new] = mean_text
    return unit(placed), centre


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


def both(image, text, classes, likelihoods, class_text, table, extra=None):
    """Hits (N,) of the bridge alone and of lesson 00's search, over the stamps. `extra`: features of more pictures."""
    captions, fold = table["caption"].to_numpy(), table["fold"].to_numpy()
    bridge = np.einsum("nt,ntd->nd", likelihoods.astype(np.float32), class_text[classes])
    alone = recall(text, bridge, captions, fold)
    n = len(text)
    if extra is not None:  # fold -1 is always seen
        image, text = np.concatenate([image, extra[0]]), np.concatenate([text, extra[1]])
        bridge, fold = np.concatenate([bridge, extra[2]]), np.concatenate([fold, np.full(len(extra[0]), -1)])
    placed, centre = searchable(image, text, bridge, fold)
    return alone, recall(text[:n] - centre[:n], placed[:n], captions, table["fold"].to_numpy())


def compare_grounds(tower: towers.ImageTower, text: np.ndarray, class_text: np.ndarray) -> None:
    """White, mid-grey and black behind the stamps: which is found best?"""
    table, first = stamps.load(), None
    for ground in (255, 128, 0):
        image, logits = image_rows(tower, "stamps", ground)
        alone, search = both(image, text, *likeliest(logits), class_text, table)
        first = first or (alone, search)
        measure(f"ground {ground}, bridge alone", alone, table["group"], first[0])
        measure(f"ground {ground}, search", search, table["group"], first[1])


def compare_bits(rows: dict, packed: dict) -> None:
    """Does search lose anything to eight bits? Paired over the same captions."""
    table, hits = stamps.load(), []
    for read in (lambda key: rows[key], lambda key: towers.unpack(packed[key], packed[key + "/scale"])):
        pictures = [read("pictures/image"), read("pictures/text")] if "pictures/image" in rows else None
        if pictures:
            classes, likelihoods = packed["pictures/classes"], packed["pictures/likelihoods"].astype(np.float32)
            pictures.append(np.einsum("nt,ntd->nd", likelihoods, read("class_text")[classes]))
        named = packed["stamps/classes"], packed["stamps/likelihoods"]
        hits.append(both(read("stamps/image"), read("stamps/text"), *named, read("class_text"), table, pictures))
    for which, name in enumerate(("bridge alone", "search")):
        measure(f"float, {name}", hits[0][which], table["group"])
        measure(f"8 bits, {name}", hits[1][which], table["group"], hits[0][which])


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
    compare_bits(rows, packed)
    if chosen.compare:
        compare_grounds(image_tower, rows["stamps/text"], rows["class_text"])
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
