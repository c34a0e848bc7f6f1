"""A learner's first half hour in a real browser: JupyterLab from `make lab`, an exercise, the search pages.

Playwright drives a Chromium of this machine; nothing is downloaded. Without one these tests are skipped and say so.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import nullcontext, suppress
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from PIL import Image

from course_utils import stamps

sync_api = pytest.importorskip("playwright.sync_api", reason="no Playwright here: pip install playwright")
expect = sync_api.expect
expect.set_options(timeout=30_000)  # other tests keep both cores busy
pytestmark = pytest.mark.slow
MISSING = "no Chromium here: apt-get install chromium (or playwright install chromium)"
FIRST_SEARCH = 60  # seconds from the opened notebook to the first search's pictures


@pytest.fixture(scope="module")
def browser():
    """Chromium: the one that the system has, or the one that Playwright once downloaded."""
    names = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
    with sync_api.sync_playwright() as playwright:
        program = next(filter(None, map(shutil.which, names)), playwright.chromium.executable_path)
        if not Path(program).exists():
            pytest.skip(MISSING)
        started = playwright.chromium.launch(executable_path=program)
        yield started
        started.close()


@pytest.fixture()
def started(tmp_path):
    """Start a program that ends with the test: `started(command)` is the file of what it says."""
    running = []

    def start(command, **options):
        log = tmp_path / f"{len(running)}.log"
        with log.open("w") as file:
            group = {"start_new_session": True}  # make, the server and its kernels end together
            running.append(
                subprocess.Popen(command, stdout=file, stderr=file, stdin=subprocess.DEVNULL, **group, **options)
            )
        return log

    yield start
    for process in reversed(running):
        with suppress(ProcessLookupError):  # it has ended by itself
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(20)


def wait(what, seconds, about):
    """Ask until the answer is true, and return it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if answer := what():
            return answer
        time.sleep(0.3)
    raise AssertionError(f"not within {seconds} s: {about()}")


def environment(root, **more):
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])} | more


class Notebook:
    """A notebook open in JupyterLab, used as a hand uses it: by scrolling, clicking and typing."""

    def __init__(self, page):
        self.page = page

    def cell(self, text):
        """The code cell whose source holds a text, on the screen."""
        found = self.page.locator(".jp-CodeCell", has=self.page.locator(".cm-content", has_text=text)).first
        found.wait_for(state="attached", timeout=60_000)
        found.scroll_into_view_if_needed()
        return found

    def menu(self, *items):
        """Click on a menu, then on one of its items."""
        kinds = [".lm-MenuBar-item", ".lm-Menu-item"]
        for kind, item in zip(kinds, items):
            self.page.locator(kind, has_text=re.compile(f"^{item}")).first.click()

    def run(self, text, source=None):
        """Run a cell with Shift and Enter, with a new source where one is given; return what it shows."""
        cell = self.cell(text)
        before = cell.locator(".jp-InputPrompt").text_content()
        cell.locator(".cm-content").click()
        if source is not None:
            self.page.keyboard.press("Control+A")
            self.page.keyboard.insert_text(source)
            cell = self.cell(source)
        self.page.keyboard.press("Shift+Enter")
        numbered = re.compile(rf"^(?!{re.escape(before)}$)\[\d+\]:$")
        expect(cell.locator(".jp-InputPrompt")).to_have_text(numbered)
        return cell.locator(".jp-OutputArea").text_content()


def test_lesson_00_from_make_lab_to_the_first_exercise(browser, started, root, tmp_path, own_artifacts):
    course = tmp_path / "course"  # a copy: JupyterLab saves what it opens
    shutil.copytree(root / "notebooks", course / "notebooks", ignore=shutil.ignore_patterns("artifacts", "solutions"))
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(root / name, course)
    venv = ["VENV=" + sys.prefix, "-o", f"{sys.prefix}/.has-lab"]  # everything is installed: this is no test of pip
    command = ["make", "-C", course, "lab", *venv, "LAB_OPTIONS=--no-browser --allow-root --ServerApp.port=0"]
    folders = {f"JUPYTER_{one}_DIR": str(tmp_path / one) for one in ("CONFIG", "RUNTIME", "DATA")}
    log = started(command, env=environment(root, COURSE_PROFILE="smoke", **folders))
    opener = "RUNTIME/jpserver-file-to-run-*-open.html"  # what `make lab` opens where it may open a browser
    opened = wait(lambda: next(tmp_path.glob(opener), None), 60, log.read_text)
    page = browser.new_page(viewport={"width": 1300, "height": 900})
    page.goto(opened.as_uri())
    notebook = Notebook(page)
    notebook.cell('PROFILE = "auto"')
    expect(page.locator("#jp-main-statusbar")).to_contain_text("| Idle", timeout=60_000)
    began = time.monotonic()
    notebook.menu("Run", "Run All Cells$")
    search = notebook.cell("best = scores[0].topk(5).indices")
    search.locator(".jp-RenderedImage img").wait_for(state="attached", timeout=FIRST_SEARCH * 1000)
    assert time.monotonic() - began <= FIRST_SEARCH
    spoken = search.locator("p", has_text="Figure: ")  # JupyterLab gives pictures no alt; this is what is heard
    assert "an animal that lives in the sea" in spoken.text_content()
    prompts = page.locator(".jp-CodeCell .jp-InputPrompt")
    done = lambda: all(re.fullmatch(r"\[\d+\]:", text) for text in prompts.all_text_contents())
    wait(done, 120, lambda: f"prompts {prompts.all_text_contents()}")
    assert page.locator("[data-mime-type*=error]").all_text_contents() == []
    assert "not attempted yet" in notebook.cell("check_shapes(shapes)").text_content()

    found = notebook.run('search("a red bird")', 'search("a sailing boat")')  # words of one's own
    assert "Figure: Best pictures for 'a sailing boat'" in found and "sail" in found.partition("'a sailing boat'")[2]

    wrong, right = (
        "[(16, 224, 224, 3), (16, 1280), (16, 384), (7, 16)]",
        "[(16, 3, 224, 224), (16, 1280), (16, 384), (7, 16)]",
    )
    notebook.run("shapes = ...", f"shapes = {wrong}")
    said = notebook.run("check_shapes(shapes)")
    assert "Exercise 0.1: images: colour stands last here. In PyTorch it comes before height and width." in said
    assert "Traceback" not in said
    assert "0.1" not in notebook.run("progress.table()")
    notebook.run(f"shapes = {wrong}", f"shapes = {right}")
    assert "Exercise 0.1: right." in notebook.run("check_shapes(shapes)")
    assert re.search(r"\s00\s+0\.1\s+\d{4}-", notebook.run("progress.table()"))
    assert [file.name for file in (own_artifacts / "progress").iterdir()] == ["00-0.1.txt"]


# Words that stand out less than 4.5 to 1 (3 to 1 where they are large), against the colours that lie behind them.
FAINT = """() => {
  const numbers = colour => { const found = colour.match(/[\\d.]+/g).map(Number); return [...found, 1].slice(0, 4) };
  const over = (top, ground) => ground.map((value, i) => top[i] * top[3] + value * (1 - top[3]));
  const light = colour => colour.map(x => x / 255).map(x => x <= .04045 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4)
    .reduce((sum, x, i) => sum + x * [.2126, .7152, .0722][i], 0);
  const faint = [];
  const words = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (words.nextNode()) {
    const element = words.currentNode.parentElement, style = getComputedStyle(element);
    if (!words.currentNode.textContent.trim() || !element.checkVisibility({visibilityProperty: true})) continue;
    if (element.closest('script, style, noscript')) continue;
    let ground = [255, 255, 255];
    const behind = [];
    for (let one = element; one; one = one.parentElement) behind.unshift(one);
    for (const one of behind) {
      const look = getComputedStyle(one);
      ground = over(numbers(look.backgroundColor), ground);
      const tint = look.backgroundImage.match(/rgba?\\([^)]*\\)/);
      if (tint) ground = over(numbers(tint[0]), ground);
    }
    const [one, other] = [light(over(numbers(style.color), ground)), light(ground)];
    const ratio = (Math.max(one, other) + .05) / (Math.min(one, other) + .05);
    const large = parseFloat(style.fontSize) >= (style.fontWeight >= 700 ? 18.66 : 24);
    if (ratio < (large ? 3 : 4.5)) faint.push(`${element.textContent.trim().slice(0, 40)}: ${ratio.toFixed(2)}`);
  }
  return faint;
}"""


def search_for(page, words):
    """Type a question into a search page and click on its button; the pictures it shows."""
    page.get_by_label("What should the picture show?").fill(words)
    page.get_by_role("button", name="Search", exact=True).click()
    return page.locator(".found figure")


def hand_over(page, picture):
    """Upload a picture in the page's second tab; the captions it shows."""
    page.get_by_role("tab", name="Picture to captions").click()
    page.locator("input[type=file]").set_input_files(picture)
    captions = page.locator(".captions li")
    expect(captions.first).to_be_visible()
    return captions


def test_the_search_page_answers_asks_nobody_else_and_runs_no_script_that_is_typed(browser, started, root, tmp_path):
    pytest.importorskip("gradio")
    pytest.importorskip("faiss")
    log = started([sys.executable, root / "data_scripts" / "search_page.py"], env=environment(root))
    address = wait(lambda: re.search(r"http://127\.0\.0\.1:\d+/", log.read_text()), 90, log.read_text)[0]
    page = browser.new_page(viewport={"width": 1200, "height": 1600})
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    expect(page.locator(".found figure img")).to_have_count(10, timeout=60_000)
    typed = '<script>window.bad = 1</script> <img src=x onerror="window.bad = 2"> ${window.bad = 3} {{value}} bird'
    search_for(page, typed)
    expect(page.locator(".words").first).to_contain_text("<script>window.bad")
    assert page.evaluate("window.bad === undefined && !document.querySelector('.found script, .found img[onerror]')")
    expect(search_for(page, "a frog").first).to_contain_text("frog", ignore_case=True)
    frog = tmp_path / "frog.webp"
    frog.write_bytes(stamps.load().iloc[0]["picture"])
    assert "frog" in hand_over(page, frog).first.text_content().lower()
    assert asked and [one[:100] for one in asked if not one.startswith((address, "data:", "blob:" + address))] == []
    fonts = page.evaluate("[...document.fonts].filter(font => font.status === 'loaded').length")
    assert fonts == 0  # the system's own


@pytest.fixture(scope="module")
def lesson_06(root):
    """Lesson 06's own cells, from its search to its page, over the shipped retriever in place of one just trained."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("gradio")
    pytest.importorskip("faiss")
    import numpy as np

    from course_utils import shipped, towers
    from course_utils.scenes import SceneConfig, Scenes

    drawn = Scenes(0, "test", SceneConfig(size=224, counts=(1, 4)))
    texts = [caption.text for i in range(30) for caption in drawn[i].captions]
    mine = shipped.load("tiny")  # the cheapest
    given = {"np": np, "torch": torch, "towers": towers, "mine": mine, "recipe": mine.recipe, "quick": nullcontext}
    given |= {
        "test": SimpleNamespace(pixels=drawn.images(range(30)), texts=texts),
        "train": SimpleNamespace(texts=texts),
    }
    given["session"] = SimpleNamespace(device=torch.device("cpu"))
    notebook = nbformat.read(root / "notebooks" / "06_train_the_retriever.ipynb", as_version=4)
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "code"]

    def run(text):
        (source,) = [source for source in cells if text in source]
        exec(source, given)

    run("def english(sentences)")
    given["z_img"] = torch.from_numpy(np.stack([given["see"](pixels) for pixels in given["test"].pixels]))
    given["z_txt"] = given["english"](texts)
    run("def german(sentences)")
    run("finder = Finder(")
    run("blocks = page.build(")
    yield SimpleNamespace(**given)
    run("page.close(blocks)")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_lesson_06s_page_takes_words_and_a_picture_and_can_be_read(browser, lesson_06, scheme, tmp_path):
    page = browser.new_page(viewport={"width": 1200, "height": 1600}, color_scheme=scheme)
    page.goto(lesson_06.address)
    expect(page.locator(".found figure img")).to_have_count(8, timeout=60_000)
    assert (page.evaluate("document.body.classList.contains('dark')")) == (scheme == "dark")
    wanted = lesson_06.test.texts[0]
    first = search_for(page, wanted).first
    expect(first).to_contain_text(wanted)
    assert page.evaluate("[...document.images].filter(one => one.checkVisibility() && !one.alt).length") == 0
    assert page.evaluate(FAINT) == []
    Image.fromarray(lesson_06.test.pixels[7]).save(tmp_path / "scene.png")
    said = hand_over(page, tmp_path / "scene.png").first.text_content()
    assert any(text in said for text in lesson_06.test.texts[35:40])
    assert page.evaluate(FAINT) == []
    page.close()
