"""The classroom export with the real nbgrader: release, three submissions, marks."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

pytestmark = pytest.mark.slow


def nbgrader(course, *arguments):
    """Run an nbgrader command in a course folder; its scripts must be found on PATH."""
    environment = os.environ | {
        "PATH": os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"],
        "COURSE_PROFILE": "smoke",
        "COURSE_ARTIFACTS": str(course / "artifacts"),
    }
    command = [sys.executable, "-m", "nbgrader", *arguments]
    result = subprocess.run(command, cwd=course, env=environment, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr[-3000:]


def solve(notebook, answers):
    """Write an answer into each exercise cell: the solution's source, or one given by a part of the cell's text."""
    for cell in notebook.cells:
        if cell.metadata.get("nbgrader", {}).get("solution"):
            cell.source = next(answer for part, answer in answers if part in cell.source)


def test_right_empty_and_wrong_submissions_get_the_marks_they_deserve(mini, tmp_path):
    course = tmp_path / "classroom"
    assert mini.main(["--nbgrader", str(course)]) == 0
    nbgrader(course, "generate_assignment", "98_mini", "--create")
    released = course / "release" / "98_mini" / "98_mini.ipynb"
    text = released.read_text()
    assert "SOLUTION" not in text
    assert "return 2 * x" not in text
    assert "assert check_double(double)" in text
    right = [("def double", "def double(x):\n    return x + x"), ("answer", "answer = 7")]
    wrong = [("def double", "def double(x):\n    return x * x"), ("answer", "answer = 5")]
    for student, answers in (("right", right), ("wrong", wrong), ("empty", None)):
        notebook = nbformat.read(released, as_version=4)
        if answers:
            solve(notebook, answers)
        target = course / "submitted" / student / "98_mini" / "98_mini.ipynb"
        target.parent.mkdir(parents=True)
        nbformat.write(notebook, target)
    nbgrader(course, "autograde", "98_mini", "--create")
    nbgrader(course, "export", "--to", "grades.csv")
    with open(course / "grades.csv", newline="") as file:
        marks = {row["student_id"]: (float(row["score"]), float(row["max_score"])) for row in csv.DictReader(file)}
    assert marks == {"right": (3.0, 3.0), "wrong": (0.0, 3.0), "empty": (0.0, 3.0)}


def test_every_lesson_is_released_without_its_solutions(script, tmp_path, root):
    build = script("notebooks/build.py")
    assert build.main(["--nbgrader", str(tmp_path)]) == 0
    lessons = [path.stem for path in build.masters()]
    for lesson in lessons:
        nbgrader(tmp_path, "generate_assignment", lesson, "--create")
        released = nbformat.read(tmp_path / "release" / lesson / f"{lesson}.ipynb", as_version=4)
        solved = nbformat.read(Path(root) / "notebooks" / "solutions" / f"{lesson}.ipynb", as_version=4)
        graded = [cell for cell in released.cells if cell.metadata.get("nbgrader", {}).get("grade")]
        checks = [cell for cell in solved.cells if "check" in cell.metadata.get("tags", [])]
        assert [cell.source for cell in graded] == [f"assert {cell.source}" for cell in checks]
        assert all(cell.metadata.nbgrader.points >= 1 for cell in graded)
        assert "SOLUTION" not in "".join(cell.source for cell in released.cells)
