"""Judging inside training: the same figures as outside, on one rank and on two."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dinogen.data.loader import load_crops
from dinogen.evaluate import metrics
from dinogen.evaluate.judge import evaluate_images, reduce_to
from dinogen.evaluate.verdict import verdict
from dinogen.images import to_float
from dinogen.networks import Generator
from dinogen.sample import sample_images
from dinogen.schedule import Stage
from dinogen.teachers import make_teacher
from dinogen.train.judge import RunJudge, scalars_of
from dinogen.train.jury import Jury
from helpers.training import complaint, flags
from launch.train import main

ROOT = Path(__file__).parent.parent
COUNT = 16


def scalars(run: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(run / "tensorboard" / run.name))
    events.Reload()
    tags = [tag for tag in events.Tags()["scalars"] if tag.startswith("metrics")]
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in tags}


def test_the_figures_are_those_of_dinogen_evaluate(shards32):
    torch.manual_seed(0)
    generator = Generator(z_dim=16, w_dim=16, channel_base=128, channel_max=16).eval()
    teacher = make_teacher("tiny")
    judge = RunJudge(Jury(shards32, COUNT, 32, torch.device("cpu"), teacher))
    judged = judge.measure(generator, Stage(16, 0.5))
    found = scalars_of(judged)

    generator.trained_resolution, generator.trained_alpha = 16, 0.5
    samples, reals = sample_images(generator, COUNT, seed=0), load_crops(shards32, 2 * COUNT, 32)
    report = evaluate_images(samples, reals)
    for name in ("face_rate", "frechet_detector", "kernel_detector", "coverage", "diversity_pixels", "recall"):
        assert found[f"metrics/{name}"] == pytest.approx(report[name], rel=1e-3, abs=1e-6), name
        real = report["real_against_real"][name]
        assert found[f"metrics_real/{name}"] == pytest.approx(real, rel=1e-3, abs=1e-6), name
    assert found["metrics/individual_detail_16"] == pytest.approx(report["individual_detail_16"], rel=1e-4)
    assert found["metrics_real/shared_part_16"] == pytest.approx(
        report["real_against_real"]["shared_part_16"], rel=1e-4
    )
    assert verdict(judged)[0] == verdict(report)[0]
    tokens = [teacher(to_float(images))["cls"].detach() for images in (samples, reduce_to(reals[:COUNT], 16))]
    expected = metrics.frechet_distance(*tokens)
    assert found["metrics_training_signal/frechet_teacher"] == pytest.approx(expected, rel=1e-3)


def test_a_run_judges_itself_every_so_often_and_at_its_end(shards32, tmp_path):
    more = ["--schedule.total_kimg=0.08", "--saving.evaluate_kimg=0.032", f"--saving.evaluate_count={COUNT}"]
    assert main(flags(shards32, tmp_path / "run", *more)) == 0
    found = scalars(tmp_path / "run")
    assert [step for step, _ in found["metrics/frechet_detector"]] == [32, 64, 80]
    assert found.keys() >= {"metrics/face_rate", "metrics/coverage", "metrics_real/coverage"}


def test_judging_changes_nothing_in_the_run(shards32, tmp_path):
    short = ["--schedule.total_kimg=0.032", "--schedule.start_resolution=32"]
    assert main(flags(shards32, tmp_path / "plain", *short)) == 0
    judged = [*short, "--saving.evaluate_kimg=0.016", "--saving.evaluate_count=6"]
    assert main(flags(shards32, tmp_path / "judged", *judged)) == 0
    ends = [next((tmp_path / name / "snapshots").iterdir()) / "model.safetensors" for name in ("plain", "judged")]
    assert ends[0].read_bytes() == ends[1].read_bytes()
    assert (
        "No verdict: the detector is sure of a face in 0% of the real images."
        in (tmp_path / "judged" / "log.txt").read_text()
    )
    assert "No verdict" not in (tmp_path / "plain" / "log.txt").read_text()


def test_too_few_to_judge_by_are_refused(shards32, tmp_path, capsys):
    line = complaint(capsys, flags(shards32, tmp_path / "run", "--saving.evaluate_count=3"), 2)
    assert "saving.evaluate_count 3" in line


@pytest.mark.slow
def test_two_ranks_find_what_one_finds(shards32, tmp_path):
    """With the teacher split over them."""
    more = ["--schedule.total_kimg=0.032", "--saving.evaluate_kimg=1", f"--saving.evaluate_count={COUNT}",
            "--teacher.shard=fsdp", "--schedule.start_resolution=32"]  # fmt: skip
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=0", "--standalone"]
    done = subprocess.run(
        [*torchrun, "-m", "launch.train", *flags(shards32, tmp_path / "two", *more)], cwd=ROOT, capture_output=True,
        text=True, timeout=900, env=os.environ | {"ACCELERATE_USE_CPU": "true"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert main(flags(shards32, tmp_path / "one", *more)) == 0
    one, two = (scalars(tmp_path / name) for name in ("one", "two"))
    assert one.keys() == two.keys()
    for tag in one:
        (_, alone), (_, shared) = one[tag][0], two[tag][0]
        assert shared == pytest.approx(alone, rel=0.05, abs=0.02), tag
