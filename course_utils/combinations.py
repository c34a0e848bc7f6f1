"""Which combination of objects, sizes and relations a scene shows, so that parts share words but never a scene.

A stable hash (CRC-32 of the nouns, mixed by splitmix64) gives each combination to one of the parts: eight tenths to
train, one to val, one to test. It looks at nouns, sizes and relations only: seeds, object lists and processes do not
change a combination's part. A statement and its inverse ("a left of b", "b right of a") are one combination.
"""

import zlib
from functools import cached_property

import numpy as np

from course_utils.grammar import INVERSE, RELATIONS

PARTS = ("train", "val", "test")
_ALL = (1 << 64) - 1
_SQUARE = ((0, 0), (1, 0), (1, 1), (0, 1))  # cells (column, row), clockwise


def mix(x):
    """splitmix64's finaliser on an int below 2**64 or a uint64 array: the same bits on every machine."""
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _ALL
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _ALL
    return x ^ (x >> 31)


def part_index(fate):
    """0 (train), 1 (val) or 2 (test) of a hash, or of an array of them."""
    return (fate % 10 == 8) * 1 + (fate % 10 == 9) * 2


class Combinations:
    """The combinations of one part. `nouns` names all objects; `allowed` holds the indices that may be used."""

    def __init__(self, nouns: list[str], allowed: list[int], part: str, seed: int):
        self.nouns, self.allowed, self.part = nouns, allowed, PARTS.index(part)
        self._keys = [mix(zlib.crc32(noun.encode())) for noun in nouns]
        self._salt = mix(seed + 1)

    def single(self, i: int):
        """(objects, sizes) of item i with one object; comes again after `len(self.singles)` items."""
        k, size = divmod(self.singles[i % len(self.singles)], 3)
        return (k,), (size,)

    def pair(self, i: int):
        """(objects, sizes, axis) of item i with two: the first is left of (axis 0) or above (axis 1) the second.

        All combinations of the part come once, in an order that the seed decides, before one comes again.
        """
        code, two = divmod(self.pairs[i % len(self.pairs)], 3)
        code, one = divmod(code, 3)
        code, axis = divmod(code, 2)
        return divmod(code, len(self.nouns)), (one, two), axis

    def chain(self, rng, count: int):
        """(objects, sizes, relations, cells) of three or four objects around a square, drawn with `rng()` in [0, 1)."""
        while True:
            objects: list[int] = []
            while len(objects) < count:
                k = self.allowed[int(rng() * len(self.allowed))]
                if k not in objects:
                    objects.append(k)
            sizes = [int(rng() * 3) for _ in objects]
            start, step = int(rng() * 4), (1 if rng() < 0.5 else -1)
            cells = [_SQUARE[(start + step * k) % 4] for k in range(count)]
            relations = [_between(one, two) for one, two in zip(cells, cells[1:])]
            there = self._chain_hash(objects, sizes, relations)
            back = self._chain_hash(objects[::-1], sizes[::-1], [INVERSE[relation] for relation in relations[::-1]])
            if part_index(min(there, back)) == self.part:
                return tuple(objects), tuple(sizes), tuple(relations), cells

    @cached_property
    def singles(self) -> list[int]:
        """Code k * 3 + size. Each noun has one size in each part, so that every part knows every noun."""
        codes = [k * 3 + size for k in self.allowed for size in range(3) if (self._keys[k] + size) % 3 == self.part]
        return sorted(codes, key=lambda code: mix((self._keys[code // 3] + code % 3 + self._salt) & _ALL))

    @cached_property
    def pairs(self) -> list[int]:
        """Code (((a * n + b) * 2 + axis) * 3 + size of a) * 3 + size of b."""
        keys, some, sizes = np.array(self._keys, dtype=np.uint64), np.array(self.allowed), np.arange(3)
        a, b, axis, one, two = (x.ravel() for x in np.meshgrid(some, some, [0, 1], sizes, sizes, indexing="ij"))
        rest = (axis * 3 + one) * 3 + two
        fates = mix(keys[a] + mix(keys[b] + mix(rest.astype(np.uint64) + np.uint64(1))))
        here = (a != b) & (part_index(fates) == self.part)
        codes = ((a * len(self.nouns) + b) * 18 + rest)[here]
        return codes[np.argsort(mix(fates[here] ^ np.uint64(self._salt)), kind="stable")].tolist()

    def _chain_hash(self, objects, sizes, relations) -> int:
        fate = 0
        for k, size, relation in zip(objects, sizes, [*relations, RELATIONS[0]]):
            fate = mix((fate + self._keys[k] + size * 4 + RELATIONS.index(relation) + 1) & _ALL)
        return fate


def _between(one, two) -> str:
    """The relation of a cell to its neighbour."""
    if one[0] != two[0]:
        return "left of" if one[0] < two[0] else "right of"
    return "above" if one[1] < two[1] else "below"
