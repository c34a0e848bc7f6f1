"""Every lesson, run as a learner would and as its author did, in the smallest profile.

The unsolved notebook runs to its end; the solved one records every fact inside its band, in time; and nbval finds the
stored outputs of the tagged cells again. Classes are shared out, so that two cores share them.
"""

import os
import re
import resource
import subprocess
import sys
import time

import nbformat
import papermill
import pytest

from course_utils import records

NOTEBOOKS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "notebooks")
LESSONS = sorted(name[:-3] for name in os.listdir(os.path.join(NOTEBOOKS, "src")) if re.match(r"\d\d_.*\.py$", name))
pytestmark = pytest.mark.parametrize("lesson", LESSONS)


# nbval gives outputs five seconds to arrive after their cell, by no option; on a busy machine that is too short.
PATIENT = """
import sys, pytest, nbval.plugin
begin = nbval.plugin.IPyNbCell.__init__
def patient(self, *given, **named):
    begin(self, *given, **named)
    self.output_timeout = 60
nbval.plugin.IPyNbCell.__init__ = patient
sys.exit(pytest.main(sys.argv[1:]))
"""


def run(source, target):
    """Run a notebook in smoke as papermill does; return it with its outputs and the seconds it took.

    Both cores are busy with tests, so the seconds are those on the clock or those of computing, whichever is less.
    """
    start, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    parameters = {"PROFILE": "smoke"}
    papermill.execute_notebook(source, target, parameters, kernel_name="python3", cwd=NOTEBOOKS, progress_bar=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    computing = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return nbformat.read(target, as_version=4), min(time.monotonic() - start, computing)


def printed(cell):
    return "".join(output.get("text", "") for output in cell.get("outputs", []) if output.output_type == "stream")


def tagged(notebook, tag):
    return [cell for cell in notebook.cells if tag in cell.metadata.get("tags", [])]


@pytest.mark.slow
class TestUnsolved:
    def test_it_runs_to_its_end_and_every_check_says_not_attempted(self, lesson, tmp_path):
        notebook, seconds = run(os.path.join(NOTEBOOKS, f"{lesson}.ipynb"), tmp_path / "run.ipynb")
        outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
        assert [output.evalue for output in outputs if output.output_type == "error"] == []
        checks = tagged(notebook, "check")
        assert len(checks) >= 5
        assert [cell.source for cell in checks if "not attempted yet" not in printed(cell)] == []
        assert seconds <= records.SECONDS["smoke"]


@pytest.mark.slow
class TestSolved:
    def test_its_facts_are_in_their_bands_and_in_time(self, lesson, tmp_path, own_artifacts):
        notebook, seconds = run(os.path.join(NOTEBOOKS, "solutions", f"{lesson}.ipynb"), tmp_path / "run.ipynb")
        assert records.check(records.read_notebook(tmp_path / "run.ipynb"), lesson[:2], "smoke", seconds) == []
        checks = tagged(notebook, "check")
        assert [cell.source for cell in checks if ": right." not in printed(cell)] == []
        right = {number for cell in checks for number in re.findall(r"Exercise (\S+): right", printed(cell))}
        assert {file.stem for file in (own_artifacts / "progress").iterdir()} == {f"{lesson[:2]}-{n}" for n in right}


class TestStored:
    def test_stored_facts_are_in_their_bands(self, lesson):
        facts = records.read_notebook(os.path.join(NOTEBOOKS, "solutions", f"{lesson}.ipynb"))
        assert records.check(facts, lesson[:2], "cpu") == []

    def test_nothing_stored_is_an_error_or_lacks_alt_text(self, lesson, script):
        notebook = nbformat.read(os.path.join(NOTEBOOKS, "solutions", f"{lesson}.ipynb"), as_version=4)
        assert script("notebooks/limits.py").output_problems(notebook) == []
        code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        assert [cell.source for cell in code if cell.source and cell.execution_count is None] == []


@pytest.mark.slow
class TestRerun:
    def test_nbval_finds_the_tagged_outputs_again(self, lesson):
        notebook = nbformat.read(os.path.join(NOTEBOOKS, "solutions", f"{lesson}.ipynb"), as_version=4)
        assert len(tagged(notebook, "nbval-check-output")) >= 3
        command = [sys.executable, "-c", PATIENT, "-q", "--nbval-lax", "--nbval-current-env"]
        command += ["-p", "no:xdist", "-o", "addopts=", "--nbval-cell-timeout", "120", f"solutions/{lesson}.ipynb"]
        environment = os.environ | {"COURSE_PROFILE": "smoke"}
        result = subprocess.run(command, cwd=NOTEBOOKS, env=environment, capture_output=True, text=True)
        assert result.returncode == 0, result.stdout[-4000:]
