"""Started by torchrun: two ranks share a teacher and compare its pyramids and gradients with a whole one's."""

import sys

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh

from dinogen.teachers import Teacher, make_teacher, shard_teacher


def seen(teacher: Teacher, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """The pyramid of images, and a gradient at them."""
    images = images.clone().requires_grad_(True)
    pyramid = teacher(images)
    torch.stack([level.square().sum() for level in pyramid.values()]).sum().backward()
    assert images.grad is not None
    return {name: level.detach() for name, level in pyramid.items()} | {"gradient": images.grad}


def main(*folders: str) -> None:
    dist.init_process_group("gloo")
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(dist.get_rank())) * 2 - 1
    for folder in folders:
        whole = make_teacher(folder, levels=[1, 8])
        shared = shard_teacher(make_teacher(folder, levels=[1, 8]), init_device_mesh("cpu", (2,)))
        torch.testing.assert_close(seen(shared, images), seen(whole, images))
        for part, block in zip(shared.blocks, whole.blocks):
            held = sum(parameter.to_local().numel() for parameter in part.parameters())
            assert held == sum(parameter.numel() for parameter in block.parameters()) / 2
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
