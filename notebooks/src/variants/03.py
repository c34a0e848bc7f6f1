# %% [markdown]
# Graded exercises of lesson 03: they take the place of those with the same number in the class edition, since the solved
# notebooks are public. TEACHING.md shows how to write your own.

# %% [markdown]
# ### Exercise 3.2: attention by cosine
# Difficulty 1 of 3, about 8 minutes.
#
# Write `attend(queries, keys, values, sharpness)`: queries (L,D), keys (P,D) and values (P,Dv) in, the pair
# `(out (L,Dv), attn (L,P))` out. A score is the *cosine* of query and key times `sharpness`: the length of a key buys it nothing.
#
# <details><summary>Hint 1</summary>Which two matrices get unit rows? The values do not: they are what is read.</details>

# %% tags=["exercise"]
def attend(queries, keys, values, sharpness):
    """Attention by cosine times sharpness: (L,D), (P,D), (P,Dv) -> out (L,Dv), attn (L,P)."""
    # BEGIN SOLUTION
    scores = sharpness * F.normalize(queries, dim=-1) @ F.normalize(keys, dim=-1).T  # (L,D) @ (D,P) -> (L,P)
    attn = scores.softmax(dim=-1)
    return attn @ values, attn  # (L,P) @ (P,Dv) -> (L,Dv)
    # END SOLUTION


# %%
import torch

from course_utils.checks import own


@own.exercise("03", "3.2")
def check_attend(answer):
    """attend(queries, keys, values, sharpness)."""
    queries = torch.tensor([[3.0, 4.0], [0.0, 2.0]])  # (L,D)
    keys = torch.tensor([[4.0, 3.0], [1.0, 0.0], [0.0, -5.0]])  # (P,D)
    values = torch.tensor([[1.0], [2.0], [4.0]])  # (P,Dv)
    mistakes = {
        "This is the scaled product. The cosine, times sharpness, is asked for.": torch.tensor(
            [[1.0, 3.55677e-07, 3.07557e-14], [0.985822, 0.0141659, 1.20314e-05]]
        ),
        "The queries keep their length in yours: a long query is sharper. Both sides get unit rows.": torch.tensor(
            [[0.995504, 0.00449627, 3.40932e-12], [0.973339, 0.0265952, 6.5923e-05]]
        ),
        "You divide by sharpness. Multiply: it is no temperature.": torch.tensor(
            [[0.409316, 0.363031, 0.227653], [0.415735, 0.340375, 0.24389]]
        ),
        "Your columns add up to 1. Each word shares itself out over the places: dim=-1.": torch.tensor(
            [[0.746494, 0.858149, 0.645656], [0.253506, 0.141851, 0.354344]]
        ),
        "`sharpness` is not used.": torch.tensor([[0.534839, 0.373145, 0.0920163], [0.571197, 0.31348, 0.115323]]),
    }
    own.judge(
        own.call(answer, queries, keys, values, 3.0)[1],
        torch.tensor([[0.743667, 0.252546, 0.00378707], [0.852131, 0.140856, 0.00701282]]),
        mistakes,
        "The shares of the first word: cosines 0.96, 0.6 and -0.8, times 3, then softmax.",
    )
    out = own.call(answer, queries, keys, values, 3.0)[0]
    own.judge(
        out,
        torch.tensor([[1.26391], [1.16189]]),
        {},
        "The shares are right. What is read is attn @ values, and values are not normalised.",
    )


# %% tags=["check"]
check_attend(attend)


# %% tags=["hidden"]
def cases():
    draw = torch.Generator().manual_seed(5)
    for words, places, width, deep in ((3, 4, 6, 2), (1, 7, 5, 5)):
        sides = (torch.randn(n, d, generator=draw) for n, d in ((words, width), (places, width), (places, deep)))
        yield *sides, 8.0


# %% [markdown]
# ### Exercise 3.6: how much of a map lies inside?
# Difficulty 2 of 3, about 10 minutes.
#
# The strongest place is one pixel; a map has many. Write `energy_over_area(saliency, mask)`: saliency (H,W) and mask (H,W) of bool in, a
# number out: the share of the map's *positive* values, added up, that lies inside the mask, divided by the mask's share of the picture. A flat
# positive map scores 1, and a map without any positive value scores 0.
#
# <details><summary>Hint 1</summary><code>saliency.clamp(min=0)</code> leaves the positive part. What would a mask over the whole picture score?</details>


# %% tags=["exercise"]
def energy_over_area(saliency, mask):
    """Share of the positive part of saliency (H,W) inside mask (H,W) bool, over the mask's share of the area."""
    # BEGIN SOLUTION
    positive = saliency.clamp(min=0)
    if positive.sum() == 0:
        return 0.0
    return float(positive[mask].sum() / positive.sum() / mask.float().mean())
    # END SOLUTION


# %%
import torch

from course_utils.checks import own


@own.exercise("03", "3.6")
def check_energy_over_area(answer):
    """energy_over_area(saliency, mask)."""
    saliency = torch.tensor([[4.0, -2.0, 1.0], [1.0, 0.0, 2.0]])  # (H,W)
    mask = torch.tensor([[True, True, False], [False, False, False]])
    mistakes = {
        "This is the share inside. Divide it by the mask's share of the picture: a large mask is hit by chance.": 0.5,
        "Negative values count in yours. Clamp them to 0 first.": 1.0,
        "You took absolute values: -2 speaks against a place, not for it.": 1.8,
        "This is the mean inside. It grows when the whole map is scaled up.": 2.0,
    }
    own.judge(
        own.call(answer, saliency, mask),
        1.5,
        mistakes,
        "Of 8 positive, 4 lie inside; the mask is a third of the picture: 0.5 / (1/3) = 1.5.",
    )
    own.judge(own.call(answer, -saliency.abs(), mask), 0.0, {}, "A map without a positive value scores 0.")


# %% tags=["check"]
check_energy_over_area(energy_over_area)


# %% tags=["hidden"]
def cases():
    draw = torch.Generator().manual_seed(6)
    for high, wide in ((4, 5), (2, 9)):
        yield torch.randn(high, wide, generator=draw), torch.rand(high, wide, generator=draw) < 0.4
    yield torch.full((3, 3), 2.5), torch.eye(3) > 0
