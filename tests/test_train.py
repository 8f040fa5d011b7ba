"""The trainer, as a user starts it: what it writes, how it goes on, and how it refuses."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dinogen.networks import Generator
from dinogen.train.trainer import Trainer
from helpers.crop_folder import make_crops
from helpers.training import complaint, flags, newest
from launch.train import build_parser, main, make_config
from shards.options import PackOptions
from shards.pack import pack_folder

ROOT = Path(__file__).parent.parent


def start(arguments: list[str]) -> subprocess.Popen:
    command = [sys.executable, "-m", "launch.train", *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(condition, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def run(shards32, tmp_path_factory) -> Path:
    """A finished run through all stages to 32 pixels."""
    output = tmp_path_factory.mktemp("runs") / "run"
    assert main(flags(shards32, output, "--schedule.total_kimg=0.16", "--saving.snapshot_kimg=0.032")) == 0
    return output


# ---- what a run leaves behind


def test_a_run_writes_its_config_and_where_it_ran(run):
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["batches"]["generated"] == 8 and config["objective"]["name"] == "sinkhorn"
    launch = json.loads((run / "environment.json").read_text())[0]
    assert launch["torch"] == torch.__version__ and launch["ranks"] == 1 and "git" in launch


def test_the_written_config_starts_an_equal_run(run, shards32, tmp_path):
    assert main(["--config", str(run / "config.yaml"), "--output", str(tmp_path / "again")]) == 0
    for name in ("generator", "ema"):
        before = load_file(newest(run, "checkpoints/*") / f"{name}.safetensors")
        again = load_file(newest(tmp_path / "again", "checkpoints/*") / f"{name}.safetensors")
        assert all(torch.equal(before[key], again[key]) for key in before)


def test_the_snapshot_is_the_averaged_generator(run):
    generator = Generator.from_pretrained(str(newest(run, "snapshots/*")))
    average = load_file(newest(run, "checkpoints/*") / "ema.safetensors")
    assert all(torch.equal(value, average[key]) for key, value in generator.state_dict().items() if key != "w_avg")
    assert generator.w_avg.abs().sum() > 0


def test_a_snapshot_knows_the_stage_it_was_taken_at(run):
    resolutions = [Generator.from_pretrained(str(path)).trained_resolution for path in sorted(run.glob("snapshots/*"))]
    assert resolutions == [8, 16, 32, 32, 32]


def test_two_checkpoints_are_kept_and_nothing_temporary(run, shards32, tmp_path):
    output = tmp_path / "run"
    assert main(flags(shards32, output, "--schedule.total_kimg=0.08", "--saving.checkpoint_kimg=0.016")) == 0
    assert [path.name for path in sorted((output / "checkpoints").iterdir())] == [
        "nimg000000000064",
        "nimg000000000080",
    ]


def test_tensorboard_shows_scalars_and_pictures(run):
    events = EventAccumulator(str(run / "tensorboard" / "run"), size_guidance={"images": 0, "scalars": 0})
    events.Reload()
    tags = events.Tags()
    assert {
        "loss/total", "gradient/norm", "memory/peak_host_gib", "schedule/alpha", "schedule/learning_rate",
        "schedule/resolution", "schedule/step", "speed/sec_per_kimg", "1_overview/diversity",
        "1_overview/images_per_second", "displacement/cls", "displacement/l1_8x8", "displacement/l3_1x1",
        "displacement/rgb_4x4", "spread/cls",
    } <= set(tags["scalars"])  # fmt: skip
    pictures = ["1_generated", "2_real", "3_pyramids", "4_interpolation"]
    assert sorted(tags["images"]) == [f"2_pictures/{name}" for name in pictures]
    assert [event.value for event in events.Scalars("schedule/resolution")] == [4, 8, 16, 32, 32]
    sides = [event.width for event in events.Images("2_pictures/1_generated")]
    assert len(sides) == 5 and all(side > 500 for side in sides), "a person sees every stage without a magnifier"


# ---- growing and objectives


def test_every_stage_up_to_256_takes_a_step(shards32, tmp_path):
    growth = ["--schedule.stage_kimg=0.004", "--schedule.fade_kimg=0", "--generator.img_resolution=256"]
    batches = [
        "--batches.generated=2",
        "--batches.real=4",
        "--schedule.total_kimg=0.028",
        "--saving.log_kimg=0.004",
    ]
    assert main(flags(shards32, tmp_path / "run", *growth, *batches)) == 0
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard" / "run"))
    events.Reload()
    assert [event.value for event in events.Scalars("schedule/resolution")] == [4, 8, 16, 32, 64, 128, 256]
    weights = load_file(newest(tmp_path / "run", "checkpoints/*") / "optimizer.safetensors")
    assert {f"b{2**k}" for k in range(2, 9)} <= {key.split(".")[2] for key in weights if key.startswith("synthesis")}


def test_batches_grow_at_the_end_of_a_run_and_of_one_that_goes_on(shards32, tmp_path):
    """Two steps with 16 real images, two with 32; the last one again from a checkpoint."""
    growing = ["--optimizer.decay_kimg=0.064", "--batches.decay_growth=2", "--schedule.total_kimg=0.096",
               "--schedule.start_resolution=32"]  # fmt: skip
    assert main(flags(shards32, tmp_path / "run", *growing, "--saving.checkpoint_kimg=0.032")) == 0
    output = newest(tmp_path / "run", "checkpoints/*")
    state = json.loads((output / "state.json").read_text())
    assert (state["cur_nimg"], state["cur_step"]) == (96, 4)
    shutil.rmtree(output)
    assert newest(tmp_path / "run", "checkpoints/*").name == "nimg000000000064"
    assert main(flags(shards32, tmp_path / "run", *growing)) == 0
    assert json.loads((output / "state.json").read_text()) == state


@pytest.mark.parametrize(
    "more",
    [
        ["--objective.name=paired"],
        ["--warmup.stage_kimg={16: 0.016, 32: 0.016}", "--warmup.batch=8"],
        ["--objective.temperatures=[0.02,0.2]"],
        ["--objective.bands=4", "--objective.bands_from_kimg=0.032"],
        ["--batches.accumulation=2"],
        ["--machine.workers=1", "--schedule.start_resolution=32"],
    ],
)
def test_other_ways_to_train_finish(shards32, tmp_path, more):
    assert main(flags(shards32, tmp_path / "run", "--schedule.total_kimg=0.064", *more)) == 0
    assert list((tmp_path / "run" / "snapshots").iterdir())


def test_little_data_is_trained_on_in_smaller_batches(shards32, tmp_path, capsys):
    """48 samples: batches of 128 that would double."""
    large = ["--batches.generated=32", "--batches.real=128", "--optimizer.decay_kimg=0.048", "--batches.decay_growth=2"]
    end = ["--schedule.total_kimg=0.096", "--schedule.start_resolution=32"]
    assert main(flags(shards32, tmp_path / "run", *large, *end)) == 0
    assert (
        "48 samples are fewer than a batch: using batches.generated 32, batches.real 32 and" in capsys.readouterr().err
    )
    batches = yaml.safe_load((tmp_path / "run/config.yaml").read_text())["batches"]
    assert (batches["generated"], batches["real"], batches["decay_growth"]) == (32, 32, 1)


def test_the_clock_on_the_wall_stops_and_saves(shards32, tmp_path):
    began = time.monotonic()
    assert main(flags(shards32, tmp_path / "run", "--schedule.total_kimg=1e9", "--machine.max_minutes=0.02")) == 0
    assert time.monotonic() - began < 60
    assert newest(tmp_path / "run", "snapshots/*") and newest(tmp_path / "run", "checkpoints/*")


# ---- going on


def test_after_kill_9_the_same_command_ends_where_an_undisturbed_run_ends(run, shards32, tmp_path):
    often = ["--schedule.total_kimg=0.16", "--saving.snapshot_kimg=0.032", "--saving.checkpoint_kimg=0.016"]
    killed = tmp_path / "killed"
    process = start(flags(shards32, killed, *often))
    wait_for(lambda: len(list(killed.glob("checkpoints/nimg*"))) == 2)
    process.kill()
    process.wait()
    last = newest(killed, "checkpoints/nimg*")
    assert last.name < "nimg000000000160", "it was killed in the middle"

    out, err = start(flags(shards32, killed, *often)).communicate()
    assert f"Resuming from {last}" in out, err
    ends = [newest(folder, "checkpoints/nimg*") for folder in (run, killed)]
    assert ends[0].name == ends[1].name == "nimg000000000160"
    for name in ("generator", "ema", "optimizer", "random"):
        one, other = (load_file(end / f"{name}.safetensors") for end in ends)
        assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one), name


@pytest.mark.slow  # the quick tests stop one in test_docker.py and two in test_ranks.py
def test_a_request_to_stop_saves_and_exits_143(shards32, tmp_path):
    process = start(flags(shards32, tmp_path / "run", "--schedule.total_kimg=1e6"))
    wait_for(lambda: list((tmp_path / "run").glob("tensorboard/*")))
    time.sleep(1)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate()
    assert process.returncode == 143
    assert "stopped by SIGTERM at" in err.splitlines()[-1] and "again to resume" in err.splitlines()[-1]
    assert newest(tmp_path / "run", "checkpoints/nimg*")


# ---- several processes


def test_two_ranks_train_and_end_with_equal_weights(shards32, tmp_path):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=0", "--standalone"]
    script = [str(ROOT / "tests" / "helpers" / "equal_weights.py")]
    arguments = flags(shards32, tmp_path / "run", "--schedule.total_kimg=0.16", "--teacher.shard=fsdp")
    done = subprocess.run(
        [*torchrun, *script, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "ACCELERATE_USE_CPU": "true"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    for name in ("G", "G_ema"):
        digests = re.findall(rf"^{name} rank \d of 2: (\w+)$", done.stdout, re.MULTILINE)
        assert len(digests) == 2 and len(set(digests)) == 1


# ---- bad input


@pytest.mark.parametrize(
    ("more", "code", "named"),
    [
        (["--generator.img_resolution=48"], 2, "generator.img_resolution 48"),
        (["--schedule.totl_kimg=3"], 2, "unknown key 'schedule.totl_kimg'; did you mean 'schedule.total_kimg'?"),
        (["--total_kimg=3"], 2, "did you mean 'schedule.total_kimg'?"),
        (["--schedule.total_kimg=soon"], 2, "schedule.total_kimg"),
        (["--objective.name=gan"], 2, "objective.name"),
        (["--generator.img_resolution=512"], 2, "have 256×256 pixels; take 256 or less, or cut larger ones with"),
        (["--teacher.path=./nowhere"], 1, "./nowhere"),
        (["--batches.generated=1"], 2, "batches.generated 1 is too few for a step; take 2"),
        (["--heads.weight=-1"], 2, "heads.weight -1.0 must be above zero"),
        (["--objective.self_term=independent"], 2, "--objective.self_term is gone: it did not help in trials"),
        (["--adversary.weight=-1"], 2, "heads.weight -1.0 must be above zero"),
        (
            ["--slices.weight=1", "--batches.generated=8", "--batches.real=12"],
            2,
            "batches.real 12 must be at least twice",
        ),
    ],
)
def test_what_cannot_be_is_one_line_that_names_the_key(shards32, tmp_path, capsys, more, code, named):
    assert named in complaint(capsys, flags(shards32, tmp_path / "run", *more), code)
    assert not (tmp_path / "run").exists(), "nothing was left behind"


def test_an_unknown_key_in_a_file_is_named_with_the_nearest_known_one(shards32, tmp_path, capsys):
    (tmp_path / "run.yaml").write_text("saving:\n  checkpoint_kimgs: 5\n")
    line = complaint(capsys, ["--config", str(tmp_path / "run.yaml"), *flags(shards32, tmp_path / "run")], 2)
    assert "'saving.checkpoint_kimgs'; did you mean 'saving.checkpoint_kimg'?" in line


def test_a_folder_without_shards_is_named(tmp_path, capsys):
    assert str(tmp_path / "nothing") in complaint(capsys, flags(tmp_path / "nothing", tmp_path / "run"), 1)


def test_another_generator_in_the_same_run_is_refused(run, shards32, capsys):
    line = complaint(capsys, flags(shards32, run, "--generator.channel_max=8"), 1)
    assert "generator.channel_max 16, now it is 8" in line


def test_another_teachers_shards_in_the_same_run_are_refused(run, tmp_path, capsys):
    make_crops(tmp_path / "crops", 16)
    pack_folder(tmp_path / "crops", tmp_path / "shards", PackOptions(levels=[1, 8]))
    line = complaint(capsys, flags(tmp_path / "shards", run), 1)
    assert "levels 1 8)" in line and "was started with tiny" in line and "give the old --data" in line


def test_a_damaged_checkpoint_is_named(run, shards32, tmp_path, capsys):
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", str(run), str(copy)], check=True)
    broken = newest(copy, "checkpoints/*") / "ema.safetensors"
    broken.write_bytes(broken.read_bytes()[:1000])
    line = complaint(capsys, flags(shards32, copy, "--schedule.total_kimg=0.32"), 1)
    assert str(broken) in line and "restore it" in line


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # TensorBoard's writer gives up
def test_a_full_disk_leaves_the_checkpoint_before_and_nothing_half_written(shards32, tmp_path, capsys):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        often = ["--schedule.total_kimg=0.64", "--saving.checkpoint_kimg=0.016", "--saving.snapshot_kimg=0.064"]
        assert main(flags(shards32, disk / "run", *often)) == 1
        out, err = capsys.readouterr()
        assert "Training continues without this" in err
        assert "the disk is full" in err.strip().splitlines()[-1]
        checkpoint = newest(disk / "run", "checkpoints/*")
        assert (checkpoint / "state.json").is_file() and load_file(checkpoint / "generator.safetensors")
        assert not [path for path in (disk / "run" / "checkpoints").iterdir() if path.name.startswith(".")]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("backend", ["no", "inductor"])
def test_a_checkpoint_does_not_tell_how_it_was_launched(shards32, tmp_path, monkeypatch, backend):
    """Compiled, or wrapped by accelerate in another way, the parts are named as they are without it."""
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", backend)
    AcceleratorState._reset_state(True)
    parser = build_parser()
    trainer = Trainer(make_config(parser, parser.parse_args(flags(shards32, tmp_path / "run"))))
    network = Generator(**vars(trainer.config.generator))
    expected = {part.file: part.expected() for part in trainer.kept}
    assert expected["generator"].keys() == expected["ema"].keys() == network.state_dict().keys()
    assert {name.rpartition("/")[0] for name in expected["optimizer"]} == dict(network.named_parameters()).keys()
