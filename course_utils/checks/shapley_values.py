"""Checks of lesson 08: credits by hand, coalitions, the formula, hidden words, orders, two towers, shares, and a leak.

Games are tables of seeded numbers; coalitions are numbered by their bits, as `shapley.coalitions` does.
"""

from __future__ import annotations

from collections.abc import Callable
from math import comb, factorial

import numpy as np
import torch

from course_utils import shapley
from course_utils.checks._outcome import call, exercise, expect, judge, numbers, run, shown, verdict


@exercise("08", "8.1")
def check_credits(answer: object) -> None:
    """(0.25, 0.55) for nobody 0.1, red 0.2, pig 0.5, both 0.9."""
    values = numbers(answer, 2, "Two numbers are wanted, in a tuple: red, then pig.")
    mistakes = {
        "This is what each scores alone, minus nobody. Each may also come second.": [0.1, 0.4],
        "This is what is lost without each. Each may also come first.": [0.4, 0.7],
        "These are the scores alone. Credit is what a word adds.": [0.2, 0.5],
        "Nobody scores 0.1 already: subtract it where a word comes first.": [0.3, 0.6],
        "Swapped: red first, then pig.": [0.55, 0.25],
        "Sums over both orders. Credit is their mean.": [0.5, 1.1],
        "A split in proportion to the scores alone. Average what each adds over both orders.": (
            [0.8 * 2 / 7, 0.8 * 5 / 7], [0.9 * 2 / 7, 0.9 * 5 / 7], [0.16, 0.64], [0.4, 0.4]),
    }  # fmt: skip
    judge(values, [0.25, 0.55], mistakes, "They should add up to both minus nobody, 0.8.")


@exercise("08", "8.2")
def check_coalitions(answer: Callable) -> None:
    """coalitions(n) -> (2**n, n) bool, every set once, in any order."""
    for n in (3, 1, 4):
        value = run(answer, n)
        ragged = isinstance(value, (list, tuple)) and len({len(row) for row in value if hasattr(row, "__len__")}) > 1
        expect(not ragged, "Rows differ in length. Each has a column for every player: True where it is there.")
        sets = np.asarray(value)
        expect(sets.ndim == 2, f"A table is wanted, a row for each set: ({2**n},{n}). Yours has shape {sets.shape}.")
        rows = {tuple(bool(one) for one in row) for row in sets.tolist()}
        expect(sets.shape != (n, 2**n) or n == 1, "Sets are rows, players are columns: transpose it.")
        expect(sets.shape[1] == n, f"There should be {n} columns, one a player; yours has {sets.shape[1]}.")
        expect(len(sets) != factorial(n) or n < 3, "These are the orders. A set has none: 2**n rows, not n!.")
        expect((False,) * n in rows, "Nobody is a set too: the row without any player is missing.")
        expect((True,) * n in rows, "Everybody is a set too: the row with all players is missing.")
        expect(len(rows) == len(sets), "A set comes twice.")
        expect(len(rows) == 2**n, f"For n = {n} there are {2**n} sets; yours has {len(rows)}.")
        expect(sets.dtype == bool, f"Use bool: as an index, 0 and 1 pick columns 0 and 1. Yours is {sets.dtype}.")


@exercise("08", "8.3")
def check_shapley_of(answer: Callable) -> None:
    """shapley_of(value, player, n): value takes a frozenset of players -> number."""
    for seed, n, player in ((1, 3, 0), (2, 4, 2), (3, 5, 1)):
        table = _table(seed, n)

        def value(players, table=table):
            return float(table[sum(1 << k for k in players)])

        others = [k for k in range(n) if k != player]
        sets = [frozenset(k for j, k in enumerate(others) if bits >> j & 1) for bits in range(2 ** (n - 1))]
        sizes = [len(some) for some in sets]
        after = np.array([value(some | {player}) for some in sets])
        gains = after - np.array([value(some) for some in sets])
        right = np.array([factorial(s) * factorial(n - s - 1) / factorial(n) for s in sizes])
        one_more = np.array([factorial(s) * factorial(n - s) / factorial(n) for s in sizes])
        from_all = np.array([1 / n / comb(n, s) for s in sizes])
        wanted = right @ gains
        mistakes = {
            "Every set counts the same in yours: that is the Banzhaf value. Shapley weighs by size.": (
                gains.mean(), gains.sum()),
            "The empty set is missing: the player may come first.": right[1:] @ gains[1:],
            "What the player adds is a difference: with it, minus without it.": right @ after,
            "The sign is turned: with the player minus without.": -wanted,
            "The weight is |S|! (n - |S| - 1)! / n!: the player itself takes one place.": one_more @ gains,
            "Divide by C(n - 1, |S|), not by C(n, |S|): the sets are drawn from the others.": from_all @ gains,
            "The weights are not divided by n!, or by n.": (n * wanted, wanted * factorial(n)),
            "Only the first place counts in yours: alone minus nobody.": gains[0],
            "Only the last place counts in yours: everybody minus those without the player.": gains[-1],
            "First and last place only. Those between count too.": (gains[0] + gains[-1]) / 2,
        }  # fmt: skip
        judge(run(answer, value, player, n), wanted, mistakes, f"Player {player} of {n} gets {wanted:.4f}.")


@exercise("08", "8.4")
def check_hide(answer: Callable) -> None:
    """hide(tokens (L,), present (S,L) bool, unknown) -> (S,L)."""
    for seed, length, sets, unknown in ((4, 5, 6, 1), (5, 3, 4, 103)):
        generator = torch.Generator().manual_seed(seed)
        tokens = torch.randint(2, 90, (length,), generator=generator)
        present = torch.rand(sets, length, generator=generator) < 0.5
        present[0], present[1] = True, False
        wanted = torch.where(present, tokens, unknown)
        mistakes = {
            "Turned round: True means the word is there.": torch.where(present, unknown, tokens),
            "0 is padding: the mask skips it, and the sentence gets shorter. Put the unknown word there.": (
                torch.where(present, tokens, 0)),
            "Only the first row came out. Every set makes its own sentence: (S,L).": wanted[0],
            "The unknown word is an argument, not always 1.": torch.where(present, tokens, 1),
            "Nothing is hidden.": tokens.expand(sets, -1),
        }  # fmt: skip
        judge(call(answer, tokens, present, unknown), wanted, mistakes, f"{sets} sentences of {length} tokens.")


@exercise("08", "8.5")
def check_by_orders(answer: Callable) -> None:
    """by_orders(value, n, orders (R,n)) -> (n,): what each player adds when it comes, averaged over these orders."""
    for seed, n, given in ((6, 4, [[2, 0, 3, 1], [1, 2, 0, 3], [3, 1, 2, 0]]), (7, 3, [[1, 2, 0], [2, 0, 1]])):
        table, orders = _table(seed, n), np.array(given)
        place = orders.argsort(axis=1)  # (R,n)
        before = (place[:, None, :] < np.arange(n + 1)[:, None]).astype(bool)  # (R,n+1,n)
        scores = table[before @ (1 << np.arange(n))]  # (R,n+1)
        gains = np.diff(scores, axis=1)  # (R,n) by place
        by_player = np.take_along_axis(gains, place, axis=1)
        first = np.concatenate([scores[:, 1:2], gains[:, 1:]], axis=1)
        wanted, exact = by_player.mean(axis=0), shapley.values_of(table)
        mistakes = {
            "Gains are kept by place, not by player: add the gain at place j to player order[j].": gains.mean(axis=0),
            "These are the values over all orders. Use those that are given.": exact,
            "Nobody's score must be subtracted from the first player's.": np.take_along_axis(
                first, place, axis=1).mean(axis=0),
            "These are scores. What a player adds is the score with it minus the score before.": np.take_along_axis(
                scores[:, 1:], place, axis=1).mean(axis=0),
            "A sum over orders. Take the mean.": by_player.sum(axis=0),
            "Divided by n. There are R orders to average over.": by_player.sum(axis=0) / n,
            "Only the first order was used.": by_player[0],
            "These are the players alone. In an order a player meets all who came before.": (
                table[1 << np.arange(n)] - table[0], table[1 << np.arange(n)]),
        }  # fmt: skip

        def value(present, table=table, n=n):
            present = np.asarray(present)
            whole = present.ndim == 2 and present.shape[1] == n
            expect(whole, f"value takes sets as rows, (S,{n}) of bool; it was given {present.shape}.")
            return table[present.astype(int) @ (1 << np.arange(n))]

        judge(call(answer, value, n, orders), wanted, mistakes, f"{len(orders)} orders of {n} players.")


@exercise("08", "8.6")
def check_joint_scores(answer: Callable) -> None:
    """joint_scores(z_img (2**a,E), z_txt (2**b,E)) -> (2**(a+b),), regions are the low bits."""
    for seed, a, b, width in ((8, 2, 3, 5), (9, 3, 1, 4)):
        z_img, z_txt = _rows(seed, 2**a, width), _rows(seed + 50, 2**b, width)
        wanted, pairs = (z_txt @ z_img.T).flatten(), min(2**a, 2**b)
        mistakes = {
            "Words became the low bits. Coalition 1 must be region 0 alone: its row is z_txt[0] with z_img[1].": (
                z_img @ z_txt.T).flatten(),
            "This is a table. Lay it out in one row of 2**(a+b).": (z_txt @ z_img.T, z_img @ z_txt.T),
            "Only like numbers were paired. Every picture meets every sentence.": (
                z_img[:pairs] * z_txt[:pairs]).sum(dim=1),
            "A product of each picture with each sentence is wanted, not sums of their numbers.": (
                z_txt.sum(dim=1)[:, None] + z_img.sum(dim=1)).flatten(),
        }  # fmt: skip
        judge(call(answer, z_img, z_txt), wanted, mistakes, f"{2**a} pictures and {2**b} sentences.")


@exercise("08", "8.7")
def check_forwards(answer: object) -> None:
    """(512, 256, 131072)."""
    values = numbers(answer, 3, "Three numbers are wanted: pictures, sentences, pairs.")
    mistakes = {
        "Swapped: nine regions belong to the picture, eight words to the sentence.": [256, 512, 131_072],
        "Those are the players. How many sets can be made of them?": ([9, 8, 17], [9, 8, 72]),
        "A cross-attending model must see every set of regions with every set of words: a product.": [512, 256, 768],
        "Squares count pairs of players. Sets are counted by powers of two.": ([81, 64, 289], [81, 64, 5184]),
        "Nobody is a set too.": ([511, 255, 131_071], [511, 255, 130_305], [512, 256, 131_071]),
        "That counts orders. Exact values need every set, and there are fewer of those.": (
            [factorial(9), factorial(8), factorial(17)]),
    }  # fmt: skip
    judge(values, [512, 256, 131_072], mistakes, "Each player is there or not.")


@exercise("08", "8.8")
def check_words_share(answer: Callable) -> None:
    """words_share(picture (n_img,), words (n_txt,)) -> share of the words in all credit, by size."""
    for seed, regions, words in ((10, 6, 4), (11, 3, 5)):
        p, w = _rows(seed, regions), _rows(seed + 50, words)
        wanted = w.abs().sum() / (w.abs().sum() + p.abs().sum())
        mistakes = {
            "Signed values cancel: who pulls down has influence too. Take sizes first, .abs().": (
                w.sum() / (w.sum() + p.sum()), w.sum().abs() / (w.sum().abs() + p.sum().abs())),
            "This is the picture's share.": 1 - wanted,
            "Means forget that there are more players on one side. Add up.": (
                w.abs().mean() / (w.abs().mean() + p.abs().mean())),
            "Squares favour the largest. Add up sizes.": (w**2).sum() / ((w**2).sum() + (p**2).sum()),
            "Words over picture. The share of the whole is asked.": w.abs().sum() / p.abs().sum(),
            "This is the sum of the words' sizes. Divide by all sizes.": w.abs().sum(),
            "This only counts players.": words / (words + regions),
        }  # fmt: skip
        judge(call(answer, p, w), wanted, mistakes, f"Here it is {float(wanted):.4f}.")


@exercise("08", "8.9")
def check_agreement(answer: Callable) -> None:
    """agreement(a (R,), b (R,)) -> Spearman's rank correlation; no ties."""
    for seed, regions in ((12, 9), (13, 5)):
        a, noise = _rows(seed, regions), _rows(seed + 50, regions)
        b = (a + noise).exp()
        ranks = [one.argsort().argsort().double() for one in (a, b)]
        once = [one.argsort().double() for one in (a, b)]
        signs = [(one[:, None] - one).sign().double() for one in (a, b)]
        wanted = _correlation(*ranks)
        mistakes = {
            "This is the correlation of the values. Replace them by their ranks first.": _correlation(a, b),
            "One argsort gives who stands at a place, not the place of each. Take argsort twice.": _correlation(*once),
            "This is a cosine: ranks must lose their mean first.": (
                torch.cosine_similarity(*ranks, dim=0), torch.cosine_similarity(*(one + 1 for one in ranks), dim=0),
                torch.cosine_similarity(a, b, dim=0)),
            "This is Kendall's tau, which counts pairs. Correlate ranks.": (
                (signs[0] * signs[1]).sum() / regions / (regions - 1)),
            "The sign is lost: maps may also disagree.": wanted.abs(),
            "This is a distance. Agreement is 1 for equal orders.": 1 - wanted,
        }  # fmt: skip
        judge(call(answer, a, b), wanted, mistakes, f"Here it is {float(wanted):.4f}.")
        other = call(answer, a, -a)
        expect(abs(float(other) + 1) < 1e-3, f"Opposite orders agree with -1; yours says {shown(other)}.")


@exercise("08", "8.10")
def check_leaks(answer: Callable) -> None:
    """leaks(instead, images, encode_image, z_txt) -> bool: whether the stand-ins alone find their sentences."""
    images, mean = _toys(), _toys().mean(dim=0, keepdim=True)
    z_txt = _encode(images)
    noise, lucky = (torch.rand(images.shape, generator=torch.Generator().manual_seed(seed)) for seed in (5, 9))
    fine = {
        "grey": lambda x: torch.full_like(x, 0.5),
        "black": torch.zeros_like,
        "the mean of all pictures": lambda x: mean.expand_as(x),
        "noise": lambda x: noise[: len(x)],
        "noise, which finds 2 sentences of 40 by luck": lambda x: lucky[: len(x)],
    }
    leaking = {
        "the picture itself, at a tenth of its contrast": lambda x: 0.5 + 0.1 * (x - 0.5),
        "the same under much noise, by which 3 pictures in 10 find their sentence": lambda x: (
            0.1 * (x - 0.5) + 0.5 * noise[: len(x)] + 0.25
        ),
        "a blur that still shows what is where": lambda x: _blocks(x, 4),
        "each picture's own mean colour, where colour is what the sentences speak of": lambda x: _blocks(x, 8),
        "the picture with its upper half grey": lambda x: torch.cat(
            [torch.full_like(x, 0.5)[:, :, :4], x[:, :, 4:]], 2
        ),
    }
    asked = []

    def encode(pictures):
        asked.append(len(pictures))
        return _encode(pictures)

    def says(instead):
        return verdict(lambda one: run(answer, one, images.clone(), encode, z_txt.clone()), instead)

    wrongly = [name for name, instead in fine.items() if says(instead)]
    expect(asked, "Your test never encodes a picture: ask the model what it still sees.")
    missed = [name for name, instead in leaking.items() if not says(instead)]
    expect(
        len(missed) < len(leaking) or wrongly, "Your test never finds a leak. Do stand-ins find their own sentences?"
    )
    expect(len(wrongly) < len(fine) or missed, "Your test calls everything a leak, even grey. What is chance here?")
    hint = "Equal pictures score alike with any sentence, and argmax breaks ties in favour of the first: count ties as"
    expect(not wrongly, f"Your test calls it a leak: {''.join(wrongly[:1])}. {hint} misses, or compare with several "
                        "times 1 / N.")  # fmt: skip
    expect(not missed, f"Your test misses a leak: {''.join(missed[:1])}. Let the stand-ins search all N sentences: "
                       "their own should be found about once in N, and several times that "
                       "is a leak.")  # fmt: skip


def _table(seed: int, n: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=2**n)


def _rows(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _correlation(a, b) -> torch.Tensor:
    return torch.cosine_similarity(a.double() - a.double().mean(), b.double() - b.double().mean(), dim=0)


def _toys() -> torch.Tensor:
    """40 pictures (N,3,8,8), each a colour of its own with a pattern."""
    generator = torch.Generator().manual_seed(3)
    colours = torch.rand(40, 3, 1, 1, generator=generator)
    pattern = torch.rand(40, 3, 2, 2, generator=generator).repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)
    return 0.6 * colours + 0.4 * pattern


def _encode(images) -> torch.Tensor:
    """(N,3,8,8) -> (N,12) unit rows: colours of the quarters, as seen from grey."""
    quarters = torch.nn.functional.avg_pool2d(images - 0.5, 4).flatten(1)
    return torch.nn.functional.normalize(quarters + 1e-3, dim=1)


def _blocks(images, size: int) -> torch.Tensor:
    small = torch.nn.functional.avg_pool2d(images, size)
    return small.repeat_interleave(size, dim=2).repeat_interleave(size, dim=3)
