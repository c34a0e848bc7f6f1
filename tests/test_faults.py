"""A mistake in each lesson turns the suite red, with a line that names the lesson and the fact or the cell.

Each fault of tests/faults.py is planted in a copy, and the lesson runs in smoke up to where the fault must show. It is
judged as test_lessons.py judges it. That a lesson without a fault is green is shown there, and here once, through the
copy. Two classes, so that two cores share them.
"""

import dataclasses
import re

import faults
import lesson_runs
import nbformat
import pytest

from course_utils import records


@pytest.fixture()
def judged(tmp_path, monkeypatch):
    """Plant a fault, run the copy, and return the judgement's lines."""

    def judge(fault, apply=True):
        folder = tmp_path / "copy"
        monkeypatch.setenv("PYTHONPATH", str(folder))
        monkeypatch.setenv("COURSE_DATA", str(tmp_path / "data"))  # nothing that a fault made is left for others
        source = faults.plant(fault, folder, apply)
        _, seconds, stopped = lesson_runs.run(source, tmp_path / "run.ipynb")
        return lesson_runs.judge(tmp_path / "run.ipynb", fault.lesson, seconds, stopped)

    return judge


def caught(fault, lines):
    """Whether a line names the lesson, and the fact that left its band or the cell that stopped."""
    if fault.fact:
        return any(re.match(rf"lesson {fault.lesson}, {fault.fact}: \S+ is outside its band ", line) for line in lines)
    cell = rf"lesson {fault.lesson}, cell \d+ \(.*\), line \d+ \(.*{re.escape(fault.line)}.*\): {fault.says}"
    return any(re.match(cell, line) for line in lines)


def name(fault):
    return f"{fault.lesson}-{fault.what.partition(':')[0].replace(' ', '-')}"


EARLY = [fault for fault in faults.FAULTS if fault.lesson in ("00", "01", "02", "03", "06", "07")]
LATE = [fault for fault in faults.FAULTS if fault not in EARLY]


@pytest.mark.slow
class TestEarlierLessons:
    @pytest.mark.parametrize("fault", EARLY, ids=name)
    def test_the_suite_sees_it(self, fault, judged):
        lines = judged(fault)
        assert caught(fault, lines), f"lesson {fault.lesson}: {fault.what}: nobody noticed\n" + "\n".join(lines)


@pytest.mark.slow
class TestLaterLessons:
    @pytest.mark.parametrize("fault", LATE, ids=name)
    def test_the_suite_sees_it(self, fault, judged):
        lines = judged(fault)
        assert caught(fault, lines), f"lesson {fault.lesson}: {fault.what}: nobody noticed\n" + "\n".join(lines)

    def test_without_its_fault_the_copy_is_green(self, judged):
        (fault,) = (fault for fault in faults.FAULTS if fault.lesson == "09")
        lines = judged(fault, apply=False)
        assert [line for line in lines if not line.endswith(records.MISSING)] == []  # those come later


def test_there_is_a_fault_in_every_lesson():
    assert {fault.lesson for fault in faults.FAULTS} == {lesson[:2] for lesson in lesson_runs.LESSONS}


@pytest.mark.parametrize("fault", faults.FAULTS, ids=name)
def test_it_stands_where_it_is_to_be_planted(fault, tmp_path):
    """Also in `make check`, before anybody waits for a lesson: a fault that no longer applies is red."""
    notebook = nbformat.read(faults.plant(fault, tmp_path / "copy"), as_version=4)
    if not fault.file:  # then it stands in a cell that runs
        assert any(fault.new in cell.source for cell in notebook.cells if cell.cell_type == "code")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"old": "no such text"}, "stands 0 times in course_utils/ranking.py, not once"),
        ({"old": "return"}, "times in course_utils/ranking.py, not once"),
        ({"line": "no such line"}, "0 cells hold 'no such line'"),
    ],
)
def test_a_fault_that_no_longer_applies_is_named(change, message, tmp_path):
    (fault,) = (fault for fault in faults.FAULTS if fault.lesson == "09")
    with pytest.raises(ValueError, match=message):
        faults.plant(dataclasses.replace(fault, **change), tmp_path / "copy")
    assert not (tmp_path / "copy" / "09.ipynb").exists()
