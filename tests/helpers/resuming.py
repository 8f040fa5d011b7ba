"""Started by tests on several ranks, or called on one: stops a run at several steps, resumes, and compares the ends.

python resuming.py DATA FOLDER STEP…        STEP may end in `+`: the signal comes while the step computes
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

from helpers import steered_run
from launch.train import build_parser, make_config

# Two batches a step, four steps a stage, of which two fade in; an epoch is three steps. Stages 4 to 16 show the
# teacher the real images too, the last one has them stored.
FLAGS = [
    "--generator.channel_base=128", "--generator.channel_max=16", "--generator.z_dim=16", "--generator.w_dim=16",
    "--batches.generated=4", "--batches.real=8", "--batches.accumulation=2",
    "--schedule.stage_kimg=0.064", "--schedule.fade_kimg=0.032", "--schedule.total_kimg=0.256",
    "--heads.weight=0.1", "--heads.rampup_kimg=0", "--frechet.weight=1",
]  # fmt: skip
STEPS = 16


class Recorded(steered_run.Steered):
    """Keeps what each step used and found."""

    steps: list[dict] = []

    def record(self, step, stage, batches, scalars) -> None:
        numbers = {name: float(value) for name, value in scalars.items()}
        keys = [key for batch in batches for key in batch.keys]
        self.steps.append({"step": step, "stage": (stage.resolution, stage.alpha), "keys": keys, "scalars": numbers})


def train(data: str, output: Path, plan: dict) -> list[dict]:
    """A run or the rest of one; returns its steps."""
    steered_run.PLAN = plan
    parser = build_parser()
    trainer = Recorded(make_config(parser, parser.parse_args(["--data", data, "--output", str(output), *FLAGS])))
    trainer.steps = []
    trainer.train()
    return trainer.steps


def last_checkpoint(output: Path) -> dict[str, object]:
    """All that it holds, by file and name, but for the files' own digests."""
    folder = sorted((output / "checkpoints").iterdir())[-1]
    found: dict[str, object] = {"state": json.loads((folder / "state.json").read_text())}
    for file in sorted(folder.glob("*.safetensors")):
        found |= {f"{file.stem}/{name}": value for name, value in load_file(file).items()}
    return found


def differences(data: str, folder: Path, stops: list[str]) -> list[str]:
    """What a run that was stopped and resumed has other than one that was not."""
    torch.use_deterministic_algorithms(True)
    expected_steps = train(data, folder / "undisturbed", {})
    expected = last_checkpoint(folder / "undisturbed")
    assert len(expected_steps) == STEPS and any(name.startswith("heads/optimizer/") for name in expected)
    wrong = []
    for stop in stops:
        step, within = int(stop.removesuffix("+")), stop.endswith("+")
        output = folder / f"stopped{stop}"
        steps = train(data, output, {"stop_at": step, "stop_within": within})
        # A signal after the step's exchange is heard in the one after.
        assert len(steps) == step + (1 if within else 2), f"it stopped after {len(steps)} steps"
        steps += train(data, output, {})
        wrong += [f"stopped at {stop}: step {one['step']}" for one, other in zip(expected_steps, steps) if one != other]
        found = last_checkpoint(output)
        for name in expected.keys() | found.keys():
            one, other = expected.get(name), found.get(name)
            same = torch.equal(one, other) if torch.is_tensor(one) and torch.is_tensor(other) else one == other
            wrong += [] if same else [f"stopped at {stop}: {name}"]
    return wrong


if __name__ == "__main__":
    if found := differences(sys.argv[1], Path(sys.argv[2]), sys.argv[3:]):
        sys.exit("\n".join(found[:20]))
