"""The random numbers of a run, which continue after a resume as if nothing had happened."""

from collections.abc import Mapping

import torch
from torch import Tensor

from dinogen.distributed import gather_rows, rank, world_size
from dinogen.errors import DinogenError, first_line
from dinogen.kept import Kept
from dinogen.tensor_files import Shapes


class Randomness(Kept):
    """The latents' generator, the same on all ranks, and torch's own states of each rank.

    Args:
        seed: of the latents.
        device: this rank's.
    """

    file = "random"

    def __init__(self, seed: int, device: torch.device):
        self.latents = torch.Generator().manual_seed(seed)
        self.device = device

    def tensors(self) -> dict[str, Tensor]:
        """`latents`, one state, and `ranks`, a row for each rank."""
        states = gather_rows(random_states(self.device)[None].to(self.device)).cpu()
        return {"latents": self.latents.get_state(), "ranks": states}

    def expected(self) -> Shapes:
        return {"latents": ((len(torch.get_rng_state()),), torch.uint8), "ranks": ((None, None), torch.uint8)}

    def misfit(self, tensors: Mapping[str, Tensor]) -> str | None:
        states = [tensors["latents"], *tensors["ranks"]]
        try:
            for state in states:  # cloned, because a part of a tensor crashes torch
                torch.Generator().set_state(state[: len(tensors["latents"])].clone())
        except RuntimeError as error:
            return f"no random state ({first_line(error)})"
        return None

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """With another number of ranks, torch's own states stay what they are."""
        self.latents.set_state(tensors["latents"])
        if len(tensors["ranks"]) == world_size():
            restore_random_states(tensors["ranks"][rank()], self.device)

    def nbytes(self) -> int:
        return (1 + world_size()) * len(random_states(self.device))


def random_states(device: torch.device) -> Tensor:
    """This rank's torch RNG states (CPU, then CUDA where used) as one row of bytes."""
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    return torch.cat(states)


def restore_random_states(row: Tensor, device: torch.device) -> None:
    """The inverse of `random_states`; a row of a machine with other devices restores the CPU part only.

    Raises:
        DinogenError: the CUDA part is not one of this device's.
    """
    cpu_bytes = len(torch.get_rng_state())
    torch.set_rng_state(row[:cpu_bytes].cpu().clone())  # a part of a tensor crashes torch
    if device.type == "cuda" and len(row) > cpu_bytes:
        try:
            torch.cuda.set_rng_state(row[cpu_bytes:].cpu().clone(), device)
        except RuntimeError as error:
            raise DinogenError(f"random.safetensors: no state of {device} ({first_line(error)})") from error
