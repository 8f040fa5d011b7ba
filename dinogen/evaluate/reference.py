"""The real images that samples are compared with."""

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from dinogen.data.manifest import MANIFEST_NAME
from dinogen.errors import DinogenError, UsageError
from dinogen.progress import progress

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp"}


def load_reference(source: Path, count: int, resolution: int) -> Tensor:
    """Read up to `count` real images, averaged down to the resolution of the samples, as the trainer does it.

    Args:
        source: a folder of shards, or a folder of images, searched with its subfolders; their central squares count.
        count: how many at most; a folder with more gives a fixed random choice.
        resolution: side R to bring them to.

    Returns:
        uint8 `[n, 3, R, R]`, in random order.

    Raises:
        UsageError: no such folder, or nothing in it.
        DinogenError: a file that cannot be read as an image.
    """
    source = Path(source)
    if (source / MANIFEST_NAME).is_file():
        from dinogen.data.loader import load_crops

        images = load_crops(source, count, resolution)
        return images[torch.randperm(len(images), generator=torch.Generator().manual_seed(0))]
    if not source.is_dir():
        raise UsageError(f"{source}: no such folder; --reference takes a folder of shards or of face crops")
    files = sorted(path for path in source.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not files:
        raise UsageError(f"{source}: neither {MANIFEST_NAME} nor images here; --reference takes shards or face crops")
    random.Random(0).shuffle(files)
    chosen = files[:count]
    with ThreadPoolExecutor() as threads:
        read = threads.map(lambda path: _read(path, resolution), chosen)
        return torch.cat(list(progress(read, len(chosen), "reading real images")))


def _read(path: Path, resolution: int) -> Tensor:
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DinogenError(f"{path}: cannot be read as an image ({error}); remove or replace it") from error
    side = min(upright.size)
    resampling = Image.Resampling.BOX if side >= resolution else Image.Resampling.BICUBIC
    square = ImageOps.fit(upright, (resolution, resolution), resampling)
    return torch.from_numpy(np.array(square)).permute(2, 0, 1)[None]
