"""The class edition: exercises replaced, points and locks set, hidden cases kept from the students; a teacher's own."""

import nbformat
import pytest

OWN = '''# %% [markdown]
# Only the teacher reads this.

# %% [markdown]
# ### Exercise 98.1: thrice
# Difficulty 3 of 3, about 2 minutes.

# %% tags=["exercise"]
def triple(x):
    """Three times x."""
    # BEGIN SOLUTION
    return 3 * x
    # END SOLUTION


# %%
from course_utils.checks import own


@own.exercise("98", "98.1")
def check_triple(answer):
    """triple(x)."""
    own.judge(own.call(answer, 2), 6, {"This is twice.": 4}, "Three times two is six.")


# %% tags=["check"]
check_triple(triple)


# %% tags=["hidden"]
def cases():
    yield (5,)
    yield (-1,)
'''


@pytest.fixture()
def folder(tmp_path):
    """A teacher's own folder of variants."""
    path = tmp_path / "own"
    path.mkdir()
    (path / "98.py").write_text(OWN)
    return path


def graded(mini, tmp_path, *more):
    """The graded and answer cells of the mini lesson's class edition, by what they hold."""
    assert mini.main(["98", "--nbgrader", str(tmp_path / "course"), *map(str, more)]) == 0
    notebook = nbformat.read(tmp_path / "course" / "source" / "98_mini" / "98_mini.ipynb", as_version=4)
    nbformat.validate(notebook)
    return notebook, [cell for cell in notebook.cells if cell.metadata.get("nbgrader", {}).get("grade")]


def test_a_private_exercise_takes_the_place_of_the_public_one(mini, tmp_path, folder):
    notebook, checks = graded(mini, tmp_path, "--variants", folder)
    text = "\n".join(cell.source for cell in notebook.cells)
    assert "thrice" in text and "Only the teacher" not in text and "def double" not in text
    assert text.count("### Exercise 98.1") == 1 and "### Exercise 98.2" in text
    assert [cell.metadata.nbgrader.points for cell in checks] == [3, 2]
    assert checks[0].source.startswith("assert check_triple(triple)\n### BEGIN HIDDEN TESTS\ndef triple_as_meant(x):")
    assert "own.agree(triple, triple_as_meant, cases())\n### END HIDDEN TESTS" in checks[0].source
    assert "yield" not in "".join(cell.source for cell in notebook.cells if cell not in checks)


def test_hidden_cases_compare_with_the_solution(mini, tmp_path, folder):
    notebook, checks = graded(mini, tmp_path, "--variants", folder)
    names = {}
    exec(next(cell.source for cell in notebook.cells if "def check_triple" in cell.source), names)
    exec(checks[0].source, names | {"triple": lambda x: x + x + x})
    for wrong, message in (
        (lambda x: 2 * x, "This is twice."),
        (lambda x: 6, "wrong on others: 6 where it should be 15"),
    ):
        with pytest.raises(AssertionError, match=message):
            exec(checks[0].source, names | {"triple": wrong})


def test_without_variants_the_lesson_is_as_it_was(mini, tmp_path):
    notebook, checks = graded(mini, tmp_path)
    assert [cell.source for cell in checks] == ["assert check_double(double)", "assert check_seven(answer)"]
    assert [cell.metadata.nbgrader.points for cell in checks] == [1, 2]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Exercise 98.1", "Exercise 98.7", "exercise 98.7 has a variant, but is not in the lesson"),
        ("Difficulty 3 of 3", "Hard", "with its variants, cell 8 (### Exercise 98.1: thrice): an exercise says"),
        ('# %% tags=["check"]\n', "# %%\n", "exercise 98.1: needs"),
        ("    # END SOLUTION\n", "", "unclosed or misspelt SOLUTION"),
    ],
)
def test_a_breach_of_a_variant_is_named(mini, tmp_path, folder, capsys, old, new, message):
    (folder / "98.py").write_text(OWN.replace(old, new))
    assert mini.main(["--nbgrader", str(tmp_path / "course"), "--variants", str(folder)]) == 1
    error = capsys.readouterr().err
    assert "98_mini" in error
    assert message in error
    assert not (tmp_path / "course" / "source").exists()


def test_a_missing_folder_and_a_kept_configuration(mini, tmp_path, capsys):
    course = tmp_path / "course"
    assert mini.main(["--nbgrader", str(course), "--variants", str(tmp_path / "nowhere")]) == 1
    assert "no such folder" in capsys.readouterr().err
    (course / "nbgrader_config.py").write_text("# mine\n")
    assert mini.main(["--nbgrader", str(course)]) == 0
    assert (course / "nbgrader_config.py").read_text() == "# mine\n"
