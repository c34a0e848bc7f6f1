"""Training views of decoded pictures: a random crop, a random flip, and numbers as a network wants them.

Two things make it fast: the pictures were decoded once, when they were prepared, and memory is asked for once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's pictures, as the usual weights expect


class Crops:
    """Random views of squares (N,R,R,3) uint8, in memory or mapped from disk, such as `Flickr30k(...).pixels`.

    batch: the largest number of rows that is asked for at once. size: side S of a view, at most R. mean, std: of a
    channel, on the scale 0 to 1. A batch lies in this object's own memory and is overwritten by the next one: move it
    to the device, or clone what is to be kept. (A fresh batch of floats would cost more than all the rest: the system
    has to clear 600 kB of new memory for each picture.) Raises ValueError for squares of another kind or size.
    """

    def __init__(self, squares: np.ndarray, batch: int, size: int = 224, mean: Sequence = MEAN, std: Sequence = STD):
        if squares.ndim != 4 or squares.shape[1] != squares.shape[2] or squares.shape[3] != 3:
            raise ValueError(f"Crops: squares must be (N,R,R,3); got {squares.shape}.")
        if squares.dtype != np.uint8 or not 1 <= size <= squares.shape[1] or batch < 1:
            raise ValueError(
                f"Crops: {squares.dtype} squares of side {squares.shape[1]} cannot give {batch} views of side {size}; "
                "they must be uint8, and a view no larger than they are."
            )
        if squares.strides[3] != 1:
            raise ValueError("Crops: the colours of a pixel do not lie together; pass np.ascontiguousarray(squares).")
        self.size = size
        self._squares = squares.view("V3")[..., 0]  # (N,R,R): a pixel is copied as one thing, not as three
        self._bytes = np.empty((batch, size, size, 3), np.uint8)
        self._floats = torch.empty(batch, size, size, 3)
        std = torch.tensor(std, dtype=torch.float32)
        self._scale = (1 / (255 * std)).repeat(size)  # (S*3,): a row of pixels, red, green, blue, red, ...
        self._shift = (-torch.tensor(mean, dtype=torch.float32) / std).repeat(size)

    def bytes(self, rows: np.ndarray, rng: np.random.Generator) -> torch.Tensor:
        """Views of these rows (B,3,S,S) uint8, channels last in memory; each place and each flip equally likely.

        Raises ValueError for more rows than a batch holds.
        """
        count, size = len(rows), self.size
        if count > len(self._bytes):
            raise ValueError(f"Crops: {count} rows, but built for at most {len(self._bytes)}.")
        places = rng.integers(0, self._squares.shape[1] - size + 1, (count, 2))  # top, left
        flips = rng.random(count) < 0.5
        views = self._bytes[:count].view("V3")[..., 0]  # (B,S,S)
        for view, row, (top, left), flip in zip(views, rows, places, flips):
            crop = self._squares[row, top : top + size, left : left + size]
            view[:] = crop[:, ::-1] if flip else crop
        return torch.from_numpy(self._bytes[:count]).permute(0, 3, 1, 2)  # (B,S,S,3) -> (B,3,S,S)

    def floats(self, rows: np.ndarray, rng: np.random.Generator) -> torch.Tensor:
        """The same views scaled, (B,3,S,S) float32, channels last in memory: (pixel / 255 - mean) / std."""
        whole = self.bytes(rows, rng).permute(0, 2, 3, 1)  # (B,S,S,3)
        floats = self._floats[: len(rows)]
        flat = floats.view(len(rows), self.size, -1)  # (B,S,S*3): long rows, so that the scaling is one sweep
        flat.copy_(whole.reshape(flat.shape))
        torch.addcmul(self._shift, flat, self._scale, out=flat)
        return floats.permute(0, 3, 1, 2)  # (B,S,S,3) -> (B,3,S,S)
