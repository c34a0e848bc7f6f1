"""Attention that shows its weights, and the family built from it: who reads whom, and through which door.

Every block takes words (B,L,D), patches (B,P,D) and token_mask (B,L), and gives words, patches and attn (B,h,L,P): what
each word read of each patch. It normalises before reading (pre-norm) and adds what it read to what was there.
"""

from __future__ import annotations

import torch
from torch import nn


def attention(q, k, v, mask=None):
    """Each query reads the values, in shares that its products with the keys decide.

    q (B,h,L,d), k and v (B,h,P,d) -> out (B,h,L,d) and attn (B,h,L,P), whose rows add up to 1. mask: bool, True where a
    key may be read, broadcastable to (B,h,L,P); a query that may read nothing gets zeros and passes no gradient. The
    softmax is computed in fp32 or better, so that bf16 and fp16 stay finite. Raises ValueError for shapes that do not
    fit or a mask that is not bool. Source: Vaswani et al. 2017, equation 1.
    """
    if q.shape[-1] != k.shape[-1] or k.shape[:-1] != v.shape[:-1]:
        raise ValueError(f"attention: q {_shape(q)}, k {_shape(k)}, v {_shape(v)} do not fit (B,h,L,d), (B,h,P,d).")
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)  # (B,h,L,d) @ (B,h,d,P) -> (B,h,L,P)
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    if mask is not None:
        if mask.dtype != torch.bool:
            raise ValueError(f"attention: mask must be bool, True where a key may be read; got {mask.dtype}.")
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)  # not -inf: a whole row of it gives NaN
    attn = scores.softmax(dim=-1)
    if mask is not None:
        attn = attn * mask  # changes only rows in which nothing may be read: the softmax made them uniform
    attn = attn.to(v.dtype)
    return attn @ v, attn  # (B,h,L,P) @ (B,h,P,d) -> (B,h,L,d)


class MultiHeadAttention(nn.Module):
    """Attention in several subspaces at once.

    x (B,L,D), source (B,P,D), mask (B,P) True for a real token of the source -> out (B,L,D) and attn (B,h,L,P).
    Computes what nn.MultiheadAttention(width, heads, batch_first=True) does, and keeps each head's weights. Where
    `edit` is set, it is called with attn and returns what is used instead: for experiments on what a map means.
    Raises ValueError for a width that the heads do not divide.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        if heads < 1 or width % heads:
            raise ValueError(f"MultiHeadAttention: width {width} is not divisible by {heads} heads.")
        self.heads, self.edit = heads, None
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def copy_from(self, reference: nn.MultiheadAttention) -> MultiHeadAttention:
        """Take over the weights of torch's module of the same width and heads, and return self."""
        weights, biases = reference.in_proj_weight.chunk(3), reference.in_proj_bias.chunk(3)  # query, key, value
        pairs = [*zip(weights, biases), (reference.out_proj.weight, reference.out_proj.bias)]
        with torch.no_grad():
            for layer, (weight, bias) in zip((self.query, self.key, self.value, self.out), pairs):
                layer.weight.copy_(weight)
                layer.bias.copy_(bias)
        return self

    def forward(self, x, source, mask=None):
        q, k, v = self._split(self.query(x)), self._split(self.key(source)), self._split(self.value(source))
        read, attn = attention(q, k, v, None if mask is None else mask[:, None, None, :])  # (B,P) -> (B,1,1,P)
        if self.edit is not None:
            attn = self.edit(attn)
            read = attn @ v  # (B,h,L,P) @ (B,h,P,d) -> (B,h,L,d)
        return self.out(read.transpose(1, 2).flatten(2)), attn  # (B,h,L,d) -> (B,L,h,d) -> (B,L,D)

    def _split(self, x):
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B,L,D) -> (B,L,h,d) -> (B,h,L,d)


class CrossBlock(nn.Module):
    """Words read patches, then one another, then think: three branches, each added to what was there.

    cross=False leaves the first branch out, which makes a block for words alone; attn is then None. Patches come back
    as they are. Source: the decoder of Vaswani et al. 2017, without its order in time.
    """

    def __init__(self, width: int, heads: int, cross: bool = True):
        super().__init__()
        self.cross = MultiHeadAttention(width, heads) if cross else None
        self.norm_words, self.norm_patches = (nn.LayerNorm(width) if cross else None for _ in range(2))
        self.among_words = _SelfBlock(width, heads)

    def forward(self, words, patches, token_mask=None):
        attn = None
        if self.cross is not None:
            read, attn = self.cross(self.norm_words(words), self.norm_patches(patches))
            words = words + read
        return self.among_words(words, token_mask)[0], patches, attn


class CoAttention(nn.Module):
    """Two streams that read each other at the same time, then each itself: words read patches, patches read words.

    Source: Lu et al. 2019 (ViLBERT), figure 2b, followed by its usual block in each stream.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.cross, self.back = MultiHeadAttention(width, heads), MultiHeadAttention(width, heads)
        self.norm_words, self.norm_patches = nn.LayerNorm(width), nn.LayerNorm(width)
        self.among_words, self.among_patches = _SelfBlock(width, heads), _SelfBlock(width, heads)

    def forward(self, words, patches, token_mask=None):
        said, seen = self.norm_words(words), self.norm_patches(patches)
        (read, attn), (heard, _) = self.cross(said, seen), self.back(seen, said, token_mask)
        return self.among_words(words + read, token_mask)[0], self.among_patches(patches + heard)[0], attn


class GatedCrossBlock(nn.Module):
    """Words read patches behind two doors that start shut: at first the block is exactly the identity.

    Each branch is multiplied by tanh of a learned number that starts at 0, so a language model that works already can
    be given a picture without being disturbed. Words do not read one another here: the model's own blocks, between
    these, see to that, and token_mask is not needed. Source: Alayrac et al. 2022 (Flamingo), figure 4.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.cross, self.mlp = MultiHeadAttention(width, heads), _mlp(width)
        self.norm_words, self.norm_patches, self.norm_mlp = (nn.LayerNorm(width) for _ in range(3))
        self.gate_attention, self.gate_mlp = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))

    def forward(self, words, patches, token_mask=None):
        read, attn = self.cross(self.norm_words(words), self.norm_patches(patches))
        words = words + self.gate_attention.tanh() * read
        return words + self.gate_mlp.tanh() * self.mlp(self.norm_mlp(words)), patches, attn


class _SelfBlock(nn.Module):
    """x (B,L,D) reads itself and, where given, rows `beside` it (B,P,D); then an MLP. -> x, attn (B,h,L,P+L)."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.attention, self.mlp = MultiHeadAttention(width, heads), _mlp(width)
        self.norm, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x, mask=None, beside=None):
        normed = self.norm(x)
        source = normed if beside is None else torch.cat([beside, normed], dim=1)  # (B,P+L,D)
        read, attn = self.attention(normed, source, mask)
        x = x + read
        return x + self.mlp(self.norm_mlp(x)), attn


class OneStream(_SelfBlock):
    """Words and patches in one row that reads itself: a single self-attention does every kind of reading.

    attn is the part of the words' attention that falls on patches, so its rows add up to less than 1. Source: Li et al.
    2019 (VisualBERT); Chen et al. 2020 (UNITER).
    """

    def forward(self, words, patches, token_mask=None):
        length, mask = words.shape[1], None
        if token_mask is not None:
            mask = torch.cat([token_mask, token_mask.new_ones(patches.shape[:2])], dim=1)  # (B,L+P)
        row, attn = super().forward(torch.cat([words, patches], dim=1), mask)  # (B,L+P,D), (B,h,L+P,L+P)
        return row[:, :length], row[:, length:], attn[:, :, :length, length:]


class Resampler(nn.Module):
    """Any number of patches -> a fixed, small number of latents, which read the patches and one another.

    patches (B,P,D) -> latents (B,R,D), and attn (B,h,R,P), the part of their attention that falls on patches. Whoever
    reads the latents pays for R, not for P. Source: Jaegle et al. 2021 (Perceiver); Alayrac et al. 2022 (Flamingo),
    figure 5.
    """

    def __init__(self, width: int, heads: int, latents: int):
        super().__init__()
        self.latents, self.norm = nn.Parameter(torch.randn(latents, width)), nn.LayerNorm(width)
        self.block = _SelfBlock(width, heads)

    def forward(self, patches):
        latents = self.latents.expand(len(patches), -1, -1)  # (R,D) -> (B,R,D)
        latents, attn = self.block(latents, beside=self.norm(patches))
        return latents, attn[..., : patches.shape[1]]


def _mlp(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))


def _shape(x) -> tuple:
    return tuple(x.shape)
