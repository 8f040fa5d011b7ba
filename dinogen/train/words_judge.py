"""Whether words steer a run's generator yet, at each snapshot: R-precision as of `dinogen evaluate`."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dinogen.config import RunConfig
from dinogen.data.folder import open_folder
from dinogen.data.loader import load_captioned_crops
from dinogen.distributed import gather_rows, rank, world_size
from dinogen.evaluate.captions import CaptionJudge
from dinogen.evaluate.detector import Detector
from dinogen.evaluate.judge import FEWEST, ImageSet, Judges, images_a_set, reduce_to
from dinogen.evaluate.reference import Reals
from dinogen.evaluate.words import texts_of_samples
from dinogen.images import to_uint8
from dinogen.networks import Generator
from dinogen.reader import Reader
from dinogen.sample import BATCH_SIZE, WordsOf, latents
from dinogen.schedule import Stage

SEED = 0  # of the samples: the same ones each time, and those that `dinogen evaluate` draws unless told otherwise


class WordsJudge:
    """Judges samples that are drawn with captions of real images. All ranks make the same calls; each draws a share.

    Args:
        data: the shards of training.
        count: samples; fewer where there are not twice as many crops, or the ranks could not take equal shares.
        resolution: of the finished images.
        reader: of the captions; it is fitted before anything is measured.
        device: where all of it computes.

    Raises:
        DinogenError: too few crops.
    """

    def __init__(self, data: Path, count: int, resolution: int, reader: Reader, device: torch.device):
        self.reader, self.device = reader, device
        self.judges = Judges(Detector(device))
        # Checking whole shards would take minutes on big data; the loader does check what it reads.
        side = min(resolution, open_folder(data).manifest().crop_size)
        self.reals = Reals(*load_captioned_crops(data, 2 * count, side, verify="size"))
        self.share = max(1, images_a_set(count, len(self.reals.images)) // world_size())
        self.count = self.share * world_size()
        self.texts = texts_of_samples(self.reals.texts(), self.count, self.count)
        self.words_of = reader.in_turn(self.texts)
        self.fitted: dict[int, CaptionJudge | None] = {}

    def measure(self, generator: Generator, stage: Stage) -> dict[str, Any]:
        """`r_precision` and `caption_rank`, with `real_against_real`; nothing where the captions are too few."""
        return self.figures(self.seen(draw_share(generator, stage, self.share, self.words_of)), stage.resolution)

    def figures(self, samples: ImageSet, resolution: int) -> dict[str, Any]:
        """`measure` for all ranks' samples, drawn as `draw_share` does it."""
        if (judge := self.judge_at(resolution)) is None or not any(self.texts):
            return {}
        ours, _ = judge.figures(samples, self.texts)
        real, _ = judge.judged(judge.reals[self.count : 2 * self.count], self.texts)
        return ours | {"real_against_real": real}

    def judge_at(self, resolution: int) -> CaptionJudge | None:
        """Fitted to real images of a resolution, once for each; None where too few have captions."""
        if resolution not in self.fitted:
            # Each rank looks at a part of the reference and at a part of the others, which are gathered in order.
            halves = self.reals.images[: 2 * self.count].split(self.count)
            parts = [self.seen(reduce_to(half.split(self.share)[rank()], resolution)) for half in halves]
            self.fitted = {
                resolution: CaptionJudge.fit(parts[0].joined(parts[1]), self.reals.captions[: 2 * self.count])
            }
        return self.fitted[resolution]

    def seen(self, images: Tensor) -> ImageSet:
        """What the detector makes of all ranks' images; each brings its share."""
        own = self.judges.look_at(images)
        pixels, features = (gather_rows(rows.to(self.device)).cpu() for rows in (own.pixels, own.detected))
        return ImageSet(pixels, {"detector": features})


@torch.no_grad()
def draw_share(generator: Generator, stage: Stage, share: int, words_of: WordsOf | None) -> Tensor:
    """This rank's samples, uint8 `[share, 3, R, R]`; None draws them without words."""
    start, drawn = rank() * share, []
    for first in range(start, start + share, BATCH_SIZE):
        count = min(BATCH_SIZE, start + share - first)
        words = None if words_of is None else words_of(first, count)
        z = latents(SEED, first, count, generator.z_dim)
        drawn.append(to_uint8(generator(z, stage.resolution, stage.alpha, words=words)))
    return torch.cat(drawn)


def make_words_judge(config: RunConfig, reader: Reader | None, device: torch.device) -> WordsJudge | None:
    """The judge of a run with words; None without, or with too few crops."""
    if reader is None:
        return None
    if sum(shard.samples for shard in open_folder(config.data).manifest().shards_of()) < 2 * FEWEST:
        return None
    return WordsJudge(Path(config.data), config.saving.evaluate_count, config.generator.img_resolution, reader, device)
