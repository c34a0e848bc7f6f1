# %% [markdown]
# # 02 Contrastive loss: what does "matching" mean to a gradient?
#
# > **You will be able to** compute a contrastive loss by hand and in three lines, read its gradient, choose temperature
# > and batch size with evidence, train a two-tower model from nothing, and find out what its score does *not* know.
# >
# > **Time** 90 minutes. **Needs** Python, a little PyTorch, lesson 00. **Runs** in under a minute (`smoke`), under five
# > minutes on two CPU cores (`cpu`); `gpu` sizes are there and not yet run.

# %% tags=["parameters"]
PROFILE = "auto"
SEED = 0

# %% [markdown]
# A profile changes numbers and nothing else. Here are all of this lesson's; the cells below read them from `sizes`.

# %%
sizes = session.choose(
    objects=(12, 40, 40),
    pixels=(32, 64, 64),
    train_scenes=(1_850, 22_000, 22_000),
    test_scenes=(200, 1_000, 1_000),
    batch_size=(64, 128, 256),
    steps=(400, 1_000, 1_500),
    learning_rate=(3e-3, 2e-3, 2e-3),
    blind_below=(0.75, 0.65, 0.65),
    sweep_scenes=(1_024, 4_096, 8_192),
    sweep_steps=(10, 60, 300),
    sweep_seeds=(3, 3, 5),
)
sizes

# %% [markdown]
# ## 1 Rows are pictures, columns are captions
# Three pictures and three captions, already turned into arrows in a plane. Of the nine scores below, which three do you want
# to be large? Decide before you run.

# %% tags=["nbval-check-output"]
import torch
from torch.nn import functional as F

from course_utils.checks import contrastive_loss

z_img = F.normalize(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), dim=-1)  # (B,E) = (3,2)
z_txt = F.normalize(torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]]), dim=-1)  # (B,E)
scores = z_img @ z_txt.T  # (B,E) @ (E,B) -> (B,B)
scores.round(decimals=2)

# %% [markdown]
# The diagonal holds the right pairs. `F.normalize` gave every row length 1, so a product of rows is a cosine. Look at the
# last row: the right caption wins, and two rivals stand close behind it. *Is the right one largest?* would call this row
# finished. We want a measure that still sees the rivals.

# %%
from course_utils import plotting

pictures, captions = ["picture 1", "picture 2", "picture 3"], ["caption 1", "caption 2", "caption 3"]
axes = plotting.heat(scores, rows=pictures, columns=captions, limits=(0, 1))
axes.set_title("The right pairs lie on the diagonal (cosine)")
plotting.show(axes, alt="Three by three matrix of cosines; the diagonal is largest, but the last row is nearly even.")

# %% [markdown]
# ### Exercise 2.1: scores from raw embeddings
# Difficulty 1 of 3, about 5 minutes.
#
# Towers give rows of any length. Write `score_matrix(a, b)`: raw rows `a` (B,E) and `b` (B,E) in, cosines (B,B) out, rows
# for `a`.
#
# <details><summary>Hint 1</summary>What must happen to each row before the product, so that a long row gains nothing?</details>
# <details><summary>Hint 2</summary><code>F.normalize(..., dim=?)</code> divides by a length. Along which dimension does one embedding lie?</details>


# %% tags=["exercise"]
def score_matrix(a, b):
    """Cosine of every row of a (B,E) with every row of b (B,E) -> (B,B)."""
    # BEGIN SOLUTION
    return F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).T  # (B,E) @ (E,B) -> (B,B)
    # END SOLUTION


# %% tags=["check"]
contrastive_loss.check_score_matrix(score_matrix)

# %% [markdown]
# ## 2 Asking with a margin
# The oldest way to ask: the right pair must beat a wrong one by a margin $m$. For picture $i$ and rival caption $j$ the cost is
# $\max(0,\ m + s_{ij} - s_{ii})$. Zero means *far enough, leave me alone*. Picture 3 and its two rivals, by hand:

# %% tags=["nbval-check-output"]
margin = 0.2
right = scores[2, 2]
costs = [max(0.0, float(margin + scores[2, j] - right)) for j in (0, 1)]
[round(cost, 3) for cost in costs]

# %% [markdown]
# Both rivals cost something, though the right caption is largest. Adding up all rivals is the *pairwise margin*; keeping only
# the worst is the *triplet with the hardest negative* (VSE++). First with loops, one row after the other.


# %%
def hardest_rival_loop(scores, margin=0.2):
    total = 0.0
    for i in range(len(scores)):
        caption_rivals = [margin + scores[i, j] - scores[i, i] for j in range(len(scores)) if j != i]
        picture_rivals = [margin + scores[j, i] - scores[i, i] for j in range(len(scores)) if j != i]
        total += max(0, max(caption_rivals)) + max(0, max(picture_rivals))
    return total / len(scores)


hardest_rival_loop(scores)

# %% [markdown]
# ### Exercise 2.2: the hardest rival without a loop
# Difficulty 2 of 3, about 10 minutes.
#
# Write `hardest_rival(scores, margin)`: `scores` (B,B) in, one number out, equal to the loop. The diagonal must never count as a
# rival of itself.
#
# <details><summary>Hint 1</summary>The diagonal of <code>margin + scores - right[:, None]</code> is the margin itself. What if it stayed? And for the pictures of a caption: whose score is the right one, the row's or the column's?</details>
# <details><summary>Hint 2</summary>Multiply the clamped costs by <code>~torch.eye(len(scores), dtype=torch.bool)</code>, then take <code>amax</code> along rows for captions and along columns for pictures.</details>


# %% tags=["exercise"]
def hardest_rival(scores, margin):
    """Mean over pairs of the worst caption's cost plus the worst picture's cost; scores (B,B)."""
    # BEGIN SOLUTION
    right = scores.diagonal()  # (B,)
    rival = ~torch.eye(len(scores), dtype=torch.bool)  # (B,B)
    captions = (margin + scores - right[:, None]).clamp(min=0) * rival  # (B,B)
    pictures = (margin + scores - right[None, :]).clamp(min=0) * rival  # (B,B)
    return (captions.amax(dim=1) + pictures.amax(dim=0)).mean()
    # END SOLUTION


# %% tags=["check"]
contrastive_loss.check_hardest_rival(hardest_rival)

# %% [markdown]
# The package holds the same loss. This is a **bridge cell**: what was written out above and what is imported from now on
# give the same number, or the lesson stops here.

# %%
from course_utils import losses

assert torch.allclose(losses.triplet_loss(z_img, z_txt, margin), hardest_rival_loop(scores))

# %% [markdown]
# ## 3 Asking with a softmax
# A margin falls silent once it is met, and the hardest rival alone may be a fluke, such as a mislabelled pair. The softmax asks
# every rival at once, the near ones loudly: *if you had to bet on one caption for this picture, how would you spread the bet?*
# The cost is the surprise at the right one, $-\log p_{ii}$. Scores are first divided by a temperature $\tau$. One row, by hand:

# %%
import math

tau = 0.1
bets = [math.exp(scores[2, j] / tau) for j in range(3)]
p_right = bets[2] / sum(bets)
cost_of_row = -math.log(p_right)
print(f"bet on the right caption {p_right:.2f}, cost {cost_of_row:.2f} nats")

# %% [markdown]
# This is **InfoNCE** for one row. For all rows, with $s_{ij}$ the scores:
#
# $$L_{\text{img}\to\text{txt}} = -\frac1B \sum_i \log \frac{\exp(s_{ii}/\tau)}{\sum_j \exp(s_{ij}/\tau)}$$
#
# The same three lines for every row at once. `log_softmax` subtracts the largest logit first, so nothing overflows.

# %%
logits = scores / tau  # (B,B) rows are images
cost_of_rows = -logits.log_softmax(dim=1).diagonal()  # (B,)
assert math.isclose(cost_of_rows[2], cost_of_row, rel_tol=1e-5)
cost_of_rows

# %% [markdown]
# Picking the diagonal of a log-softmax is what PyTorch calls cross-entropy with targets 0, 1, 2: *row i belongs to class i*. CLIP
# asks in both directions, rows (which caption?) and columns (which picture?), and takes the mean.

# %% tags=["nbval-check-output"]
target = torch.arange(3)
by_rows = F.cross_entropy(logits, target)  # each picture picks a caption
by_columns = F.cross_entropy(logits.T, target)  # each caption picks a picture
assert torch.allclose(by_rows, cost_of_rows.mean())
by_rows, by_columns, (by_rows + by_columns) / 2

# %% [markdown]
# ### Exercise 2.3: CLIP's loss
# Difficulty 2 of 3, about 10 minutes.
#
# Write `clip_loss(z_img, z_txt, tau)` for unit rows (B,E): the mean of both directions, in nats. B need not equal E, and it must hold at tau 0.01.
#
# <details><summary>Hint 1</summary>How many classes does a row choose among? Which class is right for row i?</details>
# <details><summary>Hint 2</summary>Three lines: logits, target, the mean of two <code>F.cross_entropy</code>. The second looks at <code>logits.T</code>.</details>


# %% tags=["exercise"]
def clip_loss(z_img, z_txt, tau):
    """Symmetric InfoNCE of unit rows z_img, z_txt (B,E) at temperature tau, a scalar in nats."""
    # BEGIN SOLUTION
    logits = z_img @ z_txt.T / tau  # (B,E) @ (E,B) -> (B,B)
    target = torch.arange(len(logits))
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    # END SOLUTION


# %% tags=["check"]
contrastive_loss.check_clip_loss(clip_loss)

# %% [markdown]
# Is that CLIP's loss, or only something like it? We build a tiny CLIP with random weights through `transformers`, let *it* compute
# the loss, and demand the same value and the same gradient at the temperature's parameter.

# %%
from transformers import CLIPConfig, CLIPModel

small = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
words = {"vocab_size": 50, "max_position_embeddings": 8, "bos_token_id": 1, "eos_token_id": 2}
picture = {"image_size": 32, "patch_size": 16}
inputs = {"input_ids": torch.randint(3, 50, (6, 8)), "pixel_values": torch.rand(6, 3, 32, 32)}
clip = CLIPModel(CLIPConfig(text_config=small | words, vision_config=small | picture))
theirs = clip(**inputs, return_loss=True)
theirs.loss

# %%
ours = losses.clip_loss(theirs.image_embeds, theirs.text_embeds, 1 / clip.logit_scale.exp())
(their_gradient,) = torch.autograd.grad(theirs.loss, clip.logit_scale, retain_graph=True)
(our_gradient,) = torch.autograd.grad(ours, clip.logit_scale)
assert torch.allclose(ours, theirs.loss, atol=1e-6)
assert torch.allclose(our_gradient, their_gradient, atol=1e-6)
assert torch.allclose(
    ours,
    (
        F.cross_entropy(theirs.logits_per_image, torch.arange(6))
        + F.cross_entropy(theirs.logits_per_text, torch.arange(6))
    )
    / 2,
)

# %% [markdown]
# ### What does a model cost that knows nothing?
# Before you run: embeddings are random, so every caption is as good as any other. The batch holds $B$ pairs. Which number will the
# loss be near, and what happens to it when the batch doubles?

# %%
generator = torch.Generator().manual_seed(SEED)
batch_sizes = [8, 32, 128, 512]
measured = []
for size in batch_sizes:
    random_rows = F.normalize(torch.randn(2, size, 256, generator=generator), dim=-1)  # (2,B,E)
    measured.append(losses.clip_loss(*random_rows, tau=1.0).item())
[(size, round(value, 3), round(math.log(size), 3)) for size, value in zip(batch_sizes, measured)]

# %% [markdown]
# The loss of ignorance is $\log B$. So a loss of 4 is hopeless at batch 64 ($\log 64 = 4.16$) and respectable at batch 4,096. Losses of
# runs with different batch sizes cannot be compared; recall on a fixed pool can.

# %% [markdown]
# ### Exercise 2.4: how sure is a loss?
# Difficulty 1 of 3, about 5 minutes.
#
# A colleague trains with batch 1,024 and proudly reports a loss of 2.0 nats. The *typical* probability of the right caption is
# $\exp(-\text{loss})$. By which factor does it beat guessing? Put the number into `factor`.
#
# <details><summary>Hint 1</summary>What probability would guessing give the right caption among 1,024?</details>
# <details><summary>Hint 2</summary><code>math.exp(-2.0)</code> divided by that.</details>

# %% tags=["exercise"]
factor = ...
# BEGIN SOLUTION
factor = math.exp(-2.0) / (1 / 1024)
# END SOLUTION

# %% tags=["check"]
contrastive_loss.check_factor(factor)

# %% [markdown]
# ## 4 What the gradient says
# Training never sees the loss, only its gradient. For one direction it has a form worth remembering. With $p$ the softmax of a row
# and $y$ its target (1 at the right caption, 0 elsewhere):
#
# $$\frac{\partial L}{\partial\,\text{logits}_{ij}} = \frac{p_{ij} - y_{ij}}{B}$$
#
# Each rival is pushed away as hard as it is believed; the right one is pulled by what it still lacks. Autograd agrees:

# %%
leaf = logits.clone().requires_grad_()
F.cross_entropy(leaf, target).backward()
by_hand = (logits.softmax(dim=1) - torch.eye(3)) / 3  # (B,B)
assert torch.allclose(leaf.grad, by_hand, atol=1e-7)
axes = plotting.heat(by_hand, rows=pictures, columns=captions, signed=True)
axes.set_title("Softmax minus target: every row adds up to zero")
plotting.show(axes, alt="Gradient matrix: negative on the diagonal, positive elsewhere, strongest in the last row.")

# %% [markdown]
# ### Exercise 2.5: the gradient of both directions
# Difficulty 3 of 3, about 15 minutes.
#
# Write `clip_gradient(logits)`: the gradient of CLIP's symmetric loss with respect to each logit, (B,B), without autograd. The logits are
# already divided by the temperature.
#
# <details><summary>Hint 1</summary>The rows' half is shown above. What is the softmax of the other half taken over?</details>
# <details><summary>Hint 2</summary>Each half subtracts the target, and each counts half, since the loss is a mean of two.</details>


# %% tags=["exercise"]
def clip_gradient(logits):
    """Gradient of the symmetric loss with respect to logits (B,B) -> (B,B)."""
    # BEGIN SOLUTION
    eye = torch.eye(len(logits))
    rows, columns = logits.softmax(dim=1) - eye, logits.softmax(dim=0) - eye  # (B,B) each
    return (rows + columns) / 2 / len(logits)
    # END SOLUTION


# %% tags=["check"]
contrastive_loss.check_clip_gradient(clip_gradient)

# %% [markdown]
# ### Temperature decides who is heard
# One picture, one right caption and eight rivals, from near to far. The share of the push that each rival gets is $p_{ij}$ without the right
# one. Predict: at $\tau = 0.02$, how many rivals are heard? And at $\tau = 1$?

# %% tags=["nbval-check-output"]
rivals = torch.tensor([0.60, 0.55, 0.50, 0.40, 0.30, 0.20, 0.10, 0.00])  # cosines, the right caption has 0.62
shares = {f"tau = {tau}": (rivals / tau).softmax(dim=0).numpy() for tau in (0.02, 0.07, 0.2, 1.0)}
axes = plotting.lines(rivals.numpy(), shares)
axes.set(
    xlabel="cosine of the rival",
    ylabel="share of the push",
    title="Cold: the nearest rival takes it all. Warm: nobody stands out",
)
plotting.show(axes, alt="Share of the push against a rival's cosine for four temperatures; steep at 0.02, flat at 1.")

# %%
heard = {name: round(float(1 / (share**2).sum()), 1) for name, share in shares.items()}
print("effective number of rivals heard, of 8:", heard)

# %% [markdown]
# Cold is close to the hardest-rival triplet, with its weakness for mislabelled pairs. Warm treats a near miss like an absurd rival, and
# learns slowly. CLIP therefore learns $\tau$, as $\log 1/\tau$, and caps $1/\tau$ at 100. Section 10 measures what a wrong one costs.

# %% [markdown]
# ## 5 Asking every cell: SigLIP
# The softmax compares rivals, so it needs the whole row. SigLIP asks each cell alone: *do these two belong together, yes or no?* With
# $z_{ij} = +1$ on the diagonal and $-1$ elsewhere, scale $t$ and bias $b$:
#
# $$L = -\frac1B \sum_{i,j} \log \sigma\big(z_{ij}\,(t\,s_{ij} + b)\big)$$

# %%
scale, bias = 10.0, -5.0
cells = [(1.0 if i == j else -1.0) * (scale * scores[i, j] + bias) for i in range(3) for j in range(3)]
by_loop = -sum(F.logsigmoid(cell) for cell in cells) / 3
assert torch.allclose(by_loop, losses.siglip_loss(z_img, z_txt, scale, bias))
by_loop

# %% [markdown]
# Two of the matrix's cells out of three say *no*, and in a batch of $B$ it is $B-1$ of $B$. The bias starts far below zero ($b=-10$ in the
# paper), so that an untrained model begins by saying *no* to everything and is not dragged there first.

# %% [markdown]
# ### Exercise 2.6: the sigmoid loss
# Difficulty 2 of 3, about 10 minutes.
#
# Write `siglip_loss(z_img, z_txt, scale, bias)` for unit rows (B,E), without a loop.
#
# <details><summary>Hint 1</summary>One matrix of signs, one of logits. What is the sign on the diagonal?</details>
# <details><summary>Hint 2</summary>Use <code>F.logsigmoid</code>: a sigmoid rounds to 0 far out, and its log to minus infinity. Sum over all cells, divide by B, not by B squared.</details>


# %% tags=["exercise"]
def siglip_loss(z_img, z_txt, scale, bias):
    """Sigmoid loss of unit rows z_img, z_txt (B,E): sum over all B*B cells, divided by B."""
    # BEGIN SOLUTION
    logits = scale * z_img @ z_txt.T + bias  # (B,E) @ (E,B) -> (B,B)
    sign = 2 * torch.eye(len(logits)) - 1  # (B,B)
    return -F.logsigmoid(sign * logits).sum() / len(logits)
    # END SOLUTION


# %% tags=["check"]
contrastive_loss.check_siglip_loss(siglip_loss)

# %% [markdown]
# And the authority again: a tiny SigLIP from `transformers`, its own loss, its own gradients for scale and bias.

# %%
from transformers import SiglipConfig, SiglipModel

siglip = SiglipModel(SiglipConfig(text_config=small | words, vision_config=small | picture))
theirs = siglip(**inputs, return_loss=True)
ours = losses.siglip_loss(theirs.image_embeds, theirs.text_embeds, siglip.logit_scale.exp(), siglip.logit_bias)
knobs = [siglip.logit_scale, siglip.logit_bias]
their_gradients = torch.autograd.grad(theirs.loss, knobs, retain_graph=True)
our_gradients = torch.autograd.grad(ours, knobs)
assert torch.allclose(ours, theirs.loss, rtol=1e-5)
assert all(torch.allclose(a, b, rtol=1e-4) for a, b in zip(our_gradients, their_gradients))

# %% [markdown]
# ## 6 One picture, several captions
# Flickr30k has five captions a picture. If a batch holds the same picture twice, the diagonal lies: cell $(0, 1)$ below is a right answer that
# the loss would push apart. So we say which pairs show the same picture, and spread the target evenly over them.

# %% tags=["nbval-check-output"]
image_ids = torch.tensor([7, 7, 9])  # pairs 0 and 1 are two captions of picture 7
same = image_ids[:, None] == image_ids[None, :]  # (B,1) == (1,B) -> (B,B)
same.int()

# %% [markdown]
# ### Exercise 2.7: targets by image id
# Difficulty 1 of 3, about 5 minutes.
#
# Write `targets(image_ids)`: ids (B,) in, target mass (B,B) out. Each row adds up to 1, in equal shares over the pairs of the same
# picture.
#
# <details><summary>Hint 1</summary>You have <code>same</code>. How many right answers does each row have?</details>
# <details><summary>Hint 2</summary>Divide by <code>same.sum(dim=1, keepdim=True)</code>, and mind the type.</details>


# %% tags=["exercise"]
def targets(image_ids):
    """Target mass (B,B) from image ids (B,)."""
    # BEGIN SOLUTION
    same = (image_ids[:, None] == image_ids[None, :]).float()  # (B,B)
    return same / same.sum(dim=1, keepdim=True)
    # END SOLUTION


# %% tags=["check"]
contrastive_loss.check_targets(targets)

# %% [markdown]
# How much harm does the lying diagonal do? Picture 7 comes twice, with two captions. We compare the push on the captions with and
# without ids. Predict for CLIP's loss and for SigLIP's: small, large, none?

# %%
angles = torch.tensor([0.0, 0.0, 2.0])  # radians; pictures 7, 7 and 9
around = torch.tensor([0.3, -0.2, 1.8])  # their captions


def unit(angle):
    return torch.stack([angle.cos(), angle.sin()], dim=-1)  # (B,) -> (B,2)


def push(loss, picture_angles, ids):
    caption_rows = unit(around).requires_grad_()
    loss(unit(picture_angles), caption_rows, ids).backward()
    return caption_rows.grad  # (B,E)


# %%
by_loss = {
    "CLIP": lambda a, b, ids: losses.clip_loss(a, b, 0.1, ids),
    "SigLIP": lambda a, b, ids: losses.siglip_loss(a, b, 10.0, -5.0, ids),
}
views = {"the same picture twice": angles, "two crops of it": angles + torch.tensor([0.0, 0.5, 0.0])}
for name, loss in by_loss.items():
    for view, picture_angles in views.items():
        without_ids, with_ids = push(loss, picture_angles, None), push(loss, picture_angles, image_ids)
        change = (without_ids - with_ids).norm() / with_ids.norm()
        print(f"{name:7} {view:23} push changes by {change:.2f} times its length")

# %% [markdown]
# For CLIP and the very same picture, nothing changes at all: rows 0 and 1 of the logits are equal, so one asks for caption 0, the other
# for caption 1, and the sum is what the shared target asks. Only once the two rows differ, as with random crops, does the diagonal
# teach something false. SigLIP is misled at once, because it judges cell $(0, 1)$ by itself. Ids mend both.

# %% [markdown]
# ## 7 A world whose truth we know
# Now we train. The data are **scenes**: two stamps on a ground, so that we know every object, size and relation. A scene depends on its seed
# and number alone, and no full caption of the test scenes occurs in training.

# %%
from course_utils import scenes

names = tuple(scenes.DEFAULT_OBJECTS)[: sizes.objects]
config = scenes.SceneConfig(size=sizes.pixels, objects=names)
train_scenes = scenes.Scenes(SEED, "train", config)
test_scenes = scenes.Scenes(SEED, "test", config)
scene = test_scenes[0]
[caption.text for caption in scene.captions], scene.foils()["relation"].text

# %% [markdown]
# Five true captions of one scene, and a **foil**: the first caption with its relation reversed. A foil is false, and it holds the very same
# nouns and sizes. Look at some scenes before you give them to a model.

# %%
shown = range(10)
axes = plotting.gallery(list(test_scenes.images(shown)), test_scenes.captions(shown), columns=5)
plotting.show(
    axes, alt="Ten small scenes of two cut-out objects each on a soft ground, every one with its caption below."
)

# %% [markdown]
# Each word becomes one token. `ScenePairs` draws the pictures once and keeps them as bytes; a **batch** is a dictionary of tensors, the only form
# in which data reach a model in this course.

# %%
from course_utils import batches, text

vocabulary = text.word_tokenizer(scenes.vocabulary(config))
train = batches.ScenePairs(train_scenes, sizes.train_scenes, vocabulary)
test = batches.ScenePairs(test_scenes, sizes.test_scenes, vocabulary)
batch = next(batches.shuffled(train, sizes.batch_size, steps=1, seed=SEED))
{name: tuple(value.shape) for name, value in batch.items()}

# %% [markdown]
# ### Two towers, written out
# The picture tower: four convolutions, each halving the side. The last map is laid flat and not averaged, since an average would forget *where*.

# %%
from torch import nn


def picture_tower(pixels, width=256):
    layers, channels = [], [3, 32, 64, 96, 128]
    for inputs, outputs in zip(channels, channels[1:]):
        layers += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.GroupNorm(8, outputs), nn.GELU()]
    side = pixels // 16
    return nn.Sequential(*layers, nn.Flatten(1), nn.Linear(128 * side * side, width))  # (B,3,H,W) -> (B,256)


our_picture_tower = picture_tower(sizes.pixels)
our_picture_tower(batch["images"] - 0.5).shape

# %% [markdown]
# The sentence tower: word and position embeddings, a small transformer (lesson 03 opens it), and the mean over the real tokens. Each word knows
# its place through the position embedding, so word order *can* reach the output. Remember this.


# %%
class SentenceTower(nn.Module):
    def __init__(self, vocabulary, length, width=128):
        super().__init__()
        self.words, self.positions = nn.Embedding(vocabulary, width), nn.Embedding(length, width)
        block = nn.TransformerEncoderLayer(width, 4, 4 * width, 0.0, F.gelu, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(block, 2, nn.LayerNorm(width), enable_nested_tensor=False)

    def forward(self, tokens, token_mask):
        read = self.words(tokens) + self.positions.weight[: tokens.shape[1]]  # (B,L,D)
        read = self.blocks(read, src_key_padding_mask=~token_mask)  # (B,L,D)
        real = token_mask[..., None]  # (B,L,1)
        return (read * real).sum(dim=1) / real.sum(dim=1)  # (B,D)


length = train.tokens.shape[1]
sentence_tower = SentenceTower(vocabulary.get_vocab_size(), length)
sentence_tower(batch["tokens"], batch["token_mask"]).shape

# %% [markdown]
# The package's towers are the same with error messages. Bridge: hand over our weights, demand our output. Then `DualEncoder` adds two linear heads
# into the shared space, unit rows, and a learned temperature.

# %%
from course_utils import models

packaged = models.TransformerWords(vocabulary.get_vocab_size(), length)
packaged.load_state_dict(sentence_tower.state_dict())
packaged_pictures = models.ConvTower(sizes.pixels)
nn.utils.vector_to_parameters(
    nn.utils.parameters_to_vector(our_picture_tower.parameters()), packaged_pictures.parameters()
)

with torch.no_grad():
    images, sentence = batch["images"], (batch["tokens"], batch["token_mask"])
    assert torch.allclose(sentence_tower(*sentence), packaged(*sentence), atol=1e-5)
    assert torch.allclose(our_picture_tower(images - 0.5), packaged_pictures(images), atol=1e-5)

# %% [markdown]
# From here on a model is made like this. The loss knows image ids, for the day a picture comes twice.

# %%


def new_model(seed):
    torch.manual_seed(seed)
    words = models.TransformerWords(vocabulary.get_vocab_size(), length)
    return models.DualEncoder(models.ConvTower(sizes.pixels), words)


def contrast(out, batch):
    return losses.clip_loss(out.z_img, out.z_txt, out.tau, batch["image_ids"])


# %% [markdown]
# ### The training loop, written out
# Everything a training loop is: a batch, a loss, a gradient, a step, and a learning rate that rises and falls. Five steps of it:

# %%
model = new_model(SEED)
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=5)
loop_history = []
for step_batch in batches.shuffled(train, 32, steps=5, seed=SEED):
    loss = contrast(model(step_batch), step_batch)
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    schedule.step()
    loop_history.append(loss.item())
[round(value, 2) for value in loop_history]

# %% [markdown]
# It starts near $\log 32$, as a model must that knows nothing. `training.fit` is this loop with a progress bar, mixed precision and many processes
# (through `accelerate`). Same seed, same batches, same losses:

# %%
from course_utils import training

few = training.TrainConfig(steps=5)
history = training.fit(new_model(SEED), batches.shuffled(train, 32, steps=5, seed=SEED), contrast, few)
assert all(math.isclose(a, b, rel_tol=1e-4) for a, b in zip(history, loop_history))

# %% [markdown]
# ### Now for real
# The plain recipe: random pairs, CLIP's loss. Predict: after a minute of training, in how many of 100 unseen captions will the right picture come
# first among all unseen pictures?

# %%
import numpy as np

recipe = training.TrainConfig(sizes.steps, sizes.learning_rate, dtype=session.dtype)
plain = new_model(SEED)
plain_batches = batches.shuffled(train, sizes.batch_size, sizes.steps, seed=SEED)
plain_history = training.fit(plain, plain_batches, contrast, recipe, label="plain")

# %%
blocks = np.array(plain_history[: sizes.steps // 20 * 20]).reshape(20, -1)  # 20 points of equally many steps
axes = plotting.lines(np.arange(1, 21) * blocks.shape[1], {"mean loss of the steps before": blocks.mean(axis=1)})
axes.axhline(
    math.log(sizes.batch_size), color=plotting.COLOURS["neutral"], linestyle="--", label="knows nothing: log B"
)
axes.set(xlabel="step", ylabel="loss in nats", title="From log B to almost nothing")
axes.legend(frameon=False)
plotting.show(axes, alt="Training loss falling from log B towards zero within the run.")

# %% [markdown]
# The loss is small, but a loss on training batches proves little. **Recall@1** on unseen scenes: each caption looks for its picture among all test
# pictures; how often does it come first? Written out for one direction:


# %%
@torch.no_grad()
def embed(model, pairs):
    batch = pairs.batch(range(len(pairs)))
    return model(batch)[:2]  # z_img, z_txt (N,E)


z_img, z_txt = embed(plain, test)
search = (z_txt @ z_img.T).numpy()  # (N,E) @ (E,N) -> (N,N) rows are captions now: they are the queries
first = search.argmax(axis=1)
recall_by_hand = (first == range(len(test))).mean()
f"{recall_by_hand:.3f}"

# %% [markdown]
# The package's `recall_at_k` gives the same, and is careful about ties. Under the common rule *rank = how many score strictly higher*, a model that gives every picture the same
# score would reach 100 %; here it gets exactly chance. The interval resamples scenes.

# %%
from course_utils import metrics

hits = metrics.recall_at_k(search, np.arange(len(test)))  # (N,) one a caption
assert math.isclose(hits.mean(), recall_by_hand)
assert math.isclose(metrics.recall_at_k(np.zeros((4, 4)), np.arange(4)).mean(), 1 / 4)

chance = 1 / len(test)
plain_recall = hits.mean()
record("plain/recall_at_1", plain_recall, metrics.bootstrap_interval(hits, seed=SEED), chance)

# %% [markdown]
# Two towers, from nothing, on two cores. It works. On a benchmark that reports recall@1 we would be done, and write that the model understands
# scenes. Does it?

# %% [markdown]
# ## 8 The surprise: a bag of words passes the benchmark
# Each test scene has a foil: *left of* for *right of*, *above* for *below*. The model sees picture, true caption and foil, and should score the true
# one higher. Predict how often it does, given the recall you just saw. Guessing would be right half of the time.

# %% [markdown]
# ### Exercise 2.8: told apart
# Difficulty 1 of 3, about 5 minutes.
#
# Write `told_apart(z_img, z_txt, z_foil)`: for unit rows (N,E), where row $i$ of all three belongs to scene $i$, the share of scenes whose true caption
# scores higher than the foil. A tie counts one half.
#
# <details><summary>Hint 1</summary>You need N scores against N scores, not a matrix.</details>
# <details><summary>Hint 2</summary><code>(z_img * z_txt).sum(dim=1)</code> is the cosine of each row with its partner.</details>


# %% tags=["exercise"]
def told_apart(z_img, z_txt, z_foil):
    """Share of rows in which the true caption beats the foil; a tie counts one half."""
    # BEGIN SOLUTION
    difference = (z_img * (z_txt - z_foil)).sum(dim=1)  # (N,)
    return ((difference > 0).float() + 0.5 * (difference == 0).float()).mean()
    # END SOLUTION


# %% tags=["check"]
contrastive_loss.check_told_apart(told_apart)


# %%
@torch.no_grad()
def right_of_foils(model, kind="relation"):
    z_img, z_txt = embed(model, test)
    z_foil = model.encode_text(*text.encode(vocabulary, test_scenes.foils(range(len(test)), kind)))
    return ((z_img * z_txt).sum(dim=1) > (z_img * z_foil).sum(dim=1)).float().numpy()  # (N,)


plain_told = right_of_foils(plain)
plain_relation = plain_told.mean()
record(
    "plain/relation_accuracy",
    plain_relation,
    metrics.bootstrap_interval(plain_told, seed=SEED),
    0.5,
    excludes=(sizes.blind_below,),
)

# %% [markdown]
# Little better than a coin. The model finds the one picture among all others, and hardly knows which object is on the left. Then it should hardly notice if we **search
# with the false captions**. Predict recall@1 when every query says the opposite of its picture:


# %%
@torch.no_grad()
def false_caption_hits(model):
    z_img, _ = embed(model, test)
    z_foil = model.encode_text(*text.encode(vocabulary, test_scenes.foils(range(len(test)))))
    return metrics.recall_at_k((z_foil @ z_img.T).numpy(), np.arange(len(test)))  # (N,)


misled = false_caption_hits(plain)
record("plain/recall_at_1_false_captions", misled.mean(), metrics.bootstrap_interval(misled, seed=SEED), chance)

# %% [markdown]
# Captions that are wrong about the picture find it as well as true ones. The nouns and sizes do the work: this is what people mean by a **bag of words**. The
# tower *could* use order, and did not. In a batch of random scenes hardly ever do two captions hold the same words, so words alone win, and the gradient is content.
# **The loss asks only what the batch asks.**

# %%
sorted_words = train.tokens.sort(dim=1).values  # (N,L)
same_words = (sorted_words[:, None] == sorted_words[None, :256]).all(dim=-1)  # (N,1,L) == (1,256,L) -> (N,256)
share = (same_words.sum(dim=0) - 1).float().mean() / (len(train) - 1)  # without the caption itself
print(
    f"rivals with exactly the same words in a batch of {sizes.batch_size}: {share * (sizes.batch_size - 1):.4f} on average"
)

# %% [markdown]
# ## 9 The repair: put the rival into the batch
# So let the batch ask. For every scene we look for its **twin** among the training scenes: same objects, same sizes, relation reversed. The twin's caption
# is this scene's foil. A twin is found by text: a scene's foil must be another scene's caption, told from either end.

# %%
index = {}
for k in (0, 1):  # caption 1 tells the same from the other end
    index |= {caption: i for i, caption in enumerate(train_scenes.captions(range(len(train)), k))}
twins = np.array([index.get(foil, -1) for foil in train_scenes.foils(range(len(train)), "relation")])
assert (twins == train.twins).all()  # the package found the same
print(f"{(twins >= 0).mean():.0%} of the training scenes have their twin among them")

# %%
some = int(np.flatnonzero(twins >= 0)[0])
pair_shown = [some, int(twins[some])]
axes = plotting.gallery(list(train_scenes.images(pair_shown)), train_scenes.captions(pair_shown), columns=2)
plotting.show(axes, alt="A scene and its twin: the same two objects in the same sizes, with the relation reversed.")

# %% [markdown]
# `shuffled(..., with_twins=True)` fills the second half of a batch with the twins of the first half. Model, loss, steps, seed and learning rate stay as they
# were; only the company changes. Predict both numbers: recall@1, and relations told apart.

# %%
repaired = new_model(SEED)
twin_batches = batches.shuffled(train, sizes.batch_size, sizes.steps, seed=SEED, with_twins=True)  # new
repaired_history = training.fit(repaired, twin_batches, contrast, recipe, label="with twins")

# %%
z_img_repaired, z_txt_repaired = embed(repaired, test)
hits_repaired = metrics.recall_at_k((z_txt_repaired @ z_img_repaired.T).numpy(), np.arange(len(test)))
told_repaired = right_of_foils(repaired)
record("foils/recall_at_1", hits_repaired.mean(), metrics.bootstrap_interval(hits_repaired, seed=SEED), chance)
record("foils/relation_accuracy", told_repaired.mean(), metrics.bootstrap_interval(told_repaired, seed=SEED), 0.5)
print(
    f"searching with false captions: recall@1 {misled.mean():.3f} before, {false_caption_hits(repaired).mean():.3f} now"
)

# %%
results = {"recall@1": (hits, hits_repaired), "relation told apart": (plain_told, told_repaired)}
for name, (before, after) in results.items():
    low, high = metrics.bootstrap_interval(after - before, seed=SEED)
    print(f"{name:20} {before.mean():.3f} -> {after.mean():.3f}, paired difference {low:+.3f} to {high:+.3f}")

# %%
figure, (left, right) = plotting.plt.subplots(1, 2, figsize=(9, 2.4), layout="constrained")
for axes, (name, (before, after)) in zip((left, right), results.items()):
    intervals = [metrics.bootstrap_interval(values, seed=SEED) for values in (before, after)]
    floor = chance if name == "recall@1" else 0.5
    plotting.bars(["random pairs", "with twins"], [before.mean(), after.mean()], np.array(intervals), floor, ax=axes)
    axes.set(title=name, xlim=(0, 1.2), xlabel="share of test scenes")
plotting.show(
    figure,
    alt="Two bar charts: recall at 1 is alike for both models, relations are at chance without twins and high with them.",
)

# %% [markdown]
# The same towers, the same loss, the same minute of training: recall@1 gives up a few points at most, relations go from a coin to nearly always right. The benchmark could not tell
# these two models apart. Real retrievers trained on random web pairs have the same blind spot (Yuksekgonul et al. 2023, who mend it with foils in the batch).
#
# What did we *not* repair? Ask about other foils: objects swapped, one size changed, one object replaced.

# %%
kinds = ("relation", "swapped", "size", "replaced")
accuracy = {kind: (right_of_foils(plain, kind), right_of_foils(repaired, kind)) for kind in kinds}
for kind, (before, after) in accuracy.items():
    print(f"{kind:9} random pairs {before.mean():.3f}   with twins {after.mean():.3f}")

# %% [markdown]
# Reversed and swapped go together, since with two objects they say the same. Now compare the last two rows, which the plain model knew already: twins take places in the batch
# from other scenes, and nothing is free. Recall on a benchmark sees none of this table.

# %% [markdown]
# ## 10 How many rivals, and how loud?
# Two knobs remain: how many rivals a pair meets, and the temperature. Training the towers anew for each setting and seed would take far too long, so we **lock** the picture
# tower that was just trained and learn a new sentence tower on its outputs (this is LiT, Zhai et al. 2022). Pictures become vectors once:


# %%
@torch.no_grad()
def locked_features(model, pairs, count):
    parts = [model.image_tower(pairs.batch(range(i, min(i + 256, count)))["images"]) for i in range(0, count, 256)]
    return torch.cat(parts)  # (N,D)


few_scenes = sizes.sweep_scenes
features = locked_features(repaired, train, few_scenes)
test_features = locked_features(repaired, test, len(test))
features.shape

# %% [markdown]
# A fair experiment changes one thing. Every run below sees the same pairs, 256 a step, for the same number of steps. Only the **group** inside which a pair
# meets its rivals changes, from 2 to 256.


# %%
class Locked(nn.Module):
    width = features.shape[1]

    def forward(self, vectors):
        return vectors  # already encoded


def locked_model(seed, kind=models.DualEncoder):
    torch.manual_seed(seed)
    return kind(Locked(), models.TransformerWords(vocabulary.get_vocab_size(), length, layers=1))


def locked_batches(seed):
    chooser = np.random.default_rng(seed)
    for _ in range(sizes.sweep_steps):
        chosen = torch.as_tensor(chooser.permutation(few_scenes)[:256])
        tokens = train.tokens[chosen]
        yield {"images": features[chosen], "tokens": tokens, "token_mask": tokens != 0}


# %%
def grouped(loss, group, tau):
    """Mean loss over groups of `group` pairs that do not see each other."""

    def of_batch(out, batch):
        parts = zip(out.z_img.split(group), out.z_txt.split(group))  # each (group,E)
        return torch.stack([loss(a, b, tau) for a, b in parts]).mean()

    return of_batch


def locked_recall(seed, group=256, tau=0.1, loss=losses.clip_loss, kind=models.DualEncoder):
    model, few = locked_model(seed, kind), training.TrainConfig(sizes.sweep_steps)
    training.fit(model, locked_batches(seed), grouped(loss, group, tau), few, label=f"group {group}, tau {tau}")
    with torch.no_grad():
        z_img, z_txt = model.encode_image(test_features), model.encode_text(test.tokens, test.tokens != 0)
    scores = F.normalize(z_txt, dim=-1) @ F.normalize(z_img, dim=-1).T  # (N,E) @ (E,N) -> (N,N)
    return metrics.recall_at_k(scores.numpy(), np.arange(len(test))).mean()


# %% [markdown]
# Predict the shape of the curve: recall@1 against the number of pairs in a group, on a log scale. Straight? Flat? Saturating?

# %%
groups, seeds = [2, 8, 32, 256], range(sizes.sweep_seeds)
by_group = np.array([[locked_recall(seed, group=group) for group in groups] for seed in seeds])  # (S,G)
for group, column in zip(groups, by_group.T):
    low, high = metrics.seed_interval(column)
    print(f"group {group:3}: recall@1 {column.mean():.3f}, 95 % interval over seeds {low:.3f} to {high:.3f}")

# %%
taus = [0.005, 0.02, 0.1, 1.0]
by_tau = np.array([[locked_recall(seed, tau=tau) for tau in taus] for seed in seeds])  # (S,T)
for tau, column in zip(taus, by_tau.T):
    low, high = metrics.seed_interval(column)
    print(f"tau {tau:5}: recall@1 {column.mean():.3f}, 95 % interval over seeds {low:.3f} to {high:.3f}")

# %%
figure, (left, right) = plotting.plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
for axes, knob, curve in ((left, groups, by_group), (right, taus, by_tau)):
    plotting.lines(knob, {"recall@1": curve}, chance=chance, ax=axes)
    axes.set(xscale="log", ylabel="recall@1, unseen scenes", ylim=(0, 1))
left.set(xlabel="pairs that meet each other", xticks=groups, xticklabels=groups, title="More rivals help")
right.set(xlabel="temperature", xticks=taus, xticklabels=taus, title="The coldest costs most")
plotting.show(
    figure, alt="Left: recall at 1 rises with group size. Right: recall at 1 over temperature, highest in the middle."
)

# %% [markdown]
# More rivals help, each doubling less than the one before. Of the temperatures the coldest is costly beyond doubt: it hears one rival. At the warm end three seeds only suggest a loss, since its interval reaches
# into the middle's. More seeds would settle it.
#
# Recall is recorded at both ends of the first curve. Their difference is paired by seed: both runs start from the same weights and see the same pairs.

# %%
gain = by_group[:, -1] - by_group[:, 0]  # (S,)
for group, column in ((groups[0], by_group[:, 0]), (groups[-1], by_group[:, -1])):
    record(f"rivals/recall_at_1_group_{group}", column.mean(), metrics.seed_interval(column), chance)
low, high = metrics.seed_interval(gain)
print(f"meeting 255 rivals and not 1: {gain.mean():+.3f} recall@1, 95 % interval over seeds {low:+.3f} to {high:+.3f}")

# %% [markdown]
# ## 11 Accumulating gradients is not a larger batch
# The advice is everywhere: *memory too small? Accumulate four small batches.* For a classifier that is right, since each example has a loss
# of its own. Here a pair's loss depends on who else is in the batch. Predict: are the two gradients below equal?

# %%
small_batch = next(iter(batches.shuffled(train, 32, 1, seed=SEED)))
probe = new_model(SEED)


def gradient_of(backward):
    probe.zero_grad()
    backward()
    return torch.cat([parameter.grad.flatten() for parameter in probe.parameters()])


# %%
def whole():
    contrast(probe(small_batch), small_batch).backward()


def accumulated(chunk=8):
    for start in range(0, 32, chunk):
        part = {name: value[start : start + chunk] for name, value in small_batch.items()}
        (contrast(probe(part), part) * chunk / 32).backward()


exact, other = gradient_of(whole), gradient_of(accumulated)
print(f"the gradients differ by {(exact - other).norm() / exact.norm():.2f} times their length")

# %% [markdown]
# Not equal: four batches of 8 have 7 rivals a pair, one batch of 32 has 31. It is the left curve of section 10 again, where groups of 8 were just that. **GradCache** gets the exact gradient in little
# memory. Its idea is the chain rule, cut at the embeddings:
#
# 1. encode all chunks without a graph; the embeddings $(B,E)$ are small;
# 2. compute the loss on them and its gradient at each *embedding*;
# 3. encode each chunk again, with a graph, and hand it its embeddings' gradients.


# %%
def cached(chunk=8):
    parts = [{name: value[i : i + chunk] for name, value in small_batch.items()} for i in range(0, 32, chunk)]
    with torch.no_grad():
        encoded = [probe(part) for part in parts]  # 1
    z_img = torch.cat([out.z_img for out in encoded]).requires_grad_()  # (B,E)
    z_txt = torch.cat([out.z_txt for out in encoded]).requires_grad_()  # (B,E)
    contrast(probe.pairs(z_img, z_txt), small_batch).backward()  # 2
    for part, grad_img, grad_txt in zip(parts, z_img.grad.split(chunk), z_txt.grad.split(chunk)):
        out = probe(part)  # 3
        torch.autograd.backward([out.z_img, out.z_txt], [grad_img, grad_txt])


assert torch.allclose(gradient_of(cached), exact, atol=1e-6)

# %% [markdown]
# Equal, for one more forward pass. The package's version takes any chunk, also one that does not divide the batch; value and gradient agree.

# %%
packaged_gradient = gradient_of(lambda: training.grad_cache(probe, small_batch, contrast, chunk=12))
value = training.grad_cache(probe, small_batch, contrast, chunk=12)
assert torch.allclose(packaged_gradient, exact, atol=1e-6)
assert torch.allclose(value, contrast(probe(small_batch), small_batch).detach(), atol=1e-6)

# %% [markdown]
# ### Exercise 2.9: how many rivals?
# Difficulty 1 of 3, about 5 minutes.
#
# A batch of 1,024 pairs is worked off in 16 chunks of 64. How many wrong captions does each picture meet under gradient accumulation, and
# how many under GradCache, in one direction and one step? Put both numbers into `rivals_met`, in this order.
#
# <details><summary>Hint 1</summary>Who stands in the denominator of a row's softmax?</details>
# <details><summary>Hint 2</summary>The right caption is not its own rival.</details>

# %% tags=["exercise"]
rivals_met = ...
# BEGIN SOLUTION
rivals_met = (64 - 1, 1024 - 1)
# END SOLUTION

# %% tags=["check"]
contrastive_loss.check_rivals_met(rivals_met)

# %% [markdown]
# ## 12 Two processes, one batch
# With several GPUs each process encodes its own pairs, and a careless loss compares only those. The rows must be *gathered* first, and the
# gathering must let gradients through. We try it with two processes on this machine. Each runs this function:


# %%
def worker(folder, rank):
    import torch
    from torch import distributed
    from torch.nn.parallel import DistributedDataParallel

    from course_utils import losses

    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    pictures, captions, tower = torch.load(f"{folder}/batch.pt", weights_only=False)
    own_pictures, own_captions = pictures.chunk(2)[rank], captions.chunk(2)[rank]  # (B/2,D), (B/2,E)
    for name, gather in {"gathered": losses.gather_rows, "alone": lambda rows: rows}.items():
        tower.zero_grad()
        encode = DistributedDataParallel(tower)
        z_img = gather(torch.nn.functional.normalize(encode(own_pictures), dim=-1))  # (B,E) or (B/2,E)
        losses.clip_loss(z_img, gather(own_captions), tau=0.1).backward()
        if rank == 0:
            torch.save(tower.weight.grad, f"{folder}/{name}.pt")
    distributed.barrier()  # nobody leaves while the other still speaks
    distributed.destroy_process_group()


# %% [markdown]
# One process does the whole batch first; then two do half each, and average their gradients as `DistributedDataParallel` does.

# %%
import inspect
import subprocess
import sys
import tempfile

pictures_in, captions_in = torch.randn(16, 12), F.normalize(torch.randn(16, 8), dim=-1)  # (B,D), (B,E)
tower = torch.nn.Linear(12, 8)
losses.clip_loss(F.normalize(tower(pictures_in), dim=-1), captions_in, tau=0.1).backward()

with tempfile.TemporaryDirectory() as folder:
    torch.save((pictures_in, captions_in, tower), f"{folder}/batch.pt")
    program = inspect.getsource(worker) + "\nimport sys\nworker(sys.argv[1], int(sys.argv[2]))\n"
    both = [subprocess.Popen([sys.executable, "-c", program, folder, str(rank)]) for rank in (0, 1)]
    assert [process.wait(timeout=120) for process in both] == [0, 0]
    gathered, alone = torch.load(f"{folder}/gathered.pt"), torch.load(f"{folder}/alone.pt")

# %%
assert torch.allclose(gathered, tower.weight.grad, atol=1e-6)
assert not torch.allclose(alone, tower.weight.grad, rtol=0.1)
print(
    f"without gathering the gradient is off by {(alone - tower.weight.grad).norm() / tower.weight.grad.norm():.2f} times its length"
)

# %% [markdown]
# Gathered, two processes are one. Alone, each pair meets half its rivals. Nothing crashes in the second case, and no loss curve tells you.

# %% [markdown]
# ## 13 Bug hunt: a loss from a popular tutorial
# The loss below follows a widely copied CLIP tutorial. It trains, its curve falls, and it has two mistakes. You will find them by a test, not
# by reading.


# %%
def tutorial_loss(a, b, tau):
    """Raw rows a, b (B,E) and a temperature -> scalar."""
    logits = a @ b.T / tau  # (B,E) @ (E,B) -> (B,B)
    target = ((a @ a.T + b @ b.T) / 2 * tau).softmax(dim=-1)  # (B,B)
    rows = -(target * logits.log_softmax(dim=-1)).sum(dim=1)  # (B,)
    columns = -(target.T * logits.T.log_softmax(dim=-1)).sum(dim=1)  # (B,)
    return (rows + columns).mean() / 2


def sound_loss(a, b, tau):
    """The same signature, done right."""
    return losses.clip_loss(F.normalize(a, dim=-1), F.normalize(b, dim=-1), tau)


# %% [markdown]
# Does recall give it away? We train it in place of ours, on the locked pictures of section 10, raw rows as the tutorial does it, at its temperature of 1.
# Predict: much worse, a little, or not at all?


# %%
class RawRows(models.DualEncoder):
    """The same towers, whose rows keep whatever length they have."""

    def encode_image(self, images):
        return self.image_head(self.image_tower(images))  # (B,E)

    def encode_text(self, tokens, token_mask):
        return self.text_head(self.text_tower(tokens, token_mask))  # (B,E)


hunted = np.array([locked_recall(seed, tau=1.0, loss=tutorial_loss, kind=RawRows) for seed in seeds])  # (S,)
sound = by_group[:, -1]  # (S,) group 256, tau 0.1
for name, values in {"tutorial": hunted, "sound": sound}.items():
    low, high = metrics.seed_interval(values)
    print(f"{name:9} recall@1 {values.mean():.3f}, 95 % interval over seeds {low:.3f} to {high:.3f}")

# %% [markdown]
# Hundreds of times chance: alone, this would look like a success. Only beside a sound run does it look bad, and even then recall does not say which line is wrong. Values and
# gradients do. What must hold for any sound contrastive loss? It sees directions, not lengths. It is near $\log B$ for random rows at $\tau = 1$ in a wide space. It goes to zero
# when the right pairs stand far apart from all rivals. And it asks both sides alike: swapping `a` and `b` changes nothing.

# %%
g = torch.Generator().manual_seed(SEED)
a, b = torch.randn(2, 64, 256, generator=g)  # (B,E) each
for name, loss in {"tutorial": tutorial_loss, "sound": sound_loss}.items():
    longer, perfect = loss(3 * a, b, 1.0) - loss(a, b, 1.0), loss(a, a, 0.01)
    print(
        f"{name:9} random {loss(a, b, 1.0):8.2f}   with rows 3 times as long {longer:+8.2f}   perfect pairs {perfect:8.2f}"
    )

# %% [markdown]
# ### Exercise 2.10: write the test that finds it
# Difficulty 3 of 3, about 15 minutes.
#
# Write `is_sound(loss)`: it gets a function `loss(a, b, tau)` of raw rows (B,E) and returns `True` if it computes CLIP's symmetric loss on their directions, `False` if
# not. The check hands you sound losses in several spellings, and several broken ones: each mistake of the tutorial alone, one direction only, and a constant.
#
# <details><summary>Hint 1</summary>You may compare with a reference on random rows. At which B, E and tau would a wrong loss agree by accident? Avoid those.</details>
# <details><summary>Hint 2</summary>Value and gradient against <code>sound_loss</code>, on rows of several lengths with B different from E, leave no room. <code>return</code> True or False; do not assert.</details>


# %% tags=["exercise"]
def is_sound(loss):
    """Whether loss(a, b, tau) is CLIP's loss on the directions of raw rows a, b (B,E)."""
    # BEGIN SOLUTION
    generator = torch.Generator().manual_seed(1)
    answers = []
    for candidate in (loss, sound_loss):
        a, b = torch.randn(2, 6, 5, generator=generator.manual_seed(1)).requires_grad_()  # (B,E) each
        value = torch.as_tensor(candidate(a, b, 0.3))
        if not value.requires_grad:
            return False
        answers.append([value, *torch.autograd.grad(value, (a, b))])
    return all(torch.allclose(x.double(), y.double(), atol=1e-5) for x, y in zip(*answers))
    # END SOLUTION


# %% tags=["check"]
contrastive_loss.check_is_sound(is_sound)

# %% [markdown]
# ## What we saw

# %%
from IPython.display import Markdown

Markdown(f"""
- A model that knows nothing costs log B: {measured[2]:.2f} nats at 128 pairs, where log 128 = {math.log(128):.2f}.
- The gradient is softmax minus target. Temperature decides how many of 8 rivals are heard: {heard["tau = 0.02"]} at 0.02, {heard["tau = 1.0"]} at 1.
- Random pairs: recall@1 {plain_recall:.3f} (chance {chance:.3f}), relations told apart {plain_relation:.3f} (chance 0.5). False captions: recall@1 {misled.mean():.3f}.
- The same model with twins in the batch: recall@1 {hits_repaired.mean():.3f}, relations {told_repaired.mean():.3f}.
- Meeting 255 rivals and not 1 is worth {gain.mean():+.3f} recall@1; accumulation does not give it, GradCache and gathering do.
""")

# %% [markdown]
# ## Questions
# 1. Why divide by a temperature at all, if cosines can be compared as they are?
# 2. Why did we compare losses only at equal batch size, and recall only at equal pool size?
# 3. The picture tower lays its last map flat. What would an average have cost in section 9?
# 4. Why was the interval of recall@1 taken over scenes, and that of the two knobs over seeds?
# 5. Half of a batch with twins consists of twins. What might be lost if all batches were made so?
# 6. Our twin is a real scene with a real picture. NegCLIP adds false *captions* only. Which direction of the loss gains nothing from that?
# 7. Swapped objects were never in a batch as such. Why could telling them apart still improve?
# 8. SigLIP needs no row of rivals. What does that save when 256 processes share a batch?

# %% [markdown] tags=["solution"]
# **Answers in short.** 1: cosines lie in [-1, 1]; without scaling, the softmax of a row can never become sure. 2: log B and the number of rivals in the pool
# move both. 3: where things are, and with it relations. 4: each asks what would change with other data, or with another start. 5: variety; fewer different
# scenes a step. 6: captions choosing pictures. 7: for two objects a swap says the same as a reversed relation. 8: no softmax over all rows has to be gathered at
# once; blocks can be passed around.

# %% [markdown]
# ## References
# - Faghri et al. 2018, *VSE++: improving visual-semantic embeddings with hard negatives* (triplet, hardest rival).
# - van den Oord et al. 2018, *Representation learning with contrastive predictive coding* (InfoNCE).
# - Radford et al. 2021, *Learning transferable visual models from natural language supervision* (CLIP).
# - Gao et al. 2021, *Scaling deep contrastive learning batch size under memory limited setup* (GradCache).
# - Zhai et al. 2022, *LiT: zero-shot transfer with locked-image text tuning*.
# - Zhai et al. 2023, *Sigmoid loss for language image pre-training* (SigLIP).
# - Yuksekgonul et al. 2023, *When and why vision-language models behave like bags-of-words, and what to do about it*.
