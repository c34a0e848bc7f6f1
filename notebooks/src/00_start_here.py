# %% [markdown]
# # 00 Can a computer find a picture from words?
#
# > **You will be able to** search pictures with words of your own, compute a cosine and a ranking by hand, measure a
# > search against chance, and write a test that finds a real mistake.
# >
# > **Time** 20 minutes to read and run, 30 more for the six exercises. **You need** Python; a little PyTorch helps.
# > **Runs** in profiles `smoke` and `cpu` on two cores in less than a minute, without a GPU and without a network.

# %% tags=["parameters"]
PROFILE = "auto"
SEED = 0

# %% [markdown]
# ## 1 Search first, ask later
# Run the cells of this section. Nothing in them has to be understood yet: sections 5 and 6 take them apart. They load a gallery
# of pictures, load a network that reads sentences, and put every picture at a point where sentences live.

# %%
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from course_utils import plotting, stamps, towers
from course_utils.checks import start_here

gallery = pd.concat([stamps.load(part) for part in stamps.PARTS], ignore_index=True)
is_stamp = torch.arange(len(gallery)) < len(stamps.load())
print(f"{len(gallery):,} pictures: {is_stamp.sum()} stamps with careful captions, the others clip art with titles")
gallery[["name", "caption"]].sample(4, random_state=SEED)

# %% [markdown]
# The next cell reads what two trained networks say of each picture. They ran once, when the course was made, so that you
# need not wait for them.

# %% tags=["nbval-check-output"]
shipped = [towers.features(part) for part in stamps.PARTS]
image = F.normalize(torch.from_numpy(np.concatenate([part.image for part in shipped])), dim=-1)  # (N,D) from pixels
bridge = torch.from_numpy(np.concatenate([part.bridge for part in shipped]))  # (N,E) from pixels, by way of class names
caption = torch.from_numpy(np.concatenate([part.text for part in shipped]))  # (N,E) from the captions' words
{"image": tuple(image.shape), "bridge": tuple(bridge.shape), "caption": tuple(caption.shape)}

# %% [markdown]
# Now a straight-line map from picture features to sentence vectors. It is fitted in closed form, without any training
# loop, and lesson 01 builds it. One thing about it matters today: **the search looks at pixels, not at captions**. The map
# that places the stamps was fitted on clip art only, and the map that places the clip art on stamps only. No picture is
# placed by a map that has seen its caption.

# %%
z_img = torch.zeros_like(caption)  # (N,E)
bridge = F.normalize(bridge - bridge.mean(dim=0), dim=-1)  # (N,E)
for seen, new in ((~is_stamp, is_stamp), (is_stamp, ~is_stamp)):
    x = image[seen] - image[seen].mean(dim=0)  # (M,D)
    y = caption[seen] - caption[seen].mean(dim=0)  # (M,E)
    weights = torch.linalg.solve(x.T @ x + torch.eye(x.shape[1]), x.T @ y)  # (D,D) and (D,E) -> (D,E)
    mapped = F.normalize((image[new] - image[seen].mean(dim=0)) @ weights, dim=-1)  # (N',D) @ (D,E) -> (N',E)
    z_img[new] = F.normalize(mapped + bridge[new], dim=-1)
z_img.shape

# %% [markdown]
# Next, words. `minilm` is a small network that turns a sentence into 384 numbers, so that sentences of like meaning get
# like numbers. We take away the mean caption, because what all captions share says nothing about any one of them.

# %%
text_tower = towers.load_text_tower("minilm")
centre = caption[is_stamp].mean(dim=0)  # (E,)
z_txt = F.normalize(
    torch.from_numpy(towers.embed(text_tower, ["an animal that lives in the sea"])) - centre, dim=-1
)  # (1,E)
z_txt[0, :6]

# %% [markdown]
# The search itself is one product and one sort.

# %%
scores = z_txt @ z_img.T  # (1,E) @ (E,N) -> (1,N)
best = scores[0].topk(5).indices  # (5,)
titles = [f"{scores[0, row]:.2f}  {gallery['caption'][int(row)]}" for row in best]
axes = plotting.gallery([stamps.picture(gallery.iloc[int(row)], 96) for row in best], titles)
plotting.show(
    axes,
    alt="The five pictures with the highest scores for 'an animal that lives in the sea', each with score and caption",
)

# %% [markdown]
# The captions under the pictures are for you. The computer did not read them: it compared the point of your words with the
# point of each picture. We keep those lines as two functions.


# %%
def embed_words(sentences):
    """Sentences -> z_txt (Q,E), unit rows."""
    return F.normalize(torch.from_numpy(towers.embed(text_tower, sentences)) - centre, dim=-1)


def search(words, k=5):
    """Show the `k` pictures whose points lie nearest to these words."""
    scores = embed_words([words]) @ z_img.T  # (1,E) @ (E,N) -> (1,N)
    best = scores[0].topk(k).indices.tolist()
    titles = [f"{scores[0, row]:.2f}  {gallery['caption'][row]}" for row in best]
    axes = plotting.gallery([stamps.picture(gallery.iloc[row], 96) for row in best], titles)
    plotting.show(axes, alt=f"Best pictures for '{words}': " + "; ".join(titles))


# %% [markdown]
# **Your turn.** Change the words and run the cell again, as often as you like.

# %%
search("a red bird")

# %% [markdown]
# The words *animal* and *lives* stood under none of the first five pictures, and they fitted all the same. That is the
# promise of a shared space. But were the birds red? Now for the places where it breaks.
#
# ## 2 Where it fails
# Before each cell, say what you expect. Being wrong is the point.
#
# **A rare word.** A theremin is a musical instrument, played without touching it. What will the search show?

# %%
search("a theremin")

# %% [markdown]
# The search cannot say *I do not know*: it always has five best pictures. Look at the scores, though. They are far lower
# than above.
#
# **Small words.** Below are three pairs of questions that mean different things. Of the ten best pictures, how many will
# the two questions of a pair share?


# %%
def top(words, k=10):
    """Rows of the `k` best pictures for these words."""
    return set((embed_words([words]) @ z_img.T)[0].topk(k).indices.tolist())


pairs = {"relation": ("a cat left of a dog", "a dog left of a cat"), "colour": ("a red car", "a blue car")}
pairs["not"] = ("a bird", "no bird, anything but a bird")
shared = {kind: len(top(one) & top(other)) for kind, (one, other) in pairs.items()}
pd.DataFrame([(kind, *pairs[kind], shared[kind]) for kind in pairs], columns=["pair", "one", "other", "shared of 10"])

# %%
search("no bird, anything but a bird")

# %% [markdown]
# A cat left of a dog is a scene; to this search it is *cat* and *dog*, and then some animals. Nobody needs *left*, *red*
# or *not* to find most pictures, so nothing has taught them. Lesson 02 measures the first of these failures and mends it.
#
# **Another language.** *A red bird*, in French and then in Japanese.

# %%
search("un oiseau rouge")

# %%
search("赤い鳥")

# %% [markdown]
# The text network was trained on English. Section 7 puts a number on this for five languages, and lesson 06 mends it.
#
# ## 3 What this machine can do
# Every lesson runs in one of three profiles. `smoke` checks that all cells run, `cpu` is for a laptop, and `gpu` for a
# graphics card. A profile changes numbers only, and a lesson shows all of them in one table. The chosen column is bold.

# %%
session

# %%
sizes = session.choose(
    folds=(1, 3, 5),  # of the five test sets, how many the language experiment uses
    draws=(500, 2_000, 2_000),  # bootstrap draws behind an interval
    sentences=(64, 256, 2_048),  # for the speed test below
)
sizes

# %% [markdown]
# How many sentences a second does this machine read? Guess the power of ten.

# %%
import time

started = time.perf_counter()
towers.embed(text_tower, ["a small dog on a big boat"] * sizes.sentences)
print(f"{sizes.sentences / (time.perf_counter() - started):,.0f} sentences a second")

# %% [markdown]
# ## 4 How a lesson works
# 1. **Predict.** Before a result there is a question. Answer it aloud or on paper; it costs ten seconds and is what makes
#    the result stick.
# 2. **Run.** Cells run from top to bottom. Nothing after an exercise depends on your answer, so you may skip and return.
# 3. **Read.** Each number comes with its unit, and with an interval where it was measured on a sample. Chance stands
#    beside it.
#
# An exercise ends in `raise NotImplementedError`. Put your lines there and run the check below it. A check has three
# outcomes: *not attempted yet*, *right*, or a message that names the likely mistake. Hints unfold when you click them.
# The folder `solutions` holds every lesson solved, with its pictures.
#
# **Names and shapes** are the same in all lessons:
#
# | name | shape | meaning |
# |---|---|---|
# | `B` | | pairs of picture and sentence in a batch |
# | `L` | | text tokens |
# | `P` | | patches |
# | `D` | | width of features |
# | `E` | | width of the shared space |
# | `h` | | attention heads |
# | `images` | `(B,3,H,W)` | pictures as pixels |
# | `tokens` | `(B,L)` | words as numbers |
# | `token_mask` | `(B,L)` | True for a real token |
# | `patches` | `(B,P,D)` | pieces of pictures |
# | `z_img`, `z_txt` | `(B,E)` | points in the shared space, unit rows |
# | `logits` | `(B,B)` | rows are images |
# | `tau` | | temperature |
# | `attn` | `(B,h,L,P)` | how much each word looks at each patch |
# | `saliency` | `(H,W)` | how much each pixel matters |
# | `masks` | `(K,H,W)` | where each of K objects is |
#
# This lesson also counts `N` pictures and `Q` questions: `scores` is `(Q,N)`, one row a question.

# %% [markdown]
# ### Exercise 0.1: read a shape
# Difficulty 1 of 3, about 3 minutes.
#
# A batch holds 16 colour pictures of 224 by 224 pixels. The picture tower makes 1,280 features of each, the text tower 384
# of each of 7 sentences, and a map brings pictures to 384 too. Give four shapes as tuples: `images`, the features, the
# shared points `z_img`, and `scores`, with one row a sentence.
#
# <details><summary>Hint 1</summary>
#
# In the table above, where does the 3 of colour stand: before or after height and width?
# </details>
# <details><summary>Hint 2</summary>
#
# `scores = z_txt @ z_img.T` is a product of (7,384) and (384,16). Which two numbers remain?
# </details>

# %% tags=["exercise"]
shapes = ...  # a list of four tuples: images, features, z_img, scores
# BEGIN SOLUTION
shapes = [(16, 3, 224, 224), (16, 1280), (16, 384), (7, 16)]
# END SOLUTION

# %% tags=["check"]
start_here.check_shapes(shapes)

# %% [markdown]
# ## 5 What is near?
# A question and three pictures, as arrows in a plane. Which picture should come first: the one that points the same way, or
# the longest?

# %%
question = torch.tensor([4.0, 3.0])
points = torch.tensor([[2.0, 1.5], [3.0, 4.0], [1.0, 6.0]])  # (N,2): same direction but short, near, long
ax = plotting.arrows(torch.cat([question[None], points]), ["question", "A", "B", "C"])
plotting.show(ax, alt="Four arrows from the origin: A lies on the question's line but is shorter, B is near, C is long")

# %% [markdown]
# We want direction alone to count, because a picture is not a better answer for having large numbers. The **cosine** of
# two vectors of width $D$ is their product over both lengths, from $-1$ to $1$:
#
# $$\cos(a, b) = \frac{\sum_{i=1}^{D} a_i b_i}{\sqrt{\sum_i a_i^2}\,\sqrt{\sum_i b_i^2}}$$
#
# With loops, so that every term can be checked by hand. For the question and B it is $(4\cdot3 + 3\cdot4)/(5\cdot5)$.

# %% tags=["nbval-check-output"]
by_loop = []
for point in points:
    product, length_q, length_p = 0.0, 0.0, 0.0
    for q, p in zip(question.tolist(), point.tolist()):
        product += q * p
        length_q += q * q
        length_p += p * p
    by_loop.append(product / (length_q**0.5 * length_p**0.5))
[round(value, 3) for value in by_loop]

# %% [markdown]
# All at once: bring every vector to length one, then a single product gives all cosines. The two ways agree, and so does
# torch's own function.

# %% tags=["nbval-check-output"]
unit_question = question / question.norm()  # (D,)
unit_points = points / points.norm(dim=-1, keepdim=True)  # (N,D)
by_product = unit_points @ unit_question  # (N,D) @ (D,) -> (N,)
assert torch.allclose(by_product, torch.tensor(by_loop))
assert torch.allclose(by_product, F.cosine_similarity(points, question[None]))
by_product

# %% [markdown]
# This is why `z_img` and `z_txt` have unit rows: the product in section 1 gave the cosine of your words with every picture.
#
# ### Exercise 0.2: cosine
# Difficulty 1 of 3, about 5 minutes.
#
# Write `cosine(a, b)` for two matrices: `a` is `(Q,E)`, `b` is `(N,E)`, and the answer `(Q,N)` holds the cosine of each row
# of `a` with each row of `b`. Rows may have any length but zero.
#
# <details><summary>Hint 1</summary>
#
# What must be true of the rows so that a plain product is already the cosine?
# </details>
# <details><summary>Hint 2</summary>
#
# Divide each matrix by `.norm(dim=-1, keepdim=True)`, then `(Q,E) @ (E,N)`.
# </details>


# %% tags=["exercise"]
def cosine(a, b):
    """(Q,E), (N,E) -> (Q,N): the cosine of every row of a with every row of b."""
    # BEGIN SOLUTION
    a = a / a.norm(dim=-1, keepdim=True)  # (Q,E)
    b = b / b.norm(dim=-1, keepdim=True)  # (N,E)
    return a @ b.T  # (Q,E) @ (E,N) -> (Q,N)
    # END SOLUTION


# %% tags=["check"]
start_here.check_cosine(cosine)

# %% [markdown]
# From scores to a list: sort, largest first, and keep the first $k$. Python's `sorted` and `torch.topk` must agree.

# %%
z_txt = embed_words(["a red bird"])
scores = (z_txt @ z_img.T)[0]  # (N,)
by_sorting = sorted(range(len(scores)), key=lambda row: -scores[row])[:5]
assert by_sorting == scores.topk(5).indices.tolist()
by_sorting

# %% [markdown]
# ### Exercise 0.3: the k best
# Difficulty 1 of 3, about 5 minutes.
#
# Write `top_k(scores, k)` for a matrix of scores `(Q,N)`: for each question the columns of its `k` best pictures, best
# first, as `(Q,k)`. Use `argsort` or `topk`.
#
# <details><summary>Hint 1</summary>
#
# In which direction does `argsort` sort when it is not told?
# </details>
# <details><summary>Hint 2</summary>
#
# `scores.argsort(dim=-1, descending=True)` gives columns. Which slice keeps the first `k` of each row?
# </details>


# %% tags=["exercise"]
def top_k(scores, k):
    """(Q,N) -> (Q,k): columns of the k largest scores of each row, largest first."""
    # BEGIN SOLUTION
    return scores.argsort(dim=-1, descending=True)[:, :k]
    # END SOLUTION


# %% tags=["check"]
start_here.check_top_k(top_k)

# %% [markdown]
# ## 6 How does a picture come to lie among sentences?
# Take one stamp and go its whole way. First, pixels become features. We run the picture tower ourselves and compare with
# the features that came with the course.

# %%
image_tower = towers.load_image_tower("efficientnet_lite0")
zebra = int(np.flatnonzero(gallery["caption"] == "A zebra.")[0])
images = image_tower.preprocess([stamps.picture(gallery.iloc[zebra])])  # (1,3,224,224)
with torch.no_grad():
    features = image_tower(images)  # (1,3,H,W) -> (1,D)
agreement = F.cosine_similarity(features, image[zebra][None]).item()
assert agreement > 0.999
print(f"images {tuple(images.shape)}, features {tuple(features.shape)}, cosine with the stored ones {agreement:.5f}")

# %% [markdown]
# The same tower was trained to name 1,000 kinds of things (ImageNet). Its guess is the first half of our search: a picture
# is placed where the *names* of its likeliest classes lie, weighted by their likelihood. Nothing is trained for it. We call
# it the **bridge** (its authors say ConSE).

# %%
part = shipped[0]
guesses = [(part.class_names[c], p) for c, p in zip(part.classes[zebra], part.likelihoods[zebra])]
by_hand = sum(p * part.class_text[c] for c, p in zip(part.classes[zebra], part.likelihoods[zebra]))  # (E,)
assert np.allclose(by_hand, part.bridge[zebra], atol=1e-5)
pd.DataFrame(guesses[:4], columns=["class", "likelihood"]).round(4)

# %% [markdown]
# The second half is the straight-line map of section 1. It finds weights $W$ that take features $x$ to caption vectors $y$
# with the least squared error, held small by a penalty: $\min_W \lVert xW - y\rVert^2 + \lVert W\rVert^2$, which has the
# closed form $W = (x^\top x + I)^{-1} x^\top y$. The sum of both halves is `z_img`.
#
# ## 7 How good is it?
# A search shows nice pictures for the words that its author tried. So we count. Four captions (rows) search four pictures
# (columns), and the right picture of row $i$ is column $i$:

# %%
four = torch.tensor([[0.9, 0.2, 0.1, 0.3], [0.4, 0.3, 0.1, 0.2], [0.2, 0.5, 0.6, 0.1], [0.1, 0.8, 0.7, 0.75]])  # (4,4)
names = ["frog", "boat", "drum", "star"]
ax = plotting.heat(four.numpy(), [f"'{name}'" for name in names], names, limits=(0, 1))
ax.set_title("The caption 'boat' scores highest with the picture of the frog")
plotting.show(ax, alt="Four by four scores; rows are captions, columns pictures. Frog and drum win their rows")

# %% [markdown]
# The **rank** of the right picture is one plus the number of pictures that score higher. **Recall@k** is the share of
# captions whose right picture has rank $k$ or better.
#
# ### Exercise 0.4: recall by hand
# Difficulty 1 of 3, about 4 minutes.
#
# Read the ranks of the four right pictures off the table, then recall@1 and recall@2, without running code.
#
# <details><summary>Hint 1</summary>
#
# In the row 'star', which pictures score higher than 0.75?
# </details>
# <details><summary>Hint 2</summary>
#
# A row counts for recall@2 when its rank is 1 or 2.
# </details>

# %% tags=["exercise"]
by_hand_recall = ...  # {"ranks": [.., .., .., ..], "recall@1": .., "recall@2": ..}
# BEGIN SOLUTION
by_hand_recall = {"ranks": [1, 2, 1, 2], "recall@1": 0.5, "recall@2": 1.0}
# END SOLUTION

# %% tags=["check"]
start_here.check_recall(by_hand_recall)

# %% [markdown]
# Now in code: once with a loop, once as one comparison, once with the package. The package also handles several right
# pictures and ties. All must agree.

# %% tags=["nbval-check-output"]
from course_utils import metrics

ranks_by_loop = [1 + sum(float(other) > float(row[i]) for other in row) for i, row in enumerate(four)]
right_score = four.diagonal()[:, None]  # (Q,1)
ranks_at_once = 1 + (four > right_score).sum(dim=-1)  # (Q,N) -> (Q,)
assert ranks_by_loop == ranks_at_once.tolist() == metrics.ranks(four, np.arange(4)).tolist()
float(metrics.recall_at_k(four, np.arange(4), k=1).mean())

# %% [markdown]
# ### Exercise 0.5: chance
# Difficulty 2 of 3, about 6 minutes.
#
# A search that knows nothing puts `n` pictures in random order, and `right` of them are right answers. Write
# `chance(n, right, k)`: how likely is at least one right picture among the first `k`?
#
# <details><summary>Hint 1</summary>
#
# With one right picture, how often is it among the first `k` of `n` places? With more, is it easier to count the cases
# where *none* is among them?
# </details>
# <details><summary>Hint 2</summary>
#
# None of the first `k` is right: that many ways, `math.comb(n - right, k)`, out of `math.comb(n, k)`.
# </details>


# %% tags=["exercise"]
def chance(n, right, k):
    """The probability that at least one of `right` pictures stands among the first k of n in random order."""
    # BEGIN SOLUTION
    from math import comb

    return 1 - comb(n - right, k) / comb(n, k)
    # END SOLUTION


# %% tags=["check"]
start_here.check_chance(chance)

# %% [markdown]
# ### The stamps, searched by their own captions
# The stamps come in five test sets of about 150, such that look-alikes and equal captions always share a set. In each set,
# every caption searches all pictures. The first set, for the search of section 1:

# %%
rows = torch.from_numpy(stamps.split(0).test)
wording = gallery["caption"].to_numpy()
scores = F.normalize(caption[rows] - centre, dim=-1) @ z_img[rows].T  # (Q,E) @ (E,N) -> (Q,N)
same = wording[rows][:, None] == wording[rows][None]  # (Q,N) True where the captions are equal
print(f"{len(rows)} captions, recall@1 {metrics.recall_at_k(scores, same, k=1).mean():.3f}")

# %% [markdown]
# Now the same for all five sets, as a function. We try it where the answer is known: equal scores for all must give chance,
# and captions that search among captions must always find themselves.

# %%
test_sets = [torch.from_numpy(stamps.split(k).test) for k in range(5)]
own_captions = F.normalize(caption[is_stamp] - centre, dim=-1)  # (748,E)


def hits(pictures, questions):
    """For each stamp 1 if its question finds it first among its test set, else 0; ties count in part: (748,)."""
    found = np.zeros(len(questions))
    for rows in test_sets:
        scores = questions[rows] @ pictures[rows].T  # (Q,E) @ (E,N) -> (Q,N)
        same = wording[rows][:, None] == wording[rows][None]  # (Q,N)
        found[rows] = metrics.recall_at_k(scores, same, k=1)
    return found


by_chance = hits(torch.zeros_like(z_img), own_captions).mean()
by_caption = hits(own_captions, own_captions).mean()
assert by_caption == 1 and abs(by_chance - 1 / 150) < 0.002
print(f"equal scores for all: {by_chance:.4f}, captions among captions: {by_caption:.4f}")

# %% [markdown]
# Now the real ones: the bridge alone, and the search of section 1, which is the bridge *and* the map fitted on *all clip
# art*. Guess first: of 100 captions, how many find the right picture out of 150 at once?

# %%
found = {"bridge alone": hits(bridge, own_captions), "+ all clip art": hits(z_img, own_captions)}
group = stamps.load()["group"].to_numpy()
intervals = {name: metrics.bootstrap_interval(hit, group, SEED, draws=sizes.draws) for name, hit in found.items()}
for name, hit in found.items():
    print(f"{name:17s} recall@1 {hit.mean():.3f}, interval {intervals[name][0]:.3f} to {intervals[name][1]:.3f}")

# %% [markdown]
# The interval says how far the figure would move with other stamps of the same kind. It is a bootstrap: stamps are drawn
# again with replacement, look-alikes together, and 95 of 100 such draws fall inside. We write the figures down as
# **records**, which the course's own tests compare with an expected band.

# %%
bridge_recall, search_recall = (hit.mean() for hit in found.values())
record("search/bridge_recall_at_1", bridge_recall, intervals["bridge alone"], by_chance)
record("search/recall_at_1", search_recall, intervals["+ all clip art"], by_chance, (by_chance, bridge_recall))
record("search/recall_at_1_over_chance", search_recall / by_chance, excludes=(1.0, bridge_recall / by_chance))
record("search/relation_overlap", shared["relation"] / 10, chance=10 / len(gallery))

# %% [markdown]
# ### A surprise: more pairs, or pairs of the right kind?
# The search's map was fitted on thousands of clip-art pictures with their titles. Suppose it had only a fifth of them. From
# there, two steps are open: back to five times as many, or as few again, but of the right kind, which is stamps of the
# *other four* test sets and never one of the set that is searched. Which step gains more? Write it down.


# %%
def fit_and_place(seen, new):
    """Fit the straight-line map on the rows `seen`, place the rows `new`: bridge plus map, unit rows (N',E)."""
    x = image[seen] - image[seen].mean(dim=0)  # (M,D)
    y = caption[seen] - caption[seen].mean(dim=0)  # (M,E)
    weights = torch.linalg.solve(x.T @ x + torch.eye(x.shape[1]), x.T @ y)  # (D,D) and (D,E) -> (D,E)
    mapped = F.normalize((image[new] - image[seen].mean(dim=0)) @ weights, dim=-1)  # (N',D) @ (D,E) -> (N',E)
    return F.normalize(mapped + bridge[new], dim=-1)


assert torch.allclose(fit_and_place(~is_stamp, is_stamp), z_img[is_stamp], atol=1e-4)  # the cell of section 1

# %%
stamp_rows, clip_art_rows = is_stamp.nonzero()[:, 0], (~is_stamp).nonzero()[:, 0]
few = 4 * len(stamp_rows) // 5  # as many as four of the five test sets hold
by_stamps = z_img.clone()
for rows in test_sets:
    by_stamps[rows] = fit_and_place(stamp_rows[~torch.isin(stamp_rows, rows)], rows)
by_few, generator = [], torch.Generator().manual_seed(SEED)
for _ in range(3):  # three random choices of clip art, because one could be lucky
    some = clip_art_rows[torch.randperm(len(clip_art_rows), generator=generator)[:few]]
    by_few.append(hits(fit_and_place(some, stamp_rows), own_captions))
found |= {"+ few clip art": np.mean(by_few, axis=0), "+ few stamps": hits(by_stamps, own_captions)}
intervals = {name: metrics.bootstrap_interval(hit, group, SEED, draws=sizes.draws) for name, hit in found.items()}

# %%
order = ["bridge alone", "+ few clip art", "+ all clip art", "+ few stamps"]
labels = [order[0], f"{order[1]} ({few})", f"{order[2]} ({len(clip_art_rows):,})", f"{order[3]} ({few})"]
values = [found[name].mean() for name in order]
ax = plotting.bars(labels, values, [intervals[name] for name in order], by_chance)
ax.set(
    xlabel="recall@1 among about 150 stamps (95 % interval)",
    title="A fifth of the pairs, of the right kind, do as well",
)
plotting.show(
    ax, alt="Recall at 1 rises from bridge alone to few clip art, all clip art and few stamps, which is highest"
)

# %% [markdown]
# The intervals overlap, but the same captions were asked of all maps, so we may compare caption by caption. A paired
# difference whose interval lies clear of zero is a difference.

# %%
gains = {}
for name in ("+ all clip art", "+ few stamps"):
    difference = found[name] - found["+ few clip art"]  # (748,)
    gains[name] = difference.mean(), metrics.bootstrap_interval(difference, group, SEED, draws=sizes.draws)
record("search/gain_of_more_pairs", *gains["+ all clip art"], excludes=(0.0,))
record("search/gain_of_right_kind", *gains["+ few stamps"], excludes=(0.0,))
record("search/stamp_map_recall_at_1", values[3], intervals["+ few stamps"], by_chance, (by_chance, bridge_recall))

# %% [markdown]
# Both steps help: neither interval contains zero. Few pairs of the right kind do as well as five times as many of another.
# Clip art looks different from the stamps, and its titles are worded differently. Choosing data is part of the work.
#
# ### How much is lost in another language?
# People translated the captions. Guess the order of German, French, Russian and Japanese before you run.

# %%
chosen = torch.cat(test_sets[: sizes.folds])
languages = {"de": "German", "fr": "French", "ru": "Russian", "ja": "Japanese"}
by_language = {"English": found["+ all clip art"][chosen]}  # (Q,) as before
for language, name in languages.items():
    sentences = stamps.captions(language).fillna("").to_numpy()  # German and Russian lack one of 748
    questions = torch.zeros_like(own_captions)  # (748,E)
    questions[chosen] = embed_words(list(sentences[chosen]))
    by_language[name] = hits(z_img, questions)[chosen]

# %%
spread = [metrics.bootstrap_interval(hit, group[chosen], SEED, draws=sizes.draws) for hit in by_language.values()]
ax = plotting.bars(list(by_language), [hit.mean() for hit in by_language.values()], spread, by_chance, colour="text")
ax.set(xlabel=f"recall@1 on {len(chosen)} captions (95 % interval)", title="Little is left in other languages")
plotting.show(ax, alt="Recall at 1 by language of the question: English far ahead, Japanese and Russian near chance")
record("search/japanese_recall_at_1", by_language["Japanese"].mean(), spread[-1], by_chance, (search_recall,))

# %% [markdown]
# German and French keep a little, most likely because some words are nearly the English ones (*un kangourou*).
# Russian and Japanese share no letters with English, and the text network was trained on English.

# %% [markdown]
# ## 8 Bug hunt
# A colleague has written the search again, "without needless divisions". It runs, it gives pictures, and they often fit:


# %% tags=["nbval-check-output"]
def fast_rank(question, points):
    """(E,), (N,E) -> (N,): columns of all points, best first."""
    return (points @ question).argsort(descending=True)  # (N,E) @ (E,) -> (N,)


fast_rank(question, points)

# %% [markdown]
# ### Exercise 0.6: a test that finds the mistake
# Difficulty 2 of 3, about 7 minutes.
#
# Something is wrong with `fast_rank`. Do not mend it: write `test_rank(rank)`, a test that takes any such function, calls it
# on small vectors of your choice, and uses `assert`. It must pass for every right ranking by cosine, and fail for
# `fast_rank`. Look at the arrows of section 5 once more.
#
# <details><summary>Hint 1</summary>
#
# Make one picture's vector ten times as long. What should happen to the ranking?
# </details>
# <details><summary>Hint 2</summary>
#
# Two points: one in the question's direction but short, one long and aside. Which must come first?
# </details>


# %% tags=["exercise"]
def test_rank(rank):
    """Raise AssertionError unless `rank(question, points)` puts the points in order of cosine."""
    # BEGIN SOLUTION
    question = torch.tensor([1.0, 0.0])
    points = torch.tensor([[5.0, 5.0], [0.1, 0.0]])  # long and aside; short, and in the question's direction
    assert rank(question, points).tolist() == [1, 0], "a longer vector must not win by its length"
    # END SOLUTION


# %% tags=["check"]
start_here.check_test_rank(test_rank)

# %% [markdown]
# How much does the mistake cost? We let it loose on the bridge before its rows had length one. In that raw form a picture's
# vector is long when the tower was sure of its class.

# %%
raw_bridge = torch.from_numpy(shipped[0].bridge)  # (748,E)
lengths = raw_bridge.norm(dim=-1)
careless, careful = (hits(rows, own_captions) for rows in (raw_bridge, F.normalize(raw_bridge, dim=-1)))
loss_interval = metrics.bootstrap_interval(careful - careless, group, SEED, draws=sizes.draws)
print(f"lengths {lengths.min():.2f} to {lengths.max():.2f}, recall@1 {careless.mean():.3f} with the mistake")
record("bug/recall_lost_without_unit_rows", (careful - careless).mean(), loss_interval, excludes=(0.0,))

# %% [markdown]
# No error, no warning, plausible pictures, and a part of the recall gone: this is how such mistakes look. The same one
# stands in a popular tutorial on training CLIP, as lesson 02 shows.
#
# ## 9 Where should you go on?
# Ten questions. Write a letter for each that you can answer, and leave `None` where you would have to guess. The next cell
# names the lessons that pay most for you.
#
# 1. Two unit vectors have the product 0. They are **a** equal, **b** opposite, **c** at a right angle.
# 2. A linear probe **a** trains one linear layer on frozen features, **b** fine-tunes a network, **c** counts parameters.
# 3. A batch has B pairs. With random vectors, the contrastive (CLIP) loss is about **a** 1, **b** log B, **c** B.
# 4. A smaller temperature `tau` makes the softmax **a** sharper, **b** flatter, **c** neither.
# 5. In cross-attention from words to patches, the weights of one word over all patches **a** are equal, **b** sum to 1,
#    **c** sum to the number of words.
# 6. Picture and sound are each useless alone and perfect together (XOR). Averaging two separate classifiers scores **a**
#    chance, **b** perfect, **c** halfway.
# 7. Flickr30k has five captions a picture. Its split must be by **a** caption, **b** picture, **c** either.
# 8. You double the learning rate's warm-up. What changes is **a** the first steps, **b** the model's size, **c** the data.
# 9. A saliency map looks the same after the weights are randomised. It shows **a** what the model learned, **b** mostly
#    the picture's own edges, **c** that training failed.
# 10. Shapley values of all words of a sentence add up to **a** 1, **b** the score minus the score of the empty sentence,
#     **c** the largest of them.

# %%
answers = {1: None, 2: None, 3: None, 4: None, 5: None, 6: None, 7: None, 8: None, 9: None, 10: None}
start_here.route(answers)

# %% [markdown]
# Your progress is kept in small files on this machine, one an exercise.

# %%
from course_utils import progress

progress.table()

# %% [markdown]
# ## What we saw
# The numbers below come from the cells above.

# %%
from IPython.display import Markdown

more, kind = gains["+ all clip art"], gains["+ few stamps"]
Markdown(f"""
- Words found the right one of about 150 pictures, first, in **{search_recall:.0%}** of cases. Chance is {by_chance:.1%}: a factor
  of **{search_recall / by_chance:.0f}**.
- The bridge, for which nothing was trained, alone reached **{bridge_recall:.0%}**.
- Five times as many pairs of another kind gained **{more[0] * 100:.1f}** points (interval {more[1][0] * 100:.1f} to
  {more[1][1] * 100:.1f}), as few pairs of the right kind **{kind[0] * 100:.1f}** ({kind[1][0] * 100:.1f} to {kind[1][1] * 100:.1f}).
- *A cat left of a dog* and *a dog left of a cat* shared **{shared["relation"]}** of their ten best pictures, *a red car* and *a
  blue car* **{shared["colour"]}**. Captions in Japanese found **{by_language["Japanese"].mean():.1%}**.
- Forgetting to bring rows to length one cost **{(careful - careless).mean() * 100:.0f}** points of recall, without any error message.
""")

# %% [markdown]
# ## Questions
# 1. Why do we take the mean caption away from every question? What do all captions share?
# 2. The maps never saw the caption of a picture they place. What would recall@1 have measured if they had?
# 3. Why do look-alikes share a test set, although this makes the search harder?
# 4. Five maps placed the stamps in the surprise, one a test set. Why would it be unfair to search all 748 of them at once?
# 5. The score of a nonsense word is never zero. How would you let the search say "there is no such picture"?
# 6. Two captions are equal in a test set. What would recall@1 be if only one of their pictures counted as right?
# 7. Recall@1 among 1,000 pictures is lower than among 150. What else must stand beside a recall figure?
#
# <details><summary>Short answers</summary>
#
# 1. The way they are worded (an article, a full stop): it pulls all questions to one side and tells no picture from another.
# 2. Partly memory: the map can bend a seen picture to its own caption.
# 3. Otherwise the map has in effect seen the answer, and the figure promises too much for new pictures.
# 4. The map of each other set has learned this caption, and can place its own pictures close to it; the right picture's
#    map cannot. The comparison punishes the right one.
# 5. A threshold, chosen on questions whose answer is known to be absent. A cosine is no probability.
# 6. At most one half for these two captions, whatever the search does.
# 7. The number of pictures, the number of right ones, chance, and an interval.
# </details>
#
# ## References
# - A. Frome and others, *DeViSE: A Deep Visual-Semantic Embedding Model*, 2013: pictures mapped to where words live.
# - M. Norouzi and others, *Zero-Shot Learning by Convex Combination of Semantic Embeddings*, 2014: the bridge (ConSE).
# - N. Reimers and I. Gurevych, *Sentence-BERT*, 2019, and W. Wang and others, *MiniLM*, 2020: the text tower.
# - M. Tan and Q. Le, *EfficientNet*, 2019: the picture tower.
# - A. Radford and others, *Learning Transferable Visual Models From Natural Language Supervision*, 2021: CLIP.
# - B. Efron and R. Tibshirani, *An Introduction to the Bootstrap*, 1993: intervals.
# - Pictures: Tux Paint's stamps, Openclipart and OpenMoji; licences and credits are in `course_utils/data/licences`.
