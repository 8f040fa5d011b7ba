"""`dinogen train --dry-run`: what a run will take is found out, and nothing is written."""

import hashlib
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dinogen.config import (
    BatchesConfig,
    GeneratorConfig,
    ObjectiveConfig,
    OptimizerConfig,
    RunConfig,
    ScheduleConfig,
    WarmupConfig,
)
from dinogen.objectives import make_loss
from dinogen.train import dry_run
from dinogen.train.measure import plan_stages
from dinogen.train.trainer import Trainer
from helpers.training import OF_OLD
from launch.train import build_parser, main, make_config

ROOT = Path(__file__).parent.parent
LONG = ["--schedule.total_kimg=100", "--saving.snapshot_kimg=10", "--saving.keep_every_kimg=50"]


def tree(folder: Path) -> dict[str, str]:
    """Every file below a folder with its hash."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*") if path.is_file()
    }  # fmt: skip


def rehearse(capsys: pytest.CaptureFixture, *flags: str) -> str:
    assert main([*flags, "--dry-run"]) == 0
    return capsys.readouterr().out


def plan(total_kimg: float, **blocks: object) -> list[tuple[int, int, int, str]]:
    schedule = ScheduleConfig(total_kimg=total_kimg, stage_kimg=6, fade_kimg=3)
    config = RunConfig("d", "o", generator=GeneratorConfig(img_resolution=32), schedule=schedule, **blocks)
    return [
        (part.resolution, part.start, part.end, part.terms) for part in plan_stages(config, make_loss(config, None))
    ]


def test_the_stages_are_those_that_the_run_gets_to():
    kind = "sinkhorn"
    assert plan(800) == [
        (4, 0, 6000, kind),
        (8, 6000, 12000, kind),
        (16, 12000, 18000, kind),
        (32, 18000, 800000, kind),
    ]
    assert plan(8) == [(4, 0, 6000, kind), (8, 6000, 8000, kind)]


def test_a_stage_is_measured_in_parts_where_batches_grow_or_the_loss_changes():
    grown = plan(15, optimizer=OptimizerConfig(decay_kimg=7), batches=BatchesConfig(decay_growth=2))
    assert [part[:3] for part in grown] == [(4, 0, 6000), (8, 6000, 8000), (8, 8000, 12000), (16, 12000, 15000)]
    warmup = WarmupConfig({8: 0.5, 16: 1.5})
    assert plan(10, objective=ObjectiveConfig(bands=4, bands_from_kimg=9), warmup=warmup) == [
        (8, 0, 500, "octaves"), (16, 500, 2000, "octaves"), (4, 2000, 8000, "sinkhorn"), (8, 8000, 9000, "sinkhorn"),
        (8, 9000, 10000, "sinkhorn in 4 bands"),
    ]  # fmt: skip


def test_it_measures_every_stage_and_writes_nothing(shards32, tmp_path, capsys):
    out = rehearse(capsys, "--data", str(shards32), "--output", str(tmp_path / "run"), *OF_OLD, *LONG)
    assert "1 process on cpu, fp32. Nothing was written" in out and "0.6 M parameters, whole on every process" in out
    rows = re.findall(
        r"^(\d) px +\S+ +sinkhorn +4/8 +[\d.]+ \+ [\d.]+ \+ [\d.e-]+ "
        r"+(\d+) \+ (\d+) \+ (\d+) \+ \d+ +([\d.]+) +([\d.]+) GiB +\d:\d\d:\d\d$",
        out,
        re.MULTILINE,
    )
    assert [row[0] for row in rows] == ["4", "8"] and all(float(value) > 0 for row in rows for value in row)
    whole = re.search(r"^all +0–100 .* (\d+):(\d\d):(\d\d)$", out, re.MULTILINE)
    hours, minutes, seconds = map(int, whole.groups())
    expected = 16 / float(rows[0][4]) + (100_000 - 16) / float(rows[1][4])
    assert hours * 3600 + minutes * 60 + seconds == pytest.approx(expected, rel=0.1, abs=2)
    assert not (tmp_path / "run").exists()


def test_it_measures_a_warm_up_after_the_stages_that_follow_it(shards32, tmp_path, capsys):
    flags = ["--warmup.stage_kimg={8: 0.016}", "--warmup.batch=8", "--schedule.total_kimg=1"]
    out = rehearse(capsys, "--data", str(shards32), "--output", str(tmp_path / "run"), *OF_OLD, *flags)
    for stage in (r"8 px +0–0\.016 +octaves", r"4 px +0\.016–0\.032 +sinkhorn"):
        assert re.search(rf"^{stage} +\d+/8 .* GiB", out, re.MULTILINE), out


def test_of_a_run_that_has_begun_it_says_what_is_left_and_how_large_its_files_are(shards32, tmp_path, capsys):
    flags = ["--data", str(shards32), "--output", str(tmp_path / "run"), *OF_OLD]
    assert main([*flags, "--schedule.total_kimg=0.032"]) == 0
    before = tree(tmp_path / "run")
    capsys.readouterr()
    out = rehearse(capsys, *flags, *LONG)
    assert re.search(r"^all +0.032–100 ", out, re.MULTILINE)
    assert tree(tmp_path / "run") == before

    files = list((tmp_path / "run/checkpoints").glob("*/*"))
    held = sum(path.stat().st_size for path in files) / 1e3
    (size,) = set(map(int, re.findall(r"^(?:checkpoints)? +[23] × (\d+) kB", out, re.MULTILINE)))
    assert 0.8 * held < size < held, "headers come on top"
    assert re.search(r" 2 × \d+ kB +kept for good", out) and re.search(r"10 × \d+ kB +none is deleted", out)


def test_what_is_not_cheap_to_measure_is_marked(shards32, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(dry_run, "CHEAP_MINUTES", 0)
    out = rehearse(capsys, "--data", str(shards32), "--output", str(tmp_path / "run"), *OF_OLD)
    assert re.search(r"^4 px .* ≥ [\d.]+ +not measured", out, re.MULTILINE)
    assert re.search(r"^8 px .* 4/8 .* [\d.]+ +[\d.]+ GiB", out, re.MULTILINE)


def test_too_small_a_disk_is_said(shards32, tmp_path, capsys):
    flags = ["--data", str(shards32), "--output", str(tmp_path / "run"), *OF_OLD, "--schedule.total_kimg=1e9"]
    assert "That does not fit: make room" in rehearse(capsys, *flags, "--saving.snapshot_kimg=0.1")


@pytest.mark.slow
def test_two_ranks_measure_together_and_one_of_them_speaks(shards32, tmp_path):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]
    flags = ["--data", str(shards32), "--output", str(tmp_path / "run"), *OF_OLD, "--teacher.shard=fsdp", "--dry-run"]
    done = subprocess.run(
        [*torchrun, "-m", "launch.train", *flags], cwd=ROOT, capture_output=True, text=True, timeout=500,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "ACCELERATE_USE_CPU": "true"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("Dry run: 2 processes on cpu") == 1
    assert re.search(r"0\.6 M parameters, 0\.3 M on each process", done.stdout)
    assert not (tmp_path / "run").exists()


def test_a_stopwatch_tells_the_parts_of_a_step_and_is_off_otherwise(shards32, tmp_path):
    parser = build_parser()
    flags = ["--data", str(shards32), "--output", str(tmp_path / "run"), *OF_OLD]
    trainer = Trainer(make_config(parser, parser.parse_args(flags)))
    batches, stage = next(trainer.one_stage())
    laps = trainer.comparer.laps
    trainer.train_step(batches, stage)
    assert not any(laps.seconds.values()) and laps.last is None
    began = time.perf_counter()
    laps.start()
    trainer.train_step(batches, stage)
    parts = laps.stop()
    assert min(parts.values()) > 0 and sum(parts.values()) == pytest.approx(time.perf_counter() - began, rel=0.05)
