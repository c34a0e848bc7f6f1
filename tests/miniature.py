"""A miniature of Flickr30k in the exact formats: pictures of many kinds, Karpathy's JSON, the CSV, the token file."""

import csv
import io
import json
import tarfile
import zipfile

import numpy as np
from PIL import Image

COUNTS = {"train": 8, "val": 2, "test": 3}
ORDER = ["train", "test", "train", "train", "val", "train", "test", "train", "train", "val", "train", "test", "train"]
NAMES = [f"{1000092795 + 31 * k}.jpg" for k in range(len(ORDER))]
CAPTIONS = {
    name: [f"Caption {j} of picture {k}, “quoted”; two men ." for j in range(5)] for k, name in enumerate(NAMES)
}


def jpeg(seed, size=(500, 375), mode="RGB", **options):
    """A smooth coloured picture with some grain."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    stream = io.BytesIO()
    small.resize(size, Image.Resampling.BICUBIC).convert(mode).save(stream, options.pop("format", "JPEG"), **options)
    return stream.getvalue()


def pictures():
    """Name -> bytes: landscape, portrait, tiny, large, panorama, grey, CMYK, progressive, a PNG under a wrong name."""
    kinds = [{}, {"size": (375, 500)}, {"size": (120, 90)}, {"size": (2400, 1700)}, {"size": (500, 40)}, {"mode": "L"}]
    kinds += [{"mode": "CMYK"}, {"progressive": True}, {"mode": "P", "format": "PNG"}, {"size": (256, 256)}]
    kinds += [{"size": (341, 256)}, {"size": (499, 333)}, {"size": (333, 499)}]
    return {name: jpeg(k, **kind) for k, (name, kind) in enumerate(zip(NAMES, kinds))}


def karpathy(dataset="flickr30k"):
    """dataset_flickr30k.json."""
    images = []
    for k, (name, split) in enumerate(zip(NAMES, ORDER)):
        sentences = [
            {"tokens": text.lower().split(), "raw": text, "imgid": k, "sentid": 5 * k + j}
            for j, text in enumerate(CAPTIONS[name])
        ]
        sentids = [one["sentid"] for one in sentences]
        images.append({"sentids": sentids, "imgid": k, "sentences": sentences, "split": split, "filename": name})
    return json.dumps({"images": images, "dataset": dataset}).encode()


def hub_csv():
    """flickr_annotations_30k.csv."""
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerow(["raw", "sentids", "split", "filename", "img_id"])
    for k, (name, split) in enumerate(zip(NAMES, ORDER)):
        numbers = json.dumps(list(range(5 * k, 5 * k + 5)))
        writer.writerow([json.dumps(CAPTIONS[name]), numbers, split, name, k])
    return stream.getvalue().encode()


def token():
    """results_20130124.token and the lists of the split; the token file has one picture that no list has."""
    names = [*NAMES, "9999999999.jpg"]
    lines = [f"{name}#{j}\t{text}" for name in names for j, text in enumerate(CAPTIONS.get(name, ["No.", "Not."]))]
    files = {"results_20130124.token": ("\n".join(lines) + "\n").encode()}
    for split in COUNTS:
        files[f"{split}.txt"] = "".join(f"{name}\n" for name, one in zip(NAMES, ORDER) if one == split).encode()
    return files


def zipped(files):
    """Zip bytes; `files`: name -> bytes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def tarred(files, mode="w"):
    """Tar bytes, "w" plain or "w:gz" compressed."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:
        for name, content in files.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))
    return stream.getvalue()


def folder(path, captions=None):
    """A raw folder: images/ and a caption file (Karpathy's, or `captions`: name -> bytes)."""
    (path / "images").mkdir(parents=True)
    for name, content in pictures().items():
        (path / "images" / name).write_bytes(content)
    for name, content in ({"dataset_flickr30k.json": karpathy()} if captions is None else captions).items():
        (path / name).write_bytes(content)
    return path
