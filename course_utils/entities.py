"""Flickr30k Entities: which phrase of a caption names which boxes of its picture, as masks like those of scenes.

The annotations are published apart from the pictures (Plummer et al. 2015), in two folders: Sentences/NAME.txt, a line
a caption in which phrases are marked, `[/EN#283585/people Two young guys] with ...`, and Annotations/NAME.xml, boxes in
pixels of the whole picture. A phrase and a box belong together where their numbers are equal; 0 stands for what cannot
be seen. A box also holds background, so every measure of `faithfulness` is kinder here than on scenes.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

import numpy as np

_MARKED = re.compile(r"\[/EN#([^/\]\s]+)((?:/[^/\]\s]+)+)\s+([^\]]*?)\s*\]")


@dataclass(frozen=True)
class Phrase:
    """A phrase of a caption: its text, the caption's number (0 to 4), the entity it names, and coarse kinds."""

    text: str
    caption: int
    entity: str
    kinds: tuple[str, ...]


@dataclass(frozen=True)
class Annotated:
    """One picture's annotations.

    size: (width, height) of the whole picture. captions: without marks. phrases: in order. boxes: entity -> its boxes
    (K,4) as x0, y0, x1, y1 in pixels, x1 and y1 outside; entities without a box are left out.
    """

    size: tuple[int, int]
    captions: tuple[str, ...]
    phrases: tuple[Phrase, ...]
    boxes: dict[str, np.ndarray]


def read_entities(folder: Path | str, filename: str) -> Annotated:
    """The annotations of one picture, by its file name. folder holds Annotations/ and Sentences/.

    Raises FileNotFoundError or ValueError, naming the file.
    """
    stem = Path(filename).stem
    sentences, boxes = Path(folder, "Sentences", f"{stem}.txt"), Path(folder, "Annotations", f"{stem}.xml")
    for path in (sentences, boxes):
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} is missing: the folder of Flickr30k Entities holds Annotations, Sentences."
            )
    captions, phrases = _read_sentences(sentences)
    try:
        size, found = _read_boxes(boxes)
    except (ET.ParseError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{boxes} is no annotation of Flickr30k Entities ({error}).") from error
    return Annotated(size, captions, phrases, found)


def square_masks(annotated: Annotated, side: int) -> dict[str, np.ndarray]:
    """Entity -> mask (side,side) bool of its boxes, in the centre square that `flickr30k` keeps of a picture.

    The square is the middle of the picture, scaled to `side`. Entities whose boxes lie outside it are left out.
    Raises ValueError for a side under 1.
    """
    if side < 1:
        raise ValueError(f"square_masks: side={side}; give the side of the square in pixels, 1 or more.")
    width, height = annotated.size
    scale, left, top = side / min(width, height), max(0, width - height) / 2, max(0, height - width) / 2
    masks = {}
    for entity, boxes in annotated.boxes.items():
        mask = np.zeros((side, side), dtype=bool)
        corners = ((boxes - [left, top, left, top]) * scale).round().astype(int).clip(0, side)
        for x0, y0, x1, y1 in corners:
            mask[y0:y1, x0:x1] = True
        if mask.any():
            masks[entity] = mask
    return masks


def _read_sentences(path: Path):
    captions, phrases = [], []
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start}). Fetch it again.") from error
    for number, line in enumerate(lines):
        for entity, kinds, text in _MARKED.findall(line):
            phrases.append(Phrase(text, number, entity, tuple(kinds.strip("/").split("/"))))
        captions.append(_MARKED.sub(r"\3", line))
    if not captions or any("[/EN#" in caption for caption in captions):
        raise ValueError(f"{path} is empty, or marks phrases in another way than Flickr30k Entities does.")
    return tuple(captions), tuple(phrases)


def _read_boxes(path: Path):
    root, boxes = ET.parse(path).getroot(), {}
    size = tuple(int(root.find(f"size/{name}").text) for name in ("width", "height"))
    if min(size) < 1:
        raise ValueError(f"size {size}")
    for one in root.findall("object"):
        box = one.find("bndbox")
        if box is None:  # nobndbox or scene: not to be seen, or everywhere
            continue
        x0, y0, x1, y1 = (int(box.find(name).text) for name in ("xmin", "ymin", "xmax", "ymax"))
        if x0 > x1 or y0 > y1:
            raise ValueError(f"a box from ({x0}, {y0}) to ({x1}, {y1}) has its corners in the wrong order")
        for name in one.findall("name"):  # counted from 1, ends included
            boxes.setdefault(name.text, []).append([x0 - 1, y0 - 1, x1, y1])
    return size, {entity: np.array(found) for entity, found in boxes.items()}
