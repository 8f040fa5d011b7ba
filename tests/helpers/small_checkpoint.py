"""Checkpoints of a generator of 8×8 pixels, 110 kB each, without a trainer."""

from pathlib import Path

import torch

from dinogen.networks import Generator
from dinogen.train.checkpoint import (
    expected_files,
    list_checkpoints,
    optimizer_tensors,
    random_states,
    save_checkpoint,
)

STATE = {"cur_step": 1, "world_size": 1, "loader": {"epoch": 0, "position": 8}, "bank_resolution": 4, "scaler": None}


def small_generator() -> Generator:
    return Generator(img_resolution=8, z_dim=8, w_dim=8, mapping_layers=1, channel_base=32, channel_max=8)


LEVELS = {"cls": (4,), "l1_2x2": (4, 2, 2)}
EXPECTED = expected_files(small_generator(), small_generator(), LEVELS)


def contents() -> dict[str, dict[str, torch.Tensor]]:
    """The tensors of a trainer that has taken one step at 4×4."""
    network = small_generator()
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.randn(2, 8), 4).square().sum().backward()
    optimizer.step()
    device = torch.device("cpu")
    return {
        "generator": network.state_dict(),
        "ema": network.state_dict(),
        "optimizer": optimizer_tensors(optimizer, network),
        "random": {"latents": torch.get_rng_state(), "ranks": random_states(device)[None]},
        "banks": {f"real/0/{name}": torch.randn(3, *shape) for name, shape in LEVELS.items()},
    }


def save(folder: Path, *clocks: int, **options) -> None:
    """Write checkpoints at these clocks, each of another generator."""
    for cur_nimg in clocks:
        save_checkpoint(folder, cur_nimg, contents(), STATE, **options)


def names(folder: Path) -> list[int]:
    """The clocks of a folder's checkpoints."""
    return [int(path.name.removeprefix("nimg")) for path in list_checkpoints(folder)]
