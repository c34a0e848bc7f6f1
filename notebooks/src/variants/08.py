# %% [markdown]
# Graded exercises of lesson 08: they take the place of those with the same number in the class edition, since the solved
# notebooks are public. TEACHING.md shows how to write your own.

# %% [markdown]
# ### Exercise 8.2: coalitions of a size
# Difficulty 1 of 3, about 7 minutes.
#
# Write `coalitions(n, smallest)`: a table of bool with a row for each set of *at least* `smallest` of n players and a column for each player,
# True where the player is there. Small sets come first; sets of one size may stand in any order.
#
# <details><summary>Hint 1</summary><code>itertools.combinations(range(n), size)</code> gives the sets of one size.</details>

# %% tags=["exercise"]
def coalitions(n, smallest):
    """Every set of at least `smallest` of n players: (S,n) of bool."""
    # BEGIN SOLUTION
    sets = [some for size in range(smallest, n + 1) for some in itertools.combinations(range(n), size)]
    return np.array([[k in some for k in range(n)] for some in sets]).reshape(-1, n)
    # END SOLUTION


# %%
import math

import numpy as np

from course_utils.checks import own


@own.exercise("08", "8.2")
def check_coalitions(answer):
    """coalitions(n, smallest)."""
    for n, smallest in ((4, 2), (3, 0), (5, 5)):
        table = np.asarray(own.call(answer, n, smallest))
        rows = sum(math.comb(n, size) for size in range(smallest, n + 1))
        where = f"For n = {n} and smallest = {smallest}"
        own.expect(
            table.shape != (2**n, n) or rows == 2**n,
            f"{where}: all sets are there. Leave out those that are too small.",
        )
        own.expect(
            table.shape != (rows - math.comb(n, smallest), n), f"{where}: sets of exactly {smallest} belong to it."
        )
        own.expect(
            table.shape == (rows, n), f"{where} there are {rows} sets: the shape is {(rows, n)}, not {table.shape}."
        )
        own.expect(table.dtype == bool, f"{where}: a table of bool is wanted, not of {table.dtype}.")
        own.expect(len({tuple(row) for row in table.tolist()}) == rows, f"{where}: a set stands there twice.")
        sizes = table.sum(axis=1)
        own.expect(sizes.min() >= smallest, f"{where}: a set of {sizes.min()} is too small.")
        own.expect((np.diff(sizes) >= 0).all(), f"{where}: small sets come first.")


# %% tags=["check"]
check_coalitions(coalitions)

# %% [markdown]
# ### Exercise 8.8: the words' share, by half
# Difficulty 1 of 3, about 6 minutes.
#
# MM-SHAP adds up even the smallest values, and many small ones are noise. Write `words_share(picture, words, half)`: values of regions
# (n_img,) and of words (n_txt,) in; the share of the words in the credit by *size*, counting only values whose size is at least
# `half` times the largest size of all players, of both modalities.
#
# <details><summary>Hint 1</summary>One threshold for both modalities. What is the size of -0.4?</details>


# %% tags=["exercise"]
def words_share(picture, words, half):
    """Share of the words in all credit above `half` of the largest, by size."""
    # BEGIN SOLUTION
    least = half * torch.cat([picture, words]).abs().max()
    kept = [values.abs()[values.abs() >= least].sum() for values in (picture, words)]
    return kept[1] / (kept[0] + kept[1])
    # END SOLUTION


# %%
import torch

from course_utils.checks import own


@own.exercise("08", "8.8")
def check_words_share(answer):
    """words_share(picture, words, half)."""
    picture, words = torch.tensor([0.5, -0.4, 0.3]), torch.tensor([-0.8, 0.2, 0.3, 0.41])
    mistakes = {
        "All values count in yours: this is MM-SHAP. Leave the small ones out.": 0.587629,
        "Each modality has its own threshold in yours. One is meant, from the largest of all players.": 0.502075,
        "Negative values are missing: size is what counts.": 0.470199,
        "`half` is a share of the largest size, not a value itself.": 0.615385,
        "This is the picture's share.": 0.42654,
    }
    own.judge(
        own.call(answer, picture, words, 0.5),
        0.57346,
        mistakes,
        "The largest size is 0.8, so at least 0.4 counts: 0.5 and 0.4 of regions, 0.8 and 0.41 of words.",
    )


# %% tags=["check"]
check_words_share(words_share)


# %% tags=["hidden"]
def cases():
    draw = torch.Generator().manual_seed(10)
    for regions, count, half in ((9, 8, 0.3), (4, 3, 0.0)):
        yield torch.randn(regions, generator=draw), torch.randn(count, generator=draw), half
