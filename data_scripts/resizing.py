"""Resize the pictures of a set once, on all cores, into files and one uint8 cache; stop anywhere, go on later.

A picture is finished when its file stands in images/: its row of the cache is written before, and the file gets its
name last. Threads do, because Pillow lets go of Python's lock while it decodes, scales and encodes. Memory does not
grow with the number of pictures: few are in work at a time, big ones fewer, and the cache is written, not mapped.
"""

import contextlib
import hashlib
import io
import json
import os
import platform
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

import archives
import numpy as np
import PIL
from packing import BuildError
from PIL import Image
from tqdm import tqdm

from course_utils import flickr30k
from course_utils.caption_files import CaptionSet

QUALITY = 92  # of the resized JPEG
LONGEST = 8  # a picture longer than this many times its shorter side is cropped to it, evenly at both ends
PIXELS = 50_000_000  # of one picture, and of all that are decoded at one moment
AHEAD = 3  # pictures in work for each thread
BYTES_AHEAD = 100_000_000  # of encoded pictures in work


class Plan:
    """The pictures of a set in row order, the folder they are prepared in, and how far that has come.

    side: shorter side in pixels. plan.json in the folder notes for which captions and size it is.
    """

    def __init__(self, out: Path, captions: CaptionSet, side: int):
        self.out, self.captions, self.side = out, captions, side
        self.rows = {one.filename: row for row, one in enumerate(captions.pictures)}
        self.work, self.images = out / flickr30k.UNFINISHED, out / "images"
        self._cache, self._shape = self.work / "pixels.part", (len(self.rows), side, side, 3)
        self._text = captions.to_json()
        self._sums: dict[int, str] = {}  # row -> SHA-256 of its file
        self._lock, self._budget = threading.Lock(), _Budget(PIXELS)
        self._claim()

    def _claim(self) -> None:
        """Begin, or go on. Raises BuildError where the folder holds other work or somebody's pictures."""
        settings = {"side": self.side, "quality": QUALITY, "captions": hashlib.sha256(self._text.encode()).hexdigest()}
        note = self.out / "plan.json"
        if note.is_file():
            if _noted(note) != settings:
                raise BuildError(
                    f"{self.out} was begun with other captions or another size. Name another folder with --out, or "
                    f"delete {note}, {self.work} and {self.images}."
                )
        elif self.images.is_dir() and any(self.images.iterdir()):
            raise BuildError(f"{self.images} holds pictures already, from elsewhere. Name another folder with --out.")
        self.work.mkdir(parents=True, exist_ok=True)
        if not note.is_file():
            write_text(note, json.dumps(settings))
        self.images.mkdir(exist_ok=True)

    def fill(self, places: list[Path], workers: int) -> None:
        """Resize what is not finished, from these folders and archives, with so many threads.

        Raises BuildError naming a broken picture, or what none of the places has.
        """
        finished = self._begin()
        left = self.rows.keys() - finished
        with (
            tqdm(total=len(self.rows), initial=len(finished), unit="picture", desc="Resizing") as bar,
            (self.work / "done.tsv").open("a", encoding="utf-8") as journal,
            self._cache.open("r+b") as cache,
            ThreadPoolExecutor(workers) as pool,
        ):
            work: dict[Future, int] = {}
            try:
                for name, content in self._contents(places, left):
                    work[pool.submit(self._one, name, content, cache)] = len(content)
                    while len(work) >= AHEAD * workers or sum(work.values()) > BYTES_AHEAD:
                        self._note(work, journal, bar)
                while work:
                    self._note(work, journal, bar)
            finally:
                pool.shutdown(cancel_futures=True)
        if left:
            few = ", ".join(sorted(left)[:3])
            raise BuildError(
                f"{len(left):,} of {len(self.rows):,} pictures are not in {', '.join(map(str, places))}: {few} and so "
                "on. It is cut short, or of another set. What was found is kept: take another --source for the rest."
            )

    def finish(self, dataset: str, source: str) -> dict:
        """Hash everything, give the files their names, write the manifest last and return it."""
        out, counts = self.out, self.captions.counts
        lines = [f"{self._sum(row)}  images/{name}\n" for name, row in self.rows.items()]
        write_text(out / "pictures.sha256", "".join(lines))
        with self._cache.open("rb+") as stream:
            os.fsync(stream.fileno())
        os.replace(self._cache, out / "pixels.npy")
        write_text(out / "captions.json", self._text)
        starts = np.cumsum([0, *counts.values()]).tolist()
        names = ("captions.json", "pictures.sha256", "pixels.npy")
        manifest = {
            "format": flickr30k.FORMAT,
            "dataset": dataset,
            "side": self.side,
            "pictures": len(self.rows),
            "captions": sum(len(one.captions) for one in self.captions.pictures),
            "splits": {name: [start, start + counts[name]] for name, start in zip(counts, starts)},
            "source": source,
            "made_with": {"python": platform.python_version(), "pillow": PIL.__version__, "numpy": np.__version__},
            "files": {name: {"bytes": (out / name).stat().st_size, "sha256": _sha256(out / name)} for name in names},
        }
        write_text(out / "manifest.json", json.dumps(manifest, indent=1) + "\n")
        shutil.rmtree(self.work, ignore_errors=True)
        return manifest

    def _begin(self) -> set[str]:
        """Names of finished pictures. Makes the cache where there is none, with the rows that were lost with it."""
        finished = {path.name for path in self.images.iterdir() if path.name in self.rows and path.stat().st_size}
        with contextlib.suppress(FileNotFoundError):
            for line in (self.work / "done.tsv").read_text(encoding="utf-8").splitlines():
                row, _, digest = line.partition("\t")
                if row.isdigit() and len(digest) == 64:  # the last line may be torn
                    self._sums[int(row)] = digest
        for path in [*self.work.glob("*.jpg"), *self.work.glob("*.draft")]:
            path.unlink()  # half written when the last run ended
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": self._shape})
        self._start = len(header.getvalue())
        size = self._start + int(np.prod(self._shape))
        final = self.out / "pixels.npy"
        if final.is_file() and not self._cache.is_file():
            os.replace(final, self._cache)  # ended while finishing, or is being repaired
        if not self._cache.is_file() or self._cache.stat().st_size != size:
            draft = self._cache.with_suffix(".draft")
            with draft.open("w+b") as stream:
                stream.write(header.getvalue())
                stream.truncate(size)
                for name in tqdm(sorted(finished), unit="row", desc="Rows anew", disable=not finished):
                    self._put(stream, self.rows[name], (self.images / name).read_bytes(), name)
            os.replace(draft, self._cache)
        return finished

    @staticmethod
    def _contents(places: list[Path], left: set[str]) -> Iterator[tuple[str, bytes]]:
        """(name, content) of the pictures that are left, which are taken off `left`."""
        for place in places:
            if not left:
                return
            for name, content in archives.members(place, left.__contains__, archives.PICTURE_LIMIT):
                left.discard(name)
                yield name, content
                if not left:
                    return

    def _note(self, work: dict[Future, int], journal, bar: tqdm) -> None:
        """Wait for one picture or more; take them off `work` and into the journal."""
        done, _ = wait(work, return_when=FIRST_COMPLETED)
        for one in done:
            del work[one]
            row, digest = one.result()
            journal.write(f"{row}\t{digest}\n")
            journal.flush()
            self._sums[row] = digest
            bar.update()

    def _one(self, name: str, content: bytes, cache) -> tuple[int, str]:
        """Resize one picture: row into the cache, then its file into images/. Returns row and SHA-256."""
        row = self.rows[name]
        with self._budget.of(content):
            small = resized(content, self.side, name)
        draft = self.work / f"{row}.jpg"
        draft.write_bytes(small)
        self._put(cache, row, small, name)
        os.replace(draft, self.images / name)
        return row, hashlib.sha256(small).hexdigest()

    def _put(self, cache, row: int, content: bytes, name: str) -> None:
        with _named(name), Image.open(io.BytesIO(content)) as picture:
            square = flickr30k.centre_square(np.asarray(picture.convert("RGB")))  # (side,side,3)
        content = square.tobytes()
        with self._lock:
            cache.seek(self._start + row * len(content))
            cache.write(content)
            cache.flush()

    def _sum(self, row: int) -> str:
        if row not in self._sums:  # ended between a picture and its line in the journal
            self._sums[row] = _sha256(self.images / self.captions.pictures[row].filename)
        return self._sums[row]


class _Budget:
    """So many pixels may be decoded at one moment, by all threads together."""

    def __init__(self, pixels: int):
        self._left, self._change = pixels, threading.Condition()

    @contextlib.contextmanager
    def of(self, content: bytes):
        try:
            with Image.open(io.BytesIO(content)) as picture:
                wanted = min(picture.width * picture.height, PIXELS)
        except Exception:  # `resized` says what is wrong with it
            wanted = 0
        with self._change:
            self._change.wait_for(lambda: self._left >= wanted)
            self._left -= wanted
        try:
            yield
        finally:
            with self._change:
                self._left += wanted
                self._change.notify_all()


def resized(content: bytes, side: int, name: str) -> bytes:
    """A picture as JPEG bytes, RGB, shorter side exactly `side` pixels. One that is so already comes back as it is.

    Raises BuildError, with the name, for what is no whole picture or is larger than `PIXELS`.
    """
    with _named(name), Image.open(io.BytesIO(content), formats=("JPEG", "PNG", "WEBP")) as picture:
        width, height = picture.size
        if width * height > PIXELS:
            raise BuildError(f"{name} has {width} x {height} pixels; more than {PIXELS:,} are not decoded.")
        as_wanted = picture.format == "JPEG" and picture.mode == "RGB"
        as_wanted = as_wanted and min(width, height) == side and max(width, height) <= LONGEST * side
        if picture.format == "JPEG":  # decode a big one at half or a quarter, still at least twice as big as needed
            picture.draft("RGB", (2 * side, 2 * side))
        picture.load()
        if as_wanted:
            return content
        image = picture.convert("RGB")
    width, height = image.size
    longest = LONGEST * min(width, height)
    if max(width, height) > longest:
        x, y = max(0, width - longest) // 2, max(0, height - longest) // 2
        image = image.crop((x, y, width - x, height - y))
        width, height = image.size
    scale = side / min(width, height)
    size = (side, round(height * scale)) if width <= height else (round(width * scale), side)
    stream = io.BytesIO()
    image.resize(size, Image.Resampling.BICUBIC).save(stream, "JPEG", quality=QUALITY)
    return stream.getvalue()


def _noted(note: Path):
    """What a folder was begun for; None where that cannot be read any more."""
    try:
        return json.loads(note.read_text(encoding="utf-8"))
    except ValueError:  # JSON's and UTF-8's errors are ValueErrors
        return None


def write_bytes(path: Path, content: bytes) -> None:
    """All or nothing."""
    draft = path.with_name(path.name + ".draft")
    try:
        with draft.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)  # of a full disk


def write_text(path: Path, text: str) -> None:
    """All or nothing, UTF-8."""
    write_bytes(path, text.encode())


@contextlib.contextmanager
def _named(name: str):
    """What Pillow says of a broken picture becomes one error with the picture's name."""
    try:
        yield
    except (Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        reason = "it is of no kind that is read here" if "BytesIO" in str(error) else error
        raise BuildError(
            f"{name} is not a whole picture ({reason}). Put a good copy in its place, or fetch the archive again."
        ) from error


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
