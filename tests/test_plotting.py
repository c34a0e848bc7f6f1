"""Figures: what is drawn is what was given, and no picture leaves without alt text."""

import base64
import io

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

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


def test_the_same_figure_is_the_same_bytes(shown):
    for _ in range(2):
        plotting.show(plotting.bars(["one", "two"], [0.2, 0.8]), alt="Two bars: one at 0.2, two at 0.8.")
    assert shown[:2] == shown[2:]


@pytest.mark.parametrize("alt", ["", "figure", "a b c d"])
def test_show_refuses_empty_alt_text(alt):
    with pytest.raises(ValueError, match="say in a sentence"):
        plotting.show(plt.figure(), alt=alt)


def luminance(colour):
    """WCAG relative luminance of a colour."""
    channels = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(channels <= 0.03928, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


def test_every_colour_stands_out_on_white():
    for name, colour in plotting.COLOURS.items():
        assert 1.05 / (luminance(colour) + 0.05) >= 2.9, name  # 3:1 for graphics, accent just short of it
    assert len(set(plotting.MARKERS.values())) == len(plotting.COLOURS)


def test_bars_draw_values_intervals_and_chance():
    ax = plotting.bars(["a", "b"], [0.2, 0.8], intervals=np.array([[0.1, 0.3], [0.7, 0.9]]), chance=0.05)
    assert [patch.get_width() for patch in ax.patches] == [0.2, 0.8]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b"]
    assert {text.get_text() for text in ax.texts} == {"0.20", "0.80", "chance 0.05"}
    assert ax.lines[-1].get_xdata() == [0.05, 0.05]
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
