"""Every preset takes steps, narrowed; and a run that starts from a snapshot."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from dinogen.networks import Generator
from helpers.training import NARROW, complaint, flags, newest
from launch.train import main

PRESETS = sorted((Path(__file__).parent.parent / "configs").glob("*.yaml"))
STEP = ["--batches.generated=4", "--batches.real=8", "--batches.generated_at={}", "--schedule.total_kimg=0.008",
        "--machine.workers=0", "--saving.evaluate_kimg=null", "--precision=auto"]  # fmt: skip


def save_snapshot(folder: Path, resolution: int, **changes: int) -> Path:
    torch.manual_seed(3)
    settings = {"img_resolution": 256, "z_dim": 16, "w_dim": 16, "mapping_layers": 4, "channel_base": 128,
                "channel_max": 16} | changes  # fmt: skip
    Generator(**settings).save_pretrained(folder, config=settings | {"trained_resolution": resolution})
    return folder


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_a_narrow_generator_takes_a_step(preset, shards32, captioned32, tmp_path):
    more, config = [], yaml.safe_load(preset.read_text())
    if preset.stem == "finetune":
        more = [f"--init_from={save_snapshot(tmp_path / 'snapshot', 256)}"]
    where = ["--data", str(captioned32 if "words" in config else shards32), "--output", str(tmp_path / "run")]
    assert main(["--config", str(preset), *where, *NARROW, *STEP, *more]) == 0
    settings = json.loads((newest(tmp_path / "run", "snapshots/*") / "config.json").read_text())
    stages = [*config.get("warmup", {}).get("stage_kimg", ()), config["schedule"].get("start_resolution", 4)]
    assert settings["trained_resolution"] == stages[0]


# ---- from a snapshot


SIZES = ["--generator.mapping_layers=4", "--generator.img_resolution=256"]


def test_a_new_run_starts_at_the_snapshots_weights_and_goes_on_from_its_own(shards32, tmp_path):
    """A learning rate of next to nothing shows where it started."""
    snapshot = save_snapshot(tmp_path / "snapshot", 64)
    still = [*SIZES, "--optimizer.learning_rate=1e-12", f"--init_from={snapshot}"]
    assert main(flags(shards32, tmp_path / "run", *still, "--schedule.total_kimg=0.016")) == 0
    weights = load_file(snapshot / "model.safetensors")
    checkpoint = newest(tmp_path / "run", "checkpoints/*")
    for name in ("generator", "ema"):
        started = load_file(checkpoint / f"{name}.safetensors")
        torch.testing.assert_close(started, weights, rtol=0, atol=1e-9)
    moved = [*SIZES, "--optimizer.learning_rate=1e-2", f"--init_from={snapshot}", "--optimizer.rampup_kimg=0"]
    assert main(flags(shards32, tmp_path / "run", *moved, "--schedule.total_kimg=0.048")) == 0
    (snapshot / "model.safetensors").unlink()  # a run that has begun needs it no more
    assert main(flags(shards32, tmp_path / "run", *moved, "--schedule.total_kimg=0.064")) == 0
    ended = load_file(newest(tmp_path / "run", "checkpoints/*") / "generator.safetensors")
    assert not torch.allclose(ended["mapping.layers.0.weight"], weights["mapping.layers.0.weight"], atol=1e-4)


def test_a_smaller_generator_is_grown(shards32, tmp_path):
    """Its blocks are taken over; those that it lacks start as random as those of any new run."""
    snapshot = save_snapshot(tmp_path / "snapshot", 32, img_resolution=32)
    still = ["--optimizer.learning_rate=1e-12", "--schedule.total_kimg=0.016", "--schedule.start_resolution=32"]
    ends = []
    for name, more in (("from", [f"--init_from={snapshot}"]), ("new", [])):
        assert main(flags(shards32, tmp_path / name, *SIZES, *still, *more)) == 0
        ends.append(load_file(newest(tmp_path / name, "checkpoints/*") / "generator.safetensors"))
    weights = load_file(snapshot / "model.safetensors")
    lacking = ("synthesis.blocks.b64.", "synthesis.blocks.b128.", "synthesis.blocks.b256.")
    assert ends[0].keys() - weights.keys() == {name for name in ends[0] if name.startswith(lacking)}
    for name, values in ends[0].items():
        torch.testing.assert_close(values, weights.get(name, ends[1][name]), rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("more", "code", "named"),
    [
        (["--generator.channel_max=8"], 1, "give the generator.* keys that are in its config.json"),
        (["--schedule.start_resolution=128"], 2, "draws 64×64; finer blocks are not trained yet"),
    ],
)
def test_a_snapshot_that_does_not_fit_is_refused(shards32, tmp_path, capsys, more, code, named):
    snapshot = save_snapshot(tmp_path / "snapshot", 64)
    arguments = flags(shards32, tmp_path / "run", *SIZES, f"--init_from={snapshot}", *more)
    assert named in complaint(capsys, arguments, code)
    assert not (tmp_path / "run").exists()


def test_a_snapshot_that_is_not_there_is_named(shards32, tmp_path, capsys):
    line = complaint(capsys, flags(shards32, tmp_path / "run", f"--init_from={tmp_path / 'gone'}"), 2)
    assert f"{tmp_path / 'gone'}: no such folder" in line
