"""The house keeps its shape: directions of imports, sizes of modules, no traces of the machine it was built on."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "course_utils"
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")
MASTERS = sorted((ROOT / "notebooks" / "src").glob("[0-9]*.py"))

# What each module may import of ours. Leaves import nothing; plotting and checks are imported by none.
MAY_IMPORT = {
    "env": set(),
    "installing": set(),  # what the set-up cell asks before env, whose torch may not be there yet
    "records": set(),
    "progress": set(),
    "plotting": set(),
    "stamps": set(),
    "scenes": {"stamps", "composing", "combinations", "grammar"},
    "composing": {"stamps"},  # scenes was too long for one module: pixels,
    "combinations": {"grammar"},  # which scene belongs to which part,
    "grammar": set(),  # and words
    "flickr30k": {"caption_files"},  # folders and arrays,
    "feed": set(),  # training views of those arrays, or of any
    "caption_files": set(),  # and the three kinds of caption file: one module was too long
    "text": set(),
    "batches": {"stamps", "scenes", "flickr30k", "text"},
    "towers": {"stamps", "hub"},  # the shipped features are features of the stamps;
    "hub": set(),  # weights from elsewhere: one module was too long
    "models": {"attention"},  # a tower over patches that returns its weights
    "losses": set(),
    "training": {"memory", "runs"},  # the loop; it was too long for one module:
    "runs": {"checkpoints", "locks"},  # what a long training keeps,
    "checkpoints": {"locks"},  # how that is stored and read back,
    "locks": set(),  # by one training at a time,
    "memory": set(),  # and what a step will cost
    "captioned": set(),  # batches of pictures and captions from a uint8 cache; any set with Flickr30k's arrays will do
    "retrieval": {"metrics"},  # a set encoded once and ranked both ways
    "recipes": {"towers", "models", "training", "text", "checkpoints", "retrieval", "losses"},  # one line a retriever
    "shipped": {"models", "recipes", "text", "checkpoints"},  # small trained retrievers that lessons begin with
    "metrics": set(),
    "search": {"uploads"},  # index and questions; it would be too long with
    "uploads": set(),  # pictures from strangers
    "page": {"search", "uploads"},  # and the page around them
    "explain": set(),  # Grad-CAM and its kin, on callables;
    "absence": set(),  # what a player that is not there is replaced by;
    "shapley": set(),  # and what each player is paid
    "entities": set(),  # Flickr30k Entities: phrases and boxes
    "ranking": set(),  # lesson 09: ranks with several right answers,
    "counting": {"ranking"},  # counted in blocks where a table would not fit,
    "intervals": set(),  # bootstraps as one product,
    "calibration": set(),
    "generation": set(),  # BLEU and consensus of captions,
    "distances": set(),  # Frechet distance, Inception score,
    "fits": {"composing", "grammar"},  # which captions hold for which scenes
    "faithfulness": set(),
    "speech": set(),  # lesson 01: log-mel pictures of sound,
    "linear": set(),  # ridge and CCA in closed form,
    "geometry": set(),  # alignment, uniformity, the modality gap
    "attention": set(),  # lesson 03; models was growing too long for attention's family
    "fusion": set(),  # lesson 04: one interface for eight methods,
    "tasks": set(),  # tasks whose best accuracy is known,
    "balancing": set(),  # GradNorm and modality dropout,
    "classification": set(),  # precision, recall, F1 from counts
    "judging": set(),  # the answers of a class, each in a process of its own,
    "grading": {"judging"},  # as steps of nbgrader
}
TORCH_FREE = {
    "installing",
    "entities",
    "shapley",
    "ranking",
    "counting",
    "intervals",
    "calibration",
    "generation",
    "distances",
    "fits",
    "speech",
    "linear",
    "geometry",
    "tasks",
    "classification",
    "faithfulness",
    "stamps",
    "scenes",
    "composing",
    "combinations",
    "grammar",
    "flickr30k",
    "caption_files",
    "hub",
    "search",
    "uploads",
    "page",
    "progress",
    "plotting",
}


def name(path):
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def imports(path):
    """(top-level package, module of ours or None) for every import in a file, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative import"
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            whole = [alias.name for alias in node.names]
        else:
            continue
        for target in whole:
            parts = target.split(".")
            ours = parts[1:3] if parts[0] == "course_utils" else []
            found.add((parts[0], ".".join(ours) if ours[:1] == ["checks"] else (ours or [None])[0]))
    return found


def tracked(*patterns):
    """Files that git would commit; all files where there is no git (an unpacked archive)."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if result.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / line for line in result.stdout.splitlines() if (ROOT / line).is_file()]


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_imports_point_in_the_agreed_direction(path):
    ours = {module for package, module in imports(path) if package == "course_utils" and module}
    if path.parent.name == "checks":
        assert not ours & {"env", "records", "plotting"}, "a check imports what it checks, and progress"
        others = {module for module in ours if module.startswith("checks.") and not module.startswith("checks._")}
        assert path.name == "_outcome.py" or not others
    else:
        assert ours <= MAY_IMPORT[name(path)]


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_modules_are_short_and_documented(path):
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert len(text.splitlines()) < 350
    assert ast.get_docstring(tree)
    defined = [node for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
    public = [node for node in defined if not node.name.startswith("_")]
    if path.parent.name != "checks":  # a lesson has one check an exercise
        assert len(public) <= 10, [node.name for node in public]
    members = [m for node in public if isinstance(node, ast.ClassDef) for m in node.body]
    methods = [m for m in members if isinstance(m, ast.FunctionDef) and not m.name.startswith("_")]
    methods = [m for m in methods if m.name != "forward"]  # the class says what a torch module does
    assert [node.name for node in public + methods if not ast.get_docstring(node)] == []


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_signatures_are_plain(path):
    """At most six arguments, no **kwargs; `Session.choose` alone takes free keywords: they are a table's rows."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef) and (name(path), node.name) != ("env", "choose"):
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            given = [a for a in arguments if a.arg not in ("self", "cls")]
            assert node.args.kwarg is None or node.name.startswith("_"), node.name
            assert len(given) <= 6, f"{node.name} takes {len(given)} arguments"
        assert not isinstance(node, ast.Global), f"line {node.lineno}: global"


def test_data_modules_need_no_torch():
    for module in TORCH_FREE:
        path = PACKAGE / f"{module}.py"
        if path.exists():
            assert "torch" not in {package for package, _ in imports(path)}, module


def test_package_markers_are_empty():
    for path in PACKAGE.rglob("__init__.py"):
        assert path.read_text() == "", path


@pytest.mark.parametrize("path", MASTERS, ids=lambda path: path.stem)
def test_lessons_use_public_names_only(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("course_utils"):
            assert not any(part.startswith("_") for part in node.module.split("."))
            assert not any(alias.name.startswith("_") for alias in node.names)


def test_nothing_names_this_machine_or_a_registry():
    machine = re.compile(r"(?m)(^|[^A-Za-z0-9._-])/(work|root|farm|tmp/lab)/")
    registry = re.compile(
        r"https?://[^ /]*(" + "|".join(("py" + "pi", "python" + "hosted", "deb" + "ian", "np" + "m")) + ")"
    )
    found = []
    for path in tracked():
        if path.parent.name == "licences":  # other people's licence texts, word for word
            continue
        if path.suffix in {".parquet", ".safetensors", ".png", ".webp", ".ogg"}:
            continue
        text = path.read_text(encoding="utf-8", errors="ignore")
        if machine.search(text) or registry.search(text):
            found.append(str(path.relative_to(ROOT)))
    assert found == []


def test_no_file_is_too_big_for_the_web():
    too_big = {path.name: path.stat().st_size for path in tracked() if path.stat().st_size > 31_000_000}
    assert too_big == {}


def test_the_conda_environment_has_the_same_floors():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["lab"]]
    own = next(item for item in wanted if item.startswith("course_utils["))  # the extras that every reader needs
    wanted = {item.partition(";")[0].strip() for item in wanted if "python_version" not in item and item != own}
    lines = (ROOT / "environment.yml").read_text(encoding="utf-8").splitlines()
    assert any(line.partition("#")[0].strip() == f"- -e .{own.removeprefix('course_utils')}" for line in lines)
    given = {line.strip(" -").partition("#")[0].strip() for line in lines if ">=" in line}
    renamed = {"torch": "pytorch", "matplotlib": "matplotlib-base", "soundfile": "pysoundfile"}  # conda's own names
    wanted = {renamed.get(item.partition(">=")[0], item.partition(">=")[0]) + ">=" + item.partition(">=")[2]
              for item in wanted}  # fmt: skip
    assert {item for item in given if not item.startswith("python>=")} == wanted
    assert f"python{project['requires-python']}" in given


def test_readme_spells_out_what_make_runs():
    """The README's plain commands are the Makefile's, and CI calls the README's test command."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    quiet = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}  # make test runs this
    for target in ("test", "lab", "notebooks"):
        command = ["make", "--dry-run", "--always-make", "PYTHON=python3", target]
        result = subprocess.run(command, cwd=ROOT, env=quiet, capture_output=True, text=True, check=True)
        last = " ".join(result.stdout.splitlines()[-1].split())
        assert last in readme or last.replace(".venv/bin/python", "python") in readme, last
    assert (ROOT / ".ci" / "run").read_text().rstrip().endswith("exec make test")


def test_no_dependency_is_pinned():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    every = project["dependencies"] + sum(project["optional-dependencies"].values(), [])
    assert [item for item in every if "==" in item or "<" in item.partition(";")[0]] == []


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=["lint", "format"])
def test_ruff_is_content(command):
    result = subprocess.run(
        [sys.executable, "-m", "ruff", *command, "--no-cache", "."], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout[-3000:]
