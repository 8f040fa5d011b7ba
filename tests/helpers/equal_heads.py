"""Started by torchrun: heads learn from shares of fixed images; every rank writes what it ended with to FOLDER/RANK."""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import Tensor

from dinogen.config import HeadsConfig
from dinogen.objectives import Surroundings
from dinogen.objectives.heads import HeadsTerm
from dinogen.teachers import make_teacher

STEPS = 3
BATCH = 4


def train_heads(rank: int, world_size: int) -> dict[str, Tensor]:
    """The heads after a few steps, and the generator's gradient on this rank's images, scaled to the whole batch."""
    teacher = make_teacher("tiny")
    surroundings = Surroundings(teacher.specs, teacher, torch.device("cpu"), seed=0)
    term = HeadsTerm(HeadsConfig(weight=1.0), surroundings, channels=8)
    rng = torch.Generator().manual_seed(1)
    for _ in range(STEPS):
        images, reals = (torch.rand(BATCH, 3, 32, 32, generator=rng) * 2 - 1 for _ in range(2))
        own = images.chunk(world_size)[rank].clone().requires_grad_(True)
        result = term.judge(own, reals.chunk(world_size)[rank] ** 2)
        result.loss.backward()
    ended = {name: value.detach().clone() for name, value in term.heads.state_dict().items()}
    return ended | {"gradient": own.grad / world_size, "loss": result.statistics["heads/heads"].detach()}


def main() -> None:
    dist.init_process_group("gloo")
    ended = train_heads(dist.get_rank(), dist.get_world_size())
    save_file(ended, Path(sys.argv[1]) / f"{dist.get_rank()}.safetensors")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
