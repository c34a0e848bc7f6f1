"""The three outcomes of a check."""

import random

import numpy as np
import pytest
import torch

from course_utils import progress
from course_utils.checks._outcome import (
    WrongAnswer,
    call,
    close,
    elsewhere,
    exercise,
    expect,
    items,
    judge,
    match,
    numbers,
    run,
    same,
    shown,
)


@exercise("98", "98.1")
def check_double(answer):
    """double(x)."""
    value = run(answer, 3)
    expect(value != 9, "This squares.")
    expect(value == 6, f"Twice three is six, not {value}.")


def stub(x):
    raise NotImplementedError("Exercise 98.1")


def bare(x):
    raise NotImplementedError


@pytest.mark.parametrize("answer", [None, ..., stub, bare])
def test_not_attempted_says_so_and_returns_false(answer, capsys):
    assert check_double(answer) is False
    assert capsys.readouterr().out == "Exercise 98.1: not attempted yet.\n"
    assert progress.table().empty


def test_right_says_so_returns_true_and_is_noted(capsys):
    assert check_double(lambda x: x + x) is True
    assert capsys.readouterr().out == "Exercise 98.1: right.\n"
    assert progress.table().exercise.tolist() == ["98.1"]


def broken(x):
    return undefined_name  # noqa: F821


def unsupported(x):
    raise NotImplementedError("'baddbmm' is not implemented for this type, use another one")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda x: x * x, "Exercise 98.1: This squares."),
        (lambda x: x, "Twice three is six, not 3"),
        (lambda x: None, "gave back nothing"),
        (lambda x: ..., "gave back nothing"),
        (6, "Give the check your function itself, not int"),
        (broken, "return undefined_name.*NameError"),
        (lambda: 6, "TypeError"),
        (unsupported, "baddbmm"),
    ],
)
def test_wrong_raises_with_the_likely_mistake(answer, message):
    with pytest.raises(WrongAnswer, match=message):
        check_double(answer)
    assert progress.table().empty


def test_a_wrong_answer_is_an_assertion_shown_without_a_stack():
    assert issubclass(WrongAnswer, AssertionError)
    assert WrongAnswer("Because.")._render_traceback_() == ["Not right yet. Because."]


def test_an_unwritable_progress_folder_does_not_make_an_answer_wrong(monkeypatch, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("COURSE_ARTIFACTS", str(tmp_path / "file"))
    assert check_double(lambda x: 2 * x) is True
    assert "could not be noted" in capsys.readouterr().out


def test_close_compares_shape_and_value_of_whatever_it_is_given():
    leaf = torch.tensor([1.0, 2.0], requires_grad=True)
    assert close(leaf, np.array([1.0, 2.0]))
    assert close([1, 2], leaf)
    assert close(torch.tensor(1.0, dtype=torch.bfloat16).float(), 1)
    assert not close(leaf, [[1.0, 2.0]])
    assert not close(leaf, [1.0, 2.1])
    assert not close("text", 1.0)
    assert not close(float("nan"), 1.0)


def doubles_in_place(x):
    x *= 2
    return x


@pytest.mark.parametrize("kind", [np.array, torch.tensor])
def test_call_hands_out_copies_and_names_an_answer_that_changes_them(kind):
    given = kind([1.0, 2.0])
    assert same(call(lambda x: 2 * x, given), [2.0, 4.0])
    with pytest.raises(WrongAnswer, match="changes its inputs"):
        call(doubles_in_place, given)
    assert given.tolist() == [1.0, 2.0]
    assert call(lambda x, n: n, kind([float("nan")]), 3) == 3
    with pytest.raises(WrongAnswer, match="gave back nothing"):
        call(lambda x: None, given)


WANTED = np.array([1.0, 2.0])
JUDGED = [
    (WANTED / 2, "Halved"),
    (WANTED * 2, "Twice or thrice"),
    (WANTED * 3, "Twice or thrice"),
    (np.ones(3), r"should be \(2,\), yours is \(3,\)"),
    (np.array([1.0, 9.0]), r"Look again\. Yours says \[1, 9\]\. Does it use its arguments"),
    (list(range(40)), r"something long \(list\)"),
]


@pytest.mark.parametrize(("value", "message"), JUDGED)
def test_judge_names_the_mistake_then_the_shape_then_the_rest(value, message):
    mistakes = {"Halved.": WANTED / 2, "Twice or thrice.": (WANTED * 2, WANTED * 3)}
    with pytest.raises(WrongAnswer, match=message):
        judge(value, WANTED, mistakes, "Look again.")


def test_judge_shows_where_a_long_answer_differs_first():
    wanted, got = torch.zeros(4, 3), torch.zeros(4, 3)
    got[2, 1], got[3, 0] = 0.5, 7
    with pytest.raises(WrongAnswer, match=r"Look again\. At \[2, 1\] it should be 0, yours is 0.5\. Does it use"):
        judge(got, wanted, {}, "Look again.")


@pytest.mark.parametrize("wanted", [3, 3.0, [3, 4]])
def test_judge_does_not_ask_a_value_about_its_arguments(wanted):
    with pytest.raises(WrongAnswer) as wrong:
        judge([7.0, 7.0] if isinstance(wanted, list) else 7, wanted, {}, "Look again.")
    assert str(wrong.value).startswith("Look again. Yours says ")
    assert "arguments" not in str(wrong.value)


def test_judge_accepts_every_spelling_of_the_right_value_and_names_infinity():
    for value in (WANTED, [1, 2], torch.tensor([1.0, 2.0], requires_grad=True), WANTED.astype(np.float16) * 1.001):
        judge(value, WANTED, {"Never.": WANTED}, "")
    with pytest.raises(WrongAnswer, match="not finite"):
        judge(float("nan"), 1.0, {}, "")
    with pytest.raises(WrongAnswer, match="not finite"):
        judge(np.array([1.0, np.nan]), WANTED, {}, "")
    with pytest.raises(WrongAnswer, match="exp overflows"):
        judge(torch.tensor(-torch.inf), 1.0, {}, "", "exp overflows")


def test_shown_is_short():
    assert [shown(value) for value in (1 / 3, np.float32(2), torch.tensor([1]), "x")] == ["0.3333", "2", "[1]", "'x'"]


@pytest.mark.parametrize("value", [(1, 2), [1, 2], np.array([1, 2]), torch.tensor([1, 2])])
def test_numbers_takes_every_kind_of_sequence(value):
    assert numbers(value, 2, "Two, please.") == [1, 2]


@pytest.mark.parametrize("value", [3, (1, 2, 3), {1, 2}, {1: 2, 3: 4}, "12", torch.tensor(1), np.array(2)])
def test_numbers_wants_as_many_as_were_asked_in_an_order(value):
    with pytest.raises(WrongAnswer, match="Two, please"):
        numbers(value, 2, "Two, please.")
    with pytest.raises(WrongAnswer, match="still open"):
        numbers((1, ...), 2, "Two, please.")


@pytest.mark.parametrize("given", [[[1], [2]], {"a": [1]}])
def test_call_hands_out_copies_of_lists_and_dictionaries_too(given):
    def changes(some):
        (some if isinstance(some, list) else some["a"]).append(3)
        return 1

    with pytest.raises(WrongAnswer, match="Make new lists"):
        call(changes, given)
    assert given in ([[1], [2]], {"a": [1]})
    assert call(len, given) == len(given)


@pytest.mark.parametrize("value", [[1, 2], (1, 2), np.array([1, 2]), torch.tensor([1, 2]), range(1, 3), iter([1, 2])])
def test_items_are_plain_python_of_every_kind_of_list(value):
    assert items(value, "rows") == [1, 2] and {type(one) for one in items([np.int64(1), torch.tensor(2)], "rows")} == {
        int
    }


@pytest.mark.parametrize(("value", "message"), [({1, 2}, "rows is a set"), (3, "rows should be a list, not 3"),
                                                ("ab", "not 'ab'"), ({1: 2}, "should be a list")])  # fmt: skip
def test_items_refuse_what_has_no_order(value, message):
    with pytest.raises(WrongAnswer, match=message):
        items(value, "rows")


@pytest.mark.parametrize(("value", "message"), [([2, 1], "^Turned.$"), ([1], "should have 2 entries, yours has 1. L"),
                                                ([1, 3], r"rows\[1\] should be 2, yours is 3. Look")])  # fmt: skip
def test_match_names_the_mistake_then_where_two_lists_differ(value, message):
    match([1, 2], [1, 2], {}, "rows")
    match([np.array([1, 2]), torch.tensor(3)], [[1, 2], 3], {}, "rows")
    with pytest.raises(WrongAnswer, match=message):
        match(value, [1, 2], {"Turned.": ([2, 1],)}, "rows", "Look again.")


@pytest.mark.parametrize("draw", [np.random.rand, random.random, lambda: torch.rand(1), lambda: np.random.seed(1)])
def test_elsewhere_names_a_use_of_the_shared_generators_and_leaves_them_alone(draw):
    def states():
        return repr((np.random.get_state(), random.getstate(), torch.get_rng_state().sum()))

    before = states()
    assert elsewhere(lambda: np.random.default_rng(1).integers(9)) == np.random.default_rng(1).integers(9)
    with pytest.raises(WrongAnswer, match="generators that all code shares"):
        elsewhere(draw)
    assert states() == before
