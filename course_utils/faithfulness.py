"""Does a map point at what it should? Maps are judged against masks, which say where the object really is."""

from __future__ import annotations

import numpy as np


def pointing_game(saliency, masks) -> np.ndarray:
    """For each map, the chance that its strongest point lies on the object.

    saliency: (N,h,w) maps, larger is stronger. masks: (N,H,W) bool, True on the object. h and w divide H and W: a cell
    stands for its block of pixels, as a patch does. Returns (N,) values in [0, 1]; their mean is the pointing game's
    score. The strongest point may not be unique, and in a cell it never is: then the value is the expectation over
    random tie breaking. So a flat map scores exactly the object's share of the picture. Source: Zhang et al. 2018
    (Top-down neural attention by excitation backprop), section 4.2.

    Raises ValueError for maps that are not finite, sizes that do not fit, masks that are not bool, or an empty mask.
    """
    saliency, masks = np.asarray(saliency, dtype=np.float64), np.asarray(masks)
    if saliency.ndim != 3 or masks.ndim != 3 or len(saliency) != len(masks) or 0 in saliency.shape:
        raise ValueError(f"pointing_game: saliency {saliency.shape}, masks {masks.shape}; (N,h,w) and (N,H,W), please.")
    (n, h, w), (height, width) = saliency.shape, masks.shape[1:]
    if height % h or width % w:
        raise ValueError(f"pointing_game: {height}x{width} pixels do not divide into {h}x{w} cells.")
    if masks.dtype != bool:
        raise ValueError(f"pointing_game: masks must be bool, True on the object; got {masks.dtype}.")
    if not np.isfinite(saliency).all():
        raise ValueError("pointing_game: a map holds NaN or infinity, so it has no strongest point.")
    empty = np.flatnonzero(~masks.any(axis=(1, 2)))
    if len(empty):
        raise ValueError(f"pointing_game: mask {empty[0]} is empty; leave out what is not in the picture.")
    cells = masks.reshape(n, h, height // h, w, width // w).mean(axis=(2, 4))  # (N,h,w) covered share of each cell
    strongest = saliency == saliency.max(axis=(1, 2), keepdims=True)  # (N,h,w), several where they tie
    return (strongest * cells).sum(axis=(1, 2)) / strongest.sum(axis=(1, 2))
