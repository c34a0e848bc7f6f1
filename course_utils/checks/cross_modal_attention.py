"""Checks of lesson 03: attention by hand and masked, heads, pointing, shuffled maps, gates, costs, a test of a mask.

Functions are tried on seeded tensors whose dimensions differ. Likely mistakes are listed: message -> value or values.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from course_utils.checks._outcome import WrongAnswer, call, close, exercise, expect, judge, numbers, run, shown, verdict


@exercise("03", "3.1")
def check_attend_one(answer: Callable) -> None:
    """attend_one(query (D,), keys (P,D), values (P,D)) -> (D,): shares by the plain products, not scaled yet."""
    loud = torch.tensor([[20.0, 0, 0, 0], [19.96875, 0, 1, 0], [-20, 1, 0, 0]])  # products 800, 798.75, -800
    cases = [(_randn(1, 4), _randn(2, 6, 4), _randn(3, 6, 4)), (_randn(4, 7), _randn(5, 3, 7), _randn(6, 3, 7))]
    for query, keys, values in [*cases, (torch.tensor([40.0, 0, 0, 0]), loud, _randn(7, 3, 4))]:
        products, width = keys @ query, len(query)  # (P,D) @ (D,) -> (P,)
        shares = products.softmax(dim=0)
        wanted = shares @ values
        mistakes = {
            "You scaled the products. Scaling comes in the next section; here the plain products count.":
                ((products / width**0.5).softmax(dim=0) @ values, (products / width).softmax(dim=0) @ values),
            "The products themselves are your weights. Softmax turns them into shares that add up to 1.":
                (products @ values, products / products.sum() @ values, products.sigmoid() @ values),
            "These are the products. Make shares of them with softmax, then add up the values.": products,
            "These are the shares, and they are right. Now add up the values, each times its share.": shares,
            "These are the P values, each times its share. Add them up: (D,).": shares[:, None] * values,
            "You added up the keys. Keys decide the shares; what is read are the values.": shares @ keys,
            "All places count alike in yours: where does the query enter?": (values.mean(dim=0), values.sum(dim=0)),
            "This is the value of the best place alone. Softmax lets the others speak too.": values[products.argmax()],
            "You made the lengths one first (a cosine). Here the plain products count.":
                torch.cosine_similarity(keys, query[None]).softmax(dim=0) @ values,
            "The sign is turned: a large product must give a large share.": (-products).softmax(dim=0) @ values,
        }  # fmt: skip
        infinite = "It overflows: exp(800) is too large. Subtract the largest product first, or use softmax."
        otherwise = f"The first numbers should be {', '.join(f'{number:.3f}' for number in wanted[:3].tolist())}."
        judge(call(answer, query, keys, values), wanted, mistakes, otherwise, infinite)


@exercise("03", "3.2")
def check_attend(answer: Callable) -> None:
    """attend(queries (L,D), keys (P,D), values (P,Dv)) -> out (L,Dv), attn (L,P), scaled by sqrt(D)."""
    for length, patches, width in ((5, 3, 4), (2, 6, 9)):
        words, keys, values = (_randn(sum(x), *x) for x in ((length, width), (patches, width), (patches, width + 1)))
        scores = words @ keys.T  # (L,D) @ (D,P) -> (L,P)
        scaled, plain = scores / width**0.5, scores.softmax(dim=-1)
        attn = scaled.softmax(dim=-1)
        pair = numbers(call(answer, words, keys, values), 2, "Return two things, out (L,Dv) and attn (L,P).")
        shapes = [tuple(getattr(one, "shape", ())) for one in pair]
        expect(shapes != [attn.shape, (length, width + 1)], "The two results are swapped: out first, then attn.")
        mistakes = {
            "attn: not scaled. Divide the products by sqrt(D) before the softmax.": plain,
            "attn: divided by D. Products spread like sqrt(D): divide by that.": (scores / width).softmax(dim=-1),
            "attn: multiplied by sqrt(D). Divide.": (scores * width**0.5).softmax(dim=-1),
            "attn: the softmax runs over queries. Each query shares itself out over places: dim=-1.":
                (scaled.softmax(dim=0), scores.softmax(dim=0)),
            "attn: scaled by the root of another number (of queries, places, or a value's width). D is a key's width.":
                tuple((scores / n**0.5).softmax(dim=-1) for n in (patches, length, width + 1)),
            "attn: scaled after the softmax, so rows no longer add up to 1. Scale the products.":
                (attn / width**0.5, plain / width**0.5),
            "attn: these are the products. The softmax is missing.": (scaled, scores),
            "attn: this is the transpose. Rows are queries, columns places.": (attn.T, scaled.T.softmax(dim=-1)),
        }  # fmt: skip
        judge(pair[1], attn, mistakes, "attn: products of queries and keys, divided by sqrt(D), softmax along places.")
        mistakes = {
            "out: you added up the keys. What is read are the values.": attn @ keys,
            "out: its shares are not those of attn, they are not scaled.": plain @ values,
        }
        judge(pair[0], attn @ values, mistakes, "out: the values, each times its share in attn, added up.")


@exercise("03", "3.3")
def check_spread(answer: object) -> None:
    """Standard deviation of a product of 256 independent pairs of standard normals: 16."""
    mistakes = {
        "This is the variance. The standard deviation is its square root.": 256,
        "This is the spread after dividing by sqrt(D). Before it?": 1,
        "This is the factor that mends it. The spread itself is asked.": (1 / 16, 1 / 256),
        "The mean is 0. Asked is how far a product lies from it, typically.": 0,
        "256 terms of variance 1 add up to a variance of 256. Its root is the standard deviation.": (4, 256**2),
    }
    rounded = not isinstance(answer, (str, bool)) and close(answer, 16.0, 5e-3)
    judge(16 if rounded else answer, 16, mistakes, "A product is a sum of 256 terms, each of variance 1.")


@exercise("03", "3.4")
def check_masked_softmax(answer: Callable) -> None:
    """masked_softmax(scores (B,h,L,P), mask (B,P)) -> shares (B,h,L,P); all zeros where nothing may be read."""
    scores, mask = 3 * _randn(10, 2, 3, 4, 5), torch.tensor([[True, True, False, True, False], [False] + [True] * 4])
    may, soft = mask[:, None, None, :], scores.softmax(dim=-1)  # (B,1,1,P), (B,h,L,P)
    filled = scores - 1e9 * ~may
    wanted = filled.softmax(dim=-1)
    mistakes = {
        "The mask is inverted: True means that a place may be read. Fill where it is False, ~mask.":
            ((scores - 1e9 * may).softmax(dim=-1), soft * ~may),
        "The mask does nothing in yours: what may not be read still gets a share.": soft,
        "You masked after the softmax, and rows no longer add up to 1. Mask the scores before it.": soft * may,
        "A score of 0 still gets a share: exp(0) = 1. Fill with a very low number.": (scores * may).softmax(dim=-1),
        "The softmax runs along the wrong dimension. Places are the last: dim=-1.":
            (filled.softmax(dim=-2), filled.softmax(dim=-2) * may, filled.softmax(dim=1), filled.softmax(dim=1) * may),
        "Every question uses the mask of the first. Each has its own.": (scores - 1e9 * ~mask[0]).softmax(dim=-1),
    }  # fmt: skip
    value = _masked(answer, scores, mask, call)
    infinite = "NaN or inf, though every row has something to read: take the softmax over dim=-1."
    judge(value, wanted, mistakes, "Fill what may not be read with a very low number, then softmax.", infinite)
    expect(not (value * ~may).any(), "A small share leaks to what may not be read. It must be 0: fill much lower.")
    mask = torch.tensor([[True] * 5, [False] * 5])  # the second question may read nothing
    nothing = "A row in which nothing may be read must be all zeros."
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        few, kind = (20 * scores).to(dtype), str(dtype).removeprefix("torch.")  # up to 100: exp overflows
        value = _masked(answer, few, mask, call)
        expect(value[0].isfinite().all(), f"It overflows ({kind}): exp of a large score. Softmax itself is safe.")
        expect(value.isfinite().all(), f"{nothing} Yours is NaN ({kind}): fill with finfo(dtype).min, do not add -inf.")
        expect(not value[1].any(), f"{nothing} Yours shares itself out all the same: multiply by the mask at the end.")
        wanted = few.float().softmax(dim=-1) * mask[:, None, None, :]
        judge(value.to(dtype), wanted, {}, f"{nothing} The others stay as they are ({kind}).")
    leaf = scores.clone().requires_grad_()
    with torch.enable_grad():
        value = _masked(answer, leaf, mask, run)
        expect(value.requires_grad, "No gradient comes back: .detach(), .data or .numpy() cut it off.")
        (gradient,) = torch.autograd.grad((value * _randn(11, *value.shape)).sum(), leaf)
    expect(gradient.isfinite().all(), "The gradient is NaN: nan_to_num mends it too late. Fill with finfo(dtype).min.")


@exercise("03", "3.5")
def check_split_heads(answer: Callable) -> None:
    """split_heads(x (B,L,D), heads) -> (B,h,L,D/h): head i holds the i-th slice of each word."""
    for seed, size, length, width, heads in ((12, 2, 5, 6, 3), (13, 3, 4, 8, 2)):
        x, few = _randn(seed, size, length, width), width // heads
        wanted = torch.stack(x.chunk(heads, dim=-1), dim=1)  # (B,h,L,d)
        mistakes = {
            "The shape is right, but words are mixed: view as (B,L,h,d) first, then swap two dimensions.":
                (x.view(size, heads, length, few), x.transpose(1, 2).reshape(size, heads, length, few)),
            "This is (B,L,h,d). Swap words and heads: transpose(1, 2).": x.view(size, length, heads, few),
            "This is (B,h,d,L): a word's numbers should be last.": wanted.transpose(2, 3),
            "Your heads pick single numbers here and there. A head is a whole slice: view as (B,L,h,d), not (B,L,d,h).":
                x.view(size, length, few, heads).permute(0, 3, 1, 2),
            "Heads stand before the batch in yours: (B,h,L,d).": wanted.transpose(0, 1),
        }  # fmt: skip
        value = call(answer, x, heads)
        expect(not isinstance(value, (list, tuple)), "Put your pieces into one tensor: torch.stack(pieces, dim=1).")
        judge(value, wanted, mistakes, f"Batch {size}, L={length}, D={width}, {heads} heads: {tuple(wanted.shape)}.")


@exercise("03", "3.6")
def check_pointing(answer: Callable) -> None:
    """pointing(saliency (H,W), mask (H,W) bool) -> share of the strongest pixels that lie in the mask."""
    maps = [_randn(14 + k, 4, 6).abs() + 0.1 for k in range(4)] + [torch.full((4, 6), x) for x in (0.25, 1.5)]
    masks = [_randn(24 + k, 4, 6) > 0.3 for k in range(6)]
    for one, mask, (inside, outside) in zip(maps, masks, ((1, 0), (0, 1), (2, 1), (1, 3))):  # how many are strongest
        for part, many in ((mask, inside), (~mask, outside)):
            one[tuple(part.nonzero()[1 : 1 + many].T)] = 5.0
    judges = {  # of saliency s, mask m and t, True at the strongest pixels
        "Of equally strong pixels yours takes one. Count the share of them that lies inside.": lambda s, m, t: m[t][0],
        "One strong pixel inside is enough in yours. The share of them counts.": lambda s, m, t: m[t].any(),
        "In yours all strong pixels must lie inside. The share of them counts.": lambda s, m, t: m[t].all(),
        "This is the share of the whole map's sum. Only the strongest count.": lambda s, m, t: s[m].sum() / s.sum(),
        "The mask is inverted: this is the share outside.": lambda s, m, t: 1 - m[t].float().mean(),
        "These are the weakest pixels. Look at the largest.": lambda s, m, t: m[s == s.min()].float().mean(),
        "This is a count. Divide by the number of strongest pixels.": lambda s, m, t: m[t].sum(),
        "You divided by the mask's area. Divide by how many are strongest.": lambda s, m, t: m[t].sum() / m.sum(),
        "This is the area of the object, whatever the map says.": lambda s, m, t: m.float().mean(),
        "right": lambda s, m, t: m[t].float().mean(),
    }  # fmt: skip
    mistakes = {message: [float(of(s, m, s == s.max())) for s, m in zip(maps, masks)] for message, of in judges.items()}
    got, wanted = [call(answer, s, m) for s, m in zip(maps, masks)], mistakes.pop("right")
    judge(got, wanted, mistakes, f"Maps with 1, 1, 3, 4, 24, 24 strongest pixels: {', '.join(map(shown, wanted))}.")


@exercise("03", "3.7")
def check_shuffle_maps(answer: Callable) -> None:
    """shuffle_maps(attn (B,h,L,P), generator) -> attn with each question's patches in an order of its own."""
    attn = _randn(30, 6, 2, 3, 8).softmax(dim=-1)  # all entries differ
    with torch.random.fork_rng(devices=[]):  # the lesson's own draws stay as they are
        value, again, other = (call(answer, attn, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    same_shape = all(getattr(one, "shape", ()) == attn.shape for one in (value, again, other))
    expect(same_shape, "Return a tensor of the shape of attn, (B,h,L,P).")
    expect(not torch.equal(value, attn), "Nothing moved: the maps came back as they were.")
    hand = "hand the generator on, torch.randperm(P, generator=generator)."
    expect(torch.equal(value, again), f"The same generator twice, and two different results: {hand}")
    expect(not torch.equal(value, other), f"Two different generators give the same order: {hand}")
    for moved in (value, other):
        kept = [torch.allclose(moved.sort(dim=k).values, attn.sort(dim=k).values) for k in range(4)]
        if not kept[3]:
            expect(not kept[0], "You shuffled the questions. Each keeps its own weights; only their places change.")
            expect(not kept[1] and not kept[2], "You shuffled heads or words. Move weights to other places, dim=-1.")
            whole = torch.allclose(moved.flatten().sort().values, attn.flatten().sort().values)
            expect(not whole, "Weights left their row. Shuffle along the last dimension alone.")
            raise WrongAnswer("Some weights are gone, or changed. Draw an order (randperm), not places (randint).")
        order = torch.empty_like(attn, dtype=torch.long)
        order.scatter_(-1, moved.argsort(dim=-1), attn.argsort(dim=-1))  # (B,h,L,P) which place a weight came from
        one = "Words or heads of one question moved differently. What stood on one place must land on one place."
        expect((order == order[:, :1, :1]).all(), one)
        expect(not (order == order[:1]).all(), "One order for the whole batch. Each question needs its own.")
        steps = order.diff(dim=-1) % 8
        expect(not (steps == 1).all(), "You rolled: neighbours stay neighbours. Draw any order, randperm.")


@exercise("03", "3.8")
def check_gated(answer: Callable) -> None:
    """gated(x (B,L,D), update (B,L,D), gate scalar) -> x + tanh(gate) * update, with a gradient for the gate."""
    x, update = _randn(40, 2, 3, 4), _randn(41, 2, 3, 4)
    for number in (0.5, -1.2, 2.0, 0.0):
        gate = torch.tensor(number)
        t, s = gate.tanh(), gate.sigmoid()
        mistakes = {
            "A sigmoid is half open at 0. tanh(0) is 0: the door starts shut.":
                (x + s * update, s * x + (1 - s) * update, (1 - s) * x + s * update),
            "x fades as the door opens in yours. It stays whole, and the update is added.": (1 - t) * x + t * update,
            "The tanh is missing: without it the gate has no bound.": x + gate * update,
            "tanh is for the gate alone, not for the update.":
                (x + (gate * update).tanh(), x + gate * update.tanh(), x + t * update.tanh()),
            "x is missing: the update is added to it.": t * update,
            "The gate scales x as well. Only the update passes the door.": (t * (x + update), t * x + update),
            "The gate is not used, or the update: the door must stand as open as the gate says.": (x + update, x),
        }  # fmt: skip
        value = call(answer, x, update, gate)
        judge(value, x + t * update, mistakes, f"At gate {number} the update enters times {float(t):.3f}.")
    expect(close(value, x, 0), "At gate 0 the result must be x exactly, to the last digit.")
    for number in (0.5, 0.0):
        why = "float(), .item() and .detach() cut it off" if number else "make no special case of 0"
        cut = f"At gate {number} no gradient reaches the gate, so the door cannot learn to open: {why}."
        gate = torch.tensor(number, requires_grad=True)
        with torch.enable_grad():
            value = run(answer, x.clone(), update.clone(), gate)
            expect(getattr(value, "requires_grad", False), cut)
            (gradient,) = torch.autograd.grad((value * update).sum(), gate, allow_unused=True)
        expect(gradient is not None and gradient != 0, cut)


@exercise("03", "3.9")
def check_cross_flops(answer: Callable) -> None:
    """cross_flops(L, P, D) -> operations of one cross-attention with its four projections."""
    for length, patches, width in ((5, 16, 8), (7, 1024, 128), (12, 5, 64)):
        of_word, of_patch, product = 2 * length * width**2, 2 * patches * width**2, 2 * length * patches * width
        wanted, joint = 2 * (of_word + of_patch + product), length + patches
        mistakes = {
            "Half of it: a multiplication and an addition are two operations.": wanted / 2,
            "Projections are missing. There are four: query and out for words, key and value for patches.":
                (wanted - of_word, wanted - of_patch, wanted - of_word - of_patch, (wanted - of_word) / 2),
            "There are two products: queries with keys, shares with values.": (wanted - product, wanted - 2 * product),
            "The products alone. Add the four projections.": (2 * product, product),
            "This is one stream, in which L + P tokens read all of them. Here L words read P patches.":
                8 * joint * width**2 + 4 * joint**2 * width,
            "In yours patches read patches. Here L words read P patches.": 4 * of_patch + 4 * patches**2 * width,
            "Query and out are made for L words, key and value for P patches. In yours all four are for one of them.":
                (4 * of_word + 2 * product, 4 * of_patch + 2 * product),
        }  # fmt: skip
        value = call(answer, length, patches, width)
        judge(value, wanted, mistakes, f"L={length}, P={patches}, D={width}: {wanted:,} operations.")


@exercise("03", "3.10")
def check_reads_only_what_it_may(answer: Callable) -> None:
    """reads_only_what_it_may(attend) -> bool, for attend(words (B,L,D), source (B,P,D), mask (B,P)) -> (B,L,D)."""
    look = "Change what stands at masked places, by a lot: nothing may happen."
    read = "Change the places that may be read one at a time: each must do something."
    wrong = {
        "never looks at the source": (lambda words, source, mask: words + 0 * source.sum(), read),
        "has the mask inverted": (_on(lambda scores, mask: scores.masked_fill(mask, -1e9)), f"{look} {read}"),
        "ignores the mask": (_on(lambda scores, mask: scores), look),
        "fills with 0": (_on(lambda scores, mask: scores * mask), look),
        "fills with -5, so a little leaks": (_on(lambda scores, mask: scores.masked_fill(~mask, -5.0)), look),
        "masks after the softmax and lets rows shrink": (_on(lambda scores, mask: scores, lambda mask: mask), look),
        "uses the first question's mask for all":
            (_on(lambda scores, mask: scores.masked_fill(~mask[:1], -1e9)), f"Use different masks. {read}"),
        "shifts the mask by one place": (_on(lambda scores, mask: scores.masked_fill(~mask.roll(1, -1), -1e9)), look),
        "leaves out the first place that may be read":
            (_on(lambda scores, mask: scores.masked_fill(~mask | (mask.cumsum(-1) == 1), -1e9)), read),
    }  # fmt: skip
    sound = {
        "written out as in the lesson": _on(lambda scores, mask: scores.masked_fill(~mask, -1e9)),
        "torch's scaled_dot_product_attention":
            lambda words, source, mask: scaled_dot_product_attention(words, source, source, mask[:, None]),
        "torch's MultiheadAttention, which has weights of its own": _of_torch,
    }  # fmt: skip
    for words, attend in sound.items():
        verdict, seen = _verdict(answer, attend)
        expect(seen, "Your test never calls the attend that it is given. Use its argument.")
        hint = "Compare two of its own outputs, with torch.allclose, and keep at least one place a question to read."
        if not all(source.isfinite().all() for source in seen):
            hint = "NaN or inf at a masked place reaches every output, as 0 * nan is nan. Use large numbers."
        expect(verdict, f"Your test rejects a sound attend, {words}. {hint}")
    fooled = [f"{words}. {hint}" for words, (attend, hint) in wrong.items() if _verdict(answer, attend)[0]]
    expect(len(fooled) < len(wrong), "Your test accepts every attend, even one that never looks. What does it compare?")
    expect(not fooled, f"Your test accepts {len(fooled)} of {len(wrong)} broken ones. One {''.join(fooled[:1])}")


def _on(fill: Callable, after: Callable = lambda mask: 1) -> Callable:
    """An attend whose scores (B,L,P) pass through fill(scores, mask (B,1,P)) before the softmax."""

    def attend(words, source, mask):
        scores, mask = words @ source.transpose(1, 2) / words.shape[-1] ** 0.5, mask[:, None, :]  # (B,L,P), (B,1,P)
        return fill(scores, mask).softmax(dim=-1) * after(mask) @ source  # (B,L,P) @ (B,P,D) -> (B,L,D)

    return attend


def _of_torch(words, source, mask):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = nn.MultiheadAttention(words.shape[-1], 1, batch_first=True).to(words.dtype)
    return module(words, source, source, key_padding_mask=~mask, need_weights=False)[0].nan_to_num()


def _verdict(answer: Callable, attend: Callable) -> tuple[bool, list]:
    """What the learner's test says of an attend, and the sources that it gave to it."""
    seen = []

    def watched(words, source, mask):
        seen.append(source.detach().clone())
        return attend(words, source, mask)

    return verdict(answer, watched), seen


def _masked(answer: Callable, scores: torch.Tensor, mask: torch.Tensor, how: Callable) -> torch.Tensor:
    """The learner's shares; errors that shapes and fp16 raise get their reason."""
    try:
        value = how(answer, scores, mask)
    except RuntimeError as error:
        sizes = any(part in str(error) for part in ("must match", "broadcast", "expanded size", "non-singleton"))
        expect(not sizes, "mask is (B,P), scores are (B,h,L,P): it lacks two dimensions of one, mask[:, None, None].")
        large = "-1e9 does not fit into fp16, whose largest number is 65,504. Ask torch.finfo(scores.dtype).min."
        expect("overflow" not in str(error), large)
        raise
    expect(torch.is_tensor(value), f"Return a tensor that a gradient can pass, not {type(value).__name__}.")
    return value


def _randn(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
