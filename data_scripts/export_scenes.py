"""Write scenes in Flickr30k's own format: images/, Karpathy's JSON, five captions a picture, three splits.

    python data_scripts/export_scenes.py                       # 6,500 pictures of one to four stamps, 224 px
    python data_scripts/export_scenes.py --train 20000 --size 256 --seed 1 --out FOLDER

The JSON declares `"dataset": "scenes"`, so nothing takes it for Flickr30k. The same arguments give the same bytes, and
a longer export begins with the shorter one's pictures. No full caption occurs twice, in whichever split. Captions that
leave out sizes or relations may, and "a big boot" is also true of a fuller scene with a big boot: as on Flickr30k, some
wrong answers are right. An entry's `scene` is the item's number: `Scenes(seed, part, config)[scene]` has its masks,
relations and foils. Nothing of this belongs into git.
"""

import argparse
import hashlib
import io
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from packing import BuildError, alone, data_folder, require_disk
from PIL import Image
from resizing import write_text
from tqdm import tqdm

from course_utils import grammar
from course_utils.scenes import SceneConfig, Scenes

QUALITY = 95  # of the JPEG; stamps have hard edges
CAPTION_FILE = "dataset_scenes.json"
DEFAULTS = {"train": 5_000, "val": 500, "test": 1_000}
REPEATS = 10_000  # scenes in a row that say what another said before: then there are no more


def chosen(scenes: Scenes, count: int) -> Iterator[int]:
    """The first `count` items whose full caption was not there before. Raises BuildError where there are fewer."""
    seen: set[frozenset[str]] = set()
    index = repeats = 0
    while len(seen) < count:
        # Told from the first object or from the last: two captions, one scene.
        claim = frozenset(scenes.captions([index], k)[0] for k in (0, 1))
        if claim in seen:
            repeats += 1
            if repeats == REPEATS:
                raise BuildError(
                    f"There are only {len(seen):,} different {scenes.part} scenes of that kind, not {count:,}. Ask for "
                    "fewer, or for more objects in a scene (--counts)."
                )
        else:
            seen.add(claim)
            repeats = 0
            yield index
        index += 1


def export(out: Path, counts: dict[str, int], config: SceneConfig, seed: int = 0) -> Path:
    """Write the scenes into `out` and return the path of the caption file, which is written last.

    Pictures that are there already from an interrupted run with the same arguments are kept. Where another run is
    writing them, it is waited for.
    """
    with alone(out):
        return _export(out, counts, config, seed)


def _export(out: Path, counts: dict[str, int], config: SceneConfig, seed: int) -> Path:
    about = {"seed": seed, "size": config.size, "counts": list(config.counts), "background": config.background}
    about |= {"objects": list(config.objects), "quality": QUALITY}
    settings = json.dumps(about | {"splits": counts}, sort_keys=True)
    target, note, images = out / CAPTION_FILE, out / "scenes.json", out / "images"
    if images.is_dir() and any(images.iterdir()):
        if not note.is_file() or note.read_text(encoding="utf-8") != settings:
            raise BuildError(f"{out} holds other pictures. Name another folder with --out, or delete this one.")
        if target.is_file():
            return target
    require_disk(out, 30_000_000 + sum(counts.values()) * config.size * config.size)
    images.mkdir(parents=True, exist_ok=True)
    write_text(note, settings)
    entries: list[dict] = []
    with tqdm(total=sum(counts.values()), unit="scene", desc="Scenes") as bar:
        for part, count in counts.items():
            scenes = Scenes(seed, part, config)
            for k, index in enumerate(chosen(scenes, count)):
                name = f"{part}_{k:06d}.jpg"
                if not (images / name).is_file():
                    _picture(scenes, index, out / "picture.draft", images / name)
                entries.append(_entry(scenes, index, name, len(entries)))
                bar.update()
    (out / "picture.draft").unlink(missing_ok=True)
    content = {"images": entries, "dataset": "scenes", "about": about}
    write_text(target, json.dumps(content, ensure_ascii=False, separators=(",", ":")))
    return target


def _picture(scenes: Scenes, index: int, draft: Path, path: Path) -> None:
    stream = io.BytesIO()
    Image.fromarray(scenes.images([index])[0]).save(stream, "JPEG", quality=QUALITY, subsampling=0)
    try:
        draft.write_bytes(stream.getvalue())
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)  # of a full disk


def _entry(scenes: Scenes, index: int, name: str, number: int) -> dict:
    """One picture as Karpathy's JSON has it, and the number of its scene."""
    sentences = []
    for k in range(grammar.CAPTIONS):
        raw = scenes.captions([index], k)[0]
        sentid = grammar.CAPTIONS * number + k
        sentences.append({"tokens": list(grammar.words_of(raw)), "raw": raw, "imgid": number, "sentid": sentid})
    sentids = [one["sentid"] for one in sentences]
    entry = {"sentids": sentids, "imgid": number, "sentences": sentences, "split": scenes.part, "filename": name}
    return entry | {"scene": index}


def main(arguments: list[str] | None = None) -> int:
    """Command line: see the top of this file. Returns 0, 2 after an error that it has explained, 130 when stopped."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for split, number in DEFAULTS.items():
        parser.add_argument(f"--{split}", type=int, default=number, help=f"pictures of that split (default {number:,})")
    parser.add_argument("--size", type=int, default=224, help="side of a picture in pixels (default 224)")
    parser.add_argument("--counts", type=int, nargs=2, default=(1, 4), help="fewest and most stamps (default 1 4)")
    parser.add_argument("--seed", type=int, default=0, help="which scenes (default 0)")
    parser.add_argument("--out", type=Path, help="folder to write (default: data/scenes_raw, or below $COURSE_DATA)")
    options = parser.parse_args(arguments)
    counts = {split: getattr(options, split) for split in DEFAULTS}
    started = time.perf_counter()
    try:
        out = options.out or data_folder() / "scenes_raw"
        if min(counts.values()) < 1:
            raise BuildError("Each split needs one picture or more.")
        if not 32 <= options.size <= 1024:
            raise BuildError(f"--size {options.size} must lie between 32 and 1024, as --side of the preparation.")
        if options.seed < 0:
            raise BuildError(f"--seed {options.seed} must be 0 or more.")
        target = export(out, counts, SceneConfig(size=options.size, counts=tuple(options.counts)), options.seed)
    except (BuildError, ValueError) as error:
        print(f"export_scenes: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"export_scenes: {error}. Mend this, then run the same command: it goes on from here.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nStopped. Run the same command again: it goes on from here.", file=sys.stderr)
        return 130
    digest = hashlib.sha256(target.read_bytes()).hexdigest()
    print(f"{target}: {sum(counts.values()):,} scenes in {time.perf_counter() - started:.0f} s, SHA-256 {digest[:16]}.")
    print(f"Next: python data_scripts/prepare_flickr30k.py --source {out} --set scenes --side {options.size}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
