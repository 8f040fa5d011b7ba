"""The loader: one order for any number of ranks and workers, resumable anywhere, and nothing damaged gets through."""

import io
from itertools import islice
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem

import dinogen.data.folder
import dinogen.data.transfer
from dinogen.data.loader import LoaderState, ShardLoader, load_crops
from dinogen.data.manifest import read_manifest
from dinogen.data.order import SampleOrder
from dinogen.data.shard import Shard
from dinogen.errors import DinogenError, UsageError
from dinogen.pyramid import reduce_to
from dinogen.teachers import make_teacher
from helpers.crop_folder import draw_crop, make_crops
from shards.options import PackOptions
from shards.pack import pack_folder

SAMPLES = 50


@pytest.fixture(scope="module")
def crops(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("crops")
    make_crops(folder, SAMPLES)
    make_crops(folder, 6, first=SAMPLES, split="val")
    return folder


@pytest.fixture(scope="module")
def data(crops: Path, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    pack_folder(crops, folder, PackOptions(stages=[16, 32], shard_size=12))
    return folder


def make_loader(data: Path, **options) -> ShardLoader:
    return ShardLoader(data, **({"seed": 0} | options))


def keys_of(loader: ShardLoader, batches: int, batch_size: int = 8) -> list[list[str]]:
    found = loader.batches(batch_size, image_resolution=None, stage=None)
    return [batch.keys for batch in islice(found, batches)]


# --- the order ---


def test_every_sample_comes_once_an_epoch():
    counts = [7, 3, 10, 1, 9]
    order = SampleOrder(counts, seed=3, window_shards=2)
    places = np.concatenate(list(islice(order.batches(LoaderState(), 10), 6)))
    everything = {(shard, row) for shard, count in enumerate(counts) for row in range(count)}
    for epoch in (places[:30], places[30:]):
        assert {tuple(place) for place in epoch.tolist()} == everything
    assert not np.array_equal(places[:30], places[30:])


def test_a_window_keeps_neighbours_in_few_shards():
    order = SampleOrder([10] * 20, seed=0, window_shards=4)
    first = next(order.batches(LoaderState(), 40))
    assert len(set(first[:, 0])) == 4
    assert len(set(first[:10, 0])) > 1


def test_the_order_is_frozen():
    """A run that is resumed by a later version must find the same order."""
    places = next(SampleOrder([3, 2], seed=7, window_shards=64).batches(LoaderState(2, 0), 5))
    assert places.tolist() == [[0, 0], [0, 2], [0, 1], [1, 1], [1, 0]]


@pytest.mark.parametrize("window_shards", [1, 3, 64])
@pytest.mark.parametrize("position", [0, 1, 13, 29])
def test_the_order_goes_on_from_any_position(window_shards: int, position: int):
    order = SampleOrder([7, 3, 10, 1, 9], seed=3, window_shards=window_shards)
    whole = np.concatenate(list(islice(order.batches(LoaderState(4, 0), 30), 2)))
    rest = np.concatenate(list(islice(order.batches(LoaderState(4, position), 10), 3)))
    assert np.array_equal(rest, whole[position : position + 30])


def test_another_seed_is_another_order(data: Path):
    assert keys_of(make_loader(data, seed=0), 6) != keys_of(make_loader(data, seed=1), 6)


# --- ranks, workers, resuming ---


@pytest.mark.parametrize("world_size", [2, 4])
def test_ranks_share_the_global_batches_of_one_process(data: Path, world_size: int):
    alone = keys_of(make_loader(data), 8)
    parts = [keys_of(make_loader(data, rank=rank, world_size=world_size), 8) for rank in range(world_size)]
    assert [sum(together, []) for together in zip(*parts)] == alone


def test_workers_do_not_change_the_batches(data: Path):
    assert keys_of(make_loader(data, workers=2), 8) == keys_of(make_loader(data), 8)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_goes_on_where_another_stopped(data: Path, workers: int):
    whole = keys_of(make_loader(data), 10)
    loader = make_loader(data, workers=workers)
    assert keys_of(loader, 7) == whole[:7]
    assert loader.state == LoaderState(epoch=1, position=7 * 8 - SAMPLES)  # and not what workers read ahead
    assert keys_of(make_loader(data, workers=workers, state=loader.state), 3) == whole[7:]


def test_the_batch_size_may_change_on_the_way(data: Path):
    whole = sum(keys_of(make_loader(data), 6), [])
    loader = make_loader(data)
    found = sum(keys_of(loader, 2, batch_size=8) + keys_of(loader, 2, batch_size=16), [])
    assert found == whole[:48]


# --- what a batch holds ---


def test_a_batch_holds_what_the_teacher_saw(data: Path, crops: Path):
    teacher = make_teacher("tiny", [16, 32])
    for stage in (16, 32):
        batch = next(make_loader(data).batches(16, image_resolution=256, stage=stage))
        with torch.no_grad():
            pyramid = teacher(reduce_to(batch.images.float() / 127.5 - 1, stage))
        assert set(batch.pyramid) == set(teacher.specs[stage].stored_shapes())
        for name, stored in batch.pyramid.items():
            assert stored.dtype == torch.float16 and stored.is_contiguous()
            assert torch.equal(stored, pyramid[name].half())


@pytest.mark.parametrize("resolution", [4, 16, 64, 128])
def test_images_are_averaged_down(data: Path, resolution: int):
    full = next(make_loader(data).batches(8, image_resolution=256, stage=None)).images
    small = next(make_loader(data).batches(8, image_resolution=resolution, stage=None)).images
    assert small.shape == (8, 3, resolution, resolution) and small.dtype == torch.uint8
    exact = torch.nn.functional.avg_pool2d(full.float(), 256 // resolution)
    assert (small - exact).abs().mean() < 1 and (small - exact).abs().max() < 8


def test_what_is_not_asked_for_is_not_read(data: Path):
    batch = next(make_loader(data).batches(4, image_resolution=None, stage=None))
    assert batch.images is None and batch.pyramid is None
    assert batch.captions == [None] * 4


def test_a_split_is_read_alone(data: Path):
    loader = make_loader(data, split="val")
    assert len(loader) == 6
    assert len(make_loader(data)) == SAMPLES
    assert not set(keys_of(loader, 1, batch_size=6)[0]) & set(keys_of(make_loader(data), 1, batch_size=50)[0])


def test_previews_are_crops_of_the_split_each_once(data: Path):
    images = load_crops(data, 100, resolution=256)
    assert images.shape == (SAMPLES, 3, 256, 256)
    drawn = torch.from_numpy(np.stack([np.asarray(draw_crop(number)) for number in range(SAMPLES)])).permute(0, 3, 1, 2)
    closest = torch.cdist(images[:, :, ::8, ::8].flatten(1).float(), drawn[:, :, ::8, ::8].flatten(1).float()).argmin(1)
    assert sorted(closest.tolist()) == list(range(SAMPLES))
    assert torch.equal(load_crops(data, 3), images[:3])


# --- refusals ---


def test_a_batch_must_divide_among_the_ranks(data: Path):
    with pytest.raises(UsageError, match="a batch of 10 cannot be split evenly among 4 ranks; take 8"):
        make_loader(data, world_size=4).batches(10, None, None)


def test_too_few_samples_for_a_batch_are_refused(data: Path):
    with pytest.raises(DinogenError, match="50 samples are too few for a batch of 64"):
        make_loader(data).batches(64, None, None)


def test_an_impossible_resolution_is_refused(data: Path):
    with pytest.raises(UsageError, match="resolution 48"):
        make_loader(data).batches(8, 48, None)


def test_an_empty_split_is_refused(data: Path):
    with pytest.raises(DinogenError, match="no samples of split 'test'"):
        make_loader(data, split="test")


def damaged_copy(data: Path, folder: Path, change) -> str:
    """A copy of the data in which `change` was applied to the bytes of one shard; its name."""
    for path in data.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    name = read_manifest(data).shards[1].name
    (folder / name).write_bytes(change(bytearray((folder / name).read_bytes())))
    return name


def flip_a_byte(payload: bytearray) -> bytearray:
    payload[len(payload) // 2] ^= 1
    return payload


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("change, what", [(flip_a_byte, "sha256"), (lambda payload: payload[:-512], "bytes instead")])
def test_a_damaged_shard_is_refused_by_name(data: Path, tmp_path: Path, change, what: str, workers: int):
    name = damaged_copy(data, tmp_path, change)
    with pytest.raises(DinogenError, match=f"^[^\n]*{name}: [^\n]*{what}[^\n]*$"):
        keys_of(make_loader(tmp_path, workers=workers), 1, batch_size=50)


def test_a_missing_shard_is_refused_by_name(data: Path, tmp_path: Path):
    name = damaged_copy(data, tmp_path, lambda payload: payload)
    (tmp_path / name).unlink()
    with pytest.raises(DinogenError, match=f"{name}: cannot be read"):
        keys_of(make_loader(tmp_path), 1, batch_size=50)


def test_the_content_of_shards_can_be_trusted_for_speed(data: Path, tmp_path: Path):
    damaged_copy(data, tmp_path, flip_a_byte)
    keys_of(make_loader(tmp_path, verify="size"), 1, batch_size=50)


def test_a_shard_is_hashed_once_for_all_workers_and_stages(data: Path, tmp_path: Path):
    name = damaged_copy(data, tmp_path, lambda payload: payload)
    loader = make_loader(tmp_path, workers=2)
    keys_of(loader, 8)
    payload = flip_a_byte(bytearray((tmp_path / name).read_bytes()))
    (tmp_path / name).write_bytes(payload)
    keys_of(loader, 8)


# --- quarantine ---


def epoch_of(loader: ShardLoader, batches: int = 5, batch_size: int = 10) -> list[str]:
    return sum(keys_of(loader, batches, batch_size), [])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_shard_is_left_out_and_counted_where_that_is_allowed(data: Path, tmp_path: Path, workers: int):
    name = damaged_copy(data, tmp_path, flip_a_byte)
    lost = set(Shard(data / name).keys)
    loader = make_loader(tmp_path, workers=workers, max_bad_fraction=0.5)
    keys = epoch_of(loader)
    assert len(keys) == SAMPLES
    assert set(keys) == set(epoch_of(make_loader(data))) - lost
    assert max(keys.count(key) for key in keys) == 2  # no sample stands in for many
    assert loader.quarantined == len(lost) == 12


def damage_a_record(payload: bytearray) -> bytearray:
    payload[payload.index(b'"source"')] = ord("!")
    return payload


def test_a_damaged_sample_is_replaced_and_named_in_the_log(data: Path, tmp_path: Path, caplog):
    name = damaged_copy(data, tmp_path, damage_a_record)
    lost, stand_in = Shard(data / name).keys[0], Shard(data / read_manifest(data).shards[2].name).keys[1]
    loader = make_loader(tmp_path, verify="size", max_bad_fraction=0.02)
    good = epoch_of(make_loader(data))
    assert epoch_of(loader) == [stand_in if key == lost else key for key in good]
    assert loader.quarantined == 1
    assert f"{name}: sample {lost} is not JSON" in caplog.text and "1 of 50 samples" in caplog.text


def test_more_damage_than_allowed_ends_it(data: Path, tmp_path: Path):
    name = damaged_copy(data, tmp_path, damage_a_record)
    with pytest.raises(DinogenError, match=f"{name}: sample .*1 of 50 samples .*more than max_bad_fraction 0.01"):
        epoch_of(make_loader(tmp_path, verify="size", max_bad_fraction=0.01))


@pytest.mark.parametrize("what", ["image", "pyramid"])
def test_damage_inside_a_sample_is_found_when_it_is_read(data: Path, tmp_path: Path, what: str):
    shard = Shard(data / read_manifest(data).shards[1].name)
    start = {"image": b"\xff\xd8\xff", "pyramid": b'{"16/cls"'}[what]

    def change(payload: bytearray) -> bytearray:
        at = payload.index(start)
        payload[at : at + 3] = b"???"
        return payload

    damaged_copy(data, tmp_path, change)
    loader = make_loader(tmp_path, verify="size", max_bad_fraction=0.02)
    batches = islice(loader.batches(10, image_resolution=32, stage=32), 5)
    assert shard.keys[0] not in sum([batch.keys for batch in batches], [])
    assert loader.quarantined == 1


# --- remote data ---


class DroppingStore(MemoryFileSystem):
    """A store in memory that drops the connection in the middle of every other file, and counts."""

    protocol = "dropping"
    store, pseudo_dirs, opened = {}, [""], []

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.removeprefix("dropping://"))

    def _open(self, path: str, mode: str = "rb", **options):
        file = super()._open(path, mode, **options)
        if mode == "rb":
            self.opened.append(path)
            if len(self.opened) % 2:
                return io.BufferedReader(Dropping(file.read()))
        return file


class Dropping(io.RawIOBase):
    def __init__(self, payload: bytes):
        self.rest = memoryview(payload)[: len(payload) // 2]

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        if not self.rest:
            raise ConnectionResetError("the server went away")
        count = min(len(buffer), len(self.rest))
        buffer[:count], self.rest = self.rest[:count], self.rest[count:]
        return count


@pytest.fixture
def remote(data: Path, tmp_path: Path, monkeypatch) -> str:
    fsspec.register_implementation("dropping", DroppingStore, clobber=True)
    monkeypatch.setattr(dinogen.data.folder, "PROTOCOLS", {"dropping"})
    monkeypatch.setattr(dinogen.data.transfer, "FIRST_PAUSE", 0.001)
    monkeypatch.setenv("DINOGEN_CACHE", str(tmp_path / "cache"))
    DroppingStore.store.clear()
    DroppingStore.opened.clear()
    files = fsspec.filesystem("dropping")
    for path in data.iterdir():
        files.pipe(f"/bucket/{path.name}", path.read_bytes())
    return "dropping://bucket"


def test_remote_shards_are_read_through_a_cache_although_connections_drop(data: Path, remote: str):
    expected = keys_of(make_loader(data), 10)
    assert keys_of(make_loader(remote), 10) == expected
    loaded = len(DroppingStore.opened)
    assert loaded == 2 * len(read_manifest(data).shards_of("train"))
    assert keys_of(make_loader(Path(remote)), 10) == expected
    assert len(DroppingStore.opened) == loaded


def test_the_cache_stays_within_its_bounds(data: Path, remote: str, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("DINOGEN_CACHE_GB", "0.0021")
    expected = keys_of(make_loader(data), 20)
    assert keys_of(make_loader(remote, window_shards=1), 20) != expected  # other windows, another order
    assert sorted(sum(keys_of(make_loader(remote), 25, 10), [])) == sorted(sum(keys_of(make_loader(data), 25, 10), []))
    assert 0 < sum(path.stat().st_size for path in (tmp_path / "cache" / "shards").glob("*.tar")) <= 2.1e6


def test_a_damaged_file_in_the_cache_is_fetched_again(data: Path, remote: str, tmp_path: Path):
    expected = keys_of(make_loader(remote), 10)
    for path in (tmp_path / "cache" / "shards").glob("*.tar"):
        path.write_bytes(flip_a_byte(bytearray(path.read_bytes())))
    assert keys_of(make_loader(remote), 10) == expected


def test_a_remote_shard_that_is_not_what_the_manifest_says_is_refused_by_name(data: Path, remote: str):
    name = read_manifest(data).shards[0].name
    fsspec.filesystem("dropping").pipe(f"/bucket/{name}", b"other")
    with pytest.raises(DinogenError, match=f"{remote}/{name}: could not be read in 5 attempts"):
        epoch_of(make_loader(remote))


def test_an_address_without_shards_is_refused(remote: str):
    with pytest.raises(DinogenError, match=f"{remote}/none/manifest.json: is not there"):
        make_loader(f"{remote}/none")


@pytest.mark.parametrize("address", ["pipe:cat /tmp/x", "pipe://cat", "file:///tmp", "ftp://h/x", "s3://a::pipe://b"])
def test_addresses_of_other_kinds_are_refused(address: str):
    with pytest.raises(UsageError, match="take a folder or an address"):
        make_loader(address)
