"""Flickr30k Entities: the published format, masks in the prepared square, and damaged files."""

import numpy as np
import pytest

from course_utils.entities import Phrase, read_entities, square_masks
from course_utils.faithfulness import pointing_game

SENTENCES = """[/EN#1/people A man] in [/EN#2/clothing a blue shirt] looks at [/EN#0/notvisual something] .
[/EN#1/people The guy] on [/EN#3/scene the street] .
[/EN#1/people/other One person ] stands .

Nobody is named here .
"""
ANNOTATION = """<annotation><filename>36979.jpg</filename>
<size><width>{width}</width><height>{height}</height><depth>3</depth></size>
<object><name>1</name><name>4</name><bndbox><xmin>101</xmin><ymin>11</ymin><xmax>200</xmax><ymax>110</ymax></bndbox></object>
<object><name>1</name><bndbox><xmin>301</xmin><ymin>101</ymin><xmax>400</xmax><ymax>200</ymax></bndbox></object>
<object><name>2</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>60</xmax><ymax>60</ymax></bndbox></object>
<object><name>3</name><scene>1</scene><nobndbox>0</nobndbox></object>
</annotation>"""


@pytest.fixture()
def folder(tmp_path):
    def make(width=500, height=300, sentences=SENTENCES, annotation=ANNOTATION):
        for name, end, text in (("Sentences", "txt", sentences),
                                ("Annotations", "xml", annotation.format(width=width, height=height))):  # fmt: skip
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / f"36979.{end}").write_text(text, encoding="utf-8")
        return tmp_path

    return make


def test_phrases_and_boxes(folder):
    found = read_entities(folder(), "36979.jpg")
    assert found.size == (500, 300)
    assert found.captions == (
        "A man in a blue shirt looks at something .",
        "The guy on the street .",
        "One person stands .",
        "Nobody is named here .",
    )
    assert found.phrases[:2] == (Phrase("A man", 0, "1", ("people",)), Phrase("a blue shirt", 0, "2", ("clothing",)))
    assert [(one.text, one.caption, one.kinds) for one in found.phrases[3:]] == [
        ("The guy", 1, ("people",)),
        ("the street", 1, ("scene",)),
        ("One person", 2, ("people", "other")),
    ]
    assert set(found.boxes) == {"1", "2", "4"}
    assert found.boxes["1"].tolist() == [[100, 10, 200, 110], [300, 100, 400, 200]]  # pixels 101 to 200, counted from 1


def test_masks_lie_in_the_centre_square(folder):
    masks = square_masks(read_entities(folder(), "36979"), side=150)  # columns 100 to 400, scaled by one half
    assert set(masks) == {"1", "4"}  # the shirt lies left of the square
    wanted = np.zeros((150, 150), dtype=bool)
    wanted[5:55, 0:50] = wanted[50:100, 100:150] = True
    np.testing.assert_array_equal(masks["1"], wanted)
    assert pointing_game(np.eye(150)[None], masks["1"][None])[0] == pytest.approx(45 / 150)  # the diagonal ties


def test_tall_pictures_lose_top_and_bottom(folder):
    masks = square_masks(read_entities(folder(width=420, height=620), "36979.jpg"), side=420)  # rows 100 to 520
    assert masks["4"].sum() == 10 * 100
    assert masks["4"][:10, 100:200].all()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"sentences": "\n"}, ValueError, "36979.txt is empty"),
        ({"sentences": "[/EN#1 A man] stands"}, ValueError, "marks phrases in another way"),
        ({"sentences": "[/EN#1/people A man stands"}, ValueError, "marks phrases in another way"),
        ({"annotation": "<annotation><size>"}, ValueError, "36979.xml is no annotation"),
        ({"annotation": "<annotation></annotation>"}, ValueError, "36979.xml is no annotation"),
        ({"width": 0}, ValueError, "36979.xml is no annotation.*size"),
    ],
)
def test_damaged_files_are_named(folder, changes, error, message):
    with pytest.raises(error, match=message):
        read_entities(folder(**changes), "36979.jpg")


def test_missing_files_are_named(folder):
    with pytest.raises(FileNotFoundError, match="77.txt is missing.*Annotations, Sentences"):
        read_entities(folder(), "77.jpg")
