"""Checks of lesson 02: the solution and other spellings pass, what people really write is named, nothing leaks."""

import math

import numpy as np
import pytest
import torch
from contract import Contract, by_number
from torch.nn import functional as F

from course_utils import losses
from course_utils.checks import contrastive_loss as checks
from course_utils.checks._outcome import WrongAnswer

BY_NUMBER = by_number(checks)
VALUES = ("2.4", "2.9")  # exercises whose answer is a value


def eye(scores):
    return torch.eye(len(scores))


def both(logits, target=None, reduction="mean"):
    target = torch.arange(len(logits)) if target is None else target
    return F.cross_entropy(logits, target, reduction=reduction) + F.cross_entropy(logits.T, target, reduction=reduction)


# 2.1


def score_matrix(a, b):
    return F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).T


def score_matrix_loops(a, b):
    return [[float(x @ y) / math.sqrt(float(x @ x)) / math.sqrt(float(y @ y)) for y in b] for x in a]


def score_matrix_numpy(a, b):
    a, b = a.numpy().astype(np.float64), b.numpy().astype(np.float64)
    return (a @ b.T) / np.outer(np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1))


# 2.2


def hardest_rival(scores, margin):
    right, rival = scores.diagonal(), ~eye(scores).bool()
    captions = (margin + scores - right[:, None]).clamp(min=0) * rival
    pictures = (margin + scores - right[None, :]).clamp(min=0) * rival
    return (captions.amax(dim=1) + pictures.amax(dim=0)).mean()


def hardest_rival_loop(scores, margin=0.2):
    total = 0.0
    for i in range(len(scores)):
        caption_rivals = [margin + scores[i, j] - scores[i, i] for j in range(len(scores)) if j != i]
        picture_rivals = [margin + scores[j, i] - scores[i, i] for j in range(len(scores)) if j != i]
        total += max(0, max(caption_rivals)) + max(0, max(picture_rivals))
    return total / len(scores)


def hardest_rival_numpy(scores, margin):
    scores, right = scores.numpy().copy(), scores.diagonal().numpy().copy()
    np.fill_diagonal(scores, -np.inf)
    worst = np.maximum(0, margin + scores.max(axis=1) - right) + np.maximum(0, margin + scores.max(axis=0) - right)
    return worst.mean()


def rival_costs(scores, margin, keep_diagonal=False):
    right, rival = scores.diagonal(), (~eye(scores).bool()) | keep_diagonal
    captions = (margin + scores - right[:, None]).clamp(min=0) * rival
    return captions, (margin + scores - right[None, :]).clamp(min=0) * rival


def diagonal_counted(scores, margin):
    captions, pictures = rival_costs(scores, margin, keep_diagonal=True)
    return (captions.amax(dim=1) + pictures.amax(dim=0)).mean()


def all_rivals(scores, margin):
    captions, pictures = rival_costs(scores, margin)
    return (captions.sum(dim=1) + pictures.sum(dim=0)).mean()


def mean_rival(scores, margin):
    return all_rivals(scores, margin) / (len(scores) - 1)


def mean_of_row(scores, margin):
    captions, pictures = rival_costs(scores, margin)
    return (captions.mean(dim=1) + pictures.mean(dim=0)).mean()


def unclamped(scores, margin):
    right, hidden = scores.diagonal(), scores.masked_fill(eye(scores).bool(), -math.inf)
    return (2 * margin + hidden.amax(dim=1) + hidden.amax(dim=0) - 2 * right).mean()


def wrong_dimension(scores, margin):
    captions, pictures = rival_costs(scores, margin)
    return (captions.amax(dim=0) + pictures.amax(dim=1)).mean()


def fills_in_place(scores, margin):
    right = scores.diagonal().clone()
    scores.fill_diagonal_(-math.inf)
    return ((margin + scores.amax(1) - right).clamp(min=0) + (margin + scores.amax(0) - right).clamp(min=0)).mean()


# 2.3


def clip_loss(z_img, z_txt, tau):
    return both(z_img @ z_txt.T / tau) / 2


def clip_loss_loops(z_img, z_txt, tau):
    s, total = (z_img.double() @ z_txt.double().T / tau).tolist(), 0.0
    for i in range(len(s)):
        row, column = sum(math.exp(v) for v in s[i]), sum(math.exp(line[i]) for line in s)
        total += math.log(row) + math.log(column) - 2 * s[i][i]
    return total / len(s) / 2


def clip_loss_bfloat16(z_img, z_txt, tau):
    return losses.clip_loss(z_img, z_txt, tau).bfloat16()


def clip_loss_with_gradient(z_img, z_txt, tau):
    return losses.clip_loss(z_img.requires_grad_(), z_txt, tau)


def naive_softmax(z_img, z_txt, tau):
    raised = (z_img @ z_txt.T / tau).exp()
    rows, columns = raised / raised.sum(dim=1, keepdim=True), raised / raised.sum(dim=0, keepdim=True)
    return -(rows.diagonal().log().mean() + columns.diagonal().log().mean()) / 2


def targets_over_width(z_img, z_txt, tau):
    return both(z_img @ z_txt.T / tau, torch.arange(z_img.shape[1])) / 2


def softmax_twice(z_img, z_txt, tau):
    logits, target = z_img @ z_txt.T / tau, torch.arange(len(z_img))
    return (F.cross_entropy(logits.softmax(1), target) + F.cross_entropy(logits.T.softmax(1), target)) / 2


# 2.5


def clip_gradient(logits):
    return (logits.softmax(dim=1) + logits.softmax(dim=0) - 2 * eye(logits)) / 2 / len(logits)


def clip_gradient_autograd(logits):
    leaf = logits.double().requires_grad_()
    return torch.autograd.grad(both(leaf) / 2, leaf)[0]


def clip_gradient_numpy(logits):
    e = np.exp(logits.numpy())
    return (e / e.sum(1, keepdims=True) + e / e.sum(0, keepdims=True) - 2 * np.eye(len(e))) / (2 * len(e))


# 2.6


def siglip_loss(z_img, z_txt, scale, bias):
    logits = scale * z_img @ z_txt.T + bias
    return -F.logsigmoid((2 * eye(logits) - 1) * logits).sum() / len(logits)


def siglip_loss_bce(z_img, z_txt, scale, bias):
    logits = (z_img @ z_txt.T).double() * scale + bias
    return F.binary_cross_entropy_with_logits(logits, eye(logits).double()) * len(logits)


def siglip_loss_numpy(z_img, z_txt, scale, bias):
    cells = scale * (z_img @ z_txt.T).numpy() + bias
    return np.logaddexp(0, -(2 * np.eye(len(cells)) - 1) * cells).sum() / len(cells)


def sigmoid_with(change):
    def wrong(z_img, z_txt, scale, bias):
        scores = z_img @ z_txt.T
        return change(scores, 2 * eye(scores) - 1, scale, bias, len(scores))

    return wrong


def log_of_sigmoid(s, z, t, b, n):
    return -torch.log(torch.sigmoid(z * (t * s + b))).sum() / n


# 2.7


def targets(image_ids):
    same = (image_ids[:, None] == image_ids[None, :]).float()
    return same / same.sum(dim=1, keepdim=True)


def targets_lists(image_ids):
    ids = image_ids.tolist()
    return [[(one == other) / ids.count(one) for other in ids] for one in ids]


def targets_half(image_ids):
    return targets(image_ids).half()


def same_of(image_ids):
    return image_ids[:, None] == image_ids[None, :]


# 2.8


def told_apart(z_img, z_txt, z_foil):
    difference = (z_img * (z_txt - z_foil)).sum(dim=1)
    return ((difference > 0).float() + 0.5 * (difference == 0).float()).mean()


def told_apart_loop(z_img, z_txt, z_foil):
    points = 0.0
    for picture, caption, foil in zip(z_img.tolist(), z_txt.tolist(), z_foil.tolist()):
        true = sum(x * y for x, y in zip(picture, caption))
        false = sum(x * y for x, y in zip(picture, foil))
        points += 1.0 if true > false else 0.5 if true == false else 0.0
    return points / len(z_img)


def told_apart_numpy(z_img, z_txt, z_foil):
    true, false = (np.einsum("ne,ne->n", z_img.numpy(), z.numpy()) for z in (z_txt, z_foil))
    return np.heaviside(true - false, 0.5).mean()


def pairwise(compare):
    return lambda z_img, z_txt, z_foil: compare((z_img * z_txt).sum(dim=1), (z_img * z_foil).sum(dim=1))


# 2.10


def sound(a, b, tau):
    return losses.clip_loss(F.normalize(a, dim=-1), F.normalize(b, dim=-1), tau)


def is_sound(loss):
    """The lesson's: value and gradients."""
    generator, answers = torch.Generator(), []
    for candidate in (loss, sound):
        a, b = torch.randn(2, 6, 5, generator=generator.manual_seed(1)).requires_grad_()
        value = torch.as_tensor(candidate(a, b, 0.3))
        if not value.requires_grad:
            return False
        answers.append([value, *torch.autograd.grad(value, (a, b))])
    return all(torch.allclose(x.double(), y.double(), atol=1e-5) for x, y in zip(*answers))


def is_sound_by_properties(loss):
    """No reference at all: lengths do not matter, directions agree, perfect pairs are free, wrong ones are not."""
    a, b = torch.randn(2, 5, 8)
    longer, turned = (
        torch.isclose(loss(3 * a, b, 0.5), loss(a, b, 0.5)),
        torch.isclose(loss(b, a, 0.5), loss(a, b, 0.5)),
    )
    free, costly = loss(torch.eye(5), torch.eye(5), 0.01) < 1e-3, loss(torch.eye(5), torch.eye(5).flip(0), 0.01) > 10
    return longer & turned & free & costly  # a tensor of one truth


def is_sound_number(loss):
    a, b = torch.tensor([[3.0, 4.0], [0.0, 2.0], [-1.0, 0.0]]), torch.tensor([[1.0, 2.0], [0.5, 1.0], [4.0, -3.0]])
    return np.isclose(float(loss(a, b, 0.5)), float(both(F.normalize(a) @ F.normalize(b).T / 0.5) / 2), rtol=1e-4)


def with_unit_rows(loss):
    a, b = F.normalize(torch.randn(2, 6, 5), dim=-1)
    return torch.allclose(loss(a, b, 0.3), sound(a, b, 0.3))


def only_lengths(loss):
    a, b = torch.randn(2, 6, 5)
    return torch.allclose(loss(3 * a, b, 0.3), loss(a, b, 0.3), rtol=1e-4)


def with_symmetric_scores(loss):
    a = torch.randn(6, 5)
    return torch.allclose(loss(a, 2 * a, 0.3), sound(a, 2 * a, 0.3))


def only_ignorance(loss):
    return math.isclose(loss(torch.ones(6, 2), 2 * torch.ones(6, 2), 1.0), math.log(6), rel_tol=1e-3)


def exactly_equal(loss):
    a, b = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(1))
    return bool(loss(a, b, 0.03) == sound(a, b, 0.03))


def one_direction_expected(loss):
    a, b = torch.randn(2, 6, 5)
    return torch.allclose(loss(a, b, 0.3), F.cross_entropy(F.normalize(a) @ F.normalize(b).T / 0.3, torch.arange(6)))


def asserts(loss):
    a, b = torch.randn(2, 6, 5)
    assert torch.allclose(loss(a, b, 0.3), sound(a, b, 0.3))
    return True


RIGHT = [
    ("2.1", [score_matrix, score_matrix_loops, score_matrix_numpy]),
    ("2.1", [lambda a, b: F.cosine_similarity(a[:, None], b[None], dim=-1).half()]),
    ("2.2", [hardest_rival, hardest_rival_loop, hardest_rival_numpy]),
    ("2.3", [clip_loss, clip_loss_loops, losses.clip_loss, clip_loss_bfloat16, clip_loss_with_gradient]),
    ("2.4", [math.exp(-2.0) / (1 / 1024), 138.58, 138.6, 139, torch.tensor(-2.0).exp() * 1024, np.float32(138.583)]),
    ("2.5", [clip_gradient, clip_gradient_autograd, clip_gradient_numpy]),
    ("2.6", [siglip_loss, siglip_loss_bce, siglip_loss_numpy, losses.siglip_loss]),
    ("2.7", [targets, targets_lists, targets_half, lambda ids: same_of(ids) / same_of(ids).sum(dim=0)]),
    ("2.8", [told_apart, told_apart_loop, told_apart_numpy]),
    ("2.9", [(63, 1023), [63.0, 1023.0], np.array([63, 1023]), torch.tensor([63, 1023])]),
    ("2.10", [is_sound, is_sound_by_properties, is_sound_number]),
]


WRONG = {
    "2.1": [
        (lambda a, b: a @ b.T, "plain product"),
        (lambda a, b: score_matrix(b, a), "transpose"),
        (lambda a, b: (a / a.norm()) @ (b / b.norm()).T, "norm of the whole matrix"),
        (lambda a, b: F.normalize(a, dim=0) @ F.normalize(b, dim=0).T, "wrong dimension"),
        (lambda a, b: F.normalize(a, dim=-1) @ b.T, "Only one side"),
        (lambda a, b: a @ F.normalize(b, dim=-1).T, "Only one side"),
        (lambda a, b: F.cosine_similarity(a, b), "B right pairs alone"),
        (lambda a, b: torch.eye(3), r"shape should be \(5, 5\), yours is \(3, 3\)"),
        (lambda a, b: score_matrix(a, b).softmax(dim=-1), r"At \[0, 0\] it should be 0.3442"),
        (lambda a, b: score_matrix(a, b) / 0 * 0, "not finite"),
    ],
    "2.2": [
        (diagonal_counted, "The diagonal counts as a rival"),
        (all_rivals, "added up all rivals"),
        (mean_rival, "mean over rivals"),
        (mean_of_row, "mean over rivals"),
        (lambda s, m: rival_costs(s, m)[0].amax(dim=1).mean(), "One direction only"),
        (lambda s, m: rival_costs(s, m)[1].amax(dim=0).mean(), "One direction only"),
        (lambda s, m: hardest_rival(s, m) * len(s), "sum over pairs"),
        (lambda s, m: hardest_rival(s, m) / 2, "added, not averaged"),
        (unclamped, "Clamp at 0"),
        (lambda s, m: hardest_rival(s, 0.0), "margin is missing"),
        (lambda s, m: hardest_rival_loop(s), "fixed at 0.2"),
        (lambda s, m: hardest_rival(-s, m), "The sign is turned"),
        (wrong_dimension, "wrong dimension"),
        (fills_in_place, "changes its inputs"),
        (lambda s, m: hardest_rival(s[:3, :3], m), "For 6 pairs the loop says"),
    ],
    "2.3": [
        (lambda a, b, tau: F.cross_entropy(a @ b.T / tau, torch.arange(len(a))), "One direction only"),
        (lambda a, b, tau: F.cross_entropy(b @ a.T / tau, torch.arange(len(a))), "One direction only"),
        (lambda a, b, tau: both(a @ b.T * tau) / 2, "multiplied by tau"),
        (lambda a, b, tau: both(a @ b.T) / 2, "tau is not used"),
        (lambda a, b, tau: both(a @ b.T / tau), "sum of both directions"),
        (lambda a, b, tau: both(a @ b.T / tau, reduction="sum") / 2, "sum over pairs"),
        (softmax_twice, "applied twice"),
        (lambda a, b, tau: -clip_loss(a, b, tau), "sign is turned"),
        (lambda a, b, tau: -(a @ b.T / tau).log_softmax(dim=1).mean(), "For 5 pairs"),
        (targets_over_width, "not over E"),
        (naive_softmax, "overflows"),
        (lambda a, b, tau: F.cross_entropy(a @ b.T / tau, torch.arange(len(a)), reduction="none"), r"yours is \(5,\)"),
    ],
    "2.4": [
        (2.0 / math.log(1024), "compared losses"),
        (math.log(1024) / 2, "compared losses"),
        (math.exp(2.0), "The sign is missing"),
        (math.exp(2.0) * 1024, "The sign is missing"),
        (math.log(1024) - 2, "the logarithm of the factor"),
        (math.exp(2.0) / 1024, "Upside down"),
        (math.exp(-2.0), "the probability itself"),
        (math.exp(-2.0) * 1023, "the right one included"),
        (256, "powers of 2"),
        (140, "1/1024 is guessing"),
        ("138.58 times", "Yours says '138.58 times'"),
        (math.inf, "not finite"),
    ],
    "2.5": [
        (lambda x: clip_gradient(x) * len(x), "Not divided by B"),
        (lambda x: clip_gradient(x) * 2, "each counts one half"),
        (lambda x: clip_gradient(x) * 2 * len(x), "Not divided by B"),
        (lambda x: (x.softmax(dim=1) - eye(x)) / len(x), "The rows' half alone"),
        (lambda x: (x.softmax(dim=0) - eye(x)) / len(x), "The columns' half alone"),
        (lambda x: -clip_gradient(x), "The sign is turned"),
        (lambda x: (x.softmax(dim=1) + x.softmax(dim=0)) / 2 / len(x), "target is missing"),
        (lambda x: (x.softmax(dim=1) + x.softmax(dim=0) - eye(x)) / 2 / len(x), "subtracted once"),
        (lambda x: clip_gradient(x) / len(x), "Divided by B twice"),
        (lambda x: clip_gradient(x).T, "Compare with autograd"),
        (lambda x: clip_gradient(x).mean(), r"yours is \(\)"),
    ],
    "2.6": [
        (sigmoid_with(lambda s, z, t, b, n: -F.logsigmoid(z * (t * s + b)).mean()), "B squared"),
        (sigmoid_with(lambda s, z, t, b, n: -F.logsigmoid(z * (t * s + b)).sum()), "Not divided"),
        (sigmoid_with(lambda s, z, t, b, n: -F.logsigmoid(-z * (t * s + b)).sum() / n), "wrong way round"),
        (sigmoid_with(lambda s, z, t, b, n: -F.logsigmoid(t * s + b).sum() / n), "signs are missing"),
        (sigmoid_with(lambda s, z, t, b, n: F.logsigmoid(z * (t * s + b)).sum() / n), "negative log-probability"),
        (sigmoid_with(lambda s, z, t, b, n: -F.logsigmoid(z * t * (s + b)).sum() / n), "inside the product"),
        (sigmoid_with(lambda s, z, t, b, n: -F.logsigmoid(z * t * s + b).sum() / n), "escapes the sign"),
        (sigmoid_with(lambda s, z, t, b, n: -F.logsigmoid(z * t * s).sum() / n), "bias is missing"),
        (sigmoid_with(lambda s, z, t, b, n: -F.logsigmoid((t * s + b).diagonal()).sum() / n), "The diagonal alone"),
        (sigmoid_with(lambda s, z, t, b, n: -F.logsigmoid(eye(s) * (t * s + b)).sum() / n), "off the diagonal is 0"),
        (sigmoid_with(lambda s, z, t, b, n: -F.logsigmoid(z * (s / t + b)).sum() / n), "divided by scale"),
        (sigmoid_with(log_of_sigmoid), "overflows"),
        (sigmoid_with(lambda s, z, t, b, n: torch.log1p(torch.exp(-z * (t * s + b))).sum() / n), "overflows"),
    ],
    "2.7": [
        (lambda ids: same_of(ids).float(), "more than 1"),
        (same_of, "more than 1"),
        (eye, "diagonal alone"),
        (lambda ids: same_of(ids).long() // same_of(ids).sum(dim=1, keepdim=True), "mind the type"),
        (lambda ids: targets(ids).long(), "mind the type"),
        (lambda ids: same_of(ids) / same_of(ids).sum(), "whole matrix"),
        (lambda ids: same_of(ids) / len(ids), "divided by B"),
        (lambda ids: same_of(ids).float().softmax(dim=1), "softmax"),
        (lambda ids: same_of(ids).float() - eye(ids), "own caption"),
        (lambda ids: torch.eye(3)[:, :2], r"shape should be \(7, 7\)"),
        (lambda ids: targets(ids).T.flip(0), "which pairs share row 0"),
    ],
    "2.8": [
        (pairwise(lambda true, false: (true >= false).float().mean()), "Ties count as wins"),
        (pairwise(lambda true, false: (true > false).float().mean()), "Ties count as losses"),
        (pairwise(lambda true, false: ((true > false) + 0.5 * (true == false)).sum()), "This is a count"),
        (pairwise(lambda true, false: (true > false) + 0.5 * (true == false)), "N verdicts"),
        (lambda i, t, f: told_apart(i, f, t), "wrong way round"),
        (pairwise(lambda true, false: (true - false).mean()), "how much they win by"),
        (pairwise(lambda true, false: (true - false).sign().mean()), "Wins minus losses"),
        (lambda i, t, f: (i @ t.T > i @ f.T).float().mean(), "whole matrix"),
        (lambda i, t, f: (i @ (t - f).T).sign().add(1).div(2).mean(), "whole matrix"),
        (lambda i, t, f: ((i * t).sum(1) > (t * f).sum(1)).float().mean(), "captions with each other"),
        (lambda i, t, f: torch.tensor(0.3), "6 wins, 2 ties and 3 losses"),
        (lambda i, t, f: torch.tensor(7 / 11), "2 wins, 3 ties and 3 losses"),
    ],
    "2.9": [
        ((64, 1024), "not its own rival"),
        ((63, 1024), "not its own rival"),
        ((63, 63), "whole batch"),
        ((1023, 63), "Swapped"),
        ((1023, 1023), "each chunk's loss alone"),
        ((1008, 1023), "one chunk only"),
        ((63,), "Two numbers"),
        (63, "Two numbers"),
        ({63, 1023}, "Two numbers"),
        ("63, 1023", "Two numbers"),
        ((63, ...), "still open"),
        ((62, 1022), r"Yours says \[62, 1022\]"),
        ((63, "all"), "How many wrong captions"),
    ],
    "2.10": [
        (lambda loss: bool(loss(torch.eye(3), torch.eye(3), 1.0) > -1), "accepts every loss, even a constant"),
        (lambda loss: not bool(loss(torch.eye(3), torch.eye(3), 1.0) > -1), "rejects a sound loss"),
        (lambda loss: True, "never calls"),
        (lambda loss: is_sound(sound), "never calls"),
        (with_unit_rows, "1 of 6 wrong losses. One is one without unit rows.* All your rows have length 1"),
        (only_lengths, "4 of 6 wrong losses. One is one whose soft targets follow"),
        (with_symmetric_scores, "1 of 6 wrong losses. One is one that asks in one direction"),
        (only_ignorance, "accepts every loss"),
        (exactly_equal, "rejects a sound loss.*tolerance .torch.allclose"),
        (one_direction_expected, "rejects a sound loss.* both directions"),
        (asserts, "raised AssertionError: return True or False"),
        (lambda loss: loss(torch.eye(3), torch.eye(3), 1.0), "Return True or False, not 0.5"),
        (lambda loss: print(loss(torch.eye(3), torch.eye(3), 1.0)), "gave back nothing"),
    ],
}


class TestContract(Contract):
    checks, right, wrong, values = checks, RIGHT, WRONG, VALUES


@pytest.mark.parametrize("number", ["2.1", "2.2", "2.3", "2.5", "2.6", "2.7", "2.8"])
def test_an_answer_that_empties_its_inputs_does_not_corrupt_the_check(number):
    right = next(answers[0] for key, answers in RIGHT if key == number)

    def empties(*arguments):
        value = right(*arguments)
        for argument in arguments:
            if torch.is_tensor(argument):
                argument.zero_()
        return value

    def zeros(*arguments):
        return torch.zeros_like(torch.as_tensor(empties(*arguments)))

    for answer in (empties, zeros):
        with pytest.raises(WrongAnswer, match="changes its inputs"):
            BY_NUMBER[number](answer)
    assert BY_NUMBER[number](right) is True


def test_a_test_of_a_loss_leaves_the_lessons_random_numbers_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    checks.check_is_sound(is_sound_by_properties)
    assert torch.equal(torch.rand(3), expected)
