"""Graded exercises that replace public ones: right, wrong and memorised answers, with the words that each must get."""

import importlib
import itertools
import math
import re
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from course_utils import progress
from course_utils.checks._outcome import WrongAnswer

LESSON = {"F": F, "itertools": itertools, "math": math, "np": np, "re": re, "torch": torch}  # as lessons import them
CASES = {}  # number -> (another right answer, [(wrong answer, what it must be told)])
CASES["0.2"] = (
    lambda a, b, centre: F.cosine_similarity((a - centre)[:, None], (b - centre)[None], dim=-1),
    [
        (
            lambda a, b, centre: F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).T,
            "The centre is not used: this is the cosine seen from zero.",
        ),
        (
            lambda a, b, centre: F.normalize(a - centre, dim=-1) @ F.normalize(b, dim=-1).T,
            "Both sides are seen from the centre, not `a` alone.",
        ),
        (lambda a, b, centre: (a - centre) @ (b - centre).T, "The lengths are missing: divide each row by its own."),
        (
            lambda a, b, centre: (
                F.normalize(F.normalize(a, dim=-1) - centre, dim=-1)
                @ F.normalize(F.normalize(b, dim=-1) - centre, dim=-1).T
            ),
            "Take the centre away first, then divide by lengths.",
        ),
        (
            lambda a, b, centre: F.normalize(a - a.mean(0), dim=-1) @ F.normalize(b - b.mean(0), dim=-1).T,
            "You took each side's own mean. The centre is given, and the same for both.",
        ),
    ],
)
CASES["0.5"] = (
    lambda n, right, k: math.comb(k, right) / math.comb(n, right),
    [
        (
            lambda n, right, k: 1 - math.comb(n - right, k) / math.comb(n, k),
            "This is the chance of *at least one*. All of them are asked for.",
        ),
        (
            lambda n, right, k: (k / n) ** right,
            "You draw with replacement: once one place is taken, fewer are left for the next.",
        ),
        (
            lambda n, right, k: min(1.0, right * k / n),
            "right * k / n is how many are found on average, not how often all are.",
        ),
        (
            lambda n, right, k: math.comb(k, right) / math.comb(n, k),
            "The right pictures have C(n, right) places, of which C(k, right) are in the list: divide by the first.",
        ),
    ],
)
CASES["1.1"] = (
    lambda s, n, k: np.stack(
        [np.pad(s, (0, n + k))[i : i + n] for i in range(0, max(len(s) - n + k - 1, 0) // k * k + 1, k)]
    ),
    [
        (
            lambda s, n, k: np.stack([s[f * k : f * k + n] for f in range(1 + (len(s) - n) // k)]),
            "The samples at the end are lost: 11 stands in none of your frames.",
        ),
        (
            lambda s, n, k: np.stack([np.pad(s, (n, 0))[len(s) + n - (3 - f) * k - n :][:n] for f in range(4)]),
            "The zeros belong after the last sample, not before the first.",
        ),
        (
            lambda s, n, k: np.stack([np.pad(s, (0, n), mode="edge")[f * k : f * k + n] for f in range(4)]),
            "The end is filled with the last sample again. Zeros are asked for.",
        ),
        (
            lambda s, n, k: np.stack([np.pad(s, (0, 9))[f * k : f * k + n] for f in range(5)]),
            "There is one frame too many, of zeros or of samples that all stand in the one before.",
        ),
        (
            lambda s, n, k: np.stack(
                [np.pad(s, (0, 9))[f * k : f * k + n] for f in range(1 + -(-(len(s) - 1) // k) if len(s) < 11 else 4)]
            ),
            "10 samples fill three frames",
        ),
    ],
)
CASES["1.5"] = (
    lambda codes, trust: np.stack([np.average(c[t > 0], axis=0, weights=t[t > 0]) for c, t in zip(codes, trust)]),
    [
        (
            lambda codes, trust: (trust[..., None] * codes).sum(axis=1) / trust.sum(axis=1, keepdims=True),
            "A missing place reaches the sum: 0 * nan is nan. Put a number there first.",
        ),
        (
            lambda codes, trust: (
                (trust[..., None] * np.nan_to_num(codes)).sum(axis=1) / (trust > 0).sum(axis=1, keepdims=True)
            ),
            "You divide by how many are present. Divide by their trust, added up.",
        ),
        (
            lambda codes, trust: (trust[..., None] * np.nan_to_num(codes)).sum(axis=1),
            "The sum is not divided by the trust added up.",
        ),
        (
            lambda codes, trust: np.nan_to_num(codes).sum(axis=1) / (trust > 0).sum(axis=1, keepdims=True),
            "This is the plain mean of what is there: trust 3 and trust 1 count alike.",
        ),
        (
            lambda codes, trust: (trust[..., None] * np.nan_to_num(codes)).mean(axis=1),
            "You divide by the number of modalities. Divide by their trust, added up.",
        ),
    ],
)
CASES["2.3"] = (
    lambda v, t, tau, share: (
        -(
            share * (v @ t.T / tau).log_softmax(1).diagonal() + (1 - share) * (v @ t.T / tau).log_softmax(0).diagonal()
        ).mean()
    ),
    [
        (
            lambda v, t, tau, share: (
                (
                    F.cross_entropy(v @ t.T / tau, torch.arange(len(v)))
                    + F.cross_entropy(t @ v.T / tau, torch.arange(len(v)))
                )
                / 2
            ),
            "`share` is not used: both directions count half in yours.",
        ),
        (
            lambda v, t, tau, share: (
                (1 - share) * F.cross_entropy(v @ t.T / tau, torch.arange(len(v)))
                + share * F.cross_entropy(t @ v.T / tau, torch.arange(len(v)))
            ),
            "The shares are swapped: `share` belongs to the pictures, which are rows.",
        ),
        (
            lambda v, t, tau, share: (
                share * F.cross_entropy(v @ t.T * tau, torch.arange(len(v)))
                + (1 - share) * F.cross_entropy(t @ v.T * tau, torch.arange(len(v)))
            ),
            "You multiply by tau. Divide: a small tau makes logits large.",
        ),
        (
            lambda v, t, tau, share: share * F.cross_entropy(v @ t.T / tau, torch.arange(len(v))),
            "The captions' direction is missing.",
        ),
        (
            lambda v, t, tau, share: (
                share * F.cross_entropy(v @ t.T / tau, torch.arange(len(v)))
                + F.cross_entropy(t @ v.T / tau, torch.arange(len(v)))
            ),
            "The captions count 1 - share, so that both shares add up to 1.",
        ),
    ],
)
CASES["2.6"] = (
    lambda v, t, s, b: (
        (
            F.softplus(-(s * v @ t.T + b).diagonal()).mean()
            + (F.softplus(s * v @ t.T + b).sum() - F.softplus(s * v @ t.T + b).trace()) / (len(v) * (len(v) - 1))
        )
        / 2
    ),
    [
        (
            lambda v, t, s, b: -F.logsigmoid((2 * torch.eye(len(v)) - 1) * (s * v @ t.T + b)).sum() / len(v),
            "This is SigLIP's own loss: wrong cells outnumber right ones. Take a mean of each kind.",
        ),
        (
            lambda v, t, s, b: -F.logsigmoid((2 * torch.eye(len(v)) - 1) * (s * v @ t.T + b)).mean(),
            "This is one mean over all cells. Take a mean of each kind, then their mean.",
        ),
        (
            lambda v, t, s, b: (
                -(
                    F.logsigmoid((s * v @ t.T + b).diagonal()).mean()
                    + F.logsigmoid(-(s * v @ t.T + b)[~torch.eye(len(v)).bool()]).mean()
                )
            ),
            "Both means are added. Divide by two.",
        ),
        (
            lambda v, t, s, b: (
                -(
                    F.logsigmoid(-(s * v @ t.T + b).diagonal()).mean()
                    + F.logsigmoid((s * v @ t.T + b)[~torch.eye(len(v)).bool()]).mean()
                )
                / 2
            ),
            "The signs are swapped: a right cell should have a large logit.",
        ),
        (
            lambda v, t, s, b: (
                -(
                    F.logsigmoid((s * v @ t.T - b).diagonal()).mean()
                    + F.logsigmoid(-(s * v @ t.T - b)[~torch.eye(len(v)).bool()]).mean()
                )
                / 2
            ),
            "The bias is added, not taken away.",
        ),
    ],
)
CASES["3.2"] = (
    lambda q, k, v, s: (lambda a: (torch.einsum("lp,pd->ld", a, v), a))(
        (s * F.cosine_similarity(q[:, None], k[None], dim=-1)).softmax(-1)
    ),
    [
        (
            lambda q, k, v, s: (lambda a: (a @ v, a))((q @ k.T / 2**0.5).softmax(-1)),
            "This is the scaled product. The cosine, times sharpness, is asked for.",
        ),
        (
            lambda q, k, v, s: (lambda a: (a @ v, a))((s * q @ F.normalize(k, dim=-1).T).softmax(-1)),
            "The queries keep their length in yours: a long query is sharper. Both sides get unit rows.",
        ),
        (
            lambda q, k, v, s: (lambda a: (a @ v, a))(
                (F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).T / s).softmax(-1)
            ),
            "You divide by sharpness. Multiply: it is no temperature.",
        ),
        (
            lambda q, k, v, s: (lambda a: (a @ v, a))(
                (s * F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).T).softmax(0)
            ),
            "Your columns add up to 1. Each word shares itself out over the places: dim=-1.",
        ),
        (
            lambda q, k, v, s: (lambda a: (a @ v, a))((F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).T).softmax(-1)),
            "`sharpness` is not used.",
        ),
        (
            lambda q, k, v, s: (lambda a: (a @ F.normalize(v, dim=-1), a))(
                (s * F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).T).softmax(-1)
            ),
            "values are not normalised",
        ),
    ],
)
CASES["3.6"] = (
    lambda s, m: (s.relu() * m).sum().item() / max(s.relu().sum().item(), 1e-12) * m.numel() / m.sum().item(),
    [
        (
            lambda s, m: float(s.clamp(min=0)[m].sum() / s.clamp(min=0).sum()),
            "This is the share inside. Divide it by the mask's share of the picture: a large mask is hit by chance.",
        ),
        (
            lambda s, m: float(s[m].sum() / s.sum() / m.float().mean()),
            "Negative values count in yours. Clamp them to 0 first.",
        ),
        (
            lambda s, m: float(s.abs()[m].sum() / s.abs().sum() / m.float().mean()),
            "You took absolute values: -2 speaks against a place, not for it.",
        ),
        (
            lambda s, m: float(s.clamp(min=0)[m].mean()),
            "This is the mean inside. It grows when the whole map is scaled up.",
        ),
        (
            lambda s, m: (
                float(s.clamp(min=0)[m].sum() / (s.clamp(min=0).sum() + 1e-12) / m.float().mean())
                if s.max() > 0
                else 1.0
            ),
            "without a positive value",
        ),
    ],
)
CASES["4.7"] = (
    lambda count, modalities, rate, generator: (
        torch.arange(modalities)
        != torch.where(
            torch.rand(count, 1, generator=generator) < rate,
            torch.rand(count, modalities, generator=generator).argmax(1, keepdim=True),
            9,
        )
    ),
    [
        (
            lambda count, modalities, rate, generator: torch.rand(count, modalities, generator=generator) >= rate / 3,
            "Some rows lose",
        ),
        (
            lambda count, modalities, rate, generator: (
                torch.arange(modalities) != torch.where(torch.rand(count, 1, generator=generator) < rate, 0, 9)
            ),
            "One modality is dropped more often",
        ),
        (
            lambda count, modalities, rate, generator: (
                torch.arange(modalities)
                != torch.where(
                    torch.rand(count, 1, generator=generator) >= rate,
                    torch.randint(modalities, (count, 1), generator=generator),
                    9,
                )
            ),
            "You keep where you should drop",
        ),
        (
            lambda count, modalities, rate, generator: (
                torch.arange(modalities) != torch.randint(modalities, (count, 1), generator=generator)
            ),
            "should lose one modality, in yours 1.00 do",
        ),
        (
            lambda count, modalities, rate, generator: (
                torch.arange(modalities)
                != torch.where(torch.rand(count, 1) < rate, torch.randint(modalities, (count, 1)), 9)
            ),
            "The same generator gives another mask",
        ),
    ],
)
CASES["4.8"] = (
    lambda n, r, e: n.prod() ** (1 / len(n)) * (r / r.prod() ** (1 / len(r))) ** e,
    [
        (
            lambda n, r, e: n.mean() * (r / r.mean()) ** e,
            "Both means are arithmetic in yours: these are GradNorm's own targets.",
        ),
        (lambda n, r, e: n.log().mean().exp() * (r / r.mean()) ** e, "The ratios' mean is still arithmetic."),
        (lambda n, r, e: n.mean() * (r / r.log().mean().exp()) ** e, "The norms' mean is still arithmetic."),
        (
            lambda n, r, e: n.log().mean().exp() * r**e,
            "The ratios are relative to their mean: divide before the power.",
        ),
        (
            lambda n, r, e: n.log().mean() * (r / r.log().mean().exp()) ** e,
            "This is a mean of logarithms. Take its exponential.",
        ),
    ],
)
CASES["5.2"] = (
    lambda a, b: (lambda x, y: 2 * sum(min(x.count(w), y.count(w)) for w in set(x)) / (len(x) + len(y)))(
        *(re.findall("[a-z]+", c.lower()) for c in (a, b))
    ),
    [
        (
            lambda a, b: (lambda x, y: len(x & y) / len(x | y))(
                *(set(re.findall("[a-z]+", c.lower())) for c in (a, b))
            ),
            "This is the share of *distinct* words. Here every word counts as often as it stands there.",
        ),
        (
            lambda a, b: (lambda x, y: 2 * len(x & y) / (len(x) + len(y)))(
                *(set(re.findall("[a-z]+", c.lower())) for c in (a, b))
            ),
            "Each word counts once in yours: a set forgets how often. Use a Counter.",
        ),
        (
            lambda a, b: (lambda x, y: 2 * sum((x & y).values()) / (sum(x.values()) + sum(y.values())))(
                *(Counter(c.split()) for c in (a, b))
            ),
            'Case or punctuation counts in yours: "A" is "a", and "dog." is "dog".',
        ),
        (
            lambda a, b: (lambda x, y: sum((x & y).values()) / (sum(x.values()) + sum(y.values())))(
                *(Counter(re.findall("[a-z]+", c.lower())) for c in (a, b))
            ),
            "Twice the shared words: two equal captions score 1.",
        ),
    ],
)
CASES["5.5"] = (
    lambda rows, p: (
        torch.stack([F.pad(torch.tensor(r), (max(map(len, rows)) - len(r), 0), value=p) for r in rows]),
        torch.stack([F.pad(torch.ones(len(r)), (max(map(len, rows)) - len(r), 0)) for r in rows]).bool(),
    ),
    [
        (
            lambda rows, p: (
                torch.tensor([list(r) + [p] * (max(map(len, rows)) - len(r)) for r in rows]),
                torch.tensor([[True] * len(r) + [False] * (max(map(len, rows)) - len(r)) for r in rows]),
            ),
            "The padding stands on the right",
        ),
        (
            lambda rows, p: (lambda t: (t, t != p))(
                torch.tensor([[p] * (max(map(len, rows)) - len(r)) + list(r) for r in rows])
            ),
            "read off the tokens",
        ),
        (
            lambda rows, p: (
                torch.tensor([[p] * (max(map(len, rows)) - len(r)) + list(r)[::-1] for r in rows]),
                torch.ones(3, 3).bool(),
            ),
            "The order within rows",
        ),
        (
            lambda rows, p: (
                torch.tensor([[p] * (max(map(len, rows)) - len(r)) + list(r) for r in rows]),
                torch.tensor([[1] * len(r) + [0] * (max(map(len, rows)) - len(r)) for r in rows]),
            ),
            "of bool",
        ),
        (
            lambda rows, p: (
                torch.tensor([[p] * (max(map(len, rows)) - len(r)) + list(r) for r in rows]),
                torch.tensor([[True] * len(r) + [False] * (max(map(len, rows)) - len(r)) for r in rows]),
            ),
            "or stands on the other side",
        ),
        (lambda rows, p: torch.tensor([[p] * (max(map(len, rows)) - len(r)) + list(r) for r in rows]), "two tensors"),
    ],
)
CASES["6.3"] = (
    lambda s, n, w, p, f: p * (s + 1) / (w + 1) if s < w else (p * (n - 1 - s) + f * (s - w)) / (n - 1 - w),
    [
        (
            lambda s, n, w, p, f: p * (s + 1) / (w + 1) if s < w else p * (1 - (s - w) / (n - 1 - w)),
            "It falls to 0. The last step uses the floor.",
        ),
        (
            lambda s, n, w, p, f: p * (s + 1) / (w + 1) if s < w else p + (f - p) * (s - w) / (n - w),
            "The last step does not reach the floor: it lies n - 1 - warmup steps after the peak.",
        ),
        (
            lambda s, n, w, p, f: p * s / max(w, 1) if s < w else p + (f - p) * (s - w) / (n - 1 - w),
            "The rise begins at 0: the first step would teach nothing.",
        ),
        (
            lambda s, n, w, p, f: (
                p * (s + 1) / (w + 1) if s < w else f + (p - f) * (1 + math.cos(math.pi * (s - w) / (n - 1 - w))) / 2
            ),
            "This is half a cosine. A straight line is asked for.",
        ),
        (
            lambda s, n, w, p, f: p * (s + 1) / (w + 1) if s < w else max(f, p * (1 - (s - w) / (n - 1 - w))),
            "The line goes to 0 and is cut off at the floor. It should end there.",
        ),
    ],
)
CASES["6.10"] = (
    lambda e, w, z: (lambda p: F.normalize(p, p=1, dim=0))(
        torch.stack([(e([" ".join(w)]) @ z)[0] - (e([" ".join(w[:i] + w[i + 1 :])]) @ z)[0] for i in range(len(w))])
    ),
    [
        (
            lambda e, w, z: (e([" ".join(w)]) @ z) - (e([" ".join(w[:i] + w[i + 1 :]) for i in range(len(w))]) @ z),
            "These are the parts. Divide them by the sum of their absolute values.",
        ),
        (
            lambda e, w, z: (lambda p: p / p.sum())(
                (e([" ".join(w)]) @ z) - (e([" ".join(w[:i] + w[i + 1 :]) for i in range(len(w))]) @ z)
            ),
            "You divide by the plain sum, in which gains and losses cancel.",
        ),
        (
            lambda e, w, z: (lambda p: p / p.abs().sum())(
                (e([" ".join(w[:i] + w[i + 1 :]) for i in range(len(w))]) @ z) - (e([" ".join(w)]) @ z)
            ),
            "The sign is turned: all words, minus the score without one.",
        ),
        (
            lambda e, w, z: (lambda p: p / p.abs().sum())(
                (e([" ".join(w)]) @ z) - (e([" ".join(x for x in w if x != y) for y in w]) @ z)
            ),
            "Every *a* goes in yours where one should: leave out by place, not by name.",
        ),
        (
            lambda e, w, z: (lambda p: p / p.abs().sum())(e(w) @ z),
            "You scored each word alone. Leave one out of the sentence.",
        ),
    ],
)
CASES["7.4"] = (
    lambda t, r, c: torch.stack([t[1 + r * k : 1 + r * (k + 1)] for k in range(c)], dim=1).permute(2, 0, 1),
    [
        (lambda t, r, c: t[1 : 1 + r * c].T.reshape(-1, r, c), "Your patches run along rows. These run down columns."),
        (
            lambda t, r, c: t[: r * c].T.reshape(-1, c, r).transpose(1, 2),
            "The class token is still there: patches begin at 1.",
        ),
        (
            lambda t, r, c: t[-r * c :].T.reshape(-1, c, r).transpose(1, 2),
            "You took the last tokens: those are registers.",
        ),
        (lambda t, r, c: t[1 : 1 + r * c].T.reshape(-1, c, r), "The shape is (D, columns, rows): swap the last two."),
        (
            lambda t, r, c: t[1 : 1 + r * c].reshape(c, r, -1).transpose(0, 1),
            "The width D stands last. It comes first, as colours do.",
        ),
    ],
)
CASES["7.2"] = (
    lambda a, g: F.relu(torch.einsum("c,chw->hw", -F.normalize(g.mean((1, 2)), p=1, dim=0), a)),
    [
        (
            lambda a, g: (g.mean((1, 2), keepdim=True) * a).sum(0).relu(),
            "This is Grad-CAM itself: what speaks for the score.",
        ),
        (
            lambda a, g: (-(g.mean((1, 2), keepdim=True) * a).sum(0)).relu(),
            "The weights are not divided by the sum of their absolute values.",
        ),
        (
            lambda a, g: (-(g.mean((1, 2), keepdim=True) * a).sum(0)).relu() / g.mean((1, 2)).sum().abs(),
            "You divide by the plain sum of weights, in which they cancel. Take absolute values first.",
        ),
        (
            lambda a, g: -(g.mean((1, 2), keepdim=True) * a).sum(0) / g.mean((1, 2)).abs().sum(),
            "What speaks for the score is negative in yours. It should be 0: relu at the end.",
        ),
        (
            lambda a, g: (-(g * a).sum(0)).relu() / g.mean((1, 2)).abs().sum(),
            "Each place has its own gradient in yours. Grad-CAM has one weight a channel: the mean over places.",
        ),
    ],
)
CASES["8.2"] = (
    lambda n, s: np.array(
        sorted((r for r in itertools.product([True, False], repeat=n) if sum(r) >= s), key=sum)
    ).reshape(-1, n),
    [
        (lambda n, s: np.array(list(itertools.product([False, True], repeat=n))), "Leave out those that are too small"),
        (
            lambda n, s: np.array([r for r in itertools.product([False, True], repeat=n) if sum(r) > s]).reshape(-1, n),
            "sets of exactly 2 belong to it",
        ),
        (
            lambda n, s: np.array([r for r in itertools.product([False, True], repeat=n) if sum(r) >= s]).reshape(
                -1, n
            ),
            "small sets come first",
        ),
        (
            lambda n, s: np.array([r for r in itertools.product([0, 1], repeat=n) if sum(r) >= s]).reshape(-1, n),
            "a table of bool",
        ),
        (
            lambda n, s: np.array([r for r in itertools.product([False, True], repeat=n) if sum(r) == s]).reshape(
                -1, n
            ),
            "there are 11 sets",
        ),
    ],
)
CASES["8.8"] = (
    lambda p, w, h: (lambda v: v[len(p) :].sum() / v.sum())(
        (lambda v: v * (v >= h * v.max()))(torch.cat([p, w]).abs())
    ),
    [
        (
            lambda p, w, h: w.abs().sum() / (w.abs().sum() + p.abs().sum()),
            "All values count in yours: this is MM-SHAP. Leave the small ones out.",
        ),
        (
            lambda p, w, h: (lambda a, b: b / (a + b))(*(v.abs()[v.abs() >= h * v.abs().max()].sum() for v in (p, w))),
            "Each modality has its own threshold in yours. One is meant, from the largest of all players.",
        ),
        (
            lambda p, w, h: (lambda a, b: b / (a + b))(
                *(v.clamp(min=0)[v >= h * torch.cat([p, w]).max()].sum() for v in (p, w))
            ),
            "Negative values are missing: size is what counts.",
        ),
        (
            lambda p, w, h: (lambda a, b: b / (a + b))(*(v.abs()[v.abs() >= h].sum() for v in (p, w))),
            "`half` is a share of the largest size, not a value itself.",
        ),
        (
            lambda p, w, h: (lambda a, b: a / (a + b))(
                *(v.abs()[v.abs() >= h * torch.cat([p, w]).abs().max()].sum() for v in (p, w))
            ),
            "This is the picture's share.",
        ),
    ],
)
CASES["9.1"] = (
    lambda s, r: np.array([max(sorted(row, reverse=True).index(x) + 1 for x in row[hit]) for row, hit in zip(s, r)]),
    [
        (
            lambda s, r: 1 + (s > np.where(r, s, -np.inf).max(axis=1, keepdims=True)).sum(axis=1),
            "This is the rank of the first right item. The last one is asked for.",
        ),
        (
            lambda s, r: (s > np.where(r, s, np.inf).min(axis=1, keepdims=True)).sum(axis=1),
            "You count from 0: the best item has rank 1.",
        ),
        (
            lambda s, r: 1 + (s > (s * r).min(axis=1, keepdims=True)).sum(axis=1),
            "Scores times right puts a 0 where nothing is right. Hide those places with np.where.",
        ),
        (
            lambda s, r: 1 + (~r & (s > np.where(r, s, np.inf).min(axis=1, keepdims=True))).sum(axis=1),
            "You left the other right items out. They take places, too.",
        ),
        (
            lambda s, r: 1 + (s < np.where(r, s, np.inf).min(axis=1, keepdims=True)).sum(axis=1),
            "You count from the bottom: how many score *lower*.",
        ),
    ],
)
CASES["9.9"] = (
    lambda c, r, b, n: max(
        (
            abs(np.mean(r[i]) - np.mean(c[i]))
            for i in (np.ceil(c * b) == k + 1 for k in range(b))
            if i.sum() >= n and i.any()
        ),
        default=0.0,
    ),
    [
        (
            lambda c, r, b, n: sum(
                ((c > k / b) & (c <= (k + 1) / b)).mean()
                * abs(r[(c > k / b) & (c <= (k + 1) / b)].mean() - c[(c > k / b) & (c <= (k + 1) / b)].mean())
                for k in range(b)
            ),
            "This is the expected error, a mean over cases. The worst bin is asked for.",
        ),
        (
            lambda c, r, b, n: max(
                abs(r[(c > k / b) & (c <= (k + 1) / b)].mean() - c[(c > k / b) & (c <= (k + 1) / b)].mean())
                for k in range(b)
            ),
            "`least` is not used: a bin with one case decides in yours.",
        ),
        (
            lambda c, r, b, n: max(
                abs(r[(c >= k / b) & (c < (k + 1) / b)].mean() - c[(c >= k / b) & (c < (k + 1) / b)].mean())
                for k in range(b)
                if ((c >= k / b) & (c < (k + 1) / b)).sum() >= n
            ),
            "A case at 0.5 belongs to the bin below it, (low, high].",
        ),
        (
            lambda c, r, b, n: max(
                abs(r[(c > k / b) & (c <= (k + 1) / b)] - c[(c > k / b) & (c <= (k + 1) / b)]).mean()
                for k in range(b)
                if ((c > k / b) & (c <= (k + 1) / b)).sum() >= n
            ),
            "You average each case's own error. Average first, then take the difference.",
        ),
    ],
)


ROOT = Path(__file__).resolve().parent.parent.parent
VARIANTS = ROOT / "notebooks" / "src" / "variants"
sys.path.insert(0, str(ROOT / "notebooks"))
classroom = importlib.import_module("classroom")


def variant(number):
    """The names of a variant's cells, its answer's name under "name" and its graded cell under "graded"."""
    names = dict(LESSON)
    path = VARIANTS / f"{number.partition('.')[0]:0>2}.py"
    for cell in classroom.together(classroom.blocks(path)[number]):
        if cell.cell_type == "code" and "check" not in cell.metadata.get("tags", []):
            exec(cell.source, names)
            answer = re.search(r"^def (?!check_)(\w+)", cell.source, re.MULTILINE)
            names["name"] = answer[1] if answer else names["name"]
        elif cell.cell_type == "code":
            names["graded"] = cell.source
    return names


def grade(names, answer):
    """Run the graded cell, hidden cases and all, with another answer."""
    exec(
        names["graded"] if names["graded"].startswith("assert") else f"assert {names['graded']}",
        names | {names["name"]: answer},
    )


@pytest.mark.parametrize("number", CASES)
def test_the_solution_and_another_spelling_are_right(number):
    names = variant(number)
    for answer in (names[names["name"]], CASES[number][0]):
        grade(names, answer)
    assert progress.table().exercise.tolist() == [number]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(("number", "k"), [(number, k) for number, case in CASES.items() for k in range(len(case[1]))])
def test_what_people_write_is_named(number, k):
    names, (wrong, message) = variant(number), CASES[number][1][k]
    with pytest.raises(WrongAnswer) as told:
        grade(names, wrong)
    assert message in str(told.value)


@pytest.mark.parametrize("number", CASES)
def test_not_attempted_is_not_right(number):
    def stub(*arguments):
        raise NotImplementedError

    for answer in (None, ..., stub):
        with pytest.raises(AssertionError, match="^$"):
            grade(variant(number), answer)


@pytest.mark.parametrize("number", CASES)
def test_an_answer_learnt_by_heart_is_found_out(number):
    """One that gives back, in order, what the shown check wants, fails on the hidden cases where there are any."""
    names, known = variant(number), []
    solution = names[names["name"]]
    shown = names["graded"].partition("\n")[0].removeprefix("assert ")
    eval(shown, names | {names["name"]: lambda *arguments: known.append(solution(*arguments)) or known[-1]})
    replay = iter(known)
    if "HIDDEN" not in names["graded"]:
        assert number in ("4.7", "8.2")  # their checks try properties at several sizes: there is no number to learn
        return
    with pytest.raises(WrongAnswer, match="wrong on others|stopped"):
        grade(names, lambda *arguments: next(replay, known[0]))


def test_every_lesson_has_two_variants_and_every_variant_its_wrong_answers():
    paths = sorted(VARIANTS.glob("*.py"))
    numbers = [number for path in paths for number in classroom.blocks(path)]
    assert sorted(numbers) == sorted(CASES)
    assert {path.stem for path in paths} >= {path.stem[:2] for path in VARIANTS.parent.glob("[0-9]*.py")}
    assert all(len(classroom.blocks(path)) >= 2 for path in paths)
    assert all(len(wrong) >= 3 for _, wrong in CASES.values())
