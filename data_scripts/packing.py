"""What the data programs share: encoding pictures, writing parquet and manifest whole, one run at a time in a folder.

Everything here is deterministic: the same input and the same library versions give the same bytes.
"""

import contextlib
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, UnidentifiedImageError

DATA = Path(__file__).resolve().parent.parent / "course_utils" / "data"
EMPTY_ALPHA = 8  # of 255: fainter than this counts as outside the object
MEDIA = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


class BuildError(Exception):
    """A build that cannot go on. The message says what is wrong, where, and how to mend it."""


def data_folder() -> Path:
    """Where downloads and exports go unless it is said otherwise: $COURSE_DATA, else the checkout's `data`."""
    chosen = os.environ.get("COURSE_DATA")
    try:
        return Path(chosen).expanduser() if chosen else DATA.parent.parent / "data"
    except RuntimeError as error:  # ~NAME of somebody who is not known here
        raise BuildError(f"COURSE_DATA is {chosen!r}, which is nobody's home: name another folder.") from error


@contextlib.contextmanager
def alone(out: Path) -> Iterator[None]:
    """Let one run at a time work in the folder `out`, which is made; a second one says that it waits, and does.

    The system lifts the lock of a run that was killed. Where it knows no locks (Windows, some network folders), nothing
    is waited for.
    """
    made = not out.exists()
    lock = _locked(out)
    try:
        yield
    finally:
        if lock:
            (out / ".lock").unlink(missing_ok=True)
            lock.close()
        if made:
            with contextlib.suppress(OSError):  # not empty
                out.rmdir()


def _locked(out: Path):
    """The open and locked file `.lock` in `out`, or None where there are no locks."""
    try:
        import fcntl
    except ImportError:
        out.mkdir(parents=True, exist_ok=True)
        return None
    for _ in range(100):  # not for ever: some network folders number their files anew each time
        out.mkdir(parents=True, exist_ok=True)
        try:
            lock = (out / ".lock").open("w")
        except FileNotFoundError:  # the folder was removed by the run that was here
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"Another run is at work in {out}. Waiting until it ends.", file=sys.stderr, flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError:
            lock.close()
            return None
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock.fileno()), (out / ".lock").stat()):
                return lock
        lock.close()  # the run that was here has removed this file: lock the one that is there now
    return None


def require_disk(folder: Path, needed: int) -> None:
    """Stop before the work when the disk under `folder` has fewer than `needed` bytes free."""
    place = Path(folder).resolve()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < needed:
        raise BuildError(
            f"{place} has {free / 1e6:.0f} MB free, but this step needs {needed / 1e6:.0f} MB. "
            "Free some space, or name another folder."
        )


def require_program(name: str, package: str) -> str:
    """Path of the program `name`, or an error naming the Debian package that brings it."""
    found = shutil.which(name)
    if found is None:
        raise BuildError(f"The program {name} was not found. Install it first: apt-get install {package}")
    return found


def fetch_debian(package: str, folder: Path) -> Path:
    """Download a Debian package into `folder`, unpack it there without installing it, return where."""
    apt, dpkg = require_program("apt-get", "apt"), require_program("dpkg", "dpkg")
    done = subprocess.run([apt, "download", package], cwd=folder, capture_output=True, text=True, check=False)
    files = sorted(folder.glob(f"{package}_*.deb"))
    if done.returncode or not files:
        raise BuildError(
            f"apt-get could not download {package}: {done.stderr.strip() or 'no file came'}. "
            "Run apt-get update first, or unpack the package yourself and name its folder."
        )
    subprocess.run([dpkg, "-x", str(files[-1]), str(folder / package)], check=True)
    return folder / package


def render_svg(path: Path, side: int) -> Image.Image:
    """Draw an SVG file with rsvg-convert so that its longer side has `side` pixels. RGBA."""
    command = [require_program("rsvg-convert", "librsvg2-bin"), "--format", "png", "--keep-aspect-ratio"]
    command += ["--width", str(side), "--height", str(side), str(path)]
    done = subprocess.run(command, capture_output=True, check=False, timeout=60)
    if done.returncode or not done.stdout:
        reason = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise BuildError(f"rsvg-convert cannot draw {path}: {reason[-1] if reason else 'it wrote nothing'}")
    return Image.open(io.BytesIO(done.stdout)).convert("RGBA")


def open_png(path: Path) -> Image.Image:
    """Open a PNG completely and return it as RGBA; a truncated or foreign file is one clear error."""
    try:
        with Image.open(path) as picture:
            picture.load()
            rgba = picture.convert("RGBA")
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError) as error:
        raise BuildError(f"{path} is not a whole picture ({error}). Fetch the package again.") from error
    return rgba


def trimmed(picture: Image.Image, side: int, where: str) -> Image.Image:
    """Crop to the object (alpha) and shrink so that the longer side has at most `side` pixels. Never enlarges.

    Raises BuildError when nothing is visible, or when nothing is transparent before the crop.
    """
    alpha = np.asarray(picture)[:, :, 3]
    rows, columns = np.flatnonzero((alpha >= EMPTY_ALPHA).any(1)), np.flatnonzero((alpha >= EMPTY_ALPHA).any(0))
    if not len(rows):
        raise BuildError(f"{where} is fully transparent, so it shows no object and gives no mask.")
    picture = picture.crop((int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1))
    scale = side / max(picture.size)
    if scale >= 1:
        return picture
    size = tuple(max(1, round(length * scale)) for length in picture.size)
    # Premultiplied while shrinking ("RGBa"): otherwise the colour of invisible pixels bleeds into the edge.
    return picture.convert("RGBa").resize(size, Image.Resampling.LANCZOS).convert("RGBA")


def webp(picture: Image.Image, quality: int = 85, alpha_quality: int = 100) -> bytes:
    """WebP bytes. An alpha quality of 100 keeps the mask exactly."""
    stream = io.BytesIO()
    picture.save(stream, format="WEBP", quality=quality, alpha_quality=alpha_quality, method=6, exact=False)
    return stream.getvalue()


def media(content: bytes | None, name: str, ending: str) -> dict | None:
    """One cell of a picture or sound column, as the `datasets` library lays it out."""
    return None if content is None else {"bytes": content, "path": name.replace("/", "_") + ending}


def write_parquet(table: pa.Table, path: Path) -> None:
    """Write `table` to `path` in one step: a break leaves the old file, never half a new one."""
    require_disk(path.parent, 2 * table.nbytes)
    draft = path.with_suffix(".draft")
    try:
        pq.write_table(
            table, draft, compression="zstd", compression_level=19, row_group_size=1000, use_dictionary=False
        )
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def with_features(table: pa.Table, images: list[str], sounds: list[str]) -> pa.Table:
    """Add the schema note from which `datasets` knows that columns hold pictures and sounds."""
    plain = {pa.string(): "string", pa.int32(): "int32", pa.int64(): "int64"}
    features = {}
    for field in table.schema:
        if field.name in images:
            features[field.name] = {"_type": "Image"}
        elif field.name in sounds:
            features[field.name] = {"sampling_rate": 16000, "_type": "Audio"}
        else:
            features[field.name] = {"dtype": plain[field.type], "_type": "Value"}
    return table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def sha256(path: Path) -> str:
    """SHA-256 of a file in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def note_in_manifest(path: Path) -> None:
    """Write the size and SHA-256 of `path` into the manifest.toml beside it; the other entries stay."""
    manifest = path.parent / "manifest.toml"
    entries = tomllib.loads(manifest.read_text()) if manifest.exists() else {}
    entries[path.name] = {"sha256": sha256(path), "bytes": path.stat().st_size}
    lines = ["# Written by data_scripts: every file is checked against this list when it is loaded.\n"]
    for name in sorted(entries):
        entry = entries[name]
        lines.append(f'\n["{name}"]\nsha256 = "{entry["sha256"]}"\nbytes = {entry["bytes"]}\n')
    draft = manifest.with_suffix(".draft")
    draft.write_text("".join(lines))
    os.replace(draft, manifest)
