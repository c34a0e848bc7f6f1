"""Pixels of a scene: stamps resized once, blended onto a background, and the exact masks of what stays visible.

The scenes' own workshop: it knows pictures and places, not nouns, captions or parts.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from PIL import Image

from course_utils import stamps

BACKGROUNDS = ("shaded", "plain")  # a gradient without noise; one colour
MARGIN, DOMINANCE = 0.25, 2.0  # centres of related objects: distance along the axis; along against across
DIRECTIONS = 8  # of the gradient
_LEVELS = (95, 165, 235)
_VIVID = np.array([(r, g, b) for r in _LEVELS for g in _LEVELS for b in _LEVELS], dtype=np.float32)  # (27,3)
_HUES = 0.65 * _VIVID + 0.35 * _VIVID.mean(1, keepdims=True)  # softer, so that objects stand out
_SLOPE = 22  # grey levels from the middle of a shaded background to its edges


class Tile(NamedTuple):
    """One object at one size, ready for blending: canvas = colour + canvas * keep // 256."""

    colour: np.ndarray  # (h,w,3) uint16, premultiplied by alpha
    keep: np.ndarray  # (h,w,3) uint16, 256 * (1 - alpha)
    solid: np.ndarray  # (h,w) bool, alpha > 0.5
    contrast: np.ndarray  # (27,) how far each background hue is from the object's mean colour, in grey levels
    hues: int  # bit k: hue k is far enough


@lru_cache(maxsize=1)
def rows() -> dict[str, dict]:
    """Stamp name -> its row of the stamps table (name, picture, noun)."""
    return {row["name"]: row for row in stamps.load()[["name", "picture", "noun"]].to_dict("records")}


@lru_cache(maxsize=1024)
def cut_out(stamp: str) -> Image.Image:
    """The stamp cropped to its mask, in premultiplied alpha: resizing brings in no colour of clear pixels.

    Raises ValueError for a stamp without a mask.
    """
    row = rows()[stamp]
    inside = stamps.mask(row)  # (H,W)
    y, x = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    box = (int(x[0]), int(y[0]), int(x[-1]) + 1, int(y[-1]) + 1)
    return Image.fromarray(stamps.picture(row)).crop(box).convert("RGBa")


@lru_cache(maxsize=4096)
def tile(stamp: str, side: int) -> Tile:
    """The stamp with `side` pixels along its longer side."""
    image = cut_out(stamp)
    scale = side / max(image.size)
    shape = [max(2, round(length * scale)) for length in image.size]
    pixels = np.asarray(image.resize(shape, Image.Resampling.LANCZOS)).astype(np.int32)
    alpha = (pixels[..., 3:] * 256 + 127) // 255  # (h,w,1), 0..256
    colour = np.minimum(pixels[..., :3], pixels[..., 3:])  # resizing may overshoot alpha by a little
    mean = colour.sum((0, 1)) / np.maximum(alpha.sum() / 256, 1)
    contrast = np.abs(_HUES - mean).max(-1)
    hues = sum(1 << int(k) for k in np.flatnonzero(contrast > 70))
    keep = np.repeat(256 - alpha, 3, axis=2)
    return Tile(colour.astype(np.uint16), keep.astype(np.uint16), alpha[..., 0] > 128, contrast, hues)


def hues_apart(tiles: list[Tile]) -> tuple[int, ...]:
    """The background hues that stand apart from all these objects; where none does, the one that comes nearest."""
    common = (1 << len(_HUES)) - 1
    for one in tiles:
        common &= one.hues
    return _bits(common) or (int(np.argmax(np.min([one.contrast for one in tiles], axis=0))),)


@lru_cache(maxsize=4096)
def _bits(number: int) -> tuple[int, ...]:
    return tuple(k for k in range(len(_HUES)) if number >> k & 1)


@lru_cache(maxsize=512)
def _ground(size: int, hue: int, direction: int, background: str) -> np.ndarray:
    """(size,size,3) uint8 background: one colour, or that colour from dark to light in one of eight directions."""
    line = np.linspace(-1, 1, size, dtype=np.float32)
    angle = direction * 2 * np.pi / DIRECTIONS
    slope = (np.cos(angle) * line[None, :] + np.sin(angle) * line[:, None]) * (_SLOPE if background == "shaded" else 0)
    return np.clip(np.round(_HUES[hue] + slope[..., None]), 0, 255).astype(np.uint8)


def paint(canvas: np.ndarray, ground: tuple[int, int], background: str, tiles: list[Tile], places) -> None:
    """Fills canvas (H,W,3) uint8: the ground (hue, direction), then tiles at places (x, y), later ones in front."""
    canvas[...] = _ground(len(canvas), *ground, background)
    for (colour, keep, solid, *_), (x, y) in zip(tiles, places):
        region = canvas[y : y + solid.shape[0], x : x + solid.shape[1]]  # (h,w,3)
        blend = region * keep  # uint16: 255 * 256 still fits
        blend >>= 8
        blend += colour
        region[...] = blend


def visible(size: int, tiles: list[Tile], places) -> np.ndarray:
    """(K,size,size) bool: where each tile is more than half opaque and no later tile that is so lies over it."""
    masks = np.zeros((len(tiles), size, size), dtype=bool)
    for k, (one, (x, y)) in enumerate(zip(tiles, places)):
        region = masks[:, y : y + one.solid.shape[0], x : x + one.solid.shape[1]]
        region[:k] &= ~one.solid
        region[k] = one.solid
    return masks


def place_two(rng, size: int, tiles, axis: int):
    """Corners (x, y) of two tiles, the first left of (axis 0) or above (axis 1) the other by `MARGIN` and `DOMINANCE`.

    Along the axis they overlap by no more than a quarter of the thinner one. `rng()` draws from [0, 1).
    """
    (h0, w0), (h1, w1) = tiles[0].solid.shape, tiles[1].solid.shape
    along, across = ((w0, w1), (h0, h1)) if axis == 0 else ((h0, h1), (w0, w1))
    half = sum(along) / 2
    low = max(MARGIN * size + 1, half - 0.25 * min(along))
    apart = low + rng() * max(size - half - low, 0)
    begin = rng() * (size - half - apart)
    reach = (apart - 1) / DOMINANCE - 1  # how far the centres may differ across; a pixel each for rounding
    start, stop = max(across[0] / 2, across[1] / 2 - reach), min(size - across[0] / 2, size - across[1] / 2 + reach)
    middle = start + rng() * (stop - start)
    start, stop = max(across[1] / 2, middle - reach), min(size - across[1] / 2, middle + reach)
    other = start + rng() * (stop - start)
    u = int(begin), int(begin + apart + (along[0] - along[1]) / 2)
    v = int(middle - across[0] / 2), int(other - across[1] / 2)
    return tuple(zip(u, v)) if axis == 0 else tuple(zip(v, u))


def place_square(rng, size: int, tiles, cells):
    """Corners (x, y) of up to four tiles, each within 0.04 canvas sides of the middle of its cell (column, row)."""
    places = []
    for one, (column, row) in zip(tiles, cells):
        h, w = one.solid.shape
        x = (0.25 + 0.5 * column + (rng() - 0.5) * 0.08) * size - w / 2
        y = (0.25 + 0.5 * row + (rng() - 0.5) * 0.08) * size - h / 2
        places.append((min(max(int(x), 0), size - w), min(max(int(y), 0), size - h)))
    return tuple(places)


def place_one(rng, size: int, tiles):
    """Corner (x, y) of a single tile, anywhere on the canvas."""
    h, w = tiles[0].solid.shape
    return ((int(rng() * (size - w + 1)), int(rng() * (size - h + 1))),)
