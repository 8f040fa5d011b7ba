"""The real images that samples are compared with."""

import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import yaml
from PIL import Image
from torch import Tensor

from dinogen.advice import no_folder
from dinogen.data.folder import is_address
from dinogen.data.loader import load_captioned_crops
from dinogen.data.manifest import MANIFEST_NAME
from dinogen.errors import DinogenError, UsageError
from dinogen.files import is_hidden
from dinogen.opening import run_of
from dinogen.progress import progress
from dinogen.upright import upright_rgb

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp"}


def data_of(models: Sequence[str]) -> str:
    """What some runs were trained on, by their `config.yaml`.

    Args:
        models: runs, or snapshots in runs.

    Raises:
        UsageError: a model is not in a run, its configuration does not name data, or they name different ones.
    """
    found = {model: _data_of_run(model) for model in models}
    for model, data in found.items():
        if data is None:
            raise UsageError(f"{model}: its data are not known; pass --data with shards or a folder of face crops")
    if len(set(found.values())) > 1:
        raise UsageError(
            f"these runs have different data ({', '.join(map(str, set(found.values())))}); choose by --data"
        )
    return str(next(iter(found.values())))


def _data_of_run(model: str) -> str | None:
    run = run_of(model)
    try:
        config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8")) if run else None
    except (OSError, ValueError, yaml.YAMLError):
        return None
    data = config.get("data") if isinstance(config, dict) else None
    return data if isinstance(data, str) else None


def is_shards(source: str | Path) -> bool:
    """Whether real images come as shards: in a folder, or at an address."""
    return is_address(source) or (Path(source) / MANIFEST_NAME).is_file()


@dataclass(frozen=True)
class Reals:
    """Real images, in random order.

    Args:
        images: uint8 `[n, 3, R, R]`.
        captions: all captions of each; none where they are not known.
    """

    images: Tensor
    captions: Sequence[tuple[str, ...]]

    def texts(self) -> list[str | None]:
        """One caption of each, drawn, the same ones each time; None where there are none."""
        rng = random.Random(0)
        return [rng.choice(its) if its else None for its in self.captions]


def load_reference(source: str | Path, count: int, resolution: int) -> Reals:
    """Read up to `count` real images, averaged down to the resolution of the samples, as the trainer does it.

    Args:
        source: a folder of shards or their address, or a folder of face crops, which is searched with its subfolders;
            hidden files and folders are skipped.
        count: how many at most; a folder with more gives a fixed random choice.
        resolution: side R to bring them to.

    Returns:
        The images; those of shards with captions.

    Raises:
        UsageError: no such folder, nothing in it, or images that are not square, so not face crops.
        DinogenError: a file that cannot be read as an image.
    """
    if is_shards(source):
        crops, captions = load_captioned_crops(source, count, resolution)
        order = torch.randperm(len(crops), generator=torch.Generator().manual_seed(0))
        return Reals(crops[order], [captions[place] for place in order.tolist()])
    folder = Path(source)
    if not folder.is_dir():
        raise UsageError(no_folder(source, "--data takes a folder of shards or of face crops"))
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES and not is_hidden(path.relative_to(folder))
    )
    if not files:
        raise UsageError(f"{source}: neither {MANIFEST_NAME} nor images here; --data takes shards or face crops")
    random.Random(0).shuffle(files)
    chosen = files[:count]
    with ThreadPoolExecutor() as threads:
        read = threads.map(lambda path: _read(path, resolution), chosen)
        images = list(progress(read, len(chosen), "reading real images"))
    if photos := [path for path, image in zip(chosen, images) if image is None]:
        raise UsageError(
            f"{source}: {len(photos)} of {len(chosen)} images are not square, such as {photos[0].name}. Photos do not "
            f"compare with crops: run dinogen crop --input {source} --output data/crops, then pass --data data/crops"
        )
    return Reals(torch.cat([image for image in images if image is not None]), [()] * len(images))


def _read(path: Path, resolution: int) -> Tensor | None:
    """An image as `[1, 3, R, R]`; None where it is not square."""
    try:
        with Image.open(path) as image:
            upright = upright_rgb(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DinogenError(f"{path}: cannot be read as an image ({error}); remove or replace it") from error
    if upright.width != upright.height:
        return None
    resampling = Image.Resampling.BOX if upright.width >= resolution else Image.Resampling.BICUBIC
    square = upright.resize((resolution, resolution), resampling)
    return torch.from_numpy(np.array(square)).permute(2, 0, 1)[None]
