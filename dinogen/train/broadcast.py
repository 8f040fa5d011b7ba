"""What the first rank reads, all ranks get: the others need not see its disk."""

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from dinogen.distributed import entering_exchange, rank
from dinogen.errors import DinogenError


def from_first_rank(read: Callable[[], Any], device: torch.device) -> Any:
    """What `read` returns on the first rank, on all of them: dicts, lists and tuples of tensors (CPU) and plain values.

    Args:
        read: called on the first rank alone.
        device: where this process group sends tensors from.

    Raises:
        DinogenError: what `read` met, on all ranks alike.
    """
    tensors: list[Tensor] = []
    error, skeleton = None, None
    if rank() == 0:
        try:
            skeleton = take_out(read(), tensors)
        except DinogenError as caught:
            error = caught
    if entering_exchange():
        sent = [(error and str(error), skeleton, [(value.shape, value.dtype) for value in tensors])]
        dist.broadcast_object_list(sent, src=0, device=device)
        message, skeleton, kinds = sent[0]
        error = error or (DinogenError(message) if message else None)
        tensors = [send(tensors[index] if rank() == 0 else torch.empty(shape, dtype=dtype), device)
                   for index, (shape, dtype) in enumerate(kinds)]  # fmt: skip
    if error:
        raise error
    return put_back(skeleton, tensors)


def send(value: Tensor, device: torch.device) -> Tensor:
    """One tensor from the first rank to all."""
    value = value.to(device)
    dist.broadcast(value, src=0)
    return value.cpu()


class Place(int):
    """Stands for a tensor: its number among those taken out."""


def take_out(value: Any, tensors: list[Tensor]) -> Any:
    """A copy of nested dicts, lists and tuples in which each tensor was moved to `tensors`."""
    if isinstance(value, Tensor):
        tensors.append(value)
        return Place(len(tensors) - 1)
    if isinstance(value, dict):
        return {key: take_out(item, tensors) for key, item in value.items()}
    return type(value)(take_out(item, tensors) for item in value) if isinstance(value, list | tuple) else value


def put_back(value: Any, tensors: list[Tensor]) -> Any:
    """The inverse of `take_out`."""
    if isinstance(value, Place):
        return tensors[value]
    if isinstance(value, dict):
        return {key: put_back(item, tensors) for key, item in value.items()}
    return type(value)(put_back(item, tensors) for item in value) if isinstance(value, list | tuple) else value
