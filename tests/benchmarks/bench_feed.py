"""How fast is a training fed? Run: python tests/benchmarks/bench_feed.py (about a minute)

`feed_uint8_vs_torchvision`: pictures a CPU-second on one core, `feed.Crops` on the prepared folder's uint8 memory map
(random crop, flip, scaling) against torchvision's transforms (v1) on JPEGs of 500x375, the usual training loader. Both
end in the same batch: images (B,3,224,224) float32, scaled with ImageNet's mean and deviation.
`feed_uint8_pictures_per_second`, `feed_torchvision_pictures_per_second`: the two rates by themselves.
`feed_uint8_vs_torchvision_as_bytes`: the same, but ours leaves pixels as bytes (B,3,224,224) uint8, as one would for a
GPU that scales them itself; torchvision as before.

Both sides read the same photograph-like JPEGs, the map as data_scripts/prepare_flickr30k.py made it from them. What
the same crops look like on both sides is compared first: pixel by pixel for one view of each picture, then mean and
deviation of the random batches. Files and map lie in the system's page cache: no disk is measured.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from _results import entry, write
from bench_prepare import ROOT, photographs
from PIL import Image
from torchvision import transforms

from course_utils.feed import MEAN, STD, Crops
from course_utils.flickr30k import Flickr30k

PICTURES, BATCH, REPETITIONS, SIDE = 512, 64, 7, 224
PACKAGES = ("numpy", "pillow", "torch", "torchvision")


def raw_folder(path):
    """A set of its own name in Karpathy's format: so many different pictures, and two of them in val and test."""
    (path / "images").mkdir(parents=True)
    images = []
    for k, content in enumerate(photographs(PICTURES)):
        (path / "images" / f"{k}.jpg").write_bytes(content)
        sentences = [
            {"tokens": ["a", "b"], "raw": f"Picture {k}, {j}.", "imgid": k, "sentid": 5 * k + j} for j in range(5)
        ]
        split = "train" if k < PICTURES - 2 else ("val", "test")[k % 2]
        images.append({"filename": f"{k}.jpg", "imgid": k, "split": split, "sentences": sentences})
    (path / "dataset_mini.json").write_text(json.dumps({"dataset": "mini", "images": images}), encoding="utf-8")


def order(generator, count):
    """Shuffled rows of `count` training pictures, in whole batches."""
    return np.split(generator.permutation(count)[: count // BATCH * BATCH], count // BATCH)


def usual(crop):
    """torchvision's transforms, version 1: shorter side 256, a crop, a flip, floats."""
    steps = [transforms.Resize(256), crop, transforms.RandomHorizontalFlip(), transforms.ToTensor()]
    return transforms.Compose([*steps, transforms.Normalize(MEAN, STD)])


def feed_files(folder, names, rows, transform):
    """Batches (B,3,224,224) float32 the usual way: open, decode, transform, stack."""
    images = []
    for row in rows:
        with Image.open(folder / names[row]) as picture:
            images.append(transform(picture.convert("RGB")))
    return torch.stack(images)


def same_pictures(data, raw):
    """Both sides see the same: the middle of each picture pixel by pixel, then the statistics of random batches."""
    plain = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(SIDE), transforms.ToTensor()])
    edge = (data.pixels.shape[1] - SIDE) // 2
    for row in range(16):
        ours = torch.from_numpy(data.pixels[row, edge : edge + SIDE, edge : edge + SIDE].copy()).permute(2, 0, 1) / 255
        theirs = feed_files(raw / "images", data.filenames, [row], plain)[0]
        assert (ours - theirs).abs().mean() < 0.02, f"picture {row} differs"  # the map went through one more JPEG
    found = {}
    for name, make in sides(data, raw).items():
        generator = np.random.default_rng(0)
        torch.manual_seed(0)
        whole = torch.cat([make(rows, generator).clone() for rows in order(generator, len(data))])
        if name == "bytes":
            whole = transforms.Normalize(MEAN, STD)(whole / 255)
        assert whole.shape[1:] == (3, SIDE, SIDE)
        found[name] = torch.stack([whole.mean(dim=(0, 2, 3)), whole.std(dim=(0, 2, 3))])
    assert torch.allclose(found["map"], found["bytes"], atol=1e-4)
    difference = (found["map"] - found["files"]).abs().max()
    assert difference < 0.05, found
    print(f"the same pictures: channel means and deviations differ by at most {difference:.3f}")


def sides(data, raw):
    """name -> function from rows and a generator to a batch of floats (B,3,224,224)."""
    random, crops = usual(transforms.RandomCrop(SIDE)), Crops(data.pixels, BATCH, SIDE)
    return {
        "map": crops.floats,
        "bytes": crops.bytes,
        "files": lambda rows, generator: feed_files(raw / "images", data.filenames, rows, random),
    }


def rate(make, batches, generator):
    """Pictures a CPU-second over these batches."""
    start = time.process_time()
    for rows in batches:
        make(rows, generator)
    return sum(map(len, batches)) / (time.process_time() - start)


def main():
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        raw, out = Path(folder, "raw"), Path(folder, "prepared")
        raw_folder(raw)
        command = [sys.executable, str(ROOT / "data_scripts" / "prepare_flickr30k.py"), "--accept", "--workers", "1"]
        command += ["--source", str(raw), "--out", str(out), "--set", "mini"]
        subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, check=True)
        data = Flickr30k(out, "train", dataset="mini")
        same_pictures(data, raw)
        rates = {name: [] for name in sides(data, raw)}
        for k in range(REPETITIONS):
            generator = np.random.default_rng(k)
            batches = order(generator, len(data))
            for name, make in sides(data, raw).items():  # interleaved: a busy minute slows all of them
                times = 1 if name == "files" else 12  # the map is so fast that one round would be too short to time
                rates[name].append(rate(make, batches * times, generator))
            print(f"{k + 1} of {REPETITIONS}: " + ", ".join(f"{name} {rates[name][-1]:,.0f}" for name in rates))
    ratios = {name: [ours / theirs for ours, theirs in zip(rates[name], rates["files"])] for name in ("map", "bytes")}
    unit, peer = "times the pictures a CPU-second", "torchvision v1 on 500x375 JPEG"
    one = "pictures a CPU-second, one core, 224 px"
    write(
        [
            entry("feed_uint8_vs_torchvision", ratios["map"], unit, peer, PACKAGES),
            entry("feed_uint8_vs_torchvision_as_bytes", ratios["bytes"], unit, peer, PACKAGES),
            entry("feed_uint8_pictures_per_second", rates["map"], one, packages=PACKAGES),
            entry("feed_torchvision_pictures_per_second", rates["files"], one, packages=PACKAGES),
        ]
    )
    assert statistics.median(ratios["map"]) >= 15, "the feed is not 15 times as fast"


if __name__ == "__main__":
    main()
