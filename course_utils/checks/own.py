"""What a check that a teacher writes needs, under one name; variants of exercises in the class edition use it too."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from course_utils.checks._outcome import call, exercise, expect, judge, numbers, same, shown

__all__ = ["agree", "call", "exercise", "expect", "judge", "numbers"]


def agree(answer: Callable, solution: Callable, cases: Iterable[tuple]) -> None:
    """WrongAnswer unless both give the same for each tuple of arguments; tuples of results are compared by part."""
    for arguments in cases:
        value, wanted = call(answer, *arguments), call(solution, *arguments)
        several = isinstance(wanted, (tuple, list))
        pairs = zip(value, wanted) if several else [(value, wanted)]
        fits = not several or (hasattr(value, "__len__") and len(value) == len(wanted))
        expect(
            fits and all(same(*pair) for pair in pairs),
            f"Right on the numbers shown, wrong on others: {shown(value)} where it should be {shown(wanted)}.",
        )
