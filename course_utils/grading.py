"""Grading a class with nbgrader: two steps that the exported nbgrader_config.py puts in the place of its own.

`Restore` puts a student's answers into the released notebook, so that deleted or edited checks, points and ids are as
they were. `Judge` replaces the execution of the notebook: course_utils.judging tries every exercise alone. nbgrader's
own execution reads marks off what the student's process prints, and one endless loop costs all exercises.
"""

from __future__ import annotations

import copy
from pathlib import Path

import nbformat
from nbgrader import utils
from nbgrader.coursedir import CourseDirectory
from nbgrader.preprocessors import NbGraderPreprocessor
from traitlets import Float

from course_utils.judging import Case, judge, names_of


class Restore(NbGraderPreprocessor):
    """The released notebook with this student's answers, and with the cells that the student added."""

    def preprocess(self, nb: object, resources: dict) -> tuple[object, dict]:
        """nb: as submitted. FileNotFoundError where the lesson was never released."""
        released = _notebook(self, resources, "release")
        known = {grade_id(cell): cell for cell in released.cells if grade_id(cell)}
        lesson = {cell.source.strip() for cell in released.cells}
        answers, added, place = {}, {}, None
        for cell in nb.cells:
            name = grade_id(cell)
            if name in known:
                place = name
                if utils.is_solution(known[name]) and cell.cell_type == known[name].cell_type:
                    answers[name] = cell.source  # of several with one name the last counts, as nbgrader has it
            elif cell.source.strip() not in lesson and cell.source.strip():
                added.setdefault(place, []).append(_bare(cell))
        restored = copy.deepcopy(released)
        restored.cells = added.get(None, [])
        for cell in released.cells:
            cell.source = answers.get(grade_id(cell), cell.source)
            restored.cells += [cell, *(added.get(grade_id(cell), []) if grade_id(cell) else [])]
        return restored, resources


class Judge(NbGraderPreprocessor):
    """Writes under every locked check what came of it; an error is 0 points to nbgrader, anything else all points."""

    seconds = Float(60, help="What one exercise may take.").tag(config=True)

    def preprocess(self, nb: object, resources: dict) -> tuple[object, dict]:
        """nb: as restored."""
        released, source = (_notebook(self, resources, step) for step in ("release", "source"))
        stubs = {grade_id(cell): cell.source for cell in released.cells if utils.is_solution(cell)}
        checks = {grade_id(cell): cell.source for cell in source.cells if utils.is_grade(cell)}  # with hidden tests
        lesson, others, open_ids, cases, judged = [], [], [], [], []
        texts = {grade_id(cell): cell.source for cell in nb.cells if grade_id(cell)}
        own = {cell.source for cell in released.cells}
        for cell in nb.cells:
            if cell.cell_type != "code":
                continue
            if utils.is_grade(cell) and not utils.is_solution(cell):
                answer = "\n".join(texts[name] for name in open_ids)
                names = [name for one in open_ids for name in names_of(stubs[one])]
                cases.append(Case(list(lesson), list(others), answer, names, checks[grade_id(cell)]))
                judged.append(cell)
                others += [texts[name] for name in open_ids]
                open_ids = []
            elif utils.is_solution(cell):
                open_ids.append(grade_id(cell))
            else:
                (lesson if cell.source in own else others).append(cell.source)
        for cell, (right, message) in zip(judged, judge(cases, self.seconds)):
            cell.outputs = [_said(message) if right else _error(message)]
        return nb, resources


def grade_id(cell: object) -> str | None:
    """The name that nbgrader gave a cell, or None; whatever a student made of its metadata."""
    about = cell.metadata.get("nbgrader")
    return about.get("grade_id") if isinstance(about, dict) else None


def _notebook(step: NbGraderPreprocessor, resources: dict, folder: str) -> object:
    """The teacher's copy of the notebook that is graded, in `source` or `release`."""
    course, about = CourseDirectory(parent=step), resources["nbgrader"]
    path = Path(course.format_path(getattr(course, f"{folder}_directory"), ".", about["assignment"]))
    path = path / f"{about['notebook']}.ipynb"
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: run `nbgrader generate_assignment {about['assignment']}` first.")
    return nbformat.read(path, as_version=4)


def _bare(cell: object) -> object:
    """A student's own cell without outputs and metadata."""
    make = {"code": nbformat.v4.new_code_cell, "markdown": nbformat.v4.new_markdown_cell}
    return make.get(cell.cell_type, nbformat.v4.new_raw_cell)(cell.source)


def _said(message: str) -> object:
    return nbformat.v4.new_output("stream", name="stdout", text=f"{message}\n")


def _error(message: str) -> object:
    return nbformat.v4.new_output("error", ename="WrongAnswer", evalue=message, traceback=[message])
