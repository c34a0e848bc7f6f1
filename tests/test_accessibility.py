"""Every picture can be heard and stands on its own ground: in the notebooks, in what they show, in the documents."""

import base64
import io
import re
import xml.etree.ElementTree as ElementTree

import nbformat
import pytest
from PIL import Image


def files(root, ending):
    """The course's own files: a checkout's .venv and artifacts hold other people's."""
    folders = ("course_utils", "data_scripts", "notebooks", "tests")
    return [*root.glob(f"*.{ending}"), *(path for name in folders for path in (root / name).rglob(f"*.{ending}"))]


@pytest.fixture()
def limits(script):
    return script("notebooks/limits.py")


def test_no_document_has_a_picture_without_alt_text(root, limits):
    documents = files(root, "md")
    assert root / "README.md" in documents
    bare = {path.name: limits.BARE_IMAGE.search(path.read_text(encoding="utf-8")) for path in documents}
    assert {name: found for name, found in bare.items() if found} == {}


def test_no_notebook_has_a_picture_without_alt_text(root, limits):
    notebooks = sorted((root / "notebooks").glob("**/[0-9][0-9]_*.ipynb"))
    assert len(notebooks) >= 16
    for path in notebooks:
        notebook = nbformat.read(path, as_version=4)
        prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
        assert limits.BARE_IMAGE.search(prose) is None, path.name
        assert [one for one in limits.output_problems(notebook) if "alt" in one] == [], path.name


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ("![](x.png)", True),
        ("![ ][ref]", True),
        ("![A cat](x.png)", False),
        ("<img src='x.png'>", True),
        ('<img src="x.png" alt="">', True),
        ('<img src="x.png" alt=" ">', True),
        ('<img alt="A cat" src="x.png">', False),
        ("<img alt='A cat' src='x.png'>", False),
        ('<img\nsrc="x.png">', True),
    ],
)
def test_a_bare_picture_is_told_from_a_described_one(limits, text, bare):
    assert bool(limits.BARE_IMAGE.search(text)) == bare


def test_drawings_have_a_title(root):
    """An SVG's first title is its alternative text, wherever it is shown."""
    for path in files(root, "svg"):
        drawing = ElementTree.parse(path).getroot()
        title = drawing.find("{http://www.w3.org/2000/svg}title")
        assert title is not None and len((title.text or "").split()) >= 4, path.name


def test_stored_figures_are_opaque_and_stand_on_white(root):
    """So that they can be read on a dark page as well."""
    seen = 0
    for path in sorted((root / "notebooks" / "solutions").glob("*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            for output in cell.get("outputs", []):
                for png in filter(None, [output.get("data", {}).get("image/png")]):
                    picture = Image.open(io.BytesIO(base64.b64decode(png)))
                    assert "A" not in picture.mode and "transparency" not in picture.info, path.name
                    assert min(picture.convert("RGB").getpixel((0, 0))) >= 240, path.name  # white, among 256 colours
                    seen += 1
    assert seen > 50


def test_hints_fold(root):
    """A hint that does not open with its summary, or is never closed, gives itself away."""
    for path in sorted((root / "notebooks").glob("[0-9][0-9]_*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            opened = re.findall(r"<details>(?!<summary>[^<]+</summary>)", cell.source)
            assert opened == [] and cell.source.count("<details>") == cell.source.count("</details>"), path.name
