"""Checks of lesson 09: the solution and other spellings pass, what people really write is named."""

from collections import Counter

import numpy as np
import pytest
import torch
from contract import Contract, by_number
from sklearn.metrics import average_precision_score

from course_utils import calibration, counting, generation, metrics
from course_utils.checks import fair_metrics as checks
from course_utils.checks._outcome import WrongAnswer

BY_NUMBER = by_number(checks)


def ranked(scores, right):
    return np.take_along_axis(right, np.argsort(-scores, axis=1), axis=1)


# 9.1


def first_rank(scores, right):
    best = np.where(right, scores, -np.inf).max(axis=1, keepdims=True)
    return 1 + (scores > best).sum(axis=1)


def first_rank_sorted(scores, right):
    return [1 + list(row).index(True) for row in ranked(scores, right)]


def first_rank_torch(scores, right):
    scores, right = torch.as_tensor(scores), torch.as_tensor(right)
    best = scores.masked_fill(~right, -torch.inf).amax(dim=1, keepdim=True)
    return 1 + (scores > best).sum(dim=1)


# 9.2


def two_recalls(scores, right, k):
    found = ranked(scores, right)[:, :k].sum(axis=1)
    return (found > 0).astype(float), found / right.sum(axis=1)


def two_recalls_loops(scores, right, k):
    hit, recall = [], []
    for line, is_right in zip(scores, right):
        first = set(np.argsort(line)[-k:])
        mine = set(np.flatnonzero(is_right))
        hit.append(1.0 if first & mine else 0.0)
        recall.append(len(first & mine) / len(mine))
    return np.array(hit), np.array(recall)


def two_recalls_package(scores, right, k):
    ranking = counting.rank(scores, right)
    return ranking.hit_rate(k), ranking.true_recall(k)


def recalls_with(change):
    def answer(scores, right, k):
        count, total = ranked(scores, right)[:, :k].sum(axis=1), right.sum(axis=1)
        return change(count, total, k)

    return answer


# 9.3


def average_precision(hits):
    precision = hits.cumsum() / np.arange(1, len(hits) + 1)
    return precision[hits].mean()


def average_precision_loop(hits):
    found, total = 0, 0.0
    for place, hit in enumerate(hits, 1):
        if hit:
            found += 1
            total += found / place
    return total / found


def average_precision_scikit_learn(hits):
    return average_precision_score(hits, -np.arange(len(hits)))


# 9.4


def expected_hit(above, tied, k):
    return min(max(k - above, 0), tied) / tied


def expected_hit_numpy(above, tied, k):
    return np.clip(k - above, 0, tied) / tied


def expected_hit_places(above, tied, k):
    return np.mean([place <= k for place in range(above + 1, above + tied + 1)])


# 9.5


def catches(evaluate):
    rng = np.random.default_rng(0)
    owners = np.repeat(np.arange(20), 5)
    perfect = (np.arange(20)[:, None] == owners).astype(float) + 0.1 * rng.random((20, 100))
    mixed = rng.permutation(100)
    if evaluate(perfect, owners, 1) < 1 or evaluate(perfect[:, mixed], owners[mixed], 1) < 1:
        return True
    return bool(evaluate(np.zeros((20, 100)), owners, 1) > 0.5)


def catches_by_comparison(evaluate):
    rng = np.random.default_rng(1)
    owners = rng.permutation(np.repeat(np.arange(30), 5))
    right = np.arange(30)[:, None] == owners
    scores = rng.normal(size=(30, 150)) + right
    wanted = [metrics.recall_at_k(scores, right, k).mean() for k in (1, 5)]
    return not np.allclose([evaluate(scores, owners, k) for k in (1, 5)], wanted) or bool(
        evaluate(np.ones((30, 150)), owners, 1) == 1
    )


def only_perfect(evaluate):
    owners = np.repeat(np.arange(10), 5)
    perfect = (np.arange(10)[:, None] == owners).astype(float)
    return evaluate(perfect, owners, 1) < 1


def perfect_and_shuffled(evaluate):
    owners = np.repeat(np.arange(10), 5)[np.random.default_rng(0).permutation(50)]
    scores = (np.arange(10)[:, None] == owners) + 0.1 * np.random.default_rng(0).random((10, 50))
    return evaluate(scores, owners, 1) < 1


def only_five(evaluate):
    """Never looks at k = 1 and gives each picture its captions in order, the first of them best."""
    owners = np.repeat(np.arange(10), 5)
    scores = (np.arange(10)[:, None] == owners) * np.tile([5.0, 4, 3, 2, 1], 10)
    return evaluate(scores, owners, 5) < 1 or evaluate(np.zeros((10, 50)), owners, 1) > 0.5


def demands_exact_chance(evaluate):
    return bool(evaluate(np.zeros((10, 50)), np.repeat(np.arange(10), 5), 1) != 0.1)


# 9.7


def drawn_mean(values, owners, drawn):
    return np.concatenate([values[owners == one] for one in drawn]).mean()


def drawn_mean_weights(values, owners, drawn):
    times = np.bincount(drawn, minlength=owners.max() + 1)[owners]
    return np.average(values, weights=times)


def drawn_mean_loop(values, owners, drawn):
    total = count = 0
    for one in drawn:
        for value, owner in zip(values, owners):
            if owner == one:
                total, count = total + value, count + 1
    return total / count


# 9.8


def sign_flip_p(differences, signs):
    sums = signs @ differences
    return (1 + (abs(sums) >= abs(differences.sum()) - 1e-12).sum()) / (1 + len(signs))


def sign_flip_p_loop(differences, signs):
    far = 1
    for line in signs:
        far += abs(sum(s * d for s, d in zip(line, differences))) >= abs(sum(differences)) - 1e-12
    return far / (1 + len(signs))


def flips_with(change):
    def answer(differences, signs):
        return change(signs @ differences, differences.sum(), len(signs))

    return answer


# 9.6


def map_at_r(scores, right):
    hits, total = ranked(scores, right), right.sum(axis=1, keepdims=True)
    place = np.arange(1, scores.shape[1] + 1)
    precision = hits.cumsum(axis=1) / place
    return (precision * (hits & (place <= total))).sum(axis=1) / total[:, 0]


def map_at_r_loop(scores, right):
    found = []
    for line, is_right in zip(scores, right):
        first = is_right[np.argsort(-line)][: is_right.sum()]
        found.append(sum(first[: i + 1].mean() for i in np.flatnonzero(first)) / is_right.sum())
    return found


def map_at_r_package(scores, right):
    return counting.rank(scores, right).average_precision_at_r()


def maps_with(change):
    def answer(scores, right):
        hits, place = ranked(scores, right), np.arange(1, scores.shape[1] + 1)
        return change(hits, hits.cumsum(axis=1) / place, place, right.sum(axis=1))

    return answer


# 9.9


def calibration_error(confidence, right, bins):
    edges, total = np.linspace(0, 1, bins + 1), 0.0
    for low, high in zip(edges[:-1], edges[1:]):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            total += abs(right[inside].mean() - confidence[inside].mean()) * inside.mean()
    return total


def calibration_error_package(confidence, right, bins):
    return calibration.reliability(confidence, right, bins).expected_error


def calibration_error_sums(confidence, right, bins):
    index = np.ceil(confidence * bins).astype(int)
    return abs(np.bincount(index, weights=right - confidence)).sum() / len(right)


def bins_with(change):
    def answer(confidence, right, bins):
        index = np.ceil(confidence * bins).astype(int) - 1
        parts = [index == b for b in range(bins) if (index == b).any()]
        gaps = np.array([right[p].mean() - confidence[p].mean() for p in parts])
        return change(gaps, np.array([p.mean() for p in parts]))

    return answer


def with_empty_bins(confidence, right, bins):
    index = np.ceil(confidence * bins).astype(int) - 1
    with np.errstate(all="ignore"):
        sums = [np.bincount(index, weights=w, minlength=bins) / np.bincount(index, minlength=bins)
                for w in (right, confidence)]  # fmt: skip
    return float((abs(sums[0] - sums[1]) * np.bincount(index, minlength=bins) / len(right)).sum())


# 9.10


def grams(words, n):
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def clipped_precision(words, references, n):
    mine, found = grams(words, n), 0
    for gram, count in mine.items():
        found += min(count, max(grams(one, n)[gram] for one in references))
    return found / sum(mine.values())


def clipped_precision_package(words, references, n):
    row = generation.bleu_counts([" ".join(words)], [[" ".join(one) for one in references]], str.split)[0]
    return row[1 + n] / row[5 + n]


def grams_with(change):
    def answer(words, references, n):
        return change(grams(words, n), [grams(one, n) for one in references])

    return answer


RIGHT = [
    ("9.1", [first_rank, first_rank_sorted, first_rank_torch]),
    ("9.2", [two_recalls, two_recalls_loops, two_recalls_package]),
    ("9.3", [average_precision, average_precision_loop, average_precision_scikit_learn]),
    ("9.4", [expected_hit, expected_hit_numpy, expected_hit_places]),
    ("9.5", [catches, catches_by_comparison]),
    ("9.7", [drawn_mean, drawn_mean_weights, drawn_mean_loop]),
    ("9.8", [sign_flip_p, sign_flip_p_loop]),
    ("9.6", [map_at_r, map_at_r_loop, map_at_r_package]),
    ("9.9", [calibration_error, calibration_error_package, calibration_error_sums]),
    ("9.10", [clipped_precision, clipped_precision_package]),
]

WRONG = {
    "9.1": [
        (lambda s, r: ranked(s, r).argmax(axis=1), "Ranks start at 1"),
        (lambda s, r: 1 + (s >= np.where(r, s, -np.inf).max(axis=1, keepdims=True)).sum(axis=1), ">, not >="),
        (lambda s, r: 1 + ranked(-s, r).argmax(axis=1), "from the worst end"),
        (lambda s, r: 1 + (s > np.where(r, s, np.inf).min(axis=1, keepdims=True)).sum(axis=1), "the worst right item"),
        (lambda s, r: ((1 + np.argsort(np.argsort(-s))) * r).sum(axis=1) / r.sum(axis=1), "mean rank of all"),
        (lambda s, r: first_rank(s, r).mean(), "leave out the mean"),
    ],
    "9.2": [
        (recalls_with(lambda c, t, k: (c > 0, c / k)), "divides by k: precision"),
        (recalls_with(lambda c, t, k: (c, c / t)), "You counted them"),
        (recalls_with(lambda c, t, k: (c > 0, c > 0)), "This is the hit again"),
        (recalls_with(lambda c, t, k: (c / t, c > 0)), "swapped"),
        (recalls_with(lambda c, t, k: (c > 0, c / np.minimum(t, k))), "also where there are more than k"),
        (recalls_with(lambda c, t, k: ((c > 0).mean(), (c / t).mean())), "No mean over queries"),
        (recalls_with(lambda c, t, k: c / t), "Return two arrays"),
        (recalls_with(lambda c, t, k: (c == t, c / t)), "one is enough"),
        (recalls_with(lambda c, t, k: (c > 0, c)), "This counts"),
    ],
    "9.3": [
        (lambda h: (h.cumsum() / np.arange(1, len(h) + 1)).mean(), "Only places with a right item"),
        (lambda h: (h.cumsum() / np.arange(1, len(h) + 1))[h].sum() / len(h), "not by the length of the list"),
        (lambda h: (h.cumsum() / np.arange(1, len(h) + 1))[h].sum(), "mean over right items is missing"),
        (lambda h: 1 / (1 + h.argmax()), "first right item's rank"),
        (lambda h: (h.cumsum()[1:] / np.arange(1, len(h)))[h[1:]].mean(), "Places count from 1"),
        (lambda h: h.mean(), "Where they stand should matter"),
        (lambda h: (1 / np.arange(1, len(h) + 1)[h]).mean(), "leaves out the right ones before it"),
    ],
    "9.4": [
        (lambda a, t, k: float(a < k), "win every tie"),
        (lambda a, t, k: float(a + t <= k), "lose every tie"),
        (lambda a, t, k: (k - a) / t, r"lies in 0\.\.1"),
        (lambda a, t, k: min(max(k - a, 0), t) / (t + 1), "counts the right item itself"),
        (lambda a, t, k: 0.5 * (a < k) if t > 1 else float(a < k), "not one half"),
        (lambda a, t, k: min(k, t) / t, "`above` are taken|already stand"),
    ],
    "9.5": [
        (only_perfect, "takes it that captions stand|first caption alone|same score"),
        (perfect_and_shuffled, "same score"),
        (only_five, "0.2 at k = 1|first caption alone|in the pictures' order"),
        (lambda evaluate: True, "accuses a sound evaluator"),
        (lambda evaluate: False, "lets an evaluator pass that gives a perfect scorer 0.2"),
        (demands_exact_chance, "accuses a sound evaluator"),
        (lambda evaluate: 3, "True or False"),
    ],
    "9.7": [
        (lambda v, o, d: v[np.isin(o, d)].mean(), "counts twice"),
        (lambda v, o, d: np.mean([v[o == one].mean() for one in d]), "more captions count more"),
        (lambda v, o, d: v[d].mean(), "You drew captions"),
        (lambda v, o, d: np.concatenate([v[o == one] for one in d]).sum(), "This is the sum"),
        (lambda v, o, d: np.concatenate([v[o == one] for one in d]).sum() / len(v), "by the captions drawn"),
        (lambda v, o, d: v.mean(), "mean of everything"),
    ],
    "9.8": [
        (flips_with(lambda s, x, n: (1 + (s * np.sign(x) >= abs(x) - 1e-12).sum()) / (1 + n)), "Both sides"),
        (flips_with(lambda s, x, n: (abs(s) >= abs(x) - 1e-12).mean()), "p is never 0"),
        (flips_with(lambda s, x, n: (abs(s) < abs(x) - 1e-12).mean()), "nearer to 0"),
        (flips_with(lambda s, x, n: (1 + (abs(s) > abs(x) + 1e-12).sum()) / (1 + n)), ">=, not >"),
        (flips_with(lambda s, x, n: (abs(s) >= abs(x) - 1e-12).sum()), "p is a share"),
    ],
    "9.6": [
        (maps_with(lambda h, p, place, t: (p * h).sum(axis=1) / t), "plain average precision"),
        (maps_with(lambda h, p, place, t: (h & (place <= t[:, None])).sum(axis=1) / t), "R-precision"),
        (
            maps_with(
                lambda h, p, place, t: (
                    (p * (h & (place <= t[:, None]))).sum(1) / (h & (place <= t[:, None])).sum(1).clip(1)
                )
            ),
            "what is missing must cost",
        ),
        (maps_with(lambda h, p, place, t: (p * (h & (place <= t[0]))).sum(axis=1) / t[0]), "its own R"),
        (maps_with(lambda h, p, place, t: (p * (place <= t[:, None])).sum(axis=1) / t), "Only those with a right item"),
        (lambda s, r: map_at_r(s, r).mean(), "leave out the mean"),
    ],
    "9.9": [
        (bins_with(lambda gaps, share: abs(gaps).mean()), "Bins count by their cases"),
        (bins_with(lambda gaps, share: abs(gaps).max()), "largest gap"),
        (bins_with(lambda gaps, share: share @ gaps), "cancel out"),
        (bins_with(lambda gaps, share: abs(gaps).sum()), "its weight"),
        (lambda c, r, b: abs(r.mean() - c.mean()), "cancel out"),
        (lambda c, r, b: abs(r - c).mean(), "case by case"),
        (with_empty_bins, "Leave empty bins out"),
    ],
    "9.10": [
        (
            grams_with(lambda m, r: sum(c for g, c in m.items() if any(g in one for one in r)) / m.total()),
            "Not clipped",
        ),
        (grams_with(lambda m, r: (m & sum(r, Counter())).total() / m.total()), "not by all of them together"),
        (grams_with(lambda m, r: (m & r[0]).total() / m.total()), "Only one reference"),
        (grams_with(lambda m, r: len(set(m) & (set(r[0]) | set(r[1]))) / len(m)), "no sets"),
        (grams_with(lambda m, r: (m & (r[0] | r[1])).total() / r[0].total()), "recall"),
        (lambda w, r, n: clipped_precision(w, r, n) * (len(w) - n + 1) / len(w), "not of words"),
        (lambda w, r, n: clipped_precision(w, r, 1), "n is not used"),
    ],
}


class TestContract(Contract):
    checks, right, wrong = checks, RIGHT, WRONG


def test_the_planted_evaluators_err_as_they_should():
    """On captions in order, the sound ones agree with the package and each broken one is off somewhere."""
    rng = np.random.default_rng(0)
    owners = np.repeat(np.arange(40), 5)
    right = np.arange(40)[:, None] == owners
    scores = rng.normal(size=right.shape) + 1.5 * right
    for k in (1, 5):
        wanted = metrics.recall_at_k(scores, right, k).mean()
        for sound in (checks._sound, checks._sound_by_ranks, checks._by_position, checks._wins_ties):
            assert sound(scores, owners, k) == pytest.approx(wanted)
        assert checks._true_recall(scores, owners, k) == pytest.approx(
            counting.rank(scores, right).true_recall(k).mean()
        )
        assert checks._first_caption_alone(scores, owners, k) < wanted
    mixed = rng.permutation(200)
    assert checks._by_position(scores[:, mixed], owners[mixed], 1) < 0.3
    assert checks._wins_ties(np.zeros_like(scores), owners, 1) == 1


def test_a_test_that_asserts_is_told_to_return():
    def asserting(evaluate):
        assert evaluate(np.eye(3), np.arange(3), 1) == 2

    with pytest.raises(WrongAnswer, match="no assert"):
        BY_NUMBER["9.5"](asserting)
