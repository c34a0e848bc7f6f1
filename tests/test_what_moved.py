"""The report of what moved: failures sorted by their cause, from errors that were really raised, and facts compared."""

import copy
import json
import re
import subprocess
import sys
import tomllib

import lesson_runs
import nbformat
import pytest
import yaml

from course_utils import records

# Each test here fails for the reason that its name begins with; nothing is imitated.
TROUBLES = """
import asyncio, importlib.metadata, json, os, signal, socket, subprocess, sys, urllib.request
import numpy, pytest, torch
from packaging.requirements import Requirement

def test_network_refused(): urllib.request.urlopen("http://127.0.0.1:9/")
def test_network_name(): socket.getaddrinfo("no-such-host.invalid", 80)
def test_network_reset(): raise_in_setup()
def test_memory_python(): bytearray(10**16)
def test_memory_numpy(): numpy.zeros(10**15)
def test_memory_torch(): torch.zeros(10**14)
def test_memory_killed(): subprocess.run([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"], check=True)
def test_time_subprocess(): subprocess.run([sys.executable, "-c", "import time; time.sleep(60)"], timeout=0.2)
def test_time_asyncio(): asyncio.run(asyncio.wait_for(asyncio.sleep(60), 0.1))
def test_dependency_name(): from torch import no_such_name
def test_dependency_module(): import no_such_module
def test_dependency_attribute(): numpy.no_such_function
def test_dependency_keyword(): torch.nn.Linear(2, 2, no_such_option=1)
def test_dependency_metadata(): importlib.metadata.version("no-such-package-of-ours")
def test_dependency_inside(): Requirement("a package whose name has spaces")
def test_other_assertion(): assert 1 + 1 == 3
def test_other_key(): {}["key"]
def test_other_says_timeout(): assert "a message about a timeout, a MemoryLimit and an ImportErrors page" == ""

def raise_in_setup():
    server = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(server.getsockname())
    server.accept()[0].close()
    client.sendall(b"x" * 10)
    raise_reset(client)

def raise_reset(client):
    client.setblocking(True)
    client.recv(1)
    for _ in range(100): client.sendall(b"x" * 10_000)
"""


@pytest.fixture(scope="module")
def moved():
    sys.path.insert(0, str(lesson_runs.ROOT / "data_scripts"))
    import what_moved

    return what_moved


@pytest.fixture(scope="module")
def junit(tmp_path_factory):
    """pytest's report on TROUBLES."""
    folder = tmp_path_factory.mktemp("troubles")
    (folder / "test_troubles.py").write_text(TROUBLES)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "--junitxml=report.xml",
    ]
    done = subprocess.run([*command, "test_troubles.py"], cwd=folder, capture_output=True, text=True)
    assert "18 failed" in done.stdout, done.stdout[-3000:]
    return folder / "report.xml"


@pytest.mark.slow
def test_errors_that_were_raised_are_sorted_as_their_names_say(moved, junit):
    failures = {failure.where.rpartition("::test_")[2]: failure for failure in moved.of_junit(junit)}
    assert len(failures) == 18
    wrong = {name: failure for name, failure in failures.items() if failure.kind != name.partition("_")[0]}
    assert wrong == {}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("pip_conflict", "dependency"),
        ("pip_unknown", "dependency"),
        ("uv_conflict", "dependency"),
        ("pip_network", "network"),
        ("uv_network", "network"),
    ],
)
def test_an_installation_that_failed_is_sorted(moved, root, name, kind):
    (failure,) = moved.of_log(root / "tests" / "logs" / f"{name}.txt")
    assert failure.kind == kind
    assert failure.line


def test_the_first_run_on_the_oldest_releases_is_sorted(moved, root):
    """What pytest really wrote when the suite first ran on all floors at once; the floors have been raised since."""
    kinds = {failure.where.partition("::test_")[2]: failure.kind
             for failure in moved.of_junit(root / "tests" / "logs" / "oldest_releases.xml")}  # fmt: skip
    assert kinds == {
        "attention_equals_torch_in_value_and_gradient[whole rows]": "other",
        "brier_is_scikit_learns": "dependency",
        "equal_to_scipy[0.95-bca]": "dependency",
        "so_it_is_in_every_kind_of_training[change1]": "dependency",
        "it_trains_evaluates_and_writes_a_card": "dependency",
        "cmyk_becomes_rgb": "other",  # we caught it, and said that the picture was damaged
    }


def test_failures_alike_stand_in_one_line(moved, root):
    failures = [moved.Failure(f"test_{n}", "URLError: refused", "network") for n in range(3)]
    said = moved.report([], [], [*failures, moved.Failure("test_x", "URLError: no name", "network")])
    assert "- `test_0` and 2 more: URLError: refused\n- `test_x`: URLError: no name\n" in said
    assert moved._first("\nAssertionError: \nassert 2 == 0\n where") == "AssertionError: assert 2 == 0"


def one_lesson(path, *sources):
    """A notebook like a lesson, up to cells with these sources."""
    cells = [nbformat.v4.new_code_cell('PROFILE = "auto"\nSEED = 0', metadata={"tags": ["parameters"]})]
    cells += [nbformat.v4.new_code_cell(source) for source in sources]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "kind", "line"),
    [
        (
            "import os\nos.kill(os.getpid(), 9)",
            "memory",
            r"lesson 98, cell 2 (import os): DeadKernelError: Kernel died",
        ),
        (
            "import urllib.request as web\nweb.urlopen('http://127.0.0.1:9/')",
            "network",
            "lesson 98, cell 2 (import urllib.request as web), line 2 (web.urlopen('http://127.0.0.1:9/')): URLError: ",
        ),
    ],
)
def test_a_lesson_that_stops_is_named_and_sorted(moved, tmp_path, source, kind, line):
    lesson = one_lesson(tmp_path / "98_made.ipynb", source)
    _, seconds, stopped = lesson_runs.run(lesson, tmp_path / "98_made-smoke.ipynb")
    said = lesson_runs.judge(tmp_path / "98_made-smoke.ipynb", "98_made", seconds, stopped)[0]
    assert said.startswith(line)
    assert moved.kind_of(said) == kind


@pytest.fixture()
def runs(tmp_path):
    """A folder with one lesson's stored notebook in it, as if it had been run again, and a function that changes it."""
    source = lesson_runs.NOTEBOOKS / "solutions" / "09_metrics.ipynb"
    notebook = json.loads(source.read_text(encoding="utf-8"))
    (tmp_path / "runs").mkdir()

    def write(change=lambda fact: None, stopped=None):
        fresh = copy.deepcopy(notebook)
        outputs = [output for cell in fresh["cells"] for output in cell.get("outputs", [])]
        for output in outputs:
            if records.MIME in output.get("data", {}):
                change(output["data"][records.MIME])
        if stopped:
            fresh["cells"][-1] |= {"cell_type": "code", "source": "go_on()", "execution_count": 9}
            fresh["cells"][-1]["outputs"] = [
                {"output_type": "error", "ename": stopped, "evalue": "so", "traceback": []}
            ]
        (tmp_path / "runs" / "09_metrics-cpu.ipynb").write_text(json.dumps(fresh), encoding="utf-8")
        return tmp_path / "runs"

    return write


def test_nothing_moved_is_said_in_a_line(moved, runs, capsys):
    assert moved.main(["--runs", str(runs())]) == 0
    said = capsys.readouterr().out
    count = len(records.read_notebook(runs() / "09_metrics-cpu.ipynb"))
    assert f"{count} facts; failures: 0" in said
    assert f"{count} of {count} facts moved by less than a tenth of their band." in said
    assert "| torch | 2." in said


def test_a_fact_that_moved_is_measured_in_widths_of_its_band(moved, runs, tmp_path):
    name = "retrieval/text_to_image/hit_rate_at_1"
    band = records.bands()["09"]["cpu"][name]
    then = next(f["value"] for f in records.read_notebook(runs() / "09_metrics-cpu.ipynb") if f["name"] == name)

    def lower(fact):
        if fact["name"] == name:
            fact["value"] -= 2 * (band.high - band.low)

    assert moved.main(["--runs", str(runs(lower)), "--out", str(tmp_path / "out" / "moved.md")]) == 1
    said = (tmp_path / "out" / "moved.md").read_text()
    now = then - 2 * (band.high - band.low)
    line = f"lesson 09, {name}: {now:.4g} is outside its band {band.low:.4g} to {band.high:.4g}"
    assert f"## 1 x fact out of band: {moved.ADVICE['fact out of band']}\n\n- `09_metrics-cpu`: {line}\n" in said
    row = f"| 09 | cpu | {name} | {then:.4g} | {now:.4g} | {band.low:.4g} to {band.high:.4g} | NO | -2.00 |"
    assert said.index(row) < said.index("facts moved by less than a tenth")


def test_another_seed_is_compared_with_its_own_measurement(moved, runs):
    def other(fact):
        fact["seed"] = 3

    rows = moved.moves(records.read_notebook(runs(other) / "09_metrics-cpu.ipynb"), [])
    bands = records.bands()["09"]["cpu"]
    assert {row["name"]: row["then"] for row in rows} == {name: band.values[3] for name, band in bands.items()}


def test_time_and_memory_have_kinds_of_their_own(moved, runs):
    def slow(fact):
        fact["seconds"], fact["peak_memory"] = 10_000, 9e9

    _, failures = moved.of_runs(runs(slow))
    assert [(failure.kind, failure.line.partition(", ")[2][:12]) for failure in failures] == [
        ("time", "took 10000 s"),
        ("memory", "took 9.0 GB,"),
    ]


def test_what_the_suite_judged_is_not_judged_again(moved, runs, tmp_path, capsys):
    def slow(fact):
        fact["seconds"], fact["profile"] = 10_000, "smoke"

    path = runs(slow) / "09_metrics-cpu.ipynb"
    path.rename(path.with_name("09_metrics-smoke.ipynb"))
    assert moved.main(["--runs", str(path.parent)]) == 1
    assert "took 10000 s" in capsys.readouterr().out
    (tmp_path / "green.xml").write_text("<testsuites/>")
    assert moved.main(["--runs", str(path.parent), "--junit", str(tmp_path / "green.xml")]) == 0
    assert "| 09 | smoke |" in capsys.readouterr().out


def test_a_run_that_stopped_says_where_and_not_what_came_behind(moved, runs):
    def gone(fact):
        fact["name"] = "no/longer"

    _, failures = moved.of_runs(runs(gone, stopped="ModuleNotFoundError"))
    assert failures[0].kind == "dependency"
    assert failures[0].line.endswith("(go_on()): ModuleNotFoundError: so")
    assert not [failure for failure in failures if failure.line.endswith(records.MISSING)]


def test_lines_of_a_judgement_are_failures_of_their_own(moved, tmp_path):
    lines = [
        "lesson 02, foils/recall_at_1: 0.1 is outside its band 0.3 to 0.8",
        "lesson 02, took 90 s, the profile smoke",
    ]
    (tmp_path / "test_it.py").write_text(
        f"def test_it():\n    lines = {lines}\n    assert lines == [], '\\n'.join(lines)\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--junitxml=report.xml", "test_it.py"]
    subprocess.run(command, cwd=tmp_path, capture_output=True)
    failures = moved.of_junit(tmp_path / "report.xml")
    assert [(failure.line, failure.kind) for failure in failures] == [
        (lines[0], "fact out of band"),
        (lines[1], "time"),
    ]


def test_a_report_that_is_missing_or_cut_off_is_said(moved, tmp_path, capsys):
    (tmp_path / "cut.xml").write_text('<testsuites><testsuite name="pytest">')
    assert moved.main(["--junit", str(tmp_path / "cut.xml"), "--junit", str(tmp_path / "none.xml")]) == 1
    said = capsys.readouterr().out
    assert "is no JUnit report" in said
    assert "`none.xml`: was not written" in said


def test_where_nothing_could_be_installed_the_standard_library_is_enough(root):
    command = [sys.executable, "-I", "-S", "data_scripts/what_moved.py", "--log", "tests/logs/uv_conflict.txt"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "")
    assert "## 1 x dependency" in done.stdout
    assert "No solution found" in done.stdout


def test_the_weekly_job_is_careful_and_takes_the_floors(root):
    """It may only read, every action has a version, and its oldest Python is the one that pyproject.toml names."""
    text = (root / ".github" / "workflows" / "weekly.yml").read_text(encoding="utf-8")
    weekly = yaml.load(text, Loader=yaml.BaseLoader)  # "on" is not True
    assert weekly["permissions"] == {"contents": "read"}
    assert set(weekly["on"]) == {"schedule", "workflow_dispatch"}
    (job,) = weekly["jobs"].values()
    assert "permissions" not in job and int(job["timeout-minutes"]) <= 180
    uses = [step["uses"] for step in job["steps"] if "uses" in step]
    assert len(uses) == 3 and all(re.fullmatch(r"actions/[\w-]+@v\d+", one) for one in uses)
    oldest = next(one for one in job["strategy"]["matrix"]["include"] if one["releases"] == "oldest")
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["requires-python"] == f">={oldest['python']}"
    assert oldest["resolution"] == "lowest-direct"
    assert "secrets" not in text
