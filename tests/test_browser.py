"""A learner's first minutes in a real browser: JupyterLab opens lesson 00, runs it, and shows its first search in time.

Needs Chromium (skipped without); it is driven over its own debugging protocol, so nothing else is to be installed.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

websocket = pytest.importorskip("websocket")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(BROWSER is None, reason="no Chromium here")]
FIRST_SEARCH = 60  # seconds from the opened notebook to the first search's pictures


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait(what, seconds):
    """Ask until the answer is true; the last answer's error is shown when it never is."""
    end, error = time.monotonic() + seconds, "it stayed false"
    while time.monotonic() < end:
        try:
            if answer := what():
                return answer
        except (OSError, KeyError, StopIteration) as latest:
            error = repr(latest)
        time.sleep(0.3)
    raise AssertionError(f"not within {seconds} s: {error}")


def fetch(url):
    with urllib.request.urlopen(url, timeout=5) as answer:
        return json.load(answer)


@pytest.fixture()
def started(tmp_path):
    """Start a program that ends with the test."""
    running = []

    def start(command, **options):
        log = open(tmp_path / f"{len(running)}.log", "w")  # noqa: SIM115
        running.append(subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, **options))

    yield start
    for process in reversed(running):
        process.terminate()
        process.wait(20)


@pytest.fixture()
def page(started):
    """A browser's page: `page("expression")` is the value of JavaScript in it, `page(None, url)` opens an address."""
    port = free_port()
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=1200,1600", "--remote-allow-origins=*"]
    started([BROWSER, *options, f"--remote-debugging-port={port}", "about:blank"])
    pages = wait(lambda: [p for p in fetch(f"http://127.0.0.1:{port}/json") if p["type"] == "page"], 30)
    connection = websocket.create_connection(pages[0]["webSocketDebuggerUrl"], timeout=60)
    numbers = iter(range(1, 10_000))

    def call(expression, url=None):
        number = next(numbers)
        method, given = ("Page.navigate", {"url": url}) if url else ("Runtime.evaluate", {"expression": expression})
        connection.send(json.dumps({"id": number, "method": method, "params": given | {}}))
        while (answer := json.loads(connection.recv())).get("id") != number:
            pass
        return answer["result"].get("result", {}).get("value")

    yield call
    connection.close()


def test_lesson_00_opens_runs_and_searches_in_time(started, page, root, tmp_path, own_artifacts):
    folder = tmp_path / "notebooks"
    folder.mkdir()
    shutil.copy(root / "notebooks" / "00_start_here.ipynb", folder)
    port = free_port()
    options = [f"--ServerApp.port={port}", "--no-browser", "--allow-root", "--LabApp.expose_app_in_browser=True"]
    options += ["--IdentityProvider.token=", "--ServerApp.password=", f"--ServerApp.root_dir={folder}"]
    environment = os.environ | {"COURSE_PROFILE": "smoke", "JUPYTER_CONFIG_DIR": str(tmp_path / "config")}
    started([sys.executable, "-m", "jupyterlab", *options], env=environment)
    wait(lambda: fetch(f"http://127.0.0.1:{port}/api/status"), 60)
    page(None, f"http://127.0.0.1:{port}/lab/tree/00_start_here.ipynb")
    notebook = "[...window.jupyterapp.shell.widgets('main')].find(tab => tab.title.label === '00_start_here.ipynb')"
    wait(lambda: page(f"({notebook})?.content?.model?.cells?.length > 20 && ({notebook}).sessionContext.isReady"), 60)
    cells = f"[...({notebook}).content.model.cells].filter(c => c.type === 'code').map(c => c.toJSON())"
    opened = time.monotonic()
    page(f"window.jupyterapp.shell.activateById(({notebook}).id)")
    page("void window.jupyterapp.commands.execute('notebook:run-all-cells')")
    pictures = f"{cells}.some(c => c.outputs.some(o => o.data && o.data['image/png']))"
    wait(lambda: page(pictures), FIRST_SEARCH)
    assert time.monotonic() - opened <= FIRST_SEARCH
    wait(lambda: page(f"{cells}.every(c => c.execution_count || !c.source.length)"), 120)
    assert page(f"JSON.stringify({cells}.flatMap(c => c.outputs.filter(o => o.output_type === 'error')))") == "[]"
    assert page("document.querySelectorAll('.jp-RenderedImage img').length") > 0


def test_the_search_page_asks_nobody_else_and_runs_no_script_that_is_typed(started, page, root, tmp_path):
    pytest.importorskip("gradio")
    pytest.importorskip("faiss")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])}
    started([sys.executable, str(root / "data_scripts" / "search_page.py")], env=environment)
    said = lambda: re.search(r"http://127\.0\.0\.1:\d+/", (tmp_path / "1.log").read_text())  # 0.log is the browser's
    address = wait(said, 90)[0]
    page(None, address)
    wait(lambda: page("document.querySelectorAll('.found figure img').length === 10"), 60)
    typed = '<script>window.bad = 1</script> <img src=x onerror="window.bad = 2"> ${window.bad = 3} {{value}} bird'
    page(
        f"(() => {{ const box = document.querySelector('textarea'); box.value = {json.dumps(typed)};"
        "box.dispatchEvent(new Event('input', {bubbles: true}));"
        "[...document.querySelectorAll('button')].find(b => b.textContent.trim() === 'Search').click() })()"
    )
    wait(lambda: page("document.querySelector('.words').innerText.includes('<script>window.bad')"), 30)
    assert page("window.bad === undefined && !document.querySelector('.found script, .found img[onerror]')")
    asked = json.loads(page("JSON.stringify(performance.getEntriesByType('resource').map(one => one.name))"))
    assert asked and [one[:100] for one in asked if not one.startswith((address, "data:"))] == []
    fonts = page("[...document.fonts].filter(font => font.status === 'loaded').length")
    assert fonts == 0  # the system's own
