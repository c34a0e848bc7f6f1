"""A split encoded in pieces is the split encoded whole; recall against a loop."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from course_utils import captioned, models, retrieval, text

N, K = 9, 5


@pytest.fixture(scope="module")
def made():
    rng = np.random.default_rng(0)
    words = "a dog runs over the green grass".split()
    texts = [" ".join(rng.choice(words, rng.integers(1, 8))) for _ in range(N * K)]
    pixels = rng.integers(0, 256, (N, 16, 16, 3), dtype=np.uint8)
    tokenizer = text.word_tokenizer(words)
    one = SimpleNamespace(pixels=pixels, image_ids=np.arange(N), texts=texts, owners=np.repeat(np.arange(N), K))
    torch.manual_seed(0)
    sentences = models.TransformerWords(tokenizer.get_vocab_size(), 8, width=12, layers=1, heads=2)
    model = models.DualEncoder(models.ConvTower(16, 12, (16, 16)), sentences, shared=8).eval()
    return model, captioned.Feed(one, lambda sentences: text.encode(tokenizer, sentences), 16), texts, tokenizer


def test_in_pieces_or_whole(made):
    model, some, texts, tokenizer = made
    z_img, z_txt = retrieval.encode(model, some, batch_size=4)
    with torch.no_grad():
        torch.testing.assert_close(z_img, model.encode_image(some.images(range(N))))
        torch.testing.assert_close(z_txt, model.encode_text(*text.encode(tokenizer, texts)))


def test_recall_is_a_loops(made):
    model, some, _, _ = made
    z_img, z_txt = retrieval.encode(model, some)
    found = retrieval.recalls(z_img, z_txt, some.owners, (1, 3))
    scores = (z_img @ z_txt.T).numpy()
    for k in (1, 3):
        first = [some.owners[np.argsort(-scores[i])[:k]] for i in range(N)]
        assert found[f"image_to_text/recall_at_{k}"] == pytest.approx(np.mean([i in first[i] for i in range(N)]))
        first = [np.argsort(-scores[:, j])[:k] for j in range(N * K)]
        hits = [some.owners[j] in first[j] for j in range(N * K)]
        assert found[f"text_to_image/recall_at_{k}"] == pytest.approx(np.mean(hits))
    assert found["mean_recall"] == pytest.approx(np.mean([v for name, v in found.items() if name != "mean_recall"]))


def test_facts_have_intervals_and_chance(made):
    model, some, _, _ = made
    z_img, z_txt = retrieval.encode(model, some)
    facts = {one["name"]: one for one in retrieval.facts(z_img, z_txt, some.owners)}
    assert set(facts) == {f"{d}/recall_at_{k}" for d in retrieval.DIRECTIONS for k in (1, 5, 10)}
    assert facts["text_to_image/recall_at_1"]["chance"] == pytest.approx(1 / N)
    assert facts["image_to_text/recall_at_1"]["chance"] == pytest.approx(1 / N)  # 5 of 45
    assert facts["text_to_image/recall_at_10"]["value"] == 1  # the pool has nine
    for one in facts.values():
        assert one["interval"][0] <= one["value"] <= one["interval"][1]
