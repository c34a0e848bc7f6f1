"""What holds for the checks of every lesson: right, wrong and missing answers are told apart, by the intended words.

A lesson's test file lists `RIGHT` [(number, [answer, ...]), ...] and `WRONG` {number: [(answer, message)]}, and
takes these tests over:

    class TestContract(Contract):
        checks, right, wrong, values = checks, RIGHT, WRONG, VALUES
"""

import pytest

from course_utils import progress
from course_utils.checks._outcome import WrongAnswer


def by_number(checks) -> dict:
    """number -> check, of a module of checks."""
    return {check.number: check for name, check in vars(checks).items() if name.startswith("check_")}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # a wrong answer may divide by zero
class Contract:
    """checks: the module. right, wrong: answers, see above. values: exercises whose answer is no function."""

    values = ()

    def pytest_generate_tests(self, metafunc):
        numbers = sorted(by_number(self.checks))
        cases = {
            ("number", "right"): [(number, answer) for number, answers in self.right for answer in answers],
            ("number", "wrong", "message"): [(n, *case) for n, answers in self.wrong.items() for case in answers],
            ("number",): [(number,) for number in numbers],
            ("function",): [(number,) for number in numbers if number not in self.values],
        }
        for names, rows in cases.items():
            if set(names) == set(metafunc.fixturenames) & {"number", "right", "wrong", "message", "function"}:
                metafunc.parametrize(names, rows)

    def test_right_answers_in_every_spelling_pass_and_are_noted(self, number, right, capsys):
        assert by_number(self.checks)[number](right) is True
        assert capsys.readouterr().out == f"Exercise {number}: right.\n"
        assert progress.table().exercise.tolist() == [number]

    def test_what_people_write_is_named(self, number, wrong, message):
        with pytest.raises(WrongAnswer, match=f"(?s)^Exercise {number}: .*({message})"):
            by_number(self.checks)[number](wrong)
        assert progress.table().empty

    def test_every_exercise_has_wrong_and_right_answers(self):
        numbers = set(by_number(self.checks))
        assert numbers == set(self.wrong) == {number for number, _ in self.right}
        assert len(numbers) >= 8
        assert all(len(cases) >= 3 for cases in self.wrong.values())
        spellings = {number: sum(len(answers) for n, answers in self.right if n == number) for number in numbers}
        assert [number for number, count in spellings.items() if count < 2] == []

    def test_not_attempted_says_so(self, number, capsys):
        def stub(*arguments):
            raise NotImplementedError(f"Exercise {number}")

        empty = [None, ...] + [stub] * (number not in self.values)
        assert [by_number(self.checks)[number](answer) for answer in empty] == [False] * len(empty)
        assert capsys.readouterr().out == f"Exercise {number}: not attempted yet.\n" * len(empty)
        assert progress.table().empty

    def test_an_answer_that_raises_gets_its_line_named(self, function):
        def broken(*arguments):
            return arguments[0] + undefined_name  # noqa: F821

        with pytest.raises(WrongAnswer, match=r"stopped in line \d+ \(`return arguments.*NameError"):
            by_number(self.checks)[function](broken)
