"""The program that builds stamps.parquet, on a miniature stamps folder: same bytes twice, and clear errors."""

import io
import shutil
import subprocess

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from PIL import Image

SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="40" height="20"><circle cx="10" cy="10" r="8" fill="#00f"/></svg>'
needs_programs = pytest.mark.skipif(
    not (shutil.which("rsvg-convert") and shutil.which("opusenc")), reason="needs rsvg-convert and opusenc"
)


@pytest.fixture()
def build(script):
    return script("data_scripts/build_stamps.py")


@pytest.fixture()
def packing(script):
    return script("data_scripts/packing.py")


def add(root, name, caption, colour=(200, 30, 30, 255), alpha=True):
    """A stamp: an ellipse with holes around it, and its captions."""
    picture = root / f"{name}.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((60, 90, 4), np.uint8)
    rows, columns = np.ogrid[:60, :90]
    pixels[((rows - 30) / 20) ** 2 + ((columns - 45) / 40) ** 2 < 1] = colour
    Image.fromarray(pixels if alpha else pixels[:, :, :3]).save(picture)
    picture.with_suffix(".txt").write_text(f"{caption}\nfr.utf8=Un truc.\npt_BR.utf8=Uma coisa.\n", encoding="utf-8")
    return picture


@pytest.fixture()
def folder(tmp_path):
    """Four stamps, one of them an SVG, a spoken caption, a sound, and two glyphs that must not come along."""
    root = tmp_path / "stamps"
    pig = add(root, "animals/pig1", "A small pig.")
    add(root, "animals/pig2", "A second pig that is only a number away.", (30, 200, 30, 255))
    add(root, "town/house", "A house.", (90, 90, 90, 255))
    add(root, "symbols/alphabets/english/a", "A")
    add(root, "symbols/math/1", "One.")
    (root / "animals/dot.svg").write_text(SVG)
    (root / "animals/dot.txt").write_text("A dot.\n")
    time = np.arange(22_050) / 44_100
    tone = 0.5 * np.sin(2 * np.pi * 440 * time)
    for ending in ("_desc_fr.ogg", ".ogg"):
        target = pig.with_name("pig1" + ending)
        soundfile.write(target, np.stack([tone, tone], 1), 44_100, format="OGG", subtype="VORBIS")
    soundfile.write(root / "town/house.ogg", np.zeros((4_410, 1)), 44_100, format="OGG", subtype="VORBIS")
    return root


@needs_programs
def test_two_builds_agree_bit_for_bit(build, folder, tmp_path, capsys):
    outs = [tmp_path / "one" / "stamps.parquet", tmp_path / "two" / "stamps.parquet"]
    for out in outs:
        out.parent.mkdir()
        assert build.main(["--folder", str(folder), "--out", str(out)]) == 0
    assert outs[0].read_bytes() == outs[1].read_bytes()
    assert (outs[0].parent / "manifest.toml").read_text() == (outs[1].parent / "manifest.toml").read_text()
    assert sorted(path.name for path in outs[0].parent.iterdir()) == ["manifest.toml", "stamps.parquet"]
    assert "4 stamps" in capsys.readouterr().out


@needs_programs
def test_the_table_says_what_the_folder_says(build, folder, tmp_path):
    rows = {row["name"]: row for row in build.build(folder, tmp_path / "stamps.parquet").to_pylist()}
    assert list(rows) == ["animals/dot", "animals/pig1", "animals/pig2", "town/house"]
    pig, dot = rows["animals/pig1"], rows["animals/dot"]
    assert (pig["noun"], pig["caption_fr"], pig["caption_pt_br"], pig["caption_ja"]) == (
        "pig",
        "Un truc.",
        "Uma coisa.",
        None,
    )
    assert (pig["category"], pig["source"], dot["medium"]) == ("animals", "animals/pig1.png", "drawing")
    assert pig["group"] == rows["animals/pig2"]["group"] != dot["group"]
    assert pig["fold"] == rows["animals/pig2"]["fold"]
    assert 178 <= dot["width"] == dot["height"] <= 182  # 16 of the drawing's 40 units, drawn 448 pixels wide
    circle = np.asarray(Image.open(io.BytesIO(dot["picture"]["bytes"])).convert("RGBA"))
    assert abs((circle[:, :, 3] > 127).mean() - np.pi / 4) < 0.02
    samples, rate = soundfile.read(io.BytesIO(pig["speech_fr"]["bytes"]))
    spectrum = np.abs(np.fft.rfft(samples))
    assert rate == 16_000 and abs(len(samples) / rate - 0.5) < 0.05
    assert abs(spectrum.argmax() * rate / len(samples) - 440) < 5
    assert dot["speech_fr"] is None and pig["sound"] is not None
    assert rows["town/house"]["sound"] is None  # the file is there, but silent


@needs_programs
def test_it_takes_an_unpacked_package_too(build, folder, tmp_path):
    inside = tmp_path / "package" / "usr" / "share" / "tuxpaint"
    inside.mkdir(parents=True)
    folder.rename(inside / "stamps")
    assert build.build(tmp_path / "package", tmp_path / "stamps.parquet").num_rows == 4


def truncate(folder):
    picture = folder / "animals/pig1.png"
    picture.write_bytes(picture.read_bytes()[:150])


def no_alpha(folder):
    add(folder, "animals/pig1", "A pig.", alpha=False)


def empty(folder):
    add(folder, "animals/pig1", "A pig.", colour=(0, 0, 0, 0))


def no_caption(folder):
    (folder / "animals/pig1.txt").write_text("fr.utf8=Un cochon.\n")


def latin(folder):
    (folder / "animals/pig1.txt").write_bytes("Ein Rüssel.\n".encode("latin-1"))


def bad_svg(folder):
    (folder / "animals/dot.svg").write_text("<svg><rect")


def bad_sound(folder):
    (folder / "animals/pig1.ogg").write_bytes(b"no sound")


@needs_programs
@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (truncate, r"pig1\.png is not a whole picture.*Fetch the package again"),
        (no_alpha, r"pig1\.png has no transparent pixel, so it gives no mask"),
        (empty, r"pig1\.png is fully transparent.*no mask"),
        (no_caption, r"pig1\.txt does not begin with an English caption"),
        (latin, r"pig1\.txt is not UTF-8 text"),
        (bad_svg, r"rsvg-convert cannot draw .*dot\.svg"),
        (bad_sound, r"pig1\.ogg cannot be decoded"),
    ],
)
def test_a_bad_file_is_one_clear_error_and_leaves_the_old_data(build, packing, folder, tmp_path, spoil, says):
    out = tmp_path / "out" / "stamps.parquet"
    out.parent.mkdir()
    out.write_bytes(b"old")
    spoil(folder)
    with pytest.raises(packing.BuildError, match=says):
        build.build(folder, out)
    assert [path.name for path in out.parent.iterdir()] == ["stamps.parquet"] and out.read_bytes() == b"old"


def test_another_folder_is_refused(build, tmp_path, capsys):
    (tmp_path / "letters").mkdir()
    assert build.main(["--folder", str(tmp_path / "letters"), "--out", str(tmp_path / "x.parquet")]) == 2
    assert "is no stamps folder" in capsys.readouterr().err
    assert build.main(["--folder", str(tmp_path / "gone"), "--out", str(tmp_path / "x.parquet")]) == 2


def test_a_missing_program_names_its_package(build, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert build.main(["--folder", str(folder), "--out", str(tmp_path / "x.parquet")]) == 2
    assert "rsvg-convert was not found. Install it first: apt-get install librsvg2-bin" in capsys.readouterr().err
    assert build.main(["--out", str(tmp_path / "x.parquet")]) == 2
    assert "apt-get was not found" in capsys.readouterr().err


def test_a_package_that_cannot_be_fetched_is_explained(packing, tmp_path, monkeypatch):
    failed = subprocess.CompletedProcess([], 100, "", "E: Unable to locate package")
    monkeypatch.setattr(packing, "require_program", lambda name, package: name)
    monkeypatch.setattr(packing.subprocess, "run", lambda *args, **kwargs: failed)
    with pytest.raises(packing.BuildError, match="could not download.*Unable to locate.*apt-get update"):
        packing.fetch_debian("tuxpaint-stamps-default", tmp_path)


def test_a_full_disk_is_noticed_before_the_work(build, packing, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(packing.shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(10**9, 10**9, 10**6))
    assert build.main(["--folder", str(folder), "--out", str(tmp_path / "new" / "x.parquet")]) == 2
    assert "has 1 MB free, but this step needs 50 MB" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_nothing_half_written_stays_when_writing_breaks(build, packing, tmp_path, monkeypatch):
    out = tmp_path / "stamps.parquet"
    out.write_bytes(b"old")

    def broken(table, path, **kwargs):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(packing.pq, "write_table", broken)
    table = packing.pa.table({"name": ["a"]})
    with pytest.raises(OSError, match="disk full"):
        packing.write_parquet(table, out)
    assert [path.name for path in tmp_path.iterdir()] == ["stamps.parquet"] and out.read_bytes() == b"old"


@pytest.mark.parametrize(
    ("caption", "noun"),
    [
        ("A crow.", "crow"),
        ("An electric bass guitar.", "electric bass guitar"),
        ("A very small pumpkin.", "pumpkin"),
        ("The Sun.", "sun"),
        ("A knight’s helmet.", "knight’s helmet"),
        ("A pair of glasses.", None),
        ("A spider playing soccer.", None),
        ("A ginger 'root'.", None),
        ("Eat your broccoli!", None),
        ("A hat worn by a university student.", None),
    ],
)
def test_bare_nouns(build, caption, noun):
    assert build.bare_noun(caption) == noun


def test_look_alikes_follow_rule_and_eye(build):
    names = ["a/cat-1", "a/cat2", "a/eye_left", "a/eye_right", "b/cat", "b/dog", "b/hound", "b/1", "b/2"]
    captions = ["One.", "Two.", "L.", "R.", "Other cat.", "Woof!", "woof", "First.", "Second."]
    groups = build.look_alikes(names, captions, [("b/cat", "a/cat-1"), ("b/cat", "gone")])
    assert groups == [0, 0, 1, 1, 0, 2, 2, 3, 4]


def test_folds_keep_groups_whole_and_categories_even(build):
    groups = [0] * 6 + list(range(1, 45))
    categories = ["x"] * 25 + ["y"] * 25
    folds = build.deal_folds(groups, categories)
    assert len(set(folds[:6])) == 1
    assert [folds.count(number) for number in range(5)] == [10] * 5 or max(map(folds.count, range(5))) <= 11
    assert all(4 <= folds[25:].count(number) <= 6 for number in range(5))


def test_the_written_file_carries_the_features_of_datasets(packing, tmp_path):
    table = packing.pa.table(
        {"name": ["a"], "picture": packing.pa.array([{"bytes": b"1", "path": "a"}], packing.MEDIA)}
    )
    packing.write_parquet(packing.with_features(table, ["picture"], []), tmp_path / "x.parquet")
    note = pq.read_schema(tmp_path / "x.parquet").metadata[b"huggingface"]
    assert (
        note
        == b'{"info": {"features": {"name": {"dtype": "string", "_type": "Value"}, "picture": {"_type": "Image"}}}}'
    )
