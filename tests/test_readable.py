"""The judge of figures is judged: what can be read passes, what cannot is named."""

import json

import matplotlib.pyplot as plt
import pytest
from readable import contrast, problems, watch


@pytest.fixture(autouse=True)
def closed():
    plt.switch_backend("agg")
    yield
    plt.close("all")


@pytest.fixture()
def ax():
    return plt.subplots(figsize=(4, 3), layout="constrained")[1]


def test_contrast_is_wcags():
    assert contrast((0, 0, 0), (1, 1, 1)) == pytest.approx(21)
    assert contrast((1, 1, 1), (1, 1, 1)) == 1
    grey = (0x76 / 255,) * 3  # the lightest grey that passes on white, as WCAG's techniques name it
    assert contrast(grey, (1, 1, 1)) == pytest.approx(4.54, abs=0.01)
    assert contrast((0x77 / 255,) * 3, (1, 1, 1)) < 4.5


def test_a_plain_figure_is_fine_and_stays_as_it_was(ax):
    ax.set_title("A title", color="#333333")
    ax.plot([0, 1], [0, 1], label="a line")
    ax.legend()
    layout = ax.get_figure().get_layout_engine()
    assert problems(ax.get_figure()) == []
    assert ax.title.get_color() == "#333333" and ax.get_figure().get_layout_engine() is layout


@pytest.mark.parametrize(
    ("where", "look"),
    [
        ("set_title", {"color": "#999999"}),
        ("set_xlabel", {"color": "#D55E00"}),
        ("set_ylabel", {"color": "black", "alpha": 0.3}),
    ],
)
def test_pale_words_are_named(ax, where, look):
    getattr(ax, where)("pale", **look)
    (found,) = problems(ax.get_figure())
    assert found.startswith("'pale': 100% of it stands out ") and found.endswith("to 1, not 4.5")


def test_pale_ticks_and_legends_are_named(ax):
    ax.plot([0, 1], label="pale")
    ax.legend(labelcolor="#aaaaaa")
    ax.tick_params(axis="x", labelcolor="#aaaaaa")
    found = problems(ax.get_figure())
    assert any(one.startswith("'pale'") for one in found) and any(one.startswith("'0.0'") for one in found)


def test_what_counts_is_what_lies_behind(ax):
    ax.set(xlim=(0, 2), ylim=(0, 1))
    ax.barh([0.5], [2], color="#0072B2")
    words = ax.text(1, 0.5, "on a bar", ha="center")
    (found,) = problems(ax.get_figure())
    assert "'on a bar': 100% of it stands out 4.0 to 1" in found
    words.set_bbox({"facecolor": "white", "edgecolor": "none"})
    assert problems(ax.get_figure()) == []


def test_words_that_leave_their_bar_are_named_and_white_ones_there_vanish(ax):
    ax.set(xlim=(0, 2), ylim=(0, 1))
    ax.barh([0.5], [1], color="black")
    ax.text(1, 0.5, "white words that begin on a bar", color="white", ha="center")
    (found,) = problems(ax.get_figure())
    assert found.endswith("of it stands out 1.0 to 1, not 4.5")


def test_covered_words_are_named(ax):
    ax.set(xlim=(0, 1), ylim=(0, 1))
    ax.text(0.5, 0.5, "covered", zorder=1)
    ax.add_patch(plt.Rectangle((0, 0), 1, 1, color="white", zorder=9))
    assert problems(ax.get_figure()) == ["'covered' is nowhere to be seen"]


def test_words_over_words_are_named(ax):
    ax.text(0.3, 0.5, "some words here")
    ax.text(0.4, 0.5, "and others")
    assert "'some words here' and 'and others' overlap by" in problems(ax.get_figure())[0]


def test_invisible_words_do_not_count(ax):
    ax.text(0.5, 0.5, "gone", color="#eeeeee", visible=False)
    ax.axis("off")
    assert problems(ax.get_figure()) == []


def test_what_is_shown_is_noted(ax, tmp_path, monkeypatch, capsys):
    from course_utils import plotting

    monkeypatch.setattr(plotting, "show", plotting.show)
    watch(plotting, tmp_path / "seen")
    ax.set_title("pale", color="#999999")
    plotting.show([ax], alt="An empty figure with a pale title.")
    (line,) = (tmp_path / "seen").read_text().splitlines()
    assert json.loads(line)["alt"] == "An empty figure with a pale title."
    assert len(json.loads(line)["problems"]) == 1
    assert "An empty figure" in capsys.readouterr().out  # it was shown all the same
