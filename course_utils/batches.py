"""Pictures with captions or questions as batch dictionaries: the one form in which data reach a model.

A batch holds images (B,3,H,W) float in [0, 1]; tokens and token_mask (B,L); image_ids (B,), equal where two pairs show
the same picture. A batch of questions also holds answers (B,): the class of the right one.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from functools import cached_property

import numpy as np
import torch

from course_utils import text
from course_utils.scenes import Scene, Scenes

KINDS = ("relation", "larger", "count", "exists")  # of questions
_AT_MOST = dict(zip(KINDS, (4, 2, 1, 2)))  # questions of a kind about one scene


class ScenePairs:
    """The first `count` scenes with their full captions, drawn once and kept in memory as bytes.

    scenes: a `Scenes`. tokenizer: from `text.word_tokenizer`. 12,000 scenes of 64 pixels take 150 MB. `images` is
    (N,3,H,W) uint8, `tokens` (N,L), `twins` (N,) the index of each scene's twin, or -1 where it is not among them.
    """

    def __init__(self, scenes: Scenes, count: int, tokenizer):
        if count < 1:
            raise ValueError(f"ScenePairs: count={count}; at least one scene is needed.")
        pictures = torch.from_numpy(scenes.images(range(count)))  # (N,H,W,3) uint8
        self.images = pictures.permute(0, 3, 1, 2)  # (N,3,H,W), still channels last in memory: what the CPU likes
        self.tokens = text.encode(tokenizer, scenes.captions(range(count)))[0]  # (N,L)
        self.twins = twins(scenes, count)  # (N,)

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, indices) -> dict[str, torch.Tensor]:
        """The batch dictionary of these scenes. Padding ends at the batch's longest caption."""
        indices = torch.as_tensor(np.asarray(indices))
        tokens = _trimmed(self.tokens[indices])  # (B,L)
        images = self.images[indices].float() / 255  # (B,3,H,W)
        return {"images": images, "tokens": tokens, "token_mask": tokens != 0, "image_ids": indices}


class SceneQuestions:
    """Questions about the first `count` scenes, one a row, with the answer and the object that each word names.

    scenes: a `Scenes`. tokenizer: from `text.word_tokenizer`, with the questions' words. A scene gives at most four
    questions of kind "relation", two "larger", one "count", and two "exists", one with each answer; which ones depends
    on (seed, part, number of the scene) alone. Relations are asked in scenes of four objects only: in smaller ones the
    direction alone tells the answer, and the named object need not be found.

    N scenes of at most K objects, Q questions: `images` (N,3,H,W) uint8; `present` (N,nouns) bool, what is there;
    `texts` Q strings; `tokens` (Q,L); `owners` (Q,L) which object of its scene a word names, -1 for none; `kinds` (Q,)
    strings of `KINDS`; `image_ids` (Q,) the scene; `answers` (Q,) into `classes`, all phrases that can be an answer,
    the same for every part and seed; `answer_object` (Q,) the object that is the answer, -1 for none. `len` is Q.
    Raises ValueError for no scenes, or a word that the tokenizer does not know.
    """

    def __init__(self, scenes: Scenes, count: int, tokenizer):
        if count < 1:
            raise ValueError(f"SceneQuestions: count={count}; at least one scene is needed.")
        self.scenes, self._count, self._patches = scenes, count, None
        self.images = torch.from_numpy(scenes.images(range(count))).permute(0, 3, 1, 2)  # (N,3,H,W), channels last
        self.present = torch.zeros(count, len(scenes.nouns), dtype=torch.bool)
        asked, named = [], []  # (number of the scene, question), {object: noun}
        for i in range(count):
            scene, rng = scenes[i], random.Random(f"{scenes.seed} {scenes.part} {i}")
            nouns = [one.name for one in scene.objects]
            self.present[i, [scenes.nouns.index(noun) for noun in nouns]] = True
            for question in _asked(scene, rng):
                asked.append((i, question))
                named.append({} if question.kind == "count" else {k: nouns[k] for k in question.objects})
        self.texts = [question.text for _, question in asked]
        self.image_ids = torch.tensor([i for i, _ in asked])  # (Q,)
        self.kinds = np.array([question.kind for _, question in asked])  # (Q,)
        self.classes = tuple(sorted({*scenes.nouns, "yes", "no", "one", "two", "three", "four"}))
        self.answers = torch.tensor([self.classes.index(question.answer) for _, question in asked])  # (Q,)
        self.tokens = text.encode(tokenizer, [line.replace(",", "").strip("?") for line in self.texts])[0]  # (Q,L)
        if (self.tokens == tokenizer.token_to_id(text.UNKNOWN)).any():
            raise ValueError("SceneQuestions: the tokenizer lacks words; use vocabulary(config, with_questions=True).")
        self.owners = _owners(self.tokens, named, tokenizer)  # (Q,L)
        of_answer = [question.objects[0] if question.answer in scenes.nouns else -1 for _, question in asked]
        self.answer_object = np.array(of_answer)  # (Q,)

    def __len__(self) -> int:
        return len(self.tokens)

    def batch(self, indices) -> dict[str, torch.Tensor]:
        """The batch dictionary of these questions. Padding ends at the batch's longest question."""
        indices = torch.as_tensor(np.asarray(indices))
        tokens, image_ids = _trimmed(self.tokens[indices]), self.image_ids[indices]  # (B,L), (B,)
        if self._patches is None:
            seen = {"images": self.images[image_ids].float() / 255}  # (B,3,H,W)
        else:
            seen = {"patches": self._patches[image_ids].float()}  # (B,P,D)
        words = {"tokens": tokens, "token_mask": tokens != 0}
        return {**seen, **words, "image_ids": image_ids, "answers": self.answers[indices]}

    def with_patches(self, patches) -> SceneQuestions:
        """The same questions about pictures that were encoded once: batches hold patches (B,P,D), and no images.

        patches: (N,P,D), one row a scene; float16 halves the memory. Raises ValueError for another number of rows.
        """
        if len(patches) != len(self.images):
            raise ValueError(f"with_patches: {len(patches)} rows of patches for {len(self.images)} scenes.")
        changed = copy.copy(self)
        changed._patches = patches
        return changed

    @cached_property
    def masks(self) -> np.ndarray:
        """(N,K,H,W) bool: where each object of each scene is seen; empty for objects that a scene does not have."""
        masks = np.zeros((self._count, self.scenes.config.counts[1], *self.images.shape[2:]), dtype=bool)
        for i, row in enumerate(masks):
            seen = self.scenes[i].masks
            row[: len(seen)] = seen
        return masks


def _owners(tokens, named, tokenizer) -> np.ndarray:
    """(Q,L): which object each token names. named: {object: noun} of each question; nouns may have several words."""
    pieces = {noun: tokenizer.encode(noun).ids for nouns in named for noun in nouns.values()}
    owners = np.full(tuple(tokens.shape), -1)
    for row, owner, nouns in zip(tokens.tolist(), owners, named):
        for k, noun in sorted(nouns.items(), key=lambda item: len(item[1])):  # "owl" may stand in "snowy owl": it first
            length = len(pieces[noun])
            for start in range(len(row) - length + 1):
                if row[start : start + length] == pieces[noun]:
                    owner[start : start + length] = k
    return owners


def _asked(scene: Scene, rng: random.Random) -> list:
    """The questions that are asked of a scene: a fair draw within each kind."""
    every = scene.questions()
    asked = []
    for kind, most in _AT_MOST.items():
        some = [question for question in every if question.kind == kind]
        if kind == "relation" and len(scene.objects) < 4:
            continue
        asked += rng.sample(some, min(most, len(some)))
    return asked


def _trimmed(tokens):
    """tokens (B,L) without the columns that are padding in every row."""
    return tokens[:, : int((tokens != 0).sum(dim=1).max())]


def twins(scenes: Scenes, count: int) -> np.ndarray:
    """For each of the first `count` scenes, which of them shows the same objects and sizes with the relation reversed.

    Returns (count,) indices, -1 where the twin is not among them. A twin's own caption is this scene's false one.
    """
    index = {}
    for k in (0, 1):  # the same claim told from either end
        index |= {caption: i for i, caption in enumerate(scenes.captions(range(count), k))}
    return np.array([index.get(foil, -1) for foil in scenes.foils(range(count), "relation")])


def shuffled(
    pairs: ScenePairs, batch_size: int, steps: int, seed: int, with_twins: bool = False
) -> Iterator[dict[str, torch.Tensor]]:
    """`steps` batches of pairs in random order, as many rounds through them as it takes.

    The order depends on `seed` alone. No pair comes twice in a round; what is left of it and fills no batch is dropped.
    with_twins=True puts the twins of a batch's first half in the place of its second half, wherever there is a twin; a
    pair may then meet itself, which its image id tells the loss. Raises ValueError, at the first batch, where one batch
    needs more pairs than there are or holds none.
    """
    if not 1 <= batch_size <= len(pairs):
        raise ValueError(f"shuffled: batch_size={batch_size} is outside 1..{len(pairs)} pairs; or draw more scenes.")
    rng = np.random.default_rng(seed)
    order = np.empty(0, dtype=np.int64)
    for _ in range(steps):
        if len(order) < batch_size:
            order = rng.permutation(len(pairs))
        chosen, order = order[:batch_size], order[batch_size:]
        if with_twins:
            first, second = chosen[: batch_size // 2], chosen[batch_size // 2 :]
            found = pairs.twins[first]  # (B // 2,)
            second[: len(found)] = np.where(found >= 0, found, second[: len(found)])
            chosen = np.concatenate([first, second])
        yield pairs.batch(chosen)
