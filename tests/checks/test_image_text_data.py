"""Checks of lesson 05: the solution and other spellings pass, what people really write is named, nothing leaks."""

import random
import re
from collections import Counter
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
import torch
from contract import Contract, by_number
from torch.nn.utils.rnn import pad_sequence

from course_utils.checks import image_text_data as checks
from course_utils.checks._outcome import WrongAnswer
from course_utils.checks._splits import a_split

BY_NUMBER = by_number(checks)
VALUES = ("5.8",)  # exercises whose answer is a value


# 5.1


def read_split(content, split):
    filenames, texts, owners = [], [], []
    for image in content["images"]:
        if image["split"] != split:
            continue
        for sentence in image["sentences"]:
            texts.append(sentence["raw"])
            owners.append(len(filenames))
        filenames.append(image["filename"])
    return filenames, texts, owners


def read_split_repeat(content, split):
    mine = [image for image in content["images"] if image["split"] == split]
    texts = [sentence["raw"] for image in mine for sentence in image["sentences"]]
    owners = np.repeat(np.arange(len(mine)), [len(image["sentences"]) for image in mine])
    return [np.array([image["filename"] for image in mine]), tuple(texts), torch.from_numpy(owners)]


def read_with(
    owner=lambda k, row, image: row, text=lambda s: s["raw"], keep=None, name=lambda image: image["filename"]
):
    """read_split with one thing wrong. owner(k in the file, row in the split, image)."""

    def wrong(content, split):
        images = [(k, image) for k, image in enumerate(content["images"]) if image["split"] == split]
        images = keep(list(enumerate(content["images"])), split) if keep else images
        filenames = [name(image) for _, image in images]
        texts = [text(sentence) for _, image in images for sentence in image["sentences"]]
        owners = [owner(k, row, image) for row, (k, image) in enumerate(images) for _ in image["sentences"]]
        return filenames, texts, owners

    return wrong


def changed(change):
    """The right answer, changed afterwards: change(filenames, texts, owners, content)."""
    return lambda content, split: change(*read_split(content, split), content)


def first_captions(content, split):
    mine = [image for image in content["images"] if image["split"] == split]
    names = [image["filename"] for image in mine]
    return names, [image["sentences"][0]["raw"] for image in mine], list(range(len(mine)))


def five_captions(content, split):
    mine = [image for image in content["images"] if image["split"] == split]
    texts = [sentence["raw"] for image in mine for sentence in image["sentences"][:5]]
    return [image["filename"] for image in mine], texts, [k // 5 for k in range(len(texts))]


def nested(content, split):
    mine = [image for image in content["images"] if image["split"] == split]
    names = [image["filename"] for image in mine]
    return names, [[s["raw"] for s in image["sentences"]] for image in mine], list(range(len(mine)))


def pops(content, split):
    names, texts, owners = read_split(content, split)
    for image in content["images"]:
        image.pop("sentids")
    return names, texts, owners


# 5.2


def words(caption):
    return re.findall(r"[a-z]+", caption.lower())


def overlap(a, b):
    a, b = set(words(a)), set(words(b))
    return len(a & b) / len(a | b)


def overlap_replace(a, b):
    a, b = (set(one.lower().replace(",", "").replace(".", "").split()) for one in (a, b))
    return np.float32(sum(word in b for word in a) / (len(a) + len(b) - len(a & b)))


def overlap_strip(a, b):
    a, b = ({word.strip(".,!?").casefold() for word in one.split()} for one in (a, b))
    return torch.tensor(len(a.intersection(b)) / len(a.union(b)))


def overlap_with(cut, score=lambda a, b: len(a & b) / len(a | b)):
    return lambda a, b: score(set(cut(a)), set(cut(b)))


def multiset(a, b):
    a, b = Counter(words(a)), Counter(words(b))
    return (a & b).total() / (a | b).total()


# 5.3


def split_by_picture(owners, share, seed):
    pictures = np.random.default_rng(seed).permutation(np.unique(owners))
    test = np.isin(owners, pictures[: round(share * len(pictures))])
    return np.flatnonzero(~test), np.flatnonzero(test)


def split_by_picture_lists(owners, share, seed):
    pictures = sorted(set(owners.tolist()))
    test = set(random.Random(seed).sample(pictures, int(share * len(pictures))))
    return {k for k, one in enumerate(owners) if one not in test}, [k for k, one in enumerate(owners) if one in test]


def split_by_picture_torch(owners, share, seed):
    pictures, index = torch.unique(torch.as_tensor(owners), return_inverse=True)
    order = torch.randperm(len(pictures), generator=torch.Generator().manual_seed(seed))
    held = torch.isin(index, order[: round(share * len(pictures))])
    return torch.nonzero(~held)[:, 0], torch.nonzero(held)[:, 0]


def split_captions(owners, share, seed):
    order = np.random.default_rng(seed).permutation(len(owners))
    cut = round(share * len(owners))
    return order[cut:], order[:cut]


def split_slice(owners, share, seed):
    cut = int((1 - share) * len(owners))
    return np.arange(cut), np.arange(cut, len(owners))


def split_ids(owners, share, seed):
    pictures = np.random.default_rng(seed).permutation(np.unique(owners))
    cut = round(share * len(pictures))
    return pictures[cut:], pictures[:cut]


def split_owners(owners, share, seed):
    train, test = split_by_picture(owners, share, seed)
    return owners[train], owners[test]


def split_first_only(owners, share, seed):
    first = np.unique(owners, return_index=True)[1]
    return tuple(np.intersect1d(side, first) for side in split_by_picture(owners, share, seed))


def split_masks(owners, share, seed):
    _, test = split_by_picture(owners, share, seed)
    return ~np.isin(np.arange(len(owners)), test), np.isin(np.arange(len(owners)), test)


def split_at_end(owners, share, seed, end=-1):
    pictures = list(dict.fromkeys(owners.tolist()))[::-end]
    test = np.isin(owners, pictures[-round(share * len(pictures)) :])
    return np.flatnonzero(~test), np.flatnonzero(test)


def split_coins(owners, share, seed):
    pictures = np.unique(owners)
    test = np.isin(owners, pictures[np.random.default_rng(seed).random(len(pictures)) < share])
    return np.flatnonzero(~test), np.flatnonzero(test)


def split_with_return(owners, share, seed):
    pictures = np.unique(owners)
    test = np.isin(owners, np.random.default_rng(seed).choice(pictures, round(share * len(pictures))))
    return np.flatnonzero(~test), np.flatnonzero(test)


def split_global(owners, share, seed):
    pictures = np.random.permutation(np.unique(owners))
    test = np.isin(owners, pictures[: round(share * len(pictures))])
    return np.flatnonzero(~test), np.flatnonzero(test)


def split_seeds_all(owners, share, seed):
    np.random.seed(seed)
    return split_global(owners, share, seed)


def split_torch_seeds_all(owners, share, seed):
    torch.manual_seed(seed)
    pictures = np.unique(owners)[torch.randperm(len(np.unique(owners))).numpy()]
    test = np.isin(owners, pictures[: round(share * len(pictures))])
    return np.flatnonzero(~test), np.flatnonzero(test)


class Counting:
    """A split that goes on drawing from one generator."""

    def __init__(self):
        self.rng = np.random.default_rng(0)

    def __call__(self, owners, share, seed):
        return split_by_picture(owners, share, int(self.rng.integers(100)))


# 5.4


def tried(sound, sizes=(3, 5, 6, 1, 4, 5, 5, 2), shares=(0.2, 0.3, 0.5), seeds=range(8)):
    """A learner's test: `sound(owners, train, test)` for pictures of these sizes, all shares and seeds."""

    def is_sound(split):
        owners = np.repeat(np.arange(len(sizes)), sizes)
        return all(sound(owners, *split(owners, share, seed)) for share in shares for seed in seeds)

    return is_sound


def three_things(owners, train, test):
    whole = sorted([*train, *test]) == list(range(len(owners)))
    return whole and bool(len(train)) and bool(len(test)) and not set(owners[train]) & set(owners[test])


def is_sound(split):
    rng = np.random.default_rng(0)
    for seed in range(20):
        owners = np.repeat(np.arange(30), rng.integers(1, 8, 30))
        train, test = split(owners, 0.25, seed)
        both = np.concatenate([train, test])
        if len(train) == 0 or len(test) == 0 or not np.array_equal(np.sort(both), np.arange(len(owners))):
            return False
        if np.intersect1d(owners[train], owners[test]).size:
            return False
    return True


def no_picture_on_both(owners, train, test):
    return not set(owners[train]) & set(owners[test])


def asserts(split):
    owners = np.repeat(np.arange(9), 5)
    train, test = split(owners, 0.3, 0)
    assert not set(owners[train]) & set(owners[test])
    return True


# 5.5


def pad(rows, pad_id):
    lengths = torch.tensor([len(row) for row in rows])
    tokens = torch.full((len(rows), int(lengths.max())), pad_id)
    for row, sentence in zip(tokens, rows):
        row[: len(sentence)] = torch.tensor(sentence)
    return tokens, torch.arange(tokens.shape[1]) < lengths[:, None]


def pad_sequences(rows, pad_id):
    tokens = pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=pad_id)
    return tokens, pad_sequence([torch.ones(len(row), dtype=torch.bool) for row in rows], batch_first=True)


def pad_lists(rows, pad_id):
    most = max(map(len, rows))
    tokens = [row + [pad_id] * (most - len(row)) for row in rows]
    return [torch.tensor(tokens), torch.tensor([[k < len(row) for k in range(most)] for row in rows])]


def padded(change):
    """The right answer, changed: change(tokens, mask, rows, pad_id)."""
    return lambda rows, pad_id: change(*pad(rows, pad_id), rows, pad_id)


def pad_to(length):
    def wrong(rows, pad_id):
        length_here = length(rows)
        tokens = torch.tensor([(row + [pad_id] * 200)[:length_here] for row in rows])
        return tokens, torch.arange(length_here) < torch.tensor([len(row) for row in rows])[:, None]

    return wrong


def pad_left(rows, pad_id):
    tokens, mask = pad([row[::-1] for row in rows], pad_id)
    return tokens.flip(1), mask.flip(1)


def pad_in_place(rows, pad_id):
    lengths, most = [len(row) for row in rows], max(map(len, rows))
    for row in rows:
        row += [pad_id] * (most - len(row))
    return torch.tensor(rows), torch.arange(most) < torch.tensor(lengths)[:, None]


# 5.6

SIDE = re.compile(r"\b(left|right)(most|wards?|hand|side)?\b", re.IGNORECASE)


def names_a_side(caption):
    return bool(SIDE.search(caption))


def names_a_side_words(caption):
    sides = {a + b for a in ("left", "right") for b in ("", "most", "ward", "wards", "hand", "side")}
    return any(word in sides for word in re.findall("[a-z]+", caption.lower()))


def names_a_side_numpy(caption):
    return np.bool_(SIDE.search(caption) is not None)


# 5.7


def view(square, top, left, size, mirrored):
    crop = square[top : top + size, left : left + size]
    crop = crop[:, ::-1].copy() if mirrored else crop
    return torch.from_numpy(crop).permute(2, 0, 1).float() / 255


def view_torch(square, top, left, size, mirrored):
    image = torch.from_numpy(square).movedim(-1, 0)[:, top : top + size, left : left + size] / 255
    return image.flip(-1) if mirrored else image


def view_numpy(square, top, left, size, mirrored):
    crop = square[top : top + size, left : left + size].astype(np.float32) / 255
    return (np.fliplr(crop) if mirrored else crop).transpose(2, 0, 1)


def seen(change):
    """The right answer, changed: change(image (3,S,S), mirrored)."""
    return lambda square, top, left, size, mirrored: change(view(square, top, left, size, mirrored), mirrored)


def mirrored_first(square, top, left, size, mirrored):
    return view(np.ascontiguousarray(square[:, ::-1]) if mirrored else square, top, left, size, False)


def as_crop(change):
    def wrong(square, top, left, size, mirrored):
        crop = square[top : top + size, left : left + size]
        return torch.from_numpy(change(crop[:, ::-1] if mirrored else crop, size).copy()).float() / 255

    return wrong


def to_the_end(square, top, left, size, mirrored):
    return torch.from_numpy(square[top:size, left:size].copy()).permute(2, 0, 1) / 255


def negative_strides(square, top, left, size, mirrored):
    crop = square[top : top + size, left : left + size][:, :: -1 if mirrored else 1]
    return torch.from_numpy(crop).permute(2, 0, 1).float() / 255


def divides_in_place(square, top, left, size, mirrored):
    image = view(square, top, left, size, mirrored)
    square[top : top + size, left : left + size] //= 2
    return image


# 5.9


def batch_rows(number, pictures, batch_size, seed):
    rounds = pictures // batch_size
    order = np.random.default_rng([seed, number // rounds]).permutation(pictures)
    start = number % rounds * batch_size
    return order[start : start + batch_size]


def batch_rows_torch(number, pictures, batch_size, seed):
    turn, place = divmod(number, pictures // batch_size)
    generator = torch.Generator().manual_seed(1_000_003 * seed + turn)
    return torch.randperm(pictures, generator=generator)[place * batch_size : (place + 1) * batch_size]


def batch_rows_advanced(number, pictures, batch_size, seed):
    turn, place = divmod(number, pictures // batch_size)
    rng = random.Random(seed)
    order = list(range(pictures))
    for _ in range(turn + 1):
        rng.shuffle(order)
    return order[place * batch_size : (place + 1) * batch_size]


def ordered(make):
    """Batches out of make(round, pictures, seed), an order of the pictures."""

    def rows(number, pictures, batch_size, seed):
        turn, place = divmod(number, pictures // batch_size)
        return list(make(turn, pictures, seed))[place * batch_size : (place + 1) * batch_size]

    return rows


def seeds_all(turn, pictures, seed):
    np.random.seed(100 * seed + turn)
    return np.random.permutation(pictures)


def draws_each(number, pictures, batch_size, seed):
    return np.random.default_rng([seed, number]).choice(pictures, batch_size, replace=False)


def draws_with_return(number, pictures, batch_size, seed):
    return np.random.default_rng([seed, number]).integers(0, pictures, batch_size)


def keeps_short(number, pictures, batch_size, seed):
    rounds = -(-pictures // batch_size)
    order = np.random.default_rng([seed, number // rounds]).permutation(pictures)
    return order[number % rounds * batch_size :][:batch_size]


def wraps(number, pictures, batch_size, seed):
    order = np.random.default_rng(seed).permutation(pictures)
    return order[np.arange(number * batch_size, (number + 1) * batch_size) % pictures]


def wraps_anew(number, pictures, batch_size, seed):
    places = range(number * batch_size, (number + 1) * batch_size)
    return [np.random.default_rng([seed, k // pictures]).permutation(pictures)[k % pictures] for k in places]


def runs_out(number, pictures, batch_size, seed):
    return np.random.default_rng(seed).permutation(pictures)[number * batch_size : (number + 1) * batch_size]


def shuffles_batches(number, pictures, batch_size, seed):
    turn, place = divmod(number, pictures // batch_size)
    start = np.random.default_rng([seed, turn]).permutation(pictures // batch_size)[place] * batch_size
    return range(start, start + batch_size)


def drops_first(number, pictures, batch_size, seed):
    return batch_rows(number, pictures // batch_size * batch_size, batch_size, seed)


class Cached:
    """Orders from the shared generator, kept between calls."""

    def __init__(self):
        self.orders = {}

    def __call__(self, number, pictures, batch_size, seed):
        turn, place = divmod(number, pictures // batch_size)
        order = self.orders.setdefault((turn, seed, pictures), np.random.permutation(pictures))
        return order[place * batch_size : (place + 1) * batch_size]


class Going:
    """Goes on with one generator, so that a batch depends on what was asked before."""

    def __init__(self):
        self.rng = np.random.default_rng(0)

    def __call__(self, number, pictures, batch_size, seed):
        return self.rng.permutation(pictures)[:batch_size]


# 5.10


def key_of(name):
    folder, slash, base = name.rpartition("/")
    key, _, extension = base.partition(".")
    return folder + slash + key, extension


def samples(members, cut=key_of):
    found = []
    for name, content in members:
        key, extension = cut(name)
        if not found or found[-1][0] != key:
            found.append((key, {}))
        found[-1][1][extension] = content
    return found


def samples_dict(members):
    found = {}
    for name, content in members:
        match = re.fullmatch(r"((?:.*/)?[^./]+)\.([^/]+)", name)
        found.setdefault(match[1], {})[match[2]] = content
    return found


def samples_groupby(members):
    grouped = groupby(members, key=lambda member: key_of(member[0])[0])
    return [[key, {key_of(name)[1]: content for name, content in some}] for key, some in grouped]


def by_pairs(members):
    return [(key_of(a)[0], {key_of(a)[1]: x, key_of(b)[1]: y}) for (a, x), (b, y) in zip(members[::2], members[1::2])]


def sampled(change):
    return lambda members: change(samples(members))


GIGABYTES = 31_014 * 256 * 256 * 3 / 1e9

RIGHT = [
    ("5.1", [read_split, read_split_repeat]),
    ("5.2", [overlap, overlap_replace, overlap_strip]),
    ("5.3", [split_by_picture, split_by_picture_lists, split_by_picture_torch]),
    ("5.4", [is_sound, tried(three_things), lambda split: np.bool_(tried(three_things)(split))]),
    ("5.5", [pad, pad_sequences, pad_lists]),
    ("5.6", [names_a_side, names_a_side_words, names_a_side_numpy]),
    ("5.7", [view, view_torch, view_numpy]),
    ("5.8", [GIGABYTES, 6.1, 6.098, np.float64(6.0977), torch.tensor(6.10)]),
    ("5.9", [batch_rows, batch_rows_torch, batch_rows_advanced]),
    ("5.10", [samples, samples_dict, samples_groupby]),
]

WRONG = {
    "5.1": [
        (read_with(keep=lambda images, split: images), "pictures of all splits"),
        (
            read_with(keep=lambda images, split: images[:5] if split == "train" else images[5:]),
            "no stretch of the file",
        ),
        (changed(lambda n, t, o, c: (sorted(n), t, o)), "sorted the pictures"),
        (changed(lambda n, t, o, c: (set(n), t, o)), "filenames is a set"),
        (changed(lambda n, t, o, c: ([n[k] for k in o], t, o)), "not once for each caption"),
        (read_with(name=lambda image: image["imgid"]), "picture numbers. Their names"),
        (changed(lambda n, t, o, c: (t, n, o)), "The order is filenames"),
        (nested, "texts is nested"),
        (first_captions, "One caption of each picture"),
        (five_captions, "more than five captions"),
        (read_with(text=lambda s: s["tokens"]), "These are tokens"),
        (read_with(text=lambda s: " ".join(s["tokens"])), "These are tokens"),
        (read_with(text=lambda s: s), "sentence entries"),
        (read_with(text=lambda s: s["sentid"]), r"texts\[0\] should be 'Z, a big owl.', yours is 9"),
        (read_with(owner=lambda k, row, image: image["imgid"]), "picture numbers, imgid"),
        (read_with(owner=lambda k, row, image: k), "counted all pictures"),
        (changed(lambda n, t, o, c: (n, t, [k // 5 for k in range(len(t))])), "Not five captions a picture"),
        (changed(lambda n, t, o, c: (n, t, np.repeat(np.arange(len(n)), 5))), "Not five captions a picture"),
        (changed(lambda n, t, o, c: (n, t, [[k] * o.count(k) for k in range(len(n))])), "owners is nested"),
        (changed(lambda n, t, o, c: (n, t, range(len(n)))), "One owner for each caption"),
        (changed(lambda n, t, o, c: (n, t, range(len(t)))), "Captions of one picture share"),
        (read_with(owner=lambda k, row, image: row + 1), "counted from 0"),
        (read_with(owner=lambda k, row, image: image["filename"]), "These are names"),
        (changed(lambda n, t, o, c: (n, t)), "Three things"),
        (changed(lambda n, t, o, c: dict(zip(n, t))), "Three things"),
        (changed(lambda n, t, o, c: (n, " ".join(t), o)), "texts should be a list"),
        (changed(lambda n, t, o, c: (n, t, [*o, 2])), "owners should have 8 entries, yours has 9"),
        (pops, "changes its inputs"),
        (lambda content, split: [image["captions"] for image in content["images"]], "stopped in line .*KeyError"),
    ],
    "5.2": [
        (overlap_with(str.split), "Capitals make two words"),
        (overlap_with(lambda s: re.findall("[A-Za-z]+", s)), "Capitals make two words"),
        (overlap_with(lambda s: s.lower().split()), "Punctuation sticks"),
        (overlap_with(lambda s: s), "These are letters"),
        (overlap_with(lambda s: s.lower()), "These are letters"),
        (multiset, "comes twice counts twice"),
        (
            lambda a, b: sum(word in words(b) for word in words(a)) / len({*words(a), *words(b)}),
            "comes twice counts twice",
        ),
        (overlap_with(lambda s: re.findall("[a-z]+", s)), "Capitals make two words of one, or vanish"),
        (lambda a, b: round(overlap(a, b), 2), "You rounded"),
        (overlap_with(words, lambda a, b: len(a & b) // len(a | b)), "// drops"),
        (overlap_with(words, lambda a, b: len(a & b) / max(1, len(a ^ b))), "only one of them has"),
        (overlap_with(words, lambda a, b: len(a & b) / len(a)), "words of one caption"),
        (overlap_with(words, lambda a, b: len(a & b) / min(len(a), len(b))), "words of one caption"),
        (overlap_with(words, lambda a, b: len(a & b) / max(len(a), len(b))), "words of one caption"),
        (overlap_with(words, lambda a, b: 2 * len(a & b) / (len(a) + len(b))), "Shared words count twice"),
        (overlap_with(words, lambda a, b: len(a & b) / (len(a) + len(b))), "Shared words count twice"),
        (overlap_with(words, lambda a, b: len(a & b)), "how many words they share"),
        (overlap_with(words, lambda a, b: 1 - len(a & b) / len(a | b)), "distance"),
        (overlap_with(words, lambda a, b: 100 * len(a & b) / len(a | b)), "percent"),
        (overlap_with(words, lambda a, b: a & b), "of 13 words"),
        (lambda a, b: 0.75, "share 4 of 13 words. Yours says 0.75"),
    ],
    "5.3": [
        (split_captions, "pictures are on both sides: you split captions"),
        (split_slice, "The cut goes through a picture"),
        (split_ids, "These are picture ids"),
        (split_owners, "These are picture ids"),
        (split_first_only, "on neither side. A picture brings all"),
        (split_masks, "These are masks"),
        (lambda o, s, r: split_by_picture(o, s, r)[::-1], "sides are swapped"),
        (lambda o, s, r: split_by_picture(o, s / 3, r), "3 of 12 pictures should be in test, yours has 1"),
        (split_coins, "3 of 12 pictures should be in test, yours has .*Toss no coin"),
        (split_with_return, "yours has .*draw none twice"),
        (lambda o, s, r: tuple((side,) for side in split_by_picture(o, s, r)), "np.where"),
        (split_at_end, "one end"),
        (lambda o, s, r: split_at_end(o, s, r, end=1), "one end"),
        (lambda o, s, r: split_by_picture(o, s, 3), "Four seeds gave one split"),
        (split_global, "Asked again, yours gives something else|random generators that all code shares"),
        (split_seeds_all, "random generators that all code shares"),
        (split_torch_seeds_all, "random generators that all code shares"),
        (Counting(), "Asked again"),
        (lambda o, s, r: split_by_picture(o, s, r)[1], "Two things are wanted"),
        (lambda o, s, r: (np.arange(len(o)), split_by_picture(o, s, r)[1]), "Some captions are on both sides"),
        (lambda o, s, r: (np.arange(len(o)), []), "One side is empty"),
        (lambda o, s, r: tuple(side + 1 for side in split_by_picture(o, s, r)), "numbered 0 to 58"),
        (lambda o, s, r: tuple(side / 1 for side in split_by_picture(o, s, r)), "whole numbers"),
        (lambda o, s, r: tuple(o[side].reshape(-1, 1) for side in split_by_picture(o, s, r)), "whole numbers"),
        (lambda o, s, r: tuple(np.append(side, side[0]) for side in split_by_picture(o, s, r)), "twice on one side"),
    ],
    "5.4": [
        (lambda split: True, "never calls the split"),
        (lambda split: is_sound(split_by_picture), "never calls the split"),
        (tried(lambda owners, train, test: True), "accepts every split"),
        (tried(lambda owners, train, test: len(test) >= 0), "accepts every split"),
        (tried(lambda owners, train, test: False), "rejects a sound split, one with the exact share"),
        (tried(three_things, sizes=(4,)), "rejects a sound split.* Of one picture nothing"),
        (tried(lambda o, a, b: three_things(o, a, b) and sorted(a) == list(a)), "any order"),
        (
            tried(lambda o, a, b: three_things(o, a, b) and len(set(o[b])) == max(1, round(0.2 * 8)), shares=(0.2,)),
            "about",
        ),
        (tried(no_picture_on_both), "accepts 2 of 8 broken splits. One loses captions"),
        (tried(lambda o, a, b: no_picture_on_both(o, a, b) and len(a) + len(b) == len(o)), "accepts 1 of 8.*empty"),
        (tried(lambda o, a, b: not set(a) & set(b)), "accepts [67] of 8"),
        (tried(three_things, sizes=[5] * 10, shares=(0.2,)), "accepts 2 of 8.*cuts one picture in two.*3, 5 and 6"),
        (tried(lambda o, a, b: len(b) > 0 and not np.isin(o[b[:1]], o[a])), "of 8 broken splits"),
        (asserts, "return True or False, no assert|raised AssertionError"),
        (tried(lambda o, a, b: True) and (lambda split: split(np.arange(3), 0.5, 0)), "Return True or False"),
        (lambda split: print(split(np.arange(3), 0.5, 0)), "gave back nothing"),
        (lambda split: split(5, 0.5, 0), "stopped"),
    ],
    "5.5": [
        (padded(lambda t, m, rows, pad_id: (t, t != pad_id)), "make the mask from lengths"),
        (padded(lambda t, m, rows, pad_id: (t, ~m)), "turned round"),
        (padded(lambda t, m, rows, pad_id: (t, t == pad_id)), "turned round"),
        (padded(lambda t, m, rows, pad_id: (t, torch.ones_like(m))), "True everywhere"),
        (padded(lambda t, m, rows, pad_id: (t, m.long())), "should be bool, yours is torch.int64"),
        (padded(lambda t, m, rows, pad_id: (t, m.float())), "should be bool, yours is torch.float32"),
        (padded(lambda t, m, rows, pad_id: (t.float(), m)), "torch.long; yours is torch.float32"),
        (padded(lambda t, m, rows, pad_id: (t.int(), m)), "torch.long; yours is torch.int32"),
        (padded(lambda t, m, rows, pad_id: (t.tolist(), m.tolist())), "Two tensors"),
        (padded(lambda t, m, rows, pad_id: (t.numpy(), m.numpy())), "Two tensors"),
        (padded(lambda t, m, rows, pad_id: t), "Two things"),
        (padded(lambda t, m, rows, pad_id: (t, m[:, :1])), "shape should be"),
        (padded(lambda t, m, rows, pad_id: (t, m[:1].expand(m.shape))), "one row alone"),
        (padded(lambda t, m, rows, pad_id: (t.flatten(), m)), "shape should be"),
        (padded(lambda t, m, rows, pad_id: (t.T, m.T)), "batch_first"),
        (padded(lambda t, m, rows, pad_id: (t, m.T)), "shape should be"),
        (padded(lambda t, m, rows, pad_id: (t, m | m.roll(1, 1))), "One column too many|turned|real"),
        (padded(lambda t, m, rows, pad_id: (t, torch.arange(t.shape[1]) <= m.sum(1, True))), "One column too many"),
        (pad_to(lambda rows: 200), "200 columns; the longest row has 5"),
        (pad_to(lambda rows: 77), "77 columns"),
        (pad_to(lambda rows: max(map(len, rows)) + 1), "6 columns"),
        (pad_to(lambda rows: min(map(len, rows))), "cut to 2 columns"),
        (pad_left, "on the left"),
        (lambda rows, pad_id: (pad(rows, 0)[0], pad(rows, pad_id)[1]), "filled up with 0"),
        (pad_in_place, "changes its inputs. Make new lists"),
        (lambda rows, pad_id: (torch.tensor(rows), None), "stopped"),
    ],
    "5.6": [
        (lambda c: "left" in c or "right" in c, "Left of a boat.*any case"),
        (lambda c: "left" in c.lower() or "right" in c.lower(), "bright.*whole words"),
        (lambda c: "left" in c.lower(), "'a pig right of a boat' should give True"),
        (lambda c: "left of" in c.lower() or "right of" in c.lower(), "not the only way"),
        (lambda c: bool({"left", "right"} & set(c.lower().split())), "Punctuation ends a word"),
        (lambda c: bool({"left", "right"} & set(words(c))), "leftmost.*names a side, too"),
        (lambda c: bool(re.search(r"\b(left|right)(most)?\b", c.lower())), "leftwards"),
        (lambda c: bool(re.search(r"\b(left|right)", c.lower())), "leftovers.*whole words"),
        (lambda c: bool(re.search(r"\b(left|right)(most|wards?|hand|side)?\b", c)), "any case"),
        (lambda c: not names_a_side(c), "wrong way round"),
        (lambda c: bool(re.match(r"\b(left|right)\b", c, re.I)), "search, not match"),
        (lambda c: bool(re.search("\b(left|right)\b", c, re.I)), "a raw string"),
        (True, "your function itself"),
        (SIDE.search, r"Return True or False, not .*bool\(...\)"),
        (SIDE.findall, "Return True or False"),
        (lambda c: len(SIDE.findall(c)), "Return True or False, not 1"),
        (lambda c: None, "True or False, not None"),
        (lambda c: True, "'a big drum' should give False"),
    ],
    "5.7": [
        (seen(lambda x, m: x.flip(1) if m else x), "turned rows and columns"),
        (seen(lambda x, m: x.flip(-1).flip(1) if m else x), "Upside down"),
        (seen(lambda x, m: x.flip(0) if m else x), "colours"),
        (seen(lambda x, m: x.flip(-1)), "is mirrored, against"),
        (seen(lambda x, m: x.flip(-1) if m else x), "is not mirrored, against"),
        (mirrored_first, "mirrored first"),
        (as_crop(lambda crop, size: crop.reshape(3, size, size)), "reshape scrambles"),
        (as_crop(lambda crop, size: crop.transpose(2, 1, 0)), "changed places"),
        (as_crop(lambda crop, size: crop), "Channels come first"),
        (
            lambda s, t, left, n, m: torch.tensor(s).permute(2, 0, 1)[t : t + n, left : left + n] / 255,
            "dimension 1, col",
        ),
        (seen(lambda x, m: x * 255), "0 to 255"),
        (seen(lambda x, m: (x * 255).to(torch.uint8)), "0 to 255"),
        (seen(lambda x, m: x.floor()), "Whole-number division"),
        (seen(lambda x, m: (x * 255).to(torch.uint8) // 255), "Whole-number division"),
        (lambda s, top, left, size, m: view(s, left, top, size, m), "top and left are swapped"),
        (to_the_end, "size is no end"),
        (seen(lambda x, m: 2 * x - 1), "not \\[-1, 1\\]"),
        (seen(lambda x, m: x.double()), "yours is torch.float64"),
        (seen(lambda x, m: x.numpy().astype(float)), "yours is float64"),
        (seen(lambda x, m: x.half()), "yours is torch.float16"),
        (seen(lambda x, m: x.tolist()), "A tensor or an array"),
        (seen(lambda x, m: x[None]), "shape should be"),
        (seen(lambda x, m: (x - 0.45) / 0.22), "Rows 2 to 6, columns 1 to 5"),
        (negative_strides, "stopped in line .* negative.* making a copy"),
        (divides_in_place, "changes its inputs"),
    ],
    "5.8": [
        (GIGABYTES / 3, "three channels"),
        (2.03, "three channels"),
        (24.4, "float32 would take that"),
        (6100, "bytes or MB"),
        (6.25, "All 31,783"),
        (5.7, "These are GiB"),
        (7, "Multiply pictures"),
        (GIGABYTES * 4, "float32 would take that"),
        (31_783 * 256 * 256 * 3 / 1e9, "All 31,783"),
        (GIGABYTES * 1e9 / 2**30, "These are GiB"),
        (5.68, "These are GiB"),
        (31_014 * 224 * 224 * 3 / 1e9, "Side 224"),
        (31_014 * 256 * 256 * 3, "bytes or MB"),
        (6097.711104, "bytes or MB"),
        (GIGABYTES * 8, "bits"),
        (29_000 * 256 * 256 * 3 / 1e9, "29,000|GiB"),
        (31_014 * 256 * 3 / 1e9, "a side is missing"),
        (6, "Rounded too far"),
        ("6.1 GB", "Yours says '6.1 GB'"),
        ((6.1,), "Multiply pictures"),
        (float("inf"), "not finite"),
    ],
    "5.9": [
        (ordered(lambda turn, n, seed: np.random.default_rng(seed).permutation(n)), "Every round has the same order"),
        (ordered(lambda turn, n, seed: np.random.default_rng(turn).permutation(n)), "Two seeds gave one series"),
        (ordered(lambda turn, n, seed: np.random.default_rng(seed + turn).permutation(n)), "Give default_rng the list"),
        (ordered(lambda turn, n, seed: np.random.default_rng(seed * turn).permutation(n)), "Every round|Two seeds"),
        (ordered(lambda turn, n, seed: np.random.permutation(n)), "Asked again|all code shares"),
        (ordered(lambda turn, n, seed: torch.randperm(n)), "Asked again|all code shares"),
        (ordered(lambda turn, n, seed: random.sample(range(n), n)), "Asked again|all code shares"),
        (ordered(seeds_all), "all code shares"),
        (ordered(lambda turn, n, seed: range(n)), "file's order"),
        (draws_each, "twice in one round"),
        (draws_with_return, "holds a picture twice"),
        (keeps_short, "Batch 3 has 1 rows, not 3"),
        (wraps, "twice in one round|again|same"),
        (wraps_anew, "twice"),
        (runs_out, "Batch 3 has 1 rows|is empty"),
        (lambda n, p, b, s: runs_out(n % 4, p, b, s), "Batch 3 has 1 rows"),
        (shuffles_batches, "always share a batch"),
        (drops_first, r"never came"),
        (Cached(), "all code shares"),
        (Going(), "Asked again|twice in one round"),
        (lambda n, p, b, s: batch_rows(n, p, b, s) + 1, "Rows lie in 0 to 9"),
        (lambda n, p, b, s: batch_rows(n, p, b, s) / 1, "whole numbers"),
        (lambda n, p, b, s: 7, "A batch should be a list, not 7"),
        (lambda n, p, b, s: set(batch_rows(n, p, b, s)), "is a set"),
        (lambda n, p, b, s: batch_rows(n, p, b, s).reshape(-1, 1), "whole numbers"),
        (lambda n, p, b, s: batch_rows(n, p, b, s)[:0], "Batch 0 is empty"),
    ],
    "5.10": [
        (lambda members: samples(members, lambda name: name.rsplit(".", 1)), "FIRST dot"),
        (lambda members: samples(members, lambda name: name.split(".", 1)), "A folder may hold a dot"),
        (lambda members: samples(members, lambda name: key_of(name.split("/")[-1])), "folder is part of the key"),
        (sampled(lambda found: [(key.split("/")[-1], parts) for key, parts in found]), "folder is part of the key"),
        (sampled(lambda found: [(k, {f".{e}": c for e, c in p.items()}) for k, p in found]), "no dot in front"),
        (sampled(lambda found: [(k, dict(list(p.items())[-1:])) for k, p in found]), "keeps all its parts"),
        (sampled(lambda found: [(k, dict(list(p.items())[:1])) for k, p in found]), "keeps all its parts"),
        (sampled(lambda found: [(k, {e: c}) for k, p in found for e, c in p.items()]), "sample of its own"),
        (by_pairs, "may have three parts, or one"),
        (sampled(sorted), "You sorted them"),
        (sampled(lambda found: found[::-1]), "keep the order of the shard"),
        (sampled(lambda found: [(Path(key), parts) for key, parts in found]), "A key is a string"),
        (sampled(lambda found: [key for key, _ in found]), "keys alone"),
        (sampled(lambda found: [(k, list(p.values())) for k, p in found]), "are a dictionary"),
        (sampled(lambda found: found[:-1]), "last sample is missing"),
        (sampled(lambda found: found[0]), r"\[0\] should be"),
        (lambda members: members, "samples.members.\\[0\\]|entries"),
        (lambda members: len(members), "should be a list"),
        (lambda members: [members.pop(0) for _ in list(members)], "changes its inputs"),
    ],
}


class TestContract(Contract):
    checks, right, wrong, values = checks, RIGHT, WRONG, VALUES


@pytest.mark.parametrize("number", ["5.3", "5.4", "5.9"])
def test_the_lessons_random_numbers_are_left_alone(number):
    def states():
        return np.random.get_state()[1].tobytes(), np.random.get_state()[2], random.getstate(), torch.get_rng_state()

    before = states()
    right = next(answers[0] for key, answers in RIGHT if key == number)
    assert BY_NUMBER[number](right) is True
    seeding = {"5.3": split_seeds_all, "5.4": lambda split: np.random.rand() < 2, "5.9": ordered(seeds_all)}[number]
    kept = np.random.get_state()
    with pytest.raises(WrongAnswer):
        BY_NUMBER[number](seeding)
    np.random.set_state(kept)
    after = states()
    assert before[:3] == after[:3] and torch.equal(before[3], after[3])


def test_every_broken_split_is_broken_and_every_sound_one_sound_for_pictures_of_unequal_sizes():
    owners = np.repeat([9, 2, 30, 4, 11, 7, 8, 1], [3, 5, 6, 1, 4, 5, 5, 2])
    kinds = {"with the exact share": True, "any order": True, "about right": True}
    kinds |= dict.fromkeys(["permutes captions", "holds out one", "leaks one", "keeps all", "loses", "empty"], False)
    for kind, sound in kinds.items():
        for seed in range(30):
            for share in (0.1, 0.25, 0.5, 0.8):
                assert three_things(owners, *a_split(kind, owners, share, seed)) is sound, (kind, seed, share)
    cut = [three_things(owners, *a_split("cuts one", owners, share, 0)) for share in (0.25, 0.5, 0.4)]
    fives = [three_things(owners, *a_split("takes five", owners, 0.3, seed)) for seed in range(30)]
    assert not all(cut) and sum(fives) < 10
