"""Packing: the same bytes from the same crops however it went, and nothing lost or half-written."""

import hashlib
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tarfile
import time
from functools import partial
from pathlib import Path

import pytest
import torch
import webdataset
from PIL import Image
from safetensors.torch import load
from transformers import Dinov2Config, Dinov2Model

from dinogen.data.loader import ShardLoader
from dinogen.data.manifest import Manifest, read_manifest
from dinogen.data.shard import Shard
from dinogen.errors import DinogenError
from dinogen.pyramid import reduce_to
from dinogen.teachers import Teacher, make_teacher
from helpers.crop_folder import make_crops
from launch.pack import main
from shards.options import PackOptions
from shards.pack import Packer, pack_folder, read_batch
from shards.plan import plan_shards
from shards.resume import Finished

COUNT = 30
STAGES = [16, 32]


@pytest.fixture(scope="module")
def crops(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("crops")
    make_crops(folder, COUNT)
    return folder


@pytest.fixture(scope="module")
def packed(crops: Path, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("packed")
    pack_folder(crops, folder, PackOptions(stages=STAGES, shard_size=12))
    return folder


def contents(folder: Path) -> dict[str, str]:
    """Hash of every file, hidden ones too."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def keys(folder: Path) -> list[str]:
    return [key for shard in read_manifest(folder).shards for key in Shard(folder / shard.name).keys]


# --- what is written ---


def test_plain_webdataset_reads_the_shards(crops: Path, packed: Path):
    samples = []
    for path in sorted(packed.glob("*.tar")):
        samples += list(webdataset.WebDataset(str(path), shardshuffle=False))
    assert [sample["__key__"] for sample in samples] == sorted(path.stem for path in crops.glob("*.jpg"))
    for sample in samples:
        assert sample["jpg"] == (crops / f"{sample['__key__']}.jpg").read_bytes()
        assert set(load(sample["pyramid.safetensors"])) == set(read_manifest(packed).specs.stored_shapes())
        record = json.loads(sample["json"])
        crop = json.loads((crops / f"{sample['__key__']}.json").read_text())
        assert {name: record[name] for name in ("source", "box", "licence")} == {
            name: crop[name] for name in ("source", "box", "licence")
        }
        assert record["split"] == "train" and record["caption"] is None


def test_members_carry_nothing_of_the_machine(packed: Path):
    for path in packed.glob("*.tar"):
        for member in tarfile.open(path):
            described = (member.mtime, member.uid, member.gid, member.uname, member.gname, member.mode)
            assert described == (0, 0, 0, "", "", 0o444)


def test_the_manifest_describes_the_shards(packed: Path):
    manifest = read_manifest(packed)
    assert manifest.samples == COUNT
    assert [shard.samples for shard in manifest.shards] == [12, 12, 6]
    for shard in manifest.shards:
        payload = (packed / shard.name).read_bytes()
        assert (shard.bytes, shard.sha256) == (len(payload), hashlib.sha256(payload).hexdigest())
    assert {path.name for path in packed.iterdir()} == {"manifest.json", *(shard.name for shard in manifest.shards)}


@pytest.mark.parametrize("options", [{"batch_size": 7}, {"batch_size": 64, "workers": 2}, {"batch_size": 1}])
def test_bytes_do_not_depend_on_how_it_was_packed(crops: Path, packed: Path, tmp_path: Path, options: dict):
    pack_folder(crops, tmp_path, PackOptions(stages=STAGES, shard_size=12, **options))
    assert contents(tmp_path) == contents(packed)


def test_png_crops_are_packed_unchanged(tmp_path: Path):
    (key,) = make_crops(tmp_path / "crops", 1, suffix="png")
    pack_folder(tmp_path / "crops", tmp_path / "out")
    shard = Shard(tmp_path / "out" / "shard-000000.tar")
    assert shard.image_name(0) == f"{key}.png"
    assert shard.read(0, "image") == (tmp_path / "crops" / f"{key}.png").read_bytes()


def test_splits_do_not_share_a_shard(tmp_path: Path):
    train = make_crops(tmp_path / "crops", 8)
    val = make_crops(tmp_path / "crops", 3, first=8, split="val")
    manifest = pack_folder(tmp_path / "crops", tmp_path / "out", PackOptions(stages=STAGES, shard_size=6))
    assert [(shard.split, shard.samples) for shard in manifest.shards] == [("train", 6), ("train", 2), ("val", 3)]
    assert keys(tmp_path / "out") == sorted(train) + sorted(val)


def test_mirrored_samples_hold_what_the_teacher_sees_in_the_mirror(crops: Path, tmp_path: Path):
    pack_folder(crops, tmp_path, PackOptions(stages=STAGES, mirror=True, shard_size=25))
    assert [shard.samples for shard in read_manifest(tmp_path).shards] == [25, 25, 10]
    both = sorted(path.stem + mark for path in crops.glob("*.jpg") for mark in ("", "-m"))
    assert keys(tmp_path) == both
    loader = ShardLoader(tmp_path, seed=0)
    batch = next(loader.batches(2 * COUNT, image_resolution=256, stage=32))
    row = {key: i for i, key in enumerate(batch.keys)}
    plain = [row[key] for key in both if not key.endswith("-m")]
    mirrored = [row[key] for key in both if key.endswith("-m")]
    assert torch.equal(batch.images[mirrored], batch.images[plain].flip(-1))
    with torch.no_grad():
        seen = make_teacher("tiny")(reduce_to(batch.images[mirrored].float() / 127.5 - 1, 32))
    for name, stored in batch.pyramid.items():
        assert torch.equal(stored[mirrored], seen[name].half())
    assert not torch.allclose(batch.pyramid["l3_8x8"][mirrored], batch.pyramid["l3_8x8"][plain].flip(-1), atol=0.1)


def pyramids(folder: Path) -> dict[str, torch.Tensor]:
    loader = ShardLoader(folder, seed=0)
    return next(loader.batches(COUNT, image_resolution=None, stage=32)).pyramid


def test_in_bf16_the_teacher_sees_nearly_the_same(crops: Path, packed: Path, tmp_path: Path):
    pack_folder(crops, tmp_path, PackOptions(stages=STAGES, shard_size=12, precision="bf16"))
    for name, seen in pyramids(tmp_path).items():
        exact = pyramids(packed)[name].float()
        error = (seen.float() - exact).norm() / exact.norm()
        assert error < 0.02 and (name.startswith("rgb") or error > 0)
    with pytest.raises(DinogenError, match="--precision"):
        pack_folder(crops, tmp_path, PackOptions(stages=STAGES, shard_size=12))


@pytest.mark.slow
def test_compiled_the_teacher_sees_the_same(crops: Path, packed: Path, tmp_path: Path):
    pack_folder(crops, tmp_path, PackOptions(stages=STAGES, shard_size=12, compile=True))
    for name, seen in pyramids(tmp_path).items():
        assert torch.allclose(seen.float(), pyramids(packed)[name].float(), atol=0.01, rtol=0.01)


def test_a_teacher_that_cannot_be_compiled_is_one_line(crops: Path, tmp_path: Path, monkeypatch, capsys):
    def broken(model, inputs):
        raise RuntimeError("no compiler\nand more")

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=broken))
    line = refused(capsys, "--input", crops, "--output", tmp_path, "--compile")
    assert "no compiler" in line and "leave --compile out" in line


# --- going on ---


def test_packing_again_changes_nothing(crops: Path, packed: Path):
    before, times = contents(packed), [path.stat().st_mtime_ns for path in sorted(packed.glob("*.tar"))]
    pack_folder(crops, packed, PackOptions(stages=STAGES, shard_size=12))
    assert contents(packed) == before
    assert [path.stat().st_mtime_ns for path in sorted(packed.glob("*.tar"))] == times


def test_a_damaged_shard_is_packed_again(crops: Path, packed: Path, tmp_path: Path):
    pack_folder(crops, tmp_path, PackOptions(stages=STAGES, shard_size=12))
    payload = bytearray((tmp_path / "shard-000001.tar").read_bytes())
    payload[5000] ^= 1
    (tmp_path / "shard-000001.tar").write_bytes(payload)
    pack_folder(crops, tmp_path, PackOptions(stages=STAGES, shard_size=12))
    assert contents(tmp_path) == contents(packed)


def interrupt_after(monkeypatch: pytest.MonkeyPatch, looks: int) -> None:
    """Let the teacher fail after so many batches."""
    forward, seen = Teacher.forward, []

    def interrupted(self: Teacher, images: torch.Tensor):
        seen.append(len(images))
        if len(seen) > looks:
            raise KeyboardInterrupt
        return forward(self, images)

    monkeypatch.setattr(Teacher, "forward", interrupted)


def test_packing_goes_on_after_the_last_whole_shard(crops: Path, packed: Path, tmp_path: Path, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt_after(patch, looks=5 * len(STAGES))  # three batches of 4 make a shard of 12
        with pytest.raises(KeyboardInterrupt):
            pack_folder(crops, tmp_path, PackOptions(stages=STAGES, shard_size=12, batch_size=4))
    assert [path.name for path in tmp_path.glob("*.tar*")] == ["shard-000000.tar"]
    with pytest.raises(DinogenError, match="packing did not finish"):
        read_manifest(tmp_path)
    with monkeypatch.context() as patch:
        interrupt_after(patch, looks=5 * len(STAGES))  # the 18 crops left make five batches
        pack_folder(crops, tmp_path, PackOptions(stages=STAGES, shard_size=12, batch_size=4))
    assert contents(tmp_path) == contents(packed)


def test_a_killed_run_goes_on(crops: Path, packed: Path, tmp_path: Path):
    command = [sys.executable, "-m", "launch.pack", "--input", str(crops), "--output", str(tmp_path)]
    command += ["--shard-size", "12", "--batch-size", "1", "--stages", *map(str, STAGES)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    while process.poll() is None and not (tmp_path / "shard-000000.tar").exists():
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    pack_folder(crops, tmp_path, PackOptions(stages=STAGES, shard_size=12))
    assert contents(tmp_path) == contents(packed)


def test_a_damaged_note_of_a_finished_shard_is_one_clear_line(crops: Path, tmp_path: Path, capsys):
    (tmp_path / ".unfinished").mkdir()
    (tmp_path / ".unfinished" / "shard-000000.tar.json").write_text("[]")
    line = refused(capsys, "--input", crops, "--output", tmp_path)
    assert "shard-000000.tar.json: damaged" in line and "delete it" in line


# --- several ranks ---


def start_rank(crops: Path, output: Path, rank: int, world_size: int) -> subprocess.Popen:
    """One rank as `torchrun` or `accelerate launch` would start it."""
    command = [sys.executable, "-m", "launch.pack", "--input", str(crops), "--output", str(output)]
    environment = os.environ | {"RANK": str(rank), "WORLD_SIZE": str(world_size), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, "--shard-size", "12", "--batch-size", "4", "--stages", *map(str, STAGES)], env=environment
    )


def test_two_ranks_write_what_one_would(crops: Path, packed: Path, tmp_path: Path):
    ranks = [start_rank(crops, tmp_path, rank, 2) for rank in range(2)]
    assert [rank.wait() for rank in ranks] == [0, 0]
    assert contents(tmp_path) == contents(packed)


def test_the_manifest_waits_for_the_last_rank(crops: Path, packed: Path, tmp_path: Path):
    assert pack_folder(crops, tmp_path, PackOptions(stages=STAGES, shard_size=12), rank=1, world_size=4) is None
    assert (
        pack_folder(crops, tmp_path, PackOptions(stages=STAGES, shard_size=12), rank=3, world_size=4) is None
    )  # of three shards it has none
    assert pack_folder(crops, tmp_path, PackOptions(stages=STAGES, shard_size=12), rank=0, world_size=4) is None
    assert not (tmp_path / "manifest.json").exists()
    assert pack_folder(
        crops, tmp_path, PackOptions(stages=STAGES, shard_size=12), rank=2, world_size=4
    ) == read_manifest(packed)
    assert contents(tmp_path) == contents(packed)


def test_one_rank_goes_on_where_two_were_stopped(crops: Path, packed: Path, tmp_path: Path):
    assert pack_folder(crops, tmp_path, PackOptions(stages=STAGES, shard_size=12), rank=1, world_size=2) is None
    pack_folder(crops, tmp_path, PackOptions(stages=STAGES, shard_size=12))
    assert contents(tmp_path) == contents(packed)


@pytest.mark.slow
@pytest.mark.parametrize("world_size", [1, 2])
def test_ten_kills_at_random_moments_leave_no_trace(crops: Path, packed: Path, tmp_path: Path, world_size: int):
    moments = random.Random(world_size)
    kills, attempts = 0, 0
    while kills < 10:
        output = tmp_path / str(attempts)
        attempts += 1
        ranks = [start_rank(crops, output, rank, world_size) for rank in range(world_size)]
        while not output.exists() and ranks[0].poll() is None:
            time.sleep(0.005)  # what comes before takes seconds and writes nothing
        time.sleep(moments.uniform(0, 0.4))
        for rank in ranks:
            rank.kill()
        kills += all(rank.wait() == -signal.SIGKILL for rank in ranks)
        again = [start_rank(crops, output, rank, world_size) for rank in range(world_size)]
        assert [rank.wait() for rank in again] == [0] * world_size
        assert contents(output) == contents(packed)


# --- speed ---


@pytest.mark.slow
@pytest.mark.parametrize(("teacher", "crops"), [("tiny", 2000), ("small", 48)])
def test_packing_is_about_as_fast_as_the_bare_teacher(tmp_path: Path, teacher: str, crops: int, capsys):
    """Prints the ratio of their images per second, medians of five turns each; the design wants 0.9 on a quiet machine.

    One process reads ahead, and the teacher has one core, so two must be free. `small` has DINOv2-small's
    architecture; `tiny` is so small that reading and writing cost as much as half of it, so it wants a third core.
    What comes once a run, starting the process and hashing the last shard, is in it: enough samples keep that small.
    """
    if teacher == "small":
        small = Dinov2Config(hidden_size=384, num_attention_heads=6, num_hidden_layers=12, image_size=518)
        Dinov2Model(small).save_pretrained(tmp_path / "small")
        teacher = str(tmp_path / "small")
    make_crops(tmp_path / "crops", crops)
    plans = plan_shards(tmp_path / "crops", shard_size=1000, mirror=True)
    items = [item for plan in plans for item in plan.items]
    batch_size = min(64, crops // 4)
    batches = [
        read_batch(items[first : first + batch_size], {})[1] / 127.5 - 1
        for first in range(0, min(1024, len(items)), batch_size)
    ]
    packer = Packer(make_teacher(teacher), {}, PackOptions(batch_size=batch_size, workers=1))

    def look() -> None:
        with torch.no_grad():
            for images in batches:
                packer.teacher(images)

    def pack(turn: int) -> None:
        (tmp_path / str(turn)).mkdir()
        packer.pack(plans, Finished(tmp_path / str(turn), packer.specs))

    rates: dict[str, list[float]] = {"teacher": [], "pack": []}
    for turn in range(5):
        for name, samples, work in (
            ("teacher", sum(map(len, batches)), look),
            ("pack", len(items), partial(pack, turn)),
        ):
            began = time.perf_counter()
            work()
            rates[name].append(round(samples / (time.perf_counter() - began), 2))
    bare, packed = (statistics.median(rates[name]) for name in ("teacher", "pack"))
    with capsys.disabled():
        print(f"\n{teacher}: teacher {bare:.1f} img/s, pack {packed:.1f} img/s, ratio {packed / bare:.2f}", rates)


# --- refusals ---


def refused(capsys, *argv: object) -> str:
    """The one line with which the command refuses, and its exit code's name."""
    code = main([str(word) for word in argv])
    lines = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert code in (1, 2) and len(lines) == 1
    return lines[0]


def test_another_teacher_is_refused_where_shards_are(crops: Path, packed: Path, capsys):
    before = contents(packed)
    line = refused(capsys, "--input", crops, "--output", packed, "--input-size", 64)
    assert "holds shards of tiny" in line and "at 32 px" in line and "at 64 px" in line
    assert contents(packed) == before


def test_other_crops_are_refused_where_shards_are(packed: Path, tmp_path: Path, capsys):
    make_crops(tmp_path, 4)
    before = contents(packed)
    assert "holds shards" in refused(capsys, "--input", tmp_path, "--output", packed)
    assert contents(packed) == before


@pytest.mark.parametrize("changed", ["picture", "record", "captions"])
def test_crops_that_have_changed_since_are_refused(crops: Path, packed: Path, tmp_path: Path, changed: str):
    copy = Path(shutil.copytree(crops, tmp_path / "crops"))
    image = sorted(copy.glob("*.jpg"))[20]
    captions = tmp_path / "captions.csv" if changed == "captions" else None
    if changed == "picture":
        Image.new("RGB", (256, 256)).save(image)
    elif changed == "record":
        record = json.loads(image.with_suffix(".json").read_text())
        image.with_suffix(".json").write_text(json.dumps(record | {"licence": "other"}))
    else:
        captions.write_text("file,caption\nphoto-0003.jpg,a face\n")
    before = contents(packed)
    with pytest.raises(DinogenError, match="holds shards made from other crops, records or captions"):
        pack_folder(copy, packed, PackOptions(stages=STAGES, shard_size=12, captions=captions))
    assert contents(packed) == before and not (packed / ".unfinished").exists()


def test_foreign_tars_are_never_overwritten(crops: Path, tmp_path: Path, capsys):
    (tmp_path / "shard-000000.tar").write_bytes(b"mine")
    assert "did not write" in refused(capsys, "--input", crops, "--output", tmp_path)
    assert (tmp_path / "shard-000000.tar").read_bytes() == b"mine"


def test_a_missing_or_empty_folder_of_crops_is_refused(tmp_path: Path, capsys):
    output = tmp_path / "out"
    assert "no such folder" in refused(capsys, "--input", tmp_path / "none", "--output", output)
    assert "no crops here" in refused(capsys, "--input", tmp_path, "--output", output)
    assert not output.exists()


def spoil(folder: Path, kind: str) -> str:
    """Spoil one crop of a folder; what the message must say."""
    image = sorted(folder.glob("*.jpg"))[1]
    if kind == "truncated":
        image.write_bytes(image.read_bytes()[:2000])
        return f"{image.name}: cannot be decoded"
    if kind == "small":
        Image.new("RGB", (100, 80)).save(image)
        return f"{image.name}: is 100×80 pixels instead of 256×256"
    if kind == "no record":
        image.with_suffix(".json").unlink()
        return f"{image.stem}.json: cannot be read"
    if kind == "bad record":
        image.with_suffix(".json").write_text("{}")
        return f"{image.stem}.json: has no 'source'"
    if kind == "twice":
        Image.open(image).save(image.with_suffix(".png"))
        return "the crop is here as"
    image.rename(image.with_name("my holiday.jpg"))
    return "my holiday.jpg: not named by a key"


@pytest.mark.parametrize(
    "kind, workers",
    [
        ("truncated", 0),
        ("truncated", 1),
        *((kind, 0) for kind in ("small", "no record", "bad record", "twice", "strange")),
    ],
)
def test_a_spoilt_crop_is_named_and_nothing_is_left_half_written(tmp_path: Path, capsys, kind: str, workers: int):
    make_crops(tmp_path / "crops", 3)
    message = spoil(tmp_path / "crops", kind)
    line = refused(capsys, "--input", tmp_path / "crops", "--output", tmp_path / "out", "--workers", workers)
    assert message in line
    assert not list(tmp_path.glob("out/*.tar*")) and not list(tmp_path.glob("out/.*.tmp*"))


def test_numbers_that_cannot_be_are_refused(crops: Path, tmp_path: Path, capsys):
    for flag in ("--batch-size", "--shard-size"):
        line = refused(capsys, "--input", crops, "--output", tmp_path / "out", flag, 0)
        assert f"{flag} 0: give a number, at least 1" in line


def test_a_pyramid_that_does_not_fit_fp16_is_refused(crops: Path, tmp_path: Path, monkeypatch):
    forward = Teacher.forward

    def huge(self: Teacher, images: torch.Tensor):
        pyramid = forward(self, images)
        pyramid["l2_8x8"][3] *= 1e6
        return pyramid

    monkeypatch.setattr(Teacher, "forward", huge)
    fourth = sorted(path.stem for path in crops.glob("*.jpg"))[3]
    with pytest.raises(DinogenError, match=f"{fourth}: the teacher's '4/l2_8x8' does not fit fp16"):
        pack_folder(crops, tmp_path)


def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(crops: Path, tmp_path: Path, capfd):
    """A limit on the size of files stands in for the full disk: the write fails in the middle of a shard."""
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000));"
        "from launch.pack import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "--input", str(crops), "--output", str(tmp_path)]
    assert subprocess.run(command).returncode == 1
    assert sum("error:" in line for line in capfd.readouterr().err.splitlines()) == 1
    assert not list(tmp_path.glob("*.tar*")) and not list(tmp_path.glob(".*.tmp*"))


def test_the_last_line_says_what_to_run_next(crops: Path, packed: Path, capsys):
    assert main(["--input", str(crops), "--output", str(packed), "--shard-size", "12", "--stages", "16", "32"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert f"Wrote {packed}: 3 shards (30 train)." in last
    assert f"dinogen train --config faces32 --data {packed}" in last


def test_another_spec_is_stored_as_the_manifest_says(crops: Path, tmp_path: Path):
    manifest = pack_folder(
        crops, tmp_path, PackOptions(stages=[64, 128], layers=[1, 3], fine_layers=[1], levels=[4, 8, 16])
    )
    assert manifest == read_manifest(tmp_path)
    assert isinstance(manifest, Manifest) and manifest.specs.finest.layers == (1, 3)
    stored = load(Shard(tmp_path / "shard-000000.tar").read(0, "pyramid"))
    assert {name: tuple(tensor.shape) for name, tensor in stored.items()} == manifest.specs.stored_shapes()
    assert manifest.specs == make_teacher("tiny", [64, 128], None, [1, 3], [4, 8, 16], [1]).specs
