"""Every lesson, run as a learner would and as its author did, in the smallest profile.

The unsolved notebook runs to its end; the solved one records every fact inside its band, in time; and nbval finds the
stored outputs of the tagged cells again. Classes are shared out, so that two cores share them.
"""

import json
import os
import re
import subprocess
import sys

import lesson_runs
import nbformat
import pytest
from lesson_runs import LESSONS, NOTEBOOKS, printed, tagged
from readable import watch_kernels

from course_utils import records

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


@pytest.mark.slow
class TestUnsolved:
    def test_it_runs_to_its_end_and_every_check_says_not_attempted(self, lesson, tmp_path):
        notebook, seconds, stopped = lesson_runs.run(NOTEBOOKS / f"{lesson}.ipynb", tmp_path / "run.ipynb")
        assert stopped is None, f"lesson {lesson[:2]}, unsolved, {stopped}"
        checks = tagged(notebook, "check")
        assert len(checks) >= 5
        assert [cell.source for cell in checks if "not attempted yet" not in printed(cell)] == []
        assert seconds <= records.SECONDS["smoke"]


@pytest.mark.slow
class TestSolved:
    def test_its_facts_are_in_their_bands_in_time_and_its_figures_can_be_read(
        self, lesson, tmp_path, own_artifacts, monkeypatch
    ):
        noted = watch_kernels(tmp_path, monkeypatch)
        target = tmp_path / "run.ipynb"
        notebook, seconds, stopped = lesson_runs.run(NOTEBOOKS / "solutions" / f"{lesson}.ipynb", target)
        lesson_runs.keep(target, lesson)
        problems = lesson_runs.judge(target, lesson, seconds, stopped)
        assert problems == [], "\n".join(problems)
        checks = tagged(notebook, "check")
        right = {number for cell in checks for number in re.findall(r"Exercise (\S+): right", printed(cell))}
        assert {file.stem for file in (own_artifacts / "progress").iterdir()} == {f"{lesson[:2]}-{n}" for n in right}
        figures = [json.loads(line) for line in noted.read_text().splitlines()]
        assert [(figure["alt"], figure["problems"]) for figure in figures if figure["problems"]] == []
        outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
        assert len(figures) == sum("image/png" in output.get("data", {}) for output in outputs) > 0


class TestStored:
    def test_stored_facts_are_in_their_bands(self, lesson):
        facts = records.read_notebook(NOTEBOOKS / "solutions" / f"{lesson}.ipynb")
        assert records.check(facts, lesson[:2], "cpu") == []

    def test_nothing_stored_is_an_error_or_lacks_alt_text(self, lesson, script):
        notebook = nbformat.read(NOTEBOOKS / "solutions" / f"{lesson}.ipynb", as_version=4)
        assert script("notebooks/limits.py").output_problems(notebook) == []
        code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        assert [cell.source for cell in code if cell.source and cell.execution_count is None] == []


@pytest.mark.slow
class TestRerun:
    def test_nbval_finds_the_tagged_outputs_again(self, lesson):
        notebook = nbformat.read(NOTEBOOKS / "solutions" / f"{lesson}.ipynb", as_version=4)
        assert len(tagged(notebook, "nbval-check-output")) >= 3
        command = [sys.executable, "-c", PATIENT, "-q", "--nbval-lax", "--nbval-current-env"]
        command += ["-p", "no:xdist", "-o", "addopts=", "--nbval-cell-timeout", "120", f"solutions/{lesson}.ipynb"]
        environment = os.environ | {"COURSE_PROFILE": "smoke"}
        result = subprocess.run(command, cwd=NOTEBOOKS, env=environment, capture_output=True, text=True)
        assert result.returncode == 0, result.stdout[-4000:]
