# %% [markdown]
# # 01 Representation learning: what puts a picture and a sentence into one space?
#
# > **You will be able to** turn one thing into pixels, words and speech as tensors, judge features inside one modality, map two
# > modalities into one space in three ways (coordinated, joint, adversarial), measure the space itself, and tell a real gain
# > from a leak.
# >
# > **Time** 75 minutes to read and run, about as long again for the ten exercises. **Needs** Python, NumPy, a little PyTorch, lesson 00.
# > **Runs** in under a minute (`smoke`), under three minutes on two CPU cores (`cpu`), without a GPU and without a network; `gpu` sizes are there and not yet run.

# %% tags=["parameters"]
PROFILE = "auto"
SEED = 0

# %% [markdown]
# A profile changes numbers and nothing else. Here are all of this lesson's; the cells below read them from `sizes`.

# %%
sizes = session.choose(
    strengths=((0.1, 3.0, 30.0), (0.1, 0.3, 1.0, 3.0, 10.0, 30.0), (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)),
    folds=(2, 5, 5),
    joint_steps=(100, 300, 600),
    adversarial_steps=(80, 200, 600),
    judge_steps=(50, 120, 200),
    head_steps=(120, 300, 600),
    temperatures=((0.02, 0.1, 0.5), (0.02, 0.05, 0.1, 0.2, 0.5), (0.02, 0.05, 0.1, 0.2, 0.5)),
    draws=(500, 2_000, 4_000),
)
sizes

# %% [markdown]
# ## 1 One thing, three modalities
# A **modality** is a way in which something reaches us: light, writing, sound. The course's stamps come in three.
# Here is one, as a picture, as a caption and as a caption read aloud by a person. Press play.

# %%
import numpy as np
from IPython.display import Audio

from course_utils import plotting, stamps
from course_utils.checks import representation_learning

table = stamps.load()
stamp = table[table["name"] == "hobbies/music/string/cello"].iloc[0]
axes = plotting.gallery([stamps.picture(stamp, 200)], [f"{stamp['caption']} {stamp['caption_fr']}"])
plotting.show(axes, alt="A cut-out picture of a cello, with its English and its French caption below.")

# %%
samples, rate = stamps.speech(stamp, "fr")  # (T,), samples a second
Audio(samples, rate=rate)

# %% [markdown]
# To a computer each of them is an array of numbers, and no two have a shape in common. Before you run: which of the
# three holds most numbers, and how many times more than the fewest?

# %% tags=["nbval-check-output"]
pixels = stamps.picture(stamp)  # (H,W,4): red, green, blue, and alpha, which says where the object is
characters = np.array([ord(letter) for letter in stamp["caption_fr"]])  # (L,)
for name, array in {"pixels": pixels, "words": characters, "speech": samples}.items():
    print(f"{name:7} shape {array.shape}, {array.size:,} numbers of type {array.dtype}")

# %% [markdown]
# A few letters say in writing what takes thousands of numbers in light or sound. Nothing in these arrays can be
# compared: a brightness is not a letter. The lesson's question is what has to be done until a picture of a cello lies
# *near* the words for it.

# %% [markdown]
# ### Sound as a picture: frames
# A recording is one long row. What we hear in it is how pitch changes over time, so it is cut into short overlapping
# **frames**, and each frame is asked for its pitches. First the cutting, on ten samples, frames of four that begin
# every three:

# %% tags=["nbval-check-output"]
ten = np.arange(10.0)  # (T,)
by_hand = np.array([ten[0:4], ten[3:7], ten[6:10]])  # (F,4)
by_hand

# %% [markdown]
# ### Exercise 1.1: frames
# Difficulty 1 of 3, about 5 minutes.
#
# Write `frames(samples, length, step)`: samples (T,) in, whole frames (F,length) out, frame `f` beginning at sample
# `f * step`. Samples at the end that do not fill a frame are left out.
#
# <details><summary>Hint 1</summary>With T = 10, length 4, step 3 there are three frames. With T = 9, how many? Write F as a formula of T.</details>
# <details><summary>Hint 2</summary>F = 1 + (T - length) // step. A list of slices in <code>np.stack</code> is enough.</details>


# %% tags=["exercise"]
def frames(samples, length, step):
    """Whole frames of samples (T,), each `length` long, one every `step` samples -> (F,length)."""
    # BEGIN SOLUTION
    count = 1 + (len(samples) - length) // step
    return np.stack([samples[f * step : f * step + length] for f in range(count)])  # (F,length)
    # END SOLUTION


# %% tags=["check"]
representation_learning.check_frames(frames)

# %% [markdown]
# Now the pitches of a frame. The Fourier transform says how much of each frequency it holds. We try it where the
# answer is known: a pure tone of 1,000 hertz, 25 milliseconds of it, faded in and out by a Hann window so that the
# edges do not click.

# %% tags=["nbval-check-output"]
time = np.arange(400) / rate  # (400,) seconds: 25 ms at 16,000 samples a second
tone = np.sin(2 * np.pi * 1000 * time)
hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)  # (400,)
power = np.abs(np.fft.rfft(tone * hann, 512)) ** 2  # (257,)
hertz = np.linspace(0, rate / 2, len(power))
print(f"{len(power)} frequencies, the strongest at {hertz[power.argmax()]:.0f} hertz")

# %% [markdown]
# 257 frequencies are finer than an ear is. Ears hear steps in *ratio*: from 100 to 200 hertz sounds as far as from
# 1,000 to 2,000, roughly. The **mel** scale bends frequency accordingly, $m = 2595 \log_{10}(1 + f/700)$, and 40
# overlapping triangles, evenly spaced in mel, add up the power.

# %%
mel = np.linspace(0, 2595 * np.log10(1 + rate / 2 / 700), 42)  # 40 triangles have 42 corners
corners = 700 * (10 ** (mel / 2595) - 1)  # (42,) hertz
rise = (hertz[:, None] - corners[:-2]) / (corners[1:-1] - corners[:-2])  # (257,40)
fall = (corners[2:] - hertz[:, None]) / (corners[2:] - corners[1:-1])  # (257,40)
triangles = np.clip(np.minimum(rise, fall), 0, None)  # (257,40)
loudest = (power @ triangles).argmax()  # (257,) @ (257,40) -> (40,)
print(f"the tone is loudest in band {loudest}, whose triangle peaks at {corners[loudest + 1]:.0f} hertz")

# %% [markdown]
# Frames, window, Fourier, triangles, logarithm: that is the **log-mel spectrogram**, the usual tensor for speech.
# This is a **bridge cell**: what was written out above, what the package holds, and what the library `transformers`
# computes are the same numbers, or the lesson stops here.

# %%
from transformers.audio_utils import mel_filter_bank, spectrogram

from course_utils import speech

cut = np.lib.stride_tricks.sliding_window_view(samples, 400)[::160]  # (F,400): 25 ms, one every 10 ms
ours = np.log(np.maximum(np.abs(np.fft.rfft(cut * hann, 512)) ** 2 @ triangles, 1e-10))  # (F,257) @ (257,40) -> (F,40)
packaged = speech.log_mel(samples, rate)  # (F,40)
filters = mel_filter_bank(257, 40, 0, rate / 2, rate, mel_scale="htk")  # (257,40)
options = {"fft_length": 512, "power": 2.0, "center": False, "mel_floor": 1e-10, "log_mel": "log"}
theirs = spectrogram(samples, hann, 400, 160, mel_filters=filters, **options).T  # (40,F) -> (F,40)
assert np.allclose(ours, packaged, atol=1e-4) and np.allclose(packaged, theirs, atol=1e-3)
packaged.shape

# %%
figure, (above, below) = plotting.plt.subplots(2, 1, figsize=(7.5, 4.6), layout="constrained", height_ratios=(1, 2))
above.plot(np.arange(len(samples)) / rate, samples, color=plotting.COLOURS["sound"], linewidth=0.5)
above.set(
    xlabel="seconds", ylabel="amplitude", title=f"{len(samples):,} samples become {len(packaged)} frames of 40 bands"
)
plotting.heat(packaged.T, ax=below)
below.invert_yaxis()
below.set(xlabel="frame, one every 10 ms", ylabel="mel band (low to high)")
plotting.show(figure, alt="A waveform above; below, its log-mel spectrogram with bright low bands where vowels are.")

# %% [markdown]
# Time runs to the right, pitch upwards, colour is loudness (the logarithm of power). Bright bands low down are
# vowels; a patch high up is a hiss, here the *c* of *-celle*. Each recording has another length, so for comparing
# whole recordings the package adds a crude summary: the mean of eight equal stretches, 8 × 40 = 320 numbers.

# %% [markdown]
# ## 2 Features: near means alike
# Raw pixels compare badly: shift a picture by one pixel and all its numbers change. So each modality first goes
# through a network that was trained on something else, and what it says of the thing, a row of numbers, is its
# **feature**. Pictures go through EfficientNet-Lite0 (1,280 numbers, trained to name ImageNet's classes), captions
# through MiniLM (384 numbers, trained on sentences). Both ran once, when the course was made.

# %%
from course_utils import towers


def unit(rows):
    """Rows of length 1; a row of zeros stays as it is."""
    return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)


features, clip_art = towers.features("stamps"), towers.features("pictures")
wide, y = unit(features.image), features.text  # (N,1280), (N,384)
extra_wide, y_extra = unit(clip_art.image), clip_art.text  # (M,1280), (M,384)
print(f"{len(y)} stamps with careful captions; {len(y_extra):,} pictures of clip art with rough titles")

# %% [markdown]
# Few pairs and many numbers invite memorising. We keep the 256 directions in which *clip art* varies most, its
# principal components. No stamp takes part in choosing them, so none can leak into a test later.

# %%
centre = extra_wide.mean(axis=0)  # (1280,)
variance, directions = np.linalg.eigh((extra_wide - centre).T @ (extra_wide - centre))  # (1280,), (1280,1280) rising
directions = directions[:, ::-1][:, :256]  # (1280,256)
x, x_extra = (wide - centre) @ directions, (extra_wide - centre) @ directions  # (N,256), (M,256)
print(f"256 of 1,280 directions keep {variance[::-1][:256].sum() / variance.sum():.0%} of the variance of clip art")

# %% [markdown]
# Who is near whom? Cosines between all rows, then sort. By hand for three rows of two numbers: which is the first
# row's nearest neighbour?

# %% tags=["nbval-check-output"]
three = np.array([[1.0, 0.0], [5.0, 5.0], [0.0, 1.0]])  # (N,D); the second is long
cosines = unit(three) @ unit(three).T  # (N,D) @ (D,N) -> (N,N)
cosines.round(2)

# %% [markdown]
# ### Exercise 1.2: nearest neighbours
# Difficulty 1 of 3, about 5 minutes.
#
# Write `neighbours(x, k)`: rows `x` (N,D) of any length in, the indices (N,k) of the `k` most alike rows by cosine
# out, nearest first. No row is a neighbour of itself.
#
# <details><summary>Hint 1</summary>The diagonal of the cosine matrix is 1. What could you write there, so that it never comes first?</details>
# <details><summary>Hint 2</summary><code>np.fill_diagonal(cosines, -np.inf)</code>, then <code>np.argsort(-cosines, axis=1)</code>.</details>


# %% tags=["exercise"]
def neighbours(x, k):
    """Indices (N,k) of the rows of x (N,D) most alike to each row by cosine, nearest first, never itself."""
    # BEGIN SOLUTION
    cosines = unit(x) @ unit(x).T  # (N,D) @ (D,N) -> (N,N)
    np.fill_diagonal(cosines, -np.inf)
    return np.argsort(-cosines, axis=1)[:, :k]
    # END SOLUTION


# %% tags=["check"]
representation_learning.check_neighbours(neighbours)

# %% [markdown]
# Two modalities, two opinions of what is near. Predict: whom do pixels place beside the glass of water, and whom do
# words?

# %%
glass = int(np.flatnonzero(table["name"] == "household/dishes/glass")[0])
wording = table["caption"].to_numpy()
order = {}
for name, rows in {"by pixels": unit(x), "by words": unit(y)}.items():
    order[name] = np.argsort(-(rows @ rows[glass]))[1:5]  # the first is the glass itself
shown = [glass, *order["by pixels"], glass, *order["by words"]]
kind = ["the query", *["by pixels"] * 4, "the query", *["by words"] * 4]
titles = [f"{how}: {wording[row]}" for how, row in zip(kind, shown)]
axes = plotting.gallery([stamps.picture(table.iloc[row], 96) for row in shown], titles)
plotting.show(axes, alt="A glass and its nearest stamps. " + "; ".join(titles))

# %% [markdown]
# Pixels find what is upright and has a rounded top. Words find what is spoken of in like ways, down to a second
# meaning of the same word. Each space is good at something, and neither knows of the other.

# %% [markdown]
# ## 3 Ridge: how much does a feature know?
# A **linear probe** asks: can a straight-line map read the answer off this feature? We fit it in closed form, by
# **ridge** regression. The tiny case has one number in, one out: $x = (-1, 0, 1)$ and $y = (-2, 0, 2)$. Plain least
# squares gives $w = \sum xy / \sum x^2 = 4/2$. Ridge adds a strength $\lambda$ below: with $\lambda = 2$, by hand?

# %% tags=["nbval-check-output"]
x_tiny, y_tiny = np.array([-1.0, 0.0, 1.0]), np.array([-2.0, 0.0, 2.0])  # (N,) each
slopes = {strength: float(x_tiny @ y_tiny / (x_tiny @ x_tiny + strength)) for strength in (0, 2, 18)}
slopes

# %% [markdown]
# Strength pulls the slope towards zero: the map trusts the data less. With many numbers in and out, and both sides
# centred, $X$ (N,Dx) and $Y$ (N,Dy):
#
# $$W = (X^\top X + \lambda I)^{-1} X^\top Y \qquad (D_x, D_y)$$
#
# ### Exercise 1.3: ridge
# Difficulty 2 of 3, about 10 minutes.
#
# Write `ridge_weights(x, y, strength)`: `x` (N,Dx) and `y` (N,Dy), *not* centred, in; the weights (Dx,Dy) of the
# ridge map between their centred versions out. It must also hold where N is smaller than Dx.
#
# <details><summary>Hint 1</summary>Centre first. Along which axis is the mean of a feature taken?</details>
# <details><summary>Hint 2</summary><code>np.linalg.solve(A, B)</code> is inverse(A) @ B, without the inverse. Strength goes on the diagonal alone: <code>np.eye</code>.</details>


# %% tags=["exercise"]
def ridge_weights(x, y, strength):
    """Weights (Dx,Dy) of the ridge map from centred x (N,Dx) to centred y (N,Dy)."""
    # BEGIN SOLUTION
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    return np.linalg.solve(x.T @ x + strength * np.eye(x.shape[1]), x.T @ y)  # (Dx,Dx), (Dx,Dy) -> (Dx,Dy)
    # END SOLUTION


# %% tags=["check"]
representation_learning.check_ridge_weights(ridge_weights)

# %% [markdown]
# The package's `linear.ridge` is this with a remembered mean on both sides. Bridge to the formula, and to
# scikit-learn:

# %%
from sklearn.linear_model import Ridge

from course_utils import linear

rng = np.random.default_rng(SEED)
a, b = rng.normal(size=(30, 6)) + 1, rng.normal(size=(30, 4)) - 2  # (N,Dx), (N,Dy)
fitted = linear.ridge(a, b, strength=2.0)
a_centred, b_centred = a - a.mean(axis=0), b - b.mean(axis=0)
by_formula = np.linalg.inv(a_centred.T @ a_centred + 2.0 * np.eye(6)) @ a_centred.T @ b_centred  # (Dx,Dy)
theirs = Ridge(alpha=2.0).fit(a, b)
assert np.allclose(fitted.weight, by_formula, atol=1e-8)
assert np.allclose(fitted(a), theirs.predict(a), atol=1e-4)

# %% [markdown]
# ### The probe
# The answer to be read off is the folder a stamp lies in: animals, town, food, 16 in all. The target is a row with a
# 1 in the right column; the probe's guess is its largest output. The stamps come in five divisions (`smoke` uses
# two), each with its own test set, and **look-alikes never lie on both sides** (section 11 shows why).

# %%
from course_utils import metrics

splits = [stamps.split(k) for k in range(sizes.folds)]
tested = np.concatenate([split.test for split in splits])  # (T,) no stamp is tested twice
group = table["group"].to_numpy()  # look-alikes share a group
category = table["category"].to_numpy()
names, folder = np.unique(category, return_inverse=True)  # (16,), (N,)
one_hot = np.eye(len(names))[folder]  # (N,16)
spoken = table["speech_fr"].notna().to_numpy()  # (N,) who has a recording
print(f"{len(set(group))} groups of look-alikes; {spoken.sum()} of {len(table)} stamps are spoken in French")

# %% [markdown]
# For speech we take the log-mel summary, and beside it a **control** that holds no word: how loud the quietest
# twentieth of each band is. That is the room's noise, not the voice. Predict the order of the four, and whether the
# control beats *always say animals*.

# %%
frames_of = [speech.log_mel(*stamps.speech(row, "fr")) for _, row in table[spoken].iterrows()]  # (F,40) each
said, noise = np.zeros((len(table), 320)), np.zeros((len(table), 40))
said[spoken] = [speech.summary(log_mel) for log_mel in frames_of]
noise[spoken] = [np.quantile(log_mel, 0.05, axis=0) for log_mel in frames_of]
said, noise = (
    (rows - rows[spoken].mean(axis=0)) / rows[spoken].std(axis=0) for rows in (said, noise)
)  # (N,320), (N,40)


# %%
def spoken_rows(split):
    """Training and test rows of a division that have a recording."""
    return split.train[spoken[split.train]], split.test[spoken[split.test]]


def probe(rows, strength):
    """1 for each tested stamp whose folder is read off by a probe that was fitted on other groups: (T',)."""
    right = []
    for seen, unseen in map(spoken_rows, splits):
        guess = linear.ridge(rows[seen], one_hot[seen], strength)(rows[unseen]).argmax(axis=1)
        right.append(guess == folder[unseen])
    return np.concatenate(right).astype(float)


spoken_test = tested[spoken[tested]]  # (T',)
most_frequent = (category[spoken_test] == "animals").mean()
probes = {"pixels": probe(x, 1.0), "words": probe(y, 1.0), "speech": probe(said, 1e3), "noise alone": probe(noise, 1e2)}


# %%
def over_stamps(values, rows=tested):
    """95 % interval of a mean over stamps `rows`, look-alikes drawn together."""
    return metrics.bootstrap_interval(values, group[rows], SEED, draws=sizes.draws)


bounds = [over_stamps(right, spoken_test) for right in probes.values()]
axes = plotting.bars(list(probes), [right.mean() for right in probes.values()], np.array(bounds), most_frequent)
axes.set(xlabel="share of unseen stamps put into the right folder", title="What a straight line reads off each feature")
plotting.show(axes, alt="Bars: words highest, pixels next, speech and its noise near always saying animals.")

# %% [markdown]
# The dashed line, called chance here, is *always say animals*. Words and pixels know the folder well. Speech knows a
# little more than its noise, and the noise hardly more than the dashed line. Had the noise known the folder, as it
# would where each folder is recorded in one sitting, the bar of speech would mean nothing. **A probe finds what is in
# a feature, not what you meant to put there.** Keep such a control beside every result that surprises you.

# %% [markdown]
# ## 4 Two spaces that cannot be compared
# Now across modalities: can a caption *search* the pictures? The score has to be high where caption and picture
# belong together. But `x` has 256 numbers and `y` has 384, and their axes have nothing to do with each other. Without
# a map there is not even a product to take. With a map drawn at random there is, and it must give chance.
#
# From here on every method is a function `place(fold, rows)`. It may learn from the training stamps of division
# number `fold`, and gives back two matrices with one row a stamp of `rows`: where it puts the pictures, where it puts
# the captions. `hits` asks each caption to find its picture in its own test set.


# %%
def hits(place, part="test", ks=(1, 5, 10)):
    """(3,T): for k = 1, 5, 10, whether each stamp's caption finds its picture among the first k of its own set."""
    found = []
    for fold, split in enumerate(splits):
        rows = getattr(split, part)
        z_img, z_txt = (unit(placed) for placed in place(fold, rows))  # (Q,E) each
        same = wording[rows][:, None] == wording[rows][None, :]  # (Q,Q): equal captions are all right answers
        found.append([metrics.recall_at_k(z_txt @ z_img.T, same, k) for k in ks])  # (Q,E) @ (E,Q) -> (Q,Q)
    return np.concatenate(found, axis=1)


def nowhere(fold, rows):
    """All pictures and all captions in one place: a search that knows nothing."""
    return np.zeros((len(rows), 1)), np.zeros((len(rows), 1))


at_chance = hits(nowhere).mean(axis=1)  # (3,)
pool = len(tested) / len(splits)
print(f"recall@1, 5, 10 among about {pool:.0f} stamps, by chance: {at_chance.round(3)}")

# %%
results = {}


def note(name, found):
    """Keep a method's hits (3,T) and print them, with the interval over stamps and the spread over divisions."""
    results[name] = found
    low, high = over_stamps(found[0])
    ends = np.cumsum([len(split.test) for split in splits])[:-1]
    spread = np.std([part.mean() for part in np.split(found[0], ends)], ddof=1)
    print(f"{name}: recall@1, 5, 10 = {found.mean(axis=1).round(3)}", end="; ")
    print(f"interval of recall@1 {low:.3f} to {high:.3f}, divisions ±{spread:.3f}")


random_map = rng.normal(size=(256, 384))
note("raw features, random map", hits(lambda fold, rows: (x[rows] @ random_map, y[rows])))

# %% [markdown]
# Chance, as it must be: recall@1 of one in about 150, a little more because a few captions are equal. This is our
# floor, and what *raw features* means below: excellent inside their own modality, and worth nothing across. What is
# missing is not knowledge. It is agreement on axes.

# %% [markdown]
# ## 5 Coordinated: two maps, one agreement
# The first family keeps two maps and demands that partners land near each other. The simplest has only one map: ridge
# from pixels into the captions' own space, with captions as targets instead of folders. Pairs come from the stamps of
# the training set, and if we like, from clip art as well.


# %%
def pairs(fold, extra):
    """Training pairs of a division: pixels (M,256) and captions (M,384), with clip art where `extra`."""
    train = splits[fold].train
    if not extra:
        return x[train], y[train]
    return np.concatenate([x[train], x_extra]), np.concatenate([y[train], y_extra])


def ridge_place(strength, extra):
    def place(fold, rows):
        fitted = linear.ridge(*pairs(fold, extra), strength)
        mean = y[splits[fold].train].mean(axis=0)  # (384,) what all captions share tells no picture from another
        return fitted(x[rows]) - mean, y[rows] - mean

    return place


# %% [markdown]
# How strong? That is chosen on the *validation* sets, and never on the test sets, since a best of five on the test is
# a small lie. Predict where the curves bend, and which of the two bends later.

# %%
sets = {"stamps alone": False, "with clip art": True}


def on_validation(place_of):
    """Recall@1 on the validation sets for each strength, for both training sets: {name: (S,)}."""
    return {
        name: [hits(place_of(strength, extra), "val")[0].mean() for strength in sizes.strengths]
        for name, extra in sets.items()
    }


by_strength = on_validation(ridge_place)
axes = plotting.lines(sizes.strengths, by_strength, chance=at_chance[0])
axes.set(xscale="log", xlabel="strength of ridge", ylabel="recall@1, validation", ylim=(0, 0.42))
axes.set_title("Ridge: how strong, and on how many pairs")
plotting.show(axes, alt="Recall at 1 over ridge strength: flat curves; the one with clip art lies above.")

# %%
best_ridge = {sets[name]: sizes.strengths[int(np.argmax(curve))] for name, curve in by_strength.items()}
for name, extra in sets.items():
    note(f"ridge, {name}", hits(ridge_place(best_ridge[extra], extra)))

# %% [markdown]
# Many times chance, from a map with one formula and no training loop. But ridge is lopsided: the captions' space
# stays as it is, with every direction in it that no picture could ever tell.

# %% [markdown]
# ### CCA: what do the two have in common?
# **Canonical correlation analysis** maps both sides and asks for directions in which they *correlate*. A toy shows
# the point. Something hidden, `common`, is in both; each side also has loud noise of its own. Predict: the
# correlation between the best column of `left` and the best of `right`, is it near 0, near 0.5 or near 1?

# %%
common = rng.normal(size=2_000)  # (N,) what both share
loud_left, loud_right = rng.normal(scale=5.0, size=(2, 2_000))
left = np.stack([common + loud_left, loud_left], axis=1)  # (N,2): it is hidden under noise, but the noise is known
right = np.stack([loud_right, common - loud_right], axis=1)  # (N,2)
columns = np.corrcoef(left.T, right.T)[:2, 2:]  # (2,2)
print(f"largest correlation of any two columns: {np.abs(columns).max():.2f}")
print(f"of left's difference with right's sum:  {np.corrcoef(left[:, 0] - left[:, 1], right.sum(axis=1))[0, 1]:.2f}")

# %% [markdown]
# No column alone shows it, and a right *mixture* on each side shows all of it. How does one find the mixture?
# **Whiten** each side, so that no direction is louder than another and none repeats another. Then only agreement is
# left, and a singular value decomposition lists it, strongest first:
#
# $$\tilde X = X (X^\top X)^{-1/2}, \qquad \tilde Y = Y (Y^\top Y)^{-1/2}, \qquad \tilde X^\top \tilde Y = U\, \mathrm{diag}(\rho)\, V^\top$$
#
# The $\rho$ are the canonical correlations.


# %%
def whiten(rows):
    """Centred rows (N,D), turned and scaled so that white.T @ white is the identity."""
    rows = rows - rows.mean(axis=0)
    squared, axes_found = np.linalg.eigh(rows.T @ rows)  # (D,), (D,D)
    return rows @ axes_found / np.sqrt(squared)  # (N,D)


white_left, white_right = whiten(left), whiten(right)
assert np.allclose(white_left.T @ white_left, np.eye(2))
rho = np.linalg.svd(white_left.T @ white_right, compute_uv=False)  # (2,2) -> (2,)
rho.round(2)

# %% [markdown]
# ### Exercise 1.4: canonical correlations
# Difficulty 3 of 3, about 15 minutes.
#
# Write `canonical_correlations(x, y)`: `x` (N,Dx) and `y` (N,Dy), not centred, N large, in; all min(Dx,Dy)
# correlations, largest first, out. Try a way of your own.
#
# <details><summary>Hint 1</summary>Whitening leaves open how the axes are turned, and singular values do not care. Which well known decomposition gives orthonormal columns that span the same space?</details>
# <details><summary>Hint 2</summary><code>np.linalg.qr(x - x.mean(axis=0))[0]</code> is white. Then <code>np.linalg.svd(..., compute_uv=False)</code>.</details>


# %% tags=["exercise"]
def canonical_correlations(x, y):
    """All min(Dx,Dy) canonical correlations of x (N,Dx) and y (N,Dy), largest first."""
    # BEGIN SOLUTION
    white_x = np.linalg.qr(x - x.mean(axis=0))[0]  # (N,Dx)
    white_y = np.linalg.qr(y - y.mean(axis=0))[0]  # (N,Dy)
    return np.linalg.svd(white_x.T @ white_y, compute_uv=False)  # (Dx,Dy) -> (min,)
    # END SOLUTION


# %% tags=["check"]
representation_learning.check_canonical_correlations(canonical_correlations)

# %% [markdown]
# Bridges: ours, the package's, and scikit-learn's, which finds the same by alternating steps. A direction may come
# out with either sign.

# %%
from sklearn.cross_decomposition import CCA

fitted_cca = linear.cca(left, right, dims=2)
their_left, their_right = CCA(n_components=2, scale=False, max_iter=5_000, tol=1e-12).fit_transform(left, right)
our_left = fitted_cca.map_x(left)  # (N,2)
sign = np.sign((our_left * their_left).sum(axis=0))
scale = np.linalg.norm(our_left, axis=0) / np.linalg.norm(their_left, axis=0)
assert np.allclose(fitted_cca.correlations, rho, atol=1e-8)
assert np.allclose(our_left, their_left * sign * scale, atol=1e-4)

# %% [markdown]
# ### A warning before the real thing
# Pixels have 256 numbers, captions 384, and a training set has about 450 pairs. Predict the largest canonical
# correlation between the captions and *nothing but noise* of 256 numbers.

# %%
first = splits[0].train
pure_noise = rng.normal(size=(len(first), 256))
for name, rows in {"noise": pure_noise, "pixels": x[first]}.items():
    print(f"captions and {name:6}: {linear.cca(rows, y[first], dims=10).correlations[0]:.3f}")

# %% [markdown]
# Perfect agreement, with noise as with pictures: with so many free directions everything correlates *on the pairs it
# was fitted to*. Correlations of the training set prove nothing. Two things help: the strength of ridge added to both
# $X^\top X$ and $Y^\top Y$, and more pairs. And the judge is recall on pairs that were not seen.


# %%
def cca_place(strength, extra, dims=128):
    def place(fold, rows):
        fitted = linear.cca(*pairs(fold, extra), dims, strength)
        return fitted.map_x(x[rows]), fitted.map_y(y[rows])  # (Q,128) each

    return place


by_strength = on_validation(cca_place)
best_cca = {sets[name]: sizes.strengths[int(np.argmax(curve))] for name, curve in by_strength.items()}
for name, extra in sets.items():
    note(f"CCA, {name}", hits(cca_place(best_cca[extra], extra)))

# %% [markdown]
# A map that was fitted on another division's training set would have seen some of these test stamps, and its recall would
# look no different. So the last division once more, by hand: its test stamps were not in training, and the map is the same.

# %%
last = splits[-1]
assert not np.isin(last.test, last.train).any()
seen = np.concatenate([x[last.train], x_extra]), np.concatenate([y[last.train], y_extra])  # (M,256), (M,384)
refitted = linear.cca(*seen, 128, best_cca[True])
placed_img, placed_txt = cca_place(best_cca[True], extra=True)(len(splits) - 1, last.test)  # (Q,128) each
assert np.allclose(refitted.map_x(x[last.test]), placed_img)
assert np.allclose(refitted.map_y(y[last.test]), placed_txt)
print(f"{len(last.test)} test stamps that the map has not seen")

# %%
coordinated = results["CCA, with clip art"][0]  # (N,)
times, span = coordinated.mean() / at_chance[0], np.divide(over_stamps(coordinated), at_chance[0])
record("coordinated/recall_at_1", coordinated.mean(), over_stamps(coordinated), at_chance[0])
record("coordinated/recall_at_1_over_chance", times, span, 1.0, (1.0, 15.0))

# %% [markdown]
# Both closed forms stand tens of times above chance. The clip art's titles are rough, and yet the extra pairs raise
# both. Lesson 02 trains such a pair of maps by gradient, with a contrastive loss.

# %% [markdown]
# ### Which modalities share what?
# CCA and ridge do not care what the numbers mean. So let speech meet three partners: the *spelling* of the caption
# (how often each string of one to three letters occurs), its *meaning* (MiniLM, of the English caption), and the
# *picture*. Beside each stands the control from section 3, the room's noise. Predict the three pairs of bars.

# %%
from sklearn.feature_extraction.text import TfidfVectorizer

french = table["caption_fr"].to_numpy()
spelling = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 3), sublinear_tf=True, min_df=3)
letters = spelling.fit_transform(french).toarray()  # (N,V); counts alone, no answer is used
partners = {"spelling": (letters, french), "meaning": (y, wording), "picture": (x, wording)}


def speech_finds(heard, partner, same_as):
    """For each spoken test stamp whether what is heard finds its partner, by ridge: (T',)."""
    found = []
    for seen, unseen in map(spoken_rows, splits):
        placed = linear.ridge(heard[seen], partner[seen], 100.0)(heard[unseen]) - partner[seen].mean(axis=0)
        same = same_as[unseen][:, None] == same_as[unseen][None, :]  # (Q,Q)
        scores = unit(placed) @ unit(partner[unseen] - partner[seen].mean(axis=0)).T  # (Q,D) @ (D,Q) -> (Q,Q)
        found.append(metrics.recall_at_k(scores, same, 1))
    return np.concatenate(found)


# %%
heard = {f"{what} → {name}": speech_finds(rows, *partner)
         for name, partner in partners.items() for what, rows in {"speech": said, "noise": noise}.items()}  # fmt: skip
bounds = [over_stamps(found, spoken_test) for found in heard.values()]
axes = plotting.bars(list(heard), [found.mean() for found in heard.values()], np.array(bounds), at_chance[0], "sound")
axes.set(xlabel="recall@1 among about 145 unseen stamps", title="What a recording shares with each partner")
plotting.show(
    axes, alt="Six bars: speech to spelling far above its control, speech to picture about as low as its own."
)
spelled, by_noise = (heard[f"{what} → spelling"].mean() for what in ("speech", "noise"))
record("speech/spelling_recall_at_1", spelled, bounds[0], at_chance[0], (at_chance[0], by_noise))

# %% [markdown]
# Speech finds the spelling of captions that it was not trained on, because sounds and letters share their parts.
# Meaning comes out weakly, by way of words that recur. The picture comes out about as badly as by listening to the
# room. A linear map on a summary cannot coordinate what shares no parts: the sound of *violoncelle* holds nothing of
# the shape of a cello.

# %% [markdown]
# ## 6 Joint: one code for whatever is there
# The second family has a single code. Each modality has an encoder into it and a decoder out of it. Put in a picture,
# or words, or both, and read out both: the model *fills in* what is missing. The code of a stamp is the mean of the
# codes of what is present:
#
# $$c = \frac{\sum_m p_m\, f_m(x_m)}{\sum_m p_m} \quad (E,), \qquad \hat x_m = g_m(c), \qquad p_m \in \{0, 1\}$$
#
# By hand: codes $(2, 0)$ from the picture and $(0, 4)$ from the words. Which code do both give, and which does the
# picture alone?

# %% tags=["nbval-check-output"]
codes = np.array([[[2.0, 0.0], [0.0, 4.0]], [[2.0, 0.0], [np.nan, np.nan]]])  # (N,M,E): the second stamp has no words
present = np.array([[True, True], [True, False]])  # (N,M)
[row[there].mean(axis=0).tolist() for row, there in zip(codes, present)]  # N rows of E

# %% [markdown]
# ### Exercise 1.5: a code from what is there
# Difficulty 2 of 3, about 10 minutes.
#
# Write `shared_code(codes, present)`: codes (N,M,E) and present (N,M) in, the mean over the modalities that are
# present (N,E) out. What stands at a missing place must not matter, not even `nan`.
#
# <details><summary>Hint 1</summary>By how many must a row be divided? And what is <code>0 * nan</code>?</details>
# <details><summary>Hint 2</summary><code>np.where(present[..., None], codes, 0.0)</code>, then sum over the modalities and divide by how many there are.</details>


# %% tags=["exercise"]
def shared_code(codes, present):
    """Mean over present modalities: codes (N,M,E), present (N,M) bool -> (N,E)."""
    # BEGIN SOLUTION
    kept = np.where(present[..., None], codes, 0.0)  # (N,M,E)
    return kept.sum(axis=1) / present.sum(axis=1, keepdims=True)  # (N,E)
    # END SOLUTION


# %% tags=["check"]
representation_learning.check_shared_code(shared_code)

# %% [markdown]
# The model in PyTorch: two encoders, two decoders, all straight lines. Before the encoders, half of the numbers are
# dropped at random in training, so that a few thousand pairs are not learned by heart.

# %%
import torch
from torch import nn
from torch.nn import functional as F
from tqdm.auto import tqdm

torch.set_num_threads(1)  # maps this small train faster on one core than on two


class SharedAutoencoder(nn.Module):
    def __init__(self, widths=(256, 384), shared=128):
        super().__init__()
        self.encoders = nn.ModuleList(nn.Sequential(nn.Dropout(0.5), nn.Linear(width, shared)) for width in widths)
        self.decoders = nn.ModuleList(nn.Linear(shared, width) for width in widths)

    def code(self, inputs, present):
        codes = torch.stack([encode(rows) for encode, rows in zip(self.encoders, inputs)], dim=1)  # (B,M,E)
        kept = codes.masked_fill(~present[..., None], 0)  # (B,M,E)
        return kept.sum(dim=1) / present.sum(dim=1, keepdim=True)  # (B,E)

    def forward(self, inputs, present):
        code = self.code(inputs, present)
        return [decode(code) for decode in self.decoders]  # (B,256), (B,384)


# %% [markdown]
# In training each stamp of a batch shows both modalities, only its picture, or only its words, and always has to give
# back **both**. That is the whole trick: `hide=True`. A plain autoencoder sees both every time.


# %%
def scaled(rows, like):
    """Rows about their mean, in units in which a row of `like` has squared length 1 on average; a tensor."""
    spread = np.sqrt(((like - like.mean(axis=0)) ** 2).sum(axis=1).mean())
    return torch.from_numpy((rows - like.mean(axis=0)) / spread).float()


# %%
def train_joint(fold, seed, hide):
    torch.manual_seed(seed)
    inputs = [scaled(rows, rows) for rows in pairs(fold, extra=True)]  # (M,256), (M,384)
    model, states = SharedAutoencoder(), torch.tensor([[True, True], [True, False], [False, True]])  # (3,2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=1.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=sizes.joint_steps)
    for _ in range(sizes.joint_steps):
        chosen = torch.randint(len(inputs[0]), (256,))
        batch = [rows[chosen] for rows in inputs]
        present = states[torch.randint(3, (256,))] if hide else states[:1].expand(256, 2)  # (B,2)
        loss = sum(((out - row) ** 2).sum(dim=1).mean() for out, row in zip(model(batch, present), batch))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


# %% [markdown]
# Scored twice. First: of the variance of unseen captions, what share does the filled-in caption explain? 1 is
# perfect, 0 is *always say the mean caption*, below 0 is worse than that. Then: does the filled-in caption *find* its
# caption?


# %%
@torch.no_grad()
def fill_in(model, fold, rows, given):
    """Both modalities of stamps `rows`, from the one that is `given` (0 the picture, 1 the words): [(Q,256), (Q,384)]."""
    likes = pairs(fold, extra=True)
    inputs = [scaled(whole[rows], like) for whole, like in zip((x, y), likes)]
    present = torch.arange(2).expand(len(rows), 2) == given  # (Q,2)
    return inputs, model(inputs, present)


def explained(true, filled):
    """Share of variance explained; both are about the mean of the training pairs, which explains 0."""
    return float(1 - ((true - filled) ** 2).sum() / (true**2).sum())


# %%
turns = [(hide, fold) for hide in (True, False) for fold in range(len(splits))]
joint, shares = {}, {True: [], False: []}
for hide, fold in tqdm(turns, desc="autoencoders", leave=False):
    joint[hide, fold] = train_joint(fold, SEED * 5 + fold, hide)
    inputs, filled = fill_in(joint[hide, fold], fold, splits[fold].test, given=0)
    shares[hide].append(explained(inputs[1], filled[1]))  # words from the picture
shares = {hide: np.array(each) for hide, each in shares.items()}  # (folds,) each

# %% [markdown]
# For comparison, what does ridge explain? Its strength is chosen anew, by this very score: the strength that ranks
# best need not be the one that errs least.


# %%
def ridge_explains(strength, part):
    scores = []
    for fold, split in enumerate(splits):
        pixels, captions = pairs(fold, extra=True)
        fitted, mean = linear.ridge(pixels, captions, strength), captions.mean(axis=0)
        rows = getattr(split, part)
        scores.append(explained(y[rows] - mean, fitted(x[rows]) - mean))
    return np.array(scores)  # (folds,)


steady = max(sizes.strengths, key=lambda strength: ridge_explains(strength, "val").mean())
by_ridge = ridge_explains(steady, "test")
for name, each in {"hides": shares[True], "never hides": shares[False], "ridge": by_ridge}.items():
    print(f"{name:12} explains {each.mean():+.3f} of unseen captions' variance, divisions ±{each.std(ddof=1):.3f}")

# %% [markdown]
# Trained with everything present, the code leans on both halves, and with one half gone it fills in worse than its
# twin that was trained on gaps. Neither explains much. A picture leaves open how people will put it into words, and
# ridge, in closed form, does no wonders either. Searching asks for less than filling in: the filled-in caption has
# only to be nearer to the right one than to the others.


# %%
def joint_place(hide):
    def place(fold, rows):
        inputs, filled = fill_in(joint[hide, fold], fold, rows, given=0)
        mean = scaled(y[splits[fold].train], pairs(fold, extra=True)[1]).mean(dim=0)  # (384,) the stamps' mean caption
        return (filled[1] - mean).numpy(), (inputs[1] - mean).numpy()

    return place


note("joint, filled in", hits(joint_place(hide=True)))
note("joint, never hides", hits(joint_place(hide=False)))
filled_found, gaps_helped = results["joint, filled in"][0], shares[True] - shares[False]  # (T,), (folds,)
record("joint/recall_at_1", filled_found.mean(), over_stamps(filled_found), at_chance[0])
record("joint/explained_gained_by_hiding", gaps_helped.mean(), excludes=(0.0,))

# %% [markdown]
# Two comparisons. First with ridge and CCA above: with straight lines and these features a shared code finds no
# secret that a closed form missed. Then the two lines with each other: hiding was for *filling in*; a search asks
# only who is nearest, and hardly notices. What the joint family offers is convenience: one model for any set of
# modalities, as long as it was trained on gaps.

# %% [markdown]
# ## 7 Adversarial: nobody can tell where a code came from
# The third family plays a game. A **discriminator** looks at a code and guesses its modality: picture or words? The
# two maps try to make it fail. If it can do no better than a coin, the two clouds of codes coincide. One backward
# pass plays both sides, by **gradient reversal**: a layer that changes nothing on the way forward, and on the way
# back turns the gradient round.
#
# $$r(z) = z, \qquad \frac{\partial L}{\partial z} := -s\,\frac{\partial L}{\partial r(z)}$$
#
# By hand: $L = r(z)^2$ at $z = 3$, strength $s = 2$. The loss is 9. Which gradient reaches $z$?

# %% tags=["nbval-check-output"]
plain_gradient = 2 * 3.0
[3.0**2, -2 * plain_gradient]

# %% [markdown]
# ### Exercise 1.6: gradient reversal
# Difficulty 2 of 3, about 10 minutes.
#
# Write `reverse(x, strength)` in PyTorch: the value of `x`, unchanged, and a gradient multiplied by `-strength`.
#
# <details><summary>Hint 1</summary>PyTorch lets you write both ways yourself: a subclass of <code>torch.autograd.Function</code> with static methods <code>forward(ctx, x, strength)</code> and <code>backward(ctx, gradient)</code>.</details>
# <details><summary>Hint 2</summary><code>forward</code> keeps <code>ctx.strength = strength</code> and returns <code>x.view_as(x)</code>. <code>backward</code> returns one gradient an argument: the turned one, and <code>None</code> for the strength.</details>


# %% tags=["exercise"]
def reverse(x, strength):
    """x, whose gradient comes back multiplied by -strength."""

    # BEGIN SOLUTION
    class Reverse(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, strength):
            ctx.strength = strength
            return x.view_as(x)

        @staticmethod
        def backward(ctx, gradient):
            return -ctx.strength * gradient, None

    return Reverse.apply(x, strength)
    # END SOLUTION


# %% tags=["check"]
representation_learning.check_reverse(reverse)

# %% [markdown]
# The same in one line, for those who like riddles: the first part has the value and no gradient, the second takes
# part of it away again and brings the gradient. The tiny case agrees.


# %%
def turned(z, strength):
    return (1 + strength) * z.detach() - strength * z


z_tiny = torch.tensor(3.0, requires_grad=True)
turned(z_tiny, 2.0).square().backward()
assert z_tiny.grad == -2 * plain_gradient
turned(z_tiny, 2.0).item(), z_tiny.grad.item()

# %% [markdown]
# The maps are two **heads**, one a modality, into a shared space of unit rows. A `Recipe` says how they are made and
# trained; each experiment from here on changes a line of it. Pulling partners together and strangers apart is the
# work of `losses.clip_loss`: *each picture picks its caption out of the batch, each caption its picture, at
# temperature tau*. Lesson 02 takes it to pieces. `inputs_of` hands the heads unit rows of features, with or without
# their mean; `rows=None` means the training pairs.

# %%
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Recipe:
    shared: int = 16  # E
    dropout: float = 0.3
    hidden: int = 0  # width of a hidden layer; 0 is a straight line
    extra: bool = True  # train on clip art as well
    centred: bool = True  # take each modality's mean away first
    tau: float = 0.1
    rate: float = 2e-3
    decay: float = 1.0  # weight decay
    paired: bool = True  # pull partners together
    against: float = 0.0  # strength of gradient reversal


# %%
class Heads(nn.Module):
    def __init__(self, recipe):
        super().__init__()
        self.image, self.text = self.head(256, recipe), self.head(384, recipe)

    @staticmethod
    def head(width, recipe):
        if recipe.hidden:
            return nn.Sequential(nn.Linear(width, recipe.hidden), nn.ReLU(), nn.Linear(recipe.hidden, recipe.shared))
        return nn.Sequential(nn.Dropout(recipe.dropout), nn.Linear(width, recipe.shared))

    def forward(self, pixels, captions):
        return F.normalize(self.image(pixels), dim=-1), F.normalize(self.text(captions), dim=-1)  # (B,E) each


# %%
def inputs_of(recipe, fold, rows=None):
    """Pixels (M,256) and captions (M,384) as a recipe wants them, unit rows: tensors."""
    means = [whole[splits[fold].train].mean(axis=0) for whole in (x, y)]
    if not recipe.centred:
        means = [-centre @ directions, 0.0]  # x was centred in section 2: put that mean back
    chosen = pairs(fold, recipe.extra) if rows is None else (x[rows], y[rows])
    return [torch.from_numpy(unit(half - mean)).float() for half, mean in zip(chosen, means)]


# %% [markdown]
# And the game. The discriminator has a hidden layer, learns faster than the heads, and is asked about codes that went
# through the reversal. So one `backward` makes it better and the codes harder. The strength of the reversal grows, so
# that the players first learn what the game is about.


# %%
def new_discriminator(shared):
    return nn.Sequential(nn.Linear(shared, 64), nn.LeakyReLU(0.2), nn.Linear(64, 1))


def guess_loss(discriminator, z_img, z_txt):
    """Cross-entropy of the guess, 0 for a picture and 1 for words; log 2 = 0.69 is a coin's."""
    guess = discriminator(torch.cat([z_img, z_txt]))[:, 0]  # (2B,)
    return F.binary_cross_entropy_with_logits(guess, torch.arange(2.0).repeat_interleave(len(z_img)))


# %%
from course_utils import losses


def train_heads(recipe, fold, seed, steps):
    torch.manual_seed(seed)
    pixels, captions = inputs_of(recipe, fold)
    heads, discriminator = Heads(recipe), new_discriminator(recipe.shared)
    betas = (0.5, 0.99) if recipe.against else (0.9, 0.999)  # in a game old gradients mislead: forget them sooner
    players = [{"params": heads.parameters()}, {"params": discriminator.parameters(), "lr": 1e-2, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(players, lr=recipe.rate, weight_decay=recipe.decay, betas=betas)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, [lambda step: 1 - step / max(steps, 1), lambda step: 1.0])
    for step in range(steps):
        chosen = torch.randint(len(pixels), (256,))
        strangers = chosen if recipe.paired else torch.randint(len(pixels), (256,))
        z_img, z_txt = heads(pixels[chosen], captions[strangers])  # (B,E) each
        loss = losses.clip_loss(z_img, z_txt, recipe.tau) if recipe.paired else 0.0
        if recipe.against:
            strength = recipe.against * min(1, 2 * step / steps)
            game = guess_loss(discriminator, turned(z_img, strength), turned(z_txt, strength))
            loss = loss + game
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return heads.eval()


# %% [markdown]
# How is the winner judged? *Not* by the discriminator that played. It may have been outrun, and give up where another
# would see the difference at once. A **fresh** one is trained on the finished codes of the training pairs, and asked
# about the test stamps.


# %%
@torch.no_grad()
def placed_by(heads, recipe, fold, rows=None):
    """Codes (M,E) of pictures and captions by finished heads, as arrays."""
    return [codes.numpy() for codes in heads(*inputs_of(recipe, fold, rows))]


def fresh_accuracy(heads, recipe, fold):
    """How often a discriminator that never played tells pictures from captions, on test stamps; 0.5 is a coin's."""
    z_img, z_txt = (torch.from_numpy(codes) for codes in placed_by(heads, recipe, fold))
    test_img, test_txt = (torch.from_numpy(codes) for codes in placed_by(heads, recipe, fold, splits[fold].test))
    judge = new_discriminator(recipe.shared)
    optimizer = torch.optim.Adam(judge.parameters(), lr=1e-2)
    for _ in range(sizes.judge_steps):
        chosen = torch.randint(len(z_img), (256,))
        loss = guess_loss(judge, z_img[chosen], z_txt[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        return float(((judge(test_img) < 0).float().mean() + (judge(test_txt) > 0).float().mean()) / 2)


# %% [markdown]
# Three ways of training the same heads: the game alone, on strangers, without any pairs; pairs alone; both. Three
# seeds each, and untrained heads for comparison. Predict for each: discriminator near 0.5 or near 1, recall at chance
# or above?

# %%
pairs_only, long = Recipe(), sizes.adversarial_steps
ways = {
    "untrained heads": (pairs_only, 0),
    "adversary alone": (replace(pairs_only, paired=False, against=1.0, rate=3e-4), long),
    "pairs alone": (pairs_only, long),
    "pairs + adversary": (replace(pairs_only, against=3.0), long),
}
runs = [(name, seed, fold) for name in ways for seed in range(3) for fold in range(len(splits))]
played, told = {}, {}
for name, seed, fold in tqdm(runs, desc="adversarial", leave=False):
    recipe, steps = ways[name]
    heads = train_heads(recipe, fold, SEED * 100 + seed * 10 + fold, steps)
    played[name, seed, fold] = placed_by(heads, recipe, fold, splits[fold].test)
    told[name, seed, fold] = fresh_accuracy(heads, recipe, fold)

# %%
fresh, recalls = {}, {}
for name in ways:
    by_seed = [hits(lambda fold, rows, seed=seed, name=name: played[name, seed, fold]) for seed in range(3)]
    results[name] = np.mean(by_seed, axis=0)  # (3,T)
    recalls[name] = np.array([found[0].mean() for found in by_seed])  # (S,)
    fresh[name] = np.array([np.mean([told[name, seed, fold] for fold in range(len(splits))]) for seed in range(3)])
figure, (left_axes, right_axes) = plotting.plt.subplots(1, 2, figsize=(9, 2.8), layout="constrained", sharey=True)
for ax, values, by_luck in ((left_axes, fresh, 0.5), (right_axes, recalls, at_chance[0])):
    spans = np.clip([metrics.seed_interval(value) for value in values.values()], 0, 1)
    plotting.bars(list(ways), [value.mean() for value in values.values()], spans, by_luck, ax=ax)
left_axes.set(xlabel="accuracy of a fresh discriminator", title="Who can tell the modalities apart?")
right_axes.set(xlabel="recall@1", title="Who finds the partner?")
plotting.show(
    figure, alt="Left: accuracy of a discriminator for four ways of training. Right: recall at 1, chance without pairs."
)

# %%
alone, both = "adversary alone", "pairs + adversary"
fooled, fooled_span = fresh[alone].mean(), metrics.seed_interval(fresh[alone])
record("adversarial/discriminator_alone", fooled, fooled_span, 0.5, (0.5, fresh["untrained heads"].mean()))
record("adversarial/recall_at_1_with_pairs", recalls[both].mean(), metrics.seed_interval(recalls[both]), at_chance[0])
helped = recalls[both] - recalls["pairs alone"]  # (S,) paired by seed
blurred = fresh[both] - fresh["pairs alone"]  # (S,)
for what, change in {"the fresh discriminator": blurred, "recall@1": helped}.items():
    low, high = metrics.seed_interval(change)
    print(f"beside pairs, the adversary changes {what} by {change.mean():+.3f}, over seeds {low:+.3f} to {high:+.3f}")

# %% [markdown]
# The game alone does what it promises: the two clouds move together, and even a fresh discriminator finds them harder
# to tell apart than before. And it is worth *nothing* for search. It makes pictures look like captions, not this
# picture like its caption; a cloud can be laid upon another in many ways, and only pairs say which. Beside pairs, the
# first printed line says how far it blurs the modalities, and the second what a search gains by that. Adversarial
# matching earns its place where pairs are few or absent and something else ties the clouds together.

# %% [markdown]
# ## 8 The shape of a space
# Recall says whether partners find each other. It does not say what the space looks like. Three numbers do, for unit
# rows:
#
# - **alignment** $\frac1N\sum_i \lVert z^{\text{img}}_i - z^{\text{txt}}_i \rVert^2$: how far partners are apart; small is good;
# - **uniformity** $\log \operatorname{mean}_{i \ne j} e^{-2\lVert z_i - z_j \rVert^2}$: how evenly one modality's points use the sphere; small (negative) is even;
# - **modality gap** $\lVert \bar z^{\text{img}} - \bar z^{\text{txt}} \rVert$: how far the two clouds' centres are apart.
#
# By hand: pictures at $(1, 0)$ and $(0, 1)$, their captions both at $(0, 1)$. One pair is $\sqrt2$ apart, the other
# 0.

# %% tags=["nbval-check-output"]
z_img = np.array([[1.0, 0.0], [0.0, 1.0]])  # (N,E)
z_txt = np.array([[0.0, 1.0], [0.0, 1.0]])
by_hand = {
    "alignment": (2.0 + 0.0) / 2,
    "uniformity of pictures": float(np.log(np.exp(-2 * 2.0))),
    "uniformity of captions": float(np.log(np.exp(-2 * 0.0))),
    "modality gap": float(np.hypot(0.5, 0.5)),
}
{name: round(value, 3) for name, value in by_hand.items()}

# %% [markdown]
# ### Exercise 1.7: alignment and uniformity
# Difficulty 2 of 3, about 10 minutes.
#
# Write `alignment_uniformity(z_a, z_b)` for unit rows of partners (N,E): two numbers, the alignment of the pairs and
# the uniformity of `z_a`.
#
# <details><summary>Hint 1</summary>All squared distances at once: for unit rows, how does a squared distance follow from a cosine?</details>
# <details><summary>Hint 2</summary>A row has distance 0 to itself. <code>np.triu_indices(len(z_a), k=1)</code> lists each pair once and leaves the diagonal out. Mean first, logarithm last.</details>


# %% tags=["exercise"]
def alignment_uniformity(z_a, z_b):
    """Mean squared distance of pairs, and log mean exp(-2 squared distance) over different rows of z_a; (N,E) each."""
    # BEGIN SOLUTION
    alignment = ((z_a - z_b) ** 2).sum(axis=1).mean()
    squared = ((z_a[:, None] - z_a[None, :]) ** 2).sum(axis=-1)  # (N,1,E), (1,N,E) -> (N,N)
    different = ~np.eye(len(z_a), dtype=bool)
    return alignment, np.log(np.exp(-2 * squared[different]).mean())
    # END SOLUTION


# %% tags=["check"]
representation_learning.check_alignment_uniformity(alignment_uniformity)

# %%
from course_utils import geometry

measured = [geometry.alignment(z_img, z_txt), geometry.uniformity(z_img), geometry.uniformity(z_txt)]
assert np.allclose([*measured, geometry.modality_gap(z_img, z_txt)], list(by_hand.values()))

# %% [markdown]
# ### Where does the gap come from?
# Two heads that were never trained put all pictures into one narrow cone and all captions into another. Training at a
# cold temperature asks only that the right caption be *nearer* than the wrong ones, which it can be across a gap. We
# train at several temperatures, on features whose mean was *not* taken away. Predict: how does the gap move with
# temperature, and recall with the gap?

# %%
open_recipe, coldest = Recipe(shared=64, centred=False, rate=3e-3), sizes.temperatures[0]
spaces, folds = {}, range(len(splits))
for tau, fold in tqdm([(tau, fold) for tau in sizes.temperatures for fold in folds], desc="spaces", leave=False):
    recipe = replace(open_recipe, tau=tau)
    heads = train_heads(recipe, fold, SEED * 5 + fold, sizes.head_steps)
    spaces[tau, fold] = [placed_by(heads, recipe, fold, rows) for rows in (None, splits[fold].test)]
untrained = placed_by(train_heads(open_recipe, 0, SEED, steps=0), open_recipe, 0, splits[0].test)
print(f"untrained heads: gap {geometry.modality_gap(*untrained):.2f}")

# %%
shape, recall_at = {}, {}
for tau in sizes.temperatures:
    tests = [spaces[tau, fold][1] for fold in folds]
    numbers = [(geometry.modality_gap(*z), geometry.alignment(*z), geometry.uniformity(z[0])) for z in tests]
    shape[tau], recall_at[tau] = np.mean(numbers, axis=0), hits(lambda fold, rows, tests=tests: tests[fold])[0]
    gap, aligned, even = shape[tau]
    print(f"tau {tau:4}: gap {gap:.2f}, alignment {aligned:.2f}, uniformity of pictures {even:+.2f}", end=", ")
    print("recall@1 {:.3f} ({:.3f} to {:.3f})".format(recall_at[tau].mean(), *over_stamps(recall_at[tau])))
smallest, best_aligned = (min(shape, key=lambda tau, i=i: shape[tau][i]) for i in (0, 1))
best_found = max(recall_at, key=lambda tau: recall_at[tau].mean())
print(f"smallest gap at tau {smallest}, best alignment at {best_aligned}, best recall@1 at {best_found}")

# %% [markdown]
# Read the columns against each other, and then the last line. A narrow gap or a good alignment does not pick the
# space that searches best. Partners may be near because *everything* is near, so alignment means little without
# uniformity beside it.

# %% [markdown]
# ### Exercise 1.8: close the gap
# Difficulty 2 of 3, about 10 minutes.
#
# A gap can be closed without training: move both clouds onto one centre. Write `close_gap(z_img, z_txt)` for unit
# rows (N,E) and (M,E): each modality's own mean taken away, and unit rows again.
#
# <details><summary>Hint 1</summary>Two modalities, two means. Along which axis?</details>
# <details><summary>Hint 2</summary>After the subtraction rows have any length. A search by cosine wants them back at 1.</details>


# %% tags=["exercise"]
def close_gap(z_img, z_txt):
    """Both modalities about their own mean, unit rows again: (N,E), (M,E) -> (N,E), (M,E)."""
    # BEGIN SOLUTION
    moved = [rows - rows.mean(axis=0) for rows in (z_img, z_txt)]
    return tuple(rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in moved)
    # END SOLUTION


# %% tags=["check"]
representation_learning.check_close_gap(close_gap)

# %% [markdown]
# Does closing it buy retrieval? We take the coldest space and slide the two clouds along the line between their
# centres, as measured on the *training* pairs: 0 leaves them, 1 puts the centres on top of each other,
# -1 doubles the gap, 2 lets them change places. Write down where recall will be highest.

# %%
slides = [-1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0]


def slid(amount):
    def place(fold, rows):
        (seen_img, seen_txt), (test_img, test_txt) = spaces[coldest, fold]
        half = amount * (seen_img.mean(axis=0) - seen_txt.mean(axis=0)) / 2  # (E,)
        return unit(test_img - half), unit(test_txt + half)

    return place


def gap_after(amount):
    return np.mean([geometry.modality_gap(*slid(amount)(fold, None)) for fold in range(len(splits))])


# %%
slid_hits = np.stack([hits(slid(amount))[0] for amount in slides])  # (S,T)
slid_gaps = [gap_after(amount) for amount in slides]
curves = {"modality gap": slid_gaps, "recall@1": slid_hits.mean(axis=1)}
axes = plotting.lines(slides, curves, chance=at_chance[0])
axes.set(xlabel="shift, in gaps (0 as trained, 1 closed)", ylabel="distance, or share of captions")
axes.set_title("The gap closes; what does recall do?")
plotting.show(axes, alt="Gap and recall against shift: the gap has its bottom near 1, recall changes far less.")

# %%
gained = slid_hits[slides.index(1.0)] - slid_hits[slides.index(0.0)]  # (T,) paired by stamp
gap_left = slid_gaps[slides.index(1.0)] / slid_gaps[slides.index(0.0)]
low, high = over_stamps(gained)
verdict = "no change that can be told from zero" if low <= 0 <= high else "a gain" if low > 0 else "a loss"
print(
    f"{1 - gap_left:.0%} of the gap is closed; recall@1 changes by {gained.mean():+.3f}, {low:+.3f} to {high:+.3f}: {verdict}"
)
record("gap/left_after_closing", gap_left, excludes=(1.0,))
record("gap/recall_at_1_gained_by_closing", gained.mean(), (low, high), excludes=(-0.05, 0.05))

# %% [markdown]
# Most of the gap goes, and recall does not rise with it: the line above says what happens instead. **A shift common to
# all pictures moves all cosines of a caption by nearly the same amount, and a ranking does not see that.** Only nearly,
# since rows are brought back to length 1 after the shift; of the five seeds that measured this lesson's bands some lost
# a few points by it. The gap is real and looks alarming in every projection, and closing it did not buy retrieval. It
# may matter where one threshold has to serve both modalities, or where pictures and captions share one index.

# %% [markdown]
# ## 9 A bridge that trains nothing
# Every method so far needed pairs. Here is one that needs none. The picture network was trained to name ImageNet's
# 1,000 classes, and a class name is a *sentence* that the text network can read. So a picture can be placed among
# sentences as the mean of its likeliest class names, weighted by how likely they are (**ConSE**):
#
# $$z^{\text{img}} = \sum_{c\,\in\,\text{top } T} p_c\, t_c \qquad (E,)$$
#
# By hand: three classes at $(1,0)$, $(0,1)$, $(-1,0)$, a picture that is .6, .3, .1 of them. With the two likeliest
# classes it goes to $.6\,(1,0) + .3\,(0,1)$.

# %% tags=["nbval-check-output"]
names_at = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])  # (C,E)
likely = np.array([0.6, 0.3, 0.1])  # (C,)
(likely[:2] @ names_at[:2]).round(2)

# %% [markdown]
# ### Exercise 1.9: the bridge
# Difficulty 2 of 3, about 10 minutes.
#
# Write `conse(likelihoods, class_text, top)`: likelihoods (N,C) and class texts (C,E) in, places (N,E) out, from the
# `top` likeliest classes of each row alone. Any common scale is right.
#
# <details><summary>Hint 1</summary>Which columns are the likeliest differs from row to row: sort each row.</details>
# <details><summary>Hint 2</summary><code>best = np.argsort(-likelihoods, axis=1)[:, :top]</code>; <code>np.take_along_axis</code> brings their likelihoods, <code>class_text[best]</code> their texts (N,top,E).</details>


# %% tags=["exercise"]
def conse(likelihoods, class_text, top):
    """Likelihood-weighted sum of the `top` likeliest classes' texts: (N,C), (C,E) -> (N,E)."""
    # BEGIN SOLUTION
    best = np.argsort(-likelihoods, axis=1)[:, :top]  # (N,T)
    weights = np.take_along_axis(likelihoods, best, axis=1)  # (N,T)
    return (weights[..., None] * class_text[best]).sum(axis=1)  # (N,T,1), (N,T,E) -> (N,E)
    # END SOLUTION


# %% tags=["check"]
representation_learning.check_conse(conse)

# %% [markdown]
# The package ships each stamp's likeliest classes. What does the network see in the cello, and where does the bridge
# put it?

# %%
cello = int(np.flatnonzero(table["name"] == stamp["name"])[0])
bridge = features.bridge  # (N,384)
loop = sum(p * features.class_text[c] for p, c in zip(features.likelihoods[cello], features.classes[cello]))
assert np.allclose(bridge[cello], loop, atol=1e-5)
print("seen as:", [features.class_names[c] for c in features.classes[cello][:3]])
print("nearest captions:", list(wording[np.argsort(-(unit(bridge) @ unit(y).T)[cello])[:3]]))

# %% [markdown]
# No stamp, no caption and no pair took part. Predict its recall@1, between chance and the maps trained on pairs.


# %%
def bridge_place(fold, rows):
    train = splits[fold].train
    return bridge[rows] - bridge[train].mean(axis=0), y[rows] - y[train].mean(axis=0)


note("bridge (ConSE)", hits(bridge_place))
bridge_found = results["bridge (ConSE)"][0]  # (T,)
record("bridge/recall_at_1", bridge_found.mean(), over_stamps(bridge_found), at_chance[0])

# %% [markdown]
# A method without a single pair sets the mark that trained ones have to beat.
#
# ### Careless heads
# Now the usual recipe: two heads with a hidden layer, a contrastive loss, a few hundred steps, on the stamps alone.
# Against it we set straight lines with dropout and strong weight decay, without and with the clip art. Where will the
# three stand beside the bridge?

# %%
careless = Recipe(shared=128, hidden=512, extra=False, tau=0.07, rate=1e-3, decay=0.0)
regular = Recipe(shared=128, dropout=0.5, extra=False, tau=0.1, rate=5e-3, decay=1.0)
recipes = {
    "careless heads": careless,
    "regularised heads": regular,
    "regularised, with clip art": replace(regular, extra=True, tau=0.05),
}
for name, recipe in recipes.items():
    turns = tqdm(range(len(splits)), desc=name, leave=False)
    trained = [train_heads(recipe, fold, SEED * 5 + fold, sizes.head_steps) for fold in turns]
    note(name, hits(lambda fold, rows, heads=trained, recipe=recipe: placed_by(heads[fold], recipe, fold, rows)))
lost = results["careless heads"][0] - bridge_found  # (T,) paired by stamp
record("heads/careless_minus_bridge", lost.mean(), over_stamps(lost), excludes=(0.0,))
regular_found = results["regularised, with clip art"][0]
record("heads/regularised_recall_at_1", regular_found.mean(), over_stamps(regular_found), at_chance[0])
won = regular_found - results["careless heads"][0]
low, high = over_stamps(won)
print(f"regularised, with clip art, minus careless: {won.mean():+.3f}, interval {low:+.3f} to {high:+.3f}")

# %% [markdown]
# The careless heads lose to a bridge that never saw a pair. Nothing is wrong with the loss: some 450 pairs can be
# learned by heart, and that is no use to a new one. The printed difference says what dropout, decay and rough extra
# pairs bring. Heads and bridge know different things, so one more line: add the two places.


# %%
def with_bridge(place):
    def added(fold, rows):
        (from_pixels, from_words), (bridge_img, bridge_txt) = place(fold, rows), bridge_place(fold, rows)
        return unit(from_pixels) + unit(bridge_img), unit(from_words) + unit(bridge_txt)

    return added


note("ridge + bridge", hits(with_bridge(ridge_place(best_ridge[True], True))))

# %% [markdown]
# ### All beside each other
# One table for the whole lesson so far: each family's recall, beside chance and beside raw features under a random
# map.

# %%
names_shown = ["raw features, random map", "adversary alone", "careless heads", "pairs + adversary", "joint, filled in",
               "ridge, with clip art", "CCA, with clip art", "regularised, with clip art", "bridge (ConSE)", "ridge + bridge"]  # fmt: skip
at_one = {name: results[name][0].mean() for name in names_shown}
bounds = [over_stamps(results[name][0]) for name in names_shown]
axes = plotting.bars(names_shown, list(at_one.values()), np.array(bounds), at_chance[0])
axes.set(xlabel=f"recall@1 among about {pool:.0f} unseen stamps", title="Every family on the same unseen stamps")
plotting.show(axes, alt="Bars of recall at 1: " + ", ".join(f"{name} {value:.2f}" for name, value in at_one.items()))
for name in names_shown:
    at = results[name].mean(axis=1) / at_chance  # (3,)
    print(f"{name:27} recall@1, 5, 10 are {at[0]:4.1f}, {at[1]:4.1f}, {at[2]:4.1f} times chance")

# %% [markdown]
# ## 10 Searching in a language nobody trained
# MiniLM reads English. Can a search that was built on English captions be asked in Dutch, French, Russian or
# Japanese? We need a reader that takes any script: it counts strings of two to five characters, and ridge maps the
# counts to MiniLM's place for the *English* caption. Pictures stay where the best search of section 9 put them. The
# reader is fitted on about 450 English captions, then handed captions in other languages. Predict the order, and who
# is left at chance.

# %%
tongues = {"English": "en", "Dutch": "nl", "French": "fr", "Finnish": "fi", "Russian": "ru", "Japanese": "ja"}
# The few captions that nobody translated stay empty, and nearly always miss.
captions_in = {name: stamps.captions(code).fillna("").to_numpy() for name, code in tongues.items()}
picture_place = with_bridge(ridge_place(best_ridge[True], True))


def reader(language, fold):
    """Strings and ridge that read one language into the places of English captions."""
    train = splits[fold].train
    strings = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)
    counts = strings.fit_transform(captions_in[language][train]).toarray()  # (M,V)
    return strings, linear.ridge(counts, y[train], 1.0)


# %%
readers = {(name, fold): reader(name, fold)
           for name in tqdm(tongues, desc="readers", leave=False) for fold in range(len(splits))}  # fmt: skip
placed_pictures = [picture_place(fold, split.test)[0] for fold, split in enumerate(splits)]


def asked_in(language, taught):
    """Hits (T,) of captions in `language`, read by a reader that was taught another, or the same."""

    def place(fold, rows):
        strings, fitted = readers[taught, fold]
        counts = strings.transform(captions_in[language][rows]).toarray()  # (Q,V)
        return placed_pictures[fold], fitted(counts) - fitted.mean_y

    return hits(place)[0]


taught_english = {name: asked_in(name, taught="English") for name in tongues}
for name, found in taught_english.items():
    print("asked in {:9} recall@1 {:.3f}, interval {:.3f} to {:.3f}".format(name, found.mean(), *over_stamps(found)))

# %% [markdown]
# Dutch shares whole words with English (*vis, boot, wind*), French shares loans, Finnish little, and Russian and
# Japanese not even letters: there the reader sees nothing it knows, and the search is at chance. **A shared space is
# shared by what its training had in common, and no more.**
#
# The mending needs no new picture and no new text network. It needs a **pivot**: captions in the new language whose
# English twin is known. We fit the reader anew on the same training stamps, from each language to the place of the
# English caption.

# %%
taught_own = {name: asked_in(name, taught=name) for name in tongues}
rows_of = {"taught English": taught_english, "taught the language asked": taught_own}
curves = {label: [found.mean() for found in each.values()] for label, each in rows_of.items()}
axes = plotting.lines(range(len(tongues)), curves, ("neutral", "text"), chance=at_chance[0])
axes.set(xticks=range(len(tongues)), xticklabels=tongues, ylabel="recall@1", ylim=(0, 0.3))
axes.set_title("A pivot through English captions, language by language")
plotting.show(
    axes, alt="Taught English, recall falls to chance in Russian and Japanese; taught the language, it stays up."
)
by_pivot, by_english = taught_own["Japanese"], taught_english["Japanese"]
direct = (at_chance[0], by_english.mean())
record("languages/japanese_by_pivot", by_pivot.mean(), over_stamps(by_pivot), at_chance[0], direct)

# %% [markdown]
# Taught its own language by a few hundred translations, Japanese makes up most of the way to English. What is
# coordinated once, pictures with English, is inherited by every language that is tied to English (multilingual
# sentence encoders are taught so: Reimers and Gurevych 2020).

# %% [markdown]
# ## 11 Bug hunt: a search that is too good
# A colleague reports a better recall@1 from the very same ridge. She shuffled the stamps and cut them, as a hundred
# tutorials do.


# %%
def shuffled_split(groups, seed):
    """Row numbers of train and test: 60 % and 20 % of the rows, in random order."""
    mixed = np.random.default_rng(seed).permutation(len(groups))
    return mixed[: len(mixed) * 3 // 5], mixed[len(mixed) * 4 // 5 :]


def ridge_hits(train, test):
    """Whether each test caption finds its picture first, by ridge on stamps alone: (Q,)."""
    fitted, mean = linear.ridge(x[train], y[train], best_ridge[False]), y[train].mean(axis=0)
    same = wording[test][:, None] == wording[test][None, :]  # (Q,Q)
    return metrics.recall_at_k(unit(y[test] - mean) @ unit(fitted(x[test]) - mean).T, same, 1)


shuffles = [shuffled_split(group, SEED * 10 + seed) for seed in range(10)]
careful_recall = results["ridge, stamps alone"][0].mean()
hers = np.array([ridge_hits(train, test).mean() for train, test in shuffles])  # (10,)
low, high = metrics.seed_interval(hers)
print(f"shuffled rows {hers.mean():.3f}, interval over ten shuffles {low:.3f} to {high:.3f}; ours {careful_recall:.3f}")

# %% [markdown]
# Nothing crashed, the test rows are not in the training rows, and the number is nicer. The stamps have **variants**:
# three snowmen, for instance, with the same caption and nearly the same picture. Which of her test stamps have a
# variant in the training set, and how do those fare?

# %%
leaked = np.concatenate([np.isin(group[test], group[train]) for train, test in shuffles])  # (10 Q,)
found = np.concatenate([ridge_hits(train, test) for train, test in shuffles])
with_variant, without = found[leaked].mean(), found[~leaked].mean()
print(f"{leaked.mean():.0%} have a variant in training: recall@1 {with_variant:.3f}; the others {without:.3f}")
familiar = np.concatenate([test for _, test in shuffles])[leaked & (found == 1)][0]
twins = np.flatnonzero(group == group[familiar])[:5]
axes = plotting.gallery([stamps.picture(table.iloc[twin], 96) for twin in twins], list(wording[twins]))
plotting.show(axes, alt="Variants of one stamp that share a group: " + "; ".join(wording[twins]))

# %% [markdown]
# That is not search, it is recognition: a variant's caption was seen with nearly the same picture. The promise for
# *new* pictures is what the others get.
#
# ### Exercise 1.10: write the test that finds it
# Difficulty 3 of 3, about 15 minutes.
#
# Write `is_clean(make_split)`. It gets a function `make_split(groups, seed)` that takes group numbers (N,) and a
# seed, and returns row numbers `train` and `test`. Return `True` if no group lies on both sides, no row does, and
# neither side is empty; `False` if not. The check hands you clean splits in several spellings and leaking ones, some
# of which leak only now and then.
#
# <details><summary>Hint 1</summary>You choose the groups that it is tried on. What would groups with one row each find? And how often should you ask?</details>
# <details><summary>Hint 2</summary>Some twenty seeds, and groups such as <code>np.repeat(np.arange(30), 3)</code>, also shuffled. <code>np.intersect1d</code> of the groups on both sides must be empty. <code>return</code>, do not assert.</details>


# %% tags=["exercise"]
def is_clean(make_split):
    """Whether make_split(groups (N,), seed) -> (train, test) never parts a group, repeats a row or leaves a side empty."""
    # BEGIN SOLUTION
    generator = np.random.default_rng(1)
    for seed in range(20):
        for count, size in ((30, 3), (11, 5), (60, 2)):
            groups = generator.permutation(np.repeat(np.arange(count), size))
            train, test = (np.asarray(rows, dtype=int) for rows in make_split(groups, seed))
            if len(train) == 0 or len(test) == 0:
                return False
            if set(train) & set(test) or set(groups[train]) & set(groups[test]):
                return False
    return True
    # END SOLUTION


# %% tags=["check"]
representation_learning.check_is_clean(is_clean)

# %% [markdown]
# Hers parts groups, ours never do. A test like this belongs beside every data set you split.

# %%
hers_train, hers_test = shuffles[0]
print("hers: groups on both sides", len(np.intersect1d(group[hers_train], group[hers_test])))
assert all(len(np.intersect1d(group[split.train], group[split.test])) == 0 for split in map(stamps.split, range(5)))
record("leak/recall_at_1_with_variant", with_variant, chance=at_chance[0], excludes=(at_chance[0], without))

# %% [markdown]
# ## What we saw

# %%
from IPython.display import Markdown

low, high = over_stamps(gained)
Markdown(f"""
- A caption finds its picture among about {pool:.0f}, first, in {at_one["CCA, with clip art"]:.1%} (CCA) and
  {at_one["ridge, with clip art"]:.1%} (ridge) of cases; chance is {at_chance[0]:.1%}, raw features under a random map
  {at_one["raw features, random map"]:.1%}, the joint model {at_one["joint, filled in"]:.1%}.
- The adversary alone brings a fresh discriminator from {fresh["untrained heads"].mean():.2f} to {fresh[alone].mean():.2f}
  and finds {at_one[alone]:.1%}; beside pairs it changes the discriminator by {blurred.mean():+.3f}, recall@1 by {helped.mean():+.3f}.
- Closing {1 - gap_left:.0%} of the gap changed recall@1 by {gained.mean():+.3f} ({low:+.3f} to {high:+.3f}).
- Careless heads find {at_one["careless heads"]:.1%}, the bridge that trains nothing {at_one["bridge (ConSE)"]:.1%},
  ridge and bridge together {at_one["ridge + bridge"]:.1%}.
- Japanese finds {by_english.mean():.1%} with a reader taught English, {by_pivot.mean():.1%} by way of a pivot. A shuffled
  split reports {hers.mean():.1%} where ours says {careful_recall:.1%}.
""")

# %% [markdown]
# ## Questions
# 1. Why were the 256 directions of section 2 chosen on clip art and not on all stamps?
# 2. The noise control reads folders as well as *always say animals* and hardly better. What would you do before you trusted a speech probe that reaches 0.9?
# 3. Why must ridge's strength be chosen on validation sets, and why may few pairs want a larger one than many?
# 4. The largest canonical correlation of the training pairs was 1. Why is that no reason to be glad?
# 5. Speech found spelling and not pictures. What would a speech tower need to learn before it could find pictures of unseen words?
# 6. The joint model without hiding reconstructed what it was given, and filled in badly. What had its code learned to rely on?
# 7. A discriminator that was trained against the heads says 0.5. Why did we train a fresh one before believing it?
# 8. Why does moving all pictures by one vector hardly change who is ranked first?
# 9. The bridge knows 1,000 class names. Which stamps must it fail on, and what does adding ridge bring?
#
# <details><summary>Short answers</summary>
#
# 1. Stamps of the test sets would have had a say in how they are described: a small leak.
# 2. Test it on recordings of another day and another voice, and show a control without words beside it.
# 3. The test set must not choose; few pairs deserve less trust, and strength is mistrust.
# 4. With more directions than pairs everything correlates, noise included.
# 5. Which sounds make which word, and what the word means: by far more speech, or by way of text.
# 6. On both modalities together; half a sum is a code it had never seen.
# 7. The old one has lost a game; that shows the heads can beat *it*, not that no difference is left.
# 8. A caption's cosines with all pictures change by nearly the same amount.
# 9. Things without a class, such as a king of chess or a face; ridge learned from pairs what those look like.
# </details>

# %% [markdown]
# ## References
# - Hotelling 1936, *Relations between two sets of variates* (canonical correlation analysis).
# - Hoerl and Kennard 1970, *Ridge regression: biased estimation for nonorthogonal problems*.
# - Davis and Mermelstein 1980, *Comparison of parametric representations for monosyllabic word recognition* (mel bands).
# - Ngiam et al. 2011, *Multimodal deep learning* (shared autoencoders, a missing modality).
# - Norouzi et al. 2014, *Zero-shot learning by convex combination of semantic embeddings* (ConSE).
# - Ganin and Lempitsky 2015, *Unsupervised domain adaptation by backpropagation* (gradient reversal).
# - Wang et al. 2017, *Adversarial cross-modal retrieval*.
# - Baltrušaitis et al. 2019, *Multimodal machine learning: a survey and taxonomy* (joint and coordinated representations).
# - Reimers and Gurevych 2020, *Making monolingual sentence embeddings multilingual using knowledge distillation* (the pivot).
# - Wang and Isola 2020, *Understanding contrastive representation learning through alignment and uniformity on the hypersphere*.
# - Liang et al. 2022, *Mind the gap: understanding the modality gap in multi-modal contrastive representation learning*.
