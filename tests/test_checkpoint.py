"""Checkpoints: which are kept, what is noticed when one is damaged, and how a trainer resumes from old ones."""

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file

from dinogen.config import FrechetConfig
from dinogen.errors import DinogenError
from dinogen.objectives.frechet import FrechetLoss
from dinogen.pyramid import PyramidSpec, StagedSpec
from dinogen.tensor_files import MOST_JSON_BYTES
from dinogen.train.checkpoint import load_newest, save_checkpoint
from dinogen.train.checkpoint_read import digest_of, fingerprint
from dinogen.train.randomness import restore_random_states
from dinogen.train.run_folder import RunFolder
from helpers.canary import Canary
from helpers.small_checkpoint import KEPT, STATE, contents, names, save
from helpers.training import OF_OLD, newest
from launch.train import main

ROOT = Path(__file__).parent.parent
OLD = {version: Path(__file__).parent / f"checkpoint_v{version}" for version in (1, 2)}  # written by old dinogens


# ---- writing


def test_the_last_ones_and_the_milestones_are_kept(tmp_path):
    save(tmp_path, *range(10_000, 110_000, 10_000), keep=3, keep_every_kimg=35)
    assert names(tmp_path) == [40_000, 70_000, 80_000, 90_000, 100_000]


def test_milestones_stay_when_fewer_are_kept_later(tmp_path):
    save(tmp_path, 10_000, 20_000, 30_000, keep=3)
    save(tmp_path, 40_000, keep=1, keep_every_kimg=20)
    assert names(tmp_path) == [20_000, 40_000]


def test_what_was_saved_comes_back(tmp_path):
    before = contents()
    save_checkpoint(tmp_path, 8, before, STATE)
    path, tensors, state = load_newest(tmp_path, KEPT)
    assert path.name == "nimg000000000008" and {key: state[key] for key in STATE} == STATE
    assert tensors.keys() == before.keys()
    for name, values in before.items():
        assert values.keys() == tensors[name].keys()
        assert all(torch.equal(value, tensors[name][key]) for key, value in values.items()), name


def remembered_moments() -> FrechetLoss:
    """A Fréchet loss after one step."""
    spec = PyramidSpec("t", "0", input_size=8, patch_size=4, width=4, layers=(1,), levels=(1, 2), fine_layers=())
    loss = FrechetLoss(FrechetConfig(), StagedSpec({8: spec}), torch.device("cpu"))
    generated, real = ({name: torch.randn(6, *shape) for name, shape in spec.shapes().items()} for _ in range(2))
    loss.compare(generated, real)
    loss.settle(keep=True)
    return loss


def test_what_joins_late_comes_back_to_a_run_that_has_it_and_is_left_alone_by_others(tmp_path):
    loss = remembered_moments()
    save_checkpoint(tmp_path, 8, {**contents(), "frechet": loss.tensors()}, STATE)
    _, tensors, _ = load_newest(tmp_path, [*KEPT, loss])
    assert tensors["frechet"].keys() == loss.tensors().keys()
    assert all(torch.equal(value, tensors["frechet"][name]) for name, value in loss.tensors().items())
    assert "frechet" not in load_newest(tmp_path, KEPT)[1]


def test_what_joins_late_need_not_be_there_yet(tmp_path):
    save(tmp_path, 8)
    assert "frechet" not in load_newest(tmp_path, [*KEPT, remembered_moments()])[1]


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [("strange", torch.zeros(2), "unknown tensor"), ("cls/real/mean", torch.zeros(5), "shape")],
)
def test_a_strange_file_of_what_joins_late_is_refused(tmp_path, name, value, what):
    loss = remembered_moments()
    save_checkpoint(tmp_path, 8, {**contents(), "frechet": loss.tensors() | {name: value}}, STATE)
    with pytest.raises(DinogenError, match=f"frechet.safetensors: .*{what}"):
        load_newest(tmp_path, [*KEPT, loss])


def test_what_was_loaded_does_not_change_when_the_file_does(tmp_path):
    save(tmp_path, 8)
    path, tensors, _ = load_newest(tmp_path, KEPT)
    before = tensors["ema"]["w_avg"].clone()
    (path / "ema.safetensors").write_bytes(b"\xff" * (path / "ema.safetensors").stat().st_size)
    assert torch.equal(tensors["ema"]["w_avg"], before)


def test_a_state_that_could_not_be_read_back_is_not_written(tmp_path):
    with pytest.raises(DinogenError, match="'bank' is unknown"):
        save_checkpoint(tmp_path, 8, contents(), STATE | {"bank": 3})
    assert not list(tmp_path.iterdir())


def test_every_rank_gets_its_own_random_state_back(tmp_path):
    device, states = torch.device("cpu"), [torch.Generator().manual_seed(seed).get_state() for seed in range(3)]
    random = {"latents": torch.get_rng_state(), "ranks": torch.stack(states)}
    save_checkpoint(tmp_path, 8, contents() | {"random": random}, STATE | {"world_size": 3})
    _, tensors, _ = load_newest(tmp_path, KEPT)
    for rank, state in enumerate(states):
        with torch.random.fork_rng():
            restore_random_states(tensors["random"]["ranks"][rank], device)
            assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.slow
def test_a_rank_that_cannot_see_the_runs_folder_goes_on_with_the_first_one(shards32, tmp_path):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone", "--no-python"]
    ends = []
    for shared in (True, False):
        output = tmp_path / ("shared" if shared else "apart")
        where = str(output) if shared else f"{output}$RANK"
        for kimg in (0.032, 0.064):
            flags = ["--data", str(shards32), *OF_OLD, f"--schedule.total_kimg={kimg}"]
            train = f"exec {sys.executable} -m launch.train --output {where} {' '.join(flags)}"
            done = subprocess.run(
                [*torchrun, "bash", "-c", train], cwd=ROOT, capture_output=True, text=True, timeout=500,
                env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "ACCELERATE_USE_CPU": "true"},
            )  # fmt: skip
            assert done.returncode == 0, done.stderr[-2000:]
        assert "Resuming from" in done.stdout
        run = output if shared else tmp_path / "apart0"
        ends.append({path.name: load_file(path) for path in (run / "checkpoints").glob("*64/*.safetensors")})
    assert not list((tmp_path / "apart1").glob("checkpoints/*"))
    for name, tensors in ends[0].items():
        assert all(torch.equal(value, ends[1][name][key]) for key, value in tensors.items()), name


# ---- damage


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    payload = bytearray(path.read_bytes())
    payload[-100] ^= 1
    path.write_bytes(payload)


def swap(path: Path) -> None:
    """Another file of the same kind, whole in itself: that of the checkpoint before."""
    shutil.copy(path.parent.parent / "nimg000000000008" / path.name, path)


@pytest.mark.parametrize("file", ["generator.safetensors", "ema.safetensors", "random.safetensors", "state.json"])
@pytest.mark.parametrize("harm", [halve, flip, swap, Path.unlink], ids=lambda harm: harm.__name__)
def test_whatever_happens_to_the_newest_checkpoint_is_noticed_and_the_way_on_named(tmp_path, harm, file):
    save(tmp_path, 8, 16)
    harm(tmp_path / "nimg000000000016" / file)
    with pytest.raises(DinogenError) as caught:
        load_newest(tmp_path, KEPT)
    line = str(caught.value)
    assert f"{tmp_path}/nimg000000000016" in line and "\n" not in line
    assert (
        f"delete the folder {tmp_path}/nimg000000000016 to resume from nimg000000000008, which is whole: 0.008" in line
    )
    shutil.rmtree(tmp_path / "nimg000000000016")
    assert load_newest(tmp_path, KEPT)[0].name == "nimg000000000008"


def test_a_short_write_is_told_by_its_length(tmp_path):
    save(tmp_path, 8)
    path = tmp_path / "nimg000000000008/ema.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    length = path.stat().st_size
    with pytest.raises(DinogenError, match=f"{path}: {length} bytes long, but {length + 100} were written"):
        load_newest(tmp_path, KEPT)


def test_a_remedy_is_named_only_if_it_helps(tmp_path):
    save(tmp_path, 8, 16)
    for path in tmp_path.glob("*/ema.safetensors"):
        path.unlink()
    with pytest.raises(DinogenError, match="ema.safetensors: missing; restore it; no checkpoint before it is whole"):
        load_newest(tmp_path, KEPT)


def test_another_number_in_the_state_is_noticed(tmp_path):
    save(tmp_path, 8)
    path = tmp_path / "nimg000000000008/state.json"
    path.write_text(path.read_text().replace('"position": 8', '"position": 9'))
    with pytest.raises(DinogenError, match="state.json: changed since it was written"):
        load_newest(tmp_path, KEPT)


def test_a_renamed_checkpoint_is_noticed(tmp_path):
    save(tmp_path, 8)
    (tmp_path / "nimg000000000008").rename(tmp_path / "nimg000000000800")
    with pytest.raises(DinogenError, match="holds the checkpoint of 8 images, which its name denies"):
        load_newest(tmp_path, KEPT)


def test_a_trainer_stops_at_a_damaged_checkpoint_and_leaves_it_alone(shards32, tmp_path, capsys):
    for clock in (8, 16):
        save_checkpoint(tmp_path / "run/checkpoints", clock, contents(), STATE)
    broken = tmp_path / "run/checkpoints/nimg000000000016/random.safetensors"
    flip(broken)
    assert main(["--data", str(shards32), "--output", str(tmp_path / "run"), *OF_OLD]) == 1
    assert f"{broken}: its sha256 is not the one in state.json; restore it, or delete" in capsys.readouterr().err
    assert broken.is_file() and not (tmp_path / "run/config.yaml").exists()


# ---- what killed processes leave


def test_leftovers_of_killed_launches_are_cleared_away_and_nothing_else(tmp_path):
    run = RunFolder(tmp_path / "run")
    dead = subprocess.Popen(["true"])
    dead.wait()
    alive = os.getpid()
    left = [
        run.checkpoints / f".nimg000000000016.tmp{dead.pid}", run.snapshots / f".kimg000000.016.tmp{dead.pid}",
        run.checkpoints / ".nimg000000000024.tmp1",  # a container's: here that number belongs to somebody else
    ]  # fmt: skip
    kept = [
        run.checkpoints / f".nimg000000000032.tmp{alive}",
        run.checkpoints / "nimg000000000008",
        tmp_path / ".x.tmp1",
    ]
    for folder in left + kept:
        folder.mkdir(parents=True)
        (folder / "ema.safetensors").touch()
    before_it = psutil.Process(1).create_time() - 3600
    os.utime(left[2], (before_it, before_it))
    run.clear_leftovers()
    assert not [folder for folder in left if folder.exists()] and all(folder.exists() for folder in kept)


# ---- other versions


@pytest.mark.parametrize("version", OLD)
def test_a_checkpoint_of_an_old_version_is_resumed(shards32, tmp_path, capsys, version):
    shutil.copytree(OLD[version], tmp_path / "run/checkpoints")
    old = tmp_path / "run/checkpoints/nimg000000000032"
    weights = load_file(old / "generator.safetensors")
    assert (
        main(["--data", str(shards32), "--output", str(tmp_path / "run"), *OF_OLD, "--schedule.total_kimg=0.04"]) == 0
    )
    assert f"Resuming from {old} (0.0 kimg)" in capsys.readouterr().out
    new = tmp_path / "run/checkpoints/nimg000000000040"
    state = json.loads((new / "state.json").read_text())
    assert state["version"] == 3 and state["loader"] == {"epoch": 0, "position": 40} and state["cur_step"] == 5
    steps = {int(value) for name, value in load_file(new / "optimizer.safetensors").items() if name.endswith("/step")}
    assert max(steps) == 5, "the optimiser went on too"
    moved = load_file(new / "generator.safetensors")
    distance = max(float((moved[name] - value).abs().max()) for name, value in weights.items())
    assert 0 < distance < 0.01, "one small step from where it was"


def test_a_damaged_checkpoint_of_version_1_is_named(tmp_path):
    shutil.copytree(OLD[1], tmp_path, dirs_exist_ok=True)
    halve(tmp_path / "nimg000000000032/ema.safetensors")
    with pytest.raises(DinogenError, match="ema.safetensors: no whole safetensors file"):
        load_newest(tmp_path, KEPT)


@pytest.mark.parametrize("version", [0, 4, 99])
def test_a_checkpoint_of_an_unknown_version_is_refused_by_its_number(tmp_path, version):
    save(tmp_path, 8)
    rewrite_state(tmp_path / "nimg000000000008", version=version)
    with pytest.raises(
        DinogenError, match=f"version {version}, this dinogen reads 1 to 3; resume with the dinogen that"
    ):
        load_newest(tmp_path, KEPT)


def as_version_2(checkpoint: Path) -> None:
    """Names and keys as version 2 had them."""
    (checkpoint / "heads.safetensors").rename(checkpoint / "adversary.safetensors")
    state = json.loads((checkpoint / "state.json").read_text()) | {"version": 2, "bank_resolution": None}
    state["files"] = {path.name: fingerprint(path) for path in sorted(checkpoint.glob("*.safetensors"))}
    state["sha256"] = digest_of(state)
    (checkpoint / "state.json").write_text(json.dumps(state))


def test_heads_of_version_2_are_found_under_their_old_name(shards32, tmp_path):
    ends = []
    for folder in (tmp_path / "run", tmp_path / "old"):
        flags = ["--data", str(shards32), "--output", str(folder), *OF_OLD, "--heads.weight=0.1"]
        assert main([*flags, "--schedule.total_kimg=0.032"]) == 0
        if folder.name == "old":
            as_version_2(newest(folder, "checkpoints/*"))
        assert main([*flags, "--schedule.total_kimg=0.04"]) == 0
        ends.append(load_file(newest(folder, "checkpoints/*") / "heads.safetensors"))
    assert ends[0].keys() == ends[1].keys() and all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


# ---- malice: the writer of these knew the format, so that lengths and hashes are right


def rewrite_state(checkpoint: Path, **changes) -> None:
    path = checkpoint / "state.json"
    state = json.loads(path.read_text()) | changes
    path.write_text(json.dumps(state | {"sha256": digest_of(state)} | changes))


def sign(checkpoint: Path) -> None:
    rewrite_state(checkpoint, files={path.stem: fingerprint(path) for path in sorted(checkpoint.glob("*.safetensors"))})


def header(length: int, text: bytes = b"{}") -> bytes:
    return length.to_bytes(8, "little") + text


def refusal(folder: Path) -> str:
    """What is said of the only checkpoint there; memory must stay as it was."""
    before = psutil.Process().memory_info().rss
    with pytest.raises(DinogenError) as caught:
        load_newest(folder, KEPT)
    assert psutil.Process().memory_info().rss - before < 100e6
    line = str(caught.value)
    assert "\n" not in line and len(line) < 1000 and "no checkpoint before it is whole" in line
    return line


@pytest.mark.parametrize("name", ["generator", "ema", "optimizer", "random"])
def test_a_pickle_under_a_safetensors_name_is_refused_and_never_opened(tmp_path, name):
    save(tmp_path, 8)
    checkpoint, canary = tmp_path / "nimg000000000008", tmp_path / "canary"
    torch.save({"w_avg": Canary(canary)}, checkpoint / f"{name}.safetensors")
    sign(checkpoint)
    assert f"{name}.safetensors: cut short, or no safetensors file" in refusal(tmp_path)
    assert not canary.exists()


def test_pickles_beside_the_files_are_not_looked_at(tmp_path):
    save(tmp_path, 8)
    canary = tmp_path / "canary"
    for name in ("ema.pt", "pytorch_model.bin", "generator.pkl", "state.pth"):
        torch.save({"w_avg": Canary(canary)}, tmp_path / "nimg000000000008" / name)
    assert load_newest(tmp_path, KEPT) is not None
    assert not canary.exists()
    torch.load(tmp_path / "nimg000000000008/ema.pt", weights_only=False)
    assert canary.exists(), "the canary works"


def without(tensors: dict, name: str) -> dict:
    return {key: value for key, value in tensors.items() if key != name}


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("ema", lambda x: x | {"evil": torch.zeros(1)}, "holds an unknown tensor, 'evil'"),
        ("ema", lambda x: x | {"a\x1b[2J\n" * 99: torch.zeros(1)}, "holds an unknown tensor, 'a\\x1b[2J\\na"),
        ("ema", lambda x: without(x, "w_avg"), "w_avg is missing"),
        ("generator", lambda x: x | {"w_avg": torch.zeros(9)}, "w_avg has shape [9] instead of [8]"),
        ("generator", lambda x: x | {"w_avg": torch.zeros(8, 1)}, "w_avg has shape [8, 1] instead of [8]"),
        ("generator", lambda x: x | {"w_avg": torch.zeros(8).double()}, "w_avg has type F64 instead of F32"),
        ("generator", lambda x: x | {"w_avg": torch.full((8,), math.nan)}, "w_avg holds numbers that are not finite"),
        ("optimizer", lambda x: without(x, "mapping.layers.0.bias/step"), "mapping.layers.0.bias/step is missing"),
        ("optimizer", lambda x: x | {"w_avg/step": torch.zeros(())}, "holds an unknown tensor, 'w_avg/step'"),
        ("random", lambda x: x | {"ranks": torch.zeros(1, 5056, dtype=torch.uint8)}, "no random state"),
        ("random", lambda x: x | {"ranks": x["ranks"].repeat(3, 1)}, "3 ranks' random states instead of 1"),
        ("random", lambda x: x | {"ranks": torch.zeros(1, 2**20, dtype=torch.uint8)}, "ranks has shape [1, 1048576]"),
    ],
)
def test_tensors_that_do_not_belong_are_refused(tmp_path, name, change, said):
    save(tmp_path, 8)
    path = tmp_path / f"nimg000000000008/{name}.safetensors"
    save_file(change({key: value.clone() for key, value in contents()[name].items()}), path)
    sign(path.parent)
    assert f"{path}: {said}" in refusal(tmp_path)


@pytest.mark.parametrize(
    "payload",
    [
        header(2**63, b"\0" * 100), header(80_000_000, b"{" + b" " * 80_000_000), header(10), b"", b"\x80\x04",
        header(2, b"[]"), header(60, b'{"w_avg":{"dtype":"F32","shape":[99999999999999],"data_offsets":[0,8]}}'[:60]),
        header(75, b'{"w_avg":{"dtype":"F32","shape":[9999999999999],"data_offsets":[0,9999999]}}'[:75]),
    ],
    ids=["2**63 bytes", "80 MB", "beyond the end", "empty", "two bytes", "a list", "cut", "huge shape"],
)  # fmt: skip
def test_a_header_that_lies_is_refused_and_fills_no_memory(tmp_path, payload):
    save(tmp_path, 8)
    path = tmp_path / "nimg000000000008/ema.safetensors"
    path.write_bytes(payload)
    sign(path.parent)
    assert f"{path}: " in refusal(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "null", "[" * 500_000, '{"version": 2}', '{"version": ' + "9" * 5000 + "}", '{"version": true}',
        '{"a": "' + "x" * 2**20 + '"}', '{"version": 2, "files": {}, "cur_nimg": NaN}', "\x80\x04",
    ],
    ids=["empty", "list", "null", "nested", "bare", "digits", "true", "long", "nan", "pickle"],
)  # fmt: skip
def test_an_absurd_state_is_refused(tmp_path, text):
    save(tmp_path, 8)
    path = tmp_path / "nimg000000000008/state.json"
    path.write_text(text)
    line = refusal(tmp_path)
    assert f"{path}: " in line and (len(text) <= MOST_JSON_BYTES or "longer than" in line)


@pytest.mark.parametrize(
    "changes",
    [
        {"files": {}}, {"files": None}, {"files": {"../../ema.safetensors": {}}}, {"files": 7}, {"evil": 1},
        {"files": {part.file: None for part in KEPT}}, {"cur_nimg": -8}, {"cur_nimg": 8.0},
        {"cur_step": 10**300}, {"world_size": 0}, {"world_size": 2**40}, {"loader": {}}, {"loader": [0, 8]},
        {"loader": {"epoch": 0, "position": "8"}}, {"loader": {"epoch": 0, "position": 8, "evil": 1}},
        {"scaler": {"scale": "1"}}, {"scaler": [1]}, {"cur_step": None}, {"sha256": None}, {"sha256": "0" * 64},
    ],
    ids=str,
)  # fmt: skip
def test_a_state_that_lies_is_refused(tmp_path, changes):
    save(tmp_path, 8)
    rewrite_state(tmp_path / "nimg000000000008", **changes)
    assert f"{tmp_path}/nimg000000000008" in refusal(tmp_path)


def test_a_device_in_a_files_place_is_refused(tmp_path):
    save(tmp_path, 8)
    path = tmp_path / "nimg000000000008/ema.safetensors"
    path.unlink()
    path.symlink_to("/dev/zero")
    assert f"{path}: missing" in refusal(tmp_path)
