"""BLEU against sacrebleu (its numbers, and itself where installed), CIDEr-D rewritten plainly, CLIPScore by hand."""

import math
from collections import Counter

import numpy as np
import pytest
import torch

from course_utils import generation
from course_utils.scenes import Scenes

HYPOTHESES = [
    "A small dog runs over the green grass.",
    "Two men, one of them with a hat, stand near a stove; they're cooking!",
    "A boat",
    "The cat sat on the on the on the mat - 3.5 metres away (at most).",
]
REFERENCES = [
    ["A small brown dog runs across the grass.", "A dog is running on green grass.", "The dog runs over grass."],
    ["Two men stand near a stove.", "One man with a hat and another one are cooking; they're outside."],
    ["A sailing boat on a lake.", "There is a boat."],
    ["The cat sat on the mat, 3.5 metres away.", "A cat on a mat - at most 3.5 metres from here."],
]


@pytest.fixture(scope="module")
def spoken():
    """300 captions of scenes, each against three captions of the same scene, some of them swapped for another's."""
    scenes = Scenes(seed=0, part="test")
    captions = [[one.text for one in scenes[i].captions] for i in range(300)]
    hypotheses = [captions[(i + 1) % 300 if i % 7 == 0 else i][i % 2] for i in range(300)]
    return hypotheses, [some[2:] for some in captions]


def test_the_words_are_sacrebleus():
    """Tokens of sacrebleu 2.6.0, tokenizer 13a."""
    for text, tokens in {
        HYPOTHESES[1]: "Two men , one of them with a hat , stand near a stove ; they're cooking !",
        HYPOTHESES[3]: "The cat sat on the on the on the mat - 3.5 metres away ( at most ) .",
        "3,5-fold &quot;x&quot; &lt;b&gt; a-b 1-2.": '3,5 - fold " x " < b > a-b 1 - 2 .',
    }.items():
        assert " ".join(generation.tokens_13a(text)) == tokens
    assert generation.caption_words("A man's hat; over-sized, RED!") == ["a", "man's", "hat", "over-sized", "red"]


def test_bleu_has_the_numbers_of_sacrebleu():
    """Of sacrebleu 2.6.0: corpus_bleu and sentence_bleu, over 100."""
    ours = generation.bleu(generation.bleu_counts(HYPOTHESES, REFERENCES))
    assert ours.score == pytest.approx(0.2918581701331027, abs=1e-12)
    np.testing.assert_allclose(ours.precisions, [0.75, 0.4772727272727273, 0.25, 0.08108108108108109], atol=1e-12)
    assert (ours.length, ours.reference_length) == (48, 41)
    np.testing.assert_allclose(
        generation.sentence_bleu(HYPOTHESES, REFERENCES),
        [0.3492671028290049, 0.24202875575621302, 0.15777684932819513, 0.33488655580657256],
        atol=1e-12,
    )


@pytest.mark.parametrize("smooth", ["exp", "none"])
@pytest.mark.parametrize("effective_order", [False, True])
def test_bleu_is_sacrebleus(spoken, smooth, effective_order):
    sacrebleu = pytest.importorskip("sacrebleu")
    theirs = sacrebleu.BLEU(smooth_method=smooth, effective_order=effective_order)
    for hypotheses, references in (spoken, (HYPOTHESES, [some[:2] for some in REFERENCES])):
        counts = generation.bleu_counts(hypotheses, references)
        ours = generation.bleu(counts, smooth, effective_order)
        whole = theirs.corpus_score(hypotheses, list(zip(*references)))
        assert 100 * ours.score == pytest.approx(whole.score, abs=1e-9)
        np.testing.assert_allclose(100 * ours.precisions, whole.precisions, atol=1e-9)
        assert (ours.brevity_penalty, ours.length, ours.reference_length) == (
            pytest.approx(whole.bp),
            whole.sys_len,
            whole.ref_len,
        )
        for row, hypothesis, some in zip(counts, hypotheses, references):
            one = theirs.sentence_score(hypothesis, list(some)).score
            assert 100 * generation.bleu(row, smooth, effective_order).score == pytest.approx(one, abs=1e-9)


def test_bleu_of_the_references_themselves_and_of_nothing():
    counts = generation.bleu_counts(["a b c d e", "a b c d"], [["a b c d e"], ["a b c d", "x"]])
    assert generation.bleu(counts).score == pytest.approx(1)
    assert generation.bleu(generation.bleu_counts(["x y"], [["a b"]])).score == 0
    assert generation.bleu(generation.bleu_counts([""], [["a b"]])).score == 0
    short = generation.bleu(generation.bleu_counts(["a b c d"], [["a b c d e f"]]))
    assert short.score == pytest.approx(math.exp(1 - 6 / 4)) == short.brevity_penalty


def cider_d(hypotheses, references, sigma=6.0):
    """CIDEr-D written down once more, term by term, from the paper and its authors' remarks."""

    def ngrams(words, n):
        return Counter(zip(*(words[i:] for i in range(n))))

    images, scores = len(references), []
    words = [[one.split() for one in some] for some in references]
    for hypothesis, some in zip(hypotheses, words):
        mine, by_order = hypothesis.split(), []
        for n in range(1, 5):
            documents = [set().union(*(ngrams(one, n) for one in each)) for each in words]

            def weight(counts, documents=documents):
                return {g: c * math.log(images / max(1, sum(g in d for d in documents))) for g, c in counts.items()}

            total = 0
            for other in some:
                a, b = weight(ngrams(mine, n)), weight(ngrams(other, n))
                norm = math.hypot(*a.values()) * math.hypot(*b.values())
                product = sum(min(a[g], b[g]) * b[g] for g in a if g in b)
                total += (product / norm if norm else 0) * math.exp(-((len(mine) - len(other)) ** 2) / (2 * sigma**2))
            by_order.append(total / len(some))
        scores.append(10 * np.mean(by_order))
    return scores


def test_consensus_is_cider_d(spoken):
    hypotheses, references = (some[:40] for some in spoken)
    ours = generation.consensus(hypotheses, references)
    np.testing.assert_allclose(ours, cider_d(hypotheses, references), atol=1e-12)
    assert ours.min() < 1 < 4 < ours.max()  # a caption of another picture beside true ones


def test_consensus_is_that_of_the_captioning_challenge(spoken):
    cider = pytest.importorskip("pycocoevalcap.cider.cider")
    hypotheses, references = spoken
    mean, each = cider.Cider().compute_score(
        dict(enumerate(references)), {k: [one] for k, one in enumerate(hypotheses)}
    )
    ours = generation.consensus(hypotheses, references)
    np.testing.assert_allclose(ours, each, atol=1e-9)
    assert ours.mean() == pytest.approx(mean)


def test_clip_score_by_hand():
    z_img = np.array([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    z_txt = np.array([[2.0, 0.0], [1.0, -1.0], [1.0, 0.0]])
    np.testing.assert_allclose(generation.clip_score(z_img, z_txt), [2.5, 0, 2.5 / math.sqrt(2)])
    refs = np.stack([z_txt[::-1], z_txt], axis=1)  # (N,R,E): each caption is among its own references
    found = generation.ref_clip_score(torch.from_numpy(z_img), torch.from_numpy(z_txt), refs)
    expected = [2 * c / (c + 1) if c else 0 for c in (2.5, 0, 2.5 / math.sqrt(2))]
    np.testing.assert_allclose(found, expected)


def test_drawn_rows_of_counts_are_the_corpus_drawn_anew(spoken):
    hypotheses, references = spoken
    rows = np.random.default_rng(0).integers(0, 300, 300)
    drawn = generation.bleu_counts([hypotheses[k] for k in rows], [references[k] for k in rows])
    counts = generation.bleu_counts(hypotheses, references)
    assert generation.bleu(counts[rows]).score == generation.bleu(drawn).score


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: generation.bleu_counts([], []), "not none"),
        (lambda: generation.bleu_counts(["a"], [["a"], ["b"]]), "1 hypotheses and 2 lists"),
        (lambda: generation.bleu_counts(["a", "b"], [["a"], []]), "hypothesis 1 has no reference"),
        (lambda: generation.bleu_counts("a b", [["a"]]), "list of strings"),
        (lambda: generation.bleu_counts(["a"], ["a"]), "list of lists"),
        (lambda: generation.bleu(np.ones((2, 9))), "from bleu_counts"),
        (lambda: generation.bleu(np.ones(10), smooth="floor"), "known: exp, none"),
        (lambda: generation.consensus(["a"], [["a"]]), "two pictures"),
        (lambda: generation.clip_score(np.ones((2, 3)), np.ones((2, 4))), "must be the same"),
        (lambda: generation.clip_score(np.ones((0, 3)), np.ones((0, 3))), "not empty"),
        (lambda: generation.clip_score([[np.nan, 1]], [[1, 1]]), "NaN or infinity"),
        (lambda: generation.clip_score([[1, 1], [0, 0]], [[1, 1], [1, 1]]), "row 1 has length 0"),
        (lambda: generation.ref_clip_score([[1, 1]], [[1, 1]], [[1, 1]]), r"\(N,R,E\)"),
    ],
)
def test_bad_input_gets_one_clear_error(call, message):
    with pytest.raises(ValueError, match=message):
        call()
