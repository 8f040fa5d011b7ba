"""Features of earlier steps, kept on the device: more to compare with, at no pass through the teacher."""

from collections import deque
from collections.abc import Mapping

import torch
from torch import Tensor

from dinogen.distributed import gather_rows, share_of, world_size
from dinogen.pyramid import Pyramid


class FeatureBank:
    """The pyramids of the latest batches, as many whole batches as there is room for.

    Each rank keeps its own share of each batch. What all of them hold together is the same for any number of ranks,
    and an objective that gathers its inputs sees all of it.

    Args:
        capacity: images of all ranks together; 0 keeps none.
    """

    def __init__(self, capacity: int):
        self.capacity = capacity
        self._batches: deque[Pyramid] = deque()
        self._offered: list[Pyramid] = []

    def __len__(self) -> int:
        """Images of all ranks together."""
        return world_size() * sum(len(batch["cls"]) for batch in self._batches)

    def clear(self) -> None:
        self._batches.clear()

    def add(self, pyramid: Pyramid) -> None:
        """Keep this rank's share of a batch, `[n, …]`, and drop the oldest batches beyond the capacity."""
        size = world_size() * len(pyramid["cls"])
        if size > self.capacity:
            return
        while len(self) + size > self.capacity:
            self._batches.popleft()
        self._batches.append(pyramid)

    def offer(self, pyramid: Pyramid) -> None:
        """Have a batch ready, for `settle` to decide on."""
        if self.capacity:
            self._offered.append({name: level.detach() for name, level in pyramid.items()})

    def settle(self, keep: bool) -> None:
        """Add what has been offered, or forget it."""
        for pyramid in self._offered if keep else ():
            self.add(pyramid)
        self._offered.clear()

    def beside(self, pyramid: Pyramid) -> Pyramid:
        """A batch's pyramid with the bank's images, image by image: the first of each batch, the second of each …

        So all ranks together hold the same images in the same order, whatever their number. Batches of another size,
        as after a change of the config, are left out.
        """
        alike = [batch for batch in self._batches if len(batch["cls"]) == len(pyramid["cls"])]
        return {
            name: torch.stack([level, *(batch[name] for batch in alike)], dim=1).flatten(0, 1)
            for name, level in pyramid.items()
        }

    def content(self) -> Pyramid | None:
        """This rank's share of the bank as one pyramid, None when it is empty."""
        if not self._batches:
            return None
        return {name: torch.cat([batch[name] for batch in self._batches]) for name in self._batches[0]}

    def gathered(self) -> dict[str, Tensor]:
        """The batches of all ranks as `NUMBER/LEVEL` `[N, …]`, the same for any number of ranks. Call on all of them."""
        return {
            f"{number}/{name}": gather_rows(level)
            for number, batch in enumerate(self._batches)
            for name, level in batch.items()
        }

    def restore(self, tensors: Mapping[str, Tensor], device: torch.device) -> None:
        """The inverse of `gathered`, for any number of ranks and any capacity."""
        batches: dict[int, Pyramid] = {}
        for key, level in tensors.items():
            number, name = key.split("/")
            batches.setdefault(int(number), {})[name] = level
        for _, batch in sorted(batches.items()):
            if len(batch["cls"]) % world_size() == 0:
                part = share_of(len(batch["cls"]))
                self.add({name: level[part].to(device, copy=True) for name, level in batch.items()})


class FeatureBanks:
    """A run's banks: of real images, and of generated ones.

    Args:
        real: capacity in images, all ranks together.
        generated: likewise.
    """

    def __init__(self, real: int, generated: int):
        self.real, self.generated = FeatureBank(real), FeatureBank(generated)
        self.resolution: int | None = None

    def enter_stage(self, resolution: int) -> None:
        """Forget everything if the images had another resolution: their features are of another distribution."""
        if resolution != self.resolution:
            self.real.clear()
            self.generated.clear()
            self.resolution = resolution

    def settle(self, keep: bool) -> None:
        """Add what the step has offered to both, or forget it: a step that was skipped leaves them as they were."""
        self.real.settle(keep)
        self.generated.settle(keep)

    def gathered(self) -> dict[str, Tensor]:
        """For a checkpoint: `BANK/NUMBER/LEVEL` to `[N, …]`, the same for any number of ranks. Call on all of them."""
        return {
            f"{name}/{key}": level
            for name, bank in (("real", self.real), ("generated", self.generated))
            for key, level in bank.gathered().items()
        }

    def restore(self, tensors: Mapping[str, Tensor], resolution: int | None, device: torch.device) -> None:
        """The inverse of `gathered`; a checkpoint without banks leaves them empty."""
        self.enter_stage(resolution)
        for name, bank in (("real", self.real), ("generated", self.generated)):
            of_bank = {key.removeprefix(f"{name}/"): level for key, level in tensors.items() if key.startswith(name)}
            bank.restore(of_bank, device)
