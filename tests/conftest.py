"""Shared by all tests: each test keeps its artifacts to itself, and small jobs do not fight over the cores."""

import importlib
import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.pop("COURSE_PROFILE", None)


def pytest_collection_modifyitems(items):
    """Long tests first, so that no core waits for the last one."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(autouse=True)
def own_artifacts(tmp_path, monkeypatch):
    """Progress and results of a test go to its own folder, never to the checkout's."""
    monkeypatch.setenv("COURSE_ARTIFACTS", str(tmp_path / "artifacts"))
    monkeypatch.delenv("COURSE_SESSION_ARTIFACTS", raising=False)
    return tmp_path / "artifacts"


@pytest.fixture(scope="session")
def root():
    """The checkout."""
    return ROOT


@pytest.fixture()
def script():
    """Import one of the course's programs: `script("notebooks/build.py")`."""

    def load(path):
        folder = str((ROOT / path).parent)
        if folder not in sys.path:
            sys.path.insert(0, folder)
        return importlib.import_module(Path(path).stem)

    return load


@pytest.fixture()
def mini(tmp_path, monkeypatch, script):
    """The build program, pointed at a course folder with one lesson, 98_mini."""
    build = script("notebooks/build.py")
    course = tmp_path / "course"
    (course / "notebooks" / "src").mkdir(parents=True)
    for source, target in (
        ("pyproject.toml", "pyproject.toml"),
        ("notebooks/src/_setup.py", "notebooks/src/_setup.py"),
        ("tests/lessons/98_mini.py", "notebooks/src/98_mini.py"),
    ):
        (course / target).write_bytes((ROOT / source).read_bytes())
    monkeypatch.setattr(build, "HERE", course / "notebooks")
    return build
