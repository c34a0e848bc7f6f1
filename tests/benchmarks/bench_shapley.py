"""What do exact joint Shapley values cost? Run: python tests/benchmarks/bench_shapley.py (ten minutes)

Nine regions of a picture and eight words of its caption are 17 players, with 131,072 coalitions; the model is the
shipped `scenes_foils`, the score its cosine, absent pixels are grey and absent words unknown.

`shapley_vs_joint`: CPU-seconds of encoding picture and sentence for every coalition and averaging, against
`shapley.joint` on 512 pictures and 256 sentences. The enumeration is measured in five parts, ours beside each; together
the parts are all coalitions, and from their scores come the exact values that ours are compared with first.
`shapley_error`: the largest difference of ours to those, over their largest value.
`shap_permutation_error`, `shap_kernel_error`: percent of all credit that shap's explainers misplace in as many seconds
as ours takes, or a little more, on five scenes. Kernel is given the regularisation with which it errs least here.
"""

import os
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import shap
import torch
from _results import entry, write

from course_utils import absence, scenes, shapley, shipped, text

ROWS, COLUMNS, BATCH, PARTS, UNKNOWN = 3, 3, 256, 5, 1
PACKAGES = ("numpy", "torch", "shap")


class Pair:
    """A picture and its caption as a game of regions and words."""

    def __init__(self, retriever, scene):
        self.model, size = retriever.model, scene.image.shape[0]
        self.image = torch.from_numpy(scene.image).permute(2, 0, 1).float() / 255  # (3,H,W)
        self.instead = absence.stand_in(self.image[None])[0]
        self.regions = absence.grid_regions(size, size, ROWS, COLUMNS)
        tokens, mask = text.encode(retriever.tokenizer, [scene.captions[0].text])
        self.tokens, self.mask, self.words = tokens[0], mask[0], tokens.shape[1]
        self.players = ROWS * COLUMNS + self.words

    @torch.no_grad()
    def encode_pictures(self, present):
        """present (S,9) -> (S,E)"""
        kept = absence.kept_pixels(self.regions, present)
        return self.model.encode_image(absence.hide_pixels(self.image, kept, self.instead)).numpy()

    @torch.no_grad()
    def encode_sentences(self, present):
        """present (S,words) -> (S,E)"""
        hidden = absence.hide_words(self.tokens, self.mask, np.arange(self.words), present, UNKNOWN)
        return self.model.encode_text(*hidden).numpy()

    def score(self, present):
        """The joint game: present (S,17) bool or 0 and 1 -> (S,), a picture and a sentence encoded for each row."""
        present, scores = np.asarray(present) > 0.5, []
        for i in range(0, len(present), BATCH):
            some, regions = present[i : i + BATCH], ROWS * COLUMNS
            scores.append((self.encode_pictures(some[:, :regions]) * self.encode_sentences(some[:, regions:])).sum(1))
        return np.concatenate(scores).astype(np.float64)

    def exact(self):
        """Ours: (17,), regions first."""
        pictures, sentences = shapley.coalitions(ROWS * COLUMNS), shapley.coalitions(self.words)
        z_img = np.concatenate([self.encode_pictures(some) for some in np.split(pictures, len(pictures) // BATCH)])
        found = shapley.joint(z_img, self.encode_sentences(sentences))
        assert found.gap < 1e-6, found.gap
        return np.concatenate([found.picture, found.words])


def timed(run):
    before = time.process_time()
    value = run()
    return value, time.process_time() - before


def misplaced(values, exact):
    """Percent of all credit."""
    return 100 * np.abs(values - exact).sum() / np.abs(exact).sum()


def with_permutations(pair, evaluations):
    """shap's PermutationExplainer; it wants whole orders, forwards and backwards."""
    masker = shap.maskers.Independent(np.zeros((1, pair.players)))
    explainer = shap.PermutationExplainer(pair.score, masker, seed=0)
    return explainer(np.ones((1, pair.players)), max_evals=evaluations, silent=True).values[0]


def with_kernel(pair, evaluations, l1_reg):
    """shap's KernelExplainer."""
    np.random.seed(0)  # it draws from the global generator
    explainer = shap.KernelExplainer(pair.score, np.zeros((1, pair.players)))
    return explainer.shap_values(np.ones(pair.players), nsamples=evaluations, l1_reg=l1_reg, silent=True)


def within(run, budget, order):
    """run(evaluations) with whole orders, more and more, until it takes `budget` CPU-seconds -> its last value."""
    orders, spent = 4, 0.0
    while spent < budget:
        values, spent = timed(lambda orders=orders: run(orders * order))
        found, orders = (values, orders * order, spent), -int(-1.15 * orders // 1)
    return found


def against_enumeration(pair):
    """Ours beside each fifth of all coalitions."""
    every = shapley.coalitions(pair.players)
    pair.exact()
    ratios, scores, seconds = [], [], []
    for part in np.array_split(every, PARTS):
        (values, mine), (some, theirs) = timed(pair.exact), timed(lambda part=part: pair.score(part))
        scores.append(some)
        seconds.append(mine)
        ratios.append(theirs * len(every) / len(part) / mine)
        print(f"ours {mine:.2f} s; a fifth of {len(every)} coalitions {theirs:.1f} s: {ratios[-1]:.0f}", flush=True)
    wanted = shapley.values_of(np.concatenate(scores))
    error = np.abs(values - wanted).max() / np.abs(wanted).max()
    print(f"ours differs from the enumeration by {error:.1e} of the largest value")
    assert error < 1e-6, error
    peer, packages = "all 131,072 joint forwards", PACKAGES[:2]
    return [
        entry("shapley_vs_joint", ratios, "times the CPU-seconds, 17 players", peer, packages),
        entry("shapley_error", [error] * 5, "largest error, of the largest value", peer, packages),
    ]


def against_shap(pairs):
    """shap's explainers in as many seconds as ours takes."""
    order = 2 * pairs[0].players + 1
    with_permutations(pairs[0], order), with_kernel(pairs[0], 64, False)  # compiles, imports
    errors = {"permutation": [], "kernel": [], "kernel, first ten": []}
    for pair in pairs:
        exact, budget = timed(pair.exact)
        for name, run in (
            ("permutation", lambda many, pair=pair: with_permutations(pair, many)),
            ("kernel", lambda many, pair=pair: with_kernel(pair, many, False)),
            ("kernel, first ten", lambda many, pair=pair: with_kernel(pair, many, "num_features(10)")),
        ):
            values, many, spent = within(run, budget, order)
            errors[name].append(misplaced(values, exact))
            print(f"{name}: {many} evaluations, {spent:.2f} s (ours {budget:.2f} s), {errors[name][-1]:.1f} %")
    kernel = min((errors["kernel"], errors["kernel, first ten"]), key=np.median)
    unit = "percent of all credit misplaced, same seconds, five scenes"
    return [
        entry("shap_permutation_error", errors["permutation"], unit, "shapley.joint", PACKAGES),
        entry("shap_kernel_error", kernel, unit, "shapley.joint", PACKAGES),
    ]


def main():
    torch.set_num_threads(1)
    retriever = shipped.load("scenes_foils")
    test, pairs, i = scenes.Scenes(0, "test"), [], 0
    while len(pairs) < 5:
        pair = Pair(retriever, test[i])
        if pair.words == 8:
            pairs.append(pair)
        i += 1
    write(against_enumeration(pairs[0]))
    write(against_shap(pairs))


if __name__ == "__main__":
    main()
