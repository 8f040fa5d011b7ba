"""`dinogen download` against a web server on this machine that stalls, truncates and answers 500."""

import csv
import hashlib
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

import pytest

from dinogen.data import transfer
from dinogen.data.schema import SampleRecord
from dinogen.errors import DinogenError, UsageError
from helpers import files
from launch import card
from launch.download import main
from shards import download
from shards.crop import crop_folder
from shards.pack import pack_folder
from shards.remote import public_address
from shards.remove import remove_samples

ROOT = Path(__file__).parent.parent
photo = cache(files.photo)  # drawn once: a server that draws would seem to stall


class Server(http.server.BaseHTTPRequestHandler):
    """Serves `photo(N)` at /N.jpg; the query says what fails at first: `stall`, `cut`, `500`, `changes`, `busy`."""

    protocol_version = "HTTP/1.1"
    asked: Counter[str] = Counter()
    ranges: list[tuple[str, str | None, str | None]] = []
    slow = 0.0

    def do_GET(self) -> None:
        self.asked[self.path] += 1
        turn = self.asked[self.path]
        name, _, fault = self.path.partition("?")
        self.ranges.append((self.path, self.headers.get("Range"), self.headers.get("If-Range")))
        time.sleep(self.slow)
        if name.startswith("/gone"):
            return self.send_error(404)
        if name.startswith("/page"):
            return self.answer(b"<!doctype html><p>Not here", turn)
        number = int("".join(filter(str.isdigit, name)) or 0)
        if turn == 1 and fault == "500":
            return self.send_error(500)
        if turn == 1 and fault == "busy":
            self.send_response(429)
            self.send_header("Retry-After", "1")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        payload = photo(number + (fault == "changes" and turn > 1))
        self.answer(payload, turn, fault)

    def answer(self, payload: bytes, turn: int, fault: str = "") -> None:
        tag, first = f'"{hashlib.sha256(payload).hexdigest()}"', 0
        if self.headers.get("Range") and self.headers.get("If-Range") == tag:
            first = int(self.headers["Range"][len("bytes=") : -1])
        self.send_response(206 if first else 200)
        self.send_header("ETag", tag)
        self.send_header("Content-Length", str(len(payload) - first))
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(payload) - 1}/{len(payload)}")
        self.end_headers()
        broken = turn == 1 and fault in ("stall", "cut", "changes")
        with suppress(ConnectionError):  # of those who hang up first, a killed one for instance
            self.wfile.write(payload[first : 1500 if broken else None])
        if broken:
            time.sleep(3 if fault == "stall" else 0)
            self.close_connection = True

    def log_message(self, *ignored: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(transfer, "FIRST_PAUSE", 0.001)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("no_proxy", "*")
    Server.asked, Server.ranges, Server.slow = Counter(), [], 0.0
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as running:
        running.daemon_threads = True
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def write_list(folder: Path, lines: list[str], name: str = "list.txt") -> str:
    (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(folder / name)


def rows(output: Path) -> list[dict[str, str]]:
    with (output / "downloads.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def pictures(output: Path) -> list[bytes]:
    return sorted(path.read_bytes() for path in output.glob("*.jpg"))


@pytest.mark.parametrize("fault", ["stall", "cut", "500"])
def test_a_server_that_misbehaves_once_gives_the_whole_picture(server: str, tmp_path: Path, fault: str, monkeypatch):
    monkeypatch.setattr(transfer, "STALL", 1.0)
    photo(1)
    download.download(write_list(tmp_path, [f"{server}/1.jpg?{fault}"]), tmp_path / "out")
    assert pictures(tmp_path / "out") == [photo(1)]
    assert Server.asked[f"/1.jpg?{fault}"] == 2
    if fault != "500":
        assert Server.ranges[-1][1] == "bytes=1500-", "only the rest is asked for"


def test_a_picture_that_changes_between_two_attempts_is_not_patched_together(server: str, tmp_path: Path):
    download.download(write_list(tmp_path, [f"{server}/1.jpg?changes"]), tmp_path / "out")
    assert Server.ranges[-1][1:] == ("bytes=1500-", f'"{hashlib.sha256(photo(1)).hexdigest()}"')
    assert pictures(tmp_path / "out") == [photo(2)]


def test_a_busy_server_is_given_the_time_it_asks_for(server: str, tmp_path: Path):
    began = time.monotonic()
    download.download(write_list(tmp_path, [f"{server}/0.jpg?busy"]), tmp_path / "out")
    assert time.monotonic() - began >= 1 and pictures(tmp_path / "out") == [photo(0)]


def test_the_command_says_what_became_of_every_address(server: str, tmp_path: Path, capsys: pytest.CaptureFixture):
    lines = ["# mine", f"{server}/1.jpg", f"{server}/gone.jpg", f"{server}/page.jpg", "pipe:touch x", "no-address"]
    listing = write_list(tmp_path, [*lines, f"{server}/1.jpg"])
    assert main(["--dataset", listing, "--output", str(tmp_path / "out")]) == 0
    streams = capsys.readouterr()
    assert "2 pictures, 1 unreachable, 2 refused-address" in streams.out and "dinogen crop --input" in streams.out
    assert "download" in streams.err and "img" in streams.err and f"{server}/gone.jpg: unreachable" in streams.err
    found = {row["address"]: row for row in rows(tmp_path / "out")}
    assert [row["cause"] for row in found.values()] == [
        "fetched", "unreachable", "fetched", "refused-address", "refused-address"]  # fmt: skip
    assert found[f"{server}/1.jpg"]["sha256"] == hashlib.sha256(photo(1)).hexdigest()
    assert not list((tmp_path / "out" / ".incoming").iterdir())
    assert "1 not-an-image" in str(crop_folder(tmp_path / "out", tmp_path / "crops", workers=0))


def test_a_list_of_nothing_but_failures_is_one_line(server: str, tmp_path: Path, capsys: pytest.CaptureFixture):
    assert main(["--dataset", write_list(tmp_path, [f"{server}/gone.jpg"]), "--output", str(tmp_path / "out")]) == 1
    assert "not one of 1 pictures could be fetched" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("list.txt", "# nothing\n", "no address in it"),
        ("list.csv", "picture,licence\na,b\n", "no column address or url"),
        ("none.txt", None, "no such list"),
    ],
)
def test_a_list_that_cannot_be_one_is_refused(tmp_path: Path, name: str, text: str | None, message: str):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match=message):
        download.download(str(tmp_path / name), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_running_again_fetches_only_what_is_missing(server: str, tmp_path: Path):
    listing = write_list(tmp_path, [f"{server}/{number}.jpg" for number in range(4)] + [f"{server}/gone.jpg"])
    download.download(listing, tmp_path / "out")
    before = pictures(tmp_path / "out")
    next((tmp_path / "out").glob("2-*.jpg")).unlink()
    cut = next((tmp_path / "out").glob("3-*.jpg"))
    cut.write_bytes(cut.read_bytes()[:50])
    summary = download.download(listing, tmp_path / "out")
    assert (summary.fetched, summary.resumed, summary.causes) == (4, 2, {"unreachable": 1})
    assert pictures(tmp_path / "out") == before
    assert [Server.asked[f"/{number}.jpg"] for number in range(4)] == [1, 1, 2, 2]
    assert Server.asked["/gone.jpg"] == 2, "what failed is tried again"


def test_a_killed_download_goes_on(server: str, tmp_path: Path):
    Server.slow = 0.05
    listing = write_list(tmp_path, [f"{server}/{number}.jpg" for number in range(20)])
    command = [sys.executable, "-m", "launch.download", "--dataset", listing, "--output", str(tmp_path / "out")]
    process = subprocess.Popen([*command, "--workers", "2"], cwd=ROOT, env=os.environ)
    while process.poll() is None and len(list((tmp_path / "out").glob("*.json"))) < 5:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (tmp_path / "out" / f".19.json.tmp{process.pid}").write_text("{")  # as where it is killed while it writes one
    asked = Server.asked.total()
    assert 5 <= asked < 20
    summary = download.download(listing, tmp_path / "out")
    assert summary.fetched == 20 and summary.resumed >= 5
    assert pictures(tmp_path / "out") == sorted(photo(number) for number in range(20))
    assert Server.asked.total() - asked == 20 - summary.resumed
    assert {path.suffix for path in (tmp_path / "out").rglob("*") if path.is_file()} == {".jpg", ".json", ".csv"}


def test_the_samples_are_five_portraits_with_their_licence(server: str, tmp_path: Path, monkeypatch):
    assert len(set(download.SAMPLES)) == 5 and all("images.unsplash.com/photo-1" in url for url in download.SAMPLES)
    local = [f"{server}/photo-{number}?w=1200" for number in range(5)]  # their addresses have no suffix either
    monkeypatch.setattr(download, "SAMPLES", local)
    summary = download.download("samples", tmp_path / "out")
    assert str(summary) == "5 pictures" and len(pictures(tmp_path / "out")) == 5
    about = json.loads(next((tmp_path / "out").glob("photo-3-*.json")).read_text())
    assert about["licence"] == "Unsplash License" and about["address"] == local[3]


def test_what_is_known_of_a_picture_follows_it_into_shards_and_finds_it_for_removal(server: str, tmp_path: Path):
    table = write_list(tmp_path, [
        "url,licence,consent,caption,other",
        f'{server}/1.jpg,CC-BY-4.0,signed,"a face, drawn",x',
        f"{server}/2.jpg?key=a&token=hunter2,,,,",
    ], "list.csv")  # fmt: skip
    download.download(table, tmp_path / "photos")
    crop_folder(tmp_path / "photos", tmp_path / "crops", workers=0)
    pack_folder(tmp_path / "crops", tmp_path / "shards")
    records = {
        record.address: record
        for record in (SampleRecord.from_bytes(path.read_bytes()) for path in (tmp_path / "crops").glob("*-0.json"))
    }
    first = records[f"{server}/1.jpg"]
    assert (first.licence, first.consent, first.captions) == ("CC-BY-4.0", "signed", ("a face, drawn",))
    assert first.source_sha256 == hashlib.sha256(photo(1)).hexdigest()
    assert b"hunter2" not in b"".join(path.read_bytes() for path in tmp_path.glob("*/*") if path.is_file())
    assert card.main(["--data", str(tmp_path / "shards")]) == 0
    assert f"| {server} | 2 |" in (tmp_path / "shards" / "README.md").read_text()
    removal = remove_samples(tmp_path / "shards", sources=[f"{server}/1.jpg"])
    assert len(removal.keys) == 1 and removal.manifest.samples == 1


def test_a_photo_cropped_from_an_address_remembers_it(server: str, tmp_path: Path):
    listing = write_list(tmp_path, [f"{server}/1.jpg"])
    crop_folder(listing, tmp_path / "crops", cache=tmp_path / "cache", workers=0)
    (record,) = (SampleRecord.from_bytes(path.read_bytes()) for path in (tmp_path / "crops").glob("*-0.json"))
    assert record.address == f"{server}/1.jpg"


def test_addresses_are_written_down_without_what_opens_them():
    assert public_address("https://u:p@h.example/a?id=1&X-Amz-Signature=s&sig=t#top") == "https://h.example/a?id=1"
    assert public_address("https://h.example/a?w=1200&q=90,1") == "https://h.example/a?w=1200&q=90,1"
    assert public_address("s3://bucket/a b.jpg") == "s3://bucket/a b.jpg"


def test_a_full_disk_stops_with_one_line(server: str, tmp_path: Path):
    """A limit on the size of files stands in for the full disk."""
    code = (
        "import errno, resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000));"
        "import dinogen.data.transfer as transfer; transfer.NO_ROOM += (errno.EFBIG,);"
        "from launch.download import main; sys.exit(main(sys.argv[1:]))"
    )
    flags = ["--dataset", write_list(tmp_path, [f"{server}/1.jpg"]), "--output", str(tmp_path / "out")]
    run = subprocess.run([sys.executable, "-c", code, *flags], capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 1 and "no room on this disk" in run.stderr.splitlines()[-1]
    assert not list((tmp_path / "out").glob("*.jpg"))


def test_an_impossible_number_of_workers_is_refused(tmp_path: Path):
    assert main(["--dataset", "samples", "--output", str(tmp_path / "out"), "--workers", "0"]) == 2


def test_nothing_is_fetched_of_a_data_set_that_is_none():
    with pytest.raises(DinogenError, match="list"):
        download.download("/nowhere/at-all.txt", Path("unused"))
