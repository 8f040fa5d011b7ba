"""What a run keeps in its checkpoints: parts with one interface, each with a file of its own."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from dinogen.tensor_files import Shapes, shapes_of


class Kept:
    """One part. It is the same on all ranks, unless it says otherwise.

    Attributes:
        file: stem of its file in a checkpoint.
        joins_late: an older checkpoint, and one from before it had anything to keep, may be without it.
        may_lack_groups: tensors named GROUP/NAME may be absent, a whole group together.
    """

    file = ""
    joins_late = False
    may_lack_groups = False

    def tensors(self) -> dict[str, Tensor]:
        """Everything that an equal continuation needs. Call on all ranks."""
        raise NotImplementedError

    def expected(self) -> Shapes:
        """Names, shapes and types of `tensors`; None stands for any length or type."""
        raise NotImplementedError

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """The inverse of `tensors`, which have been compared with `expected`.

        Raises:
            DinogenError: they do not fit all the same; says why.
        """
        raise NotImplementedError

    def misfit(self, tensors: Mapping[str, Tensor]) -> str | None:
        """What else is wrong with tensors that a file held, in a few words, though names and shapes are right."""
        return None

    def nbytes(self) -> int:
        """Bytes of its file, about."""
        return nbytes_of(self.expected())


def nbytes_of(shapes: Shapes) -> int:
    """Bytes of tensors; those of unknown length count nothing."""
    sizes = (math.prod(n or 0 for n in shape) * (dtype or torch.float32).itemsize for shape, dtype in shapes.values())
    return sum(sizes)


class KeptModule(Kept):
    """A network's weights."""

    def __init__(self, file: str, module: nn.Module):
        self.file, self.module = file, module

    def tensors(self) -> dict[str, Tensor]:
        return self.module.state_dict()

    def expected(self) -> Shapes:
        return shapes_of(self.module.state_dict())

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        self.module.load_state_dict(tensors)


class KeptAdam(Kept):
    """An Adam's state: `PARAMETER/exp_avg` and so on. Parameters that have not moved yet are absent."""

    may_lack_groups = True

    def __init__(self, file: str, optimizer: Optimizer, module: nn.Module):
        self.file, self.optimizer, self.module = file, optimizer, module

    def tensors(self) -> dict[str, Tensor]:
        return {
            f"{name}/{key}": value
            for name, parameter in self.module.named_parameters()
            for key, value in self.optimizer.state.get(parameter, {}).items()
        }

    def expected(self) -> Shapes:
        return {
            f"{name}/{key}": (tuple(parameter.shape) if key != "step" else (), torch.float32)
            for name, parameter in self.module.named_parameters()
            for key in ("step", "exp_avg", "exp_avg_sq")
        }

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        index_of = {name: index for index, (name, _) in enumerate(self.module.named_parameters())}
        restored = self.optimizer.state_dict()
        for name, value in tensors.items():
            parameter, key = name.rsplit("/", 1)
            restored["state"].setdefault(index_of[parameter], {})[key] = value
        self.optimizer.load_state_dict(restored)
        for parameter, state in self.optimizer.state.items():
            for key, value in state.items():
                if value.shape == parameter.shape:  # a fused step relies on the parameters' memory layout
                    state[key] = torch.empty_like(parameter).copy_(value)


def with_prefix(prefix: str, tensors: Mapping) -> dict:
    """The same values, their names behind `prefix`."""
    return {prefix + name: value for name, value in tensors.items()}


def without_prefix(prefix: str, tensors: Mapping) -> dict:
    """The values whose names begin with `prefix`, which is taken off: the inverse of `with_prefix`."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
