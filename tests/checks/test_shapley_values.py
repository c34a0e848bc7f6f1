"""Checks of lesson 08: the solution and other spellings pass, what people really write is named."""

import itertools
import math

import numpy as np
import torch
from contract import Contract
from scipy import stats

from course_utils import shapley
from course_utils.checks import shapley_values as checks

VALUES = ("8.1", "8.7")  # exercises whose answer is a value


# 8.2


def coalitions(n):
    return torch.tensor(list(itertools.product([False, True], repeat=n)))


def coalitions_bits(n):
    return [[bool(k >> i & 1) for i in range(n)] for k in range(2**n)]


# 8.3


def shapley_of(value, player, n):
    total, others = 0.0, [k for k in range(n) if k != player]
    for size in range(n):
        for some in itertools.combinations(others, size):
            weight = math.factorial(size) * math.factorial(n - size - 1) / math.factorial(n)
            total += weight * (value(frozenset(some) | {player}) - value(frozenset(some)))
    return total


def shapley_over_orders(value, player, n):
    gains = []
    for order in itertools.permutations(range(n)):
        before = frozenset(order[: order.index(player)])
        gains.append(value(before | {player}) - value(before))
    return torch.tensor(gains).mean()


def shapley_with(weight, gain=lambda value, some, player: value(some | {player}) - value(some), least=0):
    def shapley_of(value, player, n):
        others = [k for k in range(n) if k != player]
        sets = [frozenset(s) for size in range(least, n) for s in itertools.combinations(others, size)]
        return sum(weight(len(some), n) * gain(value, some, player) for some in sets)

    return shapley_of


def right(s, n):
    return 1 / n / math.comb(n - 1, s)


# 8.4


def hide(tokens, present, unknown):
    return torch.where(present, tokens, unknown)


def hide_loop(tokens, present, unknown):
    return [[token if there else unknown for token, there in zip(tokens.tolist(), row)] for row in present.tolist()]


def hide_filled(tokens, present, unknown):
    return tokens.expand(len(present), -1).masked_fill(~present, unknown)


# 8.5


def by_orders(value, n, orders):
    totals = np.zeros(n)
    for order in orders:
        present = np.zeros((n + 1, n), dtype=bool)
        for k, player in enumerate(order):
            present[k + 1 :, player] = True
        totals[order] += np.diff(value(present))
    return totals / len(orders)


def by_orders_one_by_one(value, n, orders):
    totals = [0.0] * n
    for order in orders:
        there = np.zeros((1, n), dtype=bool)
        for player in order:
            before = value(there)[0]
            there[0, player] = True
            totals[player] += (value(there)[0] - before) / len(orders)
    return totals


def orders_with(change):
    """change: gains (R,n) by place, scores (R,n+1), orders (R,n) -> answer."""

    def by_orders(value, n, orders):
        place = np.argsort(orders, axis=1)
        scores = np.stack([value(place[r][None] < np.arange(n + 1)[:, None]) for r in range(len(orders))])
        return change(np.diff(scores, axis=1), scores, orders)

    return by_orders


def add_up(gains, orders):
    totals = np.zeros(orders.shape[1])
    for gain, order in zip(gains, orders):
        totals[order] += gain
    return totals


def without_nobody(gains, scores, orders):
    return add_up(np.concatenate([scores[:, 1:2], gains[:, 1:]], axis=1), orders) / len(orders)


def alone(value, n, orders):
    return value(np.eye(n, dtype=bool)) - value(np.zeros((1, n), dtype=bool))


# 8.6


def joint_scores(z_img, z_txt):
    return (z_txt @ z_img.T).flatten()


def joint_scores_loop(z_img, z_txt):
    a = len(z_img)
    return [float(z_img[k % a] @ z_txt[k // a]) for k in range(a * len(z_txt))]


# 8.8


def words_share(picture, words):
    return words.abs().sum() / (words.abs().sum() + picture.abs().sum())


def words_share_numpy(picture, words):
    sizes = np.abs(np.concatenate([picture.numpy(), words.numpy()]))
    return sizes[len(picture) :].sum() / sizes.sum()


# 8.9


def agreement(a, b):
    ranks = torch.stack([a.argsort().argsort(), b.argsort().argsort()]).double()
    return torch.corrcoef(ranks)[0, 1]


def agreement_scipy(a, b):
    return stats.spearmanr(a, b).statistic


def ranks(x):
    return x.argsort().argsort().double()


def once(a, b):
    return torch.corrcoef(torch.stack([a.argsort(), b.argsort()]).double())[0, 1]


# 8.10


def leaks(instead, images, encode_image, z_txt):
    scores = encode_image(instead(images)) @ z_txt.T  # (N,N)
    own, others = scores.diagonal(), scores - torch.diag(torch.full((len(scores),), torch.inf))
    return bool((own > others.amax(dim=1)).float().mean() > 5 / len(images))


def leaks_by_rank(instead, images, encode_image, z_txt):
    scores = (encode_image(instead(images)) @ z_txt.T).numpy()
    rank = (scores > np.diag(scores)[:, None] + 1e-6).mean(axis=1)
    return bool(rank.mean() < 0.35)


def leaks_one(instead, images, encode_image, z_txt):
    return bool(encode_image(instead(images[:1])) @ z_txt[0] > 0.5)


def leaks_equal(instead, images, encode_image, z_txt):
    encode_image(images)
    return torch.equal(instead(images), images)


def leaks_by_drop(instead, images, encode_image, z_txt):
    before = (encode_image(images) * z_txt).sum(dim=1).mean()
    return bool((encode_image(instead(images)) * z_txt).sum(dim=1).mean() > before - 1e-3)


def leaks_by_half(instead, images, encode_image, z_txt):
    scores = encode_image(instead(images)) @ z_txt.T
    return bool((scores.argmax(dim=1) == torch.arange(len(scores))).float().mean() > 0.5)


def leaks_by_one(instead, images, encode_image, z_txt):
    scores = encode_image(instead(images)) @ z_txt.T
    return bool((scores.argmax(dim=1) == torch.arange(len(scores))).float().mean() > 1 / len(scores))


def leaks_to_all(instead, images, encode_image, z_txt):
    encode_image(images)
    return True


def asserting(instead, images, encode_image, z_txt):
    assert not leaks(instead, images, encode_image, z_txt)
    return False


RIGHT = [
    ("8.1", [(0.25, 0.55), [0.25, 0.55], np.array([0.25, 0.55])]),
    ("8.2", [coalitions, coalitions_bits, shapley.coalitions]),
    ("8.3", [shapley_of, shapley_over_orders]),
    ("8.4", [hide, hide_loop, hide_filled]),
    ("8.5", [by_orders, by_orders_one_by_one]),
    ("8.6", [joint_scores, joint_scores_loop]),
    ("8.7", [(512, 256, 131_072), [2**9, 2**8, 2**17]]),
    ("8.8", [words_share, words_share_numpy]),
    ("8.9", [agreement, agreement_scipy]),
    ("8.10", [leaks, leaks_by_rank]),
]

WRONG = {
    "8.1": [
        ((0.1, 0.4), "alone, minus nobody"),
        ((0.4, 0.7), "lost without each"),
        ((0.2, 0.5), "the scores alone"),
        ((0.3, 0.6), "Nobody scores 0.1 already"),
        ((0.55, 0.25), "Swapped"),
        ((0.5, 1.1), "Sums over both orders"),
        ((0.23, 0.57), "add up to both minus nobody"),
        ((0.8 * 2 / 7, 0.8 * 5 / 7), "in proportion"),
        (0.25, "Two numbers are wanted"),
    ],
    "8.2": [
        (lambda n: coalitions(n)[1:], "Nobody is a set too"),
        (lambda n: coalitions(n)[:-1], "Everybody is a set too"),
        (lambda n: coalitions(n).int(), "Use bool"),
        (lambda n: coalitions(n).T, "transpose it"),
        (lambda n: list(itertools.permutations(range(n))), "These are the orders"),
        (lambda n: [[k == i for i in range(n)] for k in range(n)], "Nobody is a set too"),
        (lambda n: torch.cat([coalitions(n), coalitions(n)[:1]]), "comes twice"),
        (lambda n: np.arange(2**n), "A table is wanted"),
        (lambda n: [c for k in range(n + 1) for c in itertools.combinations(range(n), k)], "Rows differ in length"),
        (lambda n: np.random.default_rng(0).random((2**n, n + 1)) < 0.5, "one a player"),
    ],
    "8.3": [
        (shapley_with(lambda s, n: 1 / 2 ** (n - 1)), "Banzhaf"),
        (shapley_with(right, least=1), "empty set is missing"),
        (shapley_with(right, lambda value, some, player: value(some | {player})), "minus without it"),
        (lambda value, player, n: -shapley_of(value, player, n), "sign is turned"),
        (shapley_with(lambda s, n: math.factorial(s) * math.factorial(n - s) / math.factorial(n)), "takes one place"),
        (shapley_with(lambda s, n: 1 / n / math.comb(n, s)), "Divide by C\\(n - 1"),
        (shapley_with(lambda s, n: 1 / math.comb(n - 1, s)), "not divided"),
        (lambda value, player, n: value(frozenset([player])) - value(frozenset()), "Only the first place"),
        (lambda value, player, n: value(frozenset(range(n))) - value(frozenset(range(n)) - {player}), "last place"),
    ],
    "8.4": [
        (lambda tokens, present, unknown: torch.where(present, unknown, tokens), "Turned round"),
        (lambda tokens, present, unknown: present * tokens, "0 is padding"),
        (lambda tokens, present, unknown: hide(tokens, present[0], unknown), "Only the first row"),
        (lambda tokens, present, unknown: torch.where(present, tokens, 1), "unknown word is an argument"),
        (lambda tokens, present, unknown: tokens.masked_fill_(~present[1], unknown).expand(len(present), -1),
         "changes its inputs"),
        (lambda tokens, present, unknown: [tokens[row].tolist() for row in present], "sentences|shape"),
    ],
    "8.5": [
        (orders_with(lambda gains, scores, orders: gains.mean(axis=0)), "by place, not by player"),
        (lambda value, n, orders: shapley.exact(value, n), "over all orders"),
        (orders_with(without_nobody), "Nobody's score must be subtracted"),
        (orders_with(lambda gains, scores, orders: add_up(scores[:, 1:], orders) / len(orders)), "These are scores"),
        (orders_with(lambda gains, scores, orders: add_up(gains, orders)), "sum over orders"),
        (orders_with(lambda gains, scores, orders: add_up(gains, orders) / orders.shape[1]), "R orders"),
        (lambda value, n, orders: by_orders(value, n, orders[:1]), "Only the first order"),
        (alone, "players alone"),
        (lambda value, n, orders: value(np.ones(n, dtype=bool)), "sets as rows"),
    ],
    "8.6": [
        (lambda z_img, z_txt: (z_img @ z_txt.T).flatten(), "Words became the low bits"),
        (lambda z_img, z_txt: z_img @ z_txt.T, "This is a table"),
        (lambda z_img, z_txt: (z_img[: len(z_txt)] * z_txt[: len(z_img)]).sum(dim=1), "like numbers were paired"),
        (lambda z_img, z_txt: (z_txt.sum(dim=1)[:, None] + z_img.sum(dim=1)).flatten(), "not sums"),
    ],
    "8.7": [
        ((256, 512, 131_072), "Swapped"),
        ((9, 8, 17), "How many sets"),
        ((512, 256, 768), "a product"),
        ((81, 64, 289), "powers of two"),
        ((511, 255, 131_071), "Nobody is a set too"),
        ((512, 256), "Three numbers"),
    ],
    "8.8": [
        (lambda p, w: w.sum() / (w.sum() + p.sum()), "cancel"),
        (lambda p, w: p.abs().sum() / (w.abs().sum() + p.abs().sum()), "the picture's share"),
        (lambda p, w: w.abs().mean() / (w.abs().mean() + p.abs().mean()), "Means forget"),
        (lambda p, w: (w**2).sum() / ((w**2).sum() + (p**2).sum()), "Squares"),
        (lambda p, w: w.abs().sum() / p.abs().sum(), "Words over picture"),
        (lambda p, w: w.abs().sum(), "Divide by all sizes"),
        (lambda p, w: len(w) / (len(w) + len(p)), "only counts players"),
    ],
    "8.9": [
        (lambda a, b: torch.corrcoef(torch.stack([a, b]))[0, 1], "correlation of the values"),
        (once, "argsort twice"),
        (lambda a, b: torch.cosine_similarity(ranks(a), ranks(b), dim=0), "cosine"),
        (lambda a, b: stats.kendalltau(a, b).statistic, "Kendall"),
        (lambda a, b: abs(agreement(a, b)), "sign is lost|disagree|Opposite"),
        (lambda a, b: 1 - agreement(a, b), "distance"),
    ],
    "8.10": [
        (lambda instead, images, encode_image, z_txt: False, "never encodes"),
        (leaks_equal, "never finds a leak"),
        (leaks_to_all, "calls everything a leak"),
        (leaks_by_drop, "misses a leak|never finds"),
        (leaks_by_one, "by luck"),
        (leaks_by_half, "several times that is a leak"),
        (leaks_one, "calls it a leak|misses a leak"),
        (asserting, "no assert"),
    ],
}  # fmt: skip


class TestContract(Contract):
    checks, right, wrong, values = checks, RIGHT, WRONG, VALUES
