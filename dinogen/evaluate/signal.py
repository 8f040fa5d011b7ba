"""What the teacher says. The generator was trained on exactly this, so it is no independent judge."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dinogen.data.manifest import MANIFEST_NAME, read_manifest
from dinogen.errors import DinogenError
from dinogen.evaluate import metrics
from dinogen.evaluate.bootstrap import frechet_interval
from dinogen.images import to_float
from dinogen.objectives.sinkhorn import SinkhornDrift
from dinogen.progress import progress_bar
from dinogen.pyramid import Pyramid
from dinogen.teachers import Teacher, make_teacher, teacher_of

BATCH_SIZE = 32
DRIFT_IMAGES = 64  # a set: about a batch of training, and big teachers' pyramids fit into memory

NOTE = "the generator was trained on this teacher's features: these figures show how far it got, not how good it is"


def find_teacher(name: str, reference: Path, device: torch.device | str = "cpu") -> Teacher | None:
    """The teacher whose view is reported.

    Args:
        name: `none`; `auto` for the one that the reference was packed with, None where the reference is a folder of
            crops or that teacher is out of reach; or a copy's folder. For crops a name as in `make_teacher`.
        reference: the real images.
        device: where it shall lie.

    Raises:
        UsageError, DinogenError: a teacher that was asked for is not there, or is not the one that packed the shards.
    """
    packed = (reference / MANIFEST_NAME).is_file()
    if name == "none" or name == "auto" and not packed:
        return None
    if not packed:
        return make_teacher(name).to(device)
    try:
        path = None if name == "auto" else name
        return teacher_of(read_manifest(reference).spec, path, flag="--teacher").to(device)
    except DinogenError as error:
        if name != "auto":
            raise
        print(f"The report goes without the training signal: {error}", file=sys.stderr)
        return None


def training_signal(samples: Tensor, reference: Tensor, others: Tensor, teacher: Teacher) -> dict[str, Any]:
    """Distances in what the teacher sees, for the samples and for other real images in their place.

    Args:
        samples, reference, others: uint8 `[n, 3, R, R]`, equally many of each; samples, reals, and other reals.
        teacher: on any device.

    Returns:
        `frechet_dinov2` (on the class token, FD-DINOv2 of arXiv 2306.04675) with its interval, `kernel_dinov2`,
        `displacement` and `spread` by map (see `SinkhornDrift`), the same under `real_against_real`, and what was
        measured: plain values for JSON.
    """
    with progress_bar(3 * len(samples), "asking the teacher") as bar:
        seen = {}
        for name, images in {"samples": samples, "reference": reference, "others": others}.items():
            seen[name] = look(images, teacher, bar.update)
    return {
        "note": NOTE,
        "teacher": teacher.spec.describe(),
        "drift_images_a_set": min(len(samples), DRIFT_IMAGES),
        **teacher_figures(*seen["samples"], *seen["reference"]),
        "real_against_real": teacher_figures(*seen["others"], *seen["reference"]),
    }


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


def teacher_figures(tokens: Tensor, pyramid: Pyramid, real_tokens: Tensor, real_pyramid: Pyramid) -> dict[str, Any]:
    """All figures of one set beside a reference."""
    distance = metrics.frechet_distance(tokens, real_tokens)
    drift = SinkhornDrift()(pyramid, real_pyramid).statistics
    return {
        "frechet_dinov2": distance,
        "frechet_dinov2_interval": frechet_interval(tokens, real_tokens, distance),
        "kernel_dinov2": metrics.kernel_distance(tokens, real_tokens),
        "displacement": by_map(drift, "displacement/"),
        "spread": by_map(drift, "spread/"),
    }


def by_map(statistics: Mapping[str, Tensor], group: str) -> dict[str, float]:
    """The statistics of one group, by map."""
    return {name.removeprefix(group): value.item() for name, value in statistics.items() if name.startswith(group)}
