"""What does preparing Flickr30k cost? Run: python tests/benchmarks/bench_prepare.py (about five minutes)

`prepare_memory`: peak resident memory of the whole program, 5,000 pictures of 500x375 from a zip, in megabytes.
`prepare_memory_growth`: what 1,000 more pictures add to it, measured between 1,250 and 5,000.
`prepare_memory_31014`: both together, carried on to the number of pictures that Karpathy's split has.
`prepare_pictures_per_second`: pictures a CPU-second, reading, resizing, encoding and the cache included.

Each sample is a fresh process with two threads. The pictures are made here, with the grain and size of photographs.
"""

import io
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from _results import entry, write
from PIL import Image, ImageFilter

ROOT = Path(__file__).resolve().parent.parent.parent
FEW, MANY, ALL, REPETITIONS = 1_250, 5_000, 31_014, 5
RUN = """
import resource, sys, time
import prepare_flickr30k
before = time.process_time()
code = prepare_flickr30k.main(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, time.process_time() - before)
sys.exit(code)
"""


def photographs(number=32):
    """Encoded pictures: colours that change slowly, with grain; two in three are landscape."""
    rng = np.random.default_rng(0)
    for k in range(number):
        size = (500, 375) if k % 3 else (375, 500)
        smooth = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize(
            size, Image.Resampling.BICUBIC
        )
        grain = np.clip(np.asarray(smooth, np.float32) + rng.normal(0, 14, (*size[::-1], 3)), 0, 255)
        stream = io.BytesIO()
        Image.fromarray(grain.astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.7)).save(stream, "JPEG", quality=92)
        yield stream.getvalue()


def archive(path, count):
    """A zip of `count` pictures and their captions, with tokens as Karpathy has them; a set of its own name."""
    some, images = list(photographs()), []
    with zipfile.ZipFile(path, "w") as file:
        for k in range(count):
            file.writestr(f"flickr30k-images/{k}.jpg", some[k % len(some)])
            texts = [f"Two young men stand near a stove and look at number {j} of picture {k}." for j in range(5)]
            sentences = [
                {"tokens": text.lower().strip(".").split(), "raw": text, "imgid": k, "sentid": 5 * k + j}
                for j, text in enumerate(texts)
            ]
            images.append({"filename": f"{k}.jpg", "imgid": k, "split": "train", "sentences": sentences})
        file.writestr("dataset_mini.json", json.dumps({"dataset": "mini", "images": images}))


def prepared(source, out):
    """(peak megabytes, CPU seconds) of one run."""
    command = [sys.executable, "-c", RUN, "--source", str(source), "--out", str(out), "--set", "mini", "--accept"]
    paths = {"PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "data_scripts")))}
    done = subprocess.run(
        [*command, "--workers", "2"], env=os.environ | paths, capture_output=True, text=True, check=True
    )
    megabytes, seconds = done.stdout.splitlines()[-1].split()
    return float(megabytes), float(seconds)


def main():
    peaks, growth, whole, speed = [], [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for count in (FEW, MANY):
            archive(Path(folder, f"{count}.zip"), count)
        for k in range(REPETITIONS):
            few, _ = prepared(Path(folder, f"{FEW}.zip"), Path(folder, f"few{k}"))
            many, seconds = prepared(Path(folder, f"{MANY}.zip"), Path(folder, f"many{k}"))
            peaks.append(many)
            growth.append((many - few) / (MANY - FEW) * 1_000)
            whole.append(many + growth[-1] * (ALL - MANY) / 1_000)
            speed.append(MANY / seconds)
    write(
        [
            entry("prepare_memory", peaks, "MB at 5,000 pictures, two threads"),
            entry("prepare_memory_growth", growth, "MB for 1,000 more pictures"),
            entry("prepare_memory_31014", whole, "MB at 31,014 pictures, carried on"),
            entry("prepare_pictures_per_second", speed, "pictures a CPU-second, 500x375"),
        ]
    )


if __name__ == "__main__":
    main()
