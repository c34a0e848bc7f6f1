# %% [markdown]
# Graded exercises of lesson 05: they take the place of those with the same number in the class edition, since the solved
# notebooks are public. TEACHING.md shows how to write your own.

# %% [markdown]
# ### Exercise 5.2: words, counted
# Difficulty 1 of 3, about 7 minutes.
#
# Write `overlap(a, b)` of two captions: twice the number of words that they share, divided by the number of words of both together (Dice).
# A word counts *as often as it stands there*: "a man and a dog" shares two *a* with "a cat on a mat". Case and punctuation do not count.
#
# <details><summary>Hint 1</summary><code>collections.Counter</code> counts, and <code>&</code> of two counters keeps the smaller count of each word.</details>

# %% tags=["exercise"]
def overlap(a, b):
    """Twice the shared words over all words of two captions, each counted as often as it stands there; 0 to 1."""
    # BEGIN SOLUTION
    from collections import Counter

    first, second = (Counter(re.findall(r"[a-z]+", caption.lower())) for caption in (a, b))
    return 2 * (first & second).total() / (first.total() + second.total())
    # END SOLUTION


# %%
from course_utils.checks import own


@own.exercise("05", "5.2")
def check_overlap(answer):
    """overlap(a, b)."""
    pairs = [("A man and a dog.", "a cat on a mat"), ("a a a", "a"), ("Two dogs run.", "two dogs run")]
    mistakes = {
        "This is the share of *distinct* words. Here every word counts as often as it stands there.": [
            0.142857,
            1.0,
            1.0,
        ],
        "Each word counts once in yours: a set forgets how often. Use a Counter.": [0.25, 1.0, 1.0],
        'Case or punctuation counts in yours: "A" is "a", and "dog." is "dog".': [0.2, 0.5, 0.333333],
        "Twice the shared words: two equal captions score 1.": [0.2, 0.25, 0.5],
    }
    own.judge(
        [own.call(answer, *pair) for pair in pairs],
        [0.4, 0.5, 1.0],
        mistakes,
        '"A man and a dog." and "a cat on a mat": 2 * 2 / 10; "a a a" and "a": 2 * 1 / 4; the third pair: 1.',
    )


# %% tags=["check"]
check_overlap(overlap)


# %% tags=["hidden"]
def cases():
    yield "The dog, the cat and the man", "THE man sees the dog"
    yield "one two three", "four five"
    yield "up up and away!", "and up, up, up"


# %% [markdown]
# ### Exercise 5.5: pad on the left
# Difficulty 2 of 3, about 8 minutes.
#
# A decoder that goes on writing wants the last word of every row in the last column. Write `pad(rows, pad_id)`: lists of token ids in;
# `tokens` (B,L) and `token_mask` (B,L) out, `True` for a real token, with the padding on the *left*. `L` is the longest row of *this* batch, and
# `pad_id` may also be a real token.
#
# <details><summary>Hint 1</summary>Which columns hold the tokens of a row with 2 of 5? A slice from the end does it, but <code>[-0:]</code> is everything.</details>


# %% tags=["exercise"]
def pad(rows, pad_id):
    """Lists of ids -> tokens (B,L) long, token_mask (B,L) bool; rows end at the right edge."""
    # BEGIN SOLUTION
    longest = max(len(row) for row in rows)
    tokens = torch.tensor([[pad_id] * (longest - len(row)) + list(row) for row in rows])  # (B,L)
    empty = torch.tensor([longest - len(row) for row in rows])  # (B,)
    return tokens, torch.arange(longest) >= empty[:, None]
    # END SOLUTION


# %%
import torch

from course_utils.checks import own


@own.exercise("05", "5.5")
def check_pad(answer):
    """pad(rows, pad_id)."""
    rows = [[7, 8, 9], [5], [9, 9]]  # 9 is the padding, and a real token too
    pair = own.call(answer, rows, 9)
    own.expect(isinstance(pair, (tuple, list)) and len(pair) == 2, "Return two tensors, (tokens, token_mask).")
    tokens, mask = (torch.as_tensor(one) for one in pair)
    own.expect(tuple(tokens.shape) == (3, 3), f"Three rows, the longest of three: (3,3), not {tuple(tokens.shape)}.")
    own.expect(tokens.tolist() != [[7, 8, 9], [5, 9, 9], [9, 9, 9]], "The padding stands on the right.")
    own.expect(tokens.tolist() != [[9, 8, 7], [9, 9, 5], [9, 9, 9]], "The order within rows is turned round.")
    own.expect(
        tokens.tolist() == [[7, 8, 9], [9, 9, 5], [9, 9, 9]], f"[5] becomes [9, 9, 5], yours {tokens[1].tolist()}."
    )
    own.expect(mask.dtype == torch.bool, f"token_mask is of bool, yours of {mask.dtype}.")
    own.expect(not torch.equal(mask, tokens != 9), "The mask is read off the tokens: 9 is a real token as well.")
    own.expect(not mask[1, 0], "The mask is True where the padding is, or stands on the other side.")
    own.expect(
        mask.int().tolist() == [[1, 1, 1], [0, 0, 1], [0, 1, 1]], f"The mask of [9, 9] is wrong: {mask[2].tolist()}."
    )


# %% tags=["check"]
check_pad(pad)


# %% tags=["hidden"]
def cases():
    yield [[1, 2], [3, 4]], 0
    yield [[5], [6, 7, 8, 6], [2, 2]], 2
