# %% [markdown]
# Graded exercises of lesson 02: they take the place of those with the same number in the class edition, since the solved
# notebooks are public. TEACHING.md shows how to write your own.

# %% [markdown]
# ### Exercise 2.3: one direction counts more
# Difficulty 2 of 3, about 10 minutes.
#
# A shop searches pictures by words far more often than the other way round. Write `tilted_loss(z_img, z_txt, tau, share)` for unit rows
# (B,E): `share` times the mean loss of the pictures, each choosing its caption, plus `1 - share` times that of the captions, each choosing
# its picture. In nats, also at tau 0.01.
#
# <details><summary>Hint 1</summary>In the matrix of logits rows are pictures. Which of the two losses reads along rows?</details>

# %% tags=["exercise"]
def tilted_loss(z_img, z_txt, tau, share):
    """share of the loss from picture to caption, the rest from caption to picture; z_img, z_txt (B,E), nats."""
    # BEGIN SOLUTION
    logits = z_img @ z_txt.T / tau  # (B,E) @ (E,B) -> (B,B)
    target = torch.arange(len(logits))
    return share * F.cross_entropy(logits, target) + (1 - share) * F.cross_entropy(logits.T, target)
    # END SOLUTION


# %%
import torch

from course_utils.checks import own


@own.exercise("02", "2.3")
def check_tilted_loss(answer):
    """tilted_loss(z_img, z_txt, tau, share)."""
    z_img = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    z_txt = torch.tensor([[0.8, 0.6], [1.0, 0.0], [0.6, 0.8]])
    mistakes = {
        "`share` is not used: both directions count half in yours.": 1.16137,
        "The shares are swapped: `share` belongs to the pictures, which are rows.": 1.15301,
        "You multiply by tau. Divide: a small tau makes logits large.": 1.09381,
        "The captions' direction is missing.": 0.229486,
        "The captions count 1 - share, so that both shares add up to 1.": 1.4048,
    }
    own.judge(own.call(answer, z_img, z_txt, 0.5, 0.2), 1.16973, mistakes, "Three pairs at tau 0.5 with share 0.2.")


# %% tags=["check"]
check_tilted_loss(tilted_loss)


# %% tags=["hidden"]
def cases():
    draw = torch.Generator().manual_seed(3)
    for pairs, width, tau, share in ((5, 3, 0.07, 0.9), (4, 8, 0.01, 0.35)):
        a, b = torch.randn(2, pairs, width, generator=draw)
        yield a / a.norm(dim=1, keepdim=True), b / b.norm(dim=1, keepdim=True), tau, share


# %% [markdown]
# ### Exercise 2.6: the sigmoid loss, in balance
# Difficulty 2 of 3, about 10 minutes.
#
# In a batch of 1,024 only one cell in 1,024 is right. Write `balanced_loss(z_img, z_txt, scale, bias)` for unit rows (B,E), without a
# loop: the mean of SigLIP's cost over the B right cells, plus the mean of its cost over the B(B - 1) wrong cells, divided by two.
#
# <details><summary>Hint 1</summary>The cost of a cell is <code>-F.logsigmoid(sign * logit)</code>, as before. Two means, over two kinds of cell.</details>


# %% tags=["exercise"]
def balanced_loss(z_img, z_txt, scale, bias):
    """Half the mean cost of right cells, half the mean cost of wrong cells; z_img, z_txt (B,E) unit rows."""
    # BEGIN SOLUTION
    logits = scale * z_img @ z_txt.T + bias  # (B,E) @ (E,B) -> (B,B)
    right = torch.eye(len(logits), dtype=torch.bool)
    return -(F.logsigmoid(logits[right]).mean() + F.logsigmoid(-logits[~right]).mean()) / 2
    # END SOLUTION


# %%
import torch

from course_utils.checks import own


@own.exercise("02", "2.6")
def check_balanced_loss(answer):
    """balanced_loss(z_img, z_txt, scale, bias)."""
    z_img = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    z_txt = torch.tensor([[0.8, 0.6], [1.0, 0.0], [0.6, 0.8]])
    mistakes = {
        "This is SigLIP's own loss: wrong cells outnumber right ones. Take a mean of each kind.": 3.07793,
        "This is one mean over all cells. Take a mean of each kind, then their mean.": 1.02598,
        "Both means are added. Divide by two.": 1.71223,
        "The signs are swapped: a right cell should have a large logit.": 0.936115,
        "The bias is added, not taken away.": 2.4038,
    }
    own.judge(own.call(answer, z_img, z_txt, 4.0, -2.0), 0.856115, mistakes, "Three pairs, scale 4, bias -2.")


# %% tags=["check"]
check_balanced_loss(balanced_loss)


# %% tags=["hidden"]
def cases():
    draw = torch.Generator().manual_seed(4)
    for pairs, width, scale, bias in ((5, 3, 10.0, -10.0), (2, 8, 1.0, 0.5)):
        a, b = torch.randn(2, pairs, width, generator=draw)
        yield a / a.norm(dim=1, keepdim=True), b / b.norm(dim=1, keepdim=True), scale, bias
