"""A fork's own address: stamped there and back over a copy of this very repository; nonsense is refused."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import nbformat
import pytest

THEIRS = "https://github" + ".com/Some-School/ml.course_2027"  # in two parts: this file is in the copy


@pytest.fixture()
def fork(script):
    return script("notebooks/fork.py")


@pytest.fixture()
def copy(root, tmp_path, fork, monkeypatch):
    """All texts and two lessons' notebooks of this checkout, outputs included, as a repository of its own."""
    target = tmp_path / "copy"
    for path in fork.files(root):
        if path.is_relative_to(root / "notebooks" / "src") and path.name[:2] not in {"00", "04", "_s"}:
            continue
        there = target / path.relative_to(root)
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, there)
    for path in (root / "notebooks").glob("**/0[04]_*.ipynb"):
        there = target / path.relative_to(root)
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, there)
    subprocess.run(["git", "init", "-q", str(target)], check=True)
    monkeypatch.setattr(fork.build, "HERE", target / "notebooks")
    return target


def contents(folder):
    found = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {path: content for path, content in found.items() if ".git" not in path.parts}


def outputs(folder):
    notebooks = sorted((folder / "notebooks" / "solutions").glob("*.ipynb"))
    cells = [cell for path in notebooks for cell in nbformat.read(path, as_version=4).cells]
    return [cell.outputs for cell in cells if cell.cell_type == "code"]


def test_there_and_back_again(fork, copy, capsys):
    project = tomllib.loads((copy / "pyproject.toml").read_text())
    ours, ref = project["project"]["urls"]["Repository"], project["tool"]["course"]["ref"]
    before, kept = contents(copy), outputs(copy)
    assert sum(bool(one) for one in kept) > 50
    assert fork.main([THEIRS + ".git", "--ref", "autumn"]) == 0
    said = capsys.readouterr().out
    assert "changed pyproject.toml" in said and "changed README.md" in said and "dropped" not in said
    after = contents(copy)
    assert before.keys() == after.keys()
    changed = {str(path) for path in before if before[path] != after[path]}
    assert {name for name in changed if "ipynb" not in name} == {"pyproject.toml", "README.md"}
    assert sum("ipynb" in name for name in changed) == 4  # two lessons, learner's and solved
    old = re.escape(ours.partition("github.com/")[2]).encode()
    assert [str(path) for path, content in after.items() if re.search(rb"[/:]" + old, content)] == []
    readme = after[Path("README.md")].decode()
    assert f"git clone {THEIRS} && cd ml.course_2027\n" in readme
    for path in (copy / "notebooks").glob("**/*.ipynb"):
        text = path.read_text()
        assert f"github/Some-School/ml.course_2027/blob/autumn/notebooks/{path.name}" in text
        assert f"git+{THEIRS}@autumn" in text
    assert outputs(copy) == kept
    assert fork.main([THEIRS]) == 0  # again, and the branch stays as it is
    assert contents(copy) == after
    assert fork.main([ours, "--ref", ref]) == 0
    assert contents(copy) == before


def test_nonsense_is_refused_with_one_line(fork, copy, capsys):
    before, host = contents(copy), "https://github" + ".com"
    ends = ["o", "o/n/tree/main", "-o/n", "o/..", "o/n; rm", 'o/n"', "o/n?x", "o/\xe4", "o-/n", "o/n\nx"]
    other = ["", "OWNER/NAME", host.partition("//")[2] + "/o/n", "http://github" + ".com/o/n", "https://gitlab.com/o/n"]
    for words in [f"{host}/{end}" for end in ends] + [*other, "git@github" + ".com:o/n.git"]:
        assert fork.main([words]) == 2, words
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and "it looks like https://github.com/OWNER/NAME" in error
    assert contents(copy) == before


@pytest.mark.parametrize("ref", ["", "a b", "a..b", "a//b", "a.lock", "-a", "/a", "a/", 'a"', "a:b", "a."])
def test_a_branch_that_git_does_not_know_is_refused(fork, ref):
    with pytest.raises(fork.ForkError, match="is not a branch or a tag"):
        fork.ref_of(ref)
    assert fork.ref_of("feature/x-1.2") == "feature/x-1.2"


def test_only_the_whole_address_is_replaced(fork):
    text = "github.com/a/b github.com/a/b.git github.com/a/b-c github.com/a/b.c x/a/b /github/a/b/blob/main/n.ipynb "
    text += (
        "git+https://github.com/a/b@main github.com/a/b/tree/main2\ngit clone https://github.com/a/b.git\ncd b\ncd b"
    )
    wanted = "github.com/X/Y github.com/X/Y.git github.com/a/b-c github.com/a/b.c x/a/b /github/X/Y/blob/v2/n.ipynb "
    wanted += (
        "git+https://github.com/X/Y@v2 github.com/X/Y/tree/main2\ngit clone https://github.com/X/Y.git\ncd Y\ncd b"
    )
    assert fork.renamed(text, ("a/b", "main"), ("X/Y", "v2")) == wanted


def test_an_archive_without_git_is_stamped_too(fork, copy):
    listed = {path.relative_to(copy) for path in fork.files(copy)}
    shutil.rmtree(copy / ".git")
    (copy / ".venv").mkdir()
    (copy / ".venv" / "x.py").write_text("")
    assert {path.relative_to(copy) for path in fork.files(copy)} >= listed - {Path(".gitignore")}
    assert not any(".venv" in path.parts for path in fork.files(copy))
