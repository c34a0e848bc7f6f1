"""Every exercise alone: honest answers pass as they would in the notebook, dishonest ones earn what they answer."""

import time

import pytest

from course_utils import judging
from course_utils.judging import Case, definitions, judge, names_of, plain

LESSON = [
    "import math\nimport numpy as np\nimport torch\nfrom course_utils.checks import start_here",
    "measured = [math.pi] * 3\nrows = np.arange(4)\n\n\ndef half(x):\n    return x / 2",
    "def check_days(answer):\n    if answer != 7:\n        raise AssertionError('A week has another number of days.')\n"
    "    return True",
]
COSINE = "assert start_here.check_cosine(cosine)"
RIGHT = """
def cosine(a, b):
    a, b = a / a.norm(dim=1, keepdim=True), b / b.norm(dim=1, keepdim=True)
    return a @ b.T
"""
WRONG = "\ndef cosine(a, b):\n    return a @ b.T\n"
PLAIN = "This is the plain product."  # what the wrong answer is told
EQUAL = "class Everything:\n    __module__ = 'numpy'\n    def __eq__(self, other):\n        return True\n"

CHEATS = {
    "a lambda in the check's place": (f"{WRONG}start_here.check_cosine = lambda answer: True", PLAIN),
    "another module under its name": (
        f"class start_here:\n    check_cosine = staticmethod(lambda _: True)\n{WRONG}",
        PLAIN,
    ),
    "words of all checks made hollow": (
        f"from course_utils.checks import _outcome\n_outcome.expect = _outcome.run = lambda *anything: True\n{WRONG}",
        PLAIN,
    ),
    "modules taken from the table": (
        f"import sys\nfor n in [n for n in sys.modules if 'check' in n]:\n    sys.modules[n].expect = print\n{WRONG}",
        PLAIN,
    ),
    "the library's comparison replaced": (f"np.allclose = lambda *anything: False\n{WRONG}", "changes numpy.allclose"),
    "replaced while the check runs": (
        "def cosine(a, b):\n    torch.equal = lambda *anything: True\n    return a @ b.T",
        "changes torch.equal",
    ),
    "a builtin replaced": (f"import builtins\nbuiltins.all = lambda items: True\n{WRONG}", "changes builtins.all"),
    "equal to everything": (f"{EQUAL}\n\ndef cosine(a, b):\n    return Everything()", "a Everything of your own"),
    "the end of the process": (f"import os\n{WRONG}os._exit(0)", "ended the process"),
    "an end while it is judged": ("import os\n\ndef cosine(a, b):\n    os._exit(0)", "ended the process"),
    "looking at the caller": (
        "import sys\n\ndef cosine(a, b):\n    return sys._getframe(2).f_locals['wanted']",
        "speaks of _getframe",
    ),
    "hunting for the check's own copy": (
        f"import gc\n[setattr(m, 'expect', print) for m in gc.get_objects() if hasattr(m, 'expect')]\n{WRONG}",
        "may not use gc.get_objects",
    ),
}


@pytest.fixture(scope="module")
def verdicts():
    """All cases in one go, as for one student: name -> (right, message), and the seconds."""
    cases = {name: Case(LESSON, [], answer, ["cosine"], COSINE) for name, (answer, _) in CHEATS.items()}
    days = ["def check_days(answer):\n    raise SystemExit"]  # the student's own, which nobody asks
    honest = {
        "right": Case(LESSON, [], RIGHT, ["cosine"], COSINE),
        "right with magic": Case(LESSON, [], f"%matplotlib inline\n!ls\n{RIGHT}", ["cosine"], COSINE),
        "right, then an error": Case(LESSON, [], f"{RIGHT}\ncosine(1, 2)", ["cosine"], COSINE),
        "by a helper of another cell": Case(
            LESSON,
            ["def unit(x):\n    return x / x.norm(dim=1, keepdim=True)\n\nraise SystemExit"],
            "def cosine(a, b):\n    return unit(a) @ unit(b).T",
            ["cosine"],
            COSINE,
        ),
        "after a spoiled exercise": Case(
            LESSON, [CHEATS["words of all checks made hollow"][0], "np.allclose = print"], RIGHT, ["cosine"], COSINE
        ),
        "with a result of the lesson": Case(
            LESSON, days, "days = int(rows[3]) + len(measured) + 1", ["days"], "assert check_days(days)"
        ),
        "wrong": Case(LESSON, [], WRONG, ["cosine"], COSINE),
        "empty": Case(LESSON, [], "def cosine(a, b):\n    raise NotImplementedError", ["cosine"], COSINE),
        "open": Case(LESSON, [], "days = ...", ["days"], "assert check_days(days)"),
        "equal to seven": Case(LESSON, [], f"{EQUAL}\ndays = Everything()", ["days"], "assert check_days(days)"),
        "no Python": Case(LESSON, [], "def cosine(a, b)\n    return", ["cosine"], COSINE),
        "misspelt": Case(LESSON, [], "def cosine(a, b):\n    return a @ c.T", ["cosine"], COSINE),
        "prints without end": Case(LESSON, [], "while True:\n    print('x' * 10_000)", ["cosine"], COSINE),
        "swallows its end": Case(
            LESSON,
            [],
            "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
            "def cosine(a, b):\n    while True:\n        try:\n            while True:\n                pass\n"
            "        except BaseException:\n            pass",
            ["cosine"],
            COSINE,
        ),
        "last": Case(LESSON, [], RIGHT, ["cosine"], COSINE),
    }
    started = time.perf_counter()
    found = judge([*cases.values(), *honest.values()], 4)
    return dict(zip([*cases, *honest], found)), time.perf_counter() - started


@pytest.mark.slow
@pytest.mark.parametrize("name", CHEATS)
def test_a_cheat_earns_what_it_answers(verdicts, name):
    right, message = verdicts[0][name]
    assert not right
    assert CHEATS[name][1] in message


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["right", "right with magic", "right, then an error", "by a helper of another cell", "after a spoiled exercise",
     "with a result of the lesson", "last"],
)  # fmt: skip
def test_an_honest_answer_is_right(verdicts, name):
    assert verdicts[0][name] == (True, "Right.")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("wrong", PLAIN),
        ("empty", "Not attempted yet."),
        ("open", "another number"),
        ("equal to seven", "a Everything of your own"),
        ("no Python", "Your cell stopped with SyntaxError"),
        ("misspelt", "stopped in line 2 (`return a @ c.T`) with NameError"),
        ("prints without end", "Stopped after 4 seconds. Is there a loop that does not end?"),
        ("swallows its end", "Stopped after 4 seconds. Is there a loop that does not end?"),
    ],
)
def test_what_is_not_right_is_told_why(verdicts, name, message):
    right, said = verdicts[0][name]
    assert not right
    assert message in said


@pytest.mark.slow
def test_endless_loops_cost_their_limit_and_no_more(verdicts):
    assert verdicts[1] < 300


def test_nothing_is_written_elsewhere_and_nothing_started(tmp_path):
    target = tmp_path / "gradebook.db"
    target.write_text("marks")
    answers = {
        f"open({str(target)!r}, 'w')": "may write in its own folder alone",
        f"import os; os.remove({str(target)!r})": "may write in its own folder alone",
        f"import sqlite3; sqlite3.connect({str(target)!r})": "may not use sqlite3.connect",
        "import subprocess; subprocess.run(['true'])": "may not use subprocess.Popen",
        "import os; os.system('true')": "may not use os.system",
        "open('notes.txt', 'w').write('x'); days = 7": "Right.",
    }
    cases = [Case(LESSON[2:], [], answer, ["days"], "assert check_days(days)") for answer in answers]
    for (right, said), message in zip(judge(cases, 20), answers.values()):
        assert message in said
        assert right == (message == "Right.")
    assert target.read_text() == "marks"


def test_definitions_leave_out_what_runs():
    source = "%time\nimport math\nx = 3\ny = [1, (2, 'a')]\nz = math.pi\nf = lambda a: a\nprint(x)\n"
    source += "@g\ndef h(a=z):\n    !ls\n    return a\nfor i in y:\n    x += 1"
    kept = [type(node).__name__ for node in definitions(source)]
    assert kept == ["Import", "Assign", "Assign", "Assign", "FunctionDef"]
    assert definitions("def (") == []


def test_names_of_a_cell():
    assert set(names_of("import os\nfrom math import pi as p\na, b = 1, 2\ndef f(x):\n    y = x\nclass C: pass")) == {
        "os", "p", "a", "b", "f", "C"}  # fmt: skip


class Everything(tuple):
    def __eq__(self, other):
        return True

    __hash__ = tuple.__hash__


class Sure:
    def __eq__(self, other):
        return True


def test_plain_values_keep_what_they_say_and_nothing_else():
    import numpy as np
    import torch

    tensor, array = torch.ones(2), np.ones(2)
    assert plain(tensor) is tensor and plain(array) is array and plain(2.5) == 2.5 and plain(None) is None
    assert type(plain(Everything((1, 2)))) is tuple and plain(Everything((1, 2))) != (3,)
    assert plain({"a": [Everything((1,))], 2: {3}}) == {"a": [(1,)], 2: {3}}
    assert plain(torch.ones(2, 2).topk(1)).indices.tolist() == [[0], [0]]
    assert plain(np.array([1, "a"], dtype=object)) == [1, "a"]
    assert list(plain(x for x in (1, 2))) == [1, 2]
    assert plain(lambda x: Everything((x,)))(3) == (3,) and plain(len)([1]) == 1
    for value in (Sure(), [Sure()], {"a": Sure()}, np.array([Sure()], dtype=object)):
        with pytest.raises(TypeError, match="a Sure of your own"):
            plain(value)


def test_the_judges_own_failure_is_not_the_students(monkeypatch):
    monkeypatch.setattr(judging.sys, "executable", "false")
    with pytest.raises(RuntimeError, match="The judge itself stopped"):
        judge([Case([], [], "", [], "")], 1)
