# %% [markdown]
# Graded exercises of lesson 09: they take the place of those with the same number in the class edition, since the solved
# notebooks are public. TEACHING.md shows how to write your own.

# %% [markdown]
# ### Exercise 9.1: the rank of the last right answer
# Difficulty 1 of 3, about 6 minutes.
#
# Write `last_rank(scores, right)`: for each query the rank of its *worst* right item, (Q,): how far must one read to have found them all?
# No two scores are equal here, and every query has a right item.
#
# <details><summary>Hint 1</summary>Which right item comes last? <code>np.where(right, scores, np.inf)</code> hides the others.</details>

# %% tags=["exercise"]
def last_rank(scores, right):
    """How far down all right items of each query are found, 1 is first. scores, right: (Q,N) -> (Q,)."""
    # BEGIN SOLUTION
    worst = np.where(right, scores, np.inf).min(axis=1, keepdims=True)  # (Q,1)
    return 1 + (scores > worst).sum(axis=1)
    # END SOLUTION


# %%
import numpy as np

from course_utils.checks import own


@own.exercise("09", "9.1")
def check_last_rank(answer):
    """last_rank(scores, right)."""
    scores = np.array([[0.9, 0.1, 0.8, 0.4], [0.2, -0.7, -0.5, 0.3], [0.6, 0.5, 0.4, 0.3]])  # (Q,N)
    right = np.array([[True, False, False, True], [False, True, False, False], [False, True, True, False]])
    mistakes = {
        "This is the rank of the first right item. The last one is asked for.": np.array([1, 4, 2]),
        "You count from 0: the best item has rank 1.": np.array([2, 3, 2]),
        "Scores times right puts a 0 where nothing is right. Hide those places with np.where.": np.array([5, 4, 5]),
        "You left the other right items out. They take places, too.": np.array([2, 4, 2]),
        "You count from the bottom: how many score *lower*.": np.array([2, 1, 2]),
    }
    own.judge(
        own.call(answer, scores, right),
        np.array([3, 4, 3]),
        mistakes,
        "In the first row the right items are 0.9 and 0.4: the second of them has rank 3.",
    )


# %% tags=["check"]
check_last_rank(last_rank)


# %% tags=["hidden"]
def cases():
    rng = np.random.default_rng(11)
    for q, n in ((5, 7), (3, 20)):
        right = rng.random((q, n)) < 0.3
        right[:, 0] = True
        yield rng.normal(size=(q, n)), right


# %% [markdown]
# ### Exercise 9.9: the worst bin
# Difficulty 2 of 3, about 10 minutes.
#
# A mean hides the one place where a model is badly wrong. Write `worst_bin(confidence, right, bins, least)`: bins of equal width over 0..1,
# cases in (low, high]; the *largest* |accuracy - mean confidence| among the bins that hold at least `least` cases.
#
# <details><summary>Hint 1</summary>A bin with a single case is off by nearly 1 by luck alone: leave it out before you take the largest.</details>


# %% tags=["exercise"]
def worst_bin(confidence, right, bins, least):
    """Largest |accuracy - mean confidence| of bins with at least `least` cases; confidence, right (N,)."""
    # BEGIN SOLUTION
    edges, worst = np.linspace(0, 1, bins + 1), 0.0
    for low, high in zip(edges[:-1], edges[1:]):
        inside = (confidence > low) & (confidence <= high)
        if inside.sum() >= max(least, 1):
            worst = max(worst, abs(right[inside].mean() - confidence[inside].mean()))
    return worst
    # END SOLUTION


# %%
import numpy as np

from course_utils.checks import own


@own.exercise("09", "9.9")
def check_worst_bin(answer):
    """worst_bin(confidence, right, bins, least)."""
    confidence = np.array([0.1, 0.3, 0.35, 0.4, 0.5, 0.9, 0.8, 0.7, 0.95])
    right = np.array([True, True, False, False, False, True, True, False, True])
    mistakes = {
        "This is the expected error, a mean over cases. The worst bin is asked for.": 0.277778,
        "`least` is not used: a bin with one case decides in yours.": 0.9,
        "A case at 0.5 belongs to the bin below it, (low, high].": 0.6,
        "You average each case's own error. Average first, then take the difference.": 0.4875,
    }
    own.judge(
        own.call(answer, confidence, right, 4, 2),
        0.1375,
        mistakes,
        "In (0.25, 0.5] one of four is right at a mean confidence of 0.3875, in (0.75, 1] three of three at 0.8833.",
    )


# %% tags=["check"]
check_worst_bin(worst_bin)


# %% tags=["hidden"]
def cases():
    rng = np.random.default_rng(12)
    for count, bins, least in ((60, 5, 4), (40, 3, 15)):
        confidence = rng.random(count)
        yield confidence, rng.random(count) < confidence**2, bins, least
