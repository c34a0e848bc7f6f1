"""Small encoders and the dual encoder that joins two of them."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from course_utils.attention import MultiHeadAttention


class ConvTower(nn.Module):
    """A small convolutional picture encoder that keeps *where* things are.

    images (B,3,H,W) in [0, 1] -> (B,width). Each stage halves the side; GroupNorm, since BatchNorm lets pictures of one
    batch see each other and made recall swing between checkpoints. The last map is flattened, not averaged: an average
    forgets positions, and "left of" is a position. size: side H = W in pixels, divisible by 2 ** len(channels).
    For Grad-CAM hook `features[5]`, the second stage, (B,64,size // 4,size // 4): the last map is too coarse to point.
    Raises ValueError for another size.
    """

    def __init__(self, size: int, width: int = 256, channels=(32, 64, 96, 128)):
        super().__init__()
        side = size // 2 ** len(channels)
        if side < 1 or size % 2 ** len(channels):
            raise ValueError(f"ConvTower: size {size} is not divisible by 2**{len(channels)}; use 32, 64, 96 or 128.")
        layers, inputs = [], 3
        for outputs in channels:
            layers += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.GroupNorm(8, outputs), nn.GELU()]
            inputs = outputs
        self.features = nn.Sequential(*layers)  # (B,3,H,W) -> (B,C,side,side)
        self.project = nn.Linear(inputs * side * side, width)
        self.size, self.width = size, width

    def forward(self, images):
        if images.shape[1:] != (3, self.size, self.size):
            raise ValueError(f"ConvTower: images must be (B,3,{self.size},{self.size}); got {tuple(images.shape)}.")
        maps = self.features(images - 0.5)  # (B,C,side,side)
        return self.project(maps.flatten(1))  # (B,C*side*side) -> (B,width)


class PatchTower(nn.Module):
    """A small vision transformer: a picture is cut into patches, which read one another like words.

    images (B,3,H,W) in [0, 1] -> (B,width). size: side H = W in pixels; patch: side of a patch, which divides it. There
    are P = side ** 2 patches, side = size // patch, row by row from the top left. pool="class": a token of its own
    comes first, T = 1 + P, and what it has read is the output; "mean": the average of the patches, T = P. `attend` also
    gives who read whom. Positions are learned and start as sines of row and column, about as large as the patches: from
    small random ones it stayed blind to "left of" for as long as we trained.

    For Grad-CAM hook `blocks[i].norm`, (B,T,D), and let `as_map` lay it out as a picture. Behind the last block's the
    class token reads the patches no more, so nothing later hands them a gradient; earlier blocks pointed better here.

    Raises ValueError for a patch that does not divide the size, a width that 4 or the heads do not divide, another
    pool, or images of another shape. Source: Dosovitskiy et al. 2021; sines as in Beyer et al. 2022.
    """

    def __init__(self, size: int, patch: int, width: int, depth: int, heads: int, pool: str = "class"):
        super().__init__()
        if patch < 1 or size < patch or size % patch:
            raise ValueError(f"PatchTower: size {size} is not divisible into patches of {patch} pixels.")
        if pool not in ("class", "mean"):
            raise ValueError(f"PatchTower: pool={pool!r} is neither 'class' nor 'mean'.")
        if width % 4:
            raise ValueError(f"PatchTower: width {width} is not divisible by 4: sine and cosine of row and column.")
        self.size, self.width, self.pool, self.side = size, width, pool, size // patch
        self.embed = nn.Conv2d(3, width, patch, stride=patch)  # (B,3,H,W) -> (B,D,side,side)
        self.token = nn.Parameter(torch.randn(width) * 0.02) if pool == "class" else None
        nowhere = torch.zeros(int(pool == "class"), width)  # the class token has no place
        self.positions = nn.Parameter(torch.cat([nowhere, _sines(self.side, width)]))  # (T,D)
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, images):
        return self.attend(images)[0]

    def attend(self, images):
        """images (B,3,H,W) -> features (B,D), and of each block attn (B,h,T,T): row i is what token i read of each."""
        if images.shape[1:] != (3, self.size, self.size):
            raise ValueError(f"PatchTower: images must be (B,3,{self.size},{self.size}); got {tuple(images.shape)}.")
        x = self.embed(images - 0.5).flatten(2).transpose(1, 2)  # (B,D,side,side) -> (B,P,D)
        if self.token is not None:
            x = torch.cat([self.token.expand(len(x), 1, -1), x], dim=1)  # (B,1+P,D)
        x, attn = x + self.positions, []
        for block in self.blocks:
            x, read = block(x)
            attn.append(read)
        x = self.norm(x)
        return x[:, 0] if self.pool == "class" else x.mean(dim=1), attn

    def as_map(self, tokens):
        """Rows of tokens (B,T,D) -> (B,D,side,side), without the class token: hooked activations as a picture."""
        patches = tokens[:, -(self.side**2) :]  # (B,P,D)
        return patches.transpose(1, 2).unflatten(-1, (self.side, self.side))


def _sines(side: int, width: int):
    """(side ** 2, width): sines and cosines of row and column, from one radian a patch to a hundredth of that."""
    waves = torch.logspace(0, -2, width // 4)  # radians a patch
    turns = torch.arange(side)[:, None] * waves  # (side,1) * (D / 4,) -> (side,D / 4)
    line = torch.cat([turns.sin(), turns.cos()], dim=1)  # (side,D / 2)
    rows, columns = line[:, None].expand(-1, side, -1), line[None].expand(side, -1, -1)  # (side,side,D / 2) each
    return 0.4 * torch.cat([rows, columns], dim=-1).flatten(0, 1)


class _Block(nn.Module):
    """x (B,T,D) reads itself, then an MLP, each added to what was there -> x, attn (B,h,T,T)."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norm, self.attention, self.norm_mlp = (
            nn.LayerNorm(width),
            MultiHeadAttention(width, heads),
            nn.LayerNorm(width),
        )
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x):
        normed = self.norm(x)
        read, attn = self.attention(normed, normed)
        x = x + read
        return x + self.mlp(self.norm_mlp(x)), attn


class TransformerWords(nn.Module):
    """A small transformer that reads a sentence and averages what it read: the usual text tower, in small.

    tokens (B,L), token_mask (B,L) -> (B,width), L <= length. Word order reaches it through learned position embeddings,
    as large as those of the words. Padding is masked in attention and left out of the mean, so it changes nothing.
    Raises ValueError for more than `length` tokens.
    """

    def __init__(self, vocabulary: int, length: int, width: int = 128, layers: int = 2, heads: int = 4):
        super().__init__()
        self.length, self.width = length, width
        self.words = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(length, width)
        for table in (self.words, self.positions):
            nn.init.normal_(table.weight, std=0.02)
        block = nn.TransformerEncoderLayer(width, heads, 4 * width, 0.0, F.gelu, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(block, layers, nn.LayerNorm(width), enable_nested_tensor=False)

    def forward(self, tokens, token_mask):
        if tokens.shape[1] > self.length:
            raise ValueError(f"TransformerWords: {tokens.shape[1]} tokens, but built for length={self.length}.")
        read = self.words(tokens) + self.positions.weight[: tokens.shape[1]]  # (B,L,D) + (L,D)
        read = self.blocks(read, src_key_padding_mask=~token_mask)  # (B,L,D)
        kept = read * token_mask[..., None]  # (B,L,D), zeros at padding
        return kept.sum(dim=1) / token_mask.sum(dim=1, keepdim=True)  # (B,D)


class DualEncoder(nn.Module):
    """Two towers that meet only at the end: no cross-attention, one cosine a pair.

    image_tower: images -> (B,D_img) with `.width`; text_tower: (tokens, token_mask) -> (B,D_txt) with `.width`. Each is
    projected to the shared space of `shared` dimensions and scaled to unit length. `log_scale` is log(1 / tau), learned
    and with 1 / tau capped at 100 as in CLIP: ValueError for a first tau below 0.01.
    """

    def __init__(self, image_tower, text_tower, shared: int = 128, tau: float = 0.07):
        super().__init__()
        if not tau >= 0.01:
            raise ValueError(f"DualEncoder: tau={tau} must be at least 0.01, since 1 / tau is capped at 100.")
        self.image_tower, self.text_tower = image_tower, text_tower
        self.image_head = nn.Linear(image_tower.width, shared)
        self.text_head = nn.Linear(text_tower.width, shared)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / tau)))

    def encode_image(self, images):
        """images (B,3,H,W) -> z_img (B,E), unit rows in fp32."""
        return F.normalize(self.image_head(self.image_tower(images)).float(), dim=-1)

    def encode_text(self, tokens, token_mask):
        """tokens, token_mask (B,L) -> z_txt (B,E), unit rows in fp32."""
        return F.normalize(self.text_head(self.text_tower(tokens, token_mask)).float(), dim=-1)

    @property
    def tau(self):
        """Temperature, a scalar tensor with gradient."""
        return 1 / self.log_scale.clamp(max=4.6052).exp()  # log 100, rounded up: at the cap gradients still flow

    def pairs(self, z_img, z_txt) -> Pairs:
        """Embeddings that were made elsewhere, with this model's temperature."""
        return Pairs(z_img, z_txt, self.tau)

    def forward(self, batch) -> Pairs:
        """A batch dictionary (see `batches`) -> Pairs; with owners (see `captioned`), a picture is encoded once."""
        z_img = self.encode_image(batch["images"])
        if "owners" in batch:
            z_img = z_img[batch["owners"]]  # (P,E) -> (B,E), a row for each caption
        return self.pairs(z_img, self.encode_text(batch["tokens"], batch["token_mask"]))


class Pairs(NamedTuple):
    """What a dual encoder makes of a batch: z_img, z_txt (B,E) unit rows and tau."""

    z_img: torch.Tensor
    z_txt: torch.Tensor
    tau: torch.Tensor
