"""Words to numbers: a word-level vocabulary, padding and masks."""

from __future__ import annotations

import torch
from tokenizers import Tokenizer, models, pre_tokenizers

PAD, UNKNOWN = "[PAD]", "[UNK]"


def word_tokenizer(words) -> Tokenizer:
    """A tokenizer with one token a word, from an iterable of words (order does not matter).

    Token 0 is padding, token 1 stands for words outside the vocabulary. Punctuation is cut off: "elf's" makes three.
    Raises ValueError for an empty vocabulary or a single string.
    """
    if isinstance(words, str):
        raise ValueError("word_tokenizer: got one string, whose letters would become the words; pass text.split().")
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
    layer. Raises ValueError for no sentences, an empty sentence, one longer than `length`, or a single string.
    """
    if isinstance(sentences, str):
        raise ValueError(f"encode: got one string; put it into a list: encode(tokenizer, [{sentences!r}]).")
    ids = [encoding.ids for encoding in tokenizer.encode_batch(list(sentences))]
    if not ids:
        raise ValueError("encode: no sentences given.")
    longest = max(map(len, ids))
    if min(map(len, ids)) == 0:
        raise ValueError(f"encode: sentence {min(range(len(ids)), key=lambda i: len(ids[i]))} is empty; drop it first.")
    if length is not None and longest > length:
        raise ValueError(f"encode: a sentence has {longest} tokens, more than length={length}; raise length.")
    tokens = torch.zeros(len(ids), length or longest, dtype=torch.long)  # (B,L)
    for row, sentence in zip(tokens, ids):
        row[: len(sentence)] = torch.tensor(sentence)
    return tokens, tokens != 0
