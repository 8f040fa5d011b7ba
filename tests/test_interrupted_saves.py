"""Saves that are cut short: by SIGKILL, by a full disk, by missing permission. The last complete one stays good."""

import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from dinogen.errors import DinogenError
from dinogen.train.checkpoint import list_checkpoints, load_newest
from dinogen.train.run_folder import RunFolder
from helpers.dying import MOMENTS
from helpers.small_checkpoint import KEPT, names, save
from helpers.training import OF_OLD

ROOT = Path(__file__).parent.parent
DYING = [sys.executable, str(ROOT / "tests/helpers/dying.py")]
SURVIVE = {"after rename", "in clean-up"}  # by then the new one is whole
NOBODY = 65534


def run(command: list[str], **options) -> subprocess.CompletedProcess:
    env = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=600, **options)


# ---- SIGKILL


@pytest.fixture(scope="module")
def killed(tmp_path_factory) -> Path:
    """Folders of checkpoints, one for each moment: 8 was saved, and the process died while it saved 16."""
    folder = tmp_path_factory.mktemp("killed")
    done = run([*DYING, "saves", str(folder)])
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_at_any_moment_of_a_save_the_last_complete_checkpoint_is_taken(killed, moment):
    path, tensors, _ = load_newest(killed / moment, KEPT)
    assert path.name == ("nimg000000000016" if moment in SURVIVE else "nimg000000000008")
    assert tensors.keys() == {part.file for part in KEPT}


@pytest.mark.parametrize("moment", MOMENTS)
def test_what_a_killed_save_left_is_gone_after_the_next_start(killed, moment, tmp_path):
    run_folder = RunFolder(tmp_path)
    run_folder.checkpoints.symlink_to(killed / moment)
    run_folder.clear_leftovers()
    assert all(path in list_checkpoints(run_folder.checkpoints) for path in run_folder.checkpoints.iterdir())
    save(run_folder.checkpoints, 24, keep=1)
    assert [path.name for path in run_folder.checkpoints.iterdir()] == ["nimg000000000024"]


def train_flags(data: Path, output: Path) -> list[str]:
    often = ["--schedule.total_kimg=0.064", "--saving.checkpoint_kimg=0.016"]
    return ["--data", str(data), "--output", str(output), *OF_OLD, *often]


def end_of(data: Path, output: Path) -> dict[str, dict[str, torch.Tensor]]:
    """Train to the end, and give the last checkpoint's tensors by file."""
    done = run([sys.executable, "-m", "launch.train", *train_flags(data, output)], cwd=ROOT)
    assert done.returncode == 0, done.stderr
    names = sorted(path.name for path in (output / "checkpoints").iterdir())
    assert names == ["nimg000000000048", "nimg000000000064"]
    return {path.stem: load_file(path) for path in (output / "checkpoints" / names[-1]).glob("*.safetensors")}


@pytest.fixture(scope="module")
def undisturbed(shards32, tmp_path_factory) -> dict[str, dict[str, torch.Tensor]]:
    return end_of(shards32, tmp_path_factory.mktemp("runs") / "undisturbed")


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_trainer_killed_in_a_save_ends_where_an_undisturbed_one_ends(shards32, undisturbed, tmp_path, moment):
    output = tmp_path / "killed"
    assert run([*DYING, moment, "3", *train_flags(shards32, output)], cwd=ROOT).returncode == -signal.SIGKILL
    last = "nimg000000000048" if moment in SURVIVE else "nimg000000000032"
    assert list_checkpoints(output / "checkpoints")[-1].name == last
    end = end_of(shards32, output)
    for name, tensors in undisturbed.items():
        assert all(torch.equal(value, end[name][key]) for key, value in tensors.items()), name


# ---- no room, no permission


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Callable[[int], Path]]:
    """Mounts a file system of so many bytes."""
    disk = tmp_path / "disk"
    disk.mkdir()

    def mount(size: int) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)]
        if subprocess.run(command, capture_output=True).returncode:
            pytest.skip("mounting a small file system needs root")
        return disk

    yield mount
    subprocess.run(["umount", str(disk)], capture_output=True)


@pytest.mark.parametrize("kilobytes", range(128, 256, 16))
def test_a_disk_that_fills_up_anywhere_in_a_save_leaves_the_checkpoint_before(small_disk, kilobytes):
    """A checkpoint takes about 120 kB in whole pages."""
    disk = small_disk(kilobytes * 1024)
    save(disk, 8)
    with pytest.raises(DinogenError, match=r"nimg\d+: the disk is full; free some space"):
        save(disk, 16, 24, 32, keep=9)
    assert load_newest(disk, KEPT)[0] == list_checkpoints(disk)[-1]
    assert sorted(disk.iterdir()) == list_checkpoints(disk), "nothing half-written"


def in_another_process(work: Callable[[], None]) -> str:
    """Run `work` in a forked process; what it raised, or 'nothing'."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            work()
            said = "nothing"
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(writer, said.encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with open(reader, "rb") as pipe:
        return pipe.read().decode()


def test_a_limit_on_file_sizes_leaves_the_checkpoint_before(tmp_path):
    save(tmp_path, 8)

    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        save(tmp_path, 16)

    assert "nimg000000000016: a file is larger than this file system or `ulimit -f`" in in_another_process(limited)
    assert names(tmp_path) == [8] and len(list(tmp_path.iterdir())) == 1


def let_all_enter(folder: Path) -> None:
    """Every folder above it that pytest made has its owner's permissions alone."""
    for path in (folder, *folder.parents):
        if path.is_relative_to(tempfile.gettempdir()) and str(path) != tempfile.gettempdir():
            path.chmod(0o755)


@pytest.mark.skipif(os.getuid() != 0, reason="becoming somebody else needs root")
def test_without_permission_to_write_the_checkpoint_before_stays(tmp_path):
    folder = tmp_path / "checkpoints"
    save(folder, 8)
    let_all_enter(folder)

    def as_nobody() -> None:
        os.setuid(NOBODY)
        save(folder, 16)

    said = in_another_process(as_nobody)
    assert "nimg000000000016: no permission to write here; choose another --output" in said
    assert load_newest(folder, KEPT)[0].name == "nimg000000000008" and len(list(folder.iterdir())) == 1


@pytest.mark.skipif(os.getuid() != 0, reason="becoming somebody else needs root")
def test_a_file_that_this_user_may_not_read_is_named_without_advice_to_delete(tmp_path):
    folder = tmp_path / "checkpoints"
    save(folder, 8)
    let_all_enter(folder)
    for path in folder.glob("*"):
        path.chmod(0o755)
    (folder / "nimg000000000008/state.json").chmod(0o600)

    def as_nobody() -> None:
        os.setuid(NOBODY)
        load_newest(folder, KEPT)

    said = in_another_process(as_nobody)
    assert "state.json: cannot be read (Permission denied); see to the file" in said and "delete" not in said
