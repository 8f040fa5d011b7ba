"""dinogen play in a real browser: each control is used, and the pictures change, and come back with their seed."""

import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from dinogen.images import said_of
from dinogen.play.serving import Place, served
from dinogen.play.studio import Studio
from helpers.drawn_face import draw_face
from helpers.played_run import bomb, free_port, make_run
from launch.play import open_photo

pytest.importorskip("gradio", reason="needs pip install 'dinogen[play]'")
playwright = pytest.importorskip("playwright.sync_api", reason="needs pip install playwright")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
if CHROMIUM is None:
    pytest.skip("needs a Chromium on the path", allow_module_level=True)
pytestmark = pytest.mark.slow

MILLISECONDS = 60_000  # on a busy machine
PROMPT = "a woman with red hair"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def address(run) -> Iterator[str]:
    with served(Studio(str(run), device="cpu"), open_photo, Place(port=free_port())) as address:
        yield address


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, address):
    """Opens the page in a window of its own, with a query. What it asks of other servers, and its errors, are kept."""
    windows = []

    def open_page(query: str = ""):
        window = browser.new_page(viewport={"width": 1280, "height": 900})
        window.set_default_timeout(MILLISECONDS)
        window.elsewhere, window.faults = [], []
        window.on("request", lambda asked: elsewhere(window, asked.url))
        window.on("pageerror", lambda error: window.faults.append(str(error)))
        window.goto(address + query)
        windows.append(window)
        return window

    def elsewhere(window, url: str) -> None:
        if not url.startswith((address, "data:", "blob:")):
            window.elsewhere.append(url)

    yield open_page
    for window in windows:
        assert (window.elsewhere, window.faults) == ([], [])
        window.close()


def link_of(window) -> str:
    return window.locator("#link textarea, #link input").first.input_value()


def wait_for_link(window, pattern: str) -> None:
    """Every drawing ends with a new link."""
    until(window, lambda: re.search(pattern, link_of(window)), f"link {pattern}")


def until(window, what, told: str) -> None:
    end = time.monotonic() + MILLISECONDS / 1000
    while not what():
        assert time.monotonic() < end, f"{told} did not come; the link is {link_of(window)}"
        window.wait_for_timeout(50)


def face_of(window) -> str:
    """The picked face, as the page holds it."""
    return window.locator("#details img").get_attribute("src")


def set_number(window, name: str, value: object) -> None:
    field = window.locator(f"#{name} input[type=number]").first
    field.fill(str(value))
    field.press("Enter")


def open_tab(window, name: str) -> None:
    window.get_by_role("tab", name=name, exact=True).click()


def test_pictures_change_with_the_seed_and_come_back_with_it(open_page):
    window = open_page("?seed=3&psi=0.7")
    window.wait_for_selector("#details img")
    assert window.locator("#gallery img").count() == 8
    first = face_of(window)
    set_number(window, "seed", 4)
    wait_for_link(window, r"seed=4&psi=0\.7$")
    assert face_of(window) != first
    assert window.url == link_of(window), "the address follows"
    again = open_page("?" + window.url.partition("?")[2])
    again.wait_for_selector("#details img")
    assert face_of(again) == face_of(window)
    set_number(window, "seed", 3)
    wait_for_link(window, "seed=3")
    assert face_of(window) == first
    window.click("#another")
    wait_for_link(window, r"seed=(?!3&)")
    assert face_of(window) != first


def test_truncation_words_and_the_number_of_faces_change_what_is_drawn(open_page):
    window = open_page("?seed=3")
    window.wait_for_selector("#details img")
    seen = {face_of(window)}
    set_number(window, "psi", 0.5)
    wait_for_link(window, r"psi=0\.5")
    seen.add(face_of(window))
    window.fill("#prompt textarea, #prompt input", PROMPT)
    window.press("#prompt textarea, #prompt input", "Enter")
    wait_for_link(window, r"prompt=a\+woman")
    seen.add(face_of(window))
    set_number(window, "guidance", 2)
    wait_for_link(window, r"guidance=2")
    seen.add(face_of(window))
    assert len(seen) == 4
    set_number(window, "count", 5)
    wait_for_link(window, r"count=5")
    until(window, lambda: window.locator("#gallery img").count() == 5, "five faces")


def test_a_picked_face_is_saved_with_its_settings(open_page, tmp_path):
    window = open_page("?seed=3&psi=0.7")
    window.wait_for_selector("#details img")
    before = face_of(window)
    window.locator("#gallery button:has(img)").nth(5).click()
    wait_for_link(window, "face=5")
    assert face_of(window) != before
    with window.expect_download() as saving:
        window.get_by_text("Save seed0003-000005.png").click()
    saving.value.save_as(tmp_path / "face.png")
    assert "seed 3, truncation_psi 0.7" in said_of(tmp_path / "face.png")
    assert Image.open(tmp_path / "face.png").size == (16, 16)


def test_a_walk_goes_between_two_picked_faces(open_page):
    window = open_page("?seed=3")
    window.wait_for_selector("#details img")
    window.locator("#gallery button:has(img)").nth(2).click()
    wait_for_link(window, "face=2")
    window.click("#from-it")
    until(window, lambda: "begins with face 2" in window.inner_text("#notice"), "the notice")
    window.locator("#gallery button:has(img)").nth(7).click()
    wait_for_link(window, "face=7")
    window.click("#to-it")
    wait_for_link(window, "tab=walk.*from=2&to=7")
    strip = window.locator("#walk img").get_attribute("src")
    set_number(window, "frames", 4)
    wait_for_link(window, "frames=4")
    assert window.locator("#walk img").get_attribute("src") != strip
    window.click("#film-it")
    until(window, lambda: window.locator("#film video").count(), "the film")
    until(window, lambda: window.evaluate("document.querySelector('#film video').readyState") > 1, "frames of the film")


def test_styles_are_mixed(open_page):
    window = open_page("?seed=3&tab=mix&coarse=1,2&fine=3")
    window.wait_for_selector("#mixed img")
    table = window.locator("#mixed img").get_attribute("src")
    window.fill("#fine textarea, #fine input", "3, 4, 5")
    window.press("#fine textarea, #fine input", "Enter")
    wait_for_link(window, "fine=3%2C4%2C5")
    assert window.locator("#mixed img").get_attribute("src") != table
    window.click("#upto input")
    window.get_by_role("option", name="8 pixels").click()
    wait_for_link(window, "upto=8")


def test_the_teacher_shows_what_it_sees(open_page):
    window = open_page("?seed=3&face=1")
    window.wait_for_selector("#details img")
    window.click("#look-at-it")
    wait_for_link(window, "tab=teacher")
    until(window, lambda: window.locator("#pyramid img").count() == 2, "the face and its pyramid")
    before = window.locator("#pyramid img").nth(1).get_attribute("src")
    set_number(window, "face", 2)
    wait_for_link(window, "face=2")
    assert window.locator("#pyramid img").nth(1).get_attribute("src") != before


def test_wrong_parameters_do_not_break_the_page(open_page):
    window = open_page("?seed=-3&psi=nan&tab=%3Cscript%3E&prompt=%3Cb%3Ebold&upto=5&from=&x=1&seed=2")
    window.wait_for_selector("#details img")
    said = window.inner_text("#notice")
    for key in ("psi=nan", "tab=<script>", "upto=5", "from="):
        assert key in said
    assert window.locator("#details b").count() == 0
    assert window.input_value("#prompt textarea, #prompt input") == "<b>bold"


def test_two_tabs_do_not_disturb_each_other(open_page):
    one, other = open_page("?seed=3"), open_page("?seed=4")
    for window in (one, other):
        window.wait_for_selector("#details img")
    before = face_of(other)
    set_number(one, "seed", 5)
    set_number(other, "count", 3)
    wait_for_link(one, "seed=5")
    wait_for_link(other, "seed=4&count=3")
    assert face_of(other) == before != face_of(one)


def test_many_clicks_do_not_queue_up(open_page):
    window = open_page("?seed=3")
    window.wait_for_selector("#details img")
    joined = []
    window.on("request", lambda asked: joined.append(asked.url) if "/queue/join" in asked.url else None)
    box = window.locator("#another").bounding_box()
    for _ in range(40):  # a hand's, only quicker
        window.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    wait_for_link(window, r"seed=(?!3$)")
    window.wait_for_timeout(1500)
    assert 1 <= len(joined) <= 20, "clicks while one is drawn are passed over"


def choose(window, name: str, payload: bytes) -> None:
    kind = "text/plain" if name.endswith(".txt") else "image/jpeg"
    window.locator("#photo input[type=file]").set_input_files({"name": name, "mimeType": kind, "buffer": payload})


def test_a_photo_is_projected_and_stopped(open_page, tmp_path):
    draw_face((400, 500), centre=(210, 240), height=170).save(tmp_path / "me.jpg")
    window = open_page("?seed=3&tab=photo")
    assert "ask that person first" in window.locator("text=ask that person first").first.inner_text()
    choose(window, "me.jpg", (tmp_path / "me.jpg").read_bytes())
    until(window, lambda: window.locator("#chosen img").count(), "the crop")
    window.click("#go")
    until(window, lambda: "Tick first" in window.inner_text("#projected"), "the question for consent")
    window.check("#agreed input")
    set_number(window, "steps", 400)
    window.click("#go")
    until(window, lambda: "of 400: distance" in window.inner_text("#projected"), "progress")
    window.click("#stop")
    window.wait_for_timeout(2000)
    stopped = window.inner_text("#projected")
    window.wait_for_timeout(1500)
    assert window.inner_text("#projected") == stopped and "Step 400" not in stopped
    with window.expect_download() as saving:
        window.get_by_text("Save its styles").click()
    assert saving.value.suggested_filename == "w.safetensors"
    window.click("#forget")
    until(window, lambda: not window.locator("#chosen img, #projected img").count(), "an empty page")


@pytest.mark.parametrize(
    ("name", "make", "said"),
    [
        ("notes.txt", lambda: b"hello", "not-an-image"),
        ("bomb.jpg", bomb, "too-many-pixels"),
    ],
)
def test_a_wrong_upload_gets_a_message(open_page, name, make, said):
    window = open_page("?tab=photo")
    choose(window, name, make())
    until(window, lambda: said in window.inner_text("#chosen"), said)


def test_a_large_upload_gets_a_message(open_page, tmp_path):
    with open(tmp_path / "large.jpg", "wb") as file:
        file.truncate(100 * 2**20)
    window = open_page("?tab=photo")
    window.locator("#photo input[type=file]").set_input_files(tmp_path / "large.jpg")
    window.get_by_text(re.compile("exceeds|maximum allowed|too large", re.I)).first.wait_for()


def test_a_training_is_followed(open_page, run):
    window = open_page("?tab=training")
    until(window, lambda: "1 kimg" in window.inner_text("#news"), "the first picture")
    assert window.locator("#news svg").count() and window.locator("#news b").count() == 0
    Image.new("RGB", (64, 32), "blue").save(run / "pictures" / "kimg000002.000.png")
    until(window, lambda: "Samples of the averaged generator at 2 kimg" in window.inner_text("#news"), "the next one")
    window.click("#renew")
    until(window, lambda: "newest snapshot now: model" in window.inner_text("#newer"), "the newest snapshot")
