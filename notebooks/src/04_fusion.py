# %% [markdown]
# # 04 Fusion: when are two senses better than one?
#
# > **You will be able to** join two modalities in eight ways and say what each can and cannot express, compute the best accuracy
# > that any model could reach, find out when a second modality hurts, keep a model standing when one is missing, and see
# > one modality starve another.
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
    examples=(4_000, 6_000, 20_000),
    test_examples=(2_000, 5_000, 20_000),
    steps=(250, 400, 800),
    short_steps=(100, 200, 200),
    seeds=(3, 5, 5),
    few=((100, 400, 1_600), (100, 400, 1_600, 6_400), (100, 400, 1_600, 6_400)),
    splits=(3, 5, 5),
    stamp_steps=(120, 150, 150),
    starved_steps=(200, 250, 250),
)
sizes

# %% [markdown]
# ## 1 Two embeddings become one
# Two senses look at one thing. Each has an encoder that turned what it saw into an **embedding**, a row of $H$ numbers: `v` from
# the picture, `t` from the text. A classifier wants one row. Here are two examples with $H = 3$. How would *you* join them?

# %% tags=["nbval-check-output"]
import torch
from torch.nn import functional as F

from course_utils.checks import fusion_methods

v = torch.tensor([[1.0, 0.0, 2.0], [0.0, 1.0, 1.0]])  # (B,H)
t = torch.tensor([[3.0, 1.0, 0.0], [0.0, 2.0, 1.0]])  # (B,H)
side_by_side = torch.cat([v, t], dim=1)  # (B,H), (B,H) -> (B,2H)
side_by_side

# %% [markdown]
# **Early fusion** lays the rows side by side and lets one network see everything. It forgets nothing, and the network has to find out by
# itself which numbers belong together.
#
# **Late fusion** goes the other way: each sense has a classifier of its own, and only their opinions are averaged. With $C = 2$ classes:

# %% tags=["nbval-check-output"]
opinion_v = torch.tensor([[2.0, 0.0], [0.0, 1.0]])  # (B,C) logits from the picture alone
opinion_t = torch.tensor([[-3.0, 0.0], [0.0, 3.0]])  # (B,C) logits from the text alone
late_logits = (opinion_v + opinion_t) / 2  # (B,C)
late_logits, late_logits.softmax(dim=1).round(decimals=2)

# %% [markdown]
# In row 1 the senses disagree, and the louder one wins. In row 2 they agree, and the mean is less sure than the surer of the two.
#
# **Weighted fusion** stands between: the embeddings are added, $\alpha V + \beta T$ with $\beta = 1 - \alpha$, and a classifier reads the sum. **Hybrid**
# fusion averages the logits of an early and a late model that are trained together.
#
# ### Exercise 4.1: alpha of one, the rest of the other
# Difficulty 1 of 3, about 5 minutes.
#
# Write `weighted(v, t, alpha)`: two embeddings (B,H) and a number between 0 and 1 in, $\alpha V + (1 - \alpha) T$ out, (B,H).
#
# <details><summary>Hint 1</summary>What must come out for alpha = 1?</details>
# <details><summary>Hint 2</summary>Nothing is normalised and nothing is decided here: two products and a sum.</details>


# %% tags=["exercise"]
def weighted(v, t, alpha):
    """alpha V + (1 - alpha) T for embeddings v, t (B,H) -> (B,H)."""
    # BEGIN SOLUTION
    return alpha * v + (1 - alpha) * t
    # END SOLUTION


# %% tags=["check"]
fusion_methods.check_weighted(weighted)

# %% [markdown]
# One $\alpha$ for everybody is rigid: by night one trusts the ear, by day the eye. **Gated fusion** computes the weight from the example
# itself, and for every unit: $h = z \odot \tanh(W_v v) + (1 - z) \odot \tanh(W_t t)$ with $z = \sigma(W_z [v; t])$.

# %%
generator = torch.Generator().manual_seed(SEED)
w_v, w_t, w_z = (torch.randn(3, width, generator=generator) for width in (3, 3, 6))
z = (side_by_side @ w_z.T).sigmoid()  # (B,2H) @ (2H,H) -> (B,H)
gated = z * (v @ w_v.T).tanh() + (1 - z) * (t @ w_t.T).tanh()  # (B,H)
z.round(decimals=2)

# %% [markdown]
# Row by row, unit by unit, another share for the picture. The package writes $z$ and $1 - z$ as a softmax over the modalities, which works for any number
# of them. For two it is the same: $\sigma(a - b)$ is the first entry of $\text{softmax}(a, b)$. Bridge:

# %%
from course_utils import fusion

packaged = fusion.build("gated", (3, 3), classes=2, hidden=3)
with torch.no_grad():
    packaged.encoders[0][0].weight[:], packaged.encoders[1][0].weight[:] = w_v, w_t
    packaged.scores.weight[:] = torch.cat([w_z, torch.zeros(3, 6)])  # scores of v, then of t
    for layer in (packaged.encoders[0][0], packaged.encoders[1][0], packaged.scores):
        layer.bias.zero_()
    assert torch.allclose(packaged.gates([v, t])[:, 0], z, atol=1e-6)
    assert torch.allclose(packaged([v, t]), packaged.head(gated), atol=1e-6)

# %% [markdown]
# ## 2 How good could anybody be?
# Before we compare eight ways, we need to know what is possible. So we make worlds whose truth is a table. In the first, an arrow shown (first
# sense) and a turn spoken (second sense) give a direction together: the label is their sum modulo 4. In 5 of 100 cases something else happens.

# %%
import numpy as np

from course_utils import plotting, tasks

world = tasks.TASKS["complementary"]
pairs = [f"{a}, {b}" for a in range(4) for b in range(4)]
axes = plotting.heat(16 * world.joint.reshape(16, 4).T, rows=world.labels, columns=pairs)
axes.get_figure().set_size_inches(11, 2.6)
axes.set(xlabel="first cue, second cue", title="P(label | both cues): every pair of cues points to one label")
plotting.show(axes, alt="Table of 4 labels by 16 pairs of cues; in each column one label has probability 0.95.")

# %% [markdown]
# `world.joint` is $P(a, b, c)$ with shape (A,B,C): first cue, second cue, label. Its numbers add up to 1. Who sees both cues
# should name the likeliest label of that pair. Predict: what accuracy does that give? And what for somebody who sees only the first cue?

# %% tags=["nbval-check-output"]
best = 0.0
for a in range(4):
    for b in range(4):
        best += world.joint[a, b].max()  # how often this pair comes with its likeliest label
only_first = sum(world.joint.sum(axis=1)[a].max() for a in range(4))  # b is summed away
print(f"both {best:.2f}, first alone {only_first:.2f}, chance {world.joint.sum(axis=(0, 1)).max():.2f}")

# %% [markdown]
# Together nearly everything, alone nothing at all. This is what **complementary** means. No network, however large, can beat the first number, and a
# single sense that does better than the second would point to a bug.
#
# ### Exercise 4.2: the best possible accuracy
# Difficulty 2 of 3, about 10 minutes.
#
# Write `best_accuracy(joint)` for a table (A,B,C) of NumPy: the accuracy of the best guesser who sees both cues, without loops.
#
# <details><summary>Hint 1</summary>For one pair of cues, what does the best guesser say, and how often is that right?</details>
# <details><summary>Hint 2</summary>The largest over the last axis, then add up. No division: the table already says how often each pair comes.</details>


# %% tags=["exercise"]
def best_accuracy(joint):
    """Accuracy of the best guess from both cues; joint (A,B,C) = P(first, second, label)."""
    # BEGIN SOLUTION
    return joint.max(axis=2).sum()
    # END SOLUTION


# %% tags=["check"]
fusion_methods.check_best_accuracy(best_accuracy)

# %% [markdown]
# `Task.optimum` is the same sum. Four worlds for the experiments, and what is possible in each:

# %% tags=["nbval-check-output"]
four = ("complementary", "redundant", "noisy", "misleading")
for name in four:
    task = tasks.TASKS[name]
    possible = {use: task.optimum(use) for use in ("both", "first", "second", "none")}
    print(f"{name:14}", "   ".join(f"{use} {value:.2f}" for use, value in possible.items()))
assert abs(tasks.TASKS["complementary"].optimum("both") - best) < 1e-12

# %% [markdown]
# *Redundant*: the second repeats the first. *Noisy*: the second is a weak hint among 60 columns of noise. *Misleading*: the second names
# the *next* label, mostly. In the last three worlds a second sense cannot help anybody. A model does not know that.
#
# A model does not see cues but columns of numbers, in which the cue is a one and everything is shaken:

# %%
first, second, label = world.sample(count=3, seed=SEED)
print("shapes", first.shape, second.shape, label.shape)
print("first sense of example 0:", first[0].round(1), "label:", world.labels[label[0]])

# %% [markdown]
# ### What late fusion cannot do
# Take only the cues 0 and 1 in both senses. The label is 0 for (0,0), 1 for (0,1) and (1,0), and 2 for (1,1). Let $s(a, b)$ be the logit of label 1. Late
# fusion can only add: $s(a,b) = f(a) + g(b)$. Try any four numbers you like:

# %% tags=["nbval-check-output"]
f, g = [0.3, 2.0], [-1.0, 0.7]  # what each sense says of label 1, for its cue 0 and its cue 1
s = [[f[a] + g[b] for b in (0, 1)] for a in (0, 1)]
print(f"mixed pairs {s[0][1] + s[1][0]:.1f}, equal pairs {s[0][0] + s[1][1]:.1f}")

# %% [markdown]
# The two sums are always equal. So *label 1 for mixed pairs* cannot be said more loudly than *label 1 for equal pairs*. A sum of opinions has no
# word for *together*. How much of the whole table can additive logits get right, if somebody chooses them cleverly? A small integer program finds the best: $f$ and $g$ free,
# and one switch for each pair of cues that says whether its own label wins there.

# %%
from itertools import product

from scipy.optimize import Bounds, LinearConstraint, milp

conditions = []  # for each pair of cues and each rival: f + g of the right label - f - g of the rival >= 1, or the switch is off
for a, b, rival in product(range(4), repeat=3):
    row, winner = np.zeros((3, 4, 4)), world.joint[a, b].argmax()  # f[a, c], g[b, c], switch[a, b]
    row[0, a, winner] += 1
    row[1, b, winner] += 1
    row[0, a, rival] -= 1
    row[1, b, rival] -= 1
    row[2, a, b] = -81
    conditions += [row.ravel()] if rival != winner else []
free, switch = np.zeros(32), np.ones(16)
found = milp(
    np.append(free, -switch),  # as many switches on as possible
    integrality=np.append(free, switch),
    bounds=Bounds(np.append(free - 20, 0 * switch), np.append(free + 20, switch)),
    constraints=LinearConstraint(np.array(conditions), lb=-80),
)
won_pairs = round(-found.fun)
late_ceiling = (won_pairs * 0.95 + (16 - won_pairs) * 0.05 / 3) / 16
print(f"additive logits win at most {won_pairs} of 16 pairs of cues: accuracy {late_ceiling:.2f}, optimum {best:.2f}")

# %% [markdown]
# That is the ceiling of late fusion in this world, and cross-entropy does not even lead there. Moving the first cue one step on and the second one step back changes no label. The loss is convex in additive logits, so the average over
# all such moves is at least as good. But averaged over all cues, $f$ and $g$ no longer depend on the cues. The best loss is that of *chance*. Section 5 will show it.
#
# ## 3 Products: bilinear, tensor, low rank
# **Bilinear fusion** gives each pair of units its own weight: $\text{logit}_c = \sum_{ij} v_i\, A_{cij}\, t_j$. With loops for one example, as one `einsum`, and as
# torch's own layer:

# %%
pair_weights = torch.randn(2, 3, 3, generator=generator)  # (C,H,H)
by_loop = sum(v[0, i] * pair_weights[:, i, j] * t[0, j] for i in range(3) for j in range(3))  # (C,)
bilinear_logits = torch.einsum("bi,cij,bj->bc", v, pair_weights, t)  # (B,H), (C,H,H), (B,H) -> (B,C)
assert torch.allclose(bilinear_logits[0], by_loop, atol=1e-6)
assert torch.allclose(bilinear_logits, F.bilinear(v, t, pair_weights), atol=1e-6)
bilinear_logits.shape

# %% [markdown]
# Products can say *together*. But set `t` to zero, as when the text is missing: every logit is zero, whatever the picture shows. **Tensor fusion**
# (Zadeh et al. 2017) mends that by one trick: append a 1 to each embedding before the outer product.

# %% tags=["nbval-check-output"]
v1, t1 = F.pad(v, (0, 1), value=1.0), F.pad(t, (0, 1), value=1.0)  # (B,H) -> (B,H+1)
outer = v1[0][:, None] * t1[0][None, :]  # (H+1,1) * (1,H+1) -> (H+1,H+1), example 0
outer

# %% [markdown]
# Upper left: all products. Last column: `v` itself. Last row: `t` itself. Corner: 1, the bias. One linear layer over these $(H+1)^2$ numbers can be early, late
# and bilinear at once.
#
# ### Exercise 4.3: all products
# Difficulty 2 of 3, about 10 minutes.
#
# Write `outer_features(v, t)`: (B,Dv) and (B,Dt) in, (B,(Dv+1)(Dt+1)) out. The 1 stands at the end of each row; `v`'s index runs slowly, `t`'s fast.
#
# <details><summary>Hint 1</summary>The cell above does it for one example. Which new axes make it work for B rows?</details>
# <details><summary>Hint 2</summary>(B,Dv+1,1) times (B,1,Dt+1), then <code>flatten(1)</code>.</details>


# %% tags=["exercise"]
def outer_features(v, t):
    """All products of [v; 1] and [t; 1], row by row: (B,Dv), (B,Dt) -> (B,(Dv+1)*(Dt+1))."""
    # BEGIN SOLUTION
    v1, t1 = F.pad(v, (0, 1), value=1.0), F.pad(t, (0, 1), value=1.0)  # (B,Dv+1), (B,Dt+1)
    return (v1[:, :, None] * t1[:, None, :]).flatten(1)  # (B,Dv+1,1) * (B,1,Dt+1) -> (B,(Dv+1)*(Dt+1))
    # END SOLUTION


# %% tags=["check"]
fusion_methods.check_outer_features(outer_features)

# %% [markdown]
# The price grows with the product of the widths: three senses of 32 units and 16 classes want $33^3 \cdot 16$ weights, more than half a million. **Low-rank fusion** (Liu et al.
# 2018) never makes the tensor. It *assumes* that the weight is a sum of few products, $W_{ijc} = \sum_r F_{ric}\, G_{rjc}$. Then
# the sum over $i$ and the sum over $j$ come apart. Watch: full tensor first, then the short way.

# %%
rank, classes = 2, 5
factors_v, factors_t = torch.randn(2, rank, 4, classes, generator=generator)  # (R,H+1,C) each
whole = torch.einsum("ric,rjc->ijc", factors_v, factors_t)  # (R,I,C), (R,J,C) -> (I,J,C): the tensor
the_long_way = torch.einsum("bi,bj,ijc->bc", v1, t1, whole)  # (B,C)
short_r = [(v1 @ factors_v[r]) * (t1 @ factors_t[r]) for r in range(rank)]  # R of (B,C)
assert torch.allclose(the_long_way, sum(short_r), atol=1e-5)

# %% [markdown]
# ### Exercise 4.4: low rank for all ranks at once
# Difficulty 3 of 3, about 15 minutes.
#
# Write `low_rank_logits(v1, t1, factors_v, factors_t)`: rows with the 1 already appended, (B,I) and (B,J); factors (R,I,C) and (R,J,C); logits (B,C) out.
#
# <details><summary>Hint 1</summary>What is summed first, over i, over j, or over r? Look at the line with <code>short_r</code>.</details>
# <details><summary>Hint 2</summary><code>torch.einsum("bi,ric->rbc", ...)</code> for each sense, multiply, then sum over the first axis.</details>


# %% tags=["exercise"]
def low_rank_logits(v1, t1, factors_v, factors_t):
    """sum over r of (v1 @ factors_v[r]) * (t1 @ factors_t[r]): (B,I), (B,J), (R,I,C), (R,J,C) -> (B,C)."""
    # BEGIN SOLUTION
    left = torch.einsum("bi,ric->rbc", v1, factors_v)  # (B,I), (R,I,C) -> (R,B,C)
    right = torch.einsum("bj,rjc->rbc", t1, factors_t)  # (B,J), (R,J,C) -> (R,B,C)
    return (left * right).sum(dim=0)  # (R,B,C) -> (B,C)
    # END SOLUTION


# %% tags=["check"]
fusion_methods.check_low_rank_logits(low_rank_logits)

# %% [markdown]
# ### Exercise 4.5: what it saves
# Difficulty 1 of 3, about 5 minutes.
#
# Two embeddings of 31 numbers, 16 classes, rank 4. How many weights has the last layer of tensor fusion, and how many have all factors of low-rank fusion, without
# biases? Put both into `counts`, in this order.
#
# <details><summary>Hint 1</summary>How long is a row once the 1 is appended?</details>
# <details><summary>Hint 2</summary>Tensor: products times classes. Low rank: R factors for each sense, each (length, classes).</details>

# %% tags=["exercise"]
counts = ...
# BEGIN SOLUTION
counts = (32 * 32 * 16, 4 * (32 + 32) * 16)
# END SOLUTION

# %% tags=["check"]
fusion_methods.check_counts(counts)

# %% [markdown]
# ## 4 One interface
# In the package all eight are built by name and called alike: `model(inputs, present)`, a list of M tensors (B,D_m) and a mask (B,M), True where an example has that
# modality. An absent input becomes zeros, and where a method averages, the absent one is left out of the average. Whatever an absent input holds, the answer must stay the same.

# %%
widths = (8, 8)
example = [torch.from_numpy(first), torch.from_numpy(second)]  # (B,D_1), (B,D_2)
for method in fusion.METHODS:
    model = fusion.build(method, widths, classes=4)
    size = sum(parameter.numel() for parameter in model.parameters())
    print(f"{method:10} {size:6,} weights, logits {tuple(model(example).shape)}")
    second_gone = torch.tensor([True, False]).expand(len(example[0]), 2)  # (B,M)
    assert torch.equal(model(example, second_gone), model([example[0], example[1] + 100], second_gone))

# %% [markdown]
# Bridges for the two products: their last layers must be what we wrote by hand.

# %%
with torch.no_grad():
    tensor_model = fusion.build("tensor", widths, classes=4)
    h_v, h_t = tensor_model.embed(example).unbind(dim=1)  # (B,H) each
    all_products = (F.pad(h_v, (0, 1), value=1.0)[:, :, None] * F.pad(h_t, (0, 1), value=1.0)[:, None, :]).flatten(1)
    assert torch.allclose(tensor_model(example), tensor_model.head(all_products), atol=1e-5)
    low_rank_model = fusion.build("low_rank", widths, classes=4, rank=2)
    h_v, h_t = (F.pad(h, (0, 1), value=1.0) for h in low_rank_model.embed(example).unbind(dim=1))  # (B,H+1) each
    factors = torch.einsum("ric,rjc->ijc", *low_rank_model.factors)
    by_tensor = torch.einsum("bi,bj,ijc->bc", h_v, h_t, factors) + low_rank_model.bias
    assert torch.allclose(low_rank_model(example), by_tensor, atol=1e-5)

# %% [markdown]
# The training loop is lesson 02's, without frills. `hide` may take modalities away from a batch; section 8 uses it.


# %%
torch.set_num_threads(1)  # models this small train faster on one core than on two


def train(model, inputs, label, steps, seed, hide=None):
    """Train in place. inputs: M tensors (N,D_m); hide(rows, generator) -> present (B,M), or None for all."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.01, fused=True)  # fused: faster
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=steps)
    for _ in range(steps):
        rows = torch.randint(len(label), (128,), generator=generator)
        present = None if hide is None else hide(rows, generator)
        loss = F.cross_entropy(model([x[rows] for x in inputs], present), label[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model


@torch.no_grad()
def right(model, inputs, label, present=None):
    """Whether each example is classified rightly, (N,) of 0 and 1."""
    return (model(inputs, present).argmax(dim=1) == label).double().numpy()


# %% [markdown]
# ## 5 Eight methods, four worlds, known ends
# Each method, and each sense alone, is trained in each world. All get the same examples, learning rate and, in one world, steps; the first world gets more, as *together* takes longer to learn.
# Predict for each world: which methods will be furthest from the optimum, and will any of them beat it?

# %%
from tqdm.auto import tqdm


def draw(name, count, seed):
    first, second, label = tasks.TASKS[name].sample(count, seed)
    return [torch.from_numpy(first), torch.from_numpy(second)], torch.from_numpy(label)


def fitted(method, inputs, label, classes, seed, steps=sizes.steps):
    torch.manual_seed(seed)
    model = fusion.build(method, [x.shape[1] for x in inputs], classes)
    return train(model, inputs, label, steps, seed)


# %%
seeds = [SEED * 100 + i for i in range(sizes.seeds)]
rows = [*fusion.METHODS, "first alone", "second alone"]
alone = {"first alone": slice(0, 1), "second alone": slice(1, 2)}


def accuracy(name, row, seed, examples=sizes.examples, steps=sizes.steps, turned=None):
    """Accuracy of a method on unseen examples of a world; with `turned` also on examples of that world."""
    inputs, label = draw(name, examples, seed)
    part, method = alone.get(row, slice(0, 2)), "early" if row in alone else row
    model = fitted(method, inputs[part], label, len(tasks.TASKS[name].labels), seed, steps)
    tests = [draw(where, sizes.test_examples, seed + 50) for where in (name, turned) if where]
    reached = [right(model, unseen[part], truth).mean() for unseen, truth in tests]
    return reached if turned else reached[0]


# %%
reached = np.zeros((len(rows), len(four), sizes.seeds))  # (10,4,S)
for i, j, k in tqdm(list(np.ndindex(reached.shape)), desc="methods and worlds", leave=False, mininterval=1.0):
    steps = sizes.steps if four[j] == "complementary" else sizes.short_steps
    reached[i, j, k] = accuracy(four[j], rows[i], seeds[k], steps=steps)
optima = np.array([tasks.TASKS[name].optimum() for name in four])  # (4,)
short = reached.mean(axis=2) - optima  # (10,4)
axes = plotting.heat(short, rows=rows, columns=four, signed=True, limits=(-0.7, 0.7))
axes.get_figure().set_size_inches(7.5, 5.2)
axes.set_title("Accuracy minus the best possible accuracy")
plotting.show(axes, alt="Ten rows by four worlds: large shortfalls for late fusion and single senses on the first.")

# %% [markdown]
# Read by columns. *Complementary*: what do single senses and late fusion have in common? *Redundant*: nothing to gain. *Noisy* and *misleading*: look at *first alone*, and remember it. Beside the optimum, with intervals
# over seeds: the weakest of the seven methods that can say *together*, and late fusion, whose ceiling we know.

# %%
from course_utils import metrics

able = [row for row in fusion.METHODS if row != "late"]
worst = min(able, key=lambda row: reached[rows.index(row), 0].mean())
over, late = (reached[rows.index(row), 0] / optima[0] for row in (worst, "late"))  # (S,) each
chance = world.optimum("none")
print("the weakest of the seven in the complementary world:", worst)
record("complementary/fused_over_optimum", over.mean(), metrics.seed_interval(over), chance / optima[0], (0.9,))
late_interval = metrics.seed_interval(late)
record("complementary/late_over_optimum", late.mean(), late_interval, excludes=(late_ceiling / optima[0],))

# %%
single = max(alone, key=lambda row: reached[rows.index(row), 0].mean())
above = reached[rows.index(single), 0] - chance  # (S,)
interval = metrics.seed_interval(above)
record("complementary/best_single_minus_chance", above.mean(), interval, excludes=(optima[0] - chance,))

# %%
ratios = reached[[rows.index(row) for row in able]].mean(axis=2) / optima  # (7,4)
i, j = np.unravel_index(ratios.argmin(), ratios.shape)
print(f"of all seven in all four worlds, furthest from the optimum: {able[i]} in the {four[j]} world")
record("tasks/worst_over_optimum", ratios.min(), excludes=(0.9,))
fusions, lone = reached[: len(fusion.METHODS), 2].mean(axis=1), reached[rows.index("first alone"), 2].mean()
print(f"noisy world: first alone {lone:.3f}; the eight fusions {fusions.min():.3f} to {fusions.max():.3f}")

# %% [markdown]
# No method may beat its optimum by more than the noise of a finite test: the tests of this course prove those optima by counting. That is the use of a world with a
# known end. On real data a model at 0.85 may be poor or perfect, and nobody can tell.
#
# ## 6 The surprise: fusion that loses to its better half
# Look at the last line printed. In the noisy world, what did eight fusions make of a second sense? How can *more* information hurt? The optimum with both is never below the optimum with one,
# but a model has to *learn* what to ignore, and 60 columns of noise offer many accidents to learn from. If that is the reason, examples should cure it. Predict the curves:

# %%
few_rows = ["first alone", "early", "bilinear", "tensor"]
by_count = np.zeros((len(few_rows), len(seeds), len(sizes.few)))  # (4,S,X)
for i, k, x in tqdm(list(np.ndindex(by_count.shape)), desc="few examples", leave=False, mininterval=1.0):
    by_count[i, k, x] = accuracy("noisy", few_rows[i], seeds[k], examples=sizes.few[x], steps=sizes.short_steps)
axes = plotting.lines(sizes.few, dict(zip(few_rows, by_count)), colours=("neutral", "image", "text", "sound"))
axes.axhline(0.85, color="black", linestyle=":")
axes.annotate("best possible", (sizes.few[0], 0.85), xytext=(0, 4), textcoords="offset points")
axes.set(xscale="log", xlabel="training examples", ylabel="accuracy", ylim=(0.4, 0.95), xticks=sizes.few)
axes.set_xticklabels(sizes.few)
axes.minorticks_off()
axes.set_title("Noisy world: what a useless sense costs")
plotting.show(
    axes, alt="Accuracy against examples: the first sense alone is highest, the fusions start below and rise."
)

# %%
loss_few = by_count[1:, :, 1].mean(axis=0) - by_count[0, :, 1]  # (S,) at 400 examples, mean of the three fusions
record("surprise/fused_minus_first_at_400", loss_few.mean(), metrics.seed_interval(loss_few), excludes=(0,))

# %% [markdown]
# A loss that shrinks with examples is one of estimation. The second kind of loss does not. Suppose the second sense was excellent while you trained (right in 0.90,
# against 0.80 of the first) and then *turns*: a sensor is mounted the wrong way round, a source begins to lie. The world `trusted` becomes the world `misleading`. What is
# left of each model?

# %%
turned = {}
for row in tqdm(("first alone", "second alone", *fusion.METHODS), desc="turning", leave=False):
    trained = [accuracy("trusted", row, seed, steps=sizes.short_steps, turned="misleading") for seed in seeds]  # (S,2)
    turned[row] = np.array(trained).T  # (2,S)
means = np.array([values.mean(axis=1) for values in turned.values()])  # (10,2)
axes = plotting.heat(means, rows=list(turned), columns=["as trained", "after the turn"], limits=(0, 1))
axes.get_figure().set_size_inches(5.5, 5)
axes.set_title("Accuracy before and after the second sense turns")
plotting.show(axes, alt="Ten models before and after; only the first sense alone keeps its accuracy after the turn.")

fused_after = np.mean([turned[row][1] for row in fusion.METHODS], axis=0)  # (S,)
difference = fused_after - turned["first alone"][1]  # (S,)
record("surprise/fused_minus_first_after_turn", difference.mean(), metrics.seed_interval(difference), excludes=(0,))
losing = sum(turned[row][1].mean() < turned["first alone"][1].mean() for row in fusion.METHODS)
print(f"{losing} of 8 lose to the first alone; possible, for one who knows: {tasks.TASKS['misleading'].optimum():.2f}")

# %% [markdown]
# The fusions learned, rightly at the time, whom to believe. None of them has a way to notice that the world has changed.
# More examples of the old world would not help. So: **report the best single modality beside every fused result**, and test under the shift that you fear.
#
# ## 7 Real features: what is on the stamp?
# Now a question without a known optimum: in which of 16 folders does a stamp belong, given its picture, its English caption, and the French caption spoken by a person? All three are frozen
# features: EfficientNet-Lite0, MiniLM, and the log-mel summary of lesson 01. Few stamps have no recording; here `present` is simply the truth.

# %%
from course_utils import speech, stamps, towers

table = stamps.load()
features = towers.features()
spoken = table.speech_fr.notna().to_numpy()  # (N,)
sound = np.zeros((len(table), 320), np.float32)
for index in np.flatnonzero(spoken):
    sound[index] = speech.summary(speech.log_mel(*stamps.speech(table.iloc[index])))
senses = {"picture": features.image, "caption": features.text, "speech": sound}
folders = sorted(table.category.unique())
category = torch.tensor([folders.index(name) for name in table.category])  # (N,)
has = torch.from_numpy(np.stack([np.ones_like(spoken), np.ones_like(spoken), spoken], axis=1))  # (N,3)
folder_counts = table.category.value_counts()
print({name: values.shape for name, values in senses.items()}, "of which spoken:", spoken.sum())
print(
    f"largest folder {folder_counts.index[0]} {folder_counts.iloc[0]}, smallest {folder_counts.index[-1]} {folder_counts.iloc[-1]}"
)

# %% [markdown]
# Each column is standardised with the training stamps' mean and deviation, then scaled so that a row of 1,280 numbers is as long as one of 320. Otherwise the widest
# sense would shout loudest. Variants of one stamp share a group and never stand on both sides (lesson 01).


# %%
def prepared(k, names=tuple(senses)):
    """Split k: train and test, each (inputs, category, present)."""
    test = stamps.split(k).test
    train_rows = np.setdiff1d(np.arange(len(table)), test)
    inputs = []
    for name in names:
        seen = train_rows[spoken[train_rows]] if name == "speech" else train_rows
        mean, deviation = senses[name][seen].mean(axis=0), senses[name][seen].std(axis=0) + 1e-6
        scaled = (senses[name] - mean) / deviation * 8 / senses[name].shape[1] ** 0.5  # (N,D), rows of length near 8
        inputs.append(torch.from_numpy(scaled.astype(np.float32)))
    present = has[:, [list(senses).index(name) for name in names]]  # (N,M)
    return [([x[part] for x in inputs], category[part], present[part]) for part in (train_rows, test)]


[(tuple(x.shape for x in inputs), len(truth)) for inputs, truth, _ in prepared(0)]

# %% [markdown]
# Each sense alone first. Chance is the largest folder. Predict: which sense knows most about the folder? How much does French speech tell that the
# model never heard before, with some 600 recordings to learn from?


# %%
def stamp_model(method, data, seed, hide=None):
    inputs, truth, present = data
    torch.manual_seed(seed)
    model = fusion.build(method, [x.shape[1] for x in inputs], len(folders), hidden=16)
    return train(model, inputs, truth, sizes.stamp_steps, seed, hide or (lambda rows, generator: present[rows]))


def scored(model, data, without=()):
    """Share of stamps right when the senses at the places `without` are taken away."""
    inputs, truth, present = data
    present = present.clone()
    present[:, list(without)] = False
    return right(model, inputs, truth, present).mean()


# %%
single_stamps = {}
for name in senses:
    values = []
    for k in range(sizes.splits):
        train_part, test_part = prepared(k, (name,))
        values.append(scored(stamp_model("early", train_part, SEED + k), test_part))
    single_stamps[name] = np.array(values)  # (S,)
most_frequent = folder_counts.iloc[0] / len(table)
for name, values in single_stamps.items():
    low, high = metrics.seed_interval(values)
    print(f"{name:8} alone {values.mean():.3f}, 95 % interval over splits {low:.3f} to {high:.3f}")
print(f"largest folder {most_frequent:.3f}")

# %% [markdown]
# Compare speech with chance, the largest folder. (The test sets of the splits share no stamp, their training sets overlap, so these intervals are a little too narrow.) So here is a sense with little to say about unseen words. What does it do to a
# fusion of all three? Before you run: will all eight beat the caption alone?

# %%
plain = np.zeros((len(fusion.METHODS), sizes.splits, 4))  # (8,S,4): everything, no picture, no caption, no speech
removals = [(), (0,), (1,), (2,)]
plain_models = {}
for i, k in tqdm(list(np.ndindex(plain.shape[:2])), desc="stamps", leave=False, mininterval=1.0):
    train_part, test_part = prepared(k)
    plain_models[i, k] = stamp_model(fusion.METHODS[i], train_part, SEED + k)
    plain[i, k] = [scored(plain_models[i, k], test_part, without) for without in removals]
everything = plain[:, :, 0]  # (8,S)
intervals = np.array([metrics.seed_interval(values) for values in everything])
axes = plotting.bars(fusion.METHODS, everything.mean(axis=1), intervals)
axes.axvline(single_stamps["caption"].mean(), color="black", linestyle=":")
for number in axes.texts:
    number.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1})
axes.set(xlabel="accuracy (dotted: the caption alone)", title="Three senses against the better half", xlim=(0, 1))
plotting.show(axes, alt="Eight bars of accuracy with intervals, and a dotted line where the caption alone stands.")

# %%
beside = everything - single_stamps["caption"]  # (8,S), paired by split
product_rows = [fusion.METHODS.index(method) for method in ("bilinear", "tensor", "low_rank")]
products = beside[product_rows].mean(axis=0)  # (S,)
for method, values in zip(fusion.METHODS, beside):
    low, high = metrics.seed_interval(values)
    print(
        f"{method:10} minus the caption alone {values.mean():+.3f}, 95 % interval over splits {low:+.3f} to {high:+.3f}"
    )
record("stamps/products_minus_caption", products.mean(), metrics.seed_interval(products), excludes=(0,))

# %% [markdown]
# The surprise again, on real features: the record is the mean of the three that multiply, and below zero it means that they lose to *the caption alone*. Pairs of units are many and stamps are few. What can say most needs most examples: the
# best possible accuracy ranks methods for endless data, and a few hundred examples may rank them the other way round.
#
# ### What accuracy hides
# Folders are uneven, and one number lets the large ones speak for all. For one class: **precision** is the share right among those *called* so, **recall** the share found among those that
# *are* so. Accuracy is neither: it pools all classes. $F_1 = 2PR/(P+R)$ is near the smaller of the two.
#
# ### Exercise 4.6: precision, recall, F1 from counts
# Difficulty 2 of 3, about 10 minutes.
#
# Write `precision_recall_f1(truth, predicted, positive)`: two arrays of class ids (N,) and one class id in, three fractions out. A quotient without any case is 0.0.
#
# <details><summary>Hint 1</summary>Three counts are enough: hits, called positive, truly positive.</details>
# <details><summary>Hint 2</summary>Which of the two quotients can be 0 / 0 when nobody is called positive? And F1 when both are 0?</details>


# %% tags=["exercise"]
def precision_recall_f1(truth, predicted, positive):
    """Precision, recall and F1 of the class `positive`; truth, predicted (N,)."""
    # BEGIN SOLUTION
    hits = ((truth == positive) & (predicted == positive)).sum()
    called, real = (predicted == positive).sum(), (truth == positive).sum()
    precision = hits / called if called else 0.0
    recall = hits / real if real else 0.0
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return float(precision), float(recall), float(f1)
    # END SOLUTION


# %% tags=["check"]
fusion_methods.check_precision_recall_f1(precision_recall_f1)

# %% [markdown]
# The package counts once, in a confusion matrix with the truth in rows, and reads everything from it. The same numbers as scikit-learn's:

# %%
from sklearn.metrics import precision_recall_fscore_support

from course_utils import classification

truths, answers = [], []
for k in range(sizes.splits):
    inputs, truth, present = prepared(k)[1]
    with torch.no_grad():
        answers.append(plain_models[fusion.METHODS.index("gated"), k](inputs, present).argmax(dim=1).numpy())
    truths.append(truth.numpy())
confusion = classification.confusion(np.concatenate(truths), np.concatenate(answers), len(folders))  # (C,C)
report = classification.report(confusion)
theirs = precision_recall_fscore_support(
    np.concatenate(truths), np.concatenate(answers), labels=range(len(folders)), zero_division=0
)
assert np.allclose([report.precision, report.recall, report.f1, report.support], theirs)
print(f"accuracy {report.accuracy:.3f}, but precision, recall, F1 over folders alike {report.macro.round(3)}")
report.table(folders).round(2).sort_values("support", ascending=False)

# %% [markdown]
# The last rows tell what accuracy does not: how the small folders fare, at which nobody looks when one number speaks for all. Where precision is high and recall low, the model names a folder only when it
# is sure. Section 10 asks what each kind of error costs.
#
# ## 8 When a sense is missing
# The microphone fails, the caption was never written. `scored(..., without=...)` above already took senses away at test time. Predict: a model trained with all three, and the picture is gone. Will it do as well as the caption alone?

# %%
columns = ["everything", "no picture", "no caption", "no speech"]
for name, column in zip(columns, plain.mean(axis=1).T):  # (8,) each
    print(f"{name:11} mean of eight methods {column.mean():.3f}, {column.min():.3f} to {column.max():.3f}")
print(
    f"the caption alone {single_stamps['caption'].mean():.3f}, the picture alone {single_stamps['picture'].mean():.3f}"
)

# %% [markdown]
# Where a mean is below the single sense that is still there, part of the loss is not missing information but *surprise*: the
# model never saw such an input. In a product, a factor that says nothing also silences its partners.
#
# **Modality dropout** removes that surprise: while training, take senses away at random.
#
# ### Exercise 4.7: which senses does each example keep?
# Difficulty 2 of 3, about 10 minutes.
#
# Write `dropout_mask(count, modalities, rate, generator)`: (count, modalities) bool, True where kept. Each is dropped with probability `rate`, on its own. A row that would lose everything
# keeps one, any with equal chance. All randomness comes from the torch `generator`.
#
# <details><summary>Hint 1</summary>One uniform number for each place, compared with the rate. Which rows are then empty?</details>
# <details><summary>Hint 2</summary>Of the numbers drawn in a row, the largest was the nearest to being kept, and each place has it equally often.</details>


# %% tags=["exercise"]
def dropout_mask(count, modalities, rate, generator):
    """(count, modalities) bool, True where kept; no row is empty."""
    # BEGIN SOLUTION
    draws = torch.rand(count, modalities, generator=generator)
    return (draws >= rate) | (draws == draws.amax(dim=1, keepdim=True))  # the largest draw stays in any case
    # END SOLUTION


# %% tags=["check"]
fusion_methods.check_dropout_mask(dropout_mask)

# %% [markdown]
# The package has the same. With three senses at rate 0.5 half of all places are kept, and one more in every row that would be empty, which is one row in eight. A mask the wrong way round would keep far more,
# and every model would train all the same.

# %%
from course_utils import balancing

kept = balancing.modality_dropout(20_000, 3, 0.5, torch.Generator().manual_seed(SEED))  # (count,3)
print(f"kept {kept.double().mean():.3f}, expected {0.5 + 0.5**3 / 3:.3f}")
assert kept.any(dim=1).all() and abs(kept.double().mean() - (0.5 + 0.5**3 / 3)) < 0.01

# %% [markdown]
# Now the same eight methods with modality dropout at rate 0.5. As before, a stamp that was never recorded has no speech to keep.


# %%
def dropping(present, rate=0.5):
    def hide(rows, generator):
        kept = balancing.modality_dropout(len(rows), present.shape[1], rate, generator) & present[rows]
        return torch.where(kept.any(dim=1, keepdim=True), kept, present[rows])  # never nothing at all

    return hide


dropped = np.zeros_like(plain)  # (8,S,4)
for i, k in tqdm(list(np.ndindex(plain.shape[:2])), desc="with dropout", leave=False, mininterval=1.0):
    train_part, test_part = prepared(k)
    model = stamp_model(fusion.METHODS[i], train_part, SEED + k, dropping(train_part[2]))
    dropped[i, k] = [scored(model, test_part, without) for without in removals]

# %% [markdown]
# How much came back? Let $a$ be the accuracy of the plain model with everything, $m$ its mean accuracy without picture and without caption, and $m'$ the same for the model with dropout. Then $a - m$ is what a missing modality costs
# and $\frac{m' - m}{a - m}$ the **share recovered**. (Speech costs next to nothing when it goes, so there is nothing to recover.) Predict: for which methods will the share be largest?

# %%
kept_plain, kept_dropped = plain[:, :, 1:3].mean(axis=2), dropped[:, :, 1:3].mean(axis=2)  # (8,S)
cost, won = plain[:, :, 0] - kept_plain, kept_dropped - kept_plain  # (8,S)
for method, c, w, full in zip(fusion.METHODS, cost, won, dropped[:, :, 0] - plain[:, :, 0]):
    share = w.mean() / c.mean()
    print(f"{method:10} cost {c.mean():.3f}, share recovered {share:5.2f}, with everything {full.mean():+.3f}")
recovered = won.mean(axis=0) / cost.mean(axis=0)  # (S,) pooled over the eight methods, one value a split
record("modality_dropout/recovered", recovered.mean(), metrics.seed_interval(recovered), excludes=(0.5,))

# %%
figure, panels = plotting.plt.subplots(1, 2, figsize=(10, 4), layout="constrained", sharey=True)
for panel, values, title in zip(panels, (plain, dropped), ("without modality dropout", "with it")):
    plotting.heat(values.mean(axis=1)[:, :3], rows=fusion.METHODS, columns=columns[:3], limits=(0.3, 0.9), ax=panel)
    panel.set_title(title)
plotting.show(
    figure, alt="Two tables of accuracy by method and missing sense; the right one, with dropout, is brighter."
)

# %% [markdown]
# The record pools all eight methods, and the lines above show how they differ. A share above 1, or a gain *with everything* there, means that dropout is also a brake on overfitting, as ordinary dropout is. Is a share below 1 a
# failure? The rest of the cost may be information that is simply gone. To see, train *specialists* that only ever had the remaining senses:

# %%
remaining = {"no picture": ("caption", "speech"), "no caption": ("picture", "speech")}
for column, (name, names) in enumerate(remaining.items(), 1):
    special = []
    for k in range(sizes.splits):
        train_part, test_part = prepared(k, names)
        special.append(scored(stamp_model("gated", train_part, SEED + k), test_part))
    gate = fusion.METHODS.index("gated")
    before, after = plain[gate, :, column].mean(), dropped[gate, :, column].mean()
    print(f"{name}: gated {before:.3f}, with dropout {after:.3f}, specialist {np.mean(special):.3f}")

# %% [markdown]
# Compare the last two numbers of each line. Where one model with dropout stands beside the specialists, it replaces them all, and what it did not win back went with the sense.
#
# ## 9 One sense starves another
# Two senses that both know the label, one easy to read, one hard. The easy one spells the label (right in about 0.96). The hard one holds both cues of the complementary world side by side: 0.95 is
# possible, but products must be learned. Trained alone it comes near that. What becomes of it when trained *together* with the easy one?

# %%
HARD = 1  # place of the hard sense


def easy_and_hard(count, seed):
    a, b, label = world.sample(count, seed)
    rng = np.random.default_rng(seed + 7)
    said = np.where(rng.random(count) < 0.95, label, rng.integers(0, 4, count))  # the easy sense's word
    easy = np.eye(8)[said] + 0.4 * (2 * rng.random((count, 8)) - 1)  # (N,8)
    inputs = [torch.from_numpy(easy).float(), torch.from_numpy(np.concatenate([a, b], axis=1))]  # (N,8), (N,16)
    return inputs, torch.from_numpy(label)


def only(m, count):
    return (torch.arange(2) == m).expand(count, 2)  # (B,2) True at sense m alone


# %% [markdown]
# We watch the norm of the loss's gradient at each encoder. `balancing.gradient_norms` is four lines of autograd:

# %%
torch.manual_seed(SEED)
model = fusion.build("weighted", (8, 16), classes=4)
inputs, label = easy_and_hard(128, SEED)
loss = F.cross_entropy(model(inputs), label)
by_hand = []
for encoder in model.encoders:
    gradients = torch.autograd.grad(loss, list(encoder.parameters()), retain_graph=True)
    by_hand.append(torch.cat([gradient.flatten() for gradient in gradients]).norm())
norms = balancing.gradient_norms([loss], [encoder.parameters() for encoder in model.encoders])  # (T,G) = (1,2)
assert torch.allclose(norms[0], torch.stack(by_hand), atol=1e-6)

# %% [markdown]
# The training run, in which losses and balance can be exchanged. Plain gradient descent with momentum and clipping, as Adam would rescale each encoder's
# gradient and hide half of the story. `losses(model, inputs, label)` returns a vector of T losses; with `balance` GradNorm sets their weights.


# %%
EVERY = 10  # steps between two looks at the gradients


def teach(losses, seed, balance=False, steps=sizes.starved_steps):
    torch.manual_seed(seed)
    model = fusion.build("weighted", (8, 16), classes=4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    inputs, label = easy_and_hard(4_000, seed)
    generator, start, history = torch.Generator().manual_seed(seed), None, []
    for step in range(steps):
        rows = torch.randint(len(label), (128,), generator=generator)
        values = losses(model, [x[rows] for x in inputs], label[rows])  # (T,)
        if start is None:
            start, weights = values.detach(), torch.ones(len(values))
        if balance:
            shared = balancing.gradient_norms(list(weights * values), [model.head.parameters()])[:, 0]  # (T,)
            weights = balancing.gradnorm_update(weights, shared, values.detach() / start, rate=0.005)
        loss = (weights * values).sum()
        if step % EVERY == 0:
            norms = balancing.gradient_norms([loss], [encoder.parameters() for encoder in model.encoders])[0]
            history.append([*norms.tolist(), *weights.tolist()])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model, np.array(history)  # (K,2+T): norm at each encoder, then the weights


# %% [markdown]
# What does the hard sense know in the end? Asking the joint model with the easy sense taken away would be unfair, since it was never trained for that. So we freeze the hard sense's encoder and fit
# a fresh linear probe on what it says.

# %%
from sklearn.linear_model import LogisticRegression


@torch.no_grad()
def probe(model, seed):
    """Accuracy of a linear readout of the hard sense's frozen embedding, on unseen examples."""
    inputs, label = easy_and_hard(4_000, seed)
    unseen, truth = easy_and_hard(sizes.test_examples, seed + 50)
    embedded = [model.encoders[HARD](x[HARD]).numpy() for x in (inputs, unseen)]  # (N,H) each
    return LogisticRegression(max_iter=2_000).fit(embedded[0], label.numpy()).score(embedded[1], truth.numpy())


def together(model, inputs, label):
    return F.cross_entropy(model(inputs), label)[None]  # (1,)


def hard_alone(model, inputs, label):
    return F.cross_entropy(model(inputs, only(HARD, len(label))), label)[None]  # (1,)


# %% [markdown]
# Predict: with the easy sense beside it, does the hard sense learn *faster*, as fast, or not at all?

# %%
untrained = np.array([probe(teach(together, seed, steps=1)[0], seed) for seed in seeds])  # (S,)
starved_runs = [teach(together, seed) for seed in seeds]
alone_runs = [teach(hard_alone, seed) for seed in seeds]
starved, fed = (np.array([probe(run[0], s) for run, s in zip(runs, seeds)]) for runs in (starved_runs, alone_runs))
for name, values in {"untrained": untrained, "trained together": starved, "trained alone": fed}.items():
    low, high = metrics.seed_interval(values)
    print(f"{name:17} {values.mean():.3f}, 95 % interval over seeds {low:.3f} to {high:.3f}")


# %%
def histories(runs, column):
    return np.array([history[:, column] for _, history in runs])  # (S,K)


looked = np.arange(0, sizes.starved_steps, EVERY)  # (K,)
curves = {
    "easy sense, together": histories(starved_runs, 0),
    "hard sense, together": histories(starved_runs, 1),
    "hard sense, alone": histories(alone_runs, 1),
}
axes = plotting.lines(looked, curves)
axes.set(yscale="log", xlabel="step", ylabel="gradient norm at the encoder", title="Who is being taught?")
axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
plotting.show(
    axes, alt="Gradient norms over steps: the hard sense trained together gets a small fraction of the others."
)

half = len(looked) // 2
norms_together, norms_alone = (histories(runs, 1)[:, half:].mean(axis=1) for runs in (starved_runs, alone_runs))  # (S,)
share_of_norm = norms_together / norms_alone
record("starvation/gradient_share", share_of_norm.mean(), metrics.seed_interval(share_of_norm), excludes=(1.0,))
record("starvation/probe_lost", (fed - starved).mean(), metrics.seed_interval(fed - starved), excludes=(0,))

# %% [markdown]
# The easy sense answers first, the loss falls, and with the loss goes the gradient (softmax minus target, lesson 02). Little is left to teach the hard sense: compare its probe with the untrained one, and with what it learned alone. You would not see it in the accuracy of the fused model. You see it here, or on the day when the easy sense fails.
#
# ### A loss for each sense, and who sets the weights?
# The obvious cure: a loss for each sense alone, $L = w_1 L_1 + w_2 L_2$, through the same shared head. Now the weights matter. Suppose the easy sense's loss is summed over its 100 frames and not averaged, an easy slip. It
# shouts 100 times as loudly, and clipping hands out what is left:


# %%
def own_losses(model, inputs, label, units=(1.0, 1.0)):
    values = [F.cross_entropy(model(inputs, only(m, len(label))), label) for m in (0, 1)]
    return torch.stack(values) * torch.tensor(units)  # (2,)


def wrong_units(model, inputs, label):
    return own_losses(model, inputs, label, units=(100.0, 1.0))


@torch.no_grad()
def hard_accuracy(model, seed):
    unseen, truth = easy_and_hard(sizes.test_examples, seed + 50)
    return right(model, unseen, truth, only(HARD, len(truth))).mean()


equal_runs, shouted_runs = ([teach(losses, seed) for seed in seeds] for losses in (own_losses, wrong_units))
for name, runs in {"equal weights": equal_runs, "wrong units": shouted_runs}.items():
    values = [hard_accuracy(run[0], seed) for run, seed in zip(runs, seeds)]
    print(f"{name:14} hard sense alone: {np.mean(values):.3f}, over seeds {min(values):.3f} to {max(values):.3f}")

# %% [markdown]
# Compare with 0.95, the best possible. Equal weights in equal units serve both senses, so first mend your units. Where you cannot know them, **GradNorm** (Chen et al. 2018) sets the weights from two measurements: the norm
# $G_i = w_i \lVert \nabla L_i \rVert$ of each weighted loss at the shared layer, and the ratio $L_i / L_i(0)$, how much is left to learn. Who lags behind shall get a larger norm:
#
# $$\text{target}_i = \overline{G} \cdot \Big(\frac{L_i / L_i(0)}{\text{mean}_j\, L_j / L_j(0)}\Big)^{\text{exponent}}, \qquad L_{\text{grad}} = \sum_i \lvert G_i - \text{target}_i \rvert$$
#
# ### Exercise 4.8: the norms that GradNorm wants
# Difficulty 2 of 3, about 10 minutes.
#
# Write `gradnorm_targets(norms, ratios, exponent)`: $G_i$ (T,), $L_i/L_i(0)$ (T,) and a number in, targets (T,) out.
#
# <details><summary>Hint 1</summary>If all losses have fallen alike, all targets are equal. To what?</details>
# <details><summary>Hint 2</summary>First make the ratios relative to their mean, then the power, then times the mean norm.</details>


# %% tags=["exercise"]
def gradnorm_targets(norms, ratios, exponent):
    """Target norm of each task: mean norm times (relative ratio) ** exponent; norms, ratios (T,) -> (T,)."""
    # BEGIN SOLUTION
    return norms.mean() * (ratios / ratios.mean()) ** exponent
    # END SOLUTION


# %% tags=["check"]
fusion_methods.check_gradnorm_targets(gradnorm_targets)

# %% [markdown]
# One step by hand. Two losses with weights 1, norms 4 and 1, of which 0.5 and 1.5 are left, exponent 1. The mean norm is 2.5; the targets are $2.5 \cdot 0.5 = 1.25$ and $2.5 \cdot 1.5 = 3.75$. The first is too loud, the second too soft. As $G_i = w_i \cdot \text{const}$, the slope
# of $\lvert G_i - \text{target}_i \rvert$ is $\pm G_i / w_i$: $+4$ and $-1$. A step of 0.1 gives weights 0.6 and 1.1; scaled to add up to 2: 0.706 and 1.294. Autograd, and the package:

# %% tags=["nbval-check-output"]
weights = torch.ones(2, requires_grad=True)
raw_norms, left = torch.tensor([4.0, 1.0]), torch.tensor([0.5, 1.5])
targets = balancing.gradnorm_targets((weights * raw_norms).detach(), left, 1.0)  # held constant
(weights * raw_norms - targets).abs().sum().backward()
stepped = (weights - 0.1 * weights.grad).detach()
stepped = stepped * 2 / stepped.sum()
packaged_step = balancing.gradnorm_update(torch.ones(2), raw_norms, left, exponent=1.0, rate=0.1)
assert torch.allclose(stepped, packaged_step) and torch.allclose(stepped, torch.tensor([1.2, 2.2]) / 1.7)
targets, packaged_step

# %% [markdown]
# Now GradNorm meets the wrong units, which nobody told it. Predict where the two weights will go.

# %%
mended_runs = [teach(wrong_units, seed, balance=True) for seed in seeds]
shouted, mended = (np.array([hard_accuracy(r[0], s) for r, s in zip(x, seeds)]) for x in (shouted_runs, mended_runs))
figure, (left_panel, right_panel) = plotting.plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
named = {"wrong units": shouted_runs, "with GradNorm": mended_runs}
norm_curves = {name: histories(runs, 1) / histories(runs, 0) for name, runs in named.items()}  # (S,K) each
plotting.lines(looked, norm_curves, colours=("neutral", "accent"), ax=left_panel)
left_panel.axhline(1, color="black", linestyle=":")
left_panel.set(
    yscale="log", xlabel="step", ylabel="norm, hard over easy", title="Gradient at the hard encoder over the easy one"
)
weight_curves = {"easy sense": histories(mended_runs, 2), "hard sense": histories(mended_runs, 3)}
plotting.lines(looked, weight_curves, ax=right_panel).legend(
    frameon=False, loc="center right", bbox_to_anchor=(1, 0.75)
)
right_panel.set(yscale="log", xlabel="step", ylabel="weight of the loss", title="Weights that GradNorm chose")
plotting.show(
    figure,
    alt="Left: the hard sense's gradient relative to the easy one's, with and without GradNorm. Right: its weights.",
)

# %%
print(f"hard sense alone: wrong units {shouted.mean():.3f}, with GradNorm {mended.mean():.3f}, best possible 0.95")
record("starvation/gradnorm_gain", (mended - shouted).mean(), metrics.seed_interval(mended - shouted), excludes=(0,))

# %% [markdown]
# GradNorm turned the shouting loss down without being told its units. Its measurements come from 128 examples each, so the weights jump (shaded: smallest to largest seed; the package stops them at 0.001). What it cannot do: give a loss to a sense that has none. In the joint run above there was one loss, hence nothing to
# weigh. The cure there was the loss of its own (or modality dropout, which is the same idea with dice).
#
# ## 10 Two cases with a known end
# **Sentiment: tone against words.** *"Well done"*, said with a mocking tone. Words are negative or positive; the tone is cold, warm or mocking. Mockery turns the words round. What the best guesser reaches, and what models reach:

# %%
sentiment = tasks.TASKS["sentiment"]
given_cues = sentiment.joint[:, :, 1] / sentiment.joint.sum(axis=2)  # (A,B) P(positive | words, tone)
axes = plotting.heat(given_cues, rows=sentiment.first_cues, columns=sentiment.second_cues, limits=(0, 1))
axes.get_figure().set_size_inches(7.5, 2.4)
axes.set_title("P(positive | words, tone): mockery turns the words round")
plotting.show(axes, alt="Two by three table: with a mocking tone negative words mean positive and the other way round.")

# %%
spoken_rows = ["first alone", "second alone", "late", "gated", "tensor"]
sentiment_by = {row: np.array([accuracy("sentiment", row, seed) for seed in seeds]) for row in spoken_rows}
for row, values in sentiment_by.items():
    low, high = metrics.seed_interval(values)
    limit = sentiment.optimum(row.split()[0] if row in alone else "both")
    print(f"{row:13} {values.mean():.3f} ({low:.3f} to {high:.3f}), best possible {limit:.3f}")
fused_gain = sentiment_by["gated"] - np.maximum(sentiment_by["first alone"], sentiment_by["second alone"])  # (S,)
record("sentiment/gated_minus_best_single", fused_gain.mean(), metrics.seed_interval(fused_gain), excludes=(0,))

# %% [markdown]
# Words alone are hardly better than the more frequent answer. Late fusion adds logits, and the sum that is best for cross-entropy answers
# as tone alone would (the package's tests compute this from the table): compare its line with those above and below. A sum chosen for accuracy could win every pair of cues here, as the integer program of section 2 can show you; cross-entropy does not look for it.
#
# **Triage: scan and record.** Invented numbers, no medicine. A bleed on the scan is urgent, more so with blood thinners in the record; urgent cases are few. Trained for accuracy, what happens to them?

# %%
triage = tasks.TASKS["triage"]
URGENT = triage.labels.index("urgent")
inputs, label = draw("triage", sizes.examples, SEED)
model = fitted("gated", inputs, label, len(triage.labels), SEED)
unseen, truth = draw("triage", sizes.test_examples, SEED + 50)
with torch.no_grad():
    p_urgent = model(unseen).softmax(dim=1)[:, URGENT].numpy()  # (N,)
    likeliest = model(unseen).argmax(dim=1).numpy()  # (N,)
urgent = truth.numpy() == URGENT  # (N,)
by_accuracy = classification.report(classification.confusion(truth.numpy(), likeliest, 3))
print(f"accuracy {by_accuracy.accuracy:.3f}, best possible {triage.optimum():.3f}")
by_accuracy.table(triage.labels).round(3)

# %% [markdown]
# Accuracy and its optimum look fine side by side. But read the row *urgent*: one minus recall is the share of urgent cases sent home or to the ward. Precision says how many alarms were real. A missed case and a false alarm do not cost the same. Say
# a missed case costs 20 and a false alarm 1.
#
# ### Exercise 4.9: the cheapest threshold
# Difficulty 2 of 3, about 10 minutes.
#
# Write `cheapest_threshold(p, truth, cost_missed, cost_alarm)`: probabilities (N,), truth (N,) bool. Treat where `p >= threshold`. Try every value in `p`, and 1.1 for *nobody*; return the threshold with the smallest total cost.
#
# <details><summary>Hint 1</summary>For one threshold: who is ill and not treated? Who is treated and not ill?</details>
# <details><summary>Hint 2</summary><code>min(candidates, key=cost)</code> with a function <code>cost(threshold)</code>.</details>


# %% tags=["exercise"]
def cheapest_threshold(p, truth, cost_missed, cost_alarm):
    """The threshold of smallest cost; p (N,), truth (N,) bool; treated where p >= threshold."""
    # BEGIN SOLUTION
    candidates = np.append(np.unique(p), 1.1)

    def cost(threshold):
        treated = p >= threshold  # (N,)
        return cost_missed * (truth & ~treated).sum() + cost_alarm * (~truth & treated).sum()

    return min(candidates, key=cost)
    # END SOLUTION


# %% tags=["check"]
fusion_methods.check_cheapest_threshold(cheapest_threshold)

# %% [markdown]
# If probabilities are calibrated, the answer needs no search: treat where $20\,p > 1\,(1 - p)$, so from $p = 1/21$ on. And the table knows the smallest possible cost. Beside each other, a patient:

# %%
p_cell, p_cue = triage.joint[:, :, URGENT], triage.joint.sum(axis=2)  # (A,B) P(cues, urgent), P(cues)
possible_cost = np.minimum(20 * p_cell, p_cue - p_cell).sum()  # each pair of cues: miss, or alarm
rules = {"likeliest label": likeliest == URGENT, "treat from 1/21": p_urgent >= 1 / 21}
triage_recall, triage_cost = {}, {}
for name, treated in rules.items():
    hits = (treated & urgent).sum()
    triage_recall[name] = hits / urgent.sum()
    triage_cost[name] = (20 * (urgent & ~treated).sum() + (~urgent & treated).sum()) / len(urgent)
    print(
        f"{name:16} recall {triage_recall[name]:.3f}, precision {hits / treated.sum():.3f}, cost {triage_cost[name]:.3f}"
    )
print(f"smallest possible cost a patient {possible_cost:.3f}")
gained = (rules["treat from 1/21"] & urgent)[urgent] * 1.0 - (rules["likeliest label"] & urgent)[urgent]  # (U,)
record("triage/recall_gained_by_cost", gained.mean(), metrics.bootstrap_interval(gained), excludes=(0,))

# %% [markdown]
# The same model, the same probabilities, another question: recall is bought with precision, and at these prices the bargain is good. Accuracy would have called the second rule worse. No threshold is right before somebody has said what an error costs.
#
# ## 11 Bug hunt: the second modality that says nothing
# An easy mistake: each modality has a shuffling loader of its own, "so that epochs differ". Two senses of real stamps, picture and caption, go through it:


# %%
def careless_pairs(inputs, truth, generator):
    """Shuffle each modality: N rows of picture, caption and category."""
    picture_order = torch.randperm(len(truth), generator=generator)
    caption_order = torch.randperm(len(truth), generator=generator)
    return [inputs[0][picture_order], inputs[1][caption_order]], truth[picture_order]


train_part, test_part = prepared(0, ("picture", "caption"))
generator = torch.Generator().manual_seed(SEED)
broken_train = careless_pairs(*train_part[:2], generator)
broken_test = careless_pairs(*test_part[:2], generator)
torch.manual_seed(SEED)
broken = fusion.build("gated", [x.shape[1] for x in train_part[0]], len(folders), hidden=16)
train(broken, *broken_train, sizes.stamp_steps, SEED)
sound_model = stamp_model("gated", train_part, SEED)
f"broken {right(broken, *broken_test).mean():.3f}, chance {most_frequent:.3f}, sound {scored(sound_model, test_part):.3f}"

# %% [markdown]
# Far above chance, and a fused model in every line of its code. Who has no sound run beside it sees a decent result. Which test finds it? Ask what the second sense *adds*: give each example another example's caption.
# If nothing changes, nothing was used.
#
# ### Exercise 4.10: write the test that finds it
# Difficulty 3 of 3, about 15 minutes.
#
# Write `information_beyond(predict, first, second, label, seed)`. `predict(first, second)` gives class ids (N,) for arrays (N,D1), (N,D2). Return the accuracy lost when the *rows* of `second` are permuted by
# `np.random.default_rng(seed)`, as a fraction: before minus after. `first` and `label` stay, and so does the caller's array.
#
# <details><summary>Hint 1</summary>Why not set it to zero? What might a model do with an input that it has never seen?</details>
# <details><summary>Hint 2</summary><code>second[rng.permutation(len(second))]</code> makes a new array. Two accuracies, one difference.</details>


# %% tags=["exercise"]
def information_beyond(predict, first, second, label, seed):
    """Accuracy lost when second (N,D2) is permuted across examples; first (N,D1), label (N,)."""
    # BEGIN SOLUTION
    order = np.random.default_rng(seed).permutation(len(second))  # (N,)
    before, after = predict(first, second), predict(first, second[order])
    return float((before == label).mean() - (after == label).mean())
    # END SOLUTION


# %% tags=["check"]
fusion_methods.check_information_beyond(information_beyond)

# %% [markdown]
# The lesson's own version, averaged over permutations, on both models. Then on the speech of section 7, averaged over splits: what does permuting it cost, and what does taking it away?


# %%
def lost_by_permuting(model, data, place, repeats=20):
    """Mean loss of accuracy when the rows of sense `place` are permuted among the examples that have it."""
    inputs, truth, present = data
    whole, losses = scored(model, data), []
    owners = np.flatnonzero(present[:, place])
    for repeat in range(repeats):
        permuted = inputs[place].clone()
        permuted[owners] = inputs[place][np.random.default_rng(repeat).permutation(owners)]
        changed = [permuted if m == place else x for m, x in enumerate(inputs)]
        losses.append(whole - scored(model, (changed, truth, present)))
    return float(np.mean(losses))


broken_data = (*broken_test, torch.ones(len(broken_test[1]), 2, dtype=torch.bool))
caption_sound, caption_broken = lost_by_permuting(sound_model, test_part, 1), lost_by_permuting(broken, broken_data, 1)
print(f"permuting the caption costs the sound model {caption_sound:.3f}, the broken one {caption_broken:.3f}")
record("bug_hunt/sound_minus_broken", caption_sound - caption_broken, excludes=(0,))

# %%
gate = fusion.METHODS.index("gated")
by_split = [lost_by_permuting(plain_models[gate, k], prepared(k)[1], 2) for k in range(sizes.splits)]
for name, values in {"permuting": np.array(by_split), "removing": plain[gate, :, 0] - plain[gate, :, 3]}.items():
    low, high = metrics.seed_interval(values)
    print(f"{name} speech costs {values.mean():+.3f}, 95 % interval over splits {low:+.3f} to {high:+.3f}")

# %% [markdown]
# The two questions differ. Permuting asks *is it used*, removing asks *does it help*. A model can lean on a sense that does not help it: then the first number is positive and the second is not. And a starved sense, rich as it may be, passes as empty in both. So use the test beside
# the single-modality run, never instead of it.

# %% [markdown]
# ## What we saw

# %%
from IPython.display import Markdown

Markdown(f"""
- Complementary senses: alone at chance ({chance:.2f}), joined by anything that can say *together* at {over.mean():.2f} of the optimum or more; late fusion at {late.mean():.2f}.
- Fusion lost to its better half by {-loss_few.mean():.2f} with 400 examples and a noisy sense, by {-difference.mean():.2f} after a trusted sense turned, and with products on real stamps by {-products.mean():.2f}.
- Modality dropout won back {recovered.mean():.2f} of what a missing sense costs, pooled over eight methods.
- Trained together with an easy sense, the hard one's probe ended at {starved.mean():.2f} (untrained {untrained.mean():.2f}, alone {fed.mean():.2f}). GradNorm mended wrong units: {shouted.mean():.2f} became {mended.mean():.2f}.
- Triage: the same probabilities read with costs raised recall of urgent cases from {triage_recall["likeliest label"]:.2f} to {triage_recall["treat from 1/21"]:.2f}.
""")

# %% [markdown]
# ## Questions
# 1. Why did we state the optimum of each world before training anything?
# 2. Late fusion has no word for *together*. Name a task of your own where that does not matter, and a reason to prefer it there.
# 3. Why does a product of embeddings need the appended 1 when a sense may be missing?
# 4. Low-rank fusion has fewer weights than tensor fusion. Why did that not save it on the stamps?
# 5. An absent sense becomes zeros. What must be true of the inputs for zero to be a fair stand-in?
# 6. Why is the interval of the recovered share taken over splits, and that of the starvation over seeds?
# 7. Why did we probe the starved encoder, and not simply take the easy sense away?
# 8. A paper reports fusion at 0.91 and the best single modality at 0.90, one run each. What would you ask for?

# %% [markdown] tags=["solution"]
# **Answers in short.** 1: afterwards every number looks like what one expected. 2: where senses are independent given the label, such as two detectors; it trains apart, survives a missing sense, and needs few examples. 3: zero times anything is zero; the 1 keeps the other sense's
# own terms. 4: probably because it still multiplies three senses, so that one noisy factor disturbs all; fewer weights do not mend that. 5: they are centred, so zero is the mean. 6: the first asks about other stamps, the second about another start and other draws. 7: the joint model never saw an input without
# it; the probe separates what the encoder knows from what the head can read. 8: several seeds or splits and the paired difference; the permutation test; the loss under a missing and a misleading sense.

# %% [markdown]
# ## References
# - Baltrusaitis et al. 2019, *Multimodal machine learning: a survey and taxonomy* (early, late, hybrid).
# - Arevalo et al. 2017, *Gated multimodal units for information fusion*.
# - Zadeh et al. 2017, *Tensor fusion network for multimodal sentiment analysis*.
# - Liu et al. 2018, *Efficient low-rank multimodal fusion with modality-specific factors*.
# - Neverova et al. 2016, *ModDrop: adaptive multi-modal gesture recognition* (modality dropout).
# - Chen et al. 2018, *GradNorm: gradient normalization for adaptive loss balancing in deep multitask networks*.
# - Wang et al. 2020, *What makes training multi-modal classification networks hard?* (fusion that loses to one modality).
