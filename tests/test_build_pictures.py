"""The program that builds pictures.parquet, on miniature packages: same bytes twice, rules obeyed, clear errors."""

import json
import shutil

import pyarrow.parquet as pq
import pytest

needs_rsvg = pytest.mark.skipif(not shutil.which("rsvg-convert"), reason="needs rsvg-convert")
DRAWING = (
    '<svg xmlns="http://www.w3.org/2000/svg" xmlns:rdf="r" xmlns:dc="d" xmlns:cc="c" width="40" height="40">'
    '<metadata><license rdf:resource="{licence}"/>'
    "<dc:title>{title}</dc:title><dc:creator><cc:Agent><dc:title>Ann Artist &lt;ann@example.org&gt;</dc:title>"
    "</cc:Agent></dc:creator><rdf:li>animal</rdf:li><rdf:li></rdf:li></metadata>"
    '<circle cx="20" cy="20" r="{radius}" fill="#0a0"/></svg>'
)
FREE, GPL = "http://web.resource.org/cc/PublicDomain", "http://creativecommons.org/licenses/GPL/2.0/"


@pytest.fixture()
def build(script, tmp_path, monkeypatch):
    program = script("data_scripts/build_pictures.py")
    monkeypatch.setattr(program, "CAPTIONS", tmp_path / "captions.csv")
    monkeypatch.setattr(program, "COPIES", tmp_path / "copies.csv")
    return program


@pytest.fixture()
def clipart(tmp_path):
    root = tmp_path / "clipart"
    for place, title, licence, radius in (
        ("animals/frog_ann_artist_01", "Clipart by Ann", FREE, 15),
        ("animals/newt_01", "Green Newt", FREE, 12),
        ("animals/twin_of_newt", "Green Newt again", FREE, 12),
        ("animals/owned_01", "Owned", GPL, 10),
        ("computer/icons/stop", "Stop", FREE, 9),
        ("animals/rude", "Rude", FREE, 7),
        ("animals/lucertola", "Lucertola", FREE, 5),
    ):
        path = root / f"{place}.svg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(DRAWING.format(title=title, licence=licence, radius=radius))
    (root / "animals/broken.svg").write_text(DRAWING.format(title="Broken", licence=FREE, radius=3)[:-20])
    return root


@pytest.fixture()
def moji(tmp_path):
    root = tmp_path / "package"
    (root / "data").mkdir(parents=True)
    (root / "color" / "svg").mkdir(parents=True)
    entries = []
    for code, caption, group, tone in (
        ("1F600", "grinning face", "smileys", ""),
        ("1F44B", "waving hand: dark skin tone", "people", 5),
        ("1F1E6", "flag: Andorra", "flags", ""),
        ("1F4A3", "bomb", "objects", ""),
        ("1F438", "frog", "animals", ""),
    ):
        size = 8 + len(entries)
        entries.append({"hexcode": code, "annotation": caption, "group": group, "subgroups": group, "skintone": tone})
        entries[-1] |= {"tags": "face, happy", "openmoji_tags": "happy", "openmoji_author": "Bo"}
        (root / f"color/svg/{code}.svg").write_text(DRAWING.format(title="", licence="", radius=size))
    (root / "data/openmoji.json").write_text(json.dumps(entries))
    return root


@needs_rsvg
def test_rules_tables_and_duplicates(build, clipart, moji, tmp_path):
    build.CAPTIONS.write_text("name,caption\nopenclipart/animals/rude,\nopenclipart/animals/lucertola,lizard\n")
    build.COPIES.write_text("left_out,copy_of,cosine\nopenmoji/1F438,animals/frog,0.9\n")
    assert build.build(clipart, moji, tmp_path / "pictures.parquet") == 4
    rows = {row["name"]: row for row in pq.read_table(tmp_path / "pictures.parquet").to_pylist()}
    captions = {name: row["caption"] for name, row in rows.items()}
    assert captions == {
        "openclipart/animals/frog_ann_artist_01": "frog",
        "openclipart/animals/lucertola": "lizard",
        "openclipart/animals/newt_01": "green newt",
        "openmoji/1F600": "grinning face",
    }
    frog, face = rows["openclipart/animals/frog_ann_artist_01"], rows["openmoji/1F600"]
    assert (frog["credit"], frog["licence"], frog["tags"]) == ("Ann Artist", "public domain", "animal")
    assert (face["credit"], face["licence"], face["tags"]) == ("Bo, OpenMoji", "CC BY-SA 4.0", "face, happy")


@needs_rsvg
def test_two_builds_agree_bit_for_bit(build, clipart, moji, tmp_path):
    outs = [tmp_path / "one" / "pictures.parquet", tmp_path / "two" / "pictures.parquet"]
    for out in outs:
        out.parent.mkdir()
        arguments = ["--openclipart", str(clipart), "--openmoji", str(moji), "--out", str(out)]
        assert build.main(arguments) == 0
    assert outs[0].read_bytes() == outs[1].read_bytes()


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("rubberDuck_01", "rubber duck"),
        ("Croissant (B and W)", "black and white croissant"),
        ("dog &amp; bone", "dog & bone"),
        ("tigre04", "tigre"),
        ("simple tree icon", "tree"),
    ],
)
def test_titles_are_cleaned(build, text, cleaned):
    assert build.words(text) == cleaned


def test_other_folders_are_refused(build, clipart, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    for arguments, says in (
        (["--openclipart", str(tmp_path / "empty"), "--openmoji", str(tmp_path)], "is no openclipart folder"),
        (["--openclipart", str(clipart), "--openmoji", str(tmp_path / "empty")], "is no OpenMoji folder"),
    ):
        assert build.main([*arguments, "--out", str(tmp_path / "x.parquet")]) == 2
        message = capsys.readouterr().err
        assert says in message or "rsvg-convert was not found" in message
    assert not (tmp_path / "x.parquet").exists()
