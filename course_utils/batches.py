"""Pairs of pictures and captions as batch dictionaries: the one form in which data reach a model.

A batch holds images (B,3,H,W) float in [0, 1]; tokens and token_mask (B,L); image_ids (B,), equal where two pairs show
the same picture.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from course_utils import text
from course_utils.scenes import Scenes


class ScenePairs:
    """The first `count` scenes with their full captions, drawn once and kept in memory as bytes.

    scenes: a `Scenes`. tokenizer: from `text.word_tokenizer`. 12,000 scenes of 64 pixels take 150 MB. `images` is
    (N,3,H,W) uint8, `tokens` (N,L), `twins` (N,) the index of each scene's twin, or -1 where it is not among them.
    """

    def __init__(self, scenes: Scenes, count: int, tokenizer):
        if count < 1:
            raise ValueError(f"ScenePairs: count={count}; at least one scene is needed.")
        pictures = torch.from_numpy(scenes.images(range(count)))  # (N,H,W,3) uint8
        self.images = pictures.permute(0, 3, 1, 2)  # (N,3,H,W), still channels last in memory: what the CPU likes
        self.tokens = text.encode(tokenizer, scenes.captions(range(count)))[0]  # (N,L)
        self.twins = twins(scenes, count)  # (N,)

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, indices) -> dict[str, torch.Tensor]:
        """The batch dictionary of these scenes. Padding ends at the batch's longest caption."""
        indices = torch.as_tensor(np.asarray(indices))
        tokens = self.tokens[indices]  # (B,L)
        tokens = tokens[:, : int((tokens != 0).sum(dim=1).max())]  # without columns that are padding in every row
        images = self.images[indices].float() / 255  # (B,3,H,W)
        return {"images": images, "tokens": tokens, "token_mask": tokens != 0, "image_ids": indices}


def twins(scenes: Scenes, count: int) -> np.ndarray:
    """For each of the first `count` scenes, which of them shows the same objects and sizes with the relation reversed.

    Returns (count,) indices, -1 where the twin is not among them. A twin's own caption is this scene's false one.
    """
    index = {}
    for k in (0, 1):  # the same claim told from either end
        index |= {caption: i for i, caption in enumerate(scenes.captions(range(count), k))}
    return np.array([index.get(foil, -1) for foil in scenes.foils(range(count), "relation")])


def shuffled(
    pairs: ScenePairs, batch_size: int, steps: int, seed: int, with_twins: bool = False
) -> Iterator[dict[str, torch.Tensor]]:
    """`steps` batches of pairs in random order, as many rounds through them as it takes.

    The order depends on `seed` alone. No pair comes twice in a round; what is left of it and fills no batch is dropped.
    with_twins=True puts the twins of a batch's first half in the place of its second half, wherever there is a twin; a
    pair may then meet itself, which its image id tells the loss. Raises ValueError, at the first batch, where one batch
    needs more pairs than there are or holds none.
    """
    if not 1 <= batch_size <= len(pairs):
        raise ValueError(f"shuffled: batch_size={batch_size} is outside 1..{len(pairs)} pairs; or draw more scenes.")
    rng = np.random.default_rng(seed)
    order = np.empty(0, dtype=np.int64)
    for _ in range(steps):
        if len(order) < batch_size:
            order = rng.permutation(len(pairs))
        chosen, order = order[:batch_size], order[batch_size:]
        if with_twins:
            first, second = chosen[: batch_size // 2], chosen[batch_size // 2 :]
            found = pairs.twins[first]  # (B // 2,)
            second[: len(found)] = np.where(found >= 0, found, second[: len(found)])
            chosen = np.concatenate([first, second])
        yield pairs.batch(chosen)
