"""Checks of lesson 07: the solution and other spellings pass, what people really write is named, nothing leaks."""

import numpy as np
import torch
from contract import Contract
from torch import nn

from course_utils import explain, faithfulness
from course_utils.checks import grad_cam as checks

VALUES = ("7.8",)  # exercises whose answer is a value


# 7.1


def watch_output(layer, run):
    kept = []
    handle = layer.register_forward_hook(lambda layer, inputs, output: kept.append(output))
    try:
        run()
    finally:
        handle.remove()
    return kept[-1]


def watch_output_packaged(layer, run):
    with explain.Watch(layer) as seen:
        run()
    return seen.output


def watch_with(hook, remove=True, safe=True, times=1, failing=False):
    def watch(layer, run):
        kept = []
        handle = layer.register_forward_hook(lambda *given: hook(kept, *given))
        try:
            for _ in range(times):
                run()
        except KeyError:
            if safe:
                handle.remove()
            if not failing:
                raise
        if remove:
            handle.remove()
        return kept[-1] if kept else 3.0

    return watch


def keep_output(kept, layer, inputs, output):
    kept.append(output)


def keep_input(kept, layer, inputs, output):
    kept.append(inputs[0])


def keep_detached(kept, layer, inputs, output):
    kept.append(output.detach())


def replace(kept, layer, inputs, output):
    kept.append(output)
    return output * 2


# 7.2


def cam(activations, gradients):
    weights = gradients.mean(dim=(1, 2))
    return torch.einsum("c,chw->hw", weights, activations).relu()


def cam_packaged(activations, gradients):
    return explain.grad_cam(activations[None], gradients[None])[0]


def cam_loop(activations, gradients):
    a, g = activations.numpy(), gradients.numpy()
    total = np.zeros(a.shape[1:])
    for c in range(len(a)):
        total += g[c].mean() * a[c]
    return np.maximum(total, 0)


def weighted(a, g):
    return g.mean(dim=(1, 2), keepdim=True) * a


# 7.3


def pair_gradient(z, t):
    u = z / z.norm()
    return (t - (t @ u) * u) / z.norm()


def pair_gradient_autograd(z, t):
    z = z.clone().requires_grad_()
    return torch.autograd.grad(t @ z / z.norm(), z)[0]


def pair_gradient_matrix(z, t):
    z, t = z.numpy().astype(float), t.numpy().astype(float)
    n = np.linalg.norm(z)
    return (np.eye(len(z)) - np.outer(z, z) / n**2) @ t / n


def unit(z):
    return z / z.norm()


# 7.4


def to_picture(tokens, rows, columns):
    return tokens[1:].T.reshape(-1, rows, columns)


def to_picture_packaged(tokens, rows, columns):
    return explain.tokens_to_map(tokens[None], rows, columns, skip=1)[0]


def to_picture_loop(tokens, rows, columns):
    picture = torch.zeros(tokens.shape[1], rows, columns)
    for k, token in enumerate(tokens[1:]):
        picture[:, k // columns, k % columns] = token
    return picture


# 7.5


def occlude(image, top, left, side, instead):
    covered = image.clone()
    covered[:, top : top + side, left : left + side] = instead[:, top : top + side, left : left + side]
    return covered


def occlude_where(image, top, left, side, instead):
    y, x = torch.arange(image.shape[1])[:, None], torch.arange(image.shape[2])
    inside = (y >= top) & (y < top + side) & (x >= left) & (x < left + side)
    return torch.where(inside, instead, image)


def in_place(image, top, left, side, instead):
    image[:, top : top + side, left : left + side] = instead[:, top : top + side, left : left + side]
    return image


SQUARE = lambda start, side: slice(start, start + side)
SHORT = lambda start, side: slice(start, side)


def occlude_with(cut, source):
    def occlude(image, top, left, side, instead):
        covered = image.clone()
        covered[:, cut(top, side), cut(left, side)] = source(instead, top, left, side)
        return covered

    return occlude


def one_channel(image, top, left, side, instead):
    covered = image.clone()
    covered[0, top : top + side, left : left + side] = instead[0, top : top + side, left : left + side]
    return covered


# 7.6


def integrated(score, x, baseline, steps):
    shares = (torch.arange(steps) + 0.5) / steps
    rows = (baseline + shares[:, None] * (x - baseline)).requires_grad_()
    (gradients,) = torch.autograd.grad(score(rows).sum(), rows)
    return gradients.mean(dim=0) * (x - baseline)


def integrated_packaged(score, x, baseline, steps):
    return explain.integrated_gradients(score, x[None], baseline[None], steps)[0]


def integrated_right_ends(score, x, baseline, steps):
    total = torch.zeros_like(x)
    for k in range(1, steps + 1):
        point = (baseline + k / steps * (x - baseline)).requires_grad_()
        score(point[None])[0].backward()
        total += point.grad
    return total / steps * (x - baseline)


def gradients_at(score, rows):
    rows = rows.clone().requires_grad_()
    return torch.autograd.grad(score(rows).sum(), rows)[0]


def along(change, start=None):
    def integrated(score, x, baseline, steps):
        begin = baseline if start is None else start(x)
        shares = (torch.arange(steps) + 0.5)[:, None] / steps
        return change(gradients_at(score, begin + shares * (x - begin)), x, baseline, steps)

    return integrated


def piled(score, x, baseline, steps):
    total, offset = torch.zeros_like(x), torch.zeros_like(x, requires_grad=True)
    for k in range(steps):
        score((baseline + (k + 0.5) / steps * (x - baseline) + offset)[None])[0].backward()
        total += offset.grad
    return total / steps * (x - baseline)


# 7.7


def energy(saliency, mask):
    positive = saliency.clamp(min=0)
    if positive.sum() == 0:
        return mask.float().mean()
    return positive[mask].sum() / positive.sum()


def energy_packaged(saliency, mask):
    return faithfulness.energy_inside(saliency[None].clamp(min=0), mask[None])[0]


def energy_loop(saliency, mask):
    inside = total = 0.0
    for row, masked in zip(saliency.tolist(), mask.tolist()):
        for value, is_inside in zip(row, masked):
            total += max(value, 0)
            inside += max(value, 0) * is_inside
    return inside / total if total else sum(map(sum, mask.tolist())) / mask.numel()


def or_area(measure):
    return lambda s, m: m.float().mean() if s.abs().sum() == 0 else measure(s, m)


def positive(s):
    return s.clamp(min=0)


# 7.9


def deletion_curve(score, image, saliency, instead, steps):
    order = saliency.flatten().argsort(descending=True)
    curve = []
    for k in range(steps + 1):
        gone = torch.zeros(saliency.numel(), dtype=torch.bool)
        gone[order[: round(k * saliency.numel() / steps)]] = True
        curve.append(score(torch.where(gone.view_as(saliency), instead, image)[None])[0])
    return torch.stack(curve)


def deletion_curve_packaged(score, image, saliency, instead, steps):
    def value(kept):
        return score(torch.where(torch.from_numpy(kept)[:, None], image, instead)).numpy()

    return faithfulness.deletion(value, saliency.numpy(), tuple(saliency.shape), steps)


def deletion_curve_list(score, image, saliency, instead, steps):
    return [float(value) for value in deletion_curve(score, image, saliency, instead, steps)]


def from_one(score, image, saliency, instead, steps):
    return deletion_curve(score, image, saliency, instead, steps)[1:]


def blocks_alone(score, image, saliency, instead, steps):
    order, each = saliency.flatten().argsort(descending=True), saliency.numel() // steps
    curve = [score(image[None])[0]]
    for k in range(steps):
        gone = torch.zeros(saliency.numel(), dtype=torch.bool)
        gone[order[k * each : (k + 1) * each]] = True
        curve.append(score(torch.where(gone.view_as(saliency), instead, image)[None])[0])
    return torch.stack(curve)


def in_place_deletion(score, image, saliency, instead, steps):
    image[:] = instead
    return deletion_curve(score, image, saliency, instead, steps)


# 7.10


def left(images):
    return images[:, :, :, :8].sum(dim=(1, 2, 3))


def right(images):
    return images[:, :, :, 8:].sum(dim=(1, 2, 3))


def random_image():
    return torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0))


def is_sound(explain):
    image = random_image()
    for score, reads in ((left, slice(0, 8)), (right, slice(8, 16))):
        saliency = explain(score, image)
        if not saliency[:, reads].sum() > 0.8 * saliency.sum():
            return False
        if not explain(lambda images, score=score: score(images) / 100, image).sum() < 0.5 * saliency.sum():
            return False
    return True


def is_sound_corners(explain):
    image = random_image().numpy()

    def corner(images):
        return (images[:, :, :4, :4] ** 2).mean((1, 2, 3))

    found = np.asarray(explain(corner, torch.from_numpy(image)))
    other = np.asarray(explain(lambda images: images[:, :, -4:, -4:].mean((1, 2, 3)), torch.from_numpy(image)))
    weak = np.asarray(explain(lambda images: corner(images) * 0.01, torch.from_numpy(image)))
    outside = found[4:].sum() + found[:4, 4:].sum()
    return bool(
        outside < 0.2 * found.sum() and other[:8, :8].sum() < 0.2 * other.sum() and weak.max() < found.max() / 3
    )


def halves_only(explain):
    image = random_image()
    a, b = explain(left, image), explain(right, image)
    return bool(a[:, :8].sum() > 0.8 * a.sum() and b[:, 8:].sum() > 0.8 * b.sum())


def differs_only(explain):
    return not torch.equal(explain(left, random_image()), explain(right, random_image()))


def on_a_plain_picture(explain):
    saliency = explain(left, torch.full((3, 16, 16), 0.5))
    return bool(saliency[:, :8].sum() > 0.8 * saliency.sum())


def with_assert(explain):
    assert halves_only(explain), "wrong half"
    return True


RIGHT = [
    ("7.1", [watch_output, watch_output_packaged]),
    ("7.2", [cam, cam_packaged, cam_loop]),
    ("7.3", [pair_gradient, pair_gradient_autograd, pair_gradient_matrix]),
    ("7.4", [to_picture, to_picture_packaged, to_picture_loop]),
    ("7.5", [occlude, occlude_where]),
    ("7.6", [integrated, integrated_packaged, integrated_right_ends]),
    ("7.7", [energy, energy_packaged, energy_loop]),
    ("7.9", [deletion_curve, deletion_curve_packaged, deletion_curve_list]),
    ("7.10", [is_sound, is_sound_corners]),
    ("7.8", [(0.07, 0.5), [0.07, 1 / 2], np.array([0.07, 0.5])]),
]

WRONG = {
    "7.1": [
        (watch_with(keep_output, remove=False, safe=False), "hook is still there"),
        (watch_with(keep_output, safe=False), "try ... finally"),
        (watch_with(keep_output, failing=True), "let its error through"),
        (watch_with(keep_input), "what went into the layer"),
        (watch_with(keep_detached), "Do not detach"),
        (watch_with(replace), "computes something else"),
        (watch_with(keep_output, times=2), "yours calls it 2 times"),
        (watch_with(keep_output, times=0), "a tensor; yours is float"),
        (lambda layer, run: layer.register_forward_hook(keep_output), "yours is RemovableHandle"),
    ],
    "7.2": [
        (lambda a, g: weighted(a, g).sum(dim=0), "a relu at the end"),
        (lambda a, g: weighted(a, g).sum(dim=0).abs(), "abs shows what speaks against"),
        (lambda a, g: weighted(a, g).relu().sum(dim=0), "relu comes last"),
        (lambda a, g: cam(a.relu(), g), "activations keep their sign"),
        (lambda a, g: (g.mean(dim=(1, 2), keepdim=True).relu() * a).sum(dim=0).relu(), "weights keep their sign"),
        (lambda a, g: (g * a).sum(dim=0).relu(), "HiResCAM"),
        (lambda a, g: (g.sum(dim=(1, 2), keepdim=True) * a).sum(dim=0).relu(), "h \\* w times less"),
        (lambda a, g: weighted(a, g).mean(dim=0).relu(), "not averaged"),
        (lambda a, g: (g.mean(dim=0) * a).sum(dim=0).relu(), "averaged gradients over channels"),
        (lambda a, g: cam(g, a), "roles are swapped"),
        (lambda a, g: cam(a, g) / cam(a, g).max(), "map's true size"),
        (lambda a, g: cam(a, g).flatten(), "shape should be"),
    ],
    "7.3": [
        (lambda z, t: t, "gradient of t . z"),
        (lambda z, t: t / z.norm(), "part of t along z away"),
        (lambda z, t: t - (t @ unit(z)) * unit(z), "Divide by |z|"),
        (lambda z, t: pair_gradient(z, t) / z.norm(), "Divided by |z| twice"),
        (lambda z, t: (t - (t @ z) * z) / z.norm(), "unit vector"),
        (lambda z, t: (t + (t @ unit(z)) * unit(z)) / z.norm(), "subtracted, not added"),
        (lambda z, t: (unit(z) - (t @ unit(z)) * t) / z.norm(), "z moves, t stays"),
        (lambda z, t: t @ unit(z), "shape should be"),
    ],
    "7.4": [
        (lambda x, r, c: x[1:].reshape(-1, r, c), "reshape alone scrambles"),
        (lambda x, r, c: x[:-1].T.reshape(-1, r, c), "dropped the last patch"),
        (lambda x, r, c: x.T.reshape(x.shape[1], r, c), "class token in front"),
        (lambda x, r, c: x[1:].T.reshape(-1, c, r), "swapped"),
        (lambda x, r, c: to_picture(x, r, c).transpose(1, 2), "swapped"),
        (lambda x, r, c: x[1:].T.reshape(-1, c, r).transpose(1, 2), "row by row"),
        (lambda x, r, c: x[1:].reshape(r, c, -1), "width should come first"),
    ],
    "7.5": [
        (in_place, "changes its inputs"),
        (lambda image, top, left, side, instead: occlude(image, left, top, side, instead), "swapped"),
        (occlude_with(SHORT, lambda x, y, z, side: x[:, y:side, z:side]), "ends at top \\+ side"),
        (occlude_with(SQUARE, lambda x, y, z, side: 0.0), "filled with zeros"),
        (occlude_with(SQUARE, lambda x, y, z, side: x[:, :side, :side]), "from the corner"),
        (one_channel, "All three must be"),
        (lambda image, top, left, side, instead: occlude(instead, top, left, side, image), "Inside out"),
    ],
    "7.6": [
        (lambda score, x, b, n: gradients_at(score, x[None])[0] * (x - b), "gradient at x alone"),
        (lambda score, x, b, n: gradients_at(score, (x + b)[None] / 2)[0] * (x - b), "average gradients, not inputs"),
        (along(lambda g, x, b, n: g.mean(dim=0)), "how far each number went"),
        (along(lambda g, x, b, n: g.mean(dim=0) * x), "not by x"),
        (along(lambda g, x, b, n: g.mean(dim=0) * (x - b), torch.zeros_like), "yours starts at zero"),
        (along(lambda g, x, b, n: g.mean(dim=0) * x, torch.zeros_like), "yours starts at zero"),
        (along(lambda g, x, b, n: g.sum(dim=0) * (x - b)), "not a sum"),
        (along(lambda g, x, b, n: g.mean(dim=0) * (b - x)), "from the baseline to x"),
        (piled, "pile up"),
        (along(lambda g, x, b, n: (g.mean(dim=0) * (x - b)).sum()), "shape should be"),
    ],
    "7.7": [
        (or_area(lambda s, m: s[m].sum() / s.sum()), "Negative values must go first"),
        (or_area(lambda s, m: s[m].abs().sum() / s.abs().sum()), "abs counts"),
        (or_area(lambda s, m: positive(s)[~m].sum() / positive(s).sum()), "Turn the mask"),
        (or_area(lambda s, m: positive(s)[m].sum() / positive(s)[~m].sum()), "Inside over outside"),
        (or_area(lambda s, m: positive(s)[m].mean() / positive(s).mean()), "compared means"),
        (or_area(lambda s, m: positive(s)[m].sum()), "Divide by the sum of the whole map"),
        (lambda s, m: m.float().mean(), "the map is not used"),
        (lambda s, m: positive(s)[m].sum() / positive(s).sum(), "knows nothing"),
        (lambda s, m: positive(s)[m].sum() / (positive(s).sum() + 1e-12), "knows nothing"),
    ],
    "7.9": [
        (lambda f, i, s, b, n: deletion_curve(f, i, -s, b, n), "Start with the largest"),
        (from_one, "untouched picture is missing"),
        (lambda f, i, s, b, n: deletion_curve(f, i, s, b, n)[:-1], "last point is missing"),
        (lambda f, i, s, b, n: deletion_curve(f, b, s, i, n), "insertion"),
        (blocks_alone, "What went stays gone"),
        (lambda f, i, s, b, n: deletion_curve(f, i, s, torch.zeros_like(b), n), "turn to zero"),
        (lambda f, i, s, b, n: deletion_curve(f, i, s, b, n) / deletion_curve(f, i, s, b, n)[0], "not compared"),
        (in_place_deletion, "changes its inputs"),
    ],
    "7.10": [
        (lambda explain: True, "never calls"),
        (lambda explain: bool(explain(left, random_image()).sum() >= -1), "accepts every map"),
        (halves_only, "accepts 1 of 7 .* divided by a hundred"),
        (differs_only, "accepts [1-7] of 7"),
        (on_a_plain_picture, "Is your picture plain"),
        (with_assert, "no assert"),
        (lambda explain: explain(left, random_image()), "Return True or False"),
    ],
    "7.8": [
        ((0.5, 0.5), "falls anywhere"),
        ((0.07, 1.0), "a coin's choice"),
        ((0.14, 0.5), "only one of them"),
        ((0.07, 0.14), "not an area"),
        ((7, 50), "not percent"),
        (0.07, "Two numbers are wanted"),
        ((0.07, ...), "still open"),
    ],
}  # fmt: skip


class TestContract(Contract):
    checks, right, wrong, values = checks, RIGHT, WRONG, VALUES


def test_the_lessons_random_draws_stay_as_they_are():
    torch.manual_seed(3)
    wanted = torch.rand(4)
    torch.manual_seed(3)
    checks.check_watch_output(watch_output)
    checks.check_is_sound(is_sound)
    assert torch.equal(torch.rand(4), wanted)


def test_a_layer_may_sit_anywhere():
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(inplace=True))
    value = watch_output_packaged(model[0], lambda: model(torch.randn(4, 2)))
    assert (value < 0).any()  # the ReLU behind it works in place, and does not reach what was kept
