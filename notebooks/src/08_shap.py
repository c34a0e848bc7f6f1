# %% [markdown]
# # 08 SHAP: which words and which patches paid for the score?
#
# > **You will be able to** compute Shapley values exactly and by sampling, say what "absent" means and what that choice changes, share a score
# > among words *and* regions of a picture at once, measure how much each modality carries, and catch a background that leaks the answer.
# >
# > **Time** 75 minutes. **Needs** lesson 02 (two towers); lesson 07 helps. **Runs** in about a minute (`smoke`), under five
# > minutes on two CPU cores (`cpu`); `gpu` sizes are there and not yet run.

# %% tags=["parameters"]
PROFILE = "auto"
SEED = 0

# %% [markdown]
# A profile changes numbers and nothing else. Here are all of this lesson's; the cells below read them from `sizes`.

# %%
sizes = session.choose(
    word_scenes=(60, 300, 1_000),
    joint_scenes=(6, 40, 200),
    leak_scenes=(150, 400, 1_000),
    noise_scenes=(8, 30, 100),
)
sizes

# %% [markdown]
# ## 1 Two words share a score
# A model gives a picture and *nothing* a score of 0.1, *red* 0.2, *pig* 0.5 and *red pig* 0.9. How much of the 0.9 is due to *red*? Added to nothing it brings 0.1; added to
# *pig* it brings 0.4. Both are true. Shapley (1953) averages over the orders in which players may come, and proves that no other rule is fair in four plain senses.

# %% tags=["nbval-check-output"]
from course_utils.checks import shapley_values

score_of = {(): 0.1, ("red",): 0.2, ("pig",): 0.5, ("pig", "red"): 0.9}
for order in (("red", "pig"), ("pig", "red")):
    first = score_of[order[:1]] - score_of[()]
    second = score_of[("pig", "red")] - score_of[order[:1]]
    print(f"{order[0]} comes first and adds {first:.1f}, {order[1]} then adds {second:.1f}")

# %% [markdown]
# ### Exercise 8.1: share it out
# Difficulty 1 of 3, about 6 minutes.
#
# Put the two Shapley values, of *red* and of *pig*, into `credits`. Check for yourself that they add up to what both together bring.
#
# <details><summary>Hint 1</summary>Each word comes first in one order and second in the other.</details>
# <details><summary>Hint 2</summary>The mean of the two lines above, word by word.</details>

# %% tags=["exercise"]
credits = ...
# BEGIN SOLUTION
credits = ((0.1 + 0.4) / 2, (0.4 + 0.7) / 2)
# END SOLUTION

# %% tags=["check"]
shapley_values.check_credits(credits)

# %% [markdown]
# ## 2 Every set of players, once
# With $n$ players there are $n!$ orders but only $2^n$ **coalitions**, sets of players who are there. All orders in which the same players come before player $i$ give the same gain, so one weight a set is enough:
#
# $$\phi_i = \sum_{S \not\ni i} \frac{|S|!\,(n-|S|-1)!}{n!}\,\big(v(S\cup i) - v(S)\big)$$
#
# ### Exercise 8.2: all coalitions
# Difficulty 1 of 3, about 6 minutes.
#
# Write `coalitions(n)`: a table of bool with a row for each set of n players and a column for each player, True where the player is there. Any order of rows will do.
#
# <details><summary>Hint 1</summary>How many rows are there for n = 3? Nobody is a set too.</details>
# <details><summary>Hint 2</summary><code>itertools.product([False, True], repeat=n)</code>, or the binary digits of 0 to 2**n - 1.</details>

# %%
import itertools
from math import factorial

import numpy as np
import torch


# %% tags=["exercise"]
def coalitions(n):
    """Every set of n players: (2**n, n) of bool."""
    # BEGIN SOLUTION
    return np.array(list(itertools.product([False, True], repeat=n)))
    # END SOLUTION


# %% tags=["check"]
shapley_values.check_coalitions(coalitions)

# %% [markdown]
# ### Exercise 8.3: the formula
# Difficulty 3 of 3, about 15 minutes.
#
# Write `shapley_of(value, player, n)`: the formula above, for one player of 0 to n - 1. `value` takes a `frozenset` of players and gives a number.
#
# <details><summary>Hint 1</summary>Which sets does the sum run over? Is the empty one among them?</details>
# <details><summary>Hint 2</summary><code>itertools.combinations(others, size)</code> for each size from 0 to n - 1.</details>


# %% tags=["exercise"]
def shapley_of(value, player, n):
    """The Shapley value of one player; value: frozenset of players -> number."""
    # BEGIN SOLUTION
    others, total = [k for k in range(n) if k != player], 0.0
    for size in range(n):
        weight = factorial(size) * factorial(n - size - 1) / factorial(n)
        for some in itertools.combinations(others, size):
            total += weight * (value(frozenset(some) | {player}) - value(frozenset(some)))
    return total
    # END SOLUTION


# %% tags=["check"]
shapley_values.check_shapley_of(shapley_of)

# %% [markdown]
# The package numbers coalitions by their bits: in coalition 5 = 101 players 0 and 2 are there. From the scores of all $2^n$ it gives all $n$ values. Bridge, by the definition over orders:

# %%
from course_utils import shapley

some_scores = np.random.default_rng(SEED).normal(size=2**4)
values = np.zeros(4)
for order in itertools.permutations(range(4)):
    there = 0
    for player in order:
        values[player] += some_scores[there + 2**player] - some_scores[there]
        there += 2**player
assert np.allclose(shapley.values_of(some_scores), values / factorial(4))
assert np.isclose(values.sum() / factorial(4), some_scores[-1] - some_scores[0])  # nothing is lost

# %% [markdown]
# ## 3 A caption of eight words
# Now a real score: the two-tower model of lesson 02 that learned its relations from foils, one test scene, its caption. The players are the eight words.

# %%
from course_utils import plotting, scenes, shipped

retriever = shipped.load("scenes_foils")
foils = retriever.model
scene = scenes.Scenes(0, "test")[4]  # the example; many others follow
image = torch.from_numpy(scene.image).permute(2, 0, 1).float() / 255  # (3,H,W)
words = scene.captions[0].words
axes = plotting.gallery([scene.image], [scene.captions[0].text], columns=1)
plotting.show(axes, alt="One scene: two objects on a plain shaded background, with its caption below.")

# %% [markdown]
# What is a sentence *without* "left"? A text tower reads a row of tokens and has no notion of a hole. One answer: put the unknown word there.
#
# ### Exercise 8.4: hide words
# Difficulty 1 of 3, about 6 minutes.
#
# Write `hide(tokens, present, unknown)`: tokens (L,), present (S,L) of bool. Row s of the result (S,L) holds the tokens that are present in set s, and `unknown` elsewhere.
#
# <details><summary>Hint 1</summary>Token 0 is padding here. What would the model do with it?</details>
# <details><summary>Hint 2</summary><code>torch.where(condition, a, b)</code> broadcasts (S,L) with (L,).</details>


# %% tags=["exercise"]
def hide(tokens, present, unknown):
    """tokens (L,), present (S,L) -> (S,L), the unknown word where a word is absent."""
    # BEGIN SOLUTION
    return torch.where(present, tokens, unknown)  # (S,L), (L,) -> (S,L)
    # END SOLUTION


# %% tags=["check"]
shapley_values.check_hide(hide)

# %% [markdown]
# With that, the score is a **game**: a function of who is there. All 256 sentences are one batch.

# %%
from course_utils import absence

tokens, token_mask = (rows[0] for rows in retriever.tokenize([scene.captions[0].text]))  # (L,) each
unknown = retriever.tokenizer.token_to_id("[UNK]")
players = np.arange(len(words))  # one player a word
with torch.no_grad():
    z_image = foils.encode_image(image[None])[0]  # (E,)


@torch.no_grad()
def game(present, drop=False):
    """present (S,n) -> (S,), the cosine of the picture with what is left of the caption."""
    hidden = absence.hide_words(tokens, token_mask, players, present, unknown, drop)
    return (foils.encode_text(*hidden) @ z_image).numpy()  # (S,E) @ (E,) -> (S,)


by_word = shapley.exact(game, len(words))
nobody, everybody = game(np.zeros((1, 8), dtype=bool))[0], game(np.ones((1, 8), dtype=bool))[0]
assert np.isclose(by_word.sum(), everybody - nobody, atol=1e-5)
print(f"nobody {nobody:+.3f}, everybody {everybody:+.3f}, credits add up to {by_word.sum():+.3f}")

# %% [markdown]
# Before you look: which two words earn most? Does *a* earn anything?

# %%
axes = plotting.heat(by_word[None], ["credit"], list(words), signed=True)
axes.set_title("Eight words share one score (units of cosine)")
plotting.show(
    axes, alt="One row of signed cells: the Shapley value of each word of the caption; articles get next to nothing."
)

# %% [markdown]
# ### Another absence, another answer
# Words can also be *dropped*, so that those behind move up. And leaving out one word at a time, as is often done, is yet another question. All three on the same score:

# %%
dropped = shapley.exact(lambda present: game(present, drop=True), len(words))
lost_alone = shapley.leave_one_out(game, len(words))
print(f"{'':14} Shapley, unknown   Shapley, dropped   leave one out")
for word, a, b, c in zip(words, by_word, dropped, lost_alone):
    print(f"{word:14} {a:+16.3f} {b:+18.3f} {c:+15.3f}")
print(f"{'sum':14} {by_word.sum():+16.3f} {dropped.sum():+18.3f} {lost_alone.sum():+15.3f}   full minus empty {everybody - nobody:+.3f}")  # fmt: skip

# %% [markdown]
# Leave-one-out does not add up: what two words only bring together is counted twice, and what either of two would do is not counted at all. The other two columns are both exact and both fair, and they differ, because an unknown word and a missing word are different sentences. Neither was ever in the training data. **State your absence.**
#
# ## 4 When 2 to the n is too many: sampling
# Thirty players would need a billion sentences. Random orders give an estimate: let players come in some order, note what each adds, average.
#
# ### Exercise 8.5: values from a few orders
# Difficulty 2 of 3, about 12 minutes.
#
# Write `by_orders(value, n, orders)`: `orders` (R,n), each row an order of the players; `value` takes sets as rows (S,n) of bool to scores (S,). Return (n,): what each player adds when it comes, averaged over these orders.
#
# <details><summary>Hint 1</summary>For one order there are n + 1 sets: the first 0, 1, ..., n players. Their scores' differences are gains, in which order?</details>
# <details><summary>Hint 2</summary><code>totals[order] += np.diff(value(present))</code>: the gain at place j belongs to player order[j].</details>


# %% tags=["exercise"]
def by_orders(value, n, orders):
    """Mean over orders (R,n) of what each player adds -> (n,)."""
    # BEGIN SOLUTION
    totals = np.zeros(n)
    for order in orders:
        present = np.zeros((n + 1, n), dtype=bool)
        for place, player in enumerate(order):
            present[place + 1 :, player] = True
        totals[order] += np.diff(value(present))  # (n,)
    return totals / len(orders)
    # END SOLUTION


# %% tags=["check"]
shapley_values.check_by_orders(by_orders)

# %% [markdown]
# Using each order forwards and backwards cancels much of the noise; the package does, and gives a standard error, which exact values have no need of. Predict: how many questions until less than 5 % of the credit is misplaced? Asking for everything takes 256.


# %%
def misplaced(estimate, exact):
    """Share of all credit that is in the wrong place."""
    return np.abs(estimate - exact).sum() / np.abs(exact).sum()


def word_game(model, scene, instead=None):
    """The game of a scene's words, and their number; instead: ids (L,) that stand for absent words."""
    tokens, token_mask = (rows[0] for rows in retriever.tokenize([scene.captions[0].text]))
    picture = torch.from_numpy(scene.image).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        z = model.encode_image(picture)[0]

    @torch.no_grad()
    def value(present):
        absent = unknown if instead is None else instead
        hidden = absence.hide_words(tokens, token_mask, np.arange(len(tokens)), present, absent)
        return (model.encode_text(*hidden) @ z).numpy()

    return value, len(tokens)


# %%
test = scenes.Scenes(SEED, "test")
pairs = [2, 4, 8, 16, 32]
errors = np.zeros((sizes.noise_scenes, len(pairs)))
for i in range(sizes.noise_scenes):
    value, n = word_game(foils, test[i])
    exact_values = shapley.exact(value, n)
    for k, many in enumerate(pairs):
        errors[i, k] = misplaced(shapley.by_permutations(value, n, many, seed=i).values, exact_values)
asked = [2 + many * 2 * 7 for many in pairs]  # for captions of eight words
axes = plotting.lines(asked, {"random orders": errors.mean(axis=0)}, ("text",))
axes.axvline(256, color=plotting.COLOURS["neutral"], linestyle="--")
axes.set(xscale="log", ylim=(0, None), xlabel="sentences asked for (dashed: all 256)", ylabel="share of credit misplaced",
         title="Twice the accuracy costs about four times the questions",
         xticks=asked, xticklabels=asked)  # fmt: skip
axes.minorticks_off()
plotting.show(
    axes, alt="Misplaced credit against the number of sentences asked for, falling slowly; a line marks all 256."
)

# %% [markdown]
# ### The library
# `shap` is the tool you will meet elsewhere. It wants a function of rows of numbers and a *masker*; ours are rows of ones (there) and zeros (absent). Its exact explainer must agree with ours:

# %%
import shap

masker = shap.maskers.Independent(np.zeros((1, len(words))))
everyone = np.ones((1, len(words)))


def rows_game(rows):
    return game(np.asarray(rows) > 0.5)


theirs = shap.ExactExplainer(rows_game, masker)(everyone).values[0]
assert np.allclose(theirs, by_word, atol=1e-5)
print("shap's exact explainer agrees")

# %% [markdown]
# Its sampling explainers, given half of the questions that the exact answer takes. *Permutation* is section 4; *Kernel* fits a weighted linear model; *Partition* lets words come in groups, here neighbours first, which is another question (Owen values).

# %%
from scipy.cluster.hierarchy import linkage

tree = linkage(np.arange(len(words))[:, None], "average")  # neighbouring words join first
grouped = shap.maskers.Partition(np.zeros((1, len(words))), clustering=tree)
found = {
    "permutation": shap.PermutationExplainer(rows_game, masker, seed=SEED)(everyone, max_evals=119).values[0],
    "kernel": shap.KernelExplainer(rows_game, np.zeros((1, len(words)))).shap_values(
        everyone[0], nsamples=119, silent=True),
    "partition": shap.PartitionExplainer(rows_game, grouped)(everyone, max_evals=119).values[0],
}  # fmt: skip
for name, estimate in found.items():
    print(f"{name:12} misplaces {misplaced(estimate, by_word):.3f} of the credit, adds up to {estimate.sum():+.3f}")

# %% [markdown]
# On eight players exact values are cheap, so there is no reason to sample. On seventeen there is a better way than either; first the other modality.
#
# ## 5 Regions of the picture
# Nine regions are players now. Absent pixels show the picture's mean colour. 512 pictures, one phrase.

# %%
regions = absence.grid_regions(64, 64, 3, 3)  # (H,W), 0 to 8 like words on a page
mean_colour = absence.stand_in(image[None], "mean")[0]  # (3,H,W)
every_region = shapley.coalitions(9)  # (512,9)
kept = absence.kept_pixels(regions, every_region)  # (512,H,W)
shown = absence.hide_pixels(image, kept, mean_colour)  # (512,3,H,W)
few = [0, 1, 16, 170, 341, 511]
axes = plotting.gallery(list(shown[few].permute(0, 2, 3, 1).numpy()), [f"coalition {k}" for k in few], columns=6)
plotting.show(axes, alt="Six of the 512 pictures, with none, one, some and all of nine regions shown.")

# %%
noun_phrase = " ".join(word for word, owner in zip(words, scene.captions[0].owner) if owner == 0)
with torch.no_grad():
    z_regions = foils.encode_image(shown)  # (512,E)
    z_phrase = foils.encode_text(*retriever.tokenize([noun_phrase]))[0]  # (E,)
by_region = shapley.values_of((z_regions @ z_phrase).numpy())  # (9,)
axes = plotting.heat(by_region.reshape(3, 3), signed=True)
axes.set(xticks=[], yticks=[], title=f"Which regions paid for “{noun_phrase}”?")
plotting.show(axes, alt="Three by three matrix of signed credits; the region of the named object has the largest.")

# %% [markdown]
# A region's credit may be negative: where it appears, the score for this phrase goes down on average. A map that is cut at zero, as Grad-CAM's is, cannot say so. Credits are signed, and they add up.
#
# ## 6 Both at once, exactly
# Words and regions do not act alone: *frog* is worth nothing without the frog's pixels. So let all 17 be players of one game. Done naively, that is a joint forward pass for each of $2^{17}$ coalitions. But this model is two towers and a product:
#
# $$v(S_I \cup S_T) = z_I(S_I)\cdot z_T(S_T)$$
#
# ### Exercise 8.6: every coalition from one product
# Difficulty 2 of 3, about 10 minutes.
#
# Write `joint_scores(z_img, z_txt)`: z_img (2**a,E) and z_txt (2**b,E) in the order of coalitions. Return the scores of all 2**(a+b) joint coalitions in one row, with regions as the low bits: coalition k shows picture `k % 2**a` with sentence `k // 2**a`.
#
# <details><summary>Hint 1</summary>Which of the two must change fastest along the row?</details>
# <details><summary>Hint 2</summary>One matrix product, then <code>flatten</code>. Rows of which tower?</details>


# %% tags=["exercise"]
def joint_scores(z_img, z_txt):
    """(2**a,E), (2**b,E) -> (2**(a+b),), regions are the low bits."""
    # BEGIN SOLUTION
    return (z_txt @ z_img.T).flatten()  # (2**b,E) @ (E,2**a) -> (2**b,2**a) -> row
    # END SOLUTION


# %% tags=["check"]
shapley_values.check_joint_scores(joint_scores)

# %% [markdown]
# ### Exercise 8.7: count forward passes
# Difficulty 1 of 3, about 5 minutes.
#
# Nine regions, eight words. How many pictures and how many sentences must a two-tower model encode for exact joint values, and how many pairs a model whose towers attend to each other? Put the three numbers into `forwards`.
#
# <details><summary>Hint 1</summary>Each player is there or not.</details>
# <details><summary>Hint 2</summary>Where words and regions meet inside the model, every pair is a forward pass of its own.</details>

# %% tags=["exercise"]
forwards = ...
# BEGIN SOLUTION
forwards = (2**9, 2**8, 2**17)
# END SOLUTION

# %% tags=["check"]
shapley_values.check_forwards(forwards)

# %% [markdown]
# The package goes one step further. A Shapley weight depends on *how many* players are there, so embeddings of coalitions of equal size can be added up before they meet, and the long row is never made. Bridge:

# %%
import time

start = time.perf_counter()
with torch.no_grad():
    sentences = absence.hide_words(tokens, token_mask, players, shapley.coalitions(len(words)), unknown)
    z_words = foils.encode_text(*sentences)  # (256,E)
    z_regions = foils.encode_image(shown)  # (512,E)
found_joint = shapley.joint(z_regions, z_words)
seconds = time.perf_counter() - start
table = (z_words.double() @ z_regions.double().T).flatten().numpy()  # (131072,)
assert np.allclose(np.concatenate([found_joint.picture, found_joint.words]), shapley.values_of(table), atol=1e-9)
print(f"17 players, {len(table):,} coalitions, {seconds:.1f} s; values add up to within {found_joint.gap:.0e}")

# %%
record("joint/additivity_gap", float(found_joint.gap), chance=1.0)

# %% [markdown]
# 768 forward passes instead of 131,072, and no error at all. **Interactions** come with it: what a word and a region are worth *together*, beyond what each is worth alone. Where should the row of a noun be large?

# %%
axes = plotting.heat(found_joint.interactions.T, list(words), [str(k) for k in range(9)], signed=True)
axes.set(xlabel="region, like words on a page", title="Which word works with which region")
plotting.show(axes, alt="Matrix of words by regions; each noun has its largest interaction where its object is.")

# %% [markdown]
# ## 7 How much does each modality carry?
# ### Exercise 8.8: the words' share
# Difficulty 1 of 3, about 5 minutes.
#
# MM-SHAP (Parcalabescu and Frank 2023) measures a modality by the *size* of its players' values. Write `words_share(picture, words)`: the share of the words, given the values of regions (n_img,) and of words (n_txt,).
#
# <details><summary>Hint 1</summary>What happens to a sum of values of both signs?</details>
# <details><summary>Hint 2</summary>Two sums of absolute values, and a fraction.</details>


# %% tags=["exercise"]
def words_share(picture, words):
    """Share of the words in all credit, by size."""
    # BEGIN SOLUTION
    return words.abs().sum() / (words.abs().sum() + picture.abs().sum())
    # END SOLUTION


# %% tags=["check"]
shapley_values.check_words_share(words_share)

# %% [markdown]
# Over several test scenes, with intervals. Beside it, the same with regions turned grey instead of the mean colour: a share is a property of model *and* absence.

# %%
from tqdm.auto import tqdm

from course_utils import metrics


@torch.no_grad()
def joint_of(model, scene, kind="mean"):
    """Joint values of nine regions and a caption's words."""
    picture = torch.from_numpy(scene.image).permute(2, 0, 1).float() / 255
    pictures = absence.hide_pixels(picture, kept, absence.stand_in(picture[None], kind)[0])
    tokens, token_mask = (rows[0] for rows in retriever.tokenize([scene.captions[0].text]))
    sets = shapley.coalitions(len(tokens))
    hidden = absence.hide_words(tokens, token_mask, np.arange(len(tokens)), sets, unknown)
    return shapley.joint(model.encode_image(pictures), model.encode_text(*hidden))


some_joint = [joint_of(foils, test[i]) for i in tqdm(range(sizes.joint_scenes), leave=False)]
some_grey = [joint_of(foils, test[i], "grey") for i in tqdm(range(sizes.joint_scenes), leave=False)]
for name, found_joints in {"mean colour": some_joint, "grey": some_grey}.items():
    shares = np.array([one.share_of_words for one in found_joints])
    low, high = metrics.bootstrap_interval(shares, seed=SEED)
    print(f"{name:12} words carry {shares.mean():.2f} of the credit ({low:.2f} to {high:.2f})")
shares = np.array([one.share_of_words for one in some_joint])
record("share_of_words/foils", shares.mean(), metrics.bootstrap_interval(shares, seed=SEED), 0.5, excludes=(1.0,))

# %% [markdown]
# Words and picture both pay, and how much depends on what absent regions show: a picture without contrast is still a picture, grey is another one, and the model reads both. A share near 1 would mean that the picture hardly matters, a known disease of visual question answering; for a retriever it would be a disaster. Never quote a share without its absence and its players.
#
# ## 8 Does Grad-CAM agree?
# Lesson 07 judged maps by masks. Here are two explanations of one score, region by region; do they rank regions alike?
#
# ### Exercise 8.9: agreement of ranks
# Difficulty 2 of 3, about 8 minutes.
#
# Write `agreement(a, b)`: Spearman's rank correlation of two rows (R,) without ties: replace values by ranks, then take the ordinary correlation.
#
# <details><summary>Hint 1</summary><code>argsort</code> tells who stands at place k. You want the place of each.</details>
# <details><summary>Hint 2</summary><code>x.argsort().argsort()</code>, and <code>torch.corrcoef</code>.</details>


# %% tags=["exercise"]
def agreement(a, b):
    """Spearman's rank correlation of a and b, each (R,)."""
    # BEGIN SOLUTION
    ranks = torch.stack([a.argsort().argsort(), b.argsort().argsort()]).double()  # (2,R)
    return torch.corrcoef(ranks)[0, 1]
    # END SOLUTION


# %% tags=["check"]
shapley_values.check_agreement(agreement)

# %%
from scipy.stats import spearmanr

from course_utils import explain


def three_ways(i):
    """Regions of scene i by Shapley values, by leaving one out, by Grad-CAM, and how much object is in each; (9,) each."""
    one = test[i]
    caption, picture = one.captions[0], torch.from_numpy(one.image).permute(2, 0, 1).float() / 255
    text = " ".join(word for word, owner in zip(caption.words, caption.owner) if owner == 0)
    with torch.no_grad():
        z = foils.encode_text(*retriever.tokenize([text]))  # (1,E)
        pictures = absence.hide_pixels(picture, kept, absence.stand_in(picture[None], "mean")[0])
        scores = (foils.encode_image(pictures) @ z[0]).numpy()  # (512,)
    maps = explain.grad_cams(foils.encode_image, foils.image_tower.features[5], picture[None], z)
    cam = torch.nn.functional.interpolate(maps, size=(64, 64), mode="bilinear")[0, 0].numpy()
    by_pixels = [np.bincount(regions.ravel(), x.ravel()) for x in (cam, one.masks[0])]
    return shapley.values_of(scores), scores[-1] - scores[511 - (1 << np.arange(9))], *by_pixels


ways = np.array([three_ways(i) for i in tqdm(range(sizes.joint_scenes), leave=False)])  # (N,4,9)

# %%
names = ("Shapley", "leave one out", "Grad-CAM")
for k, name in enumerate(names):
    right = (ways[:, k].argmax(axis=1) == ways[:, 3].argmax(axis=1)) * 1.0
    ranked = np.array([spearmanr(one[0], one[k]).statistic for one in ways])
    low, high = metrics.bootstrap_interval(ranked, seed=SEED)
    print(f"{name:14} best region right {right.mean():.2f}, agreement with Shapley {ranked.mean():.2f} ({low:.2f} to {high:.2f})")  # fmt: skip
with_cam = np.array([spearmanr(one[0], one[2]).statistic for one in ways])
record("agreement/grad_cam", with_cam.mean(), metrics.bootstrap_interval(with_cam, seed=SEED), 0.0, excludes=(1.0,))

# %% [markdown]
# They agree, far from perfectly: one asks what tiny changes do at one layer, the other what happens when regions come and go. Guessing gets the best region right once in nine.
#
# ## 9 The surprise: what is *left* paid?
# In lesson 02 a model trained on random pairs told *left of* from *right of* at chance; with twins in the batch it learned the difference. Both are shipped. Predict for the model that **cannot** tell left from right: how much credit does the relation get, with the unknown word as absence?

# %%
plain = shipped.load("scenes_plain").model
relation_words = {"left", "right", "above", "below"}


def relation_credit(model, i, absent_words):
    """Credit of the relation's word in caption 0 of scene i; absent_words: caption -> ids (L,) or None."""
    caption = test[i].captions[0]
    value, n = word_game(model, test[i], absent_words(i))
    credit = shapley.exact(value, n)
    return sum(credit[k] for k, word in enumerate(caption.words) if word in relation_words)


def with_interval(values):
    low, high = metrics.bootstrap_interval(values, seed=SEED)
    return f"{np.mean(values):+.3f} ({low:+.3f} to {high:+.3f})"


for name, model in {"plain": plain, "foils": foils}.items():
    paid = [relation_credit(model, i, lambda i: None) for i in range(sizes.word_scenes)]
    print(f"{name}: left, right, above or below is paid {with_interval(paid)}")

# %% [markdown]
# The model that cannot tell left from right pays for *left*, and its interval excludes zero. A bug? No: it knows that *left* and *right* belong to scenes where objects stand side by side, and *above* and *below* to those where they stand one over the other. It knows the axis and not the direction, and an unknown word takes both away.
# To ask about the **direction**, the absent word must keep the axis: its opposite. So the stand-in for *left* is *right*.

# %%
opposite = {"left": "right", "right": "left", "above": "below", "below": "above"}
across = {"left": "above", "right": "below", "above": "left", "below": "right"}


def replaced_by(other):
    """Ids that stand for absent words: the relation's by `other`, the rest unknown."""

    def ids(i):
        chosen = [other.get(word, "[UNK]") for word in test[i].captions[0].words]
        return torch.tensor([retriever.tokenizer.token_to_id(word) for word in chosen])

    return ids


paid = {}
for question, other in {"direction": opposite, "axis": across}.items():
    for name, model in {"plain": plain, "foils": foils}.items():
        values = [relation_credit(model, i, replaced_by(other)) for i in range(sizes.word_scenes)]
        paid[question, name] = np.array(values)
        print(f"{question:10} {name}: {with_interval(values)}")

# %%
rows = [(question, name) for question in ("axis", "direction") for name in ("plain", "foils")]
ranges = np.array([metrics.bootstrap_interval(paid[row], seed=SEED) for row in rows])
axes = plotting.bars([f"{question}, {name}" for question, name in rows], [paid[row].mean() for row in rows], ranges, colour="text")  # fmt: skip
axes.set(
    xlabel="credit of the relation's word, in units of cosine", title="Both know the axis; one knows the direction"
)
plotting.show(
    axes, alt="Bars: both models pay for the axis; for the direction the plain model pays nothing, the other a lot."
)

# %%
plain_paid, foils_paid = paid["direction", "plain"], paid["direction", "foils"]
plain_range, foils_range = (metrics.bootstrap_interval(values, seed=SEED) for values in (plain_paid, foils_paid))
record("relation_credit/plain", plain_paid.mean(), plain_range, excludes=(foils_paid.mean(),))
record("relation_credit/foils", foils_paid.mean(), foils_range, chance=0.0)
print(f"intervals {'apart' if plain_range[1] < foils_range[0] else 'overlap'}")

# %% [markdown]
# Recall@1 could not tell these two models apart (lesson 02). The credit can, if the absence asks the right question. With the wrong one, we would have praised the plain model for a word that it does not understand.
#
# ## 10 Bug hunt: a background that leaks
# A friend finds mean colours ugly and hides regions by a *blur*: "nobody can see anything in there". Look for yourself:


# %%
def soft_blur(images):
    """What a friend shows where a region is absent: (N,3,H,W) -> (N,3,H,W)."""
    offsets = torch.arange(-6.0, 7.0)
    bell = torch.exp(-0.5 * (offsets / 2) ** 2)
    kernel = (torch.outer(bell, bell) / bell.sum() ** 2).expand(3, 1, 13, 13)
    padded = torch.nn.functional.pad(images, (6, 6, 6, 6), mode="reflect")
    return torch.nn.functional.conv2d(padded, kernel, groups=3)


blurred = soft_blur(image[None])[0]
axes = plotting.gallery(
    [scene.image, blurred.permute(1, 2, 0).numpy()], ["the picture", "everything absent"], columns=2
)
plotting.show(axes, alt="The scene and its soft blur: colours and outlines of both objects can still be made out.")

# %% [markdown]
# ### Exercise 8.10: a test for leaks
# Difficulty 3 of 3, about 12 minutes.
#
# Write `leaks(instead, images, encode_image, z_txt)`. `instead` turns images (N,3,H,W) into what is shown where all is absent, `encode_image` gives (N,E), and sentence i of z_txt (N,E) belongs to picture i. Return True if the stand-ins give the answer away: if they, too, find their own sentences among all N clearly more often than chance.
#
# <details><summary>Hint 1</summary>This is retrieval: recall@1 of pictures that should show nothing. What is chance for N sentences?</details>
# <details><summary>Hint 2</summary>Mind ties: if all stand-ins are equal, every picture finds the same sentence. "Five times chance" is a fair line.</details>


# %% tags=["exercise"]
def leaks(instead, images, encode_image, z_txt):
    """Whether pictures in which all is absent still find their own sentences."""
    # BEGIN SOLUTION
    scores = encode_image(instead(images)) @ z_txt.T  # (N,E) @ (E,N) -> (N,N)
    found = (scores.argmax(dim=1) == torch.arange(len(scores))).float().mean()
    return bool(found > 5 / len(scores))
    # END SOLUTION


# %% tags=["check"]
shapley_values.check_leaks(leaks)

# %% [markdown]
# The lesson's own version on real scenes: recall@1 of "nothing", for four kinds of nothing.

# %%
count = sizes.leak_scenes
pictures = torch.from_numpy(test.images(range(count))).permute(0, 3, 1, 2).float() / 255  # (N,3,H,W)
kinds = {
    "grey": lambda x: absence.stand_in(x, "grey"),
    "mean colour": lambda x: absence.stand_in(x, "mean"),
    "strong blur": lambda x: absence.stand_in(x, "blur"),
    "soft blur": soft_blur,
}
with torch.no_grad():
    z_captions = foils.encode_text(*retriever.tokenize(test.captions(range(count))))  # (N,E)
    recall = {}
    for name, instead in kinds.items():
        scores = (foils.encode_image(instead(pictures)) @ z_captions.T).numpy()  # (N,N)
        recall[name] = metrics.recall_at_k(scores, np.arange(count))
for name, hits in recall.items():
    low, high = metrics.bootstrap_interval(hits, seed=SEED)
    print(f"{name:12} recall@1 of nothing {hits.mean():.3f} ({low:.3f} to {high:.3f}), chance {1 / count:.3f}")
record("leak/soft_blur_recall_at_1", recall["soft blur"].mean(),
       metrics.bootstrap_interval(recall["soft blur"], seed=SEED), 1 / count)  # fmt: skip

# %% [markdown]
# Nothing that finds its own caption is not nothing. What does that do to the values? With a leak, "absent" regions still pay:

# %%
honest, leaky = [], []
for i in range(min(sizes.joint_scenes, 20)):
    one = pictures[i : i + 1]
    for credit, nothing in ((honest, absence.stand_in(one, "mean")), (leaky, soft_blur(one))):
        with torch.no_grad():
            ends = foils.encode_image(torch.cat([nothing, one])) @ z_captions[i]  # nobody, everybody
        credit.append(float(ends[1] - ends[0]))
print(f"the picture's credit in all: mean colour {with_interval(honest)}, soft blur {with_interval(leaky)}")

# %% [markdown]
# The picture seems to matter less, only because "without the picture" was never asked. A background is part of the question, and recall@1 of nothing is a cheap test of it.
#
# ## What we saw

# %%
from IPython.display import Markdown

Markdown(f"""
- Credits add up: 17 players, 131,072 coalitions, a gap of {float(found_joint.gap):.0e}, from 768 forward passes in {seconds:.1f} s.
- Sampling orders with {2 + 8 * 14} questions misplaced {errors[:, 2].mean():.2f} of the credit where 256 questions are exact.
- Words carried {shares.mean():.2f} of the credit in the model trained with foils.
- The direction of a relation is paid {plain_paid.mean():+.3f} by the plain model and {foils_paid.mean():+.3f} after foils; its axis is paid by both.
- A soft blur as "nothing" found its own caption in {recall["soft blur"].mean():.2f} of {count} scenes, where chance is {1 / count:.3f}.
""")

# %% [markdown]
# ## Questions
# 1. Why do Shapley values add up to the score minus that of nobody, and leave-one-out losses not?
# 2. Two regions show the same object, and either is enough. What does each get from Shapley, and from leave-one-out?
# 3. For which models does the product of two towers not help? What would you do there?
# 4. Why can embeddings be added up by the size of their coalition before they meet?
# 5. The words' share fell when absent regions turned grey instead of mean-coloured. Did the model change? Which of the two would you report?
# 6. Why was the opposite word the right absence for the question of direction, and the unknown word the wrong one?
# 7. How would you choose an absence for photographs?
# 8. A paper reports SHAP values to four digits from 500 samples. What would you ask for?

# %% [markdown] tags=["solution"]
# **Answers in short.** 1: along one order gains telescope from nobody to everybody, and a mean of such sums is such a sum; leave-one-out takes every loss from the full set, so what two bring together is counted twice. 2: half each; nothing each. 3: those in which words and regions meet inside, by cross-attention; sample orders, or let fewer, larger
# players play. 4: a Shapley weight depends on sizes alone, and the product is linear in each factor. 5: no, the question did: report both, since neither is *the* share. 6: the opposite keeps everything but the direction; the unknown word takes the axis away as well. 7: several, reported side by side, each with the recall of "nothing". 8: the standard error, the number of players, the absence,
# and whether exact values were out of reach.

# %% [markdown]
# ## References
# - Shapley 1953, *A value for n-person games*.
# - Lundberg and Lee 2017, *A unified approach to interpreting model predictions* (SHAP).
# - Grabisch and Roubens 1999, *An axiomatic approach to the concept of interaction among players in cooperative games*.
# - Mitchell et al. 2022, *Sampling permutations for Shapley value estimation* (orders forwards and backwards).
# - Parcalabescu and Frank 2023, *MM-SHAP: a performance-agnostic metric for measuring multimodal contributions*.
# - Yuksekgonul et al. 2023, *When and why vision-language models behave like bags-of-words*.
# - Jain et al. 2022, *Missingness bias in model debugging* (what stands where something is absent).
