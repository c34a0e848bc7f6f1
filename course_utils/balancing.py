"""Keeping modalities alive while they train together: gradient norms, GradNorm's update, modality dropout."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch


def gradient_norms(losses: Sequence[torch.Tensor], groups: Sequence[Iterable[torch.Tensor]]) -> torch.Tensor:
    """How strongly each loss pulls at each group of tensors.

    losses: T scalars with a graph, which is kept. groups: G lists of tensors that require gradients, for instance
    `model.encoders[m].parameters()` of each modality, or one list that holds the layer that all losses share. Returns
    (T,G) Euclidean norms, 0 where a loss does not depend on a group. Raises ValueError for an empty group.
    """
    groups = [list(group) for group in groups]
    if not all(groups):
        raise ValueError("gradient_norms: a group holds no tensor; was a generator of parameters used up before?")
    flat = [tensor for group in groups for tensor in group]
    rows = []
    for loss in losses:
        gradients = torch.autograd.grad(loss, flat, retain_graph=True, allow_unused=True)
        squares = torch.stack([loss.new_zeros(()) if g is None else g.float().square().sum() for g in gradients])
        rows.append(torch.stack([part.sum() for part in squares.split([len(group) for group in groups])]).sqrt())
    return torch.stack(rows)  # (T,G)


def gradnorm_targets(norms: torch.Tensor, ratios: torch.Tensor, exponent: float) -> torch.Tensor:
    """The gradient norm that GradNorm wants of each task: the mean norm, more for a task that lags behind.

    norms (T,): G_i = w_i |grad L_i| at the shared layer. ratios (T,): L_i now over L_i at the start. Returns (T,)
    mean(norms) * (ratios / mean(ratios)) ** exponent. Source: Chen et al. 2018, section 3.2.
    """
    return norms.mean() * (ratios / ratios.mean()) ** exponent


def gradnorm_update(
    weights: torch.Tensor, norms: torch.Tensor, ratios: torch.Tensor, exponent: float = 1.5, rate: float = 0.025
) -> torch.Tensor:
    """One step of GradNorm on the losses' weights w_i; the total loss is the sum of w_i L_i.

    weights (T,) positive. norms and ratios (T,), exponent: as in `gradnorm_targets`. A gradient step of size `rate` on
    sum |G_i - target_i|, the targets held constant, then weights scaled to add up to T. G_i is proportional to w_i, so
    its derivative is G_i / w_i. The paper leaves open what happens below zero: here a weight stops at 0.001 before the
    scaling. Returns (T,) new weights without gradient. Raises ValueError for values that are not finite, negative
    norms, ratios or weights of zero or less. Source: Chen et al. 2018, equation 2 and algorithm 1.
    """
    weights, norms, ratios = (torch.as_tensor(value).detach() for value in (weights, norms, ratios))
    if not (weights.ndim == 1 and weights.shape == norms.shape == ratios.shape):
        shapes = [tuple(value.shape) for value in (weights, norms, ratios)]
        raise ValueError(f"gradnorm_update: weights, norms and ratios must be (T,), one a loss; got {shapes}.")
    whole = torch.stack([weights, norms, ratios])
    if not (whole.isfinite().all() and (weights > 0).all() and (norms >= 0).all() and (ratios > 0).all()):
        raise ValueError(f"gradnorm_update: weights and ratios must be positive, norms not negative; got {whole}.")
    gradient = (norms - gradnorm_targets(norms, ratios, exponent)).sign() * norms / weights  # (T,)
    stepped = (weights - rate * gradient).clamp(min=1e-3)
    return stepped * len(stepped) / stepped.sum()


def modality_dropout(count: int, modalities: int, rate: float, generator: torch.Generator) -> torch.Tensor:
    """Which modalities each training example keeps: (count,modalities) bool, True where kept.

    Each is dropped with probability `rate`, on its own; an example that would lose all of them keeps one, each with the
    same chance. Raises ValueError for a rate outside [0, 1).
    """
    if not 0 <= rate < 1:
        raise ValueError(f"modality_dropout: rate={rate} must lie in [0, 1).")
    draws = torch.rand(count, modalities, generator=generator, device=generator.device)
    return (draws >= rate) | (draws == draws.amax(dim=1, keepdim=True))  # the largest draw is the last to be dropped
