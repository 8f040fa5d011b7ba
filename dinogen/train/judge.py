"""Judging a run while it trains, by the functions of `dinogen evaluate`, with the work shared by all ranks."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dinogen.config import RunConfig
from dinogen.data.folder import open_folder
from dinogen.data.loader import load_crops
from dinogen.distributed import gather_rows, rank, world_size
from dinogen.evaluate.detector import Detector
from dinogen.evaluate.judge import ImageSet, Judges, figures, images_a_set, reduce_to
from dinogen.images import to_float
from dinogen.networks import Generator
from dinogen.pyramid import Pyramid
from dinogen.reader import Reader
from dinogen.sample import BATCH_SIZE
from dinogen.schedule import Stage
from dinogen.train.words_judge import WordsJudge, draw_share, make_words_judge

TEACHER = "teacher"  # ends the names of figures on what the teacher sees


class RunJudge:
    """Judges samples of a generator. All ranks make the same calls; each looks at its share of the images.

    Args:
        data: the shards of training, whose crops are compared with.
        count: samples; fewer where there are not twice as many crops, or the ranks could not take equal shares.
        resolution: of the finished images.
        look: the teacher, in the precision of training; a collective where it is sharded.
        device: where all of it computes.
        words: judges words as well, and says with which captions samples are drawn; None in a run without text.

    Raises:
        DinogenError: too few crops.
    """

    def __init__(
        self,
        data: Path,
        count: int,
        resolution: int,
        look: Callable[[Tensor], Pyramid],
        device: torch.device,
        words: WordsJudge | None = None,
    ):
        self.look, self.words = look, words
        self.device = device
        self.judges = Judges(Detector(device))
        # Checking whole shards would take minutes on big data; the loader does check what it reads.
        crop_size = open_folder(data).manifest().crop_size
        self.crops = load_crops(data, 2 * count, min(resolution, crop_size), verify="size")
        n = images_a_set(count, len(self.crops))
        self.share = max(1, n // world_size())
        self.reals: dict[int, tuple[ImageSet, ImageSet]] = {}

    def measure(self, generator: Generator, stage: Stage) -> dict[str, Any]:
        """A report as of `dinogen evaluate`, with fewer figures."""
        reference, others = self.reals_at(stage.resolution)
        words_of = self.words.words_of if self.words else None
        ours = self.seen(draw_share(generator, stage, self.share, words_of), faces=True)
        count = len(ours.pixels)
        report = {
            **figures(ours, reference),
            "real_against_real": figures(others, reference),
            "counts": {"samples": count, "compared_images_a_set": count},
        }
        words = self.words.figures(ours, stage.resolution) if self.words else {}
        return report | ({"words": words} if words else {})

    def reals_at(self, resolution: int) -> tuple[ImageSet, ImageSet]:
        """The reference, and as many other reals; looked at once for each resolution."""
        if resolution not in self.reals:
            shares = self.crops[: 2 * self.share * world_size()].split(self.share)
            reference, others = (reduce_to(shares[half * world_size() + rank()], resolution) for half in range(2))
            self.reals = {resolution: (self.seen(reference, faces=False), self.seen(others, faces=True))}
        return self.reals[resolution]

    def seen(self, images: Tensor, faces: bool) -> ImageSet:
        """What judges and teacher make of all ranks' images; each brings its share."""
        own = self.judges.look_at(images)
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
        batches = images.split(BATCH_SIZE)
        return torch.cat([self.look(to_float(some.to(self.device)))["cls"].double().cpu() for some in batches])

    def gathered(self, rows: Tensor) -> Tensor:
        """All ranks' rows, on the CPU."""
        return gather_rows(rows.to(self.device)).cpu()


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
    words = make_words_judge(config, reader, device)
    return RunJudge(Path(config.data), count, resolution, look, device, words)
