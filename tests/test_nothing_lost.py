"""What must never be lost: a disk that fills up, a program that is killed, two at once, a folder without rights.

After each of them a stored file is whole, as it was or new, and no half of one lies beside it. That a preparation or a
training goes on after SIGKILL is tested where they are (test_prepare_flickr30k, test_runs, test_train_retriever).
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from course_utils import checkpoints, progress, training
from course_utils.checkpoints import CheckpointError
from course_utils.locks import Busy
from course_utils.runs import Run

ROOT = Path(__file__).resolve().parent.parent
PLAIN = {key: value for key, value in os.environ.items() if not key.startswith("COURSE_")}
PATHS = [str(ROOT), str(ROOT / "data_scripts"), str(ROOT / "notebooks")]
SMALL_DISK = """
import resource, sys
sys.dont_write_bytecode = True  # Python itself would leave half a .pyc in the checkout, which breaks every later import
sys.path[:0] = json.loads(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)),) * 2)  # every write beyond fails, as on a full disk
"""


def started(code, *words, folder=None, **environment):
    """A Python that runs `code`, with the course's folders to import from."""
    command = [sys.executable, "-c", "import json, sys\n" + code, json.dumps(PATHS), *map(str, words)]
    environment = PLAIN | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)} | environment
    return subprocess.Popen(command, cwd=folder, env=environment, text=True, stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip


def ended(process, seconds=90):
    out, error = process.communicate(timeout=seconds)
    return process.returncode, out, error


def contents(folder):
    """Every file below with its bytes; compiled Python and locks are nobody's work."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*"))
            if path.is_file() and path.suffix != ".pyc" and path.name != ".lock"}  # fmt: skip


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A course of one lesson, built, with a README; the programs in it are copies that work on it alone."""
    folder = tmp_path_factory.mktemp("built")
    programs = [str(path.relative_to(ROOT)) for path in (ROOT / "notebooks").glob("*.py")]
    for part in (*programs, "notebooks/src/_setup.py", "pyproject.toml", "data_scripts/write_readme.py"):
        (folder / part).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / part, folder / part)
    shutil.copy(ROOT / "tests/lessons/98_mini.py", folder / "notebooks/src/98_mini.py")
    (folder / "README.md").write_text("By hand.\n" * 2_000)
    assert subprocess.run([sys.executable, "notebooks/build.py"], cwd=folder, capture_output=True).returncode == 0
    return folder


@pytest.fixture()
def course(built, tmp_path):
    """A copy of it."""
    return shutil.copytree(built, tmp_path / "course")


# A full disk ---------------------------------------------------------------------------------------------------------

BUILD = "import runpy; sys.argv = ['build.py']; runpy.run_path('notebooks/build.py', run_name='__main__')"
README = (
    "import write_readme; write_readme.filled = lambda *_: 'x' * 50_000; write_readme.main([], write_readme.Path())"
)
BANDS = """
import measure_bands
band = measure_bands.band([0.9, 0.91, 0.92, 0.93, 0.94], [0.001], list(range(5)))
measure_bands.write({f"a/fact_{k}": band for k in range(200)}, "02", "cpu", measure_bands.Path("bands.toml"))
"""
CHECKPOINT = """
import torch; from course_utils import checkpoints
checkpoints.write("run", {"model": {"a": torch.zeros(9_000)}}, {"step": 2})
"""
INDEX = """
import numpy as np; from course_utils.search import Index
Index(np.eye(90, dtype=np.float32)).save("index.safetensors")
"""
EXPORT = "import export_scenes; sys.exit(export_scenes.main('--train 2 --val 1 --test 1 --out raw'.split()))"


@pytest.mark.skipif(sys.platform == "win32", reason="a limit on file sizes stands for the full disk; Windows has none")
@pytest.mark.parametrize("code", [BUILD, README, BANDS, CHECKPOINT, INDEX, EXPORT],
                         ids=["build", "readme", "bands", "checkpoint", "index", "export"])  # fmt: skip
def test_a_full_disk_leaves_what_was_there_and_no_half(course, code):
    master = course / "notebooks/src/98_mini.py"
    master.write_text(master.read_text().replace("How many days", "How many whole days"))  # something to write
    (course / "bands.toml").write_text("# none yet\n")
    (course / "raw").mkdir()
    before = contents(course)
    status, _, error = ended(started(SMALL_DISK + code, 3_000, folder=course))
    assert status and "File too large" in error
    left = contents(course)
    left.pop("raw/scenes.json", None)  # says what the folder is for; the same command goes on from it
    assert left == before
    if code in (BUILD, EXPORT):  # programs; the others are functions, whose errors a program or a notebook shows
        assert "Traceback" not in error


def test_a_full_disk_while_progress_is_noted_does_not_stop_the_learner(own_artifacts):
    """The check says so and goes on; nothing half-written is left."""
    code = (
        SMALL_DISK
        + """
from course_utils.checks._outcome import exercise
print(exercise("98", "98.1")(lambda answer: None)(1))
"""
    )
    status, out, error = ended(started(code, 5, COURSE_ARTIFACTS=str(own_artifacts)))
    assert status == 0, error
    assert "Exercise 98.1: right." in out and "could not be noted" in out and out.strip().endswith("True")
    assert contents(own_artifacts) == {}


@pytest.mark.parametrize("about", [{"step": 2, "loss": float("nan")}, {"step": 2, "why": object()}])
def test_a_checkpoint_that_cannot_be_told_leaves_no_draft(tmp_path, about):
    checkpoints.write(tmp_path, {"model": {"a": torch.zeros(3)}}, {"step": 1})
    before = contents(tmp_path)
    with pytest.raises(CheckpointError, match="of step 2 cannot be written.*What was there is still whole"):
        checkpoints.write(tmp_path, {"model": {"a": torch.ones(3)}}, about)
    assert contents(tmp_path) == before and not list(tmp_path.glob("*.part"))


# Killed at any moment ------------------------------------------------------------------------------------------------

OVER_AND_OVER = """
import runpy, pathlib
sys.path[:0] = json.loads(sys.argv.pop(1))
import build, measure_bands, write_readme
build.HERE = pathlib.Path("notebooks").resolve()
master = build.masters()[0]
both = [build.build(master, "learner"), build.build(master, "learner")]
both[1].cells[0].source += " changed"
texts = ["By hand.\\n" * 2_000, "By hand, changed.\\n" * 2_000]
band = measure_bands.band([0.9, 0.91, 0.92, 0.93, 0.94], [0.001], list(range(5)))
measure_bands.write({"kept": band}, "01", "cpu", pathlib.Path("bands.toml"))
print("begun", flush=True)
for k in range(10**9):
    build.write(both[k % 2], pathlib.Path("notebooks/98_mini.ipynb"))
    write_readme.filled = lambda *_: texts[k % 2]
    write_readme.main([], pathlib.Path())
    measure_bands.write({f"fact_{n}": band for n in range(30 + k % 2)}, "02", "cpu", pathlib.Path("bands.toml"))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_notebooks_readme_and_bands_are_whole_whenever_a_program_is_killed(course):
    from course_utils import records

    whole = len(json.loads((course / "notebooks/98_mini.ipynb").read_text(encoding="utf-8"))["cells"])
    rng = random.Random(0)
    for _ in range(2):
        process = started(OVER_AND_OVER, folder=course)
        assert process.stdout.readline().strip() == "begun", process.stderr.read()
        time.sleep(rng.uniform(0.01, 0.25))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        cells = json.loads((course / "notebooks/98_mini.ipynb").read_text(encoding="utf-8"))["cells"]
        assert len(cells) == whole
        assert (course / "README.md").read_text() in ("By hand.\n" * 2_000, "By hand, changed.\n" * 2_000)
        facts = records.bands(course / "bands.toml")
        assert list(facts["01"]["cpu"]) == ["kept"] and len(facts.get("02", {}).get("cpu", range(30))) in (30, 31)
    halves = [name for name in contents(course) if name.endswith((".part", ".draft"))]
    assert len(halves) <= 3  # of the file that was just being written; the next write takes its place
    assert subprocess.run([sys.executable, "notebooks/build.py"], cwd=course, capture_output=True).returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_an_execution_that_is_killed_leaves_the_stored_notebook(course):
    """Also where the code has changed: what is stored is replaced by a new run, never by a run that did not end."""
    solved = course / "notebooks/solutions/98_mini.ipynb"
    stored = json.loads(solved.read_text(encoding="utf-8"))
    next(cell for cell in stored["cells"] if cell["cell_type"] == "code")["outputs"] = [
        {"output_type": "stream", "name": "stdout", "text": ["kept\n"]}
    ]
    solved.write_text(json.dumps(stored), encoding="utf-8")
    master = course / "notebooks/src/98_mini.py"
    master.write_text(master.read_text().replace("rows=(2, 3, 4)", "rows=(2, 3, 5)"))
    before, environment = solved.read_bytes(), PLAIN | {"PYTHONPATH": str(ROOT), "COURSE_PROFILE": "smoke"}
    for seconds in (0.0, 2.5):
        process = subprocess.Popen([sys.executable, "notebooks/build.py", "--execute"], cwd=course, env=environment,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # fmt: skip
        assert "code has changed" in process.stdout.readline()
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert solved.read_bytes() == before


# Two at once ---------------------------------------------------------------------------------------------------------

NOTE = """
sys.path[:0] = json.loads(sys.argv.pop(1))
from course_utils import progress
print("ready", flush=True), sys.stdin.readline()
for k in range(60):
    progress.note("02", f"2.{k}")
    progress.note("02", f"3.{sys.argv[1]}{k}")
"""


def test_three_kernels_that_note_progress_at_once_lose_nothing(own_artifacts):
    three = [started(NOTE, number, COURSE_ARTIFACTS=str(own_artifacts)) for number in range(1, 4)]
    assert [process.stdout.readline().strip() for process in three] == ["ready"] * 3
    for process in three:
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [ended(process)[0] for process in three] == [0] * 3
    wanted = {f"2.{k}" for k in range(60)} | {f"3.{number}{k}" for number in range(1, 4) for k in range(60)}
    table = progress.table()
    assert set(table.exercise) == wanted and len(table) == len(wanted)
    assert table.solved.str.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d").all()
    assert {path.suffix for path in (own_artifacts / "progress").iterdir()} == {".txt"}


def test_a_damaged_note_is_still_a_solved_exercise(own_artifacts):
    progress.note("02", "2.1")
    (own_artifacts / "progress/02-2.2.txt").write_bytes(b"\xff\xfe")
    (own_artifacts / "progress/02-2.3.txt").mkdir()
    assert progress.table().exercise.tolist() == ["2.1", "2.2"]


MEASURE = """
sys.path[:0] = json.loads(sys.argv.pop(1))
import measure_bands
band = measure_bands.band([0.9, 0.91, 0.92, 0.93, 0.94], [0.001], list(range(5)))
print("ready", flush=True), sys.stdin.readline()
for k in range(8):
    measure_bands.write({f"fact_{k}": band}, f"{sys.argv[1]}{k:02d}", "cpu", measure_bands.Path("bands.toml"))
"""


def test_bands_measured_at_once_are_all_kept(tmp_path):
    from course_utils import records

    two = [started(MEASURE, number, folder=tmp_path) for number in (1, 2)]
    assert [process.stdout.readline().strip() for process in two] == ["ready"] * 2
    for process in two:
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [ended(process)[0] for process in two] == [0, 0]
    assert sorted(records.bands(tmp_path / "bands.toml")) == sorted(f"{n}{k:02d}" for n in (1, 2) for k in range(8))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bands.toml"]


def fit(folder, evaluate=None, resume=False):
    torch.manual_seed(0)
    model = nn.Linear(2, 1)
    batches = ({"x": torch.ones(4, 2)} for _ in range(4))
    wrapped = Wrapped(model)
    loss = lambda out, batch: (out**2).mean()  # noqa: E731
    run = Run(folder, 1, evaluate, resume=resume)
    return training.fit(wrapped, batches, loss, training.TrainConfig(4, channels_last=False), run=run)


class Wrapped(nn.Module):
    """A model of a batch."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, batch):
        return self.inner(batch["x"])


def test_a_second_training_into_a_folder_is_refused_and_the_first_goes_on(tmp_path):
    folder, refused = tmp_path / "run", []

    def meanwhile(model):
        for other in (lambda: fit(folder), lambda: fit(folder, resume=True), lambda: checkpoints.clear(folder)):
            with pytest.raises(Busy, match="Another training is at work in .*run: .*Nothing was changed"):
                other()
            refused.append(other)
        return {"recall": 1.0}

    assert len(fit(folder, meanwhile)) == 4 and len(refused) == 12
    assert checkpoints.read(folder).about["step"] == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]  # the lock has gone
    checkpoints.clear(folder)
    assert not folder.exists() and len(fit(folder)) == 4


def test_a_training_that_failed_lets_others_into_its_folder(tmp_path):
    with pytest.raises(ZeroDivisionError):
        fit(tmp_path / "run", lambda model: {"recall": 1 / 0})
    with pytest.raises(ValueError, match="holds a training already|batches ran out"):
        fit(tmp_path / "run"), fit(tmp_path / "run")
    checkpoints.clear(tmp_path / "run")
    assert len(fit(tmp_path / "run")) == 4


def test_a_folder_that_knows_no_locks_is_trained_into_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr("course_utils.locks.os.path.samestat", lambda *_: False)  # numbers its files anew each time
    assert len(fit(tmp_path / "run")) == 4


HOLD = """
sys.path[:0] = json.loads(sys.argv.pop(1))
from course_utils import locks
with locks.alone(sys.argv[1]):
    print("in", flush=True)
    sys.stdin.readline()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no locks there")
def test_the_lock_of_a_kernel_that_was_killed_is_lifted(tmp_path):
    process = started(HOLD, tmp_path / "run")
    assert process.stdout.readline().strip() == "in", process.stderr.read()
    with pytest.raises(Busy, match="shut down its kernel"):
        checkpoints.clear(tmp_path / "run")
    process.kill()
    process.communicate()
    assert len(fit(tmp_path / "run")) == 4


# Without rights ------------------------------------------------------------------------------------------------------

READ_ONLY = """
from course_utils import env, progress
try:
    session = env.start("98", "smoke")
except OSError as error:
    sys.exit(f"{type(error).__name__}: {error}")
progress.note("98", "98.1")
(session.paths.artifacts / "model").write_text("kept")
print(session.paths.artifacts, len(progress.table()))
"""


@pytest.fixture()
def read_only(tmp_path):
    """A checkout in which nothing can be written, and how to start a program that is held to that, also for root."""
    if sys.platform == "win32":
        pytest.skip("modes mean something else there")
    prefix = []
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root writes everywhere, and there is no setpriv to take that right away")
        prefix = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    folder = tmp_path / "checkout"
    shutil.copytree(
        ROOT / "course_utils", folder / "course_utils", ignore=shutil.ignore_patterns("data", "__pycache__")
    )
    shutil.copy(ROOT / "pyproject.toml", folder)
    places = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    for path in places:
        path.chmod(0o555)
    if subprocess.run([*prefix, "touch", str(folder / "x")], capture_output=True).returncode == 0:
        pytest.skip("here modes bind nobody")
    yield folder, prefix
    for path in places:
        path.chmod(0o755)


def test_a_read_only_checkout_says_what_to_set_and_then_works(read_only, tmp_path):
    folder, prefix = read_only
    before, mine = contents(folder), tmp_path / "mine"

    def run(**more):
        environment = PLAIN | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1", "HOME": str(tmp_path)} | more
        return subprocess.run([*prefix, sys.executable, "-c", "import sys\n" + READ_ONLY], cwd=tmp_path,
                              env=environment, capture_output=True, text=True)  # fmt: skip

    refused = run()
    assert refused.returncode == 1
    said = f"OSError: Cannot work in the folder {folder / 'artifacts'} (Permission denied). Set COURSE_ARTIFACTS"
    assert refused.stderr.startswith(said)
    assert "COURSE_DATA" in refused.stderr and "Traceback" not in refused.stderr
    works = run(COURSE_ARTIFACTS="~/mine", COURSE_DATA=str(tmp_path / "data"))
    assert works.returncode == 0, works.stderr
    assert works.stdout.split() == [str(mine), "1"]
    assert (mine / "model").read_text() == "kept" and contents(folder) == before
