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
    scenes=(72, 400, 1_500),
    curves=(16, 80, 300),
    steps=(8, 16, 32),
    draws=(2, 3, 5),
    photographs=(16, 60, 200),
)
sizes

# %% [markdown]
# ## 1 A score, and a question about it
# We take the two-tower model of lesson 02 that learned to tell *left* from *right*, trained beforehand. Its test scenes are new to it,
# and we know of each pixel which object it shows. That is rare, and it makes this lesson possible: when a map claims "it looked
# *there*", we can check.

# %%
import numpy as np
import torch

from course_utils import plotting, scenes, shipped
from course_utils.checks import grad_cam

retriever = shipped.load("scenes_foils")
model = retriever.model
scene = scenes.Scenes(0, "test")[8]  # the example; many others are judged in section 8
image = torch.from_numpy(scene.image).permute(2, 0, 1)[None].float() / 255  # (B,3,H,W) = (1,3,64,64)
axes = plotting.gallery([scene.image], [scene.captions[0].text], columns=1)
plotting.show(axes, alt=f"One scene of two objects on a shaded background, with its caption: {scene.captions[0].text}.")

# %% [markdown]
# A caption's words are tied to objects, so the phrase of one object can be cut out. The model never trained on phrases, only on whole
# captions. Does it know them all the same? Guess the cosine of what is there, and of what is not.


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
handle = layer.register_forward_hook(lambda layer, inputs, output: heard.append(output))
model.encode_image(image)
handle.remove()  # or it listens for ever
heard[0].shape  # (B,C,h,w)

# %% [markdown]
# 64 channels of 16 by 16 places: each place stands for a block of 4 by 4 pixels. To forget `handle.remove()` is the classic mistake,
# and an error between the two lines forgets it for you.
#
# ### Exercise 7.1: a hook that always goes away
# Difficulty 1 of 3, about 6 minutes.
#
# Write `watch_output(layer, run)`: put a hook on `layer`, call `run()` once, and return what the layer put out, with its graph. The
# hook must be gone afterwards, also when `run` raises an error.
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
# Python has a form for "in any case": a context manager. The package's is called `Watch`. This is a bridge cell: it shows that the
# package gives what the bare hook gave, and leaves none behind.

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
# Is that Grad-CAM, or only something like it? The package agrees, and so does `captum`, PyTorch's library of explanations, which takes
# the score as a function, and the layer.

# %% tags=["nbval-check-output"]
from captum.attr import LayerGradCam

packaged = explain.grad_cam(seen.output, gradient)
theirs = LayerGradCam(lambda x: model.encode_image(x) @ z_phrase[0], layer).attribute(image, relu_attributions=True)
assert torch.allclose(packaged, by_hand)
assert torch.allclose(theirs[:, 0], by_hand, atol=1e-6)
print("by hand, package and captum agree")

# %% [markdown]
# So far a class could have stood in the phrase's place. Now the step to a *pair*: same picture, same layer, second phrase. Before you
# look: where should its map be strong, and should the two overlap? One helper makes a map as large as the picture, one shows a few.


# %%
def as_pixels(one, side=64):
    """A map (h,w) of any size -> (side,side), smoothly. ValueError for what is no map."""
    if not isinstance(one, (torch.Tensor, np.ndarray)):
        raise ValueError(f"A map is a tensor or an array (h,w), not {type(one).__name__}. Is a `return` missing?")
    one = torch.as_tensor(one).detach().float()
    if one.ndim != 2 or not one.isfinite().all():
        what = "NaN or infinity in it" if one.ndim == 2 else f"the shape {tuple(one.shape)}"
        raise ValueError(f"A map is (h,w), one finite number a place; this one has {what}.")
    return torch.nn.functional.interpolate(one[None, None], size=(side, side), mode="bilinear")[0, 0].numpy()


def show_maps(maps, labels, objects, finding, alt, unit="share of the map's maximum"):
    """Maps of the example, each with the outline of one of its objects. Values are shares of a map's maximum by default."""
    drawn = np.stack([as_pixels(one) for one in maps]).clip(min=0)
    if unit.startswith("share"):
        drawn = drawn / drawn.max(axis=(1, 2), keepdims=True)
    axes = plotting.maps([scene.image] * len(maps), drawn, labels, scene.masks[objects], columns=len(maps))
    axes[0].get_figure().axes[-1].set_ylabel(unit)
    axes[0].get_figure().suptitle(finding, fontsize=10)
    plotting.show(axes, alt=alt)


# %%
both = explain.grad_cams(model.encode_image, layer, image, z_phrase)[0]  # (K,h,w), see section 4
on_it = [as_pixels(one)[mask].sum() / as_pixels(one).sum() for one, mask in zip(both, scene.masks)]
finding = ", ".join(f"{share:.0%} of the map of {text!r} on it" for share, text in zip(on_it, shown_phrases))
show_maps(both, shown_phrases, [0, 1], finding, "One scene twice, with the Grad-CAM map of each object's phrase; the "
          "outline is the object named.", unit="Grad-CAM, in units of the score")  # fmt: skip

# %% [markdown]
# The black and white line is the object that the phrase names; the colours follow the square root, so that faint parts are seen. Two
# phrases, one picture, two maps: an explanation of a pair. The first convinces. The second is brightest on the bus, and yet most of it
# lies on the apple and on the ground. Somebody who writes a talk shows the first; we shall judge hundreds, in section 8.
#
# ## 4 Many sentences for the price of one
# The cell above used `grad_cams`, which hides a piece of algebra worth having. The score is $t\cdot z/|z|$ with the phrase's unit
# vector $t$ and the picture's raw embedding $z$. All that the sentence contributes to the gradient is its direction at $z$; everything
# below is the picture's and can be shared.
#
# ### Exercise 7.3: the gradient of a cosine
# Difficulty 3 of 3, about 12 minutes.
#
# Write `pair_gradient(z, t)`: the gradient of $t\cdot z/|z|$ with respect to $z$, for $z$ (E,) of any length and $t$ (E,) of length 1.
# Without autograd, if you can.
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
# Behind our layer the tower goes on with two convolutions; `grad_cams` therefore runs the picture once, keeps a graph only from the
# layer on, and sends all sentences' gradients back together. Five sentences, the slow way and the fast one; guess the ratio of times.

# %%
z_five = encode([caption.text for caption in scene.captions[:2]] + shown_phrases + ["a pizza"])  # (5,E)


def one_by_one():
    slow_maps = []
    for z in z_five:
        with explain.Watch(layer) as seen:
            score = (model.encode_image(image) @ z)[0]
        slow_maps.append(explain.grad_cam(seen.output, *torch.autograd.grad(score, seen.output)))
    return torch.cat(slow_maps)


def all_at_once():
    return explain.grad_cams(model.encode_image, layer, image, z_five)[0]


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
# On a larger tower, where the picture costs more than the algebra, five maps cost about as much as one forward pass (the course's
# benchmarks time it beside captum and pytorch-grad-cam). For a search page that explains every hit, this decides whether it can.
#
# ## 5 Which layer?
# The textbook says: the last convolution. Ours ends at 4 by 4 places, each 16 pixels wide, and an object covers about one of them. From
# here on a **method** is a function of a model, a picture (3,H,W) and a phrase's embedding (E,) that returns a map; `cam_at` makes
# Grad-CAM at a layer into one.


# %%
def cam_at(path, average=True):
    """The method Grad-CAM at the layer of that name; average=False is explained in section 6."""

    def method(model, picture, z):
        to_map = getattr(model.image_tower, "as_map", None)  # for a tower of patches
        one = model.get_submodule(path)
        return explain.grad_cams(model.encode_image, one, picture[None], z[None], to_map, average)[0, 0]

    return method


layers = {f"{64 >> k} x {64 >> k}": f"image_tower.features.{3 * k - 1}" for k in (1, 2, 3, 4)}
at_layers = [cam_at(path)(model, image[0], z_phrase[0]) for path in layers.values()]
show_maps(at_layers, list(layers), [0] * 4, f"One phrase, four layers: {shown_phrases[0]}",
          "Grad-CAM of one phrase at four layers, from fine and noisy to coarse and blurred.")  # fmt: skip

# %% [markdown]
# Fine maps are noisy, coarse ones miss. Which to take is a question for numbers, not for taste; section 8 settles it.
#
# ## 6 Patches instead of convolutions
# In a vision transformer the picture is a row of tokens $(B, 1+P, D)$: a class token, then patches, counted like words on a page.
# Grad-CAM only needs them laid out as a picture again.
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
# Two towers of patches that learned the same task are shipped too. One is read out by its **class token**, the other is **pooled**: the
# mean of its patches. Predict for each: what is the gradient at the *patches* of the last block's output?

# %% tags=["nbval-check-output"]
by_token, pooled = shipped.load("patches"), shipped.load("patches_mean")  # 8 by 8 patches, four blocks
for name, one in {"class token": by_token, "pooled": pooled}.items():
    with torch.no_grad():
        z_patch = one.model.encode_text(*one.tokenize(shown_phrases[:1]))[0]  # (E,)
    try:
        print(f"{name}: a map {tuple(cam_at('image_tower.blocks.3')(one.model, image[0], z_patch).shape)}")
    except ValueError as error:
        print(f"{name}: {error}")

# %% [markdown]
# Behind the last attention a class token never reads the patches again: their gradient is zero, and many a tutorial's map of a
# transformer is that layer's rounding noise. A pooled tower reads them to the end. Grad-CAM's mean over places was made for towers that
# average places away; patches keep theirs all along, so we keep the gradients at theirs too (`average=False`, called **HiResCAM**).
#
# Transformers offer another map for free: **rollout** (Abnar and Zuidema 2020) multiplies the attention of all layers, half attention
# and half detour in each, and takes what the output read of each patch. Which of the three arguments does this method ignore?


# %%
@torch.no_grad()
def rollout_map(model, picture, z):
    read = explain.rollout(model.image_tower.attend(picture[None])[1])[0]  # (T,T), row i is what token i read
    of_patches = read[0, 1:] if model.image_tower.pool == "class" else read.mean(dim=0)  # (P,)
    return of_patches.reshape(8, 8)


with torch.no_grad():
    z_patch = by_token.model.encode_text(*by_token.tokenize(shown_phrases))  # (K,E)
hires = cam_at("image_tower.blocks.2.norm", average=False)
three = [method(by_token.model, image[0], z) for method, z in ((hires, z_patch[0]), (hires, z_patch[1]), (rollout_map, None))]  # fmt: skip
panels = [f"gradients: {text}" for text in shown_phrases] + ["rollout: any phrase"]
show_maps(three, panels, [0, 1, 0], "Gradients follow the phrase; rollout has nothing to follow",
          "A tower of patches: a gradient map for each phrase, and rollout, one map for all phrases.")  # fmt: skip

# %% [markdown]
# No sentence went into rollout: it says which patches were read at all, whatever the phrase. Section 8 shows what that is worth for a
# pair.
#
# ## 7 Two more ways to ask
# ### Cover it and see
# Gradients ask about tiny changes. **Occlusion** makes a large one: cover a square, and note what the score loses.
#
# ### Exercise 7.5: cover a square
# Difficulty 1 of 3, about 6 minutes.
#
# Write `occlude(image, top, left, side, instead)`: the picture (3,H,W), with the square whose corner is (top, left) replaced by the
# same square of `instead` (3,H,W). The picture that was given must not change.
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
# What should stand there instead? Black, grey, the picture's mean colour, a blur: each is a different question. `absence` has them; here
# the mean colour. Sixteen squares, by hand. In which of them do you expect the largest loss?

# %%
from course_utils import absence

mean_colour = absence.stand_in(image, "mean")  # (1,3,H,W)
lost = torch.zeros(4, 4)
with torch.no_grad():
    for row in range(4):
        for column in range(4):
            square = (slice(None), slice(16 * row, 16 * row + 16), slice(16 * column, 16 * column + 16))
            covered = image[0].clone()
            covered[square] = mean_colour[0][square]
            lost[row, column] = first_score - (model.encode_image(covered[None])[0] @ z_phrase[0])
lost.round(decimals=3)

# %% [markdown]
# The largest losses lie where the apple is; a few squares are negative, since without them the phrase fits a little better. Bridge: the
# package says the same, and so does captum's `Occlusion`, also where squares overlap.


# %% tags=["nbval-check-output"]
from captum.attr import Occlusion


def score_phrase(images):
    return model.encode_image(images) @ z_phrase[0]  # (N,3,H,W) -> (N,)


apart = explain.occlusion(score_phrase, image[0], mean_colour[0], window=16, stride=16)  # (H,W)
assert torch.allclose(apart[8::16, 8::16], lost, atol=1e-5)
ours = explain.occlusion(score_phrase, image[0], mean_colour[0], window=16, stride=8)
windows, strides = (3, 16, 16), (3, 8, 8)
theirs = Occlusion(score_phrase).attribute(image, windows, strides, baselines=mean_colour)
assert torch.allclose(theirs[0, 0].float(), ours, atol=1e-5)
print("by hand, package and captum agree")

# %% [markdown]
# ### Walk there and add up
# **Integrated gradients** walk from a picture that shows nothing, the baseline $b$, to the picture $x$, and average the gradient along
# the way:
#
# $$\phi_i = (x_i - b_i)\int_0^1 \frac{\partial s}{\partial x_i}\big(b + a\,(x-b)\big)\,da \qquad\qquad \sum_i \phi_i = s(x) - s(b)$$
#
# The second equation is *completeness*: every bit of the difference is shared out. No other map of this lesson can be checked by adding
# up.
#
# ### Exercise 7.6: integrated gradients
# Difficulty 3 of 3, about 15 minutes.
#
# Write `integrated(score, x, baseline, steps)`: `score` takes rows (N,D) to (N,), x and baseline are (D,). Take the gradient at the
# middles of `steps` equal parts of the way, average, and multiply by how far each number went.
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

pixel_shares = explain.integrated_gradients(score_phrase, image, mean_colour, steps=32)  # (1,3,H,W)
theirs = IntegratedGradients(score_phrase).attribute(image, mean_colour, n_steps=32)
assert torch.allclose(theirs.float(), pixel_shares, atol=1e-5)
print("package and captum agree")

# %%
with torch.no_grad():
    difference = (score_phrase(image) - score_phrase(mean_colour)).item()
print(f"shares add up to {pixel_shares.sum():.4f}, the score's difference is {difference:.4f}")

# %% [markdown]
# Single pixels are noisy, so we add up the three colours and smooth over a few pixels. Here are occlusion and integrated gradients as
# methods, and then three methods beside each other, each as a share of its own maximum: a loss, a share and a weighted activation cannot
# be compared in size. Which of the three would you show in a talk?


# %%
def smoothed(pixels, deviation=1 / 32):
    """Pixel map (H,W) -> the same, blurred by a Gaussian of `deviation` sides of the picture."""
    sigma = deviation * pixels.shape[-1]
    offsets = torch.arange(-int(3 * sigma), int(3 * sigma) + 1)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel, half = (kernel / kernel.sum())[None, None], len(offsets) // 2
    blurred = torch.nn.functional.conv1d(pixels[:, None], kernel, padding=half)[:, 0].T  # along rows
    return torch.nn.functional.conv1d(blurred[:, None], kernel, padding=half)[:, 0].T  # then along columns


def signed_pixels(model, picture, z, kind="mean"):
    """Integrated gradients of one score, summed over colours: (H,W)."""
    start = absence.stand_in(picture[None], kind)
    shares = explain.integrated_gradients(lambda rows: model.encode_image(rows) @ z, picture[None], start, sizes.steps)
    return shares[0].sum(dim=0)


def integrated_map(model, picture, z):
    return smoothed(signed_pixels(model, picture, z))


def occlusion_map(model, picture, z):
    instead = absence.stand_in(picture[None], "mean")[0]
    return explain.occlusion(lambda images: model.encode_image(images) @ z, picture, instead, window=16, stride=8)


# %%
trio = {"Grad-CAM": cam_at(layers["16 x 16"]), "occlusion": occlusion_map, "integrated gradients": integrated_map}
trio_maps = [method(model, image[0], z_phrase[0]) for method in trio.values()]
show_maps(trio_maps, list(trio), [0] * 3, f"Three methods, one question: {shown_phrases[0]}",
          "Three maps of one phrase on one scene: Grad-CAM, occlusion, integrated gradients.")  # fmt: skip

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
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Cases:
    """Pictures (N,3,H,W), a phrase for each, the masks (N,H,W) of the object named and of the other one."""

    pictures: torch.Tensor
    phrases: list[str]
    own: np.ndarray
    other: np.ndarray


def cases_of(some_scenes):
    """Objects 0 and 1 are asked about in turn; where there is one object, `other` is that one again."""
    asked = [(one, i % len(one.masks)) for i, one in enumerate(some_scenes)]
    pixels = np.stack([one.image for one, _ in asked])  # (N,H,W,3)
    texts = [phrase(one.captions[0], k) for one, k in asked]
    own, other = (np.stack([one.masks[(k + j) % len(one.masks)] for one, k in asked]) for j in (0, 1))
    return Cases(torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255, texts, own, other)


# %%
test, half = scenes.Scenes(SEED, "test"), sizes.scenes // 2
tuning = cases_of([test[i] for i in range(half)])  # to choose layers by
cases = cases_of([test[i] for i in range(half, sizes.scenes)])  # to report on
area = cases.own.mean()
print(f"{half} cases, such as {cases.phrases[0]!r}; the object covers {area:.3f} of a picture on average")

# %% [markdown]
# ### Exercise 7.7: energy inside
# Difficulty 1 of 3, about 5 minutes.
#
# Write `energy(saliency, mask)` for one map (H,W) and one mask (H,W) of bool: the share of the map's *positive* part that lies inside.
# A map of zeros knows nothing and should score what a flat map does: the mask's share of the picture.
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
# The package's measures take many maps and give one number each, so that an interval can be put around their mean. Bridge, on one map;
# then a judge for any method. The judge needs nothing but the function, and notes what a map costs.

# %%
from course_utils import faithfulness, metrics

one_map, one_mask = as_pixels(trio_maps[0]), scene.masks[0]
assert np.isclose(faithfulness.energy_inside(one_map[None], one_mask[None])[0], one_map[one_mask].sum() / one_map.sum())


def judge(method, of, cases, model=None):
    """A method on all cases with a retriever's model, or another model of its kind: measures (N,), maps, CPU seconds."""
    model = model or of.model
    with torch.no_grad():
        z = model.encode_text(*of.tokenize(cases.phrases))  # (N,E)
    start, side = time.process_time(), cases.pictures.shape[-1]  # what computes, not what waits
    maps = np.stack([as_pixels(method(model, *pair), side) for pair in zip(cases.pictures, z)])  # (N,H,W)
    spent, positive = time.process_time() - start, maps.clip(min=0)
    return {
        "pointing": faithfulness.pointing_game(maps, cases.own),
        "on the other": faithfulness.pointing_game(maps, cases.other),
        "energy": faithfulness.energy_inside(positive, cases.own),
        "overlap": faithfulness.iou_at(positive, cases.own, threshold=0.5),
        "seconds": spent / len(maps),
        "maps": maps,
    }


def spread(values):
    """A mean with its 95 % interval over scenes."""
    low, high = metrics.bootstrap_interval(values, seed=SEED)
    return f"{values.mean():.2f} ({low:.2f} to {high:.2f})"


# %% [markdown]
# First the question of section 5, for all three towers, on half of the scenes; the other half is left to report on. Predict the order
# of the four layers of the convolutions.


# %%
def best_layer(of, paths, tuning, average=True):
    """Try Grad-CAM at each layer on the cases for tuning; return the best layer and the hits of all."""
    hits = {path: judge(cam_at(path, average), of, tuning)["pointing"] for path in paths}
    for path, values in hits.items():
        print(f"{path.removeprefix('image_tower.'):19} pointing game {spread(values)}")
    return max(hits, key=lambda path: hits[path].mean()), hits


blocks = [f"image_tower.blocks.{i}.norm" for i in (1, 2, 3)]
chosen, by_layer = best_layer(retriever, layers.values(), tuning)
chosen_token, _ = best_layer(by_token, blocks, tuning, average=False)
chosen_pooled, _ = best_layer(pooled, blocks, tuning, average=False)
print("chosen:", ", ".join(path.removeprefix("image_tower.") for path in (chosen, chosen_token, chosen_pooled)))

# %% [markdown]
# The last convolution, the textbook's choice, is the worst here: its places are as large as the objects. Take the rule for what it is, a
# habit from networks whose last map is finer than their objects. We keep the layers that did best and turn to scenes that were not used
# for this choice.
#
# Beside every method its controls: a **random map**; a **centre prior**, for whoever bets on the middle; and a map of **contrast**, how
# far each pixel is from the mean colour, which never asks the model. Predict how far each gets: the object covers about 7 % of a picture.
# Which method is *best* is also chosen on the other half.

# %%
from tqdm.auto import tqdm

dice = np.random.default_rng(SEED)


def contrast_map(model, picture, z):
    return smoothed((picture - picture.mean(dim=(1, 2), keepdim=True)).abs().sum(dim=0))


methods = {
    "integrated gradients": (integrated_map, retriever),
    "the same, from grey": (lambda model, picture, z: smoothed(signed_pixels(model, picture, z, "grey")), retriever),
    "Grad-CAM": (cam_at(chosen), retriever),
    "HiResCAM, same layer": (cam_at(chosen, average=False), retriever),
    "occlusion": (occlusion_map, retriever),
    "patches, class token": (cam_at(chosen_token, average=False), by_token),
    "patches, pooled": (cam_at(chosen_pooled, average=False), pooled),
    "patches, rollout": (rollout_map, by_token),
    "contrast, no model": (contrast_map, retriever),
    "centre prior": (lambda model, picture, z: faithfulness.centre_prior(64, 64), retriever),
    "random map": (lambda model, picture, z: faithfulness.random_maps(1, 8, 8, dice.integers(2**31))[0], retriever),
}
results = {name: judge(*pair, cases) for name, pair in tqdm(methods.items(), leave=False)}

# %%
intervals = np.array([metrics.bootstrap_interval(found["pointing"], seed=SEED) for found in results.values()])  # (M,2)
means = {name: found["pointing"].mean() for name, found in results.items()}
best = max(list(methods)[:5], key=lambda name: judge(*methods[name], tuning)["pointing"].mean())  # not on `cases`
axes = plotting.bars(list(means), list(means.values()), intervals, chance=area)
title = f"Best: {best}, {means[best]:.2f}; contrast without a model, {means['contrast, no model']:.2f}"
axes.set(xlabel="pointing game (95 % interval over scenes)", title=title)
plotting.show(axes, alt="Bars of the pointing game for each method: gradients lead, controls are far below.")

# %%
for fact, name, rival in (("best", best, 0.75), ("grad_cam", "Grad-CAM", 0.5)):
    values = results[name]["pointing"]
    record(f"pointing/{fact}", values.mean(), metrics.bootstrap_interval(values, seed=SEED), area, excludes=(area, rival))  # fmt: skip
for name in ("contrast, no model", "patches, rollout"):
    print(f"{name:18} on the object {spread(results[name]['pointing'])}, on the other one {spread(results[name]['on the other'])}")  # fmt: skip

# %% [markdown]
# Read the last two lines. Neither was given the phrase, and both hit far more often than the area suggests: the background is plain, so
# whoever finds *an* object is right about half of the time. **The area is chance only for those who do not see the objects.** Here the
# honest rival is a coin between the two.
#
# ## 9 The surprise: a map that needs no model
# ### Exercise 7.8: what is chance?
# Difficulty 1 of 3, about 4 minutes.
#
# Each scene shows two objects, each covering 0.07 of the picture, and the question is about one of them. What share of questions does a
# random map's strongest place get right? And a map that always hits one of the two objects, whichever? Put both into `needed`.
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
# Now a test by Adebayo et al. (2018). Shuffle the weights inside every layer: the same numbers in other places, so the model knows
# *nothing* any more. If a map came from what the model learned, it must fall apart. Many people show the *absolute value* of integrated
# gradients; put it to this test. Predict what it looks like.


# %%
def strangers_of(of, parts=("image_tower", "image_head", "text_tower", "text_head")):
    """Models like the retriever's whose parts know nothing, one a draw."""
    for draw in range(sizes.draws):
        *_, (_, stranger) = explain.randomised(of.model, parts, seed=SEED + draw)
        yield stranger.eval()


def size_map(model, picture, z):
    """The absolute value of integrated gradients."""
    return smoothed(signed_pixels(model, picture, z).abs())


strangers = list(strangers_of(retriever))
with torch.no_grad():
    z_stranger = strangers[0].encode_text(*retriever.tokenize(shown_phrases[:1]))[0]  # (E,)
pair_maps = [size_map(model, image[0], z_phrase[0]), size_map(strangers[0], image[0], z_stranger)]
show_maps(pair_maps, ["trained", "the same, weights shuffled"], [0, 0], f"Absolute integrated gradients: {shown_phrases[0]}",
          "Absolute integrated gradients of a trained and of a shuffled model; both light up the objects.")  # fmt: skip

# %% [markdown]
# Would you have known which is which? Now over all cases, with several shuffled models.

# %%
either = cases.own | cases.other
stranger_sizes = [judge(size_map, retriever, cases, stranger) for stranger in strangers]
stranger_hits = np.mean([found["pointing"] for found in stranger_sizes], axis=0)  # (N,)
object_hits = np.mean([faithfulness.pointing_game(found["maps"], either) for found in stranger_sizes], axis=0)
print(f"models that know nothing: on an object {spread(object_hits)}, on the right one {spread(stranger_hits)}")
record("surprise/shuffled_hits_an_object", object_hits.mean(), metrics.bootstrap_interval(object_hits, seed=SEED),
       either.mean(), excludes=(either.mean(), 0.9))  # fmt: skip
record("surprise/shuffled_hits_the_right_one", stranger_hits.mean(), metrics.bootstrap_interval(stranger_hits, seed=SEED),
       area, excludes=(area, 0.75))  # fmt: skip

# %% [markdown]
# A model that knows nothing draws a beautiful map. Integrated gradients multiply by $x - b$, and that is large where the picture differs
# from its mean: on the objects. Against the area it looks like knowledge; against a coin it is none. Two controls would have told you: a
# **shuffled model**, and **another phrase** for the same picture. Would the *sign* have saved us, which the absolute value throws away?
# Here is the same test for every method. Predict its first two lines.

# %%
shuffled = {}
for name, (method, of) in tqdm(list(methods.items())[:8], leave=False):
    known_nothing = strangers if of is retriever else strangers_of(of)
    shuffled[name] = np.mean([judge(method, of, cases, one)["pointing"] for one in known_nothing], axis=0)
    print(f"{name:22} trained {results[name]['pointing'].mean():.2f}, weights shuffled {spread(shuffled[name])}")
other_phrase = replace(cases, phrases=cases.phrases[2:] + cases.phrases[:2])
other_hits = judge(integrated_map, retriever, other_phrase)["pointing"]
print(f"integrated gradients, trained, but asked with another scene's phrase: {spread(other_hits)}")
values = shuffled["Grad-CAM"]
record(
    "pointing/randomised_weights", values.mean(), metrics.bootstrap_interval(values, seed=SEED), area, excludes=(0.5,)
)

# %% [markdown]
# Each method's second number is its price tag: what it scores when there is nothing to explain. Read the gap between the two, never the
# first alone. The sign saves nothing, since $x - b$ is as large as before; from grey the ground differs from the baseline too, and the
# lights spread. Grad-CAM of a model that knows nothing also stays above the area: shuffled filters still answer to edges.
#
# How deep does the forgetting have to go? From the output downwards, one part after the other, for Grad-CAM. Which part undoes the map?

# %%
parts = ["image_head", "image_tower.project", "image_tower.features.9", "image_tower.features.6",
         "image_tower.features.3", "image_tower.features.0"]  # fmt: skip
forgetting = {"nothing": [results["Grad-CAM"]["pointing"]]}
for draw in range(sizes.draws):
    for part, forgetful in explain.randomised(model, parts, seed=SEED + draw):
        hits = judge(cam_at(chosen), retriever, cases, forgetful)["pointing"]
        forgetting.setdefault(part.removeprefix("image_"), []).append(hits)
cascade = {part: np.mean(hits, axis=0) for part, hits in forgetting.items()}  # part -> (N,)
intervals = np.array([metrics.bootstrap_interval(hits, seed=SEED) for hits in cascade.values()])
axes = plotting.bars(list(cascade), [hits.mean() for hits in cascade.values()], intervals, chance=area)
title = f"Forgetting the head alone: {cascade['nothing'].mean():.2f} becomes {cascade['head'].mean():.2f}"
axes.set(xlabel="pointing game of Grad-CAM (95 % interval)", title=title, ylabel="forgotten, and all above")
plotting.show(axes, alt="Bars: the pointing game of Grad-CAM with nothing forgotten, then with one part of the model "
              "after the other shuffled, from the output down.")  # fmt: skip

# %% [markdown]
# One matrix behind everything that was learned about pictures is enough: Grad-CAM takes its weights from there. A map that passes this
# test may still be wrong; one that fails it says nothing about the model.
#
# ## 10 Take it away, bring it back
# Masks are a luxury: on real photographs nobody has drawn them. **Deletion** needs none. Take the picture away, most important pixels
# first, and watch the score: if the map is right, it falls early. **Insertion** starts from nothing and brings them back: the score
# should rise early.
#
# ### Exercise 7.9: the deletion curve
# Difficulty 3 of 3, about 15 minutes.
#
# Write `deletion_curve(score, image, saliency, instead, steps)`: image and instead (3,H,W), saliency (H,W) without ties; `score` takes
# (N,3,H,W) to (N,). Point k of steps + 1 is the score with the `round(k * H * W / steps)` most important pixels replaced by those of
# `instead`.
#
# <details><summary>Hint 1</summary>What is the first point? What is the last?</details>
# <details><summary>Hint 2</summary><code>saliency.flatten().argsort(descending=True)</code> gives the order; a boolean mask of what is
# gone, then <code>torch.where</code>.</details>


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
# The package's version asks a function of *what is kept*, so that what stands instead stays your choice. Bridge: the second point, with
# a quarter of the pixels gone, by hand and by the package.

# %%
few_steps, ig_map = 4, as_pixels(trio_maps[2])
gone = torch.from_numpy(ig_map >= np.sort(ig_map, axis=None)[-(64 * 64 // few_steps)])  # the strongest quarter
with torch.no_grad():
    second = score_phrase(torch.where(gone, mean_colour[0], image[0])[None])[0]


@torch.no_grad()
def value_of(kept):
    return score_phrase(absence.hide_pixels(image[0], kept, mean_colour[0])).numpy()  # (S,H,W) -> (S,)


falling = faithfulness.deletion(value_of, ig_map, size=(64, 64), steps=few_steps)
assert np.isclose(falling[1], second.item(), atol=1e-5)
falling.round(2)

# %% [markdown]
# Now both curves for every method, over many cases, the maps compared at 16 by 16 cells. Two predictions: what does a *random* order
# look like, and does *contrast* beat it?


# %%
@torch.no_grad()
def curves(name, measure):
    """Deletion or insertion curves of a method's maps on the first sizes.curves cases: (N,17)."""
    of, found = methods[name][1].model, []
    z = of.encode_text(*methods[name][1].tokenize(cases.phrases))  # (N,E)
    cells = results[name]["maps"].reshape(-1, 16, 4, 16, 4).mean(axis=(2, 4))  # (N,64,64) -> (N,16,16)
    for picture, target, one in zip(cases.pictures[: sizes.curves], z, cells):
        nothing = absence.stand_in(picture[None], "mean")[0]

        def value(kept, picture=picture, nothing=nothing, target=target):
            return (of.encode_image(absence.hide_pixels(picture, kept, nothing)) @ target).numpy()

        found.append(measure(value, one, size=(64, 64), seed=SEED))
    return np.array(found)


gone_curves = {name: curves(name, faithfulness.deletion) for name in tqdm(methods, leave=False)}
back_curves = {name: curves(name, faithfulness.insertion) for name in tqdm(methods, leave=False)}

# %%
import matplotlib.pyplot as plt

figure, both_axes = plt.subplots(1, 2, figsize=(10, 3.6), sharey=True, layout="constrained")
compared = ("integrated gradients", "Grad-CAM", "contrast, no model", "random map")
for axes, kind, found in zip(both_axes, ("taken away", "brought back"), (gone_curves, back_curves)):
    plotting.lines(np.linspace(0, 1, 17), {name: found[name].mean(axis=0) for name in compared}, ax=axes)
    axes.set(xlabel=f"share of the picture {kind}", ylabel="cosine with the phrase" * (kind == "taken away"))
both_axes[0].set_title("deletion: the sooner it falls, the better")
both_axes[1].set_title("insertion: the sooner it rises, the better")
both_axes[1].get_legend().remove()
plotting.show(figure, alt="Mean deletion and insertion curves of four methods: integrated gradients fall and rise first, "
              "then Grad-CAM, then contrast; a random order is last.")  # fmt: skip

# %% [markdown]
# Read the controls first. A random order costs little until half of the picture is gone: many small holes leave objects recognisable.
# *Contrast* falls fast without ever asking the model, because whoever covers the objects takes the score away. Only what is better than
# **that** line was learned from the phrase. On the right, the good curves rise above their own end: a phrase names one object, and the
# other one, when it comes back, only takes away.

# %%
apart = {"deletion/random_minus_best": gone_curves["random map"].mean(axis=1) - gone_curves[best].mean(axis=1),
         "insertion/best_minus_contrast": back_curves[best].mean(axis=1) - back_curves["contrast, no model"].mean(axis=1)}  # fmt: skip
for fact, gains in apart.items():  # areas under the curves, (N,)
    record(fact, gains.mean(), metrics.bootstrap_interval(gains, seed=SEED), excludes=(0,))

# %% [markdown]
# Deletion judges with the model itself, on pictures full of holes that it never trained on. A map can do well by finding pixels that
# break the model rather than those it uses; masks and deletion together are harder to fool than either. Here is all of it on one page:
# methods, measures, and what a map costs in seconds of the CPU.

# %%
import pandas as pd

one_page = pd.DataFrame(
    {
        name: {
            "pointing (95 %)": spread(found["pointing"]),
            "weights shuffled": spread(shuffled[name]) if name in shuffled else "no weights",
            "energy (95 %)": spread(found["energy"]),
            "overlap": f"{found['overlap'].mean():.2f}",
            "deletion, low": f"{gone_curves[name].mean():z.2f}",
            "insertion, high": f"{back_curves[name].mean():z.2f}",
            "CPU seconds a map": f"{found['seconds']:.4f}",
        }
        for name, found in results.items()
    }
).T
one_page

# %% [markdown]
# The chance of the first and third columns is the area, and so is a flat map's score. Deletion and insertion are mean cosines; a row of
# patches asks another model, so compare these two columns within a model only. What is dear is not what is good: look at occlusion. And
# sort by one column after the other: the order changes, so no measure alone says which method is best.
#
# ## 11 Bug hunt: the map of a word that is not there
# A popular helper overlays a map on a picture like this. Before you run: how should the map of something that is not there look?


# %%
def overlay(saliency):
    """Ready to be shown: values in [0, 1]."""
    return (saliency - saliency.min()) / (saliency.max() - saliency.min() + 1e-7)


wrong_phrase = next(f"a {noun}" for noun in ("pizza", "rocket", "camel") if noun not in scene.captions[0].words)
z_pair = torch.cat([z_phrase[:1], encode([wrong_phrase])])  # (2,E)
present_map, absent_map = explain.grad_cams(model.encode_image, layer, image, z_pair)[0]
panels = [shown_phrases[0], f"{wrong_phrase}, which is not there"]
show_maps([overlay(present_map), overlay(absent_map)], panels, [0, 0], "Both look like findings",
          "Two overlays: the phrase of an object that is there, and of one that is not; both look confident.")  # fmt: skip

# %% [markdown]
# Dividing each map by its own maximum makes the strongest of *nothing* as bright as the strongest of something. Every panel that
# compares phrases, layers or models this way shows less than it seems to; ours said so on the colour bar.
#
# ### Exercise 7.10: a test for maps
# Difficulty 3 of 3, about 12 minutes.
#
# Write `is_sound(mapper)`, a test of any function `mapper(score, image)` that gives a map (H,W) of a picture (3,H,W); `score` takes
# images (N,3,H,W) to (N,). Make scores of your own whose truth you know, and return True only for a mapper whose map follows the score:
# where it reads, and how strongly. Some subjects ignore the score, mirror the map, or rescale it.
#
# <details><summary>Hint 1</summary>A score that reads the left half alone: <code>lambda x: x[..., : x.shape[-1] // 2].mean((1, 2, 3))</code>.
# Where must the map's sum lie? And for the right half, on the same picture?</details>
# <details><summary>Hint 2</summary>The same score, divided by a hundred: what must happen to the map?</details>


# %% tags=["exercise"]
def is_sound(mapper):
    """Whether mapper(score, image (3,H,W)) -> (H,W) follows the score."""
    # BEGIN SOLUTION
    picture = torch.rand(3, 16, 16)
    halves = {"left": slice(0, 8), "right": slice(8, 16)}
    for reads in halves.values():
        strong = mapper(lambda x, reads=reads: x[..., reads].sum(dim=(1, 2, 3)), picture)
        weak = mapper(lambda x, reads=reads: x[..., reads].sum(dim=(1, 2, 3)) / 100, picture)
        if not (strong[:, reads].sum() > 0.8 * strong.sum() and weak.sum() < 0.5 * strong.sum()):
            return False
    return True
    # END SOLUTION


# %% tags=["check"]
grad_cam.check_is_sound(is_sound)

# %% [markdown]
# Without the division, is a map of something absent fainter? Each scene, its own phrase against a phrase of something that is not in it.
# For Grad-CAM we compare the maximum, for integrated gradients the sum, which completeness ties to the score. Which tells *whether*?

# %%
nouns = scenes.Scenes(SEED, "test").nouns
missing = [next(f"a {noun}" for noun in np.random.default_rng(i).permutation(nouns) if noun not in test[half + i].captions[0].words)
           for i in range(half)]  # fmt: skip
z_there, z_missing = encode(cases.phrases), encode(missing)  # (N,E)
with torch.no_grad():
    z_seen = model.encode_image(cases.pictures)  # (N,E)
whether = {"score": ((z_seen * z_there).sum(dim=1) > (z_seen * z_missing).sum(dim=1)).double().numpy(),
           "Grad-CAM, maximum": [], "integrated gradients, sum": []}  # fmt: skip
for picture, *two in zip(tqdm(cases.pictures, leave=False), z_there, z_missing):
    cams = [cam_at(chosen)(model, picture, z).max() for z in two]
    sums = [signed_pixels(model, picture, z).sum() for z in two]
    whether["Grad-CAM, maximum"].append(float(cams[0] > cams[1]))
    whether["integrated gradients, sum"].append(float(sums[0] > sums[1]))
for name, values in whether.items():
    print(f"{name:26} larger for the present phrase in {spread(np.array(values))} of the scenes")
values = np.array(whether["integrated gradients, sum"])
record("absent/integrated_gradients_sum", values.mean(), metrics.bootstrap_interval(values, seed=SEED), 0.5, excludes=(0.5,))  # fmt: skip

# %% [markdown]
# The score knows what is there, and so does the sum of integrated gradients. The size of a Grad-CAM map hardly does: it says *where*,
# never *whether*. So print the score beside every map.
#
# ## 12 Which words?
# The same question from the other side: integrated gradients at the words' embeddings, from a sentence of unknown words to this one.
# Which two words will get most?

# %%
tokens, token_mask = retriever.tokenize([scene.captions[0].text])  # (1,L)
with torch.no_grad():
    z_image = model.encode_image(image)[0]
unknown = retriever.tokenizer.token_to_id("[UNK]")


def score_words(tokens, token_mask):
    return model.encode_text(tokens, token_mask) @ z_image


word_shares = explain.word_attribution(score_words, model.text_tower.words, tokens, token_mask, unknown)[0]  # (L,)
with torch.no_grad():
    said_nothing = score_words(torch.where(token_mask, unknown, tokens), token_mask)
    difference = (score_words(tokens, token_mask) - said_nothing).item()
assert abs(word_shares.sum().item() - difference) < 1e-2  # completeness, as for pixels
words = list(scene.captions[0].words)
axes = plotting.bars([f"{i + 1} {word}" for i, word in enumerate(words)], word_shares.tolist(), colour="text")
axes.set(xlabel="share of the cosine", title=f"Of {difference:.2f} in all, {words[word_shares.argmax()]!r} gets most")
plotting.show(axes, alt="Bars: the words of the caption with their shares of the score.")

# %% [markdown]
# Words help and hinder each other: *left* means little without two nouns. Lesson 08 shares such joint effects out exactly.
#
# ## 13 Photographs, and a tower off the shelf
# Some of our stamps are photographs. They come with exact masks, so the same functions can judge: photographs that fill the frame,
# alone on a ground, and two in a scene. We ask our trained tower and a **frozen** one: EfficientNet, pretrained on ImageNet, of which
# only the projection was trained here (`lite0+minilm`, 224 pixels).

# %%
from course_utils import stamps, towers

frozen = shipped.load("lite0+minilm")
stamp_table = stamps.load().set_index("name")
photographs = tuple(noun for noun, name in scenes.DEFAULT_OBJECTS.items() if stamp_table.loc[name, "medium"] == "photo")


def framed(side):
    """Each photograph as large as the frame, on grey, with its mask."""
    rows = [stamps.picture(stamp_table.loc[scenes.DEFAULT_OBJECTS[noun]]) for noun in photographs]  # (h,w,4)
    whole = [np.concatenate([np.full_like(one[..., :3], 255), one[..., 3:]], axis=2) for one in rows]
    drawn, masks = (np.stack([np.asarray(towers.on_ground(one, side, ground)) for one in some])
                    for some, ground in ((rows, towers.GROUND), (whole, 0)))  # fmt: skip
    own = masks[..., 0] > 127  # the same steps, a white stamp on black
    return Cases(
        torch.from_numpy(drawn).permute(0, 3, 1, 2).float() / 255, [f"a {noun}" for noun in photographs], own, own
    )


def photo_scenes(side, objects, part="test"):
    """Scenes made of photographs alone, as many as there are different ones, at most sizes.photographs."""
    config = scenes.SceneConfig(size=side, objects=photographs, counts=(objects, objects))
    some = scenes.Scenes(SEED, part, config)
    return cases_of([some[i] for i in range(min(sizes.photographs, some.distinct))])


# %% [markdown]
# First the frozen tower's layer, chosen on scenes of the *val* part. Then predict for each kind of picture: how well does the centre
# prior do, and how well contrast?

# %%
body = "image_tower.tower.body"
deep = [f"{body}.{name}" for name in ("bn2", "blocks.5", "blocks.4", "blocks.3")]
chosen_frozen, _ = best_layer(frozen, deep, photo_scenes(224, 2, "val"), average=False)
frozen_stranger = next(strangers_of(frozen, ["image_tower", "image_head"]))
kinds = {
    "fills the frame": framed,
    "alone in a scene": lambda side: photo_scenes(side, 1),
    "two in a scene": lambda side: photo_scenes(side, 2),
}
shown = {
    "trained, integrated gradients": (64, integrated_map, retriever, None),
    "trained, Grad-CAM": (64, cam_at(chosen), retriever, None),
    "frozen, Grad-CAM, last map": (224, cam_at(f"{body}.bn2"), frozen, None),
    "frozen, HiResCAM, chosen": (224, cam_at(chosen_frozen, average=False), frozen, None),
    "the same, weights shuffled": (224, cam_at(chosen_frozen, average=False), frozen, frozen_stranger),
    "contrast, no model": (64, contrast_map, retriever, None),
    "centre prior": (64, methods["centre prior"][0], retriever, None),
}

# %%
on_photographs = {}
for kind, make in tqdm(kinds.items(), leave=False):
    by_side = {side: make(side) for side in (64, 224)}
    column = {"area": np.array(by_side[64].own.mean())}
    for name, (side, method, of, stranger) in shown.items():
        column[name] = judge(method, of, by_side[side], stranger)["pointing"]  # (N,)
    on_photographs[f"{kind} (n = {len(by_side[64].own)})"] = column
for fact, name, rival in (("trained_integrated_gradients", "trained, integrated gradients", 0.5),
                          ("frozen_hirescam", "frozen, HiResCAM, chosen", column["area"])):  # fmt: skip
    low_high = metrics.bootstrap_interval(column[name], seed=SEED)  # two in a scene, the last column
    record(f"photographs/{fact}", column[name].mean(), low_high, column["area"], excludes=(rival,))
pd.DataFrame(on_photographs).map(lambda values: spread(values) if values.ndim else f"{values:.2f}")

# %% [markdown]
# Read the columns from the left. Where a photograph fills the frame, whoever bets on the middle is right. Where it stands alone,
# *contrast* is right without knowing a word. **A picture of one thing cannot test an explanation.** With two in a scene those two fall
# back, and our tower's maps hold. The frozen tower's last map, 7 by 7 places of 32 pixels, points worse than an earlier one whose
# gradients stay in place: which layer and which average is a question for each tower anew. The first of these scenes, as the frozen
# tower saw it:

# %%
looks = list(shown)[2:5]
with torch.no_grad():
    z_real = frozen.model.encode_text(*frozen.tokenize(by_side[224].phrases[:1]))[0]  # (E,)
pair_shown = by_side[224].pictures[0]
drawn = np.stack([as_pixels(shown[name][1](shown[name][3] or frozen.model, pair_shown, z_real), 224) for name in looks])
drawn = drawn.clip(min=0) / drawn.max(axis=(1, 2), keepdims=True)
axes = plotting.maps([pair_shown.permute(1, 2, 0).numpy()] * 3, drawn, looks, by_side[224].own[[0] * 3], columns=3)
axes[0].get_figure().axes[-1].set_ylabel("share of the map's maximum")
axes[0].get_figure().suptitle(f"Asked for: {by_side[224].phrases[0]}", fontsize=10)
plotting.show(axes, alt="A scene of two photographs three times: the frozen tower's last Grad-CAM map in coarse blobs, a finer "
              "HiResCAM map, and the finer one with shuffled weights.")  # fmt: skip

# %% [markdown]
# The textbook's map, the one whose layer we chose, and what is left of it without the weights.
#
# Real photographs have their truth too: **Flickr30k Entities** (Plummer et al. 2015) ties phrases of the captions to boxes. The
# boxes are published apart from the pictures, and neither comes with the course; where both lie under `data`, this cell judges by the
# same functions.

# %%
from PIL import Image

from course_utils import entities
from course_utils.flickr30k import Flickr30k, centre_square


def entity_cases(photos, folder, count, side=224):
    """The first phrase with a box in each of the first pictures, its box as mask: see entities.square_masks."""
    pictures, phrases, masks = [], [], []
    for i in range(min(count, len(photos))):
        about = entities.read_entities(folder, photos.filenames[i])
        boxes = entities.square_masks(about, side)
        named = next((one for one in about.phrases if one.entity in boxes), None)
        if named is not None:
            square = photos.pixels[i] if photos.manifest else centre_square(photos.picture(i))
            pictures.append(np.asarray(Image.fromarray(square).resize((side, side), Image.Resampling.BICUBIC)))
            phrases.append(named.text.lower())
            masks.append(boxes[named.entity])
    own = np.stack(masks)
    return Cases(torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255, phrases, own, own)


# %%
photo_folder, boxes_folder = session.paths.data / "flickr30k", session.paths.data / "flickr30k_entities"
if photo_folder.is_dir() and boxes_folder.is_dir():
    real_cases = entity_cases(Flickr30k(photo_folder, "test"), boxes_folder, sizes.photographs)
    print(f"{len(real_cases.phrases)} phrases; their boxes cover {real_cases.own.mean():.2f} of a picture")
    for name in [*looks, "centre prior"]:
        _, method, of, stranger = shown[name]
        print(f"{name:28} {spread(judge(method, frozen, real_cases, stranger)['pointing'])}")
else:
    print("Flickr30k (data/flickr30k) and Entities (data/flickr30k_entities) are not here: not yet run on real files.")

# %% [markdown]
# A box holds background as well, so every number would be kinder there than on exact masks.
#
# ## 14 Leaderboard: your method
# A method is a function of a model, a picture (3,H,W) and a phrase's embedding (E,) that returns a map (h,w). Change the body below to
# your own; the next cell judges it at once, on the same scenes, masks and shuffled weights as all the others. It says so where what
# comes back is no map.


# %%
def my_method(model, picture, z):
    """A map (h,w) of finite numbers, large where the phrase is. To begin with: gradient times input."""
    leaf = picture[None].clone().requires_grad_()  # (1,3,H,W)
    (slope,) = torch.autograd.grad((model.encode_image(leaf) @ z)[0], leaf)
    return smoothed((slope * (leaf - leaf.mean(dim=(2, 3), keepdim=True))).sum(dim=1)[0].detach())


# %%
board = {name: {**found, "shuffled": shuffled.get(name)} for name, found in results.items()}
try:
    mine = judge(my_method, retriever, cases)
    lost_hits = [judge(my_method, retriever, cases, one)["pointing"] for one in strangers]
    board["YOURS"] = {**mine, "shuffled": np.mean(lost_hits, axis=0)}
except ValueError as error:
    print(f"my_method was not judged. {error}")


def placed(name, found):
    """One line of the board."""
    control = "no weights" if found["shuffled"] is None else spread(found["shuffled"])
    return {"method": name, "pointing (95 %)": spread(found["pointing"]), "energy (95 %)": spread(found["energy"]),
            "weights shuffled": control, "CPU seconds a map": f"{found['seconds']:.4f}"}  # fmt: skip


ordered = sorted(board.items(), key=lambda row: -row[1]["pointing"].mean())
pd.DataFrame([placed(*row) for row in ordered], index=range(1, len(ordered) + 1))

# %% [markdown]
# A good method has a large first number and a small third: the gap is what the model's knowledge is worth to it.
#
# *Your turn, without a check:* can you take the first place while *weights shuffled* stays low? Ideas: the product of two methods, two
# layers at once, the phrase minus the mean of other phrases, another smoothing, a blurred baseline. And mind section 8: after many tries
# on these scenes your best is flattered. Try on `tuning`, and judge on `cases` once.
#
# ## What we saw

# %%
from IPython.display import Markdown

Markdown(f"""- {best.capitalize()} hit the named object in {results[best]["pointing"].mean():.2f} of the scenes, Grad-CAM in {results["Grad-CAM"]["pointing"].mean():.2f}; the object covers {area:.2f} of a picture.
- At the tower's last layer Grad-CAM hit {by_layer[layers["4 x 4"]].mean():.2f}, with the layer chosen in section 8 {by_layer[chosen].mean():.2f}: the layer is a choice to be measured.
- With shuffled weights, absolute integrated gradients still lit an object in {object_hits.mean():.2f} of the scenes, and the right one in {stranger_hits.mean():.2f}: a coin's share.
- Deletion, which needs no masks, agreed: {apart["deletion/random_minus_best"].mean():.2f} less area under the curve than a random order. But contrast, which has no model, was {(gone_curves["random map"].mean() - gone_curves["contrast, no model"].mean()):.2f} below it as well.
- A present phrase had the larger Grad-CAM maximum in {np.mean(whether["Grad-CAM, maximum"]):.2f} of the scenes, the larger score in {whether["score"].mean():.2f}: a map says where, not whether.""")

# %% [markdown]
# ## Questions
# 1. Why can a dual encoder have no attention map between words and patches?
# 2. What would Grad-CAM show without its last step, the cut at zero?
# 3. Why did we choose the layer on one half of the scenes and report on the other?
# 4. A paper's only baseline for its maps is the area of the objects. What would you ask for?
# 5. Integrated gradients add up to a difference of scores. Which two pictures, and what changes when the baseline does?
# 6. Why shuffle weights inside their tensors rather than draw new ones?
# 7. When would deletion call a bad map good?
# 8. Why can photographs of one object not tell a good explanation from a bad one?
# 9. You show a map to somebody who must decide by it. Which three numbers stand beside it?

# %% [markdown] tags=["solution"]
# **Answers in short.** 1: words and patches never meet before the final product; each tower sees only its own side. 2: negative places
# as well: what speaks against the phrase, often the other object. 3: the best of four on the same scenes would be flattered by luck.
# 4: a control that sees the picture but not the model's knowledge: shuffled weights, contrast, another phrase. 5: the picture and the
# baseline; another baseline asks about another absence, so the shares change.
#
# 6: scales stay, so that activations neither die nor explode, and only the arrangement, which is what was learned, is lost. 7: when its
# pixels break the model, such as edges of holes, rather than carry the evidence. 8: every method that finds the one thing in the picture
# looks right, also one without a model. 9: the score itself, the same map with shuffled weights, and how often the method points right
# where truth is known.

# %% [markdown]
# ## References
# - Selvaraju et al. 2017, *Grad-CAM: visual explanations from deep networks via gradient-based localization*.
# - Sundararajan et al. 2017, *Axiomatic attribution for deep networks* (integrated gradients).
# - Zeiler and Fergus 2014, *Visualizing and understanding convolutional networks* (occlusion).
# - Abnar and Zuidema 2020, *Quantifying attention flow in transformers* (rollout).
# - Adebayo et al. 2018, *Sanity checks for saliency maps* (randomised weights).
# - Zhang et al. 2018, *Top-down neural attention by excitation backprop* (pointing game).
# - Petsiuk et al. 2018, *RISE: randomized input sampling for explanation of black-box models* (deletion, insertion).
# - Plummer et al. 2015, *Flickr30k Entities* (which words of a caption name which boxes).
# - Draelos and Carin 2020, *Use HiResCAM instead of Grad-CAM for faithful explanations of convolutional neural networks*.
