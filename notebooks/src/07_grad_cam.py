# %% [markdown]
# # 07 Grad-CAM: where did it look, and is that true?
#
# > **You will be able to** hook a layer, compute Grad-CAM for a picture *and a sentence*, compare it with occlusion and integrated
# > gradients, judge a map with numbers instead of admiring it, and recognise a map that would look the same if the model knew nothing.
# >
# > **Time** 75 minutes. **Needs** lesson 02 (two towers, cosine) and gradients in PyTorch. **Runs** in under a minute (`smoke`),
# > under five minutes on two CPU cores (`cpu`); `gpu` sizes are there and not yet run.

# %% tags=["parameters"]
PROFILE = "auto"
SEED = 0

# %% [markdown]
# A profile changes numbers and nothing else. Here are all of this lesson's; the cells below read them from `sizes`.

# %%
sizes = session.choose(
    scenes=(120, 400, 1_000),
    few_scenes=(40, 100, 300),
    steps=(8, 16, 32),
    draws=(3, 5, 5),
)
sizes

# %% [markdown]
# ## 1 A score, and a question about it
# We take the two-tower model of lesson 02 that learned to tell *left* from *right*, trained beforehand. Its test scenes are new to it, and we know of each
# pixel which object it shows. That is rare, and it is what makes this lesson possible: when a map claims "it looked *there*", we can check.

# %%
import numpy as np
import torch

from course_utils import plotting, scenes, shipped
from course_utils.checks import grad_cam

retriever = shipped.load("scenes_foils")
model = retriever.model
scene = scenes.Scenes(0, "test")[8]  # the example; many others are judged in section 8
image = torch.from_numpy(scene.image).permute(2, 0, 1)[None].float() / 255  # (B,3,H,W) = (1,3,64,64)
scene.captions[0].text

# %% [markdown]
# A caption's words are tied to objects, so the phrase of one object can be cut out. The model never trained on phrases, only on whole
# captions; does it know them all the same?


# %%
def phrase(caption, k):
    """The words that caption says of object k."""
    return " ".join(word for word, owner in zip(caption.words, caption.owner) if owner == k)


@torch.no_grad()
def encode(sentences):
    return model.encode_text(*retriever.tokenize(sentences))  # z_txt (K,E), unit rows


shown_phrases = [phrase(scene.captions[0], 0), phrase(scene.captions[0], 1)]
absent_phrases = [f"a {noun}" for noun in ("pizza", "rocket") if noun not in scene.captions[0].words]
with torch.no_grad():
    scores = encode(shown_phrases + absent_phrases) @ model.encode_image(image)[0]  # (K,E) @ (E,) -> (K,)
for sentence, score in zip(shown_phrases + absent_phrases, scores):
    print(f"{sentence:22} cosine {score:+.2f}")

# %%
axes = plotting.gallery([scene.image], [scene.captions[0].text], columns=1)
plotting.show(axes, alt="One scene: two objects on a plain shaded background, with its caption below.")

# %% [markdown]
# Phrases of what is there score higher. Which pixels did that? A dual encoder has no cross-attention: phrase and picture meet in one
# number at the very end, so there is no attention map to look at. We must ask the number itself.
#
# ## 2 A hook: listening at a layer
# Inside the picture tower, maps of channels become coarser layer by layer. PyTorch lets us put an ear to any layer: a **forward hook**
# is called with (layer, inputs, output) whenever the layer has run.

# %%
layer = model.image_tower.features[5]  # behind the second of four convolutions
heard = []


def remember(layer, inputs, output):
    heard.append(output)


handle = layer.register_forward_hook(remember)
model.encode_image(image)
handle.remove()  # or it listens for ever
heard[0].shape  # (B,C,h,w)

# %% [markdown]
# 64 channels of 16 by 16 places: each place stands for a block of 4 by 4 pixels. Forgetting `handle.remove()` is the classic mistake; an
# error between the two lines does it for you.
#
# ### Exercise 7.1: a hook that always goes away
# Difficulty 1 of 3, about 6 minutes.
#
# Write `watch_output(layer, run)`: put a hook on `layer`, call `run()` once, and return what the layer put out, with its graph. The hook must be gone
# afterwards, also when `run` raises an error.
#
# <details><summary>Hint 1</summary>What in Python runs in any case, whether something failed or not?</details>
# <details><summary>Hint 2</summary><code>try: run()</code>, then <code>finally: handle.remove()</code>.</details>


# %% tags=["exercise"]
def watch_output(layer, run):
    """The output of layer while run() runs; the hook is removed in any case."""
    # BEGIN SOLUTION
    kept = []
    handle = layer.register_forward_hook(lambda layer, inputs, output: kept.append(output))
    try:
        run()
    finally:
        handle.remove()
    return kept[-1]
    # END SOLUTION


# %% tags=["check"]
grad_cam.check_watch_output(watch_output)

# %% [markdown]
# Python has a form for "in any case": a context manager. The package's is called `Watch`, and this is a bridge cell: the same output, and no
# hook left behind.

# %%
from course_utils import explain

with explain.Watch(layer) as seen:
    model.encode_image(image)
assert torch.equal(seen.output, heard[0])
assert not layer._forward_hooks

# %% [markdown]
# ## 3 Grad-CAM in two lines
# The score $s$ is one number. Its gradient at the layer's maps $A^c$ says, for each channel and place, how the score would change if the
# activation there grew. Grad-CAM asks each channel one question, *are you for or against?*, and adds the channels up:
#
# $$w_c = \frac{1}{hw}\sum_{ij} \frac{\partial s}{\partial A^c_{ij}} \qquad\qquad M_{ij} = \max\Big(0,\ \sum_c w_c A^c_{ij}\Big)$$
#
# First the gradient, for the first phrase. Then, in the next cell, the two lines.

# %%
z_phrase = encode(shown_phrases)  # (K,E) = (2,128)
with explain.Watch(layer) as seen:
    first_score = (model.encode_image(image) @ z_phrase[0])[0]
(gradient,) = torch.autograd.grad(first_score, seen.output)  # new
gradient.shape  # (B,C,h,w)

# %%
weights = gradient.mean(dim=(2, 3), keepdim=True)  # (B,C,1,1), one number a channel
by_hand = (weights * seen.output).sum(dim=1).relu()  # (B,C,h,w) -> (B,h,w)
by_hand.shape

# %% [markdown]
# ### Exercise 7.2: Grad-CAM of one picture
# Difficulty 2 of 3, about 8 minutes.
#
# Write `cam(activations, gradients)` for one picture, both (C,h,w): one map (h,w). Do not scale the result.
#
# <details><summary>Hint 1</summary>How many weights are there, and over which dimensions is each a mean?</details>
# <details><summary>Hint 2</summary>Three steps in this order: weigh channels, add them up, cut off what is negative.</details>


# %% tags=["exercise"]
def cam(activations, gradients):
    """Grad-CAM from maps and their gradients, each (C,h,w) -> (h,w), >= 0."""
    # BEGIN SOLUTION
    weight = gradients.mean(dim=(1, 2), keepdim=True)  # (C,1,1)
    return (weight * activations).sum(dim=0).relu()  # (C,h,w) -> (h,w)
    # END SOLUTION


# %% tags=["check"]
grad_cam.check_cam(cam)

# %% [markdown]
# Is that Grad-CAM, or only something like it? The package agrees, and so does `captum`, PyTorch's library of explanations, which takes the score as a
# function and the layer.

# %% tags=["nbval-check-output"]
from captum.attr import LayerGradCam

packaged = explain.grad_cam(seen.output, gradient)
theirs = LayerGradCam(lambda x: model.encode_image(x) @ z_phrase[0], layer).attribute(image, relu_attributions=True)
assert torch.allclose(packaged, by_hand)
assert torch.allclose(theirs[:, 0], by_hand, atol=1e-6)
print("by hand, package and captum agree")

# %% [markdown]
# Before you look: the map is for the *first* phrase. Where should the second phrase's map be strong, and should the two overlap?


# %%
def enlarged(maps):
    """Maps (N,h,w) -> (N,64,64), smoothly."""
    maps = torch.nn.functional.interpolate(maps[:, None], size=image.shape[-2:], mode="bilinear")
    return maps[:, 0].detach().numpy()


both = torch.cat([explain.grad_cams(model.encode_image, layer, image, z)[0] for z in z_phrase.split(1)])  # (2,h,w)
axes = plotting.maps([scene.image] * 2, enlarged(both), shown_phrases, scene.masks, columns=2)
axes[0].get_figure().axes[-1].set_ylabel("Grad-CAM, in units of the score")
plotting.show(
    axes, alt="One scene twice, with the Grad-CAM map of each object's phrase; the outline is the object named."
)

# %% [markdown]
# Two phrases, one picture, two maps: this is what makes it an explanation of a *pair*. They look plausible. Keep your admiration for section 8.
#
# ## 4 Many sentences for the price of one
# The cell above used `grad_cams`, which hides a piece of algebra worth having. The score is $t\cdot z/|z|$ with the phrase's unit vector $t$ and the picture's raw embedding
# $z$. All that the sentence contributes to the gradient is its direction at $z$; everything below is the picture's and can be shared.
#
# ### Exercise 7.3: the gradient of a cosine
# Difficulty 3 of 3, about 12 minutes.
#
# Write `pair_gradient(z, t)`: the gradient of $t\cdot z/|z|$ with respect to $z$, for $z$ (E,) of any length and $t$ (E,) of length 1. Without autograd, if you can.
#
# <details><summary>Hint 1</summary>Walk a small step along z itself. What happens to the cosine? So which part of t cannot matter?</details>
# <details><summary>Hint 2</summary>With u = z / |z|: take from t its part along u, and divide by |z|.</details>


# %% tags=["exercise"]
def pair_gradient(z, t):
    """Gradient of t . z / |z| with respect to z; z (E,), t (E,) of length 1 -> (E,)."""
    # BEGIN SOLUTION
    u = z / z.norm()
    return (t - (t @ u) * u) / z.norm()
    # END SOLUTION


# %% tags=["check"]
grad_cam.check_pair_gradient(pair_gradient)

# %% [markdown]
# Behind our layer the tower goes on with two convolutions; `grad_cams` therefore runs the picture once, keeps a graph only from the layer on, and sends all
# sentences' gradients back together. Five captions of this scene, the slow way and the fast one:

# %%
z_captions = encode([caption.text for caption in scene.captions[:2]] + shown_phrases + ["a pizza"])  # (5,E)


def one_by_one():
    slow_maps = []
    for z in z_captions:
        with explain.Watch(layer) as seen:
            score = (model.encode_image(image) @ z)[0]
        slow_maps.append(explain.grad_cam(seen.output, *torch.autograd.grad(score, seen.output)))
    return torch.cat(slow_maps)


def all_at_once():
    return explain.grad_cams(model.encode_image, layer, image, z_captions)[0]


assert torch.allclose(one_by_one(), all_at_once(), atol=1e-6)

# %%
import time


def milliseconds(run, repeats=20):
    spent = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        spent.append(time.perf_counter() - start)
    return 1_000 * float(np.median(spent))


slow, fast = milliseconds(one_by_one), milliseconds(all_at_once)
print(f"five sentences: one by one {slow:.1f} ms, together {fast:.1f} ms")

# %% [markdown]
# On a larger tower, where the picture costs more than the algebra, the five maps cost about as much as one forward pass (the course's benchmarks measure it beside captum and
# pytorch-grad-cam). For a search page that explains every hit, this is the difference between usable and not.
#
# ## 5 Which layer?
# The textbook says: the last convolution. Ours ends at 4 by 4 places, each 16 pixels wide, and an object covers about one of them. Look at the four:

# %%
layers = {f"{64 >> k} x {64 >> k}": f"image_tower.features.{3 * k - 1}" for k in (1, 2, 3, 4)}
at_layers = [
    explain.grad_cams(model.encode_image, model.get_submodule(one), image, z_phrase[:1])[0] for one in layers.values()
]
relative = np.concatenate([enlarged(maps / maps.max()) for maps in at_layers])  # for this figure only
axes = plotting.maps([scene.image] * 4, relative, list(layers), scene.masks[[0] * 4])
axes[0].get_figure().axes[-1].set_ylabel("share of the map's maximum")
plotting.show(axes, alt="Grad-CAM of one phrase at four layers, from fine and noisy to coarse and blurred.")

# %% [markdown]
# Fine maps are noisy, coarse ones miss. Which to take is a question for numbers, not for taste; section 8 settles it.
#
# ## 6 Patches instead of convolutions
# In a vision transformer the picture is a row of tokens $(B, 1+P, D)$: a class token, then patches, counted like words on a page. Grad-CAM
# only needs them laid out as a picture again.
#
# ### Exercise 7.4: tokens as a picture
# Difficulty 2 of 3, about 8 minutes.
#
# Write `to_picture(tokens, rows, columns)`: tokens (1 + rows * columns, D) with a class token in front -> (D, rows, columns).
#
# <details><summary>Hint 1</summary>Which dimension counts patches now, and where should the width go?</details>
# <details><summary>Hint 2</summary>Drop the first token, transpose to (D,P), then reshape. A reshape alone scrambles.</details>


# %% tags=["exercise"]
def to_picture(tokens, rows, columns):
    """Tokens (1+P,D), class token first, P = rows * columns -> (D,rows,columns)."""
    # BEGIN SOLUTION
    return tokens[1:].T.reshape(-1, rows, columns)  # (P,D) -> (D,P) -> (D,rows,columns)
    # END SOLUTION


# %% tags=["check"]
grad_cam.check_to_picture(to_picture)

# %% [markdown]
# A tower of patches that learned the same task is shipped too. It is read out by its class token. Predict: what is the gradient at the *patches* of the last block's output?

# %% tags=["nbval-check-output"]
patch_retriever = shipped.load("patches")
patch_model = patch_retriever.model
patch_tower = patch_model.image_tower  # 8 by 8 patches and a class token, four blocks
with torch.no_grad():
    z_patch = patch_model.encode_text(*patch_retriever.tokenize(shown_phrases))  # (K,E)
try:
    explain.grad_cams(patch_model.encode_image, patch_tower.blocks[-1], image, z_patch, to_map=patch_tower.as_map)
except ValueError as error:
    print(error)

# %% [markdown]
# Behind the last attention the patches are never read again: their gradient is zero, and many a tutorial's map of a transformer is the noise of that layer. Earlier blocks can be asked. Patches stay at their places all the way, so we keep gradients at theirs too (`average=False`, which is called
# HiResCAM), and do not average them away.

# %%
earlier = patch_tower.blocks[-2].norm
patch_maps = explain.grad_cams(
    patch_model.encode_image, earlier, image, z_patch, to_map=patch_tower.as_map, average=False
)[0]  # (K,8,8)
patch_maps.shape

# %% [markdown]
# Transformers offer another map for free: **rollout** (Abnar and Zuidema 2020) multiplies the attention of all layers, half attention and half detour in each, and reads the class token's row. Which argument is missing below?

# %%
with torch.no_grad():
    attentions = patch_tower.attend(image)[1]  # four times (B,h,T,T)
rolled = explain.rollout(attentions)[:, 0, 1:].reshape(1, 8, 8)  # (B,T,T) -> (B,P) -> (B,8,8)
relative = np.stack([one / one.max() for one in enlarged(torch.cat([patch_maps, rolled]))])  # for this figure only
panels = [f"gradients: {text}" for text in shown_phrases] + ["rollout: any phrase"]
axes = plotting.maps([scene.image] * 3, relative, panels, scene.masks[[0, 1, 0]], columns=3)
axes[0].get_figure().axes[-1].set_ylabel("share of the map's maximum")
plotting.show(
    axes, alt="A tower of patches: a gradient map for each phrase, and rollout, which is one map for all phrases."
)

# %% [markdown]
# No sentence went into rollout. It says which patches were read at all, the same for *apple* and for *bus*. Section 8 will show what that is worth for a pair.
#
# ## 7 Two more ways to ask
# ### Cover it and see
# Gradients ask about tiny changes. **Occlusion** makes a large one: cover a square, and note what the score loses.
#
# ### Exercise 7.5: cover a square
# Difficulty 1 of 3, about 6 minutes.
#
# Write `occlude(image, top, left, side, instead)`: the picture (3,H,W), with the square whose corner is (top, left) replaced by the same square of `instead` (3,H,W). The picture that was given must not change.
#
# <details><summary>Hint 1</summary>What does <code>image[...] = ...</code> do to the caller's picture?</details>
# <details><summary>Hint 2</summary><code>image.clone()</code>, then one assignment of a slice: rows first.</details>


# %% tags=["exercise"]
def occlude(image, top, left, side, instead):
    """image, instead (3,H,W) -> a copy of image with one square from instead."""
    # BEGIN SOLUTION
    covered = image.clone()
    covered[:, top : top + side, left : left + side] = instead[:, top : top + side, left : left + side]
    return covered
    # END SOLUTION


# %% tags=["check"]
grad_cam.check_occlude(occlude)

# %% [markdown]
# What should stand there instead? Black, grey, the picture's mean colour, a blur: each is a different question. `absence` has them; here the mean colour. Sixteen squares, by hand:

# %%
from course_utils import absence

mean_colour = absence.stand_in(image, "mean")  # (1,3,H,W)
whole = first_score.item()
lost = torch.zeros(4, 4)
with torch.no_grad():
    for row in range(4):
        for column in range(4):
            square = (slice(None), slice(16 * row, 16 * row + 16), slice(16 * column, 16 * column + 16))
            covered = image[0].clone()
            covered[square] = mean_colour[0][square]
            lost[row, column] = whole - (model.encode_image(covered[None])[0] @ z_phrase[0])
lost


# %%
def score_phrase(images):
    return model.encode_image(images) @ z_phrase[0]  # (N,3,H,W) -> (N,)


coarse_map = explain.occlusion(score_phrase, image[0], mean_colour[0], window=16, stride=16)  # (H,W)
assert torch.allclose(coarse_map[8::16, 8::16], lost, atol=1e-5)

# %% [markdown]
# captum's `Occlusion` says the same, also where squares overlap.

# %% tags=["nbval-check-output"]
from captum.attr import Occlusion

ours = explain.occlusion(score_phrase, image[0], mean_colour[0], window=16, stride=8)
shape, strides = (3, 16, 16), (3, 8, 8)
theirs = Occlusion(score_phrase).attribute(image, shape, strides, baselines=mean_colour)
assert torch.allclose(theirs[0, 0].float(), ours, atol=1e-5)
print("package and captum agree")

# %% [markdown]
# ### Walk there and add up
# **Integrated gradients** walk from a picture that shows nothing, the baseline $b$, to the picture $x$, and average the gradient along the way:
#
# $$\phi_i = (x_i - b_i)\int_0^1 \frac{\partial s}{\partial x_i}\big(b + a\,(x-b)\big)\,da \qquad\qquad \sum_i \phi_i = s(x) - s(b)$$
#
# The second equation is *completeness*: every bit of the difference is shared out. No other method of this lesson can be checked by adding up.
#
# ### Exercise 7.6: integrated gradients
# Difficulty 3 of 3, about 15 minutes.
#
# Write `integrated(score, x, baseline, steps)`: `score` takes rows (N,D) to (N,), x and baseline are (D,). Take the gradient at the middles of `steps` equal parts of the way, average, and multiply by how far each number went.
#
# <details><summary>Hint 1</summary>All points can be one batch: <code>baseline + shares[:, None] * (x - baseline)</code>.</details>
# <details><summary>Hint 2</summary><code>torch.autograd.grad(score(rows).sum(), rows)</code> gives each row its own gradient. Why does the sum not mix them?</details>


# %% tags=["exercise"]
def integrated(score, x, baseline, steps):
    """Integrated gradients by midpoints; score: (N,D) -> (N,), x and baseline (D,) -> (D,)."""
    # BEGIN SOLUTION
    shares = (torch.arange(steps) + 0.5) / steps  # (S,)
    rows = (baseline + shares[:, None] * (x - baseline)).requires_grad_()  # (S,D)
    (gradients,) = torch.autograd.grad(score(rows).sum(), rows)  # (S,D)
    return gradients.mean(dim=0) * (x - baseline)
    # END SOLUTION


# %% tags=["check"]
grad_cam.check_integrated(integrated)

# %% tags=["nbval-check-output"]
from captum.attr import IntegratedGradients

shares_of_score = explain.integrated_gradients(score_phrase, image, mean_colour, steps=32)  # (1,3,H,W)
theirs = IntegratedGradients(score_phrase).attribute(image, mean_colour, n_steps=32)
assert torch.allclose(theirs.float(), shares_of_score, atol=1e-5)
print("package and captum agree")

# %%
with torch.no_grad():
    difference = (score_phrase(image) - score_phrase(mean_colour)).item()
print(f"shares add up to {shares_of_score.sum():.4f}, the score's difference is {difference:.4f}")

# %% [markdown]
# Single pixels are noisy, so we add up the three colours and smooth over a few pixels. Beside each other, in colours whose scale differs (a loss, a share, a weighted activation cannot be compared in size):


# %%
def smoothed(pixels, deviation=2.0):
    """Pixel maps (N,H,W) -> the same, blurred over a few pixels."""
    offsets = torch.arange(-6, 7)
    kernel = torch.exp(-0.5 * (offsets / deviation) ** 2)
    kernel = torch.outer(kernel, kernel)[None, None] / kernel.sum() ** 2  # (1,1,13,13)
    return torch.nn.functional.conv2d(pixels[:, None], kernel, padding=6)[:, 0]


trio = {
    "Grad-CAM": enlarged(both[:1])[0],
    "occlusion": ours.clamp(min=0).numpy(),
    "integrated gradients": smoothed(shares_of_score.sum(dim=1))[0].clamp(min=0).numpy(),
}
relative = np.stack([one / one.max() for one in trio.values()])  # for this figure only
axes = plotting.maps([scene.image] * 3, relative, list(trio), scene.masks[[0] * 3], columns=3)
axes[0].get_figure().axes[-1].set_ylabel("share of the map's maximum")
plotting.show(axes, alt="Three maps of one phrase on one scene: Grad-CAM, occlusion, integrated gradients.")

# %% [markdown]
# Which is right? One picture cannot say, and neither can taste.
#
# ## 8 Judged, not admired
# We take many test scenes, one object's phrase each, and ask three things of a map:
#
# - **pointing game**: does its strongest place lie on the object? (lesson 03)
# - **energy**: which share of the whole map lies on it?
# - **overlap** (IoU): how much does the map, cut at half its maximum, look like the object?


# %%
def cases(count):
    """Scenes 0..count-1, asked about object 0 and 1 in turn: pictures, phrases, own and other masks."""
    some = [test[i] for i in range(count)]
    pictures = torch.from_numpy(test.images(range(count))).permute(0, 3, 1, 2).float() / 255  # (N,3,H,W)
    texts = [phrase(one.captions[0], i % 2) for i, one in enumerate(some)]
    own, other = (np.stack([one.masks[(i + j) % 2] for i, one in enumerate(some)]) for j in (0, 1))  # (N,H,W)
    return pictures, texts, own, other


test = scenes.Scenes(SEED, "test")
pictures, phrases, own, other = cases(sizes.scenes)
z_phrases = encode(phrases)  # (N,E)
area = own.mean()
print(f"{len(phrases)} phrases, such as {phrases[0]!r}; the object covers {area:.3f} of a picture on average")

# %% [markdown]
# ### Exercise 7.7: energy inside
# Difficulty 1 of 3, about 5 minutes.
#
# Write `energy(saliency, mask)` for one map (H,W) and one mask (H,W) of bool: the share of the map's *positive* part that lies inside. A map of zeros knows nothing and should score what a flat map does: the mask's share of the picture.
#
# <details><summary>Hint 1</summary>What would negative values do to a share?</details>
# <details><summary>Hint 2</summary><code>saliency.clamp(min=0)</code>; and look at its sum before you divide.</details>


# %% tags=["exercise"]
def energy(saliency, mask):
    """Share of the positive part of saliency (H,W) inside mask (H,W)."""
    # BEGIN SOLUTION
    positive = saliency.clamp(min=0)
    if positive.sum() == 0:
        return mask.float().mean()
    return positive[mask].sum() / positive.sum()
    # END SOLUTION


# %% tags=["check"]
grad_cam.check_energy(energy)

# %% [markdown]
# The package's measures take many maps and give one number each, so that an interval can be put around their mean. Bridge, on one map:

# %%
from course_utils import faithfulness, metrics

one_map, one_mask = trio["Grad-CAM"], scene.masks[0]
assert np.isclose(faithfulness.energy_inside(one_map[None], one_mask[None])[0], one_map[one_mask].sum() / one_map.sum())


def judged(maps, masks):
    """Three numbers a map, and their means: maps (N,h,w), masks (N,H,W)."""
    positive = np.clip(maps, 0, None)
    return {
        "pointing": faithfulness.pointing_game(maps, masks),
        "energy": faithfulness.energy_inside(positive, masks),
        "overlap": faithfulness.iou_at(positive, masks, threshold=0.5),
    }


# %% [markdown]
# First the question of section 5, on half of the scenes, so that the other half is left to report on. Predict the order of the four layers.

# %%
half = sizes.scenes // 2


def grad_cam_maps(model, path, pictures, z_phrases):
    """One map a picture and its phrase, at the layer of that name: (N,64,64)."""
    one = model.get_submodule(path)
    pairs = zip(pictures, z_phrases)
    maps = [explain.grad_cams(model.encode_image, one, picture[None], z[None])[0] for picture, z in pairs]
    return enlarged(torch.cat(maps))


by_layer = {}
for name, path in layers.items():
    hits = judged(grad_cam_maps(model, path, pictures[:half], z_phrases[:half]), own[:half])["pointing"]
    by_layer[name] = hits.mean()
    low, high = metrics.bootstrap_interval(hits, seed=SEED)
    print(f"{name:8} pointing game {hits.mean():.2f} ({low:.2f} to {high:.2f})")
chosen = max(by_layer, key=by_layer.get)
print(f"chosen: {chosen}")

# %% [markdown]
# The last layer, the textbook's choice, is the worst here: its places are as large as the objects. Take the rule for what it is, a habit from networks whose last map is finer than their objects. We keep the layer that did best and turn to scenes
# that were not used for this choice.

# %%
judged_rows = slice(half, sizes.scenes)
cam_maps = grad_cam_maps(model, layers[chosen], pictures[judged_rows], z_phrases[judged_rows])
few_rows = slice(half, half + sizes.few_scenes)
few_pictures, few_z, few_own, few_other = (x[few_rows] for x in (pictures, z_phrases, own, other))
few_mean = absence.stand_in(few_pictures, "mean")


def gradient_maps(model, z_phrases, start, steps=sizes.steps):
    """Integrated gradients of few_pictures, summed over colours: (N,64,64)."""

    def own_scores(rows):  # rows of whole rounds through the pictures
        return (model.encode_image(rows) * z_phrases.repeat(len(rows) // len(z_phrases), 1)).sum(dim=1)

    return explain.integrated_gradients(own_scores, few_pictures, start, steps, batch=256).sum(dim=1)


# %%
from tqdm.auto import tqdm

ig_pixels = gradient_maps(model, few_z, few_mean)  # (N,64,64)
grey_pixels = gradient_maps(model, few_z, absence.stand_in(few_pictures, "grey"))
occluded = []
for picture, z, nothing in zip(tqdm(few_pictures, desc="occlusion", leave=False), few_z, few_mean):
    occluded.append(explain.occlusion(lambda x, z=z: model.encode_image(x) @ z, picture, nothing, window=16, stride=8))

# %%
with torch.no_grad():
    few_patch_z = patch_model.encode_text(*patch_retriever.tokenize(phrases[few_rows]))  # (N,E)
    few_attentions = patch_tower.attend(few_pictures)[1]
rolled_maps = enlarged(explain.rollout(few_attentions)[:, 0, 1:].unflatten(1, (8, 8)))
patch_cams = [explain.grad_cams(patch_model.encode_image, earlier, picture[None], z[None], patch_tower.as_map, False)[0]
              for picture, z in zip(few_pictures, few_patch_z)]  # fmt: skip
on_other = judged(rolled_maps, few_other)["pointing"].mean()
print(f"rollout points at the object in {judged(rolled_maps, few_own)['pointing'].mean():.2f}, at the other one in {on_other:.2f}")  # fmt: skip

# %% [markdown]
# Beside every method its controls: a **random map**; a **centre prior**, for whoever bets on the middle; and a map of **contrast**, how far each pixel is from the mean colour, which never asks the model. Predict how far each gets in the pointing game: the object covers about 7 % of a picture.

# %%
contrast = smoothed((few_pictures - few_mean).abs().sum(dim=1)).numpy()
table = {
    "integrated gradients": (smoothed(ig_pixels).numpy(), few_own),
    "the same, from grey": (smoothed(grey_pixels).numpy(), few_own),
    "Grad-CAM": (cam_maps, own[judged_rows]),
    "occlusion": (torch.stack(occluded).numpy(), few_own),
    "patches, gradients": (enlarged(torch.cat(patch_cams)), few_own),
    "patches, rollout": (rolled_maps, few_own),
    "contrast, no model": (contrast, few_own),
    "centre prior": (np.repeat(faithfulness.centre_prior(64, 64)[None], half, axis=0), own[judged_rows]),
    "random map": (faithfulness.random_maps(half, 8, 8, SEED), own[judged_rows]),
}
results = {name: judged(*both_sides) for name, both_sides in table.items()}
for name, found in results.items():
    print(f"{name:22} " + "   ".join(f"{measure} {values.mean():.2f}" for measure, values in found.items()))

# %%
intervals = np.array([metrics.bootstrap_interval(found["pointing"], seed=SEED) for found in results.values()])  # (M,2)
means = [found["pointing"].mean() for found in results.values()]
axes = plotting.bars(list(results), means, intervals, chance=area)
axes.set(
    xlabel="pointing game (95 % interval over scenes)", title="Gradients find the object; contrast finds an object"
)
plotting.show(
    axes, alt="Bars of the pointing game: integrated gradients lead, Grad-CAM follows, controls are far below."
)

# %%
real = ["integrated gradients", "Grad-CAM", "occlusion"]
best = max(real, key=lambda name: results[name]["pointing"].mean())
for fact, name in {"best": best, "grad_cam": "Grad-CAM"}.items():
    values = results[name]["pointing"]
    record(f"pointing/{fact}", values.mean(), metrics.bootstrap_interval(values, seed=SEED), area, excludes=(area, 0.5))
print(f"best: {best}")

# %% [markdown]
# Read the rows *contrast, no model* and *patches, rollout*. Neither was given the phrase, and both hit far more often than the area suggests: the background is plain, so whoever finds *an* object is right half of the time, and rollout found the other object just as often. **The area is chance only for those who do not
# see the objects.** Here the honest rival is a coin between the two.
#
# ## 9 The surprise: a map that needs no model
# ### Exercise 7.8: what is chance?
# Difficulty 1 of 3, about 4 minutes.
#
# Each scene shows two objects, each covering 0.07 of the picture, and the question is about one of them. What share of questions does a random map's strongest place get right? And a map that always hits one of the two objects, whichever? Put both into `needed`.
#
# <details><summary>Hint 1</summary>Where can the strongest place of a random map fall?</details>
# <details><summary>Hint 2</summary>The second map never falls on the ground.</details>

# %% tags=["exercise"]
needed = ...
# BEGIN SOLUTION
needed = (0.07, 0.5)
# END SOLUTION

# %% tags=["check"]
grad_cam.check_needed(needed)

# %% [markdown]
# Now a test by Adebayo et al. (2018). Shuffle the weights inside every layer: the same numbers in other places, so the model knows *nothing* any more. If a map came from what the model learned, it must fall apart. Many people show the *absolute value* of integrated gradients; put it to this test. Predict what it looks like.

# %%
everything = ["image_tower", "image_head", "text_tower", "text_head"]
strangers = []
for draw in range(sizes.draws):
    *_, (_, stranger) = explain.randomised(model, everything, seed=SEED + draw)
    strangers.append(stranger.eval())
with torch.no_grad():
    stranger_z = [one.encode_text(*retriever.tokenize(phrases)) for one in strangers]  # each (N,E)

# %%
stranger_pixels = [gradient_maps(one, z[few_rows], few_mean) for one, z in zip(strangers, stranger_z)]
learned_size, stranger_size = (smoothed(pixels.abs()).numpy() for pixels in (ig_pixels, stranger_pixels[0]))
pair = np.stack([learned_size[0] / learned_size[0].max(), stranger_size[0] / stranger_size[0].max()])
picture_shown = few_pictures[0].permute(1, 2, 0).numpy()
titles = [f"{phrases[half]}: trained", "the same, weights shuffled"]
axes = plotting.maps([picture_shown] * 2, pair, titles, few_own[[0, 0]], columns=2)
axes[0].get_figure().axes[-1].set_ylabel("share of the map's maximum")
plotting.show(
    axes, alt="Absolute integrated gradients of a trained and of a shuffled model; both light up the objects."
)

# %%
either = few_own | few_other
stranger_hits = np.mean([judged(smoothed(one.abs()).numpy(), few_own)["pointing"] for one in stranger_pixels], axis=0)
object_hits = np.mean([judged(smoothed(one.abs()).numpy(), either)["pointing"] for one in stranger_pixels], axis=0)
stranger_cams = [grad_cam_maps(one, layers[chosen], pictures[judged_rows], z[judged_rows])
                 for one, z in zip(strangers, stranger_z)]  # fmt: skip
stranger_cam_hits = np.mean([judged(maps, own[judged_rows])["pointing"] for maps in stranger_cams], axis=0)
print(f"|integrated gradients| of models that know nothing: on an object {object_hits.mean():.2f}, on the right one "
      f"{stranger_hits.mean():.2f}; Grad-CAM {stranger_cam_hits.mean():.2f}")  # fmt: skip

# %%
for fact, values, against in (("randomised_weights", stranger_cam_hits, results["Grad-CAM"]["pointing"].mean()),
                              ("randomised_integrated_gradients", stranger_hits, results[best]["pointing"].mean())):  # fmt: skip
    record(f"pointing/{fact}", values.mean(), metrics.bootstrap_interval(values, seed=SEED), area, excludes=(against,))
record("surprise/shuffled_hits_an_object", object_hits.mean(), metrics.bootstrap_interval(object_hits, seed=SEED),
       either.mean(), excludes=(0.5,))  # fmt: skip

# %% [markdown]
# A model that knows nothing draws a beautiful map. Integrated gradients multiply by $x - b$, and that is large where the picture differs from its mean: on the objects. Against the area it looks like knowledge; against a coin it is none. Three things save you: the **shuffled model** as a control, **another
# phrase** for the same picture, and the **sign**, which the absolute value throws away. Signed, how much is left?

# %%
signed_hits = np.mean([judged(smoothed(one).numpy(), few_own)["pointing"] for one in stranger_pixels], axis=0)
swapped = gradient_maps(model, few_z.roll(1, dims=0), few_mean)  # another scene's phrase
swapped_hits = judged(smoothed(swapped).numpy(), few_own)["pointing"]
print(f"signed, shuffled weights: {signed_hits.mean():.2f}; trained, another scene's phrase: {swapped_hits.mean():.2f}")

# %% [markdown]
# How deep does the forgetting have to go? From the output downwards, one part after the other, for Grad-CAM:

# %%
parts = ["image_head", "image_tower.project", "image_tower.features.9", "image_tower.features.6",
         "image_tower.features.3", "image_tower.features.0"]  # fmt: skip
cascade = {"nothing": results["Grad-CAM"]["pointing"].mean()}
for part, forgetful in explain.randomised(model, parts, seed=SEED):
    maps = grad_cam_maps(forgetful, layers[chosen], pictures[judged_rows], z_phrases[judged_rows])
    cascade[part.removeprefix("image_")] = judged(maps, own[judged_rows])["pointing"].mean()
axes = plotting.bars(list(cascade), list(cascade.values()), chance=area)
axes.set(
    xlabel="pointing game", title="Grad-CAM while the model forgets, from the output down", ylabel="forgotten so far"
)
plotting.show(
    axes,
    alt="Bars: the pointing game of Grad-CAM with nothing forgotten, then with one part of the model after the other shuffled.",
)

# %% [markdown]
# Shuffling the head alone, one matrix behind everything that was learned about pictures, undoes the map: Grad-CAM takes its weights from there. A map that passes this test may still be wrong; one that fails it says nothing about the model.
#
# ## 10 Take it away: deletion
# Masks are a luxury: on real photographs nobody has drawn them. **Deletion** needs none. Take the picture away, most important pixels first, and watch the score: if the map is right, it falls early.
#
# ### Exercise 7.9: the deletion curve
# Difficulty 3 of 3, about 15 minutes.
#
# Write `deletion_curve(score, image, saliency, instead, steps)`: image and instead (3,H,W), saliency (H,W) without ties; `score` takes (N,3,H,W) to (N,). Point k of steps + 1 is the score with the `round(k * H * W / steps)` most important pixels replaced by those of `instead`.
#
# <details><summary>Hint 1</summary>What is the first point? What is the last?</details>
# <details><summary>Hint 2</summary><code>saliency.flatten().argsort(descending=True)</code> gives the order; a boolean mask of what is gone, then <code>torch.where</code>.</details>


# %% tags=["exercise"]
def deletion_curve(score, image, saliency, instead, steps):
    """Scores while the most important pixels go: (steps + 1,)."""
    # BEGIN SOLUTION
    order, points = saliency.flatten().argsort(descending=True), []
    for k in range(steps + 1):
        gone = torch.zeros(saliency.numel(), dtype=torch.bool)
        gone[order[: round(k * saliency.numel() / steps)]] = True
        points.append(score(torch.where(gone.view_as(saliency), instead, image)[None])[0])
    return torch.stack(points)
    # END SOLUTION


# %% tags=["check"]
grad_cam.check_deletion_curve(deletion_curve)

# %% [markdown]
# The package's version asks a function of *what is kept*, so that what stands instead stays your choice. Maps are compared at 16 by 16 cells, beside a random order.


# %%
@torch.no_grad()
def deleted(maps):
    """Deletion curves of few_pictures for maps (N,64,64): (N,17)."""
    cells = maps.reshape(len(maps), 16, 4, 16, 4).mean(axis=(2, 4))  # (N,16,16)
    curves = []
    for picture, nothing, z, one in zip(few_pictures, few_mean, few_z, cells):

        def value(kept, picture=picture, nothing=nothing, z=z):
            return (model.encode_image(absence.hide_pixels(picture, kept, nothing)) @ z).numpy()

        curves.append(faithfulness.deletion(value, one, size=(64, 64), seed=SEED))
    return np.array(curves)


count = len(few_pictures)
falling = {
    "integrated gradients": deleted(smoothed(ig_pixels).numpy()),
    "Grad-CAM": deleted(cam_maps[:count]),
    "contrast, no model": deleted(contrast),
    "random": deleted(np.kron(faithfulness.random_maps(count, 16, 16, SEED), np.ones((4, 4)))),
}

# %%
axes = plotting.lines(np.linspace(0, 1, 17), {name: curves.mean(axis=0) for name, curves in falling.items()})
axes.set(
    xlabel="share of the picture taken away", ylabel="cosine with the phrase", title="The sooner it falls, the better"
)
plotting.show(axes, alt="Mean deletion curves: integrated gradients fall fastest, a random order slowest.")

# %% [markdown]
# Read the controls first. A random order costs little until half of the picture is gone: many small holes leave objects recognisable. *Contrast* falls fast without ever asking the model, because whoever covers the objects takes the score away. Only what lies below **that** line was learned
# from the phrase. And note the end: all curves meet at the plain picture, whose score is not zero.

# %%
gained = falling["random"].mean(axis=1) - falling["integrated gradients"].mean(axis=1)  # (N,)
low, high = metrics.bootstrap_interval(gained, seed=SEED)
print(f"area under the curve, random minus integrated gradients: {gained.mean():.3f} ({low:.3f} to {high:.3f})")
record("deletion/random_minus_best", gained.mean(), (low, high), excludes=(0,))

# %% [markdown]
# Deletion judges with the model itself, on pictures full of holes that it never trained on. A map can do well by finding pixels that break the model rather than those it uses; masks and deletion together are harder to fool than either.
#
# ## 11 Bug hunt: the map of a word that is not there
# A popular helper overlays a map on a picture like this:


# %%
def overlay(saliency):
    """Ready to be shown: values in [0, 1]."""
    return (saliency - saliency.min()) / (saliency.max() - saliency.min() + 1e-7)


wrong_phrase = next(f"a {noun}" for noun in ("pizza", "rocket", "camel") if noun not in scene.captions[0].words)
z_pair = torch.cat([z_phrase[:1], encode([wrong_phrase])])  # (2,E)
present_map, absent_map = enlarged(explain.grad_cams(model.encode_image, layer, image, z_pair)[0])
axes = plotting.maps([scene.image] * 2, np.stack([overlay(present_map), overlay(absent_map)]),
                     [shown_phrases[0], f"{wrong_phrase}, which is not there"], scene.masks[[0, 0]], columns=2)  # fmt: skip
axes[0].get_figure().axes[-1].set_ylabel("share of the map's maximum")
plotting.show(
    axes, alt="Two overlays: the phrase of an object that is there, and of one that is not; both look confident."
)

# %% [markdown]
# Both look like findings. Dividing each map by its own maximum makes the strongest of *nothing* as bright as the strongest of something. Every panel that compares phrases, layers or models this way shows less than it seems to.
#
# ### Exercise 7.10: a test for maps
# Difficulty 3 of 3, about 12 minutes.
#
# Write `is_sound(explain)`, a test of any method `explain(score, image)` that gives a map (H,W); `score` takes images (N,3,H,W) to (N,). Make scores of your own whose truth you know, and return True only for a method whose map follows the score: where it reads, and how strongly. Some subjects ignore the score, mirror the map, or rescale it.
#
# <details><summary>Hint 1</summary>A score that reads the left half alone: <code>lambda x: x[..., : x.shape[-1] // 2].mean((1, 2, 3))</code>. Where must the map's sum lie? And for the right half, on the same picture?</details>
# <details><summary>Hint 2</summary>The same score, divided by a hundred: what must happen to the map?</details>


# %% tags=["exercise"]
def is_sound(explain):
    """Whether explain(score, image (3,H,W)) -> (H,W) follows the score."""
    # BEGIN SOLUTION
    picture = torch.rand(3, 16, 16)
    halves = {"left": slice(0, 8), "right": slice(8, 16)}
    for reads in halves.values():
        strong = explain(lambda x, reads=reads: x[..., reads].sum(dim=(1, 2, 3)), picture)
        weak = explain(lambda x, reads=reads: x[..., reads].sum(dim=(1, 2, 3)) / 100, picture)
        if not (strong[:, reads].sum() > 0.8 * strong.sum() and weak.sum() < 0.5 * strong.sum()):
            return False
    return True
    # END SOLUTION


# %% tags=["check"]
grad_cam.check_is_sound(is_sound)

# %% [markdown]
# Without the division, is a map of something absent fainter? Each test scene, its own phrase against a phrase of something that is not in it. For Grad-CAM we compare the maximum; for integrated gradients the sum, which completeness ties to the score.

# %%
absent = []
for i in range(half, half + count):
    words = test[i].captions[0].words
    absent.append(next(f"a {noun}" for noun in np.random.default_rng(i).permutation(test.nouns) if noun not in words))
z_absent = encode(absent)
with torch.no_grad():
    z_few = model.encode_image(few_pictures)
cam_absent = grad_cam_maps(model, layers[chosen], few_pictures, z_absent)
fainter = {
    "score": ((z_few * few_z).sum(dim=1) > (z_few * z_absent).sum(dim=1)).float().numpy(),
    "Grad-CAM, maximum": (cam_maps[:count].max(axis=(1, 2)) > cam_absent.max(axis=(1, 2))) * 1.0,
    "integrated gradients, sum": (
        ig_pixels.sum(dim=(1, 2)) > gradient_maps(model, z_absent, few_mean).sum(dim=(1, 2))
    ).float().numpy(),
}  # fmt: skip
for name, values in fainter.items():
    low, high = metrics.bootstrap_interval(values, seed=SEED)
    print(f"{name:26} the present phrase has more in {values.mean():.2f} of scenes ({low:.2f} to {high:.2f})")
record("absent/integrated_gradients_sum", values.mean(), (low, high), 0.5)  # the last of the three

# %% [markdown]
# The score knows what is there, and so does the sum of integrated gradients. The size of a Grad-CAM map hardly does: it says *where*, never *whether*. So print the score beside every map.
#
# ## 12 Which words?
# The same question from the other side: integrated gradients at the words' embeddings, from a sentence of unknown words to this one.

# %%
tokens, token_mask = retriever.tokenize([scene.captions[0].text])  # (1,L)
with torch.no_grad():
    z_image = model.encode_image(image)[0]
unknown = retriever.tokenizer.token_to_id("[UNK]")


def score_words(tokens, token_mask):
    return model.encode_text(tokens, token_mask) @ z_image


of_words = explain.word_attribution(score_words, model.text_tower.words, tokens, token_mask, unknown)[0]  # (L,)
with torch.no_grad():
    nothing_said = score_words(torch.where(token_mask, unknown, tokens), token_mask)
    difference = (score_words(tokens, token_mask) - nothing_said).item()
assert abs(of_words.sum().item() - difference) < 1e-2  # completeness, as for pixels
axes = plotting.bars(list(scene.captions[0].words), of_words.tolist(), colour="text")
axes.set(xlabel="share of the cosine", title="The caption's score, word by word")
plotting.show(axes, alt="Bars: the words of the caption with their shares of the score.")

# %% [markdown]
# Words help and hinder each other: *left* means little without two nouns. Lesson 08 shares such joint effects out exactly.
#
# ## 13 Leaderboard: your method
# A method is a function of a model, a picture (3,H,W) and a phrase's embedding (E,) that returns a map (H,W). Here are three; add your own below, and it is judged at once by the same scenes, masks and shuffled weights.


# %%
def method_grad_cam(model, picture, z):
    return grad_cam_maps(model, layers[chosen], picture[None], z[None])[0]


def method_gradient_times_input(model, picture, z):
    leaf = picture[None].clone().requires_grad_()
    (slope,) = torch.autograd.grad((model.encode_image(leaf) @ z)[0], leaf)
    return smoothed((slope * (leaf - leaf.mean(dim=(2, 3), keepdim=True))).sum(dim=1))[0].detach().numpy()


def method_both(model, picture, z):
    """Where two methods agree."""
    return method_grad_cam(model, picture, z) * np.clip(method_gradient_times_input(model, picture, z), 0, None)


# %%
def place_on_the_board(method):
    """Pointing and energy on the few scenes, and pointing with shuffled weights."""
    own_maps = np.stack([method(model, picture, z) for picture, z in zip(few_pictures, few_z)])
    lost_maps = np.stack(
        [method(strangers[0], picture, z) for picture, z in zip(few_pictures, stranger_z[0][few_rows])]
    )
    found, control = judged(own_maps, few_own), judged(lost_maps, few_own)["pointing"].mean()
    return found["pointing"].mean(), found["energy"].mean(), control


board = {"Grad-CAM": method_grad_cam, "gradient times input": method_gradient_times_input, "both": method_both}
places = {name: place_on_the_board(method) for name, method in board.items()}
for name, (hits, inside, control) in sorted(places.items(), key=lambda item: -item[1][0]):
    print(f"{name:22} pointing {hits:.2f}   energy {inside:.2f}   weights shuffled {control:.2f}")

# %% [markdown]
# Where two methods agree, energy rises: each removes the other's noise. The last column is the price tag of a method: what it scores when the model knows nothing. A good method has a large gap between its first and its last number.
#
# *Your turn, without a check:* can you beat the best of section 8 on the first column while the last stays low? Ideas: another layer, two layers at once, the phrase minus the mean of other phrases, more smoothing, a blurred baseline.
#
# ## What we saw

# %%
from IPython.display import Markdown

Markdown(f"""
- {best.capitalize()} hit the named object in {results[best]["pointing"].mean():.2f} of the scenes, Grad-CAM in {results["Grad-CAM"]["pointing"].mean():.2f}; the object covers {area:.2f} of a picture.
- At the tower's last layer Grad-CAM hit {by_layer["4 x 4"]:.2f}, at {max(by_layer, key=by_layer.get)} places {max(by_layer.values()):.2f}: the layer is a choice to be measured.
- With shuffled weights, absolute integrated gradients still lit an object in {object_hits.mean():.2f} of the scenes, and the right one in {stranger_hits.mean():.2f}: a coin's share.
- Deletion, which needs no masks, agreed: {gained.mean():.2f} less area under the curve than a random order.
- A present phrase had the larger Grad-CAM maximum in {fainter["Grad-CAM, maximum"].mean():.2f} of the scenes, the larger score in {fainter["score"].mean():.2f}: a map says where, not whether.
""")

# %% [markdown]
# ## Questions
# 1. Why can a dual encoder have no attention map between words and patches?
# 2. What would Grad-CAM show without its last step, the cut at zero?
# 3. Why did we choose the layer on one half of the scenes and report on the other?
# 4. A paper's only baseline for its maps is the area of the objects. What would you ask for?
# 5. Integrated gradients add up to a difference of scores. Which two pictures, and what changes when the baseline does?
# 6. Why shuffle weights inside their tensors rather than draw new ones?
# 7. When would deletion call a bad map good?
# 8. You show a map to somebody who must decide by it. Which three numbers stand beside it?

# %% [markdown] tags=["solution"]
# **Answers in short.** 1: words and patches never meet before the final product; each tower sees only its own side. 2: negative places as well: what speaks against the phrase, often the other object. 3: the best of four on the same scenes would be flattered
# by luck. 4: a control that sees the picture but not the model's knowledge: shuffled weights, contrast, another phrase. 5: the picture and the baseline; another baseline asks about another absence, so the shares change. 6: scales stay, so that activations neither die nor explode, and only the arrangement, which is what was learned,
# is lost. 7: when its pixels break the model, such as edges of holes, rather than carry the evidence. 8: the score itself, the same map with shuffled weights, and how often the method points right where truth is known.

# %% [markdown]
# ## References
# - Selvaraju et al. 2017, *Grad-CAM: visual explanations from deep networks via gradient-based localization*.
# - Sundararajan et al. 2017, *Axiomatic attribution for deep networks* (integrated gradients).
# - Zeiler and Fergus 2014, *Visualizing and understanding convolutional networks* (occlusion).
# - Abnar and Zuidema 2020, *Quantifying attention flow in transformers* (rollout).
# - Adebayo et al. 2018, *Sanity checks for saliency maps* (randomised weights).
# - Zhang et al. 2018, *Top-down neural attention by excitation backprop* (pointing game).
# - Petsiuk et al. 2018, *RISE: randomized input sampling for explanation of black-box models* (deletion, insertion).
# - Draelos and Carin 2020, *Use HiResCAM instead of Grad-CAM for faithful explanations of convolutional neural networks*.
