"""The course for nbgrader: exercises whose solution is not public put in place of those whose is, points, locks.

A file of variants, src/variants/NN.py, is written like a master, and holds for each exercise that it replaces: the
heading with the same number, the exercise cell, a cell that defines the check, the check, and a cell tagged `hidden`.
That one defines `cases()`, more arguments on which an answer must agree with the solution; only the grader sees it.
"""

import copy
import re

import jupytext
import nbformat
from limits import EFFORT, HEADING, REGION

HIDDEN = """assert {check}
### BEGIN HIDDEN TESTS
{solution}


{cases}


own.agree({name}, {name}_as_meant, cases())
### END HIDDEN TESTS"""

CONFIG = r"""# Written by `python notebooks/build.py --nbgrader`; yours to change.
c = get_config()
c.CourseDirectory.course_id = "multimodal"

# Every exercise is judged alone, in a process of its own (course_utils/grading.py).
c.Autograde.sanitize_preprocessors = ["course_utils.grading.Restore", "nbgrader.preprocessors.CheckCellMetadata"]
c.Autograde.autograde_preprocessors = [
    "course_utils.grading.Judge",
    "nbgrader.preprocessors.SaveAutoGrades",
    "nbgrader.preprocessors.AssignLatePenalties",
    "nbgrader.preprocessors.CheckCellMetadata",
]
c.Judge.seconds = 60  # for one exercise

# Files as they are handed in: STUDENT_02_contrastive_loss.ipynb, alone or in an archive.
c.FileNameCollectorPlugin.named_regexp = r".*[/\\](?P<student_id>[^/\\]+?)_(?P<file_id>\d\d_\w+)\.ipynb"
"""


def blocks(path):
    """number -> cells of each exercise of a file of variants; nothing where there is no such file."""
    found, number = {}, None
    for cell in jupytext.read(path, fmt="py:percent").cells if path.exists() else []:
        heading = HEADING.search(cell.source) if cell.cell_type == "markdown" else None
        number = heading.group(1) if heading else number
        if number:  # what stands above the first exercise speaks to whoever edits the file
            found.setdefault(number, []).append(cell)
    return found


def vary(cells, paths):
    """(a master's cells with the exercises that files of variants hold, problems); a later file wins."""
    variants = {number: block for path in paths for number, block in blocks(path).items()}
    varied, skipping = [], False
    for cell in cells:
        tags = cell.metadata.get("tags", [])
        heading = HEADING.search(cell.source) if cell.cell_type == "markdown" else None
        if heading and heading.group(1) in variants:
            above = cell.source[: heading.start()].strip()
            varied += [nbformat.v4.new_markdown_cell(above)] if above else []
            varied += together(variants.pop(heading.group(1)))
            skipping = True
        elif not skipping:
            varied.append(cell)
        skipping = skipping and "check" not in tags
    return varied, [f"exercise {number} has a variant, but is not in the lesson" for number in variants]


def together(block):
    """A variant's cells, with the hidden cases put into the check."""
    block = copy.deepcopy(block)
    tagged = {tag: cell for cell in block for tag in cell.metadata.get("tags", [])}
    check, hidden, exercise = (tagged.get(tag) for tag in ("check", "hidden", "exercise"))
    if check is None or exercise is None:
        return block  # limits.py says what is missing
    if hidden is not None:
        name = re.search(r"^def (\w+)", exercise.source, re.MULTILINE).group(1)
        solution = REGION.sub(r"\2", exercise.source).strip().replace(f"def {name}(", f"def {name}_as_meant(")
        check.source = HIDDEN.format(check=check.source, solution=solution, cases=hidden.source.strip(), name=name)
    return [cell for cell in block if cell is not hidden]


def mark(cell, tags, effort):
    """Say to nbgrader what an exercise or check cell is; a check is worth as many points as its exercise is hard."""
    graded = "check" in tags
    cell.metadata["nbgrader"] = {"schema_version": 3, "task": False, "grade": graded, "locked": graded}
    cell.metadata["nbgrader"] |= {"solution": not graded, "grade_id": cell.id}
    if graded:
        cell.metadata["nbgrader"]["points"] = int(EFFORT.search(effort).group(1))
        cell.source = cell.source if cell.source.startswith("assert ") else f"assert {cell.source}"


def configure(folder):
    """Write the configuration, unless the teacher has one."""
    path = folder / "nbgrader_config.py"
    if not path.exists():
        path.write_text(CONFIG, encoding="utf-8")
