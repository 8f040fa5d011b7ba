"""Shards at addresses, read from real servers on this machine: an S3-compatible one, and web servers that misbehave."""

import re
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path

import pytest
import torch

import dinogen.data.transfer
from dinogen.data.loader import LoaderState, ShardLoader, load_crops
from dinogen.data.manifest import read_manifest
from dinogen.errors import DinogenError
from helpers.crop_folder import make_crops
from launch import inspect, verify
from shards.options import PackOptions
from shards.pack import pack_folder

SAMPLES = 30
SHARDS = 3


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("remote")
    make_crops(folder / "crops", SAMPLES)
    pack_folder(folder / "crops", folder / "shards", PackOptions(shard_size=10))
    return folder / "shards"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache; pauses that nobody waits for; and no proxy between us and ourselves."""
    monkeypatch.setenv("DINOGEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(dinogen.data.transfer, "FIRST_PAUSE", 0.001)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path / "cache" / "shards"


def make_loader(address: Path | str, data: Path, **options) -> ShardLoader:
    return ShardLoader(address, seed=0, **options)


def read(loader: ShardLoader, batches: int = 4) -> list[tuple[list[str], torch.Tensor, torch.Tensor]]:
    found = islice(loader.batches(10, image_resolution=32, stage=32), batches)
    return [(batch.keys, batch.images, batch.pyramid["l3_8x8"]) for batch in found]


def assert_same(found: list, expected: list) -> None:
    assert [keys for keys, *_ in found] == [keys for keys, *_ in expected]
    for row, wanted in zip(found, expected):
        assert torch.equal(row[1], wanted[1]) and torch.equal(row[2], wanted[2])


def assert_whole(cache: Path, data: Path) -> None:
    """The cache holds copies of whole shards, and nothing else that could be taken for one."""
    shards = read_manifest(data).shards
    expected = {f"{shard.sha256}-{shard.name}": (data / shard.name).read_bytes() for shard in shards}
    held = [path for path in cache.iterdir() if path.suffix != ".lock"]
    assert held and all(path.read_bytes() == expected[path.name] for path in held)


def assert_one_line(error: pytest.ExceptionInfo, what: str) -> None:
    assert re.fullmatch(what, str(error.value)), error.value
    assert "\n" not in str(error.value)


# --- an S3-compatible store ---


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    """The address of moto's server."""
    server = pytest.importorskip("moto.server", reason="needs pip install 's3fs' 'moto[server]'")
    running = server.ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    running.start()
    yield "http://{}:{}".format(*running.get_host_and_port())
    running.stop()


@pytest.fixture
def bucket(store: str, data: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A bucket with the shards, for which the variables stand that S3's own tools read too."""
    import boto3

    names = {"ENDPOINT_URL": store, "ACCESS_KEY_ID": "test", "SECRET_ACCESS_KEY": "test", "DEFAULT_REGION": "us-east-1"}
    for name, value in names.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    client = boto3.client("s3")
    client.create_bucket(Bucket="faces")
    for path in data.iterdir():
        client.upload_file(str(path), "faces", f"set/{path.name}")
    return "s3://faces/set"


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bucket_is_read_like_a_folder(bucket: str, data: Path, cache: Path, workers: int):
    expected = read(make_loader(data, data))
    assert_same(read(make_loader(bucket, data, workers=workers)), expected)
    assert_whole(cache, data)
    assert torch.equal(load_crops(bucket, 5, resolution=64), load_crops(data, 5, resolution=64))


def test_a_loader_goes_on_from_a_bucket_in_the_middle_of_an_epoch(bucket: str, data: Path):
    assert_same(read(make_loader(bucket, data, state=LoaderState(0, 20)), 2), read(make_loader(data, data), 4)[2:])


def test_a_missing_bucket_is_one_line(bucket: str, data: Path):
    with pytest.raises(DinogenError) as error:
        make_loader("s3://nobody/set", data)
    assert_one_line(error, "s3://nobody/set/manifest.json: is not there")


def test_a_changed_shard_in_a_bucket_is_refused_by_name(bucket: str, data: Path, cache: Path):
    import boto3

    name = read_manifest(data).shards[1].name
    payload = bytearray((data / name).read_bytes())
    payload[len(payload) // 2] ^= 1
    boto3.client("s3").put_object(Bucket="faces", Key=f"set/{name}", Body=bytes(payload))
    with pytest.raises(DinogenError, match=f"s3://faces/set/{name}: .*differs from the manifest's sha256"):
        read(make_loader(bucket, data))
    assert_whole(cache, data)


# --- web servers ---


class WebServer(ThreadingHTTPServer):
    """Serves a folder, with ranges unless told otherwise, and counts what was asked for.

    Args:
        drop_after: bytes of a body after which the connection is cut; None keeps it.
        drops: how often that happens to each file.
        ranges: whether `Range` is honoured; the whole file is the answer otherwise.
        errors: answers of 500 before each file's first good one.
        silent: whether a cut is hidden: no length is announced.
    """

    daemon_threads = True

    def __init__(self, folder: Path, drop_after=None, drops=0, ranges=True, errors=0, silent=False):
        super().__init__(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
        self.folder = folder
        self.drop_after, self.drops, self.ranges, self.errors, self.silent = drop_after, drops, ranges, errors, silent
        self.asked: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self.address = f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> "WebServer":
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *error) -> None:
        self.shutdown()
        self.server_close()


class Handler(SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        server, name = self.server, self.path.removeprefix("/")
        server.asked[name] += 1
        if not (server.folder / name).is_file():
            return self.send_error(404)
        if server.asked[name] <= server.errors:
            return self.send_error(500)
        payload = (server.folder / name).read_bytes()
        first = 0
        if server.ranges and (wanted := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))):
            first = int(wanted[1])
        self.send_response(206 if first else 200)
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(payload) - 1}/{len(payload)}")
        if not server.silent:
            self.send_header("Content-Length", str(len(payload) - first))
        self.end_headers()
        body = payload[first:]
        if server.drop_after is not None and server.asked[name] <= server.drops + server.errors:
            body = body[: server.drop_after]
        server.sent[name] += len(body)
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, *arguments) -> None:
        pass


def shard_names(data: Path) -> list[str]:
    return [shard.name for shard in read_manifest(data).shards]


@pytest.mark.parametrize(
    "faults",
    [
        {},
        {"drop_after": 300, "drops": 2},
        {"drop_after": 300_000, "drops": 100},
        {"drop_after": 300_000, "drops": 2, "ranges": False},
        {"drop_after": 300_000, "drops": 2, "silent": True},
        {"errors": 3},
    ],
    ids=["whole", "drops in the manifest", "always drops", "drops, no ranges", "drops silently", "errors"],
)
def test_a_web_server_is_read_like_a_folder_whatever_its_faults(data: Path, cache: Path, faults: dict):
    expected = read(make_loader(data, data))
    with WebServer(data, **faults) as server:
        assert_same(read(make_loader(server.address, data)), expected)
    assert_whole(cache, data)


def test_what_a_dropped_connection_brought_is_not_sent_again(data: Path):
    with WebServer(data, drop_after=300_000, drops=100) as server:
        read(make_loader(server.address, data))
        for name in shard_names(data):
            size = (data / name).stat().st_size
            assert server.sent[name] == size and server.asked[name] == -(-size // 300_000) > 2


def test_workers_copy_every_shard_once(data: Path, cache: Path):
    expected = read(make_loader(data, data))
    with WebServer(data) as server:
        assert_same(read(make_loader(server.address, data, workers=2)), expected)
        assert [server.asked[name] for name in shard_names(data)] == [1] * SHARDS


def test_a_server_that_cuts_every_body_at_the_same_place_is_given_up(data: Path, cache: Path):
    with WebServer(data, drop_after=300_000, drops=100, ranges=False) as server:
        with pytest.raises(DinogenError) as error:
            read(make_loader(server.address, data))
    assert_one_line(error, r".*/shard-\d+\.tar: could not be read in 5 attempts \(.*300000 of \d+ bytes\).*")
    assert not [path for path in cache.iterdir() if path.suffix != ".lock"]


def test_a_server_that_is_dead_is_one_line(data: Path):
    with WebServer(data) as server:
        pass
    with pytest.raises(DinogenError) as error:
        make_loader(server.address, data)
    assert_one_line(error, f"{server.address}/manifest.json: could not be read in 5 attempts .*refused.*")


def test_a_server_that_dies_under_a_loader_is_one_line_that_names_the_shard(data: Path, cache: Path):
    with WebServer(data) as server:
        loader = make_loader(server.address, data)
    with pytest.raises(DinogenError) as error:
        read(loader)
    assert_one_line(error, rf"{server.address}/shard-\d+\.tar: could not be read in 5 attempts .*")
    assert not list(cache.glob("*.tar"))


def test_a_server_that_stalls_is_given_up(data: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(dinogen.data.transfer, "STALL", 0.05)
    monkeypatch.setattr(Handler, "do_GET", lambda self: threading.Event().wait(1))
    with WebServer(data) as server, pytest.raises(DinogenError) as error:
        make_loader(server.address, data)
    assert_one_line(error, f"{server.address}/manifest.json: could not be read in 5 attempts .*timed out.*")


def test_an_address_without_a_manifest_is_one_line(data: Path):
    with WebServer(data) as server, pytest.raises(DinogenError) as error:
        make_loader(f"{server.address}/none", data)
    assert_one_line(error, f"{server.address}/none/manifest.json: is not there")
    assert server.asked["none/manifest.json"] == 1


def test_what_a_killed_process_left_is_cleared_away(data: Path, cache: Path):
    record = read_manifest(data).shards[0]
    cache.mkdir(parents=True)
    (cache / f".{record.sha256}-{record.name}.tmp1").write_bytes(b"half")
    with WebServer(data) as server:
        read(make_loader(server.address, data))
    assert_whole(cache, data)


def test_a_full_disk_is_one_line_and_leaves_nothing(data: Path, cache: Path):
    """A limit on the size of files stands in for the full disk."""
    code = (
        "import errno, resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000));"
        "import dinogen.data.transfer as transfer; transfer.NO_ROOM += (errno.EFBIG,);"
        "from dinogen.data.loader import load_crops; load_crops(sys.argv[1], 1)"
    )
    with WebServer(data) as server:
        run = subprocess.run([sys.executable, "-c", code, server.address], capture_output=True, text=True)
        assert max(server.asked.values()) == 1
    assert "no room on this disk" in run.stderr.splitlines()[-1]
    assert not [path for path in cache.iterdir() if path.suffix != ".lock"]


def test_a_missing_package_is_named():
    code = (
        "import sys; sys.modules['s3fs'] = sys.modules['gcsfs'] = None;"
        "from launch.verify import main; sys.exit(main(['--data', 's3://a/b']) + main(['--data', 'gs://a/b']))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    needs = "needs a package that is not installed; run: pip install"
    assert run.returncode == 2 and run.stderr.splitlines() == [
        f"dinogen verify: error: s3://a/b/manifest.json: {needs} 'dinogen[remote]'",
        f"dinogen verify: error: gs://a/b/manifest.json: {needs} gcsfs",
    ]


# --- verify and inspect ---


@pytest.mark.parametrize("kind", ["bucket", "web"])
def test_verify_reads_an_address_anew_and_leaves_the_cache_alone(
    kind: str, data: Path, tmp_path: Path, cache: Path, request: pytest.FixtureRequest, capsys
):
    copy = Path(shutil.copytree(data, tmp_path / "copy"))
    with WebServer(copy) as server:
        address = server.address if kind == "web" else request.getfixturevalue("bucket")
        read(make_loader(address, data))  # from now on the cache has them all
        before = {path.name: path.stat().st_mtime_ns for path in cache.iterdir()}
        assert verify.main(["--data", address]) == 0
        assert f"Verified {address}: 30 samples in 3 shards, all whole; none with captions." in capsys.readouterr().out
        if kind == "web":
            (copy / "shard-000001.tar").write_bytes(b"damaged")
            (copy / "shard-000002.tar").unlink()
            assert verify.main(["--data", address]) == 1
            streams = capsys.readouterr()
            lines = streams.out.splitlines()
            assert len(lines) == 2 and "2 problems; restore" in streams.err
            assert lines[0].startswith(f"{address}/shard-000001.tar: ")
            assert lines[1] == f"{address}/shard-000002.tar: is not there"
    assert {path.name: path.stat().st_mtime_ns for path in cache.iterdir()} == before


@pytest.mark.parametrize("kind", ["bucket", "web"])
def test_inspect_draws_what_is_at_an_address(
    kind: str, data: Path, tmp_path: Path, request: pytest.FixtureRequest, capsys
):
    with WebServer(data) as server:
        address = server.address if kind == "web" else request.getfixturevalue("bucket")
        assert inspect.main(["--data", address, "--output", str(tmp_path / "there.png")]) == 0
    assert "30 (30 train)" in capsys.readouterr().out
    assert inspect.main(["--data", str(data), "--output", str(tmp_path / "here.png")]) == 0
    assert (tmp_path / "there.png").read_bytes() == (tmp_path / "here.png").read_bytes()
