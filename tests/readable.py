"""Can the text of a figure be read? Measured on its pixels, against what is really behind each letter.

`problems(figure)` draws a figure with its words in black, in white and without ink. Where the first two differ there
are letters, and the third is what lies behind them. `watch` does so for every figure that a lesson shows.
"""

import json
from itertools import combinations
from pathlib import Path

import numpy as np
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.text import Text

LEAST = 4.5  # to 1: WCAG 2.2, success criterion 1.4.3, level AA
BAD_SHARE = 0.05  # of a text's pixels: a thin line may touch a letter, not cross a word


def luminance(colours):
    """Relative luminance of sRGB colours (...,3) in 0..1, as WCAG defines it: (...)."""
    channels = np.asarray(colours, dtype=float)
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


def contrast(one, other):
    """Contrast of two colours (...,3) in 0..1: from 1, alike, to 21, black on white."""
    pair = np.broadcast_arrays(luminance(one), luminance(other))
    return (np.maximum(*pair) + 0.05) / (np.minimum(*pair) + 0.05)


def drawn(figure, ink):
    """Draw a figure on white with all its words in one ink; its pixels (H,W,3) in 0..1, its texts with their boxes."""
    texts, draw = {}, Text.draw

    def inked(text, renderer, *rest, **named):
        colour, alpha = text.get_color(), text.get_alpha()
        text.set(color=ink, alpha=None)
        draw(text, renderer, *rest, **named)
        text.set(color=colour, alpha=alpha)
        if text.get_visible() and text.get_text().strip():
            texts[text] = text.get_window_extent(renderer)

    Text.draw = inked
    try:
        figure.canvas.draw()
    finally:
        Text.draw = draw
    pixels = np.asarray(figure.canvas.buffer_rgba(), dtype=float) / 255  # (H,W,4)
    return pixels[..., :3] * pixels[..., 3:] + 1 - pixels[..., 3:], texts


def problems(figure: Figure) -> list[str]:
    """One line for each text that stands out too little, lies under something, or runs into another text."""
    figure.set_facecolor("white")  # as plotting.show saves it
    (black, texts), layout = drawn(figure, "black"), figure.get_layout_engine()
    figure.set_layout_engine("none")  # everything has its place by now
    white, behind = drawn(figure, "white")[0], drawn(figure, (0, 0, 0, 0))[0]
    figure.set_layout_engine(layout)
    letters = (white - black).mean(axis=-1) > 0.5  # (H,W): covered by a letter for more than half
    found = []
    for text, box in texts.items():
        words, top = repr(text.get_text()), len(letters)
        rows = slice(max(0, int(top - box.y1)), max(0, int(np.ceil(top - box.y0))))
        columns = slice(max(0, int(box.x0)), max(0, int(np.ceil(box.x1))))
        ground = behind[rows, columns][letters[rows, columns]]  # (N,3)
        if not len(ground):
            found.append(f"{words} is nowhere to be seen")
            continue
        *ink, alpha = to_rgba(text.get_color(), text.get_alpha())
        ratio = contrast(alpha * np.array(ink) + (1 - alpha) * ground, ground)  # (N,)
        if (ratio < LEAST).mean() > BAD_SHARE:
            found.append(f"{words}: {(ratio < LEAST).mean():.0%} of it stands out {ratio.min():.1f} to 1, not {LEAST}")
    for (one, its), (other, box) in combinations(texts.items(), 2):
        across, down = min(its.x1, box.x1) - max(its.x0, box.x0), min(its.y1, box.y1) - max(its.y0, box.y0)
        if across > 2 and down > 2:
            found.append(f"{one.get_text()!r} and {other.get_text()!r} overlap by {across:.0f} by {down:.0f} pixels")
    return found


def watch(plotting, path):
    """From now on note each figure that `plotting.show` shows, as a line of JSON in the file `path`: alt, problems."""
    show = plotting.show

    def watched(figure, alt):
        axes = figure if isinstance(figure, Figure) else np.asarray(figure, dtype=object).flat[0]
        found = problems(axes if isinstance(axes, Figure) else axes.get_figure())
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"alt": alt, "problems": found}) + "\n")
        show(figure, alt)

    plotting.show = watched


def watch_kernels(folder, monkeypatch):
    """Let every kernel that this test starts `watch` its figures; returns the file they are noted in."""
    startup, noted = folder / "ipython" / "profile_default" / "startup", folder / "figures.jsonl"
    startup.mkdir(parents=True)
    watching = f"""__import__("sys").path.append({str(Path(__file__).parent)!r})
__import__("readable").watch(__import__("course_utils.plotting", fromlist=["show"]), {str(noted)!r})
"""  # as one expression: a name left behind would hide that a lesson forgot to import it
    (startup / "00-readable.py").write_text(watching, encoding="utf-8")
    monkeypatch.setenv("IPYTHONDIR", str(folder / "ipython"))
    return noted
