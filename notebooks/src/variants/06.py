# %% [markdown]
# Graded exercises of lesson 06: they take the place of those with the same number in the class edition, since the solved
# notebooks are public. TEACHING.md shows how to write your own.

# %% [markdown]
# ### Exercise 6.3: a straight fall to a floor
# Difficulty 2 of 3, about 8 minutes.
#
# Write `rate(step, steps, warmup, peak, floor)`, the rate that step number `step` = 0, 1, ... uses. The rise is the lesson's:
# `peak * (step + 1) / (warmup + 1)` while `step < warmup`. From step `warmup`, which uses `peak`, it falls in a straight line, and
# the *last* step, number `steps - 1`, uses `floor`. It must also work for `warmup=0`.
#
# <details><summary>Hint 1</summary>How many steps lie between step <code>warmup</code> and the last one? At what share of the way is step <code>step</code>?</details>

# %% tags=["exercise"]
def rate(step, steps, warmup, peak, floor):
    """Learning rate of a step: a linear rise over `warmup` steps, then a line from peak to floor."""
    # BEGIN SOLUTION
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    done = (step - warmup) / (steps - 1 - warmup)
    return peak + (floor - peak) * done
    # END SOLUTION


# %%
from course_utils.checks import own


@own.exercise("06", "6.3")
def check_rate(answer):
    """rate(step, steps, warmup, peak, floor)."""
    steps = [0, 1, 2, 4, 9]
    mistakes = {
        "It falls to 0. The last step uses the floor.": [0.5, 1.0, 0.875, 0.625, 0.0, 3.0],
        "The last step does not reach the floor: it lies n - 1 - warmup steps after the peak.": [
            0.5,
            1.0,
            0.911111,
            0.733333,
            0.288889,
            3.0,
        ],
        "The rise begins at 0: the first step would teach nothing.": [0.0, 1.0, 0.9, 0.7, 0.2, 3.0],
        "This is half a cosine. A straight line is asked for.": [0.5, 1.0, 0.969552, 0.753073, 0.2, 3.0],
        "The line goes to 0 and is cut off at the floor. It should end there.": [0.5, 1.0, 0.875, 0.625, 0.2, 3.0],
    }
    own.judge(
        [own.call(answer, step, 10, 1, 1.0, 0.2) for step in steps] + [own.call(answer, 0, 5, 0, 3.0, 1.0)],
        [0.5, 1.0, 0.9, 0.7, 0.2, 3.0],
        mistakes,
        "10 steps, warm-up 1, from 1.0 to 0.2: steps 0, 1, 2, 4, 9 use 0.5, 1, 0.9, 0.7, 0.2; without warm-up step 0 uses the peak.",
    )


# %% tags=["check"]
check_rate(rate)


# %% tags=["hidden"]
def cases():
    for step in (0, 3, 4, 7, 11):
        yield step, 12, 4, 3e-4, 1e-5


# %% [markdown]
# ### Exercise 6.10: shares of a score
# Difficulty 2 of 3, about 8 minutes.
#
# Write `shares(encode, words, z_img)`: `encode` turns a list of n sentences into unit rows (n,E), words is a list of W words, z_img
# (E,). The part of word i is the score of all words minus the score without word i. Divide all parts by the sum of their *absolute*
# values, so that sentences can be compared. Return (W,) numbers.
#
# <details><summary>Hint 1</summary>Parts may be negative, and a plain sum of them may be 0.</details>


# %% tags=["exercise"]
def shares(encode, words, z_img):
    """What the score loses without each word, over the sum of what it loses or gains: (W,)."""
    # BEGIN SOLUTION
    without = [" ".join(words[:i] + words[i + 1 :]) for i in range(len(words))]
    cosines = encode([" ".join(words), *without]) @ z_img  # (1+W,E) @ (E,) -> (1+W,)
    parts = cosines[0] - cosines[1:]
    return parts / parts.abs().sum()
    # END SOLUTION


# %%
import torch

from course_utils.checks import own


@own.exercise("06", "6.10")
def check_shares(answer):
    """shares(encode, words, z_img)."""
    points = {"a": (1.0, 0.2), "red": (0.3, 1.0), "pig": (0.9, 0.5), "left": (-0.4, 0.8)}

    def encode(sentences):
        sums = torch.tensor([[sum(points[w][k] for w in one.split()) for k in (0, 1)] for one in sentences])
        return sums / sums.norm(dim=1, keepdim=True)  # (n,E)

    words, z_img = ["a", "red", "pig", "left", "a"], torch.tensor([0.6, 0.8])
    mistakes = {
        "These are the parts. Divide them by the sum of their absolute values.": torch.tensor(
            [-0.0125952, 0.0412112, -0.0104153, 0.0628712, -0.0125952]
        ),
        "You divide by the plain sum, in which gains and losses cancel.": torch.tensor(
            [-0.183935, 0.601829, -0.152099, 0.918141, -0.183935]
        ),
        "The sign is turned: all words, minus the score without one.": torch.tensor(
            [0.0901669, -0.295023, 0.0745608, -0.450083, 0.0901669]
        ),
        "Every *a* goes in yours where one should: leave out by place, not by name.": torch.tensor(
            [0.188031, 0.224574, -0.0567563, 0.342607, 0.188031]
        ),
        "You scored each word alone. Leave one out of the sentence.": torch.tensor(
            [0.196666, 0.247711, 0.240939, 0.118018, 0.196666]
        ),
    }
    own.judge(
        own.call(answer, encode, words, z_img),
        torch.tensor([-0.0901669, 0.295023, -0.0745608, 0.450083, -0.0901669]),
        mistakes,
        "The absolute values add up to 1; the second *a* has a share of its own.",
    )


# %% tags=["check"]
check_shares(shares)


# %% tags=["hidden"]
def cases():
    def encode(sentences):
        long = torch.tensor(
            [[len(one), one.count("e") + 1.0, len(one.split())] for one in sentences], dtype=torch.float
        )
        return long / long.norm(dim=1, keepdim=True)  # (n,E)

    yield encode, ["three", "green", "geese", "see", "me"], torch.tensor([0.1, 0.7, 0.7])
