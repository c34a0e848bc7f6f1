"""Read single files out of zip and tar archives of unknown origin. Nothing is ever unpacked under an archive's names.

A file is asked for by its plain name, whatever folder it lies in, and comes as bytes. So no path of an archive reaches
the disk; links are not followed; a member larger than asked for is refused before it fills the memory.
"""

import gzip
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from downloads import Damaged
from packing import BuildError

ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz")
PICTURE_LIMIT = 50 << 20  # bytes of one picture as stored
TEXT_LIMIT = 256 << 20  # bytes of one caption file
TAR_LIMIT = 64 << 30  # bytes that a tar may hold in all: a compressed one must be read from end to end


def is_archive(name: str) -> bool:
    """Whether a file of this name is an archive that can be read here."""
    return name.lower().endswith(ENDINGS)


def members(place: Path, wanted: Callable[[str], bool], limit: int) -> Iterator[tuple[str, bytes]]:
    """(plain name, content) of the files in an archive or folder whose plain name is wanted; a name comes once.

    Folders of macOS's own and hidden files are passed over. Raises Damaged for an archive that is cut short or broken,
    BuildError for one that holds a wanted name as a link, a path that leads outside, a password, or a file above
    `limit` bytes.
    """
    seen: set[str] = set()
    for name, size, read in _entries(place):
        if name in seen or not wanted(name):
            continue
        seen.add(name)
        if size > limit:
            raise BuildError(f"{name} in {place} has {size:,} bytes; more than {limit:,} are not taken for one file.")
        with _explained(place):
            content = read()
        if len(content) != size:
            raise Damaged(f"{name} in {place} ends after {len(content):,} of {size:,} bytes.", place)
        yield name, content


def check(path: Path) -> None:
    """Raise Damaged unless `path` begins and ends as an archive does. Contents are compared when they are read."""
    with _explained(path):
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                archive.infolist()
        elif not _is_tar(path):
            head = path.open("rb").read(512).lstrip().lower()
            what = "a web page, perhaps one to log in" if head.startswith((b"<!doctype", b"<html")) else "no archive"
            raise Damaged(f"{path.name} is {what}, or it is cut short.", path)


def _entries(place: Path) -> Iterator[tuple[str, int, Callable[[], bytes]]]:
    if place.is_dir():
        yield from _folder(place)
    elif zipfile.is_zipfile(place):
        yield from _zip(place)
    elif _is_tar(place):
        yield from _tar(place)
    else:
        raise Damaged(f"{place} is neither a zip nor a tar, or it is cut short. Fetch it again.", place)


def _is_tar(path: Path) -> bool:
    try:
        return tarfile.is_tarfile(path)
    except (EOFError, gzip.BadGzipFile, zlib.error):  # a compressed one that ends in its first block
        return False


def _folder(place: Path) -> Iterator[tuple[str, int, Callable[[], bytes]]]:
    for folder, below, names in os.walk(place):
        below[:] = sorted(name for name in below if not _hidden(name))
        for name in sorted(names):
            path = Path(folder, name)
            if not _hidden(name) and path.is_file():
                yield name, path.stat().st_size, path.read_bytes


def _zip(place: Path) -> Iterator[tuple[str, int, Callable[[], bytes]]]:
    with _explained(place), zipfile.ZipFile(place) as archive:
        for one in archive.infolist():
            name = _plain(place, one.filename)
            if name is None or one.is_dir():
                continue
            kind = stat.S_IFMT(one.external_attr >> 16)
            yield name, one.file_size, lambda one=one, kind=kind: _read_zip(place, archive, one, kind)


def _read_zip(place: Path, archive: zipfile.ZipFile, one: zipfile.ZipInfo, kind: int) -> bytes:
    if kind not in (0, stat.S_IFREG):
        raise BuildError(f"{one.filename} in {place} is a link or a device, not a file; such an archive is not read.")
    if one.flag_bits & 1:
        raise BuildError(f"{place} is locked with a password. Unpack it yourself and name the folder.")
    with archive.open(one) as stream:
        return stream.read(one.file_size + 1)


def _tar(place: Path) -> Iterator[tuple[str, int, Callable[[], bytes]]]:
    total = 0
    with _explained(place), tarfile.open(place, "r:*") as archive:
        while (one := archive.next()) is not None:
            archive.members.clear()  # the module keeps every header otherwise
            total += one.size
            if total > TAR_LIMIT:
                raise BuildError(f"{place} holds more than {TAR_LIMIT:,} bytes; that is no set of pictures.")
            name = _plain(place, one.name)
            if name is not None and not one.isdir():
                yield name, one.size, lambda one=one: _read_tar(place, archive, one)


def _read_tar(place: Path, archive: tarfile.TarFile, one: tarfile.TarInfo) -> bytes:
    if not one.isreg():
        raise BuildError(f"{one.name} in {place} is a link or a device, not a file; such an archive is not read.")
    with archive.extractfile(one) as stream:
        return stream.read()


def _plain(place: Path, name: str) -> str | None:
    """The last part of a member's path; None for what is passed over. BuildError for a path that leads outside."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or (path.parts and path.parts[0].endswith(":")):
        raise BuildError(
            f"{place} holds the name {name!r}, which leads outside of it. No honest archive does; it is not read. "
            "Take another copy."
        )
    return None if not path.name or any(_hidden(part) for part in path.parts) else path.name


def _hidden(part: str) -> bool:
    return part.startswith(".") or part == "__MACOSX"


@contextmanager
def _explained(place: Path):
    try:
        yield
    except (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise Damaged(f"{place} is cut short or damaged ({error}). Fetch it again.", place) from error
