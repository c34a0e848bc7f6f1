"""Gradient norms against autograd, GradNorm against a case worked by hand and its paper's loss, dropout by counting."""

import numpy as np
import pytest
import torch
from scipy import stats

from course_utils import balancing


def test_gradient_norms_are_autograds():
    torch.manual_seed(0)
    a, b, c = (torch.nn.Linear(3, 2) for _ in range(3))
    x = torch.randn(5, 3)
    losses = [(a(x) * b(x)).sum(), a(x).square().mean()]
    norms = balancing.gradient_norms(losses, [a.parameters(), [b.weight], [*c.parameters()]])
    assert norms.shape == (2, 3)
    for row, loss in zip(norms, losses):
        for module in (a, b, c):
            module.zero_grad()
        loss.backward(retain_graph=True)
        torch.testing.assert_close(row[0], torch.nn.utils.clip_grad_norm_(a.parameters(), float("inf")))
        torch.testing.assert_close(row[1], torch.zeros(()) if b.weight.grad is None else b.weight.grad.norm())
    assert (norms[:, 2] == 0).all()
    assert norms[1, 1] == 0


def test_gradient_norms_leave_gradients_and_graph_alone():
    weight = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    loss = weight.square().sum() / 2
    assert balancing.gradient_norms([loss], [[weight]]).tolist() == [[5.0]]
    assert weight.grad is None
    loss.backward()
    assert weight.grad.tolist() == [3.0, 4.0]
    with pytest.raises(ValueError, match="a group holds no tensor"):
        balancing.gradient_norms([loss], [[weight], iter([])])


def test_targets_of_a_case_worked_by_hand():
    """Norms 1 and 3 have mean 2. Ratios 0.2 and 0.6 have mean 0.4: relative rates 0.5 and 1.5."""
    norms, ratios = torch.tensor([1.0, 3.0]), torch.tensor([0.2, 0.6])
    assert balancing.gradnorm_targets(norms, ratios, 1.0).tolist() == pytest.approx([1.0, 3.0])
    assert balancing.gradnorm_targets(norms, ratios, 2.0).tolist() == pytest.approx([0.5, 4.5])
    assert balancing.gradnorm_targets(norms, ratios, 0.0).tolist() == [2.0, 2.0]


def test_update_of_a_case_worked_by_hand():
    """Chen et al. 2018. Weights 1, 1; G = 4, 2, mean 3; ratios 0.5, 1.5, mean 1; exponent 1: targets 1.5, 4.5.

    L_grad = |4 - 1.5| + |2 - 4.5|. Its derivative by w_1 is +4 / 1, by w_2 it is -2 / 1. A step of 0.1: 0.6 and 1.2,
    together 1.8; scaled to 2: 2/3 and 4/3. The loss that lags gets the larger weight.
    """
    values = torch.tensor([1.0, 1.0]), torch.tensor([4.0, 2.0]), torch.tensor([0.5, 1.5])
    new = balancing.gradnorm_update(*values, exponent=1.0, rate=0.1)
    assert new.tolist() == pytest.approx([2 / 3, 4 / 3])


def test_update_of_three_tasks_worked_by_hand():
    """Weights .5, 1, 1.5; G = 1, 2, 6, mean 3; ratios equal: all targets 3, signs -, -, +; derivatives -2, -2, +4.

    A step of 0.05: 0.6, 1.1, 1.3, which add up to 3 already.
    """
    values = torch.tensor([0.5, 1.0, 1.5]), torch.tensor([1.0, 2.0, 6.0]), torch.tensor([0.7, 0.7, 0.7])
    assert balancing.gradnorm_update(*values, rate=0.05).tolist() == pytest.approx([0.6, 1.1, 1.3])


@pytest.mark.parametrize("seed", range(5))
def test_update_is_a_step_down_the_papers_loss_by_autograd(seed):
    """The whole of algorithm 1: G_i(w) through the network's own graph, target constant, step, renormalise."""
    torch.manual_seed(seed)
    tasks, exponent, rate = 3, 0.12 + seed / 2, 0.01
    shared = torch.nn.Linear(4, 6).double()
    heads = [torch.nn.Linear(6, 2).double() for _ in range(tasks)]
    x, goals = torch.randn(9, 4).double(), torch.randn(tasks, 9, 2).double()
    losses = torch.stack([(h(torch.tanh(shared(x))) - y).square().mean() * (k + 1) for k, (h, y) in
                          enumerate(zip(heads, goals))])  # fmt: skip
    first = losses.detach() * torch.rand(tasks).double().add(0.5)
    weights = (torch.rand(tasks).double() + 0.5).requires_grad_()

    gradients = [torch.autograd.grad(w * loss, shared.weight, create_graph=True)[0] for w, loss in zip(weights, losses)]
    norms = torch.stack([g.norm() for g in gradients])  # (T,) differentiable in the weights
    ratios = losses.detach() / first
    target = (norms.mean() * (ratios / ratios.mean()) ** exponent).detach()
    (slope,) = torch.autograd.grad((norms - target).abs().sum(), weights)
    wanted = weights.detach() - rate * slope
    wanted = wanted * tasks / wanted.sum()

    own = weights.detach() * balancing.gradient_norms(losses, [[shared.weight]])[:, 0]
    torch.testing.assert_close(own, norms.detach())
    new = balancing.gradnorm_update(weights, own, ratios, exponent, rate)
    torch.testing.assert_close(new, wanted)
    assert not new.requires_grad
    assert new.sum() == pytest.approx(tasks)


def test_repeated_updates_make_the_norms_equal():
    pulls, ratios, weights = torch.tensor([10.0, 1.0, 0.2]), torch.ones(3), torch.ones(3)
    for _ in range(3000):
        weights = balancing.gradnorm_update(weights, weights * pulls, ratios, rate=1e-3)
    norms = weights * pulls
    assert (norms.max() / norms.min()).item() < 1.1


def test_a_weight_stays_positive_even_when_the_step_is_far_too_long():
    new = balancing.gradnorm_update(torch.ones(2), torch.tensor([90.0, 1.0]), torch.ones(2), rate=1.0)
    assert (new > 0).all()
    assert new.sum() == pytest.approx(2)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (([1.0, 1.0], [1.0, 1.0, 1.0], [1.0, 1.0]), r"must be \(T,\)"),
        (([1.0, 0.0], [1.0, 1.0], [1.0, 1.0]), "must be positive"),
        (([1.0, 1.0], [1.0, float("nan")], [1.0, 1.0]), "must be positive"),
        (([1.0, 1.0], [1.0, 1.0], [1.0, -1.0]), "must be positive"),
    ],
)
def test_values_that_cannot_be_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        balancing.gradnorm_update(*(torch.tensor(value) for value in values))


def test_dropout_drops_independently_and_never_everything():
    """Of 40,000 rows: each pattern of three as often as it should be (chi-square, 0.1 % level)."""
    rate, count = 0.4, 40_000
    present = balancing.modality_dropout(count, 3, rate, torch.Generator().manual_seed(0))
    assert present.shape == (count, 3)
    assert present.dtype == torch.bool
    found = np.bincount(present.long().numpy() @ [1, 2, 4], minlength=8)
    kept = np.array([bin(k).count("1") for k in range(8)])
    wanted = (1 - rate) ** kept * rate ** (3 - kept)
    wanted[kept == 1] += wanted[0] / 3  # an empty row keeps one of three, each alike
    wanted[0] = 0
    assert found[0] == 0
    assert stats.chisquare(found[1:], count * wanted[1:]).pvalue > 1e-3


def test_dropout_follows_its_generator_and_its_rate():
    masks = [balancing.modality_dropout(50, 2, 0.5, torch.Generator().manual_seed(k)) for k in (3, 3, 4)]
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])
    assert balancing.modality_dropout(50, 3, 0.0, torch.Generator()).all()
    assert balancing.modality_dropout(50, 1, 0.9, torch.Generator()).all()
    for rate in (-0.1, 1.0, float("nan")):
        with pytest.raises(ValueError, match="must lie in"):
            balancing.modality_dropout(5, 2, rate, torch.Generator())
