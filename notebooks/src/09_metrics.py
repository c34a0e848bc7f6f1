# %% [markdown]
# # 09 Metrics: how good is it really?
#
# > **You will be able to** rank with several right answers and break no tie in your own favour, name the protocol behind a recall, find an
# > evaluator that lies, count wrong answers that are right, put an honest interval on a figure and on a difference, and see where
# > measures of generated captions and pictures go wrong.
# >
# > **Time** 90 minutes. **Needs** lessons 00 and 02. **Runs** in under a minute (`smoke`), under five minutes on two CPU cores
# > (`cpu`); `gpu` sizes are there and not yet run.

# %% tags=["parameters"]
PROFILE = "auto"
SEED = 0

# %% [markdown]
# Nothing is trained here. Three retrievers come with the package, and all we do is ask how good they are. A profile changes how much we ask:

# %%
sizes = session.choose(
    pictures=(500, 5_000, 5_000),
    folds=(5, 5, 5),
    draws=(400, 1_000, 2_000),
    trials=(4, 20, 40),
    scenes=(200, 1_000, 2_000),
    samples=((25, 50, 100, 200), (60, 125, 250, 500), (100, 250, 500, 1_000)),
)
sizes

# %% [markdown]
# ## 1 One list, five questions
# A picture is the **query**, six captions are the **pool**, two of them are right. A model gave each caption a score. Sort them in your head. At which
# place stands the first right one?

# %% tags=["nbval-check-output"]
import numpy as np

from course_utils.checks import fair_metrics

few_scores = np.array([[0.2, 0.9, -0.1, 0.7, 0.4, -0.3]])  # (Q,N) = (1,6)
few_right = np.array([[False, False, True, True, False, False]])  # (Q,N)
order = np.argsort(-few_scores, axis=1)  # (Q,N) items, the best first
few_hits = np.take_along_axis(few_right, order, axis=1)  # (Q,N) in ranked order
print("ranked:", few_scores[0, order[0]], "right:", few_hits[0].astype(int))

# %% [markdown]
# At place 2, and the other at place 5. But who needs the sorted list? A **rank** is one plus the number of items that score higher. Counting is all it
# takes, and counting goes through a matrix of any size in pieces.

# %% tags=["nbval-check-output"]
for item in np.flatnonzero(few_right[0]):
    higher = sum(few_scores[0, other] > few_scores[0, item] for other in range(6))
    print("caption", item, "has rank", 1 + higher)

# %% [markdown]
# ### Exercise 9.1: the rank of the first right answer
# Difficulty 1 of 3, about 5 minutes.
#
# Write `first_rank(scores, right)`: for each query the rank of its *best* right item, (Q,). No two scores are equal here.
#
# <details><summary>Hint 1</summary>What is the score of the best right item? <code>np.where(right, scores, -np.inf)</code> hides the others.</details>
# <details><summary>Hint 2</summary>Keep the dimension: <code>.max(axis=1, keepdims=True)</code> is (Q,1) and compares with (Q,N).</details>


# %% tags=["exercise"]
def first_rank(scores, right):
    """Rank of the best right item of each query, 1 is first. scores, right: (Q,N) -> (Q,)."""
    # BEGIN SOLUTION
    best = np.where(right, scores, -np.inf).max(axis=1, keepdims=True)  # (Q,1)
    return 1 + (scores > best).sum(axis=1)
    # END SOLUTION


# %% tags=["check"]
fair_metrics.check_first_rank(first_rank)

# %% [markdown]
# ### Two recalls under one name
# Image-text papers call it *recall@k* when **at least one** right item stands among the first $k$: a **hit**. Information retrieval calls
# recall@k the **share of all right items** that stand there. With one right item they agree. With five captions a picture, what is the most that the
# second can reach at $k = 1$?

# %% tags=["nbval-check-output"]
for k in (1, 2, 5):
    among_first = few_hits[0, :k].sum()
    print(f"k = {k}: hit {float(among_first > 0):.0f}, true recall {among_first / few_right.sum():.1f}")
print("five right captions, k = 1: true recall is at most", 1 / 5)

# %% [markdown]
# One fifth. A perfect model has a true recall@1 of 20 %. Remember that when you read a table whose numbers seem low; it comes back in section 5.
#
# ### Exercise 9.2: both of them
# Difficulty 1 of 3, about 10 minutes.
#
# Write `two_recalls(scores, right, k)`: two arrays (Q,), first the hit (1.0 or 0.0), then the true recall.
#
# <details><summary>Hint 1</summary>Both need one number: how many right items are among the first k.</details>
# <details><summary>Hint 2</summary>Divide by <code>right.sum(axis=1)</code>: each query has its own number of right items.</details>


# %% tags=["exercise"]
def two_recalls(scores, right, k):
    """(hit (Q,), true recall (Q,)) among the first k items; scores, right: (Q,N)."""
    # BEGIN SOLUTION
    first = np.argsort(-scores, axis=1)[:, :k]  # (Q,k)
    found = np.take_along_axis(right, first, axis=1).sum(axis=1)  # (Q,)
    return (found > 0).astype(float), found / right.sum(axis=1)
    # END SOLUTION


# %% tags=["check"]
fair_metrics.check_two_recalls(two_recalls)

# %% [markdown]
# ### The whole list in one number
# A hit at $k$ forgets what happens at $k + 1$. **Reciprocal rank** is 1 / rank of the first right item; its mean is MRR. **Average precision** (AP) visits every right item, asks
# which share of the list *so far* is right, and averages. **nDCG** pays $1 / \log_2(\text{rank} + 1)$ for each right item, over what the best order would earn.

# %% tags=["nbval-check-output"]
places = 1 + np.flatnonzero(few_hits[0])  # 2 and 5
gain = (1 / np.log2(places + 1)).sum() / (1 / np.log2(np.array([1, 2]) + 1)).sum()
precision_there = np.array([1 / 2, 2 / 5])  # one of two is right, then two of five
print(f"reciprocal rank {1 / places[0]:.3f}, average precision {precision_there.mean():.3f}, nDCG {gain:.3f}")

# %% [markdown]
# ### Exercise 9.3: average precision
# Difficulty 2 of 3, about 10 minutes.
#
# Write `average_precision(hits)` for one ranked list (N,), True where a right item stands; all right items are in it.
#
# <details><summary>Hint 1</summary>Right ones so far: <code>hits.cumsum()</code>. Items so far: 1, 2, 3, ...</details>
# <details><summary>Hint 2</summary>Average over the places with a right item, not over all places.</details>


# %% tags=["exercise"]
def average_precision(hits):
    """Mean over right items of the precision at their places; hits (N,) bool, best item first."""
    # BEGIN SOLUTION
    precision = hits.cumsum() / np.arange(1, len(hits) + 1)
    return precision[hits].mean()
    # END SOLUTION


# %% tags=["check"]
fair_metrics.check_average_precision(average_precision)

# %% [markdown]
# The package counts ranks once and reads every measure off them. Bridge: the numbers above, and scikit-learn's.

# %%
from sklearn.metrics import average_precision_score, ndcg_score

from course_utils import counting

few = counting.rank(few_scores, few_right)  # a Ranking: where each right item stands
assert few.first_rank()[0] == 2
assert (few.hit_rate(2)[0], few.true_recall(2)[0]) == (1.0, 0.5)
assert np.isclose(few.average_precision()[0], precision_there.mean())
assert np.isclose(few.average_precision()[0], average_precision_score(few_right[0], few_scores[0]))
assert np.isclose(few.ndcg()[0], ndcg_score(few_right, few_scores)) and np.isclose(few.ndcg()[0], gain)

# %% [markdown]
# ## 2 A retriever on trial
# `tiny` was trained on scenes of one to four stamps with five captions each. We draw scenes it has never seen, no full caption twice.

# %%
import itertools
from types import SimpleNamespace

from course_utils import shipped
from course_utils.scenes import SceneConfig, Scenes

held_out = shipped.card("tiny")["held_out"]
world = Scenes(SEED, "test", SceneConfig(size=held_out["size"], counts=tuple(held_out["counts"])))
rows, said = [], set()
for i in itertools.count():
    claim = frozenset(world.captions([i], k)[0] for k in (0, 1))  # told from either end
    if claim not in said:
        said.add(claim)
        rows.append(i)
    if len(rows) == sizes.pictures:
        break
len(rows), world[rows[0]].captions[0].text

# %%
from course_utils import plotting

texts = [caption.text for i in rows for caption in world[i].captions]
image_ids, owners = np.arange(len(rows)), np.repeat(np.arange(len(rows)), 5)  # (N,) and (M,): whose caption it is
shown = range(4)
axes = plotting.gallery([world[rows[i]].image for i in shown], [texts[5 * i] for i in shown], columns=4)
plotting.show(axes, alt="Four scenes of one to four stamps, each with its full caption underneath.")

# %% [markdown]
# The first caption of each of four scenes. Every picture and every caption is encoded once; one product gives all scores.

# %%
import torch
from tqdm.auto import tqdm

from course_utils import captioned, retrieval

retriever = shipped.load("tiny")


def encoded(block):
    """z_img (n,E) and z_txt (5n,E) of some pictures; all pixels at once would be large."""
    one = SimpleNamespace(pixels=world.images(rows[i] for i in block), image_ids=block)
    one.owners = np.repeat(np.arange(len(block)), 5)
    one.texts = [text for i in block for text in texts[5 * i : 5 * i + 5]]
    return retrieval.encode(retriever.model, captioned.Feed(one, retriever.tokenize, retriever.recipe.size))


parts = [encoded(block) for block in tqdm(np.split(image_ids, len(rows) // 250), desc="encoding", leave=False)]
z_img, z_txt = (torch.cat(some) for some in zip(*parts))  # (N,E), (M,E) unit rows
scores = (z_img @ z_txt.T).numpy()  # (N,E) @ (E,M) -> (N,M), rows are pictures
scores.shape

# %% [markdown]
# Two directions, two tasks. *Image to text*: a row, five right answers. *Text to image*: a column, one right answer. Predict: which direction has the
# higher recall@1? And the higher chance?

# %%
import pandas as pd

both = counting.rank_both(scores, image_ids, owners)  # direction -> Ranking
table = pd.DataFrame({direction: ranking.summary() for direction, ranking in both.items()})
table.round(3)

# %% [markdown]
# Chance of a hit at 1 is the same in both directions: five of $5N$ captions are right, one of $N$ pictures. Image to text has five chances to be lucky among five times as many
# rivals. Read down the rows and see how the two recalls part.
#
# A number without an interval is an anecdote. These are bootstrap intervals by picture, which section 7 takes apart:

# %%
from course_utils import intervals

pictures_of = {"image_to_text": image_ids, "text_to_image": owners}  # the picture behind each query
for direction, ranking in both.items():
    hit = ranking.hit_rate(1)
    sure = intervals.bootstrap(hit, pictures_of[direction], sizes.draws, seed=SEED)
    low, high = sure.low.item(), sure.high.item()
    record(f"retrieval/{direction}/hit_rate_at_1", hit.mean(), (low, high), chance=1 / len(rows))

# %% [markdown]
# ## 3 Who wins a tie?
# Scores tie more often than one thinks: two captions are word for word the same, scores were rounded to 16 bits, a model has collapsed. Here is the worst of all retrievers:
# it gives every pair the same score. Before you run: what recall@1 will *strictly greater means better* give it?

# %%
constant = np.zeros_like(scores)
own = constant[owners, np.arange(len(owners))]  # (M,) score of each caption's own picture
strict_ranks = 1 + (constant > own).sum(axis=0)  # (M,) counting what is strictly above
lenient_ranks = (constant >= own).sum(axis=0)  # (M,) counting ties as lost
print("ties won:", (strict_ranks <= 1).mean(), "  ties lost:", (lenient_ranks <= 1).mean())

# %% [markdown]
# Perfect, or hopeless, by the choice of one character. Sorting does not help: `argsort` keeps tied items in index order, and where captions stand in the order of their pictures, that
# favours whoever comes first. Breaking ties at random is fair but shaky. So we compute what random breaking gives **on average**.
#
# ### Exercise 9.4: what a tie is worth
# Difficulty 2 of 3, about 10 minutes.
#
# One item is right. `above` items score higher, and `tied` items, itself included, have its score. Ties fall in random order. Write `expected_hit(above, tied, k)`, the chance that
# it stands among the first $k$.
#
# <details><summary>Hint 1</summary>How many of the first k places are left for the tied block?</details>
# <details><summary>Hint 2</summary>Never fewer than 0, never more than <code>tied</code>. Each tied item is equally likely at each of its places.</details>


# %% tags=["exercise"]
def expected_hit(above, tied, k):
    """Chance that the right item is among the first k; above, tied: numbers of items (tied counts it too)."""
    # BEGIN SOLUTION
    return min(max(k - above, 0), tied) / tied
    # END SOLUTION


# %% tags=["check"]
fair_metrics.check_expected_hit(expected_hit)

# %% [markdown]
# Every measure of the package is such an expectation. A scorer that knows nothing gets exactly chance:

# %%
blind = counting.rank_both(constant, image_ids, owners)
for ranking in blind.values():
    assert np.allclose(ranking.hit_rate(1), 1 / len(rows))
print(f"strict {(strict_ranks <= 1).mean():.3f}, expected {blind['text_to_image'].hit_rate(1).mean():.4f}")

# %% [markdown]
# Nobody ships a constant scorer. But many compute scores in bfloat16, because it is twice as fast. It has eight significant bits: between 0.5 and 1 scores fall on steps of 1/256. Our
# retriever, its scores rounded so: predict how many points of recall@1 depend on who wins the ties.

# %%
coarse = torch.from_numpy(scores).bfloat16().float().numpy()  # (N,M)
own = coarse[owners, np.arange(len(owners))]  # (M,)
won, not_lost = (coarse > own).sum(axis=0) == 0, (coarse >= own).sum(axis=0) == 1
expected = counting.rank_both(coarse, image_ids, owners)["text_to_image"].hit_rate(1)
whole = both["text_to_image"].hit_rate(1)  # (M,) in float32, the whole pool
steps = {"bfloat16, ties won": won, "bfloat16, ties lost": not_lost, "bfloat16, expected": expected, "float32": whole}
axes = plotting.bars(list(steps), [value.mean() for value in steps.values()], colour="text")
axes.set(xlabel="hit rate at 1, text to image", xlim=(0, 1.15))
axes.set_title(f"Rounding makes {won.mean() - not_lost.mean():.2f} of recall a matter of who wins")
plotting.show(
    axes, alt="Bars of hit rate at 1: ties won highest, ties lost lowest, the expected value near that of float32."
)
print({name: round(float(value.mean()), 4) for name, value in steps.items()})
flattered = intervals.paired(won.astype(float), expected, owners, sizes.draws, seed=SEED)
record("ties/bfloat16_won_minus_expected", flattered.mean, (flattered.low, flattered.high), excludes=(0,))

# %% [markdown]
# The expected value stays near the truth. The other two are artefacts. Compute scores in float32, and count ties honestly.

# %% [markdown]
# ### Scores below zero
# Cosines may be negative, and a right answer with a negative cosine is still ranked somewhere. torchmetrics 1.9 sets the target of every item with a score at or below zero to *not relevant*:
# one line in it reads `target = torch.where(preds > 0, target, torch.zeros_like(target))`. Only the *order* of scores should matter. So let us subtract one number from all scores, such that no right
# answer, a tenth and half of them fall below zero. Predict what happens to mAP.


# %%
def dropped_ap(line, right):
    """Average precision the way torchmetrics 1.9 computes it; one query (N,)."""
    kept = (right & (line > 0))[np.argsort(-line)]  # right answers at or below zero are forgotten
    return average_precision_of(kept) if kept.any() else 0.0


def average_precision_of(hits):
    """Exercise 9.3, so that this section stands by itself."""
    return (hits.cumsum() / np.arange(1, len(hits) + 1))[hits].mean()


asked = slice(0, 200)  # the first pictures' rows are enough
right = image_ids[asked, None] == owners  # (n,M)
for share in (0.0, 0.1, 0.5):
    lower = scores[asked] - np.float32(np.quantile(scores[asked][right], share) if share else 0.0)
    theirs = np.mean([dropped_ap(*query) for query in zip(lower, right)])
    ours = counting.rank(lower, right).average_precision().mean()
    print(f"{share:.0%} of the right ones below zero: with the rule {theirs:.4f}, truly {ours:.4f}")

# %% [markdown]
# The true figure does not move, since no order changed. With the rule it moves either way: while few are lost, the hard right answers vanish from the average and it looks *better*; later whole queries get nothing. (A gap in the first line is no
# such loss: some captions are word for word the same, tie, and sorting breaks ties by place.) `tests/benchmarks/RESULTS.md` has the figure of torchmetrics itself, on other scores.
#
# ## 4 The surprise: one model, two protocols
# The MS-COCO literature reports a *5K test* and a *1K test*. The second cuts the same 5,000 pictures into five folds, ranks inside each and averages. Same
# model, same pictures, same captions. Predict: how many points apart are they?


# %%
def in_folds(scores, folds):
    """Hit rate at 1, text to image: the mean over `folds` pools of consecutive pictures with their captions."""
    found = []
    for fold in np.split(image_ids, folds):
        captions = np.flatnonzero(np.isin(owners, fold))
        pool = counting.rank_both(scores[np.ix_(fold, captions)], fold, owners[captions])
        found.append(pool["text_to_image"].hit_rate(1))
    return np.concatenate(found)  # (M,) one value a caption, captions in their old order


folded = in_folds(scores, sizes.folds)
print(
    f"one pool of {len(rows)}: {whole.mean():.3f};  {sizes.folds} folds of {len(rows) // sizes.folds}: {folded.mean():.3f}"
)
apart = intervals.paired(folded, whole, owners, sizes.draws, seed=SEED)
record("protocol/points_apart", apart.mean, (apart.low, apart.high), excludes=(0,))

# %% [markdown]
# Nothing about the model has changed; it had fewer rivals. The smallest pool is the one you meet most often: a training batch. We need not even run it. In a pool of $n$ drawn from $N$, a query whose right picture has rank $r$
# is a hit if none of the $r - 1$ better ones was drawn along:
#
# $$P(\text{hit}) = \binom{N - r}{n - 1} \Big/ \binom{N - 1}{n - 1}$$

# %%
from scipy.special import gammaln


def hit_in_pool(ranks, total, pool):
    """Chance of a hit at 1 in a random pool, from ranks (Q,) in the whole of `total` items."""
    missed = total - ranks  # items that score lower
    possible = missed >= pool - 1
    log = gammaln(missed + 1) - gammaln(np.maximum(missed - pool, -1) + 2) - gammaln(total) + gammaln(total - pool + 1)
    return np.where(possible, np.exp(log), 0.0)


ranks = both["text_to_image"].first_rank()
pools = np.unique(np.geomspace(2, len(rows), 12).astype(int))
curve = [hit_in_pool(ranks, len(rows), pool).mean() for pool in pools]
assert np.isclose(curve[-1], (ranks == 1).mean())
by_formula, by_ranking = hit_in_pool(ranks, len(rows), 20).mean(), in_folds(scores, len(rows) // 20).mean()
print(f"pools of 20: formula {by_formula:.3f}, cut and ranked {by_ranking:.3f}")

# %%
axes = plotting.lines(pools, {"text to image": np.array(curve)}, colours=("text",))
axes.plot(pools, 1 / pools, linestyle="--", color="black")
axes.annotate("chance", (pools[3], 1 / pools[3]), xytext=(8, 4), textcoords="offset points")
axes.set(xscale="log", ylim=(0, 1.03), xlabel="pictures in the pool", ylabel="hit rate at 1")
axes.set_title(f"One model: {curve[0]:.2f} of pairs, {curve[-1]:.2f} of {len(rows)}")
plotting.show(axes, alt="Hit rate at 1 falls as the pool grows, from near one at two pictures; chance falls faster.")

# %% [markdown]
# A recall without the size of its pool says nothing. *Which pool, how many right answers, which direction, how ties fall*: that is the **protocol**, and a figure without it
# cannot be compared with anything.
#
# ## 5 Bug hunt: the evaluator that lies
# A public benchmark of CLIP models once printed text recall some forty points too low. Its ranking was right. Look for the mistake:


# %%
def suspect(scores, owners, k):
    """Image-to-text recall@k. scores (N,M), owners (M,): the picture of each caption."""
    right = np.arange(len(scores))[:, None] == owners  # (N,M)
    first = np.argsort(-scores, axis=1)[:, :k]  # (N,k)
    found = np.take_along_axis(right, first, axis=1).sum(axis=1)  # (N,)
    return (found / right.sum(axis=1)).mean()


for k in (1, 5, 10):
    truly = both["image_to_text"].hit_rate(k)[asked].mean()  # the same 200 pictures
    print(f"recall@{k}: suspect {suspect(scores[asked], owners, k):.3f}, hit rate {truly:.3f}")

# %% [markdown]
# Each line looks sound. It computes the *true recall* of section 1 where the literature reports hits. The benchmark's code now carries a long comment about it.
#
# Reading did not find this bug for months; a test finds it in a second. What must *every* sound evaluator do, whatever the model?
#
# ### Exercise 9.5: a test that catches it
# Difficulty 2 of 3, about 15 minutes.
#
# Write `catches(evaluate)`: True if `evaluate(scores, owners, k)` is **no** sound image-to-text hit rate, False if it is. The check hands you sound evaluators and four broken ones, each
# with a mistake that was really made. It should make its own small cases.
#
# <details><summary>Hint 1</summary>What must a perfect scorer get at k = 1? And if you shuffle the captions together with their owners?</details>
# <details><summary>Hint 2</summary>And a scorer that gives every pair the same score? It must not get 1.0. What it gets exactly depends on how ties fall.</details>
# <details><summary>Hint 3</summary>A perfect scorer may prefer any of a picture's five captions. Let it be another one than the first.</details>


# %% tags=["exercise"]
def catches(evaluate):
    """True if evaluate(scores (N,M), owners (M,), k) is not a sound hit rate."""
    # BEGIN SOLUTION
    rng = np.random.default_rng(0)
    owners = np.repeat(np.arange(20), 5)
    perfect = (np.arange(20)[:, None] == owners) + 0.1 * rng.random((20, 100))  # any of the five may come first
    mixed = rng.permutation(100)
    if evaluate(perfect, owners, 1) < 1 or evaluate(perfect[:, mixed], owners[mixed], 1) < 1:
        return True
    return bool(evaluate(np.zeros((20, 100)), owners, 1) > 0.5)
    # END SOLUTION


# %% tags=["check"]
fair_metrics.check_catches(catches)

# %%
lost = both["image_to_text"].hit_rate(1) - both["image_to_text"].true_recall(1)
sure = intervals.bootstrap(lost, draws=sizes.draws, seed=SEED)
record("bug/points_lost_at_1", lost.mean(), (sure.low.item(), sure.high.item()), excludes=(0,))

# %% [markdown]
# ## 6 Wrong answers that are right
# There is a second reason why recall is too low, and no code is to blame for it. *"A big boot"* was written for one picture and is true of others. On photographs nobody knows how often. Here we
# know exactly: `fits.table` asks of each caption in which scenes it is true.

# %%
from course_utils import fits

truth = fits.table(texts, world, rows)  # (N,M) True where caption j is true of picture i
assert truth[owners, np.arange(len(owners))].all()  # every caption is true of its own
scenes_a_caption = truth.sum(axis=0)  # (M,)
by_kind = pd.DataFrame({"fits several": (scenes_a_caption > 1).reshape(-1, 5).mean(axis=0),
                        "scenes it fits": scenes_a_caption.reshape(-1, 5).mean(axis=0)})  # fmt: skip
by_kind.index = ["full", "other end", "place first", "no sizes", "no relations"]
by_kind.round(3)

# %% [markdown]
# The less a caption says, the more scenes it fits. Someone who asks for *"there is a boot"* and gets another boot has not been failed. How many of the retriever's misses are of this kind?

# %%
first_picture = scores.argmax(axis=0)  # (M,) the picture each caption puts first
missed = first_picture != owners
excused = missed & truth[first_picture, np.arange(len(owners))]
print(f"of {missed.sum()} misses {excused.sum()} are right: {excused.sum() / missed.sum():.1%}")
against_truth = counting.rank(scores.T, truth.T)  # the same scores, all right answers counted
gained = against_truth.hit_rate(1) - whole
sure = intervals.bootstrap(gained, owners, sizes.draws, seed=SEED)
record("false_negatives/recall_at_1_cost", gained.mean(), (sure.low.item(), sure.high.item()), excludes=(0,))

# %%
examples = np.flatnonzero(excused)
examples = examples[np.unique(owners[examples], return_index=True)[1]][:4]  # one a picture
panels = [world[rows[j]].image for pair in zip(owners[examples], first_picture[examples]) for j in pair]
under = [word for j in examples for word in (f"written for: {texts[j]}", "put first")]
axes = plotting.gallery(panels, under, columns=4, ticked=[False, True] * len(examples))
plotting.show(axes, alt="Pairs of scenes: the one a caption was written for, and another that it also describes.")

# %% [markdown]
# Left of each pair the picture a caption was written for, right of it the one put first. The benchmark calls each right one an error.
#
# With many right answers a hit at 1 asks too little: one of twenty will do. **mAP@R** asks for all. A query with $R$ right answers looks at its first $R$ places and
# computes average precision there. It is 1 only if all $R$ come first.
#
# ### Exercise 9.6: mAP@R
# Difficulty 2 of 3, about 10 minutes.
#
# Write `map_at_r(scores, right)`: (Q,), for each query the average precision over its first $R$ places, divided by $R$, its own number of right items.
#
# <details><summary>Hint 1</summary>Rank as in Exercise 9.2, but keep all places. Precision after each place: <code>cumsum / place</code>.</details>
# <details><summary>Hint 2</summary>Keep it where a right item stands <em>and</em> the place is at most R. Divide by R, not by what was found.</details>


# %% tags=["exercise"]
def map_at_r(scores, right):
    """Average precision over the first R places of each query, R = right.sum(axis=1); (Q,N), (Q,N) -> (Q,)."""
    # BEGIN SOLUTION
    hits = np.take_along_axis(right, np.argsort(-scores, axis=1), axis=1)  # (Q,N)
    place, total = np.arange(1, scores.shape[1] + 1), right.sum(axis=1, keepdims=True)
    precision = hits.cumsum(axis=1) / place  # (Q,N)
    return (precision * (hits & (place <= total))).sum(axis=1) / total[:, 0]
    # END SOLUTION


# %% tags=["check"]
fair_metrics.check_map_at_r(map_at_r)

# %%
strict_view = both["text_to_image"]
views = pd.DataFrame({"who wrote it": strict_view.summary(), "what is true": against_truth.summary()})
print(views.loc[["hit_rate_at_1", "hit_rate_at_10", "average_precision_at_r", "ndcg"]].round(3))
at_r = against_truth.average_precision_at_r()
sure = intervals.bootstrap(at_r, owners, sizes.draws, seed=SEED)
record("false_negatives/map_at_r", at_r.mean(), (sure.low.item(), sure.high.item()), excludes=(whole.mean(),))

# %% [markdown]
# Judged by the truth, the hit rate goes *up* and mAP@R is lower than either: one right picture is found more easily than all of them. Neither number is *the* quality. Say which you mean.
#
# ## 7 How sure are we?
# A hit rate is a mean over queries, so it has a standard error. But which queries are independent? Five captions of one blurry picture fail together. The **bootstrap** imitates drawing a new test set: draw pictures with return, take
# *all* their captions, compute the mean, repeat.

# %% tags=["nbval-check-output"]
some_hits = np.array([1.0, 1, 0, 0, 0, 1, 1, 1])  # (M,) was each caption a hit?
some_owners = np.array([0, 0, 1, 1, 1, 2, 2, 3])  # (M,) four pictures with 2, 3, 2 and 1 captions
one_draw = np.array([1, 3, 1, 0])  # pictures, drawn with return
values = [value for picture in one_draw for value in some_hits[some_owners == picture]]
print(np.array(values), "mean", np.mean(values).round(3), "of", len(values))

# %% [markdown]
# ### Exercise 9.7: one draw
# Difficulty 2 of 3, about 10 minutes.
#
# Write `drawn_mean(values, owners, drawn)`: the mean over all captions of all drawn pictures. A picture drawn twice counts twice.
#
# <details><summary>Hint 1</summary><code>np.isin</code> would count a picture once, however often it was drawn.</details>
# <details><summary>Hint 2</summary>How often was each picture drawn? <code>np.bincount</code> knows, and a caption weighs as much as its picture.</details>


# %% tags=["exercise"]
def drawn_mean(values, owners, drawn):
    """Mean of values (M,) over the captions of the drawn pictures (N,), with repetition; owners (M,)."""
    # BEGIN SOLUTION
    return np.concatenate([values[owners == picture] for picture in drawn]).mean()
    # END SOLUTION


# %% tags=["check"]
fair_metrics.check_drawn_mean(drawn_mean)

# %% [markdown]
# A thousand draws, ten measures, five thousand captions: loops take minutes. But a draw only says *how often* each picture counts. Write these counts as a row, stack the rows, and all draws of all measures are **one
# product**: (draws, pictures) @ (pictures, measures).

# %%
rng = np.random.default_rng(SEED)
drawn = rng.integers(0, len(rows), (50, len(rows)))  # (B,N) fifty draws
counts = np.stack([np.bincount(one, minlength=len(rows)) for one in drawn])  # (B,N)
sums = np.bincount(owners, weights=whole)  # (N,) hits of each picture's captions
products = counts @ sums / (counts @ np.bincount(owners))  # (B,N) @ (N,) -> (B,)
loops = [np.concatenate([whole[owners == picture] for picture in one]).mean() for one in drawn[:3]]
assert np.allclose(products[:3], loops)

# %%
names = ["hit_rate_at_1", "hit_rate_at_5", "reciprocal_rank", "average_precision", "ndcg"]
every = strict_view.measures()
measures = np.stack([every[name] for name in names], axis=1)  # (M,T)
by_picture = intervals.bootstrap(measures, owners, sizes.draws, seed=SEED)
by_caption = intervals.bootstrap(measures, None, sizes.draws, seed=SEED)
widths = pd.DataFrame({"mean": by_picture.mean, "low": by_picture.low, "high": by_picture.high}, index=names)
widths["wider than by caption"] = (by_picture.high - by_picture.low) / (by_caption.high - by_caption.low)
widths.round(3)

# %% [markdown]
# The last column: how much too narrow an interval is that treats captions as strangers. Does it matter? We can check, because we can make a world whose truth we know. Each picture has its own chance of a hit, drawn so
# that the mean is exactly 0.9; its five captions toss with that chance. An honest 95 % interval holds 0.9 in 95 of 100 such worlds. Predict both figures.

# %%
held = {"by picture": [], "by caption": []}
groups = np.repeat(np.arange(300), 5)
for trial in range(sizes.trials):
    rng = np.random.default_rng([SEED, trial])
    chance_of = rng.beta(1.8, 0.2, (300, 50))  # fifty worlds at once, mean 0.9
    tossed = (rng.random((1_500, 50)) < chance_of[groups]).astype(float)  # (M,T)
    for name, of in (("by picture", groups), ("by caption", None)):
        one = intervals.bootstrap(tossed, of, 500, seed=trial)
        held[name].append((one.low <= 0.9) & (one.high >= 0.9))
coverage = {name: float(np.mean(found)) for name, found in held.items()}
record("coverage/by_picture", coverage["by picture"], excludes=(coverage["by caption"], 1.0))
record("coverage/by_caption", coverage["by caption"], excludes=(0.95,))

# %% [markdown]
# Draw what was drawn: the test set is a sample of *pictures*. Resample pictures.
#
# ## 8 Is A better than B?
# Two retrievers from lesson 02, one trained plainly, one with foils in the batch. Both read full captions of two objects. Does the one trained with foils retrieve better? And does it know left from right? That is six
# comparisons: two directions and four kinds of foil.

# %%
pair_world = Scenes(SEED, "test")
images = torch.from_numpy(pair_world.images(range(sizes.scenes))).permute(0, 3, 1, 2) / 255  # (B,3,H,W)
true_texts = pair_world.captions(range(sizes.scenes))
kinds = ("relation", "swapped", "size", "replaced")
foil_texts = {kind: pair_world.foils(range(sizes.scenes), kind) for kind in kinds}
judges = {name: shipped.load(name) for name in ("scenes_plain", "scenes_foils")}


@torch.no_grad()
def seen(judge, pictures):
    """(n,E) embeddings of pictures (n,3,H,W)."""
    return torch.cat([judge.model.encode_image(part) for part in pictures.split(100)])


@torch.no_grad()
def read(judge, sentences):
    """(n,E) embeddings of sentences."""
    blocks = [sentences[i : i + 250] for i in range(0, len(sentences), 250)]
    return torch.cat([judge.model.encode_text(*judge.tokenize(block)) for block in blocks])


z_of = {name: seen(judge, images) for name, judge in judges.items()}  # (B,E) each


# %%
def judged(name):
    """comparison -> (B,) values: hits at 1 both ways, and true captions told from each kind of foil."""
    z, t = z_of[name], read(judges[name], true_texts)  # (B,E)
    ranked = counting.rank_both((z @ t.T).numpy(), np.arange(len(z)), np.arange(len(z)))
    compared = {direction: ranking.hit_rate(1) for direction, ranking in ranked.items()}
    for kind in kinds:
        gap = (z * (t - read(judges[name], foil_texts[kind]))).sum(dim=1).numpy()  # cosine with truth minus with foil
        compared[f"{kind} foils"] = (gap > 0) + 0.5 * (gap == 0)
    return compared


plain, foiled = judged("scenes_plain"), judged("scenes_foils")
pd.DataFrame({"plain": plain, "with foils": foiled}).map(np.mean).round(3)

# %% [markdown]
# Both were asked the *same* queries, and a hard query is hard for both. So compare query by query: the **paired difference**. If the models were alike, each difference could as well have the
# other sign. Flip signs at random many times, and see how often chance alone gets as far from zero: that share is $p$.
#
# ### Exercise 9.8: a permutation test
# Difficulty 2 of 3, about 10 minutes.
#
# Write `sign_flip_p(differences, signs)`: differences (N,), signs (S,N) of -1 and +1. $p = (1 + c) / (1 + S)$, where $c$ counts the flipped sums at least as far from zero, on either side, as the observed sum.
#
# <details><summary>Hint 1</summary>All flipped sums at once: <code>signs @ differences</code>, (S,N) @ (N,) -> (S,).</details>
# <details><summary>Hint 2</summary>Why the ones? The observed order is itself one of the possible ones, and no finite test can prove p = 0. Mind rounding: compare with a hair less.</details>


# %% tags=["exercise"]
def sign_flip_p(differences, signs):
    """Two-sided p of "no difference" from flipped signs (S,N) of paired differences (N,)."""
    # BEGIN SOLUTION
    flipped, observed = abs(signs @ differences), abs(differences.sum())
    return (1 + (flipped >= observed - 1e-12).sum()) / (1 + len(signs))
    # END SOLUTION


# %% tags=["check"]
fair_metrics.check_sign_flip_p(sign_flip_p)

# %%
rng = np.random.default_rng(SEED)
differences = foiled["text_to_image"] - plain["text_to_image"]  # (B,)
flips = rng.choice([-1.0, 1.0], (2_000, len(differences)))
by_hand = (1 + (abs(flips @ differences) >= abs(differences.sum()) - 1e-12).sum()) / 2_001
packaged = intervals.paired(foiled["text_to_image"], plain["text_to_image"], None, 2_000, seed=SEED)
print(
    f"difference {packaged.mean:+.3f} ({packaged.low:+.3f} to {packaged.high:+.3f}), p {packaged.p:.3f}; by hand {by_hand:.3f}"
)
assert abs(by_hand - packaged.p) < 0.07

# %% [markdown]
# Six comparisons at 5 % each find *something* in one table of four even where nothing is there. **Holm's** rule keeps the chance of any false finding at 5 %: multiply the smallest $p$ by 6, the next by 5, and so on.

# %%
found = {name: intervals.paired(foiled[name], plain[name], None, 2_000, seed=SEED) for name in plain}
verdicts = pd.DataFrame(
    {name: {"difference": d.mean, "low": d.low, "high": d.high, "p": d.p} for name, d in found.items()}
).T
verdicts["p after Holm"] = intervals.holm(verdicts.p)
verdicts.round(4)

# %%
axes = plotting.bars(list(found), [d.mean for d in found.values()], np.array([(d.low, d.high) for d in found.values()]))
axes.axvline(0, color="black", linewidth=1)
axes.set(xlabel="with foils minus plain, share of queries")
axes.set_title(f"{sum(verdicts['p after Holm'] < 0.05)} of 6 differences survive Holm")
plotting.show(
    axes, alt="Bars of six differences with intervals: relation and swapped foils near one half, the others near zero."
)
told = found["relation foils"]
record("paired/relation_foils", told.mean, (told.low, told.high), excludes=(0,))
alike = found["text_to_image"]
record("paired/recall_at_1", alike.mean, (alike.low, alike.high), excludes=(told.mean,))

# %% [markdown]
# Recall cannot tell them apart; two kinds of foil do at a glance. But *not significant* is not *equal*: perhaps we asked too few. How many queries would it take to see one point of recall, with 80 % probability?

# %%
pilot = foiled["text_to_image"] - plain["text_to_image"]
for effect in (0.05, 0.01, 0.002):
    print(f"a difference of {effect}: {intervals.groups_needed(pilot, None, effect):,} pictures")

# %% [markdown]
# The number grows with the square: half the difference, four times the pictures. Ask this *before* you collect a test set, and doubt a table that ranks models by tenths of a point on 1,000 pictures.
#
# ## 9 When it says 80 %
# Turn the retriever into a classifier: for each scene, which of four relations holds? Four captions, one softmax. Precision, recall and $F_1$ are those of lesson 04; here are its three averages.

# %%
from course_utils import classification
from course_utils.grammar import RELATIONS

relation = np.array([RELATIONS.index(pair_world[i].relations[0][1]) for i in range(sizes.scenes)])  # (B,)
choices = [
    text.replace(f" {RELATIONS[r]} ", f" {other} ") for text, r in zip(true_texts, relation) for other in RELATIONS
]
relation_logits = {}
for name, judge in judges.items():
    t = read(judge, choices).view(len(images), 4, -1)  # (B,4,E)
    relation_logits[name] = torch.einsum("be,bre->br", z_of[name], t).numpy()  # (B,4)
for name, line in relation_logits.items():
    report = classification.report(classification.confusion(relation, line.argmax(axis=1), 4))
    print(f"{name:13} F1: micro {report.micro[2]:.3f}, macro {report.macro[2]:.3f}, weighted {report.weighted[2]:.3f}")

# %% [markdown]
# *Micro* pools all cases and is accuracy here; *macro* lets each class count alike; *weighted* lets it count as often as it occurs. They part where classes are uneven.
#
# Accuracy asks whether the answer is right. **Calibration** asks whether the model knows. Among all answers given with 80 % confidence, 80 % should be right. Sort cases into bins of confidence; in each compare mean confidence with accuracy. Averaged over cases, the
# gap is the **expected calibration error** (ECE).
#
# ### Exercise 9.9: expected calibration error
# Difficulty 2 of 3, about 10 minutes.
#
# Write `expected_calibration_error(confidence, right, bins)`: bins of equal width over 0..1, cases in (low, high]; the mean over cases of |accuracy - mean confidence| of their bin.
#
# <details><summary>Hint 1</summary>For each bin: a mask, two means, and the share of cases in it.</details>
# <details><summary>Hint 2</summary>A bin without cases has no mean. Leave it out.</details>


# %% tags=["exercise"]
def expected_calibration_error(confidence, right, bins):
    """ECE of confidence (N,) in 0..1 and right (N,) bool, over `bins` equal bins."""
    # BEGIN SOLUTION
    edges, error = np.linspace(0, 1, bins + 1), 0.0
    for low, high in zip(edges[:-1], edges[1:]):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            error += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return error
    # END SOLUTION


# %% tags=["check"]
fair_metrics.check_calibration_error(expected_calibration_error)

# %% [markdown]
# When our retriever puts a picture first, how sure may a user be? The softmax of a caption's scores over all pictures, at the temperature the model was trained with, is its confidence. Half the
# captions fit another temperature, the other half judge. Predict: does the model say too much or too little?

# %%
from course_utils import calibration

asked_for = np.arange(0, len(owners), 5)[: 2 * (min(len(rows), 2_000) // 2)]  # the full captions of some pictures
fit, judging = asked_for[::2], asked_for[1::2]
tau = retriever.model.tau.item()


def confident(captions, temperature=1.0):
    """(confidence, right), (n,) each: the softmax of captions over all pictures, and whether the first one is theirs."""
    line = scores[:, captions].T / (tau * temperature)  # (n,N)
    shifted = np.exp(line - line.max(axis=1, keepdims=True))
    return shifted.max(axis=1) / shifted.sum(axis=1), line.argmax(axis=1) == owners[captions]


warmth = calibration.temperature(scores[:, fit].T / tau, owners[fit])
before, after = (calibration.reliability(*confident(judging, t), bins=10) for t in (1.0, warmth))
print(f"temperature {warmth:.2f}: ECE {before.expected_error:.3f} -> {after.expected_error:.3f}")

# %%
import matplotlib.pyplot as plt

_, axes = plt.subplots(figsize=(5, 4), layout="constrained")
axes.plot([0, 1], [0, 1], linestyle="--", color=plotting.COLOURS["neutral"], label="calibrated")
for name, curve_of, colour in (("as trained", before, "text"), ("temperature fitted", after, "image")):
    marker = plotting.MARKERS[colour]
    axes.plot(curve_of.confidence, curve_of.accuracy, color=plotting.COLOURS[colour], marker=marker, label=name)
axes.set(xlabel="confidence", ylabel="share right", xlim=(0, 1.02), ylim=(0, 1.02))
axes.set_title(f"ECE {before.expected_error:.2f} as trained, {after.expected_error:.2f} with T = {warmth:.2f}")
axes.legend(frameon=False)
plotting.show(
    axes, alt="Share right against confidence: far from the diagonal as trained, near it after fitting a temperature."
)
record("calibration/ece_as_trained", before.expected_error, excludes=(0,))
record("calibration/ece_fitted", after.expected_error, excludes=(before.expected_error,))

# %% [markdown]
# The model says too little: its temperature served batches of 64, not a pool of thousands, and every rival takes a share. **A confidence belongs to a pool as a recall does.** No answer changed: dividing all logits by one number keeps their order. What changed is what the model says about itself, and that is what a user acts on.
#
# ## 10 Judging what is generated
# A captioner writes, people have written, and a machine compares. **BLEU** counts n-grams of the text that also occur in a reference, with one twist: a word said five times counts no more often than in the reference that has it
# most. Without it, *the the the the* would be perfect English.
#
# ### Exercise 9.10: clipped precision
# Difficulty 2 of 3, about 10 minutes.
#
# Write `clipped_precision(words, references, n)`: a list of words, a list of lists of words, and the length of n-grams. The share of n-grams of `words` that are found, each at most as often as in the one reference that has it most.
#
# <details><summary>Hint 1</summary><code>collections.Counter</code> of tuples: <code>tuple(words[i : i + n])</code>.</details>
# <details><summary>Hint 2</summary>For each n-gram: <code>min(count, max over references)</code>. Divide by the number of n-grams said.</details>


# %% tags=["exercise"]
def clipped_precision(words, references, n):
    """Share of the n-grams of words (list of str) in references (lists of str), clipped."""
    # BEGIN SOLUTION
    from collections import Counter

    def grams(text):
        return Counter(tuple(text[i : i + n]) for i in range(len(text) - n + 1))

    mine, others = grams(words), [grams(one) for one in references]
    return sum(min(count, max(one[gram] for one in others)) for gram, count in mine.items()) / mine.total()
    # END SOLUTION


# %% tags=["check"]
fair_metrics.check_clipped_precision(clipped_precision)

# %% [markdown]
# BLEU is the geometric mean of these for $n$ = 1 to 4, times a penalty for being short. **CIDEr** weighs n-grams by how rare they are and asks for consensus among references. **CLIPScore** needs no reference: the
# cosine of picture and caption. A trial for all of them: a *true* caption in other words (told from the other end), and a *false* one in nearly the same words (objects swapped). Which does each measure prefer?

# %%
from course_utils import generation

references = [
    [scene_captions[k] for k in (0, 2, 3, 4)]
    for scene_captions in zip(*(pair_world.captions(range(sizes.scenes), k) for k in range(5)))
]
candidates = {
    "true, other words": pair_world.captions(range(sizes.scenes), 1),
    "false, same words": foil_texts["swapped"],
}
for name, some in candidates.items():
    print(f"{name}: {some[0]!r}")
print("references:", references[0])


# %%
def clip_scores(name, some):
    """CLIPScore (B,) of captions by a retriever's own towers."""
    return generation.clip_score(z_of[name], read(judges[name], some))


each = {
    "BLEU": lambda some: generation.sentence_bleu(some, references),
    "consensus": lambda some: generation.consensus(some, references),
    "CLIPScore, plain towers": lambda some: clip_scores("scenes_plain", some),
    "CLIPScore, foil towers": lambda some: clip_scores("scenes_foils", some),
}
values_of = {name: {kind: measure(some) for kind, some in candidates.items()} for name, measure in each.items()}
prefers = {name: (v["true, other words"] > v["false, same words"]).astype(float) for name, v in values_of.items()}
{name: round(float(value.mean()), 3) for name, value in prefers.items()}

# %%
ends = [intervals.bootstrap(value, draws=sizes.draws, seed=SEED) for value in prefers.values()]
bounds = np.array([(one.low.item(), one.high.item()) for one in ends])
axes = plotting.bars(list(prefers), [value.mean() for value in prefers.values()], bounds, chance=0.5, colour="text")
axes.set(xlabel="share of scenes in which the true caption wins", xlim=(0, 1.15))
axes.set_title(f"BLEU takes the true caption in {prefers['BLEU'].mean():.0%} of scenes")
plotting.show(
    axes,
    alt="Bars: how often each measure prefers the true caption; BLEU near zero, towers trained with foils near one.",
)
record("generation/bleu_prefers_true", prefers["BLEU"].mean(), tuple(bounds[0]), excludes=(0.5,))
record(
    "generation/clip_score_foils_prefers_true",
    prefers["CLIPScore, foil towers"].mean(),
    tuple(bounds[3]),
    excludes=(0.5,),
)

# %% [markdown]
# Word overlap prefers the lie, almost always: it looks at words, and the lie has the right ones. CLIPScore is exactly as wise as its towers: blind towers, blind score. A measure that shares the captioner's weakness will not see it.
#
# ### Pictures: a distance between two heaps
# For generated pictures one compares *sets*. Take features of real and of generated pictures, fit a Gaussian to each, and measure the **Frechet distance**: $|\mu_x - \mu_y|^2 + \mathrm{tr}(C_x + C_y - 2 (C_x C_y)^{1/2})$. With Inception's
# features it is called FID. The matrix root is slow and not needed: the last trace is a sum of singular values of a small product.

# %%
from scipy import linalg

from course_utils import distances

rng = np.random.default_rng(SEED)
x, y = rng.normal(size=(200, 8)), rng.normal(size=(150, 8)) @ rng.normal(size=(8, 8))  # (N,D), (M,D)
cx, cy = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
printed = ((x.mean(axis=0) - y.mean(axis=0)) ** 2).sum() + np.trace(cx + cy - 2 * np.real(linalg.sqrtm(cx @ cy)))
assert np.isclose(distances.frechet(x, y), printed)

# %% [markdown]
# Now the trap. Two heaps of *real* scenes, from the same source, so the true distance is zero. Features are the plain model's embeddings. Predict the curve as the heaps grow.

# %%
half = sizes.samples[-1]
heap = torch.from_numpy(Scenes(SEED + 1, "test").images(range(2 * half))).permute(0, 3, 1, 2) / 255  # (2n,3,H,W)
colourless = heap[:half].mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)
real, grey = (seen(judges["scenes_plain"], some).numpy() for some in (heap, colourless))  # (2n,E), (n,E)
one, other = real[:half], real[half:]
curves = {"real against real": one, "without colour against real": grey}
traced = {
    name: distances.extrapolated(
        lambda take, some=some: distances.frechet(some[take], other[: len(take)]), half, sizes.samples
    )
    for name, some in curves.items()
}
{name: (found.values.round(4), round(found.limit, 4)) for name, found in traced.items()}

# %%
axes = plotting.lines(
    sizes.samples, {name: found.values for name, found in traced.items()}, colours=("image", "accent")
)
axes.axhline(0, color="black", linewidth=1)
axes.set(xlabel="pictures in each heap", ylabel="Frechet distance")
axes.set_title(
    f"Real against real is 0 in truth; {sizes.samples[0]} pictures say {traced['real against real'].values[0]:.2f}"
)
plotting.show(
    axes,
    alt="Frechet distance against sample size: real against real falls towards zero, without colour stays far above.",
)

# %% [markdown]
# Few pictures look far apart, because a covariance from few rows is a bad guess, and always bad in the same direction. Beside a large distance the bias is small, so the upper curve need not show it. A FID of 1,000 pictures must not be compared with one of 50,000. A straight line in $1/N$ estimates the end of the curve; the **kernel distance** (KID) has no bias
# to begin with:

# %%
same_source = traced["real against real"]
record("frechet/bias_at_fewest", same_source.values[0], excludes=(0,))
record("frechet/limit_over_fewest", same_source.limit / same_source.values[0], excludes=(1,))
kernel = {
    name: [distances.kernel_distance(some[:n], other[:n]) for n in sizes.samples] for name, some in curves.items()
}
pd.DataFrame(kernel, index=sizes.samples).round(5)

# %% [markdown]
# **Inception score** looks at generated pictures alone: a classifier should be sure of each and see variety over all, $\exp(\text{mean KL}(p(y|x) \,\|\, p(y)))$. It cannot see that a model paints one picture a class:

# %% tags=["nbval-check-output"]
one_each = np.eye(10)[np.arange(1_000) % 10]  # (N,C): a thousand copies of ten pictures, each surely of its class
always_same = np.eye(10)[np.zeros(1_000, dtype=int)]
print(
    f"ten pictures, copied: {distances.inception_score(one_each):.1f} of 10;  one picture: {distances.inception_score(always_same):.1f}"
)

# %% [markdown]
# ## 11 A model card that says what was measured
# A figure travels without its lesson. So write down, beside each: its interval, its chance, and its protocol. Here is the card of the retriever on trial. Copy the cell, put your own retriever from lesson 06 in its place, and fill yours.

# %%
from IPython.display import Markdown


def card_row(name, value, groups, chance, protocol):
    """One line of the card: figure, 95 % interval by picture, chance, protocol."""
    sure = intervals.bootstrap(value, groups, sizes.draws, seed=SEED)
    return (
        f"| {name} | {value.mean():.3f} | {sure.low.item():.3f} to {sure.high.item():.3f} | {chance:.4f} | {protocol} |"
    )


# %%
pool = f"pool {len(rows)}, test scenes of seed {SEED}, ties in expectation"
blind_truth = counting.rank(constant.T, truth.T)  # what a scorer that knows nothing gets against the truth
by_chance, at_chance = blind_truth.hit_rate(1).mean(), blind_truth.average_precision_at_r().mean()
lines = ["| figure | value | 95 % interval | chance | protocol |", "|---|---|---|---|---|"]
lines += [
    card_row("hit rate @1, text to image", whole, owners, 1 / len(rows), f"{pool}, one right picture"),
    card_row("hit rate @1, against the truth", against_truth.hit_rate(1), owners, by_chance, f"{pool}, any true one"),
    card_row("mAP@R, against the truth", at_r, owners, at_chance, f"{pool}, all true ones wanted"),
]
Markdown("\n".join(lines))

# %% [markdown]
# ## What we saw

# %%
Markdown(f"""
- The same scores gave {whole.mean():.2f} in one pool of {len(rows)} and {folded.mean():.2f} in {sizes.folds} folds: a recall without its pool says nothing.
- A tie decided one way made a constant scorer perfect; the expected value gives it chance, {1 / len(rows):.4f}.
- True recall in place of hits cost {lost.mean():.2f} at k = 1; {excused.sum() / missed.sum():.0%} of the misses at 1 were right answers.
- Intervals by caption held the truth in {coverage["by caption"]:.0%} of known worlds, by picture in {coverage["by picture"]:.0%}.
- Recall could not tell two models apart ({alike.mean:+.3f}); relation foils could ({told.mean:+.2f}). BLEU preferred the true caption in {prefers["BLEU"].mean():.0%} of scenes.
""")

# %% [markdown]
# ## Questions
# 1. Why do we count ranks instead of sorting, and when would sorting be cheaper?
# 2. A paper reports recall@1 of 19 % image to text and 45 % text to image, five captions a picture. What do you suspect?
# 3. Why is the expected value under ties better than breaking them at random?
# 4. Your colleague's recall on the validation batch is 98 %. What do you ask first?
# 5. False negatives lower every model's recall@1. Why may they still change which model looks best?
# 6. Why draw pictures and not captions, and what would you draw for a set of videos with several clips each?
# 7. p after Holm is 0.3. Are the models equal?
# 8. A temperature was fitted on the test split. What is wrong with the ECE that follows?
# 9. CLIPScore with CLIP's towers ranks captioners. For which mistakes of a captioner is it blind?
# 10. Two papers report FID on 5,000 and on 50,000 pictures. Which is favoured?

# %% [markdown] tags=["solution"]
# **Answers in short.** 1: counting is one pass without memory and goes in blocks; with very many right answers a query, one sort serves all of them. 2: true recall at 1, which cannot pass 20 %, was printed for image to text. 3: it has the same mean and no noise, so reruns agree.
# 4: how large the pool was. 5: a model that is better at vague captions is punished more often. 6: the unit that was sampled; videos. 7: not shown to differ; look at the interval and at how many queries were needed. 8: it was tuned on what it judges, so it flatters.
# 9: those its towers cannot see, such as who is left of whom. 10: the one with 50,000, since the bias falls as 1/N.

# %% [markdown]
# ## References
# - Karpathy and Fei-Fei 2015, *Deep visual-semantic alignments* (the protocol of image-text recall).
# - McSherry and Najork 2008, *Computing information retrieval performance measures efficiently in the presence of tied scores*.
# - Musgrave, Belongie and Lim 2020, *A metric learning reality check* (mAP@R).
# - Chun et al. 2022, *ECCV Caption: correcting false negatives by collecting machine-and-human-verified image-caption associations*.
# - Efron 1987, *Better bootstrap confidence intervals*; Davison and Hinkley 1997, *Bootstrap methods and their application*.
# - Holm 1979, *A simple sequentially rejective multiple test procedure*.
# - Guo et al. 2017, *On calibration of modern neural networks*.
# - Papineni et al. 2002 (BLEU); Vedantam, Zitnick and Parikh 2015 (CIDEr); Hessel et al. 2021 (CLIPScore).
# - Heusel et al. 2017 (FID); Chong and Forsyth 2020, *Effectively unbiased FID and Inception score*; Binkowski et al. 2018 (KID).
