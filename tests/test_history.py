"""A lesson's records over time, read from a small repository made here."""

import csv
import io
import json
import os
import subprocess

import pytest

from course_utils import records

BAND = records.Band(0.8, 1.0, (0.5,), (0.9,) * 5, (0, 1, 2, 3, 4))


@pytest.fixture()
def program(script, monkeypatch):
    monkeypatch.setattr(records, "bands", lambda: {"98": {"cpu": {"plain/recall_at_1": BAND}}})
    return script("data_scripts/history.py")


def git(folder, *arguments):
    subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True)


def stored(folder, day, message="run", **values):
    """Commit an executed notebook that holds these facts, as on that day of 2026."""
    facts = [{"name": name, "value": value, "profile": "cpu", "lesson": "98"} for name, value in values.items()]
    cells = [{"outputs": [{"data": {records.MIME: fact}}]} for fact in facts] + [{"source": message}]
    path = folder / "notebooks" / "solutions" / "98_mini.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"cells": cells}))
    git(folder, "add", "-A")
    author = ["-c", "user.name=A Person", "-c", "user.email=person@example.org", "-c", "commit.gpgsign=false"]
    date = f"2026-{day}T12:00:00+00:00"
    command = ["git", *author, "commit", "-q", "-m", message, "--date", date]
    subprocess.run(command, cwd=folder, check=True, env=os.environ | {"GIT_COMMITTER_DATE": date})


@pytest.fixture()
def course(tmp_path):
    """Five commits: measured, prose alone, moved by half a band, out of the band and with a new fact, a fact gone."""
    folder = tmp_path / "course"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    stored(folder, "01-05", **{"plain/recall_at_1": 0.9, "old/fact": 3.0})
    stored(folder, "02-06", "prose", **{"plain/recall_at_1": 0.9, "old/fact": 3.0})
    stored(folder, "03-07", **{"plain/recall_at_1": 0.8, "old/fact": 3.0})
    stored(folder, "04-08", **{"plain/recall_at_1": 0.4, "old/fact": 3.5})
    stored(folder, "05-09", **{"plain/recall_at_1": 0.9})
    return folder


def cells(table):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def test_a_row_for_every_move_with_todays_band(program, course, capsys):
    assert program.main(["98"], course) == 0
    rows = cells(capsys.readouterr().out)
    assert [row[:3] + row[4:] for row in rows] == [
        ["98", "plain/recall_at_1", "2026-01-05", "0.9", "0.8 to 1", "yes", ""],
        ["98", "plain/recall_at_1", "2026-03-07", "0.8", "0.8 to 1", "yes", "-0.50"],
        ["98", "plain/recall_at_1", "2026-04-08", "0.4", "0.8 to 1", "NO", "-2.00"],
        ["98", "plain/recall_at_1", "2026-05-09", "0.9", "0.8 to 1", "yes", "+2.50"],
        ["98", "old/fact", "2026-01-05", "3", "", "", ""],
        ["98", "old/fact", "2026-04-08", "3.5", "", "", ""],
        ["98", "old/fact", "2026-05-09", "no longer recorded", "", "", ""],
    ]
    shown = subprocess.run(["git", "log", "--format=%h %cs"], cwd=course, capture_output=True, text=True).stdout
    assert all(f"{row[3]} {row[2]}" in shown for row in rows)


def test_every_commit_and_a_table_for_programs(program, course, capsys):
    assert program.main(["--every", "--csv"], course) == 0  # no number: all lessons
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    plain = [row for row in rows if row["fact"] == "plain/recall_at_1"]
    assert [float(row["value"]) for row in plain] == [0.9, 0.9, 0.8, 0.4, 0.9]
    assert [row["inside"] for row in plain] == ["True", "True", "True", "False", "True"]
    assert [float(row["moved"] or "nan") for row in plain[1:]] == pytest.approx([0.0, -0.5, -2.0, 2.5])
    assert {(row["low"], row["high"]) for row in plain} == {("0.8", "1.0")}


def test_a_notebook_that_was_renamed_or_deleted_is_still_read(program, course, capsys):
    git(course, "mv", "notebooks/solutions/98_mini.ipynb", "notebooks/solutions/98_new_name.ipynb")
    git(course, "-c", "user.name=A", "-c", "user.email=a@example.org", "commit", "-q", "-m", "renamed")
    assert program.main(["98"], course) == 0
    rows = cells(capsys.readouterr().out)
    assert [row[4] for row in rows if row[1] == "plain/recall_at_1"] == ["0.9", "0.8", "0.4", "0.9"]  # as before


def test_outside_a_checkout_or_in_a_shallow_clone_it_says_what_to_do(program, course, tmp_path, capsys):
    (tmp_path / "archive").mkdir()
    assert program.main(["98"], tmp_path / "archive") == 1
    assert "is no git checkout, so it has no history: clone the course with git" in capsys.readouterr().err
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{course}", "shallow")
    assert program.main(["98"], tmp_path / "shallow") == 1
    assert "git fetch --unshallow" in capsys.readouterr().err


def test_an_unknown_lesson_and_a_machine_without_git_are_named(program, course, capsys, monkeypatch):
    assert program.main(["55"], course) == 1
    assert capsys.readouterr().err == "lesson 55 was never committed; there are 98\n"
    monkeypatch.setenv("PATH", "")
    assert program.main(["98"], course) == 1
    assert "git is not installed" in capsys.readouterr().err
