"""A retriever judged on a whole split: every picture and caption encoded once, ranked in both directions."""

from __future__ import annotations

import numpy as np
import torch

from course_utils import metrics

DIRECTIONS = ("image_to_text", "text_to_image")


@torch.no_grad()
def encode(model, feed, batch_size: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    """All pictures and captions of a `captioned.Feed` -> z_img (N,E), z_txt (M,E), unit rows in fp32 on the CPU.

    Pictures are cut from the middle, none is mirrored; captions of like length are encoded together. model: has
    encode_image and encode_text, as `models.DualEncoder`; it is called in the mode in which it is.
    """
    if batch_size < 1:
        raise ValueError(f"encode: batch_size={batch_size}; at least one picture at a time.")
    device = next(model.parameters()).device
    z_img = [model.encode_image(feed.images(range(i, min(i + batch_size, len(feed)))).to(device)).float().cpu()
             for i in range(0, len(feed), batch_size)]  # fmt: skip
    order, z_txt = np.argsort(feed.lengths, kind="stable"), None
    for i in range(0, len(order), batch_size):
        rows = order[i : i + batch_size]
        longest = int(feed.lengths[rows].max())
        tokens = torch.from_numpy(feed.tokens[rows, :longest].astype(np.int64))  # (B,L)
        token_mask = torch.arange(longest) < torch.from_numpy(feed.lengths[rows])[:, None]  # (B,L)
        encoded = model.encode_text(tokens.to(device), token_mask.to(device)).float().cpu()  # (B,E)
        z_txt = torch.empty(len(order), encoded.shape[1]) if z_txt is None else z_txt
        z_txt[torch.from_numpy(rows)] = encoded
    return torch.cat(z_img), z_txt


def hits(z_img, z_txt, owners, k: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Per direction: (hits, pictures): for each query its chance of a right answer among the first k, and its picture.

    owners: (M,) the row of each caption's picture. image_to_text has N queries, text_to_image M. What to average, and
    by which groups to draw, for `metrics.bootstrap_interval`.
    """
    owners = np.asarray(owners)
    scores = (z_img @ z_txt.T).numpy()  # (N,E) @ (E,M) -> (N,M)
    right = np.arange(len(scores))[:, None] == owners  # (N,M)
    return {
        "image_to_text": (metrics.recall_at_k(scores, right, min(k, len(owners))), np.arange(len(scores))),
        "text_to_image": (metrics.recall_at_k(scores.T, owners, min(k, len(scores))), owners),
    }


def recalls(z_img, z_txt, owners, ks: tuple[int, ...] = (1, 5, 10)) -> dict[str, float]:
    """Recall at each k in both directions, and their mean: {"image_to_text/recall_at_1": ..., "mean_recall": ...}."""
    found = {f"{direction}/recall_at_{k}": float(values.mean())
             for k in ks for direction, (values, _) in hits(z_img, z_txt, owners, k).items()}  # fmt: skip
    return found | {"mean_recall": float(np.mean(list(found.values())))}


def facts(z_img, z_txt, owners, ks: tuple[int, ...] = (1, 5, 10)) -> list[dict]:
    """The same as records: name, value, 95 % interval drawn by picture, and what chance would give."""
    owners = np.asarray(owners)
    scores = np.zeros((len(z_img), len(owners)))  # a scorer that knows nothing: the expectation under ties is chance
    right = np.arange(len(z_img))[:, None] == owners
    found = []
    for k in ks:
        chance = {
            "image_to_text": metrics.recall_at_k(scores, right, min(k, len(owners))).mean(),
            "text_to_image": metrics.recall_at_k(scores.T, owners, min(k, len(z_img))).mean(),
        }
        for direction, (values, groups) in hits(z_img, z_txt, owners, k).items():
            low, high = metrics.bootstrap_interval(values, groups)
            found.append({"name": f"{direction}/recall_at_{k}", "value": float(values.mean()),
                          "interval": [low, high], "chance": float(chance[direction])})  # fmt: skip
    return found
