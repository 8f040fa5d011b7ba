"""Starts trainers on several ranks: by torchrun, or one by one, so that no launcher ends the others when one dies."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
NARROW = ["--generator.channel_base=128", "--generator.channel_max=16", "--generator.z_dim=16", "--generator.w_dim=16"]
ENVIRONMENT = os.environ | {
    "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}",
    "ACCELERATE_USE_CPU": "true",
    "OMP_NUM_THREADS": "1",
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def torchrun(ranks: int, script: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess:
    """Run a script on a number of ranks; raises with what they said unless all end well."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}"]
    done = subprocess.run(
        [*launcher, str(script), *arguments], cwd=ROOT, capture_output=True, text=True, env=ENVIRONMENT | more
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done


@dataclass
class SteeredRun:
    """Ranks of one run, and what each recorded of its steps."""

    processes: list[subprocess.Popen]
    record: Path

    def steps(self, rank: int = 0) -> list[dict]:
        file = self.record / f"rank{rank}.jsonl"
        lines = file.read_text().splitlines(keepends=True) if file.exists() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def ends(self, timeout: float = 300) -> list[tuple[int, str]]:
        """Exit code and stderr of each rank."""
        texts = [process.communicate(timeout=timeout)[1] for process in self.processes]
        return [(process.returncode, text) for process, text in zip(self.processes, texts)]

    def kill(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


def start_ranks(ranks: int, folder: Path, flags: list[str], plan: dict | None = None, **more: str) -> SteeredRun:
    """Start `steered_run.py` on a number of ranks, each a process of its own.

    Args:
        folder: for the plan and the records.
        flags: the trainer's.
        plan: see `steered_run.py`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plan.json").write_text(json.dumps((plan or {}) | {"record": str(folder)}))
    command = [sys.executable, str(ROOT / "tests" / "helpers" / "steered_run.py"), str(folder / "plan.json"), *flags]
    environment = ENVIRONMENT | more
    if ranks > 1:
        environment |= {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [
        subprocess.Popen(
            command, cwd=ROOT, env=environment | ({"RANK": str(r), "LOCAL_RANK": str(r)} if ranks > 1 else {}), **pipes
        )
        for r in range(ranks)
    ]
    return SteeredRun(processes, folder)
