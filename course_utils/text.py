"""Words to numbers: a word-level vocabulary, padding and masks."""

from __future__ import annotations

import numbers

import torch
from tokenizers import Tokenizer, models, pre_tokenizers

PAD, UNKNOWN = "[PAD]", "[UNK]"


def word_tokenizer(words) -> Tokenizer:
    """A tokenizer with one token a word, from an iterable of words (order does not matter).

    Token 0 is padding, token 1 stands for words outside the vocabulary. Punctuation is cut off: "elf's" makes three.
    Raises ValueError for an empty vocabulary, a single string, or what is no text.
    """
    if isinstance(words, str):
        raise ValueError("word_tokenizer: got one string, whose letters would become the words; pass text.split().")
    words = list(words)
    _require_text(words, "word_tokenizer: word")
    splitter = pre_tokenizers.Whitespace()
    vocabulary = sorted({piece for word in words for piece, _ in splitter.pre_tokenize_str(word)})
    if not vocabulary:
        raise ValueError("word_tokenizer: no words given; pass scenes.vocabulary(config), for example.")
    index = {word: i for i, word in enumerate([PAD, UNKNOWN, *vocabulary])}
    tokenizer = Tokenizer(models.WordLevel(index, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = splitter
    return tokenizer


def encode(tokenizer: Tokenizer, sentences, length: int | None = None):
    """Sentences to (tokens, token_mask), each (B,L): token ids, and True where a token is real.

    `length` fixes L; without it L is the longest sentence of this batch, since every padded column costs time in every
    layer. Raises ValueError for no sentences, an empty sentence, one longer than `length`, a single string, or what is
    no text (None, or the NaN that a table has where nobody wrote a caption).
    """
    if isinstance(sentences, str):
        raise ValueError(f"encode: got one string; put it into a list: encode(tokenizer, [{sentences!r}]).")
    sentences = list(sentences)
    _require_text(sentences, "encode: sentence")
    ids = [encoding.ids for encoding in tokenizer.encode_batch(sentences)]
    if not ids:
        raise ValueError("encode: no sentences given.")
    longest = max(map(len, ids))
    if min(map(len, ids)) == 0:
        raise ValueError(f"encode: sentence {min(range(len(ids)), key=lambda i: len(ids[i]))} is empty; drop it first.")
    if length is not None and not isinstance(length, numbers.Integral):
        raise ValueError(f"encode: length={length!r} must be a whole number of tokens.")
    if length is not None and longest > length:
        raise ValueError(f"encode: a sentence has {longest} tokens, more than length={length}; raise length.")
    tokens = torch.zeros(len(ids), length or longest, dtype=torch.long)  # (B,L)
    for row, sentence in zip(tokens, ids):
        row[: len(sentence)] = torch.tensor(sentence)
    return tokens, tokens != 0


def _require_text(some: list, what: str) -> None:
    """Raise ValueError, with its number, for the first that is no string that could be written down."""
    for i, one in enumerate(some):
        if not isinstance(one, str):
            raise ValueError(f"{what} {i} is {one!r}, which is no text; drop it first.")
        if not one.isascii() and one.encode("utf-8", "ignore").decode() != one:
            raise ValueError(f"{what} {i} holds half a character ({one[:40]!r}); read its file as UTF-8.")
