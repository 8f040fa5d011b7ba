"""Exported pages in a real browser: Chromium, with the real onnxruntime-web out of npm's cache."""

import contextlib
import functools
import http.server
import io
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dinogen import Generator
from dinogen.errors import DinogenError
from dinogen.web.runtime import PACKAGE, read_runtime
from helpers.web import PROMPTS, save_run, save_wordless
from launch.export import main

pytestmark = pytest.mark.slow

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
LEVELS = 4  # of grey: random weights lose more in 16 bits than trained ones
DRAWN = "body[data-grid=drawn][data-chosen=drawn][data-walk=drawn]"
SECONDS = 120
PIXELS = """canvas => [...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data]"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    """`python -m http.server` without its lines."""

    def log_message(self, *ignored: object) -> None:
        pass


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a folder."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser; pip install it")
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return save_run(tmp_path_factory.mktemp("run"))


def export(model: Path, folder: Path, *flags: str) -> Path:
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason="pip install 'dinogen[export]'")
    try:
        for name, payload in read_runtime().items():
            (folder / name).write_bytes(payload)
    except DinogenError as error:
        pytest.skip(f"once, where a network is, run: npm cache add {PACKAGE} ({error})")
    page = folder / "page"
    where = ["--output", str(page), "--runtime", str(folder)]
    assert main(["--model", str(model), "--format", "web", *where, *flags]) == 0
    return page


@pytest.fixture(scope="module")
def folder(browser, run, tmp_path_factory) -> Path:
    return export(run, tmp_path_factory.mktemp("words"), "--prompt", *PROMPTS)


@pytest.fixture(scope="module")
def address(folder) -> Iterator[str]:
    with served(folder) as address:
        yield address


def is_fault(line) -> bool:
    """Whether a line in the browser's console is one; it advises those who read many pixels, as these tests do."""
    return line.type in ("error", "warning") and "willReadFrequently" not in line.text


@pytest.fixture
def context(browser):
    """Browser tabs that share nothing with those of other tests; `context.faults` is what went wrong in them."""
    context = browser.new_context(viewport={"width": 1100, "height": 1000})
    context.set_default_timeout(SECONDS * 1000)
    context.faults = []
    context.on("weberror", lambda error: context.faults.append(str(error.error)))
    context.on("console", lambda line: context.faults.append(line.text) if is_fault(line) else None)
    context.on("requestfailed", lambda request: context.faults.append(request.url))
    yield context
    context.close()
    assert not context.faults


@pytest.fixture(scope="module")
def generator(run) -> Generator:
    return Generator.from_pretrained(run, device="cpu")


def open_page(context, address: str):
    page = context.new_page()
    page.goto(address)
    page.wait_for_selector(DRAWN)
    return page


def settled(page) -> None:
    """Wait until all is drawn that was asked for."""
    page.wait_for_selector(DRAWN)


def pictures(page, selector: str) -> np.ndarray:
    """uint8 `[n, R, R, 3]` of the canvases."""
    found = [np.array(canvas.evaluate(PIXELS), np.uint8) for canvas in page.query_selector_all(selector)]
    side = round((found[0].size // 4) ** 0.5)
    images = np.stack(found).reshape(-1, side, side, 4)
    assert (images[..., 3] == 255).all()
    return images[..., :3]


def faces(page) -> np.ndarray:
    return pictures(page, "#grid canvas")


def apart(some: np.ndarray, images) -> int:
    """Grey levels between images `[N, R, R, 3]` and images `[N, 3, R, R]` where they differ most."""
    return int(np.abs(some.astype(int) - images.permute(0, 2, 3, 1).numpy()).max())


def saved(page, button: str) -> tuple[str, np.ndarray]:
    """Name and pixels of the file that a button gives."""
    with page.expect_download() as waiting:
        page.click(button)
    return waiting.value.suggested_filename, np.array(Image.open(io.BytesIO(waiting.value.path().read_bytes())))


def test_faces_are_those_of_dinogen_and_repeat_with_the_seed(context, address, generator):
    hosts = set()
    context.on("request", lambda request: hosts.add(request.url[: len(address)]))
    page = open_page(context, f"{address}#seed=7")
    first = faces(page)
    assert apart(first, generator.sample(12, seed=7, prompt="", output="pt")) <= LEVELS
    assert not any((one == other).all() for one, other in zip(first, first[1:]))
    assert "Seeds and numbers are those of dinogen sample" in page.inner_text("#seeds-note")
    page.fill("#seed", "4294967295")
    page.press("#seed", "Enter")
    settled(page)
    other = faces(page)
    assert apart(other, generator.sample(12, seed=2**32 - 1, prompt="", output="pt")) <= LEVELS
    page.fill("#seed", "7")
    page.press("#seed", "Tab")
    settled(page)
    assert (faces(page) == first).all() and (other != first).any()
    page.click("#another")
    settled(page)
    assert page.input_value("#seed") not in ("7", "") and (faces(page) != first).any()
    assert hosts == {address}, "no other host is asked for anything"


def test_variety_words_and_emphasis_are_those_of_dinogen(context, address, generator):
    page = open_page(context, f"{address}#seed=3")
    assert page.is_disabled("#guidance"), "without words there is nothing to exaggerate"
    page.focus("#psi")
    for _ in range(8):
        page.keyboard.press("ArrowLeft")
    settled(page)
    assert page.inner_text("#psi-value") == "0.60"
    assert apart(faces(page), generator.sample(12, 3, "", truncation_psi=0.6, output="pt")) <= LEVELS
    page.select_option("#prompt", label=PROMPTS[1])
    settled(page)
    worded = faces(page)
    assert apart(worded, generator.sample(12, 3, PROMPTS[1], truncation_psi=0.6, output="pt")) <= LEVELS
    page.focus("#guidance")
    page.keyboard.press("End")
    settled(page)
    assert page.inner_text("#guidance-value") == "2.50" and (faces(page) != worded).any()
    expected = generator.sample(12, 3, PROMPTS[1], truncation_psi=0.6, guidance=2.5, output="pt")
    assert apart(faces(page), expected) <= LEVELS
    name, pixels = saved(page, "#save")
    assert name == "prompt0001-seed0003-000000.png" and (pixels[..., :3] == faces(page)[0]).all()


def test_a_walk_between_two_seeds_is_that_of_dinogen(context, address, generator):
    page = open_page(context, f"{address}#seed=1")
    page.click("#grid li:nth-child(5) button")
    page.click("#from")
    page.fill("#seed", "2")
    page.press("#seed", "Enter")
    page.click("#grid li:nth-child(3) button")
    page.click("#to")
    assert page.inner_text("#walk-name") == "From seed 1, number 4 to seed 2, number 2"
    ends = [generator.style(1, seed, "", first=number)[0] for seed, number in ((1, 4), (2, 2))]
    expected = generator.interpolate(*ends, frames=5, prompt="", output="pt")
    for at, image in zip((0, 25, 50, 75, 100), expected):
        page.fill("#at", str(at))
        settled(page)
        assert apart(pictures(page, "#walk"), image[None]) <= LEVELS
    name, pixels = saved(page, "#save-walk")
    assert name == "walk-1-4-to-2-2-at-100.png" and (pixels[..., :3] == pictures(page, "#walk")[0]).all()
    name, pixels = saved(page, "#save")
    assert name == "seed0002-000002.png" and (pixels[..., :3] == faces(page)[2]).all()
    page.click("#play")
    page.wait_for_selector("#at-value:not(:text-is('100 %'))")
    assert page.get_attribute("#play", "aria-pressed") == "true" and page.inner_text("#play") == "Stop"
    page.click("#play")
    settled(page)
    shown = page.inner_text("#at-value")
    page.wait_for_timeout(300)
    assert page.inner_text("#at-value") == shown != "100 %" and page.inner_text("#play") == "Play"


def test_the_address_brings_back_what_is_seen_and_two_tabs_do_not_meet(context, address):
    kept = "seed=5&psi=0.8&prompt=a+bald+man&guidance=2&face=3&from=9-1&to=4-2&at=40"
    page = open_page(context, f"{address}#{kept}")
    seen = [pictures(page, selector) for selector in ("#grid canvas", "#chosen", "#walk")]
    assert page.url == f"{address}#{kept}"
    other = open_page(context, f"{address}#seed=6")
    page.fill("#seed", "11")
    page.press("#seed", "Enter")
    other.fill("#seed", "12")
    other.press("#seed", "Enter")
    settled(page)
    settled(other)
    assert (faces(page) != faces(other)).any() and page.input_value("#seed") == "11"
    page.evaluate("address => { location.hash = address; }", kept)
    page.wait_for_selector("#chosen-name:text-is('Seed 5, number 3')")
    settled(page)
    for tab in (page, open_page(context, f"{address}#{kept}")):
        again = [pictures(tab, selector) for selector in ("#grid canvas", "#chosen", "#walk")]
        assert all((one == two).all() for one, two in zip(seen, again))


def test_odd_addresses_are_read_as_far_as_they_can_be(context, address):
    page = open_page(context, f"{address}#seed=-3&psi=abc&prompt=nothing&guidance=99&face=1e9&from=1-x&at=200")
    assert [page.input_value(f"#{name}") for name in ("seed", "psi", "prompt", "at")] == ["0", "1", "0", "100"]
    assert page.get_attribute("#grid li:nth-child(12) button", "aria-pressed") == "true"
    page.fill("#seed", "")
    page.press("#seed", "Enter")
    assert page.input_value("#seed") == "0"


def test_the_last_of_many_clicks_wins(context, address, generator):
    page = open_page(context, address)
    for seed in range(100, 120):
        page.fill("#seed", str(seed))
        page.press("#seed", "Enter")
    settled(page)
    assert apart(faces(page), generator.sample(12, seed=119, prompt="", output="pt")) <= LEVELS


def test_all_can_be_reached_by_keyboard(context, address):
    page = open_page(context, address)
    page.focus("#seed")
    reached = []
    for _ in range(30):
        reached.append(page.evaluate("() => document.activeElement.id || document.activeElement.ariaLabel"))
        page.keyboard.press("Tab")
    controls = ["seed", "another", "psi", "prompt", "Face with seed 0, number 0", "save", "from", "to", "at", "play"]
    assert [name for name in reached if name in controls][: len(controls)] == controls
    page.focus("#grid li:nth-child(6) button")
    page.keyboard.press("Enter")
    settled(page)
    assert page.inner_text("#chosen-name") == "Seed 0, number 5"
    assert (pictures(page, "#chosen")[0] == faces(page)[5]).all()


@pytest.mark.parametrize(("width", "scheme", "dark"), [(360, "light", False), (1100, "dark", True)])
def test_it_fits_a_phone_and_follows_the_colour_scheme(browser, address, width, scheme, dark):
    context = browser.new_context(viewport={"width": width, "height": 740}, color_scheme=scheme)
    page = open_page(context, address)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width
    ground = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", ground))) < 150) == dark
    for button in page.query_selector_all("button"):
        box = button.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= width and box["height"] >= 32, "large enough for a thumb"
    context.close()


def test_a_model_without_words(context, tmp_path):
    model = save_wordless(tmp_path / "model")
    with served(export(model, tmp_path)) as address:
        page = open_page(context, f"{address}#seed=2")
        expected = Generator.from_pretrained(model, device="cpu").sample(12, seed=2, output="pt")
        assert apart(faces(page), expected) <= LEVELS
        page.close()


def test_a_missing_file_is_said_on_the_page(browser, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "page")
    (tmp_path / "page" / "generator.onnx").unlink()
    with served(tmp_path / "page") as address:
        page = browser.new_page()
        page.goto(address)
        page.wait_for_selector("#status:has-text('could not be started: generator.onnx: the server says 404')")
        page.close()
