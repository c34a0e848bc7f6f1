"""What the checks of lesson 05 try answers on: a caption file, and splits of captions, sound and broken."""

from __future__ import annotations

import re

import numpy as np


def a_caption_file() -> dict:
    """A caption file: splits interleaved, names unsorted, 5, 6 or 3 captions a picture, imgid no row."""
    images = []
    for k, (name, count) in enumerate({"pig": 5, "owl": 5, "cat": 5, "bus": 6, "mug": 3, "ant": 3, "fox": 6}.items()):
        raws, numbers_of = [f"{letter}, a big {name}." for letter in "ZYXWVU"[:count]], range(9 * k, 9 * k + count)
        said = [
            {"tokens": re.findall("[a-z]+", raw.lower()), "raw": raw, "sentid": number}
            for raw, number in zip(raws, numbers_of)
        ]
        entry = {"filename": f"{name}.jpg", "imgid": 90 - 7 * k, "split": ("train", "test", "val")[k % 3]}
        images.append(entry | {"sentids": list(numbers_of), "sentences": said})
    return {"dataset": "flickr30k", "images": images}


def a_split(kind: str, owners, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A split of captions, sound or broken as `kind` says. With two pictures or more a sound one has no empty side."""
    owners, rng, many = np.asarray(owners), np.random.default_rng(seed), len(owners)
    groups = {"permutes": np.arange(many), "takes": np.arange(many) // 5}.get(kind.split()[0], owners)
    ids = rng.permutation(np.unique(groups))
    test = np.isin(groups, ids[: min(max(1, round(share * len(ids))), len(ids) - 1)])  # (M,)
    hashed, new = (owners * 7919 + seed * 104729) % 1009 < share * 1009, np.append(True, np.diff(owners) != 0)  # (M,)
    shared = np.isin(owners, owners[~new])  # (M,) whose picture has several captions
    test = hashed if "about" in kind and 0 < hashed.sum() < many else test
    if "cuts" in kind:  # where the slice happens to end; always inside a picture if they have unequal many captions
        cut, unequal = int((1 - share) * many), len({*np.unique(owners, return_counts=True)[1].tolist()}) > 1
        test = np.arange(many) >= cut + (unequal and 0 < cut < many and new[cut])
    test = new & shared if "holds" in kind else test & ("empty" not in kind)
    test[np.flatnonzero(shared)[: "leaks" in kind]] ^= True
    train, test = np.flatnonzero(~test), np.flatnonzero(test)
    train = np.arange(many) if "keeps" in kind else train
    if "loses" in kind:
        return train[new[train]], test[new[test]]
    return (rng.permutation(train), rng.permutation(test)) if "order" in kind else (train, test)
