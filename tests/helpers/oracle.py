"""Started by tests on several ranks: the loss and the generator's gradient of single steps, for each way to train.

python oracle.py DATA OUTPUT RESULT.safetensors WAY…
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from dinogen.train import trainer as training
from launch.train import build_parser, make_config

WAYS = {
    "masked": ["--objective.temperatures=[0.05,0.2]"],
    "heads": ["--heads.weight=1", "--heads.rampup_kimg=0"],
    "banded": ["--objective.bands=4"],
    "kernel": ["--objective.name=kernel"],
    "frechet": ["--frechet.weight=1"],
    "paired": ["--objective.name=paired"],
    "coded": ["--warmup.stage_kimg={32: 1}", "--warmup.batch=8"],
    "text": ["--words.encoder=embedded"],
    "previous": ["--words.encoder=embedded", "--objective.negatives=previous"],
    "sliced": ["--slices.weight=100"],
    "accumulated": ["--batches.accumulation=2"],
}
COMMON = [
    "--generator.channel_base=256", "--generator.channel_max=32", "--generator.z_dim=16", "--generator.w_dim=16",
    "--batches.generated=8", "--batches.real=20", "--schedule.start_resolution=32",
    # The weights stay, so that the third step compares the same ones.
    "--optimizer.learning_rate=1e-30",
]  # fmt: skip


def main(data: str, output: str, result: str, *ways: str) -> None:
    training.CLIP_GRAD_NORM = 1e9
    found = {}
    for way in ways:
        for shard in ("none", "fsdp"):
            parser = build_parser()
            flags = [
                "--data",
                data,
                "--output",
                f"{output}/{way}-{shard}",
                f"--teacher.shard={shard}",
                *COMMON,
                *WAYS[way],
            ]
            trainer = training.Trainer(make_config(parser, parser.parse_args(flags)))
            gradient = {}

            def keep(verdict, trainer=trainer, gradient=gradient):
                named = trainer.network.named_parameters()
                # A run without guidance leaves its parameters alone.
                gradient.update({name: p.grad.clone() for name, p in named if name != "caption.guidance.weight"})
                trainer.optimizer.zero_grad()

            trainer.learn = keep
            steps = trainer.one_stage()
            for _ in range(3):
                scalars = trainer.train_step(*next(steps))
            key = f"{way}-{shard}"
            found[f"{key}/loss"] = torch.tensor(scalars["loss"], dtype=torch.float64)
            found[f"{key}/gradient"] = torch.cat([gradient[name].flatten() for name in sorted(gradient)])
            parameters = [getattr(p, "to_local", lambda p=p: p)() for p in trainer.teacher.parameters()]
            found[f"{key}/teacher_bytes"] = torch.tensor(sum(p.numel() * p.element_size() for p in parameters))
    if trainer.is_main:
        save_file(found, result)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))
    main(*sys.argv[1:])
