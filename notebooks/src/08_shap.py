# %% [markdown]
# # 08 SHAP: which words and which patches paid for the score?
#
# > **You will be able to** compute Shapley values exactly and by sampling, share a score among words *and* regions of a
# > picture at once, measure what the choice of "absent" changes, say how much each modality carries and what that does
# > not tell, and catch a background that leaks the answer.
# >
# > **Time** 75 minutes. **Needs** lesson 02 (two towers); lesson 07 helps. **Runs** in about a minute (`smoke`), under
# > five minutes on two CPU cores (`cpu`); `gpu` sizes are there and not yet run.

# %% tags=["parameters"]
PROFILE = "auto"
SEED = 0

# %% [markdown]
# A profile changes numbers and nothing else. Here are all of this lesson's; the cells below read them from `sizes`.

# %%
sizes = session.choose(
    noise_scenes=(8, 30, 100),
    joint_scenes=(6, 30, 100),
    word_scenes=(50, 300, 1_000),
    leak_scenes=(150, 400, 1_000),
    photo_scenes=(2, 8, 40),
)
sizes

# %% [markdown]
# ## 1 Two words share a score
# A model gives a picture and *nothing* a score of 0.1, *red* 0.2, *pig* 0.5 and *red pig* 0.9. How much of the 0.9 is due
# to *red*? Added to nothing it brings 0.1; added to *pig* it brings 0.4. Both are true. Shapley (1953) averages over the
# orders in which players may come, and proves that no other rule is fair in four plain senses.

# %% tags=["nbval-check-output"]
import itertools
from math import factorial

import numpy as np
import torch

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
# Put the two Shapley values, of *red* and of *pig*, into `credits`. Check for yourself that they add up to what both
# together bring.
#
# <details><summary>Hint 1</summary>Each word comes first in one order and second in the other.</details>
# <details><summary>Hint 2</summary>The mean of what the two lines above say, word by word.</details>

# %% tags=["exercise"]
credits = ...
# BEGIN SOLUTION
credits = ((0.1 + 0.4) / 2, (0.4 + 0.7) / 2)
# END SOLUTION

# %% tags=["check"]
shapley_values.check_credits(credits)

# %% [markdown]
# ## 2 Every set of players, once
# With $n$ players there are $n!$ orders but only $2^n$ **coalitions**, sets of players who are there. All orders in which
# the same players come before player $i$ give the same gain, so one weight a set is enough:
#
# $$\phi_i = \sum_{S \not\ni i} \frac{|S|!\,(n-|S|-1)!}{n!}\,\big(v(S\cup i) - v(S)\big)$$
#
# ### Exercise 8.2: all coalitions
# Difficulty 1 of 3, about 6 minutes.
#
# Write `coalitions(n)`: a table of bool with a row for each set of n players and a column for each player, True where the
# player is there. Any order of rows will do.
#
# <details><summary>Hint 1</summary>How many rows are there for n = 3? Nobody is a set too.</details>
# <details><summary>Hint 2</summary><code>itertools.product([False, True], repeat=n)</code>, or the binary digits of 0 to
# 2**n - 1.</details>


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
# Write `shapley_of(value, player, n)`: the formula above, for one player of 0 to n - 1. `value` takes a `frozenset` of
# players and gives a number.
#
# <details><summary>Hint 1</summary>Which sets does the sum run over? Is the empty one among them?</details>
# <details><summary>Hint 2</summary><code>itertools.combinations(others, size)</code> for each size from 0 to n - 1.
# </details>


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
# The package numbers coalitions by their bits: in coalition 5 = 101 players 0 and 2 are there. From the scores of all
# $2^n$ it gives all $n$ values. Bridge, by the definition over orders:

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
# Now a real score: the two-tower model of lesson 02 that learned its relations from foils, one test scene, its caption.
# The players are the eight words.

# %%
from course_utils import plotting, scenes, shipped

retriever = shipped.load("scenes_foils")
foils = retriever.model
scene = scenes.Scenes(0, "test")[4]  # the example; many others follow
image = torch.from_numpy(scene.image).permute(2, 0, 1).float() / 255  # (3,H,W)
axes = plotting.gallery([scene.image], [scene.captions[0].text], columns=1)
plotting.show(axes, alt="One scene: two objects on a plain shaded background, with its caption below.")

# %% [markdown]
# What is a sentence *without* "left"? A text tower reads a row of tokens and has no notion of a hole. One answer: put the
# unknown word there.
#
# ### Exercise 8.4: hide words
# Difficulty 1 of 3, about 6 minutes.
#
# Write `hide(tokens, present, unknown)`: tokens (L,), present (S,L) of bool. Row s of the result (S,L) holds the tokens
# that are present in set s, and `unknown` elsewhere.
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
# With that, the score is a **game**: a function of who is there. All 256 sentences are one batch, so eight players are
# exact by enumeration.

# %%
from course_utils import absence

words = scene.captions[0].words
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
plotting.show(axes, alt="One row of signed cells: the Shapley value of each word of the caption.")

# %% [markdown]
# Each cell is what a word adds to the cosine, averaged over all orders. Violet adds, orange takes away.
#
# ### Another absence, another answer
# Words can also be *dropped*, so that those behind move up. And leaving out one word at a time, as is often done, is yet
# another question. All three on the same score:

# %%
dropped = shapley.exact(lambda present: game(present, drop=True), len(words))
lost_alone = shapley.leave_one_out(game, len(words))
columns = {"Shapley, unknown": by_word, "Shapley, dropped": dropped, "leave one out": lost_alone}
print(" " * 14 + "".join(f"{name:>18}" for name in columns))
for k, word in enumerate(words):
    print(f"{word:14}" + "".join(f"{column[k]:+18.3f}" for column in columns.values()))
print(f"{'sum':14}" + "".join(f"{column.sum():+18.3f}" for column in columns.values()))
print(f"full minus empty, where absent words are unknown: {everybody - nobody:+.3f}")

# %% [markdown]
# Leave-one-out does not add up: what two words only bring together is counted twice, and what either of two would do is
# not counted at all. The other two columns are both exact and both fair, and they differ, because an unknown word and a
# missing word are different sentences. Neither was ever in the training data. **State your absence.**
#
# ## 4 When 2 to the n is too many: sampling
# Thirty players would need a billion sentences. Random orders give an estimate: let players come in some order, note what
# each adds, average.
#
# ### Exercise 8.5: values from a few orders
# Difficulty 2 of 3, about 12 minutes.
#
# Write `by_orders(value, n, orders)`: `orders` (R,n), each row an order of the players; `value` takes sets as rows (S,n)
# of bool to scores (S,). Return (n,): what each player adds when it comes, averaged over these orders.
#
# <details><summary>Hint 1</summary>For one order there are n + 1 sets: the first 0, 1, ..., n players. Differences of
# their scores are gains, in which order?</details>
# <details><summary>Hint 2</summary><code>totals[order] += np.diff(value(present))</code>: the gain at place j belongs to
# player order[j].</details>


# %% tags=["exercise"]
def by_orders(value, n, orders):
    """Mean over orders (R,n) of what each player adds -> (n,)."""
    # BEGIN SOLUTION
    totals = np.zeros(n)
    for order in orders:
        present = order.argsort() < np.arange(n + 1)[:, None]  # (n+1,n): the first 0, 1, ..., n players
        totals[order] += np.diff(value(present))  # (n,)
    return totals / len(orders)
    # END SOLUTION


# %% tags=["check"]
shapley_values.check_by_orders(by_orders)

# %% [markdown]
# Using each order forwards and backwards cancels much of the noise; the package does, and gives a standard error, which
# exact values have no need of. Predict: how many questions until less than 5 % of the credit is misplaced? Asking for
# everything takes 256.


# %%
def misplaced(estimate, exact):
    """Share of all credit that is in the wrong place."""
    return np.abs(estimate - exact).sum() / np.abs(exact).sum()


def pixels_of(scene):
    """(3,H,W) in 0 to 1."""
    return torch.from_numpy(scene.image).permute(2, 0, 1).float() / 255


def word_game(model, scene, instead=None):
    """The game of a scene's words, and their number; instead: ids (L,) that stand for absent words."""
    tokens, token_mask = (rows[0] for rows in retriever.tokenize([scene.captions[0].text]))
    with torch.no_grad():
        z = model.encode_image(pixels_of(scene)[None])[0]

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
better = errors[:, 0].mean() / errors[:, -1].mean()
axes = plotting.lines(asked, {"random orders": errors.mean(axis=0)}, ("text",))
axes.axvline(256, color=plotting.COLOURS["neutral"], linestyle="--")
axes.set(xscale="log", ylim=(0, None), xlabel="sentences asked for (dashed: all 256)", ylabel="share of credit misplaced",
         title=f"16 times the orders, {better:.1f} times the accuracy", xticks=asked, xticklabels=asked)  # fmt: skip
axes.minorticks_off()
plotting.show(axes, alt="Misplaced credit falls slowly with the number of sentences asked for; a line marks all 256.")

# %% [markdown]
# Noise falls with the root of the number of orders: from 16 times as many, expect a quarter of the error. Long before
# sampling is good to a percent, it has cost more than asking for everything.
#
# ### The library
# `shap` is the tool you will meet elsewhere. It wants a function of rows of numbers and a *masker*; ours are rows of ones
# (there) and zeros (absent). Its exact explainer must agree with ours:

# %% tags=["nbval-check-output"]
import shap

masker = shap.maskers.Independent(np.zeros((1, 8)))
theirs = shap.ExactExplainer(lambda rows: game(np.asarray(rows) > 0.5), masker)(np.ones((1, 8))).values[0]
assert np.allclose(theirs, by_word, atol=1e-5)
print("shap's exact explainer agrees")

# %% [markdown]
# Its sampling explainers are for games too large for that. Here we own all 256 answers, so a question costs us nothing
# but a look-up, and we can count what each explainer asks.


# %%
class Counted:
    """A game whose answers (2**n,) are known: looks them up, counts them, and refuses more than `most`."""

    def __init__(self, answers, most=10**9):
        self.answers, self.most, self.asked = answers, most, 0

    def __call__(self, rows):
        present, n = np.asarray(rows) > 0.5, len(self.answers).bit_length() - 1
        if present.ndim != 2 or present.shape[1] != n:
            raise ValueError(f"sets are rows of a table (S,{n}) of bool; got {present.shape}")
        self.asked += len(present)
        if self.asked > self.most:
            raise ValueError(f"this was question {self.asked:,}; {self.most:,} are allowed")
        return self.answers[present @ (1 << np.arange(n))]  # (S,n) @ (n,) -> (S,)


# %% [markdown]
# *Permutation* is what you have just written, forwards and backwards. *Kernel* draws sets and fits a weighted linear
# model, whose coefficients are Shapley values once every set is drawn. *Partition* takes a tree of players and lets whole
# branches come or go, here neighbours first. It asks less, and it asks something else (Owen values).

# %%
from scipy.cluster.hierarchy import linkage


def permutation(value, n, budget):
    explainer = shap.PermutationExplainer(value, shap.maskers.Independent(np.zeros((1, n))), seed=0)
    return explainer(np.ones((1, n)), max_evals=budget, silent=True).values[0]


def kernel(value, n, budget):
    np.random.seed(0)  # it draws from NumPy's global generator
    explainer = shap.KernelExplainer(value, np.zeros((1, n)))
    return explainer.shap_values(np.ones(n), nsamples=budget - 2, l1_reg=False, silent=True)


def partition(value, n, budget, places):
    """places (n,3): players close together join first."""
    grouped = shap.maskers.Partition(np.zeros((1, n)), clustering=linkage(places, "average"))
    return shap.PartitionExplainer(value, grouped)(np.ones((1, n)), max_evals=budget, silent=True).values[0]


# %%
def compare(answers, places, budget):
    """A line for each explainer: questions asked, share of credit misplaced."""
    exact_values = shapley.values_of(answers)
    for name, run in {"permutation": permutation, "kernel": kernel, "partition": partition}.items():
        value = Counted(answers)
        more = (places,) if run is partition else ()
        error = misplaced(run(value, len(places), budget, *more), exact_values)
        print(f"{name:12} asks {value.asked:4} of {len(answers):,}, misplaces {error:.3f} of the credit")


def in_a_row(n):
    """Places of words: next to each other, far from any region."""
    return np.stack([np.arange(n), np.zeros(n), np.full(n, 100)], axis=1)


compare(game(shapley.coalitions(8)).astype(float), in_a_row(8), budget=128)

# %% [markdown]
# Half of all questions, and several percent of the credit are still in the wrong place. On eight players exact values are
# cheap, so there is no reason to sample.
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

# %% [markdown]
# Coalition 0 is nobody, 1 the region at top left, 16 the middle, 511 everybody. Which region will pay for the first
# object's phrase?


# %%
def phrase_of(caption, owner):
    """The words that a caption says of one object."""
    return " ".join(word for word, mine in zip(caption.words, caption.owner) if mine == owner)


noun_phrase = phrase_of(scene.captions[0], 0)
with torch.no_grad():
    z_regions = foils.encode_image(shown)  # (512,E)
    z_phrase = foils.encode_text(*retriever.tokenize([noun_phrase]))[0]  # (E,)
region_answers = (z_regions @ z_phrase).double().numpy()  # (512,E) @ (E,) -> (512,)
by_region = shapley.values_of(region_answers)  # (9,)
axes = plotting.heat(by_region.reshape(3, 3), signed=True)
axes.set(xticks=[], yticks=[], title=f"Which regions paid for “{noun_phrase}”?")
plotting.show(axes, alt="Three by three matrix of signed credits, one cell a region of the picture.")

# %% [markdown]
# A region's credit may be negative: where it appears, the score for this phrase goes down on average. A map that is cut
# at zero, as Grad-CAM's is, cannot say so. Credits are signed, and they add up.
#
# The three explainers on regions. Which are neighbours on a page? Places say so, as they did for words.

# %%
on_the_page = np.stack([np.arange(9) // 3, np.arange(9) % 3, np.zeros(9)], axis=1)  # (9,3)
compare(region_answers, on_the_page, budget=128)

# %% [markdown]
# A quarter of the questions, and a smaller error than on words: one region matters and most do not, and a game that is
# nearly a sum is an easy one. How hard sampling is depends on how much players act together.
#
# ## 6 Both at once, exactly
# Words and regions do not act alone: *frog* is worth nothing without the frog's pixels. So let all 17 be players of one
# game. Done naively, that is a joint forward pass for each of $2^{17}$ coalitions. But this model is two towers and a
# product:
#
# $$v(S_I \cup S_T) = z_I(S_I)\cdot z_T(S_T)$$
#
# ### Exercise 8.6: every coalition from one product
# Difficulty 2 of 3, about 10 minutes.
#
# Write `joint_scores(z_img, z_txt)`: z_img (2**a,E) and z_txt (2**b,E) in the order of coalitions. Return the scores of
# all 2**(a+b) joint coalitions in one row, with regions as the low bits: coalition k shows picture `k % 2**a` with
# sentence `k // 2**a`.
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
# Nine regions, eight words. How many pictures and how many sentences must a two-tower model encode for exact joint
# values, and how many pairs a model whose towers attend to each other? Put the three numbers into `forwards`.
#
# <details><summary>Hint 1</summary>Each player is there or not.</details>
# <details><summary>Hint 2</summary>Where words and regions meet inside the model, every pair is a forward pass of its
# own.</details>

# %% tags=["exercise"]
forwards = ...
# BEGIN SOLUTION
forwards = (2**9, 2**8, 2**17)
# END SOLUTION

# %% tags=["check"]
shapley_values.check_forwards(forwards)

# %% [markdown]
# The package goes one step further. A Shapley weight depends on *how many* players are there, so embeddings of coalitions
# of equal size can be added up before they meet, and the long row is never made. Bridge:

# %%
import time

start = time.perf_counter()
with torch.no_grad():
    sentences = absence.hide_words(tokens, token_mask, players, shapley.coalitions(len(words)), unknown)
    z_words = foils.encode_text(*sentences)  # (256,E)
    z_regions = foils.encode_image(shown)  # (512,E)
found_joint = shapley.joint(z_regions, z_words)
seconds = time.perf_counter() - start
answers = (z_words.double() @ z_regions.double().T).flatten().numpy()  # (131072,)
by_player = np.concatenate([found_joint.picture, found_joint.words])  # (17,)
assert np.allclose(by_player, shapley.values_of(answers), atol=1e-9)
print(f"17 players, {len(answers):,} coalitions, {seconds:.1f} s; values add up to within {found_joint.gap:.0e}")

# %% [markdown]
# 768 forward passes instead of 131,072, and no error but rounding. Adding up is a test that a wrong rule fails. Two that
# look much alike: leave-one-out, and the mean over all sets with equal weights (Banzhaf's value).

# %%
which = np.arange(len(answers))
there = [(which >> k & 1).astype(bool) for k in range(17)]
banzhaf = np.array([answers[one].mean() - answers[~one].mean() for one in there])
left_out = np.array([answers[-1] - answers[len(answers) - 1 - 2**k] for k in range(17)])
to_share = answers[-1] - answers[0]
gaps = {name: abs(rule.sum() - to_share) for name, rule in {"leave one out": left_out, "Banzhaf": banzhaf}.items()}
print(f"to share {to_share:.3f};", ", ".join(f"{name} misses it by {gap:.3f}" for name, gap in gaps.items()))
record("joint/additivity_gap", float(found_joint.gap), excludes=(1e-6, *gaps.values()))

# %% [markdown]
# ### Cost against error
# And shap's explainers on all 17? To them the model is a box that takes a picture *and* a sentence: a question is one of
# each. First the price of a question, then how many of them the exact answer's seconds would buy.


# %%
@torch.no_grad()
def box(rows):
    """The joint game as a black box: (S,17) -> (S,), a picture and a sentence encoded for each row."""
    present = np.asarray(rows) > 0.5
    pictures = absence.hide_pixels(image, absence.kept_pixels(regions, present[:, :9]), mean_colour)
    hidden = absence.hide_words(tokens, token_mask, players, present[:, 9:], unknown)
    return (foils.encode_image(pictures) * foils.encode_text(*hidden)).sum(dim=1).numpy()  # (S,E) * (S,E) -> (S,)


some_rows = np.random.default_rng(SEED).random((256, 17)) < 0.5
start = time.perf_counter()
answered = box(some_rows)
price = (time.perf_counter() - start) / 256  # seconds a question
assert np.allclose(answered, answers[some_rows @ (1 << np.arange(17))], atol=1e-5)  # the box and the table agree
affordable = int(seconds / price)
print(f"a question takes {1000 * price:.2f} ms; exact values took {seconds:.2f} s, the price of {affordable} questions")

# %% [markdown]
# Box and table agree, so we may look answers up on many scenes and count. Embeddings of coalitions are kept: the rest of
# the lesson needs them, for several kinds of absence.

# %%
import matplotlib.pyplot as plt
from tqdm.auto import tqdm

from course_utils import metrics


def ground(scene):
    """The scene's own background (3,H,W): a plane through the colours of the pixels that no object covers."""
    side = len(scene.image)
    y, x = np.mgrid[:side, :side].reshape(2, -1)  # (H*W,) each
    plane = np.stack([np.ones_like(x), x, y], axis=1)  # (H*W,3)
    free = ~scene.masks.any(axis=0).ravel()  # (H*W,)
    fit = np.linalg.lstsq(plane[free], scene.image.reshape(-1, 3)[free] / 255, rcond=None)[0]  # (3,3)
    return torch.from_numpy((plane @ fit).reshape(side, side, 3)).permute(2, 0, 1).float().clip(0, 1)


def nothing(i, kind):
    """What is seen where regions of scene i are absent: (3,H,W)."""
    if kind == "own ground":
        return ground(test[i])
    if kind == "another scene":
        return pixels_of(test[i + 1])
    return absence.stand_in(pixels_of(test[i])[None], kind)[0]


# %%
@torch.no_grad()
def z_of_regions(model, i, kind="mean"):
    """(512,E): scene i with each set of its regions."""
    return model.encode_image(absence.hide_pixels(pixels_of(test[i]), kept, nothing(i, kind))).numpy()


@torch.no_grad()
def z_of_words(model, sentence, drop=False):
    """(2**n,E): the sentence with each set of its n words."""
    tokens, token_mask = (rows[0] for rows in retriever.tokenize([sentence]))
    n = len(tokens)
    hidden = absence.hide_words(tokens, token_mask, np.arange(n), shapley.coalitions(n), unknown, drop)
    return model.encode_text(*hidden).numpy()


joint_range = range(sizes.joint_scenes)
captions = [test[i].captions[0] for i in joint_range]
kinds = ("grey", "mean", "blur", "own ground", "another scene")
pictures_of = {kind: [z_of_regions(foils, i, kind) for i in tqdm(joint_range, leave=False)] for kind in kinds}
sentences_of = [z_of_words(foils, caption.text) for caption in captions]


# %%
def with_interval(values):
    low, high = metrics.bootstrap_interval(values, seed=SEED)
    return f"{np.mean(values):.3f} ({low:.3f} to {high:.3f})"


budgets = (105, 210, 420, 768, 1_536)
explainers = {"permutation": permutation, "kernel": kernel, "partition": partition}
joint_errors = {name: np.zeros((sizes.joint_scenes, len(budgets))) for name in explainers}
joint_games = []  # (answers, exact values) of each scene
for i in tqdm(joint_range, leave=False):
    table = (sentences_of[i].astype(float) @ pictures_of["mean"][i].T).ravel()
    n = len(table).bit_length() - 1
    joint_games.append((table, shapley.values_of(table)))
    places = np.concatenate([on_the_page, in_a_row(n - 9)])  # (n,3)
    for k, budget in enumerate(budgets):
        for name, run in explainers.items():
            more = (places,) if run is partition else ()
            joint_errors[name][i, k] = misplaced(run(Counted(table), n, budget, *more), joint_games[i][1])

# %% [markdown]
# Predict, before the figure: at which budget does each explainer come below 5 %? Which one stops getting better?

# %%
nearest = int(np.abs(np.log(np.array(budgets) / affordable)).argmin())  # the budget that costs about as many seconds
least = min(of_scenes.mean(axis=0)[nearest] for of_scenes in joint_errors.values())
axes = plotting.lines(budgets, {name: of_scenes.mean(axis=0) for name, of_scenes in joint_errors.items()},
                      ("image", "text", "neutral"))  # fmt: skip
axes.axvline(affordable, color=plotting.COLOURS["neutral"], linestyle="--")
axes.axhline(0, color=plotting.COLOURS["sound"], linewidth=3)
axes.annotate("exact: 512 pictures, 256 sentences", (budgets[0], 0), xytext=(0, -14), textcoords="offset points")
axes.set(xscale="log", ylim=(-0.045, None), xlabel="questions asked of the box (dashed: as many seconds as exact values)",
         ylabel="share of credit misplaced", xticks=budgets, xticklabels=budgets,
         title=f"For the same seconds the best explainer misplaces {least:.2f}")  # fmt: skip
axes.minorticks_off()
plotting.show(axes, alt="Error of three explainers over questions asked; exact values lie at zero.")
for name, of_scenes in joint_errors.items():
    print(f"{name:12} {budgets[nearest]} questions misplace {with_interval(of_scenes[:, nearest])}")
at_420 = joint_errors["kernel"][:, budgets.index(420)]
record("sampling/kernel_420_questions", at_420.mean(), metrics.bootstrap_interval(at_420, seed=SEED), excludes=(0.0,))

# %% [markdown]
# Printed: the budget nearest to the exact answer's own seconds, with intervals over scenes. There permutation and kernel
# still misplace a noticeable part, and three to four times the seconds do not bring them to a percent. Partition stops:
# its question has another answer, in which words and regions meet as two blocks.
#
# None of this is shap's fault. It works for *any* model; we used that ours is a product of two towers. Where words and
# regions meet inside the model, you are back in this figure, without its line at zero.
#
# ### Interactions, judged
# With exact values come **interactions**: what a word and a region are worth *together*, beyond what each is worth alone.
# Where should the row of a noun be large?

# %%
axes = plotting.heat(found_joint.interactions.T, list(words), [str(k) for k in range(9)], signed=True)
axes.set(xlabel="region, like words on a page", title=f"“{scene.captions[0].text}”")
plotting.show(axes, alt="Matrix of words by regions with signed interactions, largest where the first object is.")

# %% [markdown]
# Rows are words, columns regions; violet: they are worth more together. A pretty figure proves nothing, and we own the
# masks. So for every noun of many captions: is its largest interaction at the region that holds most of *its own* object?
# A random region is right once in nine. The control is stricter: how often is it the *other* object's region?


# %%
def home(i, owner):
    """The region with most pixels of an object."""
    return np.bincount(regions.ravel(), test[i].masks[owner].ravel(), minlength=9).argmax()


def noun_at(caption, owner):
    """The place of an object's noun: the last of its words."""
    return max(k for k, mine in enumerate(caption.owner) if mine == owner)


some_joint = [shapley.joint(z, w) for z, w in zip(pictures_of["mean"], sentences_of)]
at_own, at_other, owners = [], [], []
for i in joint_range:
    for owner in (0, 1):
        best = some_joint[i].interactions[:, noun_at(captions[i], owner)].argmax()
        at_own.append(float(best == home(i, owner)))
        at_other.append(float(best == home(i, 1 - owner)))
        owners.append(i)

noun_range, other_range = (metrics.bootstrap_interval(hits, owners, seed=SEED) for hits in (at_own, at_other))
print(f"its own object's region {np.mean(at_own):.2f} ({noun_range[0]:.2f} to {noun_range[1]:.2f}), chance {1 / 9:.2f}")
print(f"the other object's      {np.mean(at_other):.2f} ({other_range[0]:.2f} to {other_range[1]:.2f})")
record("interactions/noun_at_its_object", np.mean(at_own), noun_range, 1 / 9, excludes=(1 / 9, np.mean(at_other)))

# %% [markdown]
# The model learned from whole captions alone; nobody told it which word belongs to which place. The interactions show
# that it found out, and say so for each word *and* region, where a map for a whole caption would mix the two objects.
#
# ## 7 What is "absent"?
# So far an absent region showed the picture's mean colour. Other papers use grey, a blur, black, another picture, or
# what an inpainting model believes to lie behind. Here are five on one scene; *own ground* is the scene without its
# objects, a luxury of knowing the masks.

# %%
pictures = [nothing(4, kind).permute(1, 2, 0).numpy() for kind in kinds]
axes = plotting.gallery([pixels_of(test[4]).permute(1, 2, 0).numpy(), *pictures], ["the picture", *kinds], columns=6)
plotting.show(axes, alt="A scene, then grey, its mean colour, a blur, its empty background, another scene.")

# %% [markdown]
# Two measures. The **words' share**: sizes of the words' credits, over the sizes of all credits. And for the phrase of one
# object, the share of the regions' credit that lies at the object. Predict: with which of the five do the words carry
# most? With which does the object's own region get least? Model, scenes and captions stay; only the stand-in changes.


# %%
def credit_of_home(z, i):
    """Of all regions' credit for the first object's phrase: the share of the regions that hold its object."""
    with torch.no_grad():
        z_phrase = foils.encode_text(*retriever.tokenize([phrase_of(captions[i], 0)]))[0].numpy()  # (E,)
    credit = shapley.values_of(z.astype(float) @ z_phrase)  # (9,)
    inside = np.bincount(regions.ravel(), test[i].masks[0].ravel(), minlength=9)  # (9,)
    return credit[inside > inside.sum() / 4].sum() / np.abs(credit).sum()


with_drop = [z_of_words(foils, caption.text, drop=True) for caption in captions]
share, share_dropped, at_home = {}, {}, {}
for kind, z_all in pictures_of.items():
    share[kind] = np.array([float(shapley.joint(z, w).share_of_words) for z, w in zip(z_all, sentences_of)])
    share_dropped[kind] = np.array([float(shapley.joint(z, w).share_of_words) for z, w in zip(z_all, with_drop)])
    at_home[kind] = np.array([credit_of_home(z, i) for z, i in zip(z_all, joint_range)])


# %%
print(f"{'regions absent:':15} {'words share, unknown word':27} {'words share, word dropped':27} credit at home")
for kind in kinds:
    print(f"{kind:15}", *(f"{with_interval(one[kind]):27}" for one in (share, share_dropped, at_home)))
changed = share["mean"] - share["grey"]  # scene by scene
print(f"words' share, mean colour minus grey, scene by scene: {with_interval(changed)}")
record("absence/words_share_mean_minus_grey", changed.mean(), metrics.bootstrap_interval(changed, seed=SEED), 0.0)

# %%
figure, both_axes = plt.subplots(1, 2, figsize=(10, 3.4), layout="constrained", sharey=True)
panels = (share, "words' share of all credit", "text"), (at_home, "regions' credit at the object", "image")
for ax, (measured, about, colour) in zip(both_axes, panels):
    ranges = np.array([metrics.bootstrap_interval(measured[kind], seed=SEED) for kind in kinds])
    plotting.bars(kinds, [measured[kind].mean() for kind in kinds], ranges, colour=colour, ax=ax)
    ax.set(xlabel=about, xlim=(0, 1))
low, high = (share[kind].mean() for kind in ("grey", "mean"))
figure.suptitle(f"What “absent” shows moves the words' share: {low:.2f} with grey, {high:.2f} with the mean colour")
plotting.show(figure, alt="Bars for five stand-ins: the words' share, and the credit at the named object.")

# %% [markdown]
# One model, one score, five answers. Grey is a strange picture and changes the embedding by itself, so regions carry more
# and their credit spreads. Another scene brings objects of its own: its regions answer *what instead of this?*. Mean
# colour and own ground agree closely on our plain backgrounds; on photographs nobody promises that. And dropped words
# move those behind them, so dropping takes place as well as meaning.
#
# ## 8 How much does each modality carry?
# ### Exercise 8.8: the words' share
# Difficulty 1 of 3, about 5 minutes.
#
# The share that you have just seen is MM-SHAP (Parcalabescu and Frank 2023): it measures a modality by the *size* of its
# players' values. Write `words_share(picture, words)`: the share of the words, given the values of regions (n_img,) and
# of words (n_txt,).
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
# A share near 1 is read as *the picture hardly matters*, a known disease of visual question answering. We measure it for
# two models that were trained alike, but that one never saw twins and so cannot tell *left* from *right* (lesson 02).
# Beside the share stands what each modality can do alone, and what the two models can do. Which of these numbers will
# differ between the models?

# %%
plain = shipped.load("scenes_plain").model
models = {"plain": plain, "foils": foils}
words_shares = {"foils": share["mean"]}
words_shares["plain"] = np.array([
    float(shapley.joint(z_of_regions(plain, i), z_of_words(plain, caption.text)).share_of_words)
    for i, caption in zip(tqdm(joint_range, leave=False), captions)])  # fmt: skip

count = sizes.leak_scenes
pool = torch.from_numpy(test.images(range(count))).permute(0, 3, 1, 2).float() / 255  # (N,3,H,W)
pool_tokens, pool_mask = retriever.tokenize(test.captions(range(count)))  # (N,L) each
foil_tokens = retriever.tokenize(test.foils(range(count), "relation"))
no_picture = torch.full_like(pool, 0.5)
no_words = torch.where(pool_mask, unknown, pool_tokens)


def recalled(z_img, z_txt):
    """Whether picture i finds sentence i among all N; ties are broken at random."""
    return metrics.recall_at_k((z_img @ z_txt.T).numpy(), np.arange(len(z_img)))


# %%
for name, model in models.items():
    with torch.no_grad():
        z_img, z_txt = model.encode_image(pool), model.encode_text(pool_tokens, pool_mask)  # (N,E) each
        z_foil = model.encode_text(*foil_tokens)
        alone = recalled(z_img, model.encode_text(no_words, pool_mask)), recalled(model.encode_image(no_picture), z_txt)
    told = ((z_img * z_txt).sum(dim=1) > (z_img * z_foil).sum(dim=1)).float().mean()
    print(f"{name}: words' share {with_interval(words_shares[name])}")
    print(f"       recall@1 {recalled(z_img, z_txt).mean():.2f}; picture alone {alone[0].mean():.3f}, "
          f"words alone {alone[1].mean():.3f}, chance {1 / count:.3f}; left told from right in {told:.2f}")  # fmt: skip
record("share_of_words/foils", words_shares["foils"].mean(),
       metrics.bootstrap_interval(words_shares["foils"], seed=SEED), excludes=(0.0, 1.0))  # fmt: skip

# %% [markdown]
# Read it twice. The words carry a large part of the credit, yet **alone they find nothing**, and neither does the
# picture: matching needs both. And the shares of the two models are close, though one of them is deaf to *left* and
# *right*. A share says how much a modality *moves* the score. It does not say that the movement is right, that the
# modalities work together, or which of two models is better. Never quote it without absence and players.
#
# ## 9 Does Grad-CAM agree?
# Lesson 07 judged maps by masks. Here are two explanations of one score, region by region; do they rank regions alike?
#
# ### Exercise 8.9: agreement of ranks
# Difficulty 2 of 3, about 8 minutes.
#
# Write `agreement(a, b)`: Spearman's rank correlation of two rows (R,) without ties: replace values by ranks, then take
# the ordinary correlation.
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
    """Regions of scene i by Shapley values, by leaving one out, by Grad-CAM, and how much object is in each; (4,9)."""
    with torch.no_grad():
        z = foils.encode_text(*retriever.tokenize([phrase_of(captions[i], 0)]))  # (1,E)
    scores = pictures_of["mean"][i] @ z[0].numpy()  # (512,)
    maps = explain.grad_cams(foils.encode_image, foils.image_tower.features[5], pixels_of(test[i])[None], z)
    cam = torch.nn.functional.interpolate(maps, size=(64, 64), mode="bilinear")[0, 0].numpy()
    by_pixels = [np.bincount(regions.ravel(), x.ravel()) for x in (cam, test[i].masks[0])]
    return shapley.values_of(scores), scores[-1] - scores[511 - (1 << np.arange(9))], *by_pixels


ways = np.array([three_ways(i) for i in joint_range])  # (N,4,9)

# %%
for k, name in enumerate(("Shapley", "leave one out", "Grad-CAM")):
    right = (ways[:, k].argmax(axis=1) == ways[:, 3].argmax(axis=1)) * 1.0
    ranked = np.array([spearmanr(one[0], one[k]).statistic for one in ways])
    print(f"{name:14} best region right {right.mean():.2f}, agreement with Shapley {with_interval(ranked)}")
record("agreement/grad_cam", ranked.mean(), metrics.bootstrap_interval(ranked, seed=SEED), 0.0, excludes=(0.0, 1.0))

# %% [markdown]
# They agree, far from perfectly: one asks what tiny changes do at one layer, the other what happens when regions come and
# go. Guessing gets the best region right once in nine.
#
# ## 10 The surprise: what is *left* paid?
# In lesson 02 a model trained on random pairs told *left of* from *right of* at chance; with twins in the batch it
# learned the difference (you saw both numbers in section 8). Predict for the model that **cannot** tell left from right:
# how much credit does the relation's word get, with the unknown word as absence? Nothing, a little, or as much as in the
# model that can? Write your guess down.

# %%
relation_words = {"left", "right", "above", "below"}


def relation_credit(model, i, absent_words):
    """Credit of the relation's word in caption 0 of scene i; absent_words: i -> ids (L,) or None."""
    value, n = word_game(model, test[i], absent_words(i))
    credit = shapley.exact(value, n)
    return sum(credit[k] for k, word in enumerate(test[i].captions[0].words) if word in relation_words)


unknown_paid = {}
for name, model in models.items():
    values = [relation_credit(model, i, lambda i: None) for i in tqdm(range(sizes.word_scenes), leave=False)]
    unknown_paid[name] = np.array(values)
    print(f"{name}: left, right, above or below is paid {with_interval(values)}")

# %% [markdown]
# The model that cannot tell left from right pays for *left*, and its interval excludes zero. A bug? No: it knows that
# *left* and *right* belong to scenes where objects stand side by side, and *above* and *below* to those where they stand
# one over the other. It knows the **axis** and not the **direction**, and an unknown word takes both away.
#
# To ask about the direction, what stands for the word must keep the axis: its opposite. So the stand-in for *left* is
# *right*. To ask about the axis, it is *above*. Predict all four numbers before you run.

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
for question, other in {"axis": across, "direction": opposite}.items():
    for name, model in models.items():
        values = [relation_credit(model, i, replaced_by(other)) for i in tqdm(range(sizes.word_scenes), leave=False)]
        paid[question, name] = np.array(values)
        print(f"{question:10} {name}: {with_interval(values)}")

# %%
plain_paid, foils_paid = paid["direction", "plain"], paid["direction", "foils"]
plain_range, foils_range = (metrics.bootstrap_interval(values, seed=SEED) for values in (plain_paid, foils_paid))
record("relation_credit/plain", plain_paid.mean(), plain_range, excludes=(foils_paid.mean(),))
record("relation_credit/foils", foils_paid.mean(), foils_range, chance=0.0)
axis_paid = unknown_paid["plain"]
record("relation_credit/plain_unknown_word", axis_paid.mean(), metrics.bootstrap_interval(axis_paid, seed=SEED), 0.0)
print(f"direction: the two intervals {'are apart' if plain_range[1] < foils_range[0] else 'overlap'}")

ranges = np.array([metrics.bootstrap_interval(values, seed=SEED) for values in paid.values()])
means = [values.mean() for values in paid.values()]
axes = plotting.bars([f"{question}, {name}" for question, name in paid], means, ranges, colour="text")
axes.axvline(0, color="black", linewidth=1)
axes.set(xlabel="credit of the relation's word, in units of cosine",
         title=f"The direction is paid {means[2]:.3f} in the plain model, {means[3]:.3f} after foils")  # fmt: skip
plotting.show(axes, alt="Bars: both models pay for the axis; for the direction the plain model pays next to nothing.")

# %% [markdown]
# Bars are means over scenes with 95 % intervals. Both models know the axis; one knows the direction.
#
# Recall@1 could not tell these two models apart (lesson 02), nor could their words' share. The credit can, if the absence
# asks the right question. With the wrong one, we would have praised the plain model for a word that it does not
# understand.
#
# ## 11 Bug hunt: a background that leaks
# A friend finds mean colours ugly and hides regions by a *blur*: "nobody can see anything in there". Look for yourself.


# %%
def soft_blur(images):
    """What a friend shows where a region is absent: (N,3,H,W) -> (N,3,H,W)."""
    offsets = torch.arange(-6.0, 7.0)
    bell = torch.exp(-0.5 * (offsets / 2) ** 2)
    window = (torch.outer(bell, bell) / bell.sum() ** 2).expand(3, 1, 13, 13)
    padded = torch.nn.functional.pad(images, (6, 6, 6, 6), mode="reflect")
    return torch.nn.functional.conv2d(padded, window, groups=3)


blurred = soft_blur(image[None])[0]
axes = plotting.gallery(
    [scene.image, blurred.permute(1, 2, 0).numpy()], ["the picture", "everything absent"], columns=2
)
plotting.show(axes, alt="The scene and its soft blur: colours and outlines of both objects can still be made out.")

# %% [markdown]
# You can guess both objects. Can the model? Bet on a number: shown *nothing but the blur*, in how many of a hundred scenes
# does it pick the scene's own caption out of all captions? Then write the test that would have warned your friend.
#
# ### Exercise 8.10: a test for leaks
# Difficulty 3 of 3, about 12 minutes.
#
# Write `leaks(instead, images, encode_image, z_txt)`. `instead` turns images (N,3,H,W) into what is shown where all is
# absent, `encode_image` gives (N,E), and sentence i of z_txt (N,E) belongs to picture i. Return True if the stand-ins
# give the answer away: if they, too, find their own sentences among all N clearly more often than chance.
#
# <details><summary>Hint 1</summary>This is retrieval: recall@1 of pictures that should show nothing. What is chance for N
# sentences?</details>
# <details><summary>Hint 2</summary>Mind ties: if all stand-ins are equal, every picture finds the same sentence. "Five
# times chance" is a fair line.</details>


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
# The lesson's own version on real scenes: recall@1 of "nothing", for five kinds of nothing.

# %%
stand_ins = {
    "grey": lambda x: absence.stand_in(x, "grey"),
    "mean colour": lambda x: absence.stand_in(x, "mean"),
    "another scene": lambda x: x.roll(1, dims=0),
    "strong blur": lambda x: absence.stand_in(x, "blur"),
    "soft blur": soft_blur,
}
recall = {}
for name, instead in stand_ins.items():
    with torch.no_grad():
        recall[name] = recalled(foils.encode_image(instead(pool)), z_txt)  # z_txt: of the pool, by `foils`
    low, high = metrics.bootstrap_interval(recall[name], seed=SEED)
    print(f"{name:14} recall@1 of nothing {recall[name].mean():.3f} ({low:.3f} to {high:.3f}), chance {1 / count:.3f}")
record("leak/soft_blur_recall_at_1", recall["soft blur"].mean(),
       metrics.bootstrap_interval(recall["soft blur"], seed=SEED), 1 / count)  # fmt: skip

# %% [markdown]
# Nothing that finds its own caption is not nothing. What does that do to the values? They add up to *everybody minus
# nobody*, and with a leak nobody has a high score already:

# %%
with torch.no_grad():
    z_pool = foils.encode_image(pool)
    ends = {name: ((z_pool - foils.encode_image(stand_ins[name](pool))) * z_txt).sum(dim=1).numpy()
            for name in ("mean colour", "soft blur")}  # fmt: skip
for name, left in ends.items():
    print(f"{name:12} leaves the picture a credit of {with_interval(left)} in all")

# %% [markdown]
# The picture seems to matter less, only because "without the picture" was never asked. A background is part of the
# question, and recall@1 of nothing is a cheap test of it.
#
# ## 12 On photographs
# So far scenes were small, and the model was made for them. Now the shipped retriever whose towers were pretrained on
# photographs and on text (lesson 06), with pictures of 224 pixels. The scenes are made of stamps that *are* photographs,
# as 17 of our objects are. The ground behind them is still painted, and masks are known.

# %% tags=["nbval-check-output"]
from course_utils import stamps

camera = shipped.load("lite0+minilm")
medium = stamps.load().set_index("name")["medium"]
photographed = tuple(noun for noun, stamp in scenes.DEFAULT_OBJECTS.items() if medium[stamp] == "photo")
photo_test = scenes.Scenes(SEED, "test", scenes.SceneConfig(size=224, objects=photographed))
print(f"{len(photographed)} photographed objects: {', '.join(photographed)}")

# %% [markdown]
# Two things are new. This text tower has a token for absence, `[MASK]`, which it met in its own training. And it cuts rare
# words into pieces, which must come and go together: a player is a word. In sentences of more than eight words,
# neighbours share a seat, so that any sentence makes at most eight players. Six regions make 64 pictures.

# %%
ROWS, COLUMNS = 2, 3
mask_token = camera.tokenizer.token_to_id("[MASK]")


def seats_of(sentence):
    """The player of each token, (L,), -1 for [CLS] and [SEP]; and each player's words."""
    pieces = camera.tokenizer.encode(sentence)
    n = 1 + max(k for k in pieces.word_ids if k is not None)
    seats = [-1 if k is None else k * min(n, 8) // n for k in pieces.word_ids]
    spans = [[span for span, seat in zip(pieces.offsets, seats) if seat == k] for k in range(min(n, 8))]
    return np.array(seats), [sentence[some[0][0] : some[-1][1]] for some in spans]


@torch.no_grad()
def photo_joint(picture, sentence):
    """Exact joint values of a picture (H,W,3) uint8 of 224 pixels and a sentence, by regions and words; and the words."""
    seats, names = seats_of(sentence)
    x = torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255  # (3,H,W)
    grid = absence.grid_regions(*x.shape[1:], ROWS, COLUMNS)
    kept = absence.kept_pixels(grid, shapley.coalitions(ROWS * COLUMNS))  # (64,H,W)
    z_img = camera.model.encode_image(absence.hide_pixels(x, kept, absence.stand_in(x[None], "mean")[0]))  # (64,E)
    tokens, token_mask = (rows[0] for rows in camera.tokenize([sentence]))
    hidden = absence.hide_words(tokens, token_mask, seats, shapley.coalitions(len(names)), mask_token)
    return shapley.joint(z_img, camera.model.encode_text(*hidden)), names


# %%
photo_found = []
for i in tqdm(range(sizes.photo_scenes), leave=False):
    one = photo_test[i]
    photo_found.append((one, *photo_joint(one.image, one.captions[0].text)))
one, example, names = photo_found[0]
print("words: ", ", ".join(f"{name} {credit:+.2f}" for name, credit in zip(names, example.words)))
print("regions:", ", ".join(f"{k} {credit:+.2f}" for k, credit in enumerate(example.picture)))

_, both_axes = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained", width_ratios=(1, 2))
both_axes[0].imshow(one.image)
both_axes[0].set(xticks=[75, 149], yticks=[112], xticklabels=[], yticklabels=[])
both_axes[0].grid(color="white")
both_axes[0].tick_params(length=0)
both_axes[0].set_title("six regions, 0 to 5")
plotting.heat(example.interactions.T, names, [str(k) for k in range(6)], signed=True, ax=both_axes[1])
both_axes[1].set(xlabel="region", title=one.captions[0].text)
plotting.show(both_axes[0], alt="Two photographed objects in six regions, and interactions of words with regions.")

# %% [markdown]
# Above the figure, what each word and each region was paid for this picture; in it, which word works with which region.
# A region may be paid little in all and still work strongly with its own word: what it adds beside that word, it takes
# away beside others. Do the nouns find their objects? Judged as before, by masks, over all scenes:

# %%
photo_grid = absence.grid_regions(224, 224, ROWS, COLUMNS)
hits, photo_owners = [], []
for i, (one, joint, _names) in enumerate(photo_found):
    for owner in (0, 1):
        inside = np.bincount(photo_grid.ravel(), one.masks[owner].ravel(), minlength=6)
        best = joint.interactions[:, noun_at(one.captions[0], owner)].argmax()
        hits.append(float(best == inside.argmax()))
        photo_owners.append(i)
photo_range = metrics.bootstrap_interval(hits, photo_owners, seed=SEED)
photo_shares = [float(joint.share_of_words) for _, joint, _ in photo_found]

# %%
print(f"{len(photo_found)} scenes: nouns work best with their object's region in {np.mean(hits):.2f}", end=" ")
print(f"({photo_range[0]:.2f} to {photo_range[1]:.2f}), chance {1 / 6:.2f}")
print(f"the words' share of the credit is {with_interval(photo_shares)}")

# %% [markdown]
# The same functions, another model, and the same judge. On real photographs nobody has drawn masks, so there credits can
# be shown but not judged this way (lesson 07 uses the boxes of Flickr30k Entities, where you have them). Where lesson 05
# has prepared Flickr30k, the next cell explains the shortest caption of some test pictures; it shows no photograph.

# %%
from course_utils import flickr30k

folder = session.paths.data / "flickr30k"
if (folder / "manifest.json").is_file():
    real = flickr30k.Flickr30k(folder, "test")
    for row in range(min(sizes.photo_scenes, len(real))):
        square = torch.from_numpy(np.array(real.pixels[row])).permute(2, 0, 1)[None].float()  # (1,3,S,S)
        square = torch.nn.functional.interpolate(square, size=(224, 224), mode="area")[0].permute(1, 2, 0)
        sentence = min((real.texts[k] for k in np.flatnonzero(real.owners == row)), key=len)
        joint, names = photo_joint(square.round().byte().numpy(), sentence)
        print(f"{sentence}\n    most to “{names[joint.words.argmax()]}” and to region {joint.picture.argmax()}; "
              f"words' share {float(joint.share_of_words):.2f}")  # fmt: skip
else:
    print("Flickr30k is not here. This cell ran on pictures in its format, and not yet on its real files.")

# %% [markdown]
# ## 13 A leaderboard: your own estimator
# Many models are no product of two towers. So here is the task as one meets it: a game of up to 17 players, a box that
# answers 420 questions and then no more, and a method of *yours* that estimates all values. We know the exact ones. A
# method is judged by the credit that it misplaces, and by seconds: its own thinking, plus the price of its questions.

# %%
BUDGET = 420


def judged(method):
    """Scene by scene: share of credit misplaced, questions, seconds; or a sentence that says what is wrong."""
    rows = []
    for answers, exact_values in joint_games:
        n, value = len(exact_values), Counted(answers, BUDGET)
        start = time.perf_counter()
        try:
            estimate = np.asarray(method(value, n, BUDGET), dtype=float)
        except Exception as error:  # a learner's method may fail in any way
            return f"stopped with {type(error).__name__}: {error}"
        thinking = time.perf_counter() - start
        if estimate.shape != (n,):
            return f"gave {estimate.shape}; one value for each of the {n} players is wanted, ({n},)"
        if not np.isfinite(estimate).all():
            return "gave NaN or infinity; is something divided by a count of zero?"
        rows.append((misplaced(estimate, exact_values), value.asked, thinking + value.asked * price))
    return np.array(rows)  # (N,3)


# %% [markdown]
# Your method: `value` takes sets (S,n) of bool and gives scores (S,); players 0 to 8 are regions, the others words. The
# start below is the plainest of all, single random orders. **Change it, run the two cells, look at the board.** Ideas:
# each order backwards as well; every set size equally often; a fit that also has terms for two players at a time; or use
# that words and regions are two kinds of players.


# %%
def mine(value, n, budget):
    """Single random orders, as many as the budget allows. Yours to change. Returns (n,)."""
    rng, totals, orders = np.random.default_rng(0), np.zeros(n), budget // (n + 1)
    for _ in range(orders):
        order = rng.permutation(n)
        present = order.argsort() < np.arange(n + 1)[:, None]  # (n+1,n): the first 0, 1, ..., n players
        totals[order] += np.diff(value(present))
    return totals / orders


# %%
board = {
    "mine": mine,
    "orders forwards and backwards": lambda value, n, budget: shapley.by_permutations(
        value, n, (budget - 5) // (2 * n - 2)).values,
    "shap, permutation": permutation,
    "shap, kernel": kernel,
    "leave one out": lambda value, n, budget: shapley.leave_one_out(value, n),
    "ask for everything": lambda value, n, budget: shapley.exact(value, n),
}  # fmt: skip
results = {name: judged(method) for name, method in board.items()}
in_time = [name for name in board if not isinstance(results[name], str)]
placed = sorted(in_time, key=lambda name: results[name][:, 0].mean())
print(f"{'':34}credit misplaced            questions   seconds")
for place, name in enumerate(placed, 1):
    error, questions, took = results[name].T
    print(f"{place:2} {name:31}{with_interval(error):28}{questions.max():9.0f}{took.mean():10.2f}")
for name in board.keys() - set(placed):
    print(f" - {name} {results[name]}")
print(f"for comparison, exact values by two towers: 0.000, 512 pictures and 256 sentences, {seconds:.2f} seconds")

# %% [markdown]
# The row without a place shows what a broken method gets: a sentence that says what is wrong.
#
# ## What we saw

# %%
from IPython.display import Markdown

Markdown(f"""
- Credits add up: 17 players, 131,072 coalitions, a gap of {float(found_joint.gap):.0e}, from 768 forward passes in
  {seconds:.1f} s. For about as many seconds shap's best explainer misplaced {least:.2f} of the credit.
- A noun worked best with its own object's region in {np.mean(at_own):.2f} of cases, where chance is {1 / 9:.2f}.
- What "absent" shows moved the words' share from {share["grey"].mean():.2f} (grey) to {share["mean"].mean():.2f} (mean
  colour) in one model; two models of which one is deaf to *left* had {words_shares["plain"].mean():.2f} and
  {words_shares["foils"].mean():.2f}.
- The direction of a relation is paid {plain_paid.mean() + 0.0:+.3f} by the plain model and {foils_paid.mean():+.3f} after
  foils; with the unknown word the plain model seemed to pay {axis_paid.mean():+.3f}: it knows the axis.
- A soft blur as "nothing" found its own caption in {recall["soft blur"].mean():.2f} of {count} scenes, where chance is
  {1 / count:.3f}.
""")

# %% [markdown]
# ## Questions
# 1. Why do Shapley values add up to the score minus that of nobody, and leave-one-out losses not?
# 2. Two regions show the same object, and either is enough. What does each get from Shapley, and from leave-one-out?
# 3. For which models does the product of two towers not help? What would you do there?
# 4. Why can embeddings be added up by the size of their coalition before they meet?
# 5. The words' share fell when absent regions turned grey instead of mean-coloured. Did the model change? Which of the
#    two would you report?
# 6. Why was the opposite word the right absence for the question of direction, and the unknown word the wrong one?
# 7. How would you choose an absence for photographs?
# 8. A paper reports SHAP values to four digits from 500 samples. What would you ask for?
# 9. Two models have the same words' share. Name two things that may still differ.

# %% [markdown] tags=["solution"]
# **Answers in short.** 1: along one order gains telescope from nobody to everybody, and a mean of such sums is such a
# sum; leave-one-out takes every loss from the full set, so what two bring together is counted twice. 2: half each;
# nothing each. 3: those in which words and regions meet inside, by cross-attention; sample orders, or let fewer, larger
# players play. 4: a Shapley weight depends on sizes alone, and the product is linear in each factor. 5: no, the question
# did: report both, since neither is *the* share.
#
# 6: the opposite keeps everything but the direction; the unknown word takes the axis away as well. 7: several, reported
# side by side, each with the recall of "nothing". 8: the standard error, the number of players, the absence, and whether
# exact values were out of reach. 9: whether they are right (recall, foils), and whether words and regions work together
# (interactions); the share only adds up sizes.

# %% [markdown]
# ## References
# - Shapley 1953, *A value for n-person games*.
# - Lundberg and Lee 2017, *A unified approach to interpreting model predictions* (SHAP).
# - Grabisch and Roubens 1999, *An axiomatic approach to the concept of interaction among players in cooperative games*.
# - Mitchell et al. 2022, *Sampling permutations for Shapley value estimation* (orders forwards and backwards).
# - Parcalabescu and Frank 2023, *MM-SHAP: a performance-agnostic metric for measuring multimodal contributions*.
# - Yuksekgonul et al. 2023, *When and why vision-language models behave like bags-of-words*.
# - Jain et al. 2022, *Missingness bias in model debugging* (what stands where something is absent).
