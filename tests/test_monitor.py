"""What a run says of itself: its log, its scalars for machines, TensorBoard, other trackers, and how it ends."""

import fcntl
import json
import math
import os
import pty
import subprocess
import sys
import termios
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.tracking import GeneralTracker
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dinogen.train.monitor import Monitor
from dinogen.train.preview import grid
from dinogen.train.stopping import StopRequest
from dinogen.train.trackers import StatsFile, Trackers
from dinogen.train.trainer import Trainer
from helpers.training import complaint, flags, newest
from launch.train import build_parser, main, make_config

ROOT = Path(__file__).parent.parent
SMALL = ["--generator.img_resolution=8", "--batches.generated=4", "--batches.real=8"]
OFTEN = ["--schedule.stage_kimg=0.016", "--schedule.fade_kimg=0", "--saving.log_kimg=0.008"]


def small(data: Path, output: Path, *more: str) -> list[str]:
    return flags(data, output, *SMALL, *OFTEN, *more)


def events_of(run: Path) -> EventAccumulator:
    events = EventAccumulator(str(run / "tensorboard" / run.name), size_guidance={"images": 0, "scalars": 0})
    events.Reload()
    return events


def stats_of(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]


def contents(run: Path) -> dict[str, tuple[int, int]]:
    """Size and time of each file."""
    return {str(p): (p.stat().st_size, p.stat().st_mtime_ns) for p in run.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def run(shards32, tmp_path_factory) -> Path:
    """A run that was stopped at 16 images, with points after its checkpoint, and resumed to 32."""
    output = tmp_path_factory.mktemp("runs") / "faces"
    assert main(small(shards32, output, "--schedule.total_kimg=0.016")) == 0
    with open(output / "stats.jsonl", "a") as file:  # as a killed launch leaves it
        file.write('{"cur_nimg": 24, "kimg": 0.024, "overview/drift": 9.0}\n{"cur_nimg": 3')
    assert main(small(shards32, output, "--schedule.total_kimg=0.032")) == 0
    return output


# the log, and scalars for machines


def test_scalars_for_machines_stay_in_order_over_a_resume(run):
    points = [line for line in stats_of(run) if "overview/drift" in line]
    assert [point["cur_nimg"] for point in points] == [8, 16, 24, 32]
    assert all(point["overview/drift"] < 9 and point["kimg"] == point["cur_nimg"] / 1000 for point in points)
    assert [point["schedule/step"] for point in points] == [1, 2, 3, 4]
    assert {"loss/total", "schedule/resolution", "overview/images_per_second", "time"} <= points[0].keys()


def test_the_log_tells_with_times_what_happened(run):
    lines = (run / "log.txt").read_text().splitlines()
    assert all(time.strptime(line[:19], "%Y-%m-%d %H:%M:%S") for line in lines)
    text = "\n".join(line[21:] for line in lines)
    for said in (
        f"Process {os.getpid()} on",
        "starts.",
        "resumes at 0.016 kimg",
        "0.024 kimg, step 3: 8px, drift",
        "finished",
    ):
        assert said in text


def test_numbers_that_are_none_are_null(tmp_path):
    file = StatsFile(tmp_path / "stats.jsonl", 0)
    file.log({"1_overview/drift": math.nan, "loss/total": 0.123456789}, step=1500)
    (line,) = stats_of(tmp_path)
    assert (line["kimg"], line["overview/drift"], line["loss/total"]) == (1.5, None, 0.123457)


# TensorBoard


def test_tensorboard_keeps_the_last_point_before_a_resume(run):
    events = events_of(run)
    assert [event.step for event in events.Scalars("loss/total")] == [8, 16, 24, 32]
    assert [event.step for event in events.Images("2_pictures/1_generated")] == [16, 32]


def test_tensorboard_opens_on_an_overview_and_pictures(run):
    tags = events_of(run).Tags()
    groups = sorted({tag.split("/")[0] for tag in tags["scalars"] + tags["images"]})
    assert groups[:2] == ["1_overview", "2_pictures"]
    overview = {tag.split("/")[1] for tag in tags["scalars"] if tag.startswith("1_overview/")}
    assert overview == {"drift", "spread", "diversity", "images_per_second"}


def test_a_caption_is_drawn_above_a_picture():
    page = np.asarray(grid(torch.ones(4, 3, 8, 8), 2, "generated, 8 px"))
    height = 2 * 128 + 2
    assert page.shape[0] > height and page[:-height].min() < 100 and page[-height:].min() == 255


# other trackers


class Broken(GeneralTracker):
    """A service that cannot be reached at first."""

    name = "broken"
    requires_logging_directory = False
    tracker = None
    fails = True
    seen: list[dict] = []

    def log(self, values: dict, step: int | None = None, **more: object) -> None:
        if self.fails:
            raise ConnectionError("no route to host")
        self.seen.append(values)


def test_a_tracker_that_fails_is_said_once_and_does_not_stop_the_others(tmp_path, capsys):
    broken = Broken()
    trackers = Trackers([broken, StatsFile(tmp_path / "stats.jsonl", 0)])
    trackers.log({"loss/total": 1.0}, 1000)
    trackers.log({"loss/total": 2.0}, 2000)
    assert capsys.readouterr().err == "broken could not be written (no route to host). Training continues.\n"
    broken.fails = False
    trackers.log({"loss/total": 3.0}, 3000)
    assert [line["loss/total"] for line in stats_of(tmp_path)] == [1, 2, 3] and broken.seen == [{"loss/total": 3.0}]


def test_wandb_gets_scalars_pictures_and_the_config(shards32, tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    more = ["--schedule.total_kimg=0.008", "--trackers=[wandb]"]
    assert main(small(shards32, tmp_path / "run", *more)) == 0
    wandb.teardown()  # its service writes the rest
    (folder,) = (tmp_path / "wandb").glob("offline-run-*")
    (record,) = folder.glob("*.wandb")
    content = record.read_bytes()
    parts = (b"1_overview/drift", b"schedule.total_kimg", b"2_pictures/1_generated")
    assert [part for part in parts if part not in content] == []
    assert not (tmp_path / "run" / "tensorboard").exists()


@pytest.mark.parametrize(
    ("name", "said"),
    [("wandbb", "trackers: 'wandbb' is not known; choose from aim, "), ("aim", "trackers: aim is not installed; pip")],
)
def test_a_tracker_that_cannot_serve_is_one_line(shards32, tmp_path, capsys, name, said):
    assert said in complaint(capsys, small(shards32, tmp_path / "run", f"--trackers=[{name}]"), 2)
    assert not (tmp_path / "run").exists()


# how it ends


def test_the_last_line_says_what_ended_the_run(shards32, tmp_path, capsys):
    assert main(small(shards32, tmp_path / "run", "--schedule.total_kimg=1e6", "--machine.max_minutes=0.01")) == 0
    impression, last = capsys.readouterr().out.strip().splitlines()[-2:]
    assert "stopped after 0.01 minutes (machine.max_minutes) at" in last and "of 1e+06 kimg" in last
    assert "real images have 1" in impression
    assert last.split(": ", 1)[1].split(". Next")[0] in (tmp_path / "run" / "log.txt").read_text()


def test_a_finished_run_says_so_and_writes_nothing(run, shards32, capsys):
    before = contents(run)
    assert main(small(shards32, run, "--schedule.total_kimg=0.032")) == 0
    last = capsys.readouterr().out.strip().splitlines()[-1]
    assert last.startswith(
        f"Already trained {run}: finished, all 0.032 kimg of schedule.total_kimg; to train longer, raise"
    )
    assert contents(run) == before


@pytest.fixture(scope="module")
def monitor(shards32, tmp_path_factory) -> Monitor:
    """Of a run that has not begun."""
    parser = build_parser()
    arguments = small(shards32, tmp_path_factory.mktemp("runs") / "run", "--schedule.total_kimg=1")
    return Trainer(make_config(parser, parser.parse_args(arguments))).make_monitor()


def test_under_a_time_limit_the_bar_ends_when_the_time_does(monitor):
    monitor.cur_nimg = 100
    for minutes, horizon in ((0, 1000), (0.5, 1000), (5, 200), (9, 111), (10.1, 100)):
        monitor.stop = StopRequest(10)
        monitor.stop.started -= 60 * minutes
        assert monitor.horizon() == pytest.approx(horizon, abs=1), minutes


@pytest.mark.parametrize(
    ("latest", "cur_nimg", "said"),
    [
        ({"spread": 0.9, "diversity": 0.1}, 100, "Collapsed, or hardly trained: the samples are nearly all alike"),
        ({"spread": 0.9, "diversity": 0.8}, 0, "Still growing: the samples differ (spread 0.90, diversity 0.80"),
        ({"spread": 0.9, "diversity": 0.8}, 100, "Not judged: the samples differ"),
    ],
)
def test_a_run_that_nobody_judged_ends_with_an_impression(monitor, capsys, latest, cur_nimg, said):
    monitor.cur_nimg, monitor.latest, monitor.judged = cur_nimg, latest, ""
    monitor.conclude("finished")
    assert said in capsys.readouterr().out


def test_a_run_that_judges_itself_ends_with_the_judges_verdict(monitor, capsys):
    figures = {"face_rate": 0.02, "diversity_pixels": 0.9, "diversity_features": 0.9}
    counts = {"samples": 200, "compared_images_a_set": 200}
    monitor.log_judgement(figures | {"real_against_real": dict.fromkeys(figures, 0.99), "counts": counts})
    monitor.conclude("finished")
    assert capsys.readouterr().out.startswith("Still learning: not faces yet.")


# one trainer a folder, and a terminal that is closed


def test_a_second_trainer_is_refused_and_a_closed_terminal_saves(shards32, tmp_path, capsys):
    master, terminal = pty.openpty()
    arguments = small(shards32, tmp_path / "run", "--schedule.total_kimg=1e6")
    process = subprocess.Popen(
        [sys.executable, "-m", "launch.train", *arguments], cwd=ROOT, stdin=terminal, stdout=terminal, stderr=terminal,
        start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(terminal)
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / "run" / "stats.jsonl").exists():
            assert time.monotonic() < deadline and process.poll() is None
            os.set_blocking(master, False)
            try:
                os.read(master, 10_000)  # or the terminal is full and the process waits
            except BlockingIOError:
                time.sleep(0.05)
        said = complaint(capsys, arguments, 1)
        assert f"{tmp_path / 'run'}: process {process.pid} on " in said and "is training here" in said
        os.close(master)
        assert process.wait(timeout=120) == 143
    finally:
        process.kill()
    assert newest(tmp_path / "run", "checkpoints/nimg*")
    assert "stopped by SIGHUP" in (tmp_path / "run" / "log.txt").read_text()
    assert main([*arguments, "--machine.max_minutes=0.001"]) == 0, "the lock is open again"


@pytest.mark.slow
def test_nohup_keeps_a_run_going(shards32, tmp_path):
    arguments = small(shards32, tmp_path / "run", "--schedule.total_kimg=0.4")
    process = subprocess.Popen(
        ["nohup", sys.executable, "-m", "launch.train", *arguments],
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while not (tmp_path / "run" / "stats.jsonl").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(1)
    assert process.wait(timeout=120) == 0
    assert "finished" in (tmp_path / "run" / "log.txt").read_text()
