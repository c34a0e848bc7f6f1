"""Checks of lesson 03: the solution and other spellings pass, what people really write is named, nothing leaks."""

import math

import numpy as np
import pytest
import torch
from contract import Contract, by_number
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from course_utils import attention, faithfulness
from course_utils.checks import cross_modal_attention as checks
from course_utils.checks._outcome import WrongAnswer

BY_NUMBER = by_number(checks)
VALUES = ("3.3",)  # exercises whose answer is a value


# 3.1


def attend_one(query, keys, values):
    return (keys @ query).softmax(dim=0) @ values


def attend_one_loop(query, keys, values):
    products = [float(key @ query) for key in keys]
    shares = [math.exp(product - max(products)) for product in products]
    read = torch.zeros(len(query))
    for share, value in zip(shares, values):
        read = read + share / sum(shares) * value
    return read


def attend_one_numpy(query, keys, values):
    products = np.einsum("pd,d->p", keys.numpy(), query.numpy())
    e = np.exp(products - products.max())
    return e / e.sum() @ values.numpy()


def naive(query, keys, values):
    raised = (keys @ query).exp()
    return raised / raised.sum() @ values


# 3.2


def attend(words, keys, values):
    attn = (words @ keys.T / words.shape[-1] ** 0.5).softmax(dim=-1)
    return attn @ values, attn


def attend_loop(words, keys, values):
    out, attn = [], []
    for word in words:
        shares = torch.stack([word @ key for key in keys]).div(math.sqrt(len(word))).softmax(0)
        attn.append(shares)
        out.append(sum(share * value for share, value in zip(shares, values)))
    return torch.stack(out), torch.stack(attn)


def attend_package(words, keys, values):
    out, attn = attention.attention(words[None, None], keys[None, None], values[None, None])
    return [out[0, 0], attn[0, 0]]


def with_scores(change):
    def wrong(words, keys, values):
        attn = change(words @ keys.T, words, keys)
        return attn @ values, attn

    return wrong


# 3.4


def masked_softmax(scores, mask):
    mask = mask[:, None, None, :]
    filled = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return filled.softmax(dim=-1) * mask


def masked_softmax_where(scores, mask):
    mask = mask.view(len(mask), 1, 1, -1)
    fill = torch.full_like(scores, torch.finfo(scores.dtype).min)
    return torch.where(mask, torch.where(mask, scores, fill).float().softmax(dim=-1), 0.0)


def masked_softmax_by_hand(scores, mask):
    raised = (scores.double() - scores.double().amax(dim=-1, keepdim=True)).exp() * mask[:, None, None]
    total = raised.sum(dim=-1, keepdim=True)
    return (raised / total.clamp(min=1e-30)).to(scores.dtype)


def masked_softmax_loop(scores, mask):
    rows = []
    for b, item in enumerate(scores):
        shares = torch.zeros_like(item)
        if mask[b].any():
            shares[..., mask[b]] = item[..., mask[b]].softmax(dim=-1)
        rows.append(shares + 0 * item)
    return torch.stack(rows)


def nan_to_num(scores, mask):
    """Right, it turns out: masked_fill passes no gradient to what it fills, so the NaN does not come back."""
    return scores.masked_fill(~mask[:, None, None], -math.inf).softmax(dim=-1).nan_to_num()


def added(scores, mask):
    hidden = torch.zeros_like(scores).masked_fill(~mask[:, None, None], -math.inf)
    return (scores + hidden).softmax(dim=-1).nan_to_num()


def filled(value, after=False, invert=False):
    def wrong(scores, mask):
        mask = mask[:, None, None]
        shares = scores.masked_fill(mask if invert else ~mask, value).softmax(dim=-1)
        return shares * mask if after else shares

    return wrong


def unsafe_exp(scores, mask):
    raised = scores.exp() * mask[:, None, None]
    return raised / raised.sum(dim=-1, keepdim=True).clamp(min=1e-9)


def added_lowest(scores, mask):
    lowest = (1 - mask[:, None, None].to(scores.dtype)) * torch.finfo(scores.dtype).min
    return (scores + lowest).softmax(dim=-1) * mask[:, None, None]  # lowest plus a negative score is -inf in fp16


def in_place(scores, mask):
    scores.masked_fill_(~mask[:, None, None], torch.finfo(scores.dtype).min)
    return scores.softmax(dim=-1) * mask[:, None, None]


# 3.5


def split_heads(x, heads):
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def split_heads_view(x, heads):
    size, length, width = x.shape
    return x.view(size, length, heads, width // heads).permute(0, 2, 1, 3).contiguous()


def split_heads_slices(x, heads):
    few = x.shape[-1] // heads
    return np.stack([x[:, :, i * few : (i + 1) * few].numpy() for i in range(heads)], axis=1)


# 3.6


def pointing(saliency, mask):
    strongest = saliency == saliency.max()
    return (strongest & mask).sum() / strongest.sum()


def pointing_loop(saliency, mask):
    best = max(v for row in saliency.tolist() for v in row)
    inside = [bool(m) for row, line in zip(saliency.tolist(), mask.tolist()) for v, m in zip(row, line) if v == best]
    return sum(inside) / len(inside)


def pointing_package(saliency, mask):
    return faithfulness.pointing_game(saliency[None], mask[None])[0]


# 3.7


def shuffle_maps(attn, generator):
    orders = [torch.randperm(attn.shape[-1], generator=generator) for _ in attn]
    return torch.stack([maps[..., order] for maps, order in zip(attn, orders)])


def shuffle_maps_gather(attn, generator):
    order = torch.rand(len(attn), 1, 1, attn.shape[-1], generator=generator).argsort(dim=-1)
    return attn.gather(-1, order.expand_as(attn))


def shuffle_maps_index(attn, generator):
    shuffled = attn.clone()
    for b in range(attn.shape[0]):
        shuffled[b] = attn[b][:, :, torch.randperm(attn.shape[3], generator=generator)]
    return shuffled


def per_row(attn, generator):
    return attn.gather(-1, torch.rand(attn.shape, generator=generator).argsort(dim=-1))


def along(dim):
    def wrong(attn, generator):
        return attn.index_select(dim, torch.randperm(attn.shape[dim], generator=generator))

    return wrong


def shuffled_flat(attn, generator):
    return attn.flatten()[torch.randperm(attn.numel(), generator=generator)].view_as(attn)


def with_replacement(attn, generator):
    places = torch.randint(attn.shape[-1], (len(attn), 1, 1, attn.shape[-1]), generator=generator)
    return attn.gather(-1, places.expand_as(attn))


def shuffled_in_place(attn, generator):
    for b in range(len(attn)):
        attn[b] = attn[b][..., torch.randperm(attn.shape[-1], generator=generator)]
    return attn


def rolled(attn, generator):
    steps = torch.randint(1, attn.shape[-1], (len(attn),), generator=generator)
    return torch.stack([maps.roll(int(step), dims=-1) for maps, step in zip(attn, steps)])


# 3.8


def gated(x, update, gate):
    return x + torch.tanh(gate) * update


def gated_exp(x, update, gate):
    return torch.addcmul(x, update, 1 - 2 / ((2 * gate).exp() + 1))


def gated_special(x, update, gate):
    return x if gate == 0 else gated(x, update, gate)


# 3.9


def cross_flops(L, P, D):
    return 2 * (2 * L * D * D + 2 * P * D * D + 2 * L * P * D)


def cross_flops_counted(L, P, D):
    module = attention.MultiHeadAttention(D, 1)
    with FlopCounterMode(display=False) as counter:
        module(torch.randn(1, L, D), torch.randn(1, P, D))
    return counter.get_total_flops()


# 3.10


def reads_only_what_it_may(attend):
    """The lesson's: masked places do nothing, every other does something."""
    words, source = torch.randn(2, 3, 8), torch.randn(2, 5, 8)
    mask = torch.tensor([[True, True, True, False, False], [True, False, True, True, True]])
    before = attend(words, source, mask)
    for b in range(2):
        for place in range(5):
            changed = source.clone()
            changed[b, place] += 10 * torch.randn(8)
            same = torch.allclose(attend(words, changed, mask), before, atol=1e-5)
            if same == bool(mask[b, place]):
                return False
    return True


def by_gradient(attend):
    words, source = torch.randn(3, 2, 4), torch.randn(3, 6, 4, requires_grad=True)
    mask = torch.tensor([[1, 1, 0, 1, 0, 0], [0, 1, 1, 1, 1, 1], [1, 0, 0, 0, 0, 1]]).bool()
    (gradient,) = torch.autograd.grad((attend(words, source, mask) * torch.randn(3, 2, 4)).sum(), source)
    felt = gradient.abs().sum(dim=-1) > 1e-7
    return torch.equal(felt, mask)


def only_masked(attend):
    words, source = torch.randn(2, 3, 8), torch.randn(2, 5, 8)
    mask = torch.tensor([[True, True, True, False, False], [True, False, True, True, True]])
    changed = torch.where(mask[..., None], source, 10 * torch.randn_like(source))
    return torch.allclose(attend(words, source, mask), attend(words, changed, mask), atol=1e-5)


def all_real(attend):
    words, source = torch.randn(2, 3, 8), torch.randn(2, 5, 8)
    mask = torch.ones(2, 5, dtype=torch.bool)
    return not torch.allclose(attend(words, source, mask), attend(words, source + 1, mask))


def one_question(attend):
    words, source, mask = torch.randn(1, 3, 8), torch.randn(1, 5, 8), torch.tensor([[True, False, True, True, False]])
    before = attend(words, source, mask)
    for place in range(5):
        changed = source.clone()
        changed[0, place] *= 10
        if torch.allclose(attend(words, changed, mask), before, atol=1e-5) == bool(mask[0, place]):
            return False
    return True


def with_nan(attend):
    words, source, mask = torch.randn(1, 3, 8), torch.randn(1, 5, 8), torch.tensor([[True, False, True, True, False]])
    source[~mask] = math.nan
    return bool(torch.isfinite(attend(words, source, mask)).all())


def with_reference(attend):
    words, source = torch.randn(2, 3, 8), torch.randn(2, 5, 8)
    mask = torch.tensor([[True, True, True, False, False], [True, False, True, True, True]])
    return torch.allclose(
        attend(words, source, mask), F.scaled_dot_product_attention(words, source, source, mask[:, None])
    )


def finite(attend):
    return bool(torch.isfinite(attend(torch.randn(2, 3, 8), torch.randn(2, 5, 8), torch.ones(2, 5).bool())).all())


def right_shape(attend):
    words = torch.randn(2, 3, 8)
    return attend(words, torch.randn(2, 5, 8), torch.ones(2, 5).bool()).shape == words.shape


def asserts(attend):
    assert only_masked(attend)
    return True


RIGHT = [
    ("3.1", [attend_one, attend_one_loop, attend_one_numpy, lambda q, k, v: attend_one(q, k, v).bfloat16()]),
    ("3.2", [attend, attend_loop, attend_package]),
    ("3.3", [16, 16.0, math.sqrt(256), torch.tensor(16.05), np.float32(15.97)]),
    ("3.4", [masked_softmax, masked_softmax_where, masked_softmax_by_hand, masked_softmax_loop, nan_to_num]),
    ("3.5", [split_heads, split_heads_view, split_heads_slices]),
    ("3.6", [pointing, pointing_loop, pointing_package, lambda s, m: m[s == s.max()].double().mean()]),
    ("3.7", [shuffle_maps, shuffle_maps_gather, shuffle_maps_index]),
    ("3.8", [gated, gated_exp, lambda x, u, g: x + u.mul(g.tanh())]),
    ("3.9", [cross_flops, cross_flops_counted, lambda L, P, D: 4 * D * (L * D + P * D + L * P) / 1]),
    ("3.10", [reads_only_what_it_may, by_gradient]),
]


def flops_of(change):
    return lambda L, P, D: change(L, P, D)


WRONG = {
    "3.1": [
        (lambda q, k, v: (k @ q / len(q) ** 0.5).softmax(0) @ v, "You scaled the products"),
        (lambda q, k, v: k @ q @ v, "products themselves are your weights"),
        (lambda q, k, v: (k @ q).softmax(0) @ k, "added up the keys"),
        (lambda q, k, v: v.mean(dim=0), "where does the query enter"),
        (lambda q, k, v: v[(k @ q).argmax()], "best place alone"),
        (lambda q, k, v: (k @ q).softmax(0), "These are the shares"),
        (lambda q, k, v: k @ q, "These are the products"),
        (lambda q, k, v: (k @ q).softmax(0)[:, None] * v, "Add them up"),
        (lambda q, k, v: (-(k @ q)).softmax(0) @ v, "sign is turned"),
        (lambda q, k, v: F.cosine_similarity(k, q[None]).softmax(0) @ v, "a cosine"),
        (lambda q, k, v: (v @ q).softmax(0) @ v, "first numbers should be"),
        (lambda q, k, v: (k @ q).sigmoid() @ v, "products themselves"),
        (naive, "overflows"),
        (
            lambda q, k, v: sum(math.exp(key @ q) * x for key, x in zip(k, v)) / sum(math.exp(x) for x in k @ q),
            "OverflowError",
        ),
        (lambda q, k, v: torch.zeros(4), "first numbers should be"),
        (lambda q, k, v: 0.0, r"shape should be \(4,\)"),
    ],
    "3.2": [
        (with_scores(lambda s, w, k: s.softmax(-1)), "not scaled"),
        (with_scores(lambda s, w, k: (s / w.shape[1]).softmax(-1)), "divided by D"),
        (with_scores(lambda s, w, k: (s * w.shape[1] ** 0.5).softmax(-1)), "multiplied by sqrt"),
        (with_scores(lambda s, w, k: (s / w.shape[1] ** 0.5).softmax(0)), "softmax runs over queries"),
        (with_scores(lambda s, w, k: (s / len(k) ** 0.5).softmax(-1)), "root of another number"),
        (with_scores(lambda s, w, k: (s / len(w) ** 0.5).softmax(-1)), "root of another number"),
        (lambda w, k, v: with_scores(lambda s, *_: (s / v.shape[1] ** 0.5).softmax(-1))(w, k, v), "root of another"),
        (with_scores(lambda s, w, k: s.softmax(-1) / w.shape[1] ** 0.5), "scaled after the softmax"),
        (with_scores(lambda s, w, k: s / w.shape[1] ** 0.5), "softmax is missing"),
        (lambda w, k, v: attend(w, k, v)[::-1], "swapped"),
        (lambda w, k, v: attend(w, k, v)[0], "Return two things"),
        (lambda w, k, v: (attend(w, k, v)[1] @ k, attend(w, k, v)[1]), "added up the keys"),
        (lambda w, k, v: ((w @ k.T).softmax(-1) @ v, attend(w, k, v)[1]), "not those of attn"),
        (lambda w, k, v: (attend(w, k, v)[0], attend(w, k, v)[1].T), "transpose"),
        (lambda w, k, v: (w + attend(w, k, v)[0], attend(w, k, v)[1]), "out: the values, each times its share"),
        (lambda w, k, v: (0, 0), "shape should be"),
    ],
    "3.3": [
        (256, "variance"),
        (1.0, "after dividing"),
        (1 / 16, "factor that mends"),
        (0, "mean is 0"),
        (4, "Its root"),
        (65_536, "Its root"),
        (17, "sum of 256 terms"),
        ("about 16", "Yours says 'about 16'"),
        (True, "after dividing|256 terms"),
    ],
    "3.4": [
        (filled(-math.inf, invert=True), "mask is inverted"),
        (lambda s, m: s.softmax(-1), "mask does nothing"),
        (lambda s, m: s.softmax(-1) * m[:, None, None], "masked after the softmax"),
        (filled(0.0), "exp.0. = 1"),
        (lambda s, m: (s * m[:, None, None]).softmax(-1), "exp.0. = 1"),
        (filled(-20.0), "fill much lower"),
        (lambda s, m: s.masked_fill(~m, -math.inf).softmax(-1), "lacks two dimensions of one"),
        (lambda s, m: s.masked_fill(~m[:, None], -math.inf).softmax(-1), "lacks two dimensions of one"),
        (lambda s, m: s.masked_fill(~m[:, None, :, None], -math.inf).softmax(-1), "lacks two dimensions of one"),
        (lambda s, m: s.masked_fill(~m[0], -math.inf).softmax(-1), "mask of the first"),
        (lambda s, m: s.masked_fill(~m[:, None, None], -1e9).softmax(-2), "wrong dimension"),
        (lambda s, m: s.masked_fill(~m[:, None, None], -math.inf).softmax(-2), "dim=-1"),
        (lambda s, m: s.masked_fill(~m[:, None, None], -math.inf).log_softmax(-1), "NaN or inf, though"),
        (filled(-math.inf), "Yours is NaN .float32."),
        (filled(-1e9), "multiply by the mask at the end"),
        (filled(-1e9, after=True), "does not fit into fp16"),
        (lambda s, m: masked_softmax(s, m).detach(), "No gradient comes back"),
        (added, "nan_to_num mends it too late"),
        (in_place, "changes its inputs"),
        (unsafe_exp, "It overflows .float32."),
        (added_lowest, "Yours is NaN .float16.: fill with finfo.dtype..min, do not add"),
        (lambda s, m: masked_softmax(s, m).numpy(), "not ndarray"),
        (lambda s, m: torch.zeros_like(s), "very low number, then softmax. At"),
        (lambda s, m: torch.zeros(2, 3), r"shape should be \(2, 3, 4, 5\)"),
    ],
    "3.5": [
        (lambda x, h: x.view(len(x), h, x.shape[1], -1), "words are mixed"),
        (lambda x, h: x.transpose(1, 2).reshape(len(x), h, x.shape[1], -1), "words are mixed"),
        (lambda x, h: x.view(*x.shape[:2], h, -1), r"This is \(B,L,h,d\)"),
        (lambda x, h: x.transpose(1, 2).reshape(len(x), h, -1, x.shape[1]), r"This is \(B,h,d,L\)"),
        (lambda x, h: x.view(*x.shape[:2], -1, h).permute(0, 3, 1, 2), "single numbers here and there"),
        (lambda x, h: split_heads(x, h).flatten(0, 1), r"shape should be \(2, 3, 5, 2\)"),
        (lambda x, h: torch.stack(x.chunk(h, dim=-1)), "before the batch"),
        (lambda x, h: x.chunk(h, dim=-1), "into one tensor"),
        (lambda x, h: x[:, None].expand(-1, h, -1, -1), r"shape should be \(2, 3, 5, 2\)"),
        (lambda x, h: x, r"shape should be \(2, 3, 5, 2\)"),
        (lambda x, h: torch.zeros(2, 3, 5, 2), "Batch 2, L=5, D=6, 3 heads"),
    ],
    "3.6": [
        (lambda s, m: m.flatten()[s.argmax()], "yours takes one"),
        (lambda s, m: float(m[s == s.max()].any()), "One strong pixel inside is enough"),
        (lambda s, m: m[s == s.max()].all(), "all strong pixels must lie inside"),
        (lambda s, m: s[m].sum() / s.sum(), "whole map's sum"),
        (lambda s, m: 1 - pointing(s, m), "mask is inverted"),
        (lambda s, m: pointing(-s, m), "weakest pixels"),
        (lambda s, m: m[s == s.max()].sum(), "This is a count"),
        (lambda s, m: m[s == s.max()].sum() / m.sum(), "mask's area"),
        (lambda s, m: m.float().mean(), "area of the object"),
        (lambda s, m: 1.0, "Maps with 1, 1, 3, 4"),
        (lambda s, m: s == s.max(), "Yours says"),
    ],
    "3.7": [
        (along(3), "One order for the whole batch"),
        (along(0), "shuffled the questions"),
        (along(1), "shuffled heads or words"),
        (along(2), "shuffled heads or words"),
        (shuffled_flat, "left their row"),
        (per_row, "moved differently"),
        (with_replacement, "not places"),
        (lambda a, g: a[..., torch.randperm(8)], "same generator twice"),
        (lambda a, g: a.flip(-1), "Two different generators"),
        (lambda a, g: a, "Nothing moved"),
        (rolled, "You rolled"),
        (shuffled_in_place, "changes its inputs"),
        (lambda a, g: shuffle_maps(a, g)[0], "Return a tensor of the shape"),
        (lambda a, g: shuffle_maps(a, g).softmax(-1), "not places"),
    ],
    "3.8": [
        (lambda x, u, g: x + g.sigmoid() * u, "half open"),
        (lambda x, u, g: (1 - g.tanh()) * x + g.tanh() * u, "fades"),
        (lambda x, u, g: x + g * u, "tanh is missing"),
        (lambda x, u, g: x + (g * u).tanh(), "for the gate alone"),
        (lambda x, u, g: x + g * u.tanh(), "for the gate alone"),
        (lambda x, u, g: g.tanh() * u, "x is missing"),
        (lambda x, u, g: g.tanh() * (x + u), "scales x as well"),
        (lambda x, u, g: x + u, "not used"),
        (lambda x, u, g: x, "or the update"),
        (lambda x, u, g: x + math.tanh(g.item()) * u, "no gradient reaches the gate"),
        (lambda x, u, g: x + g.detach().tanh() * u, "no gradient reaches the gate"),
        (gated_special, "make no special case"),
        (lambda x, u, g: x.add_(g.tanh() * u), "changes its inputs"),
    ],
    "3.9": [
        (lambda L, P, D: cross_flops(L, P, D) // 2, "Half of it"),
        (lambda L, P, D: cross_flops(L, P, D) - 2 * L * D * D, "Projections are missing"),
        (lambda L, P, D: 4 * L * P * D, "products alone"),
        (lambda L, P, D: 2 * (L + P) * D * D + 4 * L * P * D, "Projections are missing"),
        (lambda L, P, D: 4 * (L + P) * D * D, "two products"),
        (lambda L, P, D: 8 * (L + P) * D * D + 4 * (L + P) ** 2 * D, "one stream"),
        (lambda L, P, D: 8 * P * D * D + 4 * P * P * D, "patches read patches"),
        (lambda L, P, D: 8 * L * D * D + 4 * L * P * D, "In yours all four"),
        (lambda L, P, D: 8 * P * D * D + 4 * L * P * D, "In yours all four"),
        (lambda L, P, D: cross_flops(L, P, D) - 2 * L * P * D, "two products"),
        (lambda L, P, D: 4 * (L + P) * D + 4 * L * P * D, "L=5, P=16, D=8: 7,936 operations"),
        (lambda L, P, D: 8448, "operations. Yours says"),
        (lambda L, P, D: (L, P), "Yours says"),
    ],
    "3.10": [
        (lambda attend: True, "never calls"),
        (lambda attend: reads_only_what_it_may(lambda w, s, m: w), "never calls"),
        (finite, "accepts every attend"),
        (right_shape, "accepts every attend"),
        (lambda attend: not finite(attend), "rejects a sound attend, written out"),
        (only_masked, "accepts 2 of 9 broken ones. One never looks.*each must do something"),
        (all_real, "accepts 8 of 9 broken ones. One has the mask inverted"),
        (one_question, "accepts 1 of 9 broken ones.*Use different masks. Change the places"),
        (with_nan, "rejects a sound attend.*0 . nan is nan"),
        (with_reference, "rejects a sound attend.*weights of its own"),
        (asserts, "no assert"),
        (
            lambda attend: attend(torch.randn(1, 2, 4), torch.randn(1, 3, 4), torch.ones(1, 3).bool()),
            "Return True or False",
        ),
        (lambda attend: print(finite(attend)), "gave back nothing"),
    ],
}


class TestContract(Contract):
    checks, right, wrong, values = checks, RIGHT, WRONG, VALUES


CONSTANTS = (
    0,
    1.0,
    True,
    torch.zeros(()),
    torch.zeros(2, 3, 4, 5),
    (torch.zeros(5, 4), torch.zeros(5, 3)),
    "x",
    [],
    {},
)


@pytest.mark.parametrize("number", sorted(set(BY_NUMBER) - set(VALUES)))
@pytest.mark.parametrize("constant", range(len(CONSTANTS)))
def test_no_constant_passes(number, constant):
    with pytest.raises(WrongAnswer):
        BY_NUMBER[number](lambda *arguments: CONSTANTS[constant])


@pytest.mark.parametrize("number", sorted(set(BY_NUMBER) - {*VALUES, "3.9", "3.10"}))
def test_an_answer_that_empties_its_inputs_does_not_corrupt_the_check(number):
    right = next(answers[0] for key, answers in RIGHT if key == number)

    def empties(*arguments):
        value = right(*arguments)
        for argument in arguments:
            if torch.is_tensor(argument):
                argument.zero_()
        return value

    with pytest.raises(WrongAnswer, match="changes its inputs"):
        BY_NUMBER[number](empties)
    assert BY_NUMBER[number](right) is True


@pytest.mark.parametrize("number", ["3.7", "3.10"])
def test_the_lessons_random_numbers_are_left_alone(number):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    BY_NUMBER[number](next(answers[0] for key, answers in RIGHT if key == number))
    assert torch.equal(torch.rand(3), expected)


def test_the_formula_of_costs_is_what_torch_counts():
    module = nn.MultiheadAttention(32, 4, batch_first=True)
    with FlopCounterMode(display=False) as counter:
        module(torch.randn(1, 5, 32), torch.randn(1, 40, 32), torch.randn(1, 40, 32))
    assert counter.get_total_flops() == cross_flops(5, 40, 32) == cross_flops_counted(5, 40, 32)
