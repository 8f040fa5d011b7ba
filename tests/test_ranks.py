"""Several ranks: they stop together, and none waits for one that is gone."""

import json
import signal
import time
from pathlib import Path

import pytest

from dinogen.train.watchdog import Watchdog
from helpers.ranks import NARROW, SteeredRun, start_ranks

FLAGS = [*NARROW, "--batches.generated=4", "--batches.real=8", "--schedule.start_resolution=32"]
TIMEOUT = 4


def start(shards: Path, folder: Path, ranks: int = 2, plan: dict | None = None, *more: str) -> SteeredRun:
    """A run without end on so many ranks."""
    flags = ["--data", str(shards), "--output", str(folder / "run"), *FLAGS, "--schedule.total_kimg=1e6"]
    return start_ranks(ranks, folder, [*flags, *more], (plan or {}) | {"timeout_seconds": TIMEOUT})


def wait_for_step(run: SteeredRun, number: int, rank: int = 0) -> None:
    deadline = time.monotonic() + 240
    while len(run.steps(rank)) <= number:
        assert all(process.poll() is None for process in run.processes), run.ends()
        assert time.monotonic() < deadline, "it never came so far"
        time.sleep(0.05)


@pytest.fixture
def two_ranks(shards32, tmp_path):
    run = start(shards32, tmp_path)
    yield run
    run.kill()


def test_a_request_to_one_rank_stops_both_at_the_same_step_and_saves(two_ranks, tmp_path):
    wait_for_step(two_ranks, 2)
    two_ranks.processes[1].send_signal(signal.SIGTERM)
    ends = two_ranks.ends()
    assert [code for code, _ in ends] == [143, 143], ends
    assert all("run the same command again to resume" in text.splitlines()[-1] for _, text in ends)
    steps = len(two_ranks.steps(0))
    assert steps == len(two_ranks.steps(1))
    (checkpoint,) = (tmp_path / "run" / "checkpoints").iterdir()
    assert json.loads((checkpoint / "state.json").read_text())["cur_step"] == steps


@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGSTOP, marks=pytest.mark.slow)])
def test_a_rank_that_was_killed_or_stopped_is_named_within_the_timeout(two_ranks, number):
    wait_for_step(two_ranks, 2)
    two_ranks.processes[1].send_signal(number)
    began = time.monotonic()
    text = two_ranks.processes[0].communicate(timeout=120)[1]
    assert two_ranks.processes[0].returncode == 1
    assert time.monotonic() - began < 60, "rank 0 ends by the watchdog's timeout, not by the process group's"
    assert f"rank 1 gave no sign of life for {TIMEOUT} s after step" in text.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_the_rank_through_which_the_others_meet_is_named_too(two_ranks, number):
    wait_for_step(two_ranks, 2)
    two_ranks.processes[0].send_signal(number)
    text = two_ranks.processes[1].communicate(timeout=120)[1]
    assert two_ranks.processes[1].returncode == 1
    assert "rank 0 at 127.0.0.1, through which the ranks meet, has not answered" in text.splitlines()[-1]


@pytest.mark.slow
def test_a_rank_whose_main_thread_hangs_is_named_with_its_step(shards32, tmp_path):
    run = start(shards32, tmp_path, 2, {"hang": {"rank": 1, "step": 3}, "hang_seconds": 8})
    try:
        text = run.processes[0].communicate(timeout=240)[1]
        assert run.processes[0].returncode == 1
        assert "rank 1 hangs at step 3, the others have waited for 8 s" in text.splitlines()[-1]
    finally:
        run.kill()


@pytest.mark.slow
def test_a_rank_that_ends_with_an_error_is_named_with_it(shards32, tmp_path):
    run = start(shards32, tmp_path, 2, {"fail": {"rank": 1, "step": 3}})
    ends = run.ends()
    assert [code for code, _ in ends] == [1, 1]
    assert "no photo of a cat" in ends[1][1].splitlines()[-1]
    assert "rank 1 ended at step 3: no photo of a cat" in ends[0][1].splitlines()[-1]


@pytest.mark.slow
def test_slow_work_on_one_rank_is_no_alarm(shards32, tmp_path):
    busy = {"rank": 1, "step": 2, "seconds": 3 * TIMEOUT}
    run = start(shards32, tmp_path, 2, {"busy": busy, "stop_at": 4})
    assert [code for code, _ in run.ends()] == [143, 143]


@pytest.mark.parametrize(
    ("number", "code"), [pytest.param(signal.SIGUSR1, 143, marks=pytest.mark.slow), (signal.SIGINT, 130)]
)
def test_other_requests_to_stop_save_as_well(shards32, tmp_path, number, code):
    run = start(shards32, tmp_path, 1)
    wait_for_step(run, 1)
    run.processes[0].send_signal(number)
    assert run.ends()[0][0] == code
    assert list((tmp_path / "run" / "checkpoints").iterdir())


@pytest.mark.slow
def test_a_second_ctrl_c_leaves_at_once_with_the_last_checkpoint_intact(shards32, tmp_path):
    run = start(
        shards32, tmp_path, 1, {"busy": {"rank": 0, "step": 5, "seconds": 60}}, "--saving.checkpoint_kimg=0.016"
    )
    wait_for_step(run, 4)
    time.sleep(1)  # it is busy now
    before = sorted((tmp_path / "run" / "checkpoints").iterdir())
    for _ in range(2):
        run.processes[0].send_signal(signal.SIGINT)
        time.sleep(0.5)
    assert run.ends(timeout=20)[0][0] == 130
    assert sorted((tmp_path / "run" / "checkpoints").iterdir()) == before != []


def test_one_rank_needs_no_watchdog():
    with Watchdog(0, 1, lambda: "nowhere") as watchdog:
        assert watchdog.others == []
