"""The few collectives that the objective needs; with one process they are no-ops."""

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def gather_rows(x: Tensor, dim: int = 0) -> Tensor:
    """The tensors of all ranks joined along `dim` in rank order, without gradient. Shapes must agree."""
    x = x.detach().contiguous()
    if world_size() == 1:
        return x
    parts = [torch.empty_like(x) for _ in range(world_size())]
    dist.all_gather(parts, x)
    return torch.cat(parts, dim=dim)


def sum_over_ranks(x: Tensor) -> Tensor:
    """The sum of all ranks' tensors, without gradient."""
    x = x.detach().clone()
    if world_size() > 1:
        dist.all_reduce(x)
    return x


def any_rank(flag: bool, device: torch.device) -> bool:
    """Whether the flag is set on any rank; the same answer on all."""
    if world_size() == 1:
        return flag
    return bool(sum_over_ranks(torch.tensor(float(flag), device=device)).item())


def gather_objects(value: str) -> list[str]:
    """The strings of all ranks, in rank order, on all of them."""
    values = [value] * world_size()
    if world_size() > 1:
        dist.all_gather_object(values, value)
    return values
