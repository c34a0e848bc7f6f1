# %% [markdown]
# Graded exercises of lesson 00: they take the place of those with the same number in the class edition, since the solved
# notebooks are public. TEACHING.md shows how to write your own.

# %% [markdown]
# ### Exercise 0.2: cosine about a centre
# Difficulty 1 of 3, about 6 minutes.
#
# In section 1 the mean caption was taken away before anything was compared. Write `cosine(a, b, centre)`: `a` (Q,E), `b` (N,E)
# and a point `centre` (E,). The answer (Q,N) holds the cosine of each row of `a` with each row of `b`, both seen from `centre`.
#
# <details><summary>Hint 1</summary>Where does an arrow begin, if not at zero? The lengths to divide by are those of the new arrows.</details>

# %% tags=["exercise"]
def cosine(a, b, centre):
    """(Q,E), (N,E), (E,) -> (Q,N): cosines of rows, seen from the centre."""
    # BEGIN SOLUTION
    a, b = a - centre, b - centre  # (Q,E), (N,E)
    a, b = a / a.norm(dim=-1, keepdim=True), b / b.norm(dim=-1, keepdim=True)
    return a @ b.T  # (Q,E) @ (E,N) -> (Q,N)
    # END SOLUTION


# %%
import torch

from course_utils.checks import own


@own.exercise("00", "0.2")
def check_cosine(answer):
    """cosine(a, b, centre)."""
    a = torch.tensor([[3.0, 4.0], [0.0, 2.0], [-1.0, 0.0]])  # (3,2)
    b = torch.tensor([[4.0, 3.0], [10.0, 0.0]])  # (2,2)
    centre = torch.tensor([1.0, 1.0])
    mistakes = {
        "The centre is not used: this is the cosine seen from zero.": torch.tensor(
            [[0.96, 0.6], [0.6, 0.0], [-0.8, -1.0]]
        ),
        "Both sides are seen from the centre, not `a` alone.": torch.tensor(
            [[0.94299, 0.5547], [-0.141421, -0.707107], [-0.98387, -0.894427]]
        ),
        "The lengths are missing: divide each row by its own.": torch.tensor(
            [[12.0, 15.0], [-1.0, -10.0], [-8.0, -17.0]]
        ),
        "Take the centre away first, then divide by lengths.": torch.tensor(
            [[0.8, 0.447214], [0.447214, 0.0], [0.8, 0.447214]]
        ),
        "You took each side's own mean. The centre is given, and the same for both.": torch.tensor(
            [[-0.388057, 0.388057], [0.894427, -0.894427], [0.229039, -0.229039]]
        ),
    }
    own.judge(
        own.call(answer, a, b, centre),
        torch.tensor([[0.923077, 0.459423], [-0.196116, -0.780869], [-0.992278, -0.83957]]),
        mistakes,
        "From (1, 1), the points (3, 4) and (4, 3) lie at (2, 3) and (3, 2): their cosine is 12/13.",
    )


# %% tags=["check"]
check_cosine(cosine)


# %% tags=["hidden"]
def cases():
    draw = torch.Generator().manual_seed(2)
    for q, n, e in ((2, 5, 3), (4, 1, 8)):
        yield torch.randn(q, e, generator=draw), torch.randn(n, e, generator=draw), torch.randn(e, generator=draw)


# %% [markdown]
# ### Exercise 0.5: chance of all of them
# Difficulty 2 of 3, about 6 minutes.
#
# A search that knows nothing puts `n` pictures in random order, and `right` of them are right answers. Write
# `all_found(n, right, k)`: how likely are *all* right pictures among the first `k`? Where they do not fit, the chance is 0.
#
# <details><summary>Hint 1</summary>Count the sets of k pictures that hold all right ones: how many places are left, and for how many other pictures?</details>


# %% tags=["exercise"]
def all_found(n, right, k):
    """The probability that all `right` pictures stand among the first k of n in random order."""
    # BEGIN SOLUTION
    from math import comb

    return comb(n - right, k - right) / comb(n, k) if k >= right else 0.0
    # END SOLUTION


# %%
from course_utils.checks import own


@own.exercise("00", "0.5")
def check_all_found(answer):
    """all_found(n, right, k)."""
    cases = [(10, 2, 5), (10, 2, 1), (6, 3, 6), (150, 1, 10)]
    mistakes = {
        "This is the chance of *at least one*. All of them are asked for.": [0.777778, 0.2, 1.0, 0.0666667],
        "You draw with replacement: once one place is taken, fewer are left for the next.": [
            0.25,
            0.01,
            1.0,
            0.0666667,
        ],
        "right * k / n is how many are found on average, not how often all are.": [1.0, 0.2, 1.0, 0.0666667],
        "The right pictures have C(n, right) places, of which C(k, right) are in the list: divide by the first.": [
            0.0396825,
            0.0,
            20.0,
            8.55027e-15,
        ],
    }
    own.judge(
        [own.call(answer, *case) for case in cases],
        [0.222222, 0.0, 1.0, 0.0666667],
        mistakes,
        "For (n, right, k) = (10, 2, 5), (10, 2, 1), (6, 3, 6), (150, 1, 10): 2/9, 0, 1 and 1/15.",
    )


# %% tags=["check"]
check_all_found(all_found)


# %% tags=["hidden"]
def cases():
    yield from ((12, 3, 7), (20, 4, 3), (9, 1, 9), (40, 2, 11))
