"""README's tables say what the executed notebooks hold."""

import base64
import json

import nbformat
import pytest

from course_utils import records

README = """Intro
<!-- lessons: begin -->
old
<!-- lessons: end -->
middle
<!-- claims: begin -->
<!-- claims: end -->
<!-- ladder: begin -->
<!-- ladder: end -->
<!-- proofs: begin -->
<!-- proofs: end -->
end
"""


@pytest.fixture()
def program(script, monkeypatch):
    program = script("data_scripts/write_readme.py")
    monkeypatch.setattr(program, "CLAIMS", (*program.CLAIMS, ("98", "plain/recall_at_1", "Houses are found, share")))
    monkeypatch.setattr(program, "PICTURE", ("98", "A house", "notebooks/figures/readme.png"))
    return program


@pytest.fixture()
def course(tmp_path, mini):
    """A course folder with a README and one executed lesson."""
    (tmp_path / "README.md").write_text(README)
    (lesson,) = mini.masters(["98"])
    notebook = mini.build(lesson, "solved")
    fact = {"name": "plain/recall_at_1", "value": 0.91, "interval": [0.89, 0.93], "chance": 0.001, "lesson": "98"}
    fact |= {"profile": "cpu", "seconds": 83.2, "peak_memory": 1.5e9, "excludes": [0.001, 0.25]}
    rung = fact | {"name": "ladder/raw_recall_at_1", "value": 0.1, "interval": [0.08, 0.12]}
    tenth = rung | {"name": "ladder/raw_recall_at_10", "value": 0.4, "interval": [0.38, 0.42], "chance": 0.01}
    outputs = [nbformat.v4.new_output("display_data", data={records.MIME: one}) for one in (fact, rung, tenth)]
    pixels = base64.b64encode(b"a house in PNG").decode()
    about = {"image/png": {"alt": "A house that stands, and its shadow."}}
    outputs.append(nbformat.v4.new_output("display_data", data={"image/png": pixels}, metadata=about))
    notebook.cells[-2].outputs = outputs
    path = tmp_path / "notebooks" / "solutions" / "98_mini.ipynb"
    path.parent.mkdir(parents=True)
    nbformat.write(notebook, path)
    assert json.loads(path.read_text())["cells"]
    return tmp_path


def test_tables_are_written_between_the_markers_and_the_rest_stays(program, course):
    assert program.main(["--check"], course) == 1
    assert program.main([], course) == 0
    assert program.main(["--check"], course) == 0
    text = (course / "README.md").read_text()
    assert "| [98 Mini](notebooks/98_mini.ipynb) | Does the house stand? |  | 2 | 83 s, 1.5 GB |" in text
    assert "| 98 | plain: recall at 1 | 0.910 | 0.890 to 0.930 | 0.001 | not measured |" in text
    assert "| 98 | Houses are found, share | 0.910 (0.890 to 0.930) | 0.001, 0.250 |" in text
    assert (course / "notebooks" / "figures" / "readme.png").read_bytes() == b"a house in PNG"
    assert not list(course.rglob("*.part"))
    assert "| chance | 0.001 | 0.010 |\n| raw | 0.100 (0.080 to 0.120) | 0.400 (0.380 to 0.420) |" in text
    assert "old" not in text
    assert text.startswith("Intro\n")
    assert "\nmiddle\n" in text
    assert text.endswith("\nend\n")


def test_a_figure_changed_by_hand_fails_the_check(program, course):
    program.main([], course)
    readme = course / "README.md"
    readme.write_text(readme.read_text().replace("0.910", "0.990"))
    assert program.main(["--check"], course) == 1


def test_another_picture_fails_the_check(program, course):
    program.main([], course)
    (course / "notebooks" / "figures" / "readme.png").write_bytes(b"another house")
    assert program.main(["--check"], course) == 1


def test_a_claim_or_picture_that_no_lesson_stores_is_named(program, course, monkeypatch):
    monkeypatch.setattr(program, "PICTURE", ("98", "A bridge", "notebooks/figures/readme.png"))
    with pytest.raises(ValueError, match="98_mini.ipynb stores no figure whose alternative text begins 'A bridge'"):
        program.main([], course)
    monkeypatch.setattr(program, "CLAIMS", (("98", "no/such", "Nothing, share"),))
    with pytest.raises(ValueError, match="lesson 98 records no no/such"):
        program.main([], course)


def test_a_missing_marker_is_named(program, course):
    (course / "README.md").write_text("no markers")
    with pytest.raises(ValueError, match="lessons: begin"):
        program.main([], course)


def test_the_courses_own_readme_is_up_to_date(script):
    assert script("data_scripts/write_readme.py").main(["--check"]) == 0
