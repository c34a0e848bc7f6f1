"""The index equals a brute force, ties included; its file is what it says; questions are read, cut and taken apart."""

import json

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("faiss")
from course_utils.search import CHARACTERS, WORDS, Finder, Index  # noqa: E402


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def some(count, width, seed=0):
    return unit(np.random.default_rng(seed).normal(size=(count, width))).astype(np.float32)


def brute(rows, queries, k):
    """Every product in 64 bits, sorted; the lower row first among equals."""
    every = (queries[:, None].astype(np.float64) * rows[None].astype(np.float64)).sum(axis=-1)  # (Q,N)
    best = np.argsort(-every, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(every, best, axis=1), best


@pytest.mark.parametrize("width", [1, 3, 64, 384])
@pytest.mark.parametrize("count", [1, 7, 500])
def test_equals_brute_force(count, width):
    rows, queries = some(count, width), some(40, width, 1)
    index = Index(rows)
    for k in {1, min(10, count), count}:
        scores, found = index.search(queries, k)
        expected_scores, expected = brute(rows, queries, k)
        assert np.array_equal(found, expected) and np.array_equal(scores, expected_scores)
    assert np.allclose(scores, np.sort(queries @ rows.T, axis=1)[:, ::-1], atol=1e-6)  # the plain way, in 32 bits


def test_equals_brute_force_where_rows_are_equal_or_nearly():
    """Twelve copies of each row, shuffled, and rows a rounding error apart: more ties than any first guess holds."""
    rng = np.random.default_rng(0)
    rows = np.repeat(some(30, 64), 12, axis=0)[rng.permutation(360)]
    near = rows[:100] + rng.normal(scale=1e-8, size=(100, 64)).astype(np.float32)
    rows = np.concatenate([rows, near])
    for k in (1, 5, 12, 13, 100):
        scores, found = Index(rows).search(rows[:60], k)
        expected_scores, expected = brute(rows, rows[:60], k)
        assert np.array_equal(found, expected) and np.array_equal(scores, expected_scores)


def test_equal_scores_for_all_come_in_order():
    rows = np.tile(np.float32([[0.6, 0.8]]), (500, 1))
    scores, found = Index(rows).search(np.float32([[1, 0], [0, 1]]), 20)
    assert np.array_equal(found, np.tile(np.arange(20), (2, 1)))
    assert (scores[0] == scores[0, 0]).all()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.zeros((0, 4)), "not empty"),
        (np.zeros((4, 0)), "not empty"),
        (np.ones(4), "one embedding a row"),
        ([[1.0, 0.0], [np.nan, 0.0]], "NaN or infinity, first in row 1"),
        ([[np.inf, 0.0]], "NaN or infinity, first in row 0"),
        ([[1.0, 0.0], [3.0, 4.0]], "length 1; row 1 has 5"),
        ([[0.0, 0.0]], "length 1; row 0 has 0"),
    ],
)
def test_bad_rows_and_queries_are_refused(rows, message):
    with pytest.raises(ValueError, match="rows.*" + message):
        Index(rows)
    with pytest.raises(ValueError, match="queries.*" + message):
        Index([[1.0, 0.0]]).search(rows)


def test_a_query_of_another_width_and_a_wrong_k_are_refused():
    index = Index(some(5, 4))
    with pytest.raises(ValueError, match="3 wide, the index 4: did the same model make them"):
        index.search(some(1, 3), 2)
    for k in (0, 6):
        with pytest.raises(ValueError, match=rf"k={k} is outside 1\.\.5"):
            index.search(some(1, 4), k)


def test_half_precision_rows_are_welcome():
    assert len(Index(some(5, 256).astype(np.float16))) == 5


def test_a_saved_index_comes_back(tmp_path):
    index = Index(some(50, 8), "tiny, seed 0")
    index.save(tmp_path / "i.safetensors")
    again = Index.load(tmp_path / "i.safetensors", made_by="tiny, seed 0")
    assert np.array_equal(again.rows, index.rows) and again.made_by == "tiny, seed 0"
    assert all(np.array_equal(a, b) for a, b in zip(again.search(some(3, 8, 1), 5), index.search(some(3, 8, 1), 5)))
    assert [path.name for path in tmp_path.iterdir()] == ["i.safetensors"]


def test_a_file_that_is_not_the_index_is_refused(tmp_path):
    from safetensors.numpy import save_file

    path = tmp_path / "i.safetensors"
    with pytest.raises(FileNotFoundError, match="There is no index"):
        Index.load(path)
    Index(some(50, 8), "one").save(path)
    with pytest.raises(ValueError, match="made by 'one', the questions by 'two'"):
        Index.load(path, made_by="two")
    good = path.read_bytes()
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(ValueError, match="was changed after it was written"):
        Index.load(path)
    for content in (good[:-20], b"", b"\x80\x04 a pickle", b"IxFI" + bytes(100)):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="not an index, or only a part of one"):
            Index.load(path)
    save_file({"rows": some(3, 2)}, path)
    with pytest.raises(ValueError, match="not an index"):
        Index.load(path)
    save_file({"rows": some(3, 2)}, path, {"about": json.dumps({"kind": "index 9", "made_by": "", "sha256": ""})})
    with pytest.raises(ValueError, match="is a 'index 9'; this edition reads"):
        Index.load(path)


def test_a_failed_save_leaves_the_old_file_and_no_draft(tmp_path, monkeypatch):
    path = tmp_path / "i.safetensors"
    Index(some(5, 4), "old").save(path)
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("no space")))
    with pytest.raises(OSError, match="no space"):
        Index(some(5, 4), "new").save(path)
    assert Index.load(path).made_by == "old"
    assert [one.name for one in tmp_path.iterdir()] == ["i.safetensors"]


COLOURS = {"red": 0, "green": 1, "blue": 2, "rot": 0, "鳥": 1, "赤": 0}


def counted(sentences):
    """Each known word adds 1 to its colour; characters count where there are no spaces. Unit rows, or zeros."""
    rows = np.zeros((len(sentences), 3), np.float32)
    for row, sentence in zip(rows, sentences):
        for word in sentence.split() if sentence.isascii() else sentence:
            if word in COLOURS:
                row[COLOURS[word]] += 1
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)


def mean_colour(picture):
    row = np.asarray(picture.convert("RGB"), np.float32).mean(axis=(0, 1))
    return row / np.linalg.norm(row)


@pytest.fixture()
def finder():
    rows = unit(np.float64([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]]))
    return Finder(
        readers={"English": counted, "German": counted},
        encode_image=mean_colour,
        pictures=Index(rows),
        captions=Index(rows[:3]),
        show=lambda row: np.full((4, 4, 3), row, np.uint8),
        titles=["red", "green", "blue", "red and green"],
        texts=["it is red", "it is green", "it is blue"],
        guess=lambda text: "German" if "rot" in text else "English",
    )


def test_words_find_pictures_and_say_their_part(finder):
    answer = finder.by_words("a red green", k=2)
    assert answer.rows.tolist() == [3, 0] and answer.words == ("a", "red", "green")
    half = np.sqrt(0.5)
    assert np.allclose(answer.scores, [1, half])
    # Without "a" nothing changes; without "red" the question is green, and the other way round.
    assert np.allclose(answer.parts, [[0, 0], [1 - half, half], [1 - half, half - 1]], atol=1e-6)
    assert answer.language == "English" and answer.remarks == []


def test_one_word_has_the_whole_score_and_an_only_known_word_too(finder):
    assert np.allclose(finder.by_words("red", k=2).parts, finder.by_words("red", k=2).scores)
    answer = finder.by_words("nonsense red", k=2)
    assert np.allclose(answer.parts, [[0, 0], answer.scores])


def test_the_language_is_guessed_or_chosen(finder):
    assert finder.by_words("rot").language == "German"
    assert finder.by_words("rot", "English").language == "English"
    with pytest.raises(ValueError, match="Nobody reads 'Latin' here. There are: English, German"):
        finder.by_words("rot", "Latin")
    with pytest.raises(ValueError, match="None of these words is known to the reader of English"):
        finder.by_words("nothing known", k=1)


def test_scripts_without_spaces_are_taken_character_by_character(finder):
    answer = finder.by_words("赤い鳥", k=1)
    assert answer.words == ("赤", "い", "鳥") and answer.rows.tolist() == [3]
    assert abs(answer.parts[1, 0]) < 1e-6 < answer.parts[0, 0]
    with pytest.raises(ValueError, match="None of these words is known"):
        finder.by_words("กบที่")  # Thai: vowel signs stay with their consonants


@pytest.mark.parametrize("text", ["", "   ", "\n\t", "?!…", "\ud800", "\x00\x07"])
def test_a_question_without_words_is_refused(finder, text):
    with pytest.raises(ValueError, match="There are no words"):
        finder.by_words(text)


def test_odd_characters_do_no_harm(finder):
    assert finder.by_words("red\x00\ud800\ngreen").words == ("red", "green")


@pytest.mark.parametrize("text", ["red " * 200, "red " + "x" * 5_000, "赤" * 4_000, "red " * 1_000_000])
def test_a_long_question_is_cut_and_it_is_said(finder, text):
    answer = finder.by_words(text, k=1)
    assert answer.rows.tolist() == [0]
    assert len(answer.words) <= WORDS and len(" ".join(answer.words)) <= CHARACTERS
    assert "The question was cut after" in answer.remarks[0]


def test_a_picture_finds_captions(finder, tmp_path):
    Image.new("RGB", (50, 40), "blue").save(tmp_path / "blue.png")
    answer = finder.by_picture(tmp_path / "blue.png", k=10)  # there are three: it gives what there is
    assert answer.rows.tolist() == [2, 0, 1] and answer.picture.size == (50, 40)
    assert np.allclose(answer.scores, [1, 0, 0])


def test_a_finder_that_does_not_fit_together_is_refused(finder):
    from dataclasses import replace

    with pytest.raises(ValueError, match="1 titles for 4 pictures, 3 texts for 3 captions"):
        replace(finder, titles=["one"])
    with pytest.raises(ValueError, match="Pictures are 3 wide, captions 2"):
        replace(finder, captions=Index([[1.0, 0.0]] * 3))
    with pytest.raises(ValueError, match="one reader or more"):
        replace(finder, readers={})
