"""Eight ways to join M modalities, under one interface.

Every module takes `inputs`, a list of M tensors (B,D_m), standardised, and `present` (B,M) bool, True where an example
has that modality (None: all of them), and returns logits (B,C). What is absent is handled in one way everywhere: its
input becomes zeros, the mean of a standardised feature, whatever stood there before; where a method averages over
modalities, the absent one is left out and the weights of the others add up to one again. No gradient reaches it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

METHODS = ("early", "late", "hybrid", "weighted", "gated", "bilinear", "tensor", "low_rank")
_MOST_WEIGHTS = 50_000_000


def build(method: str, widths: Sequence[int], classes: int, hidden: int = 32, rank: int = 4) -> nn.Module:
    """A fusion module by its name in METHODS.

    widths: D_1..D_M, features of each modality. classes: C. hidden: H, width of every inner layer. rank: of low_rank
    alone. Raises ValueError for an unknown name, for sizes below one, and where a method cannot take that many.
    """
    kinds = (Early, Late, Hybrid, Weighted, Gated, Bilinear, Tensor, LowRank)
    if method not in METHODS:
        raise ValueError(f"build: no fusion is called {method!r}; there are {', '.join(METHODS)}.")
    more = {"rank": rank} if method == "low_rank" else {}
    return kinds[METHODS.index(method)](tuple(widths), classes, hidden, **more)


class _Fusion(nn.Module):
    """Checks the inputs and puts zeros where nothing is; `join(inputs, present)` is each method's own."""

    def __init__(self, widths, classes, hidden):
        super().__init__()
        if not widths or min(*widths, classes, hidden) < 1:
            raise ValueError(f"fusion: widths {tuple(widths)}, classes {classes} and hidden {hidden} must be positive.")
        self.widths = tuple(widths)

    def forward(self, inputs, present=None):
        return self.join(*self._filled(inputs, present))

    def _filled(self, inputs, present):
        shapes = [tuple(x.shape) for x in inputs]
        if len({len(x) for x in inputs}) != 1 or [shape[1:] for shape in shapes] != [(d,) for d in self.widths]:
            raise ValueError(f"fusion: inputs must be (B,D_m) with widths {self.widths}; got {shapes}.")
        rows = (len(inputs[0]), len(self.widths))
        if present is None:
            present = torch.ones(rows, dtype=torch.bool, device=inputs[0].device)
        if present.shape != rows or present.dtype != torch.bool:
            raise ValueError(f"fusion: present must be {rows} bool; got {tuple(present.shape)} of {present.dtype}.")
        return [torch.where(here[:, None], x, 0) for x, here in zip(inputs, present.T)], present  # NaN is gone too


class Early(_Fusion):
    """Early fusion: the inputs side by side, then one network with two hidden layers. It sees everything at once."""

    def __init__(self, widths: Sequence[int], classes: int, hidden: int = 32):
        super().__init__(widths, classes, hidden)
        inner = nn.Linear(hidden, hidden)
        self.network = nn.Sequential(
            nn.Linear(sum(widths), hidden), nn.GELU(), inner, nn.GELU(), nn.Linear(hidden, classes)
        )

    def join(self, inputs, present):
        """M x (B,D_m) -> (B,C)"""
        return self.network(torch.cat(inputs, dim=1))  # (B,D_1+...+D_M) -> (B,C)


class _Encoded(_Fusion):
    """Methods that first turn each modality into an embedding of H numbers: `encoders[m]`, (B,D_m) -> (B,H)."""

    activation = nn.GELU

    def __init__(self, widths, classes, hidden):
        super().__init__(widths, classes, hidden)
        self.encoders = nn.ModuleList(nn.Sequential(nn.Linear(d, hidden), self.activation()) for d in widths)

    def embed(self, inputs):
        """M x (B,D_m) -> (B,M,H)"""
        return torch.stack([encoder(x) for encoder, x in zip(self.encoders, inputs)], dim=1)


class Late(_Encoded):
    """Late fusion: a classifier of its own for each modality (`encoders[m]`, `heads[m]`), and the mean of their logits.

    What one modality adds to a class cannot depend on what the other says.
    """

    def __init__(self, widths: Sequence[int], classes: int, hidden: int = 32):
        super().__init__(widths, classes, hidden)
        self.heads = nn.ModuleList(nn.Linear(hidden, classes) for _ in widths)

    def join(self, inputs, present):
        """M x (B,D_m) -> (B,C)"""
        logits = [head(encoder(x)) for head, encoder, x in zip(self.heads, self.encoders, inputs)]
        shares = _shares(present.to(logits[0].dtype), present)  # (B,M)
        return torch.einsum("bm,bmc->bc", shares, torch.stack(logits, dim=1))  # (B,M), (B,M,C) -> (B,C)


class Hybrid(_Fusion):
    """Hybrid fusion: the mean of the logits of an early and a late fusion, trained together (`early`, `late`)."""

    def __init__(self, widths: Sequence[int], classes: int, hidden: int = 32):
        super().__init__(widths, classes, hidden)
        self.early, self.late = Early(widths, classes, hidden), Late(widths, classes, hidden)

    def join(self, inputs, present):
        """M x (B,D_m) -> (B,C)"""
        return (self.early.join(inputs, present) + self.late.join(inputs, present)) / 2


class Weighted(_Encoded):
    """Weighted fusion: alpha V + beta T, embeddings added with one learned weight a modality, then a small network."""

    def __init__(self, widths: Sequence[int], classes: int, hidden: int = 32):
        super().__init__(widths, classes, hidden)
        self.scores = nn.Parameter(torch.zeros(len(self.widths)))
        self.head = nn.Sequential(nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, classes))

    @property
    def weights(self):
        """alpha, beta, ...: (M,) positive, adding up to one."""
        return self.scores.softmax(dim=0)

    def join(self, inputs, present):
        """M x (B,D_m) -> (B,C)"""
        shares = _shares(self.weights * present, present)  # (B,M)
        return self.head(torch.einsum("bm,bmh->bh", shares, self.embed(inputs)))  # (B,M), (B,M,H) -> (B,H) -> (B,C)


class Gated(_Encoded):
    """Gated fusion: weights that each example chooses anew, one for each modality and hidden unit.

    h = sum over m of z_m * tanh(W_m x_m), where z is a softmax over modalities of scores computed from all inputs; for
    two modalities that is z and 1 - z. Source: gated multimodal unit, Arevalo et al. 2017.
    """

    activation = nn.Tanh

    def __init__(self, widths: Sequence[int], classes: int, hidden: int = 32):
        super().__init__(widths, classes, hidden)
        self.scores = nn.Linear(sum(widths), len(self.widths) * hidden)
        self.head = nn.Linear(hidden, classes)

    def gates(self, inputs, present=None):
        """The gates z of each example, (B,M,H): between 0 and 1, adding up to one over M, 0 for what is absent."""
        return self._gates(*self._filled(inputs, present))

    def _gates(self, inputs, present):
        scores = self.scores(torch.cat(inputs, dim=1)).unflatten(1, (len(self.widths), -1))  # (B,M,H)
        return _shares(scores.softmax(dim=1) * present[..., None], present[..., None])

    def join(self, inputs, present):
        """M x (B,D_m) -> (B,C)"""
        return self.head((self._gates(inputs, present) * self.embed(inputs)).sum(dim=1))  # (B,M,H) -> (B,H) -> (B,C)


class Bilinear(_Encoded):
    """Bilinear fusion: every product of a unit of one modality with a unit of another, one weight each, and no others.

    logit c = h_1^T A_c h_2 + b_c for two modalities; for more, each pair has its own A, and the pairs are added up.
    """

    def __init__(self, widths: Sequence[int], classes: int, hidden: int = 32):
        super().__init__(widths, classes, hidden)
        self.couples = [(i, j) for j in range(len(self.widths)) for i in range(j)]
        if not self.couples:
            raise ValueError(f"fusion: bilinear joins pairs and needs two modalities or more; got widths {widths}.")
        self.forms = nn.ModuleList(nn.Bilinear(hidden, hidden, classes) for _ in self.couples)

    def join(self, inputs, present):
        """M x (B,D_m) -> (B,C)"""
        embedded = self.embed(inputs).unbind(dim=1)  # M x (B,H)
        return sum(form(embedded[i], embedded[j]) for form, (i, j) in zip(self.forms, self.couples))


class Tensor(_Encoded):
    """Tensor fusion: all products of the embeddings, each with a one appended, and one linear layer `head` over them.

    The ones keep the units themselves and the products of fewer modalities among the (H+1)^M features. Raises
    ValueError where that makes more than 50 million weights. Source: Zadeh et al. 2017.
    """

    def __init__(self, widths: Sequence[int], classes: int, hidden: int = 32):
        super().__init__(widths, classes, hidden)
        features = (hidden + 1) ** len(self.widths)
        if features * classes > _MOST_WEIGHTS:
            raise ValueError(
                f"fusion: tensor needs {features:,} x {classes} weights for {len(self.widths)} modalities of {hidden} "
                "hidden units; take fewer units, or low_rank."
            )
        self.head = nn.Linear(features, classes)

    def join(self, inputs, present):
        """M x (B,D_m) -> (B,C)"""
        products, *others = _with_one(self.embed(inputs))  # M x (B,H+1)
        for rows in others:
            products = (products[:, :, None] * rows[:, None, :]).flatten(1)  # (B,K,1) * (B,1,H+1) -> (B,K*(H+1))
        return self.head(products)


class LowRank(_Encoded):
    """Low-rank fusion: the linear layer of tensor fusion as a sum of `rank` products, so the tensor is never made.

    logit c = b_c + sum over r of prod over m of <factors[m][r, :, c], [h_m; 1]>; factors[m] is (rank, H+1, C). Source:
    Liu et al. 2018.
    """

    def __init__(self, widths: Sequence[int], classes: int, hidden: int = 32, rank: int = 4):
        super().__init__(widths, classes, hidden)
        if rank < 1:
            raise ValueError(f"fusion: rank={rank} must be at least 1.")
        self.factors = nn.ParameterList(torch.empty(rank, hidden + 1, classes) for _ in self.widths)
        for factor in self.factors:
            nn.init.normal_(factor, std=(hidden + 1) ** -0.5)
        self.bias = nn.Parameter(torch.zeros(classes))

    def join(self, inputs, present):
        """M x (B,D_m) -> (B,C)"""
        rows = _with_one(self.embed(inputs))  # M x (B,H+1)
        sums = [torch.einsum("bh,rhc->brc", row, factor) for row, factor in zip(rows, self.factors)]
        return torch.stack(sums).prod(dim=0).sum(dim=1) + self.bias  # (M,B,R,C) -> (B,R,C) -> (B,C)


def _with_one(embedded):
    """(B,M,H) -> M x (B,H+1): a one at the end of each embedding."""
    return F.pad(embedded, (0, 1), value=1.0).unbind(dim=1)


def _shares(weights, present):
    """Weights that are zero where `present` (B,M,...) is False, made to add up to one over M; all absent: all zero."""
    return torch.where(present, weights, 0) / weights.sum(dim=1, keepdim=True).clamp(min=1e-12)
