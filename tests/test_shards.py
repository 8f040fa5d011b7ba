"""The contract of shards: what a sample and a manifest hold, and what is refused."""

import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save

from dinogen.data.layout import PyramidLayout
from dinogen.data.manifest import Manifest, ShardRecord, read_manifest
from dinogen.data.schema import SampleRecord
from dinogen.data.shard import Shard
from dinogen.errors import DinogenError
from dinogen.pyramid import PyramidSpec, StagedSpec

SPECS = StagedSpec({size: PyramidSpec("tiny", "0" * 16, 32, 4, 8, (1, 2), (1, 2, 4, 8), ()) for size in (8, 16)})
RECORD = SampleRecord(source="a.jpg", source_sha256="00").to_bytes()


def pyramid(number: float = 0.0) -> dict[str, torch.Tensor]:
    return {name: torch.full(shape, number, dtype=torch.float16) for name, shape in SPECS.stored_shapes().items()}


def sample(key: str, number: float = 0.0) -> dict[str, bytes]:
    parts = {"jpg": b"picture of " + key.encode(), "json": RECORD}
    parts["pyramid.safetensors"] = save(pyramid(number))
    return {f"{key}.{suffix}": payload for suffix, payload in parts.items()}


def write_tar(path: Path, *members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, payload in [pair for group in members for pair in group.items()]:
            info = tarfile.TarInfo(name)
            info.size = len(payload)
            tar.addfile(info, io.BytesIO(payload))
    return path


@pytest.fixture
def tar(tmp_path: Path) -> Path:
    return write_tar(tmp_path / "shard-000007.tar", sample("a", 1.0), sample("b", 2.0), sample("c", 3.0))


def test_a_shard_gives_any_sample_in_any_order(tar: Path):
    shard = Shard(tar)
    assert shard.keys == ["a", "b", "c"]
    assert shard.read(2, "image") == b"picture of c"
    assert load(shard.read(1, "pyramid"))["16/cls"][0] == 2.0
    assert shard.read(0, "record") == RECORD
    assert shard.image_name(0) == "a.jpg"


@pytest.mark.parametrize("name", ["../d.jpg", "/etc/d.json", "d/e.jpg", "d.pkl", "d.pth", "d.pyramid.pt", "d", ".jpg"])
def test_a_foreign_member_is_refused_by_name(tmp_path: Path, name: str):
    path = write_tar(tmp_path / "shard-000001.tar", sample("a"), {name: b"x"})
    with pytest.raises(DinogenError, match="shard-000001.tar: member .* does not belong"):
        Shard(path)


def test_a_link_is_refused(tmp_path: Path):
    path = tmp_path / "shard-000001.tar"
    with tarfile.open(path, "w") as tar:
        link = tarfile.TarInfo("a.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    with pytest.raises(DinogenError, match="shard-000001.tar: member 'a.jpg' does not belong"):
        Shard(path)


def test_a_member_that_comes_twice_is_refused(tmp_path: Path):
    path = write_tar(tmp_path / "shard-000001.tar", sample("a"), {"a.jpg": b"another"})
    with pytest.raises(DinogenError, match="shard-000001.tar: sample a has its image twice"):
        Shard(path)


def test_two_pictures_in_a_sample_are_refused(tmp_path: Path):
    path = write_tar(tmp_path / "shard-000001.tar", sample("a"), {"a.png": b"another"})
    with pytest.raises(DinogenError, match="twice"):
        Shard(path)


@pytest.mark.parametrize("suffix, part", [("pyramid.safetensors", "pyramid"), ("jpg", "image"), ("json", "record")])
def test_an_incomplete_sample_is_refused(tmp_path: Path, suffix: str, part: str):
    incomplete = {name: payload for name, payload in sample("b").items() if not name.endswith(suffix)}
    path = write_tar(tmp_path / "shard-000001.tar", sample("a"), incomplete)
    with pytest.raises(DinogenError, match=f"shard-000001.tar: sample b has no {part}"):
        Shard(path)


@pytest.mark.parametrize(
    "cut, message", [("header", "damaged"), ("payload", "cut short in c"), ("end mark", "damaged")]
)
def test_a_shard_cut_short_is_refused(tar: Path, cut: str, message: str):
    with tarfile.open(tar) as archive:
        last = archive.getmembers()[-1]
    end_of_last = last.offset_data + -(-last.size // 512) * 512
    length = {"header": last.offset + 100, "payload": last.offset_data + 10, "end mark": end_of_last}[cut]
    tar.write_bytes(tar.read_bytes()[:length])
    with pytest.raises(DinogenError, match=f"shard-000007.tar: {message}"):
        Shard(tar)


def test_a_flipped_byte_in_a_header_is_refused_where_tarfile_stops_silently(tar: Path):
    with tarfile.open(tar) as archive:
        offset = archive.getmembers()[4].offset
    payload = bytearray(tar.read_bytes())
    payload[offset + 5] ^= 1
    tar.write_bytes(payload)
    assert len(tarfile.open(tar).getmembers()) == 4
    with pytest.raises(DinogenError, match=f"shard-000007.tar: damaged at byte {offset}"):
        Shard(tar)


def test_a_member_of_negative_length_is_refused(tmp_path: Path):
    path = tmp_path / "shard-000001.tar"
    info = tarfile.TarInfo("a.jpg")
    info.size = -1024
    path.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    with pytest.raises(DinogenError, match="shard-000001.tar"):
        Shard(path)


def test_a_layout_reads_back_what_it_wrote():
    layout = PyramidLayout(SPECS)
    batch = {name: torch.randn(2, *shape).half() for name, shape in SPECS.stored_shapes().items()}
    rows = layout.join(batch)
    for name, tensor in layout.split(rows).items():
        assert tensor.dtype == torch.float16 and torch.equal(tensor, batch[name])
    for number in range(2):  # and the files are what safetensors itself writes
        assert rows[number].numpy().tobytes() == save({name: tensor[number] for name, tensor in batch.items()})


def test_a_pyramid_in_another_order_of_tensors_is_taken():
    layout = PyramidLayout(SPECS)
    payload = save(pyramid(1.5), metadata={"written": "elsewhere"})
    assert layout.normalise(payload) == save(pyramid(1.5)) != payload


@pytest.mark.parametrize(
    "change, message",
    [
        ({"8/cls": torch.zeros(8)}, "'8/cls' is float32"),
        ({"8/cls": torch.zeros(9, dtype=torch.float16)}, r"'8/cls' is float16 \[9\] instead of float16 \[8\]"),
        ({"extra": torch.zeros(1, dtype=torch.float16)}, "holds 16/cls, .*, extra"),
    ],
)
def test_a_pyramid_that_does_not_fit_the_spec_is_refused(change: dict, message: str):
    with pytest.raises(DinogenError, match=message):
        PyramidLayout(SPECS).normalise(save(pyramid() | change))


def test_a_pyramid_that_is_no_safetensors_is_refused():
    with pytest.raises(DinogenError, match="not a safetensors file"):
        PyramidLayout(SPECS).normalise(b"\x80\x04.")


def test_a_record_is_the_same_bytes_for_the_same_values():
    record = SampleRecord(source="ä.jpg", source_sha256="00", captions=("ein Gesicht",))
    assert SampleRecord.from_bytes(record.to_bytes()) == record
    assert sorted(json.loads(record.to_bytes())) == [
        "box", "caption", "consent", "landmarks", "licence", "score", "source", "source_sha256", "split",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "payload", [b"{", b"[]", b'{"source": "a.jpg"}', b'{"source": 3, "source_sha256": ""}', b"\xff"]
)
def test_a_record_that_is_none_is_refused(payload: bytes):
    with pytest.raises(DinogenError):
        SampleRecord.from_bytes(payload)


def shard_record(name: str = "shard-000000.tar", samples: int = 5, split: str = "train") -> ShardRecord:
    return ShardRecord(name, 1024, "0" * 64, samples, split, "1" * 64)


def test_a_manifest_reads_back_with_its_totals(tmp_path: Path):
    manifest = Manifest(SPECS, (shard_record(), shard_record("shard-000001.tar", 2, "val")))
    manifest.write(tmp_path)
    assert read_manifest(tmp_path) == manifest
    assert manifest.samples == 7
    assert manifest.splits == {"train": 5, "val": 2}
    assert json.loads((tmp_path / "manifest.json").read_text())["fingerprint"] == SPECS.fingerprint


def test_a_split_that_is_empty_is_named_with_those_that_are_not():
    with pytest.raises(DinogenError, match=r"no samples of split 'val'; its splits: train \(5\)"):
        Manifest(SPECS, (shard_record(),)).shards_of("val")


@pytest.mark.parametrize("name", ["../shard-000000.tar", "/tmp/s.tar", "pipe:cat s.tar", "https://host/s.tar", "a.pkl"])
def test_a_manifest_that_points_elsewhere_is_refused(tmp_path: Path, name: str):
    Manifest(SPECS, (shard_record(name),)).write(tmp_path)
    with pytest.raises(DinogenError, match="is not a plain file name"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("sha256", ["../../../tmp/x", "0" * 63, 7])
def test_a_manifest_whose_hash_is_none_is_refused(tmp_path: Path, sha256: object):
    """It becomes part of a path in the cache."""
    Manifest(SPECS, (replace(shard_record(), sha256=sha256),)).write(tmp_path)
    with pytest.raises(DinogenError, match="the sha256 of shard-000000.tar is not one"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"schema": 99}, "schema version 99"),
        ({"fingerprint": "0" * 16}, "contradict"),
        ({"samples": 6}, "contradict"),
        ({"stages": {}}, "damaged"),
        ({"stages": []}, "damaged"),
        ({"stages": {"x": {}}}, "damaged"),
        ({"schema": 1, "spec": {"teacher": "tiny"}}, "pack the crops again: dinogen pack --teacher tiny --input"),
        ({"schema": 1, "spec": []}, "pack the crops again"),
        ({"shards": [vars(shard_record(samples="5"))]}, "damaged"),
        ({"shards": [{}]}, "damaged"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(tmp_path: Path, change: dict, message: str):
    values = Manifest(SPECS, (shard_record(),)).to_dict() | change
    (tmp_path / "manifest.json").write_text(json.dumps(values))
    with pytest.raises(DinogenError, match=f"manifest.json: .*{message}"):
        read_manifest(tmp_path)


def test_a_folder_without_a_manifest_says_what_is_missing(tmp_path: Path):
    with pytest.raises(DinogenError, match="no manifest.json .no shards here"):
        read_manifest(tmp_path)
    write_tar(tmp_path / "shard-000000.tar", sample("a"))
    with pytest.raises(DinogenError, match="packing did not finish"):
        read_manifest(tmp_path)
