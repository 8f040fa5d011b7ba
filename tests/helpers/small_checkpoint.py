"""Checkpoints of a generator of 8×8 pixels, 110 kB each, without a trainer."""

from pathlib import Path

import torch

from dinogen.kept import Kept, KeptAdam, KeptModule
from dinogen.networks import Generator
from dinogen.train.checkpoint import list_checkpoints, save_checkpoint
from dinogen.train.randomness import Randomness

STATE = {"cur_step": 1, "world_size": 1, "loader": {"epoch": 0, "position": 8}, "scaler": None}


def small_generator() -> Generator:
    return Generator(img_resolution=8, z_dim=8, w_dim=8, mapping_layers=1, channel_base=32, channel_max=8)


def kept_by_a_trainer() -> list[Kept]:
    """The parts of a trainer that has taken one step at 4×4."""
    network = small_generator()
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.randn(2, 8), 4).square().sum().backward()
    optimizer.step()
    return [
        KeptModule("generator", network),
        KeptModule("ema", network),
        KeptAdam("optimizer", optimizer, network),
        Randomness(0, torch.device("cpu")),
    ]


KEPT = kept_by_a_trainer()


def contents() -> dict[str, dict[str, torch.Tensor]]:
    """The tensors of such a trainer, by file."""
    return {part.file: part.tensors() for part in kept_by_a_trainer()}


def save(folder: Path, *clocks: int, **options) -> None:
    """Write checkpoints at these clocks, each of another generator."""
    for cur_nimg in clocks:
        save_checkpoint(folder, cur_nimg, contents(), STATE, **options)


def names(folder: Path) -> list[int]:
    """The clocks of a folder's checkpoints."""
    return [int(path.name.removeprefix("nimg")) for path in list_checkpoints(folder)]
