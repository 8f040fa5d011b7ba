"""What is in these shards, at a glance: a summary in words and a picture of crops with their pyramids."""

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

from dinogen.data.folder import LocalFolder, RemoteFolder
from dinogen.data.manifest import Manifest
from dinogen.data.order import LoaderState, SampleOrder
from dinogen.data.store import Batch, SampleStore

TILE = 128  # pixels along one side of a crop or map in the picture
GAP = 4
HEADING = 18  # pixels above the picture for the names of its columns


def summary(manifest: Manifest) -> str:
    """Counts, teacher, tensors and sizes in a few lines."""
    size = sum(shard.bytes for shard in manifest.shards)
    splits = ", ".join(f"{count} {split}" for split, count in manifest.splits.items())
    maps = [f"{name} {'×'.join(map(str, shape))}" for name, shape in manifest.spec.stored_shapes().items()]
    return "\n".join(
        [
            f"samples   {manifest.samples} ({splits}), crops of {manifest.crop_size}×{manifest.crop_size} pixels",
            f"shards    {len(manifest.shards)}, {size / 1e6:.1f} MB, {size / manifest.samples / 1e3:.1f} kB a sample",
            f"teacher   {manifest.spec.describe()}",
            f"stored    {', '.join(maps)} (fp16)",
        ]
    )


def picture(
    folder: LocalFolder | RemoteFolder, manifest: Manifest, split: str, count: int = 8, seed: int = 0
) -> Image.Image:
    """A row for each of some random samples: the crop, then each stored map.

    Above each column stands its name. A map of embeddings is shown by its three strongest principal components over
    all samples of the picture, as red, green and blue; colour maps by their means.
    """
    store = SampleStore(folder, manifest, split)
    order = SampleOrder(store.counts, seed, window_shards=len(store.shards))
    batch = store.read(next(order.batches(LoaderState(), min(count, len(store)))), TILE, pyramid=True)
    columns = {"crop": batch.images, **_maps(batch)}
    grid = torch.stack([F.pad(column, (0, GAP, 0, GAP), value=255) for column in columns.values()], dim=1)
    rows = grid.permute(0, 3, 1, 4, 2).flatten(0, 1).flatten(1, 2)  # [N·height, columns·width, 3]
    page = Image.new("RGB", (rows.shape[1] - GAP, rows.shape[0] - GAP + HEADING), "white")
    page.paste(Image.fromarray(np.ascontiguousarray(rows[:-GAP, :-GAP].numpy())), (0, HEADING))
    for number, name in enumerate(columns):
        ImageDraw.Draw(page).text((number * (TILE + GAP) + 2, 3), name, "black")
    return page


def _maps(batch: Batch) -> dict[str, Tensor]:
    """uint8 `[N, 3, TILE, TILE]` for each map of the pyramid, by its name."""
    shown = {}
    for name, maps in batch.pyramid.items():
        if maps.ndim == 4:
            colours = (maps[:, :3].float() + 1) / 2 if name.startswith("rgb") else principal_colours(maps.float())
            shown[name] = F.interpolate((colours.clamp(0, 1) * 255).byte(), size=(TILE, TILE), mode="nearest")
    return shown


def principal_colours(maps: Tensor) -> Tensor:
    """The three strongest principal components of `[N, C, g, g]` over all cells, as `[N, 3, g, g]` within 0 to 1."""
    cells = maps.permute(0, 2, 3, 1).flatten(0, 2)
    cells = cells - cells.mean(dim=0)
    _, directions = torch.linalg.eigh(cells.T @ cells)
    components = cells @ directions[:, -3:].flip(1)
    scaled = 0.5 + components / (4 * components.std(dim=0) + 1e-6)  # two standard deviations each way
    return scaled.unflatten(0, (maps.shape[0], *maps.shape[2:])).permute(0, 3, 1, 2)
