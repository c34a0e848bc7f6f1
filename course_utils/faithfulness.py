"""Does a map point at what it should? Maps are judged against masks, which say where the object really is.

Each measure gives one number a map, so that `metrics.bootstrap_interval` can put an interval around their mean. Maps
may be coarser than masks, as a layer's are: a cell stands for its block of pixels.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable

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
    saliency, cells = _covered(saliency, masks, "pointing_game")
    strongest = saliency == saliency.max(axis=(1, 2), keepdims=True)  # (N,h,w), several where they tie
    return (strongest * cells).sum(axis=(1, 2)) / strongest.sum(axis=(1, 2))


def energy_inside(saliency, masks) -> np.ndarray:
    """For each map, the share of its total that lies on the object: (N,h,w), (N,H,W) bool -> (N,) in [0, 1].

    A flat map, also one of zeros, scores the object's share of the picture. Maps must not be negative: decide first
    what a negative value means, and pass maps.clip(min=0) or abs(maps). Source: Wang et al. 2020 (Score-CAM), section
    4.4.

    Raises ValueError as `pointing_game` does, and for negative values.
    """
    saliency, cells = _covered(saliency, masks, "energy_inside")
    if (saliency < 0).any():
        raise ValueError("energy_inside: a map has negative values; pass maps.clip(min=0) or abs(maps).")
    flat = saliency.max(axis=(1, 2), keepdims=True) == 0  # (N,1,1)
    saliency = np.where(flat, 1.0, saliency)
    return (saliency * cells).sum(axis=(1, 2)) / saliency.sum(axis=(1, 2))


def iou_at(saliency, masks, threshold: float = 0.5) -> np.ndarray:
    """For each map, overlap with the object over union, after cutting at a share of its largest value -> (N,).

    saliency (N,h,w), masks (N,H,W) bool. The map's region is where it reaches threshold * its maximum; the choice of
    threshold decides a lot, so report it, or the best one, chosen on other pictures. A map without a positive value has
    no region, and overlaps nothing.

    Raises ValueError as `pointing_game` does, and for a threshold outside (0, 1].
    """
    saliency, cells = _covered(saliency, masks, "iou_at")
    if not 0 < threshold <= 1:
        raise ValueError(f"iou_at: threshold={threshold} is a share of the largest value; 0 < threshold <= 1, please.")
    largest = saliency.max(axis=(1, 2), keepdims=True)  # (N,1,1)
    region = (saliency >= threshold * largest) & (largest > 0)  # (N,h,w)
    overlap = (region * cells).sum(axis=(1, 2))  # in cells, parts of which an object may cover
    return overlap / (region.sum(axis=(1, 2)) + cells.sum(axis=(1, 2)) - overlap)


def deletion(value: Callable, saliency, size: tuple[int, int], steps: int = 16, seed: int = 0) -> np.ndarray:
    """Scores while a picture is taken away, most important cells first -> (steps + 1,), from all of it to nothing.

    value: kept (S,H,W) bool, True where a pixel stays -> (S,) scores; it decides what stands where a pixel is gone (see
    `absence`). saliency: (h,w), one map; size: (H,W) of the picture. Cells that tie go in an order drawn from `seed`.
    A good map makes the curve fall early, so a small mean is good; compare with a random map's, since covering a
    picture costs score wherever one begins. Source: Petsiuk et al. 2018 (RISE), section 4.2.

    Raises ValueError for maps that are not finite, sizes that do not fit, scores that are not finite, or more steps
    than cells.
    """
    return _scores(value, ~_first_cells(saliency, size, steps, seed, "deletion"), "deletion")


def insertion(value: Callable, saliency, size: tuple[int, int], steps: int = 16, seed: int = 0) -> np.ndarray:
    """Scores while a picture comes back, most important cells first -> (steps + 1,), from nothing to all of it.

    Arguments, errors and source as in `deletion`. A good map makes the curve rise early: a large mean is good.
    """
    return _scores(value, _first_cells(saliency, size, steps, seed, "insertion"), "insertion")


def random_maps(count: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """Maps that know nothing: (count,h,w), every cell drawn evenly from [0, 1). The control for every measure here."""
    return np.random.default_rng(seed).random((count, height, width))


def centre_prior(height: int, width: int) -> np.ndarray:
    """The map of somebody who bets on the middle: (h,w), a Gaussian with a deviation of a quarter of each side.

    Objects in photographs stand in the middle more often than not, so a map must beat this one to have seen anything.
    """
    y, x = (np.arange(height) + 0.5) / height - 0.5, (np.arange(width) + 0.5) / width - 0.5
    return np.exp(-8 * (y[:, None] ** 2 + x[None, :] ** 2))


def _covered(saliency, masks, who: str):
    """Maps (N,h,w) as fp64, and the share of each of their cells that the object covers, (N,h,w)."""
    saliency, masks = np.asarray(saliency, dtype=np.float64), np.asarray(masks)
    if saliency.ndim != 3 or masks.ndim != 3 or len(saliency) != len(masks) or 0 in saliency.shape:
        raise ValueError(f"{who}: saliency {saliency.shape}, masks {masks.shape}; (N,h,w) and (N,H,W), please.")
    (n, h, w), (height, width) = saliency.shape, masks.shape[1:]
    if height % h or width % w:
        raise ValueError(f"{who}: {height}x{width} pixels do not divide into {h}x{w} cells.")
    if masks.dtype != bool:
        raise ValueError(f"{who}: masks must be bool, True on the object; got {masks.dtype}.")
    if not np.isfinite(saliency).all():
        raise ValueError(f"{who}: a map holds NaN or infinity, so it has no strongest point.")
    empty = np.flatnonzero(~masks.any(axis=(1, 2)))
    if len(empty):
        raise ValueError(f"{who}: mask {empty[0]} is empty; leave out what is not in the picture.")
    return saliency, masks.reshape(n, h, height // h, w, width // w).mean(axis=(2, 4))


def _first_cells(saliency, size, steps: int, seed: int, who: str) -> np.ndarray:
    """(steps+1,H,W) bool: the pixels of the most important 0, 1/steps, ..., all of the cells."""
    saliency = np.asarray(saliency, dtype=np.float64)
    if saliency.ndim != 2 or 0 in saliency.shape or min(size) < 1 or any(np.mod(size, saliency.shape)):
        raise ValueError(f"{who}: a picture of {size[0]}x{size[1]} pixels does not divide into cells {saliency.shape}.")
    if not np.isfinite(saliency).all():
        raise ValueError(f"{who}: the map holds NaN or infinity, so its cells have no order.")
    if not isinstance(steps, numbers.Integral) or not 1 <= steps <= saliency.size:
        raise ValueError(f"{who}: steps={steps} for {saliency.size} cells; a step takes one cell or more.")
    ties = np.random.default_rng(seed).permutation(saliency.size)
    place = np.empty(saliency.size, dtype=int)
    place[np.lexsort((ties, -saliency.ravel()))] = np.arange(saliency.size)  # 0 for the most important cell
    counts = np.linspace(0, saliency.size, steps + 1).round()
    first = (place < counts[:, None]).reshape(-1, *saliency.shape)  # (steps+1,h,w)
    return first.repeat(size[0] // saliency.shape[0], axis=1).repeat(size[1] // saliency.shape[1], axis=2)


def _scores(value: Callable, kept, who: str) -> np.ndarray:
    scores = np.asarray(value(kept), dtype=np.float64)
    if scores.shape != (len(kept),):
        raise ValueError(f"{who}: value must give (S,) scores for kept (S,H,W); got {scores.shape} for {kept.shape}.")
    if not np.isfinite(scores).all():
        raise ValueError(f"{who}: a score is NaN or infinite.")
    return scores
