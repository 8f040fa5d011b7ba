"""Everything that ranks say to each other; with one process these are no-ops."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from accelerate.utils import broadcast, broadcast_object_list, recursively_apply
from torch import Tensor

from dinogen.errors import DinogenError

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


def share_of(count: int, of_rank: int | None = None) -> slice:
    """Which of a number of things a rank takes, this one by default: equally many, the first ranks one more."""
    at, ranks = rank() if of_rank is None else of_rank, world_size()
    each, rest = divmod(count, ranks)
    return slice(at * each + min(at, rest), (at + 1) * each + min(at + 1, rest))


def gather_rows(x: Tensor) -> Tensor:
    """The tensors of all ranks joined along the first dimension in rank order, without gradient. Shapes must agree."""
    x = x.detach().contiguous()
    if not entering_exchange():
        return x
    parts = [torch.empty_like(x) for _ in range(world_size())]
    dist.all_gather(parts, x)
    return torch.cat(parts)


def rows_to_problems(x: Tensor) -> Tensor:
    """From some rows of all problems to all rows of some problems, without gradient.

    Args:
        x: `[L, n, C]`, this rank's rows of L problems; shapes must agree among the ranks.

    Returns:
        `[l, ranks · n, C]`, the rows of all ranks in rank order, of this rank's `share_of` the problems.
    """
    x = x.detach().contiguous()
    if not entering_exchange():
        return x
    shares, mine = _shares(len(x))
    received = x.new_empty(world_size() * mine, *x.shape[1:])
    dist.all_to_all_single(received, x, [mine] * world_size(), shares)
    return received.unflatten(0, (world_size(), mine)).transpose(0, 1).flatten(1, 2)


def problems_to_rows(x: Tensor, count: int) -> Tensor:
    """The way back: from `[l, ranks · n, C]`, this rank's share of `count` problems, to all its rows, `[L, n, C]`."""
    x = x.detach()
    if not entering_exchange():
        return x
    shares, mine = _shares(count)
    sent = x.unflatten(1, (world_size(), -1)).transpose(0, 1).flatten(0, 1).contiguous()
    received = x.new_empty(count, *sent.shape[1:])
    dist.all_to_all_single(received, sent, shares, [mine] * world_size())
    return received


def _shares(count: int) -> tuple[list[int], int]:
    """How many of a number of things each rank takes, and this one."""
    parts = [share_of(count, of_rank) for of_rank in range(world_size())]
    shares = [part.stop - part.start for part in parts]
    return shares, shares[rank()]


def sum_over_ranks(x: Tensor) -> Tensor:
    """The sum of all ranks' tensors, without gradient."""
    x = x.detach().clone()
    if entering_exchange():
        dist.all_reduce(x)
    return x


def means_over_ranks(scalars: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Every scalar averaged over the ranks, without gradient, in one exchange."""
    values = sum_over_ranks(torch.stack(list(scalars.values()))) / world_size()
    return dict(zip(scalars, values))


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


def from_first_rank(read: Callable[[], Any], device: torch.device) -> Any:
    """What `read` returns on the first rank, on all of them: dicts, lists and tuples of tensors (CPU) and plain values.

    Args:
        read: called on the first rank alone.
        device: where this process group sends tensors from.

    Raises:
        DinogenError: what `read` met, on all ranks alike.
    """
    error, value = None, None
    if rank() == 0:
        try:
            value = read()
        except DinogenError as caught:
            error = caught
    if entering_exchange():
        # Tensors travel as tensors: pickled they would have to lie in memory several times.
        shapes = recursively_apply(lambda tensor: tensor.to("meta"), value)
        error, shapes = broadcast_object_list([error, shapes])
        if rank() != 0:
            value = recursively_apply(lambda tensor: torch.empty_like(tensor, device="cpu"), shapes)
        send: Any = broadcast
        value = recursively_apply(lambda tensor: send(tensor.to(device)).cpu(), value)
    if error:
        raise error
    return value
