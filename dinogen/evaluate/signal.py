"""What the teacher says. The generator was trained on exactly this, so it is not an independent judge."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dinogen.data.folder import open_folder
from dinogen.errors import DinogenError
from dinogen.evaluate import metrics
from dinogen.evaluate.bootstrap import frechet_interval, median_interval
from dinogen.evaluate.nearest import Nearest, neighbours
from dinogen.evaluate.reference import is_shards
from dinogen.images import to_float
from dinogen.objectives.sinkhorn import SinkhornDrift
from dinogen.progress import progress_bar
from dinogen.pyramid import Pyramid
from dinogen.teachers import Teacher, all_stages, make_teacher, teacher_of

BATCH_SIZE = 32
LARGEST = 1024  # resolution that a generator can have
DRIFT_IMAGES = 64  # a set: about a batch of training, and big teachers' pyramids fit into memory

NOTE = "the generator was trained on this teacher's features: these figures show how far it got, not how good it is"


def find_teacher(name: str, data: str | Path, device: torch.device | str = "cpu") -> Teacher | None:
    """The teacher whose view is reported.

    Args:
        name: `none`; `auto` for the one that the data were packed with, None where these are a folder of crops or
            that teacher is out of reach; or a copy's folder. For crops a name as in `make_teacher`.
        data: the real images.
        device: where it shall lie.

    Raises:
        UsageError, DinogenError: a teacher that was asked for is not there, or is not the one that packed the shards.
    """
    if name == "none" or name == "auto" and not is_shards(data):
        return None
    if not is_shards(data):
        return make_teacher(name, all_stages(LARGEST)).to(device)
    try:
        path = None if name == "auto" else name
        return teacher_of(open_folder(data).manifest().specs, path, flag="--teacher").to(device)
    except DinogenError as error:
        if name != "auto":
            raise
        print(f"The report goes without the training signal: {error}", file=sys.stderr)
        return None


def training_signal(
    samples: Tensor, reference: Tensor, others: Tensor, teacher: Teacher
) -> tuple[dict[str, Any], Nearest]:
    """Distances in what the teacher sees, for the samples and for other real images in their place.

    Args:
        samples, reference, others: uint8 `[n, 3, R, R]`, equally many of each; samples, reals, and other reals.
        teacher: on any device.

    Returns:
        `frechet_teacher` (on the class token, FD-DINOv2 of arXiv 2306.04675), `kernel_teacher`, `nearest_real_teacher`,
        `displacement` and `spread` by map (see `SinkhornDrift`), `intervals`, the same under `real_against_real`, and
        what was measured: plain values for JSON. And the real nearest to each sample, a row of reference and others.
    """
    with progress_bar(3 * len(samples), "asking the teacher") as bar:
        ours, real, other = (look(images, teacher, bar.update) for images in (samples, reference, others))
    near = neighbours(ours[0], torch.cat([real[0], other[0]]), len(reference), 2 * len(reference))
    signal = {
        "note": NOTE,
        "teacher": teacher.specs.finest.describe_teacher(),
        "drift_images_a_set": min(len(samples), DRIFT_IMAGES),
        **teacher_figures(ours, real, near.ours),
        "real_against_real": teacher_figures(other, real, near.others),
    }
    return signal, near.ours


@torch.no_grad()
def look(images: Tensor, teacher: Teacher, seen: Any = lambda count: None) -> tuple[Tensor, Pyramid]:
    """Class tokens of all images, float64 `[n, C]` on the CPU, and whole pyramids of the first `DRIFT_IMAGES`.

    Args:
        images: uint8 `[n, 3, R, R]`.
        teacher: on any device; where it is sharded, all ranks must bring equally many images.
        seen: called with the number of images after each batch.
    """
    tokens: list[Tensor] = []
    pyramids: list[Pyramid] = []
    for batch in images.split(BATCH_SIZE):
        pyramid = teacher(to_float(batch.to(teacher.device)))
        tokens.append(pyramid["cls"].double().cpu())
        if sum(len(some["cls"]) for some in pyramids) < DRIFT_IMAGES:
            pyramids.append(pyramid)
        seen(len(batch))
    joined = {name: torch.cat([some[name] for some in pyramids])[:DRIFT_IMAGES] for name in pyramids[0]}
    return torch.cat(tokens), joined


def teacher_figures(ours: tuple[Tensor, Pyramid], reference: tuple[Tensor, Pyramid], near: Nearest) -> dict[str, Any]:
    """All figures of one set beside a reference; each is given as of `look`."""
    (tokens, pyramid), (real_tokens, real_pyramid) = ours, reference
    distance = metrics.frechet_distance(tokens, real_tokens)
    drift = SinkhornDrift()(pyramid, real_pyramid).statistics
    return {
        "frechet_teacher": distance,
        "kernel_teacher": metrics.kernel_distance(tokens, real_tokens),
        "nearest_real_teacher": near.distance.median().item(),
        "displacement": by_map(drift, "displacement/"),
        "spread": by_map(drift, "spread/"),
        "intervals": {
            "frechet_teacher": frechet_interval(tokens, real_tokens, distance),
            "nearest_real_teacher": median_interval(near.distance),
        },
    }


def by_map(statistics: Mapping[str, Tensor], group: str) -> dict[str, float]:
    """The statistics of one group, by map."""
    return {name.removeprefix(group): value.item() for name, value in statistics.items() if name.startswith(group)}
