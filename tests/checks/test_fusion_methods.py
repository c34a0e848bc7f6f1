"""Checks of lesson 04: the solution and other spellings pass, what people really write is named, nothing leaks."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from contract import Contract, by_number
from sklearn.metrics import precision_recall_fscore_support

from course_utils import balancing
from course_utils.checks import fusion_methods as checks
from course_utils.checks._outcome import WrongAnswer
from course_utils.tasks import Task

BY_NUMBER = by_number(checks)
VALUES = ("4.5",)  # exercises whose answer is a value


# 4.1


def weighted(v, t, alpha):
    return alpha * v + (1 - alpha) * t


def weighted_loops(v, t, alpha):
    return [[alpha * x + (1 - alpha) * y for x, y in zip(*rows)] for rows in zip(v.tolist(), t.tolist())]


# 4.2


def best_accuracy(joint):
    return joint.max(axis=2).sum()


def best_accuracy_loops(joint):
    return sum(max(joint[a][b]) for a in range(len(joint)) for b in range(len(joint[0])))


def best_accuracy_conditional(joint):
    pairs = joint.sum(axis=2)
    return sum(p * (joint[a, b] / p).max() for (a, b), p in np.ndenumerate(pairs) if p > 0)


def best_accuracy_package(joint):
    names = [tuple(map(str, range(size))) for size in joint.shape]
    return Task("answer", joint, *names).optimum("both")


def mean_of_conditionals(joint):
    return (joint / joint.sum(axis=2, keepdims=True).clip(1e-12)).max(axis=2).mean()


def with_zero_division(joint):
    with np.errstate(all="ignore"):
        pairs = joint.sum(axis=2, keepdims=True)
        return (pairs[:, :, 0] * (joint / pairs).max(axis=2)).sum()


# 4.3


def one(x):
    return torch.cat([x, torch.ones(len(x), 1)], dim=1)


def front(x):
    return torch.cat([torch.ones(len(x), 1), x], dim=1)


def outer_features(v, t):
    return torch.einsum("bi,bj->bij", one(v), one(t)).flatten(1)


def outer_features_loops(v, t):
    return [[x * y for x in (*a.tolist(), 1.0) for y in (*b.tolist(), 1.0)] for a, b in zip(v, t)]


def outer_features_bmm(v, t):
    return torch.bmm(one(v)[:, :, None], one(t)[:, None, :]).reshape(len(v), -1)


def outer_features_kron(v, t):
    return torch.stack([torch.kron(a, b) for a, b in zip(one(v), one(t))])


# 4.4


def low_rank_logits(v1, t1, fv, ft):
    return ((v1 @ fv) * (t1 @ ft)).sum(dim=0)


def low_rank_loop(v1, t1, fv, ft):
    total = 0
    for r in range(len(fv)):
        total = total + (v1 @ fv[r]) * (t1 @ ft[r])
    return total


def low_rank_full(v1, t1, fv, ft):
    return torch.einsum("bi,bj,ijc->bc", v1, t1, torch.einsum("ric,rjc->ijc", fv, ft))


def low_rank_numpy(v1, t1, fv, ft):
    return np.einsum("bi,ric,bj,rjc->bc", v1, fv, t1, ft)


# 4.6


def precision_recall_f1(truth, predicted, positive):
    hits = ((truth == positive) & (predicted == positive)).sum()
    called, ill = (predicted == positive).sum(), (truth == positive).sum()
    precision = hits / called if called else 0.0
    recall = hits / ill if ill else 0.0
    return precision, recall, 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def fractions_counter(truth, predicted, positive):
    pairs = [(int(t) == positive, int(p) == positive) for t, p in zip(truth, predicted)]
    tp, fp, fn = pairs.count((True, True)), pairs.count((False, True)), pairs.count((True, False))
    return [tp / max(tp + fp, 1), tp / max(tp + fn, 1), 2 * tp / max(2 * tp + fp + fn, 1)]


def fractions_sklearn(truth, predicted, positive):
    values = precision_recall_fscore_support(truth, predicted, labels=[positive], zero_division=0)[:3]
    return np.array(values)[:, 0]


def fractions(form, empty=0.0, positive_is=None):
    """An answer built from tp, fp, fn, tn; `form` gives the three numbers."""

    def answer(truth, predicted, positive):
        positive = positive if positive_is is None else positive_is
        ill, called = truth == positive, predicted == positive
        tp, fp, fn, tn = ((x & y).sum() for x, y in ((ill, called), (~ill, called), (ill, ~called), (~ill, ~called)))
        quotient = lambda a, b: a / b if b else empty
        return form(quotient, tp, fp, fn, tn)

    return answer


def harmonic(p, r):
    return 2 * p * r / (p + r) if p + r else 0.0


def unguarded(truth, predicted, positive):
    hits = sum((truth == positive) & (predicted == positive)).item()
    p, r = hits / sum(predicted == positive).item(), hits / sum(truth == positive).item()
    return p, r, 2 * p * r / (p + r)


def unguarded_numpy(truth, predicted, positive):
    hits = ((truth == positive) & (predicted == positive)).sum()
    p, r = hits / (predicted == positive).sum(), hits / (truth == positive).sum()
    return p, r, 2 * p * r / (p + r)


def every_right_answer(truth, predicted, positive):
    right = (truth == predicted).sum()
    p, r = right / max((predicted == positive).sum(), 1), right / max((truth == positive).sum(), 1)
    return p, r, 2 * p * r / (p + r)


def f1_unguarded(truth, predicted, positive):
    p, r, _ = precision_recall_f1(truth, predicted, positive)
    return float(p), float(r), 2 * float(p) * float(r) / (float(p) + float(r))


# 4.7


def dropout_mask(count, modalities, rate, generator):
    present = torch.rand(count, modalities, generator=generator) >= rate
    empty = ~present.any(dim=1)
    survivor = torch.randint(modalities, (count,), generator=generator)
    present[empty, survivor[empty]] = True
    return present


def dropout_loop(count, modalities, rate, generator):
    rows = []
    for _ in range(count):
        row = [torch.rand(1, generator=generator).item() >= rate for _ in range(modalities)]
        if not any(row):
            row[int(torch.randint(modalities, (1,), generator=generator))] = True
        rows.append(row)
    return torch.tensor(rows)


def dropout_bernoulli(count, modalities, rate, generator):
    present = torch.bernoulli(torch.full((count, modalities), 1 - rate), generator=generator).bool()
    order = torch.rand(count, modalities, generator=generator)
    best = F.one_hot(order.argmax(dim=1), modalities).bool()
    return torch.where(present.any(dim=1, keepdim=True), present, best).numpy()


def may_be_empty(count, modalities, rate, generator):
    return torch.rand(count, modalities, generator=generator) >= rate


def one_for_all(count, modalities, rate, generator):
    return balancing.modality_dropout(1, modalities, rate, generator).expand(count, modalities)


def turned_rate(count, modalities, rate, generator):
    return balancing.modality_dropout(count, modalities, min(1 - rate, 0.999) if rate else 0.0, generator)


def first_survives(count, modalities, rate, generator):
    present = may_be_empty(count, modalities, rate, generator)
    present[~present.any(dim=1), 0] = True
    return present


def kept_by_rate(count, modalities, rate, generator):
    return dropout_mask(count, modalities, 1 - rate, generator)


def one_survivor(count, modalities, rate, generator):
    present = may_be_empty(count, modalities, rate, generator)
    present[~present.any(dim=1), torch.randint(modalities, (1,), generator=generator)] = True
    return present


def all_come_back(count, modalities, rate, generator):
    present = may_be_empty(count, modalities, rate, generator)
    present[~present.any(dim=1)] = True
    return present


def drawn_anew(count, modalities, rate, generator):
    present = may_be_empty(count, modalities, rate, generator)
    while not present.any(dim=1).all():
        empty = ~present.any(dim=1)
        present[empty] = may_be_empty(int(empty.sum()), modalities, rate, generator)
    return present


def at_most_one(count, modalities, rate, generator):
    present = torch.ones(count, modalities, dtype=torch.bool)
    drop = torch.rand(count, generator=generator) < rate
    present[drop, torch.randint(modalities, (count,), generator=generator)[drop]] = False
    return present


def survivor_from_elsewhere(count, modalities, rate, generator):
    present = may_be_empty(count, modalities, rate, generator)
    empty = ~present.any(dim=1)
    present[empty, torch.randint(modalities, (count,))[empty]] = True
    return present


def without_generator(count, modalities, rate, generator):
    return balancing.modality_dropout(count, modalities, rate, torch.Generator().manual_seed(torch.seed() % 1000))


def seeded_inside(count, modalities, rate, generator):
    return dropout_mask(count, modalities, rate, generator.manual_seed(0))


def too_many(count, modalities, rate, generator):
    return balancing.modality_dropout(count, modalities, rate**2, generator)


# 4.8


def gradnorm_targets(norms, ratios, exponent):
    return norms.mean() * (ratios / ratios.mean()) ** exponent


def gradnorm_loop(norms, ratios, exponent):
    n = len(norms)
    mean, ratio = sum(norms) / n, sum(ratios) / n
    return [float(mean * (r / ratio) ** exponent) for r in ratios]


def gradnorm_numpy(norms, ratios, exponent):
    return np.mean(norms.numpy()) * np.exp(exponent * np.log(ratios.numpy() / np.mean(ratios.numpy())))


# 4.9


def price(p, truth, threshold, missed, alarm):
    return missed * (truth & (p < threshold)).sum() + alarm * (~truth & (p >= threshold)).sum()


def candidates(p):
    return [*np.unique(p), 1.1]


def cheapest_threshold(p, truth, missed, alarm):
    return min(candidates(p), key=lambda c: price(p, truth, c, missed, alarm))


def cheapest_vectorised(p, truth, missed, alarm):
    every = np.append(np.unique(p), np.inf)
    treated = p[None] >= every[:, None]
    costs = missed * (truth[None] & ~treated).sum(1) + alarm * (~truth[None] & treated).sum(1)
    return every[costs.argmin()]


def cheapest_sorted(p, truth, missed, alarm):
    """Between two p, from above, as a tensor."""
    order, best = np.sort(np.unique(p))[::-1], (alarm * 0 + missed * truth.sum(), 1.05)
    for low in order:
        best = min(best, (price(p, truth, low - 0.004, missed, alarm), low - 0.004))
    return torch.tensor(best[1], dtype=torch.float64)


def strict(p, truth, missed, alarm):
    cost = lambda c: missed * (truth & (p <= c)).sum() + alarm * (~truth & (p > c)).sum()
    return min(candidates(p), key=cost)


def theory(p, truth, missed, alarm):
    return alarm / (alarm + missed)


# 4.10


def information_beyond(predict, first, second, label, seed):
    order = np.random.default_rng(seed).permutation(len(second))
    return (predict(first, second) == label).mean() - (predict(first, second[order]) == label).mean()


def information_five_times(predict, first, second, label, seed):
    rng, before = np.random.default_rng(seed), np.mean(predict(first, second) == label)
    return before - np.mean([np.mean(predict(first, rng.permutation(second)) == label) for _ in range(5)])


def information_torch(predict, first, second, label, seed):
    order = torch.randperm(len(label), generator=torch.Generator().manual_seed(seed)).numpy()
    lost = torch.from_numpy((predict(first, second) == label).astype(int) - (predict(first, second[order]) == label))
    return lost.double().mean()


def information_legacy(predict, first, second, label, seed):
    np.random.seed(seed)
    shuffled = second.copy()
    np.random.shuffle(shuffled)
    return float(sum(predict(first, second) == label) - sum(predict(first, shuffled) == label)) / len(label)


def permuting(change, value=lambda before, after: before - after):
    """An answer that shows the model what `change` makes of (first, second, label, rng)."""

    def answer(predict, first, second, label, seed):
        before = (predict(first, second) == label).mean()
        a, b, c = change(first.copy(), second.copy(), label.copy(), np.random.default_rng(seed))
        return value(before, (predict(a, b) == c).mean())

    return answer


def only(change):
    return permuting(lambda first, second, label, rng: (first, change(second, rng), label))


def value_of(value):
    return permuting(lambda first, second, label, rng: (first, rng.permutation(second), label), value)


def together(first, second, label, rng):
    order = rng.permutation(len(label))
    return first[order], second[order], label


def labels_too(first, second, label, rng):
    order = rng.permutation(len(label))
    return first, second[order], label[order]


def in_place(predict, first, second, label, seed):
    before = (predict(first, second) == label).mean()
    np.random.default_rng(seed).shuffle(second)
    return before - (predict(first, second) == label).mean()


def unseeded(predict, first, second, label, seed):
    order = np.random.default_rng().permutation(len(second))
    return (predict(first, second) == label).mean() - (predict(first, second[order]) == label).mean()


def changed_answers(predict, first, second, label, seed):
    order = np.random.default_rng(seed).permutation(len(second))
    return (predict(first, second) != predict(first, second[order])).mean()


RIGHT = [
    ("4.1", [weighted, weighted_loops, lambda v, t, a: torch.lerp(t, v, a), lambda v, t, a: t + a * (v - t)]),
    ("4.1", [lambda v, t, a: weighted(v, t, a).half(), lambda v, t, a: weighted(v.requires_grad_(), t, a)]),
    ("4.2", [best_accuracy, best_accuracy_loops, best_accuracy_conditional, best_accuracy_package]),
    ("4.3", [outer_features, outer_features_loops, outer_features_bmm, outer_features_kron]),
    ("4.4", [low_rank_logits, low_rank_loop, low_rank_full, low_rank_numpy]),
    ("4.5", [(16384, 4096), [16384.0, 4096.0], np.array([16384, 4096]), torch.tensor([16384, 4096])]),
    ("4.6", [precision_recall_f1, fractions_counter, fractions_sklearn]),
    ("4.6", [lambda t, p, k: torch.tensor(precision_recall_f1(t, p, k))]),
    ("4.7", [dropout_mask, dropout_loop, dropout_bernoulli, balancing.modality_dropout]),
    ("4.8", [gradnorm_targets, gradnorm_loop, gradnorm_numpy, balancing.gradnorm_targets]),
    ("4.9", [cheapest_threshold, cheapest_vectorised, cheapest_sorted]),
    ("4.10", [information_beyond, information_five_times, information_torch, information_legacy]),
]


WRONG = {
    "4.1": [
        (lambda v, t, a: weighted(t, v, a), "swapped"),
        (lambda v, t, a: a * v + t, "counts in full"),
        (lambda v, t, a: v + a * t, "counts in full"),
        (lambda v, t, a: v + (1 - a) * t, "counts in full"),
        (lambda v, t, a: (v + t) / 2, "alpha is not used"),
        (lambda v, t, a: v + t, "alpha is not used"),
        (lambda v, t, a: a * (v + t), "Both got the weight alpha"),
        (lambda v, t, a: v * t, "You multiplied"),
        (lambda v, t, a: weighted(v.softmax(1), t.softmax(1), a), "No softmax"),
        (lambda v, t, a: F.normalize(weighted(v, t, a), dim=1), "No softmax and no unit rows"),
        (lambda v, t, a: a * v + t * 1 - a, "Brackets"),
        (lambda v, t, a: torch.cat([a * v, (1 - a) * t], dim=1), r"should be \(5, 3\), yours is \(5, 6\)"),
        (lambda v, t, a: torch.cat([v, t], dim=1), "side by side"),
        (lambda v, t, a: weighted(v, t, a).argmax(dim=1), "class id"),
        (lambda v, t, a: 0.3 * v + 0.7 * t, "alpha is 0.8: v counts 0.8"),
        (lambda v, t, a: torch.zeros_like(v), "alpha is 0.3: v counts 0.3, t 0.7"),
        (lambda v, t, a: v.mul_(a) + (1 - a) * t, "changes its inputs"),
    ],
    "4.2": [
        (lambda joint: joint.max(), "largest single cell"),
        (lambda joint: joint.max(axis=2).mean(), "You averaged"),
        (lambda joint: best_accuracy(joint) / joint.size, "You averaged"),
        (mean_of_conditionals, "count alike"),
        (lambda joint: joint.sum(axis=(0, 1)).max(), "sees nothing"),
        (lambda joint: joint.sum(axis=0).max(axis=-1).sum(), "sees only the second"),
        (lambda joint: joint.sum(axis=1).max(axis=-1).sum(), "sees only the first"),
        (lambda joint: joint.max(axis=0).sum(), "wrong axis"),
        (lambda joint: joint.max(axis=1).sum(), "wrong axis"),
        (lambda joint: 1 - best_accuracy(joint), "This is the error"),
        (lambda joint: joint.max(axis=2), "Add them up"),
        (with_zero_division, "never comes makes 0 / 0"),
        (lambda joint: 0.95, "guess the likeliest label.*Yours says 0.95"),
        (lambda joint: joint.argmax(axis=2).sum(), "guess the likeliest label"),
    ],
    "4.3": [
        (lambda v, t: torch.einsum("bi,bj->bij", v, t).flatten(1), "ones are missing"),
        (lambda v, t: (F.pad(v, (0, 1))[:, :, None] * F.pad(t, (0, 1))[:, None]).flatten(1), "appended zeros"),
        (lambda v, t: torch.einsum("bi,bj->bij", one(v), t).flatten(1), "Only one of the two"),
        (lambda v, t: torch.einsum("bi,bj->bij", v, one(t)).flatten(1), "Only one of the two"),
        (lambda v, t: torch.einsum("bi,bj->bij", front(v), front(t)).flatten(1), "not in front"),
        (lambda v, t: outer_features(t, v), "order is turned"),
        (lambda v, t: torch.einsum("bi,bj->bji", one(v), one(t)).flatten(1), "order is turned"),
        (lambda v, t: torch.einsum("bi,bj->bij", one(v), one(t)), "Not flattened"),
        (lambda v, t: outer_features(v, t).flatten(), "All flattened"),
        (lambda v, t: torch.cat([one(v), one(t)], dim=1), "side by side"),
        (lambda v, t: torch.cat([v, t], dim=1), "side by side"),
        (lambda v, t: v * t, "unit by unit"),
        (lambda v, t: one(v) * one(t), "unit by unit"),
        (lambda v, t: torch.kron(one(v), one(t)), "crosses rows"),
        (lambda v, t: one(v).T @ one(t), "summed over rows"),
        (lambda v, t: torch.ones(len(v), 9), r"there are \(2 \+ 1\) \* \(2 \+ 1\) products"),
    ],
    "4.4": [
        (lambda v, t, fv, ft: (v @ fv.sum(0)) * (t @ ft.sum(0)), "too early"),
        (lambda v, t, fv, ft: (v @ fv).sum(0) * (t @ ft).sum(0), "too early"),
        (lambda v, t, fv, ft: (v @ fv).mean(0) * (t @ ft).mean(0), "too early"),
        (lambda v, t, fv, ft: (v @ fv + t @ ft).sum(0), "You added the two"),
        (lambda v, t, fv, ft: ((v @ fv) * (t @ ft)).mean(0), "mean over r"),
        (lambda v, t, fv, ft: ((v @ fv) * (t @ ft)).prod(0), "multiplied over r"),
        (lambda v, t, fv, ft: (v @ fv) * (t @ ft), "sum over r is missing"),
        (lambda v, t, fv, ft: torch.einsum("bi,ric,bj,rjc->brc", v, fv, t, ft), "sum over r is missing"),
        (lambda v, t, fv, ft: low_rank_logits(v, t, fv, ft).sum(1), "over r alone"),
        (lambda v, t, fv, ft: ((v @ fv) * (t @ ft)).sum(1), "over r alone"),
        (lambda v, t, fv, ft: ((v @ fv) * (t @ ft)).sum(), "over r alone"),
        (lambda v, t, fv, ft: (v @ fv[0]) * (t @ ft[0]), "Not every r"),
        (lambda v, t, fv, ft: (v @ fv[-1]) * (t @ ft[-1]), "Not every r"),
        (lambda v, t, fv, ft: low_rank_logits(v, t, fv[:2], ft[:2]), "Not every r"),
        (lambda v, t, fv, ft: torch.zeros(len(v), 5), "Compare with W = einsum"),
        (lambda v, t, fv, ft: torch.zeros(5), r"should be \(7, 5\)"),
    ],
    "4.5": [
        ((31 * 31 * 16, 4 * 62 * 16), "Tensor fusion: the ones are forgotten"),
        ((16384, 4 * 62 * 16), "Low rank: the ones are forgotten"),
        ((32 * 32, 4 * 64), "Tensor fusion: 32 . 32 products .* each of 16 classes"),
        ((64 * 16, 4096), "not 32 . 32"),
        ((16384, 4 * 64), "Low rank: each factor has a weight for each"),
        ((16384, 64 * 16), "4 factors for each modality"),
        ((16384, 4 * 32 * 32 * 16), "never multiplied out"),
        ((16384, 4 * 32 * 16), "both modalities"),
        ((4096, 16384), "Swapped"),
        ((16400, 4096), "no biases"),
        ((16384, 4112), "biases are not counted"),
        ((16384,), "Two numbers"),
        (16384, "Two numbers"),
        ({16384, 4096}, "Two numbers"),
        ("16384, 4096", "Two numbers"),
        ((16384, ...), "still open"),
        ((5, 4096), "how many products, and how many weights.*Yours says 5"),
        ((16384, "many"), "how many numbers in one factor"),
    ],
    "4.6": [
        (fractions(lambda q, tp, fp, fn, tn: (q(tp, tp + fn), q(tp, tp + fp), q(2 * tp, 2 * tp + fp + fn))), "Swapped"),
        (lambda t, p, k: (*(pr := precision_recall_f1(t, p, k)[:2]), sum(pr) / 2), "harmonic mean"),
        (lambda t, p, k: (*(x := precision_recall_f1(t, p, k)[:2]), np.sqrt(x[0] * x[1])), "harmonic mean"),
        (lambda t, p, k: [((t == k) & (p == k)).mean()] * 3, "divided by N"),
        (every_right_answer, "counted every right answer"),
        (lambda t, p, k: (*(x := precision_recall_f1(t, p, k))[:2], x[2] / 2), "lacks its factor 2"),
        (lambda t, p, k: ((t == p).mean(), *precision_recall_f1(t, p, k)[1:]), "first is accuracy"),
        (lambda t, p, k: (a := (t == p).mean(), r := precision_recall_f1(t, p, k)[1], harmonic(a, r)), "accuracy"),
        (fractions(lambda q, tp, fp, fn, tn: (q(tp, tp + fp), q(tn, tn + fp), 0.5)), "hits, .* predicted positive"),
        (
            fractions(lambda q, a, b, c, d: (q(a, a + b), q(d, d + b), harmonic(q(a, a + b), q(d, d + b)))),
            "of negatives",
        ),
        (lambda t, p, k: precision_recall_f1(t, p, 1), "counted class 1"),
        (lambda t, p, k: precision_recall_f1(t == 1, p == 1, True), "counted class 1"),
        (lambda t, p, k: [100 * x for x in precision_recall_f1(t, p, k)], "percent"),
        (unguarded, "has no case: return 0.0"),
        (unguarded_numpy, "has no case: return 0.0"),
        (f1_unguarded, "has no case: return 0.0"),
        (
            fractions(lambda q, a, b, c, d: (p := q(a, a + b), r := q(a, a + c), harmonic(p, r)), 1.0),
            "0.0 here, not 1.0",
        ),
        (lambda t, p, k: precision_recall_f1(t, p, k)[0], "Three numbers"),
        (lambda t, p, k: precision_recall_f1(t, p, k)[:2], "Three numbers"),
        (lambda t, p, k: (0.5, 0.5, 0.5), "hits, .* predicted positive"),
        (lambda t, p, k: (0.0, 0.0, 0.0), "hits, .* predicted positive"),
    ],
    "4.7": [
        (may_be_empty, "lost every modality"),
        (one_for_all, "one mask for the whole batch"),
        (lambda c, m, r, g: ~balancing.modality_dropout(c, m, r, g), "True means kept"),
        (lambda c, m, r, g: torch.rand(c, m, generator=g) < r, "True means kept"),
        (turned_rate, "rate is turned round"),
        (lambda c, m, r, g: dropout_mask(c, m, 0.5 if r else 0.0, g), "rate is not used"),
        (lambda c, m, r, g: dropout_mask(c, m, 0.5, g), "At rate 0 nothing may be dropped"),
        (lambda c, m, r, g: torch.rand(c, m, generator=g) > r * 0.999 + 1e-3, "At rate 0 nothing"),
        (kept_by_rate, "rate is the chance to drop"),
        (one_survivor, "Draw it for each row"),
        (first_survives, "keep modality 0 too often"),
        (all_come_back, "gets all back"),
        (drawn_anew, "drawn anew"),
        (at_most_one, "No row ever loses two"),
        (survivor_from_elsewhere, "Hand generator=generator to every draw"),
        (without_generator, "Hand generator=generator to every draw"),
        (seeded_inside, "do not seed it"),
        (too_many, r"\[0.71 0.37\] should be kept; yours: \[0.9"),
        (lambda c, m, r, g: dropout_mask(c, m, r, g).float(), "should be bool.*float32"),
        (lambda c, m, r, g: dropout_mask(c, m, r, g).all(dim=1), r"should be \(6000, 3\), yours is \(6000,\)"),
        (lambda c, m, r, g: torch.ones(c, m, dtype=torch.bool), "Every row is alike"),
    ],
    "4.8": [
        (lambda n, r, e: n.mean() * r**e, "not relative"),
        (lambda n, r, e: n.mean() * (r / r.sum()) ** e, "sum of the ratios"),
        (lambda n, r, e: n.mean() * r / r.mean() * e, "exponent multiplies"),
        (lambda n, r, e: n.mean() * (r.mean() / r) ** e, "Upside down"),
        (lambda n, r, e: n * (r / r.mean()) ** e, "not from its own norm"),
        (lambda n, r, e: n.sum() * (r / r.mean()) ** e, "sum of the norms"),
        (lambda n, r, e: n.mean() * (r / r.mean()), "exponent is not used"),
        (lambda n, r, e: n.mean() * r**e / (r**e).mean(), "power comes too early"),
        (lambda n, r, e: (n.mean() * r / r.mean()) ** e, "belongs to the relative ratio alone"),
        (lambda n, r, e: (n - gradnorm_targets(n, r, e)).abs(), "Return the targets"),
        (lambda n, r, e: (r / r.mean()) ** e, "mean norm is missing"),
        (lambda n, r, e: gradnorm_targets(n, r, e).sum(), r"should be \(3,\), yours is \(\)"),
        (lambda n, r, e: torch.ones(3), "Which ratio is above the mean"),
        (lambda n, r, e: n.mean() * r.div_(r.mean()) ** e, "changes its inputs"),
    ],
    "4.9": [
        (lambda p, t, m, a: 0.5, "0.5 whatever the costs"),
        (lambda p, t, m, a: cheapest_threshold(p, t, 1, 1), "fewest errors"),
        (lambda p, t, m, a: cheapest_threshold(p, t, a, m), "costs are swapped"),
        (lambda p, t, m, a: max(candidates(p), key=lambda c: price(p, t, c, m, a)), "dearest"),
        (lambda p, t, m, a: min(price(p, t, c, m, a) for c in candidates(p)), "This is the smallest cost"),
        (lambda p, t, m, a: int(np.argmin([price(p, t, c, m, a) for c in candidates(p)])), "position"),
        (theory, "for calibrated p"),
        (lambda p, t, m, a: min(np.unique(p), key=lambda c: price(p, t, c, m, a)), "At 1.1"),
        (strict, ">=, not >"),
        (lambda p, t, m, a: p.min(), "Everybody is treated"),
        (lambda p, t, m, a: cheapest_threshold(p, t, m, 0), "Everybody is treated"),
        (lambda p, t, m, a: 1.1, "Nobody is treated"),
        (lambda p, t, m, a: np.unique(p), "One number is wanted"),
        (lambda p, t, m, a: float(np.median(p)), "One p, or 1.1, is cheaper. At 0.* the cost is"),
    ],
    "4.10": [
        (only(lambda s, rng: rng.permuted(s, axis=1)), "shuffled columns within rows"),
        (only(lambda s, rng: s[:, ::-1]), "shuffled columns within rows"),
        (only(lambda s, rng: rng.permuted(s, axis=0)), "each column by itself"),
        (only(lambda s, rng: np.zeros_like(s)), "made every row alike"),
        (only(lambda s, rng: np.tile(s.mean(axis=0), (len(s), 1))), "made every row alike"),
        (only(lambda s, rng: rng.normal(size=s.shape)), "not second's rows in another order"),
        (only(lambda s, rng: rng.choice(s, len(s))), "drew rows with replacement"),
        (only(lambda s, rng: np.hstack([s, s])), "keeps its shape"),
        (permuting(together), "First was permuted as well"),
        (permuting(labels_too), "permuted the labels too"),
        (permuting(lambda a, b, c, rng: (rng.permutation(a), b, c)), "You permuted the first"),
        (permuting(lambda a, b, c, rng: (a, b, rng.permutation(c))), "never sees a permuted second"),
        (value_of(lambda before, after: after), "This is the accuracy after"),
        (value_of(lambda before, after: before), "This is the accuracy before"),
        (value_of(lambda before, after: after - before), "sign is turned"),
        (value_of(lambda before, after: after / before), "not their ratio"),
        (value_of(lambda before, after: 1 - after / before), "not their ratio"),
        (value_of(lambda before, after: 100 * (before - after)), "percent"),
        (value_of(lambda before, after: 80 * (before - after)), "percent, or a count"),
        (value_of(lambda before, after: 0.0), "both modalities falls from"),
        (changed_answers, "counts changed answers"),
        (in_place, "changes its inputs"),
        (unseeded, "same seed|one seed"),
        (only(lambda s, rng: np.roll(s, 1, axis=0)), "Two seeds gave one permutation"),
        (lambda predict, first, second, label, seed: 0.4, "never asks the model"),
    ],
}


class TestContract(Contract):
    checks, right, wrong, values = checks, RIGHT, WRONG, VALUES


def test_checks_leave_the_lessons_random_numbers_alone():
    def wild(answer):
        def draws(*arguments):
            torch.rand(3), np.random.rand(3)
            return answer(*arguments)

        return draws

    torch.manual_seed(5)
    np.random.seed(5)
    expected = torch.rand(3), np.random.rand(3)
    torch.manual_seed(5)
    np.random.seed(5)
    checks.check_dropout_mask(balancing.modality_dropout)
    checks.check_information_beyond(wild(information_legacy))
    with pytest.raises(WrongAnswer):
        checks.check_dropout_mask(survivor_from_elsewhere)
    assert torch.equal(torch.rand(3), expected[0])
    assert np.array_equal(np.random.rand(3), expected[1])


@pytest.mark.parametrize("number", ["4.1", "4.2", "4.3", "4.4", "4.8"])
@pytest.mark.parametrize("constant", [0.0, 1.0, float("nan")])
def test_no_constant_passes(number, constant):
    right = next(answers[0] for key, answers in RIGHT if key == number)

    def filled(*arguments):
        return np.full_like(np.asarray(right(*arguments), dtype=float), constant)

    with pytest.raises(WrongAnswer):
        BY_NUMBER[number](filled)
