"""The reader of raw and prepared folders: rows, ids and pixels belong together, and bad folders say what is wrong."""

import json
import pickle

import numpy as np
import pytest
from PIL import Image

from course_utils.flickr30k import Flickr30k, centre_square, read_manifest, verify


@pytest.fixture()
def mini(script):
    return script("tests/miniature.py")


@pytest.fixture()
def prepared(mini, script, tmp_path):
    program = script("data_scripts/prepare_flickr30k.py")
    mini.folder(tmp_path / "raw")
    job = program.Job(str(tmp_path / "raw"), tmp_path / "ready", workers=2, accept=True, counts=mini.COUNTS)
    program.prepare(job)
    return tmp_path / "ready"


def test_rows_ids_texts_and_pixels_belong_together(prepared, mini):
    for split, count in mini.COUNTS.items():
        some = Flickr30k(prepared, split, counts=mini.COUNTS)
        assert len(some) == count and some.pixels.shape == (count, 256, 256, 3) and some.pixels.dtype == np.uint8
        assert some.owners.tolist() == np.repeat(np.arange(count), 5).tolist()
        for row, name in enumerate(some.filenames):
            k = mini.NAMES.index(name)
            assert mini.ORDER[k] == split and some.image_ids[row] == k
            assert [some.texts[m] for m in np.flatnonzero(some.owners == row)] == mini.CAPTIONS[name]
            assert some.caption_ids[some.owners == row].tolist() == list(range(5 * k, 5 * k + 5))
            with Image.open(prepared / "images" / name) as picture:
                whole = np.asarray(picture)
            assert min(whole.shape[:2]) == 256 and np.array_equal(some.picture(row), whole)
            top, left = (whole.shape[0] - 256) // 2, (whole.shape[1] - 256) // 2
            assert np.array_equal(some.pixels[row], whole[top : top + 256, left : left + 256])


def test_pixels_are_mapped_read_only_and_not_pickled(prepared, mini):
    some = Flickr30k(prepared, "train", counts=mini.COUNTS)
    assert isinstance(some.pixels, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        some.pixels[0] = 0
    content = pickle.dumps(some)
    assert len(content) < 20_000
    assert np.array_equal(pickle.loads(content).pixels[[3, 1]], some.pixels[[3, 1]])
    assert repr(some) == "Flickr30k(train: 8 pictures, 40 captions, prepared, 256 px)"


def test_a_raw_folder_is_read_too(mini, tmp_path):
    raw = Flickr30k(mini.folder(tmp_path / "raw"), "test", counts=mini.COUNTS)
    assert raw.filenames == [name for name, split in zip(mini.NAMES, mini.ORDER) if split == "test"]
    assert raw.picture(0).shape == (500, 375, 3)
    with pytest.raises(ValueError, match="is raw; run data_scripts/prepare_flickr30k.py"):
        _ = raw.pixels
    (tmp_path / "raw/images" / raw.filenames[1]).write_bytes(b"\xff\xd8 no picture")
    with pytest.raises(ValueError, match=rf"{raw.filenames[1]} is not a whole picture"):
        raw.picture(1)
    (tmp_path / "raw/images" / raw.filenames[1]).unlink()
    with pytest.raises(FileNotFoundError, match=rf"{raw.filenames[1]} is not in"):
        raw.picture(1)


def test_a_miniature_is_not_taken_for_flickr30k(prepared, tmp_path):
    for folder in (prepared, tmp_path / "raw"):
        with pytest.raises(ValueError, match="This is not the set flickr30k: it has train 8"):
            Flickr30k(folder)


def test_wrong_folders_and_splits(prepared, mini, tmp_path):
    with pytest.raises(ValueError, match="no split 'dev'; there are train, val, test"):
        Flickr30k(prepared, "dev", counts=mini.COUNTS)
    with pytest.raises(FileNotFoundError, match="is no folder. Prepare one"):
        Flickr30k(tmp_path / "gone")
    (tmp_path / "half/.unfinished").mkdir(parents=True)
    with pytest.raises(ValueError, match="was interrupted. Run the same command again"):
        Flickr30k(tmp_path / "half")


def test_changed_files_are_found(prepared, mini):
    assert verify(prepared) == 3 + len(mini.NAMES)
    picture = prepared / "images" / mini.NAMES[4]
    content = picture.read_bytes()
    picture.write_bytes(content[:-1] + b"x")
    with pytest.raises(ValueError, match=rf"{mini.NAMES[4]} was changed: its SHA-256 begins"):
        verify(prepared)
    picture.unlink()
    with pytest.raises(ValueError, match=rf"{mini.NAMES[4]} is missing"):
        verify(prepared)
    with (prepared / "pixels.npy").open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(ValueError, match=r"pixels.npy has [\d,]+ bytes, the manifest says"):
        Flickr30k(prepared, counts=mini.COUNTS)
    (prepared / "pixels.npy").unlink()
    with pytest.raises(ValueError, match="pixels.npy is missing"):
        read_manifest(prepared)


def test_bad_manifests(prepared):
    manifest = json.loads((prepared / "manifest.json").read_text())
    (prepared / "manifest.json").write_text(json.dumps(manifest | {"format": 99}))
    with pytest.raises(ValueError, match="prepared in format 99; this edition reads 1"):
        Flickr30k(prepared)
    (prepared / "manifest.json").write_text('{"format"')
    with pytest.raises(ValueError, match="manifest.json is damaged"):
        Flickr30k(prepared)


def test_centre_square():
    grid = np.arange(4 * 7 * 3).reshape(4, 7, 3)
    assert np.array_equal(centre_square(grid), grid[:, 1:5])
    assert np.array_equal(centre_square(grid.transpose(1, 0, 2)), grid.transpose(1, 0, 2)[1:5])
