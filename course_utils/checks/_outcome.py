"""The three outcomes of a check: not attempted, wrong (says why), right (noted in the learner's progress).

A check is written like this, and called by a lesson with the learner's answer alone:

    @exercise("02", "2.1")
    def check_cosine(answer):
        "cosine(a, b) of two vectors."
        value = run(answer, torch.tensor([3.0, 4.0]), torch.tensor([4.0, 3.0]))
        expect(not close(value, 24.0), "This is the dot product. Divide by both lengths.")
        expect(close(value, 0.96), f"For (3, 4) and (4, 3) the cosine is 0.96, yours says {value}.")
"""

from __future__ import annotations

import copy
import functools
import random
import traceback
from collections.abc import Callable

import numpy as np

from course_utils import progress


class WrongAnswer(AssertionError):
    """An answer that a check rejected; the message names the likely mistake. Jupyter shows the message alone."""

    def _render_traceback_(self) -> list[str]:
        return [f"Not right yet. {self}"]


def exercise(lesson: str, number: str) -> Callable:
    """Turn a function that raises WrongAnswer into a check with three outcomes (see the module's text).

    Not attempted: the answer is None or `...`, or it raises the notebook's NotImplementedError. The check then
    returns False. Any other error inside the learner's code becomes a WrongAnswer that names the line.
    """

    def decorate(check: Callable) -> Callable:
        @functools.wraps(check)
        def checked(answer: object) -> bool:
            if _absent(answer):
                return _not_attempted(number)
            try:
                check(answer)
            except NotImplementedError as error:
                if not _is_stub(error):
                    raise _stopped(number, error) from error
                return _not_attempted(number)
            except WrongAnswer as error:
                raise WrongAnswer(f"Exercise {number}: {error}") from None
            except Exception as error:
                raise _stopped(number, error) from error
            print(f"Exercise {number}: right.")
            try:
                progress.note(lesson, number)
            except OSError as error:
                print(f"Your progress could not be noted: {error}")
            return True

        checked.lesson, checked.number = lesson, number
        return checked

    return decorate


def expect(condition: object, message: str) -> None:
    """Raise WrongAnswer(message) unless `condition` holds."""
    if not condition:
        raise WrongAnswer(message)


def run(answer: Callable, *arguments: object) -> object:
    """Call the learner's function; a result of None or `...` is a WrongAnswer (a forgotten return)."""
    expect(
        callable(answer),
        f"Give the check your function itself, not {type(answer).__name__}: no brackets after its name.",
    )
    value = answer(*arguments)
    expect(not _absent(value), "Your function gave back nothing. Does every path end in a return?")
    return value


def close(got: object, wanted: object, tolerance: float = 1e-5) -> bool:
    """Whether numbers, arrays or tensors agree in shape and, within absolute plus relative `tolerance`, in value."""
    left, right = _array(got), _array(wanted)
    return left.shape == right.shape and bool(np.allclose(left, right, rtol=tolerance, atol=tolerance))


def call(answer: Callable, *arguments: object) -> object:
    """`run` on copies, so that nothing done in place reaches the check; that it was done is named.

    Tensors, arrays, lists and dictionaries are copied; anything else is handed over as it is.
    """
    copies = [_copy(argument) for argument in arguments]
    value = run(answer, *copies)
    for copied, kept in zip(copies, arguments):
        untouched = not hasattr(kept, "shape") or np.array_equal(_array(copied), _array(kept), equal_nan=True)
        expect(untouched, "Your function changes its inputs. Work on copies: a = a / n instead of a /= n.")
        untouched = not isinstance(kept, (list, dict)) or repr(copied) == repr(kept)
        expect(
            untouched,
            "Your function changes its inputs. Make new lists: row + [0], sorted(row), not row += [0] or row.sort().",
        )
    return value


def judge(value: object, wanted: object, mistakes: dict, otherwise: str, infinite: str = "") -> None:
    """Nothing if `value` is right, else the message of the mistake it equals, of its shape, or `otherwise`.

    mistakes: message -> the value, or tuple of values, that this mistake gives. infinite: what to say of inf and NaN.
    """
    if same(value, wanted):
        return
    for message, wrongs in mistakes.items():
        expect(not any(same(value, wrong) for wrong in (wrongs if isinstance(wrongs, tuple) else (wrongs,))), message)
    shape, needed = (tuple(getattr(thing, "shape", ())) for thing in (value, wanted))
    expect(shape == needed or isinstance(value, list), f"The shape should be {needed}, yours is {shape}.")
    expect(
        np.isfinite(_array(value)).all(),
        infinite or "Your result is not finite (inf or nan). Where do you divide, or take a log?",
    )
    where = _first_difference(_array(value), _array(wanted)) or f"Yours says {shown(value)}."
    plain = type(wanted) in (int, float, list)  # an answer that is a value has no arguments
    raise WrongAnswer(f"{otherwise} {where}" + " Does it use its arguments and nothing else?" * (not plain))


def numbers(value: object, count: int, message: str) -> list:
    """The items of a tuple, list, array or tensor of `count` numbers."""
    several = hasattr(value, "__iter__") and getattr(value, "shape", None) != ()
    values = list(value) if several and not isinstance(value, (str, set, dict)) else []
    expect(len(values) == count, message)
    expect(not any(item is ... or item is None for item in values), "One of the numbers is still open.")
    return values


def items(value: object, what: str) -> list:
    """The items of a list, tuple, array or tensor, as plain Python; `what` names it for the message."""
    value = value.tolist() if hasattr(value, "tolist") else value
    expect(not isinstance(value, (set, frozenset)), f"{what} is a set, which has no order and no doubles: use a list.")
    good = hasattr(value, "__iter__") and not isinstance(value, (str, bytes, dict))
    expect(good, f"{what} should be a list, not {shown(value)}.")
    return [item.item() if getattr(item, "shape", None) == () else item for item in value]


def match(value: list, wanted: list, mistakes: dict, what: str, otherwise: str = "") -> None:
    """Nothing if two lists are equal, else the message of the mistake it equals, or where they differ first.

    mistakes: message -> tuple of the lists that this mistake gives. otherwise: said of any other difference.
    """
    value = [item.tolist() if hasattr(item, "tolist") else item for item in value]
    if value == wanted:
        return
    for message, wrongs in mistakes.items():
        expect(value not in wrongs, message)
    expect(
        len(value) == len(wanted),
        f"{what} should have {len(wanted)} entries, yours has {len(value)}. {otherwise}".strip(),
    )
    k = next(k for k in range(len(wanted)) if value[k] != wanted[k])
    raise WrongAnswer(f"{what}[{k}] should be {wanted[k]!r}, yours is {shown(value[k])}. {otherwise}".strip())


def elsewhere(make: Callable) -> object:
    """make() while the global random generators stand elsewhere; they must be left as make found them."""
    import torch

    kept, states = (np.random.get_state(), random.getstate()), []
    with torch.random.fork_rng(devices=[]):
        try:
            np.random.seed(77), random.seed(77), torch.default_generator.manual_seed(77)
            states += [repr((np.random.get_state(), random.getstate(), torch.get_rng_state().sum()))]
            value = make()
            states += [repr((np.random.get_state(), random.getstate(), torch.get_rng_state().sum()))]
        finally:
            np.random.set_state(kept[0]), random.setstate(kept[1])
    used = "Your function draws from, or seeds, the random generators that all code shares. Make one of its own: rng = "
    expect(states[0] == states[1], f"{used}np.random.default_rng(...).")
    return value


def verdict(answer: Callable, subject: Callable) -> bool:
    """What a test that the learner wrote says of `subject`; random draws of the lesson stay as they are."""
    import torch

    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(16)
        try:
            value = run(answer, subject)
        except AssertionError as error:
            expect(isinstance(error, WrongAnswer), "Your test raised AssertionError: return True or False, no assert.")
            raise
    value = value.item() if getattr(value, "shape", None) == () else value
    expect(isinstance(value, bool), f"Return True or False, not {shown(value)}.")
    return value


def same(got: object, wanted: object) -> bool:
    """Whether two values are close; coarser where the answer came in half precision."""
    coarse = getattr(getattr(got, "dtype", None), "itemsize", 8) == 2
    return close(got.detach().double() if hasattr(got, "detach") else got, wanted, 2e-2 if coarse else 1e-4)


def shown(value: object) -> str:
    """A number as it is, anything long by its type."""
    plain = value.detach().double() if hasattr(value, "detach") else value
    plain = plain.tolist() if hasattr(plain, "tolist") else plain
    flat = isinstance(plain, list) and all(isinstance(number, float) for number in plain)
    text = f"[{', '.join(f'{number:.4g}' for number in plain)}]" if flat else repr(plain)
    text = f"{plain:.4g}" if isinstance(plain, float) else text
    return text if len(text) < 60 else f"something long ({type(value).__name__})"


def _first_difference(got: np.ndarray, wanted: np.ndarray) -> str:
    """Where two arrays of several dimensions, or of many numbers, differ first; nothing to say of a few numbers."""
    if got.shape != wanted.shape or got.size < 8:
        return ""
    place = tuple(int(i) for i in np.argwhere(~np.isclose(got, wanted, rtol=1e-4, atol=1e-4))[0])
    return f"At {list(place)} it should be {wanted[place]:.4g}, yours is {got[place]:.4g}."


def _copy(value: object) -> object:
    if hasattr(value, "detach"):
        return value.detach().clone()
    return copy.deepcopy(value) if isinstance(value, (list, dict, np.ndarray)) else value


def _array(value: object) -> np.ndarray:
    """A tensor (also with a gradient), number or nested list as a float array; anything else as an empty array."""
    detach = getattr(value, "detach", None)
    try:
        return np.asarray(detach().cpu().numpy() if detach else value, dtype=float)
    except (TypeError, ValueError):
        return np.empty((0, 0, 0))


def _absent(answer: object) -> bool:
    return answer is None or answer is ...


def _is_stub(error: NotImplementedError) -> bool:
    """A notebook raises `NotImplementedError("Exercise 2.1")`, nbgrader a bare one; torch's have long messages."""
    return not error.args or str(error).startswith("Exercise") or not str(error)


def _not_attempted(number: str) -> bool:
    print(f"Exercise {number}: not attempted yet.")
    return False


def _stopped(number: str, error: Exception) -> WrongAnswer:
    """A WrongAnswer for code that raised: error, and the learner's own last line where it can be found."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "course_utils" not in f.filename]
    mine = [f for f in frames if "site-packages" not in f.filename]
    where = f" in line {mine[-1].lineno} (`{mine[-1].line}`)" if mine and mine[-1].line else ""
    return WrongAnswer(f"Exercise {number}: your code stopped{where} with {type(error).__name__}: {error}")
