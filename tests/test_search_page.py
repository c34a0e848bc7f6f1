"""The program behind `make search`: readers of other languages, the guess, errors that are explained."""

import socket

import numpy as np
import pytest

pytest.importorskip("faiss")
from course_utils import stamps  # noqa: E402


@pytest.fixture(scope="module")
def program(root):
    import importlib
    import sys

    if str(root / "data_scripts") not in sys.path:
        sys.path.insert(0, str(root / "data_scripts"))
    return importlib.import_module("search_page")


@pytest.fixture(scope="module")
def finder(program):
    return program.finder()


def test_every_language_of_the_stamps_has_a_name(program):
    assert set(program.LANGUAGES) == set(stamps.languages())
    assert len(set(program.LANGUAGES.values())) == len(program.LANGUAGES)


def test_a_reader_equals_ridge_through_the_origin(program):
    from sklearn.linear_model import Ridge

    sentences = ["un chien", "un chat", "le chat noir", "une voiture rouge", "la voiture"]
    places = np.random.default_rng(0).normal(size=(5, 4))
    reader = program.Reader(sentences, places, strength=0.7)
    asked = ["un chien noir", "voiture"]
    counts = reader.strings.transform(asked).toarray()
    theirs = Ridge(alpha=0.7, fit_intercept=False).fit(reader.counts.toarray(), places).predict(counts)
    assert np.allclose(reader(asked), theirs / np.linalg.norm(theirs, axis=1, keepdims=True))
    assert not reader(["xyz 鳥"]).any()  # nothing known: zeros, and not some direction


def test_most_languages_are_guessed(program):
    """Captions that the guesser has not seen would be better; 84 of 100 were right then, near relatives aside."""
    guess = program.Guesser(["red bird", "old wooden boat", "smiling face"])
    some = np.arange(0, 748, 40)
    right = {
        code: np.mean([guess(text) == name for text in stamps.captions(code).iloc[some].dropna()])
        for code, name in program.LANGUAGES.items()
    }
    assert np.mean(list(right.values())) > 0.85
    assert guess("赤い鳥") == "Japanese" and guess("ein Hund") == "German" and guess("a red bird") == "English"


@pytest.mark.slow
def test_the_search_is_that_of_lesson_00(finder):
    """The same placing as in the lesson's cells, written with torch there."""
    import torch
    import torch.nn.functional as F

    from course_utils import towers

    shipped = [towers.features(part) for part in stamps.PARTS]
    image = F.normalize(torch.from_numpy(np.concatenate([part.image for part in shipped])), dim=-1)
    bridge = torch.from_numpy(np.concatenate([part.bridge for part in shipped]))
    caption = torch.from_numpy(np.concatenate([part.text for part in shipped]))
    is_stamp = torch.arange(len(image)) < 748
    z_img = torch.zeros_like(caption)
    bridge = F.normalize(bridge - bridge.mean(dim=0), dim=-1)
    for seen, new in ((~is_stamp, is_stamp), (is_stamp, ~is_stamp)):
        x = image[seen] - image[seen].mean(dim=0)
        y = caption[seen] - caption[seen].mean(dim=0)
        weights = torch.linalg.solve(x.T @ x + torch.eye(x.shape[1]), x.T @ y)
        mapped = F.normalize((image[new] - image[seen].mean(dim=0)) @ weights, dim=-1)
        z_img[new] = F.normalize(mapped + bridge[new], dim=-1)
    assert np.allclose(finder.pictures.rows, z_img.numpy(), atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "language", "wanted"),
    [
        ("a guitar", "English", "guitar"),
        ("une voiture rouge", "French", "car"),
        ("eine Blume", "German", "flower"),
        ("лягушка", "Russian", "frog"),
        ("カエル", "Japanese", "frog"),
        ("자동차", "Korean", "car"),
    ],
)
def test_words_of_many_languages_find_what_they_name(finder, words, language, wanted):
    answer = finder.by_words(words, k=3)
    assert answer.language == language
    assert wanted in finder.titles[answer.rows[0]].lower()


@pytest.mark.slow
def test_a_picture_finds_its_caption(finder):
    frog = stamps.load().iloc[0]
    answer = finder.by_picture(frog["picture"], k=3)
    assert "frog" in finder.texts[answer.rows[0]].lower() and answer.scores[0] > 0.5


@pytest.mark.slow
def test_a_taken_port_is_explained(program, monkeypatch, capsys):
    pytest.importorskip("gradio")
    from test_page import tiny

    monkeypatch.setattr(program, "finder", tiny)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert program.main(["--port", str(taken.getsockname()[1])]) == 2
    error = capsys.readouterr().err
    assert error.startswith("search_page: ") and str(taken) not in error


@pytest.mark.slow
def test_a_port_that_no_machine_has_is_explained(program, monkeypatch, capsys):
    pytest.importorskip("gradio")
    from test_page import tiny

    monkeypatch.setattr(program, "finder", tiny)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    assert program.main(["--port", "99999"]) == 2
    assert capsys.readouterr().err.startswith("search_page: ")


def test_without_gradio_it_says_so(program, monkeypatch, capsys):
    import sys

    from test_page import tiny

    monkeypatch.setattr(program, "finder", tiny)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert program.main([]) == 2
    assert "pip install faiss-cpu gradio" in capsys.readouterr().err
