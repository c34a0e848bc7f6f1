"""TEACHING.md says what is so: its sections, exercises and cells exist, minutes add up, messages are really printed."""

import importlib
import re
import sys

import jupytext
import pytest

HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


@pytest.fixture(scope="module")
def page(root):
    return (root / "TEACHING.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def lessons(root):
    """number -> (sections, {exercise}, cells' sources) of every lesson."""
    found = {}
    for path in sorted((root / "notebooks" / "src").glob("[0-9]*.py")):
        cells = jupytext.read(path, fmt="py:percent").cells
        headings = [line for cell in cells if cell.cell_type == "markdown" for line in HEADING.findall(cell.source)]
        sections = [line.partition(" ")[0] for line in headings if line.partition(" ")[0].isdigit()]
        exercises = {match[1] for line in headings if (match := re.match(r"Exercise (\d+\.\d+):", line))}
        found[path.stem[:2]] = (sections, exercises, [cell.source for cell in cells if cell.cell_type == "code"])
    return found


def rows(page, heading):
    """The cells of the table under a heading, without its two head rows."""
    text = page.partition(f"{heading}")[2]
    lines = [line for line in text.splitlines() if line.startswith(("|", "#"))]
    table = lines[: next((k for k, line in enumerate(lines) if line.startswith("#")), None)]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table[2:]]


@pytest.mark.parametrize("minutes", [45, 90, 180])
def test_a_plan_names_what_exists_and_fills_its_time(page, lessons, minutes):
    plan = rows(page, f"### {minutes} minutes")
    assert sum(int(row[0]) for row in plan) == minutes
    assert len(plan) >= 8
    for _, lesson, place, _ in plan:
        if lesson == "break":
            continue
        sections, exercises, cells = lessons[lesson]
        named = re.match(r"section (\d+)|Exercise (\d+\.\d+)$", place)
        assert named, place
        assert named[1] in sections if named[1] else named[2] in exercises, place
        for quoted in re.findall(r"`(.*?)`", place):
            assert any(quoted in cell.splitlines() or cell.startswith(quoted) for cell in cells), f"{lesson}: {quoted}"


def test_the_term_names_what_exists(page, lessons, script, root):
    classroom = script("notebooks/classroom.py")
    term = rows(page, "## A term of ten weeks")
    assert [row[0] for row in term] == [str(week) for week in range(1, 11)]
    for _, lesson, home, room, graded in term:
        variants = classroom.blocks(root / "notebooks" / "src" / "variants" / f"{lesson}.py")
        assert graded.split(", ") == sorted(variants, key=lambda number: int(number.partition(".")[2]))
        sections, exercises, _ = lessons[lesson]
        assert set(re.findall(r"Exercise (\d+\.\d+)", room)) <= exercises
        for text in (home, room):
            spoken = re.search(r"sections? ((?:\d+(?:, | and | to )?)+)", text)
            assert set(re.findall(r"\d+", spoken[1] if spoken else "")) <= set(sections), text


@pytest.fixture(scope="module")
def fresh(root):
    """notebooks/MISTAKES.md as the checks speak now: every wrong answer of tests/checks is run."""
    sys.path.insert(0, str(root / "data_scripts"))
    return importlib.import_module("write_mistakes").table([])


def test_messages_are_really_printed(page, fresh):
    said = {}
    for block in fresh.split("\n**")[1:]:
        said.setdefault(block.partition(" ")[0], []).extend(re.findall(r"^- (.*)$", block, re.MULTILINE))
    quoted = rows(page, "## What students get wrong")
    assert len(quoted) >= 20
    for number, _, message in quoted:
        assert message in said[number], f"{number}: {message}"


def test_the_list_of_mistakes_is_as_the_checks_speak(root, fresh):
    """All of it but its numbers, which may differ in the last digits from machine to machine."""
    stored = (root / "notebooks" / "MISTAKES.md").read_text(encoding="utf-8")
    assert re.sub(r"-?[\d.]+(e-?\d+)?", "#", stored) == re.sub(r"-?[\d.]+(e-?\d+)?", "#", fresh)


def test_the_example_of_an_own_exercise_works(page, mini, tmp_path):
    """It is put in the place of an exercise of the mini lesson, and right and wrong answers are told apart."""
    example = re.search(r"```python\n(# %% \[markdown\]\n.*?)```", page, re.DOTALL)[1].replace("2.4", "98.2")
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "98.py").write_text(example)
    notebook = mini.build(mini.HERE / "src" / "98_mini.py", "nbgrader", [folder])
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    names = {}
    exec("import math\n" + next(cell for cell in code if "def check_typical" in cell), names)
    graded = next(cell for cell in code if cell.startswith("assert check_typical"))
    exec(graded, names | {"typical": lambda loss: names["math"].e ** -loss})
    for wrong, message in (
        (lambda loss: 2.718281828**loss, "The sign is missing"),
        (lambda loss: 0.135335, "wrong on"),
    ):
        with pytest.raises(AssertionError, match=message):
            exec(graded, names | {"typical": wrong})
