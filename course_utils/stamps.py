"""The embedded pictures: 748 cut-out stamps with masks, captions in many languages and voices; 3,000 small pictures.

The files lie in `course_utils/data` and are checked against `manifest.toml` before they are opened. A *row* below is
one row of the table that `load()` returns, for instance `load().iloc[3]`. Built by `data_scripts/build_stamps.py` and
`data_scripts/build_pictures.py`; licences and credits stand in `course_utils/data/licences/README.md`.
"""

import hashlib
import io
import numbers
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from PIL import Image

DATA = Path(__file__).resolve().parent / "data"
PARTS = ("stamps", "pictures")
FOLDS = 5
LARGEST = 4_096  # pixels: nothing larger is drawn from pictures of some 200


@dataclass(frozen=True)
class Split:
    """Row positions of one train/val/test division: int64 arrays, sorted, without overlap, together all rows."""

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray


def verified(name: str, folder: Path = DATA) -> Path:
    """Path of data file `name`, after its size and SHA-256 have been compared with the manifest beside it.

    Raises FileNotFoundError when file, manifest or entry is missing, ValueError when the content differs.
    """
    path, manifest = folder / name, folder / "manifest.toml"
    mend = "Install the package again, or build the data with the programs in data_scripts."
    if not path.is_file() or not manifest.is_file():
        raise FileNotFoundError(f"{path if manifest.is_file() else manifest} is missing. {mend}")
    try:
        entry = tomllib.loads(manifest.read_text(encoding="utf-8")).get(name)
    except ValueError as error:  # TOML's and UTF-8's errors are ValueErrors
        raise ValueError(f"{manifest} is damaged ({error}). {mend}") from error
    if not isinstance(entry, dict) or "sha256" not in entry:
        raise FileNotFoundError(f"{manifest} has no entry for {name}. {mend}")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != entry["sha256"]:
        raise ValueError(
            f"{path} is not the file it should be: its SHA-256 begins {digest[:12]}, the manifest says "
            f"{entry['sha256'][:12]}. It was changed or only partly copied. {mend}"
        )
    return path


@lru_cache(maxsize=2)
def _read(part: str) -> pd.DataFrame:
    table = pq.read_table(verified(f"{part}.parquet")).to_pandas()
    for column in ["picture", *(name for name in table if name == "sound" or name.startswith("speech_"))]:
        table[column] = pd.Series([cell and cell["bytes"] for cell in table[column]], dtype=object)
    return table


def load(part: str = "stamps") -> pd.DataFrame:
    """One of the two tables, "stamps" (748 rows) or "pictures". Read and checked once; each call returns a fresh copy.

    Picture and sound columns hold the encoded bytes (WebP, Ogg Opus), or None where there is no recording.
    Raises ValueError for another name, FileNotFoundError for a missing file, ValueError for one of the wrong hash.
    """
    if part not in PARTS:
        raise ValueError(f"There is no table called {part!r}. There are: {', '.join(PARTS)}.")
    return _read(part).copy()


def picture(row, size: int | None = None) -> np.ndarray:
    """The picture of a row, or of WebP bytes: (H,W,4) uint8, red, green, blue, alpha; alpha 0 is outside the object.

    With `size` it is scaled so that its longer side has `size` pixels, 1 to 4,096. Raises ValueError for a broken
    picture, another size, and what is no row.
    """
    if size is not None and not (isinstance(size, numbers.Integral) and 1 <= size <= LARGEST):
        raise ValueError(f"size={size!r}: give the longer side in pixels, a whole number from 1 to {LARGEST:,}.")
    content = _cell(row, "picture")
    if not isinstance(content, bytes):
        raise ValueError(f"{_name(row)} has no picture, but {type(content).__name__}. Take a row of stamps.load().")
    try:
        image = Image.open(io.BytesIO(content)).convert("RGBA")
    except (OSError, SyntaxError) as error:
        raise ValueError(f"The picture of {_name(row)} cannot be decoded: {error}. Load the table again.") from error
    if size is not None:
        scale = size / max(image.size)
        shape = tuple(max(1, round(length * scale)) for length in image.size)
        # Premultiplied ("RGBa") while scaling: otherwise the colour of invisible pixels bleeds into the edge.
        image = image.convert("RGBa").resize(shape, Image.Resampling.LANCZOS).convert("RGBA")
    return np.array(image)  # (H,W,4)


def mask(row, size: int | None = None) -> np.ndarray:
    """Where the object is: (H,W) bool, True where the picture is at least half opaque.

    Raises ValueError where transparency tells nothing: every pixel is inside, or none.
    """
    inside = picture(row, size)[:, :, 3] >= 128  # (H,W)
    if inside.all() or not inside.any():
        what = "no transparent pixel" if inside.all() else "no visible pixel"
        raise ValueError(
            f"The picture of {_name(row)} has no mask: it has {what}. Choose a picture with its object cut out."
        )
    return inside


def languages() -> tuple[str, ...]:
    """Languages that have captions: "en" first, then the others in alphabetical order, written like "pt_br"."""
    return ("en", *sorted(name.removeprefix("caption_") for name in _read("stamps") if name.startswith("caption_")))


def captions(language: str = "en") -> pd.Series:
    """Captions of all stamps in one language, null where nobody translated one. "pt_BR" and "pt-br" are the same.

    Raises ValueError for a language that the table does not have.
    """
    wanted = str(language).lower().replace("-", "_")
    if wanted not in languages():
        raise ValueError(f"There are no captions in {language!r}. There are: {', '.join(languages())}.")
    return _read("stamps")["caption" if wanted == "en" else f"caption_{wanted}"].copy()


def speech(row, language: str = "fr") -> tuple[np.ndarray, int]:
    """The caption spoken by a person: (samples (T,) float32 in -1 to 1, samples a second).

    Raises ValueError for a language nobody recorded ("fr" and "en" exist) and for a stamp without a recording.
    """
    recorded = [name.removeprefix("speech_") for name in _read("stamps") if name.startswith("speech_")]
    if language not in recorded:
        raise ValueError(f"Nobody recorded captions in {language!r}. There are: {', '.join(sorted(recorded))}.")
    return _decoded(row, f"speech_{language}", f"spoken caption in {language!r}")


def sound(row) -> tuple[np.ndarray, int]:
    """The sound effect: (samples (T,) float32 in -1 to 1, samples a second). ValueError for a stamp without one."""
    return _decoded(row, "sound", "sound effect")


def split(k: int) -> Split:
    """Division `k` of five: fold k is the test set, fold k+1 (mod 5) the validation set, the rest is for training.

    Stamps that look alike or say the same share a group, and a group never lies on both sides. The five test sets
    together are all stamps. Raises ValueError for another k.
    """
    if k not in range(FOLDS):
        raise ValueError(f"There is no split {k!r}. The splits are numbered 0 to {FOLDS - 1}.")
    fold = _read("stamps")["fold"].to_numpy()
    val = (k + 1) % FOLDS
    return Split(np.flatnonzero((fold != k) & (fold != val)), np.flatnonzero(fold == val), np.flatnonzero(fold == k))


def _decoded(row, column: str, what: str) -> tuple[np.ndarray, int]:
    content = _cell(row, column)
    if not isinstance(content, bytes):
        have = int(_read("stamps")[column].notna().sum())
        raise ValueError(f"{_name(row)} has no {what}; {have} of the stamps have one (column {column!r} is not null).")
    import soundfile  # only the few who listen need it

    samples, rate = soundfile.read(io.BytesIO(content), dtype="float32")
    return np.clip(samples, -1, 1), rate  # a lossy codec overshoots where the recording was loud


def _cell(row, column: str):
    """One column of a row; a picture may come as its bytes."""
    if isinstance(row, bytes) and column == "picture":
        return row
    if isinstance(row, (pd.Series, Mapping)) and column in row:
        return row[column]
    raise ValueError(f"Give one row of the table, such as stamps.load().iloc[3], not {type(row).__name__}.")


def _name(row) -> str:
    return "these bytes" if isinstance(row, bytes) else repr(row.get("name", "this row"))
