"""The little search page: a Finder's answers as HTML, a Gradio page around them, and a server on this machine alone.

    blocks = page.build(finder, "My pictures", examples=("a red bird",))
    address = page.serve(blocks)        # in a notebook it shows itself below the cell; page.close(blocks) ends it

What a visitor types or uploads is escaped before it is shown. No font, script or picture comes from elsewhere: a
Content-Security-Policy forbids the browser to ask anybody but this server.
"""

from __future__ import annotations

import atexit
import base64
import io
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from html import escape

import numpy as np
from PIL import Image

from course_utils.search import Answer, Finder
from course_utils.uploads import MEGABYTES

HOST = "127.0.0.1"  # the loopback address: no other machine can reach it
GUESS = "guess it from the words"
_SHOWN = 160  # longer side of a picture on the page, in pixels
_POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; connect-src 'self'; object-src 'none'; "
    "base-uri 'self'; form-action 'self'"
)
_STYLE = """
.found {display: grid; grid-template-columns: repeat(auto-fill, minmax(180px, 1fr)); gap: 14px; padding: 0; margin: 0}
.found figure {margin: 0; padding: 10px; border: 1px solid var(--border-color-primary); border-radius: 6px}
.found img {width: 160px; height: 160px; object-fit: contain; display: block; margin: 0 auto 8px; background: white}
.found .score, .captions .score {font-weight: 700; font-variant-numeric: tabular-nums}
.words {display: flex; flex-wrap: wrap; gap: 4px; margin-top: 6px; font-size: 13px; line-height: 1.3}
.words span {padding: 2px 6px; border-radius: 4px; background-color: white}
.words span, .words bdi {color: #111 !important} /* on white in a dark page too, where Gradio makes all words light */
.upload {display: flex; flex-wrap: wrap; gap: 24px; align-items: flex-start}
.upload img {max-width: 240px; max-height: 240px; background: white; border: 1px solid var(--border-color-primary)}
.captions {margin: 0; padding-left: 1.6em} .captions li {margin: 4px 0}
.remark {margin: 6px 0} .trouble {margin: 6px 0; padding: 8px 12px; border-left: 4px solid #b2182b; font-weight: 600}
button[role=tab][aria-selected=true] {color: var(--body-text-color) !important}
footer {display: none !important}
"""


def words_html(finder: Finder, text: str, language: str | None = None, k: int = 10) -> str:
    """What the page shows for words: pictures with scores and each word's part, or a sentence on what is wrong."""
    try:
        answer = finder.by_words(text, None if language in (None, GUESS) else language, k)
    except ValueError as error:
        return _trouble(error)
    lines = list(answer.remarks)
    if len(finder.readers) > 1:
        lines.append(f"Read as {answer.language}" + (" (guessed)." if language in (None, GUESS) else "."))
    if len(answer.words) > 1:
        lines.append(
            "A score is a cosine. The number beside a word is how much the score falls when that word is left out; the "
            "numbers need not add up to the score."
        )
    else:
        lines.append("A score is a cosine, and all of it is due to the one word.")
    cards = []
    for j, (row, score) in enumerate(zip(answer.rows, answer.scores)):
        title = escape(str(finder.titles[row]))
        cards.append(
            f'<figure><img src="{_data_uri(finder.show(int(row)))}" alt="{title}">'
            f'<figcaption><span class="score">{score:.2f}</span> <span dir="auto">{title}</span>{_chips(answer, j)}'
            "</figcaption></figure>"
        )
    return _remarks(lines) + f'<div class="found">{"".join(cards)}</div>'


def picture_html(finder: Finder, path: str | None, k: int = 10) -> str:
    """What the page shows for an uploaded file: the picture and captions with scores, or what is wrong with it."""
    if not path:
        return _trouble("There is no picture yet. Choose a file first.")
    try:
        answer = finder.by_picture(path, k)
    except (ValueError, OSError) as error:
        return _trouble(error)
    except MemoryError:
        return _trouble("There was not enough memory for this picture. Close other programs, or take a smaller one.")
    items = "".join(
        f'<li><span class="score">{score:.2f}</span> <span dir="auto">{escape(str(finder.texts[row]))}</span></li>'
        for row, score in zip(answer.rows, answer.scores)
    )
    shown = f'<img src="{_data_uri(np.asarray(answer.picture), 240)}" alt="the uploaded picture">'
    return _remarks(answer.remarks) + f'<div class="upload">{shown}<ol class="captions">{items}</ol></div>'


def build(finder: Finder, title: str, about: str = "", examples: Sequence[str] = (), k: int = 10):
    """A Gradio Blocks page over a Finder. about: Markdown below the title. examples: questions to click on; the first
    is answered at once. k: how many pictures and captions it shows. Raises ModuleNotFoundError without Gradio.
    """
    for name in [name for name in os.environ if name.startswith("GRADIO_") and name != "GRADIO_TEMP_DIR"]:
        del os.environ[name]  # made for another page: one of them would hand out this machine's files, others stop ours
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before it is imported: nothing is sent, no version looked up
    os.environ["GRADIO_RUN_HISTORY"] = "False"  # nor is a question kept in the browser
    os.environ["GRADIO_SERVER_NAME"] = HOST  # it even looks for a free port under this name
    if "GRADIO_TEMP_DIR" not in os.environ:  # uploads lie in a folder of their own, which goes when the program ends
        os.environ["GRADIO_TEMP_DIR"] = tempfile.mkdtemp(prefix="search_page_")
        atexit.register(shutil.rmtree, os.environ["GRADIO_TEMP_DIR"], ignore_errors=True)
    try:
        import gradio
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("The search page needs Gradio: pip install faiss-cpu gradio") from error

    def words(text: str, language: str = GUESS) -> str:
        return words_html(finder, text, language, k)

    def example(text: str) -> str:
        return words_html(finder, text, None, k)

    def picture(path: str | None) -> str:
        return picture_html(finder, path, k)

    languages = [GUESS, *finder.readers] if finder.guess else list(finder.readers)
    with gradio.Blocks(title=title, analytics_enabled=False, delete_cache=(600, 600)) as blocks:
        gradio.Markdown(f"# {title}\n\n{about}")
        with gradio.Tab("Words to pictures"):
            with gradio.Row(equal_height=True):
                first = examples[0] if examples else ""
                asked = gradio.Textbox(first, label="What should the picture show?", max_lines=3, scale=4)
                # One language is no choice, so the list is not shown; the answer does not name it either.
                several = len(finder.readers) > 1
                language = gradio.Dropdown(languages, value=languages[0], label="Language", visible=several, scale=2)
                go = gradio.Button("Search", variant="primary", scale=0, min_width=120)
            found = gradio.HTML(words(first, languages[0]) if first else "", render=False)
            if examples:
                rows = [[example] for example in examples]
                gradio.Examples(
                    rows, [asked], found, example, cache_examples=False, run_on_click=True, label="For instance"
                )
            found.render()
            gradio.on([asked.submit, go.click], words, [asked, language], found, api_name="words")
        with gradio.Tab("Picture to captions"):
            upload = gradio.File(label="A picture of yours: it stays on this machine", type="filepath", height=160)
            captions = gradio.HTML()
            upload.upload(picture, upload, captions, api_name="picture")
            upload.clear(lambda: "", None, captions, api_name="clear")
    return blocks


def serve(blocks, port: int | None = None, inline: bool | None = None, height: int = 1_000) -> str:
    """Start the page and return its address, http://127.0.0.1:PORT/. The program goes on; `close` ends the page.

    port: None takes the first free one from 7860 on. inline: show it below the notebook's cell (None: in a notebook),
    `height` pixels high. It listens on the loopback address whatever the environment says, and a request under another
    host name, as a foreign web page could send, is refused. Raises OSError where the port is taken.
    """
    import gradio
    from starlette.middleware import Middleware

    for name in ("NO_PROXY", "no_proxy"):  # Gradio asks its own server whether it is up; a proxy has no part in that
        hosts = [host for host in os.environ.get(name, "").split(",") if host]
        os.environ[name] = ",".join(dict.fromkeys([*hosts, HOST, "localhost"]))
    _, address, _ = blocks.launch(
        server_name=HOST,
        server_port=port,
        share=False,
        inline=inline,
        height=height,
        prevent_thread_lock=True,
        quiet=True,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        enable_monitoring=False,
        footer_links=[],
        max_file_size=(MEGABYTES + 1) * 1_000_000,
        theme=gradio.themes.Base(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
        css=_STYLE,
        app_kwargs={"middleware": [Middleware(_Guard)]},
    )
    return address


def close(blocks) -> None:
    """End a page that `serve` started, and free its port."""
    blocks.close(verbose=False)


class _Guard:
    """ASGI middleware: answers only under a loopback name, and tells the browser to load nothing from elsewhere."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        host = dict(scope["headers"]).get(b"host", b"").decode("latin-1").rpartition(":")[0] or "none"
        if host not in (HOST, "localhost") and "google.colab" not in sys.modules:  # Colab shows pages through a name
            await send({"type": "http.response.start", "status": 403, "headers": [(b"content-type", b"text/plain")]})
            return await send({"type": "http.response.body", "body": b"This page answers as 127.0.0.1 only.\n"})

        async def guarded(message):
            if message["type"] == "http.response.start":
                extra = [(b"content-security-policy", _POLICY.encode()), (b"referrer-policy", b"no-referrer")]
                message = message | {"headers": [*message["headers"], *extra]}
            await send(message)

        return await self.app(scope, receive, guarded)


def _chips(answer: Answer, j: int) -> str:
    """The words with their parts in result j: blue raises the score, orange lowers it, and the sign says so too."""
    largest = max(float(np.abs(answer.parts).max()), 1e-6)
    chips = []
    for word, part in zip(answer.words, answer.parts[:, j]):
        colour = "33, 102, 172" if part >= 0 else "230, 120, 20"
        strength = 0.08 + 0.5 * abs(float(part)) / largest
        tint = f"rgba({colour}, {strength:.2f})"
        number = round(float(part), 2) + 0.0  # no "-0.00"
        chips.append(f'<span style="background-image: linear-gradient({tint}, {tint})">'
                     f"<bdi>{escape(word)}</bdi> {number:+.2f}</span>")  # fmt: skip
    return f'<div class="words">{"".join(chips)}</div>'


def _remarks(lines: Sequence[str]) -> str:
    return "".join(f'<p class="remark">{escape(line)}</p>' for line in lines)


def _trouble(error: object) -> str:
    return f'<p class="trouble" role="alert">{escape(str(error))}</p>'


def _data_uri(pixels: np.ndarray, side: int = _SHOWN) -> str:
    """Pixels (H,W,3) or (H,W,4) uint8 as the address of a picture that holds itself; no file is served."""
    image = Image.fromarray(np.asarray(pixels))
    image.thumbnail((side, side))
    stream = io.BytesIO()
    image.save(stream, "WEBP", quality=85)
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode()
