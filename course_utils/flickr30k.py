"""Flickr30k, and every set in its format, as arrays: pictures with their captions, in Karpathy's split.

A folder is *raw*, pictures and a caption file (see `caption_files`), or *prepared* by
`data_scripts/prepare_flickr30k.py`. A prepared folder holds

    images/          JPEG, RGB, shorter side `side` pixels (256 unless chosen otherwise), whole and uncropped
    captions.json    Karpathy's JSON without its tokens; entry i belongs to row i; train, then val, then test
    pixels.npy       uint8 (N, side, side, 3), C order, NumPy's .npy format 1.0: the centre square of picture i, decoded
    pictures.sha256  a line for each picture, as `sha256sum -c` reads it
    plan.json        for which captions and size the folder was begun
    manifest.json    written last: format, dataset, side, rows of each split, bytes and SHA-256 of the other files

Why a centre square: shorter side 256, then the middle 224x224, is the usual test view, and it lies wholly inside the
square. For training the margin of 32 pixels leaves room for random crops. What lies beyond the square (a quarter of a
4:3 photograph) stays in images/.
"""

import contextlib
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from course_utils.caption_files import COUNTS, check_set, find_captions, read_captions

FORMAT = 1  # of a prepared folder
UNFINISHED = ".unfinished"  # folder in which a preparation keeps what it has done so far
_MEND = "Fetch the file again, or take another copy."
_PLACES = ("images", "flickr30k-images", "flickr30k_images", "Images", "")  # where a raw folder keeps its pictures


def centre_square(pixels: np.ndarray) -> np.ndarray:
    """The square in the middle of a picture: (H,W,3) -> (S,S,3) with S = min(H,W), a view."""
    side = min(pixels.shape[:2])
    top, left = (pixels.shape[0] - side) // 2, (pixels.shape[1] - side) // 2
    return pixels[top : top + side, left : left + side]


class Flickr30k:
    """One split of a raw or prepared folder, as arrays and ids. N pictures, M captions.

    filenames: N names. image_ids (N,) int64. texts: the M captions, picture by picture. caption_ids (M,) int64.
    owners (M,) int64: the row, 0 to N-1, of each caption's picture. pixels: see there.
    Raises FileNotFoundError or ValueError where the folder, the set or the split is not what was asked for.
    """

    def __init__(
        self,
        folder: Path | str,
        split: str = "train",
        dataset: str = "flickr30k",
        counts: dict[str, int] | None = None,
    ):
        self.folder, self.split, self.manifest = Path(folder), split, None
        if split not in COUNTS:
            raise ValueError(f"There is no split {split!r}; there are {', '.join(COUNTS)}.")
        if not self.folder.is_dir():
            raise FileNotFoundError(
                f"{self.folder} is no folder. Prepare one: data_scripts/prepare_flickr30k.py --help"
            )
        if (self.folder / "manifest.json").is_file():
            self.manifest = read_manifest(self.folder)
            captions = read_captions(self.folder / "captions.json")
            if len(captions.pictures) != self.manifest["pictures"]:
                raise ValueError(
                    f"{self.folder} has captions of {len(captions.pictures):,} pictures, its manifest speaks of "
                    f"{self.manifest['pictures']:,}. Delete {self.folder / 'manifest.json'} and prepare again."
                )
        elif (self.folder / UNFINISHED).is_dir():
            raise ValueError(
                f"{self.folder} is not ready: its preparation was interrupted. Run the same command again."
            )
        else:
            captions = read_captions(find_captions(self.folder)).sorted()
        check_set(captions, dataset, counts)
        before = list(COUNTS)[: list(COUNTS).index(split)]
        self._first = sum(captions.counts[name] for name in before)  # row of pixels.npy
        chosen = [one for one in captions.pictures if one.split == split]
        self.filenames = [one.filename for one in chosen]
        self.image_ids = np.array([one.image_id for one in chosen], dtype=np.int64)
        self.texts = [text for one in chosen for text in one.captions]
        self.caption_ids = np.array([number for one in chosen for number in one.caption_ids], dtype=np.int64)
        self.owners = np.repeat(np.arange(len(chosen)), [len(one.captions) for one in chosen])
        self._pixels = None

    def __len__(self) -> int:
        return len(self.filenames)

    def __repr__(self) -> str:
        kind = f"prepared, {self.manifest['side']} px" if self.manifest else "raw"
        return f"Flickr30k({self.split}: {len(self):,} pictures, {len(self.texts):,} captions, {kind})"

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_pixels": None}  # a pickled memory map would carry its 6 GB along

    @property
    def pixels(self) -> np.ndarray:
        """(N,S,S,3) uint8, read-only, mapped from disk: centre squares, row i of `filenames`. Prepared folders only.

        `pixels[rows]` copies the rows that are asked for, nothing else is read. Raises ValueError for a raw folder.
        """
        if self.manifest is None:
            raise ValueError(f"{self.folder} is raw; run data_scripts/prepare_flickr30k.py, or use picture(i).")
        if self._pixels is None:
            side, path = self.manifest["side"], self.folder / "pixels.npy"
            wanted, found = (self.manifest["pictures"], side, side, 3), "nothing that NumPy can read"
            with contextlib.suppress(ValueError, EOFError):  # NumPy's word for a header that is none
                whole = np.load(path, mmap_mode="r")  # (all pictures,S,S,3)
                found = f"{whole.shape} of {whole.dtype}"
            if found != f"{wanted} of uint8":
                raise ValueError(
                    f"{path} holds {found}, not {wanted} of uint8. Delete it and {self.folder / 'manifest.json'}, and "
                    "prepare again."
                )
            self._pixels = whole[self._first : self._first + len(self)]
        return self._pixels

    def picture(self, i: int) -> np.ndarray:
        """The whole picture of row i, as it is stored: (H,W,3) uint8. ValueError, with its name, for a broken one."""
        name = self.filenames[i]
        places = [self.folder / sub / name for sub in _PLACES]
        path = next((place for place in places if place.is_file()), None)
        if path is None:
            raise FileNotFoundError(f"The picture {name} is not in {places[0].parent}. {_MEND}")
        try:
            with Image.open(path) as picture:
                return np.asarray(picture.convert("RGB"))
        except (OSError, SyntaxError) as error:
            raise ValueError(f"{path} is not a whole picture ({error}). {_MEND}") from error


def read_manifest(folder: Path | str) -> dict:
    """The manifest of a prepared folder, once all its files are there and have the right number of bytes.

    Raises FileNotFoundError or ValueError. It takes no time; `verify` compares contents.
    """
    folder = Path(folder)
    if not (folder / "manifest.json").is_file():
        what = "is no folder" if not folder.is_dir() else "is not prepared: it has no manifest.json"
        raise FileNotFoundError(
            f"{folder} {what}. Make it: python data_scripts/prepare_flickr30k.py --source RAW --out {folder}"
        )
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        number = manifest["format"]
        sizes = _sizes(manifest) if number == FORMAT else {}
    except (ValueError, KeyError, TypeError, AttributeError) as error:  # JSON's and UTF-8's errors are ValueErrors
        raise ValueError(f"{folder / 'manifest.json'} is damaged ({error!r}). Delete it and prepare again.") from error
    if number != FORMAT:
        raise ValueError(f"{folder} was prepared in format {number}; this edition reads {FORMAT}. Prepare it again.")
    for name, wanted in sizes.items():
        size = (folder / name).stat().st_size if (folder / name).is_file() else None
        if size != wanted:
            has = "is missing" if size is None else f"has {size:,} bytes, the manifest says {wanted:,}"
            raise ValueError(f"{folder / name} {has}. Delete {folder / 'manifest.json'} and prepare again.")
    return manifest


def _sizes(manifest: dict) -> dict[str, int]:
    """Bytes of each file. Raises KeyError, TypeError, ValueError or AttributeError where a manifest lacks something."""
    sizes = {name: entry["bytes"] for name, entry in manifest["files"].items() if len(entry["sha256"]) == 64}
    counted = [stop - start for start, stop in (manifest["splits"][split] for split in COUNTS)]
    numbers = [manifest["side"], manifest["pictures"], manifest["captions"], *counted, *sizes.values()]
    if not all(isinstance(one, int) for one in numbers) or not isinstance(manifest["dataset"], str):
        raise ValueError("a number or a name is of the wrong kind")
    if sum(counted) != manifest["pictures"] or not {"captions.json", "pictures.sha256", "pixels.npy"} <= sizes.keys():
        raise ValueError("splits or files are incomplete")
    return sizes


def verify(folder: Path | str, progress: Callable = iter) -> int:
    """Compare every byte of a prepared folder with its hashes; returns how many files were read.

    progress: wraps the list of files, for instance tqdm. Raises ValueError naming the first file that differs.
    """
    folder = Path(folder)
    wanted = [(name, entry["sha256"]) for name, entry in read_manifest(folder)["files"].items()]
    lines = (folder / "pictures.sha256").read_text(encoding="utf-8").splitlines()
    wanted += [tuple(line.split("  ", 1)[::-1]) for line in lines]
    for name, expected in progress(wanted):
        if not (folder / name).is_file():
            raise ValueError(f"{folder / name} is missing. Delete {folder / 'manifest.json'} and prepare again.")
        with (folder / name).open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        if found != expected:
            raise ValueError(
                f"{folder / name} was changed: its SHA-256 begins {found[:12]}, not {expected[:12]}. "
                f"Delete it and {folder / 'manifest.json'}, and prepare again."
            )
    return len(wanted)
