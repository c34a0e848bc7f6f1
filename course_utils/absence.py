"""What "absent" means: pictures with parts taken away and sentences with words taken away.

Occlusion, deletion curves and Shapley values all ask what a score would be without something. A picture cannot be
without a part and a sentence not always without a word, so something else must stand there: a choice that changes the
answer. Here it is always an argument.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F

STAND_INS = ("grey", "mean", "blur")


def stand_in(images, kind: str = "grey"):
    """What is seen where a part is absent: images (B,3,H,W) in [0, 1] -> pictures of the same shape.

    kind: "grey" is 0.5 everywhere; "mean" each picture's own mean colour; "blur" the picture blurred by a Gaussian with
    a deviation of an eighth of its shorter side. A fourth choice, a background, is a picture of your own: make sure
    that it does not show what you ask about. Raises ValueError for another kind or shape.
    """
    if not images.is_floating_point():
        raise ValueError(f"stand_in: images must be floats in [0, 1]; got {images.dtype}. Divide bytes by 255.")
    if images.ndim != 4 or kind not in STAND_INS:
        raise ValueError(f"stand_in: images {tuple(images.shape)} must be (B,3,H,W), and {kind!r} one of {STAND_INS}.")
    if kind == "grey":
        return torch.full_like(images, 0.5)
    if kind == "mean":
        return images.mean(dim=(2, 3), keepdim=True).expand_as(images)  # (B,3,1,1) -> (B,3,H,W)
    return _blurred(images, deviation=min(images.shape[2:]) / 8)


def grid_regions(height: int, width: int, rows: int, columns: int) -> np.ndarray:
    """(H,W) integers: which of rows x columns rectangles a pixel lies in, counted like words on a page.

    Sides differ by one pixel where the picture does not divide evenly. Raises ValueError for more rows or columns than
    pixels.
    """
    if not (1 <= rows <= height and 1 <= columns <= width):
        raise ValueError(f"grid_regions: {height}x{width} pixels do not make {rows}x{columns} rectangles.")
    y, x = np.arange(height) * rows // height, np.arange(width) * columns // width
    return y[:, None] * columns + x[None, :]  # (H,1), (1,W) -> (H,W)


def kept_pixels(regions, present) -> np.ndarray:
    """Which pixels stay: regions (H,W) integers, -1 for pixels that always stay, present (S,n) bool -> (S,H,W) bool.

    Row s of `present` says which of the regions 0 to n - 1 are there. Raises ValueError for a region without a column.
    """
    regions, present = np.asarray(regions), _present(present, "kept_pixels")
    if regions.ndim != 2 or not np.issubdtype(regions.dtype, np.integer):
        raise ValueError(f"kept_pixels: regions must be (H,W) integers; got {regions.shape} of {regions.dtype}.")
    if regions.min() < -1 or regions.max() >= present.shape[1]:
        raise ValueError(f"kept_pixels: regions {regions.min()} to {regions.max()} for {present.shape[1]} players.")
    always = np.ones((len(present), 1), dtype=bool)
    return np.concatenate([present, always], axis=1)[:, regions]  # index -1 is the last column


def hide_pixels(image, kept, instead):
    """One picture (3,H,W) with all but some pixels replaced, once for each row of kept (S,H,W) bool -> (S,3,H,W).

    instead: (3,H,W), what is seen where a pixel is not kept, such as `stand_in(image[None])[0]`. Raises ValueError for
    masks or pictures of another size.
    """
    kept = torch.as_tensor(np.asarray(kept), device=image.device)
    if image.ndim != 3 or image.shape != instead.shape or kept.ndim != 3 or kept.shape[1:] != image.shape[1:]:
        sizes = f"image {tuple(image.shape)}, kept {tuple(kept.shape)}, instead {tuple(instead.shape)}"
        raise ValueError(f"hide_pixels: {sizes}; (3,H,W), (S,H,W) and (3,H,W) of one size, please.")
    if kept.dtype != torch.bool:
        raise ValueError(f"hide_pixels: kept must be bool, True where a pixel stays; got {kept.dtype}.")
    return torch.where(kept[:, None], image, instead)  # (S,1,H,W), (3,H,W), (3,H,W) -> (S,3,H,W)


def hide_words(tokens, token_mask, players, present, token, drop: bool = False):
    """One sentence with some words taken away, once for each row of present (S,n) -> tokens, token_mask (S,L').

    tokens, token_mask: (L,). players: (L,) the player each token belongs to, since a word may have several; -1 for
    tokens that always stay, such as [CLS]. token: the id that stands where a word is absent, such as [MASK] or the
    unknown word; or (L,) ids, one a place, such as those of a sentence that says the opposite. drop=True removes absent
    words instead, and those behind them move up; where no word is left, `token`, then one id, stands alone, since a
    text tower cannot read nothing. Raises ValueError for a sentence of padding only, or shapes and players that do not
    fit.
    """
    players, present, token = torch.as_tensor(players), _present(present, "hide_words"), torch.as_tensor(token)
    if tokens.ndim != 1 or not tokens.shape == token_mask.shape == players.shape:
        sizes = f"tokens {tuple(tokens.shape)}, token_mask {tuple(token_mask.shape)}, players {tuple(players.shape)}"
        raise ValueError(f"hide_words: {sizes}; (L,) each, one sentence at a time, please.")
    if token.shape not in ((), tokens.shape) or (drop and token.ndim):
        raise ValueError(
            f"hide_words: token must be one id, or {tuple(tokens.shape)} of them where nothing is dropped."
        )
    if not token_mask.any():
        raise ValueError("hide_words: the sentence is padding only, so there is no word to take away.")
    players = torch.where(token_mask, players.to(tokens.device), -1)
    if players.min() < -1 or players.max() >= present.shape[1]:
        least, most = int(players.min()), int(players.max())
        raise ValueError(f"hide_words: players {least} to {most} for {present.shape[1]} columns of present.")
    present, token = torch.as_tensor(present, device=tokens.device), token.to(tokens)
    always = present.new_ones(len(present), 1)
    stays = torch.cat([present, always], dim=1)[:, players]  # (S,L), and True at padding
    if not drop:
        return torch.where(stays, tokens, token), token_mask.expand_as(stays).clone()
    stays = stays & token_mask
    order = (~stays).int().argsort(dim=1, stable=True)  # (S,L) what stays comes first, in its old order
    left = stays.sum(dim=1, keepdim=True)  # (S,1)
    moved = torch.where(left > 0, tokens[order], token)  # (S,L)
    longest = max(1, int(left.max()))
    mask = torch.arange(longest, device=tokens.device) < left.clamp(min=1)  # (S,L')
    return torch.where(mask, moved[:, :longest], 0), mask


def _present(present, who: str) -> np.ndarray:
    present = np.asarray(present)
    if present.ndim != 2 or present.dtype != bool or 0 in present.shape:
        raise ValueError(f"{who}: present must be (S,n) bool, a row for each set of players; got {present.shape}"
                         f" of {present.dtype}.")  # fmt: skip
    return present


def _blurred(images, deviation: float):
    """Gaussian blur along rows, then along columns; edges are mirrored."""
    radius = min(math.ceil(3 * deviation), min(images.shape[2:]) - 1)  # a mirror shows no more than the picture
    weights = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, device=images.device) / deviation) ** 2)
    weights = (weights / weights.sum()).to(images.dtype)
    channels = images.shape[1]
    for pad, shape in (((radius, radius, 0, 0), (1, 1, 1, -1)), ((0, 0, radius, radius), (1, 1, -1, 1))):
        kernel = weights.view(shape).expand(channels, -1, -1, -1)
        images = F.conv2d(F.pad(images, pad, mode="reflect"), kernel, groups=channels)
    return images
