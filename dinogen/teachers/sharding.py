"""A teacher's weights split over the ranks, for teachers that one device cannot hold beside the rest."""

import warnings

from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard

from dinogen.teachers.base import Teacher

SHARD_FROM_WIDTH = 1024  # `auto` shards from ViT-L up: below it, gathering costs more than it saves


def wants_sharding(teacher: Teacher, mode: str, world_size: int) -> bool:
    """Whether `teacher.shard` (`none`, `fsdp` or `auto`) means sharding for this teacher and number of ranks."""
    large = teacher.backbone.width >= SHARD_FROM_WIDTH
    return world_size > 1 and (mode == "fsdp" or mode == "auto" and large)


def shard_teacher(teacher: Teacher, mesh: DeviceMesh) -> Teacher:
    """Split a teacher's parameters over the ranks of `mesh`, block by block, in place.

    From then on every forward is a collective: all ranks must make the same calls. The generator must not
    contain the teacher, and `accelerator.prepare` must not see it.
    """
    # It warns of changing a pyramid's tensors in place, which nobody does.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
    for block in teacher.blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(teacher, mesh=mesh)
    return teacher
