"""Write notebooks/MISTAKES.md: what learners get wrong, exercise by exercise, in the words that the checks have for it.

python data_scripts/write_mistakes.py            from a checkout; runs the wrong answers that tests/checks holds
python data_scripts/write_mistakes.py 0.2 2.3    print these exercises alone
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TITLE = re.compile(r"^# #+ Exercise (\d+\.\d+): (.*)$", re.MULTILINE)
SET = re.compile(r"\{('[^{}:]*')\}")  # of words; its order differs from run to run
HEAD = """# What learners get wrong, and what they read

Written by `python data_scripts/write_mistakes.py` from the wrong answers in `tests/checks`. Numbers in a message are
those of the answer that was tried; answers that stop with an error of their own are left out. *Class edition* marks an
exercise that takes another's place where a class is graded (TEACHING.md).
"""


def wrong_answers() -> dict[str, list[tuple[Callable, object]]]:
    """number -> (check, wrong answer) of every exercise of the lessons."""
    found = {}
    for path in sorted((ROOT / "tests" / "checks").glob("test_*.py")):
        module = _module(path)
        wrong = getattr(module, "WRONG", None)
        if isinstance(wrong, dict):
            checks = {one.number: one for one in vars(module.checks).values() if hasattr(one, "number")}
            found |= {number: [(checks[number], case[0]) for case in cases] for number, cases in wrong.items()}
        for check, answer, _ in wrong if isinstance(wrong, list) else []:
            found.setdefault(check.number, []).append((check, answer))
    return found


def class_edition() -> dict[str, list[tuple[Callable, object]]]:
    """The same of the exercises that only a class is given."""
    module, cases = _module(ROOT / "tests" / "checks" / "test_variants.py"), {}
    for number, (_, wrong) in module.CASES.items():
        check = next(one for key, one in module.variant(number).items() if key.startswith("check_"))
        cases[number] = [(check, answer) for answer, _ in wrong]
    return cases


def said(check: Callable, answer: object) -> str:
    """What a check says of an answer, without the exercise's number; nothing if it takes it for right."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()), _calm():
        try:
            check(answer)
        except AssertionError as error:
            text = " ".join(str(error).partition(": ")[2].split())
            return SET.sub(lambda found: "{" + ", ".join(sorted(found[1].split(", "))) + "}", text)
    return ""


def report(cases: dict[str, list[tuple[Callable, object]]], titles: dict[str, str], mark: str = "") -> dict[str, str]:
    """number -> an exercise's heading and messages as Markdown."""
    found = {}
    for number, wrong in cases.items():
        if number not in titles:  # its lesson is not written yet
            continue
        told = dict.fromkeys(said(*case) for case in wrong)  # in order, each once
        lines = [line for line in told if line and not line.startswith("your code stopped")]
        found[number] = "\n".join([f"**{number} {titles[number]}**{mark}", "", *[f"- {line}" for line in lines], ""])
    return found


def titles(folder: Path) -> dict[str, str]:
    """number -> title of the exercises in masters or variants."""
    return dict(pair for path in sorted(folder.glob("[0-9]*.py")) for pair in TITLE.findall(path.read_text("utf-8")))


@contextlib.contextmanager
def _calm() -> Iterator[None]:
    """Progress goes to a folder of its own, and wrong answers may divide by zero."""
    kept = os.environ.get("COURSE_ARTIFACTS")
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        os.environ["COURSE_ARTIFACTS"] = folder
        try:
            yield
        finally:
            os.environ.pop("COURSE_ARTIFACTS")
            os.environ |= {"COURSE_ARTIFACTS": kept} if kept else {}


def _module(path: Path) -> object:
    """A test file as a module; its neighbours can be imported from it."""
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def table(wanted: list[str]) -> str:
    """The whole file, or the exercises that are wanted."""
    source, texts = ROOT / "notebooks" / "src", {}
    for cases, folder, mark in (
        (wrong_answers(), source, ""),
        (class_edition(), source / "variants", " (class edition)"),
    ):
        chosen = {number: case for number, case in cases.items() if not wanted or number in wanted}
        for number, text in report(chosen, titles(folder), mark).items():
            texts[number] = f"{texts[number]}\n{text}" if number in texts else text
    lines, lesson = [] if wanted else [HEAD], None
    for number in sorted(texts, key=lambda number: [int(part) for part in number.split(".")]):
        if number.partition(".")[0] != lesson:
            lesson = number.partition(".")[0]
            lines.append(f"## Lesson {lesson:0>2}\n")
        lines.append(texts[number])
    return "\n".join(lines).rstrip() + "\n"


def main(wanted: list[str]) -> None:
    """The command line."""
    text = table(wanted)
    if wanted:
        print(text)
    else:
        (ROOT / "notebooks" / "MISTAKES.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
