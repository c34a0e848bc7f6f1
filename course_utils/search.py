"""An index over embeddings, and a search through it: words to pictures with each word's part, a picture to captions.

`page` makes a page of it. Nothing here knows a model: a `Finder` is handed functions that encode.
"""

from __future__ import annotations

import hashlib
import json
import numbers
import os
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from course_utils import uploads

try:
    import faiss
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError("The search needs faiss: pip install faiss-cpu gradio") from missing

KIND = "course index 1"  # what a saved index says of itself
WORDS = 32  # of a question; the rest is cut off, and said
CHARACTERS = 300
_UNIT = 1e-3  # how far the length of a unit row may be from 1, half precision included


class Index:
    """Exact search by inner product over unit rows: rows (N,E) float, N and E at least 1.

    made_by: which model or map made the rows, kept in the file, so that another model's questions can be refused.
    Raises ValueError for rows that are no matrix, are empty, hold NaN or infinity, or do not have length 1.
    """

    def __init__(self, rows, made_by: str = ""):
        self.rows = _unit_rows(rows, "rows")
        self.made_by = made_by
        self._flat = faiss.IndexFlatIP(self.rows.shape[1])
        self._flat.add(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def search(self, queries, k: int = 10) -> tuple[np.ndarray, np.ndarray]:
        """The k best rows of each query (Q,E): scores (Q,k) float64 and row numbers (Q,k) int64, best first.

        It equals sorting all inner products. Rows with equal scores come in the order of their numbers; faiss alone
        breaks ties as it likes and adds in 32 bits, so it proposes and 64 bits decide.
        Raises ValueError for k outside 1..N, and for queries that are not unit rows of the index's width.
        """
        queries = _unit_rows(queries, "queries")
        if queries.shape[1] != self.rows.shape[1]:
            raise ValueError(
                f"queries are {queries.shape[1]} wide, the index {self.rows.shape[1]}: did the same model make them?"
            )
        if not isinstance(k, numbers.Integral) or not 1 <= k <= len(self):
            raise ValueError(f"k={k!r} is outside 1..{len(self)}, the rows of this index.")
        scores, rows = np.empty((len(queries), k)), np.empty((len(queries), k), np.int64)
        for i, query in enumerate(queries):
            scores[i], rows[i] = self._one(query, k)
        return scores, rows

    def _one(self, query: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        margin = 2e-7 * self.rows.shape[1]  # more than 32 bits can err on a product of unit rows
        count = min(2 * k + 8, len(self))
        while True:
            rough, found = self._flat.search(query[None], count)  # (1,count), best first
            if count == len(self) or rough[0, -1] < rough[0, k - 1] - margin:
                break  # no row that might tie with the k-th was left out
            count = min(4 * count, len(self))
        found = np.sort(found[0])
        exact = (self.rows[found].astype(np.float64) * query.astype(np.float64)).sum(axis=1)  # (count,E) -> (count,)
        best = np.argsort(-exact, kind="stable")[:k]
        return exact[best], found[best]

    def save(self, path: Path | str) -> None:
        """Write the rows as safetensors, with a note of what they are and their SHA-256. All of the file or none."""
        from safetensors.numpy import save

        path = Path(path)
        about = {"kind": KIND, "made_by": self.made_by, "sha256": _digest(self.rows)}
        draft = path.with_name(path.name + ".part")
        try:
            draft.write_bytes(save({"rows": self.rows}, {"about": json.dumps(about)}))
            os.replace(draft, path)
        finally:
            draft.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path | str, made_by: str | None = None) -> Index:
        """Read a saved index; with `made_by`, only one that was made so.

        Raises FileNotFoundError, and ValueError for a file that is no index, was changed, or was made by another model.
        """
        from safetensors import SafetensorError, safe_open

        if not Path(path).is_file():
            raise FileNotFoundError(f"There is no index {path}. Build one with Index(rows).save(path).")
        try:
            with safe_open(path, framework="numpy") as file:
                about = json.loads((file.metadata() or {})["about"])
                rows = file.get_tensor("rows")
            kind, maker, digest = about["kind"], about["made_by"], about["sha256"]
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is not an index, or only a part of one ({error}). Build it again.") from error
        if kind != KIND:
            raise ValueError(f"{path} is a {kind!r}; this edition reads {KIND!r}. Build it again.")
        if digest != _digest(rows):
            raise ValueError(f"{path} was changed after it was written: its rows have another SHA-256. Build it again.")
        if made_by is not None and made_by != maker:
            raise ValueError(f"{path} was made by {maker!r}, the questions by {made_by!r}: they share no space.")
        return cls(rows, maker)


@dataclass(frozen=True)
class Answer:
    """What was found: row numbers (k,) and scores (k,), best first, and remarks for the reader.

    For words also the language they were read in, the words, and parts (W,k): how far the score of result j falls
    when word i is left out. For an upload the picture, as it was looked at.
    """

    rows: np.ndarray
    scores: np.ndarray
    remarks: list[str] = field(default_factory=list)
    language: str = ""
    words: tuple[str, ...] = ()
    parts: np.ndarray | None = None
    picture: Image.Image | None = None


@dataclass(frozen=True)
class Finder:
    """All that a search needs. N pictures, M captions, one shared space of E dimensions.

    readers: language -> function from Q sentences to z_txt (Q,E), unit rows; a row of zeros where it knows nothing of
    a sentence. The first language is the one to fall back on. encode_image: a PIL picture, RGB or RGBA -> z_img (E,),
    a unit row. pictures, captions: the two indices. show: row of `pictures` -> (H,W,3) or (H,W,4) uint8. titles: N,
    what each picture is said to show. texts: M, the captions. guess: words -> a language of `readers`.
    Raises ValueError where these do not fit together.
    """

    readers: Mapping[str, Callable[[Sequence[str]], np.ndarray]]
    encode_image: Callable[[Image.Image], np.ndarray]
    pictures: Index
    captions: Index
    show: Callable[[int], np.ndarray]
    titles: Sequence[str]
    texts: Sequence[str]
    guess: Callable[[str], str] | None = None

    def __post_init__(self):
        widths = self.pictures.rows.shape[1], self.captions.rows.shape[1]
        if not self.readers:
            raise ValueError("A Finder needs one reader or more, for instance {'English': encode}.")
        if len(self.titles) != len(self.pictures) or len(self.texts) != len(self.captions):
            raise ValueError(
                f"{len(self.titles)} titles for {len(self.pictures)} pictures, "
                f"{len(self.texts)} texts for {len(self.captions)} captions: one of each is needed."
            )
        if widths[0] != widths[1]:
            raise ValueError(f"Pictures are {widths[0]} wide, captions {widths[1]}: they do not share a space.")

    def by_words(self, text: str, language: str | None = None, k: int = 10) -> Answer:
        """The k pictures nearest to the words, and each word's part in each score.

        language: one of `readers`; None guesses it. Raises ValueError, with a sentence for the reader, for a question
        without words, one of which nothing is known, and an unknown language.
        """
        text, remarks = _tidy(text)
        if language is None:
            language = self.guess(text) if self.guess else next(iter(self.readers))
        if language not in self.readers:
            raise ValueError(f"Nobody reads {language!r} here. There are: {', '.join(self.readers)}.")
        words, joint = _words(text)
        without = [joint.join(words[:i] + words[i + 1 :]) for i in range(len(words))] if len(words) > 1 else []
        z_txt = np.asarray(self.readers[language]([text, *without]), np.float32)  # (1+W,E)
        if not z_txt[0].any():
            raise ValueError(f"None of these words is known to the reader of {language}. Try others.")
        scores, rows = self.pictures.search(z_txt[:1], min(k, len(self.pictures)))
        scores, rows = scores[0], rows[0]
        parts = scores[None]  # of a single word the part is the whole: without it there is no question
        if without:
            found = self.pictures.rows[rows].astype(np.float64)  # (k,E)
            parts = scores - z_txt[1:].astype(np.float64) @ found.T  # (W,E) @ (E,k) -> (W,k)
        return Answer(rows, scores, remarks, language, tuple(words), parts)

    def by_picture(self, source: str | Path | bytes, k: int = 10) -> Answer:
        """The k captions nearest to a picture, given as a file or its bytes. Raises ValueError as open_picture does."""
        picture, remarks = uploads.open_picture(source)
        z_img = np.asarray(self.encode_image(picture), np.float32).reshape(1, -1)  # (1,E)
        scores, rows = self.captions.search(z_img, min(k, len(self.captions)))
        return Answer(rows[0], scores[0], remarks, picture=picture)


def _tidy(text: str) -> tuple[str, list[str]]:
    """One line of at most WORDS words without control characters, and what was done to it."""
    text = (
        ("" if text is None else str(text))[: 50 * CHARACTERS].encode("utf-8", "ignore").decode()
    )  # halves of characters are no text
    text = unicodedata.normalize("NFC", text)
    text = " ".join("".join(c if unicodedata.category(c) != "Cc" else " " for c in text).split())
    if not any(character.isalnum() for character in text):
        raise ValueError("There are no words to look for. Type a few, for instance: a red bird.")
    words, joint = _words(text)
    cut = joint.join(words[:WORDS])[:CHARACTERS].rstrip()
    if cut == text:
        return text, []
    return cut, [f"The question was cut after {len(cut)} characters; the rest was not read."]


def _words(text: str) -> tuple[list[str], str]:
    """Its words, and what joins them; a script that sets no spaces is taken character by character."""
    words = text.split()
    if len(words) > 1 or not any(_spaceless(character) for character in text):
        return words, " "
    pieces: list[str] = []
    for character in text:
        if pieces and unicodedata.category(character).startswith("M"):
            pieces[-1] += character  # a vowel sign belongs to its consonant
        else:
            pieces.append(character)
    return pieces, ""


def _spaceless(character: str) -> bool:
    """Thai, Lao, Burmese, Khmer, kana and Chinese characters: scripts that set no spaces between words."""
    code = ord(character)
    return any(low <= code <= high for low, high in ((0xE00, 0xEFF), (0x1000, 0x109F), (0x1780, 0x17FF))) or (
        0x3040 <= code <= 0x30FF or 0x3400 <= code <= 0x9FFF or 0xF900 <= code <= 0xFAFF or 0x20000 <= code <= 0x3FFFF
    )


def _digest(rows: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(rows).tobytes()).hexdigest()


def _unit_rows(rows, name: str) -> np.ndarray:
    rows = np.ascontiguousarray(rows, dtype=np.float32)
    if rows.ndim != 2 or 0 in rows.shape:
        raise ValueError(f"{name} must be a matrix with one embedding a row, and not empty; got shape {rows.shape}.")
    if not np.isfinite(rows).all():
        bad = int(np.argmin(np.isfinite(rows).all(axis=1)))
        raise ValueError(
            f"{name} hold NaN or infinity, first in row {bad}: a diverged model, or a scaled row of zeros?"
        )
    lengths = np.linalg.norm(rows, axis=1)
    if np.abs(lengths - 1).max() > _UNIT:
        worst = int(np.abs(lengths - 1).argmax())
        raise ValueError(f"{name} must have length 1; row {worst} has {lengths[worst]:.3g}. Divide each by its length.")
    return rows
