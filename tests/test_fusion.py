"""Eight fusions under one interface: each equal to its formula in torch's words, all alike in what is absent."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from course_utils import fusion

SHAPES = [(m, widths) for m in fusion.METHODS for widths in ((5, 3), (4, 2, 6))]


def made(method, widths, classes=3, hidden=6, seed=0):
    torch.manual_seed(seed)
    model = fusion.build(method, widths, classes, hidden=hidden, rank=3)
    for parameter in model.parameters():  # no zero biases or equal weights, behind which a mistake could hide
        torch.nn.init.normal_(parameter, std=0.5)
    return model.double(), [torch.randn(7, d, dtype=torch.double) for d in widths]


def embedded(model, inputs):
    return [encoder(x) for encoder, x in zip(model.encoders, inputs)]


def with_one(rows):
    return torch.cat([rows, torch.ones(len(rows), 1, dtype=rows.dtype)], dim=1)


# Each method against its formula


@pytest.mark.parametrize("widths", [(5, 3), (4, 2, 6)])
def test_early_is_one_network_over_the_inputs_side_by_side(widths):
    model, inputs = made("early", widths)
    (w1, b1, w2, b2, w3, b3), x = model.parameters(), torch.cat(inputs, dim=1)
    wanted = F.linear(F.gelu(F.linear(F.gelu(F.linear(x, w1, b1)), w2, b2)), w3, b3)
    torch.testing.assert_close(model(inputs), wanted)


@pytest.mark.parametrize("widths", [(5, 3), (4, 2, 6)])
def test_late_is_the_mean_of_classifiers_that_never_meet(widths):
    model, inputs = made("late", widths)
    logits = [head(rows) for head, rows in zip(model.heads, embedded(model, inputs))]
    torch.testing.assert_close(model(inputs), torch.stack(logits).mean(dim=0))
    moved = [inputs[0] + 1, *inputs[1:]]
    change = model(moved) - model(inputs)
    elsewhere = [inputs[0], *(x.flip(0) for x in inputs[1:])]
    torch.testing.assert_close(model([moved[0], *elsewhere[1:]]) - model(elsewhere), change)


@pytest.mark.parametrize("widths", [(5, 3), (4, 2, 6)])
def test_hybrid_is_the_mean_of_early_and_late(widths):
    model, inputs = made("hybrid", widths)
    torch.testing.assert_close(model(inputs), (model.early(inputs) + model.late(inputs)) / 2)


def test_weighted_is_alpha_v_plus_beta_t():
    model, inputs = made("weighted", (5, 3))
    v, t = embedded(model, inputs)
    alpha, beta = model.weights
    torch.testing.assert_close(model(inputs), model.head(alpha * v + beta * t))
    torch.testing.assert_close(model(inputs), model.head(torch.lerp(t, v, alpha)))
    assert torch.isclose(alpha + beta, torch.ones_like(alpha))
    assert min(alpha, beta) > 0


def test_weighted_mean_is_numpys_for_three():
    model, inputs = made("weighted", (4, 2, 6))
    rows = torch.stack(embedded(model, inputs)).detach().numpy()
    mean = np.average(rows, axis=0, weights=model.weights.detach().numpy())
    torch.testing.assert_close(model(inputs), model.head(torch.from_numpy(mean)))


def test_gated_is_the_gated_multimodal_unit_of_its_paper():
    """Arevalo et al. 2017, section 3.1: h_v = tanh(W_v x_v), z = sigmoid(W_z [x_v, x_t]), h = z h_v + (1 - z) h_t."""
    model, (v, t) = made("gated", (5, 3))
    first, second = model.scores.weight.chunk(2)
    difference = F.linear(torch.cat([v, t], dim=1), first - second, torch.sub(*model.scores.bias.chunk(2)))
    z = torch.sigmoid(difference)  # a softmax over two scores is the sigmoid of their difference
    h_v, h_t = (torch.tanh(F.linear(x, e[0].weight, e[0].bias)) for x, e in zip((v, t), model.encoders))
    torch.testing.assert_close(model([v, t]), model.head(z * h_v + (1 - z) * h_t))
    torch.testing.assert_close(model.gates([v, t]), torch.stack([z, 1 - z], dim=1))


@pytest.mark.parametrize("widths", [(5, 3), (4, 2, 6)])
def test_gates_lie_between_zero_and_one_and_add_up(widths):
    model, inputs = made("gated", widths)
    gates = model.gates(inputs)
    assert gates.shape == (7, len(widths), 6)
    assert ((gates > 0) & (gates < 1)).all()
    torch.testing.assert_close(gates.sum(dim=1), torch.ones_like(gates[:, 0]))
    present = torch.ones(7, len(widths), dtype=torch.bool)
    present[2, 0] = False
    hidden = model.gates(inputs, present)
    assert (hidden[2, 0] == 0).all()
    torch.testing.assert_close(hidden.sum(dim=1), torch.ones_like(gates[:, 0]))
    torch.testing.assert_close(hidden[3:], gates[3:])


def test_bilinear_is_torchs_and_for_three_the_sum_over_pairs():
    model, inputs = made("bilinear", (5, 3))
    v, t = embedded(model, inputs)
    (form,) = model.forms
    torch.testing.assert_close(model(inputs), F.bilinear(v, t, form.weight, form.bias))
    torch.testing.assert_close(model(inputs), torch.einsum("bi,cij,bj->bc", v, form.weight, t) + form.bias)
    model, inputs = made("bilinear", (4, 2, 6))
    x = embedded(model, inputs)
    wanted = sum(F.bilinear(x[i], x[j], f.weight, f.bias) for f, (i, j) in zip(model.forms, [(0, 1), (0, 2), (1, 2)]))
    torch.testing.assert_close(model(inputs), wanted)


@pytest.mark.parametrize("widths", [(5, 3), (4, 2, 6)])
def test_tensor_is_the_outer_product_with_ones(widths):
    model, inputs = made("tensor", widths)
    rows = [with_one(x) for x in embedded(model, inputs)]
    for b in range(7):
        product = rows[0][b]
        for row in rows[1:]:
            product = torch.kron(product, row[b])
        torch.testing.assert_close(model(inputs)[b], model.head(product))


@pytest.mark.parametrize("widths", [(5, 3), (4, 2, 6)])
def test_low_rank_equals_the_full_tensor_it_stands_for(widths):
    """In value, and in gradient at the inputs: tensor fusion whose weights are the summed outer products."""
    model, inputs = made("low_rank", widths)
    full, _ = made("tensor", widths)
    letters = "ijk"[: len(widths)]
    whole = torch.einsum(",".join(f"r{x}c" for x in letters) + f"->c{letters}", *model.factors)  # (C,H+1,...,H+1)
    full.encoders.load_state_dict(model.encoders.state_dict())
    with torch.no_grad():
        full.head.weight.copy_(whole.flatten(1))
        full.head.bias.copy_(model.bias)
    for x in inputs:
        x.requires_grad_()
    torch.testing.assert_close(model(inputs), full(inputs))
    for mine, theirs in zip(*(torch.autograd.grad(net(inputs).square().sum(), inputs) for net in (model, full))):
        torch.testing.assert_close(mine, theirs)


def test_low_rank_grows_with_the_sum_of_widths_and_tensor_with_their_product():
    def count(method, modalities, hidden):
        model = fusion.build(method, (3,) * modalities, 5, hidden=hidden, rank=4)
        return sum(p.numel() for p in model.parameters()) - sum(p.numel() for p in model.encoders.parameters())

    assert count("tensor", 2, 31) == 32 * 32 * 5 + 5
    assert count("tensor", 3, 15) == 16**3 * 5 + 5
    assert count("low_rank", 2, 31) == 4 * (32 + 32) * 5 + 5
    assert count("low_rank", 3, 15) == 4 * (16 + 16 + 16) * 5 + 5


# The interface


@pytest.mark.parametrize(("method", "widths"), SHAPES)
def test_gradients_reach_every_modality_that_is_there_and_none_that_is_not(method, widths):
    model, inputs = made(method, widths)
    rng = torch.Generator().manual_seed(1)
    present = torch.rand(7, len(widths), generator=rng) > 0.4
    present[:3] = torch.eye(len(widths), dtype=torch.bool).repeat(2, 1)[:3]  # some have one modality alone
    for x in inputs:
        x.requires_grad_()
    model(inputs, present).square().sum().backward()
    for x, here in zip(inputs, present.T):
        assert ((x.grad != 0).any(dim=1) == here).all()


@pytest.mark.parametrize(("method", "widths"), SHAPES)
def test_every_parameter_learns(method, widths):
    model, inputs = made(method, widths)
    model(inputs).square().sum().backward()
    assert all((p.grad != 0).any() for p in model.parameters())


@pytest.mark.parametrize(("method", "widths"), SHAPES)
def test_what_stands_in_an_absent_input_does_not_matter(method, widths):
    model, inputs = made(method, widths)
    present = torch.ones(7, len(widths), dtype=torch.bool)
    present[1:4, 1] = False
    there = model(inputs, present)
    broken = [x.clone() for x in inputs]
    broken[1][1:4] = float("nan")
    for x in broken:
        x.requires_grad_()
    logits = model(broken, present)
    torch.testing.assert_close(logits, there)
    logits.sum().backward()
    assert all(x.grad.isfinite().all() for x in broken)
    assert all(p.grad.isfinite().all() for p in model.parameters())
    whole = model(inputs)
    torch.testing.assert_close(there[4:], whole[4:])
    assert not torch.isclose(there[1:4], whole[1:4]).all()
    torch.testing.assert_close(model(inputs, torch.ones_like(present)), whole)


@pytest.mark.parametrize(("method", "widths"), SHAPES)
def test_examples_do_not_see_each_other(method, widths):
    model, inputs = made(method, widths)
    order = torch.tensor([3, 0, 6, 2, 5, 1, 4])
    present = torch.rand(7, len(widths), generator=torch.Generator().manual_seed(2)) > 0.3
    permuted = model([x[order] for x in inputs], present[order])
    torch.testing.assert_close(permuted, model(inputs, present)[order])
    torch.testing.assert_close(model([x[:1] for x in inputs], present[:1]), model(inputs, present)[:1])


@pytest.mark.parametrize("method", ["late", "weighted", "gated"])
def test_methods_that_average_leave_the_absent_out(method):
    """With one modality alone there is nothing to average: its own classifier, its own embedding."""
    model, inputs = made(method, (5, 3))
    alone = torch.tensor([[False, True]]).expand(7, 2)
    own = model.encoders[1](inputs[1])
    wanted = model.heads[1](own) if method == "late" else model.head(own)
    torch.testing.assert_close(model(inputs, alone), wanted)


def test_weights_of_the_others_add_up_again():
    model, inputs = made("weighted", (4, 2, 6))
    present = torch.tensor([[True, False, True]]).expand(7, 3)
    a, _, c = model.weights
    v, _, t = embedded(model, inputs)
    torch.testing.assert_close(model(inputs, present), model.head((a * v + c * t) / (a + c)))


@pytest.mark.parametrize("method", fusion.METHODS)
def test_with_nothing_present_the_answer_is_a_constant_without_nan(method):
    model, inputs = made(method, (5, 3))
    logits = model(inputs, torch.zeros(7, 2, dtype=torch.bool))
    assert logits.isfinite().all()
    torch.testing.assert_close(logits, logits[:1].expand(7, -1))


@pytest.mark.parametrize("method", [m for m in fusion.METHODS if m != "bilinear"])
def test_one_modality_alone_is_a_classifier(method):
    model, inputs = made(method, (5,))
    assert model(inputs).shape == (7, 3)


def test_joins_stay_finite_in_bfloat16():
    for method in fusion.METHODS:
        model, inputs = made(method, (5, 3))
        assert model.bfloat16()([x.bfloat16() for x in inputs]).isfinite().all(), method


BAD = [
    (lambda: fusion.build("mean", (2, 3), 4), "no fusion is called 'mean'; there are early, late"),
    (lambda: fusion.build("early", (2, 0), 4), "must be positive"),
    (lambda: fusion.build("early", (), 4), "must be positive"),
    (lambda: fusion.build("low_rank", (2, 3), 4, rank=0), "rank=0 must be at least 1"),
    (lambda: fusion.build("bilinear", (2,), 4), "needs two modalities or more"),
    (lambda: fusion.build("tensor", (2,) * 5, 4, hidden=64), "needs 1,160,290,625 x 4 weights.*or low_rank"),
    (lambda: fusion.build("late", (2, 3), 4)([torch.ones(5, 2)]), r"widths \(2, 3\); got \[\(5, 2\)\]"),
    (lambda: fusion.build("late", (2, 3), 4)([torch.ones(5, 2), torch.ones(4, 3)]), "inputs must be"),
    (lambda: fusion.build("late", (2, 3), 4)([torch.ones(5, 3), torch.ones(5, 2)]), "inputs must be"),
    (lambda: fusion.build("late", (2,), 4)([torch.ones(5, 2)], torch.ones(5, 2) > 0), r"present must be \(5, 1\)"),
    (lambda: fusion.build("late", (2,), 4)([torch.ones(5, 2)], torch.ones(5, 1)), "bool; got .* of torch.float32"),
]


@pytest.mark.parametrize(("call", "message"), BAD)
def test_bad_input_gets_one_clear_error(call, message):
    with pytest.raises(ValueError, match=message):
        call()
