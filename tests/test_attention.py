"""Attention equals torch's in value and gradient, with masks; the family lets through what it should and no more."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from course_utils import attention
from course_utils.attention import CoAttention, CrossBlock, GatedCrossBlock, MultiHeadAttention, OneStream, Resampler

B, H, L, P, D = 3, 4, 5, 9, 32
BLOCKS = {
    "cross": CrossBlock, "co": CoAttention, "gated": GatedCrossBlock, "one stream": OneStream,
    "words alone": lambda width, heads: CrossBlock(width, heads, cross=False),
}  # fmt: skip


@pytest.fixture(autouse=True)
def same_numbers():
    torch.manual_seed(0)


def mask_of(kind):
    """(B,1,1,P) or (B,1,L,P) or None."""
    if kind == "none":
        return None
    if kind == "padding":
        return (torch.arange(P) < torch.tensor([[4], [P], [1]]))[:, None, None, :]
    mask = torch.rand(B, 1, L, P) < 0.5
    mask[0, 0, 1] = mask[2, 0, 4] = mask[1] = False  # rows, and a whole item, in which nothing may be read
    mask[0, 0, 0] = True
    return mask


def heads(dtype=torch.float32):
    return [torch.randn(B, H, n, D // H, dtype=dtype).requires_grad_() for n in (L, P, P)]


def gradients(out, leaves, weight):
    return torch.autograd.grad((out * weight).sum(), leaves)


# The function ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["none", "padding", "whole rows"])
def test_attention_equals_torch_in_value_and_gradient(kind):
    (q, k, v), mask, weight = heads(), mask_of(kind), torch.randn(B, H, L, D // H)
    out, attn = attention.attention(q, k, v, mask)
    reference = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    torch.testing.assert_close(out, reference, atol=1e-5, rtol=1e-5)
    ours, theirs = gradients(out, (q, k, v), weight), gradients(reference, (q, k, v), weight)
    for mine, other in zip(ours, theirs):
        assert torch.isfinite(mine).all()
        torch.testing.assert_close(mine, other, atol=1e-5, rtol=1e-5)
    if mask is not None:
        assert not attn[~mask.expand_as(attn)].any()
        live = mask.any(dim=-1).expand(B, H, L)
        torch.testing.assert_close(attn.sum(dim=-1), live.float())
        assert (out[~live] == 0).all()
    else:
        torch.testing.assert_close(attn.sum(dim=-1), torch.ones(B, H, L))


def test_attention_equals_a_loop():
    (q, k, v), mask = heads(), mask_of("padding")
    out, attn = attention.attention(q, k, v, mask)
    for b, h, i in itertools.product(range(B), range(H), range(L)):
        products = [(q[b, h, i] @ k[b, h, j]).item() / math.sqrt(D // H) for j in range(P) if mask[b, 0, 0, j]]
        total = sum(math.exp(x) for x in products)
        shares = [math.exp(x) / total for x in products]
        torch.testing.assert_close(attn[b, h, i, : len(shares)], torch.tensor(shares), atol=1e-5, rtol=1e-5)
        by_hand = sum(share * v[b, h, j] for j, share in enumerate(shares))
        torch.testing.assert_close(out[b, h, i], by_hand, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["padding", "whole rows"])
def test_half_precision_stays_finite_with_whole_rows_masked(dtype, kind):
    (q, k, v), mask = heads(dtype), mask_of(kind)
    out, attn = attention.attention(q, k, v, mask)
    assert out.dtype == attn.dtype == dtype
    exact, _ = attention.attention(*(x.double() for x in (q, k, v)), mask)
    torch.testing.assert_close(out.double(), exact, atol=0.03, rtol=0.03)
    with torch.no_grad():
        q *= 50  # products of hundreds: exp without care would overflow fp16
    out, attn = attention.attention(q, k, v, mask)
    for value in (out, attn, *gradients(out, (q, k, v), 1)):
        assert torch.isfinite(value).all()


def test_double_precision_is_kept():
    (q, k, v), mask = heads(torch.float64), mask_of("whole rows")
    assert torch.autograd.gradcheck(lambda *args: attention.attention(*args, mask)[0], (q, k, v))


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((1, 1, 2, 4), (1, 1, 3, 5), (1, 1, 3, 4)), r"q \(1, 1, 2, 4\), k \(1, 1, 3, 5\)"),
        (((1, 1, 2, 4), (1, 1, 3, 4), (1, 1, 2, 4)), "do not fit"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(shapes, message):
    with pytest.raises(ValueError, match=message):
        attention.attention(*(torch.zeros(shape) for shape in shapes))


def test_a_mask_of_numbers_is_refused():
    """torch adds a mask of numbers to the scores: ones and zeros would mask nothing, and nobody would notice."""
    with pytest.raises(ValueError, match="mask must be bool, True where a key may be read; got torch.float32"):
        attention.attention(*heads(), torch.ones(B, 1, 1, P))


# Several heads --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("heads", [1, 4])
def test_heads_equal_torchs_module_in_value_and_gradient(heads, masked):
    reference = nn.MultiheadAttention(D, heads, batch_first=True)
    nn.init.normal_(reference.in_proj_bias)
    nn.init.normal_(reference.out_proj.bias)
    ours = MultiHeadAttention(D, heads).copy_from(reference)
    words, patches = torch.randn(B, L, D).requires_grad_(), torch.randn(B, P, D).requires_grad_()
    mask, weight = (mask_of("padding")[:, 0, 0] if masked else None), torch.randn(B, L, D)
    out, attn = ours(words, patches, mask)
    theirs, maps = reference(
        words, patches, patches, None if mask is None else ~mask, average_attn_weights=False
    )  # theirs: True = may not
    torch.testing.assert_close(out, theirs, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(attn, maps, atol=1e-5, rtol=1e-5)
    layers = (ours.query, ours.key, ours.value)
    mine = gradients(out, [words, patches, ours.out.weight, ours.out.bias, *(x.weight for x in layers)], weight)
    other = gradients(theirs, [words, patches, *reference.out_proj.parameters(), reference.in_proj_weight], weight)
    torch.testing.assert_close((*mine[:4], torch.cat(mine[4:])), other, atol=1e-5, rtol=1e-4)


def test_copied_weights_are_copies():
    reference = nn.MultiheadAttention(D, H, batch_first=True)
    ours = MultiHeadAttention(D, H).copy_from(reference)
    before = ours.query.weight.clone()
    nn.init.zeros_(reference.in_proj_weight)
    assert torch.equal(ours.query.weight, before)
    assert all(parameter.requires_grad and parameter.is_leaf for parameter in ours.parameters())


def test_an_edited_map_is_the_map_that_is_used():
    module, words, patches = MultiHeadAttention(D, H), torch.randn(B, L, D), torch.randn(B, P, D)
    plain, attn = module(words, patches)
    module.edit = lambda maps: maps
    torch.testing.assert_close(module(words, patches)[0], plain)
    module.edit = lambda maps: torch.full_like(maps, 1 / P)
    flat, maps = module(words, patches)
    assert (maps == 1 / P).all()
    assert not torch.equal(maps, attn)
    mean = module.out(module.value(patches).mean(dim=1, keepdim=True)).expand(B, L, D)
    torch.testing.assert_close(flat, mean, atol=1e-5, rtol=1e-5)
    module.edit = None
    torch.testing.assert_close(module(words, patches)[0], plain)


@pytest.mark.parametrize("heads", [0, 5])
def test_heads_that_do_not_divide_the_width_are_refused(heads):
    with pytest.raises(ValueError, match=f"width 32 is not divisible by {heads} heads"):
        MultiHeadAttention(D, heads)


# The family -----------------------------------------------------------------------------------------------------------


def inputs():
    """words (B,L,D), patches (B,P,D), token_mask (B,L)."""
    token_mask = torch.arange(L) < torch.tensor([[3], [L], [1]])
    return torch.randn(B, L, D), torch.randn(B, P, D), token_mask


def opened(name, width=D, heads=H):
    """A block whose gates, if it has any, stand open."""
    block = BLOCKS[name](width, heads)
    if name == "gated":
        nn.init.ones_(block.gate_attention)
        nn.init.ones_(block.gate_mlp)
    return block


@pytest.mark.parametrize("name", BLOCKS)
def test_padding_changes_nothing(name):
    block, (words, patches, token_mask) = opened(name), inputs()
    new, seen, attn = block(words, patches, token_mask)
    assert new.shape == words.shape
    assert seen.shape == patches.shape
    rubbish = torch.where(token_mask[..., None], words, 100 * torch.randn_like(words))
    again, seen_again, _ = block(rubbish, patches, token_mask)
    torch.testing.assert_close(again[token_mask], new[token_mask], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(seen_again, seen, atol=1e-5, rtol=1e-5)
    for b, count in enumerate(token_mask.sum(dim=1)):  # each sentence alone, without any padding
        alone, seen_alone, maps = block(words[b : b + 1, :count], patches[b : b + 1])
        torch.testing.assert_close(alone[0], new[b, :count], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(seen_alone[0], seen[b], atol=1e-5, rtol=1e-5)
        if attn is not None:
            torch.testing.assert_close(maps[0], attn[b, :, :count], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", BLOCKS)
def test_the_order_of_patches_says_nothing(name):
    """Permuted patches give the same words, and maps permuted in the same way: places must come from embeddings."""
    block, (words, patches, token_mask), order = opened(name), inputs(), torch.randperm(P)
    new, seen, attn = block(words, patches, token_mask)
    again, seen_again, maps = block(words, patches[:, order], token_mask)
    torch.testing.assert_close(again, new, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(seen_again, seen[:, order], atol=1e-5, rtol=1e-5)
    if attn is not None:
        torch.testing.assert_close(maps, attn[..., order], atol=1e-5, rtol=1e-5)


def reach(block):
    """Whether a change of one patch, or of one word, reaches the other words and the other patches."""
    words, patches, token_mask = torch.randn(1, L, D), torch.randn(1, P, D), torch.ones(1, L, dtype=torch.bool)
    new, seen, _ = block(words, patches, token_mask)
    other_patch, other_word = patches.clone(), words.clone()
    other_patch[0, 0], other_word[0, 0] = torch.randn(2, D)
    a, b, _ = block(words, other_patch, token_mask)
    c, d, _ = block(other_word, patches, token_mask)
    changes = {"patch to word": a - new, "patch to patch": (b - seen)[:, 1:], "word to word": (c - new)[:, 1:],
               "word to patch": d - seen}  # fmt: skip
    return {way for way, change in changes.items() if change.abs().max() > 1e-4}


def test_who_reads_whom():
    everyone = {"patch to word", "patch to patch", "word to word", "word to patch"}
    assert reach(opened("words alone")) == {"word to word"}
    assert reach(opened("cross")) == {"patch to word", "word to word"}
    assert reach(opened("gated")) == {"patch to word"}
    assert reach(opened("co")) == reach(opened("one stream")) == everyone


@pytest.mark.parametrize("name", ["cross", "co", "gated", "one stream"])
def test_maps_say_what_was_read(name):
    block, (words, patches, token_mask) = opened(name), inputs()
    _, _, attn = block(words, patches, token_mask)
    assert attn.shape == (B, H, L, P)
    total = attn.sum(dim=-1)
    if name == "one stream":
        assert (total < 1).all()  # the rest went to words
        joint = []
        block.attention.edit = lambda maps: joint.append(maps) or maps
        block(words, patches, token_mask)
        torch.testing.assert_close(joint[0].sum(dim=-1), torch.ones(B, H, L + P))
        torch.testing.assert_close(joint[0][:, :, :L, L:], attn)
        assert not joint[0][0, :, :, 3:L].any()  # padding of the first sentence
    else:
        torch.testing.assert_close(total, torch.ones(B, H, L))
        block.cross.edit = torch.zeros_like  # nothing is read: the patches no longer matter
        other = block(words, torch.randn_like(patches), token_mask)[0]
        torch.testing.assert_close(block(words, patches, token_mask)[0], other)


def test_a_shut_gate_is_exactly_the_identity():
    block, (words, patches, token_mask) = GatedCrossBlock(D, H), inputs()
    new, seen, attn = block(words, patches, token_mask)
    assert torch.equal(new, words)
    assert torch.equal(seen, patches)
    torch.testing.assert_close(attn.sum(dim=-1), torch.ones(B, H, L))  # it looks already, and says nothing yet
    new.square().sum().backward()
    assert block.gate_attention.grad.abs() > 0
    assert block.gate_mlp.grad.abs() > 0
    others = [p for name, p in block.named_parameters() if "gate" not in name and p.grad is not None]
    assert all(not p.grad.any() for p in others)  # behind a shut door nothing learns: the doors move first
    nn.init.constant_(block.gate_attention, 0.5)
    read = block.cross(block.norm_words(words), block.norm_patches(patches))[0]
    torch.testing.assert_close(block(words, patches)[0], words + math.tanh(0.5) * read)


def test_a_resampler_gives_as_many_latents_as_it_has():
    resampler = Resampler(D, H, latents=6)
    for patches in (1, 16, 100):
        seen = torch.randn(B, patches, D)
        latents, attn = resampler(seen)
        assert latents.shape == (B, 6, D)
        assert attn.shape == (B, H, 6, patches)
        assert (attn.sum(dim=-1) < 1).all()  # the rest went to the latents
        order = torch.randperm(patches)
        again, maps = resampler(seen[:, order])
        torch.testing.assert_close(again, latents, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(maps, attn[..., order], atol=1e-5, rtol=1e-5)
    assert (latents[0] - latents[1]).abs().max() > 1e-3  # it saw the pictures
    assert (latents[0, 0] - latents[0, 1]).abs().max() > 1e-3  # and its latents ask different things


@pytest.mark.parametrize("name", [*BLOCKS, "resampler"])
def test_everything_learns(name):
    words, patches, token_mask = inputs()
    if name == "resampler":
        block = Resampler(D, H, 6)
        out = [block(patches)[0]]
    else:
        block = opened(name)
        out = block(words, patches, token_mask)[:2]
    sum((part * torch.randn_like(part)).sum() for part in out if part.requires_grad).backward()
    still = [name for name, parameter in block.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert still == []


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_blocks_stay_finite_in_half_precision_with_a_whole_sentence_masked(name, dtype):
    block = opened(name).to(dtype)
    words, patches, token_mask = inputs()
    token_mask[1] = False  # nothing to read at all
    leaf = words.to(dtype).requires_grad_()
    new, seen, _ = block(leaf, patches.to(dtype), token_mask)
    assert torch.isfinite(new).all()
    assert torch.isfinite(seen).all()
    (new.float().sum() + seen.float().sum()).backward()
    assert torch.isfinite(leaf.grad).all()
