"""Checks of lesson 06: recall, a frozen tower, rates and groups, memory, an interval, checkpoints, errors, parts.

Functions are tried on seeded rows, small models and a temporary folder; nothing is downloaded. Each check lists what
likely mistakes would give: message -> value or values.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn.functional import normalize

from course_utils.checks import _trials
from course_utils.checks._outcome import call, close, exercise, expect, judge, run, shown


@exercise("06", "6.1")
def check_recall_both_ways(answer: Callable) -> None:
    """recall_both_ways(scores (N,M), owners (M,), k) -> (image_to_text, text_to_image)."""
    for seed, count, k in ((13, 29, 3), (14, 41, 4)):
        owners = torch.arange(count).repeat_interleave(torch.tensor([2, 3, 5] * 20)[:count])  # (M,)
        owners = owners[torch.randperm(len(owners), generator=torch.Generator().manual_seed(seed))]
        right = torch.arange(count)[:, None] == owners  # (N,M)
        _trials.either(_try_recall, answer, _trials.rows_of(seed, *right.shape) + right, owners, k)


def _try_recall(answer: Callable, scores, owners, k: int) -> None:
    two = "Two numbers are wanted, in a tuple: image_to_text first, then text_to_image."
    values = _trials.several(call(answer, scores, owners, k), 2, two)
    scores, owners = torch.as_tensor(scores), torch.as_tensor(owners)
    rows, columns = torch.arange(len(scores))[:, None], torch.arange(len(owners))
    truths = rows == owners, rows == columns // 5, rows == columns  # (N,M) right answers, and two that ignore owners
    whole = [_hits(table, true, k).mean() for table, true in ((scores, truths[0]), (scores.T, truths[0].T))]
    expect(not close(values, whole[::-1]), "The two are swapped: in image_to_text the pictures are asking.")
    for way, name in enumerate(("image_to_text", "text_to_image")):
        table, true, fifth, straight = (x.T if way else x for x in (scores, *truths))
        found, hit, straight = _found(table, true, k), _hits(table, true, k), _hits(table, straight, k)  # (Q,k), (Q,)
        alone = true & (true.cumsum(dim=1) == 1)  # the first caption of each picture
        mistakes = {
            "owners is not used. Whose caption is column j? Pictures have 2, 3 or 5 of them, in any order.": (
                _hits(table, fifth, k).mean(), straight.mean(), straight.sum() / len(scores)),
            "This is a count. Divide by the number of those who ask.": hit.sum(),
            "A share between 0 and 1 is asked, not percent.": 100 * hit.mean(),
            "These are the k worst: the best have the largest scores.": _hits(-table, true, k).mean(),
            "k is off by one: a rank that begins at 1 must be <= k, one that begins at 0 must be < k.": (
                _hits(table, true, k - 1).mean(), _hits(table, true, k + 1).mean()),
            "Only the very best counts in yours. Do you use k?": _hits(table, true, 1).mean(),
            "Captions ask one by one, also those of the same picture.": (true.int().T @ hit.int() > 0).double().mean(),
            f"This is the other direction's. For {name} turn the table round.": whole[1 - way],
            "Another number of queries: N pictures ask for captions, M captions for pictures.": (
                hit.sum() / len(owners), hit.sum() / len(scores)),
            "Each caption of a picture is right, not only its first.": _hits(table, alone, k).mean(),
            "One right caption among the k is enough: any(), not all of them.": (
                (found.sum(dim=1) >= true.sum(dim=1)).double().mean(), found.all(dim=1).double().mean()),
            "One right caption among the k is a whole hit: any(), not a share.": tuple(
                (found.sum(dim=1) / each).mean() for each in (k, true.sum(dim=1), 5)),
        }  # fmt: skip
        otherwise = f"{name} of {len(scores)} pictures and {len(owners)} captions at k = {k} is {hit.mean():.3f}."
        judge(values[way], hit.mean(), mistakes, otherwise)


@exercise("06", "6.2")
def check_left_alone(answer: Callable) -> None:
    """left_alone(train, tower, batches) -> bool: whether a training on top of `tower` leaves all of it as it was."""
    expect(callable(answer), f"Give the check your function itself, not {type(answer).__name__}.")
    sound, broken = _trials.trainings()
    for words, train in sound.items():
        said, calls = _trials.said(answer, train)
        expect(calls, "Your test never trains. Call the function that it is given, with tower and batches.")
        hint = "Modes, flags, gradients, losses and outputs are not the tower's state; state_dict() is."
        expect(said, f"Your test rejects a training that leaves the tower alone, {words}. {hint}")
    fooled = [words for words, train in broken.items() if _trials.said(answer, train)[0]]
    shared = "Did you copy? before = tower.state_dict() holds the very tensors that change: clone each, or deepcopy it."
    expect(len(fooled) < len(broken), f"Your test accepts every training, whatever it does. {shared}")
    expect(not fooled, f"Your test accepts {len(fooled)} of {len(broken)} broken trainings. One {''.join(fooled[:1])}")


@exercise("06", "6.3")
def check_rate(answer: Callable) -> None:
    """rate(step, steps, warmup, peak) -> learning rate: up in a line, then down half a cosine."""
    for steps, warmup, peak in ((20, 5, 1e-3), (7, 0, 0.5), (100, 30, 2e-4)):
        up, rest = np.arange(warmup), np.arange(steps - warmup)
        fall, down = rest / len(rest), _half(rest / len(rest))  # all curves in units of the peak
        right = np.append((up + 1) / (warmup + 1), down)  # (steps,)
        try:
            values = [_trials.number(run(answer, step, steps, warmup, peak)) for step in range(steps)]
        except ZeroDivisionError:
            expect(warmup, "warmup may be 0. What do you divide by then? warmup + 1 never is 0.")
            raise
        expect(not close(values, right), "peak is missing: this is a share of it, from 0 to 1.")
        climbs = {
            "Step 0 would have rate 0 and learn nothing: (step + 1) / (warmup + 1).": up / max(warmup, 1),
            "The peak belongs to step = warmup; yours comes one early: (step + 1) / (warmup + 1).": right[:warmup] * (
                1 + 1 / max(warmup, 1)),
            "Whole numbers: // throws the share away. Use /.": 0 * up,
        }  # fmt: skip
        falls = {
            "The cosine begins at step = warmup: subtract it.": _half(np.arange(warmup, steps) / steps),
            "It must end with the steps: divide by (steps - warmup).": _half(rest / steps),
            "A cosine alone becomes negative: (1 + cos(...)) / 2.": np.cos(np.pi * fall),
            "The 1 + is missing before the cosine.": np.cos(np.pi * fall) / 2,
            "Twice too large: 1 + cos(...) begins at 2. Divide by 2.": 2 * down,
            "math.cos takes radians: pi times the share, not 180.": _half(fall * 180 / np.pi),
            "Without pi the cosine only falls to cos(1).": _half(fall / np.pi),
            "It rises: 1 + cos(...), not 1 - cos(...).": 1 - down,
            "This falls in a line; half a cosine is asked.": 1 - fall,
            "A whole period comes up again. Half of it: pi times the share, not 2 pi.": _half(2 * fall),
            "After the warm-up yours stays at the peak. Is the share cut to a whole number?": 0 * fall + 1,
            "0 comes one step early: divide by (steps - warmup).": _half(rest / (len(rest) - 1)),
        }  # fmt: skip
        got = np.array(values) / peak
        for part, mistakes in ((slice(warmup), climbs), (slice(warmup, steps), falls)):
            for message, wrong in mistakes.items():
                expect(close(got[part], right[part]) or not close(got[part], wrong), message)
        for step in np.flatnonzero(~np.isclose(got, right, 1e-5, 1e-5)):
            part = "warm-up" if step < warmup else "cosine"
            asked = f"rate({step}, {steps}, {warmup}, {peak}) is {peak * right[step]:.4g}"
            expect(False, f"{asked}, yours says {values[step]:.4g}. The {part} is wrong.")


@exercise("06", "6.4")
def check_parameter_groups(answer: Callable) -> None:
    """parameter_groups(model, head_rate, tower_rate) -> groups for AdamW."""
    for extra, head_rate, tower_rate in ((None, 1e-3, 1e-5), (nn.Parameter(torch.zeros(())), 5e-4, 2e-5)):
        model = _trials.retriever(extra)
        try:
            rates = _trials.listed(run(answer, model, head_rate, tower_rate), model)
        except RuntimeError as error:
            equal = "size of tensor" in str(error) or "Boolean value of Tensor" in str(error)
            expect(not equal, "`in` and == compare values. Collect id(parameter) in a set.")
            raise
        all_of = "All that is in no tower belongs to the group with head_rate, whatever its name."
        turned = {tower_rate: head_rate, head_rate: tower_rate}
        wanted = {name: tower_rate if "_tower." in name else head_rate for name in rates}
        swapped = all(rates[name] == [turned[rate]] for name, rate in wanted.items())
        expect(not swapped, "The rates are swapped: towers are pretrained and take the small steps, tower_rate.")
        expect(rates["log_scale"], f"log_scale is in no group: the temperature would never learn. {all_of}")
        for name, rate in wanted.items():
            where = "in a tower" if rate == tower_rate else "in no tower"
            expect(rates[name], f"{name} is in no group, and would never learn. {all_of * (rate == head_rate)}")
            expect(len(rates[name]) == 1, f"{name} stands in two groups, which torch refuses. Each belongs to one.")
            hint = " A tower may have a layer called head, too." * (rate == tower_rate and ".head." in name)
            says = f"{name} is {where}: its rate should be {rate}, yours is {rates[name][0]}.{hint}"
            expect(math.isclose(rates[name][0], rate, rel_tol=1e-6), says)


@exercise("06", "6.5")
def check_adamw_gigabytes(answer: object) -> None:
    """134e6 parameters x 4 numbers x 4 bytes: 2.144 GB, rounded as you like."""
    value = _trials.number(answer)
    mistakes = {  # bytes a parameter
        4: "These are the weights alone. Beside each stand its gradient and AdamW's two moments.",
        8: "Two numbers a parameter, or two bytes a number? There are four of each.",
        12: "Three numbers a parameter. There are four: the weight, its gradient and two moments.",
        32: "Eight bytes a number are fp64; fp32 has four.",
        128: "These are gigabits. A byte has eight bits.",
        16e3: "These are megabytes, 10^6. A GB is 10^9 bytes.",
        16e9: "These are bytes. A GB is 10^9 of them.",
        16e9 / 2**30: "These are GiB, of 2^30 bytes. A GB is 10^9.",
    }
    for each, message in mistakes.items():
        expect(not math.isclose(value, each * 0.134, rel_tol=4e-3), message)
    expect(2.1 <= value <= 2.15, f"How many numbers a parameter, how many bytes a number? Yours says {value:.4g}.")


@exercise("06", "6.6")
def check_paired_interval(answer: Callable) -> None:
    """paired_interval(a (Q,), b (Q,), pictures (Q,), seed) -> (difference, low, high)."""
    _trials.either(_try_interval, answer, *_trials.clusters())


def _try_interval(answer: Callable, a, b, pictures) -> None:
    three = "Three numbers are wanted, in a tuple: (difference, low, high)."
    found = [_trials.several(call(answer, a, b, pictures, seed), 3, three) for seed in (1, 2, 3, 4, 1)]
    found = np.array(found)  # (5,3)
    expect(np.isfinite(found).all(), "Your numbers are not finite (inf or nan). Is a draw empty?")
    (difference, low, high), (a, b) = found[:4].mean(axis=0), (np.asarray(hit) for hit in (a, b))
    mean, gain, counts = (b - a).mean(), np.bincount(pictures, b - a), np.bincount(pictures)  # gain, counts (P,)
    expect(not close(difference, -mean), "The sign is turned: by how much is b better than a? b - a.")
    expect(not close(difference, (gain / counts).mean()), "A mean of pictures' means: every query counts once.")
    plain = f"The difference is the mean of b - a, {mean:.4f}, of all queries and no draws. Yours is {difference:.4f}."
    expect(close(difference, mean), plain)
    expect(not (found[:, 1] == found[:, 2]).any(), "low equals high: draw with replacement, and as many as there are.")
    expect(low < high, "low and high are swapped.")
    expect(close(found[0], found[4]), "The same seed gives two intervals: draw from np.random.default_rng(seed) alone.")
    expect(len({*map(tuple, found)}) > 1, "Every seed gives the same draws. Use the argument seed.")
    right, ends = _trials.ends(a, b, pictures)
    jumps = "The ends of your interval jump from seed to seed. Draw 1,000 times or more."
    expect(np.ptp(found[:, 1:], axis=0).max() < 0.14 * np.ptp(right), jumps)
    off = {text: np.abs(one - (low, high)).max() / np.ptp(right) for text, one in ({"": right} | ends).items()}
    nearest = min(off, key=off.get)
    expect(off[""] < 0.06 or off[nearest] > 0.06, nearest)
    percent = "np.percentile takes percent, 2.5 and 97.5; np.quantile takes 0.025 and 0.975."
    expect(low < mean < high, f"The difference itself lies outside of your interval. {percent}")
    right = f"About {right[0]:.3f} to {right[1]:.3f} is right, yours is {low:.3f} to {high:.3f}."
    expect(off[""] < 0.06, f"{right} Are as many pictures drawn as there are?")


@exercise("06", "6.7")
def check_write_whole(answer: Callable) -> None:
    """write_whole(path, pieces) -> None: the new file whole, or the old one."""
    expect(callable(answer), f"Give the check your function itself, not {type(answer).__name__}.")
    with tempfile.TemporaryDirectory() as folder:
        path, moves, seen = Path(folder).resolve() / "weights.bin", [], []
        _trials.write(answer, path, [b"old ", b"weights"], moves)
        expect(path.is_file(), "After a success nothing stands at path. Is the draft renamed to it?")
        expect(path.read_bytes() != b"weights", "Only the last piece is there: open the draft once, write every piece.")
        expect(path.read_bytes() == b"old weights", f"b'old ', b'weights' became {shown(path.read_bytes())}.")
        looks = (seen.append(path.is_file() and path.read_bytes()) or piece for piece in (b"new", b"er"))
        with path.open("rb") as reader:  # of the old file: it must be another than the new one
            _trials.write(answer, path, looks, moves)
            kept, now = reader.read(), path.read_bytes() if path.is_file() else b""
        gone = "The old file is away for a moment, and a kill just then loses both. os.replace needs no deleting."
        expect(False not in seen and path not in moves, gone)
        expect(now != b"old weightsnewer", "The new pieces are appended. Mode 'wb', not 'ab'.")
        half = "You write into the old file itself: a kill on the way leaves half. Write a draft, then os.replace."
        expect(seen == [b"old weights"] * 2 and kept == b"old weights", half)
        expect(now == b"newer", f"b'new', b'er' became {shown(now)}. (A generator can be read only once.)")
        beside = (
            "The draft lies in another folder, perhaps on another disk. Put it beside path: a rename is whole there."
        )
        expect(all(path.parent in one.parents for one in moves), beside)
        expect(os.listdir(folder) == [path.name], f"A draft is left behind: {sorted(os.listdir(folder))}.")
        for place, left in ((path, b"newer"), (path.with_name("first.bin"), None)):
            _trials.fail(answer, place)
            what = f"When the pieces fail, {'the old file' if left else 'nothing'} must stand at path."
            expect((place.read_bytes() if place.is_file() else None) == left, what)
        _trials.write(answer, path, [b"again"], moves)  # a draft of the failure is no obstacle
        after = f"After a failure, writing b'again' gives {shown(path.read_bytes())}. Is the old draft still in it?"
        expect(path.read_bytes() == b"again", after)


@exercise("06", "6.8")
def check_needed(answer: object) -> None:
    """{"weights", "moments", "step", "random state"}, in any collection."""
    reasons = {
        "weights": "Without the weights there is nothing to go on with.",
        "moments": "Without its moments AdamW begins again with averages of zero: its steps are of another size.",
        "step": "Without the step, schedule and batches begin anew.",
        "random state": "Without the generators' state dropout draws other masks.",
        "gradients": "Gradients are not needed: every step wipes them out and makes its own.",
        "activations": "Activations are not needed: they live from a forward pass to its backward pass.",
        "loss so far": "The losses so far make a nice curve, but no weight depends on them.",
    }
    plain = isinstance(answer, (str, dict)) or not hasattr(answer, "__iter__")
    expect(not plain, 'A set of words is wanted, such as {"weights", "step"}.')
    words = {str(word).strip().lower().replace("_", " ") for word in answer}
    expect(words, "The set is empty: a training that goes on from nothing begins anew.")
    expect(words <= reasons.keys(), f"{sorted(words - reasons.keys())} is none of the seven: {', '.join(reasons)}.")
    wrong = words ^ {"weights", "moments", "step", "random state"}
    expect(not wrong, " ".join(reason for word, reason in reasons.items() if word in wrong))


@exercise("06", "6.9")
def check_truly_wrong(answer: Callable) -> None:
    """truly_wrong(scores (M,N), own (M,), true (M,N), k) -> share of the captions that miss every true picture."""
    for seed, (rows, columns), k in ((39, (31, 17), 3), (97, (47, 13), 2)):
        own, (scores, other) = np.arange(rows) % columns, _trials.rows_of(seed, 2, rows, columns).numpy()
        true = (other > 1.2) | (np.arange(columns) == own[:, None])  # (M,N)
        _trials.either(_try_wrong, answer, scores + true.astype(np.float32), own, true, k)


def _try_wrong(answer: Callable, scores, own, true, k: int) -> None:
    value = call(answer, scores, own, true, k)
    scores, true, own = torch.as_tensor(scores), torch.as_tensor(true), torch.as_tensor(own)
    found, hit = _found(scores, true, k), _hits(scores, true, k)  # (M,k), (M,)
    missed, miss = 1 - _hits(scores, torch.arange(scores.shape[1]) == own[:, None], k), 1 - hit  # (M,), (M,)
    mistakes = {
        "Only the caption's own picture is right in yours. `true` says for which others it holds.": missed.mean(),
        "This is the share among the misses. Divide by the number of all captions.": miss.sum() / missed.sum(),
        "These found another picture for which the caption is true. The rest is asked: they found none.": (
            (missed - miss).mean(), 1 - miss.sum() / missed.sum()),
        "This is a count, or percent. A share between 0 and 1 is asked.": (miss.sum(), 100 * miss.mean()),
        "This is the share that is right. 1 minus it is asked.": hit.mean(),
        "One true picture among the k is enough. You ask for k of them.": 1 - found.all(dim=1).double().mean(),
        "k is off by one.": tuple((1 - _hits(scores, true, near)).mean() for near in (k - 1, k + 1)),
        "Only the very best counts in yours. Do you use k?": 1 - _hits(scores, true, 1).mean(),
        "Divide by M, the number of captions.": miss.sum() / scores.shape[1],
        "These are the k worst: the best have the largest scores.": 1 - _hits(-scores, true, k).mean(),
        "Rows are captions here. Each looks for pictures, along dim=1.": 1 - _hits(scores.T, true.T, k).mean(),
        "This is a share of cells. A caption is one thing, however many of its k are wrong.": 1 - found.double().mean(),
    }  # fmt: skip
    otherwise = f"Of {len(scores)} captions {int(miss.sum())} have no true picture among their {k} best."
    judge(value, miss.mean(), mistakes, otherwise)


@exercise("06", "6.10")
def check_parts(answer: Callable) -> None:
    """parts(encode, words, z_img (E,)) -> (W,): by how much the score falls without each word."""
    z_img = normalize(_trials.rows_of(3, 16), dim=0)  # (E,)
    for words in ("a pig left of a boat".split(), ["red", "fish"]):
        places = range(len(words))
        whole, without, alone, begun = (_scores(rows, z_img) for rows in (
            [words], [words[:i] + words[i + 1 :] for i in places], [[word] for word in words],
            [words[: i + 1] for i in places]))  # fmt: skip
        wanted = whole - without  # (W,)
        first = [words[: words.index(word)] + words[words.index(word) + 1 :] for word in words]
        glued = _scores([words, *(words[:i] + words[i + 1 :] for i in places)], z_img, "")
        place = "Leave out the word at place i: words[:i] + words[i + 1:]."
        mistakes = {
            "The sign is turned: the whole sentence's score minus the score without the word.": -wanted,
            "These are the scores without each word. Subtract them from the whole sentence's.": without,
            "This is each word's own score. What does the sentence lose without the word?": alone,
            f"Equal words go together in yours. {place}": whole - _scores(
                [[one for one in words if one != word] for word in words], z_img),
            f"words.remove takes the first of equal words. {place}": whole - _scores(first, z_img),
            "Put a blank between the words: ' '.join(...).": (glued[0] - glued[1:], whole - glued[1:]),
            "A word may lower the score, so a part has a sign: no abs.": wanted.abs(),
            "Parts need not add up to anything: do not divide them.": (
                wanted / wanted.sum(), wanted / whole, wanted.softmax(dim=0)),
            f"The words after it stay. {place}": (whole - begun, begun.diff(prepend=0 * whole)),
            f"Nothing is left out in yours. {place}": 0 * wanted,
        }  # fmt: skip
        given = list(words)
        try:
            value = run(answer, _trials.encode, given, z_img.clone())
        finally:  # it may well have stopped for that
            expect(given == words, f"Your function changes its list of words. {place}")
        fewer = isinstance(value, dict) or np.ndim(value) == 1 and len(value) == len({*words}) < len(words)
        expect(not fewer, f"One number for each word, also where a word comes twice. {place}")
        judge(value, wanted, mistakes, f"For {' '.join(words)!r}: the score of all words minus that without one.")


def _scores(rows: list[list[str]], z_img: torch.Tensor, blank: str = " ") -> torch.Tensor:
    return _trials.encode([blank.join(row) for row in rows]) @ z_img  # (n,E) @ (E,) -> (n,)


def _found(scores: torch.Tensor, right: torch.Tensor, k: int) -> torch.Tensor:
    return right.gather(1, scores.topk(k, dim=1).indices)  # (Q,k) which of the k best are right


def _hits(scores: torch.Tensor, right: torch.Tensor, k: int) -> torch.Tensor:
    return _found(scores, right, k).any(dim=1).double()  # (Q,)


def _half(share: np.ndarray) -> np.ndarray:
    return (1 + np.cos(np.pi * share)) / 2
