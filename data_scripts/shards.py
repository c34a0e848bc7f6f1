"""WebDataset shards of a prepared folder: tar files in which NUMBER.jpg and NUMBER.json are one sample.

`shards/train-000000.tar` and so on hold the resized pictures in row order; the JSON has filename, image_id, split,
captions and caption_ids. Plain tar (ustar) with fixed times and owners: the same folder gives the same bytes.
"""

import io
import json
import os
import tarfile
from pathlib import Path

from packing import BuildError
from tqdm import tqdm

from course_utils.caption_files import Picture, read_captions


def write(folder: Path, manifest: dict, size: int) -> list[Path]:
    """Write what is missing of the shards, `size` pictures each; returns all of them. Whole shards are kept.

    Raises BuildError where shards of another size are there.
    """
    if size < 1:
        raise BuildError(f"A shard of {size} pictures cannot be; give 1 or more.")
    pictures = read_captions(folder / "captions.json").pictures
    target, note = (
        folder / "shards",
        {"pictures_a_shard": size, "captions": manifest["files"]["captions.json"]["sha256"]},
    )
    target.mkdir(exist_ok=True)
    about = target / "shards.json"
    if about.is_file() and about.read_text(encoding="utf-8", errors="replace") != json.dumps(note):
        raise BuildError(f"{target} holds shards of another size or set. Delete it, or leave --shards out.")
    draft = target / "shards.json.draft"
    draft.write_text(json.dumps(note), encoding="utf-8")
    os.replace(draft, about)
    pieces = []
    for split, (start, stop) in manifest["splits"].items():
        for k, first in enumerate(range(start, stop, size)):
            pieces.append((target / f"{split}-{k:06d}.tar", range(first, min(first + size, stop))))
    for path, rows in tqdm(pieces, unit="shard", desc="Shards"):
        if not path.is_file():
            _write(path, folder, pictures, rows)
    return [path for path, _ in pieces]


def _write(path: Path, folder: Path, pictures: tuple[Picture, ...], rows: range) -> None:
    draft = path.with_suffix(".draft")
    with tarfile.open(draft, "w", format=tarfile.USTAR_FORMAT) as archive:
        for row in rows:
            one = pictures[row]
            about = {
                "filename": one.filename,
                "image_id": one.image_id,
                "split": one.split,
                "captions": one.captions,
                "caption_ids": one.caption_ids,
            }
            _add(archive, f"{row:06d}.jpg", (folder / "images" / one.filename).read_bytes())
            _add(archive, f"{row:06d}.json", json.dumps(about, ensure_ascii=False).encode())
    os.replace(draft, path)


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    header = tarfile.TarInfo(name)  # time 0, nobody's, mode 0o644
    header.size = len(content)
    archive.addfile(header, io.BytesIO(content))
