"""Each check of lesson 00: wrong answers that people write, with the message meant for them; and right ones."""

from math import comb, prod

import pytest
import torch
import torch.nn.functional as F

from course_utils.checks import start_here
from course_utils.checks._outcome import WrongAnswer

RIGHT_SHAPES = [(16, 3, 224, 224), (16, 1280), (16, 384), (7, 16)]
RIGHT_RECALL = {"ranks": [1, 2, 1, 2], "recall@1": 0.5, "recall@2": 1.0}


@pytest.fixture(autouse=True)
def own_progress(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_ARTIFACTS", str(tmp_path))


def shapes(position, shape):
    return [shape if index == position else right for index, right in enumerate(RIGHT_SHAPES)]


def unit(rows, dim=-1):
    return rows / rows.norm(dim=dim, keepdim=True)


def cosine_one_side(a, b):
    return unit(a) @ b.T


def cosine_in_place(a, b):
    a /= a.norm(dim=-1, keepdim=True)
    b /= b.norm(dim=-1, keepdim=True)
    return a @ b.T


def cosine_by_loop(a, b):
    return torch.stack([torch.stack([torch.dot(x, y) / (x.norm() * y.norm()) for y in b]) for x in a])


def chance_by_product(n, right, k):
    return 1 - prod((n - right - i) / (n - i) for i in range(k)) if k <= n - right else 1.0


def always_fails(rank):
    raise AssertionError("no")


def no_assert(rank):
    rank(torch.tensor([1.0, 0.0]), torch.tensor([[5.0, 5.0], [0.1, 0.0]])).tolist() == [1, 0]  # noqa: B015


def only_unit_points(rank):
    points = F.normalize(torch.tensor([[1.0, 1.0], [1.0, 0.0]]), dim=-1)
    assert rank(torch.tensor([1.0, 0.0]), points).tolist() == [1, 0]


def never_calls(rank):
    assert torch.tensor([1.0, 0.0]).norm() == 1


def wrong_order_expected(rank):
    assert rank(torch.tensor([1.0, 0.0]), torch.tensor([[5.0, 5.0], [0.1, 0.0]])).tolist() == [0, 1]


def long_points_in_line(rank):
    assert rank(torch.tensor([1.0, 0.0]), torch.tensor([[0.0, 1.0], [9.0, 0.0]])).tolist() == [1, 0]


WRONG = [
    (start_here.check_shapes, shapes(0, (16, 224, 224, 3)), "colour stands last"),
    (start_here.check_shapes, shapes(0, (16, 3, 50176)), "four numbers"),
    (start_here.check_shapes, shapes(1, (1280, 16)), "rows are pictures"),
    (start_here.check_shapes, shapes(2, (7, 384)), "sentences' points"),
    (start_here.check_shapes, shapes(3, (16, 7)), "transpose"),
    (start_here.check_shapes, RIGHT_SHAPES[:3], "Four shapes"),
    (start_here.check_shapes, "(16, 3)", "list of four tuples"),
    (start_here.check_cosine, lambda a, b: a @ b.T, "plain product"),
    (start_here.check_cosine, cosine_one_side, "Only one side"),
    (start_here.check_cosine, lambda a, b: a @ unit(b).T, "Only one side"),
    (start_here.check_cosine, lambda a, b: (a / a.norm()) @ (b / b.norm()).T, "whole matrix"),
    (start_here.check_cosine, lambda a, b: unit(a, 0) @ unit(b, 0).T, "Rows are the vectors"),
    (start_here.check_cosine, lambda a, b: unit(b) @ unit(a).T, "transpose"),
    (start_here.check_cosine, lambda a, b: 1 - unit(a) @ unit(b).T, "distance"),
    (start_here.check_cosine, lambda a, b: (unit(a) @ unit(b).T).abs(), "sign is lost"),
    (start_here.check_cosine, cosine_in_place, "changes its inputs"),
    (start_here.check_cosine, lambda a, b: F.cosine_similarity(a, b), "your code stopped"),
    (start_here.check_cosine, lambda a, b: print(unit(a) @ unit(b).T), "end in a return"),
    (start_here.check_top_k, lambda s, k: s.argsort(dim=-1)[:, :k], "k smallest"),
    (start_here.check_top_k, lambda s, k: s.argsort(dim=-1)[:, -k:], "worst first"),
    (start_here.check_top_k, lambda s, k: s.topk(k).values, "These are the scores"),
    (start_here.check_top_k, lambda s, k: s.topk(k), r"Return its \.indices"),
    (start_here.check_top_k, lambda s, k: s.topk(k, dim=0).indices, "down the columns"),
    (start_here.check_top_k, lambda s, k: s.abs().topk(k).indices, "absolute value"),
    (start_here.check_top_k, lambda s, k: s.argsort(descending=True)[:k], r"the answer is \(2,2\)"),
    (start_here.check_top_k, lambda s, k: s.topk(2).indices, "fails for k=1"),
    (start_here.check_recall, RIGHT_RECALL | {"ranks": [0, 1, 0, 1]}, "count from 0"),
    (start_here.check_recall, RIGHT_RECALL | {"ranks": [1, 4, 2, 1]}, "down the columns"),
    (start_here.check_recall, RIGHT_RECALL | {"ranks": [1, 2, 1, 3]}, "0.7 is smaller"),
    (start_here.check_recall, RIGHT_RECALL | {"recall@1": 2}, "not a count"),
    (start_here.check_recall, RIGHT_RECALL | {"recall@1": 50}, "not percent"),
    (start_here.check_recall, RIGHT_RECALL | {"recall@2": 0.5}, "counts here too"),
    (start_here.check_recall, RIGHT_RECALL | {"recall@2": ...}, "still open"),
    (start_here.check_recall, [1, 2, 1, 2], "dictionary"),
    (start_here.check_chance, lambda n, right, k: n, "between 0 and 1"),
    (start_here.check_chance, lambda n, right, k: right / n, "`k` is not used"),
    (start_here.check_chance, lambda n, right, k: k / n, "`right` is not used"),
    (start_here.check_chance, lambda n, right, k: right * k / n, "counts lists with both"),
    (start_here.check_chance, lambda n, right, k: 1 - (1 - right / n) ** k, "with replacement"),
    (start_here.check_chance, lambda n, right, k: comb(n - right, k - right) / comb(n, k), "One is enough"),
    (start_here.check_test_rank, always_fails, "fails for a right ranking"),
    (start_here.check_test_rank, wrong_order_expected, "fails for a right ranking"),
    (start_here.check_test_rank, no_assert, "without assert"),
    (start_here.check_test_rank, only_unit_points, "same length"),
    (start_here.check_test_rank, never_calls, "never calls"),
    (start_here.check_test_rank, long_points_in_line, "further aside"),
]


@pytest.mark.parametrize(("check", "answer", "message"), WRONG, ids=lambda value: getattr(value, "__name__", None))
def test_wrong_answers_are_told_why(check, answer, message):
    with pytest.raises(WrongAnswer, match=message):
        check(answer)


def scale_does_not_matter(rank):
    generator = torch.Generator().manual_seed(1)
    question, points = torch.randn(8, generator=generator), torch.randn(20, 8, generator=generator)
    longer = points * torch.linspace(0.1, 9, 20)[:, None]
    assert torch.equal(rank(question, points), rank(question, longer))


def short_beats_long(rank):
    assert rank(torch.tensor([4.0, 3.0]), torch.tensor([[2.0, 1.5], [3.0, 4.0], [1.0, 6.0]]))[0] == 0


RIGHT = [
    (start_here.check_shapes, RIGHT_SHAPES),
    (start_here.check_shapes, tuple(torch.zeros(shape).shape for shape in RIGHT_SHAPES)),
    (start_here.check_cosine, lambda a, b: unit(a) @ unit(b).T),
    (start_here.check_cosine, cosine_by_loop),
    (start_here.check_cosine, lambda a, b: F.cosine_similarity(a[:, None], b[None], dim=-1)),
    (start_here.check_top_k, lambda s, k: s.argsort(dim=-1, descending=True)[:, :k]),
    (start_here.check_top_k, lambda s, k: s.topk(k, dim=-1).indices),
    (start_here.check_top_k, lambda s, k: [sorted(range(len(row)), key=lambda i: -row[i])[:k] for row in s.tolist()]),
    (start_here.check_recall, RIGHT_RECALL),
    (start_here.check_recall, {"recall@2": 1, "recall@1": 2 / 4, "ranks": (1, 2, 1, 2)}),
    (start_here.check_chance, lambda n, right, k: 1 - comb(n - right, k) / comb(n, k)),
    (start_here.check_chance, chance_by_product),
    (start_here.check_test_rank, scale_does_not_matter),
    (start_here.check_test_rank, short_beats_long),
]


@pytest.mark.parametrize(("check", "answer"), RIGHT, ids=lambda value: getattr(value, "__name__", None))
def test_right_answers_are_noted(check, answer, tmp_path, capsys):
    assert check(answer) is True
    assert "right" in capsys.readouterr().out
    assert (tmp_path / "progress" / f"00-{check.number}.txt").exists()


def unsolved(*arguments):
    raise NotImplementedError("Exercise 0.2")


CHECKS = [value for name, value in vars(start_here).items() if name.startswith("check_")]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("answer", [None, ...])
def test_nothing_given_is_not_attempted(check, answer, capsys, tmp_path):
    assert check(answer) is False
    assert "not attempted" in capsys.readouterr().out and not (tmp_path / "progress").exists()


@pytest.mark.parametrize(
    "check", [c for c in CHECKS if c.number in ("0.2", "0.3", "0.5", "0.6")], ids=lambda c: c.number
)
def test_a_stub_is_not_attempted(check, capsys):
    assert check(unsolved) is False


def test_every_check_has_enough_cases():
    assert len(CHECKS) == 6
    for check in CHECKS:
        assert sum(row[0] is check for row in WRONG) >= 3 and sum(row[0] is check for row in RIGHT) >= 2


def test_route_names_the_first_gap(capsys):
    answers = {number: letter for number, (letter, _) in start_here._KEY.items()}
    start_here.route(answers)
    assert "10 of 10" in capsys.readouterr().out
    start_here.route(answers | {3: "a", 7: None, 4: " A "})
    out = capsys.readouterr().out
    assert "8 of 10" in out and "Begin with lesson 02" in out and "Then lesson 05" in out
    start_here.route(dict.fromkeys(range(1, 11)))
    assert "Not answered yet" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("answers", "message"), [({1: "a"}, "keys 1 to 10"), (dict.fromkeys(range(1, 11), "d"), "Question 1")]
)
def test_route_refuses_other_answers(answers, message):
    with pytest.raises(ValueError, match=message):
        start_here.route(answers)
