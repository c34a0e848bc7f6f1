"""Scenes: one to four stamps on a background, with captions, exact masks, foils and questions.

    train = Scenes(seed=0, part="train")
    train[7].image, train[7].captions[0].text, train[7].masks
    train.images(range(128)), train.captions(range(128)), train.foils(range(128), "relation")   # the fast paths

Item i depends on (seed, part, i) alone. What a scene shows, its *combination*, is the set of objects with their sizes
and the relations between them; a stable hash of the combination decides on its part. So no caption that says everything
(captions 0, 1 and 2) occurs in two parts, whatever the seeds. Captions 3 and 4 leave sizes or relations out and may.

Geometry, in shares of the canvas: an object's longer side is 0.25, 0.35 or 0.48 (small, medium, big). Related objects
have centres at least 0.25 apart along the named axis, and are at least twice as far apart along it as across it.
"""

import numbers
import operator
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from course_utils import composing, grammar
from course_utils.combinations import PARTS, Combinations
from course_utils.composing import BACKGROUNDS, DOMINANCE, MARGIN
from course_utils.grammar import INVERSE, RELATIONS, SIZES, Caption, Question, Thing

SHARES = {"small": 0.25, "medium": 0.35, "big": 0.48}  # an object's longer side, in canvas sides
DEFAULT_OBJECTS = {  # noun -> stamp; picked by eye: distinct looks, known at 20 pixels, photographs and drawings
    "apple": "food/fruit/apple_green",
    "basketball": "sports/basketball",
    "bicycle": "vehicles/cycle/bluebike",
    "boat": "vehicles/ship/sail_boat1",
    "boot": "clothes/hikingboot",
    "bus": "vehicles/masstransit/cartoon/schoolbus",
    "butterfly": "animals/insects/cartoon/butterfly",
    "camel": "animals/mammals/camel/camel",
    "camera": "hobbies/camera_35mm",
    "car": "vehicles/auto/beetle",
    "cat": "seasonal/halloween/blackcat",
    "clover": "seasonal/clover",
    "cupcake": "food/dessert/smallcake",
    "drum": "hobbies/music/percussion/drum_tomtom_floor",
    "duck": "animals/birds/duck",
    "elephant": "animals/mammals/elephant",
    "frog": "animals/amphibians/frog",
    "gift": "seasonal/christmas/present",
    "globe": "household/globe",
    "igloo": "town/houses/cartoon/igloo",
    "kite": "hobbies/kite",
    "ladybug": "animals/insects/cartoon/ladybug",
    "lemon": "food/fruit/lemon",
    "mug": "household/dishes/mug",
    "owl": "animals/birds/owl",
    "penguin": "animals/birds/penguin",
    "pig": "animals/mammals/pig",
    "pizza": "food/pizza",
    "rocket": "space/toyrocket",
    "sheep": "animals/mammals/bovines/sheep",
    "snowman": "seasonal/winter/snowman",
    "sombrero": "clothes/hats/sombrero",
    "strawberry": "food/fruit/cartoon/strawberry",
    "teapot": "household/dishes/teapot",
    "toadstool": "plants/toadstool",
    "tractor": "vehicles/farming/cartoon/tractor",
    "train": "vehicles/locomotive/cartoon/toy_train",
    "umbrella": "household/umbrella",
    "watermelon": "food/fruit/cartoon/watermelon",
    "zebra": "animals/mammals/equines/zebra",
}


@dataclass(frozen=True)
class SceneConfig:
    """What scenes are made of.

    size: side of the square canvas in pixels, 32 to 4,096. objects: default nouns, or names of stamps that have a noun.
    counts: fewest and most objects in a scene, 1 to 4. held_out: objects that occur in no training scene.
    background: one of `BACKGROUNDS`. Raises ValueError for what cannot be drawn, with the known choices.
    """

    size: int = 64
    objects: tuple[str, ...] = tuple(DEFAULT_OBJECTS)
    counts: tuple[int, int] = (2, 2)
    held_out: tuple[str, ...] = ()
    background: str = "shaded"

    def __post_init__(self):
        if not _whole(self.size) or not 32 <= self.size <= 4_096:
            raise ValueError(
                f"size={self.size!r}: a whole number of pixels, 32 or more (small objects have 8 then), 4096 or less"
            )
        for names in (self.objects, self.held_out):
            if isinstance(names, str) or not isinstance(names, Sequence):
                raise ValueError(f"objects and held_out are tuples of names, also of one: ('apple',); not {names!r}")
        pair = isinstance(self.counts, Sequence) and len(self.counts) == 2 and all(map(_whole, self.counts))
        low, high = self.counts if pair else (0, 0)
        if not 1 <= low <= high <= 4:
            raise ValueError(f"counts={self.counts}: give (fewest, most) objects with 1 <= fewest <= most <= 4")
        if self.background not in BACKGROUNDS:
            raise ValueError(f"unknown background {self.background!r}; known: {', '.join(BACKGROUNDS)}")
        unknown = [name for name in self.held_out if name not in self.objects]
        if unknown:
            raise ValueError(f"held_out names {unknown[0]!r}, which is not among objects={self.objects}")
        if len(self.objects) - len(self.held_out) < high + 1:
            raise ValueError(f"scenes of {high} need {high + 1} objects or more beside those held out (one for foils)")


@dataclass(frozen=True)
class SceneObject:
    """A placed object: noun, stamp, one of `SIZES`, and its whole box (x0, y0, x1, y1) in pixels, x1 and y1 outside."""

    name: str
    stamp: str
    size: str
    box: tuple[int, int, int, int]

    @property
    def centre(self) -> tuple[float, float]:
        """(x, y) of the box's middle, in pixels."""
        return (self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2


def _whole(value) -> bool:
    return isinstance(value, numbers.Integral)


class _Layout(NamedTuple):
    objects: tuple[int, ...]  # into the config's objects; later ones lie in front
    sizes: tuple[int, ...]
    relations: tuple[str, ...]  # between neighbours
    corners: tuple[tuple[int, int], ...]  # (x, y) of each tile
    ground: tuple[int, int]  # hue, direction
    pick: float  # which part of the caption a foil changes
    spare: int  # an object that is not in the scene


def _resolve(objects: tuple[str, ...]) -> list[tuple[str, str]]:
    """(noun, stamp) of each object; ValueError if unknown, without a usable noun, or a noun comes twice."""
    found: dict[str, str] = {}
    for name in objects:
        stamp = DEFAULT_OBJECTS.get(name, name)
        row = composing.rows().get(stamp)
        if row is None:
            known = ", ".join(DEFAULT_OBJECTS)
            raise ValueError(f"unknown object {name!r}; known: {known}, and each stamp name that has a noun")
        noun = name if name in DEFAULT_OBJECTS else row["noun"]
        if not isinstance(noun, str):
            raise ValueError(f"stamp {name!r} has no noun, so no caption can name it; choose one whose `noun` is given")
        if grammar.RESERVED & set(noun.split()):
            raise ValueError(
                f"{name!r} is called {noun!r}, which holds a word that captions use themselves; leave it out"
            )
        if noun in found:
            raise ValueError(f"two objects are called {noun!r} ({found[noun]}, {stamp}); leave one out")
        found[noun] = stamp
    return list(found.items())


def vocabulary(config: SceneConfig | None = None, with_questions: bool = False) -> tuple[str, ...]:
    """All words of captions and foils, sorted; with those of questions and answers if asked."""
    return grammar.vocabulary([noun for noun, _ in _resolve((config or SceneConfig()).objects)], with_questions)


class Scenes:
    """An endless list of scenes. `seed` is 0 or more; `part` is "train", "val" or "test"."""

    def __init__(self, seed: int, part: str = "train", config: SceneConfig | None = None):
        if part not in PARTS:
            raise ValueError(f"unknown part {part!r}; known: {', '.join(PARTS)}")
        if not _whole(seed) or seed < 0:
            raise ValueError(f"seed={seed!r}: give a whole number, 0 or more")
        self.seed, self.part, self.config = int(seed), part, config or SceneConfig()
        self.objects = _resolve(self.config.objects)  # (noun, stamp)
        self.nouns = [noun for noun, _ in self.objects]
        self._sides = [round(SHARES[size] * self.config.size) for size in SIZES]
        held_out = self.config.held_out if part == "train" else ()
        self._allowed = [k for k, name in enumerate(self.config.objects) if name not in held_out]
        for k in self._allowed:
            composing.cut_out(self.objects[k][1])  # a stamp without a mask fails here, not in the middle of a training
        self._combinations = Combinations(self.nouns, self._allowed, part, self.seed)

    def __repr__(self) -> str:
        return f"Scenes(seed={self.seed}, part={self.part!r}, {len(self.objects)} objects, {self.config.size} px)"

    def __iter__(self):
        raise TypeError("scenes have no end: index them, as in scenes[i] or scenes.images(range(n))")

    def __getitem__(self, i: int) -> "Scene":
        layout = self._layout(i)
        return Scene(self, int(i), layout)

    def images(self, indices) -> np.ndarray:
        """(N,H,W,3) uint8, the pictures of these items, equal to `scenes[i].image`."""
        indices = list(indices)
        pictures = np.empty((len(indices), self.config.size, self.config.size, 3), dtype=np.uint8)
        for picture, i in zip(pictures, indices):
            self._paint(picture, self._layout(i))
        return pictures

    def captions(self, indices, k: int = 0) -> list[str]:
        """Text of caption `k` (0..4) of these items, equal to `scenes[i].captions[k].text`."""
        if not 0 <= k < grammar.CAPTIONS:
            raise ValueError(f"k={k}: a scene has captions 0 to {grammar.CAPTIONS - 1}")
        layouts = [self._layout(i) for i in indices]
        return [grammar.caption_text(self._things(layout), layout.relations, k) for layout in layouts]

    def foils(self, indices, kind: str = "relation") -> list[str]:
        """Text of one false caption of each item, equal to `scenes[i].foils()[kind].text`; kinds: `grammar.FOILS`."""
        if kind not in grammar.FOILS:
            raise ValueError(f"unknown foil {kind!r}; known: {', '.join(grammar.FOILS)}")
        if kind in ("relation", "swapped") and self.config.counts[0] == 1:
            raise ValueError(f"foils of kind {kind!r} need two objects in every scene; counts={self.config.counts}")
        return [grammar.caption_text(*self._foil(self._layout(i), kind)) for i in indices]

    @property
    def distinct(self) -> int:
        """How many scenes of the fewest objects, counted from item 0, pass before a full caption comes again."""
        low = self.config.counts[0]
        if low > 2:
            raise ValueError("scenes of three and four objects are drawn at random; repeats are rare but possible")
        return len(self._combinations.pairs if low == 2 else self._combinations.singles)

    def _tiles(self, objects, sizes) -> list[composing.Tile]:
        return [composing.tile(self.objects[k][1], self._sides[size]) for k, size in zip(objects, sizes)]

    def _layout(self, i: int) -> _Layout:
        """Everything about item i but its pixels."""
        try:
            i = operator.index(i)
        except TypeError:
            raise TypeError(f"item {i!r}: give a whole number; for several use images, captions, foils") from None
        if not 0 <= i < 1 << 48:
            raise IndexError(f"item {i}: scenes are counted from 0, have no end to count from, and repeat beyond 2**48")
        # One Mersenne twister an item: seeded in 5 us, a draw in 20 ns; NumPy's generators take 7-9 us and 1 us a draw.
        rng = random.Random((((self.seed << 2) | PARTS.index(self.part)) << 48) + int(i)).random
        low, high = self.config.counts
        count = low + int(rng() * (high - low + 1))
        size, relations = self.config.size, ()
        if count == 1:
            objects, sizes = self._combinations.single(i)
            tiles = self._tiles(objects, sizes)
            places = composing.place_one(rng, size, tiles)
        elif count == 2:
            objects, sizes, axis = self._combinations.pair(i)
            tiles, relations = self._tiles(objects, sizes), (RELATIONS[2 * axis],)
            places = composing.place_two(rng, size, tiles, axis)
            if rng() < 0.5:  # name the other one first, and put it behind
                objects, sizes, places, tiles = objects[::-1], sizes[::-1], places[::-1], tiles[::-1]
                relations = (INVERSE[relations[0]],)
        else:
            objects, sizes, relations, cells = self._combinations.chain(rng, count)
            tiles = self._tiles(objects, sizes)
            places = composing.place_square(rng, size, tiles, cells)
        hues = composing.hues_apart(tiles)
        ground, pick = (hues[int(rng() * len(hues))], int(rng() * composing.DIRECTIONS)), rng()
        spare = self._allowed[int(rng() * len(self._allowed))]
        while spare in objects:
            spare = self._allowed[int(rng() * len(self._allowed))]
        return _Layout(objects, sizes, relations, places, ground, pick, spare)

    # How it is said and drawn ---------------------------------------------------------------------------------------

    def _things(self, layout: _Layout) -> tuple[Thing, ...]:
        return tuple(
            Thing(self.nouns[k], SIZES[size], owner)
            for owner, (k, size) in enumerate(zip(layout.objects, layout.sizes))
        )

    def _foil(self, layout: _Layout, kind: str):
        spare = self.nouns[layout.spare]
        return grammar.foil_things(self._things(layout), layout.relations, kind, layout.pick, spare)

    def _paint(self, canvas: np.ndarray, layout: _Layout) -> None:
        tiles = self._tiles(layout.objects, layout.sizes)
        composing.paint(canvas, layout.ground, self.config.background, tiles, layout.corners)


class Scene:
    """Item `index` of `scenes`. What it shows is fixed at once; pixels, masks and words are made when asked for."""

    def __init__(self, scenes: Scenes, index: int, layout: _Layout):
        self._scenes, self.index, self._layout = scenes, index, layout

    def __repr__(self) -> str:
        return f"Scene({self._scenes.part} {self.index}: {self.captions[0].text})"

    @cached_property
    def image(self) -> np.ndarray:
        """(H,W,3) uint8."""
        size = self._scenes.config.size
        canvas = np.empty((size, size, 3), dtype=np.uint8)
        self._scenes._paint(canvas, self._layout)
        return canvas

    @cached_property
    def masks(self) -> np.ndarray:
        """(K,H,W) bool: the visible pixels of each object (alpha > 0.5, nothing in front). Masks never overlap."""
        tiles = self._scenes._tiles(self._layout.objects, self._layout.sizes)
        return composing.visible(self._scenes.config.size, tiles, self._layout.corners)

    @cached_property
    def objects(self) -> tuple[SceneObject, ...]:
        """The objects in the order in which caption 0 names them; later ones lie in front."""
        tiles = self._scenes._tiles(self._layout.objects, self._layout.sizes)
        return tuple(
            SceneObject(*self._scenes.objects[k], SIZES[size], (x, y, x + one.solid.shape[1], y + one.solid.shape[0]))
            for k, size, one, (x, y) in zip(self._layout.objects, self._layout.sizes, tiles, self._layout.corners)
        )

    @cached_property
    def relations(self) -> tuple[tuple[int, str, int], ...]:
        """(subject, relation, object), by index into `objects`: a chain, each object with the next."""
        return tuple((k, relation, k + 1) for k, relation in enumerate(self._layout.relations))

    @cached_property
    def captions(self) -> tuple[Caption, ...]:
        """Five true captions: full; from the other end; place first; without sizes; without relations."""
        things, relations = self._scenes._things(self._layout), self._layout.relations
        return tuple(grammar.caption(things, relations, k) for k in range(grammar.CAPTIONS))

    def foils(self) -> dict[str, Caption]:
        """Kind -> a caption like caption 0, but false here. A single object has no "relation" and no "swapped"."""
        chains = {kind: self._scenes._foil(self._layout, kind) for kind in grammar.FOILS}
        return {kind: grammar.caption(*chain) for kind, chain in chains.items() if chain}

    def questions(self) -> tuple[Question, ...]:
        """Questions with one right answer, of kinds "relation", "larger", "count" and "exists"."""
        spare = self._scenes.nouns[self._layout.spare]
        return grammar.questions(self._scenes._things(self._layout), self._direct(), self._layout.pick, spare)

    def _direct(self) -> list[tuple[int, str, int]]:
        """(answer, relation, reference) of each two objects of which one is directly left of or above the other.

        They are as far apart as related objects are: `MARGIN` along the axis, and `DOMINANCE` times as far along as
        across. Four objects fill a square, where two lie to the left of the others and one directly so.
        """
        triples, reach = [], MARGIN * self._scenes.config.size
        centres = [one.centre for one in self.objects]
        for of, base in enumerate(centres):
            for k, other in enumerate(centres):
                for axis in (0, 1):
                    along, across = other[axis] - base[axis], other[1 - axis] - base[1 - axis]
                    if abs(along) >= max(reach, DOMINANCE * abs(across)):
                        triples.append((k, RELATIONS[2 * axis + (along > 0)], of))
        return triples
