"""Whether words steer a run's generator yet, at each snapshot: R-precision as of `dinogen evaluate`."""

from pathlib import Path
from typing import Any

import torch

from dinogen.config import RunConfig
from dinogen.data.folder import open_folder
from dinogen.evaluate.captions import CaptionJudge
from dinogen.evaluate.judge import FEWEST, ImageSet
from dinogen.evaluate.words import texts_of_samples
from dinogen.networks import Generator
from dinogen.reader import Reader
from dinogen.schedule import Stage
from dinogen.train.jury import Jury


class WordsJudge:
    """Judges samples that are drawn with captions of real images. All ranks make the same calls.

    Args:
        jury: draws them, and looks at them.
        reader: of the captions; it is fitted before anything is measured.
    """

    def __init__(self, jury: Jury, reader: Reader):
        self.jury = jury
        self.texts = texts_of_samples(jury.reals.texts(), jury.count, jury.count)
        self.words_of = reader.in_turn(self.texts)
        self.fitted: dict[int, CaptionJudge | None] = {}

    def measure(self, generator: Generator, stage: Stage) -> dict[str, Any]:
        """`r_precision` and `caption_rank`, with `real_against_real`; nothing where the captions are too few."""
        samples = self.jury.seen(self.jury.draw(generator, stage, self.words_of))
        return self.figures(samples, stage.resolution)

    def figures(self, samples: ImageSet, resolution: int) -> dict[str, Any]:
        """`measure` for all ranks' samples, drawn with `words_of`."""
        if (judge := self.judge_at(resolution)) is None or not any(self.texts):
            return {}
        count = self.jury.count
        ours, _ = judge.figures(samples, self.texts)
        real, _ = judge.judged(judge.reals[count : 2 * count], self.texts)
        return ours | {"real_against_real": real}

    def judge_at(self, resolution: int) -> CaptionJudge | None:
        """Fitted to real images of a resolution, once for each; None where too few have captions."""
        if resolution not in self.fitted:
            reference, others = self.jury.reals_at(resolution)
            captions = self.jury.reals.captions[: 2 * self.jury.count]
            self.fitted = {resolution: CaptionJudge.fit(reference.joined(others), captions)}
        return self.fitted[resolution]


def make_words_judge(config: RunConfig, reader: Reader | None, device: torch.device) -> WordsJudge | None:
    """The judge of a run with words that is not judged otherwise; None without, or with too few crops."""
    if reader is None:
        return None
    if sum(shard.samples for shard in open_folder(config.data).manifest().shards_of()) < 2 * FEWEST:
        return None
    jury = Jury(Path(config.data), config.saving.evaluate_count, config.generator.img_resolution, device)
    return WordsJudge(jury, reader)
