"""Judges and real images that samples are compared with while a run trains, with the work shared by all ranks."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from dinogen.data.folder import open_folder
from dinogen.data.loader import load_captioned_crops
from dinogen.distributed import gather_rows, rank, world_size
from dinogen.evaluate.detector import Detector
from dinogen.evaluate.judge import ImageSet, Judges, images_a_set, reduce_to
from dinogen.evaluate.reference import Reals
from dinogen.images import to_float, to_uint8
from dinogen.networks import Generator
from dinogen.pyramid import Pyramid
from dinogen.sample import BATCH_SIZE, WordsOf, latents
from dinogen.schedule import Stage

TEACHER = "teacher"  # ends the names of figures on what the teacher sees
SEED = 0  # of the samples: the same ones each time, and those that `dinogen evaluate` draws unless told otherwise


class Jury:
    """Draws samples and looks at images. All ranks make the same calls; each takes its share of the images.

    Args:
        data: the shards of training, whose crops are compared with.
        count: samples; fewer where there are not twice as many crops, or the ranks could not take equal shares.
        resolution: of the finished images.
        device: where all of it computes.
        look: the teacher, in the precision of training; a collective where it is sharded. None: nobody asks what it
            sees, nor for faces.

    Raises:
        DinogenError: too few crops.
    """

    def __init__(
        self,
        data: Path,
        count: int,
        resolution: int,
        device: torch.device,
        look: Callable[[Tensor], Pyramid] | None = None,
    ):
        self.look, self.device = look, device
        self.judges = Judges(Detector(device))
        # Checking whole shards would take minutes on big data; the loader does check what it reads.
        side = min(resolution, open_folder(data).manifest().crop_size)
        self.reals = Reals(*load_captioned_crops(data, 2 * count, side, verify="size"))
        self.share = max(1, images_a_set(count, len(self.reals.images)) // world_size())
        self.count = self.share * world_size()
        self.seen_at: dict[int, tuple[ImageSet, ImageSet]] = {}

    def reals_at(self, resolution: int) -> tuple[ImageSet, ImageSet]:
        """The reference, `count` images, and as many others; looked at once for each resolution."""
        if resolution not in self.seen_at:
            halves = self.reals.images[: 2 * self.count].split(self.count)
            reference, others = (reduce_to(half.split(self.share)[rank()], resolution) for half in halves)
            whole = self.look is not None
            self.seen_at = {resolution: (self.seen(reference, teacher=whole), self.seen(others, whole, whole))}
        return self.seen_at[resolution]

    def seen(self, images: Tensor, teacher: bool = False, faces: bool = False) -> ImageSet:
        """What judges make of all ranks' images, and the teacher if it is asked; each rank brings its share."""
        own = self.judges.look_at(images)
        if teacher:
            own.features[TEACHER] = self.class_tokens(images)
        if faces:
            own.faces = self.judges.detector.face_probabilities(images, desc="")
        return ImageSet(
            self.gathered(own.pixels),
            {name: self.gathered(values) for name, values in own.features.items()},
            self.gathered(own.faces),
        )

    @torch.no_grad()
    def class_tokens(self, images: Tensor) -> Tensor:
        """What the teacher makes of this rank's images, float64 `[n, C]`."""
        assert self.look is not None
        batches = images.split(BATCH_SIZE)
        return torch.cat([self.look(to_float(some.to(self.device)))["cls"].double().cpu() for some in batches])

    def gathered(self, rows: Tensor) -> Tensor:
        """All ranks' rows, on the CPU."""
        return gather_rows(rows.to(self.device)).cpu()

    @torch.no_grad()
    def draw(self, generator: Generator, stage: Stage, words_of: WordsOf | None) -> Tensor:
        """This rank's samples, uint8 `[share, 3, R, R]`; None draws them without words."""
        start, drawn = rank() * self.share, []
        for first in range(start, start + self.share, BATCH_SIZE):
            count = min(BATCH_SIZE, start + self.share - first)
            words = None if words_of is None else words_of(first, count)
            z = latents(SEED, first, count, generator.z_dim)
            drawn.append(to_uint8(generator(z, stage.resolution, stage.alpha, words=words)))
        return torch.cat(drawn)
