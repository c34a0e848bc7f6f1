"""Batches for training from a uint8 cache of pictures: each picture once, with one or all of its captions.

Batch number i depends on (seed, i) alone: its pictures, crops, flips and captions. So a training that stopped goes on
with the very batch that was next, and several processes share a batch without speaking to each other.

A batch holds images (P,3,H,W) float in [0, 1]; tokens and token_mask (B,L); image_ids (B,), equal where two captions
tell of one picture; owners (B,), the row of each caption's picture, never falling. B = P x captions.
"""

from __future__ import annotations

import hashlib
import numbers
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

# A mirror turns left into right. English captions that hold one of these words keep their picture as it is.
SIDES = re.compile(r"\b(left|right)(most|wards?|hand|handed|side)?\b", re.IGNORECASE)
_BLOCK = 10_000  # captions tokenised at once


class Feed:
    """One split of a set, ready to become batches.

    pictures: has pixels (N,S,S,3) uint8 (a memory map will do), image_ids (N,), texts (M captions, picture by picture)
    and owners (M,), as `flickr30k.Flickr30k` has. tokenize: sentences -> (tokens, token_mask), each (n,L), as
    `text.encode` or a text tower's `preprocess`; called once for every caption. size: side of the images. Where it goes
    into S more than once, squares of pixels are averaged: size 64 of S = 224 takes crops of 192, each 3 x 3 one pixel.
    captions: how many of a picture's captions go into a batch with it, drawn at random where it has more.
    flip: mirror half of the pictures; never one beside a caption that names a side (`SIDES`, English words: pass
    flip=False for captions in other languages or pictures with writing).

    Raises ValueError for a size above S, where a picture has fewer captions than wanted, and for owners that do not say
    for each caption, picture by picture, which is its row: a shuffled list would pair captions with wrong pictures.
    """

    def __init__(self, pictures, tokenize: Callable, size: int = 224, captions: int = 1, flip: bool = True):
        self.pictures, self.size, self.captions, self.flip = pictures, size, captions, flip
        side = pictures.pixels.shape[1]
        if not isinstance(size, numbers.Integral) or not isinstance(captions, numbers.Integral):
            raise ValueError(f"Feed: size={size!r} and captions={captions!r} must be whole numbers.")
        if pictures.pixels.dtype != np.uint8:
            raise ValueError(
                f"Feed: pixels must be uint8, 0 to 255; got {pictures.pixels.dtype}, which would turn black."
            )
        if not 1 <= size <= side:
            raise ValueError(f"Feed: size={size} is outside 1..{side}, the side of the pixels; prepare larger ones.")
        self.factor = side // size  # pixels averaged in each direction
        self.owners = np.asarray(pictures.owners)  # (M,)
        many = len(pictures.image_ids), len(pictures.texts)
        if many[0] == 0 or self.owners.shape != many[1:] or (np.diff(self.owners) < 0).any():
            raise ValueError(
                f"Feed: owners {self.owners.shape} must name the row of each of {many[1]} captions' pictures, "
                f"0 to {many[0] - 1}, and never fall: sort captions by picture."
            )
        self.first = np.searchsorted(self.owners, np.arange(len(pictures.image_ids)))  # (N,) a picture's first caption
        self.counts = np.bincount(self.owners, minlength=len(self.first))  # (N,)
        if not 1 <= captions <= self.counts.min():
            raise ValueError(
                f"Feed: captions={captions}, but picture {int(self.counts.argmin())} has {self.counts.min()}; "
                + (f"use 1 to {self.counts.min()}." if self.counts.min() else "leave it out.")
            )
        self.names_a_side = np.array([bool(SIDES.search(caption)) for caption in pictures.texts])  # (M,)
        self.tokens, self.lengths = _tokenised(pictures.texts, tokenize)  # (M,L) int32, (M,)

    def __len__(self) -> int:
        return len(self.first)

    def batches(self, batch_size: int, steps: int, seed: int, share: tuple[int, int] = (0, 1)) -> Batches:
        """`steps` batches of `batch_size` pictures in random order, as many rounds through the set as it takes.

        No picture comes twice in a round; what is left of it and fills no batch is dropped. share: (rank, processes);
        each process gets its part of every batch, and all parts together are the batch of one process. Raises
        ValueError where a batch needs more pictures than there are or does not divide among the processes.
        """
        if not all(isinstance(one, numbers.Integral) and one >= 0 for one in (batch_size, steps, seed)):
            raise ValueError(
                f"Feed: batch_size={batch_size!r}, steps={steps!r} and seed={seed!r} must be whole numbers, 0 or more."
            )
        if not 0 <= share[0] < share[1]:
            raise ValueError(f"Feed: share={share} is (rank, processes), with 0 <= rank < processes.")
        if not 1 <= batch_size <= len(self) or batch_size % share[1]:
            raise ValueError(
                f"Feed: batch_size={batch_size} must lie in 1..{len(self)} and divide among {share[1]} processes."
            )
        return Batches(self, batch_size, steps, seed, share)

    def batch(self, rows, captions, corners=None, mirrored=None) -> dict[str, torch.Tensor]:
        """The batch dictionary of pictures `rows` (P,) with captions (P,K), numbers of `texts`.

        corners: (P,2) top and left of each crop; None cuts from the middle. mirrored: (P,) bool; None mirrors none.
        """
        images = self.images(rows, corners, mirrored)
        captions = np.asarray(captions)
        chosen = captions.ravel()
        longest = int(self.lengths[chosen].max())  # no column that is padding in every row
        tokens = torch.from_numpy(self.tokens[chosen, :longest].astype(np.int64))  # (B,L)
        return {
            "images": images,
            "tokens": tokens,
            "token_mask": torch.arange(longest) < torch.from_numpy(self.lengths[chosen])[:, None],
            "image_ids": torch.from_numpy(np.repeat(np.asarray(self.pictures.image_ids)[rows], captions.shape[1])),
            "owners": torch.arange(len(rows)).repeat_interleave(captions.shape[1]),
        }

    def images(self, rows, corners=None, mirrored=None) -> torch.Tensor:
        """Pictures (P,3,H,W) float in [0, 1]; arguments as in `batch`."""
        size, factor, pixels = self.size, self.factor, self.pictures.pixels
        if corners is None:
            corners = np.full((len(rows), 2), self.slack // 2)
        out = np.empty((len(rows), size, size, 3), np.uint8 if factor == 1 else np.float32)
        for k, (row, (top, left)) in enumerate(zip(rows, corners)):
            crop = pixels[row, top : top + size * factor, left : left + size * factor]
            if factor > 1:
                crop = crop.reshape(size, factor, size, factor, 3).mean(axis=(1, 3), dtype=np.float32)
            out[k] = crop[:, ::-1] if mirrored is not None and mirrored[k] else crop
        return torch.from_numpy(out).permute(0, 3, 1, 2).float() / 255  # (P,3,H,W), channels last in memory

    @property
    def slack(self) -> int:
        """By how many pixels a crop can move."""
        return self.pictures.pixels.shape[1] - self.size * self.factor


@dataclass(frozen=True)
class Batches:
    """A series of batches, made by `Feed.batches`. `skip(n)` leaves out the first n without making them."""

    feed: Feed
    batch_size: int
    steps: int
    seed: int
    share: tuple[int, int]
    begin: int = 0

    @property
    def about(self) -> dict:
        """What decides the series, for a checkpoint to compare."""
        feed = self.feed
        about = {"pictures": len(feed), "size": feed.size, "captions": feed.captions, "flip": feed.flip}
        said = "\n".join([*map(str, feed.pictures.image_ids), *feed.pictures.texts])
        digest = hashlib.sha256(said.encode("utf-8", "surrogatepass")).hexdigest()[:12]  # not of the pixels: 6 GB
        return about | {"texts": digest, "batch_size": self.batch_size, "seed": self.seed}

    def skip(self, count: int) -> Batches:
        """The same series without its first `count` batches. Raises ValueError below 0."""
        if count < 0:
            raise ValueError(f"skip: count={count}; a series begins with its first batch.")
        return replace(self, begin=self.begin + count)

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        rounds, order = len(self.feed) // self.batch_size, None  # batches in a round
        for number in range(self.begin, self.steps):
            if order is None or number % rounds == 0:
                order = np.random.default_rng([self.seed, number // rounds]).permutation(len(self.feed))
            start = number % rounds * self.batch_size
            yield self._batch(order[start : start + self.batch_size], number)

    def _batch(self, rows, number: int) -> dict[str, torch.Tensor]:
        """What is drawn is drawn for all processes; each makes its part."""
        feed, count = self.feed, len(rows)
        rng = np.random.default_rng([self.seed, number, 1])
        # The first K of each picture's captions in an order of their own: (P,most) keys, those beyond its last one out.
        keys = rng.random((count, feed.counts.max()))
        keys[np.arange(keys.shape[1]) >= feed.counts[rows][:, None]] = np.inf
        chosen = feed.first[rows][:, None] + np.sort(keys.argsort(axis=1)[:, : feed.captions], axis=1)  # (P,K)
        corners = rng.integers(0, feed.slack + 1, (count, 2))
        mirrored = (rng.random(count) < 0.5) & feed.flip & ~feed.names_a_side[chosen].any(axis=1)
        each = count // self.share[1]
        mine = slice(self.share[0] * each, (self.share[0] + 1) * each)
        return feed.batch(rows[mine], chosen[mine], corners[mine], mirrored[mine])


def _tokenised(texts, tokenize) -> tuple[np.ndarray, np.ndarray]:
    """All captions as one table (M,L) int32 and their lengths (M,)."""
    blocks = [tokenize(list(texts[i : i + _BLOCK])) for i in range(0, len(texts), _BLOCK)]
    longest = max(tokens.shape[1] for tokens, _ in blocks)
    table, lengths = np.zeros((len(texts), longest), np.int32), []
    for i, (tokens, token_mask) in enumerate(blocks):
        table[i * _BLOCK : i * _BLOCK + len(tokens), : tokens.shape[1]] = tokens.cpu().numpy()
        lengths.append(token_mask.sum(dim=1).cpu().numpy())
    return table, np.concatenate(lengths)
