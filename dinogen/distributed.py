"""The few exchanges between ranks; with one process they are no-ops."""

from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

Value = TypeVar("Value")

# How many milestones this rank has passed: exchanges that it entered, parts of a step that it did. All ranks pass the
# same ones, so one that hangs has passed fewer than those that wait for it.
milestones = 0


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def pass_milestone() -> None:
    """Note that this rank's main thread has come further."""
    global milestones
    milestones += 1


def entering_exchange() -> bool:
    """Whether there is anybody to exchange with; a milestone."""
    pass_milestone()
    return world_size() > 1


def gather_rows(x: Tensor, dim: int = 0) -> Tensor:
    """The tensors of all ranks joined along `dim` in rank order, without gradient. Shapes must agree."""
    x = x.detach().contiguous()
    if not entering_exchange():
        return x
    parts = [torch.empty_like(x) for _ in range(world_size())]
    dist.all_gather(parts, x)
    return torch.cat(parts, dim=dim)


def sum_over_ranks(x: Tensor) -> Tensor:
    """The sum of all ranks' tensors, without gradient."""
    x = x.detach().clone()
    if entering_exchange():
        dist.all_reduce(x)
    return x


def max_over_ranks(x: Tensor) -> Tensor:
    """The greatest of all ranks' tensors, element by element, without gradient."""
    x = x.detach().clone()
    if entering_exchange():
        dist.all_reduce(x, op=dist.ReduceOp.MAX)
    return x


def any_rank(flag: bool, device: torch.device) -> bool:
    """Whether the flag is set on any rank; the same answer on all."""
    if world_size() == 1:
        return flag
    return bool(sum_over_ranks(torch.tensor(float(flag), device=device)).item())


def gather_objects(value: Value) -> list[Value]:
    """The values of all ranks, in rank order, on all of them."""
    values = [value] * world_size()
    if entering_exchange():
        dist.all_gather_object(values, value)
    return values
