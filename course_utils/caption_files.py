"""Caption files of Flickr30k and of sets in its format, in the three kinds that are in use, and Karpathy's split.

Flickr30k has 31,783 photographs (Young et al. 2014). Karpathy and Fei-Fei (2015) use 31,014 of them: 29,000 to train,
1,014 to validate, 1,000 to test, each with five captions. `check_set` holds a set to that.
"""

import ast
import csv
import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

COUNTS = {"train": 29_000, "val": 1_014, "test": 1_000}  # pictures in Karpathy's split of Flickr30k
CAPTIONS = 5
_MEND = "Fetch the file again, or take another copy."
# What caption files are called, best first. A token file has no split: lists of file names beside it give it.
_NAMES = [
    re.compile(r"dataset_\w+\.json"),
    re.compile(r"dataset\.json"),
    re.compile(r"captions\.json"),
    re.compile(r"(.*annotations.*|captions)\.csv"),
    re.compile(r".*\.token"),
]
_LISTS = re.compile(r"(?:.*[_-])?(train|val|test)\.txt")


@dataclass(frozen=True)
class Picture:
    """One picture: its file's name, its number, "train", "val" or "test", its captions and their numbers."""

    filename: str
    image_id: int
    split: str
    captions: tuple[str, ...]
    caption_ids: tuple[int, ...]


@dataclass(frozen=True)
class CaptionSet:
    """A caption file: the name of the set that it declares, and its pictures in the file's order."""

    dataset: str
    pictures: tuple[Picture, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Pictures in each split."""
        found = Counter(picture.split for picture in self.pictures)
        return {split: found[split] for split in COUNTS}

    def sorted(self) -> "CaptionSet":
        """The same pictures: train, then val, then test, inside a split in the file's order."""
        order = list(COUNTS)
        return CaptionSet(self.dataset, tuple(sorted(self.pictures, key=lambda picture: order.index(picture.split))))

    def to_json(self) -> str:
        """Karpathy's JSON, without tokens."""
        images = [
            {
                "filename": one.filename,
                "imgid": one.image_id,
                "split": one.split,
                "sentids": list(one.caption_ids),
                "sentences": [
                    {"raw": text, "imgid": one.image_id, "sentid": number}
                    for text, number in zip(one.captions, one.caption_ids)
                ],
            }
            for one in self.pictures
        ]
        return json.dumps({"images": images, "dataset": self.dataset}, ensure_ascii=False, separators=(",", ":"))


def caption_rank(name: str) -> int | None:
    """How good a caption file a file of this name is likely to be: 0 is best, None means that it is none.

    Lists of a split's file names (`train.txt`, `flickr30k_val.txt`) come last: they are needed beside a token file.
    """
    ranks = [rank for rank, pattern in enumerate(_NAMES) if pattern.fullmatch(name)]
    return ranks[0] if ranks else len(_NAMES) if _LISTS.fullmatch(name) else None


def find_captions(folder: Path | str) -> Path:
    """The best caption file in a folder or below it. Raises FileNotFoundError where there is none."""
    found = []
    for path in Path(folder).rglob("*"):
        rank = caption_rank(path.name)
        if rank is not None and rank < len(_NAMES) and path.is_file():
            parts = path.relative_to(folder).parts
            if not any(part.startswith(".") or part == "__MACOSX" for part in parts):
                found.append((rank, len(parts), path))
    if not found:
        raise FileNotFoundError(
            f"{folder} holds no caption file. Put dataset_flickr30k.json (Karpathy's split) there, or the CSV of a hub "
            "copy (flickr_annotations_30k.csv), or results_20130124.token with train.txt, val.txt and test.txt."
        )
    return min(found)[2]


def read_captions(path: Path | str) -> CaptionSet:
    """Read a caption file; its ending tells the kind.

    `.json`: Karpathy's, `{"images": [{"filename", "imgid", "split", "sentids", "sentences": [{"raw", ...}]}],
    "dataset"}`; all its captions are kept. `.csv`: hub copies', columns `raw` (a JSON list of captions), `split`,
    `filename` and, where they are there, `img_id` and `sentids`. `.token`: the original's lines, `NAME.jpg#0`, a tab
    and the caption; captions 0 to 4 are kept, the split comes from lists of file names beside it (`train.txt` and so
    on), and pictures on no list are left out.

    Raises FileNotFoundError for a missing file or list, ValueError, naming the place, for anything malformed.
    """
    path = Path(path)
    readers = {".json": _read_json, ".csv": _read_csv, ".token": _read_token}
    if path.suffix.lower() not in readers:
        raise ValueError(f"{path}: captions are read from {', '.join(readers)}, not from {path.suffix or 'this'}.")
    if not path.is_file():
        raise FileNotFoundError(f"The caption file {path} is not there.")
    try:
        dataset, pictures = readers[path.suffix.lower()](path)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start}). {_MEND}") from error
    except csv.Error as error:
        raise ValueError(f"{path} is not a whole CSV file ({error}). {_MEND}") from error
    for what, values in (
        ("picture", [one.filename for one in pictures]),
        ("picture number", [one.image_id for one in pictures]),
        ("caption number", [number for one in pictures for number in one.caption_ids]),
    ):
        twice = [value for value, times in Counter(values).items() if times > 1]
        if twice:
            raise ValueError(f"{path}: {what} {twice[0]!r} comes {values.count(twice[0])} times. {_MEND}")
    return CaptionSet(dataset, tuple(pictures))


def check_set(captions: CaptionSet, dataset: str = "flickr30k", counts: dict[str, int] | None = None) -> None:
    """Raise ValueError unless this is the set that is wanted, whole.

    "flickr30k" must have `counts` (None: `COUNTS`) and five captions a picture. A set that declares another name is
    taken as it is, unless counts are given; it must be asked for by that name.
    """
    if captions.dataset != dataset:
        raise ValueError(
            f"The captions declare the set {captions.dataset!r}, but {dataset!r} was asked for. If you want it, "
            f'ask for it by its name: --set {captions.dataset}, or dataset="{captions.dataset}".'
        )
    expected = COUNTS if counts is None and dataset == "flickr30k" else counts
    if expected is not None and captions.counts != expected:
        found, wanted = (
            ", ".join(f"{split} {number:,}" for split, number in some.items()) for some in (captions.counts, expected)
        )
        raise ValueError(
            f"This is not the set {dataset}: it has {found}, Karpathy's split has {wanted}. Recall on another split "
            "cannot be compared with anything published. Get dataset_flickr30k.json, the split as he published it."
        )
    wrong = [one for one in captions.pictures if not one.captions or (expected and len(one.captions) != CAPTIONS)]
    if wrong:
        raise ValueError(
            f"{wrong[0].filename} has {len(wrong[0].captions)} captions, not {CAPTIONS} "
            f"({len(wrong)} such pictures). {_MEND}"
        )


def _picture(where: str, filename, number, split, captions, numbers) -> Picture:
    """A checked entry. `where` names file and entry for the error."""
    if not isinstance(filename, str) or not re.fullmatch(r"[^/\\:\0-\x1f]+\.(?i:jpe?g|png)", filename):
        raise ValueError(f"{where}: {filename!r} is no plain name of a picture file. {_MEND}")
    if split not in tuple(COUNTS):  # a list would be unhashable
        raise ValueError(f"{where} ({filename}): unknown split {split!r}; there are {', '.join(COUNTS)}. {_MEND}")
    if not captions or not all(isinstance(text, str) and text.strip() for text in captions):
        raise ValueError(f"{where}: the picture {filename} has {'an empty caption' if captions else 'no captions'}.")
    if len(numbers) != len(captions):
        raise ValueError(f"{where}: {filename} has {len(captions)} captions but {len(numbers)} caption numbers.")
    number, *numbers = (_whole(one, f"{where} ({filename})") for one in (number, *numbers))
    return Picture(filename, number, split, tuple(captions), tuple(numbers))


def _whole(value, where: str) -> int:
    """A number of a picture or caption, as an array of int64 can hold it; CSV files write it as text, some as 7.0."""
    try:
        if float(value) == int(float(value)) and abs(float(value)) < 2**53:  # beyond it floats skip numbers
            return int(float(value))
    except (TypeError, ValueError, OverflowError):
        pass
    raise ValueError(f"{where}: {str(value)[:40]!r} is no whole number for a picture or caption. {_MEND}")


def _read_json(path: Path) -> tuple[str, list[Picture]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not whole JSON ({error}). {_MEND}") from error
    if not isinstance(content, dict) or not isinstance(content.get("images"), list):
        raise ValueError(f'{path} is not in Karpathy\'s format: it has no list called "images". {_MEND}')
    pictures = []
    for k, entry in enumerate(content["images"]):
        where = f"{path}, images[{k}]"
        try:
            sentences = entry["sentences"]
            values = entry["filename"], entry.get("imgid", k), entry["split"], [one["raw"] for one in sentences]
            numbers = [one.get("sentid", CAPTIONS * k + j) for j, one in enumerate(sentences)]
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{where}: {error} is missing or of the wrong kind. {_MEND}") from error
        pictures.append(_picture(where, *values, numbers))
    return str(content.get("dataset", "nameless")), pictures


def _read_csv(path: Path) -> tuple[str, list[Picture]]:
    pictures = []
    with path.open(newline="", encoding="utf-8-sig") as stream:
        rows = csv.DictReader(stream)
        missing = [name for name in ("raw", "split", "filename") if name not in (rows.fieldnames or ())]
        if missing:
            raise ValueError(
                f"{path}: the header has no column {missing[0]!r}. A hub copy's CSV has raw, sentids, split, filename "
                f"and img_id; this one has {', '.join(rows.fieldnames or ('nothing',))}. It may be another set's."
            )
        for k, row in enumerate(rows):
            where = f"{path}, line {rows.line_num}"
            captions, numbers = _list(row["raw"], where), _list(row.get("sentids") or "[]", where)
            numbers = numbers or list(range(CAPTIONS * k, CAPTIONS * k + len(captions)))
            pictures.append(_picture(where, row["filename"], row.get("img_id") or k, row["split"], captions, numbers))
    return "flickr30k", pictures


def _list(text: str | None, where: str) -> list:
    try:  # JSON, or the same list as Python writes it
        value = json.loads(text) if text and not text.lstrip().startswith("['") else ast.literal_eval(text or "")
        if not isinstance(value, list):
            raise ValueError("no list")
        return value
    except (ValueError, SyntaxError, TypeError, RecursionError) as error:
        raise ValueError(f"{where}: {str(text)[:40]!r} is not a list of captions or numbers. {_MEND}") from error


def _read_token(path: Path) -> tuple[str, list[Picture]]:
    splits = _splits(path.parent)
    if set(splits.values()) != set(COUNTS):
        raise FileNotFoundError(
            f"{path.name} does not say which picture belongs to which split. Put Karpathy's dataset_flickr30k.json, or "
            f"his lists train.txt, val.txt and test.txt (a file name a line), into {path.parent}."
        )
    texts: dict[str, dict[int, str]] = {}
    # split, not splitlines: a caption may hold one of the dozen characters at which that would break it
    for k, line in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), 1):
        match = re.fullmatch(r"([^\t#]+)#(\d+)\t(.+)", line.strip("\r\n"))
        if not match and line.strip():
            raise ValueError(f"{path}, line {k}: {line[:40]!r} is not NAME.jpg#NUMBER, a tab, and a caption. {_MEND}")
        if match and int(match[2]) < CAPTIONS and Path(match[1]).stem in splits:
            some, number = texts.setdefault(match[1], {}), int(match[2])
            if number in some:
                raise ValueError(f"{path}, line {k}: {match[1]}#{number} was there before. {_MEND}")
            some[number] = match[3].strip()
    missing = splits.keys() - {Path(name).stem for name in texts}
    if missing:
        raise ValueError(f"{path}: {min(missing)} is on a split's list, but has no captions ({len(missing)} such).")
    pictures = []
    for k, (name, some) in enumerate(texts.items()):
        captions, numbers = [some[j] for j in sorted(some)], [CAPTIONS * k + j for j in sorted(some)]
        pictures.append(_picture(str(path), name, k, splits[Path(name).stem], captions, numbers))
    return "flickr30k", pictures


def _splits(folder: Path) -> dict[str, str]:
    """File name without its ending -> split, from the lists in `folder`."""
    splits = {}
    for path in sorted(folder.iterdir()):
        if match := _LISTS.fullmatch(path.name):
            lines = path.read_text(encoding="utf-8-sig").split()
            splits |= {Path(name).stem: match[1] for name in lines}
    return splits
