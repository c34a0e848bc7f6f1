# %% [markdown]
# Graded exercises of lesson 04: they take the place of those with the same number in the class edition, since the solved
# notebooks are public. TEACHING.md shows how to write your own.

# %% [markdown]
# ### Exercise 4.7: at most one goes
# Difficulty 2 of 3, about 10 minutes.
#
# Write `drop_one(count, modalities, rate, generator)`: a mask (count, modalities) of bool, `True` where a modality is kept. With probability
# `rate` a row loses exactly one modality, each equally often; otherwise it keeps all. Draw from `generator` alone, without a loop.
#
# <details><summary>Hint 1</summary>Two draws: which rows lose one, and which one it would be. <code>torch.nn.functional.one_hot</code> makes a mask of numbers.</details>

# %% tags=["exercise"]
def drop_one(count, modalities, rate, generator):
    """(count, modalities) bool, True where kept: in a share `rate` of the rows one modality is missing."""
    # BEGIN SOLUTION
    loses = torch.rand(count, 1, generator=generator) < rate  # (count,1)
    which = torch.randint(modalities, (count, 1), generator=generator)  # (count,1)
    return ~(loses & (torch.arange(modalities) == which))  # (count,1), (modalities,) -> (count,modalities)
    # END SOLUTION


# %%
import torch

from course_utils.checks import own


@own.exercise("04", "4.7")
def check_drop_one(answer):
    """drop_one(count, modalities, rate, generator)."""
    count, modalities, rate = 6_000, 3, 0.6
    kept = own.call(answer, count, modalities, rate, torch.Generator().manual_seed(1))
    shape = tuple(getattr(kept, "shape", ()))
    own.expect(shape == (count, modalities), f"The shape should be {(count, modalities)}, yours is {shape}.")
    own.expect(kept.dtype == torch.bool, "A mask of bool is wanted.")
    lost = modalities - kept.sum(dim=1)
    own.expect(not (lost == modalities).any(), "Some rows lose everything: is True where a modality is *kept*?")
    own.expect(lost.max() <= 1, "Some rows lose more than one modality: you drop each by itself.")
    share = lost.float().mean().item()
    own.expect(abs(share - (1 - rate)) > 0.03, "You keep where you should drop: `rate` is how often a row loses one.")
    own.expect(abs(share - rate) < 0.03, f"A share 0.6 of the rows should lose one modality, in yours {share:.2f} do.")
    each = (~kept).float().mean(dim=0) * modalities
    own.expect((each - rate).abs().max() < 0.06, "One modality is dropped more often than the others.")
    again, other = (answer(count, modalities, rate, torch.Generator().manual_seed(seed)) for seed in (1, 2))
    own.expect(torch.equal(kept, again), "The same generator gives another mask: draw from `generator` alone.")
    own.expect(not torch.equal(kept, other), "Every generator gives the same mask: hand `generator` to each draw.")


# %% tags=["check"]
check_drop_one(drop_one)

# %% [markdown]
# ### Exercise 4.8: norms in proportion
# Difficulty 2 of 3, about 10 minutes.
#
# One task's gradient may be a thousand times another's, and an arithmetic mean then listens to the largest alone. Write
# `even_targets(norms, ratios, exponent)`: $G_i$ (T,), $L_i/L_i(0)$ (T,) and a number in, targets (T,) out, as before, but both means are
# *geometric*: the exponential of the mean logarithm.
#
# <details><summary>Hint 1</summary>There are two means in GradNorm's targets, of norms and of ratios. Both change.</details>


# %% tags=["exercise"]
def even_targets(norms, ratios, exponent):
    """Geometric mean of norms times (ratio over the geometric mean of ratios) ** exponent; norms, ratios (T,) -> (T,)."""
    # BEGIN SOLUTION
    norm, ratio = norms.log().mean().exp(), ratios.log().mean().exp()
    return norm * (ratios / ratio) ** exponent
    # END SOLUTION


# %%
import torch

from course_utils.checks import own


@own.exercise("04", "4.8")
def check_even_targets(answer):
    """even_targets(norms, ratios, exponent)."""
    norms, ratios = torch.tensor([0.5, 2.0, 8.0]), torch.tensor([0.2, 0.4, 0.8])
    mistakes = {
        "Both means are arithmetic in yours: these are GradNorm's own targets.": torch.tensor(
            [0.98198, 2.77746, 7.85584]
        ),
        "The ratios' mean is still arithmetic.": torch.tensor([0.561132, 1.58712, 4.48905]),
        "The norms' mean is still arithmetic.": torch.tensor([1.23744, 3.5, 9.8995]),
        "The ratios are relative to their mean: divide before the power.": torch.tensor([0.178885, 0.505964, 1.43108]),
        "This is a mean of logarithms. Take its exponential.": torch.tensor([0.245065, 0.693147, 1.96052]),
    }
    own.judge(
        own.call(answer, norms, ratios, 1.5),
        torch.tensor([0.707107, 2.0, 5.65686]),
        mistakes,
        "Norms 0.5, 2, 8 have the geometric mean 2; ratios 0.2, 0.4, 0.8 have 0.4: the second target is 2.",
    )


# %% tags=["check"]
check_even_targets(even_targets)


# %% tags=["hidden"]
def cases():
    draw = torch.Generator().manual_seed(7)
    for tasks, exponent in ((2, 0.5), (5, 1.0)):
        yield torch.rand(tasks, generator=draw) + 0.1, torch.rand(tasks, generator=draw) + 0.1, exponent
