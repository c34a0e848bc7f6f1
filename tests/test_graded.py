"""What the class edition grades cannot be answered by a function that exists already: the package's, or a library's."""

import ast
import contextlib
import importlib
import inspect
import io
import pkgutil
import re
import signal

import pytest

import course_utils
from course_utils import judging

REGION = re.compile(r"^[ \t]*# BEGIN SOLUTION\n(.*?)^[ \t]*# END SOLUTION\n?", re.MULTILINE | re.DOTALL)

LIBRARIES = {"math", "numpy", "scipy", "sklearn", "statistics", "torch", "torchmetrics", "torchvision"}


class TooLong(Exception):
    """A candidate that trains or waits is no answer."""


def package():
    """name -> every public callable of course_utils."""
    found = {}
    for about in pkgutil.iter_modules(course_utils.__path__):
        if about.name not in ("checks", "grading", "judging"):
            module = importlib.import_module(f"course_utils.{about.name}")
            own = {name: one for name, one in vars(module).items() if getattr(one, "__module__", "") == module.__name__}
            found |= {f"{about.name}.{k}": one for k, one in own.items() if callable(one) and not k.startswith("_")}
    return found


def library(cells, names):
    """name -> what a lesson calls of numeric libraries, such as F.normalize or np.linalg.qr."""
    chains = {
        ast.unparse(node) for source in cells for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute)
    }
    found = {}
    for chain in chains | set(names):
        with contextlib.suppress(Exception):
            one = eval(chain, names)  # noqa: S307 - a dotted name of the lesson
            home = inspect.getmodule(one) or importlib.import_module(type(one).__module__)
            if callable(one) and home.__name__.partition(".")[0] in LIBRARIES:
                found[chain] = one
    return found


def graded(notebook):
    """(solution, name of the answer, check with its hidden cases) of each exercise of a class edition."""
    solution = ""
    for cell in notebook.cells:
        about = cell.metadata.get("nbgrader", {})
        if about.get("solution"):
            solution = REGION.sub(r"\1", cell.source)
        elif about.get("grade"):
            yield solution, judging.names_of(solution)[0], cell.source


def accepts(check, names, answer):
    """Whether a check, hidden cases included, takes this for an answer."""
    signal.setitimer(signal.ITIMER_REAL, 3)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            exec(check, names | answer)
    except (Exception, SystemExit):
        return False
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return True


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_solutions_are_right_and_no_function_that_exists_is(script, tmp_path, monkeypatch):
    def stop(*_):
        raise TooLong

    monkeypatch.chdir(tmp_path)
    before = signal.signal(signal.SIGALRM, stop)
    build, ours, passed, refused, tried = script("notebooks/build.py"), package(), [], [], 0
    try:
        for master in build.masters():
            names = {"__name__": "__main__"}
            notebook = build.build(master, "nbgrader")
            code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
            for source in code:
                judging._define(source, names)
            known = ours | library(code, names)
            for solution, answer, check in graded(notebook):
                tried += len(known)
                mine = dict(names)
                exec(solution, mine)  # what the lesson defines is enough; none of its experiments is needed
                if not accepts(check, names, {answer: judging.plain(mine[answer])}):
                    refused.append(check.partition("\n")[0])
                passed += [
                    f"{check.partition(chr(10))[0]} <- {k}"
                    for k, one in known.items()
                    if accepts(check, names, {answer: one})
                ]
    finally:
        signal.signal(signal.SIGALRM, before)
    assert passed == []
    assert refused == [], "solutions that their own checks refuse"
    assert tried > 20_000, "the package has hundreds of functions, the course some eighty exercises"


def test_a_function_that_answers_would_be_found(script):
    """The test above can fail: before its variant, Exercise 2.3 was answered by losses.clip_loss."""
    names = {}
    judging._define("from course_utils.checks import contrastive_loss", names)
    known = package()
    assert accepts(
        "assert contrastive_loss.check_clip_loss(clip_loss)", names, {"clip_loss": known["losses.clip_loss"]}
    )
    assert not accepts(
        "assert contrastive_loss.check_clip_loss(clip_loss)", names, {"clip_loss": known["losses.siglip_loss"]}
    )
