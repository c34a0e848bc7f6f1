"""Checks of lesson 07: a hook, Grad-CAM and its closed form, tokens, occlusion, integrated gradients, measures of maps.

Functions are tried on small seeded tensors whose sides all differ, and on toy scores whose truth is known.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import torch
from torch import nn

from course_utils.checks._outcome import call, close, exercise, expect, judge, numbers, run, verdict


@exercise("07", "7.1")
def check_watch_output(answer: Callable) -> None:
    """watch_output(layer, run) -> the layer's output, with its graph; the hook is gone afterwards."""
    with torch.random.fork_rng(devices=[]):  # the lesson's own draws stay as they are
        first, layer, last = nn.Linear(3, 4), nn.Linear(4, 5), nn.Linear(5, 2)
    model, x = nn.Sequential(first, layer, nn.Tanh(), last), _rows(1, 6, 3)
    plain, results = model(x), []

    def runs():
        results.append(model(x))

    value = run(answer, layer, runs)
    expect(isinstance(value, torch.Tensor), f"The layer's output is wanted, a tensor; yours is {type(value).__name__}.")
    expect(len(results) == 1, f"run() should be called once, yours calls it {len(results)} times.")
    kept = len(layer._forward_hooks) + len(layer._forward_pre_hooks)
    expect(not kept, "The hook is still there: remove it, or every later pass goes through it too.")
    expect(torch.equal(results[0], plain), "With your hook the model computes something else. It should return None.")
    with torch.no_grad():
        wanted, given = layer(first(x)), first(x)
    mistakes = {"This is what went into the layer. A forward hook gets (layer, inputs, output).": given}
    judge(value, wanted, mistakes, "Keep what the hook is given as output.")
    expect(value.requires_grad, "The output has lost its graph. Do not detach it: you will need its gradient.")

    def fails():
        model(x)
        raise KeyError("on purpose")

    with contextlib.suppress(KeyError):
        answer(layer, fails)
        expect(False, "run() failed, and nobody was told: let its error through.")
    expect(not layer._forward_hooks, "When run() fails, the hook stays. Use try ... finally, or a with block.")


@exercise("07", "7.2")
def check_cam(answer: Callable) -> None:
    """cam(activations (C,h,w), gradients (C,h,w)) -> (h,w)."""
    for seed, shape in ((2, (5, 3, 4)), (3, (2, 4, 6))):
        a, g = _rows(seed, *shape), _rows(seed + 50, *shape)
        weights = g.mean(dim=(1, 2), keepdim=True)  # (C,1,1)
        signed = (weights * a).sum(dim=0)  # (h,w)
        wanted, places = signed.relu(), shape[1] * shape[2]
        mistakes = {
            "What speaks against the score must be cut off: a relu at the end.": signed,
            "abs shows what speaks against the score as if it spoke for it. Cut it off: relu.": signed.abs(),
            "relu comes last, after the sum over channels. Channels may cancel.": (weights * a).relu().sum(dim=0),
            "The weights keep their sign; only the finished map is cut off.": (weights.relu() * a).sum(dim=0).relu(),
            "The activations keep their sign; only the map is cut off.": (weights * a.relu()).sum(dim=0).relu(),
            "This is gradient times activation, place by place: HiResCAM, a good method of another name.": (
                (g * a).sum(dim=0).relu(), (g * a).sum(dim=0)),
            "The weights are sums over places. Their mean is asked: h * w times less.": wanted * places,
            "Channels are added up, not averaged.": wanted / shape[0],
            "You averaged gradients over channels. Each channel has one weight: its mean over places.": (
                (g.mean(dim=0) * a).sum(dim=0).relu(), (g.mean(dim=0) * a.sum(dim=0)).relu()),
            "The roles are swapped: gradients are averaged, activations are the map.": (
                (a.mean(dim=(1, 2), keepdim=True) * g).sum(dim=0).relu()),
            "Do not divide by the largest value: section 8 needs the map's true size.": wanted / wanted.max(),
        }  # fmt: skip
        judge(call(answer, a, g), wanted, mistakes, "One weight a channel, the weighted sum of its maps, then relu.")


@exercise("07", "7.3")
def check_pair_gradient(answer: Callable) -> None:
    """pair_gradient(z (E,), t (E,) of length 1) -> gradient of t . z / |z| with respect to z, (E,)."""
    for seed, width, length in ((4, 5, 2.5), (5, 3, 0.4)):
        z, t = _rows(seed, width), _rows(seed + 50, width)
        z, t = length * z / z.norm(), t / t.norm()
        u, size = z / z.norm(), z.norm()
        wanted = (t - (t @ u) * u) / size
        mistakes = {
            "This is the gradient of t . z. The score divides by |z|, and that depends on z too.": t,
            "Along z the score cannot change, since only its direction counts: take the part of t along z away.": t
            / size,
            "The length is missing: the longer z is, the less a step turns it. Divide by |z|.": wanted * size,
            "Divided by |z| twice.": wanted / size,
            "Project on the unit vector z / |z|, not on z itself.": ((t - (t @ z) * z) / size, t - (t @ z) * z),
            "The part along z is subtracted, not added.": ((t + (t @ u) * u) / size, t + (t @ u) * u),
            "The roles are swapped: z moves, t stays.": ((u - (t @ u) * t) / size, u - (t @ u) * t),
        }
        judge(call(answer, z, t), wanted, mistakes, "Compare with torch.autograd.grad.")


@exercise("07", "7.4")
def check_to_picture(answer: Callable) -> None:
    """to_picture(tokens (1+rows*columns,D), rows, columns) -> (D,rows,columns), without the class token."""
    for seed, rows, columns, width in ((6, 3, 4, 5), (7, 5, 2, 3)):
        tokens = _rows(seed, 1 + rows * columns, width)
        patches = tokens[1:]
        wanted = patches.T.reshape(width, rows, columns)
        mistakes = {
            "A reshape alone scrambles: the width must come first, by a transpose, before rows and columns are made.": (
                patches.reshape(width, rows, columns)),
            "The class token comes first. You dropped the last patch.": tokens[:-1].T.reshape(width, rows, columns),
            "Rows and columns are swapped.": (patches.T.reshape(width, columns, rows), wanted.transpose(1, 2)),
            "Patches are counted like words on a page: row by row, not column by column.": (
                patches.T.reshape(width, columns, rows).transpose(1, 2)),
            "The width should come first: (D,rows,columns).": patches.reshape(rows, columns, width),
        }  # fmt: skip
        try:
            value = call(answer, tokens, rows, columns)
        except RuntimeError as error:
            expect("invalid for input" not in str(error), "There is a class token in front of the patches. Drop it.")
            raise
        judge(value, wanted, mistakes, f"{rows} x {columns} patches of width {width}.")


@exercise("07", "7.5")
def check_occlude(answer: Callable) -> None:
    """occlude(image (3,H,W), top, left, side, instead (3,H,W)) -> (3,H,W)."""
    for seed, height, width, top, left, side in ((8, 7, 9, 1, 4, 3), (9, 8, 6, 4, 1, 2)):
        image, instead = _rows(seed, 3, height, width), _rows(seed + 50, 3, height, width)

        def covered(rows, columns, by=instead, image=image):
            mixed = image.clone()
            mixed[:, rows, columns] = by if isinstance(by, float) else by[:, rows, columns]
            return mixed

        rows, columns = slice(top, top + side), slice(left, left + side)
        wanted, shifted, one = covered(rows, columns), image.clone(), image.clone()
        shifted[:, rows, columns] = instead[:, :side, :side]
        one[0, rows, columns] = instead[0, rows, columns]
        mistakes = {
            "top and left are swapped: rows come first.": covered(columns, rows),
            "A slice ends at top + side, not at side.": covered(slice(top, side), slice(left, side)),
            "The square is filled with zeros. `instead` says what stands there.": covered(rows, columns, 0.0),
            "The square is taken from the corner of `instead`. Take it from the same place.": shifted,
            "One channel is covered. All three must be.": one,
            "Inside out: the square comes from `instead`, the rest from the picture.": image + instead - wanted,
        }
        judge(call(answer, image, top, left, side, instead), wanted, mistakes, "Only the square changes.")


@exercise("07", "7.6")
def check_integrated(answer: Callable) -> None:
    """integrated(score, x (D,), baseline (D,), steps) -> (D,)."""
    for seed, width, steps in ((10, 4, 50), (11, 6, 80)):
        x, baseline, a = _rows(seed, width), _rows(seed + 50, width), _rows(seed + 100, width).abs() + 0.5

        def score(rows, a=a):
            return (a * rows**3).sum(dim=-1) + 2 * rows[..., 0] * rows[..., 1]

        def gradients(start, way, points, score=score):
            rows = (start + points[:, None] * way).requires_grad_()  # (steps,D)
            return torch.autograd.grad(score(rows).sum(), rows)[0]

        k, way = torch.arange(steps), x - baseline
        middles, ends = (k + 0.5) / steps, (k + 1) / steps
        mean = gradients(baseline, way, middles).mean(dim=0)
        wanted = mean * way
        value = call(answer, score, x, baseline, steps)
        rules = [gradients(baseline, way, points).mean(dim=0) * way for points in (ends, ends - 1 / steps)]
        fine = gradients(baseline, way, (torch.arange(1000) + 0.5) / 1000).mean(dim=0) * way
        if any(close(value, other, 1e-2) for other in (*rules, sum(rules) / 2, fine)):
            continue  # left ends, right ends, trapezoids, Gauss: as good at so many steps
        piles = [gradients(baseline, way, points).cumsum(dim=0).mean(dim=0) * way for points in (middles, ends)]
        mistakes = {
            "The gradient at x alone. It is averaged along the whole way from the baseline.": gradients(
                x, way, torch.zeros(1))[0] * way,
            "The gradient in the middle of the way alone: average gradients, not inputs.": gradients(
                baseline, way, torch.full((1,), 0.5))[0] * way,
            "These are mean gradients. Multiply by x - baseline: how far each number went.": mean,
            "Multiply by x - baseline, not by x.": mean * x,
            "The way must start at the baseline; yours starts at zero.": tuple(
                gradients(torch.zeros(width), x, points).mean(dim=0) * times
                for points in (middles, ends) for times in (x, way)),
            "A mean over steps, not a sum.": wanted * steps,
            "The way round: from the baseline to x, times x - baseline.": -wanted,
            "Gradients pile up in .grad from step to step. Use torch.autograd.grad, or set .grad to None.": (
                *piles, *(pile * steps for pile in piles)),
        }  # fmt: skip
        total = float((score(x) - score(baseline)).detach())
        judge(value, wanted, mistakes, f"They should add up to score(x) - score(baseline) = {total:.3f}.")


@exercise("07", "7.7")
def check_energy(answer: Callable) -> None:
    """energy(saliency (H,W), mask (H,W) bool) -> share of the positive part inside the mask."""
    for seed, height, width in ((12, 4, 6), (13, 5, 3)):
        saliency, mask = _rows(seed, height, width), _rows(seed + 50, height, width) > 0.4
        positive = saliency.clamp(min=0)
        wanted, sizes = positive[mask].sum() / positive.sum(), saliency.abs()
        mistakes = {
            "Negative values must go first: saliency.clamp(min=0).": saliency[mask].sum() / saliency.sum(),
            "abs counts what speaks against as if it spoke for. Clamp at 0.": sizes[mask].sum() / sizes.sum(),
            "The share outside. Turn the mask.": 1 - wanted,
            "Inside over outside. The share of the whole is asked.": positive[mask].sum() / positive[~mask].sum(),
            "You compared means. Energy is a share of the sum.": (
                positive[mask].mean() / positive.mean(), positive[mask].mean() / positive[~mask].mean()),
            "This is the sum inside. Divide by the sum of the whole map.": positive[mask].sum(),
            "This is the mask's share of the picture: the map is not used.": mask.float().mean(),
        }  # fmt: skip
        judge(call(answer, saliency, mask), wanted, mistakes, f"For this map it is {float(wanted):.4f}.")
    nothing = call(answer, torch.zeros(4, 6), mask := _rows(99, 4, 6) > 0.4)
    area = "A map of zeros knows nothing: it should score the mask's share of the picture, as a flat map does."
    judge(nothing, mask.float().mean(), {area: (0.0, 1.0, 0.5)}, area, area)


@exercise("07", "7.9")
def check_deletion_curve(answer: Callable) -> None:
    """deletion_curve(score, image (3,H,W), saliency (H,W), instead (3,H,W), steps) -> (steps+1,)."""
    for seed, height, width, steps in ((14, 4, 6, 8), (15, 6, 3, 3)):
        image, instead = _rows(seed, 3, height, width), _rows(seed + 50, 3, height, width)
        saliency, weights = _rows(seed + 100, height, width), _rows(seed + 150, 3, height, width)

        def score(images, weights=weights):
            return (images * weights / 9).flatten(1).sum(dim=1).tanh() + 2.0

        def curve(saliency, by=instead, block=0, image=image, steps=steps, score=score):
            place = saliency.flatten().argsort(descending=True).argsort().reshape(saliency.shape)  # 0 for the first
            each = saliency.numel() // steps
            gone = [(place < k * each) & (place >= block * (k - 1) * each) for k in range(steps + 1)]
            return torch.cat([score(torch.where(mask, by, image)[None]) for mask in gone])

        wanted = curve(saliency)
        mistakes = {
            "The least important pixels go first in yours. Start with the largest.": curve(-saliency),
            "The untouched picture is missing: steps + 1 points, the first with nothing gone.": wanted[1:],
            "The last point is missing: steps + 1 points, the last with everything gone.": wanted[:-1],
            "This is insertion: the picture comes back. Start from the whole picture.": (
                curve(saliency, image, image=instead), wanted.flip(0)),
            "What went stays gone: at step k all of the first k parts are missing.": curve(saliency, block=1),
            "Pixels turn to zero. `instead` says what stands there.": curve(saliency, torch.zeros_like(instead)),
            "Scores as they are, please, not compared with the first.": (wanted / wanted[0], wanted - wanted[0]),
        }  # fmt: skip
        value = call(answer, score, image, saliency, instead, steps)
        if isinstance(value, (list, tuple)):
            value = torch.stack([torch.as_tensor(point).detach().reshape(()) for point in value])
        otherwise = f"{steps} steps of {height * width // steps} pixels each, the largest first."
        judge(value, wanted, mistakes, otherwise)


@exercise("07", "7.10")
def check_is_sound(answer: Callable) -> None:
    """is_sound(explain) -> bool: whether the map explain(score, image) -> (H,W) tells what the score reads."""
    sound = {
        "covers one part after the other": _by_parts,
        "multiplies gradient and pixel": lambda score, image: (_gradient(score, image) * image).sum(dim=0).abs(),
        "shows the size of the gradient": lambda score, image: _gradient(score, image).abs().sum(dim=0),
        "integrates gradients from the mean colour": _integrated,
    }
    seen, two = {}, "Explain two different scores of one picture."
    side = "Let a score read the left part alone. Where is the map strong?"
    weaker = "Explain a score, and the same score divided by a hundred: the second map must be weaker."
    wrong = {
        "one that finds edges and never asks the score": (_edges, two),
        "one that shows where the picture departs from its mean, whatever is asked": (_contrast, two),
        "one that keeps a picture's first map and shows it whatever is asked later": (
            lambda score, image: seen.setdefault(float(image.sum()), _by_parts(score, image)), two),
        "one that always points at the middle": (_middle, side),
        "one that takes left for right": (lambda score, image: _integrated(score, image).flip(1), side),
        "noise": (_noise, side),
        "one that divides each map by its own largest value": (
            lambda score, image: nn.functional.normalize(_by_parts(score, image), p=torch.inf, dim=(0, 1)), weaker),
    }  # fmt: skip
    asked = []

    def verdict_on(subject):
        return verdict(answer, lambda score, image: asked.append(1) or subject(score, image).detach())

    for words, subject in sound.items():
        said = verdict_on(subject)
        expect(asked, "Your test never calls the function it is given. Use its argument.")
        expect(said, f"Your test rejects a sound method, one that {words}. Is your picture plain? Use random pixels, "
                     "and ask for most of a map's sum, not for all of it.")  # fmt: skip
    fooled = [f"{words}. {look}" for words, (subject, look) in wrong.items() if verdict_on(subject)]
    expect(len(fooled) < len(wrong), "Your test accepts every map, even noise. What does it compare?")
    found = f"Your test accepts {len(fooled)} of {len(wrong)} methods that are wrong, such as {''.join(fooled[:1])}"
    expect(not fooled, found)


@exercise("07", "7.8")
def check_needed(answer: object) -> None:
    """(0.07, 0.5): chance for a random map, and for one that always hits one of two objects."""
    values = numbers(answer, 2, "Two numbers are wanted, in a tuple: the random map, then the one that hits objects.")
    mistakes = {
        "A random map does not know where objects are: its strongest point falls anywhere.": ([0.5, 0.5], [0.5, 0.07]),
        "It hits one object in every picture, but which of the two is a coin's choice.": ([0.07, 1.0], [0.14, 1.0]),
        "Both objects together cover 0.14, but only one of them was asked for.": ([0.14, 0.5], [0.14, 0.07]),
        "The second map never falls on the ground: its chance is not an area.": ([0.07, 0.14], [0.07, 0.07]),
        "Shares, please, not percent.": [7.0, 50.0],
    }
    judge(values, [0.07, 0.5], mistakes, "A share of the picture for the first, a coin for the second.")


def _rows(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _gradient(score: Callable, image) -> torch.Tensor:
    """Of the score at the picture, (3,H,W); zeros where the score reads nothing."""
    image = image.detach().clone().requires_grad_()
    value = torch.as_tensor(score(image[None])).sum()
    return torch.autograd.grad(value, image)[0] if value.requires_grad else torch.zeros_like(image)


def _integrated(score: Callable, image) -> torch.Tensor:
    start = image.mean(dim=(1, 2), keepdim=True).expand_as(image)
    steps = [_gradient(score, start + share * (image - start)) for share in (0.1, 0.3, 0.5, 0.7, 0.9)]
    return (torch.stack(steps).mean(dim=0) * (image - start)).sum(dim=0).abs()


def _by_parts(score: Callable, image) -> torch.Tensor:
    """What is lost, in size, when each of up to 8 x 8 parts turns to the mean colour."""
    (height, width), start = image.shape[1:], image.mean(dim=(1, 2), keepdim=True)
    rows, columns = torch.arange(height) * 8 // height, torch.arange(width) * 8 // width
    saliency = torch.zeros(height, width)
    for row in rows.unique():
        for column in columns.unique():
            part = (rows == row)[:, None] & (columns == column)
            lost = torch.as_tensor(score(image[None])) - torch.as_tensor(score(torch.where(part, start, image)[None]))
            saliency[part] = float(lost.abs().sum()) / part.sum()
    return saliency


def _contrast(score: Callable, image) -> torch.Tensor:
    return (image - image.mean(dim=(1, 2), keepdim=True)).abs().sum(dim=0)


def _edges(score: Callable, image) -> torch.Tensor:
    return nn.functional.pad(image[:, :, 1:] - image[:, :, :-1], (0, 1)).abs().sum(dim=0)


def _noise(score: Callable, image) -> torch.Tensor:
    return torch.rand(image.shape[1:], generator=torch.Generator().manual_seed(len(image[0])))


def _middle(score: Callable, image) -> torch.Tensor:
    return torch.outer(*(torch.hann_window(side, periodic=False) for side in image.shape[1:]))
