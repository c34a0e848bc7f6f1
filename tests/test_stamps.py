"""The embedded data: complete, readable by anybody, true to the manifest, and split without leaks."""

import hashlib
import io
import re
import shutil
import tomllib

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import soundfile
from PIL import Image

from course_utils import stamps

RECORDED = {"speech_fr": 723, "speech_en": 65, "sound": 105}
FOLDERS = set(
    "animals clothes food hobbies household medical military naturalforces people plants seasonal space sports symbols "
    "town vehicles".split()
)


@pytest.fixture(scope="module")
def table():
    return stamps.load()


@pytest.fixture(scope="module")
def pictures():
    return stamps.load("pictures")


def opaque(mode="RGB", alpha=255):
    stream = io.BytesIO()
    Image.new("RGBA", (6, 4), (200, 10, 10, alpha)).convert(mode).save(stream, "PNG")
    return stream.getvalue()


def test_there_are_748_stamps_and_none_is_a_letter_digit_coin_or_note(table):
    assert len(table) == 748 and table.name.is_unique and table.name.is_monotonic_increasing
    assert set(table.category) == FOLDERS
    assert not table.name.str.contains(r"alphabets|math/\d|coins|japanese|music/(?:note|rest)").any()
    assert (table.source.str.replace(r"\.(?:png|svg)$", "", regex=True) == table.name).all()


def test_captions_are_nearly_complete_in_many_languages(table):
    shares = {language: stamps.captions(language).notna().mean() for language in stamps.languages()}
    nearly = [language for language, share in shares.items() if share >= 0.98]
    assert shares["en"] == 1 and len(nearly) >= 10
    assert {"ja", "ru", "es", "fr", "de"} <= set(nearly)
    assert min(shares["zh_cn"], shares["zh_tw"], shares["ar"]) > 0.7
    assert stamps.captions("fr")[table.name == "animals/birds/crow"].item() == "Un corbeau."
    assert stamps.captions("pt-BR").equals(table.caption_pt_br.rename("caption_pt_br"))


def test_nouns_are_short_bare_names(table):
    nouns = table.noun.dropna()
    assert 380 <= len(nouns) <= 540
    assert nouns.str.fullmatch(r"[^\W_][\w'’-]*( [\w'’-]+){0,2}").all()
    assert not nouns.str.match(r"(?:a|an|the|small|big|medium|little|large) ").any()
    assert table.set_index("name").noun["animals/birds/crow"] == "crow"


def test_medium_was_decided_for_every_stamp(table, root):
    decided = pd.read_csv(root / "data_scripts" / "stamps_medium.csv").set_index("name").medium
    assert decided.index.tolist() == table.name.tolist()
    assert decided.tolist() == table.medium.tolist() and set(table.medium) == {"photo", "drawing"}
    assert table.set_index("name").medium[["animals/birds/crow", "animals/birds/cartoon/tux"]].tolist() == [
        "photo",
        "drawing",
    ]


def test_every_picture_has_a_mask_and_the_size_it_claims(table):
    for position, row in enumerate(table.to_dict("records")):
        inside = stamps.mask(row)
        assert inside.shape == (row["height"], row["width"]) and max(inside.shape) <= 226
        assert 0 < inside.mean() < 1
        if position % 5 == 0:  # against Pillow alone
            decoded = np.asarray(Image.open(io.BytesIO(row["picture"])).convert("RGBA"))  # (H,W,4)
            assert (inside == (decoded[:, :, 3] > 127)).all()


def test_a_scaled_picture_keeps_its_shape_and_its_edge_colour():
    red = np.zeros((40, 80, 4), np.uint8)
    red[10:30, 20:60] = (255, 0, 0, 255)  # invisible pixels are black: they must not darken the edge
    stream = io.BytesIO()
    Image.fromarray(red).save(stream, "PNG")
    small = stamps.picture(stream.getvalue(), 20)
    assert small.shape == (10, 20, 4) and small.dtype == np.uint8
    seen = small[small[:, :, 3] > 16]
    assert (seen[:, 0] > 240).all() and (seen[:, 1:3] < 15).all()


@pytest.mark.parametrize("column", RECORDED)
def test_recordings_decode_at_16_khz(table, column):
    have = table[table[column].notna()]
    assert len(have) == RECORDED[column]
    for row in have.iloc[:: max(1, len(have) // 15)].to_dict("records"):
        samples, rate = stamps.sound(row) if column == "sound" else stamps.speech(row, column[-2:])
        assert rate == 16_000 and samples.dtype == np.float32 and samples.ndim == 1
        assert samples.size > 1_600 and 0.01 < np.abs(samples).max() <= 1
        with soundfile.SoundFile(io.BytesIO(row[column])) as file:
            assert (file.format, file.subtype, file.channels) == ("OGG", "OPUS", 1)


def test_the_non_free_sound_is_left_out(table):
    row = table[table.name == "vehicles/emergency/firetruck"].iloc[0]
    with pytest.raises(ValueError, match="has no sound effect; 105"):
        stamps.sound(row)


def test_test_sets_partition_the_stamps_and_groups_never_leak(table):
    groups = table.group.to_numpy()
    tests = [stamps.split(k).test for k in range(5)]
    assert np.array_equal(np.sort(np.concatenate(tests)), np.arange(748))
    assert max(map(len, tests)) - min(map(len, tests)) <= 2
    for k in range(5):
        parts = stamps.split(k)
        positions = np.concatenate([parts.train, parts.val, parts.test])
        assert np.array_equal(np.sort(positions), np.arange(748))
        for one, other in ((parts.train, parts.val), (parts.train, parts.test), (parts.val, parts.test)):
            assert not set(groups[one]) & set(groups[other])
            assert not set(table.caption.iloc[one]) & set(table.caption.iloc[other])
            assert not set(table.picture.iloc[one]) & set(table.picture.iloc[other])


def test_groups_hold_twins_and_keep_strangers_apart(table):
    group = table.set_index("name").group
    for one, other in (
        ("seasonal/hanukkah/dreydl", "seasonal/hanukkah/dreydl-nun"),
        ("people/body_parts/manga_eye_left", "people/body_parts/manga_eye_right"),
        ("clothes/hats/blue_fedora", "clothes/hats/green_fedora"),
        ("military/fireman240a", "people/fireman240a"),
    ):
        assert group[one] == group[other]
    assert group["animals/birds/crow"] != group["animals/birds/duck"]
    assert 580 <= table.group.nunique() <= 640
    spread = table.groupby("category").fold.nunique()
    assert (spread[table.category.value_counts() >= 20] == 5).all()


def test_pictures_are_about_three_thousand_with_credit_and_no_copies(pictures, table, root):
    assert len(pictures) >= 2_900 and pictures.name.is_unique and pictures.name.is_monotonic_increasing
    assert set(pictures.source) == {"openclipart", "openmoji"}
    licences = {"openclipart": "public domain", "openmoji": "CC BY-SA 4.0"}
    assert (pictures.source.map(licences) == pictures.licence).all()
    assert (pictures.credit.str.len() > 1).all() and (pictures.caption.str.len() > 1).all()
    assert not pictures.picture.duplicated().any()
    copies = pd.read_csv(root / "data_scripts" / "pictures_copies.csv")
    assert not set(copies.left_out) & set(pictures.name)
    looked_at = (
        pd.read_csv(root / "data_scripts" / "pictures_captions.csv", keep_default_na=False).set_index("name").caption
    )
    assert not set(looked_at.index[looked_at == ""]) & set(pictures.name)
    assert set(copies.copy_of) <= set(pictures.name) | set(table.name) | set(looked_at.index)
    unfit = re.compile(
        r"\b(skin tone|flag of|dagger|pistol|bomb|cannabis|gallows|cigarette|naked|nude)\b", re.IGNORECASE
    )
    assert not pictures.caption.str.contains(unfit).any()
    assert max(stamps.picture(content).shape[:2] for content in pictures.picture[::40]) <= (96, 96)


def test_datasets_decodes_pictures_and_knows_sounds(tmp_path):
    datasets = pytest.importorskip("datasets")
    files = {part: str(stamps.DATA / f"{part}.parquet") for part in stamps.PARTS}
    for part, file in files.items():
        read = datasets.load_dataset("parquet", data_files=file, split="train", cache_dir=str(tmp_path))
        assert isinstance(read.features["picture"], datasets.Image)
        picture = read.select_columns(["picture"])[3]["picture"]
        assert np.array_equal(np.asarray(picture.convert("RGBA")), stamps.picture(stamps.load(part).picture[3]))
    stored = datasets.load_dataset("parquet", data_files=files["stamps"], split="train", cache_dir=str(tmp_path))
    for column in RECORDED:
        assert stored.features[column].sampling_rate == 16_000
    raw = stored.cast_column("speech_fr", datasets.Audio(decode=False)).select_columns(["speech_fr"])[0]["speech_fr"]
    assert soundfile.read(io.BytesIO(raw["bytes"]))[1] == 16_000


def test_pandas_opens_both_files():
    for part in stamps.PARTS:
        plain = pd.read_parquet(stamps.DATA / f"{part}.parquet")
        assert plain.picture[0]["bytes"][:4] == b"RIFF" and plain.picture[0]["path"].endswith(".webp")


def test_the_manifest_tells_size_and_hash_of_every_file_and_all_stay_small():
    manifest = tomllib.loads((stamps.DATA / "manifest.toml").read_text())
    assert {"stamps.parquet", "pictures.parquet"} <= set(manifest)
    for name, entry in manifest.items():
        content = (stamps.DATA / name).read_bytes()
        assert entry == {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    assert sum(path.stat().st_size for path in stamps.DATA.rglob("*") if path.is_file()) <= 30_000_000


def test_licences_are_beside_the_data():
    text = (stamps.DATA / "licences" / "README.md").read_text(encoding="utf-8")
    for name in re.findall(r"`([\w.-]+\.txt)`", text):
        assert (stamps.DATA / "licences" / name).stat().st_size > 1_000


def test_load_gives_a_copy_each_time(table):
    mine = stamps.load()
    mine.loc[0, "caption"] = "changed"
    assert stamps.load().caption[0] == table.caption[0] != "changed"


def test_a_file_of_the_wrong_hash_is_refused(tmp_path):
    for name in ("stamps.parquet", "manifest.toml"):
        shutil.copy(stamps.DATA / name, tmp_path)
    assert stamps.verified("stamps.parquet", tmp_path) == tmp_path / "stamps.parquet"
    with (tmp_path / "stamps.parquet").open("ab") as file:
        file.write(b"one byte more")
    with pytest.raises(ValueError, match=r"stamps\.parquet is not the file it should be.*SHA-256.*Install the package"):
        stamps.verified("stamps.parquet", tmp_path)
    (tmp_path / "stamps.parquet").unlink()
    with pytest.raises(FileNotFoundError, match=r"stamps\.parquet is missing.*data_scripts"):
        stamps.verified("stamps.parquet", tmp_path)


def test_what_does_not_exist_is_named_with_what_does(table):
    with pytest.raises(ValueError, match="no captions in 'tlh'.*en, ar, bg"):
        stamps.captions("tlh")
    with pytest.raises(ValueError, match="no table called 'stamp'.*stamps, pictures"):
        stamps.load("stamp")
    with pytest.raises(ValueError, match="Nobody recorded captions in 'de'.*en, fr"):
        stamps.speech(table.iloc[0], "de")
    with pytest.raises(ValueError, match="no spoken caption in 'en'; 65"):
        stamps.speech(table[table.speech_en.isna()].iloc[0], "en")
    with pytest.raises(ValueError, match="no split 5.*0 to 4"):
        stamps.split(5)


@pytest.mark.parametrize(("content", "why"), [(opaque(), "no transparent"), (opaque("RGBA", 0), "no visible")])
def test_a_picture_without_a_mask_says_so(content, why):
    with pytest.raises(ValueError, match=f"'mine' has no mask: it has {why} pixel"):
        stamps.mask({"name": "mine", "picture": content})


def test_a_truncated_picture_says_so(table):
    content = table.picture[0][:200]
    with pytest.raises(ValueError, match="cannot be decoded"):
        stamps.picture(content)


def test_the_columns_are_the_promised_ones():
    schema = pq.read_schema(stamps.DATA / "stamps.parquet")
    assert schema.names[:5] == ["name", "picture", "width", "height", "caption"]
    assert schema.names[-9:] == ["noun", "category", "medium", "group", "fold", *RECORDED, "source"]
    names = pq.read_schema(stamps.DATA / "pictures.parquet").names
    assert names == ["name", "picture", "caption", "tags", "source", "licence", "credit"]
