"""Contrastive losses over unit rows. Rows of `logits` are images, columns are captions."""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F


def clip_loss(z_img, z_txt, tau, image_ids=None):
    """CLIP's symmetric cross-entropy: each picture picks its caption, each caption picks its picture.

    z_img, z_txt: (B,E) unit rows; tau: temperature, float or scalar tensor, > 0. Scores are computed in fp32 or
    better, whatever the towers used. image_ids: (B,) ids; pairs that show the same picture are all right answers and
    share the target mass. Returns a scalar, in nats: about log B for embeddings without information.

    Raises ValueError for rows that are not unit length, shapes that differ, or tau <= 0. NaN comes out as NaN, so that
    `training.fit` can say at which step. Source: Radford et al. 2021, figure 3.
    """
    z_img, z_txt = _pair(z_img, z_txt)
    if tau <= 0:
        raise ValueError(f"clip_loss: tau={float(tau)} must be positive; it is a temperature, not a logarithm.")
    target = _targets(len(z_img), image_ids, z_img.device)  # (B,B) rows add up to one
    logits = z_img @ z_txt.T / tau  # (B,E) @ (E,B) -> (B,B)
    picks_caption = -(target * logits.log_softmax(dim=1)).sum(dim=1).mean()
    picks_picture = -(target.T * logits.log_softmax(dim=0)).sum(dim=0).mean()
    return (picks_caption + picks_picture) / 2


def siglip_loss(z_img, z_txt, scale, bias, image_ids=None):
    """SigLIP: every cell of the matrix is one yes-or-no question, no softmax, no neighbour.

    z_img, z_txt: (B,E) unit rows; scale (1 / tau) and bias: floats or scalar tensors. The sum over all B*B cells is
    divided by B, as in the paper. image_ids: (B,) pairs of the same picture are all "yes". Returns a scalar in nats.
    Source: Zhai et al. 2023, algorithm 1.
    """
    z_img, z_txt = _pair(z_img, z_txt)
    logits = z_img @ z_txt.T * scale + bias  # (B,E) @ (E,B) -> (B,B)
    sign = torch.where(_targets(len(z_img), image_ids, z_img.device) > 0, 1.0, -1.0)  # (B,B) +1 right, -1 wrong
    return -F.logsigmoid(sign * logits).sum() / len(z_img)


def triplet_loss(z_img, z_txt, margin: float = 0.2, hardest: bool = True):
    """Hinge on rivals: a right pair must beat a wrong one by `margin`, in both directions.

    z_img, z_txt: (B,E) unit rows. hardest=True counts only the worst rival of each row and column (VSE++, Faghri et al.
    2018), False adds up all of them (the older pairwise margin). Returns the mean over the B pairs of the sum of both
    directions, in units of cosine.
    """
    z_img, z_txt = _pair(z_img, z_txt)
    scores = z_img @ z_txt.T  # (B,E) @ (E,B) -> (B,B)
    right = scores.diagonal()  # (B,)
    wrong = ~torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    captions = (margin + scores - right[:, None]).clamp(min=0) * wrong  # (B,B) rivals of each picture
    pictures = (margin + scores - right[None, :]).clamp(min=0) * wrong  # (B,B) rivals of each caption
    if hardest:
        return (captions.amax(dim=1) + pictures.amax(dim=0)).mean()
    return (captions.sum(dim=1) + pictures.sum(dim=0)).mean()


def gather_rows(rows):
    """All processes' rows, with gradients: (B,...) on each of W processes -> (W*B,...) on all, in rank order.

    The backward pass adds up what every process asks of a row. So a loss on the gathered rows, whose gradient
    DistributedDataParallel then averages over processes, trains like one process with the whole batch. Every process
    must bring the same B. Without a process group the rows come back as they are.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return rows
    return _GatherRows.apply(rows)


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rows):
        parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts, dim=0)  # W x (B,E) -> (W*B,E)

    @staticmethod
    def backward(ctx, grad):
        grad = grad.contiguous()
        dist.all_reduce(grad)  # what all processes ask of all rows, (W*B,E)
        own = grad.shape[0] // dist.get_world_size()
        return grad[dist.get_rank() * own : (dist.get_rank() + 1) * own]


def _targets(n, image_ids, device):
    """(B,B) target mass: the diagonal, or equal shares over the pairs that show the same picture."""
    if image_ids is None:
        return torch.eye(n, device=device)
    image_ids = torch.as_tensor(image_ids, device=device)
    if image_ids.shape != (n,):
        raise ValueError(f"image_ids must be ({n},), one id a pair; got {tuple(image_ids.shape)}.")
    same = (image_ids[:, None] == image_ids[None, :]).float()
    return same / same.sum(dim=1, keepdim=True)


def _pair(z_img, z_txt):
    if z_img.shape != z_txt.shape:
        raise ValueError(f"z_img {tuple(z_img.shape)} and z_txt {tuple(z_txt.shape)} must be the same (B,E).")
    return _unit_rows(z_img, "z_img"), _unit_rows(z_txt, "z_txt")


def _unit_rows(z, name):
    if z.ndim != 2 or 0 in z.shape:
        raise ValueError(f"{name} must be (B,E), at least one row; got {tuple(z.shape)}.")
    z = z.to(torch.promote_types(z.dtype, torch.float32))
    length = z.detach().norm(dim=1)
    if ((length - 1).abs() > 1e-2).any():
        raise ValueError(
            f"{name} needs rows of length 1, found {length.min():.3f} to {length.max():.3f}; "
            "pass it through torch.nn.functional.normalize(z, dim=-1) first."
        )
    return z
