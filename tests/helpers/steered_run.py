"""Started by tests, on one rank or several: trains as launch.train does, but stops, hangs or breaks where a plan says.

    python steered_run.py PLAN.json FLAGS…

The plan's keys, all optional: `record` (a folder: each rank writes a line for each step, and its state at the end),
`stop_at` (a step after which SIGTERM comes, to `stop_rank`; `stop_within`: while that step computes), `hang`, `fail`
(`rank`, `step`), `busy` (`rank`, `step`, `seconds`), `hang_seconds`, `timeout_seconds`, `most_bad_steps`, `poison` (a
list of `rank`, `step`, `where`), `states` (record digests of the state after each step).
"""

import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from dinogen.errors import DinogenError
from dinogen.objectives import sinkhorn
from dinogen.train import health, watchdog
from dinogen.train import trainer as training
from launch.train import main

PLAN: dict = {}


def digest(tensors: dict[str, Tensor]) -> str:
    text = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        text.update(name.encode() + value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return text.hexdigest()


def state_of(trainer: training.Trainer) -> dict[str, str]:
    """Digests of all that a skipped step must leave alone."""
    return {part.file: digest(part.tensors()) for part in trainer.kept if part.file != "random"}


def not_a_number(module: nn.Module, inputs: tuple, output: object) -> object:
    """A forward hook: one number of the output becomes NaN."""
    if isinstance(output, Tensor):
        output = output.clone(memory_format=torch.contiguous_format)
        output.view(-1)[0] = float("nan")
        return output
    return {name: not_a_number(module, inputs, level) for name, level in output.items()}


def work_for(seconds: float) -> None:
    """Keep the interpreter busy, as a long compilation does."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        sum(range(1000))


class Steered(training.Trainer):
    def train_step(self, batches, stage):
        step = self.cur_step
        if self.due("hang", step):
            time.sleep(3600)
        if self.due("fail", step):
            raise DinogenError("no photo of a cat")
        if self.due("busy", step):
            work_for(PLAN["busy"]["seconds"])
        handles, costs = [], sinkhorn.squared_distances
        for poison in PLAN.get("poison", []):
            if poison["step"] == step and poison["rank"] == self.rank:
                if poison["where"] == "cost":
                    sinkhorn.squared_distances = lambda h, p: costs(h, p).index_fill_(2, torch.tensor([0]), torch.nan)
                else:
                    module = {"images": self.network, "features": self.teacher}[poison["where"]]
                    handles.append(module.register_forward_hook(not_a_number))
        stopping = PLAN.get("stop_at") == step and PLAN.get("stop_rank", 0) == self.rank
        if stopping and PLAN.get("stop_within"):
            handles.append(self.teacher.register_forward_hook(lambda *_: os.kill(os.getpid(), signal.SIGTERM)))
        scalars = super().train_step(batches, stage)
        if stopping and not PLAN.get("stop_within"):
            os.kill(os.getpid(), signal.SIGTERM)
        sinkhorn.squared_distances = costs
        for handle in handles:
            handle.remove()
        self.record(step, stage, batches, scalars)
        return scalars

    def due(self, key: str, step: int) -> bool:
        wanted = PLAN.get(key, {})
        return (wanted.get("rank"), wanted.get("step")) == (self.rank, step)

    def record(self, step, stage, batches, scalars) -> None:
        if "record" not in PLAN:
            return
        line = {
            "step": step,
            "resolution": stage.resolution,
            "alpha": stage.alpha,
            "keys": [key for batch in batches for key in batch.keys],
            "position": self.loader.state.position,
            "scalars": {name: float(value) for name, value in scalars.items()},
            "state": state_of(self) if PLAN.get("states") else None,
        }
        with open(Path(PLAN["record"]) / f"rank{self.rank}.jsonl", "a") as file:
            file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    PLAN = json.loads(Path(sys.argv[1]).read_text())
    torch.use_deterministic_algorithms(True)
    watchdog.HANG_SECONDS = PLAN.get("hang_seconds", watchdog.HANG_SECONDS)
    watchdog.TIMEOUT_SECONDS = PLAN.get("timeout_seconds", watchdog.TIMEOUT_SECONDS)
    health.MOST_BAD_STEPS = PLAN.get("most_bad_steps", health.MOST_BAD_STEPS)
    training.Trainer = Steered
    sys.exit(main(sys.argv[2:]))
