"""Judge the answers of a class: each alone, in a process of its own, in bounded time, by checks out of its reach.

`python -m course_utils.judging SECONDS` reads a list of cases (JSON) and writes [[right, message], ...] in their order.

An answer gets the names that the lesson defines (imports, functions, classes, constants), not the results of its
experiments: a class is graded without training a model. An answer that needs such a result is tried again after the
whole lesson has run. The check was imported before the answer ran, gets plain values from it, and counts only if
nothing that it relies on was changed. What is left open is said in TEACHING.md: code in one process is never quite
safe from code in the same process.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import functools
import importlib
import json
import linecache
import multiprocessing
import os
import re
import signal
import subprocess
import symtable
import sys
import tempfile
import types
from collections.abc import Callable
from dataclasses import dataclass

LESSON_SECONDS = 300  # what a whole lesson may take in the profile `smoke`, where an answer needs one
_TRUSTED = {"builtins", "collections", "contextlib", "course_utils", "datetime", "decimal", "fractions", "numpy"}
_TRUSTED |= {"pandas", "pathlib", "PIL", "torch"}  # types from here compare and convert as they should
_WATCHED = {"builtins", "copy", "course_utils", "functools", "json", "math", "multiprocessing", "numpy", "re"}
_WATCHED_TORCH = {"torch", "torch._tensor", "torch.autograd", "torch.linalg", "torch.nn", "torch.nn.functional"}
_DENIED = {"os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.kill", "os.killpg"}
_DENIED |= {"subprocess.Popen", "socket.connect", "sqlite3.connect", "gc.get_objects", "gc.get_referrers"}
_MOVES = {"os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "os.chmod"}
_PRELOADED = ("course_utils.judging", "course_utils.checks.own", "pandas", "torch", "torch.optim", "torch._dynamo")
_METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"  # slower, on Windows
_BYTES = 16 * 2**30  # of address space, where the system can limit it
_PRYING = re.compile(r"\b(_getframe|currentframe|f_back|f_locals|tb_frame|__closure__|__globals__|__code__)\b")


@dataclass(frozen=True)
class Case:
    """One exercise of one student. All but `names` is source code; cells that come after the check are left out.

    lesson: the lesson's own cells. others: what else the student wrote. answer: their answer. names: what it should
    define. check: the locked cell, which passes or raises.
    """

    lesson: list[str]
    others: list[str]
    answer: str
    names: list[str]
    check: str


def judge(cases: list[Case], seconds: float = 60) -> list[tuple[bool, str]]:
    """(right, message) of each case; an answer gets `seconds`, and the lesson LESSON_SECONDS where it is needed."""
    command = [sys.executable, "-m", "course_utils.judging", str(seconds)]
    given = json.dumps([dataclasses.asdict(case) for case in cases])
    quiet = os.environ | {"COURSE_PROFILE": "smoke", "MPLBACKEND": "Agg", "PYTHONDONTWRITEBYTECODE": "1"}
    limit = len(cases) * 2 * (seconds + 2 * LESSON_SECONDS) + 120
    done = subprocess.run(command, input=given, env=quiet, capture_output=True, text=True, timeout=limit)
    if done.returncode:
        raise RuntimeError(f"The judge itself stopped: {done.stderr[-2000:]}")
    return [(right, message) for right, message in json.loads(done.stdout)]


def definitions(source: str) -> list[ast.stmt]:
    """The statements of a cell that say what names mean: imports, functions, classes, constants. Nothing that runs."""
    try:
        tree = ast.parse(plain_python(source))
    except SyntaxError:
        return []
    return [node for node in tree.body if isinstance(node, _NAMING) or _is_constant(node)]


def plain_python(source: str) -> str:
    """A cell without its magic and shell lines."""
    return re.sub(r"(?m)^([ \t]*)[%!].*$", r"\1pass", source)


def names_of(source: str) -> list[str]:
    """The names that a cell brings: what it defines, assigns or imports outside of functions."""
    table = symtable.symtable(plain_python(source), "cell", "exec")
    return [one.get_name() for one in table.get_symbols() if one.is_assigned() or one.is_imported()]


_IMPORTS = (ast.Import, ast.ImportFrom)
_NAMING = (*_IMPORTS, ast.FunctionDef, ast.ClassDef)


def _is_constant(node: ast.stmt) -> bool:
    if not isinstance(node, ast.Assign):
        return False
    if isinstance(node.value, ast.Lambda):
        return True
    with contextlib.suppress(ValueError, TypeError, SyntaxError, MemoryError):
        ast.literal_eval(node.value)
        return True
    return False


def _settle(case: Case, seconds: float) -> tuple[bool, str]:
    """The verdict on a case: with the lesson's definitions or, if a result of it is missing, with all of it."""
    verdict, message = _apart(case, False, seconds)
    if verdict == "incomplete":
        verdict, message = _apart(case, True, seconds)
    return verdict == "right", message


def _apart(case: Case, whole: bool, seconds: float) -> tuple[str, str]:
    """Try a case in a process of its own, which is ended with all that it started."""
    context = multiprocessing.get_context(_METHOD)
    ours, theirs = context.Pipe(duplex=False)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        process = context.Process(target=_try, args=(theirs, case, whole, folder))
        process.start()
        theirs.close()
        try:
            if not ours.poll(2 * LESSON_SECONDS) or not _received(ours):
                raise RuntimeError("The lesson's own cells could not be prepared.")
            if not ours.poll(seconds):
                return "wrong", f"Stopped after {seconds:g} seconds. Is there a loop that does not end?"
            verdict, _, message = _received(ours).partition("\n")
            return verdict or "wrong", message or "Your code ended the process that it ran in, before the check could."
        finally:
            with contextlib.suppress(OSError, AttributeError):
                os.killpg(process.pid, signal.SIGKILL)
            process.kill()
            process.join()


def _received(connection: object) -> str:
    """What the other process sent, never unpickled; nothing if it ended."""
    with contextlib.suppress(EOFError, OSError):
        return connection.recv_bytes(100_000).decode(errors="replace")
    return ""


def _try(connection: object, case: Case, whole: bool, folder: str) -> None:
    """In the new process: run the answer, hear the check, send `verdict` and message, end."""
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - until the process ends
    for stream in (1, 2):
        os.dup2(sys.stdout.fileno(), stream)
    if hasattr(os, "setsid"):
        os.setsid()
    os.chdir(folder)
    tempfile.tempdir = os.environ["COURSE_ARTIFACTS"] = os.path.realpath(folder)
    with contextlib.suppress(ImportError, OSError, ValueError):
        resource = importlib.import_module("resource")
        resource.setrlimit(resource.RLIMIT_AS, (_BYTES, _BYTES))
    court = _world(case.lesson, False)
    for name in [name for name in sys.modules if name.partition(".")[0] in ("course_utils", "__mp_main__")]:
        _OUT_OF_REACH[name] = sys.modules.pop(name)  # what the answer imports from now on are copies
    student = _world(case.lesson, whole)
    before = _library(_OUT_OF_REACH)
    _guard(folder)
    connection.send_bytes(b"ready")
    for source in case.others:  # from here on everything is the student's
        _define(source, student)
    verdict = _hear(case, student, court, whole)
    altered = _altered(before)
    if altered:
        verdict = f"wrong\nYour code changes {altered}, on which the check relies."
    connection.send_bytes(verdict.encode())
    os._exit(0)


_OUT_OF_REACH: dict[str, types.ModuleType] = {}


def _world(lesson: list[str], whole: bool) -> dict[str, object]:
    """The names of a lesson, in a namespace of their own."""
    names = {"__name__": "__main__", "__builtins__": __builtins__}
    for source in lesson:
        _define(source, names, whole)
    return names


def _define(source: str, names: dict[str, object], whole: bool = False) -> None:
    """Run a cell's definitions, or all of it, one statement at a time; what cannot run here stays undefined."""
    with contextlib.suppress(SyntaxError):
        for node in ast.parse(plain_python(source)).body if whole else definitions(source):
            with contextlib.suppress(Exception):
                exec(compile(ast.Module([node], []), "<a cell above>", "exec"), names)


def _compiled(source: str, title: str) -> types.CodeType:
    """Code whose lines an error can show."""
    linecache.cache[title] = (len(source), None, source.splitlines(keepends=True), title)
    return compile(source, title, "exec")


def _hear(case: Case, student: dict[str, object], court: dict[str, object], whole: bool) -> str:
    """Run the answer among the student's names, then the check among the court's."""
    prying = _PRYING.search("\n".join([*case.others, case.answer]))
    if prying:
        return f"wrong\nYour answer speaks of {prying[0]}. No exercise needs it; ask your teacher."
    stopped = None
    try:
        exec(_compiled(plain_python(case.answer), "<your answer>"), student)
    except BaseException as error:  # also SystemExit and KeyboardInterrupt: what was defined until then counts
        stopped = error
    if not whole and _lacks(stopped, case):
        return "incomplete\n"
    given = {name: student.get(name) for name in case.names}
    if isinstance(stopped, BaseException) and all(value is None or value is ... for value in given.values()):
        return f"wrong\nYour cell stopped with {type(stopped).__name__}: {stopped}"
    try:
        court |= {name: plain(value) for name, value in given.items()}
        exec(_compiled(case.check, "<the check>"), court)
    except BaseException as error:
        if not whole and _lacks(error, case):
            return "incomplete\n"
        return f"wrong\n{str(error) or 'Not attempted yet.'}"
    return "right\nRight."


def _lacks(error: BaseException | None, case: Case) -> bool:
    """Whether the lesson, run in full, could bring the name for whose absence the code stopped."""
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, NameError):
            return any(error.name in names_of(source) for source in case.lesson)
        error = error.__cause__ or error.__context__
    return False


def plain(value: object) -> object:
    """An answer, or what it gives back, without classes of the student's own, which could claim to equal anything.

    Functions give plain values in turn. Own subclasses of list, tuple, dict and set become these. TypeError for others.
    """
    kind = type(value)
    if isinstance(value, type) or kind in _CODE:
        return _giving_plain_values(value)
    if isinstance(value, types.GeneratorType):
        return (plain(item) for item in value)
    ours = kind.__module__.partition(".")[0] in _TRUSTED and any(one is kind for one in _homonyms(kind))
    if ours and getattr(value, "dtype", None) == "O":
        return plain(value.tolist())
    if isinstance(value, dict):
        return {plain(key): plain(item) for key, item in dict.items(value)}
    for base in (list, tuple, set, frozenset):
        if isinstance(value, base) and not (ours and kind.__module__ != "builtins"):
            return base(plain(item) for item in base.__iter__(value))
    if ours or value is None or value is ...:
        return value
    if callable(value):
        return _giving_plain_values(value)
    raise TypeError(f"a {kind.__name__} of your own is given back: give back numbers, lists, arrays or tensors.")


def _homonyms(kind: type) -> list:
    """What stands under a type's name where it says it is from."""
    homes = (sys.modules.get(kind.__module__), _OUT_OF_REACH.get(kind.__module__))
    steps = kind.__qualname__.split(".")
    return [functools.reduce(lambda found, step: getattr(found, step, None), steps, home) for home in homes]


_CODE = (types.FunctionType, types.MethodType, types.BuiltinFunctionType, functools.partial)


def _giving_plain_values(function: Callable) -> Callable:
    """A function whose values are plain."""

    @functools.wraps(function, updated=())
    def _guarded(*arguments: object, **named: object) -> object:
        return plain(function(*arguments, **named))

    return _guarded


def _library(more: dict[str, types.ModuleType]) -> list[tuple[str, dict, dict]]:
    """(name, namespace, copy of its callables) of modules and classes that checks rely on."""
    every = (sys.modules | more).items()
    modules = {name: one for name, one in every if name.partition(".")[0] in _WATCHED or name in _WATCHED_TORCH}
    found, classes = [], {}
    for name, module in modules.items():
        if name in more or not name.startswith("course_utils"):  # copies in the student's reach may be changed
            found.append((name, vars(module), _callables(vars(module))))
            classes |= {id(x): x for x in vars(module).values() if isinstance(x, type)}
    for kind in classes.values():
        found.append((kind.__qualname__, vars(kind), _callables(vars(kind))))
    return found


def _callables(names: dict) -> dict:
    """name -> (object, its code) of what can be called."""
    return {key: (value, getattr(value, "__code__", None)) for key, value in names.items() if callable(value)}


def _altered(before: list[tuple[str, dict, dict]], get: Callable = getattr) -> str:
    """The first name that no longer means what was noted, or nothing. Calls no builtin that could be replaced."""
    for name, names, kept in before:
        for key, (value, code) in kept.items():
            now = names.get(key)
            if now is not value or get(now, "__code__", None) is not code:
                return name + "." + key
    return ""


def _guard(folder: str) -> None:
    """From now on nothing is written outside `folder`, no program is started, no connection made."""
    inside, writing = os.path.realpath(folder) + os.sep, os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
    real, under = os.path.realpath, os.fspath

    def watch(event: str, arguments: tuple) -> None:
        if event in _DENIED:
            raise PermissionError(f"an answer may not use {event}")
        if event in _MOVES or (event == "open" and isinstance(arguments[2], int) and arguments[2] & writing):
            path = arguments[0]
            path = os.fsdecode(real(under(path))) if isinstance(path, (str, bytes, os.PathLike)) else inside
            if not path.startswith(inside) and path != os.devnull:
                raise PermissionError("an answer may write in its own folder alone")

    sys.addaudithook(watch)


def main(arguments: list[str]) -> None:
    """The command line: SECONDS."""
    cases = [Case(**one) for one in json.load(sys.stdin)]
    if _METHOD == "forkserver":  # what all cases import is imported once
        sources = cases[-1].lesson if cases else []
        nodes = [node for source in sources for node in definitions(source) if isinstance(node, _IMPORTS)]
        names = [ast.unparse(node).split()[1] for node in nodes]
        names += [f"{x.module}.{one.name}" for x in nodes if isinstance(x, ast.ImportFrom) for one in x.names]
        multiprocessing.get_context(_METHOD).set_forkserver_preload([*_PRELOADED, *names])
    verdicts = [_settle(case, float(arguments[0])) for case in cases]
    print(json.dumps(verdicts))


if __name__ == "__main__":
    importlib.import_module("course_utils.judging").main(sys.argv[1:])
