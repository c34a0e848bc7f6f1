"""`make course` on two small lessons: it says what it does, goes on after a failure, and writes no stale fact."""

import os
import re
import shutil
import subprocess
import sys

import nbformat
import pytest

from course_utils import records

README = "".join(
    f"<!-- {name}: begin -->\nold\n<!-- {name}: end -->\n" for name in ("lessons", "claims", "ladder", "proofs")
)
BAND = """
["98".cpu."plain/recall_at_1"]
low = 0.85
high = 0.95
excludes = [0.001]
values = [0.9, 0.901, 0.902, 0.903, 0.904]
seeds = [0, 1, 2, 3, 4]
"""


@pytest.fixture()
def course(root, tmp_path):
    """The course's own Makefile and programs; of the package all but the bands; lessons 98 and, broken, 97."""
    folder = tmp_path / "course"
    for name in ("notebooks/src", "data_scripts", "course_utils"):
        (folder / name).mkdir(parents=True)
    programs = [path.relative_to(root) for path in (root / "notebooks").glob("*.py")]
    for name in ("Makefile", "pyproject.toml", "notebooks/src/_setup.py", "data_scripts/write_readme.py", *programs):
        shutil.copy(root / name, folder / name)
    for part in (root / "course_utils").iterdir():
        (folder / "course_utils" / part.name).symlink_to(part)
    (folder / "course_utils" / "bands.toml").unlink()
    (folder / "course_utils" / "bands.toml").write_text(BAND)
    mini = (root / "tests" / "lessons" / "98_mini.py").read_text()
    (folder / "notebooks" / "src" / "98_mini.py").write_text(mini)
    broken = mini.replace("98", "97").replace('print("The same in every profile.")', 'raise ValueError("no such luck")')
    (folder / "notebooks" / "src" / "97_broken.py").write_text(broken)
    (folder / "README.md").write_text(README)
    return folder


def make_course(folder):
    """Run the very command; its status and what it said. What it says of progress must come before it has ended."""
    venv = ["VENV=" + sys.prefix, "-o", f"{sys.prefix}/.has-test"]  # everything is installed
    environment = os.environ | {"PYTHONPATH": str(folder), "COURSE_PROFILE": "smoke"}  # the course is measured in cpu
    environment.pop("COURSE_ARTIFACTS")
    result = subprocess.run(["make", "course", *venv], cwd=folder, env=environment, capture_output=True, text=True)
    return result.returncode, result.stdout, result.stderr


@pytest.mark.slow
def test_make_course_survives_a_failing_lesson_and_writes_no_stale_fact(course):
    subprocess.run([sys.executable, "notebooks/build.py", "97"], cwd=course, check=True, capture_output=True)
    path = course / "notebooks" / "solutions" / "97_broken.ipynb"
    stale = nbformat.read(path, as_version=4)  # as if it had run once, with the same code
    fact = {"name": "plain/recall_at_1", "value": 0.123, "interval": None, "chance": None, "lesson": "97"}
    fact |= {"profile": "cpu", "seconds": 1, "peak_memory": 1e9, "excludes": []}
    stale.cells[-2].outputs = [nbformat.v4.new_output("display_data", data={records.MIME: fact})]
    nbformat.write(stale, path)

    status, said, trouble = make_course(course)
    assert status != 0
    assert re.search(
        r"97_broken: running in profile cpu .*97_broken: stopped after \d+ s.*98_mini: running", said, re.S
    )
    assert re.search(r"98_mini: no problems after \d+ s", said)
    assert "lesson 97" in trouble and "no such luck" in trouble and "lesson 98" not in trouble
    assert (course / "README.md").read_text() == README  # nothing at all, rather than half of it
    (executed,) = records.read_notebook(course / "notebooks" / "solutions" / "98_mini.ipynb")
    assert (executed["value"], executed["profile"]) == (0.9, "cpu")
    assert not (course / "artifacts" / "progress").exists()  # no learner has solved anything
    assert not (course / "artifacts" / "executed" / "98_mini").exists()

    for left in course.glob("notebooks/**/97_*"):
        left.unlink()
    status, said, trouble = make_course(course)
    assert (status, "Every lesson is good." in said) == (0, True), trouble
    readme = (course / "README.md").read_text()
    assert "| 98 | plain: recall at 1 | 0.900 | 0.800 to 0.950 | 0.001 | 0.900 to 0.904 |" in readme
    assert "97" not in readme and "old" not in readme
