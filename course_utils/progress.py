"""What a learner has solved: one small file an exercise, so that two notebooks never overwrite each other."""

from __future__ import annotations

import os
import tempfile
from datetime import datetime
from pathlib import Path

import pandas as pd


def note(lesson: str, exercise: str) -> None:
    """Remember that `exercise` ("2.1") of `lesson` ("02") is solved, since the first time. OSError if unwritable."""
    folder = _folder()
    target = folder / f"{lesson}-{exercise}.txt"
    if target.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=folder, suffix=".part")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(datetime.now().isoformat(timespec="seconds") + "\n")
        os.replace(name, target)  # atomic: a reader sees the whole file or none
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise


def table() -> pd.DataFrame:
    """One row a solved exercise: `lesson`, `exercise`, `solved` (local time, text). Empty when nothing is solved.

    That a file is there is what counts: a damaged one is a solved exercise whose time is not known any more.
    """
    rows = []
    for file in filter(Path.is_file, _folder().glob("*-*.txt")):
        lesson, _, exercise = file.stem.partition("-")
        solved = file.read_text(encoding="utf-8", errors="replace").strip()
        rows.append({"lesson": lesson, "exercise": exercise, "solved": solved})
    rows.sort(key=lambda row: (row["lesson"], [int(part) for part in row["exercise"].split(".") if part.isdigit()]))
    return pd.DataFrame(rows, columns=["lesson", "exercise", "solved"])


def _folder() -> Path:
    """The learner's own $COURSE_ARTIFACTS, else the folder of env.start's session, else `artifacts` where we are."""
    chosen = os.environ.get("COURSE_ARTIFACTS") or os.environ.get("COURSE_SESSION_ARTIFACTS") or "artifacts"
    return Path(chosen).expanduser() / "progress"
