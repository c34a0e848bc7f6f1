"""Where did it look, and which words counted? Maps and attributions, as functions on callables and layers.

A score is a function of images (N,3,H,W), and `encode` one from images to embeddings (N,E), such as a dual encoder's
`encode_image`; no model of the course is known here. Models must be in evaluation mode. What these maps are worth is
the business of `faithfulness`; what stands where something is taken away, that of `absence`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import nn


class Watch:
    """Keep what a layer puts out inside a `with` block: `seen.output`, with its graph, so that gradients reach it.

    with Watch(layer) as seen:
        score = model.encode_image(images) @ z
    (gradient,) = torch.autograd.grad(score.sum(), seen.output)

    item: which of a layer's outputs, where it gives several: 1 for the weights of an attention that gives (out, attn).
    A layer that runs more than once keeps its last output. `output` raises ValueError while the layer has not run.
    """

    def __init__(self, layer: nn.Module, item: int = 0):
        self._layer, self._item, self._kept, self._handle = layer, item, None, None

    def __enter__(self) -> Watch:
        self._handle = self._layer.register_forward_hook(self._keep)
        return self

    def __exit__(self, *error):
        self._handle.remove()

    def _keep(self, layer, inputs, output):
        several = isinstance(output, tuple)
        self._kept = output[self._item] if several else output
        onward = self._kept.clone()  # so that a next layer may work in place
        return (*output[: self._item], onward, *output[self._item + 1 :]) if several else onward

    @property
    def output(self):
        """What the layer gave last."""
        if self._kept is None:
            raise ValueError(f"{_name(self._layer)} has no activations: it took no part in what ran inside `with`.")
        return self._kept


def grad_cam(activations, gradients):
    """Grad-CAM from a layer's maps and a score's gradient at them: activations, gradients (B,C,h,w) -> (B,h,w), >= 0.

    Each channel is weighted by its mean gradient; what speaks against the score is cut off. Raises ValueError for
    shapes that differ. Source: Selvaraju et al. 2017, equations 1 and 2.
    """
    if activations.ndim != 4 or activations.shape != gradients.shape:
        raise ValueError(f"grad_cam: activations {tuple(activations.shape)}, gradients {tuple(gradients.shape)}; both"
                         " must be (B,C,h,w). For tokens see tokens_to_map.")  # fmt: skip
    weights = gradients.mean(dim=(2, 3), keepdim=True)  # (B,C,1,1)
    return (weights * activations).sum(dim=1).relu()  # (B,C,h,w) -> (B,h,w)


def grad_cams(
    encode: Callable, layer: nn.Module, images, z_txt, to_map: Callable | None = None, average: bool = True
) -> torch.Tensor:
    """Grad-CAM of every picture with every sentence, for about the price of encoding the pictures: (B,K,h,w), >= 0.

    encode: images (B,3,H,W) -> embeddings (B,E); the score is encode(images) @ z_txt.T, with z_txt (K,E). The graph
    begins at `layer`: below it nothing is kept and no gradient is computed, and above it one pass backwards serves all
    sentences. to_map: from the layer's output to (B,C,h,w), for tokens (see `tokens_to_map`).
    average=False multiplies gradients and activations place by place (HiResCAM, Draelos and Carin 2020), which is right
    where the tower reads places by different weights; Grad-CAM's mean over places was made for towers that pool.

    Raises ValueError for a layer without activations or without gradient, a model in training mode, and embeddings that
    are not finite.
    """
    _refuse_training(encode, layer)
    if z_txt.ndim != 2 or not len(z_txt) or not torch.isfinite(z_txt).all():
        raise ValueError(f"grad_cams: z_txt {tuple(z_txt.shape)} must be (K,E) and finite; is a sentence only padding?")
    leaf, z_img = _from_layer_on(encode, layer, images)
    if z_img.ndim != 2 or z_img.shape[1] != z_txt.shape[1] or not torch.isfinite(z_img).all():
        sizes = f"encode gave {tuple(z_img.shape)} for z_txt {tuple(z_txt.shape)}"
        raise ValueError(f"grad_cams: {sizes}; (B,E) and (K,E), finite, please.")
    activations = leaf.detach() if to_map is None else to_map(leaf.detach())
    if activations.ndim != 4:
        given = f"{_name(layer)} gives {tuple(leaf.shape)}"
        raise ValueError(f"grad_cams: {given}, no maps (B,C,h,w); for tokens pass to_map, see tokens_to_map.")
    few = len(z_txt) <= z_img.shape[1]  # gradients are linear in z_txt: at most E of them are ever needed
    wanted = z_txt if few else torch.eye(z_img.shape[1]).to(z_txt)  # (R,E)
    rows = wanted[:, None].expand(-1, len(z_img), -1)  # (R,B,E), a gradient at z_img for each of them
    (gradients,) = torch.autograd.grad(z_img, leaf, rows, is_grads_batched=True)  # R times the layer's output
    if to_map is not None:
        gradients = torch.stack([to_map(one) for one in gradients])
    if not gradients.any():
        raise ValueError(
            f"grad_cams: no gradient reaches the places of {_name(layer)}. A class token reads the patches in the last "
            "attention: take a layer before it."
        )
    if average:
        gradients = gradients.mean(dim=(3, 4), keepdim=True)  # (R,B,C,h,w) -> (R,B,C,1,1)
    maps = (gradients * activations).sum(dim=2)  # (R,B,h,w)
    if not few:
        maps = torch.tensordot(z_txt, maps, dims=1)  # (K,E), (E,B,h,w) -> (K,B,h,w)
    return maps.transpose(0, 1).relu()


def tokens_to_map(tokens, rows: int, columns: int, skip: int = 0):
    """Patch tokens as a map of channels: (B,skip+P,D) with P = rows * columns -> (B,D,rows,columns).

    skip: tokens in front that are no patches, such as the class token. Raises ValueError where they do not fit.
    """
    if tokens.ndim != 3 or tokens.shape[1] != skip + rows * columns:
        raise ValueError(f"tokens_to_map: {skip} + {rows} x {columns} tokens wanted; got {tuple(tokens.shape)}.")
    return tokens[:, skip:].transpose(1, 2).unflatten(2, (rows, columns))  # (B,P,D) -> (B,D,P) -> (B,D,h,w)


@torch.no_grad()
def occlusion(score: Callable, image, instead, window: int, stride: int, batch: int = 256) -> torch.Tensor:
    """What the score loses when a square of the picture is covered: (H,W), or (K,H,W) for a score of K columns.

    score: images (N,3,H,W) -> (N,) or (N,K). image, instead: (3,H,W), the picture and what covers it. A pixel gets the
    mean loss over all squares that cover it. Raises ValueError where squares do not fit the picture, scores are not
    finite, or the same picture scores differently twice. Source: Zeiler and Fergus 2014, figure 7.
    """
    height, width = image.shape[-2:]
    if image.ndim != 3 or image.shape != instead.shape:
        raise ValueError(f"occlusion: image {tuple(image.shape)} and instead {tuple(instead.shape)} must be (3,H,W).")
    if not 1 <= stride <= window <= min(height, width) or (height - window) % stride or (width - window) % stride:
        raise ValueError(
            f"occlusion: squares of {window} in steps of {stride} do not cover {height}x{width} pixels evenly."
        )
    ys, xs = torch.arange(0, height - window + 1, stride), torch.arange(0, width - window + 1, stride)
    y, x = torch.arange(height), torch.arange(width)
    in_y = (y >= ys[:, None]) & (y < ys[:, None] + window)  # (Y,H)
    in_x = (x >= xs[:, None]) & (x < xs[:, None] + window)  # (X,W)
    covered = (in_y[:, None, :, None] & in_x[None, :, None, :]).flatten(0, 1).to(image.device)  # (Y*X,H,W)
    parts = [score(torch.where(part[:, None], instead, image)) for part in covered.split(batch)]
    whole, again = score(image[None]), score(image[None].repeat(2, 1, 1, 1))[:1]
    scores = torch.cat(parts)  # (Y*X,) or (Y*X,K)
    if not (torch.isfinite(scores).all() and torch.isfinite(whole).all()):
        raise ValueError("occlusion: a score is NaN or infinite.")
    if not torch.allclose(whole, again, rtol=1e-3, atol=1e-5):
        raise ValueError("occlusion: one picture scores differently twice; is a model in training mode? model.eval()")
    lost = (whole - scores).reshape(len(scores), -1)  # (Y*X,K)
    covered = covered.flatten(1).to(lost.dtype)  # (Y*X,H*W)
    maps = (lost.T @ covered / covered.sum(dim=0)).unflatten(1, (height, width))  # (K,Y*X) @ (Y*X,H*W) -> (K,H,W)
    return maps if whole.ndim == 2 else maps[0]


def integrated_gradients(score: Callable, inputs, baseline, steps: int = 32, batch: int = 64) -> torch.Tensor:
    """Shares of score(inputs) - score(baseline), one for each number that goes in: same shape as inputs (B,...).

    score: rows like inputs (N,...) -> (N,), N a multiple of B: the inputs in their order, again and again. baseline:
    like inputs, what "nothing" looks like. Gradients along the way from baseline to inputs are averaged at `steps`
    points (Gauss and Legendre's, as captum has them), `batch` rows at a time. For a map of pixels sum over
    channels. Raises ValueError for shapes that differ, scores that are not finite, or inputs that score differently
    twice. Source: Sundararajan et al. 2017, equation 1.
    """
    if inputs.shape != baseline.shape or steps < 1 or not len(inputs):
        raise ValueError(f"integrated_gradients: inputs {tuple(inputs.shape)}, baseline {tuple(baseline.shape)}, steps"
                         f" {steps}; equal shapes, a row and a step at least, please.")  # fmt: skip
    if not inputs.is_floating_point():
        raise ValueError(f"integrated_gradients: {inputs.dtype} has no gradient; for tokens see word_attribution.")
    with torch.no_grad():
        once, twice = score(inputs), score(inputs)
    if not torch.allclose(once, twice, rtol=1e-3, atol=1e-5, equal_nan=True):
        raise ValueError(
            "integrated_gradients: the same inputs score differently twice; is a model in training mode? model.eval()"
        )
    points, weights = np.polynomial.legendre.leggauss(steps)
    way = inputs.detach() - baseline
    total = torch.zeros_like(way)
    at_once = max(1, batch // len(inputs))  # steps in one pass
    for i in range(0, steps, at_once):
        share = torch.tensor((1 + points[i : i + at_once]) / 2).to(way)  # (T,) in (0, 1)
        weight = torch.tensor(weights[i : i + at_once] / 2).to(way)
        rows = baseline + share.view(-1, *[1] * way.ndim) * way  # (T,B,...)
        rows = rows.flatten(0, 1).requires_grad_()  # (T*B,...)
        with torch.enable_grad():
            scores = score(rows)
            whole = scores.sum()
        if scores.shape != rows.shape[:1] or not torch.isfinite(scores).all():
            raise ValueError(f"integrated_gradients: scores {tuple(scores.shape)} of {len(rows)} rows must be (N,) and"
                             " finite.")  # fmt: skip
        if not whole.requires_grad:
            raise ValueError("integrated_gradients: no gradient reaches the score; is it under torch.no_grad()?")
        (gradient,) = torch.autograd.grad(whole, rows)
        total += torch.tensordot(weight, gradient.unflatten(0, (len(share), -1)), dims=1)
    return total * way


def word_attribution(score: Callable, embedding: nn.Module, tokens, token_mask, absent: int, steps: int = 32):
    """Shares of a score for the words of sentences: integrated gradients at the words' embeddings -> (B,L).

    score: (tokens, token_mask), each (N,L) -> (N,). embedding: the layer that turns tokens into vectors, (N,L) ->
    (N,L,D). absent: the token that stands for no word, such as [MASK] or the unknown word. Rows add up to the score
    minus that of a sentence of `absent` alone; padding gets 0. Raises ValueError for a sentence of padding only, a
    model in training mode, or a layer that took no part.
    """
    _refuse_training(score, embedding)
    if not token_mask.any(dim=1).all():
        row = int(token_mask.any(dim=1).int().argmin())
        raise ValueError(f"word_attribution: sentence {row} is padding only; it has no words to credit.")
    with torch.no_grad():
        given = embedding(tokens)
        nothing = embedding(torch.where(token_mask, absent, tokens))  # (B,L,D)

    def of_vectors(rows):  # (N,L,D), N a multiple of B
        times, ran = len(rows) // len(tokens), []

        def put_in(layer, inputs, output):
            ran.append(True)
            return rows

        handle = embedding.register_forward_hook(put_in)
        try:
            scores = score(tokens.repeat(times, 1), token_mask.repeat(times, 1))
        finally:
            handle.remove()
        if not ran:
            raise ValueError(f"word_attribution: {_name(embedding)} took no part in the score.")
        return scores

    return integrated_gradients(of_vectors, given, nothing, steps).sum(dim=-1)  # (B,L,D) -> (B,L)


def rollout(attentions: Sequence[torch.Tensor]) -> torch.Tensor:
    """Attention followed through the layers, as if every block were attention and a detour around it, half and half.

    attentions: of each layer, first to last, (B,h,N,N) with rows that add up to 1 -> (B,N,N): what each token read of
    each input token. With a class token take row 0, where patches are pooled the mean of the rows. No sentence enters:
    the map is the same whatever is asked. Raises ValueError for other shapes or rows. Source: Abnar and Zuidema 2020.
    """
    if not len(attentions):
        raise ValueError("rollout: no attentions given; one tensor (B,h,N,N) for each layer, first to last, please.")
    whole = None
    for attn in attentions:
        if attn.ndim != 4 or attn.shape[2] != attn.shape[3] or (whole is not None and whole.shape[1] != attn.shape[2]):
            raise ValueError(f"rollout: attentions must be (B,h,N,N), all alike; got {tuple(attn.shape)}.")
        if not torch.allclose(attn.sum(dim=-1), attn.new_ones(()), atol=1e-3):
            raise ValueError("rollout: rows must add up to 1; these look like scores before the softmax.")
        step = (attn.mean(dim=1) + torch.eye(attn.shape[2]).to(attn)) / 2  # (B,h,N,N) -> (B,N,N)
        whole = step if whole is None else step @ whole
    return whole


def randomised(model: nn.Module, parts: Iterable[str], seed: int = 0) -> Iterator[tuple[str, nn.Module]]:
    """Copies of a model that forget what they learned, part by part: pairs of (name of the part, copy).

    parts: names of submodules, usually from the last to the first; each copy has forgotten the parts so far. Forgotten
    weights are shuffled within their tensor: the same numbers in other places, so that nothing grows or shrinks. A map
    that stays as it was cannot have come from what the model learned. Raises ValueError for an unknown part. Source:
    Adebayo et al. 2018, section 3.1.
    """
    model, generator = copy.deepcopy(model), torch.Generator().manual_seed(seed)
    known = dict(model.named_modules())
    for part in parts:
        if part not in known:
            raise ValueError(f"randomised: the model has no part {part!r}; known are {', '.join(list(known)[1:9])} ...")
        with torch.no_grad():
            for weight in known[part].parameters():
                order = torch.randperm(weight.numel(), generator=generator).to(weight.device)
                weight.copy_(weight.flatten()[order].view_as(weight))
        yield part, copy.deepcopy(model)


def _from_layer_on(encode: Callable, layer: nn.Module, images):
    """The layer's output as a leaf, and the embeddings (B,E) with a graph that begins there."""
    kept = []

    def cut(module, inputs, output):
        first = output[0] if isinstance(output, tuple) else output
        if not isinstance(first, torch.Tensor) or kept:
            raise ValueError(f"grad_cams: {_name(layer)} gives no tensor, or runs more than once; take another layer.")
        kept.append(first.detach().requires_grad_())
        torch.set_grad_enabled(True)  # from here on; the `no_grad` below puts it back
        onward = kept[0].clone()  # so that a next layer may work in place
        return (onward, *output[1:]) if isinstance(output, tuple) else onward

    handle = layer.register_forward_hook(cut)
    try:
        with torch.no_grad():
            z_img = encode(images)
    finally:
        handle.remove()
    if not kept:
        raise ValueError(f"grad_cams: {_name(layer)} has no activations: it took no part in encoding the pictures.")
    if not z_img.requires_grad:
        raise ValueError(f"grad_cams: no gradient reaches {_name(layer)}; is a part above it under torch.no_grad()?")
    return kept[0], z_img


def _refuse_training(function: Callable, layer: nn.Module) -> None:
    owner = getattr(function, "__self__", function)  # the model behind model.encode_image
    modules = [layer, *([owner] if isinstance(owner, nn.Module) else [])]
    if any(part.training for module in modules for part in module.modules()):
        raise ValueError("the model is in training mode: dropout and BatchNorm would be explained. model.eval()")


def _name(layer: nn.Module) -> str:
    return f"layer {type(layer).__name__}"
