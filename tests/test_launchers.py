"""Launching: environment variables become processes, signals reach the trainer, and the doctor looks first.

SLURM's own commands are stood in for by small scripts on PATH; the launchers, accelerate and the trainers are real.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path

import pytest

from dinogen.doctor import (
    Finding,
    add_across_ranks,
    examine_compiler,
    examine_data,
    examine_folder,
    examine_versions,
    run_within,
)
from launch import doctor

ROOT = Path(__file__).parent.parent
NODE = [str(ROOT / "launch/node.sh")]
SLURM = ["bash", str(ROOT / "launch/slurm.sbatch")]
TINY = [
    "--generator.channel_base=128", "--generator.channel_max=16", "--generator.z_dim=16", "--generator.w_dim=16",
    "--batches.generated=8", "--batches.real=16", "--saving.log_kimg=0.016",
]  # fmt: skip

SRUN = """#!/usr/bin/env bash
# Starts the command once for each node, all on this machine, each in a process group of its own, as slurmstepd does.
# Passes SIGUSR1 on to those groups, kills them on SIGTERM, and ends with the highest exit code: as srun does.
while [[ "$1" == --* ]]; do shift; done
set -m
groups=()
trap 'for group in "${groups[@]}"; do kill -USR1 -- "-$group" 2>/dev/null; done' USR1
trap 'for group in "${groups[@]}"; do kill -KILL -- "-$group" 2>/dev/null; done' TERM
for ((node = 0; node < SLURM_JOB_NUM_NODES; node++)); do
    # Only in a cluster is it clear which node opens the meeting point: here the others wait until the first one has.
    until ((node == 0)) || (: <"/dev/tcp/localhost/$MAIN_PORT") 2>/dev/null; do sleep 0.5; done
    SLURM_NODEID="$node" "$@" &
    groups+=("$!")
done
highest=0
for group in "${groups[@]}"; do
    while kill -0 "$group" 2>/dev/null; do sleep 0.5; done
    status=0
    wait "$group" || status=$?
    ((status <= highest)) || highest=$status
done
exit "$highest"
"""
SCONTROL = """#!/usr/bin/env bash
case "$1 $2" in
"show hostnames") printf 'localhost\\nlocalhost\\n' ;;
requeue*) echo "$2" >>"$(dirname "$0")/requeued" ;;
esac
"""
# Prints what it was started with instead of starting anything.
ACCELERATE = '#!/usr/bin/env bash\nprintf "%s\\n" "$@"\n'
# A launcher with one trainer that takes no notice of SIGTERM.
DEAF = "#!/usr/bin/env bash\necho up\nbash -c 'trap \"\" TERM INT; while true; do sleep 0.2; done'\n"

WAIT_FOR_SIGTERM = """
import os, signal
signal.signal(signal.SIGTERM, lambda number, frame: None)
print("up", flush=True)
signal.pause()
"""
SAVE = 'os.makedirs(os.environ["OUTPUT"] + "/checkpoints/nimg000000000001")'


def executable(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


def surroundings(first_on_path: Path | None = None, **variables: object) -> dict[str, str]:
    """This process's environment without what the launchers read, with `variables` instead."""
    read = ("DATA", "OUTPUT", "CONFIG", "NUM_", "MACHINE_", "MAIN_", "MIXED_", "SLURM_", "DINOGEN_", "CUDA_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(read)}
    folders = [str(folder) for folder in (first_on_path, Path(sys.executable).parent) if folder]
    kept["PATH"] = os.pathsep.join([*folders, kept["PATH"]])
    return kept | {"OMP_NUM_THREADS": "1"} | {name: str(value) for name, value in variables.items()}


def run(command: list[str], env: dict[str, str]) -> subprocess.CompletedProcess:
    return subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=600)


def start(command: list[str], env: dict[str, str]) -> subprocess.Popen:
    return subprocess.Popen(
        command, env=env, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # Tests that run in the background ignore SIGINT, and a shell cannot trap what it was born to ignore.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def wait_for(condition: Callable[[], object], process: subprocess.Popen, seconds: float = 400) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[1][-2000:]
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.1)


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("localhost", 0))
        return server.getsockname()[1]


@pytest.fixture
def stand_ins(tmp_path) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    executable(folder / "srun", SRUN)
    executable(folder / "scontrol", SCONTROL)
    return folder


# ---- one machine


@pytest.mark.slow  # the quick tests have two nodes below
def test_two_processes_on_one_machine_finish_a_run(shards32, tmp_path):
    env = surroundings(DATA=shards32, OUTPUT=tmp_path / "run", NUM_PROCESSES=2)
    done = run([*NODE, *TINY, "--schedule.total_kimg=0.016"], env)
    assert done.returncode == 0, done.stderr[-2000:]
    assert '"ranks": 2' in (tmp_path / "run/environment.json").read_text()
    assert list((tmp_path / "run/snapshots").iterdir())


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, "--num_processes 1 --num_machines 1 --machine_rank 0"),
        ({"NUM_PROCESSES": 8}, "--num_processes 8 --num_machines 1"),
        ({"MIXED_PRECISION": "fp16"}, "--mixed_precision fp16"),
        ({"CONFIG": "demo"}, "-m launch.train --config demo --data d --output o --seed 7"),
        ({"CONFIG": "configs/demo.yaml"}, "-m launch.train --config configs/demo.yaml --data d --output o --seed 7"),
        ({"CUDA_VISIBLE_DEVICES": "0,2"}, "--num_processes 2 --num_machines 1 --machine_rank 0 --mixed_precision bf16"),
        ({"CUDA_VISIBLE_DEVICES": ""}, "--num_processes 1 --num_machines 1 --machine_rank 0 --mixed_precision no"),
        (
            {"NUM_MACHINES": 2, "NUM_PROCESSES": 16, "MACHINE_RANK": 1, "MAIN_ADDRESS": "10.0.0.1", "MAIN_PORT": 4711},
            "--rdzv_backend c10d --main_process_ip 10.0.0.1 --main_process_port 4711",
        ),
    ],
)
def test_environment_variables_become_accelerates_flags(tmp_path, variables, expected):
    executable(tmp_path / "accelerate", ACCELERATE)
    done = run([*NODE, "--seed", "7"], surroundings(tmp_path, DATA="d", OUTPUT="o", **variables))
    assert done.returncode == 0, done.stderr
    assert expected in " ".join(done.stdout.split())


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"DATA": ""}, "DATA is not set"),
        ({"OUTPUT": ""}, "OUTPUT is not set"),
        (
            {"CONFIG": "configs/none.yaml"},
            "CONFIG configs/none.yaml: no such file or preset; presets: demo drawn128 faces256",
        ),
        ({"NUM_MACHINES": "two"}, "NUM_MACHINES 'two' must be a whole number"),
        ({"NUM_PROCESSES": 0}, "NUM_PROCESSES '0' must be a whole number, 1 at least"),
        ({"NUM_MACHINES": 2, "MACHINE_RANK": 2}, "MACHINE_RANK 2 must be below NUM_MACHINES 2"),
        ({"NUM_MACHINES": 2, "NUM_PROCESSES": 3}, "a multiple of NUM_MACHINES 2"),
        ({"NUM_MACHINES": 2}, "MAIN_ADDRESS is not set"),
    ],
)
def test_what_cannot_be_is_one_line_that_names_the_variable(tmp_path, variables, named):
    executable(tmp_path / "accelerate", ACCELERATE)
    done = run(NODE, surroundings(tmp_path, **{"DATA": "d", "OUTPUT": "o"} | variables))
    assert done.returncode == 2 and not done.stdout
    assert named in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_failing_launcher_passes_its_exit_code_on(tmp_path):
    executable(tmp_path / "accelerate", "#!/usr/bin/env bash\nexit 3\n")
    assert run(NODE, surroundings(tmp_path, DATA="d", OUTPUT=tmp_path / "run")).returncode == 3


def test_a_second_interrupt_leaves_at_once_and_leaves_no_trainer_behind(tmp_path):
    executable(tmp_path / "accelerate", DEAF)
    process = start(NODE, surroundings(tmp_path, DATA="d", OUTPUT=tmp_path / "run"))
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=3)  # the first one waits for the trainer
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)  # until nobody holds the pipe any more: the trainer is gone too
    assert process.returncode == 130


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stop_that_saved_says_which_signal_asked(tmp_path, number, code):
    """The trainer is stood in for: it waits for SIGTERM, and saves."""
    (tmp_path / "trainer.py").write_text(WAIT_FOR_SIGTERM + SAVE)
    executable(tmp_path / "accelerate", f"#!/usr/bin/env bash\n{sys.executable} {tmp_path}/trainer.py\nexit 1\n")
    process = start(NODE, surroundings(tmp_path, DATA="d", OUTPUT=tmp_path / "run"))
    assert process.stdout.readline() == "up\n"
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == code


# ---- SLURM


def slurm(stand_ins: Path, data: Path, output: Path, nodes: int) -> dict[str, str]:
    """What SLURM sets, for that many nodes without GPUs."""
    return surroundings(
        stand_ins, DATA=data, OUTPUT=output, MAIN_PORT=free_port(), SLURM_SUBMIT_DIR=ROOT, SLURM_JOB_ID=4711,
        SLURM_JOB_NUM_NODES=nodes, SLURM_JOB_NODELIST=f"node[0-{nodes - 1}]",
    )  # fmt: skip


def test_a_job_on_two_nodes_that_is_preempted_saves_and_is_queued_again(shards32, tmp_path, stand_ins):
    output = tmp_path / "run"
    process = start([*SLURM, *TINY, "--schedule.total_kimg=1e6"], slurm(stand_ins, shards32, output, nodes=2))
    wait_for(lambda: list(output.glob("tensorboard/*")), process)
    process.send_signal(signal.SIGUSR1)
    out, err = process.communicate(timeout=400)
    assert process.returncode == 143, err[-2000:]
    assert "Saved; queueing job 4711 again." in out
    assert (stand_ins / "requeued").read_text() == "4711\n"
    assert '"ranks": 2' in (output / "environment.json").read_text()
    assert [path.name for path in output.glob("checkpoints/nimg*/state.json")]


@pytest.mark.parametrize(
    ("number", "last_words", "code"),
    [
        pytest.param(signal.SIGTERM, SAVE, 143, id="cancelled"),
        pytest.param(signal.SIGUSR1, "", 1, id="preempted, but the disk is full"),
    ],
)
def test_a_job_is_not_queued_again_when_it_is(tmp_path, stand_ins, number, last_words, code):
    """The trainer is stood in for here: how it saves is the business of the test before."""
    (tmp_path / "trainer.py").write_text(WAIT_FOR_SIGTERM + last_words)
    executable(stand_ins / "accelerate", f"#!/usr/bin/env bash\n{sys.executable} {tmp_path}/trainer.py\nexit 1\n")
    process = start(SLURM, slurm(stand_ins, Path("d"), tmp_path / "run", nodes=1))
    assert process.stdout.readline() == "up\n"
    process.send_signal(number)
    process.communicate(timeout=120)
    assert process.returncode == code
    assert not (stand_ins / "requeued").exists()


def test_a_job_that_fails_is_not_queued_again(tmp_path, stand_ins):
    done = run([*SLURM, "--train.totl_kimg=1"], slurm(stand_ins, tmp_path / "none", tmp_path / "run", nodes=1))
    assert done.returncode not in (0, 143)
    assert "did you mean 'schedule.total_kimg'?" in done.stderr
    assert not (stand_ins / "requeued").exists()


def test_a_job_submitted_from_elsewhere_says_so(tmp_path, stand_ins):
    env = slurm(stand_ins, tmp_path, tmp_path / "run", nodes=1) | {"SLURM_SUBMIT_DIR": str(tmp_path)}
    done = run(SLURM, env)
    assert done.returncode == 2 and f"no launch/node.sh in {tmp_path}" in done.stderr


def test_the_batch_script_is_sound():
    subprocess.run(["bash", "-n", str(ROOT / "launch/slurm.sbatch")], check=True)


# ---- dinogen doctor


def test_the_doctor_finds_a_sound_machine_fit(shards32, tmp_path, capsys):
    assert doctor.main(["--output", str(tmp_path / "runs"), "--data", str(shards32)]) == 0
    out = capsys.readouterr().out
    for expected in (
        "ok   Python 3", "ok   torch ", "CPU cores", "gloo: two processes", "MB a second", "48 samples in 3 shards",
        "its teacher is at hand",
    ):  # fmt: skip
        assert expected in out
    assert list((tmp_path / "runs").iterdir()) == [], "nothing was left behind"


def findings(found: Iterable[Finding]) -> list[str]:
    return [str(finding) for finding in found if finding.verdict == "fix"]


def test_the_doctor_names_a_teacher_that_is_not_there(shards32, tmp_path):
    (line,) = findings(examine_data(str(shards32), str(tmp_path / "none")))
    assert str(tmp_path / "none") in line and "→ pass --teacher DIR" in line


def test_the_doctor_names_a_shard_that_is_cut_off(shards32, tmp_path):
    shutil.copytree(shards32, tmp_path / "shards")
    shard = sorted((tmp_path / "shards").glob("*.tar"))[1]
    shard.write_bytes(shard.read_bytes()[:-100])
    (line,) = findings(examine_data(str(tmp_path / "shards")))
    assert str(shard) in line and "→ restore it" in line


def test_the_doctor_names_a_folder_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").touch()
    (line,) = findings(examine_folder(tmp_path / "file/runs"))
    assert f"{tmp_path}/file/runs: a file stands where a folder is needed" in line


def test_the_doctor_names_a_package_outside_its_range():
    lines = findings(examine_versions(["numpy<1", "no-such-package>=2", "pytest>99; extra == 'dev'"]))
    assert len(lines) == 2 and "is outside <1" in lines[0] and "→ pip install 'numpy<1'" in lines[0]
    assert "no-such-package is not installed" in lines[1]


def test_the_doctor_says_whether_torch_can_compile(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    assert str(examine_compiler()).startswith("warn no C compiler\n     → needed for torch.compile only")
    executable(tmp_path / "clang", "")
    assert examine_compiler().verdict == "ok"


def test_processes_that_never_meet_are_ended(tmp_path):
    with pytest.raises(TimeoutError):
        run_within(timedelta(0), add_across_ranks, ("gloo", str(tmp_path / "nowhere/store"), timedelta(minutes=9)))


def test_the_doctor_ends_with_1_when_something_is_to_be_fixed(tmp_path, capsys):
    assert doctor.main(["--output", str(tmp_path), "--data", str(tmp_path)]) == 1
    assert "1 to fix" in capsys.readouterr().err


# ---- the environment

# Stands in for Python: makes an environment whose python writes down what it is asked to do.
PYTHON = """#!/usr/bin/env bash
case "$1 $2" in
"-m venv") mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && touch "$3/bin/activate" ;;
"-m pip") printf "%s " "${@:3}" >>"$LOG"; echo >>"$LOG" ;;
--version*) echo Python 3.11 ;;
esac
"""


def set_up(folder: Path, **variables: object) -> tuple[list[str], str]:
    """What pip is asked to do when launch/environment.sh makes an environment in `folder`, and what is said."""
    (folder / "launch").mkdir(exist_ok=True)
    for file in ("launch/environment.sh", "setup.cfg"):
        shutil.copy(ROOT / file, folder / file)
    log = folder / "log"
    log.write_text("")
    env = surroundings(PYTHON=executable(folder / "python", PYTHON), LOG=log, **variables)
    done = run(["bash", "-c", f"source {folder}/launch/environment.sh dev"], env)
    assert done.returncode == 0, done.stderr
    return log.read_text().splitlines(), done.stdout


def test_an_environment_is_made_once(tmp_path):
    asked, said = set_up(tmp_path)
    assert asked == [f"install --quiet --disable-pip-version-check -e {tmp_path}[dev] "]
    assert "about 7 GB" in said
    assert set_up(tmp_path) == ([], "")


def test_torch_comes_from_the_index_that_is_named(tmp_path):
    asked, said = set_up(tmp_path, DINOGEN_TORCH_INDEX="https://example.org/cpu")
    assert len(asked) == 2 and "7 GB" not in said
    flags = "install --quiet --disable-pip-version-check --index-url https://example.org/cpu"
    assert re.fullmatch(rf"{flags} torch>=[\d.]+,<[\d.]+ torchvision>=[\d.]+,<[\d.]+ ", asked[0])
    assert asked[1].endswith(f"-e {tmp_path}[dev] ")
