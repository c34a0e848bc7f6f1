"""Which captions fit which scenes? The exact truth behind "wrong" answers that are right: false negatives.

    right = fits.table(texts, scenes, range(1000))   # (N,M) True where caption j is true of scene i
    counting.rank(scores, right)                     # recall and mAP@R against the truth, not against who wrote what

"A big boot" is true of every scene with a big boot, whoever it was written for. A caption is taken apart into claims by
the words of `grammar` alone; a scene answers from its objects' nouns, sizes and centres.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from course_utils.composing import DOMINANCE, MARGIN
from course_utils.grammar import RELATIONS, SIZES

_RELATION = "|".join(RELATIONS)
_CLAUSES = (  # most particular first
    re.compile(rf"(?P<relation>{_RELATION}) (?P<other>.+) there is (?P<thing>.+)"),
    re.compile(rf"(?P<thing>.+?) is (?P<relation>{_RELATION}) (?P<other>.+)"),
    re.compile(rf"(?P<thing>.+?) (?P<relation>{_RELATION}) (?P<other>.+)"),
    re.compile(r"there is (?P<thing>.+)"),
    re.compile(r"(?P<thing>.+)"),
)
_THING = re.compile(rf"(?:(?:an?|the|one) )?(?:(?P<size>{'|'.join(SIZES)}) )?(?P<noun>.+)")


class Claims(NamedTuple):
    """What a caption says. things: (noun, size or None) pairs; relations: (noun, relation, noun) triples."""

    things: tuple[tuple[str, str | None], ...]
    relations: tuple[tuple[str, str, str], ...]


def claims(text: str) -> Claims:
    """A caption or foil of `grammar`, taken apart. "A pig" claims no size, "the pig" repeats what was named before.

    Raises ValueError for an empty text.
    """
    if not text.strip():
        raise ValueError("claims: the caption is empty.")
    things, relations = {}, []
    for clause in text.strip().split(" and "):
        found = next(match for pattern in _CLAUSES if (match := pattern.fullmatch(clause))).groupdict()
        named = []
        for end in ("thing", "other"):
            if found.get(end):
                size, noun = _THING.fullmatch(found[end]).group("size", "noun")
                things[noun] = size or things.get(noun)
                named.append(noun)
        if found.get("relation"):
            relations.append((named[0], found["relation"], named[1]))
    return Claims(tuple(things.items()), tuple(relations))


def table(texts: Sequence[str], scenes, indices) -> np.ndarray:
    """(N,M) True where caption j is true of the scene `indices[i]`.

    texts: M captions of the grammar. scenes: `scenes.Scenes`, or any list whose items have `objects` (name, size, box)
    and whose `config.size` is the canvas' side. A thing must be there, and of its size where one is said; a relation
    needs centres apart as related objects are: 0.25 sides along, and twice as far along as across. What lies askew fits
    neither relation. Raises ValueError for empty lists or a noun that no object of `scenes` has.
    """
    texts, indices = list(texts), list(indices)
    if not texts or not indices:
        raise ValueError(f"table: {len(texts)} captions and {len(indices)} scenes; give one of each or more.")
    every = [claims(text) for text in texts]
    nouns = sorted({noun for one in every for noun, _ in one.things})
    unknown = set(nouns) - {noun for noun, _ in scenes.objects}
    if unknown:
        raise ValueError(f"captions name {sorted(unknown)[0]!r}, which is no object of {scenes}; the same scenes?")
    row = {noun: k for k, noun in enumerate(nouns)}
    there = np.zeros((len(nouns), len(indices)), dtype=bool)  # (K,N)
    size = np.full(there.shape, -1)
    centre = np.full((2, *there.shape), np.nan)  # (2,K,N) x and y, in canvas sides
    for i, index in enumerate(indices):
        for one in scenes[index].objects:
            k = row.get(one.name)
            if k is not None:
                there[k, i], size[k, i] = True, SIZES.index(one.size)
                centre[:, k, i] = np.array(one.centre) / scenes.config.size
    right = np.ones((len(texts), len(indices)), dtype=bool)  # (M,N)
    for fitting, one in zip(right, every):
        for noun, wanted in one.things:
            fitting &= there[row[noun]] if wanted is None else size[row[noun]] == SIZES.index(wanted)
        for noun, relation, other in one.relations:
            fitting &= _related(centre[:, row[noun]] - centre[:, row[other]], relation)
    return right.T


def _related(step, relation):
    """step (2,N): from the second thing's centre to the first's. NaN, where one is absent, is not related."""
    which = RELATIONS.index(relation)
    along, across = step[which // 2], step[1 - which // 2]
    along = -along if which % 2 == 0 else along  # left and above are towards 0
    return (along >= MARGIN) & (along >= DOMINANCE * abs(across))
