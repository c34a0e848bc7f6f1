"""Run a lesson as papermill does, and judge the run: shared by the lessons' own tests and by the seeded faults."""

import os
import re
import resource
import sys
import time
from pathlib import Path

import nbformat
import papermill
from nbclient.exceptions import CellControlSignal, DeadKernelError
from papermill.exceptions import PapermillExecutionError

from course_utils import records

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"
LESSONS = sorted(path.stem for path in (NOTEBOOKS / "src").glob("*.py") if re.match(r"\d\d_", path.name))
sys.path.insert(0, str(NOTEBOOKS))

import limits  # noqa: E402


def run(source, target, cwd=NOTEBOOKS):
    """Run a notebook in smoke: the notebook with its outputs, the seconds it took, and where it stopped, or None.

    Both cores are busy with tests, so the seconds are those on the clock or those of computing, whichever is less.
    """
    start, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    parameters, error = {"PROFILE": "smoke"}, None
    try:
        papermill.execute_notebook(source, target, parameters, kernel_name="python3", cwd=cwd, progress_bar=False)
    except (PapermillExecutionError, CellControlSignal, DeadKernelError) as raised:
        error = raised
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    computing = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    notebook = nbformat.read(target, as_version=4)
    return notebook, min(time.monotonic() - start, computing), limits.failure(notebook, error)


def judge(target, lesson, seconds, stopped=None):
    """All that is wrong with a solved run: one line each, with the lesson, and the cell or the fact."""
    number = lesson[:2]
    found = records.check(records.read_notebook(target), number, "smoke", seconds)
    if stopped:  # then what was not recorded behind that cell says nothing more
        found = [f"lesson {number}, {stopped}", *(line for line in found if not line.endswith(records.MISSING))]
    for cell in tagged(nbformat.read(target, as_version=4), "check"):
        if cell.execution_count and ": right." not in printed(cell):
            found.append(f"lesson {number}, {cell.source}: {printed(cell).strip() or 'no verdict'}")
    return found


def printed(cell):
    """What a cell wrote to its streams."""
    return "".join(output.get("text", "") for output in cell.get("outputs", []) if output.output_type == "stream")


def tagged(notebook, tag):
    """The cells of a notebook that carry a tag."""
    return [cell for cell in notebook.cells if tag in cell.metadata.get("tags", [])]


def keep(target, lesson):
    """Copy a run to $COURSE_RUNS, where data_scripts/what_moved.py looks for it; nothing where that is not set."""
    if os.environ.get("COURSE_RUNS"):
        folder = Path(os.environ["COURSE_RUNS"])
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{lesson}-smoke.ipynb").write_bytes(Path(target).read_bytes())
