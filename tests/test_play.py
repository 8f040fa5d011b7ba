"""dinogen play: what the page draws, and how it is served. What a browser does with it: test_play_browser."""

import io
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qsl

import numpy as np
import pytest
import torch
from jsonargparse import Namespace
from PIL import Image
from safetensors.torch import load

from dinogen import DinogenError, UsageError
from dinogen.images import said_of, to_pil
from dinogen.networks import Generator as GeneratorNetwork
from dinogen.play import serving
from dinogen.play.following import Training
from dinogen.play.serving import Place, is_loopback, served
from dinogen.play.settings import Limits, Settings, read_settings
from dinogen.play.studio import Studio
from helpers.drawn_face import draw_face
from helpers.played_run import bomb, free_port, make_run
from helpers.worded import NARROW
from launch import play
from launch.play import PASSWORD, auth_of, open_photo

ROOT = Path(__file__).parent.parent
LIMITS = Limits(words=True, guidance=2.5, mixes=(4, 8))
PROMPT = "a woman with red hair"


@pytest.fixture(scope="module")
def studio(tmp_path_factory) -> Studio:
    return Studio(str(make_run(tmp_path_factory.mktemp("run"))), device="cpu")


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Studio:
    """Of a snapshot that is of no run and takes no words."""
    torch.manual_seed(0)
    network = GeneratorNetwork(**NARROW)
    network.update_w_avg()
    folder = tmp_path_factory.mktemp("plain") / "faces"
    network.save_pretrained(folder, config=NARROW)
    return Studio(str(folder), device="cpu")


def test_an_address_gives_back_what_was_seen():
    settings = Settings(
        "walk", 7, 0.65, "café & 50% <b>", 2.0, 5, 3, start=4, end=9, frames=3, coarse=(1,), fine=(2, 3), upto=8
    )
    assert "from=4&to=9" in settings.query()
    assert read_settings(dict(parse_qsl(settings.query()[1:])), LIMITS) == (settings, [])
    assert Settings().query() == "?seed=0"
    assert read_settings({}, LIMITS) == (Settings(), [])


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("seed", "-1", "seed=-1: give a whole number from 0 to 4294967295; 0 is taken."),
        ("seed", "٣", "a whole number"),
        ("seed", None, "seed=: give a whole number"),
        ("psi", "nan", "psi=nan: give a number from 0 to 1.5; 1 is taken."),
        ("psi", "9" * 400, "psi=" + "9" * 40 + ": give"),
        ("guidance", "3", "a number from 1 to 2.5"),
        ("prompt", "x" * 501, "at most 500 letters; nothing is taken"),
        ("prompt", "a\x00b", "letters that can be printed"),
        ("from", "1e3", "from=1e3: give a whole number from 0 to 999999"),
        ("coarse", "1;2", "coarse=1;2: give 1 to 6 numbers of faces"),
        ("fine", "", "1 to 8 numbers of faces"),
        ("upto", "16", "upto=16: give one of 0, 4, 8"),
        ("tab", "<script>", "one of faces, walk"),
    ],
)
def test_a_wrong_value_is_told_and_the_usual_one_is_taken(key, value, said):
    settings, complaints = read_settings({key: value, "count": "3"}, LIMITS)
    assert settings == Settings(count=3)
    assert len(complaints) == 1 and said in complaints[0]


def test_words_are_passed_over_where_the_model_takes_none():
    assert read_settings({"prompt": "x", "guidance": "2", "unknown": "y"}, Limits()) == (Settings(), [])
    assert read_settings({"guidance": 2.0}, LIMITS)[0].guidance == 1, "without a prompt nothing is exaggerated"


def apart(some: torch.Tensor, others: torch.Tensor) -> int:
    """Grey levels between images where they differ most."""
    return int((some.int() - others.int()).abs().max())


def test_faces_are_those_of_the_library(studio):
    settings = Settings(seed=3, psi=0.7, prompt=PROMPT, guidance=2.0, count=5)
    expected = studio.generator.sample(5, 3, PROMPT, 0.7, 2.0, output="pt")
    assert apart(studio.page(settings), expected) <= 1
    assert apart(studio.face(replace(settings, face=4)), expected[4]) <= 1
    assert apart(studio.face(replace(settings, face=4, count=1)), expected[4]) <= 1, "a face that is not in the grid"
    assert apart(studio.page(replace(settings, seed=4)), expected) > 5


def test_a_saved_face_keeps_its_seed_and_settings(studio):
    settings = Settings(seed=3, psi=0.7, prompt=PROMPT, guidance=2.0, face=2)
    payload = io.BytesIO(studio.png(settings))
    fingerprint = studio.generator.network.fingerprint
    assert said_of(payload) == f"model {fingerprint}, seed 3, truncation_psi 0.7, guidance 2, prompt: {PROMPT}"
    assert (np.array(Image.open(payload)) == np.array(to_pil(studio.face(settings)))).all()
    assert studio.file_name(settings) == "seed0003-000002.png"


def test_walks_tables_and_pyramids_have_their_sizes(studio):
    assert studio.walk(Settings(frames=5)).size == (5 * 130 - 2, 128)
    assert studio.mix(Settings(coarse=(0, 1), fine=(2,))).width == 2 * 130 - 2
    assert studio.film(Settings()).startswith(b"\0\0\0") and b"ftyp" in studio.film(Settings())[:16]
    pyramid = studio.pyramid(Settings(face=1))
    levels = studio.teacher.specs.finest.colour_levels
    assert pyramid.width == len(levels) * 130 - 2, "colours have the most maps"
    assert np.array(pyramid).std() > 10 and (np.array(pyramid) != np.array(studio.pyramid(Settings(face=2)))).any()


def test_a_photo_is_neared_step_by_step(studio):
    target = studio.face(Settings(seed=5, face=3))
    *_, last = list(studio.projection(target, steps=12))
    assert (last.step, last.steps) == (12, 12) and last.distance < last.first
    assert load(last.style)["w"].shape == (len(studio.generator.network.synthesis.blocks), 16)
    assert last.picture.width == 3 * 130 - 2


def test_without_a_run_there_is_a_reason_instead_of_pyramids(plain):
    assert plain.pyramid(Settings()) is None and "not of a run" in plain.no_teacher
    assert plain.limits == Limits(mixes=(4, 8)) and Training.of(plain.model) is None
    assert len(list(plain.projection(plain.face(Settings()), steps=1))) == 2, "pixels are compared"


def test_an_encoder_that_is_not_there_leaves_faces_without_words(tmp_path):
    run = make_run(tmp_path / "run")
    notes = run / "snapshots" / "kimg000001.000" / "words.json"
    notes.write_text(notes.read_text().replace("embedded", "./nowhere"))
    studio = Studio(str(run), device="cpu")
    assert not studio.limits.words and "./nowhere" in studio.no_words
    assert studio.page(Settings(count=2)).shape == (2, 3, 16, 16)


def test_a_training_is_followed(tmp_path):
    training = Training.of(str(make_run(tmp_path / "run")))
    before = training.stamp()
    html = training.html()
    assert training.figures() == {"kimg": "3", "pixels a side": "16", "loss": "1"}
    assert "&lt;b&gt;loss" in html and "<b>loss" not in html and "at 1 kimg" in html and "<polyline" in html
    assert training.stamp() == before
    Image.new("RGB", (64, 32), "blue").save(tmp_path / "run" / "pictures" / "kimg000002.000.png")
    assert training.stamp() != before and "at 2 kimg" in training.html()
    (tmp_path / "run" / "pictures" / "kimg000003.000.png").write_bytes(b"half")
    assert "No picture of samples yet" in training.html()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "example.org", ""])
def test_others_need_a_password(host):
    with pytest.raises(UsageError, match="other machines would reach the page; give --auth USER:PASSWORD"):
        Place(host)
    assert "secret" not in repr(Place(host, auth=("me", "secret")))


def test_this_machine_needs_none():
    assert all(map(is_loopback, ["localhost", "127.0.0.1", "127.0.0.2", "::1", "[::1]"]))


def test_a_password_comes_in_three_ways(tmp_path, monkeypatch):
    (tmp_path / "auth").write_text("me:a:b\n")
    (tmp_path / "two").write_text("me:a\nyou:b\n")
    monkeypatch.setenv(PASSWORD, "hidden")

    def auth(user: str | None, file: str | None = None) -> tuple[str, str] | None:
        return auth_of(Namespace(auth=user, auth_file=file and tmp_path / file))

    assert auth(None) is None
    assert auth("me:secret") == ("me", "secret") and auth("me") == ("me", "hidden")
    assert auth(None, "auth") == ("me", "a:b")
    monkeypatch.delenv(PASSWORD)
    for wrong in [("me",), (":x",), ("me:",), (None, "two"), ("me:x", "auth"), (None, "nothing")]:
        with pytest.raises(UsageError):
            auth(*wrong)


def test_a_missing_gradio_is_one_line(studio, monkeypatch, capsys):
    monkeypatch.setattr(serving, "find_spec", lambda name: None)
    assert play.main(["--model", studio.model]) == 1
    assert capsys.readouterr().err == 'dinogen play: error: the page needs gradio; pip install "dinogen[play]"\n'


def test_a_photo_that_cannot_be_used_is_answered_in_words():
    stream = io.BytesIO()
    Image.new("RGB", (30, 20)).save(stream, "PNG")
    for payload, aligned, said in [
        (b"hello", False, "not-an-image, .*; take a JPEG or PNG"),
        (b"", False, "empty-file"),
        (bomb(), False, "too-many-pixels, .*; take another photo"),
        (bomb(), True, "too-many-pixels"),
        (stream.getvalue(), True, "not-square, 30×20 pixels.*; take the tick away"),
    ]:
        with pytest.raises(DinogenError, match=said) as caught:
            open_photo(payload, 16, aligned)
        assert "\n" not in str(caught.value) and "--" not in str(caught.value)


# From here on Gradio is needed.


@contextmanager
def page_of(studio: Studio, **place: object) -> Iterator[str]:
    pytest.importorskip("gradio", reason="needs pip install 'dinogen[play]'")
    with served(studio, open_photo, Place(port=free_port(), **place)) as address:
        yield address


@pytest.fixture(scope="module")
def address(studio) -> Iterator[str]:
    with page_of(studio) as address:
        yield address


@pytest.fixture(scope="module")
def client(address):
    from gradio_client import Client

    return Client(address, verbose=False)


def shown(client, **settings: object) -> tuple:
    """What the page answers: the grid, the picked face, walk, mix, pyramid, notice, link."""
    values = {field: getattr(Settings(), field) for field in Settings.__dataclass_fields__} | settings
    values |= {key: ",".join(map(str, values[key])) for key in ("coarse", "fine")}
    del values["tab"]  # a state of the page
    return client.predict(*values.values(), api_name="/show")


def picture_in(html: str) -> str:
    return re.search(r'src="(data:image/png;base64,[^"]+)"', html)[1]


def test_a_seed_draws_the_same_again_over_http(client):
    some, other, again = (shown(client, seed=seed, psi=0.7) for seed in (3, 4, 3))
    assert picture_in(some[1]) == picture_in(again[1]) != picture_in(other[1])
    assert some[-1] == "?seed=3&psi=0.7" and some[-2] == ""
    assert len(some[0]["value"]) == 8


def test_what_a_control_cannot_be_is_told_over_http(client):
    answer = shown(client, coarse=("x",), prompt="<b>bold</b>")
    assert "coarse=x: give 1 to 6 numbers" in answer[-2] and "&lt;b&gt;" in answer[1] and "<b>" not in answer[1]


def uploads(folder: str) -> list[Path]:
    """Files that came from a client; Gradio's own drawn faces are .png in folders of their own."""
    return [path for path in Path(folder).rglob("*") if path.is_file() and path.suffix in (".txt", ".jpg", "")]


def test_an_upload_is_gone_when_it_was_read(client, tmp_path):
    from gradio_client import handle_file

    draw_face((400, 500), centre=(210, 240), height=170).save(tmp_path / "me.jpg")
    (tmp_path / "notes.txt").write_text("hello")
    folder = os.environ[serving.TEMPORARY]
    chosen, _, _ = client.predict(handle_file(str(tmp_path / "me.jpg")), False, api_name="/photo")
    assert "as it will be looked for" in chosen and picture_in(chosen)
    refused, _, _ = client.predict(handle_file(str(tmp_path / "notes.txt")), False, api_name="/photo")
    assert "not-an-image" in refused
    assert uploads(folder) == []


def test_a_large_upload_is_refused_and_leaves_nothing(address, tmp_path):
    import httpx

    folder = os.environ[serving.TEMPORARY]
    with open(tmp_path / "large.jpg", "wb") as file:
        file.truncate(100 * 2**20)
    with open(tmp_path / "large.jpg", "rb") as file:
        answer = httpx.post(f"{address}gradio_api/upload", files={"files": file}, timeout=120)
    assert answer.status_code == 413 and "maximum allowed size" in answer.text
    assert uploads(folder) == []


def test_a_file_of_this_machine_is_not_read(address, tmp_path):
    """As the library of clients would never ask."""
    import httpx

    draw_face().save(tmp_path / "secret.png")
    told = {"path": str(tmp_path / "secret.png"), "meta": {"_type": "gradio.FileData"}}
    asked = httpx.post(f"{address}gradio_api/call/photo", json={"data": [told, True]})
    answer = httpx.get(f"{address}gradio_api/call/photo/{asked.json()['event_id']}", timeout=60).text
    assert "data:image" not in answer and ("error" in answer or "no photo came" in answer)
    assert (tmp_path / "secret.png").exists()


def test_a_photo_without_consent_is_not_projected(client):
    assert "Choose a photo first" in client.predict(10, True, 0, api_name="/project")


def test_nothing_is_loaded_from_elsewhere(address):
    import httpx

    answer = httpx.get(address)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy and "http" not in policy
    loaded = re.findall(r"""<(?:script|link|img)[^>]+(?:src|href)=["'](https?:[^"']+)""", answer.text)
    assert [one for one in loaded if not one.startswith(address)] == []
    config = httpx.get(f"{address}config").json()
    assert config["analytics_enabled"] is False and config["run_history"] is False


def test_a_password_is_asked_for(studio):
    import httpx

    with page_of(studio, auth=("me", "secret")) as address:
        assert httpx.get(f"{address}config").status_code == 401
        assert httpx.post(f"{address}gradio_api/upload", files={"files": b"x"}).status_code == 401
        with httpx.Client() as visitor:
            assert visitor.post(f"{address}login", data={"username": "me", "password": "no"}).status_code == 400
            assert visitor.post(f"{address}login", data={"username": "me", "password": "secret"}).status_code == 200
            assert visitor.get(f"{address}config").status_code == 200


def test_the_command_serves_until_it_is_interrupted(studio, tmp_path):
    pytest.importorskip("gradio", reason="needs pip install 'dinogen[play]'")
    import httpx

    address = f"http://127.0.0.1:{(port := free_port())}/"
    command = [sys.executable, "-m", "launch.play", "--model", studio.model, "--port", str(port), "--device", "cpu"]
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == f"Serving {address}: open it in a browser; Ctrl-C ends it.\n"
        assert httpx.get(address).status_code == 200
        assert len(list(tmp_path.glob("dinogen-play-*"))) == 1
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
        assert (process.returncode, said.splitlines()[-1]) == (130, "dinogen play: the page is closed")
        assert list(tmp_path.glob("dinogen-play-*")) == []
    finally:
        process.kill()


def test_a_port_that_is_taken_is_one_line(studio):
    pytest.importorskip("gradio", reason="needs pip install 'dinogen[play]'")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        place = Place(port=other.getsockname()[1])
        with pytest.raises(UsageError, match="--port [0-9]+: cannot be taken"):
            with served(studio, open_photo, place):
                pass
    assert serving.TEMPORARY not in os.environ or Path(os.environ[serving.TEMPORARY]).exists()


def test_what_is_read_is_deleted_and_what_lies_elsewhere_is_left(tmp_path):
    pytest.importorskip("gradio", reason="needs pip install 'dinogen[play]'")
    from dinogen.play.answers import read_and_delete

    inside = tmp_path / "uploads" / "0123" / "me.jpg"
    inside.parent.mkdir(parents=True)
    inside.write_bytes(b"me")
    (tmp_path / "secret").write_text("secret")
    assert read_and_delete({"path": str(inside)}, tmp_path / "uploads") == b"me" and not inside.parent.exists()
    for path in ("secret", "uploads/../secret", "uploads", "uploads/none"):
        with pytest.raises(DinogenError, match="no photo came"):
            read_and_delete(SimpleNamespace(path=str(tmp_path / path)), tmp_path / "uploads")
    assert (tmp_path / "secret").exists()
