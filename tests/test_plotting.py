"""Figures: what is drawn is what was given, and no picture leaves without alt text."""

import base64
import io

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image
from readable import contrast, problems

from course_utils import plotting


@pytest.fixture(autouse=True)
def no_window():
    plt.switch_backend("agg")
    yield
    plt.close("all")


@pytest.fixture()
def shown(monkeypatch):
    bundles = []
    monkeypatch.setattr(plotting, "get_ipython", lambda: object())
    monkeypatch.setattr(plotting, "display", lambda data, metadata=None, raw=True: bundles.append((data, metadata)))
    return bundles


def test_show_displays_one_png_with_alt_and_closes_the_figure(shown, capsys):
    alt = "Two bars: one at 0.2, two at 0.8."
    ax = plotting.bars(["one", "two"], [0.2, 0.8])
    plotting.show(ax, alt=alt)
    data, metadata = shown[0]
    assert metadata == {"image/png": {"alt": alt}}
    assert data["text/plain"] == alt
    assert "Figure: Two bars: one at 0.2, two at 0.8." in shown[1][0]["text/html"]
    assert Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).width > 400
    assert plt.get_fignums() == []
    assert capsys.readouterr().out == ""


def test_show_takes_a_figure_an_axes_or_many(shown):
    figure, axes = plt.subplots(1, 2)
    for what in (figure, axes[0], axes, list(axes)):
        plotting.show(what, alt="Two empty panels, for a test.")
    assert len([data for data, _ in shown if "image/png" in data]) == 4


def test_a_picture_keeps_its_look_in_256_colours(shown):
    """A gallery of smooth colour, the hardest case: no pixel moves far, and white stays white."""
    ramp = np.linspace(0, 255, 64, dtype=np.uint8)
    red, green = np.meshgrid(ramp, ramp)
    plotting.show(plotting.gallery([np.stack([red, green, red // 2], axis=-1)]), alt="A smooth ramp of red and green.")
    picture = Image.open(io.BytesIO(base64.b64decode(shown[0][0]["image/png"])))
    pixels = np.asarray(picture.convert("RGB"), dtype=int)
    assert len(picture.getcolors()) <= 256
    assert pixels[0, 0].tolist() == [255, 255, 255]
    corner = np.abs(pixels - [255, 255, 127]).sum(axis=-1).min()
    assert corner < 40


def test_the_ground_is_white_whatever_the_colours(shown):
    plotting.show(
        plotting.heat(np.linspace(-1, 1, 9).reshape(3, 3), signed=True), alt="Nine cells from orange to blue."
    )
    picture = Image.open(io.BytesIO(base64.b64decode(shown[0][0]["image/png"]))).convert("RGB")
    assert picture.getpixel((0, 0)) == (255, 255, 255)


def test_the_same_figure_is_the_same_bytes(shown):
    for _ in range(2):
        plotting.show(plotting.bars(["one", "two"], [0.2, 0.8]), alt="Two bars: one at 0.2, two at 0.8.")
    assert shown[:2] == shown[2:]


@pytest.mark.parametrize("alt", ["", "figure", "a b c d"])
def test_show_refuses_empty_alt_text(alt):
    with pytest.raises(ValueError, match="say in a sentence"):
        plotting.show(plt.figure(), alt=alt)


def test_every_colour_stands_out_on_white():
    for name, colour in plotting.COLOURS.items():
        assert contrast(to_rgb(colour), (1, 1, 1)) >= 3, name  # WCAG 1.4.11, for lines and bars; words are black
    assert len(set(plotting.MARKERS.values())) == len(plotting.COLOURS)


@pytest.mark.parametrize("signed", [False, True])
def test_numbers_in_cells_stand_out_on_every_colour_of_the_map(signed):
    ax = plotting.heat(np.linspace(-1, 1, 100).reshape(10, 10), signed=signed, limits=(-1, 1))
    assert len(ax.texts) == 100
    for text, value in zip(ax.texts, np.linspace(-1, 1, 100)):
        ground = ax.images[0].cmap(ax.images[0].norm(value))[:3]
        assert contrast(to_rgb(text.get_color()), ground) >= 4.5, value


def test_bars_draw_values_intervals_and_chance():
    ax = plotting.bars(["a", "b"], [0.2, 0.8], intervals=np.array([[0.1, 0.3], [0.7, 0.9]]), chance=0.05)
    assert [patch.get_width() for patch in ax.patches] == [0.2, 0.8]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b"]
    assert {text.get_text() for text in ax.texts} == {"0.20", "0.80", "chance 0.05"}
    assert ax.lines[-1].get_xdata() == [0.05, 0.05]
    assert [text.get_text() for text in plotting.bars(["a", "b"], [-0.001, -0.2]).texts] == ["0.00", "-0.20"]
    assert [text.get_text() for text in plotting.bars(list("abc"), [0.885, 0.815, 0.125]).texts] == [
        f"{value:.2f}"
        for value in (0.885, 0.815, 0.125)  # as a title or a sentence beside it says it
    ]
    with pytest.raises(ValueError, match="one length"):
        plotting.bars(["a"], [1, 2])


def test_lines_draw_the_mean_and_the_range_over_seeds():
    ax = plotting.lines([1, 2], {"plain": [[1.0, 2.0], [3.0, 4.0]], "foils": [5.0, 6.0]}, chance=0.5)
    assert ax.lines[0].get_ydata().tolist() == [2.0, 3.0]
    assert ax.lines[1].get_ydata().tolist() == [5.0, 6.0]
    assert ax.lines[0].get_color() != ax.lines[1].get_color()
    assert ax.lines[0].get_marker() != ax.lines[1].get_marker()
    assert len(ax.collections) == 1
    assert ax.collections[0].get_paths()[0].get_extents().ymin == 1.0


def test_heat_centres_signed_values_and_writes_readable_numbers():
    ax = plotting.heat(np.array([[-1.0, 0.5], [0.0, 0.25]]), rows=["a", "b"], columns=["c", "d"], signed=True)
    assert ax.images[0].get_clim() == (-1.0, 1.0)
    assert [text.get_text() for text in ax.texts] == ["-1.00", "0.50", "0.00", "0.25"]
    assert ax.texts[0].get_color() == "white"
    assert ax.texts[2].get_color() == "black"
    assert len(plotting.heat(np.zeros((20, 20))).texts) == 0


def test_gallery_shows_each_picture_with_its_title():
    pictures = [np.full((8, 8, 3), n, np.uint8) for n in (10, 20, 30)]
    axes = plotting.gallery(pictures, ["one", "a title that is much too long for a single line", "three"], 2, [True])
    assert len(axes) == 3
    assert [int(ax.images[0].get_array()[0, 0, 0]) for ax in axes] == [10, 20, 30]
    assert axes[0].get_xlabel().endswith("one")
    assert "\n" in axes[1].get_xlabel()
    with pytest.raises(ValueError, match="No pictures"):
        plotting.gallery([])


def test_gallery_shows_the_longest_caption_of_a_scene_whole():
    words = (
        "below a car there is a big bus and right of an owl there is the car and above a big snowman there is the owl"
    )
    few, many = (plotting.gallery([np.zeros((8, 8, 3), np.uint8)] * 2, [title, "short"]) for title in ("short", words))
    assert many[0].get_xlabel().replace("\n", " ") == words
    assert few[0].get_figure().get_size_inches()[1] == 2 < many[0].get_figure().get_size_inches()[1]
    assert problems(many[0].get_figure()) == []


def test_arrows_start_at_the_origin_and_carry_their_names():
    ax = plotting.arrows([[3.0, 4.0], [-1.0, 2.0]], ["question", "A"])
    tips = [text.xy for text in ax.texts if text.get_text() == ""]
    assert [tuple(tip) for tip in tips] == [(3.0, 4.0), (-1.0, 2.0)]
    assert [text.get_text() for text in ax.texts if text.get_text()] == ["question", "A"]
    assert ax.get_xlim()[0] < -1 and ax.get_ylim()[1] > 4
    with pytest.raises(ValueError, match="one name each"):
        plotting.arrows([[1.0, 2.0]], ["A", "B"])


def test_maps_share_one_scale_and_outline_what_they_are_judged_by():
    pictures, outlines = np.zeros((2, 8, 8, 3), np.uint8), np.zeros((2, 8, 8), bool)
    outlines[:, 2:5, 2:5] = True
    axes = plotting.maps(pictures, np.array([np.eye(4), 0.5 * np.eye(4)]), ["one", "two"], outlines)
    assert len(axes) == 2
    assert [ax.images[1].get_clim() for ax in axes] == [(0, 1), (0, 1)]
    assert axes[0].images[1].get_extent() == axes[0].images[0].get_extent()  # a cell lies on its pixels
    assert len(axes[0].figure.axes) == 3  # the bar
    with pytest.raises(ValueError, match="one of each"):
        plotting.maps(pictures, np.zeros((1, 4, 4)), ["one", "two"], outlines)


def figures():
    """What every function draws, with everything that it can write."""
    rng = np.random.default_rng(0)
    pictures, outlines = rng.integers(0, 256, (4, 32, 32, 3), np.uint8), np.zeros((4, 32, 32), bool)
    outlines[:, 8:16, 8:16] = True
    bounds = np.array([[0.1, 0.3], [0.6, 0.9], [0.02, 0.1]])
    yield plotting.bars(["one", "two", "a long name"], [0.2, 0.8, 0.05], bounds, 0.1, "accent")
    yield plotting.bars(["below zero", "at chance"], [-0.5, 0.06], np.array([[-0.6, -0.4], [0.05, 0.07]]), 0.1)
    yield plotting.lines([1, 2, 3], {name: rng.random((3, 3)) for name in plotting.COLOURS}, chance=0.1)
    yield plotting.heat(rng.normal(size=(4, 4)), list("abcd"), list("efgh"), signed=True)
    yield plotting.heat(rng.random((10, 10)))
    yield plotting.gallery(list(pictures), ["a title that is much too long for a single line"] * 4, 2, [True, False])[0]
    yield plotting.arrows([[4.0, 3.0], [2.0, 1.5], [3.0, 4.0], [1.0, 6.0]], ["question", "A", "B", "C"])
    yield plotting.maps(pictures, rng.random((4, 8, 8)), ["one", "two", "three", "four"], outlines)[0]


def test_all_words_of_all_figures_can_be_read():
    for ax in figures():
        ax.set_title("What was found")
        assert problems(ax.get_figure()) == []


def test_a_figure_stands_on_opaque_white(shown):
    """A dark page must not shine through it."""
    with plt.style.context("dark_background", after_reset=True):
        figure = plt.figure(facecolor="none")
        plotting.show(figure, alt="An empty figure without a ground of its own.")
    picture = Image.open(io.BytesIO(base64.b64decode(shown[0][0]["image/png"])))
    assert "transparency" not in picture.info and picture.mode == "P"
    assert picture.convert("RGB").getcolors() == [(picture.width * picture.height, (255, 255, 255))]
