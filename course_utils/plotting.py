"""Arrays in, axes out. One colour a modality everywhere, safe for colour-blind eyes; no model and no device in here."""

from __future__ import annotations

import base64
import io
import textwrap
from collections.abc import Sequence
from html import escape

import matplotlib.pyplot as plt
import numpy as np
from IPython import get_ipython
from IPython.display import display
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from PIL import Image

# Okabe and Ito's palette. Never by colour alone: markers and labels differ as well.
COLOURS = {"image": "#0072B2", "text": "#D55E00", "sound": "#009E73", "neutral": "#595959", "accent": "#CC79A7"}
MARKERS = {"image": "o", "text": "s", "sound": "^", "neutral": "D", "accent": "v"}
SEQUENTIAL = "viridis"  # for sizes, from zero
DIVERGING = "PuOr"  # for signed values, centred at zero

_UNSEEN = "position:absolute;width:1px;height:1px;margin:-1px;overflow:hidden;clip-path:inset(50%)"


def show(figure: Figure | Axes | Sequence[Axes], alt: str) -> None:
    """Display a figure (or the figure of an axes) as one PNG with alternative text, and close it. Prints nothing else.

    The text stands in the output's metadata, which tools read but JupyterLab does not; so a line that is heard and not
    seen follows the picture.
    `alt` says what a reader would see: a sentence of at least 20 characters. Raises ValueError without it.
    """
    if len(alt.split()) < 4 or len(alt) < 20:
        raise ValueError(f"alt={alt!r} is too short: say in a sentence what the figure shows.")
    axes = figure if isinstance(figure, (Figure, Axes)) else np.asarray(figure, dtype=object).flat[0]
    figure = axes.get_figure() if isinstance(axes, Axes) else axes
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100, bbox_inches="tight", facecolor="white")
    plt.close(figure)
    if get_ipython() is None:
        print(f"[figure: {alt}]")
        return
    palette = Image.open(buffer).convert("RGB").quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    ground, colours = palette.getpixel((0, 0)), palette.getpalette()
    colours[3 * ground : 3 * ground + 3] = [255, 255, 255]  # not nearly white: on a white page that is a grey box
    palette.putpalette(colours)
    buffer = io.BytesIO()  # 256 colours are a quarter of the bytes: notebooks stay small
    palette.save(buffer, format="png", optimize=True)
    png = base64.b64encode(buffer.getvalue()).decode()
    display({"image/png": png, "text/plain": alt}, metadata={"image/png": {"alt": alt}}, raw=True)
    spoken = f'<p style="{_UNSEEN}">Figure: {escape(alt)}</p>'
    display({"text/html": spoken, "text/plain": ""}, raw=True)


def bars(
    labels: Sequence[str],
    values: Sequence[float],
    intervals: np.ndarray | None = None,
    chance: float | None = None,
    colour: str = "image",
    ax: Axes | None = None,
) -> Axes:
    """Horizontal bars, first label on top, each with its number; `intervals` (N,2) low and high, `chance` a line.

    `colour` is a key of COLOURS. Raises ValueError when labels, values and intervals do not have one length.
    """
    values = np.asarray(values, dtype=float)  # (N,)
    if len(labels) != len(values) or (intervals is not None and np.shape(intervals) != (len(values), 2)):
        raise ValueError(
            f"{len(labels)} labels, {len(values)} values, intervals {np.shape(intervals)}: one length, please."
        )
    ax = ax or plt.subplots(figsize=(6, 0.45 * len(values) + 1.0), layout="constrained")[1]
    rows = np.arange(len(values))
    ends = values
    error = None
    if intervals is not None:
        ends = np.asarray(intervals, dtype=float)[:, 1]
        error = np.abs(np.asarray(intervals, dtype=float).T - values)  # (2,N)
    ax.barh(rows, values, height=0.6, color=COLOURS[colour], xerr=error, ecolor="black", capsize=3)
    beside = {"xytext": (5, 0), "textcoords": "offset points", "va": "center"}
    beside["bbox"] = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}  # no line runs through a number
    for row, value, end in zip(rows, values, ends):
        ax.annotate(f"{value:z.2f}", (end, row), **beside)  # z: no "-0.00"
    if chance is not None:
        ax.axvline(chance, color=COLOURS["neutral"], linestyle="--")
        ax.annotate(f"chance {chance:.3g}", (chance, len(values) - 0.3), **beside)  # in a free row under the bars
    ax.set_yticks(rows, labels)
    ax.set_ylim(len(values) - (0.5 if chance is None else 0.0), -0.5)
    ax.margins(x=0.15)
    _bare(ax)
    return ax


def lines(
    x: Sequence[float],
    curves: dict[str, np.ndarray],
    colours: Sequence[str] = ("image", "text", "sound", "neutral", "accent"),
    chance: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """One line a name. A curve is (X,), or (S,X) over S seeds: its mean, and a band from smallest to largest."""
    ax = ax or plt.subplots(figsize=(6, 3.6), layout="constrained")[1]
    for (name, curve), colour in zip(curves.items(), colours):
        curve = np.atleast_2d(np.asarray(curve, dtype=float))  # (S,X)
        ax.plot(x, curve.mean(axis=0), color=COLOURS[colour], marker=MARKERS[colour], markersize=5, label=name)
        if len(curve) > 1:
            ax.fill_between(x, curve.min(axis=0), curve.max(axis=0), color=COLOURS[colour], alpha=0.2, linewidth=0)
    if chance is not None:
        ax.axhline(chance, color=COLOURS["neutral"], linestyle="--", label=f"chance {chance:.3g}")
    ax.legend(frameon=False)
    _bare(ax)
    return ax


def heat(
    values: np.ndarray,
    rows: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    signed: bool = False,
    limits: tuple[float, float] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """A matrix (R,C) as coloured cells with a bar; numbers inside up to 100 cells. `signed`: centred at zero."""
    values = np.asarray(values, dtype=float)
    ax = (
        ax or plt.subplots(figsize=(0.7 * values.shape[1] + 2.2, 0.55 * values.shape[0] + 1.2), layout="constrained")[1]
    )
    if limits is None:
        top = float(np.abs(values).max()) or 1.0
        limits = (-top, top) if signed else (float(values.min()), float(values.max()))
    image = ax.imshow(values, cmap=DIVERGING if signed else SEQUENTIAL, vmin=limits[0], vmax=limits[1], aspect="auto")
    ax.get_figure().colorbar(image, ax=ax)
    if values.size <= 100:
        for (row, column), value in np.ndenumerate(values):
            ink = _ink(image.cmap(image.norm(value))[:3])
            ax.text(column, row, f"{value:z.2f}", ha="center", va="center", color=ink, fontsize=9)
    if rows is not None:
        ax.set_yticks(range(len(rows)), rows)
    if columns is not None:
        ax.set_xticks(range(len(columns)), columns)
    return ax


def gallery(
    pictures: Sequence[np.ndarray], titles: Sequence[str] = (), columns: int = 5, ticked: Sequence[bool] = ()
) -> np.ndarray:
    """Pictures (H,W), (H,W,3) or (H,W,4) in a grid on white, a title under each; `ticked` ones get a tick and a frame.

    Returns the array of axes, one a picture. Raises ValueError for no pictures.
    """
    if len(pictures) == 0:
        raise ValueError("No pictures to show.")
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    titles = [_wrap(title) for title in titles]
    longest = max((title.count("\n") + 1 for title in titles), default=0)
    size = (1.7 * columns, (2.0 + 0.14 * max(0, longest - 3)) * rows)  # three lines fit, each further one takes 0.14
    _, grid = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    for index, ax in enumerate(grid.flat):
        for side in ax.spines.values():
            side.set_visible(False)
        ax.set_xticks([])
        ax.set_yticks([])
        if index >= len(pictures):
            continue
        ax.imshow(pictures[index], cmap="gray" if np.ndim(pictures[index]) == 2 else None)
        marked = index < len(ticked) and ticked[index]
        if index < len(titles):
            ax.set_xlabel(("✓ " if marked else "") + titles[index], fontsize=8)
        if marked:
            for side in ax.spines.values():
                side.set(visible=True, color=COLOURS["sound"], linewidth=3)
    return grid.flat[: len(pictures)]


def _wrap(text: str, width: int = 22) -> str:
    """At most six lines of `width` characters: every caption of a scene is whole. The rest becomes an ellipsis."""
    return "\n".join(textwrap.wrap(text, width, max_lines=6, placeholder=" …"))


def _ink(ground: Sequence[float]) -> str:
    """Black or white, whichever stands out more on an sRGB colour in 0..1: at least 4.58 to 1 on any.

    Their contrasts with a ground of relative luminance l (WCAG 2.2) are (l + 0.05) / 0.05 and 1.05 / (l + 0.05).
    """
    channels = np.asarray(ground, dtype=float)  # (3,)
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return "black" if (linear @ [0.2126, 0.7152, 0.0722] + 0.05) ** 2 > 0.05 * 1.05 else "white"


def _bare(ax: Axes) -> None:
    """No frame on top and right."""
    ax.spines[["top", "right"]].set_visible(False)


def arrows(vectors: np.ndarray, names: Sequence[str], ax: Axes | None = None) -> Axes:
    """Vectors (N,2) as arrows from the origin, each with its name at the tip; the first is the question's, in orange.

    Raises ValueError when there is not one name a vector.
    """
    vectors = np.asarray(vectors, dtype=float)  # (N,2)
    if vectors.shape != (len(names), 2):
        raise ValueError(
            f"vectors have shape {vectors.shape}: (N,2) with one name each is needed, not {len(names)} names."
        )
    ax = ax or plt.subplots(figsize=(4, 4), layout="constrained")[1]
    for row, (vector, name) in enumerate(zip(vectors, names)):
        colour = COLOURS["image"] if row else COLOURS["text"]
        style = {"arrowstyle": "-|>", "color": colour, "linewidth": 2, "linestyle": "-" if row else "--", "shrinkA": 0}
        ax.annotate("", vector, (0, 0), arrowprops=style | {"shrinkB": 0})
        ax.annotate(name, vector, xytext=(6, -10), textcoords="offset points")  # black: orange is too pale for words
    low, high = min(0.0, vectors.min()), max(0.0, vectors.max())
    ax.set(
        xlim=(low - 0.5, high + 1),
        ylim=(low - 0.5, high + 1),
        aspect="equal",
        xlabel="first number",
        ylabel="second number",
    )
    _bare(ax)
    return ax


def maps(
    pictures: Sequence[np.ndarray], saliency: np.ndarray, titles: Sequence[str], outlines: np.ndarray, columns: int = 4
) -> np.ndarray:
    """Saliency (N,h,w) as coloured cells over grey pictures (H,W,3), one scale and bar; outlines (N,H,W) bool masks.

    The colours follow the square root, so that faint parts are seen too; the smaller a value, the more of the picture
    shows through. h and w divide H and W. Returns the array of axes. Raises ValueError when there is not one of each.
    """
    if not len(pictures) == len(saliency) == len(titles) == len(outlines):
        lengths = f"{len(pictures)} pictures, {len(saliency)} maps, {len(titles)} titles, {len(outlines)} outlines"
        raise ValueError(f"maps: {lengths}; one of each is needed.")
    saliency = np.asarray(saliency, dtype=float)
    axes = gallery([np.asarray(picture).mean(axis=-1) for picture in pictures], titles, columns)
    figure, scale = axes[0].get_figure(), PowerNorm(0.5, 0.0, saliency.max() or 1.0)
    figure.set_size_inches(2.5 * min(columns, len(pictures)) + 0.8, 2.8 * -(-len(pictures) // columns))
    for ax, picture, one, outline in zip(axes, pictures, saliency, outlines):
        height, width = np.shape(picture)[:2]
        place = {"extent": (-0.5, width - 0.5, height - 0.5, -0.5), "interpolation": "nearest"}
        ax.imshow(one, cmap=SEQUENTIAL, norm=scale, alpha=0.1 + 0.75 * scale(one).data, **place)
        ax.contour(outline, levels=[0.5], colors="white", linewidths=2.5)
        ax.contour(outline, levels=[0.5], colors="black", linewidths=1)
    figure.colorbar(
        plt.cm.ScalarMappable(scale, SEQUENTIAL), ax=list(axes), shrink=0.8, label="share of the word's reading"
    )
    return axes
