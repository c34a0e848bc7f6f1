"""The small grammar behind the scenes: captions, foils and questions, every word tied to its object.

It knows nothing of pixels. A scene reaches it as a chain: a `Thing(noun, size, owner)` for each object, and between
each two neighbours one of `RELATIONS`. Nouns may have several words. Claims follow from the words alone:

- "a small pig": the scene holds a pig, and it is small. No size word ("a pig") claims no size;
- "left of", "right of", "above", "below": the centres of the two objects are so ordered;
- "directly left of" and so on, in questions alone: beside it, and not askew. `scenes` measures it;
- "and" joins claims, and all of them must hold; "the boat" is the boat that was named before, or the only one.
"""

from dataclasses import dataclass
from typing import NamedTuple

RELATIONS = ("left of", "right of", "above", "below")
INVERSE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
SIZES = ("small", "medium", "big")
FOILS = ("relation", "swapped", "size", "replaced")
CAPTIONS = 5
_NUMBERS = ("no", "one", "two", "three", "four")
_CAPTION_WORDS = "a an the is there and one left right of above below small big"
RESERVED = frozenset(_CAPTION_WORDS.split()) - {"of"} | {"medium"}  # no noun may hold one: "a big big eared rabbit"
_QUESTION_WORDS = "what which how many things are larger or yes no two three four directly"
_SOUNDS_LIKE_YOU = ("uni", "use", "ute", "uku", "eu", "ewe", "one")  # a university, a ewe
_SILENT_H = ("hour", "heir", "honest")


class Thing(NamedTuple):
    """One object as words: its noun, one of `SIZES`, and the index of the scene's object (-1: not in the scene)."""

    noun: str
    size: str
    owner: int


@dataclass(frozen=True)
class Caption:
    """A sentence, its words, and for each word the index of the object it belongs to, -1 for none."""

    text: str
    words: tuple[str, ...]
    owner: tuple[int, ...]


@dataclass(frozen=True)
class Question:
    """A question, its one-phrase answer, its kind, and the indices of the objects it names, the answer's first."""

    text: str
    answer: str
    kind: str
    objects: tuple[int, ...]


def words_of(text: str) -> tuple[str, ...]:
    """The words of a caption or question, without commas and question mark."""
    return tuple(text.replace(",", "").replace("?", "").split())


def article(word: str) -> str:
    """ "a" or "an", by the sound a word starts with."""
    vowel = word[0] in "aeiou" and not word.startswith(_SOUNDS_LIKE_YOU)
    return "an" if vowel or word.startswith(_SILENT_H) else "a"


def _a(thing: Thing) -> tuple[str, int]:
    """Indefinite phrase with the size; medium has no adjective."""
    words = thing.noun if thing.size == "medium" else f"{thing.size} {thing.noun}"
    return f"{article(words)} {words}", thing.owner


def _the(thing: Thing) -> tuple[str, int]:
    return f"the {thing.noun}", thing.owner


def _full(things, relations):
    """A small pig left of a big boat [and the boat above an owl]."""
    pieces = [_a(things[0])]
    for k, relation in enumerate(relations):
        if k:
            pieces += [("and", -1), _the(things[k])]
        pieces += [(relation, -1), _a(things[k + 1])]
    return pieces


def _fronted(things, relations):
    """Left of a big boat there is a small pig [and above an owl there is the boat]."""
    pieces = []
    for k, relation in enumerate(relations):
        pieces += [("and", -1)] if k else []
        pieces += [(relation, -1), _a(things[k + 1]), ("there is", -1), _the(things[k]) if k else _a(things[k])]
    return pieces


def _without_sizes(things, relations):
    """The pig is left of the boat [and the boat is above the owl]."""
    pieces = []
    for k, relation in enumerate(relations):
        pieces += [("and", -1)] if k else []
        pieces += [_the(things[k]), ("is", -1), (relation, -1), _the(things[k + 1])]
    return pieces


def _without_relations(things):
    """A small pig and a big boat [and an owl]."""
    pieces = [_a(things[0])]
    for thing in things[1:]:
        pieces += [("and", -1), _a(thing)]
    return pieces


def _of_one(thing, k):
    """The five captions of a scene with a single object; the last two leave the size out."""
    bare = thing._replace(size="medium")
    sized = thing.noun if thing.size == "medium" else f"{thing.size} {thing.noun}"
    there = ("there is", -1)
    return ([_a(thing)], [there, _a(thing)], [(f"one {sized}", thing.owner)], [_a(bare)], [there, _a(bare)])[k]


def _pieces(things, relations, k):
    if len(things) == 1:
        return _of_one(things[0], k)
    if k == 0:
        return _full(things, relations)
    if k == 1:
        return _full(things[::-1], tuple(INVERSE[relation] for relation in relations[::-1]))
    if k == 2:
        return _fronted(things, relations)
    return _without_sizes(things, relations) if k == 3 else _without_relations(things)


def _caption(pieces) -> Caption:
    words, owner = [], []
    for text, k in pieces:
        some = text.split()
        words += some
        owner += [k] * len(some)
    return Caption(" ".join(words), tuple(words), tuple(owner))


def caption(things: tuple[Thing, ...], relations: tuple[str, ...], k: int = 0) -> Caption:
    """Caption `k` (0..4) of a chain of things.

    0 says everything, 1 says it from the other end, 2 puts the place first, 3 leaves out the sizes, 4 the relations.
    """
    return _caption(_pieces(things, relations, k))


def caption_text(things: tuple[Thing, ...], relations: tuple[str, ...], k: int = 0) -> str:
    """The text of `caption(things, relations, k)` without tying words to objects: the fast path."""
    return " ".join([text for text, _ in _pieces(things, relations, k)])


def foil_things(things, relations, kind: str, pick: float, spare: str):
    """The chain (things, relations) behind a foil of `kind`, or None where a single object allows no such foil.

    `pick` in [0, 1) chooses which object or relation changes; `spare` is a noun that is not in the scene.
    """
    if kind in ("relation", "swapped") and len(things) == 1:
        return None
    things, relations = list(things), list(relations)
    k = int(pick * (len(relations) if kind in ("relation", "swapped") else len(things)))
    if kind == "relation":
        relations[k] = INVERSE[relations[k]]
    elif kind == "swapped":
        things[k], things[k + 1] = things[k + 1], things[k]
    elif kind == "size":  # never to "medium": a phrase without a size word would still be true
        other = {"small": "big", "big": "small"}.get(things[k].size) or ("small" if pick * 97 % 1 < 0.5 else "big")
        things[k] = things[k]._replace(size=other)
    else:
        things[k] = things[k]._replace(noun=spare, owner=-1)
    return tuple(things), tuple(relations)


def questions(things, direct, pick: float, spare: str) -> tuple[Question, ...]:
    """Questions with answers. `direct` holds (answer, relation, reference) triples that have exactly one answer."""
    asked = [
        Question(f"what is directly {relation} the {things[of].noun}?", things[k].noun, "relation", (k, of))
        for k, relation, of in direct
    ]
    rank = [SIZES.index(thing.size) for thing in things]
    for k in range(len(things)):
        for j in range(k + 1, len(things)):
            if rank[k] != rank[j]:
                first, second = (k, j) if pick < 0.5 else (j, k)
                larger, smaller = (k, j) if rank[k] > rank[j] else (j, k)
                text = f"which is larger, the {things[first].noun} or the {things[second].noun}?"
                asked.append(Question(text, things[larger].noun, "larger", (larger, smaller)))
    asked.append(Question("how many things are there?", _NUMBERS[len(things)], "count", tuple(range(len(things)))))
    k = int(pick * len(things))
    asked.append(Question(f"is there {article(things[k].noun)} {things[k].noun}?", "yes", "exists", (k,)))
    asked.append(Question(f"is there {article(spare)} {spare}?", "no", "exists", ()))
    return tuple(asked)


def vocabulary(nouns, with_questions: bool = False) -> tuple[str, ...]:
    """Every word that captions and foils over these nouns can hold, sorted; if asked, those of questions too."""
    words = set(_CAPTION_WORDS.split())
    if with_questions:
        words.update(_QUESTION_WORDS.split())
    for noun in nouns:
        words.update(noun.split())
    return tuple(sorted(words))
