"""How good is a generated caption? BLEU, a consensus score in CIDEr's manner, and CLIPScore over any embeddings."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

ORDERS = 4  # n-grams of one to four words
SMOOTHING = ("exp", "none")
_SPLITS = (  # mteval-v13a, as sacrebleu has it
    (re.compile(r"([\{-\~\[-\` -\&\(-\+\:-\@\/])"), r" \1 "),
    (re.compile(r"([^0-9])([\.,])"), r"\1 \2 "),
    (re.compile(r"([\.,])([^0-9])"), r" \1 \2"),
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),
)
_ENTITIES = (("<skipped>", ""), ("-\n", ""), ("\n", " "), ("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"))
_WORD = re.compile(r"\w+(?:['’-]\w+)*")


@dataclass(frozen=True)
class Bleu:
    """Corpus BLEU in 0..1 (papers print it times 100), its n-gram precisions (4,), brevity penalty and lengths."""

    score: float
    precisions: np.ndarray
    brevity_penalty: float
    length: int
    reference_length: int


def tokens_13a(text: str) -> list[str]:
    """The words of mteval-v13a, sacrebleu's default: case kept, punctuation apart."""
    text = text.rstrip()
    for old, new in _ENTITIES:
        text = text.replace(old, new)
    text = f" {text} "
    for pattern, replacement in _SPLITS:
        text = pattern.sub(replacement, text)
    return text.split()


def caption_words(text: str) -> list[str]:
    """Lower-case words without punctuation, as caption benchmarks compare them."""
    return _WORD.findall(text.lower())


def bleu_counts(hypotheses: Sequence[str], references: Sequence[Sequence[str]], tokenize=tokens_13a) -> np.ndarray:
    """What BLEU is made of, one row a hypothesis: (N,10) length, closest reference's length, 4 matches, 4 totals.

    references: one or more for each hypothesis. Sums of rows give the corpus' BLEU, so drawn rows give its bootstrap.
    Raises ValueError for counts that differ, a hypothesis without references, no hypothesis, or a string for a list.
    """
    _checked(hypotheses, references)
    rows = np.zeros((len(hypotheses), 2 + 2 * ORDERS))
    for row, hypothesis, some in zip(rows, hypotheses, references):
        words, others = tokenize(hypothesis), [tokenize(one) for one in some]
        row[:2] = len(words), min((abs(len(one) - len(words)), len(one)) for one in others)[1]
        most = Counter()
        for one in others:
            most |= _ngrams(one)
        for ngram, count in _ngrams(words).items():
            row[1 + len(ngram)] += min(count, most[ngram])
            row[1 + ORDERS + len(ngram)] += count
    return rows


def bleu(counts, smooth: str = "exp", effective_order: bool = False) -> Bleu:
    """BLEU of a corpus (Papineni et al. 2002) from `bleu_counts`, (N,10) or their sum (10,); sacrebleu's.

    smooth: "exp" halves the credit of each order without any match, "none" lets it make the score 0. effective_order:
    leave out orders for which the text is too short, as for single sentences. Raises ValueError for other choices.
    """
    if smooth not in SMOOTHING:
        raise ValueError(f"unknown smooth {smooth!r}; known: {', '.join(SMOOTHING)}")
    counts = np.asarray(counts, dtype=np.float64)
    if counts.shape[-1] != 2 + 2 * ORDERS or counts.ndim > 2 or not np.isfinite(counts).all():
        raise ValueError(f"counts must be (N,{2 + 2 * ORDERS}) from bleu_counts, or their sum; got {counts.shape}.")
    counts = counts.reshape(-1, 2 + 2 * ORDERS).sum(axis=0)
    length, reference_length = counts[:2]
    matches, totals = counts[2 : 2 + ORDERS], counts[2 + ORDERS :]
    brevity = 1.0 if length >= reference_length else math.exp(1 - reference_length / length) if length else 0.0
    precisions, credit, orders = np.zeros(ORDERS), 1.0, ORDERS
    if matches.any():
        for n in range(ORDERS):
            if totals[n] == 0:
                break
            orders = n + 1 if effective_order else ORDERS
            credit = credit / 2 if matches[n] == 0 else credit
            smoothed = credit / totals[n] if smooth == "exp" else 0.0
            precisions[n] = matches[n] / totals[n] if matches[n] else smoothed
    some = precisions[:orders]
    score = brevity * math.exp(np.log(some).mean()) if some.all() else 0.0
    return Bleu(score, precisions, brevity, int(length), int(reference_length))


def sentence_bleu(hypotheses: Sequence[str], references: Sequence[Sequence[str]], tokenize=tokens_13a) -> np.ndarray:
    """BLEU of each sentence by itself, (N,), smoothed and with effective order. Its mean is not the corpus' BLEU."""
    return np.array([bleu(row, effective_order=True).score for row in bleu_counts(hypotheses, references, tokenize)])


def consensus(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]], tokenize=caption_words, sigma: float = 6.0
) -> np.ndarray:
    """Agreement of each caption with what people say of the picture, (N,), 0..10, in the manner of CIDEr-D.

    Cosine of tf-idf weighted n-grams (1 to 4 words) with each reference, averaged over references and orders, times 10;
    an n-gram counts no more often than in the reference, and other lengths cost exp(-difference^2 / (2 sigma^2))
    (Vedantam, Zitnick and Parikh 2015). The weights come from the given pictures' references: what is said of all
    pictures weighs nothing, so scores of different sets do not compare. Raises ValueError as `bleu_counts`, and for a
    single picture, where every weight would be 0.
    """
    _checked(hypotheses, references)
    if len(hypotheses) < 2:
        raise ValueError("consensus needs two pictures or more: what all pictures share weighs nothing.")
    counted = [[_ngrams(tokenize(one)) for one in some] for some in references]
    seen = Counter(ngram for some in counted for ngram in set().union(*some))
    weight = {ngram: math.log(len(counted)) - math.log(count) for ngram, count in seen.items()}
    unseen = math.log(len(counted))

    def vectors(ngrams):
        by_order, length = [{} for _ in range(ORDERS)], 0
        for ngram, count in ngrams.items():
            by_order[len(ngram) - 1][ngram] = count * weight.get(ngram, unseen)
            length += count if len(ngram) == 1 else 0
        return by_order, [math.sqrt(sum(v * v for v in one.values())) for one in by_order], length

    scores = np.zeros(len(hypotheses))
    for k, (hypothesis, some) in enumerate(zip(hypotheses, counted)):
        mine, norms, length = vectors(_ngrams(tokenize(hypothesis)))
        for other, other_norms, other_length in map(vectors, some):
            penalty = math.exp(-((length - other_length) ** 2) / (2 * sigma**2))
            for n in range(ORDERS):
                if norms[n] and other_norms[n]:
                    product = sum(min(v, other[n][g]) * other[n][g] for g, v in mine[n].items() if g in other[n])
                    scores[k] += penalty * product / (norms[n] * other_norms[n])
        scores[k] *= 10 / (ORDERS * len(some))
    return scores


def clip_score(z_img, z_txt, weight: float = 2.5) -> np.ndarray:
    """How well each caption fits its picture, without references: weight * max(cosine, 0), (N,).

    z_img, z_txt: (N,E), row i against row i; any encoder's. Hessel et al. (2021) chose 2.5 for CLIP ViT-B/32, so scores
    of other encoders do not compare with theirs, and a scorer that shares the captioner's weaknesses will not see them.
    Raises ValueError for shapes that differ, rows of length 0, NaN or infinity.
    """
    return weight * np.maximum(_cosine(z_img, z_txt), 0)


def ref_clip_score(z_img, z_txt, z_refs, weight: float = 2.5) -> np.ndarray:
    """Harmonic mean of `clip_score` and the largest cosine with a reference, (N,). z_refs: (N,R,E). Errors likewise."""
    z_refs = np.asarray(z_refs)
    if z_refs.ndim != 3 or z_refs.shape[1] == 0:
        raise ValueError(f"z_refs must be (N,R,E), one reference or more a caption; got shape {z_refs.shape}.")
    alone = clip_score(z_img, z_txt, weight)
    nearest = np.max([np.maximum(_cosine(z_refs[:, r], z_txt), 0) for r in range(z_refs.shape[1])], axis=0)
    return np.divide(2 * alone * nearest, alone + nearest, out=np.zeros_like(alone), where=alone + nearest > 0)


def _ngrams(words):
    return Counter(tuple(words[i : i + n]) for n in range(1, ORDERS + 1) for i in range(len(words) - n + 1))


def _checked(hypotheses, references):
    if isinstance(hypotheses, str) or any(isinstance(some, str) for some in references):
        raise ValueError("give lists: hypotheses is a list of strings, references a list of lists of strings.")
    if not hypotheses or len(hypotheses) != len(references):
        raise ValueError(f"{len(hypotheses)} hypotheses and {len(references)} lists of references; as many, not none.")
    lost = [k for k, some in enumerate(references) if not len(some)]
    if lost:
        raise ValueError(f"hypothesis {lost[0]} has no reference ({len(lost)} in all); drop it or mend the ids.")


def _cosine(one, other):
    one, other = (np.asarray(z).astype(np.float64) for z in (one, other))
    if one.ndim != 2 or one.shape != other.shape or one.size == 0:
        raise ValueError(f"embeddings must be the same (N,E), not empty; got {one.shape} and {other.shape}.")
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        raise ValueError("embeddings hold NaN or infinity: a diverged run, or float16 overflow?")
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    if not lengths.all():
        raise ValueError(f"row {int(np.argmin(lengths))} has length 0, so it has no cosine.")
    return np.einsum("ne,ne->n", one, other) / lengths
