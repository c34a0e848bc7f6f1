"""Checks of lesson 01: the solution and other spellings pass, what people really write is named, nothing leaks."""

import math

import numpy as np
import pytest
import torch
from contract import Contract, by_number
from sklearn.cross_decomposition import CCA
from sklearn.linear_model import Ridge
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.model_selection import GroupShuffleSplit
from torch.nn import functional as F

from course_utils import geometry, linear
from course_utils.checks import representation_learning as checks
from course_utils.checks._outcome import WrongAnswer

BY_NUMBER = by_number(checks)


def unit(z):
    return z / np.linalg.norm(z, axis=-1, keepdims=True)


# 1.1


def frames(samples, length, step):
    count = 1 + (len(samples) - length) // step
    return np.stack([samples[f * step : f * step + length] for f in range(count)])


def frames_indices(samples, length, step):
    starts = np.arange(0, len(samples) - length + 1, step)
    return samples[starts[:, None] + np.arange(length)]


def frames_unfold(samples, length, step):
    return torch.from_numpy(samples).float().unfold(0, length, step)


def frames_lists(samples, length, step):
    return [list(samples[s : s + length]) for s in range(0, len(samples) - length + 1, step)]


# 1.2


def cosines(x):
    return unit(x) @ unit(x).T


def neighbours(x, k):
    scores = cosines(x)
    np.fill_diagonal(scores, -np.inf)
    return np.argsort(-scores, axis=1)[:, :k]


def neighbours_loops(x, k):
    rows = range(len(x))
    return [sorted((j for j in rows if j != i), key=lambda j: -cosines(x)[i, j])[:k] for i in rows]


def neighbours_torch(x, k):
    z = F.normalize(torch.from_numpy(x).float(), dim=1)
    return (z @ z.T).fill_diagonal_(-2).topk(k).indices


def neighbours_of(scores, hide=True):
    def answer(x, k):
        s = scores(x).copy()
        if hide:
            np.fill_diagonal(s, -np.inf)
        return np.argsort(-s, axis=1)[:, :k]

    return answer


def neighbours_in_place(x, k):
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return neighbours(x, k)


# 1.3


def centred(x):
    return x - x.mean(axis=0)


def ridge_weights(x, y, strength):
    x, y = centred(x), centred(y)
    return np.linalg.solve(x.T @ x + strength * np.eye(x.shape[1]), x.T @ y)


def ridge_dual(x, y, strength):
    x = centred(x)  # y needs no centring: its mean meets columns of x that add up to 0
    return x.T @ np.linalg.inv(x @ x.T + strength * np.eye(len(x))) @ y


def ridge_augmented(x, y, strength):
    x, y = torch.from_numpy(centred(x)), torch.from_numpy(centred(y))
    rows = torch.cat([x, strength**0.5 * torch.eye(x.shape[1])])
    return torch.linalg.lstsq(rows, torch.cat([y, torch.zeros(x.shape[1], y.shape[1])])).solution


def ridge_with(system, right=lambda x, y: x.T @ y, centre=centred):
    def answer(x, y, strength):
        x, y = centre(x), centre(y)
        return np.linalg.solve(system(x.T @ x, strength, np.eye(x.shape[1]), len(x)), right(x, y))

    return answer


# 1.4


def whiten(x):
    values, vectors = np.linalg.eigh(x.T @ x)
    return x @ vectors / np.sqrt(values)


def canonical_correlations(x, y):
    left, right = (np.linalg.qr(centred(z))[0] for z in (x, y))
    return np.linalg.svd(left.T @ right, compute_uv=False)


def canonical_eigen(x, y):
    x, y = centred(x), centred(y)
    both = np.linalg.inv(x.T @ x) @ x.T @ y @ np.linalg.inv(y.T @ y) @ y.T @ x
    return np.sqrt(np.sort(np.linalg.eigvals(both).real)[::-1][: min(x.shape[1], y.shape[1])])


def canonical_sklearn(x, y):
    dims = min(x.shape[1], y.shape[1])
    a, b = CCA(dims, max_iter=100_000, tol=1e-20).fit(x, y).transform(x, y)
    return [np.corrcoef(a[:, i], b[:, i])[0, 1] for i in range(dims)]


def canonical_cholesky(x, y):
    x, y = (torch.from_numpy(centred(z)) for z in (x, y))
    white = [torch.linalg.solve_triangular(torch.linalg.cholesky(z.T @ z), z.T, upper=False) for z in (x, y)]
    return torch.linalg.svdvals(white[0] @ white[1].T)


def svd_of(product):
    return lambda x, y: np.linalg.svd(product(centred(x), centred(y)), compute_uv=False)


# 1.5


def shared_code(codes, present):
    return np.where(present[..., None], codes, 0.0).sum(axis=1) / present.sum(axis=1, keepdims=True)


def shared_code_loop(codes, present):
    return [codes[i][present[i]].mean(axis=0) for i in range(len(codes))]


def shared_code_nanmean(codes, present):
    return np.nanmean(np.where(present[..., None], codes, np.nan), axis=1).astype(np.float32)


def shared_code_torch(codes, present):
    codes, present = torch.from_numpy(codes).float(), torch.from_numpy(present)
    return codes.masked_fill(~present[..., None], 0).sum(1) / present.sum(1, keepdim=True)


def shared_code_times(codes, present):
    return (codes * present[..., None]).sum(axis=1) / present.sum(axis=1, keepdims=True)


# 1.6


class Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, strength):
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient):
        return -ctx.strength * gradient, None


def reverse(x, strength):
    return Reverse.apply(x, strength)


def reverse_trick(x, strength):
    return x.detach() * (1 + strength) - strength * x


def reverse_hook(x, strength):
    copy = x.clone()
    copy.register_hook(lambda gradient: -strength * gradient)
    return copy


def reverse_by(change):
    """A Function whose backward is `change(gradient, strength, x)`."""

    class Other(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, strength):
            ctx.x, ctx.strength = x, strength
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            return change(gradient, ctx.strength, ctx.x)

    return Other.apply


class Forgetful(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, strength):
        Forgetful.strength = strength
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return -Forgetful.strength * gradient, None


def hook_on_x(x, strength):
    x.register_hook(lambda gradient: -strength * gradient)
    return x * 1


# 1.7


def alignment_uniformity(z_a, z_b):
    squared = ((z_a[:, None] - z_a[None]) ** 2).sum(axis=-1)
    others = ~np.eye(len(z_a), dtype=bool)
    return ((z_a - z_b) ** 2).sum(axis=1).mean(), np.log(np.exp(-2 * squared[others]).mean())


def alignment_uniformity_torch(z_a, z_b):
    z_a, z_b = torch.from_numpy(z_a), torch.from_numpy(z_b)
    return (z_a - z_b).norm(dim=1).pow(2).mean(), torch.pdist(z_a).pow(2).mul(-2).exp().mean().log()


def alignment_uniformity_cosine(z_a, z_b):
    i, j = np.triu_indices(len(z_a), 1)
    return [2 - 2 * (z_a * z_b).sum(1).mean(), np.log(np.exp(4 * (z_a @ z_a.T)[i, j] - 4).mean())]


def spread(change):
    """alignment as it should be, uniformity by `change(squared distances (N,N), others (N,N) bool)`."""

    def answer(z_a, z_b):
        squared = ((z_a[:, None] - z_a[None]) ** 2).sum(axis=-1)
        return alignment_uniformity(z_a, z_b)[0], change(squared, ~np.eye(len(z_a), dtype=bool))

    return answer


def aligned(change):
    return lambda z_a, z_b: (change(z_a, z_b), alignment_uniformity(z_a, z_b)[1])


# 1.8


def close_gap(z_img, z_txt):
    return unit(z_img - z_img.mean(axis=0)), unit(z_txt - z_txt.mean(axis=0))


def close_gap_torch(z_img, z_txt):
    return [F.normalize(z - z.mean(0), dim=1) for z in (torch.from_numpy(z_img), torch.from_numpy(z_txt))]


def gap_with(change):
    return lambda z_img, z_txt: tuple(unit(z) for z in change(z_img, z_txt))


def halfway(z_img, z_txt):
    half = (z_img.mean(axis=0) - z_txt.mean(axis=0)) / 2
    return unit(z_img - half), unit(z_txt + half)


# 1.9


def conse(likelihoods, class_text, top):
    best = np.argsort(-likelihoods, axis=1)[:, :top]
    return np.einsum("nt,nte->ne", np.take_along_axis(likelihoods, best, axis=1), class_text[best])


def conse_loop(likelihoods, class_text, top):
    rows = []
    for row in likelihoods:
        best = sorted(range(len(row)), key=lambda c: row[c])[-top:]
        rows.append(sum(row[c] * class_text[c] for c in best) / sum(row[c] for c in best))
    return rows


def conse_torch(likelihoods, class_text, top):
    values, best = torch.from_numpy(likelihoods).topk(top)
    return F.normalize((values[..., None] * torch.from_numpy(class_text)[best]).sum(1), dim=1).float()


def conse_with(weigh):
    """`weigh(likelihoods sorted down (N,top), classes (N,top))` gives the weights."""

    def answer(likelihoods, class_text, top):
        best = np.argsort(-likelihoods, axis=1)[:, :top]
        weights = weigh(np.take_along_axis(likelihoods, best, axis=1), best)
        return (weights[..., None] * class_text[best]).sum(axis=1)

    return answer


# 1.10


def is_clean(make_split):
    groups = np.repeat(np.arange(40), np.arange(40) % 5 + 1)
    for seed in range(12):
        train, test = make_split(groups, seed)
        if not len(train) or not len(test) or set(groups[train]) & set(groups[test]):
            return False
    return True


def is_clean_numpy(make_split):
    rng = np.random.default_rng(0)
    verdicts = []
    for seed in range(30):
        groups = rng.integers(0, 13, 60)
        train, test = make_split(groups, seed=seed)
        verdicts.append(min(len(train), len(test)) > 0 and not np.isin(groups[test], groups[train]).any())
    return np.all(verdicts)


def tries(groups, seeds, verdict=lambda groups, train, test: not set(groups[train]) & set(groups[test])):
    def answer(make_split):
        return all(
            len(train) > 0 and len(test) > 0 and verdict(groups, train, test)
            for train, test in (make_split(groups, seed) for seed in range(seeds))
        )

    return answer


UNEVEN = np.repeat(np.arange(30), np.arange(30) % 4 + 1)


def only_groups(make_split):
    splits = [make_split(UNEVEN, seed) for seed in range(12)]
    return all(not set(UNEVEN[train]) & set(UNEVEN[test]) for train, test in splits)


def asserts(make_split):
    train, test = make_split(UNEVEN, 0)
    assert not set(UNEVEN[train]) & set(UNEVEN[test])
    return True


RIGHT = [
    ("1.1", [frames, frames_indices, frames_unfold, frames_lists]),
    ("1.2", [neighbours, neighbours_loops, neighbours_torch, neighbours_of(cosine_similarity)]),
    ("1.3", [ridge_weights, ridge_dual, ridge_augmented, lambda x, y, s: Ridge(alpha=s).fit(x, y).coef_.T]),
    ("1.3", [lambda x, y, s: linear.ridge(x, y, s).weight, lambda x, y, s: ridge_weights(x, y, s).astype(np.float32)]),
    ("1.4", [canonical_correlations, canonical_eigen, canonical_sklearn, canonical_cholesky]),
    ("1.4", [svd_of(lambda x, y: whiten(x).T @ whiten(y)), lambda x, y: linear.cca(x, y, 3).correlations]),
    ("1.5", [lambda codes, present: codes.mean(axis=1, where=present[..., None])]),
    ("1.5", [shared_code, shared_code_loop, shared_code_nanmean, shared_code_torch]),
    ("1.6", [reverse, reverse_trick, reverse_hook]),
    ("1.7", [alignment_uniformity, alignment_uniformity_torch, alignment_uniformity_cosine]),
    ("1.7", [lambda a, b: np.array([geometry.alignment(a, b), geometry.uniformity(a)], np.float32)]),
    ("1.8", [close_gap, close_gap_torch, lambda a, b: [z.astype(np.float32) for z in close_gap(a, b)]]),
    ("1.9", [conse, conse_loop, conse_torch, conse_with(lambda values, best: 100 * values)]),
    ("1.10", [is_clean, is_clean_numpy, tries(UNEVEN, 12), tries(np.repeat(np.arange(50), 2), 12)]),
]


WRONG = {
    "1.1": [
        (lambda s, n, step: s[: len(s) // n * n].reshape(-1, n), "after `step` samples, not after `length`"),
        (lambda s, n, step: frames(s, n, step)[:-1], "last frame is missing"),
        (lambda s, n, step: np.stack([s[i : i + n] for i in range(0, len(s) - n, step)]), "last frame is missing"),
        (lambda s, n, step: frames(np.pad(s, (0, n)), n, step)[: -(-len(s) // step)], "filled up with zeros"),
        (lambda s, n, step: frames(s, n, step).T, "transpose"),
        (lambda s, n, step: frames(s, step, n), "length and step are swapped"),
        (lambda s, n, step: [s[i : i + n] for i in range(0, len(s), step)], "last frames are shorter"),
        (lambda s, n, step: np.stack([s[i : i + n] for i in range(0, len(s), step)]), "last frames are shorter"),
        (lambda s, n, step: np.array([s[i : i + n] for i in range(0, len(s), step)]), "last frames are shorter"),
        (lambda s, n, step: np.zeros((5, 4)), "there are 5 frames"),
    ],
    "1.2": [
        (neighbours_of(cosines, hide=False), "The row itself"),
        (lambda x, k: neighbours_of(cosines, hide=False)(x, k + 1), "The row itself stands first"),
        (lambda x, k: neighbours(x, k + 1), r"shape should be \(11, 4\)"),
        (neighbours_of(lambda x: x @ x.T), "long row wins"),
        (neighbours_of(lambda x: x @ x.T, hide=False), "long row wins"),
        (lambda x, k: np.argsort(cosines(x), axis=1)[:, :k], "least alike"),
        (neighbours_of(lambda x: -cosines(x)), "least alike"),
        (lambda x, k: np.argsort(cosines(x), axis=1)[:, -k - 1 : -1], "farthest first"),
        (lambda x, k: neighbours(x, k)[:, ::-1], "farthest first"),
        (neighbours_of(lambda x: cosines(x) - np.eye(len(x)), hide=False), "0 hides the row itself only if"),
        (neighbours_of(lambda x: -((x[:, None] - x[None]) ** 2).sum(-1)), "distance between raw rows"),
        (neighbours_of(lambda x: unit(x.T).T @ unit(x.T)), "wrong axis"),
        (lambda x, k: -np.sort(-np.where(np.eye(len(x)) > 0, -9, cosines(x)))[:, :k], "Row numbers are asked"),
        (lambda x, k: np.argsort(-cosines(x), axis=1)[:, 1 : k + 1], "Among equals the row itself need not come first"),
        (neighbours_in_place, "changes its inputs"),
        (lambda x, k: np.zeros((len(x), k)), "Row 0's 4 nearest"),
    ],
    "1.3": [
        (lambda x, y, s: np.linalg.solve(x.T @ x + s * np.eye(x.shape[1]), x.T @ y), "x is not centred"),
        (lambda x, y, s: np.linalg.solve(x.T @ x + s * np.eye(x.shape[1]), x.T @ centred(y)), "x is not centred"),
        (ridge_with(lambda xx, s, i, n: xx + s * i, centre=lambda x: x - x.mean()), "or of everything"),
        (ridge_with(lambda xx, s, i, n: xx + s * i, centre=lambda x: (x.T - x.mean(1)).T), "of each row"),
        (lambda x, y, s: np.linalg.pinv(centred(x).T @ centred(x) + s) @ centred(x).T @ centred(y), "every cell"),
        (ridge_with(lambda xx, s, i, n: xx + s * n * i), "factor N"),
        (ridge_with(lambda xx, s, i, n: xx / n + s * i, lambda x, y: x.T @ y / len(x)), "factor N"),
        (lambda x, y, s: np.linalg.lstsq(centred(x), centred(y))[0], "strength is not used"),
        (ridge_with(lambda xx, s, i, n: xx + i), "strength is not used"),
        (ridge_with(lambda xx, s, i, n: xx + s**2 * i), "squared"),
        (lambda x, y, s: ridge_weights(x, y, s).T, "transpose"),
        (lambda x, y, s: Ridge(alpha=s).fit(x, y).coef_, "transpose"),
        (lambda x, y, s: 1 / (centred(x).T @ centred(x) + s * np.eye(x.shape[1])) @ centred(x).T @ y, "cell by cell"),
        (lambda x, y, s: ridge_weights(x / x.std(axis=0), y, s), "scaled too"),
        (lambda x, y, s: ridge_weights(x / x.std(axis=0), y / y.std(axis=0), s), "scaled too"),
        (lambda x, y, s: centred(x) @ ridge_weights(x, y, s), r"yours is \(30, 3\)"),
        (lambda x, y, s: np.zeros((4, 3)), "Ridge.alpha=strength"),
    ],
    "1.4": [
        (lambda x, y: np.linalg.svd(np.linalg.qr(x)[0].T @ np.linalg.qr(y)[0], compute_uv=False), "not centred"),
        (lambda x, y: canonical_correlations(x, y) ** 2, "take the root"),
        (svd_of(lambda x, y: x.T @ y), "Nothing is whitened"),
        (svd_of(lambda x, y: x.T @ y / (len(x) - 1)), "Nothing is whitened"),
        (lambda x, y: np.linalg.svd(x.T @ y)[1], "Nothing is whitened"),
        (svd_of(lambda x, y: np.linalg.qr(x)[0].T @ y), "Only one side"),
        (svd_of(lambda x, y: x.T @ whiten(y) / np.sqrt(len(x))), "Only one side"),
        (svd_of(lambda x, y: (x / x.std(0)).T @ (y / y.std(0)) / len(x)), "Each column was scaled alone"),
        (lambda x, y: np.corrcoef(x.T, y.T)[: x.shape[1], x.shape[1] :], "single columns"),
        (lambda x, y: [np.corrcoef(a, b)[0, 1] for a, b in zip(x.T, y.T)], "single columns"),
        (lambda x, y: np.sort(canonical_correlations(x, y)), "smallest comes first"),
        (lambda x, y: np.linalg.svd(whiten(centred(x)).T @ whiten(centred(y))), "svd gives three things"),
        (lambda x, y: canonical_correlations(x, y).max(), r"shape should be \(3,\)"),
        (lambda x, y: np.ones(3), r"The largest of x \(40, 4\), y \(40, 3\) is 0\.\d+"),
        (lambda x, y: np.ones(4), r"yours is \(4,\)"),
    ],
    "1.5": [
        (lambda c, p: np.where(p[..., None], c, 0.0).mean(axis=1), "divided by M"),
        (lambda c, p: np.where(p[..., None], c, 0.0).sum(axis=1), "This is the sum"),
        (lambda c, p: c.mean(axis=1), "present is not used"),
        (lambda c, p: np.nanmean(c, axis=1), "present is not used"),
        (lambda c, p: np.where(p[..., None], c, 0.0).sum(axis=1) / p.sum(), "whole batch"),
        (lambda c, p: np.stack([code[mask][0] for code, mask in zip(c, p)]), "one modality"),
        (lambda c, p: np.where(p[..., None], c, 0.0).mean(axis=0), "runs over rows"),
        (shared_code_times, r"NaN stood at a missing place.*np\.where"),
        (lambda c, p: np.nan_to_num(c * p[..., None]).sum(axis=1) / 3, "divided by M"),
        (lambda c, p: shared_code(c, p)[:, None], r"shape should be \(5, 4\)"),
        (lambda c, p: np.zeros((5, 4)), "Work row 1 out"),
    ],
    "1.6": [
        (lambda x, strength: -strength * x, "Only the gradient turns"),
        (lambda x, strength: -x, "Only the gradient turns"),
        (lambda x, strength: x, "The gradient passes unchanged"),
        (lambda x, strength: x.detach(), "it is cut off"),
        (reverse_by(lambda g, s, x: (-g, None)), "strength is not used"),
        (reverse_by(lambda g, s, x: (s * g, None)), "the sign does not turn"),
        (reverse_by(lambda g, s, x: (-s * s * g, None)), "used twice"),
        (reverse_by(lambda g, s, x: (-g / s, None)), "You divided"),
        (reverse_by(lambda g, s, x: (torch.full_like(g, -s), None)), "comes in is not used"),
        (reverse_by(lambda g, s, x: (-s * x, None)), "comes in is not used"),
        (reverse_by(lambda g, s, x: -s * g), "one value for each argument of forward.*PyTorch says"),
        (reverse_by(lambda g, s, x: (None, None)), "No gradient comes back"),
        (reverse_by(lambda g, s, x: (-s * g + 1, None)), "-strength times what comes in"),
        (lambda x, strength: Forgetful.apply(x, strength), "keep it in ctx"),
        (hook_on_x, "Put the hook on a copy"),
        (lambda x, strength: x.tolist(), "A tensor like x is wanted"),
    ],
    "1.7": [
        (aligned(lambda a, b: np.linalg.norm(a - b, axis=1).mean()), "Alignment: this is the distance"),
        (aligned(lambda a, b: ((a - b) ** 2).sum()), "Alignment: this is the sum"),
        (aligned(lambda a, b: ((a - b) ** 2).sum(axis=1)), "Alignment: this is the sum"),
        (aligned(lambda a, b: ((a - b) ** 2).mean()), "over the E numbers"),
        (aligned(lambda a, b: (a * b).sum(axis=1).mean()), "this is the cosine"),
        (aligned(lambda a, b: 1 - (a * b).sum(axis=1).mean()), "this is the cosine"),
        (aligned(lambda a, b: ((a[:, None] - b[None]) ** 2).sum(axis=-1).mean()), "only right pairs"),
        (lambda a, b: alignment_uniformity(a, b)[::-1], "Swapped"),
        (lambda a, b: alignment_uniformity(a, b)[0], "Two numbers"),
        (spread(lambda d, others: np.log(np.exp(-2 * d).mean())), "a row meets itself"),
        (spread(lambda d, others: np.exp(-2 * d[others]).mean()), "logarithm is missing"),
        (spread(lambda d, others: np.log(np.exp(-d[others]).mean())), "factor 2"),
        (spread(lambda d, others: (-2 * d[others]).mean()), "first exp, then mean, then log"),
        (spread(lambda d, others: np.log(np.exp(-2 * d[others])).mean()), "first exp, then mean, then log"),
        (spread(lambda d, others: np.log(np.exp(-2 * d[others]).sum())), "sum over pairs"),
        (spread(lambda d, others: np.log(np.exp(-2 * np.sqrt(d[others])).mean())), "square the distance, once"),
        (spread(lambda d, others: np.log(np.exp(-2 * d[others] ** 2).mean())), "square the distance, once"),
        (spread(lambda d, others: np.log(np.exp(-2 * d[np.triu_indices(len(d))]).mean())), "a row meets itself"),
        (spread(lambda d, others: -np.log(np.exp(-2 * d[others]).mean())), "sign is turned"),
        (lambda a, b: (geometry.alignment(a, b), geometry.uniformity(b)), "z_a alone"),
        (lambda a, b: (geometry.alignment(a, b), geometry.uniformity(np.concatenate([a, b]))), "z_a alone"),
        (lambda a, b: (0.5, -2.0), "Alignment of 7 pairs"),
    ],
    "1.8": [
        (lambda a, b: (a - a.mean(axis=0), b - b.mean(axis=0)), "no longer of length 1"),
        (gap_with(lambda a, b: [z - np.concatenate([a, b]).mean(axis=0) for z in (a, b)]), "One mean moves both"),
        (lambda a, b: [z - (a.mean(axis=0) + b.mean(axis=0)) / 2 for z in (a, b)], "One mean moves both"),
        (gap_with(lambda a, b: [z - z.mean(axis=1, keepdims=True) for z in (a, b)]), "axis=0"),
        (gap_with(lambda a, b: (a - (a.mean(axis=0) - b.mean(axis=0)), b)), "Only one side"),
        (gap_with(lambda a, b: (a - a.mean(axis=0), b)), "Only one side"),
        (gap_with(lambda a, b: [z - z.mean() for z in (a, b)]), "axis=0"),
        (halfway, "The centres meet, but not at 0"),
        (gap_with(lambda a, b: (a + a.mean(axis=0), b + b.mean(axis=0))), "Take them away"),
        (gap_with(lambda a, b: (a - b.mean(axis=0), b - a.mean(axis=0))), "lost the other's mean"),
        (lambda a, b: [(z - z.mean(axis=0)) / np.linalg.norm(z - z.mean(axis=0)) for z in (a, b)], "whole matrix"),
        (lambda a, b: close_gap(a, b)[::-1], "pictures first"),
        (lambda a, b: close_gap(a, b)[0], "Two arrays are wanted"),
        (gap_with(lambda a, b: [(z - z.mean(axis=0)) / z.std(axis=0) for z in (a, b)]), "their own side's mean"),
        (lambda a, b: (a.mean(axis=0), b.mean(axis=0)), r"Shapes should be \(8, 3\)"),
    ],
    "1.9": [
        (conse_with(lambda values, best: np.ones_like(values)), "counts the same"),
        (lambda p, text, top: p @ text, "All classes take part"),
        (lambda p, text, top: p * (p <= np.sort(p)[:, top - 1 : top]) @ text, "least likely"),
        (lambda p, text, top: text[p.argmax(axis=1)], "Only the likeliest"),
        (lambda p, text, top: conse(p, text, top + 1), "exactly `top`"),
        (lambda p, text, top: (p * (np.argsort(np.argsort(-p, axis=0), axis=0) < top)) @ text, "down the columns"),
        (conse_with(lambda values, best: np.sort(values, axis=1)), "another class's text"),
        (
            lambda p, text, top: np.einsum("nt,nte->ne", p[:, :top], text[np.argsort(-p)[:, :top]]),
            "another class's text",
        ),
        (conse_with(lambda values, best: best), "Class numbers became weights"),
        (lambda p, text, top: p[:, :top] @ text[:top], "which classes, which weights"),
        (lambda p, text, top: np.zeros((len(p), text.shape[1])), "all zeros"),
        (lambda p, text, top: np.ones((len(p), text.shape[1])), "which classes, which weights"),
        (lambda p, text, top: p, r"shape should be \(6, 5\)"),
    ],
    "1.10": [
        (lambda make_split: True, "never calls"),
        (lambda make_split: len(make_split(UNEVEN, 0)) == 2, "accepts every split"),
        (tries(np.arange(50), 12), "no two rows share an id"),
        (tries(np.zeros(50), 12), "two ids at least"),
        (
            tries(np.repeat(np.arange(50), [1] * 30 + [2] + [1] * 19), 12),
            "One repeats|One sorts by group.*several sizes",
        ),
        (tries(UNEVEN, 1), "One leaks at some seeds only. Try a dozen"),
        (tries(UNEVEN, 12, lambda g, a, b: not set(a) & set(b)), "One draws rows and forgets groups"),
        (only_groups, "2 of 6 broken splits. One has an empty test set"),
        (lambda make_split: not is_clean(make_split), "rejects a sound split"),
        (tries(UNEVEN, 12, lambda g, a, b: abs(len(b) / len(g) - 0.2) < 0.02), "rejects a sound split"),
        (asserts, "raised AssertionError: return True or False"),
        (lambda make_split: make_split(UNEVEN, 0)[0], "Return True or False"),
        (lambda make_split: print(make_split(UNEVEN, 0)), "gave back nothing"),
    ],
}


class TestContract(Contract):
    checks, right, wrong = checks, RIGHT, WRONG


@pytest.mark.parametrize("number", ["1.1", "1.2", "1.3", "1.4", "1.5", "1.7", "1.8", "1.9"])
def test_an_answer_that_empties_its_inputs_does_not_corrupt_the_check(number):
    right = next(answers[0] for key, answers in RIGHT if key == number)

    def empties(*arguments):
        value = right(*arguments)
        for argument in arguments:
            if isinstance(argument, np.ndarray):
                argument[:] = 0
        return value

    with pytest.raises(WrongAnswer, match="changes its inputs"):
        BY_NUMBER[number](empties)
    assert BY_NUMBER[number](right) is True


@pytest.mark.parametrize("number", sorted(set(BY_NUMBER) - {"1.6", "1.10"}))
@pytest.mark.parametrize("constant", [0.0, 1.0, math.nan, "text", {}, [], (), (1.0, 2.0)], ids=repr)
def test_no_constant_passes(number, constant):
    with pytest.raises(WrongAnswer):
        BY_NUMBER[number](lambda *arguments: constant)


def test_a_sound_split_of_others_is_sound_to_the_solution():
    def theirs(groups, seed):
        return next(GroupShuffleSplit(1, test_size=0.2, random_state=seed).split(groups, groups=groups))

    assert is_clean(theirs) and not is_clean(lambda groups, seed: np.split(np.arange(len(groups)), [68]))
