# %% [markdown]
# Graded exercises of lesson 01: they take the place of those with the same number in the class edition, since the solved
# notebooks are public. TEACHING.md shows how to write your own.

# %% [markdown]
# ### Exercise 1.1: frames that lose nothing
# Difficulty 1 of 3, about 7 minutes.
#
# Write `frames(samples, length, step)`: samples (T,) in, frames (F,length) out, frame `f` beginning at sample `f * step`. This
# time no sample is lost: the last frame is filled up with zeros. There are as few frames as hold all samples, and at least one.
#
# <details><summary>Hint 1</summary>With T = 10, length 4, step 3 three frames are enough, and nothing is filled up. With T = 11? <code>-(-a // b)</code> rounds up.</details>

# %% tags=["exercise"]
def frames(samples, length, step):
    """Frames of samples (T,), each `length` long, one every `step`, zeros after the end -> (F,length)."""
    # BEGIN SOLUTION
    count = 1 + max(0, -(-(len(samples) - length) // step))
    padded = np.concatenate([samples, np.zeros((count - 1) * step + length)])
    return np.stack([padded[f * step : f * step + length] for f in range(count)])  # (F,length)
    # END SOLUTION


# %%
import numpy as np

from course_utils.checks import own


@own.exercise("01", "1.1")
def check_frames(answer):
    """frames(samples, length, step)."""
    samples = np.arange(1.0, 12.0)  # 11 samples
    mistakes = {
        "The samples at the end are lost: 11 stands in none of your frames.": np.array(
            [[1.0, 2.0, 3.0, 4.0], [4.0, 5.0, 6.0, 7.0], [7.0, 8.0, 9.0, 10.0]]
        ),
        "The zeros belong after the last sample, not before the first.": np.array(
            [[0.0, 0.0, 1.0, 2.0], [2.0, 3.0, 4.0, 5.0], [5.0, 6.0, 7.0, 8.0], [8.0, 9.0, 10.0, 11.0]]
        ),
        "The end is filled with the last sample again. Zeros are asked for.": np.array(
            [[1.0, 2.0, 3.0, 4.0], [4.0, 5.0, 6.0, 7.0], [7.0, 8.0, 9.0, 10.0], [10.0, 11.0, 11.0, 11.0]]
        ),
        "There is one frame too many, of zeros or of samples that all stand in the one before.": np.array(
            [
                [1.0, 2.0, 3.0, 4.0],
                [4.0, 5.0, 6.0, 7.0],
                [7.0, 8.0, 9.0, 10.0],
                [10.0, 11.0, 0.0, 0.0],
                [0.0, 0.0, 0.0, 0.0],
            ]
        ),
    }
    own.judge(
        own.call(answer, samples, 4, 3),
        np.array([[1.0, 2.0, 3.0, 4.0], [4.0, 5.0, 6.0, 7.0], [7.0, 8.0, 9.0, 10.0], [10.0, 11.0, 0.0, 0.0]]),
        mistakes,
        "11 samples, length 4, step 3: frames begin at 0, 3, 6 and 9, and the last holds 10, 11, 0, 0.",
    )
    own.judge(
        own.call(answer, samples[:10], 4, 3)[-1], np.array([7.0, 8.0, 9.0, 10.0]), {}, "10 samples fill three frames."
    )
    own.judge(own.call(answer, samples[:2], 4, 3), np.array([[1.0, 2.0, 0.0, 0.0]]), {}, "Two samples make one frame.")


# %% tags=["check"]
check_frames(frames)


# %% tags=["hidden"]
def cases():
    for total, length, step in ((20, 5, 5), (21, 5, 5), (7, 8, 2), (30, 6, 4)):
        yield np.linspace(-1, 1, total), length, step


# %% [markdown]
# ### Exercise 1.5: a code by trust
# Difficulty 2 of 3, about 10 minutes.
#
# Not every modality that is there deserves the same say. Write `shared_code(codes, trust)`: codes (N,M,E) and trust (N,M), numbers
# from 0 up, in; the mean over the modalities weighted by their trust (N,E) out. Trust 0 means missing: what stands there must not
# matter, not even `nan`. Every row trusts somebody.
#
# <details><summary>Hint 1</summary>What is <code>0 * nan</code>? And by what must a row be divided, so that three times the trust changes nothing?</details>


# %% tags=["exercise"]
def shared_code(codes, trust):
    """Mean over modalities weighted by trust: codes (N,M,E), trust (N,M) >= 0 -> (N,E)."""
    # BEGIN SOLUTION
    kept = np.where(trust[..., None] > 0, codes, 0.0)  # (N,M,E)
    return (trust[..., None] * kept).sum(axis=1) / trust.sum(axis=1, keepdims=True)  # (N,E)
    # END SOLUTION


# %%
import numpy as np

from course_utils.checks import own


@own.exercise("01", "1.5")
def check_shared_code(answer):
    """shared_code(codes, trust)."""
    codes = np.array([[[1.0, 2.0], [3.0, 4.0], [9.0, 9.0]], [[4.0, 0.0], [0.0, 4.0], [8.0, 4.0]]])  # (2,3,2)
    trust = np.array([[3.0, 1.0, 0.0], [0.5, 0.5, 0.5]])
    holes = np.where(trust[..., None] > 0, codes, np.nan)
    mistakes = {
        "You divide by how many are present. Divide by their trust, added up.": np.array([[3.0, 5.0], [2.0, 1.33333]]),
        "The sum is not divided by the trust added up.": np.array([[6.0, 10.0], [6.0, 4.0]]),
        "This is the plain mean of what is there: trust 3 and trust 1 count alike.": np.array(
            [[2.0, 3.0], [4.0, 2.66667]]
        ),
        "You divide by the number of modalities. Divide by their trust, added up.": np.array(
            [[2.0, 3.33333], [2.0, 1.33333]]
        ),
    }
    own.judge(
        own.call(answer, holes, trust),
        np.array([[1.5, 2.5], [4.0, 2.66667]]),
        mistakes,
        "Codes (1, 2) and (3, 4) with trust 3 and 1: (1.5, 2.5).",
        infinite="A missing place reaches the sum: 0 * nan is nan. Put a number there first.",
    )


# %% tags=["check"]
check_shared_code(shared_code)


# %% tags=["hidden"]
def cases():
    rng = np.random.default_rng(5)
    for n, m, e in ((4, 2, 3), (3, 5, 2)):
        trust = rng.random((n, m)) * (rng.random((n, m)) < 0.6)
        trust[:, 0] += 0.1
        yield np.where(trust[..., None] > 0, rng.normal(size=(n, m, e)), np.nan), trust
