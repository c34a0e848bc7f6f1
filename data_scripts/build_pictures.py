"""Build course_utils/data/pictures.parquet: about 3,000 small pictures with names from openclipart and OpenMoji.

    python data_scripts/build_pictures.py                                  # fetches both with apt-get and npm
    python data_scripts/build_pictures.py --openclipart DIR --openmoji DIR # takes unpacked packages
    python data_scripts/build_pictures.py --find-copies                    # also looks for near copies again (torch)

Which folder or subject is left out stands below. What only a person can tell (a picture unfit for a class, a better
title, a title in Italian) stands in `pictures_captions.csv`: name and caption, an empty caption leaves the picture out.
Near copies of a stamp or of an earlier picture stand in `pictures_copies.csv`, which --find-copies writes: features of
EfficientNet-Lite0 differ in the last digits between processors, a table does not, so builds agree bit for bit.
"""

import argparse
import csv
import html
import io
import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import packing
import pyarrow as pa
import pyarrow.parquet as pq
from packing import MEDIA, BuildError
from tqdm import tqdm

HERE = Path(__file__).resolve().parent
CAPTIONS, COPIES = HERE / "pictures_captions.csv", HERE / "pictures_copies.csv"
DEBIAN, NPM = "openclipart-svg", "openmoji@17.0.0"
NEEDED = 600_000_000  # bytes: packages, their files and drafts
SIDE = 96  # pixels
STAMP_COPY, PICTURE_COPY = 0.80, {"openclipart": 0.95, "openmoji": 0.95}  # cosine of features, above: a near copy
PUBLIC_DOMAIN = ("http://web.resource.org/cc/PublicDomain", "http://creativecommons.org/licenses/publicdomain/")

# Openclipart folders without pictures of things: interface icons, maps, flags, playing cards, diagrams; and unfit ones.
FOLDERS_OUT = (
    "buttons computer/buttons computer/connectors computer/diagrams computer/folders computer/games computer/icons "
    "computer/network decorations food/beverages/alcohol geography logos people/clothing/pantyhose people/stickmen "
    "recreation/games/cards shapes signs_and_symbols special tools/weapons transportation/aiga-symbols "
    "unsorted/duplicates"
).split()
FOLDERS_IN = ("geography/astronomy", "signs_and_symbols/weather", "signs_and_symbols/clocks")  # exceptions from above
# A title that many files share, or that names a collection, says nothing: then the file name is the better title.
NO_TITLE = re.compile(
    r"clip ?art|su?i?bmission|maps?\b|road signs|iconset|theme|icons|sallite|advertising|body part|- clothing|@|"
    r"library|collection|architetto|rollandin",
    re.IGNORECASE,
)
FILLER = re.compile(r"\b(clip ?art|svg|vector|i{2,3}|remix|version|v\d|simple|icon|contour|stylized)\b", re.IGNORECASE)

# OpenMoji: groups and subjects that are no pictures of things, and what is unfit for a class.
GROUPS_OUT = ("flags", "component", "extras-unicode")
SUBGROUPS_OUT = (
    "brand ui-element flags queer-symbols interaction symbols transport-sign warning arrow religion av-symbol gender "
    "math punctuation currency other-symbol keycap alphanum"
).split()
EMERGENCY_IN = (
    "structural fire|wild fire|volcano eruption|tsunami|flood|avalanche|signpost|shelter|timer|sanitizer spray|"
    "person with medical mask|woman with medical mask|man with medical mask|wash hands|medical gloves|first aid"
).split("|")
MOJI_OUT = re.compile(
    r"o’clock|-thirty|middle finger|crossbones|dagger|crossed swords|\bbomb|water pistol|cigarette|guy fawkes|hal 9000|"
    r"raspberry pi|arduino|tardis|trump|greta|love hotel|beer|clinking|wine glass|^sake$|cocktail|popping cork|tumbler|"
    r"drunk|tropical drink|biting lip|slot machine|wireframes|code editor|^switch$|ibeacon|qr code|barcode|ai hand|"
    r"^gps$|red eye|ecg waves|hundred points|anger symbol|^hole$|^zzz$|eye in speech|hacker|kiss mark|no handshaking|"
    r"breast-feeding|military|facing right|speaker (low|medium)|with yen|name badge|(spade|heart|diamond|club) suit|"
    r"joker|bow and arrow|mobile (info|message)|white (small|medium|large) square|button",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Candidate:
    """A picture that may go in: unique name, drawing, what is known of it."""

    name: str
    drawing: Path
    caption: str
    tags: str
    source: str
    licence: str
    credit: str


def words(text: str) -> str:
    """ "rubberDuck_01" -> "rubber duck": one space between words, small letters, no numbers at the end."""
    text = re.sub(r"([a-z])([A-Z])", r"\1 \2", html.unescape(text))
    text = FILLER.sub(" ", re.sub(r"[_\-+.,()/#;]+", " ", text))
    text = re.sub(r"\s*\d+$", "", re.sub(r"\s+", " ", text).strip()).strip().lower()
    drained = re.fullmatch(r"(.+) (b and w|b & w|bw|bn)", text)  # openclipart's own mark
    return f"black and white {drained[1]}" if drained else text


def openclipart(root: Path) -> list[Candidate]:
    """Public-domain drawings of things in an unpacked openclipart-svg, duplicates by links or by title left in."""
    inside = root / "usr" / "share" / "openclipart" / "svg"
    root = inside if inside.is_dir() else root
    files = [path for path in sorted(root.rglob("*.svg")) if not path.is_symlink()]
    if not files:
        raise BuildError(
            f"{root} is no openclipart folder: it holds no SVG file. Unpack the package {DEBIAN} and name its folder."
        )
    known = [(path, *_metadata(path)) for path in files if _wanted(path.relative_to(root).as_posix())]
    shared = Counter(title for _, title, *_ in known)
    found = []
    for path, title, author, tags, licences in known:
        if not licences or not set(licences) <= set(PUBLIC_DOMAIN):
            continue
        useless = not title or shared[title] >= 10 or NO_TITLE.search(title)
        name = "openclipart/" + path.relative_to(root).with_suffix("").as_posix()
        caption = words(_without_author(path.stem, author) if useless else title)
        found.append(
            Candidate(name, path, caption, ", ".join(tags), "openclipart", "public domain", author or "unknown")
        )
    return found


def _wanted(place: str) -> bool:
    inside = any(place.startswith(folder + "/") for folder in FOLDERS_OUT)
    return not inside or place.startswith(FOLDERS_IN)


def _metadata(path: Path) -> tuple[str, str, list[str], list[str]]:
    text = path.read_bytes().decode("utf-8", "replace")
    block = re.search(r"<metadata.*?</metadata>", text, re.DOTALL)
    block = block[0] if block else ""

    def inner(pattern: str) -> list[str]:
        return [
            html.unescape(re.sub(r"<[^>]+>", " ", found)).strip() for found in re.findall(pattern, block, re.DOTALL)
        ]

    titles = inner(r"<dc:title>(.*?)</dc:title>")
    authors = inner(r"<dc:creator>.*?<dc:title>(.*?)</dc:title>.*?</dc:creator>")
    tags = sorted({tag.lower() for tag in inner(r"<rdf:li>(.*?)</rdf:li>") if tag and tag != "unsorted"})
    licences = re.findall(r'license[^>]*rdf:resource="([^"]+)"', block)
    author = re.sub(r"\s+", " ", authors[0]) if authors else ""
    return (titles[0] if titles else ""), re.sub(r"\s*<?\S+@\S+>?", "", author).strip(), tags, licences


def _without_author(stem: str, author: str) -> str:
    """File names end in the author's name, often cut short: "cello_jean_victor_ba_01" -> "cello"."""
    known = [part for part in re.split(r"\W+", author.lower()) if len(part) > 1]
    parts = re.sub(r"_0?\d+$", "", stem).split("_")
    while len(parts) > 1:
        last = parts[-1].lower().rstrip(".")
        known_end = any(part.startswith(last) or last.startswith(part) for part in known)
        if len(last) > 1 and last not in ("ganson", "md", "benji", "park") and not known_end:
            break
        parts.pop()
    return "_".join(parts)


def openmoji(root: Path) -> list[Candidate]:
    """Drawings of things in an unpacked OpenMoji, without flags, signs, skin tones and what is unfit for a class."""
    root = root / "package" if (root / "package").is_dir() else root
    table = root / "data" / "openmoji.json"
    if not table.is_file():
        raise BuildError(
            f"{root} is no OpenMoji folder: it has no data/openmoji.json. "
            f"Unpack the npm package {NPM} and name its folder."
        )
    found = []
    for entry in json.loads(table.read_text("utf-8")):
        caption, subgroup = entry["annotation"], entry["subgroups"]
        shape = subgroup == "symbol-other" and caption.endswith("hexagon")
        if entry["skintone"] or entry["group"] in GROUPS_OUT or subgroup in SUBGROUPS_OUT or MOJI_OUT.search(caption):
            continue
        if (subgroup == "emergency" and caption not in EMERGENCY_IN) or (subgroup == "symbol-other" and not shape):
            continue
        tags = sorted({tag.strip() for key in ("tags", "openmoji_tags") for tag in entry[key].split(",")} - {""})
        drawing = root / "color" / "svg" / f"{entry['hexcode']}.svg"
        name, credit = f"openmoji/{entry['hexcode']}", f"{entry['openmoji_author']}, OpenMoji"
        found.append(Candidate(name, drawing, caption, ", ".join(tags), "openmoji", "CC BY-SA 4.0", credit))
    return found


def fetch(folder: Path, which: str) -> Path:
    """Download and unpack one of the two packages into `folder` with its own package manager."""
    packing.require_disk(folder, NEEDED)
    if which == "openclipart":
        return packing.fetch_debian(DEBIAN, folder)
    command = [packing.require_program("npm", "npm"), "pack", NPM, "--silent"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    packs = sorted(folder.glob("openmoji-*.tgz"))
    if done.returncode or not packs:
        raise BuildError(
            f"npm could not fetch {NPM}: {done.stderr.strip() or 'no file came'}. "
            "Unpack it yourself and name it with --openmoji."
        )
    subprocess.run(["tar", "-xzf", str(packs[-1]), "-C", str(folder)], check=True)
    return folder


def read_table(path: Path) -> dict[str, str]:
    """First two columns of a CSV file with a header, as a dictionary; an empty one where the file is missing."""
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.reader(stream))
    return {row[0]: row[1].strip() for row in rows[1:] if row}


def looked_at(candidates: list[Candidate], decisions: dict[str, str]) -> list[tuple[Candidate, str]]:
    """Candidates with their final captions: without those that a person left out or that have no usable title."""
    chosen = [(candidate, decisions.get(candidate.name, candidate.caption)) for candidate in candidates]
    return [(candidate, caption) for candidate, caption in chosen if len(caption) > 1]


def draw(candidate: Candidate) -> bytes | None:
    """WebP bytes, or None for a file that draws nothing or that rsvg-convert cannot read (some of openclipart's)."""
    try:
        picture = packing.trimmed(packing.render_svg(candidate.drawing, 256), SIDE, str(candidate.drawing))
        return packing.webp(picture, quality=75, alpha_quality=50)
    except BuildError:
        return None


def find_copies(names: list[str], pictures: list[bytes], stamps: Path) -> list[tuple[str, str, float]]:
    """Near copies by EfficientNet-Lite0 features: (left out, what it copies, cosine), in the order of `names`."""
    import near_copies  # torch: only when asked for

    table = pq.read_table(stamps, columns=["name", "picture"]).to_pydict()
    fixed = near_copies.embed([cell["bytes"] for cell in table["picture"]])  # (S,1280)
    features = near_copies.embed(pictures)  # (N,1280)
    to_stamps, to_pictures = features @ fixed.T, features @ features.T  # (N,S), (N,N)
    copies, kept = [], []
    for index, name in enumerate(names):
        stamp, limit = int(to_stamps[index].argmax()), PICTURE_COPY[name.split("/")[0]]
        earlier = max(kept, key=lambda other: to_pictures[index, other], default=index)
        if to_stamps[index, stamp] > STAMP_COPY:
            copies.append((name, table["name"][stamp], float(to_stamps[index, stamp])))
        elif earlier != index and to_pictures[index, earlier] > limit:
            copies.append((name, names[earlier], float(to_pictures[index, earlier])))
        else:
            kept.append(index)
    return copies


def write_copies(copies: list[tuple[str, str, float]], path: Path) -> None:
    """Write the table of near copies."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(("left_out", "copy_of", "cosine"))
    writer.writerows((left, copy, f"{cosine:.3f}") for left, copy, cosine in sorted(copies))
    path.write_text(stream.getvalue(), encoding="utf-8")


def build(clipart: Path, moji: Path, out: Path, stamps: Path | None = None) -> int:
    """Build `out` from the two unpacked folders; returns the number of rows.

    With `stamps` (the path of stamps.parquet) near copies are sought anew, else the table of copies is believed.
    """
    packing.require_program("rsvg-convert", "librsvg2-bin")
    chosen = looked_at(openclipart(clipart) + openmoji(moji), read_table(CAPTIONS))
    with ThreadPoolExecutor() as pool:
        contents = list(tqdm(pool.map(draw, (candidate for candidate, _ in chosen)), total=len(chosen), unit="picture"))
    seen, rows = set(), []
    for (candidate, caption), content in zip(chosen, contents, strict=True):
        if content is not None and content not in seen:
            seen.add(content)
            rows.append((candidate, caption, content))
    if stamps is not None:
        write_copies(find_copies([row[0].name for row in rows], [row[2] for row in rows], stamps), COPIES)
    copies = read_table(COPIES)
    rows = sorted((row for row in rows if row[0].name not in copies), key=lambda row: row[0].name)
    columns = {
        "name": [candidate.name for candidate, _, _ in rows],
        "picture": pa.array([packing.media(content, row.name, ".webp") for row, _, content in rows], MEDIA),
        "caption": [caption for _, caption, _ in rows],
        **{
            key: [getattr(candidate, key) for candidate, _, _ in rows]
            for key in ("tags", "source", "licence", "credit")
        },
    }
    packing.write_parquet(packing.with_features(pa.table(columns), ["picture"], []), out)
    packing.note_in_manifest(out)
    return len(rows)


def main(arguments: list[str] | None = None) -> int:
    """Command line: see the top of this file. Returns 0, or 2 after an error that it has explained."""
    parser = argparse.ArgumentParser(description="Build pictures.parquet from openclipart and OpenMoji.")
    parser.add_argument("--openclipart", type=Path, metavar="DIR", help="unpacked package openclipart-svg")
    parser.add_argument("--openmoji", type=Path, metavar="DIR", help="unpacked npm package openmoji")
    parser.add_argument("--find-copies", action="store_true", help="look for near copies again, with torch and timm")
    parser.add_argument("--out", type=Path, default=packing.DATA / "pictures.parquet", help="file to write")
    options = parser.parse_args(arguments)
    try:
        packing.require_disk(options.out.parent, 50_000_000)
        with tempfile.TemporaryDirectory(prefix="pictures-") as scratch:
            clipart = options.openclipart or fetch(Path(scratch), "openclipart")
            moji = options.openmoji or fetch(Path(scratch), "openmoji")
            stamps = packing.DATA / "stamps.parquet" if options.find_copies else None
            count = build(clipart, moji, options.out, stamps)
    except BuildError as error:
        print(f"build_pictures: {error}", file=sys.stderr)
        return 2
    print(f"{options.out}: {count} pictures, {options.out.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
