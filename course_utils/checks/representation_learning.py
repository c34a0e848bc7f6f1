"""Checks of lesson 01: frames, neighbours, ridge, CCA, shared codes, gradient reversal, geometry, ConSE, a split.

Functions are tried on seeded rows whose sizes all differ; results may be NumPy, tensors or plain Python. Each check
lists what likely mistakes would give: message -> value or values.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view as windows

from course_utils import geometry, linear
from course_utils.checks._outcome import WrongAnswer, call, exercise, expect, judge, numbers, run, same, shown


@exercise("01", "1.1")
def check_frames(answer: Callable) -> None:
    """frames(samples (T,), length, step) -> (F, length), every frame whole."""
    for seed, count, length, step in ((1, 13, 4, 2), (2, 12, 4, 2), (3, 17, 3, 5)):
        samples = _rows(seed, count)
        wanted, filled = (windows(np.pad(samples, (0, end)), length)[::step] for end in (0, length))  # (F, length)
        padded = tuple(filled[:size] for size in (len(wanted) + 1, count // step, -(-count // step)))
        mistakes = {
            "The next frame begins after `step` samples, not after `length`.": windows(samples, length)[::length],
            "The last frame is missing, though it fits: there are 1 + (T - length) // step.": wanted[:-1],
            "The end is filled up with zeros. Whole frames only: 1 + (T - length) // step.": padded,
            "This is the transpose: one frame a row, (F, length).": wanted.T,
            "length and step are swapped.": windows(samples, step)[::length],
        }
        ragged = "Your last frames are shorter than the others: stop where no whole frame fits any more."
        try:
            value = call(answer, samples, length, step)
        except (ValueError, RuntimeError) as error:
            expect(not any(part in str(error) for part in ("same shape", "inhomogeneous", "equal size")), ragged)
            raise
        expect(not isinstance(value, list) or len({np.size(frame) for frame in value}) == 1, ragged)
        judge(value, wanted, mistakes, f"For T={count}, length={length}, step={step} there are {len(wanted)} frames.")


@exercise("01", "1.2")
def check_neighbours(answer: Callable) -> None:
    """neighbours(x (N,D), k) -> (N,k) indices of the most alike rows by cosine, nearest first, never the row itself."""
    for seed, count, width, k in ((4, 11, 3, 4), (5, 8, 6, 2)):
        x = _rows(seed, count, width) * np.linspace(0.3, 3, count)[:, None] + 0.5
        cosines, columns = _unit(x) @ _unit(x).T, _unit(x.T).T @ _unit(x.T)  # (N,N)
        far = -((x[:, None] - x[None]) ** 2).sum(axis=-1)  # (N,1,D), (1,N,D) -> (N,N)
        wanted, zeroed = _nearest(cosines, k)[1], np.where(np.eye(count), 0.0, cosines)
        mistakes = {
            "The row itself stands first: its cosine with itself is 1. Leave it out.": _nearest(cosines, k + 1)[0],
            "The row itself is among them: its cosine with itself is 1.": _nearest(cosines, k)[0],
            "0 hides the row itself only if cosines are positive. Put -inf there.": _nearest(zeroed, k)[0],
            "A long row wins by its length: divide each row by its own length first.": _nearest(x @ x.T, k),
            "These are the rows least alike. Sort by minus the cosine.": _nearest(-cosines, k),
            "The right rows, the farthest first. The nearest comes first.": wanted[:, ::-1],
            "You measured distance between raw rows, where length counts. Use the cosine.": _nearest(far, k),
            "You divided along the wrong axis: each row has its own length, axis=1.": _nearest(columns, k),
            "These are the cosines. Row numbers are asked: argsort.": np.take_along_axis(cosines, wanted, axis=1),
        }
        judge(call(answer, x, k), wanted, mistakes, f"Row 0's {k} nearest are {wanted[0].tolist()}.")
    x, rows = _rows(6, 7, 4), np.arange(7)[:, None]
    x[[2, 5]] = x[0] * 2, x[0] * 4  # three rows that point the same way
    value = np.asarray(call(answer, x, 2))
    own = "Among equals the row itself need not come first, and yours keeps it. Put -inf on the diagonal, then sort."
    expect(not (value == rows).any(), own)
    expect(all({i, *value[i]} == {0, 2, 5} for i in (0, 2, 5)), "Rows that point the same way are nearest: cosine 1.")


@exercise("01", "1.3")
def check_ridge_weights(answer: Callable) -> None:
    """ridge_weights(x (N,Dx), y (N,Dy), strength) -> weights (Dx,Dy) of centred x and y."""
    for seed, count, wide, strength in ((7, 30, (4, 3), 2.5), (8, 6, (9, 2), 0.4)):
        x, y = _rows(seed, count, wide[0]) + 1.0, _rows(seed + 50, count, wide[1]) - 2.0
        y = y + x[:, : wide[1]]
        a, b = x - x.mean(axis=0), y - y.mean(axis=0)
        inner, across, eye = a.T @ a, a.T @ b, np.eye(wide[0])  # (Dx,Dx), (Dx,Dy)
        wanted, half = linear.ridge(x, y, strength).weight, np.linalg.solve(x.T @ x + strength * eye, across)
        others = [[z - z.mean(axis=1)[:, None] for z in (x, y)], [x - x.mean(), y - y.mean()]]
        rows_or_all = tuple(_solved(*pair, strength) for pair in others)
        scaled = tuple(_solved(a, b, strength * n) for n in (count, 1 / count, count - 1, 1 / (count - 1)))
        sized = tuple(_solved(a / x.std(axis=0), side, strength) for side in (b, b / y.std(axis=0)))
        filled, cells = np.linalg.pinv(inner + strength) @ across, (1 / (inner + strength * eye)) @ across
        mistakes = {
            "x is not centred. Take each column's mean away first.": (_solved(x, y, strength), half),
            "The mean is of each row, or of everything. Each column has its own, axis=0.": rows_or_all,
            "strength stands in every cell. Put it on the diagonal: strength * np.eye(Dx).": filled,
            "strength is off by the factor N: add it to x'x, a sum over rows, as it is.": scaled,
            "strength is not used.": (np.linalg.pinv(a) @ b, _solved(a, b, 1.0)),
            "strength is squared in yours. Add it as it is.": _solved(a, b, strength**2),
            "This is the transpose: (Dx,Dy) turns a row of x into a row of y.": wanted.T,
            "1 / matrix divides cell by cell. Use np.linalg.solve, or np.linalg.inv.": cells,
            "The columns were scaled too. Centre them and leave their size.": sized,
        }
        judge(call(answer, x, y, strength), wanted, mistakes, "Compare with sklearn's Ridge(alpha=strength).coef_.T.")


@exercise("01", "1.4")
def check_canonical_correlations(answer: Callable) -> None:
    """canonical_correlations(x (N,Dx), y (N,Dy)) -> (min(Dx,Dy),), largest first."""
    for seed, count, wide in ((9, 40, (4, 3)), (10, 50, (3, 5))):
        x, y = _rows(seed, count, wide[0]) * np.arange(1, wide[0] + 1) + 1.0, _rows(seed + 50, count, wide[1])
        x[:, 1], y = x[:, 1] + 2 * x[:, 0], y + 0.3 * x[:, :1] + 2.0
        a, b, sizes = x - x.mean(axis=0), y - y.mean(axis=0), (1, count, count - 1)
        wanted = linear.cca(x, y, min(wide)).correlations
        pearson = np.corrcoef(x.T, y.T)[: wide[0], wide[0] :]  # (Dx,Dy)
        white_a, white_b, white_x, white_y = (np.linalg.qr(z)[0] for z in (a, b, x, y))
        products = white_x.T @ white_y, pearson, x.T @ y, a.T @ b, white_a.T @ b, a.T @ white_b  # (Dx,Dy) each
        raw, scaled, *plain, half_a, half_b = (np.linalg.svd(product, compute_uv=False) for product in products)
        mistakes = {
            "x and y are not centred. Take each column's mean away first.": raw,
            "These are squares of correlations: take the root.": wanted**2,
            "Nothing is whitened, so a column of large numbers wins.": tuple(one / n for one in plain for n in sizes),
            "Only one side is whitened. Whiten both.": tuple(one / n**0.5 for one in (half_a, half_b) for n in sizes),
            "Each column was scaled alone. Whitening also removes what columns of one side share.": scaled,
            "This is of single columns. A canonical one is of their best mixture.": (pearson, np.diagonal(pearson)),
            "The smallest comes first in yours. Turn the order round.": wanted[::-1],
        }
        value = call(answer, x, y)
        expect(not isinstance(value, tuple), "np.linalg.svd gives three things, U, the values and V: take the values.")
        judge(value, wanted, mistakes, f"The largest of x {x.shape}, y {y.shape} is {wanted[0]:.4f}.")


@exercise("01", "1.5")
def check_shared_code(answer: Callable) -> None:
    """shared_code(codes (N,M,E), present (N,M) bool) -> (N,E), the mean of the codes that are present."""
    present = np.array([[1, 1, 1], [1, 0, 1], [0, 1, 0], [0, 0, 1], [1, 1, 0]], dtype=bool)  # (N,M)
    for seed, width, first, missing in ((11, 4, 0, 7.0), (12, 2, 1, np.nan)):
        here = present[first:]  # (N,M)
        known = np.where(here[..., None], _rows(seed, len(here), 3, width), 0.0)  # (N,M,E)
        codes, total, rows = np.where(here[..., None], known, missing), known.sum(axis=1), np.arange(len(here))
        number = here.sum(axis=1)[:, None]  # (N,1)
        wanted, absent = total / number, (codes - known).sum(axis=1) / np.maximum(3 - number, 1)
        mistakes = {
            "You divided by M. Divide by how many are present in that row.": total / 3,
            "This is the sum. Divide by how many are present in that row.": total,
            "You divided by how many are present in the whole batch. Each row has its own.": total / here.sum(),
            "You took one modality. The mean of all that are present is asked.": codes[rows, here.argmax(axis=1)],
            "The mean runs over rows. It runs over modalities, axis=1.": (codes.mean(axis=0), known.mean(axis=0)),
            "present is True where a modality is there. You took the others.": absent,
            "present is not used, but what stands at a missing place means nothing.": codes.mean(axis=1),
        }
        infinite = "NaN stood at a missing place and came through: 0 * nan is nan. np.where puts 0 in its place."
        judge(call(answer, codes, here), wanted, mistakes, "Work row 1 out by hand: which codes count?", infinite)


@exercise("01", "1.6")
def check_reverse(answer: Callable) -> None:
    """reverse(x, strength): x itself on the way forward, -strength times the gradient on the way back (torch)."""
    for seed, shape, strength in ((13, (5, 3), 0.5), (14, (4,), 3.0)):
        x, push, other, aside = (torch.from_numpy(_rows(seed + 50 * i, *shape)) for i in range(4))
        ones, every = torch.ones_like(x), push + other + aside
        mistakes = {
            "The gradient passes unchanged. On the way back it is multiplied by -strength.": push,
            "The gradient turns, but strength is not used.": -push,
            "strength is used, but the sign does not turn: -strength.": strength * push,
            "strength is used twice.": (strength**2 * push, strength**2 * -push),
            "You divided by strength. Multiply.": (push / strength, -push / strength),
            "The gradient that comes in is not used. Multiply it.": (-strength * ones, -ones, -strength * x),
        }
        several = {
            "Yours turns every gradient of x. Put the hook on a copy, not on x itself.": 2 * strength**2 * every,
            "The second call's strength served both: keep it in ctx.": -2 * strength * (push + other) + aside,
        }
        with torch.enable_grad():
            value = run(answer, leaf := x.clone().requires_grad_(), strength)
            expect(torch.is_tensor(value), "A tensor like x is wanted. Call the Function by its apply.")
            judge(value, x, {}, "reverse(x, strength) equals x. Only the gradient turns, on the way back.")
            expect(getattr(value, "requires_grad", False), "No gradient can come back: it is cut off (detach, .data).")
            judge(_gradient(value * push, leaf), -strength * push, mistakes, "-strength times what comes in is wanted.")
            leaf = x.clone().requires_grad_()
            total = run(answer, leaf, strength) * push + run(answer, leaf, 2 * strength) * other + leaf * aside
            wanted = -strength * push - 2 * strength * other + aside
            judge(_gradient(total, leaf), wanted, several, "Used twice in one graph, the calls disturb each other.")


@exercise("01", "1.7")
def check_alignment_uniformity(answer: Callable) -> None:
    """alignment_uniformity(z_a (N,E), z_b (N,E)) -> alignment of the pairs, uniformity of z_a at t = 2."""
    for seed, count, width in ((15, 7, 3), (16, 12, 5)):
        z_a = _unit(_rows(seed, count, width))
        z_b = _unit(z_a + 0.6 * _rows(seed + 50, count, width))
        far, cross = (((z_a[:, None] - z[None]) ** 2).sum(axis=-1) for z in (z_a, z_b))  # (N,N)
        pairs, others = cross.diagonal(), ~np.eye(count, dtype=bool)
        align, uniform, near = geometry.alignment(z_a, z_b), geometry.uniformity(z_a), np.exp(-2 * far)
        first, second = numbers(call(answer, z_a, z_b), 2, "Two numbers are wanted: alignment, then uniformity.")
        expect(not (same(first, uniform) and same(second, align)), "Swapped: alignment comes first.")
        root, z_both = np.sqrt(pairs), np.concatenate([z_a, z_b])
        mistakes = {
            "Alignment: this is the distance. Square it.": root.mean(),
            "Alignment: this is the sum over pairs. Take the mean.": (pairs.sum(), pairs, root),
            "Alignment: you averaged over the E numbers of a row too. Sum them.": align / width,
            "Alignment: this is the cosine. The squared distance is 2 - 2 cos.": (1 - align / 2, align / 2),
            "Alignment: only right pairs count, rows i and i.": (cross.mean(), np.sqrt(cross).mean()),
        }
        judge(first, align, mistakes, f"Alignment of {count} pairs: {align:.4f}.")
        with_self = near.mean(), near.sum() / count / (count - 1), (near.sum() + count) / count / (count + 1)
        either = geometry.uniformity(z_both), (uniform + geometry.uniformity(z_b)) / 2, geometry.uniformity(z_b)
        kept = cross, cross[others], cross[np.triu_indices(count, k=1)], far[others] ** 0.5, far[others] ** 2
        *crossed, once, twice = (np.log(np.exp(-2 * squared).mean()) for squared in kept)
        mistakes = {
            "Uniformity: a row meets itself and counts as near. Leave the diagonal out.": tuple(np.log(with_self)),
            "Uniformity: the logarithm is missing.": (near[others].mean(), *with_self),
            "Uniformity: the factor 2 is missing in exp(-2 d^2).": geometry.uniformity(z_a, 1.0),
            "Uniformity: first exp, then mean, then log.": (-2 * far[others].mean(), -2 * far.mean()),
            "Uniformity: z_a alone is asked.": (*either, *crossed),
            "Uniformity: this is the sum over pairs. Take the mean.": tuple(np.log(near[others].sum() / (1, 2))),
            "Uniformity: square the distance, once.": (once, twice),
            "Uniformity: the sign is turned. It is 0 at most.": (-uniform, np.log(np.exp(2 * far)[others].mean())),
        }
        judge(second, uniform, mistakes, f"Uniformity of {count} rows: {uniform:.4f}.")


@exercise("01", "1.8")
def check_close_gap(answer: Callable) -> None:
    """close_gap(z_img (N,E), z_txt (M,E)) -> both with their own mean taken away, unit rows again."""
    for seed, count, width in ((17, (8, 8), 3), (18, (6, 9), 4)):
        z_img, z_txt = (_unit(_rows(seed + 50 * i, n, width) + 2 * i - 0.7) for i, n in enumerate(count))
        z, img = np.concatenate([z_img, z_txt]), np.arange(sum(count))[:, None] < count[0]  # (N+M,E), (N+M,1)
        mean_img, mean_txt = z_img.mean(axis=0), z_txt.mean(axis=0)
        own, gap = np.where(img, mean_img, mean_txt), np.where(img, mean_img - mean_txt, 0)
        middle, wanted = (mean_img + mean_txt) / 2, _unit(z - own)
        one_side = np.where(img, wanted, z), np.where(img, z, wanted), _unit(z - gap), z - gap
        norm = np.where(img, *(np.linalg.norm(side - side.mean(axis=0)) for side in (z_img, z_txt)))
        moved = {
            "One mean moves both sides, so the gap stays. Each has its own.": (z - z.mean(axis=0), z - middle),
            "A mean a column: axis=0.": (z - z.mean(axis=1)[:, None], z - np.where(img, z_img.mean(), z_txt.mean())),
            "The centres meet, but not at 0. Take each side's own mean away.": (z - own + middle,),
            "The means are added. Take them away.": (z + own,),
            "Each side lost the other's mean. Each has its own.": (z - np.where(img, mean_txt, mean_img),),
        }
        mistakes = {words: (*wrong, *map(_unit, wrong)) for words, wrong in moved.items()}
        mistakes |= {
            "Only one side was moved. Take each side's own mean away.": one_side,
            "Rows are no longer of length 1: divide each by its length after the shift.": z - own,
            "Divided by the norm of the whole matrix. Each row has its own: axis=1, keepdims=True.": (z - own) / norm,
        }
        parts = numbers(call(answer, z_img, z_txt), 2, "Two arrays are wanted: pictures, then texts.")
        rows, shapes = [np.asarray(part, dtype=float) for part in parts], [np.shape(part) for part in parts]
        expect(shapes == [z_img.shape, z_txt.shape], f"Shapes should be {z_img.shape} and {z_txt.shape}, not {shapes}.")
        turned = same(rows[0], wanted[count[0] :]) and same(rows[1], wanted[: count[0]])
        expect(not turned, "The order is turned: pictures first, then texts.")
        judge(np.concatenate(rows), wanted, mistakes, "Rows minus their own side's mean, then each of length 1.")


@exercise("01", "1.9")
def check_conse(answer: Callable) -> None:
    """conse(likelihoods (N,C), class_text (C,E), top) -> (N,E); its scale is free, row by row."""
    for seed, count, classes, width, top in ((19, 6, 8, 5, 3), (20, 4, 9, 3, 2)):
        likelihoods, text = np.exp(1.5 * _rows(seed, count, classes)), _unit(_rows(seed + 50, classes, width))
        likelihoods = likelihoods / likelihoods.sum(axis=1, keepdims=True)  # (N,C)
        order = np.argsort(-likelihoods, axis=1)  # (N,C)
        rank, column_rank = (np.argsort(np.argsort(-likelihoods, axis=axis), axis=axis) for axis in (1, 0))  # (N,C)
        best, texts = np.take_along_axis(likelihoods, order[:, :top], axis=1), text[order[:, :top]]  # (N,t), (N,t,E)
        weights, least = (best, order[:, :top], best[:, ::-1], likelihoods[:, :top]), rank >= classes - top
        wanted, by_class, *mixed_up = (np.einsum("nt,nte->ne", weight, texts) for weight in weights)  # (N,E)
        mistakes = {
            "Every class kept counts the same in yours. Weight its text by its likelihood.": texts.sum(axis=1),
            "All classes take part. Keep the `top` likeliest of each row.": likelihoods @ text,
            "These are the least likely. Sort by minus the likelihood.": (likelihoods * least @ text, least @ text),
            "Only the likeliest class counts in yours.": text[order[:, 0]],
            "Keep exactly `top` classes.": tuple(likelihoods * (rank < n) @ text for n in (top - 1, top + 1)),
            "Sought down the columns. Each row has its own: axis=1.": likelihoods * (column_rank < top) @ text,
            "A weight meets another class's text: take both in one order.": tuple(mixed_up),
            "Class numbers became weights. The weight is the likelihood.": by_class,
        }
        rows = np.asarray(call(answer, likelihoods, text, top), dtype=float)
        expect(rows.shape == (count, width), f"The shape should be {(count, width)}, yours is {rows.shape}.")
        expect(rows.any(axis=1).all() and np.isfinite(rows).all(), "A row of yours is all zeros, or not finite.")
        either = {words: tuple(map(_unit, np.reshape(wrong, (-1, *rows.shape)))) for words, wrong in mistakes.items()}
        judge(_unit(rows), _unit(wanted), either, "Do row 0 by hand: which classes, which weights?")


@exercise("01", "1.10")
def check_is_clean(answer: Callable) -> None:
    """is_clean(make_split) -> bool: whether make_split(groups (N,), seed) -> train, test never divides a group."""
    share, look = "Is a group in both groups[train] and groups[test]?", "Try a dozen seeds: all must be clean."
    even = "Its cut may fall between two groups. Try several seeds, and groups of several sizes."
    side = "Nothing lies on both sides: one side is empty."
    sound = "draws whole groups", "takes every second group", "tests on a single group"
    broken = {"draws rows and forgets groups": share, "repeats a test row in training": share}
    broken |= {"leaks at some seeds only": look, "sorts by group and cuts at about 80 %": even}
    broken |= {"has an empty test set": side, "has an empty training set": side}
    for kind, words in enumerate(sound):
        verdict, given = _verdict(answer, kind)
        expect(given, "Your test never calls the make_split that it is given. Use its argument.")
        repeated = any(len(set(groups.tolist())) < len(groups) for groups in given)
        expect(repeated, "In your groups no two rows share an id, so nothing can leak. Let several rows share one.")
        expect(verdict, f"Your test rejects a sound split: one that {words}. Compare groups[train] with groups[test].")
    fooled = [words for kind, words in enumerate(broken, len(sound)) if _verdict(answer, kind)[0]]
    expect(len(fooled) < len(broken), "Your test accepts every split. What does it compare?")
    first = f"{fooled[0]}. {broken[fooled[0]]}" if fooled else ""
    expect(not fooled, f"Your test accepts {len(fooled)} of {len(broken)} broken splits. One {first}")


def _verdict(answer: Callable, kind: int) -> tuple[bool, list[np.ndarray]]:
    """What the learner's test says of one kind of split, and the groups that it gave to it."""
    given = []

    def make_split(groups, seed=0):
        groups = np.asarray(groups)
        expect(groups.ndim == 1 and len(set(groups.tolist())) > 1, "Give make_split groups (N,) of two ids at least.")
        given.append(groups)
        return _split(groups, int(seed), kind)

    try:
        value = run(answer, make_split)
    except AssertionError as error:
        expect(isinstance(error, WrongAnswer), "Your test raised AssertionError: return True or False, no assert.")
        raise
    expect(isinstance(value, (bool, np.bool_)), f"Return True or False, not {shown(value)}.")
    return bool(value), given


def _split(groups: np.ndarray, seed: int, kind: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of train and test by one of the three sound and six broken ways, in the order of check_is_clean."""
    random, rows, few = np.random.default_rng(seed), np.arange(len(groups)), max(1, len(groups) // 5)
    ids, drawn = random.permutation(np.unique(groups)), random.permutation(rows) < few
    whole, none, ranks = np.isin(groups, ids[: max(1, len(ids) // 5)]), rows < 0, np.argsort(np.argsort(groups))
    tests = [whole, np.isin(groups, np.unique(groups)[::2]), groups == groups[seed % len(groups)]]  # (N,) each
    tests += [drawn, whole, drawn if seed % 3 else whole, ranks >= len(rows) - few - seed % 3, none, ~none]
    test = tests[kind]
    train = ~test | (rows == test.argmax()) if kind == 4 else ~test
    return np.flatnonzero(train), np.flatnonzero(test)


def _rows(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _nearest(scores: np.ndarray, k: int) -> tuple[np.ndarray, ...]:
    """The k best columns of each row (N,k), largest first: with the row itself, without it, and the first cut off."""
    order, own = np.argsort(-scores, axis=1), np.eye(len(scores), dtype=bool)
    return order[:, :k], np.argsort(-np.where(own, -np.inf, scores), axis=1)[:, :k], order[:, 1 : k + 1]


def _solved(x: np.ndarray, y: np.ndarray, strength: float) -> np.ndarray:
    return np.linalg.solve(x.T @ x + strength * np.eye(x.shape[1]), x.T @ y)


def _gradient(values: torch.Tensor, leaf: torch.Tensor) -> torch.Tensor:
    try:
        return torch.autograd.grad(values.sum(), leaf)[0]
    except RuntimeError as error:
        wanted = "backward returns one value for each argument of forward: the gradient for x, None for strength"
        raise WrongAnswer(f"No gradient comes back: {wanted}. PyTorch says: {error}") from None
