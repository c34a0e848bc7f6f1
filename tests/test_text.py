"""Words to numbers and back."""

import pytest
import torch

from course_utils import text

WORDS = ["a", "small", "pig", "left", "of", "big", "boat"]


@pytest.fixture(scope="module")
def tokenizer():
    return text.word_tokenizer(WORDS)


def test_one_token_a_word_and_back(tokenizer):
    sentences = ["a small pig left of a big boat", "a pig"]
    tokens, token_mask = text.encode(tokenizer, sentences)
    order = [text.PAD, text.UNKNOWN, *sorted(WORDS)]  # by hand: padding, unknown, then the alphabet
    by_hand = [[order.index(word) for word in sentence.split()] for sentence in sentences]
    assert tokens.tolist() == [by_hand[0], by_hand[1] + [0] * 6]
    assert tokens.dtype == torch.long
    assert token_mask.tolist() == [[True] * 8, [True] * 2 + [False] * 6]
    assert [tokenizer.decode(row[keep].tolist()) for row, keep in zip(tokens, token_mask)] == sentences


def test_the_order_of_the_vocabulary_means_nothing(tokenizer):
    again = text.word_tokenizer(reversed(WORDS * 2))
    assert again.get_vocab() == tokenizer.get_vocab()
    assert again.get_vocab_size() == len(WORDS) + 2


def test_padding_changes_no_token(tokenizer):
    alone, _ = text.encode(tokenizer, ["a pig"])
    together, mask = text.encode(tokenizer, ["a pig", "a big pig left of a boat"])
    longer, wide = text.encode(tokenizer, ["a pig"], length=12)
    assert alone.tolist() == [together[0][mask[0]].tolist()] == [longer[wide].tolist()]
    assert longer.shape == wide.shape == (1, 12)
    assert wide.sum() == 2


def test_unknown_words_stay_in_place(tokenizer):
    tokens, token_mask = text.encode(tokenizer, ["a purple pig", "[PAD]"])
    assert tokens[0].tolist() == [tokenizer.token_to_id("a"), 1, tokenizer.token_to_id("pig")]
    assert token_mask.all()  # even a sentence that looks like padding is made of real tokens


def test_words_with_punctuation_are_known():
    tokenizer = text.word_tokenizer(["elf's", "hat", "old-fashioned", "train set"])
    tokens, _ = text.encode(tokenizer, ["elf's hat", "old-fashioned train set"])
    assert (tokens != 1).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda tokenizer: text.word_tokenizer([]), "no words given"),
        (lambda tokenizer: text.word_tokenizer([" "]), "no words given"),
        (lambda tokenizer: text.word_tokenizer("a pig"), "whose letters would become the words"),
        (lambda tokenizer: text.encode(tokenizer, []), "no sentences"),
        (lambda tokenizer: text.encode(tokenizer, ["a pig", "  "]), "sentence 1 is empty"),
        (lambda tokenizer: text.encode(tokenizer, ["a pig", "a big pig"], length=2), "3 tokens, more than length=2"),
        (lambda tokenizer: text.encode(tokenizer, ["a pig"], length=0), "more than length=0"),
        (lambda tokenizer: text.encode(tokenizer, "a pig"), "put it into a list"),
    ],
)
def test_bad_text_is_refused(tokenizer, call, message):
    with pytest.raises(ValueError, match=message):
        call(tokenizer)
