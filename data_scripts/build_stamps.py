"""Build course_utils/data/stamps.parquet from Debian's tuxpaint-stamps-default: pictures with masks, captions, voices.

    python data_scripts/build_stamps.py                      # fetches the package with apt-get and unpacks it
    python data_scripts/build_stamps.py --folder FOLDER      # takes an unpacked package, or any stamps folder

A stamp is a picture (name.svg or name.png) with a text file of the same name: the first line is the English caption,
then one `language.utf8=caption` a line. `name_desc_fr.ogg` is the caption spoken in French, `name_desc.ogg` in English,
`name.ogg` a sound effect. Decisions that no program can make (photograph or drawing, which stamps look alike, what is
whose) stand in small tables beside this script. Two builds with the same library versions agree bit for bit.
"""

import argparse
import csv
import io
import math
import re
import subprocess
import sys
import tempfile
import zlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import packing
import pyarrow as pa
import soundfile
from packing import MEDIA, BuildError
from PIL import ImageOps
from scipy.signal import resample_poly
from tqdm import tqdm

HERE = Path(__file__).resolve().parent
PACKAGE = "tuxpaint-stamps-default"
NEEDED = 700_000_000  # bytes: the package is 161 MB, its files 180 MB, and drafts come beside them
SIDE = 224  # pixels
RATE = 16_000  # samples a second
SILENCE = 1e-3  # of full scale: four of the sound effects hold nothing at all
FOLDS = 5
# Left out: glyphs. A letter, a digit, a coin or a note is known by its name, not by how it looks.
GLYPHS = re.compile(r"symbols/alphabets/|symbols/math/\d|/coins/|money/japanese/|symbols/music/(note|rest)_")
LANGUAGES = (
    "ar bg ca cs da de el es fi fr gl he hi hr hu id is it ja ko nb nl pl pt pt_BR ro ru sk sl sv th tr uk vi "
    "zh_CN zh_TW"
).split()
# The changelog itself calls this sound non-free (Creative Commons Sampling Plus 1.0).
SOUNDS_LEFT_OUT = ("vehicles/emergency/firetruck",)
# These objects fill their picture from edge to edge, so the missing transparency is no mistake.
FULL_FRAMES = tuple(f"town/roadsigns/stoplight_0{number}" for number in ("1_red", "2_yellow", "3_green"))

SOUNDS = {"speech_fr": "_desc_fr.ogg", "speech_en": "_desc.ogg", "sound": ".ogg"}
COLUMNS = (
    *("name", "picture", "width", "height", "caption"),
    *(f"caption_{language.lower()}" for language in LANGUAGES),
    *("noun", "category", "medium", "group", "fold", *SOUNDS, "source"),
)
# What a name of a thing does not begin with, and what it does not hold.
NO_NAME = set("very small little big large huge happy colorful poisonous lit sleeping sitting singing".split())
NO_THING = set("pair couple and with in at playing youth eared".split())
# Marks that tell twins apart: side, state, colour. Numbers at the end are taken off as well.
TWINS = re.compile(
    r"(?<![a-z])(left|right|open|closed|small|in|out|(blue-and-)?(blue|brown|green|yellow|red|white|black|purple|pink))"
    r"(?![a-z])"
)


def find_root(folder: Path) -> Path:
    """The folder that holds the categories, given that folder itself or an unpacked package around it."""
    inside = folder / "usr" / "share" / "tuxpaint" / "stamps"
    root = inside if inside.is_dir() else folder
    if not root.is_dir() or not any(root.glob("*/**/*.txt")):
        raise BuildError(
            f"{folder} is no stamps folder: it holds no category with a caption file (animals/birds/crow.txt). "
            f"Name the folder into which {PACKAGE} was unpacked, or leave --folder out."
        )
    return root


def find_stamps(root: Path) -> list[tuple[str, Path]]:
    """All stamps that are no glyphs, as (name, picture file), sorted by name. A drawing in SVG goes before its PNG."""
    stamps = []
    for text in root.rglob("*.txt"):
        pictures = [text.with_suffix(ending) for ending in (".svg", ".png") if text.with_suffix(ending).exists()]
        name = text.relative_to(root).with_suffix("").as_posix()
        if pictures and not GLYPHS.search(name + "/"):
            stamps.append((name, pictures[0]))
    if not stamps:
        raise BuildError(f"{root} holds caption files, but no picture beside any of them.")
    return sorted(stamps)


def read_captions(text: Path) -> dict[str, str | None]:
    """Caption columns of one stamp: "caption" in English and "caption_xx" for every language in LANGUAGES."""
    try:
        lines = [line.strip() for line in text.read_text("utf-8").splitlines()]
    except UnicodeDecodeError as error:
        raise BuildError(f"{text} is not UTF-8 text ({error.reason} at byte {error.start}).") from error
    if not lines or not lines[0] or ".utf8=" in lines[0]:
        raise BuildError(f"{text} does not begin with an English caption.")
    found = dict(line.split(".utf8=", 1) for line in lines[1:] if ".utf8=" in line)
    captions = {f"caption_{language.lower()}": found.get(language, "").strip() or None for language in LANGUAGES}
    return {"caption": lines[0], **captions}


def bare_noun(caption: str) -> str | None:
    """ "A small red truck." -> "red truck": the bare name of the thing, for an article and one to three words.

    Words of size and opinion are left out, because scenes choose sizes. None for plurals and for anything longer.
    """
    match = re.fullmatch(r"(?:an?|the) (\w[\w'’-]*(?: \w[\w'’-]*){0,3})[.!]?", caption.strip(), flags=re.IGNORECASE)
    words = match[1].lower().split() if match else []
    while words and words[0] in NO_NAME:
        words.pop(0)
    if not 1 <= len(words) <= 3 or NO_THING & set(words):
        return None
    return " ".join(words)


def read_picture(name: str, source: Path) -> tuple[bytes, int, int]:
    """WebP bytes, width and height of one stamp, cropped to its object, longer side at most SIDE."""
    drawn = packing.render_svg(source, 2 * SIDE) if source.suffix == ".svg" else packing.open_png(source)
    if name not in FULL_FRAMES and np.asarray(drawn)[:, :, 3].min() == 255:
        raise BuildError(f"{source} has no transparent pixel, so it gives no mask. Remove it, or cut its object out.")
    picture = packing.trimmed(drawn, SIDE, str(source))
    if np.asarray(picture)[:, :, 3].min() >= 128:  # an object that fills its frame: the mask needs an outside
        picture = ImageOps.expand(picture, border=1, fill=(0, 0, 0, 0))
    return packing.webp(picture), *picture.size


def read_sound(source: Path, serial: int) -> bytes | None:
    """One recording as Ogg Opus, 16 kHz, one channel; None where there is no such file or nothing is heard in it.

    The stream's serial number is given, since a random one would make every build differ.
    """
    if not source.exists():
        return None
    try:
        samples, rate = soundfile.read(source, dtype="float64", always_2d=True)  # (T,C)
    except soundfile.LibsndfileError as error:
        raise BuildError(f"{source} cannot be decoded ({error}). Fetch the package again.") from error
    if np.abs(samples).max(initial=0) < SILENCE:
        return None
    divisor = math.gcd(RATE, rate)
    mono = resample_poly(samples.mean(axis=1), RATE // divisor, rate // divisor)  # (T,) -> (T * RATE / rate,)
    plain = io.BytesIO()
    soundfile.write(plain, np.clip(mono, -1, 1), RATE, format="WAV", subtype="PCM_16")
    command = [packing.require_program("opusenc", "opus-tools"), "--quiet", "--serial", str(serial), "--bitrate", "24"]
    command += ["--discard-comments", "--discard-pictures", "--padding", "0", "-", "-"]
    done = subprocess.run(command, input=plain.getvalue(), capture_output=True, check=False)
    if done.returncode:
        raise BuildError(f"opusenc could not encode {source}: {done.stderr.decode('utf-8', 'replace').strip()}")
    return done.stdout


def look_alikes(names: list[str], captions: list[str], seen: list[tuple[str, str]]) -> list[int]:
    """Group numbers: stamps share one if they say the same, differ by number, colour or side only, or were seen to.

    `seen` are pairs of names found alike by eye. Groups are numbered in the order of `names`.
    """
    leader: dict[str, str] = {}

    def root(key: str) -> str:
        while leader.setdefault(key, key) != key:
            key = leader[key]
        return key

    links = [(name, other) for name, other in seen if name in names and other in names]
    for name, caption in zip(names, captions, strict=True):
        folder, _, stem = name.rpartition("/")
        stem = TWINS.sub("-", stem.lower().replace("_", "-")).strip("-0123456789")
        links += [(name, "caption:" + caption.lower().strip(" .!"))] + [(name, f"stem:{folder}/{stem}")] * (
            len(stem) > 1
        )
    for one, other in links:
        leader[root(one)] = root(other)
    numbers: dict[str, int] = {}
    return [numbers.setdefault(root(name), len(numbers)) for name in names]


def deal_folds(groups: list[int], categories: list[str]) -> list[int]:
    """Fold 0 to 4 of every stamp: whole groups, biggest first, each to the fold that has least of its category."""
    sizes, first = Counter(groups), {}
    for group, category in zip(groups, categories, strict=True):
        first.setdefault(group, category)
    load, fold = Counter(), {}
    for group in sorted(sizes, key=lambda group: (-sizes[group], group)):
        category = first[group]
        fold[group] = min(range(FOLDS), key=lambda number: (load[category, number], load[number], number))
        load[category, fold[group]] += sizes[group]
        load[fold[group]] += sizes[group]
    return [fold[group] for group in groups]


def read_rows(path: Path) -> list[tuple[str, str]]:
    """First two columns of one of the tables beside this script, without the header."""
    with path.open(newline="", encoding="utf-8") as stream:
        return [(row[0], row[1]) for row in list(csv.reader(stream))[1:]]


def read_stamp(root: Path, name: str, source: Path) -> dict:
    """Everything of one stamp but medium, group and fold: one row of the table."""
    content, width, height = read_picture(name, source)
    captions = read_captions(source.with_suffix(".txt"))
    row = {"name": name, "picture": packing.media(content, name, ".webp"), "width": width, "height": height, **captions}
    row |= {"noun": bare_noun(captions["caption"]), "category": name.split("/")[0]}
    for column, ending in SOUNDS.items():
        recording = source.with_name(source.stem + ending)
        left_out = column == "sound" and name in SOUNDS_LEFT_OUT
        content = None if left_out else read_sound(recording, zlib.crc32(f"{column}:{name}".encode()))
        row[column] = packing.media(content, f"{column}_{name}", ".ogg")
    return row | {"source": source.relative_to(root).as_posix()}


def build(folder: Path, out: Path) -> pa.Table:
    """Build `out` from an unpacked package or a stamps folder; returns the table that was written."""
    root = find_root(folder)
    stamps = find_stamps(root)
    if any(source.suffix == ".svg" for _, source in stamps):
        packing.require_program("rsvg-convert", "librsvg2-bin")
    with ThreadPoolExecutor() as pool:
        jobs = [pool.submit(read_stamp, root, *stamp) for stamp in stamps]
        try:
            rows = [job.result() for job in tqdm(jobs, unit="stamp")]
        except BuildError:
            pool.shutdown(cancel_futures=True)
            raise
    medium, names = dict(read_rows(HERE / "stamps_medium.csv")), [row["name"] for row in rows]
    groups = look_alikes(names, [row["caption"] for row in rows], read_rows(HERE / "stamps_alike.csv"))
    folds = deal_folds(groups, [row["category"] for row in rows])
    for row, group, fold in zip(rows, groups, folds, strict=True):
        guess = "drawing" if row["source"].endswith(".svg") else "photo"  # only for stamps that nobody has looked at
        row |= {"medium": medium.get(row["name"], guess), "group": group, "fold": fold}
    kinds = dict.fromkeys(("picture", *SOUNDS), MEDIA) | dict.fromkeys(("width", "height", "group", "fold"), pa.int32())
    columns = {key: pa.array([row[key] for row in rows], kinds.get(key, pa.string())) for key in COLUMNS}
    table = packing.with_features(pa.table(columns), ["picture"], list(SOUNDS))
    packing.write_parquet(table, out)
    packing.note_in_manifest(out)
    return table


def main(arguments: list[str] | None = None) -> int:
    """Command line: see the top of this file. Returns 0, or 2 after an error that it has explained."""
    parser = argparse.ArgumentParser(description=f"Build stamps.parquet from Debian's {PACKAGE}.")
    parser.add_argument("--folder", type=Path, help="unpacked package or stamps folder; without it, apt-get fetches it")
    parser.add_argument("--out", type=Path, default=packing.DATA / "stamps.parquet", help="file to write")
    options = parser.parse_args(arguments)
    try:
        packing.require_disk(options.out.parent, 50_000_000)
        with tempfile.TemporaryDirectory(prefix="stamps-") as scratch:
            if options.folder is None:
                packing.require_disk(Path(scratch), NEEDED)
            table = build(options.folder or packing.fetch_debian(PACKAGE, Path(scratch)), options.out)
    except BuildError as error:
        print(f"build_stamps: {error}", file=sys.stderr)
        return 2
    print(f"{options.out}: {table.num_rows} stamps, {options.out.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
