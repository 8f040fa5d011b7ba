"""Judging a run while it trains, by the functions of `dinogen evaluate`."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dinogen.config import RunConfig
from dinogen.evaluate.judge import figures
from dinogen.networks import Generator
from dinogen.pyramid import Pyramid
from dinogen.reader import Reader
from dinogen.schedule import Stage
from dinogen.train.jury import TEACHER, Jury
from dinogen.train.words_judge import WordsJudge


class RunJudge:
    """Judges samples of a generator. All ranks make the same calls.

    Args:
        jury: draws them, and looks at them.
        words: judges words as well, and says with which captions samples are drawn; None in a run without text.
    """

    def __init__(self, jury: Jury, words: WordsJudge | None = None):
        self.jury, self.words = jury, words

    def measure(self, generator: Generator, stage: Stage) -> dict[str, Any]:
        """A report as of `dinogen evaluate`, with fewer figures."""
        reference, others = self.jury.reals_at(stage.resolution)
        drawn = self.jury.draw(generator, stage, self.words.words_of if self.words else None)
        ours = self.jury.seen(drawn, teacher=True, faces=True)
        count = len(ours.pixels)
        report = {
            **figures(ours, reference),
            "real_against_real": figures(others, reference),
            "counts": {"samples": count, "compared_images_a_set": count},
        }
        words = self.words.figures(ours, stage.resolution) if self.words else {}
        return report | ({"words": words} if words else {})


def scalars_of(report: Mapping[str, Any]) -> dict[str, float]:
    """A report's figures for trackers, those on words with the others.

    `metrics/*` is the generator's, `metrics_real/*` that of other real images in its place. Distances in what the
    teacher sees stand apart, under `metrics_training_signal/*`: the generator is trained on that.
    """
    scalars = {}
    for group, found in (("metrics", report), ("metrics_real", report["real_against_real"])):
        for name, value in found.items():
            if isinstance(value, float):
                apart = "_training_signal" if name.endswith(f"_{TEACHER}") else ""
                scalars[f"{group}{apart}/{name}"] = value
    return scalars | (scalars_of(report["words"]) if "words" in report else {})


def make_judge(
    config: RunConfig,
    look: Callable[[Tensor], Pyramid],
    device: torch.device,
    reader: Reader | None,
) -> RunJudge | None:
    """The judge that `saving.evaluate_kimg` asks for."""
    if config.saving.evaluate_kimg is None:
        return None
    count, resolution = config.saving.evaluate_count, config.generator.img_resolution
    jury = Jury(Path(config.data), count, resolution, device, look)
    return RunJudge(jury, None if reader is None else WordsJudge(jury, reader))
