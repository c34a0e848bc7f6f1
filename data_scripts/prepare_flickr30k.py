"""Prepare Flickr30k for training: fetch it, check it, resize it once, and write a uint8 cache. It can be interrupted.

    python data_scripts/prepare_flickr30k.py --source hf:OWNER/NAME
    python data_scripts/prepare_flickr30k.py --source kaggle:OWNER/NAME --captions dataset_flickr30k.json
    python data_scripts/prepare_flickr30k.py --source https://HOST/flickr30k/     # a mirror
    python data_scripts/prepare_flickr30k.py --source FOLDER_OR_ARCHIVE
    python data_scripts/prepare_flickr30k.py --source data/scenes_raw --set scenes --side 224
    python data_scripts/prepare_flickr30k.py --verify

What comes out, and how it is read: `course_utils/flickr30k.py`. Run the same command again after an interruption: what
is finished is not done twice. Work in progress lies in `.unfinished`, downloads in `downloads`, both inside the folder.
"""

import argparse
import hashlib
import os
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import archives
import flickr30k_sources
import shards
from downloads import Damaged
from flickr30k_sources import Offer
from packing import BuildError, alone, data_folder, require_disk
from resizing import Plan
from tqdm import tqdm

from course_utils import flickr30k
from course_utils.caption_files import COUNTS, CaptionSet, check_set, read_captions

JPEG_BYTES = 45_000  # of a resized picture, generously
DOWNLOAD = 4_400_000_000  # bytes of the published archive, said where a source does not say

TERMS = """Flickr30k: 31,783 photographs from Flickr, five captions each. Collected by P. Young, A. Lai, M. Hodosh and
J. Hockenmaier (2014), University of Illinois; split by A. Karpathy and L. Fei-Fei (2015).
Terms: its authors give it for non-commercial research and education only. The photographs belong to the people who
put them on Flickr, and Flickr's terms of use hold for them. Do not pass pictures on or publish them without asking."""
OTHER_TERMS = (
    "A set that declares itself {name!r}. Its licence and terms are those of whoever made it; read them there."
)
SCENES_TERMS = """Scenes, composed on this machine from the course's stamps. Licence: that of the stamps, GPL-2 or later
as declared for the whole, single pictures CC BY, CC BY-SA, GFDL or public domain (course_utils/data/licences)."""


@dataclass(frozen=True)
class Job:
    """What to prepare. counts: pictures in each split; None is Karpathy's for flickr30k and anything for other sets."""

    source: str | None
    out: Path
    dataset: str = "flickr30k"
    captions: str | None = None
    side: int = 256
    shard: int = 0  # pictures in a WebDataset shard, 0 for no shards
    workers: int = 0  # threads, 0 for all cores
    accept: bool = False
    counts: dict[str, int] | None = None

    @property
    def work(self) -> Path:
        """Where unfinished work lies."""
        return self.out / flickr30k.UNFINISHED


def prepare(job: Job) -> dict:
    """Bring `job.out` to the prepared state and return its manifest. Raises BuildError with what to do."""
    with alone(job.out):
        manifest = _finished(job)
        if manifest is None:
            manifest = _prepare(job)
        if job.shard:
            shards.write(job.out, manifest, job.shard)
    return manifest


def _finished(job: Job) -> dict | None:
    """The manifest of a folder that is ready, None where work is left."""
    if not (job.out / "manifest.json").is_file():
        return None
    try:
        manifest = flickr30k.read_manifest(job.out)
    except ValueError as error:
        raise BuildError(str(error)) from error
    if (manifest["dataset"], manifest["side"]) != (job.dataset, job.side):
        raise BuildError(
            f"{job.out} holds {manifest['dataset']} at {manifest['side']} px already. Name another folder with --out."
        )
    shutil.rmtree(job.work, ignore_errors=True)  # interrupted between the manifest and this line
    return manifest


def _prepare(job: Job) -> dict:
    if job.source is None:
        raise BuildError(f"{job.out} is not prepared yet: name a source with --source (see --help).")
    offer = flickr30k_sources.locate(job.source)
    extra = flickr30k_sources.locate(job.captions) if job.captions else None
    _keep_apart(job.out, offer)
    _agree(job, offer)
    kept = _downloads(job.out, offer)
    try:
        captions = _captions(job, extra or offer)
        checked = _checked(captions, job) if captions else None  # a wrong set is refused before pictures are fetched
        _require_disk(job, offer, checked)
        places = flickr30k_sources.bring(offer.pictures, kept, archives.check)
        if checked is None:
            checked = _checked(flickr30k_sources.captions_of(offer, kept / "captions", places), job)
            _require_disk(job, offer, checked)
        plan = Plan(job.out, checked.sorted(), job.side)
        plan.fill(places, job.workers or _cores())
        return plan.finish(job.dataset, Path(offer.name).name if isinstance(offer.pictures[0], Path) else offer.name)
    except Damaged as error:
        if error.path is None or job.out / "downloads" not in error.path.parents:
            raise
        error.path.unlink(missing_ok=True)
        raise BuildError(f"{error} It was deleted: run the same command again and it is fetched anew.") from error


def _captions(job: Job, offer: Offer) -> Path | None:
    """The caption file; None where it comes in the same archive as the pictures and that is still to be fetched."""
    kept = _downloads(job.out, offer)
    here = [one for one in offer.pictures if isinstance(one, Path)]
    captions = flickr30k_sources.captions_of(offer, kept / "captions", here)
    if captions is None and job.captions:  # named with --captions, but inside an archive
        places = flickr30k_sources.bring(offer.pictures, kept, archives.check)
        captions = flickr30k_sources.captions_of(offer, kept / "captions", places)
    return captions


def _downloads(out: Path, offer: Offer) -> Path:
    """Where what comes from a source is kept: a folder for each, so that two sources are never mixed."""
    short = re.sub(r"\W+", "-", offer.name).strip("-")[-40:]
    return out / "downloads" / f"{short}-{hashlib.sha256(offer.name.encode()).hexdigest()[:8]}"


def _keep_apart(out: Path, offer: Offer) -> None:
    if not offer.pictures:
        raise BuildError(
            f"{offer.name} has captions but no pictures: give it as --captions, beside a --source with them."
        )
    out = out.resolve()
    for one in offer.pictures:
        place = one.resolve() if isinstance(one, Path) and one.is_dir() else None
        if place and (place == out or place in out.parents or out / "images" in (place, *place.parents)):
            raise BuildError(
                f"The source {one} and the folder {out} lie inside each other. Name another one with --out."
            )


def _checked(path: Path, job: Job) -> CaptionSet:
    """The captions, once they are found to be those of the set that is wanted."""
    try:
        captions = read_captions(path)
    except (ValueError, FileNotFoundError) as error:
        ours = job.out / "downloads" in path.parents and isinstance(error, ValueError)
        if ours:
            path.unlink(missing_ok=True)
        raise BuildError(f"{error}{' It was deleted, and is fetched anew next time.' if ours else ''}") from error
    try:
        check_set(captions, job.dataset, job.counts)
    except ValueError as error:
        raise BuildError(f"{path}: {error}") from error
    return captions


def _agree(job: Job, offer: Offer) -> None:
    """Say what this is, how big, and under which terms; go on only where that is accepted."""
    if job.dataset == "scenes":
        print(SCENES_TERMS)
        return
    size, remote = offer.bytes, any(not isinstance(one, Path) for one in offer.pictures)
    if job.dataset == "flickr30k":
        print(TERMS)
        kept = _needed(job, sum(COUNTS.values()))
    else:
        print(OTHER_TERMS.format(name=job.dataset))
        kept = None
    said = f"{size / 1e9:.2f} GB" if size else f"about {DOWNLOAD / 1e9:.1f} GB, the source does not say exactly"
    print(f"Source: {offer.name}" + (f"; it says of the licence: {offer.licence}" if offer.licence else ""))
    print(f"To fetch: {said if remote else 'nothing, it is on this machine'}.", end=" ")
    print(f"To keep on disk: {kept / 1e9:.1f} GB in {job.out}." if kept else f"It is written to {job.out}.")
    if job.accept:
        print("Accepted with --accept.")
        return
    try:
        answer = input("Do you accept these terms? Type yes to go on: ") if sys.stdin and sys.stdin.isatty() else None
    except EOFError:
        answer = ""
    if answer is None:
        raise BuildError("Nobody is there to ask. Read the terms above; if you accept them, add --accept.")
    if answer.strip().lower() != "yes":
        raise BuildError("Not accepted, so nothing was fetched.")


def _needed(job: Job, pictures: int) -> int:
    """Bytes that a prepared set of so many pictures takes on the disk."""
    each = job.side * job.side * 3 + JPEG_BYTES * job.side * job.side // 65536
    return pictures * (each + (JPEG_BYTES if job.shard else 0)) + 100_000_000


def _require_disk(job: Job, offer: Offer, captions: CaptionSet | None) -> None:
    pictures = sum(COUNTS.values()) if captions is None else len(captions.pictures)
    needed = _needed(job, pictures)
    here = sum(path.stat().st_blocks * 512 if hasattr(path.stat(), "st_blocks") else path.stat().st_size
               for path in job.out.rglob("*") if path.is_file())  # fmt: skip
    if any(not isinstance(one, Path) for one in offer.pictures):
        needed += offer.bytes or DOWNLOAD
    require_disk(job.out, max(needed - here, 50_000_000))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def main(arguments: list[str] | None = None) -> int:
    """Command line: see the top of this file. Returns 0, 2 after an error that it has explained, 130 when stopped."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", help="hf:OWNER/NAME, kaggle:OWNER/NAME, an http(s) address, a folder or an archive")
    parser.add_argument("--captions", help="caption file, or a source of one, where --source has none")
    parser.add_argument("--out", type=Path, help="folder to write (default: data/<set>, or $COURSE_DATA/<set>)")
    what = "what the captions must declare themselves to be; only sets of another name than flickr30k have other counts"
    parser.add_argument("--set", default="flickr30k", metavar="NAME", help=what)
    parser.add_argument("--side", type=int, default=256, help="shorter side in pixels (default 256)")
    what = "also write WebDataset shards of N pictures (default 1000)"
    parser.add_argument("--shards", type=int, nargs="?", const=1000, default=0, metavar="N", help=what)
    parser.add_argument("--workers", type=int, default=0, help="threads (default: one a core)")
    parser.add_argument("--accept", action="store_true", help="accept the terms that are shown, without being asked")
    parser.add_argument("--remove-downloads", action="store_true", help="delete what was fetched once all is finished")
    parser.add_argument("--verify", action="store_true", help="only compare a prepared folder with its hashes")
    chosen = parser.parse_args(arguments)
    if not 32 <= chosen.side <= 1024:
        parser.error("--side must lie between 32 and 1024")
    if chosen.workers < 0 or chosen.shards < 0:
        parser.error("--workers and --shards must be 0 or more")
    if not re.fullmatch(r"\w[\w.-]*", chosen.set):
        parser.error(f"--set is a name of letters, digits, points, - and _, such as scenes; not {chosen.set!r}")
    if "" in (chosen.source, chosen.captions):
        parser.error("--source and --captions cannot be empty: is a variable of your shell not set?")
    try:
        out = chosen.out or data_folder() / chosen.set
        if chosen.verify:
            number = flickr30k.verify(out, lambda files: tqdm(files, unit="file"))
            print(f"{out}: {number:,} files are as they were written.")
            return 0
        job = Job(
            chosen.source, out, chosen.set, chosen.captions, chosen.side, chosen.shards, chosen.workers, chosen.accept
        )
        manifest = prepare(job)
        if chosen.remove_downloads:
            shutil.rmtree(out / "downloads", ignore_errors=True)
    except (BuildError, FileNotFoundError, ValueError) as error:
        print(f"prepare_flickr30k: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(
            f"prepare_flickr30k: {error}. Mend this, then run the same command: it goes on from here.", file=sys.stderr
        )
        return 2
    except KeyboardInterrupt:
        print("\nStopped. Run the same command again: it goes on from here.", file=sys.stderr)
        return 130
    splits = ", ".join(f"{name} {stop - start:,}" for name, (start, stop) in manifest["splits"].items())
    print(
        f"{out}: {manifest['pictures']:,} pictures ({splits}), {manifest['captions']:,} captions, "
        f"{manifest['side']} px."
    )
    if (out / "downloads").is_dir():
        print(f"The download in {out / 'downloads'} is no longer needed; delete it if you want the space.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
