"""The search page: what it shows, and what its server does on this machine and refuses from elsewhere."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from functools import cache
from html.parser import HTMLParser
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("faiss")
from course_utils import page  # noqa: E402
from course_utils.search import Finder, Index  # noqa: E402

# Runs a program and notes every address that it connects to, binds, sends to or looks up.
AUDITED = """
import json, runpy, sys
log = open(sys.argv[1], "a", buffering=1)
def hook(event, given):
    if event in ("socket.connect", "socket.bind", "socket.sendto"):
        log.write(json.dumps([event, given[1][0] if isinstance(given[1], tuple) else "unix"]) + "\\n")
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        log.write(json.dumps([event, str(given[0])]) + "\\n")
sys.addaudithook(hook)
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
NASTY = "<script>alert(1)</script><img src=x onerror=alert(2)> \"' ${alert(3)} {{value}}"


def shade(sentences):
    """Dark and light are opposite, other words nothing."""
    rows = [[float(sentence.count("dark")), float(sentence.count("light"))] for sentence in sentences]
    return np.array([np.divide(row, np.linalg.norm(row) or 1) for row in rows])


def tiny(**changes):
    """A finder over two pictures, one dark and one light."""
    encode = lambda picture: [1.0, 0.0] if np.asarray(picture.convert("L")).mean() < 128 else [0.0, 1.0]
    index = Index(np.eye(2))
    titles = ["dark " + NASTY, "light"]
    show = lambda row: np.full((30, 20, 4 if row else 3), 255 * row, np.uint8)
    return Finder(**({"readers": {"English": shade}, "encode_image": encode, "pictures": index, "captions": index,
                      "show": show, "titles": titles, "texts": titles} | changes))  # fmt: skip


class Elements(HTMLParser):
    """What a browser would make of some HTML: (name, attributes) of each element."""

    def __init__(self, html):
        super().__init__()
        self.found = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, attrs))


def test_words_show_pictures_scores_and_parts():
    html = page.words_html(tiny(), "a dark thing", k=2)
    assert html.count("<figure>") == html.count('src="data:image/webp;base64,') == 2
    assert re.findall(r'class="score">([^<]*)<', html) == ["1.00", "0.00"]
    first = html.partition("</figure>")[0]
    assert re.findall(r"<bdi>(.*?)</bdi> ([^<]*)<", first) == [("a", "+0.00"), ("dark", "+1.00"), ("thing", "+0.00")]
    assert "Read as" not in html  # one language is no news
    assert "all of it is due to the one word" in page.words_html(tiny(), "dark")


def test_the_language_is_named_where_there_are_several():
    finder = tiny(readers={"English": shade, "German": shade}, guess=lambda text: "German")
    for given in (None, page.GUESS):
        assert "Read as German (guessed)." in page.words_html(finder, "dark", given)
    assert "Read as English.<" in page.words_html(finder, "dark", "English")


def test_what_is_typed_or_titled_is_escaped(tmp_path):
    Image.new("RGB", (9, 9), "black").save(tmp_path / "dark.png")
    for html in (
        page.words_html(tiny(), "dark " + NASTY, k=2),
        page.words_html(tiny(), NASTY, NASTY),
        page.picture_html(tiny(), str(tmp_path / "dark.png")),
    ):
        assert "&lt;script&gt;" in html
        elements = Elements(html).found
        assert not {"script", "iframe"} & {name for name, _ in elements}
        assert all(not key.startswith("on") for _, attributes in elements for key, _ in attributes)
        assert all(value.startswith("data:") for _, attributes in elements for key, value in attributes if key == "src")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "There are no words"),
        ("\ud800", "There are no words"),
        ("nothing", "None of these words is known"),
        ("dark " * 500, "The question was cut after"),
    ],
)
def test_odd_questions_get_a_message(text, said):
    assert said in page.words_html(tiny(), text)


@cache
def uploads():
    """name -> (bytes, what the page says)."""
    from test_uploads import encoded, halves, png_of

    exif = Image.Exif()
    exif[0x0112] = 8
    moving = encoded(halves(), "GIF", save_all=True, append_images=[Image.new("RGB", (60, 40))])
    deep = Image.fromarray(np.arange(600, dtype=np.uint16).reshape(20, 30) * 100)
    return {
        "text": (b"not a picture", "not a picture that can be read"),
        "zero": (b"", "0 bytes"),
        "large": (encoded(Image.new("1", (10_000, 5_000))), "50 megapixels"),
        "bomb": (png_of(100_000, 100_000), "megapixels"),
        "cut": (encoded(halves((600, 400)), "JPEG")[:2_000], "damaged"),
        "moving": (moving, "first frame"),
        "cmyk": (encoded(halves().convert("CMYK"), "JPEG"), "CMYK"),
        "deep": (encoded(deep), "grey levels"),
        "webp": (encoded(halves(), "WEBP"), '<ol class="captions">'),
        "pages": (encoded(halves(), "TIFF", save_all=True, append_images=[halves()]), "It holds several"),
        "turned": (encoded(halves(), "JPEG", exif=exif), "upright"),
        "good": (encoded(halves()), '<ol class="captions">'),
    }


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("name", list(uploads()))
def test_every_upload_gets_an_answer(name, tmp_path):
    content, said = uploads()[name]
    (tmp_path / name).write_bytes(content)
    html = page.picture_html(tiny(), str(tmp_path / name))
    assert said in html and "Traceback" not in html
    assert ('role="alert"' in html) == (name in ("text", "zero", "large", "bomb", "cut"))


def test_no_upload_gets_an_answer_too(tmp_path):
    assert "There is no picture yet" in page.picture_html(tiny(), None)
    assert "There is no such file" in page.picture_html(tiny(), str(tmp_path / "gone.png"))
    assert str(tmp_path) not in page.picture_html(tiny(), str(tmp_path / "gone.png"))


def test_a_picture_that_memory_does_not_hold_is_said(tmp_path):
    def full(picture):
        raise MemoryError

    Image.new("RGB", (9, 9)).save(tmp_path / "dark.png")
    html = page.picture_html(tiny(encode_image=full), str(tmp_path / "dark.png"))
    assert "not enough memory" in html and 'role="alert"' in html


@pytest.mark.parametrize("text", [None, "   ", "\n\t\0", "?!...", "\u200b" * 50, "\ud800" * 9])
def test_a_question_of_nothing_is_answered_in_a_sentence(text):
    assert "There are no words to look for. Type a few" in page.words_html(tiny(), text)


@pytest.mark.parametrize(
    "text", ["dark " + "x" * 100_000, "dark " * 20_000, "暗" * 100_000 + " dark", "dark\u0301" * 9_000]
)
def test_a_question_of_a_hundred_thousand_characters_is_cut_and_answered_at_once(text):
    began = time.monotonic()
    html = page.words_html(tiny(), text, k=2)
    assert time.monotonic() - began < 2 and len(html) < 60_000
    assert "The question was cut after" in html or "None of these words is known" in html


@pytest.mark.parametrize("text", ["تاريك dark", "mørk dark 暗い", "\u202edark", "dark" + "\u0336" * 5, "👩‍👩‍👧 dark"])
def test_words_in_another_script_are_answered_and_kept_apart(text):
    html = page.words_html(tiny(), text, k=2)
    assert html.count("<figure>") == 2 or "None of these words is known" in html
    assert html.count("<bdi>") == html.count("</bdi>")  # no direction of one word reaches the next


def test_without_gradio_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(ModuleNotFoundError, match="pip install faiss-cpu gradio"):
        page.build(tiny(), "A title")


def test_the_page_asks_for_no_font_or_script_from_elsewhere():
    pytest.importorskip("gradio")
    blocks = page.build(tiny(readers={"English": shade, "German": shade}), "A title", "About.", ["dark"])
    configuration = json.dumps(blocks.get_config_file())
    assert "<figure>" in configuration  # the first example is answered already
    assert "analytics_enabled" not in configuration or not blocks.analytics_enabled
    assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"
    assert page._POLICY.startswith("default-src 'self'") and "http" not in page._POLICY


@pytest.fixture(scope="module")
def server(root, tmp_path_factory):
    """The real program, in an environment that invites it to listen everywhere, to share and to use a proxy."""
    pytest.importorskip("gradio")
    log = tmp_path_factory.mktemp("server") / "addresses"
    temptation = {"GRADIO_SERVER_NAME": "0.0.0.0", "GRADIO_SHARE": "True", "GRADIO_ANALYTICS_ENABLED": "True"}
    temptation |= {"GRADIO_ALLOWED_PATHS": "/", "GRADIO_SERVER_PORT": "a port", "GRADIO_NUM_WORKERS": "many"}
    temptation |= dict.fromkeys(("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"), "http://192.0.2.1:9")
    environment = {key: value for key, value in os.environ.items() if "NO_PROXY" != key.upper() != "GRADIO_TEMP_DIR"}
    environment |= temptation | {"PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])}
    program = [sys.executable, "-c", AUDITED, str(log), str(root / "data_scripts" / "search_page.py")]
    process = subprocess.Popen(
        program, env=environment, cwd=log.parent, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    said = []
    for line in process.stdout:
        said.append(line)
        if "Ctrl-C" in line:
            break
    address = re.search(r"http://127\.0\.0\.1:\d+/", "".join(said))
    assert address, "".join(said)
    process.address, process.log = address[0], log
    yield process
    if process.poll() is None:
        process.kill()
        process.wait(20)


def get(server, path="/", **headers):
    connection = http.client.HTTPConnection(urlsplit(server.address).netloc, timeout=20)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    return answer.status, dict(answer.getheaders()), answer.read().decode("utf-8", "replace")


@pytest.fixture(scope="module")
def client(server):
    return pytest.importorskip("gradio_client").Client(server.address, verbose=False, analytics_enabled=False)


@pytest.mark.slow
def test_it_listens_on_the_loopback_address_only(server):
    psutil = pytest.importorskip("psutil")
    process = psutil.Process(server.pid)
    ask = getattr(process, "net_connections", None) or process.connections
    listening = [one.laddr for one in ask(kind="inet") if one.status == psutil.CONN_LISTEN]
    assert [one.ip for one in listening] == ["127.0.0.1"]
    assert listening[0].port == urlsplit(server.address).port
    assert process.children() == []


@pytest.mark.slow
def test_the_browser_is_told_to_load_nothing_from_elsewhere(server):
    status, headers, html = get(server)
    headers = {name.lower(): value for name, value in headers.items()}
    assert status == 200 and "default-src 'self'" in headers["content-security-policy"]
    assert headers["referrer-policy"] == "no-referrer"
    assert not re.search(r'(?:src|href)="https?://', html)
    assert "fonts.g" + "oogleapis" not in get(server, "/theme.css")[2]


@pytest.mark.slow
def test_another_host_name_is_refused(server):
    port = urlsplit(server.address).port
    for host in (f"evil.example:{port}", "evil.example", f"192.168.0.7:{port}", f"127.0.0.1.evil.example:{port}"):
        status, _, text = get(server, Host=host)
        assert status == 403 and "127.0.0.1 only" in text
    assert get(server, Host=f"localhost:{port}")[0] == 200


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "language", "said"),
    [
        ("a flower", page.GUESS, "Read as English (guessed)."),
        ("un coche rojo", page.GUESS, "Read as Spanish (guessed)."),
        ("ein Hund", "German", "Read as German."),
        ("", page.GUESS, "There are no words"),
        ("dog " * 500, page.GUESS, "The question was cut after"),
        (NASTY, "English", "&lt;script&gt;"),
    ],
)
def test_words_are_answered_over_http(client, text, language, said):
    html = client.predict(text, language, api_name="/words")
    assert said in html and "<script" not in html
    assert html.count("<figure>") == (0 if "role=" in html else 10)
    if text == "a flower":
        assert "flower" in html.partition("</figure>")[0].rpartition("figcaption")[0]


@pytest.mark.slow
def test_twenty_ask_at_once_and_each_gets_the_own_answer(client):
    words = [
        "a flower",
        "un coche rojo",
        "ein Hund",
        "a boat",
        "une grenouille",
        "рыба",
        "カエル",
        "",
        "a bird",
        "자동차",
    ]
    alone = [client.predict(text, page.GUESS, api_name="/words") for text in words]
    jobs = [client.submit(text, page.GUESS, api_name="/words") for text in words * 2]
    assert [job.result(timeout=60) for job in jobs] == alone * 2
    assert len(set(alone)) == len(words)


@pytest.mark.slow
def test_a_long_question_is_cut_on_the_way_too(client):
    html = client.predict("dog " * 25_000, "English", api_name="/words")
    assert "The question was cut after" in html and html.count("<figure>") == 10


@pytest.mark.slow
@pytest.mark.parametrize("name", list(uploads()))
def test_uploads_are_answered_over_http(client, name, tmp_path):
    from gradio_client import handle_file

    content, said = uploads()[name]
    path = tmp_path / f"{name}.png"
    path.write_bytes(content)
    html = client.predict(handle_file(str(path)), api_name="/picture")
    assert said in html and "Traceback" not in html


@pytest.mark.slow
def test_a_file_of_many_megabytes_is_refused_on_the_way(server):
    httpx = pytest.importorskip("httpx")
    body = {"files": ("big.png", bytes(40_000_000))}
    answer = httpx.post(server.address + "gradio_api/upload", files=body, timeout=60, trust_env=False)
    assert answer.status_code == 413


@pytest.mark.slow
def test_no_file_of_this_machine_is_served(server, root):
    for path in (root / "pyproject.toml", "/etc/hostname"):
        assert get(server, f"/gradio_api/file={path}")[0] in (403, 404)


@pytest.mark.slow
def test_it_ends_cleanly_on_ctrl_c_and_spoke_to_nobody_else(server):
    """The last test of the module: it ends the server."""
    server.send_signal(signal.SIGINT)
    said, _ = server.communicate(timeout=30)
    assert server.returncode == 0
    assert said.split() == "The page has ended.".split()
    with socket.socket() as again:
        again.bind(("127.0.0.1", urlsplit(server.address).port))
    seen = {tuple(json.loads(line)) for line in server.log.read_text().splitlines()}
    assert ("socket.bind", "127.0.0.1") in seen and ("socket.connect", "127.0.0.1") in seen
    strange = {one for one in seen if one[1] not in ("127.0.0.1", "localhost", "unix", "b'127.0.0.1'")}
    assert strange == set()


@pytest.mark.slow
def test_it_can_be_ended_and_started_again_in_a_notebook():
    """Twice in one process, without blocking it; the second page answers too."""
    pytest.importorskip("gradio")
    from gradio_client import Client

    for _ in range(2):
        blocks = page.build(tiny(), "A title")
        began = time.monotonic()
        address = page.serve(blocks, inline=False)
        assert time.monotonic() - began < 20 and address.startswith("http://127.0.0.1:")
        try:
            html = Client(address, verbose=False, analytics_enabled=False).predict("dark", api_name="/words")
            assert html.count("<figure>") == 2
        finally:
            page.close(blocks)
        with (
            pytest.raises(ConnectionRefusedError),
            socket.create_connection(("127.0.0.1", urlsplit(address).port), timeout=2),
        ):
            pass


@pytest.mark.slow
def test_in_a_notebook_it_shows_itself_below_the_cell(root, tmp_path):
    pytest.importorskip("gradio")
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    cells = [
        f"import sys; sys.path[:0] = {[str(root), str(root / 'tests')]!r}",
        "from test_page import page, tiny\nblocks = page.build(tiny(), 'A title', examples=['dark'])",
        "address = page.serve(blocks, height=700)",
        "from gradio_client import Client\nclient = Client(address, verbose=False, analytics_enabled=False)\n"
        "print(client.predict('dark', api_name='/words').count('<fig'))",
        "page.close(blocks)",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
    nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = "".join(str(output.get("data", {}).get("text/html", "")) for output in notebook.cells[2].outputs)
    assert re.search(r'<iframe src="http://127\.0\.0\.1:\d+/" width="100%" height="700"', shown)
    assert notebook.cells[3].outputs[0]["text"].strip() == "4"  # two figures, two captions of them
