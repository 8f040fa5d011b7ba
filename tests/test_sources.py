"""Where photos may come from: folders, lists, archives, WebDataset shards, addresses; and what is never opened."""

import http.server
import io
import json
import tarfile
import threading
import unicodedata
import zipfile
from pathlib import Path

import pytest

from dinogen.data import transfer
from dinogen.errors import DinogenError, UsageError
from helpers.files import photo
from shards.crop import crop_folder
from shards.decode import Rejected
from shards.sources import find_sources


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, payload in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(payload)
            tar.addfile(info, io.BytesIO(payload))
    return path


def write_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, payload in members.items():
            archive.writestr(name, payload)
    return path


def names(given, cache) -> list[str]:
    return [source.name for source in find_sources(given, cache)]


def cause_of(source) -> str:
    with pytest.raises(Rejected) as rejected:
        source.read()
    return rejected.value.cause


def test_folders_are_searched_to_the_bottom_in_a_fixed_order(tmp_path):
    for name in ("b.jpg", "a/z.jpg", "a/deep/er/y.png", "a.jpg", ".hidden.jpg", ".git/x.jpg", "a.txt", "captions.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert names(tmp_path, tmp_path) == ["a.jpg", "a/deep/er/y.png", "a/z.jpg", "b.jpg"]


@pytest.mark.parametrize("write", [write_zip, write_tar])
def test_archives_are_read_in_place(write, tmp_path):
    suffix = write.__name__[-3:]
    archive = write(tmp_path / f"album.{suffix}", {"one.jpg": photo(1), "sub/two.jpg": photo(2), "notes.md": b"-"})
    sources = find_sources(archive, tmp_path)
    assert [source.name for source in sources] == ["one.jpg", "sub/two.jpg"]
    assert [source.read() for source in sources] == [photo(1), photo(2)]
    assert names(tmp_path, tmp_path) == [f"album.{suffix}/one.jpg", f"album.{suffix}/sub/two.jpg"]


def test_a_webdataset_shard_gives_its_photos_with_licence_and_consent(tmp_path):
    stated = json.dumps({"licence": "CC-BY-4.0", "consent": "yes", "caption": "somebody"}).encode()
    shard = write_tar(tmp_path / "shard-000000.tar", {
        "k1.jpg": photo(1), "k1.json": stated, "k1.pyramid.safetensors": b"\0" * 99,
        "k2.jpg": photo(2), "k2.txt": b"a caption", "k2.pkl": b"cos\nsystem\n",
    })  # fmt: skip
    summary = crop_folder(shard, tmp_path / "out", workers=0)
    assert (summary.sources, summary.crops) == (2, 2)
    entries = [json.loads(path.read_text()) for path in (tmp_path / "out").glob("*.json")]
    described = {entry["source"]: entry for entry in entries}
    assert described["k1.jpg"]["licence"] == "CC-BY-4.0" and described["k2.jpg"]["licence"] is None


@pytest.mark.parametrize("write", [write_zip, write_tar])
@pytest.mark.parametrize(
    "picture, beside",
    [
        ("1.face.jpg", "1.json"),
        ("a.b/1.face.jpg", "a.b/1.json"),
        ("1.face.jpg", "1.face.json"),
        ("v1.0/x.jpg", "v1.0/x.json"),
    ],
)
def test_a_sidecar_has_the_name_or_webdatasets_key_of_its_photo(write, picture, beside, tmp_path):
    """A key ends at the first dot of the file's name; dots of folders do not count."""
    shard = write(
        tmp_path / f"shard.{write.__name__[-3:]}", {picture: photo(1), beside: b"it", "json": b"no", "v1.json": b"no"}
    )
    (source,) = find_sources(shard, tmp_path)
    assert source.sidecar() == b"it"


@pytest.mark.parametrize("write", [write_zip, write_tar])
def test_hidden_files_in_archives_are_passed_over(write, tmp_path):
    """As the Finder and `tar` on a Mac put them beside each photo, and what lies in hidden folders."""
    hidden = ("__MACOSX/june/._one.jpg", "june/._one.jpg", ".Trash/two.jpg", "./.x.png", "__MACOSX/three.jpg")
    archive = write(tmp_path / f"a.{write.__name__[-3:]}", {"./june/one.jpg": photo(1)} | dict.fromkeys(hidden, b"Mac"))
    assert names(archive, tmp_path) == ["./june/one.jpg"]


def test_hidden_files_at_an_address_and_in_an_unpacked_archive_are_passed_over(tmp_path):
    for name in ("june/one.jpg", "june/._one.jpg", "__MACOSX/june/._one.jpg", ".thumbnails/one.jpg"):
        (tmp_path / "bucket" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "bucket" / name).write_bytes(photo(1))
    assert names(tmp_path / "bucket", tmp_path) == names(f"file://{tmp_path}/bucket", tmp_path) == ["june/one.jpg"]


def zip_as_others_write_it(path: Path, member: bytes, payload: bytes) -> Path:
    """A zip with a name of just these bytes; Python's own writer would not write them."""
    stand_in = "x" * len(member)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(stand_in, payload)
    data = path.read_bytes().replace(stand_in.encode(), member)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    "member, name",
    [
        (b"photos\\anna\\IMG_0.jpg", "photos/anna/IMG_0.jpg"),
        ("Müller.jpg".encode("cp437"), "Müller.jpg"),  # Windows
        ("Müller.jpg".encode(), "Müller.jpg"),  # a Mac: UTF-8 without saying so
        ("photos\\Mu\u0308ller.jpg".encode(), "photos/Mu\u0308ller.jpg"),
    ],
)
def test_names_in_zips_of_other_systems_are_read_as_they_were_meant(member, name, tmp_path):
    (source,) = find_sources(zip_as_others_write_it(tmp_path / "a.zip", member, photo(1)), tmp_path)
    assert source.name == name and source.file_name == name.rpartition("/")[2]
    assert source.read() == photo(1)


def test_crops_from_an_archive_equal_crops_from_files(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "one.jpg").write_bytes(photo(1))
    crop_folder(folder, tmp_path / "a", workers=0)
    crop_folder(write_zip(tmp_path / "in.zip", {"one.jpg": photo(1)}), tmp_path / "b", workers=0)
    (first,), (second,) = (tmp_path / "a").glob("*.jpg"), (tmp_path / "b").glob("*.jpg")
    assert first.name == second.name and first.read_bytes() == second.read_bytes()


def test_a_list_names_paths_and_addresses(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.jpg").write_bytes(photo(1))
    listing = tmp_path / "list.txt"
    lines = ["# mine", "photos/one.jpg", "", "  /nowhere/two.jpg", "https://example.invalid/three.jpg", "pipe:rm -rf x"]
    listing.write_text("\n".join(lines))
    sources = {source.name: source for source in find_sources(listing, tmp_path)}
    assert sources["photos/one.jpg"].read() == photo(1)
    assert cause_of(sources["/nowhere/two.jpg"]) == "unreadable"
    assert cause_of(sources["pipe:rm -rf x"]) == "refused-address"
    assert len(sources) == 4


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_a_list_may_come_from_any_editor(encoding, ends, tmp_path):
    lines = ["photos/one.jpg", "# mine", "", "photos/a\u2028b.jpg", ""]
    (tmp_path / "list.txt").write_bytes(ends.join(lines).encode(encoding))
    assert names(tmp_path / "list.txt", tmp_path) == ["photos/a\u2028b.jpg", "photos/one.jpg"]


@pytest.mark.parametrize("stored", ["NFC", "NFD"])
@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("line", ["june/Müller.jpg", "june\\Müller.jpg", "./june/Müller.jpg"])
def test_a_path_in_a_list_may_be_written_as_another_system_has_it(line, form, stored, tmp_path):
    (tmp_path / "june").mkdir()
    (tmp_path / "june" / unicodedata.normalize(stored, "Müller.jpg")).write_bytes(photo(1))
    (tmp_path / "list.txt").write_text(unicodedata.normalize(form, line))
    (source,) = find_sources(tmp_path / "list.txt", tmp_path)
    assert source.read() == photo(1)


def test_a_path_in_a_list_may_begin_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "one.jpg").write_bytes(photo(1))
    (tmp_path / "list.txt").write_text("~/one.jpg")
    (source,) = find_sources(tmp_path / "list.txt", tmp_path)
    assert source.read() == photo(1)


@pytest.mark.parametrize("given", ["pipe:curl x", "PIPE:ls", "ssh://host/x", "simplecache::s3://b/k", "python://x"])
def test_addresses_that_could_run_something_are_refused(given, tmp_path):
    with pytest.raises(UsageError):
        find_sources(given, tmp_path)


def test_a_packed_tar_is_refused_with_the_remedy(tmp_path):
    (tmp_path / "album.tar.gz").write_bytes(b"\x1f\x8b")
    with pytest.raises(UsageError, match="gunzip"):
        find_sources(tmp_path / "album.tar.gz", tmp_path)


FAULTS = {
    "cut at a header": lambda data: data[: data.rindex(b"two.jpg")],
    "cut in a payload": lambda data: data[: data.rindex(b"two.jpg") + 1500],
    "flipped header byte": lambda data: data.replace(b"two.jpg", b"twp.jpg"),
    "no end": lambda data: data[: len(data) - len(data) % 512].rstrip(b"\0") + b"\0" * (-len(data.rstrip(b"\0")) % 512),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_damaged_tar_is_never_silent(fault, tmp_path):
    """Python's reader ends quietly at most of these."""
    whole = write_tar(tmp_path / "whole", {"one.jpg": photo(1), "two.jpg": photo(2)}).read_bytes()
    (tmp_path / "shard.tar").write_bytes(FAULTS[fault](whole))
    sources = {source.name: source for source in find_sources(tmp_path / "shard.tar", tmp_path)}
    assert sources["one.jpg"].read() == photo(1)
    assert cause_of(sources["shard.tar"]) == "damaged-archive"


def test_a_flipped_byte_in_a_zip_is_noticed(tmp_path):
    archive = write_zip(tmp_path / "a.zip", {"one.jpg": photo(1)})
    data = bytearray(archive.read_bytes())
    data[len(data) // 2] ^= 1
    archive.write_bytes(data)
    (source,) = find_sources(archive, tmp_path)
    assert cause_of(source) == "damaged-archive"


def test_a_zip_member_that_unpacks_to_gigabytes_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr("shards.sources.MAX_BYTES", 1_000_000)
    (source,) = find_sources(write_zip(tmp_path / "a.zip", {"one.jpg": bytes(5_000_000)}), tmp_path)
    assert cause_of(source) == "too-many-bytes"


class Server(http.server.BaseHTTPRequestHandler):
    """Serves /photo.jpg, but breaks off, answers 500, then 200; /gone is 404; /short always breaks off."""

    asked: list[str] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        tries = self.asked.count(self.path)
        if self.path == "/gone.jpg":
            return self.send_error(404)
        if self.path == "/photo.jpg" and tries == 2:
            return self.send_error(500)
        self.send_response(200)
        self.send_header("Content-Length", str(len(photo(1))))
        self.end_headers()
        broken = self.path == "/short.jpg" or tries == 1
        self.wfile.write(photo(1)[:700] if broken else photo(1))

    def log_message(self, *ignored) -> None:
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(transfer, "FIRST_PAUSE", 0.001)
    Server.asked = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_a_flaky_server_is_asked_again_and_the_photo_is_kept(server, tmp_path):
    (source,) = find_sources(f"{server}/photo.jpg", tmp_path)
    assert source.read() == photo(1)
    assert Server.asked == ["/photo.jpg"] * 3
    assert source.read() == photo(1) and len(Server.asked) == 3, "the second time it comes from the cache"


def test_what_cannot_be_fetched_is_reported_and_leaves_nothing(server, tmp_path):
    for name, tries in (("short", transfer.ATTEMPTS), ("gone", 1)):
        (source,) = find_sources(f"{server}/{name}.jpg", tmp_path / "cache")
        assert cause_of(source) == "unreachable"
        assert Server.asked.count(f"/{name}.jpg") == tries
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_what_could_not_be_fetched_is_tried_again_by_the_next_run(server, tmp_path):
    (tmp_path / "list.txt").write_text(f"{server}/gone.jpg\n{tmp_path}/one.jpg\n")
    (tmp_path / "one.jpg").write_bytes(photo(1))
    for _ in range(2):
        summary = crop_folder(tmp_path / "list.txt", tmp_path / "out", cache=tmp_path / "cache", workers=0)
        assert summary.causes == {"unreachable": 1} and summary.crops == 1
    assert Server.asked.count("/gone.jpg") == 2 and summary.resumed == 1


def test_a_store_is_listed_and_read_through_the_cache(tmp_path):
    (tmp_path / "bucket" / "sub").mkdir(parents=True)
    (tmp_path / "bucket" / "sub" / "one.jpg").write_bytes(photo(1))
    (tmp_path / "bucket" / "one.txt").write_text("a caption")
    (source,) = find_sources(f"file://{tmp_path}/bucket", tmp_path / "cache")
    assert source.name == "sub/one.jpg" and source.stamp() and source.read() == photo(1)
    assert len([path for path in (tmp_path / "cache").rglob("*.jpg")]) == 1


def test_a_store_that_cannot_be_listed_is_one_clear_line(tmp_path):
    with pytest.raises(DinogenError, match=r"file:///nowhere/at-all"):
        find_sources("file:///nowhere/at-all", tmp_path)


def test_side_files_are_no_photos(tmp_path):
    photos = ["A.JPG", "a.gif", "a.jpg", "b.png", "d"]  # a GIF too: it gets its line in the report
    for name in [*photos, "a.caption", "a.jpg.sha256", "a.npy", "b.xmp", "Thumbs.db", "notes.md"]:
        (tmp_path / name).write_bytes(b"x")
    assert names(tmp_path, tmp_path) == photos


def test_a_sidecar_in_a_store_is_read_and_a_new_one_is_noticed(tmp_path):
    bucket = tmp_path / "bucket"
    bucket.mkdir()
    (bucket / "one.jpg").write_bytes(photo(1))
    for licence in ("CC0", "CC-BY-4.0"):
        (bucket / "one.json").write_text(json.dumps({"license": licence}))
        crop_folder(f"file://{bucket}", tmp_path / "out", cache=tmp_path / "cache", workers=0)
        (record,) = [json.loads(path.read_text()) for path in (tmp_path / "out").glob("*.json")]
        assert record["licence"] == licence
