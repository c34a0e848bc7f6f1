# %% [markdown]
# # 03 Cross-modal attention: which part of the picture does a word look at?
#
# > **You will be able to** compute attention by hand, with loops and as matrices, mask it so that it survives half precision, build
# > a model in which words read a picture, test a map against the truth before you believe it, and choose among four ways of letting two
# > modalities meet with their price in hand.
# >
# > **Time** 90 minutes. **Needs** lessons 00 and 02. **Runs** in under a minute (`smoke`), under five minutes on two CPU cores (`cpu`);
# > `gpu` sizes are there and not yet run.

# %% tags=["parameters"]
PROFILE = "auto"
SEED = 0

# %% [markdown]
# A profile changes numbers and nothing else. Here are all of this lesson's; the cells below read them from `sizes`.

# %%
sizes = session.choose(
    objects=(6, 16, 40),
    train_scenes=(2_000, 12_000, 40_000),
    test_scenes=(250, 1_000, 1_000),
    channels=(32, 64, 64),
    tower_batch=(64, 128, 128),
    tower_steps=(200, 300, 1_000),
    width=(32, 64, 128),
    batch_size=(64, 128, 256),
    steps=(500, 1_000, 3_000),
    learning_rate=(5e-3, 3e-3, 2e-3),
    family_steps=(60, 350, 3_000),
)
sizes

# %% [markdown]
# ## 1 One word, three places
# The word is *pig*. The picture has three places: a pig, a boat, some grass. Each place offers two things: a **key**, by which it can be found, and
# a **value**, what it has to say. Here a key says *how pig, how boat*, and a value says where the place is. The word brings a **query**. Predict from the numbers
# alone: which place will be read most, and will the others be silent?

# %% tags=["nbval-check-output"]
import math

import torch
from torch.nn import functional as F

from course_utils.checks import cross_modal_attention

places = ["pig", "boat", "grass"]
keys = torch.tensor([[2.0, 0.0], [0.0, 2.0], [0.5, 0.5]])  # (P,D) = (3,2)
values = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.5, 0.5]])  # (P,D) across, down
query = torch.tensor([1.5, 0.0])  # (D,) "pig": much pig, no boat
scores = [float(query @ key) for key in keys]
scores

# %% [markdown]
# A product is large where query and key point the same way. The softmax of lesson 02 turns the three scores into shares that add up to one, and the word reads every value
# in its share:
#
# $$a_j = \frac{e^{q \cdot k_j}}{\sum_m e^{q \cdot k_m}} \qquad \text{read} = \sum_j a_j v_j$$

# %% tags=["nbval-check-output"]
bets = [math.exp(score) for score in scores]
shares = [bet / sum(bets) for bet in bets]
read = sum(share * value for share, value in zip(shares, values))  # (D,)
[round(share, 3) for share in shares], read

# %%
from course_utils import plotting

axes = plotting.bars(places, shares)
axes.set(title="'pig' reads mostly the pig, and a little of everything", xlabel="share of the reading", xlim=(0, 1.1))
plotting.show(
    axes, alt="Three bars: the word pig gives most of its attention to the pig, little to grass, less to the boat."
)

# %% [markdown]
# The word comes back knowing, nearly, where the pig is: left and low. *Nearly*, because a softmax never says zero. And nobody chose: the shares are a smooth function of query and keys, so a
# gradient can teach all three.
#
# ### Exercise 3.1: one word reads
# Difficulty 1 of 3, about 5 minutes.
#
# Write `attend_one(query, keys, values)`: query (D,), keys and values (P,D) in, what the word reads (D,) out. Scores here go up to some
# hundreds, and `math.exp(800)` overflows.
#
# <details><summary>Hint 1</summary>Shares do not change when the same number is taken from every score. Which one is safe?</details>
# <details><summary>Hint 2</summary><code>torch.softmax</code> takes the largest away first. Then P shares times (P,D) values.</details>


# %% tags=["exercise"]
def attend_one(query, keys, values):
    """What one query (D,) reads from values (P,D), by plain products with keys (P,D) -> (D,)."""
    # BEGIN SOLUTION
    shares = (keys @ query).softmax(dim=0)  # (P,D) @ (D,) -> (P,)
    return shares @ values  # (P,) @ (P,D) -> (D,)
    # END SOLUTION


# %% tags=["check"]
cross_modal_attention.check_attend_one(attend_one)

# %% [markdown]
# ## 2 Every word at once
# A question has $L$ words, a picture $P$ places. Two loops say all there is to say: every word meets every place.

# %%
words = ["pig", "boat", "what"]
queries = torch.tensor([[1.5, 0.0], [0.0, 1.5], [0.3, 0.3]])  # (L,D)


def attend_loop(queries, keys, values):
    rows, read = [], []
    for q in queries:
        row = torch.stack([q @ k for k in keys]).softmax(dim=0)  # (P,)
        rows.append(row)
        read.append(sum(share * v for share, v in zip(row, values)))
    return torch.stack(read), torch.stack(rows)  # (L,D), (L,P)


read_loop, attn_loop = attend_loop(queries, keys, values)
read_loop.shape, attn_loop.shape

# %% [markdown]
# As matrices it is two products and a softmax along the places. The middle one, `attn`, is the **map**: row $i$ says where word $i$ looks.

# %% tags=["nbval-check-output"]
attn = (queries @ keys.T).softmax(dim=-1)  # (L,D) @ (D,P) -> (L,P)
read_all = attn @ values  # (L,P) @ (P,D) -> (L,D)
assert torch.allclose(attn, attn_loop)
assert torch.allclose(read_all, read_loop)
attn.round(decimals=2)

# %%
axes = plotting.heat(attn, rows=words, columns=places, limits=(0, 1))
axes.set_title("Every word has its own row of shares")
plotting.show(
    axes, alt="Matrix of three words by three places; pig looks at the pig, boat at the boat, what at all alike."
)

# %% [markdown]
# *what* fits nothing in particular and reads nearly the average of the picture. Remember that: a word which finds nothing still reads something.

# %% [markdown]
# ## 3 Why divide by the square root of the width?
# A product of two vectors adds up $D$ terms. If the entries are independent with mean 0 and variance 1, each term has variance 1, so the sum has variance $D$: a score's typical size
# grows like $\sqrt D$. Predict: at width 1,024, how much of the softmax over 64 places goes to the best one?

# %%
generator = torch.Generator().manual_seed(SEED)
widths, spreads, largest = [4, 16, 64, 256, 1024], [], {"plain": [], "divided by the root of D": []}
for width in widths:
    some_queries = torch.randn(200, width, generator=generator)  # (200,D)
    some_keys = torch.randn(64, width, generator=generator)  # (P,D)
    raw = some_queries @ some_keys.T  # (200,P)
    spreads.append(raw.std().item())
    largest["plain"].append(raw.softmax(dim=-1).amax(dim=-1).mean().item())
    largest["divided by the root of D"].append((raw / width**0.5).softmax(dim=-1).amax(dim=-1).mean().item())
[(width, round(spread, 1), round(width**0.5, 1)) for width, spread in zip(widths, spreads)]

# %%
axes = plotting.lines(widths, largest, chance=1 / 64)
axes.set(xscale="log", xlabel="width D", ylabel="mean share of the best place", ylim=(0, 1))
axes.set(
    xticks=widths, xticklabels=widths, title="Without the division, wide models look at hardly more than one place"
)
plotting.show(
    axes, alt="Share of the best of 64 places: rises towards one for plain products, stays flat when divided by root D."
)

# %% [markdown]
# Plain, an untrained wide model is already certain, about nothing. And a certain softmax does not learn: its gradient is share times (1 - share), which vanishes at both ends. Divided by $\sqrt D$, scores start with
# variance 1 at every width:
#
# $$\text{attn} = \mathrm{softmax}\!\left(\frac{Q K^\top}{\sqrt D}\right) \qquad \text{out} = \text{attn}\; V$$
#
# ### Exercise 3.2: scaled attention
# Difficulty 1 of 3, about 5 minutes.
#
# Write `attend(queries, keys, values)`: queries (L,D), keys (P,D) and values (P,Dv) in, the pair `(out (L,Dv), attn (L,P))` out, scaled.
#
# <details><summary>Hint 1</summary>Whose square root: of the number of places, or of the numbers a key has?</details>
# <details><summary>Hint 2</summary>Three lines: scores, softmax along <code>dim=-1</code>, product. Divide before the softmax.</details>


# %% tags=["exercise"]
def attend(queries, keys, values):
    """Scaled attention of queries (L,D) over keys (P,D) and values (P,Dv) -> out (L,Dv), attn (L,P)."""
    # BEGIN SOLUTION
    scores = queries @ keys.T / keys.shape[-1] ** 0.5  # (L,D) @ (D,P) -> (L,P)
    attn = scores.softmax(dim=-1)
    return attn @ values, attn  # (L,P) @ (P,Dv) -> (L,Dv)
    # END SOLUTION


# %% tags=["check"]
cross_modal_attention.check_attend(attend)

# %% [markdown]
# ### Exercise 3.3: how large is a score?
# Difficulty 1 of 3, about 5 minutes.
#
# Queries and keys have 256 independent entries of mean 0 and variance 1. What is the standard deviation of one plain product? Put the number into `spread`.
#
# <details><summary>Hint 1</summary>Variances of independent terms add up. Standard deviations do not.</details>
# <details><summary>Hint 2</summary>Look at the table above the figure.</details>

# %% tags=["exercise"]
spread = ...
# BEGIN SOLUTION
spread = 256**0.5
# END SOLUTION

# %% tags=["check"]
cross_modal_attention.check_spread(spread)

# %% [markdown]
# ## 4 What must not be read: masks
# Questions of a batch differ in length; the short ones are filled up with padding, and padding must not be read. So its score is set to minus infinity before the softmax, and its
# share is zero. Tutorials write `-1e9` instead. Two number types, and one question that is *all* padding. Predict which of the four break:

# %% tags=["nbval-check-output"]
may_read = torch.tensor([[True, True, False, False], [False, False, False, False]])  # (B,P)
for fill in (-1e9, -math.inf):
    for dtype in (torch.float32, torch.float16):
        try:
            filled = torch.zeros(2, 4, dtype=dtype).masked_fill(~may_read, fill).softmax(dim=-1)  # (B,P)
            outcome = [[round(share, 2) for share in row] for row in filled.tolist()]
        except RuntimeError as error:
            outcome = f"{type(error).__name__}, {fill:g} does not fit into this type"
        print(f"fill {fill:5}, {str(dtype)[6:]}: {outcome}")

# %% [markdown]
# `-1e9` does not exist in half precision. And in a row with nothing to read, it makes every padding equal, so the row reads padding; minus infinity makes NaN, which one backward pass spreads to every weight. What
# we want: *masked shares are zero, and who may read nothing reads zero.*
#
# ### Exercise 3.4: a softmax with a mask
# Difficulty 2 of 3, about 10 minutes.
#
# Write `masked_softmax(scores, mask)`: scores (B,h,L,P) of any float type, mask (B,P) with `True` where a place may be read. Shares (B,h,L,P) out: exactly zero where masked, rows that add up to one,
# rows of zeros where nothing may be read. Gradients stay finite as well.
#
# <details><summary>Hint 1</summary>Which number is the smallest that this dtype has? <code>torch.finfo</code> knows. What does a row of nothing but it become?</details>
# <details><summary>Hint 2</summary><code>mask[:, None, None, :]</code> fits (B,h,L,P). Fill, softmax, then multiply by the mask: this changes only the empty rows.</details>


# %% tags=["exercise"]
def masked_softmax(scores, mask):
    """Shares (B,h,L,P) of scores (B,h,L,P) over the places where mask (B,P) is True; zeros where there is none."""
    # BEGIN SOLUTION
    mask = mask[:, None, None, :]  # (B,P) -> (B,1,1,P)
    filled = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return filled.softmax(dim=-1) * mask
    # END SOLUTION


# %% tags=["check"]
cross_modal_attention.check_masked_softmax(masked_softmax)

# %% [markdown]
# ## 5 Several heads
# One softmax makes one mixture. A word that needs two places at once can only average them. So the width is cut into $h$ **heads** of $d = D / h$ numbers, each with
# its own query, key, value and map; what they read is laid side by side. A word asks two things here: its first half wants pigs, its second half boats.

# %% tags=["nbval-check-output"]
two_wishes = torch.tensor([[3.0, 0.0, 0.0, 3.0]])  # (L,D) = (1,4)
wide_keys = torch.cat([keys, keys], dim=-1)  # (P,D) = (3,4): each half knows pig and boat
one_head = (two_wishes @ wide_keys.T / 4**0.5).softmax(dim=-1)  # (L,P)
two_heads = torch.stack([(q @ keys.T / 2**0.5).softmax(dim=-1) for q in two_wishes.split(2, dim=-1)])  # (h,L,P)
one_head.round(decimals=2), two_heads.round(decimals=2)

# %% [markdown]
# One head reads half pig, half boat, and hands on their mixture. Two heads read the pig and the boat, and hand on both.
#
# ### Exercise 3.5: cut into heads
# Difficulty 2 of 3, about 10 minutes.
#
# Write `split_heads(x, heads)`: x (B,L,D) in, (B,h,L,d) out with d = D / h. Head 0 gets the first d numbers of every word.
#
# <details><summary>Hint 1</summary>A <code>view</code> straight to (B,h,L,d) has the right shape and mixes words. Why?</details>
# <details><summary>Hint 2</summary>Cut the last dimension first, (B,L,h,d), then <code>transpose(1, 2)</code>.</details>


# %% tags=["exercise"]
def split_heads(x, heads):
    """(B,L,D) -> (B,h,L,d): head k gets numbers k*d to (k+1)*d of every word."""
    # BEGIN SOLUTION
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)  # (B,L,D) -> (B,L,h,d) -> (B,h,L,d)
    # END SOLUTION


# %% tags=["check"]
cross_modal_attention.check_split_heads(split_heads)

# %% [markdown]
# In the package, `attention` holds scale, mask and softmax, and `MultiHeadAttention` puts learned maps before and after: words become queries, patches become keys and values, and the heads' readings are mixed once more.
# Bridge: head by head with the formula of section 3, and through the package.

# %%
from course_utils import attention

torch.manual_seed(SEED)
q_heads, k_heads, v_heads = torch.randn(2, 4, 5, 8), torch.randn(2, 4, 7, 8), torch.randn(2, 4, 7, 8)  # (B,h,L|P,d)
out_heads, attn_heads = attention.attention(q_heads, k_heads, v_heads)  # (B,h,L,d), (B,h,L,P)
for b in range(2):
    for head in range(4):
        by_formula = (q_heads[b, head] @ k_heads[b, head].T / 8**0.5).softmax(dim=-1)  # (L,P)
        assert torch.allclose(attn_heads[b, head], by_formula, atol=1e-6)
        assert torch.allclose(out_heads[b, head], by_formula @ v_heads[b, head], atol=1e-6)

# %% [markdown]
# ## 6 The authority agrees
# Is this what PyTorch computes? First `scaled_dot_product_attention`, value and gradients, with a mask:

# %%
real = torch.tensor([[True] * 7, [True] * 4 + [False] * 3])  # (B,P)
inputs = [tensor.clone().requires_grad_() for tensor in (q_heads, k_heads, v_heads)]
ours = attention.attention(*inputs, real[:, None, None, :])[0]
theirs = F.scaled_dot_product_attention(*inputs, attn_mask=real[:, None, None, :])
our_gradients = torch.autograd.grad(ours.square().sum(), inputs)
their_gradients = torch.autograd.grad(theirs.square().sum(), inputs)
differences = [(ours - theirs).abs().max()] + [(a - b).abs().max() for a, b in zip(our_gradients, their_gradients)]
assert max(differences) < 1e-5
[f"{difference.item():.0e}" for difference in differences]

# %% [markdown]
# Then the whole module with its weights, `nn.MultiheadAttention`. Mind its mask: there `True` means *leave out*, in `scaled_dot_product_attention` it means *take part*. Two functions of one library, two opposite
# conventions. Section 14 is about the day you mix them up.

# %%
from torch import nn

torchs = nn.MultiheadAttention(32, 4, batch_first=True)
mine = attention.MultiHeadAttention(32, 4).copy_from(torchs)
x, source = torch.randn(2, 5, 32), torch.randn(2, 7, 32)  # (B,L,D), (B,P,D)
torch_out, torch_attn = torchs(x, source, source, key_padding_mask=~real, average_attn_weights=False)
my_out, my_attn = mine(x, source, real)
torch_out.square().sum().backward()
my_out.square().sum().backward()
assert torch.allclose(my_out, torch_out, atol=1e-5)
assert torch.allclose(my_attn, torch_attn, atol=1e-5)
assert torch.allclose(mine.out.weight.grad, torchs.out_proj.weight.grad, atol=1e-5)
assert torch.allclose(mine.key.weight.grad, torchs.in_proj_weight.grad[32:64], atol=1e-5)

# %% [markdown]
# Equal to 1e-5. Where they differ is the empty row: in bfloat16, with a question that may read nothing, ours gives zeros and a finite gradient.

# %%
nothing = torch.zeros(2, 1, 1, 7, dtype=torch.bool)  # (B,1,1,P)
halves = [tensor.bfloat16().requires_grad_() for tensor in (q_heads, k_heads, v_heads)]
silent = attention.attention(*halves, nothing)[0]
silent_gradients = torch.autograd.grad(silent.sum(), halves)
assert (silent == 0).all()
assert all(gradient.isfinite().all() for gradient in silent_gradients)
silent.dtype, silent.abs().max().item()

# %% [markdown]
# ## 7 A task whose answer we know
# Now words and pictures. Scenes hold three or four objects, and each is asked questions of four kinds. Before you go on: for which of the kinds must a model know *where* things are, and for which is it enough to know *what* there is?

# %%
from course_utils import batches, scenes, text

names = tuple(scenes.DEFAULT_OBJECTS)[: sizes.objects]
config = scenes.SceneConfig(objects=names, counts=(3, 4))
vocabulary = text.word_tokenizer(scenes.vocabulary(config, with_questions=True))
counts = {"train": sizes.train_scenes, "val": sizes.test_scenes, "test": sizes.test_scenes}
train, val, test = [
    batches.SceneQuestions(scenes.Scenes(SEED, part, config), count, vocabulary) for part, count in counts.items()
]
kinds = batches.KINDS
[(part, len(asked)) for part, asked in zip(counts, (train, val, test))]

# %%
shown = [int((test.kinds == kind).nonzero()[0][k]) for k in (0, 9) for kind in kinds]
pictures = [test.images[test.image_ids[i]].permute(1, 2, 0).numpy() for i in shown]
titles = [f"{test.texts[i]} {test.classes[test.answers[i]]}" for i in shown]
axes = plotting.gallery(pictures, titles, columns=4)
plotting.show(axes, alt="Eight small scenes of three or four objects, each with a question and its answer below.")

# %% [markdown]
# *Directly left* means: beside it in the same row. Relations are asked only where there are four objects, around a square: of three, one side holds a single object, and *left* alone would give it away. Of four, *left* leaves two, and only who finds
# the named object knows which. So the question needs both modalities and two steps: find the pig, then look left of it. The test scenes' combinations never occur in training.
#
# What does a model score that never sees the picture? It can learn which answer is the most frequent. It can also read the question: *which is larger* names both candidates, and a coin decides between them. The better of the two is the **habit** to beat.

# %%
import numpy as np

habit = {}
for kind in kinds:
    in_train = np.bincount(train.answers[train.kinds == kind], minlength=len(train.classes))
    frequent = (test.answers[test.kinds == kind] == int(in_train.argmax())).float().mean().item()
    habit[kind] = 0.5 if kind == "larger" else frequent
    most = train.classes[in_train.argmax()]
    print(f"{kind:9} most frequent answer {most!r:12} right in {frequent:.3f}; the habit to beat {habit[kind]:.3f}")

# %% [markdown]
# ## 8 A picture becomes patches
# A small convolutional tower turns a picture of 64 by 64 pixels into 8 by 8 **patches**, each a vector. We train it once, freeze it and keep its patches: every model below gets the same ones, and a model takes seconds. It learns from
# *names only*: which nouns are in the picture. Nobody tells it where.


# %%
class PatchTower(nn.Module):
    """images (B,3,64,64) -> patches (B,64,C); forward says which nouns are there, (B,nouns) logits."""

    def __init__(self, nouns, channels):
        super().__init__()
        layers, inputs = [], 3
        for outputs, stride in ((channels // 2, 2), (channels, 2), (channels, 2), (channels, 1)):
            layers += [nn.Conv2d(inputs, outputs, 3, stride, padding=1), nn.GroupNorm(8, outputs), nn.GELU()]
            inputs = outputs
        self.features, self.names = nn.Sequential(*layers), nn.Linear(channels, nouns)

    def patches(self, images):
        return self.features(images - 0.5).flatten(2).transpose(1, 2)  # (B,C,8,8) -> (B,C,P) -> (B,P,C)

    def forward(self, batch):
        by_place = self.names(self.patches(batch["images"]))  # (B,P,nouns)
        return by_place.logsumexp(dim=1) - math.log(by_place.shape[1])  # (B,nouns): one place that sees it is enough


# %% [markdown]
# Each patch stands for 8 by 8 pixels, but four convolutions let it see 31 by 31 around it. Remember this when a map misses an object by one patch.

# %%
from course_utils import training


def tower_batches():
    chooser = np.random.default_rng(SEED)
    for _ in range(sizes.tower_steps):
        chosen = torch.as_tensor(chooser.integers(0, len(train.images), sizes.tower_batch))
        yield {"images": train.images[chosen].float() / 255, "present": train.present[chosen].float()}


def named(logits, batch):
    return F.binary_cross_entropy_with_logits(logits.float(), batch["present"])


torch.manual_seed(SEED)
tower = PatchTower(len(names), sizes.channels)
tower_recipe = training.TrainConfig(sizes.tower_steps, 3e-3, dtype=session.dtype)
tower_history = training.fit(tower, tower_batches(), named, tower_recipe, label="tower")


# %%
@torch.no_grad()
def encode(asked):
    parts = [tower.patches(asked.images[i : i + 256].float() / 255) for i in range(0, len(asked.images), 256)]
    return torch.cat(parts)  # (N,P,C)


with torch.no_grad():
    seen = tower({"images": test.images.float() / 255}) > 0  # (N,nouns)
print(f"nouns told present or absent in unseen scenes: {(seen == test.present).float().mean():.3f} right")
coded = [encode(asked) for asked in (train, val, test)]
mean, deviation = coded[0].mean(dim=(0, 1)), coded[0].std(dim=(0, 1))  # (C,) each
train, val, test = [
    asked.with_patches(((code - mean) / deviation).half()) for asked, code in zip((train, val, test), coded)
]
batch = train.batch(range(4))
{name: tuple(value.shape) for name, value in batch.items()}

# %% [markdown]
# ## 9 Three models at equal budget
# One class makes all three. Words get embeddings and places in the sentence, patches get their row and column in the picture, then **blocks** let them meet, and the mean word says the answer. The only difference is what is handed to the blocks: all
# patches, their mean, or nothing. Same parameters, same questions in the same order, same steps.


# %%
class Reader(nn.Module):
    """A question and a picture's patches in, one logit an answer out; `maps` keeps every block's (B,h,L,P)."""

    def __init__(self, blocks, sees="patches"):
        super().__init__()
        width, length = sizes.width, train.tokens.shape[1]
        self.sees, self.maps = sees, []
        self.words = nn.Embedding(vocabulary.get_vocab_size(), width)
        nn.init.normal_(self.words.weight, std=0.5)
        self.word_places = nn.Parameter(0.3 * torch.randn(length, width))  # (L,D)
        self.patches_in = nn.Linear(sizes.channels, width)
        self.rows, self.columns = nn.Parameter(torch.randn(8, 1, width)), nn.Parameter(torch.randn(1, 8, width))
        thought = [nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)]
        self.patch_thought = nn.Sequential(*thought)
        self.blocks = nn.ModuleList(blocks)
        self.answer = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, len(train.classes)))

    def look(self, patches):
        places = (self.rows + self.columns).flatten(0, 1)  # (8,8,D) -> (P,D)
        placed = self.patches_in(patches) + places  # (B,P,C) -> (B,P,D)
        placed = placed + self.patch_thought(placed)
        if self.sees == "patches":
            return placed
        return placed.mean(dim=1, keepdim=True) * (self.sees == "mean")  # (B,1,D): the mean, or zeros

    def meet(self, words, patches, mask):
        self.maps = []
        for block in self.blocks:
            words, patches, attn = block(words, patches, mask)
            self.maps.append(attn)
        return words  # (B,L,D)

    def forward(self, batch):
        mask, words = batch["token_mask"], self.words(batch["tokens"])  # (B,L), (B,L,D)
        words = words + self.word_places[: words.shape[1]]
        words = self.meet(words, self.look(batch["patches"]), mask) * mask[..., None]  # zeros at padding
        return self.answer(words.sum(dim=1) / mask.sum(dim=1, keepdim=True))  # (B,D) -> (B,answers)


# %% [markdown]
# A patch's own thought comes before the mean, so the pooled model *may* keep "a pig, upper left" as one number of its mean, if the width is enough for it. A fair rival.
#
# The block is the package's `CrossBlock`: words read patches (cross-attention), then words read words (self-attention, where the padding mask is needed), then each word thinks alone. Every branch is added to what was there. Two blocks, one head.


# %%
def new_reader(sees="patches", door_type=attention.CrossBlock):
    torch.manual_seed(SEED)
    return Reader([door_type(sizes.width, heads=1) for _ in range(2)], sees)


def answered(logits, batch):
    return F.cross_entropy(logits.float(), batch["answers"])


def learn(reader, steps, label, loss=answered):
    recipe = training.TrainConfig(steps, sizes.learning_rate, dtype=session.dtype)
    order = batches.shuffled(train, sizes.batch_size, steps, seed=SEED)
    return training.fit(reader, order, loss, recipe, label=label)


rivals = {"words only": "nothing", "pooled picture": "mean", "cross-attention": "patches"}
readers = {name: new_reader(sees) for name, sees in rivals.items()}
[(name, sum(p.numel() for p in reader.parameters())) for name, reader in readers.items()]

# %% [markdown]
# Predict, for the pooled picture and for cross-attention, the accuracy of each kind: relation, larger, count, exists.

# %%
histories = {name: learn(reader, sizes.steps, name) for name, reader in readers.items()}


# %%
@torch.no_grad()
def right_of(reader, asked):
    """(Q,) 1 where the answer is right."""
    hits = []
    for start in range(0, len(asked), 512):
        part = asked.batch(range(start, min(start + 512, len(asked))))
        hits.append(reader(part).argmax(dim=1) == part["answers"])
    return torch.cat(hits).float().numpy()


# %%
from course_utils import metrics

images = test.image_ids.numpy()  # (Q,) the scene of each question
asks = {kind: test.kinds == kind for kind in kinds}  # (Q,) each


def interval(right, chosen):
    """95 % interval of the mean of right (Q,) over the chosen questions, resampling scenes."""
    return metrics.bootstrap_interval(right[chosen], images[chosen], SEED)


def by_kind(right):
    """Two lines: the share right of each kind, with its interval."""
    cells = []
    for kind, chosen in asks.items():
        low, high = interval(right, chosen)
        cells.append(f"{kind} {right[chosen].mean():.3f} ({low:.3f} to {high:.3f})")
    return "  ".join(cells[:2]) + f"\n{'':17}" + "  ".join(cells[2:])


# %%
hits = {name: right_of(reader, test) for name, reader in readers.items()}
for name, right in hits.items():
    print(f"{name:16} {by_kind(right)}")

# %%
figure, panels = plotting.plt.subplots(1, 4, figsize=(12, 2.3), layout="constrained", sharey=True)
for panel, (kind, chosen) in zip(panels, asks.items()):
    spans = np.array([interval(right, chosen) for right in hits.values()])
    plotting.bars(list(hits), [right[chosen].mean() for right in hits.values()], spans, ax=panel)
    panel.axvline(habit[kind], color=plotting.COLOURS["neutral"], linestyle="--")
    panel.set(title=kind, xlim=(0, 1.35), xticks=[0, 0.5, 1], xlabel="share right")
figure.suptitle("Accuracy by kind of question (dashed: the best habit without a picture)")
plotting.show(figure, alt="Accuracy of three models for four kinds of questions, with the best habit as a dashed line.")

# %% [markdown]
# Words alone stay at the habit: the questions do not give themselves away. Now compare the two models that see. Both know *what* there is, so *larger*, *count* and *exists* are in reach of both. What the mean of all patches hardly holds is which thing stands
# beside which. Recorded is the paired difference on relation questions, resampling scenes.

# %%
related, other = asks["relation"], ~asks["relation"]
crossed, pooled = hits["cross-attention"], hits["pooled picture"]
gain = crossed - pooled  # (Q,)
record("relation/cross_attention_minus_pooled", gain[related].mean(), interval(gain, related), chance=0.0)
record("relation/cross_attention", crossed[related].mean(), interval(crossed, related), habit["relation"])
low, high = interval(crossed, related)[0], interval(pooled, related)[1]
print(f"cross-attention from {low:.3f}, pooled up to {high:.3f}: intervals {'apart' if low > high else 'overlap'}")

# %% [markdown]
# How far does guessing carry the pooled model? Who knows the four objects and strikes out the named one is right in a third of the cases; who also knows which two lie on that side, in a half.

# %% [markdown]
# ## 10 Where does a word look?
# Cross-attention leaves a map for each word. Maps make fine pictures, and a fine picture proves nothing. We know where every object is, so we can *score* a map. **Pointing game**: the map's strongest place either lies on the object or not. A flat map scores
# the object's share of the picture, its *area*: that is chance, and it differs from object to object.
#
# ### Exercise 3.6: does it point at the object?
# Difficulty 2 of 3, about 10 minutes.
#
# Write `pointing(saliency, mask)`: saliency (H,W) and mask (H,W) of bool in, a number out: 1 if the largest value lies inside the mask, 0 if outside. Where several places are equally large, the share of them that lies inside.
#
# <details><summary>Hint 1</summary><code>argmax</code> returns the first of several. What would a flat map score then?</details>
# <details><summary>Hint 2</summary><code>saliency == saliency.max()</code> marks all of them. Then: how many of these are inside?</details>


# %% tags=["exercise"]
def pointing(saliency, mask):
    """Chance that the strongest place of saliency (H,W) lies in mask (H,W), ties broken at random."""
    # BEGIN SOLUTION
    strongest = saliency == saliency.max()  # (H,W)
    return float(mask[strongest].float().mean())
    # END SOLUTION


# %% tags=["check"]
cross_modal_attention.check_pointing(pointing)

# %% [markdown]
# The package's `pointing_game` does this for many maps at once. A patch stands for its 8 by 8 pixels, which tie; bridge on one word's map:

# %%
from course_utils import faithfulness

cross = readers["cross-attention"]
one_batch = test.batch([shown[0]])
with torch.no_grad():
    cross(one_batch)
word_place = int((test.owners[shown[0]] >= 0).nonzero()[0][0])  # where the question names an object
own_mask = test.masks[test.image_ids[shown[0]], test.owners[shown[0], word_place]]  # (H,W)
small_map = cross.maps[0][0, 0, word_place].reshape(8, 8)  # (P,) -> (8,8)
large_map = small_map.repeat_interleave(8, dim=0).repeat_interleave(8, dim=1)  # (64,64)
strongest_places = large_map == large_map.max()
by_hand = own_mask[strongest_places.numpy()].mean()
assert math.isclose(by_hand, faithfulness.pointing_game(small_map[None], own_mask[None])[0])
f"{test.texts[shown[0]]} The map's strongest patch is {by_hand:.0%} on the named object, whose area is {own_mask.mean():.1%}"

# %% [markdown]
# Which words do we score, in which block? A question names objects, so a naming word has an object of **its own**. In a relation question there is a second candidate: the **answer's** object. We collect every naming word of the
# validation scenes with both, look, and only then decide what to score on the test scenes.


# %%
@torch.no_grad()
def word_maps(reader, asked):
    """Every naming word: block -> maps (W,8,8), and question, own object (W,) as arrays."""
    found, owners, rows = [[] for _ in reader.blocks], [], []
    for start in range(0, len(asked), 512):
        part = np.arange(start, min(start + 512, len(asked)))
        reader(asked.batch(part))
        row, word = np.nonzero(asked.owners[part] >= 0)  # (W,) each
        for block, attn in enumerate(reader.maps):
            found[block].append(attn[row, :, word].float().mean(dim=1).reshape(-1, 8, 8))  # (W,h,P) -> (W,8,8)
        rows.append(part[row])
        owners.append(asked.owners[part][row, word])
    return [torch.cat(maps).numpy() for maps in found], np.concatenate(rows), np.concatenate(owners)


def over_area(maps, asked, rows, objects):
    """(W,) hit of each map on its object, in units of the objects' mean area."""
    masks = asked.masks[asked.image_ids[rows], objects]  # (W,H,W)
    return faithfulness.pointing_game(maps, masks) / masks.mean()


# %%
val_maps, val_rows, val_owners = word_maps(cross, val)
val_answers = val.answer_object[val_rows]  # (W,)
refers = (val.kinds[val_rows] == "relation") & (val_answers != val_owners)  # the pig of "left of the pig"
on_own = [over_area(maps, val, val_rows, val_owners).mean() for maps in val_maps]
asking = val_rows[refers]
on_named = [over_area(maps[refers], val, asking, val_owners[refers]).mean() for maps in val_maps]
on_answer = [over_area(maps[refers], val, asking, val_answers[refers]).mean() for maps in val_maps]
look_block, answer_block = int(np.argmax(on_own)), int(np.argmax(on_answer))

# %%
for number in (0, 1):
    print(f"block {number + 1}: all naming words on their own object {on_own[number]:.1f} times its area;")
    print(
        f"         in relation questions on the named object {on_named[number]:.1f}, on the answer {on_answer[number]:.1f}"
    )
print(f"decided: block {look_block + 1} for the own object, block {answer_block + 1} for the answer")

# %% [markdown]
# Read this slowly. With the `cpu` sizes, the word *pig* of *left of the pig* looks at the pig in the first block. In the second the *same word* looks at the answer, and at the pig hardly more than a flat map would. First find it; then look left of it: the two steps that we wanted, one a block, and nobody told the
# model. Whoever shows "the attention of the word *pig*" must say from which block.
#
# ### The controls
# A score means something beside what a worthless map would get. For the answer, the same words' maps in the *other* block. For the rest, three worthless maps: **random** numbers; the same reader with **randomised weights** (several draws); and the map of **another word**, the one that opens the question (*what*, *which*, *is*) and names nothing. Predict: which of
# these stays nearest to 1, the area, and which may lie above it?

# %%
test_maps, test_rows, test_owners = word_maps(cross, test)
test_answers = test.answer_object[test_rows]
is_reference = (test.kinds[test_rows] == "relation") & (test_answers != test_owners)
reference_rows, reference_answers = test_rows[is_reference], test_answers[is_reference]
draws = np.random.default_rng(SEED).random((len(test_rows), 8, 8))  # (W,8,8)


@torch.no_grad()
def opening_maps(reader, asked, rows):
    """Maps (W,8,8) of the first word of each question in `rows`, in the block that finds objects."""
    maps = []
    for start in range(0, len(asked), 512):
        reader(asked.batch(range(start, min(start + 512, len(asked)))))
        maps.append(reader.maps[look_block][:, :, 0].mean(dim=1).reshape(-1, 8, 8))  # (B,h,P) -> (B,8,8)
    return torch.cat(maps)[rows].numpy()


def randomised(seed):
    torch.manual_seed(1_000 + seed)
    stranger = Reader([attention.CrossBlock(sizes.width, 1) for _ in range(2)])
    return word_maps(stranger, test)[0][look_block]


# %%
pointed = {
    "its own object": over_area(test_maps[look_block], test, test_rows, test_owners),
    "the answer's object": over_area(test_maps[answer_block][is_reference], test, reference_rows, reference_answers),
    "the answer, other block": over_area(
        test_maps[1 - answer_block][is_reference], test, reference_rows, reference_answers
    ),
    "random map": over_area(draws, test, test_rows, test_owners),
    "randomised weights": np.mean([over_area(randomised(k), test, test_rows, test_owners) for k in range(5)], axis=0),
    "another word": over_area(opening_maps(cross, test, test_rows), test, test_rows, test_owners),
}
rows_of = {name: reference_rows if "answer" in name else test_rows for name in pointed}
ranges = {name: metrics.bootstrap_interval(ratio, images[rows_of[name]], SEED) for name, ratio in pointed.items()}
for name, ratio in pointed.items():
    print(f"{name:28} {ratio.mean():.2f} times the area ({ranges[name][0]:.2f} to {ranges[name][1]:.2f})")

# %%
axes = plotting.bars(list(pointed), [ratio.mean() for ratio in pointed.values()], np.array(list(ranges.values())))
axes.axvline(1, color=plotting.COLOURS["neutral"], linestyle="--")
axes.set(
    xlabel="pointing game, in units of the object's area (dashed: a flat map)",
    title="Naming words find their objects; the controls stay far below",
)
plotting.show(
    axes,
    alt="Bars: words point at their own object and at the answer; the answer in the other block and three worthless maps are far below.",
)

# %% [markdown]
# Random maps get what a flat one gets, and randomised weights something near it: an untrained reader has habits too. Another word's map may get more: objects stand near the middles of the quarters, and a word that looks for objects of any kind hits some object more often than grass. So *above 1* is not yet *this* object; many times 1 is.

# %%
facts = {
    "pointing/word_attention_over_area": "its own object",
    "pointing/answer_over_area": "the answer's object",
    "pointing/random_map_over_area": "random map",
    "pointing/randomised_weights_over_area": "randomised weights",
    "pointing/another_word_over_area": "another word",
}
baselines = {"its own object": 1.0, "the answer's object": pointed["the answer, other block"].mean()}
for fact, name in facts.items():
    record(fact, pointed[name].mean(), ranges[name], chance=1.0, excludes=(baselines.get(name, 3.0),))

# %% [markdown]
# Now the picture, after the numbers. One relation question a row: the naming word's map in both blocks, the outline of what it is scored on, and the same word's map with randomised weights beside it.

# %%
torch.manual_seed(1_000)
stranger_maps = word_maps(Reader([attention.CrossBlock(sizes.width, 1) for _ in range(2)]), test)[0]
gallery_rows = np.flatnonzero(is_reference)[[0, 10]]
panels_shown = []
for w in gallery_rows:
    question, word = test.texts[test_rows[w]], test.scenes[int(images[test_rows[w]])].objects[test_owners[w]].name
    panels_shown += [
        (f"{question} {word}, block\u00a0{look_block + 1}", test_maps[look_block][w], test_owners[w], w),
        (f"{word}, block {answer_block + 1}; outlined: the answer", test_maps[answer_block][w], test_answers[w], w),
        (f"{word}, randomised weights", stranger_maps[look_block][w], test_owners[w], w),
    ]
labels, shown_maps, outlined, of_word = zip(*panels_shown)
scene_of = [int(images[test_rows[w]]) for w in of_word]
axes = plotting.maps(
    [test.images[i].permute(1, 2, 0).numpy() for i in scene_of],
    np.stack(shown_maps),
    labels,
    np.stack([test.masks[i, k] for i, k in zip(scene_of, outlined)]),
    columns=3,
)
plotting.show(
    axes,
    alt="Two questions, three maps each: the named object in one block, the answer in the other, and a randomised model's map.",
)

# %% [markdown]
# Two examples are an illustration, the bars above are the evidence. And even they say only that words *look* at the right places. Does the answer come *from* there?

# %% [markdown]
# ## 11 The surprise: shuffle the maps
# If a map explains an answer, a wrong map must spoil it. So take a trained model and, in one block, move every question's weights to other patches at random: one permutation a question. Rows still add up to one; only *where* is wrong. Predict for each kind of question and each
# block: does accuracy fall to a guess, fall somewhat, or stay?
#
# ### Exercise 3.7: shuffle the places
# Difficulty 2 of 3, about 10 minutes.
#
# Write `shuffle_maps(attn, generator)`: attn (B,h,L,P) in, the same shape out. For each of the B questions draw one permutation of the P places, and use it for all its heads and words.
#
# <details><summary>Hint 1</summary>What does <code>argsort</code> of random numbers give?</details>
# <details><summary>Hint 2</summary><code>torch.rand(B, P, generator=generator).argsort(dim=1)</code>, made (B,h,L,P) by <code>expand</code>, then <code>attn.gather(-1, order)</code>.</details>


# %% tags=["exercise"]
def shuffle_maps(attn, generator):
    """attn (B,h,L,P) with its places permuted, one permutation a question."""
    # BEGIN SOLUTION
    order = torch.rand(attn.shape[0], attn.shape[-1], generator=generator).argsort(dim=1)  # (B,P)
    return attn.gather(-1, order[:, None, None, :].expand_as(attn))  # (B,h,L,P)
    # END SOLUTION


# %% tags=["check"]
cross_modal_attention.check_shuffle_maps(shuffle_maps)

# %% [markdown]
# The package's attention has a hook for such experiments: `edit` replaces the map before values are read.


# %%
def with_shuffled(reader, blocks, asked):
    """Right answers (Q,) while the maps of these blocks are shuffled."""
    draw = torch.Generator().manual_seed(SEED)

    def edit(attn):
        order = torch.rand(attn.shape[0], attn.shape[-1], generator=draw).argsort(dim=1)  # (B,P)
        return attn.gather(-1, order[:, None, None, :].expand_as(attn))

    for block in blocks:
        reader.blocks[block].cross.edit = edit
    try:
        return right_of(reader, asked)
    finally:
        for block in blocks:
            reader.blocks[block].cross.edit = None


# %%
shuffles = {"block 1": (0,), "block 2": (1,), "both": (0, 1)}
after = {"none": crossed} | {name: with_shuffled(cross, blocks, test) for name, blocks in shuffles.items()}
for name, right in after.items():
    print(f"shuffled {name:8}{by_kind(right)}")

# %%
table = np.array([[right[chosen].mean() for right in after.values()] for chosen in asks.values()])  # (4 kinds,4)
axes = plotting.heat(table, rows=kinds, columns=list(after), limits=(0, 1))
axes.set(xlabel="whose maps are shuffled", title="Share right with shuffled maps")
plotting.show(axes, alt="Table of accuracy by kind of question and by block whose maps were shuffled.")

# %%
lost = {name: after["none"] - after[name] for name in shuffles}  # (Q,) each
hangs_on = max(("block 1", "block 2"), key=lambda name: lost[name][related].mean())
idle = min(("block 1", "block 2"), key=lambda name: lost[name][asks["exists"]].mean())
record("shuffled/relation_lost", lost[hangs_on][related].mean(), interval(lost[hangs_on], related), chance=0.0)
kept = 1.0 - np.abs(lost[idle])  # (Q,) 1 where the verdict is the same
record("shuffled/exists_same_verdict", kept[asks["exists"]].mean(), interval(kept, asks["exists"]), chance=0.5)
print(f"relation questions hang on {hangs_on}; for questions of existence the maps of {idle} may be shuffled")

# %% [markdown]
# Read the table row by row. Where a number falls, the answer hung on *where* that block looks. Where it stays, the maps of that block explain nothing, however well they may point: the model takes the same answer from any patches, or from elsewhere. With the `cpu` sizes, relation questions
# fall furthest when block 2 is shuffled, in every seed that we tried, while other kinds may not notice at all. Which ones is an accident of the start: with another `SEED`, *count* may be settled in the other block. So it is not true that maps never matter, and not true that they always do. It has to be tested, for this
# model, this block and this kind of question.

# %% [markdown]
# ## 12 Three more doors between words and pictures
# In our block words read patches, and patches never hear the words. The family differs in who may read whom:
#
# - **co-attention** (ViLBERT): two streams; words read patches *and* patches read words, each with weights of its own;
# - **one stream** (VisualBERT, UNITER): words and patches in one row, one self-attention for everything;
# - **resampler and gates** (Flamingo): a few learned **latents** read the patches once; a language model that works already reads the latents through **gates** that start shut.
#
# All are modules of the package with the same interface as ours.

# %% tags=["nbval-check-output"]
some_words, some_patches = torch.randn(2, 7, 64), torch.randn(2, 64, 64)  # (B,L,D), (B,P,D)
family = {"cross": attention.CrossBlock, "co-attention": attention.CoAttention, "one stream": attention.OneStream}
for name, door_type in family.items():
    new_words, new_patches, attn_seen = door_type(64, heads=4)(some_words, some_patches)
    heard = not torch.equal(new_patches, some_patches)
    print(f"{name:13} words {tuple(new_words.shape)}, map {tuple(attn_seen.shape)}, patches hear the words: {heard}")
latents, _ = attention.Resampler(64, heads=4, latents=16)(some_patches)  # (B,R,D)
print(f"resampler     {some_patches.shape[1]} patches become {latents.shape[1]} latents")

# %% [markdown]
# ### The gate
# Put a new, random cross-attention into a model that works, and at the first step it works no longer. Flamingo multiplies what is read by $\tanh(g)$ and starts with $g = 0$: nothing passes, and the model is exactly what it was. Predict: if nothing passes, can anything be learned?
#
# ### Exercise 3.8: a gate that starts shut
# Difficulty 1 of 3, about 5 minutes.
#
# Write `gated(x, update, gate)`: x and update (B,L,D), gate a scalar tensor. At gate 0 the result is x, exactly; the gate has a gradient there.
#
# <details><summary>Hint 1</summary>What must be multiplied by the gate: x, the update, or both?</details>
# <details><summary>Hint 2</summary><code>torch.tanh(gate)</code> is 0 at 0, its slope is 1. Do not branch on <code>gate == 0</code>: a branch has no gradient.</details>


# %% tags=["exercise"]
def gated(x, update, gate):
    """x (B,L,D) plus the update (B,L,D), let in by tanh of a scalar gate."""
    # BEGIN SOLUTION
    return x + torch.tanh(gate) * update
    # END SOLUTION


# %% tags=["check"]
cross_modal_attention.check_gated(gated)

# %%
door = attention.GatedCrossBlock(64, heads=4)
through, _, _ = door(some_words, some_patches)
assert torch.equal(through, some_words)  # exactly the identity
through.square().sum().backward()
print(
    f"gradient at the gate {door.gate_attention.grad.abs():.2f}, at the weights behind it {door.cross.value.weight.grad.abs().max():.2f}"
)

# %% [markdown]
# Shut, and still it learns: the gate itself gets a gradient at once, the weights behind it get one as soon as the gate has moved.
#
# So we take the words-only reader, which answers no better than habit, freeze it whole, and put a gated block before each of its own. Only the gated blocks and what encodes the patches are trained.

# %%
import copy


class GatedReader(Reader):
    """A frozen words-only reader with gated blocks between its own; `latents` patches' worth of picture, or all."""

    def __init__(self, language, latents=None):
        super().__init__([attention.GatedCrossBlock(sizes.width, 1) for _ in language.blocks])
        self.language = copy.deepcopy(language).requires_grad_(False)
        self.words, self.word_places, self.answer = self.language.words, self.language.word_places, self.language.answer
        self.resampler = attention.Resampler(sizes.width, 1, latents) if latents else None

    def meet(self, words, patches, mask):
        blank = torch.zeros_like(patches[:, :1])  # (B,1,D), what the words-only reader always saw
        if self.resampler:
            patches, _ = self.resampler(patches)  # (B,P,D) -> (B,R,D)
        for door, block in zip(self.blocks, self.language.blocks):
            words, _, _ = door(words, patches, mask)
            words, _, _ = block(words, blank, mask)
        return words

    def gates(self):
        return [gate.tanh().item() for door in self.blocks for gate in (door.gate_attention, door.gate_mlp)]


# %%
torch.manual_seed(SEED)
gated_readers = {"gates, all patches": GatedReader(readers["words only"])}
gated_readers["gates, 16 latents"] = GatedReader(readers["words only"], latents=16)
with torch.no_grad():
    before_training = [reader(batch) for reader in (readers["words only"], *gated_readers.values())]
assert all(torch.equal(before_training[0], logits) for logits in before_training[1:])

# %% [markdown]
# Before its first step the model with eyes gives the very answers of the blind one. Now all of the family on the same questions, in the same order, for equally many steps. These are fewer than in section 9, so cross-attention is trained again with them. Predict their order on relation questions.

# %%
import time

openings = {name: [] for name in gated_readers}


def traced(name):
    def loss(logits, batch):
        openings[name].append(gated_readers[name].gates())
        return answered(logits, batch)

    return loss


contenders = {name: new_reader(door_type=door_type) for name, door_type in family.items()} | gated_readers
took = {}
for name, reader in contenders.items():
    started = time.perf_counter()
    learn(reader, sizes.family_steps, name, traced(name) if name in openings else answered)
    took[name] = time.perf_counter() - started

# %%
trails = np.abs(openings["gates, all patches"])  # (steps,4)
gate_names = ["block 1 attention", "block 1 thought", "block 2 attention", "block 2 thought"]
axes = plotting.plt.subplots(figsize=(6, 3.6), layout="constrained")[1]
for gate_name, trail, style, colour in zip(gate_names, trails.T, ("-", "--", "-.", ":"), plotting.COLOURS.values()):
    axes.plot(trail, style, color=colour, label=gate_name)
axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
axes.set(xlabel="step", ylabel="opening |tanh(gate)|", title="The gates start shut and open as training goes on")
plotting.show(axes, alt="Four curves of gate openings over training steps, all starting at zero and rising.")

# %%
record("gates/widest_opening", trails[-1].max(), chance=0.0)
print("openings at the end: " + ", ".join(f"{name} {end:.2f}" for name, end in zip(gate_names, trails[-1])))

# %% [markdown]
# A gate may move either way, since the weights behind it can change sign; shown is its size. Nobody told the model when to let the picture in. What did each of them learn?

# %%
family_hits = {name: right_of(reader, test) for name, reader in contenders.items()}
for name, right in family_hits.items():
    learned = sum(p.numel() for p in contenders[name].parameters() if p.requires_grad)
    print(f"{name}: {learned:,} trained in {took[name]:.0f} s\n{'':17}{by_kind(right)}")

# %%
figure, panels = plotting.plt.subplots(1, 2, figsize=(10, 3.0), layout="constrained", sharey=True)
for panel, chosen, title in ((panels[0], related, "relation"), (panels[1], other, "larger, count and exists")):
    shares_right = [right[chosen].mean() for right in family_hits.values()]
    spans = np.array([interval(right, chosen) for right in family_hits.values()])
    plotting.bars(list(contenders), shares_right, spans, ax=panel)
    panel.set(title=title, xlim=(0, 1.25), xticks=[0, 0.5, 1], xlabel=f"share right after {sizes.family_steps} steps")
plotting.show(
    figure, alt="Accuracy of five models on relation questions and on the other kinds after equally many steps."
)

# %% [markdown]
# On relation questions 0.5 is a landmark: it is what a model gets that knows which side is meant and who stands there, and does not find the named object. One step of the two is learned. The second comes late and suddenly, so a ranking after few steps says who learns *sooner*, not who ends higher. Compare cross-attention here and in
# section 9, where it trained longer. The gated readers learn slowest here, since everything that turns words into an answer was learned without a picture and stays frozen; what they buy is that with the gates shut the old model is still there, untouched. The latents have a harder task: filled before the question is known, they must keep every object and its place for any question.

# %% [markdown]
# ## 13 What the doors cost
# With $L$ words and $P$ patches of width $D$, one cross-attention multiplies: $L$ words by two square matrices (query, out), $P$ patches by two (key, value), and $L \times P$ products twice (scores, reading). One multiply and one add are two operations.
#
# ### Exercise 3.9: count the operations
# Difficulty 2 of 3, about 10 minutes.
#
# Write `cross_flops(L, P, D)`: the operations of one cross-attention, as torch's counter counts them: matrix products only, two a multiply-add.
#
# <details><summary>Hint 1</summary>How many multiplications has (n,D) @ (D,D)? And (L,D) @ (D,P)?</details>
# <details><summary>Hint 2</summary>Does the number of heads matter? Each has D / h numbers, and there are h of them.</details>


# %% tags=["exercise"]
def cross_flops(L, P, D):
    """Operations of a cross-attention: L words read P patches, all of width D."""
    # BEGIN SOLUTION
    return 2 * (2 * L * D * D + 2 * P * D * D + 2 * L * P * D)
    # END SOLUTION


# %% tags=["check"]
cross_modal_attention.check_cross_flops(cross_flops)

# %%
from torch.utils.flop_counter import FlopCounterMode


def operations(call):
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


one_question = torch.randn(1, 12, 64), torch.randn(1, 256, 64)  # (1,L,D), (1,P,D)
counted = operations(lambda: attention.MultiHeadAttention(64, 4)(*one_question))
assert counted == 2 * (2 * 12 * 64**2 + 2 * 256 * 64**2 + 2 * 12 * 256 * 64)
f"{counted:,}"

# %% [markdown]
# Now whole blocks, and beside operations what a learner pays: milliseconds, and the memory that is kept for the backward pass. Autograd tells: every tensor that it saves passes through a hook. Predict for each door: when patches grow from 16 to 1,024, by how much does it grow?


# %%
def kept_bytes(call):
    """Bytes of all storage that autograd keeps for a backward pass of call()."""
    storages = {}

    def keep(tensor):
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = call()
    return sum(storages.values()) if result is not None else 0


def milliseconds(call, runs=9):
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        call()
        times.append(1_000 * (time.perf_counter() - started))
    return float(np.median(times))


# %%
import functools


class Resampled(nn.Module):
    """Sixteen latents read the patches, words read the latents."""

    def __init__(self, width, heads):
        super().__init__()
        self.resampler, self.door = attention.Resampler(width, heads, 16), attention.GatedCrossBlock(width, heads)

    def forward(self, words, patches):
        return self.door(words, self.resampler(patches)[0])


patch_counts, doors = [16, 64, 256, 1024], family | {"16 latents, gate": Resampled}
cost = {name: {"operations": [], "milliseconds": [], "megabytes": []} for name in doors}
for name, door_type in doors.items():
    one_door = door_type(64, 4)
    for patch_count in patch_counts:
        pair = torch.randn(8, 12, 64), torch.randn(8, patch_count, 64)  # (B,L,D), (B,P,D)
        call = functools.partial(lambda door, *both: door(*both)[0], one_door, *pair)
        cost[name]["operations"].append(operations(call) / 8)
        cost[name]["megabytes"].append(kept_bytes(call) / 8 / 1e6)
        with torch.no_grad():
            cost[name]["milliseconds"].append(milliseconds(call) / 8)

# %%
figure, panels = plotting.plt.subplots(1, 3, figsize=(13, 3.6), layout="constrained")
for panel, unit in zip(panels, ("operations", "milliseconds", "megabytes")):
    plotting.lines(patch_counts, {name: row[unit] for name, row in cost.items()}, ax=panel)
    panel.set(xscale="log", yscale="log", xlabel="patches", ylabel=f"{unit} a question", title=unit)
    panel.set_xticks(patch_counts, patch_counts, minor=False)
    panel.minorticks_off()
plotting.show(
    figure,
    alt="Three log-log panels over patches: operations, milliseconds and megabytes of four blocks; co-attention and one stream grow fastest.",
)

# %%
for name, row in cost.items():
    growth = ", ".join(f"{unit} {column[0]:.3g} to {column[-1]:.3g}" for unit, column in row.items())
    print(f"{name:17} {growth}")
dearer = cost["one stream"]["operations"][-1] / cost["cross"]["operations"][-1]
record("cost/one_stream_over_cross_operations_at_1024", dearer, excludes=(1.0,))

# %% [markdown]
# One stream lets patches read patches: $P^2$ pairs, whose maps autograd keeps. Co-attention pays the same for its patches' self-attention. Cross-attention grows in step with $P$, since patches are only read. With latents the *words'* part no longer depends on $P$ at all; in a model of many blocks the
# patches are read once instead of in every block, and that is what the latents are for. Here, with two blocks, they save little.

# %% [markdown]
# ## 14 Bug hunt: the mask the wrong way round
# Somebody moves a model from `scaled_dot_product_attention` to `nn.MultiheadAttention` and passes the same mask on, as `key_padding_mask`. Section 6 told what happens: `True` now means *leave out*. Nothing crashes. Here is that model: our reader, in which words read one another through this:


# %%
class Moved(attention.MultiHeadAttention):
    """The self-attention among words after the move."""

    def forward(self, x, source, mask=None):
        return super().forward(x, source, None if mask is None else ~mask)


hunted = new_reader()
for layer in hunted.blocks:
    layer.among_words.attention = Moved(sizes.width, 1)
hunted_history = learn(hunted, sizes.family_steps, "mask moved")

# %% [markdown]
# Words now read the padding and nothing else. Predict the accuracy beside the sound model of the same steps: at chance, somewhat lower, the same?

# %%
hunted_hits = right_of(hunted, test)
for name, right in {"sound": family_hits["cross"], "mask moved": hunted_hits}.items():
    low, high = interval(right, related | other)
    print(f"{name}: all {right.mean():.3f} ({low:.3f} to {high:.3f})\n{'':17}{by_kind(right)}")

# %% [markdown]
# No crash, a loss that falls, accuracies far from nothing, because each word still reads the picture and the mean of all words still reaches the answer. The model with the bug may even lie ahead: at this stage, luck moves accuracy more than the mask does. A *property* tells them apart: padding must not matter. We ask every short
# question twice, once as it is and once filled up with more padding.


# %%
@torch.no_grad()
def changed_by_padding(reader, asked, rows):
    """Share of questions whose answer changes when padding is added."""
    part = asked.batch(rows)
    extra = train.tokens.shape[1] - part["tokens"].shape[1]  # columns
    fuller = part | {name: F.pad(part[name], (0, extra)) for name in ("tokens", "token_mask")}
    return (reader(part).argmax(dim=1) != reader(fuller).argmax(dim=1)).float().mean().item()


short = np.flatnonzero(test.kinds == "exists")[:200]
for name, reader in {"sound": contenders["cross"], "mask moved": hunted}.items():
    print(f"{name:11} answers changed by more padding: {changed_by_padding(reader, test, short):.1%}")

# %% [markdown]
# ### Exercise 3.10: write the test that finds it
# Difficulty 3 of 3, about 15 minutes.
#
# Write `reads_only_what_it_may(attend)`: it gets a function `attend(words, source, mask)` of words (B,L,D), source (B,P,D) and mask (B,P), `True` where a place may be read, which returns (B,L,D). Return `True` if masked places change nothing *and* every other place is read, else `False`. The check hands you sound
# functions in several spellings, and broken ones: the mask inverted, ignored, taken from the first question for all, applied after the softmax, shifted by one, and others.
#
# <details><summary>Hint 1</summary>Change the source at masked places: what must happen to the output? Change it at one place that may be read: what now? A function that returns its words passes one of these tests.</details>
# <details><summary>Hint 2</summary>Two questions with different masks, random rows. Loop over the places: add noise to one, compare the output of that question. It may change if and only if the mask is True there.</details>


# %% tags=["exercise"]
def reads_only_what_it_may(attend):
    """Whether attend(words (B,L,D), source (B,P,D), mask (B,P)) -> (B,L,D) depends on unmasked places, and on no other."""
    # BEGIN SOLUTION
    draw = torch.Generator().manual_seed(1)
    words, source = torch.randn(3, 2, 8, generator=draw), torch.randn(3, 5, 8, generator=draw)  # (B,L,D), (B,P,D)
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 0, 1, 1, 0], [0, 1, 1, 1, 1]]).bool()  # (B,P)
    plain = attend(words, source, mask)
    for b in range(3):
        for place in range(5):
            touched = source.clone()
            touched[b, place] += 3 * torch.randn(8, generator=draw)
            changed = not torch.allclose(attend(words, touched, mask)[b], plain[b], atol=1e-5)
            if changed != bool(mask[b, place]):
                return False
    return True
    # END SOLUTION


# %% tags=["check"]
cross_modal_attention.check_reads_only_what_it_may(reads_only_what_it_may)

# %% [markdown]
# ## What we saw

# %%
from IPython.display import Markdown

relation_row = {name: right[related].mean() for name, right in hits.items()}
Markdown(f"""
- Attention is a softmax of products, and ours is torch's to 1e-5 in value and gradient; in bfloat16 an empty row reads zero.
- Relation questions, unseen scenes: words only {relation_row["words only"]:.2f}, pooled picture {relation_row["pooled picture"]:.2f}, cross-attention {relation_row["cross-attention"]:.2f}. On the other kinds pooled and cross-attention are {hits["pooled picture"][other].mean():.2f} and {hits["cross-attention"][other].mean():.2f}.
- A word's map points at its own object {pointed["its own object"].mean():.1f} times as often as a flat one in block {look_block + 1}, and {pointed["the answer's object"].mean():.1f} times at the answer in block {answer_block + 1}; random maps get {pointed["random map"].mean():.1f}.
- With the maps of {hangs_on} shuffled, relation questions lose {lost[hangs_on][related].mean():.2f} of their accuracy. With those of {idle} shuffled, {kept[asks["exists"]].mean():.1%} of the verdicts on *exists* stay: for these, a map of {idle} explains nothing.
- At 1,024 patches one stream costs {dearer:.1f} times the operations of cross-attention. Gates opened from 0 to {trails[-1].max():.2f}.
""")

# %% [markdown]
# ## Questions
# 1. Why is a score divided by the root of the width and not by the width?
# 2. Why must a row with nothing to read be zero, and not uniform?
# 3. Our tower saw names only. Why would masks in its training have made section 10 worth less?
# 4. Why did we choose the block on validation scenes and score on test scenes?
# 5. Random maps score the area. Why may the map of another word, or of a randomised model, lie off it?
# 6. A kind of question keeps its accuracy when block 2 is shuffled. Does that prove that block 2 is useless for it?
# 7. The pooled model is cross-attention whose maps are all flat. What follows from its score on *exists* for maps as explanations?
# 8. A resampler is filled before the question is known. For which questions must that hurt?
# 9. Why does a gate start at 0, when the weights behind it could?

# %% [markdown] tags=["solution"]
# **Answers in short.** 1: the standard deviation grows with the root. 2: uniform means reading padding, and how much of it depends on the batch. 3: it would have been told where to look; now it was not. 4: the best of several blocks on the test scenes flatters itself. 5: their maps are
# not flat but habits, such as looking at centres of quarters or at any object. 6: no, only that *where* it looks does not matter; what it reads on average may. 7: that a right answer needs no map at all, so a pretty one need not be its cause. 8: those about small things and exact places that nobody could foresee. 9: either may be zero, both may not, or neither would get a gradient; and a gate is one number that can be watched.

# %% [markdown]
# ## References
# - Bahdanau et al. 2015, *Neural machine translation by jointly learning to align and translate*.
# - Vaswani et al. 2017, *Attention is all you need* (scaling, heads).
# - Lu et al. 2019, *ViLBERT*; Li et al. 2019, *VisualBERT*; Chen et al. 2020, *UNITER* (two streams, one stream).
# - Jaegle et al. 2021, *Perceiver*; Alayrac et al. 2022, *Flamingo* (latents, gates).
# - Zhang et al. 2018, *Top-down neural attention by excitation backprop* (pointing game).
# - Adebayo et al. 2018, *Sanity checks for saliency maps* (randomised weights).
# - Jain and Wallace 2019, *Attention is not explanation*; Wiegreffe and Pinter 2019, *Attention is not not explanation*.
