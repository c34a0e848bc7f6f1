# %% [markdown]
# Graded exercises of lesson 07: they take the place of those with the same number in the class edition, since the solved
# notebooks are public. TEACHING.md shows how to write your own.

# %% [markdown]
# ### Exercise 7.4: tokens as a picture, by columns
# Difficulty 2 of 3, about 8 minutes.
#
# Another model numbers its patches *column by column*, and keeps some further tokens, its registers, at the end. Write
# `to_picture(tokens, rows, columns)`: tokens (1 + rows * columns + R, D) with a class token in front, then the patches, down the first column,
# then down the second, and R registers, any number of them, in; (D, rows, columns) out.
#
# <details><summary>Hint 1</summary>Which axis runs fast where patches go down a column: rows or columns? Reshape to that first, then swap.</details>

# %% tags=["exercise"]
def to_picture(tokens, rows, columns):
    """Tokens (1+P+R,D): class token, P = rows * columns patches by columns, R registers -> (D,rows,columns)."""
    # BEGIN SOLUTION
    patches = tokens[1 : 1 + rows * columns]  # (P,D)
    return patches.T.reshape(-1, columns, rows).transpose(1, 2)  # (D,P) -> (D,columns,rows) -> (D,rows,columns)
    # END SOLUTION


# %%
import torch

from course_utils.checks import own


@own.exercise("07", "7.4")
def check_to_picture(answer):
    """to_picture(tokens, rows, columns)."""
    tokens = torch.stack(
        [torch.arange(9.0), -torch.arange(9.0)], dim=1
    )  # class token 0, six patches, registers 7 and 8
    mistakes = {
        "Your patches run along rows. These run down columns.": torch.tensor(
            [[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], [[-1.0, -2.0, -3.0], [-4.0, -5.0, -6.0]]]
        ),
        "The class token is still there: patches begin at 1.": torch.tensor(
            [[[0.0, 2.0, 4.0], [1.0, 3.0, 5.0]], [[-0.0, -2.0, -4.0], [-1.0, -3.0, -5.0]]]
        ),
        "You took the last tokens: those are registers.": torch.tensor(
            [[[3.0, 5.0, 7.0], [4.0, 6.0, 8.0]], [[-3.0, -5.0, -7.0], [-4.0, -6.0, -8.0]]]
        ),
        "The shape is (D, columns, rows): swap the last two.": torch.tensor(
            [[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], [[-1.0, -2.0], [-3.0, -4.0], [-5.0, -6.0]]]
        ),
        "The width D stands last. It comes first, as colours do.": torch.tensor(
            [[[1.0, -1.0], [3.0, -3.0], [5.0, -5.0]], [[2.0, -2.0], [4.0, -4.0], [6.0, -6.0]]]
        ),
    }
    own.judge(
        own.call(answer, tokens, 2, 3),
        torch.tensor([[[1.0, 3.0, 5.0], [2.0, 4.0, 6.0]], [[-1.0, -3.0, -5.0], [-2.0, -4.0, -6.0]]]),
        mistakes,
        "Patches 1 to 6 in two rows and three columns: 1, 3, 5 above 2, 4, 6.",
    )


# %% tags=["check"]
check_to_picture(to_picture)


# %% tags=["hidden"]
def cases():
    draw = torch.Generator().manual_seed(8)
    for rows, columns, registers, width in ((3, 5, 4, 6), (4, 4, 0, 2)):
        yield torch.randn(1 + rows * columns + registers, width, generator=draw), rows, columns


# %% [markdown]
# ### Exercise 7.2: what speaks against it
# Difficulty 2 of 3, about 8 minutes.
#
# Grad-CAM shows what speaks *for* a score. Write `cam(activations, gradients)` for one picture, both (C,h,w): the map (h,w) of what speaks
# *against* it. Weigh the channels as Grad-CAM does, with each weight divided by the sum of all weights' absolute values; keep
# the negative part of the sum, and return it without its sign.
#
# <details><summary>Hint 1</summary>One weight a channel: over which axes is the mean? What does <code>relu</code> keep of minus the sum?</details>


# %% tags=["exercise"]
def cam(activations, gradients):
    """The places that speak against a score, from maps and their gradients (C,h,w) -> (h,w), >= 0."""
    # BEGIN SOLUTION
    weight = gradients.mean(dim=(1, 2), keepdim=True)  # (C,1,1)
    weight = weight / weight.abs().sum()
    return (-(weight * activations).sum(dim=0)).relu()  # (C,h,w) -> (h,w)
    # END SOLUTION


# %%
import torch

from course_utils.checks import own


@own.exercise("07", "7.2")
def check_cam(answer):
    """cam(activations, gradients)."""
    activations = torch.tensor([[[1.0, 2.0], [0.0, 4.0]], [[3.0, 0.0], [1.0, 1.0]]])  # (C,h,w)
    gradients = torch.tensor([[[1.0, 1.0], [0.0, 2.0]], [[-2.0, -5.0], [-3.0, -2.0]]])
    mistakes = {
        "This is Grad-CAM itself: what speaks for the score.": torch.tensor([[0.0, 2.0], [0.0, 1.0]]),
        "The weights are not divided by the sum of their absolute values.": torch.tensor([[8.0, 0.0], [3.0, 0.0]]),
        "You divide by the plain sum of weights, in which they cancel. Take absolute values first.": torch.tensor(
            [[4.0, 0.0], [1.5, 0.0]]
        ),
        "What speaks for the score is negative in yours. It should be 0: relu at the end.": torch.tensor(
            [[2.0, -0.5], [0.75, -0.25]]
        ),
        "Each place has its own gradient in yours. Grad-CAM has one weight a channel: the mean over places.": torch.tensor(
            [[1.25, 0.0], [0.75, 0.0]]
        ),
    }
    own.judge(
        own.call(answer, activations, gradients),
        torch.tensor([[2.0, 0.0], [0.75, 0.0]]),
        mistakes,
        "The weights are 1/4 and -3/4. At the first place 1/4 - 9/4 is negative: 2 speaks against the score.",
    )


# %% tags=["check"]
check_cam(cam)


# %% tags=["hidden"]
def cases():
    draw = torch.Generator().manual_seed(9)
    for channels, high, wide in ((3, 2, 4), (6, 3, 3)):
        yield (*torch.randn(2, channels, high, wide, generator=draw),)
