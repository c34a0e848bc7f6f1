"""Checks of lesson 09, on seeded values whose sizes differ. They list what likely mistakes give: message -> values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np

from course_utils.checks._outcome import call, close, exercise, expect, judge, numbers, run, verdict

_PAIR = "Return two arrays, hit and recall, each (Q,)."


def _queries(seed: int, queries: int, items: int):
    """scores (Q,N) without ties, right (Q,N) with one to four right items a row."""
    rng = np.random.default_rng(seed)
    scores = rng.permuted(np.tile(np.arange(items) - items / 2, (queries, 1)), axis=1)
    right = scores.argsort(axis=1).argsort(axis=1) >= items  # all False
    for row in right:
        row[rng.permutation(items)[: rng.integers(1, 5)]] = True
    return scores, right


def _hits(scores, right):
    """(Q,N) the ranked lists: True where a right item stands."""
    return np.take_along_axis(right, np.argsort(-scores, axis=1), axis=1)


def _precisions(hits):
    """Precision after each place of ranked lists (..., N)."""
    return hits.cumsum(axis=-1) / np.arange(1, hits.shape[-1] + 1)


@exercise("09", "9.1")
def check_first_rank(answer: Callable) -> None:
    """first_rank(scores (Q,N), right (Q,N)) -> (Q,) rank of the best right item, 1 is first."""
    for seed, queries, items in ((1, 7, 12), (2, 4, 20)):
        scores, right = _queries(seed, queries, items)
        hits = _hits(scores, right)
        wanted, upwards = 1 + hits.argmax(axis=1), hits[:, ::-1]
        ranks = 1 + np.argsort(np.argsort(-scores, axis=1), axis=1)
        last = items - upwards.argmax(axis=1)
        mistakes = {
            "Ranks start at 1: one more than the number of items above.": wanted - 1,
            "The item itself is among those counted. Only higher scores stand above it: >, not >=.": wanted + 1,
            "You count from the worst end. Larger scores are better: rank 1 has the largest.": (
                1 + upwards.argmax(axis=1), 1 + (items - last), items + 1 - wanted, items - wanted
            ),
            "This is the worst right item. Several are right: the best of them counts.": (last, last - 1),
            "This is the mean rank of all right items. The best of them counts.": (ranks * right).sum(1) / right.sum(1),
            "One number a query: leave out the mean.": wanted.mean(),
        }  # fmt: skip
        judge(call(answer, scores, right), wanted, mistakes, "1 + the number of items above the best right one.")


@exercise("09", "9.2")
def check_two_recalls(answer: Callable) -> None:
    """two_recalls(scores, right, k) -> (hit (Q,), recall (Q,))."""
    for seed, queries, items, k in ((3, 9, 8, 2), (4, 6, 10, 3), (5, 5, 6, 1)):
        scores, right = _queries(seed, queries, items)
        count, total = _hits(scores, right)[:, :k].sum(axis=1), right.sum(axis=1)
        hit, recall = (count > 0) * 1.0, count / total
        mine = call(answer, scores, right, k)
        values = numbers(mine, 2, _PAIR)
        both = np.stack([np.broadcast_to(np.asarray(one, dtype=float), (queries,)) for one in values])
        expect(all(np.shape(one) == (queries,) for one in values), _PAIR + " No mean over queries.")
        if k == 1:  # much falls together here; the other cases have said what is wrong
            expect(close(both, [hit, recall]), f"With k = 1: hit {hit}, recall {recall}; yours {both[0]}, {both[1]}.")
            continue
        swapped = "The two are swapped: hit first, then recall."
        expect(not close(both, [recall, hit]) or close(recall, hit), swapped)
        of_hit = {
            "hit is 1 or 0: is there any right item among the first k? You counted them.": count,
            "hit does not ask for all right items: one is enough.": (count == total, count == np.minimum(total, k)),
            "hit is 1 or 0; this is a share.": (recall, count / k),
        }
        judge(both[0], hit, of_hit, "hit: 1.0 where at least one right item is among the first k.")
        of_recall = {
            "This divides by k: precision. Recall divides by the number of right items.": count / k,
            "Divide by all right items, also where there are more than k.": count / np.minimum(total, k),
            "This is the hit again. Recall is a share of the right items.": hit,
            "This counts. Divide by the query's number of right items.": count,
            "Each query has its own number of right items: right.sum(axis=1).": count / right.sum(),
        }
        judge(both[1], recall, of_recall, "recall: the right items among the first k, over all right items.")


@exercise("09", "9.3")
def check_average_precision(answer: Callable) -> None:
    """average_precision(hits (N,) in ranked order) -> float."""
    for seed, items, share in ((8, 12, 0.3), (6, 9, 0.5), (6, 15, 0.2)):
        hits = np.random.default_rng(seed).random(items) < share
        hits[[0, 3]] = False, True
        place = np.arange(1, items + 1)
        precision = _precisions(hits)
        with np.errstate(divide="ignore", invalid="ignore"):
            early = (hits.cumsum() / np.arange(items))[hits].mean()
        mistakes = {
            "Only places with a right item count: precision is averaged over those.": precision.mean(),
            "Divide by the number of right items, not by the length of the list.": (precision[hits].sum() / items),
            "The mean over right items is missing: divide the sum by their number.": precision[hits].sum(),
            "This is one over the first right item's rank. All right items count.": 1 / (1 + hits.argmax()),
            "Places count from 1: at the first place one item was seen.": (early, hits.cumsum()[hits].sum()),
            "This is the share of right items in the list. Where they stand should matter.": hits.mean(),
            "1 / rank of each right item leaves out the right ones before it.": (1 / place[hits]).mean(),
            "These are the precisions at each place. Average those at right items.": (precision, precision[hits]),
        }
        other = "At each right item: right ones so far / items so far. Then the mean of these."
        judge(call(answer, hits), precision[hits].mean(), mistakes, other)


@exercise("09", "9.4")
def check_expected_hit(answer: Callable) -> None:
    """expected_hit(above, tied, k) -> chance that the right item, one of `tied`, is among the first k."""
    above, tied = np.array([0, 0, 2, 2, 5, 0, 9, 3, 0]), np.array([1, 4, 3, 9, 2, 20, 5, 1, 2])
    for k in (1, 3, 5):
        places = np.clip(k - above, 0, tied)
        wanted, strict = places / tied, (above < k) * 1.0
        raw = (k - above) / tied
        mistakes = {
            "This lets the right item win every tie: a scorer that gives all the same score would be perfect.": strict,
            "This lets the right item lose every tie. It loses some and wins some.": (above + tied <= k) * 1.0,
            "A chance lies in 0..1: of the k places, `above` are taken, and no more than `tied` can be filled.": (
                raw, np.maximum(raw, 0), np.minimum(raw, 1), np.minimum(k, tied) / tied
            ),
            "`tied` counts the right item itself: divide by tied.": (
                np.clip(k - above, 0, tied) / (tied + 1), np.clip(raw * tied / (tied + 1), 0, 1)
            ),
            "A tie is worth its share of places, not one half.": np.where(tied > 1, 0.5 * strict, strict),
            "`above` items already stand in the first k: k - above places are left.": np.clip(k / tied, 0, 1),
        }  # fmt: skip
        other = "k - above places are left; the tie fills them in random order."
        one = [run(answer, int(a), int(t), k) for a, t in zip(above, tied)]
        judge(np.array(one, dtype=float), wanted, mistakes, other)


def _sound(scores, owners, k):
    """Image-to-text hit rate, ties broken at random."""
    jitter = np.random.default_rng(0).random(np.shape(scores))
    first = np.lexsort((jitter, -np.asarray(scores)), axis=1)[:, :k]
    return float((np.asarray(owners)[first] == np.arange(len(scores))[:, None]).any(axis=1).mean())


def _sound_by_ranks(scores, owners, k):
    """The same by counting; ties in expectation for one right caption, all lost for several."""
    right = np.arange(len(scores))[:, None] == np.asarray(owners)
    best = np.where(right, scores, -np.inf).max(axis=1, keepdims=True)
    return float(((scores > best).sum(axis=1) + ((scores == best) & ~right).sum(axis=1) < k).mean())


def _true_recall(scores, owners, k):
    first = np.argsort(-np.asarray(scores), axis=1, kind="stable")[:, :k]
    right = np.arange(len(scores))[:, None] == np.asarray(owners)
    return float((np.take_along_axis(right, first, axis=1).sum(axis=1) / right.sum(axis=1)).mean())


def _by_position(scores, owners, k):
    each = len(owners) // len(scores)
    return _sound(scores, np.arange(len(owners)) // each, k)


def _first_caption_alone(scores, owners, k):
    owners = np.asarray(owners)
    own = np.array([np.flatnonzero(owners == i)[0] for i in range(len(scores))])
    first = np.argsort(-np.asarray(scores), axis=1, kind="stable")[:, :k]
    return float((first == own[:, None]).any(axis=1).mean())


def _wins_ties(scores, owners, k):
    right = np.arange(len(scores))[:, None] == np.asarray(owners)
    best = np.where(right, scores, -np.inf).max(axis=1, keepdims=True)
    return float(((scores > best).sum(axis=1) < k).mean())


@exercise("09", "9.5")
def check_catches(answer: Callable) -> None:
    """catches(evaluate) -> True if evaluate(scores (N,M), owners (M,), k) is no sound image-to-text recall@k."""
    for evaluate in (_sound, _sound_by_ranks):
        told = (
            "Your test accuses a sound evaluator. Which of your demands need not hold? Random scores give chance only "
        )
        expect(not verdict(answer, evaluate), told + "on average, and a tie may go either way.")
    for evaluate, told in (
        (_true_recall, "gives a perfect scorer 0.2 at k = 1 where pictures have five captions. What must it get?"),
        (_first_caption_alone, "accepts a picture's first caption alone. Let another one of its captions win."),
        (_by_position, "takes it that captions stand in the pictures' order. Shuffle captions together with owners."),
        (_wins_ties, "gives 1.0 to a scorer that gives every pair the same score. Try one that knows nothing."),
    ):
        expect(verdict(answer, evaluate), f"Your test lets an evaluator pass that {told}")


@exercise("09", "9.7")
def check_drawn_mean(answer: Callable) -> None:
    """drawn_mean(values (M,), owners (M,), drawn (N,) picture ids) -> mean over captions of the drawn pictures."""
    for seed, pictures in ((11, 6), (12, 9)):
        rng = np.random.default_rng(seed)
        owners = rng.permutation(np.repeat(np.arange(pictures), rng.integers(1, 6, pictures)))
        values = rng.random(len(owners)) + owners / pictures
        drawn = rng.integers(0, pictures, pictures)
        drawn[:3] = drawn[0]
        parts = [values[owners == one] for one in drawn]
        inside = np.isin(owners, drawn)
        mistakes = {
            "A picture drawn twice counts twice; np.isin or a set counts it once.": values[inside].mean(),
            "Pictures with more captions count more: mean over captions, not over pictures' means.": (
                np.mean([one.mean() for one in parts]), np.mean([values[owners == one].mean() for one in set(drawn)])
            ),
            "You drew captions. `drawn` names pictures: take all captions whose owner it is.": values[drawn].mean(),
            "This is the sum. Divide by the number of captions drawn.": np.concatenate(parts).sum(),
            "Divide by the captions drawn, not by all captions or by pictures.": (
                np.concatenate(parts).sum() / len(values), np.concatenate(parts).sum() / pictures
            ),
            "This is the mean of everything. Only what was drawn counts.": values.mean(),
        }  # fmt: skip
        other = "All captions of every drawn picture, as often as it was drawn, and then their mean."
        judge(call(answer, values, owners, drawn), np.concatenate(parts).mean(), mistakes, other)


@exercise("09", "9.8")
def check_sign_flip_p(answer: Callable) -> None:
    """sign_flip_p(differences (N,), signs (S,N)) -> (1 + flips as far from 0 as observed) / (1 + S)."""
    for seed, n, flips, shift in ((29, 30, 199, 0.2), (14, 12, 99, -0.3), (13, 8, 49, 0.05)):
        rng = np.random.default_rng(seed)
        differences, signs = rng.normal(size=n) + shift, rng.choice([-1.0, 1.0], (flips, n))
        signs[0] = 1.0  # one flip is the observed order itself
        sums, observed = signs @ differences, differences.sum()
        far = (abs(sums) >= abs(observed) - 1e-12).sum()
        one = (sums * np.sign(observed) >= abs(observed) - 1e-12).sum()
        strict = (abs(sums) > abs(observed) + 1e-12).sum()
        mistakes = {
            "Both sides count: a flip as far below zero is as surprising.": ((1 + one) / (1 + flips), one / flips),
            "The observed order is one of the possible ones: 1 above and 1 below, so that p is never 0.": far / flips,
            "This is the share of flips that are nearer to 0. Count those as far away or farther.": (
                1 - far / flips, (1 + flips - far) / (1 + flips)
            ),
            "A flip that is exactly as far counts too: >=, not >.": ((1 + strict) / (1 + flips), strict / flips),
            "This is a number of flips. p is a share.": (far, 1 + far),
        }  # fmt: skip
        other = "Flip the signs, add up, and count the sums as far from 0 as the observed one."
        judge(call(answer, differences, signs), (1 + far) / (1 + flips), mistakes, other)


@exercise("09", "9.6")
def check_map_at_r(answer: Callable) -> None:
    """map_at_r(scores (Q,N), right (Q,N)) -> (Q,) average precision over the first R places, R of each query."""
    for seed, queries, items in ((18, 9, 9), (17, 6, 12)):
        scores, right = _queries(seed, queries, items)
        scores = scores + 6.0 * right  # right ones often come early
        scores += np.random.default_rng(seed).random(scores.shape) / 10
        hits = _hits(scores, right)
        total, place = right.sum(axis=1), np.arange(1, items + 1)
        inside = hits & (place <= total[:, None])
        precision = _precisions(hits)
        wanted, whole = (precision * inside).sum(axis=1) / total, (precision * hits).sum(axis=1) / total
        first = hits & (place <= total[0])
        mistakes = {
            "This goes down the whole list: plain average precision. Stop after R places.": whole,
            "This is R-precision: it does not matter here in which order the right ones come.": inside.sum(1) / total,
            "Divide by R, not by the right items found: what is missing must cost.": (
                (precision * inside).sum(axis=1) / np.maximum(inside.sum(axis=1), 1)
            ),
            "Each query has its own R: right.sum(axis=1).": (precision * first).sum(axis=1) / total[0],
            "All first R places count here. Only those with a right item do.": (
                (precision * (place <= total[:, None])).sum(axis=1) / total
            ),
            "One number a query: leave out the mean.": wanted.mean(),
        }  # fmt: skip
        judge(call(answer, scores, right), wanted, mistakes, "Precision at each right item of the first R, over R.")


@exercise("09", "9.9")
def check_calibration_error(answer: Callable) -> None:
    """expected_calibration_error(confidence (N,), right (N,), bins) -> float."""
    for seed, n, bins in ((18, 60, 10), (18, 40, 5)):
        rng = np.random.default_rng(seed)
        confidence = rng.uniform(0.35, 0.99, n) ** 1.3  # some bins stay empty
        right = rng.random(n) < confidence**2
        index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
        some = [np.flatnonzero(index == b) for b in range(bins)]
        full = [one for one in some if len(one)]
        gaps = np.array([right[one].mean() - confidence[one].mean() for one in full])
        share = np.array([len(one) for one in full]) / n
        middle = np.array([right[one].mean() - (index[one[0]] + 0.5) / bins for one in full])
        mistakes = {
            "Bins count by their cases: a bin of one case is not worth one of twenty.": (
                abs(gaps).mean(), abs(gaps).sum() / bins
            ),
            "This is the largest gap. The mean over cases is asked.": abs(gaps).max(),
            "Gaps of both signs cancel out: take each bin's absolute value first.": (
                share @ gaps, -(share @ gaps), abs(share @ gaps)
            ),
            "A bin's confidence is the mean of its cases, not its middle.": (share @ abs(middle)),
            "This is a gap case by case. Accuracy and confidence are means over a bin.": abs(right - confidence).mean(),
            "The sum over bins needs each bin's share of the cases as its weight.": abs(gaps).sum(),
        }  # fmt: skip
        empty = "A bin without cases gives 0 / 0. Leave empty bins out."
        other = "In each bin |mean of right - mean of confidence|, weighted by the bin's share of the cases."
        judge(call(answer, confidence, right, bins), share @ abs(gaps), mistakes, other, empty)


@exercise("09", "9.10")
def check_clipped_precision(answer: Callable) -> None:
    """clipped_precision(words, references, n) -> share of n-grams found, clipped by the reference that has most."""
    for text, others, n in (
        ("dog a a and a dog a cat dog dog", ["a cat cat dog cat dog cat cat a", "cat cat a a cat a cat"], 1),
        ("a and and and cat a a and dog dog", ["cat and and a and cat cat dog dog", "cat dog a a a and"], 2),
    ):
        words, references = text.split(), [one.split() for one in others]
        mine, theirs = _grams(words, n), [_grams(one, n) for one in references]
        total, most = sum(mine.values()), Counter()
        for one in theirs:
            most |= one
        wanted = sum((mine & most).values()) / total
        added = sum(theirs, Counter())
        single = sum((_grams(words, 1) & _union(references, 1)).values()) / len(words)
        mistakes = {
            "Not clipped: a word said five times counts no more often than in a reference.": (
                sum(count for gram, count in mine.items() if most[gram]) / total
            ),
            "Clip by the one reference that has it most often, not by all of them together.": (
                sum((mine & added).values()) / total
            ),
            "Only one reference was looked at. Each may lend its n-grams.": (
                sum((mine & theirs[0]).values()) / total, sum((mine & theirs[-1]).values()) / total
            ),
            "Each n-gram counts as often as it is said, not once: no sets.": len(mine & most) / len(mine),
            "This divides by the reference's n-grams: recall. Precision asks about what was said.": tuple(
                sum((mine & most).values()) / sum(one.values()) for one in theirs
            ),
            "Divide by the number of n-grams, len(words) - n + 1, not of words.": (
                sum((mine & most).values()) / len(words)
            ),
            "n is not used: these are single words.": single,
        }  # fmt: skip
        judge(run(answer, list(words), [list(one) for one in references], n), wanted, mistakes,
              "Count n-grams, clip each by the most any reference has, divide by all n-grams said.")  # fmt: skip


def _grams(words, n):
    return Counter(zip(*(words[i:] for i in range(n))))


def _union(references, n):
    most = Counter()
    for one in references:
        most |= _grams(one, n)
    return most
