"""Progress: one file an exercise, first time kept, nothing half-written."""

import os

import pytest

from course_utils import progress


def test_nothing_solved_is_an_empty_table():
    assert progress.table().empty
    assert list(progress.table().columns) == ["lesson", "exercise", "solved"]


def test_solved_exercises_are_listed_in_order(own_artifacts):
    for lesson, exercise in (("02", "2.10"), ("02", "2.9"), ("00", "0.1")):
        progress.note(lesson, exercise)
    assert progress.table()[["lesson", "exercise"]].values.tolist() == [["00", "0.1"], ["02", "2.9"], ["02", "2.10"]]
    assert len(list((own_artifacts / "progress").iterdir())) == 3


def test_the_first_time_counts(own_artifacts):
    progress.note("02", "2.1")
    file = own_artifacts / "progress" / "02-2.1.txt"
    file.write_text("2020-01-01T00:00:00\n")
    progress.note("02", "2.1")
    assert progress.table().solved.tolist() == ["2020-01-01T00:00:00"]


def test_a_failed_write_leaves_nothing(own_artifacts, monkeypatch):
    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        progress.note("02", "2.1")
    assert list((own_artifacts / "progress").iterdir()) == []
