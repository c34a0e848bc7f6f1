"""The builder: what a learner sees, what fails, and that nothing stale or hand-edited passes."""

import ast
import json
import re
import subprocess
import sys
import tomllib

import nbformat
import pytest

NOTEBOOKS = ("98_mini.ipynb", "solutions/98_mini.ipynb")


@pytest.fixture()
def lesson(mini):
    """The mini lesson's master."""
    return mini.HERE / "src" / "98_mini.py"


def change(lesson, old, new):
    text = lesson.read_text()
    assert old in text
    lesson.write_text(text.replace(old, new, 1))


def code(notebook):
    return "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")


def test_two_builds_are_identical_byte_for_byte(mini):
    builds = []
    for _ in range(2):
        assert mini.main([]) == 0
        builds.append([(mini.HERE / name).read_bytes() for name in NOTEBOOKS])
    assert builds[0] == builds[1]


def test_notebooks_are_valid_and_ids_tell_the_position(mini, lesson):
    for kind in ("learner", "solved", "nbgrader"):
        notebook = mini.build(lesson, kind)
        nbformat.validate(notebook)
        ids = [cell.id for cell in notebook.cells]
        assert ids[0] == "98-000"
        assert ids == sorted(set(ids))


def test_the_learner_sees_open_exercises_and_no_solutions(mini, lesson):
    learner, solved = mini.build(lesson, "learner"), mini.build(lesson, "solved")
    assert 'def double(x):\n    """Twice x."""\n    raise NotImplementedError("Exercise 98.1")' in code(learner)
    assert any(cell.source == "answer = ..." for cell in learner.cells)
    assert "SOLUTION" not in code(learner) + code(solved)
    assert "return 2 * x" in code(solved)
    assert "return 2 * x" not in code(learner)
    assert "answer = ...\nanswer = 7" in code(solved)
    assert "Only the solved" in code(solved)
    assert "Only the solved" not in code(learner)


def forked(mini):
    """Another address and branch in the one place that names them, whatever it was before."""
    path = mini.HERE.parent / "pyproject.toml"
    text = re.sub(r'(?m)^Repository = ".*"', 'Repository = "https://github.com/my-fork/of-it"', path.read_text())
    path.write_text(re.sub(r'(?m)^ref = ".*?"', 'ref = "2026.11"', text))


def test_set_up_and_badge_come_from_the_one_address(mini, lesson):
    forked(mini)
    notebook = mini.build(lesson, "learner")
    assert "github/my-fork/of-it/blob/2026.11/notebooks/98_mini.ipynb" in notebook.cells[0].source
    assert "git+https://github.com/my-fork/of-it@2026.11" in notebook.cells[2].source
    assert 'lesson="98"' in notebook.cells[2].source
    assert '"course_utils @ git+' in notebook.cells[2].source
    assert "{" not in notebook.cells[2].source  # every placeholder is filled


def test_a_lesson_asks_for_the_extras_that_it_needs(mini, lesson):
    assert 'installing.complete("")' in mini.build(lesson, "learner").cells[2].source
    change(mini.HERE.parent / "pyproject.toml", 'extras = { "06"', 'extras = { "98"')
    assert 'installing.complete("search,tensorboard")' in mini.build(lesson, "learner").cells[2].source


def test_every_lesson_asks_for_the_extras_of_what_it_imports(root):
    """Else a lesson opened on Colab stops at an import. Modules of ours that import an extra count as that extra."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    extra_of = {"captum": "explain", "shap": "explain", "tensorboard": "tensorboard", "faiss": "search",
                "gradio": "search", "gradio_client": "search"}  # fmt: skip
    extra_of |= {"course_utils.search": "search", "course_utils.page": "search"}
    for master in sorted((root / "notebooks" / "src").glob("[0-9]*.py")):
        names = set()
        for node in ast.walk(ast.parse(master.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                names |= {node.module.partition(".")[0]} | {f"{node.module}.{alias.name}" for alias in node.names}
            elif isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
        asked = set(project["tool"]["course"]["extras"].get(master.stem[:2], "").split(",")) - {""}
        assert asked == {extra_of[name] for name in names & extra_of.keys()}, master.stem


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("    # END SOLUTION\n", "", "(def double(x):): unclosed"),
        ("    # BEGIN SOLUTION", "    ## BEGIN SOLUTION", "(def double(x):): unclosed or misspelt"),
        (
            "return 2 * x",
            "return 2 * x  # SOLUTION: twice\n    # END SOLUTION",
            "(def double(x):): unclosed or misspelt",
        ),
        ('# %% tags=["exercise"]\ndef', "# %%\ndef", "(def double(x):): a SOLUTION region and the tag"),
        ("answer = ...\n", "", "cell 12 (# BEGIN SOLUTION): a region at the left margin"),
        (
            "check_double(double)",
            "check_double(double)\ncheck_double(double)",
            "(check_double(double)): a check is one line",
        ),
        ('# %% tags=["check"]\ncheck_double', "# %%\ncheck_double", "exercise 98.1: needs"),
        ("Difficulty 1 of 3", "Easy", "cell 8 (### Exercise 98.1: twice): an exercise says"),
        ("Exercise 98.2", "Exercise 98.1", "exercise 98.1: needs one heading"),
        ('tags=["solution"]', 'tags=["hidden"]', "unknown tag hidden"),
        ("SEED = 0", "SEED = 1", "cell 2: is the parameters cell"),
        ("# # 98 Mini", "# 98 Mini", "cell 1: starts with"),
        ("sizes = session", "from os.path import *\nsizes = session", "no star import"),
        ("sizes = session", "!pip list\nsizes = session", "no `!` or"),
        ("sizes = session", "%%capture\nsizes = session", "no %%capture"),
        ("sizes = session", "import warnings\nwarnings.filterwarnings('ignore')\nsizes = session", "blanket"),
        ("sizes = session", "1 +\nsizes = session", "line 1 is not Python"),
        (
            "# The smallest",
            "# ![](figures/x.svg)\n# The smallest",
            "cell 1 (# 98 Mini: does the house stand?): a picture without alt text",
        ),
        (
            "# The smallest",
            '# <img src="figures/x.svg">\n# The smallest',
            "cell 1 (# 98 Mini: does the house stand?): a picture without alt text",
        ),
        ("sizes = session", "x = 1\n" * 39 + "sizes = session", "cell 4 (x = 1): 41 lines, at most 40"),
        ("sizes = session", "x = 1\n" * 25 + "sizes = session", "of 13 over 25 lines, at most one in ten"),
        ("{sizes.rows} rows", "rows", "size 'rows' is chosen but no cell reads sizes.rows"),
    ],
)
def test_a_breach_names_lesson_cell_and_rule(mini, lesson, capsys, old, new, message):
    text = lesson.read_text()
    change(lesson, old, new)
    if "of 13" in message:  # one long cell in thirteen is within the tenth: make it two
        change(lesson, "ax = plotting", "x = 1\n" * 25 + "ax = plotting")
    assert mini.main([]) == 1
    error = capsys.readouterr().err
    assert "98_mini" in error
    assert message in error
    assert not (mini.HERE / NOTEBOOKS[0]).exists()
    lesson.write_text(text)
    assert mini.main([]) == 0


def test_pictures_with_alt_text_pass(mini, lesson):
    change(lesson, "# The smallest", '# ![A cat](x.svg) <img src="y.svg" alt="A dog">\n# The smallest')
    assert mini.main([]) == 0


def test_a_fresh_build_passes_the_check(mini):
    assert mini.main(["--check"]) == 1  # nothing built yet
    assert mini.main([]) == 0
    assert mini.main(["--check"]) == 0


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_an_edit_by_hand_fails_the_check(mini, capsys, name):
    mini.main([])
    path = mini.HERE / name
    path.write_text(path.read_text().replace("Twice x.", "Two times x."))
    assert mini.main(["--check"]) == 1
    assert f"{name} differs from its master at cell 10" in capsys.readouterr().err


def test_a_changed_master_fails_the_check(mini, lesson, capsys):
    mini.main([])
    change(lesson, "How many days", "How many whole days")
    assert mini.main(["--check"]) == 1
    assert capsys.readouterr().err.count("differs") == 2


def test_the_check_also_looks_at_the_classroom_export(mini, capsys, monkeypatch):
    mini.main([])
    sound = mini.notebook_problems
    monkeypatch.setattr(
        mini, "notebook_problems", lambda notebook, kind: sound(notebook, kind) or ["long"] * (kind == "nbgrader")
    )
    assert mini.main(["--check"]) == 1
    assert "98_mini (nbgrader), long" in capsys.readouterr().err


def test_broken_and_stray_notebooks_fail_the_check(mini, capsys):
    mini.main([])
    (mini.HERE / "97_copy.ipynb").write_text("{}")
    assert mini.main(["--check"]) == 1
    assert "97_copy.ipynb has no master" in capsys.readouterr().err
    (mini.HERE / NOTEBOOKS[0]).write_text("{")
    assert mini.main(["--check"]) == 1


def test_an_unknown_lesson_is_named(mini):
    with pytest.raises(mini.LessonError, match="no lesson 55; there are 98_mini"):
        mini.main(["55"])


def with_output(path, position, output):
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[position].outputs = [nbformat.v4.new_output(**output)]
    nbformat.write(notebook, path)


def test_outputs_stay_while_the_code_does(mini, lesson, capsys):
    mini.main([])
    path = mini.HERE / NOTEBOOKS[1]
    with_output(path, 3, {"output_type": "stream", "text": "kept"})
    change(lesson, "How many days", "How many whole days")
    mini.main([])
    assert "kept" in path.read_text()
    change(lesson, "rows=(2, 3, 4)", "rows=(2, 3, 5)")
    mini.main([])
    assert "kept" not in path.read_text()
    assert "outputs dropped" in capsys.readouterr().out


def test_outputs_stay_when_only_the_installing_changes(mini, lesson, capsys):
    """The set-up cell's lines before the session starts compute nothing; those from there on do."""
    setup = mini.HERE / "src" / "_setup.py"
    mini.main([])
    path = mini.HERE / NOTEBOOKS[1]
    with_output(path, 2, {"output_type": "stream", "text": "a line of versions"})
    with_output(path, 3, {"output_type": "stream", "text": "kept"})
    forked(mini)
    change(setup, "import importlib\n", "import importlib\nimport time\n")
    assert mini.main([]) == 0 and mini.main(["--check"]) == 0
    text = path.read_text()
    assert "my-fork" in text and "import time" in text and "a line of versions" in text and "kept" in text
    assert "dropped" not in capsys.readouterr().out
    change(setup, "seed=SEED", "seed=SEED + 1")
    mini.main([])
    assert "kept" not in path.read_text() and "outputs dropped" in capsys.readouterr().out


def test_a_notebook_somebody_worked_in_is_copied_before_it_is_replaced(mini, capsys):
    mini.main([])
    with_output(mini.HERE / NOTEBOOKS[0], 3, {"output_type": "stream", "text": "my work"})
    assert mini.main(["--check"]) == 1
    assert "holds outputs" in capsys.readouterr().err
    assert mini.main([]) == 0
    assert "my work" in (mini.HERE.parent / "artifacts" / "replaced" / NOTEBOOKS[0]).read_text()
    assert "my work" not in (mini.HERE / NOTEBOOKS[0]).read_text()


@pytest.mark.parametrize("kind", ["typed", "own cell"])
def test_work_that_was_not_run_is_copied_too_and_no_copy_is_replaced(mini, capsys, kind):
    """An answer that was typed and not run; a cell of one's own; and then, after a build, other work."""
    mini.main([])
    path, replaced = mini.HERE / NOTEBOOKS[0], mini.HERE.parent / "artifacts" / "replaced"

    def work(words):
        notebook = nbformat.read(path, as_version=4)
        if kind == "own cell":
            notebook.cells.append(nbformat.v4.new_code_cell(f"# {words}"))
        else:
            cell = next(cell for cell in notebook.cells if "exercise" in cell.metadata.get("tags", []))
            cell.source = cell.source.replace('raise NotImplementedError("Exercise 98.1")', f"return 2 * x  # {words}")
        nbformat.write(notebook, path)

    for words in ("the first", "the second"):
        work(words)
        assert mini.main([]) == 0
        assert "somebody has worked in this notebook" in capsys.readouterr().out
    assert "the first" in (replaced / "98_mini.ipynb").read_text()
    assert "the second" in (replaced / "98_mini-2.ipynb").read_text()
    assert mini.main([]) == 0  # nothing was done since
    assert "worked" not in capsys.readouterr().out and len(list(replaced.iterdir())) == 2


def test_a_changed_master_is_nobodys_work(mini, lesson, capsys):
    mini.main([])
    change(lesson, "How many days", "How many whole days")
    assert mini.main([]) == 0
    assert "worked" not in capsys.readouterr().out


PICTURE = {"output_type": "display_data", "data": {"image/png": "AAAA"}}


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (PICTURE, "a picture without alt text"),
        (PICTURE | {"metadata": {"image/png": {"alt": "A cat"}}}, None),
        ({"output_type": "display_data", "data": {"text/html": '<img src="x">'}}, "<img> without alt"),
        ({"output_type": "display_data", "data": {"text/html": '<img src="x" alt="A cat">'}}, None),
        ({"output_type": "error", "ename": "E", "evalue": "", "traceback": []}, "an error output"),
        ({"output_type": "stream", "text": "x" * 600_000}, "kB, at most 500"),
    ],
)
def test_stored_outputs_are_looked_at(mini, lesson, script, output, message):
    limits = script("notebooks/limits.py")
    notebook = mini.build(lesson, "solved")
    notebook.cells[3].outputs = [nbformat.v4.new_output(**output)]
    problems = limits.output_problems(notebook)
    assert (problems == []) if message is None else any(message in problem for problem in problems)


def test_noise_is_tidied_away(mini):
    bar = "\r  0%|          | 0/20 [00:00<?, ?it/s]\r100%|#####| 20/20 [00:01<00:00, 15.3it/s]\n"
    assert mini.tidy(nbformat.v4.new_output("stream", name="stderr", text=bar)) is None
    kept = mini.tidy(nbformat.v4.new_output("stream", text=bar + f"in {mini.HERE.parent}/artifacts\n"))
    assert kept.text == "in ./artifacts\n"
    widget = {"application/vnd.jupyter.widget-view+json": {}, "text/plain": "bar"}
    assert mini.tidy(nbformat.v4.new_output("display_data", data=widget)) is None
    page = {"text/html": '<div><iframe src="http://127.0.0.1:7860/" width="100%"></iframe></div>', "text/plain": ""}
    assert mini.tidy(nbformat.v4.new_output("display_data", data=page)) is None


@pytest.mark.slow
def test_execution_stores_records_and_portable_outputs(mini, lesson, monkeypatch, capsys):
    monkeypatch.setenv("COURSE_PROFILE", "smoke")
    assert mini.main(["--execute", "98"]) == 1  # the mini lesson has no bands, and that is all it lacks
    assert set(capsys.readouterr().err.splitlines()) == {
        "lesson 98, no bands for lesson 98 in profile smoke: run data_scripts/measure_bands.py",
        "lesson 98, plain/recall_at_1: has no band: run data_scripts/measure_bands.py",
    }
    text = (mini.HERE / NOTEBOOKS[1]).read_text()
    notebook = json.loads(text)
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    assert any(output.get("text") == ["Exercise 98.1: right.\n"] for output in outputs)
    assert any("application/vnd.course.record+json" in output.get("data", {}) for output in outputs)
    assert any(output.get("metadata", {}).get("image/png", {}).get("alt") for output in outputs)
    assert "execution" not in notebook["cells"][3]["metadata"]
    assert "widgets" not in notebook["metadata"]
    assert str(mini.HERE.parent) not in text
    assert mini.main(["--check"]) == 0


@pytest.mark.slow
def test_a_lesson_that_stops_is_not_stored(mini, lesson, monkeypatch, capsys):
    monkeypatch.setenv("COURSE_PROFILE", "smoke")
    change(lesson, 'print("The same in every profile.")', 'raise ValueError("stopped here")')
    assert mini.main(["--execute"]) == 1
    said = capsys.readouterr().err
    assert re.match(r"lesson 98, cell \d+ \(raise ValueError.*\): ValueError: stopped here; see artifacts/failed", said)
    assert "stopped here" in (mini.HERE.parent / "artifacts" / "failed" / "98_mini.ipynb").read_text()
    assert '"error"' not in (mini.HERE / NOTEBOOKS[1]).read_text()


def test_the_courses_own_notebooks_are_fresh(root):
    """The command that CI and authors run, on the real lessons."""
    result = subprocess.run([sys.executable, "notebooks/build.py", "--check"], cwd=root, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_no_name_in_a_notebook_is_undefined(root):
    """Masters alone do not define `session` and `record`; whole notebooks must define every name they use."""
    built = sorted(map(str, (root / "notebooks").glob("**/*.ipynb")))
    ruff = [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", "--select", "F821,F823", *built]
    result = subprocess.run(ruff, capture_output=True, text=True)
    assert not built or result.returncode == 0, result.stdout
