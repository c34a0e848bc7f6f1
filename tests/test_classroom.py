"""The classroom with the real nbgrader: released, collected, judged, marked and told why, for five kinds of student."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

pytestmark = pytest.mark.slow

HANGS = """
    while True:
        try:
            while True:
                pass
        except BaseException:
            pass
"""


def nbgrader(course, *arguments):
    """Run an nbgrader command in a course folder; its scripts must be found on PATH."""
    environment = os.environ | {"PATH": os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]}
    command = [sys.executable, "-m", "nbgrader", *arguments]
    result = subprocess.run(command, cwd=course, env=environment, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr[-3000:]


def about(cell):
    """What nbgrader knows of a cell."""
    return cell.metadata.get("nbgrader", {})


def answered(released, answers):
    """A released notebook with answers by grade_id; where there is none the cell stays as it was."""
    notebook = nbformat.read(released, as_version=4)
    for cell in notebook.cells:
        if about(cell).get("solution"):
            cell.source = answers.get(cell.metadata.nbgrader.grade_id, cell.source)
    return notebook


def cheated(notebook):
    """Every check gone or hollow, every point doubled tenfold, and a lambda in the name of each check."""
    checks = [cell for cell in notebook.cells if about(cell).get("grade")]
    notebook.cells = [cell for cell in notebook.cells if cell not in checks[::2]]
    for cell in checks[1::2]:
        cell.source, cell.metadata.nbgrader["points"] = "assert True", 100
    for cell in notebook.cells:
        if about(cell).get("solution"):
            cell.source = f"from course_utils.checks import _outcome, start_here\n{cell.source}\n"
            cell.source += "check_double = check_seven = start_here.check_cosine = start_here.check_top_k = (\n"
            cell.source += "    lambda answer: True)\n_outcome.expect = lambda *anything: None\n"
    return notebook


def grade(course, lesson, class_of):
    """Hand in, collect, grade, export: marks by student. The limit of an exercise is 5 seconds here."""
    archive = course / "downloaded" / lesson / "archive"
    archive.mkdir(parents=True)
    for student, notebook in class_of.items():
        nbformat.write(notebook, archive / f"{student}_{lesson}.ipynb")
    config = course / "nbgrader_config.py"
    config.write_text(config.read_text().replace("seconds = 60", "seconds = 5"))
    nbgrader(course, "zip_collect", lesson)
    nbgrader(course, "autograde", lesson, "--create")
    nbgrader(course, "export", "--to", "grades.csv")
    with open(course / "grades.csv", newline="") as file:
        return {row["student_id"]: (float(row["score"]), float(row["max_score"])) for row in csv.DictReader(file)}


def test_five_students_get_the_marks_they_deserve(mini, tmp_path):
    course = tmp_path / "classroom"
    assert mini.main(["--nbgrader", str(course)]) == 0
    nbgrader(course, "generate_assignment", "98_mini", "--create")
    released = course / "release" / "98_mini" / "98_mini.ipynb"
    text = released.read_text()
    assert "SOLUTION" not in text
    assert "return 2 * x" not in text
    assert "assert check_double(double)" in text
    double, seven = (c.metadata.nbgrader.grade_id for c in answered(released, {}).cells if about(c).get("solution"))
    right = {double: "def double(x):\n    return x + x", seven: "answer = 7"}
    squares = right | {double: "def double(x):\n    return x * x"}
    class_of = {
        "ada": answered(released, right),
        "empty": answered(released, {}),
        "partly": answered(released, squares),
        "cheat": cheated(answered(released, squares)),
        "hangs": answered(released, right | {double: f"def double(x):{HANGS}"}),
        "Jo Doe.2": answered(released, right | {seven: "while True:\n    pass"}),
    }
    honest, most, none = (3.0, 3.0), (2.0, 3.0), (0.0, 3.0)
    deserved = {"ada": honest, "empty": none, "partly": most, "cheat": most, "hangs": most, "Jo Doe.2": (1.0, 3.0)}
    assert grade(course, "98_mini", class_of) == deserved
    nbgrader(course, "generate_feedback", "98_mini")
    said = {name: (course / "feedback" / name / "98_mini" / "98_mini.html").read_text() for name in deserved}
    assert "This squares: multiply by two." in said["partly"]
    assert "Not attempted yet." in said["empty"]
    assert "Stopped after 5 seconds." in said["hangs"]


def test_a_real_lesson_is_graded_as_it_deserves(script, tmp_path):
    """Lesson 00: what an answer defines is enough, so no search is run; its variants are what is graded."""
    build = script("notebooks/build.py")
    assert build.main(["00", "--nbgrader", str(tmp_path)]) == 0
    nbgrader(tmp_path, "generate_assignment", "00_start_here", "--create")
    released = tmp_path / "release" / "00_start_here" / "00_start_here.ipynb"
    source = nbformat.read(tmp_path / "source" / "00_start_here" / "00_start_here.ipynb", as_version=4)
    solved = {about(c)["grade_id"]: build.REGION.sub(r"\2", c.source) for c in source.cells if about(c).get("solution")}
    points = [c.metadata.nbgrader.points for c in source.cells if about(c).get("grade")]
    first, second, *_ = solved
    rest = {key: value for key, value in solved.items() if key not in (first, second)}
    stuck = solved | {second: solved[second].replace(":\n", f":\n{HANGS[1:]}\n", 1)}
    class_of = {
        "right": answered(released, solved),
        "empty": answered(released, {}),
        "partly": answered(released, rest),
        "cheat": cheated(answered(released, solved | {first: "shapes = None", second: "pass"})),
        "hangs": answered(released, stuck),
    }
    whole, two = float(sum(points)), float(sum(points[:2]))
    lost = {"right": 0.0, "empty": whole, "partly": two, "cheat": two, "hangs": float(points[1])}
    marks = grade(tmp_path, "00_start_here", class_of)
    assert marks == {student: (whole - less, whole) for student, less in lost.items()}


def test_every_lesson_is_released_without_its_solutions(script, tmp_path, root):
    build = script("notebooks/build.py")
    assert build.main(["--nbgrader", str(tmp_path)]) == 0
    for master in build.masters():
        lesson = master.stem
        nbgrader(tmp_path, "generate_assignment", lesson, "--create")
        released = nbformat.read(tmp_path / "release" / lesson / f"{lesson}.ipynb", as_version=4)
        solved = nbformat.read(Path(root) / "notebooks" / "solutions" / f"{lesson}.ipynb", as_version=4)
        graded = [cell for cell in released.cells if about(cell).get("grade")]
        checks = [cell for cell in solved.cells if "check" in cell.metadata.get("tags", [])]
        assert len(graded) == len(checks)
        assert all(cell.source.startswith("assert ") and len(cell.source.splitlines()) == 1 for cell in graded)
        assert all(cell.metadata.nbgrader.points >= 1 for cell in graded)
        text = "".join(cell.source for cell in released.cells)
        assert "SOLUTION" not in text
        assert "HIDDEN" not in text
        assert "_as_meant" not in text
