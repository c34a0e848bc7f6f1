"""Checks of lesson 05: a split read by hand, captions compared, splits without leaks, padding, views, batches, shards.

Splits and batches are checked by what must hold for them, so any sound design passes; the rest by value.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from itertools import groupby

import numpy as np
import torch

from course_utils.checks._outcome import call, elsewhere, exercise, expect, items, judge, match, numbers, shown, verdict
from course_utils.checks._splits import a_caption_file, a_split


@exercise("05", "5.1")
def check_read_split(answer: Callable) -> None:
    """read_split(content, split) -> (filenames (N), texts (M), owners (M) rows of pictures)."""
    content = a_caption_file()
    for split in ("test", "train"):
        every = [one["filename"] for one in content["images"]]
        mine = [one for one in content["images"] if one["split"] == split]
        names, numbered, entries = ([one[what] for one in mine] for what in ("filename", "imgid", "sentences"))
        raws, tokens = ([[some[what] for some in one] for one in entries] for what in ("raw", "tokens"))
        said, words, counts = sum(raws, []), sum(tokens, []), [len(some) for some in raws]
        each = lambda values: [value for value, count in zip(values, counts) for _ in range(count)]  # noqa: B023
        value = numbers(call(answer, content, split), 3, "Three things are wanted: return filenames, texts, owners.")
        filenames, texts, owners = (items(one, what) for one, what in zip(value, ("filenames", "texts", "owners")))
        mistakes = {
            "These are the pictures of all splits. Keep those whose own entry says this split.": (every,),
            "You sorted the pictures. Keep the file's order.": (sorted(names),),
            "A picture's name comes once, not once for each caption.": (each(names),),
            "These are picture numbers. Their names are asked.": (numbered,),
            "The order is filenames, texts, owners.": (said, raws),
        }
        match(filenames, names, mistakes, "filenames", "A split is no stretch of the file: each entry names its own.")
        mistakes = {
            "texts is nested, a list for each picture. One flat list of captions is asked.": (raws,),
            "One caption of each picture. All are asked.": ([some[0] for some in raws], [some[-1] for some in raws]),
            "A picture may have more than five captions: take all.": (sum([some[:5] for some in raws], []),),
            "These are tokens. The caption as written is 'raw'.": (words, tokens, [" ".join(some) for some in words]),
            "These are sentence entries. The caption itself is their 'raw'.": (entries, sum(entries, [])),
        }  # fmt: skip
        match(texts, said, mistakes, "texts")
        mistakes = {
            "These are picture numbers, imgid. An owner is a row of filenames, 0 to N-1.": (each(numbered),),
            "You counted all pictures. Enumerate the split's.": (each([every.index(name) for name in names]),),
            "Not five captions a picture: take len(sentences).": ([k // 5 for k in range(len(owners))],),
            "One owner for each caption is asked, not one for each picture.": (list(range(len(mine))),),
            "owners is nested. One flat list is asked: extend instead of append.": (
                [[k] * n for k, n in enumerate(counts)],
            ),
            "Captions of one picture share its row. Yours have numbers of their own.": (list(range(len(said))),),
            "Rows are counted from 0.": (each(range(1, len(mine) + 1)),),
            "These are names. An owner is the row of the picture's name in filenames.": (each(names),),
        }
        match(owners, each(range(len(mine))), mistakes, "owners")


@exercise("05", "5.2")
def check_overlap(answer: Callable) -> None:
    """overlap(a, b) of two captions -> Jaccard overlap of their sets of words, in [0, 1]."""
    long, short = "A man, a dog and a woman in a BIG field, by a lake.", "A boy near a lake, and a small dog"
    pairs = (long, short), (short, long), ("A dog, a ball.", "a Dog runs"), ("a cat", "two dogs"), ("A pig.", "a pig")
    for a, b in pairs:
        over = lambda cut, a=a, b=b: len({*cut(a)} & {*cut(b)}) / len({*cut(a)} | {*cut(b)})
        (x, y), doubled = (_words(a), _words(b)), [Counter(_words(one)) for one in (a, b)]
        both, of_a, of_b, either = len({*x} & {*y}), len({*x}), len({*y}), len({*x} | {*y})
        often = (doubled[0] & doubled[1]).total() / (doubled[0] | doubled[1]).total()
        mistakes = {
            "Capitals make two words of one, or vanish: .lower() first.": (
                over(str.split), *(over(re.compile(letters).findall) for letters in ("[A-Za-z]+", "[a-z]+"))),
            "Punctuation sticks to your words: 'dog,' is not 'dog'.": over(lambda s: s.lower().split()),
            "These are letters: set(a) of a string. Cut the caption into words first.": (over(list), over(str.lower)),
            "A word that comes twice counts twice in yours. Use sets.": (
                often, both / (len(x + y) - both), *(sum(w in q for w in p) / either for p, q in ((x, y), (y, x)))),
            "You divided by the words of one caption. Divide by those of either: |a or b|.": (both / of_a, both / of_b),
            "Shared words count twice in what you divide by.": (both / (of_a + of_b), 2 * both / (of_a + of_b)),
            "This is how many words they share. Divide by how many there are in either.": both,
            "This is the distance. A caption overlaps itself by 1.": 1 - both / either,
            "This is in percent. Return a fraction.": 100 * both / either,
            "You rounded. Return the fraction as it is.": (round(both / either, 2), round(both / either, 1)),
            "// drops the fraction. Divide with /.": both // either,
            "|a ^ b| is what only one of them has. Divide by what either has: |a or b|.": both / max(either - both, 1),
        }  # fmt: skip
        judge(call(answer, a, b), both / either, mistakes, f"{a!r} and {b!r} share {both} of {either} words.")


@exercise("05", "5.3")
def check_split_by_picture(answer: Callable) -> None:
    """split_by_picture(owners (M,), share, seed) -> (train, test), numbers of captions, no picture on both sides."""
    ids, counts = [31, 4, 17, 52, 8, 60, 23, 11, 45, 2, 39, 70], [5, 3, 6, 5, 4, 5, 5, 7, 5, 3, 5, 6]
    for owners, share in ((np.repeat(ids, counts), 0.25), (np.repeat(np.arange(10), 5), 0.4)):
        every, pictures, held = {*range(len(owners))}, list(dict.fromkeys(owners.tolist())), []
        wanted = round(share * len(pictures))
        for seed in range(4):
            train, test = _two_sides(call(answer, owners, share, seed))
            seen = {*train, *test}
            expect(
                seen == every or not seen <= {*pictures}, "These are picture ids. Return the numbers of the captions."
            )
            expect(seen <= every, f"Captions are numbered 0 to {max(every)}.")
            expect(train and test, f"One side is empty, at a share of {share} of {len(pictures)} pictures.")
            expect(not {*train} & {*test}, "Some captions are on both sides. Each belongs to one.")
            expect(seen == every, f"{len(every - seen)} captions are on neither side. A picture brings all of its own.")
            expect(len(train) + len(test) == len(every), "A caption comes twice on one side.")
            here, both = {*owners[test].tolist()}, {*owners[train].tolist()} & {*owners[test].tolist()}
            expect(len(both) != 1, "The cut goes through a picture: its captions are on both sides. Cut the pictures.")
            expect(not both, f"{len(both)} pictures are on both sides: you split captions. Split np.unique(owners).")
            expect(len(here) != len(pictures) - wanted, "The sides are swapped: the share goes to test.")
            off = f"{wanted} of {len(pictures)} pictures should be in test, yours has {len(here)}. "
            expect(
                len(here) == wanted, off + "Toss no coin for each, and draw none twice: cut a permutation of the ids."
            )
            held.append(here)
        ends, lot = ({*pictures[-len(here) :]}, {*pictures[: len(here)]}), "Files are often sorted: draw with the seed."
        expect(any(here not in ends for here in held), f"The pictures at one end are always in test. {lot}")
        expect(any(here != held[0] for here in held), "Four seeds gave one split: draw with default_rng(seed).")
        again = elsewhere(lambda: [_two_sides(call(answer, owners, share, seed))[1] for seed in range(4)])  # noqa: B023
        expect([{*owners[test].tolist()} for test in again] == held, _OWN.format("seed"))


@exercise("05", "5.4")
def check_is_sound(answer: Callable) -> None:
    """is_sound(split) -> bool: whether split(owners, share, seed) -> (train, test) lets no picture be on both sides."""
    hints = {
        "permutes captions, not pictures": "Is any picture on both sides?",
        "cuts one picture in two": "Its cut may fall between pictures of five captions each. Give it 3, 5 and 6.",
        "takes five captions for a picture": "Give it pictures with 3, 5 and 6 captions, and several seeds.",
        "holds out one caption of each picture": "Then every picture is on both sides.",
        "leaks one single caption": "Ask for every caption whether its picture is on both sides.",
        "keeps all captions in train, those of test as well": "Is any caption on both sides?",
        "loses captions": "Is each of the M captions on a side? Some pictures have only one.",
        "leaves test empty": "It leaks nothing and measures nothing: both sides need captions.",
    }
    for words in ("with the exact share", "that lists captions in any order", "whose share is only about right"):
        asked = []
        split = lambda owners, share, seed: asked.append(owners) or a_split(words, owners, share, seed)  # noqa: B023
        said = verdict(answer, split)
        expect(asked, "Your test never calls the split that it is given. Use its argument: split(owners, share, seed).")
        few = min(len(np.unique(owners)) for owners in asked) < 2
        hint = "Of one picture nothing can be held out: give it more." if few else "Ask for the three things alone."
        expect(said, f"Your test rejects a sound split, one {words}. {hint}")
    broken = lambda kind: lambda owners, share, seed: a_split(kind, owners, share, seed)
    fooled = [f"{words}. {look}" for words, look in hints.items() if verdict(answer, broken(words))]
    expect(len(fooled) < len(hints), "Your test accepts every split, even one with an empty test. What does it ask?")
    expect(not fooled, f"Your test accepts {len(fooled)} of {len(hints)} broken splits. One {''.join(fooled[:1])}")


@exercise("05", "5.5")
def check_pad(answer: Callable) -> None:
    """pad(rows, pad_id) -> tokens (B,L) long, token_mask (B,L) bool, L the longest of this batch."""
    for rows, pad_id in (([[5, 9, 2], [7, 4, 8, 3, 6], [1, 7]], 7), ([[11, 12], [13]], 0), ([[2, 3, 4]], 2)):
        value = numbers(call(answer, rows, pad_id), 2, "Two things are wanted: return tokens, token_mask.")
        expect(all(map(torch.is_tensor, value)), "Two tensors are wanted: torch.tensor(...).")
        (tokens, mask), lengths = value, torch.tensor([len(row) for row in rows])
        shape = len(rows), int(lengths.max())
        turned = tuple(tokens.shape) == shape[::-1] != shape
        expect(not turned, "Yours is (L,B). A row is a sentence: (B,L), as pad_sequence gives with batch_first=True.")
        if tokens.ndim == 2:
            expect(tokens.shape[1] <= shape[1], f"Yours has {tokens.shape[1]} columns; the longest row has {shape[1]}.")
            expect(tokens.shape[1] == shape[1], f"Yours is cut to {tokens.shape[1]} columns. Pad the shorter rows.")
        fill = lambda number: [[number] * (shape[1] - len(row)) for row in rows]  # noqa: B023
        wanted, left, zeros = (torch.tensor([[*a, *b] for a, b in zip(*two)])  # (B,L)
                               for two in ((rows, fill(pad_id)), (fill(pad_id), rows), (rows, fill(0))))  # fmt: skip
        mistakes = {"You padded on the left: padding follows.": left, "You filled up with 0, not with pad_id.": zeros}
        judge(tokens, wanted, mistakes, f"For {rows} and pad_id {pad_id}.")
        expect(tokens.dtype == torch.long, f"Token ids choose rows of a table: torch.long; yours is {tokens.dtype}.")
        expect(mask.dtype == torch.bool, f"token_mask should be bool, yours is {mask.dtype}. Compare, or use .bool().")
        real = torch.arange(shape[1]) < lengths[:, None]  # (B,L)
        mistakes = {
            f"pad_id {pad_id} is a real token here too, as in CLIP: make the mask from lengths.": wanted != pad_id,
            "Your mask is turned round: True marks a real token.": (~real, wanted == pad_id),
            "One column too many: column 3 is the fourth. Compare with <.": torch.arange(shape[1]) <= lengths[:, None],
            "Your mask is True everywhere. Padding is False.": torch.ones(shape),
            "Your mask is of one row alone. Each row has its own length.": real[:1].expand(shape),
        }
        judge(mask, real, mistakes, f"Rows have {lengths.tolist()} tokens: which columns are real?")


@exercise("05", "5.6")
def check_names_a_side(answer: Callable) -> None:
    """names_a_side(caption) -> bool: whether it holds a word of left or right."""
    expect(callable(answer), "Give the check your function itself, names_a_side, which it can call.")
    plain = r"It names a side. (Of re you need search, not match, and a raw string: r'\b...'.)"
    case, whole = "Captions begin with a capital: ask in any case.", r"Ask for whole words: \b in a regular expression."
    also, end = "It names a side, too.", "Punctuation ends a word, and split() keeps it there."
    cases = {
        "a pig left of a boat": (True, plain), "a pig right of a boat": (True, "So does right."),
        "a big drum": (False, "It names no side."), "Left of a boat there is a pig": (True, case),
        "RIGHT OF THE TREE": (True, case), "a man in a bright box": (False, whole),
        "an upright piano": (False, whole), "a plate of leftovers": (False, whole),
        "the cat sits on the left": (True, "'left of' is not the only way to say it."),
        "a dog runs to the left.": (True, end), "on the right, a girl sits": (True, end),
        "the leftmost pig": (True, also), "a man in the rightmost chair": (True, also),
        "his left-hand pocket": (True, "A hyphen ends a word as well."), "on the right-hand side": (True, also),
        "the car turns leftwards": (True, also), "a step rightward": (True, also), "the leftside door": (True, also),
        "a copyright sign": (False, whole), "a righteous man with a cleft chin": (False, whole),
    }  # fmt: skip
    found = [call(lambda words: (answer(words),), caption)[0] for caption in cases]  # None is no answer here, but named
    strange = [value for value in found if not isinstance(value, (bool, np.bool_))]
    kind = "Return True or False, not {}: bool(...) makes one of a search's result, a count or a word."
    expect(not strange, kind.format(shown((strange or [0])[0])))
    turned = all(value != right for value, (right, _) in zip(found, cases.values()))
    expect(not turned, "The wrong way round: True where a side is named.")
    for value, (caption, (right, why)) in zip(found, cases.items()):
        expect(value == right, f"{caption!r} should give {right}. {why}")


@exercise("05", "5.7")
def check_view(answer: Callable) -> None:
    """view(square (S,S,3) uint8, top, left, size, mirrored) -> (3,size,size) float32 in [0, 1]."""
    square = np.random.default_rng(7).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    for top, left, size, mirrored in ((2, 1, 5, False), (0, 3, 4, True), (3, 0, 6, True)):
        turn = -1 if mirrored else 1
        cut = lambda a, b, of=square, n=size: of[a : a + n, b : b + n].transpose(2, 0, 1) / 255  # (3,n,n)
        plain, wanted, rows = cut(top, left), cut(top, left)[..., ::turn], cut(top, left).transpose(1, 2, 0)[:, ::turn]
        mistakes = {
            f"The view is {'not ' * mirrored}mirrored, against the argument mirrored.": plain[..., ::-turn],
            "You mirrored first, so this is another piece. Cut, then mirror.": cut(top, left, square[:, ::turn]),
            "Upside down: rows are turned. Left and right are columns, crop[:, ::-1].": plain[:, ::-1],
            "You turned rows and columns. Mirror the columns alone.": plain[:, ::-1, ::-1],
            "After permute rows are dimension 1, columns 2: x[:, top : top + size, left : left + size].": (
                square.transpose(2, 0, 1)[top : top + size, left : left + size] / 255
            ),
            "You turned the colours. Columns are dimension 1 of (H,W,3).": (plain[::-1], wanted[::-1]),
            "reshape scrambles: move the last axis to the front, permute(2, 0, 1).": rows.reshape(3, size, size),
            "Rows and columns changed places: permute(2, 0, 1), not (2, 1, 0).": rows.transpose(2, 1, 0),
            "Channels come first: permute(2, 0, 1) moves them.": rows,
            "This is 0 to 255. Divide by 255.": 255 * wanted,
            "Whole-number division leaves only 0 and 1. Divide with /.": (np.floor(wanted), np.round(wanted)),
            "top and left are swapped: rows begin at top, columns at left.": cut(left, top)[..., ::turn],
            "size is no end: rows go to top + size.": (square / 255).transpose(2, 0, 1)[:, top:size, left:size],
            "[0, 1] is asked, not [-1, 1].": 2 * wanted - 1,
        }
        value = call(answer, square, top, left, size, mirrored)
        expect(hasattr(value, "dtype"), "A tensor or an array is wanted.")
        judge(value, wanted, mistakes, f"Rows {top} to {top + size - 1}, columns {left} to {left + size - 1}, / 255.")
        expect("float32" in str(value.dtype), f"float32 is asked, half of float64's memory; yours is {value.dtype}.")


@exercise("05", "5.8")
def check_gigabytes(answer: object) -> None:
    """31_014 * 256 * 256 * 3 / 1e9, rounded to two digits or more."""
    wanted = 31_014 * 256 * 256 * 3 / 1e9
    mistakes = {
        "Each pixel has three channels.": wanted / 3, "float32 would take that. One byte each: uint8.": wanted * 4,
        "These are GiB, of 2**30 bytes. A GB has 10**9.": wanted * 1e9 / 2**30,
        "All 31,783 photographs would take that. The split has 31,014.": wanted * 31_783 / 31_014,
        "Side 224 is a view. The cache holds 256 x 256.": wanted * (224 / 256) ** 2,
        "These are bytes or MB. A GB has 10**9 bytes.": (wanted * 1e9, wanted * 1e3), "These are bits.": wanted * 8,
        "256 rows of 256 pixels: a side is missing.": wanted / 256, "Rounded too far: one more digit.": 6,
        "These are the 29,000 pictures of train alone.": wanted * 29_000 / 31_014,
    }  # fmt: skip
    plain = answer.item() if getattr(answer, "shape", None) == () else answer
    near = lambda value: isinstance(plain, (int, float)) and abs(plain - value) <= 0.006 * value
    values = [value for one in mistakes.values() for value in (one if isinstance(one, tuple) else (one,))]
    meant = next((value for value in (wanted, *values) if near(value)), answer)  # answers are rounded
    judge(meant, wanted, mistakes, "Multiply pictures, rows, columns, channels and bytes.")


@exercise("05", "5.9")
def check_batch_rows(answer: Callable) -> None:
    """batch_rows(number, pictures, batch_size, seed) -> rows (batch_size,) of batch `number` of an endless series."""
    for pictures, size in ((10, 3), (12, 4)):
        asked = [(seed, number) for seed in range(3) for number in range(pictures // size * 12)]  # twelve rounds
        rows_of = lambda keys: [_rows(answer, number, pictures, size, seed) for seed, number in keys]  # noqa: B023
        found, again = elsewhere(lambda: rows_of(asked)), elsewhere(lambda: rows_of(asked[::-1])[::-1])  # noqa: B023
        batches = np.array(found).reshape(3, 12, -1, size)  # (seed, round, batch, row)
        rounds = batches.reshape(3, 12, -1)
        expect((rounds[0] != np.arange(rounds.shape[-1])).any(), "This is the file's order. Draw one for each round.")
        expect(again == found, _OWN.format("[seed, round]"))
        expect((batches[0] != batches[1]).any(), "Two seeds gave one series. Draw with default_rng([seed, round]).")
        alike = "Every round has the same order. The round decides as well: default_rng([seed, round])."
        expect((rounds[:, 1:] != rounds[:, :1]).any(axis=(1, 2)).all(), alike)
        doubles = any(len({*one}) < len(one) for one in rounds.reshape(36, -1).tolist())
        expect(not doubles, "A picture comes twice in one round. Draw one order a round, and cut it into batches.")
        groups = {frozenset(map(frozenset, one)) for one in batches[0].tolist()}
        expect(len(groups) > 1, "The same pictures always share a batch: you shuffle batches. Shuffle pictures.")
        absent = {*range(pictures)} - {*rounds[0].ravel().tolist()}
        expect(not absent, f"In 12 rounds {absent} never came. Permute all pictures, then drop what is left over.")
        shifted = (rounds[1, :-1] == rounds[0, 1:]).all() or (rounds[0, :-1] == rounds[1, 1:]).all()
        expect(not shifted, "seed + round: seed 1 repeats seed 0. Give default_rng the list [seed, round].")


@exercise("05", "5.10")
def check_samples(answer: Callable) -> None:
    """samples(members (name, content)) -> list of (key, {extension: content}), in order."""
    for names in ("00.jpg 00.json 01.jpg 01.json", "7.jpg 7.seg.png 7.json 3.jpg 3.seg.png 3.json",
                  "b/v1.2/0.jpg b/v1.2/0.txt a/v1.2/0.jpg a/v1.2/0.txt", "c/9.jpg"):  # fmt: skip
        members = [(name, f"content {k}".encode()) for k, name in enumerate(names.split())]
        by = lambda cut: [(k, {cut(n)[1]: c for n, c in some}) for k, some in groupby(members, lambda m: cut(m[0])[0])]  # noqa: B023
        right, flat = by(_key), [(_key(name)[0], {_key(name)[1]: content}) for name, content in members]
        change = lambda new: [(key, new(list(parts.items()))) for key, parts in right]  # noqa: B023
        mistakes = {
            "A folder may hold a dot. Look for one after the last slash.": (by(lambda s: s.split(".", 1)),),
            "The folder is part of the key.": (by(lambda s: _key(s.split("/")[-1])), [(k[-1], p) for k, p in right]),
            "An extension has no dot in front: 'jpg'.": (change(lambda p: {f".{e}": c for e, c in p}),),
            "A sample keeps all its parts, not one.": (change(lambda p: dict(p[:1])), change(lambda p: dict(p[-1:]))),
            "Each member became a sample of its own. Members of one key belong together.": (flat,),
            "A sample may have three parts, or one. You took two.": (
                [(a[0], a[1] | b[1]) for a, b in zip(flat[::2], flat[1::2])],),
            "These are the keys alone. Each comes with its parts.": ([key for key, _ in right],),
            "The parts are a dictionary, {extension: content}.": (change(list), change(lambda p: [c for _, c in p])),
            "The last sample is missing: hand it out after the loop.": (right[:-1],),
        }  # fmt: skip
        value = call(answer, members)
        value = items(value.items() if isinstance(value, dict) else value, "samples(members)")
        value = [tuple(one) if isinstance(one, list) else one for one in value]
        late = any("7.seg" in one for one in value if isinstance(one, tuple))
        expect(not late, "The key ends at the FIRST dot of a name: 7.seg.png is part seg.png of sample 7.")
        expect(all(isinstance(one[0], str) for one in value if isinstance(one, tuple) and one), "A key is a string.")
        mixed = value != right and len(value) == len(right) and all(one in right for one in value)
        expect(not mixed, "Samples keep the order of the shard. You sorted them, or a set mixed them.")
        match(value, right, mistakes, "samples(members)", "A sample is a run of members with one key.")


_OWN = "Asked again, yours gives something else. Keep nothing between calls, and draw from np.random.default_rng({})."
_words = lambda caption: re.findall(r"[a-z]+", caption.lower())
_key = lambda name: re.fullmatch(r"((?:.*/)?[^/.]*)\.(.*)", name).groups()  # of a member: its sample's key, its part


def _two_sides(value: object) -> list[list[int]]:
    pair = numbers(value, 2, "Two things are wanted: return train, test.")
    sides = [items(sorted(one) if isinstance(one, set) else one, what) for one, what in zip(pair, ("train", "test"))]
    kinds = {type(one) for side in sides for one in side}
    expect(bool not in kinds, "These are masks. Return the numbers of the captions: np.flatnonzero(mask).")
    expect(kinds <= {int}, "Numbers of captions are whole numbers, in a flat list or array: np.where(mask)[0].")
    return sides


def _rows(answer: Callable, number: int, pictures: int, size: int, seed: int) -> list[int]:
    rows = items(call(answer, number, pictures, size, seed), "A batch")
    expect(rows, f"Batch {number} is empty. After {pictures // size} batches, a round, the next round begins.")
    expect(len(rows) == size, f"Batch {number} has {len(rows)} rows, not {size}. After {pictures // size} "
           "batches a new round begins; drop what fills none.")  # fmt: skip
    expect(all(type(row) is int for row in rows), f"Rows are whole numbers, not {shown(rows[0])}.")
    expect(all(0 <= row < pictures for row in rows), f"Rows lie in 0 to {pictures - 1}; yours are {rows}.")
    expect(len({*rows}) == size, f"Batch {number} holds a picture twice: {rows}. Cut batches out of a permutation.")
    return rows
