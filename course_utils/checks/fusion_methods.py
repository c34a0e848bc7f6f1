"""Checks of lesson 04, on seeded values whose sizes differ. They list what likely mistakes give: message -> values."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch.nn.functional import normalize, pad

from course_utils.checks._outcome import WrongAnswer, call, exercise, expect, judge, numbers, run, same, shown


@exercise("04", "4.1")
def check_weighted(answer: Callable) -> None:
    """weighted(v (B,H), t (B,H), alpha) -> alpha * v + (1 - alpha) * t, (B,H)."""
    for seed, size, alpha in ((1, 5, 0.3), (2, 4, 0.8), (3, 2, 0.0)):
        v, t = _rows(seed, size, 3), _rows(seed + 50, size, 3)
        wanted = torch.lerp(t, v, alpha)
        full = alpha * v + t, v + alpha * t, v + (1 - alpha) * t
        softened = torch.lerp(t.softmax(1), v.softmax(1), alpha), wanted.softmax(1), normalize(wanted)
        mistakes = {
            "The weights are swapped: alpha belongs to v, what is left of it to t.": torch.lerp(v, t, alpha),
            "One of them counts in full. v has alpha, t what is left, 1 - alpha.": full,
            "alpha is not used: this is the plain sum or mean.": ((v + t) / 2, v + t),
            "Both got the weight alpha. That of t is 1 - alpha.": alpha * (v + t),
            "You multiplied the two. Weighted fusion adds them.": (v * t, alpha * v * (1 - alpha) * t),
            "No softmax and no unit rows: v and t are embeddings, and stay as long as they are.": softened,
            "Brackets are missing: (1 - alpha) * t.": alpha * v + t - alpha,
            "You put them side by side. Weighted fusion adds: the width stays.": torch.cat([v, t], dim=1),
            "This is a class id a row. Return the weighted sum itself.": wanted.argmax(dim=1),
        }
        judge(call(answer, v, t, alpha), wanted, mistakes, f"alpha is {alpha}: v counts {alpha}, t {1 - alpha:.1f}.")


@exercise("04", "4.2")
def check_best_accuracy(answer: Callable) -> None:
    """best_accuracy(joint (A,B,C)) -> sum over a, b of the largest over c."""
    for seed, sizes in ((5, (3, 4, 2)), (6, (2, 3, 5))):
        joint = np.random.default_rng(seed).dirichlet(np.full(np.prod(sizes), 0.5)).reshape(sizes)
        joint[0, 1] = 0.0  # a pair of cues that never occurs
        joint /= joint.sum()
        best, pairs = joint.max(axis=2), joint.sum(axis=2)  # (A,B)
        sure = best[pairs > 0] / pairs[pairs > 0]  # how sure one can be in each cell that occurs
        alike = sure.mean(), sure.sum() / best.size, sure.sum()
        wanted, axes = best.sum(), (joint.max(axis=0).sum(), joint.max(axis=1).sum())
        mistakes = {
            "This is the largest single cell. Each pair of cues has its own best guess; add them up.": joint.max(),
            "You averaged. The table holds how often each cell comes: sum.": (best.mean(), wanted / joint.size),
            "All cells count alike. Each counts as often as it comes.": alike,
            "This guesser sees nothing: the most frequent label. Keep both cues.": joint.sum(axis=(0, 1)).max(),
            "This guesser sees only the second cue: you summed the first away.": joint.sum(axis=0).max(axis=1).sum(),
            "This guesser sees only the first cue: you summed the second away.": joint.sum(axis=1).max(axis=1).sum(),
            "The largest over the wrong axis guesses a cue. Guess the label: the last axis.": axes,
            "This is the error. The accuracy is what is left.": 1 - wanted,
            "These are the cells' values. Add them up to one number.": best,
        }
        empty = "A pair of cues that never comes makes 0 / 0. No division is needed: joint holds P(cues and label)."
        judge(call(answer, joint), wanted, mistakes, "In each cell of cues guess the likeliest label.", empty)


@exercise("04", "4.3")
def check_outer_features(answer: Callable) -> None:
    """outer_features(v (B,Dv), t (B,Dt)) -> (B,(Dv+1)*(Dt+1)), a one at the end of each, v's index first."""
    for seed, size, dv, dt in ((7, 4, 2, 2), (6, 5, 3, 4)):
        v, t = _rows(seed, size, dv), _rows(seed + 50, size, dt)
        v1, t1 = (pad(rows, (0, 1), value=1.0) for rows in (v, t))
        wanted, turned = _outer(v1, t1), _outer(t1, v1)
        cubes = wanted.unflatten(1, (dv + 1, dt + 1)), turned.unflatten(1, (dt + 1, dv + 1))
        beside = tuple(torch.cat(rows, dim=1) for rows in ((v, t), (v1, t1), (v, t1)))
        crossed = torch.kron(v1, t1), torch.kron(v, t), torch.einsum("bi,cj->bcij", v1, t1).flatten(2)
        summed, zeros = (v1.T @ t1, (v1.T @ t1).flatten()), _outer(pad(v, (0, 1)), pad(t, (0, 1)))
        mistakes = {
            "The ones are missing: without them the units themselves are not among the products.": _outer(v, t),
            "You appended zeros. A one is asked: F.pad(v, (0, 1), value=1.0).": zeros,
            "Only one of the two got its one. Append it to both.": (_outer(v1, t), _outer(v, t1)),
            "The one stands at the end of a row, not in front.": _outer(v1.roll(1, dims=1), t1.roll(1, dims=1)),
            "The order is turned: v's index comes first, (B,Dv+1,1) * (B,1,Dt+1).": turned,
            "Not flattened: keep the rows, and flatten the rest with flatten(1).": cubes,
            "All flattened: each row keeps its own features. flatten(1) leaves dimension 0.": wanted.flatten(),
            "You put them side by side. Asked is every unit of v times every unit of t.": beside,
            "This product crosses rows. Row b of v meets row b of t alone: einsum('bi,bj->bij', ...).": crossed,
            "This is summed over rows. Each row keeps its own products.": summed,
            "This is unit by unit. Every unit of v meets every one of t.": (v * t[:, :dv], v1 * t1[:, : dv + 1]),
        }
        other = f"For widths {dv} and {dt} there are ({dv} + 1) * ({dt} + 1) products a row; the last is 1 * 1."
        judge(call(answer, v, t), wanted, mistakes, other)


@exercise("04", "4.4")
def check_low_rank_logits(answer: Callable) -> None:
    """low_rank_logits(v1 (B,I), t1 (B,J), factors_v (R,I,C), factors_t (R,J,C)) -> logits (B,C)."""
    for seed, size, i, j, rank, classes in ((8, 7, 4, 6, 3, 5), (9, 4, 3, 2, 2, 6)):
        v1, t1 = _rows(seed, size, i), _rows(seed + 50, size, j)
        factors = _rows(seed + 1, rank, i, classes), _rows(seed + 2, rank, j, classes)
        left, right = (torch.einsum("bd,rdc->rbc", rows, factor) for rows, factor in zip((v1, t1), factors))
        each = left * right  # (R,B,C)
        wanted, crossed, added = each.sum(dim=0), left.sum(dim=0) * right.sum(dim=0), left + right
        mistakes = {
            "You summed over r too early: multiply the two for each r, then add up.": (crossed, crossed / rank**2),
            "You added the two. Each r contributes a product.": (added.sum(dim=0), added),
            "This is the mean over r. The sum is asked.": wanted / rank,
            "You multiplied over r as well. The products of each r are added up.": each.prod(dim=0),
            "The sum over r is missing: (R,B,C) becomes (B,C).": (each, each.transpose(0, 1)),
            "The sum runs over r alone, the first of (R,B,C): dim=0.": (wanted.sum(1), each.sum(1), each.sum()),
            "Not every r is used. Add up all R = len(factors_v) of them.": (*each, *each.cumsum(dim=0)[:-1]),
        }
        judge(call(answer, v1, t1, *factors), wanted, mistakes, "Compare with W = einsum('ric,rjc->ijc', ...).")


@exercise("04", "4.5")
def check_counts(answer: object) -> None:
    """(32 * 32 * 16, 4 * (32 + 32) * 16)."""
    values = numbers(answer, 2, "Two numbers are wanted, in a tuple: tensor fusion first, then low-rank fusion.")
    expect(not same(values, [4096, 16384]), "Swapped: tensor fusion comes first, low-rank fusion second.")
    tensor = {
        "Tensor fusion: the ones are forgotten, each modality brings 31 + 1.": (31 * 31 * 16, 31 * 31, 31 * 32 * 16),
        "Tensor fusion: 32 * 32 products (not 32 + 32), and a weight for each of 16 classes.": (1024, 64, 62 * 16),
        "Tensor fusion: no rank and no biases here.": (16384 * 4, 1024 * 4, 16384 + 16),
    }
    low_rank = {
        "Low rank: the ones are forgotten, each modality brings 31 + 1.": (4 * 62 * 16, 4 * 62, 62 * 16),
        "Low rank: each factor has a weight for each of the 16 classes.": 4 * 64,
        "Low rank: there are 4 factors for each modality, one for each r.": (64 * 16, 64),
        "Low rank: the factors are never multiplied out, 32 + 32 rows for each r.": (16384 * 4, 16384),
        "Low rank: both modalities have factors.": 4 * 32 * 16,
        "Low rank: biases are not counted here.": 4096 + 16,
    }
    judge(values[0], 16384, tensor, "Tensor fusion: how many products, and how many weights for each?")
    judge(values[1], 4096, low_rank, "Low rank: how many numbers in one factor, and how many factors?")


@exercise("04", "4.6")
def check_precision_recall_f1(answer: Callable) -> None:
    """precision_recall_f1(truth (N,), predicted (N,), positive) -> three fractions, 0.0 where there is no case."""
    rng = np.random.default_rng(10)
    ids = rng.choice(4, 60, p=[0.3, 0.3, 0.2, 0.2])
    guess = np.where(rng.random(60) < 0.5, ids, rng.choice(4, 60, p=[0.1, 0.5, 0.3, 0.1]))
    never, absent = np.where(guess == 3, 0, guess), np.where(ids == 3, 1, ids)
    cases = (ids, guess, 2), (ids, guess, 0), (ids, never, 3), (absent, guess, 3), (absent, never, 3)
    for truth, predicted, positive in cases:
        p, r, f1 = wanted = _fractions(truth, predicted, positive)
        ill, called = truth == positive, predicted == positive
        hits, well = (ill & called).sum(), (~ill & ~called).sum() / (~ill).sum()
        firsts = (truth == predicted).mean(), (ill == called).mean()
        every = [(truth == predicted).sum() / max(some.sum(), 1) for some in (called, ill)]
        accuracy = tuple([x, r, f] for x in firsts for f in (f1, _f1(x, r)))
        full = p if called.any() else 1.0, r if ill.any() else 1.0
        ones = tuple([*full, f] for f in (f1, _f1(*full), f1 if called.any() or ill.any() else 1.0))
        mistakes = {
            "Swapped: precision divides by what was predicted positive, recall by what is positive.": [r, p, f1],
            "F1 is the harmonic mean, 2PR / (P + R); yours is another.": ([p, r, (p + r) / 2], [p, r, (p * r) ** 0.5]),
            "F1 lacks its factor 2: 2PR / (P + R).": [p, r, f1 / 2],
            "The first is accuracy. Precision looks only at what was predicted positive.": accuracy,
            "The second is of negatives. Recall is of the positive.": ([p, well, f1], [p, well, _f1(p, well)]),
            "You counted class 1 as the positive one. Use the argument positive.": _fractions(truth, predicted, 1),
            "These are percent. Return fractions.": [100 * p, 100 * r, 100 * f1],
            "A hit is predicted positive and truly so. You counted every right answer.": [*every, _f1(*every)],
            "You divided by N. Divide by the predicted positive, and by the truly positive.": [hits / 60] * 3,
            "A quotient without any case is 0.0 here, not 1.0.": ones,
        }
        nobody = "Where nobody is predicted positive, or nobody is, a quotient has no case: return 0.0 for it."
        try:
            with np.errstate(all="ignore"):
                value = call(answer, truth, predicted, positive)
        except ZeroDivisionError:
            raise WrongAnswer(nobody) from None
        value = [float(x) for x in numbers(value, 3, "Three numbers are wanted, in a tuple: precision, recall, F1.")]
        expect(np.isfinite(value).all(), nobody)
        judge(value, wanted, mistakes, f"{hits} hits, {called.sum()} predicted positive, {ill.sum()} truly positive.")


@exercise("04", "4.7")
def check_dropout_mask(answer: Callable) -> None:
    """dropout_mask(count, modalities, rate, generator) -> (count, modalities) bool, True where kept, no empty row."""
    with torch.random.fork_rng(devices=[]):  # the lesson's own draws stay as they are
        everything, some, few = (_mask(answer, 6000, 3, rate, 11) for rate in (0.0, 0.3, 0.8))
        a, b, other = (_mask(answer, 200, 2, 0.8, seed) for seed in (14, 14, 15))
    kept, expected = np.array([some.mean(), few.mean()]), np.array([0.7 + 0.3**3 / 3, 0.2 + 0.8**3 / 3])
    expect(everything.mean() > 0.34, "At rate 0 yours drops nearly all. True means kept, rate is the chance to drop.")
    expect(everything.all(), "At rate 0 nothing may be dropped. Is it draws >= rate, with draws in [0, 1)?")
    expect((some != some[0]).any(), "Every row is alike: one mask for the whole batch. Each example draws its own.")
    expect(all(mask.any(axis=1).all() for mask in (some, few, a)), "Some rows lost every modality. They keep one.")
    back = min(mask.all(axis=1).mean() for mask in (some, few)) > 0.3
    expect(not back, "A row that lost everything gets all back in yours. It keeps one.")
    expect(abs(kept[0] - kept[1]) > 0.03, "The rate is not used: at 0.3 and at 0.8 as much is dropped.")
    expect(kept[0] > kept[1], "The rate is turned round: it is the chance to be dropped. Keep where a draw >= rate.")
    expect((some.sum(axis=1) == 1).any(), "No row ever loses two modalities. Each is dropped on its own.")
    single = few[few.sum(axis=1) == 1]  # (K,3) rows that keep one
    anew = abs(len(single) / len(few) - 0.384 / (1 - 0.8**3)) < 0.03
    expect(not anew, "Rows that lost all seem to be drawn anew, and may keep two. Such a row keeps exactly one.")
    often = single.mean(axis=0)  # (3,) how often each survives alone
    expect(often.max() < 0.4, f"Rows that lost all keep modality {often.argmax()} too often. Draw it for each row.")
    found = f"At rates 0.3 and 0.8 of three modalities {expected.round(2)} should be kept; yours: {kept.round(2)}."
    expect(np.abs(kept - expected).max() < 0.03, found)
    expect((a == b).all(), "Two generators of one seed gave two masks. Hand generator=generator to every draw.")
    expect((a != other).any(), "Generators of two seeds gave one mask. Draw from the generator, and do not seed it.")


@exercise("04", "4.8")
def check_gradnorm_targets(answer: Callable) -> None:
    """gradnorm_targets(norms (T,), ratios (T,), exponent) -> mean(norms) * (ratios / mean(ratios)) ** exponent."""
    for seed, size, exponent in ((17, 3, 1.5), (18, 4, 0.5)):
        norms, ratios = (0.2 + torch.rand(2, size, generator=torch.Generator().manual_seed(seed))).unbind()
        mean, rate, powers = norms.mean(), ratios / ratios.mean(), ratios**exponent
        wanted = mean * rate**exponent
        mistakes = {
            "The ratios are not relative: divide them by their mean first.": mean * powers,
            "Divided by the sum of the ratios. Their mean is asked.": mean * (ratios / ratios.sum()) ** exponent,
            "The exponent multiplies in yours. It is a power: **.": (mean * rate * exponent, mean * ratios * exponent),
            "Upside down: the loss that fell least gets the largest target.": mean / rate**exponent,
            "Each target starts from the mean of all norms, not from its own norm.": norms * rate**exponent,
            "This is the sum of the norms. Their mean is asked.": norms.sum() * rate**exponent,
            "The exponent is not used.": (mean * rate, mean * ratios),
            "The power comes too early: first divide by the mean of the ratios.": mean * powers / powers.mean(),
            "The exponent belongs to the relative ratio alone, not to the mean norm.": (mean * rate) ** exponent,
            "This is the distance from the targets. Return the targets.": ((norms - wanted).abs(), norms - wanted),
            "These are the relative ratios to the power. The mean norm is missing.": rate**exponent,
        }
        judge(call(answer, norms, ratios, exponent), wanted, mistakes, "Which ratio is above the mean?")


@exercise("04", "4.9")
def check_cheapest_threshold(answer: Callable) -> None:
    """cheapest_threshold(p (N,), truth (N,) bool, cost_missed, cost_alarm) -> a threshold of the smallest cost."""
    for seed, missed, alarm in ((87, 5, 2), (19, 20, 1), (21, 1, 30), (22, 500, 1)):
        p, truth = _cases(seed)
        value = call(answer, p, truth, missed, alarm)
        value = value.item() if getattr(value, "shape", None) in ((), (1,)) else value
        expect(isinstance(value, (int, float)), f"One number is wanted, a threshold; yours is {shown(value)}.")
        every, fair = np.append(np.unique(p), 1.1), alarm / (alarm + missed)
        prices = (missed, alarm), (alarm, missed), (1, 1)
        costs, swapped, errors = (_costs(p, truth, np.append(every, value), *price) for price in prices)
        strict = _costs(p, truth, np.append(every, value) + 1e-9, missed, alarm)
        if costs[-1] == costs.min():  # the last is the learner's
            continue
        mistakes = {
            "This is the smallest cost. Return the threshold that has it.": value == costs.min(),
            "This is the position of the threshold. Return the threshold itself.": value == costs.argmin(),
            "This threshold is the dearest. The smallest cost is asked.": costs[-1] == costs.max(),
            "Everybody is treated. A false alarm costs too.": value <= p.min(),
            "Nobody is treated. A miss costs too.": value > p.max(),
            "At 1.1, above every p, nobody is treated. Try it too.": costs[-1] == costs[:-2].min(),
            "A p equal to the threshold is treated: >=, not >.": value in every and strict[-1] == strict.min(),
            "alarm / (alarm + missed) is right for calibrated p. These are not: try all.": value == fair,
            "This is 0.5 whatever the costs. Try every threshold.": value == 0.5,
            "The costs are swapped: a miss costs cost_missed, a false alarm cost_alarm.": swapped[-1] == swapped.min(),
            "This makes the fewest errors. A miss and a false alarm cost differently.": errors[-1] == errors.min(),
        }
        named = next((message for message, made in mistakes.items() if made), "One p, or 1.1, is cheaper.")
        raise WrongAnswer(f"{named} At {value:.3g} the cost is {costs[-1]}, at best {costs.min()}.")


@exercise("04", "4.10")
def check_information_beyond(answer: Callable) -> None:
    """information_beyond(predict, first, second, label, seed) -> accuracy lost when the rows of second are permuted."""
    for seed, reads in ((23, "both modalities"), (24, "the first alone")):
        predict, first, second, label = _world(seed, reads)
        (value, moved), (_, again), (_, other) = (_watched(answer, *_world(seed, reads), k) for k in (0, 0, 1))
        expect(np.array_equal(moved, again), "Two calls with one seed permuted differently. Use default_rng(seed).")
        expect(not np.array_equal(moved, other), "Two seeds gave one permutation. Use np.random.default_rng(seed).")
        places = (moved[:, :, None] == second).all(axis=3).argmax(axis=2)  # (K,N) where each row stood
        answers, honest = np.array([predict(first, rows) for rows in moved]), predict(first, second)  # (K,N), (N,)
        before, after, followed = (x.mean() for x in (honest == label, answers == label, answers == label[places]))
        lost = before - after
        mistakes = {
            "The sign is turned: accuracy before minus accuracy after.": after - before,
            "This counts changed answers. Asked is the accuracy that is lost.": (answers != honest).mean(),
            "This is the accuracy after the permutation. How much was lost?": after,
            "You permuted the labels too. Only second moves.": (before - followed, followed),
            "This is the accuracy before. How much of it is lost by the permutation?": before,
            "Return the difference of the two accuracies, not their ratio.": (1 - after / before, after / before),
            "This is in percent, or a count. Return a fraction.": (100 * lost, len(label) * lost),
        }
        judge(value, lost, mistakes, f"A model that reads {reads} falls from {before:.3f} to {after:.3f}.")


def _watched(answer: Callable, predict: Callable, first: np.ndarray, second: np.ndarray, *more: object) -> tuple:
    """The learner's value, and the permuted second modalities (K,N,D2) with which the model was asked."""
    seen, state = [], np.random.get_state()

    watched = lambda a, b: (seen.append((np.array(a), np.array(b))), predict(*seen[-1]))[1]
    with torch.random.fork_rng(devices=[]):  # the lesson's own draws stay as they are
        value = call(answer, watched, first, second, *more)
    np.random.set_state(state)
    expect(seen, "Your function never asks the model that it is given. Call predict(first, second).")
    changed = [(a, b) for a, b in seen if not np.array_equal(b, second)]
    if not changed:
        alone = all(np.array_equal(a, first) for a, _ in seen)
        expect(alone, "You permuted the first modality. What does the second one add? Permute that.")
        raise WrongAnswer("The model never sees a permuted second. Permute its rows, then ask predict again.")
    for a, rows in changed:
        expect(rows.shape == second.shape, f"Permuted, second keeps its shape {second.shape}; yours is {rows.shape}.")
        expect((rows != rows[0]).any(), "You made every row alike; a model may answer anything to that. Permute rows.")
        mine, theirs = sorted(map(tuple, rows)), sorted(map(tuple, second))
        within, apart = (np.array_equal(np.sort(rows, axis=k), np.sort(second, axis=k)) for k in (1, 0))
        expect(mine == theirs or not within, "You shuffled columns within rows. Whole rows must change places: axis 0.")
        expect(mine == theirs or not apart, "You shuffled each column by itself. A row stays together.")
        expect(mine == theirs or set(mine) - set(theirs), "You drew rows with replacement. Use rng.permutation(N).")
        expect(mine == theirs, "What predict sees is not second's rows in another order. Use second[permutation].")
        expect(np.array_equal(a, first), "First was permuted as well. It stays as it is: only second moves.")
    return value, np.array([b for _, b in changed])


def _world(seed: int, reads: str) -> tuple:
    """A model, and first (N,3), second (N,5), label (N,) of which it gets most right."""
    rng, both = np.random.default_rng(seed), reads == "both modalities"
    first, second = rng.normal(size=(80, 3)), rng.normal(size=(80, 5))
    predict = lambda a, b: ((a[:, 0] > 0) ^ (both & (b[:, 0] > 0))).astype(int)
    return predict, first, second, predict(first, second) ^ (rng.random(80) < 0.15)


def _cases(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """p (N,), higher for the ill but no calibrated probability, some equal; truth (N,) bool, one in four ill."""
    rng = np.random.default_rng(seed)
    truth = rng.random(80) < 0.25
    p = np.round(0.15 * truth + 0.2 + 0.6 * rng.random(80), 2)
    truth[p.argmax()] = False  # so that even the surest case is a false alarm
    return p, truth


def _costs(p: np.ndarray, truth: np.ndarray, thresholds: np.ndarray, missed: float, alarm: float) -> np.ndarray:
    treated = p >= thresholds[:, None]  # (K,N)
    return missed * (truth & ~treated).sum(axis=1) + alarm * (~truth & treated).sum(axis=1)


def _mask(answer: Callable, count: int, modalities: int, rate: float, seed: int) -> np.ndarray:
    value = np.asarray(run(answer, count, modalities, rate, torch.Generator().manual_seed(seed)))
    expect(value.shape == (count, modalities), f"The shape should be {(count, modalities)}, yours is {value.shape}.")
    expect(value.dtype == bool, f"The mask should be bool, True where kept; yours is {value.dtype}. Compare: >= rate.")
    return value


def _fractions(truth: np.ndarray, predicted: np.ndarray, positive: int) -> list[float]:
    hits = float(((truth == positive) & (predicted == positive)).sum())
    p, r = (hits / max((ids == positive).sum(), 1) for ids in (predicted, truth))
    return [p, r, _f1(p, r)]


def _f1(p: float, r: float) -> float:
    return 2 * p * r / (p + r) if p + r else 0.0


def _outer(v: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    return (v[:, :, None] * t[:, None, :]).flatten(1)  # (B,I,1) * (B,1,J) -> (B,I*J)


def _rows(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
