"""Started by torchrun: the drift with captions on shares of a fixed batch; each rank writes its part to FOLDER/RANK."""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import Tensor

from dinogen.objectives import Captions
from dinogen.objectives.sinkhorn import SinkhornDrift

WAYS = {"whole": (1, False), "banded": (2, False), "local": (1, True), "local banded": (2, True)}


def gradients(rank: int, world_size: int) -> dict[str, Tensor]:
    """The gradient at this rank's features, scaled to the whole batch, for each way."""
    found = {}
    for way, (bands, local) in WAYS.items():
        rng = torch.Generator().manual_seed(1)

        def share(*shape: int, rng: torch.Generator = rng) -> Tensor:
            return torch.randn(*shape, generator=rng).chunk(world_size)[rank]

        generated = {"cls": share(8, 6).requires_grad_(), "l1_3x3": share(8, 6, 3, 3).requires_grad_()}
        real = {"cls": share(16, 6) + 1, "l1_3x3": share(16, 6, 3, 3) * 2}
        captions = [share(count, 4) * (share(count, 1) > -1) for count in (8, 16)]
        alphas = 1 + share(8).abs()
        axes = {"cls": torch.randn(1, 4, 3, generator=rng), "l1_3x3": torch.randn(9, 4, 3, generator=rng)}
        words = Captions(captions[0], captions[1], alphas, axes if local else None)
        result = SinkhornDrift((0.2, 1.0), bands=bands)(generated, real, words)
        result.loss.backward()
        for name, level in generated.items():
            assert level.grad is not None
            found[f"{way}/{name}"] = level.grad / world_size
    return found


def main() -> None:
    dist.init_process_group("gloo")
    found = gradients(dist.get_rank(), dist.get_world_size())
    save_file(found, Path(sys.argv[1]) / f"{dist.get_rank()}.safetensors")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
